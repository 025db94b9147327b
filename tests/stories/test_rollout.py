"""Rollouts from a merged run to the end."""

from datetime import timedelta

import pytest

from reconciler.core.status import FORMAT, When
from tests import manifests
from tests.manifests import run, stage, strategy
from tests.world import World


def test_the_article_rolls_out_stage_by_stage_and_back_again(article: World):
    article.commits("runs/example-run.yaml", manifests.article("clusterstagedupdaterun-example-run"), "Roll out value2")
    article.passes()
    assert article.values("test-cm") == {"member1": None, "member2": "value2", "member3": None}
    assert article.stages("example-run") == {"staging": "Waiting", "canary": ""}
    article.passes(seconds=59)
    assert article.stages("example-run") == {"staging": "Waiting", "canary": ""}
    article.passes(seconds=1)
    assert article.started("example-run") == ["member2", "member3", "member1"]
    assert article.stages("example-run") == {"staging": "Succeeded", "canary": "Waiting"}
    assert article.conditions("example-run") == {
        "Initialized": "True UpdateRunInitializedSuccessfully",
        "Progressing": "False UpdateRunWaiting",
    }
    article.approves("example-run", "canary")
    article.passes()
    assert article.conditions("example-run")["Succeeded"] == "True UpdateRunSucceeded"
    assert article.values("test-cm") == {"member1": "value2", "member2": "value2", "member3": "value2"}

    article.commits("runs/example-run-2.yaml", manifests.article("clusterstagedupdaterun-example-run-2"), "Back")
    article.passes(minutes=1)
    article.approves("example-run-2", "canary")
    article.passes()
    assert article.values("test-cm") == {"member1": "value1", "member2": "value1", "member3": "value1"}
    assert article.run("example-run-2").end == "Succeeded"


def test_a_request_is_named_before_its_gate_opens(article: World):
    article.commits("runs/example-run.yaml", manifests.article("clusterstagedupdaterun-example-run"))
    article.passes()
    _, canary = article.object("example-run")["status"]["stagesStatus"]
    assert canary["afterStageTaskStatus"] == [{"approvalRequestName": "example-run-canary", "type": "Approval"}]


def test_the_articles_namespaced_tab_rolls_out_alike(article: World):
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web-app", "namespace": "my-app-namespace"},
        "spec": {"replicas": 3},
    }
    service = deployment | {"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 80}]}}
    article.commits("resources/web-app.yaml", manifests.text(deployment, service))
    article.commits("placements/web-app.yaml", manifests.article("resourceplacement-web-app-placement"))
    article.commits("resources/web-app.yaml", manifests.text(deployment | {"spec": {"replicas": 4}}, service))
    article.commits("strategies/app.yaml", manifests.article("stagedupdatestrategy-app-rollout-strategy"))
    article.commits("runs/web-app.yaml", manifests.article("stagedupdaterun-web-app-rollout-v1-21"))
    article.passes(seconds=30)
    assert article.stages("web-app-rollout-v1-21") == {"staging": "Succeeded", "canary": "Waiting"}
    article.approves("web-app-rollout-v1-21", "canary", namespace="my-app-namespace")
    article.passes()
    assert article.run("web-app-rollout-v1-21").end == "Succeeded"
    held = {str(key): body["spec"] for key, body in article.member("member1").objects.items()}
    assert held == {
        "Deployment my-app-namespace/web-app": {"replicas": 4},
        "Service my-app-namespace/web-app": {"ports": [{"port": 80}]},
    }


def test_the_status_branch_tells_a_rollout_to_whoever_reads_its_log(rings: World):
    rings.commits("strategies/rings.yaml", strategy(stage("canary", approval=True), stage("prod")), "Ask after canary")
    rings.commits("runs/web-1.yaml", run("web-1"), "Roll out")
    rings.passes()
    rings.approves("web-1", "canary")
    rings.passes()
    assert rings.log() == (
        "Begin the status branch\n\n"
        f"Observed-Commit: <Begin>\nFormat: {FORMAT}\n\n"
        "web-1: updating stage canary, 0 of 1\n\n"
        "web-1  RunInitialized\n"
        "web-1  canary  canary  Started  intent 8\n\n"
        f"Run: web-1\nSnapshot: 0 (<hash>)\nObserved-Commit: <Roll out>\nFormat: {FORMAT}\n\n"
        "web-1: stage canary waiting for Approval\n\n"
        "web-1  canary  canary  Available\n"
        "web-1  canary  after Approval opened\n\n"
        f"Run: web-1\nSnapshot: 0 (<hash>)\nObserved-Commit: <Roll out>\nFormat: {FORMAT}\n\n"
        "web-1: updating stage prod, 0 of 2\n\n"
        "web-1  canary  after Approval passed by commit <Approve web-1-canary>\n"
        "web-1  prod  east  Started  intent 13\n\n"
        f"Run: web-1\nSnapshot: 0 (<hash>)\nObserved-Commit: <Approve web-1-canary>\nFormat: {FORMAT}\n\n"
        "web-1: updating stage prod, 1 of 2\n\n"
        "web-1  prod  east  Available\n"
        "web-1  prod  west  Started  intent 15\n\n"
        f"Run: web-1\nSnapshot: 0 (<hash>)\nObserved-Commit: <Approve web-1-canary>\nFormat: {FORMAT}\n\n"
        "web-1: succeeded\n\n"
        "web-1  prod  west  Available\n"
        "web-1  RunCompleted\n\n"
        f"Run: web-1\nSnapshot: 0 (<hash>)\nObserved-Commit: <Approve web-1-canary>\nFormat: {FORMAT}"
    )


@pytest.mark.parametrize("how", ["merge commit", "squash", "push"])
def test_a_run_starts_alike_however_it_reached_the_branch(rings: World, how: str):
    if how == "push":
        rings.commits("resources/app/settings.yaml", manifests.config_map("value2"))
        rings.commits("runs/web-1.yaml", run("web-1", index=1))
    else:
        rings.branches("change")
        rings.commits("resources/app/settings.yaml", manifests.config_map("value2"), on="change")
        rings.commits("runs/web-1.yaml", run("web-1", index=1), on="change")
        rings.merges("change", squash=how == "squash")
    rings.passes()
    assert rings.run("web-1").end == "Succeeded"
    assert rings.started("web-1") == ["canary", "east", "west"]
    assert rings.values() == {"canary": "value2", "east": "value2", "west": "value2"}


def test_a_merge_is_one_commit_and_makes_one_snapshot_of_what_its_side_did_in_two(rings: World):
    rings.branches("change")
    for value in ("value2", "value3"):
        rings.commits("resources/app/settings.yaml", manifests.config_map(value), on="change")
    merge = rings.merges("change")
    rings.passes()
    assert [(one.index, one.position) for one in rings.placement().snapshots] == [(0, 3), (1, 4)]
    assert rings.placement().snapshots[1].commit == merge


def test_a_stage_without_clusters_is_skipped_whole(rings: World):
    """Neither its gates open nor is anything asked of anybody."""
    empty = stage("staging", before=True, approval=True, wait="1h")
    rings.commits("strategies/rings.yaml", strategy(stage("canary"), empty, stage("prod")))
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    assert rings.stages("web-1") == {"canary": "Succeeded", "staging": "SkippedNoClusters", "prod": "Succeeded"}
    assert not [path for path in rings.status().files if path.startswith("approvals/")]


def test_no_more_clusters_are_in_flight_than_max_concurrency_says(rings: World):
    """A slot that becomes free is used in the same pass, whoever freed it."""
    for name in "abcde":
        rings.joins(name, ring="wide").becomes_unavailable()
    rings.commits("strategies/rings.yaml", strategy(stage("wide", maxConcurrency=2), stage("canary"), stage("prod")))
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    assert rings.running() == {"a", "b"}
    rings.heals("b")
    rings.passes()
    assert rings.running() == {"a", "c"}
    rings.heals("a", "c", "d", "e")
    rings.passes()
    assert rings.run("web-1").end == "Succeeded"


def test_a_result_that_changes_nothing_else_waits_a_moment_for_members_that_are_being_called(rings: World):
    rings.commits("strategies/rings.yaml", strategy(stage("prod", maxConcurrency=2), stage("canary")))
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.breaks("west")
    daemon = rings.daemons[0]
    daemon.hands.calling = True
    daemon.step()
    before = rings.head("fleet-status")
    daemon.step()
    assert (rings.head("fleet-status"), daemon.reconciler.idle()) == (before, False)
    assert daemon.recheck_at == rings.clock.now() + timedelta(seconds=0.2)
    rings.clock.never_before(daemon.recheck_at)
    daemon.step()
    assert (rings.running(), daemon.reconciler.idle()) == ({"west"}, True)


def test_a_result_that_changes_nothing_else_is_recorded_at_once_when_nobody_is_being_called(rings: World):
    rings.commits("strategies/rings.yaml", strategy(stage("prod", maxConcurrency=2), stage("canary")))
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.breaks("west")
    daemon = rings.daemons[0]
    daemon.step()
    daemon.step()
    assert rings.running() == {"west"}


def test_a_slot_that_becomes_free_is_used_at_once_whoever_is_being_called(rings: World):
    rings.commits("strategies/rings.yaml", strategy(stage("prod", maxConcurrency=1), stage("canary")))
    rings.commits("runs/web-1.yaml", run("web-1"))
    daemon = rings.daemons[0]
    daemon.hands.calling = True
    daemon.step()
    assert rings.running() == {"east"}
    daemon.step()
    assert rings.running() == {"west"}


def test_a_percentage_of_a_stage_is_rounded_down_but_never_to_nothing(rings: World):
    for name in "abcde":
        rings.joins(name, ring="wide").becomes_unavailable()
    wide, prod = stage("wide", maxConcurrency="50%"), stage("prod", maxConcurrency="1%")
    rings.commits("strategies/rings.yaml", strategy(wide, prod, stage("canary")))
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    assert rings.running() == {"a", "b"}
    rings.breaks("east")
    rings.heals(*"abcde")
    rings.passes()
    assert rings.running() == {"east"}


def test_clusters_go_by_the_number_on_their_label_then_by_name(rings: World):
    for name, order in {"a": "10", "b": "9", "c": "0", "d": "9", "e": "007"}.items():
        rings.joins(name, ring="sorted", order=order)
    first = stage("sorted", sortingLabelKey="order")
    rings.commits("strategies/rings.yaml", strategy(first, stage("canary"), stage("prod")))
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    assert rings.started("web-1") == ["c", "e", "b", "d", "a", "canary", "east", "west"]


def test_nothing_of_a_stage_starts_before_its_approval(rings: World):
    rings.commits("strategies/rings.yaml", strategy(stage("canary"), stage("prod", before=True)))
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes(minutes=60)
    assert rings.started("web-1") == ["canary"]
    assert rings.gate("web-1", "prod", When.BEFORE).request == "web-1-before-prod"
    assert rings.message("web-1", "Progressing") == (
        "The updateRun is waiting for before-stage tasks in stage prod to complete"
    )
    assert "startTime" not in rings.object("web-1")["status"]["stagesStatus"][1]
    rings.approves("web-1-before", "prod")
    rings.passes()
    assert rings.run("web-1").end == "Succeeded"


def test_a_wait_counts_from_the_moment_the_last_cluster_was_seen_healthy(rings: World):
    both = stage("prod", wait="10m", maxConcurrency=2)
    rings.commits("strategies/rings.yaml", strategy(both, stage("canary")))
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.breaks("west")
    rings.passes(minutes=4)
    rings.heals("west")
    rings.passes(minutes=9, seconds=59)
    assert rings.stages("web-1") == {"prod": "Waiting", "canary": ""}
    rings.passes(seconds=1)
    assert rings.stages("web-1") == {"prod": "Succeeded", "canary": "Succeeded"}


@pytest.mark.parametrize("wiped", [False, True], ids=["state kept", "state wiped"])
def test_a_wait_is_not_begun_anew_by_a_restart(rings: World, wiped):
    rings.commits("strategies/rings.yaml", strategy(stage("canary", wait="10m"), stage("prod")))
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes(minutes=6)
    rings.restarts(wiped=wiped)
    rings.passes(minutes=3)
    rings.restarts(wiped=wiped)
    rings.passes(seconds=59)
    assert rings.stages("web-1") == {"canary": "Waiting", "prod": ""}
    rings.passes(seconds=1)
    assert rings.run("web-1").end == "Succeeded"


def test_a_wait_is_not_begun_anew_by_a_stop(rings: World):
    rings.commits("strategies/rings.yaml", strategy(stage("canary", wait="10m"), stage("prod")))
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes(minutes=6)
    rings.commits("runs/web-1.yaml", run("web-1", state="Stop"))
    rings.passes(minutes=10)
    assert rings.conditions("web-1")["Progressing"] == "False UpdateRunStopped"
    rings.commits("runs/web-1.yaml", run("web-1", state="Run"))
    rings.passes()
    assert rings.run("web-1").end == "Succeeded"


def test_an_approval_is_asked_for_at_once_while_the_wait_runs(rings: World):
    rings.commits("strategies/rings.yaml", strategy(stage("canary", wait="1h", approval=True), stage("prod")))
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    assert rings.gate("web-1", "canary").request == "web-1-canary"
    rings.approves("web-1", "canary")
    rings.passes(minutes=59)
    assert rings.gate("web-1", "canary").passed_at is not None
    assert rings.stages("web-1") == {"canary": "Waiting", "prod": ""}
    rings.passes(minutes=1)
    assert rings.run("web-1").end == "Succeeded"


def test_a_stopped_run_finishes_what_is_in_flight_and_starts_nothing(rings: World):
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.breaks("east")
    rings.passes()
    rings.commits("runs/web-1.yaml", run("web-1", state="Stop"))
    rings.passes()
    assert rings.conditions("web-1")["Progressing"] == "Unknown UpdateRunStopping"
    assert rings.stages("web-1") == {"canary": "Succeeded", "prod": "Stopping"}
    rings.heals("east")
    rings.passes(minutes=10)
    assert rings.conditions("web-1")["Progressing"] == "False UpdateRunStopped"
    assert rings.values() == {"canary": "value1", "east": "value1", "west": None}
    rings.commits("runs/web-1.yaml", run("web-1", state="Run"))
    rings.passes()
    assert rings.run("web-1").end == "Succeeded"


def test_a_run_that_comes_stopped_is_planned_and_starts_when_it_is_let_go(rings: World):
    rings.commits("runs/web-1.yaml", run("web-1", state="Stop"))
    rings.passes(minutes=10)
    assert rings.run("web-1").pin is not None
    assert rings.started("web-1") == []
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    assert rings.run("web-1").end == "Succeeded"


def test_a_run_that_is_only_to_be_initialized_plans_and_waits(rings: World):
    rings.commits("runs/web-1.yaml", run("web-1", state="Initialize"))
    rings.passes(minutes=10)
    assert rings.conditions("web-1") == {"Initialized": "True UpdateRunInitializedSuccessfully"}
    assert rings.started("web-1") == []
    rings.commits("runs/web-1.yaml", run("web-1", state="Run"))
    rings.passes()
    assert rings.run("web-1").end == "Succeeded"


def test_the_clusters_of_a_run_are_those_of_its_initialization(rings: World):
    """Who joins later is not in it; who leaves is skipped, and stays skipped."""
    rings.breaks("east")
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    rings.joins("north", ring="prod")
    rings.relabels("west", ring="canary")
    rings.leaves("east")
    rings.passes()
    assert rings.run("web-1").end == "Succeeded"
    assert rings.values() == {"canary": "value1", "east": "value1", "north": None, "west": "value1"}
    prod = rings.object("web-1")["status"]["stagesStatus"][1]
    assert [(one["clusterName"], one["conditions"][-1]["reason"]) for one in prod["clusters"]] == [
        ("east", "ClusterDeparted"),
        ("west", "ClusterUpdatingSucceeded"),
    ]


def test_a_cluster_that_left_and_came_back_is_another_cluster(rings: World):
    rings.commits("strategies/rings.yaml", strategy(stage("canary", approval=True), stage("prod")))
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    rings.leaves("west")
    rings.joins("west", ring="prod")
    rings.approves("web-1", "canary")
    rings.passes()
    assert rings.run("web-1").end == "Succeeded"
    assert rings.values() == {"canary": "value1", "east": "value1", "west": None}


def test_a_stage_that_was_emptied_by_departures_still_asks(rings: World):
    rings.commits("strategies/rings.yaml", strategy(stage("canary"), stage("prod", before=True, approval=True)))
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    rings.removes("clusters/east.yaml", "clusters/west.yaml")
    rings.passes(minutes=10)
    assert rings.stages("web-1") == {"canary": "Succeeded", "prod": "Waiting"}
    rings.approves("web-1-before", "prod")
    rings.passes()
    assert rings.run("web-1").end is None
    rings.approves("web-1", "prod")
    rings.passes()
    assert rings.run("web-1").end == "Succeeded"


def test_a_strategy_that_is_edited_or_removed_does_not_move_a_run(rings: World):
    rings.commits("strategies/rings.yaml", strategy(stage("canary", approval=True), stage("prod")))
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    rings.commits("strategies/rings.yaml", strategy(stage("prod", before=True), stage("canary")))
    rings.removes("strategies/rings.yaml")
    rings.approves("web-1", "canary")
    rings.passes()
    assert rings.run("web-1").end == "Succeeded"


def test_a_policy_that_is_edited_does_not_move_a_run(rings: World):
    rings.commits("strategies/rings.yaml", strategy(stage("canary", approval=True), stage("prod")))
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    terms = [{"labelSelector": {"matchLabels": {"ring": "canary"}}}]
    fewer = {"requiredDuringSchedulingIgnoredDuringExecution": {"clusterSelectorTerms": terms}}
    policy = {"placementType": "PickAll", "affinity": {"clusterAffinity": fewer}}
    rings.commits("placements/web.yaml", manifests.placement(policy=policy))
    rings.approves("web-1", "canary")
    rings.passes()
    assert list(rings.placement().scheduled) == ["canary"]
    assert rings.run("web-1").end == "Succeeded"
    assert rings.values() == {"canary": "value1", "east": "value1", "west": "value1"}


def test_content_that_changes_during_a_run_waits_for_the_next(rings: World):
    rings.commits("strategies/rings.yaml", strategy(stage("canary", approval=True), stage("prod")))
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    rings.commits("resources/app/settings.yaml", manifests.config_map("value2"))
    rings.approves("web-1", "canary")
    rings.passes()
    assert rings.values() == {"canary": "value1", "east": "value1", "west": "value1"}


def test_a_run_that_was_removed_is_withdrawn_and_clusters_keep_what_they_have(rings: World):
    rings.breaks("east")
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    rings.removes("runs/web-1.yaml")
    rings.passes()
    assert rings.conditions("web-1")["Succeeded"] == "False UpdateRunWithdrawn"
    assert rings.running() == {"east"}
    rings.heals("east")
    rings.passes(minutes=10)
    assert rings.running() == set()
    assert rings.values() == {"canary": "value1", "east": "value1", "west": None}


def test_a_run_is_pinned_to_the_content_that_was_reviewed(rings: World):
    rings.commits("runs/web-1.yaml", run("web-1", annotations={"kubernetes-fleet.io/resource-hash": "0" * 64}))
    rings.passes()
    assert rings.message("web-1", "Initialized") == (
        "cannot continue the updateRun: failed to validate the updateRun: failed to process the request due to a "
        f"client error: resourceSnapshot 0 has the resource-hash {rings.placement().snapshots[0].hash}, the run was "
        f"reviewed with {'0' * 64}: review what changed and commit a new run"
    )
    assert rings.writes("canary") == []


def test_what_is_removed_from_the_content_is_removed_from_the_members(rings: World):
    rings.commits("resources/app/more.yaml", manifests.config_map("more", "more"))
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    assert rings.value("east", "more") == "more"
    rings.removes("resources/app/more.yaml")
    rings.commits("runs/web-2.yaml", run("web-2"))
    rings.passes()
    assert rings.values("more") == {"canary": None, "east": None, "west": None}
    assert rings.values() == {"canary": "value1", "east": "value1", "west": "value1"}


def test_a_wait_may_be_half_a_second(rings: World):
    rings.commits("strategies/rings.yaml", strategy(stage("canary", wait="0.5s"), stage("prod")))
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes(seconds=0.4)
    assert rings.stages("web-1") == {"canary": "Waiting", "prod": ""}
    rings.passes(seconds=0.1)
    assert rings.run("web-1").end == "Succeeded"
