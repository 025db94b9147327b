"""Every problem at a head: files that cannot be read, fields not carried out yet, names that lead nowhere."""

from collections.abc import Iterator
from typing import cast

from reconciler.core.model import Placement, Problem, Run
from reconciler.core.transitions import problem_at
from reconciler.core.view import Declared, View


def findings(view: View) -> tuple[Problem, ...]:
    """Return all problems, by file and line; those of broken files first break them, the others only warn."""
    found = [problem for problems in view.broken.values() for problem in problems]
    for placement in view.placements():
        found += view.refusals(placement)
        if placement.uid in view.selection_problems:
            found.append(view.selection_problems[placement.uid])
        found += _missing_clusters(view, placement)
    for run in view.runs():
        found += _dangling(view, run)
    return tuple(sorted(set(found), key=lambda one: (one.path, one.line, one.pointer, one.rule, one.message)))


def _missing_clusters(view: View, declared: Declared) -> Iterator[Problem]:
    placement, clusters = cast("Placement", declared.value), view.clusters()
    for number, name in enumerate(placement.cluster_names):
        if name not in clusters:
            pointer = f"/spec/policy/clusterNames/{number}"
            message = f"cluster {name} is not in clusters/"
            yield problem_at(declared.document, pointer, "UnknownReference", message)


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
