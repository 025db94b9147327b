"""Commands that write make one commit: shown, pushed to the watched branch, or to a new one for a pull request."""

import typer

from reconciler.commands.opening import Fleet
from reconciler.errors import RefusedError, TemporaryError
from reconciler.git import publish
from reconciler.redact import text


def commit(
    fleet: Fleet, changes: dict[str, bytes | None], message: str, *, dry_run: bool, to_branch: str | None
) -> None:
    """Commit the changes as the person, on top of the watched branch, and say what to do next.

    Raises:  RefusedError when the new branch exists, TemporaryError when the push lost a race or did not get through.
    """
    if dry_run:
        if not changes:
            typer.echo(text(message.rstrip()))
        for path, data in changes.items():
            typer.echo(f"# {path}")
            typer.echo(text(data.decode()) if data is not None else "# removed", nl=data is None)
        return
    base = fleet.source.tip(fleet.branch)
    new = publish.write_person_commit(fleet.source.git, base=base, changes=changes, message=message)
    branch = to_branch or fleet.branch
    if not publish.push(fleet.source, branch, new, None if to_branch else base):
        if to_branch:
            raise RefusedError(f"branch {to_branch} exists already: choose another name")
        raise TemporaryError(f"somebody pushed to {branch} at the same moment: run the command again")
    paths = ", ".join(changes) or "no file"
    typer.echo(text(f"committed {new[:7]} to {branch}: {paths}"))
    if to_branch:
        typer.echo(text(f"next: open a pull request from {to_branch} to {fleet.branch}"))
    else:
        typer.echo("next, in your clone: git pull --rebase")
