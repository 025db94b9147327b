"""Files that cannot be read, or must not count: they cost only themselves."""

import pytest

from reconciler.daemon.derive import FILE_LIMIT
from tests import manifests
from tests.manifests import run, stage, strategy
from tests.world import World

BROKEN = "kind: [\n"
PREFIX = "cannot continue the updateRun: failed to validate the updateRun: "
CLIENT = PREFIX + "failed to process the request due to a client error: "


def test_a_broken_file_beside_a_good_run_costs_only_itself(rings: World):
    rings.commits({"runs/web-1.yaml": run("web-1"), "runs/broken.yaml": BROKEN, "resources/x.yaml": BROKEN})
    rings.passes()
    assert rings.run("web-1").end == "Succeeded"
    assert [one.split(":")[0] for one in rings.problems()] == ["resources/x.yaml", "runs/broken.yaml"]


def test_a_run_whose_own_file_breaks_starts_nothing_new_until_it_is_mended(rings: World):
    rings.breaks("east")
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    rings.commits("runs/web-1.yaml", BROKEN)
    rings.heals("east")
    rings.passes(minutes=10)
    assert rings.running() == set()
    assert rings.values() == {"canary": "value1", "east": "value1", "west": None}
    assert "the run's own file is broken, so it starts nothing new" in rings.status().files["README.md"].decode()
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    assert rings.run("web-1").end == "Succeeded"


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("strategies/rings.yaml", "ClusterStagedUpdateStrategy rings"),
        ("placements/web.yaml", "ClusterResourcePlacement web"),
        ("clusters/east.yaml", "MemberCluster east"),
        ("resources/app/settings.yaml", "ConfigMap app/settings"),
    ],
)
def test_initialization_never_builds_on_a_last_good_version(rings: World, path: str, key: str):
    """It fails with the file and its line, and is tried again when the file can be read."""
    good = rings.text(rings.head(), path)
    rings.commits(path, BROKEN)
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    assert rings.conditions("web-1") == {"Initialized": "False UpdateRunInitializedFailed"}
    assert rings.message("web-1", "Initialized").startswith(f"{PREFIX}InputBroken: {key} is in a broken file: {path}:")
    assert rings.writes("canary") == []
    rings.commits(path, good)
    rings.passes()
    assert rings.run("web-1").end == "Succeeded"


BAD_MORE = manifests.config_map("more", "more").replace("key:", "\tkey:")
"""A manifest of the namespace that is placed, with a tab where YAML allows none."""


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"resources/app/more.yaml": BAD_MORE}, id="not YAML"),
        pytest.param({"resources/app/more.yaml": BAD_MORE.replace("\tkey: more", "key: 1")}, id="of the wrong shape"),
        pytest.param(dict.fromkeys(("resources/a.yaml", "resources/b.yaml"), BAD_MORE.replace("\t", "")), id="twice"),
    ],
)
def test_a_run_does_not_start_beside_a_new_broken_file_that_names_what_is_placed(rings: World, broken: dict[str, str]):
    """It was reviewed with that file, so it is not rolled out without."""
    rings.commits({**broken, "runs/web-1.yaml": run("web-1")})
    rings.passes()
    first = min(broken)
    why = f"{PREFIX}InputBroken: a broken file names what placement web selects: {first}:"
    assert rings.message("web-1", "Initialized").startswith(why)
    assert rings.writes("canary") == []
    rings.commits({**dict.fromkeys(broken), first: manifests.config_map("more", "more")})
    rings.passes()
    assert rings.values("more") == {"canary": "more", "east": "more", "west": "more"}


LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        pytest.param("x" * (FILE_LIMIT + 1), "FileTooLarge", id="too large"),
        pytest.param(
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "LfsPointer", id="elsewhere"
        ),
    ],
)
def test_a_run_does_not_start_beside_a_new_file_that_is_not_read(rings: World, text: str, rule: str):
    """Nobody knows what is in it."""
    rings.commits({"resources/more.yaml": text, "runs/web-1.yaml": run("web-1")})
    rings.passes()
    why = f"{PREFIX}InputBroken: a file that cannot be read may hold what placement web selects: resources/more.yaml"
    assert rings.message("web-1", "Initialized").startswith(why)
    assert rule in rings.message("web-1", "Initialized")
    assert rings.writes("canary") == []
    rings.commits({"resources/more.yaml": manifests.config_map("more", "more")})
    rings.passes()
    assert rings.values("more") == {"canary": "more", "east": "more", "west": "more"}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(BAD_MORE.replace("namespace: app", "namespace: other"), id="another namespace"),
        pytest.param("kind: Namespace\nmetadata: {name: other\n", id="another object"),
    ],
)
def test_a_new_broken_file_that_names_nothing_of_the_placement_costs_only_itself(rings: World, text: str):
    rings.commits({"resources/more.yaml": text, "runs/web-1.yaml": run("web-1")})
    rings.passes()
    assert rings.run("web-1").end == "Succeeded"


def test_a_refused_file_of_another_folder_holds_no_run_of_another_scope(rings: World):
    """An object that lives in the namespace that is placed is no part of what is placed."""
    approval = manifests.approval("r-canary", namespace="app")
    rings.commits({"approvals/a.json": approval, "approvals/b.json": approval, "runs/web-1.yaml": run("web-1")})
    rings.passes()
    assert rings.problems() == ["approvals/a.json: DuplicateObject", "approvals/b.json: DuplicateObject"]
    assert rings.run("web-1").end == "Succeeded"


def test_an_older_snapshot_is_rolled_out_whatever_is_broken_now(rings: World):
    rings.commits("resources/app/settings.yaml", manifests.config_map("value2"))
    rings.commits({"resources/app/more.yaml": BAD_MORE, "runs/web-1.yaml": run("web-1", index=0)})
    rings.passes()
    assert rings.values() == {"canary": "value1", "east": "value1", "west": "value1"}


def test_a_placement_that_breaks_during_a_run_does_not_stop_it(rings: World):
    rings.commits("strategies/rings.yaml", strategy(stage("canary", approval=True), stage("prod")))
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    for path in ("placements/web.yaml", "strategies/rings.yaml", "clusters/east.yaml", "resources/app/settings.yaml"):
        rings.commits(path, BROKEN)
    rings.approves("web-1", "canary")
    rings.passes()
    assert rings.run("web-1").end == "Succeeded"
    assert rings.values() == {"canary": "value1", "east": "value1", "west": "value1"}


def test_a_rename_that_breaks_the_file_removes_nothing(rings: World):
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.breaks("east")
    rings.passes()
    rings.commits({"runs/web-1.yaml": None, "runs/renamed.yaml": BROKEN})
    rings.commits({"clusters/west.yaml": None, "clusters/far-west.yaml": BROKEN})
    rings.passes()
    assert rings.run("web-1").end is None
    rings.commits("runs/renamed.yaml", run("web-1"))
    rings.commits("clusters/far-west.yaml", manifests.cluster("west", ring="prod"))
    rings.heals("east")
    rings.passes()
    assert rings.run("web-1").end == "Succeeded"
    assert rings.values() == {"canary": "value1", "east": "value1", "west": "value1"}


def test_an_object_that_moves_out_of_a_file_of_several_into_a_broken_one_leaves_no_member(rings: World):
    both = manifests.config_map("value1") + "---\n" + manifests.config_map("more", "more")
    rings.commits("resources/app/settings.yaml", both)
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    split = {"resources/app/settings.yaml": manifests.config_map("value2"), "resources/app/more.yaml": BROKEN}
    rings.commits(split | {"runs/web-2.yaml": run("web-2")})
    rings.passes()
    assert rings.message("web-2", "Initialized").startswith(f"{PREFIX}InputBroken: ConfigMap app/more is in a broken")
    rings.commits("resources/app/more.yaml", manifests.config_map("more", "more"))
    rings.passes()
    assert rings.values() == {"canary": "value2", "east": "value2", "west": "value2"}
    assert rings.values("more") == {"canary": "more", "east": "more", "west": "more"}


def test_a_doubted_removal_is_dated_from_the_commit_that_made_it(rings: World):
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.breaks("east")
    rings.passes()
    removal = rings.commits({"runs/web-1.yaml": None, "runs/other.yaml": BROKEN})
    rings.passes()
    assert rings.run("web-1").end is None
    rings.commits("runs/other.yaml", run("other", state="Initialize"))
    rings.passes()
    assert rings.run("web-1").end == "Withdrawn"
    assert rings.run("web-1").end_message == f"the run was removed by commit {removal[:7]}"


def test_an_illegal_edit_is_not_laundered_by_a_second_commit(rings: World):
    """Whatever is committed on top, the object stays as it was last accepted."""
    rings.breaks("canary")
    rings.commits("runs/web-1.yaml", run("web-1", index=0))
    rings.passes()
    rings.commits("resources/app/settings.yaml", manifests.config_map("value2"))
    rings.commits("runs/web-1.yaml", run("web-1", index=1))
    rings.commits("runs/web-1.yaml", run("web-1", index=1, state="Run"))
    rings.passes()
    assert rings.problems() == ["runs/web-1.yaml: Immutable"]
    assert rings.run("web-1").spec["resourceSnapshotIndex"] == "0"
    rings.commits("runs/web-1.yaml", run("web-1", index=0))
    rings.heals("canary")
    rings.passes()
    assert rings.problems() == []
    assert rings.values() == {"canary": "value1", "east": "value1", "west": "value1"}


@pytest.mark.parametrize(
    ("before", "after"), [("Initialize", "Stop"), (None, "Initialize"), ("Run", "Initialize"), ("Stop", "Initialize")]
)
def test_a_state_that_cannot_follow_is_refused_and_holds_the_run(rings: World, before: str | None, after: str):
    rings.commits("runs/web-1.yaml", run("web-1", state=before))
    rings.breaks("canary")
    rings.passes()
    rings.commits("runs/web-1.yaml", run("web-1", state=after))
    rings.passes()
    assert rings.problems() == ["runs/web-1.yaml: InvalidTransition"]
    assert rings.run("web-1").state == (before or "Run")


def test_an_object_that_is_declared_twice_is_refused_the_second_time(rings: World):
    rings.commits("clusters/again.yaml", manifests.cluster("east", ring="canary"))
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    assert rings.problems() == ["clusters/again.yaml: DuplicateObject"]
    assert rings.started("web-1") == ["canary", "east", "west"]
    assert [one.name for one in rings.run("web-1").stages[1].clusters] == ["east", "west"]


def test_a_file_that_was_refused_counts_once_what_stood_in_its_way_is_gone(rings: World):
    rings.commits("clusters/again.yaml", manifests.cluster("east", ring="canary"))
    rings.removes("clusters/east.yaml")
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    assert rings.problems() == []
    assert [one.name for one in rings.run("web-1").stages[0].clusters] == ["canary", "east"]


def test_a_refused_file_of_before_does_not_keep_others_from_leaving(rings: World):
    rings.commits("clusters/again.yaml", manifests.cluster("east", ring="canary"))
    rings.leaves("west")
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    assert rings.started("web-1") == ["canary", "east"]


def test_an_object_moves_to_another_file_without_becoming_another(rings: World):
    rings.breaks("east")
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    uid = rings.run("web-1").uid
    moved = rings.text(rings.head(), "clusters/east.yaml")
    rings.commits({"clusters/east.yaml": None, "clusters/prod/east.yaml": moved})
    rings.commits({"runs/web-1.yaml": None, "runs/2025/web.yaml": run("web-1")})
    rings.heals("east")
    rings.passes()
    assert [(one.uid, one.end) for one in rings.runs()] == [(uid, "Succeeded")]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(
            {"runs/web-1.yaml": run("web-1", placement="nowhere")},
            CLIENT + "parent placement not found",
            id="placement",
        ),
        pytest.param(
            {"runs/web-1.yaml": run("web-1", strategy="nothing")},
            CLIENT + "referenced updateStrategy not found: `/nothing`",
            id="strategy",
        ),
        pytest.param(
            {
                "runs/web-1.yaml": run("web-1"),
                "strategies/rings.yaml": strategy(stage("canary")),
            },
            CLIENT + "some clusters are not placed in any stage, total 2, showing up to 10: east, west",
            id="clusters in no stage",
        ),
        pytest.param(
            {
                "runs/web-1.yaml": run("web-1"),
                "strategies/rings.yaml": strategy(stage("canary"), stage("all", labels={}, labelSelector={})),
            },
            CLIENT + "cluster `canary` appears in more than one stages",
            id="a cluster in two stages",
        ),
        pytest.param(
            {
                "runs/web-1.yaml": run("web-1"),
                "strategies/rings.yaml": strategy(stage("canary", sortingLabelKey="order"), stage("prod")),
            },
            CLIENT + 'the sorting label `order:` on cluster `canary` is not valid: strconv.Atoi: parsing "": '
            "invalid syntax",
            id="sorting label",
        ),
        pytest.param(
            {
                "runs/web-1.yaml": run("web-1"),
                "placements/web.yaml": manifests.placement(
                    policy={"placementType": "PickFixed", "clusterNames": ["east", "north"]}
                ),
            },
            CLIENT + "policy snapshot `web-0` not fully scheduled yet",
            id="a cluster that is not there",
        ),
    ],
)
def test_a_failed_initialization_says_why_and_is_tried_again_at_the_next_commit(
    world: World, changes: dict, message: str
):
    """What it needs is committed later, and it starts."""
    for name, ring in {"canary": "canary", "east": "prod", "west": "prod"}.items():
        world.joins(name, ring=ring)
    content = {
        "resources/app/namespace.yaml": manifests.namespace(),
        "resources/app/settings.yaml": manifests.config_map("value1"),
    }
    world.commits(content)
    world.begins()
    good = {"strategies/rings.yaml": strategy(stage("canary"), stage("prod"), stage("other"))}
    world.commits({**good, "placements/web.yaml": manifests.placement(), **changes})
    world.passes(minutes=10)
    assert world.message("web-1", "Initialized") == message
    assert world.writes("canary") == []
    north = manifests.cluster("north", ring="other")
    world.joins("north", ring="other")
    world.relabels("canary", ring="canary", order="1")
    selector = [{"group": "", "version": "v1", "kind": "Namespace", "name": "app"}]
    world.commits(
        {
            **good,
            "clusters/north.yaml": north,
            "strategies/nothing.yaml": strategy(stage("canary"), stage("prod"), stage("other"), name="nothing"),
            "placements/nowhere.yaml": manifests.placement("nowhere", resourceSelectors=selector),
        }
    )
    world.passes()
    assert world.run("web-1").end == "Succeeded"


@pytest.mark.parametrize(
    ("index", "why"),
    [
        ("7", "no resourceSnapshots with index `7` found for placement `/web`"),
        ("01", "no resourceSnapshots with index `1` found for placement `/web`"),
        ("abc", "invalid resource snapshot index `abc` provided, expected an integer >= 0"),
        ("-1", "invalid resource snapshot index `-1` provided, expected an integer >= 0"),
    ],
)
def test_an_index_that_does_not_exist_at_the_runs_own_commit_fails_for_good(rings: World, index: str, why: str):
    """Else a typo would start by itself months later."""
    rings.commits("runs/web-1.yaml", run("web-1", index=index))
    rings.passes()
    assert rings.message("web-1", "Initialized") == CLIENT + why
    for number in range(2, 10):
        rings.commits("resources/app/settings.yaml", manifests.config_map(f"value{number}"))
    rings.passes()
    assert rings.message("web-1", "Initialized") == CLIENT + why
    assert rings.started("web-1") == []


def test_a_run_as_old_as_the_status_branch_is_not_started_and_says_how_to_start_the_same(world: World):
    world.joins("canary", ring="canary")
    world.commits("resources/app.yaml", manifests.namespace())
    world.commits("placements/web.yaml", manifests.placement())
    world.commits("strategies/rings.yaml", strategy(stage("canary")))
    world.commits("runs/web-1.yaml", run("web-1", index=0))
    world.begins()
    world.passes()
    assert world.conditions("web-1") == {"Initialized": "False NotStarted"}
    assert world.message("web-1", "Initialized") == (
        "the run is older than the status branch, so it is not started; to start the same: reconciler run create "
        "NEW-NAME --placement web --strategy rings --snapshot 0"
    )
    world.commits("runs/web-2.yaml", run("web-2"))
    world.passes()
    assert world.run("web-2").end == "Succeeded"


def test_a_run_as_old_as_the_status_branch_starts_where_init_was_told_so(world: World):
    world.joins("canary", ring="canary")
    world.commits("resources/app.yaml", manifests.namespace())
    world.commits("placements/web.yaml", manifests.placement())
    world.commits("strategies/rings.yaml", strategy(stage("canary")))
    world.commits("runs/web-1.yaml", run("web-1"))
    world.begins(start_existing=True)
    world.passes()
    assert world.run("web-1").end == "Succeeded"


def test_a_badly_typed_secret_is_one_broken_file_and_everything_else_goes_on(rings: World):
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "other"}}
    bad = manifests.text({**secret, "stringData": {"port": 5432}})
    rings.commits({"resources/other.yaml": bad, "runs/web-1.yaml": run("web-1")})
    rings.passes()
    assert rings.run("web-1").end == "Succeeded"
    assert rings.problems() == ["resources/other.yaml: WrongShape"]
    rings.commits("resources/other.yaml", bad.replace("5432", "'5432'"))
    rings.passes()
    assert rings.problems() == []
    rings.restarts(wiped=True)
    rings.passes()
    assert rings.trouble == ""


def test_a_commit_that_removes_a_selected_file_and_breaks_another_while_a_third_changes_costs_no_snapshot(rings: World):
    """The removal is doubted until the broken file can be read; then the snapshots are those of the history."""
    rings.commits("resources/app/old.yaml", manifests.config_map("x", "old"))
    rings.passes()
    rings.commits(
        {
            "resources/app/old.yaml": None,
            "resources/unrelated.yaml": BROKEN,
            "resources/app/settings.yaml": manifests.config_map("value2"),
        }
    )
    rings.passes()
    assert (rings.trouble, [one.index for one in rings.placement().snapshots]) == ("", [0, 1])
    mended = rings.commits("resources/unrelated.yaml", manifests.namespace("unrelated"))
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    assert [(one.index, len(one.objects)) for one in rings.placement().snapshots] == [(0, 2), (1, 3), (2, 2)]
    assert rings.placement().snapshots[2].commit == mended
    assert rings.values("old") == {"canary": None, "east": None, "west": None}
    assert rings.values() == {"canary": "value2", "east": "value2", "west": "value2"}


def test_an_index_that_does_not_exist_is_final_although_the_strategy_is_missing_too(rings: World):
    rings.commits("runs/web-1.yaml", run("web-1", index=1, strategy="later"))
    rings.passes()
    assert rings.run("web-1").failure_final
    missing = f"{CLIENT}no resourceSnapshots with index `1` found for placement `/web`"
    assert rings.message("web-1", "Initialized") == missing
    rings.commits("strategies/later.yaml", strategy(stage("canary"), stage("prod"), name="later"))
    rings.commits("resources/app/settings.yaml", manifests.config_map("value2"))
    rings.passes()
    assert [one.index for one in rings.placement().snapshots] == [0, 1]
    assert (rings.run("web-1").pin, rings.started("web-1")) == (None, [])


@pytest.mark.parametrize(
    "path", ["strategies/rings.yaml", "placements/web.yaml", "clusters/east.yaml", "resources/app/settings.yaml"]
)
def test_an_index_that_does_not_exist_is_said_at_once_although_a_file_is_broken(rings: World, path: str):
    """It was final behind the words about the broken file, so that mending that file seemed to help."""
    good = rings.text(rings.head(), path)
    rings.commits({path: BROKEN, "runs/web-1.yaml": run("web-1", index=1)})
    rings.passes()
    missing = f"{CLIENT}no resourceSnapshots with index `1` found for placement `/web`"
    assert rings.message("web-1", "Initialized") == missing
    rings.commits({path: good, "resources/app/more.yaml": manifests.config_map("more", "more")})
    rings.passes()
    assert [one.index for one in rings.placement().snapshots] == [0, 1]
    assert (rings.message("web-1", "Initialized"), rings.started("web-1")) == (missing, [])


def test_an_index_that_exists_waits_for_the_broken_file(rings: World):
    good = rings.text(rings.head(), "strategies/rings.yaml")
    rings.commits({"strategies/rings.yaml": BROKEN, "runs/web-1.yaml": run("web-1", index=0)})
    rings.passes()
    assert rings.message("web-1", "Initialized").startswith(f"{PREFIX}InputBroken: ")
    rings.commits("strategies/rings.yaml", good)
    rings.passes()
    assert rings.run("web-1").end == "Succeeded"


def widgets(scope: str) -> str:
    """Return the definition of a kind of that scope."""
    names = {"kind": "Widget", "plural": "widgets"}
    spec = {"group": "example.com", "scope": scope, "names": names, "versions": []}
    kind = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
    return manifests.text(kind | {"metadata": {"name": "widgets.example.com"}, "spec": spec})


def widget(namespace: str) -> str:
    metadata = manifests.metadata("one", namespace)
    return manifests.text({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": metadata})


@pytest.mark.parametrize(
    ("scope", "namespace", "rule"),
    [
        ("Namespaced", "", "MissingNamespace"),
        ("Cluster", "app", "UnexpectedNamespace"),
        ("Namespaced", "app", None),
        ("Cluster", "", None),
    ],
)
@pytest.mark.parametrize("together", [False, True])
def test_the_scope_of_a_kind_that_the_repository_defines_is_the_definitions(
    rings: World, scope, namespace, rule, together
):
    files = {"resources/widgets.yaml": widgets(scope), "resources/one.yaml": widget(namespace)}
    for changes in [files] if together else [{path: text} for path, text in files.items()]:
        rings.commits(changes)
    rings.passes()
    assert rings.problems() == ([f"resources/one.yaml: {rule}"] if rule else [])
