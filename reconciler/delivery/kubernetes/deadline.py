"""A deadline that holds for a whole request: however slowly the other end drips, no read or write goes past it.

The time limit of a socket counts anew for every read, so one byte now and then would keep a caller for ever.
"""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from reconciler.clock import monotonic

_SLACK_SECONDS = 0.1
"""A limit that is so little off stays: to set one is a call of the system, and lets another thread go first."""


class _Current(threading.local):
    until: float | None = None


_current = _Current()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Let no socket that this thread uses inside read or write any longer than this from now."""
    _current.until = monotonic() + seconds
    try:
        yield
    finally:
        _current.until = None


class _Limited:
    """What a socket does that knows the deadline of the thread that uses it."""

    def recv_into(self, *arguments: Any, **options: Any) -> int:
        """Receive, until the deadline."""
        self._limit()
        return super().recv_into(*arguments, **options)  # type: ignore[misc,no-any-return]

    def send(self, *arguments: Any, **options: Any) -> int:
        """Send, until the deadline; `sendall` of a TLS socket sends by this."""
        self._limit()
        return super().send(*arguments, **options)  # type: ignore[misc,no-any-return]

    def _limit(self: Any) -> None:
        if _current.until is None:
            return
        left = _current.until - monotonic()
        if left <= 0:
            raise TimeoutError("the deadline of the request has passed")
        limit = self.gettimeout()
        if limit is None or abs(limit - left) > _SLACK_SECONDS:
            self.settimeout(left)


class DeadlineSocket(_Limited, ssl.SSLSocket):
    """A TLS socket with the deadline of the thread that uses it."""


class PlainDeadlineSocket(_Limited, socket.socket):
    """A socket without TLS, with the same; what is sent by `sendall` has one limit for all of it by itself."""


def limited(plain: socket.socket) -> PlainDeadlineSocket:
    """Return a socket without TLS as one that knows the deadline; the given one is not to be used any more."""
    timeout = plain.gettimeout()
    known = PlainDeadlineSocket(plain.family, plain.type, plain.proto, fileno=plain.detach())
    known.settimeout(timeout)
    return known
