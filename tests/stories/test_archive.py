"""Runs that are over and whose file is gone leave the tree of the status branch; its history still tells them."""

import pytest

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
    assert done.log().endswith("Observed-Commit: <Remove runs/web-1.yaml>\nFormat: 3")


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
    assert tree(done) == {"web-1", "web-2", "web-2-rollback"}
    rolls_out(done, "v3", "web-3")
    assert tree(done) == {"web-1", "web-2", "web-2-rollback", "web-3"}
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


def test_a_log_that_somebody_removes_is_no_archived_run(done: World):
    rolls_out(done, "v2", "web-2")
    clone = servers.clone_of(done.remote, done.folder / "hand")
    servers.git(clone, "fetch", "-q", "origin", "fleet-status")
    servers.git(clone, "checkout", "-q", "-b", "fleet-status", "FETCH_HEAD")
    servers.git(clone, "rm", "-rq", "runs/_cluster/web-1")
    servers.git(clone, "commit", "-qm", "Tidy up\n\nObserved-Commit: " + done.head("main"))
    servers.git(clone, "push", "-q", "origin", "fleet-status")
    done.damaged = True
    done.passes()
    assert "events [5, 6, 7, 8, 9] are missing" in "".join(done.status().tampered.values())
