"""Proxies that stand between a client and a server and misbehave on request; switch them at any time.

`FaultProxy` knows bytes only, so TLS passes through it to a member (whose certificate is good for 127.0.0.1) and it
can do what networks do. `ApiFaultProxy` ends TLS with a certificate of the member's CA, so it can do what API servers
do: answer 429, 500 or 401. Put the first in front of the second to have both.

    with FaultProxy(("127.0.0.1", member.port)) as proxy:
        kubeconfig = member.kubeconfig_through(proxy.port)
        proxy.switch(BlackHole())
"""

import json
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from reconciler.clock import monotonic
from tests.controlplane.members import Member
from tests.controlplane.processes import ReservedPort

_HOST = "127.0.0.1"
_CHUNK = 65536
_GLANCE = 0.02  # seconds between looks at whether the connection is to be dropped
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer", "date", "server"}
_WITHOUT_BODY = {204, 304}
_REASONS = {
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


@dataclass(frozen=True, slots=True)
class Pass:
    """Hand on everything."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Do not listen; open connections are reset."""


@dataclass(frozen=True, slots=True)
class BlackHole:
    """Accept and read, never answer; nothing reaches the server."""


@dataclass(frozen=True, slots=True)
class ResetMidBody:
    """Reset each connection once it has answered this many bytes more.

    With 0 the request arrives and its answer is lost. Through TLS these are encrypted bytes, the handshake among them.
    """

    after: int


@dataclass(frozen=True, slots=True)
class Drip:
    """Answer one byte per period, in seconds."""

    period: float = 0.2


@dataclass(frozen=True, slots=True)
class Delay:
    """Begin each answer this many seconds late; the request has arrived long before."""

    seconds: float


Mode = Pass | Refuse | BlackHole | ResetMidBody | Drip | Delay


class FaultProxy:
    """One local port that forwards to one address, in the mode that it was last switched to."""

    def __init__(self, upstream: tuple[str, int], mode: Mode | None = None) -> None:
        """Reserve a port; `with` begins and ends the service."""
        self._upstream = upstream
        self._mode = mode or Pass()
        self._reserved = ReservedPort()
        self._listener: _Listener | None = None
        self._connections: list[_Connection] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        """Begin to serve."""
        self.switch(self._mode)
        return self

    def __exit__(self, *_: object) -> None:
        """Reset all connections and give the port back."""
        self.switch(Refuse())
        self._reserved.close()

    @property
    def port(self) -> int:
        """The port it listens on, the same for its whole life."""
        return self._reserved.number

    @property
    def mode(self) -> Mode:
        """What it does now."""
        return self._mode

    def switch(self, mode: Mode) -> None:
        """Change what it does to new and open connections; in force when this returns.

        Open connections are reset where they could not go on: into `Refuse`, and out of `BlackHole`, which lost bytes.
        """
        before, self._mode = self._mode, mode
        if isinstance(mode, Refuse) and self._listener:
            self._listener.close()
            self._listener = None
        if isinstance(mode, Refuse) or (isinstance(before, BlackHole) and not isinstance(mode, BlackHole)):
            self._drop_all()
        if not isinstance(mode, Refuse) and self._listener is None:
            self._listener = _Listener(self.port, self._accepted)

    def _accepted(self, client: socket.socket) -> None:
        connection = _Connection(client, self._upstream, lambda: self._mode)
        with self._lock:
            self._connections = [other for other in self._connections if other.open]
            self._connections.append(connection)

    def _drop_all(self) -> None:
        with self._lock:
            connections, self._connections = self._connections, []
        for connection in connections:
            connection.drop()


class _Listener:
    """A listening socket and the thread that accepts on it."""

    def __init__(self, port: int, accepted: Callable[[socket.socket], None]) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.bind((_HOST, port))
        self._socket.listen(128)
        self._socket.settimeout(_GLANCE)
        self._accepted = accepted
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._accept, name=f"faults-{port}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening; connections not accepted yet are reset by the kernel."""
        self._closing.set()
        self._thread.join()
        self._socket.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            with suppress(TimeoutError):
                client, _ = self._socket.accept()
                self._accepted(client)


class _Connection:
    """One client's connection and ours to the server; a single thread owns both sockets, so a reset is sent at once."""

    def __init__(self, client: socket.socket, upstream: tuple[str, int], mode: Callable[[], Mode]) -> None:
        self._client = client
        self._upstream = upstream
        self._mode = mode
        self._dropped = threading.Event()
        self._asked = False  # whether the client has said something that was not answered yet
        self._counting: Mode | None = None
        self._answered = 0  # bytes, since the mode was switched to `_counting`
        self._thread = threading.Thread(target=self._serve, name="faults-connection", daemon=True)
        self._thread.start()

    @property
    def open(self) -> bool:
        return self._thread.is_alive()

    def drop(self) -> None:
        self._dropped.set()
        self._thread.join()

    def _serve(self) -> None:
        try:
            if isinstance(self._mode(), BlackHole):
                self._swallow()
            else:
                self._forward()
        except OSError:  # either side went away in the middle, or is not there at all: the other side sees a reset
            self._dropped.set()
        finally:
            if self._dropped.is_set():
                _reset_on_close(self._client)
            self._client.close()

    def _swallow(self) -> None:
        self._client.settimeout(0)
        while not self._dropped.is_set():
            if _readable(self._client) and not self._client.recv(_CHUNK):
                return

    def _forward(self) -> None:
        with socket.create_connection(self._upstream, timeout=10) as server:
            for end in (self._client, server):
                end.settimeout(0)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while not self._dropped.is_set():
                for end in _readable(self._client, server):
                    data = end.recv(_CHUNK)
                    if not data:
                        return
                    self._hand_on(data, server, to_server=end is self._client)

    def _hand_on(self, data: bytes, server: socket.socket, *, to_server: bool) -> None:
        if to_server:
            self._asked = True
            if not isinstance(self._mode(), BlackHole):
                self._send(server, data)
            return
        while data and not self._dropped.is_set():
            data = data[self._answer(data) :]

    def _answer(self, data: bytes) -> int:
        """Do to the beginning of this data what the mode says; return how many bytes that was."""
        match self._mode():
            case BlackHole():
                return len(data)
            case ResetMidBody(after=after) as mode:
                return self._answer_until(data, after, mode)
            case Drip(period=period):
                self._send(self._client, data[:1])
                self._dropped.wait(period)
                return 1
            case Delay(seconds=seconds) if self._asked:
                self._asked = False
                self._dropped.wait(seconds)
                return 0
        self._send(self._client, data)
        self._asked = False
        return len(data)

    def _answer_until(self, data: bytes, after: int, mode: ResetMidBody) -> int:
        if self._counting is not mode:
            self._counting, self._answered = mode, 0
        part = data[: after - self._answered]
        self._send(self._client, part)
        self._answered += len(part)
        if self._answered >= after:
            self._dropped.set()
        return len(data)

    def _send(self, end: socket.socket, data: bytes) -> None:
        while data and not self._dropped.is_set():
            _, writable, _ = select.select([], [end], [], _GLANCE)
            if writable:
                data = data[end.send(data) :]


def _readable(*ends: socket.socket) -> list[socket.socket]:
    ready, _, _ = select.select(ends, [], [], _GLANCE)
    return ready


def _reset_on_close(end: socket.socket) -> None:
    """Let closing this socket send RST in place of FIN."""
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _always(_method: str, _path: str) -> bool:
    return True


@dataclass(slots=True, kw_only=True)
class Answer:
    """An answer that the API fault proxy gives by itself, `times` times (None: until told otherwise)."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    times: int | None
    when: Callable[[str, str], bool]
    lost: bool = False  # ask the member, and keep its answer from the client


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request that arrived, when (monotonic), and the status that answered it (0: none reached the client)."""

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    status: int
    at: float


class ApiFaultProxy:
    """An HTTPS server that passes for a member's API server, and hands on what it has no answer of its own for.

    It asks the member as administrator, whoever its client is; with `as_admin=False` it shows no certificate, so that
    the client's own token decides. Connection upgrades (exec, port-forward) are not handed on.
    """

    def __init__(self, member: Member, *, as_admin: bool = True) -> None:
        """Make the certificate and listen; `with` begins and ends the service."""
        self._trust = ssl.create_default_context(cafile=str(member.ca_file))
        if as_admin:
            self._trust.load_cert_chain(member.admin_cert, member.admin_key)
        self._upstream = (_HOST, member.port)
        self._answers: list[Answer] = []
        self._exchanges: list[Exchange] = []
        self._lock = threading.Lock()
        serving = member.serving_certificate(f"faults-{id(self)}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(serving.cert, serving.key)
        self._server = _Server(self, context)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_GLANCE,), daemon=True)

    def __enter__(self) -> Self:
        """Begin to serve."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close all connections and stop."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """What was asked of it so far, in the order of the answers."""
        with self._lock:
            return tuple(self._exchanges)

    def answer(
        self,
        status: int,
        headers: Mapping[str, str] | None = None,
        *,
        times: int | None = None,
        body: bytes | None = None,
        when: Callable[[str, str], bool] = _always,
    ) -> None:
        """Answer the next requests for which `when(method, path)` holds; earlier answers that still apply come first.

        Without a body it is a Kubernetes Status of that code.
        """
        content = _status_document(status) if body is None else body
        with self._lock:
            self._answers.append(Answer(status=status, headers=headers or {}, body=content, times=times, when=when))

    def lose_answer(self, *, times: int | None = None, when: Callable[[str, str], bool] = _always) -> None:
        """Hand on the next requests, but close the connection in place of their answers: done, and nobody knows."""
        with self._lock:
            self._answers.append(Answer(status=0, headers={}, body=b"", times=times, when=when, lost=True))

    def pass_through(self) -> None:
        """Forget all answers: hand on everything."""
        with self._lock:
            self._answers.clear()

    def take_answer(self, method: str, path: str) -> Answer | None:
        """Return the answer for this request, one fewer of it left; None: hand it on."""
        with self._lock:
            for answer in self._answers:
                if answer.times == 0 or not answer.when(method, path):
                    continue
                if answer.times is not None:
                    answer.times -= 1
                return answer
        return None

    def note(self, exchange: Exchange) -> None:
        """Remember what was asked and answered."""
        with self._lock:
            self._exchanges.append(exchange)

    def connect(self) -> HTTPSConnection:
        """Return a connection to the member, for one request."""
        return HTTPSConnection(*self._upstream, context=self._trust)


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for them

    def __init__(self, proxy: ApiFaultProxy, context: ssl.SSLContext) -> None:
        self.proxy = proxy
        self.open: set[socket.socket] = set()  # what threads may be waiting for: clients, and the member
        super().__init__((_HOST, 0), _Handler)
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        for end in tuple(self.open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # wakes the thread
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is none of this proxy's faults."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _handle(self) -> None:
        proxy, at = self.server.proxy, monotonic()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = proxy.take_answer(self.command, self.path)
        if answer and not answer.lost:
            status = self._give(answer)
        else:
            status = self._hand_on(proxy, body, lost=answer is not None)
        proxy.note(Exchange(method=self.command, path=self.path, headers=dict(self.headers), status=status, at=at))

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _handle  # noqa: N815

    def _give(self, answer: Answer) -> int:
        self.send_response(answer.status)
        headers = {"Content-Type": "application/json", **answer.headers, "Content-Length": str(len(answer.body))}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
        return answer.status

    def _hand_on(self, proxy: ApiFaultProxy, body: bytes, *, lost: bool) -> int:
        connection = proxy.connect()
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
        try:
            connection.connect()
            self.server.open.add(connection.sock)
            connection.request(self.command, self.path, body=body or None, headers=headers)
            response = connection.getresponse()
            if not lost:
                self._relay(response)
                return response.status
        except (OSError, HTTPException):  # no member, or it went away in the middle: no answer, as without a proxy
            pass
        finally:
            self.server.open.discard(connection.sock)
            connection.close()
        self.close_connection = True
        return 0

    def _relay(self, response: HTTPResponse) -> None:
        length = response.getheader("Content-Length")
        chunked = length is None and self.command != "HEAD" and response.status not in _WITHOUT_BODY
        self.send_response(response.status)
        for name, value in response.getheaders():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while part := response.read1(_CHUNK):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
        """Say nothing; `exchanges` remembers."""


def _status_document(status: int) -> bytes:
    reason = _REASONS.get(status, "Unknown")
    message = f"answered {status} by the fault proxy"
    document = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message}
    return json.dumps({**document, "metadata": {}, "code": status}).encode()
