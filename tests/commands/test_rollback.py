"""`rollback RUN` commits a run to what the clusters had before, or says why there is no such thing."""

import pytest
import yaml

from reconciler.core.rollback import named
from tests import manifests, servers


def shown(world, path, branch="main"):
    return yaml.safe_load(servers.git(world.remote, "show", f"{branch}:{path}"))


def rolls_out(world, run, value=None, **how):
    """Change the content, and roll it out."""
    if value is not None:
        world.commits("resources/app/settings.yaml", manifests.config_map(value))
    world.commits(f"runs/{run}.yaml", manifests.run(run, **how))
    world.passes()


def create(index):
    return f"reconciler run create NAME --placement web --strategy rings --snapshot {index}"


@pytest.fixture
def two(rings):
    """Snapshots 0 and 1, both rolled out to everybody."""
    rolls_out(rings, "r0")
    rolls_out(rings, "r1", "value2")
    return rings


def test_the_way_back_is_a_run_like_any_other(two, olga):
    said = olga("rollback", "r1")
    assert (said.code, said.err) == (0, "")
    assert (
        said.out == f"committed {two.head()[:7]} to main: runs/r1-back.yaml\nnext, in your clone: git pull --rebase\n"
    )
    assert shown(two, "runs/r1-back.yaml")["spec"] == {
        "placementName": "web",
        "resourceSnapshotIndex": "0",
        "stagedRolloutStrategyName": "rings",
    }
    assert servers.git(two.remote, "log", "-1", "--format=%an: %B", "main") == (
        "Olga: Go back to snapshot 0 of web with run r1-back\n\nBefore run r1 every cluster ran snapshot 0."
    )
    two.passes()
    assert two.values() == {"canary": "value1", "east": "value1", "west": "value1"}
    assert two.conditions("r1-back")["Succeeded"] == "True UpdateRunSucceeded"


def test_halfway_through_only_what_was_reached_counts_as_moved(two, olga):
    """The clusters that the run has not reached run what the others ran before: one way back for all."""
    two.breaks("canary")
    rolls_out(two, "r2", "value3")
    assert olga("rollback", "r2").code == 0
    two.heals("canary")
    two.passes()
    assert two.values() == {"canary": "value2", "east": "value2", "west": "value2"}


def test_of_a_run_that_is_over_only_what_it_started_counts(two, olga):
    """What a newer run wrote since, on clusters that the older one never came to, was not there before it."""
    two.breaks("canary")
    rolls_out(two, "r2", "value3")
    two.heals("canary")
    rolls_out(two, "r3", "value4")
    assert olga("rollback", "r2", "--dry-run").out.count('resourceSnapshotIndex: "1"') == 1


def test_an_earlier_placement_of_the_name_is_no_way_back(two, olga):
    two.removes("placements/web.yaml", "runs/r0.yaml", "runs/r1.yaml")
    two.passes(minutes=15)
    two.commits("placements/web.yaml", manifests.placement())
    rolls_out(two, "r2", "value3")
    said = olga("rollback", "r1")
    assert (said.code, said.err.split(";")[0]) == (
        4, "reconciler: snapshot 0 was of an earlier placement named web, which is gone",
    )  # fmt: skip


def test_a_removed_run_can_be_gone_back_from(two, olga):
    two.removes("runs/r1.yaml")
    two.passes()
    said = olga("rollback", "r1", "--name", "home", "-m", "the shop was slow", "--dry-run")
    assert said.out.startswith("# runs/home.yaml\n")
    assert olga("rollback", "r1", "--name", "home", "-m", "the shop was slow").code == 0
    assert servers.git(two.remote, "log", "-1", "--format=%b", "main") == "the shop was slow"
    two.passes()
    assert two.value("east") == "value1"


@pytest.mark.parametrize("inner", [True, False], ids=["the commit that it merged", "the merge"])
def test_after_a_rewrite_only_what_is_recorded_to_have_brought_a_run_can_be_reverted(rings, olga, *, inner: bool):
    """Which commits a lost merge had merged is known to nobody for sure; `why` prints the way back instead."""
    rolls_out(rings, "r0")
    rings.branches("change")
    changes = {"resources/app/settings.yaml": manifests.config_map("value2"), "runs/r1.yaml": manifests.run("r1")}
    merged = rings.commits(changes, on="change")
    merge = rings.merges("change")
    rings.passes()
    files = {path: rings.text(rings.head(), path) for path in rings.paths()}
    servers.git(rings.remote, "update-ref", "-d", "refs/heads/main")
    rings.commits(files, message="All of it, anew")
    assert olga("acknowledge-rewrite").code == 0
    rings.passes()
    servers.git(rings.remote, "update-ref", "-d", "refs/heads/change")
    servers.git(rings.remote, "gc", "--prune=now", "--quiet")
    rings.starts_another()  # it never has the lost commits, which the first still holds
    undo = {"resources/app/settings.yaml": manifests.config_map("value1"), "runs/r1.yaml": None}
    rings.commits(undo, message=f"Take it back\n\nThis reverts commit {merged if inner else merge}.")
    rings.passes()
    assert [one.trouble for one in rings.daemons] == ["", ""]
    views = [one.reconciler.derivation.view for one in rings.daemons]
    assert [len(one.reverted) for one in views] == ([0, 0] if inner else [1, 1])
    if inner:
        assert rings.values() == {"canary": "value2", "east": "value2", "west": "value2"}
        said = olga("why", "r1").out
        assert "a withdrawal and not a revert" in said
        assert said.endswith("  next: reconciler rollback r1\n")
        assert olga("rollback", "r1").code == 0
        rings.passes()
    assert rings.values() == {"canary": "value1", "east": "value1", "west": "value1"}


def test_a_run_may_be_named_with_its_noun(two, olga):
    assert olga("rollback", "csur/r1", "--dry-run").out == olga("rollback", "r1", "--dry-run").out
    said = olga("rollback", "sur/r1")
    there = "there is csur r1 in no namespace: leave -n out"
    assert (said.code, said.err) == (4, f"reconciler: the daemon has not seen a run r1 in namespace default; {there}\n")


def test_another_strategy_may_be_chosen_and_a_branch(two, olga):
    fast = manifests.strategy(manifests.stage("all", labels={}, maxConcurrency="100%"), name="fast")
    two.commits("strategies/fast.yaml", fast)
    assert olga("rollback", "r1", "--strategy", "fast", "--to-branch", "back").code == 0
    assert shown(two, "runs/r1-back.yaml", "back")["spec"]["stagedRolloutStrategyName"] == "fast"
    said = olga("rollback", "r1", "--strategy", "none")
    assert (said.code, said.err) == (4, "reconciler: there is no ClusterStagedUpdateStrategy none\n")


def test_a_name_that_is_taken_gets_a_number(two, olga):
    olga("rollback", "r1")
    two.passes()
    two.removes("runs/r1-back.yaml")
    said = olga("rollback", "r1")
    assert "runs/r1-back-2.yaml" in said.out
    assert said.err == "note: r1-back started after it; what that brought is left behind too\n"


def test_a_long_name_is_cut_and_stays_one_of_a_kind():
    long = "a" * 59
    assert named("a" * 58, "-back") == "a" * 58 + "-back"
    assert len(named(long, "-back")) == 63
    assert named(long, "-back") != named(long + "a", "-back")
    assert "--" not in named("a" * 48 + "-" * 15 + "b", "-back")
    assert ".-" not in named("a" * 47 + "." + "b" * 15, "-back")


def test_where_there_was_nothing_before_the_choice_is_shown(rings, olga):
    rolls_out(rings, "r0")
    said = olga("rollback", "r0")
    nothing = "canary, east, west had nothing of web before run r0"
    none = "there is no older snapshot; to take all of it off the clusters, remove the placement"
    assert (said.code, said.err) == (4, f"reconciler: {nothing}; {none}\n")
    rolls_out(rings, "r1", "value2")
    rings.joins("west2", ring="prod")
    rolls_out(rings, "r2", "value3")
    said = olga("rollback", "r2").err  # what is newer is no way back
    assert said.endswith(f"west2 had nothing of web before run r2; choose one:\n  {create(1)}\n")
    assert none in olga("rollback", "r0").err


def test_where_clusters_differ_the_choice_is_shown(two, olga):
    """`r2` does not get beyond east: it and canary have 2 and west has 1 when r3 begins."""
    two.breaks("east")
    rolls_out(two, "r2", "value3")
    rolls_out(two, "r3", "value4")
    said = olga("rollback", "r3")
    assert said.code == 4
    differ = "the clusters of run r3 had different snapshots before it: 1 (west), 2 (canary, east)"
    assert said.err == f"reconciler: {differ}; choose one:\n  {create(1)}\n  {create(2)}\n"


def test_what_changes_nothing_is_refused(two, olga):
    rolls_out(two, "again")
    said = olga("rollback", "again")
    assert said.code == 4
    assert said.err.startswith("reconciler: the clusters had snapshot 1 before run again too, so going back changes ")
    assert said.err.endswith(f"nothing; choose one:\n  {create(0)}\n")


def test_a_run_that_moved_nothing_is_refused(rings, olga):
    rings.commits("runs/r0.yaml", manifests.run("r0", state="Initialize"))
    said = olga("rollback", "r0")
    assert (said.code, said.err) == (4, "reconciler: the daemon has not seen a run r0\n")
    rings.passes()
    said = olga("rollback", "r0")
    assert (said.code, said.err) == (
        4,
        "reconciler: run r0 has started no cluster, so there is nothing to go back from\n",
    )


def test_a_snapshot_of_a_placement_that_is_gone_is_refused(two, olga):
    """Removed and committed anew it counts from 0 again, and what 0 was before is not what 0 is now."""
    two.removes("placements/web.yaml")
    two.passes()
    two.commits("placements/web.yaml", manifests.placement())
    rolls_out(two, "r2")
    said = olga("rollback", "r2")
    assert said.code == 4
    assert said.err.startswith("reconciler: snapshot 1 was of an earlier placement named web, which is gone")


def test_a_file_in_the_way_is_not_overwritten(two, olga):
    two.commits("runs/r1-back.yaml", manifests.run("other", state="Initialize", index=0))
    said = olga("rollback", "r1")
    assert said.code == 4
    assert said.err.startswith("reconciler: runs/r1-back.yaml is there already, with something else in it")


def test_a_name_that_is_none_is_a_usage_error(two, olga):
    said = olga("rollback", "r1", "--name", "Not a name")
    assert said.code == 2
    assert said.err.startswith("reconciler: that is no valid run: ")
