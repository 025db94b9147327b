"""`get` prints the article's tables, and whole objects as an API server would."""

import base64
import json
import os
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler import clock
from reconciler.commands import run
from tests import manifests, servers
from tests.commands.conftest import NAMESPACE, Command
from tests.world import World

PREFIX = "kubernetes-fleet.io/"


def tables() -> list[Any]:
    """Return moment, question and answer of every table in `tables.txt`; ages are `AGE`.

    They are the article's, its hand-made spacing in the second tab set right, then wide ones as KubeFleet prints them.
    """
    text = (Path(__file__).parent / "tables.txt").read_text(encoding="utf-8")
    found = re.findall(r"# (\w+)\n\$ reconciler get (.+)\n((?:.+\n)+)", text)
    return [pytest.param(*one, id=f"{one[0]}: get {one[1]}") for one in found]


@pytest.mark.parametrize(("moment", "asked", "table"), tables())
def test_the_article_s_tables_come_out_as_printed(command, moment, asked, table):
    said = command(moment, "get", *asked.split())
    assert (said.code, said.masked, said.err) == (0, table, "")


def test_wide_snapshots_tell_who_made_them(command, moments):
    first, second = command("done", "get", "crs", "-o", "wide", "--no-headers").masked.splitlines()
    commits = [
        servers.git(moments["done"], "log", "--format=%h", "--abbrev=7", "--grep", subject, "main")
        for subject in ("Lay out the fleet", "Change the value")
    ]
    assert first.endswith(f"AGE   {commits[0]}   Ada <ada@example.org>   Lay out the fleet")
    assert second.endswith(f"AGE   {commits[1]}   Ada <ada@example.org>   Change the value")


@pytest.mark.parametrize(
    ("asked", "rows"),
    [
        ("csus", ["example-strategy   AGE"]),
        (f"sus -n {NAMESPACE}", ["app-rollout-strategy   AGE"]),
        ("csps", ["example-placement-0   1     AGE"]),
        (f"sps -n {NAMESPACE}", ["web-app-placement-0   1     AGE"]),
        ("clusters", [f"member{number}   <none>   AGE" for number in (1, 2, 3)]),
        ("rp -A", ["my-app-namespace   web-app-placement   1     True   1     True   1     AGE"]),
    ],
)
def test_every_kind_has_a_table(command, asked, rows):
    said = command("done", "get", *asked.split(), "--no-headers")
    assert said.masked.splitlines()[: len(rows)] == rows


def test_labels_select(command):
    said = command("done", "get", "clusters", "-l", "environment in (canary),order!=1", "-o", "name")
    assert said.out == "membercluster.cluster.kubernetes-fleet.io/member1\n"
    said = command("done", "get", "crs", "-l", f"{PREFIX}is-latest-snapshot=true", "-o", "name")
    assert said.out == "clusterresourcesnapshot.placement.kubernetes-fleet.io/example-placement-1-snapshot\n"


# -- what is not there ------------------------------------------------------------------------------------------


def test_an_unknown_noun_is_a_usage_error(command):
    said = command("done", "get", "pods")
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("reconciler: there is no pods to ask for; there are: memberclusters (cluster), ")


def test_a_name_that_is_not_there_is_said_as_an_api_server_does_and_the_others_are_shown(command):
    said = command("done", "get", "csur", "nope", "example-run", "--no-headers")
    assert said.code == 1
    assert said.out.startswith("example-run   example-placement   1")
    assert said.err == (
        'Error from server (NotFound): clusterstagedupdateruns.placement.kubernetes-fleet.io "nope" not found\n'
    )


# -- several kinds ----------------------------------------------------------------------------------------------

RUN, PLACEMENT = "clusterstagedupdaterun.placement.kubernetes-fleet.io", "clusterresourceplacement"


@pytest.mark.parametrize("asked", ["csur,crp", "csur/example-run crp/example-placement"])
def test_several_kinds_are_a_table_each_with_the_kind_before_the_name(command, asked):
    """As kubectl prints `get deployments,services`."""
    lines = command("done", "get", *asked.split()).out.splitlines()
    assert [line.split()[0] if line else "" for line in lines] == [
        "NAME",
        f"{RUN}/example-run",
        "",
        "NAME",
        f"{PLACEMENT}.placement.kubernetes-fleet.io/example-placement",
    ]
    assert lines[0].index("PLACEMENT") == lines[1].index("example-placement")


def test_several_kinds_are_one_list(command):
    body = json.loads(command("done", "get", "csur,crp", "-o", "json").out)
    assert [one["kind"] for one in body["items"]] == ["ClusterStagedUpdateRun", "ClusterResourcePlacement"]
    assert command("done", "get", "csur/example-run", "crp/nope", "-o", "json").code == 1


def test_a_kind_of_which_there_is_nothing_has_no_table(command):
    said = command("done", "get", "clusterresourceoverrides,csur", "--no-headers")
    assert (said.code, said.err) == (0, "")
    assert [line.split()[0] for line in said.out.splitlines()] == [f"{RUN}/example-run"]
    said = command("done", "get", "clusterresourceoverrides,resourceoverrides")
    assert (said.code, said.out, said.err) == (0, "", "No resources found\n")


@pytest.mark.parametrize("output", ["", "-o name", "-o json"])
def test_one_object_may_be_asked_for_as_noun_and_name_in_one(command, output):
    one = command("done", "get", "csur/example-run", *output.split())
    assert one.code == 0
    assert one.masked == command("done", "get", "csur", "example-run", *output.split()).masked


# -- elsewhere --------------------------------------------------------------------------------------------------

HINT = f"hint: there is sur web-app-rollout-v1-21 in namespace {NAMESPACE}: -n {NAMESPACE}"


@pytest.mark.parametrize("asked", ["get sur", "get csur", "describe sur", "describe csur", "tree", "wait", "replay"])
def test_what_is_in_another_namespace_is_hinted_at(command, asked):
    said = command("done", *asked.split(), "web-app-rollout-v1-21")
    assert (said.code, said.out) == (1, "")
    assert said.err.splitlines()[1:] == [HINT]


@pytest.mark.parametrize("asked", ["get sur", "describe sur", "tree", "wait", "replay"])
def test_what_is_in_no_namespace_is_hinted_at(command, asked):
    said = command("done", *asked.split(), "example-run", "-n", "vault")
    assert (said.code, said.out) == (1, "")
    assert said.err.splitlines()[1:] == ["hint: there is csur example-run in no namespace: leave -n out"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("sur", "No resources found in default namespace.\n"),
        ("sur -n vault", "No resources found in vault namespace.\n"),
        ("resourceoverrides -A", "No resources found\n"),
        ("csur -l a=b", "No resources found\n"),
        ("csur -l a=b -o name", "No resources found\n"),
    ],
)
def test_nothing_found_is_no_failure(command, asked, words):
    said = command("done", "get", *asked.split())
    assert (said.code, said.out, said.err) == (0, "", words)


@pytest.mark.parametrize(
    "wrong",
    [
        "csur -o xml",
        "csur example-run -A",
        "csur example-run -l a=b",
        "csur -l a=b=c",
        "csur/",
        "/example-run",
        "csur/example-run crp",
        "csur crp/example-placement",
        "csur,crp -w",
        "csur,",
        "problems csur",
        "problems -w",
        "problems -o name",
    ],
)
def test_a_question_that_makes_no_sense_is_a_usage_error(command, wrong):
    said = command("done", "get", *wrong.split())
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("reconciler: ")


def test_a_run_whose_file_is_gone_is_shown_with_all_only_and_marked(command, moments):
    cleaned = servers.git(moments["removed"], "log", "--format=%h", "--abbrev=7", "--grep", "Clean up", "main")
    said = command("removed", "get", "csur")
    assert said.out == ""
    assert said.err == "No resources found\nwarning: 3 problems in the repository: reconciler get problems\n"
    gone = command("removed", "get", "csur", "example-run")
    assert gone.code == 1
    assert gone.err.splitlines()[1] == "hint: csur example-run was removed from the branch: --all shows it"
    there = command("removed", "get", "crp", "example-placement", "--all", "--no-headers").masked.split()
    assert there[-1] == "<none>"
    runs = [line.split() for line in command("removed", "get", "csur", "--all", "--no-headers").masked.splitlines()]
    assert runs == [
        ["example-run", "example-placement", "1", "0", "True", "True", "AGE", cleaned],
        ["example-run-2", "example-placement", "0", "0", "True", "False", "AGE", cleaned],
    ]
    body = json.loads(command("removed", "get", "csur", "example-run", "--all", "-o", "json").out)
    time = servers.git(moments["removed"], "show", "-s", "--format=%ct", cleaned)
    assert datetime.fromisoformat(body["metadata"]["deletionTimestamp"]).timestamp() == int(time)
    described = command("removed", "describe", "csur", "example-run", "--all").out
    assert f"Removed By:   {cleaned} Ada <ada@example.org>: Clean up\n" in described


def test_a_placement_that_was_removed_and_what_it_had_are_marked(rings: World, ask):
    rings.passes()
    commit = rings.removes("placements/web.yaml")
    rings.passes()
    assert ask(rings.remote, "get", "crp").err == "No resources found\n"
    for noun in ("crp", "crs", "csps"):
        [row] = ask(rings.remote, "get", noun, "--all", "--no-headers").out.splitlines()
        assert row.split()[-1] == commit[:7]


def test_problems_are_listed_by_file_and_line(command):
    said = command("removed", "get", "problems")
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines()[0].split() == ["FILE", "RULE", "MESSAGE"]
    assert [line.split()[0] for line in said.out.splitlines()[1:]] == [
        "clusters/member4.yaml:1",
        "clusters/member4.yaml:1",
        "runs/broken.yaml:2",
    ]
    listed = json.loads(command("removed", "get", "problems", "-o", "json").out)
    assert [one["path"] for one in listed["problems"]] == ["clusters/member4.yaml"] * 2 + ["runs/broken.yaml"]


def test_without_problems_there_is_nothing_to_list(command):
    said = command("done", "get", "problems")
    assert (said.code, said.out, said.err) == (0, "", "No problems found\n")


def test_without_a_status_branch_the_repository_still_speaks(command):
    said = command("uninitialized", "get", "crp")
    assert said.err == "no status branch yet: reconciler init\n"
    assert said.masked.splitlines()[1] == (
        "example-placement   1                                                             AGE"
    )
    said = command("uninitialized", "get", "crs", "-o", "name")
    assert said.out == "clusterresourcesnapshot.placement.kubernetes-fleet.io/example-placement-0-snapshot\n"


# -- whole objects ----------------------------------------------------------------------------------------------


def test_a_snapshot_is_the_article_s(command):
    said = command("done", "get", "clusterresourcesnapshots", "example-placement-1-snapshot", "-o", "yaml")
    found, wanted = yaml.safe_load(said.out), yaml.safe_load(manifests.article("example-placement-1-snapshot"))
    for key in ("annotations", "labels"):
        held = found["metadata"][key]
        assert {name: held[name] for name in wanted["metadata"][key]} == wanted["metadata"][key]
    assert found["spec"] == wanted["spec"]
    assert {key: found[key] for key in ("apiVersion", "kind")} == {key: wanted[key] for key in ("apiVersion", "kind")}
    assert sorted(found["metadata"]) == sorted(wanted["metadata"])
    owner, article_owner = found["metadata"]["ownerReferences"][0], wanted["metadata"]["ownerReferences"][0]
    assert owner | {"uid": ""} == article_owner | {"uid": ""}


def test_a_run_shows_its_status_in_the_article_s_words(command):
    body = yaml.safe_load(command("waiting", "get", "csur", "example-run", "-o", "yaml").out)
    assert sorted(body["metadata"]) == ["creationTimestamp", "generation", "name", "resourceVersion", "uid"]
    assert body["spec"] == yaml.safe_load(manifests.article("clusterstagedupdaterun-example-run"))["spec"]
    status = body["status"]
    assert [(one["type"], one["status"], one["reason"]) for one in status["conditions"]] == [
        ("Initialized", "True", "UpdateRunInitializedSuccessfully"),
        ("Progressing", "False", "UpdateRunWaiting"),
    ]
    staging, canary = status["stagesStatus"]
    assert [one["clusterName"] for one in canary["clusters"]] == ["member3", "member1"]
    assert canary["afterStageTaskStatus"][0]["approvalRequestName"] == "example-run-canary"
    assert staging["afterStageTaskStatus"][0]["conditions"][0]["reason"] == "AfterStageTaskWaitTimeElapsed"
    assert status["policySnapshotIndexUsed"] == "0"


def test_several_objects_are_a_list_as_kubectl_prints_it(command):
    body = json.loads(command("again", "get", "csur", "-o", "json").out)
    assert (body["apiVersion"], body["kind"], body["metadata"]) == ("v1", "List", {"resourceVersion": ""})
    assert [one["metadata"]["name"] for one in body["items"]] == ["example-run", "example-run-2"]
    assert json.loads(command("done", "get", "csur", "-l", "no=such", "-o", "json").out)["items"] == []


def test_identities_are_those_of_the_history(command, moments):
    body = json.loads(command("done", "get", "csur", "example-run", "-o", "json").out)
    commit = servers.git(moments["done"], "log", "--format=%H", "--grep", "Roll out", "main")
    assert body["metadata"]["resourceVersion"] == commit
    assert body["metadata"]["generation"] == 1
    again = json.loads(command("again", "get", "csur", "example-run", "-o", "json").out)
    assert again["metadata"] == body["metadata"]


def test_a_refused_approval_says_why(command):
    body = json.loads(command("again", "get", "careq", "example-run-2-canary", "-o", "json").out)
    approved, accepted = body["status"]["conditions"]
    assert (approved["type"], approved["status"], approved["message"]) == ("Approved", "True", "lgtm")
    assert (accepted["type"], accepted["status"]) == ("ApprovalAccepted", "False")
    assert accepted["message"].startswith("ApprovedBeforeRequested: ")


@pytest.mark.parametrize("output", ["yaml", "json"])
def test_values_of_secrets_are_never_printed(command, output):
    said = command("done", "get", "rs", "secrets-0-snapshot", "-n", "vault", "-o", output)
    [secret] = yaml.safe_load(said.out)["spec"]["selectedResources"]
    assert secret["kind"] == "Secret"
    assert secret["data"] == {"word": "(redacted)"}
    described = command("done", "describe", "rs", "secrets-0-snapshot", "-n", "vault").out
    assert "word:  (redacted)" in described
    for value in ("hunter2", base64.b64encode(b"hunter2").decode()):
        assert value not in said.out + said.err + described


# -- watching ---------------------------------------------------------------------------------------------------


def test_a_watch_shows_a_row_again_when_it_changes(moments, tmp_path, monkeypatch, capsys):
    """The repository moves on while the command sleeps: from waiting to done, then Ctrl-C."""
    remote = servers.bare_repository(tmp_path / "fleet.git")

    def becomes(moment: str) -> None:
        servers.git(remote, "fetch", "--quiet", str(moments[moment]), "+refs/heads/*:refs/heads/*")

    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            becomes("done")
        if len(slept) == 4:
            raise KeyboardInterrupt

    becomes("waiting")
    monkeypatch.setattr(clock, "sleep", sleep)
    assert run(["get", "csur", "-w", "-C", str(remote)]) == 130
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.startswith("NAME          PLACEMENT")
    assert first[: header.index("AGE")].split() == ["example-run", "example-placement", "1", "0", "True"]
    assert second[: header.index("AGE")].split() == ["example-run", "example-placement", "1", "0", "True", "True"]
    assert slept == [2.0] * 4


def test_the_installed_way_of_starting_gives_the_same(moments, command):
    """Once as a process of its own: stdout, stderr and exit code are where a shell expects them."""
    done = subprocess.run(
        [sys.executable, "-m", "reconciler", "get", "csus", "-o", "name", "-C", str(moments["done"])],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    wanted = "clusterstagedupdatestrategy.placement.kubernetes-fleet.io/example-strategy\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, wanted, "")


def test_a_cluster_is_a_member_of_the_fleet_by_its_file(command):
    said = command("done", "get", "cluster", "member1", "-o", "json")
    (joined,) = json.loads(said.out)["status"]["conditions"]
    assert (joined["type"], joined["status"], joined["reason"]) == ("Joined", "True", "MemberClusterJoined")


def test_an_approval_that_no_gate_asked_for_tells_which_one_it_means(asking: World, ask: Command):
    """By its name or its spec; what a removed run left is as little shown as its requests, and no problem either."""
    asking.commits("approvals/early.json", manifests.approval("web-1-before-prod", words="early"))
    asking.commits("approvals/stray.json", manifests.approval("nobodys"))

    def rows(*words: str) -> list[list[str]]:
        return [line.split()[:3] for line in ask(asking.remote, "get", "careq", *words).out.splitlines()[1:]]

    own = [["web-1-before-prod", "web-1", "prod"], ["web-1-canary", "web-1", "canary"]]
    assert rows() == [["nobodys", "True", *rows()[0][2:]], *own]
    asking.removes("runs/web-1.yaml", "approvals/stray.json")
    asking.passes()
    assert rows() == []
    assert rows("--all") == own
    assert ask(asking.remote, "validate").out == ""


def test_a_cluster_that_left_is_shown_with_all(rings, olga):
    rings.leaves("west")
    assert "west" not in olga("get", "clusters").out
    row = next(line for line in olga("get", "clusters", "--all").out.splitlines() if line.startswith("west"))
    assert row.split()[-1] == rings.head()[:7]
    said = olga("describe", "cluster", "west")
    assert (said.code, said.err.splitlines()[-1]) == (
        1, "hint: cluster west was removed from the branch: --all shows it",
    )  # fmt: skip
    assert "Removed By" in olga("describe", "cluster", "west", "--all").out
