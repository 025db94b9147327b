r"""A whole rollout beside its floor: N members in 3 stages at 50 %, a namespace and ten ConfigMaps, two runs.

`reconciler init` and `reconciler serve` run as processes of their own on a fleet repository in a folder; the members
are those of stub.py. Measured is from the push of the run to the commit of the status branch that says it succeeded.
The floors are floor.py's, measured just before against the same members.

    python benchmarks/rollout.py --members 100
    python -m tests.controlplane run -- \
        python benchmarks/rollout.py --kubeconfig {KUBECONFIG} --contexts member-1,member-2,member-3

The second measures real clusters; they should be there for that alone, what is placed on them stays.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import _fleet
import floor
import stub
import yaml

ROOT = Path(__file__).parent.parent
NAME = "bench"
APPLICATION = "app"
REPOSITORY = "fleet.git"
OBJECTS = 11

_LOOK_SECONDS = 0.01
_SETTLE_SECONDS = 2.0
"""Time for passes that nobody waits for, before a run is pushed."""

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a process has used so far: seconds of CPU, its own and that of the git processes it started, and MiB."""

    own: float
    children: float
    peak: int

    def since(self, before: "Spent") -> "Spent":
        """Return what was used since then; the peak is that of the whole life."""
        return Spent(own=self.own - before.own, children=self.children - before.children, peak=self.peak)


# -- the repository ------------------------------------------------------------------------------------------------


def before(members: Sequence[str]) -> _fleet.Files:
    """Return everything but the run."""
    rings = {name: f"ring{number}" for number, stage in enumerate(floor.stages(members), start=1) for name in stage}
    clusters = {f"clusters/{name}.yaml": _fleet.cluster(name, ring) for name, ring in rings.items()}
    return {
        **clusters,
        **resources(0),
        "resources/namespace.yaml": _fleet.namespace(APPLICATION),
        "placements/app.yaml": _fleet.placement(APPLICATION),
        "strategies/rings.yaml": _fleet.strategy("rings", sorted(set(rings.values())), floor.PERCENT),
    }


def resources(revision: int) -> _fleet.Files:
    """Return the ConfigMaps."""
    names = [f"settings-{number:02d}" for number in range(1, OBJECTS)]
    return {f"resources/{name}.yaml": _fleet.config_map(name, APPLICATION, revision) for name in names}


def settings(folder: Path, kubeconfigs: Mapping[str, Path], delivery: str) -> Path:
    """Write the operator's settings, as JSON, which is YAML too."""
    clusters: dict[str, dict[str, Any]]
    if delivery == "kubernetes":
        clusters = {name: {"type": "kubernetes", "kubeconfig": str(file)} for name, file in kubeconfigs.items()}
    else:
        members = str(folder / "members")
        clusters = {name: {"type": "directory", "root": members, "create": True} for name in kubeconfigs}
    document = {
        "repo": str(folder / REPOSITORY),
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


Count = Callable[[], int]


# -- the measurement -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """What one run took, from its push to its success on the status branch."""

    seconds: float
    used: Spent
    commits: int
    requests: int | None


def measure(
    folder: Path, kubeconfigs: Mapping[str, Path], delivery: str, timeout: float, count: Count | None
) -> list[Rollout]:
    """Return a first run, which meets empty members, and a second one, which changes every ConfigMap.

    `count` asks how many requests the members carried out; None: they do not tell.
    """
    with _ready(folder, kubeconfigs, delivery, timeout) as (process, watch):
        return [_roll_out(folder / REPOSITORY, process, watch, number, count) for number in (1, 2)]


@contextmanager
def rolled_out(folder: Path, kubeconfigs: Mapping[str, Path], timeout: float) -> Iterator[subprocess.Popen[bytes]]:
    """Give a daemon whose first run, on Kubernetes members, has succeeded."""
    with _ready(folder, kubeconfigs, "kubernetes", timeout) as (process, watch):
        _roll_out(folder / REPOSITORY, process, watch, 1, None)
        yield process


@contextmanager
def _ready(
    folder: Path, kubeconfigs: Mapping[str, Path], delivery: str, timeout: float
) -> Iterator[tuple[subprocess.Popen[bytes], Watch]]:
    """Give a daemon that has seen the fleet, which has no run yet."""
    repository, log = folder / REPOSITORY, folder / "daemon.log"
    _fleet.make(repository, [before(list(kubeconfigs))])
    file = settings(folder, kubeconfigs, delivery)
    subprocess.run(command("init", file), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    with serving(file, log) as process:
        watch = Watch(repository, process, log, timeout)
        watch.until(f"{APPLICATION}: placement observed")
        yield process, watch


def _roll_out(
    repository: Path, process: subprocess.Popen[bytes], watch: Watch, number: int, count: Count | None
) -> Rollout:
    sleep(_SETTLE_SECONDS)
    name, status, used, asked = f"{NAME}-{number}", watch.seen, spent(process), count() if count else 0
    run = _fleet.run(name, APPLICATION, "rings")
    _fleet.add(repository, [{f"runs/{name}.yaml": run, **resources(number)}], at=number)
    start = perf_counter()
    process.send_signal(signal.SIGHUP)  # what a webhook does: the poll would add up to its period
    seconds = watch.until(f"{name}: succeeded") - start
    return Rollout(
        seconds=seconds,
        used=spent(process).since(used),
        commits=int(_fleet.git(repository, "rev-list", "--count", f"{status}..{watch.seen}")),
        requests=count() - asked - 1 if count else None,  # the last question counts itself
    )


def check(pools: floor.Pools) -> None:
    """Make sure that every member has the last object, of the last run."""
    url = f"/api/v1/namespaces/{APPLICATION}/configmaps/settings-{OBJECTS - 1:02d}"
    with ThreadPoolExecutor(16) as threads:
        answers = threads.map(lambda pool: pool.urlopen("GET", url, headers=pool.headers), pools.values())
        if any(json.loads(answer.data).get("data", {}).get("revision") != "2" for answer in answers):
            raise SystemExit("the runs succeeded, but not every member has what they brought")


def report(what: str, base: floor.Figures, promised: floor.Figures, done: Rollout) -> None:
    """Print the figures of a run, each as a ratio to the floor where there is one."""
    own, whole = (1000 * seconds / base.requests for seconds in (done.used.own, done.used.own + done.used.children))
    low = 1000 * base.cpu_seconds / base.requests
    print(f"{what}, floor: {base}")
    print(f"{what}, floor with the promises kept: {promised}")
    ratios = f"{done.seconds / base.seconds:.1f} times the floor, {done.seconds / promised.seconds:.1f} times the other"
    print(f"{what}, rollout: {done.seconds:.2f} s, {ratios}")
    each = f"{done.requests / base.requests:.1f} requests an object; " if done.requests is not None else ""
    print(f"  {each}{done.commits} commits on the status branch")
    print(f"  CPU {own:.2f} ms an object, {own / low:.1f} times the floor; with its git {whole:.2f} ms")
    print(f"  memory {done.used.peak} MiB at most")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=100)
    parser.add_argument("--delivery", choices=("kubernetes", "directory"), default="kubernetes")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds to wait for a run")
    parser.add_argument("--kubeconfig", type=Path, help="measure real clusters, those of --contexts")
    parser.add_argument("--contexts", default="", help="names of contexts, with commas between them")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.kubeconfig:
            kubeconfigs = minified(options.kubeconfig, options.contexts.split(","), folder)
            compare(folder, kubeconfigs, "kubernetes", options.timeout, None)
            return
        stub.allow_files()
        with stub.serving(options.members, folder / "stub") as kubeconfigs:
            compare(folder, kubeconfigs, options.delivery, options.timeout, floor.counter(kubeconfigs))


def minified(kubeconfig: Path, contexts: Sequence[str], folder: Path) -> dict[str, Path]:
    """Write a kubeconfig for each context alone, and return them by the context's name."""
    document = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    contexts_by, clusters, users = (
        {one["name"]: one for one in document[kind]} for kind in ("contexts", "clusters", "users")
    )
    written: dict[str, Path] = {}
    for name in contexts:
        context = contexts_by[name]["context"]
        only = {"contexts": [contexts_by[name]], "clusters": [clusters[context["cluster"]]]}
        written[name] = folder / f"{name}.kubeconfig"
        text = json.dumps({**document, **only, "users": [users[context["user"]]], "current-context": name})
        written[name].write_text(text, encoding="utf-8")
    return written


def compare(folder: Path, kubeconfigs: Mapping[str, Path], delivery: str, timeout: float, count: Count | None) -> None:
    """Measure floors and rollouts, and print them."""
    floors, promised = floor.floors(kubeconfigs), floor.promised(kubeconfigs, folder / "promised")
    runs = measure(folder, kubeconfigs, delivery, timeout, count)
    if delivery == "kubernetes":
        check(floor.open_pools(kubeconfigs))
    print(f"{len(kubeconfigs)} {delivery} members, {OBJECTS} objects each")
    report("first run", floors[0], promised[0], runs[0])
    report("second run", floors[1], promised[1], runs[1])


if __name__ == "__main__":
    main()
