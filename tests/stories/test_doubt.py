"""In doubt nothing is touched, and the doubt is said aloud: damage, lost histories, clocks that disagree."""

import json
import shutil
from dataclasses import replace
from datetime import timedelta
from math import inf
from pathlib import Path

import pytest

from reconciler.commands import run as command_line
from reconciler.commands.opening import open_fleet
from reconciler.core.status import When
from reconciler.daemon import anchor, derive
from reconciler.daemon.clocks import Clocks
from reconciler.errors import RefusedError, TemporaryError
from reconciler.git.mirror import Mirror
from reconciler.settings import Settings
from tests import manifests, servers
from tests.manifests import run, stage, strategy
from tests.world import BEGIN, Daemon, World, encoded


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


@pytest.mark.parametrize("wiped", [True, False], ids=["anew", "as it was"])
def test_a_rewritten_history_of_which_nothing_is_left_goes_on_once_it_is_acknowledged(asking: World, wiped):
    """What was recorded stands: identities, indices, pins; and a daemon that never saw the lost commits goes on."""
    before = encoded(asking.placement())
    old, new = forgets(asking, again=True)
    asking.passes()
    assert asking.trouble.startswith(f"HistoryRewritten: the recorded head {old[:7]} is not in the history of")
    asking.commits("README.md", "y\n", f"Accept\n\nAcknowledge-Rewrite: {old} {new}\n")
    asking.passes()
    assert (asking.trouble, asking.problems()) == ("", [])
    assert encoded(asking.placement()) == before
    asking.restarts(wiped=wiped)
    asking.approves("web-1", "canary")
    asking.passes()
    assert asking.run("web-1").end == "Succeeded"
    asking.commits("resources/app/settings.yaml", manifests.config_map("value2"))
    asking.commits("runs/web-2.yaml", run("web-2"))
    asking.passes()
    assert [(one.index, one.equals) for one in asking.placement().snapshots] == [(0, None), (1, None)]
    asking.approves("web-2", "canary")
    asking.passes()
    assert asking.values() == {"canary": "value2", "east": "value2", "west": "value2"}


def test_a_run_that_a_rewritten_history_does_not_hold_any_more_is_withdrawn(asking: World):
    old, new = forgets(asking, again=False)
    asking.commits("README.md", "y\n", f"Accept\n\nAcknowledge-Rewrite: {old} {new}\n")
    asking.passes(minutes=10)
    assert asking.run("web-1").end == "Withdrawn"
    assert asking.writes("east") == []


def test_who_still_has_the_lost_commits_and_who_never_had_them_derive_the_same(asking: World):
    """Two daemons take turns over a rewritten history, and neither finds a cluster or a run to be another."""
    old = asking.head()
    asking.joins("south", ring="prod")
    new = anew(
        asking, {"runs/web-1.yaml": run("web-1"), "clusters/south.yaml": manifests.cluster("south", ring="prod")}
    )
    asking.starts_another()
    asking.commits("README.md", "y\n", f"Accept\n\nAcknowledge-Rewrite: {old} {new}\n")
    asking.passes()
    asking.approves("web-1", "canary")
    asking.passes()
    asking.commits("resources/app/settings.yaml", manifests.config_map("value2"))
    asking.commits("runs/web-2.yaml", run("web-2"))
    for daemon in asking.daemons:
        daemon.settles()
    asking.approves("web-2", "canary")
    for daemon in reversed(asking.daemons):
        daemon.settles()
    assert (asking.run("web-1").end, asking.run("web-2").end) == ("Succeeded", "Succeeded")
    assert asking.started("web-2") == ["canary", "east", "south", "west"]
    assert "ClusterDeparted" not in asking.events("web-2")


def anew(world: World, changes: dict[str, str | None]) -> str:
    """Rewrite the whole history into one commit with the files at the recorded head and these changes."""
    files = {path: world.text(world.head(), path) for path in world.paths()}
    servers.git(world.remote, "update-ref", "-d", "refs/heads/main")
    new = world.commits({**files, **changes}, message="All of it, anew")
    servers.git(world.remote, "reflog", "expire", "--all", "--expire=now")
    servers.git(world.remote, "gc", "--prune=now", "--quiet")
    return new


@pytest.mark.parametrize("seen", [True, False], ids=["seen", "between two looks"])
def test_a_cluster_that_left_and_came_back_before_a_rewrite_is_the_other_one_after_it(asking: World, *, seen: bool):
    """It kept what it had when it left, and nobody takes it for the one that was rolled out to."""
    asking.joins("south", ring="elsewhere")
    asking.approves("web-1", "canary")
    asking.passes()
    asking.leaves("west")
    if seen:
        asking.passes()
    asking.joins("west", ring="prod")
    asking.passes()
    assert asking.run("web-1").end == "Succeeded"
    before, old = identities(asking.daemons[0]), asking.status().observed
    new = anew(asking, {})
    asking.starts_another()
    asking.commits("README.md", "y\n", f"Accept\n\nAcknowledge-Rewrite: {old} {new}\n")
    asking.removes("placements/web.yaml")
    asking.passes(minutes=20)
    assert [identities(daemon) for daemon in asking.daemons] == [before, before]
    assert asking.values() == {"canary": None, "east": None, "south": None, "west": "value1"}


def test_who_the_members_were_is_not_what_somebody_else_wrote_before_a_rewrite(asking: World):
    """The daemon's own words count, also where it announces the rewrite on top of an edited file."""
    before, old = identities(asking.daemons[0]), asking.status().observed
    tip = asking.head("fleet-status")
    asking.commits("members.jsonl", None, "Help a little", on="fleet-status")
    new = anew(asking, {})
    asking.passes()
    assert asking.trouble.startswith("HistoryRewritten: ")
    assert asking.text("fleet-status", "members.jsonl") == asking.text(tip, "members.jsonl")
    asking.commits("README.md", "y\n", f"Accept\n\nAcknowledge-Rewrite: {old} {new}\n")
    asking.passes()
    assert identities(asking.daemons[0]) == before


def identities(daemon: Daemon) -> dict[str, tuple[str, str]]:
    """Return who the clusters are to a daemon: uid and creation."""
    found = daemon.reconciler.derivation.view.clusters()
    return {name: (one.uid, str(one.created.time)) for name, one in found.items()}


def test_content_that_the_rewritten_history_does_not_hold_is_delivered_by_nobody_who_cannot_read_it(asking: World):
    old = asking.head()
    new = anew(asking, {"resources/app/settings.yaml": manifests.config_map("other")})
    asking.restarts(wiped=True)
    asking.commits("README.md", "y\n", f"Accept\n\nAcknowledge-Rewrite: {old} {new}\n")
    asking.passes()
    asking.approves("web-1", "canary")
    asking.passes(minutes=10)
    assert asking.writes("east") == []
    assert asking.run("web-1").stages[1].clusters[0].message.startswith("SnapshotContentGone: ")
    assert [(one.index, one.commit) for one in asking.placement().snapshots][1:] == [(1, new)]


def test_content_of_lost_commits_that_are_still_in_the_mirror_is_delivered(asking: World):
    old = asking.head()
    new = anew(asking, {"resources/app/settings.yaml": manifests.config_map("other")})
    asking.commits("README.md", "y\n", f"Accept\n\nAcknowledge-Rewrite: {old} {new}\n")
    asking.approves("web-1", "canary")
    asking.passes()
    asking.approves("web-1", "canary", words="still good")
    asking.passes()
    assert asking.run("web-1").end == "Succeeded"
    assert asking.values() == {"canary": "value1", "east": "value1", "west": "value1"}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        pytest.param("runs/web-1.yaml", "a: [", id="the run"),
        pytest.param("clusters/east.yaml", "a: [", id="a cluster"),
        pytest.param("resources/app/settings.yaml", "a: [", id="a resource"),
        pytest.param("runs/web-1.yaml", run("web-1", index=3), id="a run with another snapshot"),
    ],
)
def test_what_is_broken_in_a_rewritten_history_counts_as_recorded_until_it_can_be_read(asking: World, path, text):
    old, before = asking.head(), asking.run("web-1")
    good = asking.text(old, path)
    new = anew(asking, {path: text})
    asking.restarts(wiped=True)
    asking.commits("README.md", "y\n", f"Accept\n\nAcknowledge-Rewrite: {old} {new}\n")
    asking.passes()
    assert asking.trouble == ""
    assert (asking.run("web-1").uid, asking.run("web-1").end) == (before.uid, None)
    assert len(asking.placement().snapshots) == 1
    asking.commits(path, good)
    asking.approves("web-1", "canary")
    asking.passes()
    assert asking.run("web-1").end == "Succeeded"
    assert len(asking.placement().snapshots) == 1


def test_a_rewritten_history_can_be_rewritten_again(asking: World):
    for number in (1, 2):
        old = asking.head()
        new = anew(asking, {"README.md": f"{number}\n"})
        asking.restarts(wiped=True)
        asking.commits("README.md", f"{number} accepted\n", f"Accept\n\nAcknowledge-Rewrite: {old} {new}\n")
        asking.passes()
        assert (asking.trouble, asking.problems()) == ("", [])
    asking.approves("web-1", "canary")
    asking.passes()
    assert asking.run("web-1").end == "Succeeded"
    assert len(asking.status().fleet.acknowledged) == 2


@pytest.mark.parametrize("base", ["main", "main~2"], ids=["after it", "before it"])
def test_a_pull_that_began_around_an_acknowledged_rewrite_changes_no_identity(asking: World, base):
    """The merge follows the recorded head, whose chain begins at what was recorded of the lost history."""
    uid = asking.run("web-1").uid
    old, new = forgets(asking, again=True)
    asking.commits("README.md", "y\n", f"Accept\n\nAcknowledge-Rewrite: {old} {new}\n")
    asking.passes()
    asking._bases["clone"] = servers.git(asking.remote, "rev-parse", base)
    servers.git(asking.remote, "update-ref", "refs/heads/clone", asking._bases["clone"])
    asking.commits("resources/app/settings.yaml", manifests.config_map("value2"), on="clone")
    asking.joins("south", ring="prod")
    asking.passes()
    recorded = asking.status().observed
    merge = asking.pulls("clone")
    asking.passes()
    assert asking.status().fleet.follows == {new: old, merge: recorded}
    for wiped in (False, True):
        asking.restarts(wiped=wiped)
        asking.passes()
        assert (asking.trouble, asking.problems()) == ("", [])
        assert [one.uid for one in asking.runs()] == [uid]
        assert [(one.index, one.commit) for one in asking.placement().snapshots][1:] == [(1, merge)]
    asking.approves("web-1", "canary")
    asking.passes()
    assert asking.run("web-1").end == "Succeeded"


def test_a_rewritten_history_of_namespaces_and_many_runs_goes_on(world: World):
    """Names that came back, runs that ended, failed for good or never began, a placement that left."""
    for name in ("canary", "east"):
        world.joins(name, ring="canary" if name == "canary" else "prod")
    world.commits(
        {
            "resources/app/namespace.yaml": manifests.namespace(),
            "resources/app/settings.yaml": manifests.config_map("value1"),
            "placements/web.yaml": manifests.placement(namespace="app"),
            "placements/all.yaml": manifests.placement("all"),
            "placements/left.yaml": manifests.placement("left"),
            "strategies/rings.yaml": strategy(stage("canary"), stage("prod", before=True), namespace="app"),
            "runs/early.yaml": run("early", namespace="app"),
        }
    )
    world.begins()
    world.passes()
    world.commits({"runs/done.yaml": run("done", namespace="app"), "placements/left.yaml": None})
    world.passes()
    world.approves("done", "prod", name="done-before-prod", namespace="app")
    world.passes()
    assert world.run("done").end == "Succeeded"
    approved = world.text(world.head(), "approvals/done-before-prod.json")
    world.commits({"runs/typo.yaml": run("typo", namespace="app", index=9), "approvals/done-before-prod.json": None})
    world.passes()
    world.commits({"runs/done.yaml": None})
    world.passes()
    before = {run.key.name: (run.uid, run.end, run.failure_final) for run in world.runs()}
    old = world.status().observed
    new = anew(world, {"README.md": "x\n"})
    world.restarts(wiped=True)
    world.commits("README.md", "y\n", f"Accept\n\nAcknowledge-Rewrite: {old} {new}\n")
    world.passes()
    assert (world.trouble, world.problems()) == ("", ["runs/typo.yaml: NotInitialized"])
    assert {run.key.name: (run.uid, run.end, run.failure_final) for run in world.runs()} == before
    world.commits("runs/done.yaml", run("done", namespace="app"))
    world.passes()
    world.commits("approvals/again.json", approved)
    world.passes(minutes=10)
    assert world.run("done").uid != before["done"][0]
    assert world.gate("done", "prod", When.BEFORE).passed_at is None
    assert world.gate("done", "prod", When.BEFORE).refused.startswith("ApprovedBeforeRequested: ")


def test_a_rewritten_history_is_not_followed_while_what_was_recorded_is_damaged(asking: World):
    old, new = forgets(asking, again=True)
    damages(asking, "a state that does not exist")
    asking.commits("README.md", "y\n", f"Accept\n\nAcknowledge-Rewrite: {old} {new}\n")
    asking.passes()
    assert asking.trouble.startswith("StatusTampered: ")
    assert asking.trouble.endswith(
        "until it is restored the rewritten history is not followed, for it is read by what was recorded"
    )


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


def test_a_status_that_was_set_back_and_draws_the_same_numbers_again_holds_the_placement(rings: World):
    """A new run draws the numbers of the one that was lost with the status: the member tells by the content."""
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    rings.commits("resources/app/settings.yaml", manifests.config_map("value2"))
    rings.passes()
    back = rings.head("fleet-status")
    rings.commits("runs/web-2.yaml", run("web-2"))
    rings.passes()
    number = rings.run("web-2").stages[0].clusters[0].seq
    servers.git(rings.remote, "update-ref", "refs/heads/fleet-status", back)
    rings.commits({"runs/web-2.yaml": None, "runs/web-3.yaml": run("web-3", index=0)})
    rings.starts_another()
    rings.passes(minutes=1)
    assert rings.run("web-3").stages[0].clusters[0].seq == number
    assert rings.problems() == ["ClusterResourcePlacement web: BehindFence"]
    assert rings.values() == {"canary": "value2", "east": "value2", "west": "value2"}


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


def anchors_anew(world: World, monkeypatch: pytest.MonkeyPatch, *, remembers: bool = True, **how) -> anchor.Anchored:
    """Let the operator run `init --re-anchor`, where the first daemon's state is at hand (`remembers`) or not."""
    state = world.folder / f"state{remembers}"
    state.mkdir(exist_ok=True)
    if remembers and not (state / "mirror").exists():
        (state / "mirror").symlink_to(world.daemons[0]._folder)
    monkeypatch.setattr(anchor, "open_delivery", lambda name, _: world.delivery(name))
    settings = Settings(repo=str(world.remote), state_dir=state, delivery_default={"type": "awkward"})
    with Mirror.open(world.folder / "anchor", str(world.remote), ("main", "fleet-status")) as source:
        source.fetch()
        return anchor.re_anchor(settings, source, world.head(), world.clock.now(), **how)


@pytest.mark.parametrize("wiped", [True, False], ids=["a new daemon", "the one that saw it"])
@pytest.mark.parametrize("to", ["", "fleet-status~2"], ids=["gone", "set back"])
def test_a_lost_status_branch_is_made_anew_one_epoch_later(asking: World, monkeypatch, wiped, to):
    """Nothing that ran before starts again; the next run delivers everything anew, under the new epoch."""
    before = asking.status().fleet
    servers.git(asking.remote, "update-ref", *([] if to else ["-d"]), "refs/heads/fleet-status", *([to] if to else []))
    asking.passes()
    assert asking.trouble.startswith("StatusLost: ")
    asking.approves("web-1", "canary")
    fleet = anchors_anew(asking, monkeypatch).fleet
    assert (fleet.repository, fleet.epoch) == (before.repository, 2)
    with pytest.raises(RefusedError, match="there and sound"):
        anchors_anew(asking, monkeypatch)
    if wiped:
        asking.restarts(wiped=True)
    asking.passes(minutes=10)
    assert (asking.trouble, asking.run("web-1").end, asking.writes("east")) == ("", "NotStarted", [])
    asking.commits({"runs/web-1.yaml": None, "runs/web-2.yaml": run("web-2")})
    asking.passes()
    asking.approves("web-2", "canary")
    asking.passes()
    assert asking.run("web-2").end == "Succeeded"
    assert {asking.member(name).highest_epoch(before.repository) for name in asking.members} == {2}


def test_with_start_existing_what_a_lost_status_had_started_starts_again(asking: World, monkeypatch):
    servers.git(asking.remote, "update-ref", "-d", "refs/heads/fleet-status")
    anchors_anew(asking, monkeypatch, start_existing=True)
    asking.passes()
    assert asking.gate("web-1", "canary").passed_at is None
    asking.approves("web-1", "canary")
    asking.passes()
    assert asking.run("web-1").end == "Succeeded"


def test_a_daemon_of_the_epoch_before_cannot_write_any_more(asking: World, monkeypatch):
    sleeper = asking.daemons[0]
    asking.breaks("canary")
    asking.commits({"runs/web-2.yaml": run("web-2")})
    asking.passes()
    servers.git(asking.remote, "update-ref", "-d", "refs/heads/fleet-status")
    anchors_anew(asking, monkeypatch)
    asking.heals("canary")
    asking.commits("resources/app/settings.yaml", manifests.config_map("value2"))
    asking.commits("runs/web-3.yaml", run("web-3"))
    asking.starts_another().settles()
    assert asking.value("canary") == "value2"
    sleeper.hands.tell_again()
    sleeper.hands.works()
    assert asking.value("canary") == "value2"
    asking.passes()
    assert asking.value("canary") == "value2"


def test_a_sound_status_branch_is_not_made_anew(asking: World, monkeypatch):
    tip = asking.head("fleet-status")
    with pytest.raises(RefusedError, match="branch fleet-status is there and sound: nothing to do"):
        anchors_anew(asking, monkeypatch)
    assert asking.head("fleet-status") == tip


def test_where_no_status_is_known_the_id_is_asked_for_and_every_member_for_its_epoch(asking: World, monkeypatch):
    repository = asking.status().fleet.repository
    servers.git(asking.remote, "update-ref", "-d", "refs/heads/fleet-status")
    with pytest.raises(RefusedError, match="name the id with --repository-id"):
        anchors_anew(asking, monkeypatch, remembers=False)
    asking.member("west").falls_silent()
    with pytest.raises(RefusedError, match="the epoch of the lost status cannot be told: cluster west does not answer"):
        anchors_anew(asking, monkeypatch, remembers=False, repository=repository)
    asking.heals("west")
    found = anchors_anew(asking, monkeypatch, remembers=False, repository=repository)
    assert (found.fleet.epoch, found.unseen) == (2, ())
    servers.git(asking.remote, "update-ref", "-d", "refs/heads/fleet-status")
    asking.member("west").falls_silent()
    found = anchors_anew(asking, monkeypatch)
    assert (found.fleet.epoch, len(found.unseen)) == (2, 1)


@pytest.mark.parametrize("what", [".", "repository.git", "repository.git/objects", "repository.git/refs"])
def test_a_state_folder_that_is_deleted_under_a_running_daemon_is_made_anew(asking: World, what: str):
    uid = asking.run("web-1").uid
    shutil.rmtree(asking.daemons[0]._folder / what)
    asking.approves("web-1", "canary")
    asking.passes()  # what is damaged and not gone is found out by a pass that fails
    asking.passes()
    assert asking.trouble == ""
    assert (asking.run("web-1").uid, asking.run("web-1").end) == (uid, "Succeeded")
    tip = asking.head("fleet-status")
    servers.git(asking.remote, "update-ref", "refs/heads/fleet-status", "fleet-status~1")
    for _ in range(2):
        asking.passes()
        assert asking.trouble.startswith(f"StatusLost: branch fleet-status does not descend from {tip[:7]} any more")
        asking.restarts()


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


@pytest.mark.parametrize(
    ("remote", "members", "problem"),
    [
        pytest.param(61, {}, "the clock of the repository's server is 1m1s ahead of this clock", id="the remote ahead"),
        pytest.param(-61, {}, "the clock of the repository's server is 1m1s behind this clock", id="the remote behind"),
        pytest.param(60, {}, "", id="the remote a minute ahead"),
        pytest.param(
            None, {"a": 90}, "the clock of 1 of 1 members (a) is 1m30s ahead of this clock", id="the only member"
        ),
        pytest.param(0, {"a": 90, "b": 0}, "", id="one of two members"),
        pytest.param(
            0, {"a": -90, "b": 0, "c": -100}, "the clock of 2 of 3 members (a) is 1m30s behind this clock", id="most"
        ),
        pytest.param(0, {"a": None}, "", id="a member that does not tell"),
    ],
)
def test_clocks_agree_unless_the_remote_or_most_members_are_over_a_minute_off(remote, members, problem):
    def at(seconds):
        return None if seconds is None else BEGIN + timedelta(seconds=seconds)

    clocks = Clocks()
    clocks.hear_remote(at(remote), BEGIN)
    for name, seconds in members.items():
        clocks.hear_member(name, at(seconds), BEGIN)
    assert clocks.problem(BEGIN, BEGIN) == (f"{problem}: no wait passes until they agree" if problem else "")


def test_no_wait_passes_while_the_clocks_of_the_members_disagree_with_ours(rings: World, monkeypatch):
    rings.commits("strategies/rings.yaml", strategy(stage("canary", wait="1h"), stage("prod")))
    rings.commits("runs/web-1.yaml", run("web-1"))
    hands, off = rings.daemons[0].hands, timedelta(minutes=2)
    asked = hands._ask
    monkeypatch.setattr(hands, "_ask", lambda action: replace(asked(action), date=rings.clock.now() + off))
    rings.passes(minutes=62)
    assert rings.gate("web-1", "canary", kind="TimedWait").passed_at is None
    assert "no wait passes until they agree" in rings.status().files["README.md"].decode()
    rings.restarts()
    rings.passes(minutes=2)
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


def sets_back(world: World, to: str) -> None:
    """Commit an earlier state of the status branch on top of it, as `git revert` there would."""
    tree = servers.git(world.remote, "rev-parse", f"{to}^{{tree}}")
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    tip = world.head("fleet-status")
    made = servers.git(world.remote, *who, "commit-tree", tree, "-p", tip, "-m", "Go back to how it was")
    servers.git(world.remote, "update-ref", "refs/heads/fleet-status", made)
    world.damaged = True


def test_a_status_branch_that_was_set_back_by_a_commit_is_held_until_it_is_restored(asking: World):
    """What is left folds by itself; what was taken back must not happen a second time under the same numbers."""
    before = asking.head("fleet-status")
    asking.approves("web-1", "canary")
    asking.passes()
    assert asking.run("web-1").end == "Succeeded"
    after, writes = asking.head("fleet-status"), asking.writes("east")
    sets_back(asking, before)
    for wiped in (False, True):
        asking.restarts(wiped=wiped)
        asking.passes(minutes=2)
        assert any("StatusTampered" in one for one in asking.problems())
        assert asking.writes("east") == writes
    sets_back(asking, after)
    asking.passes()
    assert asking.status().tampered == {}
    assert asking.run("web-1").end == "Succeeded"


def test_a_run_that_was_withdrawn_with_its_placement_does_not_come_back_by_a_rewrite(asking: World):
    asking.removes("placements/web.yaml")
    asking.passes()
    asking.commits("placements/web.yaml", manifests.placement())
    asking.commits("strategies/rings.yaml", strategy(stage("canary"), stage("prod")))
    asking.passes()
    asking.commits("notes.txt", "x")
    asking.commits("resources/app/settings.yaml", manifests.config_map("value9"))
    asking.passes()
    old = asking.head()
    asking.rewrites(servers.git(asking.remote, "rev-parse", f"{old}^1"))
    new = asking.commits("resources/app/settings.yaml", manifests.config_map("value8"))
    asking.commits("notes2.txt", "z", f"Accept\n\nAcknowledge-Rewrite: {old} {new}")
    asking.passes()
    assert asking.trouble == ""
    assert [one.key.name for one in asking.runs()] == ["web-1"]
    assert asking.value("east") is None


def test_a_branch_made_anew_after_an_accepted_rewrite_is_derived_alike_by_everybody(asking: World, monkeypatch):
    """The daemon that has seen the lost commits forgets them with the record of them."""
    asking.commits("resources/app/settings.yaml", manifests.config_map("lost"))
    asking.passes()
    old = asking.head()
    asking.rewrites(servers.git(asking.remote, "rev-parse", f"{old}^1"))
    new = asking.commits("resources/app/settings.yaml", manifests.config_map("other"))
    asking.commits("notes.txt", "z", f"Accept\n\nAcknowledge-Rewrite: {old} {new}")
    asking.passes()
    assert [one.index for one in asking.placement().snapshots] == [0, 1, 2]
    asking.damaged = True
    servers.git(asking.remote, "update-ref", "-d", "refs/heads/fleet-status")
    anchors_anew(asking, monkeypatch)
    asking.passes()
    asking.starts_another()
    asking.passes()
    assert [daemon.trouble for daemon in asking.daemons] == ["", ""]
    assert [(one.index, one.commit) for one in asking.placement().snapshots][1:] == [(1, new)]
    derived = [daemon.reconciler.derivation.view.snapshots for daemon in asking.daemons]
    assert derived[0] == derived[1]


def test_a_removal_is_not_carried_out_by_a_daemon_that_has_lost_sight_of_the_repository(rings: World, monkeypatch):
    """It was asked once, at its start; hours later the placement was there again, and its objects were deleted."""
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    rings.member("west").falls_silent()
    rings.removes("placements/web.yaml")
    rings.passes(minutes=15)
    one, other = rings.daemons[0], rings.starts_another()
    rings.commits("placements/web.yaml", manifests.placement())
    monkeypatch.setattr(one.mirror, "heads", unwell)
    other.settles()
    rings.heals("west")
    one.reconciler._confirmed_at = -inf  # what time does
    one.hands.poke_all()
    one.hands.works()
    assert rings.value("west") == "value1"
    monkeypatch.undo()


def unwell(*_: object) -> None:
    raise TemporaryError("ls-remote: no route to host")
