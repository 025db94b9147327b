"""The one function that makes a new status from an old one.

`apply` folds an event into a run, `apply_to_placement` into the whole of a placement; both refuse, with
`IllegalTransition`, what cannot happen. The log of a run, folded, *is* its status.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, cast

from reconciler.core.actions import Reason
from reconciler.core.conditions import Condition, availability, run_progress, stage_progress
from reconciler.core.events import (
    ApprovalRefused,
    ClusterDeparted,
    ClusterOverdue,
    ClusterReported,
    ClusterStarted,
    ClusterTaken,
    Event,
    GateOpened,
    GatePassed,
    InitializationFailed,
    PlacementEdited,
    PlacementRemoved,
    PlacementScheduled,
    PlacementSeen,
    PolicyMade,
    RunArchived,
    RunCompleted,
    RunEdited,
    RunInitialized,
    RunNotStarted,
    RunSeen,
    RunStarted,
    RunSuperseded,
    RunWithdrawn,
    SnapshotMade,
    StageCompleted,
    StageSkipped,
    WithdrawalReported,
    WithdrawalStarted,
)
from reconciler.core.model import Body, Key
from reconciler.core.status import (
    FORMAT,
    Archived,
    ClusterFacts,
    End,
    Gate,
    Pin,
    PinnedCluster,
    PinnedStage,
    PlacementState,
    Progress,
    Record,
    RunStatus,
    StageFacts,
    State,
    When,
)


class IllegalTransition(ValueError):
    """The event cannot happen to this status: a defect of ours, or a log that somebody edited."""


def apply(run: RunStatus | None, event: Event) -> RunStatus:
    """Return the run's status after the event.

    Raises:  IllegalTransition for what cannot happen to it.
    """
    if isinstance(event, RunSeen):
        return _seen(run, event)
    if run is None:
        raise IllegalTransition(f"the log begins with {type(event).__name__}, not with RunSeen")
    if run.uid != event.run:
        raise IllegalTransition(f"{type(event).__name__} of run {event.run} in the log of run {run.uid}")
    case = _CASES.get(type(event))
    if case is None:
        raise IllegalTransition(f"{type(event).__name__} is no event of a run")
    return _retimed(run, case(run, event), event)


def _require(run: RunStatus, event: Event, *, holds: bool, otherwise: str) -> None:
    if not holds:
        raise IllegalTransition(f"event {event.seq} {type(event).__name__} of {run.key}: {otherwise}")


def _seen(run: RunStatus | None, event: RunSeen) -> RunStatus:
    if run is not None:
        raise IllegalTransition(f"event {event.seq} RunSeen of {run.key}: the run was seen before")
    if event.format > FORMAT:
        raise IllegalTransition(f"the log has format {event.format}, this version knows {FORMAT}")
    return RunStatus(
        format=event.format,
        key=event.key,
        uid=event.run,
        created=event.created,
        position=event.position,
        commit=event.commit,
        brought_by=event.brought_by,
        generation=event.generation,
        spec=event.spec,
        state=_state(event.spec),
        first_seq=event.seq,
        annotations=event.annotations,
        reverts=event.reverts,
    )


def _state(spec: Body) -> State:
    return State(spec.get("state") or State.RUN)


def _edited(run: RunStatus, event: RunEdited) -> RunStatus:
    _require(run, event, holds=event.generation > run.generation, otherwise="the generation did not grow")
    return replace(run, commit=event.commit, generation=event.generation, spec=event.spec, state=_state(event.spec))


def _ended(run: RunStatus, event: Event, end: End, message: str = "") -> RunStatus:
    _require(run, event, holds=run.end is None, otherwise=f"it ended before as {run.end}")
    return replace(run, end=end, ended_at=event.now, end_message=message)


def _not_started(run: RunStatus, event: RunNotStarted) -> RunStatus:
    _require(run, event, holds=run.pin is None, otherwise="it is initialized")
    return _ended(run, event, End.NOT_STARTED, event.message)


def _failed(run: RunStatus, event: InitializationFailed) -> RunStatus:
    _require(run, event, holds=run.pin is None and run.end is None, otherwise="it is initialized or over")
    failed_at = run.failed_at or event.now
    return replace(run, failure=event.message, failure_final=event.final, failed_at=failed_at)


def _initialized(run: RunStatus, event: RunInitialized) -> RunStatus:
    _require(run, event, holds=run.pin is None and run.end is None, otherwise="it is initialized or over")
    return replace(
        run,
        pin=event.pin,
        failure="",
        failed_at=None,
        initialized_at=event.now,
        stages=tuple(_stage(one) for one in event.pin.stages),
        deletion=_deletion(event.pin.deletions),
    )


def _deletion(clusters: tuple[PinnedCluster, ...]) -> StageFacts:
    """Return the delete stage: no gates, all at once."""
    return StageFacts(
        name="kubernetes-fleet.io/deleteStage", limit=len(clusters), clusters=tuple(_cluster(one) for one in clusters)
    )


def _cluster(pinned: PinnedCluster) -> ClusterFacts:
    return ClusterFacts(name=pinned.name, uid=pinned.uid, hash=pinned.hash, restores=pinned.restores)


def _stage(pinned: PinnedStage) -> StageFacts:
    gates = [Gate(task=task, when=When.BEFORE) for task in pinned.before]
    gates += [Gate(task=task, when=When.AFTER) for task in pinned.after]
    clusters = tuple(_cluster(one) for one in pinned.clusters)
    return StageFacts(name=pinned.name, limit=pinned.limit, clusters=clusters, gates=tuple(gates))


def _started(run: RunStatus, event: RunStarted) -> RunStatus:
    _require(run, event, holds=run.pin is not None and run.end is None, otherwise="it is not initialized, or over")
    _require(run, event, holds=run.started_at is None, otherwise="it was started before")
    _require(run, event, holds=run.state is State.RUN, otherwise=f"its state is {run.state}")
    return replace(run, started_at=event.now, deletion=_deletion(event.deletions))


def _stage_at(run: RunStatus, event: Event, number: int) -> StageFacts:
    """Return a stage by its number; the delete stage has the last one."""
    _require(run, event, holds=0 <= number < len(run.all_stages), otherwise=f"there is no stage {number}")
    return run.all_stages[number]


def _change_stage(run: RunStatus, event: Event, number: int, change: Callable[[StageFacts], StageFacts]) -> RunStatus:
    changed = change(_stage_at(run, event, number))
    if number == len(run.stages):
        return replace(run, deletion=changed)
    return replace(run, stages=(*run.stages[:number], changed, *run.stages[number + 1 :]))


def _require_current(run: RunStatus, event: Event, number: int) -> None:
    _require(run, event, holds=run.state is not State.STOP, otherwise="it is stopped")
    _require(run, event, holds=run.started_at is not None, otherwise="the run was not started")
    _require(run, event, holds=run.end is None, otherwise=f"it ended as {run.end}")
    _require(run, event, holds=run.may_act_in(number), otherwise=f"stage {number} is not the current one")


def _skipped(run: RunStatus, event: StageSkipped) -> RunStatus:
    _require_current(run, event, event.stage)
    empty = event.stage < len(run.stages) and not run.stages[event.stage].clusters
    _require(run, event, holds=empty, otherwise="the stage has clusters")
    return _change_stage(
        run,
        event,
        event.stage,
        lambda stage: replace(stage, skipped=True, started_at=event.now, ended_at=event.now),
    )


def _change_gate(run: RunStatus, event: GateOpened | GatePassed, change: Callable[[Gate], Gate]) -> RunStatus:
    def changed(stage: StageFacts) -> StageFacts:
        gates = tuple(change(one) if _is_gate(one, event) else one for one in stage.gates)
        return replace(stage, gates=gates)

    stage = _stage_at(run, event, event.stage)
    found = any(_is_gate(one, event) for one in stage.gates)
    _require(run, event, holds=found, otherwise=f"stage {stage.name} has no such gate")
    return _change_stage(run, event, event.stage, changed)


def _is_gate(gate: Gate, event: GateOpened | GatePassed) -> bool:
    return gate.when is event.when and gate.task.type == event.type


def _opened(run: RunStatus, event: GateOpened) -> RunStatus:
    _require_current(run, event, event.stage)
    updated = event.when is When.BEFORE or _stage_at(run, event, event.stage).updated_at is not None
    _require(run, event, holds=updated, otherwise="a cluster of the stage is not done")

    def change(gate: Gate) -> Gate:
        _require(run, event, holds=gate.opened_at is None, otherwise="the gate was open before")
        return replace(
            gate,
            opened_at=event.now,
            opened_head=event.head,
            opened_position=event.position,
            request=event.request,
            request_uid=event.request_uid,
        )

    return _change_gate(run, event, change)


def _passed(run: RunStatus, event: GatePassed) -> RunStatus:
    _require_current(run, event, event.stage)

    def change(gate: Gate) -> Gate:
        _require(run, event, holds=gate.opened_at is not None, otherwise="the gate was never opened")
        _require(run, event, holds=gate.passed_at is None, otherwise="the gate was passed before")
        approved = event.type != "Approval" or event.approval is not None
        _require(run, event, holds=approved, otherwise="an approval gate passes by an approval only")
        since = _stage_at(run, event, event.stage).updated_at or gate.opened_at
        over = gate.wait is None or since is None or event.now >= since + gate.wait
        _require(run, event, holds=over, otherwise="the wait is not over")
        return replace(gate, passed_at=event.now, approval=event.approval, refused="")

    return _change_gate(run, event, change)


def _refused(run: RunStatus, event: ApprovalRefused) -> RunStatus:
    def change(stage: StageFacts) -> StageFacts:
        asks = [one.when is event.when and bool(one.request) and one.passed_at is None for one in stage.gates]
        _require(run, event, holds=any(asks), otherwise="no approval is asked for there")
        pairs = zip(stage.gates, asks, strict=True)
        return replace(stage, gates=tuple(replace(one, refused=event.message) if ask else one for one, ask in pairs))

    return _change_stage(run, event, event.stage, change)


def _change_cluster(
    run: RunStatus, event: Event, number: int, name: str, change: Callable[[ClusterFacts], ClusterFacts]
) -> RunStatus:
    names = [one.name for one in _stage_at(run, event, number).clusters]
    _require(run, event, holds=name in names, otherwise=f"cluster {name} is not in stage {number}")
    place = names.index(name)

    def changed(stage: StageFacts) -> StageFacts:
        clusters = (*stage.clusters[:place], change(stage.clusters[place]), *stage.clusters[place + 1 :])
        return _updated(replace(stage, clusters=clusters), event.now)

    return _change_stage(run, event, number, changed)


def _updated(stage: StageFacts, now: datetime) -> StageFacts:
    """Note the moment in which the last cluster was done: waits count from it."""
    return replace(stage, updated_at=now) if stage.updated_at is None and stage.is_updated else stage


def _cluster_started(run: RunStatus, event: ClusterStarted) -> RunStatus:
    _require_current(run, event, event.stage)
    stage = _stage_at(run, event, event.stage)
    free = run.free_slots(event.stage) > 0
    _require(run, event, holds=free, otherwise=f"{stage.limit} clusters are in flight already")
    open_gates = [gate for gate in stage.gates_of(When.BEFORE) if gate.passed_at is None]
    _require(run, event, holds=not open_gates, otherwise="a gate before the stage is not passed")

    def change(cluster: ClusterFacts) -> ClusterFacts:
        idle = cluster.started_at is None and not cluster.is_done
        _require(run, event, holds=idle, otherwise=f"cluster {cluster.name} was started before")
        return replace(cluster, seq=event.seq, started_at=event.now, before=event.before)

    changed = _change_cluster(run, event, event.stage, event.cluster, change)
    return _change_stage(changed, event, event.stage, lambda one: replace(one, started_at=one.started_at or event.now))


def _departed(run: RunStatus, event: ClusterDeparted) -> RunStatus:
    def change(cluster: ClusterFacts) -> ClusterFacts:
        _require(run, event, holds=not cluster.is_done, otherwise=f"cluster {cluster.name} is done")
        return replace(cluster, departed_at=event.now)

    return _change_cluster(run, event, event.stage, event.cluster, change)


def _reported(run: RunStatus, event: ClusterReported) -> RunStatus:
    def change(cluster: ClusterFacts) -> ClusterFacts:
        matches = cluster.in_flight and cluster.seq == event.intent
        _require(run, event, holds=matches, otherwise=f"cluster {cluster.name} has no open intent {event.intent}")
        succeeded = is_done(cluster.hash, event.complete, event.reason)
        is_the_same = (event.reason, event.object) == (cluster.reason, cluster.object)
        return replace(
            cluster,
            complete=event.complete,
            reason=event.reason,
            object=event.object,
            message=event.message,
            results=event.results,
            heard_at=cluster.heard_at if is_the_same else event.now,
            succeeded_at=event.now if succeeded else None,
        )

    return _change_cluster(run, event, event.stage, event.cluster, change)


def is_done(wanted: str, complete: str, reason: Reason) -> bool:
    """Tell whether what a member answered is what was wanted of it: the content and its health, or nothing left."""
    if not wanted:
        return reason is Reason.WITHDRAWN
    return complete == wanted and reason is Reason.AVAILABLE


def _overdue(run: RunStatus, event: ClusterOverdue) -> RunStatus:
    def change(cluster: ClusterFacts) -> ClusterFacts:
        _require(run, event, holds=cluster.in_flight, otherwise=f"cluster {cluster.name} is not in flight")
        return replace(cluster, overdue_at=event.now)

    return _change_cluster(run, event, event.stage, event.cluster, change)


def _taken(run: RunStatus, event: ClusterTaken) -> RunStatus:
    def change(cluster: ClusterFacts) -> ClusterFacts:
        _require(run, event, holds=cluster.in_flight, otherwise=f"cluster {cluster.name} is not in flight")
        return replace(cluster, taken_by=event.by)

    _require(run, event, holds=run.end is not None, otherwise="the run is not over")
    return _change_cluster(run, event, event.stage, event.cluster, change)


def _stage_completed(run: RunStatus, event: StageCompleted) -> RunStatus:
    _require_current(run, event, event.stage)
    stage = _stage_at(run, event, event.stage)
    _require(run, event, holds=stage.is_updated, otherwise="a cluster of the stage is not done")
    passed = all(gate.passed_at is not None for gate in stage.gates)
    _require(run, event, holds=passed, otherwise="a gate of the stage is not passed")
    return _change_stage(run, event, event.stage, lambda one: replace(one, ended_at=event.now))


def _completed(run: RunStatus, event: RunCompleted) -> RunStatus:
    stage = run.deletion
    over = run.started_at is not None and run.current == len(run.stages) and stage is not None and stage.is_updated
    _require(run, event, holds=over, otherwise="a stage is not over")
    began = cast("StageFacts", stage)
    deletion = replace(began, started_at=began.started_at or event.now, ended_at=event.now)
    return _ended(replace(run, deletion=deletion), event, End.SUCCEEDED)


def _superseded(run: RunStatus, event: RunSuperseded) -> RunStatus:
    return _ended(run, event, End.SUPERSEDED, f"superseded by the newer run {event.by_name}")


def _withdrawn(run: RunStatus, event: RunWithdrawn) -> RunStatus:
    what = "the placement" if event.placement_removed else "the run"
    message = f"{what} was removed by commit {event.commit[:7]}"
    if event.rollback:
        message = f"the run was reverted by commit {event.commit[:7]} and is rolled back by {event.rollback}"
    return _ended(replace(run, keeps_file=event.placement_removed), event, End.WITHDRAWN, message)


_CASES: Mapping[type[Event], Callable[[RunStatus, Any], RunStatus]] = {
    RunEdited: _edited,
    RunNotStarted: _not_started,
    InitializationFailed: _failed,
    RunInitialized: _initialized,
    RunStarted: _started,
    StageSkipped: _skipped,
    GateOpened: _opened,
    GatePassed: _passed,
    ApprovalRefused: _refused,
    ClusterStarted: _cluster_started,
    ClusterDeparted: _departed,
    ClusterReported: _reported,
    ClusterOverdue: _overdue,
    ClusterTaken: _taken,
    StageCompleted: _stage_completed,
    RunCompleted: _completed,
    RunSuperseded: _superseded,
    RunWithdrawn: _withdrawn,
}


def _retimed(old: RunStatus, new: RunStatus, event: Event) -> RunStatus:
    """Move `Progressing` times where the condition's status changed, as Kubernetes does for every condition."""
    stages = tuple(
        one if one is before and one.ended_at is not None else _retimed_stage(new, number, event.now)
        for number, (one, before) in enumerate(zip(new.stages, old.stages or new.stages, strict=True))
    )
    new = replace(new, stages=stages)
    deletion = _retimed_stage(new, len(stages), event.now) if new.deletion is not None else None
    return replace(new, deletion=deletion, progress=_moved(new.progress, _status(run_progress(new)), event.now))


def _retimed_stage(run: RunStatus, number: int, now: datetime) -> StageFacts:
    return _with_progress(run.all_stages[number], _status(stage_progress(run, number)), now)


def _with_progress(stage: StageFacts, status: str | None, now: datetime) -> StageFacts:
    progress = _moved(stage.progress, status, now)
    return stage if progress is stage.progress else replace(stage, progress=progress)


def _status(condition: Condition | None) -> str | None:
    return condition.status if condition is not None else None


def _moved(progress: Progress | None, status: str | None, now: datetime) -> Progress | None:
    if status is None or (progress is not None and progress.status == status):
        return progress
    return Progress(status=status, since=now)


# -- the fold of a placement ----------------------------------------------------------------------------------------


def apply_to_placement(state: PlacementState, event: Event) -> PlacementState:
    """Return the placement's state after the event, its runs and records included.

    Raises:  IllegalTransition for what cannot happen, and for a number that was drawn before.
    """
    if event.seq != state.seq + 1:
        raise IllegalTransition(f"event {event.seq} of {state.key} after event {state.seq}")
    if event.run:
        run = apply(state.runs.get(event.run), event)
        new = _with_record(replace(state, seq=event.seq, runs={**state.runs, event.run: run}), run, event)
        if new.records is state.records:
            return new  # what is said of the placement hangs on its records, not on its runs
    else:
        new = _PLACEMENT_CASES[type(event)](replace(state, seq=event.seq), event)
    return _with_transitions(new, event.now)


def fold(key: Key, events: Iterable[Event]) -> PlacementState:
    """Fold the merged logs of a placement from nothing.

    Raises:  IllegalTransition for a log that somebody edited, whatever it says.
    """
    state = PlacementState(key=key)
    for event in sorted(events, key=lambda one: one.seq):
        try:
            state = apply_to_placement(state, event)
        except IllegalTransition:
            raise
        except Exception as error:  # facts that no status of ours could have had
            raise IllegalTransition(f"event {event.seq} {type(event).__name__} of {key}: {error!r}") from error
    return state


def _with_record(state: PlacementState, run: RunStatus, event: Event) -> PlacementState:
    match event:
        case ClusterStarted():
            record = _begun(run, event)
        case ClusterReported():
            old = state.records.get(event.cluster)
            if old is None or old.seq != event.intent:
                return state
            record = _heard(old, event)
        case _:
            return state
    return replace(state, records={**state.records, event.cluster: record})


def _begun(run: RunStatus, event: ClusterStarted) -> Record:
    pin = cast("Pin", run.pin)
    cluster = cast("ClusterFacts", run.cluster(event.cluster, event.seq))
    source = cluster.restores
    return Record(
        cluster=event.cluster,
        uid=cluster.uid,
        run=run.uid,
        run_name=run.key.name,
        index=(source.index if source else pin.snapshot_index) if cluster.hash else -1,
        policy=pin.policy_index,
        hash=cluster.hash,
        commit=source.commit if source else pin.snapshot_commit,
        placement_uid=source.placement_uid if source else pin.placement_uid,
        seq=event.seq,
        started_at=event.now,
        before=event.before,
    )


def _heard(old: Record, event: ClusterReported) -> Record:
    complete = event.complete == old.hash if old.hash else event.reason is Reason.WITHDRAWN
    available = complete and event.reason is Reason.AVAILABLE
    return replace(
        old,
        arrived=old.arrived or complete,
        complete_at=(old.complete_at or event.now) if complete else None,
        available_at=(old.available_at or event.now) if available else None,
        reason=event.reason,
        object=event.object,
        message=event.message,
        results=event.results,
    )


def _placement_seen(state: PlacementState, event: PlacementSeen) -> PlacementState:
    return replace(
        state,
        uid=event.uid,
        created=event.created,
        generation=event.generation,
        commit=event.commit,
        spec=event.spec,
        removed_at=None,
        snapshots=(),
        policies=(),
        scheduled={},
        scheduled_at=None,
        refusal="",
        transitions={},
    )


def _placement_edited(state: PlacementState, event: PlacementEdited) -> PlacementState:
    return replace(state, generation=event.generation, commit=event.commit, spec=event.spec)


def _placement_removed(state: PlacementState, event: PlacementRemoved) -> PlacementState:
    return replace(state, removed_at=event.now, commit=event.commit)


def _withdrawal_started(state: PlacementState, event: WithdrawalStarted) -> PlacementState:
    """Begin to remove what a removed placement put on a cluster."""
    old = state.records.get(event.cluster)
    if state.removed_at is None or old is None or old.is_empty or (not old.hash and not old.run):
        raise IllegalTransition(f"event {event.seq} of {state.key}: nothing is to be removed from {event.cluster}")
    record = Record(
        cluster=old.cluster,
        uid=old.uid,
        run="",
        run_name="",
        index=-1,
        policy=old.policy,
        hash="",
        commit=state.commit,
        seq=event.seq,
        started_at=event.now,
        before=old.delivered,
    )
    return replace(state, records={**state.records, event.cluster: record})


def _withdrawal_reported(state: PlacementState, event: WithdrawalReported) -> PlacementState:
    """Take in how far a removal is; the record stays, so that what an older intent may still write is seen."""
    old = state.records.get(event.cluster)
    if old is None or old.run or old.hash or old.seq != event.intent:
        raise IllegalTransition(f"event {event.seq} of {state.key}: nothing is being removed from {event.cluster}")
    heard = replace(old, reason=event.reason, object=event.object, message=event.message, results=event.results)
    if event.reason is Reason.WITHDRAWN:
        heard = replace(heard, arrived=True, complete_at=event.now)
    return replace(state, records={**state.records, event.cluster: heard})


def _snapshot_made(state: PlacementState, event: SnapshotMade) -> PlacementState:
    if event.snapshot.index != len(state.snapshots):
        raise IllegalTransition(f"snapshot {event.snapshot.index} of {state.key} after {len(state.snapshots)}")
    return replace(state, snapshots=(*state.snapshots, event.snapshot))


def _policy_made(state: PlacementState, event: PolicyMade) -> PlacementState:
    if event.policy.index != len(state.policies):
        raise IllegalTransition(f"policy {event.policy.index} of {state.key} after {len(state.policies)}")
    return replace(state, policies=(*state.policies, event.policy))


def _placement_scheduled(state: PlacementState, event: PlacementScheduled) -> PlacementState:
    scheduled = {name: state.scheduled.get(name, event.now) for name in event.clusters}
    return replace(state, scheduled=scheduled, scheduled_at=state.scheduled_at or event.now, refusal=event.refusal)


def _archived(state: PlacementState, event: RunArchived) -> PlacementState:
    run = state.runs.get(event.uid)
    if run is None or run.is_active:
        raise IllegalTransition(f"event {event.seq} of {state.key}: run {event.name} is not there, or not over")
    kept = Archived(
        uid=run.uid,
        key=run.key,
        age=run.age,
        was_started=run.started_at is not None,
        apply_strategy=run.pin.apply_strategy if run.pin is not None else None,
    )
    runs = {uid: one for uid, one in state.runs.items() if uid != run.uid}
    return replace(state, runs=runs, archived={**state.archived, run.uid: kept})


_PLACEMENT_CASES: Mapping[type[Event], Callable[[PlacementState, Any], PlacementState]] = {
    PlacementSeen: _placement_seen,
    PlacementEdited: _placement_edited,
    PlacementRemoved: _placement_removed,
    SnapshotMade: _snapshot_made,
    PolicyMade: _policy_made,
    PlacementScheduled: _placement_scheduled,
    WithdrawalStarted: _withdrawal_started,
    WithdrawalReported: _withdrawal_reported,
    RunArchived: _archived,
}


def _with_transitions(state: PlacementState, now: datetime) -> PlacementState:
    held = {one.type: one.status for one in availability(state)}
    moved = {kind: cast("Progress", _moved(state.transitions.get(kind), status, now)) for kind, status in held.items()}
    return replace(state, transitions=moved)
