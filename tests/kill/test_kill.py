"""The daemon is killed, or paused for too long, in the middle of its work; what another one finds it finishes.

`RECONCILER_KILLS` says how often it is killed at random moments (20), `RECONCILER_KILLS_SEED` at which ones.
"""

import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler import commands
from reconciler.clock import sleep
from tests import manifests, servers
from tests.controlplane.faults import ApiFaultProxy
from tests.serving import Served, ended
from tests.test_article import status_log

KILLS = int(os.environ.get("RECONCILER_KILLS", "20"))
SEED = int(os.environ.get("RECONCILER_KILLS_SEED", "7"))
APP = "app"


def config_maps(value: str, names: range, gone: range = range(0)) -> dict[str, str | None]:
    """Return the files of config maps with a value, and those to remove."""
    files: dict[str, str | None] = {f"resources/c{number}.yaml": None for number in gone}
    return files | {f"resources/c{number}.yaml": manifests.config_map(value, f"c{number}") for number in names}


def fleet_files(clusters: tuple[str, ...]) -> dict[str, str | None]:
    """Return two members or more in one stage that updates all of them at once."""
    files: dict[str, str | None] = {f"clusters/{name}.yaml": manifests.cluster(name, ring="all") for name in clusters}
    return files | {
        "resources/namespace.yaml": manifests.namespace(),
        "placements/web.yaml": manifests.placement(),
        "strategies/rings.yaml": manifests.strategy(manifests.stage("all", maxConcurrency=len(clusters))),
    }


# -- at every effect -----------------------------------------------------------------------------------------------

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "tests.kill.test_kill",
        "reconciler.commands.reconcile",
        "reconciler.daemon.reconcile",
        "reconciler.daemon.service",
    ]
)


def _command(arguments: tuple[str, ...], environment: Mapping[str, str], log: str) -> None:
    os.environ.update(environment)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.exit(commands.run(arguments))


class Workspace:
    """A repository, folders for members and a state folder; it can be put back to how it was kept."""

    def __init__(self, folder: Path) -> None:
        self.live, self.kept, self.log = folder / "live", folder / "kept", folder / "log"
        self.remote = servers.bare_repository(self.live / "fleet.git")
        self.clone = servers.clone_of(self.remote, folder / "clone")

    def run(self, *arguments: str, **environment: str) -> int:
        """Run a command in a process of its own and return its exit code, negative for a signal."""
        child = _CONTEXT.Process(target=_command, args=(arguments, environment, str(self.log)))
        child.start()
        child.join(60)
        assert child.exitcode is not None, self.log.read_text()
        return child.exitcode

    def reconcile(self, **environment: str) -> int:
        places = ("--members", str(self.live / "members"), "--state-dir", str(self.live / "state"))
        return self.run("reconcile", "--repo", str(self.remote), *places, **environment)

    def push(self, files: Mapping[str, str | None]) -> None:
        servers.commit(self.clone, files)
        servers.git(self.clone, "push", "--quiet", "origin", "main")

    def keep(self) -> None:
        shutil.copytree(self.live, self.kept)

    def put_back(self) -> None:
        shutil.rmtree(self.live)
        shutil.copytree(self.kept, self.live)

    def members(self) -> dict[str, str]:
        """Return every file that members hold, without locks and inventories."""
        root = self.live / "members"
        found = (path for path in root.rglob("*") if path.is_file() and ".reconciler" not in path.parts)
        return {str(path.relative_to(root)): path.read_text() for path in found}

    def ended(self) -> list[str]:
        """Return how the runs ended, from the status branch."""
        names = servers.git(self.remote, "ls-tree", "-r", "--name-only", "fleet-status", "runs/").splitlines()
        files = [name for name in names if name.endswith("run.yaml")]
        bodies = [yaml.safe_load(servers.git(self.remote, "show", f"fleet-status:{name}")) for name in files]
        return sorted(f"{one['metadata']['name']}: {one['status']['conditions'][-1]['reason']}" for one in bodies)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """One run is done, with an object that leaves; the next one is merged, and nobody has seen it yet."""
    one = Workspace(tmp_path)
    one.push(fleet_files(("east", "west")) | config_maps("old", range(2)))
    assert one.run("init", "--repo", str(one.remote)) == 0
    one.push({"runs/first.yaml": manifests.run("first")})
    assert one.reconcile() == 0
    one.push(config_maps("new", range(1, 3), gone=range(1)) | {"runs/second.yaml": manifests.run("second")})
    one.keep()
    return one


@pytest.mark.slow
def test_a_daemon_killed_before_or_after_any_effect_is_followed_by_one_that_ends_as_undisturbed(workspace):
    """Every second effect is lost, every other one is carried out and not heard of."""
    effects = workspace.live.parent / "effects"
    assert workspace.reconcile(RECONCILER_EFFECTS_LOG=str(effects)) == 0
    numbered = effects.read_text().splitlines()
    members, ends = workspace.members(), workspace.ended()
    assert {"fetch", "push", "member"} == {line.split()[1] for line in numbered}
    assert ends == ["first: UpdateRunSucceeded", "second: UpdateRunSucceeded"]
    assert {path for path in members if "/c0" in path} == set()
    for number in count(1):
        workspace.put_back()
        position = ("before", "after")[number % 2]
        code = workspace.reconcile(RECONCILER_KILL_AT=f"{number}:{position}")
        assert code in (0, -signal.SIGKILL), (number, position)
        if (
            code == 0
        ):  # the number of pushes hangs on which answers come together, so the last effect is found by trying
            break
        assert workspace.reconcile() == 0
        assert (workspace.members(), workspace.ended()) == (members, ends), (number, position)
        assert workspace.run("replay", "second", "--repo", str(workspace.remote)) == 0, (number, position)
    assert number > len(numbered) / 2


# -- at random moments ---------------------------------------------------------------------------------------------

COUNT = 10


@pytest.fixture
def proxies(member_factory) -> Iterator[dict[str, tuple[Any, ApiFaultProxy]]]:
    """Two API servers, each behind a proxy that knows what was asked of it."""
    with ExitStack() as stack:
        pairs = [(member, stack.enter_context(ApiFaultProxy(member))) for member in member_factory(2, complete=False)]
        yield dict(zip(("east", "west"), pairs, strict=True))


def ways(proxies: Mapping[str, tuple[Any, ApiFaultProxy]], **settings: Any) -> dict[str, Any]:
    """Return how the members are reached through their proxies, one request at a time."""
    shared = {"type": "kubernetes", "parallel": 1, **settings}
    return {
        name: {**shared, "kubeconfig": str(member.kubeconfig_through(proxy.port))}
        for name, (member, proxy) in proxies.items()
    }


def writes(proxy: ApiFaultProxy) -> int:
    return sum(one.method in ("PATCH", "DELETE") for one in proxy.exchanges)


def contents(member: Any) -> dict[str, str]:
    """Return name and value of every config map in the application's namespace."""
    listed = json.loads(member.kubectl("get", "configmaps", "-n", APP, "-o", "json"))["items"]
    return {one["metadata"]["name"]: one["data"]["key"] for one in listed}


def inventory(member: Any) -> dict[str, str]:
    what = ("get", "configmap", "clusterresourceplacement.web", "-n", "reconciler-system", "-o", "json")
    found: dict[str, str] = json.loads(member.kubectl(*what))["data"]
    return found


def expected(value: str, names: range) -> dict[str, str]:
    return {f"c{number}": value for number in names}


@pytest.mark.slow
def test_a_daemon_killed_in_the_middle_of_a_stage_is_followed_by_one_that_finishes_it(proxies, tmp_path):
    """Ten objects per member, one changes its name in every round; nothing of an older intent stays."""
    dice = random.Random(SEED)
    fleet = Served(tmp_path, ways(proxies), fleet_files(("east", "west")))
    daemon = fleet.start()
    try:
        for number in range(KILLS):
            run, names = f"run-{number}", range(number, number + COUNT)
            seen = sum(writes(proxy) for _, proxy in proxies.values())
            moment = seen + dice.randint(1, 2 * COUNT - 1)
            change = config_maps(run, names, gone=range(number - 1, number) if number else range(0))
            fleet.push(run, {**change, f"runs/{run}.yaml": manifests.run(run)})
            fleet.until(lambda: sum(writes(proxy) for _, proxy in proxies.values()) >= moment, run)  # noqa: B023
            sleep(dice.uniform(0, 0.05))
            ended(daemon)
            assert f"{run}: succeeded" not in status_log(fleet, run), "the daemon was killed too late"
            daemon = fleet.start()
            fleet.until(lambda: f"{run}: succeeded" in status_log(fleet, run), run)  # noqa: B023
            for member, _ in proxies.values():
                assert contents(member) == expected(run, names)
                assert inventory(member)["complete"]
            fleet.command("replay", run)
    finally:
        ended(daemon)


# -- paused for too long ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_daemon_that_was_paused_in_a_delivery_does_no_lasting_harm_to_a_newer_run(proxies, tmp_path):
    """Another daemon finishes its run and a newer one; woken up, it goes on where it was, and then sees the fence."""
    clusters, many = ("east", "west"), range(40)
    patient = ways(proxies, timeoutSeconds=60)  # so that the request in which it is paused is none that failed
    fleet = Served(tmp_path, patient, fleet_files(clusters))
    paused = fleet.start("paused")
    direct = {
        name: {"type": "kubernetes", "kubeconfig": str(member.kubeconfig)} for name, (member, _) in proxies.items()
    }
    (tmp_path / "direct.yaml").write_text(yaml.safe_dump({"delivery": {"clusters": direct}}))
    other = None
    try:
        fleet.push("older", {**config_maps("older", many), "runs/older.yaml": manifests.run("older")})
        fleet.until(lambda: min(writes(proxy) for _, proxy in proxies.values()) >= 5, "the middle of the delivery")
        paused.send_signal(signal.SIGSTOP)
        heard = {name: len(proxy.exchanges) for name, (_, proxy) in proxies.items()}
        other = fleet.start("other", tmp_path / "direct.yaml")
        fleet.until(lambda: "older: succeeded" in status_log(fleet, "older"), "the other daemon finishes the run")
        change = config_maps("newer", range(20, 60), gone=range(20))
        fleet.push("newer", {**change, "runs/newer.yaml": manifests.run("newer")})
        fleet.until(lambda: "newer: succeeded" in status_log(fleet, "newer"), "the newer run")
        newest = {name: inventory(member) for name, (member, _) in proxies.items()}
        paused.send_signal(signal.SIGCONT)
        fleet.until(
            lambda: all(doubted(proxy, heard[name]) for name, (_, proxy) in proxies.items()), "it sees that it is late"
        )
        fleet.until(
            lambda: all(
                contents(member) == expected("newer", range(20, 60)) and inventory(member) == newest[name]
                for name, (member, _) in proxies.items()
            ),
            "the content of the newer run",
        )
        paused.send_signal(signal.SIGTERM)
        assert paused.wait(30) == 0
        for name, (member, _) in proxies.items():
            assert contents(member) == expected("newer", range(20, 60))
            assert inventory(member) == newest[name]
        fleet.command("replay", "newer")
        fleet.command("replay", "older")
    finally:
        for daemon in (paused, other):
            if daemon is not None:
                daemon.send_signal(signal.SIGCONT)
                ended(daemon)


def doubted(proxy: ApiFaultProxy, since: int) -> bool:
    """Tell whether an inventory was written through the proxy: what a daemon does that finds its fence lost."""
    return any(one.method == "PUT" and one.status == 200 for one in proxy.exchanges[since:])
