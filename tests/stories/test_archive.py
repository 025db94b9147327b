"""Runs that are over and whose file is gone leave the tree of the status branch; its history still tells them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.core import archive
from reconciler.core.status import FORMAT, When
from tests import manifests, servers
from tests.manifests import run, stage, strategy
from tests.world import World


def tree(world: World) -> set[str]:
    """Return the runs that the tree of the status branch holds."""
    return {path.split("/")[2] for path in world.status().files if path.startswith("runs/")}


@pytest.fixture
def done(rings: World) -> World:
    """A world in which a first run is over."""
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    return rings


def rolls_out(world: World, value: str, name: str) -> str:
    """Bring a change and its run, and let it happen; return the commit."""
    commit = world.commits(
        {"resources/app/settings.yaml": manifests.config_map(value), f"runs/{name}.yaml": run(name)},
        f"Roll out {value}",
    )
    world.passes()
    return commit


def test_a_run_that_is_over_leaves_the_tree_when_its_file_does(done: World):
    rolls_out(done, "v2", "web-2")
    assert tree(done) == {"web-1", "web-2"}
    done.removes("runs/web-1.yaml")
    done.passes()
    assert tree(done) == {"web-2"}
    assert (done.run("web-1").end, done.events("web-1")[-1]) == ("Succeeded", "RunCompleted")
    assert done.log().endswith(f"Observed-Commit: <Remove runs/web-1.yaml>\nFormat: {FORMAT}")


def test_a_run_that_ends_with_its_file_leaves_when_its_end_is_told(done: World):
    done.breaks("canary")
    rolls_out(done, "v2", "web-2")
    done.removes("runs/web-2.yaml")
    done.passes()
    assert tree(done) == {"web-1", "web-2"}, "a cluster is still in flight"
    done.heals("canary")
    done.passes()
    assert tree(done) == {"web-1"}
    assert (done.run("web-2").end, done.events("web-2")[-1]) == ("Withdrawn", "ClusterReported")


def test_its_approval_requests_leave_with_it(rings: World):
    gated = strategy(stage("canary", afterStageTasks=[{"type": "Approval"}]), stage("prod"))
    rings.commits({"strategies/rings.yaml": gated, "runs/web-1.yaml": run("web-1")})
    rings.passes()
    rings.approves("web-1", "canary")
    rings.passes()
    rings.removes("runs/web-1.yaml")
    rings.passes()
    assert [path for path in rings.status().files if path.startswith("approvals/")] == []
    assert rings.run("web-1").stages[0].gates[0].approval is not None


def test_what_a_cluster_holds_is_known_when_the_run_that_wrote_it_has_left(done: World):
    done.removes("runs/web-1.yaml")
    done.passes()
    record = done.placement("web").records["canary"]
    assert (record.run_name, record.complete_at is not None) == ("web-1", True)
    done.reverts(rolls_out(done, "v2", "web-2"))
    done.passes()
    assert done.values() == dict.fromkeys(("canary", "east", "west"), "value1")


def test_what_a_rollback_may_have_to_look_up_stays(done: World):
    done.reverts(rolls_out(done, "v2", "web-2"))
    done.passes()
    assert tree(done) == {"web-1", "web-2-rollback"}
    rolls_out(done, "v3", "web-3")
    assert tree(done) == {"web-1", "web-2-rollback", "web-3"}
    done.removes("runs/web-3.yaml")
    done.passes()
    assert tree(done) == {"web-1"}, "no way back can begin at web-3 any more"


def test_nothing_older_starts_after_the_newest_has_left(done: World):
    rolls_out(done, "v2", "web-2")
    done.removes("runs/web-2.yaml")
    done.passes()
    done.restarts()
    done.commits("runs/web-1.yaml", run("web-1", state="Stop"))
    done.passes()
    assert (tree(done), done.values()) == ({"web-1"}, dict.fromkeys(("canary", "east", "west"), "v2"))


def test_a_daemon_that_starts_with_nothing_reads_what_has_left(done: World):
    done.removes("runs/web-1.yaml")
    done.passes()
    done.restarts(wiped=True)
    rolls_out(done, "v2", "web-2")
    assert (done.trouble, done.run("web-2").end) == ("", "Succeeded")


def test_the_ways_back_of_many_reverts_are_walked_once_each(done: World):
    for number in range(4):
        rolls_out(done, f"good {number}", f"good-{number}")
        done.reverts(rolls_out(done, f"bad {number}", f"bad-{number}"))
        done.passes()
    state = done.placement("web")
    steps = list(archive._on_ways_back(state, ()))
    assert len(steps) <= len(state.records) * len(state.runs)
    assert done.values() == dict.fromkeys(("canary", "east", "west"), "good 3")


def test_a_rollback_does_not_leave_before_the_run_that_it_took_back(rings: World):
    rings.commits("strategies/rings.yaml", strategy(stage("prod"), stage("canary")))
    rings.member("east").falls_silent()
    bad = rolls_out(rings, "v2", "web-2")
    rings.commits("strategies/rings.yaml", strategy(stage("canary", approval=True), stage("prod")))
    rolls_out(rings, "v3", "web-3")
    rings.removes("runs/web-2.yaml", message=f'Revert "Roll out v2"\n\nThis reverts commit {bad}.')
    rings.passes()
    rings.approves("web-3", "canary")
    rings.passes()
    rings.heals("east")
    rings.passes()
    assert [one.key.name for one in rings.runs() if one.reverts] == ["web-2-rollback"]
    assert rings.values() == dict.fromkeys(("canary", "east", "west"), "v3")


def test_a_request_that_another_run_of_the_name_asks_stays(rings: World):
    gated = strategy(stage("canary", before=True), stage("prod"))
    placed = manifests.placement("app")
    rings.commits({"strategies/rings.yaml": gated, "placements/app.yaml": placed, "runs/web-1.yaml": run("release")})
    rings.passes()
    rings.approves("release", "canary", name="release-before-canary")
    rings.passes()
    assert rings.run("release").end == "Succeeded"
    rings.removes("runs/web-1.yaml")
    rings.commits("runs/web-1.yaml", run("release", placement="app"))
    rings.passes()
    request = rings.file("approvals/_cluster/release-before-canary.yaml")
    assert request["metadata"]["uid"] == rings.gate("release", "canary", When.BEFORE).request_uid


def by_hand(world: World, change: Callable[[Path], None], message: str) -> None:
    """Commit something on the status branch as a person does, with git."""
    clone = world.folder / f"hand-{world.head('fleet-status')}"
    clone.mkdir()
    servers.git(clone, "clone", "-q", "--branch", "fleet-status", str(world.remote), ".")
    change(clone)
    servers.git(clone, "commit", "-qam", message)
    servers.git(clone, "push", "-q", "origin", "fleet-status")


FORGED = "Tidy up\n\nObserved-Commit: " + "0" * 40
"""A person's commit that took over a message of the daemon's, as `git commit -C` and a cherry-pick do."""


@pytest.mark.parametrize("message", ["Tidy up", FORGED])
@pytest.mark.parametrize(
    "path", ["placements/_cluster/web/events.jsonl", "runs/_cluster/web-1", "runs/_cluster/web-1/*/events.jsonl"]
)
def test_what_somebody_removes_is_no_archived_run_for_a_daemon_that_reads_on(done: World, path: str, message: str):
    by_hand(done, lambda clone: servers.git(clone, "rm", "-rq", path), message)
    done.damaged = True
    done.commits("runs/web-2.yaml", run("web-2"))
    done.passes()
    assert "StatusTampered" in "".join(done.status().tampered.values())
    assert "web-2" not in tree(done)


def test_a_log_that_was_put_right_again_holds_nothing(done: World):
    def edit(clone: Path) -> None:
        (log,) = clone.glob("runs/_cluster/web-1/*/events.jsonl")
        log.write_text(log.read_text().replace("canary", "canarx"))

    by_hand(done, edit, "Help a little")
    done.passes()
    assert done.status().tampered
    by_hand(done, lambda clone: servers.git(clone, "revert", "--no-commit", "HEAD~1"), "Take it back")
    rolls_out(done, "v2", "web-2")
    assert (done.status().tampered, done.run("web-2").end) == ({}, "Succeeded")
