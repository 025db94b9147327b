"""Reading the status branch back, and rendering what a pass changes on it.

The logs are the truth: states are folded from them, every other file is rendered from the states. A run whose
`run.yaml` is not the fold of its log was touched by somebody, and is held.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from reconciler import redact
from reconciler.core import codec, events
from reconciler.core.conditions import (
    approval_objects,
    placement_object,
    policy_object,
    run_object,
    snapshot_kind,
    snapshot_name,
    snapshot_object,
)
from reconciler.core.events import Event, PolicyMade, SnapshotMade
from reconciler.core.fold import IllegalTransition, fold
from reconciler.core.identity import child_uid
from reconciler.core.model import Key, Problem
from reconciler.core.status import FORMAT, PlacementState, Record, RunStatus
from reconciler.documents import yaml
from reconciler.errors import TemporaryError
from reconciler.git import history
from reconciler.git.run import Git
from reconciler.status_branch import dashboard, layout


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

    @property
    def joints(self) -> Mapping[str, Joint]:
        """Both of these together, by the commit that follows."""
        return {new: Joint(follows=old, recorded=self.acknowledged.get(new, "")) for new, old in self.follows.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The status branch at one commit. `logs` are the event files as they are, by path."""

    commit: str
    fleet: Fleet
    observed: str
    time: str
    placements: Mapping[Key, PlacementState]
    logs: Mapping[str, bytes]
    files: Mapping[str, bytes]
    tampered: Mapping[Key, str] = field(default_factory=dict)


class StatusUnreadableError(TemporaryError):
    """The branch is there but is not one of ours, or of a newer format; nothing is touched."""


# -- reading ----------------------------------------------------------------------------------------------------


def read(git: Git, commit: str) -> Status:
    """Read the whole branch at a commit and fold its logs.

    Raises:  StatusUnreadableError for a branch without `fleet.yaml` or of a newer format; GitError.
    """
    listing = {change.path: change.blob or "" for change in history.listing(git, commit)}
    if layout.FLEET not in listing:
        raise StatusUnreadableError(f"the status branch at {commit[:7]} has no {layout.FLEET}: not one of ours")
    blobs = history.read_blobs(git, listing.values())
    files = {path: blobs[blob] for path, blob in listing.items()}
    fleet = _fleet(commit, files[layout.FLEET])
    observed, time = _trailer(git, commit)
    logs = {path: data for path, data in files.items() if path.endswith("/" + layout.EVENTS)}
    states, tampered = _states(logs)
    tampered |= _touched(states, files)
    return Status(
        commit=commit,
        fleet=fleet,
        observed=observed,
        time=time,
        placements=states,
        logs=logs,
        files=files,
        tampered=tampered,
    )


def _fleet(commit: str, data: bytes) -> Fleet:
    read_back = yaml.read(layout.FLEET, data)
    if read_back.problems or len(read_back.documents) != 1:
        raise StatusUnreadableError(f"{layout.FLEET} of the status branch at {commit[:7]} cannot be read")
    try:
        fleet = codec.decode(Fleet, read_back.documents[0].value)
    except ValueError as error:
        raise StatusUnreadableError(f"{layout.FLEET} of the status branch at {commit[:7]}: {error}") from error
    if fleet.format > FORMAT:
        raise StatusUnreadableError(
            f"the status branch has format {fleet.format}, this version writes {FORMAT}: read-only until it is upgraded"
        )
    return fleet


def _trailer(git: Git, commit: str) -> tuple[str, str]:
    """Return the recorded head and the time of the newest commit that records one; people's commits do not."""
    form = "--format=%(trailers:key=Observed-Commit,valueonly,separator=%x20)%n%cI"
    found = git.run("log", "-1", "--first-parent", "--grep=^Observed-Commit: ", form, commit, "--")
    lines = found.decode(errors="replace").splitlines()
    if not lines or not lines[0].strip():
        raise StatusUnreadableError(f"the status branch at {commit[:7]} records no observed commit: not one of ours")
    return lines[0].strip(), lines[1].strip()


ANY = Key(group="", kind="*", name="*")
"""Stands for every placement, where damage cannot be told to belong to one."""


def _states(logs: Mapping[str, bytes]) -> tuple[dict[Key, PlacementState], dict[Key, str]]:
    """Merge the logs of each placement by number, and fold them; a placement whose logs are damaged has no state."""
    merged: dict[Key, list[Event]] = {}
    broken: dict[Key, str] = {}
    for path, data in sorted(logs.items()):
        key = ANY
        try:
            key = _owner(path, data)
            merged.setdefault(key, []).extend(log_events(data))
        except Exception as error:  # noqa: BLE001 - a log that somebody edited may say anything
            broken[key] = f"StatusTampered: {path}: {error!r}"
    states = {}
    for key, found in merged.items():
        try:
            _check_numbers(found)
            states[key] = fold(key, found)
        except IllegalTransition as error:
            broken.setdefault(key, f"StatusTampered: the log of {key} does not fold: {error}")
    return {key: state for key, state in states.items() if key not in broken}, broken


def _check_numbers(found: list[Event]) -> None:
    """Refuse a log with a hole: a file of it was removed, and what it said must not happen a second time."""
    numbers = sorted(event.seq for event in found)
    if numbers != list(range(1, len(numbers) + 1)):
        missing = sorted(set(range(1, numbers[-1] + 1)) - set(numbers))
        raise IllegalTransition(f"events {missing[:5]} are missing, or some are there twice")


def _owner(path: str, data: bytes) -> Key:
    """Return the placement that a log belongs to; `ANY` when a run's log does not say it."""
    if path.startswith("placements/"):
        return layout.placement_key(path)
    first = events.decode(json.loads(data.split(b"\n", 1)[0]))
    return placement_of(first.key, first.spec["placementName"]) if isinstance(first, events.RunSeen) else ANY


def placement_of(run: Key, name: str) -> Key:
    """Return the key of the placement that a run names."""
    kind = "ResourcePlacement" if run.namespace else "ClusterResourcePlacement"
    return Key(group=run.group, kind=kind, namespace=run.namespace, name=name)


def _touched(states: Mapping[Key, PlacementState], files: Mapping[str, bytes]) -> dict[Key, str]:
    """Find placements and runs whose stored status is not the fold of their log."""
    found = {}
    for key, state in states.items():
        try:
            differing = [path for path, data in _stored(key, state) if files.get(path) != data]
        except Exception as error:  # noqa: BLE001 - what somebody edited may fold to what cannot even be written
            found[key] = f"StatusTampered: the log of {key} says what cannot be: {error!r}"
            continue
        if differing:
            found[key] = (
                f"StatusTampered: {differing[0]} is not what the events say; restore it from the branch's history"
            )
    return found


def _stored(key: Key, state: PlacementState) -> Iterator[tuple[str, bytes]]:
    """Yield the files that must be what the events say."""
    for run in state.runs.values():
        yield f"{layout.run_folder(run)}/run.yaml", render_run(run)
    yield f"{layout.placement_folder(key)}/clusters.yaml", render_clusters(state)


def log_events(data: bytes) -> list[Event]:
    """Read one log; raises ValueError for a line that is no event."""
    return [events.decode(json.loads(line)) for line in data.splitlines()]


# -- rendering ----------------------------------------------------------------------------------------------------


def render_run(run: RunStatus) -> bytes:
    """Return `run.yaml`: the full object with its status."""
    return _yaml(run_object(run))


def _yaml(value: Any) -> bytes:
    return redact.text(yaml.dump(redact.body(value))).encode()


def _line(event: Event) -> bytes:
    text = json.dumps(events.encode(event), separators=(",", ":"), ensure_ascii=True)
    return redact.text(text).encode() + b"\n"


def initial_files(fleet: Fleet) -> dict[str, bytes]:
    """Return the first files of a new branch."""
    return {
        layout.FLEET: _yaml(codec.encode(fleet)),
        layout.PROBLEMS: render_problems(()),
        layout.README: dashboard.render(fleet.branch, {}, (), {}),
    }


def render_problems(problems: Iterable[Problem]) -> bytes:
    """Return `problems.yaml`: every problem at the observed head, by file and line."""
    return _yaml({"problems": [codec.encode(one) for one in problems]})


def changed_files(
    status: Status,
    *,
    states: Mapping[Key, PlacementState],
    happened: Mapping[Key, tuple[Event, ...]],
    problems: tuple[Problem, ...],
    waiting: dashboard.WaitingByPlacement,
    fleet: Fleet,
) -> dict[str, bytes]:
    """Return the files that a pass changes: logs grow, everything else is rendered anew where it may differ."""
    files: dict[str, bytes] = {}
    for key, new in happened.items():
        if new:
            files |= _logs(status, states[key], new)
            files |= dict(_objects(states[key], new))
    files[layout.PROBLEMS] = render_problems(problems)
    files[layout.README] = dashboard.render(fleet.branch, states, problems, waiting)
    files[layout.FLEET] = _yaml(codec.encode(fleet))
    return {path: data for path, data in files.items() if status.files.get(path) != data}


def _logs(status: Status, state: PlacementState, new: tuple[Event, ...]) -> dict[str, bytes]:
    grown: dict[str, bytes] = {}
    for event in new:
        folder = layout.run_folder(state.runs[event.run]) if event.run else layout.placement_folder(state.key)
        path = f"{folder}/{layout.EVENTS}"
        grown[path] = grown.get(path, status.logs.get(path, b"")) + _line(event)
    return grown


def _objects(state: PlacementState, new: tuple[Event, ...]) -> Iterator[tuple[str, bytes]]:
    for uid in {event.run for event in new if event.run}:
        run = state.runs[uid]
        yield f"{layout.run_folder(run)}/run.yaml", render_run(run)
        for request in approval_objects(run) if _is_newest(state, run) else ():
            yield layout.approval_file(run.key.namespace, request["metadata"]["name"]), _yaml(request)
    folder = layout.placement_folder(state.key)
    yield f"{folder}/clusters.yaml", render_clusters(state)
    if state.uid:
        yield f"{folder}/placement.yaml", _yaml(placement_object(state))
    if any(isinstance(event, SnapshotMade | PolicyMade) for event in new):
        yield from _snapshots(state)


def _is_newest(state: PlacementState, run: RunStatus) -> bool:
    """Tell whether the run is the last of its name: a request file belongs to that one."""
    return all(one.key != run.key or one.position <= run.position for one in state.runs.values())


def render_clusters(state: PlacementState) -> bytes:
    """Return `clusters.yaml`: one record per cluster, and the last number drawn."""
    records = {name: _encoded(record) for name, record in sorted(state.records.items())}
    return _yaml({"seq": state.seq, "clusters": records})


@lru_cache(maxsize=10_000)
def _encoded(record: Record) -> Any:
    """Return a record as it is written; from one pass to the next nearly all of them are the same."""
    return codec.encode(record)


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
    files: Mapping[str, bytes],
    fleet: Fleet,
) -> Status:
    """Return the status as it is once the files are on the branch, without reading them back."""
    merged = {**status.files, **files}
    logs = status.logs | {path: data for path, data in files.items() if path.endswith("/" + layout.EVENTS)}  # type: ignore[operator]
    return replace(
        status,
        commit=commit,
        fleet=fleet,
        observed=observed,
        time=time,
        placements=states,
        logs=logs,
        files=merged,
    )
