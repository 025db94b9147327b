"""What is accepted but not carried out yet: refused by name, never ignored."""

import pytest

from tests import manifests
from tests.manifests import run
from tests.world import World

TAINTED = manifests.cluster("east", taints=[{"key": "maintenance", "effect": "NoSchedule"}], ring="prod")
ENVELOPE = manifests.text(
    {
        "apiVersion": "placement.kubernetes-fleet.io/v1beta1",
        "kind": "ResourceEnvelope",
        "metadata": {"name": "inside", "namespace": "app"},
        "data": {"a.yaml": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "app"}}},
    }
)


def placed(**spec):
    return {"placements/web.yaml": manifests.placement(**spec)}


def required(**term):
    terms = {"clusterSelectorTerms": [term]}
    affinity = {"clusterAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    return placed(policy={"placementType": "PickAll", "affinity": affinity})


def applied(**apply):
    return placed(strategy={"type": "External", "applyStrategy": apply})


SPREAD = [{"topologyKey": "region", "maxSkew": 1}]
SORTER = {"name": "kubernetes-fleet.io/node-count", "sortOrder": "Ascending"}
PREFERRED = {
    "clusterAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": {"propertySorter": SORTER}}]
    }
}
PROPERTY = {"matchExpressions": [{"name": "kubernetes-fleet.io/node-count", "operator": "Gt", "values": ["1"]}]}
NAMESPACE = {"group": "", "version": "v1", "kind": "Namespace", "name": "app"}

CASES = [
    pytest.param(
        {"overrides/touch.yaml": manifests.override()},
        "overrides/touch.yaml",
        "an override",
        id="ClusterResourceOverride",
    ),
    pytest.param(
        {"overrides/touch.yaml": manifests.override("app")},
        "overrides/touch.yaml",
        "an override",
        id="ResourceOverride",
    ),
    pytest.param(
        {"overrides/touch.yaml": manifests.override(placement={"name": "web"})},
        "overrides/touch.yaml",
        "an override",
        id="an override of this placement",
    ),
    pytest.param(placed(policy={"placementType": "PickN", "numberOfClusters": 2}), "", "PickN", id="PickN"),
    pytest.param(
        placed(policy={"placementType": "PickN", "numberOfClusters": 2, "topologySpreadConstraints": SPREAD}),
        "",
        "PickN",
        id="topologySpreadConstraints, of PickN alone",
    ),
    pytest.param(
        placed(policy={"placementType": "PickN", "numberOfClusters": 2, "affinity": PREFERRED}),
        "",
        "PickN, preferredDuringSchedulingIgnoredDuringExecution",
        id="preferred affinity, of PickN alone",
    ),
    pytest.param(required(propertySelector=PROPERTY), "", "propertySelector", id="propertySelector"),
    pytest.param(placed(strategy={"type": "RollingUpdate"}), "", "RollingUpdate", id="RollingUpdate"),
    pytest.param(placed(strategy=None), "", "RollingUpdate", id="no strategy, which is RollingUpdate"),
    pytest.param(
        {"resources/envelope.yaml": ENVELOPE}, "resources/envelope.yaml", "ResourceEnvelope", id="an envelope"
    ),
    pytest.param({"clusters/east.yaml": TAINTED}, "clusters/east.yaml", "a taint", id="a taint"),
    pytest.param(applied(type="ReportDiff"), "", "type: ReportDiff", id="ReportDiff"),
    pytest.param(
        applied(comparisonOption="FullComparison"), "", "comparisonOption: FullComparison", id="FullComparison"
    ),
    pytest.param(applied(whenToApply="IfNotDrifted"), "", "whenToApply: IfNotDrifted", id="IfNotDrifted"),
    pytest.param(
        placed(
            policy={"placementType": "PickFixed", "clusterNames": ["canary"]},
            strategy={"type": "External", "reportBackStrategy": {"type": "Mirror", "destination": "OriginalResource"}},
        ),
        "",
        "reportBackStrategy: Mirror",
        id="Mirror",
    ),
    pytest.param(
        placed(statusReportingScope="NamespaceAccessible"),
        "",
        "statusReportingScope: NamespaceAccessible",
        id="NamespaceAccessible",
    ),
    pytest.param(
        placed(resourceSelectors=[{**NAMESPACE, "selectionScope": "NamespaceWithResourceSelectors"}]),
        "",
        "selectionScope: NamespaceWithResourceSelectors",
        id="NamespaceWithResourceSelectors",
    ),
]


@pytest.mark.parametrize(("changes", "path", "what"), CASES)
def test_what_is_not_carried_out_yet_is_refused_by_name(world: World, changes: dict, path: str, what: str):
    """The run is not initialized, no member is touched, and the problem names file and field."""
    for name, ring in {"canary": "canary", "east": "prod"}.items():
        world.joins(name, ring=ring)
    world.begins()
    world.commits(
        {
            "resources/app.yaml": manifests.text(
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "app"}},
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "app"}},
            ),
            "placements/web.yaml": manifests.placement(),
            "strategies/rings.yaml": manifests.strategy(manifests.stage("canary"), manifests.stage("prod")),
            "runs/web-1.yaml": run("web-1"),
            **changes,
        }
    )
    world.passes()
    words = "is valid but not carried out yet, so ClusterResourcePlacement web is not rolled out"
    assert [(one["path"], one["rule"], one["message"]) for one in world.file("problems.yaml")["problems"]] == [
        (path or "placements/web.yaml", "NotSupportedYet", f"{one} {words}") for one in what.split(", ")
    ]
    assert "NotSupportedYet" in world.message("web-1", "Initialized") or what == "RollingUpdate"
    assert world.conditions("web-1") == {"Initialized": "False UpdateRunInitializedFailed"}
    assert world.writes("canary") == []


def test_a_refusal_is_told_once_and_no_cluster_is_called_scheduled(rings: World):
    """The rule stood twice in the message, and every cluster said that it was successfully scheduled."""
    rings.commits({**applied(whenToApply="IfNotDrifted"), "runs/web-1.yaml": run("web-1")})
    rings.passes()
    why = "placements/web.yaml:"
    assert rings.message("web-1", "Initialized").count("NotSupportedYet") == 1
    status = rings.file("placements/_cluster/web/placement.yaml")["status"]
    [scheduled] = status["conditions"]
    assert (scheduled["status"], scheduled["reason"]) == ("False", "NotSupportedYet")
    assert scheduled["message"].startswith(why)
    assert "NotSupportedYet" not in scheduled["message"]
    assert status["placementStatuses"] == []


def test_a_refusal_leaves_the_conditions_of_clusters_that_run_something(rings: World):
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes()
    rings.commits(applied(whenToApply="IfNotDrifted"))
    rings.passes()
    status = rings.file("placements/_cluster/web/placement.yaml")["status"]
    assert status["conditions"][0]["status"] == "False"
    assert [one["clusterName"] for one in status["placementStatuses"]] == ["canary", "east", "west"]
