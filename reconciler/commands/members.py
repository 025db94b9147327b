"""What the members themselves say, asked at this moment: whether they answer, what they run, what is missing there.

It differs from daemon to daemon and from minute to minute, so it is on no branch. Members are only read here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Condition, Thread
from typing import Any

from reconciler.clock import monotonic
from reconciler.commands.objects import states
from reconciler.commands.opening import Fleet
from reconciler.core.actions import ApplyOptions, Content, Fence, Report
from reconciler.core.status import PlacementState, Record
from reconciler.daemon.derive import verified
from reconciler.daemon.reconcile import with_state
from reconciler.delivery import IDENTITIES, open_delivery
from reconciler.delivery.base import Delivery
from reconciler.errors import ReconcilerError, UsageError
from reconciler.redact import line
from reconciler.settings import Settings, load
from reconciler.status_branch.dashboard import name_of

DEADLINE_SECONDS = 15.0
"""How long each member may take to answer everything it is asked."""

_AT_ONCE = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """One inventory on a member. `index` and `run` are None where the status branch knows nothing of it."""

    placement: str
    index: int | None
    hash: str | None
    run: str | None
    objects: int
    ours: bool
    missing: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """The placement and what of it is there: its snapshot, else its hash."""
        what = self.hash[:7] if self.hash else "incomplete"
        return f"{self.placement}={what if self.index is None else self.index}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a member said: `facts` are its `describe`, `reports` what an observation found, by placement."""

    facts: Mapping[str, Any]
    running: tuple[Running, ...] = ()
    reports: Mapping[str, Report] = field(default_factory=dict)

    @property
    def reachable(self) -> bool:
        """Whether it answered, and is who it should be."""
        return bool(self.facts.get("reachable"))

    def fact(self, name: str) -> str:
        """Return one of its facts as text, empty where it says none."""
        value = self.facts.get(name)
        return "" if value is None else str(value)


Ask = Callable[[str], Answer]


def settings_of(file: Path | None, members: Path | None, flags: Mapping[str, str]) -> Settings:
    """Return the operator's settings with the flags laid over them; the repository is that of here unless one says.

    Raises:  UsageError for settings that cannot be used.
    """
    if members is not None and not members.is_dir():
        raise UsageError(f"--members {members} is not a folder")
    default = {"type": "directory", "root": str(members), "create": True} if members is not None else None
    return load(file, {**flags, "delivery_default": default}, {"repo": "."})


# -- asking --------------------------------------------------------------------------------------------------------


def asking(fleet: Fleet, settings: Settings, *, thoroughly: bool = False) -> Ask:
    """Return what asks one member; `thoroughly` looks at every object that was delivered to it, too."""

    def ask(cluster: str) -> Answer:
        member = settings.delivery_of(cluster)
        if member is None:
            return unreachable(f"delivery.clusters.{cluster} is not in the settings")
        try:
            delivery = open_delivery(cluster, _read_only(cluster, member, settings.state_dir))
            facts = delivery.describe()
            running = tuple(sorted(_running(fleet, cluster, facts), key=lambda one: one.placement))
            reports = dict(_observed(fleet, cluster, delivery, facts)) if thoroughly else {}
        except ReconcilerError as error:
            return unreachable(str(error))
        return Answer(facts=facts, running=running, reports=reports)

    return ask


def unreachable(message: str) -> Answer:
    """Return the answer of a member that gave none."""
    return Answer(facts={"reachable": False, "message": line(message)})


def _read_only(cluster: str, member: Mapping[str, Any], state_dir: Path) -> Mapping[str, Any]:
    """Return the settings of a member, with what the daemon remembers of it; nothing is remembered for the daemon."""
    return with_state(member, state_dir) if (state_dir / IDENTITIES / cluster).exists() else member


def ask_all(clusters: Sequence[str], ask: Ask, *, deadline: float = DEADLINE_SECONDS) -> dict[str, Answer]:
    """Ask members, some at a time; each has `deadline` seconds, and one that takes longer holds up nobody."""
    answers: dict[str, Answer] = {}
    begun: dict[str, float] = {}
    waiting, changed = list(reversed(clusters)), Condition()

    def work(cluster: str) -> None:
        answer = _guarded(cluster, ask)
        with changed:
            if begun.pop(cluster, None) is not None:
                answers[cluster] = answer
            changed.notify()

    with changed:
        while waiting or begun:
            now = monotonic()
            for late in [name for name, since in begun.items() if now - since >= deadline]:
                del begun[late]
                answers[late] = unreachable(f"no answer within {deadline:g} s")
            while waiting and len(begun) < _AT_ONCE:
                name = waiting.pop()
                begun[name] = now
                Thread(target=work, args=(name,), daemon=True).start()
            if begun:
                changed.wait(min(begun.values()) + deadline - now)
    return answers


def _guarded(cluster: str, ask: Ask) -> Answer:
    try:
        return ask(cluster)
    except Exception as error:  # noqa: BLE001 - one member's bug, whatever it is, stays that member's
        return unreachable(f"asking failed with {type(error).__name__}: {error}")


# -- what is there ---------------------------------------------------------------------------------------------------


def _running(fleet: Fleet, cluster: str, facts: Mapping[str, Any]) -> Iterator[Running]:
    known = {str(key): state for key, state in states(fleet).items()}
    for placement, held in facts.get("inventories", {}).items():
        state = known.get(placement)
        ours = fleet.status is not None and held["repository"] == fleet.status.fleet.repository
        record = _record(state, cluster, held["seq"]) if state is not None and ours else None
        yield Running(
            placement=name_of(state.key.namespace, state.key.name) if state is not None else placement,
            index=_index(state, record, held["hash"]) if state is not None and ours else None,
            hash=held["hash"],
            run=record.run_name if record is not None else None,
            objects=held["objects"],
            ours=ours,
            missing=tuple(facts.get("missing", {}).get(placement, ())),
        )


def _record(state: PlacementState, cluster: str, seq: int) -> Record | None:
    """Return the record of a cluster if the intent on the member is the recorded one."""
    record = state.records.get(cluster)
    return record if record is not None and record.seq == seq else None


def _index(state: PlacementState, record: Record | None, found: str | None) -> int | None:
    """Return the snapshot that is there completely; of those with the same content the one that was asked for."""
    if record is not None and record.hash == found:
        return record.index
    return next((one.index for one in reversed(state.snapshots) if one.hash == found), None)


def _observed(fleet: Fleet, cluster: str, delivery: Delivery, facts: Mapping[str, Any]) -> Iterator[tuple[str, Report]]:
    """Look, without writing, at what was delivered to the member last; give a report by placement."""
    for key, state in states(fleet).items():
        held = facts.get("inventories", {}).get(str(key))
        record = _record(state, cluster, held["seq"]) if held else None
        if held is None or record is None or record.hash != held["hash"]:
            continue
        fence = Fence(repository=held["repository"], epoch=held["epoch"], seq=held["seq"])
        content = _content(fleet, state, record)
        yield name_of(key.namespace, key.name), delivery.observe(key, content, fence)


def _content(fleet: Fleet, state: PlacementState, record: Record) -> Content:
    objects = verified(fleet.derivation.content(record.placement_uid, record.index), record.hash)
    options = ApplyOptions.from_strategy(state.apply_strategy(record.run) or {})
    return Content(hash=record.hash, objects=objects, options=options)


def unwell_of(answer: Answer) -> Iterator[tuple[str, str, str]]:
    """Give placement, object and what is wrong with it, for each object that is not as it was delivered."""
    for one in answer.running:
        report = answer.reports.get(one.placement)
        rows = [(name, "is missing") for name in one.missing] if report is None else _unwell(report)
        yield from ((one.placement, *row) for row in rows)


def _unwell(report: Report) -> list[tuple[str, str]]:
    if report.results:
        return [(one.object, one.message or str(one.reason)) for one in report.results]
    return [] if report.healthy else [(report.object, report.message or str(report.reason))]
