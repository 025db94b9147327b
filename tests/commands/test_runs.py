"""`tree`, `describe` and `wait` tell how far a run is, what it waits for, and who can help."""

import json
import re

import pytest

from reconciler import clock
from tests import manifests
from tests.commands.conftest import NAMESPACE


def ageless(text: str) -> str:
    """Return a text with its ages and commit ids masked."""
    text = re.sub(r"\b(?:\d+s|\d+m\d+s|\d+m)\b(?! elapsed| of)", "AGE", text)
    return re.sub(r"\b[0-9a-f]{7}\b", "COMMIT", text)


TREE = """\
example-run  ClusterStagedUpdateRun  ◎ Waiting: Approval  snapshot 1 (COMMIT)  strategy example-strategy@COMMIT
├── staging                ✔ Succeeded  1/1  AGE
│   ├── member2            ✔ Succeeded  AGE
│   └── after TimedWait    ✔ 1m0s elapsed
└── canary                 ◎ Waiting    2/2  AGE
    ├── member3 (order=1)  ✔ Succeeded  AGE
    ├── member1 (order=2)  ✔ Succeeded  AGE
    └── after Approval     ◎ waits for example-run-canary, AGE
          next: reconciler approve example-run canary
"""


def test_the_tree_shows_stages_clusters_in_order_gates_and_the_next_command(command):
    said = command("waiting", "tree", "example-run")
    assert (said.code, said.err) == (0, "")
    assert ageless(said.out) == TREE


def test_the_tree_of_a_namespaced_run_names_its_namespace_in_the_command(command):
    said = command("waiting", "tree", "web-app-rollout-v1-21", "-n", NAMESPACE)
    assert said.out.splitlines()[-1].strip() == (
        f"next: reconciler approve web-app-rollout-v1-21 canary -n {NAMESPACE}"
    )


def test_the_tree_of_a_soaking_run_says_how_long(command):
    lines = command("soaking", "tree", "example-run").out.splitlines()
    assert ageless(lines[1]) == "├── staging                ◎ Waiting    1/1  AGE"
    assert re.fullmatch(r"│   └── after TimedWait    ◎ \S+ of 1m0s", lines[3])
    assert lines[4:] == [
        "└── canary                 ○ Pending    0/2",
        "    ├── member3 (order=1)  ○ Pending",
        "    ├── member1 (order=2)  ○ Pending",
        "    └── after Approval     ○ not asked for yet",
    ]


def test_the_tree_of_a_run_that_the_daemon_has_not_seen(command):
    assert command("merged", "tree", "example-run").out == (
        "example-run  ClusterStagedUpdateRun  ○ Pending\n"
        "  the daemon has not recorded the run yet: is `reconciler serve` running?\n"
    )


def test_the_tree_of_a_withdrawn_run_says_why_it_ended(command):
    lines = ageless(command("removed", "tree", "example-run-2").out).splitlines()
    assert lines[0].startswith("example-run-2  ClusterStagedUpdateRun  ✗ Withdrawn")
    assert lines[1] == "  the run was removed by commit COMMIT"
    assert "    └── after Approval     ○ not passed" in lines


def test_the_tree_tells_what_was_skipped_from_what_was_done(rings, olga):
    """Seen: a cluster that had left counted as updated, and the approval of an empty stage was `not passed`."""
    empty = manifests.stage("staging", wait="1h", approval=True)
    stages = (manifests.stage("canary"), empty, manifests.stage("prod", maxConcurrency=2))
    rings.commits("strategies/rings.yaml", manifests.strategy(*stages))
    rings.breaks("east", "west")
    rings.commits("runs/web-1.yaml", manifests.run("web-1"))
    rings.passes()
    rings.leaves("east")
    rings.passes()
    rings.heals("west")
    rings.passes()
    lines = ageless(olga("tree", "web-1").out).splitlines()[1:]
    assert [re.sub(" +", " ", line.lstrip("├└│─ ")) for line in lines] == [
        "canary ✔ Succeeded 1/1 AGE",
        "canary ✔ Succeeded AGE",
        "staging ✔ Skipped 0/0 AGE",
        "after TimedWait ○ Skipped: the stage has no clusters",
        "after Approval ○ Skipped: the stage has no clusters",
        "prod ✔ Succeeded 1/2 1 skipped AGE",
        "east ○ Skipped: ClusterDeparted AGE",
        "west ✔ Succeeded AGE",
    ]


def test_a_run_that_is_nowhere_is_not_found(command):
    for asked in ("tree nope", "wait nope", "describe csur nope", "replay nope"):
        said = command("done", *asked.split())
        assert (said.code, said.out) == (1, "")
        assert said.err == (
            'Error from server (NotFound): clusterstagedupdateruns.placement.kubernetes-fleet.io "nope" not found\n'
        )


@pytest.mark.parametrize("asked", ["tree", "replay"])
def test_a_run_may_be_named_with_its_noun(command, asked):
    assert command("done", asked, "csur/example-run").out == command("done", asked, "example-run").out != ""
    namespaced = command("done", asked, "sur/web-app-rollout-v1-21", "-n", NAMESPACE).out
    assert namespaced == command("done", asked, "web-app-rollout-v1-21", "-n", NAMESPACE).out != ""
    for wrong in ("crp/example-placement", "csur/", "nope/x"):
        assert command("done", asked, wrong).code == 2


def test_a_run_that_has_a_namesake_is_named_with_its_uid(rings, olga):
    """The older one has left the status tree; what is said of it, and the commands for it, are of it."""
    for value in ("value1", "value2", "value3"):
        rings.commits("resources/app/settings.yaml", manifests.config_map(value))
        rings.commits("runs/web-1.yaml", manifests.run("web-1"))
        rings.passes()
        rings.removes("runs/web-1.yaml")
        rings.passes()
    rings.commits("runs/web-1.yaml", manifests.run("web-1"))
    rings.passes()
    uids = [run.uid[:8] for run in rings.runs()]
    for number, uid in enumerate(uids):
        head = olga("tree", f"web-1@{uid}").out.splitlines()[0]
        assert head.startswith(f"web-1@{uid}  ClusterStagedUpdateRun")
        assert f"  snapshot {min(number, 2)} (" in head
    assert olga("why", f"csur/web-1@{uids[3]}").out == olga("why", "web-1").out
    said = olga("why", f"web-1@{uids[1]}").out
    assert "Its file was removed by commit" in said
    assert f"next: reconciler rollback web-1@{uids[1]}\n" in said
    assert 'resourceSnapshotIndex: "0"' in olga("rollback", f"web-1@{uids[1]}", "--dry-run").out
    for words in (("tree",), ("why",), ("get", "csur"), ("describe", "csur")):
        assert olga(*words, "web-1@00000000").code == 1
    listed = olga("get", "csur", "web-1", f"web-1@{uids[1]}", f"web-1@{uids[0]}", "-o", "json").out
    found = [one["metadata"]["uid"][:8] for one in json.loads(listed)["items"]]
    assert found == [uids[3], uids[1], uids[0]]
    one = olga("get", f"csur/web-1@{uids[1]}", "-o", "json")
    assert (one.code, json.loads(one.out)["metadata"]["uid"][:8]) == (0, uids[1])
    for uid in uids:
        described = olga("describe", "csur", f"web-1@{uid}").out
        assert re.findall(r"UID: +(\w{8})-", described) == [uid]
        assert ("Removed By:" in described) == (uid != uids[3])


# -- watching the tree --------------------------------------------------------------------------------------------


def test_a_watched_run_that_is_over_tells_its_events_and_succeeds(command):
    said = command("done", "tree", "example-run", "-w")
    assert said.code == 0
    kinds = [line.split()[2] for line in said.out.splitlines()]
    assert kinds[:3] == ["RunSeen", "RunInitialized", "RunStarted"]
    assert kinds[-3:] == ["GatePassed", "StageCompleted", "RunCompleted"]
    assert "ClusterStarted  stage=canary cluster=member3" in said.out
    assert 'approval.author="Ada <ada@example.org>"' in said.out


def test_a_watched_run_that_ended_otherwise_fails(command):
    assert command("removed", "tree", "example-run-2", "-w").code == 1


def test_watching_ends_at_the_timeout(command, monkeypatch):
    moments = iter([0.0, 0.5, 1.5, 3.5])
    monkeypatch.setattr(clock, "monotonic", lambda: next(moments))
    monkeypatch.setattr(clock, "sleep", lambda seconds: None)
    said = command("waiting", "tree", "example-run", "-w", "--timeout", "3s")
    assert said.code == 3
    assert said.out.splitlines()[-1].split()[2:4] == ["GateOpened", "stage=canary"]


# -- waiting ------------------------------------------------------------------------------------------------------

RUN = "clusterstagedupdaterun.placement.kubernetes-fleet.io/example-run"


@pytest.mark.parametrize(
    "asked",
    [
        "example-run",
        "csur example-run",
        "csur/example-run",
        "example-run --for condition=Succeeded=True",
        "example-run --for succeeded",
        "example-run --for=initialized",
        "example-run --for condition=progressing=false",
    ],
)
def test_what_holds_already_is_not_waited_for(command, asked):
    said = command("done", "wait", *asked.split())
    assert (said.code, said.out, said.err) == (0, f"{RUN} condition met\n", "")


def test_other_objects_can_be_waited_for(command):
    assert command("done", "wait", "crp/example-placement", "--for", "condition=Available").code == 0
    assert command("done", "wait", "careq/example-run-canary", "--for", "condition=ApprovalAccepted").code == 0
    said = command("waiting", "wait", "careq/example-run-canary", "--for", "condition=Approved", "--timeout", "0")
    assert said.code == 3


def test_a_timeout_says_what_is_still_waited_for_and_what_helps(command):
    said = command("waiting", "wait", "example-run", "--timeout", "0")
    assert (said.code, said.out) == (3, "")
    assert said.err == (
        f"error: timed out waiting for condition=Succeeded on {RUN}\n"
        "still waiting: stage canary waits for Approval example-run-canary\n"
        "  next: reconciler approve example-run canary\n"
    )


@pytest.mark.parametrize(
    ("moment", "words"),
    [
        ("merged", "the daemon has not recorded the run yet: is `reconciler serve` running?"),
        ("soaking", "stage staging waits 1m0s after its last cluster"),
    ],
)
def test_a_timeout_says_what_else_is_waited_for(command, moment, words):
    said = command(moment, "wait", "example-run", "--timeout", "0s")
    assert said.code == 3
    assert said.err.splitlines()[1] == f"still waiting: {words}"


def test_an_approval_request_can_be_waited_for(command):
    said = command("waiting", "wait", "example-run", "--for", "approval")
    assert (said.code, said.err) == (0, "")
    assert said.out == f"{RUN} waits for approval of stage canary: reconciler approve example-run canary\n"
    assert command("soaking", "wait", "example-run", "--for", "approval", "--timeout", "0").code == 3
    assert command("done", "wait", "example-run", "--for", "approval").code == 1


def test_a_run_that_ended_otherwise_is_waited_for_no_longer(command):
    said = command("removed", "wait", "example-run-2")
    assert (said.code, said.out) == (1, "")
    assert ageless(said.err) == f"error: {RUN}-2 ended: the run was removed by commit COMMIT\n"


@pytest.mark.parametrize(
    "wrong",
    [
        "example-run --timeout soon",
        "example-run --timeout 5x",
        "example-run --for delete=now",
        "example-run --for condition=",
        "example-run --for foo",
        "example-run --for condition=available",
        "example-run --for condition=succeeded=maybe",
        "crp/example-placement --for succeeded",
        "cluster/member1 --for condition=joined",
        "crp/example-placement --for approval",
        "csur/example-run more",
        "csur/",
        "pods/x",
    ],
)
def test_a_wait_that_makes_no_sense_is_a_usage_error(command, wrong):
    said = command("done", "wait", *wrong.split())
    assert (said.code, said.out) == (2, "")


# -- descriptions --------------------------------------------------------------------------------------------------


def test_a_run_is_described_from_head_to_events(command):
    lines = ageless(command("waiting", "describe", "csur", "example-run").out).splitlines()
    for line in (
        "Name:         example-run",
        "Kind:         ClusterStagedUpdateRun",
        "File:         runs/example-run.yaml:1",
        "  Placement Name:                example-placement",
        "  State:            Waiting: Approval",
        "  Waits For:        stage canary waits for Approval example-run-canary",
        "  Next:             reconciler approve example-run canary",
        "  Name:              canary",
        "Conditions:",
        "Events:",
    ):
        assert line in lines
    sections = [line for line in lines if line and not line.startswith(" ") and line.endswith(":")]
    assert sections == ["Spec:", "Status:", "Stage 1:", "Stage 2:", "Conditions:", "Events:"]
    assert lines[lines.index("Events:") + 1].split() == ["Type", "Reason", "Age", "Message"]
    first = r"  Normal +RunSeen +AGE +Commit COMMIT holds the run, generation 1"
    assert re.fullmatch(first, lines[lines.index("Events:") + 3])
    last = r"  Normal +GateOpened +AGE +The gate after stage canary waits for Approval example-run-canary"
    assert re.fullmatch(last, lines[-1])


def test_a_placement_is_described_with_its_snapshots_and_who_runs_which(command):
    text = ageless(command("again", "describe", "crp/example-placement").out)
    rows = [line.split() for line in text.splitlines()]
    assert ["0", "COMMIT", "COMMIT", "Ada", "<ada@example.org>", "Lay", "out", "the", "fleet", "AGE",
            "member1,member2,member3"] in rows  # fmt: skip
    assert ["1", "COMMIT", "COMMIT", "Ada", "<ada@example.org>", "Change", "the", "value", "AGE", "<none>"] in rows
    assert ["member2", "0", "example-run-2", "AGE", "Available"] in rows


def test_a_cluster_is_described_with_what_runs_there(command):
    rows = [line.split() for line in ageless(command("done", "describe", "cluster", "member1").out).splitlines()]
    assert ["Labels:", "environment=canary"] in rows
    assert ["example-placement", "1", "example-run", "AGE", "Yes", "Yes"] in rows
    assert [f"{NAMESPACE}/web-app-placement", "1", "web-app-rollout-v1-21", "AGE", "Yes", "Yes"] in rows


def test_an_approval_request_is_described_with_its_conditions(command):
    text = command("again", "describe", "careq", "example-run-2-canary").out
    assert re.search(r"ApprovalAccepted +False +ApprovalRefused .*ApprovedBeforeRequested: ", text)


def test_a_description_needs_one_name(command):
    assert command("done", "describe", "csur").code == 2
    assert command("done", "describe", "csur/a", "b").code == 2


def test_an_object_without_a_status_branch_is_described_from_the_repository(command):
    said = command("uninitialized", "describe", "crp", "example-placement")
    assert (said.code, said.err) == (0, "no status branch yet: reconciler init\n")
    assert "Events:" not in said.out
