"""Members that cost nothing: N Kubernetes API servers on loopback ports, in one process, each answering after 20 ms.

They know ConfigMaps, Namespaces and Secrets and the kinds of apps/v1, keep what they are given in memory, and have no
controllers. They are fast and honest about conflicts, and nothing else about them is like a real member.

    python benchmarks/stub.py --members 100 --dir DIR      serves until it is ended; DIR/<member>.kubeconfig each
"""

import argparse
import asyncio
import base64
import functools
import hmac
import json
import re
import resource
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import uuid
from asyncio import sslproto
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from time import time
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

DELAY_SECONDS = 0.02
"""What a request to a member in the same region takes, as a rule."""

READY = "ready"

COUNT = "/stub/served"
"""The path at which every member tells how many requests all of them have carried out."""

_SPACE = uuid.UUID("9a1c8e1e-6c0e-4c1c-8f0e-6f2b3d5a7c11")
_NAMES = ("name", "namespace")
_BORN = "2026-01-01T00:00:00Z"
_READY_SECONDS = 60.0
_TLS_BUFFER_BYTES = 32 * 1024
_VERBS = "create delete get list patch update".split()
_PRETENDED = "v1.34.0"
_VERSION = "gitCommit gitTreeState buildDate goVersion compiler platform".split()

KINDS: Mapping[str, Mapping[str, tuple[str, bool]]] = {
    "v1": {"configmaps": ("ConfigMap", True), "namespaces": ("Namespace", False), "secrets": ("Secret", True)},
    "apps/v1": {
        "daemonsets": ("DaemonSet", True),
        "deployments": ("Deployment", True),
        "replicasets": ("ReplicaSet", True),
        "statefulsets": ("StatefulSet", True),
    },
}
"""Group version → plural → kind, and whether it is namespaced."""

REVIEWS = {
    "/apis/authentication.k8s.io/v1/selfsubjectreviews": {"userInfo": {"username": "bench", "groups": ["system:all"]}},
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews": {"allowed": True},
}
"""Path → the status of every answer: the client is known and may do everything."""

_APPLY = "application/apply-patch+yaml"
_MERGES = ("application/merge-patch+json", "application/strategic-merge-patch+json")  # the same where no list is

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    415: "UnsupportedMediaType",
}

Body = dict[str, Any]


class Refusal(Exception):
    """An answer that is no success: code, `reason` where the code alone does not say it, and what it is about."""

    def __init__(self, code: int, message: str, reason: str = "", about: "Target | None" = None) -> None:
        super().__init__(message)
        self.code, self.reason, self.about = code, reason or _REASONS[code], about


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, its target taken apart; `body` is empty when it had none."""

    method: str
    path: str
    query: Mapping[str, str]
    content_type: str
    body: Body


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a path names: a collection, or one object of it (`name`)."""

    group_version: str
    plural: str
    namespace: str
    name: str

    @property
    def kind(self) -> str:
        """The kind of its objects."""
        return KINDS[self.group_version][self.plural][0]


# -- one member ----------------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Member:
    """A member and everything in it, by target."""

    name: str
    token: str
    objects: dict[Target, Body] = field(default_factory=dict)
    version: int = 1

    def __post_init__(self) -> None:
        for name in ("default", "kube-system"):
            target = Target(group_version="v1", plural="namespaces", namespace="", name=name)
            self._put(target, {"metadata": {}}, None, "Update")

    def answer(self, request: Request) -> Body:
        """Carry the request out; raises Refusal."""
        if request.path in REVIEWS:
            return {**request.body, "status": REVIEWS[request.path]}
        if (found := discovery(request.path)) is not None:
            return found
        target = target_of(request.path)
        verb = (request.method, bool(target.name))
        if verb not in _ACTIONS:
            raise Refusal(405, f"{request.method} {request.path} is nothing that a member does")
        return _ACTIONS[verb](self, target, request)

    def get(self, target: Target, _: Request | None = None) -> Body:
        """Return the object."""
        body = self.objects.get(target)
        if body is None:
            raise Refusal(404, f'{target.plural} "{target.name}" not found', about=target)
        return body

    def list(self, target: Target, request: Request) -> Body:
        """Return the objects of the collection that the label selector picks."""
        picks = selector(request.query.get("labelSelector", ""))
        items = [body for key, body in self.objects.items() if _is_in(key, target) and picks(_labels(body))]
        metadata = {"resourceVersion": str(self.version)}
        return {"apiVersion": target.group_version, "kind": f"{target.kind}List", "metadata": metadata, "items": items}

    def create(self, target: Target, request: Request) -> Body:
        """Make the object, which must not exist."""
        target = _named(target, request.body)
        if target in self.objects:
            raise Refusal(409, f'{target.plural} "{target.name}" already exists', "AlreadyExists")
        return self._write(target, request.body, request)

    def replace(self, target: Target, request: Request) -> Body:
        """Put the body in the object's place."""
        self.get(target)
        return self._write(target, request.body, request)

    def patch(self, target: Target, request: Request) -> Body:
        """Apply (server-side apply: the body is the object) or merge the body into what is there."""
        if request.content_type == _APPLY:
            return self._write(target, request.body, request)
        if request.content_type in _MERGES:
            return self._write(target, _merged(self.get(target), request.body), request, patch=request.body)
        raise Refusal(415, f"a patch of type {request.content_type} is not understood here")

    def delete(self, target: Target, request: Request) -> Body:
        """Remove the object, if the preconditions hold."""
        body = self.get(target)
        wanted = request.body.get("preconditions") or {}
        for name in ("uid", "resourceVersion"):
            if name in wanted and wanted[name] != body["metadata"][name]:
                raise Refusal(409, f"the {name} in the precondition is {wanted[name]}, not {body['metadata'][name]}")
        if "dryRun" not in request.query:
            self.version += 1
            del self.objects[target]
        return {"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Success"}

    def _write(self, target: Target, body: Body, request: Request, *, patch: Body | None = None) -> Body:
        """Store the body if its resourceVersion, where it names one, is still that of the object."""
        if target.namespace:
            self.get(Target(group_version="v1", plural="namespaces", namespace="", name=target.namespace))
        live = self.objects.get(target)
        stated = ((body if patch is None else patch).get("metadata") or {}).get("resourceVersion")
        if stated and (live is None or live["metadata"]["resourceVersion"] != stated):
            raise Refusal(409, f'{target.plural} "{target.name}": the object has been modified; get it again')
        operation = "Apply" if request.content_type == _APPLY else "Update"
        return self._put(target, body, live, operation, **request.query)

    def _put(self, target: Target, body: Body, live: Body | None, operation: str, **query: str) -> Body:
        """Give the body what an API server gives, and keep it unless nothing changed or it is a dry run."""
        written_by = {"manager": query.get("fieldManager", "stub"), "operation": operation}
        stored = _completed(self.name, target, body, live, written_by)
        if live is not None and stored == live:
            return live
        stored["metadata"]["resourceVersion"] = str(self.version + 1)
        if "dryRun" not in query:
            self.version += 1
            self.objects[target] = stored
        return stored


_ACTIONS: Mapping[tuple[str, bool], Callable[[Member, Target, Request], Body]] = {
    ("GET", True): Member.get,
    ("GET", False): Member.list,
    ("POST", False): Member.create,
    ("PUT", True): Member.replace,
    ("PATCH", True): Member.patch,
    ("DELETE", True): Member.delete,
}
"""Method, and whether the path names one object → what a member does."""


def _completed(member: str, target: Target, body: Body, live: Body | None, written_by: Mapping[str, str]) -> Body:
    server_made = {"uid", "creationTimestamp", "resourceVersion", "generation", "managedFields"}
    stated = {name: value for name, value in (body.get("metadata") or {}).items() if name not in server_made}
    if live is None:
        uid = uuid.uuid5(_SPACE, f"{member}/{target}")
        before = {"uid": str(uid), "creationTimestamp": _BORN, "resourceVersion": "0"}
    else:
        before = {name: live["metadata"][name] for name in ("uid", "creationTimestamp", "resourceVersion")}
    scope = {"namespace": target.namespace} if target.namespace else {}
    rest = {name: value for name, value in body.items() if name not in ("apiVersion", "kind", "metadata")}
    owned = {
        **written_by,
        "apiVersion": target.group_version,
        "time": _BORN,
        "fieldsType": "FieldsV1",
        "fieldsV1": _fields(rest | {"metadata": {name: stated[name] for name in stated if name not in _NAMES}}),
    }
    metadata = {**stated, "name": target.name, **scope, **before, "managedFields": [owned]}
    return {"apiVersion": target.group_version, "kind": target.kind, "metadata": metadata, **rest}


def _fields(value: Any) -> Body:
    return {f"f:{name}": _fields(one) for name, one in value.items()} if isinstance(value, dict) else {}


def _merged(body: Any, patch: Any) -> Any:
    """Merge as RFC 7396 says."""
    if not isinstance(patch, dict):
        return patch
    kept = body if isinstance(body, dict) else {}
    merged = {name: _merged(kept.get(name), value) for name, value in patch.items() if value is not None}
    return {name: value for name, value in kept.items() if name not in patch} | merged


def _named(target: Target, body: Body) -> Target:
    name = (body.get("metadata") or {}).get("name")
    if not name:
        raise Refusal(400, "metadata.name is missing")
    return Target(group_version=target.group_version, plural=target.plural, namespace=target.namespace, name=name)


def _is_in(key: Target, collection: Target) -> bool:
    same = (key.group_version, key.plural) == (collection.group_version, collection.plural)
    return same and collection.namespace in ("", key.namespace)


def _labels(body: Body) -> Mapping[str, str]:
    return body["metadata"].get("labels") or {}


# -- paths, discovery, selectors -----------------------------------------------------------------------------------


@functools.lru_cache(maxsize=65536)
def target_of(path: str) -> Target:
    """Take a path of the API apart; raises Refusal."""
    words = [unquote(word) for word in path.strip("/").split("/")]
    group_version, rest = (words[1], words[2:]) if words[0] == "api" else ("/".join(words[1:3]), words[3:])
    namespace, is_scoped = (rest[1], True) if len(rest) > 2 and rest[0] == "namespaces" else ("", False)  # noqa: PLR2004
    plural, *name = rest[2:] if is_scoped else rest or [""]
    if len(name) > 1 or plural not in KINDS.get(group_version, {}):
        raise Refusal(404, f"the server could not find the requested resource: {path}")
    return Target(group_version=group_version, plural=plural, namespace=namespace, name=name[0] if name else "")


@functools.cache
def discovery(path: str) -> Body | None:
    """Return the answer of a discovery path, or None."""
    groups = [name for name in KINDS if "/" in name]
    pages: dict[str, Body] = {
        "/version": dict.fromkeys(_VERSION, "stub") | {"major": "1", "minor": "34", "gitVersion": _PRETENDED},
        "/api": {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(name) for name in groups]},
        "/api/v1": _resources("v1"),
    }
    pages |= {f"/apis/{name}": _resources(name) for name in groups}
    pages |= {
        f"/apis/{name.split('/')[0]}": {"kind": "APIGroup", "apiVersion": "v1", **_group(name)} for name in groups
    }
    return pages.get(path)


def _group(group_version: str) -> Body:
    name, version = group_version.split("/")
    one = {"groupVersion": group_version, "version": version}
    return {"name": name, "versions": [one], "preferredVersion": one}


def _resources(group_version: str) -> Body:
    resources = [
        {"name": plural, "singularName": kind.lower(), "namespaced": is_namespaced, "kind": kind, "verbs": _VERBS}
        for plural, (kind, is_namespaced) in KINDS[group_version].items()
    ]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}


_REQUIREMENT = re.compile(r"\s*(!?)([^\s=!,()]+)\s*(?:(==|!=|=|notin\b|in\b)\s*(\([^)]*\)|[^,]*))?\s*(?:,|$)")


@functools.lru_cache(maxsize=4096)
def selector(text: str) -> Callable[[Mapping[str, str]], bool]:
    """Return what tells whether labels fit a selector; raises Refusal for one that is not understood."""
    needs, at = [], 0
    while at < len(text):
        found = _REQUIREMENT.match(text, at)
        if found is None or found.end() == at:
            raise Refusal(400, f"unable to parse the label selector {text!r}")
        needs.append(_requirement(*found.groups(default="")))
        at = found.end()
    return lambda labels: all(need(labels) for need in needs)


def _requirement(no: str, key: str, operator: str, values: str) -> Callable[[Mapping[str, str]], bool]:
    if not operator:
        return lambda labels: (key in labels) != bool(no)
    wanted = {value.strip() for value in values.strip("() ").split(",")}
    if operator in ("!=", "notin"):
        return lambda labels: labels.get(key) not in wanted
    return lambda labels: labels.get(key) in wanted


# -- HTTP ----------------------------------------------------------------------------------------------------------


class Connection(asyncio.Protocol):
    """One client of one member: requests are carried out as they come, and answered after the delay, in order."""

    served = 0
    """How many requests the whole process has carried out."""

    def __init__(self, member: Member, delay: float) -> None:
        self._member, self._delay = member, delay
        self._waiting = b""
        self._expected = f"Bearer {member.token}".encode()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self._waiting += data
        while (end := self._waiting.find(b"\r\n\r\n")) >= 0:
            first, *lines = self._waiting[:end].split(b"\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
            length = end + 4 + int(headers.get(b"content-length", 0))
            if len(self._waiting) < length:
                return
            body, self._waiting = self._waiting[end + 4 : length], self._waiting[length:]
            self._loop.call_later(self._delay, self._send, self._answer(first, headers, body))

    def _send(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def _admit(self, given: bytes) -> None:
        if not hmac.compare_digest(given, self._expected):
            raise Refusal(401, "Unauthorized")

    def _answer(self, first: bytes, headers: Mapping[bytes, bytes], data: bytes) -> bytes:
        Connection.served += 1
        try:
            self._admit(headers.get(b"authorization", b""))
            request = _request(first, headers, data)
            body = {"served": Connection.served} if request.path == COUNT else self._member.answer(request)
            code = 201 if request.method == "POST" else 200
        except Refusal as refusal:
            code, body = refusal.code, _status(refusal)
        except Exception as error:  # noqa: BLE001 - what else goes wrong is the request's own, and is told
            code, body = 400, _status(Refusal(400, f"{type(error).__name__}: {error}"))
        content = _encode(body).encode()
        head = f"HTTP/1.1 {code} {code}\r\nContent-Type: application/json\r\nDate: {_date(int(time()))}\r\n"
        return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


def _request(first: bytes, headers: Mapping[bytes, bytes], data: bytes) -> Request:
    method, url, _ = first.decode("ascii").split(" ")
    path, query = _split(url)
    return Request(
        method=method,
        path=path,
        query=query,
        content_type=headers.get(b"content-type", b"").decode("ascii").partition(";")[0],
        body=json.loads(data) if data else {},
    )


@functools.lru_cache(maxsize=4096)
def _split(url: str) -> tuple[str, Mapping[str, str]]:
    parts = urlsplit(url)
    return parts.path.rstrip("/"), dict(parse_qsl(parts.query, keep_blank_values=True))


@functools.lru_cache(maxsize=2)
def _date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


_encode = json.JSONEncoder(separators=(",", ":")).encode


def _status(refusal: Refusal) -> Body:
    words = {"status": "Failure", "message": str(refusal), "reason": refusal.reason, "code": refusal.code}
    details = {"kind": refusal.about.plural, "name": refusal.about.name} if refusal.about else {}
    return {"apiVersion": "v1", "kind": "Status", "metadata": {}, "details": details, **words}


# -- certificates and kubeconfigs ----------------------------------------------------------------------------------


def make_certificates(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """Make a CA and one serving certificate for 127.0.0.1 in the folder; return the CA and the servers' context."""
    folder.mkdir(parents=True, exist_ok=True)
    authority, serving = folder / "ca", folder / "serving"
    _openssl("/CN=stub members", authority, "-addext", "basicConstraints=critical,CA:true")
    signed = ("-CA", f"{authority}.crt", "-CAkey", f"{authority}.key")
    _openssl("/CN=127.0.0.1", serving, *signed, "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{serving}.crt", f"{serving}.key")
    return Path(f"{authority}.crt"), context


def _openssl(subject: str, path: Path, *options: str) -> None:
    program = shutil.which("openssl")
    if program is None:
        raise SystemExit("no openssl on the PATH; the stub needs it for its certificates")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{path}.key")
    command = [program, "req", "-x509", "-subj", subject, "-days", "7", *key, "-out", f"{path}.crt", *options]
    subprocess.run(command, check=True, capture_output=True)


def kubeconfig(member: Member, port: int, authority: Path) -> str:
    """Return a kubeconfig for the member, as JSON, which is YAML too."""
    data = base64.b64encode(authority.read_bytes()).decode()
    cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority-data": data}
    context = {"cluster": member.name, "user": "bench"}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": member.name, "cluster": cluster}],
        "users": [{"name": "bench", "user": {"token": member.token}}],
        "contexts": [{"name": member.name, "context": context}],
        "current-context": member.name,
    }
    return json.dumps(document, indent=1) + "\n"


# -- the process ---------------------------------------------------------------------------------------------------


async def serve(count: int, folder: Path, delay: float) -> None:
    """Serve the members until the process is asked to end."""
    # asyncio keeps a buffer of this size for every TLS connection, and a thousand members have thousands of them
    sslproto.SSLProtocol.max_size = _TLS_BUFFER_BYTES
    authority, context = make_certificates(folder)
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, ended.set)
    for number in range(1, count + 1):
        member = Member(name=f"member-{number:04d}", token=f"token-{uuid.uuid4()}")
        listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        await loop.create_server(functools.partial(Connection, member, delay), sock=listener, ssl=context)
        config = kubeconfig(member, listener.getsockname()[1], authority)
        (folder / f"{member.name}.kubeconfig").write_text(config, encoding="utf-8")
    print(READY, flush=True)
    await ended.wait()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu = usage.ru_utime + usage.ru_stime
    print(f"members: {count} ended, {cpu:.1f} s of CPU, {usage.ru_maxrss // 1024} MiB", flush=True)


@contextmanager
def serving(count: int, folder: Path, delay: float = DELAY_SECONDS) -> Iterator[dict[str, Path]]:
    """Serve from a process of its own; give each member's kubeconfig by name, in order."""
    command = [sys.executable, __file__, "--members", str(count), "--dir", str(folder), "--delay", str(delay)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], _READY_SECONDS)
        if not readable or process.stdout.readline().strip() != READY:
            raise SystemExit("the stub members did not come up")
        yield {file.stem: file for file in sorted(folder.glob("member-*.kubeconfig"))}
    finally:
        process.terminate()
        rest, _ = process.communicate(timeout=_READY_SECONDS)
        print(rest.strip())


def allow_files() -> None:
    """Raise the limit on open files as far as the system lets us: a port and some connections for each member."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> None:
    parser = argparse.ArgumentParser(description="stub members for benchmarks", allow_abbrev=False)
    parser.add_argument("--members", type=int, default=100)
    parser.add_argument("--dir", type=Path, help="where certificates and kubeconfigs go")
    parser.add_argument("--delay", type=float, default=DELAY_SECONDS, help="seconds before each answer")
    options = parser.parse_args()
    if options.dir is None:
        print("members for the other benchmarks; give --dir DIR to serve them by hand")
        return
    allow_files()
    asyncio.run(serve(options.members, options.dir, options.delay))


if __name__ == "__main__":
    main()
