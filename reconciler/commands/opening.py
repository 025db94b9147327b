"""Opening what a command works on: a repository to read, or the settings of a service command."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from reconciler import redact
from reconciler.daemon.derive import Derivation
from reconciler.errors import UsageError
from reconciler.git.mirror import Mirror, Source, cache_of, open_source
from reconciler.settings import Settings, load
from reconciler.status_branch import store


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """A repository opened for reading: where it is, what the watched branch says, what the status branch says."""

    source: Source
    branch: str
    status_branch: str
    derivation: Derivation
    status: store.Status | None


def open_fleet(repo: str, branch: str, status_branch: str, *, offline: bool = False) -> Fleet:
    """Open a repository and derive its head.

    Raises:  UsageError when there is no such repository or branch, GitError when it cannot be reached.
    """
    source = open_source(repo, (branch, status_branch), offline=offline)
    head, tip = source.tip(branch), source.tip(status_branch)
    if head is None:
        raise UsageError(f"{repo} has no branch {branch}; name the watched branch with --branch")
    status = store.read(source.git, tip) if tip is not None else None
    derivation = Derivation(source.git, _checkpoint(source))
    derivation.bring_to(head, status.fleet.joints if status is not None else {})
    return Fleet(source=source, branch=branch, status_branch=status_branch, derivation=derivation, status=status)


def _checkpoint(source: Source) -> Path:
    """Return where the derivation of a repository is kept between commands."""
    return cache_of(str(source.git.directory.resolve())) / "derived"


def open_settings(
    file: Path | None,
    *,
    repo: str | None,
    branch: str | None,
    status_branch: str | None,
    members: Path | None,
    state_dir: Path | None,
    poll: float | None = None,
    deadline: float | None = None,
) -> Settings:
    """Load the settings with the flags of a service command laid over them."""
    flags: dict[str, Any] = {
        "repo": repo,
        "branch": branch,
        "status_branch": status_branch,
        "state_dir": state_dir,
        "poll_period_seconds": poll,
        "stage_deadline_seconds": deadline,
    }
    if members is not None:
        members.mkdir(parents=True, exist_ok=True)
        flags["delivery_default"] = {"type": "directory", "root": str(members), "create": True}
    return load(file, flags)


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
