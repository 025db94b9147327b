"""Requests to one member's API server: bytes out, bytes in, each with a deadline and a largest size; no retries.

Tries again, and when, are the workers' business; a pause that the member asks for is kept here, whoever calls, and so
is the ceiling of requests a second.
"""

import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from http import HTTPStatus
from urllib.parse import urlencode

from urllib3 import HTTPHeaderDict

from reconciler.clock import monotonic, wall
from reconciler.core.model import format_duration
from reconciler.delivery.kubernetes import credentials
from reconciler.delivery.kubernetes.credentials import Access, Place
from reconciler.delivery.kubernetes.deadline import within
from reconciler.delivery.kubernetes.pace import Pace
from reconciler.delivery.kubernetes.pool import Answer, CutOff, NoWayIn, Pool
from reconciler.delivery.kubernetes.settings import MemberSettings
from reconciler.delivery.kubernetes.unwell import Unauthorized
from reconciler.errors import TemporaryError, UsageError
from reconciler.redact import line

LONGEST_PAUSE_SECONDS = 300.0
"""However long a pause a member asks for, it is asked again after this."""
_CONNECT_SECONDS = 5.0
_KNOCK_SECONDS = 1.0
_PATIENT_KNOCK = 4
"""One of so many attempts at a member that lets nobody in waits long, in case it answers slowly; the others knock."""
_TROUBLE = frozenset({HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.GATEWAY_TIMEOUT})
"""What may be one object's trouble alone, unless the member asks for a pause with it."""
_JSON = "application/json"
_Way = tuple[Access, Pool]


class _Who(threading.local):
    """Whether this thread asks who answers, and where that was answered."""

    is_asked: bool = False
    answered: Place | None = None


class Connection:
    """One member's API server; may be used by several threads at once. Nothing is read or asked before the first use.

    `request` raises TemporaryError when no answer came in time, the member asks for a pause or the program that gives
    the credentials did not end; Unauthorized when the member does not know us even after they were read again; and
    UsageError for a kubeconfig that cannot be used.
    """

    def __init__(self, settings: MemberSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._way: _Way | None = None
        self._loads = 0
        self._load_error: UsageError | TemporaryError | None = None
        self._pace = Pace(qps=settings.qps, burst=settings.burst)
        self._not_before, self._why_paused = 0.0, ""
        self._turned_away = 0
        self._heard: tuple[datetime, float] | None = None
        self._who = _Who()
        self._known: Place | None = None

    @property
    def server(self) -> str:
        """The member's address."""
        return self._open()[0].server

    @property
    def is_open_to_us(self) -> bool:
        """Whether the last request was let in, as far as there was one."""
        return self._turned_away == 0

    @property
    def date(self) -> datetime | None:
        """What the member's own clock says now, by its last answer and the time since; None before the first."""
        if self._heard is None:
            return None
        date, at = self._heard
        return date + timedelta(seconds=monotonic() - at)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = _JSON,
        accept: str = _JSON,
    ) -> Answer:
        """Ask once; the path is percent-encoded already.

        What leads elsewhere than to whom somebody made sure of (`asking_who`) is not asked: TemporaryError says so.
        """
        headers = {"Accept": accept, "User-Agent": "reconciler", **({"Content-Type": content_type} if body else {})}
        target = f"{path}?{_encoded(tuple(query.items()))}" if query else path
        way = self._open()
        answer = self._ask(way, method, target, body, headers)
        if answer.status == HTTPStatus.UNAUTHORIZED:
            way = self._open_again(way)
            answer = self._ask(way, method, target, body, headers)
        if answer.status == HTTPStatus.UNAUTHORIZED:
            raise Unauthorized(
                f"{way[0].server} does not accept the credentials of {self._settings.kubeconfig} (401), "
                "read again a moment ago; renew them"
            )
        return answer

    @contextmanager
    def asking_who(self) -> Iterator[None]:
        """Let this thread ask whoever answers, in the block; after it only what leads where that was is asked."""
        self._who.is_asked = True
        try:
            yield
        finally:
            self._who.is_asked = False
        self._known = self._who.answered

    def _check_place(self, access: Access) -> None:
        """Refuse to ask where nobody made sure who answers: a kubeconfig that is read again may lead elsewhere."""
        if self._who.is_asked:
            self._who.answered = access.place
        elif self._known is not None and access.place != self._known:
            raise TemporaryError(
                f"{access.server}: {self._settings.kubeconfig} leads here now; who answers is asked first"
            )

    def forget(self) -> None:
        """Read the kubeconfig again for the next request."""
        with self._lock:
            way, self._way = self._way, None
        if way is not None:
            way[1].close()

    # -- the way there

    def _open(self) -> _Way:
        before = self._loads
        with self._lock:
            if self._way is None:
                self._way = self._new_way(before)
            return self._way

    def _open_again(self, refused: _Way) -> _Way:
        """Read the credentials again, once for all the requests that were refused with the same ones."""
        before = self._loads
        with self._lock:
            if self._way is refused or self._way is None:
                try:
                    self._way = self._new_way(before)
                except (UsageError, TemporaryError) as error:  # say, a file that is just being replaced
                    raise Unauthorized(f"{refused[0].server} does not accept us any more (401), and {error}") from error
                refused[1].close()
            assert self._way is not None
            return self._way

    def _forget(self, closed: _Way) -> None:
        """Read the kubeconfig again for the next request: a new address or a new authority may be in it by then."""
        with self._lock:
            if self._way is closed:
                self._way = None

    def _new_way(self, before: int) -> _Way:
        """Load the credentials; `before` is `_loads` before the lock was waited for.

        Who waited while somebody else failed has failed too: a program may take its whole time at every try.
        """
        if self._load_error is not None and self._loads != before:
            raise type(self._load_error)(str(self._load_error)) from self._load_error
        self._load_error = None
        try:
            access = credentials.load(self._settings)
        except (UsageError, TemporaryError) as error:
            self._load_error = error
            raise
        finally:
            self._loads += 1
        return access, Pool(access, self._settings.parallel)

    # -- one request

    def _ask(
        self,
        way: _Way,
        method: str,
        target: str,
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> Answer:
        access, pool = way
        seconds = self._settings.timeout_seconds
        self._check_place(access)
        self._keep_the_pause()
        self._pace.wait(seconds)
        connect = min(seconds, connect_seconds(self._turned_away))
        headers = {**headers, **access.headers}
        if access.impersonation:  # a mapping that holds several values of one name, and tells them one by one
            headers = HTTPHeaderDict([*headers.items(), *access.impersonation])
        try:
            with within(seconds):
                answer = pool.ask(
                    method,
                    access.path + target,
                    headers,
                    body or b"",
                    connect=connect,
                    read=seconds,
                )
        except (NoWayIn, CutOff, OSError) as error:
            if isinstance(error, NoWayIn):
                self._turned_away += 1
                self._forget(way)
            raise TemporaryError(f"{access.server}: {self._why(error)}") from error
        self._turned_away = 0
        if (date := _date_of(answer.date)) is not None:
            self._heard = date, monotonic()
        self._note_a_pause(access, answer)
        return answer

    def _why(self, error: Exception) -> str:
        """Say what went wrong without the library's own wrapping, which repeats addresses of objects in memory."""
        cause: BaseException = error
        while cause.__cause__ is not None or cause.__context__ is not None:
            cause = cause.__cause__ or cause.__context__ or cause
        said = line(str(cause), 200) or type(cause).__name__
        if isinstance(cause, TimeoutError):
            return f"no answer in time ({said})"
        if not isinstance(error, NoWayIn):
            return f"the connection broke off ({said})"
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted; the authority is that of {self._settings.kubeconfig}: {said}"
        return f"TLS failed: {said}" if isinstance(cause, ssl.SSLError) else said

    def _keep_the_pause(self) -> None:
        left = self._not_before - monotonic()
        if left > 0:
            raise TemporaryError(self._why_paused, pause_seconds=left)  # in the same words, as nothing new was heard

    def _note_a_pause(self, access: Access, answer: Answer) -> None:
        pause = _pause_of(answer)
        is_busy = answer.status == HTTPStatus.TOO_MANY_REQUESTS or (
            answer.status == HTTPStatus.SERVICE_UNAVAILABLE and answer.retry_after  # without, it may be one API of many
        )
        if not is_busy and not (pause and answer.status in _TROUBLE):
            return
        message = f"{access.server} {'is too busy' if is_busy else 'is in trouble'} ({answer.status})"
        message += f", and asks for a pause of {_duration(pause)}" if pause else ""
        if (until := monotonic() + pause) > self._not_before:
            self._not_before, self._why_paused = until, message
        raise TemporaryError(message, pause_seconds=pause)


def _pause_of(answer: Answer) -> float:
    """Return the seconds that `Retry-After` asks for, as a number or as a moment; 0 where it does not, or is past."""
    asked = answer.retry_after.strip()
    if asked.isdecimal():
        return min(float(asked), LONGEST_PAUSE_SECONDS)
    until = _date_of(asked)
    if until is None:
        return 0.0
    now = _date_of(answer.date) or wall()  # by the member's own clock, where it tells the time
    return min(max(0.0, (until - now).total_seconds()), LONGEST_PAUSE_SECONDS)


def _duration(seconds: float) -> str:
    return format_duration(timedelta(seconds=round(seconds)))


@lru_cache(maxsize=1024)
def _encoded(query: tuple[tuple[str, str], ...]) -> str:
    return urlencode(query)


def connect_seconds(turned_away: int) -> float:
    """Return how long to wait to be let in, after so many attempts in a row that were not.

    Whoever waits long at a closed door sees late that it has been opened.
    """
    return _CONNECT_SECONDS if turned_away % _PATIENT_KNOCK == 0 else _KNOCK_SECONDS


@lru_cache(maxsize=16)
def _date_of(text: str) -> datetime | None:
    """Return the moment that a header names; None for one that cannot be read."""
    try:
        found = parsedate_to_datetime(text) if text else None
        return found and (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
