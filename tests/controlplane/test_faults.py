"""The proxies do to a connection what they say, and nothing once they are switched back."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import urllib3

from reconciler import clock
from tests.controlplane.faults import ApiFaultProxy, BlackHole, Delay, Drip, FaultProxy, Pass, Refuse, ResetMidBody

BODY = b"0123456789" * 100


class Answering(BaseHTTPRequestHandler):
    """An HTTP server that counts what reaches it."""

    protocol_version = "HTTP/1.1"
    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def receive(client: socket.socket, into: bytearray) -> None:
    """Read to the end of the answer, or to the fault."""
    while part := client.recv(4096):
        into += part


@pytest.fixture
def upstream() -> Iterator[tuple[str, int]]:
    Answering.asked = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield ("127.0.0.1", server.server_address[1])
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(upstream: tuple[str, int]) -> Iterator[FaultProxy]:
    with FaultProxy(upstream) as proxy:
        yield proxy


@pytest.fixture
def pool(proxy: FaultProxy) -> Iterator[urllib3.HTTPConnectionPool]:
    with urllib3.HTTPConnectionPool("127.0.0.1", proxy.port, retries=False, timeout=2) as pool:
        yield pool


def test_pass_hands_on_everything(pool):
    assert pool.request("GET", "/").data == BODY


def test_refuse_refuses_new_connections_until_switched_back(proxy, pool):
    proxy.switch(Refuse())
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port))
    proxy.switch(Pass())
    assert pool.request("GET", "/").data == BODY


def test_refuse_resets_a_connection_that_was_open(proxy):
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=2) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(4) == b"HTTP"
        proxy.switch(Refuse())
        with pytest.raises(ConnectionResetError):
            receive(client, bytearray())


def test_a_black_hole_accepts_and_reads_and_nothing_reaches_the_server(proxy):
    proxy.switch(BlackHole())
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=0.3) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + b"x" * 1_000_000)
        with pytest.raises(TimeoutError):
            client.recv(1)
    assert Answering.asked == 0


def test_a_black_hole_opens_under_a_connection_in_use_and_is_left_by_a_reset(proxy):
    """A client that keeps its connection meets the fault too, and goes on with a new connection."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=0.3) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        while not received.endswith(BODY):
            received += client.recv(4096)
        proxy.switch(BlackHole())
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(TimeoutError):
            client.recv(1)
        proxy.switch(Pass())
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert Answering.asked == 1


def test_a_reset_comes_after_exactly_so_many_bytes_of_the_answer(proxy):
    proxy.switch(ResetMidBody(after=150))
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=2) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        received = bytearray()
        with pytest.raises(ConnectionResetError):
            receive(client, received)
    assert len(received) == 150


def test_a_client_sees_a_reset_in_the_body_as_a_protocol_error(proxy, pool):
    proxy.switch(ResetMidBody(after=500))
    with pytest.raises(urllib3.exceptions.ProtocolError):
        pool.request("GET", "/")


def test_a_reset_after_no_byte_loses_the_answer_to_a_request_that_arrived(proxy, pool):
    proxy.switch(ResetMidBody(after=0))
    with pytest.raises(urllib3.exceptions.ProtocolError):
        pool.request("GET", "/")
    assert Answering.asked == 1


def test_drip_answers_byte_by_byte(proxy):
    proxy.switch(Drip(period=0.1))
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=2) as client:
        began = clock.monotonic()
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert [client.recv(100) for _ in range(4)] == [b"H", b"T", b"T", b"P"]
        assert clock.monotonic() - began >= 0.3


def test_delay_begins_an_answer_late_and_whole(proxy, pool):
    proxy.switch(Delay(seconds=0.4))
    began = clock.monotonic()
    assert pool.request("GET", "/").data == BODY
    assert 0.4 <= clock.monotonic() - began < 0.8


def test_a_server_that_is_not_there_is_a_reset(proxy, upstream):
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))  # bound, not listening: nobody answers
        with (
            FaultProxy(free.getsockname()) as astray,
            socket.create_connection(("127.0.0.1", astray.port), timeout=2) as client,
            pytest.raises(ConnectionResetError),
        ):
            client.recv(1)


def test_leaving_a_proxy_leaves_no_thread(upstream):
    before = set(threading.enumerate())
    with FaultProxy(upstream) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port)):
            proxy.switch(Drip())
        proxy.switch(BlackHole())
    assert {thread for thread in threading.enumerate() if thread.name.startswith("faults")} <= before


# -- the proxy that ends TLS, in front of a real member -------------------------------------------------


@pytest.fixture
def api(members) -> Iterator[ApiFaultProxy]:
    with ApiFaultProxy(members[0]) as proxy:
        yield proxy


@pytest.fixture
def client(members, api) -> Iterator[urllib3.HTTPSConnectionPool]:
    trust = str(members[0].ca_file)
    with urllib3.HTTPSConnectionPool("127.0.0.1", api.port, ca_certs=trust, retries=False, timeout=10) as pool:
        yield pool


def test_the_api_proxy_hands_on_to_the_member(client, members, api):
    answer = client.request("GET", "/api/v1/namespaces/kube-system")
    assert (answer.status, answer.json()["metadata"]["uid"]) == (200, members[0].uid())
    (exchange,) = api.exchanges
    assert (exchange.method, exchange.path, exchange.status) == ("GET", "/api/v1/namespaces/kube-system", 200)


def test_a_member_is_used_through_the_api_proxy_with_kubectl(members, api):
    kubeconfig = members[0].kubeconfig_through(api.port)
    members[0].kubectl(f"--kubeconfig={kubeconfig}", "create", "namespace", "proxied")
    assert members[0].kubectl("get", "namespace", "proxied", "-o", "name") == "namespace/proxied\n"
    members[0].kubectl(f"--kubeconfig={kubeconfig}", "delete", "namespace", "proxied", "--wait=false")


def test_too_many_requests_are_answered_so_many_times(client, api):
    api.answer(429, {"Retry-After": "7"}, times=2)
    answers = [client.request("GET", "/version") for _ in range(3)]
    assert [answer.status for answer in answers] == [429, 429, 200]
    assert [answer.headers.get("Retry-After") for answer in answers] == ["7", "7", None]
    assert json.loads(answers[0].data)["reason"] == "TooManyRequests"


def test_a_storm_lasts_until_it_is_over(client, api):
    api.answer(500)
    assert [client.request("GET", "/version").status for _ in range(5)] == [500] * 5
    api.pass_through()
    assert client.request("GET", "/version").status == 200


def test_an_answer_can_be_for_certain_requests_only(client, api):
    api.answer(401, when=lambda method, path: path.startswith("/api/v1/secrets"))
    assert client.request("GET", "/api/v1/secrets").status == 401
    assert client.request("GET", "/api/v1/namespaces").status == 200


def test_a_lost_answer_is_to_a_request_that_was_carried_out(client, members, api):
    api.lose_answer(times=1, when=lambda method, path: method == "POST")
    document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "written-unheard"}}
    with pytest.raises(urllib3.exceptions.ProtocolError):
        client.request("POST", "/api/v1/namespaces", json=document)
    assert members[0].kubectl("get", "namespace", "written-unheard", "-o", "name") == "namespace/written-unheard\n"
    members[0].kubectl("delete", "namespace", "written-unheard", "--wait=false")


def test_a_watch_is_handed_on_as_it_happens_and_closing_does_not_wait_for_it(members):
    """The first event is there while the watch stays open."""
    with ApiFaultProxy(members[0]) as api:
        trust = str(members[0].ca_file)
        with urllib3.HTTPSConnectionPool("127.0.0.1", api.port, ca_certs=trust, retries=False, timeout=10) as pool:
            answer = pool.request("GET", "/api/v1/namespaces?watch=true", preload_content=False)
            assert json.loads(next(iter(answer.stream())).splitlines()[0])["type"] == "ADDED"
            answer.close()


def test_bytes_and_protocol_faults_can_be_stacked(members, api):
    with (
        FaultProxy(("127.0.0.1", api.port)) as network,
        urllib3.HTTPSConnectionPool(
            "127.0.0.1", network.port, ca_certs=str(members[0].ca_file), retries=False, timeout=10
        ) as pool,
    ):
        assert pool.request("GET", "/version").status == 200
        network.switch(ResetMidBody(after=0))
        with pytest.raises(urllib3.exceptions.ProtocolError):
            pool.request("GET", "/version")
