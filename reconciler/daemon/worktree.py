"""The files of a folder as they are on disk, judged as if they were committed on top of what is there."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from reconciler.clock import wall
from reconciler.core.history import History
from reconciler.core.model import FOLDERS, Commit
from reconciler.core.view import FileChange, View
from reconciler.daemon.derive import FILE_LIMIT, Derivation, parsed_change
from reconciler.documents.parse import SUFFIXES, is_manifest
from reconciler.git import history as log
from reconciler.git.history import Change
from reconciler.git.run import discover

_FILE, _LINK = "100644", "120000"


def judge(folder: Path) -> tuple[View, int]:
    """Return the view with the folder's files as the next commit, and how many manifests were read.

    In a git work tree the files are compared with the last versions that counted; elsewhere they stand alone.
    Raises:  GitError for a repository that cannot be read.
    """
    view = History()
    committed: set[str] = set()
    git = discover(folder)[0] if (folder / ".git").exists() else None
    if git is not None and git.test("rev-parse", "--verify", "--quiet", "HEAD^{commit}"):
        head = git.run("rev-parse", "--verify", "--quiet", "HEAD^{commit}").decode().strip()
        derivation = Derivation(git)
        derivation.bring_to(head, {})
        view = derivation.view
        committed = {one.path for one in log.listing(git, head) if one.is_content and is_manifest(one.path)}
    found = {change.path: change for change in _files(folder)}
    gone = [FileChange(path=path, blob="", parsed=None) for path in sorted(committed - set(found))]
    view.advance(_next(view), [*found.values(), *gone])
    return view, len(found)


def others(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the manifests of a folder that are in none of the fleet's folders, hidden ones left out."""
    for where, folders, names in os.walk(folder):
        top = Path(where) == folder
        folders[:] = sorted(one for one in folders if not one.startswith(".") and not (top and one in FOLDERS))
        for name in sorted(names):
            path = Path(where) / name
            if path.suffix.lower() in SUFFIXES and path.is_file() and path.stat().st_size <= FILE_LIMIT:
                yield path.relative_to(folder).as_posix(), path.read_bytes()


def _next(view: View) -> Commit:
    if view.head is not None:
        return replace(view.head, sha="0" * 40, position=view.head.position + 1)
    return Commit(sha="0" * 40, position=0, time=wall(), author="", committer="", message="")


def _files(folder: Path) -> Iterator[FileChange]:
    for top in FOLDERS:
        for path in sorted((folder / top).rglob("*")):
            name = path.relative_to(folder).as_posix()
            if is_manifest(name) and (path.is_symlink() or path.is_file()):
                yield _change(path, name)


def _change(path: Path, name: str) -> FileChange:
    link = path.is_symlink()
    change = Change(path=name, mode=_LINK if link else _FILE, blob=name)
    small = not link and path.stat().st_size <= FILE_LIMIT
    return parsed_change(change, {name: path.read_bytes()} if small else {})
