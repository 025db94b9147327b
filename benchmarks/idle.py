"""What a member costs that nobody is doing anything on: the daemon's memory for each, a minute after a rollout.

Two fleets, one twice as large as the other, are rolled out to as rollout.py does it; then their daemons are left alone
until idle connections are closed. What the larger holds more, for each member that it has more, is the figure. Beside
it: the same for a process that has nothing but an open connection to each.

    python benchmarks/idle.py --members 500
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from time import sleep

import rollout
import stub

from reconciler.delivery.kubernetes.pool import IDLE_SECONDS

_CLOSED_SECONDS = IDLE_SECONDS + 5

_CONNECTED = """
import sys
from pathlib import Path
import floor
pools = floor.open_pools({file: Path(file) for file in sys.argv[1:]})
for pool in pools.values():
    pool.urlopen("GET", "/version", headers=pool.headers)
print(Path("/proc/self/status").read_text())
"""


def resident(status: str) -> int:
    """Return the kB of memory in use from the text of a `/proc/PID/status`."""
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


def of_the_daemon(folder: Path, kubeconfigs: Mapping[str, Path], timeout: float) -> int:
    """Return the kB of a daemon that has rolled out to all of them and has nothing more to do."""
    with rollout.rolled_out(folder, kubeconfigs, timeout) as process:
        sleep(_CLOSED_SECONDS)
        return resident(Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8"))


def of_connections(kubeconfigs: Mapping[str, Path]) -> int:
    """Return the kB of a process that is connected to all of them."""
    command = [sys.executable, "-c", _CONNECTED, *map(str, kubeconfigs.values())]
    done = subprocess.run(command, cwd=Path(__file__).parent, check=True, capture_output=True, text=True)
    return resident(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=500)
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds to wait for a run")
    options = parser.parse_args()
    stub.allow_files()
    daemons, connections = [], []
    for count in (options.members, 2 * options.members):
        with tempfile.TemporaryDirectory() as name, stub.serving(count, Path(name) / "stub") as kubeconfigs:
            connections.append(of_connections(kubeconfigs))
            daemons.append(of_the_daemon(Path(name), kubeconfigs, options.timeout))
        print(f"{count} members: {daemons[-1] / 1024:.0f} MiB; connections alone: {connections[-1] / 1024:.0f} MiB")
    ours, theirs = ((after - before) / options.members for before, after in (daemons, connections))
    print(f"{ours:.0f} kB for each idle member; an open connection alone {theirs:.0f} kB")


if __name__ == "__main__":
    main()
