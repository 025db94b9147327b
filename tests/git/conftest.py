"""Fixtures named after situations: a remote, a clone of it, and the daemon's mirror."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.git.mirror import Mirror
from tests import servers

BRANCHES = ("main", "fleet-status")


@pytest.fixture(autouse=True)
def _nobodys_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep whoever runs the tests, and their git configuration, out of them."""
    for name in [name for name in os.environ if name.startswith(("GIT_", "RECONCILER_", "SSH_"))]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """An empty bare repository."""
    return servers.bare_repository(tmp_path / "srv" / "fleet.git")


@pytest.fixture
def clone(remote: Path, tmp_path: Path) -> Path:
    """A work tree of the remote, whose `main` has one commit that is pushed."""
    clone = servers.clone_of(remote, tmp_path / "clone")
    servers.commit(clone, {"README.md": "A fleet\n"}, "Begin")
    servers.git(clone, "push", "--quiet", "origin", "main")
    return clone


@pytest.fixture
def mirror(remote: Path, clone: Path, tmp_path: Path) -> Iterator[Mirror]:
    """The daemon's mirror of the remote, fetched."""
    with Mirror.open(tmp_path / "state", str(remote), BRANCHES) as mirror:
        mirror.fetch()
        yield mirror
