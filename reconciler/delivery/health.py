"""What an object on a Kubernetes member still lacks: the answer of the API server judged, never asked for.

The workload kinds count as KubeFleet counts them; Jobs have to complete; every other kind is read by the conventions
that controllers share: `observedGeneration`, and the conditions `Ready`, `Reconciling` and `Stalled`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.redact import line


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Whether an object is available; if not, whether waiting alone will not help, and what is missing.

    `message` is one short line, empty when nothing is missing, never a Secret's value.
    """

    available: bool
    final: bool
    message: str


_AVAILABLE = Health(available=True, final=False, message="")
_UNSEEN = "its controller has not yet seen the newest change"

_AT_ONCE = frozenset(
    {
        ("", "ConfigMap"),
        ("", "LimitRange"),
        ("", "Namespace"),
        ("", "ResourceQuota"),
        ("", "Secret"),
        ("", "ServiceAccount"),
        ("apps", "ControllerRevision"),
        ("autoscaling", "HorizontalPodAutoscaler"),
        ("batch", "CronJob"),
        ("networking.k8s.io", "Ingress"),
        ("networking.k8s.io", "IngressClass"),
        ("networking.k8s.io", "NetworkPolicy"),
        ("rbac.authorization.k8s.io", "ClusterRole"),
        ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
        ("rbac.authorization.k8s.io", "Role"),
        ("rbac.authorization.k8s.io", "RoleBinding"),
        ("scheduling.k8s.io", "PriorityClass"),
        ("storage.k8s.io", "CSIDriver"),
        ("storage.k8s.io", "CSINode"),
        ("storage.k8s.io", "CSIStorageCapacity"),
        ("storage.k8s.io", "StorageClass"),
    }
)
"""Group and kind of what is available as soon as it exists."""


def health(body: Mapping[str, Any]) -> Health:
    """Judge an object as the API server returned it, all of its kind's fields included.

    Shape:   any object; a missing or malformed `status` counts as one in which nothing is reported yet.
    Raises:  nothing.
    """
    if _at(body, "metadata").get("deletionTimestamp"):
        return _waits("is being deleted")
    kind = (str(body.get("apiVersion", "")).rpartition("/")[0], str(body.get("kind", "")))
    if kind in _AT_ONCE:
        return _AVAILABLE
    return _RULES.get(kind, _by_convention)(body)


# -- workloads ----------------------------------------------------------------------------------------------------


def _deployment(body: Mapping[str, Any]) -> Health:
    status, wanted = _at(body, "status"), _replicas(body)
    updated, available = _count(status, "updatedReplicas"), _count(status, "availableReplicas")
    unavailable = _count(status, "unavailableReplicas")
    missing = (
        (_is_unseen(body), _UNSEEN),
        (updated != wanted, f"{_replicas_that_are('updated', updated, wanted)}{_paused(body)}{_trouble(body)}"),
        (available != wanted, f"{_replicas_that_are('available', available, wanted)}{_trouble(body)}"),
        (unavailable != 0, f"{_plural(unavailable, 'replica')} unavailable{_trouble(body)}"),
    )
    return _first(missing)


def _paused(body: Mapping[str, Any]) -> str:
    return "; the Deployment is paused" if _at(body, "spec").get("paused") is True else ""


def _trouble(body: Mapping[str, Any]) -> str:
    """Return the Deployment's own words where it cannot make pods, or once its progress deadline has passed.

    It goes on trying all the same.
    """
    failure, progress = _condition(body, "ReplicaFailure"), _condition(body, "Progressing")
    if failure.get("status") == "True":
        return _because(failure)
    return _because(progress) if progress.get("reason") == "ProgressDeadlineExceeded" else ""


def _stateful_set(body: Mapping[str, Any]) -> Health:
    status, wanted = _at(body, "status"), _replicas(body)
    current, updated = _count(status, "currentReplicas"), _count(status, "updatedReplicas")
    available = _count(status, "availableReplicas")
    behind = current != updated or status.get("currentRevision") != status.get("updateRevision")
    missing = (
        (_is_unseen(body), _UNSEEN),
        (available != wanted, _replicas_that_are("available", available, wanted)),
        (behind, f"{updated} of {_plural(wanted, 'replica')} on the newest revision{_held_back(body)}"),
    )
    return _first(missing)


def _held_back(body: Mapping[str, Any]) -> str:
    strategy = _at(body, "spec", "updateStrategy")
    if strategy.get("type") == "OnDelete":
        return "; with OnDelete each pod has to be deleted by hand"
    partition = _count(_at(strategy, "rollingUpdate"), "partition")
    return f"; the partition holds back those below {partition}" if partition else ""


def _daemon_set(body: Mapping[str, Any]) -> Health:
    status = _at(body, "status")
    wanted, available = _count(status, "desiredNumberScheduled"), _count(status, "numberAvailable")
    current, updated = _count(status, "currentNumberScheduled"), _count(status, "updatedNumberScheduled")
    missing = (
        (_is_unseen(body), _UNSEEN),
        (available != wanted, f"{available} of {wanted} nodes have an available pod"),
        (current != updated, f"{updated} of {current} nodes have an updated pod"),
    )
    return _first(missing)


def _replica_set(body: Mapping[str, Any]) -> Health:
    status, wanted = _at(body, "status"), _replicas(body)
    failure = _condition(body, "ReplicaFailure")
    existing, available = _count(status, "replicas"), _count(status, "availableReplicas")
    missing = (
        (_is_unseen(body), _UNSEEN),
        (failure.get("status") == "True", _words(failure)),
        (available != wanted, _replicas_that_are("available", available, wanted)),
        (existing != wanted, _replicas_that_are("made", existing, wanted)),
    )
    return _first(missing)


def _pod(body: Mapping[str, Any]) -> Health:
    status = _at(body, "status")
    phase = str(status.get("phase") or "Pending")
    if phase == "Succeeded":
        return _AVAILABLE
    if phase == "Failed":
        return _ends(f"the pod has failed{_because(status)}")
    ready = _condition(body, "Ready")
    if ready.get("status") == "True":
        return _AVAILABLE
    unscheduled = _condition(body, "PodScheduled")
    if unscheduled.get("status") == "False":
        return _waits(f"not scheduled{_because(unscheduled)}")
    return _waits(f"{phase}, not ready{_held_up(status) or _because(ready)}")


def _held_up(status: Mapping[str, Any]) -> str:
    """Return the first container that is waiting, and the word for why, such as ImagePullBackOff."""
    containers = _list(status, "initContainerStatuses") + _list(status, "containerStatuses")
    waiting = ((one.get("name"), _at(one, "state", "waiting").get("reason")) for one in containers)
    return next((f": container {name} is in {reason}" for name, reason in waiting if reason), "")


def _job(body: Mapping[str, Any]) -> Health:
    """Judge a Job: KubeFleet passes one at once, but who puts a Job into a rollout wants its end awaited."""
    if _condition(body, "Complete").get("status") == "True":
        return _AVAILABLE
    failed = _condition(body, "Failed")
    if failed.get("status") == "True":
        return _ends(f"the Job has failed{_because(failed)}")
    if _at(body, "spec").get("suspend") is True:
        return _waits("the Job is suspended")
    done, wanted = _count(_at(body, "status"), "succeeded"), _count(_at(body, "spec"), "completions", default=1)
    return _waits(f"{done} of {_plural(wanted, 'completion')} done")


# -- the rest of the named kinds ----------------------------------------------------------------------------------


def _service(body: Mapping[str, Any]) -> Health:
    spec = _at(body, "spec")
    kind = spec.get("type") or "ClusterIP"
    if kind == "LoadBalancer":
        points = _list(_at(body, "status", "loadBalancer"), "ingress")
        reached = any(point.get("ip") or point.get("hostname") for point in points)
        return _AVAILABLE if reached else _waits("the load balancer has no address yet")
    if kind in ("ClusterIP", "NodePort") and not spec.get("clusterIP"):
        return _waits("no cluster IP yet")
    return _AVAILABLE


def _claim(body: Mapping[str, Any]) -> Health:
    """Judge a PersistentVolumeClaim: only Bound is certain.

    Whether its class waits for a first consumer the claim does not tell; that consumer comes with the same content,
    as a rule, and is not waited for before the claim, so the claim is bound in the end.
    """
    phase = str(_at(body, "status").get("phase") or "Pending")
    hint = "; if its class waits for a first consumer, a pod has to use it" if phase == "Pending" else ""
    return _AVAILABLE if phase == "Bound" else _waits(f"the claim is {phase}, not Bound{hint}")


def _definition(body: Mapping[str, Any]) -> Health:
    return _first((_lacks(body, "NamesAccepted"), _lacks(body, "Established")))


def _api_service(body: Mapping[str, Any]) -> Health:
    return _first((_lacks(body, "Available"),))


def _disruption_budget(body: Mapping[str, Any]) -> Health:
    """Judge a PodDisruptionBudget: its condition has to say what its own count says."""
    allowed = _condition(body, "DisruptionAllowed")
    some = _count(_at(body, "status"), "disruptionsAllowed") > 0
    expected = ("True", "SufficientPods") if some else ("False", "InsufficientPods")
    agrees = (allowed.get("status"), allowed.get("reason")) == expected
    missing = (
        (_is_unseen(body), _UNSEEN),
        (not agrees, f"the condition DisruptionAllowed is not up to date{_because(allowed)}"),
    )
    return _first(missing)


# -- every other kind ---------------------------------------------------------------------------------------------


def _by_convention(body: Mapping[str, Any]) -> Health:
    status = _at(body, "status")
    if "observedGeneration" in status and _count(status, "observedGeneration") < _generation(body):
        return _waits(_UNSEEN)
    reconciling, stalled, ready = (_condition(body, name) for name in ("Reconciling", "Stalled", "Ready"))
    if reconciling.get("status") == "True":
        return _waits(f"still reconciling{_because(reconciling)}")
    if stalled.get("status") == "True":
        return _ends(f"stalled{_because(stalled)}")
    if ready.get("status") in ("False", "Unknown"):
        return _waits(f"not ready{_because(ready)}")
    return _AVAILABLE


_RULES: Mapping[tuple[str, str], Callable[[Mapping[str, Any]], Health]] = {
    ("", "PersistentVolumeClaim"): _claim,
    ("", "Pod"): _pod,
    ("", "ReplicationController"): _replica_set,
    ("", "Service"): _service,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _definition,
    ("apiregistration.k8s.io", "APIService"): _api_service,
    ("apps", "DaemonSet"): _daemon_set,
    ("apps", "Deployment"): _deployment,
    ("apps", "ReplicaSet"): _replica_set,
    ("apps", "StatefulSet"): _stateful_set,
    ("batch", "Job"): _job,
    ("policy", "PodDisruptionBudget"): _disruption_budget,
}


# -- answers ------------------------------------------------------------------------------------------------------


def _first(missing: tuple[tuple[bool, str], ...]) -> Health:
    """Return the first thing that is missing, else available; each pair is whether, and how to say it."""
    return next((_waits(message) for applies, message in missing if applies), _AVAILABLE)


def _lacks(body: Mapping[str, Any], name: str) -> tuple[bool, str]:
    condition = _condition(body, name)
    return condition.get("status") != "True", f"not {name} yet{_because(condition)}"


def _waits(message: str) -> Health:
    return Health(available=False, final=False, message=line(message))


def _ends(message: str) -> Health:
    return Health(available=False, final=True, message=line(message))


def _because(condition: Mapping[str, Any]) -> str:
    words = _words(condition)
    return f": {words}" if words else ""


def _words(condition: Mapping[str, Any]) -> str:
    """Return the controller's own words, or at least its reason."""
    return str(condition.get("message") or condition.get("reason") or "").strip()


def _replicas_that_are(what: str, have: int, wanted: int) -> str:
    """Return what is missing, or, as during a surge, what is too much."""
    if have > wanted:
        return f"{_plural(have - wanted, 'surplus replica')} not removed yet"
    return f"{have} of {_plural(wanted, 'replica')} {what}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


# -- reading a body that nobody has checked -----------------------------------------------------------------------


def _at(body: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """Return the mapping at the path, an empty one if there is none."""
    for name in path:
        value = body.get(name)
        body = value if isinstance(value, Mapping) else {}
    return body


def _list(body: Mapping[str, Any], name: str) -> tuple[Mapping[str, Any], ...]:
    value = body.get(name)
    return tuple(one for one in value if isinstance(one, Mapping)) if isinstance(value, list | tuple) else ()


def _count(body: Mapping[str, Any], name: str, *, default: int = 0) -> int:
    value = body.get(name)
    return value if isinstance(value, int) else default


def _condition(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    conditions = _list(_at(body, "status"), "conditions")
    return next((one for one in conditions if one.get("type") == name), {})


def _replicas(body: Mapping[str, Any]) -> int:
    return _count(_at(body, "spec"), "replicas", default=1)


def _generation(body: Mapping[str, Any]) -> int:
    return _count(_at(body, "metadata"), "generation")


def _is_unseen(body: Mapping[str, Any]) -> bool:
    status = _at(body, "status")
    return "observedGeneration" not in status or _count(status, "observedGeneration") != _generation(body)
