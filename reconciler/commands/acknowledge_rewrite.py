"""`reconciler acknowledge-rewrite`: accept that the watched branch's history was rewritten."""

import typer

from reconciler.commands import options


def register(application: typer.Typer) -> None:
    """Add the command."""
    application.command("acknowledge-rewrite")(acknowledge_rewrite)


@options.writing
def acknowledge_rewrite(where: options.Writing) -> None:
    """Commit the acknowledgement of a rewritten history: the new head is taken to follow the last recorded one."""
    from reconciler.commands.writing import commit, open_to_write, status_of  # noqa: PLC0415
    from reconciler.daemon.rewrites import TRAILER, acknowledgement  # noqa: PLC0415
    from reconciler.errors import RefusedError  # noqa: PLC0415
    from reconciler.git import history  # noqa: PLC0415
    from reconciler.redact import text  # noqa: PLC0415

    fleet = open_to_write(where)
    head = fleet.derivation.view.head.sha if fleet.derivation.view.head is not None else ""
    old = status_of(fleet, "no head is recorded that could have been lost").observed
    if history.is_ancestor(fleet.source.git, old, head):
        raise RefusedError(f"the history was not rewritten: {head[:7]} contains the recorded head {old[:7]}")
    known = acknowledgement(fleet.source.git, old, head)
    if known is not None:
        typer.echo(text(f"{known[:7]} is acknowledged already to follow {old[:7]}: nothing to do"))
        return
    message = (
        f"Accept the rewritten history of {where.branch}\n\n"
        f"The recorded head {old[:7]} is gone; {head[:7]} takes its place.\n\n{TRAILER}: {old} {head}\n"
    )
    commit(fleet, {}, message, dry_run=where.dry_run, to_branch=where.to_branch)
