"""The pure parts that every backend shares, and the awkward member that the other tests rely on."""

from collections.abc import Callable

import pytest

from reconciler.core.actions import Content, Fence, ObjectResult, Reason, Report
from reconciler.core.model import Body
from reconciler.delivery import base
from reconciler.delivery.base import (
    FenceCheck,
    FencedDelivery,
    FenceLost,
    Inventory,
    NotOurs,
    closed,
    delivered,
    emptied,
    judge,
    key_of,
    opened,
    report_of,
    to_prune,
)
from reconciler.errors import TemporaryError
from tests.awkward import Awkward, Memory
from tests.delivery.benches import NEW, OLD, REPOSITORY, WEB, config_map, content, fence, held_by, role

A, B, C = (key_of(config_map(name)) for name in "abc")


@pytest.mark.parametrize(
    ("found", "paths"),
    [
        pytest.param({"metadata": {"name": "a", "labels": {"x": "1"}}}, (), id="equal but for Kubernetes' own labels"),
        pytest.param({"metadata": {"name": "a"}}, (".metadata.labels.x",), id="less"),
        pytest.param({"metadata": {"name": "a", "labels": {"x": "1"}}, "data": {"b": 1}}, (".data",), id="more"),
        pytest.param(None, (".",), id="nothing"),
        pytest.param([], (".",), id="something else"),
    ],
)
def test_differences_are_told_by_their_paths(found: object, paths: tuple[str, ...]) -> None:
    wanted = {"metadata": {"name": "a", "labels": {"x": "1", "kubernetes.io/metadata.name": "a"}}}
    assert tuple(base.differences(wanted, found)) == paths


# -- the inventory


def test_an_opened_inventory_lists_the_new_then_what_else_was_there_each_once() -> None:
    before = Inventory(fence=fence(1), complete="old", objects=(A, B))
    assert opened(before, fence(2), (C, B)) == Inventory(fence=fence(2), complete=None, objects=(C, B, A))
    assert opened(None, fence(2), (C,)) == Inventory(fence=fence(2), complete=None, objects=(C,))


def test_opening_twice_is_opening_once() -> None:
    once = opened(Inventory(fence=fence(1), objects=(A, B)), fence(2), (C, B))
    assert opened(once, fence(2), (C, B)) == once


def test_a_closed_inventory_lists_exactly_the_content() -> None:
    one = content("hash", config_map("b"), config_map("c"))
    assert closed(fence(2), one) == Inventory(fence=fence(2), complete="hash", objects=(B, C))


def test_an_emptied_inventory_keeps_the_fence_alone() -> None:
    assert emptied(fence(2)) == Inventory(fence=fence(2), complete=None, objects=())


def test_what_left_is_pruned_last_written_first_and_nothing_for_an_empty_content() -> None:
    inventory = Inventory(fence=fence(1), objects=(A, B, C))
    assert to_prune(inventory, content("x", config_map("b"))) == (C, A)
    assert to_prune(inventory, content("x")) == ()


def test_an_equal_or_higher_fence_may_write_and_so_may_anybody_where_nothing_is() -> None:
    inventory = Inventory(fence=fence(2))
    for allowed in (fence(2), fence(3), fence(1, epoch=2)):
        judge(WEB, inventory, allowed)
    judge(WEB, None, fence(1))


@pytest.mark.parametrize(
    ("refused", "error"),
    [(fence(1), FenceLost), (fence(9, epoch=0), FenceLost), (fence(9, repository="z"), NotOurs)],
)
def test_a_lower_fence_and_another_repository_may_not_write(refused: Fence, error: type[Exception]) -> None:
    with pytest.raises(error):
        judge(WEB, Inventory(fence=fence(2)), refused)


# -- how often the fence is read


def test_the_fence_is_read_again_when_it_is_fifteen_seconds_old(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = 100.0
    monkeypatch.setattr(base, "monotonic", lambda: moment)
    store = Memory()
    mine = store.swap_inventory(WEB, store.read_inventory(WEB), Inventory(fence=fence(1)))
    assert mine is not None
    check = FenceCheck(store, WEB, fence(1))
    check()
    moment = 115.0
    check()
    store.swap_inventory(WEB, mine, Inventory(fence=fence(2)))
    moment = 129.9
    check()
    moment = 130.0
    with pytest.raises(FenceLost, match=r"newer intent 2 of epoch 1.*up to 3 objects were written"):
        check()


def test_an_inventory_that_vanished_is_a_lost_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = 0.0
    monkeypatch.setattr(base, "monotonic", lambda: moment)
    check = FenceCheck(Memory(), WEB, fence(1))
    moment = 15.0
    with pytest.raises(FenceLost, match="not the one that was opened"):
        check()


# -- objects and reports


def test_only_the_finalizers_of_a_core_namespace_are_left_out() -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}
    foreign = {**namespace, "apiVersion": "example.com/v1", "spec": {"finalizers": ["x"]}}
    rich = {**namespace, "spec": {"finalizers": ["kubernetes"], "more": 1}, "status": {}}
    assert delivered((namespace, foreign, rich, {**namespace, "spec": {"finalizers": ["kubernetes"]}})) == (
        namespace,
        foreign,
        {**namespace, "spec": {"more": 1}, "status": {}},
        namespace,
    )


def test_the_key_of_an_object_takes_the_group_without_the_version() -> None:
    assert (key_of(role("x")).group, key_of(role("x")).namespace) == ("rbac.authorization.k8s.io", "")
    assert (A.group, A.namespace) == ("", "shop")


def result(reason: Reason, name: str) -> ObjectResult:
    return ObjectResult(object=name, reason=reason, message=f"{name} is {reason}")


def test_a_report_names_the_worst_first_and_is_complete_only_while_nothing_is_worse_than_unhealthy() -> None:
    waiting, missing = result(Reason.NOT_AVAILABLE, "a"), result(Reason.INCOMPLETE, "b")
    refused = result(Reason.REFUSED, "c")
    assert report_of("hash", ()) == Report(complete="hash", reason=Reason.AVAILABLE)
    assert report_of("hash", (waiting,)) == Report(
        complete="hash", reason=Reason.NOT_AVAILABLE, object="a", message=waiting.message, results=(waiting,)
    )
    assert report_of("hash", (waiting, missing, refused)) == Report(
        complete=None,
        reason=Reason.REFUSED,
        object="c",
        message=refused.message,
        results=(refused, missing, waiting),
    )


# -- a fence that is lost


def late(monkeypatch: pytest.MonkeyPatch, member: Awkward, act: Callable[[], object]) -> None:
    """Let somebody else act once, just before objects are written."""
    plain, acts = member.memory.apply_objects, [act]

    def apply(objects: tuple[Body, ...], check_fence: Callable[[], None]) -> tuple[ObjectResult, ...]:
        if acts:
            acts.pop()()
        return plain(objects, check_fence)

    monkeypatch.setattr(member.memory, "apply_objects", apply)


def test_a_delivery_that_came_too_late_puts_the_newer_inventory_in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it may have written is listed there, so that the newer intent prunes it."""
    member = Awkward()
    late(monkeypatch, member, lambda: member.deliver(WEB, NEW, fence(2)))
    assert member.deliver(WEB, OLD, fence(1)).reason is Reason.FENCE_LOST
    new, old = (tuple(key_of(body) for body in one.objects) for one in (NEW, OLD))
    listed = new + tuple(key for key in old if key not in new)
    assert member.memory.read_inventory(WEB).inventory == Inventory(fence=fence(2), complete=None, objects=listed)


def test_a_delivery_whose_inventory_vanished_brings_no_other_back(monkeypatch: pytest.MonkeyPatch) -> None:
    member = Awkward()
    late(monkeypatch, member, member.forgets)
    assert member.deliver(WEB, OLD, fence(1)).reason is Reason.FENCE_LOST
    assert member.memory.held == {}
    assert member.deliver(WEB, OLD, fence(1)).healthy


def test_an_inventory_that_never_stands_still_is_given_up_for_now(monkeypatch: pytest.MonkeyPatch) -> None:
    member = Awkward()
    monkeypatch.setattr(member.memory, "swap_inventory", lambda *_: None)
    report = member.deliver(WEB, OLD, fence(1))
    assert (report.complete, report.reason) == (None, Reason.UNREACHABLE)
    assert "changed 5 times" in report.message


# -- a fence that is lost, and then the connection: what was written is listed as soon as that can be


OLD_KEYS, NEW_KEYS = (tuple(key_of(body) for body in one.objects) for one in (OLD, NEW))
BOTH = NEW_KEYS + tuple(key for key in OLD_KEYS if key not in NEW_KEYS)


def cut_off(monkeypatch: pytest.MonkeyPatch, member: Awkward) -> None:
    """Deliver under intent 1, overtaken by another daemon's intent 2, and lose the connection after three objects."""
    plain = member.memory.apply_objects

    def apply(objects: tuple[Body, ...], check_fence: Callable[[], None]) -> tuple[ObjectResult, ...]:
        monkeypatch.setattr(member.memory, "apply_objects", plain)
        FencedDelivery(member.memory).deliver(WEB, NEW, fence(2))
        member.breaks_after(3)
        return plain(objects, check_fence)

    monkeypatch.setattr(member.memory, "apply_objects", apply)
    assert member.deliver(WEB, OLD, fence(1)).reason is Reason.UNREACHABLE
    member.heals()


def in_doubt(member: Awkward) -> Inventory | None:
    return member.memory.read_inventory(WEB).inventory


def test_a_late_delivery_that_was_cut_off_is_told_with_what_it_wrote_by_its_next_try(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    member = Awkward()
    cut_off(monkeypatch, member)
    report = member.deliver(WEB, OLD, fence(1))
    assert report.reason is Reason.FENCE_LOST
    assert "up to 4 objects were written before, by a try that was cut off" in report.message
    assert in_doubt(member) == Inventory(fence=fence(2), complete=None, objects=BOTH)
    assert "cut off" not in member.deliver(WEB, OLD, fence(1)).message


@pytest.mark.parametrize("seq", [2, 3])
def test_a_newer_intent_prunes_what_a_late_delivery_wrote(monkeypatch: pytest.MonkeyPatch, seq: int) -> None:
    """Also the very one that another daemon has completed: complete is not what it is with strays beside it."""
    member = Awkward()
    cut_off(monkeypatch, member)
    assert member.objects.keys() - held_by(NEW).keys() == {key_of(config_map("leaves"))}
    assert member.observe(WEB, NEW, fence(2)).reason is Reason.INCOMPLETE
    assert member.deliver(WEB, NEW, fence(seq)).healthy
    assert member.objects == held_by(NEW)
    assert member.observe(WEB, NEW, fence(seq)).healthy


def test_a_withdrawal_removes_what_a_late_delivery_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    member = Awkward()
    cut_off(monkeypatch, member)
    FencedDelivery(member.memory).withdraw(WEB, fence(2))
    assert member.withdraw(WEB, fence(2)).reason is Reason.WITHDRAWN
    assert member.objects == {}


def test_a_lost_fence_is_told_even_if_what_was_written_cannot_be_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the cluster is delivered again, which lists and prunes it."""
    member = Awkward()
    plain = member.memory.swap_inventory

    def overtake_and_spoil() -> None:
        FencedDelivery(member.memory).deliver(WEB, NEW, fence(2))
        monkeypatch.setattr(member.memory, "swap_inventory", lambda *_: None)

    late(monkeypatch, member, overtake_and_spoil)
    report = member.deliver(WEB, OLD, fence(1))
    assert report.reason is Reason.FENCE_LOST
    assert "up to 4 objects were written" in report.message
    assert "could not be listed there yet: " in report.message
    monkeypatch.setattr(member.memory, "swap_inventory", plain)
    assert member.deliver(WEB, NEW, fence(2)).healthy
    assert member.objects == held_by(NEW)


def test_a_delivery_that_was_cut_off_in_time_is_just_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    member = Awkward()
    member.breaks_after(2)
    assert member.deliver(WEB, OLD, fence(1)).reason is Reason.UNREACHABLE
    member.heals()
    member.log.clear()
    assert member.deliver(WEB, OLD, fence(1)).healthy
    assert len(member.log) == 3  # the two that were missing, and the inventory, closed


# -- the awkward member


def deliver(member: Awkward, one: Content = OLD, seq: int = 1) -> Report:
    return member.deliver(WEB, one, fence(seq))


def test_a_silent_member_answers_nothing_and_gets_nothing() -> None:
    member = Awkward()
    member.falls_silent()
    with pytest.raises(TemporaryError):
        deliver(member)
    with pytest.raises(TemporaryError):
        member.highest_epoch(REPOSITORY)
    assert member.describe()["reachable"] is False
    assert member.log == []
    member.heals()
    assert deliver(member).healthy


def test_a_slow_member_becomes_available_after_so_many_looks() -> None:
    member = Awkward()
    member.is_slow(looks=2)
    looks = [deliver(member), member.observe(WEB, OLD, fence(1)), member.observe(WEB, OLD, fence(1))]
    assert [(look.complete, look.reason) for look in looks] == [
        ("old", Reason.NOT_AVAILABLE),
        ("old", Reason.NOT_AVAILABLE),
        ("old", Reason.AVAILABLE),
    ]


def test_an_unavailable_member_stays_so_until_it_heals() -> None:
    member = Awkward()
    member.becomes_unavailable()
    deliver(member)
    assert {member.observe(WEB, OLD, fence(1)).reason for _ in range(50)} == {Reason.NOT_AVAILABLE}
    member.heals()
    assert member.observe(WEB, OLD, fence(1)).healthy


def test_a_refusing_member_says_why_and_takes_nothing() -> None:
    member = Awkward()
    member.refuses("quota exceeded")
    report = deliver(member)
    assert (report.complete, report.reason, report.message) == (None, Reason.REFUSED, "quota exceeded")
    assert member.objects == {}


def test_a_member_that_breaks_keeps_what_it_had_got_and_is_completed_later() -> None:
    member = Awkward()
    member.breaks_after(objects=2)
    report = deliver(member)
    assert (report.complete, report.reason) == (None, Reason.UNREACHABLE)
    assert len(member.objects) == 2
    member.heals()
    assert deliver(member).healthy
    assert member.objects == held_by(OLD)


def test_a_member_that_loses_replies_has_done_the_work() -> None:
    member = Awkward()
    member.loses_replies()
    with pytest.raises(TemporaryError):
        deliver(member)
    assert member.objects == held_by(OLD)
    member.heals()
    writes = len(member.log)
    assert deliver(member).healthy
    assert len(member.log) == writes


def test_a_member_that_forgets_is_delivered_to_again_without_writing_an_object_twice() -> None:
    member = Awkward()
    deliver(member)
    member.forgets()
    member.log.clear()
    assert member.observe(WEB, OLD, fence(1)).reason is Reason.INCOMPLETE
    assert deliver(member).healthy
    assert set(member.log) == {"inventory of ClusterResourcePlacement web"}


def test_a_swapped_member_is_told_apart_and_not_touched() -> None:
    member = Awkward()
    deliver(member)
    member.is_swapped("somebody-else")
    report = deliver(member, NEW, 2)
    assert (report.complete, report.reason) == (None, Reason.IDENTITY_CHANGED)
    assert member.describe()["identity"] == "somebody-else"
    assert member.objects == held_by(OLD)
