"""What a stage waits for. A gate sees only a `GateView` and answers with a `Verdict`; `GATES` names them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from reconciler.core.approvals import Judgement
from reconciler.core.status import ApprovalFact, Gate, StageFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class GateView:
    """All that a gate may know: itself, its stage, the present moment, and how its approvals are judged."""

    gate: Gate
    stage: StageFacts
    now: datetime
    judgement: Callable[[], Judgement]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Passed or not; when to look again at the latest (None: only when something changes); and why not."""

    passed: bool = False
    recheck_at: datetime | None = None
    approval: ApprovalFact | None = None
    refused: str = ""


def timed_wait(view: GateView) -> Verdict:
    """Pass once the wait is over; it counts from the moment the last cluster of the stage was seen healthy."""
    since = view.stage.updated_at or view.gate.opened_at
    if since is None or view.gate.wait is None:
        return Verdict()
    over_at = since + view.gate.wait
    return Verdict(passed=view.now >= over_at, recheck_at=over_at)


def approval(view: GateView) -> Verdict:
    """Pass once an approval counts."""
    judgement = view.judgement()
    return Verdict(passed=judgement.accepted is not None, approval=judgement.accepted, refused=judgement.refused)


GATES: Mapping[str, Callable[[GateView], Verdict]] = {"TimedWait": timed_wait, "Approval": approval}
