"""Files of the state folder that are damaged, old, gone or unreadable: what they say never comes on the branch."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from reconciler.daemon import checkpoint
from reconciler.status_branch import reader
from tests import servers
from tests.manifests import config_map, run
from tests.world import World


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    replace(file, bytes(data))


def cut(file: Path) -> None:
    replace(file, file.read_bytes()[: file.stat().st_size // 2])


def zero(file: Path) -> None:
    replace(file, bytes(file.stat().st_size))


def remove(file: Path) -> None:
    file.unlink()


def hide(file: Path) -> None:
    """Put a folder in its place: even who may read every file cannot read that."""
    file.unlink()
    file.mkdir()


def replace(file: Path, data: bytes) -> None:
    file.chmod(0o600)  # git's objects are read-only
    file.write_bytes(data)


HARMS: Mapping[str, Callable[[Path], None]] = {"flip": flip, "cut": cut, "zero": zero, "remove": remove, "hide": hide}


def files(folder: Path) -> list[str]:
    """Return one file of each kind that the folder holds, those in which something is written."""
    git = folder / "repository.git"
    objects = [one for one in sorted((git / "objects").rglob("*")) if one.is_file()]
    found = [*folder.glob("*"), git / "HEAD", git / "config", *git.glob("*trust*"), *(git / "refs").rglob("*")]
    newest = max(objects, key=lambda one: one.stat().st_mtime_ns)
    named = [one for one in [*found, objects[0], newest] if one.is_file() and one.stat().st_size]
    return [str(one.relative_to(folder)) for one in named]


def keep(world: World) -> Path:
    """Have the daemon write every cache, as when it ends; return its folder."""
    reconciler = world.daemons[0].reconciler
    reconciler.keep()
    checkpoint.save(reconciler.derivation._checkpoint, (reconciler.derivation.view, reconciler.derivation._joints))  # type: ignore[arg-type]
    return world.daemons[0]._folder


def goes_on(world: World, number: int) -> None:
    """Roll something new out, and see that everybody else agrees with what is on the branch."""
    before = world.head("fleet-status")
    world.commits({"resources/app/settings.yaml": config_map(f"v{number}"), f"runs/r{number}.yaml": run(f"r{number}")})
    for _ in range(4):  # a fault is waited out, and the mirror is made anew
        world.passes(minutes=1)
    assert world.trouble == ""
    assert world.values() == dict.fromkeys(world.members, f"v{number}")
    assert servers.git(world.remote, "merge-base", before, "fleet-status") == before
    assert reader.read(world._git(), world.head("fleet-status")).tampered == {}


@pytest.mark.parametrize("stopped", [True, False], ids=["stopped", "running"])
@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_local_file_heals_and_says_nothing_on_the_branch(rings: World, harm: str, *, stopped: bool):
    rings.commits("runs/first.yaml", run("first"))
    rings.passes()
    for number, name in enumerate(files(keep(rings))):
        folder = keep(rings)
        if not (folder / name).is_file():
            continue  # the mirror was made anew since
        if stopped:
            rings.daemons[0].ends()
        HARMS[harm](folder / name)
        if stopped:
            rings.daemons[0].starts()
        goes_on(rings, number)


@pytest.mark.parametrize("stopped", [True, False], ids=["stopped", "running"])
def test_an_older_local_file_heals_and_says_nothing_on_the_branch(rings: World, tmp_path: Path, *, stopped: bool):
    rings.commits("runs/first.yaml", run("first"))
    rings.passes()
    shutil.copytree(keep(rings), tmp_path / "older")
    goes_on(rings, 0)
    for number, name in enumerate(files(tmp_path / "older"), start=1):
        folder = keep(rings)
        if stopped:
            rings.daemons[0].ends()
        (folder / name).unlink(missing_ok=True)
        shutil.copy(tmp_path / "older" / name, folder / name)
        if stopped:
            rings.daemons[0].starts()
        goes_on(rings, number)


def test_a_damaged_cache_is_said_once_and_made_anew(rings: World):
    rings.commits("runs/first.yaml", run("first"))
    rings.passes()
    folder = keep(rings)
    flip(folder / "folded")
    flip(folder / "derived")
    with capture_logs() as logs:
        rings.restarts()
        goes_on(rings, 1)
        rings.restarts()
        goes_on(rings, 2)
    said = [Path(one["file"]).name for one in logs if one["event"] == "a cache is damaged, and is made anew"]
    assert sorted(said) == ["derived", "folded"]


def test_a_log_that_is_damaged_in_memory_is_not_pushed(rings: World):
    rings.commits("runs/first.yaml", run("first"))
    rings.passes()
    reconciler = rings.daemons[0].reconciler
    assert reconciler.status is not None
    damaged = {path: data.replace(b'"event":"S', b'"event":"W') for path, data in reconciler.status.files.items()}
    object.__setattr__(reconciler.status, "files", damaged)
    goes_on(rings, 1)


def test_a_cache_of_a_fold_that_the_branch_contradicts_is_not_believed(rings: World):
    rings.commits("runs/first.yaml", run("first"))
    rings.passes()
    reconciler = rings.daemons[0].reconciler
    assert reconciler.status is not None
    forged = dict.fromkeys(reconciler.status.digests, "0" * 64)
    object.__setattr__(reconciler.status, "digests", forged)
    reconciler.keep()
    rings.restarts()
    goes_on(rings, 1)
