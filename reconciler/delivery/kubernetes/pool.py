"""Open connections to one API server; an answer is read to its end before the next request.

urllib3 makes a connection (names, proxies, TLS), and the standard library asks on it: urllib3's own way to ask costs
more CPU than everything else that is done for an object. Connections that nobody has used for a while are closed: an
idle member costs no sockets and no buffers.
"""

import http.client
import math
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection, ProxyConfig
from urllib3.util.wait import wait_for_read

from reconciler.clock import monotonic, sleep
from reconciler.delivery.kubernetes.credentials import Access
from reconciler.delivery.kubernetes.deadline import limited
from reconciler.errors import PermanentError

MAX_ANSWER_BYTES = 16 * 1024 * 1024
IDLE_SECONDS = 60.0
"""How long a connection is kept that nobody uses; a member that is looked at every second keeps one."""

_IDLE_LOOK_SECONDS = 1.0


class AnswerTooLarge(PermanentError):
    """The member's answer is larger than anything that is asked for should be."""


class NoWayIn(Exception):
    """The connection did not come up; its cause says why."""


class CutOff(Exception):
    """The answer ended before its end, or is no HTTP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back: the whole body, and of the headers those that anybody reads, empty where there are none."""

    status: int
    body: bytes
    date: str = ""
    retry_after: str = ""

    @property
    def is_well(self) -> bool:
        """Whether it was done."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES


class Pool:
    """The connections to one server; may be used by several threads at once."""

    def __init__(self, access: Access, size: int) -> None:
        """`size` is how many connections are kept; more than that may be open while they are used."""
        self._access, self._size = access, size
        host = f"[{access.host}]" if ":" in access.host else access.host
        self._origin = f"http://{host}:{access.port}" if access.proxy and access.trust is None else ""
        self._lock = threading.Lock()
        self._idle: list[tuple[float, HTTPConnection]] = []
        self._is_open, self._is_watched = True, False

    def ask(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes, *, connect: float, read: float
    ) -> Answer:
        """Send one request and return its answer; `connect` and `read` are in seconds.

        Raises NoWayIn, CutOff, AnswerTooLarge and what a socket raises.
        """
        connection = self._take() or self._connect(connect)
        try:
            if connection.sock.gettimeout() != read:
                connection.sock.settimeout(read)
            is_sent = _send(connection, method, self._origin + target, headers, body)
            answer, may_stay = _read(connection)
        except BaseException:
            connection.close()
            raise
        if is_sent and may_stay:
            self._give_back(connection)
        else:
            connection.close()
        return answer

    def close(self) -> None:
        """Close what is idle now, and what is in use as soon as it is not."""
        with self._lock:
            self._is_open = False
        self.close_idle(math.inf)

    def close_idle(self, before: float) -> bool:
        """Close the connections that nobody has used since (monotonic); return whether any are kept."""
        with self._lock:
            old = [connection for since, connection in self._idle if since <= before]
            self._idle = [one for one in self._idle if one[0] > before]
            self._is_watched = is_kept = bool(self._idle)
        for connection in old:
            connection.close()
        return is_kept

    def _take(self) -> HTTPConnection | None:
        """Return the connection that was used last, unless the server has closed it."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                _, connection = self._idle.pop()
            if not wait_for_read(connection.sock, timeout=0):
                return connection
            connection.close()

    def _give_back(self, connection: HTTPConnection) -> None:
        with self._lock:
            is_kept = self._is_open and len(self._idle) < self._size
            is_first = is_kept and not self._is_watched
            if is_kept:
                self._idle.append((monotonic(), connection))
                self._is_watched = True
        if not is_kept:
            connection.close()
        elif is_first:
            _reaper.watch(self)

    def _connect(self, seconds: float) -> HTTPConnection:
        connection = _connection(self._access, seconds)
        try:
            connection.connect()
            if type(connection.sock) is socket.socket:  # without TLS; with it the context makes one that is limited
                connection.sock = limited(connection.sock)
        except (urllib3.exceptions.HTTPError, HTTPException, OSError) as error:
            connection.close()
            raise NoWayIn from error
        return connection


def _connection(access: Access, seconds: float) -> HTTPConnection:
    """Return a connection that is still to be made."""
    proxy = urllib3.util.parse_url(access.proxy) if access.proxy else None
    host, port = (proxy.host or "", proxy.port) if proxy else (access.host, access.port)
    if access.trust is None:  # a proxy is then asked in the server's place
        kind = HTTPSConnection if proxy and proxy.scheme == "https" else HTTPConnection
        return kind(host, port, timeout=seconds)
    way: dict[str, Any] = {"proxy": proxy, "proxy_config": _OF_THE_PROXY} if proxy else {}
    way |= {"ssl_context": access.trust, "server_hostname": access.tls_name}
    connection = HTTPSConnection(host, port, timeout=seconds, **way)
    if proxy:
        connection.set_tunnel(access.host, access.port, scheme=proxy.scheme or "http")
    return connection


_OF_THE_PROXY = ProxyConfig(
    ssl_context=None, use_forwarding_for_https=False, assert_hostname=None, assert_fingerprint=None
)


# -- a request and its answer ------------------------------------------------------------------------------------------


def _send(connection: HTTPConnection, method: str, target: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Return whether the other end took all of it; one that did not may have answered already, and why."""
    try:
        http.client.HTTPConnection.request(connection, method, target, body or None, headers)
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


def _read(connection: HTTPConnection) -> tuple[Answer, bool]:
    """Return the answer to what was sent, and whether the connection may be used again."""
    try:
        reply = http.client.HTTPConnection.getresponse(connection)
    except HTTPException as error:
        raise CutOff(str(error)) from error
    try:
        if reply.length is None and not reply.chunked:  # one whose head is cut off would look the same
            raise CutOff("the answer does not say where it ends")
        body = reply.read(MAX_ANSWER_BYTES + 1)
        if len(body) > MAX_ANSWER_BYTES:
            raise AnswerTooLarge(f"the member's answer is larger than {MAX_ANSWER_BYTES} bytes; the rest was not read")
        if reply.length:
            raise CutOff("the end of the answer is missing")
    except HTTPException as error:
        raise CutOff(str(error)) from error
    finally:
        reply.close()
    headers = reply.headers
    answer = Answer(
        status=reply.status,
        body=body,
        date=headers.get("Date", ""),
        retry_after=headers.get("Retry-After", ""),
    )
    return answer, not reply.will_close


# -- what is idle ------------------------------------------------------------------------------------------------------


class _Reaper:
    """Closes what is idle for too long, in a thread that lives only while something is kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pools: set[Pool] = set()
        self._thread: threading.Thread | None = None

    def watch(self, pool: Pool) -> None:
        """See to a pool that keeps a connection from now on."""
        with self._lock:
            self._pools.add(pool)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="idle connections", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        sleep(_IDLE_LOOK_SECONDS)
        while self._close_idle():
            sleep(_IDLE_LOOK_SECONDS)

    def _close_idle(self) -> bool:
        with self._lock:
            before = monotonic() - IDLE_SECONDS
            self._pools = {pool for pool in self._pools if pool.close_idle(before)}
            if not self._pools:
                self._thread = None
            return bool(self._pools)


_reaper = _Reaper()
