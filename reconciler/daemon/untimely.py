"""Approvals that will be refused for certain: they came before the gate that they are for had opened."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import cast

from reconciler.core.approvals import names_of
from reconciler.core.conditions import approval_kind
from reconciler.core.history import approval_mark
from reconciler.core.model import Approval, Key, Problem
from reconciler.core.status import Gate, RunStatus, When
from reconciler.core.transitions import problem_at
from reconciler.core.view import Declared, View
from reconciler.daemon.findings import stages_of


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """The gate of a run that a name of an approval may be for; `recorded` is the run as the daemon knows it."""

    run: Declared
    stage: str
    when: When
    recorded: RunStatus | None

    @property
    def gate(self) -> Gate | None:
        """The gate as far as it is recorded."""
        stages = self.recorded.stages if self.recorded is not None else ()
        found = (gate for stage in stages if stage.name == self.stage for gate in stage.gates_of(self.when))
        return next((gate for gate in found if gate.task.type == "Approval"), None)

    @property
    def is_settled(self) -> bool:
        """Whether no approval can change anything any more."""
        over = self.recorded is not None and self.recorded.end is not None
        return over or (self.gate is not None and self.gate.passed_at is not None)


def untimely(view: View, recorded: Iterable[RunStatus] = (), *, aside: bool = False) -> Iterator[Problem]:
    """Find approvals that came too early, as far as it can be told at the head of the view.

    Without the runs as they are `recorded`, that is those which came with their run, or before it. `aside` says that
    the view is not of the watched branch: what it holds is merged later than any gate that is open opened.
    """
    asked = _asked(view, {one.uid: one for one in recorded})
    for declared in view.approvals():
        approval = cast("Approval", declared.value)
        if (approval.condition or {}).get("status") != "True":
            continue
        for one in asked.get(declared.key, ()):
            meant = approval.run in (None, one.run.key.name) and approval.stage in (None, one.stage)
            if meant and not one.is_settled and _seen(view, approval, one) <= _opened(view, one, aside=aside):
                yield _problem(declared, one)


def _asked(view: View, recorded: Mapping[str, RunStatus]) -> dict[Key, list[_Asked]]:
    """Return the gates of all runs by the names of what approves them."""
    found: dict[Key, list[_Asked]] = {}
    for run in view.runs():
        for stage in stages_of(view, run):
            for when in When:
                one = _Asked(run=run, stage=stage, when=when, recorded=recorded.get(run.uid))
                for key in _keys(one):
                    found.setdefault(key, []).append(one)
    return found


def _keys(one: _Asked) -> Iterator[Key]:
    for name in names_of(one.run.key.name, one.stage, one.when):
        yield replace(one.run.key, kind=approval_kind(one.run.key), name=name)


def _seen(view: View, approval: Approval, one: _Asked) -> int:
    """Return when the repository first held the approval, under any name that fits the gate."""
    marks = (approval_mark(replace(approval, key=key)) for key in _keys(one))
    return min(view.approvals_seen[mark] for mark in marks if mark in view.approvals_seen)


def _opened(view: View, one: _Asked, *, aside: bool) -> int:
    """Return the position of the oldest head at which the gate can have opened."""
    if one.gate is not None and one.gate.opened_at is not None:
        return one.run.created.position if aside else one.gate.opened_position
    return one.run.created.position if one.recorded is None or view.head is None else view.head.position


def _problem(declared: Declared, one: _Asked) -> Problem:
    run = one.run.key
    side = " --before" if one.when is When.BEFORE else ""
    command = f"reconciler approve {run.name} {one.stage}{side}" + (f" -n {run.namespace}" if run.namespace else "")
    message = f"it comes before the gate {one.when} stage {one.stage} of run {run.name} opens, so it will not count"
    hint = f"approve once the run asks for it: {command}"
    return problem_at(declared.document, "/status/conditions", "ApprovedBeforeRequested", message, hint)
