"""`reconciler plan`: what runs would do after a merge, before it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reconciler.commands import options

if TYPE_CHECKING:
    from reconciler.commands.holds import FleetHeldError, Hold
    from reconciler.commands.opening import Fleet
    from reconciler.commands.planning import Change, Foreseen, Read
    from reconciler.core.model import Body
    from reconciler.core.view import FileChange, View
    from reconciler.daemon.proposal import ConflictError
    from reconciler.git.run import Git
    from reconciler.status_branch.store import Status

_OUTPUTS = ("text", "json", "yaml")
_WORK_TREE = "the work tree"


def register(application: typer.Typer) -> None:
    """Add the command."""
    application.command("plan")(plan)


@options.reading
def plan(
    where: options.Reading,
    runs: Annotated[list[str] | None, typer.Argument(help="Only these runs.")] = None,
    ref: Annotated[str, typer.Option("--ref", help="A branch (or commit) to be merged, instead of the files.")] = "",
    namespace: options.Namespace = "",
    output: Annotated[str, typer.Option("--output", "-o", help="text, json or yaml.")] = "text",
) -> int:
    """Tell what every run would do that is not started yet, as if the files on disk (or --ref) were merged now.

    Exit code 0: all would go on; 2: a file of the change does not count, or the merge conflicts;
    4: a run would be refused.
    """
    from reconciler.clock import wall  # noqa: PLC0415
    from reconciler.commands import OK, REFUSED, USAGE  # noqa: PLC0415
    from reconciler.commands.holds import FleetHeldError  # noqa: PLC0415
    from reconciler.commands.planning import Change, broken_by, foresee, partings, untimely_in  # noqa: PLC0415
    from reconciler.daemon.proposal import ConflictError  # noqa: PLC0415
    from reconciler.errors import UsageError  # noqa: PLC0415

    if output not in _OUTPUTS:
        raise UsageError(f"-o {output}: there are text, json and yaml")
    try:
        on = _open(where, ref)
    except (ConflictError, FleetHeldError) as error:
        if output != "text":
            _say_data(_why_nothing(error, ref), output)
        raise
    found = foresee(on.view, on.read, on.status, {one.subject: str(one) for one in on.holds}, wall())
    found = _chosen(found, on.view, runs or (), namespace)
    change = Change(
        problems=broken_by(on.view, on.paths),
        warnings=untimely_in(on.view, on.status, on.paths),
        leaving=() if runs else partings(on.view, on.read, on.status, wall()),
        runs=found,
        holds=on.holds,
    )
    _show(on, change, output)
    if change.problems:
        return USAGE
    return REFUSED if any(one.is_refused for one in found) else OK


@dataclass(frozen=True, slots=True, kw_only=True)
class _Where:
    """The view with the change in it; what was brought in (None: nothing), on top of which head."""

    view: "View"
    read: "Read"
    status: "Status | None"
    paths: tuple[str, ...]
    title: str
    merged: str | None = None
    base: str = ""
    holds: "tuple[Hold, ...]" = ()


def _open(where: options.Reading, ref: str) -> _Where:
    """Bring what is to be merged onto the watched branch; a folder that is no repository stands alone."""
    from reconciler.commands.holds import refuse_held, warn_of_holds  # noqa: PLC0415
    from reconciler.commands.reading import open_reading  # noqa: PLC0415
    from reconciler.daemon.proposal import bring, messages  # noqa: PLC0415

    if not ref and _is_plain_folder(Path(where.repo)):
        return _alone(Path(where.repo))
    fleet = open_reading(where, tell_holds=False)
    refuse_held(fleet, "nothing can be foreseen")
    told = warn_of_holds(fleet)
    view, git = fleet.derivation.view, fleet.source.git
    head, merged = _head(fleet), _merged(fleet, ref)
    tip = _tip(fleet, where, ref) if ref else None
    changes = _changes(git, head, tip, ref, where.branch)
    if changes:
        bring(fleet.derivation.view, changes)
        fleet.derivation.judge_proposed(messages(git, head, tip))
    return _Where(
        view=view,
        read=fleet.derivation.content,
        status=fleet.status,
        paths=tuple(one.path for one in changes),
        title=f"{merged} on top of {where.branch} {head[:7]}" if merged else f"{where.branch} at {head[:7]}",
        merged=merged,
        base=head,
        holds=told,
    )


def _why_nothing(error: "ConflictError | FleetHeldError", ref: str) -> dict[str, Any]:
    """Return as data why nothing can be foreseen."""
    from reconciler.commands.foretelling import conflict_data, held_data  # noqa: PLC0415
    from reconciler.daemon.proposal import ConflictError  # noqa: PLC0415

    if isinstance(error, ConflictError):
        return conflict_data(ref or _WORK_TREE, error)
    return held_data(_merged(error.fleet, ref), _head(error.fleet), error)


def _merged(fleet: "Fleet", ref: str) -> str | None:
    """Return what is brought in, by name; None where there are no files that could be."""
    return ref or (_WORK_TREE if fleet.source.git.where is not None else None)


def _head(fleet: "Fleet") -> str:
    assert fleet.derivation.view.head is not None
    return fleet.derivation.view.head.sha


def _changes(git: "Git", head: str, tip: str | None, ref: str, branch: str) -> "tuple[FileChange, ...]":
    """Return what the merge would change; raises ConflictError where it would be left to a person."""
    from reconciler.daemon.proposal import ConflictError, of_commit, of_files  # noqa: PLC0415

    try:
        if tip is not None:
            return of_commit(git, head, tip)
        return of_files(git, head, git.where) if git.where is not None else ()
    except ConflictError as error:
        what, first = (ref, "rebase it first") if ref else ("what is here", f"git pull --rebase origin {branch}")
        raise ConflictError(head, error.paths, f"{what} conflicts with {branch} in {error}: {first}") from error


def _is_plain_folder(folder: Path) -> bool:
    """Tell whether a folder holds a fleet's files, and is not the top of a repository."""
    from reconciler.core.model import FOLDERS  # noqa: PLC0415

    return not (folder / ".git").exists() and any((folder / name).is_dir() for name in FOLDERS)


def _alone(folder: Path) -> _Where:
    from reconciler.daemon.worktree import judge  # noqa: PLC0415
    from reconciler.errors import PermanentError  # noqa: PLC0415

    def read(_: str, index: int) -> "tuple[Body, ...]":
        raise PermanentError(f"snapshot {index} is in no repository")

    view, count = judge(folder)
    title = f"{count} manifests, in no repository"
    return _Where(view=view, read=read, status=None, paths=tuple(view.broken), title=title)


def _tip(fleet: "Fleet", where: options.Reading, ref: str) -> str:
    """Return the commit that a name means: as git reads it here, else the branch of the remote."""
    from reconciler.errors import UsageError  # noqa: PLC0415
    from reconciler.git.mirror import open_source  # noqa: PLC0415
    from reconciler.git.run import GitError, check_branch  # noqa: PLC0415

    if ref.startswith("-"):
        raise UsageError(f"--ref {ref} is no name of a branch or commit")
    try:
        return fleet.source.git.run("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}").decode("ascii").strip()
    except GitError:
        tip = open_source(where.repo, (check_branch(ref), fleet.branch), offline=where.offline).tip(ref)
    if tip is None:
        raise UsageError(f"there is no branch or commit {ref}")
    return tip


def _chosen(
    found: "tuple[Foreseen, ...]", view: "View", names: "list[str] | tuple[()]", namespace: str
) -> "tuple[Foreseen, ...]":
    """Return the runs that were asked for; say which of them have started, so that there is nothing to foresee.

    Raises:  UsageError for a name that no run has.
    """
    from reconciler.commands.present import warn  # noqa: PLC0415
    from reconciler.errors import UsageError  # noqa: PLC0415

    chosen = [one for one in found if not namespace or one.run.key.namespace == namespace]
    there = {one.key.name for one in view.runs() if not namespace or one.key.namespace == namespace}
    for name in names:
        if name not in there:
            raise UsageError(f"there is no run {name}" + (f" in namespace {namespace}" if namespace else ""))
        if all(one.run.key.name != name for one in chosen):
            warn(f"run {name} has started or ended already: reconciler tree {name}")
    return tuple(one for one in chosen if not names or one.run.key.name in names)


def _show(where: _Where, change: "Change", output: str) -> None:
    from reconciler.commands.foretelling import data_of, lines_of  # noqa: PLC0415
    from reconciler.commands.present import say  # noqa: PLC0415

    if output == "text":
        say(*lines_of(where.title, change))
    else:
        _say_data(data_of(where.merged, where.base, change), output)


def _say_data(data: dict[str, Any], output: str) -> None:
    import json  # noqa: PLC0415

    from reconciler.commands.present import say  # noqa: PLC0415
    from reconciler.documents import yaml  # noqa: PLC0415

    say(json.dumps(data, indent=2, ensure_ascii=False) if output == "json" else yaml.dump(data).removesuffix("\n"))
