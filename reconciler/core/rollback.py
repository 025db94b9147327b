"""The way back of reverted runs: which clusters return to what, in which order."""

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

from reconciler.core.identity import child_uid
from reconciler.core.model import PREFIX, Body, Commit, Key
from reconciler.core.status import (
    Delivered,
    Pin,
    PinnedCluster,
    PinnedStage,
    PlacementState,
    Record,
    RunStatus,
)
from reconciler.core.view import View, is_member

_LONGEST_NAME = 63


@dataclass(frozen=True, slots=True, kw_only=True)
class Reverted:
    """The runs of a placement that were ever reverted, and those of them that no rollback has taken back yet."""

    ever: frozenset[str]
    new: tuple[RunStatus, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """A rollback as it is seen for the first time: a run without a file, pinned from the start."""

    uid: str
    key: Key
    commit: Commit
    position: int
    spec: Body
    annotations: Body
    reverts: tuple[str, ...]
    pin: Pin


def reverted_runs(state: PlacementState, view: View) -> Reverted:
    """Find the started runs whose removal is a revert; what was reverted before the placement came back is past."""
    placement = view.find(state.key.kind, state.key.namespace, state.key.name)
    handled = {uid for run in state.runs.values() for uid in run.reverts}
    since = placement.created.position if placement is not None else 0
    new = [
        run
        for uid, run in state.runs.items()
        if uid in view.reverted
        and uid not in handled
        and run.started_at is not None
        and view.removals[uid].commit.position >= since
    ]
    new.sort(key=lambda run: run.age, reverse=True)
    return Reverted(ever=frozenset(handled | {run.uid for run in new}), new=tuple(new))


def rollback_of(state: PlacementState, view: View, found: Reverted, names: Collection[str]) -> Rollback:
    """Return the rollback of the newly reverted runs and of those whose rollback goes on; `names` are taken."""
    unfinished = {uid for run in state.runs.values() if run.end is None for uid in run.reverts}
    runs = sorted({*unfinished, *(run.uid for run in found.new)}, key=lambda uid: state.runs[uid].age, reverse=True)
    newest = state.runs[runs[0]]
    commit = max((view.removals[run.uid].commit for run in found.new), key=lambda one: one.position)
    pin = _pin(state, view, commit, found.ever, [state.runs[uid] for uid in runs])
    taken = {*names, *(run.key.name for run in state.runs.values()), *(one.key.name for one in state.archived.values())}
    key = replace(newest.key, name=_free_name(newest.key.name, taken))
    return Rollback(
        uid=child_uid(newest.uid, key.kind, key.name),
        key=key,
        commit=commit,
        position=newest.position,
        spec={
            "placementName": state.key.name,
            **({"resourceSnapshotIndex": str(pin.snapshot_index)} if pin.snapshot_index >= 0 else {}),
            "stagedRolloutStrategyName": newest.spec["stagedRolloutStrategyName"],
            "state": "Run",
        },
        annotations={
            PREFIX + "rollback-of": ", ".join(state.runs[uid].key.name for uid in runs),
            PREFIX + "reverted-by": commit.sha,
        },
        reverts=tuple(runs),
        pin=pin,
    )


def _free_name(run: str, taken: Collection[str]) -> str:
    number = 1
    while (name := named(run, f"-rollback-{number}" if number > 1 else "-rollback")) in taken:
        number += 1
    return name


def named(run: str, suffix: str) -> str:
    """Return a run's name with something behind it; cut with a hash at 63 characters."""
    if len(run + suffix) <= _LONGEST_NAME:
        return run + suffix
    digest = hashlib.sha256(run.encode()).hexdigest()[:8]
    return f"{run[: _LONGEST_NAME - len(suffix) - len(digest) - 1].rstrip('-.')}-{digest}{suffix}"


def _pin(state: PlacementState, view: View, commit: Commit, ever: frozenset[str], runs: list[RunStatus]) -> Pin:
    ways = list(_ways_back(state, view, commit, ever))
    stages = _stages(state, ways)
    targets = {(one.placement_uid, one.index): one for _, one in ways}
    only = next(iter(targets.values())) if len(targets) == 1 else None
    return Pin(
        commit=commit.sha,
        position=commit.position,
        placement_uid=state.uid,
        snapshot_index=only.index if only else -1,
        snapshot_commit=only.commit if only else "",
        hash=only.hash if only else "",
        policy_index=state.policies[-1].index if state.policies else 0,
        cluster_count=len(ways),
        strategy={"stages": [{"name": one.name, "maxConcurrency": one.limit} for one in stages]},
        apply_strategy=cast("Pin", runs[0].pin).apply_strategy,
        stages=stages,
        left=tuple(_left(state, runs, {record.cluster for record, _ in ways})),
    )


def _ways_back(
    state: PlacementState, view: View, commit: Commit, ever: frozenset[str]
) -> Iterator[tuple[Record, Delivered]]:
    """Yield each cluster whose newest writer was reverted, last updated first, with what it returns to."""
    members = view.clusters()
    for record in sorted(state.records.values(), key=lambda one: one.seq, reverse=True):
        if not is_member(members, record) or _writer(state, record.cluster, record.run, record.seq)[0] not in ever:
            continue
        target = _before(state, record, ever) or (_present(state, commit) if record.hash else None)
        if target is not None:
            yield record, target


def _writer(state: PlacementState, cluster: str, run: str, seq: int) -> tuple[str, int]:
    """Return the run and the intent that count as the writer: for what a rollback restored, those it was from."""
    held = state.runs.get(run)
    facts = held.cluster(cluster, seq) if held is not None and held.reverts else None
    if facts is None or facts.restores is None or not facts.restores.run:
        return run, seq
    return facts.restores.run, facts.restores.seq


def _before(state: PlacementState, record: Record, ever: frozenset[str]) -> Delivered | None:
    """Follow `before` to the newest delivery of a run that is not reverted; None where there was nothing."""
    run, seq = _writer(state, record.cluster, record.run, record.seq)
    found: Delivered | None = None
    while run in ever:
        held = state.runs.get(run)
        facts = held.cluster(record.cluster, seq) if held is not None else None
        found = facts.before if facts is not None else None
        if found is None:
            return None
        run, seq = _writer(state, record.cluster, found.run, found.seq)
    return replace(found, run=run, seq=seq) if found is not None else None


def _present(state: PlacementState, commit: Commit) -> Delivered | None:
    """Return the snapshot that the placement has at the revert: a rollback never empties a cluster."""
    there = [one for one in state.snapshots if one.position <= commit.position]
    if not there:
        return None
    last = there[-1]
    return Delivered(run="", index=last.index, hash=last.hash, commit=last.commit, seq=0, placement_uid=state.uid)


def _stages(state: PlacementState, ways: list[tuple[Record, Delivered]]) -> tuple[PinnedStage, ...]:
    """Put clusters that were updated in one stage into one stage again, with the same limit."""
    groups: dict[tuple[str, int], list[PinnedCluster]] = {}
    for record, target in ways:
        pinned = PinnedCluster(name=record.cluster, uid=record.uid, hash=target.hash, restores=target)
        groups.setdefault(_place(state, record), []).append(pinned)
    stages: list[PinnedStage] = []
    for (run, number), clusters in groups.items():
        stage = state.runs[run].all_stages[number]
        name = "restore" if number == len(state.runs[run].stages) else stage.name
        limit = max(1, stage.limit)
        stages.append(PinnedStage(name=_unused(name, stages), clusters=tuple(clusters), limit=limit))
    return tuple(stages)


def _place(state: PlacementState, record: Record) -> tuple[str, int]:
    """Return the run and the stage in which a cluster was last updated."""
    stages = state.runs[record.run].all_stages
    return record.run, next(
        number for number, stage in enumerate(stages) if any(one.seq == record.seq for one in stage.clusters)
    )


def _unused(name: str, stages: list[PinnedStage]) -> str:
    taken = {one.name for one in stages}
    return next(one for one in (name, *(f"{name}-{number}" for number in range(2, len(taken) + 3))) if one not in taken)


def _left(state: PlacementState, runs: list[RunStatus], restored: set[str]) -> Iterator[str]:
    """Yield the clusters that the reverted runs had started and that somebody else has written since."""
    started = {one.name for run in runs for stage in run.all_stages for one in stage.clusters if one.seq}
    for name in sorted(started - restored):
        record: Any = state.records.get(name)
        if record is not None and record.run not in {run.uid for run in runs}:
            yield f"{name} ({record.run_name})" if record.run_name else name
