"""What runs would do once a change is on the watched branch: judged by the very code that will carry them out.

The change is brought onto the derived view as one more commit, and the rollout of each placement is planned with the
status as it is; what that plan records of a run is what the first pass after the merge would.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

from reconciler.commands.holds import Hold
from reconciler.core.clearing import is_abandoned
from reconciler.core.draft import Declarations
from reconciler.core.events import RunSeen, RunSuperseded, RunWithdrawn
from reconciler.core.model import PREFIX, Body, Key, Problem, Run, placement_of
from reconciler.core.rollout import Plan, plan
from reconciler.core.selection import canonical
from reconciler.core.status import Pin, PinnedCluster, PlacementState, Record, RunStatus, Snapshot, State
from reconciler.core.view import Declared, View, is_member
from reconciler.daemon.proposal import NOT_YET
from reconciler.daemon.untimely import untimely
from reconciler.delivery.base import key_of
from reconciler.errors import PermanentError
from reconciler.status_branch import store


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What changes on clusters that hold the same now; `since` None: they hold nothing. Objects are only named."""

    since: int | None
    clusters: tuple[str, ...]
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    unknown: str = ""
    """Why it cannot be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """What one run would come to. `problem` is why it is refused, in the words that its condition would have."""

    declared: Declared
    run: RunStatus
    outcome: str
    problem: str = ""
    snapshot: Snapshot | None = None
    supersedes: tuple[str, ...] = ()
    holds: Mapping[str, Record] = field(default_factory=dict)
    """What its clusters hold of the placement now, by name."""
    differences: tuple[Difference, ...] = ()

    @property
    def pin(self) -> Pin | None:
        """What initialization resolves; None when it fails."""
        return self.run.pin

    @property
    def is_refused(self) -> bool:
        """Whether it would do nothing."""
        return bool(self.problem)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parting:
    """What a change takes away, or gives back: runs, placements and clusters that go, placements that come again.

    `clusters` are those that would be touched, each with the snapshot it goes back to; None: nothing is left there.
    """

    outcome: str
    subject: str
    message: str
    clusters: Mapping[str, int | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Everything that a change would come to: what of it does not count, what it takes away, its runs."""

    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    leaving: tuple[Parting, ...]
    runs: tuple[Foreseen, ...]
    holds: tuple[Hold, ...] = ()
    """What keeps all of it, or a part, from being carried out."""


Read = Callable[[str, int], tuple[Body, ...]]
"""Reads the objects of a snapshot back by the placement's uid and the index; raises PermanentError where it cannot."""

STARTS, INITIALIZES, STOPPED, REFUSED = "Starts", "Initializes", "Stopped", "Refused"


def foresee(
    view: View, read: Read, status: store.Status | None, held: Mapping[str, str], now: datetime
) -> tuple[Foreseen, ...]:
    """Return what every run would do that is not started yet, oldest first, as of the head of the view.

    Shape:   `held` says of placements, by the text of their key, why nothing of them is touched.
    Raises:  GitError; what is wrong with a run or its content is part of the answer.
    """
    if view.head is None:
        return ()
    after = status.fleet.started_after if status is not None else -1
    declared = Declarations(head=view.head, view=view, started_after=after)
    found: list[Foreseen] = []
    for key, runs in _by_placement(view).items():
        state = status.placements.get(key) if status is not None else None
        found += _of_placement(read, declared, state or PlacementState(key=key), runs, held.get(str(key), ""), now)
    return tuple(sorted(found, key=lambda one: (one.run.key.namespace, one.run.age, one.run.key.name)))


def partings(view: View, read: Read, status: store.Status | None, now: datetime) -> tuple[Parting, ...]:
    """Return what would be withdrawn, rolled back, removed or kept after all, as of the head of the view."""
    if view.head is None or status is None:
        return ()
    declared = Declarations(head=view.head, view=view, started_after=status.fleet.started_after)
    planned = [(state, plan(state, declared, now)) for state in status.placements.values()]
    found = (one for state, after in planned for one in _partings(state, after, view, read))
    return (*found, *_departing(view, [(state, after.state) for state, after in planned]))


def _partings(before: PlacementState, planned: Plan, view: View, read: Read) -> Iterator[Parting]:
    after = planned.state
    back = {uid for event in planned.events if isinstance(event, RunSeen) for uid in event.reverts}
    for event in planned.events:
        if isinstance(event, RunSeen) and event.reverts:
            yield _rolled_back(after.runs[event.run])
        elif isinstance(event, RunWithdrawn) and event.run in before.runs and not event.rollback:
            kept = "" if event.placement_removed else "; its clusters keep what they have"
            message = f"it starts nothing new{kept}"
            yield Parting(outcome="Withdrawn", subject=str(after.runs[event.run].key), message=message)
    for run in before.runs.values():
        if run.end is not None and run.uid not in back and _goes(view, run.uid):
            message = f"it is over ({run.end}): nothing changes on its clusters, and `get --all` still shows it"
            yield Parting(outcome="Archived", subject=str(run.key), message=message)
    if after.removed_at is not None and before.removed_at is None:
        yield _removed(after, view, read)
    elif before.removed_at is not None and after.removed_at is None:
        yield from _kept(before, view)


def _goes(view: View, uid: str) -> bool:
    """Tell whether it is the change itself that removes an object."""
    removal = view.removals.get(uid)
    return removal is not None and removal.commit.sha == NOT_YET


def _kept(state: PlacementState, view: View) -> Iterator[Parting]:
    """Say what comes of it that a placement is there again whose removal was waited with."""
    held = _holding(state, view)
    if held:
        what = "let go of on" if is_abandoned(state) else "removed from"
        message = f"it is added again within the grace period: what it placed is not {what} {', '.join(held)}"
        yield Parting(outcome="Kept", subject=str(state.key), message=message)


def _holding(state: PlacementState, view: View) -> list[str]:
    """Return the members that hold something of a placement; one that left and came again holds nothing of it."""
    members = view.clusters()
    return sorted(one.cluster for one in state.records.values() if one.hash and is_member(members, one))


def _departing(view: View, states: Iterable[tuple[PlacementState, PlacementState]]) -> Iterator[Parting]:
    """Say of the clusters that leave the fleet which runs that go on skip them; `states`: each before and after."""
    pairs = [(run, after.runs.get(run.uid)) for before, after in states for run in before.runs.values()]
    for removal in view.removals.values():
        gone = removal.declared
        if gone.key.kind == "MemberCluster" and _goes(view, gone.uid):
            skip = [run.key.name for run, after in pairs if after is not None and _skips(run, after, gone.uid)]
            told = f"; skipped from then on by {', '.join(skip)}" if skip else ""
            message = f"it keeps what it has{told}"
            yield Parting(outcome="Leaves", subject=str(gone.key), message=message)


def _skips(run: RunStatus, after: RunStatus, cluster: str) -> bool:
    """Tell whether a run that goes on, or its delivery to the cluster, has yet to finish there."""
    waiting = (one for stage in run.all_stages for one in stage.clusters if one.uid == cluster and not one.is_done)
    return any(after.end is None or one.in_flight for one in waiting)


def _rolled_back(run: RunStatus) -> Parting:
    back = {one.name: one.restores.index for stage in run.stages for one in stage.clusters if one.restores is not None}
    told = ", ".join(f"{name} to snapshot {index}" for name, index in back.items()) or "no cluster"
    ended = f"; but {_told(run.end_message)}" if run.end_message else "; nobody is asked" if back else ""
    what = f"by {run.key.name}, at once, last updated first: {told}{ended}"
    left = f"; left alone: {', '.join(run.pin.left)}" if run.pin is not None and run.pin.left else ""
    subject = ", ".join(run.annotations[PREFIX + "rollback-of"].split(", "))
    return Parting(outcome="RolledBack", subject=subject, message=what + left, clusters=back)


def _removed(state: PlacementState, view: View, read: Read) -> Parting:
    held = _holding(state, view)
    names = ", ".join(held) or "no cluster"
    if is_abandoned(state):
        message = f"its deleteStrategy is Abandon: after the grace period it lets go of what it placed on {names}"
        return Parting(outcome="Removed", subject=str(state.key), message=f"{message}; the objects stay")
    namespaces = _namespaces(state, held, read)
    whole = f"; so is everything else in namespace {', '.join(namespaces)}, which it placed" if namespaces else ""
    message = f"after the grace period what it placed is removed from {names}{whole}"
    return Parting(outcome="Removed", subject=str(state.key), message=message, clusters=dict.fromkeys(held))


def _namespaces(state: PlacementState, clusters: Iterable[str], read: Read) -> list[str]:
    """Return the namespaces that a placement has on clusters: who deletes one deletes what is in it."""
    records = [state.records[name] for name in clusters]
    found: set[str] = set()
    for uid, index in {(one.placement_uid, one.index) for one in records}:
        with suppress(PermanentError):  # content that is gone is named when it is to be delivered
            found |= {
                one["metadata"]["name"]
                for one in read(uid, index)
                if key_of(one).kind == "Namespace" and not key_of(one).group
            }
    return sorted(found)


def _by_placement(view: View) -> dict[Key, list[Declared]]:
    found: dict[Key, list[Declared]] = {}
    for one in view.runs():
        found.setdefault(placement_of(one.key, cast("Run", one.value).placement), []).append(one)
    return found


def _of_placement(
    read: Read,
    declared: Declarations,
    state: PlacementState,
    runs: Iterable[Declared],
    held: str,
    now: datetime,
) -> Iterator[Foreseen]:
    """Plan a placement once, and tell of each run that had not started before."""
    open_runs = [one for one in runs if _is_open(state.runs.get(one.uid))]
    if not open_runs:
        return
    planned = plan(state, declared, now)
    waiting = {one.run: one.message for one in planned.waiting_for}
    for one in open_runs:
        run = planned.state.runs[one.uid]
        problem = held or _told(_problem(run, waiting))
        snapshot = _snapshot(declared.view, run.pin)
        newer = [event for event in planned.events if isinstance(event, RunSuperseded) and event.by == run.uid]
        ended = [planned.state.runs[event.run].key.name for event in newer if event.run in state.runs]
        yield Foreseen(
            declared=one,
            run=run,
            outcome=REFUSED if problem else _outcome(run),
            problem=problem,
            snapshot=snapshot,
            supersedes=tuple(ended or _would_end(planned.state, run)),
            holds=_holds(state, run.pin),
            differences=tuple(_differences(declared.view, read, state, run.pin, snapshot)),
        )


def _is_open(run: RunStatus | None) -> bool:
    return run is None or (run.started_at is None and run.end is None)


def _problem(run: RunStatus, waiting: Mapping[str, str]) -> str:
    """Return why a run would do nothing; empty when it would."""
    if run.end is not None:
        return run.end_message or f"the run would be {run.end} at once"
    if run.pin is None:
        return run.failure or waiting.get(run.key.name, "the run is not initialized")
    if run.started_at is None and run.state is State.RUN:
        return waiting.get(run.key.name, "the run does not start")
    return ""


def _told(message: str) -> str:
    """Return a message without the id that stands for the commit which the merge will make."""
    return message.replace(f"commit {NOT_YET[:7]}", "the merge")


def _outcome(run: RunStatus) -> str:
    if run.started_at is not None:
        return STARTS
    return STOPPED if run.state is State.STOP else INITIALIZES


def _would_end(state: PlacementState, run: RunStatus) -> list[str]:
    """Return the runs that a run which only initializes would supersede, once it starts."""
    if run.pin is None or run.started_at is not None or run.end is not None:
        return []
    older = [one for one in state.runs.values() if one.end is None and one.age < run.age]
    return [one.key.name for one in sorted(older, key=lambda one: one.age)]


def _snapshot(view: View, pin: Pin | None) -> Snapshot | None:
    there = view.snapshots.get(pin.placement_uid, ()) if pin is not None else ()
    return next((one for one in there if pin is not None and one.index == pin.snapshot_index), None)


# -- what clusters hold, and what they would get ----------------------------------------------------------------------


def clusters_of(pin: Pin) -> tuple[PinnedCluster, ...]:
    """Return all clusters that a run would update, in order."""
    return tuple(cluster for stage in pin.stages for cluster in stage.clusters)


def _holds(state: PlacementState, pin: Pin | None) -> dict[str, Record]:
    """Return the records of the run's clusters; of a namesake that left the fleet nothing is held."""
    wanted = {one.name: one.uid for one in (*clusters_of(pin), *pin.deletions)} if pin is not None else {}
    held = {name: one for name, one in state.records.items() if wanted.get(name) == one.uid}
    return {name: one for name, one in held.items() if not one.is_empty}


def _differences(
    view: View, read: Read, state: PlacementState, pin: Pin | None, snapshot: Snapshot | None
) -> Iterator[Difference]:
    """Compare what the clusters hold with what they would get, once per snapshot that is held."""
    if pin is None or snapshot is None:
        return
    records = _holds(state, pin)
    groups: dict[tuple[str, int] | None, list[str]] = {}
    for cluster in clusters_of(pin):
        record = records.get(cluster.name)
        held = (record.placement_uid, record.index) if record is not None and record.hash else None
        groups.setdefault(held, []).append(cluster.name)
    there = {(pin.placement_uid, one.index): one for one in view.snapshots.get(pin.placement_uid, ())}
    new = _content(view, read, pin.placement_uid, snapshot)
    for held, clusters in sorted(groups.items(), key=lambda one: (one[0] is not None, one[0] or ("", -1))):
        if held is None:
            yield Difference(since=None, clusters=tuple(clusters), added=_names(new, new))
        elif held not in there:
            why = f"snapshot {held[1]} was of an earlier placement of that name"
            yield Difference(since=held[1], clusters=tuple(clusters), unknown=why)
        else:
            yield _difference(view, read, pin, there[held], tuple(clusters), new)


def _difference(
    view: View, read: Read, pin: Pin, held: Snapshot, clusters: tuple[str, ...], new: Mapping[Key, Body]
) -> Difference:
    try:
        old = _content(view, read, pin.placement_uid, held)
    except PermanentError as error:
        return Difference(since=held.index, clusters=clusters, unknown=str(error))
    both = {key for key in new if key in old}
    return Difference(
        since=held.index,
        clusters=clusters,
        added=_names(new, set(new) - both),
        changed=_names(new, (key for key in both if canonical(new[key]) != canonical(old[key]))),
        removed=_names(old, set(old) - both),
    )


def _content(view: View, read: Read, placement_uid: str, snapshot: Snapshot) -> dict[Key, Body]:
    """Return a snapshot's objects by what names them; those of a commit that is not made yet are on hand."""
    selection = view.selections.get(placement_uid)
    if snapshot.commit == NOT_YET and selection is not None and selection.hash == snapshot.hash:
        objects = selection.objects
    else:
        objects = read(placement_uid, snapshot.index)
    return {key_of(one): one for one in objects}


def _names(bodies: Mapping[Key, Body], keys: Iterable[Key]) -> tuple[str, ...]:
    """Return `apiVersion Kind namespace/name` of objects: never what is in them."""
    return tuple(f"{bodies[key]['apiVersion']} {key}" for key in sorted(keys))


# -- what is wrong with the change itself ----------------------------------------------------------------------------


def untimely_in(view: View, status: store.Status | None, paths: Iterable[str]) -> tuple[Problem, ...]:
    """Return what is wrong with approvals of the change that come too early to count."""
    wanted = set(paths)
    runs = status.runs if status is not None else ()
    return tuple(one for one in untimely(view, runs) if one.path in wanted)


def broken_by(view: View, paths: Iterable[str]) -> tuple[Problem, ...]:
    """Return the problems that make files of the change not count."""
    wanted = set(paths)
    found = [problem for path, problems in view.broken.items() if path in wanted for problem in problems]
    return tuple(sorted(found, key=lambda one: (one.path, one.line, one.pointer)))
