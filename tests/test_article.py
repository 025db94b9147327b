"""The tutorial, both scopes, through the installed command, real transports and the daemon as its own process."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from reconciler.clock import monotonic, sleep
from tests import servers

ARTICLE = Path(str(files("reconciler.article")))
COMMAND = Path(sys.executable).parent / "reconciler"
APPROVAL = """"status": {
    "conditions": [
        {
            "lastTransitionTime": "2026-01-01T10:00:00Z",
            "message": "lgtm",
            "observedGeneration": 1,
            "reason": "testPassed",
            "status": "True",
            "type": "Approved"
        }
    ]
}
"""
"""The tutorial's approval.json, as it stands there."""


RUN_TABLE = """\
NAME          PLACEMENT           RESOURCE-SNAPSHOT-INDEX   POLICY-SNAPSHOT-INDEX   INITIALIZED   SUCCEEDED   AGE
example-run   example-placement   1                         0                       True          True   AGE
""".splitlines()


def names(kind: str, name: str, namespace: str = "") -> str:
    """Return what a committed approval needs in front of the tutorial's file."""
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    group = "placement.kubernetes-fleet.io/v1beta1"
    return f'"apiVersion": "{group}",\n"kind": "{kind}",\n"metadata": {json.dumps(metadata)},\n'


class Tutorial:
    """A person with a clone, the installed command, and a daemon on a remote."""

    def __init__(self, folder: Path, remote: Path, url: str) -> None:
        self.folder, self.remote, self.url = folder, remote, url
        self.members = folder / "members"
        self.clone = folder / "clone"

    def command(self, *arguments: str, code: int = 0) -> str:
        environment = {**os.environ, "RECONCILER_REPO": self.url, "XDG_CACHE_HOME": str(self.folder / "cache")}
        done = subprocess.run(
            [COMMAND, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == code, done.stderr + done.stdout
        return done.stdout

    @contextmanager
    def serving(self) -> Iterator[subprocess.Popen[bytes]]:
        places = ("--members", str(self.members), "--state-dir", str(self.folder / "state"))
        arguments = [COMMAND, "serve", "--repo", self.url, *places, "--poll-period-seconds", "0.5"]
        with (self.folder / "serve.log").open("ab") as log:
            daemon = subprocess.Popen(arguments, stderr=log)
            try:
                yield daemon
            finally:
                daemon.send_signal(signal.SIGTERM)
                assert daemon.wait(timeout=30) == 0, self.log()

    def log(self) -> str:
        return (self.folder / "serve.log").read_text(encoding="utf-8")

    def push(self, message: str, changes: dict[str, str | None], how: str = "plain") -> None:
        """Bring a change to main: as a plain push, a merge commit, or a squashed branch."""
        if how == "plain":
            servers.commit(self.clone, changes, message)
        else:
            servers.git(self.clone, "switch", "--quiet", "--create", "topic")
            servers.commit(self.clone, changes, message)
            servers.git(self.clone, "switch", "--quiet", "main")
            squash = ["--squash"] if how == "squash" else ["--no-ff", "-m", f"Merge: {message}"]
            servers.git(self.clone, "merge", "--quiet", *squash, "topic")
            if how == "squash":
                servers.git(self.clone, "commit", "--quiet", "-m", message)
            servers.git(self.clone, "branch", "--quiet", "-D", "topic")
        servers.git(self.clone, "push", "--quiet", "origin", "main")

    def until(self, holds: Callable[[], bool], what: str, seconds: float = 60) -> None:
        end = monotonic() + seconds
        while not holds():
            assert monotonic() < end, f"not within {seconds} s: {what}\n{self.log()}"
            sleep(0.05)

    def values(self, path: str, pattern: str) -> list[str]:
        """Return what every member holds, by member name; empty where it holds nothing."""
        found = [self.members / name / path for name in ("member1", "member2", "member3")]
        texts = [one.read_text(encoding="utf-8") if one.exists() else "" for one in found]
        return [match.group(1) if (match := re.search(pattern, text)) else "" for text in texts]

    def pushes(self) -> int:
        return int(servers.git(self.remote, "rev-list", "--count", "fleet-status"))


def article(path: str) -> str:
    """Return a file of the tutorial with its waits shortened."""
    return re.sub(r"waitTime: \S+", "waitTime: 2s", (ARTICLE / path).read_text(encoding="utf-8"))


def first_files() -> dict[str, str | None]:
    tops = ("clusters", "resources", "placements", "strategies")
    paths = [path.relative_to(ARTICLE).as_posix() for top in tops for path in sorted((ARTICLE / top).glob("*.yaml"))]
    return {path: article(path) for path in paths}


@pytest.fixture(params=["file", "http"])
def tutorial(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Tutorial]:
    """A bare remote over `file://` or smart HTTP, initialized, with the fleet and the first contents on main."""
    remote = servers.bare_repository(tmp_path / "remotes" / "fleet.git")
    with servers.http_server(tmp_path / "remotes") as server:
        url = remote.as_uri() if request.param == "file" else f"{server.url}/fleet.git"
        one = Tutorial(tmp_path, remote, url)
        servers.clone_of(remote, one.clone)
        one.push("Add the fleet", first_files())
        one.command("init")
        yield one


def masked(text: str) -> list[str]:
    """Return a table's lines with the ages masked, and the spacing before them."""
    return [re.sub(r"\s+(\d+[smhd]\w*)(?=\s|$)", "   AGE", line).rstrip() for line in text.splitlines()]


def roll_out(tutorial: Tutorial, run: str, how: str, *, approvals: str, namespace: str = "") -> None:
    """Bring a run to main, wait for its request, commit the tutorial's approval, and wait for the end."""
    scope = ("-n", namespace) if namespace else ()
    path = f"runs/{run}.yaml"
    tutorial.push(f"Start {run}", {path: article(path)}, how)
    tutorial.until(lambda: "stage canary waiting for Approval" in status_log(tutorial, run), f"{run} waits")
    kind = "ApprovalRequest" if namespace else "ClusterApprovalRequest"
    tutorial.push("Approve", {f"approvals/{run}.json": names(kind, f"{run}-canary", namespace) + APPROVAL})
    tutorial.command("wait", run, "--timeout", "60s", *scope)
    assert f"{run}-canary" in tutorial.command("get", approvals, *scope)


def status_log(tutorial: Tutorial, run: str) -> str:
    return "\n".join(
        line
        for line in servers.git(tutorial.remote, "log", "--format=%s", "fleet-status").splitlines()
        if line.startswith(f"{run}: ")
    )


def test_the_cluster_scoped_tutorial(tutorial: Tutorial) -> None:
    """Snapshots 0 and 1, staging, the wait, canary in order, the approval, and a second run back."""
    with tutorial.serving():
        tutorial.until(lambda: tutorial.pushes() == 2, "the first sync")
        value2 = article("resources/test-namespace.yaml").replace("value1", "value2")
        tutorial.push("Set value2", {"resources/test-namespace.yaml": value2}, "squash")
        tutorial.until(lambda: tutorial.pushes() == 3, "the new snapshot")
        assert tutorial.values("test-namespace/ConfigMap/test-cm.yaml", r"key: (\w+)") == ["", "", ""]
        roll_out(tutorial, "example-run", "merge", approvals="careq")
        assert tutorial.values("test-namespace/ConfigMap/test-cm.yaml", r"key: (\w+)") == ["value2"] * 3
        assert tutorial.pushes() == 9, "the run costs six pushes after the snapshot"
        assert masked(tutorial.command("get", "csur", "example-run")) == RUN_TABLE
        assert masked(tutorial.command("get", "crp", "example-placement")) == [
            "NAME                GEN   SCHEDULED   SCHEDULED-GEN   AVAILABLE   AVAILABLE-GEN   AGE",
            "example-placement   1     True        1               True        1   AGE",
        ]
        roll_out(tutorial, "example-run-2", "plain", approvals="careq")
        assert tutorial.values("test-namespace/ConfigMap/test-cm.yaml", r"key: (\w+)") == ["value1"] * 3
    for run in ("example-run", "example-run-2"):
        tutorial.command("replay", run)
    started = re.findall(r"event='ClusterStarted'.* cluster='(\w+)'", tutorial.log())
    assert started == ["member2", "member3", "member1"] * 2


def test_the_snapshot_has_the_hash_that_the_tutorial_prints(tutorial: Tutorial) -> None:
    """`get clusterresourcesnapshots -o yaml` reads the content back, hash and selected resources as printed."""
    value2 = article("resources/test-namespace.yaml").replace("value1", "value2")
    tutorial.push("Set value2", {"resources/test-namespace.yaml": value2})
    places = ("--members", str(tutorial.members), "--state-dir", str(tutorial.folder / "state"))
    tutorial.command("reconcile", "--once", *places)
    printed = yaml.safe_load(tutorial.command("get", "crs", "example-placement-1-snapshot", "-o", "yaml"))
    digest = printed["metadata"]["annotations"]["kubernetes-fleet.io/resource-hash"]
    assert digest == "10dd7a3d1e5f9849afe956cfbac080a60671ad771e9bda7dd34415f867c75648"
    assert [one["kind"] for one in printed["spec"]["selectedResources"]] == ["Namespace", "ConfigMap"]
    assert printed["spec"]["selectedResources"][1]["data"] == {"key": "value2"}


def test_the_namespaced_tutorial(tutorial: Tutorial) -> None:
    """The namespace placed first, then the Deployment to 1.21 and back to 1.20."""
    deployment = "my-app-namespace/Deployment.apps/web-app.yaml"
    namespace = "my-app-namespace"
    with tutorial.serving():
        tutorial.push("Place the namespace", {"runs/ns.yaml": article("runs/my-app-namespace.yaml")})
        tutorial.until(lambda: "my-app-namespace: succeeded" in status_log(tutorial, "my-app-namespace"), "namespace")
        changed = article("resources/my-app-namespace.yaml").replace("nginx:1.20", "nginx:1.21")
        tutorial.push("Update to 1.21", {"resources/my-app-namespace.yaml": changed})
        roll_out(tutorial, "web-app-rollout-v1-21", "merge", approvals="areq", namespace=namespace)
        assert tutorial.values(deployment, r"image: (\S+)") == ["nginx:1.21"] * 3
        assert masked(tutorial.command("get", "rp", "web-app-placement", "-n", namespace)) == [
            "NAME                GEN   SCHEDULED   SCHEDULED-GEN   AVAILABLE   AVAILABLE-GEN   AGE",
            "web-app-placement   1     True        1               True        1   AGE",
        ]
        roll_out(tutorial, "web-app-rollback-v1-20", "squash", approvals="areq", namespace=namespace)
        assert tutorial.values(deployment, r"image: (\S+)") == ["nginx:1.20"] * 3
    tutorial.command("replay", "web-app-rollback-v1-20", "-n", namespace)


def test_a_broken_file_is_named_everywhere_while_a_good_run_goes_on(tutorial: Tutorial) -> None:
    """The same file, line and rule in `validate`, in the daemon's log, on the status branch and in `get`."""
    with tutorial.serving():
        broken = "apiVersion: cluster.kubernetes-fleet.io/v1beta1\nkind: MemberCluster\nmetadata: {name: UPPER}\n"
        run = article("runs/my-app-namespace.yaml")
        tutorial.push("A good run and a broken file", {"runs/ns.yaml": run, "clusters/broken.yaml": broken})
        tutorial.command("wait", "my-app-namespace", "--timeout", "60s")
        assert "clusters/broken.yaml:3" in tutorial.command("validate", str(tutorial.clone), code=2)
        assert "clusters/broken.yaml" in tutorial.command("get", "problems")
        stored = yaml.safe_load(servers.git(tutorial.remote, "show", "fleet-status:problems.yaml"))
        assert [(one["path"], one["line"]) for one in stored["problems"]] == [("clusters/broken.yaml", 3)]
        assert "clusters/broken.yaml:3" in tutorial.log()
