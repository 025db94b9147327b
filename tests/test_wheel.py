"""What is shipped: built, unpacked, installed where nothing else is, and run."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("wheel")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """The two files of a release."""

    sdist: Path
    wheel: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A virtual environment with the wheel and its locked dependencies, and nothing else."""

    folder: Path

    @property
    def package(self) -> Path:
        (found,) = self.folder.glob("lib/python*/site-packages/reconciler")
        return found

    def run(self, *arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
        ours = ("PYTHON", "RECONCILER_")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return _run(str(self.folder / "bin" / arguments[0]), *arguments[1:], cwd=cwd, env=environment)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    """The wheel is built from the unpacked sdist, so what the sdist lacks the wheel lacks too."""
    folder = tmp_path_factory.mktemp("dist")
    built = _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT), cwd=folder)
    assert built.returncode == 0, built.stdout + built.stderr
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return Shipped(sdist=sdist, wheel=wheel)


@pytest.fixture(scope="module")
def installed(shipped: Shipped, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("installed") / "venv"
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    lock = str(ROOT / "requirements-runtime.lock")
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [*pip, "--no-compile", "--no-deps", "--only-binary", ":all:", "--require-hashes", "--requirement", lock],
        [*pip, "--no-deps", "--no-index", str(shipped.wheel)],
    ):
        done = _run(*command, cwd=folder.parent)
        assert done.returncode == 0, done.stdout + done.stderr
    return Installed(folder=folder)


def test_the_sdist_holds_the_package_the_schemas_and_the_sample_repository(shipped: Shipped) -> None:
    with tarfile.open(shipped.sdist) as archive:
        names = {str(PurePosixPath(*PurePosixPath(one.name).parts[1:])) for one in archive if one.isfile()}
    assert names - {"PKG-INFO", ".gitignore"} == {
        *_files("reconciler"),
        *_files("schemas"),
        *_files("sample-repo"),
        "LICENSE",
        "README.md",
        "pyproject.toml",
    }


def test_the_wheel_holds_the_package_and_inside_it_the_schemas_and_the_sample_repository(shipped: Shipped) -> None:
    with zipfile.ZipFile(shipped.wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    inside = {f"reconciler/{name}" for name in _files("schemas") | _files("sample-repo")}
    assert names == _files("reconciler") | inside


def test_the_runtime_lock_holds_all_that_the_wheel_needs(installed: Installed, tmp_path: Path) -> None:
    checked = installed.run("python", "-m", "pip", "check", cwd=tmp_path)
    assert (checked.returncode, checked.stdout) == (0, "No broken requirements found.\n")


def test_the_installed_command_prints_its_help(installed: Installed, tmp_path: Path) -> None:
    done = installed.run("reconciler", "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: reconciler" in done.stdout


def test_the_installed_command_finds_the_sample_repository_valid(installed: Installed, tmp_path: Path) -> None:
    done = installed.run("reconciler", "validate", str(installed.package / "sample-repo"), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_installed_command_knows_the_schemas(installed: Installed, tmp_path: Path) -> None:
    """A field that only the schema of the kind can judge is refused, with the file's name and line."""
    fleet = Path(shutil.copytree(installed.package / "sample-repo", tmp_path / "fleet"))
    strategy = fleet / "strategies" / "rings.yaml"
    strategy.write_text(strategy.read_text().replace("maxConcurrency: 50%", "maxConcurrency: 500%"))
    line = strategy.read_text().split("maxConcurrency")[0].count("\n") + 1
    done = installed.run("reconciler", "validate", str(fleet), cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"strategies/rings.yaml:{line}" in done.stdout + done.stderr


def _files(folder: str) -> set[str]:
    found = {path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file()}
    return {str(path) for path in found if "__pycache__" not in path.parts}


def _run(*command: str, cwd: Path, env: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
