"""The article rolled out once, both tabs, with a copy of the repository at each moment that a test looks at."""

import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import structlog

from reconciler.clock import wall
from reconciler.commands import run
from reconciler.daemon import anchor
from reconciler.daemon.reconcile import Reconciler
from reconciler.daemon.service import drain
from reconciler.git.mirror import Mirror
from reconciler.settings import Settings
from tests import manifests, servers
from tests.manifests import stage, strategy
from tests.world import HandClock, World

BRANCHES = ("main", "fleet-status")
NAMESPACE = "my-app-namespace"

SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "password", "namespace": "vault"},
    "stringData": {"word": "hunter2"},
}


def deployment(image: str) -> str:
    """Return the article's deployment and service."""
    labels = {"app": "web-app"}
    container = {"name": "nginx", "image": image}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    return manifests.text(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": manifests.metadata("web-app", NAMESPACE),
            "spec": {"replicas": 3, "selector": {"matchLabels": dict(labels)}, "template": template},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": manifests.metadata("web-app", NAMESPACE),
            "spec": {"ports": [{"port": 80, "targetPort": 80}], "selector": {"app": "web-app"}},
        },
    )


class Tour:
    """A person's clone, the daemon in this process, and a copy of the bare repository at each moment."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.remote = servers.bare_repository(folder / "fleet.git")
        self.clone = servers.clone_of(self.remote, folder / "clone")
        self._clock = HandClock(wall() - timedelta(minutes=10))
        self.moments: dict[str, Path] = {}

    def commits(self, files: dict[str, str | None], message: str) -> str:
        """Commit files and push them."""
        sha = servers.commit(self.clone, files, message)
        servers.git(self.clone, "push", "--quiet", "origin", "HEAD:main")
        return sha

    def begins(self) -> None:
        """Make the status branch, and start the daemon."""
        with Mirror.open(self._folder / "init", str(self.remote), BRANCHES) as mirror:
            head = mirror.fetch()["main"]
            anchor.make(mirror, *BRANCHES, head, self._clock.now())
        members = {"type": "directory", "root": str(self._folder / "members"), "create": True}
        (self._folder / "members").mkdir()
        settings = Settings(repo=str(self.remote), state_dir=self._folder / "state", delivery_default=members)
        self._mirror = Mirror.open(settings.state_dir / "mirror", settings.repo, BRANCHES)
        self._woken = threading.Event()
        self._reconciler = Reconciler(settings, self._mirror, self._clock, self._woken.set)

    def settles(self, *, after: timedelta = timedelta()) -> None:
        """Let time pass, then let the daemon do everything that can be done."""
        self._clock.never_before(self._clock.now() + after)
        drain(self._reconciler, self._woken)

    def keeps(self, moment: str) -> None:
        """Keep the repository as it is now."""
        self.moments[moment] = self._folder / moment
        shutil.copytree(self.remote, self.moments[moment])

    def ends(self) -> None:
        """Stop the daemon."""
        self._reconciler.workers.close(timeout=20.0)
        self._mirror.close()


def approval(name: str, namespace: str = "", words: str = "lgtm") -> str:
    """Return the article's approval."""
    return manifests.approval(name, namespace=namespace, words=words)


def _tells(tour: Tour) -> None:
    """The article, both tabs."""
    tour.commits(
        {
            "clusters/member1.yaml": manifests.cluster("member1", environment="canary", order="2"),
            "clusters/member2.yaml": manifests.cluster("member2", environment="staging"),
            "clusters/member3.yaml": manifests.cluster("member3", environment="canary", order="1"),
            "resources/namespace.yaml": manifests.namespace("test-namespace"),
            "resources/cm.yaml": manifests.config_map("value1", "test-cm", "test-namespace"),
            "resources/app.yaml": manifests.namespace(NAMESPACE) + "---\n" + deployment("nginx:1.20"),
            "resources/secret.yaml": manifests.namespace("vault") + "---\n" + json.dumps(SECRET),
            "placements/crp.yaml": manifests.article("clusterresourceplacement-example-placement"),
            "placements/rp.yaml": manifests.article("resourceplacement-web-app-placement"),
            "placements/vault.yaml": manifests.placement(
                "secrets", "vault", resourceSelectors=[{"group": "", "version": "v1", "kind": "Secret"}]
            ),
            "strategies/s.yaml": manifests.article("clusterstagedupdatestrategy-example-strategy"),
            "strategies/app.yaml": manifests.article("stagedupdatestrategy-app-rollout-strategy"),
        },
        "Lay out the fleet",
    )
    tour.keeps("uninitialized")
    tour.begins()
    tour.settles()
    tour.keeps("placed")
    cm = manifests.config_map("value2", "test-cm", "test-namespace")
    tour.commits(
        {
            "resources/cm.yaml": cm,
            "resources/app.yaml": manifests.namespace(NAMESPACE) + "---\n" + deployment("nginx:1.21"),
        },
        "Change the value",
    )
    tour.commits(
        {
            "runs/example-run.yaml": manifests.article("clusterstagedupdaterun-example-run"),
            "runs/web-app.yaml": manifests.article("stagedupdaterun-web-app-rollout-v1-21"),
        },
        "Roll out",
    )
    tour.keeps("merged")
    tour.settles()
    tour.keeps("soaking")
    tour.settles(after=timedelta(minutes=1))
    tour.keeps("waiting")
    tour.commits(
        {
            "approvals/approval.json": approval("example-run-canary"),
            "approvals/approval-ns.json": approval("web-app-rollout-v1-21-canary", NAMESPACE),
        },
        "Approve",
    )
    tour.keeps("approved")
    tour.settles()
    tour.keeps("done")
    early = approval("example-run-2-canary")
    second = manifests.article("clusterstagedupdaterun-example-run-2")
    tour.commits({"runs/example-run-2.yaml": second, "approvals/early.json": early}, "Go back")
    tour.settles()
    tour.settles(after=timedelta(minutes=1))
    tour.keeps("again")
    tour.commits({"runs/example-run-2.yaml": None, "runs/example-run.yaml": None}, "Clean up")
    tour.commits({"runs/broken.yaml": "kind: [\n", "clusters/member4.yaml": "kind: MemberCluster\n"}, "Break two files")
    tour.settles()
    tour.keeps("removed")


@pytest.fixture(scope="session")
def moments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the repositories by the name of their moment."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("tour")
        for name in [name for name in os.environ if name.startswith(("GIT_", "RECONCILER_"))]:
            patch.delenv(name)
        patch.setenv("HOME", str(folder))
        tour = Tour(folder)
        try:
            _tells(tour)
        finally:
            tour.ends()
    return tour.moments


class Output:
    """What a command said, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def masked(self) -> str:
        """Its stdout with every age as `AGE`, and the column as wide as its title."""
        aged = re.sub(r"(?m)(?<= )\d+(?:s|m\d+s|m)(?= |$)", "AGE", self.out)
        return re.sub(r"(?m)(?<=   )AGE +(?=\S)", "AGE   ", aged)


Command = Callable[..., Output]


@pytest.fixture(autouse=True)
def _log_of_its_own() -> Iterator[None]:
    """A service writes its log to the stderr of its process, which in a test is that test's alone."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Command:
    """Return what runs a command on a repository, in this process."""

    def call(where: Path, *arguments: str) -> Output:
        capsys.readouterr()
        code = run([*arguments, "-C", str(where)])
        said = capsys.readouterr()
        return Output(code, said.out, said.err)

    return call


@pytest.fixture
def olga(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return what runs a command on the world's repository as somebody with a git identity."""
    (tmp_path / ".gitconfig").write_text("[user]\n\tname = Olga\n\temail = olga@example.org\n")

    def call(*arguments: str, where: Path | str = world.remote) -> Output:
        capsys.readouterr()
        code = run([*arguments, "-C", str(where)])
        said = capsys.readouterr()
        return Output(code, said.out, said.err)

    return call


@pytest.fixture
def person(rings: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The rings, and somebody with a git identity at the keyboard."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Pia")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "pia@example.org")
    return rings


@pytest.fixture
def asking(person: World) -> World:
    """A run that waits for the approval of its canary."""
    person.commits("strategies/rings.yaml", strategy(stage("canary", approval=True), stage("prod")))
    person.commits("runs/web-1.yaml", manifests.run("web-1"))
    person.passes()
    return person


@pytest.fixture
def command(moments: dict[str, Path], ask: Command) -> Command:
    """Return what runs a command on the repository of a moment, in this process."""

    def call(moment: str | Path, *arguments: str) -> Output:
        return ask(moment if isinstance(moment, Path) else moments[moment], *arguments)

    return call
