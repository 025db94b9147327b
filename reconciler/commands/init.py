"""`reconciler init`: make the status branch, and the folders where the repository is empty."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.commands import options

if TYPE_CHECKING:
    from reconciler.git.mirror import Source
    from reconciler.settings import Settings
    from reconciler.status_branch.store import Fleet


def register(application: typer.Typer) -> None:
    """Add the command."""
    application.command("init")(init)


@options.operating
def init(
    where: options.Operating,
    start_existing: Annotated[
        bool, typer.Option("--start-existing", help="Start the runs that are already there.")
    ] = False,
    re_anchor: Annotated[
        bool, typer.Option("--re-anchor", help="Create a lost status branch anew, one epoch later.")
    ] = False,
    repository_id: Annotated[
        str, typer.Option("--repository-id", help="With --re-anchor: the id, where no earlier status is known.")
    ] = "",
) -> None:
    """Create the status branch; runs that are already in the repository are never started."""
    from reconciler.commands.opening import open_settings  # noqa: PLC0415
    from reconciler.errors import UsageError  # noqa: PLC0415
    from reconciler.git.mirror import open_source  # noqa: PLC0415
    from reconciler.redact import text  # noqa: PLC0415

    if repository_id and not re_anchor:
        raise UsageError("--repository-id goes with --re-anchor: otherwise init makes a new id")
    file = where.settings_file
    settings = open_settings(where if where.repo or file else replace(where, repo="."))
    source = open_source(settings.repo, (settings.branch, settings.status_branch))
    if not re_anchor and source.tip(settings.status_branch) is not None:
        typer.echo(text(_known(source, settings)))
        return
    head = source.tip(settings.branch) or _laid_out(source, settings)
    if re_anchor:
        fleet = _anchored_again(settings, source, head, repository_id, start_existing=start_existing)
    else:
        fleet = _anchored(settings, source, head, start_existing=start_existing)
    epoch = f", epoch {fleet.epoch}" if re_anchor else ""
    typer.echo(f"created branch {settings.status_branch} for repository {fleet.repository}{epoch}, watching {head[:7]}")
    how = f"--settings {file}" if file is not None else f"--repo {settings.repo} --members DIR"
    typer.echo(text(f"next: reconciler serve {how}"))


def _anchored(settings: "Settings", source: "Source", head: str, *, start_existing: bool) -> "Fleet":
    """Create the status branch where there never was one."""
    from reconciler.clock import wall  # noqa: PLC0415
    from reconciler.daemon import anchor  # noqa: PLC0415

    _refuse_a_second(settings, source, head)
    branches = settings.branch, settings.status_branch
    return anchor.make(source, *branches, head, wall(), start_existing=start_existing)


def _refuse_a_second(settings: "Settings", source: "Source", head: str) -> None:
    """Raise RefusedError where a member that can be asked holds an inventory: its rollout had a status branch."""
    from reconciler.daemon import anchor  # noqa: PLC0415
    from reconciler.errors import RefusedError  # noqa: PLC0415

    used = anchor.used_members(settings, source, head, silent_too=False)
    if used:
        raise RefusedError(
            f"branch {settings.status_branch} is not there, but a rollout was: {'; '.join(used)}. Restore the branch, "
            "or make it anew with `reconciler init --re-anchor`"
        )


def _laid_out(source: "Source", settings: "Settings") -> str:
    """Commit the folders to an empty repository; return the commit."""
    from reconciler.commands.writing import lay_out  # noqa: PLC0415

    head = lay_out(source, settings.branch)
    typer.echo(f"created branch {settings.branch} with the folders of a fleet repository ({head[:7]})")
    return head


def _anchored_again(
    settings: "Settings", source: "Source", head: str, repository: str, *, start_existing: bool
) -> "Fleet":
    """Create the status branch anew; say which members could not be asked for their epoch."""
    from reconciler.clock import wall  # noqa: PLC0415
    from reconciler.commands import present  # noqa: PLC0415
    from reconciler.daemon import anchor  # noqa: PLC0415

    found = anchor.re_anchor(settings, source, head, wall(), repository=repository, start_existing=start_existing)
    for why in found.unseen:
        present.warn(f"warning: {why}; should it hold a later epoch, it is held when a run comes to it")
    return found.fleet


def _known(source: "Source", settings: "Settings") -> str:
    """Say that the status branch is there already; raises RefusedError when it is not for this watched branch."""
    from reconciler.errors import RefusedError  # noqa: PLC0415
    from reconciler.status_branch import reader  # noqa: PLC0415

    name = settings.status_branch
    try:
        fleet = reader.read(source.git, str(source.tip(name))).fleet
    except reader.StatusUnreadableError as error:
        raise RefusedError(f"{error}; name another one with --status-branch") from error
    if fleet.branch != settings.branch:
        raise RefusedError(
            f"branch {name} exists already, and is the status of branch {fleet.branch}, not of {settings.branch}: "
            "name another one with --status-branch"
        )
    return f"branch {name} exists already, for repository {fleet.repository}: nothing to do"
