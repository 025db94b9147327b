"""Signals reach the daemon, a real process, whichever of its threads the kernel hands them to."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import manifests, servers
from tests.serving import ended, until
from tests.test_article import COMMAND

FILES = {
    "clusters/east.yaml": manifests.cluster("east"),
    "placements/web.yaml": manifests.placement(),
    "resources/app.yaml": manifests.namespace(),
    "resources/settings.yaml": manifests.config_map("old"),
}


class Serving:
    """A daemon that polls once an hour, on a repository with a placement; it has made its first passes."""

    def __init__(self, folder: Path) -> None:
        self.remote = servers.bare_repository(folder / "fleet.git")
        self.clone = servers.clone_of(self.remote, folder / "clone")
        self.push(FILES)
        places = ("--members", str(folder / "members"), "--state-dir", str(folder / "state"), "--init")
        arguments = [COMMAND, "serve", "--repo", str(self.remote), *places, "--poll-period-seconds", "3600"]
        self.process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
        until(lambda: self.sees("web-0-snapshot") and self.rests())

    def push(self, files: dict[str, str]) -> None:
        servers.commit(self.clone, dict(files))
        servers.git(self.clone, "push", "--quiet", "origin", "HEAD:main")

    def sees(self, name: str) -> bool:
        """Tell whether the status branch has a file whose name contains this."""
        held = servers.git(self.remote, "branch", "--list", "fleet-status")
        return bool(held) and name in servers.git(self.remote, "ls-tree", "-r", "--name-only", "fleet-status")

    def threads(self) -> list[Path]:
        """Return what the system tells of each of its threads."""
        return list(Path(f"/proc/{self.process.pid}/task").iterdir())

    def children(self) -> list[int]:
        """Return the ids of the processes it has started, and waits for."""
        return [int(child) for one in self.threads() for child in (one / "children").read_text().split()]

    def rests(self) -> bool:
        """Tell whether it has no child and all its threads sleep."""
        return not self.children() and {state_of(one) for one in self.threads()} == {"S"}

    def another_thread(self) -> int:
        """Return the id of a thread that is not the main one."""
        return max(int(one.name) for one in self.threads() if int(one.name) != self.process.pid)


def state_of(task: Path) -> str:
    """Return the letter of a process's or thread's state: S sleeping, T stopped."""
    return (task / "stat").read_text().rpartition(")")[2].split()[0]


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    """A daemon at rest."""
    made = Serving(tmp_path)
    yield made
    ended(made.process)


def while_paused(serving: Serving, number: signal.Signals) -> None:
    """Send a signal while every thread is stopped: the one that wakes up first gets it."""
    serving.process.send_signal(signal.SIGSTOP)
    until(lambda: state_of(Path(f"/proc/{serving.process.pid}")) == "T")
    serving.process.send_signal(number)
    serving.process.send_signal(signal.SIGCONT)


def to_another_thread(serving: Serving, number: signal.Signals) -> None:
    """Send a signal to the process by the id of one of its threads: Linux hands it to that one."""
    os.kill(serving.another_thread(), number)


Sender = Callable[[Serving, signal.Signals], None]


@pytest.mark.parametrize("sends", [while_paused, to_another_thread])
def test_a_signal_is_acted_on_at_once_whichever_thread_gets_it(serving: Serving, sends: Sender):
    """The daemon acted on it only when the main thread woke up for another reason: at the next poll."""
    serving.push({"resources/settings.yaml": manifests.config_map("new")})
    sends(serving, signal.SIGHUP)
    until(lambda: serving.sees("web-1-snapshot"))
    until(serving.rests)
    sends(serving, signal.SIGTERM)
    assert serving.process.wait(timeout=60) == 0


def test_a_git_that_the_daemon_has_started_has_no_signal_blocked(serving: Serving, tmp_path: Path):
    """A mask of blocked signals would be inherited by git, and by whatever fetches a member's credentials."""
    hold, held = tmp_path / "hold", tmp_path / "held"
    serving.push({"resources/settings.yaml": manifests.config_map("new")})
    hold.touch()
    servers.hook(serving.remote, "pre-receive", f"touch '{held}'; while test -e '{hold}'; do sleep 0.1; done")
    serving.process.send_signal(signal.SIGHUP)
    until(held.exists)
    (git,) = serving.children()
    lines = Path(f"/proc/{git}/status").read_text().splitlines()
    hold.unlink()
    assert [line.split() for line in lines if line.startswith("SigBlk")] == [["SigBlk:", "0" * 16]]
