"""What an edit may not do, compared with the last version of the object that counted.

An approval may be put right until it is accepted; what was accepted stays so, whatever becomes of the file.
"""

import json
from collections.abc import Iterator

from reconciler.core.model import KINDS, Body, Document, Problem

_FROZEN = {
    "Run": ("placementName", "resourceSnapshotIndex", "stagedRolloutStrategyName"),
    "Override": ("placement",),
}
_FORBIDDEN = {("Initialize", "Stop"), ("Run", "Initialize"), ("Stop", "Initialize")}


def transition_problems(old: Document, new: Document) -> Iterator[Problem]:
    """Yield what an edit may not do, compared with the last version that counted."""
    reader = KINDS[new.kind].read
    before, after = old.body.get("spec") or {}, new.body.get("spec") or {}
    name = type(reader(new)).__name__
    for field in _FROZEN.get(name, ()):
        if before.get(field) != after.get(field) and before:
            hint = f"set it back to {json.dumps(before.get(field))}, or commit a new object under another name"
            yield problem_at(new, f"/spec/{field}", "Immutable", f"{field} is immutable", hint)
    if name == "Run":
        step = (before.get("state") or "Run", after.get("state") or "Run")
        if step in _FORBIDDEN:
            message = f"invalid state transition: cannot transition from {step[0]} to {step[1]}"
            yield problem_at(new, "/spec/state", "InvalidTransition", message)
    if name == "Placement":
        yield from _placement_transition(before, after, new)


def _placement_transition(before: Body, after: Body, new: Document) -> Iterator[Problem]:
    old_policy, policy = before.get("policy"), after.get("policy")
    if old_policy and not policy:
        yield problem_at(new, "/spec/policy", "Immutable", "policy cannot be removed once set")
    elif old_policy and policy and _type(old_policy) != _type(policy):
        yield problem_at(new, "/spec/policy/placementType", "Immutable", "placement type is immutable")
    was_external = (before.get("strategy") or {}).get("type") == "External"
    if was_external and (after.get("strategy") or {}).get("type") != "External":
        message = "cannot change rollout strategy type from 'External' to other types"
        yield problem_at(new, "/spec/strategy/type", "Immutable", message)
    if not new.key.namespace and _scope(before) != _scope(after):
        yield problem_at(new, "/spec/statusReportingScope", "Immutable", "statusReportingScope is immutable")


def _type(policy: Body) -> str:
    return policy.get("placementType") or "PickAll"


def _scope(spec: Body) -> str:
    return spec.get("statusReportingScope") or "ClusterScopeOnly"


def problem_at(document: Document, pointer: str, rule: str, message: str, hint: str = "") -> Problem:
    """Return a problem of a document, at the line of the field it is about."""
    line = document.line_of(pointer)
    return Problem(path=document.path, line=line, pointer=pointer, rule=rule, message=message, hint=hint)
