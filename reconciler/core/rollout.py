"""The rollout of one placement: `plan` says what comes next, `absorb` takes in what the members answered.

Both are pure. A plan is drafted event by event: each event is folded at once, so that a slot that becomes free, a
stage that is over or a gate that is passed is used in the same pass.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, cast

from reconciler.core import placement as placements
from reconciler.core.actions import Action, Deliver, ObjectResult, Observe, Outcome, Reason, Target, Withdraw
from reconciler.core.approvals import Candidate, Evidence, judge
from reconciler.core.conditions import approval_kind, request_name, timestamp
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
from reconciler.core.fold import apply_to_placement
from reconciler.core.gates import GATES, GateView
from reconciler.core.identity import child_uid
from reconciler.core.model import Commit, Key, Placement, Run
from reconciler.core.rollback import Rollback, reverted_runs, rollback_of
from reconciler.core.stages import INVALID
from reconciler.core.status import (
    FORMAT,
    Archived,
    ClusterFacts,
    Gate,
    Pin,
    PinnedCluster,
    PlacementState,
    Record,
    RunStatus,
    StageFacts,
    State,
    When,
)
from reconciler.core.view import Declared, View

_CLOCKS_RECHECKED = timedelta(minutes=1)
"""How long a wait holds, once more, where clocks disagreed."""

_RESULTS = 100
"""How many objects of a cluster are told apart, as upstream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declarations:
    """What the repository says at the head, as far as one placement is concerned.

    `started_after` is the position of the head at which the status branch was made: runs up to there never start.
    `rewritten_at` is the position of the last acknowledged rewrite; `clock_problem` says why no wait may pass.
    `deadline` is when a cluster in flight is called stuck; `grace` passes before what a removed placement put on the
    members is removed.
    """

    head: Commit
    view: View
    candidates: tuple[Candidate, ...] = ()
    started_after: int = -1
    rewritten_at: int = -1
    clock_problem: str = ""
    deadline: timedelta = timedelta(minutes=5)
    grace: timedelta = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Why nothing more happens to a run: for what, since when, and the command that helps, if one does."""

    run: str
    reason: str
    message: str
    since: datetime | None = None
    command: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to record, then what to do, why there is nothing to do, and when to look again."""

    state: PlacementState
    events: tuple[Event, ...] = ()
    actions: tuple[Action, ...] = ()
    waiting_for: tuple[Waiting, ...] = ()
    recheck_at: datetime | None = None


@dataclass(slots=True)
class _Draft:
    """A plan in the making: the state as it will be, and the events that lead there."""

    state: PlacementState
    declared: Declarations
    now: datetime
    events: list[Event] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)
    rechecks: list[datetime] = field(default_factory=list)

    def emit(self, kind: type[Event], *, run: str = "", **facts: Any) -> None:
        """Draw the next number, and fold the event at once."""
        event = kind(seq=self.state.seq + 1, now=self.now, run=run, **facts)
        self.state = apply_to_placement(self.state, event)
        self.events.append(event)

    def run(self, uid: str) -> RunStatus:
        """Return a run as it is by now."""
        return self.state.runs[uid]

    def waits(
        self, run: RunStatus, reason: str, message: str, since: datetime | None = None, command: str = ""
    ) -> None:
        """Note why a run does not go on."""
        self.waiting.append(Waiting(run=run.key.name, reason=reason, message=message, since=since, command=command))


def plan(state: PlacementState, declared: Declarations, now: datetime) -> Plan:
    """Return what comes next for a placement.

    Shape:   `events` continue `state.seq`; `actions` are everything wanted from now on, not only what is new.
    Raises:  nothing for what people or members did; IllegalTransition is a defect of ours.
    """
    draft = _Draft(state=state, declared=declared, now=now)
    _see_placement(draft)
    for run in _declared_runs(draft):
        _see_run(draft, run)
    _roll_back_reverted(draft)
    _withdraw_removed(draft)
    _clear_removed_placement(draft)
    for uid in _in_order(draft.state):
        _watch_clusters(draft, uid)
    for uid in _in_order(draft.state):
        _initialize(draft, uid)
    _start_newest(draft)
    for uid in _in_order(draft.state):
        _advance(draft, uid)
    actions = tuple(_actions(draft.state))
    return Plan(
        state=draft.state,
        events=tuple(draft.events),
        actions=actions,
        waiting_for=tuple(draft.waiting),
        recheck_at=min(draft.rechecks, default=None),
    )


def absorb(state: PlacementState, outcomes: Iterable[Outcome], now: datetime) -> tuple[Event, ...]:
    """Return the events that the outcomes amount to: what changes a fact; an answer to no open intent is dropped."""
    return absorbed(state, outcomes, now)[1]


def absorbed(
    state: PlacementState, outcomes: Iterable[Outcome], now: datetime
) -> tuple[PlacementState, tuple[Event, ...]]:
    """Return the state after the outcomes, and the events that they amount to, as `absorb` does."""
    events = []
    for outcome in outcomes:
        event = _heard(state, outcome, now)
        if event is not None:
            state = apply_to_placement(state, event)
            events.append(event)
    return state, tuple(events)


def _heard(state: PlacementState, outcome: Outcome, now: datetime) -> Event | None:
    target, report = outcome.target, outcome.report
    if not target.run_uid:
        return _heard_of_withdrawal(state, outcome, now)
    run = state.runs.get(target.run_uid)
    if run is None:
        return None
    for number, cluster in run.in_flight_on(target.cluster):
        if cluster.seq == target.seq:
            results = report.results[:_RESULTS]
            heard = (report.complete or "", report.reason, report.object, _facts(results))
            if heard == (cluster.complete, cluster.reason, cluster.object, _facts(cluster.results)):
                return None
            return ClusterReported(
                seq=state.seq + 1,
                now=now,
                run=run.uid,
                stage=number,
                cluster=cluster.name,
                intent=target.seq,
                complete=report.complete or "",
                reason=report.reason,
                object=report.object,
                message=report.message,
                results=results,
            )
    return None


def _heard_of_withdrawal(state: PlacementState, outcome: Outcome, now: datetime) -> Event | None:
    """Return what a member says about what is removed from it because the placement is gone."""
    record, report = state.records.get(outcome.target.cluster), outcome.report
    if record is None or record.run or record.seq != outcome.target.seq:
        return None
    results = report.results[:_RESULTS]
    if (report.reason, report.object, _facts(results)) == (record.reason, record.object, _facts(record.results)):
        return None
    return WithdrawalReported(
        seq=state.seq + 1,
        now=now,
        cluster=record.cluster,
        intent=record.seq,
        reason=report.reason,
        object=report.object,
        message=report.message,
        results=results,
    )


def _facts(results: tuple[ObjectResult, ...]) -> list[tuple[str, Reason]]:
    """Return what of the results is a fact; their texts are written down once per reason."""
    return [(one.object, one.reason) for one in results]


# -- what the repository says ---------------------------------------------------------------------------------


def _see_placement(draft: _Draft) -> None:
    view, state = draft.declared.view, draft.state
    found = view.find(state.key.kind, state.key.namespace, state.key.name)
    if found is None:
        if state.uid and state.removed_at is None:
            draft.emit(PlacementRemoved, commit=_removed_by(draft, state.uid))
        return
    if state.uid != found.uid:
        if state.uid and state.removed_at is None:
            draft.emit(PlacementRemoved, commit=_removed_by(draft, state.uid))
        draft.emit(
            PlacementSeen,
            format=FORMAT,
            key=found.key,
            uid=found.uid,
            created=found.created.time,
            generation=found.generation,
            commit=found.changed.sha,
            spec=found.document.body["spec"],
        )
    elif state.generation != found.generation:
        draft.emit(
            PlacementEdited,
            generation=found.generation,
            commit=found.changed.sha,
            spec=found.document.body["spec"],
        )
    for snapshot in view.snapshots.get(found.uid, ())[len(draft.state.snapshots) :]:
        draft.emit(SnapshotMade, snapshot=snapshot)
    for policy in view.policies.get(found.uid, ())[len(draft.state.policies) :]:
        draft.emit(PolicyMade, policy=policy)
    _schedule(draft, found)


def _schedule(draft: _Draft, found: Declared) -> None:
    view = draft.declared.view
    choice = placements.choose(cast("Placement", found.value), view.cluster_values())
    refused = next(view.refusals(found), None) or view.selection_problems.get(found.uid)
    refusal = ""
    if refused is not None:
        refusal = f"{refused.rule}: {refused.without_rule}"
    elif choice.missing:
        refusal = (
            "SchedulingPolicyUnfulfilled: could not find all clusters needed as specified by the scheduling "
            f"policy, found {len(choice.clusters)} cluster(s) instead"
        )
    state = draft.state
    if state.scheduled_at is None or (tuple(state.scheduled), state.refusal) != (choice.clusters, refusal):
        draft.emit(PlacementScheduled, commit=draft.declared.head.sha, clusters=choice.clusters, refusal=refusal)


def _declared_runs(draft: _Draft) -> list[Declared]:
    key = draft.state.key
    runs = [
        one
        for one in draft.declared.view.runs()
        if one.key.namespace == key.namespace
        and bool(one.key.namespace) == (key.kind == "ResourcePlacement")
        and cast("Run", one.value).placement == key.name
    ]
    return sorted(runs, key=lambda one: (one.created.position, one.key.name))


def _see_run(draft: _Draft, found: Declared) -> None:
    known = draft.state.runs.get(found.uid)
    if found.uid in draft.state.archived:
        return
    if known is None:
        draft.emit(
            RunSeen,
            run=found.uid,
            format=FORMAT,
            key=found.key,
            created=found.created.time,
            position=found.created.position,
            commit=found.changed.sha,
            generation=found.generation,
            spec=found.document.body["spec"],
            annotations=dict(found.document.annotations),
            brought_by=found.created.sha,
        )
        if found.created.position <= draft.declared.started_after:
            run = cast("Run", found.value)
            message = (
                "the run is older than the status branch, so it is not started; to start the same: reconciler run "
                f"create NEW-NAME --placement {run.placement} --strategy {run.strategy}"
                + (f" --snapshot {run.index}" if run.index else "")
                + (f" -n {run.key.namespace}" if run.key.namespace else "")
            )
            draft.emit(RunNotStarted, run=found.uid, message=message)
    elif known.generation < found.generation:
        spec = found.document.body["spec"]
        draft.emit(RunEdited, run=found.uid, commit=found.changed.sha, generation=found.generation, spec=spec)


def _withdraw_removed(draft: _Draft) -> None:
    """End the runs whose file is gone, and those whose placement is."""
    rollbacks = {uid: run.key.name for run in draft.state.runs.values() for uid in run.reverts}
    for uid in _in_order(draft.state):
        run, removal = draft.run(uid), draft.declared.view.removals.get(uid)
        if run.end is not None:
            continue
        if removal is not None:
            _accept_what_came_before(draft, uid, removal.commit.position)
            draft.emit(RunWithdrawn, run=uid, commit=removal.commit.sha, rollback=rollbacks.get(uid, ""))
        else:
            _withdraw_orphan(draft, run)


def _withdraw_orphan(draft: _Draft, run: RunStatus) -> None:
    """End a run whose placement is gone, be it that another of its name has come since."""
    state = draft.state
    if run.pin is not None and (state.removed_at is not None or run.pin.placement_uid != state.uid):
        commit = _removed_by(draft, run.pin.placement_uid)
        draft.emit(RunWithdrawn, run=run.uid, commit=commit, placement_removed=True)


def _removed_by(draft: _Draft, placement: str) -> str:
    """Return the commit that removed a placement, as far as it is known."""
    removal = draft.declared.view.removals.get(placement)
    return removal.commit.sha if removal is not None else draft.state.commit


# -- the way back ------------------------------------------------------------------------------------------------


def _roll_back_reverted(draft: _Draft) -> None:
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
    for uid in _in_order(draft.state):
        older = draft.run(uid)
        if older.reverts and older.end is None and uid != rollback.uid:
            draft.emit(RunSuperseded, run=uid, by=rollback.uid, by_name=rollback.key.name)


def _see_rollback(draft: _Draft, rollback: Rollback) -> None:
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


# -- a placement that is gone --------------------------------------------------------------------------------------


def _clear_removed_placement(draft: _Draft) -> None:
    """Remove from the members what a removed placement put there, once its grace is over."""
    state, members = draft.state, draft.declared.view.clusters()
    if state.removed_at is None or delete_policy(state) == "Abandon":
        return
    left = sorted(
        (one for one in state.records.values() if not one.is_empty and _is_member(members, one)),
        key=lambda one: one.cluster,
    )
    due = state.removed_at + draft.declared.grace
    if left and draft.now < due:
        _wait_for_grace(draft, due, ", ".join(one.cluster for one in left))
        return
    for record in left:
        if record.run:
            draft.emit(WithdrawalStarted, cluster=record.cluster)
            _take_over(draft, record.cluster, state.uid)
        words = f": {record.reason}: {record.message}" if record.reason and not record.run else ""
        _say_removed(draft, f"what the removed placement put on cluster {record.cluster} is being removed{words}")


def _wait_for_grace(draft: _Draft, due: datetime, names: str) -> None:
    _say_removed(
        draft,
        f"the placement was removed by commit {draft.state.commit[:7]}: what it placed is removed from {names} at "
        f"{timestamp(due)}, unless it is added again before",
    )
    draft.rechecks.append(due)


def _say_removed(draft: _Draft, message: str) -> None:
    state = draft.state
    waiting = Waiting(run=state.key.name, reason="PlacementRemoved", message=message, since=state.removed_at)
    draft.waiting.append(waiting)


def delete_policy(state: PlacementState) -> str:
    """Return what becomes of what a placement placed once it is removed: `Delete` or `Abandon`."""
    strategy = (state.spec.get("strategy") or {}).get("deleteStrategy") or {}
    return strategy.get("propagationPolicy") or "Delete"


def _in_order(state: PlacementState) -> list[str]:
    return [run.uid for run in sorted(state.runs.values(), key=lambda one: one.age)]


# -- initialization and start ------------------------------------------------------------------------------------


def _initialize(draft: _Draft, uid: str) -> None:
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
        _withdraw_orphan(draft, draft.run(uid))
    elif (message, attempt.final) != (run.failure, run.failure_final):
        commit = attempt.commit.sha
        draft.emit(InitializationFailed, run=uid, commit=commit, message=message, final=attempt.final)


def _deletions(draft: _Draft, pin: Pin) -> tuple[PinnedCluster, ...]:
    """Return the members that hold content of the placement without being chosen any more, by name."""
    members = draft.declared.view.clusters()
    return tuple(
        PinnedCluster(name=name, uid=record.uid, hash="")
        for name, record in sorted(draft.state.records.items())
        if name not in pin.cluster_names and not record.is_empty and _is_member(members, record)
    )


def _nothing_to_do(key: Key, pin: Pin | None, deletions: tuple[PinnedCluster, ...]) -> str:
    """Say why a run without clusters is not initialized, in upstream's words."""
    if pin is None or deletions or pin.cluster_names:
        return ""
    policy = f"{key.namespace}/{key.name}-{pin.policy_index}"
    return f"{INVALID}no scheduled or to-be-deleted bindings found for the latest policy snapshot {policy}"


def _is_held(draft: _Draft, run: RunStatus) -> bool:
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


def _start_newest(draft: _Draft) -> None:
    """Start the newest run that may start; what is older ends with it."""
    newest = _newest_started(draft.state)
    for uid in reversed(_in_order(draft.state)):
        run = draft.run(uid)
        if newest is not None and run.age <= newest.age:
            return
        if _may_start(draft, run):
            for older in _in_order(draft.state):
                _accept_what_came_before(draft, older, _began(draft, run))
            draft.emit(RunStarted, run=uid, deletions=_deletions(draft, cast("Pin", run.pin)))
            _supersede_older(draft, run)
            return


def _began(draft: _Draft, run: RunStatus) -> int:
    """Return the position of the commit from which on a run may act: where it was resolved, or set to Run."""
    found = draft.declared.view.find(run.key.kind, run.key.namespace, run.key.name)
    changed = found.changed.position if found is not None else run.position
    return max(changed, cast("Pin", run.pin).position)


def _may_start(draft: _Draft, run: RunStatus) -> bool:
    ready = run.pin is not None and run.end is None and run.started_at is None and run.state is State.RUN
    return ready and not _is_held(draft, run)


def _supersede_older(draft: _Draft, newer: RunStatus) -> None:
    for uid in _in_order(draft.state):
        older = draft.run(uid)
        if older.end is None and older.age < newer.age:
            draft.emit(RunSuperseded, run=uid, by=newer.uid, by_name=newer.key.name)


# -- one run, stage by stage -----------------------------------------------------------------------------------------


def _advance(draft: _Draft, uid: str) -> None:
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


def _clear_deselected(draft: _Draft, uid: str) -> bool:
    """Carry out the delete stage: every cluster at once; True when nothing is left anywhere."""
    number = len(draft.run(uid).stages)
    _start_clusters(draft, uid, number)
    over = draft.run(uid).all_stages[number].is_updated
    if not over:
        _say_what_clusters_wait_for(draft, uid, number)
    return over


def _say_why_not_started(draft: _Draft, run: RunStatus) -> None:
    if run.end is not None:
        return
    if run.pin is None and run.failure:
        draft.waits(run, "UpdateRunInitializedFailed", run.failure, run.failed_at)
    elif run.pin is not None and run.state is State.INITIALIZE:
        draft.waits(run, "Initialized", "the run is initialized: set spec.state to Run to start it")
    elif run.pin is not None and run.state is State.STOP:
        draft.waits(run, "Stopped", "the run is stopped: set spec.state to Run to start it")


def _advance_stage(draft: _Draft, uid: str, number: int) -> bool:
    """Advance one stage; True when the next may begin in the same pass: it is over, or a rollback goes past it."""
    stage = draft.run(uid).stages[number]
    if not stage.clusters:
        draft.emit(StageSkipped, run=uid, stage=number)
        return True
    if not _pass_gates(draft, uid, number, When.BEFORE):
        return False
    _start_clusters(draft, uid, number)
    stage = draft.run(uid).stages[number]
    if not stage.is_updated:
        _say_what_clusters_wait_for(draft, uid, number)
        return bool(draft.run(uid).reverts) and stage.is_settled
    if not _pass_gates(draft, uid, number, When.AFTER):
        return False
    draft.emit(StageCompleted, run=uid, stage=number)
    return True


def _start_clusters(draft: _Draft, uid: str, number: int) -> None:
    """Fill the free slots in order; a cluster that left the fleet is skipped, in flight or not."""
    members = draft.declared.view.clusters()
    held = _is_held(draft, draft.run(uid))
    for cluster in draft.run(uid).all_stages[number].clusters:
        if cluster.is_done:
            continue
        if not _is_member(members, cluster):
            draft.emit(ClusterDeparted, run=uid, stage=number, cluster=cluster.name)
        elif cluster.started_at is None and not held and draft.run(uid).free_slots(number) > 0:
            _start_cluster(draft, uid, number, cluster)


def _start_cluster(draft: _Draft, uid: str, number: int, cluster: ClusterFacts) -> None:
    old = draft.state.records.get(cluster.name)
    before = old.delivered if old is not None and old.uid == cluster.uid else None
    draft.emit(ClusterStarted, run=uid, stage=number, cluster=cluster.name, before=before)
    _take_over(draft, cluster.name, uid)


def _take_over(draft: _Draft, cluster: str, by: str) -> None:
    """End every other intent for a cluster."""
    for other in _in_order(draft.state):
        if other != by:
            for stage, _ in list(draft.run(other).in_flight_on(cluster)):
                draft.emit(ClusterTaken, run=other, stage=stage, cluster=cluster, by=by)


def _is_member(members: Mapping[str, Declared], cluster: ClusterFacts | Record) -> bool:
    name = cluster.cluster if isinstance(cluster, Record) else cluster.name
    return name in members and members[name].uid == cluster.uid


def _watch_clusters(draft: _Draft, uid: str) -> None:
    """Note departures and deadlines of every cluster in flight, of runs that are over too."""
    members = draft.declared.view.clusters()
    for number, cluster in list(draft.run(uid).in_flight()):
        if not _is_member(members, cluster):
            draft.emit(ClusterDeparted, run=uid, stage=number, cluster=cluster.name)
        elif cluster.overdue_at is None:
            _watch_deadline(draft, uid, number, cluster)


def _watch_deadline(draft: _Draft, uid: str, number: int, cluster: ClusterFacts) -> None:
    overdue_at = cast("datetime", cluster.started_at) + draft.declared.deadline
    if draft.now >= overdue_at:
        draft.emit(ClusterOverdue, run=uid, stage=number, cluster=cluster.name)
    else:
        draft.rechecks.append(overdue_at)


def _say_what_clusters_wait_for(draft: _Draft, uid: str, number: int) -> None:
    run = draft.run(uid)
    stage = run.all_stages[number]
    for cluster in stage.in_flight:
        if cluster.started_at == draft.now:
            draft.rechecks.append(draft.now + draft.declared.deadline)
        words = f": {cluster.message}" if cluster.message else ""
        doing = cluster.reason or ("Delivering" if cluster.hash else "Removing")
        message = f"cluster {cluster.name} in stage {stage.name}: {doing}{words}"
        draft.waits(run, str(doing), message, cluster.started_at)


# -- gates -----------------------------------------------------------------------------------------------------------


def _pass_gates(draft: _Draft, uid: str, number: int, when: When) -> bool:
    """Open the gates of one side, judge those that are open; True when all are passed."""
    for gate in draft.run(uid).stages[number].gates_of(when):
        if gate.opened_at is None:
            _open_gate(draft, uid, number, gate)
    for gate in draft.run(uid).stages[number].gates_of(when):
        if gate.passed_at is None:
            _judge_gate(draft, uid, number, gate)
    return all(gate.passed_at is not None for gate in draft.run(uid).stages[number].gates_of(when))


def _open_gate(draft: _Draft, uid: str, number: int, gate: Gate) -> None:
    run, head = draft.run(uid), draft.declared.head
    request = request_uid = ""
    if gate.task.type == "Approval":
        request = request_name(run.key.name, run.stages[number].name, gate.when)
        request_uid = child_uid(run.uid, approval_kind(run.key), request)
    draft.emit(
        GateOpened,
        run=uid,
        stage=number,
        when=gate.when,
        type=gate.task.type,
        head=head.sha,
        position=head.position,
        request=request,
        request_uid=request_uid,
    )


def _judge_gate(draft: _Draft, uid: str, number: int, gate: Gate) -> None:
    run = draft.run(uid)
    stage = run.stages[number]
    view = GateView(
        gate=gate,
        stage=stage,
        now=draft.now,
        judgement=lambda: judge(run, stage, gate, _evidence(draft, run, draft.declared.candidates)),
    )
    if gate.task.type == "TimedWait" and draft.declared.clock_problem:
        draft.waits(run, "ClockDisagrees", draft.declared.clock_problem, stage.updated_at)
        draft.rechecks.append(draft.now + _CLOCKS_RECHECKED)
        return
    verdict = GATES[gate.task.type](view)
    if verdict.passed:
        facts = {"stage": number, "when": gate.when, "type": gate.task.type}
        draft.emit(GatePassed, run=uid, **facts, approval=verdict.approval)
        return
    if verdict.refused != gate.refused and gate.task.type == "Approval":
        draft.emit(ApprovalRefused, run=uid, stage=number, when=gate.when, message=verdict.refused)
    if verdict.recheck_at is not None:
        draft.rechecks.append(verdict.recheck_at)
    _say_what_gate_waits_for(draft, run, stage, replace(gate, refused=verdict.refused))


def _evidence(draft: _Draft, run: RunStatus, candidates: tuple[Candidate, ...]) -> Evidence:
    return Evidence(
        candidates=candidates,
        seen=draft.declared.view.approvals_seen,
        runs={one.key.name for one in draft.declared.view.runs() if one.key.namespace == run.key.namespace},
        not_before=draft.declared.rewritten_at,
    )


def _accept_what_came_before(draft: _Draft, uid: str, position: int) -> None:
    """Accept the approvals that came before the commit that ends a run, as if they had been seen at once."""
    run = draft.run(uid)
    if run.end is not None or run.started_at is None or run.state is not State.RUN or run.current is None:
        return
    candidates = tuple(one for one in draft.declared.candidates if one.first_seen < position)
    stage = run.all_stages[run.current]
    for gate in stage.gates if candidates else ():
        if gate.request and gate.opened_at is not None and gate.passed_at is None:
            found = judge(run, stage, gate, _evidence(draft, run, candidates))
            if found.accepted is not None:
                facts = {"stage": run.current, "when": gate.when, "type": gate.task.type}
                draft.emit(GatePassed, run=uid, **facts, approval=found.accepted)


def _say_what_gate_waits_for(draft: _Draft, run: RunStatus, stage: StageFacts, gate: Gate) -> None:
    if gate.task.type != "Approval":
        message = f"stage {stage.name} waits {gate.task.wait} after its last cluster"
        draft.waits(run, gate.task.type, message, stage.updated_at)
        return
    before = "--before " if gate.when is When.BEFORE else ""
    namespace = f" -n {run.key.namespace}" if run.key.namespace else ""
    command = f"reconciler approve {run.key.name} {before}{stage.name}{namespace}"
    refused = f"; an approval was refused: {gate.refused}" if gate.refused else ""
    message = f"stage {stage.name} waits for Approval {gate.request}{refused}"
    draft.waits(run, "Approval", message, gate.opened_at, command)


# -- actions ----------------------------------------------------------------------------------------------------------


def _actions(state: PlacementState) -> Iterator[Action]:
    """Yield what is wanted of the members: every cluster in flight is delivered to until complete, then observed."""
    for uid in _in_order(state):
        for _, cluster in state.runs[uid].in_flight():
            yield _action(state, state.runs[uid], cluster)
    if state.removed_at is not None:
        for record in state.records.values():
            if not record.run and not record.is_empty:
                yield Withdraw(target=Target(placement=state.key, cluster=record.cluster, run_uid="", seq=record.seq))


def _action(state: PlacementState, run: RunStatus, cluster: ClusterFacts) -> Action:
    target = Target(placement=state.key, cluster=cluster.name, run_uid=run.uid, seq=cluster.seq)
    if not cluster.hash:
        return Withdraw(target=target)
    kind = Observe if cluster.complete == cluster.hash else Deliver
    _, index = run.source_of(cluster)
    return kind(target=target, snapshot_index=index, hash=cluster.hash)
