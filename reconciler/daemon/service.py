"""The service: passes when something may have happened, back-off when Git is unwell, a clean end on SIGTERM.

APScheduler provides the poll and the timers; they only wake the one thread that makes passes.
"""

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import structlog
from apscheduler.schedulers.background import BackgroundScheduler

from reconciler.clock import Clock, monotonic, wall
from reconciler.daemon.greeting import greet_all, warn_of_strangers
from reconciler.daemon.guards import HeldError
from reconciler.daemon.reconcile import Pass, Reconciler
from reconciler.errors import TemporaryError

logger = structlog.get_logger()

_LONGEST_BACKOFF_SECONDS = 300.0
_RACES = 5
"""How often a lost race is run again at once."""
_QUIET_SECONDS = 0.01
_GATHER_SECONDS = 0.05
"""So long at most a pass is put off while more comes in."""
_REPACK_SECONDS = 6 * 3600
_ENDS = (signal.SIGTERM, signal.SIGINT)
_POKES = (signal.SIGHUP, signal.SIGUSR1)


class Service:
    """Makes passes until it is told to stop."""

    def __init__(self, reconciler: Callable[[Callable[[], None]], Reconciler], clock: Clock, poll: float) -> None:
        """`reconciler` makes the reconciler, given what wakes this service; `poll` is in seconds."""
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._clock, self._poll = clock, poll
        self._reconciler = reconciler(self.poke)
        self._failures = 0
        self._held = ""
        self._scheduler = BackgroundScheduler(
            timezone="UTC", job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        )

    def poke(self) -> None:
        """Ask for a pass as soon as possible; safe from any thread."""
        self._wake.set()

    def stop(self) -> None:
        """Ask for the end: what is in hand is finished, nothing new is begun; safe from any thread."""
        self._stop.set()
        self._wake.set()

    def run(self) -> None:
        """Serve until stopped, from the main thread; returns once everything in hand is finished."""
        with self._heeding_signals():
            self._serve()

    def _serve(self) -> None:
        self._scheduler.add_job(self.poke, "interval", seconds=self._poll, jitter=self._poll / 10, id="poll")
        self._scheduler.add_job(self._repack, "interval", seconds=_REPACK_SECONDS, jitter=600, id="repack")
        self._scheduler.start()
        logger.info("serving", repo=self._reconciler.mirror.push_url, poll_period_seconds=self._poll)
        is_greeted = False
        try:
            while not self._stop.is_set():
                self._one()
                if not is_greeted and self._reconciler.derivation.view.head is not None:
                    self._greet()  # only now, so that the first pass waits for no thread of theirs
                    is_greeted = True
                # the scheduler lives by the wall clock; should that be set back, this wait still ends
                self._wake.wait(timeout=2 * self._poll)
                self._gather()
        finally:
            self._scheduler.shutdown(wait=False)
            self._finish()

    def _greet(self) -> None:
        reconciler = self._reconciler
        settings, declared = reconciler.settings, reconciler.derivation.view.clusters()
        if settings.delivery_default is None and not settings.delivery_clusters:
            return  # which was said once, for all of them
        warn_of_strangers(settings, declared)
        greet_all(settings, declared, reconciler.deliveries, self._stop.is_set)

    @contextmanager
    def _heeding_signals(self) -> Iterator[None]:
        """Act on signals until the end of the block, at once, whichever thread the kernel hands them to.

        Python runs handlers in the main thread alone, and a signal that another thread got does not wake it. But the
        number goes to the wakeup descriptor from any thread. Nothing is blocked: children would inherit that.
        """
        heard, told = socket.socketpair()
        told.settimeout(0)
        listener = threading.Thread(target=self._listen, args=(heard,), name="signals", daemon=True)
        before = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
        for name in (*_ENDS, *_POKES):
            signal.signal(name, _leave_to_listener)
        listener.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            told.close()
            listener.join()

    def _listen(self, heard: socket.socket) -> None:
        """Do what the signals ask for, until nobody tells of them any more."""
        with heard:
            while numbers := heard.recv(64):
                if any(one in _ENDS for one in numbers):
                    self.stop()
                elif any(one in _POKES for one in numbers):
                    self.poke()

    def _gather(self) -> None:
        """Wait for more, a moment, while members are called: those that were started together answer together."""
        until = monotonic() + _GATHER_SECONDS
        self._wake.clear()
        while self._reconciler.workers.is_calling() and not self._stop.is_set() and monotonic() < until:
            if not self._wake.wait(timeout=_QUIET_SECONDS):
                return
            self._wake.clear()

    def _one(self) -> None:
        """Make a pass, and again at once while another daemon is faster; a fault is said and waited out."""
        try:
            for _ in range(_RACES):
                done = self._reconciler.run_pass()
                if not done.lost_race:
                    break
        except HeldError as error:
            self._say_held(str(error))
            return
        except TemporaryError as error:
            self._back_off(error)
            return
        except Exception:
            logger.exception("the pass failed; the next one begins anew")
            self._wake_in(min(2.0**self._failures, _LONGEST_BACKOFF_SECONDS))
            self._failures += 1
            return
        self._failures, self._held = 0, ""
        self._arm(done)

    def _say_held(self, why: str) -> None:
        if why != self._held:
            logger.error("held", reason=why)
        self._held = why

    def _back_off(self, error: TemporaryError) -> None:
        pause = min(2.0**self._failures, _LONGEST_BACKOFF_SECONDS)
        logger.warning("git is unwell; clusters keep what they have", error=str(error), retry_in_seconds=pause)
        self._failures += 1
        self._wake_in(pause)

    def _wake_in(self, seconds: float) -> None:
        """Set the one timer."""
        at = wall() + timedelta(seconds=seconds)
        self._scheduler.add_job(self.poke, "date", run_date=at, id="timer", replace_existing=True)

    def _arm(self, done: Pass) -> None:
        """Set the timer for the next moment at which time alone can change something."""
        if done.recheck_at is not None:
            self._wake_in(max(0.0, (done.recheck_at - self._clock.now()).total_seconds()))

    def _repack(self) -> None:
        with suppress(TemporaryError):
            self._reconciler.mirror.repack()

    def _finish(self) -> None:
        """Wait for the workers, record what they still answered, and leave."""
        self._reconciler.workers.close(timeout=20.0)
        self._reconciler.closing = True
        with suppress(TemporaryError, HeldError):
            self._reconciler.run_pass()
        self._reconciler.keep()
        logger.info("stopped")


def _leave_to_listener(*_: Any) -> None:
    """Keep the signal from ending the process; a signal that is ignored altogether would not be told of."""


def drain(reconciler: Reconciler, woken: threading.Event) -> Pass:
    """Make passes until nothing more can happen without time, people or clusters.

    Raises:  HeldError, TemporaryError as a pass does.
    """
    while True:
        woken.clear()
        done = reconciler.run_pass()
        if done.recorded or done.lost_race:
            continue
        if reconciler.idle():
            return done
        woken.wait(timeout=1.0)
