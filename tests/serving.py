"""A fleet whose members the operator's settings name, and daemons on it that can be killed, paused and started anew."""

import json
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from reconciler.clock import monotonic, sleep
from tests import servers
from tests.test_article import COMMAND, Tutorial

POLL = "0.5"


class Served(Tutorial):
    """A repository initialized with these files, a person with a clone, and a settings file for the daemons."""

    def __init__(
        self, folder: Path, clusters: Mapping[str, Any], files: Mapping[str, str | None], **settings: Any
    ) -> None:
        remote = servers.bare_repository(folder / "fleet.git")
        super().__init__(folder, remote, remote.as_uri())
        self.settings = folder / "settings.yaml"
        self.settings.write_text(yaml.safe_dump({"delivery": {"clusters": dict(clusters)}, **settings}))
        servers.clone_of(remote, self.clone)
        self.push("Add the fleet", dict(files))
        self.command("init")

    def push(self, message: str, changes: dict[str, str | None], how: str = "plain") -> None:
        """Bring a change to main, on top of what commands have committed there."""
        if servers.git(self.remote, "branch", "--list", "main"):
            servers.git(self.clone, "pull", "--quiet", "--rebase", "origin", "main")
        super().push(message, changes, how)

    def start(self, state: str = "state", settings: Path | None = None) -> subprocess.Popen[bytes]:
        """Start a daemon with a state folder of this name; what it says goes to the log that all share."""
        places = ("--settings", str(settings or self.settings), "--state-dir", str(self.folder / state))
        arguments = [COMMAND, "serve", "--repo", self.url, *places, "--poll-period-seconds", POLL]
        with (self.folder / "serve.log").open("ab") as log:
            return subprocess.Popen(arguments, stderr=log)

    @contextmanager
    def serving(self) -> Iterator[subprocess.Popen[bytes]]:
        """Serve until the end of the block, which must find the daemon alive and leaves it ended cleanly."""
        daemon = self.start()
        try:
            yield daemon
        finally:
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(timeout=30) == 0, self.log()

    def get(self, noun: str, name: str, namespace: str = "") -> dict[str, Any]:
        """Return an object as `get -o json` prints it."""
        scope = ("-n", namespace) if namespace else ()
        found: dict[str, Any] = json.loads(self.command("get", noun, name, "-o", "json", *scope))
        return found

    def status_files(self) -> dict[str, str]:
        """Return every file of the status branch."""
        names = servers.git(self.remote, "ls-tree", "-r", "--name-only", "fleet-status").splitlines()
        return {name: servers.git(self.remote, "show", f"fleet-status:{name}") for name in names}


def condition(body: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return a condition of an object by its type."""
    found: dict[str, Any] = next(one for one in body["status"]["conditions"] if one["type"] == kind)
    return found


def ended(daemon: subprocess.Popen[bytes]) -> None:
    """Kill what still runs, and wait for it."""
    if daemon.poll() is None:
        daemon.kill()
    daemon.wait()


def until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for something that comes by itself."""
    deadline = monotonic() + seconds
    while not holds():
        assert monotonic() < deadline, "it does not come"
        sleep(0.2)
