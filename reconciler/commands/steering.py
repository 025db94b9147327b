"""Setting `spec.state` of a run by a commit: the person's file with that one field changed, nothing else in it."""

from reconciler.commands.opening import Fleet
from reconciler.commands.options import Writing
from reconciler.commands.present import say
from reconciler.commands.reading import elsewhere, find_run, run_named
from reconciler.commands.writing import commit, open_to_write
from reconciler.core.model import Document, Problem
from reconciler.core.status import RunStatus
from reconciler.core.transitions import problem_at, transition_problems
from reconciler.core.view import Declared
from reconciler.documents.edit import set_field
from reconciler.documents.parse import parse
from reconciler.errors import RefusedError
from reconciler.git import history as log

_VERBS = {"Run": "Start", "Stop": "Stop"}


def set_state(where: Writing, name: str, namespace: str, state: str, *, message: str) -> None:
    """Commit `spec.state` of a run, named as `run_named` reads it; say so where it has that state, and commit nothing.

    Raises:  RefusedError naming rule, file and line: no such run, a run that is over, a transition that is not
             allowed, a broken file, or one that cannot be edited safely. As `commit` otherwise.
    """
    noun, namespace, name = run_named(name, namespace)
    fleet = open_to_write(where)
    found, run = find_run(fleet, noun, namespace, name)
    if found is None:
        raise RefusedError("; ".join((_not_there(name, namespace, run), *elsewhere(fleet, noun, name, namespace))))
    document = found.document
    broken = fleet.derivation.view.problem_of(found)
    if broken is not None:
        raise RefusedError(f"the file of run {name} is broken, correct it first: {broken}")
    if run is not None and run.end is not None:
        over = f"run {name} is over ({run.end}): its state changes nothing any more"
        raise RefusedError(f"{_where(document)}: {over}")
    if ((document.body.get("spec") or {}).get("state") or "Run") == state:
        say(f"spec.state of run {name} is {state} already ({_where(document)}): nothing to commit")
        return
    text = f"{_VERBS[state]} run {name}\n" + (f"\n{message}\n" if message else "")
    commit(fleet, {document.path: _edited(fleet, found, state)}, text, dry_run=where.dry_run, to_branch=where.to_branch)


def _not_there(name: str, namespace: str, run: RunStatus | None) -> str:
    where = f" in namespace {namespace}" if namespace else ""
    gone = "; its file was removed, and a run without one starts nothing" if run is not None else ""
    if run is not None and run.reverts:
        gone = "; it is a rollback, which has no file: a newer run of its placement stops it"
    return f"there is no run {name}{where} on the watched branch{gone}"


def _where(document: Document) -> str:
    return f"{document.path}:{document.line_of('/spec/state')}"


def _edited(fleet: Fleet, found: Declared, state: str) -> bytes:
    """Return the run's file with its state changed, judged as the daemon will judge it."""
    document = found.document
    data = _content(fleet, document.path)
    edited = set_field(document.path, data, document.index, ("spec", "state"), state)
    if edited is None:
        where = _where(document)
        raise RefusedError(f"{where}: spec.state cannot be set without touching more: set it to {state} by hand")
    parsed = parse(document.path, edited)
    new = next((one for one in parsed.documents if one.key == document.key), None)
    problems = [*parsed.problems, *(transition_problems(document, new) if new is not None else ())]
    if problems:
        raise RefusedError(_told(problems[0], document, state))
    return edited


def _told(problem: Problem, document: Document, state: str) -> str:
    """Return the refusal with the line of the file as it is now."""
    here = problem_at(document, problem.pointer, problem.rule, problem.message, problem.hint)
    return f"{here}; spec.state stays as it is, a commit with {state} would be refused"


def _content(fleet: Fleet, path: str) -> bytes:
    """Return the file as it is at the head: its newest bytes, comments included."""
    head = fleet.derivation.view.head
    held = log.listing(fleet.source.git, head.sha, path) if head is not None else ()
    blob = next((one.blob for one in held if one.path == path), None)
    if not blob:
        raise RefusedError(f"{path} is not on the watched branch any more: run the command again")
    return log.read_blobs(fleet.source.git, [blob])[blob]
