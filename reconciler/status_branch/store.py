"""Reading the status branch back, and rendering what a pass changes on it.

The logs are the truth: states are folded from them, every other file is rendered from the states. `clusters.yaml` holds
a digest of all events of its placement, so that an edited event shows wherever its facts do. What is not the fold of
its log (`run.yaml`, `clusters.yaml`) was touched by somebody, and the placement is held; other damage is written over.
"""

import hashlib
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

    def succeeds(self, former: "Fleet") -> bool:
        """Whether this branch was made in place of a lost one: of the same repository, in a later epoch."""
        return self.repository == former.repository and self.epoch > former.epoch

    @property
    def joints(self) -> Mapping[str, Joint]:
        """Both of these together, by the commit that follows."""
        return {new: Joint(follows=old, recorded=self.acknowledged.get(new, "")) for new, old in self.follows.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The status branch at one commit. `logs` are the event files as they are, by path.

    `digests` are those of the events of each placement; `damaged` is what a person changed in files that are merely
    rendered, as it should be.
    """

    commit: str
    fleet: Fleet
    observed: str
    time: str
    placements: Mapping[Key, PlacementState]
    logs: Mapping[str, bytes]
    files: Mapping[str, bytes]
    digests: Mapping[Key, str] = field(default_factory=dict)
    tampered: Mapping[Key, str] = field(default_factory=dict)
    damaged: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def is_outdated(self) -> bool:
        """Whether it was written in an older format: its files say the same in other words."""
        return self.fleet.format < FORMAT


class StatusUnreadableError(TemporaryError):
    """The branch is there but is not one of ours, or of a newer format; nothing is touched."""


class NewerFormatError(StatusUnreadableError):
    """A newer version wrote the branch: it is sound, and only read."""


# -- reading ----------------------------------------------------------------------------------------------------


def read(git: Git, commit: str) -> Status:
    """Read the whole branch at a commit and fold its logs; an older format is not judged.

    Raises:  StatusUnreadableError for a branch without `fleet.yaml` or of a newer format; GitError.
    """
    listing = {change.path: change.blob or "" for change in history.listing(git, commit)}
    ours, observed, time = _newest_of_ours(git, commit)
    fleet_blob = listing.get(layout.FLEET) if ours in ("", commit) else _fleet_blob(git, ours)
    blobs = history.read_blobs(git, [*listing.values(), *([fleet_blob] if fleet_blob else [])])
    fleet = _fleet(commit, ours, blobs.get(fleet_blob or ""))
    files = {path: blobs[blob] for path, blob in listing.items()}
    logs = {path: data for path, data in files.items() if path.endswith("/" + layout.EVENTS)}
    states, digests, tampered = _states(logs)
    tampered |= _set_back(git, commit, logs)
    if fleet.format == FORMAT:
        tampered |= _touched(states, digests, files)
    return Status(
        commit=commit,
        fleet=fleet,
        observed=observed,
        time=time,
        placements=states,
        logs=logs,
        files=files,
        digests=digests,
        tampered=tampered,
    )


def read_fleet(git: Git, commit: str) -> Fleet:
    """Read what the branch is for, from the newest commit of ours; raises as `read`."""
    ours, _, _ = _newest_of_ours(git, commit)
    blob = _fleet_blob(git, ours or commit)
    return _fleet(commit, ours, history.read_blobs(git, [blob])[blob] if blob else None)


def _fleet_blob(git: Git, commit: str) -> str | None:
    return next((one.blob for one in history.listing(git, commit, layout.FLEET)), None)


def _fleet(commit: str, ours: str, data: bytes | None) -> Fleet:
    """Read `fleet.yaml`; `ours` is the commit that it is of, empty when the branch has none of ours."""
    if data is None:
        raise StatusUnreadableError(f"the status branch at {commit[:7]} has no {layout.FLEET}: not one of ours")
    read_back = yaml.read(layout.FLEET, data)
    if read_back.problems or len(read_back.documents) != 1:
        raise StatusUnreadableError(f"{layout.FLEET} of the status branch at {commit[:7]} cannot be read")
    try:
        fleet = codec.decode(Fleet, read_back.documents[0].value)
    except ValueError as error:
        raise StatusUnreadableError(f"{layout.FLEET} of the status branch at {commit[:7]}: {error}") from error
    if fleet.format > FORMAT:
        raise NewerFormatError(
            f"the status branch has format {fleet.format}, this version writes {FORMAT}: read-only until it is upgraded"
        )
    if not ours:
        raise StatusUnreadableError(f"the status branch at {commit[:7]} records no observed commit: not one of ours")
    return fleet


def _newest_of_ours(git: Git, commit: str) -> tuple[str, str, str]:
    """Return the newest commit that records a head, that head, and its time; people's commits record none."""
    form = "--format=%H%n%(trailers:key=Observed-Commit,valueonly,separator=%x20)%n%cI"
    found = git.run("log", "-1", "--first-parent", "--grep=^Observed-Commit: ", form, commit, "--")
    lines = found.decode(errors="replace").splitlines() or ["", "", ""]
    return lines[0], lines[1].strip(), lines[2].strip()


ANY = Key(group="", kind="*", name="*")
"""Stands for every placement, where damage cannot be told to belong to one."""


def _states(logs: Mapping[str, bytes]) -> tuple[dict[Key, PlacementState], dict[Key, str], dict[Key, str]]:
    """Merge the logs of each placement by number, and fold them; return states, digests, and what is damaged.

    A placement whose logs are damaged has no state.
    """
    merged: dict[Key, list[tuple[Event, bytes]]] = {}
    broken: dict[Key, str] = {}
    for path, data in sorted(logs.items()):
        key = ANY
        try:
            key = _owner(path, data)
            merged.setdefault(key, []).extend(zip(log_events(data), data.splitlines(keepends=True), strict=True))
        except Exception as error:  # noqa: BLE001 - a log that somebody edited may say anything
            broken[key] = f"StatusTampered: {path}: {error!r}"
    states, digests = {}, {}
    for key, found in merged.items():
        try:
            found.sort(key=lambda one: one[0].seq)
            _check_numbers([event for event, _ in found])
            states[key] = fold(key, [event for event, _ in found])
            digests[key] = _extended("", [text for _, text in found])
        except IllegalTransition as error:
            broken.setdefault(key, f"StatusTampered: the log of {key} does not fold: {error}")
    return {key: state for key, state in states.items() if key not in broken}, digests, broken


def _extended(digest: str, lines: Iterable[bytes]) -> str:
    """Return the digest of a log that goes on with these lines."""
    for text in lines:
        digest = hashlib.sha256(digest.encode() + text).hexdigest()
    return digest


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


def _set_back(git: Git, tip: str, logs: Mapping[str, bytes]) -> dict[Key, str]:
    """Find logs of which a commit of somebody else changed what was there, however well the rest folds."""
    found: dict[Key, str] = {}
    for commit, before in _foreign(git, tip):
        changed = [one.path for one in history.diff(git, before, commit) if one.path.endswith("/" + layout.EVENTS)]
        blobs = {one.path: one.blob or "" for one in history.listing(git, before) if one.path in changed}
        held = history.read_blobs(git, blobs.values())
        for path, blob in blobs.items():
            if not logs.get(path, b"").startswith(held[blob]):
                why = f"{path} was changed by commit {commit[:7]}, not by the daemon; take that back on the branch"
                found.setdefault(_owner_or_any(path, held[blob]), f"StatusTampered: {why}")
    return found


def _foreign(git: Git, tip: str) -> list[tuple[str, str]]:
    """Return the commits that are not ours, each with its first parent."""
    ours = ("--invert-grep", "--grep=^Observed-Commit: ")
    rows = git.run("log", "--first-parent", *ours, "--format=%H %P", tip, "--").decode("ascii").splitlines()
    return [(words[0], words[1]) for words in map(str.split, rows) if len(words) > 1]


def _owner_or_any(path: str, data: bytes) -> Key:
    try:
        return _owner(path, data)
    except Exception:  # noqa: BLE001 - a log that somebody edited may say anything
        return ANY


def _touched(
    states: Mapping[Key, PlacementState], digests: Mapping[Key, str], files: Mapping[str, bytes]
) -> dict[Key, str]:
    """Find placements whose stored status is not the fold of their log."""
    found = {}
    for key, state in states.items():
        try:
            differing = [path for path, data in _judged(state, digests[key]) if files.get(path) != data]
        except Exception as error:  # noqa: BLE001 - what somebody edited may fold to what cannot even be written
            found[key] = f"StatusTampered: the log of {key} says what cannot be: {error!r}"
            continue
        if differing:
            found[key] = (
                f"StatusTampered: {differing[0]} is not what the events say, or one of them was edited; restore it "
                "from the branch's history"
            )
    return found


def _judged(state: PlacementState, digest: str) -> Iterator[tuple[str, bytes]]:
    """Yield the files that must be what the events say."""
    for run in state.runs.values():
        yield f"{layout.run_folder(run)}/run.yaml", render_run(run)
    yield f"{layout.placement_folder(state.key)}/clusters.yaml", render_clusters(state, digest)


def with_damage(status: Status) -> Status:
    """Return the status with what somebody changed in files that are merely rendered; for whoever writes them."""
    rendered: dict[str, list[bytes]] = {}
    for key, state in status.placements.items():
        for path, data in _rendered(state) if key not in status.tampered else ():
            rendered.setdefault(path, []).append(data)
    # two runs that had the same name one after the other ask for approvals in the same file
    damaged = {path: texts[-1] for path, texts in rendered.items() if status.files.get(path) not in texts}
    return replace(status, damaged=damaged)


def _rendered(state: PlacementState) -> Iterator[tuple[str, bytes]]:
    """Yield the files that nothing is read from."""
    for run in state.runs.values():
        yield from _approvals(state, run)
    yield from _placement(state)
    yield from _snapshots(state)


def same_facts(one: bytes, other: bytes) -> bool:
    """Tell whether two texts of `run.yaml` say the same facts, in whatever words: identity, spec, stages and times."""
    return bool(_facts(one) == _facts(other))


def _facts(data: bytes) -> Any:
    found = yaml.read("run.yaml", data)
    if found.problems or len(found.documents) != 1:
        return data
    body = found.documents[0].value
    stages = (body.get("status") or {}).get("stagesStatus") or ()
    return body.get("metadata"), body.get("spec"), [_stage_facts(one) for one in stages]


def _stage_facts(stage: Any) -> Any:
    clusters = [one.get("clusterName") for one in stage.get("clusters") or ()]
    return stage.get("stageName"), stage.get("startTime"), stage.get("endTime"), clusters


def rendered_anew(status: Status) -> tuple[dict[str, bytes], Fleet]:
    """Return every file of the placements in the present format, and what the branch is for in it."""
    fleet = replace(status.fleet, format=FORMAT)
    files = {layout.FLEET: _yaml(codec.encode(fleet))}
    for key, state in status.placements.items():
        files |= {**dict(_judged(state, status.digests[key])), **dict(_rendered(state))}
    return {path: data for path, data in files.items() if status.files.get(path) != data}, fleet


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """What a pass changes: files by path, and the digests of all placements after it."""

    files: Mapping[str, bytes]
    digests: Mapping[Key, str]


def changed(
    status: Status,
    *,
    states: Mapping[Key, PlacementState],
    happened: Mapping[Key, tuple[Event, ...]],
    problems: tuple[Problem, ...],
    waiting: dashboard.WaitingByPlacement,
    fleet: Fleet,
) -> Changed:
    """Return what a pass changes: logs grow, everything else is rendered anew where it may differ."""
    files: dict[str, bytes] = dict(status.damaged)
    digests = dict(status.digests)
    for key, new in happened.items():
        if new:
            lines = [_line(event) for event in new]
            digests[key] = _extended(digests.get(key, ""), lines)
            files |= _logs(status, states[key], zip(new, lines, strict=True))
            files |= dict(_objects(states[key], new, digests[key]))
    files[layout.PROBLEMS] = render_problems(problems)
    files[layout.README] = dashboard.render(fleet.branch, states, problems, waiting)
    files[layout.FLEET] = _yaml(codec.encode(fleet))
    return Changed(
        files={path: data for path, data in files.items() if status.files.get(path) != data}, digests=digests
    )


def _logs(status: Status, state: PlacementState, new: Iterable[tuple[Event, bytes]]) -> dict[str, bytes]:
    grown: dict[str, bytes] = {}
    for event, text in new:
        folder = layout.run_folder(state.runs[event.run]) if event.run else layout.placement_folder(state.key)
        path = f"{folder}/{layout.EVENTS}"
        grown[path] = grown.get(path, status.logs.get(path, b"")) + text
    return grown


def _objects(state: PlacementState, new: tuple[Event, ...], digest: str) -> Iterator[tuple[str, bytes]]:
    for uid in {event.run for event in new if event.run}:
        run = state.runs[uid]
        yield f"{layout.run_folder(run)}/run.yaml", render_run(run)
        yield from _approvals(state, run)
    yield f"{layout.placement_folder(state.key)}/clusters.yaml", render_clusters(state, digest)
    yield from _placement(state)
    if any(isinstance(event, SnapshotMade | PolicyMade) for event in new):
        yield from _snapshots(state)


def _approvals(state: PlacementState, run: RunStatus) -> Iterator[tuple[str, bytes]]:
    for request in approval_objects(run) if _is_newest(state, run) else ():
        yield layout.approval_file(run.key.namespace, request["metadata"]["name"]), _yaml(request)


def _placement(state: PlacementState) -> Iterator[tuple[str, bytes]]:
    if state.uid:
        yield f"{layout.placement_folder(state.key)}/placement.yaml", _yaml(placement_object(state))


def _is_newest(state: PlacementState, run: RunStatus) -> bool:
    """Tell whether the run is the last of its name: a request file belongs to that one."""
    return all(one.key != run.key or one.position <= run.position for one in state.runs.values())


def render_clusters(state: PlacementState, digest: str) -> bytes:
    """Return `clusters.yaml`: one record per cluster, the last number drawn, and the digest of all events."""
    records = {name: _encoded(record) for name, record in sorted(state.records.items())}
    return _yaml({"seq": state.seq, "events": digest, "clusters": records})


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
    changed: Changed,
    fleet: Fleet,
) -> Status:
    """Return the status as it is once the files are on the branch, without reading them back."""
    logs = {path: data for path, data in changed.files.items() if path.endswith("/" + layout.EVENTS)}
    return replace(
        status,
        commit=commit,
        fleet=fleet,
        observed=observed,
        time=time,
        placements=states,
        logs={**status.logs, **logs},
        files={**status.files, **changed.files},
        digests=changed.digests,
        damaged={},
    )
