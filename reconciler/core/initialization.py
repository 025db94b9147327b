"""Everything a run needs, resolved once at one commit: upstream's order, upstream's words."""

from typing import cast

from reconciler.core import placement as placements
from reconciler.core.model import Body, Commit, MemberCluster, Placement, Run, Strategy
from reconciler.core.selection import may_select
from reconciler.core.stages import (
    APPLY_DEFAULTS,
    CLIENT,
    INVALID,
    InitializationError,
    Member,
    client_error,
    resolve_stages,
    snapshot_index,
    strategy_copy,
)
from reconciler.core.status import Pin, Snapshot
from reconciler.core.view import Declared, Initialization, View


def attempt(view: View, declared: Declared, commit: Commit) -> Initialization:
    """Try to initialize a run with what the view says at this commit; failures are values too.

    A pin without clusters is a success only where the members hold what is to be removed, which Git does not know.
    """
    try:
        return Initialization(commit=commit, pin=_resolve(view, declared, commit))
    except InitializationError as error:
        return Initialization(commit=commit, message=str(error), final=error.final)


def _resolve(view: View, declared: Declared, commit: Commit) -> Pin:
    """Resolve a run in upstream's order: placement, policy, clusters, strategy, stages, snapshot."""
    run = cast("Run", declared.value)
    _check_alone(view, declared, run)
    _check_index(view, declared, run, commit)
    _check_files(view, declared)
    found = _placement_of(view, run)
    placement = cast("Placement", found.value)
    choice = _choice(view, found, placement)
    strategy, spec = _strategy_of(view, run)
    snapshot = _snapshot_of(view, run, found)
    clusters = view.clusters()
    members = {
        name: Member(cluster=cast("MemberCluster", clusters[name].value), uid=clusters[name].uid)
        for name in choice.clusters
    }
    content_hash = snapshot.hash if snapshot is not None else ""
    stages = resolve_stages(strategy, members, content_hash)
    if snapshot is None:
        raise _no_snapshot(declared, run, found, commit)
    if run.pinned_hash not in (None, snapshot.hash):
        raise _other_content(run, snapshot)
    return Pin(
        commit=commit.sha,
        position=commit.position,
        placement_uid=found.uid,
        snapshot_index=snapshot.index,
        snapshot_commit=snapshot.commit,
        hash=snapshot.hash,
        policy_index=view.policies[found.uid][-1].index,
        cluster_count=choice.wanted,
        strategy=strategy_copy(spec),
        apply_strategy={**APPLY_DEFAULTS, **placement.apply_strategy},
        stages=stages,
    )


def _check_alone(view: View, declared: Declared, run: Run) -> None:
    twins = sorted(
        one.key.name
        for one in view.runs()
        if one.key != declared.key
        and one.key.kind == declared.key.kind
        and one.key.namespace == declared.key.namespace
        and one.created.sha == declared.created.sha
        and cast("Run", one.value).placement == run.placement
    )
    if twins:
        raise client_error(
            f"commit {declared.created.sha[:7]} brings more than one run for placement `{run.placement}` "
            f"({', '.join([declared.key.name, *twins])}): remove all of them, then commit one",
            final=True,
        )


def _check_index(view: View, declared: Declared, run: Run, commit: Commit) -> None:
    """Refuse an index that does not exist at the run's own commit: a typo must not start by itself later.

    Said before whatever can be mended, a broken file too: mending it begins a snapshot at a later commit, and changes
    nothing about those that there are by now.
    """
    found = _find_placement(view, run)
    if commit.sha != declared.created.sha or found is None or not run.index:
        return
    if all(str(one.index) != run.index for one in view.snapshots.get(found.uid, [])):
        raise _no_snapshot(declared, run, found, commit)


def _check_files(view: View, *needed: Declared) -> None:
    for declared in needed:
        problem = view.problem_of(declared)
        if problem is not None:
            raise InitializationError(f"{INVALID}InputBroken: {declared.key} is in a broken file: {problem}")


def _find_placement(view: View, run: Run) -> Declared | None:
    kind = "ResourcePlacement" if run.key.namespace else "ClusterResourcePlacement"
    return view.find(kind, run.key.namespace, run.placement)


def _placement_of(view: View, run: Run) -> Declared:
    found = _find_placement(view, run)
    if found is None:
        raise client_error("parent placement not found")
    _check_files(view, found)
    strategy = cast("Placement", found.value).strategy_type
    if strategy != "External":
        raise client_error(f"parent placement does not have an external rollout strategy, current strategy: {strategy}")
    return found


def _choice(view: View, found: Declared, placement: Placement) -> placements.Choice:
    if problem := view.selection_problems.get(found.uid):
        raise client_error(problem.message)
    refused = next(view.refusals(found), None)
    if refused is not None:
        raise InitializationError(f"{INVALID}{refused.rule}: {refused.without_rule}")
    choice = placements.choose(placement, view.cluster_values())
    policy = f"{found.key.name}-{view.policies[found.uid][-1].index}"
    if choice.missing:
        raise InitializationError(f"{INVALID}{CLIENT}policy snapshot `{policy}` not fully scheduled yet")
    clusters = view.clusters()
    _check_files(view, *(clusters[name] for name in choice.clusters))
    return choice


def _strategy_of(view: View, run: Run) -> tuple[Strategy, Body]:
    kind = "StagedUpdateStrategy" if run.key.namespace else "ClusterStagedUpdateStrategy"
    found = view.find(kind, run.key.namespace, run.strategy)
    if found is None:
        raise client_error(f"referenced updateStrategy not found: `{run.key.namespace}/{run.strategy}`")
    _check_files(view, found)
    return cast("Strategy", found.value), found.document.body["spec"]


def _snapshot_of(view: View, run: Run, found: Declared) -> Snapshot | None:
    snapshots = view.snapshots.get(found.uid, [])
    selection = view.selections.get(found.uid)
    for document in selection.documents if selection else ():
        _check_files(view, view.resources[document.key])
    if not run.index:
        _check_unread(view, found)
        return snapshots[-1] if snapshots else None
    return next((one for one in snapshots if str(one.index) == run.index), None)


def _check_unread(view: View, found: Declared) -> None:
    """Refuse the newest content while a file is broken that may belong to it: nobody reviewed it without."""
    if why := unread(view, found):
        raise InitializationError(f"{INVALID}InputBroken: {why}")


def unread(view: View, found: Declared) -> str:
    """Say which broken file may hold what a placement selects; empty for none."""
    placement, selection = cast("Placement", found.value), view.selections.get(found.uid)
    for path in sorted(view.named):
        if may_select(placement, selection, view.named[path]):
            what = "file that cannot be read may hold" if view.named[path] is None else "broken file names"
            return f"a {what} what placement {found.key.name} selects: {view.broken[path][0]}"
    return ""


def _no_snapshot(declared: Declared, run: Run, found: Declared, commit: Commit) -> InitializationError:
    where = f"{found.key.namespace}/{found.key.name}"
    if not run.index:
        return client_error(f"placement `{where}` selects no resources, so there is no resourceSnapshot")
    number = snapshot_index(run.index)
    message = f"no resourceSnapshots with index `{number}` found for placement `{where}`"
    return client_error(message, final=commit.sha == declared.created.sha)


def _other_content(run: Run, snapshot: Snapshot) -> InitializationError:
    return client_error(
        f"resourceSnapshot {snapshot.index} has the resource-hash {snapshot.hash}, the run was reviewed with "
        f"{run.pinned_hash}: review what changed and commit a new run",
        final=bool(run.index),
    )
