"""`reconciler reconcile --once`: passes until nothing more can happen by itself, then what each run waits for."""

from typing import Annotated

import typer

from reconciler.commands import options


def register(application: typer.Typer) -> None:
    """Add the command."""
    application.command("reconcile")(reconcile)


@options.serving
def reconcile(
    where: options.Serving,
    once: Annotated[bool, typer.Option("--once", help="Make passes until only time, people or clusters help.")] = True,
) -> None:
    """Make passes until nothing more can happen without time, people or clusters; say what each run waits for."""
    import threading  # noqa: PLC0415
    from dataclasses import replace  # noqa: PLC0415

    from reconciler.clock import Clock  # noqa: PLC0415
    from reconciler.commands.opening import (  # noqa: PLC0415
        configure_log,
        open_mirror,
        open_settings,
        warn_of_no_delivery,
    )
    from reconciler.daemon.reconcile import Reconciler  # noqa: PLC0415
    from reconciler.daemon.service import drain  # noqa: PLC0415
    from reconciler.errors import UsageError  # noqa: PLC0415
    from reconciler.redact import text  # noqa: PLC0415

    if not once:
        raise UsageError("reconcile makes one round of passes; `reconciler serve` keeps going")
    settings = open_settings(where)
    settings = replace(settings, min_push_interval_seconds=0.0)  # nothing may be left unrecorded
    configure_log()
    warn_of_no_delivery(settings)
    clock, woken = Clock(), threading.Event()
    with open_mirror(settings) as mirror:
        reconciler = Reconciler(settings, mirror, clock, woken.set)
        done = drain(reconciler, woken)
        reconciler.workers.close(timeout=20.0)
    for waiting in (one for found in done.waiting.values() for one in found):
        typer.echo(text(f"{waiting.run}: {waiting.message}"))
        if waiting.command:
            typer.echo(text(f"  next: {waiting.command}"))
    if not done.waiting:
        typer.echo("nothing waits")
