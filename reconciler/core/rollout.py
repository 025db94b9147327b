"""The rollout of one placement: `plan` says what comes next.

It is pure. A plan is drafted event by event: each event is folded at once, so that a slot that becomes free, a
stage that is over or a gate that is passed is used in the same pass.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import cast

from reconciler.core.actions import Action, Deliver, Observe, Target, Withdraw
from reconciler.core.clearing import clear_removed_placement, withdrawal
from reconciler.core.draft import Declarations, Draft, Waiting, in_order, take_over
from reconciler.core.events import (
    ClusterDeparted,
    ClusterOverdue,
    ClusterStarted,
    Event,
    InitializationFailed,
    RunCompleted,
    RunInitialized,
    RunSeen,
    RunStarted,
    RunSuperseded,
    StageCompleted,
    StageSkipped,
)
from reconciler.core.gating import finish_what_came_before, pass_gates
from reconciler.core.model import Key
from reconciler.core.rollback import Rollback, reverted_runs, rollback_of
from reconciler.core.seeing import declared_runs, see_placement, see_run, withdraw_orphan, withdraw_removed
from reconciler.core.stages import INVALID
from reconciler.core.status import (
    FORMAT,
    Archived,
    ClusterFacts,
    Pin,
    PinnedCluster,
    PlacementState,
    RunStatus,
    State,
    When,
    in_words,
)
from reconciler.core.view import is_member


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to record, then what to do, why there is nothing to do, and when to look again."""

    state: PlacementState
    events: tuple[Event, ...] = ()
    actions: tuple[Action, ...] = ()
    waiting_for: tuple[Waiting, ...] = ()
    recheck_at: datetime | None = None


def plan(state: PlacementState, declared: Declarations, now: datetime) -> Plan:
    """Return what comes next for a placement.

    Shape:   `events` continue `state.seq`; `actions` are everything wanted from now on, not only what is new.
    Raises:  nothing for what people or members did; IllegalTransition is a defect of ours.
    """
    draft = Draft(state=state, declared=declared, now=now)
    see_placement(draft)
    for run in declared_runs(draft):
        see_run(draft, run)
    _roll_back_reverted(draft)
    withdraw_removed(draft)
    clear_removed_placement(draft)
    for uid in in_order(draft.state):
        _watch_clusters(draft, uid)
    for uid in in_order(draft.state):
        _initialize(draft, uid)
    _start_newest(draft)
    for uid in in_order(draft.state):
        _advance(draft, uid)
    actions = tuple(_actions(draft.state))
    return Plan(
        state=draft.state,
        events=tuple(draft.events),
        actions=actions,
        waiting_for=tuple(draft.waiting),
        recheck_at=min(draft.rechecks, default=None),
    )


# -- the way back ------------------------------------------------------------------------------------------------


def _roll_back_reverted(draft: Draft) -> None:
    """Begin a rollback where the removal of a run's file is a revert; it replaces one that is still under way."""
    if draft.state.removed_at is not None:
        return
    found = reverted_runs(draft.state, draft.declared.view)
    if not found.new:
        return
    names = {one.key.name for one in draft.declared.view.runs() if one.key.namespace == draft.state.key.namespace}
    rollback = rollback_of(draft.state, draft.declared.view, found, names)
    _see_rollback(draft, rollback)
    newer = _newest_active(draft.state, rollback.uid)
    if newer is not None:
        draft.emit(RunSuperseded, run=rollback.uid, by=newer.uid, by_name=newer.key.name)
        return
    draft.emit(RunStarted, run=rollback.uid)
    for uid in in_order(draft.state):
        older = draft.run(uid)
        if older.reverts and older.end is None and uid != rollback.uid:
            draft.emit(RunSuperseded, run=uid, by=rollback.uid, by_name=rollback.key.name)


def _see_rollback(draft: Draft, rollback: Rollback) -> None:
    draft.emit(
        RunSeen,
        run=rollback.uid,
        format=FORMAT,
        key=rollback.key,
        created=rollback.commit.time,
        position=rollback.position,
        commit=rollback.commit.sha,
        generation=1,
        spec=rollback.spec,
        annotations=rollback.annotations,
        reverts=rollback.reverts,
    )
    draft.emit(RunInitialized, run=rollback.uid, pin=rollback.pin)


def _newest_active(state: PlacementState, rollback: str) -> RunStatus | None:
    """Return the newest run that is under way and newer than what a rollback takes back."""
    age = state.runs[rollback].age
    active = [run for run in state.runs.values() if run.started_at is not None and run.end is None and run.age > age]
    return max(active, key=lambda run: run.age, default=None)


# -- initialization and start ------------------------------------------------------------------------------------


def _initialize(draft: Draft, uid: str) -> None:
    run = draft.run(uid)
    if run.end is not None or run.pin is not None or run.failure_final:
        return
    newer = _newest_started(draft.state)
    if newer is not None and newer.age > run.age:
        draft.emit(RunSuperseded, run=uid, by=newer.uid, by_name=newer.key.name)
        return
    if _is_held(draft, run):
        return
    attempt = draft.declared.view.initializations.get(uid)
    if attempt is None:
        return
    deletions = _deletions(draft, attempt.pin) if attempt.pin is not None else ()
    message = attempt.message or _nothing_to_do(draft.state.key, attempt.pin, deletions)
    if attempt.pin is not None and not message:
        draft.emit(RunInitialized, run=uid, pin=replace(attempt.pin, deletions=deletions))
        withdraw_orphan(draft, draft.run(uid))
    elif (message, attempt.final) != (run.failure, run.failure_final):
        commit = attempt.commit.sha
        draft.emit(InitializationFailed, run=uid, commit=commit, message=message, final=attempt.final)


def _deletions(draft: Draft, pin: Pin) -> tuple[PinnedCluster, ...]:
    """Return the members that hold content of the placement without being chosen any more, by name."""
    members = draft.declared.view.clusters()
    return tuple(
        PinnedCluster(name=name, uid=record.uid, hash="")
        for name, record in sorted(draft.state.records.items())
        if name not in pin.cluster_names and not record.is_empty and is_member(members, record)
    )


def _nothing_to_do(key: Key, pin: Pin | None, deletions: tuple[PinnedCluster, ...]) -> str:
    """Say why a run without clusters is not initialized, in upstream's words."""
    if pin is None or deletions or pin.cluster_names:
        return ""
    policy = f"{key.namespace}/{key.name}-{pin.policy_index}"
    return f"{INVALID}no scheduled or to-be-deleted bindings found for the latest policy snapshot {policy}"


def _is_held(draft: Draft, run: RunStatus) -> bool:
    """Tell whether the run may start nothing new because its own file is broken."""
    view = draft.declared.view
    found = view.find(run.key.kind, run.key.namespace, run.key.name)
    problem = view.problem_of(found) if found is not None and found.uid == run.uid else None
    if problem is None:
        return False
    draft.waits(run, "InputBroken", f"the run's own file is broken, so it starts nothing new: {problem}")
    return True


def _newest_started(state: PlacementState) -> RunStatus | Archived | None:
    started: list[RunStatus | Archived] = [run for run in state.runs.values() if run.started_at is not None]
    started += [run for run in state.archived.values() if run.was_started]
    return max(started, key=lambda run: run.age, default=None)


def _start_newest(draft: Draft) -> None:
    """Start the newest run that may start; what is older ends with it."""
    newest = _newest_started(draft.state)
    for uid in reversed(in_order(draft.state)):
        run = draft.run(uid)
        if newest is not None and run.age <= newest.age:
            return
        if _may_start(draft, run):
            since = _acts_from(draft, run)
            for older in in_order(draft.state):
                finish_what_came_before(draft, older, since)
            draft.emit(RunStarted, run=uid, deletions=_deletions(draft, cast("Pin", run.pin)))
            _supersede_older(draft, run)
            return


def _acts_from(draft: Draft, run: RunStatus) -> int:
    """Return the position from which on a run may act: resolved, with content to bring or to remove, and set to Run."""
    return max(draft.declared.view.runnable.get(run.uid, run.position), cast("Pin", run.pin).position)


def _may_start(draft: Draft, run: RunStatus) -> bool:
    ready = run.pin is not None and run.end is None and run.started_at is None and run.state is State.RUN
    return ready and not _is_held(draft, run)


def _supersede_older(draft: Draft, newer: RunStatus) -> None:
    for uid in in_order(draft.state):
        older = draft.run(uid)
        if older.end is None and older.age < newer.age:
            draft.emit(RunSuperseded, run=uid, by=newer.uid, by_name=newer.key.name)


# -- one run, stage by stage -----------------------------------------------------------------------------------------


def _advance(draft: Draft, uid: str) -> None:
    """Bring a run as far as it goes now, and note what it waits for."""
    run = draft.run(uid)
    if run.end is not None or run.started_at is None:
        _say_why_not_started(draft, run)
        return
    if run.state is State.STOP:
        draft.waits(run, "Stopped", "the run is stopped: set spec.state to Run to resume it")
        return
    for number in range(len(run.stages)):
        if draft.run(uid).stages[number].ended_at is None and not _advance_stage(draft, uid, number):
            return
    if draft.run(uid).current == len(run.stages) and _clear_deselected(draft, uid):
        draft.emit(RunCompleted, run=uid)


def _clear_deselected(draft: Draft, uid: str) -> bool:
    """Carry out the delete stage: every cluster at once; True when nothing is left anywhere."""
    number = len(draft.run(uid).stages)
    _start_clusters(draft, uid, number)
    over = draft.run(uid).all_stages[number].is_updated
    if not over:
        _say_what_clusters_wait_for(draft, uid, number)
    return over


def _say_why_not_started(draft: Draft, run: RunStatus) -> None:
    if run.end is not None:
        return
    if run.pin is None and run.failure:
        draft.waits(run, "UpdateRunInitializedFailed", run.failure, run.failed_at)
    elif run.pin is not None and run.state is State.INITIALIZE:
        draft.waits(run, "Initialized", "the run is initialized: set spec.state to Run to start it")
    elif run.pin is not None and run.state is State.STOP:
        draft.waits(run, "Stopped", "the run is stopped: set spec.state to Run to start it")


def _advance_stage(draft: Draft, uid: str, number: int) -> bool:
    """Advance one stage; True when the next may begin in the same pass: it is over, or a rollback goes past it."""
    stage = draft.run(uid).stages[number]
    if not stage.clusters:
        draft.emit(StageSkipped, run=uid, stage=number)
        return True
    if not pass_gates(draft, uid, number, When.BEFORE):
        return False
    _start_clusters(draft, uid, number)
    stage = draft.run(uid).stages[number]
    if not stage.is_updated:
        _say_what_clusters_wait_for(draft, uid, number)
        return bool(draft.run(uid).reverts) and stage.is_settled
    if not pass_gates(draft, uid, number, When.AFTER):
        return False
    draft.emit(StageCompleted, run=uid, stage=number)
    return True


def _start_clusters(draft: Draft, uid: str, number: int) -> None:
    """Fill the free slots in order; a cluster that left the fleet is skipped, in flight or not."""
    members = draft.declared.view.clusters()
    held = _is_held(draft, draft.run(uid))
    for cluster in draft.run(uid).all_stages[number].clusters:
        if cluster.is_done:
            continue
        if not is_member(members, cluster):
            draft.emit(ClusterDeparted, run=uid, stage=number, cluster=cluster.name)
        elif cluster.started_at is None and not held and draft.run(uid).free_slots(number) > 0:
            _start_cluster(draft, uid, number, cluster)


def _start_cluster(draft: Draft, uid: str, number: int, cluster: ClusterFacts) -> None:
    old = draft.state.records.get(cluster.name)
    before = old.delivered if old is not None and old.uid == cluster.uid else None
    draft.emit(ClusterStarted, run=uid, stage=number, cluster=cluster.name, before=before)
    take_over(draft, cluster.name, uid)


def _watch_clusters(draft: Draft, uid: str) -> None:
    """Note departures and deadlines of every cluster in flight, of runs that are over too."""
    members = draft.declared.view.clusters()
    for number, cluster in list(draft.run(uid).in_flight()):
        if not is_member(members, cluster):
            draft.emit(ClusterDeparted, run=uid, stage=number, cluster=cluster.name)
        elif cluster.overdue_at is None:
            _watch_deadline(draft, uid, number, cluster)


def _watch_deadline(draft: Draft, uid: str, number: int, cluster: ClusterFacts) -> None:
    overdue_at = cast("datetime", cluster.started_at) + draft.declared.deadline
    if draft.now >= overdue_at:
        draft.emit(ClusterOverdue, run=uid, stage=number, cluster=cluster.name)
    else:
        draft.rechecks.append(overdue_at)


def _say_what_clusters_wait_for(draft: Draft, uid: str, number: int) -> None:
    run = draft.run(uid)
    stage = run.all_stages[number]
    for cluster in stage.in_flight:
        if cluster.started_at == draft.now:
            draft.rechecks.append(draft.now + draft.declared.deadline)
        doing = str(cluster.reason or ("Delivering" if cluster.hash else "Removing"))
        words = in_words(doing, cluster.object, cluster.message)
        message = f"cluster {cluster.name} in stage {stage.name}: {words}"
        draft.waits(run, doing, message, cluster.heard_at or cluster.started_at)


# -- actions ----------------------------------------------------------------------------------------------------------


def _actions(state: PlacementState) -> Iterator[Action]:
    """Yield what is wanted of the members: every cluster in flight is delivered to until complete, then observed."""
    for uid in in_order(state):
        for _, cluster in state.runs[uid].in_flight():
            yield _action(state, state.runs[uid], cluster)
    if state.removed_at is not None:
        for record in state.records.values():
            if not record.run and not record.is_empty:
                yield withdrawal(state, record)


def _action(state: PlacementState, run: RunStatus, cluster: ClusterFacts) -> Action:
    target = Target(placement=state.key, cluster=cluster.name, run_uid=run.uid, seq=cluster.seq)
    if not cluster.hash:
        return Withdraw(target=target)
    kind = Observe if cluster.complete == cluster.hash else Deliver
    _, index = run.source_of(cluster)
    return kind(target=target, snapshot_index=index, hash=cluster.hash)
