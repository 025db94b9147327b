"""What a placement selects, and upstream's hash of it."""

import hashlib
import json
from pathlib import Path

import pytest

from reconciler.core.model import Document, Placement
from reconciler.core.selection import Resources, SelectionError, canonical, may_select, resource_hash, sanitise, select
from reconciler.documents.parse import parse
from tests import manifests

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())


def documents(*texts: str) -> list[Document]:
    found = [
        parse(f"resources/{number}.{'json' if text.startswith('{') else 'yaml'}", text.encode())
        for number, text in enumerate(texts)
    ]
    assert [one.problems for one in found] == [()] * len(found)
    return [document for one in found for document in one.documents]


def selected(placement: str, *texts: str):
    parsed = parse("placements/p.yaml", placement.encode())
    assert parsed.problems == ()
    return select(Placement.from_document(parsed.documents[0]), Resources(documents(*texts)))


def names(selection) -> list[str]:
    return [str(one.key) for one in selection.documents]


@pytest.mark.parametrize("vector", VECTORS, ids=[one["name"] for one in VECTORS])
def test_the_hash_of_what_was_posted_is_upstreams(vector):
    """Recorded from the real thing: the object that was posted, and the hash that its snapshot got."""
    posted = [vector["posted"]] if vector["posted"] else []
    objects = [sanitise(body) for body in posted]
    assert canonical({"selectedResources": objects}) == vector["canonical"]
    assert resource_hash(objects) == vector["hash"]
    namespace = posted[0]["metadata"]["namespace"] if posted else "x"
    kind = posted[0]["kind"] if posted else "ConfigMap"
    placement = manifests.placement(
        "p", namespace, resourceSelectors=[{"group": "", "version": "v1", "kind": kind, "name": "cfg"}]
    )
    assert selected(placement, *(json.dumps(body) for body in posted)).hash == vector["hash"]


def test_the_hash_of_the_article_comes_out_as_printed():
    texts = manifests.namespace("test-namespace"), manifests.config_map("value2", "test-cm", "test-namespace")
    placement = manifests.article("clusterresourceplacement-example-placement")
    assert selected(placement, *texts).hash == "10dd7a3d1e5f9849afe956cfbac080a60671ad771e9bda7dd34415f867c75648"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [True, None]}, '{"a":[true,null],"b":1}'),
        ("<&>\u2028", '"\\u003c\\u0026\\u003e\\u2028"'),
        ("\x00\b\t\n\f\r\x1f\x7f", '"\\u0000\\b\\t\\n\\f\\r\\u001f\x7f"'),
        ("é😀", '"é😀"'),
        (0.5, "0.5"),
        (1.0, "1"),
        (1e21, "1e+21"),
        (1e20, "100000000000000000000"),
        (0.00001, "0.00001"),
        (1e-7, "1e-7"),
        (-0.0000015, "-0.0000015"),
        (2**63 - 1, "9223372036854775807"),
    ],
)
def test_values_are_written_as_go_writes_them(value, text: str):
    assert canonical(value) == text


def test_a_hash_is_over_compact_text_with_sorted_keys():
    text = '{"selectedResources":[{"a":1,"b":2}]}'
    assert resource_hash([{"b": 2, "a": 1}]) == hashlib.sha256(text.encode()).hexdigest()


def body(kind: str, name: str = "x", namespace: str = "app", api: str = "v1", **more) -> str:
    return manifests.text({"apiVersion": api, "kind": kind, "metadata": manifests.metadata(name, namespace), **more})


def test_objects_come_in_upstreams_order_unknown_kinds_last():
    texts = (
        body("Widget", api="example.org/v1"),
        body("Gadget", api="example.org/v1"),
        body("Deployment", api="apps/v1"),
        body("Service"),
        body("ConfigMap", "b"),
        body("ConfigMap", "a"),
        body("Secret"),
        body("NetworkPolicy", api="networking.k8s.io/v1"),
        manifests.namespace(),
    )
    assert names(selected(manifests.placement(), *texts)) == [
        "Namespace app",
        "NetworkPolicy app/x",
        "Secret app/x",
        "ConfigMap app/a",
        "ConfigMap app/b",
        "Service app/x",
        "Deployment app/x",
        "Gadget app/x",
        "Widget app/x",
    ]


def test_order_is_no_matter_of_files():
    texts = [manifests.namespace(), manifests.config_map("1", "b"), manifests.config_map("1", "a")]
    forth, back = (selected(manifests.placement(), *one) for one in (texts, reversed(texts)))
    assert forth.hash == back.hash


@pytest.mark.parametrize(
    "text",
    [
        body("Pod"),
        body("Event", api="events.k8s.io/v1"),
        body("Event"),
        body("Lease", api="coordination.k8s.io/v1"),
        body("ConfigMap", "kube-root-ca.crt"),
        body("ServiceAccount", "default"),
        body("Secret", type="kubernetes.io/service-account-token"),
        body("ServiceImport", api="networking.fleet.azure.com/v1alpha1"),
        manifests.text(
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "metadata": {
                    "name": "x",
                    "namespace": "app",
                    "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "d", "uid": "u"}],
                },
            }
        ),
    ],
)
def test_what_is_never_propagated_is_not_selected(text: str):
    assert names(selected(manifests.placement(), manifests.namespace(), text)) == ["Namespace app"]


def test_a_namespace_brings_what_is_in_it_unless_only_itself_is_asked_for():
    only = {"group": "", "version": "v1", "kind": "Namespace", "name": "app", "selectionScope": "NamespaceOnly"}
    texts = manifests.namespace(), manifests.namespace("b"), body("ConfigMap"), body("ConfigMap", namespace="b")
    assert names(selected(manifests.placement(), *texts)) == ["Namespace app", "ConfigMap app/x"]
    assert names(selected(manifests.placement(resourceSelectors=[only]), *texts)) == ["Namespace app"]


def selector(kind: str, group: str = "", **more) -> dict:
    return {"group": group, "version": "v1", "kind": kind, **more}


def test_selectors_choose_by_name_by_labels_or_all_of_a_kind():
    roles = [
        manifests.text(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRole",
                "metadata": {"name": name, "labels": {"team": team}},
            }
        )
        for name, team in (("a", "x"), ("b", "y"))
    ]
    kind = selector("ClusterRole", "rbac.authorization.k8s.io")
    for chosen, expected in (
        ({}, ["ClusterRole a", "ClusterRole b"]),
        ({"name": "b"}, ["ClusterRole b"]),
        ({"name": "c"}, []),
        ({"labelSelector": {"matchLabels": {"team": "x"}}}, ["ClusterRole a"]),
        (
            {"labelSelector": {"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["x"]}]}},
            ["ClusterRole b"],
        ),
    ):
        assert names(selected(manifests.placement(resourceSelectors=[{**kind, **chosen}]), *roles)) == expected


@pytest.mark.parametrize(
    ("placement", "why"),
    [
        pytest.param(
            manifests.placement(resourceSelectors=[selector("Namespace", name="app")] * 2),
            "found duplicate resource Namespace app",
            id="selected twice",
        ),
        pytest.param(
            manifests.placement(resourceSelectors=[selector("Namespace", name="kube-system")]),
            "namespace kube-system is not allowed to propagate",
            id="a reserved namespace",
        ),
        pytest.param(
            manifests.placement(resourceSelectors=[selector("ConfigMap")]),
            "cannot select namespace-scoped resource /v1, Kind=ConfigMap in a clusterResourcePlacement",
            id="a namespaced kind for all the cluster",
        ),
        pytest.param(
            manifests.placement("p", "app", resourceSelectors=[selector("Namespace", name="app")]),
            "cannot select cluster-scoped resource /v1, Kind=Namespace in a resourcePlacement",
            id="a namespace for a namespaced placement",
        ),
    ],
)
def test_selectors_that_cannot_be_carried_out_say_why(placement: str, why: str):
    with pytest.raises(SelectionError) as raised:
        selected(placement, manifests.namespace(), manifests.namespace("kube-system"), body("ConfigMap"))
    assert str(raised.value) == why


def test_a_namespaced_placement_stays_in_its_namespace():
    placement = manifests.placement("p", "app", resourceSelectors=[selector("ConfigMap")])
    assert names(selected(placement, body("ConfigMap"), body("ConfigMap", namespace="b"))) == ["ConfigMap app/x"]


ONLY = "NamespaceOnly"
LABELLED = {"labelSelector": {"matchLabels": {"team": "a"}}}


@pytest.mark.parametrize(
    ("namespace", "select_by", "text", "may"),
    [
        ("", selector("Namespace", name="app"), "kind: ConfigMap\nmetadata: {name: x, namespace: app", True),
        ("", selector("Namespace", name="app"), "kind: ConfigMap\nmetadata: {name: app, namespace: other", False),
        ("", selector("Namespace", name="app"), "kind: Namespace\nmetadata: {name: app", True),
        ("", selector("Namespace", name="app"), "kind: Namespace\nmetadata: {name: other", False),
        ("", selector("Namespace", name="app", selectionScope=ONLY), "kind: Secret\n  namespace: app\n a: [", False),
        ("", selector("Namespace", **LABELLED), "kind: ConfigMap\n  namespace: 'labelled'\n a: [", True),
        ("", selector("Namespace", **LABELLED), "kind: ConfigMap\n  namespace: 'app'\n a: [", False),
        ("", selector("Namespace", **LABELLED), "kind: Namespace\na: [", True),
        (
            "",
            selector("Namespace", **LABELLED, selectionScope=ONLY),
            "kind: Secret\n  namespace: labelled\n a: [",
            False,
        ),
        ("", selector("PersistentVolume"), "kind: PersistentVolume\na: [", True),
        ("", selector("PersistentVolume", name="a"), '{"kind": "PersistentVolume", "metadata": {"name": "b",', False),
        ("", selector("PersistentVolume", name="a"), '{"kind": "PersistentVolume", "metadata": {"name": "a",', True),
        ("app", selector("Secret"), "kind: Secret\nmetadata: {namespace: app", True),
        ("app", selector("Secret"), "kind: Secret\nmetadata: {namespace: other", False),
        ("app", selector("Secret"), "kind: ConfigMap\nmetadata: {namespace: app", False),
        ("app", selector("Secret", name="a"), "kind: Secret\nmetadata: {namespace: app, serviceName: a", False),
    ],
)
def test_a_broken_file_may_hold_what_is_selected_where_it_mentions_it(
    namespace: str, select_by: dict[str, object], text: str, *, may: bool
):
    """A placement that cannot tell says yes: the file is looked at by its words alone."""
    parsed = parse("placements/p.yaml", manifests.placement("p", namespace, resourceSelectors=[select_by]).encode())
    placement = Placement.from_document(parsed.documents[0])
    there = documents("apiVersion: v1\nkind: Namespace\nmetadata: {name: labelled, labels: {team: a}}")
    broken = parse("resources/x.yaml", text.encode())
    assert broken.problems
    assert may_select(placement, select(placement, Resources(there)), broken.named) == may


def test_nothing_selected_has_a_hash_too():
    empty = selected(manifests.placement())
    assert (empty.objects, empty.hash) == ((), "83ff749c5d8eb5a0b62d714175bcbaef1409b371fc5a229a002db6fcc1f144e1")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        pytest.param(
            {
                "kind": "ConfigMap",
                "metadata": {"name": "x", "uid": "u", "generation": 3, "managedFields": [], "labels": {}},
            },
            {"kind": "ConfigMap", "metadata": {"name": "x"}},
            id="what a server fills in",
        ),
        pytest.param(
            {"kind": "ConfigMap", "metadata": {"name": "x"}, "data": {}, "status": {"a": 1}},
            {"kind": "ConfigMap", "metadata": {"name": "x"}},
            id="status, and data without an entry",
        ),
        pytest.param(
            {
                "kind": "ConfigMap",
                "metadata": {
                    "name": "x",
                    "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "own": "1"},
                },
            },
            {"kind": "ConfigMap", "metadata": {"name": "x", "annotations": {"own": "1"}}},
            id="kubectl's annotation",
        ),
        pytest.param(
            {
                "kind": "Service",
                "metadata": {"name": "x"},
                "spec": {
                    "clusterIP": "10.0.0.1",
                    "clusterIPs": ["10.0.0.1"],
                    "ports": [{"port": 80, "nodePort": 30000}],
                },
            },
            {"kind": "Service", "metadata": {"name": "x"}, "spec": {"ports": [{"port": 80}]}},
            id="a service's address and ports on nodes",
        ),
        pytest.param(
            {"kind": "Service", "metadata": {"name": "x"}, "spec": {"clusterIP": "None", "healthCheckNodePort": 1}},
            {"kind": "Service", "metadata": {"name": "x"}, "spec": {"clusterIP": "None"}},
            id="a headless service stays headless",
        ),
        pytest.param(
            {"kind": "Secret", "metadata": {"name": "x"}, "data": {"a": "MQ=="}, "stringData": {"b": "2"}},
            {"kind": "Secret", "metadata": {"name": "x"}, "type": "Opaque", "data": {"a": "MQ==", "b": "Mg=="}},
            id="a secret's plain strings",
        ),
    ],
)
def test_sanitising_leaves_what_a_hub_would_keep(given, kept):
    assert sanitise({"apiVersion": "v1", **given}) == {"apiVersion": "v1", **kept}


@pytest.mark.parametrize("manual", [False, True])
def test_a_jobs_generated_labels_are_dropped_unless_its_selector_is_the_authors(manual):
    labels = {"controller-uid": "u", "batch.kubernetes.io/controller-uid": "u", "job-name": "x"}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "x", "labels": labels},
        "spec": {
            **({"manualSelector": True} if manual else {}),
            "selector": {"matchLabels": {"controller-uid": "u"}},
            "template": {"metadata": {"labels": labels}},
        },
    }
    spec = sanitise(job)["spec"]
    assert spec["selector"] == {"matchLabels": {"controller-uid": "u"} if manual else {}}
    assert spec["template"]["metadata"]["labels"] == (labels if manual else {"job-name": "x"})
    assert sanitise(job)["metadata"]["labels"] == labels
