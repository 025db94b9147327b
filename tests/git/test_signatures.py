"""Who signed a commit: a key on the operator's list, or nobody."""

import subprocess
from pathlib import Path

import pytest

from reconciler.git.run import HARDENED, Git
from reconciler.git.signatures import signer
from tests import servers


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a key for each of two people."""
    for name in ("olga", "mallory"):
        command = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(tmp_path / name))
        subprocess.run(command, check=True, capture_output=True)
    folder = tmp_path / "clone"
    servers.git(tmp_path, "init", "--quiet", str(folder))
    return folder


def committed(repository: Path, key: str = "") -> str:
    """Commit something, signed with a key or not at all."""
    sign = ("-c", "gpg.format=ssh", "-c", f"user.signingKey={repository.parent / key}") if key else ()
    who = ("-c", "user.name=Olga", "-c", "user.email=olga@example.org")
    how = ("--gpg-sign",) if key else ()
    servers.git(repository, *who, *sign, "commit", "--quiet", "--allow-empty", "--message", f"By {key}", *how)
    return servers.git(repository, "rev-parse", "HEAD")


def test_the_signer_is_whom_the_list_names_for_the_key(repository: Path) -> None:
    allowed = repository.parent / "allowed"
    allowed.write_text(f"olga@example.org {(repository.parent / 'olga.pub').read_text()}")
    git = Git(directory=repository / ".git", profile=HARDENED)
    found = [signer(git, committed(repository, key), allowed) for key in ("olga", "mallory", "")]
    assert found == ["olga@example.org", "", ""]
