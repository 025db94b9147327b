"""A history whose commits are nowhere any more, as far as the status branch recorded it.

After an acknowledged rewrite the first commit of the new history is taken in on top of this, like any other commit:
what has the same name and spec keeps its identity, what differs was changed, what is not there was removed, and
snapshots go on from their recorded indices. It is made from the record alone, so that a clone that still has the lost
commits and one that never had them derive the same.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from reconciler.core.approvals import names_of
from reconciler.core.conditions import API_VERSION, approval_kind
from reconciler.core.history import History
from reconciler.core.identity import Identity, object_uid
from reconciler.core.model import CLUSTER_GROUP, KINDS, RESOURCES, Commit, Document, Key
from reconciler.core.selection import canonical
from reconciler.core.status import End, PlacementState, RunStatus
from reconciler.core.view import Declared, Initialization


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What the status branch held when the new history was acknowledged, and `time`, when that was written.

    `lost` is the head that it was observed at, and `clusters` who the members were there; None for a branch that does
    not say it. `started_after` as in `Declarations`.
    """

    states: tuple[PlacementState, ...]
    clusters: tuple[Identity, ...] | None
    lost: str
    time: datetime
    started_after: int


def recorded_history(record: Recorded) -> History:
    """Return a history that stands at the lost head.

    Shape:   each object lies in a file of its own, with a path that no repository can have (`//`); of resources and
             clusters only the names are known.
    Units:   the head's position is the highest that was recorded, which may be lower than it was.
    """
    placements = sorted(record.states, key=lambda one: one.key)
    runs = sorted((run for one in placements for run in one.runs.values()), key=lambda one: (one.position, one.uid))
    head = _commit(record.lost, max([record.started_after, *_positions(placements, runs)]), record.time)
    clusters = _pinned(runs) if record.clusters is None else record.clusters
    history = History()
    history.begin_from(
        [*_placements(placements, head), *_runs(runs), *_clusters(clusters, head), *_resources(placements, head)]
    )
    history.head = head
    history.recorded = {*(one.uid for one in placements), *(one.uid for one in runs)}
    for state in placements:
        history.snapshots[state.uid] = list(state.snapshots)
        history.policies[state.uid] = list(state.policies)
    for run in runs:
        history.approvals_seen |= dict.fromkeys(_accepted(run), head.position)
        if (made := _initialization(run)) is not None:
            history.initializations[run.uid] = made
    return history


def _commit(sha: str, position: int, time: datetime) -> Commit:
    return Commit(sha=sha, position=position, time=time, author="", committer="", message="")


def _positions(placements: list[PlacementState], runs: list[RunStatus]) -> Iterator[int]:
    yield from (snapshot.position for one in placements for snapshot in one.snapshots)
    for run in runs:
        yield run.position
        yield from (gate.opened_position for stage in run.stages for gate in stage.gates)
        if run.pin is not None:
            yield run.pin.position


# -- objects -----------------------------------------------------------------------------------------------------


def _declared(
    key: Key, uid: str, created: Commit, *, changed: Commit | None = None, generation: int = 1, **body: Any
) -> Declared:
    folder = KINDS[key.kind].folder if key.kind in KINDS else RESOURCES
    metadata = {"name": key.name, **({"namespace": key.namespace} if key.namespace else {}), **body.pop("metadata", {})}
    path = f"{folder}//{key.group}/{key.kind}/{key.namespace}/{key.name}.yaml"
    whole = {"apiVersion": API_VERSION, "kind": key.kind, **body, "metadata": metadata}
    document = Document(path=path, line=0, index=0, body=whole)
    return Declared(
        document=document, uid=uid, created=created, generation=generation, changed=changed or created, blob=""
    )


def _placements(placements: list[PlacementState], head: Commit) -> Iterator[Declared]:
    for one in placements:
        if one.uid and one.created is not None and one.removed_at is None:
            commit = replace(head, sha=one.commit, time=one.created)
            yield _declared(one.key, one.uid, commit, generation=one.generation, spec=one.spec)


def _runs(runs: list[RunStatus]) -> Iterator[Declared]:
    """Yield the newest run of each name, unless its file was seen removed; a rollback has none."""
    for run in {one.key: one for one in runs if not one.reverts}.values():
        if run.end is not End.WITHDRAWN or run.keeps_file:
            created = _commit(run.brought_by, run.position, run.created)
            metadata = {"annotations": dict(run.annotations)} if run.annotations else {}
            yield _declared(run.key, run.uid, created, generation=run.generation, spec=run.spec, metadata=metadata)


def _clusters(clusters: Iterable[Identity], head: Commit) -> Iterator[Declared]:
    for one in clusters:
        key = Key(group=CLUSTER_GROUP, kind="MemberCluster", name=one.name)
        created = _commit(one.commit, head.position, one.created)
        yield _declared(key, one.uid, created, apiVersion=f"{CLUSTER_GROUP}/v1beta1")


def _pinned(runs: list[RunStatus]) -> tuple[Identity, ...]:
    """Return each cluster as the newest pin has it, unless it was seen leaving: what an older branch says of them."""
    newest: dict[str, Identity | None] = {}
    pinned = [(run.pin, run) for run in runs if run.pin is not None]
    for pin, run in sorted(pinned, key=lambda one: one[0].position):
        for cluster in (one for stage in run.stages for one in stage.clusters):
            found = Identity(name=cluster.name, uid=cluster.uid, commit=pin.commit, created=run.created)
            newest[cluster.name] = found if cluster.departed_at is None else None
    return tuple(one for _, one in sorted(newest.items()) if one is not None)


def _resources(placements: list[PlacementState], head: Commit) -> Iterator[Declared]:
    """Yield what the newest snapshots hold, by name: should one be in a broken file now, it is missed."""
    texts = {
        text
        for one in placements
        if one.removed_at is None
        for snapshot in one.snapshots[-1:]
        for text in snapshot.objects
    }
    for text in sorted(texts):
        version, kind, path = text.split(" ", 2)
        namespace, _, name = path.rpartition("/")
        key = Key(group=version.rpartition("/")[0], kind=kind, namespace=namespace, name=name)
        yield _declared(key, object_uid(head.sha, key), head, apiVersion=version)


# -- what was derived ----------------------------------------------------------------------------------------------


def _initialization(run: RunStatus) -> Initialization | None:
    if run.pin is not None:
        return Initialization(commit=_commit(run.pin.commit, run.pin.position, run.created), pin=run.pin)
    if run.failure_final:
        commit = _commit(run.commit, run.position, run.created)
        return Initialization(commit=commit, message=run.failure, final=True)
    return None


def _accepted(run: RunStatus) -> Iterator[tuple[Key, str]]:
    """Yield the marks of the approvals that were accepted: none of them counts a second time."""
    for stage in run.stages:
        for gate in stage.gates:
            if gate.approval is not None:
                for name in names_of(run.key.name, stage.name, gate.when):
                    yield replace(run.key, kind=approval_kind(run.key), name=name), canonical(gate.approval.condition)


def recorded_paths(history: History) -> tuple[str, ...]:
    """Return the paths that stand for files of the lost history."""
    tables: list[Mapping[Key, Declared]] = [history.resources, *history.objects.values()]
    return tuple(sorted(one.document.path for table in tables for one in table.values() if "//" in one.document.path))
