"""Members: real Kubernetes control planes on this machine, started in seconds, gone with the process that started them.

All share one etcd, each under its own prefix; everything else is each one's own: port, CA, certificates, identity.
A complete member rolls out Deployments (kwok plays the kubelet of one node), terminates namespaces, collects garbage
and counts quotas. An incomplete one (`complete=False`) is an API server alone: quicker and half the memory, but pods
find no service account and a deleted namespace stays.

    with Members(count=3) as members:
        members[0].kubectl("get", "nodes")
"""

import base64
import json
import ssl
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

from tests.controlplane import binaries
from tests.controlplane.certificates import Authority, Certificate, es256
from tests.controlplane.processes import ControlPlaneError, Process, ProcessGroup, ReservedPort, wait_until

_HOST = "127.0.0.1"
_CONTROLLERS = ("kube-controller-manager", "kube-scheduler", "kwok")
_SYSTEM_FOLDERS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What kind of members to start."""

    complete: bool = True  # with controller manager, scheduler and kwok
    node: bool = True  # one Node object; only a complete member has one
    audit: str | None = None  # an audit level: Metadata, Request or RequestResponse
    apiserver_flags: tuple[str, ...] = ()  # appended, so a later flag wins over the ones given here


class Member:
    """One control plane. Members makes it; `stop` and `start` take its API server away and bring it back."""

    def __init__(
        self, name: str, folder: Path, *, etcd: str, options: Options, programs: Mapping[str, Path], group: ProcessGroup
    ) -> None:
        """Make its keys and files; nothing runs yet."""
        self.name = name
        self.folder = folder
        self.audit_log = folder / "audit.log"
        self._options = options
        self._programs = programs
        self._group = group
        self._etcd = etcd
        self._port = ReservedPort()
        self._running: dict[str, Process] = {}
        self.authority = Authority(folder, f"{name}-ca")
        self._serving = self.authority.server("kube-apiserver")
        self._admin = self.authority.client("admin", "admin", "system:masters")
        self._service_accounts = self.authority.key("service-accounts")
        self.kubeconfig = self.kubeconfig_through(self.port, "kubeconfig")
        if options.audit:
            _write_json(folder / "audit-policy.json", _audit_policy(options.audit))

    def __repr__(self) -> str:
        """Name it and say where it answers."""
        return f"<Member {self.name} {self.server}>"

    @property
    def port(self) -> int:
        """The port of its API server, the same for its whole life."""
        return self._port.number

    @property
    def server(self) -> str:
        """The address of its API server."""
        return f"https://{_HOST}:{self.port}"

    @property
    def ca_file(self) -> Path:
        """The CA that signed what the API server shows, and what it believes of clients."""
        return self.authority.certificate.cert

    @property
    def admin_cert(self) -> Path:
        """The client certificate of an administrator (system:masters)."""
        return self._admin.cert

    @property
    def admin_key(self) -> Path:
        """The key of `admin_cert`."""
        return self._admin.key

    @property
    def alive(self) -> bool:
        """Whether its API server runs."""
        process = self._running.get("kube-apiserver")
        return process is not None and process.alive

    @property
    def processes(self) -> tuple[Process, ...]:
        """What was started for it and not stopped, ended or not."""
        return tuple(self._running.values())

    def start(self) -> None:
        """Start the API server, and whatever else of it does not run; return when it is ready for use."""
        self._launch("kube-apiserver", self._apiserver_flags())
        self._wait("the API server", self._answers)
        if not self._options.complete:
            return
        for name in _CONTROLLERS:
            self._launch(name, self._controller_flags(name))
        if self._options.node:
            self._ensure_node()
            self._wait("a ready node", self._node_is_ready)
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        self._wait("the default service account", lambda: self._exists(account))

    def stop(self) -> None:
        """Kill the API server as a power cut would; controllers stay and knock, connections to it are refused."""
        process = self._running.pop("kube-apiserver", None)
        if process:
            process.kill()

    def close(self) -> None:
        """Give the port back; the processes end with their group."""
        self._port.close()

    def kubectl(self, *arguments: str, input: str | None = None) -> str:  # noqa: A002 - as subprocess.run names it
        """Run kubectl as administrator and return what it printed; raises `ControlPlaneError` with its words."""
        command = [str(self._programs["kubectl"]), *arguments]
        done = subprocess.run(
            command, input=input, env=self._environment(), cwd=self.folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ControlPlaneError(f"{self.name}: kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def request(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Ask the API server directly, as administrator; raises what urllib raises, with the status in `.code`."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        request = urllib.request.Request(self.server + path, data=data, headers=headers, method=method)
        with urllib.request.urlopen(request, context=self._trust, timeout=10) as response:
            answer: dict[str, Any] = json.load(response)
            return answer

    def uid(self) -> str:
        """Return the uid of its namespace kube-system, by which a cluster is known."""
        return str(self.request("GET", "/api/v1/namespaces/kube-system")["metadata"]["uid"])

    def signed_anew(self, token: str, **claims: int) -> str:
        """Return a service account's token with other claims, signed with the key that its API server believes."""
        header, payload, _ = token.strip().split(".")
        changed = json.loads(base64.urlsafe_b64decode(payload + "==")) | claims
        signed = f"{header}.{_encoded(json.dumps(changed).encode())}"
        return f"{signed}.{_encoded(es256(self._service_accounts, signed.encode()))}"

    def audited(self) -> tuple[dict[str, Any], ...]:
        """Return what the audit log holds, oldest first; empty unless the member was started with `audit`."""
        if not self.audit_log.exists():
            return ()
        return tuple(json.loads(line) for line in self.audit_log.read_text().splitlines())

    def kubeconfig_through(self, port: int, file_name: str | None = None) -> Path:
        """Write a kubeconfig that reaches this member at another local port, a fault proxy's, and return its path."""
        path = self.folder / (file_name or f"kubeconfig-{port}")
        _write_json(path, self._kubeconfig_document(f"https://{_HOST}:{port}"))
        path.chmod(0o600)
        return path

    def serving_certificate(self, name: str) -> Certificate:
        """Issue a certificate with which another local server can pass for this member's API server."""
        return self.authority.server(name)

    @cached_property
    def _trust(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.ca_file))
        context.load_cert_chain(self.admin_cert, self.admin_key)
        return context

    def _launch(self, name: str, flags: Sequence[str]) -> None:
        process = self._running.get(name)
        if process and process.alive:
            return
        command = [str(self._programs[name]), *flags]
        log = self.folder / f"{name}.log"
        self._running[name] = self._group.start(f"{name} of {self.name}", command, log, self._environment())

    def _environment(self) -> dict[str, str]:
        """Keep the person's own kubeconfig, caches and settings out of it."""
        return {"PATH": _SYSTEM_FOLDERS, "HOME": str(self.folder), "KUBECONFIG": str(self.kubeconfig)}

    def _wait(self, what: str, check: Callable[[], bool]) -> None:
        wait_until(f"{what} of {self.name}", check, self.processes)

    def _answers(self) -> bool:
        request = urllib.request.Request(f"{self.server}/readyz")
        try:
            with urllib.request.urlopen(request, context=self._trust, timeout=5) as response:
                return bool(response.status == HTTPStatus.OK)
        except OSError:  # not there yet, or not ready yet (HTTPError is one too)
            return False

    def _exists(self, path: str) -> bool:
        try:
            self.request("GET", path)
        except urllib.error.HTTPError as error:
            if error.code == HTTPStatus.NOT_FOUND:
                return False
            raise
        return True

    def _ensure_node(self) -> None:
        name = f"{self.name}-node"
        if not self._exists(f"/api/v1/nodes/{name}"):
            self.request("POST", "/api/v1/nodes", _node(name))

    def _node_is_ready(self) -> bool:
        node = self.request("GET", f"/api/v1/nodes/{self.name}-node")
        conditions = {condition["type"]: condition["status"] for condition in node["status"].get("conditions", ())}
        return conditions.get("Ready") == "True" and not node["spec"].get("taints")

    def _apiserver_flags(self) -> tuple[str, ...]:
        flags = (
            f"--etcd-servers={self._etcd}",
            f"--etcd-prefix=/{self.name}",
            f"--bind-address={_HOST}",
            f"--advertise-address={_HOST}",
            f"--secure-port={self.port}",
            "--permit-port-sharing=true",
            f"--cert-dir={self.folder}",
            f"--tls-cert-file={self._serving.cert}",
            f"--tls-private-key-file={self._serving.key}",
            f"--client-ca-file={self.ca_file}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={self._service_accounts}",
            f"--service-account-key-file={self._service_accounts}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--authorization-mode=RBAC",
            "--endpoint-reconciler-type=none",
        )
        return flags + self._audit_flags() + self._options.apiserver_flags

    def _audit_flags(self) -> tuple[str, ...]:
        if not self._options.audit:
            return ()
        return (f"--audit-policy-file={self.folder / 'audit-policy.json'}", f"--audit-log-path={self.audit_log}")

    def _controller_flags(self, name: str) -> tuple[str, ...]:
        kubeconfig = f"--kubeconfig={self.kubeconfig}"
        if name == "kwok":
            return (kubeconfig, "--manage-all-nodes=true", "--node-port=0", "--node-lease-duration-seconds=40")
        common = (kubeconfig, "--leader-elect=false", "--secure-port=0", "--kube-api-qps=200", "--kube-api-burst=400")
        if name == "kube-scheduler":
            return common
        token = (f"--service-account-private-key-file={self._service_accounts}", f"--root-ca-file={self.ca_file}")
        return common + token

    def _kubeconfig_document(self, server: str) -> dict[str, Any]:
        cluster = {"server": server, "certificate-authority": str(self.ca_file)}
        user = {"client-certificate": str(self.admin_cert), "client-key": str(self.admin_key)}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": self.name, "cluster": cluster}],
            "users": [{"name": "admin", "user": user}],
            "contexts": [{"name": self.name, "context": {"cluster": self.name, "user": "admin"}}],
            "current-context": self.name,
        }


class Members:
    """A number of members and their etcd; a context manager that leaves nothing running and no temporary file."""

    def __init__(
        self,
        count: int = 3,
        *,
        names: Sequence[str] = (),
        folder: Path | None = None,
        say: binaries.Say = binaries.say_on_stderr,
        complete: bool = True,
        node: bool = True,
        audit: str | None = None,
        apiserver_flags: Sequence[str] = (),
    ) -> None:
        """Say what to start: `names` (else member-1 …), an empty `folder` to keep (else a temporary one), `Options`."""
        self._names = tuple(names) or tuple(f"member-{number}" for number in range(1, count + 1))
        self._options = Options(complete=complete, node=node, audit=audit, apiserver_flags=tuple(apiserver_flags))
        self._given_folder = folder
        self._say = say
        self._members: tuple[Member, ...] = ()
        self._etcd: Process | None = None
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        """Start everything; raises `ControlPlaneError` with the logs, or `BinariesUnavailableError`."""
        with ExitStack() as stack:
            self._start(stack)
            self._undo = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Kill everything, wait for it, and remove the temporary folder."""
        self._undo.close()

    def __len__(self) -> int:
        """Count the members."""
        return len(self._members)

    def __iter__(self) -> Iterator[Member]:
        """Go through the members in order."""
        return iter(self._members)

    def __getitem__(self, key: int | str) -> Member:
        """Return a member by position or by name."""
        if isinstance(key, int):
            return self._members[key]
        return next(member for member in self._members if member.name == key)

    @property
    def processes(self) -> tuple[Process, ...]:
        """Every process that should run."""
        own = (self._etcd,) if self._etcd else ()
        return own + tuple(process for member in self._members for process in member.processes)

    def _start(self, stack: ExitStack) -> None:
        programs = binaries.find(binaries.COMPLETE if self._options.complete else binaries.QUICK, self._say)
        folder = self._folder(stack)
        group = ProcessGroup([] if self._given_folder else [folder])
        stack.callback(group.close)
        address = self._start_etcd(stack, folder / "etcd", programs["etcd"], group)
        with ThreadPoolExecutor(len(self._names)) as pool:
            make = partial(self._member, folder, etcd=address, programs=programs, group=group)
            self._members = tuple(pool.map(make, self._names))
            for member in self._members:
                stack.callback(member.close)
            list(pool.map(Member.start, self._members))

    def _folder(self, stack: ExitStack) -> Path:
        if self._given_folder:
            self._given_folder.mkdir(parents=True, exist_ok=True)
            return self._given_folder.resolve()
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="members-", ignore_cleanup_errors=True)))

    def _member(
        self, folder: Path, name: str, *, etcd: str, programs: Mapping[str, Path], group: ProcessGroup
    ) -> Member:
        return Member(name, folder / name, etcd=etcd, options=self._options, programs=programs, group=group)

    def _start_etcd(self, stack: ExitStack, folder: Path, program: Path, group: ProcessGroup) -> str:
        folder.mkdir(mode=0o700)
        clients, peers = ReservedPort(), ReservedPort()
        stack.callback(clients.close)
        stack.callback(peers.close)
        client_url, peer_url = (f"http://{_HOST}:{port.number}" for port in (clients, peers))
        command = (
            str(program),
            f"--data-dir={folder / 'data'}",
            f"--listen-client-urls={client_url}",
            f"--advertise-client-urls={client_url}",
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            f"--initial-cluster=default={peer_url}",
            "--socket-reuse-port=true",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )
        self._etcd = group.start("etcd", command, folder / "etcd.log", {"PATH": _SYSTEM_FOLDERS})
        wait_until("etcd", partial(_is_healthy, f"{client_url}/health"), [self._etcd])
        return client_url


def _is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == HTTPStatus.OK)
    except OSError:
        return False


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _write_json(path: Path, document: object) -> None:
    path.write_text(json.dumps(document, indent=2) + "\n")


def _audit_policy(level: str) -> dict[str, Any]:
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": level}],
    }


def _node(name: str) -> dict[str, Any]:
    metadata = {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "type": "kwok"}}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata}


def merged(members: Iterable[Member]) -> dict[str, Any]:
    """Return one kubeconfig of many members, with a context and a user of its own for each."""
    documents = [json.loads(member.kubeconfig.read_text()) for member in members]
    names = [document["current-context"] for document in documents]
    contexts = [{"name": name, "context": {"cluster": name, "user": name}} for name in names]
    pairs = list(zip(names, documents, strict=True))
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": document["clusters"][0]["cluster"]} for name, document in pairs],
        "users": [{"name": name, "user": document["users"][0]["user"]} for name, document in pairs],
        "contexts": contexts,
        "current-context": names[0],
    }
