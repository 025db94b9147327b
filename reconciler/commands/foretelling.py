"""A plan as text for people, and as data for programs."""

from collections.abc import Iterator
from typing import Any

from reconciler.commands.holds import FleetHeldError, Hold
from reconciler.commands.planning import INITIALIZES, STARTS, STOPPED, Change, Difference, Foreseen
from reconciler.commands.present import fields, small_table
from reconciler.commands.telling import start_command
from reconciler.core.status import PinnedStage, PinnedTask, Record, Snapshot
from reconciler.daemon.proposal import NOT_YET, ConflictError


def lines_of(what: str, change: Change) -> Iterator[str]:
    """Yield a plan as text, what stops it first."""
    yield f"{what}: " + (f"{len(change.runs)} run(s)" if change.runs else "no run that is not started yet")
    yield from (f"  {problem}" for problem in change.problems)
    yield from (f"  warning: {problem}" for problem in change.warnings)
    yield from (f"  {one.outcome}: {one.subject}: {one.message}" for one in change.leaving)
    for one in change.runs:
        yield ""
        yield from _run(one)


def _run(one: Foreseen) -> Iterator[str]:
    document, spec = one.declared.document, one.run.spec
    key = one.run.key
    pairs = [
        ("Run", f"{key.name} ({key.kind}, {document.path}:{document.line})"),
        *([("Namespace", key.namespace)] if key.namespace else []),
        ("Outcome", _outcome(one)),
        ("Placement", one.run.placement),
        *([("Snapshot", _snapshot(one.snapshot))] if one.snapshot is not None else []),
        ("Strategy", str(spec["stagedRolloutStrategyName"])),
        *([("Supersedes", ", ".join(one.supersedes))] if one.supersedes else []),
    ]
    yield from fields(pairs)
    if one.pin is None:
        return
    for number, stage in enumerate(one.pin.stages, start=1):
        yield from _stage(one, stage, number)
    if one.pin.deletions:
        yield "Removed at the end from: " + ", ".join(cluster.name for cluster in one.pin.deletions)
    for difference in one.differences:
        yield from _difference(difference, one.pin.snapshot_index)


def _outcome(one: Foreseen) -> str:
    texts = {
        STARTS: "starts as soon as it is seen",
        INITIALIZES: f"is initialized only; next: {start_command(one.run)}",
        STOPPED: f"is initialized and stopped; next: {start_command(one.run)}",
    }
    return texts.get(one.outcome) or f"refused: {one.problem}"


def _snapshot(snapshot: Snapshot) -> str:
    origin = "new with this change" if snapshot.commit == NOT_YET else f"of commit {snapshot.commit[:7]}"
    equals = f", equals snapshot {snapshot.equals}" if snapshot.equals is not None else ""
    return f"{snapshot.index} ({snapshot.hash[:7]}), {origin}{equals}"


def _stage(one: Foreseen, stage: PinnedStage, number: int) -> Iterator[str]:
    if not stage.clusters:
        yield f"Stage {number}: {stage.name}, no cluster: skipped"
        return
    yield f"Stage {number}: {stage.name}, {len(stage.clusters)} cluster(s), {stage.limit} at the same time"
    for task in stage.before:
        yield f"  before: {_task(task)}"
    assert one.pin is not None
    then = f"snapshot {one.pin.snapshot_index}"
    rows = ((cluster.name, _now(one.holds.get(cluster.name)), then) for cluster in stage.clusters)
    yield from small_table(("Cluster", "Now", "Then"), rows, "    ")
    for task in stage.after:
        yield f"  after: {_task(task)}"


def _task(task: PinnedTask) -> str:
    return f"{task.type} {task.wait}".rstrip()


def _now(record: Record | None) -> str:
    if record is None:
        return "nothing"
    if not record.hash:
        return "nothing, being removed"
    return f"snapshot {record.index}" + ("" if record.complete_at is not None else ", not complete")


def _difference(one: Difference, index: int) -> Iterator[str]:
    before = f"snapshot {one.since}" if one.since is not None else "nothing"
    yield f"From {before} to snapshot {index}, on {', '.join(one.clusters)}:"
    if one.unknown:
        yield f"  unknown: {one.unknown}"
    for word, names in (("removed", one.removed), ("changed", one.changed), ("added", one.added)):
        yield from (f"  {word}  {name}" for name in names)
    if not (one.unknown or one.removed or one.changed or one.added):
        yield "  nothing changes"


# -- as data ---------------------------------------------------------------------------------------------------------


def data_of(merged: str | None, base: str, change: Change) -> dict[str, Any]:
    """Return a plan as JSON-shaped data; `merged` names what is brought in, `base` the head it comes on top of."""
    return {
        "merged": merged,
        "base": base,
        "conflicts": [],
        "holds": [_hold_data(one) for one in change.holds],
        "problems": [str(one) for one in change.problems],
        "warnings": [str(one) for one in change.warnings],
        "leaving": [
            {"outcome": one.outcome, "subject": one.subject, "clusters": dict(one.clusters), "message": one.message}
            for one in change.leaving
        ],
        "runs": [_run_data(one) for one in change.runs],
    }


def conflict_data(merged: str, conflict: ConflictError) -> dict[str, Any]:
    """Return in the same shape that nothing can be foreseen, since git leaves the merge to a person: in which files."""
    return _nothing_data(merged, conflict.base, conflict) | {"conflicts": list(conflict.paths)}


def held_data(merged: str | None, base: str, held: FleetHeldError) -> dict[str, Any]:
    """Return in the same shape that nothing can be foreseen, since the whole fleet is held: by what."""
    return _nothing_data(merged, base, held, held.hold)


def _nothing_data(merged: str | None, base: str, why: Exception, *holds: Hold) -> dict[str, Any]:
    nothing = Change(problems=(), warnings=(), leaving=(), runs=(), holds=holds)
    return data_of(merged, base, nothing) | {"problems": [str(why)]}


def _hold_data(hold: Hold) -> dict[str, Any]:
    """Return a hold; without a subject the whole fleet is held."""
    return {
        "subject": hold.subject or None,
        "rule": hold.rule,
        "message": hold.message,
        "command": hold.command or None,
    }


def _run_data(one: Foreseen) -> dict[str, Any]:
    document, key = one.declared.document, one.run.key
    return {
        "kind": key.kind,
        **({"namespace": key.namespace} if key.namespace else {}),
        "name": key.name,
        "file": document.path,
        "line": document.line,
        "state": str(one.run.state),
        "outcome": one.outcome,
        "problem": one.problem or None,
        "placement": one.run.placement,
        "strategy": str(one.run.spec["stagedRolloutStrategyName"]),
        "snapshot": _snapshot_data(one.snapshot),
        "supersedes": list(one.supersedes),
        "stages": [_stage_data(one, stage) for stage in one.pin.stages] if one.pin is not None else [],
        "deletions": [cluster.name for cluster in one.pin.deletions] if one.pin is not None else [],
        "differences": [_difference_data(difference) for difference in one.differences],
    }


def _snapshot_data(snapshot: Snapshot | None) -> dict[str, Any] | None:
    if snapshot is None:
        return None
    commit = None if snapshot.commit == NOT_YET else snapshot.commit
    return {"index": snapshot.index, "hash": snapshot.hash, "commit": commit, "equals": snapshot.equals}


def _stage_data(one: Foreseen, stage: PinnedStage) -> dict[str, Any]:
    return {
        "name": stage.name,
        "maxConcurrency": stage.limit,
        "before": [_task_data(task) for task in stage.before],
        "clusters": [
            {"name": cluster.name, "now": _now_data(one.holds.get(cluster.name))} for cluster in stage.clusters
        ],
        "after": [_task_data(task) for task in stage.after],
    }


def _task_data(task: PinnedTask) -> dict[str, Any]:
    return {"type": task.type, **({"waitTime": task.wait} if task.wait else {})}


def _now_data(record: Record | None) -> dict[str, Any] | None:
    if record is None:
        return None
    index = record.index if record.hash else None
    return {"index": index, "run": record.run_name, "complete": record.complete_at is not None}


def _difference_data(one: Difference) -> dict[str, Any]:
    return {
        "since": one.since,
        "clusters": list(one.clusters),
        "removed": list(one.removed),
        "changed": list(one.changed),
        "added": list(one.added),
        "unknown": one.unknown or None,
    }
