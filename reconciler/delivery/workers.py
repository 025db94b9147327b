"""The workers: they keep at what is wanted of the members and hand in what changed; they decide nothing.

The daemon says with `want` everything that is wanted now, and drains `take` when it is woken. Each cluster is
called by one thread at a time, so that a slow member delays only itself. What is wanted, and when to stop wanting it,
is the plan's business; what happens on a member is the backend's.
"""

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from threading import Condition, Thread

import structlog

from reconciler.clock import Clock, monotonic
from reconciler.core.actions import Action, Content, Deliver, Fence, Observe, Outcome, Reason, Report, Withdraw
from reconciler.core.model import Key
from reconciler.delivery.base import Delivery, answered, not_configured
from reconciler.redact import line

LOOK_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
LONGEST_KNOCK_SECONDS = 2.0
"""The same where it is the member that has to change: its coming back is to be noticed."""
WORDS_STAND_SECONDS = (2.0, 30.0, 60.0, 120.0, 300.0)
"""How long the words of a report stand before others for the same facts are told, the first time and each further."""
MAX_WORKERS = 64
_KNOCKING = 0.25
"""Of the workers, the share that calls members that gave no answer last time: mostly they are held for nothing."""
_REST = 3
"""A member that answers, and not all is there yet, is left alone so many times as long as the tries at it take."""

_Jitter = Callable[[float], float]
_MUTE = frozenset({Reason.UNREACHABLE, Reason.UNAUTHORIZED, Reason.NOT_CONFIGURED})
_WAITS_FOR_THE_MEMBER = _MUTE | {Reason.INCOMPLETE}

_log = structlog.get_logger(__name__)


# -- one action ------------------------------------------------------------------------------------------------------


def ask(action: Action, delivery: Delivery | None, content: Content | None, fence: Fence) -> Report:
    """Carry out one action, once, and return what the member said, or what its error amounts to; none leaves it.

    `delivery` None: the operator did not configure the cluster. `content` None is right for a Withdraw only.
    """
    if delivery is None:
        return not_configured(action.target.cluster)
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
    told_at: float = 0.0
    rewordings: int = 0
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
        jitter: _Jitter,
        took: float = 0.0,
        failing: int = 1,
    ) -> None:
        """Decide from a report, and from how many seconds the call took, whether and when to call again.

        `failing` is how many jobs of the member are tried again and again.
        """
        looked, self.called = self.looking, True
        self.looking = report.complete is not None and report.complete == hash_wanted
        self.ended = report.reason is Reason.WITHDRAWN or (self.looking and report.healthy)
        if self.looking or self.ended:
            self.failures = 0
            self.due = now + (max(look, took) if looked else look)  # a long look is followed by as long a rest
            return
        self.due = now + pause(report, self.failures, took * max(1, failing), jitter)
        self.failures += 1

    def is_news(self, report: Report, now: float) -> bool:
        """Tell whether a report says anything new, and take it as told; mere words are told more and more rarely."""
        if self.told is not None and report.facts == self.told.facts:
            stood, stands = now - self.told_at, WORDS_STAND_SECONDS[self.rewordings]
            if report == self.told or stood < stands:
                return False
            lasted = stood >= 2 * stands  # what was so for long is not what changes all the time
            self.rewordings = 0 if lasted else min(self.rewordings + 1, len(WORDS_STAND_SECONDS) - 1)
        elif self.told is not None:
            self.rewordings = 0
        self.told, self.told_at = report, now
        return True

    def is_turned_away(self, until: float) -> None:
        """Wait for the member, which did not get so far as to hear what is wanted."""
        self.called, self.looking, self.due = True, False, until


def pause(report: Report, failures: int, took: float, jitter: _Jitter) -> float:
    """Return the seconds until the next try, after a report that came after so many failures and `took` seconds.

    What waits for the member is tried again soon, resting at least as long as the try took; what waits for a change
    of the content, more and more rarely.
    """
    if report.reason not in _WAITS_FOR_THE_MEMBER:
        return max(jitter(pause_ceiling(failures)), report.pause_seconds)
    # how long a member that does not answer held the thread is no measure: its coming back would be seen late
    rest = min(_REST * took, LONGEST_PAUSE_SECONDS) if report.object else min(took, LONGEST_KNOCK_SECONDS)
    return max(jitter(pause_ceiling(failures, LONGEST_KNOCK_SECONDS)), rest, report.pause_seconds)


def pause_ceiling(failures: int, longest: float = LONGEST_PAUSE_SECONDS) -> float:
    """Return the longest pause, in seconds, after so many failures before this one: 1, 2, 4 … `longest`."""
    return min(longest, 2.0 ** min(failures, 10))


def full_jitter(ceiling: float) -> float:
    """Return a pause anywhere up to the ceiling, so that a fleet that comes back is not called all at once."""
    return random.uniform(0, ceiling)  # noqa: S311 - spreads load, guards nothing


# -- one member --------------------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class _Member:
    """One cluster: its jobs by their placements, and its circuit breaker; changed only under the workers' lock.

    While the member turns us away, one job knocks for all of them, and those that are due hear what it heard.
    """

    jobs: dict[Key, _Job] = field(default_factory=dict)
    busy: bool = False
    is_mute: bool = False
    """Whether it gave no answer when it was last called, or not to us; it may have held its thread for long."""
    knocks: int = 0
    not_before: float = 0.0

    @property
    def failing(self) -> int:
        """How many jobs came to nothing when they were last tried."""
        return sum(job.failures > 0 for job in self.jobs.values())

    def next_job(self) -> "_Due | None":
        """Return the job to call next, if any, and when it is due."""
        first: _Job | None = None
        for job in self.jobs.values():
            if not job.ended and (first is None or job.due < first.due):
                first = job
        return None if first is None else (self.due_of(first), self, first)

    def due_of(self, job: _Job) -> float:
        """Return the moment (monotonic) from which on the job may be called."""
        return max(job.due, self.not_before)

    def turns_away(self, job: _Job, report: Report, *, now: float, took: float, jitter: _Jitter) -> list[_Job]:
        """Open the breaker: the jobs that are due wait for it; return those of them that hear of it.

        Who knows something of its content hears of it the second time: one answer that was lost is no outage.
        """
        self.not_before = now + pause(report, self.knocks, took, jitter)
        self.knocks += 1
        waiting = [one for one in self.jobs.values() if one is not job and not one.ended and one.due <= now]
        for one in (job, *waiting):
            one.is_turned_away(self.not_before)
        return [job, *(one for one in waiting if one.told is None or self.knocks > 1)]

    def tries_again(self, now: float) -> None:
        """Make due what came to nothing: what another placement has brought, or let go of, may be what it waits for."""
        for job in self.jobs.values():
            if job.failures:
                job.due = now

    def lets_in(self) -> None:
        """Close the breaker."""
        self.knocks, self.not_before = 0, 0.0


_Due = tuple[float, _Member, _Job]


# -- all of them -------------------------------------------------------------------------------------------------------


class Workers:
    """Carries out what is wanted, a thread per busy cluster; all methods may be called from any thread.

    `deliveries` gives a cluster's delivery (None: not configured), `content` what an action's hash stands for, `fence`
    the fence of an intent's `seq`; `may_write` raises TemporaryError where nothing may be written now, and is asked
    before each call that writes. They are called from the workers' threads. `on_outcome` is told, from such a thread
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
        may_write: Callable[[], None],
        look_seconds: float = LOOK_SECONDS,
        max_workers: int = MAX_WORKERS,
        jitter: _Jitter = full_jitter,
    ) -> None:
        self._deliveries, self._content, self._fence, self._may_write = deliveries, content, fence, may_write
        self._clock, self._on_outcome = clock, on_outcome
        self._look, self._max_workers, self._jitter = look_seconds, max_workers, jitter
        self._changed = Condition()
        self._members: dict[str, _Member] = {}
        self._outcomes: list[tuple[_Job, Outcome]] = []
        self._dispatcher: Thread | None = None
        self._closing = False

    def want(self, actions: Iterable[Action]) -> None:
        """Set the complete list of what is wanted now; what is not in it ends after the call it is in."""
        wanted = _newest(actions)
        now = monotonic()
        with self._changed:
            for cluster in dict.fromkeys((*self._members, *wanted)):
                self._want_of(self._members.setdefault(cluster, _Member()), wanted.get(cluster, {}), now)
            # what is known of a member of which nothing is wanted any more grows old
            self._members = {name: one for name, one in self._members.items() if one.jobs or one.busy}
            self._start_dispatcher()
            self._changed.notify_all()

    def _want_of(self, member: _Member, wanted: Mapping[Key, Action], now: float) -> None:
        for placement in member.jobs.keys() - wanted.keys():
            del member.jobs[placement]
        for placement, action in wanted.items():
            job = member.jobs.get(placement)
            if job is not None and job.action.target == action.target:
                job.asked_for(action, now)
            else:
                member.jobs[placement] = _Job(action=action, due=now)
                member.not_before = min(member.not_before, now)  # it shall hear at once how things are

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
            for job in self._now():
                job.called = False
            self._changed.notify_all()

    def tell_again(self) -> None:
        """Hand in every job's next report even if it is nothing new: what was taken did not get recorded."""
        with self._changed:
            for job in self._now():
                job.told = None
                job.called = job.ended = job.ended_and_taken = False
            self._changed.notify_all()

    def _now(self) -> list[_Job]:
        """Return all jobs, each of them due now."""
        now = monotonic()
        for member in self._members.values():
            member.not_before = now
            for job in member.jobs.values():
                job.due = now
        return [job for member in self._members.values() for job in member.jobs.values()]

    def idle(self) -> bool:
        """Tell whether nothing is being called, nothing is due, and no outcome waits to be taken.

        Jobs that wait for their next look or try do not count: they need time, or the cluster; so do further calls of a
        member that gave no answer to the last one.
        """
        with self._changed:
            now = monotonic()
            members = self._members.values()
            busy = any((one.busy and not one.is_mute) or self._has_queued(one, now) for one in members)
            return not (busy or self._outcomes)

    def _has_queued(self, member: _Member, now: float) -> bool:
        """Tell whether a job was never called, or is due and need not wait for its turn to knock."""
        return any(
            not job.ended and (not job.called or (job.due <= now and not member.is_mute))
            for job in member.jobs.values()
        )

    def is_calling(self) -> bool:
        """Tell whether a member is being called in this moment, so that more may be heard at any time."""
        with self._changed:
            return self._is_busy()

    def close(self, timeout: float) -> bool:
        """Start nothing more, wait up to `timeout` seconds for what is in hand; return whether all of it finished."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._is_busy(), timeout)

    def _is_busy(self) -> bool:
        return any(member.busy for member in self._members.values())

    # -- the dispatcher's thread

    def _start_dispatcher(self) -> None:
        if self._dispatcher is None and not self._closing:
            self._dispatcher = Thread(target=self._dispatch, name="workers", daemon=True)
            self._dispatcher.start()

    def _dispatch(self) -> None:
        with self._changed:
            while not self._closing:
                now = monotonic()
                jobs = self._next_jobs()
                due = sorted((one for one in jobs if one[0] <= now), key=lambda one: one[0])
                for member, job in self._fitting(due):
                    self._start(member, job, now)
                # what is due and found no room waits for a call to end, which wakes us
                waiting = (member.due_of(job) for _, member, job in jobs if not member.busy)
                soonest = min((due for due in waiting if due > now), default=None)
                self._changed.wait(None if soonest is None else soonest - now)

    def _next_jobs(self) -> list[_Due]:
        """Return the next job of each member that is not being called."""
        found = (member.next_job() for member in self._members.values() if member.jobs and not member.busy)
        return [one for one in found if one is not None]

    def _fitting(self, due: Iterable[_Due]) -> list[tuple[_Member, _Job]]:
        """Return those for whom there is room; members that may not answer leave most of it to the others."""
        busy = [member for member in self._members.values() if member.busy]
        room = self._max_workers - len(busy)
        room_to_knock = max(1, int(_KNOCKING * self._max_workers)) - sum(member.is_mute for member in busy)
        fitting: list[tuple[_Member, _Job]] = []
        for _, member, job in due:
            if len(fitting) < room and (room_to_knock > 0 or not member.is_mute):
                room_to_knock -= member.is_mute
                fitting.append((member, job))
        return fitting

    def _start(self, member: _Member, job: _Job, now: float) -> None:
        member.busy = True
        try:
            Thread(target=self._work, args=(member, job), name=f"member {job.cluster}", daemon=True).start()
        except RuntimeError:  # the system has no thread left; there may be one later
            _log.exception("no thread for a member", cluster=job.cluster)
            job.due = now + self._look
            member.busy = False

    # -- a member's thread

    def _work(self, member: _Member, job: _Job) -> None:
        began = monotonic()
        with self._changed:
            action = job.next_action
        report = _guarded(action, lambda: self._report(job, action))
        with self._changed:
            told = self._hand_in(member, job, action, report, began)
            member.busy = False
            self._changed.notify_all()
        if told:
            self._wake()

    def _report(self, job: _Job, action: Action) -> Report:
        delivery = self._deliveries(action.target.cluster)
        if delivery is not None and not isinstance(action, Observe):
            self._may_write()
        if delivery is None or isinstance(action, Withdraw):
            return ask(action, delivery, None, self._fence(action.target.seq))
        if job.content is None:
            job.content = self._content(action)
        return ask(action, delivery, job.content, self._fence(action.target.seq))

    def _hand_in(self, member: _Member, job: _Job, action: Action, report: Report, began: float) -> bool:
        """Settle the job, and queue the report if it says anything new to anybody; return whether it does."""
        now = monotonic()
        member.is_mute = not report.object and report.reason in _MUTE
        if report.turned_away:
            heard = member.turns_away(job, report, now=now, took=now - began, jitter=self._jitter)
            told = [self._tell(one, one.action, report) for one in heard]
            return any(told)
        member.lets_in()
        was_there = job.looking or job.ended
        wanted = None if isinstance(action, Withdraw) else action.hash
        job.settle(
            report,
            hash_wanted=wanted,
            now=now,
            look=self._look,
            jitter=self._jitter,
            took=now - began,
            failing=member.failing,
        )
        if (job.looking or job.ended) and not was_there:
            member.tries_again(now)
        return self._tell(job, action, report)

    def _tell(self, job: _Job, action: Action, report: Report) -> bool:
        """Queue the report if it says anything new."""
        if not job.is_news(report, monotonic()):
            return False
        outcome = Outcome(target=action.target, report=report, observed_at=self._clock.now())
        self._outcomes.append((job, outcome))
        return True

    def _wake(self) -> None:
        try:
            self._on_outcome()
        except Exception:  # noqa: BLE001 - the next pass comes anyway; the members go on
            _log.exception("the daemon could not be told of an outcome")


def _newest(actions: Iterable[Action]) -> dict[str, dict[Key, Action]]:
    """Return one action per cluster and placement: that of the newest intent."""
    newest: dict[str, dict[Key, Action]] = {}
    for action in actions:
        of_cluster = newest.setdefault(action.target.cluster, {})
        other = of_cluster.get(action.target.placement)
        if other is None or other.target.seq <= action.target.seq:
            of_cluster[action.target.placement] = action
    return newest
