"""The gates of a stage: opened, judged, and what they wait for."""

from dataclasses import replace
from datetime import timedelta
from typing import cast

from reconciler.core.approvals import Candidate, Evidence, judge
from reconciler.core.conditions import approval_kind, request_name
from reconciler.core.draft import Draft
from reconciler.core.events import ApprovalRefused, GateOpened, GatePassed, RunCompleted, StageCompleted, StageSkipped
from reconciler.core.gates import GATES, GateView
from reconciler.core.identity import child_uid
from reconciler.core.status import ApprovalFact, Gate, RunStatus, StageFacts, State, When

_CLOCKS_RECHECKED = timedelta(minutes=1)
"""How long a wait holds, once more, where clocks disagreed."""


def pass_gates(draft: Draft, uid: str, number: int, when: When) -> bool:
    """Open the gates of one side, judge those that are open; True when all are passed."""
    for gate in draft.run(uid).stages[number].gates_of(when):
        if gate.opened_at is None:
            _open_gate(draft, uid, number, gate)
    for gate in draft.run(uid).stages[number].gates_of(when):
        if gate.passed_at is None:
            _judge_gate(draft, uid, number, gate)
    return all(gate.passed_at is not None for gate in draft.run(uid).stages[number].gates_of(when))


def _open_gate(draft: Draft, uid: str, number: int, gate: Gate) -> None:
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


def _judge_gate(draft: Draft, uid: str, number: int, gate: Gate) -> None:
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
        _pass(draft, uid, number, gate, verdict.approval)
        return
    if verdict.refused != gate.refused and gate.task.type == "Approval":
        draft.emit(ApprovalRefused, run=uid, stage=number, when=gate.when, message=verdict.refused)
    if verdict.recheck_at is not None:
        draft.rechecks.append(verdict.recheck_at)
    _say_what_gate_waits_for(draft, run, stage, replace(gate, refused=verdict.refused))


def _pass(draft: Draft, uid: str, number: int, gate: Gate, approval: ApprovalFact | None) -> None:
    draft.emit(GatePassed, run=uid, stage=number, when=gate.when, type=gate.task.type, approval=approval)


def _evidence(draft: Draft, run: RunStatus, candidates: tuple[Candidate, ...]) -> Evidence:
    return Evidence(
        candidates=candidates,
        seen=draft.declared.view.approvals_seen,
        runs={one.key.name for one in draft.declared.view.runs() if one.key.namespace == run.key.namespace},
        not_before=draft.declared.rewritten_at,
    )


def finish_what_came_before(draft: Draft, uid: str, position: int) -> None:
    """Accept the approvals that came before the commit that ends a run, as if they had been seen at once.

    A run that waits for nothing more then is complete, and no later commit ends it in another way.
    """
    run = draft.run(uid)
    if run.end is not None or run.started_at is None or run.state is not State.RUN:
        return
    _accept_what_came_before(draft, uid, position)
    run = draft.run(uid)
    for number, stage in enumerate(run.stages):
        if stage.ended_at is not None:
            continue
        if not stage.clusters:
            draft.emit(StageSkipped, run=uid, stage=number)
            continue
        if not stage.is_updated or any(gate.passed_at is None for gate in stage.gates):
            return
        draft.emit(StageCompleted, run=uid, stage=number)
    if cast("StageFacts", run.deletion).is_updated:
        draft.emit(RunCompleted, run=uid)


def _accept_what_came_before(draft: Draft, uid: str, position: int) -> None:
    run = draft.run(uid)
    if run.current is None:
        return
    candidates = tuple(one for one in draft.declared.candidates if one.first_seen < position)
    stage = run.all_stages[run.current]
    for gate in stage.gates if candidates else ():
        if gate.request and gate.opened_at is not None and gate.passed_at is None:
            found = judge(run, stage, gate, _evidence(draft, run, candidates))
            if found.accepted is not None:
                _pass(draft, uid, run.current, gate, found.accepted)


def _say_what_gate_waits_for(draft: Draft, run: RunStatus, stage: StageFacts, gate: Gate) -> None:
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
