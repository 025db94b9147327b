"""`reconciler describe`: everything known of one object, for people."""

from typing import Annotated

import typer

from reconciler.commands import options


def register(application: typer.Typer) -> None:
    """Add the command."""
    application.command("describe")(describe)


def describe(
    noun: Annotated[str, typer.Argument(help="What it is: csur, crp, cluster … (or NOUN/NAME).")],
    name: Annotated[str | None, typer.Argument(help="Its name.")] = None,
    namespace: options.Namespace = "",
    everything: Annotated[bool, typer.Option("--all", help="Also what was removed from the branch.")] = False,
    repo: options.Repo = ".",
    branch: options.Branch = "main",
    status_branch: options.StatusBranch = "fleet-status",
    offline: options.Offline = False,
) -> int:
    """Tell everything that is known of one object: what it says, what became of it, and what happened."""
    from reconciler.clock import wall  # noqa: PLC0415
    from reconciler.commands import OK, objects, present, reading  # noqa: PLC0415
    from reconciler.commands.describing import describe_lines  # noqa: PLC0415

    asked, wanted = reading.split(noun, name)
    fleet = reading.open_reading(repo, branch, status_branch, offline=offline)
    where = reading.place(asked, namespace)
    found = [one for one in objects.items(fleet, asked, everything=everything) if one.name == wanted]
    found = [one for one in found if one.namespace == where]
    if not found:
        return reading.not_found(asked, wanted)
    for number, one in enumerate(found):
        present.say(*([""] if number else []))
        present.say(*describe_lines(fleet, asked, objects.with_content(fleet, one), wall()))
    return OK
