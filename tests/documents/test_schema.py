"""What the schemas accept and refuse, and in which words."""

import copy

import pytest

from reconciler.core.model import KINDS, Document
from reconciler.documents import schema, yaml
from reconciler.documents.parse import parse

EXAMPLES = {kind: schema.load(kind)["examples"] for kind in KINDS}
STRATEGY, RUN, CRP = "ClusterStagedUpdateStrategy", "ClusterStagedUpdateRun", "ClusterResourcePlacement"
CLUSTER, APPROVAL, CRO, RO = "MemberCluster", "ClusterApprovalRequest", "ClusterResourceOverride", "ResourceOverride"


def changed(kind, pointer, value):
    """Return the kind's first example with one field set; missing parents are made, `None` removes it."""
    body = copy.deepcopy(EXAMPLES[kind][0])
    *parents, last = [int(part) if part.isdigit() else part.replace("~1", "/") for part in pointer.split("/")[1:]]
    target = body
    for part in parents:
        target = target[part] if isinstance(target, list) else target.setdefault(part, {})
    if isinstance(target, list) and last == len(target):
        target.append(value)
    else:
        target[last] = value
    return body


def problems(body):
    kind = body["kind"]
    return parse(f"{KINDS[kind].folder}/a.yaml", yaml.dump(body).encode()).problems


# -- as upstream's API server decides ------------------------------------------------------------------------------


def strategy(**stage):
    spec = {"stages": [{"name": "all", "labelSelector": {}, **stage}]}
    api = "placement.kubernetes-fleet.io/v1"
    return {"apiVersion": api, "kind": STRATEGY, "metadata": {"name": "t"}, "spec": spec}


WAIT, ASK = {"type": "TimedWait", "waitTime": "1s"}, {"type": "Approval"}
NO_WAIT = "AfterStageTaskType is Approval, waitTime is not allowed"
NEEDS_WAIT = "AfterStageTaskType is TimedWait, waitTime is required"
NO_TIMED = "BeforeStageTaskType cannot be TimedWait"


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"beforeStageTasks": [WAIT]}, NO_TIMED),
        ({"beforeStageTasks": [{"type": "TimedWait"}]}, NO_TIMED),
        ({"beforeStageTasks": [{**ASK, "waitTime": "1s"}]}, NO_WAIT),
        ({"beforeStageTasks": [ASK, ASK]}, "must have at most 1 item(s)"),
        ({"beforeStageTasks": [ASK]}, None),
        ({"beforeStageTasks": []}, None),
        ({"afterStageTasks": [{**ASK, "waitTime": "1s"}]}, NO_WAIT),
        ({"afterStageTasks": [{"type": "TimedWait"}]}, NEEDS_WAIT),
        ({"afterStageTasks": [WAIT, {**WAIT, "waitTime": "2s"}]}, None),
        ({"afterStageTasks": [ASK, ASK]}, None),
        ({"afterStageTasks": [ASK, WAIT, ASK]}, "must have at most 2 item(s)"),
        ({"afterStageTasks": [ASK, WAIT]}, None),
        ({"afterStageTasks": [{"type": "Foo"}]}, "must be `TimedWait` or `Approval`"),
        ({"afterStageTasks": [{"waitTime": "1s"}]}, "`type` is required"),
        ({"afterStageTasks": [{"type": ""}]}, "must be `TimedWait` or `Approval`"),
    ],
)
def test_tasks_are_admitted_as_upstream_admits_them(stage, message):
    assert [problem.message for problem in problems(strategy(**stage))] == ([message] if message else [])


@pytest.mark.parametrize("wait", "0s 1s 90m 1h30m 1.5h 0.5s 1h0m0s 1m1h 1m1m 9999999h".split())
def test_waits_that_upstream_admits_are_accepted(wait):
    body = strategy(afterStageTasks=[{"type": "TimedWait", "waitTime": wait}])
    assert problems(body) == ()


@pytest.mark.parametrize(
    "wait",
    [
        "00s",
        "01h",
        "1",
        "1d",
        "0abc",
        "100ms",
        "1us",
        "-1s",
        "+1s",
        "1h 30m",
        "",
        "1H",
        ".5s",
        "1.s",
        "1e3s",
        "1s\n",
        60,
        60.5,
    ],
)
def test_waits_that_upstream_refuses_are_refused(wait):
    (problem,) = problems(strategy(afterStageTasks=[{"type": "TimedWait", "waitTime": wait}]))
    assert problem.pointer == "/spec/stages/0/afterStageTasks/0/waitTime"


@pytest.mark.parametrize("value", [1, 5, 101, 2147483647, "1%", "99%", "100%", None])
def test_concurrency_that_upstream_admits_and_can_use_is_accepted(value):
    assert problems(strategy(maxConcurrency=value)) == ()


@pytest.mark.parametrize("value", [0, -1, 2147483648, 1.5, "50", "0", "0%", "101%", "05%", "", "50%\n", [], True])
def test_concurrency_that_upstream_refuses_or_cannot_use_is_refused(value):
    (problem,) = problems(strategy(maxConcurrency=value))
    assert problem.pointer == "/spec/stages/0/maxConcurrency"


# -- every limit, at it and past it ----------------------------------------------------------------------------------

SELECTOR = {"group": "", "version": "v1", "kind": "Namespace"}
TERM = {"labelSelector": {}}
REQUIRED = "/spec/policy/affinity/clusterAffinity/requiredDuringSchedulingIgnoredDuringExecution"
RULE = {"clusterSelector": {"clusterSelectorTerms": []}, "overrideType": "Delete"}
PATCH = {"op": "remove", "path": "/a"}
NAMED = {**SELECTOR, "name": "n"}


def many(count, item, **numbered):
    """Return so many items; `numbered` gives fields that must differ between them."""
    return [{**item, **{name: text.format(n) for name, text in numbered.items()}} for n in range(count)]


def tolerations(count):
    return many(count, {"operator": "Exists"}, key="k{}")


LIMITS = {
    "the name of a run": (RUN, "/metadata/name", "a" * 63, "a" * 64),
    "the name of a placement": (CRP, "/metadata/name", "a" * 63, "a" * 64),
    "the name of a cluster": (CLUSTER, "/metadata/name", "a" * 63, "a" * 64),
    "the name of a strategy": (STRATEGY, "/metadata/name", "a" * 253, "a" * 254),
    "the name of an approval": (APPROVAL, "/metadata/name", "a" * 253, "a" * 254),
    "the name of an override": (CRO, "/metadata/name", "a" * 253, "a" * 254),
    "the name of the placement of a run": (RUN, "/spec/placementName", "a" * 255, "a" * 256),
    "stages": (STRATEGY, "/spec/stages", many(31, {}, name="s{}"), many(32, {}, name="s{}")),
    "the name of a stage": (STRATEGY, "/spec/stages/0/name", "a" * 63, "a" * 64),
    "a stage's name without letters": (STRATEGY, "/spec/stages/0/name", "a", ""),
    "resource selectors": (CRP, "/spec/resourceSelectors", many(100, SELECTOR), many(101, SELECTOR)),
    "at least one resource selector": (CRP, "/spec/resourceSelectors", [SELECTOR], []),
    "fewest snapshots": (CRP, "/spec/revisionHistoryLimit", 1, 0),
    "most snapshots": (CRP, "/spec/revisionHistoryLimit", 1000, 1001),
    "cluster names": (
        CRP,
        "/spec/policy",
        {"placementType": "PickFixed", "clusterNames": [f"c{n}" for n in range(100)]},
        {"placementType": "PickFixed", "clusterNames": [f"c{n}" for n in range(101)]},
    ),
    "the length of a cluster name": (
        CRP,
        "/spec/policy",
        {"placementType": "PickFixed", "clusterNames": ["c" * 63]},
        {"placementType": "PickFixed", "clusterNames": ["c" * 64]},
    ),
    "numberOfClusters": (
        CRP,
        "/spec/policy",
        {"placementType": "PickN", "numberOfClusters": 0},
        {"placementType": "PickN", "numberOfClusters": -1},
    ),
    "affinity terms": (CRP, f"{REQUIRED}/clusterSelectorTerms", [TERM] * 10, [TERM] * 11),
    "tolerations": (CRP, "/spec/policy/tolerations", tolerations(100), tolerations(101)),
    "a period of zero": (
        CRP,
        "/spec/strategy",
        {"rollingUpdate": {"unavailablePeriodSeconds": 0}},
        {"rollingUpdate": {"unavailablePeriodSeconds": -1}},
    ),
    "a surge of zero": (CRP, "/spec/strategy", {"rollingUpdate": {"maxSurge": 0}}, {"rollingUpdate": {"maxSurge": -1}}),
    "unavailable in percent": (
        CRP,
        "/spec/strategy",
        {"rollingUpdate": {"maxUnavailable": "100%"}},
        {"rollingUpdate": {"maxUnavailable": "101%"}},
    ),
    "the shortest heartbeat": (CLUSTER, "/spec/heartbeatPeriodSeconds", 1, 0),
    "the longest heartbeat": (CLUSTER, "/spec/heartbeatPeriodSeconds", 600, 601),
    "taints": (
        CLUSTER,
        "/spec/taints",
        many(100, {"effect": "NoSchedule"}, key="k{}"),
        many(101, {"effect": "NoSchedule"}, key="k{}"),
    ),
    "override selectors": (
        CRO,
        "/spec/clusterResourceSelectors",
        many(20, SELECTOR, name="n{}"),
        many(21, SELECTOR, name="n{}"),
    ),
    "at least one override selector": (CRO, "/spec/clusterResourceSelectors", [NAMED], []),
    "namespaced override selectors": (
        RO,
        "/spec/resourceSelectors",
        many(20, SELECTOR, name="n{}"),
        many(21, SELECTOR, name="n{}"),
    ),
    "at least one namespaced override selector": (RO, "/spec/resourceSelectors", [NAMED], []),
    "override rules": (CRO, "/spec/policy/overrideRules", [RULE] * 20, [RULE] * 21),
    "at least one override rule": (CRO, "/spec/policy/overrideRules", [RULE], []),
    "patches": (
        CRO,
        "/spec/policy/overrideRules",
        [{"jsonPatchOverrides": [PATCH] * 20}],
        [{"jsonPatchOverrides": [PATCH] * 21}],
    ),
    "at least one patch": (
        CRO,
        "/spec/policy/overrideRules",
        [{"jsonPatchOverrides": [PATCH]}],
        [{"jsonPatchOverrides": []}],
    ),
    "a label's value": (STRATEGY, "/spec/stages/0/labelSelector/matchLabels/a", "b" * 63, "b" * 64),
    "a sorting label's key": (STRATEGY, "/spec/stages/0/sortingLabelKey", "a" * 63, "a" * 64),
    "the reason of an approval": (APPROVAL, "/status/conditions/0/reason", "a" * 1024, "a" * 1025),
    "the message of an approval": (APPROVAL, "/status/conditions/0/message", "a" * 32768, "a" * 32769),
    "the observed generation": (APPROVAL, "/status/conditions/0/observedGeneration", 0, -1),
}


@pytest.mark.parametrize(("kind", "pointer", "fits", "_over"), LIMITS.values(), ids=LIMITS)
def test_what_is_at_a_limit_is_accepted(kind, pointer, fits, _over):
    assert problems(changed(kind, pointer, fits)) == ()


@pytest.mark.parametrize(("kind", "pointer", "_fits", "over"), LIMITS.values(), ids=LIMITS)
def test_what_is_past_a_limit_is_refused(kind, pointer, _fits, over):
    assert len(problems(changed(kind, pointer, over))) == 1


@pytest.mark.parametrize(("low", "high", "fine"), [(-100, 100, True), (-101, 100, False), (-100, 101, False)])
def test_weights_of_preferences_are_limited(low, high, fine):
    preferred = [{"weight": weight, "preference": {"labelSelector": {}}} for weight in (low, high)]
    affinity = {"clusterAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
    policy = {"placementType": "PickN", "numberOfClusters": 1, "affinity": affinity}
    assert (problems(changed(CRP, "/spec/policy", policy)) == ()) is fine


# -- rules with words of their own -----------------------------------------------------------------------------------

ONE_NAMESPACE = (
    "when statusReportingScope is NamespaceAccessible, exactly one resourceSelector with kind 'Namespace' is required"
)
LABEL_KEY = "must be a label key: an optional DNS subdomain and `/`, then at most 63 letters, digits, `-`, `_` and `.`"
EXPRESSIONS = "/spec/stages/0/labelSelector/matchExpressions"
PICK_N, FIXED = {"placementType": "PickN", "numberOfClusters": 1}, {"placementType": "PickFixed"}
NWRS = {**NAMED, "selectionScope": "NamespaceWithResourceSelectors"}
PREFERRED = {"clusterAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": {}}]}}
PATCHES = "/spec/policy/overrideRules/0/jsonPatchOverrides/0"

WORDS = {
    "a long name": (RUN, "/metadata/name", "a" * 64, "metadata.name max length is 63"),
    "a dash in a stage": (
        STRATEGY,
        "/spec/stages/0/name",
        "a-b",
        "must be lower case letters and digits only, without `-`",
    ),
    "no concurrency": (STRATEGY, "/spec/stages/0/maxConcurrency", 0, "maxConcurrency must be at least 1"),
    "an index without quotes": (RUN, "/spec/resourceSnapshotIndex", 1, "must be a string, not a number"),
    "an empty state": (RUN, "/spec/state", "", "must be `Initialize` or `Run` or `Stop`"),
    "an unknown operator": (
        STRATEGY,
        EXPRESSIONS,
        [{"key": "a", "operator": "Gt"}],
        "must be `In` or `NotIn` or `Exists` or `DoesNotExist`",
    ),
    "In without values": (
        STRATEGY,
        EXPRESSIONS,
        [{"key": "a", "operator": "In"}],
        "the operators In and NotIn need values",
    ),
    "In with no values": (
        STRATEGY,
        EXPRESSIONS,
        [{"key": "a", "operator": "In", "values": []}],
        "the operators In and NotIn need at least one value",
    ),
    "Exists with values": (
        STRATEGY,
        EXPRESSIONS,
        [{"key": "a", "operator": "Exists", "values": ["b"]}],
        "the operators Exists and DoesNotExist take no values",
    ),
    "a label without a value": (
        STRATEGY,
        "/spec/stages/0/labelSelector/matchLabels/environment",
        None,
        "must be a string, not empty",
    ),
    "a space in a label's key": (STRATEGY, "/spec/stages/0/labelSelector/matchLabels/a b", "c", LABEL_KEY),
    "name and labels": (
        CRP,
        "/spec/resourceSelectors/0/labelSelector",
        {},
        "name and labelSelector are mutually exclusive in a resource selector",
    ),
    "two scoped namespaces": (
        CRP,
        "/spec/resourceSelectors",
        [NWRS, NAMED],
        "next to a selector with NamespaceWithResourceSelectors no other Namespace selector is allowed",
    ),
    "a scoped namespace by labels": (
        CRP,
        "/spec/resourceSelectors",
        [{**SELECTOR, "selectionScope": NWRS["selectionScope"]}],
        "NamespaceWithResourceSelectors selects its namespace by name",
    ),
    "accessible without a namespace": (
        CRP,
        "/spec",
        {"resourceSelectors": [{**SELECTOR, "kind": "Node"}], "statusReportingScope": "NamespaceAccessible"},
        ONE_NAMESPACE,
    ),
    "PickN without a number": (
        CRP,
        "/spec/policy",
        {"placementType": "PickN"},
        "placementType is PickN, numberOfClusters is required",
    ),
    "a number for PickAll": (
        CRP,
        "/spec/policy/numberOfClusters",
        1,
        "numberOfClusters is only valid for placementType PickN",
    ),
    "names for PickN": (
        CRP,
        "/spec/policy",
        {**PICK_N, "clusterNames": ["a"]},
        "clusterNames are only valid for placementType PickFixed",
    ),
    "names twice": (CRP, "/spec/policy", {**FIXED, "clusterNames": ["a", "a"]}, "each cluster may be named only once"),
    "affinity for PickFixed": (
        CRP,
        "/spec/policy",
        {**FIXED, "affinity": {}},
        "affinity is only valid for placementType PickAll and PickN",
    ),
    "tolerations for PickFixed": (
        CRP,
        "/spec/policy",
        {**FIXED, "tolerations": tolerations(1)},
        "tolerations are only valid for placementType PickAll and PickN",
    ),
    "spread for PickAll": (
        CRP,
        "/spec/policy/topologySpreadConstraints",
        [{"topologyKey": "a"}],
        "topologySpreadConstraints are only valid for placementType PickN",
    ),
    "preferences for PickAll": (
        CRP,
        "/spec/policy/affinity",
        PREFERRED,
        "preferredDuringSchedulingIgnoredDuringExecution is only valid for placementType PickN",
    ),
    "a sorter in a required term": (
        CRP,
        f"{REQUIRED}/clusterSelectorTerms",
        [{"propertySorter": {}}],
        "propertySorter is not allowed in a required term",
    ),
    "a toleration without a key": (
        CRP,
        "/spec/policy/tolerations",
        [{"value": "a"}],
        "with the operator Equal the key is required",
    ),
    "rollingUpdate for External": (
        CRP,
        "/spec/strategy/rollingUpdate",
        {},
        "rollingUpdate is only valid for type RollingUpdate",
    ),
    "a config without ServerSideApply": (
        CRP,
        "/spec/strategy/applyStrategy/serverSideApplyConfig",
        {},
        "serverSideApplyConfig is only valid for type ServerSideApply",
    ),
    "a mirror without a destination": (
        CRP,
        "/spec/strategy/reportBackStrategy",
        {"type": "Mirror"},
        "when reportBackStrategy.type is 'Mirror', a destination must be specified",
    ),
    "a namespaced placement": (
        CRO,
        "/spec/placement/scope",
        "Namespaced",
        "clusterResourceOverride placement reference cannot be Namespaced scope",
    ),
    "labels in an override": (
        CRO,
        "/spec/clusterResourceSelectors/0/labelSelector",
        {},
        "labelSelector is not supported for ClusterResourceOverride resource selection",
    ),
    "a selector twice": (
        CRO,
        "/spec/clusterResourceSelectors",
        [NAMED, NAMED],
        "clusterResourceSelectors must be unique",
    ),
    "Delete with patches": (
        CRO,
        "/spec/policy/overrideRules/0/overrideType",
        "Delete",
        "jsonPatchOverrides must be empty when overrideType is Delete",
    ),
    "JSONPatch without patches": (
        CRO,
        "/spec/policy/overrideRules",
        [{}],
        "jsonPatchOverrides must not be empty when overrideType is JSONPatch",
    ),
    "a remove with a value": (CRO, f"{PATCHES}/op", "remove", "remove operation cannot have value"),
    "a path without a slash": (CRO, f"{PATCHES}/path", "a", "path must start with /"),
    "a path with a gap": (CRO, f"{PATCHES}/path", "/a//b", "path cannot contain empty segments"),
    "the kind": (CRO, f"{PATCHES}/path", "/kind", "cannot override typeMeta fields"),
    "the status": (CRO, f"{PATCHES}/path", "/status/a", "cannot override status fields"),
    "the metadata": (CRO, f"{PATCHES}/path", "/metadata", "cannot override field metadata"),
    "the name": (
        CRO,
        f"{PATCHES}/path",
        "/metadata/name",
        "cannot override metadata fields except annotations and labels",
    ),
    "a boolean as status": (APPROVAL, "/status/conditions/0/status", True, "must be a string, not true or false"),
    "two Approved conditions": (
        APPROVAL,
        "/status/conditions/1",
        {"type": "Approved", "status": "False"},
        "there may be only one condition of type Approved",
    ),
    "half a spec": (APPROVAL, "/spec", {"targetStage": "a"}, "`parentStageRollout` is required"),
    "a taint of another effect": (CLUSTER, "/spec/taints/0/effect", "NoExecute", "must be `NoSchedule`"),
    "an unknown field": (RUN, "/spec/placement", "a", "unknown field `placement`"),
}


@pytest.mark.parametrize(("kind", "pointer", "value", "message"), WORDS.values(), ids=WORDS)
def test_a_refusal_says_in_plain_words_what_is_wrong(kind, pointer, value, message):
    assert [problem.message for problem in problems(changed(kind, pointer, value))] == [message]


@pytest.mark.parametrize(
    ("kind", "pointer", "value", "hint"),
    [
        (RUN, "/spec/placement", "a", "did you mean `placementName`?"),
        (RUN, "/spec/state", "run", "did you mean `Run`?"),
        (RUN, "/spec/resourceSnapshotIndex", 1, "put it in quotes"),
        (CRP, "/spec/revisionHistoryLimit", "5", "write a number, without quotes"),
        (CRP, "/spec/policy", None, "leave the field out, or fill it in"),
    ],
)
def test_common_mistakes_get_a_hint(kind, pointer, value, hint):
    assert [problem.hint for problem in problems(changed(kind, pointer, value))] == [hint]


def test_problems_are_in_the_order_of_lines_with_pointers_and_no_more_than_twenty():
    body = changed(STRATEGY, "/spec/stages", [{"name": "A", "foo": 1, "bar/baz": 1}] * 11)
    (raw,) = yaml.read("a.yaml", yaml.dump(body).encode(), lines=True).documents
    document = Document(path="strategies/a.yaml", line=raw.line, index=0, body=raw.value, lines=raw.lines)
    found = schema.check(document)
    assert len(found) == 20
    assert [(problem.line, problem.pointer, problem.rule) for problem in found[:4]] == [
        (7, "/spec/stages/0/bar~1baz", "Schema/additionalProperties"),
        (8, "/spec/stages/0/foo", "Schema/additionalProperties"),
        (9, "/spec/stages/0/name", "Schema/pattern"),
        (10, "/spec/stages/1/bar~1baz", "Schema/additionalProperties"),
    ]


def test_values_are_never_quoted():
    body = changed(CRO, PATCHES, {"op": "hunter2", "path": "hunter2", "value": "hunter2", "extra": "hunter2"})
    found = problems(body)
    assert len(found) == 3
    assert not any("hunter2" in str(problem) for problem in found)
