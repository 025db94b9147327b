"""What holds at one commit: the objects that count, who they are, and what was derived up to there.

`history.History` brings a view from commit to commit; everybody else only reads it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from reconciler.core import placement as placements
from reconciler.core.identity import Identity
from reconciler.core.model import (
    KINDS,
    Commit,
    Document,
    Key,
    MemberCluster,
    Named,
    Override,
    ParsedFile,
    Placement,
    Problem,
    Value,
)
from reconciler.core.selection import Selection
from reconciler.core.status import ClusterFacts, Pin, PolicySnapshot, Record, Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """One changed manifest of a commit; `parsed` None: removed."""

    path: str
    blob: str
    parsed: ParsedFile | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """An object that counts, and who it is; `created` and `changed`: its first commit and its last."""

    document: Document
    uid: str
    created: Commit
    generation: int
    changed: Commit
    value: Value | None = None
    blob: str = ""

    @property
    def key(self) -> Key:
        """What names the object."""
        return self.document.key


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where one selected object is read back from: a blob, and the document's place in it."""

    path: str
    blob: str
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Initialization:
    """The last attempt to initialize a run: `pin` once it succeeded, for good."""

    commit: Commit
    pin: Pin | None = None
    message: str = ""
    final: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """An object that left the repository, and by which commit; `replaced`: that also brought a run of its placement."""

    declared: Declared
    commit: Commit
    replaced: bool = False


class View:
    """The state of everything at `head`.

    `named` are the kinds, names and namespaces that the broken files under `resources/` mention.
    `runnable` says from which position on a run was resolved and its state `Run`, for the first time.
    `reverted` are the uids of removed runs whose removal is a revert; whether that of an `unjudged` one is, is for
    somebody to find out who can read commits.
    """

    def __init__(self) -> None:
        """Begin before the first commit."""
        self.head: Commit | None = None
        self.objects: dict[str, dict[Key, Declared]] = {kind: {} for kind in KINDS}
        self.resources: dict[Key, Declared] = {}
        self.snapshots: dict[str, list[Snapshot]] = {}
        self.sources: dict[tuple[str, int], tuple[Source, ...]] = {}
        self.policies: dict[str, list[PolicySnapshot]] = {}
        self.selections: dict[str, Selection] = {}
        self.selection_problems: dict[str, Problem] = {}
        self.initializations: dict[str, Initialization] = {}
        self.runnable: dict[str, int] = {}
        self.removals: dict[str, Removal] = {}
        self.reverted: set[str] = set()
        self.unjudged: list[str] = []
        self.joints: dict[str, int] = {}
        self.recorded: set[str] = set()
        self.approvals_seen: dict[tuple[Key, str], int] = {}
        self.broken: dict[str, tuple[Problem, ...]] = {}
        self.named: dict[str, Named | None] = {}
        self.doubtful: dict[Key, Problem] = {}

    def problem_of(self, declared: Declared) -> Problem | None:
        """Return the first problem of the file that holds the object, or may have taken it over; None: it is sound."""
        return next(iter(self.broken.get(declared.document.path, ())), self.doubtful.get(declared.key))

    def find(self, kind: str, namespace: str, name: str) -> Declared | None:
        """Return an object of one of our kinds by name."""
        return self.objects[kind].get(Key(group=KINDS[kind].group, kind=kind, namespace=namespace, name=name))

    def clusters(self) -> dict[str, Declared]:
        """Return the member clusters by name."""
        return {key.name: one for key, one in self.objects["MemberCluster"].items()}

    def cluster_identities(self) -> tuple[Identity, ...]:
        """Return who the member clusters are, by name."""
        return tuple(
            Identity(name=name, uid=one.uid, commit=one.created.sha, created=one.created.time)
            for name, one in sorted(self.clusters().items())
        )

    def placements(self) -> Iterator[Declared]:
        """Yield every placement, of both scopes."""
        yield from self.objects["ClusterResourcePlacement"].values()
        yield from self.objects["ResourcePlacement"].values()

    def runs(self) -> Iterator[Declared]:
        """Yield every run, of both scopes."""
        yield from self.objects["ClusterStagedUpdateRun"].values()
        yield from self.objects["StagedUpdateRun"].values()

    def approvals(self) -> Iterator[Declared]:
        """Yield every approval file's object, of both scopes."""
        yield from self.objects["ClusterApprovalRequest"].values()
        yield from self.objects["ApprovalRequest"].values()

    def cluster_values(self) -> dict[str, MemberCluster]:
        """Return the member clusters' values by name."""
        return {name: cast("MemberCluster", one.value) for name, one in self.clusters().items()}

    def refusals(self, found: Declared) -> Iterator[Problem]:
        """Yield why a placement is not rolled out although it validates: fields that are not carried out yet."""
        placement = cast("Placement", found.value)
        yield from placements.unsupported(found.document)
        selection = self.selections.get(found.uid)
        selected = selection.documents if selection else ()
        yield from placements.unsupported_resources(placement, selected)
        overrides = [
            (one.document, cast("Override", one.value))
            for kind in ("ClusterResourceOverride", "ResourceOverride")
            for one in self.objects[kind].values()
        ]
        yield from placements.unsupported_overrides(placement, overrides, selected)
        clusters = {name: (one.document, cast("MemberCluster", one.value)) for name, one in self.clusters().items()}
        choice = placements.choose(placement, self.cluster_values())
        yield from placements.unsupported_clusters(placement, choice, clusters)


def is_member(members: Mapping[str, Declared], cluster: ClusterFacts | Record) -> bool:
    """Tell whether a cluster still is the member of its name."""
    name = cluster.cluster if isinstance(cluster, Record) else cluster.name
    return name in members and members[name].uid == cluster.uid
