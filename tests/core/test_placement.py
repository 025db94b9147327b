"""Which clusters a policy chooses."""

import pytest

from reconciler.core.model import Key, MemberCluster, Placement
from reconciler.core.placement import Choice, choose, unsupported
from reconciler.documents.parse import parse
from tests import manifests

CLUSTERS = {
    name: MemberCluster(
        key=Key(group="cluster.kubernetes-fleet.io", kind="MemberCluster", name=name), labels={"ring": ring}
    )
    for name, ring in {"west": "prod", "canary": "canary", "east": "prod"}.items()
}


def document(**spec):
    parsed = parse("placements/p.yaml", manifests.placement(**spec).encode())
    assert parsed.problems == ()
    return parsed.documents[0]


def terms(*selectors) -> dict:
    held = {"clusterSelectorTerms": [{"labelSelector": one} for one in selectors]}
    affinity = {"clusterAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": held}}
    return {"placementType": "PickAll", "affinity": affinity}


ALL = ("canary", "east", "west")


@pytest.mark.parametrize(
    ("policy", "choice"),
    [
        pytest.param(None, Choice(clusters=ALL, wanted=3), id="no policy is PickAll"),
        pytest.param({"placementType": "PickAll"}, Choice(clusters=ALL, wanted=3), id="PickAll, by name"),
        pytest.param(
            terms({"matchLabels": {"ring": "canary"}}), Choice(clusters=("canary",), wanted=1), id="by affinity"
        ),
        pytest.param(
            terms({"matchLabels": {"ring": "canary"}}, {"matchLabels": {"ring": "prod"}}),
            Choice(clusters=ALL, wanted=3),
            id="terms are ORed",
        ),
        pytest.param(
            terms({"matchLabels": {"ring": "none"}}), Choice(clusters=(), wanted=0), id="affinity that nobody meets"
        ),
        pytest.param(
            {"placementType": "PickFixed", "clusterNames": ["west", "canary"]},
            Choice(clusters=("canary", "west"), wanted=2),
            id="PickFixed",
        ),
        pytest.param(
            {"placementType": "PickFixed", "clusterNames": ["west", "north", "arctic"]},
            Choice(clusters=("west",), wanted=3, missing=("arctic", "north")),
            id="PickFixed, not all there",
        ),
    ],
)
def test_a_policy_chooses(policy, choice: Choice):
    assert choose(Placement.from_document(document(policy=policy)), CLUSTERS) == choice


def test_the_articles_placement_and_every_default_is_carried_out():
    apply = {
        "type": "ServerSideApply",
        "comparisonOption": "PartialComparison",
        "whenToApply": "Always",
        "whenToTakeOver": "Always",
        "allowCoOwnership": False,
    }
    strategy = {"type": "External", "applyStrategy": apply, "reportBackStrategy": {"type": "Disabled"}}
    assert list(unsupported(document(strategy=strategy, statusReportingScope="ClusterScopeOnly"))) == []


def test_a_refusal_names_file_line_and_field():
    (problem,) = unsupported(document(strategy={"type": "External", "applyStrategy": {"whenToApply": "IfNotDrifted"}}))
    assert (problem.path, problem.line, problem.pointer) == (
        "placements/p.yaml",
        16,
        "/spec/strategy/applyStrategy/whenToApply",
    )
