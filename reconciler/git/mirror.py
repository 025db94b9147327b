"""Where commits are read from: a private mirror of two branches, or a person's own clone or bare repository.

Everybody else sees a `Source`. Nothing here is ever checked out, and a mirror may be deleted at any time.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import IO, Protocol, Self

from reconciler import effects
from reconciler.errors import ReconcilerError, TemporaryError, UsageError
from reconciler.git import history
from reconciler.git.run import (
    HARDENED,
    PERSON,
    TRUST,
    TRUST_FILE,
    Git,
    GitError,
    Profile,
    Url,
    check_branch,
    discover,
    parse_url,
)

Heads = Mapping[str, str]
"""Branch name → full commit id; a missing branch is a missing key."""

_TRACKED = "refs/remotes/origin/"
_INCOMING = "refs/reconciler/incoming/"
_SEEN = "refs/reconciler/seen/"
_REMEMBERED = "refs/reconciler/remembered/"
_TURNS = 3  # so often a fetch is tried while others hold the refs
_LOCKED = "cannot lock ref"
_LOOK = 30.0  # seconds to ask a remote for its heads
_FETCH = 600.0  # seconds for a fetch, of all of a large history the first time


class Source(Protocol):
    """Two branches that can be read, and pushed to."""

    git: Git
    push_url: str

    def heads(self) -> Heads:
        """Ask the remote where its branches are."""

    def tip(self, branch: str) -> str | None:
        """Return the commit of the branch that is held here, or None."""

    def confirm(self, branch: str, sha: str) -> None:
        """Take note that the remote's branch is at `sha`, which is held here."""


class Mirror:
    """A bare repository in a private directory, with two branches of a remote and every head they ever had."""

    def __init__(self, directory: Path, url: str, branches: tuple[str, str], profile: Profile) -> None:
        self.branches = tuple(check_branch(branch) for branch in branches)
        self.directory = directory
        self.push_url = parse_url(url).text
        self.git = Git(directory=directory / "repository.git", profile=profile, url=parse_url(url))
        self._lock: IO[bytes] | None = None
        self._tips: dict[str, str] = {}
        self._owed: dict[str, str] = {}
        """Refs that are still to be set: nobody waits for them."""
        self.date: datetime | None = None
        """What the remote's own clock said when it was last asked; None where the transport does not tell."""

    @classmethod
    def open(
        cls,
        directory: Path,
        url: str,
        branches: tuple[str, str],
        *,
        profile: Profile = HARDENED,
        exclusive: bool = True,
    ) -> "Mirror":
        """Open the mirror in `directory`, or make it anew when it is missing, unusable or of another URL.

        An exclusive mirror keeps the directory until `close`, and TemporaryError says so if another process has it;
        a shared one takes it only while it writes. Raises UsageError for a bad URL or branch name.
        """
        mirror = cls(directory, url, branches, profile)
        try:
            mirror._prepare(exclusive=exclusive)
        except OSError as error:
            mirror.close()
            raise TemporaryError(f"the mirror directory {directory} cannot be used: {error}") from error
        except ReconcilerError:
            mirror.close()
            raise
        return mirror

    def close(self) -> None:
        """Give the directory back."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the remote ----------------------------------------------------------------------------------------------

    def heads(self) -> Heads:
        """Ask the remote where its branches are: one `ls-remote` with full names; raises GitError."""
        heads, self.date = _heads(self.git, self.push_url, self.branches)
        return heads

    def fetch(self, heads: Heads | None = None) -> Heads:
        """Bring the whole history of the branches that moved, and return the tips now held.

        `heads` is what `heads()` said (None: ask). A head that left the history of its branch stays readable.
        Nothing that `tip` says changes before all of it is here. Raises GitError, and the old tips stay.
        """
        wanted = self.heads() if heads is None else heads
        with self._exclusively():
            self._read_tips()
            moved = [branch for branch, sha in wanted.items() if self._tips.get(branch) != sha]
            incoming = self._bring(moved) if moved else {}
            self._move({branch: incoming.get(branch) or self._tips[branch] for branch in wanted})
        return dict(self._tips)

    def confirm(self, branch: str, sha: str) -> None:
        """Take note that the remote's branch is at `sha`, after a push of ours; `settle` writes it down."""
        if self._lock is None:  # others may write there next
            with self._exclusively():
                self._move({**self._tips, branch: sha})
            return
        self._owed |= {ref: new for ref, new in self._ref_updates(branch, sha) if new is not None}
        self._tips[branch] = sha

    def settle(self) -> None:
        """Write down what is known of the remote and not yet in the refs; a kill before costs the next one a fetch."""
        owed, self._owed = self._owed, {}
        self._update_refs(owed)

    def _bring(self, branches: list[str]) -> Heads:
        """Fetch branches into refs of their own, and return where they are."""
        self._update_refs({_INCOMING + branch: None for branch in branches})
        effects.perform("fetch", " ".join(branches), lambda: _fetch(self.git, self.push_url, branches, _INCOMING))
        incoming = _refs(self.git, _INCOMING, tuple(branches))
        if len(incoming) < len(branches):  # git skips without an error what would make this repository shallow
            raise GitError("fetch", 0, f"the remote keeps the history of {' and '.join(branches)} cut off (shallow)")
        return incoming

    def _move(self, tips: Heads) -> None:
        """Set the tips in one transaction, and keep what would no longer be reachable."""
        changed = {branch for branch in {*tips, *self._tips} if tips.get(branch) != self._tips.get(branch)}
        updates = (one for branch in sorted(changed) for one in self._ref_updates(branch, tips.get(branch)))
        self._update_refs(dict(updates))
        self._tips = dict(tips)

    def _update_refs(self, updates: Mapping[str, str | None]) -> None:
        """Set refs, or delete them (None), in one transaction."""
        lines = [f"update {ref} {new}\n" if new else f"delete {ref}\n" for ref, new in updates.items()]
        if lines:
            self.git.run("update-ref", "--stdin", stdin="".join(lines).encode())

    def _ref_updates(self, branch: str, new: str | None) -> Iterator[tuple[str, str | None]]:
        old = self._tips.get(branch)
        if old and not (new and history.is_ancestor(self.git, old, new)):
            yield _SEEN + old, old
        yield _TRACKED + branch, new

    # -- what is held ----------------------------------------------------------------------------------------------

    @property
    def is_there(self) -> bool:
        """Whether the repository is still where it was put, as far as a look at the folder tells."""
        return (self.git.directory / "HEAD").is_file() and (self.git.directory / "objects").is_dir()

    def heal(self) -> bool:
        """Look whether an exclusive mirror can still be used, and make it anew if not; tell whether that was done.

        What was deleted is empty then, and the next fetch brings it back. Raises TemporaryError when another process
        has taken the directory meanwhile, or it cannot be written.
        """
        self.close()
        try:
            return self._prepare(exclusive=True)
        except OSError as error:
            raise TemporaryError(f"the mirror directory {self.directory} cannot be used: {error}") from error

    def tip(self, branch: str) -> str | None:
        """Return the commit of the branch as of the last fetch, or None."""
        return self._tips.get(branch)

    def remember(self, name: str, sha: str) -> None:
        """Keep a commit under a name of our own, for the next process; `settle` writes it down."""
        self._owed[_REMEMBERED + name] = sha

    def recall(self, name: str) -> str | None:
        """Return what was remembered under a name, or None."""
        self.settle()
        return _refs(self.git, _REMEMBERED, (name,)).get(name)

    def repack(self) -> None:
        """Join small packs and index the history; for a slow timer, as it takes seconds on a large repository."""
        with self._exclusively():
            self.git.run("pack-refs", "--all", timeout=_FETCH)
            self.git.run("repack", "--geometric=2", "-d", "--quiet", timeout=_FETCH)
            self.git.run("commit-graph", "write", "--reachable", "--changed-paths", "--no-progress", timeout=_FETCH)

    def recreate(self) -> None:
        """Throw everything away and begin empty; the next fetch brings it back. For objects found damaged later."""
        shutil.rmtree(self.git.directory, ignore_errors=True)
        self.git.directory.mkdir(mode=0o700)
        self.git.run("-c", "init.defaultBranch=main", "init", "--bare", "--quiet", "--template=")
        (self.git.directory / TRUST_FILE).write_text(TRUST, encoding="utf-8")
        url = self.directory / "url"
        if url.is_dir():
            shutil.rmtree(url)
        url.unlink(missing_ok=True)  # whatever stands there may be none that can be written
        url.write_text(self.push_url, encoding="utf-8")
        self._tips, self._owed = {}, {}

    def _prepare(self, *, exclusive: bool) -> bool:
        """Take the directory and read what is there; tell whether it had to be made anew."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if exclusive:
            self._lock = self._take(fcntl.LOCK_EX | fcntl.LOCK_NB)
        with self._exclusively():
            _remove_leftovers(self.git.directory, alone=exclusive)
            usable = self._is_usable(thorough=exclusive)
            if not usable:
                self.recreate()
            self._read_tips()
        return not usable

    def _take(self, how: int) -> IO[bytes]:
        file = (self.directory / "lock").open("ab")
        try:
            fcntl.flock(file, how)
        except BlockingIOError as error:
            file.close()
            raise TemporaryError(f"another process uses the mirror in {self.directory}") from error
        return file

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        if self._lock is not None:
            yield
            return
        with self._take(fcntl.LOCK_EX):
            yield

    def _is_usable(self, *, thorough: bool) -> bool:
        """Tell whether this is our mirror of this URL, and (thorough) all its commits and its tips' trees are there."""
        if not _is_of(self.directory, self.push_url):
            return False
        try:
            return self._is_sound() if thorough else bool(self.git.run("rev-parse", "--git-dir"))
        except GitError:
            return False

    def _is_sound(self) -> bool:
        # every commit object is opened, so a truncated or missing pack shows; a commit-graph would hide it
        self.git.run("-c", "core.commitGraph=false", "rev-list", "--count", "--all", timeout=_FETCH)
        tips = _refs(self.git, _TRACKED, self.branches).values()
        trees = self.git.run("cat-file", "--batch-check", stdin="".join(f"{tip}^{{tree}}\n" for tip in tips).encode())
        return b" missing\n" not in trees

    def _read_tips(self) -> None:
        self.settle()
        self._tips = _refs(self.git, _TRACKED, self.branches)


def _is_of(directory: Path, url: str) -> bool:
    """Tell whether a mirror says that it is of this URL; one that cannot be read does not."""
    try:
        return (directory / "url").read_bytes() == url.encode()
    except OSError:
        return False


def _remove_leftovers(repository: Path, *, alone: bool) -> None:
    """Remove what a killed git left: its lock files, which would make each later fetch fail, and half-written objects.

    Only the owner of the directory's lock may do this. Objects are written without it, so they are removed only
    when nobody else can be there (`alone`).
    """
    objects = (repository / "objects").rglob("tmp_*") if alone else ()
    for path in [*repository.rglob("*.lock"), *objects]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _heads(git: Git, remote: str, branches: tuple[str, ...]) -> tuple[dict[str, str], datetime | None]:
    names = [f"refs/heads/{branch}" for branch in branches]
    answer, date = git.ask("ls-remote", "--quiet", "--", remote, *names, timeout=_LOOK)
    lines = answer.decode(errors="replace").split("\n")
    found = {name: sha for sha, _, name in (line.partition("\t") for line in lines)}
    # git takes the names for patterns: exact ones only
    return {branch: found[name] for branch, name in zip(branches, names, strict=True) if name in found}, date


def _fetch(git: Git, remote: str, branches: list[str], prefix: str) -> None:
    specs = [f"+refs/heads/{branch}:{prefix}{branch}" for branch in branches]
    options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-maintenance")
    git.run("fetch", *options, "--", remote, *specs, timeout=_FETCH)


def _refs(git: Git, prefix: str, branches: tuple[str, ...]) -> dict[str, str]:
    names = [prefix + branch for branch in branches]
    answer = git.run("for-each-ref", "--format=%(objectname) %(refname)", *names).decode(errors="replace")
    found = {name: sha for sha, _, name in (line.partition(" ") for line in answer.split("\n"))}
    return {branch: found[name] for branch, name in zip(branches, names, strict=True) if name in found}


# -- a person's own ------------------------------------------------------------------------------------------------


class Local:
    """A person's clone, read through its `origin`; a bare repository, or a clone without a remote, read as it is."""

    def __init__(self, git: Git, branches: tuple[str, str], *, remote: bool) -> None:
        self.branches = tuple(check_branch(branch) for branch in branches)
        self.git = git
        self.push_url = "origin" if remote else str(git.directory)
        self._prefix = _TRACKED if remote else "refs/heads/"
        self._remote = remote
        self._tips = _refs(git, self._prefix, self.branches)

    def heads(self) -> Heads:
        """Ask the remote where its branches are; raises GitError."""
        return _heads(self.git, self.push_url, self.branches)[0]

    def fetch(self) -> Heads:
        """Bring the two branches into `refs/remotes/origin/`; where there is no remote, look at them again."""
        if not self._remote:
            self._tips = _refs(self.git, self._prefix, self.branches)
            return dict(self._tips)
        heads = self.heads()
        moved = {branch: sha for branch, sha in heads.items() if self._tips.get(branch) != sha}
        if moved:
            effects.perform("fetch", " ".join(moved), lambda: self._bring(moved))
        held = _refs(self.git, self._prefix, self.branches)
        self._tips = {branch: sha for branch, sha in held.items() if branch in heads}
        return dict(self._tips)

    def _bring(self, moved: Heads) -> None:
        """Fetch branches; where another reader of this clone moves the same refs at the same moment, that will do."""
        for left in reversed(range(_TURNS)):
            try:
                _fetch(self.git, self.push_url, list(moved), self._prefix)
            except GitError as error:
                if _refs(self.git, self._prefix, tuple(moved)) == moved:
                    return
                if not left or _LOCKED not in error.stderr:
                    raise
            else:
                return

    def tip(self, branch: str) -> str | None:
        """Return the commit of the branch as of the last look, or None."""
        return self._tips.get(branch)

    def confirm(self, branch: str, sha: str) -> None:
        """Take note of a push; git itself has moved the ref."""
        self._tips[branch] = sha


def open_local(where: Path, branches: tuple[str, str], *, offline: bool = False) -> Local:
    """Open the repository around a directory, and fetch the branches from its `origin` unless `offline`.

    Raises UsageError when there is no repository or its history is cut off, GitError when the fetch fails.
    """
    git, bare = discover(where)
    if git.run("rev-parse", "--is-shallow-repository").strip() == b"true":
        raise UsageError(f"{where} is a shallow clone, and all of the history is needed: git fetch --unshallow")
    remote = not bare and b"origin" in git.run("remote").splitlines()
    local = Local(replace(git, url=_origin(git)) if remote else git, branches, remote=remote)
    if not offline:
        local.fetch()
    return local


def _origin(git: Git) -> Url | None:
    """Return the URL of a clone's `origin`; None: one that only the person's own git knows how to use."""
    try:
        return parse_url(git.run("remote", "get-url", "origin").decode(errors="replace").strip())
    except (GitError, UsageError):
        return None


def open_source(where: str, branches: tuple[str, str], *, offline: bool = False) -> Local | Mirror:
    """Open what a person names: a directory (clone or bare repository), or a URL, mirrored in their cache folder."""
    url = parse_url(where)
    if Path(where).is_dir() or (url.protocol == "file" and not where.startswith("file:")):
        return open_local(Path(where), branches, offline=offline)
    mirror = Mirror.open(cache_of(url.text), where, branches, profile=PERSON, exclusive=False)
    if not offline:
        mirror.fetch()
    return mirror


def remembered(directory: Path, url: str, name: str) -> tuple[Git, str] | None:
    """Return what the mirror of a URL in a directory remembers under a name, and the git to read it with.

    The directory is not taken, so the mirror may be in use. None where there is no such mirror, or nothing is known.
    """
    git = Git(directory=directory / "repository.git", profile=HARDENED)
    if not _is_of(directory, parse_url(url).text) or not git.directory.is_dir():
        return None
    found = _refs(git, _REMEMBERED, (name,)).get(name)
    return (git, found) if found is not None else None


def cache_of(url: str) -> Path:
    """Return the person's cache folder of a repository."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "reconciler" / hashlib.sha256(url.encode()).hexdigest()
