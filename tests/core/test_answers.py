"""What members answered: what becomes an event, and what of a member is known by it."""

from dataclasses import replace

import pytest

from reconciler.core.actions import ObjectResult, Outcome, Reason, Report, Target
from reconciler.core.answers import absorb
from reconciler.delivery.base import report_of
from tests.core import logs
from tests.core.logs import HASH, NOW, UID

BLIND = {Reason.UNREACHABLE, Reason.UNAUTHORIZED, Reason.NOT_CONFIGURED, Reason.IDENTITY_CHANGED, Reason.FENCE_LOST}
"""Whoever reports one of these has not seen the content."""
FLYING = logs.Log().all_of(logs.FIRST).state


def said(reason: Reason, complete: str | None = None) -> Outcome:
    target = Target(placement=logs.PLACEMENT, cluster="member2", run_uid=UID, seq=4)
    return Outcome(target=target, report=Report(complete=complete, reason=reason), observed_at=NOW)


ARRIVED = said(Reason.NOT_AVAILABLE, HASH)


@pytest.mark.parametrize("reason", list(Reason))
def test_what_arrived_stays_known_until_somebody_looks_and_says_otherwise(reason: Reason):
    state, events = absorb(FLYING, [ARRIVED, said(reason)], NOW)
    record = state.records["member2"]
    assert (len(events), record.reason) == (2, reason)
    assert (record.complete_at is not None) == (reason in BLIND)
    assert record.delivered is not None  # what somebody changed on the member is no other way back


@pytest.mark.parametrize("reason", sorted(BLIND))
def test_what_did_not_arrive_is_not_made_complete_by_silence(reason: Reason):
    state, _ = absorb(FLYING, [ARRIVED, said(Reason.INCOMPLETE), said(reason)], NOW)
    assert state.records["member2"].complete_at is None


@pytest.mark.parametrize("other", [Reason.INCOMPLETE, Reason.NOT_AVAILABLE])
@pytest.mark.parametrize("unseen", [Reason.UNAUTHORIZED, Reason.UNREACHABLE])
def test_what_is_missing_is_known_though_another_object_cannot_be_looked_at(unseen: Reason, other: Reason):
    reasons = {"Widget web/a": unseen, "ConfigMap web/b": other}
    report = report_of(HASH, [ObjectResult(object=name, reason=reason) for name, reason in reasons.items()])
    state, _ = absorb(FLYING, [ARRIVED, replace(ARRIVED, report=report)], NOW)
    assert (state.records["member2"].complete_at is None) == (other is Reason.INCOMPLETE)


def test_what_stays_the_same_is_told_once():
    state, _ = absorb(FLYING, [ARRIVED, said(Reason.UNREACHABLE)], NOW)
    assert absorb(state, [said(Reason.UNREACHABLE)], NOW) == (state, ())


def test_other_words_are_told_and_the_trouble_is_as_old_as_before():
    """The first look at a new Deployment finds a controller that has seen nothing; what is wrong, a later one finds."""

    def lacks(message: str) -> Outcome:
        result = ObjectResult(object="Deployment web/app", reason=Reason.NOT_AVAILABLE, message=message)
        return replace(ARRIVED, report=report_of(HASH, [result]))

    log = logs.Log(state=absorb(FLYING, [lacks("unseen")], NOW)[0])
    state, events = absorb(log.state, [lacks("0 of 3 pods fit")], log.later(30).now)
    [(_, cluster)] = state.runs[UID].in_flight_on("member2")
    assert len(events) == 1
    assert (cluster.message, cluster.results[0].message) == ("0 of 3 pods fit", "0 of 3 pods fit")
    assert (cluster.heard_at, state.records["member2"].message) == (NOW, "0 of 3 pods fit")


def test_another_trouble_is_as_old_as_its_first_report():
    log = logs.Log(state=absorb(FLYING, [ARRIVED], NOW)[0])
    later = log.later(30).now
    [(_, cluster)] = absorb(log.state, [said(Reason.UNREACHABLE)], later)[0].runs[UID].in_flight_on("member2")
    assert cluster.heard_at == later


def test_a_member_that_is_back_is_complete_since_it_first_was():
    log = logs.Log(state=absorb(FLYING, [ARRIVED], NOW)[0])
    later = log.later(60).now
    state, _ = absorb(log.state, [said(Reason.UNREACHABLE), said(Reason.AVAILABLE, HASH)], later)
    record = state.records["member2"]
    assert (record.complete_at, record.available_at) == (NOW, later)
