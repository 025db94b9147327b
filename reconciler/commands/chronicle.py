"""The events of a log as `kubectl describe` shows events: a type, a reason, and a sentence."""

from collections.abc import Callable, Mapping
from typing import Any

from reconciler.core import events as e
from reconciler.core.actions import Reason
from reconciler.core.events import Event
from reconciler.core.status import RunStatus, in_words

NORMAL, WARNING = "Normal", "Warning"

_WELL = (Reason.AVAILABLE, Reason.NOT_AVAILABLE, Reason.INCOMPLETE, Reason.WITHDRAWN)
"""What members report while nothing is wrong."""

_WARNINGS = (e.InitializationFailed, e.RunNotStarted, e.ApprovalRefused, e.ClusterOverdue, e.RunSuperseded)


def type_of(event: Event) -> str:
    """Return `Warning` for what somebody may have to look at, else `Normal`."""
    if isinstance(event, e.ClusterReported | e.WithdrawalReported):
        return NORMAL if event.reason in _WELL else WARNING
    refused = isinstance(event, e.PlacementScheduled) and bool(event.refusal)
    return WARNING if refused or isinstance(event, _WARNINGS) else NORMAL


def message_of(event: Event, run: RunStatus | None) -> str:
    """Return what happened as a sentence; `run` is the one whose log it is from, for the names of its stages."""
    number = getattr(event, "stage", None)
    stages = run.all_stages if run is not None else ()
    stage = stages[number].name if number is not None and number < len(stages) else ""
    return MESSAGES[type(event)](event, stage)


def _seen(event: e.RunSeen, _: str) -> str:
    if event.reverts:
        return f"Commit {event.commit[:7]} reverts runs of the placement: their clusters go back"
    return f"Commit {event.commit[:7]} holds the run, generation {event.generation}"


def _edited(event: e.RunEdited, _: str) -> str:
    return f"Commit {event.commit[:7]} sets spec.state to {event.spec.get('state') or 'Run'}"


def _initialized(event: e.RunInitialized, _: str) -> str:
    pin = event.pin
    return f"Snapshot {pin.label} and {pin.cluster_count} cluster(s) are pinned as of commit {pin.commit[:7]}"


def _withdrawn(event: e.RunWithdrawn, _: str) -> str:
    what = "The placement" if event.placement_removed else "The run's file"
    back = f"; {event.rollback} takes it back" if event.rollback else ""
    return f"{what} was removed by commit {event.commit[:7]}: nothing new starts{back}"


def _opened(event: e.GateOpened, stage: str) -> str:
    asks = f" {event.request}" if event.request else ""
    return f"The gate {event.when} stage {stage} waits for {event.type}{asks}"


def _passed(event: e.GatePassed, stage: str) -> str:
    by = event.approval
    told = f": approved by {by.author} in commit {by.commit[:7]}" if by is not None else ""
    return f"The gate {event.when} stage {stage}, {event.type}, is passed{told}"


def _refused(event: e.ApprovalRefused, stage: str) -> str:
    return f"Gate {event.when} stage {stage}: {event.message or 'the approval that did not count is gone'}"


def _cluster_started(event: e.ClusterStarted, stage: str) -> str:
    before = f", which had snapshot {event.before.index}" if event.before is not None else ""
    return f"Stage {stage} turns to cluster {event.cluster}{before}"


def _heard(event: e.ClusterReported | e.WithdrawalReported, _: str) -> str:
    words = in_words(str(event.reason), event.object, event.message)
    return f"Cluster {event.cluster}: {words}"


def _snapshot(event: e.SnapshotMade, _: str) -> str:
    one = event.snapshot
    equals = f", equal to {one.equals}" if one.equals is not None else ""
    return f"Snapshot {one.index} ({one.hash[:7]}{equals}) by commit {one.commit[:7]}: {one.subject}"


def _scheduled(event: e.PlacementScheduled, _: str) -> str:
    return event.refusal or f"{len(event.clusters)} cluster(s) are chosen"


MESSAGES: Mapping[type[Event], Callable[[Any, str], str]] = {
    e.RunSeen: _seen,
    e.RunEdited: _edited,
    e.RunNotStarted: lambda event, _: str(event.message),
    e.InitializationFailed: lambda event, _: str(event.message),
    e.RunInitialized: _initialized,
    e.RunStarted: lambda _, __: "The run acts from now on",
    e.StageSkipped: lambda _, stage: f"Stage {stage} has no clusters",
    e.GateOpened: _opened,
    e.GatePassed: _passed,
    e.ApprovalRefused: _refused,
    e.ClusterStarted: _cluster_started,
    e.ClusterDeparted: lambda event, _: f"Cluster {event.cluster} left the fleet: it is skipped",
    e.ClusterReported: _heard,
    e.ClusterOverdue: lambda event, stage: f"Cluster {event.cluster} is past the deadline of stage {stage}",
    e.ClusterTaken: lambda event, _: f"Cluster {event.cluster} was taken over by a newer intent",
    e.StageCompleted: lambda _, stage: f"Stage {stage} is completed",
    e.RunCompleted: lambda _, __: "All stages are completed",
    e.RunSuperseded: lambda event, _: f"The newer run {event.by_name} has started",
    e.RunWithdrawn: _withdrawn,
    e.PlacementSeen: lambda event, _: f"Commit {event.commit[:7]} holds the placement, generation {event.generation}",
    e.PlacementEdited: lambda event, _: (
        f"Commit {event.commit[:7]} changes the placement to generation {event.generation}"
    ),
    e.PlacementRemoved: lambda event, _: f"Commit {event.commit[:7]} removes the placement",
    e.SnapshotMade: _snapshot,
    e.PolicyMade: lambda event, _: f"Scheduling policy {event.policy.index} by commit {event.policy.commit[:7]}",
    e.PlacementScheduled: _scheduled,
    e.WithdrawalStarted: lambda event, _: (
        f"What was placed on cluster {event.cluster} is removed from now on, or let go of under Abandon"
    ),
    e.WithdrawalReported: _heard,
    e.RunArchived: lambda event, _: f"Run {event.name} is over and its file is gone: its log left the tree",
}
