"""Reading commands tell when nothing may be touched: what is held, by what, and what helps."""

import json
from dataclasses import replace

import pytest

from reconciler import clock
from reconciler.commands.opening import open_fleet
from reconciler.daemon import guards
from tests import manifests, servers
from tests.commands.conftest import Command
from tests.world import World


def tampers(world: World) -> None:
    """Take an event out of the log of the run."""
    [path] = [path for path in world.status().logs if path.startswith("runs/")]
    lines = world.text("fleet-status", path).strip().splitlines()
    world.commits(path, "\n".join([lines[0], *lines[2:]]) + "\n", on="fleet-status")
    world.damaged = True


REWRITTEN = "the whole fleet is held: HistoryRewritten: the recorded head "


@pytest.mark.parametrize("seen", [True, False], ids=["the daemon has told it", "the daemon has not looked yet"])
@pytest.mark.parametrize("words", ["get csur", "get problems", "describe crp web", "wait web-1 --timeout 0"])
def test_a_rewritten_history_is_told_with_the_command_that_helps(asking, ask: Command, words, seen):
    asking.rewrites(servers.git(asking.remote, "rev-parse", "main~1"))
    asking.commits("README.md", "x\n")
    if seen:
        asking.passes()
    said = ask(asking.remote, *words.split())
    first, second = said.err.splitlines()[:2]
    assert first.startswith(f"warning: {REWRITTEN}")
    assert second == "  next: reconciler acknowledge-rewrite"
    assert "is `reconciler serve` running" not in said.err


@pytest.mark.parametrize("same", [True, False], ids=["the same run", "another spec"])
def test_a_run_that_a_rewrite_commits_again_is_there_once(asking, ask: Command, *, same: bool):
    """Seen: listed twice while held, as recorded and as committed again; its tree told nothing of what it had done."""
    texts = {path: asking.text("main", path) for path in asking.paths()}
    texts["runs/web-1.yaml"] = manifests.run("web-1", index=None if same else 0)
    asking.rewrites(servers.git(asking.remote, "rev-parse", "main~3"))
    asking.commits(texts, message="Squash")
    for accepted in (False, True):
        [row] = ask(asking.remote, "get", "csur", "--no-headers").out.splitlines()
        assert ("True" in row.split()) == same
        told = ask(asking.remote, "tree", "web-1").out
        assert ("waits for web-1-canary" in told) == same
        assert len(ask(asking.remote, "get", "csur", "--all", "--no-headers").out.splitlines()) == (1 if same else 2)
        if not accepted:
            assert ask(asking.remote, "acknowledge-rewrite").code == 0


@pytest.mark.parametrize("same", [True, False], ids=["the same placement", "edited"])
def test_a_placement_that_a_rewrite_commits_again_is_there_once(asking, ask: Command, *, same: bool):
    """Seen: listed twice with --all while held, as recorded and as committed again, and without its conditions."""
    texts = {path: asking.text("main", path) for path in asking.paths()}
    if not same:
        texts["placements/web.yaml"] = manifests.placement(revisionHistoryLimit=5)
    asking.rewrites(servers.git(asking.remote, "rev-parse", "main~3"))
    asking.commits(texts, message="Squash")
    for step in ("held", "accepted", "taken up"):
        for words in ("get crp", "get crp --all"):
            [row] = ask(asking.remote, *words.split(), "--no-headers").out.splitlines()
            assert row.split()[2] == "True", (step, words)
        if step == "held":
            assert ask(asking.remote, "acknowledge-rewrite").code == 0
        else:
            asking.passes()


def test_problems_list_the_holds_that_the_status_branch_holds(asking, ask: Command):
    asking.rewrites(servers.git(asking.remote, "rev-parse", "main~1"))
    asking.commits("README.md", "x\n")
    asking.passes()
    [problem] = json.loads(ask(asking.remote, "get", "problems", "-o", "json").out)["problems"]
    assert (problem["path"], problem["rule"]) == ("main", "HistoryRewritten")
    assert problem["message"].startswith("the recorded head ")  # the rule is told once


def test_an_acknowledged_rewrite_waits_for_the_daemon_only(asking, ask: Command):
    asking.rewrites(servers.git(asking.remote, "rev-parse", "main~1"))
    new = asking.commits("README.md", "x\n")
    assert ask(asking.remote, "acknowledge-rewrite").code == 0
    said = ask(asking.remote, "get", "csus")
    assert f"{new[:7]} is acknowledged to follow" in said.err
    assert "next:" not in said.err
    asking.passes()
    assert "held" not in ask(asking.remote, "get", "csus").err


def test_a_stale_head_is_told(asking, ask: Command):
    asking.rewrites(servers.git(asking.remote, "rev-parse", "main~1"))
    assert "the whole fleet is held: StaleHead: the remote shows " in ask(asking.remote, "get", "csus").err


def test_a_damaged_log_is_told_wherever_its_run_is_asked_for(asking, ask: Command):
    """The run has no state then, and nobody may ask whether the daemon runs."""
    tampers(asking)
    why = "ClusterResourcePlacement web is held: StatusTampered: runs/_cluster/web-1/"
    tree = ask(asking.remote, "tree", "web-1")
    assert tree.out.splitlines()[1].strip().startswith(why)
    assert tree.out.splitlines()[2].strip() == "next: git log -p fleet-status"
    waited = ask(asking.remote, "wait", "web-1", "--timeout", "0")
    assert waited.code == 3
    assert f"still waiting: {why}" in waited.err
    assert f"  Waits For:  {why}" in ask(asking.remote, "describe", "csur", "web-1").out
    assert f"warning: {why}" in ask(asking.remote, "get", "crp").err
    for said in (tree, waited):
        assert "is `reconciler serve` running" not in said.out + said.err


def test_a_run_whose_log_was_edited_is_held_and_shown_as_it_was_recorded(asking, ask: Command):
    """Its columns were blank, and its state that of a run which nobody has seen."""
    before = ask(asking.remote, "get", "csur", "-o", "json").out
    assert '"Initialized"' in before
    tampers(asking)
    assert ask(asking.remote, "get", "csur", "-o", "json").out == before
    assert ask(asking.remote, "get", "csur", "-o", "wide").out.splitlines()[1].endswith(" Held")


def test_a_hold_of_one_placement_on_record_is_told_with_the_placement(asking, ask: Command):
    path = "problems.yaml"
    text = "problems:\n- path: ClusterResourcePlacement web\n  rule: IdentityLost\n  message: it is not here\n"
    asking.commits(path, text, on="fleet-status")
    assert (
        "warning: ClusterResourcePlacement web is held: IdentityLost: it is not here\n"
        in ask(asking.remote, "get", "crp").err
    )
    tree = ask(asking.remote, "tree", "web-1").out.splitlines()
    assert tree[1].strip() == "ClusterResourcePlacement web is held: IdentityLost: it is not here"
    described = ask(asking.remote, "describe", "crp", "web").out
    assert "Held:  ClusterResourcePlacement web is held: IdentityLost: it is not here" in described


@pytest.mark.parametrize("how", ["gone", "set back", "begun anew"])
def test_a_status_branch_that_was_lost_is_told_with_the_way_back(asking, ask: Command, how):
    assert ask(asking.remote, "get", "csur").err == ""
    was = asking.head("fleet-status")
    there = {"gone": None, "set back": servers.git(asking.remote, "rev-parse", "fleet-status~1")}
    servers.git(asking.remote, "update-ref", "-d", "refs/heads/fleet-status")
    if how == "begun anew":
        assert ask(asking.remote, "init").code == 0
    elif there[how]:
        servers.git(asking.remote, "update-ref", "refs/heads/fleet-status", there[how])
    said = ask(asking.remote, "wait", "web-1", "--timeout", "0")
    where = "is gone" if how == "gone" else "does not descend from it any more"
    assert f"StatusLost: branch fleet-status was at {was[:7]} and {where}" in said.err
    assert "reconciler init\n" not in said.err
    assert "begun anew with `reconciler init --re-anchor`" in said.err
    [command] = {line for line in said.err.splitlines() if line.startswith("  next: git -C ")}
    servers.git(asking.remote, *command.split()[4:])
    assert asking.head("fleet-status") == was
    assert "held" not in ask(asking.remote, "get", "csur").err


def test_a_repository_that_took_the_place_of_another_has_lost_nothing(asking, ask: Command, tmp_path):
    assert ask(asking.remote, "get", "csur").code == 0
    asking.remote.rename(tmp_path / "old.git")
    servers.bare_repository(asking.remote)
    asking.commits("README.md", "x\n")
    assert ask(asking.remote, "get", "csur").err.startswith("no status branch yet: reconciler init\n")


def test_a_hold_that_begins_while_somebody_watches_is_told_once(asking, ask: Command, monkeypatch):
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            asking.rewrites(servers.git(asking.remote, "rev-parse", "main~1"))
        if len(slept) == 3:
            asking.commits("README.md", "x\n")
        if len(slept) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(clock, "sleep", sleep)
    said = ask(asking.remote, "get", "csus", "-w")
    assert said.code == 130
    rules = [line.split(": ")[2] for line in said.err.splitlines() if line.startswith("warning: the whole fleet")]
    assert rules == ["StaleHead", "HistoryRewritten"]


def test_what_the_history_contradicts_names_the_commit_that_helps(asking):
    fleet = open_fleet(str(asking.remote), "main", "fleet-status")
    [(key, state)] = fleet.status.placements.items()
    [snapshot], [run] = state.snapshots, state.runs.values()
    other = replace(snapshot, index=1, hash="e" * 64, commit="c" * 40)

    def why(**changes):
        status = replace(fleet.status, placements={key: replace(state, **changes)})
        return guards.held(status, key, fleet.derivation.view)

    assert why() == ""
    assert why(snapshots=(snapshot, other)) == (
        "SnapshotChanged: 2 snapshots are recorded, the history gives 1: "
        "bring back commit ccccccc, which made snapshot 1"
    )
    assert why(snapshots=(replace(other, index=0),)) == (
        "SnapshotChanged: snapshot 0 was recorded with hash eeeeeee, the history now gives "
        f"{snapshot.hash[:7]}: bring back commit ccccccc, which made it"
    )
    assert why(runs={"x": replace(run, uid="x", commit="d" * 40)}) == (
        f"IdentityLost: {run.key} was recorded under an identity that this history does not give: the commits it came "
        "from are not here; bring them back, up to commit ddddddd"
    )
