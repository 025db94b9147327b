"""Starting programs that never outlive the test run, reserving ports for them, waiting for them, reading their logs."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from reconciler import clock

_GUARDIAN = Path(__file__).with_name("guardian.py")
_PAUSE = 0.05
_TAIL = 25


class ControlPlaneError(Exception):
    """A control plane did not do what was asked of it; the text holds the end of the log concerned."""


@dataclass(slots=True, kw_only=True)
class Process:
    """One running program and its log."""

    name: str
    log: Path
    child: subprocess.Popen[bytes]

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.child.poll() is None

    def kill(self) -> None:
        """End it at once, as a machine that fails would."""
        self.child.kill()
        self.child.wait()

    def tail(self, lines: int = _TAIL) -> str:
        """Return the last lines of its log under a heading that says whether it lives."""
        state = "running" if self.alive else f"ended with code {self.child.returncode}"
        text = self.log.read_text(errors="replace").splitlines()
        return "\n".join([f"--- {self.name} ({state}), {self.log}", *text[-lines:]])


class ProcessGroup:
    """Programs in a process group of their own, so that Ctrl-C does not reach them and one signal ends them all."""

    def __init__(self, folders: Iterable[Path] = ()) -> None:
        """Start the guardian; it removes `folders` if this process dies before `close`."""
        self._guardian = subprocess.Popen(
            [sys.executable, "-I", str(_GUARDIAN), *map(str, folders)], stdin=subprocess.PIPE, process_group=0
        )
        self._children: list[subprocess.Popen[bytes]] = []

    @property
    def id(self) -> int:
        """The number of the group."""
        return self._guardian.pid

    def start(self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Process:
        """Start a program in the group; what it says is appended to `log`."""
        with log.open("ab") as output:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                cwd=log.parent,
                process_group=self.id,
            )
        self._children.append(child)
        return Process(name=name, log=log, child=child)

    def close(self) -> None:
        """Kill everything in the group and wait until it is gone; a second call does nothing."""
        if self._guardian.returncode is not None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self.id, signal.SIGKILL)
        for child in (*self._children, self._guardian):
            child.wait()
        if self._guardian.stdin:
            self._guardian.stdin.close()


class ReservedPort:
    """A TCP port of 127.0.0.1 that nobody else gets, also while its server is down.

    The socket is bound but does not listen: connecting is refused, the kernel gives the port to nobody, and a server
    that sets SO_REUSEPORT (API server and etcd have a flag for it) can listen on it again and again.
    """

    def __init__(self) -> None:
        """Take any free port."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.bind(("127.0.0.1", 0))
        self.number: int = self._socket.getsockname()[1]

    def close(self) -> None:
        """Give the port back."""
        self._socket.close()


def wait_until(what: str, check: Callable[[], bool], processes: Sequence[Process] = (), seconds: float = 120) -> None:
    """Return once `check` holds; raise `ControlPlaneError` when a process ends or the time is up, showing the logs."""
    deadline = clock.monotonic() + seconds
    while not check():
        ended = [process for process in processes if not process.alive]
        if ended:
            raise ControlPlaneError(f"waiting for {what}, but\n" + "\n".join(process.tail() for process in ended))
        if clock.monotonic() > deadline:
            logs = "\n".join(process.tail() for process in processes)
            raise ControlPlaneError(f"{what} did not come about in {seconds:g} seconds\n{logs}")
        clock.sleep(_PAUSE)
