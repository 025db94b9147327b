"""What leaves: clusters that a placement no longer chooses, placements, and runs."""

from dataclasses import replace

import pytest

from reconciler.core.actions import Outcome, Reason, Report, Target
from tests import manifests
from tests.manifests import run, stage, strategy
from tests.world import World

ALL = ["canary", "east", "west"]


def placed(*clusters: str, **spec: object) -> str:
    """Return the placement, onto these clusters."""
    return manifests.placement(policy={"placementType": "PickFixed", "clusterNames": list(clusters)}, **spec)


@pytest.fixture
def fixed(world: World) -> World:
    """`value1` is on three named clusters, by the run web-1."""
    world.joins("canary", ring="canary")
    world.joins("east", ring="prod")
    world.joins("west", ring="prod")
    world.commits(
        {
            "resources/app/namespace.yaml": manifests.namespace(),
            "resources/app/settings.yaml": manifests.config_map("value1"),
            "placements/web.yaml": placed(*ALL),
            "strategies/rings.yaml": strategy(stage("canary"), stage("prod")),
        }
    )
    world.begins()
    world.commits("runs/web-1.yaml", run("web-1"))
    world.passes()
    assert world.values() == dict.fromkeys(ALL, "value1")
    return world


def deletions(world: World, name: str) -> dict[str, object]:
    """Return the delete stage of a run as `run.yaml` has it."""
    found: dict[str, object] = world.object(name)["status"]["deletionStageStatus"]
    return found


# -- the delete stage ------------------------------------------------------------


def test_a_run_clears_the_clusters_that_are_chosen_no_more_after_its_last_stage(fixed: World):
    fixed.commits({"placements/web.yaml": placed("canary"), "runs/web-2.yaml": run("web-2")})
    fixed.passes()
    assert fixed.values() == {"canary": "value1", "east": None, "west": None}
    assert fixed.member("east").objects == {}
    held = deletions(fixed, "web-2")
    assert [one["clusterName"] for one in held["clusters"]] == ["east", "west"]
    assert [one["reason"] for one in held["conditions"]] == ["StageUpdatingSucceeded", "StageUpdatingSucceeded"]
    assert fixed.run("web-2").end == "Succeeded"
    assert [one.index for one in fixed.placement().records.values() if not one.is_empty] == [0]


def test_a_policy_that_shrinks_clears_nothing_before_a_run_does(fixed: World):
    fixed.commits("placements/web.yaml", placed("canary"))
    fixed.passes()
    assert fixed.values() == dict.fromkeys(ALL, "value1")


def test_a_run_that_is_only_initialized_shows_what_it_would_clear(fixed: World):
    fixed.commits({"placements/web.yaml": placed("canary"), "runs/web-2.yaml": run("web-2", state="Initialize")})
    fixed.passes()
    assert deletions(fixed, "web-2") == {
        "clusters": [{"clusterName": "east"}, {"clusterName": "west"}],
        "stageName": "kubernetes-fleet.io/deleteStage",
    }
    assert fixed.values() == dict.fromkeys(ALL, "value1")


def test_the_delete_stage_waits_for_the_gates_before_it(fixed: World):
    gated = strategy(stage("canary", approval=True), stage("prod"))
    changes = {"placements/web.yaml": placed("canary"), "strategies/rings.yaml": gated}
    fixed.commits(changes | {"runs/web-2.yaml": run("web-2")})
    fixed.passes()
    assert fixed.values() == dict.fromkeys(ALL, "value1")
    fixed.approves("web-2", "canary")
    fixed.passes()
    assert fixed.values() == {"canary": "value1", "east": None, "west": None}


def test_a_member_that_is_down_holds_the_delete_stage_and_is_named(fixed: World):
    fixed.member("west").falls_silent()
    fixed.commits({"placements/web.yaml": placed("canary"), "runs/web-2.yaml": run("web-2")})
    fixed.passes(minutes=6)
    assert fixed.running() == {"west"}
    assert fixed.value("east") is None
    assert fixed.message("web-2", "Progressing") == (
        "The updateRun is stuck waiting for west cluster(s) in stage kubernetes-fleet.io/deleteStage to finish "
        "updating, please check placement status for potential errors: west: Unreachable: no answer"
    )
    fixed.heals("west")
    fixed.passes(minutes=2)
    assert fixed.run("web-2").end == "Succeeded"


def test_a_run_may_have_nothing_but_clusters_to_clear(fixed: World):
    labelled = {"requiredDuringSchedulingIgnoredDuringExecution": {"clusterSelectorTerms": [
        {"labelSelector": {"matchLabels": {"ring": "nowhere"}}}]}}  # fmt: skip
    policy = {"placementType": "PickAll", "affinity": {"clusterAffinity": labelled}}
    fixed.removes("placements/web.yaml")
    fixed.commits({"placements/web.yaml": manifests.placement(policy=policy), "runs/web-2.yaml": run("web-2")})
    fixed.passes()
    assert fixed.values() == dict.fromkeys(ALL)
    assert fixed.run("web-2").end == "Succeeded"


def test_a_run_with_nothing_to_do_and_nothing_to_clear_is_tried_again_when_a_cluster_joins(world: World):
    world.commits(
        {
            "resources/app/namespace.yaml": manifests.namespace(),
            "placements/web.yaml": manifests.placement(),
            "strategies/rings.yaml": strategy(stage("prod")),
            "clusters/README.md": "none yet\n",
        }
    )
    world.begins()
    world.commits("runs/web-1.yaml", run("web-1"))
    world.passes()
    assert world.message("web-1", "Initialized") == (
        "cannot continue the updateRun: failed to validate the updateRun: no scheduled or to-be-deleted bindings found "
        "for the latest policy snapshot /web-0"
    )
    world.joins("east", ring="prod")
    world.passes()
    assert world.run("web-1").end == "Succeeded"


def test_a_stop_before_the_delete_stage_clears_nothing_until_the_run_goes_on(fixed: World):
    fixed.breaks("canary")
    fixed.commits({"placements/web.yaml": placed("canary"), "resources/app/settings.yaml": manifests.config_map("v2")})
    fixed.commits("runs/web-2.yaml", run("web-2"))
    fixed.passes()
    fixed.commits("runs/web-2.yaml", run("web-2", state="Stop"))
    fixed.heals("canary")
    fixed.passes()
    assert fixed.value("east") == "value1"
    fixed.commits("runs/web-2.yaml", run("web-2", state="Run"))
    fixed.passes()
    assert fixed.values() == {"canary": "v2", "east": None, "west": None}


def test_a_cluster_that_was_cleared_and_is_chosen_again_gets_everything_anew(fixed: World):
    fixed.commits({"placements/web.yaml": placed("canary"), "runs/web-2.yaml": run("web-2")})
    fixed.passes()
    fixed.commits({"placements/web.yaml": placed(*ALL), "runs/web-3.yaml": run("web-3")})
    fixed.passes()
    assert fixed.values() == dict.fromkeys(ALL, "value1")
    assert fixed.placement().records["east"].before is None


def test_the_revert_of_a_run_with_a_delete_stage_brings_back_what_it_cleared(fixed: World):
    commit = fixed.commits({"placements/web.yaml": placed("canary"), "runs/web-2.yaml": run("web-2")})
    fixed.passes()
    assert fixed.value("west") is None
    fixed.reverts(commit)
    fixed.passes()
    assert fixed.values() == dict.fromkeys(ALL, "value1")
    assert [one.name for one in fixed.run("web-2-rollback").stages] == ["restore", "canary"]


def test_the_revert_of_a_delete_stage_gives_nothing_to_a_cluster_that_never_held_anything(world: World):
    for name in ("canary", "east"):
        world.joins(name, ring="prod")
    world.commits(
        {
            "resources/app/namespace.yaml": manifests.namespace(),
            "placements/web.yaml": placed("canary", "east"),
            "strategies/rings.yaml": strategy(stage("prod", maxConcurrency=2)),
        }
    )
    world.begins()
    world.member("east").refuses("no")
    world.commits("runs/web-1.yaml", run("web-1"))
    world.passes()
    commit = world.commits({"placements/web.yaml": placed("canary"), "runs/web-2.yaml": run("web-2")})
    world.passes()
    world.heals("east")
    world.reverts(commit)
    world.passes()
    assert world.member("east").objects == {}


def test_what_was_in_flight_to_a_cluster_chosen_no_more_is_taken_by_the_delete_stage(fixed: World):
    fixed.breaks("west")
    fixed.commits({"resources/app/settings.yaml": manifests.config_map("v2"), "runs/web-2.yaml": run("web-2")})
    fixed.passes()
    assert fixed.running() == {"west"}
    fixed.heals("west")
    fixed.member("west").falls_silent()
    fixed.commits({"placements/web.yaml": placed("canary", "east"), "runs/web-3.yaml": run("web-3")})
    fixed.passes()
    fixed.heals("west")
    fixed.passes(minutes=2)
    assert fixed.values() == {"canary": "v2", "east": "v2", "west": None}


# -- a placement that is removed ------------------------------------------------------------


def test_what_a_removed_placement_placed_goes_after_the_grace_period(fixed: World):
    fixed.removes("placements/web.yaml", "runs/web-1.yaml")
    fixed.passes(minutes=9)
    assert fixed.values() == dict.fromkeys(ALL, "value1")
    fixed.passes(minutes=2)
    assert [fixed.member(one).objects for one in ALL] == [{}, {}, {}]
    assert all(one.is_empty for one in fixed.placement().records.values())


def test_a_placement_that_comes_back_within_the_grace_period_changes_no_member(fixed: World):
    before = {name: fixed.writes(name) for name in ALL}
    fixed.removes("placements/web.yaml")
    fixed.passes(minutes=9)
    fixed.commits("placements/web.yaml", placed(*ALL))
    fixed.passes(minutes=30)
    assert {name: fixed.writes(name) for name in ALL} == before
    assert sorted(fixed.placement().records) == ALL


def test_a_placement_whose_file_is_moved_stays_itself(fixed: World):
    fixed.commits({"placements/web.yaml": None, "placements/shop/web.yml": placed(*ALL)})
    fixed.passes(minutes=30)
    assert fixed.placement().removed_at is None
    assert fixed.values() == dict.fromkeys(ALL, "value1")


def test_a_placement_whose_file_is_broken_while_it_is_moved_is_not_removed(fixed: World):
    uid = fixed.placement().uid
    fixed.commits({"placements/web.yaml": None, "placements/moved.yaml": "kind: [\n"})
    fixed.commits("runs/web-2.yaml", run("web-2"))
    fixed.passes(minutes=30)
    assert fixed.values() == dict.fromkeys(ALL, "value1")
    assert "InputBroken: ClusterResourcePlacement web is in a broken file" in fixed.message("web-2", "Initialized")
    fixed.commits("placements/moved.yaml", placed(*ALL))
    fixed.passes()
    assert fixed.run("web-2").end == "Succeeded"
    assert fixed.placement().uid == uid


def test_the_runs_of_a_removed_placement_are_withdrawn(fixed: World):
    fixed.commits("strategies/rings.yaml", strategy(stage("canary", approval=True), stage("prod")))
    fixed.commits({"resources/app/settings.yaml": manifests.config_map("v2"), "runs/web-2.yaml": run("web-2")})
    fixed.passes()
    head = fixed.removes("placements/web.yaml")
    fixed.passes()
    assert fixed.message("web-2", "Succeeded") == f"the placement was removed by commit {head[:7]}"
    fixed.approves("web-2", "canary")
    fixed.passes()
    assert fixed.values() == {"canary": "v2", "east": "value1", "west": "value1"}


def test_a_placement_that_is_removed_and_added_between_two_looks_is_another_one(fixed: World):
    fixed.commits("strategies/rings.yaml", strategy(stage("canary", approval=True), stage("prod")))
    fixed.commits({"resources/app/settings.yaml": manifests.config_map("v2"), "runs/web-2.yaml": run("web-2")})
    fixed.passes()
    head = fixed.removes("placements/web.yaml")
    fixed.commits("placements/web.yaml", placed(*ALL))
    fixed.passes()
    assert fixed.message("web-2", "Succeeded") == f"the placement was removed by commit {head[:7]}"
    fixed.approves("web-2", "canary")
    fixed.passes(minutes=30)
    assert fixed.values() == {"canary": "v2", "east": "value1", "west": "value1"}


def test_a_run_whose_placement_was_gone_before_anybody_looked_starts_nothing(world: World):
    world.joins("east", ring="prod")
    world.commits(
        {"resources/app/namespace.yaml": manifests.namespace(), "strategies/rings.yaml": strategy(stage("prod"))}
    )
    world.begins()
    world.commits({"placements/web.yaml": placed("east"), "runs/web-1.yaml": run("web-1")})
    world.removes("placements/web.yaml")
    world.passes(minutes=20)
    assert world.run("web-1").end == "Withdrawn"
    assert world.member("east").objects == {}


def test_a_member_that_is_down_is_cleared_when_it_comes_back(fixed: World):
    fixed.removes("placements/web.yaml")
    fixed.member("west").falls_silent()
    fixed.passes(minutes=20)
    assert fixed.placement().records["west"].reason is Reason.UNREACHABLE
    assert fixed.values() == {"canary": None, "east": None, "west": "value1"}
    fixed.heals("west")
    fixed.passes(minutes=2)
    assert all(one.is_empty for one in fixed.placement().records.values())
    assert fixed.value("west") is None


def test_a_cluster_that_left_the_fleet_keeps_what_it_has(fixed: World):
    fixed.leaves("west")
    fixed.removes("placements/web.yaml")
    fixed.passes(minutes=20)
    assert fixed.values() == {"canary": None, "east": None, "west": "value1"}


def test_a_placement_that_comes_back_after_everything_went_begins_anew(fixed: World):
    fixed.removes("placements/web.yaml", "runs/web-1.yaml")
    fixed.passes(minutes=20)
    fixed.commits({"placements/web.yaml": placed(*ALL), "runs/web-2.yaml": run("web-2")})
    fixed.passes()
    assert fixed.values() == dict.fromkeys(ALL, "value1")
    assert fixed.object("web-2")["status"]["resourceSnapshotIndexUsed"] == "0"


def test_a_daemon_that_is_killed_during_the_removal_is_followed_by_one_that_finishes_it(fixed: World):
    fixed.removes("placements/web.yaml")
    fixed.member("west").falls_silent()
    fixed.passes(minutes=20)
    fixed.restarts(wiped=True)
    fixed.heals("west")
    fixed.passes(minutes=2)
    assert [fixed.member(one).objects for one in ALL] == [{}, {}, {}]


# -- a placement that is abandoned ------------------------------------------------------------

KEPT = {"type": "External", "deleteStrategy": {"propagationPolicy": "Abandon"}}


def listed(world: World, cluster: str, name: str = "web") -> int:
    """Return how many objects the inventory of a placement lists on a member."""
    found = world.member(cluster).memory.inventories()
    return sum(len(one.objects) for key, one in found.items() if key.name == name)


@pytest.fixture
def abandoned(fixed: World) -> World:
    """The placement says Abandon and is removed; nobody looked yet."""
    fixed.commits("placements/web.yaml", placed(*ALL, strategy=KEPT))
    fixed.passes()
    fixed.removes("placements/web.yaml")
    return fixed


def test_abandon_leaves_everything_where_it_is_and_lets_go_of_it_after_the_grace_period(abandoned: World):
    objects = {name: dict(abandoned.member(name).objects) for name in ALL}
    abandoned.passes(minutes=9)
    assert {name: listed(abandoned, name) for name in ALL} == dict.fromkeys(ALL, 2)
    abandoned.passes(minutes=2)
    assert {name: listed(abandoned, name) for name in ALL} == dict.fromkeys(ALL, 0)
    assert {name: abandoned.member(name).objects for name in ALL} == objects
    assert all(one.is_empty for one in abandoned.placement().records.values())
    before = {name: abandoned.writes(name) for name in ALL}
    abandoned.restarts(wiped=True)
    abandoned.passes(minutes=30)
    assert {name: abandoned.writes(name) for name in ALL} == before


@pytest.mark.parametrize("last", ["Abandon", "Delete"])
def test_the_last_version_counts_even_if_nobody_looked_between_it_and_the_removal(fixed: World, last: str):
    """Both commits come with one push; what was recorded before said the contrary."""
    first = {"Abandon": "Delete", "Delete": "Abandon"}[last]
    for policy in (first, last):
        if policy == last:
            fixed.passes()
        strategy_of = {"type": "External", "deleteStrategy": {"propagationPolicy": policy}}
        fixed.commits("placements/web.yaml", placed(*ALL, strategy=strategy_of))
    fixed.removes("placements/web.yaml")
    fixed.passes(minutes=30)
    assert fixed.values() == dict.fromkeys(ALL, "value1" if last == "Abandon" else None)


@pytest.mark.parametrize("rule", ["Always", "IfNoDiff"])
def test_what_was_abandoned_is_taken_over_by_another_placement_at_the_first_try(abandoned: World, rule: str):
    abandoned.passes(minutes=11)
    shop = manifests.placement("shop", strategy={"type": "External", "applyStrategy": {"whenToTakeOver": rule}})
    abandoned.commits({"placements/shop.yaml": shop, "runs/shop-1.yaml": run("shop-1", placement="shop")})
    abandoned.passes()
    assert abandoned.run("shop-1").end == "Succeeded"
    assert {name: listed(abandoned, name, "shop") for name in ALL} == dict.fromkeys(ALL, 2)
    assert abandoned.values() == dict.fromkeys(ALL, "value1")
    assert [line for name in ALL for line in abandoned.writes(name) if line.startswith("delete")] == []


def test_what_is_not_let_go_of_yet_is_a_conflict_that_ends_with_the_grace_period(abandoned: World):
    abandoned.commits(
        {"placements/shop.yaml": manifests.placement("shop"), "runs/shop-1.yaml": run("shop-1", placement="shop")}
    )
    abandoned.passes()
    assert abandoned.run("shop-1").end is None
    assert "belongs to ClusterResourcePlacement web" in abandoned.message("shop-1", "Progressing")
    abandoned.passes(minutes=12)
    assert abandoned.run("shop-1").end == "Succeeded"


def test_an_abandoned_placement_that_comes_back_within_the_grace_period_changes_no_member(abandoned: World):
    before = {name: abandoned.writes(name) for name in ALL}
    abandoned.passes(minutes=9)
    abandoned.commits("placements/web.yaml", placed(*ALL, strategy=KEPT))
    abandoned.passes(minutes=30)
    assert {name: abandoned.writes(name) for name in ALL} == before


def test_an_abandoned_placement_that_comes_back_later_takes_over_what_is_there(abandoned: World):
    abandoned.passes(minutes=11)
    abandoned.commits({"placements/web.yaml": placed(*ALL), "runs/web-2.yaml": run("web-2")})
    abandoned.passes()
    assert abandoned.run("web-2").end == "Succeeded"
    assert {name: listed(abandoned, name) for name in ALL} == dict.fromkeys(ALL, 2)


def test_a_member_that_is_down_is_let_go_of_when_it_comes_back(abandoned: World):
    abandoned.member("west").falls_silent()
    abandoned.passes(minutes=20)
    assert abandoned.placement().records["west"].reason is Reason.UNREACHABLE
    assert "| web | being let go of | west |" in abandoned.status().files["README.md"].decode()
    abandoned.restarts(wiped=True)
    abandoned.heals("west")
    abandoned.passes(minutes=2)
    assert (listed(abandoned, "west"), abandoned.value("west")) == (0, "value1")


def test_what_another_placement_shares_is_left_to_it(fixed: World):
    shared = manifests.placement("shop", strategy={"type": "External", "applyStrategy": {"allowCoOwnership": True}})
    fixed.commits({"placements/shop.yaml": shared, "runs/shop-1.yaml": run("shop-1", placement="shop")})
    fixed.commits("placements/web.yaml", placed(*ALL, strategy=KEPT))
    fixed.passes()
    fixed.removes("placements/web.yaml")
    fixed.passes(minutes=11)
    assert {name: listed(fixed, name) for name in ALL} == dict.fromkeys(ALL, 0)
    assert {name: listed(fixed, name, "shop") for name in ALL} == dict.fromkeys(ALL, 2)


def test_a_run_in_flight_when_its_placement_is_abandoned_delivers_no_more_after_the_grace_period(fixed: World):
    fixed.breaks("west")
    abandoning = placed(*ALL, strategy=KEPT)
    change = {"placements/web.yaml": abandoning, "resources/app/settings.yaml": manifests.config_map("v2")}
    fixed.commits(change | {"runs/web-2.yaml": run("web-2")})
    fixed.passes()
    assert fixed.running() == {"west"}
    fixed.removes("placements/web.yaml")
    fixed.passes(minutes=11)
    assert (fixed.running(), listed(fixed, "west"), fixed.value("west")) == (set(), 0, "v2")


def test_abandon_is_about_the_removal_of_the_placement_and_not_about_clusters_chosen_no_more(fixed: World):
    fixed.commits({"placements/web.yaml": placed("canary", strategy=KEPT), "runs/web-2.yaml": run("web-2")})
    fixed.passes()
    assert fixed.values() == {"canary": "value1", "east": None, "west": None}


@pytest.mark.parametrize("added_again", [False, True], ids=["it stays away", "it was added again"])
def test_what_an_older_intent_wrote_after_the_letting_go_is_not_deleted_either(abandoned: World, *, added_again: bool):
    """It lists in the inventory what it wrote, and says that it lost the fence: the member is brought to its record."""
    abandoned.passes(minutes=11)
    if added_again:
        abandoned.commits("placements/web.yaml", placed(*ALL))
        abandoned.passes()
    state, memory = abandoned.placement(), abandoned.member("west").memory
    held = memory.read_inventory(state.key)
    assert held.inventory is not None
    memory.swap_inventory(state.key, held, replace(held.inventory, objects=tuple(memory.objects)))
    old = Target(placement=state.key, cluster="west", run_uid=abandoned.run("web-1").uid, seq=1)
    lost = Report(complete=None, reason=Reason.FENCE_LOST)
    abandoned.daemons[0].hands.hears(Outcome(target=old, report=lost, observed_at=abandoned.clock.now()))
    abandoned.passes()
    assert (listed(abandoned, "west"), abandoned.value("west")) == (0, "value1")


# -- a run that is removed ------------------------------------------------------------


def test_a_run_file_removed_alone_changes_no_member_by_a_byte(fixed: World):
    before = {name: fixed.writes(name) for name in ALL}
    fixed.removes("runs/web-1.yaml")
    fixed.passes(minutes=30)
    assert {name: fixed.writes(name) for name in ALL} == before


def test_a_run_whose_file_is_renamed_or_moved_goes_on(fixed: World):
    fixed.commits("strategies/rings.yaml", strategy(stage("canary", approval=True), stage("prod")))
    fixed.commits({"resources/app/settings.yaml": manifests.config_map("v2"), "runs/web-2.yaml": run("web-2")})
    fixed.passes()
    fixed.commits({"runs/web-2.yaml": None, "runs/2025/web-2.yml": run("web-2")})
    fixed.passes()
    fixed.approves("web-2", "canary")
    fixed.passes()
    assert fixed.values() == dict.fromkeys(ALL, "v2")


def test_a_run_whose_file_is_broken_while_it_is_moved_starts_nothing_and_is_not_withdrawn(fixed: World):
    fixed.commits("strategies/rings.yaml", strategy(stage("canary", approval=True), stage("prod")))
    fixed.commits({"resources/app/settings.yaml": manifests.config_map("v2"), "runs/web-2.yaml": run("web-2")})
    fixed.passes()
    fixed.commits({"runs/web-2.yaml": None, "runs/moved.yaml": "kind: [\n"})
    fixed.approves("web-2", "canary")
    fixed.passes()
    assert fixed.run("web-2").end is None
    assert fixed.started("web-2") == ["canary"]
    fixed.commits("runs/moved.yaml", run("web-2"))
    fixed.passes()
    assert fixed.values() == dict.fromkeys(ALL, "v2")
