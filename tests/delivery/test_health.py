"""What counts as available, as tables: bodies as an API server returns them, one small change at a time."""

import copy
from collections.abc import Mapping
from typing import Any

import pytest

from reconciler.delivery.health import Health, health

AVAILABLE = Health(available=True, final=False, message="")
UNSEEN = "its controller has not yet seen the newest change"


def waits(message: str) -> Health:
    return Health(available=False, final=False, message=message)


def ends(message: str) -> Health:
    return Health(available=False, final=True, message=message)


def changed(body: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """The body with changes at paths; `__` is the dot of a path, None removes what is there."""
    result = copy.deepcopy(dict(body))
    for path, value in changes.items():
        *parents, name = path.split("__")
        place = result
        for parent in parents:
            place = place.setdefault(parent, {})
        if value is None:
            place.pop(name, None)
        else:
            place[name] = value
    return result


def condition(name: str, status: str, reason: str = "", message: str = "") -> dict[str, Any]:
    moment = "2026-03-01T10:00:00Z"
    return {"type": name, "status": status, "reason": reason, "message": message, "lastTransitionTime": moment}


def one(api_version: str, kind: str, **parts: Any) -> dict[str, Any]:
    metadata = {
        "name": "web",
        "namespace": "shop",
        "uid": "0c7f1f0e-4a55-4a58-9f0e-0d2f9f6b3a51",
        "resourceVersion": "4711",
        "generation": 2,
        "creationTimestamp": "2026-03-01T09:59:00Z",
    }
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **parts}


# -- Deployment

DEPLOYMENT = one(
    "apps/v1",
    "Deployment",
    spec={"replicas": 3, "strategy": {"type": "RollingUpdate"}, "progressDeadlineSeconds": 600},
    status={
        "observedGeneration": 2,
        "replicas": 3,
        "updatedReplicas": 3,
        "readyReplicas": 3,
        "availableReplicas": 3,
        "conditions": [
            condition("Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability."),
            condition("Progressing", "True", "NewReplicaSetAvailable", 'ReplicaSet "web-5d" has progressed.'),
        ],
    },
)
NO_PODS = condition("ReplicaFailure", "True", "FailedCreate", 'pods "web-" is forbidden: exceeded quota: pods')
LATE = [condition("Progressing", "False", "ProgressDeadlineExceeded", 'ReplicaSet "web-5d" has timed out progressing.')]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, AVAILABLE, id="all replicas updated and available"),
        pytest.param({"status": None}, waits(UNSEEN), id="just made, no status"),
        pytest.param({"status": {}}, waits(UNSEEN), id="just made, empty status"),
        pytest.param({"status__observedGeneration": 1}, waits(UNSEEN), id="an older generation observed"),
        pytest.param(
            {"status__availableReplicas": 1, "status__unavailableReplicas": 2},
            waits("1 of 3 replicas available"),
            id="some available",
        ),
        pytest.param(
            {"status__availableReplicas": None, "status__unavailableReplicas": 3},
            waits("0 of 3 replicas available"),
            id="none available: the field is left out",
        ),
        pytest.param({"status__updatedReplicas": 2}, waits("2 of 3 replicas updated"), id="half way through an update"),
        pytest.param(
            {"status__replicas": 4, "status__availableReplicas": 4},
            waits("1 surplus replica not removed yet"),
            id="surge: an old replica is still there",
        ),
        pytest.param(
            {"status__replicas": 4, "status__unavailableReplicas": 1},
            waits("1 replica unavailable"),
            id="surge: the old replica is there but not available",
        ),
        pytest.param(
            {"spec__replicas": 1, "status__updatedReplicas": 3, "status__availableReplicas": 3},
            waits("2 surplus replicas not removed yet"),
            id="scaled down, pods not removed",
        ),
        pytest.param(
            {
                "spec__replicas": 0,
                "status": {"observedGeneration": 2, "conditions": DEPLOYMENT["status"]["conditions"]},
            },
            AVAILABLE,
            id="zero replicas wanted, none there",
        ),
        pytest.param(
            {
                "spec__replicas": None,
                "status__replicas": 1,
                "status__updatedReplicas": 1,
                "status__availableReplicas": 1,
            },
            AVAILABLE,
            id="replicas left out: one is wanted",
        ),
        pytest.param(
            {"spec__paused": True, "status__updatedReplicas": None},
            waits("0 of 3 replicas updated; the Deployment is paused"),
            id="paused before the update",
        ),
        pytest.param({"spec__paused": True}, AVAILABLE, id="paused with nothing to update"),
        pytest.param(
            {"status__updatedReplicas": 1, "status__conditions": LATE},
            waits('1 of 3 replicas updated: ReplicaSet "web-5d" has timed out progressing.'),
            id="over its progress deadline: it goes on trying",
        ),
        pytest.param(
            {"status__updatedReplicas": None, "status__conditions": [*LATE, NO_PODS]},
            waits('0 of 3 replicas updated: pods "web-" is forbidden: exceeded quota: pods'),
            id="it cannot make pods, which is why it is late",
        ),
        pytest.param(
            {"metadata__deletionTimestamp": "2026-03-01T10:05:00Z"}, waits("is being deleted"), id="being deleted"
        ),
    ],
)
def test_a_deployment_is_available_when_every_wanted_replica_is_new_and_available(changes, expected):
    assert health(changed(DEPLOYMENT, **changes)) == expected


# -- StatefulSet

STATEFUL_SET = one(
    "apps/v1",
    "StatefulSet",
    spec={"replicas": 3, "serviceName": "web", "updateStrategy": {"type": "RollingUpdate"}},
    status={
        "observedGeneration": 2,
        "replicas": 3,
        "readyReplicas": 3,
        "availableReplicas": 3,
        "currentReplicas": 3,
        "updatedReplicas": 3,
        "currentRevision": "web-7c",
        "updateRevision": "web-7c",
        "collisionCount": 0,
    },
)
UPDATING = {"status__currentReplicas": 2, "status__updatedReplicas": 1, "status__updateRevision": "web-8d"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, AVAILABLE, id="all on one revision and available"),
        pytest.param({"status": None}, waits(UNSEEN), id="just made, no status"),
        pytest.param({"status__observedGeneration": 1}, waits(UNSEEN), id="an older generation observed"),
        pytest.param({"status__availableReplicas": 2}, waits("2 of 3 replicas available"), id="one not available"),
        pytest.param(UPDATING, waits("1 of 3 replicas on the newest revision"), id="half way through an update"),
        pytest.param(
            {"status__updateRevision": "web-8d"},
            waits("3 of 3 replicas on the newest revision"),
            id="every pod new, the revision not yet taken over",
        ),
        pytest.param(
            {**UPDATING, "spec__updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}},
            waits("1 of 3 replicas on the newest revision; the partition holds back those below 2"),
            id="held back by a partition",
        ),
        pytest.param(
            {**UPDATING, "spec__updateStrategy": {"type": "OnDelete"}},
            waits("1 of 3 replicas on the newest revision; with OnDelete each pod has to be deleted by hand"),
            id="waiting for somebody to delete the pods",
        ),
        pytest.param(
            {
                "spec__replicas": 0,
                "status": {
                    "observedGeneration": 2,
                    "replicas": 0,
                    "availableReplicas": 0,
                    "currentRevision": "web-7c",
                    "updateRevision": "web-7c",
                },
            },
            AVAILABLE,
            id="zero replicas wanted, none there",
        ),
        pytest.param(
            {"spec__replicas": 2}, waits("1 surplus replica not removed yet"), id="scaled down, a pod not removed"
        ),
    ],
)
def test_a_stateful_set_is_available_when_its_replicas_are_and_share_the_newest_revision(changes, expected):
    assert health(changed(STATEFUL_SET, **changes)) == expected


# -- DaemonSet

DAEMON_SET = one(
    "apps/v1",
    "DaemonSet",
    spec={"updateStrategy": {"type": "RollingUpdate"}},
    status={
        "observedGeneration": 2,
        "desiredNumberScheduled": 4,
        "currentNumberScheduled": 4,
        "updatedNumberScheduled": 4,
        "numberMisscheduled": 0,
        "numberReady": 4,
        "numberAvailable": 4,
    },
)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, AVAILABLE, id="updated and available on every node"),
        pytest.param({"status": None}, waits(UNSEEN), id="just made, no status"),
        pytest.param(
            {"status": {"desiredNumberScheduled": 0, "currentNumberScheduled": 0, "numberReady": 0}},
            waits(UNSEEN),
            id="zeros before the controller has looked are not yet an answer",
        ),
        pytest.param({"status__observedGeneration": 1}, waits(UNSEEN), id="an older generation observed"),
        pytest.param(
            {"status__numberAvailable": 3}, waits("3 of 4 nodes have an available pod"), id="a node without a pod"
        ),
        pytest.param(
            {"status__updatedNumberScheduled": 1}, waits("1 of 4 nodes have an updated pod"), id="half way updated"
        ),
        pytest.param(
            {"status": {"observedGeneration": 2, "desiredNumberScheduled": 0, "currentNumberScheduled": 0}},
            AVAILABLE,
            id="no node wants it",
        ),
    ],
)
def test_a_daemon_set_is_available_when_every_node_that_wants_it_has_an_updated_available_pod(changes, expected):
    assert health(changed(DAEMON_SET, **changes)) == expected


# -- ReplicaSet, Pod


def replicas(api_version: str, kind: str, *conditions: dict[str, Any]) -> dict[str, Any]:
    counts = {"replicas": 2, "fullyLabeledReplicas": 2, "readyReplicas": 2, "availableReplicas": 2}
    status = {"observedGeneration": 2, **counts, "conditions": list(conditions)}
    return one(api_version, kind, spec={"replicas": 2}, status=status)


REPLICA_SET = replicas("apps/v1", "ReplicaSet")
QUOTA = condition("ReplicaFailure", "True", "FailedCreate", 'pods "web-x" is forbidden: exceeded quota: small')


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(REPLICA_SET, AVAILABLE, id="all available"),
        pytest.param(replicas("v1", "ReplicationController"), AVAILABLE, id="a ReplicationController is the same"),
        pytest.param(changed(REPLICA_SET, status=None), waits(UNSEEN), id="just made, no status"),
        pytest.param(changed(REPLICA_SET, status__observedGeneration=1), waits(UNSEEN), id="older generation"),
        pytest.param(
            changed(REPLICA_SET, status__availableReplicas=1), waits("1 of 2 replicas available"), id="one missing"
        ),
        pytest.param(
            changed(REPLICA_SET, spec__replicas=1, status__availableReplicas=1),
            waits("1 surplus replica not removed yet"),
            id="scaled down, a pod not removed",
        ),
        pytest.param(
            replicas("apps/v1", "ReplicaSet", QUOTA),
            waits('pods "web-x" is forbidden: exceeded quota: small'),
            id="pods cannot be made",
        ),
    ],
)
def test_a_replica_set_is_available_when_exactly_its_replicas_are(body, expected):
    assert health(body) == expected


def pod(phase: str, *conditions: dict[str, Any], **status: Any) -> dict[str, Any]:
    return one("v1", "Pod", status={"phase": phase, "conditions": list(conditions), **status})


NOT_READY = condition("Ready", "False", "ContainersNotReady", "containers with unready status: [app]")
PULLING = [{"name": "app", "ready": False, "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no"}}}]
RUNNING = [{"name": "app", "ready": False, "state": {"running": {"startedAt": "2026-03-01T10:00:00Z"}}}]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(pod("Running", condition("Ready", "True")), AVAILABLE, id="ready"),
        pytest.param(pod("Succeeded", NOT_READY), AVAILABLE, id="done and successful"),
        pytest.param(one("v1", "Pod"), waits("Pending, not ready"), id="just made, no status"),
        pytest.param(
            pod("Pending", condition("PodScheduled", "False", "Unschedulable", "0/3 nodes are available")),
            waits("not scheduled: 0/3 nodes are available"),
            id="no node takes it",
        ),
        pytest.param(
            pod("Pending", condition("PodScheduled", "True"), NOT_READY, containerStatuses=PULLING),
            waits("Pending, not ready: container app is in ImagePullBackOff"),
            id="its image does not come",
        ),
        pytest.param(
            pod("Running", NOT_READY, containerStatuses=RUNNING),
            waits("Running, not ready: containers with unready status: [app]"),
            id="running, its probe fails",
        ),
        pytest.param(
            pod("Failed", NOT_READY, reason="Evicted", message="The node was low on resource: memory."),
            ends("the pod has failed: The node was low on resource: memory."),
            id="failed, for good",
        ),
    ],
)
def test_a_pod_is_available_when_it_is_ready_or_has_succeeded(body, expected):
    assert health(body) == expected


# -- Job


def job(*conditions: dict[str, Any], succeeded: int | None = None, **spec: Any) -> dict[str, Any]:
    status = {"conditions": list(conditions), "succeeded": succeeded}
    return one("batch/v1", "Job", spec={"backoffLimit": 6, **spec}, status=status)


TOO_OFTEN = condition("Failed", "True", "BackoffLimitExceeded", "Job has reached the specified backoff limit")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(job(condition("Complete", "True"), succeeded=1), AVAILABLE, id="complete"),
        pytest.param(one("batch/v1", "Job"), waits("0 of 1 completion done"), id="just made, no status"),
        pytest.param(job(completions=5, succeeded=2), waits("2 of 5 completions done"), id="some pods done"),
        pytest.param(
            job(condition("SuccessCriteriaMet", "True"), succeeded=1),
            waits("1 of 1 completion done"),
            id="its pods are still being removed",
        ),
        pytest.param(job(suspend=True), waits("the Job is suspended"), id="suspended"),
        pytest.param(
            job(TOO_OFTEN), ends("the Job has failed: Job has reached the specified backoff limit"), id="failed"
        ),
        pytest.param(
            job(condition("Failed", "True", "DeadlineExceeded")),
            ends("the Job has failed: DeadlineExceeded"),
            id="failed without a message",
        ),
        pytest.param(
            job(condition("Complete", "False"), condition("Failed", "False")),
            waits("0 of 1 completion done"),
            id="conditions that say no",
        ),
    ],
)
def test_a_job_is_available_when_it_is_complete_and_its_failure_is_final(body, expected):
    assert health(body) == expected


# -- Service, PersistentVolumeClaim


def service(kind: str | None, *points: dict[str, Any], **spec: Any) -> dict[str, Any]:
    load_balancer = {"ingress": list(points)} if points else {}
    type_of = {"type": kind} if kind else {}
    return one("v1", "Service", spec={**type_of, **spec}, status={"loadBalancer": load_balancer})


NO_ADDRESS = waits("the load balancer has no address yet")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(service("ClusterIP", clusterIP="10.0.0.7", clusterIPs=["10.0.0.7"]), AVAILABLE, id="ClusterIP"),
        pytest.param(service(None, clusterIP="10.0.0.7"), AVAILABLE, id="the type left out is ClusterIP"),
        pytest.param(service("ClusterIP", clusterIP="None", clusterIPs=["None"]), AVAILABLE, id="headless"),
        pytest.param(service("ClusterIP"), waits("no cluster IP yet"), id="no address given"),
        pytest.param(service("NodePort", clusterIP="10.0.0.8"), AVAILABLE, id="NodePort"),
        pytest.param(service("NodePort", clusterIP=""), waits("no cluster IP yet"), id="NodePort without address"),
        pytest.param(service("LoadBalancer", {"ip": "203.0.113.9"}, clusterIP="10.0.0.9"), AVAILABLE, id="an IP"),
        pytest.param(service("LoadBalancer", {"hostname": "lb.example"}), AVAILABLE, id="a host name"),
        pytest.param(service("LoadBalancer", clusterIP="10.0.0.9"), NO_ADDRESS, id="no load balancer yet"),
        pytest.param(service("LoadBalancer", {"ports": []}), NO_ADDRESS, id="a point without address"),
        pytest.param(service("ExternalName", externalName="db.example"), AVAILABLE, id="ExternalName"),
    ],
)
def test_a_service_is_available_when_it_can_be_addressed(body, expected):
    assert health(body) == expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param({"phase": "Bound", "capacity": {"storage": "1Gi"}}, AVAILABLE, id="bound"),
        pytest.param({"phase": "Lost"}, waits("the claim is Lost, not Bound"), id="lost"),
        pytest.param(
            {"phase": "Pending"},
            waits("the claim is Pending, not Bound; if its class waits for a first consumer, a pod has to use it"),
            id="pending",
        ),
    ],
)
def test_a_claim_is_available_when_it_is_bound(status, expected):
    assert health(one("v1", "PersistentVolumeClaim", spec={}, status=status)) == expected


# -- CustomResourceDefinition, APIService, PodDisruptionBudget

ACCEPTED = condition("NamesAccepted", "True", "NoConflicts", "no conflicts found")
ESTABLISHED = condition("Established", "True", "InitialNamesAccepted", "the initial names have been accepted")
CRD = ("apiextensions.k8s.io/v1", "CustomResourceDefinition")
API_SERVICE = ("apiregistration.k8s.io/v1", "APIService")


@pytest.mark.parametrize(
    ("kind", "conditions", "expected"),
    [
        pytest.param(CRD, [ACCEPTED, ESTABLISHED], AVAILABLE, id="a definition established"),
        pytest.param(CRD, [], waits("not NamesAccepted yet"), id="a definition just made"),
        pytest.param(
            CRD,
            [ACCEPTED, condition("Established", "False", "Installing", "not yet served")],
            waits("not Established yet: not yet served"),
            id="a definition being installed",
        ),
        pytest.param(
            CRD,
            [condition("NamesAccepted", "False", "KindConflict", '"Web" is already in use'), ESTABLISHED],
            waits('not NamesAccepted yet: "Web" is already in use'),
            id="a definition whose names are taken",
        ),
        pytest.param(
            API_SERVICE, [condition("Available", "True", "Passed", "all checks passed")], AVAILABLE, id="an API served"
        ),
        pytest.param(
            API_SERVICE,
            [condition("Available", "False", "MissingEndpoints", "endpoints for service/web have no addresses")],
            waits("not Available yet: endpoints for service/web have no addresses"),
            id="an API whose server is away",
        ),
    ],
)
def test_what_extends_the_api_is_available_when_it_is_served(kind, conditions, expected):
    assert health(one(*kind, status={"conditions": conditions})) == expected


def budget(allowed: int, status: str, reason: str, *, observed: int = 2) -> dict[str, Any]:
    conditions = [condition("DisruptionAllowed", status, reason)]
    counts = {"observedGeneration": observed, "disruptionsAllowed": allowed, "expectedPods": 3}
    return one("policy/v1", "PodDisruptionBudget", status={**counts, "conditions": conditions})


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(budget(1, "True", "SufficientPods"), AVAILABLE, id="disruptions allowed"),
        pytest.param(budget(0, "False", "InsufficientPods"), AVAILABLE, id="no disruption allowed: it does its work"),
        pytest.param(budget(1, "True", "SufficientPods", observed=1), waits(UNSEEN), id="older generation"),
        pytest.param(one("policy/v1", "PodDisruptionBudget"), waits(UNSEEN), id="just made, no status"),
        pytest.param(
            budget(1, "False", "InsufficientPods"),
            waits("the condition DisruptionAllowed is not up to date: InsufficientPods"),
            id="count and condition disagree",
        ),
        pytest.param(
            budget(0, "False", "SyncFailed"),
            waits("the condition DisruptionAllowed is not up to date: SyncFailed"),
            id="its controller failed",
        ),
    ],
)
def test_a_disruption_budget_is_available_when_its_condition_says_what_its_count_says(body, expected):
    assert health(body) == expected


# -- what is available at once

AT_ONCE = (
    "v1/ConfigMap v1/LimitRange v1/Namespace v1/ResourceQuota v1/Secret v1/ServiceAccount apps/v1/ControllerRevision "
    "autoscaling/v2/HorizontalPodAutoscaler batch/v1/CronJob networking.k8s.io/v1/Ingress "
    "networking.k8s.io/v1/IngressClass networking.k8s.io/v1/NetworkPolicy rbac.authorization.k8s.io/v1/ClusterRole "
    "rbac.authorization.k8s.io/v1/ClusterRoleBinding rbac.authorization.k8s.io/v1/Role "
    "rbac.authorization.k8s.io/v1/RoleBinding scheduling.k8s.io/v1/PriorityClass storage.k8s.io/v1/CSIDriver "
    "storage.k8s.io/v1/CSINode storage.k8s.io/v1/CSIStorageCapacity storage.k8s.io/v1/StorageClass"
)


@pytest.mark.parametrize("kind", AT_ONCE.split())
def test_what_nothing_has_to_run_for_is_available_at_once_until_it_is_being_deleted(kind):
    body = one(*kind.rsplit("/", 1), status={"observedGeneration": 1, "conditions": [NOT_READY]})
    assert health(body) == AVAILABLE
    assert health(changed(body, metadata__deletionTimestamp="2026-03-01T10:05:00Z")) == waits("is being deleted")


def test_an_equal_kind_of_another_group_is_no_stranger_to_conditions():
    body = one("acme.example/v1", "Secret", data={"token": "aHVudGVyMg=="}, status={"conditions": [NOT_READY]})
    assert health(body) == waits("not ready: containers with unready status: [app]")


def test_a_secret_says_nothing_of_its_values():
    body = one("v1", "Secret", data={"token": "aHVudGVyMg=="}, stringData={"token": "hunter2"})
    assert health(body).message == ""


# -- every other kind, by convention


def custom(*conditions: dict[str, Any], **status: Any) -> dict[str, Any]:
    return one("acme.example/v1", "Database", spec={}, status={**status, "conditions": list(conditions)})


READY = condition("Ready", "True", "Up", "all up")
BUSY = condition("Reconciling", "True", "Progressing", "creating volume")
STALLED = condition("Stalled", "True", "BadClass", "class gold does not exist")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(custom(READY, observedGeneration=2), AVAILABLE, id="ready"),
        pytest.param(one("acme.example/v1", "Database", spec={}), AVAILABLE, id="no status"),
        pytest.param(custom(), AVAILABLE, id="no conditions"),
        pytest.param(custom(condition("Synced", "False")), AVAILABLE, id="only conditions of its own"),
        pytest.param(custom(READY, observedGeneration=1), waits(UNSEEN), id="ready, but for an older generation"),
        pytest.param(custom(STALLED, observedGeneration=1), waits(UNSEEN), id="stalled, but for an older generation"),
        pytest.param(custom(READY, observedGeneration=3), AVAILABLE, id="a newer generation observed since"),
        pytest.param(
            custom(condition("Ready", "False", "Down", "no primary")), waits("not ready: no primary"), id="not ready"
        ),
        pytest.param(
            custom(condition("Ready", "Unknown", "Probing")), waits("not ready: Probing"), id="unknown whether ready"
        ),
        pytest.param(custom(condition("Ready", "False")), waits("not ready"), id="not ready, without a word"),
        pytest.param(custom(BUSY, READY), waits("still reconciling: creating volume"), id="reconciling"),
        pytest.param(custom(BUSY, STALLED), waits("still reconciling: creating volume"), id="stalled, trying again"),
        pytest.param(
            custom(STALLED, condition("Ready", "False", "Down", "no primary")),
            ends("stalled: class gold does not exist"),
            id="stalled",
        ),
        pytest.param(custom(condition("Stalled", "False"), condition("Reconciling", "False")), AVAILABLE, id="settled"),
    ],
)
def test_a_kind_that_is_not_known_is_read_by_the_conditions_that_controllers_share(body, expected):
    assert health(body) == expected


# -- what no good API server sends


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param({}, AVAILABLE, id="nothing at all"),
        pytest.param({"apiVersion": "acme.example/v1", "kind": "Database", "status": "Ready"}, AVAILABLE, id="a word"),
        pytest.param(changed(DEPLOYMENT, status=["Available"]), waits(UNSEEN), id="a list for a status"),
        pytest.param(changed(DEPLOYMENT, status__observedGeneration="2"), waits(UNSEEN), id="a text for a number"),
        pytest.param(custom(observedGeneration=None), waits(UNSEEN), id="a null for a number"),
        pytest.param(changed(custom(), status__conditions={"Ready": "False"}), AVAILABLE, id="a mapping of conditions"),
        pytest.param(changed(custom(), status__conditions=["Ready", STALLED["type"]]), AVAILABLE, id="words for them"),
    ],
)
def test_a_malformed_body_is_judged_all_the_same(body, expected):
    assert health(body) == expected


def test_a_members_words_become_one_safe_line():
    message = "first\nsecond \x1b[31mred\x1b[0m " + "x" * 1000
    answer = health(custom(condition("Ready", "False", "Down", message))).message
    assert answer.startswith("not ready: first second \\u001b[31mred\\u001b[0m xxx")
    assert len(answer) == 500
