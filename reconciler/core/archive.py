"""Runs that are over and whose file is gone: their logs leave the tree of the status branch, its history keeps them.

A run whose way back may still be gone stays: what a rollback wrote or restored, and what was reverted, is looked up
when a later run is reverted. A run that was merely withdrawn ends every such way.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime

from reconciler.core.events import Event, RunArchived
from reconciler.core.fold import apply_to_placement
from reconciler.core.status import End, PlacementState, RunStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """The state without the runs that left, the events that say so, and whether more may leave with the next pass."""

    state: PlacementState
    events: tuple[Event, ...]
    is_more: bool


def archive(recorded: PlacementState, state: PlacementState, removed: Collection[str], now: datetime) -> Archive:
    """Let go of what is over and gone; `removed` as in `leaving`.

    A run to which something happened since the recorded state stays for now: the commit that takes its log out of the
    tree cannot also hold what was added to it. A rollback stays while a run that it takes back does.
    """
    events = []
    found = leaving(state, removed)
    for run in found:
        if recorded.runs.get(run.uid) is run and not state.runs.keys() & set(run.reverts):
            event = RunArchived(seq=state.seq + 1, now=now, uid=run.uid, name=run.key.name)
            state = apply_to_placement(state, event)
            events.append(event)
    return Archive(state=state, events=tuple(events), is_more=bool(found))


def leaving(state: PlacementState, removed: Collection[str]) -> tuple[RunStatus, ...]:
    """Return the runs that may leave, oldest first; `removed` are the uids of what left the repository."""
    gone = [run for run in state.runs.values() if _is_gone(run, removed) and not run.is_active]
    involved = {uid for run in state.runs.values() if run.reverts for uid in (run.uid, *run.reverts)}
    if any(run.uid in involved for run in gone):
        kept = _still_needed(state, {run.uid for run in gone} - involved)
        gone = [run for run in gone if run.uid not in kept]
    return tuple(sorted(gone, key=lambda run: run.age))


def _is_gone(run: RunStatus, removed: Collection[str]) -> bool:
    """Tell whether a run has no file any more; a rollback never had one."""
    return bool(run.reverts) or run.uid in removed or (run.end is End.WITHDRAWN and not run.keeps_file)


def _still_needed(state: PlacementState, ends: Collection[str]) -> set[str]:
    """Return what a rollback may look up: unfinished ones and the newest, and all that is on a way back."""
    found = set(_on_ways_back(state, ends))
    newest = max(state.runs.values(), key=lambda run: run.age)
    for run in state.runs.values():
        if run.reverts and run.end is None:
            found |= {run.uid, *run.reverts}
        elif run.reverts and (run is newest or found.intersection(run.reverts)):
            found.add(run.uid)
    return found


def _on_ways_back(state: PlacementState, ends: Collection[str]) -> Iterator[str]:
    """Yield the runs by which a cluster came to what it holds, up to `ends`, which can never be reverted."""
    clusters = {
        (run.uid, one.name, one.seq): one
        for run in state.runs.values()
        if run.uid not in ends
        for stage in run.all_stages
        for one in stage.clusters
    }
    for record in state.records.values():
        held = record.delivered
        pending = list({(record.run, record.seq), *([(held.run, held.seq)] if held is not None else ())})
        while pending:
            run, seq = pending.pop()
            cluster = clusters.get((run, record.cluster, seq))
            if cluster is not None:
                yield run
                restored = cluster.restores if cluster.restores is not None and cluster.restores.run else None
                back = restored or cluster.before
                pending += [(back.run, back.seq)] if back is not None else []
