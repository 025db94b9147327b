"""A placement that is gone: what it put on the members is removed, or let go of, once its grace is over."""

from datetime import datetime

from reconciler.core.actions import Target, Withdraw
from reconciler.core.conditions import timestamp
from reconciler.core.draft import Draft, Waiting, take_over
from reconciler.core.events import WithdrawalStarted
from reconciler.core.status import PlacementState, Record, in_words
from reconciler.core.view import is_member


def clear_removed_placement(draft: Draft) -> None:
    """Remove from the members what a removed placement put there, or let go of it, once its grace is over."""
    state, members = draft.state, draft.declared.view.clusters()
    if state.removed_at is None:
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
        done = "let go of" if is_abandoned(state) else "removed"
        heard = () if record.run else (str(record.reason or ""), record.words)  # else of the run before
        words = in_words(f"being {done}", *heard)
        _say_removed(draft, f"what the removed placement put on cluster {record.cluster} is {words}")


def _wait_for_grace(draft: Draft, due: datetime, names: str) -> None:
    what = f"what it placed is removed from {names} at"
    if is_abandoned(draft.state):
        what = f"what it placed stays on {names} and is let go of at"
    gone = f"the placement was removed by commit {draft.state.commit[:7]}"
    _say_removed(draft, f"{gone}: {what} {timestamp(due)}, unless it is added again before")
    draft.rechecks.append(due)


def _say_removed(draft: Draft, message: str) -> None:
    state = draft.state
    waiting = Waiting(run=state.key.name, reason="PlacementRemoved", message=message, since=state.removed_at)
    draft.waiting.append(waiting)


def is_abandoned(state: PlacementState) -> bool:
    """Tell whether what a placement placed stays where it is once the placement is removed."""
    strategy = (state.spec.get("strategy") or {}).get("deleteStrategy") or {}
    return strategy.get("propagationPolicy") == "Abandon"


def word_for(state: PlacementState, record: Record) -> str:
    """Return what an empty record says of a cluster's objects: `let go of`, or `removed`."""
    return "let go of" if not record.run and is_abandoned(state) else "removed"


def withdrawal(state: PlacementState, record: Record) -> Withdraw:
    """Return the action behind an empty record: a run's delete stage deletes, a removal does as its placement says.

    A placement that was added again takes nothing away any more.
    """
    target = Target(placement=state.key, cluster=record.cluster, run_uid=record.run, seq=record.seq)
    return Withdraw(target=target, keep=not record.run and (state.removed_at is None or is_abandoned(state)))
