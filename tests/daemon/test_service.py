"""When the service makes a pass."""

import threading
from collections.abc import Iterable
from types import SimpleNamespace

from reconciler.clock import Clock
from reconciler.daemon.service import Service


class Woken(threading.Event):
    """What wakes the service: told beforehand at which waits something comes in, and how often it was waited."""

    def __init__(self, comes: Iterable[bool]) -> None:
        super().__init__()
        self._comes = iter(comes)
        self.waits = 0

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waits += 1
        return next(self._comes)


def service(*, called: Iterable[bool], comes: Iterable[bool] = ()) -> tuple[Service, Woken]:
    """Return a service; `called` says, time and again, whether some member is being called."""
    calls = iter(called)
    reconciler = SimpleNamespace(workers=SimpleNamespace(is_calling=lambda: next(calls)))
    made, woken = Service(lambda _: reconciler, Clock(), 30.0), Woken(comes)  # type: ignore[arg-type, return-value]
    made._wake = woken
    return made, woken


def test_a_pass_is_not_put_off_where_no_member_is_called():
    made, woken = service(called=[False])
    made.poke()
    made._gather()
    assert (woken.waits, woken.is_set()) == (0, False)


def test_a_pass_is_put_off_while_more_members_answer():
    made, woken = service(called=[True] * 3, comes=[True, True, False])
    made._gather()
    assert woken.waits == 3


def test_a_pass_is_not_put_off_once_the_last_member_has_answered():
    made, woken = service(called=[True, False], comes=[True])
    made._gather()
    assert woken.waits == 1


def test_nothing_is_waited_for_at_the_end():
    made, woken = service(called=[True])
    made.stop()
    made._gather()
    assert woken.waits == 0
