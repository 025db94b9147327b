"""`reconciler validate`: every problem with file, line and rule, before the merge as after it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.commands import options

if TYPE_CHECKING:
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
    import json  # noqa: PLC0415

    from reconciler.commands.opening import open_fleet  # noqa: PLC0415
    from reconciler.core import codec  # noqa: PLC0415
    from reconciler.daemon.findings import findings  # noqa: PLC0415
    from reconciler.daemon.worktree import judge  # noqa: PLC0415
    from reconciler.errors import UsageError  # noqa: PLC0415
    from reconciler.redact import text  # noqa: PLC0415

    options.one_of("-o", output, ("text", "json"))
    if folder is not None and not folder.is_dir():
        raise UsageError(f"{folder} is not a folder")
    if folder is None and repo is not None:
        view: View = open_fleet(repo, branch, status_branch, offline=offline).derivation.view
        what = f"{branch} at {view.head.sha[:7]}" if view.head else branch
    else:
        view, count = judge(folder or Path())
        what = f"{count} manifests"
    problems = findings(view)
    if output == "json":
        typer.echo(json.dumps([codec.encode(one) for one in problems], indent=2))
    else:
        for problem in problems:
            typer.echo(text(str(problem)))
    typer.echo(text(f"{what}: {len(problems)} problem(s)" if problems else f"{what}: valid"), err=True)
    return 2 if problems else 0
