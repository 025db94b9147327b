"""The objects of a fleet as kubectl would show them: what is declared, joined with what the status branch says of it.

Nothing is decided here: identities come from the derivation, states from the fold, words from `core.conditions`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

from reconciler.commands.holds import holds, is_hold, recorded_problems
from reconciler.commands.nouns import Item, Noun
from reconciler.commands.opening import Fleet
from reconciler.commands.telling import HELD, state_word
from reconciler.core.approvals import names_of
from reconciler.core.conditions import (
    approval_kind,
    approval_objects,
    placement_object,
    policy_object,
    run_object,
    snapshot_kind,
    snapshot_name,
    snapshot_object,
    timestamp,
)
from reconciler.core.identity import child_uid
from reconciler.core.model import PREFIX, Approval, Key, Problem, Run, placement_of
from reconciler.core.status import Gate, PlacementState, RunStatus, StageFacts
from reconciler.core.view import Declared
from reconciler.daemon.findings import Meant, findings, meant_by
from reconciler.documents import yaml
from reconciler.status_branch import layout, reader

_GIVEN_BY_SERVER = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "uid")


def items(fleet: Fleet, noun: Noun, *, everything: bool = False) -> list[Item]:
    """Return all objects of a kind, by namespace and name.

    Shape:   snapshots come without their content, see `with_content`; what is gone only with `everything`.
    """
    read = _READERS.get(noun.kind, _declared)
    return sorted(
        read(fleet.whole() if everything else fleet, noun, everything),
        key=lambda one: (one.namespace, one.name, str(one.metadata.get("creationTimestamp"))),
    )


def problems(fleet: Fleet) -> tuple[Problem, ...]:
    """Return everything that is wrong: with the files at the head, and what `problems.yaml` holds beside them.

    What was recorded of files counts only while it was recorded of this very head.
    """
    head, status = fleet.derivation.view.head, fleet.status
    recorded = recorded_problems(fleet)
    if status is None or head is None or status.observed != head.sha:
        recorded = tuple(one for one in recorded if is_hold(fleet, one))
    held = (Problem(path=one.subject or fleet.branch, rule=one.rule, message=one.message) for one in holds(fleet))
    files = findings(fleet.derivation.view)
    known = {_mark(one) for one in files}
    return (*files, *{_mark(one): one for one in (*held, *recorded) if _mark(one) not in known}.values())


def _mark(problem: Problem) -> tuple[str, int, str, str]:
    return problem.path, problem.line, problem.pointer, problem.rule


# -- declared objects ---------------------------------------------------------------------------------------------


def declared_object(declared: Declared) -> dict[str, Any]:
    """Return an object as its file has it, with what an API server would have given it."""
    document = declared.document
    given = {key: value for key, value in document.metadata.items() if key not in _GIVEN_BY_SERVER}
    metadata = given | {
        "creationTimestamp": timestamp(declared.created.time),
        "generation": declared.generation,
        "resourceVersion": declared.changed.sha,
        "uid": declared.uid,
    }
    status = document.kind.endswith("ApprovalRequest")  # the only status that is a person's to write
    kept = {key: value for key, value in document.body.items() if key != "status" or status}
    joined = {"status": {"conditions": [_joined(declared)]}} if document.kind == "MemberCluster" else {}
    return {**kept, "metadata": metadata, **joined}


def _joined(declared: Declared) -> dict[str, Any]:
    """Return the condition of a cluster that belongs to the fleet: here its file is what makes it a member."""
    return {
        "lastTransitionTime": timestamp(declared.created.time),
        "message": f"the cluster is a member of the fleet by {declared.document.path}",
        "observedGeneration": declared.generation,
        "reason": "MemberClusterJoined",
        "status": "True",
        "type": "Joined",
    }


def _declared(fleet: Fleet, noun: Noun, everything: bool) -> Iterator[Item]:
    view = fleet.derivation.view
    for one in view.objects[noun.kind].values():
        yield Item(body=declared_object(one))
    for removal in view.removals.values() if everything else ():
        if removal.declared.key.kind == noun.kind:
            yield _gone(fleet, removal.declared.uid, Item(body=declared_object(removal.declared)))


# -- runs and placements ---------------------------------------------------------------------------------------------


def states(fleet: Fleet) -> Mapping[Key, PlacementState]:
    """Return what the status branch knows of every placement."""
    return fleet.status.placements if fleet.status is not None else {}


def known_runs(fleet: Fleet, *, everything: bool = False) -> list[RunStatus]:
    """Return the runs that the daemon has recorded, oldest first; those whose file is gone only with `everything`."""
    gone = {} if everything else fleet.derivation.view.removals
    runs = [run for state in states(fleet).values() for run in state.runs.values() if run.uid not in gone]
    return sorted(runs, key=lambda run: (run.position, run.key.name))


def lost_runs(fleet: Fleet) -> dict[Key, RunStatus]:
    """Return the recorded runs that a rewritten history, which nobody has accepted yet, knows nothing of.

    One that is committed there again with the same spec is the same run, once the rewrite is accepted.
    """
    if not _is_rewritten(fleet):
        return {}
    there = {one.uid for one in fleet.derivation.view.runs()}
    return {run.key: run for run in known_runs(fleet) if run.uid not in there and not run.reverts}


def _lost_placements(fleet: Fleet) -> dict[Key, PlacementState]:
    """Return the recorded placements that such a history knows nothing of.

    One of the same name there is the same placement, whatever its spec, once the rewrite is accepted.
    """
    if not _is_rewritten(fleet):
        return {}
    there = {one.uid for one in fleet.derivation.view.placements()}
    kept = ((key, state) for key, state in states(fleet).items() if state.removed_at is None)
    return {key: state for key, state in kept if state.uid and state.uid not in there}


def _is_rewritten(fleet: Fleet) -> bool:
    return any(one.rule == "HistoryRewritten" for one in holds(fleet))


def _runs(fleet: Fleet, noun: Noun, everything: bool) -> Iterator[Item]:
    known = {run.uid: run for run in known_runs(fleet, everything=everything) if run.key.kind == noun.kind}
    lost = lost_runs(fleet)
    for one in fleet.derivation.view.objects[noun.kind].values():
        if one.uid not in known and one.key in lost:
            if lost[one.key].spec == one.document.body["spec"]:
                continue
            if not everything:
                known.pop(lost[one.key].uid, None)
        run = known.pop(one.uid, None)
        if run is None and _is_tampered(fleet, one):
            yield Item(body=declared_object(one) | _recorded(fleet, one), state=HELD)
            continue
        status = {"status": run_object(run)["status"]} if run is not None else {}
        yield Item(body=declared_object(one) | status, state=state_word(run))
    for run in known.values():
        yield _gone(fleet, run.uid, Item(body=run_object(run), state=state_word(run)))


def _is_tampered(fleet: Fleet, run: Declared) -> bool:
    key = placement_of(run.key, cast("Run", run.value).placement)
    return fleet.status is not None and (key in fleet.status.tampered or reader.ANY in fleet.status.tampered)


def _recorded(fleet: Fleet, run: Declared) -> dict[str, Any]:
    """Return the status of a run as the branch has it written, where its events cannot be trusted to tell it."""
    path = f"{layout.run_folder(run)}/{layout.RUN}"
    data = fleet.status.files.get(path, b"") if fleet.status is not None else b""
    body: Any = next((one.value for one in yaml.read(path, data).documents), {})
    status = body.get("status") if isinstance(body, dict) else None
    return {"status": status} if isinstance(status, dict) else {}


def _placements(fleet: Fleet, noun: Noun, everything: bool) -> Iterator[Item]:
    known = {state.uid: state for key, state in states(fleet).items() if key.kind == noun.kind and state.uid}
    lost = _lost_placements(fleet)
    for one in fleet.derivation.view.objects[noun.kind].values():
        state = known.pop(lost[one.key].uid if one.key in lost else one.uid, None)
        status = {"status": placement_object(state)["status"]} if state is not None else {}
        yield Item(body=declared_object(one) | status)
    for state in known.values() if everything else ():
        yield _gone(fleet, state.uid, Item(body=placement_object(state)))


def _gone(fleet: Fleet, uid: str, item: Item) -> Item:
    """Mark what left the branch with the uid, and what belongs to it, with the commit that did it and its time."""
    removal = fleet.derivation.view.removals.get(uid)
    if removal is None:
        return item
    metadata = {**item.metadata, "deletionTimestamp": timestamp(removal.commit.time)}
    return replace(item, body={**item.body, "metadata": metadata}, removed=removal.commit)


# -- approval requests ------------------------------------------------------------------------------------------------


def _approvals(fleet: Fleet, noun: Noun, everything: bool) -> Iterator[Item]:
    """Yield the requests that gates made, each with the approval that somebody committed; then the files left over.

    Those that a removed run has left are no more shown than its requests, except with `everything`.
    """
    files = {(key.namespace, key.name): one for key, one in fleet.derivation.view.objects[noun.kind].items()}
    for run in known_runs(fleet, everything=everything):
        if approval_kind(run.key) != noun.kind:
            continue
        for (stage, gate), body in zip(_asked(run), approval_objects(run), strict=True):
            names = names_of(run.key.name, stage.name, gate.when)
            file = next((found for name in names if (found := files.pop((run.key.namespace, name), None))), None)
            yield _gone(fleet, run.uid, Item(body=_with_file(body, gate, file)))
    for file in files.values():
        meant = meant_by(fleet.derivation.view, file)
        if everything or meant is None or not meant.is_gone:
            yield Item(body=_named(declared_object(file), meant))


def _named(body: dict[str, Any], meant: Meant | None) -> dict[str, Any]:
    """Put the gate that the name of an approval means into its spec, where it says none."""
    if meant is None:
        return body
    return body | {"spec": {"parentStageRollout": meant.run, "targetStage": meant.stage} | body.get("spec", {})}


def _asked(run: RunStatus) -> list[tuple[StageFacts, Gate]]:
    return [
        (stage, gate) for stage in run.stages for gate in stage.gates if gate.request and gate.opened_at is not None
    ]


def _with_file(body: dict[str, Any], gate: Gate, file: Declared | None) -> dict[str, Any]:
    """Put the approval of a file into a request that has not accepted one."""
    if gate.passed_at is not None or file is None or not isinstance(file.value, Approval):
        return body
    given = [dict(file.value.condition)] if file.value.condition is not None else []
    conditions = [*given, *(body.get("status") or {}).get("conditions", ())]
    return body | ({"status": {"conditions": conditions}} if conditions else {})


# -- snapshots --------------------------------------------------------------------------------------------------------


def numbered(fleet: Fleet, *, everything: bool = False) -> Iterator[PlacementState]:
    """Yield every placement with its snapshots: the recorded ones are final, what history adds comes behind them."""
    view, known = fleet.derivation.view, states(fleet)
    for declared in view.placements():
        state = known.get(declared.key)
        recorded = state if state is not None and state.uid == declared.uid else PlacementState(key=declared.key)
        derived, policies = view.snapshots.get(declared.uid, []), view.policies.get(declared.uid, [])
        yield replace(
            recorded,
            uid=declared.uid,
            snapshots=(*recorded.snapshots, *derived[len(recorded.snapshots) :]),
            policies=(*recorded.policies, *policies[len(recorded.policies) :]),
        )
    for key, state in known.items() if everything else ():
        if view.find(key.kind, key.namespace, key.name) is None:
            yield state


def _snapshots(fleet: Fleet, noun: Noun, everything: bool) -> Iterator[Item]:
    for state in numbered(fleet, everything=everything):
        if snapshot_kind(state) == noun.kind:
            for snapshot in state.snapshots:
                uid = child_uid(state.uid, noun.kind, snapshot_name(state, snapshot.index))
                yield _gone(fleet, state.uid, Item(body=snapshot_object(state, snapshot, uid)))


def _policies(fleet: Fleet, noun: Noun, everything: bool) -> Iterator[Item]:
    for state in numbered(fleet, everything=everything):
        if bool(state.key.namespace) == noun.namespaced:
            for policy in state.policies:
                uid = child_uid(state.uid, "SchedulingPolicySnapshot", f"{state.key.name}-{policy.index}")
                yield _gone(fleet, state.uid, Item(body=policy_object(state, policy, uid)))


def with_content(fleet: Fleet, item: Item) -> Item:
    """Return a resource snapshot with the resources it selected; anything else as it is.

    Raises:  PermanentError when the history does not hold the content any more; GitError.
    """
    index = item.labels.get(PREFIX + "resource-index")
    if index is None or not item.body["kind"].endswith("ResourceSnapshot"):
        return item
    selected = fleet.derivation.content(item.metadata["ownerReferences"][0]["uid"], int(index))
    return replace(item, body=item.body | {"spec": {"selectedResources": list(selected)}})


_READERS: Mapping[str, Callable[[Fleet, Noun, bool], Iterator[Item]]] = {
    "ClusterStagedUpdateRun": _runs,
    "StagedUpdateRun": _runs,
    "ClusterResourcePlacement": _placements,
    "ResourcePlacement": _placements,
    "ClusterApprovalRequest": _approvals,
    "ApprovalRequest": _approvals,
    "ClusterResourceSnapshot": _snapshots,
    "ResourceSnapshot": _snapshots,
    "ClusterSchedulingPolicySnapshot": _policies,
    "SchedulingPolicySnapshot": _policies,
}
