"""Objects → facts that can be compared: `where` → text. Times, generations, uids and specs are left out."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Facts = dict[str, str]
Object = Mapping[str, Any]

RUNS = ("ClusterStagedUpdateRun", "StagedUpdateRun")
REQUESTS = ("ClusterApprovalRequest", "ApprovalRequest")
PLACEMENTS = ("ClusterResourcePlacement", "ResourcePlacement")
_LABEL = "kubernetes-fleet.io/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Differing:
    """One fact in which the two sides differ; None: there is no such fact."""

    scenario: str
    where: str
    recorded: str | None
    ours: str | None

    def __str__(self) -> str:
        return f"{self.where}\n    ours:     {self.ours or '-'}\n    recorded: {self.recorded or '-'}"


def differing(scenario: str, recorded: Facts, ours: Facts) -> Iterator[Differing]:
    """Yield every fact that only one side has, or that the two tell differently."""
    for where in [*recorded, *(one for one in ours if one not in recorded)]:
        if recorded.get(where) != ours.get(where):
            yield Differing(scenario=scenario, where=where, recorded=recorded.get(where), ours=ours.get(where))


def facts(objects: Iterable[Object]) -> Facts:
    """Return what the runs, approval requests and placements among the objects say."""
    found: Facts = {}
    everything = list(objects)
    withdrawn = {one["metadata"]["name"] for one in everything if _reason(one, "Succeeded") == "UpdateRunWithdrawn"}
    for one in everything:
        for kinds, tell in _TOLD:
            if one["kind"] in kinds:
                run = (one.get("spec") or {}).get("parentStageRollout") or one["metadata"]["name"]
                prefix = "withdrawn " if kinds is not PLACEMENTS and run in withdrawn else ""
                found |= {prefix + where: text for where, text in tell(one).items()}
    return found


def _reason(one: Object, kind: str) -> str:
    """Return the reason of one of an object's own conditions; empty when it has no such condition."""
    conditions = (one.get("status") or {}).get("conditions") or ()
    return next((str(each["reason"]) for each in conditions if each["type"] == kind), "")


def _named(one: Object) -> str:
    metadata = one["metadata"]
    scope = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
    return f"{one['kind']} {scope}{metadata['name']}"


def _conditions(where: str, holder: Object) -> Facts:
    return {
        f"{where}: {one['type']}": f"{one['status']} {one['reason']}: {one.get('message', '')}"
        for one in holder.get("conditions") or ()
    }


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


# -- runs ---------------------------------------------------------------------------------------------------------


def _run(one: Object) -> Facts:
    name, status = _named(one), one.get("status") or {}
    failed = _reason(one, "Initialized") == "UpdateRunInitializedFailed"
    where = f"{name}, kept by a failed initialization" if failed else name
    return {name: "exists"} | _conditions(name, status) | _plan(where, status)


def _plan(where: str, status: Object) -> Facts:
    """Tell what a run has resolved and how far its stages are."""
    found: Facts = {}
    for name in ("policyObservedClusterCount", "policySnapshotIndexUsed", "resourceSnapshotIndexUsed"):
        if name in status:
            found[f"{where}: {name}"] = str(status[name])
    for name in ("appliedStrategy", "stagedUpdateStrategySnapshot"):
        if name in status:
            found[f"{where}: {name}"] = _json(status[name])
    stages = status.get("stagesStatus")
    if stages:
        found[f"{where}: stages"] = ", ".join(stage["stageName"] for stage in stages)
    deletion = status.get("deletionStageStatus")
    for stage in [*(stages or ()), *([deletion] if deletion else ())]:
        found |= _stage(f"{where}, stage {stage['stageName']}", stage)
    return found


def _stage(where: str, stage: Object) -> Facts:
    clusters = stage.get("clusters") or ()
    found = {f"{where}: clusters": ", ".join(one["clusterName"] for one in clusters)} | _conditions(where, stage)
    if "startTime" in stage:
        found[f"{where}: startTime"] = "is set"
    if "endTime" in stage:
        found[f"{where}: endTime"] = f"is set, {_reason({'status': stage}, 'Succeeded')}"
    for cluster in clusters:
        found |= _conditions(f"{where}, cluster {cluster['clusterName']}", cluster)
    for side in ("before", "after"):
        for task in stage.get(f"{side}StageTaskStatus") or ():
            name = f"{where}, {side} {task['type']}"
            found |= {name: "exists"} | _conditions(name, task)
            if task.get("approvalRequestName"):
                found[f"{name}: approvalRequestName"] = task["approvalRequestName"]
    return found


# -- approval requests ----------------------------------------------------------------------------------------------


def _request(one: Object) -> Facts:
    """Tell of a request by what it is for, as the two sides name it differently."""
    labels = {key.removeprefix(_LABEL): value for key, value in (one["metadata"].get("labels") or {}).items()}
    side = labels["taskType"].removesuffix("Stage")
    where = f"{one['kind']} {side} stage {one['spec']['targetStage']} of run {one['spec']['parentStageRollout']}"
    found = {f"{where}: name": one["metadata"]["name"]} | _conditions(where, one.get("status") or {})
    return found | {f"{where}: label {key}": value for key, value in labels.items()}


# -- placements -----------------------------------------------------------------------------------------------------


def _placement(one: Object) -> Facts:
    where, status = _named(one), one.get("status") or {}
    found = {where: "exists"} | _conditions(where, status)
    if "observedResourceIndex" in status:
        found[f"{where}: observedResourceIndex"] = str(status["observedResourceIndex"])
    if status.get("selectedResources"):
        found[f"{where}: selectedResources"] = _json(status["selectedResources"])
    clusters = status.get("placementStatuses") or ()
    found[f"{where}: clusters"] = ", ".join(sorted(one.get("clusterName", "") for one in clusters))
    for cluster in clusters:
        name = f"{where}, cluster {cluster.get('clusterName', '')}"
        found |= _conditions(name, cluster)
        if "observedResourceIndex" in cluster:
            found[f"{name}: observedResourceIndex"] = str(cluster["observedResourceIndex"])
    return found


_TOLD: tuple[tuple[tuple[str, ...], Callable[[Object], Facts]], ...] = (
    (RUNS, _run),
    (REQUESTS, _request),
    (PLACEMENTS, _placement),
)


# -- refusals ------------------------------------------------------------------------------------------------------

_FIRST = re.compile(r"Invalid value: (\"(?:[^\"\\\\]|\\\\.)*\"|null): ")


def refusal(case: Mapping[str, Any]) -> Facts:
    """Tell what the API server said to an object, without the value and what it says only because of another cause."""
    causes = [one["message"] for one in case.get("causes") or () if one["field"] != "<nil>"]
    return admission(_FIRST.sub("", text, count=1) for text in causes)


def admission(texts: Iterable[str]) -> Facts:
    """Tell with which texts an object was refused, or that it was accepted."""
    found = sorted(set(texts))
    return {"refused": " | ".join(found)} if found else {"accepted": "yes"}


# -- waves ----------------------------------------------------------------------------------------------------------

_MOVED = re.compile(r" *([\d.]+) stage (\S+) cluster (\S+) (Started|Succeeded) = True/")


def recorded_waves(timeline: Mapping[str, Iterable[str]]) -> Facts:
    """Return the sets of clusters that were in flight together, in order, per run, from what a watch saw.

    A wave ends with the first success after it: what starts in the same moment as a success belongs to the next.
    """
    found = {}
    for subject, lines in timeline.items():
        if subject.split()[0] in RUNS:
            moves = [match.groups() for line in lines if (match := _MOVED.match(line))]
            moves.sort(key=lambda one: (float(one[0]), one[3] == "Started"))
            found[f"{subject}: waves"] = waves(
                (stage, cluster) if what == "Started" else None for _, stage, cluster, what in moves
            )
    return found


def waves(moves: Iterable[tuple[str, str] | None]) -> str:
    """Return the waves as text, from (stage, cluster) for a start and None for what ends a wave."""
    found: list[tuple[str, set[str]]] = []
    ended = True
    for move in moves:
        if move is None:
            ended = True
            continue
        if ended or found[-1][0] != move[0]:
            found.append((move[0], set()))
        found[-1][1].add(move[1])
        ended = False
    return " | ".join(f"{stage}: {', '.join(sorted(clusters))}" for stage, clusters in found)
