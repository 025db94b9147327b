"""The options that several commands share, each declared once."""

import inspect
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from reconciler.errors import RaceLostError, UsageError

T = TypeVar("T")
_REPO = "RECONCILER_REPO"
_RACES = 4
"""How often a lost race is run again at once."""
Repo = Annotated[
    str,
    typer.Option("--repo", "-C", envvar=_REPO, help="A clone, a bare repository, or any URL that git understands."),
]
Branch = Annotated[str, typer.Option("--branch", help="The watched branch.")]
StatusBranch = Annotated[str, typer.Option("--status-branch", help="The branch that the daemon writes.")]
Offline = Annotated[bool, typer.Option("--offline", help="Read what is here; do not fetch first.")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="The namespace of what is namespaced.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the file instead of committing it.")]
ToBranch = Annotated[str | None, typer.Option("--to-branch", help="Push to a new branch, to open a pull request from.")]
SettingsFile = Annotated[
    Path | None, typer.Option("--settings", envvar="RECONCILER_SETTINGS", help="The operator's settings file.")
]
OptionalRepo = Annotated[
    str | None,
    typer.Option("--repo", "-C", envvar=_REPO, help="A bare repository or any URL that git understands."),
]
OptionalBranch = Annotated[str | None, typer.Option("--branch", help="The watched branch (default main).")]
OptionalStatusBranch = Annotated[
    str | None, typer.Option("--status-branch", help="The status branch (default fleet-status).")
]
Members = Annotated[
    Path | None, typer.Option("--members", help="Every member is a folder under this directory, made when missing.")
]
MemberFolders = Annotated[
    Path | None, typer.Option("--members", help="Every member is a folder under this directory; ask what it runs.")
]
StateDir = Annotated[Path | None, typer.Option("--state-dir", help="Mirror and caches; may be deleted at any time.")]
Poll = Annotated[float | None, typer.Option("--poll-period-seconds", help="How often the remote is asked (30).")]
Deadline = Annotated[
    float | None, typer.Option("--stage-deadline-seconds", help="When a cluster in flight is called stuck (300).")
]
Grace = Annotated[
    float | None,
    typer.Option("--removal-grace-period-seconds", help="How long what a removed placement placed stays (600)."),
]


def everywhere(
    context: typer.Context,
    repo: Annotated[str | None, typer.Option("--repo", "-C", help="As --repo of the command, which wins.")] = None,
) -> None:
    """Take options before the command: what is given there comes to it as the environment does, and before that."""
    if repo is not None:
        context.with_resource(_environment(_REPO, repo))


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Set a variable of the environment for a while."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name)
        os.environ |= {name: before} if before is not None else {}


def one_of(option: str, given: str, allowed: Collection[str]) -> str:
    """Return what was given for an option; raises UsageError with everything that is allowed for anything else."""
    if given not in allowed:
        there = [one for one in allowed if one]
        raise UsageError(f"{option} {given}: there are {', '.join(there[:-1])} and {there[-1]}")
    return given


# -- options that some commands take together -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """Where a command writes, and whether it only shows what it would, or prepares a pull request."""

    repo: Repo = "."
    branch: Branch = "main"
    status_branch: StatusBranch = "fleet-status"
    dry_run: DryRun = False
    to_branch: ToBranch = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Where a command reads."""

    repo: Repo = "."
    branch: Branch = "main"
    status_branch: StatusBranch = "fleet-status"
    offline: Offline = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """Where a command reads that may ask the members too; what is not given, the settings may say."""

    repo: OptionalRepo = None
    branch: OptionalBranch = None
    status_branch: OptionalStatusBranch = None
    offline: Offline = False
    settings_file: SettingsFile = None
    members: MemberFolders = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operating:
    """The operator's settings: their file, and the flags that win over it."""

    repo: OptionalRepo = None
    settings_file: SettingsFile = None
    branch: OptionalBranch = None
    status_branch: OptionalStatusBranch = None
    members: Members = None
    state_dir: StateDir = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving(Operating):
    """What only matters to who rolls out."""

    stage_deadline_seconds: Deadline = None
    removal_grace_period_seconds: Grace = None


def writing(command: Callable[..., T]) -> Callable[..., T]:
    """Give a command an option per field of `Writing`, all of which it gets together as its argument `where`."""
    return _with(command, Writing)


def persistent(command: Callable[..., T]) -> Callable[..., T]:
    """Begin a command again that lost a race for the branch; right for one that means the same whatever has come."""

    @wraps(command)
    def called(**given: Any) -> T:
        for _ in range(_RACES):
            with suppress(RaceLostError):
                return command(**given)
        return command(**given)

    return called


def reading(command: Callable[..., T]) -> Callable[..., T]:
    """Give a command an option per field of `Reading`, all of which it gets together as its argument `where`."""
    return _with(command, Reading)


def asking(command: Callable[..., T]) -> Callable[..., T]:
    """Give a command an option per field of `Asking`, all of which it gets together as its argument `where`."""
    return _with(command, Asking)


def operating(command: Callable[..., T]) -> Callable[..., T]:
    """Give a command an option per field of `Operating`, all of which it gets together as its argument `where`."""
    return _with(command, Operating)


def serving(command: Callable[..., T]) -> Callable[..., T]:
    """Give a command an option per field of `Serving`, all of which it gets together as its argument `where`."""
    return _with(command, Serving)


def _with(command: Callable[..., T], kind: type[Writing | Reading | Asking | Operating]) -> Callable[..., T]:
    hints = get_type_hints(kind, include_extras=True)
    own = [one for one in inspect.signature(command).parameters.values() if one.name != "where"]
    shared = [
        inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=hints[one.name])
        for one in fields(kind)
    ]

    @wraps(command)
    def called(**given: Any) -> T:
        where = kind(**{one.name: given.pop(one.name) for one in shared})
        return command(**given, where=where)

    called.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    called.__annotations__ = {one.name: one.annotation for one in (*own, *shared)}
    return called
