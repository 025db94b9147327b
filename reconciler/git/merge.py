"""What git makes of a merge, before anybody merges: a commit of files on disk, and the tree of two commits.

Nothing of it stays: the objects that are made go to a folder of their own, which is removed at the end.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from reconciler.errors import UsageError
from reconciler.git.run import Git, GitError, check_sha

_LONG = 600.0  # seconds for one look at all of a large work tree, or one merge
_USAGE = 129  # what git ends with when it does not know an option
_NOBODY = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "nobody"), ("EMAIL", "nobody@localhost"), ("DATE", "@0 +0000"))
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """The tree that a merge gives, and the paths that a person has to look at first; empty: it is clean."""

    tree: str
    conflicts: tuple[str, ...] = ()


@contextmanager
def aside(git: Git) -> Iterator[Git]:
    """Give a git of the same repository that leaves nothing in it: what it makes is gone afterwards."""
    held = git.run("rev-parse", "--path-format=absolute", "--git-path", "objects")
    with tempfile.TemporaryDirectory(prefix="reconciler-") as folder:
        yield replace(git, objects=(Path(folder), Path(os.fsdecode(held.removesuffix(b"\n")))))


def merge(git: Git, ours: str, theirs: str) -> Merged:
    """Merge two commits, as a forge does it, without a work tree.

    Raises:  UsageError for a git that is older than 2.38; GitError, also for histories that have nothing in common.
    """
    options = ("--write-tree", "-z", "--name-only", "--no-messages")
    try:
        answer = git.run("merge-tree", *options, check_sha(ours), check_sha(theirs), timeout=_LONG)
    except GitError as error:
        if error.status == _USAGE:
            version = git.run("version").decode(errors="replace").strip()
            raise UsageError(f"{version} cannot tell what a merge gives: 2.38 or newer can") from error
        if error.status != 1:
            raise
        answer = error.stdout
    tree, *paths = [one.decode(errors="surrogateescape") for one in answer.split(b"\0") if one]
    return Merged(tree=check_sha(tree), conflicts=tuple(dict.fromkeys(paths)))


def commit_of(git: Git, base: str, root: Path, paths: Iterable[str]) -> str:
    """Return a commit on top of `base` with files as they are below a work tree's root; `base` where nothing changed.

    Shape:   `paths` are relative to the root; what is not there is removed. Line ends and filters are git's matter.
    """
    index = {"GIT_INDEX_FILE": str(_scratch(git) / "index"), "GIT_WORK_TREE": str(root)}
    unsplit = ("-c", "core.splitIndex=false", "-c", "core.autocrlf=input")  # line ends of another system are no change
    git.run(*unsplit, "read-tree", check_sha(base), environment=index)
    names = b"".join(os.fsencode(path) + b"\0" for path in paths)
    options = ("--add", "--remove", "--replace", "-z", "--stdin")
    git.run(*unsplit, "update-index", *options, stdin=names, timeout=_LONG, environment=index)
    tree = git.run(*unsplit, "write-tree", environment=index).decode("ascii").strip()
    if tree == git.run("rev-parse", f"{check_sha(base)}^{{tree}}").decode("ascii").strip():
        return base
    made = git.run("commit-tree", "-p", base, "-m", "What is here", tree, environment=_NOBODY)
    return made.decode("ascii").strip()


def _scratch(git: Git) -> Path:
    assert git.objects is not None, "a commit is made aside"
    return git.objects[0]
