"""What every delivery does, whichever way its member is reached: one list, run against every backend."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from threading import Barrier, Thread
from typing import Any

import pytest

from reconciler.core.actions import ApplyOptions, Content, Fence, ObjectResult, Reason, Report
from reconciler.core.model import Body, Key
from reconciler.delivery.base import Inventory, key_of
from tests.delivery.benches import (
    BARE_NAMESPACE,
    NAMESPACE,
    NEW,
    OLD,
    OTHER,
    REPOSITORY,
    TEAM,
    WEB,
    Bench,
    CrashError,
    Door,
    config_map,
    content,
    fence,
    held_by,
)

KEPT, LEAVES = key_of(config_map("kept")), key_of(config_map("leaves"))
WELL_OLD = Report(complete="old", reason=Reason.AVAILABLE)
WELL_NEW = Report(complete="new", reason=Reason.AVAILABLE)
WITHDRAWN = Report(complete=None, reason=Reason.WITHDRAWN)


def keys(one: Content) -> tuple[Key, ...]:
    return tuple(key_of(body) for body in one.objects)


def co_owned(one: Content) -> Content:
    return replace(one, options=replace(one.options, allow_co_ownership=True))


# -- the usual course


def test_what_is_delivered_is_there_and_is_observed_as_complete_and_available(bench: Bench) -> None:
    assert bench.delivery.deliver(WEB, OLD, fence(1)) == WELL_OLD
    assert bench.objects() == held_by(OLD)
    assert bench.delivery.observe(WEB, OLD, fence(1)) == WELL_OLD
    assert bench.inventory() == Inventory(fence=fence(1), complete="old", objects=keys(OLD))


def test_delivering_again_under_the_same_intent_writes_nothing(bench: Bench, door: Door) -> None:
    bench.delivery.deliver(WEB, OLD, fence(1))
    door.forget()
    assert bench.delivery.deliver(WEB, OLD, fence(1)) == WELL_OLD
    assert bench.delivery.observe(WEB, OLD, fence(1)) == WELL_OLD
    assert door.log == []


def test_the_same_content_under_a_newer_intent_moves_the_fence_and_no_object(bench: Bench, door: Door) -> None:
    bench.delivery.deliver(WEB, OLD, fence(1))
    door.forget()
    assert bench.delivery.deliver(WEB, OLD, fence(2)) == WELL_OLD
    assert [what for what in door.log if "inventory" not in what] == []
    assert bench.inventory() == Inventory(fence=fence(2), complete="old", objects=keys(OLD))


def test_the_inventory_lists_an_object_before_it_is_there_and_as_long_as_it_is(bench: Bench, door: Door) -> None:
    """Otherwise a crash in between would leave an object that nobody removes."""
    bench.delivery.deliver(WEB, OLD, fence(1))
    door.forget()
    bench.delivery.deliver(WEB, NEW, fence(2))
    assert "inventory of" in door.log[0]
    assert "inventory of" in door.log[-1]
    assert [what for what in door.log[1:-1] if "inventory of" in what] == []


def test_prune_removes_exactly_what_left_the_content(bench: Bench) -> None:
    bench.delivery.deliver(WEB, OLD, fence(1))
    assert bench.delivery.deliver(WEB, NEW, fence(2)) == WELL_NEW
    assert bench.objects() == held_by(NEW)


def test_an_empty_content_is_refused_and_deletes_nothing(bench: Bench, door: Door) -> None:
    bench.delivery.deliver(WEB, OLD, fence(1))
    before = bench.inventory()
    door.forget()
    report = bench.delivery.deliver(WEB, content("empty"), fence(2))
    assert (report.reason, report.complete) == (Reason.REFUSED, None)
    assert "no objects to deliver" in report.message
    assert (bench.objects(), bench.inventory(), door.log) == (held_by(OLD), before, [])


def test_withdraw_removes_exactly_what_the_inventory_lists(bench: Bench) -> None:
    stranger = config_map("stranger")
    bench.put(stranger)
    bench.delivery.deliver(WEB, OLD, fence(1))
    assert bench.delivery.withdraw(WEB, fence(2)) == WITHDRAWN
    assert bench.objects() == {key_of(stranger): stranger}


def test_withdrawing_again_writes_nothing(bench: Bench, door: Door) -> None:
    bench.delivery.deliver(WEB, OLD, fence(1))
    bench.delivery.withdraw(WEB, fence(2))
    door.forget()
    assert bench.delivery.withdraw(WEB, fence(2)) == WITHDRAWN
    assert door.log == []


def test_after_a_withdrawal_no_older_intent_brings_the_content_back(bench: Bench) -> None:
    bench.delivery.deliver(WEB, OLD, fence(1))
    bench.delivery.withdraw(WEB, fence(3))
    assert bench.delivery.deliver(WEB, NEW, fence(2)).reason is Reason.FENCE_LOST
    assert bench.objects() == {}
    assert bench.delivery.deliver(WEB, NEW, fence(4)) == WELL_NEW


def test_withdrawing_what_was_never_delivered_shuts_out_older_intents_too(bench: Bench) -> None:
    assert bench.delivery.withdraw(WEB, fence(3)) == WITHDRAWN
    assert bench.delivery.deliver(WEB, NEW, fence(2)).reason is Reason.FENCE_LOST


# -- letting go


def test_letting_go_leaves_every_object_and_lists_none(bench: Bench) -> None:
    bench.delivery.deliver(WEB, OLD, fence(1))
    assert bench.delivery.withdraw(WEB, fence(2), keep=True) == WITHDRAWN
    assert bench.objects() == held_by(OLD)
    assert bench.inventory() == Inventory(fence=fence(2), complete=None, objects=())


def test_letting_go_again_writes_nothing_and_deletes_nothing(bench: Bench, door: Door) -> None:
    bench.delivery.deliver(WEB, OLD, fence(1))
    bench.delivery.withdraw(WEB, fence(2), keep=True)
    door.forget()
    assert bench.delivery.withdraw(WEB, fence(2), keep=True) == WITHDRAWN
    assert door.log == []
    assert bench.delivery.withdraw(WEB, fence(3)) == WITHDRAWN
    assert bench.objects() == held_by(OLD)


def test_after_the_letting_go_no_older_intent_delivers(bench: Bench) -> None:
    bench.delivery.deliver(WEB, OLD, fence(1))
    bench.delivery.withdraw(WEB, fence(3), keep=True)
    assert bench.delivery.deliver(WEB, NEW, fence(2)).reason is Reason.FENCE_LOST
    assert bench.delivery.withdraw(WEB, fence(2), keep=True).reason is Reason.FENCE_LOST
    assert bench.objects() == held_by(OLD)


def test_another_placement_takes_over_what_was_let_go_of_and_prunes_it(bench: Bench) -> None:
    bench.delivery.deliver(WEB, OLD, fence(1))
    assert bench.delivery.deliver(OTHER, NEW, fence(1)).reason is Reason.CONFLICT
    bench.delivery.withdraw(WEB, fence(2), keep=True)
    assert bench.delivery.deliver(OTHER, OLD, fence(2)) == WELL_OLD
    assert bench.delivery.deliver(OTHER, NEW, fence(3)) == WELL_NEW
    assert bench.objects() == held_by(NEW)


def test_what_was_let_go_of_is_taken_over_as_the_rule_says(bench: Bench) -> None:
    """It is nobody's: the next placement's `whenToTakeOver` counts, and its own when it comes back."""
    bench.delivery.deliver(WEB, content("two", config_map("equal"), config_map("other", "by web")), fence(1))
    bench.delivery.withdraw(WEB, fence(2), keep=True)
    wanted = config_map("equal"), config_map("other")
    for _ in range(2):
        never = bench.delivery.deliver(WEB, taking_over("Never", *wanted), fence(3))
        names = [(one.object, one.reason) for one in never.results]
        assert names == [(str(key_of(body)), Reason.CONFLICT) for body in wanted]
    report = bench.delivery.deliver(OTHER, taking_over("IfNoDiff", *wanted), fence(1))
    message = "it is there already and differs at .data.value; it is left"
    assert [(one.object, one.message) for one in report.results] == [("ConfigMap shop/other", message)]
    assert bench.delivery.deliver(OTHER, taking_over("Always", *wanted), fence(2)).reason is Reason.AVAILABLE
    assert bench.objects() == {key_of(body): body for body in wanted}


def test_letting_go_leaves_a_shared_object_to_the_other_placement(bench: Bench) -> None:
    shared = content("shared", config_map("shared"))
    bench.delivery.deliver(WEB, shared, fence(1))
    bench.delivery.deliver(OTHER, co_owned(shared), fence(1))
    assert bench.delivery.withdraw(WEB, fence(2), keep=True) == WITHDRAWN
    assert bench.delivery.observe(OTHER, shared, fence(1)) == Report(complete="shared", reason=Reason.AVAILABLE)
    assert bench.delivery.withdraw(OTHER, fence(2)) == WITHDRAWN
    assert bench.objects() == {}


def test_letting_go_of_an_object_that_was_deleted_by_hand_before_is_well(bench: Bench) -> None:
    bench.delivery.deliver(WEB, OLD, fence(1))
    bench.remove(LEAVES)
    assert bench.delivery.withdraw(WEB, fence(2), keep=True) == WITHDRAWN
    bench.put(config_map("leaves", "by hand"))
    assert bench.delivery.withdraw(WEB, fence(3)) == WITHDRAWN
    assert LEAVES in bench.objects()


def test_a_newer_delivery_that_comes_in_while_we_let_go_ends_up_whole(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.delivery.deliver(WEB, OLD, fence(1))
    meddle(monkeypatch, bench, "release_objects", 1, lambda: bench.delivery.deliver(WEB, NEW, fence(3)))
    assert bench.delivery.withdraw(WEB, fence(2), keep=True).reason is Reason.FENCE_LOST
    assert bench.delivery.deliver(WEB, NEW, fence(3)) == WELL_NEW
    assert bench.objects() == held_by(NEW)
    assert bench.inventory() == Inventory(fence=fence(3), complete="new", objects=keys(NEW))
    assert bench.delivery.withdraw(WEB, fence(4)) == WITHDRAWN
    assert bench.objects() == {}


def test_a_crash_at_any_write_of_a_letting_go_is_healed_by_letting_go_again(
    new_bench: Callable[[], Bench], door: Door
) -> None:
    seen = 0
    for bench in crashes(new_bench, door, [OLD], lambda bench: bench.delivery.withdraw(WEB, fence(2), keep=True)):
        seen += 1
        assert bench.delivery.withdraw(WEB, fence(2), keep=True) == WITHDRAWN
        assert bench.objects() == held_by(OLD)
        assert bench.delivery.deliver(OTHER, OLD, fence(1)) == WELL_OLD
    assert seen >= 2 * 2  # two inventory writes, and the marks where objects bear one


# -- looking


def test_an_object_that_was_deleted_by_hand_is_found_and_delivered_again(bench: Bench) -> None:
    bench.delivery.deliver(WEB, OLD, fence(1))
    bench.remove(KEPT)
    missing = ObjectResult(object=str(KEPT), reason=Reason.INCOMPLETE, message="is missing")
    assert bench.delivery.observe(WEB, OLD, fence(1)) == Report(
        complete=None, reason=Reason.INCOMPLETE, object=str(KEPT), message=missing.message, results=(missing,)
    )
    assert bench.delivery.deliver(WEB, OLD, fence(1)) == WELL_OLD
    assert bench.objects() == held_by(OLD)


def test_an_object_that_was_changed_by_hand_is_found_and_delivered_again(bench: Bench) -> None:
    bench.delivery.deliver(WEB, OLD, fence(1))
    bench.put(config_map("kept", "by hand"))
    report = bench.delivery.observe(WEB, OLD, fence(1))
    assert (report.complete, report.message) == (None, "was changed on the member")
    bench.delivery.deliver(WEB, OLD, fence(1))
    assert bench.objects() == held_by(OLD)


def test_nothing_delivered_is_observed_as_incomplete(bench: Bench, door: Door) -> None:
    report = bench.delivery.observe(WEB, OLD, fence(1))
    assert (report.complete, report.reason) == (None, Reason.INCOMPLETE)
    assert door.log == []


def test_content_delivered_under_an_older_intent_is_not_complete_under_a_newer_one(bench: Bench) -> None:
    """An intent between the two, held by a paused process, would still be let in."""
    bench.delivery.deliver(WEB, OLD, fence(1))
    report = bench.delivery.observe(WEB, OLD, fence(3))
    assert (report.complete, report.reason) == (None, Reason.INCOMPLETE)
    assert "older intent 1 of epoch 1" in report.message


def test_other_content_is_not_delivered_under_the_very_same_fence(bench: Bench) -> None:
    """A number is drawn once: who draws it again has a status that was set back."""
    bench.delivery.deliver(WEB, OLD, fence(1))
    report = bench.delivery.deliver(WEB, NEW, fence(1))
    assert (report.complete, report.reason) == (None, Reason.FENCE_LOST)
    assert "has other content under the same intent 1 of epoch 1" in report.message
    assert bench.delivery.observe(WEB, OLD, fence(1)).complete == OLD.hash


def test_other_content_is_never_observed_as_this_one(bench: Bench) -> None:
    bench.delivery.deliver(WEB, OLD, fence(1))
    report = bench.delivery.observe(WEB, NEW, fence(1))
    assert (report.complete, report.reason) == (None, Reason.INCOMPLETE)


# -- fences


@pytest.mark.parametrize("lower", [fence(1), fence(9, epoch=0)], ids=["older intent", "older epoch"])
def test_a_lower_fence_is_refused_with_nothing_written(bench: Bench, door: Door, lower: Fence) -> None:
    bench.delivery.deliver(WEB, NEW, fence(2))
    before = bench.inventory()
    door.forget()
    reports = [
        bench.delivery.deliver(WEB, OLD, lower),
        bench.delivery.observe(WEB, OLD, lower),
        bench.delivery.withdraw(WEB, lower),
    ]
    assert [(report.complete, report.reason) for report in reports] == [(None, Reason.FENCE_LOST)] * 3
    assert "intent 2 of epoch 1" in reports[0].message
    assert (bench.objects(), bench.inventory(), door.log) == (held_by(NEW), before, [])


def test_a_higher_epoch_wins_over_any_intent_of_a_lower_one(bench: Bench) -> None:
    bench.delivery.deliver(WEB, OLD, fence(900))
    assert bench.delivery.deliver(WEB, NEW, fence(1, epoch=2)) == WELL_NEW


def test_another_repository_is_refused_whatever_its_fence_and_both_are_named(bench: Bench, door: Door) -> None:
    bench.delivery.deliver(WEB, OLD, fence(1))
    door.forget()
    for repository in ("0-lower", "z-higher"):
        report = bench.delivery.deliver(WEB, NEW, fence(99, repository=repository))
        assert (report.complete, report.reason) == (None, Reason.CONFLICT)
        assert REPOSITORY in report.message
        assert repository in report.message
        assert bench.delivery.withdraw(WEB, fence(99, repository=repository)).reason is Reason.CONFLICT
    assert (bench.objects(), door.log) == (held_by(OLD), [])


class Meddler:
    """Wraps a store's method so that somebody else acts just before its n-th call."""

    def __init__(self, bench: Bench, method: str, number: int, act: Callable[[], object]) -> None:
        self._plain, self._left, self._act = getattr(bench.store, method), number, act

    def __call__(self, *arguments: Any) -> Any:
        self._left -= 1
        if self._left == 0:
            self._act()
        return self._plain(*arguments)


def meddle(monkeypatch: pytest.MonkeyPatch, bench: Bench, method: str, number: int, act: Callable[[], object]) -> None:
    monkeypatch.setattr(bench.store, method, Meddler(bench, method, number, act))


@pytest.mark.parametrize("method", ["apply_objects", "delete_objects", "swap_inventory"])
def test_a_newer_intent_that_comes_in_between_ends_up_on_the_member_whole_and_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Wherever the older one sees it, it never reports success, and what it wrote too late is pruned."""
    third = content("third", config_map("kept", "3"), config_map("third"))
    bench.delivery.deliver(WEB, OLD, fence(1))
    number = 2 if method == "swap_inventory" else 1
    meddle(monkeypatch, bench, method, number, lambda: bench.delivery.deliver(WEB, third, fence(3)))
    report = bench.delivery.deliver(WEB, NEW, fence(2))
    assert (report.complete, report.reason) == (None, Reason.FENCE_LOST)
    assert "intent 3 of epoch 1" in report.message
    seen = bench.delivery.observe(WEB, third, fence(3))
    assert seen.complete is None or bench.objects() == held_by(third)
    assert bench.delivery.deliver(WEB, third, fence(3)) == Report(complete="third", reason=Reason.AVAILABLE)
    assert bench.objects() == held_by(third)
    assert bench.inventory() == Inventory(fence=fence(3), complete="third", objects=keys(third))


def put_inventory(bench: Bench, inventory: Inventory) -> None:
    held = bench.store.read_inventory(WEB)
    plain = type(bench.store).swap_inventory
    assert plain(bench.store, WEB, held, inventory) is not None


def test_a_newer_intent_during_a_withdrawal_makes_it_lose_its_fence(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.delivery.deliver(WEB, OLD, fence(1))
    meddle(monkeypatch, bench, "delete_objects", 1, lambda: bench.delivery.deliver(WEB, NEW, fence(3)))
    assert bench.delivery.withdraw(WEB, fence(2)).reason is Reason.FENCE_LOST
    assert bench.delivery.deliver(WEB, NEW, fence(3)) == WELL_NEW
    assert bench.objects() == held_by(NEW)


def test_an_inventory_that_changes_at_the_opening_write_is_read_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = Inventory(fence=fence(1), objects=keys(OLD))
    meddle(monkeypatch, bench, "swap_inventory", 1, lambda: put_inventory(bench, older))
    assert bench.delivery.deliver(WEB, NEW, fence(2)) == WELL_NEW
    assert bench.inventory() == Inventory(fence=fence(2), complete="new", objects=keys(NEW))


def test_two_workers_with_the_same_intent_both_succeed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one to close finds the inventory closed as it wanted it."""
    closed = Inventory(fence=fence(1), complete="new", objects=keys(NEW))
    meddle(monkeypatch, bench, "swap_inventory", 2, lambda: put_inventory(bench, closed))
    assert bench.delivery.deliver(WEB, NEW, fence(1)) == WELL_NEW


def test_of_two_deliveries_at_the_same_time_the_higher_fence_ends_up_on_the_member(
    new_bench: Callable[[], Bench],
) -> None:
    """The lower one that loses says so, and the higher is then delivered again, as the daemon does."""
    for _ in range(10):
        bench = new_bench()
        bench.delivery.deliver(WEB, OLD, fence(1))
        reports = at_the_same_time(
            lambda bench=bench: bench.delivery.deliver(WEB, replace(OLD, hash="again"), fence(2)),
            lambda bench=bench: bench.delivery.deliver(WEB, NEW, fence(3)),
        )
        assert reports[0].reason in (Reason.FENCE_LOST, Reason.AVAILABLE, Reason.INCOMPLETE)
        assert bench.delivery.deliver(WEB, NEW, fence(3)) == WELL_NEW
        assert bench.objects() == held_by(NEW)
        assert bench.inventory() == Inventory(fence=fence(3), complete="new", objects=keys(NEW))


def at_the_same_time(*calls: Callable[[], Report]) -> list[Report]:
    start, reports = Barrier(len(calls)), dict[int, Report]()

    def run(number: int, call: Callable[[], Report]) -> None:
        start.wait()
        reports[number] = call()

    threads = [Thread(target=run, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [reports[number] for number in range(len(calls))]


# -- crashes


def crashes(
    new_bench: Callable[[], Bench], door: Door, first: Iterable[Content], act: Callable[[Bench], object]
) -> Any:
    """Yield a member for every effect of `act`, with the process dead just before and just after it."""
    number, position = 1, "before"
    while True:
        bench = new_bench()
        door.forget()
        for seq, one in enumerate(first, 1):
            bench.delivery.deliver(WEB, one, fence(seq))
        door.log.clear()
        door.crash_at, door.crash_position = number, position
        try:
            act(bench)
        except CrashError:
            door.forget()
            yield bench
        else:
            return
        number, position = (number, "after") if position == "before" else (number + 1, "before")


def test_a_crash_at_any_write_is_healed_by_delivering_again(new_bench: Callable[[], Bench], door: Door) -> None:
    seen = 0
    for bench in crashes(new_bench, door, [OLD], lambda bench: bench.delivery.deliver(WEB, NEW, fence(2))):
        seen += 1
        assert bench.delivery.observe(WEB, NEW, fence(2)).complete is None or bench.objects() == held_by(NEW)
        assert bench.delivery.deliver(WEB, NEW, fence(2)) == WELL_NEW
        assert bench.objects() == held_by(NEW)
        assert bench.delivery.deliver(WEB, NEW, fence(2)) == WELL_NEW
    assert seen == 2 * 7  # two inventory writes, three objects, two deletes


def test_a_crash_at_any_write_followed_by_another_content_leaves_nothing_behind(
    new_bench: Callable[[], Bench], door: Door
) -> None:
    third = content("third", config_map("third"))
    for bench in crashes(new_bench, door, [OLD], lambda bench: bench.delivery.deliver(WEB, NEW, fence(2))):
        bench.delivery.deliver(WEB, third, fence(3))
        assert bench.objects() == held_by(third)


def test_a_crash_at_any_write_of_the_first_delivery_can_be_withdrawn(
    new_bench: Callable[[], Bench], door: Door
) -> None:
    for bench in crashes(new_bench, door, [], lambda bench: bench.delivery.deliver(WEB, NEW, fence(1))):
        assert bench.delivery.withdraw(WEB, fence(2)) == WITHDRAWN
        assert bench.objects() == {}


def test_a_crash_at_any_write_of_a_withdrawal_is_healed_by_withdrawing_again(
    new_bench: Callable[[], Bench], door: Door
) -> None:
    seen = 0
    for bench in crashes(new_bench, door, [OLD], lambda bench: bench.delivery.withdraw(WEB, fence(2))):
        seen += 1
        assert bench.delivery.withdraw(WEB, fence(2)) == WITHDRAWN
        assert bench.objects() == {}
    assert seen == 2 * 6  # two inventory writes, four deletes


# -- whose objects


def test_an_object_of_another_placement_is_not_touched_and_both_are_named(bench: Bench) -> None:
    shared, mine = config_map("shared"), config_map("mine")
    bench.delivery.deliver(OTHER, content("others", shared), fence(1))
    report = bench.delivery.deliver(WEB, content("web", config_map("shared", "2"), mine), fence(1))
    assert (report.complete, report.reason, report.object) == (None, Reason.CONFLICT, "ConfigMap shop/shared")
    assert str(OTHER) in report.message
    assert str(WEB) in report.message
    assert bench.objects() == {key_of(shared): shared, key_of(mine): mine}


def test_a_refused_claim_does_not_stand_in_the_owners_way(bench: Bench) -> None:
    """Otherwise two placements would each find the object listed by the other, for ever."""
    bench.delivery.deliver(OTHER, content("others", config_map("shared")), fence(1))
    bench.delivery.deliver(WEB, content("web", config_map("shared", "2")), fence(1))
    again = content("others 2", config_map("shared", "3"))
    assert bench.delivery.deliver(OTHER, again, fence(2)).reason is Reason.AVAILABLE
    assert bench.objects() == held_by(again)


def test_a_conflict_ends_when_the_owner_lets_go(bench: Bench) -> None:
    wanted = content("web", config_map("shared", "2"))
    bench.delivery.deliver(OTHER, content("others", config_map("shared")), fence(1))
    assert bench.delivery.deliver(WEB, wanted, fence(1)).reason is Reason.CONFLICT
    bench.delivery.withdraw(OTHER, fence(2))
    assert bench.delivery.deliver(WEB, wanted, fence(1)) == Report(complete="web", reason=Reason.AVAILABLE)


def test_nothing_is_pruned_while_an_object_is_in_conflict(bench: Bench) -> None:
    bench.delivery.deliver(OTHER, content("others", config_map("shared")), fence(1))
    bench.delivery.deliver(WEB, content("web", config_map("mine")), fence(1))
    bench.delivery.deliver(WEB, content("web 2", config_map("shared")), fence(2))
    assert set(bench.objects()) == {key_of(config_map("shared")), key_of(config_map("mine"))}


def test_where_co_ownership_is_allowed_an_object_stays_until_its_last_owner_leaves(bench: Bench) -> None:
    shared = content("shared", config_map("shared"))
    bench.delivery.deliver(OTHER, shared, fence(1))
    report = bench.delivery.deliver(WEB, co_owned(shared), fence(1))
    assert report == Report(complete="shared", reason=Reason.AVAILABLE)
    bench.delivery.withdraw(OTHER, fence(2))
    assert bench.objects() == held_by(shared)
    bench.delivery.withdraw(WEB, fence(2))
    assert bench.objects() == {}


def test_what_a_co_owner_has_written_otherwise_is_not_there_completely(bench: Bench) -> None:
    wanted = content("web", config_map("shared", "1"))
    assert bench.delivery.deliver(WEB, wanted, fence(1)).reason is Reason.AVAILABLE
    other = content("other", config_map("shared", "2"))
    assert bench.delivery.deliver(OTHER, co_owned(other), fence(1)).reason is Reason.AVAILABLE
    report = bench.delivery.observe(WEB, wanted, fence(1))
    assert (report.complete, report.reason) == (None, Reason.INCOMPLETE)
    assert bench.delivery.observe(OTHER, other, fence(1)).complete == "other"


def test_a_co_owned_object_that_leaves_one_content_stays_for_the_other(bench: Bench) -> None:
    shared = content("shared", config_map("shared"))
    bench.delivery.deliver(OTHER, shared, fence(1))
    bench.delivery.deliver(WEB, co_owned(shared), fence(1))
    mine = content("mine", config_map("mine"))
    assert bench.delivery.deliver(WEB, mine, fence(2)).reason is Reason.AVAILABLE
    assert bench.objects() == held_by(shared, mine)


def test_trying_a_delivery_in_conflict_again_writes_nothing(bench: Bench, door: Door) -> None:
    bench.delivery.deliver(OTHER, content("others", config_map("shared")), fence(1))
    wanted = content("web", config_map("shared", "2"), config_map("mine"))
    reports = [bench.delivery.deliver(WEB, wanted, fence(1))]
    door.forget()
    reports.append(bench.delivery.deliver(WEB, wanted, fence(1)))
    assert reports[0] == reports[1]
    assert door.log == []


def test_placements_of_equal_name_in_different_scopes_keep_apart(bench: Bench) -> None:
    mine, theirs = content("mine", config_map("mine")), content("theirs", config_map("theirs"))
    bench.delivery.deliver(WEB, mine, fence(1))
    bench.delivery.deliver(TEAM, theirs, fence(1))
    assert bench.objects() == held_by(mine, theirs)
    bench.delivery.withdraw(TEAM, fence(2))
    assert bench.objects() == held_by(mine)


def test_an_object_that_nobody_owns_is_taken_over_and_peoples_other_objects_are_left(bench: Bench) -> None:
    stranger = config_map("stranger")
    bench.put(config_map("kept", "by hand"))
    bench.put(stranger)
    bench.delivery.deliver(WEB, OLD, fence(1))
    bench.delivery.deliver(WEB, NEW, fence(2))
    assert bench.objects() == held_by(NEW) | {key_of(stranger): stranger}


def taking_over(rule: str, *objects: Body, shared: bool = False) -> Content:
    """Return a content whose placement has this `whenToTakeOver`, and `allowCoOwnership` where it is shared."""
    options = ApplyOptions(take_over=rule, allow_co_ownership=shared)
    return Content(hash=rule, objects=objects, options=options)


def test_never_leaves_an_object_that_is_there_already_and_names_the_rule(bench: Bench) -> None:
    theirs, mine = config_map("theirs", "by hand"), config_map("mine")
    bench.put(theirs)
    wanted = taking_over("Never", config_map("theirs"), mine)
    reports = [bench.delivery.deliver(WEB, wanted, fence(1)) for _ in range(2)]
    assert reports[0] == reports[1]
    assert (reports[0].complete, reports[0].reason) == (None, Reason.CONFLICT)
    message = "it is there already and not ours; whenToTakeOver is Never"
    assert [(one.object, one.message) for one in reports[0].results] == [("ConfigMap shop/theirs", message)]
    assert bench.objects() == {key_of(theirs): theirs, key_of(mine): mine}


@pytest.mark.parametrize("rule", ["Never", "IfNoDiff"])
def test_what_may_not_be_taken_over_is_not_kept_from_another_placement(bench: Bench, rule: str) -> None:
    bench.put(config_map("theirs", "by hand"))
    wanted = config_map("theirs")
    assert (
        bench.delivery.deliver(WEB, taking_over(rule, wanted, config_map("mine")), fence(1)).reason is Reason.CONFLICT
    )
    assert bench.inventory() == Inventory(fence=fence(1), complete=None, objects=(key_of(config_map("mine")),))
    assert bench.delivery.deliver(OTHER, content("others", wanted), fence(1)).reason is Reason.AVAILABLE


def test_what_was_never_taken_over_is_not_deleted_either(bench: Bench) -> None:
    theirs = config_map("theirs")
    bench.put(theirs)
    bench.delivery.deliver(WEB, taking_over("Never", theirs, config_map("mine")), fence(1))
    assert bench.delivery.withdraw(WEB, fence(2)) == WITHDRAWN
    assert bench.objects() == {key_of(theirs): theirs}


@pytest.mark.parametrize("rule", ["Never", "IfNoDiff"])
def test_what_the_placement_wrote_itself_needs_no_taking_over(bench: Bench, rule: str) -> None:
    """Not when its content changes, and not when somebody changed the object by hand."""
    bench.delivery.deliver(WEB, taking_over(rule, config_map("a")), fence(1))
    changed = replace(taking_over(rule, config_map("a", "2")), hash="changed")
    well = Report(complete="changed", reason=Reason.AVAILABLE)
    assert bench.delivery.deliver(WEB, changed, fence(2)) == well
    bench.remove(key_of(config_map("a")))
    assert bench.delivery.deliver(WEB, changed, fence(2)) == well
    assert bench.objects() == held_by(changed)


def test_if_no_diff_takes_over_an_equal_object_and_names_where_another_differs(bench: Bench) -> None:
    equal, other = config_map("equal"), config_map("other", "by hand")
    bench.put(equal)
    bench.put(other)
    wanted = taking_over("IfNoDiff", equal, config_map("other"))
    report = bench.delivery.deliver(WEB, wanted, fence(1))
    assert (report.complete, report.reason) == (None, Reason.CONFLICT)
    message = "it is there already and differs at .data.value; it is left"
    assert [(one.object, one.message) for one in report.results] == [("ConfigMap shop/other", message)]
    assert bench.objects() == {key_of(one): one for one in (equal, other)}
    bench.remove(key_of(other))
    assert bench.delivery.deliver(WEB, wanted, fence(1)) == Report(complete="IfNoDiff", reason=Reason.AVAILABLE)
    assert bench.delivery.withdraw(WEB, fence(2)) == WITHDRAWN
    assert bench.objects() == {}


@pytest.mark.parametrize("rule", ["Never", "IfNoDiff"])
def test_another_placements_object_is_shared_by_leave_whatever_the_rule_for_strangers(bench: Bench, rule: str) -> None:
    shared = config_map("shared")
    bench.delivery.deliver(OTHER, content("others", shared), fence(1))
    assert bench.delivery.deliver(WEB, taking_over(rule, shared), fence(1)).reason is Reason.CONFLICT
    report = bench.delivery.deliver(WEB, taking_over(rule, shared, shared=True), fence(1))
    assert report == Report(complete=rule, reason=Reason.AVAILABLE)


def test_an_object_that_left_and_was_deleted_by_hand_before_is_no_obstacle(bench: Bench) -> None:
    bench.delivery.deliver(WEB, OLD, fence(1))
    bench.remove(LEAVES)
    assert bench.delivery.deliver(WEB, NEW, fence(2)) == WELL_NEW


# -- what is written, and what is told


def test_a_namespace_goes_without_the_finalizers_that_are_the_members_own(bench: Bench) -> None:
    busy = {**NAMESPACE, "spec": {"finalizers": ["kubernetes"], "other": 1}, "metadata": {"name": "busy"}}
    bench.delivery.deliver(WEB, content("two", NAMESPACE, busy), fence(1))
    found = bench.objects()
    assert found[key_of(NAMESPACE)] == BARE_NAMESPACE
    assert found[key_of(busy)] == {**busy, "spec": {"other": 1}}


def test_describe_tells_of_every_inventory(bench: Bench) -> None:
    bench.delivery.deliver(WEB, OLD, fence(7, epoch=2))
    bench.delivery.withdraw(TEAM, fence(8))
    description = bench.delivery.describe()
    assert description["reachable"] is True
    assert description["inventories"] == {
        "ClusterResourcePlacement web": {
            "repository": REPOSITORY,
            "epoch": 2,
            "seq": 7,
            "hash": "old",
            "objects": 4,
        },
        "ResourcePlacement shop/web": {"repository": REPOSITORY, "epoch": 1, "seq": 8, "hash": None, "objects": 0},
    }


def test_the_highest_epoch_is_that_of_this_repository_alone(bench: Bench) -> None:
    assert bench.delivery.highest_epoch(REPOSITORY) == 0
    bench.delivery.deliver(WEB, OLD, fence(1, epoch=3))
    bench.delivery.deliver(TEAM, NEW, fence(1, epoch=2))
    bench.delivery.deliver(OTHER, content("x", config_map("x")), fence(1, epoch=9, repository="another"))
    assert bench.delivery.highest_epoch(REPOSITORY) == 3
