"""`reconciler replay`: fold a run's events again, and compare with the status that is stored beside them."""

from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.commands import options

if TYPE_CHECKING:
    from datetime import datetime

    from reconciler.core.events import Event
    from reconciler.core.status import RunStatus
    from reconciler.git.mirror import Source
    from reconciler.status_branch.store import Status


def register(application: typer.Typer) -> None:
    """Add the command."""
    application.command("replay")(replay)


def replay(
    run: Annotated[str, typer.Argument(help="The run's name; NAME@UID for one of several of that name.")],
    namespace: options.Namespace = "",
    as_of: Annotated[str, typer.Option("--as-of", help="Only what happened up to a moment (RFC 3339).")] = "",
    check: Annotated[bool, typer.Option("--check/--no-check", help="Compare with the stored status.")] = True,
    events: Annotated[bool, typer.Option("--events", help="Print the events, one per line, instead.")] = False,
    repo: options.Repo = ".",
    branch: options.Branch = "main",
    status_branch: options.StatusBranch = "fleet-status",
    offline: options.Offline = False,
) -> int:
    """Print a run's status as its events make it; exit code 1 when the stored one differs."""
    from reconciler.commands import FAILED, OK, present, reading, telling  # noqa: PLC0415
    from reconciler.status_branch import layout, reader, store  # noqa: PLC0415

    until = _moment(as_of)
    _, namespace, run = reading.run_named(run, namespace)
    source, tip = _source(repo, branch, status_branch, offline=offline)
    status = reader.read(source.git, tip)
    if _folder(status, run, namespace) is None:
        status = reader.with_archived(source.git, status)
    folder = _folder(status, run, namespace)
    if folder is None:
        return _not_found(status, run, namespace)
    try:
        log = reader.log_events(status.files[f"{folder}/{layout.EVENTS}"])
        kept = [event for event in log if until is None or event.now <= until]
        found = _fold(kept)
    except ValueError as error:
        present.warn(f"error: {folder}/{layout.EVENTS} does not fold: {error}")
        return FAILED
    if found is None:
        present.warn(f"error: nothing had happened to {run} by {as_of or 'any time'}: its log begins later")
        return FAILED
    rendered = store.render_run(found)
    if events:
        present.say(*(telling.event_line(event, found) for event in kept))
    else:
        present.say(rendered.decode().removesuffix("\n"))
    whole = len(kept) == len(log)
    if not (check and whole):
        return OK
    return _compare(status, f"{folder}/{layout.RUN}", rendered) or _untouched(status, found)


def _moment(text: str) -> "datetime | None":
    from reconciler.core.codec import decode_time  # noqa: PLC0415
    from reconciler.errors import UsageError  # noqa: PLC0415

    try:
        moment = decode_time(text) if text else None
    except ValueError:
        moment = None
    if text and (moment is None or moment.tzinfo is None):
        raise UsageError(f"--as-of {text}: write a moment as RFC 3339, such as 2025-07-22T21:28:08Z")
    return moment


def _source(repo: str, branch: str, status_branch: str, *, offline: bool) -> "tuple[Source, str]":
    """Return where the status branch is, and its tip: a replay needs nothing else."""
    from reconciler.errors import UsageError  # noqa: PLC0415
    from reconciler.git.mirror import open_source  # noqa: PLC0415

    source = open_source(repo, (branch, status_branch), offline=offline)
    tip = source.tip(status_branch)
    if tip is None:
        raise UsageError(f"{repo} has no branch {status_branch}, so there is nothing to replay: reconciler init")
    return source, tip


def _folder(status: "Status", run: str, namespace: str) -> str | None:
    """Return the folder of a run; of several with the same name the newest, unless a uid is given."""
    from reconciler.commands.reading import name_and_uid  # noqa: PLC0415
    from reconciler.status_branch import layout, reader  # noqa: PLC0415

    name, uid = name_and_uid(run)
    start = f"{layout.RUNS}/{layout.scope(namespace)}/{name}/"
    logs = {path.rpartition("/")[0]: data for path, data in status.logs.items() if path.startswith(start)}
    found = [folder for folder in logs if folder.removeprefix(start).startswith(uid[:8])]

    def first(folder: str) -> int:
        try:
            return min((event.seq for event in reader.log_events(logs[folder])), default=0)
        except ValueError:
            return 0

    return max(found, key=first, default=None)


def _not_found(status: "Status", run: str, namespace: str) -> int:
    """Say that there is no such run, and where there is one of that name; return the exit code."""
    from reconciler.commands import reading  # noqa: PLC0415
    from reconciler.status_branch import layout  # noqa: PLC0415

    code, name = reading.absent(reading.run_noun(namespace), run), reading.name_and_uid(run)[0]
    parts = [path.split("/") for path in status.logs]
    found = {part[1] for part in parts if part[0] == "runs" and part[2] == name and part[1] != layout.scope(namespace)}
    for scope in sorted(found):
        where = "" if scope == layout.scope("") else scope
        reading.hint_at(reading.run_noun(where), name, [where])
    return code


def _fold(events: "list[Event]") -> "RunStatus | None":
    from reconciler.core.fold import apply  # noqa: PLC0415

    run = None
    for event in events:
        run = apply(run, event)
    return run


def _compare(status: "Status", path: str, rendered: bytes) -> int:
    """Compare with what is stored, byte for byte, of an older format only the facts; show the difference."""
    import difflib  # noqa: PLC0415

    from reconciler.commands import FAILED, OK, present  # noqa: PLC0415
    from reconciler.status_branch import reader  # noqa: PLC0415

    stored = status.files.get(path, b"")
    if stored == rendered:
        return OK
    if status.is_outdated and reader.same_facts(stored, rendered):
        present.warn(f"the status branch has format {status.fleet.format}, an older one: the facts are the same")
        return OK
    present.warn(f"error: {path} on the status branch is not what its events say")
    old, new = (one.decode(errors="replace").splitlines() for one in (stored, rendered))
    for line in difflib.unified_diff(old, new, f"stored {path}", "folded from its events", lineterm=""):
        present.warn(line)
    return FAILED


def _untouched(status: "Status", run: "RunStatus") -> int:
    """Say whether an event was edited in what `run.yaml` does not show."""
    from reconciler.commands import FAILED, OK, present  # noqa: PLC0415
    from reconciler.core.model import placement_of  # noqa: PLC0415

    why = status.tampered.get(placement_of(run.key, run.placement))
    if why is None:
        return OK
    present.warn(f"error: {why}")
    return FAILED
