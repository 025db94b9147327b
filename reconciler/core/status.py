"""The facts of a run and of a placement: what the fold of events holds, and what can be computed from it.

Nothing here decides or words anything: `events.apply` makes these values, `conditions` words them.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from reconciler.core.actions import ObjectResult, Reason
from reconciler.core.model import Body, Key, parse_duration

FORMAT = 6
"""Raised with any change of the fold or of the rendering."""


class State(StrEnum):
    """`spec.state` of a run."""

    INITIALIZE = "Initialize"
    RUN = "Run"
    STOP = "Stop"


class When(StrEnum):
    """On which side of a stage a gate stands."""

    BEFORE = "before"
    AFTER = "after"


class End(StrEnum):
    """How a run ended."""

    SUCCEEDED = "Succeeded"
    SUPERSEDED = "Superseded"
    WITHDRAWN = "Withdrawn"
    NOT_STARTED = "NotStarted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """A complete delivery: the way back to it. `seq` is that of its intent, `placement_uid` says whose index it is."""

    run: str
    index: int
    hash: str
    commit: str
    seq: int
    placement_uid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedCluster:
    """A cluster as initialization found it: name, uid, and the hash of what it is to get (empty: nothing any more).

    `restores` is what a rollback brings back, where that differs from cluster to cluster.
    """

    name: str
    uid: str
    hash: str
    restores: Delivered | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedTask:
    """A task of a stage; `wait` is a Go duration, for TimedWait alone."""

    type: str
    wait: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedStage:
    """A stage as initialization resolved it: clusters in order, `limit` at the same time."""

    name: str
    clusters: tuple[PinnedCluster, ...]
    limit: int
    before: tuple[PinnedTask, ...] = ()
    after: tuple[PinnedTask, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """What initialization resolved once and for all; later commits do not move it.

    `left` names the clusters that a rollback leaves alone, each with who wrote it since.
    """

    commit: str
    position: int
    placement_uid: str
    snapshot_index: int
    snapshot_commit: str
    hash: str
    policy_index: int
    cluster_count: int
    strategy: Body
    apply_strategy: Body
    stages: tuple[PinnedStage, ...]
    deletions: tuple[PinnedCluster, ...] = ()
    left: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The snapshot in short: its index and the beginning of its hash."""
        return f"{self.snapshot_index} ({self.hash[:7]})" if self.snapshot_index >= 0 else "several"

    @property
    def cluster_names(self) -> frozenset[str]:
        """The names of the clusters in all stages."""
        return frozenset(cluster.name for stage in self.stages for cluster in stage.clusters)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalFact:
    """An accepted approval: the commit that introduced it, who claims to have written it, its condition."""

    commit: str
    author: str
    committer: str
    condition: Body
    signer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One gate of a stage: when it opened, at which head, and when and by what it was passed."""

    task: PinnedTask
    when: When
    request: str = ""
    request_uid: str = ""
    opened_at: datetime | None = None
    opened_head: str = ""
    opened_position: int = -1
    passed_at: datetime | None = None
    approval: ApprovalFact | None = None
    refused: str = ""

    @property
    def wait(self) -> timedelta | None:
        """How long a TimedWait lasts."""
        return parse_duration(self.task.wait) if self.task.wait else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFacts:
    """One cluster in one run. `seq` is that of the intent that started it, `complete` and below what was last heard.

    `heard_at` is the moment from which on the same was heard of the same object, be it in other words.
    An empty `hash` means that whatever the placement put there is to be removed.
    """

    name: str
    uid: str
    hash: str
    restores: Delivered | None = None
    seq: int = 0
    before: Delivered | None = None
    started_at: datetime | None = None
    complete: str = ""
    reason: Reason | None = None
    object: str = ""
    message: str = ""
    results: tuple[ObjectResult, ...] = ()
    heard_at: datetime | None = None
    succeeded_at: datetime | None = None
    departed_at: datetime | None = None
    overdue_at: datetime | None = None
    taken_by: str = ""

    @property
    def in_flight(self) -> bool:
        """Whether it was started and is neither done, departed nor taken over by another run."""
        started, done = self.started_at is not None, self.succeeded_at is not None or self.departed_at is not None
        return started and not done and not self.taken_by

    @property
    def is_done(self) -> bool:
        """Whether the stage need not wait for it."""
        return self.succeeded_at is not None or self.departed_at is not None

    @property
    def is_settled(self) -> bool:
        """Whether a rollback need not hold a slot for it: done, or past its deadline and tried on beside the others."""
        return self.is_done or self.overdue_at is not None

    @property
    def is_stuck(self) -> bool:
        """Whether a person should look: past the deadline, or refused by the member."""
        return (self.overdue_at is not None or (self.reason is not None and self.reason.is_final)) and self.in_flight


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The status of a `Progressing` condition and since when it has it."""

    status: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFacts:
    """One stage of a run."""

    name: str
    limit: int
    clusters: tuple[ClusterFacts, ...]
    gates: tuple[Gate, ...] = ()
    started_at: datetime | None = None
    updated_at: datetime | None = None
    ended_at: datetime | None = None
    skipped: bool = False
    progress: Progress | None = None

    def gates_of(self, when: When) -> tuple[Gate, ...]:
        """Return the gates on one side of the stage."""
        return tuple(gate for gate in self.gates if gate.when is when)

    @property
    def in_flight(self) -> tuple[ClusterFacts, ...]:
        """The clusters that occupy a slot."""
        return tuple(one for one in self.clusters if one.in_flight)

    @property
    def is_updated(self) -> bool:
        """Whether every cluster is done."""
        return all(one.is_done for one in self.clusters)

    @property
    def is_settled(self) -> bool:
        """Whether a rollback may go on to the next stage."""
        return all(one.is_settled for one in self.clusters)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """Everything known of one run; identity and spec are as the repository has them.

    `reverts` are the uids of the runs that a rollback takes back; a rollback has no file. `commit` changed the run
    last, `brought_by` brought it; `keeps_file` says that a withdrawn run's own file is still there.
    """

    format: int
    key: Key
    uid: str
    created: datetime
    position: int
    commit: str
    generation: int
    spec: Body
    state: State
    first_seq: int
    annotations: Body = field(default_factory=dict)
    brought_by: str = ""
    reverts: tuple[str, ...] = ()
    failure: str = ""
    failure_final: bool = False
    failed_at: datetime | None = None
    pin: Pin | None = None
    initialized_at: datetime | None = None
    started_at: datetime | None = None
    stages: tuple[StageFacts, ...] = ()
    deletion: StageFacts | None = None
    progress: Progress | None = None
    end: End | None = None
    ended_at: datetime | None = None
    end_message: str = ""
    keeps_file: bool = False

    @property
    def placement(self) -> str:
        """`spec.placementName`."""
        return str(self.spec["placementName"])

    @property
    def is_active(self) -> bool:
        """Whether the run may still do anything, clusters in flight included."""
        return self.end is None or any(True for _ in self.in_flight())

    @property
    def age(self) -> tuple[int, bool, int]:
        """What makes a run older or newer than another of its placement; a rollback comes after what it reverts."""
        return self.position, bool(self.reverts), self.first_seq

    @property
    def all_stages(self) -> tuple[StageFacts, ...]:
        """The stages, and the delete stage behind them."""
        return self.stages if self.deletion is None else (*self.stages, self.deletion)

    @property
    def shown_stages(self) -> tuple[StageFacts, ...]:
        """The stages as people are told of them: with the delete stage where it has something to do."""
        return tuple(one for one in self.all_stages if one.clusters or one is not self.deletion)

    @property
    def current(self) -> int | None:
        """The index in `all_stages` of the stage under way or next; None when all are over or nothing is pinned."""
        return next((number for number, stage in enumerate(self.all_stages) if stage.ended_at is None), None)

    @property
    def stage(self) -> StageFacts | None:
        """The stage that is under way or next."""
        return self.all_stages[self.current] if self.current is not None else None

    def may_act_in(self, number: int) -> bool:
        """Whether it is a stage's turn; a rollback does not wait for clusters that are past their deadline."""
        if self.reverts:
            stage = self.all_stages[number] if 0 <= number < len(self.all_stages) else None
            earlier = self.all_stages[:number]
            return stage is not None and stage.ended_at is None and all(one.is_settled for one in earlier)
        return self.current == number

    def free_slots(self, number: int) -> int:
        """Return how many more clusters of a stage may be in flight; a rollback keeps no slot for who is overdue."""
        stage = self.all_stages[number]
        return stage.limit - sum(not (self.reverts and one.is_settled) for one in stage.in_flight)

    def in_flight_on(self, cluster: str) -> Iterator[tuple[int, ClusterFacts]]:
        """Yield (stage number, cluster) where the named cluster is in flight."""
        for number, stage in enumerate(self.all_stages):
            for one in stage.clusters:
                if one.name == cluster and one.in_flight:
                    yield number, one

    def in_flight(self) -> Iterator[tuple[int, ClusterFacts]]:
        """Yield (stage number, cluster) for every cluster in flight."""
        for number, stage in enumerate(self.all_stages):
            for cluster in stage.in_flight:
                yield number, cluster

    def source_of(self, cluster: ClusterFacts) -> tuple[str, int]:
        """Return what a cluster gets: the uid of a placement and the index of one of its snapshots."""
        if cluster.restores is not None:
            return cluster.restores.placement_uid, cluster.restores.index
        return (self.pin.placement_uid, self.pin.snapshot_index) if self.pin is not None else ("", -1)

    def cluster(self, name: str, seq: int) -> ClusterFacts | None:
        """Return the cluster that an intent of this run started."""
        found = (one for stage in self.all_stages for one in stage.clusters)
        return next((one for one in found if one.name == name and one.seq == seq), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One numbered state of the resources of a placement; the content stays in Git."""

    index: int
    hash: str
    commit: str
    position: int
    created: datetime
    author: str
    subject: str
    objects: tuple[str, ...] = ()
    equals: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySnapshot:
    """One numbered state of `spec.policy`."""

    index: int
    hash: str
    commit: str
    created: datetime
    policy: Body


def in_words(*parts: str) -> str:
    """Return those of the parts that say something, set apart by colons."""
    return ": ".join(one for one in parts if one)


def done_and_skipped(clusters: Collection[ClusterFacts]) -> tuple[int, int]:
    """Return how many of the clusters succeeded, and how many departed and are waited for no more."""
    done = sum(one.succeeded_at is not None for one in clusters)
    return done, sum(one.is_done for one in clusters) - done


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a cluster was last told to run, and how far it is: the one source for the way back.

    An empty `hash` stands for nothing: what the placement had put there was to be removed, by a run's delete stage or
    (`run` is empty) because the placement is gone. `policy` is the index of the policy snapshot that chose the cluster.
    `complete_at` is None where the member says that something is missing, `arrived` stays true from the first time that
    all was there.
    """

    cluster: str
    uid: str
    run: str
    run_name: str
    index: int
    policy: int
    hash: str
    commit: str
    seq: int
    started_at: datetime
    placement_uid: str = ""
    arrived: bool = False
    complete_at: datetime | None = None
    available_at: datetime | None = None
    reason: Reason | None = None
    object: str = ""
    message: str = ""
    results: tuple[ObjectResult, ...] = ()
    before: Delivered | None = None

    @property
    def delivered(self) -> Delivered | None:
        """The last delivery that arrived: this one if it did, else the one before; None where nothing is left."""
        if not self.arrived:
            return self.before
        if not self.hash:
            return None
        return Delivered(
            run=self.run,
            index=self.index,
            hash=self.hash,
            commit=self.commit,
            seq=self.seq,
            placement_uid=self.placement_uid,
        )

    @property
    def words(self) -> str:
        """What the member said of the object that is worst, or of itself; empty where it said nothing."""
        return in_words(self.object, self.message)

    @property
    def is_empty(self) -> bool:
        """Whether nothing of the placement is left on the cluster."""
        return not self.hash and self.complete_at is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived:
    """What is still known of a run whose log left the tree: its name, how new it was, how it applied objects."""

    uid: str
    key: Key
    age: tuple[int, bool, int]
    was_started: bool
    apply_strategy: Body | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementState:
    """The runs of one placement in order, one record per cluster, and the placement's own facts.

    `seq` is the last number drawn; it outlives the object and never restarts. `archived` are the runs of which only
    the history of the status branch knows more.
    """

    key: Key
    seq: int = 0
    uid: str = ""
    created: datetime | None = None
    generation: int = 0
    commit: str = ""
    spec: Body = field(default_factory=dict)
    removed_at: datetime | None = None
    snapshots: tuple[Snapshot, ...] = ()
    policies: tuple[PolicySnapshot, ...] = ()
    scheduled: Mapping[str, datetime] = field(default_factory=dict)
    scheduled_at: datetime | None = None
    refusal: str = ""
    records: Mapping[str, Record] = field(default_factory=dict)
    runs: Mapping[str, RunStatus] = field(default_factory=dict)
    archived: Mapping[str, Archived] = field(default_factory=dict)
    transitions: Mapping[str, Progress] = field(default_factory=dict)

    def apply_strategy(self, run: str) -> Body | None:
        """Return how a run applies objects, be it archived; None for one that is unknown or not initialized."""
        held, left = self.runs.get(run), self.archived.get(run)
        if held is not None and held.pin is not None:
            return held.pin.apply_strategy
        return left.apply_strategy if left is not None else None

    def running(self, cluster: str) -> Record | None:
        """Return the record of a cluster that was told to run something; None where it was not, or no longer is."""
        record = self.records.get(cluster)
        return record if record is not None and record.hash else None
