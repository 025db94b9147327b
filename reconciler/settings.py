"""The operator's settings: one frozen value from file, flags and environment, in that order of weakness.

How to reach a member is said here and nowhere else; nothing of it ever comes from the watched repository.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reconciler.errors import UsageError

ENVIRONMENT = "RECONCILER_SETTINGS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a service command needs to know; durations in seconds, as their names say."""

    repo: str
    """Path or URL of the fleet repository."""
    branch: str = "main"
    """The watched branch; only people write it."""
    status_branch: str = "fleet-status"
    """The branch that only the daemon writes."""
    poll_period_seconds: float = 30.0
    """How often the remote is asked for its heads when nothing else happens; a tenth of jitter is added."""
    stage_deadline_seconds: float = 300.0
    """How long a cluster may be in flight before its run says that it is stuck."""
    removal_grace_period_seconds: float = 600.0
    """How long what a removed placement put on the members stays there, so that adding it again changes nothing."""
    min_push_interval_seconds: float | None = None
    """Results that free no slot and open no gate may wait this long; None: 0 for local remotes, else 2."""
    allowed_signers: Path | None = None
    """An OpenSSH allowed-signers file: whose signatures of approvals are verified; None: nobody's are."""
    state_dir: Path = Path(".reconciler")
    """Mirror and caches; may be deleted at any time."""
    delivery_default: Mapping[str, Any] | None = None
    """How members are reached that `delivery_clusters` does not name; None: they are not."""
    delivery_clusters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """How to reach each member, by name."""

    def delivery_of(self, cluster: str) -> Mapping[str, Any] | None:
        """Return how to reach a member, or None when the operator has not said."""
        return self.delivery_clusters.get(cluster, self.delivery_default)


_NAMES: Mapping[str, tuple[str, type | tuple[type, ...]]] = {
    "repo": ("repo", str),
    "branch": ("branch", str),
    "statusBranch": ("status_branch", str),
    "pollPeriodSeconds": ("poll_period_seconds", (int, float)),
    "stageDeadlineSeconds": ("stage_deadline_seconds", (int, float)),
    "removalGracePeriodSeconds": ("removal_grace_period_seconds", (int, float)),
    "minPushIntervalSeconds": ("min_push_interval_seconds", (int, float)),
    "allowedSigners": ("allowed_signers", str),
    "stateDir": ("state_dir", str),
    "delivery": ("delivery", dict),
}

_PATHS = ("repo", "allowed_signers", "state_dir")
_MEMBER_PATHS = ("root", "kubeconfig")

_WORDS: Mapping[type | tuple[type, ...], str] = {str: "a text", (int, float): "a number", dict: "a mapping"}


def load(file: Path | None, flags: Mapping[str, Any], otherwise: Mapping[str, Any] | None = None) -> Settings:
    """Read the settings file, if any, and lay the flags over it.

    Shape:   `flags` use the names of the fields of `Settings`; None means not given. `otherwise` is what neither says.
    Raises:  UsageError naming the file and the key for what cannot be used.
    """
    file = settings_file(file)
    values = {**(otherwise or {}), **(_read(file) if file is not None else {})}
    values |= {name: value for name, value in flags.items() if value is not None}
    if not values.get("repo"):
        raise UsageError("which repository? give --repo, or set `repo` in the settings file")
    values["state_dir"] = Path(values.get("state_dir", _default_state_dir()))
    for key, name in (("pollPeriodSeconds", "poll_period_seconds"), ("stageDeadlineSeconds", "stage_deadline_seconds")):
        if not 0 < values.get(name, 1) < math.inf:
            raise UsageError(f"{key} is {values[name]}: it must be above 0")
    for key, name in (
        ("minPushIntervalSeconds", "min_push_interval_seconds"),
        ("removalGracePeriodSeconds", "removal_grace_period_seconds"),
    ):
        if not 0 <= (values.get(name) or 0) < math.inf:
            raise UsageError(f"{key} is {values[name]}: it must be 0 or above")
    if values.get("allowed_signers") is not None:
        values["allowed_signers"] = Path(values["allowed_signers"])
        if not values["allowed_signers"].is_file():
            raise UsageError(f"allowedSigners: there is no file {values['allowed_signers']}")
    settings = Settings(**values)
    if settings.branch == settings.status_branch:
        raise UsageError(f"branch and statusBranch are both {settings.branch}: people and the daemon need one each")
    return settings


def settings_file(given: Path | None) -> Path | None:
    """Return the settings file: the given one, else the one that the environment names, if any."""
    named = os.environ.get(ENVIRONMENT)
    return given or (Path(named) if named else None)


def _default_state_dir() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "reconciler"


def _read(file: Path) -> dict[str, Any]:
    from reconciler.documents import yaml  # noqa: PLC0415 - a page of help needs no YAML

    try:
        read = yaml.read(str(file), file.read_bytes())
    except OSError as error:
        raise UsageError(f"the settings file {file} cannot be read: {error.strerror}") from error
    if read.problems:
        raise UsageError(str(read.problems[0]))
    body = read.documents[0].value if read.documents else {}
    if not isinstance(body, Mapping):
        raise UsageError(f"{file}: the settings are a mapping")
    values = dict(_checked(file, body))
    values |= {name: _beside(file, values[name]) for name in _PATHS if name in values}
    return values | _delivery(file, values.pop("delivery", {}))


def _beside(file: Path, value: str) -> str:
    """Return a path of the settings: a relative one is relative to the folder of their file; a URL stays as it is."""
    is_remote = ":" in value.partition("/")[0]
    return value if is_remote or not value else str(file.absolute().parent / Path(value).expanduser())


def _delivery(file: Path, body: Mapping[str, Any]) -> dict[str, Any]:
    """Check the shape of `delivery`; what a type takes is checked by whoever knows the types."""
    for key in body:
        if key not in ("default", "clusters"):
            raise UsageError(f"{file}: unknown setting delivery.{key}; there are delivery.default, delivery.clusters")
    default, clusters = body.get("default"), body.get("clusters") or {}
    if not isinstance(clusters, Mapping):
        raise UsageError(f"{file}: delivery.clusters is a mapping of each cluster's name to how it is reached")
    named = {f"delivery.clusters.{name}": member for name, member in clusters.items()}
    for key, member in (named | ({"delivery.default": default} if default is not None else {})).items():
        if not isinstance(member, Mapping):
            raise UsageError(f"{file}: {key} is a mapping with a type")
    return {
        "delivery_default": _made(file, default) if default is not None else None,
        "delivery_clusters": {name: _made(file, member) for name, member in clusters.items()},
    }


def _made(file: Path, member: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return how a member is reached; a folder is made when it is missing, unless that is forbidden."""
    paths = {name: member[name] for name in _MEMBER_PATHS if isinstance(member.get(name), str)}
    found = {**member, **{name: _beside(file, value) for name, value in paths.items()}}
    return {"create": True, **found} if member.get("type") == "directory" else found


def _checked(file: Path, body: Mapping[str, Any]) -> Mapping[str, Any]:
    result = {}
    for key, value in body.items():
        if key not in _NAMES:
            raise UsageError(f"{file}: unknown setting {key}; there are {', '.join(_NAMES)}")
        name, kind = _NAMES[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise UsageError(f"{file}: {key} must be {_WORDS[kind]}, not {value!r}")
        result[name] = value
    return result
