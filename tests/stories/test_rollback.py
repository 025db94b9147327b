"""Reverting the commit of a run: every cluster it was the last to write returns to what it had before."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from tests import manifests
from tests.awkward import Awkward
from tests.manifests import run, stage, strategy
from tests.world import World

BACK = {"canary": "value1", "east": "value1", "west": "value1"}
NEW = {"canary": "value2", "east": "value2", "west": "value2"}


def change(value: str, name: str, **how: str) -> dict[str, str]:
    """Return what a pull request brings that changes the content and rolls it out."""
    return {"resources/app/settings.yaml": manifests.config_map(value), f"runs/{name}.yaml": run(name, **how)}


@pytest.fixture
def one_done(rings: World) -> World:
    """`value1` is everywhere, by the run web-1."""
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    assert rings.values() == BACK
    return rings


def test_the_revert_of_a_merge_rolls_back_what_its_run_rolled_out(one_done: World):
    one_done.branches("change")
    one_done.commits(change("value2", "web-2"), on="change")
    merge = one_done.merges("change")
    one_done.passes()
    assert one_done.values() == NEW
    one_done.reverts(merge)
    one_done.passes()
    assert one_done.values() == BACK
    assert one_done.run("web-2").end == "Succeeded"
    assert one_done.run("web-2-rollback").end == "Succeeded"
    assert one_done.started("web-2-rollback") == ["west", "east", "canary"]
    assert [one.name for one in one_done.run("web-2-rollback").stages] == ["prod", "canary"]


def test_a_rollback_says_of_itself_what_it_is(one_done: World):
    commit = one_done.commits(change("value2", "web-2"))
    one_done.passes()
    revert = one_done.reverts(commit)
    one_done.passes()
    body = one_done.object("web-2-rollback")
    assert body["metadata"]["annotations"] == {
        "kubernetes-fleet.io/rollback-of": "web-2",
        "kubernetes-fleet.io/reverted-by": revert,
    }
    assert body["spec"] == {
        "placementName": "web",
        "resourceSnapshotIndex": "0",
        "stagedRolloutStrategyName": "rings",
        "state": "Run",
    }
    assert body["status"]["resourceSnapshotIndexUsed"] == "0"
    assert one_done.conditions("web-2-rollback") == {
        "Initialized": "True UpdateRunInitializedSuccessfully",
        "Progressing": "False UpdateRunSucceeded",
        "Succeeded": "True UpdateRunSucceeded",
    }


@pytest.mark.parametrize("squash", [False, True])
def test_the_revert_of_an_inner_commit_of_a_merge_counts_and_of_a_squash_the_squashed_one(
    one_done: World, *, squash: bool
):
    one_done.branches("change")
    inner = one_done.commits(change("value2", "web-2"), on="change")
    merged = one_done.merges("change", squash=squash)
    one_done.passes()
    assert one_done.values() == NEW
    one_done.reverts(merged, message=f'Revert "Change"\n\nThis reverts commit {merged if squash else inner}.')
    one_done.passes()
    assert one_done.values() == BACK


def test_a_revert_that_comes_by_a_merge_of_its_own_counts(one_done: World):
    """As forges do it: the sentence is in the commit on the side, the merge has only a title."""
    commit = one_done.commits(change("value2", "web-2"))
    one_done.passes()
    one_done.branches("revert")
    undo = {"resources/app/settings.yaml": manifests.config_map("value1"), "runs/web-2.yaml": None}
    one_done.commits(undo, message=f'Revert "Change"\n\nThis reverts commit {commit}.', on="revert")
    one_done.merges("revert")
    one_done.passes()
    assert one_done.values() == BACK


def test_a_forge_that_lost_the_sentence_is_known_by_the_subject(one_done: World):
    one_done.commits(change("value2", "web-2"), message="Roll out value2 (#12)")
    one_done.passes()
    one_done.removes("runs/web-2.yaml", message='Revert "Roll out value2 (#12)" (#13)')
    one_done.passes()
    assert one_done.values() == BACK


def test_a_tidy_up_is_no_revert(one_done: World):
    one_done.commits(change("value2", "web-2"))
    one_done.passes()
    one_done.removes("runs/web-2.yaml", message="Tidy up after web-2")
    one_done.passes()
    assert one_done.values() == NEW
    assert [one.key.name for one in one_done.runs()] == ["web-1", "web-2"]


def test_where_the_sentence_names_one_commit_no_title_makes_another_one_reverted(one_done: World):
    one_done.commits(change("value2", "web-2"), message="Roll out")
    one_done.passes()
    third = one_done.commits(change("value3", "web-3"), message="Roll out")
    one_done.passes()
    message = f'Revert "Roll out"\n\nThis reverts commit {third}.'
    one_done.commits({"runs/web-2.yaml": None, "runs/web-3.yaml": None}, message=message)
    one_done.passes()
    assert one_done.values() == NEW


def test_a_title_that_only_begins_alike_is_no_revert(one_done: World):
    one_done.commits(change("value2", "web-2"), message="Add web")
    one_done.passes()
    one_done.removes("runs/web-2.yaml", message='Revert "Add webhook alerts" and tidy up')
    one_done.passes()
    assert one_done.values() == NEW


def test_a_sentence_about_another_commit_is_no_revert_of_the_run(one_done: World):
    other = one_done.commits("notes.txt", "x\n")
    one_done.commits(change("value2", "web-2"))
    one_done.passes()
    one_done.removes("runs/web-2.yaml", message=f"Clean up\n\nThis reverts commit {other}.")
    one_done.passes()
    assert one_done.values() == NEW


def test_a_removing_commit_that_brings_another_run_of_the_placement_never_rolls_back(one_done: World):
    commit = one_done.commits(change("value2", "web-2"))
    one_done.passes()
    changes = {"runs/web-2.yaml": None, "runs/web-3.yaml": run("web-3", state="Initialize")}
    one_done.commits(changes, message=f"Another way\n\nThis reverts commit {commit}.")
    one_done.passes()
    assert one_done.values() == NEW
    assert [one.key.name for one in one_done.runs()] == ["web-1", "web-2", "web-3"]


@pytest.mark.parametrize("gone", [False, True], ids=["it stays", "another of its runs is gone by then"])
def test_nor_does_one_that_brings_it_in_a_broken_file_which_is_mended_later(one_done: World, *, gone: bool):
    """Once the file can be read the removal is dated from its own commit, and that commit did bring a run."""
    commit = one_done.commits(change("value2", "web-2"))
    one_done.passes()
    changes: dict[str, str | None] = {"runs/web-2.yaml": None, "runs/web-3.yaml": "kind: [\n"}
    if gone:
        changes["runs/web-4.yaml"] = run("web-4", state="Initialize")
    one_done.commits(changes, message=f"Another way\n\nThis reverts commit {commit}.")
    one_done.passes()
    mended = {"runs/web-4.yaml": None, "runs/web-3.yaml": run("notes", placement="other", state="Initialize")}
    one_done.commits(mended if gone else {"runs/web-3.yaml": run("web-3", state="Initialize")})
    one_done.passes()
    assert one_done.run("web-2").end == "Succeeded"
    assert [one.key.name for one in one_done.runs() if one.reverts] == []
    assert one_done.values() == NEW


def test_a_broken_file_that_turns_out_no_run_of_the_placement_does_not_stop_a_rollback(one_done: World):
    commit = one_done.commits(change("value2", "web-2"))
    one_done.passes()
    changes = {"runs/web-2.yaml": None, "runs/other.yaml": "kind: [\n"}
    one_done.commits(changes, message=f"Take it back\n\nThis reverts commit {commit}.")
    one_done.passes()
    assert one_done.values() == NEW
    one_done.commits("runs/other.yaml", run("other", placement="other"))
    one_done.passes()
    assert one_done.values() == BACK


def test_a_run_that_is_reverted_on_its_way_ends_and_goes_back_only_where_it_was(one_done: World):
    one_done.commits("strategies/rings.yaml", strategy(stage("canary", approval=True), stage("prod")))
    commit = one_done.commits(change("value2", "web-2"))
    one_done.passes()
    assert one_done.values() == BACK | {"canary": "value2"}
    revert = one_done.reverts(commit)
    one_done.passes()
    assert one_done.values() == BACK
    assert one_done.started("web-2-rollback") == ["canary"]
    assert one_done.message("web-2", "Succeeded") == (
        f"the run was reverted by commit {revert[:7]} and is rolled back by web-2-rollback"
    )


def test_a_cluster_in_flight_is_taken_over_by_the_rollback(one_done: World):
    one_done.breaks("canary")
    commit = one_done.commits(change("value2", "web-2"))
    one_done.passes()
    assert one_done.running() == {"canary"}
    one_done.reverts(commit)
    one_done.heals("canary")
    one_done.passes()
    assert one_done.values() == BACK
    assert one_done.run("web-2").stages[0].clusters[0].taken_by == one_done.run("web-2-rollback").uid


def test_the_approvals_of_the_run_are_not_asked_again(one_done: World):
    one_done.commits("strategies/rings.yaml", strategy(stage("canary", wait="1h"), stage("prod", approval=True)))
    commit = one_done.commits(change("value2", "web-2"))
    one_done.passes(minutes=70)
    assert one_done.values() == NEW
    one_done.reverts(commit)
    one_done.passes()
    assert one_done.run("web-2-rollback").end == "Succeeded"
    assert one_done.values() == BACK


def test_what_a_newer_run_wrote_is_left_alone_and_named(one_done: World):
    commit = one_done.commits(change("value2", "web-2"))
    one_done.passes()
    one_done.commits("strategies/first.yaml", strategy(stage("canary"), stage("prod", approval=True), name="first"))
    one_done.commits(change("value3", "web-3", strategy="first"))
    one_done.passes()
    one_done.approves("web-3", "prod")
    one_done.passes()
    one_done.removes("runs/web-2.yaml", message=f"Undo\n\nThis reverts commit {commit}.")
    one_done.passes()
    assert one_done.values() == dict.fromkeys(NEW, "value3")
    assert one_done.run("web-2-rollback").end == "Succeeded"
    assert one_done.message("web-2-rollback", "Initialized") == (
        "ClusterStagedUpdateRun initialized successfully; left as they are, because a newer run wrote them: "
        "canary (web-3), east (web-3), west (web-3)"
    )


def test_a_newer_run_that_is_under_way_goes_on_and_the_rollback_gives_way(one_done: World):
    commit = one_done.commits(change("value2", "web-2"))
    one_done.passes()
    one_done.commits("strategies/slow.yaml", strategy(stage("canary", approval=True), stage("prod"), name="slow"))
    one_done.commits(change("value3", "web-3", strategy="slow"))
    one_done.passes()
    one_done.removes("runs/web-2.yaml", message=f"Undo\n\nThis reverts commit {commit}.")
    one_done.passes()
    assert one_done.message("web-2-rollback", "Succeeded") == "superseded by the newer run web-3"
    assert one_done.values() == NEW | {"canary": "value3"}


def test_a_newer_run_stops_a_rollback(one_done: World):
    commit = one_done.commits(change("value2", "web-2"))
    one_done.passes()
    one_done.breaks("west")
    one_done.reverts(commit)
    one_done.passes()
    assert one_done.run("web-2-rollback").end is None
    one_done.heals("west")
    one_done.commits(change("value3", "web-3"))
    one_done.passes()
    assert one_done.run("web-2-rollback").end == "Superseded"
    assert one_done.values() == dict.fromkeys(NEW, "value3")


def test_the_revert_of_the_revert_is_a_new_run(one_done: World):
    commit = one_done.commits(change("value2", "web-2"))
    one_done.passes()
    first = one_done.run("web-2").uid
    revert = one_done.reverts(commit)
    one_done.passes()
    one_done.reverts(revert)
    one_done.passes()
    assert one_done.values() == NEW
    assert one_done.run("web-2").uid != first


@pytest.mark.parametrize("at_once", [False, True])
def test_two_runs_reverted_in_one_push_or_in_two_go_back_past_both(one_done: World, *, at_once: bool):
    second = one_done.commits(change("value2", "web-2"))
    one_done.passes()
    third = one_done.commits(change("value3", "web-3"))
    one_done.passes()
    one_done.reverts(third)
    if not at_once:
        one_done.passes()
        assert one_done.values() == NEW
    one_done.reverts(second)
    one_done.passes()
    assert one_done.values() == BACK
    rollbacks = [one.key.name for one in one_done.runs() if one.reverts]
    assert rollbacks == (["web-3-rollback"] if at_once else ["web-2-rollback", "web-3-rollback"])


def test_one_commit_may_revert_several(one_done: World):
    second = one_done.commits(change("value2", "web-2"))
    one_done.passes()
    third = one_done.commits(change("value3", "web-3"))
    one_done.passes()
    undo = {"resources/app/settings.yaml": manifests.config_map("value1")}
    gone = dict.fromkeys(("runs/web-2.yaml", "runs/web-3.yaml"))
    sentences = f"This reverts commit {third}.\nThis reverts commit {second}."
    one_done.commits({**undo, **gone}, message=f"Take both back\n\n{sentences}")
    one_done.passes()
    assert one_done.values() == BACK
    assert [one.key.name for one in one_done.runs() if one.reverts] == ["web-3-rollback"]


def test_a_short_id_is_enough(one_done: World):
    commit = one_done.commits(change("value2", "web-2"))
    one_done.passes()
    one_done.removes("runs/web-2.yaml", message=f"Take it back\n\nThis reverts commit {commit[:7]}.")
    one_done.passes()
    assert one_done.values() == BACK


def test_the_revert_of_a_run_that_found_everything_in_place_writes_nothing(one_done: World):
    """It is the writer all the same: what its clusters go back to is what they have."""
    commit = one_done.commits("runs/web-2.yaml", run("web-2"))
    one_done.passes()
    before = {name: objects_written(one_done, name) for name in BACK}
    one_done.reverts(commit)
    one_done.passes()
    assert one_done.started("web-2-rollback") == ["west", "east", "canary"]
    assert one_done.run("web-2-rollback").end == "Succeeded"
    assert {name: objects_written(one_done, name) for name in BACK} == before


def objects_written(world: World, cluster: str) -> list[str]:
    """Return everything that was written on a member except who may write there."""
    return [one for one in world.writes(cluster) if not one.startswith("inventory")]


def test_a_name_that_a_run_has_already_is_not_taken_twice(one_done: World):
    one_done.commits("runs/web-2-rollback.yaml", run("web-2-rollback", state="Initialize"))
    commit = one_done.commits(change("value2", "web-2"))
    one_done.passes()
    one_done.reverts(commit)
    one_done.passes()
    assert [one.key.name for one in one_done.runs() if one.reverts] == ["web-2-rollback-2"]
    assert one_done.values() == BACK


def test_a_run_that_was_stopped_goes_back_when_it_is_reverted(one_done: World):
    one_done.commits("strategies/rings.yaml", strategy(stage("canary", approval=True), stage("prod")))
    commit = one_done.commits(change("value2", "web-2"))
    one_done.passes()
    one_done.commits("runs/web-2.yaml", run("web-2", state="Stop"))
    one_done.passes()
    assert one_done.values() == BACK | {"canary": "value2"}
    one_done.reverts(commit)
    one_done.passes()
    assert one_done.values() == BACK


def test_a_revert_that_takes_the_placement_along_rolls_nothing_back(world: World):
    """What the placement had placed goes as with every placement that is removed."""
    world.joins("east", ring="prod")
    world.commits({"resources/app/namespace.yaml": manifests.namespace(), "strategies/s.yaml": strategy(stage("prod"))})
    world.begins()
    files = {"placements/web.yaml": manifests.placement(), **change("value1", "web-1")}
    commit = world.commits({**files, "runs/web-1.yaml": run("web-1")})
    world.passes()
    assert world.values() == {"east": "value1"}
    world.reverts(commit)
    world.passes(minutes=9)
    assert [one.key.name for one in world.runs()] == ["web-1"]
    assert world.values() == {"east": "value1"}
    world.passes(minutes=2)
    assert world.member("east").objects == {}


def test_a_revert_while_a_rollback_is_unfinished_makes_one_that_replaces_it(one_done: World):
    second = one_done.commits(change("value2", "web-2"))
    one_done.passes()
    third = one_done.commits(change("value3", "web-3"))
    one_done.passes()
    one_done.breaks("west")
    one_done.reverts(third)
    one_done.passes()
    one_done.reverts(second)
    one_done.heals("west")
    one_done.passes()
    assert one_done.values() == BACK
    assert one_done.message("web-3-rollback", "Succeeded") == "superseded by the newer run web-3-rollback-2"
    assert len(one_done.run("web-3-rollback-2").reverts) == 2


def test_where_there_was_nothing_before_the_target_is_what_the_placement_has_at_the_revert(rings: World):
    rings.commits(change("value2", "web-1"))
    rings.passes()
    head = rings.head()
    rings.reverts(head)
    rings.passes()
    assert rings.values() == BACK
    assert rings.object("web-1-rollback")["status"]["resourceSnapshotIndexUsed"] == "2"


def test_the_revert_of_a_run_that_never_started_withdraws_it(one_done: World):
    commit = one_done.commits(change("value2", "web-2", state="Initialize"))
    one_done.passes()
    one_done.reverts(commit)
    one_done.passes()
    assert one_done.run("web-2").end == "Withdrawn"
    assert [one.key.name for one in one_done.runs()] == ["web-1", "web-2"]
    assert one_done.values() == BACK


def test_a_member_that_is_down_does_not_hold_up_the_others_and_stays_listed(one_done: World):
    commit = one_done.commits(change("value2", "web-2"))
    one_done.passes()
    one_done.member("west").falls_silent()
    one_done.reverts(commit)
    one_done.passes(seconds=10)
    assert one_done.running() == {"west"}
    one_done.passes(minutes=6)
    assert one_done.values() == BACK | {"west": "value2"}
    assert one_done.conditions("web-2-rollback")["Progressing"] == "False UpdateRunStuck"
    one_done.heals("west")
    one_done.passes(minutes=2)
    assert one_done.values() == BACK
    assert one_done.run("web-2-rollback").end == "Succeeded"


def falls_silent(member: Awkward) -> None:
    member.falls_silent()


def loses_an_object_for_good(member: Awkward) -> None:
    member.objects.popitem()
    member.refuses("quota exceeded")


@pytest.mark.parametrize(
    ("happens", "reason"),
    [(lambda _: None, "NotAvailable"), (falls_silent, "Unreachable"), (loses_an_object_for_good, "Refused")],
)
def test_what_arrived_completely_is_the_way_back_whatever_became_of_it(
    one_done: World, happens: Callable[[Awkward], None], reason: str
):
    one_done.breaks("canary")
    one_done.commits(change("value2", "web-2"))
    one_done.passes()
    happens(one_done.member("canary"))
    one_done.passes(seconds=5)
    assert one_done.placement().records["canary"].reason == reason
    third = one_done.commits(change("value3", "web-3"))
    one_done.passes()
    one_done.heals("canary")
    one_done.passes(minutes=1)
    assert one_done.values() == dict.fromkeys(NEW, "value3")
    one_done.reverts(third)
    one_done.passes()
    assert one_done.values() == BACK | {"canary": "value2"}


def test_a_cluster_that_has_left_is_not_rolled_back(one_done: World):
    commit = one_done.commits(change("value2", "web-2"))
    one_done.passes()
    one_done.leaves("west")
    one_done.reverts(commit)
    one_done.passes()
    assert one_done.values() == BACK | {"west": "value2"}


def test_the_way_back_goes_over_a_run_with_an_older_index(one_done: World):
    """A run that went back counts as the writer, even where nothing had to be written."""
    one_done.commits(change("value2", "web-2"))
    one_done.passes()
    third = one_done.commits("runs/web-3.yaml", run("web-3", index=0))
    one_done.passes()
    assert one_done.values() == BACK
    one_done.reverts(third)
    one_done.passes()
    assert one_done.values() == NEW


def test_a_long_name_is_cut_with_a_hash(one_done: World):
    name = "web-" + "x" * 56
    commit = one_done.commits(change("value2", name))
    one_done.passes()
    one_done.reverts(commit)
    one_done.passes()
    rollback = next(one for one in one_done.runs() if one.reverts)
    assert len(rollback.key.name) == 63
    assert rollback.key.name.endswith("-rollback")
    assert rollback.deletion is not None
    assert rollback.ended_at is not None
    assert rollback.ended_at - rollback.created < timedelta(minutes=1)


def test_namespaced_runs_are_rolled_back_too(world: World):
    world.joins("east", ring="prod")
    world.commits(
        {
            "resources/app/settings.yaml": manifests.config_map("value1"),
            "placements/web.yaml": manifests.placement(namespace="app"),
            "strategies/rings.yaml": strategy(stage("prod"), namespace="app"),
        }
    )
    world.begins()
    world.commits("runs/web-1.yaml", run("web-1", namespace="app"))
    world.passes()
    commit = world.commits(change("value2", "web-2", namespace="app"))
    world.passes()
    assert world.values() == {"east": "value2"}
    world.reverts(commit)
    world.passes()
    assert world.values() == {"east": "value1"}
    assert world.run("web-2-rollback").key.namespace == "app"
