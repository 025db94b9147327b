"""Why something is as it is: what it waits for, since when, who can unblock it and with which command.

Read from the facts of the status branch and from the files; the words of a refusal are those of whoever refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from reconciler.commands.holds import Hold, held_since, hold_of, holds
from reconciler.commands.nouns import noun_of
from reconciler.commands.opening import Fleet
from reconciler.commands.reading import find_run, hold_on, knowing, name_and_uid, word_for
from reconciler.commands.telling import approve_command, open_gates, start_command, state_word
from reconciler.commands.undoing import can_go_back
from reconciler.core.actions import Reason
from reconciler.core.approvals import Evidence, judge
from reconciler.core.conditions import timestamp
from reconciler.core.model import Commit, Key, Run, placement_of
from reconciler.core.status import ClusterFacts, End, Gate, RunStatus, StageFacts, State, When, in_words
from reconciler.core.view import Declared
from reconciler.delivery.base import not_configured

ANYBODY_RUNS = "whoever may merge to runs/"
ANYBODY_APPROVALS = "whoever may merge to approvals/"
OPERATOR = "whoever operates the reconciler"


@dataclass(frozen=True, slots=True, kw_only=True)
class Because:
    """One reason: what holds, since when, who can change it, and the command that does."""

    message: str
    since: datetime | None = None
    who: str = ""
    command: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The state of an object in a word or two, and the reasons for it."""

    kind: str
    namespace: str
    name: str
    state: str
    reasons: tuple[Because, ...]


# -- a run -----------------------------------------------------------------------------------------------------------


def why_run(fleet: Fleet, kind: str, namespace: str, word: str) -> Answer | None:
    """Say why the run that `NAME` or `NAME@UID` means is where it is; None when nobody knows one."""
    fleet = knowing(fleet, noun_of(kind), namespace, word)
    declared, run = find_run(fleet, noun_of(kind), namespace, word)
    if declared is None and run is None:
        return None
    over = run is not None and run.end is not None
    held = while_held(fleet, hold_of(fleet, None) if over else hold_on(fleet, noun_of(kind), namespace, word))
    if declared is not None:
        changed = declared.changed.time
        found = [*_other_state(declared, run), *reasons_of_run(fleet, run, changed)] if run else unseen(fleet, declared)
        broken = tuple(in_broken_file(fleet, declared))
        reasons = (*held, *broken, *(one for one in found if not broken or one.message != _STANDS_STILL))
    else:
        assert run is not None
        found = reasons_of_run(fleet, run) if run.reverts else _removed(fleet, run)
        reasons = (*held, *found)
    state = "Held" if held else state_word(run)
    return Answer(kind=kind, namespace=namespace, name=name_and_uid(word)[0], state=state, reasons=reasons)


def _other_state(declared: Declared, run: RunStatus) -> Iterator[Because]:
    """Say so where the file asks for another state than the daemon has recorded."""
    wanted = cast("Run", declared.value).state
    if run.end is None and wanted != run.state:
        yield Because(
            message=f"its file says {wanted} by commit {_commit(declared.changed)}, not taken up by the daemon yet",
            since=declared.changed.time,
            who=OPERATOR,
            command="reconciler serve",
        )


def while_held(fleet: Fleet, hold: Hold | None) -> tuple[Because, ...]:
    """Return a hold as a reason, if there is one."""
    if hold is None:
        return ()
    return (Because(message=str(hold), since=held_since(fleet, hold), who=OPERATOR, command=hold.command),)


def in_broken_file(fleet: Fleet, declared: Declared) -> Iterator[Because]:
    """Say so where the file that holds an object is broken."""
    problem = fleet.derivation.view.problem_of(declared)
    if problem is not None:
        yield Because(
            message=f"its own file is broken, so its last good version counts and it starts nothing new: {problem}",
            who=f"whoever may merge to {declared.document.path}",
            command="reconciler validate",
        )


def unseen(fleet: Fleet, declared: Declared) -> Iterator[Because]:
    """Say why the daemon has not recorded something that the watched branch holds."""
    if holds(fleet):
        return  # which is told first, and is why
    where = f"it came with commit {_commit(declared.created)}"
    if fleet.status is None:
        yield Because(message=f"{where}, and there is no status branch yet", who=OPERATOR, command="reconciler init")
        return
    seen = fleet.status.observed[:7]
    yield Because(
        message=f"{where}, and the daemon has seen {fleet.branch} up to {seen} only: is it running?",
        since=declared.created.time,
        who=OPERATOR,
        command="reconciler serve",
    )


def _commit(commit: Commit) -> str:
    return f"{commit.sha[:7]} ({commit.author}: {commit.subject})"


def _removed(fleet: Fleet, run: RunStatus) -> Iterator[Because]:
    view = fleet.derivation.view
    removal = view.removals.get(run.uid)
    if removal is None:
        yield Because(message="its file is not in this history any more", since=run.ended_at)
        return
    by = _by(fleet, removal.commit)
    rollback = _rollback_of(fleet, run)
    since = removal.commit.time
    if not any(cluster.started_at is not None for stage in run.all_stages for cluster in stage.clusters):
        yield Because(message=f"{by} before it had started any cluster", since=since)
    elif rollback is not None:
        message = f"{by}, a revert: {_taken_back(rollback)}"
        yield Because(message=message, since=since, command=why_command(run.key, word_for(fleet, rollback)))
    elif run.uid in view.reverted and not _is_archived(fleet, run):
        message = f"{by}, a revert, and the daemon has not begun to go back yet"
        yield Because(message=message, since=since, who=OPERATOR, command="reconciler serve")
    else:
        what = "after it was over and its file had gone before" if run.uid in view.reverted else "and not a revert"
        message = f"{by}, a withdrawal {what}: nothing new starts, and clusters keep what they have"
        may_go_back = can_go_back(fleet, run)
        command = with_namespace(f"reconciler rollback {word_for(fleet, run)}", run.key) if may_go_back else ""
        yield Because(message=message, since=since, who=ANYBODY_RUNS if may_go_back else "", command=command)
    yield from _in_flight(run)


def _taken_back(rollback: RunStatus) -> str:
    if rollback.end is End.SUPERSEDED:
        return f"run {rollback.key.name} gave way, {rollback.end_message}"
    if not any(stage.clusters for stage in rollback.stages):
        return f"run {rollback.key.name} found no cluster to take back"
    return f"run {rollback.key.name} takes its clusters back"


def _is_archived(fleet: Fleet, run: RunStatus) -> bool:
    states = fleet.status.placements.values() if fleet.status is not None else ()
    return any(run.uid in state.archived for state in states)


def _by(fleet: Fleet, commit: Commit) -> str:
    """Say which commit removed a file; what is missing from an accepted history was removed by none of it."""
    if fleet.status is not None and commit.sha in fleet.status.fleet.acknowledged:
        return f"its file is not in the rewritten history that was accepted, up to commit {_commit(commit)}"
    return f"its file was removed by commit {_commit(commit)}"


def _rollback_of(fleet: Fleet, run: RunStatus) -> RunStatus | None:
    states = fleet.status.placements.values() if fleet.status is not None else ()
    return next((one for state in states for one in state.runs.values() if run.uid in one.reverts), None)


def with_namespace(command: str, key: Key) -> str:
    """Return a command for an object of this scope."""
    return f"{command} -n {key.namespace}" if key.namespace else command


def why_command(key: Key, name: str) -> str:
    """Return the command that asks further about a run."""
    return with_namespace(f"reconciler why {name}", key)


def reasons_of_run(fleet: Fleet, run: RunStatus, changed: datetime | None = None) -> Iterator[Because]:
    """Say what a recorded run came to, or waits for; `changed` is when its file got the state that it has."""
    if run.end is not None:
        yield from _ended(fleet, run)
    elif run.pin is None:
        yield from _uninitialized(run)
    elif run.state is not State.RUN:
        word = (
            "stopped: clusters in flight finish, and nothing new starts" if run.state is State.STOP else "initialized"
        )
        yield Because(
            message=f"it is {word}; its spec.state is {run.state}",
            since=changed or run.initialized_at,
            who=ANYBODY_RUNS,
            command=start_command(run),
        )
        yield from _in_flight(run)
    elif run.stage is None or run.started_at is None:
        yield _stands_still(run.initialized_at)
    else:
        yield from _stage(fleet, run, run.stage)


def _ended(fleet: Fleet, run: RunStatus) -> Iterator[Because]:
    match run.end:
        case End.SUCCEEDED:
            is_old = _brought_nothing(fleet, run)
            same = "; it wrote nothing new: its clusters held this content before" if is_old else ""
            yield Because(message=f"all its stages are completed{same}", since=run.ended_at)
        case End.NOT_STARTED:
            text, _, command = run.end_message.partition("; to start the same: ")
            yield Because(message=text, since=run.ended_at, who=ANYBODY_RUNS, command=command)
        case _:
            yield Because(message=run.end_message, since=run.ended_at)
    yield from _in_flight(run)


def _brought_nothing(fleet: Fleet, run: RunStatus) -> bool:
    """Tell whether every cluster had this content completely, and nobody has begun to write another since."""
    clusters = [cluster for stage in run.stages for cluster in stage.clusters]
    held = {one.name: one.before.seq for one in clusters if one.before is not None and one.before.hash == one.hash}
    if not clusters or len(held) < len(clusters):
        return False
    status = fleet.whole().status
    states = status.placements.values() if status is not None else ()
    beside = next((state.runs.values() for state in states if run.uid in state.runs), ())
    others = [one for other in beside for stage in other.all_stages for one in stage.clusters]
    return not any(
        held[one.name] < other.seq < one.seq for one in clusters for other in others if other.name == one.name
    )


def _uninitialized(run: RunStatus) -> Iterator[Because]:
    if not run.failure:
        yield Because(message="it is not initialized yet", who=OPERATOR, command="reconciler serve")
        return
    if run.failure_final:
        message, who = "this is final, a new run is needed", ANYBODY_RUNS
        command = _create_command(run)
    else:
        message, who = "it is tried again at every commit", "whoever may merge to the files it needs"
        command = f"reconciler plan {run.key.name}"
    yield Because(
        message=f"it cannot be initialized: {run.failure}; {message}",
        since=run.failed_at,
        who=who,
        command=with_namespace(command, run.key),
    )


def _create_command(run: RunStatus) -> str:
    """Return the command that commits another run of the same placement along the same strategy."""
    strategy = run.spec["stagedRolloutStrategyName"]
    return f"reconciler run create NAME --placement {run.placement} --strategy {strategy}"


def _stage(fleet: Fleet, run: RunStatus, stage: StageFacts) -> Iterator[Because]:
    found = [*(reason_of_gate(fleet, run, stage, gate) for gate in open_gates(stage)), *_in_flight(run)]
    if any(cluster.is_stuck for cluster in stage.clusters):
        found += _newer_content(fleet, run)
    yield from found or [_stands_still(stage.ended_at or stage.updated_at or stage.started_at or run.started_at)]


def _newer_content(fleet: Fleet, run: RunStatus) -> Iterator[Because]:
    """Say of a stuck run that there is newer content, which it does not bring: what a run brings is pinned."""
    snapshots = fleet.derivation.view.snapshots.get(run.pin.placement_uid, ()) if run.pin is not None else ()
    newest = snapshots[-1] if snapshots else None
    if run.pin is None or newest is None or newest.index <= run.pin.snapshot_index:
        return
    brings = f"this run brings snapshot {run.pin.snapshot_index}, whatever is committed since; snapshot {newest.index}"
    command = _create_command(run)
    yield Because(
        message=f"{brings} of commit {newest.commit[:7]} ({newest.author}: {newest.subject}) needs a run of its own",
        since=newest.created,
        who=ANYBODY_RUNS,
        command=with_namespace(command, run.key),
    )


_STANDS_STILL = "the daemon has not gone on yet"


def _stands_still(since: datetime | None) -> Because:
    return Because(message=_STANDS_STILL, since=since, who=OPERATOR, command="reconciler serve")


def given(fleet: Fleet, run: RunStatus, stage: StageFacts, gate: Gate) -> str:
    """Return by which commit a gate is approved: one that was accepted, or that will be; empty: by none."""
    if gate.approval is not None:
        return f"commit {gate.approval.commit[:7]} of {gate.approval.author}"
    view, recorded = fleet.derivation.view, fleet.status.fleet if fleet.status is not None else None
    evidence = Evidence(
        candidates=fleet.derivation.candidates(),
        seen=view.approvals_seen,
        runs={one.key.name for one in view.runs() if one.key.namespace == run.key.namespace},
        not_before=max((view.joints.get(one, -1) for one in recorded.acknowledged), default=-1) if recorded else -1,
    )
    fact = judge(run, stage, gate, evidence).accepted
    if fact is None:
        return ""
    return f"commit {fact.commit[:7]} of {fact.author}, which the daemon has not taken up yet"


def reason_of_gate(fleet: Fleet, run: RunStatus, stage: StageFacts, gate: Gate) -> Because:
    """Say what an open gate waits for."""
    if gate.task.type != "Approval":
        since = stage.updated_at or gate.opened_at
        over = (
            f", and passes by itself at {timestamp(since + gate.wait)}"
            if since is not None and gate.wait is not None
            else ""
        )
        return Because(message=f"stage {stage.name} waits {gate.task.wait} after its last cluster{over}", since=since)
    by = given(fleet, run, stage, gate)
    if by:
        message = f"the gate {gate.when} stage {stage.name} is approved by {by}"
        return Because(message=message, since=gate.opened_at, who=OPERATOR, command="reconciler serve")
    side = "before it starts" if gate.when is When.BEFORE else "now that its clusters are updated"
    refused = f"; an approval is there and does not count: {gate.refused}" if gate.refused else ""
    return Because(
        message=f"stage {stage.name} waits for approval {gate.request} {side}{refused}",
        since=gate.opened_at,
        who=ANYBODY_APPROVALS,
        command=approve_command(run, stage, gate),
    )


def _in_flight(run: RunStatus) -> Iterator[Because]:
    for number, cluster in run.in_flight():
        yield why_in_flight(run, run.all_stages[number], cluster)


def why_in_flight(run: RunStatus, stage: StageFacts, cluster: ClusterFacts) -> Because:
    """Say what a cluster is waited for, in the member's words, and since when it is stuck."""
    doing = str(cluster.reason or ("Delivering" if cluster.hash else "Removing"))
    heard = in_words(doing, cluster.object, cluster.message) + _more(cluster)
    stuck = " is stuck" if cluster.is_stuck else ""
    overdue = f", overdue since {timestamp(cluster.overdue_at)}" if cluster.overdue_at is not None else ""
    where = f"cluster {cluster.name} in stage {stage.name} of run {run.key.name}"
    return Because(
        message=f"{where}{stuck}{overdue}: {heard}{_next_try(cluster)}",
        since=cluster.heard_at or cluster.started_at,
        who=_helper(run, cluster),
        command=f"reconciler describe cluster {cluster.name}",
    )


_NAMED = 3


def _more(cluster: ClusterFacts) -> str:
    """Name the other objects that are not well."""
    others = [one.object for one in cluster.results if one.object != cluster.object]
    if not others:
        return ""
    more = len(others) - _NAMED
    return f"; not well either: {', '.join(others[:_NAMED])}" + (f" and {more} more" if more > 0 else "")


def _next_try(cluster: ClusterFacts) -> str:
    match cluster.reason:
        case None | Reason.IDENTITY_CHANGED:  # which says itself what has to be done first
            return ""
        case Reason.NOT_CONFIGURED if cluster.message == not_configured(cluster.name).message:
            return "; the settings are read when the daemon starts"
        case Reason.NOT_AVAILABLE:
            return "; it is looked at every second"
        case Reason.REFUSED | Reason.CONFLICT:
            return "; it is tried again within a minute, and at once after a commit"
        case _:
            return "; it is tried again"


_OPERATORS = (Reason.NOT_CONFIGURED, Reason.IDENTITY_CHANGED, Reason.FENCE_LOST)
_AUTHORS = (Reason.REFUSED, Reason.CONFLICT, Reason.NOT_AVAILABLE)
"""What may be wrong with the manifest."""


def _helper(run: RunStatus, cluster: ClusterFacts) -> str:
    """Say who can help a cluster in flight."""
    of_placement = cluster.object == str(placement_of(run.key, run.placement))  # a ceiling of the settings
    if cluster.reason in _OPERATORS or of_placement:
        return OPERATOR
    member = f"whoever looks after {cluster.name}"
    if cluster.reason is Reason.UNAUTHORIZED:
        return f"{OPERATOR}, or {member}"
    author = "whoever may merge a fix to resources/ or placements/, and a new run that brings it"
    return f"{author}; or {member}" if cluster.hash and cluster.reason in _AUTHORS else member
