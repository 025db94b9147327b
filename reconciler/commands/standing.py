"""Why clusters, placements and approvals stand where they do, from what the runs did with them."""

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

from reconciler.commands.holds import hold_of, hold_of_run
from reconciler.commands.opening import Fleet
from reconciler.commands.reasons import (
    ANYBODY_APPROVALS,
    ANYBODY_RUNS,
    Answer,
    Because,
    in_broken_file,
    reason_of_gate,
    reasons_of_run,
    unseen,
    while_held,
    why_command,
    why_in_flight,
    with_namespace,
)
from reconciler.core.approvals import names_of
from reconciler.core.clearing import is_abandoned, word_for
from reconciler.core.conditions import approval_kind
from reconciler.core.initialization import unread
from reconciler.core.model import PLACEMENT_GROUP, Approval, Key
from reconciler.core.reverts import reverted_ids
from reconciler.core.status import Gate, PlacementState, Record, RunStatus, Snapshot, StageFacts, in_words
from reconciler.core.view import Declared, is_member
from reconciler.status_branch.dashboard import name_of

# -- a cluster -------------------------------------------------------------------------------------------------------


def why_cluster(fleet: Fleet, name: str) -> Answer | None:
    """Say what a cluster waits for, or what it runs; None when there is none of that name."""
    declared = fleet.derivation.view.clusters().get(name)
    if declared is None:
        return None
    states = fleet.status.placements.values() if fleet.status is not None else ()
    found = [one for state in states for one in _cluster_in(state, name, declared.uid)]
    waits = [one for one in found if one.command]
    if not found:
        nothing = Because(message="no placement that the daemon has recorded chooses it", since=declared.created.time)
        found = [*in_broken_file(fleet, declared), nothing]
    held = while_held(fleet, hold_of(fleet, None))
    state = "Held" if held else "Waiting" if waits else "Idle"
    return Answer(kind="MemberCluster", namespace="", name=name, state=state, reasons=(*held, *(waits or found)))


def _cluster_in(state: PlacementState, name: str, uid: str) -> Iterator[Because]:
    """Say what one placement has to do with a cluster: in flight, its turn to come, or done."""
    for run in state.runs.values():
        for number, cluster in run.in_flight_on(name):
            yield why_in_flight(run, run.all_stages[number], cluster)
        if run.end is None and run.started_at is not None:
            yield from _turn(run, name)
    record, placement = state.records.get(name), name_of(state.key.namespace, state.key.name)
    if record is not None and record.uid == uid and record.is_empty:
        done = word_for(state, record)
        yield Because(message=f"what placement {placement} had put there was {done}", since=record.complete_at)
    elif record is not None and record.uid == uid and not record.hash:
        yield _going(state, record)
    elif record is not None and record.uid == uid:
        done = "" if record.available_at is not None else f", {record.reason or 'not complete'}"
        going = f"; the placement was removed by commit {state.commit[:7]}" if state.removed_at is not None else ""
        message = f"it runs snapshot {record.index} of placement {placement} by run {record.run_name}{done}{going}"
        yield Because(message=message, since=record.available_at or record.started_at)
    elif name in state.scheduled and state.removed_at is None:
        message = f"placement {placement} chooses it, and no run has turned to it yet"
        yield Because(message=message, since=state.scheduled[name])


def _going(state: PlacementState, record: Record) -> Because:
    """Say how far it is that what a placement put on a cluster is taken away."""
    what = f"what placement {name_of(state.key.namespace, state.key.name)} put on cluster {record.cluster}"
    words = in_words(f"is being {word_for(state, record)}", str(record.reason or ""), record.words)
    return Because(
        message=f"{what} {words}",
        since=record.started_at,
        who=f"whoever looks after {record.cluster}",
        command=f"reconciler describe cluster {record.cluster}",
    )


def _turn(run: RunStatus, name: str) -> Iterator[Because]:
    for number, stage in enumerate(run.all_stages):
        for cluster in stage.clusters:
            if cluster.name != name or cluster.started_at is not None or cluster.is_done:
                continue
            if number == run.current:
                busy = ", ".join(one.name for one in stage.in_flight) or "a gate"
                message = f"its turn in stage {stage.name} of run {run.key.name} has not come: {busy} goes first"
            else:
                ahead = run.stage.name if run.stage is not None else "none"
                message = f"its stage {stage.name} of run {run.key.name} has not begun: stage {ahead} comes first"
            command = why_command(run.key, run.key.name)
            yield Because(message=message, since=run.started_at, command=command)


# -- a placement -----------------------------------------------------------------------------------------------------


def why_placement(fleet: Fleet, kind: str, namespace: str, name: str) -> Answer | None:
    """Say why a placement's content is, or is not, where it should be; None when there is none of that name."""
    declared = fleet.derivation.view.find(kind, namespace, name)
    if declared is None:
        return _removed(fleet, Key(group=PLACEMENT_GROUP, kind=kind, namespace=namespace, name=name))
    state = None
    if fleet.status is not None:
        found = fleet.status.placements.get(declared.key)
        state = found if found is not None and found.uid == declared.uid else None
    wrong = [*in_broken_file(fleet, declared), *_refused(fleet, declared)]
    held = while_held(fleet, hold_of(fleet, declared.key))
    reasons = (*held, *(wrong or _placement(fleet, declared, state)))
    active = any(one.is_active for one in state.runs.values()) if state is not None else False
    word = "Refused" if wrong else "Rolling out" if active else "Idle"
    return Answer(kind=kind, namespace=namespace, name=name, state="Held" if held else word, reasons=reasons)


def _removed(fleet: Fleet, key: Key) -> Answer | None:
    """Say what becomes of what a removed placement had placed; None for one that was never there."""
    state = fleet.status.placements.get(key) if fleet.status is not None else None
    if state is None or not state.uid:
        return None
    if state.removed_at is None and (removal := fleet.derivation.view.removals.get(state.uid)) is not None:
        spec = removal.declared.document.body["spec"]
        state = replace(state, commit=removal.commit.sha, spec=spec)  # as the next pass will record it
    held = while_held(fleet, hold_of(fleet, key))
    reasons = tuple(_parting(fleet, state))
    word = "Held" if held else "Removed"
    return Answer(kind=key.kind, namespace=key.namespace, name=key.name, state=word, reasons=(*held, *reasons))


def _parting(fleet: Fleet, state: PlacementState) -> Iterator[Because]:
    """Say of a removed placement what is left on which members, and what becomes of it."""
    gone, members = f"its file was removed by commit {state.commit[:7]}", fleet.derivation.view.clusters()
    holding = sorted((one for one in state.records.values() if not one.is_empty), key=lambda one: one.cluster)
    left = [one for one in holding if is_member(members, one)]
    if not left:
        departed = ", ".join(one.cluster for one in holding)
        kept = f"; {departed} left the fleet before and keep what they have" if departed else ""
        done = (
            "what it placed was let go of and stays where it is"
            if is_abandoned(state)
            else "nothing of it is left on any member"
        )
        ended = max((one.complete_at for one in state.records.values() if one.complete_at), default=state.removed_at)
        yield Because(message=f"{gone}, and {done}{kept}", since=ended)
        return
    yield from (_going(state, one) for one in left if not one.run and not one.hash)
    waiting = [one.cluster for one in left if one.run or one.hash]
    if waiting:
        names = ", ".join(waiting)
        what = f"stays on {names} and is let go of" if is_abandoned(state) else f"is removed from {names}"
        message = (
            f"{gone}: once the grace period (removalGracePeriodSeconds) is over, what it placed {what}, unless it is "
            "added again before"
        )
        who = "whoever may merge to placements/"
        yield Because(message=message, since=state.removed_at, who=who, command=f"git revert {state.commit[:7]}")


def _refused(fleet: Fleet, declared: Declared) -> list[Because]:
    view = fleet.derivation.view
    problems = list(view.refusals(declared))
    if declared.uid in view.selection_problems:
        problems.append(view.selection_problems[declared.uid])
    who = "whoever may merge to the files named"
    return [Because(message=f"no run of it can be initialized: {one}", who=who) for one in problems]


def _placement(fleet: Fleet, declared: Declared, state: PlacementState | None) -> Iterator[Because]:
    snapshots = fleet.derivation.view.snapshots.get(declared.uid, [])
    why = unread(fleet.derivation.view, declared)
    if why:
        message = f"no run of its newest content can be initialized: {why}"
        yield Because(message=message, who="whoever may merge to resources/", command="reconciler validate")
    if not snapshots:
        yield Because(
            message="it selects nothing that is in resources/, so there is no snapshot", who="whoever may merge there"
        )
        return
    if state is None:
        yield from unseen(fleet, declared)
        return
    under_way = [run for run in state.runs.values() if run.end is None]
    for run in under_way:
        yield from (_prefixed(run, one) for one in reasons_of_run(fleet, run))
    if not under_way:
        yield from _not_rolled_out(fleet, declared, state)
    yield _newest(fleet, declared)


def _prefixed(run: RunStatus, one: Because) -> Because:
    return Because(message=f"run {run.key.name}: {one.message}", since=one.since, who=one.who, command=one.command)


def _not_rolled_out(fleet: Fleet, declared: Declared, state: PlacementState) -> Iterator[Because]:
    """Say which clusters are behind the newest snapshot, and that no run brings it there."""
    view = fleet.derivation.view
    newest = view.snapshots[declared.uid][-1]
    behind = sorted(
        name
        for name in state.scheduled
        if (record := state.records.get(name)) is None
        or (record.placement_uid, record.index) != (declared.uid, newest.index)
    )
    if not behind:
        arrived = max((one.available_at or one.started_at for one in state.records.values()), default=None)
        yield Because(message=f"every cluster it chooses runs snapshot {newest.index}, its newest", since=arrived)
        return
    shown = ", ".join(behind[:10]) + (", …" if len(behind) > 10 else "")  # noqa: PLR2004 - a short line
    head = f"commit {newest.commit[:7]} ({newest.author}: {newest.subject}) made snapshot {newest.index}"
    same = f", with the content of snapshot {newest.equals}" if newest.equals is not None else ""
    if _is_revert(fleet, newest):
        same += "; a revert of resources moves no run"
    yield Because(
        message=f"{head}{same}, and no run rolls it out to {shown}",
        since=newest.created,
        who=ANYBODY_RUNS,
        command=_create(fleet, declared, state, newest.index),
    )


def _is_revert(fleet: Fleet, newest: Snapshot) -> bool:
    message = fleet.source.git.run("log", "-1", "--format=%B", newest.commit, "--").decode(errors="replace")
    return bool(reverted_ids(message)) or newest.subject.startswith('Revert "')


def _create(fleet: Fleet, declared: Declared, state: PlacementState, index: int) -> str:
    """Return the command that rolls a snapshot out, along the strategy of the last run, else one that is there."""
    key = declared.key
    last = max(state.runs.values(), key=lambda run: run.age, default=None)
    kind = "StagedUpdateStrategy" if key.namespace else "ClusterStagedUpdateStrategy"
    there = sorted(one.name for one in fleet.derivation.view.objects[kind] if one.namespace == key.namespace)
    strategy = str(last.spec["stagedRolloutStrategyName"]) if last is not None else next(iter(there), "STRATEGY")
    command = f"reconciler run create NAME --placement {key.name} --strategy {strategy} --snapshot {index}"
    return with_namespace(command, key)


def _newest(fleet: Fleet, declared: Declared) -> Because:
    """Say which content is the newest, and why later commits made none."""
    view = fleet.derivation.view
    newest = view.snapshots[declared.uid][-1]
    text = f"its newest content is snapshot {newest.index} ({newest.hash[:7]}) of commit {newest.commit[:7]}"
    later = view.head.position - newest.position if view.head is not None else 0
    selection = view.selections.get(declared.uid)
    broken = next((one.path for one in selection.documents if one.path in view.broken), None) if selection else None
    if broken is not None:
        text += f"; {broken}, which it selects, is broken: no new snapshot until it can be read"
    elif later:
        text += f"; {later} later commit(s) left what it selects as it was (equal hash), so they made none"
    return Because(message=text, since=newest.created)


# -- an approval -----------------------------------------------------------------------------------------------------


def why_approval(fleet: Fleet, kind: str, namespace: str, name: str) -> Answer | None:
    """Say whether an approval counts, or what its gate waits for; None when there is neither a gate nor a file."""
    declared = fleet.derivation.view.find(kind, namespace, name)
    gates = _gates_named(fleet, kind, namespace, name) or _gates_named(fleet.whole(), kind, namespace, name)
    if not gates and declared is None:
        return None
    held: tuple[Because, ...] = ()
    if gates:
        run, stage, gate = max(gates, key=lambda one: (one[0].end is None, one[0].age))
        state, reason = _approval(fleet, run, stage, gate, there=declared is not None)
        if run.end is None and gate.passed_at is None:
            held = while_held(fleet, hold_of_run(fleet, run.key, run.placement))
    else:
        state, reason = "Unused", _unused(cast("Declared", declared))
    broken = in_broken_file(fleet, declared) if declared is not None else ()
    return Answer(
        kind=kind, namespace=namespace, name=name, state="Held" if held else state, reasons=(*held, *broken, reason)
    )


def _gates_named(fleet: Fleet, kind: str, namespace: str, name: str) -> list[tuple[RunStatus, StageFacts, Gate]]:
    """Return the gates whose approval may have the name."""
    return [
        (run, stage, gate)
        for run in (fleet.status.runs if fleet.status is not None else ())
        if approval_kind(run.key) == kind and run.key.namespace == namespace
        for stage in run.stages
        for gate in stage.gates
        if gate.task.type == "Approval" and name in names_of(run.key.name, stage.name, gate.when)
    ]


def _approval(fleet: Fleet, run: RunStatus, stage: StageFacts, gate: Gate, *, there: bool) -> tuple[str, Because]:
    """Say how far a gate is; `there`: a file of its name is in the repository."""
    where = f"the gate {gate.when} stage {stage.name} of run {run.key.name}"
    if gate.passed_at is not None:
        by = gate.approval
        told = f" by {by.author} in commit {by.commit[:7]}" if by is not None else ""
        return "Accepted", Because(message=f"{where} was approved{told}", since=gate.passed_at)
    if run.end is not None:
        return "Unused", Because(
            message=f"run {run.key.name} is over ({run.end}): {where} is never passed", since=run.ended_at
        )
    if gate.opened_at is not None:
        return ("Refused" if gate.refused else "Waiting"), reason_of_gate(fleet, run, stage, gate)
    early = "; the approval that is there counts for nothing, since it came before the gate opened" if there else ""
    message = f"{where} is not open yet{early}"
    return "NotOpen", Because(message=message, command=why_command(run.key, run.key.name))


def _unused(declared: Declared) -> Because:
    approval = cast("Approval", declared.value)
    meant = f"; it names run {approval.run}, stage {approval.stage}" if approval.run else ""
    return Because(
        message=f"no gate that the daemon knows has this name{meant}: an approval is named <run>-<stage>, or "
        "<run>-before-<stage>",
        since=declared.created.time,
        who=ANYBODY_APPROVALS,
        command=with_namespace(f"reconciler get {declared.key.kind.lower()}s", declared.key),
    )
