"""What the watched branch would be after a merge: files on disk, or a branch, brought onto its head as one commit.

What a merge gives is git's to say, as it is a forge's: nothing is joined here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from reconciler.core.history import History
from reconciler.core.model import FOLDERS, Commit
from reconciler.core.view import FileChange
from reconciler.daemon.derive import FILE_LIMIT, parsed_change
from reconciler.documents.parse import is_manifest
from reconciler.errors import UsageError
from reconciler.git import history as log
from reconciler.git import merge
from reconciler.git.history import Change
from reconciler.git.run import Git, GitError

NOT_YET = "0" * 40
"""Stands for the id of the commit that the merge will make."""


class ConflictError(UsageError):
    """A merge onto the commit `base` would need a person, in the files `paths`; the text are these unless given."""

    def __init__(self, base: str, paths: Sequence[str], text: str = "") -> None:
        super().__init__(text or ", ".join(paths))
        self.base, self.paths = base, tuple(paths)


def of_commit(git: Git, head: str, tip: str) -> tuple[FileChange, ...]:
    """Return what merging the commit `tip` would change on `head`.

    Raises:  UsageError for histories without a common commit, ConflictError for a merge that git leaves to a person;
             GitError.
    """
    with merge.aside(git) as here:
        return _merged(here, head, tip)


def of_files(git: Git, head: str, root: Path) -> tuple[FileChange, ...]:
    """Return what committing the files below a work tree's root, and merging that, would change on `head`.

    Raises:  as `of_commit`.
    """
    with merge.aside(git) as here:
        base = _here(git) or head
        tracked = (one.path for one in log.listing(git, base) if is_manifest(one.path))
        tip = merge.commit_of(here, base, root, sorted({*tracked, *_manifests(root)}))
        return _merged(here, head, tip)


def _merged(git: Git, head: str, tip: str) -> tuple[FileChange, ...]:
    base = _base(git, head, tip)
    done = {head: tip, tip: head}.get(base)  # what needs no merge
    found = merge.merge(git, head, tip) if done is None else merge.Merged(tree=done)
    if found.conflicts:
        raise ConflictError(head, found.conflicts)
    changes = [one for one in log.diff(git, head, found.tree) if _matters(one)]
    wanted = [one.blob for one in changes if one.blob and one.is_content and is_manifest(one.path)]
    blobs = log.read_blobs(git, wanted, limit=FILE_LIMIT)
    return tuple(parsed_change(one, blobs) for one in changes)


def bring(view: History, changes: Iterable[FileChange]) -> None:
    """Bring a view to the commit that the merge would make: the next one, by nobody yet, at the time of the last."""
    assert view.head is not None
    commit = Commit(
        sha=NOT_YET, position=view.head.position + 1, time=view.head.time, author="", committer="", message=""
    )
    view.advance(commit, changes)


def messages(git: Git, head: str, tip: str | None = None) -> tuple[str, ...]:
    """Return the messages of the commits that merging `tip` (None: what is checked out here) would bring to `head`."""
    tip = tip or _here(git)
    if tip is None or tip == head:
        return ()
    base = _base(git, head, tip)
    commit = next((one for one, _ in log.log(git, tip, base)), None)
    return tuple(one.message for one in log.brought(git, replace(commit, sha=tip), base)) if commit is not None else ()


def _matters(change: Change) -> bool:
    """Tell whether a change is one of a manifest, or puts something else where manifests belong."""
    return is_manifest(change.path) or (not change.is_content and change.path.split("/", 1)[0] in FOLDERS)


def _here(git: Git) -> str | None:
    try:
        return git.run("rev-parse", "--verify", "--quiet", "HEAD^{commit}").decode("ascii").strip()
    except GitError:  # nothing is committed here yet
        return None


def _base(git: Git, head: str, tip: str) -> str:
    """Return the newest commit that both have."""
    try:
        return git.run("merge-base", head, tip).decode("ascii").split()[0]
    except GitError as error:
        if error.status != 1:
            raise
        raise UsageError(f"{tip[:7]} and {head[:7]} have no commit in common: this is another repository") from error


def _manifests(root: Path) -> Iterable[str]:
    for top in FOLDERS:
        for path in (root / top).rglob("*"):
            name = path.relative_to(root).as_posix()
            if is_manifest(name) and (path.is_symlink() or path.is_file()):
                yield name
