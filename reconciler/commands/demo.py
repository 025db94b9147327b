"""`reconciler demo`: the tutorial from merge to done and back, through the same commands that anybody would use."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from reconciler.git.mirror import Local

_WAIT = "2s"
"""What the tutorial's waits are shortened to."""

_MEMBERS = ("member1", "member2", "member3")

_PERSON = {
    "GIT_AUTHOR_NAME": "Dana Demo",
    "GIT_AUTHOR_EMAIL": "dana@example.com",
    "GIT_COMMITTER_NAME": "Dana Demo",
    "GIT_COMMITTER_EMAIL": "dana@example.com",
}


def register(application: typer.Typer) -> None:
    """Add the command."""
    application.command("demo")(demo)


def demo(
    keep: Annotated[Path | None, typer.Option("--keep", help="Leave everything in this folder, to explore.")] = None,
    kubeconfig: Annotated[
        Path | None, typer.Option("--kubeconfig", help="Use real clusters for members, from this kubeconfig.")
    ] = None,
    contexts: Annotated[
        str, typer.Option("--contexts", help="Three contexts of it, for member1,member2,member3.")
    ] = "",
) -> None:
    """Watch the tutorial happen: three members, stages, a wait, an approval, and the way back; both scopes."""
    from reconciler.errors import UsageError  # noqa: PLC0415

    clusters = _clusters(kubeconfig, contexts)
    if keep is not None:
        if keep.exists() and any(keep.iterdir()):
            raise UsageError(f"{keep} is not empty")
        keep.mkdir(parents=True, exist_ok=True)
        folder = keep.resolve()
        _Demo(folder, clusters).run()
        typer.echo(f"\nworkspace: {folder} (fleet.git, members/, serve.log)")
        remote = folder / "fleet.git"
        typer.echo(f"explore:   reconciler get csur -C {remote}; git -C {remote} show fleet-status:README.md")
        return
    with tempfile.TemporaryDirectory(prefix="reconciler-demo-") as throwaway:
        _Demo(Path(throwaway), clusters).run()
    typer.echo("\nto keep the workspace and explore it: reconciler demo --keep DIR")


def _clusters(kubeconfig: Path | None, contexts: str) -> dict[str, dict[str, str]]:
    """Return the settings of real members by name; none: folders are members."""
    from reconciler.errors import UsageError  # noqa: PLC0415

    if kubeconfig is None:
        return {}
    names = [one for one in contexts.split(",") if one]
    if len(names) != len(_MEMBERS):
        raise UsageError("--kubeconfig needs --contexts with three names: a,b,c")
    file = str(kubeconfig.resolve())
    pairs = zip(_MEMBERS, names, strict=True)
    return {member: {"type": "kubernetes", "kubeconfig": file, "context": name} for member, name in pairs}


class _Demo:
    """A workspace: a bare remote, members (folders, or real clusters), a daemon, and a person who commits."""

    def __init__(self, folder: Path, clusters: dict[str, dict[str, str]]) -> None:
        self.folder, self.clusters = folder, clusters
        self.remote = folder / "fleet.git"
        self.environment = {**os.environ, **_PERSON, "RECONCILER_REPO": str(self.remote), "NO_COLOR": "1"}

    def run(self) -> None:
        """Tell the whole story."""
        os.environ.update(_PERSON)
        self._init()
        self._merge("Add the fleet, and the first version of two applications", self._first_files())
        with self._serving():
            self._cluster_scoped()
            self._namespaced()
            self._changing_ones_mind()
        self._leave()

    # -- the two tabs ------------------------------------------------------------------------------------------

    def _cluster_scoped(self) -> None:
        _say("Part one: a ClusterResourcePlacement. The ConfigMap changes from value1 to value2.")
        changed = self._edited("resources/test-namespace.yaml", "value1", "value2")
        self._merge("Set key to value2", {"resources/test-namespace.yaml": changed})
        self._until("get", "crs", "example-placement-1-snapshot")
        self._do("get", "clusterresourcesnapshots", "--show-labels")
        self._roll_out("example-run", "csur", "careq")
        self._show("test-namespace", "ConfigMap", "test-cm")
        self._do("get", "crp", "example-placement")
        _say("The way back: a second run, with the snapshot before.")
        self._roll_out("example-run-2", "csur", "careq")
        self._show("test-namespace", "ConfigMap", "test-cm")

    def _namespaced(self) -> None:
        namespace = ("-n", "my-app-namespace")
        _say("Part two: a ResourcePlacement. First its namespace, by a placement that carries nothing else.")
        self._merge("Place the namespace", _article("runs/my-app-namespace.yaml"))
        self._do("wait", "my-app-namespace", "--timeout", "30s")
        _say("The Deployment goes from nginx 1.20 to 1.21.")
        changed = self._edited("resources/my-app-namespace.yaml", "nginx:1.20", "nginx:1.21")
        self._merge("Update web-app to nginx 1.21", {"resources/my-app-namespace.yaml": changed})
        self._roll_out("web-app-rollout-v1-21", "sur", "areq", *namespace)
        self._show("my-app-namespace", "Deployment.apps", "web-app", "image:")
        self._roll_out("web-app-rollback-v1-20", "sur", "areq", *namespace)
        self._show("my-app-namespace", "Deployment.apps", "web-app", "image:")

    def _changing_ones_mind(self) -> None:
        _say("Part three: a revert. The last run of part one is taken back, and nobody is asked again.")
        path = next(iter(_article("runs/example-run-2.yaml")))
        local = self._local()
        started = local.git.run("log", "-1", "--diff-filter=A", "--format=%H", "main", "--", path).decode().strip()
        self._merge(f'Revert "Start example-run-2"\n\nThis reverts commit {started}.', {path: None})
        self._until("get", "csur", "example-run-2-rollback")
        self._quietly("wait", "example-run-2-rollback", "--timeout", "30s")
        self._do("tree", "example-run-2-rollback")
        self._show("test-namespace", "ConfigMap", "test-cm")

    def _roll_out(self, run: str, noun: str, approvals: str, *namespace: str) -> None:
        """Merge a run, watch it to its approval, approve, and watch it end."""
        self._merge(f"Start {run}", _article(f"runs/{run}.yaml"))
        with self._watching(run, *namespace):
            self._quietly("wait", run, "--for", "approval", "--timeout", "60s", *namespace)
        self._do("get", approvals, *namespace)
        self._do("approve", run, "canary", "--message", "lgtm", *namespace)
        self._quietly("wait", run, "--timeout", "60s", *namespace)
        self._do("tree", run, *namespace)
        self._do("get", noun, *namespace)

    # -- what a person does --------------------------------------------------------------------------------------

    def _init(self) -> None:
        from reconciler.git.run import PERSON, Git  # noqa: PLC0415

        _say(f"A remote repository in {self.remote}, and its status branch.")
        self.remote.mkdir()
        Git(directory=self.remote, profile=PERSON).run("init", "--quiet", "--bare", "--initial-branch", "main")
        self._do("init", "--repo", str(self.remote))

    def _first_files(self) -> dict[str, bytes]:
        tops = ("clusters", "resources", "placements", "strategies")
        found = {path: data for top in tops for path, data in _article(top).items()}
        return {path: re.sub(rb"waitTime: \S+", b"waitTime: " + _WAIT.encode(), data) for path, data in found.items()}

    def _edited(self, path: str, old: str, new: str) -> bytes:
        return _article(path)[path].replace(old.encode(), new.encode())

    def _merge(self, message: str, changes: Mapping[str, bytes | None]) -> None:
        """Commit and push to main as a person would; None removes a file."""
        from reconciler.git import publish  # noqa: PLC0415

        local = self._local()
        new = publish.write_person_commit(
            local.git, base=local.tip("main"), changes=dict(changes), message=f"{message}\n"
        )
        publish.push(local, "main", new, local.tip("main"))
        typer.secho(f"\n» pushed {new[:7]} to main: {message.partition(chr(10))[0]}", bold=True)
        for path, content in sorted(changes.items()):
            typer.echo(f"    {path}" + (" (removed)" if content is None else ""))

    def _local(self) -> "Local":
        from reconciler.git.mirror import open_local  # noqa: PLC0415

        return open_local(self.remote, ("main", "fleet-status"))

    # -- commands -------------------------------------------------------------------------------------------------

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "reconciler", *arguments]

    def _do(self, *arguments: str) -> None:
        """Run a command in the open; a failure ends the demo."""
        typer.secho(f"\n$ reconciler {' '.join(arguments)}", fg=typer.colors.CYAN)
        self._quietly(*arguments)

    def _quietly(self, *arguments: str) -> None:
        done = subprocess.run(self._command(*arguments), env=self.environment, check=False)  # noqa: S603 - our own
        if done.returncode:
            raise typer.Exit(done.returncode)

    def _until(self, *arguments: str) -> None:
        """Run a command until it succeeds, half a minute long."""
        from reconciler.clock import monotonic, sleep  # noqa: PLC0415

        end = monotonic() + 30
        while subprocess.run(  # noqa: S603 - our own command
            self._command(*arguments), env=self.environment, capture_output=True, check=False
        ).returncode:
            if monotonic() > end:
                raise typer.Exit(1)
            sleep(0.2)

    @contextmanager
    def _serving(self) -> Iterator[None]:
        """Run the daemon as its own process, with folders for members."""
        places = (*self._places(), "--state-dir", str(self.folder / "state"))
        seconds = ("--poll-period-seconds", "0.5", "--removal-grace-period-seconds", "0")
        arguments = ("serve", "--repo", str(self.remote), *places, *seconds)
        typer.secho(f"\n$ reconciler {' '.join(arguments)} &", fg=typer.colors.CYAN)
        with (self.folder / "serve.log").open("wb") as log:
            daemon = subprocess.Popen(self._command(*arguments), env=self.environment, stderr=log)  # noqa: S603
            try:
                yield
            finally:
                daemon.send_signal(signal.SIGTERM)
                code = daemon.wait(timeout=30)
        if code:
            typer.echo((self.folder / "serve.log").read_text(encoding="utf-8"), err=True)
            raise typer.Exit(1)

    def _places(self) -> tuple[str, str]:
        """Return the flags that say where the members are."""
        from reconciler.documents import yaml  # noqa: PLC0415

        if not self.clusters:
            return "--members", str(self.folder / "members")
        settings = self.folder / "settings.yaml"
        settings.write_text(yaml.dump({"delivery": {"clusters": self.clusters}}), encoding="utf-8")
        return "--settings", str(settings)

    @contextmanager
    def _watching(self, run: str, *namespace: str) -> Iterator[None]:
        """Show the run's tree line by line while something else is waited for."""
        arguments = ("tree", run, "--watch", *namespace)
        typer.secho(f"\n$ reconciler {' '.join(arguments)}", fg=typer.colors.CYAN)
        self._until("tree", run, *namespace)
        with subprocess.Popen(  # noqa: S603 - our own command
            self._command(*arguments), env=self.environment, stdin=subprocess.DEVNULL
        ) as tree:
            try:
                yield
            finally:
                tree.terminate()

    # -- results --------------------------------------------------------------------------------------------------

    def _show(self, namespace: str, kind: str, name: str, only: str = "") -> None:
        """Print an object as every member has it, or only the lines with a word."""
        from reconciler.redact import text  # noqa: PLC0415

        for member in _MEMBERS:
            typer.secho(f"\n{member}: {kind} {namespace}/{name}", fg=typer.colors.CYAN)
            lines = self._read(member, namespace, kind, name).splitlines()
            typer.echo(text("\n".join(line for line in lines if only in line)))

    def _read(self, member: str, namespace: str, kind: str, name: str) -> str:
        if not self.clusters:
            return (self.folder / "members" / member / namespace / kind / f"{name}.yaml").read_text(encoding="utf-8")
        from reconciler.delivery.kubernetes import settings  # noqa: PLC0415
        from reconciler.delivery.kubernetes.api import Api  # noqa: PLC0415
        from reconciler.delivery.kubernetes.connection import Connection  # noqa: PLC0415
        from reconciler.documents import yaml  # noqa: PLC0415

        api = Api(Connection(settings.read(member, self.clusters[member])))
        plural = f"{kind.partition('.')[0].lower()}s"
        root = "/apis/apps/v1" if kind.endswith(".apps") else "/api/v1"
        body = dict(api.get(f"{root}/namespaces/{namespace}/{plural}/{name}") or {})
        metadata = {key: body["metadata"][key] for key in ("name", "namespace", "labels")}
        return yaml.dump({**body, "metadata": metadata, "status": None})

    def _leave(self) -> None:
        _say("Everything is in the repository: git log of the status branch.")
        log = self._local().git.run("log", "--format=%h %s", "fleet-status").decode(errors="replace")
        typer.echo(log.rstrip())


def _say(text: str) -> None:
    typer.secho(f"\n{text}", fg=typer.colors.GREEN, bold=True)


def _article(under: str) -> dict[str, bytes]:
    """Return the tutorial's files at or below a path of its repository."""
    top = Path(str(files("reconciler.article")))
    start = top / under
    found = [start] if start.is_file() else sorted(start.rglob("*.yaml"))
    return {path.relative_to(top).as_posix(): path.read_bytes() for path in found}
