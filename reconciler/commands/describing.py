"""What `describe` prints: head, spec, what became of it in sections, conditions, and events at the end."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from reconciler import redact
from reconciler.commands.chronicle import message_of, type_of
from reconciler.commands.holds import Hold, hold_of
from reconciler.commands.nouns import Item, Noun
from reconciler.commands.objects import known_runs, numbered, states
from reconciler.commands.opening import Fleet
from reconciler.commands.present import age, fields, human_duration, nested, small_table
from reconciler.commands.reading import hold_on
from reconciler.commands.telling import (
    approve_command,
    cluster_state,
    gate_state,
    log_of,
    open_gates,
    stage_state,
    state_word,
    waits_for,
)
from reconciler.core.actions import Reason
from reconciler.core.codec import decode_time
from reconciler.core.conditions import timestamp
from reconciler.core.events import Event
from reconciler.core.model import Commit
from reconciler.core.status import ClusterFacts, PlacementState, Record, RunStatus, StageFacts, When, in_words
from reconciler.core.view import Declared
from reconciler.status_branch.dashboard import name_of


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subject:
    """What is described, where, and when."""

    fleet: Fleet
    noun: Noun
    item: Item
    now: datetime

    @property
    def declared(self) -> Declared | None:
        """The object as its file has it, if it has one."""
        table = self.fleet.derivation.view.objects.get(self.noun.kind, {})
        found = (one for one in table.values() if one.uid == self.item.metadata.get("uid"))
        return next(found, None)

    @property
    def run(self) -> RunStatus | None:
        """The run as the daemon recorded it."""
        runs = known_runs(self.fleet, everything=True)
        return next((one for one in runs if one.uid == self.item.identity), None)

    @property
    def placement(self) -> PlacementState | None:
        """The placement as far as its snapshots and records are known."""
        uid = self.item.identity
        return next((one for one in numbered(self.fleet, everything=True) if one.uid == uid), None)


def describe_lines(fleet: Fleet, noun: Noun, item: Item, now: datetime) -> list[str]:
    """Return the description of an object; values of Secrets are left out."""
    item = replace(item, body=redact.body(item.body))
    subject = _Subject(fleet=fleet, noun=noun, item=item, now=now)
    sections = _SECTIONS.get(noun.kind, _nothing)
    return [
        *_head(subject),
        *(["Spec:", *nested(item.body["spec"], "  ")] if item.body.get("spec") else []),
        *sections(subject),
        *_conditions(subject),
        *_events(subject),
    ]


# -- head ---------------------------------------------------------------------------------------------------------


def _head(subject: _Subject) -> list[str]:
    item, metadata = subject.item, subject.item.metadata
    declared = subject.declared
    pairs = [
        ("Name", item.name),
        *([("Namespace", item.namespace)] if subject.noun.namespaced else []),
        ("Labels", _pairs(item.labels)),
        ("Annotations", _pairs(metadata.get("annotations") or {}, ": ")),
        ("API Version", str(item.body["apiVersion"])),
        ("Kind", subject.noun.kind),
        ("Created", _moment(metadata.get("creationTimestamp"), subject.now)),
        ("Generation", str(metadata.get("generation", ""))),
        ("UID", str(metadata.get("uid", ""))),
    ]
    if declared is not None:
        pairs += [
            ("File", f"{declared.document.path}:{declared.document.line}"),
            ("Added By", _commit(declared.created)),
            ("Changed By", _commit(declared.changed)),
        ]
    if item.removed is not None:
        pairs.append(("Removed By", _commit(item.removed)))
    return fields(pairs)


def _pairs(values: Mapping[str, str], between: str = "=") -> str:
    return "\n".join(f"{key}{between}{value}" for key, value in sorted(values.items())) or "<none>"


def _moment(text: str | None, now: datetime) -> str:
    return f"{text} ({age(decode_time(text), now)} ago)" if text else "<unknown>"


def _commit(commit: Commit) -> str:
    return f"{commit.sha[:7]} {commit.author}: {commit.subject}"


# -- a run ---------------------------------------------------------------------------------------------------------


def _run(subject: _Subject) -> Iterator[str]:
    run = subject.run
    yield "Status:"
    pairs = [("State", state_word(run))]
    for wait in waits_for(run, _hold(subject)):
        pairs.append(("Waits For", wait.message))
        if wait.command:
            pairs.append(("Next", wait.command))
    if run is not None and run.pin is not None:
        pairs += [
            ("Snapshot", f"{run.pin.label}, as of commit {run.pin.snapshot_commit[:7]}"),
            ("Policy Snapshot", str(run.pin.policy_index)),
            ("Initialized At", f"commit {run.pin.commit[:7]}"),
        ]
    yield from fields(pairs, "  ")
    if run is not None:
        for number, stage in enumerate(run.stages, start=1):
            yield from _stage(run, stage, number, subject.now)


def _hold(subject: _Subject) -> Hold | None:
    return hold_on(subject.fleet, subject.noun, subject.item.namespace, subject.item.name)


def _stage(run: RunStatus, stage: StageFacts, number: int, now: datetime) -> Iterator[str]:
    _, state = stage_state(run, stage)
    yield f"Stage {number}:"
    pairs = [("Name", stage.name), ("State", state), ("At The Same Time", str(stage.limit))]
    if stage.started_at is not None:
        end = stage.ended_at or run.ended_at or now
        pairs.append(("Started", _moment(timestamp(stage.started_at), now)))
        pairs.append(("Took" if stage.ended_at else "Takes", human_duration(end - stage.started_at)))
    yield from fields(pairs, "  ")
    if stage.clusters:
        header = ("Cluster", "State", "Started", "Took", "Before", "Message")
        yield from small_table(header, (_cluster_row(one, now) for one in stage.clusters), "    ")
    if stage.gates:
        yield from small_table(("Gate", "State", "Next"), _gate_rows(run, stage, now), "    ")


def _cluster_row(cluster: ClusterFacts, now: datetime) -> tuple[str, ...]:
    _, state = cluster_state(cluster)
    end = cluster.succeeded_at or cluster.departed_at or now
    message = in_words(cluster.object, cluster.message) if cluster.in_flight else ""
    return (
        cluster.name,
        state,
        timestamp(cluster.started_at) if cluster.started_at else "",
        human_duration(end - cluster.started_at) if cluster.started_at else "",
        f"snapshot {cluster.before.index}" if cluster.before else "",
        message,
    )


def _gate_rows(run: RunStatus, stage: StageFacts, now: datetime) -> Iterator[tuple[str, str, str]]:
    waiting = open_gates(stage) if run.end is None else ()
    for when in When:
        for gate in stage.gates_of(when):
            asks = gate in waiting and gate.task.type == "Approval"
            refused = f"; refused: {gate.refused}" if gate.refused else ""
            state = gate_state(run, stage, gate, now)[1] + refused
            yield f"{gate.when} {gate.task.type}", state, approve_command(run, stage, gate) if asks else ""


# -- a placement, a cluster, a snapshot ------------------------------------------------------------------------------


def _placement(subject: _Subject) -> Iterator[str]:
    state = subject.placement
    if state is None:
        return
    hold = hold_of(subject.fleet, state.key)
    if hold is not None:
        yield from fields([("Held", str(hold)), *([("Next", hold.command)] if hold.command else [])])
    yield "Snapshots:"
    header = ("Index", "Hash", "Commit", "Author", "Subject", "Age", "Clusters")
    on: dict[int, list[str]] = {}
    for record in state.records.values():
        on.setdefault(record.index, []).append(record.cluster)
    yield from small_table(
        header,
        (
            (
                str(one.index) + (f" (= {one.equals})" if one.equals is not None else ""),
                one.hash[:7],
                one.commit[:7],
                one.author,
                one.subject,
                age(one.created, subject.now),
                ",".join(sorted(on.get(one.index, ()))) or "<none>",
            )
            for one in state.snapshots
        ),
    )
    yield "Clusters:"
    yield from small_table(("Cluster", "Snapshot", "Run", "Since", "State"), _placement_rows(state, subject.now))


def _placement_rows(state: PlacementState, now: datetime) -> Iterator[tuple[str, ...]]:
    for name in sorted({*state.scheduled, *state.records}):
        record = state.records.get(name)
        if record is None:
            yield name, "<none>", "", "", "Refused" if state.refusal else "Scheduled"
        else:
            yield name, _index(record), record.run_name, age(record.started_at, now), str(record.reason or "Started")


def _index(record: Record) -> str:
    """Return the index of what a cluster holds; nothing is left of what was or is being removed."""
    return str(record.index) if record.hash else "<none>"


def _cluster(subject: _Subject) -> Iterator[str]:
    found = [
        (name_of(key.namespace, key.name), record)
        for key, state in sorted(states(subject.fleet).items())
        for record in state.records.values()
        if not (record.is_empty and state.removed_at is not None)
        and (record.cluster, record.uid) == (subject.item.name, subject.item.metadata.get("uid"))
    ]
    yield "Placements:" + ("" if found else "  <none>")
    if found:
        header = ("Placement", "Snapshot", "Run", "Since", "Complete", "Available")
        yield from small_table(header, (_record_row(name, one, subject.now) for name, one in found))
    unwell = [row for name, record in found for row in _unwell_rows(name, record)]
    if unwell:
        yield "Not Well:"
        yield from small_table(("Placement", "Object", "Reason", "Message"), unwell)


def _record_row(placement: str, record: Record, now: datetime) -> tuple[str, ...]:
    return (
        placement,
        _index(record),
        record.run_name,
        age(record.started_at, now),
        _yes(record.complete_at is not None),
        _yes(record.available_at is not None),
    )


def _unwell_rows(placement: str, record: Record) -> Iterator[tuple[str, ...]]:
    """Yield what the daemon heard last of each object that is not well, or of the member itself."""
    if record.results:
        yield from ((placement, one.object, str(one.reason), one.message) for one in record.results)
    elif record.reason not in (None, Reason.AVAILABLE, Reason.WITHDRAWN):
        yield placement, record.object or "<none>", str(record.reason), record.message


def _yes(answer: bool) -> str:
    return "Yes" if answer else "No"


def _nothing(_: _Subject) -> Iterable[str]:
    return ()


_SECTIONS: Mapping[str, Callable[[_Subject], Iterable[str]]] = {
    "MemberCluster": _cluster,
    "ClusterResourcePlacement": _placement,
    "ResourcePlacement": _placement,
    "ClusterStagedUpdateRun": _run,
    "StagedUpdateRun": _run,
}


# -- conditions and events -----------------------------------------------------------------------------------------


def _conditions(subject: _Subject) -> Iterator[str]:
    found = subject.item.conditions()
    if not found:
        return
    yield "Conditions:"
    rows = (
        (
            str(one.get("type", "")),
            str(one.get("status", "")),
            str(one.get("reason", "")),
            _since(one.get("lastTransitionTime"), subject.now),
            str(one.get("message", "")),
        )
        for one in found
    )
    yield from small_table(("Type", "Status", "Reason", "Age", "Message"), rows)


def _since(text: object, now: datetime) -> str:
    """Return the age of a moment that a person may have written."""
    try:
        return age(decode_time(str(text)), now)
    except (TypeError, ValueError):
        return "<unknown>"


def _events(subject: _Subject) -> Iterator[str]:
    found = _log(subject)
    if found is None:
        return
    yield "Events:" + ("" if found else "  <none>")
    if found:
        run = subject.run
        rows = ((type_of(one), type(one).__name__, age(one.now, subject.now), message_of(one, run)) for one in found)
        yield from small_table(("Type", "Reason", "Age", "Message"), rows)


def _log(subject: _Subject) -> list[Event] | None:
    """Return the events of what has a log, None for what has none."""
    status = subject.fleet.status
    if status is None:
        return None
    if subject.noun.kind.endswith("StagedUpdateRun"):
        return log_of(status, subject.run) if subject.run is not None else []
    return log_of(status, subject.placement) if subject.placement is not None else None
