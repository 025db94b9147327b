"""Strategy + clusters → stages in order: what initialization resolves and pins, in upstream's order and words."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.core.model import Body, MemberCluster, Stage, Strategy, Task, format_duration, parse_duration
from reconciler.core.status import PinnedCluster, PinnedStage, PinnedTask

INVALID = "cannot continue the updateRun: failed to validate the updateRun: "
CLIENT = "failed to process the request due to a client error: "

_LARGEST = 2**63 - 1
_SHOWN = 10


class InitializationError(ValueError):
    """Initialization failed; the text is the condition's message. `final`: no later commit can mend it."""

    def __init__(self, message: str, *, final: bool = False) -> None:
        """Keep the message and whether it is for good."""
        super().__init__(message)
        self.final = final


def client_error(message: str, *, final: bool = False) -> InitializationError:
    """Return the error for a mistake in somebody's file, in upstream's words."""
    return InitializationError(INVALID + CLIENT + message, final=final)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A cluster to be updated: as declared, with its uid."""

    cluster: MemberCluster
    uid: str


def resolve_stages(strategy: Strategy, members: Mapping[str, Member], content_hash: str) -> tuple[PinnedStage, ...]:
    """Return the strategy's stages with their clusters in order.

    Raises:  InitializationError as upstream words it: bad tasks, a bad sorting label, a cluster in two stages or none.
    """
    where = f"updateStrategy: `{strategy.key.namespace}/{strategy.key.name}`"
    placed: dict[str, str] = {}
    stages = []
    for stage in strategy.stages:
        _check_tasks(stage, where)
        names = _clusters_of(stage, members, placed)
        placed.update(dict.fromkeys(names, stage.name))
        clusters = tuple(PinnedCluster(name=name, uid=members[name].uid, hash=content_hash) for name in names)
        stages.append(_pinned(stage, clusters))
    left = sorted(set(members) - set(placed))
    if left:
        shown = ", ".join(left[:_SHOWN])
        total = f"total {len(left)}, showing up to {_SHOWN}: {shown}"
        raise client_error(f"some clusters are not placed in any stage, {total}")
    return tuple(stages)


def _check_tasks(stage: Stage, where: str) -> None:
    kinds = [task.type for task in stage.after]
    for number, task in enumerate(stage.after):
        error = None
        if kinds.count(task.type) > 1:
            error = f"afterStageTasks cannot have two tasks of the same type: {task.type}"
        elif task.type == "TimedWait" and task.wait is None:
            error = f"task {number} of type TimedWait has wait duration set to nil"
        elif task.wait is not None and task.type == "TimedWait" and task.wait.total_seconds() <= 0:
            error = f"task {number} of type TimedWait has wait duration <= 0"
        if error:
            raise client_error(f"the after stage tasks are invalid, {where}, stage: {stage.name}, err: {error}")


def _clusters_of(stage: Stage, members: Mapping[str, Member], placed: Mapping[str, str]) -> list[str]:
    if stage.selector is None:
        return []
    found = sorted(name for name, one in members.items() if stage.selector.matches(one.cluster.labels))
    for name in found:
        if name in placed:
            raise client_error(f"cluster `{name}` appears in more than one stages")
    if stage.sorting_key is None:
        return found
    key = stage.sorting_key
    return sorted(found, key=lambda name: (_sorting_value(key, name, members[name].cluster.labels), name))


def _sorting_value(key: str, name: str, labels: Mapping[str, str]) -> int:
    value = labels.get(key, "")
    problem = None
    if not re.fullmatch(r"[+-]?[0-9]+", value):
        problem = "invalid syntax"
    elif not -_LARGEST - 1 <= int(value) <= _LARGEST:
        problem = "value out of range"
    if problem:
        parse = f'strconv.Atoi: parsing "{value}": {problem}'
        raise client_error(f"the sorting label `{key}:{value}` on cluster `{name}` is not valid: {parse}")
    return int(value)


def _pinned(stage: Stage, clusters: tuple[PinnedCluster, ...]) -> PinnedStage:
    return PinnedStage(
        name=stage.name,
        clusters=clusters,
        limit=concurrency(stage.max_concurrency, len(clusters)),
        before=tuple(_pinned_task(task) for task in stage.before),
        after=tuple(_pinned_task(task) for task in stage.after),
    )


def _pinned_task(task: Task) -> PinnedTask:
    return PinnedTask(type=task.type, wait=format_duration(task.wait) if task.wait is not None else "")


def concurrency(limit: int | str, clusters: int) -> int:
    """Return how many clusters of a stage may be in flight: percentages round down, never below one."""
    if isinstance(limit, int):
        return limit
    return max(1, clusters * int(limit.removesuffix("%")) // 100)


def snapshot_index(text: str) -> int:
    """Read a snapshot index as upstream does.

    Raises:  InitializationError, final, for what is no integer of at least 0.
    """
    digits = re.fullmatch(r"(?:\+?|-(?=0*$))0*([0-9]{1,19})", text)
    if digits is None or int(digits[1]) > _LARGEST:
        message = f"invalid resource snapshot index `{text}` provided, expected an integer >= 0"
        raise client_error(message, final=True)
    return int(digits[1])


def strategy_copy(spec: Body) -> dict[str, Any]:
    """Return the strategy's spec as the run's status keeps it: durations as Go prints them."""
    return {**spec, "stages": [_stage_copy(stage) for stage in spec["stages"]]}


def _stage_copy(stage: Body) -> dict[str, Any]:
    lists = {
        name: [_task_copy(task) for task in stage[name]]
        for name in ("beforeStageTasks", "afterStageTasks")
        if stage.get(name) is not None
    }
    return {**stage, **lists}


def _task_copy(task: Body) -> dict[str, Any]:
    if task.get("waitTime") is None:
        return dict(task)
    return {**task, "waitTime": format_duration(parse_duration(task["waitTime"]))}


APPLY_DEFAULTS = {
    "comparisonOption": "PartialComparison",
    "type": "ClientSideApply",
    "whenToApply": "Always",
    "whenToTakeOver": "Always",
}
