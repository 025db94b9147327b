"""Whether the clocks agree: ours with the newest status, with the remote, and with the members that answered.

Where they do not, no wait is known to be over. A single member whose clock is off says nothing about ours, and must not
hold up the others: it takes more than half of those that told.
"""

from datetime import datetime, timedelta

from reconciler.core.model import format_duration

_SKEW = timedelta(minutes=1)


class Clocks:
    """What other clocks said, as how far they are ahead of ours; what was said last counts until something else is."""

    def __init__(self) -> None:
        """Begin without having heard anything."""
        self._remote = timedelta(0)
        self._members: dict[str, timedelta] = {}

    def hear_remote(self, date: datetime | None, now: datetime) -> None:
        """Note what the remote's clock said a moment ago."""
        if date is not None:
            self._remote = date - now

    def hear_member(self, cluster: str, date: datetime | None, now: datetime) -> None:
        """Note what a member's clock said a moment ago."""
        if date is not None:
            self._members[cluster] = date - now

    def problem(self, status: datetime, wall: datetime) -> str:
        """Say why no wait may pass; empty: one may. `status` is the newest status commit's time."""
        if status - wall > _SKEW:
            return _disagrees("the newest status commit", status - wall)
        if abs(self._remote) > _SKEW:
            return _disagrees("the clock of the repository's server", self._remote)
        off = sorted((skew, name) for name, skew in self._members.items() if abs(skew) > _SKEW)
        if len(off) * 2 > len(self._members):
            skew, name = off[len(off) // 2]
            return _disagrees(f"the clock of {len(off)} of {len(self._members)} members ({name})", skew)
        return ""


def _disagrees(whose: str, ahead: timedelta) -> str:
    told = format_duration(timedelta(seconds=round(abs(ahead).total_seconds())))
    side = "ahead of" if ahead > timedelta(0) else "behind"
    return f"{whose} is {told} {side} this clock: no wait passes until they agree"
