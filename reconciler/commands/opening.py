"""Opening what a command works on: a repository to read, or the settings of a service command."""

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import structlog

from reconciler import private, redact
from reconciler.commands.options import Operating
from reconciler.core.status import RunStatus
from reconciler.daemon import checkpoint
from reconciler.daemon.derive import Derivation
from reconciler.delivery import IDENTITIES, open_delivery
from reconciler.errors import UsageError
from reconciler.git import history
from reconciler.git.mirror import Mirror, Source, cache_of, open_local, open_source
from reconciler.git.run import check_sha, parse_url
from reconciler.settings import Settings, load, settings_file
from reconciler.status_branch import reader, store

logger = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """A repository opened for reading: where it is, what the watched branch says, what the status branch says."""

    source: Source
    branch: str
    status_branch: str
    derivation: Derivation
    status: store.Status | None
    lost: str = ""
    """The last known commit of the status branch, where that is gone or does not descend from it any more."""

    def whole(self) -> "Fleet":
        """Return the fleet with the runs that left the tree of the status branch; raises GitError."""
        return replace(self, status=reader.with_archived(self.source.git, self.status)) if self.status else self

    def complete(self) -> "Fleet":
        """Return the fleet with every run that has a file: a rewrite may have brought one back that had left."""
        left = {uid for state in self.status.placements.values() for uid in state.archived} if self.status else set()
        return self.whole() if any(one.uid in left for one in self.derivation.view.runs()) else self


def open_fleet(repo: str, branch: str, status_branch: str, *, offline: bool = False) -> Fleet:
    """Open a repository and derive its head.

    Raises:  UsageError when there is no such repository or branch, GitError when it cannot be reached.
    """
    source = open_source(repo, (branch, status_branch), offline=offline)
    head, tip = source.tip(branch), source.tip(status_branch)
    if head is None:
        raise UsageError(f"{repo} has no branch {branch}; name the watched branch with --branch")
    status = _read_status(source, tip) if tip is not None else None
    derivation = Derivation(source.git, _cache(source) / "derived")
    derivation.bring_to(head, status.fleet.joints if status is not None else {})
    lost = lost_status(source, status_branch, status)
    fleet = Fleet(
        source=source, branch=branch, status_branch=status_branch, derivation=derivation, status=status, lost=lost
    )
    return fleet.complete()


def recorded_in(folder: Path, branch: str, status_branch: str) -> tuple[RunStatus, ...]:
    """Return the runs as the status branch has them that a clone holds already; none where nothing can be known.

    Raises:  GitError.
    """
    if not (folder / ".git").exists():
        return ()
    try:
        source = open_local(folder, (branch, status_branch), offline=True)
        tip = source.tip(status_branch)
        return _read_status(source, tip).runs if tip is not None else ()
    except (UsageError, reader.StatusUnreadableError):
        return ()  # a history that is cut off, or a status branch that is none of ours


def _cache(source: Source) -> Path:
    """Return where is kept between commands what was learnt of a repository."""
    return cache_of(str(source.git.directory.resolve()))


def _read_status(source: Source, tip: str) -> store.Status:
    file = _cache(source) / "folded"
    known = reader.resumed(source.git, checkpoint.load(file, store.Status))
    status = reader.read(source.git, tip, known)
    if status is not known:
        checkpoint.save(file, store.kept(status))
    return status


def lost_status(source: Source, branch: str, status: store.Status | None) -> str:
    """Return the commit at which the status branch was seen last, if it has lost that since; remember it otherwise.

    A branch of a higher epoch was begun anew on purpose. What cannot be remembered is only noticed later.
    """
    file = seen_file(source, branch)
    seen, epoch = _seen(file)
    if seen and _is_lost(source, seen, epoch, status):
        return seen
    if status is not None and status.commit != seen:
        with suppress(OSError):
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file.write_text(f"{status.commit} {status.fleet.epoch}\n", encoding="ascii")
    return ""


def seen_file(source: Source, branch: str) -> Path:
    """Return where is remembered at which commit the status branch was seen last."""
    return _cache(source) / f"seen-{branch.replace('/', '-')}"


def _seen(file: Path) -> tuple[str, int]:
    try:
        commit, epoch = file.read_text(encoding="ascii").split()
        return check_sha(commit), int(epoch)
    except (OSError, ValueError):
        return "", 0


def _is_lost(source: Source, seen: str, epoch: int, status: store.Status | None) -> bool:
    if not history.exists(source.git, seen):
        return False  # another repository has taken the place of that one
    return status is None or (status.fleet.epoch <= epoch and not history.is_ancestor(source.git, seen, status.commit))


def open_settings(where: Operating, *, poll: float | None = None) -> Settings:
    """Load the settings with the flags of a service command laid over them.

    Raises:  UsageError for settings that cannot be used, ways to reach members included, and for a state folder that
             others can write.
    """
    private.begin()
    given = {one.name: getattr(where, one.name) for one in fields(where)}
    flags: dict[str, Any] = given | {"poll_period_seconds": poll}
    del flags["settings_file"], flags["members"]
    if where.members is not None:
        flags["delivery_default"] = {"type": "directory", "root": str(where.members), "create": True}
    settings = load(where.settings_file, flags)
    for folder in (settings.state_dir, settings.state_dir / "mirror", settings.state_dir / IDENTITIES):
        private.check_folder(folder)
    _check_repo(settings.repo)
    if where.members is not None:
        _make_folder(where.members)
    _check_delivery(settings, settings_file(where.settings_file))
    return settings


def _check_repo(repo: str) -> None:
    """Raise UsageError for a folder that is not there: a server may come back, a path was mistyped."""
    url = parse_url(repo)
    is_path = url.protocol == "file" and not url.text.startswith("file:")
    if is_path and not any(Path(url.text + ending).is_dir() for ending in ("", ".git")):  # as git finds it
        raise UsageError(f"there is no repository {url.text}: make it with `git init --bare`, or name another")


def _make_folder(members: Path) -> None:
    """Make the folder of all members; raises UsageError where it cannot be made or written."""
    try:
        private.make_shared(members)
        members.mkdir(exist_ok=True)
    except OSError as error:
        why = "is a file, not a folder" if members.is_file() else f"cannot be made: {error.strerror}"
        raise UsageError(f"--members {members}: the folder of the members {why}") from error
    if not os.access(members, os.W_OK | os.X_OK):
        raise UsageError(f"--members {members}: the folder of the members cannot be written: Permission denied")


def _check_delivery(settings: Settings, file: Path | None) -> None:
    """Open the delivery of every member that the settings name, which asks nobody anything.

    Raises:  UsageError with file, key and rule for a type that is unknown, or settings that it does not take.
    """
    entries = [(f"delivery.clusters.{name}", name, member) for name, member in settings.delivery_clusters.items()]
    if settings.delivery_default is not None:
        entries.append(("delivery.default", "default", settings.delivery_default))
    for key, name, member in entries:
        try:
            open_delivery(name, member)
        except UsageError as error:
            rule = str(error).removeprefix(f"delivery for cluster {name}: ")
            raise UsageError(f"{file or 'flags'}: {key}: {rule}") from error


def warn_of_no_delivery(settings: Settings) -> None:
    """Log that no member can be reached, where the settings say of none how."""
    if settings.delivery_default is None and not settings.delivery_clusters:
        logger.warning(
            "no delivery is configured: every cluster will wait as unreachable",
            next="give --members DIR, or set delivery.default or delivery.clusters in the settings file",
        )


def open_mirror(settings: Settings) -> Mirror:
    """Open the daemon's own mirror of the repository of the settings."""
    return Mirror.open(settings.state_dir / "mirror", settings.repo, (settings.branch, settings.status_branch))


def configure_log(*, json: bool = False) -> None:
    """Write one line per thing that changed to stderr: key=value, or JSON; everything passes the redaction."""
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if json
        else structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"])
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _redacted,
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def _redacted(_: Any, __: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: (redact.text(value) if key == "exception" else redact.line(value)) if isinstance(value, str) else value
        for key, value in entry.items()
    }
