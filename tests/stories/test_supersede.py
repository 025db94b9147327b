"""Several runs of one placement."""

from typing import Any

import pytest

from tests import manifests
from tests.manifests import run, stage, strategy
from tests.world import World


def test_a_newer_run_takes_over_and_the_older_says_so(rings: World):
    rings.commits("strategies/rings.yaml", strategy(stage("canary", approval=True), stage("prod")))
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    rings.commits("resources/app/settings.yaml", manifests.config_map("value2"))
    rings.commits("runs/web-2.yaml", run("web-2"))
    rings.passes()
    assert rings.conditions("web-1") == {
        "Initialized": "True UpdateRunInitializedSuccessfully",
        "Progressing": "False UpdateRunSuperseded",
        "Succeeded": "False UpdateRunSuperseded",
    }
    assert rings.message("web-1", "Succeeded") == "superseded by the newer run web-2"
    rings.approves("web-1", "canary")
    rings.passes()
    assert rings.started("web-1") == ["canary"]
    rings.approves("web-2", "canary")
    rings.passes()
    assert rings.run("web-2").end == "Succeeded"
    assert rings.values() == {"canary": "value2", "east": "value2", "west": "value2"}


def test_clusters_in_flight_of_a_superseded_run_finish_under_their_own_intent(rings: World):
    rings.breaks("east")
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    rings.commits("resources/app/settings.yaml", manifests.config_map("value2"))
    first = strategy(stage("canary", approval=True), stage("prod"))
    rings.commits({"strategies/rings.yaml": first, "runs/web-2.yaml": run("web-2")})
    rings.passes()
    assert rings.run("web-1").end == "Superseded"
    assert rings.running() == {"east"}
    rings.heals("east")
    rings.passes()
    assert rings.running() == set()
    assert rings.values() == {"canary": "value2", "east": "value1", "west": None}


def test_a_cluster_in_flight_is_taken_by_the_newer_run_when_its_turn_comes(rings: World):
    """The newer intent takes it; what the older one still reports is nobody's business any more."""
    rings.breaks("canary")
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    rings.commits("resources/app/settings.yaml", manifests.config_map("value2"))
    rings.commits("runs/web-2.yaml", run("web-2"))
    rings.passes()
    older, newer = rings.run("web-1"), rings.run("web-2")
    assert older.stages[0].clusters[0].taken_by == newer.uid
    assert [
        name for run in (older, newer) for _, one in run.in_flight() for name in [f"{run.key.name} {one.name}"]
    ] == ["web-2 canary"]
    rings.heals("canary")
    rings.passes()
    assert rings.values() == {"canary": "value2", "east": "value2", "west": "value2"}
    assert rings.placement().records["canary"].run_name == "web-2"


def test_what_a_cluster_had_before_is_the_last_complete_delivery(rings: World):
    """The way back leads past what never became complete."""
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    first = rings.placement().records["canary"].delivered
    rings.commits("resources/app/settings.yaml", manifests.config_map("value2"))
    rings.member("canary").refuses("no")
    rings.commits("runs/web-2.yaml", run("web-2"))
    rings.passes()
    rings.commits("resources/app/settings.yaml", manifests.config_map("value3"))
    rings.commits("runs/web-3.yaml", run("web-3"))
    rings.passes()
    assert first is not None
    assert (first.index, first.run) == (0, rings.run("web-1").uid)
    assert rings.placement().records["canary"].before == first


def test_an_older_run_is_never_initialized_after_a_newer_has_started(rings: World):
    rings.commits("runs/web-1.yaml", run("web-1", strategy="later"))
    rings.commits("runs/web-2.yaml", run("web-2"))
    rings.passes()
    assert rings.run("web-2").end == "Succeeded"
    rings.commits("strategies/later.yaml", strategy(stage("canary"), stage("prod"), name="later"))
    rings.passes()
    assert rings.run("web-1").end == "Superseded"
    assert rings.started("web-1") == []


def test_a_newer_run_that_is_only_initialized_takes_nothing(rings: World):
    rings.breaks("east")
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.commits("runs/web-2.yaml", run("web-2", state="Initialize"))
    rings.passes()
    assert rings.run("web-1").end is None
    rings.commits("runs/web-2.yaml", run("web-2", state="Run"))
    rings.passes()
    assert rings.run("web-1").end == "Superseded"


def approves_last(rings: World, *stages: dict[str, Any]) -> None:
    """Bring run r1 to where it waits for the approval of its stage prod, and commit that, not polled yet."""
    rings.commits("strategies/rings.yaml", strategy(*stages))
    rings.commits("runs/r1.yaml", run("r1"))
    rings.passes()
    rings.approves("r1", "prod")


def test_a_run_whose_last_approval_came_before_the_newer_run_has_succeeded(rings: World):
    """Both commits were read in one pass, and what was approved, delivered and over was called superseded."""
    approves_last(rings, stage("canary"), stage("prod", approval=True))
    rings.commits("runs/r2.yaml", manifests.run("r2"))
    rings.passes()
    assert rings.conditions("r1")["Succeeded"] == "True UpdateRunSucceeded"
    assert rings.events("r1")[-3:] == ["GatePassed", "StageCompleted", "RunCompleted"]
    rings.commits("runs/r3.yaml", manifests.run("r3"))
    rings.approves("r2", "prod")
    rings.passes()  # here the approval came after the newer run
    assert rings.conditions("r2")["Succeeded"] == "False UpdateRunSuperseded"


def test_empty_stages_at_the_end_keep_no_run_from_being_over(rings: World):
    approves_last(rings, stage("canary"), stage("prod", approval=True), stage("none", approval=True))
    rings.commits("runs/r2.yaml", manifests.run("r2"))
    rings.passes()
    assert rings.conditions("r1")["Succeeded"] == "True UpdateRunSucceeded"


@pytest.mark.parametrize("gone", ["runs/r1.yaml", "placements/web.yaml"])
def test_a_run_whose_last_approval_came_before_its_removal_has_succeeded(rings: World, gone: str):
    approves_last(rings, stage("canary"), stage("prod", approval=True))
    rings.removes(gone)
    rings.passes()
    assert rings.conditions("r1")["Succeeded"] == "True UpdateRunSucceeded"


def test_a_run_that_was_stopped_is_superseded_for_good(rings: World):
    rings.commits("runs/web-1.yaml", run("web-1", state="Stop"))
    rings.commits("runs/web-2.yaml", run("web-2"))
    rings.passes()
    rings.commits("runs/web-1.yaml", run("web-1", state="Run"))
    rings.passes()
    assert rings.run("web-1").end == "Superseded"
    assert rings.started("web-1") == []


def test_two_runs_for_one_placement_in_one_commit_are_both_refused(rings: World):
    head = rings.commits({"runs/web-1.yaml": run("web-1"), "runs/web-2.yaml": run("web-2")})
    rings.passes()
    for name, both in (("web-1", "web-1, web-2"), ("web-2", "web-2, web-1")):
        assert rings.message(name, "Initialized") == (
            "cannot continue the updateRun: failed to validate the updateRun: failed to process the request due to a "
            f"client error: commit {head[:7]} brings more than one run for placement `web` ({both}): "
            "remove all of them, then commit one"
        )
    rings.removes("runs/web-1.yaml")
    rings.passes()
    assert rings.started("web-2") == []


def test_two_runs_for_two_placements_in_one_commit_both_go(rings: World):
    rings.commits("resources/b/namespace.yaml", manifests.namespace("b"))
    selector = [{"group": "", "version": "v1", "kind": "Namespace", "name": "b"}]
    rings.commits("placements/b.yaml", manifests.placement("b", resourceSelectors=selector))
    rings.commits({"runs/web.yaml": run("web-1"), "runs/b.yaml": run("b-1", placement="b")})
    rings.passes()
    assert [one.end for one in rings.runs()] == ["Succeeded", "Succeeded"]


def test_a_run_deleted_and_added_again_is_a_new_run_with_a_folder_of_its_own(rings: World):
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    rings.removes("runs/web-1.yaml")
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    first, second = (one for one in rings.runs() if one.key.name == "web-1")
    assert first.uid != second.uid
    assert (first.end, second.end) == ("Succeeded", "Succeeded")
    folders = {path.rpartition("/")[0] for path in rings.whole_status().logs if path.startswith("runs/")}
    assert folders == {f"runs/_cluster/web-1/{one.uid[:8]}" for one in (first, second)}
