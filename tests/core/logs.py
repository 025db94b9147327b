"""Logs of runs as values: one event of every kind, where it can happen and where it cannot."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from reconciler.core import events as e
from reconciler.core.actions import Reason
from reconciler.core.fold import apply_to_placement
from reconciler.core.model import Key
from reconciler.core.status import (
    ApprovalFact,
    Delivered,
    Pin,
    PinnedCluster,
    PinnedStage,
    PinnedTask,
    PlacementState,
    PolicySnapshot,
    RunStatus,
    Snapshot,
    When,
)

NOW = datetime(2025, 7, 22, 21, 28, 8, tzinfo=UTC)
HASH = "10dd7a3d1e5f9849afe956cfbac080a60671ad771e9bda7dd34415f867c75648"
PLACEMENT = Key(group="placement.kubernetes-fleet.io", kind="ClusterResourcePlacement", name="example-placement")
RUN = replace(PLACEMENT, kind="ClusterStagedUpdateRun", name="example-run")
UID = "11111111-1111-4111-8111-111111111111"
NEWER = "22222222-2222-4222-8222-222222222222"
COMMIT = "c" * 40
SPEC = {
    "placementName": "example-placement",
    "resourceSnapshotIndex": "1",
    "stagedRolloutStrategyName": "example-strategy",
}
APPROVAL = ApprovalFact(
    commit="a" * 40, author="Olga <o@x>", committer="Olga <o@x>", condition={"type": "Approved", "status": "True"}
)
BEFORE = Delivered(run=NEWER, index=0, hash="0" * 64, commit=COMMIT, seq=3)
STRATEGY = {
    "stages": [
        {
            "afterStageTasks": [{"type": "TimedWait", "waitTime": "1m0s"}],
            "labelSelector": {"matchLabels": {"environment": "staging"}},
            "name": "staging",
        },
        {
            "afterStageTasks": [{"type": "Approval"}],
            "labelSelector": {"matchLabels": {"environment": "canary"}},
            "name": "canary",
            "sortingLabelKey": "order",
        },
    ]
}


def cluster(name: str) -> PinnedCluster:
    return PinnedCluster(name=name, uid=f"uid-{name}", hash=HASH)


def pin(*stages: PinnedStage) -> Pin:
    """Return what the article's run resolves to, or the stages given."""
    wait, approval = PinnedTask(type="TimedWait", wait="1m0s"), PinnedTask(type="Approval")
    usual = (
        PinnedStage(name="staging", clusters=(cluster("member2"),), limit=1, after=(wait,)),
        PinnedStage(name="canary", clusters=(cluster("member3"), cluster("member1")), limit=1, after=(approval,)),
    )
    return Pin(
        commit=COMMIT,
        position=7,
        placement_uid="uid-placement",
        snapshot_index=1,
        snapshot_commit=COMMIT,
        hash=HASH,
        policy_index=0,
        cluster_count=3,
        strategy=STRATEGY,
        apply_strategy={"type": "ClientSideApply"},
        stages=stages or usual,
    )


GATED = pin(
    PinnedStage(name="empty", clusters=(), limit=1),
    PinnedStage(
        name="gated",
        clusters=(cluster("a"), cluster("b")),
        limit=1,
        before=(PinnedTask(type="Approval"),),
    ),
)
"""An empty stage, then one with two clusters behind an approval."""


Step = tuple[type[e.Event], dict[str, Any]]
"""Kind and facts of an event."""


@dataclass(slots=True)
class Log:
    """Events in the making: numbers and moments are given to them in order."""

    state: PlacementState = field(default_factory=lambda: PlacementState(key=PLACEMENT))
    now: datetime = NOW
    events: list[e.Event] = field(default_factory=list)

    def at(self, clock: str) -> "Log":
        """Go on at a time of the day."""
        self.now = datetime.fromisoformat(f"2025-07-22T{clock}+00:00")
        return self

    def later(self, seconds: float) -> "Log":
        """Go on so many seconds later."""
        self.now += timedelta(seconds=seconds)
        return self

    def happens(self, kind: type[e.Event], run: str = UID, **facts: Any) -> "Log":
        """Fold one more event."""
        event = kind(seq=self.state.seq + 1, now=self.now, run=run, **facts)
        self.state = apply_to_placement(self.state, event)
        self.events.append(event)
        return self

    def step(self, step: Step) -> "Log":
        """Fold one more, given as kind and facts."""
        kind, facts = step
        return self.happens(kind, **facts)

    def all_of(self, steps: Iterable[Step]) -> "Log":
        """Fold several, five seconds apart; where a wait begins it is waited for."""
        for kind, facts in steps:
            begins_to_wait = kind is e.GateOpened and facts["type"] == "TimedWait"
            self.step((kind, facts)).later(60 if begins_to_wait else 5)
        return self

    @property
    def run(self) -> RunStatus:
        """The run as it is by now."""
        return self.state.runs[UID]


def seen(**more: Any) -> Step:
    facts = {
        "format": 1,
        "key": RUN,
        "created": NOW,
        "position": 6,
        "commit": COMMIT,
        "generation": 1,
        "spec": SPEC,
        **more,
    }
    return e.RunSeen, facts


def gate(kind: type[e.Event], stage: int, type_: str, when: When = When.AFTER, **more: Any) -> Step:
    return kind, {"stage": stage, "when": when, "type": type_, **more}


def opened(stage: int, type_: str, when: When = When.AFTER) -> Step:
    request = f"example-run-{stage}" if type_ == "Approval" else ""
    facts = {"head": COMMIT, "position": 7, "request": request, "request_uid": f"uid-{request}" if request else ""}
    return gate(e.GateOpened, stage, type_, when, **facts)


def started(stage: int, name: str, **more: Any) -> Step:
    return e.ClusterStarted, {"stage": stage, "cluster": name, **more}


def reported(
    stage: int, name: str, intent: int, reason: Reason = Reason.AVAILABLE, complete: str = HASH, **more: Any
) -> Step:
    facts = {"stage": stage, "cluster": name, "intent": intent, "reason": reason, "complete": complete, **more}
    return e.ClusterReported, facts


SEEN = (seen(),)
INITIALIZED = (*SEEN, (e.RunInitialized, {"pin": pin()}))
STARTED = (*INITIALIZED, (e.RunStarted, {}))
FIRST = (*STARTED, started(0, "member2"))
"""The article's run with its first cluster in flight, under intent 4."""
UPDATED = (*FIRST, reported(0, "member2", 4))
WAITING = (*UPDATED, opened(0, "TimedWait"))
PASSED = (*WAITING, gate(e.GatePassed, 0, "TimedWait"))
STAGED = (*PASSED, (e.StageCompleted, {"stage": 0}))
CANARIES = (
    *STAGED,
    started(1, "member3"),
    reported(1, "member3", 9),
    started(1, "member1"),
    reported(1, "member1", 11),
)
ASKING = (*CANARIES, opened(1, "Approval"))
OVER = (*ASKING, gate(e.GatePassed, 1, "Approval", approval=APPROVAL), (e.StageCompleted, {"stage": 1}))
DONE = (*OVER, (e.RunCompleted, {}))
EMPTY_FIRST = (*SEEN, (e.RunInitialized, {"pin": GATED}), (e.RunStarted, {}))
SKIPPED = (*EMPTY_FIRST, (e.StageSkipped, {"stage": 0}))
BEFORE_GATE = (*SKIPPED, opened(1, "Approval", When.BEFORE))
OPENED = (*BEFORE_GATE, gate(e.GatePassed, 1, "Approval", When.BEFORE, approval=APPROVAL))
SUPERSEDED = (*FIRST, (e.RunSuperseded, {"by": NEWER, "by_name": "example-run-2"}))

SNAPSHOT = Snapshot(
    index=0,
    hash=HASH,
    commit=COMMIT,
    position=3,
    created=NOW,
    author="Ada <a@x>",
    subject="Place it",
    objects=("v1 Namespace x",),
)
POLICY = PolicySnapshot(index=0, hash="x", commit=COMMIT, created=NOW, policy={"placementType": "PickAll"})
PLACED = (
    e.PlacementSeen,
    {
        "run": "",
        "format": 1,
        "key": PLACEMENT,
        "uid": "uid-placement",
        "created": NOW,
        "generation": 1,
        "commit": COMMIT,
        "spec": {"policy": {"placementType": "PickAll"}},
    },
)
