"""`reconciler describe`: everything known of one object, for people."""

from typing import Annotated

import typer

from reconciler.commands import options


def register(application: typer.Typer) -> None:
    """Add the command."""
    application.command("describe")(describe)


@options.asking
def describe(
    noun: Annotated[str, typer.Argument(help="What it is: csur, crp, cluster … (or NOUN/NAME).")],
    where: options.Asking,
    name: Annotated[str | None, typer.Argument(help="Its name; NAME@UID for one of several.")] = None,
    namespace: options.Namespace = "",
    everything: Annotated[bool, typer.Option("--all", help="Also what was removed from the branch.")] = False,
) -> int:
    """Tell everything that is known of one object; a cluster is asked for what is really there, given settings."""
    from reconciler.clock import wall  # noqa: PLC0415
    from reconciler.commands import OK, objects, present, reading  # noqa: PLC0415
    from reconciler.commands.describing import describe_lines  # noqa: PLC0415

    asked, wanted = reading.split(noun, name)
    settings, there = reading.asking(where, [asked])
    fleet = reading.open_reading(there)
    bare, uid = reading.name_and_uid(wanted)
    everything = everything or bool(uid)
    fleet = fleet.whole() if everything else fleet
    place = reading.place(asked, namespace)
    known = objects.items(fleet, asked, everything=everything)
    found = [one for one in known if reading.is_named(one, wanted) and one.namespace == place]
    if not found:
        return reading.not_found(fleet, asked, wanted, place)
    for number, one in enumerate(found):
        present.say(*([""] if number else []))
        present.say(*describe_lines(fleet, asked, objects.with_content(fleet, one), wall()))
    if settings is not None:
        from reconciler.commands.asked import member_lines  # noqa: PLC0415 - only who asks members pays for it

        present.say(*member_lines(fleet, bare, settings))
    return OK
