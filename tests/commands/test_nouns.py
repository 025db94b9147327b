"""What can be asked for, and by which labels."""

import pytest

from reconciler.commands.nouns import NOUNS, noun_of, selector_of
from reconciler.errors import UsageError


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("csur clusterstagedupdaterun clusterstagedupdateruns", "ClusterStagedUpdateRun"),
        ("sur stagedupdaterun stagedupdateruns", "StagedUpdateRun"),
        ("csus clusterstagedupdatestrategy clusterstagedupdatestrategies", "ClusterStagedUpdateStrategy"),
        ("sus stagedupdatestrategy stagedupdatestrategies", "StagedUpdateStrategy"),
        ("crp clusterresourceplacement clusterresourceplacements", "ClusterResourcePlacement"),
        ("rp resourceplacement resourceplacements", "ResourcePlacement"),
        ("careq clusterapprovalrequest clusterapprovalrequests", "ClusterApprovalRequest"),
        ("areq approvalrequest approvalrequests", "ApprovalRequest"),
        ("crs clusterresourcesnapshot clusterresourcesnapshots", "ClusterResourceSnapshot"),
        ("rs resourcesnapshot resourcesnapshots", "ResourceSnapshot"),
        ("csps clusterschedulingpolicysnapshot clusterschedulingpolicysnapshots", "ClusterSchedulingPolicySnapshot"),
        ("sps schedulingpolicysnapshot schedulingpolicysnapshots", "SchedulingPolicySnapshot"),
        ("cluster clusters membercluster memberclusters", "MemberCluster"),
        ("clusterresourceoverride clusterresourceoverrides", "ClusterResourceOverride"),
        ("resourceoverride resourceoverrides", "ResourceOverride"),
        ("CSUR clusterstagedupdateruns.placement.kubernetes-fleet.io", "ClusterStagedUpdateRun"),
    ],
)
def test_every_name_of_a_kind_is_understood(words, kind):
    assert {noun_of(word).kind for word in words.split()} == {kind}


def test_no_word_asks_for_two_kinds():
    words = [word for noun in NOUNS for word in noun.names]
    assert len(words) == len(set(words))


@pytest.mark.parametrize("word", ["pods", "csur.apps", ""])
def test_an_unknown_noun_is_answered_with_what_there_is(word):
    with pytest.raises(UsageError, match=r"clusterstagedupdateruns \(csur\)") as refused:
        noun_of(word)
    assert str(refused.value).endswith(", problems")


LABELS = {"environment": "canary", "order": "1", "kubernetes-fleet.io/ring": "a"}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("environment=canary", True),
        ("environment == canary", True),
        ("environment=staging", False),
        ("environment!=staging", True),
        ("environment != canary", False),
        ("missing!=x", True),
        ("environment in (staging, canary)", True),
        ("environment in (staging)", False),
        ("environment notin (staging),order=1", True),
        ("missing notin (x)", True),
        ("order", True),
        ("missing", False),
        ("!missing", True),
        ("!order", False),
        ("kubernetes-fleet.io/ring=a,environment in (canary,x),!gone", True),
        ("kubernetes-fleet.io/ring=a,environment in (canary,x),gone", False),
    ],
)
def test_a_label_selector_means_what_it_means_to_kubectl(text, matches):
    assert selector_of(text).matches(LABELS) is matches


@pytest.mark.parametrize("text", ["a=b=c", "a in x", "=a", "a,", "a>1"])
def test_what_is_no_label_selector_is_refused(text):
    with pytest.raises(UsageError, match="is no label selector"):
        selector_of(text)
