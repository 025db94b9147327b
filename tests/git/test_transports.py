"""The same mirror over every transport, against real servers that also misbehave."""

import base64
import stat
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reconciler.git import mirror as mirrors
from reconciler.git import publish
from reconciler.git.mirror import Mirror
from reconciler.git.run import GitError
from tests import servers

BRANCHES = ("main", "fleet-status")
WHEN = datetime(2026, 11, 23, 12, 30, 45, tzinfo=UTC)


@pytest.fixture
def http(remote, clone):
    """The remote over smart HTTP, open to everybody."""
    with servers.http_server(remote.parent) as server:
        yield server


@pytest.fixture
def guarded(remote, clone):
    """The remote over smart HTTP, for those who know the password."""
    with servers.http_server(remote.parent, user="deploy", password="s3cr3t:ü") as server:
        yield server


@pytest.fixture
def ssh(tmp_path, monkeypatch):
    """An ssh server whose keys the environment names."""
    with servers.ssh_server(tmp_path / "ssh") as server:
        monkeypatch.setenv("RECONCILER_SSH_KEY_FILE", str(server.key))
        monkeypatch.setenv("RECONCILER_SSH_KNOWN_HOSTS_FILE", str(server.known_hosts))
        yield server


def opened(tmp_path: Path, url: str) -> Mirror:
    return Mirror.open(tmp_path / "state", url, BRANCHES)


def tip(repository: Path, branch: str) -> str:
    return servers.git(repository, "for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}")


def record(mirror: Mirror, base: str | None, content: bytes = b"1") -> str:
    return publish.write_commit(mirror.git, base=base, changes={"a": content}, message="Record\n", when=WHEN)


@pytest.mark.parametrize("transport", ["path", "file", "http", "ssh"])
def test_a_mirror_fetches_and_pushes_over(transport, remote, clone, tmp_path, request):
    with ExitStack() as stack:
        url = {
            "path": lambda: str(remote),
            "file": lambda: f"file://{remote}",
            "http": lambda: request.getfixturevalue("http").url + "/fleet.git",
            "ssh": lambda: request.getfixturevalue("ssh").url(remote),
        }[transport]()
        mirror = stack.enter_context(opened(tmp_path, url))
        assert mirror.fetch() == {"main": servers.git(clone, "rev-parse", "main")}
        sha = record(mirror, None)
        assert publish.push(mirror, "fleet-status", sha, None) is True
        assert tip(remote, "fleet-status") == sha
        newest = servers.commit(clone, {"large": "x\n" * 1_000_000})
        servers.git(clone, "push", "--quiet", "origin", "main")
        assert mirror.fetch() == {"main": newest, "fleet-status": sha}


# -- http ----------------------------------------------------------------------------------------------------


def authorizations(server: servers.HttpServer) -> set[str]:
    return {headers["Authorization"] for _, headers in server.requests if "Authorization" in headers}


@pytest.mark.parametrize("form", ["variable", "file", "user in the URL"])
def test_a_password_comes_from_a_variable_or_a_file(form, guarded, tmp_path, monkeypatch, clone):
    url = f"{guarded.url}/fleet.git"
    if form == "user in the URL":
        url = url.replace("http://", "http://deploy@")
    else:
        monkeypatch.setenv("RECONCILER_GIT_USERNAME", "deploy")
    if form == "file":
        (tmp_path / "password").write_text("s3cr3t:ü\n", encoding="utf-8")
        monkeypatch.setenv("RECONCILER_GIT_PASSWORD_FILE", str(tmp_path / "password"))
    else:
        monkeypatch.setenv("RECONCILER_GIT_PASSWORD", "s3cr3t:ü")
    with opened(tmp_path, url) as mirror:
        assert mirror.fetch() == {"main": servers.git(clone, "rev-parse", "main")}
        assert publish.push(mirror, "fleet-status", record(mirror, None), None) is True
    # a user named in the URL is tried without a password first
    assert authorizations(guarded) - {"Basic " + base64.b64encode(b"deploy:").decode()} == {
        "Basic " + base64.b64encode("deploy:s3cr3t:ü".encode()).decode()
    }
    assert b"s3cr3t" not in b"".join(path.read_bytes() for path in mirror.directory.rglob("*") if path.is_file())


def test_a_wrong_password_is_an_error_without_the_password(guarded, tmp_path, monkeypatch):
    monkeypatch.setenv("RECONCILER_GIT_USERNAME", "deploy")
    monkeypatch.setenv("RECONCILER_GIT_PASSWORD", "wr0ng")
    with opened(tmp_path, f"{guarded.url}/fleet.git") as mirror, pytest.raises(GitError) as failure:
        mirror.fetch()
    assert "Authentication failed" in str(failure.value)
    assert "wr0ng" not in str(failure.value) + failure.value.stderr


def test_without_a_password_nobody_is_asked(guarded, tmp_path, monkeypatch):
    monkeypatch.setenv("SSH_ASKPASS", str(tmp_path / "asked"))
    with (
        opened(tmp_path, f"{guarded.url}/fleet.git") as mirror,
        pytest.raises(GitError, match="terminal prompts disabled"),
    ):
        mirror.fetch()


def test_a_redirect_to_another_host_is_not_followed_and_gets_no_password(guarded, remote, tmp_path, monkeypatch):
    monkeypatch.setenv("RECONCILER_GIT_USERNAME", "deploy")
    monkeypatch.setenv("RECONCILER_GIT_PASSWORD", "s3cr3t:ü")
    with servers.http_server(remote.parent, user="deploy", password="other") as thief:
        guarded.redirects_to = thief.url
        with opened(tmp_path, f"{guarded.url}/fleet.git") as mirror, pytest.raises(GitError, match="302"):
            mirror.fetch()
        assert thief.requests == []


def test_the_password_is_for_the_configured_host_only(guarded, remote, tmp_path, monkeypatch):
    """Even a git that is sent elsewhere finds no password to give."""
    monkeypatch.setenv("RECONCILER_GIT_USERNAME", "deploy")
    monkeypatch.setenv("RECONCILER_GIT_PASSWORD", "s3cr3t:ü")
    with (
        servers.http_server(remote.parent, user="deploy", password="s3cr3t:ü") as other,
        opened(tmp_path, f"{guarded.url}/fleet.git") as mirror,
    ):
        with pytest.raises(GitError, match="terminal prompts disabled"):
            mirror.git.run("ls-remote", f"{other.url}/fleet.git")
        assert len(other.requests) > 0
        assert authorizations(other) == set()


def test_a_lost_reply_to_a_push_is_a_push(http, remote, tmp_path):
    with opened(tmp_path, f"{http.url}/fleet.git") as mirror:
        mirror.fetch()
        http.loses_push_replies = True
        first = record(mirror, None)
        assert publish.push(mirror, "fleet-status", first, None) is True
        second = record(mirror, first, b"2")
        assert publish.push(mirror, "fleet-status", second, first) is True
        assert tip(remote, "fleet-status") == second == mirror.tip("fleet-status")


def test_a_lost_reply_to_a_rejected_push_is_no_push(http, remote, tmp_path):
    servers.hook(remote, "pre-receive", "exit 1")
    with opened(tmp_path, f"{http.url}/fleet.git") as mirror:
        http.loses_push_replies = True
        with pytest.raises(GitError, match="git push …: "):
            publish.push(mirror, "fleet-status", record(mirror, None), None)
    assert tip(remote, "fleet-status") == ""


def test_a_hook_is_heard_over_http(http, remote, tmp_path):
    servers.hook(remote, "pre-receive", "echo 'quota exceeded' >&2; exit 1")
    with opened(tmp_path, f"{http.url}/fleet.git") as mirror, pytest.raises(GitError, match="quota exceeded"):
        publish.push(mirror, "fleet-status", record(mirror, None), None)


def test_a_server_that_stalls_is_left_after_the_deadline(http, tmp_path, monkeypatch):
    monkeypatch.setattr(mirrors, "_LOOK", 0.5)
    with opened(tmp_path, f"{http.url}/fleet.git") as mirror:
        mirror.fetch()
        before = mirror.tip("main")
        http.stalls = True
        with pytest.raises(GitError, match=r"git ls-remote …: no end after 500ms"):
            mirror.fetch()
        http.stalls = False
        http.released.set()
        assert mirror.fetch() == {"main": before}


def test_a_repository_that_is_not_there_is_said(http, tmp_path):
    with opened(tmp_path, f"{http.url}/other.git") as mirror, pytest.raises(GitError, match=r"other\.git.* not found"):
        mirror.fetch()


def test_a_refused_connection_is_said(tmp_path):
    with opened(tmp_path, "http://127.0.0.1:9/fleet.git") as mirror, pytest.raises(GitError, match="Failed to connect"):
        mirror.fetch()


# -- ssh -----------------------------------------------------------------------------------------------------


def test_another_host_key_is_refused(ssh, remote, clone, tmp_path):
    servers.make_key(tmp_path / "imposter")
    host = ssh.known_hosts.read_text().split(" ")[0]
    ssh.known_hosts.write_text(f"{host} {(tmp_path / 'imposter.pub').read_text()}")
    with opened(tmp_path, ssh.url(remote)) as mirror, pytest.raises(GitError, match="Host key verification failed"):
        mirror.fetch()


def test_an_unknown_host_is_refused(ssh, remote, clone, tmp_path):
    ssh.known_hosts.write_text("")
    with opened(tmp_path, ssh.url(remote)) as mirror, pytest.raises(GitError, match="Host key verification failed"):
        mirror.fetch()


def test_another_key_is_refused_and_nobody_is_asked(ssh, remote, clone, tmp_path, monkeypatch):
    servers.make_key(tmp_path / "other")
    monkeypatch.setenv("RECONCILER_SSH_KEY_FILE", str(tmp_path / "other"))
    with opened(tmp_path, ssh.url(remote)) as mirror, pytest.raises(GitError, match="Permission denied"):
        mirror.fetch()


def test_key_and_hosts_files_may_have_odd_names(ssh, remote, clone, tmp_path, monkeypatch):
    folder = tmp_path / "my 100% 'keys'"
    folder.mkdir()
    ssh.key.rename(folder / "id key")
    ssh.known_hosts.rename(folder / "known hosts")
    assert stat.S_IMODE((folder / "id key").stat().st_mode) == 0o600
    monkeypatch.setenv("RECONCILER_SSH_KEY_FILE", str(folder / "id key"))
    monkeypatch.setenv("RECONCILER_SSH_KNOWN_HOSTS_FILE", str(folder / "known hosts"))
    with opened(tmp_path, ssh.url(remote)) as mirror:
        assert mirror.fetch() == {"main": servers.git(clone, "rev-parse", "main")}


# -- the remote's clock ----------------------------------------------------------------------------------------


def test_what_the_clock_of_an_http_server_says_is_heard(guarded, remote, tmp_path, monkeypatch):
    monkeypatch.setenv("RECONCILER_GIT_USERNAME", "deploy")
    monkeypatch.setenv("RECONCILER_GIT_PASSWORD", "s3cr3t:ü")
    with opened(tmp_path, f"{guarded.url}/{remote.name}") as mirror:
        assert mirror.date is None
        for date, heard in (
            ("Wed, 21 Oct 2015 07:28:00 GMT", datetime(2015, 10, 21, 7, 28, tzinfo=UTC)),
            ("yesterday", None),
            ("Fri, 31 Dec 9999 23:59:00 -2359", None),
        ):
            guarded.date = date
            mirror.heads()
            assert mirror.date == heard


def test_a_refusal_is_told_without_the_headers_that_led_to_it(guarded, remote, tmp_path, monkeypatch):
    monkeypatch.setenv("RECONCILER_GIT_USERNAME", "deploy")
    monkeypatch.setenv("RECONCILER_GIT_PASSWORD", "wrong")
    with opened(tmp_path, f"{guarded.url}/{remote.name}") as mirror, pytest.raises(GitError) as error:
        mirror.heads()
    assert "Authentication failed" in str(error.value)
    for word in ("header", "wrong", "Info:", "http.c"):
        assert word not in error.value.stderr


def test_a_remote_that_is_a_path_has_no_clock(remote, clone, tmp_path):
    with opened(tmp_path, str(remote)) as mirror:
        mirror.heads()
        assert mirror.date is None
