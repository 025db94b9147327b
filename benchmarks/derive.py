"""What history costs: deriving snapshots and identities of 100 placements from 5,000 commits, beside git alone.

The floor is the one `git log --raw` that no derivation from history can do without.

    python benchmarks/derive.py --commits 5000 --placements 100
"""

import argparse
import resource
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter

import _fleet

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that a checkout can be measured without installing it

from reconciler.daemon.derive import Derivation
from reconciler.git.run import HARDENED, Git

_MORE = 20
"""Single commits after the cold start; the median counts."""


def commits(count: int, placements: int) -> Iterator[_fleet.Files]:
    """Give the first commit, which brings everything, then those that change one ConfigMap each, in turn."""
    names = [f"app-{number:03d}" for number in range(placements)]
    yield {path: text for name in names for path, text in _application(name).items()}
    for number in range(1, count):
        name = names[number % placements]
        yield {f"resources/{name}/settings.yaml": _fleet.config_map("settings", name, number)}


def _application(name: str) -> _fleet.Files:
    return {
        f"placements/{name}.yaml": _fleet.placement(name),
        f"resources/{name}/namespace.yaml": _fleet.namespace(name),
        f"resources/{name}/settings.yaml": _fleet.config_map("settings", name, 0),
        f"resources/{name}/flags.yaml": _fleet.config_map("flags", name, 0),
        f"resources/{name}/deployment.yaml": _fleet.deployment("web", name),
    }


def _seconds(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


def _log(repository: Path, *limits: str) -> None:
    _fleet.git(repository, "log", "--raw", "-z", "--no-abbrev", "--no-renames", "--first-parent", "--reverse", *limits)


def _one_more(repository: Path, derivation: Derivation, at: int, placements: int) -> tuple[float, float]:
    """Add one commit, and return the seconds to derive it and those of the floor."""
    old = _fleet.git(repository, "rev-parse", "main")
    name = f"app-{at % placements:03d}"
    changed = {f"resources/{name}/settings.yaml": _fleet.config_map("settings", name, at)}
    _fleet.add(repository, [changed], at=at)
    head = _fleet.git(repository, "rev-parse", "main")
    floor = _seconds(lambda: _log(repository, f"{old}..{head}"))
    return _seconds(lambda: derivation.bring_to(head, {})), floor


def _say(what: str, ours: float, floor: float) -> None:
    print(f"{what}: {1000 * ours:.0f} ms, floor (git log --raw) {1000 * floor:.0f} ms, ratio {ours / floor:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commits", type=int, default=5000)
    parser.add_argument("--placements", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "fleet.git"
        _fleet.make(repository, commits(options.commits, options.placements))
        head = _fleet.git(repository, "rev-parse", "main")
        derivation = Derivation(Git(directory=repository, profile=HARDENED))
        floor = statistics.median(_seconds(lambda: _log(repository, head)) for _ in range(3))
        cold = _seconds(lambda: derivation.bring_to(head, {}))
        snapshots = sum(len(found) for found in derivation.view.snapshots.values())
        print(f"{options.commits} commits, {options.placements} placements, {snapshots} snapshots")
        _say("cold", cold, floor)
        at = range(options.commits, options.commits + _MORE)
        more = [_one_more(repository, derivation, number, options.placements) for number in at]
        _say("one more commit", statistics.median(one for one, _ in more), statistics.median(low for _, low in more))
    print(f"memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB")


if __name__ == "__main__":
    main()
