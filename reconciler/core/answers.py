"""What members answered, taken in: only what says something new is an event.

Other words for the same facts are new, too; who asks the members sees to it that they come but rarely.
"""

from collections.abc import Iterable
from datetime import datetime

from reconciler.core.actions import Outcome, Reason, Report
from reconciler.core.events import ClusterReported, Event, WithdrawalReported
from reconciler.core.fold import apply_to_placement
from reconciler.core.status import ClusterFacts, PlacementState

_RESULTS = 100
"""How many objects of a cluster are told apart, as upstream."""


def absorb(
    state: PlacementState, outcomes: Iterable[Outcome], now: datetime
) -> tuple[PlacementState, tuple[Event, ...]]:
    """Return the state after the outcomes, and their events; an answer to no open intent is dropped."""
    events = []
    for outcome in outcomes:
        event = _heard(state, outcome, now)
        if event is not None:
            state = apply_to_placement(state, event)
            events.append(event)
    return state, tuple(events)


def _heard(state: PlacementState, outcome: Outcome, now: datetime) -> Event | None:
    target, report = outcome.target, outcome.report
    if not target.run_uid:
        return _heard_of_withdrawal(state, outcome, now)
    run = state.runs.get(target.run_uid)
    if run is None:
        return None
    for number, cluster in run.in_flight_on(target.cluster):
        if cluster.seq == target.seq:
            results, complete = report.results[:_RESULTS], _known_complete(cluster, report)
            heard = (complete, report.reason, report.object, report.message, results)
            if heard == (cluster.complete, cluster.reason, cluster.object, cluster.message, cluster.results):
                return None
            return ClusterReported(
                seq=state.seq + 1,
                now=now,
                run=run.uid,
                stage=number,
                cluster=cluster.name,
                intent=target.seq,
                complete=complete,
                reason=report.reason,
                object=report.object,
                message=report.message,
                results=results,
            )
    return None


def _known_complete(cluster: ClusterFacts, report: Report) -> str:
    """Return the hash that the member holds completely as far as is known, empty for none.

    Who did not answer has not lost what arrived: it would else not be what a later rollback goes back to. But where one
    object could not be looked at and another is missing, the missing one is to be delivered.
    """
    is_missing = any(one.reason.tells_content and one.reason is not Reason.NOT_AVAILABLE for one in report.results)
    return report.complete or "" if report.reason.tells_content or is_missing else cluster.complete


def _heard_of_withdrawal(state: PlacementState, outcome: Outcome, now: datetime) -> Event | None:
    """Return what a member says about what is removed from it because the placement is gone."""
    record, report = state.records.get(outcome.target.cluster), outcome.report
    if record is None or record.run or record.seq != outcome.target.seq:
        return None
    results = report.results[:_RESULTS]
    heard = (report.reason, report.object, report.message, results)
    if heard == (record.reason, record.object, record.message, record.results):
        return None
    return WithdrawalReported(
        seq=state.seq + 1,
        now=now,
        cluster=record.cluster,
        intent=record.seq,
        reason=report.reason,
        object=report.object,
        message=report.message,
        results=results,
    )
