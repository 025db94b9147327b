"""A run told: its state, its stages as a tree, what it waits for, and the events of its log in words.

All of it from the facts on the status branch; what the daemon is about to do, nobody here guesses.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from reconciler.commands.holds import Hold
from reconciler.commands.present import DOING, DONE, FAILED, TO_COME, WAITS, Branch, human_duration
from reconciler.core import events
from reconciler.core.conditions import run_progress, timestamp, waiting_side
from reconciler.core.events import Event
from reconciler.core.model import format_duration
from reconciler.core.status import (
    ClusterFacts,
    End,
    Gate,
    PlacementState,
    RunStatus,
    StageFacts,
    State,
    When,
    done_and_skipped,
    in_words,
)
from reconciler.core.view import Declared
from reconciler.status_branch import layout, reader, store
from reconciler.status_branch.dashboard import state_of

PENDING = "Pending"
"""The state of a run that the daemon has not recorded yet."""

HELD = "Held"
"""The state of a run of which nothing can be told while its placement is held."""

UNSEEN = "the daemon has not recorded the run yet"


# -- in a word, and what it waits for -------------------------------------------------------------------------------


def state_word(run: RunStatus | None) -> str:
    """Return the state of a run in a word or two."""
    if run is None:
        return PENDING
    if run.end is None and run.state is State.STOP:
        progress = run_progress(run)
        return "Stopping" if progress is not None and progress.status == "Unknown" else "Stopped"
    return state_of(run)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """What a run waits for, and the command that helps, if one does."""

    message: str
    command: str = ""


def waits_for(run: RunStatus | None, hold: Hold | None = None) -> tuple[Wait, ...]:
    """Return everything that a run waits for, first of all for the end of a hold; nothing once it is over."""
    if run is not None and run.end is not None:
        return ()
    if hold is not None:
        return (Wait(message=str(hold), command=hold.command), *(_own_waits(run) if run is not None else ()))
    return _own_waits(run)


def _own_waits(run: RunStatus | None) -> tuple[Wait, ...]:
    if run is None:
        return (Wait(message=f"{UNSEEN}: is `reconciler serve` running?"),)
    if run.pin is None:
        return (Wait(message=run.failure or "the run is not initialized yet"),)
    if run.state is not State.RUN:
        word = "stopped" if run.state is State.STOP else "initialized"
        return (Wait(message=f"the run is {word}: set spec.state to Run", command=start_command(run)),)
    if run.stage is None or run.started_at is None:
        return (Wait(message="the daemon has not gone on yet"),)
    return tuple(_stage_waits(run, run.stage)) or (Wait(message="the daemon has not gone on yet"),)


def _stage_waits(run: RunStatus, stage: StageFacts) -> Iterator[Wait]:
    for gate in open_gates(stage):
        if gate.task.type == "Approval":
            message = f"stage {stage.name} waits for Approval {gate.request}"
            refused = f"; an approval was refused: {gate.refused}" if gate.refused else ""
            yield Wait(message=message + refused, command=approve_command(run, stage, gate))
        else:
            yield Wait(message=f"stage {stage.name} waits {gate.task.wait} after its last cluster")
    for cluster in stage.in_flight:
        yield Wait(message=f"cluster {cluster.name} in stage {stage.name}: {_heard(cluster)}")


def open_gates(stage: StageFacts) -> tuple[Gate, ...]:
    """Return the gates that ask for their condition now."""
    return tuple(gate for gate in stage.gates if gate.opened_at is not None and gate.passed_at is None)


def approve_command(run: RunStatus, stage: StageFacts, gate: Gate) -> str:
    """Return the command that commits the approval which a gate asks for."""
    before = " --before" if gate.when is When.BEFORE else ""
    namespace = f" -n {run.key.namespace}" if run.key.namespace else ""
    return f"reconciler approve {run.key.name} {stage.name}{before}{namespace}"


def start_command(run: RunStatus) -> str:
    """Return the command that commits the state Run."""
    return f"reconciler run start {run.key.name}" + (f" -n {run.key.namespace}" if run.key.namespace else "")


def _heard(cluster: ClusterFacts) -> str:
    return in_words(str(cluster.reason or "Delivering"), cluster.object, cluster.message)


# -- the tree ---------------------------------------------------------------------------------------------------


def branch_of(
    name: str,
    kind: str,
    run: RunStatus | None,
    members: Mapping[str, Declared],
    now: datetime,
    hold: Hold | None = None,
) -> Branch:
    """Return a run as a tree: stages, and in them gates and clusters in order; `members` are the fleet's by name."""
    state = state_word(run)
    held = (str(hold), *([f"next: {hold.command}"] if hold.command else ())) if hold is not None else ()
    if run is None or run.pin is None:
        notes = held or tuple(one.message for one in waits_for(run))
        return Branch(name=f"{name}  {kind}", mark=_run_mark(run, state), state=state, notes=notes)
    details = (
        f"snapshot {run.pin.label}",
        f"strategy {run.spec['stagedRolloutStrategyName']}@{run.pin.commit[:7]}",
    )
    return Branch(
        name=f"{name}  {kind}",
        mark=_run_mark(run, state),
        state=state,
        details=details,
        notes=(*([run.end_message] if run.end_message else ()), *held),
        children=tuple(_stage(run, stage, members, now) for stage in run.shown_stages),
    )


def _run_mark(run: RunStatus | None, state: str) -> str:
    if run is None:
        return TO_COME
    if run.end is not None:
        return DONE if run.end is End.SUCCEEDED else FAILED
    if state in ("Stuck", "InitializationFailed"):
        return FAILED
    return {"Progressing": DOING, PENDING: TO_COME}.get(state, WAITS)


def _stage(run: RunStatus, stage: StageFacts, members: Mapping[str, Declared], now: datetime) -> Branch:
    mark, state = stage_state(run, stage)
    end = stage.ended_at or run.ended_at or now
    taken = (human_duration(end - stage.started_at),) if stage.started_at is not None else ()
    done, skipped = done_and_skipped(stage.clusters)
    return Branch(
        name=stage.name,
        mark=mark,
        state=state,
        details=(f"{done}/{len(stage.clusters)}", *([f"{skipped} skipped"] if skipped else ()), *taken),
        children=(
            *(_gate(run, stage, gate, now) for gate in stage.gates_of(When.BEFORE)),
            *(_cluster(run, one, _order(run, stage, one, members), now) for one in stage.clusters),
            *(_gate(run, stage, gate, now) for gate in stage.gates_of(When.AFTER)),
        ),
    )


def stage_state(run: RunStatus, stage: StageFacts) -> tuple[str, str]:
    """Return the mark and the state of a stage in a word."""
    if stage.ended_at is not None:
        return DONE, "Skipped" if stage.skipped else "Succeeded"
    begun = stage.started_at is not None or bool(open_gates(stage))
    if not begun:
        return TO_COME, "Pending"
    if run.end is not None:
        return FAILED, str(run.end)
    if any(one.is_stuck for one in stage.clusters):
        return FAILED, "Stuck"
    if run.state is State.STOP:
        return WAITS, "Stopping" if stage.in_flight else "Stopped"
    return (WAITS, "Waiting") if waiting_side(stage) is not None else (DOING, "Progressing")


def _order(run: RunStatus, stage: StageFacts, cluster: ClusterFacts, members: Mapping[str, Declared]) -> str:
    """Return the label that a stage sorts by, with the cluster's value as it is now."""
    stages = run.pin.strategy.get("stages", ()) if run.pin is not None else ()
    key = next((one.get("sortingLabelKey") for one in stages if one.get("name") == stage.name), None)
    member = members.get(cluster.name)
    value = member.document.labels.get(key) if member is not None and member.uid == cluster.uid and key else None
    return f"{key}={value}" if value is not None else ""


def cluster_state(cluster: ClusterFacts) -> tuple[str, str]:
    """Return the mark and the state of a cluster in a word."""
    if cluster.succeeded_at is not None:
        return DONE, "Succeeded"
    if cluster.departed_at is not None:
        return TO_COME, "Skipped: ClusterDeparted"
    if cluster.taken_by:
        return FAILED, "TakenOver"
    if cluster.is_stuck:
        return FAILED, "Stuck"
    return (DOING, "Updating") if cluster.started_at is not None else (TO_COME, "Pending")


def _cluster(run: RunStatus, cluster: ClusterFacts, order: str, now: datetime) -> Branch:
    mark, state = cluster_state(cluster)
    end = cluster.succeeded_at or cluster.departed_at or (run.ended_at if cluster.taken_by else None) or now
    taken = (human_duration(end - cluster.started_at),) if cluster.started_at is not None else ()
    words = (_heard(cluster),) if cluster.in_flight else ()
    name = f"{cluster.name} ({order})" if order else cluster.name
    return Branch(name=name, mark=mark, state=state, details=(*taken, *words))


def _gate(run: RunStatus, stage: StageFacts, gate: Gate, now: datetime) -> Branch:
    mark, state = gate_state(run, stage, gate, now)
    notes = []
    if gate.refused:
        notes.append(f"refused: {gate.refused}")
    if mark == WAITS and gate.task.type == "Approval":
        notes.append(f"next: {approve_command(run, stage, gate)}")
    return Branch(name=f"{gate.when} {gate.task.type}", mark=mark, state=state, notes=tuple(notes))


def gate_state(run: RunStatus, stage: StageFacts, gate: Gate, now: datetime) -> tuple[str, str]:
    """Return the mark of a gate, and how far it is in words; a stage that is skipped whole asks nobody."""
    if stage.skipped:
        return TO_COME, "Skipped: the stage has no clusters"
    whole = format_duration(gate.wait) if gate.wait is not None else ""
    if gate.passed_at is not None:
        by = gate.approval
        return DONE, f"approved by {by.author} in commit {by.commit[:7]}" if by is not None else f"{whole} elapsed"
    if run.end is not None:
        return TO_COME, "not passed"
    if whole:
        since = stage.updated_at
        return (
            (WAITS, f"{human_duration(now - since)} of {whole}")
            if since is not None
            else (TO_COME, f"not begun, {whole}")
        )
    if gate.opened_at is None:
        return TO_COME, "not asked for yet"
    return WAITS, f"waits for {gate.request}, {human_duration(now - gate.opened_at)}"


# -- events -----------------------------------------------------------------------------------------------------


def log_of(status: store.Status, owner: RunStatus | PlacementState) -> list[Event]:
    """Return the events of a run, or a placement's own, oldest first."""
    folder = layout.run_folder(owner) if isinstance(owner, RunStatus) else layout.placement_folder(owner.key)
    return reader.log_events(status.files.get(f"{folder}/{layout.EVENTS}", b""))


def event_line(event: Event, run: RunStatus | None) -> str:
    """Return an event as one line: moment, number, kind and facts."""
    return f"{timestamp(event.now)}  {event.seq}  {type(event).__name__}  {event_facts(event, run)}".rstrip()


def event_facts(event: Event, run: RunStatus | None) -> str:
    """Return the facts of an event as `name=value`, ids shortened."""
    return " ".join(f"{name}={_short(value)}" for name, value in _facts(event, run) if value not in ("", None))


def _facts(event: Event, run: RunStatus | None) -> Iterator[tuple[str, Any]]:
    for name, value in events.encode(event).items():
        if name in ("seq", "now", "event", "run", "format", "key", "annotations", "spec"):
            continue
        if name == "stage" and run is not None and value < len(run.stages):
            yield name, run.stages[value].name
        elif isinstance(value, Mapping):
            yield from _inner(name, value)
        else:
            yield name, ",".join(map(_item, value)) if isinstance(value, list) else value


def _item(value: Any) -> str:
    """Return an entry of a list; the result of an object is told as its name and reason."""
    return f"{value.get('object')}: {value.get('reason')}" if isinstance(value, Mapping) else str(value)


_TOLD: Mapping[str, tuple[str, ...]] = {
    "pin": ("snapshot_index", "hash", "commit", "cluster_count"),
    "approval": ("author", "commit", "signer"),
    "before": ("index", "commit"),
    "snapshot": ("index", "hash", "commit", "author"),
    "policy": ("index", "commit"),
}


def _inner(name: str, body: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key in _TOLD.get(name, ()):
        yield f"{name}.{key}", body.get(key)


def _short(value: Any) -> str:
    text = str(value)
    if len(text) in (40, 64) and set(text) <= set("0123456789abcdef"):
        return text[:7]
    return json.dumps(text, ensure_ascii=False) if not text or " " in text else text
