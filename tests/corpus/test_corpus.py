"""Every recording is replayed: what differs is in the table of differences, and nothing else is."""

import copy
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.core.actions import Reason
from reconciler.delivery.base import answered
from tests.awkward import Awkward
from tests.corpus import differences, scenario
from tests.corpus.__main__ import main
from tests.corpus.differences import TABLE, reason_of, unexplained
from tests.corpus.judge import Judgement, judge
from tests.corpus.replay import Replay
from tests.corpus.scenario import Scenario
from tests.delivery.benches import OLD, WEB, fence
from tests.world import World

RECORDED = Path(__file__).parent / "recorded"
NAMES = [folder.name for folder in scenario.scenarios(RECORDED)]
AHEAD: dict[str, str] = {}
"""Scenarios that are not carried out yet."""

pytestmark = pytest.mark.xdist_group("corpus")
"""One worker replays them all, so that each is replayed once."""

Judged = Callable[[str], Judgement]


@pytest.fixture(scope="module", autouse=True)
def nobodys_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("GIT_", "RECONCILER_"))]:
            patch.delenv(name)
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    known: dict[str, Judgement] = {}

    def judged(name: str) -> Judgement:
        if name not in known:
            known[name] = judge(scenario.read(RECORDED / name), tmp_path_factory.mktemp("corpus"))
        return known[name]

    return judged


def marked(name: str) -> object:
    ahead = [pytest.mark.xfail(strict=True, reason=AHEAD[name])] if name in AHEAD else []
    return pytest.param(name, id=name, marks=ahead)


@pytest.mark.parametrize("name", [marked(name) for name in NAMES])
def test_nothing_differs_that_is_not_meant_to(name: str, judged: Judged):
    judgement = judged(name)
    assert [str(one) for one in unexplained(judgement.differing)] == []
    assert judgement.notes == ()


@pytest.mark.slow
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_every_row_of_the_table_is_needed(row: differences.Difference, judged: Judged):
    names = [name for name in NAMES if name not in AHEAD]
    assert any(reason_of(one) is row for name in names for one in judged(name).differing)


def test_no_two_rows_have_one_name():
    assert len({row.name for row in TABLE}) == len(TABLE)


# -- that the comparison sees what differs


SMALL = "31-before-stage-approval"


def edited(edit: Callable[[dict], None]) -> Scenario:
    one = scenario.read(RECORDED / SMALL)
    result = copy.deepcopy(dict(one.result))
    edit(result)
    return replace(one, result=result)


def run_in(result: dict, state: int) -> dict:
    return result["states"][state]["objects"]["ClusterStagedUpdateRun"][0]["status"]


def other_message(result: dict) -> None:
    run_in(result, 0)["stagesStatus"][0]["conditions"][0]["message"] = "Something else"


def one_cluster_fewer(result: dict) -> None:
    run_in(result, 1)["stagesStatus"][0]["clusters"].pop()


def no_request(result: dict) -> None:
    del result["states"][0]["objects"]["ClusterApprovalRequest"]


def other_order(result: dict) -> None:
    result["timeline"]["ClusterStagedUpdateRun s31-r"].append(
        "  99.0 stage all cluster s31-z Started = True/ClusterUpdatingStarted: Cluster update started"
    )


@pytest.mark.parametrize(
    ("edit", "where"),
    [
        (other_message, "[waiting for before approval] ClusterStagedUpdateRun s31-r, stage all: Progressing"),
        (one_cluster_fewer, "[done] ClusterStagedUpdateRun s31-r, stage all: clusters"),
        (no_request, "[waiting for before approval] ClusterApprovalRequest before stage all of run s31-r: name"),
        (other_order, "ClusterStagedUpdateRun s31-r: waves"),
    ],
)
def test_a_recording_that_says_otherwise_is_found_out(edit: Callable[[dict], None], where: str, tmp_path: Path):
    found = unexplained(judge(edited(edit), tmp_path).differing)
    assert where in [one.where for one in found]


# -- steps that none of the recordings here has


def strategy_step(**step: object) -> dict[str, object]:
    return {"step": 1, "kind": "ClusterStagedUpdateStrategy", "name": "s", **step}


def test_a_patch_that_is_refused_changes_nothing(tmp_path: Path):
    spec = {"stages": [{"name": "one", "labelSelector": {}}]}
    body = {
        "apiVersion": "placement.kubernetes-fleet.io/v1",
        "kind": "ClusterStagedUpdateStrategy",
        "metadata": {"name": "s"},
        "spec": spec,
    }
    steps = (
        {"step": 1, "op": "create", "object": body},
        strategy_step(op="patch", case="no list", patch={"spec": {"stages": 1}}),
        strategy_step(op="patch", case="a list", patch={"metadata": {"labels": {"a": "b", "c": None}}}),
    )
    world = World(folder=tmp_path)
    replay = Replay(world, Scenario(name="patches", steps=steps, result={}))
    replay.run()
    assert replay.facts == {"no list": {"refused": "must be a list, not a number"}, "a list": {"accepted": "yes"}}
    text = world.text("main", "strategies/_cluster/ClusterStagedUpdateStrategy-s.json")
    assert json.loads(text) == body | {"metadata": {"name": "s", "labels": {"a": "b"}}}
    world.ends()


def test_a_patch_of_another_type_is_refused(tmp_path: Path):
    replay = replay_with(Awkward(), tmp_path)
    replay._objects["strategies/_cluster/ClusterStagedUpdateStrategy-s.json"] = {}
    with pytest.raises(scenario.NotAScenario, match="a patch of type json is not known"):
        replay._patch(strategy_step(op="patch", type="json", patch=[]))


# -- the modes of the fake agent


def replay_with(member: Awkward, folder: Path) -> Replay:
    world = World(folder=folder)
    world.members["m"] = member
    return Replay(world, Scenario(name="modes", steps=(), result={}))


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("ok", Reason.AVAILABLE),
        ("silent", Reason.UNREACHABLE),
        ("applyfail", Reason.REFUSED),
        ("unavail", Reason.NOT_AVAILABLE),
        ("hold", Reason.AVAILABLE),
    ],
)
def test_a_mode_says_what_becomes_of_a_delivery(mode: str, reason: Reason, tmp_path: Path):
    member = Awkward()
    replay_with(member, tmp_path)._member({"step": 1, "cluster": "m", "mode": mode})
    assert answered(lambda: member.deliver(WEB, OLD, fence(1))).reason is reason


def test_a_member_that_holds_keeps_what_is_deleted_until_it_is_well(tmp_path: Path):
    member = Awkward()
    replay = replay_with(member, tmp_path)
    member.deliver(WEB, OLD, fence(1))
    replay._member({"step": 1, "cluster": "m", "mode": "hold"})
    assert member.withdraw(WEB, fence(2)).reason is Reason.INCOMPLETE
    assert member.objects
    replay._member({"step": 2, "cluster": "m", "mode": "ok"})
    assert member.withdraw(WEB, fence(2)).reason is Reason.WITHDRAWN
    assert not member.objects


def test_a_mode_that_is_not_known_is_refused(tmp_path: Path):
    with pytest.raises(scenario.NotAScenario, match="mode dead of a member is not known"):
        replay_with(Awkward(), tmp_path)._member({"step": 1, "cluster": "m", "mode": "dead"})


# -- the program


def test_the_program_reports_each_scenario(capsys: pytest.CaptureFixture[str]):
    assert main([str(RECORDED / SMALL)]) == 0
    assert f"ok\t{SMALL} (on purpose: " in capsys.readouterr().out


def test_the_program_tells_where_ours_and_the_recording_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "50-placement-missing"
    folder.mkdir()
    for name in scenario.FILES:
        text = (RECORDED / folder.name / name).read_text(encoding="utf-8")
        (folder / name).write_text(text.replace("parent placement not found", "no such placement"), encoding="utf-8")
    assert main([str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "differs\t50-placement-missing\n" in out
    assert "[failed] ClusterStagedUpdateRun s50z-r: Initialized\n    ours:     False UpdateRun" in out
    assert "no such placement" in out


UNKNOWN = "steps:\n- {step: 1, op: dance}\n"
NOBODY = "steps:\n- {step: 1, op: delete, kind: Namespace, name: a}\n"
HALF = "steps:\n- {step: 1, op: sleep}\n"


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, "neither it nor a folder in it holds inputs.yaml"),
        ({"inputs.yaml": "steps: []"}, "steps.md"),
        ({"inputs.yaml": "a: 1", "steps.md": "", "result.yaml": "{}"}, "KeyError: 'steps'"),
        ({"inputs.yaml": "steps: []", "steps.md": "1. (t+0.0s) RECORD state 'x'", "result.yaml": "{}"}, "states"),
        ({"inputs.yaml": UNKNOWN, "steps.md": "", "result.yaml": "{}"}, "op dance is not known"),
        (
            {"inputs.yaml": NOBODY, "steps.md": "", "result.yaml": "{}"},
            "step 1 deletes Namespace a, which nothing created",
        ),
        ({"inputs.yaml": HALF, "steps.md": "", "result.yaml": "{}"}, "step 1, sleep: no 'seconds'"),
    ],
)
def test_the_program_refuses_what_is_no_recording(
    files: dict[str, str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert main([str(tmp_path)]) == 2
    assert told in capsys.readouterr().err


def test_one_folder_that_is_no_recording_keeps_nobody_from_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for name, text in (("1-bad", UNKNOWN), ("2-good", "steps: []\n")):
        (tmp_path / name).mkdir()
        for file, content in (("inputs.yaml", text), ("steps.md", ""), ("result.yaml", "{}")):
            (tmp_path / name / file).write_text(content, encoding="utf-8")
    assert main([str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert "not replayed\t1-bad: step 1: op dance is not known" in said.err
    assert "ok\t2-good" in said.out


def test_words_that_are_not_known_are_waited_for_until_rest_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    steps = "steps:\n- {step: 1, op: wait, until: the cows come home}\n"
    for file, content in (("inputs.yaml", steps), ("steps.md", ""), ("result.yaml", "{}")):
        (tmp_path / file).write_text(content, encoding="utf-8")
    assert main([str(tmp_path)]) == 0
    assert "not known: the cows come home" in capsys.readouterr().out
