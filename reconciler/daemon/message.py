"""The commit messages of the status branch: from values only, in one voice."""

from collections.abc import Iterable, Iterator, Mapping, Sized

from reconciler.core.events import (
    ClusterReported,
    ClusterStarted,
    Event,
    GateOpened,
    GatePassed,
    InitializationFailed,
    RunArchived,
    RunCompleted,
    RunInitialized,
    RunNotStarted,
    RunSuperseded,
    RunWithdrawn,
)
from reconciler.core.model import Key
from reconciler.core.status import FORMAT, PlacementState, RunStatus, done_and_skipped
from reconciler.status_branch.dashboard import name_of, state_of


def commit_message(states: Mapping[Key, PlacementState], happened: Mapping[Key, tuple[Event, ...]], head: str) -> str:
    """Return subject, one line per thing that happened, and the trailers."""
    runs = _runs(states, happened)
    lines = [line for key, events in happened.items() for event in events for line in _line(states[key], event)]
    body = ["", *lines] if lines else []
    names = [name_of(run.key.namespace, run.key.name) for run in runs]
    names += [name_of(key.namespace, one.name) for key, one in _archived(happened)]
    trailers = [f"Run: {name}" for name in names]
    trailers += sorted({f"Snapshot: {run.pin.label}" for run in runs if run.pin})
    trailers += [f"Observed-Commit: {head}", f"Format: {FORMAT}"]
    return "\n".join([_subject(runs, happened), *body, "", *trailers]) + "\n"


def format_message(head: str) -> str:
    """Return the message of the commit that only renders everything anew, in the present format."""
    return f"Render the status in format {FORMAT}\n\nObserved-Commit: {head}\nFormat: {FORMAT}\n"


def _runs(states: Mapping[Key, PlacementState], happened: Mapping[Key, tuple[Event, ...]]) -> list[RunStatus]:
    pairs = {(key, event.run): None for key, events in happened.items() for event in events if event.run}
    return [states[key].runs[run] for key, run in pairs]


def _archived(happened: Mapping[Key, tuple[Event, ...]]) -> list[tuple[Key, RunArchived]]:
    return [(key, one) for key, events in happened.items() for one in events if isinstance(one, RunArchived)]


def _subject(runs: list[RunStatus], happened: Mapping[Key, tuple[Event, ...]]) -> str:
    if runs:
        return f"{runs[-1].key.name}: {_words(runs[-1])}{_more(runs)}"
    left = [one.name for _, one in _archived(happened)]
    if left:
        return f"{left[-1]}: archived{_more(left)}"
    names = [key.name for key, events in happened.items() if events]
    if names:
        return f"{names[0]}: placement observed{_more(names)}"
    return "Observe the watched branch"


def _more(found: Sized) -> str:
    return f" (and {len(found) - 1} more)" if len(found) > 1 else ""


def _words(run: RunStatus) -> str:
    stage = run.stage.name if run.stage is not None else ""
    state = state_of(run)
    if state == "Progressing" and run.stage is not None:
        done, _ = done_and_skipped(run.stage.clusters)
        return f"updating stage {stage}, {done} of {len(run.stage.clusters)}"
    if state.startswith("Waiting") and stage:
        return f"stage {stage} waiting for {state.removeprefix('Waiting: ')}"
    return {"InitializationFailed": "initialization failed", "NotStarted": "not started"}.get(state, state.lower())


def _line(state: PlacementState, event: Event) -> Iterable[str]:
    if isinstance(event, RunArchived):
        return [f"{event.name}  {type(event).__name__}"]
    run = state.runs.get(event.run)
    if run is None:
        return ()
    stage = run.all_stages[event.stage].name if hasattr(event, "stage") else ""
    return [f"{run.key.name}  {text}" for text in _texts(stage, event)]


def _texts(stage: str, event: Event) -> Iterator[str]:
    match event:
        case ClusterStarted():
            yield f"{stage}  {event.cluster}  Started  intent {event.seq}"
        case ClusterReported():
            yield f"{stage}  {event.cluster}  {event.reason}"
        case GateOpened():
            yield f"{stage}  {event.when} {event.type} opened"
        case GatePassed():
            by = f" by commit {event.approval.commit[:7]}" if event.approval else ""
            yield f"{stage}  {event.when} {event.type} passed{by}"
        case RunSuperseded():
            yield f"superseded by {event.by_name}"
        case RunInitialized() | InitializationFailed() | RunCompleted() | RunWithdrawn() | RunNotStarted():
            yield type(event).__name__
