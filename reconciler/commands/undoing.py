"""Where a run came from: the snapshot that its clusters ran before it, from the records on the status branch."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count

from reconciler.commands.opening import Fleet
from reconciler.commands.reading import elsewhere, find_run, name_and_uid, run_noun, word_for
from reconciler.commands.writing import status_of
from reconciler.core.model import Key, placement_of
from reconciler.core.rollback import named
from reconciler.core.status import ClusterFacts, Delivered, PlacementState, RunStatus
from reconciler.core.view import is_member
from reconciler.errors import RefusedError
from reconciler.git import history as log


@dataclass(frozen=True, slots=True, kw_only=True)
class WayBack:
    """The snapshot to go back to from a run; `newer` are the runs that have moved clusters on since."""

    run: RunStatus
    index: int
    newer: tuple[str, ...] = ()

    @property
    def strategy(self) -> str:
        """The strategy that the run went along."""
        return str(self.run.spec["stagedRolloutStrategyName"])


def way_back(fleet: Fleet, name: str, namespace: str) -> WayBack:
    """Find what every cluster ran before a run, be it `NAME` or `NAME@UID`.

    Raises:  RefusedError when the run is not known, has moved nothing, or its clusters have no snapshot in common;
             the text says which there are, with the commands that make a run of each.
    """
    fleet = fleet.whole()
    run, state = _known(fleet, name, namespace)
    found = _held_before(fleet, run, state)
    if not any(one.started_at is not None for stage in run.stages for one in stage.clusters):
        raise RefusedError(f"run {name} has started no cluster, so there is nothing to go back from")
    if not found:
        raise RefusedError(f"every cluster that run {name} started has left the fleet")
    problem = _problem(run, state, found)
    if problem:
        raise RefusedError(f"{problem}; {_choices(run, state, found)}")
    before = next(iter(found.values()))
    assert before is not None
    newer = [one for one in state.runs.values() if one.started_at is not None and one.age > run.age]
    newer.sort(key=lambda one: one.age)
    return WayBack(run=run, index=before.index, newer=tuple(one.key.name for one in newer))


def can_go_back(fleet: Fleet, run: RunStatus) -> bool:
    """Tell whether a run that goes back from this one could be made now."""
    try:
        way_back(fleet, word_for(fleet, run), run.key.namespace)
    except RefusedError:
        return False
    key = placement_of(run.key, run.placement)
    return fleet.derivation.view.find(key.kind, key.namespace, key.name) is not None


def _known(fleet: Fleet, name: str, namespace: str) -> tuple[RunStatus, PlacementState]:
    status = status_of(fleet, "nothing is known of what runs moved")
    noun = run_noun(namespace)
    _, run = find_run(fleet, noun, namespace, name)
    where = f" in namespace {namespace}" if namespace else ""
    if run is None:
        unseen = f"the daemon has not seen a run {name}{where}"
        raise RefusedError("; ".join((unseen, *elsewhere(fleet, noun, name_and_uid(name)[0], namespace))))
    state = next(one for one in status.placements.values() if run.uid in one.runs)
    return run, state


def _held_before(fleet: Fleet, run: RunStatus, state: PlacementState) -> dict[str, Delivered | None]:
    """Return by cluster what it ran before the run: of those that it has yet to start what they run now, if any."""
    members = fleet.derivation.view.clusters()
    found: dict[str, Delivered | None] = {}
    for stage in run.stages:
        for cluster in stage.clusters:
            there = is_member(members, cluster)
            if there and cluster.started_at is not None:
                found[cluster.name] = cluster.before
            elif there and run.end is None and (delivered := _delivered(state, cluster)) is not None:
                found[cluster.name] = delivered
    return found


def _delivered(state: PlacementState, cluster: ClusterFacts) -> Delivered | None:
    record = state.records.get(cluster.name)
    return record.delivered if record is not None and record.uid == cluster.uid else None


def _problem(run: RunStatus, state: PlacementState, found: dict[str, Delivered | None]) -> str:
    """Say why there is no one snapshot to go back to; empty: there is."""
    nothing = sorted(name for name, one in found.items() if one is None)
    if nothing:
        return f"{', '.join(nothing)} had nothing of {run.placement} before run {run.key.name}"
    held = {(one.placement_uid, one.index) for one in found.values() if one is not None}
    gone = sorted(index for uid, index in held if uid != state.uid)
    if gone:
        return f"snapshot {gone[0]} was of an earlier placement named {run.placement}, which is gone"
    if len(held) > 1:
        return f"the clusters of run {run.key.name} had different snapshots before it: {_told(found)}"
    _, index = next(iter(held))
    if run.pin is not None and run.pin.snapshot_index == index:
        return f"the clusters had snapshot {index} before run {run.key.name} too, so going back changes nothing"
    return ""


def _told(found: dict[str, Delivered | None]) -> str:
    by_index: dict[int, list[str]] = {}
    for name, one in sorted(found.items()):
        if one is not None:
            by_index.setdefault(one.index, []).append(name)
    return ", ".join(f"{index} ({', '.join(names)})" for index, names in sorted(by_index.items()))


def _choices(run: RunStatus, state: PlacementState, found: dict[str, Delivered | None]) -> str:
    """Return the commands that make a run of each snapshot in question, else of each there is."""
    there = {one.index for one in state.snapshots}
    held = {one.index for one in found.values() if one is not None and one.placement_uid == state.uid} & there
    pin = run.pin
    own = pin.snapshot_index if pin is not None and pin.placement_uid == state.uid else len(there)
    wanted = sorted(held - {own} or {one for one in there if one < own})
    if not wanted:
        return "there is no older snapshot; to take all of it off the clusters, remove the placement"
    return "choose one:" + "".join(f"\n  {one}" for one in _commands(run, wanted))


def _commands(run: RunStatus, indices: Iterable[int]) -> Iterable[str]:
    namespace = f" -n {run.key.namespace}" if run.key.namespace else ""
    for index in indices:
        yield (
            f"reconciler run create NAME --placement {run.placement} --strategy "
            f"{run.spec['stagedRolloutStrategyName']} --snapshot {index}{namespace}"
        )


# -- the new run's name and file --------------------------------------------------------------------------------------


def free_name(fleet: Fleet, run: Key) -> str:
    """Return `<run>-back`, then `-back-2` …, the first that no run ever had; cut with a hash at 63 characters."""
    taken = {one.key.name for one in fleet.derivation.view.runs() if one.key.namespace == run.namespace}
    states = fleet.status.placements.values() if fleet.status is not None else ()
    taken |= {one.key.name for state in states for one in state.runs.values() if one.key.namespace == run.namespace}
    names = (named(run.name, "-back" if number == 1 else f"-back-{number}") for number in count(1))
    return next(name for name in names if name not in taken)


def run_file(fleet: Fleet, name: str, namespace: str) -> str:
    """Return the file for a new run; raises RefusedError where something else stands already."""
    path = f"runs/{namespace}/{name}.yaml" if namespace else f"runs/{name}.yaml"
    head = fleet.derivation.view.head
    if head is not None and any(one.path == path for one in log.listing(fleet.source.git, head.sha, path)):
        raise RefusedError(f"{path} is there already, with something else in it: choose another --name, or move it")
    return path
