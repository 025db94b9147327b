"""Members that are silent, slow, stubborn or forgetful."""

import pytest

from reconciler.delivery.base import key_of
from tests import manifests
from tests.manifests import run, stage, strategy
from tests.world import World

STUCK = (
    "The updateRun is stuck waiting for {} cluster(s) in stage {} to finish updating, please check placement status "
    "for potential errors"
)


def test_a_silent_member_is_stuck_after_five_minutes_and_clears_by_itself(rings: World):
    rings.member("canary").falls_silent()
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes(minutes=4, seconds=59)
    assert rings.conditions("web-1")["Progressing"] == "True UpdateRunProgressing"
    rings.passes(seconds=1)
    assert rings.conditions("web-1")["Progressing"] == "False UpdateRunStuck"
    assert (
        rings.message("web-1", "Progressing") == STUCK.format("canary", "canary") + ": canary: Unreachable: no answer"
    )
    rings.heals("canary")
    rings.passes(minutes=60)
    assert rings.run("web-1").end == "Succeeded"


def test_a_member_that_refuses_is_stuck_at_once_in_its_own_words(rings: World):
    rings.member("canary").refuses("admission webhook denied the request: no latest tags")
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    assert rings.conditions("web-1")["Progressing"] == "False UpdateRunStuck"
    words = "canary: Refused: Namespace app: admission webhook denied the request: no latest tags"
    assert rings.message("web-1", "Progressing") == f"{STUCK.format('canary', 'canary')}: {words}"
    status = rings.file("placements/_cluster/web/placement.yaml")["status"]["placementStatuses"][0]
    assert status["clusterName"] == "canary"
    assert (
        status["failedPlacements"][0]["condition"]["message"] == "admission webhook denied the request: no latest tags"
    )
    rings.heals("canary")
    rings.passes()
    assert rings.run("web-1").end == "Succeeded"


def test_a_stuck_message_names_three_clusters_at_most(rings: World):
    for name in "abcde":
        rings.joins(name, ring="wide").refuses("no")
    rings.commits("strategies/rings.yaml", strategy(stage("wide", maxConcurrency=5), stage("canary"), stage("prod")))
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    assert rings.message("web-1", "Progressing") == STUCK.format("a, b, c...", "wide") + ": " + "; ".join(
        f"{name}: Refused: Namespace app: no" for name in "abc"
    )


def test_a_member_that_does_not_answer_holds_up_no_other(rings: World):
    rings.commits("strategies/rings.yaml", strategy(stage("prod", maxConcurrency=2), stage("canary")))
    rings.member("east").falls_silent()
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    assert rings.running() == {"east"}
    assert rings.values() == {"canary": None, "east": None, "west": "value1"}


def test_there_is_no_failed_cluster(rings: World):
    """However long it takes, the stage waits, and the next one does not start."""
    rings.breaks("canary")
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes(minutes=60 * 24 * 30)
    assert rings.conditions("web-1")["Progressing"] == "False UpdateRunStuck"
    assert rings.started("web-1") == ["canary"]


def test_a_delivery_that_breaks_off_halfway_is_completed_later(rings: World):
    rings.member("canary").breaks_after(1)
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    assert rings.running() == {"canary"}
    assert rings.value("canary") is None
    assert rings.placement().records["canary"].complete_at is None
    rings.heals("canary")
    rings.passes()
    assert rings.run("web-1").end == "Succeeded"


def test_a_lost_reply_does_not_write_twice(rings: World):
    rings.member("canary").loses_replies()
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    assert rings.value("canary") == "value1"
    assert rings.running() == {"canary"}
    written = rings.writes("canary")
    rings.heals("canary")
    rings.passes()
    assert rings.run("web-1").end == "Succeeded"
    assert rings.writes("canary") == written


def test_a_member_that_forgot_its_inventory_is_delivered_anew_at_its_next_turn(rings: World):
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    rings.member("canary").forgets()
    rings.commits("runs/web-2.yaml", run("web-2"))
    rings.passes()
    assert rings.run("web-2").end == "Succeeded"
    assert rings.values() == {"canary": "value1", "east": "value1", "west": "value1"}


def test_a_member_that_forgets_while_it_is_watched_is_delivered_again(rings: World):
    rings.breaks("canary")
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    rings.member("canary").forgets()
    rings.heals("canary")
    rings.passes(seconds=10)
    assert rings.run("web-1").end == "Succeeded"


def test_a_member_that_falls_silent_has_what_arrived_and_is_only_looked_at_when_it_is_back(rings: World):
    rings.breaks("canary")
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    rings.member("canary").falls_silent()
    rings.passes(seconds=1)
    found = rings.file("placements/_cluster/web/placement.yaml")["status"]["placementStatuses"][0]
    told = {one["type"]: (one["status"], one["reason"], one["message"]) for one in found["conditions"]}
    assert told["Applied"] == ("True", "AllWorkHaveBeenApplied", "All corresponding work objects are applied")
    assert told["Available"] == ("False", "NotAllWorkAreAvailable", "no answer")
    asked = len(rings.member("canary").calls)
    rings.heals("canary")
    rings.passes(seconds=1)
    assert {one.split()[0] for one in rings.member("canary").calls[asked:]} == {"observe"}
    assert rings.run("web-1").end == "Succeeded"


def test_another_cluster_under_the_same_name_is_stuck_at_once(rings: World):
    rings.member("canary").is_swapped()
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    assert rings.run("web-1").stages[0].clusters[0].reason == "IdentityChanged"
    assert rings.conditions("web-1")["Progressing"] == "False UpdateRunStuck"
    assert rings.writes("canary") == []


def test_a_cluster_that_the_operator_has_not_configured_waits_with_the_name_of_the_setting(rings: World):
    rings.members["canary"] = None
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    cluster = rings.run("web-1").stages[0].clusters[0]
    assert (cluster.reason, cluster.message) == ("NotConfigured", "delivery.clusters.canary is not in the settings")


def test_an_object_of_another_placement_is_not_touched(rings: World):
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    rings.commits("placements/other.yaml", manifests.placement("other"))
    rings.commits("runs/other-1.yaml", run("other-1", placement="other"))
    rings.passes()
    cluster = rings.run("other-1").stages[0].clusters[0]
    assert cluster.reason == "Conflict"
    assert cluster.message == (
        "it belongs to ClusterResourcePlacement web on this member; ClusterResourcePlacement other does not touch it"
    )
    assert f"canary: Conflict: Namespace app: {cluster.message}" in rings.message("other-1", "Progressing")
    assert rings.conditions("other-1")["Progressing"] == "False UpdateRunStuck"


@pytest.mark.parametrize("wiped", [False, True], ids=["state kept", "state wiped"])
def test_a_daemon_that_died_between_intent_and_delivery_delivers_under_that_intent(rings: World, wiped):
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.daemons[0].reconciler.run_pass()
    seq = rings.run("web-1").stages[0].clusters[0].seq
    assert rings.writes("canary") == []
    rings.restarts(wiped=wiped)
    rings.passes()
    assert rings.run("web-1").end == "Succeeded"
    assert rings.placement().records["canary"].seq == seq


def test_a_daemon_that_died_before_it_recorded_an_answer_asks_again_and_writes_nothing(rings: World):
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.daemons[0].step()
    written = rings.writes("canary")
    assert rings.value("canary") == "value1"
    rings.restarts(wiped=True)
    rings.passes()
    assert rings.run("web-1").end == "Succeeded"
    assert rings.writes("canary") == written


def test_content_that_was_changed_on_the_member_before_it_was_seen_healthy_is_delivered_again(rings: World):
    rings.breaks("canary")
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    member = rings.member("canary")
    for key, body in list(member.objects.items()):
        member.objects[key] = {**body, "data": {"key": "drifted"}}
    rings.heals("canary")
    rings.passes(seconds=10)
    assert rings.value("canary") == "value1"
    assert rings.run("web-1").end == "Succeeded"


@pytest.mark.parametrize("how", ["withdrawn", "stopped"])
def test_a_cluster_that_departs_is_delivered_to_no_longer_whatever_its_run_does(rings: World, how: str):
    rings.breaks("canary")
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    rings.commits("runs/web-1.yaml", None if how == "withdrawn" else run("web-1", state="Stop"))
    rings.passes()
    assert rings.running() == {"canary"}
    rings.leaves("canary")
    rings.passes()
    assert (rings.running(), rings.daemons[0].hands._jobs) == (set(), {})
    assert rings.run("web-1").stages[0].clusters[0].departed_at is not None
    if how == "stopped":  # the log of the other has left the tree
        assert "| 0/3, 1 skipped |" in rings.status().files["README.md"].decode()


@pytest.mark.parametrize("ready", [True, False], ids=["done", "in flight"])
def test_a_cluster_that_departed_does_not_keep_the_next_run_from_starting(rings: World, ready):
    if not ready:
        rings.breaks("canary")
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    rings.commits({"runs/web-1.yaml": None, "clusters/canary.yaml": None})
    rings.commits({"runs/web-2.yaml": run("web-2")})
    rings.passes()
    assert (rings.run("web-2").failure, rings.run("web-2").end) == ("", "Succeeded")
    assert rings.started("web-2") == ["east", "west"]


def applied(**strategy: object) -> str:
    return manifests.placement(strategy={"type": "External", "applyStrategy": strategy})


def test_what_is_there_already_is_left_where_nothing_may_be_taken_over(rings: World):
    """The cluster is stuck and the rule is named; once the object is out of the way the run goes on."""
    stranger = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "app", "labels": {"by": "hand"}}}
    rings.member("canary").objects[key_of(stranger)] = stranger
    rings.commits({"placements/web.yaml": applied(whenToTakeOver="Never"), "runs/web-1.yaml": run("web-1")})
    rings.passes()
    assert rings.conditions("web-1")["Progressing"] == "False UpdateRunStuck"
    words = "canary: Conflict: Namespace app: it is there already and not ours; whenToTakeOver is Never"
    assert rings.message("web-1", "Progressing").endswith(words)
    assert rings.member("canary").objects[key_of(stranger)] == stranger
    del rings.member("canary").objects[key_of(stranger)]
    rings.passes(minutes=2)
    assert rings.run("web-1").end == "Succeeded"


def test_an_equal_object_is_taken_over_where_that_is_the_rule(rings: World):
    equal = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "app"}}
    rings.member("canary").objects[key_of(equal)] = equal
    rings.commits({"placements/web.yaml": applied(whenToTakeOver="IfNoDiff"), "runs/web-1.yaml": run("web-1")})
    rings.passes()
    assert rings.run("web-1").end == "Succeeded"


def test_two_placements_share_an_object_where_both_allow_it(rings: World):
    """The one that goes spares what the other still has."""
    shared = {"strategy": {"type": "External", "applyStrategy": {"allowCoOwnership": True}}}
    names = ("web", "twin")
    rings.commits({f"placements/{name}.yaml": manifests.placement(name, **shared) for name in names})
    for name in names:
        rings.commits(f"runs/{name}-1.yaml", run(f"{name}-1", placement=name))
        rings.passes()
        assert rings.run(f"{name}-1").end == "Succeeded"
    rings.removes("placements/twin.yaml")
    rings.passes(minutes=30)
    assert all(one.is_empty for one in rings.placement("twin").records.values())
    assert "app" in {key.name for key in rings.member("canary").objects}


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        ({"type": "ClientSideApply"}, 1),
        ({"type": "ServerSideApply"}, 0),
        ({}, 0),
    ],
    ids=["said once", "as it was asked", "nothing was asked"],
)
def test_a_client_side_apply_is_said_to_be_carried_out_by_server_side_apply(rings: World, strategy, said: int):
    rings.commits({"placements/web.yaml": applied(**strategy), "runs/web-1.yaml": run("web-1")})
    rings.passes()
    status = rings.file("placements/_cluster/web/placement.yaml")["status"]
    assert repr(status).count("ClientSideApply is carried out by server-side apply") == said
    assert [one["status"] for one in status["conditions"]] == ["True"] * len(status["conditions"])
