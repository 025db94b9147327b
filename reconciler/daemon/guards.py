"""In doubt nothing is touched: what stops a whole pass, and what holds a single placement.

`StatusGuard` and `follow` stop a pass (`HeldError`): a status branch that is lost, a watched branch that was rewritten
or is behind. `held` and `Fences` hold one placement: a log that somebody edited, indices or identities that the
history contradicts, a member that was written under an intent that the status branch does not know.
"""

from collections.abc import Callable
from dataclasses import replace

from reconciler.core.actions import Outcome, Reason
from reconciler.core.model import Key
from reconciler.core.status import PlacementState, Record
from reconciler.core.view import View
from reconciler.daemon.rewrites import acknowledgement
from reconciler.errors import RefusedError
from reconciler.git import history as log
from reconciler.git.mirror import Mirror
from reconciler.git.run import Git
from reconciler.status_branch import reader, store

LAST_STATUS = "status"
"""The name under which the newest status commit is remembered in the mirror."""


class HeldError(RefusedError):
    """Nothing may be touched, and the text says why; only people can change that."""


class RewrittenError(HeldError):
    """The watched branch does not contain the recorded head any more."""


# -- the status branch -------------------------------------------------------------------------------------------


class StatusGuard:
    """The newest status commit that was ever seen here: what is on the remote must descend from it.

    It is kept in the mirror, beyond this process. A running process knows it still when the mirror was deleted; after
    that it is lost, and whatever the branch then holds counts, as for a daemon on a new machine.
    """

    def __init__(self, mirror: Mirror, branch: str) -> None:
        self._mirror, self._branch = mirror, branch
        self.last = self._kept = mirror.recall(LAST_STATUS) or ""

    def saw(self, commit: str) -> None:
        """Remember the newest status seen."""
        self.last = commit
        if commit != self._kept:
            self._mirror.remember(LAST_STATUS, commit)
            self._kept = commit

    def forgotten(self) -> None:
        """Take note that the mirror is no longer trusted: what is seen next is to be kept there again."""
        self._kept = ""

    def read(self, tip: str | None, known: store.Status | None) -> store.Status:
        """Read the branch at its tip, on from what is known.

        Raises:  HeldError where it is missing, set back, replaced, not one of ours or of a newer format.
        """
        if tip is None:
            raise HeldError(self._missing())
        if self.last and not log.is_ancestor(self._mirror.git, self.last, tip) and not self._is_anchored_anew(tip):
            raise HeldError(
                f"StatusLost: branch {self._branch} does not descend from {self.last[:7]} any more: nothing is "
                "touched; restore it, or start anew with `reconciler init --re-anchor`"
            )
        try:
            return reader.read(self._mirror.git, tip, known, repairing=True)
        except reader.StatusUnreadableError as error:
            raise HeldError(str(error)) from error

    def _is_anchored_anew(self, tip: str) -> bool:
        """Tell whether `init --re-anchor` made this branch in place of the lost one."""
        git = self._mirror.git
        if not log.exists(git, self.last):
            return False
        try:
            return reader.read_fleet(git, tip).succeeds(reader.read_fleet(git, self.last))
        except reader.StatusUnreadableError:
            return False

    def _missing(self) -> str:
        if not self.last:
            return f"the repository has no branch {self._branch} yet: make it with `reconciler init`"
        return (
            f"StatusLost: branch {self._branch} was at {self.last[:7]} and is gone: nothing is touched; restore it, or "
            "start anew with `reconciler init --re-anchor`"
        )


# -- the watched branch ------------------------------------------------------------------------------------------


def follow(git: Git, status: store.Status, head: str) -> store.Fleet:
    """Return what the branch is for, with a note where a pull or an acknowledged rewrite made the head follow another.

    Raises:  HeldError for a head that does not contain the recorded one, RewrittenError where an acknowledgement helps.
    """
    old, fleet = status.observed, status.fleet
    if old == head or log.contains_on_first_parent(git, head, old):
        return fleet
    if log.is_ancestor(git, old, head):
        joint = log.first_containing(git, head, old)
        return fleet if joint in fleet.follows else replace(fleet, follows={**fleet.follows, joint: old})
    acknowledged = None if is_stale(git, old, head) else acknowledgement(git, old, head)
    if acknowledged is None:
        raise parted(git, old, head)
    if status.tampered:
        raise HeldError(
            f"{next(iter(status.tampered.values()))}: until it is restored the rewritten history is not followed, for "
            "it is read by what was recorded"
        )
    return replace(
        fleet,
        follows={**fleet.follows, acknowledged: old},
        acknowledged={**fleet.acknowledged, acknowledged: status.commit},
    )


def parted(git: Git, old: str, head: str) -> HeldError:
    """Return why nothing may be touched at a head that does not contain the recorded one."""
    if is_stale(git, old, head):
        return HeldError(
            f"StaleHead: the remote shows {head[:7]}, which is older than the recorded head {old[:7]}: probably a "
            "stale replica; nothing is touched until it catches up"
        )
    return RewrittenError(
        f"HistoryRewritten: the recorded head {old[:7]} is not in the history of {head[:7]} any more: nothing "
        "is touched; put it back, or accept the new history with `reconciler acknowledge-rewrite`"
    )


def is_stale(git: Git, old: str, head: str) -> bool:
    """Tell whether a head is an older one than the recorded."""
    return log.exists(git, old) and log.is_ancestor(git, head, old)


# -- one placement -----------------------------------------------------------------------------------------------


def held(status: store.Status, key: Key, view: View) -> str:
    """Say why a placement may not be touched: a log that was edited, or what the history contradicts; empty: it may."""
    if why := status.tampered.get(key) or status.tampered.get(reader.ANY):
        return why
    state = status.placements.get(key)
    if state is None:
        return ""
    return _identity_lost(state, view) or _snapshot_changed(state, view)


def _identity_lost(state: PlacementState, view: View) -> str:
    """Say what is recorded under a uid that neither exists, nor was removed, nor was taken over from the record."""
    recorded = [(state.key, state.uid, state.commit)] if state.uid else []
    recorded += [(run.key, run.uid, run.commit) for run in state.runs.values() if not run.reverts]
    lost = [(key, commit) for key, uid, commit in recorded if not _is_known(view, key, uid)]
    if not lost:
        return ""
    key, commit = lost[0]
    return (
        f"IdentityLost: {key} was recorded under an identity that this history does not give: the commits it came "
        f"from are not here; bring them back, up to commit {commit[:7]}"
    )


def _is_known(view: View, key: Key, uid: str) -> bool:
    found = view.objects[key.kind].get(key)
    return uid in view.removals or uid in view.recorded or (found is not None and found.uid == uid)


def _snapshot_changed(state: PlacementState, view: View) -> str:
    derived = view.snapshots.get(state.uid, [])
    if len(derived) < len(state.snapshots):
        first = state.snapshots[len(derived)]
        return (
            f"SnapshotChanged: {len(state.snapshots)} snapshots are recorded, the history gives {len(derived)}: bring "
            f"back commit {first.commit[:7]}, which made snapshot {first.index}"
        )
    for recorded, found in zip(state.snapshots, derived, strict=False):
        if recorded.hash != found.hash:
            return (
                f"SnapshotChanged: snapshot {recorded.index} was recorded with hash {recorded.hash[:7]}, the history "
                f"now gives {found.hash[:7]}: bring back commit {recorded.commit[:7]}, which made it"
            )
    return ""


class Fences:
    """Placements whose members hold a higher fence than any intent on record: the status branch is behind them."""

    def __init__(self, record_of: Callable[[Key, str], Record | None]) -> None:
        self._record_of = record_of
        self._behind: dict[Key, str] = {}

    def forget(self) -> None:
        """Begin anew: the branch was read again."""
        self._behind = {}

    def note(self, outcome: Outcome) -> None:
        """Hold the placement if what answered was written under a newer intent than the status branch knows."""
        record = self._record_of(outcome.target.placement, outcome.target.cluster)
        if outcome.report.reason is Reason.FENCE_LOST and record is not None and record.seq <= outcome.target.seq:
            self._behind[outcome.target.placement] = (
                f"BehindFence: cluster {record.cluster} was written under a newer intent than the status branch knows "
                f"({outcome.report.message}): the branch was set back; it holds until the branch catches up"
            )

    def held(self, placement: Key) -> str:
        """Say why the placement is held; empty: it is not."""
        return self._behind.get(placement, "")
