"""Manifests for tests, as the text of a file; the same words as in the article unless a test asks for others."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ARTICLE = Path(__file__).parent / "documents" / "article"
_PLACEMENT = "placement.kubernetes-fleet.io/v1beta1"


def text(*bodies: Mapping[str, Any]) -> str:
    """Return the objects as one file, a document each."""
    copies = (json.loads(json.dumps(body)) for body in bodies)  # what is the same twice would become an alias
    return "---\n".join(yaml.safe_dump(body, sort_keys=False) for body in copies)


def article(name: str) -> str:
    """Return a manifest of the article, found by the end of its name."""
    found = sorted(ARTICLE.glob(f"*-{name}.yaml"))
    return found[0].read_text(encoding="utf-8")


def metadata(name: str, namespace: str = "", **more: Any) -> dict[str, Any]:
    """Return metadata, without what is empty."""
    pairs = {"name": name, "namespace": namespace, **more}
    return {key: value for key, value in pairs.items() if value}


def cluster(name: str, *, taints: list[dict[str, str]] | None = None, **labels: str) -> str:
    """Return a MemberCluster; without labels and taints it has neither key."""
    body: dict[str, Any] = {
        "apiVersion": "cluster.kubernetes-fleet.io/v1beta1",
        "kind": "MemberCluster",
        "metadata": metadata(name, labels=labels),
    }
    return text(body | ({"spec": {"taints": taints}} if taints else {}))


def namespace(name: str = "app") -> str:
    """Return a Namespace."""
    return text({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})


def config_map(value: str, name: str = "settings", namespace: str = "app") -> str:
    """Return a ConfigMap with one key."""
    return text(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata(name, namespace),
            "data": {"key": value},
        }
    )


def placement(name: str = "web", namespace: str = "", **spec: Any) -> str:
    """Return a placement of the namespace `app` (namespaced: of its config maps) onto every cluster, External."""
    kind, selected = ("ResourcePlacement", "ConfigMap") if namespace else ("ClusterResourcePlacement", "Namespace")
    selector = {"group": "", "version": "v1", "kind": selected, **({} if namespace else {"name": "app"})}
    whole = {
        "resourceSelectors": [selector],
        "policy": {"placementType": "PickAll"},
        "strategy": {"type": "External"},
        **spec,
    }
    held = {key: value for key, value in whole.items() if value is not None}
    return text({"apiVersion": _PLACEMENT, "kind": kind, "metadata": metadata(name, namespace), "spec": held})


def stage(
    name: str,
    *,
    before: bool = False,
    wait: str = "",
    approval: bool = False,
    labels: Mapping[str, str] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Return a stage of the clusters whose label `ring` is its name (`labels`: of others)."""
    tasks = [{"type": "TimedWait", "waitTime": wait}] if wait else []
    tasks += [{"type": "Approval"}] if approval else []
    body: dict[str, Any] = {"name": name, "labelSelector": {"matchLabels": dict(labels or {"ring": name})}}
    body |= {"beforeStageTasks": [{"type": "Approval"}]} if before else {}
    return body | ({"afterStageTasks": tasks} if tasks else {}) | more


def strategy(*stages: Mapping[str, Any], name: str = "rings", namespace: str = "") -> str:
    """Return a strategy."""
    kind = "StagedUpdateStrategy" if namespace else "ClusterStagedUpdateStrategy"
    body = {"apiVersion": _PLACEMENT, "kind": kind, "metadata": metadata(name, namespace)}
    return text(body | {"spec": {"stages": [dict(one) for one in stages]}})


def run(
    name: str,
    *,
    index: str | int | None = None,
    placement: str = "web",
    strategy: str = "rings",
    namespace: str = "",
    state: str | None = None,
    annotations: Mapping[str, str] | None = None,
) -> str:
    """Return a run; without `index` it rolls out the latest snapshot."""
    kind = "StagedUpdateRun" if namespace else "ClusterStagedUpdateRun"
    spec = {
        "placementName": placement,
        "resourceSnapshotIndex": None if index is None else str(index),
        "stagedRolloutStrategyName": strategy,
        "state": state,
    }
    held = {key: value for key, value in spec.items() if value is not None}
    named = metadata(name, namespace, annotations=dict(annotations or {}))
    return text({"apiVersion": _PLACEMENT, "kind": kind, "metadata": named, "spec": held})


def approval(
    name: str,
    *,
    at: str = "2025-07-22T21:33:00Z",
    words: str = "lgtm",
    status: str = "True",
    generation: int | None = 1,
    namespace: str = "",
    spec: Mapping[str, str] | None = None,
    uid: str = "",
    annotations: Mapping[str, str] | None = None,
) -> str:
    """Return the article's `approval.json`, with what names the object in front of it."""
    condition = {
        "lastTransitionTime": at,
        "message": words,
        "observedGeneration": generation,
        "reason": "testPassed",
        "status": status,
        "type": "Approved",
    }
    body: dict[str, Any] = {
        "apiVersion": _PLACEMENT,
        "kind": "ApprovalRequest" if namespace else "ClusterApprovalRequest",
        "metadata": metadata(name, namespace, uid=uid, annotations=dict(annotations or {})),
        **({"spec": dict(spec)} if spec else {}),
        "status": {"conditions": [{key: value for key, value in condition.items() if value is not None}]},
    }
    return json.dumps(body, indent=4) + "\n"


def override(namespace: str = "", **spec: Any) -> str:
    """Return an override that touches the namespace `app` (namespaced: its config map)."""
    kind, selectors = ("ResourceOverride", "resourceSelectors") if namespace else (
        "ClusterResourceOverride", "clusterResourceSelectors",
    )  # fmt: skip
    selected = {"kind": "ConfigMap", "name": "settings"} if namespace else {"kind": "Namespace", "name": "app"}
    rules = [
        {
            "clusterSelector": {"clusterSelectorTerms": [{"labelSelector": {"matchLabels": {"ring": "canary"}}}]},
            "jsonPatchOverrides": [{"op": "add", "path": "/metadata/labels/x", "value": "y"}],
        }
    ]
    whole = {selectors: [{"group": "", "version": "v1", **selected}], "policy": {"overrideRules": rules}, **spec}
    return text({"apiVersion": _PLACEMENT, "kind": kind, "metadata": metadata("touch", namespace), "spec": whole})
