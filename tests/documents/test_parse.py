"""Whole files: folders, names, namespaces, duplicates, and that a clean file can always be constructed."""

import copy
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core.model import FOLDERS, KINDS
from reconciler.documents import schema, yaml
from reconciler.documents.parse import is_manifest, kind_of, parse

ARTICLE = sorted((Path(__file__).parent / "article").glob("*.yaml"))
EXAMPLES = {kind: schema.load(kind)["examples"] for kind in KINDS}


def folder_of(kind: str) -> str:
    return KINDS[kind].folder if kind in KINDS else "resources"


def verdict(path: str, text: str) -> list[tuple[int, str]]:
    parsed = parse(path, text.encode())
    assert (parsed.documents == ()) or (parsed.problems == ())
    return [(problem.line, problem.rule) for problem in parsed.problems]


# -- what is accepted --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ARTICLE, ids=lambda file: file.stem)
def test_the_manifests_of_the_article_are_accepted_unchanged(file):
    kind = file.stem.split("-")[1]
    folder = next((row.folder for row in KINDS.values() if row.kind.lower() == kind), "resources")
    parsed = parse(f"{folder}/{file.name}", file.read_bytes())
    assert parsed.problems == ()
    assert [document.kind.lower() for document in parsed.documents] == [kind]


APPROVAL = """\
"apiVersion": "placement.kubernetes-fleet.io/v1beta1",
"kind": "ClusterApprovalRequest",
"metadata": {"name": "example-run-canary"},
"status": {
    "conditions": [
        {
            "lastTransitionTime": "2025-07-22T21:35:00Z",
            "message": "lgtm",
            "observedGeneration": 1,
            "reason": "testPassed",
            "status": "True",
            "type": "Approved"
        }
    ]
}
"""


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(APPROVAL, id="as a fragment"),
        pytest.param(f"{{{APPROVAL}}}", id="as JSON"),
        pytest.param(
            APPROVAL.replace('io/v1beta1",', 'io/v1beta1"').replace('st",', 'st"').replace('y"},', 'y"}'), id="as YAML"
        ),
    ],
)
def test_the_approval_of_the_article_with_three_lines_in_front_is_accepted(text):
    (document,) = parse("approvals/approval.json", text.encode()).documents
    approval = KINDS["ClusterApprovalRequest"].read(document)
    assert (approval.key.name, approval.condition["status"]) == ("example-run-canary", "True")


@pytest.mark.parametrize("kind", KINDS)
def test_the_examples_of_the_schemas_are_accepted_and_can_be_constructed(kind):
    for example in EXAMPLES[kind]:
        for version in ("v1beta1", "v1"):
            body = {**example, "apiVersion": f"{KINDS[kind].group}/{version}"}
            (document,) = parse(f"{folder_of(kind)}/a.yaml", yaml.dump(body).encode()).documents
            assert kind_of(document) is KINDS[kind]
            assert KINDS[kind].read(document).key == document.key


def manifest(version, kind, name="a", rest=""):
    return f"---\napiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}{rest}}}\n"


CLUSTER, PLACEMENT = "cluster.kubernetes-fleet.io/v1", "placement.kubernetes-fleet.io/v1"
NULLS = ", creationTimestamp: null, labels: null, annotations: null"
ODD_RUN = "spec: {placementName: p, stagedRolloutStrategyName: s, resourceSnapshotIndex: x, state: null}\n"
GOOD = {
    "an empty file": ("resources/a.yaml", "", 0),
    "empty documents": ("clusters/a.yaml", "# nothing\n---\n---\n", 0),
    "a status": ("resources/a.yaml", manifest("v1", "Namespace") + "status: {phase: Active}\n", 1),
    "an empty namespace is none": ("resources/a.yaml", manifest("v1", "Namespace", rest=", namespace: ''"), 1),
    "nulls in the metadata": ("resources/a.yaml", manifest("v1", "Namespace", rest=NULLS), 1),
    "an unknown kind without a namespace": ("resources/a.yaml", manifest("a.io/v1", "Thing"), 1),
    "an unknown kind with a namespace": ("resources/a.yaml", manifest("a.io/v1", "Thing", rest=", namespace: b"), 1),
    "a kind of ours in another group": ("resources/a.yaml", manifest("a.io/v1", "ApprovalRequest"), 1),
    "an RBAC name": ("resources/a.yaml", manifest("rbac.authorization.k8s.io/v1", "ClusterRole", "system:Node"), 1),
    "without a spec, and with an empty one": (
        "clusters/sub/a.YML",
        manifest(CLUSTER, "MemberCluster") + manifest(CLUSTER, "MemberCluster", "b") + "spec:\n",
        2,
    ),
    "what only initialization refuses": ("runs/a.yaml", manifest(PLACEMENT, "ClusterStagedUpdateRun") + ODD_RUN, 1),
}


@pytest.mark.parametrize(("path", "text", "count"), GOOD.values(), ids=GOOD)
def test_a_good_file_gives_its_documents(path, text, count):
    assert verdict(path, text) == []
    assert [document.index for document in parse(path, text.encode()).documents] == list(range(count))


def test_lines_are_kept_for_our_kinds_only():
    (namespace,) = parse("resources/a.yaml", b"apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n").documents
    (cluster,) = parse("clusters/a.yaml", yaml.dump(EXAMPLES["MemberCluster"][0]).encode()).documents
    assert namespace.lines == {}
    assert cluster.line_of("/metadata/labels/order") == 6


# -- what is refused ---------------------------------------------------------------------------------------------

CM = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n  namespace: b\n"
RUN = yaml.dump(EXAMPLES["ClusterStagedUpdateRun"][0])
SUR = yaml.dump(EXAMPLES["StagedUpdateRun"][0])
ROLE = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata:\n  name: {}\n"


BAD_RESOURCES = {
    "not readable": ("a: 1\na: 2\n", [(2, "DuplicateKey")]),
    "a list": (CM + "---\n- 1\n", [(7, "NotAMapping")]),
    "a word": ("text\n", [(1, "NotAMapping")]),
    "an empty mapping": ("{}\n", [(1, "InvalidApiVersion"), (1, "InvalidKind"), (1, "InvalidMetadata")]),
    "three parts in the apiVersion": (CM.replace("v1", "apps/v1/x"), [(1, "InvalidApiVersion")]),
    "an empty group": (CM.replace("v1", "/v1"), [(1, "InvalidApiVersion")]),
    "dots as the group": (CM.replace("v1", "../v1"), [(1, "InvalidApiVersion")]),
    "a number as the apiVersion": (CM.replace("v1", "1"), [(1, "InvalidApiVersion")]),
    "a slash in the kind": (CM.replace("ConfigMap", "Config/Map"), [(2, "InvalidKind")]),
    "a list as the kind": (CM.replace("ConfigMap", "[a]"), [(2, "InvalidKind")]),
    "a number as the name": (CM.replace("name: a", "name: 5"), [(4, "InvalidName")]),
    "no name": (CM.replace("name: a", "names: a"), [(3, "InvalidName")]),
    "generateName": (CM.replace("name: a", "generateName: a-"), [(4, "GenerateName")]),
    "an empty name": (CM.replace("name: a", "name: ''"), [(4, "InvalidName")]),
    "a path as the name": (CM.replace("name: a", "name: ../../kube-system/secrets/boot"), [(4, "InvalidName")]),
    "a query in the name": (CM.replace("name: a", "name: a?force=true"), [(4, "InvalidName")]),
    "a sub-resource in the name": (CM.replace("name: a", "name: ok/status"), [(4, "InvalidName")]),
    "two dots as the name": (CM.replace("name: a", "name: .."), [(4, "InvalidName")]),
    "a line break after the name": (CM.replace("name: a", 'name: "a\\n"'), [(4, "InvalidName")]),
    "a bidirectional override in the name": (CM.replace("name: a", 'name: "a\\u202eb"'), [(4, "InvalidName")]),
    "upper case in the name": (CM.replace("name: a", "name: Upper"), [(4, "InvalidName")]),
    "254 characters": (CM.replace("name: a", f"name: {'a' * 254}"), [(4, "InvalidName")]),
    "a dot in the namespace": (CM.replace("space: b", "space: b.c"), [(5, "InvalidNamespace")]),
    "a path as the namespace": (CM.replace("space: b", "space: ../b"), [(5, "InvalidNamespace")]),
    "64 characters": (CM.replace("space: b", f"space: {'b' * 64}"), [(5, "InvalidNamespace")]),
    "a number as the namespace": (CM.replace("space: b", "space: 5"), [(5, "InvalidNamespace")]),
    "a ConfigMap without a namespace": (CM.replace("  namespace: b\n", ""), [(3, "MissingNamespace")]),
    "a Namespace with a namespace": (CM.replace("ConfigMap", "Namespace"), [(5, "UnexpectedNamespace")]),
    "a number as a label": (CM + "  labels: {a: 1}\n", [(6, "InvalidLabel")]),
    "a negative number as a label": (CM + "  labels:\n    a: b\n    order: '-5'\n", [(8, "InvalidLabel")]),
    "a space in a label's key": (CM + "  labels: {'a b': c}\n", [(6, "InvalidLabel")]),
    "two slashes in a label's key": (CM + "  labels: {'a/b/c': c}\n", [(6, "InvalidLabel")]),
    "a label of 64 characters": (CM + f"  labels: {{a: {'b' * 64}}}\n", [(6, "InvalidLabel")]),
    "a list of labels": (CM + "  labels: [a]\n", [(6, "InvalidLabel")]),
    "a boolean as an annotation": (CM + "  annotations: {a: true}\n", [(6, "InvalidAnnotation")]),
    "a space in an annotation's key": (CM + "  annotations: {'a b': c}\n", [(6, "InvalidAnnotation")]),
    "a word as annotations": (CM + "  annotations: text\n", [(6, "InvalidAnnotation")]),
    "a List": ("apiVersion: v1\nkind: List\nitems: []\n", [(2, "ListKind")]),
    "a ConfigMapList": ("apiVersion: v1\nkind: ConfigMapList\nitems: []\n", [(2, "ListKind")]),
    "an object twice": (CM + "---\n" + CM, [(10, "DuplicateObject")]),
    "an object twice, in two versions": (CM + "---\n" + CM.replace("v1", "v2"), [(10, "DuplicateObject")]),
    "a slash in an RBAC name": (ROLE.format("a/b"), [(4, "InvalidName")]),
    "a percent sign in an RBAC name": (ROLE.format("a%2fb"), [(4, "InvalidName")]),
    "two dots as an RBAC name": (ROLE.format(".."), [(4, "InvalidName")]),
    "a question mark in an RBAC name": (ROLE.format("a?b"), [(4, "InvalidName")]),
    "a run in resources": (RUN, [(2, "WrongFolder")]),
    "a kind of ours misspelt": (RUN.replace("StagedUpdateRun", "StagedUpdateRuns"), [(2, "UnknownKind")]),
}

BAD_DECLARATIONS = {
    "a kind of ours misspelt": (
        "runs/a.yaml",
        RUN.replace("StagedUpdateRun", "StagedUpdaterRun"),
        [(2, "UnknownKind")],
    ),
    "another kind of our group": (
        "runs/a.yaml",
        RUN.replace("ClusterStagedUpdateRun", "ClusterResourceEnvelope"),
        [(2, "WrongFolder")],
    ),
    "a ConfigMap in runs": ("runs/a.yaml", CM, [(2, "WrongFolder")]),
    "a run in approvals": ("approvals/a.yaml", RUN, [(2, "WrongFolder")]),
    "a run of another group": (
        "runs/a.yaml",
        RUN.replace("placement.kubernetes-fleet.io", "fleet.io"),
        [(1, "InvalidApiVersion")],
    ),
    "a run of another version": ("runs/a.yaml", RUN.replace("v1beta1", "v1alpha1"), [(1, "Schema/enum")]),
    "a cluster-scoped run with a namespace": (
        "runs/a.yaml",
        RUN.replace("name: example-run", "name: example-run\n  namespace: b"),
        [(5, "UnexpectedNamespace")],
    ),
    "a namespaced run without": (
        "runs/a.yaml",
        SUR.replace("  namespace: my-app-namespace\n", ""),
        [(3, "MissingNamespace")],
    ),
    "a field in the wrong case": (
        "runs/a.yaml",
        RUN.replace("placementName", "placementname"),
        [(5, "Schema/required"), (6, "Schema/additionalProperties")],
    ),
    "a field beside the spec": ("runs/a.yaml", RUN + "data: 1\n", [(9, "Schema/additionalProperties")]),
}


@pytest.mark.parametrize(("text", "expected"), BAD_RESOURCES.values(), ids=BAD_RESOURCES)
def test_a_bad_file_of_resources_is_refused_with_lines_and_rules(text, expected):
    assert verdict("resources/a.yaml", text) == expected


@pytest.mark.parametrize(("path", "text", "expected"), BAD_DECLARATIONS.values(), ids=BAD_DECLARATIONS)
def test_a_bad_file_of_declarations_is_refused_with_lines_and_rules(path, text, expected):
    assert verdict(path, text) == expected


def test_a_refusal_names_the_right_folder():
    (problem,) = parse("approvals/a.yaml", RUN.encode()).problems
    assert str(problem) == (
        "approvals/a.yaml:2: WrongFolder: ClusterStagedUpdateRun belongs in runs/, not in approvals/ (at /kind);"
        " approvals/ holds ClusterApprovalRequest and ApprovalRequest only"
    )


def test_one_bad_document_breaks_the_file_and_problems_are_counted_up_to_a_limit():
    bad = "".join(f"---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a{n}}}\n" for n in range(30))
    parsed = parse("resources/a.yaml", (CM + bad).encode())
    assert (len(parsed.documents), len(parsed.problems)) == (0, 20)


def test_secret_values_are_never_quoted():
    secret = CM.replace("ConfigMap", "Secret").replace("name: a", "name: A") + "stringData:\n  key: hunter2\n"
    for text in (secret, secret + "  key: hunter2\n", secret + "  other: hunter2: hunter2\n"):
        problems = parse("resources/a.yaml", text.encode()).problems
        assert problems
        assert not any("hunter2" in str(problem) for problem in problems)


STAGES = """\
apiVersion: placement.kubernetes-fleet.io/v1
kind: ClusterStagedUpdateStrategy
metadata:
  name: a
spec:
  stages:
  - name: one
  - name: two
    afterStageTasks:
    - type: TimedWait
      waitTime: {}
  - name: {}
"""


@pytest.mark.parametrize(
    ("wait", "third", "expected"),
    [
        ("1h", "three", []),
        ("10000000h", "three", []),
        ("10000000h1s", "three", [(11, "WaitTooLong")]),
        ("9" * 99 + "h", "three", [(11, "WaitTooLong")]),
        ("9" * 100 + "h", "three", [(11, "Schema/maxLength")]),
        ("1h", "one", [(12, "DuplicateStage")]),
    ],
)
def test_what_a_schema_cannot_say_about_stages_is_checked_too(wait, third, expected):
    assert verdict("strategies/a.yaml", STAGES.format(wait, third)) == expected


# -- which files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        *[(f"{folder}/a.yaml", True) for folder in FOLDERS],
        ("resources/team/web/a.yml", True),
        ("resources/a.JSON", True),
        ("resources/README.md", False),
        ("resources/.gitkeep", False),
        ("CODEOWNERS", False),
        ("a.yaml", False),
        ("other/a.yaml", False),
        ("Runs/a.yaml", False),
        ("runs", False),
        ("docs/runs/a.yaml", False),
    ],
)
def test_manifests_are_the_yaml_and_json_files_of_our_folders(path, expected):
    assert is_manifest(path) is expected


# -- whatever comes ------------------------------------------------------------------------------------------------

_KEYS = ["name", "type", "waitTime", "matchLabels", "key", "operator", "a"]
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 2**40)
    | st.floats(-2, 2)
    | st.text(alphabet="a1-./% :\n", max_size=5)
    | st.sampled_from(["Approval", "TimedWait", "1h", "50%", "PickN", "In", "Delete", "9" * 60 + "h"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=3),
    max_leaves=4,
)


def _pointers(value, at=()):
    yield at
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from _pointers(inner, (*at, key))


@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_whatever_is_clean_can_be_constructed(data):
    """Change an example anywhere to anything: it is refused, or its value can be made."""
    kind = data.draw(st.sampled_from(sorted(KINDS)))
    body = copy.deepcopy(data.draw(st.sampled_from(EXAMPLES[kind])))
    for _ in range(data.draw(st.integers(1, 3))):
        *parents, last = data.draw(st.sampled_from([at for at in _pointers(body) if at]))
        target = body
        for key in parents:
            target = target[key]
        if data.draw(st.booleans()):
            target[last] = data.draw(_JSON)
        else:
            del target[last]
    for path, text in ((f"{folder_of(kind)}/a.yaml", yaml.dump(body)), (f"{folder_of(kind)}/a.json", json.dumps(body))):
        for document in parse(path, text.encode()).documents:
            assert KINDS[kind].read(document).key == document.key


@settings(max_examples=150, deadline=None)
@given(value=_JSON, folder=st.sampled_from(FOLDERS))
def test_no_value_makes_it_raise(value, folder):
    parsed = parse(f"{folder}/a.yaml", yaml.dump(value).encode())
    assert (parsed.documents == ()) or (parsed.problems == ())


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=100))
def test_no_bytes_make_it_raise(data):
    assert parse("resources/a.json", data) == parse("resources/a.json", data)
