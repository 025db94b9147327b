"""What can be asked for: the nouns with all their names, their columns, and label selectors.

A column reads a printed object, as the columns of a custom resource do; nothing here opens a repository.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from reconciler.commands import present
from reconciler.core.codec import decode_time
from reconciler.core.model import KINDS, PLACEMENT_GROUP, PREFIX, Commit, LabelSelector, Requirement
from reconciler.errors import UsageError

DEFAULT_NAMESPACE = "default"
"""Where namespaced objects are looked for when nothing is said, as kubectl does."""

PROBLEMS = ("problems", "problem")
"""The one noun that is no object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a member said of itself when it was asked just now."""

    reachable: bool
    version: str = ""
    running: str = ""
    message: str = ""
    """Why it is not reachable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An object as it is printed, the state of a run in a word or two, and what a cluster that was asked told."""

    body: dict[str, Any]
    state: str = ""
    told: "Told | None" = None
    removed: Commit | None = None
    """The commit that removed its file, or that of what it belongs to."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The object's `metadata`."""
        metadata: Mapping[str, Any] = self.body["metadata"]
        return metadata

    @property
    def name(self) -> str:
        """The object's name."""
        return str(self.metadata["name"])

    @property
    def namespace(self) -> str:
        """The object's namespace; empty: cluster-scoped."""
        return str(self.metadata.get("namespace") or "")

    @property
    def labels(self) -> Mapping[str, str]:
        """The object's labels."""
        return self.metadata.get("labels") or {}

    @property
    def identity(self) -> str:
        """What tells the object from every other, its namesakes of another time included."""
        return str(self.metadata.get("uid") or f"{self.namespace}/{self.name}")

    def conditions(self) -> list[Mapping[str, Any]]:
        """Return the conditions in its status."""
        return list((self.body.get("status") or {}).get("conditions") or ())

    def condition(self, kind: str) -> Mapping[str, Any]:
        """Return one condition; an empty one when it is not there."""
        return next((one for one in self.conditions() if one.get("type") == kind), {})


Read = Callable[[Item, datetime], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: its title, and how it reads an object at a moment; `wide` ones only show with `-o wide`."""

    title: str
    read: Read
    wide: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Noun:
    """A kind that can be asked for."""

    kind: str
    group: str
    plural: str
    short: str
    namespaced: bool
    columns: tuple[Column, ...] = field(repr=False)

    @property
    def resource(self) -> str:
        """The resource's full name, as kubectl's messages have it."""
        return f"{self.plural}.{self.group}"

    @property
    def prefix(self) -> str:
        """What stands before the name in `-o name`."""
        return f"{self.kind.lower()}.{self.group}"

    @property
    def names(self) -> tuple[str, ...]:
        """Every name under which it is understood."""
        more = ("clusters",) if self.kind == "MemberCluster" else ()
        return tuple(one for one in (self.short, self.plural, self.kind.lower(), *more) if one)

    def shown(self, *, wide: bool) -> tuple[Column, ...]:
        """Return the columns to print."""
        return tuple(one for one in self.columns if wide or not one.wide)


# -- columns ---------------------------------------------------------------------------------------------------


def _at(*path: str) -> Read:
    def read(item: Item, _: datetime) -> str:
        value: Any = item.body
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        return "" if value is None else str(value)

    return read


def _condition(kind: str, what: str = "status", *, prefixed: bool = False) -> Read:
    def read(item: Item, _: datetime) -> str:
        return str(item.condition(f"{item.body['kind']}{kind}" if prefixed else kind).get(what, ""))

    return read


def _annotation(name: str, length: int | None = None) -> Read:
    return lambda item, _: str((item.metadata.get("annotations") or {}).get(PREFIX + name, ""))[:length]


def _age(item: Item, now: datetime) -> str:
    text = item.metadata.get("creationTimestamp")
    return present.age(decode_time(str(text)) if text else None, now)


def labels_of(item: Item, _: datetime) -> str:
    """Return the labels as kubectl shows them."""
    return ",".join(f"{key}={value}" for key, value in sorted(item.labels.items())) or "<none>"


def _taints(item: Item, _: datetime) -> str:
    taints = (item.body.get("spec") or {}).get("taints") or ()
    texts = [f"{one.get('key', '')}={one.get('value', '')}:{one.get('effect', '')}" for one in taints]
    return ",".join(texts) or "<none>"


_NAME = Column(title="NAME", read=_at("metadata", "name"))
_GENERATION = Column(title="GEN", read=_at("metadata", "generation"))
_AGE = Column(title="AGE", read=_age)
LABELS = Column(title="LABELS", read=labels_of)
REMOVED = Column(title="REMOVED", read=lambda item, _: item.removed.sha[:7] if item.removed else "<none>")
"""The commit that removed an object, where those are shown that are gone."""
NAMESPACE = Column(title="NAMESPACE", read=_at("metadata", "namespace"))


def _placement_condition(title: str, kind: str, *, wide: bool = False) -> tuple[Column, Column]:
    return (
        Column(title=title, read=_condition(kind, prefixed=True), wide=wide),
        Column(title=f"{title}-GEN", read=_condition(kind, "observedGeneration", prefixed=True), wide=wide),
    )


_PLACEMENT = (
    _NAME,
    _GENERATION,
    Column(title="TYPE", read=_at("spec", "policy", "placementType"), wide=True),
    *_placement_condition("SCHEDULED", "Scheduled"),
    *_placement_condition("WORK-SYNCHRONIZED", "WorkSynchronized", wide=True),
    *_placement_condition("AVAILABLE", "Available"),
    _AGE,
)
_RUN = (
    _NAME,
    Column(title="PLACEMENT", read=_at("spec", "placementName")),
    Column(title="RESOURCE-SNAPSHOT-INDEX", read=_at("spec", "resourceSnapshotIndex")),
    Column(title="POLICY-SNAPSHOT-INDEX", read=_at("status", "policySnapshotIndexUsed")),
    Column(title="INITIALIZED", read=_condition("Initialized")),
    Column(title="SUCCEEDED", read=_condition("Succeeded")),
    _AGE,
    Column(title="STRATEGY", read=_at("spec", "stagedRolloutStrategyName"), wide=True),
    Column(title="STATE", read=lambda item, _: item.state, wide=True),
)
_SNAPSHOT = (
    _NAME,
    _GENERATION,
    _AGE,
    Column(title="COMMIT", read=_annotation("commit", 7), wide=True),
    Column(title="AUTHOR", read=_annotation("author"), wide=True),
    Column(title="SUBJECT", read=_annotation("subject"), wide=True),
)
_POLICY = (
    _NAME,
    _GENERATION,
    _AGE,
    Column(title="COMMIT", read=lambda item, _: str(item.metadata.get("resourceVersion", ""))[:7], wide=True),
)
_CLUSTER = (
    _NAME,
    Column(title="TAINTS", read=_taints),
    _AGE,
    Column(title="UID", read=_at("metadata", "uid"), wide=True),
    Column(title="LABELS", read=labels_of, wide=True),
)


def _reachable(item: Item, _: datetime) -> str:
    return "Unknown" if item.told is None else str(item.told.reachable)


def _version(item: Item, _: datetime) -> str:
    return item.told.version if item.told is not None else ""


def _running(item: Item, _: datetime) -> str:
    told = item.told
    return (told.running or "<none>") if told is not None and told.reachable else "<unknown>"


ASKED_CLUSTER = (
    _NAME,
    Column(title="REACHABLE", read=_reachable),
    Column(title="VERSION", read=_version),
    *_CLUSTER[1:],
    Column(title="RUNS", read=_running, wide=True),
)
"""The columns of clusters that were asked."""


def _approval(run: str) -> tuple[Column, ...]:
    return (
        _NAME,
        Column(title=run, read=_at("spec", "parentStageRollout")),
        Column(title="STAGE", read=_at("spec", "targetStage")),
        Column(title="APPROVED", read=_condition("Approved")),
        Column(title="APPROVALACCEPTED", read=_condition("ApprovalAccepted")),
        _AGE,
    )


_COLUMNS: Mapping[str, tuple[Column, ...]] = {
    "MemberCluster": _CLUSTER,
    "ClusterResourcePlacement": _PLACEMENT,
    "ResourcePlacement": _PLACEMENT,
    "ClusterStagedUpdateRun": _RUN,
    "StagedUpdateRun": _RUN,
    "ClusterApprovalRequest": _approval("UPDATE-RUN"),
    "ApprovalRequest": _approval("STAGED-UPDATE-RUN"),
}


# -- nouns ---------------------------------------------------------------------------------------------------


def _made(kind: str, short: str, columns: tuple[Column, ...]) -> Noun:
    """Return the noun of a kind that nobody declares."""
    namespaced = not kind.startswith("Cluster")
    plural = kind.lower() + "s"
    return Noun(kind=kind, group=PLACEMENT_GROUP, plural=plural, short=short, namespaced=namespaced, columns=columns)


NOUNS: tuple[Noun, ...] = (
    *(
        Noun(
            kind=row.kind,
            group=row.group,
            plural=row.plural,
            short=row.short,
            namespaced=row.namespaced,
            columns=_COLUMNS.get(row.kind, (_NAME, _AGE)),
        )
        for row in KINDS.values()
    ),
    _made("ClusterResourceSnapshot", "crs", _SNAPSHOT),
    _made("ResourceSnapshot", "rs", _SNAPSHOT),
    _made("ClusterSchedulingPolicySnapshot", "csps", _POLICY),
    _made("SchedulingPolicySnapshot", "sps", _POLICY),
)


def noun_of(word: str) -> Noun:
    """Return what a word asks for: short name, singular or plural, with the group behind it or without.

    Raises:  UsageError with everything that can be asked for.
    """
    wanted, _, group = word.lower().partition(".")
    for noun in NOUNS:
        if wanted in noun.names and group in ("", noun.group):
            return noun
    there = ", ".join(f"{one.plural} ({one.short})" if one.short else one.plural for one in NOUNS)
    raise UsageError(f"there is no {word or repr(word)} to ask for; there are: {there}, problems")


# -- label selectors --------------------------------------------------------------------------------------------

_KEY = r"(?P<key>[A-Za-z0-9][-A-Za-z0-9_./]*)"
_SET = re.compile(_KEY + r"\s+(?P<how>in|notin)\s*\((?P<values>[-A-Za-z0-9_.,\s]*)\)")
_EQUAL = re.compile(_KEY + r"\s*(?P<how>==|=|!=)\s*(?P<value>[-A-Za-z0-9_.]*)")
_EXISTS = re.compile(r"(?P<not>!?)\s*" + _KEY)


def selector_of(text: str) -> LabelSelector:
    """Read a label selector as kubectl takes it: `a=b,c!=d,e in (x,y),f notin (z),g,!h`.

    Raises:  UsageError for what is none.
    """
    parts = [part.strip() for part in re.split(r",(?![^(]*\))", text)] if text.strip() else []
    return LabelSelector(expressions=tuple(_requirement(part) for part in parts))


def _requirement(text: str) -> Requirement:
    if found := _SET.fullmatch(text):
        values = tuple(one.strip() for one in found["values"].split(","))
        return Requirement(key=found["key"], operator="In" if found["how"] == "in" else "NotIn", values=values)
    if found := _EQUAL.fullmatch(text):
        operator = "NotIn" if found["how"] == "!=" else "In"
        return Requirement(key=found["key"], operator=operator, values=(found["value"],))
    if found := _EXISTS.fullmatch(text):
        return Requirement(key=found["key"], operator="DoesNotExist" if found["not"] else "Exists")
    raise UsageError(f"`{text}` is no label selector: a=b, a!=b, a in (b,c), a notin (b,c), a or !a")


def matching(items: Iterable[Item], selector: LabelSelector) -> list[Item]:
    """Return the items whose labels the selector matches."""
    return [one for one in items if selector.matches(one.labels)]
