"""A whole rollout beside its floor: N members in 3 stages at 50 %, a namespace and ten ConfigMaps, one run.

`reconciler init` and `reconciler serve` run as processes of their own on a fleet repository in a folder; the members
are those of stub.py. Measured is from the push of the run to the commit of the status branch that says it succeeded.
The floor is floor.py's, measured just before against the same members.

    python benchmarks/rollout.py --members 100
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import _fleet
import floor
import stub

ROOT = Path(__file__).parent.parent
NAME = "bench"
APPLICATION = "app"
OBJECTS = 11

_LOOK_SECONDS = 0.01
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a process has used so far: seconds of CPU, its own and that of the git processes it started, and MiB."""

    own: float
    children: float
    peak: int


# -- the repository ------------------------------------------------------------------------------------------------


def before(members: Sequence[str]) -> _fleet.Files:
    """Return everything but the run."""
    rings = {name: f"ring{number}" for number, stage in enumerate(floor.stages(members), start=1) for name in stage}
    clusters = {f"clusters/{name}.yaml": _fleet.cluster(name, ring) for name, ring in rings.items()}
    names = [f"settings-{number:02d}" for number in range(1, OBJECTS)]
    resources = {f"resources/{name}.yaml": _fleet.config_map(name, APPLICATION, 1) for name in names}
    return {
        **clusters,
        **resources,
        "resources/namespace.yaml": _fleet.namespace(APPLICATION),
        "placements/app.yaml": _fleet.placement(APPLICATION),
        "strategies/rings.yaml": _fleet.strategy("rings", sorted(set(rings.values())), floor.PERCENT),
    }


def settings(folder: Path, kubeconfigs: Mapping[str, Path], delivery: str) -> Path:
    """Write the operator's settings, as JSON, which is YAML too."""
    clusters: dict[str, dict[str, Any]]
    if delivery == "kubernetes":
        clusters = {name: {"type": "kubernetes", "kubeconfig": str(file)} for name, file in kubeconfigs.items()}
    else:
        members = str(folder / "members")
        clusters = {name: {"type": "directory", "root": members, "create": True} for name in kubeconfigs}
    document = {
        "repo": str(folder / "fleet.git"),
        "stateDir": str(folder / "state"),
        "delivery": {"clusters": clusters},
    }
    file = folder / "settings.yaml"
    file.write_text(json.dumps(document, indent=1), encoding="utf-8")
    return file


# -- the daemon ----------------------------------------------------------------------------------------------------


def command(name: str, file: Path) -> list[str]:
    """Return a command of ours as a process is started."""
    return [sys.executable, "-m", "reconciler", name, "--settings", str(file)]


@contextmanager
def serving(file: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Serve until the block is left."""
    with log.open("wb") as output:
        process = subprocess.Popen(command("serve", file), cwd=ROOT, stderr=output)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(timeout=60)


def spent(process: subprocess.Popen[bytes]) -> Spent:
    """Return what the process has used."""
    fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    user, system, of_children, system_of_children = (int(field) / _TICKS for field in fields[11:15])
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    return Spent(own=user + system, children=of_children + system_of_children, peak=peak // 1024)


class Watch:
    """The status branch, looked at as often as a file may be read."""

    def __init__(self, repository: Path, process: subprocess.Popen[bytes], log: Path, timeout: float) -> None:
        """`timeout` is in seconds, for each wait."""
        self._repository, self._process, self._log, self._timeout = repository, process, log, timeout
        self._ref = repository / "refs" / "heads" / "fleet-status"
        self.seen = self._ref.read_text(encoding="ascii").strip()

    def until(self, subject: str) -> float:
        """Wait for a commit whose subject begins so; return when its ref was seen (`perf_counter`)."""
        end = perf_counter() + self._timeout
        while (now := perf_counter()) < end and self._process.poll() is None:
            tip = self._ref.read_text(encoding="ascii").strip()
            if tip and tip != self.seen:
                found = _fleet.git(self._repository, "log", "--format=%s", f"{self.seen}..{tip}").splitlines()
                self.seen = tip
                if any(one.startswith(subject) for one in found):
                    return now
            sleep(_LOOK_SECONDS)
        said = self._log.read_text(encoding="utf-8", errors="replace")[-4000:]
        raise SystemExit(f"no commit {subject!r} on the status branch; the daemon said:\n{said}")


# -- the measurement -----------------------------------------------------------------------------------------------


def measure(folder: Path, kubeconfigs: Mapping[str, Path], delivery: str, timeout: float) -> tuple[float, Spent, int]:
    """Return the seconds of the rollout, what the daemon used for it, and how many commits it made."""
    repository, log = folder / "fleet.git", folder / "daemon.log"
    _fleet.make(repository, [before(list(kubeconfigs))])
    file = settings(folder, kubeconfigs, delivery)
    subprocess.run(command("init", file), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    with serving(file, log) as process:
        watch = Watch(repository, process, log, timeout)
        watch.until(f"{APPLICATION}: placement observed")
        sleep(1)  # the pass that was woken by its own commit, if any, is over
        status, used = watch.seen, spent(process)
        run = {f"runs/{NAME}.yaml": _fleet.run(NAME, APPLICATION, "rings")}
        _fleet.add(repository, [run], at=1)
        start = perf_counter()
        process.send_signal(signal.SIGHUP)  # what a webhook does: the poll would add up to its period
        seconds = watch.until(f"{NAME}: succeeded") - start
        after = spent(process)
        pushes = int(_fleet.git(repository, "rev-list", "--count", f"{status}..{watch.seen}"))
    used = Spent(own=after.own - used.own, children=after.children - used.children, peak=after.peak)
    return seconds, used, pushes


def check(pools: floor.Pools) -> None:
    """Make sure that every member has the last object."""
    url = f"/api/v1/namespaces/{APPLICATION}/configmaps/settings-{OBJECTS - 1:02d}"
    with ThreadPoolExecutor(16) as threads:
        answers = threads.map(lambda pool: pool.urlopen("GET", url, headers=pool.headers).status, pools.values())
        if any(answer != 200 for answer in answers):  # noqa: PLR2004 - OK
            raise SystemExit("the run succeeded, but not every member has what it brought")


def report(members: int, base: floor.Figures, seconds: float, used: Spent, pushes: int) -> None:
    """Print the figures, each as a ratio to the floor where there is one."""
    applied = members * OBJECTS
    cpu, own = 1000 * (used.own + used.children) / applied, 1000 * used.own / applied
    low = 1000 * base.cpu_seconds / base.requests
    print(f"floor: {base}")
    print(
        f"rollout: {seconds:.2f} s, {seconds / base.seconds:.1f} times the floor; {pushes} commits on the status branch"
    )
    print(f"CPU of the daemon: {own:.2f} ms an object, {own / low:.1f} times the floor; with its git {cpu:.2f} ms")
    print(f"memory of the daemon: {used.peak} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=100)
    parser.add_argument("--delivery", choices=("kubernetes", "directory"), default="kubernetes")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds to wait for the run")
    options = parser.parse_args()
    stub.allow_files()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with stub.serving(options.members, folder / "stub") as kubeconfigs:
            pools = floor.open_pools(kubeconfigs)
            base = floor.measure(pools, "floor")
            seconds, used, pushes = measure(folder, kubeconfigs, options.delivery, options.timeout)
            if options.delivery == "kubernetes":
                check(pools)
        print(f"{options.members} {options.delivery} members, {OBJECTS} objects each")
        report(options.members, base, seconds, used, pushes)


if __name__ == "__main__":
    main()
