"""The workers, with real threads and awkward members; time is shortened, never slept through."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC
from threading import Event, Lock, Thread
from typing import Any

import pytest
from structlog.testing import capture_logs

from reconciler.clock import Clock, monotonic
from reconciler.core.actions import (
    Action,
    Content,
    Deliver,
    Fence,
    ObjectResult,
    Observe,
    Outcome,
    Reason,
    Report,
    Target,
    Withdraw,
)
from reconciler.core.model import Key
from reconciler.delivery import workers
from reconciler.delivery.base import Delivery, report_of
from reconciler.delivery.workers import Workers, ask, full_jitter, pause, pause_ceiling
from reconciler.errors import PermanentError, TemporaryError
from tests.awkward import Awkward, turned_away
from tests.delivery.benches import NEW, OLD, OTHER, WEB, config_map, content, fence, held_by

PLACEMENTS = tuple(Key(group="", kind="ClusterResourcePlacement", namespace="", name=f"p{n}") for n in range(50))
NAMES = ("others", *(one.name for one in PLACEMENTS))
CONTENTS = {one.hash: one for one in (OLD, NEW, *(content(name, config_map(name)) for name in NAMES))}
LONG = 20.0


def target(cluster: str = "member1", seq: int = 1, placement: Key = WEB) -> Target:
    return Target(placement=placement, cluster=cluster, run_uid=f"run-{seq}", seq=seq)


def deliver(cluster: str = "member1", seq: int = 1, wanted: str = "old", placement: Key = WEB) -> Deliver:
    return Deliver(target=target(cluster, seq, placement), snapshot_index=0, hash=wanted)


def observe(cluster: str = "member1", seq: int = 1, wanted: str = "old") -> Observe:
    return Observe(target=target(cluster, seq), snapshot_index=0, hash=wanted)


def withdraw(cluster: str = "member1", seq: int = 1) -> Withdraw:
    return Withdraw(target=target(cluster, seq))


class Held(Awkward):
    """A member whose calls wait at a door until they are let through; counts who is inside."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.door = Event(), Event()
        self.inside, self.most_inside = 0, 0
        self._count = Lock()

    def deliver(self, placement: Key, content: Content, fence: Fence) -> Report:
        with self._count:
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
        self.entered.set()
        assert self.door.wait(LONG)
        with self._count:
            self.inside -= 1
        return super().deliver(placement, content, fence)


@dataclass
class Fleet:
    """Members and their workers, and what the workers handed in."""

    members: dict[str, Delivery]
    workers: Workers
    woken: Event
    outcomes: list[Outcome] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)

    def until(self, happened: Callable[[], bool]) -> None:
        """Take outcomes, as the daemon does, until something has happened."""
        give_up = Clock().now().timestamp() + LONG
        while not happened():
            assert Clock().now().timestamp() < give_up, self.outcomes
            self.woken.wait(0.005)
            self.woken.clear()
            self.outcomes += self.workers.take()
        self.outcomes += self.workers.take()

    def told(self) -> list[tuple[str, int, Reason]]:
        return [(one.target.cluster, one.target.seq, one.report.reason) for one in self.outcomes]

    def is_told(self, count: int) -> None:
        self.until(lambda: len(self.outcomes) >= count)

    def is_idle(self) -> None:
        self.until(self.workers.idle)


Make = Callable[..., Fleet]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes a fleet of members; pauses after failures are `pause` seconds, whatever their ceiling."""
    made: list[Workers] = []

    def make(pause: float = 0.0, max_workers: int = 64, look: float = 0.002, **members: Delivery) -> Fleet:
        woken, pauses = Event(), list[float]()

        def jitter(ceiling: float) -> float:
            pauses.append(ceiling)
            return pause

        crew = Workers(
            members.get,
            lambda action: CONTENTS[action.hash],
            fence,
            Clock(),
            woken.set,
            may_write=lambda: None,
            look_seconds=look,
            max_workers=max_workers,
            jitter=jitter,
        )
        made.append(crew)
        return Fleet(members=members, workers=crew, woken=woken, pauses=pauses)

    yield make
    for crew in made:
        crew.close(LONG)


# -- one job


def test_a_delivery_that_goes_well_is_one_call_and_one_outcome(make: Make) -> None:
    member = Awkward()
    fleet = make(member1=member)
    fleet.workers.want([deliver()])
    fleet.is_told(1)
    assert member.objects == held_by(OLD)
    assert member.calls == ["deliver old"]
    assert fleet.outcomes == [
        Outcome(
            target=target(),
            report=Report(complete="old", reason=Reason.AVAILABLE),
            observed_at=fleet.outcomes[0].observed_at,
        )
    ]
    assert fleet.outcomes[0].observed_at.tzinfo is UTC


def test_content_that_is_there_but_not_healthy_is_looked_at_until_it_is(make: Make) -> None:
    """It is delivered once; the looks that see nothing new hand in nothing."""
    member = Awkward()
    member.is_slow(looks=5)
    fleet = make(member1=member)
    fleet.workers.want([deliver()])
    fleet.is_told(2)
    assert [reason for _, _, reason in fleet.told()] == [Reason.NOT_AVAILABLE, Reason.AVAILABLE]
    assert member.calls == ["deliver old"] + ["observe old"] * 5


class Wordy(Awkward):
    """Says the same in other words at every look."""

    def observe(self, placement: Key, content: Content, fence: Fence) -> Report:
        report = super().observe(placement, content, fence)
        results = tuple(replace(one, message=f"look {len(self.calls)}") for one in report.results)
        return replace(report, message=f"look {len(self.calls)}", results=results) if results else report


def test_other_words_for_the_same_are_told_more_and_more_rarely(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "WORDS_STAND_SECONDS", (0.05, 0.1, 0.4))
    member = Wordy()
    member.becomes_unavailable()
    fleet = make(member1=member)
    began = monotonic()
    fleet.workers.want([deliver()])
    fleet.is_told(5)
    assert monotonic() - began >= 0.05 + 0.1 + 0.4 + 0.4
    assert len(member.calls) > 10
    texts = [one.report.message for one in fleet.outcomes]
    assert len(set(texts)) == len(texts)
    fleet.workers.tell_again()
    fleet.is_told(6)  # at once, and what follows is as rare as before
    told_again = monotonic()
    fleet.is_told(7)
    assert monotonic() - told_again >= 0.3
    member.heals()
    fleet.until(lambda: fleet.outcomes[-1].report.healthy)  # a fact, and so told at once


@pytest.mark.parametrize(("stood", "more"), [(61.0, False), (601.0, True)])
def test_words_that_stood_for_long_are_followed_soon(stood: float, more: bool) -> None:  # noqa: FBT001
    job, times = workers._Job(action=deliver(), due=0.0), iter(range(100))

    def told(now: float) -> bool:
        report = report_of("old", [ObjectResult(object="x", reason=Reason.NOT_AVAILABLE, message=f"{next(times)}")])
        return job.is_news(report, now)

    moments = [0.0, 3.0, 40.0, 110.0, 240.0]
    assert all(told(now) for now in moments)
    last = moments[-1] + stood + (0 if more else 240)
    assert told(last)
    assert told(last + 3) is more


def test_wanting_the_same_again_changes_nothing(make: Make) -> None:
    member = Awkward()
    member.is_slow(looks=20)
    fleet = make(member1=member)
    for _ in range(10):
        fleet.workers.want([deliver()])
    fleet.is_told(2)
    assert member.calls.count("deliver old") == 1


def test_content_that_is_removed_while_it_is_looked_at_is_delivered_again(make: Make) -> None:
    member = Awkward()
    member.becomes_unavailable()
    fleet = make(member1=member)
    fleet.workers.want([deliver()])
    fleet.is_told(1)
    member.forgets()
    fleet.is_told(3)
    assert [reason for _, _, reason in fleet.told()] == [
        Reason.NOT_AVAILABLE,
        Reason.INCOMPLETE,
        Reason.NOT_AVAILABLE,
    ]
    assert member.calls.count("deliver old") == 2


def test_a_silent_member_is_knocked_at_every_two_seconds_and_told_of_once(make: Make) -> None:
    """Longer pauses would keep a run waiting long after the member has come back."""
    member = Awkward()
    member.falls_silent()
    fleet = make(member1=member)
    fleet.workers.want([deliver()])
    fleet.until(lambda: len(fleet.pauses) >= 4)
    assert fleet.pauses[:4] == [1, 2, 2, 2]
    assert fleet.told() == [("member1", 1, Reason.UNREACHABLE)]
    member.heals()
    fleet.is_told(2)
    assert fleet.told()[1] == ("member1", 1, Reason.AVAILABLE)


def test_what_a_member_refuses_is_tried_with_longer_and_longer_pauses(make: Make) -> None:
    member = Awkward()
    member.refuses("quota exceeded")
    fleet = make(member1=member)
    fleet.workers.want([deliver()])
    fleet.until(lambda: len(fleet.pauses) >= 8)
    assert fleet.pauses[:8] == [1, 2, 4, 8, 16, 32, 60, 60]


INCOMPLETE = Report(complete=None, reason=Reason.INCOMPLETE, object="Namespace web", message="it is being deleted")
SILENT = Report(complete=None, reason=Reason.UNREACHABLE, message="no answer in time")
REFUSED = Report(complete=None, reason=Reason.REFUSED, object="Namespace web", message="quota exceeded")


@pytest.mark.parametrize(
    ("report", "took", "seconds"),
    [
        pytest.param(SILENT, 1.5, 1.5, id="a knock, and a rest as long"),
        pytest.param(SILENT, 10.0, 2.0, id="a request that hung: its coming back would be seen ten seconds late"),
        pytest.param(replace(SILENT, pause_seconds=7.0), 0.1, 7.0, id="the pause that the member asked for"),
        pytest.param(INCOMPLETE, 0.2, 0.6, id="a try that the member answered at once"),
        pytest.param(INCOMPLETE, 5.0, 15.0, id="a try that costs a lot"),
        pytest.param(INCOMPLETE, 500.0, 60.0, id="never more than a minute"),
        pytest.param(REFUSED, 5.0, 0.0, id="what a new content alone can mend"),
    ],
)
def test_the_next_try_is_so_long_after_one_that_took_so_long(report: Report, took: float, seconds: float) -> None:
    assert pause(report, failures=3, took=took, jitter=lambda _: 0.0) == pytest.approx(seconds)


@pytest.mark.parametrize(("report", "ceiling"), [(SILENT, 2.0), (INCOMPLETE, 2.0), (REFUSED, 32.0)])
def test_what_waits_for_the_member_is_tried_again_within_two_seconds(report: Report, ceiling: float) -> None:
    assert pause(report, failures=5, took=0.0, jitter=lambda ceiling: ceiling) == ceiling


def test_a_look_that_takes_long_is_followed_by_a_rest_as_long_as_it_and_a_delivery_is_not(make: Make) -> None:
    """However much there is to look at, a member is asked for half of the time at most."""
    report = Report(complete="old", reason=Reason.NOT_AVAILABLE)
    job = workers._Job(action=deliver(), due=0.0)
    for due in (101.0, 110.0):  # the delivery, then a look
        job.settle(report, hash_wanted="old", now=100.0, look=1.0, jitter=lambda ceiling: ceiling, took=10.0)
        assert job.due == due


def test_the_more_jobs_of_a_member_wait_for_it_the_longer_each_rests(make: Make) -> None:
    """Fifty placements that miss the same kind would else keep it, and what is well on it, busy all of the time."""
    jobs = {one: workers._Job(action=deliver(placement=one), due=0.0, failures=1) for one in PLACEMENTS}
    job, crew = jobs[PLACEMENTS[0]], make().workers
    crew._hand_in(workers._Member(jobs=jobs), job, job.action, INCOMPLETE, began=monotonic() - 0.1)
    assert job.due > monotonic() + 14  # three times the five seconds that a try of each takes


def test_the_pauses_start_over_once_the_content_was_there(make: Make) -> None:
    member = Awkward()
    member.falls_silent()
    fleet = make(member1=member)
    fleet.workers.want([deliver()])
    fleet.until(lambda: len(fleet.pauses) >= 3)
    member.becomes_unavailable()
    member._silent = False
    fleet.is_told(2)
    before = len(fleet.pauses)
    member.falls_silent()
    fleet.until(lambda: len(fleet.pauses) > before)
    assert fleet.pauses[before] == 1


def test_a_pause_is_anything_up_to_its_ceiling_and_a_minute_is_the_longest() -> None:
    assert [pause_ceiling(failures) for failures in (0, 1, 5, 6, 10_000)] == [1, 2, 32, 60, 60]
    pauses = [full_jitter(60) for _ in range(200)]
    assert 0 <= min(pauses) < 20
    assert 40 < max(pauses) <= 60


def test_a_lost_reply_is_found_out_by_doing_it_again(make: Make) -> None:
    member = Awkward()
    member.loses_replies()
    fleet = make(member1=member)
    fleet.workers.want([deliver()])
    fleet.is_told(1)
    member.heals()
    fleet.is_told(2)
    assert [reason for _, _, reason in fleet.told()] == [Reason.UNREACHABLE, Reason.AVAILABLE]
    assert len(member.log) == len(OLD.objects) + 2


def test_a_refusal_is_told_with_the_members_words_and_tried_again(make: Make) -> None:
    member = Awkward()
    member.refuses("quota exceeded")
    fleet = make(member1=member)
    fleet.workers.want([deliver()])
    fleet.until(lambda: len(member.calls) > 2)
    assert fleet.told() == [("member1", 1, Reason.REFUSED)]
    assert fleet.outcomes[0].report.message == "quota exceeded"


def test_a_withdrawal_ends_when_nothing_is_left(make: Make) -> None:
    member = Awkward()
    member.deliver(WEB, OLD, fence(1))
    member.falls_silent()
    fleet = make(member1=member)
    fleet.workers.want([withdraw(seq=2)])
    fleet.is_told(1)
    member.heals()
    fleet.is_told(2)
    assert [reason for _, _, reason in fleet.told()] == [Reason.UNREACHABLE, Reason.WITHDRAWN]
    assert member.objects == {}


def test_to_observe_never_writes_until_a_delivery_is_asked_for(make: Make) -> None:
    member = Awkward()
    fleet = make(member1=member)
    fleet.workers.want([observe()])
    fleet.until(lambda: len(member.calls) > 3)
    assert (fleet.told(), member.log) == ([("member1", 1, Reason.INCOMPLETE)], [])
    fleet.workers.want([deliver()])
    fleet.is_told(2)
    assert member.objects == held_by(OLD)


def test_a_delivery_that_follows_an_observation_is_told_even_if_nothing_is_new(make: Make) -> None:
    member = Awkward()
    member.deliver(WEB, OLD, fence(1))
    fleet = make(member1=member)
    fleet.workers.want([observe()])
    fleet.is_told(1)
    fleet.workers.want([deliver()])
    fleet.is_told(2)
    assert fleet.told() == [("member1", 1, Reason.AVAILABLE)] * 2
    assert member.calls == ["deliver old", "observe old", "deliver old"]


def test_a_delivery_that_becomes_an_observation_goes_on_looking(make: Make) -> None:
    """The plan says so once it knows that the content is there; what was told is not told again."""
    member = Awkward()
    member.becomes_unavailable()
    fleet = make(member1=member)
    fleet.workers.want([deliver()])
    fleet.is_told(1)
    fleet.workers.want([observe()])
    member.heals()
    fleet.is_told(2)
    assert [reason for _, _, reason in fleet.told()] == [Reason.NOT_AVAILABLE, Reason.AVAILABLE]
    assert member.calls.count("deliver old") == 1


# -- what is told


def test_the_first_report_is_always_handed_in_after_a_restart(make: Make) -> None:
    member = Awkward()
    first, second = make(member1=member), make(member1=member)
    for fleet in (first, second):
        fleet.workers.want([deliver()])
        fleet.is_told(1)
        assert fleet.told() == [("member1", 1, Reason.AVAILABLE)]


def test_what_was_taken_and_is_still_wanted_is_looked_at_and_told_again(make: Make) -> None:
    """Else an outcome that was lost before it was recorded would leave the cluster in flight for ever."""
    member = Awkward()
    fleet = make(member1=member)
    fleet.workers.want([deliver()])
    fleet.is_told(1)
    fleet.workers.want([deliver()])
    fleet.is_told(2)
    assert member.calls == ["deliver old", "observe old"]


def test_everything_is_told_again_when_asked_for(make: Make) -> None:
    ill, well = Awkward(), Awkward()
    ill.falls_silent()
    fleet = make(ill=ill, well=well)
    fleet.workers.want([deliver("ill"), deliver("well")])
    fleet.is_told(2)
    fleet.workers.tell_again()
    fleet.is_told(4)
    assert sorted(fleet.told()[2:]) == [("ill", 1, Reason.UNREACHABLE), ("well", 1, Reason.AVAILABLE)]


def test_a_poke_ends_every_pause(make: Make) -> None:
    member = Awkward()
    member.falls_silent()
    fleet = make(pause=3600, member1=member)
    fleet.workers.want([deliver()])
    fleet.is_told(1)
    member.heals()
    fleet.workers.poke_all()
    fleet.is_told(2)
    assert fleet.told()[1] == ("member1", 1, Reason.AVAILABLE)


# -- intents that come and go


def test_a_newer_intent_replaces_an_older_one_whose_call_is_finished_and_told(make: Make) -> None:
    member = Held()
    fleet = make(member1=member)
    fleet.workers.want([deliver()])
    assert member.entered.wait(LONG)
    fleet.workers.want([deliver(seq=2, wanted="new")])
    member.door.set()
    fleet.is_told(2)
    assert fleet.told() == [("member1", 1, Reason.AVAILABLE), ("member1", 2, Reason.AVAILABLE)]
    assert member.objects == held_by(NEW)


def test_of_two_intents_for_one_cluster_the_newer_is_carried_out(make: Make) -> None:
    member = Awkward()
    fleet = make(member1=member)
    fleet.workers.want([deliver(seq=2, wanted="new"), deliver(seq=1)])
    fleet.is_told(1)
    assert member.calls == ["deliver new"]


def test_what_is_no_longer_wanted_ends_after_its_call(make: Make) -> None:
    member, other = Held(), Awkward()
    member.becomes_unavailable()
    fleet = make(member1=member, other=other)
    fleet.workers.want([deliver()])
    assert member.entered.wait(LONG)
    fleet.workers.want([])
    member.door.set()
    fleet.is_told(1)
    assert fleet.told() == [("member1", 1, Reason.NOT_AVAILABLE)]
    other.is_slow(looks=10)
    fleet.workers.want([deliver("other")])
    fleet.is_told(3)
    assert member.calls == ["deliver old"]


def test_a_cluster_that_is_not_configured_waits_and_the_setting_is_named(make: Make) -> None:
    fleet = make()
    fleet.workers.want([deliver("member7")])
    fleet.is_told(1)
    assert fleet.outcomes[0].report == Report(
        complete=None,
        reason=Reason.NOT_CONFIGURED,
        message="delivery.clusters.member7 is not in the settings",
    )


# -- many clusters


def test_a_slow_member_delays_no_other(make: Make) -> None:
    slow = Held()
    others = {f"member{number}": Awkward() for number in range(20)}
    fleet = make(slow=slow, **others)
    fleet.workers.want([deliver("slow"), *(deliver(name) for name in others)])
    fleet.is_told(20)
    assert {cluster for cluster, _, _ in fleet.told()} == set(others)
    slow.door.set()
    fleet.is_told(21)


def test_members_that_only_wait_for_their_next_look_take_no_worker(make: Make) -> None:
    waiting = {f"member{number}": Awkward() for number in range(5)}
    for member in waiting.values():
        member.becomes_unavailable()
    fleet = make(max_workers=1, **waiting, last=Awkward())
    fleet.workers.want([deliver(name) for name in waiting])
    fleet.is_told(5)
    fleet.workers.want([*(deliver(name) for name in waiting), deliver("last")])
    fleet.is_told(6)
    assert fleet.told()[5] == ("last", 1, Reason.AVAILABLE)


def test_no_more_clusters_are_called_at_a_time_than_there_are_workers(make: Make) -> None:
    shared = Held()
    fleet = make(max_workers=3, **{f"member{number}": shared for number in range(8)})
    fleet.workers.want([deliver(f"member{number}") for number in range(8)])
    fleet.until(lambda: shared.inside == 3)
    shared.door.set()
    fleet.is_told(8)
    assert shared.most_inside == 3


def test_the_calls_of_one_cluster_come_one_after_the_other(make: Make) -> None:
    member = Held()
    fleet = make(member1=member)
    fleet.workers.want([deliver(), deliver(wanted="others", placement=OTHER)])
    assert member.entered.wait(LONG)
    member.door.set()
    fleet.is_told(2)
    assert member.most_inside == 1


# -- a member that turns us away


def test_one_job_knocks_at_a_silent_member_for_all_and_all_hear_of_it(make: Make) -> None:
    """Each of them would hold a worker for as long as a member that swallows packets is waited for."""
    member = Awkward()
    member.falls_silent()
    fleet = make(pause=3600, member1=member)
    fleet.workers.want([deliver(placement=one, wanted=one.name) for one in PLACEMENTS])
    fleet.is_told(50)
    assert {one.target.placement for one in fleet.outcomes} == set(PLACEMENTS)
    assert {(one.report.reason, one.report.message) for one in fleet.outcomes} == {(Reason.UNREACHABLE, "no answer")}
    assert len(member.calls) == 1
    member.heals()
    fleet.workers.poke_all()
    fleet.is_told(100)
    assert {one.report.reason for one in fleet.outcomes[50:]} == {Reason.AVAILABLE}


def test_once_one_job_is_let_in_all_go(make: Make) -> None:
    member = Awkward()
    member.falls_silent()
    fleet = make(member1=member)
    fleet.workers.want([deliver(placement=one, wanted=one.name) for one in PLACEMENTS])
    fleet.until(lambda: len(fleet.pauses) >= 4)
    assert fleet.pauses[:4] == [1, 2, 2, 2]
    member.heals()
    fleet.is_told(100)
    assert {one.report.reason for one in fleet.outcomes[50:]} == {Reason.AVAILABLE}


class Needs(Awkward):
    """A member that refuses all placements but one until that one is there, as for want of its namespace."""

    def deliver(self, placement: Key, content: Content, fence: Fence) -> Report:
        if placement != WEB and not self.objects:
            self.calls.append("refused")
            return report_of(
                None, [ObjectResult(object="x", reason=Reason.REFUSED, message="its namespace is missing")]
            )
        return super().deliver(placement, content, fence)


def test_what_one_placement_has_brought_lets_the_others_try_again_at_once(make: Make) -> None:
    fleet = make(pause=LONG, member1=Needs())
    waiting = [deliver(placement=one, wanted=one.name) for one in PLACEMENTS[:2]]
    fleet.workers.want(waiting)
    fleet.is_told(2)
    fleet.workers.want([*waiting, deliver()])
    fleet.is_told(5)
    assert {one.report.reason for one in fleet.outcomes[:2]} == {Reason.REFUSED}
    assert {one.report.reason for one in fleet.outcomes[2:]} == {Reason.AVAILABLE}


def test_what_one_placement_lets_go_of_lets_the_others_try_again_at_once(make: Make) -> None:
    """An object that belongs to one placement is a conflict for another."""
    fleet = make(pause=LONG, member1=Awkward())
    fleet.workers.want([deliver()])
    fleet.is_told(1)
    taking = deliver(seq=2, wanted="old", placement=OTHER)
    fleet.workers.want([taking, deliver()])
    fleet.is_told(2)
    assert fleet.outcomes[-1].report.reason is Reason.CONFLICT
    fleet.workers.want([taking, withdraw(seq=3)])
    fleet.until(lambda: fleet.outcomes[-1].report.reason is Reason.AVAILABLE)


class Blinks(Awkward):
    """A member that does not answer one call, once it is told to."""

    blinks = False

    def _answer(self) -> None:
        if self.blinks:
            self.blinks = False
            raise turned_away("no answer")


def test_one_answer_that_is_lost_is_said_of_one_job_alone(make: Make) -> None:
    """Else a member with many placements, of whose answers one in a hundred is lost, is told of without end."""
    member = Blinks()
    member.becomes_unavailable()
    fleet = make(look=0.0, member1=member)
    fleet.workers.want([deliver(placement=one, wanted=one.name) for one in PLACEMENTS])
    fleet.is_told(50)
    member.blinks = True
    fleet.is_told(52)
    calls = len(member.calls)
    fleet.until(lambda: len(member.calls) > calls + 100)
    assert [one.report.reason for one in fleet.outcomes[50:]] == [Reason.UNREACHABLE, Reason.NOT_AVAILABLE]


class OneIsUnwell(Awkward):
    """A member on which one placement gets no answer, as where a webhook hangs, and all others do."""

    def deliver(self, placement: Key, content: Content, fence: Fence) -> Report:
        if placement == OTHER:
            raise TemporaryError("no answer to a write")
        return super().deliver(placement, content, fence)


def test_what_is_wrong_with_one_placement_is_said_of_no_other(make: Make) -> None:
    member = OneIsUnwell()
    member.refuses("quota exceeded")
    fleet = make(member1=member)
    fleet.workers.want([deliver(placement=OTHER, wanted="others"), deliver(placement=WEB)])
    fleet.until(lambda: len(fleet.pauses) >= 20)
    told = {(one.target.placement, one.report.reason) for one in fleet.outcomes}
    assert told == {(OTHER, Reason.UNREACHABLE), (WEB, Reason.REFUSED)}
    assert len(fleet.outcomes) == 2


def test_who_rests_is_not_told_of_a_door_that_it_did_not_come_to(make: Make) -> None:
    """What a job last heard of its own content stays said until its own next try."""
    member = Awkward()
    member.refuses("quota exceeded")
    fleet = make(pause=3600, member1=member)
    fleet.workers.want([deliver(placement=WEB)])
    fleet.is_told(1)
    member.falls_silent()
    fleet.workers.want([deliver(placement=WEB), deliver(placement=OTHER, wanted="others")])
    fleet.is_told(2)
    fleet.is_idle()
    told = [(one.target.placement, one.report.reason) for one in fleet.outcomes]
    assert told == [(WEB, Reason.REFUSED), (OTHER, Reason.UNREACHABLE)]


def test_a_new_intent_knocks_at_once(make: Make) -> None:
    member = Awkward()
    member.falls_silent()
    fleet = make(pause=3600, member1=member)
    fleet.workers.want([deliver(placement=WEB)])
    fleet.is_told(1)
    member.heals()
    fleet.workers.want([deliver(placement=WEB), deliver(placement=OTHER, wanted="others")])
    fleet.is_told(2)
    assert fleet.told()[1] == ("member1", 1, Reason.AVAILABLE)
    assert fleet.outcomes[1].target.placement == OTHER


class BlackHole(Held):
    """A member that did not answer once, and then holds whoever calls."""

    def __init__(self, silence: TemporaryError) -> None:
        super().__init__()
        self._silence = silence

    def deliver(self, placement: Key, content: Content, fence: Fence) -> Report:
        if not self.calls:
            self.calls.append("no answer")
            raise self._silence
        return super().deliver(placement, content, fence)


def inside(holes: dict[str, BlackHole]) -> int:
    """Return how many of them hold a worker."""
    return sum(hole.inside for hole in holes.values())


def lets_all_go(fleet: Fleet, holes: dict[str, BlackHole]) -> None:
    """Open every door, and wait until each of them and the one beside them is available."""
    for hole in holes.values():
        hole.door.set()
    count = len(holes) + 1
    fleet.until(lambda: sum(reason is Reason.AVAILABLE for _, _, reason in fleet.told()) == count)


@pytest.mark.parametrize(
    "silence",
    [
        pytest.param(turned_away("no answer in time"), id="to who it is"),
        pytest.param(TemporaryError("no answer in time to a write"), id="to what comes after it has said who it is"),
    ],
)
def test_members_that_do_not_answer_leave_most_workers_to_the_others(make: Make, silence: TemporaryError) -> None:
    """Each held a worker for ten seconds, and with more of them than workers the healthy members waited for those."""
    holes = {f"hole{number}": BlackHole(silence) for number in range(12)}
    fleet = make(max_workers=8, **holes, well=Awkward())
    fleet.workers.want([deliver(name) for name in holes])
    fleet.until(lambda: inside(holes) == 2)
    fleet.workers.want([deliver(name) for name in (*holes, "well")])
    fleet.until(lambda: ("well", 1, Reason.AVAILABLE) in fleet.told())
    assert inside(holes) == 2
    lets_all_go(fleet, holes)


def test_a_member_of_which_nothing_was_wanted_is_not_held_for_silent_any_more(make: Make) -> None:
    """It would else wait for its turn to be knocked at, behind all that are silent now."""
    silence = turned_away("no answer in time")
    holes, back = {f"hole{number}": BlackHole(silence) for number in range(4)}, Awkward()
    back.falls_silent()
    fleet = make(max_workers=8, back=back, **holes)
    fleet.workers.want([deliver(name) for name in ("back", *holes)])
    fleet.is_told(5)
    fleet.until(lambda: inside(holes) == 2)
    fleet.until(lambda: not fleet.workers._members["back"].busy)
    fleet.workers.want([deliver(name) for name in holes])
    back.heals()
    fleet.workers.want([deliver(name) for name in (*holes, "back")])
    fleet.until(lambda: ("back", 1, Reason.AVAILABLE) in fleet.told())
    assert inside(holes) == 2
    lets_all_go(fleet, holes)


def test_however_few_workers_there_are_a_silent_member_is_knocked_at(make: Make) -> None:
    member = Awkward()
    member.falls_silent()
    fleet = make(max_workers=1, member1=member)
    fleet.workers.want([deliver()])
    fleet.is_told(1)
    member.heals()
    fleet.is_told(2)
    assert fleet.told()[1] == ("member1", 1, Reason.AVAILABLE)


# -- errors


class Broken(Awkward):
    """A member whose backend has a bug."""

    def deliver(self, *arguments: Any, **options: Any) -> Report:
        raise KeyError("items")


def test_a_bug_in_a_backend_is_logged_and_told_and_stays_with_its_member(make: Make) -> None:
    fleet = make(broken=Broken(), well=Awkward())
    with capture_logs() as logs:
        fleet.workers.want([deliver("broken")])
        fleet.is_told(1)
    fleet.workers.want([deliver("broken"), deliver("well")])
    fleet.is_told(2)
    assert fleet.outcomes[0].report.message == "deliver failed with KeyError: 'items'"
    assert fleet.told() == [("broken", 1, Reason.UNREACHABLE), ("well", 1, Reason.AVAILABLE)]
    assert logs[0]["cluster"] == "broken"
    assert logs[0]["exc_info"] is True


@pytest.mark.parametrize(
    ("error", "reason"),
    [(TemporaryError("gone\nfor \x1b[1mnow"), Reason.UNREACHABLE), (PermanentError("gone"), Reason.REFUSED)],
)
def test_content_that_cannot_be_had_is_told_like_a_member_that_cannot(error: Exception, reason: Reason) -> None:
    woken = Event()

    def nothing(action: Deliver | Observe) -> Content:
        raise error

    crew = Workers(lambda _: Awkward(), nothing, fence, Clock(), woken.set, may_write=lambda: None)
    crew.want([deliver()])
    assert woken.wait(LONG)
    report = crew.take()[0].report
    assert report.reason is reason
    assert report.message.startswith("gone")
    assert "\x1b" not in report.message
    assert crew.close(LONG)


def test_a_daemon_that_cannot_be_woken_does_not_stop_the_workers() -> None:
    called = Event()

    def wake() -> None:
        called.set()
        raise RuntimeError("no daemon")

    member = Awkward()
    member.is_slow(looks=3)
    with capture_logs() as logs:
        crew = Workers(
            lambda _: member, lambda _: OLD, fence, Clock(), wake, may_write=lambda: None, look_seconds=0.001
        )
        crew.want([deliver()])
        assert called.wait(LONG)
        while not any(one.report.healthy for one in crew.take()):
            called.wait(0.001)
        assert crew.close(LONG)
    assert logs[0]["event"] == "the daemon could not be told of an outcome"


def test_a_system_without_a_free_thread_is_tried_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [RuntimeError("can't start new thread")]

    class Scarce(Thread):
        def start(self) -> None:
            if self.name.startswith("member") and failures:
                raise failures.pop()
            super().start()

    monkeypatch.setattr(workers, "Thread", Scarce)
    fleet = make(member1=Awkward())
    with capture_logs() as logs:
        fleet.workers.want([deliver()])
        fleet.is_told(1)
    assert fleet.told() == [("member1", 1, Reason.AVAILABLE)]
    assert [log["event"] for log in logs] == ["no thread for a member"]


# -- the end


def test_idle_is_when_nothing_runs_is_due_or_waits_to_be_taken(make: Make) -> None:
    member = Held()
    fleet = make(pause=3600, member1=member)
    assert fleet.workers.idle()
    fleet.workers.want([deliver()])
    assert not fleet.workers.idle()
    assert member.entered.wait(LONG)
    assert not fleet.workers.idle()
    member.falls_silent()
    member.door.set()
    assert fleet.woken.wait(LONG)
    assert not fleet.workers.idle()
    assert len(fleet.workers.take()) == 1
    fleet.is_idle()
    fleet.workers.poke_all()
    assert not fleet.workers.idle()


def test_idle_does_not_wait_for_a_member_that_gives_no_answer(make: Make) -> None:
    """With more of them than may be called at a time one is always being called, and nothing would ever be idle."""
    hole = BlackHole(turned_away("no answer in time"))
    fleet = make(member1=hole)
    fleet.workers.want([deliver()])
    fleet.is_told(1)
    fleet.until(lambda: hole.inside == 1)
    assert fleet.workers.is_calling()
    assert fleet.workers.idle()
    fleet.workers.want([deliver(), deliver(wanted="others", placement=OTHER)])
    assert not fleet.workers.idle()
    hole.door.set()
    fleet.is_told(3)


def test_closing_finishes_what_is_in_hand_and_starts_nothing_more(make: Make) -> None:
    member, other = Held(), Awkward()
    member.becomes_unavailable()
    fleet = make(max_workers=1, member1=member, other=other)
    fleet.workers.want([deliver(), deliver("other")])
    assert member.entered.wait(LONG)
    assert fleet.workers.close(0.01) is False
    with waiting(lambda: fleet.workers.close(LONG)) as closed:
        member.door.set()
    assert closed == [True]
    assert [one.target.cluster for one in fleet.workers.take()] == ["member1"]
    fleet.workers.want([deliver("other")])
    assert (member.calls, other.calls) == (["deliver old"], [])


@contextmanager
def waiting(call: Callable[[], object]) -> Iterator[list[object]]:
    """Run the call in a thread beside the block, and wait for it after the block."""
    answers: list[object] = []
    thread = Thread(target=lambda: answers.append(call()))
    thread.start()
    yield answers
    thread.join(LONG)


def test_closing_before_anything_was_wanted_is_done_at_once(make: Make) -> None:
    assert make().workers.close(0) is True


# -- without threads


@pytest.mark.parametrize(
    ("action", "report"),
    [
        (deliver(seq=2), Report(complete="old", reason=Reason.AVAILABLE)),
        (observe(seq=1), Report(complete="old", reason=Reason.AVAILABLE)),
        (withdraw(seq=2), Report(complete=None, reason=Reason.WITHDRAWN)),
    ],
)
def test_an_action_is_carried_out_once(action: Action, report: Report) -> None:
    member = Awkward()
    member.deliver(WEB, OLD, fence(1))
    assert ask(action, member, OLD, fence(action.target.seq)) == report


def test_a_withdrawal_that_keeps_the_objects_deletes_none() -> None:
    member = Awkward()
    member.deliver(WEB, OLD, fence(1))
    report = ask(replace(withdraw(seq=2), keep=True), member, None, fence(2))
    assert report == Report(complete=None, reason=Reason.WITHDRAWN)
    assert member.objects == held_by(OLD)


def test_carrying_out_raises_nothing_whatever_the_member_does() -> None:
    silent = Awkward()
    silent.falls_silent()
    assert ask(deliver(), silent, OLD, fence(1)).reason is Reason.UNREACHABLE
    assert ask(deliver(), Broken(), OLD, fence(1)).reason is Reason.UNREACHABLE
    assert ask(deliver(), None, OLD, fence(1)).reason is Reason.NOT_CONFIGURED
