"""`get clusters` and `describe cluster` ask the members themselves, where they are told how to reach them."""

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.commands import run
from reconciler.commands.members import Answer, ask_all, unreachable
from reconciler.core.actions import ApplyOptions, Content, Fence
from reconciler.core.model import PLACEMENT_GROUP, Key
from reconciler.delivery import open_delivery


@pytest.fixture
def folders(moments: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the members' folders as the rollouts left them."""
    shutil.copytree(moments["again"].parent / "members", tmp_path / "members")
    return tmp_path / "members"


@pytest.fixture
def settings(folders: Path, tmp_path: Path) -> Path:
    """Settings with two folders and a Kubernetes member where nobody listens."""
    cluster = {"server": "https://127.0.0.1:1", "certificate-authority-data": ""}
    kubeconfig = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig))
    folder = {"type": "directory", "root": str(folders)}
    nowhere = {"type": "kubernetes", "kubeconfig": str(tmp_path / "kubeconfig")}
    clusters = {"member1": folder, "member2": nowhere}
    document = {"stateDir": str(tmp_path / "state"), "delivery": {"clusters": clusters}}
    (tmp_path / "settings.json").write_text(json.dumps(document))
    return tmp_path / "settings.json"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RECONCILER_SETTINGS", raising=False)


def test_without_settings_nobody_is_asked(command):
    assert command("again", "get", "clusters").out.splitlines()[0].split() == ["NAME", "TAINTS", "AGE"]


def test_clusters_tell_whether_they_answer_and_who_does_not_and_why(command, settings):
    said = command("again", "get", "clusters", "--settings", str(settings))
    rows = [line.split()[:2] for line in said.out.splitlines()]
    assert rows == [["NAME", "REACHABLE"], ["member1", "True"], ["member2", "False"], ["member3", "False"]]
    first, second, *_ = said.err.splitlines()
    assert first.startswith("member2: https://127.0.0.1:1: ")
    assert second == "member3: delivery.clusters.member3 is not in the settings"
    assert said.code == 0


def test_the_variable_of_the_service_names_the_settings_too(command, settings, monkeypatch):
    monkeypatch.setenv("RECONCILER_SETTINGS", str(settings))
    header = command("again", "get", "clusters").out.splitlines()[0].split()
    assert header == ["NAME", "REACHABLE", "VERSION", "TAINTS", "AGE"]


@pytest.mark.parametrize("words", [("get", "clusters"), ("describe", "cluster", "member1")])
def test_the_settings_say_which_repository_is_read_unless_a_flag_does(moments, settings, words, monkeypatch, capsys):
    monkeypatch.chdir(settings.parent)
    delivery = {"default": {"type": "directory", "root": str(settings.parent / "members")}}
    settings.write_text(json.dumps({"repo": str(moments["again"]), "branch": "prod", "delivery": delivery}))
    assert run([*words, "--settings", str(settings)]) == 2
    assert "has no branch prod" in capsys.readouterr().err
    assert run([*words, "--settings", str(settings), "--branch", "main"]) == 0
    assert "member1" in capsys.readouterr().out
    assert run([*words, "--settings", str(settings), "--branch", "main", "-C", "."]) == 2
    assert "is not a git repository" in capsys.readouterr().err


def test_wide_clusters_tell_what_they_run(command, folders):
    said = command("again", "get", "clusters", "member1", "-o", "wide", "--members", str(folders))
    header, row = said.out.splitlines()
    assert header.split() == ["NAME", "REACHABLE", "VERSION", "TAINTS", "AGE", "UID", "LABELS", "RUNS"]
    assert row.split()[-1] == "example-placement=0,my-app-namespace/web-app-placement=1"


def test_an_emptied_inventory_runs_nothing(command, folders):
    """What was removed leaves its fence on the member, be it ours or another repository's."""
    member = open_delivery("member1", {"type": "directory", "root": str(folders)})
    other = Key(group=PLACEMENT_GROUP, kind="ClusterResourcePlacement", namespace="", name="other")
    fence = Fence(repository="another", epoch=1, seq=1)
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cm", "namespace": "other"}}
    assert member.deliver(other, Content(hash="b" * 64, objects=(body,), options=ApplyOptions()), fence).healthy
    row = command("again", "get", "clusters", "member1", "-o", "wide", "--members", str(folders)).out.splitlines()[1]
    assert "ClusterResourcePlacement other=bbbbbbb (another repository's)" in row
    member.withdraw(other, replace(fence, seq=2))
    row = command("again", "get", "clusters", "member1", "-o", "wide", "--members", str(folders)).out.splitlines()[1]
    assert row.split()[-1] == "example-placement=0,my-app-namespace/web-app-placement=1"


def test_a_member_is_only_read(command, folders, settings):
    def state() -> dict[str, float]:
        return {str(one): one.stat().st_mtime_ns for one in sorted(settings.parent.rglob("*"))}

    before = state()
    command("again", "get", "clusters", "--settings", str(settings))
    command("again", "describe", "cluster", "member2", "--settings", str(settings))
    command("again", "describe", "cluster", "member1", "--settings", str(settings), "--members", str(folders))
    assert state() == before


def test_a_described_cluster_tells_what_is_there_and_since_which_run(command, folders):
    said = command("again", "describe", "cluster", "member2", "--members", str(folders)).out
    member = said[said.index("Member:") :].splitlines()
    assert member[1].split() == ["Reachable:", "Yes"]
    table = [line.split() for line in member if "example-placement" in line or "web-app-placement" in line]
    assert [(row[0], row[3:]) for row in table] == [
        ("example-placement", ["example-run-2", "Yes", "2", "Yes"]),
        ("my-app-namespace/web-app-placement", ["web-app-rollout-v1-21", "Yes", "2", "Yes"]),
    ]
    assert "Not As Delivered:" not in member


def test_a_described_cluster_tells_what_was_changed_or_is_missing(command, folders):
    (folders / "member2/test-namespace/ConfigMap/test-cm.yaml").write_text("changed: by hand\n")
    (folders / "member2/my-app-namespace/Service/web-app.yaml").unlink()
    said = command("again", "describe", "cluster", "member2", "--members", str(folders)).out
    rows = [line.split()[:3] for line in said[said.index("Not As Delivered:") :].splitlines()[3:]]
    assert rows == [
        ["example-placement", "ConfigMap", "test-namespace/test-cm"],
        ["my-app-namespace/web-app-placement", "Service", "my-app-namespace/web-app"],
    ]


def test_a_described_cluster_that_does_not_answer_says_why(command, settings):
    said = command("again", "describe", "cluster", "member2", "--settings", str(settings)).out
    member = said[said.index("Member:") :].splitlines()
    assert member[1].split() == ["Reachable:", "No"]
    assert "https://127.0.0.1:1" in member[2]
    assert member[-1] == "On The Member:  <unknown>"


def test_a_slow_member_holds_up_no_other():
    ended = threading.Event()

    def ask(name: str) -> Answer:
        if name == "slow":
            ended.wait(30)
        return Answer(facts={"reachable": True})

    names = ["slow", *(f"m{number}" for number in range(50))]
    answers = ask_all(names, ask, deadline=0.5)
    ended.set()
    assert answers["slow"] == unreachable("no answer within 0.5 s")
    assert {name for name, one in answers.items() if one.reachable} == set(names) - {"slow"}


def test_a_member_whose_asking_breaks_is_not_reachable():
    def ask(_: str) -> Answer:
        raise ZeroDivisionError("oh")

    assert ask_all(["a"], ask)["a"].fact("message") == "asking failed with ZeroDivisionError: oh"
