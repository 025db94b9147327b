"""Reading the status branch back: the logs are folded, and what somebody else changed is found.

The digest in `clusters.yaml` shows an edited event wherever its facts do. What is not the fold of its log (`run.yaml`,
`clusters.yaml`) was touched by somebody, and the placement is held; other damage is written over. Reading goes on from
what is known where only we wrote since; the log of an archived run is in the history of the branch.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from functools import reduce
from typing import Any

from reconciler.core import codec, events
from reconciler.core.events import Event
from reconciler.core.fold import IllegalTransition, apply, apply_to_placement, fold
from reconciler.core.identity import Identity
from reconciler.core.model import Key, placement_of
from reconciler.core.status import FORMAT, PlacementState, RunStatus
from reconciler.documents import yaml
from reconciler.errors import TemporaryError
from reconciler.git import history
from reconciler.git.run import Git
from reconciler.status_branch import layout, store
from reconciler.status_branch.store import Fleet, Status

ANY = Key(group="", kind="*", name="*")
"""Stands for every placement, where damage cannot be told to belong to one."""

_OURS = "^Observed-Commit: "
"""What the messages of our commits say, and those of other people do not."""

_ARCHIVED = re.compile(rb'"event":"RunArchived",[^\n]*"uid":"([0-9a-f-]+)"')

Line = tuple[Event, bytes]
"""An event, and the line of the log that it is."""


class StatusUnreadableError(TemporaryError):
    """The branch is there but is not one of ours, or of a newer format; nothing is touched."""


class MemoryDamagedError(TemporaryError):
    """What is held in memory of a log is not what the branch holds; the branch is right, and is read anew."""


class NewerFormatError(StatusUnreadableError):
    """A newer version wrote the branch: it is sound, and only read."""


def read(git: Git, commit: str, known: Status | None = None, *, repairing: bool = False) -> Status:
    """Read the branch at a commit, on from what is known where that leads there; an older format is not judged.

    Shape:   the same whatever is known; `damaged` is looked for when `repairing`.
    Raises:  StatusUnreadableError for a branch without `fleet.yaml` or of a newer format; GitError.
    """
    if known is not None and known.commit == commit:
        return known
    status = _read_on(git, known, commit) if known is not None else None
    if status is None:
        status = _read_all(git, commit)
        return store.with_damage(status) if repairing else status
    return status


def _read_all(git: Git, commit: str) -> Status:
    """Read the whole branch and fold all its logs."""
    listing = {change.path: change.blob or "" for change in history.listing(git, commit)}
    ours, observed, time = _newest_of_ours(git, commit)
    own = listing if ours in ("", commit) else _own(git, ours)
    blobs = history.read_blobs(git, [*listing.values(), *own.values()])
    fleet = _fleet(commit, ours, blobs.get(own.get(layout.FLEET, "")))
    files = {path: blobs[blob] for path, blob in listing.items()}
    logs = store.logs_of({**files, **_from_history(git, commit, files)})
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
        files=files,
        members=_members(commit, blobs.get(own.get(layout.MEMBERS, ""))),
        digests=digests,
        tampered=tampered,
    )


# -- what the branch is for ------------------------------------------------------------------------------------------


def read_fleet(git: Git, commit: str) -> Fleet:
    """Read what the branch is for, from the newest commit of ours; raises as `read`."""
    ours, _, _ = _newest_of_ours(git, commit)
    blob = _own(git, ours or commit).get(layout.FLEET)
    return _fleet(commit, ours, history.read_blobs(git, [blob])[blob] if blob else None)


def _own(git: Git, commit: str) -> dict[str, str]:
    """Return the blobs of the files of which only what we wrote counts."""
    found = (one for path in (layout.FLEET, layout.MEMBERS) for one in history.listing(git, commit, path))
    return {one.path: one.blob for one in found if one.blob}


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


def _members(commit: str, data: bytes | None) -> tuple[Identity, ...] | None:
    try:
        return None if data is None else tuple(codec.decode(Identity, json.loads(one)) for one in data.splitlines())
    except ValueError as error:
        raise StatusUnreadableError(f"{layout.MEMBERS} of the status branch at {commit[:7]}: {error}") from error


def _newest_of_ours(git: Git, commit: str) -> tuple[str, str, str]:
    """Return the newest commit that records a head, that head, and its time; people's commits record none."""
    form = "--format=%H%n%(trailers:key=Observed-Commit,valueonly,separator=%x20)%n%cI"
    found = git.run("log", "-1", "--first-parent", f"--grep={_OURS}", form, commit, "--")
    lines = found.decode(errors="replace").splitlines() or ["", "", ""]
    return lines[0], lines[1].strip(), lines[2].strip()


# -- going on from what is known -------------------------------------------------------------------------------------


def resumed(git: Git, kept: Status | None) -> Status | None:
    """Return what another process kept, with the files as they are in git; None where the two do not agree.

    No file is kept: what is written next is built on what the branch holds, never on what somebody remembers of it.
    """
    if kept is None or not history.exists(git, kept.commit):
        return None
    listing = {one.path: one.blob for one in history.listing(git, kept.commit) if one.blob}
    blobs = history.read_blobs(git, listing.values())
    files = {path: blobs[blob] for path, blob in listing.items()}
    sound = {key: state for key, state in kept.placements.items() if key not in kept.tampered}
    if kept.fleet.format == FORMAT and _touched(sound, kept.digests, files, changed=()):
        return None
    return replace(kept, files=files)


def _read_on(git: Git, known: Status, commit: str) -> Status | None:
    """Take in what came since; None where that is not only what we appended, and the whole has to be judged."""
    newest = _only_ours(git, known.commit, commit)
    if newest is None or known.tampered or known.damaged or known.is_outdated:
        return None
    changes = {one.path: one.blob for one in history.diff(git, known.commit, commit)}
    gone = _deleted(git, commit, known.commit)
    blobs = history.read_blobs(git, [*gone.values(), *(blob for blob in changes.values() if blob)])
    changed = {path: blobs[blob] if blob else None for path, blob in changes.items()}
    files = store.with_changes(known.files, changed)
    logs = {path: blobs[blob] for path, blob in gone.items()} | {path: one for path, one in changed.items() if one}
    try:
        states, digests = _appended(known, {path: data for path, data in logs.items() if layout.is_log(path)})
    except Exception:  # noqa: BLE001 - a log that somebody edited may say anything
        return None
    if not _is_explained(changed, states) or _touched(states, digests, files, changed):
        return None
    fleet = _fleet(commit, commit, files.get(layout.FLEET))
    if (fleet.format, fleet.epoch) != (known.fleet.format, known.fleet.epoch):
        return None
    return replace(
        known,
        commit=commit,
        fleet=fleet,
        observed=newest[0],
        time=newest[1],
        placements={**known.placements, **states},
        files=files,
        members=_members(commit, files.get(layout.MEMBERS)),
        digests={**known.digests, **digests},
    )


def check_grown(git: Git, status: Status, files: Mapping[str, bytes | None]) -> None:
    """Make sure that each log of a change goes on with what the branch itself holds of it, not with what we remember.

    Raises:  MemoryDamagedError; GitError.
    """
    logs = {path: data for path, data in files.items() if layout.is_log(path)}
    held = {one.path: one.blob for one in history.listing(git, status.commit, *logs)} if logs else {}
    for path, data in logs.items():
        known, blob = status.files.get(path, b""), held.get(path)
        is_ours = history.blob_id(known, blob) == blob if blob else not known
        if not is_ours or (data is not None and not data.startswith(known)):
            raise MemoryDamagedError(f"{path} is not what branch and memory agree on: the branch is read anew")


def _is_explained(changed: Mapping[str, bytes | None], states: Mapping[Key, PlacementState]) -> bool:
    """Tell whether what changed of runs and placements is what goes with new events: `states` are theirs."""
    held = {uid[:8] for state in states.values() for uid in state.runs}
    archived = {uid[:8] for state in states.values() for uid in state.archived}
    for path, data in changed.items():
        if path.startswith(f"{layout.RUNS}/") and path.split("/")[-2] not in (archived if data is None else held):
            return False
        if path.startswith(f"{layout.PLACEMENTS}/") and (data is None or layout.placement_key(path) not in states):
            return False
    return True


def _only_ours(git: Git, old: str, new: str) -> tuple[str, str] | None:
    """Return the head and the time that the newest commit records, if only commits of ours lead from old to new."""
    form = "--format=%P%x09%(trailers:key=Observed-Commit,valueonly,separator=%x20)%x09%cI"
    if not history.exists(git, old):
        return None
    text = git.run("log", "--first-parent", form, new, f"^{old}", "--").decode(errors="replace")
    rows = [line.split("\t") for line in text.splitlines()]
    if not rows or rows[-1][0] != old or not all(observed.strip() for _, observed, _ in rows):
        return None
    return rows[0][1].strip(), rows[0][2].strip()


def _appended(known: Status, logs: Mapping[str, bytes]) -> tuple[dict[Key, PlacementState], dict[Key, str]]:
    """Fold what was appended to the logs, by placement; raises ValueError for anything else that befell a log."""
    new: dict[Key, list[Line]] = {}
    for path, data in logs.items():
        old = known.files.get(path, b"")
        if not data.startswith(old):
            raise ValueError(f"{path} did not grow")
        new.setdefault(_owner(path, data), []).extend(_lines(data[len(old) :]))
    states, digests = {}, {}
    for key, found in ((key, found) for key, found in new.items() if found):
        found.sort(key=lambda one: one[0].seq)
        state = known.placements.get(key, PlacementState(key=key))
        for event, _ in found:
            state = apply_to_placement(state, event)
        states[key] = state
        digests[key] = store.extended(known.digests.get(key, ""), [text for _, text in found])
    return states, digests


# -- folding -----------------------------------------------------------------------------------------------------------


def _lines(data: bytes) -> Iterator[Line]:
    return zip(log_events(data), data.splitlines(keepends=True), strict=True)


def log_events(data: bytes) -> list[Event]:
    """Read one log; raises ValueError for a line that is no event."""
    return [events.decode(json.loads(line)) for line in data.splitlines()]


def _states(logs: Mapping[str, bytes]) -> tuple[dict[Key, PlacementState], dict[Key, str], dict[Key, str]]:
    """Merge the logs of each placement by number, and fold them; return states, digests, and what is damaged.

    A placement whose logs are damaged has no state.
    """
    merged: dict[Key, list[Line]] = {}
    broken: dict[Key, str] = {}
    for path, data in sorted(logs.items()):
        key = ANY
        try:
            key = _owner(path, data)
            merged.setdefault(key, []).extend(_lines(data))
        except Exception as error:  # noqa: BLE001 - a log that somebody edited may say anything
            broken[key] = f"StatusTampered: {path}: {error!r}"
    states, digests = {}, {}
    for key, found in merged.items():
        try:
            found.sort(key=lambda one: one[0].seq)
            _check_numbers([event for event, _ in found])
            states[key] = fold(key, [event for event, _ in found])
            digests[key] = store.extended("", [text for _, text in found])
        except IllegalTransition as error:
            broken.setdefault(key, f"StatusTampered: the log of {key} does not fold: {error}")
    return {key: state for key, state in states.items() if key not in broken}, digests, broken


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


# -- runs that left the tree -------------------------------------------------------------------------------------------


def with_archived(git: Git, status: Status) -> Status:
    """Return the status with the archived runs, and their files, put back where they were; raises GitError."""
    if all(uid in state.runs for state in status.placements.values() for uid in state.archived):
        return status
    files = _from_history(git, status.commit, status.files)
    found = {run.uid: run for run in map(_folded, store.logs_of(files).values())}
    placements = {
        key: replace(state, runs={**{uid: found[uid] for uid in state.archived if uid in found}, **state.runs})
        for key, state in status.placements.items()
    }
    return replace(status, placements=placements, files={**status.files, **files})


def _folded(log: bytes) -> RunStatus:
    first, *rest = log_events(log)
    return reduce(apply, rest, apply(None, first))


def _from_history(git: Git, commit: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the files of archived runs as they were when they left the tree; the logs of the placements tell which."""
    folders = {uid[:8] for data in store.logs_of(files).values() for uid in _ARCHIVED.findall(data)}
    if not folders:
        return {}
    blobs = {path: one for path, one in _deleted(git, commit).items() if path.split("/")[-2].encode() in folders}
    held = history.read_blobs(git, blobs.values())
    return {path: held[blob] for path, blob in blobs.items()}


def _deleted(git: Git, commit: str, base: str | None = None) -> dict[str, str]:
    """Return the files of runs that commits of ours removed, each with the blob that it last was."""
    found = history.deleted(git, commit, layout.RUNS, base, saying=_OURS)
    return {path: blob for path, blob in found.items() if path.rpartition("/")[2] in (layout.EVENTS, layout.RUN)}


# -- what somebody else changed ---------------------------------------------------------------------------------------


def _set_back(git: Git, tip: str, logs: Mapping[str, bytes]) -> dict[Key, str]:
    """Find logs of which a commit of somebody else changed what we had written, however well the rest folds."""
    found: dict[Key, str] = {}
    for commit, before in _foreign(git, tip):
        for path in (one.path for one in history.diff(git, before, commit) if layout.is_log(one.path)):
            written = _as_written(git, tip, path)
            if not logs.get(path, b"").startswith(written):
                why = f"{path} was changed by commit {commit[:7]}, not by the daemon; take that back on the branch"
                found.setdefault(_owner_or_any(path, written), f"StatusTampered: {why}")
    return found


def _as_written(git: Git, tip: str, path: str) -> bytes:
    """Return a file as the newest commit of ours that changed it left it; empty where that removed it."""
    ours = ("-1", "--first-parent", "--diff-merges=first-parent", f"--grep={_OURS}", "--format=%H")
    commit = git.run("log", *ours, tip, "--", path).decode("ascii").strip()
    blobs = [one.blob for one in history.listing(git, commit, path) if one.blob] if commit else []
    return history.read_blobs(git, blobs)[blobs[0]] if blobs else b""


def _foreign(git: Git, tip: str) -> list[tuple[str, str]]:
    """Return the commits that are not ours, each with its first parent."""
    ours = ("--invert-grep", f"--grep={_OURS}")
    rows = git.run("log", "--first-parent", *ours, "--format=%H %P", tip, "--").decode("ascii").splitlines()
    return [(words[0], words[1]) for words in map(str.split, rows) if len(words) > 1]


def _owner_or_any(path: str, data: bytes) -> Key:
    try:
        return _owner(path, data)
    except Exception:  # noqa: BLE001 - a log that somebody edited may say anything
        return ANY


def _touched(
    states: Mapping[Key, PlacementState],
    digests: Mapping[Key, str],
    files: Mapping[str, bytes],
    changed: Collection[str] | None = None,
) -> dict[Key, str]:
    """Find placements whose stored status is not the fold of their log; of runs only those where a file changed."""
    folders = None if changed is None else {path.rpartition("/")[0] for path in changed}
    found = {}
    for key, state in states.items():
        try:
            differing = [path for path, data in store.judged(state, digests[key], folders) if files.get(path) != data]
        except Exception as error:  # noqa: BLE001 - what somebody edited may fold to what cannot even be written
            found[key] = f"StatusTampered: the log of {key} says what cannot be: {error!r}"
            continue
        if differing:
            found[key] = (
                f"StatusTampered: {differing[0]} is not what the events say, or one of them was edited; restore it "
                "from the branch's history"
            )
    return found


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
