"""What is delivered to a real member is there, stays, and goes; the usual course and its repetitions."""

import json
import subprocess

import pytest

from reconciler.core.actions import Reason, Report
from reconciler.core.model import PLACEMENT_GROUP, Key
from tests.controlplane.processes import wait_until
from tests.delivery.kubernetes.conftest import Site, fence

ID = "applyset.kubernetes.io/id"
TOOLING = "applyset.kubernetes.io/tooling"


def well(report: Report) -> None:
    assert (report.reason, report.results) == (Reason.AVAILABLE, ())
    assert report.complete


def versions(site: Site, *kinds: str) -> dict[str, str]:
    listed = json.loads(site.kubectl("get", ",".join(kinds), "-o", "json"))["items"]
    return {one["metadata"]["name"]: one["metadata"]["resourceVersion"] for one in listed}


def test_what_is_delivered_is_there_and_observed_as_complete(site):
    well(site.delivers(site.config_map("a"), site.config_map("b", key="2")))
    assert site.get("configmap", "b")["data"] == {"key": "2"}
    well(site.observes())


def test_delivering_again_changes_no_object_and_no_inventory(site):
    site.delivers(site.config_map("a"), site.secret("b", stringData={"x": "1"}), site.deployment())
    wait_until("the rollout", lambda: site.observes().healthy, ())
    before, inventory = versions(site, "configmap", "secret", "deployment"), site.inventory()
    well(site.again())
    assert versions(site, "configmap", "secret", "deployment") == before
    assert site.inventory() == inventory


def test_the_same_content_under_a_newer_intent_moves_the_fence_and_no_object(site):
    objects = (site.config_map("a"), site.secret("b", stringData={"x": "1"}), site.thing("v1", "ServiceAccount", "c"))
    site.delivers(*objects)
    before = versions(site, "configmap", "secret", "serviceaccount")
    well(site.delivers(*objects))
    assert versions(site, "configmap", "secret", "serviceaccount") == before
    assert site.inventory()["data"]["seq"] == "2"


def test_the_article_rolls_value2_out_and_back_to_value1(site):
    well(site.delivers(site.config_map("test-cm", key="value1")))
    well(site.delivers(site.config_map("test-cm", key="value2")))
    assert site.get("configmap", "test-cm")["data"] == {"key": "value2"}
    well(site.delivers(site.config_map("test-cm", key="value1")))
    assert site.get("configmap", "test-cm")["data"] == {"key": "value1"}


def test_a_key_that_leaves_a_manifest_leaves_the_object(site):
    site.delivers(site.config_map("a", one="1", two="2"), site.secret("b", stringData={"one": "1", "two": "2"}))
    well(site.delivers(site.config_map("a", one="1"), site.secret("b", stringData={"one": "1"})))
    assert site.get("configmap", "a")["data"] == {"one": "1"}
    assert site.get("secret", "b")["data"] == {"one": "MQ=="}


def test_what_left_the_content_is_pruned_and_nothing_else(site):
    site.kubectl("create", "configmap", "a-persons")
    site.delivers(site.config_map("stays"), site.config_map("leaves"))
    well(site.delivers(site.config_map("stays"), site.config_map("comes")))
    assert site.names("configmap") == {"a-persons", "stays", "comes"}


def test_an_object_of_a_name_that_we_listed_but_did_not_make_is_not_pruned(site):
    """The inventory lists what may come to be there; only the label says that it is ours."""
    site.kubectl("create", "configmap", "a-persons")
    report = site.delivers(site.config_map("mine"), site.config_map("a-persons"), take_over="Never")
    assert report.reason is Reason.CONFLICT
    well(site.delivers(site.config_map("mine")))
    assert site.names("configmap") == {"a-persons", "mine"}


def test_withdraw_removes_what_was_delivered_and_keeps_the_fence(site):
    site.kubectl("create", "configmap", "a-persons")
    site.delivers(site.config_map("a"), site.config_map("b"))
    assert site.withdraws() == Report(complete=None, reason=Reason.WITHDRAWN)
    assert site.names("configmap") == {"a-persons"}
    assert site.inventory()["data"]["seq"] == "2"
    site.seq = 1
    assert site.again().reason is Reason.FENCE_LOST


def test_a_lower_fence_is_refused_with_nothing_written(site):
    site.delivers(site.config_map("a"))
    well(site.delivers(site.config_map("a", key="2")))
    before, inventory = versions(site, "configmap"), site.inventory()
    for report in (
        site.delivery.deliver(site.placement, site.contents[1], fence(1)),
        site.delivery.withdraw(site.placement, fence(1)),
    ):
        assert (report.complete, report.reason) == (None, Reason.FENCE_LOST)
    assert (versions(site, "configmap"), site.inventory()) == (before, inventory)


def test_a_deployment_is_available_once_its_pods_are(site):
    report = site.delivers(site.deployment(replicas=3))
    assert report.reason in (Reason.NOT_AVAILABLE, Reason.AVAILABLE)
    wait_until("the rollout", lambda: site.observes().healthy, ())
    assert site.get("deployment", "nginx")["status"]["availableReplicas"] == 3


def test_a_deployment_that_no_node_takes_is_complete_and_not_available(site):
    site.delivers(site.deployment(replicas=1, nodeSelector={"kind": "none"}))
    report = site.observes()
    assert report.reason is Reason.NOT_AVAILABLE
    assert report.complete == site.contents[1].hash
    assert report.object == f"Deployment {site.namespace}/nginx"


def test_the_namespace_of_a_content_is_made_before_what_lives_in_it(members, site):
    name = f"{site.namespace}-x"
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name},
        "spec": {"finalizers": ["kubernetes"]},
    }
    inside = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": name}}
    well(site.delivers(inside, namespace))
    assert site.member.kubectl("-n", name, "get", "configmap", "a", "-o", "name") == "configmap/a\n"
    wait_until("the withdrawal", lambda: site.withdraws().reason is Reason.WITHDRAWN, ())
    assert name not in site.member.kubectl("get", "namespaces", "-o", "name")


# -- the inventory


def test_the_inventory_is_an_applyset_as_kubectl_knows_it(site):
    site.delivers(site.config_map("a"), site.deployment(replicas=0))
    metadata = site.inventory()["metadata"]
    identity = metadata["labels"][ID]
    assert metadata["annotations"] == {
        "applyset.kubernetes.io/tooling": "reconciler/v1",
        "applyset.kubernetes.io/contains-group-kinds": "ConfigMap,Deployment.apps",
        "applyset.kubernetes.io/additional-namespaces": site.namespace,
    }
    found = site.kubectl(
        "get", "configmap,deployment", "-l", f"applyset.kubernetes.io/part-of={identity}", "-o", "name"
    )
    assert found.split() == ["configmap/a", "deployment.apps/nginx"]


def kubectl_prunes(site: Site, name: str) -> subprocess.CompletedProcess[str]:
    """Let kubectl apply a ConfigMap as all that our ApplySet holds."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "reconciler-system"}}
    parent = f"--applyset=configmaps/clusterresourceplacement.{site.placement.name}"
    command = [str(site.member._programs["kubectl"]), "-n", "reconciler-system", "apply", "--server-side", "--prune"]
    environment = {**site.member._environment(), "KUBECTL_APPLYSET": "true"}
    return subprocess.run(
        [*command, parent, "-f", "-"],
        input=json.dumps(body),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_kubectl_does_not_prune_with_an_applyset_that_is_not_its_own(site):
    """kubectl computes the same id for the parent, and then sees another tool's name on it."""
    site.delivers(site.config_map("a"))
    done = kubectl_prunes(site, "b")
    assert done.returncode != 0
    assert "managed by" in done.stderr
    assert "reconciler" in done.stderr
    assert site.names("configmap") == {"a"}


def test_kubectl_prunes_with_our_applyset_once_it_is_told_that_it_is_its_own(site):
    """So id, labels, kinds and namespaces are what it expects: it finds every object of ours, and nobody else's."""
    site.kubectl("create", "configmap", "a-persons")
    site.delivers(site.config_map("a"), site.deployment(replicas=0))
    parent = site.inventory()["metadata"]["name"]
    of_ours = ("-n", "reconciler-system")
    site.member.kubectl(*of_ours, "annotate", "--overwrite", "configmap", parent, f"{TOOLING}=kubectl/v1.0")
    done = kubectl_prunes(site, site.namespace)
    site.member.kubectl(*of_ours, "delete", "configmap", parent, site.namespace)
    applied, *pruned = done.stdout.splitlines()
    assert applied == f"configmap/{site.namespace} serverside-applied", done.stderr
    assert sorted(pruned) == ["configmap/a pruned", "deployment.apps/nginx pruned"]  # kubectl asks kinds as they come
    assert (site.names("configmap"), site.names("deployment")) == ({"a-persons"}, set())


def test_an_inventory_that_changed_since_it_was_read_is_not_overwritten(site):
    site.delivers(site.config_map("a"))
    store = site.delivery._store
    held = store.read_inventory(site.placement)
    assert held.inventory is not None
    site.delivers(site.config_map("a", key="2"))
    assert store.swap_inventory(site.placement, held, held.inventory) is None
    assert site.inventory()["data"]["seq"] == "2"


def test_an_inventory_that_does_not_exist_yet_is_made_by_one_of_two(site):
    site.delivers(site.config_map("a"))
    store = site.delivery._store
    held = store.read_inventory(site.placement)
    other = Key(group=PLACEMENT_GROUP, kind="ResourcePlacement", namespace=site.namespace, name="other")
    nothing = store.read_inventory(other)
    assert nothing.inventory is None
    assert store.swap_inventory(other, nothing, held.inventory) is not None
    assert store.swap_inventory(other, nothing, held.inventory) is None


def test_a_damaged_inventory_stops_everything_about_its_placement(site):
    site.delivers(site.config_map("a"), site.config_map("b"))
    name = f"clusterresourceplacement.{site.placement.name}"
    site.member.kubectl(
        "-n", "reconciler-system", "patch", "configmap", name, "--type=merge", "-p", '{"data":{"objects":"nonsense"}}'
    )
    report = site.delivers(site.config_map("a"))
    assert report.reason is Reason.REFUSED
    assert "damaged" in report.message
    assert site.names("configmap") == {"a", "b"}
    site.member.kubectl("-n", "reconciler-system", "delete", "configmap", name)  # every placement looks at all of them


def test_describe_tells_version_identity_and_what_is_missing(site):
    site.delivers(site.config_map("a"), site.config_map("b"))
    site.kubectl("delete", "configmap", "b")
    told = site.delivery.describe()
    assert (told["reachable"], told["uid"], told["user"]) == (True, site.member.uid(), "admin")
    assert told["version"].startswith("v1.")
    assert told["inventories"][str(site.placement)]["objects"] == 2
    assert told["missing"][str(site.placement)] == (f"ConfigMap {site.namespace}/b",)


# -- what a person or a controller does in between


def test_an_object_deleted_by_hand_is_seen_and_delivered_again(site):
    site.delivers(site.config_map("a"), site.config_map("b"))
    site.kubectl("delete", "configmap", "a")
    report = site.observes()
    assert (report.complete, report.reason, report.message) == (
        None,
        Reason.INCOMPLETE,
        "is missing",
    )
    well(site.again())
    assert site.names("configmap") == {"a", "b"}


def test_a_label_taken_off_by_hand_is_put_back(site):
    site.delivers(site.config_map("a"))
    site.kubectl("label", "configmap", "a", "applyset.kubernetes.io/part-of-")
    assert (site.observes().reason, site.observes().complete) == (Reason.INCOMPLETE, None)
    well(site.again())
    assert site.get("configmap", "a")["metadata"]["labels"] == {
        "applyset.kubernetes.io/part-of": site.inventory()["metadata"]["labels"][ID]
    }


def test_a_value_changed_by_hand_is_seen_with_the_field_and_put_back(site):
    site.delivers(site.config_map("a", key="value1"))
    site.kubectl("patch", "configmap", "a", "--type=merge", "-p", '{"data":{"key":"by hand"}}')
    report = site.observes()
    assert (report.complete, report.message) == (
        None,
        "was changed on the member at .data.key (kubectl-patch)",
    )
    well(site.again())
    assert site.get("configmap", "a")["data"] == {"key": "value1"}


def test_a_field_added_by_hand_stays_and_is_nobodys_fault(site):
    site.delivers(site.config_map("a", key="value1"))
    site.kubectl("patch", "configmap", "a", "--type=merge", "-p", '{"data":{"extra":"by hand"}}')
    well(site.observes())
    well(site.delivers(site.config_map("a", key="value2")))
    assert site.get("configmap", "a")["data"] == {"key": "value2", "extra": "by hand"}


def test_replicas_that_a_manifest_does_not_name_are_left_to_whoever_scales(site):
    body = site.deployment()
    del body["spec"]["replicas"]
    site.delivers(body)
    site.kubectl("scale", "deployment", "nginx", "--replicas=3")
    wait_until("the rollout", lambda: site.observes().healthy, ())
    well(site.again())
    assert site.get("deployment", "nginx")["spec"]["replicas"] == 3


def test_which_kinds_a_member_serves_is_asked_once(site, asked):
    role = site.thing("rbac.authorization.k8s.io/v1", "Role", "nothing", rules=[])
    for value in ("1", "2"):
        well(site.delivers(site.config_map("a", key=value), role))
    kinds = ["/api/v1", "/apis/rbac.authorization.k8s.io/v1"]
    assert sorted(path for _, path in asked if path in kinds) == kinds


# -- large


def test_a_config_map_of_nearly_a_mebibyte_arrives_whole(site):
    text = "x" * (1024 * 1024 - 2048)
    well(site.delivers(site.config_map("a", key=text)))
    assert site.get("configmap", "a")["data"] == {"key": text}


def test_a_config_map_of_more_than_a_mebibyte_is_refused_with_the_members_words(site):
    report = site.delivers(site.config_map("a", key="x" * (1024 * 1024 + 1)))
    assert report.reason is Reason.REFUSED
    assert "1048576" in report.message


def test_many_large_objects_are_looked_at_although_a_page_of_them_would_be_too_large(site):
    objects = [site.config_map(f"c{number}", key="x" * 900_000) for number in range(20)]
    well(site.delivers(*objects))
    well(site.observes())


@pytest.mark.slow
def test_two_thousand_objects_arrive_and_are_observed_by_lists(site):
    well(site.delivers(*(site.config_map(f"c{number}") for number in range(2000))))
    assert len(site.names("configmap")) == 2000
    well(site.observes())
    site.delivery = site.through(pruneLimit=5000, pruneShare=1).delivery
    well(site.delivers(site.config_map("c0")))
    assert site.names("configmap") == {"c0"}


def test_more_than_the_ceiling_is_not_pruned_and_the_setting_is_named(site):
    site.delivers(*(site.config_map(f"c{number}") for number in range(12)))
    report = site.delivers(site.config_map("c0"))
    assert report.reason is Reason.REFUSED
    assert "delivery.clusters.member-1.pruneShare" in report.message
    assert len(site.names("configmap")) == 12
    well(site.through(pruneShare=1).again())
    assert site.names("configmap") == {"c0"}


def test_more_objects_than_the_limit_are_not_pruned_and_the_setting_is_named(site):
    """However small a share they are of few objects."""
    site.delivery = site.through(pruneLimit=3).delivery
    site.delivers(*(site.config_map(f"c{number}") for number in range(8)))
    report = site.delivers(*(site.config_map(f"c{number}") for number in range(4)))
    assert report.reason is Reason.REFUSED
    assert "4 objects left the content" in report.message
    assert "delivery.clusters.member-1.pruneLimit" in report.message
    assert len(site.names("configmap")) == 8
    well(site.delivers(*(site.config_map(f"c{number}") for number in range(5))))
    assert len(site.names("configmap")) == 5


# -- many at once


def test_many_new_objects_are_looked_for_by_one_list_of_names(site, asked):
    well(site.delivers(*(site.config_map(f"c{number}") for number in range(12))))
    path = f"/api/v1/namespaces/{site.namespace}/configmaps"
    assert [method for method, where in asked if where.startswith(f"{path}/")] == ["PATCH"] * 12
    assert asked.count(("GET", path)) == 1


def test_what_is_missing_of_many_objects_is_found_by_lists(site, asked):
    """One request for each object would take a large inventory past the ceiling of requests a second."""
    site.delivers(*(site.config_map(f"c{number}") for number in range(12)))
    site.kubectl("delete", "configmap", "c3")
    site.kubectl("label", "configmap", "c4", "applyset.kubernetes.io/part-of-")
    asked.clear()
    assert site.delivery.describe()["missing"][str(site.placement)] == (f"ConfigMap {site.namespace}/c3",)
    path = f"/api/v1/namespaces/{site.namespace}/configmaps"
    assert sorted(one for _, one in asked if one.startswith(path)) == [path, f"{path}/c3", f"{path}/c4"]


def test_among_many_new_objects_one_that_is_there_already_is_seen(site):
    site.kubectl("create", "configmap", "c1", "--from-literal=key=theirs")
    report = site.delivers(*(site.config_map(f"c{number}") for number in range(5)), take_over="Never")
    assert [(one.object, one.reason) for one in report.results] == [(f"ConfigMap {site.namespace}/c1", Reason.CONFLICT)]
    assert site.get("configmap", "c1")["data"] == {"key": "theirs"}
    assert site.names("configmap") == {f"c{number}" for number in range(5)}


def test_what_was_pruned_with_its_definition_is_not_told_to_be_there(site):
    """Apply said that it is well; then the definition left, and took the object with it."""
    group = f"{site.namespace}.example.com"
    names = {"plural": "things", "singular": "thing", "kind": "Thing"}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    versions = [{"name": "v1", "served": True, "storage": True, "schema": schema}]
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"things.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": versions},
    }
    well(site.delivers(definition, site.thing(f"{group}/v1", "Thing", "one", spec={"a": 1})))
    report = site.delivers(site.thing(f"{group}/v1", "Thing", "one", spec={"a": 2}))
    assert (report.complete, report.reason) == (None, Reason.INCOMPLETE)


def test_a_copy_of_an_inventory_under_another_name_is_none(site):
    well(site.delivers(site.config_map("a", key="1")))
    copy = site.inventory()
    copy["metadata"] = {one: copy["metadata"][one] for one in ("namespace", "labels", "annotations")} | {"name": "zzz"}
    copy["data"]["seq"] = "99"
    site.member.kubectl("apply", "-f", "-", input=json.dumps(copy))
    try:
        well(site.delivers(site.config_map("a", key="2")))
    finally:
        site.member.kubectl("delete", "configmap", "zzz", "-n", "reconciler-system")
