"""Contents as large as they come, and what would delete too much: from the repository onto a real member."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.core.model import PLACEMENT_GROUP, Key
from reconciler.delivery.kubernetes import inventories
from tests import manifests
from tests.serving import Served, condition
from tests.test_article import status_log

pytestmark = pytest.mark.xdist_group("controlplane")

APP = "large-app"
LARGE = Key(group=PLACEMENT_GROUP, kind="ClusterResourcePlacement", name="large")
LARGEST = 1024 * 1024
"""How many bytes of values a ConfigMap has at most, for any API server."""


class Fleet(Served):
    """One control plane, the application's namespace placed on it."""

    def __init__(self, folder: Path, member: Any) -> None:
        self.member = member
        selector = {"group": "", "version": "v1", "kind": "Namespace", "name": APP}
        files: dict[str, str | None] = {
            "clusters/member1.yaml": manifests.cluster("member1", ring="all"),
            "resources/namespace.yaml": manifests.namespace(APP),
            "placements/large.yaml": manifests.placement(LARGE.name, resourceSelectors=[selector]),
            "strategies/once.yaml": manifests.strategy(manifests.stage("all"), name="once"),
        }
        super().__init__(folder, self.way(), files, stageDeadlineSeconds=2)

    def way(self, **settings: Any) -> dict[str, Any]:
        """Return how the member is reached, as fast as it answers."""
        fast = {"qps": 5000, "burst": 5000}
        return {"member1": {"type": "kubernetes", "kubeconfig": str(self.member.kubeconfig), **fast, **settings}}

    def starts(self, run: str, changes: dict[str, str | None]) -> None:
        self.push(run, {**changes, f"runs/{run}.yaml": manifests.run(run, placement=LARGE.name, strategy="once")})

    def config_maps(self) -> dict[str, str]:
        """Return name and value of those that the member has."""
        listed = json.loads(self.member.kubectl("get", "configmaps", "-n", APP, "-o", "json"))["items"]
        return {one["metadata"]["name"]: one["data"]["key"] for one in listed if "key" in one["data"]}

    def selected(self, run: str) -> list[str]:
        """Return the names of what the snapshot of a run holds, as a person reads it back."""
        index = self.get("csur", run)["status"]["resourceSnapshotIndexUsed"]
        resources = self.get("crs", f"{LARGE.name}-{index}-snapshot")["spec"]["selectedResources"]
        return [one["metadata"]["name"] for one in resources]


@pytest.fixture
def fleet(members, tmp_path: Path) -> Iterator[Fleet]:
    """Nothing is on the member yet; it is left as it was found."""
    yield Fleet(tmp_path, members[0])
    members[0].kubectl("delete", "namespace", APP, "--ignore-not-found")
    parent = inventories.name_of(LARGE)
    members[0].kubectl("delete", "configmap", "-n", inventories.NAMESPACE, parent, "--ignore-not-found")


def config_maps(names: range) -> str:
    """Return config maps as one file."""
    return "---\n".join(manifests.config_map("value1", f"c{number}", APP) for number in names)


@pytest.mark.slow
def test_two_thousand_objects_become_a_snapshot_and_arrive(fleet):
    with fleet.serving():
        fleet.starts("many", {f"resources/{n}.yaml": config_maps(range(n, n + 100)) for n in range(0, 2000, 100)})
        fleet.command("wait", "many", "--timeout", "110s")
        assert sorted(fleet.selected("many")) == sorted([APP, *(f"c{number}" for number in range(2000))])
    assert fleet.config_maps() == {f"c{number}": "value1" for number in range(2000)}
    fleet.command("replay", "many")


def test_a_config_map_as_large_as_a_member_takes_becomes_a_snapshot_and_arrives(fleet):
    value = "x" * LARGEST
    with fleet.serving():
        fleet.starts("large", {"resources/large.yaml": manifests.config_map(value, "large", APP)})
        fleet.command("wait", "large", "--timeout", "60s")
        assert fleet.selected("large") == [APP, "large"]
    assert fleet.config_maps() == {"large": value}
    fleet.command("replay", "large")


def test_what_would_prune_too_much_is_told_and_done_once_the_setting_is_raised(fleet):
    """The placement names it as failed, the run is stuck on it, and both say which setting it is."""
    with fleet.serving():
        fleet.starts("all", {"resources/all.yaml": config_maps(range(60))})
        fleet.command("wait", "all", "--timeout", "60s")
        fleet.starts("few", {"resources/all.yaml": config_maps(range(5))})
        fleet.command("wait", "few", "--for", "condition=Progressing=False", "--timeout", "60s")
        told = "55 objects left the content, more than pruneLimit allows; raise delivery.clusters.member1.pruneLimit"
        placement = fleet.get("crp", LARGE.name)["status"]["placementStatuses"][0]
        assert [told in one["condition"]["message"] for one in placement["failedPlacements"]] == [True]
        assert condition(fleet.get("csur", "few"), "Progressing")["reason"] == "UpdateRunStuck"
        assert told in fleet.command("describe", "csur", "few")
        assert len(fleet.config_maps()) == 60
    raised = {"delivery": {"clusters": fleet.way(pruneLimit=55, pruneShare=1)}}
    fleet.settings.write_text(yaml.safe_dump(raised))
    with fleet.serving():
        fleet.until(lambda: "few: succeeded" in status_log(fleet, "few"), "the pruning")
    assert set(fleet.config_maps()) == {f"c{number}" for number in range(5)}
