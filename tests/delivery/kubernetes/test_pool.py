"""Connections to a member, against a server that says exactly what each test has it say, byte by byte."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

import pytest
from urllib3.util.wait import wait_for_read

from reconciler.clock import sleep
from reconciler.delivery.kubernetes import pool as room
from reconciler.delivery.kubernetes.credentials import Access
from reconciler.delivery.kubernetes.pool import Answer, AnswerTooLarge, CutOff, NoWayIn, Pool
from tests.controlplane.certificates import Authority
from tests.controlplane.processes import wait_until

WELL = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@dataclass
class Server:
    """Answers the requests of all its connections in order, one of `answers` each; the last ones again and again."""

    listener: socket.socket
    answers: list[bytes] = field(default_factory=lambda: [WELL])
    heard: list[bytes] = field(default_factory=list)
    connections: list[socket.socket] = field(default_factory=list)
    closes: bool = False
    drips: float = 0
    """Seconds between two bytes of an answer."""

    def pool(self, size: int = 8, **access: str) -> Pool:
        port = self.listener.getsockname()[1]
        given = {"proxy": None, **access}
        return Pool(Access(host="127.0.0.1", port=port, path="", trust=None, tls_name=None, headers={}, **given), size)

    def stop(self) -> None:
        """Let nobody in any more."""
        if self.listener.fileno() >= 0:
            self.listener.shutdown(socket.SHUT_RDWR)  # else who accepts would not wake
            self.listener.close()

    def work(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        with suppress(OSError):  # a client may go away at any time
            while data := _request(connection):
                self.heard.append(data)
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                for part in [answer[at : at + 1] for at in range(len(answer))] if self.drips else [answer]:
                    connection.sendall(part)
                    sleep(self.drips)
                if self.closes:
                    connection.shutdown(socket.SHUT_RDWR)
                    return


def _request(connection: socket.socket) -> bytes:
    """Return one whole request; empty when there is no more."""
    data = b""
    while b"\r\n\r\n" not in data or (b"Content-Length: 4" in data and not data.endswith(b"body")):
        more = connection.recv(65536)
        if not more:
            return b""
        data += more
    return data


@contextmanager
def serving() -> Iterator[Server]:
    """Give a server on a local port that says what the test has it say."""
    server = Server(socket.create_server(("127.0.0.1", 0)))
    accepting = threading.Thread(target=server.work, daemon=True)
    accepting.start()
    yield server
    server.stop()
    accepting.join()
    for connection in server.connections:
        connection.close()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as started:
        yield started


def ask(pool: Pool, method: str = "GET", body: bytes = b"", **headers: str) -> Answer:
    return pool.ask(method, "/there?a=b", headers, body, connect=5, read=5)


def test_a_request_says_what_its_answer_needs(server: Server):
    assert ask(server.pool(), "PATCH", b"body", Accept="text/plain") == Answer(status=200, body=b"{}")
    port = server.listener.getsockname()[1]
    head = f"PATCH /there?a=b HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept-Encoding: identity\r\nContent-Length: 4\r\n"
    assert server.heard == [head.encode() + b"Accept: text/plain\r\n\r\nbody"]


@pytest.mark.parametrize(
    ("said", "body"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"", id="nothing"),
        pytest.param(b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\n{}", b"{}", id="a length"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\n{\r\n1\r\n}\r\n0\r\nT: t\r\n\r\n",
            b"{}",
            id="chunks",
        ),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" + WELL, b"{}", id="after a word before it"),
    ],
)
def test_an_answer_is_read_to_its_end_and_the_connection_serves_again(server: Server, said: bytes, body: bytes):
    pool = server.pool()
    server.answers = [said]
    assert [ask(pool).body for _ in range(3)] == [body] * 3
    assert len(server.connections) == 1


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}", id="that says so"),
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", id="of old"),
    ],
)
def test_a_connection_that_the_server_will_close_is_not_used_again(server: Server, said: bytes):
    pool = server.pool()
    server.answers = [said]
    assert [ask(pool).body for _ in range(2)] == [b"{}"] * 2
    assert len(server.connections) == 2


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"", id="before it"),
        pytest.param(b"HTTP/1.1 404 Not Found\r\nContent-Le", id="in its head"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", id="in its body"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{}", id="in a chunk"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", id="between chunks"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n{\r\n", id="with no length of a chunk"
        ),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", id="of another protocol"),
    ],
)
def test_an_answer_that_is_cut_off_is_none(server: Server, said: bytes):
    server.answers, server.closes = [said], True
    with pytest.raises((CutOff, ConnectionResetError)):
        ask(server.pool())


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 100, id="by its length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n" + b"x" * 100, id="by its chunks"),
    ],
)
def test_an_answer_that_is_too_large_is_not_read_to_its_end(
    server: Server, said: bytes, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(room, "MAX_ANSWER_BYTES", 99)
    server.answers = [said, WELL]
    pool = server.pool()
    with pytest.raises(AnswerTooLarge):
        ask(pool)
    assert ask(pool).body == b"{}"
    assert len(server.connections) == 2


def test_a_connection_that_the_server_closed_meanwhile_is_not_used(server: Server):
    pool = server.pool()
    ask(pool)
    server.connections[0].shutdown(socket.SHUT_RDWR)
    wait_until("the end of the connection", lambda: is_ended(pool))
    assert ask(pool).body == b"{}"
    assert len(server.connections) == 2


def is_ended(pool: Pool) -> bool:
    """Tell whether the end of the one connection that is kept has arrived."""
    return wait_for_read(pool._idle[0][1].sock, timeout=0)


def test_what_nobody_used_for_a_while_is_closed(server: Server, monkeypatch: pytest.MonkeyPatch):
    moment = 100.0
    monkeypatch.setattr(room, "monotonic", lambda: moment)
    pool = server.pool()
    ask(pool)
    assert pool.close_idle(before=99.0)
    assert not pool.close_idle(before=100.0)
    ask(pool)
    assert len(server.connections) == 2


def test_idle_connections_are_closed_by_themselves(server: Server, monkeypatch: pytest.MonkeyPatch):
    """And the thread that does it ends with the last of them; the next one has it begin again."""
    monkeypatch.setattr(room, "_IDLE_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(room, "IDLE_SECONDS", 0.0)
    monkeypatch.setattr(room, "_reaper", room._Reaper())
    pool = server.pool()
    for _ in range(2):
        ask(pool)
        wait_until("the connection to be closed", lambda: not pool.close_idle(-inf))
        wait_until("the thread to end", lambda: room._reaper._thread is None)
    assert len(server.connections) == 2


def test_no_more_is_kept_than_the_size_and_nothing_of_a_closed_pool(server: Server):
    pool = server.pool(size=1)
    held = [pool._connect(5) for _ in range(2)]
    for connection in held:
        pool._give_back(connection)
    assert [connection.sock is not None for connection in held] == [True, False]
    pool.close()
    assert held[0].sock is None
    ask(pool)
    assert pool._idle == []


def test_a_door_that_is_shut_is_told_from_an_answer_that_breaks(server: Server):
    pool = server.pool()
    server.stop()
    with pytest.raises(NoWayIn):
        ask(pool)


def test_a_header_cannot_bring_another(server: Server):
    with pytest.raises(ValueError, match="Invalid header value"):
        ask(server.pool(), Authorization="Bearer x\r\nHost: elsewhere")
    assert server.heard == []


def test_a_proxy_is_asked_in_the_place_of_a_plain_server(server: Server):
    proxy = f"http://127.0.0.1:{server.listener.getsockname()[1]}"
    away = Access(host="member.example", port=80, path="", trust=None, tls_name=None, proxy=proxy, headers={})
    ask(Pool(away, 1))
    assert server.heard[0].startswith(b"GET http://member.example:80/there?a=b HTTP/1.1\r\nHost: member.example:80\r\n")


def test_a_proxy_lets_through_to_a_server_that_is_asked_over_tls(server: Server, tmp_path: Path):
    authority = Authority(tmp_path / "authority", "ca")
    identity, trust = authority.server("member"), ssl.create_default_context(cafile=authority.certificate.cert)
    offered = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    offered.load_cert_chain(identity.cert, identity.key)

    def lets_through(connection: socket.socket) -> None:
        asked.append(_request(connection))
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with offered.wrap_socket(connection, server_side=True) as inside:
            Server.serve(server, inside)

    asked: list[bytes] = []
    server.serve = lets_through
    proxy = f"http://127.0.0.1:{server.listener.getsockname()[1]}"
    pool = Pool(Access(host="localhost", port=6443, path="", trust=trust, tls_name=None, proxy=proxy, headers={}), 1)
    assert [ask(pool).body for _ in range(2)] == [b"{}", b"{}"]
    assert [one.split()[:2] for one in asked] == [[b"CONNECT", b"localhost:6443"]]
    assert server.heard[0].startswith(b"GET /there?a=b HTTP/1.1\r\nHost: localhost:6443\r\n")
    pool.close()
