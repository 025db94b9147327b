"""From the operator's kubeconfig to a way in: address, trust and credentials; nothing is asked of the member here.

A kubeconfig is a program: loading one can start commands, read any file and send what it read to any server. So the
file is read by our own YAML door, whatever the settings do not allow is refused before anybody acts on it, and only
the one context that is used is handed to the official client, which loads the credentials.
"""

import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from reconciler.delivery.kubernetes.deadline import DeadlineSocket
from reconciler.delivery.kubernetes.settings import MemberSettings
from reconciler.documents import yaml
from reconciler.errors import UsageError
from reconciler.redact import line


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How to reach one member. `trust` is None for plain http; `path` is what every path begins with."""

    host: str
    port: int
    path: str
    trust: ssl.SSLContext | None = field(repr=False)
    tls_name: str | None
    proxy: str | None = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)

    @property
    def server(self) -> str:
        """The address, as messages show it."""
        return f"{'https' if self.trust else 'http'}://{self.host}:{self.port}{self.path}"


def load(settings: MemberSettings) -> Access:
    """Read the kubeconfig and its credentials; raises UsageError for what is missing, broken or not allowed."""
    where = f"kubeconfig {settings.kubeconfig} of cluster {settings.cluster}"
    chosen = _chosen(where, _document(where, settings.kubeconfig), settings.context)
    _refuse(where, chosen, settings)
    try:
        return _access(where, chosen, settings)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError; bad base64 and bad URLs are ValueErrors
        raise UsageError(f"{where}: {line(str(error))}") from error


# -- reading, with nothing acted on ------------------------------------------------------------------------------------


def _document(where: str, file: Path) -> Mapping[str, Any]:
    try:
        read = yaml.read(str(file), file.read_bytes())
    except OSError as error:
        raise UsageError(f"{where} cannot be read: {error.strerror}") from error
    if read.problems:
        raise UsageError(str(read.problems[0]))
    body = read.documents[0].value if read.documents else None
    if not isinstance(body, dict):
        raise UsageError(f"{where} is not a kubeconfig")
    return body


def _chosen(where: str, document: Mapping[str, Any], context: str | None) -> dict[str, Any]:
    """Return a kubeconfig of the one context that is used, with its cluster and its user."""
    name = context or document.get("current-context")
    if not name:
        raise UsageError(f"{where} has no current-context; name one with the setting context")
    entry = _named(where, document, "contexts", name)
    chosen = {"contexts": [{"name": name, "context": entry}], "current-context": name}
    cluster = entry.get("cluster")
    chosen["clusters"] = [{"name": cluster, "cluster": _named(where, document, "clusters", cluster)}]
    user = entry.get("user")
    chosen["users"] = [{"name": user, "user": _named(where, document, "users", user)}]
    return chosen


def _named(where: str, document: Mapping[str, Any], kind: str, name: Any) -> dict[str, Any]:
    entries = document.get(kind)
    found = [one for one in entries if isinstance(one, dict) and one.get("name") == name] if entries else []
    value = found[0].get(kind[:-1]) if len(found) == 1 else None
    if not isinstance(value, dict):
        raise UsageError(f"{where} has not exactly one entry {name!r} in {kind}")
    return value


def _refuse(where: str, chosen: Mapping[str, Any], settings: MemberSettings) -> None:
    cluster, user = chosen["clusters"][0]["cluster"], chosen["users"][0]["user"]
    rules = (
        ("exec" in user, settings.allow_exec, "starts a program (exec)", "allowExec"),
        ("auth-provider" in user, settings.insecure_allow_auth_provider, "has an auth-provider", _INSECURE_PROVIDER),
        ("proxy-url" in cluster, settings.insecure_allow_proxy, "has a proxy-url", "insecureAllowProxy"),
        (
            bool(cluster.get("insecure-skip-tls-verify")),
            settings.insecure_skip_tls_verify,
            "says insecure-skip-tls-verify",
            "insecureSkipTlsVerify",
        ),
        (not _is_https(cluster), settings.insecure_allow_http, "has a server that is not https", "insecureAllowHttp"),
    )
    for found, allowed, what, setting in rules:
        if found and not allowed:
            raise UsageError(f"{where} {what}; nothing was done. If that is meant, set {setting}: true for the cluster")


_INSECURE_PROVIDER = "insecureAllowAuthProvider"


def _is_https(cluster: Mapping[str, Any]) -> bool:
    return str(cluster.get("server", "")).startswith("https://")


# -- loading ---------------------------------------------------------------------------------------------------------


def _access(where: str, chosen: dict[str, Any], settings: MemberSettings) -> Access:
    cluster = chosen["clusters"][0]["cluster"]
    with tempfile.TemporaryDirectory(prefix="reconciler-") as private:  # 0700, and gone when this is done
        loaded = _load_officially(where, chosen, settings.kubeconfig.parent, private)
        trust = _trust(loaded, verify=not cluster.get("insecure-skip-tls-verify")) if _is_https(cluster) else None
    address = urlsplit(str(cluster["server"]))
    if not address.hostname or address.username or address.query:
        raise UsageError(f"{where}: server is not an address such as https://host:6443")
    return Access(
        host=address.hostname,
        port=address.port or (443 if trust else 80),
        path=address.path.rstrip("/"),
        trust=trust,
        tls_name=cluster.get("tls-server-name"),
        proxy=cluster.get("proxy-url"),
        headers=_headers(loaded),
    )


def _load_officially(where: str, chosen: dict[str, Any], folder: Path, private: str) -> Any:
    # takes a second to import, so only where a cluster is really reached
    from kubernetes.client import Configuration  # noqa: PLC0415 - the one place that imports the client
    from kubernetes.config.config_exception import ConfigException  # noqa: PLC0415
    from kubernetes.config.kube_config import KubeConfigLoader  # noqa: PLC0415

    loaded = Configuration()
    base = str(folder.absolute())
    loader: Any = KubeConfigLoader(config_dict=chosen, config_base_path=base, temp_file_path=private)  # type: ignore[no-untyped-call]
    try:
        loader.load_and_set(loaded)
    except ConfigException as error:
        raise UsageError(f"{where}: {line(str(error))}") from error
    return loaded


def _trust(loaded: Any, *, verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=loaded.ssl_ca_cert)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = DeadlineSocket
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if loaded.cert_file:
        context.load_cert_chain(loaded.cert_file, loaded.key_file)
    return context


def _headers(loaded: Any) -> dict[str, str]:
    token = loaded.api_key.get("BearerToken")
    if token and any(character in token.rstrip() for character in "\r\n"):
        raise ValueError("the token has more than one line")
    return {"Authorization": token.rstrip()} if token else {}
