"""What the operator says of one member: where its kubeconfig is, what that may do, and the bounds of our work there."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconciler.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberSettings:
    """One member's settings; every field is one setting, in camelCase. They come from the operator alone."""

    cluster: str
    """The member's name in the fleet."""
    kubeconfig: Path
    """The operator's file. Files that it names (certificates, `tokenFile`) are read: they are the operator's too."""
    context: str | None = None
    """A context of the kubeconfig; None: its current one."""
    cluster_uid: str | None = None
    """The uid of the member's namespace kube-system; None: the one that is met first is remembered."""
    state_dir: Path | None = None
    """Where the uid that was met first is kept over a restart; None: it is known while the process lives."""
    timeout_seconds: float = 10.0
    """How long one request may take, from connecting to the last byte."""
    step_seconds: float = 120.0
    """How long one delivery may go on; what is left is done by the next try."""
    crd_seconds: float = 15.0
    """How long a delivery waits for the CustomResourceDefinitions it brings to be established."""
    settle_seconds: float = 3.0
    """How long a delivery waits for deleted objects to be gone, before it reports them as not gone yet."""
    parallel: int = 8
    """How many requests to the member are under way at once."""
    qps: float = 50.0
    """How many requests a second the member gets from us in the long run."""
    burst: int = 100
    """How many requests may come at once before `qps` counts."""
    prune_limit: int = 50
    """More objects than this are not pruned in one delivery."""
    prune_share: float = 0.5
    """A larger share than this of more than ten objects is not pruned in one delivery."""
    allow_exec: bool = False
    """The kubeconfig may start a program for its credentials (`exec`)."""
    insecure_allow_auth_provider: bool = False
    """The kubeconfig may use `auth-provider`, which starts programs and calls out too."""
    insecure_allow_proxy: bool = False
    """The kubeconfig may name a `proxy-url`."""
    insecure_skip_tls_verify: bool = False
    """The kubeconfig may say `insecure-skip-tls-verify`: anybody can pass for the member."""
    insecure_allow_http: bool = False
    """The kubeconfig may name an `http://` server: anybody on the way reads the credentials."""


_NUMBER = (int, float)
_SETTINGS: Mapping[str, tuple[str, type | tuple[type, ...]]] = {
    "kubeconfig": ("kubeconfig", (str, Path)),
    "context": ("context", str),
    "clusterUid": ("cluster_uid", str),
    "stateDir": ("state_dir", (str, Path)),
    "timeoutSeconds": ("timeout_seconds", _NUMBER),
    "stepSeconds": ("step_seconds", _NUMBER),
    "crdSeconds": ("crd_seconds", _NUMBER),
    "settleSeconds": ("settle_seconds", _NUMBER),
    "parallel": ("parallel", int),
    "qps": ("qps", _NUMBER),
    "burst": ("burst", int),
    "pruneLimit": ("prune_limit", int),
    "pruneShare": ("prune_share", _NUMBER),
    "allowExec": ("allow_exec", bool),
    "insecureAllowAuthProvider": ("insecure_allow_auth_provider", bool),
    "insecureAllowProxy": ("insecure_allow_proxy", bool),
    "insecureSkipTlsVerify": ("insecure_skip_tls_verify", bool),
    "insecureAllowHttp": ("insecure_allow_http", bool),
}
_ABOVE_ZERO = ("timeoutSeconds", "stepSeconds", "parallel", "qps", "burst")


def read(cluster: str, settings: Mapping[str, Any]) -> MemberSettings:
    """Return the settings of a member; raises UsageError naming the cluster and the setting that cannot be used."""
    where = f"delivery for cluster {cluster}"
    given = {name: value for name, value in settings.items() if name != "type"}
    for name, value in given.items():
        if name not in _SETTINGS:
            raise UsageError(f"{where}: a kubernetes member takes no setting {name}; there are {', '.join(_SETTINGS)}")
        _check(where, name, value)
    if not str(given.get("kubeconfig", "")):
        raise UsageError(f"{where}: a kubernetes member needs kubeconfig, the file that says how to reach it")
    fields: dict[str, Any] = {_SETTINGS[name][0]: value for name, value in given.items()}
    fields |= {name: Path(fields[name]) for name in ("kubeconfig", "state_dir") if name in fields}
    return MemberSettings(cluster=cluster, **fields)


def _check(where: str, name: str, value: Any) -> None:
    kind = _SETTINGS[name][1]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UsageError(f"{where}: {name} has the wrong type")
    if isinstance(value, int | float) and (value < 0 or (value == 0 and name in _ABOVE_ZERO)):
        raise UsageError(f"{where}: {name} is {value}, which is too low")
