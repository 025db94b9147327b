"""What goes out to a member beside what is asked, and what of its answers counts for more than one request."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.clock import monotonic
from reconciler.core.actions import Content, Reason
from reconciler.core.model import PLACEMENT_GROUP, Key
from reconciler.delivery.kubernetes import api as rooms
from reconciler.delivery.kubernetes.connection import Connection
from reconciler.delivery.kubernetes.names import Resource
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


def connected(folder: Path, server: Server, *, seconds: float = 10, **user: Any) -> Connection:
    file = kubeconfig(folder, {"token": "t", **user}, server.listener.getsockname()[1])
    settings = {"kubeconfig": str(file), "insecureAllowHttp": True, "timeoutSeconds": seconds}
    return Connection(read("a", settings))


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
    with pytest.raises(TemporaryError, match="a pause of" if pause else "too busy"):
        connection.request("GET", "/version")
    assert len(server.heard) == (1 if pause else 2)


@pytest.mark.parametrize("headers", [[], ["Retry-After: 0"], ["Retry-After: soon"]])
@pytest.mark.parametrize("status", [500, 504])
def test_an_error_without_a_pause_may_be_one_objects_alone(server: Server, tmp_path: Path, status: int, headers):
    server.answers = [said(status, *headers)]
    assert connected(tmp_path, server).request("GET", "/version").status == status


# -- who answers


def test_what_leads_elsewhere_now_is_not_asked_before_somebody_made_sure_who_answers_there(tmp_path: Path):
    """A kubeconfig that was replaced between two requests of a delivery sent the second to another cluster."""
    with serving() as old, serving() as new:
        old.answers = [said(200), said(401)]
        connection = connected(tmp_path, old)
        with connection.asking_who():
            connection.request("GET", "/api/v1/namespaces/kube-system")
        kubeconfig(tmp_path, {"token": "t"}, new.listener.getsockname()[1])
        for _ in range(2):
            with pytest.raises(TemporaryError, match="leads here now; who answers is asked first"):
                connection.request("PATCH", "/api/v1/namespaces/a", body=b"body")
        assert new.heard == []
        with connection.asking_who():
            connection.request("GET", "/api/v1/namespaces/kube-system")
        connection.request("PATCH", "/api/v1/namespaces/a", body=b"body")
        assert [one.split()[0] for one in new.heard] == [b"GET", b"PATCH"]


def test_a_list_that_does_not_end_is_given_up(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    page = json.dumps({"metadata": {"continue": "more"}, "items": [{"metadata": {"name": "a" * 1000}}]}).encode()
    server.answers = [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(page), page)]
    monkeypatch.setattr(rooms, "_LIST_BYTES", 20_000)
    kind = Resource(group="", version="v1", kind="ConfigMap", plural="configmaps", namespaced=True)
    with pytest.raises(TemporaryError, match="the list of the member does not end"):
        list(rooms.Api(connected(tmp_path, server)).items(kind, "a", "b"))
    assert 15 < len(server.heard) < 25


def test_a_drip_without_tls_costs_the_deadline_and_no_more(tmp_path: Path):
    with serving() as server:
        server.drips = 0.1
        connection = connected(tmp_path, server, seconds=0.5)
        began = monotonic()
        with pytest.raises(TemporaryError, match="no answer in time"):
            connection.request("GET", "/version")
        assert monotonic() - began < 2
