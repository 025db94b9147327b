"""`validate` names what would not count, not start or lead nowhere, before it is merged."""

import json
from pathlib import Path

import pytest

from reconciler.commands import run as command_line
from tests import manifests, servers
from tests.commands.conftest import Command, Output
from tests.manifests import approval, cluster, run, stage, strategy
from tests.world import World

FLEET = {
    "clusters/canary.yaml": cluster("canary", ring="canary"),
    "clusters/east.yaml": cluster("east", ring="prod"),
    "resources/app.yaml": manifests.namespace() + "---\n" + manifests.config_map("value1"),
    "placements/web.yaml": manifests.placement(),
    "strategies/rings.yaml": strategy(stage("canary", approval=True), stage("prod")),
}


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """A folder with a sound fleet."""
    for path, text in FLEET.items():
        (tmp_path / "fleet" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fleet" / path).write_text(text, encoding="utf-8")
    (tmp_path / "fleet" / "runs").mkdir()
    (tmp_path / "fleet" / "approvals").mkdir()
    return tmp_path / "fleet"


@pytest.fixture
def validate(fleet: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return what writes files into the fleet, validates it, and returns code, stdout and stderr."""

    def call(files: dict[str, str], *words: str) -> Output:
        for path, text in files.items():
            (fleet / path).parent.mkdir(parents=True, exist_ok=True)
            (fleet / path).write_text(text, encoding="utf-8")
        code = command_line(["validate", str(fleet), *words])
        said = capsys.readouterr()
        return Output(code, said.out, said.err)

    return call


def test_a_sound_fleet_is_valid(validate):
    said = validate({"runs/web-1.yaml": run("web-1"), "approvals/a.json": approval("web-1-canary")})
    assert (said.code, said.out, said.err) == (0, "", "7 files: valid\n")


# -- what counts for nothing ---------------------------------------------------------------------------------------


def test_our_kinds_outside_the_folders_are_named_and_not_called_valid(validate):
    said = validate(
        {
            "run.yaml": run("web-1"),
            "deploy/west.yml": cluster("west"),
            "deploy/app.yaml": manifests.config_map("x"),
            "mkdocs.yml": "kind: ClusterStagedUpdateRun\n",
            "notes.yaml": "a: [\n",
            ".github/run.yaml": run("web-2"),
        }
    )
    assert (said.code, said.out) == (0, "")
    assert said.err.splitlines() == [
        "warning: run.yaml:1: OutsideFolders: ClusterStagedUpdateRun belongs below runs/; here it counts for nothing",
        "warning: deploy/west.yml:1: OutsideFolders: MemberCluster belongs below clusters/; here it counts for nothing",
        "5 files: valid; 2 outside the folders, not checked",
    ]
    listed = json.loads(validate({}, "-o", "json").out)
    assert [one["path"] for one in listed] == ["run.yaml", "deploy/west.yml"]


def test_a_folder_that_is_no_fleet_is_not_valid(tmp_path, capsys):

    (tmp_path / "run.yaml").write_text(run("web-1"), encoding="utf-8")
    assert command_line(["validate", str(tmp_path)]) == 2
    warning, error = capsys.readouterr().err.splitlines()
    assert warning.startswith("warning: run.yaml:1: OutsideFolders: ")
    assert error.startswith(f"reconciler: {tmp_path} is no fleet repository: it has none of the folders clusters, ")
    (tmp_path / "run.yaml").unlink()
    (tmp_path / "runs").mkdir()
    assert command_line(["validate", str(tmp_path)]) == 0
    assert capsys.readouterr().err == "0 files: nothing to check\n"


def test_a_branch_is_judged_alike(rings: World, ask: Command):
    rings.commits("run.yaml", run("web-1"))
    said = ask(rings.remote, "validate")
    assert said.code == 0
    assert said.err.splitlines() == [
        "warning: run.yaml:1: OutsideFolders: ClusterStagedUpdateRun belongs below runs/; here it counts for nothing",
        f"main at {rings.head()[:7]}: valid; 1 outside the folders, not checked",
    ]


# -- what would not start ------------------------------------------------------------------------------------------

CANARIES = {"matchLabels": {"ring": "canary"}}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            {"clusters/west.yaml": cluster("west")},
            "some clusters are not placed in any stage, total 1, showing up to 10: west",
        ),
        (
            {"strategies/rings.yaml": strategy(stage("canary"), stage("again", labels={"ring": "canary"}))},
            "cluster `canary` appears in more than one stages",
        ),
        (
            {"runs/web-1.yaml": run("web-1", index=7)},
            "no resourceSnapshots with index `7` found for placement `/web`",
        ),
    ],
)
def test_a_run_that_would_not_initialize_is_named_with_why(validate, files, words):
    said = validate({"runs/web-1.yaml": run("web-1"), **files})
    assert said.code == 2
    [line] = said.out.splitlines()
    assert line.startswith("runs/web-1.yaml:")
    assert line.endswith(f": NotInitialized: {words} (at /spec)")


def test_only_the_newest_run_of_a_placement_is_judged(rings: World):
    """One that is older than a newer one is never initialized any more."""
    rings.commits("runs/web-1.yaml", run("web-1", index=7))
    rings.passes()
    assert rings.problems() == ["runs/web-1.yaml: NotInitialized"]
    rings.commits("runs/web-2.yaml", run("web-2"))
    rings.passes()
    assert rings.problems() == []


def test_a_reason_that_is_told_already_is_told_once(validate):
    missing = validate({"runs/web-1.yaml": run("web-1", strategy="nope")})
    assert [line.split(": ")[1] for line in missing.out.splitlines()] == ["UnknownReference"]
    refused = validate({"runs/web-1.yaml": run("web-1"), "clusters/east.yaml": cluster("east", ring="prod", taints=[
        {"key": "a", "effect": "NoSchedule"}])})  # fmt: skip
    assert [line.split(": ")[1] for line in refused.out.splitlines()] == ["NotSupportedYet"]


def test_several_runs_of_one_placement_in_one_commit_are_named(validate):
    said = validate({"runs/a.yaml": run("web-1"), "runs/b.yaml": run("web-2")})
    assert said.code == 2
    assert said.out.splitlines() == [
        f"runs/{name}.yaml:6: SeveralRuns: runs web-1, web-2 of placement web come in one commit, so none of them "
        "starts (at /spec/placementName); commit one run of a placement at a time"
        for name in ("a", "b")
    ]


def test_runs_that_come_one_by_one_are_fine(fleet: Path, validate):
    servers.git(fleet, "init", "--quiet")
    servers.commit(fleet, {"runs/a.yaml": run("web-1")})
    assert validate({"runs/b.yaml": run("web-2")}).code == 0


# -- approvals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "spec", "words"),
    [
        ("web-9-canary", None, "web-9-canary is no gate of any run: it is named RUN-STAGE, RUN-before-STAGE or has a"),
        ("web-1-nope", None, "web-1-nope is no gate of any run"),
        ("x", {"parentStageRollout": "web-9", "targetStage": "canary"}, "ClusterStagedUpdateRun web-9 does not exist"),
        ("x", {"parentStageRollout": "web-1", "targetStage": "nope"},
         "run web-1 has no stage nope; its stages are: canary, prod"),
    ],
)  # fmt: skip
def test_an_approval_of_nothing_is_named(validate, name, spec, words):
    said = validate({"runs/web-1.yaml": run("web-1"), "approvals/a.json": approval(name, spec=spec)})
    assert said.code == 2
    [line] = said.out.splitlines()
    assert line.startswith("approvals/a.json:")
    assert f": UnknownReference: {words}" in line


def test_the_approval_of_a_run_that_was_removed_is_left_in_peace(fleet: Path, validate):
    servers.git(fleet, "init", "--quiet")
    approvals = {
        "approvals/a.json": approval("web-1-canary"),
        "approvals/b.json": approval("x", spec={"parentStageRollout": "web-1", "targetStage": "canary"}),
    }
    servers.commit(fleet, {"runs/web-1.yaml": run("web-1"), **approvals})
    servers.commit(fleet, {"runs/web-1.yaml": None})
    assert validate({}).code == 0


def test_a_run_that_was_initialized_needs_no_placement_or_strategy_any_more(rings: World, ask: Command):
    """When its placement is removed it is over, and its strategy is pinned; one that is not initialized misses both."""
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    rings.commits("runs/web-2.yaml", run("web-2", strategy="none"))
    rings.removes("placements/web.yaml", "strategies/rings.yaml")
    rings.passes()
    said = ask(rings.remote, "validate").out.splitlines()
    assert [line.split(":")[0] for line in said] == ["runs/web-2.yaml", "runs/web-2.yaml"]
    assert [one for one in rings.problems() if "web-1" in one] == []


# -- approvals that come too early ---------------------------------------------------------------------------------

EARLY = (
    "approvals/a.json:8: ApprovedBeforeRequested: it comes before the gate after stage canary of run web-1 opens, so "
    "it will not count (at /status/conditions); approve once the run asks for it: reconciler approve web-1 canary"
)


def test_an_approval_that_comes_with_its_run_is_warned_of(rings: World, ask: Command, tmp_path, capsys):
    """Before the commit as after it, by the files alone; a run that is approved later is nobody's concern."""
    rings.commits("strategies/rings.yaml", strategy(stage("canary", approval=True), stage("prod")))
    clone = servers.clone_of(rings.remote, tmp_path / "clone")
    for folder, name, text in (("runs", "a.yaml", run("web-1")), ("approvals", "a.json", approval("web-1-canary"))):
        (clone / folder).mkdir()
        (clone / folder / name).write_text(text)
    assert command_line(["validate", str(clone)]) == 0
    assert EARLY in capsys.readouterr().err
    servers.commit(clone, {})
    servers.git(clone, "push", "--quiet", "origin", "main")
    said = ask(rings.remote, "validate", "-o", "json")
    assert said.code == 0
    assert [one["rule"] for one in json.loads(said.out)] == ["ApprovedBeforeRequested"]
    rings.passes()
    assert "ApprovedBeforeRequested" in rings.gate("web-1", "canary").refused
    rings.approves("web-1", "canary", message="now")
    rings.commits("approvals/a.json", None)
    assert "warning" not in ask(rings.remote, "validate").err


def test_an_approval_of_a_gate_that_is_not_open_yet_is_warned_of_where_the_status_is_known(rings: World, ask: Command):
    rings.commits("strategies/rings.yaml", strategy(stage("canary", wait="10m"), stage("prod", approval=True)))
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    rings.approves("web-1", "prod")
    assert "before the gate after stage prod of run web-1 opens" in ask(rings.remote, "validate").err
    rings.passes(minutes=11)
    assert "ApprovedBeforeRequested" in rings.gate("web-1", "prod").refused
    assert "before the gate after stage prod of run web-1 opens" in ask(rings.remote, "validate").err
    rings.approves("web-1", "prod", message="again", words="now it does")
    assert "warning" not in ask(rings.remote, "validate").err
    rings.passes()
    assert rings.conditions("web-1")["Succeeded"].startswith("True")
    assert "warning" not in ask(rings.remote, "validate").err


def test_files_on_disk_are_judged_by_the_status_branch_that_the_clone_holds(rings: World, tmp_path, capsys):
    """Seen: the approval of a gate that was not open yet was called valid, for its run was merged long before."""
    rings.commits("strategies/rings.yaml", strategy(stage("canary", wait="10m"), stage("prod", approval=True)))
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    clone = servers.clone_of(rings.remote, tmp_path / "clone")
    (clone / "approvals").mkdir()
    (clone / "approvals" / "a.json").write_text(approval("web-1-prod"))

    def warned() -> bool:
        assert command_line(["validate", str(clone)]) == 0
        return "before the gate after stage prod of run web-1 opens" in capsys.readouterr().err

    assert not warned(), "nothing is known of the gate"
    servers.git(clone, "fetch", "--quiet", "origin")
    assert warned()
    rings.joins("north", ring="none")
    rings.passes(minutes=11)
    servers.git(clone, "fetch", "--quiet", "origin")
    assert not warned(), "the gate has opened, at a commit that is not checked out"


def test_what_nobody_waits_for_any_more_is_not_warned_of(rings: World, ask: Command):
    rings.commits("strategies/rings.yaml", strategy(stage("canary", approval=True), stage("prod")))
    rings.commits({"runs/web-1.yaml": run("web-1"), "approvals/a.json": approval("web-1-canary")})
    rings.passes()
    rings.commits("runs/web-2.yaml", run("web-2", strategy="rings"))
    rings.passes()
    assert rings.conditions("web-1")["Succeeded"] == "False UpdateRunSuperseded"
    assert "warning" not in ask(rings.remote, "validate").err
