"""Which approvals count: named for the gate, meant for this run and this content, and newer than the gate."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from reconciler.core.conditions import approval_kind, request_name
from reconciler.core.model import Approval, Commit, Key
from reconciler.core.selection import canonical
from reconciler.core.status import ApprovalFact, Gate, RunStatus, StageFacts, When


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An approval at the head: where its condition was first seen, and the commit that introduced it.

    `introduced` is on whichever side of a merge the approval came from; `signer` is a verified one, else empty.
    """

    approval: Approval
    first_seen: int
    introduced: Commit
    signer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """`accepted` or why not; both empty: there is no approval that names the gate."""

    accepted: ApprovalFact | None = None
    refused: str = ""


def names_of(run: str, stage: str, when: When) -> tuple[str, ...]:
    """Return every name under which an approval of this gate is understood."""
    name = request_name(run, stage, when)
    return (name, f"{run}-after-{stage}") if when is When.AFTER else (name,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a gate is judged by.

    `seen` says at which position an approval (its key, its condition as text) was first in the repository; `runs` are
    the names of the runs of the same scope, to tell a name that fits two gates; `not_before` is the position of the
    last acknowledged rewrite, up to which nothing counts as new.
    """

    candidates: Collection[Candidate]
    seen: Mapping[tuple[Key, str], int]
    runs: Collection[str] = ()
    not_before: int = -1


def judge(run: RunStatus, stage: StageFacts, gate: Gate, evidence: Evidence) -> Judgement:
    """Say whether one of the candidates passes the gate."""
    refused = ""
    for candidate in _naming(run, stage, gate, evidence.candidates):
        problem = _problem(run, stage, gate, candidate, evidence)
        if problem is None:
            return Judgement(accepted=_fact(candidate))
        refused = refused or problem
    return Judgement(refused=refused)


def _naming(run: RunStatus, stage: StageFacts, gate: Gate, candidates: Collection[Candidate]) -> Iterator[Candidate]:
    kind, names = approval_kind(run.key), names_of(run.key.name, stage.name, gate.when)
    for candidate in candidates:
        key = candidate.approval.key
        if key.kind == kind and key.namespace == run.key.namespace and key.name in names:
            yield candidate


def _problem(run: RunStatus, stage: StageFacts, gate: Gate, candidate: Candidate, evidence: Evidence) -> str | None:
    """Return why the candidate does not count, with what to change; None when it does."""
    approval, condition = candidate.approval, candidate.approval.condition or {}
    if condition.get("status") != "True":
        return f'NotApproved: the Approved condition of {approval.key} is not "True"'
    if condition.get("observedGeneration") not in (None, 1):
        return f"WrongGeneration: observedGeneration of {approval.key} is not 1, the generation of the request"
    if approval.run not in (None, run.key.name) or approval.stage not in (None, stage.name):
        return f"WrongTarget: {approval.key} is for run {approval.run}, stage {approval.stage}"
    if approval.run is None and (other := _other_gate(run.key, stage, gate, approval.key.name, evidence.runs)):
        return f"AmbiguousName: {approval.key} fits a gate of run {other} too: name run and stage in its spec"
    if approval.request_uid not in (None, gate.request_uid):
        return f"WrongRequest: {approval.key} names request {approval.request_uid}, this one is {gate.request_uid}"
    if approval.snapshot_hash not in (None, run.pin and run.pin.hash):
        return f"WrongContent: {approval.key} approves other content than this run rolls out"
    if _first_seen(run, stage, gate, candidate, evidence) <= max(gate.opened_position, evidence.not_before):
        return (
            "ApprovedBeforeRequested: the repository held this very approval, or a broken file in its place, before "
            f"the gate opened at {gate.opened_head[:7]}: commit it anew with another lastTransitionTime or message"
        )
    return None


def _first_seen(run: RunStatus, stage: StageFacts, gate: Gate, candidate: Candidate, evidence: Evidence) -> int:
    """Return when the condition was first in the repository under any of the names of this gate."""
    mark = canonical(candidate.approval.condition)
    keys = [replace(candidate.approval.key, name=name) for name in names_of(run.key.name, stage.name, gate.when)]
    return min([candidate.first_seen, *(evidence.seen[key, mark] for key in keys if (key, mark) in evidence.seen)])


def _other_gate(run: Key, stage: StageFacts, gate: Gate, name: str, runs: Collection[str]) -> str | None:
    """Return the run, if any, one of whose gates has the same name: `a-before` after `b`, `a` before `b`."""
    longer = f"{run.name}-{gate.when}"
    if name == f"{longer}-{stage.name}" and longer in runs:
        return longer
    if gate.when is When.BEFORE:
        return None
    for word in ("before", "after"):
        shorter = run.name.removesuffix(f"-{word}")
        if shorter != run.name and shorter in runs:
            return shorter
    return None


def _fact(candidate: Candidate) -> ApprovalFact:
    commit = candidate.introduced
    return ApprovalFact(
        commit=commit.sha,
        author=commit.author,
        committer=commit.committer,
        condition=dict(candidate.approval.condition or {}),
        signer=candidate.signer,
    )
