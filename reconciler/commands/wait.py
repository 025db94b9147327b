"""`reconciler wait`: return when something has become true, or say what it still waits for."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reconciler.commands import options

if TYPE_CHECKING:
    from reconciler.commands.nouns import Noun
    from reconciler.commands.opening import Fleet
    from reconciler.core.status import RunStatus


def register(application: typer.Typer) -> None:
    """Add the command."""
    application.command("wait")(wait)


@options.reading
def wait(
    what: Annotated[str, typer.Argument(help="A run's name, or NOUN/NAME.")],
    where: options.Reading,
    name: Annotated[str | None, typer.Argument(help="The name, where the first word is a noun.")] = None,
    goal: Annotated[
        str, typer.Option("--for", help="condition=TYPE[=STATUS], or approval: a request waits for a person.")
    ] = "condition=Succeeded",
    timeout: Annotated[str, typer.Option("--timeout", help="How long: 90s, 5m, 1h30m; 0 looks once.")] = "5m",
    namespace: options.Namespace = "",
) -> int:
    """Wait until a condition holds: exit code 0; 1 when the run ended otherwise, 3 when it still waits at the end."""
    from reconciler.commands import WAITING, present, reading  # noqa: PLC0415

    limit = reading.parse_timeout(timeout)
    if name is None and "/" not in what:
        noun, wanted = reading.run_noun(namespace), what
    else:
        noun, wanted = reading.split(what, name)
    target = _Target(noun, reading.place(noun, namespace), wanted, goal)
    fleet = reading.open_reading(where)
    if target.find(fleet) is None:
        return reading.not_found(fleet, noun, wanted, reading.place(noun, namespace))
    for now in reading.follow(fleet, where.repo, offline=where.offline, timeout=limit):
        fleet = now
        code = target.judge(fleet)
        if code is not None:
            return code
    present.warn(f"error: timed out waiting for {goal} on {target}")
    target.say_why(fleet)
    return WAITING


class _Target:
    """One object, and what is waited for: a condition with a status, or an approval request."""

    def __init__(self, noun: "Noun", namespace: str, name: str, goal: str) -> None:
        self._noun, self._namespace, self._name = noun, namespace, name
        self._kind, self._status = _goal(noun, goal)

    def __str__(self) -> str:
        return f"{self._noun.prefix}/{self._name}"

    def find(self, fleet: "Fleet") -> Mapping[str, Any] | None:
        """Return the object, or None."""
        from reconciler.commands.objects import items  # noqa: PLC0415

        found = items(fleet, self._noun, everything=True)
        mine = [one for one in found if (one.name, one.namespace) == (self._name, self._namespace)]
        return mine[-1].body if mine else None

    def judge(self, fleet: "Fleet") -> int | None:
        """Return the exit code once the wait is over, saying why; None while it goes on."""
        from reconciler.commands import FAILED, OK, present  # noqa: PLC0415

        met = self._met(fleet)
        if met:
            present.say(f"{self} {met}")
            return OK
        run = self._run(fleet)
        if run is not None and (run.end is not None or run.failure_final):
            present.warn(f"error: {self} ended: {run.end_message or run.failure or run.end}")
            return FAILED
        return None

    def _met(self, fleet: "Fleet") -> str:
        """Return what has become true, in words; empty: nothing yet."""
        if not self._kind:
            return self._asked(self._run(fleet))
        body = self.find(fleet) or {}
        kinds = {self._kind, str(body.get("kind", "")).lower() + self._kind}
        for one in (body.get("status") or {}).get("conditions") or ():
            if str(one["type"]).lower() in kinds and str(one["status"]).lower() == self._status:
                return "condition met"
        return ""

    def _asked(self, run: "RunStatus | None") -> str:
        from reconciler.commands.telling import approve_command, open_gates  # noqa: PLC0415

        if run is None or run.end is not None or run.stage is None:
            return ""
        stage = run.stage
        gate = next((one for one in open_gates(stage) if one.request), None)
        if gate is None:
            return ""
        return f"waits for approval of stage {stage.name}: {approve_command(run, stage, gate)}"

    def _run(self, fleet: "Fleet") -> "RunStatus | None":
        from reconciler.commands.reading import find_run  # noqa: PLC0415

        return find_run(fleet, self._noun, self._namespace, self._name)[1]

    def say_why(self, fleet: "Fleet") -> None:
        """Say what a run still waits for, and the command that helps."""
        from reconciler.commands import present, reading, telling  # noqa: PLC0415

        if not _is_run(self._noun):
            return
        hold = reading.hold_on(fleet, self._noun, self._namespace, self._name)
        for one in telling.waits_for(self._run(fleet), hold):
            present.warn(f"still waiting: {one.message}")
            if one.command:
                present.warn(f"  next: {one.command}")


def _is_run(noun: "Noun") -> bool:
    return noun.kind.endswith("StagedUpdateRun")


def _goal(noun: "Noun", text: str) -> tuple[str, str]:
    """Return the condition's type and status in lower case; an empty type: an approval request.

    Raises:  UsageError for a goal that is none, or not one of this kind of object.
    """
    from reconciler.errors import UsageError  # noqa: PLC0415

    if text.lower() == "approval":
        if not _is_run(noun):
            raise UsageError(f"--for approval: only runs ask for approvals, not {noun.plural}")
        return "", ""
    word, equals, rest = text.partition("=")
    if equals and word != "condition":
        raise UsageError(f"--for {text}: write condition=TYPE, condition=TYPE=STATUS, or approval")
    kind, _, status = (rest if equals else word).partition("=")
    known = next((found for end, found in _CONDITIONS.items() if noun.kind.endswith(end)), ())
    if not known:
        raise UsageError(f"--for {text}: {noun.plural} have no conditions to wait for")
    if kind.lower().removeprefix(noun.kind.lower()) not in map(str.lower, known):
        more = ", approval" if _is_run(noun) else ""
        raise UsageError(f"--for {text}: {noun.plural} have the conditions {', '.join(known)}{more}")
    status = (status or "True").lower()
    if status not in _STATUSES:
        raise UsageError(f"--for {text}: a condition is True, False or Unknown")
    return kind.lower(), status


_STATUSES = ("true", "false", "unknown")
_CONDITIONS: Mapping[str, tuple[str, ...]] = {
    "StagedUpdateRun": ("Initialized", "Progressing", "Succeeded"),
    "ResourcePlacement": ("Scheduled", "RolloutStarted", "Overridden", "WorkSynchronized", "Applied", "Available"),
    "ApprovalRequest": ("Approved", "ApprovalAccepted"),
}
"""What can be waited for, by the end of the kind."""
