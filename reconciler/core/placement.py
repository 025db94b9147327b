"""Which clusters a placement chooses, and what of it is not carried out yet: refused by name, never ignored."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from reconciler.core.model import Body, Document, Key, MemberCluster, Override, Placement, Problem
from reconciler.core.selection import ENVELOPES

RULE = "NotSupportedYet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The clusters a policy chooses, by name in order; `wanted` is how many it needs, `missing` who is not there."""

    clusters: tuple[str, ...]
    wanted: int
    missing: tuple[str, ...] = ()


def choose(placement: Placement, clusters: Mapping[str, MemberCluster]) -> Choice:
    """Apply PickAll (with required label affinity) or PickFixed to the fleet."""
    if placement.placement_type == "PickFixed":
        there = tuple(sorted(name for name in placement.cluster_names if name in clusters))
        missing = tuple(sorted(name for name in placement.cluster_names if name not in clusters))
        return Choice(clusters=there, wanted=len(placement.cluster_names), missing=missing)
    terms = placement.affinity_terms
    chosen = tuple(
        sorted(
            name
            for name, cluster in clusters.items()
            if terms is None or any(term.matches(cluster.labels) for term in terms)
        )
    )
    return Choice(clusters=chosen, wanted=len(chosen))


# -- what is accepted but not carried out yet -----------------------------------------------------------------

_POLICY_FIELDS = ("topologySpreadConstraints", "numberOfClusters")
_APPLY = {
    "type": ("ClientSideApply", "ServerSideApply"),
    "comparisonOption": ("PartialComparison",),
    "whenToApply": ("Always",),
}


def unsupported(document: Document) -> Iterator[Problem]:
    """Yield every field of a placement that validates but is not carried out yet."""
    spec = document.body["spec"]
    yield from _unsupported_policy(document, spec.get("policy") or {})
    yield from _unsupported_strategy(document, spec.get("strategy") or {})
    if spec.get("statusReportingScope") == "NamespaceAccessible" and not document.key.namespace:
        yield _refuse(document, "/spec/statusReportingScope", "statusReportingScope: NamespaceAccessible")
    for number, selector in enumerate(spec["resourceSelectors"]):
        if selector.get("selectionScope") == "NamespaceWithResourceSelectors":
            pointer = f"/spec/resourceSelectors/{number}/selectionScope"
            yield _refuse(document, pointer, "selectionScope: NamespaceWithResourceSelectors")


def _unsupported_policy(document: Document, policy: Body) -> Iterator[Problem]:
    if policy.get("placementType") == "PickN":
        yield _refuse(document, "/spec/policy/placementType", "PickN")
    for name in _POLICY_FIELDS:
        if policy.get(name) is not None and policy.get("placementType") != "PickN":
            yield _refuse(document, f"/spec/policy/{name}", name)
    yield from _affinity(document, (policy.get("affinity") or {}).get("clusterAffinity") or {})


def _unsupported_strategy(document: Document, strategy: Body) -> Iterator[Problem]:
    if (strategy.get("type") or "RollingUpdate") == "RollingUpdate":
        yield _refuse(document, "/spec/strategy/type", "RollingUpdate", hint="set spec.strategy.type: External")
    apply = strategy.get("applyStrategy") or {}
    for name, carried_out in _APPLY.items():
        if apply.get(name) is not None and apply[name] not in carried_out:
            yield _refuse(document, f"/spec/strategy/applyStrategy/{name}", f"{name}: {apply[name]}")
    if (strategy.get("reportBackStrategy") or {}).get("type") == "Mirror":
        yield _refuse(document, "/spec/strategy/reportBackStrategy", "reportBackStrategy: Mirror")


def _affinity(document: Document, affinity: Mapping[str, object]) -> Iterator[Problem]:
    base = "/spec/policy/affinity/clusterAffinity"
    if affinity.get("preferredDuringSchedulingIgnoredDuringExecution"):
        name = "preferredDuringSchedulingIgnoredDuringExecution"
        yield _refuse(document, f"{base}/{name}", name)
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    terms = required.get("clusterSelectorTerms") or () if isinstance(required, Mapping) else ()
    for number, term in enumerate(terms):
        for name in ("propertySelector", "propertySorter"):
            if term.get(name) is not None:
                pointer = f"{base}/requiredDuringSchedulingIgnoredDuringExecution/clusterSelectorTerms/{number}/{name}"
                yield _refuse(document, pointer, name)


def _refuse(document: Document, pointer: str, what: str, hint: str = "") -> Problem:
    return Problem(
        path=document.path,
        line=document.line_of(pointer),
        pointer=pointer,
        rule=RULE,
        message=f"{what} is valid but not carried out yet, so {document.key} is not rolled out",
        hint=hint,
    )


def unsupported_clusters(
    placement: Placement, choice: Choice, clusters: Mapping[str, tuple[Document, MemberCluster]]
) -> Iterator[Problem]:
    """Yield a refusal for every chosen cluster with taints."""
    for name in choice.clusters:
        document, cluster = clusters[name]
        if cluster.taints:
            yield _touching(document, "/spec/taints", "a taint", placement.key)


def unsupported_resources(placement: Placement, selected: Iterable[Document]) -> Iterator[Problem]:
    """Yield a refusal for every selected envelope."""
    for document in selected:
        if document.kind in ENVELOPES:
            yield _touching(document, "/kind", document.kind, placement.key)


def unsupported_overrides(
    placement: Placement, overrides: Iterable[tuple[Document, Override]], selected: Iterable[Document]
) -> Iterator[Problem]:
    """Yield a refusal for every override that would touch what the placement delivers."""
    keys = [document.key for document in selected]
    for document, override in overrides:
        if override.placement in (None, placement.key.name) and any(_overrides(override, key) for key in keys):
            yield _touching(document, "/spec", "an override", placement.key)


def _overrides(override: Override, key: Key) -> bool:
    if override.key.namespace and key.namespace != override.key.namespace:
        return False
    names = {(one["group"], one["kind"], one["name"]) for one in override.selectors}
    through_namespace = not override.key.namespace and ("", "Namespace", key.namespace) in names
    return (key.group, key.kind, key.name) in names or through_namespace


def _touching(document: Document, pointer: str, what: str, placement: Key) -> Problem:
    return Problem(
        path=document.path,
        line=document.line_of(pointer),
        pointer=pointer,
        rule=RULE,
        message=f"{what} is valid but not carried out yet, so {placement} is not rolled out",
    )
