"""Conditions and objects, in the words of the article where it shows them, else in KubeFleet's."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from reconciler.core import conditions
from reconciler.core import events as e
from reconciler.core.actions import Reason
from reconciler.core.status import PlacementState, PolicySnapshot, When
from tests.core import logs
from tests.core.logs import Log, gate, opened, reported, started

ARTICLE = Path(__file__).parent / "article-run.yaml"


def articles_log() -> Log:
    """Return the article's run at the article's moments: waiting for the approval of its canaries."""
    log = Log().at("21:28:08")
    for step in (*logs.STARTED, started(0, "member2")):
        log.step(step)
    log.at("21:28:23").step(reported(0, "member2", 4)).step(opened(0, "TimedWait"))
    log.at("21:29:23").step(gate(e.GatePassed, 0, "TimedWait")).step((e.StageCompleted, {"stage": 0}))
    log.step(started(1, "member3"))
    log.at("21:29:38").step(reported(1, "member3", 9)).step(started(1, "member1"))
    request = {"head": logs.COMMIT, "position": 8, "request": "example-run-canary", "request_uid": "uid-request"}
    log.at("21:29:53").step(reported(1, "member1", 11)).step(gate(e.GateOpened, 1, "Approval", **request))
    return log


def test_the_waiting_run_is_the_articles_to_the_letter():
    """Only `appliedStrategy` and `resourceSnapshotIndexUsed` are more than the article shows."""
    shown = yaml.safe_load(ARTICLE.read_text())
    made = yaml.safe_load(yaml.safe_dump(conditions.run_object(articles_log().run)))
    status = {
        key: held for key, held in made["status"].items() if key not in ("appliedStrategy", "resourceSnapshotIndexUsed")
    }
    assert status == shown["status"]
    assert (made["apiVersion"], made["kind"], made["spec"]) == (shown["apiVersion"], shown["kind"], shown["spec"])
    assert made["metadata"]["name"] == shown["metadata"]["name"]


def texts(found) -> list[tuple[str, str, str, str]]:
    return [(one["type"], one["status"], one["reason"], one["message"]) for one in found]


def test_the_finished_run_has_kubefleets_words():
    log = articles_log().at("21:33:36")
    log.step(gate(e.GatePassed, 1, "Approval", approval=logs.APPROVAL)).step((e.StageCompleted, {"stage": 1}))
    log.step((e.RunCompleted, {}))
    status = conditions.run_object(log.run)["status"]
    assert texts(status["conditions"]) == [
        (
            "Initialized",
            "True",
            "UpdateRunInitializedSuccessfully",
            "ClusterStagedUpdateRun initialized successfully",
        ),
        ("Progressing", "False", "UpdateRunSucceeded", "All stages are completed"),
        ("Succeeded", "True", "UpdateRunSucceeded", "All stages are completed successfully"),
    ]
    done = [
        (
            "Progressing",
            "False",
            "StageUpdatingSucceeded",
            "All clusters in the stage are updated and after-stage tasks are completed",
        ),
        ("Succeeded", "True", "StageUpdatingSucceeded", "Stage update completed successfully"),
    ]
    assert [texts(one["conditions"]) for one in status["stagesStatus"]] == [done, done]
    assert texts(status["deletionStageStatus"]["conditions"]) == done
    assert status["deletionStageStatus"]["startTime"] == status["deletionStageStatus"]["endTime"]
    assert texts(status["stagesStatus"][1]["afterStageTaskStatus"][0]["conditions"]) == [
        (
            "ApprovalRequestCreated",
            "True",
            "AfterStageTaskApprovalRequestCreated",
            "ClusterApprovalRequest is created",
        ),
        (
            "ApprovalRequestApproved",
            "True",
            "AfterStageTaskApprovalRequestApproved",
            "ClusterApprovalRequest is approved",
        ),
    ]


def test_a_stages_progressing_is_as_old_as_its_status_not_as_its_reason():
    """It went False when the wait began, and stays so when the stage completes."""
    stage = conditions.run_object(articles_log().run)["status"]["stagesStatus"][0]
    assert stage["conditions"][0]["lastTransitionTime"] == "2025-07-22T21:28:23Z"
    assert stage["conditions"][1]["lastTransitionTime"] == "2025-07-22T21:29:23Z"


PROGRESS = [
    pytest.param(logs.SEEN, None, id="not initialized"),
    pytest.param(logs.INITIALIZED, None, id="only initialized"),
    pytest.param(
        logs.FIRST, ("True", "UpdateRunProgressing", "The update run is making progress"), id="a cluster in flight"
    ),
    pytest.param(
        logs.WAITING,
        (
            "False",
            "UpdateRunWaiting",
            "The updateRun is waiting for after-stage tasks in stage staging to complete",
        ),
        id="after a stage",
    ),
    pytest.param(
        logs.BEFORE_GATE,
        ("False", "UpdateRunWaiting", "The updateRun is waiting for before-stage tasks in stage gated to complete"),
        id="before a stage",
    ),
    pytest.param(
        (*logs.FIRST, (e.ClusterOverdue, {"stage": 0, "cluster": "member2"})),
        (
            "False",
            "UpdateRunStuck",
            (
                "The updateRun is stuck waiting for member2 cluster(s) in stage staging to finish updating, please "
                "check placement status for potential errors"
            ),
        ),
        id="overdue",
    ),
    pytest.param(
        (*logs.FIRST, reported(0, "member2", 4, Reason.CONFLICT, complete="")),
        (
            "False",
            "UpdateRunStuck",
            (
                "The updateRun is stuck waiting for member2 cluster(s) in stage staging to finish updating, please "
                "check placement status for potential errors: member2: Conflict"
            ),
        ),
        id="in conflict",
    ),
    pytest.param(
        (*logs.FIRST, reported(0, "member2", 4, Reason.REFUSED, complete="", object="Pod a/b", message="no " * 200)),
        (
            "False",
            "UpdateRunStuck",
            (
                "The updateRun is stuck waiting for member2 cluster(s) in stage staging to finish updating, please "
                "check placement status for potential errors: "
                + ("member2: Refused: Pod a/b: " + "no " * 200)[:499]
                + "…"
            ),
        ),
        id="refused at length",
    ),
    pytest.param(
        (*logs.FIRST, (e.RunEdited, {"commit": "d", "generation": 2, "spec": {**logs.SPEC, "state": "Stop"}})),
        (
            "Unknown",
            "UpdateRunStopping",
            (
                "The update run is the process of stopping, waiting for all the updating/deleting clusters to finish "
                "updating before completing the stop process"
            ),
        ),
        id="stopping",
    ),
    pytest.param(
        (*logs.UPDATED, (e.RunEdited, {"commit": "d", "generation": 2, "spec": {**logs.SPEC, "state": "Stop"}})),
        ("False", "UpdateRunStopped", "The update run has been stopped"),
        id="stopped",
    ),
    pytest.param(
        logs.SUPERSEDED,
        (
            "False",
            "UpdateRunSuperseded",
            "The update run starts nothing new: superseded by the newer run example-run-2",
        ),
        id="superseded",
    ),
]


@pytest.mark.parametrize(("steps", "expected"), PROGRESS)
def test_a_run_says_how_it_progresses(steps, expected):
    condition = conditions.run_progress(Log().all_of(steps).run)
    assert (condition and (condition.status, condition.reason, condition.message)) == expected


STAGES = [
    pytest.param(logs.FIRST, ("True", "StageUpdatingStarted", "Clusters in the stage started updating"), id="started"),
    pytest.param(
        logs.WAITING,
        (
            "False",
            "StageUpdatingWaiting",
            "All clusters in the stage are updated, waiting for after-stage tasks to complete",
        ),
        id="waiting after",
    ),
    pytest.param(
        logs.SKIPPED,
        ("False", "StageUpdatingSkippedNoClusters", "Stage skipped because it has no clusters"),
        id="skipped",
    ),
    pytest.param(
        (*logs.FIRST, (e.RunEdited, {"commit": "d", "generation": 2, "spec": {**logs.SPEC, "state": "Stop"}})),
        (
            "Unknown",
            "StageUpdatingStopping",
            "Waiting for all the updating clusters to finish updating before completing the stop process",
        ),
        id="stopping",
    ),
    pytest.param(
        (*logs.UPDATED, (e.RunEdited, {"commit": "d", "generation": 2, "spec": {**logs.SPEC, "state": "Stop"}})),
        (
            "False",
            "StageUpdatingStopped",
            "All the updating clusters have finished updating, the stage is now stopped, waiting to be resumed",
        ),
        id="stopped",
    ),
]


@pytest.mark.parametrize(("steps", "expected"), STAGES)
def test_a_stage_says_how_it_progresses(steps, expected):
    condition = conditions.stage_progress(Log().all_of(steps).run, 0)
    assert condition is not None
    assert (condition.status, condition.reason, condition.message) == expected


def test_a_stage_that_waits_before_it_starts_has_no_start_time():
    stage = conditions.run_object(Log().all_of(logs.BEFORE_GATE).run)["status"]["stagesStatus"][1]
    assert texts(stage["conditions"]) == [
        (
            "Progressing",
            "False",
            "StageUpdatingWaiting",
            "Not all before-stage tasks are completed, waiting for approval",
        )
    ]
    assert "startTime" not in stage
    assert texts(stage["beforeStageTaskStatus"][0]["conditions"]) == [
        ("ApprovalRequestCreated", "True", "StageTaskApprovalRequestCreated", "ApprovalRequest object is created")
    ]


def test_a_failed_initialization_says_why_since_the_first_time():
    log = Log().all_of(logs.SEEN)
    for words in ("no placement", "no strategy"):
        log.happens(e.InitializationFailed, commit=logs.COMMIT, message=words).later(60)
    assert conditions.run_object(log.run)["status"]["conditions"] == [
        {
            "lastTransitionTime": "2025-07-22T21:28:13Z",
            "message": "no strategy",
            "observedGeneration": 1,
            "reason": "UpdateRunInitializedFailed",
            "status": "False",
            "type": "Initialized",
        }
    ]


def test_an_approval_request_has_the_articles_name_and_kubefleets_labels():
    (request,) = conditions.approval_objects(articles_log().run)
    assert request == {
        "apiVersion": "placement.kubernetes-fleet.io/v1beta1",
        "kind": "ClusterApprovalRequest",
        "metadata": {
            "creationTimestamp": "2025-07-22T21:29:53Z",
            "generation": 1,
            "name": "example-run-canary",
            "labels": {
                "kubernetes-fleet.io/isLatestUpdateRunApproval": "true",
                "kubernetes-fleet.io/targetUpdateRun": "example-run",
                "kubernetes-fleet.io/targetUpdatingStage": "canary",
                "kubernetes-fleet.io/taskType": "afterStage",
            },
            "uid": "uid-request",
        },
        "spec": {"parentStageRollout": "example-run", "targetStage": "canary"},
    }


def test_a_snapshot_has_the_articles_labels_and_annotations():
    state = PlacementState(key=logs.PLACEMENT, uid="uid-placement", snapshots=(logs.SNAPSHOT, logs.SNAPSHOT))
    first = conditions.snapshot_object(state, logs.SNAPSHOT, "uid-snapshot")
    latest = conditions.snapshot_object(state, replace(logs.SNAPSHOT, index=1, equals=0), "uid-snapshot", [])
    assert first["metadata"]["labels"] == {
        "kubernetes-fleet.io/is-latest-snapshot": "false",
        "kubernetes-fleet.io/parent-CRP": "example-placement",
        "kubernetes-fleet.io/resource-index": "0",
    }
    assert (latest["metadata"]["name"], latest["apiVersion"]) == (
        "example-placement-1-snapshot",
        "placement.kubernetes-fleet.io/v1",
    )
    shown = {key.removeprefix("kubernetes-fleet.io/"): one for key, one in latest["metadata"]["annotations"].items()}
    assert shown == {
        "number-of-enveloped-object": "0",
        "number-of-resource-snapshots": "1",
        "resource-hash": logs.HASH,
        "commit": logs.COMMIT,
        "author": "Ada <a@x>",
        "subject": "Place it",
        "same-content-as": "0",
    }
    assert "spec" not in first
    assert latest["spec"] == {"selectedResources": []}


# -- a placement ----------------------------------------------------------------------------------------------------


def placed(*steps) -> Log:
    log = Log().step(logs.PLACED).happens(e.SnapshotMade, run="", snapshot=logs.SNAPSHOT)
    log.happens(e.SnapshotMade, run="", snapshot=replace(logs.SNAPSHOT, index=1))
    names = ("member1", "member2", "member3")
    return log.happens(e.PlacementScheduled, run="", commit=logs.COMMIT, clusters=names).all_of(steps)


def kinds(log: Log) -> dict[str, tuple[str, str, str]]:
    prefix = "ClusterResourcePlacement"
    found = conditions.placement_object(log.state)["status"]["conditions"]
    return {one["type"].removeprefix(prefix): (one["status"], one["reason"], one["message"]) for one in found}


def rolled_out() -> Log:
    """Return the placement once all three clusters have what they were told."""
    log = placed(*logs.STARTED, started(0, "member2"))
    log.step(reported(0, "member2", log.state.seq)).step(opened(0, "TimedWait"))
    log.later(60).step(gate(e.GatePassed, 0, "TimedWait")).step((e.StageCompleted, {"stage": 0}))
    for name in ("member3", "member1"):
        log.step(started(1, name)).step(reported(1, name, log.state.seq + 0))
    return log


def test_a_placement_that_was_never_rolled_out_is_scheduled_and_says_where_to_look():
    assert kinds(placed()) == {
        "Scheduled": (
            "True",
            "SchedulingPolicyFulfilled",
            "found all cluster needed as specified by the scheduling policy, found 3 cluster(s)",
        ),
        "RolloutStarted": (
            "Unknown",
            "RolloutControlledByExternalController",
            (
                "Rollout is controlled by an external controller and no resource snapshot name is observed across "
                "clusters. To determine rollout status, check the ClusterStagedUpdateRun resources with "
                "spec.placementName matching this placement"
            ),
        ),
    }


def test_a_placement_in_the_middle_of_a_rollout_observes_different_versions():
    log = placed(*logs.STARTED, started(0, "member2"))
    assert kinds(log)["RolloutStarted"] == (
        "Unknown",
        "RolloutControlledByExternalController",
        (
            "Rollout is controlled by an external controller and different resource snapshot versions are observed "
            "across clusters"
        ),
    )
    status = conditions.placement_object(log.state)["status"]
    assert "observedResourceIndex" not in status
    assert [one.get("observedResourceIndex") for one in status["placementStatuses"]] == [None, "1", None]


def test_a_placement_that_is_rolled_out_is_available():
    log = rolled_out()
    found = kinds(log)
    assert {name: text[:2] for name, text in found.items()} == {
        "Scheduled": ("True", "SchedulingPolicyFulfilled"),
        "RolloutStarted": ("True", "RolloutStarted"),
        "Overridden": ("True", "NoOverrideSpecified"),
        "WorkSynchronized": ("True", "WorkSynchronized"),
        "Applied": ("True", "ApplySucceeded"),
        "Available": ("True", "ResourceAvailable"),
    }
    assert found["Available"][2] == "The selected resources in 3 cluster(s) are available now"
    status = conditions.placement_object(log.state)["status"]
    assert (status["observedResourceIndex"], status["selectedResources"]) == (
        "1",
        [{"version": "v1", "kind": "Namespace", "name": "x"}],
    )


def test_a_changed_policy_leaves_open_what_runs_until_the_next_run():
    log = rolled_out()
    for index in (0, 1):
        policy = PolicySnapshot(index=index, hash=str(index), commit="c", created=logs.NOW, policy={})
        log.happens(e.PolicyMade, run="", policy=policy)
        if index == 0:
            assert kinds(log)["Available"][0] == "True"
    assert {name: text[:2] for name, text in kinds(log).items()} == {
        "Scheduled": ("True", "SchedulingPolicyFulfilled"),
        "RolloutStarted": ("Unknown", "RolloutControlledByExternalController"),
    }
    assert kinds(log)["RolloutStarted"][2] == (
        "Rollout is controlled by an external controller and cluster member1 is in RolloutStarted Unknown state"
    )
    status = conditions.placement_object(log.state)["status"]
    assert status["observedResourceIndex"] == "1"
    for one in status["placementStatuses"]:
        assert [found["type"] for found in one["conditions"]] == ["Scheduled", "RolloutStarted"]
        assert one["conditions"][1]["reason"] == "RolloutStartedUnknown"


@pytest.mark.parametrize(
    ("reason", "complete", "kind", "expected"),
    [
        (Reason.NOT_AVAILABLE, logs.HASH, "Available", ("False", "NotAllWorkAreAvailable", "Pod x/y: 0 of 1 is ready")),
        (Reason.INCOMPLETE, "", "Applied", ("False", "ApplyInProgress", "Resources are being applied")),
        (Reason.REFUSED, "", "Applied", ("False", "NotAllWorkHaveBeenApplied", "Pod x/y: 0 of 1 is ready")),
    ],
)
def test_a_cluster_that_is_not_well_says_so_in_the_placements_status(reason, complete, kind, expected):
    log = placed(*logs.STARTED, started(0, "member2"))
    log.step(reported(0, "member2", log.state.seq, reason, complete, object="Pod x/y", message="0 of 1 is ready"))
    status = conditions.placement_object(log.state)["status"]["placementStatuses"][1]
    last = status["conditions"][-1]
    assert (last["type"], (last["status"], last["reason"], last["message"])) == (kind, expected)
    (failed,) = status["failedPlacements"]
    assert failed["condition"] == {
        "message": "0 of 1 is ready",
        "reason": str(reason),
        "status": "False",
        "type": kind,
    }


def test_a_placement_that_is_refused_is_not_scheduled():
    log = Log().step(logs.PLACED)
    log.happens(e.PlacementScheduled, run="", commit="c", refusal="NotSupportedYet: placements/a.yaml:3: PickN")
    assert kinds(log) == {"Scheduled": ("False", "NotSupportedYet", "placements/a.yaml:3: PickN")}


def test_moments_are_written_in_whole_seconds_of_utc():
    assert conditions.timestamp(logs.NOW + timedelta(milliseconds=999)) == "2025-07-22T21:28:08Z"


@pytest.mark.parametrize(("when", "side"), [(When.BEFORE, "before"), (When.AFTER, "after")])
def test_a_side_is_a_word(when, side):
    assert f"{when}-stage" == f"{side}-stage"
