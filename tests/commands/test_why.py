"""`why` says what something waits for, since when, who can unblock it, and with which command."""

import json
import re
from datetime import timedelta

import pytest

from reconciler.core.conditions import timestamp
from reconciler.git import history
from tests import manifests, servers
from tests.world import BEGIN

APPROVALS = "whoever may merge to approvals/"
RUNS = "whoever may merge to runs/"


def masked(text):
    """Return a text with commits and ages masked; moments stay, the world's clock is moved by hand."""
    text = re.sub(r"\b[0-9a-f]{7}\b", "COMMIT", text)
    return re.sub(r"\((?:\d+[a-z]+)+\)\.", "(AGE).", text)


def told(olga, *arguments, code=0):
    said = olga("why", *arguments)
    assert said.code == code, said.err
    return masked(said.out)


def rolls_out(world, run, value=None, **how):
    if value is not None:
        world.commits("resources/app/settings.yaml", manifests.config_map(value))
    world.commits(f"runs/{run}.yaml", manifests.run(run, **how))
    world.passes()


@pytest.fixture
def gated(rings):
    """A canary with a wait and an approval behind it."""
    stages = (manifests.stage("canary", wait="10m", approval=True), manifests.stage("prod", before=True))
    rings.commits("strategies/rings.yaml", manifests.strategy(*stages))
    rolls_out(rings, "r1")
    return rings


# -- a run -----------------------------------------------------------------------------------------------------------


def test_a_wait_and_an_approval_are_both_told(gated, olga):
    assert told(olga, "r1") == (
        "r1 (ClusterStagedUpdateRun): Waiting: TimedWait, Approval\n"
        "Stage canary waits 10m0s after its last cluster, and passes by itself at 2025-07-22T21:10:00Z, "
        "since 2025-07-22T21:00:00Z (AGE).\n"
        "Stage canary waits for approval r1-canary now that its clusters are updated, "
        "since 2025-07-22T21:00:00Z (AGE). "
        f"Who can unblock it: {APPROVALS}.\n"
        "  next: reconciler approve r1 canary\n"
    )
    gated.passes(minutes=10)
    gated.approves("r1", "canary")
    gated.passes()
    assert "Stage prod waits for approval r1-before-prod before it starts" in told(olga, "csur/r1")
    assert "  next: reconciler approve r1 prod --before\n" in told(olga, "csur", "r1")


def test_the_answer_as_data(gated, olga):
    gated.passes(minutes=10)
    assert json.loads(olga("why", "r1", "-o", "json").out) == {
        "kind": "ClusterStagedUpdateRun",
        "namespace": "",
        "name": "r1",
        "state": "Waiting: Approval",
        "reasons": [
            {
                "message": "stage canary waits for approval r1-canary now that its clusters are updated",
                "since": "2025-07-22T21:00:00.000000Z",
                "who": APPROVALS,
                "command": "reconciler approve r1 canary",
            }
        ],
    }


def test_an_approval_that_the_daemon_has_not_taken_up_is_not_asked_for_again(gated, olga):
    gated.passes(minutes=10)
    gated.approves("r1", "canary")
    for asked in (("r1",), ("careq", "r1-canary"), ("crp", "web")):
        said = told(olga, *asked)
        by = "is approved by commit COMMIT of Olga <olga@example.org>, which the daemon has not taken up yet"
        assert f"he gate after stage canary {by}" in said
        assert "  next: reconciler serve\n" in said
        assert "reconciler approve" not in said


def test_a_state_that_the_daemon_has_not_taken_up_is_told(gated, olga):
    gated.commits("runs/r1.yaml", manifests.run("r1", state="Stop"), "Stop r1")
    said = told(olga, "r1").splitlines()
    assert said[1].startswith(
        "Its file says Stop by commit COMMIT (Ada <ada@example.org>: Stop r1), not taken up by the"
    )
    assert said[2] == "  next: reconciler serve"
    gated.passes()
    assert "not taken up" not in told(olga, "r1")


def test_a_stuck_run_that_has_newer_content_beside_it_names_the_run_that_brings_it(rings, olga):
    rings.member("canary").refuses("spec.selector: field is immutable")
    rolls_out(rings, "r1")
    assert "needs a run of its own" not in told(olga, "r1")
    rings.commits("resources/app/settings.yaml", manifests.config_map("value2"), "Mend it")
    rings.passes()
    assert told(olga, "r1").endswith(
        "This run brings snapshot 0, whatever is committed since; snapshot 1 of commit COMMIT (Ada <ada@example.org>: "
        f"Mend it) needs a run of its own, since 2025-07-22T21:00:00Z (AGE). Who can unblock it: {RUNS}.\n"
        "  next: reconciler run create NAME --placement web --strategy rings\n"
    )


def test_a_refused_approval_says_what_to_change(gated, olga):
    gated.approves("r2", "canary")
    gated.passes(minutes=10)
    gated.removes("runs/r1.yaml")
    rolls_out(gated, "r2")
    gated.passes(minutes=10)
    for asked in (("r2",), ("careq", "r2-canary")):
        said = told(olga, *asked)
        assert "an approval is there and does not count: ApprovedBeforeRequested: " in said
        assert "commit it anew with another lastTransitionTime or message" in said
        assert "  next: reconciler approve r2 canary\n" in said


def test_a_stuck_cluster_is_told_in_the_member_s_words(rings, olga):
    rings.member("canary").refuses("exceeded quota: pods")
    rolls_out(rings, "r1")
    rings.passes(minutes=6)
    line = (
        "Cluster canary in stage canary of run r1 is stuck, overdue since 2025-07-22T21:05:00Z: "
        "Refused: Namespace app: exceeded quota: pods; not well either: ConfigMap app/settings; "
        "it is tried again within a minute, and at once after a commit, since 2025-07-22T21:00:00Z (AGE). "
        "Who can unblock it: whoever may merge a fix to resources/ or placements/, and a new run that brings it; "
        "or whoever looks after canary.\n"
        "  next: reconciler describe cluster canary\n"
    )
    assert told(olga, "r1") == "r1 (ClusterStagedUpdateRun): Stuck\n" + line
    assert told(olga, "cluster", "canary") == "canary (MemberCluster): Waiting\n" + line
    assert (
        told(olga, "crp", "web").splitlines()[1]
        == "Run r1: " + line.splitlines()[0][:1].lower() + line.splitlines()[0][1:]
    )


def test_who_can_help_depends_on_what_is_wrong(rings, olga):
    rings.member("canary").is_swapped()
    rolls_out(rings, "r1")
    assert "Who can unblock it: whoever operates the reconciler.\n" in told(olga, "r1")


def test_what_is_wrong_now_is_told_since_when_it_is(rings, olga):
    rings.breaks("canary")
    rolls_out(rings, "r1")
    assert "; it is looked at every second, since 2025-07-22T21:00:00Z (AGE). " in told(olga, "r1")
    rings.passes(minutes=2)
    rings.member("canary").falls_silent()
    rings.passes()
    said = told(olga, "r1")
    assert "Unreachable: no answer; it is tried again, since 2025-07-22T21:02:00Z (AGE). " in said
    assert "Who can unblock it: whoever looks after canary.\n" in said


def test_a_described_cluster_lists_every_object_that_is_not_well(rings, olga):
    rings.member("canary").refuses("exceeded quota: pods")
    rolls_out(rings, "r1")
    said = olga("describe", "cluster", "canary").out
    rows = [re.split(r"\s{2,}", line.strip()) for line in said[said.index("Not Well:") :].splitlines()[3:5]]
    assert rows == [
        ["web", "Namespace app", "Refused", "exceeded quota: pods"],
        ["web", "ConfigMap app/settings", "Refused", "exceeded quota: pods"],
    ]
    rings.heals("canary")
    rings.passes()
    assert "Not Well:" not in olga("describe", "cluster", "canary").out


def test_a_member_that_is_not_configured_is_the_operator_s(rings, olga):
    rings.members["canary"] = None
    rolls_out(rings, "r1")
    said = told(olga, "r1")
    assert "NotConfigured: delivery.clusters.canary is not in the settings; the settings are read when the" in said
    assert "Who can unblock it: whoever operates the reconciler.\n" in said


def test_a_run_that_cannot_be_initialized_names_everything(rings, olga):
    rolls_out(rings, "r1", strategy="none")
    said = told(olga, "r1")
    assert "It cannot be initialized: cannot continue the updateRun" in said
    assert "it is tried again at every commit" in said
    rolls_out(rings, "r2", index=9)
    said = told(olga, "r2")
    assert "this is final, a new run is needed, since 2025-07-22T21:00:00Z (AGE). " in said
    assert said.endswith("  next: reconciler run create NAME --placement web --strategy rings\n")


@pytest.mark.parametrize(("state", "words"), [("Stop", "It is stopped"), ("Initialize", "It is initialized; its")])
def test_a_run_that_shall_not_run_names_the_command(rings, olga, state, words):
    rolls_out(rings, "r1", state=state)
    said = told(olga, "r1")
    assert said.splitlines()[1].startswith(words)
    assert f"; its spec.state is {state}, since 2025-07-22T21:00:00Z (AGE). " in said
    assert said.endswith(f"Who can unblock it: {RUNS}.\n  next: reconciler run start r1\n")


def test_a_run_that_is_over_says_how(rings, olga):
    rings.breaks("east")
    rolls_out(rings, "r1")
    rolls_out(rings, "r2", "value2")
    said = told(olga, "r1")
    assert said.startswith("r1 (ClusterStagedUpdateRun): Superseded\n")
    assert "r2" in said.splitlines()[1]
    rings.heals("east")
    rings.passes()
    assert told(olga, "r2") == (
        "r2 (ClusterStagedUpdateRun): Succeeded\nAll its stages are completed, since 2025-07-22T21:00:00Z (AGE).\n"
    )
    rolls_out(rings, "r3")
    assert "it wrote nothing new: its clusters held this content before" in told(olga, "r3")


def test_going_back_over_what_had_arrived_in_part_is_no_run_that_wrote_nothing(rings, olga):
    rolls_out(rings, "r1")
    rings.member("canary").breaks_after(1)
    rolls_out(rings, "r2", "value2")
    rings.heals("canary")
    rings.removes("runs/r2.yaml")
    rolls_out(rings, "r3", index=0)
    assert rings.conditions("r3")["Succeeded"].startswith("True")
    assert "it wrote nothing new" not in told(olga, "r3")


def test_a_run_as_old_as_the_status_branch_names_the_command_that_starts_the_same(world, olga):
    world.joins("canary", ring="canary")
    strategy = manifests.strategy(manifests.stage("canary"))
    run = {"runs/r1.yaml": manifests.run("r1"), "strategies/rings.yaml": strategy}
    world.commits({"placements/web.yaml": manifests.placement(), "resources/n.yaml": manifests.namespace(), **run})
    said = olga("why", "r1")
    assert said.err == "no status branch yet: reconciler init\n"
    assert "and there is no status branch yet. Who can unblock it: whoever operates the reconciler.\n" in said.out
    assert said.out.endswith("  next: reconciler init\n")
    world.begins()
    world.passes()
    said = told(olga, "r1")
    assert "the run is older than the status branch, so it is not started, since" in said.lower()
    assert said.endswith("  next: reconciler run create NEW-NAME --placement web --strategy rings\n")


def test_a_run_that_the_daemon_has_not_seen(rings, olga):
    rings.passes()
    rings.commits("runs/r1.yaml", manifests.run("r1"))
    said = told(olga, "r1")
    assert said.splitlines()[1].startswith(
        "It came with commit COMMIT (Ada <ada@example.org>: Change runs/r1.yaml), and the "
    )
    assert said.endswith("  next: reconciler serve\n")


def test_a_removed_run_was_withdrawn_and_names_the_way_back(rings, olga):
    rolls_out(rings, "r0")
    rolls_out(rings, "r1", "value2")
    rings.removes("runs/r1.yaml")
    rings.passes()
    said = told(olga, "r1")
    assert "a withdrawal and not a revert: nothing new starts, and clusters keep what they have" in said
    assert said.endswith(f"Who can unblock it: {RUNS}.\n  next: reconciler rollback r1\n")


def test_a_run_that_an_accepted_history_has_not_was_removed_by_none_of_its_commits(person, olga):
    old = person.head()
    rolls_out(person, "r1")
    person.rewrites(old)
    person.commits("README.md", "x\n", message="Approve the budget")
    assert olga("acknowledge-rewrite").code == 0
    person.passes()
    said = told(olga, "r1")
    assert (
        "Its file is not in the rewritten history that was accepted, up to commit COMMIT (Ada <ada@example.org>: "
        in said
    )
    assert "was removed by commit" not in said


def test_a_reverted_run_names_the_rollback(rings, olga):
    rolls_out(rings, "r0")
    rolls_out(rings, "r1", "value2")
    brought = rings.head()
    rings.reverts(brought)
    assert "a revert, and the daemon has not begun to go back yet" in told(olga, "r1")
    rings.passes()
    said = told(olga, "r1")
    assert "a revert: run r1-rollback takes its clusters back" in said
    assert said.endswith("  next: reconciler why r1-rollback\n")
    assert "All its stages are completed" in told(olga, "r1-rollback")


def test_what_is_held_says_so_first(gated, olga):
    gated.rewrites(servers.git(gated.remote, "rev-parse", "main~1"))
    gated.commits("README.md", "x\n")
    for asked in (("r1",), ("cluster", "canary"), ("crp", "web"), ("careq", "r1-canary")):
        lines = told(olga, *asked).splitlines()
        assert lines[0].endswith("): Held")
        assert lines[1].startswith("The whole fleet is held: HistoryRewritten: the recorded head COMMIT is not in the ")
        assert lines[2] == "  next: reconciler acknowledge-rewrite"
    assert olga("why", "r1").err == ""


def test_what_is_held_says_since_when_as_far_as_the_status_branch_tells(gated, olga):
    """A hold that was lifted and came back began when it came back; that of a placement is found among the others."""
    head = gated.head()

    def since():
        return json.loads(olga("why", "r1", "-o", "json").out)["reasons"][0].get("since", "").replace(".000000", "")

    for hours, moment in ((1, "2025-07-22T22:00:00Z"), (3, "2025-07-23T00:00:00Z")):
        gated.rewrites(servers.git(gated.remote, "rev-parse", f"{head}~1"))
        gated.commits("README.md", "x\n")
        assert since() == "", "the daemon has not told it yet"
        gated.clock.never_before(BEGIN + timedelta(hours=hours))
        gated.passes(minutes=5)
        assert since() == moment
        assert f", since {moment} (AGE)." in told(olga, "r1").splitlines()[1]
        gated.rewrites(head)
        gated.passes()
    moment = gated.clock.now()
    for other in ("", "- {path: runs/x.yaml, rule: InvalidYaml, message: no}\n"):
        hold = "- {path: ClusterResourcePlacement web, rule: BehindFence, message: it was set back}\n"
        gated.commits("problems.yaml", f"problems:\n{hold}{other}", on="fleet-status")
        assert since() == timestamp(moment)
        gated.clock.never_before(gated.clock.now() + timedelta(hours=1))
    gated.damaged = True


def test_since_when_it_is_held_is_read_no_further_back_than_it_was_held(gated, olga, monkeypatch):
    rolls_out(gated, "r1")
    gated.damaged = True
    for number in range(20):
        text = f"problems:\n- {{path: runs/{number}.yaml, rule: InvalidYaml, message: no}}\n"
        gated.commits("problems.yaml", text, on="fleet-status")
    log = servers.git(gated.remote, "log", "--format=", "--raw", "--no-abbrev", "fleet-status", "--", "problems.yaml")
    before = {line.split()[3] for line in log.splitlines()}
    hold = "- {path: ClusterResourcePlacement web, rule: BehindFence, message: it was set back}\n"
    gated.commits("problems.yaml", f"problems:\n{hold}", on="fleet-status")
    read, asked = history.read_blobs, []

    def noting(git, blobs, **how):
        wanted = list(blobs)
        asked.extend(wanted)
        return read(git, wanted, **how)

    monkeypatch.setattr(history, "read_blobs", noting)
    assert ", since 2025-07-22T21:00:00Z (AGE)." in told(olga, "r1")
    assert len(before & set(asked)) < 3 < len(before)


# -- files that do not count -----------------------------------------------------------------------------------------


def test_a_run_in_the_wrong_folder_or_outside_all_is_found(rings, olga):
    rings.commits(
        {"placements/r1.yaml": manifests.run("r1"), "r2.yaml": manifests.run("r2"), "runs/r3.yaml": "r3: [\n"}
    )
    said = told(olga, "r1", code=1)
    assert said.startswith(
        "r1 (ClusterStagedUpdateRun): NotCounted\nplacements/r1.yaml declares it and does not count: "
    )
    assert "WrongFolder" in said
    assert told(olga, "r2", code=1) == (
        "r2 (ClusterStagedUpdateRun): NotCounted\n"
        "r2.yaml declares it, and files there are not read: a ClusterStagedUpdateRun belongs below runs/. "
        f"Who can unblock it: {RUNS}.\n  next: git mv r2.yaml runs/\n"
    )
    assert "runs/r3.yaml mentions it and does not count: runs/r3.yaml:2: InvalidYaml" in told(olga, "r3", code=1)
    said = olga("why", "r4")
    assert (said.code, said.out) == (1, "")
    assert (
        said.err
        == 'Error from server (NotFound): clusterstagedupdateruns.placement.kubernetes-fleet.io "r4" not found\n'
    )


def test_a_run_whose_file_broke_later_says_so_first(gated, olga):
    gated.commits("runs/r1.yaml", "kind: [\n")
    gated.passes()
    lines = told(olga, "r1").splitlines()
    assert lines[1].startswith(
        "Its own file is broken, so its last good version counts and it starts nothing new: runs/r1.yaml:2"
    )
    assert any("waits for approval r1-canary" in line for line in lines)


# -- a cluster -------------------------------------------------------------------------------------------------------


def test_a_cluster_waits_for_its_turn(rings, olga):
    rings.breaks("east")
    rolls_out(rings, "r1")
    said = told(olga, "cluster", "west")
    assert "Its turn in stage prod of run r1 has not come: east goes first" in said
    assert said.endswith("  next: reconciler why r1\n")
    assert "It runs snapshot 0 of placement web by run r1" in told(olga, "cluster", "canary")


def test_a_cluster_whose_stage_has_not_begun(gated, olga):
    assert "Its stage prod of run r1 has not begun: stage canary comes first" in told(olga, "cluster/east")


def test_a_cluster_that_nothing_was_brought_to(rings, olga):
    rings.passes()
    assert "Placement web chooses it, and no run has turned to it yet" in told(olga, "cluster", "east")
    pick = {"placementType": "PickFixed", "clusterNames": ["east"]}
    rings.commits("placements/web.yaml", None)
    rings.commits("placements/web.yaml", manifests.placement(policy=pick))
    rings.passes()
    assert "No placement that the daemon has recorded chooses it" in told(olga, "cluster", "west")


# -- a placement -----------------------------------------------------------------------------------------------------


def test_a_change_that_no_run_rolls_out_names_the_command(rings, olga):
    rolls_out(rings, "r0")
    said = told(olga, "crp", "web")
    assert "Every cluster it chooses runs snapshot 0, its newest" in said
    rings.commits("resources/app/settings.yaml", manifests.config_map("value2"), "Set value2")
    rings.passes()
    said = told(olga, "crp", "web")
    made = "Commit COMMIT (Ada <ada@example.org>: Set value2) made snapshot 1"
    assert f"{made}, and no run rolls it out to canary, east, west" in said
    assert "  next: reconciler run create NAME --placement web --strategy rings --snapshot 1\n" in said


def test_a_revert_of_resources_moves_no_run(rings, olga):
    rolls_out(rings, "r0")
    rings.commits("resources/app/settings.yaml", manifests.config_map("value2"), "Set value2")
    rolls_out(rings, "r1")
    rings.reverts(servers.git(rings.remote, "log", "--format=%H", "--grep", "Set value2", "main"))
    rings.passes()
    said = told(olga, "crp", "web")
    assert "with the content of snapshot 0; a revert of resources moves no run, and no run rolls it out to" in said


def test_commits_that_left_the_content_as_it_was_made_no_snapshot(rings, olga):
    rings.commits("resources/app/settings.yaml", "# only a comment\n" + manifests.config_map("value1"))
    rings.passes()
    assert "1 later commit(s) left what it selects as it was (equal hash), so they made none" in told(olga, "crp/web")
    rings.commits("resources/app/settings.yaml", "kind: [\n")
    rings.passes()
    assert "resources/app/settings.yaml, which it selects, is broken: no new snapshot until" in told(olga, "crp/web")


def test_a_placement_that_is_refused_or_selects_nothing(rings, olga):
    rings.commits(
        "placements/web.yaml",
        manifests.placement(strategy={"type": "External", "applyStrategy": {"type": "ReportDiff"}}),
    )
    rings.passes()
    said = told(olga, "crp", "web")
    assert said.startswith(
        "web (ClusterResourcePlacement): Refused\nNo run of it can be initialized: placements/web.yaml:"
    )
    rings.commits(
        "placements/none.yaml",
        manifests.placement(
            "none", resourceSelectors=[{"group": "", "version": "v1", "kind": "Namespace", "name": "x"}]
        ),
    )
    assert "It selects nothing that is in resources/, so there is no snapshot" in told(olga, "crp", "none")


# -- an approval -----------------------------------------------------------------------------------------------------


def test_an_approval_waits_is_early_accepted_or_unused(gated, olga):
    assert told(olga, "careq", "r1-canary").startswith("r1-canary (ClusterApprovalRequest): Waiting\n")
    assert told(olga, "careq", "r1-before-prod") == (
        "r1-before-prod (ClusterApprovalRequest): NotOpen\n"
        "The gate before stage prod of run r1 is not open yet.\n  next: reconciler why r1\n"
    )
    gated.approves("r1", "prod", name="r1-before-prod")
    assert "the approval that is there counts for nothing" in told(olga, "careq", "r1-before-prod")
    gated.approves("r1", "canary")
    gated.passes(minutes=10)
    assert told(olga, "careq", "r1-canary") == (
        "r1-canary (ClusterApprovalRequest): Accepted\n"
        "The gate after stage canary of run r1 was approved by Olga <olga@example.org> in commit COMMIT, "
        "since 2025-07-22T21:00:00Z (AGE).\n"
    )
    gated.approves("r7", "canary")
    assert "No gate that the daemon knows has this name" in told(olga, "careq", "r7-canary")
    gated.removes("runs/r1.yaml")
    gated.passes()
    assert "Run r1 is over (Withdrawn): the gate before stage prod of run r1 is never passed" in told(
        olga, "careq", "r1-before-prod"
    )


def test_what_why_is_not_asked_of(rings, olga):
    said = olga("why", "crs", "web-0-snapshot")
    assert said.code == 2
    assert "why is asked of runs, clusters, placements and approvals" in said.err
    assert olga("why", "r1", "-o", "xml").code == 2


def test_a_removed_placement_says_what_becomes_of_what_it_placed(rings, olga):
    rolls_out(rings, "r1")
    rings.removes("placements/web.yaml")
    rings.passes()
    said = told(olga, "crp", "web")
    assert (
        "once the grace period (removalGracePeriodSeconds) is over, what it placed is removed from canary, east" in said
    )
    assert "next: git revert COMMIT" in said
    assert "the placement was removed by commit COMMIT" in told(olga, "cluster", "east")
    rings.passes(minutes=15)
    assert "nothing of it is left on any member" in told(olga, "crp", "web")
    assert "chooses it" not in told(olga, "cluster", "east")


def test_a_broken_file_that_may_hold_what_a_placement_selects_is_named(rings, olga):
    rolls_out(rings, "r1")
    rings.commits("resources/app/more.yaml", "kind: Namespace\nmetadata: {name: app\n")
    rings.passes()
    said = told(olga, "crp", "web")
    assert "No run of its newest content can be initialized: a broken file names what placement web selects: " in said
    assert "resources/app/more.yaml:" in said
    assert "  next: reconciler validate\n" in said


def test_an_abandoned_placement_says_until_when_its_objects_are_its_own(rings, olga):
    rolls_out(rings, "r1")
    abandoning = {"type": "External", "deleteStrategy": {"propagationPolicy": "Abandon"}}
    rings.commits("placements/web.yaml", manifests.placement(strategy=abandoning))
    rings.passes()
    rings.removes("placements/web.yaml")
    rings.passes()
    names = ", ".join(sorted(rings.members))
    said = told(olga, "crp", "web")
    assert f"is over, what it placed stays on {names} and is let go of, unless it is added again before" in said
    assert "next: git revert COMMIT" in said
    rings.member("east").falls_silent()
    rings.passes(minutes=15)
    going = "What placement web put on cluster east is being let go of: Unreachable: no answer, since "
    for asked in (("crp", "web"), ("cluster", "east")):
        said = told(olga, *asked)
        assert going in said
        assert said.endswith("whoever looks after east.\n  next: reconciler describe cluster east\n")
    assert "once the grace period" not in told(olga, "crp", "web")
    rings.heals("east")
    rings.passes(minutes=1)
    assert "what it placed was let go of and stays where it is, since 2025-07-22T21:15:00Z" in told(olga, "crp", "web")
    assert "What placement web had put there was let go of" in told(olga, "cluster", "east")


def test_a_removal_that_the_daemon_has_not_seen_yet_is_told_by_its_own_commit_and_policy(rings, olga):
    rolls_out(rings, "r1")
    abandoning = {"type": "External", "deleteStrategy": {"propagationPolicy": "Abandon"}}
    rings.commits("placements/web.yaml", manifests.placement(strategy=abandoning))
    commit = rings.removes("placements/web.yaml")
    said = olga("why", "crp", "web").out
    assert f"next: git revert {commit[:7]}" in said
    assert "and is let go of, unless it is added again before" in said
