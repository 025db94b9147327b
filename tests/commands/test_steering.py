"""`run start` and `run stop` commit one field of the olga's own file, or say why they do not."""

import json

import pytest

from tests import manifests, servers


def shown(world, path, branch="main"):
    return servers.git(world.remote, "show", f"{branch}:{path}")


COMMENTED = "# ticket 7\n" + manifests.run("r1", state="Run").replace("state: Run", "state: Run  # go on") + "# end\n"


@pytest.fixture
def moving(rings):
    """A run in its first stage, in a file with comments and with another object behind it."""
    rings.breaks("canary")
    rings.commits("runs/all.yaml", COMMENTED)
    rings.passes()
    return rings


def test_a_stop_changes_one_line_and_the_run_stops(moving, olga):
    said = olga("run", "stop", "r1", "-m", "the shop is slow")
    assert (said.code, said.err) == (0, "")
    short = moving.head()[:7]
    assert said.out == f"committed {short} to main: runs/all.yaml\nnext, in your clone: git pull --rebase\n"
    assert shown(moving, "runs/all.yaml") + "\n" == COMMENTED.replace("state: Run  #", "state: Stop  #")
    assert servers.git(moving.remote, "log", "-1", "--format=%an|%B", "main") == "Olga|Stop run r1\n\nthe shop is slow"
    moving.passes()
    moving.heals("canary")
    moving.passes()
    assert moving.conditions("r1")["Progressing"] == "False UpdateRunStopped"
    assert olga("run", "start", "r1").code == 0
    moving.passes()
    assert moving.conditions("r1")["Succeeded"] == "True UpdateRunSucceeded"


def test_an_initialized_run_is_started(rings, olga):
    rings.commits("runs/r1.json", json.dumps(json.loads(_json("Initialize")), indent=2))
    rings.passes()
    assert rings.running() == set()
    assert olga("run", "start", "r1").code == 0
    assert json.loads(shown(rings, "runs/r1.json"))["spec"]["state"] == "Run"
    rings.passes()
    assert rings.conditions("r1")["Succeeded"] == "True UpdateRunSucceeded"


def _json(state):
    spec = {"placementName": "web", "stagedRolloutStrategyName": "rings", "state": state}
    head = {"apiVersion": "placement.kubernetes-fleet.io/v1beta1", "kind": "ClusterStagedUpdateRun"}
    return json.dumps(head | {"metadata": {"name": "r1"}, "spec": spec})


@pytest.mark.parametrize(("word", "state", "line"), [("start", None, 8), ("start", "Run", 8), ("stop", "Stop", 8)])
def test_what_is_so_already_is_not_committed(rings, olga, word, state, line):
    rings.commits("runs/r1.yaml", manifests.run("r1", state=state))
    head = rings.head()
    said = olga("run", word, "r1")
    where = f"runs/r1.yaml:{line if state else 5}"
    wanted = state or "Run"
    assert (said.code, said.out) == (0, f"spec.state of run r1 is {wanted} already ({where}): nothing to commit\n")
    assert rings.head() == head


def test_a_transition_that_is_not_allowed_is_refused_with_file_and_line(rings, olga):
    rings.commits("runs/r1.yaml", manifests.run("r1", state="Initialize"))
    head = rings.head()
    said = olga("run", "stop", "r1")
    assert (said.code, said.out) == (4, "")
    assert said.err.startswith(
        "reconciler: runs/r1.yaml:8: InvalidTransition: invalid state transition: "
        "cannot transition from Initialize to Stop"
    )
    assert rings.head() == head


def test_a_run_that_is_over_or_gone_or_broken_is_refused(moving, olga):
    moving.heals("canary")
    moving.passes()
    said = olga("run", "stop", "r1")
    assert (said.code, said.err) == (
        4,
        "reconciler: runs/all.yaml:9: run r1 is over (Succeeded): its state changes nothing any more\n",
    )
    moving.commits("runs/all.yaml", COMMENTED + "---\nkind: [\n")
    said = olga("run", "stop", "r1")
    assert said.code == 4
    assert said.err.startswith("reconciler: the file of run r1 is broken, correct it first: runs/all.yaml:")
    moving.removes("runs/all.yaml")
    said = olga("run", "stop", "r1")
    gone = "its file was removed, and a run without one starts nothing"
    assert (said.code, said.err) == (4, f"reconciler: there is no run r1 on the watched branch; {gone}\n")
    said = olga("run", "start", "none", "-n", "app")
    assert said.err == "reconciler: there is no run none in namespace app on the watched branch\n"


def test_a_run_is_named_as_elsewhere_and_looked_for_elsewhere(rings, olga):
    """NOUN/NAME means one kind; where there is one of that name in another namespace, the flag that helps is told."""
    text = manifests.run("r1", namespace="app", placement="own", state="Stop")
    rings.commits({"runs/a.yaml": text, "runs/r2.yaml": manifests.run("r2", state="Stop")})
    assert olga("run", "start", "sur/r1", "-n", "app", "--dry-run").out.startswith("# runs/a.yaml\n")
    assert olga("run", "start", "csur/r2", "--dry-run").out.startswith("# runs/r2.yaml\n")
    there = "there is sur r1 in namespace app: -n app"
    said = olga("run", "start", "r1")
    assert (said.code, said.err) == (4, f"reconciler: there is no run r1 on the watched branch; {there}\n")
    said = olga("run", "stop", "r2", "-n", "app")
    assert said.err.endswith("on the watched branch; there is csur r2 in no namespace: leave -n out\n")
    assert olga("rollback", "csur/r1").err == f"reconciler: the daemon has not seen a run r1; {there}\n"
    said = olga("run", "stop", "crp/web")
    assert (said.code, said.err) == (2, "reconciler: crp/web is no run: write NAME, csur/NAME or sur/NAME\n")


def test_a_file_that_cannot_be_edited_safely_is_left_to_a_person(rings, olga):
    text = manifests.run("r1", state="Stop").replace("state: Stop", "state: >-\n    Stop")
    rings.commits("runs/r1.yaml", text)
    said = olga("run", "start", "r1")
    assert (said.code, said.err) == (
        4,
        "reconciler: runs/r1.yaml:8: spec.state cannot be set without touching more: set it to Run by hand\n",
    )


def test_the_newest_text_of_the_file_is_edited(rings, olga):
    """A commit that changes a comment only makes no new version of the object, and is not undone."""
    rings.commits("runs/r1.yaml", manifests.run("r1", state="Stop"))
    rings.commits("runs/r1.yaml", "# later\n" + manifests.run("r1", state="Stop"))
    assert olga("run", "start", "r1").code == 0
    assert shown(rings, "runs/r1.yaml") == "# later\n" + manifests.run("r1", state="Run").rstrip()


def test_a_dry_run_prints_the_file_and_a_branch_is_for_a_pull_request(moving, olga):
    head = moving.head()
    said = olga("run", "stop", "r1", "--dry-run")
    assert (said.code, said.out) == (0, "# runs/all.yaml\n" + COMMENTED.replace("state: Run  #", "state: Stop  #"))
    said = olga("run", "stop", "r1", "--to-branch", "slow")
    assert said.out.endswith("next: open a pull request from slow to main\n")
    assert moving.head() == head
    assert "state: Stop  # go on" in shown(moving, "runs/all.yaml", "slow")
