"""What the watched branch would be after a merge: files on disk, or a branch, brought onto its head as one commit.

As a forge merges: what changed since the two parted goes on top of what the watched branch holds now. Only a file that
both changed is left to a person, as its merged text is not known.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from reconciler.core.history import History
from reconciler.core.model import FOLDERS, Commit
from reconciler.core.view import FileChange
from reconciler.daemon.derive import FILE_LIMIT, parsed_change
from reconciler.documents.parse import is_manifest
from reconciler.errors import UsageError
from reconciler.git import history as log
from reconciler.git.history import Change
from reconciler.git.run import Git, GitError

NOT_YET = "0" * 40
"""Stands for the id of the commit that the merge will make."""

_FILE, _LINK = "100644", "120000"


def of_commit(git: Git, head: str, tip: str) -> tuple[FileChange, ...]:
    """Return what merging the commit `tip` would change on `head`.

    Raises:  UsageError for histories without a common commit, or a file that both changed; GitError.
    """
    base = _base(git, head, tip)
    changes = [one for one in log.diff(git, base, tip) if _matters(one)]
    wanted = [one.blob for one in changes if one.blob and one.is_content and is_manifest(one.path)]
    blobs = log.read_blobs(git, wanted, limit=FILE_LIMIT)
    return _on_top(git, base, head, {one.path: (one, blobs) for one in changes})


def of_files(git: Git, head: str, root: Path) -> tuple[FileChange, ...]:
    """Return what committing the files below a work tree's root, and merging that, would change on `head`.

    Raises:  as `of_commit`.
    """
    base = _base(git, head, _here(git) or head)
    before = {one.path: one for one in log.listing(git, base) if is_manifest(one.path) and one.blob}
    held = log.read_blobs(git, [one.blob or "" for one in before.values() if one.mode != "160000"], limit=FILE_LIMIT)
    there = {path.relative_to(root).as_posix(): path for path in _manifests(root)}
    found: dict[str, tuple[Change, Mapping[str, bytes]]] = {}
    for name, path in there.items():
        old, data = before.get(name), _read(path)
        if old is None or data is None or _lines(held.get(old.blob or "")) != _lines(data):
            mode = _LINK if path.is_symlink() else _FILE
            blobs = {name: data} if data is not None else {}
            found[name] = Change(path=name, mode=mode, blob=name), blobs
    for name in set(before) - set(there):
        found[name] = Change(path=name, mode=before[name].mode, blob=None), {}
    return _on_top(git, base, head, found)


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


def _on_top(
    git: Git, base: str, head: str, changes: Mapping[str, tuple[Change, Mapping[str, bytes]]]
) -> tuple[FileChange, ...]:
    """Return the changes as they come on top of the head, without those that it holds already."""
    since = {one.path: one for one in log.diff(git, base, head)} if base != head else {}
    contents = log.read_blobs(git, [one.blob for one in since.values() if one.blob and one.is_content])
    found = []
    for path, (change, blobs) in sorted(changes.items()):
        other = since.get(path)
        if other is None:
            found.append(parsed_change(change, blobs))
        elif _content(change, blobs) != _content(other, contents):
            raise UsageError(f"{path} was changed on the watched branch too: bring that in first (git pull --rebase)")
    return tuple(found)


def _content(change: Change, blobs: Mapping[str, bytes]) -> tuple[bool, bytes | None]:
    return change.blob is None, _lines(blobs.get(change.blob or ""))


def _manifests(root: Path) -> Iterable[Path]:
    for top in FOLDERS:
        for path in sorted((root / top).rglob("*")):
            if is_manifest(path.relative_to(root).as_posix()) and (path.is_symlink() or path.is_file()):
                yield path


def _read(path: Path) -> bytes | None:
    """Return what git would keep of a file; None for one that is too large to be read."""
    if path.is_symlink():
        return os.fsencode(path.readlink())
    return path.read_bytes() if path.stat().st_size <= FILE_LIMIT else None


def _lines(data: bytes | None) -> bytes | None:
    """Return the text without the line ends of another system, which git may have put there."""
    return data.replace(b"\r\n", b"\n") if data is not None else None
