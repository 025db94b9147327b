"""What a member does not take, or not from us: said with its own words, of the object alone, and never a Secret's."""

import json

import pytest

from reconciler.core.actions import Reason, Report
from reconciler.core.model import PLACEMENT_GROUP, Key
from tests.controlplane.processes import wait_until
from tests.delivery.kubernetes.conftest import Site, fence
from tests.delivery.kubernetes.test_delivering import well

HOSTILE = ("../../kube-system/secrets/boot", "ok/status", "x?force=true", "x%2fy", "..", "a b", "x#y", "", "x" * 254)


def unwell(report: Report, site: Site, kind: str, name: str) -> tuple[Reason, str]:
    assert report.complete is None
    assert report.object == f"{kind} {site.namespace}/{name}"
    return report.reason, report.message


def test_an_immutable_field_is_refused_and_the_other_objects_arrive(site):
    fixed = {**site.config_map("fixed", key="1"), "immutable": True}
    site.delivers(fixed)
    report = site.delivers({**fixed, "data": {"key": "2"}}, site.config_map("free", key="2"))
    reason, message = unwell(report, site, "ConfigMap", "fixed")
    assert reason is Reason.REFUSED
    assert "immutable" in message
    assert site.get("configmap", "free")["data"] == {"key": "2"}
    assert site.observes().complete is None


def test_an_unknown_field_is_refused_with_its_path(site):
    body = site.deployment()
    body["spec"]["replcas"] = 3
    reason, message = unwell(site.delivers(body), site, "Deployment", "nginx")
    assert reason is Reason.REFUSED
    assert ".spec.replcas" in message


def test_a_quota_that_is_used_up_is_named(site):
    site.kubectl("create", "quota", "few", "--hard=count/configmaps=2")
    wait_until("the quota to count", lambda: "hard" in site.get("quota", "few")["status"], ())
    report = site.delivers(*(site.config_map(f"c{number}") for number in range(3)))
    assert report.reason is Reason.REFUSED
    assert "exceeded quota: few" in report.message


def test_an_admission_policy_refuses_with_its_own_words(site):
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": site.namespace},
        "spec": {
            "matchConstraints": {
                "resourceRules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
                ]
            },
            "validations": [
                {
                    "expression": "has(object.data) && 'owner' in object.data",
                    "message": "every ConfigMap names its owner",
                }
            ],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": site.namespace},
        "spec": {
            "policyName": site.namespace,
            "validationActions": ["Deny"],
            "matchResources": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": site.namespace}},
            },
        },
    }
    site.kubectl("create", "-f", "-", body=policy)
    site.kubectl("create", "-f", "-", body=binding)
    probe = ("create", "configmap", "probe", "--dry-run=server")

    def denies() -> bool:
        try:
            site.kubectl(*probe)
        except Exception as error:  # noqa: BLE001 - its words are what is looked for
            return "names its owner" in str(error)
        return False

    wait_until("the policy", denies, ())
    reason, message = unwell(site.delivers(site.config_map("a")), site, "ConfigMap", "a")
    assert reason is Reason.REFUSED
    assert "every ConfigMap names its owner" in message
    well(site.delivers(site.config_map("a", owner="us")))
    site.member.kubectl("delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", site.namespace)


def test_a_namespace_that_is_not_there_is_refused_with_the_fix(site):
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "nowhere"}}
    report = site.delivers(body)
    assert report.reason is Reason.REFUSED
    assert "ClusterResourcePlacement of selectionScope NamespaceOnly" in report.message


def test_a_namespace_that_is_being_deleted_is_waited_for(site):
    holder = {
        **site.config_map("holder"),
        "metadata": {**site.config_map("holder")["metadata"], "finalizers": ["a.b/c"]},
    }
    site.kubectl("create", "-f", "-", body=holder)
    site.kubectl("delete", "namespace", site.namespace, "--wait=false")
    report = site.delivers(site.config_map("a"))
    assert report.reason is Reason.INCOMPLETE
    assert f"namespace {site.namespace} is being deleted" in report.message
    site.kubectl("patch", "configmap", "holder", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')


def test_an_object_that_a_finalizer_holds_is_not_called_gone(site):
    held = {**site.config_map("held"), "metadata": {**site.config_map("held")["metadata"], "finalizers": ["a.b/c"]}}
    site.delivers(held, site.config_map("stays"))
    site.delivery = site.through(settleSeconds=0.2).delivery
    reason, message = unwell(site.delivers(site.config_map("stays")), site, "ConfigMap", "held")
    assert reason is Reason.INCOMPLETE
    assert "its finalizers hold it: a.b/c" in message
    assert site.withdraws().reason is Reason.INCOMPLETE
    site.kubectl("patch", "configmap", "held", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    assert site.withdraws().reason is Reason.WITHDRAWN
    assert site.names("configmap") == set()


# -- custom resources


def widgets(site: Site) -> tuple[dict, dict]:
    group = f"{site.namespace}.example.com"
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}}}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": "Widget", "plural": "widgets", "singular": "widget"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }
    return definition, site.thing(f"{group}/v1", "Widget", "one", spec={"size": 1})


def test_a_kind_that_the_member_does_not_know_yet_is_waited_for(site):
    definition, widget = widgets(site)
    reason, message = unwell(site.delivers(widget), site, "Widget", "one")
    assert reason is Reason.INCOMPLETE
    assert "does not serve its kind" in message
    site.kubectl("create", "-f", "-", body=definition)
    wait_until("the widget", lambda: site.again().healthy, ())
    site.withdraws()
    site.member.kubectl("delete", "crd", definition["metadata"]["name"])


def test_a_definition_and_its_objects_arrive_in_one_delivery(site):
    definition, widget = widgets(site)
    well(site.delivers(widget, definition))
    assert site.get(f"widgets.{site.namespace}.example.com", "one")["spec"] == {"size": 1}
    wait_until("the withdrawal", lambda: site.withdraws().reason is Reason.WITHDRAWN, ())


# -- somebody else's


def applied_by(site: Site, manager: str, body: dict) -> None:
    site.kubectl("apply", "--server-side", "--force-conflicts", f"--field-manager={manager}", "-f", "-", body=body)


def test_a_field_that_a_controller_took_is_a_conflict_that_names_it(site):
    site.delivers(site.config_map("a", key="ours"))
    applied_by(site, "helm", site.config_map("a", key="theirs"))
    assert site.observes().reason is Reason.INCOMPLETE
    reason, message = unwell(site.again(), site, "ConfigMap", "a")
    assert reason is Reason.CONFLICT
    assert ".data.key (helm)" in message
    assert site.get("configmap", "a")["data"] == {"key": "theirs"}


def test_with_force_a_field_is_taken_back(site):
    site.delivers(site.config_map("a", key="ours"))
    applied_by(site, "helm", site.config_map("a", key="theirs"))
    well(site.delivers(site.config_map("a", key="ours"), server_side_force=True))
    assert site.get("configmap", "a")["data"] == {"key": "ours"}


def test_an_object_that_is_there_already_is_taken_over_by_default(site):
    applied_by(site, "helm", site.config_map("a", key="theirs"))
    well(site.delivers(site.config_map("a", key="ours")))
    assert site.get("configmap", "a")["data"] == {"key": "ours"}


def test_an_object_that_is_there_already_is_left_when_taking_over_is_forbidden(site):
    site.kubectl("create", "configmap", "a", "--from-literal=key=theirs")
    reason, message = unwell(site.delivers(site.config_map("a"), take_over="Never"), site, "ConfigMap", "a")
    assert (reason, "whenToTakeOver is Never" in message) == (Reason.CONFLICT, True)
    assert site.get("configmap", "a")["data"] == {"key": "theirs"}


def test_only_an_equal_object_is_taken_over_when_that_is_the_rule(site):
    site.kubectl("create", "configmap", "equal", "--from-literal=key=value1", "--from-literal=more=2")
    site.kubectl("create", "configmap", "other", "--from-literal=key=theirs")
    report = site.delivers(site.config_map("equal"), site.config_map("other"), take_over="IfNoDiff")
    reason, message = unwell(report, site, "ConfigMap", "other")
    assert (reason, "differs at .data.key" in message) == (Reason.CONFLICT, True)
    assert len(report.results) == 1
    assert site.get("configmap", "other")["data"] == {"key": "theirs"}


def test_an_object_of_another_applyset_is_not_touched(site):
    labelled = site.config_map("a", key="theirs")
    labelled["metadata"]["labels"] = {"applyset.kubernetes.io/part-of": "applyset-somebody-v1"}
    site.kubectl("create", "-f", "-", body=labelled)
    reason, message = unwell(site.delivers(site.config_map("a")), site, "ConfigMap", "a")
    assert (reason, "applyset-somebody-v1" in message) == (Reason.CONFLICT, True)
    assert site.get("configmap", "a")["data"] == {"key": "theirs"}


def test_an_object_of_another_placement_is_not_touched_and_both_are_named(site):
    site.delivers(site.config_map("a", key="first"))
    other = Key(group=PLACEMENT_GROUP, kind="ClusterResourcePlacement", name=f"other-{site.namespace}")
    report = site.delivery.deliver(other, site.content(site.config_map("a", key="second")), fence(1))
    assert report.reason is Reason.CONFLICT
    assert str(other) in report.message
    assert str(site.placement) in report.message
    assert site.get("configmap", "a")["data"] == {"key": "first"}


# -- names and scopes


@pytest.fixture
def team(site: Site) -> Site:
    """The same site, with a namespaced placement."""
    site.placement = Key(group=PLACEMENT_GROUP, kind="ResourcePlacement", namespace=site.namespace, name="web")
    return site


@pytest.mark.parametrize("name", HOSTILE, ids=repr)
def test_a_name_that_would_lead_elsewhere_is_refused_before_any_request(site, asked, name):
    site.delivers(site.config_map("a"))
    asked.clear()
    report = site.delivers(
        site.config_map("a"), {**site.config_map("b"), "metadata": {"name": name, "namespace": site.namespace}}
    )
    assert report.reason is Reason.REFUSED
    inventories = "/api/v1/namespaces/reconciler-system/configmaps"
    assert {path for _, path in asked} == {
        "/api/v1/namespaces/kube-system",
        inventories,
        f"{inventories}/clusterresourceplacement.{site.placement.name}",
        f"/api/v1/namespaces/{site.namespace}/configmaps/a",
    }
    assert site.withdraws().reason is Reason.WITHDRAWN


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": {"name": "a", "namespace": "kube-system"}},
        {"metadata": {"name": "a", "namespace": "../kube-system"}},
        {"kind": "Pod/status"},
        {"apiVersion": "../v1"},
        {"apiVersion": "a/b/v1"},
    ],
    ids=json.dumps,
)
def test_a_namespaced_placement_cannot_leave_its_namespace(team, change):
    report = team.delivers({**team.config_map("a"), **change})
    assert report.reason in (Reason.REFUSED, Reason.INCOMPLETE)
    assert report.complete is None
    with pytest.raises(Exception, match="not found"):
        team.member.kubectl("-n", "kube-system", "get", "configmap", "a")


def test_a_namespaced_placement_asks_for_nothing_outside_its_namespace(team, asked):
    """Beside its own inventory, the identity of the member and what kinds it serves: not even to look."""
    outside = {**team.config_map("x"), "metadata": {"name": "x", "namespace": "default"}}
    nowhere = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": team.namespace}}
    well(team.delivers(team.config_map("a")))
    well(team.observes())
    assert team.withdraws().reason is Reason.WITHDRAWN
    assert team.delivers(team.config_map("a"), outside, nowhere).reason is Reason.REFUSED
    own = (f"/api/v1/namespaces/{team.namespace}/", "/api/v1/namespaces/reconciler-system/configmaps")
    assert {(method, path) for method, path in asked if not path.startswith(own)} <= {
        ("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews"),
        ("GET", "/api/v1/namespaces/kube-system"),
        ("GET", "/api/v1"),
        ("POST", "/api/v1/namespaces"),  # reconciler-system, where it is not there yet
    }
    assert ("PATCH", f"/api/v1/namespaces/{team.namespace}/configmaps/a") in asked


def test_a_namespaced_placement_cannot_write_what_has_no_namespace(team):
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole"}
    for metadata in ({"name": team.namespace}, {"name": team.namespace, "namespace": team.namespace}):
        report = team.delivers({**role, "metadata": metadata})
        assert report.reason is Reason.REFUSED
    with pytest.raises(Exception, match="not found"):
        team.member.kubectl("get", "clusterrole", team.namespace)


def test_a_namespaced_placement_does_not_prune_outside_its_namespace(team):
    """Even when somebody wrote such an object into its inventory."""
    other = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": team.namespace, "namespace": "default"}}
    team.delivers(team.config_map("a"))
    name = f"resourceplacement.{team.namespace}.web"
    identity = team.member.kubectl(
        "-n", "reconciler-system", "get", "configmap", name, "-o", "jsonpath={.metadata.labels}"
    )
    other["metadata"]["labels"] = {"applyset.kubernetes.io/part-of": json.loads(identity)["applyset.kubernetes.io/id"]}
    team.member.kubectl("create", "-f", "-", input=json.dumps(other))
    row = json.dumps(["", "ConfigMap", "default", team.namespace]) + "\n"
    patch = json.dumps({"data": {"objects": row}})
    team.member.kubectl("-n", "reconciler-system", "patch", "configmap", name, "--type=merge", "-p", patch)
    assert team.withdraws().reason is Reason.REFUSED
    assert team.member.kubectl("-n", "default", "get", "configmap", team.namespace, "-o", "name")
    team.member.kubectl("-n", "default", "delete", "configmap", team.namespace)


# -- secrets


@pytest.mark.parametrize(
    "change",
    [
        {"data": {"password": "tr0ub4dor not base64"}},
        {"data": {"password": {"tr0ub4dor": 1}}},
        {"stringData": {"pass word": "tr0ub4dor"}},
        {"type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": "tr0ub4dor"}},
        {"type": "kubernetes.io/tls", "stringData": {"tls.crt": "tr0ub4dor"}},
        {"tr0ub4dor": 1, "stringData": {"a": "b"}},
    ],
    ids=["not base64", "no string", "bad key", "bad docker config", "half a pair", "unknown field"],
)
def test_a_secrets_value_is_in_no_report_however_it_is_refused(site, change):
    report = site.delivers(site.secret("a", **change))
    assert report.reason is Reason.REFUSED
    if "tr0ub4dor" not in change:
        assert "tr0ub4dor" not in repr(report)
    assert report.object == f"Secret {site.namespace}/a"
