"""A plan in the making: what it is made from, and the state as it will be, event by event."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from reconciler.core.approvals import Candidate
from reconciler.core.events import ClusterTaken, Event
from reconciler.core.fold import apply_to_placement
from reconciler.core.model import Commit
from reconciler.core.status import PlacementState, RunStatus
from reconciler.core.view import View


@dataclass(frozen=True, slots=True, kw_only=True)
class Declarations:
    """What the repository says at the head, as far as one placement is concerned.

    `started_after` is the position of the head at which the status branch was made: runs up to there never start.
    `rewritten_at` is the position of the last acknowledged rewrite; `clock_problem` says why no wait may pass.
    `deadline` is when a cluster in flight is called stuck; `grace` passes before what a removed placement put on the
    members is removed.
    """

    head: Commit
    view: View
    candidates: tuple[Candidate, ...] = ()
    started_after: int = -1
    rewritten_at: int = -1
    clock_problem: str = ""
    deadline: timedelta = timedelta(minutes=5)
    grace: timedelta = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Why nothing more happens to a run: for what, since when, and the command that helps, if one does."""

    run: str
    reason: str
    message: str
    since: datetime | None = None
    command: str = ""


@dataclass(slots=True)
class Draft:
    """A plan in the making: the state as it will be, and the events that lead there."""

    state: PlacementState
    declared: Declarations
    now: datetime
    events: list[Event] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)
    rechecks: list[datetime] = field(default_factory=list)

    def emit(self, kind: type[Event], *, run: str = "", **facts: Any) -> None:
        """Draw the next number, and fold the event at once."""
        event = kind(seq=self.state.seq + 1, now=self.now, run=run, **facts)
        self.state = apply_to_placement(self.state, event)
        self.events.append(event)

    def run(self, uid: str) -> RunStatus:
        """Return a run as it is by now."""
        return self.state.runs[uid]

    def waits(
        self, run: RunStatus, reason: str, message: str, since: datetime | None = None, command: str = ""
    ) -> None:
        """Note why a run does not go on."""
        self.waiting.append(Waiting(run=run.key.name, reason=reason, message=message, since=since, command=command))


def in_order(state: PlacementState) -> list[str]:
    """Return the uids of the runs, oldest first."""
    return [run.uid for run in sorted(state.runs.values(), key=lambda one: one.age)]


def take_over(draft: Draft, cluster: str, by: str) -> None:
    """End every other intent for a cluster."""
    for other in in_order(draft.state):
        if other != by:
            for stage, _ in list(draft.run(other).in_flight_on(cluster)):
                draft.emit(ClusterTaken, run=other, stage=stage, cluster=cluster, by=by)
