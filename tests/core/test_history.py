"""The fold of the watched branch: last good versions, doubts, identities, snapshots, transitions."""

from datetime import timedelta

import pytest

from reconciler.core.history import History
from reconciler.core.identity import object_uid
from reconciler.core.model import Commit, Key
from reconciler.core.transitions import transition_problems
from reconciler.core.view import FileChange
from reconciler.documents.parse import is_manifest, parse
from tests import manifests
from tests.core.logs import NOW
from tests.manifests import cluster, run, stage, strategy

BROKEN = "a: ["


class Branch:
    """A watched branch as values: each call is one commit."""

    def __init__(self) -> None:
        self.view = History()
        self.commits: list[Commit] = []

    def __call__(self, **changes: str | None) -> Commit:
        """Commit files: `clusters_east` is `clusters/east.yaml`; None removes it."""
        number = len(self.commits)
        commit = Commit(
            sha=f"{number:040x}",
            position=number,
            time=NOW + timedelta(minutes=number),
            author="Ada <a@x>",
            committer="Ada <a@x>",
            message=f"Commit {number}",
        )
        self.commits.append(commit)
        self.view.advance(commit, [_change(name, text) for name, text in changes.items()])
        return commit

    def names(self, kind: str) -> list[str]:
        return sorted(key.name for key in self.view.objects[kind])

    def problems(self) -> dict[str, str]:
        return {path: found[0].rule for path, found in self.view.broken.items()}

    def indices(self) -> list[tuple[int, int, int | None]]:
        (found,) = self.view.placements()
        return [(one.index, one.position, one.equals) for one in self.view.snapshots.get(found.uid, ())]


def _change(name: str, text: str | None) -> FileChange:
    path = name.replace("_", "/", 1) + ".yaml"
    assert is_manifest(path)
    parsed = None if text is None else parse(path, text.encode())
    return FileChange(path=path, blob=f"{hash(text)}", parsed=parsed)


@pytest.fixture
def branch() -> Branch:
    return Branch()


def east(view: History):
    return view.find("MemberCluster", "", "east")


# -- identity ----------------------------------------------------------------------------------------------------


def test_an_object_is_what_it_was_when_it_appeared(branch: Branch):
    first = branch(clusters_east=cluster("east", ring="a"))
    branch(clusters_east=cluster("east", ring="b"))
    found = east(branch.view)
    assert found.uid == object_uid(
        first.sha, Key(group="cluster.kubernetes-fleet.io", kind="MemberCluster", name="east")
    )
    assert (found.created, found.changed.position, found.generation) == (first, 1, 1)


def test_a_generation_counts_changes_of_the_spec_alone(branch: Branch):
    for state in (None, "Stop", "Stop", "Run"):
        branch(runs_a=run("a", state=state))
    branch(runs_a=run("a", state="Run", annotations={"note": "x"}))
    found = branch.view.find("ClusterStagedUpdateRun", "", "a")
    assert (found.generation, found.changed.position) == (3, 4)


def test_a_uid_is_kept_over_a_rename(branch: Branch):
    branch(clusters_east=cluster("east"))
    before = east(branch.view)
    branch(clusters_east=None, clusters_moved=cluster("east"))
    after = east(branch.view)
    assert (after.uid, after.generation, after.changed) == (before.uid, 1, before.changed)
    assert after.document.path == "clusters/moved.yaml"


def test_an_object_deleted_and_added_again_is_a_new_one(branch: Branch):
    branch(clusters_east=cluster("east"))
    before = east(branch.view).uid
    branch(clusters_east=None)
    assert branch.view.removals[before].commit.position == 1
    branch(clusters_east=cluster("east"))
    assert east(branch.view).uid != before


def test_an_object_that_moves_between_files_of_one_commit_stays_itself(branch: Branch):
    branch(clusters_a=manifests.cluster("east") + "---\n" + manifests.cluster("west"))
    before = east(branch.view).uid
    branch(clusters_a=manifests.cluster("west"), clusters_b=manifests.cluster("east"))
    assert east(branch.view).uid == before
    branch(clusters_b=manifests.cluster("west"), clusters_a=manifests.cluster("east"))
    assert east(branch.view).uid == before
    assert branch.problems() == {}


# -- broken files ----------------------------------------------------------------------------------------------------


def test_a_broken_file_counts_as_in_its_last_good_version(branch: Branch):
    branch(clusters_east=cluster("east", ring="a"))
    branch(clusters_east=BROKEN)
    assert east(branch.view).document.labels == {"ring": "a"}
    assert branch.view.problem_of(east(branch.view)) is not None
    branch(clusters_east=cluster("east", ring="b"))
    assert east(branch.view).document.labels == {"ring": "b"}
    assert branch.problems() == {}


def test_a_broken_file_without_a_good_version_counts_as_nothing(branch: Branch):
    branch(clusters_east=BROKEN)
    assert branch.names("MemberCluster") == []
    branch(clusters_east=None)
    assert branch.problems() == {}


def test_a_removal_beside_a_broken_file_of_the_folder_waits_until_that_can_be_read(branch: Branch):
    branch(clusters_east=cluster("east"), clusters_west=cluster("west"))
    uid = east(branch.view).uid
    removal = branch(clusters_east=None, clusters_new=BROKEN)
    branch(clusters_other=cluster("other"))
    assert branch.names("MemberCluster") == ["east", "other", "west"]
    branch(clusters_new=cluster("new"))
    assert branch.names("MemberCluster") == ["new", "other", "west"]
    assert branch.view.removals[uid].commit == removal


def test_a_removal_beside_a_broken_file_of_another_folder_is_not_doubted(branch: Branch):
    branch(clusters_east=cluster("east"))
    branch(clusters_east=None, runs_x=BROKEN)
    assert branch.names("MemberCluster") == []


def test_a_removal_is_doubted_only_by_its_own_commit(branch: Branch):
    branch(clusters_east=cluster("east"), clusters_bad=BROKEN)
    branch(clusters_east=None)
    assert branch.names("MemberCluster") == []


def test_a_doubted_removal_that_turns_out_a_rename_removes_nothing(branch: Branch):
    branch(clusters_east=cluster("east"))
    uid = east(branch.view).uid
    branch(clusters_east=None, clusters_moved=BROKEN)
    branch(clusters_moved=cluster("east"))
    assert (east(branch.view).uid, branch.problems()) == (uid, {})


def test_an_object_that_leaves_a_file_of_several_is_doubted_alike(branch: Branch):
    branch(clusters_both=cluster("east") + "---\n" + cluster("west"))
    uid = east(branch.view).uid
    removal = branch(clusters_both=cluster("west"), clusters_moved=BROKEN)
    assert branch.names("MemberCluster") == ["east", "west"]
    assert branch.view.problem_of(east(branch.view)) is not None
    branch(clusters_moved=cluster("east", ring="a"))
    assert (east(branch.view).uid, branch.problems()) == (uid, {})
    removal = branch(clusters_both=None, clusters_moved=cluster("west"), clusters_third=BROKEN)
    branch(clusters_third=cluster("north"))
    assert branch.names("MemberCluster") == ["north", "west"]
    assert branch.view.removals[uid].commit == removal


def test_a_doubt_ends_also_when_the_broken_file_leaves(branch: Branch):
    branch(clusters_east=cluster("east"))
    branch(clusters_east=None, clusters_moved=BROKEN)
    branch(clusters_moved=None)
    assert branch.names("MemberCluster") == []


def test_a_name_that_is_taken_is_refused_until_it_is_free(branch: Branch):
    branch(clusters_east=cluster("east", ring="a"))
    branch(clusters_again=cluster("east", ring="b"))
    assert branch.problems() == {"clusters/again.yaml": "DuplicateObject"}
    branch(clusters_east=None)
    assert branch.problems() == {}
    assert east(branch.view).document.labels == {"ring": "b"}


def test_two_files_that_bring_one_name_together_are_both_refused(branch: Branch):
    branch(clusters_a=cluster("east"), clusters_b=cluster("east"))
    assert branch.problems() == {"clusters/a.yaml": "DuplicateObject", "clusters/b.yaml": "DuplicateObject"}
    branch(clusters_b=None)
    assert (branch.names("MemberCluster"), branch.problems()) == (["east"], {})


# -- transitions ----------------------------------------------------------------------------------------------------

EXTERNAL = {"type": "External"}


def placed(**spec) -> str:
    return manifests.placement(**spec)


@pytest.mark.parametrize(
    ("path", "old", "new", "why"),
    [
        ("runs", run("a", index=0), run("a", index=1), "resourceSnapshotIndex is immutable"),
        ("runs", run("a", index=0), run("a"), "resourceSnapshotIndex is immutable"),
        ("runs", run("a"), run("a", placement="b"), "placementName is immutable"),
        ("runs", run("a"), run("a", strategy="b"), "stagedRolloutStrategyName is immutable"),
        (
            "runs",
            run("a", state="Initialize"),
            run("a", state="Stop"),
            "invalid state transition: cannot transition from Initialize to Stop",
        ),
        (
            "runs",
            run("a"),
            run("a", state="Initialize"),
            "invalid state transition: cannot transition from Run to Initialize",
        ),
        (
            "runs",
            run("a", state="Stop"),
            run("a", state="Initialize"),
            "invalid state transition: cannot transition from Stop to Initialize",
        ),
        ("overrides", manifests.override(), manifests.override(placement={"name": "web"}), "placement is immutable"),
        ("placements", placed(), placed(policy=None), "policy cannot be removed once set"),
        (
            "placements",
            placed(),
            placed(policy={"placementType": "PickFixed", "clusterNames": ["a"]}),
            "placement type is immutable",
        ),
        (
            "placements",
            placed(strategy=EXTERNAL),
            placed(strategy={"type": "RollingUpdate"}),
            "cannot change rollout strategy type from 'External' to other types",
        ),
        (
            "placements",
            placed(),
            placed(statusReportingScope="NamespaceAccessible"),
            "statusReportingScope is immutable",
        ),
    ],
)
def test_an_edit_that_is_not_allowed_is_refused_in_upstreams_words(path: str, old: str, new: str, why: str):
    before, after = (parse(f"{path}/x.yaml", text.encode()) for text in (old, new))
    assert (before.problems, after.problems) == ((), ())
    (problem,) = transition_problems(before.documents[0], after.documents[0])
    assert problem.message == why


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (None, "Stop"),
        ("Run", "Stop"),
        ("Stop", "Run"),
        ("Stop", None),
        ("Initialize", "Run"),
        ("Initialize", None),
        ("Initialize", "Initialize"),
    ],
)
def test_a_state_that_may_follow_is_allowed(old, new):
    before, after = (parse("runs/x.yaml", run("a", state=state).encode()).documents[0] for state in (old, new))
    assert list(transition_problems(before, after)) == []


def test_an_illegal_edit_is_judged_against_what_was_last_accepted(branch: Branch):
    branch(runs_a=run("a", index=0))
    branch(runs_a=run("a", index=1))
    branch(runs_a=run("a", index=1, state="Stop"))
    found = branch.view.find("ClusterStagedUpdateRun", "", "a")
    assert (found.document.body["spec"]["resourceSnapshotIndex"], found.generation) == ("0", 1)
    assert branch.problems() == {"runs/a.yaml": "Immutable"}


# -- snapshots ----------------------------------------------------------------------------------------------------


def test_an_index_begins_wherever_the_content_changes(branch: Branch):
    branch(placements_web=manifests.placement())
    branch(resources_ns=manifests.namespace())
    branch(resources_cm=manifests.config_map("1"))
    branch(resources_other=manifests.namespace("elsewhere"))
    branch(resources_cm=manifests.config_map("2"))
    branch(resources_cm=manifests.config_map("1"))
    assert branch.indices() == [(0, 1, None), (1, 2, None), (2, 4, None), (3, 5, 1)]


def test_nothing_selected_and_a_broken_file_begin_no_index(branch: Branch):
    branch(placements_web=manifests.placement(), resources_ns=manifests.namespace())
    branch(resources_ns=BROKEN)
    branch(resources_ns=None)
    branch(resources_ns=manifests.namespace())
    assert branch.indices() == [(0, 0, None)]


def test_a_state_that_was_hidden_by_a_broken_file_begins_when_it_can_be_read(branch: Branch):
    branch(
        placements_web=manifests.placement(), resources_ns=manifests.namespace(), resources_cm=manifests.config_map("1")
    )
    branch(resources_cm=BROKEN)
    branch(resources_more=manifests.config_map("2", "more"))
    branch(resources_cm=manifests.config_map("1"))
    assert branch.indices() == [(0, 0, None), (1, 3, None)]


def test_each_commit_is_selected_with_its_own_selectors(branch: Branch):
    only = [{"group": "", "version": "v1", "kind": "Namespace", "name": "app", "selectionScope": "NamespaceOnly"}]
    branch(
        placements_web=manifests.placement(), resources_ns=manifests.namespace(), resources_cm=manifests.config_map("1")
    )
    branch(placements_web=manifests.placement(resourceSelectors=only))
    branch(resources_cm=manifests.config_map("2"))
    branch(placements_web=manifests.placement())
    assert branch.indices() == [(0, 0, None), (1, 1, None), (2, 3, None)]


def test_a_policy_is_numbered_by_what_it_says(branch: Branch):
    for names in (["a"], ["a", "b"], ["a"]):
        branch(placements_web=manifests.placement(policy={"placementType": "PickFixed", "clusterNames": names}))
    (found,) = branch.view.placements()
    assert [one.index for one in branch.view.policies[found.uid]] == [0, 1, 2]


# -- initialization ----------------------------------------------------------------------------------------------------


def test_the_first_success_is_pinned_and_nothing_moves_it(branch: Branch):
    branch(
        placements_web=manifests.placement(), resources_ns=manifests.namespace(), clusters_a=cluster("a", ring="canary")
    )
    branch(runs_web=run("web-1"))
    uid = branch.view.find("ClusterStagedUpdateRun", "", "web-1").uid
    assert "referenced updateStrategy not found: `/rings`" in branch.view.initializations[uid].message
    pinned = branch(strategies_rings=strategy(stage("canary")))
    branch(clusters_b=cluster("b", ring="canary"), resources_cm=manifests.config_map("1"))
    pin = branch.view.initializations[uid].pin
    assert pin is not None
    assert (pin.commit, pin.snapshot_index, [one.name for one in pin.stages[0].clusters]) == (pinned.sha, 0, ["a"])


def test_an_approval_is_as_old_as_its_condition(branch: Branch):
    branch(approvals_a=manifests.approval("r-s", words="one"))
    branch(approvals_a=manifests.approval("r-s", words="two"))
    branch(approvals_a=None, approvals_b=manifests.approval("r-s", words="one"))
    assert sorted(branch.view.approvals_seen.values()) == [0, 1]
