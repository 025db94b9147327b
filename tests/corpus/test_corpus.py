"""Every recording is replayed: what differs is in the table of differences, and nothing else is."""

import copy
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.core.actions import Reason
from reconciler.delivery.base import answered
from tests.awkward import Awkward
from tests.corpus import differences, judge, scenario
from tests.corpus.__main__ import main
from tests.corpus.compare import Differing
from tests.corpus.differences import TABLE, reason_of, unexplained
from tests.corpus.replay import Replay
from tests.corpus.scenario import Scenario
from tests.delivery.benches import OLD, WEB, fence
from tests.world import World

RECORDED = Path(__file__).parent / "recorded"
NAMES = [folder.name for folder in scenario.scenarios(RECORDED)]
AHEAD = {"70-delete-stage-pickfixed-shrink": "the delete stage"}
"""Scenarios that are not carried out yet."""

pytestmark = pytest.mark.xdist_group("corpus")
"""One worker replays them all, so that each is replayed once."""

Judged = Callable[[str], list[Differing]]


@pytest.fixture(scope="module", autouse=True)
def nobodys_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("GIT_", "RECONCILER_"))]:
            patch.delenv(name)
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    known: dict[str, list[Differing]] = {}

    def differing(name: str) -> list[Differing]:
        if name not in known:
            known[name] = judge.differences(scenario.read(RECORDED / name), tmp_path_factory.mktemp("corpus"))
        return known[name]

    return differing


def marked(name: str) -> object:
    ahead = [pytest.mark.xfail(strict=True, reason=AHEAD[name])] if name in AHEAD else []
    return pytest.param(name, id=name, marks=ahead)


@pytest.mark.parametrize("name", [marked(name) for name in NAMES])
def test_nothing_differs_that_is_not_meant_to(name: str, judged: Judged):
    assert [str(one) for one in unexplained(judged(name))] == []


@pytest.mark.slow
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_every_row_of_the_table_is_needed(row: differences.Difference, judged: Judged):
    names = [name for name in NAMES if name not in AHEAD]
    assert any(reason_of(one) is row for name in names for one in judged(name))


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
    found = unexplained(judge.differences(edited(edit), tmp_path))
    assert where in [one.where for one in found]


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
PAUSED = "steps:\n- {step: 1, op: wait, until: the cows come home}\n"


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, "neither it nor a folder in it holds inputs.yaml"),
        ({"inputs.yaml": "steps: []"}, "steps.md"),
        ({"inputs.yaml": "a: 1", "steps.md": "", "result.yaml": "{}"}, "KeyError: 'steps'"),
        ({"inputs.yaml": "steps: []", "steps.md": "1. (t+0.0s) RECORD state 'x'", "result.yaml": "{}"}, "states"),
        ({"inputs.yaml": UNKNOWN, "steps.md": "", "result.yaml": "{}"}, "op dance is not known"),
        ({"inputs.yaml": PAUSED, "steps.md": "", "result.yaml": "{}"}, "'the cows come home': not known"),
    ],
)
def test_the_program_refuses_what_is_no_recording(
    files: dict[str, str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert main([str(tmp_path)]) == 2
    assert told in capsys.readouterr().err
