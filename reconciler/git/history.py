"""First-parent history, trees and blobs, read with a handful of long git commands and parsed from bytes.

What a file means is not known here. Paths are text with `surrogateescape`: a path that is not UTF-8 keeps its
bytes as lone surrogates, is never equal to another path, and is shown readably by `redact`.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from itertools import count

from reconciler.core.model import Commit
from reconciler.errors import TemporaryError
from reconciler.git.run import CONTENT_MODES, Git, GitError, check_sha

MESSAGE_LIMIT = 64 * 1024
"""Characters of a commit message that are kept."""
IDENTITY_LIMIT = 1024
"""Characters of an author or committer that are kept."""

_LONG = 600.0  # seconds for one walk over all of a large history
_FORMAT = "--format=%H%n%P%n%ct%n%an <%ae>%n%cn <%ce>%n%B"
_RAW = ("--raw", "-z", "--no-abbrev", "--no-renames", "--ignore-submodules=none", "--no-color")
_LOG = ("log", *_RAW, "--no-decorate", "--no-notes", "--no-mailmap", "--encoding=UTF-8", _FORMAT)
_POINTER = re.compile(rb"version https://git-lfs\.github\.com/spec/")
_POINTER_LIMIT = 1024
_SHA256_DIGITS = 64
_LATEST = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp())


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What one commit did to one path: `mode` and `blob` afterwards. `blob` None: removed, `mode` is what it was.

    A mode other than those of `CONTENT_MODES` is no content: `120000` is a symbolic link, `160000` a submodule,
    whose `blob` is a commit of another repository.
    """

    path: str
    mode: str
    blob: str | None

    @property
    def is_content(self) -> bool:
        """Whether it is an ordinary file."""
        return self.mode in CONTENT_MODES


# -- history ---------------------------------------------------------------------------------------------------


def log(git: Git, tip: str, base: str | None = None, *, start: int = 0) -> Iterator[tuple[Commit, tuple[Change, ...]]]:
    """Yield the first-parent history of `tip`, oldest first, each commit with what it changed against its first parent.

    Shape:   without `base` all of it, a root commit listing its whole tree; with `base` what is not reachable
             from there. The first commit yielded has position `start`.
    Units:   `Commit.time` is the committer's, UTC, whole seconds; a message is cut at `MESSAGE_LIMIT` characters.
    Raises:  GitError, also when an object is missing.
    """
    limits = (check_sha(tip), *(("^" + check_sha(base),) if base else ()))
    output = git.run(*_LOG, "--first-parent", "--diff-merges=first-parent", "--reverse", *limits, "--", timeout=_LONG)
    return _parse_log(output, count(start).__next__)


def versions(git: Git, tip: str, path: str) -> Iterator[tuple[Commit, str | None]]:
    """Yield the commits of the first-parent history of `tip` that changed a file, newest first, with its blob then.

    Shape:   positions are not those of the history; blob None: the commit removed the file.
    Raises:  GitError.
    """
    walk = ("--first-parent", "--diff-merges=first-parent", check_sha(tip))
    for commit, changes in _parse_log(git.run(*_LOG, *walk, "--", path, timeout=_LONG), count().__next__):
        yield from ((commit, change.blob) for change in changes if change.path == path)


def _parse_log(output: bytes, position: Callable[[], int]) -> Iterator[tuple[Commit, tuple[Change, ...]]]:
    """Parse `header NUL (raw NUL path NUL)*` again and again; no path or message can hold a NUL."""
    commit: Commit | None = None
    changes: list[Change] = []
    fields = _fields(output)
    for field in fields:
        raw = field.lstrip(b"\n")
        if raw.startswith(b":"):
            changes.append(_change(raw, next(fields)))
        elif raw:
            if commit is not None:
                yield commit, tuple(changes)
            commit, changes = _commit(raw, position()), []
    if commit is not None:
        yield commit, tuple(changes)


def _fields(output: bytes) -> Iterator[bytes]:
    """Yield what stands between NULs, without a second copy of all of it."""
    start = 0
    while (end := output.find(b"\0", start)) >= 0:
        yield output[start:end]
        start = end + 1
    if start < len(output):
        yield output[start:]


def _commit(header: bytes, position: int) -> Commit:
    text = header.decode(errors="replace").split("\n", 5)
    if len(text) != 6:  # noqa: PLR2004 - the lines of _FORMAT
        raise GitError("log", 0, f"cannot read the header of commit {text[0]}")
    sha, parents, seconds, author, committer, message = text
    return Commit(
        sha=sha,
        position=position,
        time=_moment(seconds),
        author=author[:IDENTITY_LIMIT],
        committer=committer[:IDENTITY_LIMIT],
        message=message[:MESSAGE_LIMIT].rstrip("\n"),
        parents=tuple(parents.split()),
    )


def _moment(seconds: str) -> datetime:
    """Return the time; git shows none for a date it cannot read, and people write dates beyond the calendar."""
    return datetime.fromtimestamp(min(int(seconds or 0), _LATEST), UTC)


def _change(raw: bytes, path: bytes) -> Change:
    """Read `:mode mode blob blob status`, or the combined form of a merge with a colon, mode and blob per parent."""
    parents = len(raw) - len(raw.lstrip(b":"))
    words = raw.lstrip(b":").decode("ascii").split(" ")
    modes, blobs = words[: parents + 1], words[parents + 1 : -1]
    removed = set(blobs[-1]) == {"0"}
    return Change(
        path=path.decode(errors="surrogateescape"),
        mode=modes[0] if removed else modes[-1],
        blob=None if removed else blobs[-1],
    )


# -- trees and blobs -----------------------------------------------------------------------------------------------


def diff(git: Git, old: str, new: str) -> tuple[Change, ...]:
    """Return what differs between two commits or trees, by path; raises GitError."""
    fields = _fields(git.run("diff-tree", "-r", *_RAW, check_sha(old), check_sha(new), "--", timeout=_LONG))
    return tuple(_change(raw, next(fields)) for raw in fields)


def deleted(git: Git, tip: str, under: str, base: str | None = None, *, saying: str = "") -> dict[str, str]:
    """Return the files in a folder that the first-parent history removed, each with the blob that it last was.

    Shape:   `under` as in `listing`; with `base` only what was removed since; `saying` is what the messages of the
             removing commits match.
    Raises:  GitError.
    """
    limits = (check_sha(tip), *(("^" + check_sha(base),) if base else ()))
    walk = ("--first-parent", "--diff-merges=first-parent", "--diff-filter=D", "--format=", f"--grep={saying}")
    fields = _fields(git.run("log", *_RAW, *walk, *limits, "--", under, timeout=_LONG))
    found: dict[str, str] = {}
    for field in fields:
        blob = field.decode("ascii").split(" ")[2]
        found.setdefault(next(fields).decode(errors="surrogateescape"), blob)
    return found


def listing(git: Git, commit: str, *under: str) -> tuple[Change, ...]:
    """Return every path of a commit's tree, or those under these paths (no slash at the end); raises GitError."""
    output = git.run("ls-tree", "-r", "-z", "--full-tree", check_sha(commit), "--", *under, timeout=_LONG)
    return tuple(_entry(field) for field in _fields(output))


def _entry(field: bytes) -> Change:
    facts, path = field.split(b"\t", 1)
    mode, _, blob = facts.decode("ascii").split(" ")
    return Change(path=path.decode(errors="surrogateescape"), mode=mode, blob=blob)


def read_blobs(git: Git, blobs: Iterable[str], *, limit: int | None = None) -> dict[str, bytes]:
    """Return the bytes of each blob, all read by one git process.

    A blob larger than `limit` bytes is left out of the answer, and is never loaded.
    Raises GitError when one is missing or is no blob.
    """
    wanted = list(dict.fromkeys(check_sha(blob) for blob in blobs))
    if limit is not None and wanted:
        wanted = [blob for blob, size in _sizes(git, wanted).items() if size <= limit]
    if not wanted:
        return {}
    return dict(_parse_batch(_batch(git, "--batch", wanted), wanted))


def _batch(git: Git, form: str, names: Sequence[str]) -> bytes:
    return git.run("cat-file", form, "--buffer", stdin="".join(f"{name}\n" for name in names).encode(), timeout=_LONG)


def _sizes(git: Git, blobs: Sequence[str]) -> dict[str, int]:
    lines = _batch(git, "--batch-check", blobs).splitlines()
    return {blob: _size(line, blob) for blob, line in zip(blobs, lines, strict=True)}


def _parse_batch(output: bytes, blobs: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    at = 0
    for blob in blobs:
        end = output.index(b"\n", at)
        start = end + 1
        stop = start + _size(output[at:end], blob)
        data = output[start:stop]
        if blob_id(data, blob) != blob:  # git itself does not compare when it reads
            raise GitError("cat-file", 0, f"the object {blob} is damaged: its content has another id")
        yield blob, data
        at = stop + 1


def blob_id(data: bytes, like: str) -> str:
    """Return the id that git gives to a blob with this content, by the hash that the id `like` is of."""
    digest = hashlib.sha256() if len(like) == _SHA256_DIGITS else hashlib.sha1(usedforsecurity=False)
    digest.update(b"blob %d\0" % len(data))
    digest.update(data)
    return digest.hexdigest()


def _size(line: bytes, blob: str) -> int:
    words = line.split(b" ")
    if len(words) != 3 or words[1] != b"blob":  # noqa: PLR2004 - name, type and size
        raise GitError("cat-file", 0, f"the object {blob} is missing, or is not a file's content")
    return int(words[2])


def is_lfs_pointer(data: bytes) -> bool:
    """Tell whether a file's bytes only point at content that Git LFS keeps elsewhere."""
    return len(data) < _POINTER_LIMIT and _POINTER.match(data) is not None


# -- ancestry ------------------------------------------------------------------------------------------------------


def exists(git: Git, sha: str) -> bool:
    """Tell whether the repository holds the commit."""
    answer = git.run("cat-file", "--batch-check", stdin=f"{check_sha(sha)}\n".encode())
    return answer.split(b" ")[1:2] == [b"commit"]


def is_ancestor(git: Git, old: str, new: str) -> bool:
    """Tell whether `old` is `new` or an ancestor of it. A commit that is not there is nobody's ancestor."""
    try:
        return _is_ancestor(git, check_sha(old), check_sha(new))
    except GitError:
        if exists(git, old):
            raise
        return False


@lru_cache(maxsize=1024)
def _is_ancestor(git: Git, old: str, new: str) -> bool:
    """Ask git once: what a commit descends from never changes."""
    return git.test("merge-base", "--is-ancestor", old, new, timeout=_LONG)


def contains_on_first_parent(git: Git, tip: str, sha: str) -> bool:
    """Tell whether `sha` is one of the commits on the first-parent chain of `tip`."""
    if tip == sha:
        return True
    if not exists(git, sha):
        return False
    chain = _walk(git, "--first-parent", "--parents", check_sha(tip), "^" + check_sha(sha))
    return bool(chain) and chain[-1].split()[1:2] == [sha]


def first_containing(git: Git, tip: str, sha: str) -> str:
    """Return the oldest commit on the first-parent chain of `tip` that is `sha` or has it as an ancestor.

    Raises TemporaryError when `tip` does not contain `sha` at all.
    """
    if contains_on_first_parent(git, tip, sha):
        return sha
    limits = (check_sha(tip), "^" + check_sha(sha))
    descendants = set(_walk(git, "--ancestry-path", *limits))
    found = [one for one in _walk(git, "--first-parent", *limits) if one in descendants]
    if not found:
        raise TemporaryError(f"commit {tip} does not contain commit {sha}")
    return found[-1]


def introduced(git: Git, base: str | None, commit: Commit, path: str, blob: str) -> Commit:
    """Return the newest commit between `base` and `commit` that itself gave `path` the content `blob`.

    For what a merge brought: the commit on whichever side did it (an inner merge only if no parent of it had
    that content), with the position of `commit`; `commit` itself if there is none.
    """
    limits = (check_sha(commit.sha), *(("^" + check_sha(base),) if base else ()))
    walk = ("--topo-order", "--full-history", "--diff-merges=combined")
    output = git.run(*_LOG, *walk, *limits, "--", path, timeout=_LONG)
    for one, changes in _parse_log(output, lambda: commit.position):
        if any(change.blob == blob and change.path == path for change in changes):
            return replace(one, position=commit.position)
    return commit


def brought(git: Git, commit: Commit, base: str | None) -> tuple[Commit, ...]:
    """Return what a commit of the first-parent history brought: itself, and what it merged beyond `base`."""
    limits = (check_sha(commit.sha), *(("^" + check_sha(base),) if base else ()))
    output = git.run(*_LOG, *limits, "--", timeout=_LONG)
    return tuple(one for one, _ in _parse_log(output, lambda: commit.position))


def _walk(git: Git, *args: str) -> list[str]:
    return git.run("rev-list", *args, "--", timeout=_LONG).decode("ascii").splitlines()
