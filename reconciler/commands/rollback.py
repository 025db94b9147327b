"""`reconciler rollback`: commit a new run to what the clusters ran before a run."""

from typing import Annotated

import typer

from reconciler.commands import options


def register(application: typer.Typer) -> None:
    """Add the command."""
    application.command("rollback")(rollback)


@options.writing
def rollback(
    run: Annotated[str, typer.Argument(help="The run to go back from (or csur/NAME, sur/NAME); it may be removed.")],
    where: options.Writing,
    namespace: options.Namespace = "",
    strategy: Annotated[str, typer.Option("--strategy", help="In which stages (default: those of the run).")] = "",
    name: Annotated[str, typer.Option("--name", help="The new run's name (default: RUN-back).")] = "",
    message: Annotated[str, typer.Option("--message", "-m", help="Why, for the record.")] = "",
) -> None:
    """Commit a new run with the snapshot that every cluster of RUN had before it; waits and approvals apply again.

    Where clusters had different snapshots, or one had none, nothing is committed: it is said which there are.
    """
    from reconciler.commands.reading import run_named  # noqa: PLC0415
    from reconciler.commands.run import check_run, run_body  # noqa: PLC0415
    from reconciler.commands.undoing import free_name, run_file, way_back  # noqa: PLC0415
    from reconciler.commands.writing import check_file, commit, open_to_write  # noqa: PLC0415
    from reconciler.documents import yaml  # noqa: PLC0415

    _, namespace, run = run_named(run, namespace)
    fleet = open_to_write(where)
    back = way_back(fleet, run, namespace)
    new, index, along = name or free_name(fleet, back.run.key), str(back.index), strategy or back.strategy
    check_run(fleet.derivation.view, new, back.run.placement, along, index, namespace)
    path = run_file(fleet, new, namespace)
    data = yaml.dump(run_body(new, back.run.placement, along, index, namespace, "Run", "")).encode()
    check_file(path, data)
    _say_what_else_goes(back.newer)
    subject = f"Go back to snapshot {index} of {back.run.placement} with run {new}"
    why = message or f"Before run {run} every cluster ran snapshot {index}."
    commit(fleet, {path: data}, f"{subject}\n\n{why}\n", dry_run=where.dry_run, to_branch=where.to_branch)


def _say_what_else_goes(newer: tuple[str, ...]) -> None:
    """Warn where a newer run has moved the clusters on: what that brought goes too."""
    from reconciler.commands.present import warn  # noqa: PLC0415

    if newer:
        warn(f"note: {', '.join(newer)} started after it; what that brought is left behind too")
