"""What a placement selects: resources sanitised, ordered and hashed as upstream does it.

The hash is sha256 over the text that Go's encoding/json writes for `{"selectedResources": […]}`, so that the same
content has the same hash here and there.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from reconciler.core.model import (
    CLUSTER_GROUP,
    PLACEMENT_GROUP,
    Body,
    Document,
    Key,
    Named,
    Placement,
    ResourceSelector,
)
from reconciler.core.scopes import NAMESPACED

ENVELOPES = ("ClusterResourceEnvelope", "ResourceEnvelope")

_ORDER = (
    "PriorityClass Namespace NetworkPolicy ResourceQuota LimitRange PodDisruptionBudget "
    "ServiceAccount Secret ConfigMap StorageClass PersistentVolume PersistentVolumeClaim "
    "CustomResourceDefinition ClusterRole ClusterRoleBinding Role RoleBinding Service DaemonSet Pod "
    "ReplicationController ReplicaSet Deployment HorizontalPodAutoscaler StatefulSet Job CronJob "
    "IngressClass Ingress APIService MutatingWebhookConfiguration ValidatingWebhookConfiguration"
).split()
_RANK = {kind: rank for rank, kind in enumerate(_ORDER)}

_NEVER_GROUPS = (CLUSTER_GROUP, "events.k8s.io", "coordination.k8s.io", "metrics.k8s.io")
_NEVER_KINDS = (
    ("", "Pod"),
    ("", "Node"),
    ("networking.fleet.azure.com", "ServiceImport"),
    ("networking.fleet.azure.com", "TrafficManagerProfile"),
    ("networking.fleet.azure.com", "TrafficManagerBackend"),
)


class SelectionError(ValueError):
    """The selectors cannot be carried out; the text says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The selected documents in upstream's order, and what they look like once sanitised."""

    documents: tuple[Document, ...]
    objects: tuple[Body, ...]
    hash: str


# -- Go's JSON ----------------------------------------------------------------------------------------------

_GO_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_GO_ESCAPED = re.compile("[<>&\u2028\u2029]")


def canonical(value: Any) -> str:
    """Return compact JSON as Go's encoding/json writes it: keys sorted by bytes, HTML characters escaped."""
    if isinstance(value, Mapping):
        members = (f"{_go_string(key)}:{canonical(value[key])}" for key in sorted(value))
        return "{" + ",".join(members) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(canonical, value)) + "]"
    if isinstance(value, str):
        return _go_string(value)
    return _go_float(value) if isinstance(value, float) else json.dumps(value)


def _go_string(value: str) -> str:
    return _GO_ESCAPED.sub(lambda match: _GO_ESCAPES[match.group()], json.dumps(value, ensure_ascii=False))


def _go_float(value: float) -> str:
    """Write a float as Go does: without an exponent from 1e-6 up to 1e21, whole numbers without a point."""
    if value.is_integer() and abs(value) < 1e21:  # noqa: PLR2004 - Go's own bound
        return str(int(value))
    if 1e-6 <= abs(value) < 1e-4:  # noqa: PLR2004 - here Python writes an exponent and Go does not
        return format(Decimal(repr(value)), "f")
    return re.sub(r"e([+-])0(\d)$", r"e\1\2", repr(value))


def resource_hash(objects: Iterable[Body]) -> str:
    """Return `kubernetes-fleet.io/resource-hash` of a list of sanitised, ordered objects: 64 hex digits."""
    return hashlib.sha256(canonical({"selectedResources": list(objects)}).encode()).hexdigest()


# -- sanitising -----------------------------------------------------------------------------------------------

_METADATA = (
    "resourceVersion",
    "generation",
    "uid",
    "selfLink",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "ownerReferences",
    "creationTimestamp",
)
_ANNOTATIONS = ("kubectl.kubernetes.io/last-applied-configuration", "deployment.kubernetes.io/revision")
_JOB_LABELS = ("controller-uid", "batch.kubernetes.io/controller-uid")


def sanitise(body: Body) -> Body:
    """Return the object as a hub would keep it: without what a server fills in, with what a namespace always has."""
    result = {key: value for key, value in body.items() if key != "status"}
    result["metadata"] = _clean_metadata(body["metadata"])
    match (str(body["apiVersion"]).rpartition("/")[0], body["kind"]):
        case ("", "Namespace"):
            return _namespace(result)
        case ("", "Service"):
            return {**result, "spec": _service_spec(result.get("spec") or {})}
        case ("", "ConfigMap"):
            return _without_empty(result, ("data", "binaryData"))
        case ("", "Secret"):
            return _secret(result)
        case ("batch", "Job"):
            return _job(result)
    return result


def _clean_metadata(metadata: Body) -> Body:
    kept = {key: value for key, value in metadata.items() if key not in _METADATA and value is not None}
    annotations = kept.get("annotations") or {}
    kept["annotations"] = {key: value for key, value in annotations.items() if key not in _ANNOTATIONS}
    return _without_empty(kept, ("annotations", "labels"))


def _without_empty(body: Body, keys: Iterable[str]) -> Body:
    return {key: value for key, value in body.items() if value or key not in keys}


def _namespace(body: Body) -> Body:
    metadata = body["metadata"]
    labels = {**(metadata.get("labels") or {}), "kubernetes.io/metadata.name": metadata["name"]}
    spec = {**(body.get("spec") or {}), "finalizers": ["kubernetes"]}
    return {**body, "metadata": {**metadata, "labels": labels}, "spec": spec}


def _service_spec(spec: Body) -> Body:
    drop = {"healthCheckNodePort"} | ({"clusterIP", "clusterIPs"} if spec.get("clusterIP") != "None" else set())
    kept = {key: value for key, value in spec.items() if key not in drop}
    if "ports" in kept:
        kept["ports"] = [{key: value for key, value in port.items() if key != "nodePort"} for port in kept["ports"]]
    return kept


def _secret(body: Body) -> Body:
    """Fold `stringData` into `data` and name the default type, as every API server does."""
    plain = body.get("stringData") or {}
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in plain.items()}
    merged = {key: value for key, value in body.items() if key != "stringData"}
    merged |= {"data": {**(body.get("data") or {}), **encoded}, "type": body.get("type") or "Opaque"}
    return _without_empty(merged, ("data",))


def _job(body: Body) -> Body:
    spec = dict(body.get("spec") or {})
    if spec.get("manualSelector"):
        return body
    if "selector" in spec:
        spec["selector"] = {"matchLabels": _without_job_labels((spec["selector"] or {}).get("matchLabels") or {})}
    template = dict(spec.get("template") or {})
    metadata = {key: value for key, value in (template.get("metadata") or {}).items() if key != "creationTimestamp"}
    if "labels" in metadata:
        metadata["labels"] = _without_job_labels(metadata["labels"] or {})
    if "metadata" in template:
        template["metadata"] = metadata
    return {**body, "spec": {**spec, "template": template} if "template" in spec else spec}


def _without_job_labels(labels: Body) -> Body:
    return {key: value for key, value in labels.items() if key not in _JOB_LABELS}


# -- selecting --------------------------------------------------------------------------------------------------


class Resources:
    """The resources of a repository, found by kind or by namespace; only its owner adds and removes."""

    def __init__(self, documents: Iterable[Document] = ()) -> None:
        self._by_kind: dict[tuple[str, str], dict[Key, Document]] = {}
        self._by_namespace: dict[str, dict[Key, Document]] = {}
        for document in documents:
            self.add(document)

    def add(self, document: Document) -> None:
        """Put a document, or its new version, where it is found."""
        key = document.key
        self._by_kind.setdefault((key.group, key.kind), {})[key] = document
        self._by_namespace.setdefault(key.namespace, {})[key] = document

    def remove(self, key: Key) -> None:
        """Forget a document, if it is there."""
        self._by_kind.get((key.group, key.kind), {}).pop(key, None)
        self._by_namespace.get(key.namespace, {}).pop(key, None)

    def of_kind(self, group: str, kind: str) -> Iterable[Document]:
        """Return the documents of one kind."""
        return self._by_kind.get((group, kind), {}).values()

    def inside(self, namespace: str) -> Iterable[Document]:
        """Return the documents inside a namespace."""
        return self._by_namespace.get(namespace, {}).values()


def select(placement: Placement, resources: Resources) -> Selection:
    """Return what the placement selects of the resources.

    Shape:   objects ordered as upstream orders them; an empty selection is legal and has a hash too.
    Raises:  SelectionError for selectors that cannot be carried out, in upstream's words.
    """
    chosen: dict[Key, Document] = {}
    for selector in placement.selectors:
        for document in _matches(placement, selector, resources):
            if document.key in chosen:
                raise SelectionError(f"found duplicate resource {document.key}")
            chosen[document.key] = document
    pairs = sorted(((document, sanitise(document.body)) for document in chosen.values()), key=_position)
    objects = tuple(body for _, body in pairs)
    return Selection(documents=tuple(one for one, _ in pairs), objects=objects, hash=resource_hash(objects))


def may_select(placement: Placement, selection: Selection | None, named: Named | None) -> bool:
    """Tell whether a file that cannot be read may hold something that the placement selects, by what it mentions.

    Shape:   `named` are pairs of `kind`, `name` or `namespace` and a value, without saying which go together: rather
             too often than too rarely; None: anything. `selection` is what is selected as it is.
    """
    if named is None:
        return True
    fits = any(_may_fit(one, named) for one in placement.selectors)
    if placement.key.namespace:
        return fits and ("namespace", placement.key.namespace) in named
    there = Resources(selection.documents if selection is not None else ())
    whole = [one for one in placement.selectors if one.is_namespace and one.scope != "NamespaceOnly"]
    inside = {document.key.name for one in whole for document in _of_kind(one, there)}
    return fits or any(("namespace", name) in named for name in inside | {one.name for one in whole})


def _may_fit(selector: ResourceSelector, named: Named) -> bool:
    return ("kind", selector.kind) in named and (selector.name is None or ("name", selector.name) in named)


def interests(placement: Placement) -> frozenset[tuple[str, ...]]:
    """Return marks of which every resource that the placement may select bears at least one (see `marks`)."""
    if placement.key.namespace:
        return frozenset({("namespaced", placement.key.namespace)})
    return frozenset(_interest(one) for one in placement.selectors)


def _interest(selector: ResourceSelector) -> tuple[str, ...]:
    if selector.is_namespace:
        return ("namespace", selector.name) if selector.name else ("any namespace",)
    return ("kind", selector.group, selector.kind)


def marks(key: Key) -> tuple[tuple[str, ...], ...]:
    """Return the marks of a resource."""
    if key.namespace:
        return ("namespaced", key.namespace), ("namespace", key.namespace), ("any namespace",)
    own = (("kind", key.group, key.kind),)
    is_namespace = (key.group, key.kind) == ("", "Namespace")
    return (*own, ("namespace", key.name), ("any namespace",)) if is_namespace else own


def _matches(placement: Placement, selector: ResourceSelector, resources: Resources) -> Iterable[Document]:
    if placement.key.namespace:
        return _in_namespace(placement, selector, resources)
    if selector.is_namespace:
        return _namespaces(selector, resources)
    if (selector.group, selector.kind) in NAMESPACED:
        kind = f"{selector.group}/{selector.version}, Kind={selector.kind}"
        raise SelectionError(f"cannot select namespace-scoped resource {kind} in a clusterResourcePlacement")
    return [one for one in _of_kind(selector, resources) if not one.key.namespace]


def _in_namespace(placement: Placement, selector: ResourceSelector, resources: Resources) -> list[Document]:
    found = _of_kind(selector, resources)
    if any(not one.key.namespace for one in found) or selector.is_namespace:
        kind = f"{selector.group}/{selector.version}, Kind={selector.kind}"
        raise SelectionError(f"cannot select cluster-scoped resource {kind} in a resourcePlacement")
    return [one for one in found if one.key.namespace == placement.key.namespace]


def _of_kind(selector: ResourceSelector, resources: Resources) -> list[Document]:
    """Return the propagatable objects that group, kind, name and labels of the selector fit; versions may differ."""
    return [
        one
        for one in resources.of_kind(selector.group, selector.kind)
        if selector.name in (None, one.metadata["name"])
        and (selector.labels is None or selector.labels.matches(one.labels))
        and _propagates(one)
    ]


def _namespaces(selector: ResourceSelector, resources: Resources) -> list[Document]:
    found = _of_kind(selector, resources)
    for one in found:
        if is_reserved(one.key.name):
            raise SelectionError(f"namespace {one.key.name} is not allowed to propagate")
    if selector.scope == "NamespaceOnly":
        return found
    inside = [one for namespace in found for one in resources.inside(namespace.key.name) if _propagates(one)]
    return found + inside


def is_reserved(namespace: str) -> bool:
    """Tell whether a namespace is never placed."""
    return namespace == "default" or namespace.startswith(("fleet-", "kube-"))


def _propagates(document: Document) -> bool:
    key = document.key
    if key.group in _NEVER_GROUPS or (key.group, key.kind) in _NEVER_KINDS:
        return False
    if key.group == PLACEMENT_GROUP:
        return key.kind in ENVELOPES
    match (key.group, key.kind):
        case ("apps", "ReplicaSet" | "ControllerRevision"):
            return not document.metadata.get("ownerReferences")
        case ("", "ConfigMap"):
            return key.name != "kube-root-ca.crt"
        case ("", "ServiceAccount"):
            return key.name != "default"
        case ("", "Secret"):
            return document.body.get("type") != "kubernetes.io/service-account-token"
        case ("", "Event"):
            return False
        case ("discovery.k8s.io", "EndpointSlice"):
            return "endpointslice.kubernetes.io/managed-by" not in document.labels
    return True


def _position(pair: tuple[Document, Body]) -> tuple[int, str, str, str]:
    """Sort key: upstream's order of kinds, unknown kinds last by their name; then group/version, then name."""
    document, _ = pair
    key, api = document.key, str(document.body["apiVersion"])
    rank = _RANK.get(key.kind, len(_RANK))
    unknown = f"{api}, Kind={key.kind}" if rank == len(_RANK) else ""
    return rank, unknown, api, f"{key.namespace}/{key.name}"
