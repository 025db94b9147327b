"""What goes out to a member beside what is asked, and what of its answers counts for more than one request."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.core.actions import Content, Reason
from reconciler.core.model import PLACEMENT_GROUP, Key
from reconciler.delivery.kubernetes.connection import Connection
from reconciler.delivery.kubernetes.settings import read
from tests.delivery.kubernetes.conftest import delivery, fence
from tests.delivery.kubernetes.test_credentials import EXEC
from tests.delivery.kubernetes.test_pool import Server


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that says what the test has it say."""
    server = Server(socket.create_server(("127.0.0.1", 0)))
    threading.Thread(target=server.work, daemon=True).start()
    yield server
    server.stop()
    for connection in server.connections:
        connection.close()


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
