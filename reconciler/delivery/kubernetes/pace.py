"""How many requests a member gets in a second, whoever asks: a bucket of tokens, as in every client of Kubernetes."""

import threading

from reconciler.clock import monotonic, sleep
from reconciler.errors import TemporaryError


class Pace:
    """Lets `burst` requests go at once and `qps` a second in the long run; may be used by several threads at once."""

    def __init__(self, *, qps: float, burst: int) -> None:
        """Begin with a full bucket."""
        self._qps, self._burst = qps, burst
        self._lock = threading.Lock()
        self._tokens, self._counted_at = float(burst), monotonic()

    def wait(self, most: float) -> None:
        """Wait for the next request's turn; raises TemporaryError at once where that is over `most` seconds away."""
        seconds = self._take(most)
        if seconds > 0:
            sleep(seconds)

    def _take(self, most: float) -> float:
        """Take a token, which may be one that is still to come, and return in how many seconds it is there."""
        with self._lock:
            now = monotonic()
            tokens = min(self._burst, self._tokens + (now - self._counted_at) * self._qps) - 1
            seconds = max(0.0, -tokens / self._qps)
            if seconds > most:
                message = f"the ceiling of {self._qps:g} requests a second (qps) leaves no turn within {most:g} s"
                raise TemporaryError(message, pause_seconds=seconds - most)
            self._tokens, self._counted_at = tokens, now
            return seconds
