"""The declarations as values: what people commit, once it has been read and found correct.

Here live the frozen classes of the input kinds and the table `KINDS` that names them. Past
`documents/parse.py` a value of these classes is correct in itself and nobody checks it again.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

Body = Mapping[str, Any]

PLACEMENT_GROUP = "placement.kubernetes-fleet.io"
CLUSTER_GROUP = "cluster.kubernetes-fleet.io"
PREFIX = "kubernetes-fleet.io/"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Key:
    """What names an object for ever: group, kind, namespace (empty: cluster-scoped) and name."""

    group: str
    kind: str
    namespace: str = ""
    name: str

    def __str__(self) -> str:
        """Return `Kind namespace/name`, as messages show it."""
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something wrong with somebody's file. `line` counts from 1 (0: the file as a whole)."""

    path: str
    line: int = 0
    pointer: str = ""
    rule: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        """Return one line: `file:line: rule: message (at pointer); hint`."""
        return self._told(f"{self.rule}: ")

    @property
    def without_rule(self) -> str:
        """The same line without the rule, for where that is told in front of it."""
        return self._told("")

    def _told(self, rule: str) -> str:
        where = f"{self.path}:{self.line}" if self.line else self.path
        at = f" (at {self.pointer})" if self.pointer else ""
        return f"{where}: {rule}{self.message}{at}" + (f"; {self.hint}" if self.hint else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One manifest of one file. `lines` maps JSON pointers to lines, for the kinds of `KINDS` only."""

    path: str
    line: int
    index: int
    body: Body
    lines: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    @property
    def kind(self) -> str:
        """The document's `kind`."""
        return str(self.body["kind"])

    @property
    def group(self) -> str:
        """The API group, empty for the core group."""
        return str(self.body["apiVersion"]).rpartition("/")[0]

    @property
    def version(self) -> str:
        """The API version without the group."""
        return str(self.body["apiVersion"]).rpartition("/")[2]

    @property
    def metadata(self) -> Body:
        """The `metadata` mapping."""
        metadata: Body = self.body["metadata"]
        return metadata

    @property
    def labels(self) -> Mapping[str, str]:
        """`metadata.labels`, empty when absent."""
        return self.metadata.get("labels") or {}

    @property
    def annotations(self) -> Mapping[str, str]:
        """`metadata.annotations`, empty when absent."""
        return self.metadata.get("annotations") or {}

    @property
    def key(self) -> Key:
        """What names the object."""
        return Key(
            group=self.group,
            kind=self.kind,
            namespace=self.metadata.get("namespace") or "",
            name=self.metadata["name"],
        )

    def line_of(self, pointer: str) -> int:
        """Return the line of a field, or of the nearest parent that has one."""
        while pointer and pointer not in self.lines:
            pointer = pointer.rpartition("/")[0]
        return self.lines.get(pointer, self.line)


Named = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedFile:
    """What one file says. With `problems` it is broken as a whole: its objects count as in its last good version.

    `named` are the kinds, names and namespaces that the text of a broken one mentions, as (field, value), wherever;
    None for one that is not read at all, so that nobody knows.
    """

    documents: tuple[Document, ...] = ()
    problems: tuple[Problem, ...] = ()
    named: Named | None = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One commit of the watched branch. `position` counts from 0 along the first-parent history."""

    sha: str
    position: int
    time: datetime
    author: str
    committer: str
    message: str
    parents: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        """The first line of the message."""
        return self.message.split("\n", 1)[0]


# -- durations, as Go writes them -------------------------------------------------------------------------

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def parse_duration(text: str) -> timedelta:
    """Read a Go duration (`1h30m`, `1.5h`, `500ms`); the schema has checked the form of what people write."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|h|m|s)", text)
    return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in parts))


def format_duration(duration: timedelta) -> str:
    """Write a duration as Go prints it: `1m0s`, `1h30m0s`, `500ms`, `30s`."""
    seconds = duration.total_seconds()
    if 0 < seconds < 1:
        return f"{seconds * 1000:g}ms"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    tail = f"{rest:.6f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{tail}"
    return f"{minutes}m{tail}" if minutes else tail


# -- selectors ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One `matchExpressions` entry."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether the labels meet it; `NotIn` and `DoesNotExist` are met by a missing label."""
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value is not None and value in self.values
            case "NotIn":
                return value is None or value not in self.values
            case "Exists":
                return value is not None
            case _:
                return value is None


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSelector:
    """A Kubernetes label selector; the empty one matches everything."""

    match_labels: tuple[tuple[str, str], ...] = ()
    expressions: tuple[Requirement, ...] = ()

    @classmethod
    def from_document(cls, body: Body | None) -> "LabelSelector | None":
        """Read a selector; None stays None, which matches nothing."""
        if body is None:
            return None
        expressions = body.get("matchExpressions") or ()
        return cls(
            match_labels=tuple(sorted((body.get("matchLabels") or {}).items())),
            expressions=tuple(
                Requirement(key=one["key"], operator=one["operator"], values=tuple(one.get("values") or ()))
                for one in expressions
            ),
        )

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether the labels meet every part."""
        return all(labels.get(key) == value for key, value in self.match_labels) and all(
            one.matches(labels) for one in self.expressions
        )


# -- the input kinds -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberCluster:
    """A member of the fleet, as far as the repository says; how to reach it is the operator's to say."""

    key: Key
    labels: Mapping[str, str]
    taints: tuple[Body, ...] = ()

    @classmethod
    def from_document(cls, document: Document) -> "MemberCluster":
        """Read a MemberCluster; the label `kubernetes-fleet.io/member-name` is added as upstream's hub does."""
        spec = document.body.get("spec") or {}
        labels = {**document.labels, PREFIX + "member-name": document.key.name}
        return cls(key=document.key, labels=labels, taints=tuple(spec.get("taints") or ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceSelector:
    """One entry of `resourceSelectors`."""

    group: str
    version: str
    kind: str
    name: str | None
    labels: LabelSelector | None
    scope: str

    @classmethod
    def from_document(cls, body: Body) -> "ResourceSelector":
        """Read one selector, with upstream's default scope."""
        return cls(
            group=body["group"],
            version=body["version"],
            kind=body["kind"],
            name=body.get("name") or None,
            labels=LabelSelector.from_document(body.get("labelSelector")),
            scope=body.get("selectionScope") or "NamespaceWithResources",
        )

    @property
    def is_namespace(self) -> bool:
        """Whether it selects namespaces."""
        return self.kind == "Namespace" and self.group == ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A ClusterResourcePlacement or ResourcePlacement."""

    key: Key
    selectors: tuple[ResourceSelector, ...]
    placement_type: str
    cluster_names: tuple[str, ...]
    affinity_terms: tuple[LabelSelector, ...] | None
    strategy_type: str
    apply_strategy: Body
    delete_policy: str
    policy: Body | None

    @classmethod
    def from_document(cls, document: Document) -> "Placement":
        """Read a placement with upstream's defaults."""
        spec = document.body["spec"]
        policy, strategy = spec.get("policy") or {}, spec.get("strategy") or {}
        return cls(
            key=document.key,
            selectors=tuple(ResourceSelector.from_document(one) for one in spec["resourceSelectors"]),
            placement_type=policy.get("placementType") or "PickAll",
            cluster_names=tuple(policy.get("clusterNames") or ()),
            affinity_terms=_required_terms(policy),
            strategy_type=strategy.get("type") or "RollingUpdate",
            apply_strategy=strategy.get("applyStrategy") or {},
            delete_policy=(strategy.get("deleteStrategy") or {}).get("propagationPolicy") or "Delete",
            policy=spec.get("policy"),
        )


def _required_terms(policy: Body) -> tuple[LabelSelector, ...] | None:
    """Return the label selectors of the required cluster affinity, ORed; None: every cluster."""
    affinity = (policy.get("affinity") or {}).get("clusterAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return None
    terms = required.get("clusterSelectorTerms") or ()
    return tuple(LabelSelector.from_document(term.get("labelSelector")) or LabelSelector() for term in terms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A before- or after-stage task; `wait` belongs to TimedWait alone."""

    type: str
    wait: timedelta | None = None

    @classmethod
    def from_document(cls, body: Body) -> "Task":
        """Read one task."""
        wait = body.get("waitTime")
        return cls(type=body["type"], wait=parse_duration(wait) if wait is not None else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of a strategy; `selector` None selects no cluster."""

    name: str
    selector: LabelSelector | None
    sorting_key: str | None
    max_concurrency: int | str
    before: tuple[Task, ...]
    after: tuple[Task, ...]

    @classmethod
    def from_document(cls, body: Body) -> "Stage":
        """Read one stage; `maxConcurrency` is an int or a percentage such as `25%`."""
        return cls(
            name=body["name"],
            selector=LabelSelector.from_document(body.get("labelSelector")),
            sorting_key=body.get("sortingLabelKey"),
            max_concurrency=body.get("maxConcurrency") or 1,
            before=tuple(Task.from_document(one) for one in body.get("beforeStageTasks") or ()),
            after=tuple(Task.from_document(one) for one in body.get("afterStageTasks") or ()),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """A ClusterStagedUpdateStrategy or StagedUpdateStrategy."""

    key: Key
    stages: tuple[Stage, ...]

    @classmethod
    def from_document(cls, document: Document) -> "Strategy":
        """Read a strategy."""
        return cls(key=document.key, stages=tuple(Stage.from_document(one) for one in document.body["spec"]["stages"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A ClusterStagedUpdateRun or StagedUpdateRun; `index` empty means the latest snapshot."""

    key: Key
    placement: str
    index: str
    strategy: str
    state: str
    pinned_hash: str | None

    @classmethod
    def from_document(cls, document: Document) -> "Run":
        """Read a run; an omitted state is `Run`, as merging starts it."""
        spec = document.body["spec"]
        return cls(
            key=document.key,
            placement=spec["placementName"],
            index=spec.get("resourceSnapshotIndex") or "",
            strategy=spec["stagedRolloutStrategyName"],
            state=spec.get("state") or "Run",
            pinned_hash=document.annotations.get(PREFIX + "resource-hash"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """An approval file: `condition` is its `Approved` condition as parsed, None when it has none."""

    key: Key
    run: str | None
    stage: str | None
    condition: Body | None
    request_uid: str | None
    snapshot_hash: str | None

    @classmethod
    def from_document(cls, document: Document) -> "Approval":
        """Read an approval; `spec`, the request's uid and the snapshot's hash may be left out."""
        spec = document.body.get("spec") or {}
        conditions = (document.body.get("status") or {}).get("conditions") or ()
        return cls(
            key=document.key,
            run=spec.get("parentStageRollout"),
            stage=spec.get("targetStage"),
            condition=next((one for one in conditions if one.get("type") == "Approved"), None),
            request_uid=document.metadata.get("uid") or document.annotations.get(PREFIX + "request-uid"),
            snapshot_hash=document.annotations.get(PREFIX + "resource-hash"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """A ClusterResourceOverride or ResourceOverride; read so that the placements it touches can refuse."""

    key: Key
    placement: str | None
    selectors: tuple[Body, ...]

    @classmethod
    def from_document(cls, document: Document) -> "Override":
        """Read an override."""
        spec = document.body["spec"]
        return cls(
            key=document.key,
            placement=(spec.get("placement") or {}).get("name"),
            selectors=tuple(spec.get("clusterResourceSelectors") or spec.get("resourceSelectors") or ()),
        )


Value = MemberCluster | Placement | Strategy | Run | Approval | Override


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One row of `KINDS`: names as kubectl knows them, and where in the repository it belongs."""

    kind: str
    group: str = PLACEMENT_GROUP
    plural: str
    short: str = ""
    namespaced: bool
    folder: str
    read: Callable[[Document], Value]

    @property
    def schema(self) -> str:
        """The schema's file name."""
        return f"{self.kind.lower()}.schema.json"


KINDS: Mapping[str, Kind] = {
    row.kind: row
    for row in (
        Kind(
            kind="MemberCluster",
            group=CLUSTER_GROUP,
            plural="memberclusters",
            short="cluster",
            namespaced=False,
            folder="clusters",
            read=MemberCluster.from_document,
        ),
        Kind(
            kind="ClusterResourcePlacement",
            plural="clusterresourceplacements",
            short="crp",
            namespaced=False,
            folder="placements",
            read=Placement.from_document,
        ),
        Kind(
            kind="ResourcePlacement",
            plural="resourceplacements",
            short="rp",
            namespaced=True,
            folder="placements",
            read=Placement.from_document,
        ),
        Kind(
            kind="ClusterResourceOverride",
            plural="clusterresourceoverrides",
            namespaced=False,
            folder="overrides",
            read=Override.from_document,
        ),
        Kind(
            kind="ResourceOverride",
            plural="resourceoverrides",
            namespaced=True,
            folder="overrides",
            read=Override.from_document,
        ),
        Kind(
            kind="ClusterStagedUpdateStrategy",
            plural="clusterstagedupdatestrategies",
            short="csus",
            namespaced=False,
            folder="strategies",
            read=Strategy.from_document,
        ),
        Kind(
            kind="StagedUpdateStrategy",
            plural="stagedupdatestrategies",
            short="sus",
            namespaced=True,
            folder="strategies",
            read=Strategy.from_document,
        ),
        Kind(
            kind="ClusterStagedUpdateRun",
            plural="clusterstagedupdateruns",
            short="csur",
            namespaced=False,
            folder="runs",
            read=Run.from_document,
        ),
        Kind(
            kind="StagedUpdateRun",
            plural="stagedupdateruns",
            short="sur",
            namespaced=True,
            folder="runs",
            read=Run.from_document,
        ),
        Kind(
            kind="ClusterApprovalRequest",
            plural="clusterapprovalrequests",
            short="careq",
            namespaced=False,
            folder="approvals",
            read=Approval.from_document,
        ),
        Kind(
            kind="ApprovalRequest",
            plural="approvalrequests",
            short="areq",
            namespaced=True,
            folder="approvals",
            read=Approval.from_document,
        ),
    )
}


def kind_of(key: Key) -> Kind | None:
    """Return the row of `KINDS` that an object belongs to; None: any other Kubernetes manifest."""
    row = KINDS.get(key.kind)
    return row if row is not None and row.group == key.group else None


RESOURCES = "resources"
APPROVALS = "approvals"
FOLDERS = ("clusters", "placements", "overrides", "strategies", "runs", APPROVALS, RESOURCES)


def placement_of(run: Key, name: str) -> Key:
    """Return the key of the placement that a run names."""
    kind = "ResourcePlacement" if run.namespace else "ClusterResourcePlacement"
    return Key(group=run.group, kind=kind, namespace=run.namespace, name=name)
