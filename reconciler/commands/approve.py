"""`reconciler approve`: commit the approval that an open gate asks for."""

from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.commands import options

if TYPE_CHECKING:
    from reconciler.core.model import Key
    from reconciler.core.status import Gate, RunStatus, StageFacts
    from reconciler.core.view import View
    from reconciler.status_branch.store import Status


def register(application: typer.Typer) -> None:
    """Add the command."""
    application.command("approve")(approve)


@options.writing
@options.persistent
def approve(
    run: Annotated[str, typer.Argument(help="The run's name, or csur/NAME, sur/NAME.")],
    stage: Annotated[str, typer.Argument(help="The stage whose gate is to pass.")],
    where: options.Writing,
    namespace: options.Namespace = "",
    before: Annotated[bool, typer.Option("--before", help="The gate before the stage.")] = False,
    message: Annotated[str, typer.Option("--message", "-m", help="Why, for the record.")] = "approved",
) -> None:
    """Commit an approval for a gate that is open now."""
    from reconciler.clock import wall  # noqa: PLC0415
    from reconciler.commands import reading  # noqa: PLC0415
    from reconciler.commands.holds import refuse_held  # noqa: PLC0415
    from reconciler.commands.reasons import given  # noqa: PLC0415
    from reconciler.commands.writing import commit, open_to_write, status_of  # noqa: PLC0415
    from reconciler.redact import text  # noqa: PLC0415

    fleet = open_to_write(where)
    known = status_of(fleet, "no gate is open")
    noun, namespace, run = reading.run_named(run, namespace)
    if reading.find_run(fleet, noun, namespace, run) == (None, None):
        raise typer.Exit(reading.not_found(fleet, noun, run, namespace))
    refuse_held(fleet, f"no approval of {run} is taken now")  # what is committed before may never count
    status, found, gate = _gate(known, run, stage, namespace, before=before)
    by = given(fleet, status, found, gate)
    if by:
        typer.echo(text(f"stage {stage} of run {run} is approved already, by {by}: nothing to do"))
        return
    path = _file(fleet.derivation.view, status.key, gate.request)
    body = _approval(status, found, gate, message, wall().strftime("%Y-%m-%dT%H:%M:%SZ"))
    commit(
        fleet,
        {path: _written(path, body)},
        f"Approve stage {stage} of {run}\n\n{message}\n",
        dry_run=where.dry_run,
        to_branch=where.to_branch,
    )


def _gate(
    status: "Status", name: str, stage: str, namespace: str, *, before: bool
) -> "tuple[RunStatus, StageFacts, Gate]":
    """Find the open approval gate, or say exactly why there is none."""
    from reconciler.commands.telling import approve_command, open_gates  # noqa: PLC0415
    from reconciler.core.status import When  # noqa: PLC0415
    from reconciler.errors import RefusedError  # noqa: PLC0415

    runs = [
        run
        for state in status.placements.values()
        for run in state.runs.values()
        if (run.key.name, run.key.namespace) == (name, namespace)
    ]
    if not runs:
        raise RefusedError(
            f"the daemon has not recorded run {name} yet, so no gate is open: see reconciler tree {name}"
        )
    run = max(runs, key=lambda one: one.position)
    if run.end is not None:
        raise RefusedError(f"run {name} is over ({run.end}): an approval would change nothing")
    found = next((one for one in run.stages if one.name == stage), None)
    if found is None:
        names = ", ".join(one.name for one in run.stages) or "none yet"
        raise RefusedError(f"run {name} has no stage {stage}; its stages are: {names}")
    side = When.BEFORE if before else When.AFTER
    gate = next((one for one in found.gates_of(side) if one.task.type == "Approval"), None)
    if gate is None:
        there = any(one.task.type == "Approval" for one in found.gates)
        other = f"; one is asked for on its other side: {'without ' if before else ''}--before" if there else ""
        raise RefusedError(f"no approval is asked for {side} stage {stage} of run {name}{other}")
    if gate.opened_at is None:
        asked = next((one for one in open_gates(found) if one.request), None)
        hint = f"; the one that is: {approve_command(run, found, asked)}" if asked is not None else ""
        raise RefusedError(
            f"the gate {side} stage {stage} of run {name} is not open yet: an approval would not count{hint}"
        )
    return run, found, gate


def _file(view: "View", run: "Key", request: str) -> str:
    """Return the file to write: the one that holds an approval of this name already, if it holds nothing else."""
    from reconciler.core.conditions import approval_kind  # noqa: PLC0415
    from reconciler.errors import RefusedError  # noqa: PLC0415

    path = f"approvals/{run.namespace}/{request}.yaml" if run.namespace else f"approvals/{request}.yaml"
    held = view.find(approval_kind(run), run.namespace, request)
    path = held.document.path if held is not None else path
    if path in view.broken:
        raise RefusedError(f"{path} is broken, and an approval in it would not count; mend it: {view.broken[path][0]}")
    if any(one.document.path == path and one.key.name != request for one in view.approvals()):
        raise RefusedError(f"{path} holds other approvals as well: add this one, or change its condition, by hand")
    return path


def _written(path: str, body: dict[str, object]) -> bytes:
    """Return the text of the file, in the language of its name."""
    import json  # noqa: PLC0415

    from reconciler.documents import yaml  # noqa: PLC0415

    text = json.dumps(body, indent=2) + "\n" if path.endswith(".json") else yaml.dump(body)
    return text.encode()


def _approval(run: "RunStatus", stage: "StageFacts", gate: "Gate", message: str, now: str) -> dict[str, object]:
    from reconciler.core.conditions import API_VERSION, approval_kind  # noqa: PLC0415
    from reconciler.core.model import PREFIX  # noqa: PLC0415

    condition = {
        "lastTransitionTime": now,
        "message": message,
        "observedGeneration": 1,
        "reason": "Approved",
        "status": "True",
        "type": "Approved",
    }
    return {
        "apiVersion": API_VERSION,
        "kind": approval_kind(run.key),
        "metadata": {
            "annotations": {PREFIX + "request-uid": gate.request_uid},
            "name": gate.request,
            **({"namespace": run.key.namespace} if run.key.namespace else {}),
        },
        "spec": {"parentStageRollout": run.key.name, "targetStage": stage.name},
        "status": {"conditions": [condition]},
    }
