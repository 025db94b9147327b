"""Real git servers on loopback for tests: bare repositories, smart HTTP with misbehaviour on demand, and sshd.

Nothing is imitated but the transport's faults: `git http-backend` and `sshd` do the serving.
"""

import base64
import gzip
import os
import shlex
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

IDENTITY = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Carl",
    "GIT_COMMITTER_EMAIL": "carl@example.org",
    "GIT_TERMINAL_PROMPT": "0",
}


def git(where: Path, *args: str, stdin: bytes | None = None, environment: Mapping[str, str] | None = None) -> str:
    """Run the real git as a person would, in a directory, and return its stdout without the last newline."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        ["git", "-c", "protocol.file.allow=always", *args],
        cwd=where,
        input=stdin if stdin is not None else b"",
        capture_output=True,
        env={**clean, **IDENTITY, **(environment or {})},
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"git {' '.join(args)}: {done.stdout.decode()}{done.stderr.decode()}")
    return done.stdout.decode(errors="surrogateescape").rstrip("\n")


def bare_repository(path: Path) -> Path:
    """Make an empty bare repository that accepts pushes over HTTP too."""
    path.mkdir(parents=True)
    git(path, "init", "--quiet", "--bare", "--initial-branch=main")
    git(path, "config", "http.receivepack", "true")
    return path


def clone_of(remote: Path, path: Path) -> Path:
    """Make a work tree whose `origin` is the remote, with `main` checked out even when the remote is empty."""
    path.mkdir(parents=True)
    git(path, "init", "--quiet", "--initial-branch=main")
    git(path, "remote", "add", "origin", str(remote))
    if git(path, "ls-remote", "origin", "refs/heads/main"):
        git(path, "pull", "--quiet", "origin", "main")
    return path


def commit(clone: Path, files: Mapping[str, str | bytes | None], message: str = "Change") -> str:
    """Write or remove files in a work tree, commit them and return the commit's id."""
    for name, content in files.items():
        path = clone / name
        if content is None:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "--allow-empty", "--allow-empty-message", "--file=-", stdin=message.encode())
    return git(clone, "rev-parse", "HEAD")


def hook(repository: Path, name: str, script: str) -> None:
    """Give a bare repository a hook, in shell."""
    path = repository / "hooks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


# -- smart HTTP -----------------------------------------------------------------------------------------------


@dataclass
class HttpServer:
    """A running smart HTTP server over every repository below `root`; its faults may be set while it runs."""

    root: Path
    url: str = ""
    user: str | None = None
    password: str = ""
    stalls: bool = False
    """Every request is accepted and never answered."""
    redirects_to: str | None = None
    """Every request is sent to this URL, plus its own path."""
    date: str | None = None
    """What the server's clock says in every answer; None: the truth."""
    loses_push_replies: bool = False
    """A push is carried out, then the connection is cut instead of answering."""
    requests: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    """Path with query, and headers, of every request."""
    released: threading.Event = field(default_factory=threading.Event)


@contextmanager
def http_server(root: Path, *, user: str | None = None, password: str = "") -> Iterator[HttpServer]:
    """Serve the bare repositories below `root`, with basic authentication if a user is given."""
    state = HttpServer(root=root, user=user, password=password)
    handler = type("Handler", (_Handler,), {"state": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    state: ClassVar[HttpServer]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def date_time_string(self, timestamp: float | None = None) -> str:
        return self.state.date or super().date_time_string(timestamp)

    def log_message(self, *_: object) -> None:
        """A test's output is its own."""

    def _serve(self) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):
            self._answer(self._body())

    def _answer(self, body: bytes) -> None:
        state = self.state
        state.requests.append((self.path, dict(self.headers)))
        if state.stalls:
            state.released.wait()
            self.close_connection = True
        elif state.redirects_to:
            self._reply(302, {"Location": state.redirects_to + self.path}, b"")
        elif not self._is_authorized():
            self._reply(401, {"WWW-Authenticate": 'Basic realm="fleet"'}, b"who are you?\n")
        else:
            self._backend(body)

    def _is_authorized(self) -> bool:
        if self.state.user is None:
            return True
        expected = base64.b64encode(f"{self.state.user}:{self.state.password}".encode()).decode()
        return self.headers.get("Authorization") == f"Basic {expected}"

    def _backend(self, body: bytes) -> None:
        answer = subprocess.run(
            ["git", "http-backend"], input=body, stdout=subprocess.PIPE, env=self._variables(body), check=True
        ).stdout
        if self.state.loses_push_replies and self.path.endswith("/git-receive-pack"):
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        head, _, content = answer.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self._reply(int(headers.pop("Status", "200").split(" ")[0]), headers, content)

    def _variables(self, body: bytes) -> dict[str, str]:
        path, _, query = self.path.partition("?")
        clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        return {
            **clean,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_PROJECT_ROOT": str(self.state.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "REMOTE_ADDR": "127.0.0.1",
            "REMOTE_USER": self.state.user or "",
        }

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(iter(self._chunk, b""))
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _chunk(self) -> bytes:
        chunk = self.rfile.read(int(self.rfile.readline(), 16))
        self.rfile.readline()
        return chunk

    def _reply(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


# -- ssh ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SshServer:
    """A running sshd on loopback. `key` is a private key it accepts, `known_hosts` names its host key."""

    port: int
    user: str
    key: Path
    known_hosts: Path

    def url(self, repository: Path) -> str:
        """Return the ssh URL of a repository."""
        return f"ssh://{self.user}@127.0.0.1:{self.port}{repository}"


@contextmanager
def ssh_server(folder: Path) -> Iterator[SshServer]:
    """Start sshd for the current user with keys made in `folder`; whoever logs in may run git on any path."""
    folder.mkdir(parents=True)
    for name in ("host", "user"):
        make_key(folder / name)
    port = _free_port()
    known_hosts = folder / "known_hosts"
    known_hosts.write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text(encoding='utf-8')}", encoding="utf-8")
    with _sshd(folder, port) as process:
        _wait_until_it_listens(process, port)
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        yield SshServer(port=port, user=user, key=folder / "user", known_hosts=known_hosts)


def make_key(path: Path) -> None:
    """Make an ed25519 key pair without a pass phrase."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)], check=True)


@contextmanager
def _sshd(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    config = folder / "sshd_config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder / 'host'}\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {folder / 'user.pub'}\nPasswordAuthentication no\nPermitRootLogin yes\n"
        f"SetEnv GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null\nLogLevel ERROR\n",
        encoding="utf-8",
    )
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's privilege separation asks for it
    process = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", str(config)], stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int) -> None:
    pause = threading.Event()
    for _ in range(200):
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if process.poll() is not None:
            break
        pause.wait(0.02)
    words = process.stderr.read().decode() if process.poll() is not None and process.stderr else "it never listened"
    raise AssertionError(f"sshd did not start ({shlex.join(map(str, process.args))}): {words}")  # type: ignore[arg-type]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
