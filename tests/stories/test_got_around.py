"""No way around a gate: approvals meant for another gate, prepared before it asked, or smuggled in with a rewrite."""

import pytest

from reconciler.commands import run as command_line
from tests import manifests, servers
from tests.manifests import run, stage, strategy
from tests.world import World

PLAN = strategy(stage("canary", approval=True), stage("prod"))


@pytest.fixture
def asking(rings: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A run `web` that waits for the approval of its canary, and a person at the command line."""
    for name, value in servers.IDENTITY.items():
        monkeypatch.setenv(name, value)
    rings.commits("strategies/rings.yaml", PLAN)
    rings.commits("runs/web.yaml", run("web"))
    rings.passes()
    return rings


def says(world: World, *words: str) -> int:
    """Let a person run a command on the repository; return its exit code."""
    return command_line([*words, "-C", str(world.remote)])


def test_an_approval_meant_for_a_run_with_a_longer_name_does_not_pass(asking: World):
    """`web-after-canary` is what the canary of `web-after` asks for, and an alias of what the canary of `web` does."""
    selector = [{"group": "", "version": "v1", "kind": "Namespace", "name": "two"}]
    asking.commits(
        {
            "resources/two.yaml": manifests.namespace("two"),
            "placements/two.yaml": manifests.placement("two", resourceSelectors=selector),
            "runs/web-after.yaml": run("web-after", placement="two"),
        }
    )
    asking.passes()
    asking.approves("web-after", "canary")
    asking.passes(minutes=10)
    for name in ("web", "web-after"):
        assert asking.gate(name, "canary").passed_at is None
        assert asking.gate(name, "canary").refused.startswith("AmbiguousName: ClusterApprovalRequest web-after-canary")
    asking.removes("approvals/web-after-canary.json")
    asking.approves("web-after", "canary", spec={"parentStageRollout": "web-after", "targetStage": "canary"})
    asking.passes()
    assert (asking.run("web").end, asking.run("web-after").end) == (None, "Succeeded")


@pytest.mark.parametrize(("before", "after"), [("web-after-canary", "web-canary"), ("web-canary", "web-after-canary")])
def test_a_pre_approval_does_not_pass_by_being_renamed_to_its_alias(rings: World, before: str, after: str):
    rings.commits("strategies/rings.yaml", PLAN)
    rings.commits({"runs/web.yaml": run("web"), "approvals/a.json": manifests.approval(before)})
    rings.passes()
    rings.commits({"approvals/a.json": None, "approvals/b.json": manifests.approval(after)})
    rings.passes(minutes=10)
    assert rings.gate("web", "canary").passed_at is None
    assert rings.gate("web", "canary").refused.startswith("ApprovedBeforeRequested: ")
    rings.commits("approvals/b.json", manifests.approval(after, words="now I have looked"))
    rings.passes()
    assert rings.run("web").end == "Succeeded"


def test_an_approval_inside_a_rewritten_history_does_not_pass_with_its_acknowledgement(asking: World):
    old = asking.head()
    asking.rewrites(servers.git(asking.remote, "rev-parse", "main~1"))
    asking.commits("runs/web.yaml", run("web"), "The same again")
    new = asking.approves("web", "canary")
    asking.commits("README.md", "x\n", f"Accept\n\nAcknowledge-Rewrite: {old} {new}\n")
    asking.passes(minutes=10)
    assert asking.gate("web", "canary").passed_at is None
    assert asking.gate("web", "canary").refused.startswith("ApprovedBeforeRequested: ")
    asking.approves("web", "canary", words="still good")
    asking.passes()
    assert asking.run("web").end == "Succeeded"


# -- the command line --------------------------------------------------------------------------------------------


def test_a_run_that_is_over_cannot_be_approved(asking: World, capsys):
    asking.commits("runs/web-2.yaml", run("web-2"))
    asking.passes()
    head = asking.head()
    assert says(asking, "approve", "web", "canary") == 4
    assert capsys.readouterr().err == "reconciler: run web is over (Superseded): an approval would change nothing\n"
    assert asking.head() == head


def test_an_approval_where_a_file_holds_one_of_that_name_goes_into_that_file(asking: World, capsys):
    """A second file would be a duplicate, and count for nothing."""
    asking.approves("web", "canary", status="False")
    asking.passes()
    assert says(asking, "approve", "web", "canary") == 0
    assert " to main: approvals/web-canary.json\n" in capsys.readouterr().out
    asking.passes()
    assert asking.run("web").end == "Succeeded"


def test_a_new_run_overwrites_no_file(asking: World, capsys):
    asking.commits({"runs/next.yaml": run("other"), "runs/broken.yaml": "a: [\n"})
    asking.passes()
    head = asking.head()
    for name in ("next", "broken"):
        assert says(asking, "run", "create", name, "--placement", "web", "--strategy", "rings") == 4
        assert capsys.readouterr().err.startswith(f"reconciler: runs/{name}.yaml is there already, with something else")
    assert asking.head() == head


def test_what_is_held_is_refused_and_no_fault_of_ours(rings: World, capsys, monkeypatch):
    monkeypatch.setattr("reconciler.commands.opening.configure_log", lambda: None)
    servers.git(rings.remote, "update-ref", "-d", "refs/heads/fleet-status")
    folder = rings.folder / "state"
    assert command_line(["reconcile", "--once", "--repo", str(rings.remote), "--state-dir", str(folder)]) == 4
    assert "the repository has no branch fleet-status yet" in capsys.readouterr().err
