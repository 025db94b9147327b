"""`reconciler validate`: every problem with file, line and rule, before the merge as after it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.commands import options
from reconciler.redact import text

if TYPE_CHECKING:
    from reconciler.core.model import Problem
    from reconciler.core.view import View


def register(application: typer.Typer) -> None:
    """Add the command."""
    application.command("validate")(validate)


def validate(
    folder: Annotated[Path | None, typer.Argument(help="A folder with a fleet's files, as they are on disk.")] = None,
    repo: options.OptionalRepo = None,
    branch: options.Branch = "main",
    status_branch: options.StatusBranch = "fleet-status",
    offline: options.Offline = False,
    output: Annotated[str, typer.Option("--output", "-o", help="text or json")] = "text",
) -> int:
    """Check the files of a folder (default: here), or with --repo the head of the watched branch."""
    from reconciler.core import codec  # noqa: PLC0415
    from reconciler.daemon.findings import findings  # noqa: PLC0415
    from reconciler.errors import UsageError  # noqa: PLC0415

    options.one_of("-o", output, ("text", "json"))
    if folder is not None and not folder.is_dir():
        raise UsageError(f"{folder} is not a folder")
    if folder is None and repo is not None:
        judged = _of_branch(repo, branch, status_branch, offline=offline)
    else:
        judged = _of_folder(folder or Path(), branch, status_branch)
    problems = findings(judged.view)
    if output == "json":
        typer.echo(json.dumps([codec.encode(one) for one in (*problems, *judged.warnings)], indent=2))
    else:
        for problem in problems:
            typer.echo(text(str(problem)))
    for problem in judged.warnings if output == "text" else ():
        typer.echo(text(f"warning: {problem}"), err=True)
    typer.echo(text(f"{judged.what}: {_verdict(judged, len(problems))}"), err=True)
    return 2 if problems else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """What was checked, and in words what that was; `outside` are the files that count for nothing.

    `early` are the approvals that will not count.
    """

    view: "View"
    what: str
    outside: tuple["Problem", ...]
    early: tuple["Problem", ...]
    count: int

    @property
    def warnings(self) -> tuple["Problem", ...]:
        """What makes nothing invalid, and is not what its author wants."""
        return (*self.early, *self.outside)


def _of_branch(repo: str, branch: str, status_branch: str, *, offline: bool) -> _Judged:
    from reconciler.commands.opening import open_fleet  # noqa: PLC0415
    from reconciler.daemon.derive import others  # noqa: PLC0415
    from reconciler.daemon.findings import outside  # noqa: PLC0415
    from reconciler.daemon.untimely import untimely  # noqa: PLC0415

    fleet = open_fleet(repo, branch, status_branch, offline=offline)
    view = fleet.derivation.view
    head = view.head.sha if view.head is not None else ""
    found = tuple(outside(others(fleet.source.git, head)))
    early = tuple(untimely(view, fleet.status.runs if fleet.status is not None else ()))
    return _Judged(view=view, what=f"{branch} at {head[:7]}", outside=found, early=early, count=_objects(view))


def _objects(view: "View") -> int:
    return sum(len(found) for found in view.objects.values()) + len(view.resources) + len(view.broken)


def _of_folder(folder: Path, branch: str, status_branch: str) -> _Judged:
    """Judge what is on disk; raises UsageError for a folder that holds none of a fleet's folders.

    What runs wait for is known as far as the clone has the status branch; nothing is fetched.
    """
    from reconciler.commands.opening import recorded_in  # noqa: PLC0415
    from reconciler.core.model import FOLDERS  # noqa: PLC0415
    from reconciler.daemon.findings import outside  # noqa: PLC0415
    from reconciler.daemon.untimely import untimely  # noqa: PLC0415
    from reconciler.daemon.worktree import judge, others  # noqa: PLC0415
    from reconciler.errors import UsageError  # noqa: PLC0415

    found = tuple(outside(others(folder)))
    if not any((folder / one).is_dir() for one in FOLDERS):
        for problem in found:
            typer.echo(text(f"warning: {problem}"), err=True)
        raise UsageError(
            f"{folder.resolve()} is no fleet repository: it has none of the folders {', '.join(FOLDERS)}; "
            "nothing was checked"
        )
    view, count = judge(folder)
    has_history = view.head is not None and view.head.position > 0  # else nothing is older than anything
    recorded = recorded_in(folder, branch, status_branch) if has_history and any(view.approvals()) else ()
    early = tuple(untimely(view, recorded, aside=True)) if has_history else ()
    return _Judged(
        view=view, what=f"{count} files" if count != 1 else "1 file", outside=found, early=early, count=count
    )


def _verdict(judged: _Judged, problems: int) -> str:
    """Return how it stands, in words: what was not checked is never called valid."""
    outside = f"; {len(judged.outside)} outside the folders, not checked" if judged.outside else ""
    if problems:
        return f"{problems} problem(s){outside}"
    return ("valid" if judged.count else "nothing to check") + outside
