"""`reconciler acknowledge-rewrite`: accept that the watched branch's history was rewritten."""

import typer

from reconciler.commands import options


def register(application: typer.Typer) -> None:
    """Add the command."""
    application.command("acknowledge-rewrite")(acknowledge_rewrite)


def acknowledge_rewrite(
    repo: options.Repo = ".",
    branch: options.Branch = "main",
    status_branch: options.StatusBranch = "fleet-status",
    dry_run: options.DryRun = False,
    to_branch: options.ToBranch = None,
) -> None:
    """Commit the acknowledgement of a rewritten history: the new head is taken to follow the last recorded one."""
    from reconciler.commands.opening import open_fleet  # noqa: PLC0415
    from reconciler.commands.writing import commit  # noqa: PLC0415
    from reconciler.errors import RefusedError  # noqa: PLC0415
    from reconciler.git import history  # noqa: PLC0415

    fleet = open_fleet(repo, branch, status_branch)
    head = fleet.source.tip(branch)
    if fleet.status is None or head is None:
        raise RefusedError(f"there is no branch {status_branch}, so no head was recorded: reconciler init")
    old = fleet.status.observed
    if history.is_ancestor(fleet.source.git, old, head):
        raise RefusedError(f"the history was not rewritten: {head[:7]} contains the recorded head {old[:7]}")
    message = (
        f"Accept the rewritten history of {branch}\n\n"
        f"The recorded head {old[:7]} is gone; {head[:7]} takes its place.\n\nAcknowledge-Rewrite: {old} {head}\n"
    )
    commit(fleet, {}, message, dry_run=dry_run, to_branch=to_branch)
