"""What the plan asks of the members, and what comes back: values only.

A plan names every action that is wanted *now*; the workers keep at it and hand in an `Outcome`
whenever what they know of a cluster changes. The core never learns how a member is reached.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from reconciler.core.model import Body, Key


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Fence:
    """Who may write on a member: compared field by field; a lower one is refused."""

    repository: str
    epoch: int
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyOptions:
    """How objects are written, as the placement's `applyStrategy` says it; the defaults are KubeFleet's.

    `take_over` is `Always`, `IfNoDiff` or `Never`: what happens to an object that is there and not the placement's.
    """

    server_side_force: bool = False
    take_over: str = "Always"
    allow_co_ownership: bool = False

    @classmethod
    def from_strategy(cls, strategy: Body) -> "ApplyOptions":
        """Read an `applyStrategy`."""
        return cls(
            server_side_force=bool((strategy.get("serverSideApplyConfig") or {}).get("force")),
            take_over=strategy.get("whenToTakeOver") or "Always",
            allow_co_ownership=bool(strategy.get("allowCoOwnership")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a cluster gets: whole objects, ordered, and their hash (hex sha256 of upstream's canonical JSON)."""

    hash: str
    objects: tuple[Body, ...]
    options: ApplyOptions = ApplyOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where an action goes: one placement on one cluster, under one intent of one run."""

    placement: Key
    cluster: str
    run_uid: str
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliver:
    """Bring the content with this hash to the target, then watch it until it is healthy."""

    target: Target
    snapshot_index: int
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Observe:
    """Content was delivered completely: look whether it still is, and whether it is healthy."""

    target: Target
    snapshot_index: int
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdraw:
    """Remove from the target whatever its inventory for the placement lists; or `keep` it there, and let go of it."""

    target: Target
    keep: bool = False


Action = Deliver | Observe | Withdraw


class Reason(StrEnum):
    """Why a cluster is not done, or that it is; a fact that is recorded when it changes."""

    AVAILABLE = "Available"
    """Delivered completely, and healthy."""
    NOT_AVAILABLE = "NotAvailable"
    """Delivered completely, not healthy yet."""
    INCOMPLETE = "Incomplete"
    """Some objects are not there yet; the delivery goes on."""
    REFUSED = "Refused"
    """The member refused an object; the same content will not pass."""
    CONFLICT = "Conflict"
    """Somebody else owns an object or a field of it."""
    UNREACHABLE = "Unreachable"
    """The member did not answer, or not in time."""
    UNAUTHORIZED = "Unauthorized"
    """The member does not know or does not allow us."""
    NOT_CONFIGURED = "NotConfigured"
    """The operator's settings do not say how to reach the member."""
    IDENTITY_CHANGED = "IdentityChanged"
    """Another cluster answers under this name."""
    FENCE_LOST = "FenceLost"
    """A newer intent took the member over while this one was being carried out."""
    WITHDRAWN = "Withdrawn"
    """Nothing on the member is the placement's any more."""

    @property
    def is_final(self) -> bool:
        """Whether waiting alone will not help: the run is stuck at once, not after the deadline."""
        return self in (Reason.REFUSED, Reason.CONFLICT, Reason.IDENTITY_CHANGED)

    @property
    def tells_content(self) -> bool:
        """Whether it says what of the content is there; else nobody could look, and what was known stays known."""
        return self not in _NOBODY_LOOKED


_NOBODY_LOOKED = frozenset(
    {
        Reason.UNREACHABLE,
        Reason.UNAUTHORIZED,
        Reason.NOT_CONFIGURED,
        Reason.IDENTITY_CHANGED,
        Reason.FENCE_LOST,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectResult:
    """What became of one object: `object` is `Kind namespace/name`; message free text, never a Secret's value."""

    object: str
    reason: Reason
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a delivery knows of a target: the hash the member says was delivered completely (None: none), and health.

    `results` holds only the objects that are not well, worst first. No part of what is known are `pause_seconds`, for
    how long the member asked not to be asked again, `turned_away`, whether it said so before anything of the placement
    was asked, so that any placement would have heard the same, and `date`, the moment by the member's own clock.
    """

    complete: str | None
    reason: Reason
    object: str = ""
    message: str = ""
    results: tuple[ObjectResult, ...] = ()
    pause_seconds: float = field(default=0.0, compare=False, repr=False)
    turned_away: bool = field(default=False, compare=False, repr=False)
    date: datetime | None = field(default=None, compare=False, repr=False)

    @property
    def facts(self) -> tuple[Hashable, ...]:
        """What it says apart from its texts, which may differ from look to look and mean the same."""
        return self.complete, self.reason, self.object, tuple((one.object, one.reason) for one in self.results)

    @property
    def healthy(self) -> bool:
        """Whether what was delivered is available."""
        return self.reason is Reason.AVAILABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A report on its way back: which intent it answers and when the member was looked at (aware UTC)."""

    target: Target
    report: Report
    observed_at: datetime
