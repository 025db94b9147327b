"""What can happen to a run and to a placement: facts, never a status.

`fold` makes a status from them. An event is written once, as one line of JSON, and never changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from reconciler.core import codec
from reconciler.core.actions import ObjectResult, Reason
from reconciler.core.model import Body, Key
from reconciler.core.status import ApprovalFact, Delivered, Pin, PinnedCluster, PolicySnapshot, Snapshot, When


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What every event has: its number, its moment, and the uid of its run (empty: the placement's own)."""

    seq: int
    now: datetime
    run: str = ""


# -- events of a run ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSeen(Event):
    """A run appeared in the repository, or a rollback by the revert of others; always the first event of its log."""

    format: int = 0
    key: Key
    created: datetime
    position: int
    commit: str
    generation: int
    spec: Body
    annotations: Body = field(default_factory=dict)
    brought_by: str = ""
    reverts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEdited(Event):
    """The run's own file changed its spec: only the state may."""

    commit: str
    generation: int
    spec: Body


@dataclass(frozen=True, slots=True, kw_only=True)
class RunNotStarted(Event):
    """The run is as old as the status branch or older: it is never started."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InitializationFailed(Event):
    """Initialization found something wrong at a commit; unless final it is tried again at the next."""

    commit: str
    message: str
    final: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInitialized(Event):
    """Everything was resolved at a commit, and is pinned."""

    pin: Pin


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    """The run begins to act; older runs of the placement are superseded.

    `deletions` are the clusters that hold content of the placement without being chosen any more.
    """

    deletions: tuple[PinnedCluster, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSkipped(Event):
    """A stage without clusters at initialization."""

    stage: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOpened(Event):
    """A gate asks for its condition from now on; an approval must be newer than `head`."""

    stage: int
    when: When
    type: str
    head: str
    position: int
    request: str = ""
    request_uid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePassed(Event):
    """A wait elapsed, or an approval was accepted."""

    stage: int
    when: When
    type: str
    approval: ApprovalFact | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRefused(Event):
    """An approval of this gate is there but does not count; `message` says what to change."""

    stage: int
    when: When
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterStarted(Event):
    """The intent to deliver to a cluster: its `seq` is the fence of everything done for it."""

    stage: int
    cluster: str
    before: Delivered | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterDeparted(Event):
    """The cluster is no longer a member of the fleet: it is skipped, and stays skipped."""

    stage: int
    cluster: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterReported(Event):
    """What is known of a member changed: the hash it holds completely (empty: none), and why it is not done.

    Where nobody could look, the hash is the one that was known before.
    """

    stage: int
    cluster: str
    intent: int
    complete: str = ""
    reason: Reason
    object: str = ""
    message: str = ""
    results: tuple[ObjectResult, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOverdue(Event):
    """The cluster has been in flight longer than the stage's deadline."""

    stage: int
    cluster: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterTaken(Event):
    """The intent of a newer run took over a cluster that was in flight."""

    stage: int
    cluster: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCompleted(Event):
    """All clusters are updated and all after-stage tasks done."""

    stage: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCompleted(Event):
    """All stages are over, and the delete stage too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSuperseded(Event):
    """A newer run of the placement started."""

    by: str
    by_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWithdrawn(Event):
    """The run's file is gone, or its placement: nothing new starts, clusters keep what they have.

    `rollback` names the rollback that takes it back, where the removal is a revert.
    """

    commit: str
    placement_removed: bool = False
    rollback: str = ""


# -- events of a placement ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementSeen(Event):
    """A placement appeared: snapshots and policies count from 0 again, records and `seq` stay."""

    format: int = 0
    key: Key
    uid: str
    created: datetime
    generation: int
    commit: str
    spec: Body


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementEdited(Event):
    """The placement's spec changed."""

    generation: int
    commit: str
    spec: Body


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementRemoved(Event):
    """The placement left the repository."""

    commit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotMade(Event):
    """The resources have a new state; its index is final."""

    snapshot: Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyMade(Event):
    """`spec.policy` has a new state."""

    policy: PolicySnapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementScheduled(Event):
    """The policy chooses other clusters than before; `refusal` says why it cannot choose at all."""

    commit: str
    clusters: tuple[str, ...] = ()
    refusal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawalStarted(Event):
    """The intent to remove from a cluster what a removed placement put there; its `seq` is the fence."""

    cluster: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawalReported(Event):
    """What a member answered about such a removal changed."""

    cluster: str
    intent: int
    reason: Reason
    object: str = ""
    message: str = ""
    results: tuple[ObjectResult, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunArchived(Event):
    """A run that is over and whose file is gone left the tree: its log is in the history of the status branch."""

    uid: str
    name: str


# -- the text of the log ------------------------------------------------------------------------------------------

EVENTS: Mapping[str, type[Event]] = {kind.__name__: kind for kind in Event.__subclasses__()}


def encode(event: Event) -> dict[str, Any]:
    """Return the event as a JSON-shaped mapping: `seq`, `now` and `event` first, then its facts."""
    facts = codec.encode(event)
    return {"seq": facts.pop("seq"), "now": facts.pop("now"), "event": type(event).__name__, **facts}


def decode(data: Mapping[str, Any]) -> Event:
    """Read an event back.

    Raises:  ValueError for an unknown kind or facts that do not fit it.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"no event: {data!r}")  # noqa: TRY004 - whatever a line of the log holds is a bad value
    facts = {key: value for key, value in data.items() if key != "event"}
    kind = EVENTS.get(str(data.get("event")))
    if kind is None:
        raise ValueError(f"unknown event {data.get('event')!r}")
    return codec.decode(kind, facts)
