"""The rollout of one placement: `plan` says what comes next, `absorb` takes in what the members answered.

Both are pure. A plan is drafted event by event: each event is folded at once, so that a slot that becomes free, a
stage that is over or a gate that is passed is used in the same pass.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, cast

from reconciler.core import placement as placements
from reconciler.core.actions import Action, Deliver, ObjectResult, Observe, Outcome, Reason, Target
from reconciler.core.approvals import Candidate, Evidence, judge, request_name
from reconciler.core.conditions import approval_kind
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
)
from reconciler.core.fold import apply_to_placement
from reconciler.core.gates import GATES, GateView
from reconciler.core.identity import child_uid
from reconciler.core.model import Commit, Placement, Run
from reconciler.core.reverts import reverts
from reconciler.core.stages import INVALID
from reconciler.core.status import FORMAT, ClusterFacts, Gate, PlacementState, RunStatus, StageFacts, State, When
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
    """

    head: Commit
    view: View
    candidates: tuple[Candidate, ...] = ()
    started_after: int = -1
    rewritten_at: int = -1
    clock_problem: str = ""
    deadline: timedelta = timedelta(minutes=5)


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
    _withdraw_removed(draft)
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


def _facts(results: tuple[ObjectResult, ...]) -> list[tuple[str, Reason]]:
    """Return what of the results is a fact; their texts are written down once per reason."""
    return [(one.object, one.reason) for one in results]


# -- what the repository says ---------------------------------------------------------------------------------


def _see_placement(draft: _Draft) -> None:
    view, state = draft.declared.view, draft.state
    found = view.find(state.key.kind, state.key.namespace, state.key.name)
    if found is None:
        if state.uid and state.removed_at is None:
            draft.emit(PlacementRemoved, commit=draft.declared.head.sha)
        return
    if state.uid != found.uid:
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
        refusal = f"{refused.rule}: {refused}"
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
    for uid in _in_order(draft.state):
        run, removal = draft.run(uid), draft.declared.view.removals.get(uid)
        if removal is not None and run.end is None:
            draft.emit(RunWithdrawn, run=uid, commit=removal.commit.sha)
        if removal is not None and reverts(removal.commit.message):
            message = (
                f"commit {removal.commit.sha[:7]} reverts the run, but rolling back by revert is not carried out yet: "
                "clusters keep what they have; commit a run with the resourceSnapshotIndex to go back to"
            )
            draft.waits(draft.run(uid), "NotSupportedYet", message)


def _in_order(state: PlacementState) -> list[str]:
    return [run.uid for run in sorted(state.runs.values(), key=lambda one: (one.position, one.key.name))]


# -- initialization and start ------------------------------------------------------------------------------------


def _initialize(draft: _Draft, uid: str) -> None:
    run = draft.run(uid)
    if run.end is not None or run.pin is not None or run.failure_final:
        return
    newer = _newest_started(draft.state)
    if newer is not None and _age(newer) > _age(run):
        draft.emit(RunSuperseded, run=uid, by=newer.uid, by_name=newer.key.name)
        return
    if _is_held(draft, run):
        return
    attempt = draft.declared.view.initializations.get(uid)
    if attempt is None:
        return
    chosen = _names(attempt.pin.stages) if attempt.pin is not None else None
    message = attempt.message or _leftovers(draft, chosen)
    if not message:
        draft.emit(RunInitialized, run=uid, pin=attempt.pin)
    elif (message, attempt.final) != (run.failure, run.failure_final):
        commit = attempt.commit.sha
        draft.emit(InitializationFailed, run=uid, commit=commit, message=message, final=attempt.final)


def _names(stages: Iterable[Any]) -> set[str]:
    return {cluster.name for stage in stages for cluster in stage.clusters}


def _leftovers(draft: _Draft, chosen: Collection[str] | None) -> str:
    """Say which members hold content of the placement but are not chosen any more; clearing them comes later."""
    there = set(draft.state.records) & set(draft.declared.view.clusters())
    left = sorted(there - set(chosen or there))
    if not left:
        return ""
    return (
        f"{INVALID}NotSupportedYet: the delete stage is not carried out yet, and {', '.join(left)} hold content of "
        "this placement without being chosen by it"
    )


def _is_held(draft: _Draft, run: RunStatus) -> bool:
    """Tell whether the run may start nothing new because its own file is broken."""
    view = draft.declared.view
    found = view.find(run.key.kind, run.key.namespace, run.key.name)
    problem = view.problem_of(found) if found is not None and found.uid == run.uid else None
    if problem is None:
        return False
    draft.waits(run, "InputBroken", f"the run's own file is broken, so it starts nothing new: {problem}")
    return True


def _age(run: RunStatus) -> tuple[int, str]:
    return run.position, run.key.name


def _newest_started(state: PlacementState) -> RunStatus | None:
    started = [run for run in state.runs.values() if run.started_at is not None]
    return max(started, key=_age, default=None)


def _start_newest(draft: _Draft) -> None:
    """Start the newest run that may start; what is older ends with it."""
    newest = _newest_started(draft.state)
    for uid in reversed(_in_order(draft.state)):
        run = draft.run(uid)
        if newest is not None and _age(run) <= _age(newest):
            return
        if _may_start(draft, run):
            draft.emit(RunStarted, run=uid)
            _supersede_older(draft, run)
            return


def _may_start(draft: _Draft, run: RunStatus) -> bool:
    ready = run.pin is not None and run.end is None and run.started_at is None and run.state is State.RUN
    return ready and not _is_held(draft, run)


def _supersede_older(draft: _Draft, newer: RunStatus) -> None:
    for uid in _in_order(draft.state):
        older = draft.run(uid)
        if older.end is None and _age(older) < _age(newer):
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
    while (number := draft.run(uid).current) is not None:
        if not _advance_stage(draft, uid, number):
            return
    draft.emit(RunCompleted, run=uid)


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
    """Advance one stage; True when it is over and the next may begin in the same pass."""
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
        return False
    if not _pass_gates(draft, uid, number, When.AFTER):
        return False
    draft.emit(StageCompleted, run=uid, stage=number)
    return True


def _start_clusters(draft: _Draft, uid: str, number: int) -> None:
    """Fill the free slots in order; a cluster that left the fleet is skipped, in flight or not."""
    members = draft.declared.view.clusters()
    held = _is_held(draft, draft.run(uid))
    stage = draft.run(uid).stages[number]
    free = stage.limit - len(stage.in_flight)
    for cluster in stage.clusters:
        if cluster.is_done:
            continue
        if not _is_member(members, cluster):
            draft.emit(ClusterDeparted, run=uid, stage=number, cluster=cluster.name)
            free += cluster.in_flight
        elif cluster.started_at is None and not held and free > 0:
            _start_cluster(draft, uid, number, cluster.name)
            free -= 1


def _start_cluster(draft: _Draft, uid: str, number: int, name: str) -> None:
    old = draft.state.records.get(name)
    cluster = next(one for one in draft.run(uid).stages[number].clusters if one.name == name)
    before = old.delivered if old is not None and old.uid == cluster.uid else None
    draft.emit(ClusterStarted, run=uid, stage=number, cluster=name, before=before)
    for other in _in_order(draft.state):
        if other != uid:
            for stage, _ in list(draft.run(other).in_flight_on(name)):
                draft.emit(ClusterTaken, run=other, stage=stage, cluster=name, by=uid)


def _is_member(members: Mapping[str, Declared], cluster: ClusterFacts) -> bool:
    return cluster.name in members and members[cluster.name].uid == cluster.uid


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
    for cluster in run.stages[number].in_flight:
        if cluster.started_at == draft.now:
            draft.rechecks.append(draft.now + draft.declared.deadline)
        words = f": {cluster.message}" if cluster.message else ""
        message = f"cluster {cluster.name} in stage {run.stages[number].name}: {cluster.reason or 'Delivering'}{words}"
        draft.waits(run, str(cluster.reason or "Delivering"), message, cluster.started_at)


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
    runs = {one.key.name for one in draft.declared.view.runs() if one.key.namespace == run.key.namespace}
    evidence = Evidence(
        candidates=draft.declared.candidates,
        seen=draft.declared.view.approvals_seen,
        runs=runs,
        not_before=draft.declared.rewritten_at,
    )
    view = GateView(
        gate=gate,
        stage=stage,
        now=draft.now,
        judgement=lambda: judge(run, stage, gate, evidence),
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
        run = state.runs[uid]
        for _, cluster in run.in_flight():
            target = Target(placement=state.key, cluster=cluster.name, run_uid=uid, seq=cluster.seq)
            index = run.pin.snapshot_index if run.pin is not None else -1
            kind = Observe if cluster.complete == cluster.hash else Deliver
            yield kind(target=target, snapshot_index=index, hash=cluster.hash)
