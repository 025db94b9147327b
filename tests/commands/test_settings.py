"""What cannot be used of the operator's settings is said when a service starts, with file, key and rule."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from reconciler import settings
from reconciler.commands import run
from reconciler.daemon.service import Service
from reconciler.errors import UsageError
from tests.commands.conftest import Command
from tests.manifests import run as run_file
from tests.world import World


@pytest.fixture(autouse=True)
def _nobodys_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RECONCILER_SETTINGS", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "settings.yaml"


FOLDER = {"type": "directory", "root": "members"}


@pytest.mark.parametrize("command", ["serve", "reconcile"])
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"delivery": {"default": {"type": "flux"}}},
         "delivery.default: type 'flux' is unknown; known types are directory, kubernetes"),
        ({"delivery": {"default": {}}}, "delivery.default: type None is unknown"),
        ({"delivery": {"default": {"type": "directory"}}}, "delivery.default: a directory member needs root"),
        ({"delivery": {"default": FOLDER | {"mode": 1}}}, "delivery.default: a directory member takes no setting mode"),
        ({"delivery": {"default": FOLDER | {"create": "no"}}}, "delivery.default: create is true or false, not 'no'"),
        ({"delivery": {"default": "members"}}, "delivery.default is a mapping with a type"),
        ({"delivery": {"defaults": FOLDER}}, "unknown setting delivery.defaults; there are delivery.default, "),
        ({"delivery": {"clusters": [FOLDER]}}, "delivery.clusters is a mapping of each cluster's name to how"),
        ({"delivery": {"clusters": {"east": {"type": "kubernetes"}}}},
         "delivery.clusters.east: a kubernetes member needs kubeconfig, the file that says how to reach it"),
        ({"delivery": {"clusters": {"east": {"type": "kubernetes", "kubeconfig": "x", "contxt": "y"}}}},
         "delivery.clusters.east: a kubernetes member takes no setting contxt; there are kubeconfig, context, "),
        ({"delivery": {"clusters": {"../x": FOLDER}}}, "delivery.clusters.../x: "),
        ({"delivery": []}, "delivery must be a mapping, not []"),
        ({"pollPeriodSeconds": "30"}, "pollPeriodSeconds must be a number, not '30'"),
        ({"branch": 1}, "branch must be a text, not 1"),
        ({"poll": 1}, "unknown setting poll; there are repo, branch, "),
    ],
)  # fmt: skip
def test_a_bad_settings_file_ends_a_service_at_its_start(command, body, words, file: Path, capsys):
    (file.parent / "fleet.git").mkdir()
    file.write_text(json.dumps({"repo": "fleet.git", **body}), encoding="utf-8")
    assert run([command, "--settings", str(file)]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"reconciler: {file}: {words}")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"pollPeriodSeconds": 0}, "pollPeriodSeconds is 0: it must be above 0"),
        ({"stageDeadlineSeconds": -1}, "stageDeadlineSeconds is -1: it must be above 0"),
        ({"minPushIntervalSeconds": -1}, "minPushIntervalSeconds is -1: it must be 0 or above"),
        ({"branch": "x", "statusBranch": "x"}, "branch and statusBranch are both x: people and the daemon need one"),
        ({"repo": ""}, "which repository? give --repo, or set `repo` in the settings file"),
    ],
)
def test_values_that_make_no_sense_are_refused(body: dict[str, Any], words, file: Path):
    file.write_text(json.dumps({"repo": "fleet.git", **body}), encoding="utf-8")
    with pytest.raises(UsageError) as refusal:
        settings.load(file, {})
    assert str(refusal.value).startswith(words)


def test_a_number_that_is_none_is_refused(file: Path):
    file.write_text("repo: fleet.git\npollPeriodSeconds: .nan\n", encoding="utf-8")
    with pytest.raises(UsageError, match="pollPeriodSeconds"):
        settings.load(file, {})


# -- folders ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["serve", "reconcile"])
def test_a_file_is_no_folder_of_members(command, file: Path, tmp_path: Path, capsys):
    file.write_text("x", encoding="utf-8")
    assert run([command, "--repo", str(tmp_path), "--members", str(file)]) == 2
    words = f"reconciler: --members {file}: the folder of the members is a file, not a folder\n"
    assert capsys.readouterr().err == words
    assert run([command, "--repo", str(tmp_path), "--members", str(file / "below")]) == 2
    assert "cannot be made: Not a directory" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_no_folder_of_members(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != tmp_path / "members")  # root may write anywhere
    assert run(["serve", "--repo", str(tmp_path), "--members", str(tmp_path / "members")]) == 2
    assert capsys.readouterr().err.endswith("cannot be written: Permission denied\n")


@pytest.mark.parametrize("words", ["get clusters", "describe cluster east"])
def test_members_that_are_nowhere_cannot_be_asked(words, rings: World, ask: Command, tmp_path: Path):
    said = ask(rings.remote, *words.split(), "--members", str(tmp_path / "nowhere"))
    assert said.code == 2
    assert said.err == f"reconciler: --members {tmp_path / 'nowhere'} is not a folder\n"


def test_the_folder_that_the_settings_name_is_made(rings: World, file: Path, tmp_path: Path):
    """As in the README's sample; `create: false` is for a folder that is mounted."""
    rings.commits("runs/web-1.yaml", run_file("web-1"))
    member = {"type": "directory", "root": str(tmp_path / "folders")}
    body = {"repo": str(rings.remote), "delivery": {"default": member | {"create": False}}}
    file.write_text(json.dumps(body), encoding="utf-8")
    assert run(["reconcile", "--once", "--settings", str(file)]) == 0
    assert not (tmp_path / "folders").exists()
    file.write_text(json.dumps({**body, "delivery": {"default": member}}), encoding="utf-8")
    assert run(["reconcile", "--once", "--settings", str(file)]) == 0
    assert sorted(one.name for one in (tmp_path / "folders").iterdir()) == ["canary", "east", "west"]


def test_relative_paths_in_the_file_are_relative_to_its_folder(tmp_path: Path, monkeypatch):
    """Wherever a command is started, as for kubectl and compose; flags are relative to where they are typed."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "signers").write_text("")
    body = {
        "repo": "../fleet.git",
        "stateDir": "state",
        "allowedSigners": "signers",
        "delivery": {
            "default": {"type": "directory", "root": "members"},
            "clusters": {
                "east": {"type": "kubernetes", "kubeconfig": "east.kubeconfig"},
                "west": {"type": "kubernetes", "kubeconfig": "/etc/west.kubeconfig"},
                "north": {"type": "kubernetes", "kubeconfig": "~/north.kubeconfig"},
            },
        },
    }
    (tmp_path / "etc" / "settings.json").write_text(json.dumps(body))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    found, etc = settings.load(Path("etc/settings.json"), {}), tmp_path / "etc"
    assert (found.repo, found.state_dir, found.allowed_signers) == (
        f"{etc}/../fleet.git",
        etc / "state",
        etc / "signers",
    )
    assert found.delivery_default == {"type": "directory", "root": f"{etc}/members", "create": True}
    files = {name: one["kubeconfig"] for name, one in found.delivery_clusters.items()}
    home = f"{tmp_path}/home/north.kubeconfig"
    assert files == {"east": f"{etc}/east.kubeconfig", "west": "/etc/west.kubeconfig", "north": home}
    flags = settings.load(Path("etc/settings.json"), {"repo": "other.git", "state_dir": Path("here")})
    assert (flags.repo, flags.state_dir) == ("other.git", Path("here"))


@pytest.mark.parametrize("url", ["https://forge.example/fleet.git", "git@forge.example:fleet.git", "file:///fleet.git"])
def test_a_url_in_the_file_is_no_path(url, file: Path):
    file.write_text(json.dumps({"repo": url}), encoding="utf-8")
    assert settings.load(file, {}).repo == url


@pytest.mark.parametrize("command", ["serve", "reconcile", "init"])
def test_a_repository_that_is_nowhere_ends_a_service_at_its_start(command, tmp_path: Path, capsys):
    where = tmp_path / "fleet.git"
    assert run([command, "--repo", str(where), "--members", str(tmp_path / "members")]) == 2
    assert f"there is no repository {where}" in capsys.readouterr().err
    assert not (tmp_path / "members").exists()


def test_a_repository_may_be_named_without_its_suffix(rings: World, monkeypatch):
    monkeypatch.setattr(Service, "run", lambda _: None)
    assert run(["serve", "--repo", str(rings.remote).removesuffix(".git")]) == 0


def test_a_service_without_any_delivery_says_so(rings: World, monkeypatch, capsys, tmp_path: Path):
    monkeypatch.setattr(Service, "run", lambda _: None)
    assert run(["serve", "--repo", str(rings.remote), "--log-format", "json"]) == 0
    [line] = capsys.readouterr().err.splitlines()
    said = json.loads(line)
    assert (said["level"], said["event"]) == (
        "warning", "no delivery is configured: every cluster will wait as unreachable",
    )  # fmt: skip
    assert "--members DIR" in said["next"]
    assert "delivery.default" in said["next"]
    assert run(["serve", "--repo", str(rings.remote), "--members", str(tmp_path / "members")]) == 0
    assert capsys.readouterr().err == ""


def test_a_state_folder_that_others_can_write_is_refused(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    mirror = tmp_path / "open" / "mirror"
    mirror.mkdir(parents=True)
    mirror.chmod(0o777)
    where = ("--repo", str(world.remote), "--state-dir", str(tmp_path / "open"))
    assert [run((*command, *where)) for command in (("serve",), ("reconcile", "--once"), ("init",))] == [2, 2, 2]
    said = capsys.readouterr().err
    assert said.count(f"the state folder {mirror} can be written by others (mode 0777)") == 3
