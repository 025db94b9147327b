"""What leaves, on real control planes: reverted runs, deselected clusters, what a removed placement placed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.core.model import PLACEMENT_GROUP, Key
from reconciler.delivery.kubernetes import inventories
from tests import manifests, servers
from tests.manifests import run, stage, strategy
from tests.serving import Served, until

pytestmark = pytest.mark.xdist_group("controlplane")

NAMES = ("member1", "member2", "member3")
APP = "removal-app"
WEB = Key(group=PLACEMENT_GROUP, kind="ClusterResourcePlacement", name="removal")


def placed(*clusters: str) -> str:
    """Return the placement of the application's namespace onto these clusters."""
    selector = {"group": "", "version": "v1", "kind": "Namespace", "name": APP}
    policy = {"placementType": "PickFixed", "clusterNames": list(clusters)}
    return manifests.placement(WEB.name, policy=policy, resourceSelectors=[selector])


class Fleet(Served):
    """Three control planes, one placement on all of them, what it placed removed a second after the placement is."""

    def __init__(self, folder: Path, members: Any) -> None:
        self.planes = dict(zip(NAMES, members, strict=True))
        ways = {name: {"type": "kubernetes", "kubeconfig": str(one.kubeconfig)} for name, one in self.planes.items()}
        files = {f"clusters/{name}.yaml": manifests.cluster(name, ring="prod") for name in NAMES} | {
            "resources/namespace.yaml": manifests.namespace(APP),
            "resources/settings.yaml": manifests.config_map("value1", namespace=APP),
            "placements/removal.yaml": placed(*NAMES),
            "strategies/rings.yaml": strategy(stage("prod", maxConcurrency="100%")),
        }
        super().__init__(folder, ways, files, removalGracePeriodSeconds=1)

    def rolls_out(self, name: str, **changes: str) -> str:
        """Merge a run, with other changes of files in the same commit, and wait for its end; return the commit."""
        files = {path.replace("__", "/") + ".yaml": text for path, text in changes.items()}
        self.push(f"Roll out {name}", {**files, f"runs/{name}.yaml": run(name, placement=WEB.name)})
        commit = servers.git(self.clone, "rev-parse", "HEAD")
        self.command("wait", name, "--timeout", "60s")
        return commit

    def values(self) -> list[str | None]:
        """Return the value that the config map has on every member; None where it, or its namespace, is gone."""
        what = ("get", "configmap", "settings", "-n", APP, "-o", "json", "--ignore-not-found")
        found = [plane.kubectl(*what) for plane in self.planes.values()]
        return [json.loads(text)["data"]["key"] if text else None for text in found]

    def leftovers(self) -> list[str]:
        """Return what is left of the application on any member."""
        what = ("get", "namespace", APP, "-o", "name", "--ignore-not-found")
        return [text for plane in self.planes.values() if (text := plane.kubectl(*what))]


@pytest.fixture
def fleet(members, tmp_path: Path) -> Iterator[Fleet]:
    """`value1` is on all three members; the members are left as they were found."""
    one = Fleet(tmp_path, members)
    with one.serving():
        one.rolls_out("first")
        assert one.values() == ["value1"] * 3
        yield one
    for plane in members:
        plane.kubectl("delete", "namespace", APP, "--ignore-not-found", "--wait=false")
        parent = inventories.name_of(WEB)
        plane.kubectl("delete", "configmap", "-n", inventories.NAMESPACE, parent, "--ignore-not-found")


def test_the_revert_of_a_run_brings_back_what_was_there(fleet: Fleet) -> None:
    fleet.rolls_out("second", resources__settings=manifests.config_map("value2", namespace=APP))
    assert fleet.values() == ["value2"] * 3
    servers.git(fleet.clone, "revert", "--no-edit", "HEAD")
    servers.git(fleet.clone, "push", "--quiet", "origin", "HEAD:main")
    until(lambda: "second-rollback" in fleet.command("get", "csur"))
    fleet.command("wait", "second-rollback", "--timeout", "60s")
    assert fleet.values() == ["value1"] * 3
    fleet.command("replay", "second-rollback")


def test_a_run_clears_the_clusters_that_are_chosen_no_more(fleet: Fleet) -> None:
    fleet.rolls_out("second", placements__removal=placed("member1", "member2"))
    until(lambda: fleet.values() == ["value1", "value1", None])
    until(lambda: len(fleet.leftovers()) == 2)


def test_what_a_removed_placement_placed_is_removed_and_nothing_else(fleet: Fleet) -> None:
    fleet.planes["member1"].kubectl("create", "configmap", "somebody-elses", "-n", "default")
    fleet.push("Clean up", {"placements/removal.yaml": None, "runs/first.yaml": None, "strategies/rings.yaml": None})
    until(lambda: fleet.leftovers() == [])
    assert fleet.planes["member1"].kubectl("get", "configmap", "somebody-elses", "-n", "default", "-o", "name")
    fleet.planes["member1"].kubectl("delete", "configmap", "somebody-elses", "-n", "default")
    until(lambda: fleet.status_files()["placements/_cluster/removal/clusters.yaml"].count("complete_at:") == len(NAMES))
    pushes = servers.git(fleet.remote, "rev-list", "--count", "fleet-status")
    fleet.push("Say nothing new", {"notes.txt": "x\n"})
    fleet.command("get", "crp")
    assert int(servers.git(fleet.remote, "rev-list", "--count", "fleet-status")) - int(pushes) <= 1
