"""Which approvals count, and what is said of those that do not."""

import pytest

from reconciler.core.status import When
from tests import manifests
from tests.manifests import run, stage, strategy
from tests.world import World


@pytest.fixture
def asking(rings: World) -> World:
    """A run that waits for the approval of its canary."""
    rings.commits("strategies/rings.yaml", strategy(stage("canary", approval=True), stage("prod")))
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    return rings


def refusal(world: World, run: str = "web-1", stage: str = "canary") -> str:
    """Return why the approval of a gate was refused, as the approval request on the status branch says it."""
    gate = world.gate(run, stage)
    assert gate.passed_at is None
    status = world.file(f"approvals/_cluster/{gate.request}.yaml").get("status")
    if status is None:
        return ""
    (condition,) = status["conditions"]
    assert (condition["type"], condition["status"]) == ("ApprovalAccepted", "False")
    return str(condition["message"])


def test_an_approval_is_accepted_with_its_commit_and_its_people(asking: World):
    commit = asking.approves("web-1", "canary", author="Olga")
    asking.passes()
    request = asking.file("approvals/_cluster/web-1-canary.yaml")
    assert request["metadata"]["annotations"] == {
        "kubernetes-fleet.io/approval-author": "Olga <olga@example.org>",
        "kubernetes-fleet.io/approval-commit": commit,
        "kubernetes-fleet.io/approval-committer": "Olga <olga@example.org>",
    }
    assert [one["type"] for one in request["status"]["conditions"]] == ["Approved", "ApprovalAccepted"]
    assert request["spec"] == {"parentStageRollout": "web-1", "targetStage": "canary"}


def test_an_approval_that_was_merged_names_the_commit_of_its_side(asking: World):
    asking.branches("lgtm")
    commit = asking.commits("approvals/it.json", manifests.approval("web-1-canary"), on="lgtm", author="Olga")
    asking.merges("lgtm")
    asking.passes()
    accepted = asking.gate("web-1", "canary").approval
    assert accepted is not None
    assert (accepted.commit, accepted.author) == (commit, "Olga <olga@example.org>")


@pytest.mark.parametrize("together", [True, False], ids=["in the same push as the run", "before the gate opened"])
def test_an_approval_before_it_was_asked_for_does_not_count(rings: World, together):
    rings.commits("strategies/rings.yaml", strategy(stage("canary", approval=True), stage("prod")))
    rings.breaks("canary")
    files = {"runs/web-1.yaml": run("web-1"), "approvals/it.json": manifests.approval("web-1-canary")}
    if together:
        rings.commits(files)
        rings.passes()
    else:
        for path, text in files.items():
            rings.commits(path, text)
            rings.passes()
    rings.heals("canary")
    rings.passes(minutes=60)
    assert refusal(rings) == (
        "ApprovedBeforeRequested: the repository held this very approval, or a broken file in its place, before the "
        f"gate opened at {rings.head()[:7]}: commit it anew with another lastTransitionTime or message"
    )
    rings.commits("approvals/it.json", manifests.approval("web-1-canary", words="now I have looked"))
    rings.passes()
    assert rings.run("web-1").end == "Succeeded"


def test_what_was_pushed_before_the_gate_was_recorded_does_not_count(rings: World):
    """The head that a gate opens at is read after the outcomes; what is in it is too early."""
    rings.commits("strategies/rings.yaml", strategy(stage("canary", approval=True), stage("prod")))
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.daemons[0].step()
    rings.approves("web-1", "canary")
    rings.passes()
    assert refusal(rings).startswith("ApprovedBeforeRequested")


def test_an_approval_that_is_moved_or_brought_back_does_not_count(rings: World):
    rings.commits("strategies/rings.yaml", strategy(stage("canary", approval=True), stage("prod")))
    text = manifests.approval("web-1-canary")
    rings.commits("approvals/early.json", text)
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    rings.removes("approvals/early.json")
    rings.passes()
    assert refusal(rings) == ""
    rings.commits("approvals/late.json", text)
    rings.passes()
    assert refusal(rings).startswith("ApprovedBeforeRequested")


@pytest.mark.parametrize("how", ["renamed", "brought back by a revert"])
def test_an_early_approval_does_not_become_new_by_git(rings: World, how: str):
    rings.commits("strategies/rings.yaml", strategy(stage("canary", approval=True), stage("prod")))
    text = manifests.approval("web-1-canary")
    rings.commits("approvals/early.json", text)
    gone = "" if how == "renamed" else rings.removes("approvals/early.json")
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    if gone:
        rings.reverts(gone)
    else:
        rings.commits({"approvals/early.json": None, "approvals/web/canary.json": text}, message="Tidy up")
    rings.passes(minutes=10)
    assert refusal(rings).startswith("ApprovedBeforeRequested")


def test_an_approval_that_two_files_give_counts_once_one_of_them_has_left(asking: World):
    text = manifests.approval("web-1-canary")
    asking.commits({"approvals/a.json": text, "approvals/b.json": text})
    asking.passes()
    assert asking.problems() == ["approvals/a.json: DuplicateObject", "approvals/b.json: DuplicateObject"]
    assert asking.gate("web-1", "canary").passed_at is None
    asking.removes("approvals/b.json")
    asking.passes()
    assert asking.run("web-1").end == "Succeeded"


def test_an_approval_that_did_not_count_as_a_file_was_there_all_the_same(rings: World):
    """A second file of the same name is refused; when the first leaves, what it says is not new."""
    rings.commits("strategies/rings.yaml", strategy(stage("canary", approval=True), stage("prod")))
    rings.commits("approvals/a.json", manifests.approval("web-1-canary", status="False"))
    rings.commits("approvals/b.json", manifests.approval("web-1-canary"))
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    rings.removes("approvals/a.json")
    rings.passes()
    assert refusal(rings).startswith("ApprovedBeforeRequested")


UNKNOWN_FIELD = manifests.text(
    {
        "apiVersion": "placement.kubernetes-fleet.io/v1",
        "kind": "ClusterApprovalRequest",
        "metadata": {"name": "x"},
        "specs": {},
    }
)


@pytest.mark.parametrize("rest", [UNKNOWN_FIELD, "kind: [\n"], ids=["another document", "no YAML"])
@pytest.mark.parametrize("path", ["approvals/a.yaml", "approvals/moved.yaml"], ids=["in its place", "moved"])
def test_an_approval_in_a_broken_file_was_there_all_the_same(rings: World, rest: str, path: str):
    """Mending the file does not make new what was in it before the gate opened."""
    rings.commits("strategies/rings.yaml", strategy(stage("canary", approval=True), stage("prod")))
    rings.commits("approvals/a.yaml", manifests.approval("web-1-canary") + "\n---\n" + rest)
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    gone = {"approvals/a.yaml": None} if path != "approvals/a.yaml" else {}
    rings.commits({**gone, path: manifests.approval("web-1-canary")}, message="Mend it")
    rings.passes()
    assert refusal(rings).startswith("ApprovedBeforeRequested")
    rings.commits(path, manifests.approval("web-1-canary", words="now I have looked"))
    rings.passes()
    assert rings.run("web-1").end == "Succeeded"


def test_an_approval_that_was_broken_after_the_gate_opened_counts_once_it_is_mended(asking: World):
    asking.commits("approvals/a.yaml", manifests.approval("web-1-canary") + "\n---\nkind: [\n")
    asking.passes()
    assert asking.gate("web-1", "canary").passed_at is None
    asking.commits("approvals/a.yaml", manifests.approval("web-1-canary"))
    asking.passes()
    assert asking.run("web-1").end == "Succeeded"


def test_an_approval_left_over_from_a_former_run_of_the_same_name_does_not_count(asking: World):
    asking.approves("web-1", "canary")
    asking.passes()
    assert asking.run("web-1").end == "Succeeded"
    asking.removes("runs/web-1.yaml")
    asking.passes()
    asking.commits("runs/web-1.yaml", run("web-1"))
    asking.passes(minutes=60)
    assert len([one for one in asking.runs() if one.key.name == "web-1"]) == 2
    assert refusal(asking).startswith("ApprovedBeforeRequested")
    asking.approves("web-1", "canary")
    asking.passes()
    assert asking.run("web-1").end == "Succeeded"


def test_the_articles_re_use_of_one_approval_for_the_next_run_counts(asking: World):
    """The approval names another gate, so nothing before held it for this one."""
    asking.approves("web-1", "canary", at="2025-07-22T21:33:00Z")
    asking.passes()
    asking.commits("runs/web-2.yaml", run("web-2"))
    asking.passes()
    asking.approves("web-2", "canary", at="2025-07-22T21:33:00Z")
    asking.passes()
    assert asking.run("web-2").end == "Succeeded"


def test_an_approval_that_was_removed_before_it_was_accepted_is_withdrawn(rings: World):
    rings.commits("strategies/rings.yaml", strategy(stage("canary", approval=True), stage("prod")))
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    rings.approves("web-1", "canary")
    rings.removes("approvals/web-1-canary.json")
    rings.passes()
    assert rings.gate("web-1", "canary").passed_at is None
    assert refusal(rings) == ""


def test_an_approval_may_be_taken_back_before_it_is_accepted_and_given_again(asking: World):
    """By its own status; said again it is another condition, so it is new."""
    asking.approves("web-1", "canary")
    asking.approves("web-1", "canary", status="False")
    asking.passes()
    assert refusal(asking).startswith("NotApproved")
    asking.approves("web-1", "canary", words="on second thoughts")
    asking.passes()
    assert asking.run("web-1").end == "Succeeded"


@pytest.mark.parametrize("how", ["it says False", "its commit is reverted"])
def test_what_becomes_of_an_accepted_approval_stops_nothing(asking: World, how: str):
    asking.breaks("east")
    commit = asking.approves("web-1", "canary")
    asking.passes()
    if how == "it says False":
        asking.approves("web-1", "canary", status="False")
    else:
        asking.reverts(commit)
    asking.heals("east")
    asking.passes()
    assert asking.run("web-1").end == "Succeeded"
    accepted = asking.gate("web-1", "canary").approval
    assert accepted is not None
    assert accepted.commit == commit


def test_an_approval_that_was_accepted_stays_accepted(asking: World):
    asking.breaks("east")
    asking.approves("web-1", "canary")
    asking.passes()
    asking.removes("approvals/web-1-canary.json")
    asking.heals("east")
    asking.passes()
    assert asking.run("web-1").end == "Succeeded"


@pytest.mark.parametrize(
    ("how", "refused"),
    [
        pytest.param(
            {"status": "False"},
            'NotApproved: the Approved condition of ClusterApprovalRequest web-1-canary is not "True"',
            id="it says False",
        ),
        pytest.param(
            {"generation": 2},
            "WrongGeneration: observedGeneration of ClusterApprovalRequest web-1-canary is not 1, the generation of "
            "the request",
            id="it observed another generation",
        ),
        pytest.param(
            {"spec": {"parentStageRollout": "web-1", "targetStage": "prod"}},
            "WrongTarget: ClusterApprovalRequest web-1-canary is for run web-1, stage prod",
            id="it is for another stage",
        ),
        pytest.param(
            {"spec": {"parentStageRollout": "web-2", "targetStage": "canary"}},
            "WrongTarget: ClusterApprovalRequest web-1-canary is for run web-2, stage canary",
            id="it is for another run",
        ),
        pytest.param(
            {"uid": "00000000-0000-0000-0000-000000000000"},
            "WrongRequest: ClusterApprovalRequest web-1-canary names request 00000000-0000-0000-0000-000000000000, "
            "this one is {uid}",
            id="it names another request",
        ),
        pytest.param(
            {"annotations": {"kubernetes-fleet.io/resource-hash": "0" * 64}},
            "WrongContent: ClusterApprovalRequest web-1-canary approves other content than this run rolls out",
            id="it approves other content",
        ),
    ],
)
def test_an_approval_that_does_not_fit_is_refused_and_the_right_one_counts(asking: World, how: dict, refused: str):
    asking.approves("web-1", "canary", **how)
    asking.passes(minutes=10)
    gate = asking.gate("web-1", "canary")
    assert refusal(asking) == refused.format(uid=gate.request_uid)
    asking.removes("approvals/web-1-canary.json")
    asking.approves("web-1", "canary", words="better", uid=gate.request_uid, name="web-1-canary")
    asking.passes()
    assert asking.run("web-1").end == "Succeeded"


def test_an_approval_may_name_everything(asking: World):
    hash_ = asking.placement().snapshots[0].hash
    asking.approves(
        "web-1",
        "canary",
        uid=asking.gate("web-1", "canary").request_uid,
        spec={"parentStageRollout": "web-1", "targetStage": "canary"},
        annotations={"kubernetes-fleet.io/resource-hash": hash_},
    )
    asking.passes()
    assert asking.run("web-1").end == "Succeeded"


@pytest.mark.parametrize("name", ["web-1-canary", "web-1-after-canary"])
def test_both_names_of_an_after_stage_approval_are_understood(asking: World, name: str):
    asking.approves("web-1", "canary", name=name)
    asking.passes()
    assert asking.run("web-1").end == "Succeeded"


@pytest.mark.parametrize("kind", ["ApprovalRequest", "ClusterApprovalRequest"])
def test_an_approval_of_another_scope_is_not_one(asking: World, kind: str):
    """A namespaced approval never passes the gate of a cluster-scoped run."""
    asking.approves("web-1", "canary", namespace="app" if kind == "ApprovalRequest" else "")
    asking.passes()
    assert (asking.gate("web-1", "canary").passed_at is not None) == (kind == "ClusterApprovalRequest")


def test_a_name_that_fits_two_gates_counts_only_with_its_spec(rings: World):
    """`web-before-canary` is asked for before the canary of web, and after the canary of web-before."""
    rings.commits("placements/other.yaml", manifests.placement("other"))
    plan = strategy(stage("canary", before=True, approval=True), stage("prod"))
    rings.commits("strategies/rings.yaml", plan)
    rings.commits("runs/web.yaml", run("web"))
    rings.passes()
    rings.commits("runs/other.yaml", run("web-before", placement="other", strategy="rings"))
    rings.approves("web", "canary", name="web-before-canary")
    rings.passes()
    gate = rings.gate("web", "canary", When.BEFORE)
    assert gate.refused == (
        "AmbiguousName: ClusterApprovalRequest web-before-canary fits a gate of run web-before too: "
        "name run and stage in its spec"
    )
    spec = {"parentStageRollout": "web", "targetStage": "canary"}
    rings.approves("web", "canary", name="web-before-canary", spec=spec)
    rings.passes()
    assert rings.gate("web", "canary", When.BEFORE).passed_at is not None
    assert rings.gate("web-before", "canary", When.BEFORE).passed_at is None


def test_an_approval_given_while_the_run_is_stopped_counts_when_it_goes_on(asking: World):
    asking.commits("runs/web-1.yaml", run("web-1", state="Stop"))
    asking.approves("web-1", "canary")
    asking.passes()
    assert asking.gate("web-1", "canary").passed_at is None
    asking.commits("runs/web-1.yaml", run("web-1", state="Run"))
    asking.passes()
    assert asking.run("web-1").end == "Succeeded"


def test_what_a_run_waits_for_is_said_with_the_command_that_helps(asking: World):
    readme = asking.status().files["README.md"].decode()
    assert (
        "| web-1 | stage canary waits for Approval web-1-canary | 2025-07-22T21:00:00Z "
        "| `reconciler approve web-1 canary` |"
    ) in readme


@pytest.mark.parametrize("ending", ["newer", "removed", "placement removed"])
@pytest.mark.parametrize("at_once", [True, False])
def test_an_approval_that_came_before_the_end_of_its_run_is_accepted_however_they_are_polled(
    asking: World, ending: str, *, at_once: bool
):
    asking.approves("web-1", "canary")
    if not at_once:
        asking.passes()
    if ending == "newer":
        asking.commits("runs/web-2.yaml", run("web-2"))
    else:
        asking.removes("runs/web-1.yaml" if ending == "removed" else "placements/web.yaml")
    asking.passes()
    assert asking.gate("web-1", "canary").approval is not None


def test_an_approval_that_came_with_a_newer_run_is_not_accepted_by_the_older_one(asking: World):
    text = manifests.approval("web-1-canary", at="2025-07-22T21:05:00Z")
    asking.commits({"runs/web-2.yaml": run("web-2"), "approvals/web-1-canary.json": text})
    asking.passes()
    assert (asking.gate("web-1", "canary").approval, asking.run("web-1").end) == (None, "Superseded")


@pytest.mark.parametrize("steps", [("Initialize", "Run"), ("Run", "Stop")])
@pytest.mark.parametrize("at_once", [True, False])
def test_an_approval_that_came_once_a_newer_run_could_start_is_not_accepted_however_they_are_polled(
    asking: World, steps: tuple[str, str], *, at_once: bool
):
    """The last edit of the newer run's file counted as when it could start, even one that only added a label."""
    labelled = run("web-2", state="Run").replace("metadata:\n", "metadata:\n  labels: {team: web}\n")
    for text in (*(run("web-2", state=one) for one in steps), "approval", labelled):
        if text == "approval":
            asking.approves("web-1", "canary")
        else:
            asking.commits("runs/web-2.yaml", text)
        if not at_once:
            asking.passes()
    asking.passes()
    assert (asking.gate("web-1", "canary").approval, asking.run("web-1").end) == (None, "Superseded")


def test_an_approval_with_a_wrong_target_may_be_put_right(asking: World):
    asking.approves("web-1", "canary", spec={"targetStage": "prod", "parentStageRollout": "web-1"})
    asking.passes()
    assert refusal(asking).startswith("WrongTarget")
    asking.approves("web-1", "canary", spec={"targetStage": "canary", "parentStageRollout": "web-1"})
    asking.passes()
    assert (asking.run("web-1").end, asking.problems()) == ("Succeeded", [])
