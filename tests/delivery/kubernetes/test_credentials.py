"""From a kubeconfig to a way in: as many at once as there are members, certificates from memory, contexts shared."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event, Lock, Semaphore
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from reconciler.delivery.kubernetes import credentials
from reconciler.delivery.kubernetes import settings as settings_room
from reconciler.delivery.kubernetes.connection import Connection
from reconciler.delivery.kubernetes.settings import MemberSettings, read
from reconciler.delivery.kubernetes.unwell import Unauthorized
from reconciler.errors import TemporaryError, UsageError
from tests.controlplane.certificates import Authority, Certificate
from tests.controlplane.processes import wait_until

THREADS = 50
EXEC = "client.authentication.k8s.io/v1"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority."""
    return Authority(tmp_path_factory.mktemp("authority") / "ca", "test")


@pytest.fixture(scope="module")
def client(authority: Authority) -> Certificate:
    """A client certificate."""
    return authority.client("client", "us")


def data(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()


def load(tmp_path: Path, authority: Authority, user: dict[str, Any], **settings: Any) -> credentials.Access:
    cluster = {"server": "https://127.0.0.1:6443", "certificate-authority-data": data(authority.certificate.cert)}
    document = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    file = tmp_path / "kubeconfig"
    file.write_text(json.dumps(document))
    return credentials.load(MemberSettings(cluster="m", kubeconfig=file, **settings))


@pytest.mark.parametrize("via_program", [False, True], ids=["kubeconfig", "exec"])
def test_many_members_with_the_same_certificate_are_loaded_at_once(
    tmp_path: Path, authority: Authority, client: Certificate, *, via_program: bool
):
    """Each load has files of its own, if any, that no other load takes away."""
    user: dict[str, Any] = {"client-certificate-data": data(client.cert), "client-key-data": data(client.key)}
    if via_program:
        status = {"clientCertificateData": client.cert.read_text(), "clientKeyData": client.key.read_text()}
        (tmp_path / "answer").write_text(json.dumps({"apiVersion": EXEC, "kind": "ExecCredential", "status": status}))
        user = {"exec": {"apiVersion": EXEC, "command": "cat", "args": [str(tmp_path / "answer")]}}
    settings = MemberSettings(cluster="m", kubeconfig=tmp_path / "kubeconfig", allow_exec=True)
    load(tmp_path, authority, user, allow_exec=True)
    together = Barrier(THREADS)

    def one(_: int) -> bool:
        together.wait()
        return all(credentials.load(settings).trust is not None for _ in range(4))

    with ThreadPoolExecutor(THREADS) as threads:
        assert list(threads.map(one, range(THREADS))) == [True] * THREADS


def test_members_of_one_authority_share_what_they_trust_and_nothing_that_proves_who_we_are(
    tmp_path: Path, authority: Authority, client: Certificate
):
    first, second = (load(tmp_path, authority, {"token": token}) for token in ("one", "two"))
    assert first.trust is second.trust
    assert (first.headers, second.headers) == ({"Authorization": "Bearer one"}, {"Authorization": "Bearer two"})
    user = {"client-certificate": str(client.cert), "client-key": str(client.key)}
    third, fourth = (load(tmp_path, authority, user) for _ in range(2))
    assert len({id(one.trust) for one in (first, third, fourth)}) == 3


@pytest.mark.parametrize(
    ("user", "authorization"),
    [
        ({"token": "t\n"}, "Bearer t"),
        ({"token": "t", "tokenFile": "nowhere"}, "Bearer t"),
        ({"tokenFile": "token"}, "Bearer from-the-file"),
        ({"username": "u", "password": "p"}, "Basic dTpw"),
        ({"username": "u", "password": "p", "token": "t"}, "Bearer t"),
        ({}, None),
        ({"token": ""}, None),
    ],
)
def test_credentials_become_one_header(tmp_path: Path, authority: Authority, user: dict[str, Any], authorization):
    """Paths are relative to the kubeconfig; a token goes before a password."""
    (tmp_path / "token").write_text("from-the-file\n")
    assert load(tmp_path, authority, user).headers.get("Authorization") == authorization


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({}, "answered without a token"),
        ({"clientCertificateData": "x"}, "answered without a token"),
        (None, "missing key 'status'"),
    ],
)
def test_a_program_that_answers_with_nothing_of_use_is_named(tmp_path: Path, authority: Authority, status, said):
    answer = {"apiVersion": EXEC, "kind": "ExecCredential", **({"status": status} if status is not None else {})}
    (tmp_path / "answer").write_text(json.dumps(answer))
    user = {"exec": {"apiVersion": EXEC, "command": "cat", "args": [str(tmp_path / "answer")]}}
    with pytest.raises(UsageError, match=said):
        load(tmp_path, authority, user, allow_exec=True)


def test_a_program_that_is_not_there_is_named(tmp_path: Path, authority: Authority):
    user = {"exec": {"apiVersion": EXEC, "command": "no-such-program-here"}}
    with pytest.raises(UsageError, match="no-such-program-here"):
        load(tmp_path, authority, user, allow_exec=True)


# -- a program that gives the credentials


def plugin(tmp_path: Path, text: str) -> dict[str, Any]:
    """Return a user whose credentials a shell script gives."""
    file = tmp_path / "plugin"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o700)
    return {"exec": {"apiVersion": EXEC, "command": str(file)}}


def is_there(process: int) -> bool:
    """Tell whether a process runs; one that was killed and not yet waited for does not."""
    try:
        return "(" in (stat := Path(f"/proc/{process}/stat").read_text()) and stat.rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def test_a_program_that_does_not_end_is_killed_with_what_it_started(tmp_path: Path, authority: Authority):
    user = plugin(tmp_path, f"sleep 1000 & echo $! $$ > {tmp_path}/started; wait")
    with pytest.raises(
        TemporaryError, match=r"program .*/plugin \(exec\) did not end within 0\.5 s \(timeoutSeconds\)"
    ):
        load(tmp_path, authority, user, allow_exec=True, timeout_seconds=0.5)
    started = [int(one) for one in (tmp_path / "started").read_text().split()]
    wait_until("the end of the program", lambda: not any(is_there(one) for one in started), ())


def test_a_program_is_told_what_it_is_asked_for_and_that_nobody_is_there(tmp_path: Path, authority: Authority):
    """As client-go tells it; its standard input is at its end."""
    user = plugin(tmp_path, f'cat; echo "$KUBERNETES_EXEC_INFO" > {tmp_path}/asked; echo "{{}}"')
    user["exec"] |= {"provideClusterInfo": True, "env": [{"name": "COLOUR", "value": "red"}], "args": ["get"]}
    with pytest.raises(UsageError, match="missing key 'apiVersion'"):
        load(tmp_path, authority, user, allow_exec=True)
    asked = json.loads((tmp_path / "asked").read_text())
    assert (asked["apiVersion"], asked["kind"]) == (EXEC, "ExecCredential")
    assert asked["spec"]["interactive"] is False
    assert asked["spec"]["cluster"]["server"] == "https://127.0.0.1:6443"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo hello", "something else than JSON"),
        ("echo []", "malformed response"),
        ('echo \'{"apiVersion": "v9", "kind": "ExecCredential", "status": {}}\'', "in apiVersion v9, not client"),
        (f'echo \'{{"apiVersion": "{EXEC}", "kind": "ExecCredential", "status": 1}}\'', "status is no mapping"),
    ],
)
def test_what_a_program_did_wrong_is_said(tmp_path: Path, authority: Authority, text: str, said: str):
    with pytest.raises(UsageError, match=said):
        load(tmp_path, authority, plugin(tmp_path, text), allow_exec=True)


def test_what_a_program_that_failed_said_is_in_the_log_alone(tmp_path: Path, authority: Authority):
    """It may be a secret, and what goes wrong with a member is written to the status branch."""
    text = f"echo no account {tmp_path.name} >&2; exit 3"
    with capture_logs() as logs, pytest.raises(TemporaryError) as raised:
        load(tmp_path, authority, plugin(tmp_path, text), allow_exec=True)
    assert str(raised.value).endswith("plugin (exec) ended with 3; what it said is in the log alone")
    assert [(one["said"], one["status"]) for one in logs] == [(f"no account {tmp_path.name}", 3)]


@pytest.mark.parametrize("change", [{"env": [{"name": "A", "value": 1}]}, {"env": [{"name": "A"}]}, {"args": [1]}])
def test_what_no_program_can_be_given_is_a_mistake_in_the_kubeconfig(tmp_path: Path, authority: Authority, change):
    user = plugin(tmp_path, "exit 1")
    user["exec"] |= change
    with pytest.raises(UsageError, match="exec"):
        load(tmp_path, authority, user, allow_exec=True)


class Counted:
    """A lock that says how many have come to it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.came = Semaphore(0)

    def __enter__(self) -> None:
        self.came.release()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


@pytest.mark.parametrize("again", [False, True], ids=["at first", "refused"])
def test_who_waited_for_credentials_that_did_not_come_does_not_wait_again(tmp_path: Path, monkeypatch, *, again: bool):
    """Else the last of eight threads would wait for eight programs that hang."""
    connection, asked, may_fail = Connection(MemberSettings(cluster="m", kubeconfig=tmp_path)), [], Event()

    def hangs(settings: MemberSettings) -> None:
        asked.append(settings)
        may_fail.wait()
        raise TemporaryError("it did not end")

    monkeypatch.setattr(credentials, "load", hangs)
    connection._lock = lock = Counted()  # type: ignore[assignment]
    refused = (SimpleNamespace(server="there"), SimpleNamespace(close=lambda: None))
    connection._way = refused if again else None  # type: ignore[assignment]
    call, error = (
        (lambda: connection._open_again(refused), Unauthorized) if again else (connection._open, TemporaryError)
    )
    with ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(call) for _ in range(8)]
        for _ in calls:
            lock.came.acquire()
        may_fail.set()
        for one in calls:
            with pytest.raises(error, match="it did not end"):
                one.result()
    assert len(asked) == 1
    with pytest.raises(error):  # who comes later tries anew
        call()
    assert len(asked) == 2


# -- as whom we act


ACTING = {
    "token": "t",
    "as": "deployer",
    "as-uid": "07",
    "as-groups": ["teams:web", "prüfer"],
    "as-user-extra": {"example.org/Scope%": ["read", "write"], "reason": ["rollout"]},
}


def test_whom_the_user_acts_as_is_sent_as_client_go_sends_it(tmp_path: Path, authority: Authority):
    """Several values of a name go in as many headers, in UTF-8."""
    access = load(tmp_path, authority, ACTING)
    assert [(name, value.encode("latin-1").decode()) for name, value in access.impersonation] == [
        ("Impersonate-User", "deployer"),
        ("Impersonate-Uid", "07"),
        ("Impersonate-Group", "teams:web"),
        ("Impersonate-Group", "prüfer"),
        ("Impersonate-Extra-example.org%2FScope%25", "read"),
        ("Impersonate-Extra-example.org%2FScope%25", "write"),
        ("Impersonate-Extra-reason", "rollout"),
    ]
    assert access.headers == {"Authorization": "Bearer t"}


@pytest.mark.parametrize("user", [{}, {"as-uid": "", "as-groups": [], "as-user-extra": {}}])
def test_who_acts_as_nobody_else_sends_nothing_of_it(tmp_path: Path, authority: Authority, user):
    assert load(tmp_path, authority, user).impersonation == ()


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ({"as": ""}, "as must be a text"),
        ({"as": None}, "as must be a text"),
        ({"as": 7}, "as must be a text"),
        ({"as": "a\nImpersonate-Group: system:masters"}, "as must be a text"),
        ({"as": " a"}, "as must be a text"),
        ({"as-groups": ["a"]}, "as-groups is given without as"),
        ({"as-uid": "1"}, "as-uid is given without as"),
        ({"as-user-extra": {"a": ["b"]}}, "as-user-extra is given without as"),
        ({"as": "a", "as-groups": "b"}, "as-groups must hold a list"),
        ({"as": "a", "as-groups": [""]}, "as-groups must be a text"),
        ({"as": "a", "as-uid": 1}, "as-uid must be a text"),
        ({"as": "a", "as-user-extra": ["b"]}, "as-user-extra must be a mapping"),
        ({"as": "a", "as-user-extra": {"": ["b"]}}, "as-user-extra must be a text"),
        ({"as": "a", "as-user-extra": {"b": "c"}}, "as-user-extra must hold a list"),
    ],
)
def test_whom_we_cannot_act_as_as_it_is_meant_is_refused(tmp_path: Path, authority: Authority, user, said: str):
    """Left out silently, the rights of the token would be used instead."""
    with pytest.raises(UsageError, match=said):
        load(tmp_path, authority, {"token": "t", **user})


@pytest.mark.parametrize("proxy", ["http://user:word@proxy:3128", "socks5://proxy:1080"])
def test_a_proxy_that_cannot_be_used_as_it_is_meant_is_refused(tmp_path: Path, proxy: str):
    cluster = {"server": "https://a", "proxy-url": proxy}
    document = {
        "clusters": [{"name": "a", "cluster": cluster}],
        "users": [{"name": "a", "user": {"token": "", "tokenFile": "token"}}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "current-context": "a",
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(document))
    (tmp_path / "token").write_text("of the file")
    settings = {"kubeconfig": str(tmp_path / "kubeconfig"), "insecureAllowProxy": True}
    with pytest.raises(UsageError, match="proxy-url has to be an http or https address, without a user or a password"):
        credentials.load(read("a", settings))
    cluster["proxy-url"] = "http://proxy:3128"
    (tmp_path / "kubeconfig").write_text(json.dumps(document))
    assert credentials.load(read("a", settings)).headers == {"Authorization": "Bearer of the file"}


def test_every_setting_of_a_member_is_in_the_readme():
    text = Path(__file__).parents[3].joinpath("README.md").read_text(encoding="utf-8")
    assert [name for name in settings_room._SETTINGS if f"`{name}`" not in text] == []
