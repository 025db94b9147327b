"""Every problem at a head: files that cannot be read, fields not carried out yet, names that lead nowhere."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast

from reconciler.core.approvals import names_of
from reconciler.core.model import KINDS, Approval, Key, Placement, Problem, Run, Strategy
from reconciler.core.stages import CLIENT, INVALID
from reconciler.core.status import When
from reconciler.core.transitions import problem_at
from reconciler.core.view import Declared, View
from reconciler.documents import yaml
from reconciler.documents.parse import is_manifest


def findings(view: View) -> tuple[Problem, ...]:
    """Return all problems, by file and line; those of broken files first break them, the others only warn."""
    found = [problem for problems in view.broken.values() for problem in problems]
    for placement in view.placements():
        found += view.refusals(placement)
        if placement.uid in view.selection_problems:
            found.append(view.selection_problems[placement.uid])
        found += _missing_clusters(view, placement)
    for run in view.runs():
        found += _dangling(view, run) if not _is_pinned(view, run) else ()
    found += _uninitialized(view)
    found += _stray_approvals(view)
    return tuple(sorted(set(found), key=lambda one: (one.path, one.line, one.pointer, one.rule, one.message)))


def _missing_clusters(view: View, declared: Declared) -> Iterator[Problem]:
    placement, clusters = cast("Placement", declared.value), view.clusters()
    for number, name in enumerate(placement.cluster_names):
        if name not in clusters:
            pointer = f"/spec/policy/clusterNames/{number}"
            message = f"cluster {name} is not in clusters/"
            yield problem_at(declared.document, pointer, "UnknownReference", message)


def _is_pinned(view: View, run: Declared) -> bool:
    """Tell whether a run has resolved its placement and strategy: it needs neither file any more."""
    attempt = view.initializations.get(run.uid)
    return attempt is not None and attempt.pin is not None


def _dangling(view: View, declared: Declared) -> Iterator[Problem]:
    run = cast("Run", declared.value)
    prefix = "" if run.key.namespace else "Cluster"
    placement_kind = "ResourcePlacement" if run.key.namespace else "ClusterResourcePlacement"
    for field, kind, name in (
        ("placementName", placement_kind, run.placement),
        ("stagedRolloutStrategyName", f"{prefix}StagedUpdateStrategy", run.strategy),
    ):
        if view.find(kind, run.key.namespace, name) is None:
            message = f"{kind} {name} does not exist"
            yield problem_at(declared.document, f"/spec/{field}", "UnknownReference", message)


# -- runs that do not initialize -----------------------------------------------------------------------------------


def _uninitialized(view: View) -> Iterator[Problem]:
    """Say why the newest run of a placement does not initialize, where no other problem says it already."""
    together: dict[tuple[Key, str], list[Declared]] = {}
    newest: dict[Key, int] = {}
    for declared in view.runs():
        key = _placement_key(declared)
        together.setdefault((key, declared.created.sha), []).append(declared)
        newest[key] = max(newest.get(key, -1), declared.created.position)
    for (key, _), runs in together.items():
        for declared in runs:
            attempt = view.initializations.get(declared.uid)
            if attempt is None or attempt.pin is not None or declared.created.position < newest[key]:
                continue
            if len(runs) > 1:
                yield _crowded(declared, [one.key.name for one in runs])
            elif "InputBroken" not in attempt.message and not _is_told(view, declared):
                message = attempt.message.removeprefix(INVALID).removeprefix(CLIENT)
                yield problem_at(declared.document, "/spec", "NotInitialized", message)


def _placement_key(declared: Declared) -> Key:
    run = cast("Run", declared.value)
    kind = "ResourcePlacement" if run.key.namespace else "ClusterResourcePlacement"
    return Key(group=run.key.group, kind=kind, namespace=run.key.namespace, name=run.placement)


def _crowded(declared: Declared, names: list[str]) -> Problem:
    run = cast("Run", declared.value)
    message = f"runs {', '.join(sorted(names))} of placement {run.placement} come in one commit, so none of them starts"
    hint = "commit one run of a placement at a time"
    return problem_at(declared.document, "/spec/placementName", "SeveralRuns", message, hint)


def _is_told(view: View, declared: Declared) -> bool:
    """Tell whether another finding says already why a run cannot initialize."""
    if any(_dangling(view, declared)):
        return True
    key = _placement_key(declared)
    placement = view.find(key.kind, key.namespace, key.name)
    return placement is not None and (placement.uid in view.selection_problems or any(view.refusals(placement)))


# -- approvals that name nothing -----------------------------------------------------------------------------------


def _stray_approvals(view: View) -> Iterator[Problem]:
    """Find approvals of a run or a stage that there is not; those of a run that was removed are left in peace."""
    runs, gone = {one.key: one for one in view.runs()}, _gone(view)
    gates = {_gate_key(run.key, name) for run in runs.values() for name in _gates(view, run)} if runs else set()
    for declared in view.approvals():
        approval = cast("Approval", declared.value)
        if approval.run is not None:
            yield from _stray(view, declared, approval, runs, gone)
        elif declared.key not in gates and not any(_may_be_of(declared.key, run) for run in gone):
            message = (
                f"{declared.key.name} is no gate of any run: it is named RUN-STAGE, RUN-before-STAGE or has a spec"
            )
            yield problem_at(declared.document, "/metadata/name", "UnknownReference", message)


def _gone(view: View) -> set[Key]:
    """Return the runs that were removed, without those of which there is a namesake."""
    removed = {one.declared.key for one in view.removals.values() if isinstance(one.declared.value, Run)}
    return removed - {one.key for one in view.runs()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Meant:
    """The gate that an approval names, by its spec or its own name; `is_gone`: of a run that was removed."""

    run: str
    stage: str
    is_gone: bool


def meant_by(view: View, declared: Declared) -> Meant | None:
    """Return the gate of an approval, also of a run that was removed; None: it names none."""
    approval, key = cast("Approval", declared.value), declared.key
    runs = [one for one in view.runs() if one.key.namespace == key.namespace]
    gone = sorted((one for one in _gone(view) if one.namespace == key.namespace), key=lambda one: -len(one.name))
    if approval.run is not None:
        there = any(one.key.name == approval.run for one in runs)
        is_gone = not there and any(one.name == approval.run for one in gone)
        return Meant(run=approval.run, stage=approval.stage or "", is_gone=is_gone)
    for run in runs:
        for stage in stages_of(view, run):
            if any(key.name in names_of(run.key.name, stage, when) for when in When):
                return Meant(run=run.key.name, stage=stage, is_gone=False)
    for former in gone:
        if _may_be_of(key, former):
            stage = key.name.removeprefix(f"{former.name}-").removeprefix("before-").removeprefix("after-")
            return Meant(run=former.name, stage=stage, is_gone=True)
    return None


def _stray(
    view: View, declared: Declared, approval: Approval, runs: dict[Key, Declared], gone: set[Key]
) -> Iterator[Problem]:
    prefix = "" if approval.key.namespace else "Cluster"
    kind, name = f"{prefix}StagedUpdateRun", str(approval.run)
    key = Key(group=approval.key.group, kind=kind, namespace=approval.key.namespace, name=name)
    if key in gone:
        return
    if key not in runs:
        message = f"{kind} {name} does not exist"
        yield problem_at(declared.document, "/spec/parentStageRollout", "UnknownReference", message)
        return
    stages = stages_of(view, runs[key])
    if approval.stage is not None and stages and approval.stage not in stages:
        message = f"run {name} has no stage {approval.stage}; its stages are: {', '.join(stages)}"
        yield problem_at(declared.document, "/spec/targetStage", "UnknownReference", message)


def stages_of(view: View, declared: Declared) -> tuple[str, ...]:
    """Return the stages of a run: those pinned, else those of its strategy as it is; empty where it has none."""
    attempt = view.initializations.get(declared.uid)
    if attempt is not None and attempt.pin is not None:
        return tuple(one.name for one in attempt.pin.stages)
    run = cast("Run", declared.value)
    kind = "StagedUpdateStrategy" if run.key.namespace else "ClusterStagedUpdateStrategy"
    found = view.find(kind, run.key.namespace, run.strategy)
    return tuple(one.name for one in cast("Strategy", found.value).stages) if found is not None else ()


def _gates(view: View, declared: Declared) -> Iterator[str]:
    for stage in stages_of(view, declared):
        for when in When:
            yield from names_of(declared.key.name, stage, when)


def _gate_key(run: Key, name: str) -> Key:
    kind = "ApprovalRequest" if run.namespace else "ClusterApprovalRequest"
    return Key(group=run.group, kind=kind, namespace=run.namespace, name=name)


def _may_be_of(approval: Key, run: Key) -> bool:
    return approval.namespace == run.namespace and approval.name.startswith(f"{run.name}-")


# -- files in no folder --------------------------------------------------------------------------------------------

_GROUPS = {row.group for row in KINDS.values()}


def outside(files: Iterable[tuple[str, bytes]]) -> Iterator[Problem]:
    """Find manifests of our kinds that stand in none of the folders, where they count for nothing.

    Shape:   `files` are paths with their bytes; what cannot be read, or is of other kinds, is nobody's business here.
    """
    for path, data in files:
        if is_manifest(path):
            continue
        for document in yaml.read(path, data).documents:
            body = document.value if isinstance(document.value, dict) else {}
            row = KINDS.get(str(body.get("kind")))
            if row is not None and str(body.get("apiVersion")).partition("/")[0] in _GROUPS:
                message = f"{row.kind} belongs below {row.folder}/; here it counts for nothing"
                yield Problem(path=path, line=document.line, rule="OutsideFolders", message=message)
