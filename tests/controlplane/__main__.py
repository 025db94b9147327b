"""`python -m tests.controlplane up|run|build`: members for a person or a command, and their programs ahead of time."""

import argparse
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.controlplane import binaries
from tests.controlplane.certificates import OpensslError
from tests.controlplane.members import Members, merged
from tests.controlplane.processes import ControlPlaneError

_MARK = ".reconciler-members"  # says that a folder is ours to empty, and is locked while it is in use


class FolderRefusedError(Exception):
    """The folder is somebody else's, or in use."""


def _end_on_signals() -> None:
    """Take SIGTERM for Ctrl-C, and Ctrl-C also where a shell started us in the background, which ignores it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def main() -> int:
    """Run the command; exit code 1 with a sentence when it cannot be done."""
    arguments = _arguments()
    try:
        if arguments.command == "build":
            _build()
        elif arguments.command == "run":
            return _run(arguments.words)
        else:
            _up(arguments.count, arguments.dir, complete=not arguments.quick)
    except (binaries.BinariesUnavailableError, OpensslError, ControlPlaneError, FolderRefusedError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.controlplane", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="build the programs, if they are not there yet")
    up = commands.add_parser("up", help="start members and keep them until Ctrl-C")
    folder = binaries.cache() / "members"
    up.add_argument("--count", type=int, default=3, help="how many (default 3; about 500 MB each)")
    up.add_argument("--dir", type=Path, default=folder, help=f"where kubeconfigs and logs go (default {folder})")
    up.add_argument("--quick", action="store_true", help="API servers only: nothing rolls out, namespaces stay")
    run = commands.add_parser("run", help="start three members for a command, and stop them when it ends")
    run.add_argument(
        "words", nargs="+", help="the command, after --; KUBECONFIG, or {KUBECONFIG} in a word, has a context a member"
    )
    return parser.parse_args()


def _build() -> None:
    for name, path in binaries.find().items():
        print(f"{name:24} {path}")


def _up(count: int, folder: Path, *, complete: bool) -> None:
    _end_on_signals()
    with _emptied(folder), Members(count, folder=folder, complete=complete) as members:
        for member in members:
            print(f"{member.name}  {member.server}  {member.kubeconfig}")
        print("running until Ctrl-C", flush=True)
        while True:
            signal.pause()


def _run(words: list[str]) -> int:
    """Run a command with members of its own, and return its exit code."""
    _end_on_signals()
    with Members(3) as members, tempfile.TemporaryDirectory(prefix="kubeconfig-") as folder:
        file = Path(folder) / "config"
        file.write_text(json.dumps(merged(members)))
        command = [word.replace("{KUBECONFIG}", str(file)) for word in words]
        return subprocess.run(command, check=False, env={**os.environ, "KUBECONFIG": str(file)}).returncode


@contextmanager
def _emptied(folder: Path) -> Iterator[None]:
    """Take a folder that is new, empty or left by an earlier run; refuse any other, and one that is in use."""
    mark = folder / _MARK
    if folder.exists() and not mark.exists() and any(folder.iterdir()):
        raise FolderRefusedError(f"{folder} holds something else; name a new or an empty folder with --dir")
    folder.mkdir(parents=True, exist_ok=True)
    with mark.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FolderRefusedError(f"members run in {folder} already; name another folder with --dir") from error
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
        yield


if __name__ == "__main__":
    sys.exit(main())
