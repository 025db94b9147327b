"""The only reader of time.

`now` is the wall clock at start plus monotonic time since, so that a wall clock set back or forward
while the daemon runs moves no wait; and it is never before a floor, the newest status commit's time.
"""

import time
from datetime import UTC, datetime, timedelta


class Clock:
    """One disciplined clock per process; everything below it takes `now` as an argument."""

    def __init__(self) -> None:
        self._wall = datetime.now(UTC)
        self._start = time.monotonic()
        self._floor = self._wall

    def now(self) -> datetime:
        """Return the present moment, aware UTC, microseconds; it never goes back."""
        moment = max(self._wall + timedelta(seconds=time.monotonic() - self._start), self._floor)
        self._floor = moment
        return moment

    def never_before(self, moment: datetime) -> None:
        """Raise the floor, as the newest status commit's time asks."""
        self._floor = max(self._floor, moment)


def monotonic() -> float:
    """Return seconds for deadlines and back-off; comparable only within this process."""
    return time.monotonic()


def wall() -> datetime:
    """Return the wall clock, aware UTC, for ages in tables and for people's commits."""
    return datetime.now(UTC)


def sleep(seconds: float) -> None:
    """Wait, seconds."""
    time.sleep(seconds)
