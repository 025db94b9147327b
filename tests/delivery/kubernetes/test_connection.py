"""What goes out to a member beside what is asked, and what of its answers counts for more than one request."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.core.actions import Content, Reason
from reconciler.core.model import PLACEMENT_GROUP, Key
from reconciler.delivery.kubernetes.connection import Connection
from reconciler.delivery.kubernetes.settings import read
from reconciler.errors import TemporaryError
from tests.delivery.kubernetes.conftest import delivery, fence
from tests.delivery.kubernetes.test_credentials import EXEC
from tests.delivery.kubernetes.test_pool import Server, serving


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as started:
        yield started


def kubeconfig(folder: Path, user: dict[str, Any], port: int = 1) -> Path:
    file = folder / "kubeconfig"
    document = {
        "clusters": [{"name": "a", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "a", "user": user}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "current-context": "a",
    }
    file.write_text(json.dumps(document))
    return file


def connected(folder: Path, server: Server, **user: Any) -> Connection:
    file = kubeconfig(folder, {"token": "t", **user}, server.listener.getsockname()[1])
    return Connection(read("a", {"kubeconfig": str(file), "insecureAllowHttp": True}))


def test_whom_we_act_as_is_in_every_request_a_header_per_group(server: Server, tmp_path: Path):
    connection = connected(tmp_path, server, **{"as": "deployer", "as-groups": ["web", "prüfer"]})
    connection.request("GET", "/version")
    connection.request("POST", "/apis", body=b"body")
    for heard in server.heard:
        lines = heard.split(b"\r\n")
        found = sorted(line for line in lines if line.startswith((b"Impersonate-", b"Authorization")))
        assert found == [
            b"Authorization: Bearer t",
            b"Impersonate-Group: pr\xc3\xbcfer",
            b"Impersonate-Group: web",
            b"Impersonate-User: deployer",
        ]
    assert len(server.heard) == 2


def test_a_program_that_hangs_costs_a_delivery_its_deadline_and_is_named(tmp_path: Path):
    user = {"exec": {"apiVersion": EXEC, "command": "sleep", "args": ["1000"]}}
    opened = delivery(kubeconfig=kubeconfig(tmp_path, user), allowExec=True, insecureAllowHttp=True, timeoutSeconds=0.5)
    placement = Key(group=PLACEMENT_GROUP, kind="ClusterResourcePlacement", name="web")
    report = opened.deliver(placement, Content(hash="h", objects=()), fence(1))
    assert report.reason is Reason.UNREACHABLE
    assert "program sleep (exec) did not end within 0.5 s (timeoutSeconds) and was killed" in report.message


# -- a pause that the member asks for

DATE = "Date: Wed, 21 Oct 2015 07:28:00 GMT"


def said(status: int, *headers: str) -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status} So", "Content-Length: 2", *headers, "", "{}")).encode()


@pytest.mark.parametrize(
    ("status", "headers", "pause", "words"),
    [
        (429, ["Retry-After: 7"], 7, "too busy (429), and asks for a pause of 7s"),
        (429, [], 0, "too busy (429)"),
        (429, ["Retry-After: soon"], 0, "too busy (429)"),
        (503, ["Retry-After: 86400"], 300, "too busy (503), and asks for a pause of 5m0s"),
        (503, [DATE, "Retry-After: Wed, 21 Oct 2015 07:28:20 GMT"], 20, "too busy (503), and asks for a pause of 20s"),
        (503, [DATE, "Retry-After: Wed Oct 21 07:28:20 2015"], 20, "too busy (503), and asks for a pause of 20s"),
        (503, [DATE, "Retry-After: Wed, 21 Oct 2015 07:27:00 GMT"], 0, "too busy (503)"),
        (503, ["Retry-After: Wed, 21 Oct 2015 07:28:20 GMT"], 0, "too busy (503)"),
        (503, ["Retry-After: Fri, 31 Dec 9998 00:00:00 GMT"], 300, "too busy (503), and asks for a pause of 5m0s"),
        (500, ["Retry-After: 3"], 3, "in trouble (500), and asks for a pause of 3s"),
        (504, [DATE, "Retry-After: Wed, 21 Oct 2015 07:28:02 GMT"], 2, "in trouble (504), and asks for a pause of 2s"),
    ],
    ids=[
        "seconds", "no header", "no time", "cut", "moment", "moment of old", "past moment", "past by our clock",
        "future by our clock", "error", "timeout",
    ],
)  # fmt: skip
def test_a_member_says_how_long_it_wants_to_be_left_alone(
    server: Server, tmp_path: Path, *, status: int, headers: list[str], pause: float, words: str
):
    """A moment is compared with the clock that named it: the answer's own `Date`, where it has one."""
    server.answers = [said(status, *headers)]
    connection = connected(tmp_path, server)
    with pytest.raises(TemporaryError) as raised:
        connection.request("GET", "/version")
    assert raised.value.pause_seconds == pause
    assert str(raised.value).endswith(words)
    with pytest.raises(TemporaryError, match="which is not over" if pause else "too busy"):
        connection.request("GET", "/version")
    assert len(server.heard) == (1 if pause else 2)


@pytest.mark.parametrize("headers", [[], ["Retry-After: 0"], ["Retry-After: soon"]])
@pytest.mark.parametrize("status", [500, 504])
def test_an_error_without_a_pause_may_be_one_objects_alone(server: Server, tmp_path: Path, status: int, headers):
    server.answers = [said(status, *headers)]
    assert connected(tmp_path, server).request("GET", "/version").status == status
