"""What the repository says of a placement and its runs, seen: added, edited, removed."""

from typing import cast

from reconciler.core import placement as placements
from reconciler.core.draft import Draft, in_order
from reconciler.core.events import (
    PlacementEdited,
    PlacementRemoved,
    PlacementScheduled,
    PlacementSeen,
    PolicyMade,
    RunEdited,
    RunNotStarted,
    RunSeen,
    RunWithdrawn,
    SnapshotMade,
)
from reconciler.core.gating import finish_what_came_before
from reconciler.core.model import Placement, Run, placement_of
from reconciler.core.status import FORMAT, RunStatus
from reconciler.core.view import Declared


def see_placement(draft: Draft) -> None:
    """Note what became of the placement, its snapshots and policies, and which clusters it chooses."""
    view, state = draft.declared.view, draft.state
    found = view.find(state.key.kind, state.key.namespace, state.key.name)
    is_gone = found is None or found.uid != state.uid
    if is_gone and state.uid and state.removed_at is None:
        _see_last_version(draft)
        draft.emit(PlacementRemoved, commit=_removed_by(draft, state.uid))
    if found is None:
        return
    if is_gone:
        draft.emit(
            PlacementSeen,
            format=FORMAT,
            key=found.key,
            uid=found.uid,
            created=found.created.time,
            generation=found.generation,
            commit=found.changed.sha,
            spec=found.document.body["spec"],
        )
    elif state.generation != found.generation:
        _see_edit(draft, found)
    for snapshot in view.snapshots.get(found.uid, ())[len(draft.state.snapshots) :]:
        draft.emit(SnapshotMade, snapshot=snapshot)
    for policy in view.policies.get(found.uid, ())[len(draft.state.policies) :]:
        draft.emit(PolicyMade, policy=policy)
    _schedule(draft, found)


def _see_last_version(draft: Draft) -> None:
    """Note how the placement was last edited before it was removed: its deleteStrategy counts."""
    removal = draft.declared.view.removals.get(draft.state.uid)
    if removal is not None and removal.declared.generation != draft.state.generation:
        _see_edit(draft, removal.declared)


def _see_edit(draft: Draft, found: Declared) -> None:
    spec = found.document.body["spec"]
    draft.emit(PlacementEdited, generation=found.generation, commit=found.changed.sha, spec=spec)


def _schedule(draft: Draft, found: Declared) -> None:
    view = draft.declared.view
    choice = placements.choose(cast("Placement", found.value), view.cluster_values())
    refused = next(view.refusals(found), None) or view.selection_problems.get(found.uid)
    refusal = ""
    if refused is not None:
        refusal = f"{refused.rule}: {refused.without_rule}"
    elif choice.missing:
        refusal = (
            "SchedulingPolicyUnfulfilled: could not find all clusters needed as specified by the scheduling "
            f"policy, found {len(choice.clusters)} cluster(s) instead"
        )
    state = draft.state
    if state.scheduled_at is None or (tuple(state.scheduled), state.refusal) != (choice.clusters, refusal):
        draft.emit(PlacementScheduled, commit=draft.declared.head.sha, clusters=choice.clusters, refusal=refusal)


def declared_runs(draft: Draft) -> list[Declared]:
    """Return the runs of the placement that the repository holds, oldest first."""
    runs = [
        one
        for one in draft.declared.view.runs()
        if placement_of(one.key, cast("Run", one.value).placement) == draft.state.key
    ]
    return sorted(runs, key=lambda one: (one.created.position, one.key.name))


def see_run(draft: Draft, found: Declared) -> None:
    """Note a run that is new or was edited; one as old as the status branch is over at once."""
    known = draft.state.runs.get(found.uid)
    if found.uid in draft.state.archived:
        return
    if known is None:
        draft.emit(
            RunSeen,
            run=found.uid,
            format=FORMAT,
            key=found.key,
            created=found.created.time,
            position=found.created.position,
            commit=found.changed.sha,
            generation=found.generation,
            spec=found.document.body["spec"],
            annotations=dict(found.document.annotations),
            brought_by=found.created.sha,
        )
        if found.created.position <= draft.declared.started_after:
            run = cast("Run", found.value)
            message = (
                "the run is older than the status branch, so it is not started; to start the same: reconciler run "
                f"create NEW-NAME --placement {run.placement} --strategy {run.strategy}"
                + (f" --snapshot {run.index}" if run.index else "")
                + (f" -n {run.key.namespace}" if run.key.namespace else "")
            )
            draft.emit(RunNotStarted, run=found.uid, message=message)
    elif known.generation < found.generation:
        spec = found.document.body["spec"]
        draft.emit(RunEdited, run=found.uid, commit=found.changed.sha, generation=found.generation, spec=spec)


def withdraw_removed(draft: Draft) -> None:
    """End the runs whose file is gone, and those whose placement is."""
    rollbacks = {uid: run.key.name for run in draft.state.runs.values() for uid in run.reverts}
    for uid in in_order(draft.state):
        run, removal = draft.run(uid), draft.declared.view.removals.get(uid)
        if run.end is not None:
            continue
        if removal is not None:
            finish_what_came_before(draft, uid, removal.commit.position)
            if draft.run(uid).end is None:
                draft.emit(RunWithdrawn, run=uid, commit=removal.commit.sha, rollback=rollbacks.get(uid, ""))
        else:
            withdraw_orphan(draft, run)


def withdraw_orphan(draft: Draft, run: RunStatus) -> None:
    """End a run whose placement is gone, be it that another of its name has come since."""
    state = draft.state
    if run.pin is not None and (state.removed_at is not None or run.pin.placement_uid != state.uid):
        removal = draft.declared.view.removals.get(run.pin.placement_uid)
        if removal is not None:
            finish_what_came_before(draft, run.uid, removal.commit.position)
        commit = _removed_by(draft, run.pin.placement_uid)
        if draft.run(run.uid).end is None:
            draft.emit(RunWithdrawn, run=run.uid, commit=commit, placement_removed=True)


def _removed_by(draft: Draft, placement: str) -> str:
    """Return the commit that removed a placement, as far as it is known."""
    removal = draft.declared.view.removals.get(placement)
    return removal.commit.sha if removal is not None else draft.state.commit
