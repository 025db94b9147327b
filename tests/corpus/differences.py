"""The one table of what differs from the recordings on purpose. Nothing else may."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.corpus.compare import Differing


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Facts that may differ: `where`, `recorded` and `ours` are patterns of the whole texts; None: no such fact.

    What `recorded` captures by name stands in `ours` as `{name}`. With `turned`, ours must be what it makes of the
    recorded text. `scenarios` are the only ones that it holds in, by the beginning of their names.
    """

    name: str
    why: str
    where: str
    recorded: str | None
    ours: str | None = None
    turned: Callable[[str], str] | None = None
    scenarios: str = ""

    def explains(self, one: Differing) -> bool:
        """Tell whether this is the reason for a difference."""
        if not (re.match(self.scenarios, one.scenario) and re.fullmatch(self.where, one.where)):
            return False
        if self.recorded is None or one.recorded is None:
            return self.recorded is one.recorded and self._is_ours(one.ours, {})
        match = re.fullmatch(self.recorded, one.recorded)
        if match is not None and self.turned is not None:
            return self.turned(one.recorded) == one.ours
        return match is not None and self._is_ours(one.ours, match.groupdict())

    def _is_ours(self, text: str | None, captured: dict[str, str]) -> bool:
        if self.ours is None or text is None:
            return self.ours is text
        pattern = re.sub(r"\{([a-z]+)\}", lambda match: re.escape(captured[match[1]]), self.ours)
        return re.fullmatch(pattern, text) is not None


def reason_of(one: Differing) -> Difference | None:
    """Return the row that explains a difference; None: it is not on purpose."""
    return next((row for row in TABLE if row.explains(one)), None)


def unexplained(found: Iterable[Differing]) -> list[Differing]:
    """Return the differences that no row explains."""
    return [one for one in found if reason_of(one) is None]


STATE_WHEN_OMITTED = "Initialize"
"""Design 3: a run whose state is omitted runs, as in the article. Upstream's schema says `Initialize`, so that is what
the replayed file says where a recorded run says nothing: what follows is comparable."""

_STATE = r"\[[^]]*\]"
_RUN = rf"{_STATE} (Cluster)?StagedUpdateRun [^:, ]+"
_REQUEST = rf"{_STATE} (Cluster)?ApprovalRequest"
_PLACEMENT = rf"{_STATE} (Cluster)?ResourcePlacement [^:, ]+"
_JUST_STARTED = r"\[(a silent, b done, c started|b in flight)\] ClusterResourcePlacement s(24|80)-p"

# -- the article's words

_ARTICLE = (
    Difference(
        name="initialized",
        why="The article's run says `ClusterStagedUpdateRun initialized successfully`.",
        where=f"{_RUN}: Initialized",
        recorded="True UpdateRunInitializedSuccessfully: The UpdateRun initialized successfully",
        ours="True UpdateRunInitializedSuccessfully: (Cluster)?StagedUpdateRun initialized successfully",
    ),
    Difference(
        name="request-name",
        why="The article names the request of an after-stage task `example-run-canary`; `-after-` is understood.",
        where=rf"({_RUN}, stage \S+, after Approval: approvalRequestName|{_REQUEST} after stage .*: name)",
        recorded=r"(?P<run>.+)-after-(?P<stage>[^-]+)",
        ours="{run}-{stage}",
    ),
    Difference(
        name="request-conditions",
        why="The article: `AfterStageTaskApprovalRequestCreated`, `ClusterApprovalRequest is created`; approved alike.",
        where=rf"{_RUN}, stage \S+, after Approval: ApprovalRequest(Created|Approved)",
        recorded=r"True StageTaskApprovalRequest(?P<reason>\w+): ApprovalRequest object is (?P<word>\w+)",
        ours="True AfterStageTaskApprovalRequest{reason}: (Cluster)?ApprovalRequest is {word}",
    ),
    Difference(
        name="strategy-copy",
        why="The article's run holds the strategy as it was written: no default is filled in for maxConcurrency.",
        where=f"{_RUN}: stagedUpdateStrategySnapshot",
        recorded='.*"maxConcurrency": 1, .*',
        turned=lambda text: text.replace('"maxConcurrency": 1, ', ""),
    ),
)

# -- design, section 3

_APPROVALS = (
    Difference(
        name="approval-apart",
        why="Design 3, Approvals: a person's approval is a file of its own, so one that does not count is not on the "
        "request.",
        where=rf"{_REQUEST} (before|after) stage .*: Approved",
        recorded=r"(True|False) \w+: .*",
    ),
    Difference(
        name="approval-refused",
        why="Design 3, Approvals: the request says why an approval does not count and what to change.",
        where=rf"{_REQUEST} (before|after) stage .*: ApprovalAccepted",
        recorded=None,
        ours=r"False ApprovalRefused: \w+: .*",
    ),
)

_RUNS = (
    Difference(
        name="stuck-words",
        why="Design 3: `UpdateRunStuck` with the member's own words, behind upstream's text.",
        where=f"{_RUN}: Progressing",
        recorded="(?P<text>False UpdateRunStuck: .*)",
        ours="{text}: .+",
    ),
    Difference(
        name="failed-initialization",
        why="Design 3, Initialization: only a success is pinned, as a failure is tried again; upstream keeps how far "
        "it came.",
        where=rf"{_RUN}, kept by a failed initialization.*",
        recorded=".*",
    ),
    Difference(
        name="first-of-two",
        why="Design 3, Initialization: the result does not depend on who looks, so of several clusters in two stages "
        "the first by name is told; upstream takes them as its cache lists them.",
        where=rf"{_RUN}: Initialized",
        recorded=r"(?P<begin>.*)`\S+` appears in more than one stages",
        ours=r"{begin}`\S+` appears in more than one stages",
    ),
    Difference(
        name="withdrawn",
        why="Design 3, run file deleted: the run is withdrawn, and stays with what it did as long as the status branch "
        "has it; upstream's object is gone.",
        where=rf"{_STATE} withdrawn .*",
        recorded=None,
        ours=".*",
    ),
    Difference(
        name="superseded",
        why="Design 3, a newer run: the older ends as `UpdateRunSuperseded` once the newer starts, and names it.",
        where=rf"{_RUN}(, stage [^:, ]+)?: (Progressing|Succeeded)",
        recorded=r"False (UpdateRun|StageUpdating)Failed: .*",
        ours=r"False (UpdateRun|StageUpdating)Superseded: (The update run starts nothing new: )?"
        r"superseded by the newer run \S+",
    ),
    Difference(
        name="no-failed-cluster",
        why="Design 3: there is no failed cluster, so the stage of a superseded run neither fails nor ends.",
        where=rf"{_RUN}, stage [^:, ]+(: (Succeeded|endTime)|, cluster [^:, ]+: Succeeded)",
        recorded=r"is set, StageUpdatingFailed|False (Stage|Cluster)UpdatingFailed: .* concurrent updateRun .*",
    ),
    Difference(
        name="newest-writer",
        why="Design 3, Rollback: a run is the writer of a cluster that it started, even when nothing was to write.",
        where=r"\[after r[47]\] ClusterResourcePlacement sc0n-p, cluster sc0n-[ab]: RolloutStarted",
        recorded=r"(?P<begin>.*), resourceSnapshotIndex: \d?, updateRun: sc0n-r[36]",
        ours=r"{begin}, resourceSnapshotIndex: [02], updateRun: sc0n-r[47]",
        scenarios="c0n-",
    ),
    Difference(
        name="freed-slot",
        why="Design 3: a slot that becomes free is used in the same pass; upstream lost a write and backed off.",
        where=r"\[recovered\] ClusterStagedUpdateRun s90-r, stage all, cluster s90-b: Started",
        recorded=None,
        ours="True ClusterUpdatingStarted: Cluster update started",
        scenarios="90-",
    ),
    Difference(
        name="last-wave",
        why="As above: the recorded watch ended before the second cluster started; its `final` state has it.",
        where="ClusterStagedUpdateRun s90-r: waves",
        recorded="all: s90-a",
        ours=r"all: s90-a \| all: s90-b",
        scenarios="90-",
    ),
    Difference(
        name="write-conflict",
        why="Design 3, Initialization: clusters start in order, as many at once as maxConcurrency says; upstream lost "
        "a write, so that one of the wave started a pass later.",
        where="ClusterStagedUpdateRun s(08|24|31|41)-r: waves",
        recorded=r"staging: s08-a \| canary: s08-c \| canary: s08-b|all: s24-b \| all: s24-a, s24-c|"
        r"all: s31-b \| all: s31-a|all: s41-a \| all: s41-b",
        ours=r"staging: s08-a \| canary: s08-b, s08-c|all: s24-a, s24-b \| all: s24-c|all: s(31-a, s31|41-a, s41)-b",
        scenarios="08-|24-|31-|41-",
    ),
)

# -- placements, whose clusters answer the pass itself

_PLACEMENTS = (
    Difference(
        name="index-rolled-out",
        why="Design 3, Initialization pins the index: the message names it; upstream repeats the run's empty field.",
        where=rf"{_PLACEMENT}, cluster \S+: RolloutStarted",
        recorded=r"(?P<begin>.*), resourceSnapshotIndex: , (?P<end>.*)",
        ours=r"{begin}, resourceSnapshotIndex: \d+, {end}",
    ),
    Difference(
        name="own-words",
        why="Design 3, a cluster that is not healthy: with the member's own words, as soon as it does not answer.",
        where=rf"{_PLACEMENT}, cluster \S+: Applied",
        recorded="False ApplyInProgress: Resources are being applied",
        ours="False NotAllWorkHaveBeenApplied: no answer",
    ),
    Difference(
        name="no-work-objects",
        why="Design 1: there is no hub and so no Work object to be named; what was just handed over is being applied.",
        where=rf"{_PLACEMENT}, cluster \S+: Applied",
        recorded=r"False NotAllWorkHaveBeenApplied: Work object \S+ has not yet completed the apply op",
        ours="False ApplyInProgress: Resources are being applied",
    ),
    Difference(
        name="no-pipeline",
        why="Design 3, Initialization: overrides and content are pinned before a cluster starts; upstream's hub works "
        "them out after that.",
        where=f"{_JUST_STARTED}(: ClusterResourcePlacement|, cluster s(24|80)-[bc]: )Overridden",
        recorded="Unknown OverriddenPending: .*",
        ours="True NoOverrideSpecified: No override rules are configured for the selected resources",
        scenarios="24-|80-",
    ),
    Difference(
        name="no-pipeline-further",
        why="As above: the conditions that follow are there at once.",
        where=f"{_JUST_STARTED}(: ClusterResourcePlacement|, cluster s(24|80)-[bc]: )(WorkSynchronized|Applied)",
        recorded=None,
        ours="True (AllWorkSynced|WorkSynchronized): .*|False (ApplyInProgress|ApplyFailed): .*",
        scenarios="24-|80-",
    ),
    Difference(
        name="one-look",
        why="Design 4: a placement and its run learn of an answer in one pass; upstream's run looks again after 15 s.",
        where=r"\[first cluster started\] ClusterResourcePlacement s01-p, cluster s01-a: Applied",
        recorded="True AllWorkHaveBeenApplied: All corresponding work objects are applied",
        ours="False ApplyInProgress: Resources are being applied",
        scenarios="01-",
    ),
    Difference(
        name="one-look-available",
        why="As above.",
        where=r"\[first cluster started\] ClusterResourcePlacement s01-p, cluster s01-a: Available",
        recorded="True AllWorkAreAvailable: All corresponding work objects are available",
        scenarios="01-",
    ),
    Difference(
        name="empty-selection",
        why="Design 2, Snapshots: an empty selection begins no snapshot.",
        where=r"\[empty selection \(object does not exist\)\] hash",
        recorded="[0-9a-f]{64}",
        scenarios="e0-",
    ),
)

# -- refusals: rules that upstream words itself are worded alike; those of the API server in plain words

_REFUSALS = tuple(
    Difference(
        name=f"refused-{name}",
        why="Design 2: a schema's refusal is told in plain words, and without the value, which may be a secret; only "
        "the words of upstream's own rules are kept.",
        where=rf"{_STATE} refused",
        recorded=recorded,
        ours=ours,
    )
    for name, recorded, ours in (
        ("limit", r"Too many: \d+: (?P<rule>must have at most \d+ item)s?", r"{rule}\(s\)"),
        ("choice", 'Unsupported value: ".*": supported values: .*', "must be `.*"),
        ("missing", "Required value", r"`\w+` is required"),
        ("pattern", r"\S+ in body should match .*", "must be a .*, such as .*"),
        ("type", r'\S+ in body must be of type \w+: "\w+"', "must be .*, not a .*"),
    )
)

TABLE: tuple[Difference, ...] = (*_ARTICLE, *_APPROVALS, *_RUNS, *_PLACEMENTS, *_REFUSALS)
