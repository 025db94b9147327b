"""The workers: they keep at what is wanted of the members and hand in what changed; they decide nothing.

The daemon says with `want` everything that is wanted now, and drains `take` when it is woken. Each cluster is
called by one thread at a time, so that a slow member delays only itself. What is wanted, and when to stop wanting it,
is the plan's business; what happens on a member is the backend's.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from threading import Condition, Thread

import structlog

from reconciler.clock import Clock, monotonic
from reconciler.core.actions import Action, Content, Deliver, Fence, Observe, Outcome, Reason, Report, Withdraw
from reconciler.core.model import Key
from reconciler.delivery.base import Delivery, answered
from reconciler.redact import line

LOOK_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
LONGEST_KNOCK_SECONDS = 2.0
"""The same where a member lets nobody in: a knock costs it a request or two, and its coming back is to be noticed."""
MAX_WORKERS = 64
_KNOCKING = 0.25
"""Of the workers, the share that knocks at members that let nobody in: most of the time they are held for nothing."""

_NOT_LET_IN = frozenset({Reason.UNREACHABLE, Reason.UNAUTHORIZED, Reason.NOT_CONFIGURED})

_log = structlog.get_logger(__name__)


# -- one action ------------------------------------------------------------------------------------------------------


def carry_out(
    action: Action, delivery: Delivery | None, content: Content | None, fence: Fence, now: datetime
) -> Outcome:
    """Carry out one action, once, and return its outcome; no error leaves it.

    `delivery` None: the operator did not configure the cluster. `content` None is right for a Withdraw only.
    """
    return Outcome(target=action.target, report=ask(action, delivery, content, fence), observed_at=now)


def ask(action: Action, delivery: Delivery | None, content: Content | None, fence: Fence) -> Report:
    """Carry out one action, once, and return what the member said, or what its error amounts to."""
    if delivery is None:
        setting = f"delivery.clusters.{action.target.cluster}"
        return Report(complete=None, reason=Reason.NOT_CONFIGURED, message=line(f"{setting} is not in the settings"))
    return _guarded(action, lambda: _call(action, delivery, content, fence))


def _call(action: Action, delivery: Delivery, content: Content | None, fence: Fence) -> Report:
    placement = action.target.placement
    if isinstance(action, Withdraw):
        return delivery.withdraw(placement, fence, keep=action.keep)
    assert content is not None
    if isinstance(action, Deliver):
        return delivery.deliver(placement, content, fence)
    return delivery.observe(placement, content, fence)


def _guarded(action: Action, call: Callable[[], Report]) -> Report:
    try:
        return answered(call)
    except Exception as error:  # noqa: BLE001 - one member's bug, whatever it is, stays that member's
        target = action.target
        doing = type(action).__name__.lower()
        _log.exception("a member's worker failed", cluster=target.cluster, placement=str(target.placement), doing=doing)
        message = line(f"{doing} failed with {type(error).__name__}: {error}")
        return Report(complete=None, reason=Reason.UNREACHABLE, message=message)


# -- one job -----------------------------------------------------------------------------------------------------------

_Name = tuple[Key, str]


@dataclass(slots=True, kw_only=True)
class _Job:
    """One intent being carried out on one cluster; changed only under the workers' lock."""

    action: Action
    due: float
    called: bool = False
    ended: bool = False
    ended_and_taken: bool = False
    looking: bool = False
    failures: int = 0
    told: Report | None = None
    content: Content | None = None

    @property
    def cluster(self) -> str:
        """The cluster it works on."""
        return self.action.target.cluster

    @property
    def next_action(self) -> Action:
        """What the next call does: once the content is there, a Deliver only looks."""
        action = self.action
        if isinstance(action, Deliver) and self.looking:
            return Observe(target=action.target, snapshot_index=action.snapshot_index, hash=action.hash)
        return action

    def asked_for(self, action: Action, now: float) -> None:
        """Take over what the plan now says of the same intent."""
        if isinstance(action, Deliver) and not isinstance(self.action, Deliver):
            self.told = None if self.ended else self.told  # who has ended will hear of it again
            self.looking = self.ended = self.ended_and_taken = False
            self.due = now
        self.action = action
        if self.ended_and_taken:  # it came back well and yet is still wanted: what it told was lost, so tell again
            self.ended = self.ended_and_taken = False
            self.told = None
            self.due = now + LOOK_SECONDS

    def settle(
        self,
        report: Report,
        *,
        hash_wanted: str | None,
        now: float,
        look: float,
        jitter: "_Jitter",
        took: float = 0.0,
    ) -> None:
        """Decide from a report, and from how many seconds the call took, whether and when to call again."""
        looked, self.called = self.looking, True
        self.looking = report.complete is not None and report.complete == hash_wanted
        self.ended = report.reason is Reason.WITHDRAWN or (self.looking and report.healthy)
        if self.looking or self.ended:
            self.failures = 0
            self.due = now + (max(look, took) if looked else look)  # a long look is followed by as long a rest
            return
        self.due = now + max(self._pause(report, jitter, took), report.pause_seconds)
        self.failures += 1

    def _pause(self, report: Report, jitter: "_Jitter", took: float) -> float:
        if not _lets_nobody_in(report):
            return jitter(pause_ceiling(self.failures))
        # a thread rests as long as it was held, but never so long that the member's coming back is seen late
        return max(jitter(pause_ceiling(self.failures, LONGEST_KNOCK_SECONDS)), min(took, LONGEST_KNOCK_SECONDS))


_Jitter = Callable[[float], float]


def _lets_nobody_in(report: Report) -> bool:
    """Tell whether a report is about the whole member: it did not answer, or not us."""
    return not report.object and report.reason in _NOT_LET_IN


def pause_ceiling(failures: int, longest: float = LONGEST_PAUSE_SECONDS) -> float:
    """Return the longest pause, in seconds, after so many failures before this one: 1, 2, 4 … `longest`."""
    return min(longest, 2.0 ** min(failures, 10))


def full_jitter(ceiling: float) -> float:
    """Return a pause anywhere up to the ceiling, so that a fleet that comes back is not called all at once."""
    return random.uniform(0, ceiling)  # noqa: S311 - spreads load, guards nothing


# -- all of them -------------------------------------------------------------------------------------------------------


class Workers:
    """Carries out what is wanted, a thread per busy cluster; all methods may be called from any thread.

    `deliveries` gives a cluster's delivery (None: not configured), `content` what an action's hash stands for, `fence`
    the fence of an intent's `seq`; they are called from the workers' threads. `on_outcome` is told, from such a thread
    and with no lock held, that there is something to `take`.
    """

    def __init__(
        self,
        deliveries: Callable[[str], Delivery | None],
        content: Callable[[Deliver | Observe], Content],
        fence: Callable[[int], Fence],
        clock: Clock,
        on_outcome: Callable[[], None],
        *,
        look_seconds: float = LOOK_SECONDS,
        max_workers: int = MAX_WORKERS,
        jitter: _Jitter = full_jitter,
    ) -> None:
        self._deliveries, self._content, self._fence = deliveries, content, fence
        self._clock, self._on_outcome = clock, on_outcome
        self._look, self._max_workers, self._jitter = look_seconds, max_workers, jitter
        self._changed = Condition()
        self._jobs: dict[_Name, _Job] = {}
        self._busy: set[str] = set()
        self._shut: set[str] = set()
        self._outcomes: list[tuple[_Job, Outcome]] = []
        self._dispatcher: Thread | None = None
        self._closing = False

    def want(self, actions: Iterable[Action]) -> None:
        """Set the complete list of what is wanted now; what is not in it ends after the call it is in."""
        wanted = _newest(actions)
        now = monotonic()
        with self._changed:
            for name in self._jobs.keys() - wanted.keys():
                del self._jobs[name]
            for name, action in wanted.items():
                job = self._jobs.get(name)
                if job is not None and job.action.target == action.target:
                    job.asked_for(action, now)
                else:
                    self._jobs[name] = _Job(action=action, due=now)
            self._start_dispatcher()
            self._changed.notify_all()

    def take(self) -> tuple[Outcome, ...]:
        """Return the outcomes since the last call, oldest first."""
        with self._changed:
            taken, self._outcomes = self._outcomes, []
            for job, _ in taken:
                job.ended_and_taken = job.ended
            return tuple(outcome for _, outcome in taken)

    def poke_all(self) -> None:
        """Try everything again now, whatever its pause: something changed that may help."""
        with self._changed:
            for job in self._jobs.values():
                job.called, job.due = False, monotonic()
            self._changed.notify_all()

    def tell_again(self) -> None:
        """Hand in every job's next report even if it is nothing new: what was taken did not get recorded."""
        with self._changed:
            for job in self._jobs.values():
                job.told = None
                job.called = job.ended = job.ended_and_taken = False
                job.due = monotonic()
            self._changed.notify_all()

    def idle(self) -> bool:
        """Tell whether nothing is being called, nothing is due, and no outcome waits to be taken.

        Jobs that wait for their next look or try do not count: they need time, or the cluster.
        """
        with self._changed:
            now = monotonic()
            queued = any(not job.ended and (not job.called or self._is_next(job, now)) for job in self._jobs.values())
            return not (self._busy or self._outcomes or queued)

    def is_calling(self) -> bool:
        """Tell whether a member is being called in this moment, so that more may be heard at any time."""
        with self._changed:
            return bool(self._busy)

    def close(self, timeout: float) -> bool:
        """Start nothing more, wait up to `timeout` seconds for what is in hand; return whether all of it finished."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._busy, timeout)

    # -- the dispatcher's thread

    def _start_dispatcher(self) -> None:
        if self._dispatcher is None and not self._closing:
            self._dispatcher = Thread(target=self._dispatch, name="workers", daemon=True)
            self._dispatcher.start()

    def _dispatch(self) -> None:
        with self._changed:
            while not self._closing:
                now = monotonic()
                for name, job in self._ready(now):
                    self._start(name, job, now)
                self._changed.wait(self._until_next(now))

    def _ready(self, now: float) -> list[tuple[_Name, _Job]]:
        """Return the jobs to start, longest due first, one per free cluster, as many as there is room for."""
        due = sorted(
            ((name, job) for name, job in self._jobs.items() if not job.ended and job.due <= now),
            key=lambda one: one[1].due,
        )
        first: dict[str, tuple[_Name, _Job]] = {}
        for name, job in due:
            if job.cluster not in self._busy:
                first.setdefault(job.cluster, (name, job))
        return self._fitting(first.values())

    def _is_next(self, job: _Job, now: float) -> bool:
        """Tell whether a job is due that need not wait for its turn to knock."""
        return job.due <= now and job.cluster not in self._shut

    def _fitting(self, ready: Iterable[tuple[_Name, _Job]]) -> list[tuple[_Name, _Job]]:
        """Return those for whom there is room; those that only knock leave most of it to the others."""
        room = self._max_workers - len(self._busy)
        room_to_knock = max(1, int(_KNOCKING * self._max_workers)) - len(self._busy & self._shut)
        fitting: list[tuple[_Name, _Job]] = []
        for name, job in ready:
            knocks = job.cluster in self._shut
            if len(fitting) < room and (room_to_knock > 0 or not knocks):
                room_to_knock -= knocks
                fitting.append((name, job))
        return fitting

    def _until_next(self, now: float) -> float | None:
        """Return the seconds until something comes due that is not waiting for a call to end (which wakes us)."""
        waiting = (job.due for job in self._jobs.values() if not job.ended and job.cluster not in self._busy)
        soonest = min((due for due in waiting if due > now), default=None)
        return None if soonest is None else soonest - now

    def _start(self, name: _Name, job: _Job, now: float) -> None:
        self._busy.add(job.cluster)
        try:
            Thread(target=self._work, args=(name, job), name=f"member {job.cluster}", daemon=True).start()
        except RuntimeError:  # the system has no thread left; there may be one later
            _log.exception("no thread for a member", cluster=job.cluster)
            job.due = now + self._look
            self._busy.discard(job.cluster)

    # -- a member's thread

    def _work(self, name: _Name, job: _Job) -> None:
        began = monotonic()
        with self._changed:
            action = job.next_action
        report = _guarded(action, lambda: self._report(job, action))
        with self._changed:
            told = self._hand_in(job, action, report, began)
            self._busy.discard(name[1])
            self._changed.notify_all()
        if told:
            self._wake()

    def _report(self, job: _Job, action: Action) -> Report:
        delivery = self._deliveries(action.target.cluster)
        if delivery is None or isinstance(action, Withdraw):
            return ask(action, delivery, None, self._fence(action.target.seq))
        if job.content is None:
            job.content = self._content(action)
        return ask(action, delivery, job.content, self._fence(action.target.seq))

    def _hand_in(self, job: _Job, action: Action, report: Report, began: float) -> bool:
        """Settle the job and queue the report if it says anything new; return whether it does."""
        wanted = None if isinstance(action, Withdraw) else action.hash
        now = monotonic()
        job.settle(report, hash_wanted=wanted, now=now, look=self._look, jitter=self._jitter, took=now - began)
        (self._shut.add if _lets_nobody_in(report) else self._shut.discard)(job.cluster)
        if report == job.told:
            return False
        job.told = report
        outcome = Outcome(target=action.target, report=report, observed_at=self._clock.now())
        self._outcomes.append((job, outcome))
        return True

    def _wake(self) -> None:
        try:
            self._on_outcome()
        except Exception:  # noqa: BLE001 - the next pass comes anyway; the members go on
            _log.exception("the daemon could not be told of an outcome")


def _newest(actions: Iterable[Action]) -> dict[_Name, Action]:
    """Return one action per placement and cluster: that of the newest intent."""
    newest: dict[_Name, Action] = {}
    for action in actions:
        name = (action.target.placement, action.target.cluster)
        if name not in newest or newest[name].target.seq <= action.target.seq:
            newest[name] = action
    return newest
