"""What happens to the repository, and to those who write it."""

import pytest

from reconciler.commands import run as command_line
from reconciler.core.status import FORMAT
from reconciler.status_branch import store
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


# -- the watched branch ------------------------------------------------------------


def test_a_rewritten_history_holds_everything_until_it_is_acknowledged(asking: World):
    old, before = asking.head(), encoded(asking.placement())
    asking.rewrites(servers.git(asking.remote, "rev-parse", "main~1"))
    asking.commits("runs/web-1.yaml", run("web-1"), "The same again")
    asking.approves("web-1", "canary")
    asking.passes(minutes=10)
    assert asking.trouble.startswith(f"HistoryRewritten: the recorded head {old[:7]} is not in the history of")
    assert asking.problems() == ["main: HistoryRewritten"]
    assert encoded(asking.placement()) == before
    assert asking.writes("east") == []
    new = asking.head()
    asking.commits("README.md", "x\n", f"Accept the new history\n\nAcknowledge-Rewrite: {old} {new}\n")
    asking.passes()
    assert asking.trouble == ""
    assert asking.problems() == []
    assert [one.key.name for one in asking.runs()] == ["web-1"]
    assert asking.status().fleet.follows == {new: old}


def test_a_run_goes_on_after_an_acknowledged_rewrite(asking: World):
    old = asking.head()
    asking.rewrites(servers.git(asking.remote, "rev-parse", "main~1"))
    new = asking.commits("runs/web-1.yaml", run("web-1"), "The same again")
    asking.commits("README.md", "x\n", f"Accept the new history\n\nAcknowledge-Rewrite: {old} {new}\n")
    asking.passes()
    asking.approves("web-1", "canary")
    asking.passes()
    assert asking.run("web-1").end == "Succeeded"


def test_an_acknowledgement_of_another_rewrite_does_not_help(asking: World):
    old = asking.head()
    asking.rewrites(servers.git(asking.remote, "rev-parse", "main~1"))
    asking.commits("runs/web-2.yaml", run("web-2"))
    asking.commits("README.md", "x\n", f"Accept\n\nAcknowledge-Rewrite: {'0' * 40} {asking.head()}\n")
    asking.passes()
    assert asking.trouble.startswith(f"HistoryRewritten: the recorded head {old[:7]}")


def test_a_stale_replica_holds_until_it_has_caught_up(asking: World):
    head = asking.head()
    asking.rewrites(servers.git(asking.remote, "rev-parse", "main~1"))
    asking.passes(minutes=10)
    assert asking.trouble.startswith("StaleHead: the remote shows")
    asking.rewrites(head)
    asking.approves("web-1", "canary")
    asking.passes()
    assert asking.run("web-1").end == "Succeeded"


def test_an_ordinary_pull_that_puts_the_recorded_head_on_a_side_branch_rewrites_nothing(asking: World):
    """The merge follows the recorded head as one commit, and the same is derived from nothing."""
    old, uid = asking.head(), asking.run("web-1").uid
    asking._bases["clone"] = servers.git(asking.remote, "rev-parse", "main~1")
    servers.git(asking.remote, "update-ref", "refs/heads/clone", asking._bases["clone"])
    asking.commits("resources/app/settings.yaml", manifests.config_map("value2"), on="clone")
    merge = asking.pulls("clone")
    asking.passes()
    assert asking.status().fleet.follows == {merge: old}
    assert [one.uid for one in asking.runs()] == [uid]
    assert [(one.index, one.commit) for one in asking.placement().snapshots][1:] == [(1, merge)]
    asking.restarts(wiped=True)
    asking.approves("web-1", "canary")
    asking.passes()
    assert asking.run("web-1").end == "Succeeded"
    assert [one.uid for one in asking.runs()] == [uid]


def test_two_pulls_one_after_the_other_are_followed_both(asking: World):
    uid = asking.run("web-1").uid
    for number in (1, 2):
        name = f"clone{number}"
        asking._bases[name] = servers.git(asking.remote, "rev-parse", "main~1")
        servers.git(asking.remote, "update-ref", f"refs/heads/{name}", asking._bases[name])
        asking.commits("resources/app/settings.yaml", manifests.config_map(f"pulled{number}"), on=name)
        asking.pulls(name)
        asking.passes()
        assert asking.trouble == ""
    asking.restarts(wiped=True)
    asking.passes()
    assert asking.trouble == ""
    assert len(asking.status().fleet.follows) == 2
    assert [one.uid for one in asking.runs()] == [uid]


# -- the status branch ------------------------------------------------------------


def test_without_a_status_branch_nothing_happens(world: World):
    world.joins("canary", ring="canary")
    world.starts_another()
    world.passes()
    assert world.trouble == "the repository has no branch fleet-status yet: make it with `reconciler init`"
    assert world.head("fleet-status") == ""


def test_a_status_branch_that_is_gone_is_lost(asking: World):
    tip = asking.head("fleet-status")
    servers.git(asking.remote, "update-ref", "-d", "refs/heads/fleet-status")
    asking.approves("web-1", "canary")
    asking.passes(minutes=10)
    assert asking.trouble == (
        f"StatusLost: branch fleet-status was at {tip[:7]} and is gone: nothing is touched; restore it, or start anew "
        "with `reconciler init --re-anchor`"
    )
    assert asking.writes("east") == []
    servers.git(asking.remote, "update-ref", "refs/heads/fleet-status", tip)
    asking.passes()
    assert asking.run("web-1").end == "Succeeded"


def test_a_status_branch_that_was_set_back_is_lost(asking: World):
    tip = asking.head("fleet-status")
    servers.git(asking.remote, "update-ref", "refs/heads/fleet-status", "fleet-status~1")
    asking.approves("web-1", "canary")
    asking.passes(minutes=10)
    assert asking.trouble.startswith(f"StatusLost: branch fleet-status does not descend from {tip[:7]} any more")
    assert asking.writes("east") == []


def tamper(world: World, change: str, ending: str) -> str:
    """Let a person edit a file of the status branch, as a forge's editor does; without a change they delete it."""
    world.damaged = True
    folder = world.folder / "clone-of-status"
    folder.mkdir()
    servers.git(folder, "clone", "--quiet", "--branch", "fleet-status", str(world.remote), ".")
    (path,) = (one for one in folder.rglob(ending) if ".git" not in one.parts)
    if change:
        before, after = change.split(" -> ")
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, after, 1))
    else:
        path.unlink()
    servers.git(folder, "commit", "--quiet", "--all", "--message", "Help a little\n\nFormat: 1")
    servers.git(folder, "push", "--quiet", "origin", "HEAD:fleet-status")
    return str(path.relative_to(folder))


@pytest.mark.parametrize(
    ("change", "ending"),
    [
        pytest.param("UpdateRunWaiting -> UpdateRunSucceeded", "runs/**/run.yaml", id="run.yaml"),
        pytest.param('"reason":"Available" -> "reason":"Refused"', "runs/**/events.jsonl", id="an event of a run"),
        pytest.param('"event":"GateOpened" -> "event":"GatePassed"', "runs/**/events.jsonl", id="an event's name"),
        pytest.param('{"seq":1 -> {"seq":9', "placements/**/events.jsonl", id="a number"),
        pytest.param('"seq" -> x', "runs/**/events.jsonl", id="no event at all"),
        pytest.param("index: 0 -> index: 1", "placements/**/clusters.yaml", id="clusters.yaml"),
        pytest.param('"subject":"Begin" -> "subject":"End"', "placements/**/events.jsonl", id="what a snapshot shows"),
        pytest.param('"now":"2025 -> "now":"2024', "placements/**/events.jsonl", id="a moment that nothing shows"),
    ],
)
def test_a_status_that_somebody_edited_is_held_and_nothing_is_delivered(asking: World, change: str, ending: str):
    tamper(asking, change, ending)
    asking.approves("web-1", "canary")
    asking.passes(minutes=10)
    assert "StatusTampered" in "".join(asking.status().tampered.values())
    assert asking.writes("east") == []


def test_an_edited_approver_is_held_and_not_laundered_by_the_next_commit(asking: World, capsys):
    """Who approved shows in the request alone, which is merely rendered: the digest of the events tells."""
    asking.approves("web-1", "canary")
    asking.passes()
    request = asking.status().files["approvals/_cluster/web-1-canary.yaml"]
    tamper(asking, "Olga <olga -> Eve <eve", "runs/**/events.jsonl")
    for wiped in (False, True):
        asking.commits("README.md", f"{wiped}\n")
        asking.passes(minutes=10)
        assert asking.problems() == ["ClusterResourcePlacement web: StatusTampered"]
        assert asking.status().files["approvals/_cluster/web-1-canary.yaml"] == request
        asking.restarts(wiped=wiped)
    assert command_line(["replay", "web-1", "-C", str(asking.remote)]) == 1
    assert "or one of them was edited" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "ending"),
    [
        pytest.param("Fleet status -> x", "README.md", id="the dashboard"),
        pytest.param("problems -> x", "problems.yaml", id="the problems"),
        pytest.param("targetStage: canary -> targetStage: prod", "approvals/**/*.yaml", id="a request"),
        pytest.param("ClusterResourcePlacement -> x", "placements/**/placement.yaml", id="a placement"),
        pytest.param("resource-hash -> x", "snapshots/**/web-0-snapshot.yaml", id="a snapshot"),
        pytest.param("epoch: 1 -> epoch: 7", "fleet.yaml", id="what the branch is for"),
        pytest.param('"name": "west" -> "name": "best"', "members.jsonl", id="who the members are"),
        pytest.param("", "README.md", id="no dashboard"),
        pytest.param("", "fleet.yaml", id="nothing that says what the branch is for"),
        pytest.param("", "approvals/**/*.yaml", id="no request"),
    ],
)
@pytest.mark.parametrize("wiped", [True, False], ids=["by a new daemon", "by the one that wrote it"])
def test_other_damage_is_written_over(asking: World, change: str, ending: str, wiped):
    before = asking.status().files
    tamper(asking, change, ending)
    if wiped:
        asking.restarts(wiped=True)
    asking.passes()
    assert (asking.trouble, asking.status().files) == ("", before)
    asking.damaged = False
    tip = asking.head("fleet-status")
    asking.passes()
    asking.approves("web-1", "canary")
    assert asking.head("fleet-status") == tip
    asking.passes()
    assert asking.run("web-1").end == "Succeeded"


# -- other formats ---------------------------------------------------------------------------------------------


def formats(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let this be a version that writes another format, and words a condition otherwise."""
    for room in (
        "core.fold",
        "core.rollout",
        "core.seeing",
        "daemon.message",
        "daemon.anchor",
        "status_branch.store",
        "status_branch.reader",
    ):
        monkeypatch.setattr(f"reconciler.{room}.FORMAT", number)
    written = store.run_object
    monkeypatch.setattr(store, "run_object", lambda run, of: {**written(run, of), "writtenBy": f"format {number}"})


def test_an_older_format_is_rendered_anew_once_and_not_judged(asking: World, monkeypatch, capsys):
    tip = asking.head("fleet-status")
    formats(monkeypatch, FORMAT + 1)
    assert command_line(["replay", "web-1", "-C", str(asking.remote)]) == 0
    assert f"the status branch has format {FORMAT}, an older one: the facts are the same" in capsys.readouterr().err
    for _ in range(2):
        asking.restarts()
        asking.passes()
        assert (asking.trouble, asking.problems(), asking.status().fleet.format) == ("", [], FORMAT + 1)
        subjects = servers.git(asking.remote, "log", "--format=%s", f"{tip}..fleet-status").splitlines()
        assert subjects == [f"Render the status in format {FORMAT + 1}"]
    assert asking.object("web-1")["writtenBy"] == f"format {FORMAT + 1}"
    asking.approves("web-1", "canary")
    asking.passes()
    assert asking.run("web-1").end == "Succeeded"


def test_an_older_format_in_which_facts_were_changed_is_told_by_replay(asking: World, monkeypatch):
    tamper(asking, "stageName: canary -> stageName: prod", "runs/**/run.yaml")
    formats(monkeypatch, FORMAT + 1)
    assert command_line(["replay", "web-1", "-C", str(asking.remote)]) == 1


def test_a_newer_format_is_only_read(asking: World, monkeypatch):
    formats(monkeypatch, FORMAT + 1)
    asking.restarts()
    asking.passes()
    tip = asking.head("fleet-status")
    formats(monkeypatch, FORMAT)
    asking.restarts()
    asking.approves("web-1", "canary")
    asking.passes(minutes=10)
    assert asking.trouble.endswith(
        f"has format {FORMAT + 1}, this version writes {FORMAT}: read-only until it is upgraded"
    )
    assert (asking.head("fleet-status"), asking.writes("east")) == (tip, [])
    formats(monkeypatch, FORMAT + 1)
    asking.restarts()
    asking.passes()


def test_a_placement_is_not_held_by_what_was_done_to_another(asking: World):
    selector = [{"group": "", "version": "v1", "kind": "Namespace", "name": "b"}]
    asking.commits(
        "resources/b.yaml", manifests.text({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "b"}})
    )
    asking.commits("placements/b.yaml", manifests.placement("b", resourceSelectors=selector))
    asking.passes()
    tamper(asking, "UpdateRunWaiting -> UpdateRunSucceeded", "runs/**/run.yaml")
    asking.commits("runs/b-1.yaml", run("b-1", placement="b"))
    asking.passes()
    assert asking.gate("b-1", "canary").request == "b-1-canary"


# -- two daemons ------------------------------------------------------------


def test_of_two_daemons_only_one_moves_and_nothing_is_done_twice(asking: World):
    asking.starts_another()
    asking.passes()
    asking.approves("web-1", "canary")
    asking.passes()
    assert [one.trouble for one in asking.daemons] == ["", ""]
    assert asking.run("web-1").end == "Succeeded"
    starts = [one for one in asking.events("web-1") if one == "ClusterStarted"]
    assert len(starts) == 3
    assert asking.values() == {"canary": "value1", "east": "value1", "west": "value1"}


def test_two_daemons_pass_by_pass_come_to_the_same_as_one(asking: World):
    """Whoever loses a push reads again; the status of both is the same in the end."""
    first, second = asking.daemons[0], asking.starts_another()
    asking.approves("web-1", "canary")
    for _ in range(20):
        first.step()
        second.step()
    assert asking.run("web-1").end == "Succeeded"
    states = [one.reconciler.status for one in (first, second)]
    assert states[0] is not None
    assert states[1] is not None
    assert encoded(states[0].placements[asking.placement().key]) == encoded(asking.placement())
    assert encoded(states[1].placements[asking.placement().key]) == encoded(asking.placement())


def test_a_daemon_that_wakes_up_late_cannot_bring_old_content_back(rings: World):
    """Its push is refused, and on the member its fence is too low."""
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.breaks("canary")
    sleeper = rings.daemons[0]
    for _ in range(3):
        sleeper.step()
    rings.starts_another()
    rings.commits("resources/app/settings.yaml", manifests.config_map("value2"))
    rings.commits("runs/web-2.yaml", run("web-2"))
    rings.heals("canary")
    rings.daemons[1].settles()
    assert rings.values() == {"canary": "value2", "east": "value2", "west": "value2"}
    sleeper.hands.tell_again()
    sleeper.hands.works()
    rings.passes()
    assert rings.values() == {"canary": "value2", "east": "value2", "west": "value2"}
    assert (rings.run("web-1").end, rings.run("web-2").end) == ("Superseded", "Succeeded")


def test_while_a_push_is_refused_nothing_is_touched_and_it_goes_on_after(asking: World):
    servers.hook(asking.remote, "pre-receive", "echo the disk is full >&2; exit 1")
    asking.approves("web-1", "canary")
    asking.passes()
    assert "the disk is full" in asking.trouble
    assert asking.writes("east") == []
    (asking.remote / "hooks" / "pre-receive").unlink()
    asking.passes()
    assert asking.trouble == ""
    assert asking.run("web-1").end == "Succeeded"


def test_outcomes_that_could_not_be_recorded_are_told_again(rings: World):
    rings.breaks("canary")
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    servers.hook(rings.remote, "pre-receive", "exit 1")
    rings.heals("canary")
    rings.passes()
    rings.passes()
    assert rings.running() == {"canary"}
    (rings.remote / "hooks" / "pre-receive").unlink()
    rings.passes()
    assert rings.run("web-1").end == "Succeeded"


def test_a_remote_that_is_away_holds_nothing_longer_than_it_is_away(asking: World):
    asking.remote.rename(asking.remote.with_name("away.git"))
    asking.daemons[0].settles()
    assert asking.trouble != ""
    asking.remote.with_name("away.git").rename(asking.remote)
    asking.approves("web-1", "canary")
    asking.passes()
    assert asking.run("web-1").end == "Succeeded"


# -- when it is looked does not matter ------------------------------------------------------------


def history(world: World, look) -> None:
    """Commit a history with everything that identities, snapshots and pins follow from; `look` after each commit."""
    rings = [("canary", "canary"), ("east", "prod")]
    for name, ring in rings:
        world.joins(name, ring=ring)
    for changes in (
        {"resources/app.yaml": manifests.namespace(), "placements/web.yaml": manifests.placement()},
        {"resources/settings.yaml": manifests.config_map("value1")},
        {"runs/web-1.yaml": run("web-1", state="Initialize")},
        {"strategies/rings.yaml": strategy(stage("canary", approval=True), stage("prod"))},
        {"resources/settings.yaml": manifests.config_map("value2"), "runs/broken.yaml": "a: ["},
        {"resources/settings.yaml": manifests.config_map("value1")},
        {"runs/web-2.yaml": run("web-2", index=1, state="Initialize"), "runs/broken.yaml": None},
        {"clusters/east.yaml": manifests.cluster("east", ring="canary")},
        {"clusters/east.yaml": None, "clusters/moved.yaml": manifests.cluster("east", ring="prod")},
        {"runs/web-1.yaml": None},
        {"runs/web-1.yaml": run("web-1", state="Initialize")},
    ):
        look()
        world.commits(changes)
    look()


def facts(world: World) -> dict:
    """Return the identities, snapshots and pins that a status tells."""
    state = world.placement()
    runs = {run.uid: (run.key, run.created, run.position, run.pin, run.failure) for run in state.runs.values()}
    newest = {uid: held for uid, held in runs.items() if uid in {world.run(name).uid for name in ("web-1", "web-2")}}
    return {"uid": state.uid, "snapshots": state.snapshots, "policies": state.policies, "runs": newest}


def test_commits_give_the_same_at_once_as_one_by_one(tmp_path, monkeypatch):
    """Snapshots, identities and pins depend on the history alone, not on when anybody looked."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("uuid.uuid4", lambda: "7f1d5b1c-0000-4000-8000-000000000000")
    worlds = []
    for name in ("at once", "one by one"):
        (tmp_path / name).mkdir()
        world = World(folder=tmp_path / name)
        world.commits("README.md", "A fleet\n")
        world.begins()
        history(world, world.passes if name == "one by one" else lambda: None)
        world.passes()
        world.is_sound()
        worlds.append(world)
    once, each = (facts(world) for world in worlds)
    assert len(once["runs"]) == 2
    assert [one.equals for one in once["snapshots"]] == [None, None, None, 1]
    assert once == each
    for world in worlds:
        world.ends()


def test_a_daemon_without_its_cache_derives_the_same(asking: World):
    before = encoded(asking.placement())
    asking.restarts(wiped=True)
    asking.passes()
    assert encoded(asking.placement()) == before
    asking.starts_another()
    asking.passes()
    assert encoded(asking.placement()) == before
