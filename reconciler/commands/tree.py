"""`reconciler tree`: a run as a tree of stages, clusters and gates; once, or live until it ends."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.commands import options

if TYPE_CHECKING:
    from rich.tree import Tree

    from reconciler.commands.nouns import Noun
    from reconciler.commands.opening import Fleet
    from reconciler.core.status import RunStatus


def register(application: typer.Typer) -> None:
    """Add the command."""
    application.command("tree")(tree)


@options.reading
def tree(
    run: Annotated[str, typer.Argument(help="The run's name, or csur/NAME, sur/NAME; NAME@UID for one of several.")],
    where: options.Reading,
    namespace: options.Namespace = "",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on until the run ends.")] = False,
    timeout: Annotated[str, typer.Option("--timeout", help="How long to watch: 90s, 5m (default: no end).")] = "",
) -> int:
    """Show how far a run is. With -w: exit code 0 when it succeeded, 1 when it ended otherwise, 3 at the timeout."""
    from reconciler.commands import OK, present, reading  # noqa: PLC0415

    limit = reading.parse_timeout(timeout) if timeout else None
    noun, namespace, run = reading.run_named(run, namespace)
    fleet = reading.open_reading(where, tell_holds=watch)
    if reading.find_run(fleet, noun, namespace, run) == (None, None):
        return reading.not_found(fleet, noun, run, namespace)
    if not watch:
        present.console().print(_Drawing(fleet, noun, namespace, run))
        return OK
    course = reading.follow(fleet, where.repo, offline=where.offline, timeout=limit)
    if present.console().is_terminal:
        return _live(course, noun, namespace, run)
    return _lines(course, noun, namespace, run)


class _Drawing:
    """A run as of one look. Drawn again it shows the durations of that moment, from whichever thread."""

    def __init__(self, fleet: "Fleet", noun: "Noun", namespace: str, name: str) -> None:
        from reconciler.commands.reading import find_run, hold_on  # noqa: PLC0415

        self._name, self._kind = name, noun.kind
        self._run = find_run(fleet, noun, namespace, name)[1]
        self._members = fleet.derivation.view.clusters()
        self._hold = hold_on(fleet, noun, namespace, name)

    def __rich__(self) -> "Tree":
        from reconciler.clock import wall  # noqa: PLC0415
        from reconciler.commands import present, telling  # noqa: PLC0415

        branch = telling.branch_of(self._name, self._kind, self._run, self._members, wall(), self._hold)
        return present.tree(branch)


def _live(course: "Iterator[Fleet]", noun: "Noun", namespace: str, name: str) -> int:
    """Redraw the tree in place, also between two looks, so that durations run."""
    from rich.live import Live  # noqa: PLC0415

    from reconciler.commands import WAITING, present, reading  # noqa: PLC0415

    with Live(console=present.console(), refresh_per_second=2) as live:
        for fleet in course:
            live.update(_Drawing(fleet, noun, namespace, name), refresh=True)
            code = _ended(reading.find_run(fleet, noun, namespace, name)[1])
            if code is not None:
                return code
    return WAITING


def _lines(course: "Iterator[Fleet]", noun: "Noun", namespace: str, name: str) -> int:
    """Print one line per event, those of the past first."""
    from reconciler.commands import WAITING, present, reading, telling  # noqa: PLC0415

    last = 0
    for fleet in course:
        known = reading.knowing(fleet, noun, namespace, name)
        _, found = reading.find_run(known, noun, namespace, name)
        if found is None or known.status is None:
            continue
        fresh = [event for event in telling.log_of(known.status, found) if event.seq > last]
        present.say(*(telling.event_line(event, found) for event in fresh))
        last = max((event.seq for event in fresh), default=last)
        code = _ended(found)
        if code is not None:
            return code
    return WAITING


def _ended(run: "RunStatus | None") -> int | None:
    """Return the exit code of a run that is over; None while it is not."""
    from reconciler.commands import FAILED, OK  # noqa: PLC0415
    from reconciler.core.status import End  # noqa: PLC0415

    if run is None or run.end is None:
        return None
    return OK if run.end is End.SUCCEEDED else FAILED
