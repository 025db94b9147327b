"""The README of the status branch: a dashboard in Markdown that any forge renders.

It tells the same to every daemon: no ages, no reachability; moments are absolute.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from reconciler.core.clearing import word_for
from reconciler.core.conditions import timestamp
from reconciler.core.draft import Waiting
from reconciler.core.model import Key, Problem
from reconciler.core.status import PlacementState, RunStatus, State, done_and_skipped
from reconciler.redact import line, markdown

WaitingByPlacement = Mapping[Key, tuple[Waiting, ...]]

_PROBLEMS_SHOWN = 50


def render(
    branch: str,
    states: Mapping[Key, PlacementState],
    problems: Iterable[Problem],
    waiting: WaitingByPlacement,
) -> bytes:
    """Return the dashboard's text."""
    lines = [
        "# Fleet status",
        "",
        f"Written by the reconciler from branch `{branch}`. Do not edit: what is changed here by hand is rejected.",
        "",
        *_section("Waiting", _waiting(waiting), "Nothing waits for a person."),
        *_section("Runs", _runs(states), "No run yet: commit one under `runs/`."),
        *_section("Clusters", _clusters(states), "No cluster was told to run anything yet."),
        *_section("Problems", _problems(tuple(problems)), "None."),
    ]
    return ("\n".join(lines).rstrip() + "\n").encode()


def _section(title: str, rows: Iterable[str], otherwise: str) -> list[str]:
    found = list(rows)
    return [f"## {title}", "", *(found or [otherwise]), ""]


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    found = list(rows)
    if found:
        yield "| " + " | ".join(header) + " |"
        yield "|" + "---|" * len(header)
        for row in found:
            yield "| " + " | ".join(row) + " |"


def _waiting(waiting: WaitingByPlacement) -> Iterator[str]:
    rows = [
        (
            markdown(name_of(key.namespace, one.run)),
            markdown(one.message),
            timestamp(one.since) if one.since else "",
            f"`{line(one.command)}`" if one.command else "",
        )
        for key, found in sorted(waiting.items())
        for one in found
    ]
    yield from _table(("Run", "Waits for", "Since", "Unblocked by"), rows)


def name_of(namespace: str, name: str) -> str:
    """Return `namespace/name`, or the name of what is cluster-scoped."""
    return f"{namespace}/{name}" if namespace else name


def _runs(states: Mapping[Key, PlacementState]) -> Iterator[str]:
    runs = sorted(
        (run for state in states.values() for run in state.runs.values()),
        key=lambda run: (run.position, str(run.key)),
        reverse=True,
    )
    header = ("Run", "Placement", "Snapshot", "Stage", "Clusters", "State")
    yield from _table(header, (_run_row(run) for run in runs))


def _run_row(run: RunStatus) -> tuple[str, ...]:
    stages = run.shown_stages
    clusters = [cluster for stage in stages for cluster in stage.clusters]
    done, skipped = done_and_skipped(clusters)
    over = len(stages) if run.current is None else min(run.current + 1, len(stages))
    stage = stages[over - 1].name if stages else ""
    return (
        markdown(name_of(run.key.namespace, run.key.name)),
        markdown(run.placement),
        run.pin.label if run.pin else "",
        f"{over}/{len(stages)} {stage}" if stage else "",
        f"{done}/{len(clusters)}{f', {skipped} skipped' if skipped else ''}" if clusters else "",
        state_of(run),
    )


def state_of(run: RunStatus) -> str:
    """Return the state of a run in a word or two."""
    if run.end is not None:
        return str(run.end)
    if run.pin is None:
        return "InitializationFailed" if run.failure else "Pending"
    if run.state is State.STOP:
        return "Stopping" if any(True for _ in run.in_flight()) else "Stopped"
    if run.started_at is None:
        return "Initialized"
    stage = run.stage
    if stage is not None and any(cluster.is_stuck for cluster in stage.clusters):
        return "Stuck"
    open_gates = [gate.task.type for gate in (stage.gates if stage else ()) if gate.opened_at and not gate.passed_at]
    return f"Waiting: {', '.join(open_gates)}" if open_gates else "Progressing"


def _clusters(states: Mapping[Key, PlacementState]) -> Iterator[str]:
    rows = []
    for key, state in sorted(states.items()):
        records = [record for record in state.records.values() if not record.is_empty]
        counts = Counter((record.index, word_for(state, record)) for record in records)
        for (index, word), count in sorted(counts.items()):
            names = sorted(one.cluster for one in records if (one.index, word_for(state, one)) == (index, word))
            shown = ", ".join(names[:10]) + (f", … ({count})" if count > 10 else "")  # noqa: PLR2004 - a short row
            rows.append(
                (markdown(name_of(key.namespace, key.name)), str(index) if index >= 0 else f"being {word}", shown)
            )
    yield from _table(("Placement", "Snapshot", "Clusters"), rows)


def _problems(problems: tuple[Problem, ...]) -> Iterator[str]:
    rows = [
        (
            f"`{line(one.path)}{f':{one.line}' if one.line else ''}`",
            one.rule,
            markdown(one.message + (f"; {one.hint}" if one.hint else "")),
        )
        for one in problems[:_PROBLEMS_SHOWN]
    ]
    yield from _table(("File", "Rule", "Problem"), rows)
    if len(problems) > _PROBLEMS_SHOWN:
        yield f"\n… and {len(problems) - _PROBLEMS_SHOWN} more: `reconciler validate` lists them."
