"""What the status branch holds, and rendering what a pass changes on it.

The logs are the truth: states are folded from them, every other file is rendered from the states. `clusters.yaml` holds
a digest of all events of its placement.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from reconciler import redact
from reconciler.core import codec, events
from reconciler.core.conditions import (
    PlacedCluster,
    approval_objects,
    cluster_object,
    cluster_status,
    placement_object,
    policy_object,
    run_object,
    snapshot_kind,
    snapshot_name,
    snapshot_object,
)
from reconciler.core.events import Event, PolicyMade, RunArchived, SnapshotMade
from reconciler.core.identity import Identity, child_uid
from reconciler.core.model import Key, Problem
from reconciler.core.status import FORMAT, ClusterFacts, PlacementState, Record, RunStatus
from reconciler.documents import yaml
from reconciler.status_branch import dashboard, layout

_REMEMBERED = 10_000
"""Of how many clusters the text is remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Joint:
    """Which commit a commit follows in the derivation where that is not its first parent.

    `recorded` is the status commit by whose record a rewritten history is read; empty: nothing was rewritten.
    """

    follows: str
    recorded: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """What the status branch is for: written by `init`, changed only by re-anchoring and recorded follows.

    `started_at` is the watched head when the branch was made and `started_after` its position. `follows` maps a
    commit to the commit that it follows in the derivation, where that is not its first parent; `acknowledged` maps
    those of them that begin a rewritten history to the status commit that says what was recorded by then.
    """

    format: int
    repository: str
    epoch: int
    branch: str
    started_at: str
    started_after: int
    follows: Mapping[str, str] = field(default_factory=dict)
    acknowledged: Mapping[str, str] = field(default_factory=dict)

    def succeeds(self, former: "Fleet") -> bool:
        """Whether this branch was made in place of a lost one: of the same repository, in a later epoch."""
        return self.repository == former.repository and self.epoch > former.epoch

    @property
    def joints(self) -> Mapping[str, Joint]:
        """Both of these together, by the commit that follows."""
        return {new: Joint(follows=old, recorded=self.acknowledged.get(new, "")) for new, old in self.follows.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The status branch at one commit.

    `digests` are those of the events of each placement; `damaged` is what a person changed in files that are merely
    rendered, as it should be. `members` are who the member clusters are at the observed head; None: it is not said.
    """

    commit: str
    fleet: Fleet
    observed: str
    time: str
    placements: Mapping[Key, PlacementState]
    files: Mapping[str, bytes]
    members: tuple[Identity, ...] | None = None
    digests: Mapping[Key, str] = field(default_factory=dict)
    tampered: Mapping[Key, str] = field(default_factory=dict)
    damaged: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def logs(self) -> Mapping[str, bytes]:
        """The event files as they are, by path."""
        return logs_of(self.files)

    @property
    def runs(self) -> tuple[RunStatus, ...]:
        """The runs of all placements."""
        return tuple(run for state in self.placements.values() for run in state.runs.values())

    @property
    def is_outdated(self) -> bool:
        """Whether it was written in an older format: its files say the same in other words."""
        return self.fleet.format < FORMAT


# -- rendering ----------------------------------------------------------------------------------------------------


def render_run(run: RunStatus) -> bytes:
    """Return `run.yaml`: the full object with its status."""
    return _yaml(run_object(run, _written_cluster))


def _yaml(value: Any) -> bytes:
    return yaml.dump(redact.body(value)).encode()


def log_line(event: Event) -> bytes:
    """Return the line of the log that an event is."""
    return json.dumps(redact.body(events.encode(event)), separators=(",", ":"), ensure_ascii=True).encode() + b"\n"


def initial_files(fleet: Fleet) -> dict[str, bytes]:
    """Return the first files of a new branch."""
    return {
        layout.FLEET: _yaml(codec.encode(fleet)),
        layout.PROBLEMS: render_problems(()),
        layout.README: dashboard.render(fleet.branch, {}, (), {}),
    }


def extended(digest: str, lines: Iterable[bytes]) -> str:
    """Return the digest of a log that goes on with these lines."""
    for text in lines:
        digest = hashlib.sha256(digest.encode() + text).hexdigest()
    return digest


def render_problems(problems: Iterable[Problem]) -> bytes:
    """Return `problems.yaml`: every problem at the observed head, by file and line."""
    return _yaml({"problems": [codec.encode(one) for one in problems]})


@lru_cache(maxsize=2)
def render_members(members: tuple[Identity, ...]) -> bytes:
    """Return `members.jsonl`: who each member cluster is at the observed head, for after a rewrite of its history."""
    return b"".join(json.dumps(codec.encode(one)).encode() + b"\n" for one in members)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """What a pass changes: files by path (None: removed), and the digests of all placements after it."""

    files: Mapping[str, bytes | None]
    digests: Mapping[Key, str]
    members: tuple[Identity, ...] | None


def changed(
    status: Status,
    *,
    states: Mapping[Key, PlacementState],
    happened: Mapping[Key, tuple[Event, ...]],
    problems: tuple[Problem, ...],
    waiting: dashboard.WaitingByPlacement,
    fleet: Fleet,
    members: tuple[Identity, ...] | None = None,
) -> Changed:
    """Return what a pass changes: logs grow, everything else is rendered anew where it may differ."""
    files: dict[str, bytes | None] = {**status.damaged, **dict(_left(status, states, happened))}
    digests = dict(status.digests)
    for key, new in happened.items():
        if new:
            lines = [log_line(event) for event in new]
            digests[key] = extended(digests.get(key, ""), lines)
            files |= _logs(status, states[key], zip(new, lines, strict=True))
            files |= dict(_objects(states[key], new, digests[key]))
    files[layout.PROBLEMS] = render_problems(problems)
    files[layout.README] = dashboard.render(fleet.branch, states, problems, waiting)
    files[layout.FLEET] = _yaml(codec.encode(fleet))
    members = status.members if members is None else members
    if members is not None:
        files[layout.MEMBERS] = render_members(members)
    return Changed(
        files={path: data for path, data in files.items() if status.files.get(path) != data},
        digests=digests,
        members=members,
    )


def _left(
    status: Status, states: Mapping[Key, PlacementState], happened: Mapping[Key, tuple[Event, ...]]
) -> Iterator[tuple[str, bytes | None]]:
    """Yield the files of archived runs, to be removed; a request's file is that of another run of the name, if any."""
    gone = [
        status.placements[key].runs[event.uid]
        for key, new in happened.items()
        for event in new
        if isinstance(event, RunArchived)
    ]
    for run in gone:
        yield from ((f"{layout.run_folder(run)}/{file}", None) for file in (layout.EVENTS, layout.RUN))
        yield from ((path, None) for path, _ in _requests(run))
    names = {run.key for run in gone}
    for state in states.values() if names else ():
        for other in (one for one in state.runs.values() if one.key in names):
            yield from _approvals(state, other)


def _logs(status: Status, state: PlacementState, new: Iterable[tuple[Event, bytes]]) -> dict[str, bytes]:
    grown: dict[str, bytes] = {}
    for event, text in new:
        folder = layout.run_folder(state.runs[event.run]) if event.run else layout.placement_folder(state.key)
        path = f"{folder}/{layout.EVENTS}"
        grown[path] = grown.get(path, status.files.get(path, b"")) + text
    return grown


def _objects(state: PlacementState, new: tuple[Event, ...], digest: str) -> Iterator[tuple[str, bytes]]:
    for uid in {event.run for event in new if event.run}:
        run = state.runs[uid]
        yield f"{layout.run_folder(run)}/{layout.RUN}", render_run(run)
        yield from _approvals(state, run)
    yield f"{layout.placement_folder(state.key)}/clusters.yaml", render_clusters(state, digest)
    yield from _placement(state)
    if any(isinstance(event, SnapshotMade | PolicyMade) for event in new):
        yield from _snapshots(state)


def _approvals(state: PlacementState, run: RunStatus) -> Iterator[tuple[str, bytes]]:
    if _is_newest(state, run):
        yield from _requests(run)


def _requests(run: RunStatus) -> Iterator[tuple[str, bytes]]:
    for request in approval_objects(run):
        yield layout.approval_file(run.key.namespace, request["metadata"]["name"]), _yaml(request)


def _placement(state: PlacementState) -> Iterator[tuple[str, bytes]]:
    if state.uid:
        yield f"{layout.placement_folder(state.key)}/placement.yaml", _yaml(placement_object(state, _written_status))


def _is_newest(state: PlacementState, run: RunStatus) -> bool:
    """Tell whether the run is the last of its name: a request file belongs to that one."""
    return all(one.key != run.key or one.position <= run.position for one in state.runs.values())


def render_clusters(state: PlacementState, digest: str) -> bytes:
    """Return `clusters.yaml`: one record per cluster, the last number drawn, and the digest of all events."""
    records = {name: _written_record(record) for name, record in sorted(state.records.items())}
    return _yaml({"seq": state.seq, "events": digest, "clusters": records})


# From one pass to the next nearly all clusters are the same: only what changed is written anew.


@lru_cache(maxsize=_REMEMBERED)
def _written_record(record: Record) -> yaml.Written:
    return yaml.Written(redact.body(codec.encode(record)))


@lru_cache(maxsize=_REMEMBERED)
def _written_cluster(cluster: ClusterFacts, generation: int) -> yaml.Written:
    return yaml.Written(redact.body(cluster_object(cluster, generation)))


@lru_cache(maxsize=_REMEMBERED)
def _written_status(placed: PlacedCluster) -> yaml.Written:
    return yaml.Written(redact.body(cluster_status(placed)))


def _snapshots(state: PlacementState) -> Iterator[tuple[str, bytes]]:
    namespace = state.key.namespace
    for snapshot in state.snapshots:
        name = snapshot_name(state, snapshot.index)
        uid = child_uid(state.uid, snapshot_kind(state), name)
        yield layout.snapshot_file(namespace, name), _yaml(snapshot_object(state, snapshot, uid))
    for policy in state.policies:
        name = f"{state.key.name}-{policy.index}"
        body = policy_object(state, policy, child_uid(state.uid, "SchedulingPolicySnapshot", name))
        yield layout.snapshot_file(namespace, name), _yaml(body)


def after(
    status: Status,
    *,
    commit: str,
    observed: str,
    time: str,
    states: Mapping[Key, PlacementState],
    changed: Changed,
    fleet: Fleet,
) -> Status:
    """Return the status as it is once the files are on the branch, without reading them back."""
    return replace(
        status,
        commit=commit,
        fleet=fleet,
        observed=observed,
        time=time,
        placements=states,
        files=with_changes(status.files, changed.files),
        digests=changed.digests,
        members=changed.members,
        damaged={},
    )


def kept(status: Status) -> Status:
    """Return what is worth keeping for another process: all but the files, which the branch itself keeps."""
    return replace(status, files={})


def logs_of(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return those of the files that hold events."""
    return {path: data for path, data in files.items() if layout.is_log(path)}


def with_changes(files: Mapping[str, bytes], changed: Mapping[str, bytes | None]) -> dict[str, bytes]:
    """Return the files as they are after a change; None removes one."""
    return {path: data for path, data in {**files, **changed}.items() if data is not None}


# -- what is not as it was rendered ---------------------------------------------------------------------------------


def with_damage(status: Status) -> Status:
    """Return the status with what somebody changed in files that are merely rendered; for whoever writes them."""
    rendered: dict[str, list[bytes]] = {}
    for key, state in status.placements.items():
        for path, data in _rendered(state) if key not in status.tampered else ():
            rendered.setdefault(path, []).append(data)
    # two runs that had the same name one after the other ask for approvals in the same file
    damaged = {path: texts[-1] for path, texts in rendered.items() if status.files.get(path) not in texts}
    return replace(status, damaged=damaged)


def rendered_anew(status: Status) -> tuple[dict[str, bytes], Fleet]:
    """Return every file of the placements in the present format, and what the branch is for in it."""
    fleet = replace(status.fleet, format=FORMAT)
    files = {layout.FLEET: _yaml(codec.encode(fleet))}
    for key, state in status.placements.items():
        files |= {**dict(judged(state, status.digests[key])), **dict(_rendered(state))}
    return {path: data for path, data in files.items() if status.files.get(path) != data}, fleet


def judged(state: PlacementState, digest: str, folders: Collection[str] | None = None) -> Iterator[tuple[str, bytes]]:
    """Yield the files that must be what the events say; of the runs those in these folders (None: of all)."""
    for run in state.runs.values():
        folder = layout.run_folder(run)
        if folders is None or folder in folders:
            yield f"{folder}/{layout.RUN}", render_run(run)
    yield f"{layout.placement_folder(state.key)}/clusters.yaml", render_clusters(state, digest)


def _rendered(state: PlacementState) -> Iterator[tuple[str, bytes]]:
    """Yield the files that nothing is read from."""
    for run in state.runs.values():
        yield from _approvals(state, run)
    yield from _placement(state)
    yield from _snapshots(state)
