"""A fleet begins: `init` and `serve --init`, on an empty repository, twice, and with credentials of the environment."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.commands import run
from reconciler.daemon.anchor import FOLDER_NOTES
from reconciler.daemon.service import Service
from tests import manifests, servers
from tests.commands.conftest import Command

PASSWORD = "s3cr3t:ü"


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody's configuration and credentials."""
    for name in [name for name in os.environ if name.startswith(("GIT_", "RECONCILER_", "SSH_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))


@pytest.fixture
def pia(tmp_path: Path) -> None:
    """Somebody whom git knows."""
    (tmp_path / "gitconfig").write_text("[user]\n\tname = Pia\n\temail = pia@example.org\n", encoding="utf-8")


@pytest.fixture
def nobody(tmp_path: Path) -> None:
    """Somebody whom git does not know, and may not guess."""
    (tmp_path / "gitconfig").write_text("[user]\n\tuseConfigOnly = true\n", encoding="utf-8")


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """An empty bare repository."""
    return servers.bare_repository(tmp_path / "srv" / "fleet.git")


@pytest.fixture(params=["http", "ssh"])
def url(request: pytest.FixtureRequest, remote: Path, tmp_path: Path, monkeypatch) -> Iterator[str]:
    """The URL of the repository behind a password or a key, which the environment names."""
    if request.param == "http":
        monkeypatch.setenv("RECONCILER_GIT_USERNAME", "deploy")
        monkeypatch.setenv("RECONCILER_GIT_PASSWORD", PASSWORD)
        with servers.http_server(remote.parent, user="deploy", password=PASSWORD) as server:
            yield f"{server.url}/fleet.git"
    else:
        with servers.ssh_server(tmp_path / "ssh") as server:
            monkeypatch.setenv("RECONCILER_SSH_KEY_FILE", str(server.key))
            monkeypatch.setenv("RECONCILER_SSH_KNOWN_HOSTS_FILE", str(server.known_hosts))
            yield server.url(remote)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Service]:
    """The services that were started, each of which ends at once."""
    found: list[Service] = []

    def ended(service: Service) -> None:
        found.append(service)

    monkeypatch.setattr(Service, "run", ended)
    return found


def serve(where: str, tmp_path: Path, *words: str) -> int:
    places = ("--members", str(tmp_path / "members"), "--state-dir", str(tmp_path / "state"))
    return run(["serve", "--repo", where, *places, *words])


@pytest.mark.usefixtures("pia")
def test_credentials_of_the_environment_reach_every_command(url: str, remote: Path, ask: Command, tmp_path: Path):
    """They reached only the daemon's git, so that `init` needed a git configuration of its own."""
    assert ask(url, "init").code == 0
    clone = servers.clone_of(remote, tmp_path / "clone")
    files = {
        "clusters/east.yaml": manifests.cluster("east"),
        "resources/app.yaml": manifests.namespace(),
        "placements/web.yaml": manifests.placement(),
        "strategies/rings.yaml": manifests.strategy(manifests.stage("all", labels={})),
    }
    servers.commit(clone, files, "Fill")
    servers.git(clone, "push", "--quiet", "origin", "HEAD:main")
    assert ask(url, "get", "clusters", "-o", "name").out.endswith("/east\n")
    servers.git(clone, "remote", "set-url", "origin", url)
    assert ask(clone, "get", "clusters", "-o", "name").out.endswith("/east\n")
    assert ask(clone, "run", "create", "web-1", "--placement", "web", "--strategy", "rings").code == 0
    assert ask(clone, "run", "create", "web-2", "--placement", "web", "--strategy", "rings").code == 0
    assert servers.git(remote, "log", "--format=%an", "-2", "main") == "Pia\nPia"


@pytest.mark.usefixtures("pia")
def test_serve_begins_an_empty_repository_in_one_step(url: str, remote: Path, tmp_path: Path, served):
    assert serve(url, tmp_path, "--init") == 0
    assert len(served) == 1
    assert servers.git(remote, "log", "--format=%an", "main") == "Pia"
    assert servers.git(remote, "ls-tree", "-d", "--name-only", "main").split() == [".vscode", *sorted(FOLDER_NOTES)]
    assert servers.git(remote, "log", "--format=%an", "fleet-status") == "reconciler"


@pytest.mark.usefixtures("nobody")
def test_serve_says_what_to_do_where_git_knows_nobody(remote: Path, tmp_path: Path, served, capsys):
    assert serve(str(remote), tmp_path, "--init") == 2
    assert served == []
    said = capsys.readouterr().err
    for words in ("has no branch main yet", "git config --global user.name", f"reconciler init --repo {remote}"):
        assert words in said
    assert servers.git(remote, "for-each-ref") == ""


@pytest.mark.usefixtures("pia")
def test_a_second_beginning_finds_nothing_to_do(remote: Path, ask: Command):
    first = ask(remote, "init")
    assert (first.code, first.err) == (0, "")
    assert first.out.splitlines()[-1] == f"next: reconciler serve --repo {remote} --members DIR"
    heads = servers.git(remote, "for-each-ref")
    again = ask(remote, "init")
    assert (again.code, again.err) == (0, "")
    assert again.out.startswith("branch fleet-status exists already, for repository ")
    assert again.out.endswith(": nothing to do\n")
    assert servers.git(remote, "for-each-ref") == heads


@pytest.mark.usefixtures("pia")
def test_a_branch_that_is_not_ours_is_not_taken_for_a_status(remote: Path, ask: Command, tmp_path: Path):
    clone = servers.clone_of(remote, tmp_path / "clone")
    servers.commit(clone, {"README.md": "x\n"})
    servers.git(clone, "push", "--quiet", "origin", "HEAD:main", "HEAD:fleet-status")
    said = ask(remote, "init")
    assert (said.code, said.out) == (4, "")
    assert "has no fleet.yaml: not one of ours; name another one with --status-branch" in said.err
    assert ask(remote, "init", "--status-branch", "status").code == 0
    servers.git(clone, "push", "--quiet", "origin", "HEAD:trunk")
    said = ask(remote, "init", "--status-branch", "status", "--branch", "trunk")
    assert said.code == 4
    assert "branch status exists already, and is the status of branch main, not of trunk" in said.err


def test_a_password_does_not_follow_to_another_host(remote: Path, tmp_path: Path, ask: Command, monkeypatch):
    monkeypatch.setenv("RECONCILER_GIT_PASSWORD", PASSWORD)
    monkeypatch.setenv("GIT_TERMINAL_PROMPT", "0")
    clone = servers.clone_of(remote, tmp_path / "clone")
    with (
        servers.http_server(remote.parent, user="git", password=PASSWORD) as server,
        servers.http_server(remote.parent, user="git", password=PASSWORD) as other,
    ):
        server.redirects_to = other.url
        servers.git(clone, "remote", "set-url", "origin", f"{server.url}/fleet.git")
        assert ask(clone, "get", "csur").code == 2
        assert other.requests
        assert not [headers for _, headers in other.requests if "Authorization" in headers]


def test_the_installed_command_begins_with_serve_alone(remote: Path, tmp_path: Path, pia):
    """Once as a process: it serves until it is told to end."""
    places = ("--members", str(tmp_path / "members"), "--state-dir", str(tmp_path / "state"), "--init")
    arguments = [sys.executable, "-m", "reconciler", "serve", "--repo", str(remote), *places]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as daemon:
        assert daemon.stderr is not None
        lines = iter(daemon.stderr.readline, "")
        try:
            assert any("event='serving'" in line for line in lines)
        finally:
            daemon.terminate()
        assert "event='stopped'" in "".join(lines)
    assert daemon.returncode == 0
