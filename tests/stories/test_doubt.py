"""In doubt nothing is touched, and the doubt is said aloud: damage, lost histories, clocks that disagree."""

import json
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.commands import run as command_line
from reconciler.commands.opening import open_fleet
from reconciler.daemon import derive
from tests import manifests, servers
from tests.manifests import run, stage, strategy
from tests.world import World, encoded


@pytest.fixture
def asking(rings: World) -> World:
    """A run that waits for the approval of its canary."""
    rings.commits("strategies/rings.yaml", strategy(stage("canary", approval=True), stage("prod")))
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    return rings


# -- the watched branch ------------------------------------------------------------------------------------------


def test_a_pull_that_is_learnt_of_at_a_head_already_derived_changes_no_identity(rings: World):
    """One daemon has derived the merge before the other records the head that it put on a side branch."""
    first, second = rings.daemons[0], rings.starts_another()
    rings.passes()
    rings.branches("clone")
    rings.commits("README.md", "x\n", on="clone")
    recorded = rings.commits("runs/web-1.yaml", run("web-1"))
    merge = rings.pulls("clone")
    servers.hook(rings.remote, "pre-receive", "exit 1")
    first.settles()
    (rings.remote / "hooks" / "pre-receive").unlink()
    rings.rewrites(recorded)
    second.step()
    uid = rings.run("web-1").uid
    rings.rewrites(merge)
    first.settles()
    assert rings.status().fleet.follows == {merge: recorded}
    assert [(one.uid, one.end) for one in rings.runs()] == [(uid, "Succeeded")]
    assert rings.events("web-1").count("RunStarted") == 1


def forgets(world: World, *, again: bool) -> tuple[str, str]:
    """Rewrite the commit of the run away (`again`: commit it anew), as if nobody had ever seen it; return OLD, NEW."""
    old = world.head()
    world.rewrites(servers.git(world.remote, "rev-parse", "main~1"))
    new = world.commits({"runs/web-1.yaml": run("web-1")} if again else {"README.md": "x\n"}, message="Anew")
    servers.git(world.remote, "reflog", "expire", "--all", "--expire=now")
    servers.git(world.remote, "gc", "--prune=now", "--quiet")
    world.restarts(wiped=True)
    return old, new


@pytest.mark.parametrize("again", [True, False], ids=["with the run", "without it"])
def test_a_rewritten_history_of_which_nothing_is_left_holds_before_and_after_it_is_acknowledged(asking: World, again):
    """What was recorded came from commits that are nowhere any more."""
    before = encoded(asking.placement())
    old, new = forgets(asking, again=again)
    asking.passes()
    assert asking.trouble.startswith(f"HistoryRewritten: the recorded head {old[:7]} is not in the history of")
    asking.commits("README.md", "y\n", f"Accept\n\nAcknowledge-Rewrite: {old} {new}\n")
    asking.approves("web-1", "canary")
    for wiped in (False, True):
        asking.passes(minutes=10)
        assert asking.trouble == ""
        assert "ClusterResourcePlacement web: IdentityLost" in asking.problems()
        assert encoded(asking.placement()) == before
        assert asking.writes("east") == []
        asking.restarts(wiped=wiped)


def test_reading_commands_work_while_a_rewritten_history_is_neither_here_nor_acknowledged(asking: World, capsys):
    old, new = forgets(asking, again=True)
    for message in ("Nothing", f"Accept\n\nAcknowledge-Rewrite: {old} {new}\n"):
        asking.commits("README.md", f"{message}\n", message)
        asking.passes()
        for words in (["get", "csur"], ["describe", "csur", "web-1"], ["validate"]):
            assert (words, command_line([*words, "-C", str(asking.remote)])) == (words, 0)
        assert "web-1" in capsys.readouterr().out


def test_what_was_derived_of_a_repository_is_not_used_for_one_that_took_its_place(world: World, monkeypatch):
    monkeypatch.setattr(derive, "_SAVE_EVERY", 1)
    for name in ("east", "west"):
        world.joins(name)
        for _ in range(2):  # the second time from what was kept
            view = open_fleet(str(world.remote), "main", "fleet-status").derivation.view
            assert list(view.clusters()) == [name]
        shutil.rmtree(world.remote)
        servers.bare_repository(world.remote)


# -- the status branch -------------------------------------------------------------------------------------------


def test_a_status_that_was_set_back_behind_its_members_holds_the_placement_and_overwrites_nothing(rings: World):
    """A daemon that never saw the newer status learns of it from the members' fences."""
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    back = rings.head("fleet-status")
    for number in (2, 3):
        rings.commits("resources/app/settings.yaml", manifests.config_map(f"value{number}"))
        rings.commits(f"runs/web-{number}.yaml", run(f"web-{number}"))
        rings.passes()
    written = {name: rings.writes(name) for name in rings.members}
    servers.git(rings.remote, "update-ref", "refs/heads/fleet-status", back)
    rings.removes("runs/web-2.yaml", "runs/web-3.yaml")
    rings.starts_another()
    for number in range(4, 9):
        rings.commits(f"runs/web-{number}.yaml", run(f"web-{number}", index=0))
        rings.passes(minutes=1)
        assert rings.problems() == ["ClusterResourcePlacement web: BehindFence"]
    assert {name: rings.writes(name) for name in rings.members} == written
    assert rings.values() == {"canary": "value3", "east": "value3", "west": "value3"}


def damages(world: World, how: str) -> None:
    """Let a person change the log of the run on the status branch, or put something beside it."""
    world.damaged = True
    clone = world.folder / "clone-of-status"
    servers.git(world.folder, "clone", "--quiet", "--branch", "fleet-status", str(world.remote), str(clone))
    (path,) = (clone / "runs").rglob("events.jsonl")
    path.write_text(damaged(path.read_text(), how, clone))
    servers.git(clone, "add", "--all")
    servers.git(clone, "commit", "--quiet", "--message", "Help a little")
    servers.git(clone, "push", "--quiet", "origin", "HEAD:fleet-status")


def damaged(text: str, how: str, clone: Path) -> str:
    """Return the text of the log as it is after the damage."""
    first, _, rest = text.partition("\n")
    seen = json.loads(first)
    match how:
        case "a state that does not exist":
            seen["spec"]["state"] = "Foo"
        case "no placement in the spec":
            del seen["spec"]["placementName"]
        case "moments without a zone":
            return text.replace('Z"', '"')
        case "a log where none belongs":
            (clone / "placements" / "events.jsonl").write_text("")
            return text
        case "a line too deep to read":
            return "[" * 100_000 + "\n" + text
    return json.dumps(seen) + "\n" + rest


@pytest.mark.parametrize(
    "how",
    [
        "a state that does not exist",
        "no placement in the spec",
        "moments without a zone",
        "a log where none belongs",
        "a line too deep to read",
    ],
)
def test_whatever_was_done_to_a_log_holds_what_it_may_belong_to_and_the_passes_go_on(asking: World, how: str):
    damages(asking, how)
    asking.approves("web-1", "canary")
    asking.passes(minutes=1)
    assert asking.trouble == ""
    assert "ClusterResourcePlacement web: StatusTampered" in asking.problems()
    assert (asking.writes("east"), asking.daemons[0].hands._jobs) == ([], {})
    asking.restarts(wiped=True)
    asking.passes(minutes=1)
    assert asking.writes("east") == []


# -- time, and the end -------------------------------------------------------------------------------------------


def test_no_wait_passes_while_the_status_is_over_a_minute_ahead_of_our_clock(rings: World, monkeypatch):
    """Whoever wrote it had a clock that was ahead, or ours is behind: in neither case is the wait known to be over."""
    behind = timedelta(minutes=2)
    monkeypatch.setattr("reconciler.daemon.reconcile.wall", lambda: rings.clock.now() - behind)
    rings.commits("strategies/rings.yaml", strategy(stage("canary", wait="1h"), stage("prod")))
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    rings.clock.never_before(rings.clock.now() + timedelta(hours=2))
    rings.commits("README.md", "x\n")
    behind = timedelta(hours=2, minutes=1, seconds=1)
    rings.passes()
    assert rings.gate("web-1", "canary", kind="TimedWait").passed_at is None
    assert "no wait passes until they agree" in rings.status().files["README.md"].decode()
    behind = timedelta(minutes=1)
    rings.passes(minutes=1)
    assert rings.run("web-1").end == "Succeeded"


def test_a_daemon_that_ends_with_answers_in_hand_leaves_what_waits_on_the_dashboard(rings: World):
    rings.breaks("canary")
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.daemons[0].step()
    assert "cluster canary in stage canary" in rings.status().files["README.md"].decode()
    rings.daemons[0].reconciler.closing = True
    rings.daemons[0].step()
    assert rings.run("web-1").stages[0].clusters[0].reason == "NotAvailable"
    assert "cluster canary in stage canary" in rings.status().files["README.md"].decode()


def test_a_daemon_that_ends_before_it_planned_anything_leaves_what_waits_on_the_dashboard(asking: World):
    asking.restarts()
    asking.daemons[0].reconciler.closing = True
    tip = asking.head("fleet-status")
    asking.daemons[0].step()
    assert (asking.trouble, asking.head("fleet-status")) == ("", tip)
