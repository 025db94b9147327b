"""From the operator's kubeconfig to a way in: address, trust and credentials; nothing is asked of the member here.

A kubeconfig is a program: loading one can start commands, read any file and send what it read to any server. So the
file is read by our own YAML door, whatever the settings do not allow is refused before anybody acts on it, and only
for `exec` and `auth-provider` does the official client read what is said of them. It keeps certificates in temporary
files, known to all threads and locked for none, so it never sees one: they go from memory into TLS.
"""

import base64
import ssl
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from reconciler.delivery.kubernetes import impersonation, program
from reconciler.delivery.kubernetes.deadline import DeadlineSocket
from reconciler.delivery.kubernetes.settings import MemberSettings
from reconciler.documents import yaml
from reconciler.errors import UsageError
from reconciler.redact import line

Place = tuple[str, str | None, str | None, bytes]
"""Where a way leads: the server, its name in TLS, the proxy, and whose certificates are trusted."""


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
    impersonation: tuple[tuple[str, str], ...] = ()
    """As whom we act: more headers, of which one name may come several times; none where we act as ourselves."""
    authority: bytes = field(default=b"", repr=False)
    """The certificates that are trusted, in PEM; none for those of the system, or plain http."""

    @property
    def place(self) -> Place:
        """Where it leads: another one may be another cluster."""
        return self.server, self.tls_name, self.proxy, self.authority

    @property
    def server(self) -> str:
        """The address, as messages show it."""
        return f"{'https' if self.trust else 'http'}://{self.host}:{self.port}{self.path}"


def load(settings: MemberSettings) -> Access:
    """Read the kubeconfig and its credentials.

    Raises:  UsageError for what is missing, broken or not allowed, TemporaryError for a program that does not end.
    """
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
    proxy = urlsplit(str(cluster.get("proxy-url") or ""))
    if proxy.scheme not in ("", "http", "https") or proxy.username or proxy.password:
        raise UsageError(f"{where}: proxy-url has to be an http or https address, without a user or a password")


_INSECURE_PROVIDER = "insecureAllowAuthProvider"


def _is_https(cluster: Mapping[str, Any]) -> bool:
    return str(cluster.get("server", "")).startswith("https://")


# -- loading ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Credentials:
    """What proves who we are: an `Authorization`, a certificate with its key, both, or nothing."""

    authorization: str = ""
    certificate: bytes = field(default=b"", repr=False)
    key: bytes = field(default=b"", repr=False)


def _access(where: str, chosen: dict[str, Any], settings: MemberSettings) -> Access:
    cluster, folder = chosen["clusters"][0]["cluster"], settings.kubeconfig.parent.absolute()
    acting_as = impersonation.headers(chosen["users"][0]["user"])
    credentials = _credentials(where, chosen, folder, settings.timeout_seconds)
    trust, authority = None, b""
    if _is_https(cluster):
        authority = _file_or_data(cluster, "certificate-authority", folder)
        trust = _trust(authority, credentials, verify=not cluster.get("insecure-skip-tls-verify"))
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
        headers=_headers(credentials.authorization),
        impersonation=acting_as,
        authority=authority,
    )


def _file_or_data(entry: Mapping[str, Any], name: str, folder: Path) -> bytes:
    """Return what `NAME-data` holds in base64, else what is in the file `NAME`, else nothing."""
    if f"{name}-data" in entry:
        return base64.b64decode(str(entry[f"{name}-data"] or ""))
    return (folder / str(entry[name])).read_bytes() if entry.get(name) else b""


def _headers(authorization: str) -> dict[str, str]:
    value = authorization.rstrip()
    if any(character in value for character in "\r\n"):
        raise ValueError("the token has more than one line")
    return {"Authorization": value} if value else {}


# -- who we are --------------------------------------------------------------------------------------------------------


def _credentials(where: str, chosen: dict[str, Any], folder: Path, seconds: float) -> _Credentials:
    """Return the credentials of the user: of a provider, else a token, else of a program, else a password.

    `seconds` is how long a program may take.
    """
    user = chosen["users"][0]["user"]
    certificate, key = (_file_or_data(user, name, folder) for name in ("client-certificate", "client-key"))
    authorization = _of_a_provider(where, chosen, folder) if "auth-provider" in user else ""
    authorization = authorization or _token(user, folder)
    if not authorization and "exec" in user:
        made = _of_a_program(where, chosen, folder, seconds)
        return made if made.certificate else replace(made, certificate=certificate, key=key)
    if not authorization and "username" in user and "password" in user:
        pair = f"{user['username']}:{user['password']}".encode()
        authorization = f"Basic {base64.b64encode(pair).decode('ascii')}"
    return _Credentials(authorization=authorization, certificate=certificate, key=key)


def _token(user: Mapping[str, Any], folder: Path) -> str:
    if user.get("token"):
        token = str(user["token"])
    elif user.get("tokenFile"):
        token = (folder / str(user["tokenFile"])).read_text(encoding="utf-8")
    else:
        return ""
    return f"Bearer {token}" if token.strip() else ""


def _of_a_program(where: str, chosen: dict[str, Any], folder: Path, seconds: float) -> _Credentials:
    # the client takes half a second to import, so only where a program is really to be started
    from kubernetes.config.config_exception import ConfigException  # noqa: PLC0415 - the one place that imports it
    from kubernetes.config.exec_provider import ExecProvider  # noqa: PLC0415
    from kubernetes.config.kube_config import ConfigNode  # noqa: PLC0415

    user: Any = ConfigNode("user", chosen["users"][0]["user"])  # type: ignore[no-untyped-call]
    cluster: Any = ConfigNode("cluster", chosen["clusters"][0]["cluster"])  # type: ignore[no-untyped-call]
    try:
        provider: Any = ExecProvider(user["exec"], str(folder), cluster)  # type: ignore[no-untyped-call]
    except (ConfigException, KeyError, TypeError) as error:
        raise UsageError(f"{where}: exec cannot be used: {line(str(error))}") from error
    status = program.status_of(where, provider, seconds)
    token, certificate, key = (str(status.get(name) or "") for name in _OF_EXEC)
    if not token and not (certificate and key):
        raise UsageError(f"{where}: the program of exec answered without a token, and without certificate and key")
    return _Credentials(
        authorization=f"Bearer {token}" if token else "", certificate=certificate.encode(), key=key.encode()
    )


_OF_EXEC = ("token", "clientCertificateData", "clientKeyData")


def _of_a_provider(where: str, chosen: dict[str, Any], folder: Path) -> str:
    from kubernetes.client import Configuration  # noqa: PLC0415 - as above
    from kubernetes.config.config_exception import ConfigException  # noqa: PLC0415
    from kubernetes.config.kube_config import KubeConfigLoader  # noqa: PLC0415

    user = {"auth-provider": chosen["users"][0]["user"]["auth-provider"]}
    bare = {
        **chosen,
        "clusters": [{**chosen["clusters"][0], "cluster": {"server": "https://unused"}}],
        "users": [{**chosen["users"][0], "user": user}],
    }
    loaded = Configuration()
    try:
        KubeConfigLoader(config_dict=bare, config_base_path=str(folder)).load_and_set(loaded)  # type: ignore[no-untyped-call]
    except ConfigException as error:
        raise UsageError(f"{where}: {line(str(error))}") from error
    return loaded.api_key.get("BearerToken") or ""


# -- whom we trust -----------------------------------------------------------------------------------------------------


class _Trust(ssl.SSLContext):
    """A context that several threads connect with.

    urllib3 sets the protocols anew for each connection, which frees what a connection of another thread just copies.
    """

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        """Leave them as they were first set."""


def _trust(authority: bytes, credentials: _Credentials, *, verify: bool) -> ssl.SSLContext:
    if not credentials.certificate:
        return _shared_trust(authority, verify=verify)
    context = _new_trust(authority, verify=verify)
    with tempfile.TemporaryDirectory(prefix="reconciler-") as private:  # 0700; OpenSSL reads a key from files alone
        file = Path(private) / "pair"
        file.write_bytes(credentials.certificate + b"\n" + credentials.key)
        context.load_cert_chain(file)
    return context


@lru_cache(maxsize=64)
def _shared_trust(authority: bytes, *, verify: bool) -> ssl.SSLContext:
    """Return one context for all members of a CA: it holds no credentials, and each costs memory and time."""
    return _new_trust(authority, verify=verify)


def _new_trust(authority: bytes, *, verify: bool) -> ssl.SSLContext:
    context = _Trust(ssl.PROTOCOL_TLS_CLIENT)
    ssl.SSLContext.set_alpn_protocols(context, ["http/1.1"])
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = DeadlineSocket
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if authority:
        context.load_verify_locations(cadata=authority.decode("ascii", errors="ignore"))
    else:
        context.load_default_certs()
    return context
