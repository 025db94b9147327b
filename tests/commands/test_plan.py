"""`plan` says before a merge what the daemon does after it."""

import json
import random
import re

import pytest
import yaml

from tests import manifests, servers

RUN = "runs/r1.yaml"


def branches_off(world, changes, name="feature"):
    world.branches(name)
    world.commits(changes, on=name, message="Propose")


def foreseen(olga, *arguments, code=0, **where):
    said = olga("plan", *arguments, "-o", "json", **where)
    assert said.code == code, said.out + said.err
    return json.loads(said.out)


# -- what it says -----------------------------------------------------------------------------------------------------


TEXT = """\
feature on top of main HASH: 1 run(s)

Run:         r2 (ClusterStagedUpdateRun, runs/r2.yaml:1)
Outcome:     starts as soon as it is seen
Placement:   web
Snapshot:    2 (HASH), new with this change
Strategy:    rings
Supersedes:  r1
Stage 1: canary, 1 cluster(s), 1 at the same time
    Cluster  Now                       Then
    -------  ---                       ----
    canary   snapshot 1, not complete  snapshot 2
  after: TimedWait 10m0s
Stage 2: prod, 2 cluster(s), 1 at the same time
  before: Approval
    Cluster  Now      Then
    -------  ---      ----
    east     nothing  snapshot 2
    west     nothing  snapshot 2
From nothing to snapshot 2, on east, west:
  added  v1 ConfigMap app/more
  added  v1 ConfigMap app/settings
  added  v1 Namespace app
From snapshot 1 to snapshot 2, on canary:
  removed  v1 Secret app/word
  changed  v1 ConfigMap app/settings
  added  v1 ConfigMap app/more
"""

SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "word", "namespace": "app"},
    "stringData": {"a": "hunter2"},
}


def test_a_pull_request_reads_stages_gates_and_what_changes(rings, olga):
    strategy = manifests.strategy(manifests.stage("canary", wait="10m"), manifests.stage("prod", before=True))
    rings.commits({"strategies/rings.yaml": strategy, "resources/app/secret.yaml": manifests.text(SECRET)})
    rings.member("canary").refuses("no room")
    rings.commits(RUN, manifests.run("r1"))
    rings.passes()
    changes = {
        "resources/app/secret.yaml": None,
        "resources/app/more.yaml": manifests.config_map("x", "more"),
        "resources/app/settings.yaml": manifests.config_map("value2"),
        "runs/r2.yaml": manifests.run("r2"),
    }
    branches_off(rings, changes)
    said = olga("plan", "--ref", "feature")
    assert (said.code, said.err) == (0, "")
    assert re.sub(r"\b[0-9a-f]{7}\b", "HASH", said.out) == TEXT
    data = olga("plan", "--ref", "feature", "-o", "json").out
    assert "hunter2" not in data + said.out
    assert yaml.safe_load(olga("plan", "--ref", "feature", "-o", "yaml").out) == json.loads(data)


def test_a_content_that_was_there_before_says_so(rings, olga):
    for number, value in enumerate(("value1", "value2")):
        rings.commits(
            {"resources/app/settings.yaml": manifests.config_map(value), RUN: None} if number else {RUN: None}
        )
        rings.commits(f"runs/v{number}.yaml", manifests.run(f"v{number}"))
        rings.passes()
    branches_off(rings, {"resources/app/settings.yaml": manifests.config_map("value1"), RUN: manifests.run("r1")})
    [run] = foreseen(olga, "--ref", "feature")["runs"]
    assert (run["snapshot"]["index"], run["snapshot"]["equals"], run["snapshot"]["commit"]) == (2, 0, None)
    assert run["differences"] == [
        {
            "since": 1,
            "clusters": ["canary", "east", "west"],
            "removed": [],
            "changed": ["v1 ConfigMap app/settings"],
            "added": [],
            "unknown": None,
        }
    ]


def test_a_run_that_would_be_refused_says_why_in_its_condition_s_words(rings, olga):
    branches_off(rings, {RUN: manifests.run("r1", strategy="none")})
    [run] = foreseen(olga, "--ref", "feature", code=4)["runs"]
    assert run["outcome"] == "Refused"
    rings.merges("feature")
    rings.passes()
    assert rings.message("r1", "Initialized") == run["problem"]
    assert "referenced updateStrategy not found" in run["problem"]
    assert f"refused: {run['problem']}" in olga("plan").out


def test_a_broken_file_of_the_change_is_invalid_input(rings, olga):
    branches_off(rings, {RUN: manifests.run("r1"), "clusters/new.yaml": "kind: MemberCluster\n"})
    data = foreseen(olga, "--ref", "feature", code=2)
    assert data["problems"][0].startswith("clusters/new.yaml:1: ")
    assert [one["name"] for one in data["runs"]] == ["r1"]
    rings.commits("clusters/old.yaml", "kind: MemberCluster\n")
    assert foreseen(olga, "--ref", "main")["problems"] == [], "what was broken before is not this change's"


def test_a_run_that_only_initializes_or_is_stopped_names_the_next_command(rings, olga):
    branches_off(rings, {RUN: manifests.run("r1", state="Initialize")})
    said = olga("plan", "--ref", "feature")
    assert "Outcome:    is initialized only; next: reconciler run start r1\n" in said.out
    rings.merges("feature")
    rings.passes()
    [run] = foreseen(olga)["runs"]
    assert (run["outcome"], run["state"]) == ("Initializes", "Initialize")
    branches_off(rings, {RUN: manifests.run("r1", state="Run")}, "go")
    assert foreseen(olga, "--ref", "go")["runs"][0]["outcome"] == "Starts"
    rings.passes()
    rings.commits("runs/r2.yaml", manifests.run("r2", state="Stop"))
    [first, second] = foreseen(olga, code=0)["runs"]
    assert (first["name"], second["outcome"], second["supersedes"]) == ("r1", "Stopped", ["r1"])


def test_only_the_runs_asked_for_and_only_those_not_started(rings, olga):
    rings.commits(RUN, manifests.run("r1"))
    rings.passes()
    rings.commits("runs/r2.yaml", manifests.run("r2", state="Initialize"))
    assert [one["name"] for one in foreseen(olga)["runs"]] == ["r2"]
    said = olga("plan", "r1")
    assert (said.code, said.err) == (0, "run r1 has started or ended already: reconciler tree r1\n")
    assert olga("plan", "r2", "-o", "json").out == olga("plan", "-o", "json").out
    said = olga("plan", "r9", "-n", "app")
    assert (said.code, said.err) == (2, "reconciler: there is no run r9 in namespace app\n")


def test_without_a_status_branch_every_run_is_foreseen(world, olga):
    world.joins("canary", ring="canary")
    world.commits(
        {
            "resources/app/namespace.yaml": manifests.namespace(),
            "placements/web.yaml": manifests.placement(),
            "strategies/rings.yaml": manifests.strategy(manifests.stage("canary")),
            RUN: manifests.run("r1"),
        }
    )
    said = olga("plan")
    assert (said.code, said.err) == (0, "no status branch yet: reconciler init\n")
    assert "canary   nothing  snapshot 0" in said.out


# -- on disk ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def clone(rings, tmp_path):
    """A olga's clone."""
    return servers.clone_of(rings.remote, tmp_path / "clone")


def test_files_on_disk_count_as_if_they_were_merged(rings, clone, olga):
    """New, changed and removed files, committed or not; what main got meanwhile is in it, and stays."""
    servers.git(clone, "checkout", "--quiet", "-b", "feature")
    servers.commit(clone, {"resources/app/settings.yaml": manifests.config_map("value2")})
    (clone / "runs").mkdir()
    (clone / RUN).write_text(manifests.run("r1"))
    rings.commits("clusters/north.yaml", manifests.cluster("north", ring="prod"))
    data = foreseen(olga, where=clone)
    assert (data["merged"], data["base"]) == ("the work tree", rings.head())
    [foreseen_run] = data["runs"]
    assert [one["name"] for one in foreseen_run["stages"][1]["clusters"]] == ["east", "north", "west"]
    assert foreseen_run["snapshot"]["index"] == 1
    (clone / "clusters" / "west.yaml").unlink()
    [foreseen_run] = foreseen(olga, where=clone / "runs")["runs"]
    assert [one["name"] for one in foreseen_run["stages"][1]["clusters"]] == ["east", "north"]
    rings.commits("clusters/west.yaml", manifests.cluster("west", ring="prod", colour="blue"))
    said = olga("plan", where=clone)
    assert said.code == 2
    assert said.err == (
        "reconciler: what is here conflicts with main in clusters/west.yaml: git pull --rebase origin main\n"
    )


def test_what_both_sides_changed_is_planned_as_git_merges_it(rings, olga):
    """A cluster's label is changed here, its file moved and commented there: it is one cluster, in its new stage."""
    rings.commits("clusters/east.yaml", manifests.cluster("east", ring="prod", order="1"))
    text = rings.text("main", "clusters/east.yaml")
    branches_off(rings, {"clusters/east.yaml": text.replace("prod", "canary"), RUN: manifests.run("r1")})
    rings.commits({"clusters/east.yaml": None, "clusters/eu/east.yaml": f"# moved\n{text}"})
    objects = rings.remote / "objects"
    before = sorted(objects.rglob("*"))
    [run] = foreseen(olga, "--ref", "feature")["runs"]
    assert [[one["name"] for one in stage["clusters"]] for stage in run["stages"]] == [["canary", "east"], ["west"]]
    assert sorted(objects.rglob("*")) == before, "a plan leaves nothing in the repository"


def test_a_merge_that_git_leaves_to_a_person_is_no_plan(rings, olga):
    text = rings.text("main", "clusters/east.yaml")
    branches_off(rings, {"clusters/east.yaml": text.replace("prod", "none"), "b.md": "1\n", RUN: manifests.run("r1")})
    rings.commits({"clusters/east.yaml": text.replace("prod", "other"), "b.md": "2\n"})
    said = olga("plan", "--ref", "feature")
    assert (said.code, said.out) == (2, "")
    assert said.err == "reconciler: feature conflicts with main in b.md, clusters/east.yaml: rebase it first\n"
    told = olga("plan", "--ref", "feature", "-o", "json")
    assert (told.code, told.err) == (2, said.err)
    data = json.loads(told.out)
    assert data["conflicts"] == ["b.md", "clusters/east.yaml"]
    assert [f"reconciler: {one}\n" for one in data["problems"]] == [said.err]
    assert (data["merged"], data["base"], data["runs"], data["leaving"]) == ("feature", rings.head(), [], [])
    assert yaml.safe_load(olga("plan", "--ref", "feature", "-o", "yaml").out) == data
    rings.branches("sound")
    assert foreseen(olga, "--ref", "sound").keys() == data.keys()


def test_a_local_branch_goes_before_the_remote_s_and_any_commit_will_do(rings, clone, olga):
    servers.git(clone, "checkout", "--quiet", "-b", "feature")
    servers.commit(clone, {RUN: manifests.run("mine")})
    branches_off(rings, {RUN: manifests.run("theirs")})
    for ref, name in (("feature", "mine"), ("HEAD", "mine"), ("HEAD~1", None)):
        found = foreseen(olga, "--ref", ref, where=clone)["runs"]
        assert [one["name"] for one in found] == ([name] if name else [])
    servers.git(clone, "checkout", "--quiet", "main")
    servers.git(clone, "branch", "--quiet", "-D", "feature")
    for where in (str(clone), rings.remote.as_uri()):
        assert [one["name"] for one in foreseen(olga, "--ref", "feature", where=where)["runs"]] == ["theirs"]
    said = olga("plan", "--ref", "nowhere", where=clone)
    assert (said.code, said.err) == (2, "reconciler: there is no branch or commit nowhere\n")
    assert olga("plan", "--ref=-x", where=clone).code == 2


def test_a_branch_of_another_repository_is_no_proposal(rings, olga, tmp_path):
    other = servers.git(rings.remote, "commit-tree", "-m", "x", servers.git(rings.remote, "mktree"))
    said = olga("plan", "--ref", other)
    assert said.code == 2
    assert "no commit in common" in said.err


# -- it agrees with what happens --------------------------------------------------------------------------------------


def _content(chance):
    return {"resources/app/settings.yaml": manifests.config_map(f"value{chance.randrange(3)}")}


def _strategy(chance):
    stages = [manifests.stage("canary", maxConcurrency=chance.choice([1, "50%"]))]
    stages += [
        manifests.stage(
            "prod", approval=chance.random() < 0.5, sortingLabelKey=chance.choice([None, None, None, "order"])
        )
    ]
    stages = [{key: value for key, value in one.items() if value is not None} for one in stages]
    return {"strategies/rings.yaml": manifests.strategy(*stages[: chance.choice([1, 2, 2, 2, 2, 2])])}


def _cluster(chance):
    name = chance.choice(["north", "east"])
    labels = {"ring": chance.choice(["prod", "prod", "prod", "none"]), "order": str(chance.randrange(3))}
    return {f"clusters/{name}.yaml": chance.choice([None, manifests.cluster(name, **labels)])}


def _placement(chance):
    names = chance.choice([None, {"placementType": "PickFixed", "clusterNames": ["canary", "west"]}])
    return {"placements/web.yaml": manifests.placement(policy=names or {"placementType": "PickAll"})}


def _broken(chance):
    return {chance.choice(["strategies/rings.yaml", "resources/app/settings.yaml", "clusters/east.yaml"]): "kind: [\n"}


KINDS = [_content] * 6 + [_strategy, _strategy, _cluster, _cluster, _cluster, _placement, _broken]


def _run(chance, number):
    how = {
        "index": chance.choice([None, None, None, 0, 0, 1, 7]),
        "state": chance.choice([None, None, None, "Initialize", "Stop"]),
    }
    return {f"runs/r{number}.yaml": manifests.run(f"r{number}", **how)}


def _commitless(text):
    return re.sub(r"\b[0-9a-f]{7}\b", "COMMIT", text)


@pytest.mark.parametrize("seed", range(12))
def test_plan_and_the_run_after_the_merge_agree(rings, seed, olga):
    """Random histories: main and the branch both move on, the branch is merged or squashed, the daemon makes a pass."""
    chance = random.Random(seed)
    for number in range(3):
        name = f"feature{number}"
        rings.branches(name)
        touched = {}
        for _ in range(chance.randrange(1, 4)):
            touched |= chance.choice(KINDS)(chance)
        touched = {path: one for path, one in touched.items() if one is not None or _is_there(rings, path)}
        rings.commits(touched | _run(chance, number), on=name, message="Propose")
        aside = {path: one for path, one in chance.choice(KINDS)(chance).items() if path not in touched}
        aside = {path: one for path, one in aside.items() if one is not None or _is_there(rings, path)}
        if chance.random() < 0.5 and aside:
            rings.commits(aside)
            rings.passes()
        _compare(rings, olga, name, f"r{number}", squash=chance.random() < 0.5)


def _edited(world, branch, chance, side):
    """Change one file in one place, or move it: git can merge that with what the other side does, or cannot."""
    folders = ("clusters", "resources", "strategies")
    listed = servers.git(world.remote, "ls-tree", "-r", "--name-only", branch, *folders).splitlines()
    path = chance.choice(listed)
    text = world.text(branch, path)
    return chance.choice(
        [
            {path: f"# {side}\n{text}"},
            {path: f"{text}# {side}\n"},
            {path: text.replace("prod", "canary")},
            {path: None, path.replace(".yaml", f"-{side}.yaml"): text},
        ]
    )


def _git_merges(world, clone, branch, *, squash):
    """Merge as a person does it, in a work tree, and push; tell whether git could."""
    servers.git(clone, "fetch", "--quiet", "origin")
    servers.git(clone, "checkout", "--quiet", "-B", "main", "origin/main")
    moment = {"GIT_COMMITTER_DATE": f"@{int(world.clock.now().timestamp())} +0000"}
    try:
        servers.git(clone, "merge", "--squash" if squash else "--no-ff", f"origin/{branch}", environment=moment)
    except AssertionError as error:
        if "CONFLICT" not in str(error):
            raise
        servers.git(clone, "reset", "--quiet", "--hard", "origin/main")
        return False
    if squash:
        servers.git(clone, "commit", "--quiet", "--allow-empty", "-m", f"Squash {branch}", environment=moment)
    servers.git(clone, "push", "--quiet", "origin", "main")
    return True


@pytest.mark.parametrize("seed", range(8))
def test_plan_of_a_diverged_branch_and_the_run_after_git_merged_it_agree(rings, seed, olga, tmp_path):
    """Both sides change, move and remove the same few files; what git cannot merge, plan does not foresee either."""
    chance, clone, outcomes = random.Random(seed), servers.clone_of(rings.remote, tmp_path / "clone"), set()
    for number in range(4):
        name, run, squash = f"feature{number}", f"r{number}", chance.random() < 0.5
        rings.branches(name)
        rings.commits(_run(chance, number), on=name, message="Propose")
        for _ in range(2):
            rings.commits(_edited(rings, name, chance, f"theirs{number}"), on=name)
            rings.commits(_edited(rings, "main", chance, f"ours{number}"))
        rings.passes()
        said = olga("plan", run, "--ref", name, "-o", "json")
        merged = _git_merges(rings, clone, name, squash=squash)
        outcomes.add(merged)
        if merged:
            _agrees(rings, run, said)
        else:
            assert (said.code, json.loads(said.out)["runs"]) == (2, [])
            assert f"{name} conflicts with main in " in said.err
    assert True in outcomes, "a history that git can merge nothing of says little"


def _is_there(world, path):
    return path in servers.git(world.remote, "ls-tree", "-r", "--name-only", "main").splitlines()


def _compare(world, olga, branch, run, *, squash):
    said = olga("plan", run, "--ref", branch, "-o", "json")
    world.merges(branch, squash=squash)
    _agrees(world, run, said)


def _agrees(world, run, said):
    """What was said before the merge is what a pass after it records."""
    assert said.code in (0, 2, 4), said.err
    [wanted] = json.loads(said.out)["runs"]
    world.passes()
    found = world.run(run)
    if wanted["snapshot"] is None:
        assert found.pin is None
        assert _commitless(wanted["problem"]) == _commitless(found.failure or found.end_message)
        assert world.started(run) == []
        return
    assert (wanted["snapshot"]["index"], wanted["snapshot"]["hash"]) == (found.pin.snapshot_index, found.pin.hash)
    assert [(one["name"], one["maxConcurrency"], [cluster["name"] for cluster in one["clusters"]])
            for one in wanted["stages"]] == [
        (one.name, one.limit, [cluster.name for cluster in one.clusters]) for one in found.pin.stages
    ]  # fmt: skip
    assert [[task["type"] for task in one["after"]] for one in wanted["stages"]] == [
        [task.type for task in one.after] for one in found.pin.stages
    ]
    assert wanted["deletions"] == [one.name for one in found.pin.deletions]
    assert (found.started_at is not None) == (wanted["outcome"] == "Starts")
    superseded = {one.key.name for one in world.runs() if f"run {run} " in f"{one.end_message} "}
    assert set(wanted["supersedes"]) >= superseded


def test_a_revert_is_told_before_it_is_merged(rings, olga):
    rings.commits(RUN, manifests.run("r1"))
    rings.passes()
    commit = rings.commits(
        {"resources/app/settings.yaml": manifests.config_map("v2"), "runs/r2.yaml": manifests.run("r2")}
    )
    rings.passes()
    rings.branches("undo")
    back = {"resources/app/settings.yaml": manifests.config_map("value1"), "runs/r2.yaml": None}
    rings.commits(back, message=f'Revert "it"\n\nThis reverts commit {commit}.', on="undo")
    [parting] = foreseen(olga, "--ref", "undo")["leaving"]
    assert (parting["outcome"], parting["subject"]) == ("RolledBack", "r2")
    assert "RolledBack: r2: by r2-rollback, at once" in olga("plan", "--ref", "undo").out
    rings.merges("undo")
    rings.passes()
    stages = rings.run("r2-rollback").stages
    assert parting["clusters"] == {one.name: one.restores.index for stage in stages for one in stage.clusters}
    assert (
        "RolledBack: r2: by r2-rollback, at once" in olga("plan", "--ref", "undo").out or not foreseen(olga)["leaving"]
    )


def test_a_withdrawal_and_a_removal_are_told_before_they_are_merged(rings, olga):
    rings.commits(
        "strategies/rings.yaml", manifests.strategy(manifests.stage("canary", approval=True), manifests.stage("prod"))
    )
    rings.commits(RUN, manifests.run("r1"))
    rings.passes()
    branches_off(rings, {RUN: None, "placements/web.yaml": None})
    found = {one["outcome"]: one for one in foreseen(olga, "--ref", "feature")["leaving"]}
    assert found.keys() == {"Withdrawn", "Removed"}
    assert found["Removed"]["clusters"] == {"canary": None}
    assert "is removed from canary; so is everything else in namespace app" in olga("plan", "--ref", "feature").out


def test_a_cluster_that_left_and_came_again_is_not_told_to_lose_what_it_has(rings, olga):
    rings.commits(RUN, manifests.run("r1"))
    rings.passes()
    rings.leaves("east")
    rings.joins("east", ring="prod")
    rings.passes()
    branches_off(rings, {RUN: None, "placements/web.yaml": None})
    (found,) = (one for one in foreseen(olga, "--ref", "feature")["leaving"] if one["outcome"] == "Removed")
    assert found["clusters"] == {"canary": None, "west": None}
    rings.merges("feature")
    rings.passes(minutes=30)
    assert rings.values() == {"canary": None, "east": "value1", "west": None}


def test_an_abandoned_placement_is_told_to_leave_its_objects(rings, olga):
    abandoning = {"type": "External", "deleteStrategy": {"propagationPolicy": "Abandon"}}
    rings.commits({"placements/web.yaml": manifests.placement(strategy=abandoning), RUN: manifests.run("r1")})
    rings.passes()
    branches_off(rings, {RUN: None, "placements/web.yaml": None})
    (found,) = (one for one in foreseen(olga, "--ref", "feature")["leaving"] if one["outcome"] == "Removed")
    names = ", ".join(sorted(rings.members))
    assert found["message"].endswith(f"it lets go of what it placed on {names}; the objects stay")
    assert found["clusters"] == {}


ARCHIVED = "it is over (Succeeded): nothing changes on its clusters, and `get --all` still shows it"
KEPT = "it is added again within the grace period: what it placed is not removed from"


def test_what_else_leaves_or_comes_back_is_told_in_a_line_before_it_is_merged(rings, olga):
    """A run that was over, a cluster that a run would still come to, a placement that is there again in time."""
    rings.commits(RUN, manifests.run("r1"))
    rings.passes()
    gated = manifests.strategy(manifests.stage("canary", approval=True), manifests.stage("prod"))
    rings.commits({"strategies/rings.yaml": gated, "runs/r2.yaml": manifests.run("r2")})
    rings.passes()
    branches_off(rings, {RUN: None, "clusters/east.yaml": None})
    assert olga("plan", "--ref", "feature").out.splitlines()[1:] == [
        f"  Archived: ClusterStagedUpdateRun r1: {ARCHIVED}",
        "  Leaves: MemberCluster east: it keeps what it has; skipped from then on by r2",
    ]
    rings.merges("feature")
    rings.approves("r2", "canary")
    rings.passes()
    assert (rings.run("r2").end, rings.started("r2"), rings.value("east")) == (
        "Succeeded",
        ["canary", "west"],
        "value1",
    )
    branches_off(rings, {"clusters/canary.yaml": None}, "more")
    assert olga("plan", "--ref", "more").out.splitlines()[1:] == [
        "  Leaves: MemberCluster canary: it keeps what it has"
    ]
    rings.removes("placements/web.yaml")
    rings.passes(minutes=9)
    branches_off(rings, {"placements/web.yaml": manifests.placement()}, "again")
    assert olga("plan", "--ref", "again").out.splitlines()[1:] == [
        f"  Kept: ClusterResourcePlacement web: {KEPT} canary, west",
    ]
    rings.merges("again")
    rings.passes(minutes=30)
    assert rings.values() == dict.fromkeys(("canary", "east", "west"), "value1")
    assert foreseen(olga)["leaving"] == []


def test_several_runs_of_one_change_are_refused_without_a_commit_that_there_is_not(rings, olga):
    branches_off(rings, {RUN: manifests.run("r1"), "runs/r2.yaml": manifests.run("r2")})
    problems = {one["problem"] for one in foreseen(olga, "--ref", "feature", code=4)["runs"]}
    assert all("client error: the merge brings more than one run for placement `web`" in one for one in problems)


# -- while something is held ------------------------------------------------------------------------------------------


def _rewritten(world):
    world.rewrites(servers.git(world.remote, "rev-parse", "main~1"))
    world.commits("README.md", "x\n")


def _stale(world):
    world.rewrites(servers.git(world.remote, "rev-parse", "main~1"))


def _lost(world):
    servers.git(world.remote, "update-ref", "-d", "refs/heads/fleet-status")


@pytest.mark.parametrize(
    ("happens", "rule", "first"),
    [
        (_rewritten, "HistoryRewritten", "; first: reconciler acknowledge-rewrite"),
        (_stale, "StaleHead", "until it catches up"),
        (_lost, "StatusLost", ":refs/heads/fleet-status"),
    ],
)
def test_while_the_whole_fleet_is_held_nothing_is_foreseen(rings, olga, happens, rule, first):
    """What would be derived then is not what comes once the hold is over, and nothing is carried out before."""
    rings.commits(RUN, manifests.run("r1", state="Initialize"))
    rings.passes()
    before = foreseen(olga)
    assert before["holds"] == []
    happens(rings)
    said = olga("plan")
    assert (said.code, said.out) == (4, "")
    [told] = said.err.splitlines()
    assert told.startswith(f"reconciler: nothing can be foreseen: the whole fleet is held: {rule}: ")
    assert told.endswith(first)
    structured = olga("plan", "-o", "json")
    assert (structured.code, structured.err) == (4, said.err)
    data = json.loads(structured.out)
    assert data.keys() == before.keys()
    [hold] = data["holds"]
    assert (hold["subject"], hold["rule"]) == (None, rule)
    assert told.endswith(f"; first: {hold['command']}" if hold["command"] else hold["message"])
    assert [f"reconciler: {one}" for one in data["problems"]] == [told]
    assert (data["merged"], data["base"], data["runs"]) == (None, rings.head(), [])


def test_a_run_of_a_placement_that_is_held_would_do_nothing(rings, olga):
    rings.passes()
    text = "problems:\n- path: ClusterResourcePlacement web\n  rule: BehindFence\n  message: it was set back\n"
    rings.commits("problems.yaml", text, on="fleet-status")
    rings.damaged = True
    branches_off(rings, {RUN: manifests.run("r1")})
    data = foreseen(olga, "--ref", "feature", code=4)
    [run] = data["runs"]
    assert run["problem"] == "ClusterResourcePlacement web is held: BehindFence: it was set back"
    wanted = {"subject": "ClusterResourcePlacement web", "rule": "BehindFence", "message": "it was set back"}
    assert data["holds"] == [wanted | {"command": None}]


def test_an_approval_of_the_change_that_will_not_count_is_warned_of(rings, olga):
    strategy = manifests.strategy(manifests.stage("canary", approval=True), manifests.stage("prod"))
    rings.commits("strategies/rings.yaml", strategy)
    early = manifests.approval("r1-canary")
    branches_off(rings, {RUN: manifests.run("r1"), "approvals/a.json": early})
    data = foreseen(olga, "--ref", "feature")
    [warning] = data["warnings"]
    assert warning.startswith("approvals/a.json:8: ApprovedBeforeRequested: ")
    assert f"  warning: {warning}\n" in olga("plan", "--ref", "feature").out
    rings.commits(RUN, manifests.run("r1"))
    assert foreseen(olga, "--ref", "main")["warnings"] == []
    rings.passes()
    branches_off(rings, {"approvals/a.json": early}, "asked")
    assert foreseen(olga, "--ref", "asked")["warnings"] == [], "the gate is open by now"
    rings.merges("asked")
    rings.passes()
    assert rings.conditions("r1")["Succeeded"].startswith("True")
