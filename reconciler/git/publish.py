"""Commits made and pushed: the daemon's through fast-import, a person's with their identity and signature.

A commit is built from objects; no work tree and no one's index is read or written. Only `push` lets anything out.
"""

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from reconciler import effects
from reconciler.errors import RefusedError
from reconciler.git import history
from reconciler.git.mirror import Source
from reconciler.git.run import Git, GitError, check_branch, check_sha

DAEMON = "reconciler <reconciler@localhost>"

_WORK = "refs/reconciler/work"  # fast-import wants a ref; its old value is of no interest
_PUSH = 120.0  # seconds
_IDENTITY = re.compile(r"[^<>\n\0]+ <[^<>\n\0]*>")

Changes = Mapping[str, bytes | None]
"""Path → content; None removes the path."""


# -- the daemon's commits --------------------------------------------------------------------------------------


def write_commit(
    git: Git, *, base: str | None, changes: Changes, message: str, author: str | None = None, when: datetime
) -> str:
    """Write one commit on top of `base` (None: a root commit) and return its id; nothing is pushed.

    Shape:   `author` is `Name <mail>`, the daemon by default; the committer is always the daemon.
    Units:   `when` is aware; whole seconds, UTC, are kept. The same arguments make the same id.
    Raises:  GitError; ValueError for a path or an author that git would not accept.
    """
    stream = b"".join(_stream(base, changes, message, author or DAEMON, when))
    options = ("--quiet", "--force", "--done", "--date-format=raw")
    return git.run("fast-import", *options, stdin=stream).decode("ascii").strip()


def _stream(base: str | None, changes: Changes, message: str, author: str, when: datetime) -> Iterator[bytes]:
    date = f"{int(when.timestamp())} +0000"
    yield f"commit {_WORK}\nmark :1\nauthor {_identity(author)} {date}\ncommitter {DAEMON} {date}\n".encode()
    yield _data(message.encode())
    # without `from` the commit is a root: fast-import does not look at what the ref was
    yield f"from {check_sha(base)}\n".encode() if base else b""
    removed = [path for path, content in changes.items() if content is None]
    yield from (b"D " + _path(path) + b"\n" for path in sorted(removed))
    for path, content in sorted(changes.items()):
        if content is not None:
            yield b"M 100644 inline " + _path(path) + b"\n" + _data(content)
    yield b"\nget-mark :1\ndone\n"


def _data(content: bytes) -> bytes:
    return b"data %d\n%b\n" % (len(content), content)


def _path(path: str) -> bytes:
    """Return the path in fast-import's quotes."""
    _check_path(path)
    quoted = path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return b'"' + quoted.encode(errors="surrogateescape") + b'"'


def _check_path(path: str) -> None:
    parts = path.split("/")
    if "\0" in path or any(part in ("", ".", "..") or part.lower() == ".git" for part in parts):
        raise ValueError(f"{path!r} is not a path of a repository")


def _identity(author: str) -> str:
    if not _IDENTITY.fullmatch(author):
        raise ValueError(f"{author!r} does not read Name <mail>")
    return author


# -- a person's commits ----------------------------------------------------------------------------------------


def write_person_commit(git: Git, *, base: str | None, changes: Changes, message: str) -> str:
    """Write one commit as the person would: their identity, their signing settings; return its id.

    The commit is built in an index of its own, so work tree and index stay as they are.
    Raises GitError, in git's words when the identity is missing or the signature fails; ValueError for a bad path.
    """
    with tempfile.TemporaryDirectory(prefix="reconciler-") as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        tree = _write_tree(git, base, changes, index)
    parent = ("-p", check_sha(base)) if base else ()
    text = message if message.endswith("\n") else message + "\n"
    # commit-tree itself does not look at commit.gpgSign; a pass phrase may have to be typed
    arguments = ("commit-tree", *(("-S",) if _signs(git) else ()), *parent, "-F", "-", tree)
    return git.run(*arguments, stdin=text.encode(), timeout=300.0).decode("ascii").strip()


def _write_tree(git: Git, base: str | None, changes: Changes, index: Mapping[str, str]) -> str:
    unsplit = ("-c", "core.splitIndex=false")  # a split index would leave its other half in the repository
    git.run(*unsplit, "read-tree", check_sha(base) if base else "--empty", environment=index)
    lines = b"".join(_index_line(git, path, content) for path, content in sorted(changes.items(), key=_removals_first))
    git.run(*unsplit, "update-index", "-z", "--index-info", stdin=lines, environment=index)
    return git.run(*unsplit, "write-tree", environment=index).decode("ascii").strip()


def _removals_first(change: tuple[str, bytes | None]) -> tuple[bool, str]:
    return change[1] is not None, change[0]


def _index_line(git: Git, path: str, content: bytes | None) -> bytes:
    _check_path(path)
    name = os.fsencode(path)
    if content is None:
        return b"0 " + b"0" * 40 + b"\t" + name + b"\0"
    blob = git.run("hash-object", "-w", "--stdin", "--no-filters", stdin=content).strip()
    return b"100644 " + blob + b"\t" + name + b"\0"


def _signs(git: Git) -> bool:
    try:
        return git.run("config", "--type=bool", "--get", "commit.gpgSign").strip() == b"true"
    except GitError as error:
        if error.status == 1:  # not set
            return False
        raise


# -- out -------------------------------------------------------------------------------------------------------


def push(source: Source, branch: str, new: str, expected: str | None) -> bool:
    """Move the remote's branch from `expected` (None: it must not exist) to `new`, or leave it alone.

    Returns True when the branch is at `new` afterwards, whatever git said, and False when somebody else moved it.
    Raises GitError with the server's words when the branch is where it was, or cannot be seen: the caller
    looks again later. Raises RefusedError, before anything is sent, if `new` does not descend from `expected`.
    """
    name = f"refs/heads/{check_branch(branch)}"
    if expected is not None and not history.is_ancestor(source.git, expected, new):
        raise RefusedError(f"pushing {new} to {branch} would drop commit {expected} from its history")
    lease = f"--force-with-lease={name}:{expected or ''}"
    refspec = f"{check_sha(new)}:{name}"
    failure = effects.perform("push", f"{branch} {new}", lambda: _push(source, lease, refspec))
    if failure is not None and not _is_there(source, branch, new, expected, failure):
        return False
    source.confirm(branch, new)
    return True


def is_there(source: Source, branch: str) -> bool:
    """Ask the remote whether it has a branch, of any name; raises GitError."""
    name = f"refs/heads/{check_branch(branch)}"
    answer = source.git.run("ls-remote", "--quiet", "--", source.push_url, name).decode(errors="replace")
    return any(line.endswith(f"\t{name}") for line in answer.splitlines())


def _push(source: Source, lease: str, refspec: str) -> GitError | None:
    options = ("--quiet", "--no-verify", "--no-follow-tags", "--no-recurse-submodules")
    try:
        source.git.run("push", *options, lease, "--", source.push_url, refspec, timeout=_PUSH)
    except GitError as error:
        return error
    return None


def _is_there(source: Source, branch: str, new: str, expected: str | None, failure: GitError) -> bool:
    """Decide a failed push by what the remote holds: the reply may be lost, and texts differ from server to server."""
    try:
        now = source.heads().get(branch)
    except GitError:
        raise failure from None  # the server is away, and the first words say why
    if now == expected:
        raise failure
    return now == new
