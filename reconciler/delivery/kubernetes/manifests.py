"""What of a manifest is really sent to a member: what its author decides and our label, not what the server decides."""

import base64
from collections.abc import Mapping
from typing import Any

from reconciler.core.model import Body
from reconciler.delivery.kubernetes.inventories import PART_OF

_OF_THE_SERVER = frozenset(
    {
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "generation",
        "managedFields",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
        "uid",
    }
)


def sent(body: Body, part_of: str) -> dict[str, Any]:
    """Return the object to apply, with the label of its ApplySet."""
    metadata = {name: value for name, value in body["metadata"].items() if name not in _OF_THE_SERVER}
    labels = {name: value for name, value in (metadata.get("labels") or {}).items() if name != PART_OF}
    rest = {name: value for name, value in body.items() if name not in ("metadata", "status")}
    return _with_encoded_data({**rest, "metadata": {**metadata, "labels": {**labels, PART_OF: part_of}}})


def _with_encoded_data(body: dict[str, Any]) -> dict[str, Any]:
    """Write a Secret's `stringData` as `data`: the server never takes a key out of `data` that came by `stringData`."""
    plain = body.get("stringData")
    if body["kind"] != "Secret" or body["apiVersion"] != "v1" or not isinstance(plain, dict):
        return body
    coded = {name: base64.b64encode(str(value).encode()).decode() for name, value in plain.items()}
    kept = {name: value for name, value in body.items() if name != "stringData"}
    return {**kept, "data": {**(body.get("data") or {}), **coded}}


def defined_kind(body: Body) -> tuple[str, str]:
    """Return group and kind that a CustomResourceDefinition defines, empty where it does not say."""
    spec = body.get("spec")
    spec = spec if isinstance(spec, Mapping) else {}
    called = spec.get("names")
    kind = called.get("kind") if isinstance(called, Mapping) else ""
    return str(spec.get("group") or ""), str(kind or "")
