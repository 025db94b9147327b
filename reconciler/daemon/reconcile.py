"""One pass, told top to bottom: take what came back, read the head, derive, absorb, plan, record, act."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import structlog

from reconciler.clock import Clock, monotonic, wall
from reconciler.core import codec
from reconciler.core.actions import (
    Action,
    ApplyOptions,
    Content,
    Deliver,
    Fence,
    Observe,
    Outcome,
    Reason,
    Report,
    Target,
    Withdraw,
)
from reconciler.core.answers import absorb
from reconciler.core.archive import archive
from reconciler.core.clearing import withdrawal
from reconciler.core.draft import Declarations, Waiting
from reconciler.core.events import ClusterReported, Event, WithdrawalReported
from reconciler.core.identity import Identity
from reconciler.core.model import Body, Commit, Key, Problem, Run, placement_of
from reconciler.core.rollout import Plan, plan
from reconciler.core.status import PlacementState, Record
from reconciler.daemon import checkpoint, guards
from reconciler.daemon.clocks import Clocks
from reconciler.daemon.derive import Derivation, verified
from reconciler.daemon.findings import findings
from reconciler.daemon.guards import HeldError
from reconciler.daemon.message import commit_message, format_message
from reconciler.delivery import open_delivery
from reconciler.delivery.base import Delivery
from reconciler.delivery.workers import Workers
from reconciler.errors import PermanentError, TemporaryError
from reconciler.git import publish
from reconciler.git.mirror import Mirror
from reconciler.settings import Settings
from reconciler.status_branch import reader, store

logger = structlog.get_logger()

_REMOTE_PUSH_SECONDS = 2.0
_REFUSED_SECONDS = 2.0
"""So long nobody asks again whether the status branch is still where it was."""
_FRESH_SECONDS = 15.0
_COMPANY = timedelta(seconds=0.2)
"""How long a result that changes nothing else may wait for those of members that are being called."""
_CONTENTS = 20
"""How many runs' contents are held ready for the workers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """What a pass came to. `recheck_at` is when to look again at the latest, if nothing else happens."""

    recorded: str | None = None
    waiting: Mapping[Key, tuple[Waiting, ...]] = field(default_factory=dict)
    recheck_at: datetime | None = None
    lost_race: bool = False


class Reconciler:
    """Everything that a pass needs and leaves behind; one per process and repository."""

    def __init__(
        self,
        settings: Settings,
        mirror: Mirror,
        clock: Clock,
        on_outcome: Callable[[], None],
        deliveries: Callable[[str], Delivery | None] | None = None,
    ) -> None:
        """Begin without knowledge; the first pass reads everything."""
        self.settings, self.mirror, self.clock = settings, mirror, clock
        self.derivation = Derivation(mirror.git, mirror.directory / "derived", settings.allowed_signers)
        self.status: store.Status | None = None
        self._deliveries: dict[str, Delivery] = {}
        self._plans: dict[Key, Plan] = {}
        self._planned_head = ""
        self._folded = mirror.directory / "folded"
        self._guard = guards.StatusGuard(mirror, settings.status_branch)
        self._clocks = Clocks()
        self._fences = guards.Fences(self._record_of)
        self.closing = False
        self._unwell = False
        self._repairs: dict[tuple[Key, str], Action] = {}
        self._said: set[str] = set()
        self._kept: tuple[Outcome, ...] = ()
        self._pushed_at: datetime | None = None
        self._holds: dict[Key, str] = {}
        self._confirmed_at = self._refused_at = 0.0
        self._asking = threading.Lock()
        self._lock = threading.Lock()
        self._found: tuple[Commit | None, tuple[Problem, ...]] | None = None
        self._contents: dict[tuple[str, str, int], Content] = {}
        self.deliveries = deliveries or self._delivery
        self.workers = Workers(
            self.deliveries, self._content, self._fence, clock, on_outcome, may_write=self._check_fresh
        )

    # -- the pass ------------------------------------------------------------------------------------------------

    def run_pass(self) -> Pass:
        """Make one pass.

        Raises:  TemporaryError when Git is unwell, HeldError when nothing may be touched; neither touches a member.
        """
        outcomes, self._kept = (*self._kept, *self.workers.take()), ()
        try:
            self._heal()
            done = self._pass(outcomes)
            self.mirror.settle()  # only now: the members are at work already
        except TemporaryError:
            self._unwell = True
            self._give_back(outcomes)
            raise
        except Exception:
            self.workers.want(())  # held, or a mistake of ours: nothing more is touched
            self._give_back(outcomes)
            raise
        return done

    def idle(self) -> bool:
        """Tell whether only time, people or clusters can bring more: no member is called, no result is held back."""
        return self.workers.idle() and not self._kept

    def _heal(self) -> None:
        """Make the mirror anew if it was deleted, or is found damaged after a pass that failed."""
        if self._unwell or not self.mirror.is_there:
            self._guard.forgotten()
            if self.mirror.heal():
                where = str(self.mirror.directory)
                logger.warning("the mirror was deleted or damaged, and is made anew", directory=where)
        self._unwell = False

    def _give_back(self, outcomes: tuple[Outcome, ...]) -> None:
        """Have the workers tell again what was taken and not recorded."""
        if outcomes:
            self.workers.tell_again()

    def _pass(self, outcomes: tuple[Outcome, ...]) -> Pass:
        heads = self.mirror.heads()
        self._clocks.hear_remote(self.mirror.date, self.clock.now())
        if any(self.mirror.tip(branch) != heads.get(branch) for branch in self.mirror.branches):
            heads = self.mirror.fetch(heads)
        status = self._read_status(heads.get(self.settings.status_branch))
        if status.is_outdated:
            newer = self._render_anew(status)
            if newer is None:
                return Pass(lost_race=True)
            status = newer
        self._confirmed_at = monotonic()
        head = heads.get(self.settings.branch)
        if head is None:
            raise HeldError(f"the repository has no branch {self.settings.branch}")
        fleet = self._guarded(status, head)
        self.derivation.bring_to(head, fleet.joints)
        if head != self._planned_head:
            self.workers.poke_all()
        plans, happened = self._plan_all(status, fleet, head, outcomes)
        if (not_before := self._may_wait(happened, outcomes)) is not None:
            self._kept = outcomes
            return Pass(recheck_at=not_before)
        waiting = {key: one.waiting_for for key, one in plans.items() if one.waiting_for}
        recorded = self._record(
            status,
            head,
            fleet,
            states={**status.placements, **{key: one.state for key, one in plans.items()}},
            happened=happened,
            problems=self._problems(),
            waiting=waiting,
            members=self.derivation.view.cluster_identities(),
        )
        if recorded is None:
            self.workers.tell_again()
            return Pass(lost_race=True)
        self._plans, self._planned_head = dict(plans), head
        self.workers.want(self._actions(plans, outcomes))
        rechecks = [one.recheck_at for one in plans.values() if one.recheck_at is not None]
        return Pass(
            recorded=recorded or None,
            waiting=waiting,
            recheck_at=min(rechecks, default=None),
        )

    # -- reading ---------------------------------------------------------------------------------------------------

    def _read_status(self, tip: str | None) -> store.Status:
        if self.status is not None and self.status.commit == tip:
            self._guard.saw(tip)
            return self.status
        is_first, known = self.status is None, self.status or self._kept_status()
        self.status = self._guard.read(tip, known)
        if is_first and self.status is not known:
            self.keep()
        self._guard.saw(self.status.commit)
        self.mirror.settle()
        self._plans = {}
        self._fences.forget()
        self.clock.never_before(codec.decode_time(self.status.time))
        for key, why in self.status.tampered.items():
            self._say_once("status tampered", placement=str(key), problem=why)
        for path in self.status.damaged:
            self._say_once("a file of the status branch was changed by somebody, and is written again", file=path)
        return self.status

    def keep(self) -> None:
        """Keep what is known of the status branch for the next process: it goes on from there."""
        if self.status is not None:
            checkpoint.save(self._folded, store.kept(self.status))

    def _kept_status(self) -> store.Status | None:
        return reader.resumed(self.mirror.git, checkpoint.load(self._folded, store.Status))

    def _guarded(self, status: store.Status, head: str) -> store.Fleet:
        """Guard the history, and tell everybody on the status branch when it was rewritten."""
        try:
            return guards.follow(self.mirror.git, status, head)
        except guards.RewrittenError as error:
            self._announce(status, str(error))
            raise

    def _announce(self, status: store.Status, why: str) -> None:
        """Write on the status branch that a rewritten history is waiting for somebody to acknowledge it."""
        branch, (rule, _, message) = self.settings.branch, why.partition(": ")
        problem = Problem(path=branch, rule=rule, message=message)
        waiting = Waiting(run=branch, reason=rule, message=why, command="reconciler acknowledge-rewrite")
        try:
            self._record(
                status,
                status.observed,
                status.fleet,
                states=status.placements,
                happened={},
                problems=(problem,),
                waiting={Key(group="", kind="Branch", name=branch): (waiting,)},
            )
            self.mirror.settle()
        except TemporaryError as error:
            logger.warning("the hold could not be written to the status branch", error=str(error))

    # -- planning --------------------------------------------------------------------------------------------------

    def _plan_all(
        self, status: store.Status, fleet: store.Fleet, head: str, outcomes: tuple[Outcome, ...]
    ) -> tuple[Mapping[Key, Plan], Mapping[Key, tuple[Event, ...]]]:
        """Absorb and plan every placement that something may have happened to."""
        declared, now = None, self.clock.now()
        plans: dict[Key, Plan] = {}
        happened: dict[Key, tuple[Event, ...]] = {}
        self._holds = {}
        for outcome in outcomes:
            self._fences.note(outcome)
            self._clocks.hear_member(outcome.target.cluster, outcome.report.date, outcome.observed_at)
        for key in self._keys(status):
            if why := guards.held(status, key, self.derivation.view) or self._fences.held(key):
                self._holds[key] = why
                self._say_once("placement held", placement=str(key), problem=why)
                continue
            mine = tuple(one for one in outcomes if one.target.placement == key)
            last = self._plans.get(key)
            due = last is not None and last.recheck_at is not None and last.recheck_at <= now
            if last is not None and not mine and not due and head == self._planned_head:
                plans[key] = last
                continue
            declared = declared or self._declarations(status, fleet)
            state = status.placements.get(key, PlacementState(key=key))
            try:
                plans[key], happened[key] = _plan(state, declared, mine, now)
                if self.closing:
                    plans[key], happened[key] = _closed(state, mine, now, last or plans[key])
            except Exception as error:
                logger.exception("the placement cannot be planned", placement=str(key))
                self._holds[key] = f"InternalError: {error!r}"
        return plans, happened

    def _keys(self, status: store.Status) -> list[Key]:
        view = self.derivation.view
        named = {placement_of(run.key, cast("Run", run.value).placement) for run in view.runs()}
        return sorted({*status.placements, *named, *(one.key for one in view.placements())})

    def _declarations(self, status: store.Status, fleet: store.Fleet) -> Declarations:
        view = self.derivation.view
        if view.head is None:
            raise TemporaryError("the watched branch has no commit")
        return Declarations(
            head=view.head,
            view=view,
            candidates=self.derivation.candidates(),
            started_after=fleet.started_after,
            rewritten_at=max((view.joints.get(one, -1) for one in fleet.acknowledged), default=-1),
            clock_problem=self._clocks.problem(codec.decode_time(status.time), wall()),
            deadline=timedelta(seconds=self.settings.stage_deadline_seconds),
            grace=timedelta(seconds=self.settings.removal_grace_period_seconds),
        )

    def _problems(self) -> tuple[Problem, ...]:
        head = self.derivation.view.head
        if self._found is None or self._found[0] != head:
            self._found = (head, findings(self.derivation.view))
        problems = self._found[1]
        for problem in problems:
            self._say_once("problem", file=f"{problem.path}:{problem.line}", rule=problem.rule, message=problem.message)
        return (*problems, *(_held_problem(key, why) for key, why in sorted(self._holds.items())))

    def _may_wait(self, happened: Mapping[Key, tuple[Event, ...]], outcomes: tuple[Outcome, ...]) -> datetime | None:
        """Return until when results that free no used slot and open no gate may wait for company; None: push now."""
        events = [event for found in happened.values() for event in found]
        heard = all(isinstance(event, ClusterReported | WithdrawalReported) for event in events)
        if self.closing or not events or not heard:
            return None
        moments = [self._pushed_at + timedelta(seconds=self._push_interval())] if self._pushed_at is not None else []
        if self.workers.is_calling():
            moments.append(min(one.observed_at for one in outcomes) + _COMPANY)
        not_before = max(moments, default=None)
        return not_before if not_before is not None and self.clock.now() < not_before else None

    def _push_interval(self) -> float:
        asked = self.settings.min_push_interval_seconds
        if asked is not None:
            return asked
        url = self.mirror.git.url
        return 0.0 if url is None or url.protocol == "file" else _REMOTE_PUSH_SECONDS

    # -- recording -------------------------------------------------------------------------------------------------

    def _record(
        self,
        status: store.Status,
        head: str,
        fleet: store.Fleet,
        *,
        states: Mapping[Key, PlacementState],
        happened: Mapping[Key, tuple[Event, ...]],
        problems: tuple[Problem, ...],
        waiting: Mapping[Key, tuple[Waiting, ...]],
        members: tuple[Identity, ...] | None = None,
    ) -> str | None:
        """Push one commit with everything that changed; "" when nothing did, None when somebody else was first."""
        changed = store.changed(
            status,
            states=states,
            happened=happened,
            problems=problems,
            waiting=waiting,
            fleet=fleet,
            members=members,
        )
        if not changed.files:
            return ""
        message = commit_message(states, happened, head)
        new = self._push(status, changed, message, head=head, states=states, fleet=fleet)
        if new is None:
            return None
        for key, events in happened.items():
            for event in events:
                _log_event(states[key], event)
        return new

    def _render_anew(self, status: store.Status) -> store.Status | None:
        """Push what an older format said in the words of the present one, and nothing else; None: a lost race."""
        files, fleet = store.rendered_anew(status)
        changed = store.Changed(files=files, digests=status.digests, members=status.members)
        head, states = status.observed, status.placements
        pushed = self._push(status, changed, format_message(head), head=head, states=states, fleet=fleet)
        return self.status if pushed else None

    def _push(
        self,
        status: store.Status,
        changed: store.Changed,
        message: str,
        *,
        head: str,
        states: Mapping[Key, PlacementState],
        fleet: store.Fleet,
    ) -> str | None:
        """Push one commit on top of the status, and take it for the status; None when somebody else was first."""
        now, branch = self.clock.now(), self.settings.status_branch
        git = self.mirror.git
        self._check_grown(status, changed.files)
        new = publish.write_commit(git, base=status.commit, changes=changed.files, message=message, when=now)
        if not publish.push(self.mirror, branch, new, status.commit):
            logger.info("another daemon was first", branch=branch)
            return None
        time = codec.encode_time(now)
        self.status = store.after(
            status, commit=new, observed=head, time=time, states=states, changed=changed, fleet=fleet
        )
        self._guard.saw(new)
        self._pushed_at = now
        return new

    def _check_grown(self, status: store.Status, files: Mapping[str, bytes | None]) -> None:
        """Refuse to push a log that does not go on from the one on the branch; then everything is read anew."""
        try:
            reader.check_grown(self.mirror.git, status, files)
        except reader.MemoryDamagedError:
            self.status = None
            self._folded.unlink(missing_ok=True)
            raise

    # -- acting ----------------------------------------------------------------------------------------------------

    def _actions(self, plans: Mapping[Key, Plan], outcomes: tuple[Outcome, ...]) -> list[Action]:
        """Return what is wanted now; a cluster whose fence was lost is delivered again under its newest intent."""
        actions = [action for one in plans.values() for action in one.actions]
        wanted = {(action.target.placement, action.target.cluster) for action in actions}
        for outcome in outcomes:
            self._note_repair(outcome)
        self._repairs = {name: one for name, one in self._repairs.items() if self._is_newest(one)}
        return actions + [one for name, one in self._repairs.items() if name not in wanted and name[0] in plans]

    def _note_repair(self, outcome: Outcome) -> None:
        name = (outcome.target.placement, outcome.target.cluster)
        record = self._record_of(*name)
        if outcome.report.reason is Reason.FENCE_LOST and record is not None and record.seq > outcome.target.seq:
            state = cast("store.Status", self.status).placements[outcome.target.placement]
            self._repairs[name] = _repair(state, record)
        elif name in self._repairs and _is_repaired(self._repairs[name], outcome.report):
            del self._repairs[name]

    def _is_newest(self, repair: Action) -> bool:
        record = self._record_of(repair.target.placement, repair.target.cluster)
        return record is not None and record.seq == repair.target.seq

    def _record_of(self, placement: Key, cluster: str) -> Record | None:
        state = self.status.placements.get(placement) if self.status is not None else None
        return state.records.get(cluster) if state is not None else None

    def _delivery(self, cluster: str) -> Delivery | None:
        settings = self.settings.delivery_of(cluster)
        if settings is None:
            return None
        if cluster not in self._deliveries:  # of two threads that come at once, both get the one that is kept
            self._deliveries.setdefault(cluster, open_delivery(cluster, with_state(settings, self.settings.state_dir)))
        return self._deliveries[cluster]

    def _fence(self, seq: int) -> Fence:
        fleet = cast("store.Status", self.status).fleet
        return Fence(repository=fleet.repository, epoch=fleet.epoch, seq=seq)

    def _content(self, action: Deliver | Observe) -> Content:
        """Read a snapshot back; called from the workers' threads."""
        target = action.target
        state = cast("store.Status", self.status).placements[target.placement]
        record, strategy = state.records.get(target.cluster), state.apply_strategy(target.run_uid)
        if strategy is None:
            raise PermanentError(f"run {target.run_uid} is not initialized")
        if record is None or record.seq != target.seq:
            raise TemporaryError(f"intent {target.seq} is not the newest one for cluster {target.cluster}")
        with self._lock:
            return self._content_of(record, strategy)

    def _check_fresh(self) -> None:
        """Read the status ref again where it was last read over 15 s ago: somebody may have moved the rollout on.

        Called from the workers' threads; one asks for all of them.
        """
        with self._asking:
            now = monotonic()
            if now - self._confirmed_at <= _FRESH_SECONDS:
                return
            if now - self._refused_at < _REFUSED_SECONDS:
                raise TemporaryError("held back: the status branch could not be read again")
            self._refused_at = now
            tip = self.mirror.heads().get(self.settings.status_branch)
            if self.status is None or tip != self.status.commit:
                raise TemporaryError("held back: the status branch has moved, and is read first")
            self._confirmed_at, self._refused_at = monotonic(), 0.0

    def _content_of(self, record: Record, strategy: Body) -> Content:
        name = (record.run, record.placement_uid, record.index)
        if name not in self._contents:
            objects = verified(self.derivation.content(record.placement_uid, record.index), record.hash)
            options = ApplyOptions.from_strategy(strategy)
            while len(self._contents) >= _CONTENTS:
                self._contents.pop(next(iter(self._contents)), None)
            self._contents[name] = Content(hash=record.hash, objects=objects, options=options)
        return self._contents[name]

    def _say_once(self, event: str, **facts: str) -> None:
        """Log what stays the same from pass to pass only the first time."""
        text = event + "".join(facts.values())
        if text not in self._said:
            self._said.add(text)
            logger.warning(event, **facts)


def _plan(
    state: PlacementState, declared: Declarations, outcomes: tuple[Outcome, ...], now: datetime
) -> tuple[Plan, tuple[Event, ...]]:
    """Absorb, plan, and let go of the runs that are over."""
    folded, heard = absorb(state, outcomes, now)
    planned = plan(folded, declared, now)
    left = archive(state, planned.state, declared.view.removals, now)
    recheck_at = now if left.is_more else planned.recheck_at
    return replace(planned, state=left.state, recheck_at=recheck_at), (*heard, *planned.events, *left.events)


def _closed(
    state: PlacementState, outcomes: tuple[Outcome, ...], now: datetime, last: Plan
) -> tuple[Plan, tuple[Event, ...]]:
    """Absorb alone, as when the service ends: nothing new is begun, and what waited still waits."""
    folded, heard = absorb(state, outcomes, now)
    return Plan(state=folded, waiting_for=last.waiting_for), heard


def _repair(state: PlacementState, record: Record) -> Action:
    """Return what brings a cluster back to its record."""
    if not record.hash:
        return withdrawal(state, record)
    target = Target(placement=state.key, cluster=record.cluster, run_uid=record.run, seq=record.seq)
    return Deliver(target=target, snapshot_index=record.index, hash=record.hash)


def _is_repaired(repair: Action, report: Report) -> bool:
    if isinstance(repair, Withdraw):
        return report.reason is Reason.WITHDRAWN
    return report.complete == repair.hash


def _held_problem(key: Key, why: str) -> Problem:
    rule, _, message = why.partition(": ")
    return Problem(path=str(key), rule=rule, message=message)


def with_state(member: Mapping[str, Any], state_dir: Path) -> Mapping[str, Any]:
    """Return a member's settings, told where what must outlive a restart is kept."""
    return {"stateDir": str(state_dir), **member} if member.get("type") == "kubernetes" else member


def _log_event(state: PlacementState, event: Event) -> None:
    run = state.runs[event.run].key.name if event.run else getattr(event, "name", None)  # of a run that left the tree
    facts = {"run": run, "cluster": getattr(event, "cluster", None), "seq": event.seq}
    if isinstance(event, ClusterReported | WithdrawalReported):
        facts |= {"reason": str(event.reason), "object": event.object or None}
    logger.info(type(event).__name__, placement=str(state.key), **{key: one for key, one in facts.items() if one})
