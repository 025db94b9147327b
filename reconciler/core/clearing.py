"""A placement that is gone: what it put on the members is removed, once its grace is over."""

from datetime import datetime

from reconciler.core.conditions import timestamp
from reconciler.core.draft import Draft, Waiting, take_over
from reconciler.core.events import WithdrawalStarted
from reconciler.core.status import PlacementState
from reconciler.core.view import is_member


def clear_removed_placement(draft: Draft) -> None:
    """Remove from the members what a removed placement put there, once its grace is over."""
    state, members = draft.state, draft.declared.view.clusters()
    if state.removed_at is None or delete_policy(state) == "Abandon":
        return
    left = sorted(
        (one for one in state.records.values() if not one.is_empty and is_member(members, one)),
        key=lambda one: one.cluster,
    )
    due = state.removed_at + draft.declared.grace
    if left and draft.now < due:
        _wait_for_grace(draft, due, ", ".join(one.cluster for one in left))
        return
    for record in left:
        if record.run:
            draft.emit(WithdrawalStarted, cluster=record.cluster)
            take_over(draft, record.cluster, state.uid)
        words = f": {record.reason}: {record.message}" if record.reason and not record.run else ""
        _say_removed(draft, f"what the removed placement put on cluster {record.cluster} is being removed{words}")


def _wait_for_grace(draft: Draft, due: datetime, names: str) -> None:
    _say_removed(
        draft,
        f"the placement was removed by commit {draft.state.commit[:7]}: what it placed is removed from {names} at "
        f"{timestamp(due)}, unless it is added again before",
    )
    draft.rechecks.append(due)


def _say_removed(draft: Draft, message: str) -> None:
    state = draft.state
    waiting = Waiting(run=state.key.name, reason="PlacementRemoved", message=message, since=state.removed_at)
    draft.waiting.append(waiting)


def delete_policy(state: PlacementState) -> str:
    """Return what becomes of what a placement placed once it is removed: `Delete` or `Abandon`."""
    strategy = (state.spec.get("strategy") or {}).get("deleteStrategy") or {}
    return strategy.get("propagationPolicy") or "Delete"
