"""Facts → conditions and whole objects, in the words of the article and of KubeFleet.

The one place that words a condition. `Condition` has no time: the fold keeps since when a status holds.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from reconciler.core.actions import ObjectResult, Reason
from reconciler.core.model import PLACEMENT_GROUP, PREFIX, Body, Key
from reconciler.core.status import (
    ClusterFacts,
    End,
    Gate,
    Pin,
    PlacementState,
    PolicySnapshot,
    Record,
    RunStatus,
    Snapshot,
    StageFacts,
    State,
    When,
    in_words,
)

API_VERSION = f"{PLACEMENT_GROUP}/v1beta1"
SNAPSHOT_API_VERSION = f"{PLACEMENT_GROUP}/v1"

_SHOWN = 3
"""How many stuck clusters a message names."""
_WORDS = 500
"""Characters of what one member said that a message repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A condition without its time."""

    type: str
    status: str
    reason: str
    message: str


@lru_cache(maxsize=4096)
def timestamp(moment: datetime) -> str:
    """Return RFC 3339 in UTC, whole seconds, as Kubernetes prints moments."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _at(condition: Condition, since: datetime, generation: int) -> dict[str, Any]:
    return {
        "lastTransitionTime": timestamp(since),
        "message": condition.message,
        "observedGeneration": generation,
        "reason": condition.reason,
        "status": condition.status,
        "type": condition.type,
    }


def _progressing(status: str, reason: str, message: str) -> Condition:
    return Condition(type="Progressing", status=status, reason=reason, message=message)


# -- a run --------------------------------------------------------------------------------------------------


def run_progress(run: RunStatus) -> Condition | None:
    """Return the run's `Progressing` condition; None while it has none."""
    if run.pin is None or (run.end is None and run.started_at is None and run.state is not State.STOP):
        return None
    match run.end:
        case End.SUCCEEDED:
            return _progressing("False", "UpdateRunSucceeded", "All stages are completed")
        case End.SUPERSEDED | End.WITHDRAWN:
            return _progressing("False", f"UpdateRun{run.end}", f"The update run starts nothing new: {run.end_message}")
        case End.NOT_STARTED:
            return None
    if run.state is State.STOP:
        return _stopping(run)
    return (
        _stuck(run)
        or _waiting(run)
        or _progressing("True", "UpdateRunProgressing", "The update run is making progress")
    )


def _stopping(run: RunStatus) -> Condition:
    if any(True for _ in run.in_flight()):
        message = (
            "The update run is the process of stopping, waiting for all the updating/deleting clusters to finish "
            "updating before completing the stop process"
        )
        return _progressing("Unknown", "UpdateRunStopping", message)
    return _progressing("False", "UpdateRunStopped", "The update run has been stopped")


def _stuck(run: RunStatus) -> Condition | None:
    stage = run.stage
    stuck = [one for one in stage.clusters if one.is_stuck] if stage is not None else []
    if stage is None or not stuck:
        return None
    shown = ", ".join(one.name for one in stuck[:_SHOWN]) + ("..." if len(stuck) > _SHOWN else "")
    message = (
        f"The updateRun is stuck waiting for {shown} cluster(s) in stage {stage.name} to finish updating, "
        "please check placement status for potential errors"
    )
    words = "; ".join(_member_words(one) for one in stuck[:_SHOWN] if one.reason is not None)
    return _progressing("False", "UpdateRunStuck", f"{message}: {words}" if words else message)


def _member_words(cluster: ClusterFacts) -> str:
    """Return what a member last said, with its name: the reason, the object, and its own words, cut where too long."""
    text = in_words(cluster.name, str(cluster.reason), cluster.object, cluster.message)
    return text if len(text) <= _WORDS else text[: _WORDS - 1] + "…"


def _waiting(run: RunStatus) -> Condition | None:
    stage = run.stage
    side = waiting_side(stage) if stage is not None else None
    if stage is None or side is None:
        return None
    message = f"The updateRun is waiting for {side}-stage tasks in stage {stage.name} to complete"
    return _progressing("False", "UpdateRunWaiting", message)


def waiting_side(stage: StageFacts) -> When | None:
    """Return on which side of the stage gates are waited for; after it, until the stage is declared over."""
    if any(gate.opened_at and not gate.passed_at for gate in stage.gates_of(When.BEFORE)):
        return When.BEFORE
    waits = stage.updated_at is not None and stage.ended_at is None and stage.gates_of(When.AFTER)
    return When.AFTER if waits else None


def _run_conditions(run: RunStatus) -> list[dict[str, Any]]:
    conditions = [one for one in (_initialized(run),) if one]
    progress = run_progress(run)
    if progress is not None and run.progress is not None:
        conditions.append(_at(progress, run.progress.since, run.generation))
    ended = _succeeded(run)
    if ended is not None and run.ended_at is not None:
        conditions.append(_at(ended, run.ended_at, run.generation))
    return conditions


def _initialized(run: RunStatus) -> dict[str, Any] | None:
    if run.pin is not None and run.initialized_at is not None:
        condition = Condition(
            type="Initialized",
            status="True",
            reason="UpdateRunInitializedSuccessfully",
            message=f"{run.key.kind} initialized successfully{_left(run.pin)}",
        )
        return _at(condition, run.initialized_at, run.generation)
    if run.end is End.NOT_STARTED and run.ended_at is not None:
        reason, message, since = "NotStarted", run.end_message, run.ended_at
    elif run.failure and run.failed_at is not None:
        reason, message, since = "UpdateRunInitializedFailed", run.failure, run.failed_at
    else:
        return None
    return _at(Condition(type="Initialized", status="False", reason=reason, message=message), since, run.generation)


def _left(pin: Pin) -> str:
    """Say which clusters a rollback does not touch."""
    return f"; left as they are, because a newer run wrote them: {', '.join(pin.left)}" if pin.left else ""


def _succeeded(run: RunStatus) -> Condition | None:
    match run.end:
        case End.SUCCEEDED:
            message, status = "All stages are completed successfully", "True"
        case End.SUPERSEDED | End.WITHDRAWN:
            message, status = run.end_message, "False"
        case _:
            return None
    return Condition(type="Succeeded", status=status, reason=f"UpdateRun{run.end}", message=message)


ClusterOf = Callable[[ClusterFacts, int], Any]
"""What a cluster of a run, and the run's generation, become in the run's status: `cluster_object`, or that written."""


def run_object(run: RunStatus, cluster_of: ClusterOf | None = None) -> dict[str, Any]:
    """Return the whole run as `kubectl get -o yaml` would print it."""
    return {
        "apiVersion": API_VERSION,
        "kind": run.key.kind,
        "metadata": _metadata(run.key, uid=run.uid, created=run.created, generation=run.generation, version=run.commit)
        | ({"annotations": dict(run.annotations)} if run.annotations else {}),
        "spec": dict(run.spec),
        "status": _run_status(run, cluster_of or cluster_object),
    }


def _metadata(
    key: Key, *, uid: str, created: datetime, generation: int, version: str = "", labels: Body | None = None
) -> dict[str, Any]:
    return {
        "creationTimestamp": timestamp(created),
        "generation": generation,
        "name": key.name,
        **({"namespace": key.namespace} if key.namespace else {}),
        **({"labels": dict(labels)} if labels else {}),
        **({"resourceVersion": version} if version else {}),
        "uid": uid,
    }


def _run_status(run: RunStatus, cluster_of: ClusterOf) -> dict[str, Any]:
    status: dict[str, Any] = {"conditions": _run_conditions(run)}
    pin = run.pin
    if pin is None or run.deletion is None:
        return status
    return status | {
        "appliedStrategy": dict(pin.apply_strategy),
        "deletionStageStatus": _deletion_object(run, run.deletion, cluster_of),
        "policyObservedClusterCount": pin.cluster_count,
        "policySnapshotIndexUsed": str(pin.policy_index),
        "resourceSnapshotIndexUsed": str(pin.snapshot_index) if pin.snapshot_index >= 0 else "",
        "stagedUpdateStrategySnapshot": dict(pin.strategy),
        "stagesStatus": [_stage_object(run, number, cluster_of) for number in range(len(run.stages))],
    }


# -- a stage ---------------------------------------------------------------------------------------------------

_SKIPPED = "Stage skipped because it has no clusters"
_DONE = "All clusters in the stage are updated and after-stage tasks are completed"


def stage_progress(run: RunStatus, number: int) -> Condition | None:
    """Return a stage's `Progressing` condition; None for a stage that is still to come."""
    stage = run.all_stages[number]
    if stage.skipped:
        return _progressing("False", "StageUpdatingSkippedNoClusters", _SKIPPED)
    if stage.ended_at is not None:
        return _progressing("False", "StageUpdatingSucceeded", _DONE)
    if run.pin is None or (number != run.current and not (run.reverts and stage.started_at)):
        return None
    if run.end is not None:
        started = stage.started_at is not None
        return _progressing("False", f"StageUpdating{run.end}", run.end_message) if started else None
    if run.state is State.STOP:
        return _stage_stopping(stage)
    return _stage_waiting(stage) or (
        _progressing("True", "StageUpdatingStarted", "Clusters in the stage started updating")
        if stage.started_at is not None
        else None
    )


def _stage_stopping(stage: StageFacts) -> Condition:
    if stage.in_flight:
        message = "Waiting for all the updating clusters to finish updating before completing the stop process"
        return _progressing("Unknown", "StageUpdatingStopping", message)
    message = "All the updating clusters have finished updating, the stage is now stopped, waiting to be resumed"
    return _progressing("False", "StageUpdatingStopped", message)


def _stage_waiting(stage: StageFacts) -> Condition | None:
    match waiting_side(stage):
        case When.BEFORE:
            message = "Not all before-stage tasks are completed, waiting for approval"
        case When.AFTER:
            message = "All clusters in the stage are updated, waiting for after-stage tasks to complete"
        case _:
            return None
    return _progressing("False", "StageUpdatingWaiting", message)


def _stage_object(run: RunStatus, number: int, cluster_of: ClusterOf) -> dict[str, Any]:
    stage = run.stages[number]
    before = [_task_object(run, stage, gate) for gate in stage.gates_of(When.BEFORE)]
    after = [_task_object(run, stage, gate) for gate in stage.gates_of(When.AFTER)]
    return {
        **({"beforeStageTaskStatus": before} if before else {}),
        **({"afterStageTaskStatus": after} if after else {}),
        "clusters": [cluster_of(one, run.generation) for one in stage.clusters],
        "conditions": _stage_conditions(stage, stage_progress(run, number), run.generation),
        "stageName": stage.name,
        **_times(stage),
    }


def _deletion_object(run: RunStatus, stage: StageFacts, cluster_of: ClusterOf) -> dict[str, Any]:
    conditions = _stage_conditions(stage, stage_progress(run, len(run.stages)), run.generation)
    return {
        "clusters": [cluster_of(one, run.generation) for one in stage.clusters],
        **({"conditions": conditions} if conditions else {}),
        "stageName": stage.name,
        **_times(stage),
    }


def _times(stage: StageFacts) -> dict[str, str]:
    moments = {"startTime": stage.started_at, "endTime": stage.ended_at}
    return {name: timestamp(moment) for name, moment in moments.items() if moment is not None}


def _stage_conditions(stage: StageFacts, progress: Condition | None, generation: int) -> list[dict[str, Any]]:
    conditions = []
    if progress is not None and stage.progress is not None:
        conditions.append(_at(progress, stage.progress.since, generation))
    if stage.ended_at is not None:
        reason = "StageUpdatingSkippedNoClusters" if stage.skipped else "StageUpdatingSucceeded"
        message = _SKIPPED if stage.skipped else "Stage update completed successfully"
        ended = Condition(type="Succeeded", status="True", reason=reason, message=message)
        conditions.append(_at(ended, stage.ended_at, generation))
    return conditions


def cluster_object(cluster: ClusterFacts, generation: int) -> dict[str, Any]:
    """Return what a run's status says of one cluster."""
    pairs = [
        (cluster.started_at, "Started", "True", "ClusterUpdatingStarted", "Cluster update started"),
        (
            cluster.succeeded_at,
            "Succeeded",
            "True",
            "ClusterUpdatingSucceeded",
            "Cluster update completed successfully",
        ),
        (
            cluster.departed_at,
            "Skipped",
            "True",
            "ClusterDeparted",
            "Skipped: the cluster left the fleet after the run was initialized",
        ),
    ]
    conditions = [
        _at(Condition(type=kind, status=status, reason=reason, message=message), since, generation)
        for since, kind, status, reason, message in pairs
        if since is not None
    ]
    return {"clusterName": cluster.name, **({"conditions": conditions} if conditions else {})}


def _task_object(run: RunStatus, stage: StageFacts, gate: Gate) -> dict[str, Any]:
    conditions = [_at(one, since, run.generation) for one, since in _task_conditions(run, gate)]
    is_approval = gate.task.type == "Approval"
    return {
        **({"approvalRequestName": request_name(run.key.name, stage.name, gate.when)} if is_approval else {}),
        **({"conditions": conditions} if conditions else {}),
        "type": gate.task.type,
    }


def _task_conditions(run: RunStatus, gate: Gate) -> Iterator[tuple[Condition, datetime]]:
    if gate.task.type == "TimedWait":
        if gate.passed_at is not None:
            reason = "AfterStageTaskWaitTimeElapsed"
            yield (
                Condition(type="WaitTimeElapsed", status="True", reason=reason, message="Wait time elapsed"),
                (gate.passed_at),
            )
        return
    prefix = "AfterStageTask" if gate.when is When.AFTER else "StageTask"
    noun = approval_kind(run.key) if gate.when is When.AFTER else "ApprovalRequest object"
    for kind, word, since in (
        ("ApprovalRequestCreated", "created", gate.opened_at),
        ("ApprovalRequestApproved", "approved", gate.passed_at),
    ):
        if since is not None:
            yield Condition(type=kind, status="True", reason=prefix + kind, message=f"{noun} is {word}"), since


# -- an approval request ---------------------------------------------------------------------------------------


def approval_kind(run: Key) -> str:
    """Return the kind of approval request that a run of this kind asks for."""
    return "ApprovalRequest" if run.namespace else "ClusterApprovalRequest"


def request_name(run: str, stage: str, when: When) -> str:
    """Return the name of the approval request of a gate, which is known before the gate opens."""
    return f"{run}-{stage}" if when is When.AFTER else f"{run}-before-{stage}"


def approval_objects(run: RunStatus) -> Iterator[dict[str, Any]]:
    """Yield every approval request the run has made, with its status."""
    for stage in run.stages:
        for gate in stage.gates:
            if gate.request and gate.opened_at is not None:
                yield _approval_object(run, stage, gate, gate.opened_at)


def _approval_object(run: RunStatus, stage: StageFacts, gate: Gate, opened_at: datetime) -> dict[str, Any]:
    key = Key(group=PLACEMENT_GROUP, kind=approval_kind(run.key), namespace=run.key.namespace, name=gate.request)
    labels = {
        PREFIX + "isLatestUpdateRunApproval": "true",
        PREFIX + "targetUpdateRun": run.key.name,
        PREFIX + "targetUpdatingStage": stage.name,
        PREFIX + "taskType": f"{gate.when}Stage",
    }
    result: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "kind": key.kind,
        "metadata": _metadata(key, uid=gate.request_uid, created=opened_at, generation=1, labels=labels),
        "spec": {"parentStageRollout": run.key.name, "targetStage": stage.name},
    }
    if gate.approval is not None and gate.passed_at is not None:
        result["status"] = {"conditions": _approval_conditions(gate, gate.passed_at)}
        result["metadata"]["annotations"] = {
            PREFIX + "approval-commit": gate.approval.commit,
            PREFIX + "approval-author": gate.approval.author,
            PREFIX + "approval-committer": gate.approval.committer,
            **({PREFIX + "approval-signer": gate.approval.signer} if gate.approval.signer else {}),
        }
    elif gate.refused:
        refused = Condition(type="ApprovalAccepted", status="False", reason="ApprovalRefused", message=gate.refused)
        result["status"] = {"conditions": [_at(refused, opened_at, 1)]}
    return result


def _approval_conditions(gate: Gate, passed_at: datetime) -> list[dict[str, Any]]:
    approved = dict(gate.approval.condition) if gate.approval is not None else {}
    accepted = Condition(
        type="ApprovalAccepted",
        status="True",
        reason="ApprovalRequestApprovalAccepted",
        message="The approval request has been approved and cannot be reverted",
    )
    return [{"lastTransitionTime": timestamp(passed_at), **approved}, _at(accepted, passed_at, 1)]


# -- a placement ------------------------------------------------------------------------------------------------


def availability(state: PlacementState) -> tuple[Condition, ...]:
    """Return the conditions of a placement whose rollout belongs to runs; types carry the kind as a prefix."""
    scheduled = _scheduled(state)
    if scheduled is None:
        return ()
    records = [state.running(name) for name in _told_of(state)]
    if not records:
        return (scheduled,)
    return (scheduled, *(_external(state, records) or _rolled_out(state, [one for one in records if one])))


def _typed(state: PlacementState, name: str, status: str, reason: str, message: str) -> Condition:
    return Condition(type=state.key.kind + name, status=status, reason=reason, message=message)


def _scheduled(state: PlacementState) -> Condition | None:
    if state.scheduled_at is None:
        return None
    if state.refusal:
        reason, _, message = state.refusal.partition(": ")
        return _typed(state, "Scheduled", "False", reason, message)
    message = f"found all cluster needed as specified by the scheduling policy, found {len(state.scheduled)} cluster(s)"
    return _typed(state, "Scheduled", "True", "SchedulingPolicyFulfilled", message)


def _told_of(state: PlacementState) -> list[str]:
    """Return the chosen clusters; of a placement that is refused only those that have something from before."""
    return [name for name in state.scheduled if not state.refusal or name in state.records]


def _external(state: PlacementState, records: list[Record | None]) -> tuple[Condition, ...]:
    indices = {record.index if record else None for record in records}
    if indices == {None}:
        run = "StagedUpdateRun" if state.key.namespace else "ClusterStagedUpdateRun"
        message = (
            "no resource snapshot name is observed across clusters. To determine rollout status, check the "
            f"{run} resources with spec.placementName matching this placement"
        )
    elif len(indices) > 1:
        message = "different resource snapshot versions are observed across clusters"
    elif undecided := [record.cluster for record in records if record and _is_outdated(state, record)]:
        message = f"cluster {undecided[0]} is in RolloutStarted Unknown state"
    else:
        return ()
    message = f"Rollout is controlled by an external controller and {message}"
    return (_typed(state, "RolloutStarted", "Unknown", "RolloutControlledByExternalController", message),)


def _is_outdated(state: PlacementState, record: Record) -> bool:
    """Tell whether the policy was changed after the run that wrote to the cluster: the next run will decide."""
    return bool(state.policies) and record.policy < state.policies[-1].index


def _rolled_out(state: PlacementState, records: list[Record]) -> tuple[Condition, ...]:
    count = len(records)
    result = [
        _typed(
            state,
            "RolloutStarted",
            "True",
            "RolloutStarted",
            f"All {count} cluster(s) start rolling out the latest resource",
        ),
        _typed(
            state,
            "Overridden",
            "True",
            "NoOverrideSpecified",
            "No override rules are configured for the selected resources",
        ),
        _typed(
            state,
            "WorkSynchronized",
            "True",
            "WorkSynchronized",
            f"Work(s) are successfully created or updated in {count} target cluster(s)' namespaces",
        ),
    ]
    if missing := sum(one.complete_at is None for one in records):
        message = f"Failed to apply resources to {missing} cluster(s), please check the `failedPlacements` status"
        return (*result, _typed(state, "Applied", "False", "ApplyFailed", message + _carried_out(state)))
    message = f"The selected resources are successfully applied to {count} cluster(s)"
    result.append(_typed(state, "Applied", "True", "ApplySucceeded", message + _carried_out(state)))
    if missing := sum(one.available_at is None for one in records):
        message = f"The selected resources in {missing} cluster(s) are still not available yet"
        return (*result, _typed(state, "Available", "False", "ResourceNotAvailableYet", message))
    message = f"The selected resources in {count} cluster(s) are available now"
    return (*result, _typed(state, "Available", "True", "ResourceAvailable", message))


def _carried_out(state: PlacementState) -> str:
    """Say how objects are applied where the placement asks, in so many words, for something else."""
    strategy = (state.spec.get("strategy") or {}).get("applyStrategy") or {}
    asked = strategy.get("type")
    return "; ClientSideApply is carried out by server-side apply" if asked == "ClientSideApply" else ""


def observed_index(state: PlacementState) -> str:
    """Return the snapshot index that every chosen cluster was told to run; empty when they differ."""
    indices = {record.index if (record := state.running(name)) else None for name in state.scheduled}
    return str(indices.pop()) if len(indices) == 1 and None not in indices else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedCluster:
    """What a placement's status says of one cluster is made of this and of nothing else.

    `outdated_since` is when the policy changed after the run that wrote to the cluster; `objects` are those of the
    snapshot that it was told to run, as long as they are not all available.
    """

    name: str
    scheduled_at: datetime
    is_fixed: bool
    generation: int
    outdated_since: datetime | None
    record: Record | None
    objects: tuple[str, ...]


def placed_clusters(state: PlacementState) -> Iterator[PlacedCluster]:
    """Yield the clusters that a placement's status tells of, in its order."""
    is_fixed = (state.spec.get("policy") or {}).get("placementType") == "PickFixed"
    objects = {one.index: one.objects for one in state.snapshots}
    for name in _told_of(state):
        record = state.running(name)
        is_outdated = record is not None and _is_outdated(state, record)
        is_well = record is None or record.available_at is not None
        yield PlacedCluster(
            name=name,
            scheduled_at=state.scheduled[name],
            is_fixed=is_fixed,
            generation=state.generation,
            outdated_since=state.policies[-1].created if is_outdated else None,
            record=record,
            objects=() if record is None or is_well else objects.get(record.index, ()),
        )


def placement_object(state: PlacementState, status_of: Callable[[PlacedCluster], Any] | None = None) -> dict[str, Any]:
    """Return the whole placement with its status; `status_of` says how one cluster's is written, if not as it is."""
    created = state.created
    if created is None:
        return {}
    conditions = [_at(one, state.transitions[one.type].since, state.generation) for one in availability(state)]
    index = observed_index(state)
    chosen = [one for one in state.snapshots if str(one.index) == index]
    return {
        "apiVersion": API_VERSION,
        "kind": state.key.kind,
        "metadata": _metadata(
            state.key, uid=state.uid, created=created, generation=state.generation, version=state.commit
        ),
        "spec": dict(state.spec),
        "status": {
            "conditions": conditions,
            **({"observedResourceIndex": index} if index else {}),
            "placementStatuses": [*map(status_of or cluster_status, placed_clusters(state))],
            **({"selectedResources": [_identifier(one) for one in chosen[0].objects]} if chosen else {}),
        },
    }


def _identifier(text: str) -> dict[str, str]:
    """Turn `version Kind namespace/name` or `group/version Kind name` into upstream's resource identifier."""
    api, kind, name = text.split(" ", 2)
    group, _, version = api.rpartition("/")
    namespace, _, name = name.rpartition("/")
    parts = {"group": group, "version": version, "kind": kind, "name": name, "namespace": namespace}
    return {key: value for key, value in parts.items() if value}


def cluster_status(placed: PlacedCluster) -> dict[str, Any]:
    """Return what a placement's status says of one cluster."""
    record = placed.record
    failed = _failed_placements(record, placed.objects) if record else []
    conditions = [_at(one, since, placed.generation) for one, since in _cluster_conditions(placed)]
    return {
        "clusterName": placed.name,
        "conditions": conditions,
        **({"observedResourceIndex": str(record.index)} if record else {}),
        **({"failedPlacements": failed} if failed else {}),
    }


def _failed_placements(record: Record, objects: Iterable[str]) -> list[dict[str, Any]]:
    """Return the objects that are not well on a cluster, with upstream's identifiers and the member's own words."""
    if record.available_at is not None:
        return []
    known = {text.partition(" ")[2]: text for text in objects}
    results = record.results or ((_alone(record),) if record.object else ())
    return [_failed(one, known, "Available" if record.complete_at else "Applied") for one in results]


def _alone(record: Record) -> ObjectResult:
    return ObjectResult(object=record.object, reason=record.reason or Reason.INCOMPLETE, message=record.message)


def _failed(result: ObjectResult, known: Mapping[str, str], kind: str) -> dict[str, Any]:
    condition = {"message": result.message, "reason": str(result.reason), "status": "False", "type": kind}
    text = known.get(result.object)
    return {"condition": condition, **(_identifier(text) if text else {"name": result.object})}


def _cluster_conditions(placed: PlacedCluster) -> Iterator[tuple[Condition, datetime]]:
    scheduled = Condition(type="Scheduled", status="True", reason="Scheduled", message=_picked(placed))
    yield scheduled, placed.scheduled_at
    record = placed.record
    if record is None or placed.outdated_since is not None:
        message = "In the process of deciding whether to roll out some version of the resources or not"
        undecided = Condition(type="RolloutStarted", status="Unknown", reason="RolloutStartedUnknown", message=message)
        yield undecided, placed.outdated_since or placed.scheduled_at
        return
    yield from _begun(record)
    if record.complete_at is None:
        yield _not_applied(record), record.started_at
        return
    message = "All corresponding work objects are applied"
    applied = Condition(type="Applied", status="True", reason="AllWorkHaveBeenApplied", message=message)
    yield applied, record.complete_at
    if record.available_at is None:
        message = record.words or "Some of the objects are not yet available"
        yield (
            Condition(type="Available", status="False", reason="NotAllWorkAreAvailable", message=message),
            record.complete_at,
        )
        return
    message = "All corresponding work objects are available"
    yield (
        Condition(type="Available", status="True", reason="AllWorkAreAvailable", message=message),
        record.available_at,
    )


def _picked(placed: PlacedCluster) -> str:
    scores = "" if placed.is_fixed else " (affinity score: 0, topology spread score: 0)"
    return f'Successfully scheduled resources for placement in "{placed.name}"{scores}: picked by scheduling policy'


def _begun(record: Record) -> Iterator[tuple[Condition, datetime]]:
    texts = (
        (
            "RolloutStarted",
            "RolloutStarted",
            (
                "Detected the new changes on the resources and started the rollout process, "
                f"resourceSnapshotIndex: {record.index}, updateRun: {record.run_name}"
            ),
        ),
        ("Overridden", "NoOverrideSpecified", "No override rules are configured for the selected resources"),
        ("WorkSynchronized", "AllWorkSynced", "All of the works are synchronized to the latest"),
    )
    for kind, reason, message in texts:
        yield Condition(type=kind, status="True", reason=reason, message=message), record.started_at


def _not_applied(record: Record) -> Condition:
    if record.reason in (None, Reason.INCOMPLETE):
        return Condition(
            type="Applied", status="False", reason="ApplyInProgress", message="Resources are being applied"
        )
    message = record.words or str(record.reason)
    return Condition(type="Applied", status="False", reason="NotAllWorkHaveBeenApplied", message=message)


# -- snapshots ----------------------------------------------------------------------------------------------------


def snapshot_name(state: PlacementState, index: int) -> str:
    """Return upstream's name of a resource snapshot."""
    return f"{state.key.name}-{index}-snapshot"


def snapshot_kind(state: PlacementState) -> str:
    """Return the kind of the placement's resource snapshots."""
    return "ResourceSnapshot" if state.key.namespace else "ClusterResourceSnapshot"


def snapshot_object(
    state: PlacementState, snapshot: Snapshot, uid: str, selected: list[Body] | None = None
) -> dict[str, Any]:
    """Return a resource snapshot; its content only where the caller has read it back."""
    latest = snapshot.index == len(state.snapshots) - 1
    key = Key(
        group=PLACEMENT_GROUP,
        kind=snapshot_kind(state),
        namespace=state.key.namespace,
        name=snapshot_name(state, snapshot.index),
    )
    labels = {
        PREFIX + "is-latest-snapshot": str(latest).lower(),
        PREFIX + "parent-CRP": state.key.name,
        PREFIX + "resource-index": str(snapshot.index),
    }
    metadata = _metadata(key, uid=uid, created=snapshot.created, generation=1, version=snapshot.commit, labels=labels)
    metadata["annotations"] = _snapshot_annotations(snapshot)
    metadata["ownerReferences"] = _owners(state)
    result: dict[str, Any] = {"apiVersion": SNAPSHOT_API_VERSION, "kind": key.kind, "metadata": metadata}
    return result | ({"spec": {"selectedResources": selected}} if selected is not None else {})


def _snapshot_annotations(snapshot: Snapshot) -> dict[str, str]:
    return {
        PREFIX + "number-of-enveloped-object": "0",
        PREFIX + "number-of-resource-snapshots": "1",
        PREFIX + "resource-hash": snapshot.hash,
        PREFIX + "commit": snapshot.commit,
        PREFIX + "author": snapshot.author,
        PREFIX + "subject": snapshot.subject,
        **({PREFIX + "same-content-as": str(snapshot.equals)} if snapshot.equals is not None else {}),
    }


def _owners(state: PlacementState) -> list[dict[str, Any]]:
    return [
        {
            "apiVersion": API_VERSION,
            "blockOwnerDeletion": True,
            "controller": True,
            "kind": state.key.kind,
            "name": state.key.name,
            "uid": state.uid,
        }
    ]


def policy_object(state: PlacementState, policy: PolicySnapshot, uid: str) -> dict[str, Any]:
    """Return a scheduling policy snapshot."""
    latest = policy.index == len(state.policies) - 1
    kind = "SchedulingPolicySnapshot" if state.key.namespace else "ClusterSchedulingPolicySnapshot"
    name = f"{state.key.name}-{policy.index}"
    key = Key(group=PLACEMENT_GROUP, kind=kind, namespace=state.key.namespace, name=name)
    labels = {
        PREFIX + "is-latest-snapshot": str(latest).lower(),
        PREFIX + "parent-CRP": state.key.name,
        PREFIX + "policy-index": str(policy.index),
    }
    metadata = _metadata(key, uid=uid, created=policy.created, generation=1, version=policy.commit, labels=labels)
    metadata["ownerReferences"] = _owners(state)
    spec: Mapping[str, Any] = {"policy": dict(policy.policy), "policyHash": policy.hash}
    return {"apiVersion": SNAPSHOT_API_VERSION, "kind": kind, "metadata": metadata, "spec": dict(spec)}
