"""Commands that write make one commit: shown, pushed to the watched branch, or to a new one for a pull request."""

from dataclasses import replace

import typer

from reconciler.commands import options
from reconciler.commands.holds import warn_of_holds
from reconciler.commands.opening import Fleet, open_fleet
from reconciler.daemon.anchor import scaffold
from reconciler.documents.parse import parse
from reconciler.errors import RaceLostError, RefusedError, TemporaryError, UsageError
from reconciler.git import publish
from reconciler.git.mirror import Source
from reconciler.git.run import PERSON, Git, GitError
from reconciler.redact import text
from reconciler.status_branch import store


def open_to_write(where: options.Writing) -> Fleet:
    """Open the repository that a command writes to, and say what is held there; raises as `open_fleet`."""
    fleet = open_fleet(where.repo, where.branch, where.status_branch)
    warn_of_holds(fleet)
    return fleet


def check_file(path: str, data: bytes) -> None:
    """Refuse to commit a run that would not count; raises UsageError with the field and the rule."""
    problems = parse(path, data).problems
    if problems:
        raise UsageError(f"that is no valid run: {problems[0].message} (at {problems[0].pointer})")


def status_of(fleet: Fleet, so: str) -> store.Status:
    """Return the status; raises RefusedError where nothing keeps one, saying `so` what follows from that."""
    if fleet.status is None:
        branch = fleet.status_branch
        why = "is lost: restore it" if fleet.lost else "is not there: make it with `reconciler init`"
        raise RefusedError(f"branch {branch} {why}; until then {so}")
    return fleet.status


def commit(
    fleet: Fleet, changes: dict[str, bytes | None], message: str, *, dry_run: bool, to_branch: str | None
) -> None:
    """Commit the changes as the person, on top of the watched branch, and say what to do next.

    Raises:  RefusedError when the new branch exists, UsageError when git does not know the person, RaceLostError when
    somebody else's push was faster, TemporaryError when the push did not get through.
    """
    if dry_run:
        _show(changes, message)
        return
    if to_branch is not None:
        _check_new(fleet, to_branch)
    check_identity(fleet.source.git)
    base = fleet.source.tip(fleet.branch)
    new = publish.write_person_commit(fleet.source.git, base=base, changes=changes, message=message)
    branch = to_branch or fleet.branch
    if not _pushed(fleet, branch, new, None if to_branch else base):
        raise RaceLostError(f"somebody pushed to {branch} at the same moment: run the command again")
    paths = ", ".join(changes) or "no file"
    typer.echo(text(f"committed {new[:7]} to {branch}: {paths}"))
    if to_branch:
        typer.echo(text(f"next: open a pull request from {to_branch} to {fleet.branch}"))
    else:
        typer.echo("next, in your clone: git pull --rebase")


def _show(changes: dict[str, bytes | None], message: str) -> None:
    if not changes:
        typer.echo(text(message.rstrip()))
    for path, data in changes.items():
        typer.echo(text(f"# {path}"))
        typer.echo(text(data.decode()) if data is not None else "# removed", nl=data is None)


def _check_new(fleet: Fleet, branch: str) -> None:
    if branch in (fleet.branch, fleet.status_branch):
        raise UsageError(f"--to-branch {branch}: that is no branch to open a pull request from; name a new one")
    if publish.is_there(fleet.source, branch):
        raise _taken(branch)


def _taken(branch: str) -> RefusedError:
    return RefusedError(
        f"branch {branch} exists already: choose another name, or delete it first: git push origin --delete {branch}"
    )


def _pushed(fleet: Fleet, branch: str, new: str, base: str | None) -> bool:
    try:
        return publish.push(fleet.source, branch, new, base)
    except GitError:
        if base is None and publish.is_there(fleet.source, branch):  # somebody made it in this very moment
            raise _taken(branch) from None
        raise


def check_identity(git: Git) -> None:
    """Make sure that git knows in whose name to commit; raises UsageError saying what to do."""
    for ident in ("GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"):
        try:
            git.run("var", ident)
        except GitError as error:
            raise UsageError(
                'git does not know who you are: git config --global user.name "YOUR NAME"; git config --global '
                "user.email YOU@EXAMPLE.ORG (or set GIT_AUTHOR_NAME, GIT_AUTHOR_EMAIL, GIT_COMMITTER_NAME and "
                "GIT_COMMITTER_EMAIL), then run the command again"
            ) from error


def lay_out(source: Source, branch: str) -> str:
    """Commit the folders of a fleet to an empty repository, in the person's name, and return the commit.

    Raises:  UsageError when git does not know the person, TemporaryError when somebody else was first.
    """
    git = replace(source.git, profile=PERSON)
    check_identity(git)
    message = "Lay out the fleet repository\n\nOne folder per kind of thing, so that its owners can be named.\n"
    head = publish.write_person_commit(git, base=None, changes=scaffold(), message=message)
    if not publish.push(source, branch, head, None):
        raise TemporaryError(f"branch {branch} appeared while it was being made: run the command again")
    return head
