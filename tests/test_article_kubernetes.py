"""The tutorial, both scopes, on real control planes, through the installed command and a daemon of its own process."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.core.model import PLACEMENT_GROUP, Key
from reconciler.delivery.kubernetes import inventories
from tests.serving import Served, condition
from tests.test_article import RUN_TABLE, article, first_files, masked

pytestmark = pytest.mark.xdist_group("controlplane")

NAMES = ("member1", "member2", "member3")
APP = "my-app-namespace"
EXAMPLE = Key(group=PLACEMENT_GROUP, kind="ClusterResourcePlacement", name="example-placement")
APP_PLACEMENT = Key(group=PLACEMENT_GROUP, kind="ClusterResourcePlacement", name=APP)
WEB_APP = Key(group=PLACEMENT_GROUP, kind="ResourcePlacement", namespace=APP, name="web-app-placement")


class OnMembers(Served):
    """The tutorial's repository, its three members being control planes."""

    def __init__(self, folder: Path, members: Any) -> None:
        self.planes = dict(zip(NAMES, members, strict=True))
        kubeconfigs = {name: str(plane.kubeconfig) for name, plane in self.planes.items()}
        super().__init__(
            folder,
            {name: {"type": "kubernetes", "kubeconfig": path} for name, path in kubeconfigs.items()},
            first_files(),
        )

    def read(self, namespace: str, kind: str, name: str) -> list[dict[str, Any]]:
        """Return an object as kubectl reads it on every member."""
        what = ("get", kind, name, "-n", namespace, "-o", "json", "--show-managed-fields")
        return [json.loads(plane.kubectl(*what)) for plane in self.planes.values()]

    def merge(self, run: str) -> None:
        self.push(f"Start {run}", {f"runs/{run}.yaml": article(f"runs/{run}.yaml")}, "merge")

    def approve_and_wait(self, run: str, *scope: str) -> None:
        """Wait for the request, approve it with the command, and wait for the end."""
        self.command("wait", run, "--for", "approval", "--timeout", "60s", *scope)
        self.command("approve", run, "canary", "--message", "lgtm", *scope)
        self.command("wait", run, "--timeout", "60s", *scope)


@pytest.fixture
def tutorial(members, tmp_path: Path) -> Iterator[OnMembers]:
    """The tutorial before its first run; the members are left as they were found."""
    one = OnMembers(tmp_path, members)
    yield one
    for plane in members:
        plane.kubectl("delete", "namespace", "test-namespace", APP, "--ignore-not-found", "--wait=false")
        parents = [inventories.name_of(placement) for placement in (EXAMPLE, WEB_APP, APP_PLACEMENT)]
        plane.kubectl("delete", "configmaps", "-n", inventories.NAMESPACE, *parents, "--ignore-not-found")


def value2(tutorial: OnMembers) -> None:
    changed = article("resources/test-namespace.yaml").replace("value1", "value2")
    tutorial.push("Set value2", {"resources/test-namespace.yaml": changed}, "squash")


def assert_ours(tutorial: OnMembers, placement: Key, found: list[dict[str, Any]]) -> None:
    """Every object was applied by our one manager and bears the label of the ApplySet whose parent is on the member."""
    name, identity = inventories.name_of(placement), inventories.id_of(placement)
    for body in found:
        applied = {one["manager"] for one in body["metadata"]["managedFields"] if one["operation"] == "Apply"}
        assert applied == {"reconciler"}
        assert body["metadata"]["labels"]["applyset.kubernetes.io/part-of"] == identity
    for parent in tutorial.read("reconciler-system", "configmap", name):
        assert parent["metadata"]["labels"]["applyset.kubernetes.io/id"] == identity
        assert parent["metadata"]["annotations"]["applyset.kubernetes.io/tooling"] == "reconciler/v1"
        assert parent["data"]["complete"]


def test_the_cluster_scoped_tutorial_on_control_planes(tutorial: OnMembers) -> None:
    """The ConfigMap ends with value2 everywhere, and after the second run with value1."""
    with tutorial.serving():
        value2(tutorial)
        tutorial.merge("example-run")
        tutorial.approve_and_wait("example-run")
        found = tutorial.read("test-namespace", "configmap", "test-cm")
        assert [one["data"] for one in found] == [{"key": "value2"}] * 3
        assert_ours(tutorial, EXAMPLE, found)
        assert masked(tutorial.command("get", "csur", "example-run")) == RUN_TABLE
        tutorial.merge("example-run-2")
        tutorial.approve_and_wait("example-run-2")
        found = tutorial.read("test-namespace", "configmap", "test-cm")
        assert [one["data"] for one in found] == [{"key": "value1"}] * 3
        assert_ours(tutorial, EXAMPLE, found)
    for run in ("example-run", "example-run-2"):
        tutorial.command("replay", run)


def test_the_namespaced_tutorial_on_control_planes(tutorial: OnMembers) -> None:
    """Without its namespace the run is stuck and says what helps; that done it goes on by itself, and back again."""
    run, scope = "web-app-rollout-v1-21", ("-n", APP)
    with tutorial.serving():
        changed = article(f"resources/{APP}.yaml").replace("nginx:1.20", "nginx:1.21")
        tutorial.push("Update to 1.21", {f"resources/{APP}.yaml": changed})
        tutorial.merge(run)
        tutorial.command("wait", run, "--for", "condition=Progressing=False", "--timeout", "30s", *scope)
        stuck = condition(tutorial.get("sur", run, APP), "Progressing")
        assert stuck["reason"] == "UpdateRunStuck"
        assert "member2" in stuck["message"]
        hint = "namespace my-app-namespace is not on this member; place the namespace first with a ClusterResource"
        assert hint in tutorial.command("describe", "sur", run, *scope)
        placement = tutorial.get("rp", "web-app-placement", APP)
        failed = [one.get("failedPlacements", []) for one in placement["status"]["placementStatuses"]]
        assert [[hint in one["condition"]["message"] for one in found] for found in failed] == [[], [True, True], []]
        tutorial.merge(APP)
        tutorial.command("wait", APP, "--timeout", "60s")
        tutorial.approve_and_wait(run, *scope)
        assert images(tutorial) == ["nginx:1.21"] * 3
        tutorial.merge("web-app-rollback-v1-20")
        tutorial.approve_and_wait("web-app-rollback-v1-20", *scope)
        assert images(tutorial) == ["nginx:1.20"] * 3
    tutorial.command("replay", run, *scope)
    tutorial.command("replay", "web-app-rollback-v1-20", *scope)


def images(tutorial: OnMembers) -> list[str]:
    """Return the image that each member runs, once its ReplicaSet is seen available and the others empty."""
    deployments = tutorial.read(APP, "deployment", "web-app")
    assert [one["status"]["availableReplicas"] for one in deployments] == [3, 3, 3]
    assert_ours(tutorial, WEB_APP, deployments)
    assert_ours(tutorial, WEB_APP, tutorial.read(APP, "service", "web-app"))
    return [running(plane) for plane in tutorial.planes.values()]


def running(plane: Any) -> str:
    sets = json.loads(plane.kubectl("get", "replicasets", "-n", APP, "-l", "app=web-app", "-o", "json"))["items"]
    up = [one for one in sets if one["spec"]["replicas"]]
    assert [one["status"]["availableReplicas"] for one in up] == [3]
    image: str = up[0]["spec"]["template"]["spec"]["containers"][0]["image"]
    return image
