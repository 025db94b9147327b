"""`reconciler why`: what something waits for, since when, and who can unblock it with which command."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from reconciler.commands import options

if TYPE_CHECKING:
    from datetime import datetime

    from reconciler.commands.nouns import Noun
    from reconciler.commands.opening import Fleet
    from reconciler.commands.reasons import Answer, Because


def register(application: typer.Typer) -> None:
    """Add the command."""
    application.command("why")(why)


@options.reading
def why(
    what: Annotated[
        str, typer.Argument(help="A run's NAME or NAME@UID, or a noun: csur, cluster, crp, careq … (or NOUN/NAME).")
    ],
    where: options.Reading,
    name: Annotated[str | None, typer.Argument(help="The name, where the first word is a noun.")] = None,
    namespace: options.Namespace = "",
    output: Annotated[str, typer.Option("--output", "-o", help="text or json.")] = "text",
) -> int:
    """Tell why a run, cluster, placement or approval is where it is: what helps, who can, with which command."""
    from reconciler.clock import wall  # noqa: PLC0415
    from reconciler.commands import FAILED, OK, present, reading  # noqa: PLC0415
    from reconciler.errors import UsageError  # noqa: PLC0415

    if output not in ("text", "json"):
        raise UsageError(f"-o {output}: there are text and json")
    if name is None and "/" not in what:
        noun, wanted = reading.run_noun(namespace), what
    else:
        noun, wanted = reading.split(what, name)
    place = reading.place(noun, namespace)
    fleet = reading.open_reading(where, tell_holds=False)
    answer = _answer(fleet, noun, place, wanted)
    there = answer is not None
    if answer is None:
        answer = _not_counted(fleet, noun, place, wanted)
        if answer is None:
            return reading.not_found(fleet, noun, wanted, place)
    if output == "json":
        present.say(_as_json(answer))
    else:
        present.say(*_paragraphs(answer, wall()))
    return OK if there else FAILED


def _answer(fleet: "Fleet", noun: "Noun", namespace: str, name: str) -> "Answer | None":
    from reconciler.commands.reasons import why_run  # noqa: PLC0415
    from reconciler.commands.standing import why_approval, why_cluster, why_placement  # noqa: PLC0415
    from reconciler.errors import UsageError  # noqa: PLC0415

    if noun.kind == "MemberCluster":
        return why_cluster(fleet, name)
    for ending, asked in (
        ("StagedUpdateRun", why_run),
        ("ResourcePlacement", why_placement),
        ("ApprovalRequest", why_approval),
    ):
        if noun.kind.endswith(ending):
            return asked(fleet, noun.kind, namespace, name)
    raise UsageError(f"why is asked of runs, clusters, placements and approvals, not of {noun.plural}")


def _not_counted(fleet: "Fleet", noun: "Noun", namespace: str, name: str) -> "Answer | None":
    """Return why a file that declares the object does not count; None when there is no such file."""
    from reconciler.commands.reasons import Answer  # noqa: PLC0415
    from reconciler.commands.uncounted import why_not_there  # noqa: PLC0415

    reasons = why_not_there(fleet, noun.kind, namespace, name)
    if not reasons:
        return None
    return Answer(kind=noun.kind, namespace=namespace, name=name, state="NotCounted", reasons=reasons)


def _paragraphs(answer: "Answer", now: "datetime") -> list[str]:
    lines = [f"{answer.name} ({answer.kind}): {answer.state}"]
    return lines + [_paragraph(one, now) for one in answer.reasons]


def _paragraph(one: "Because", now: "datetime") -> str:
    from reconciler.commands.present import age  # noqa: PLC0415
    from reconciler.core.conditions import timestamp  # noqa: PLC0415

    is_path = any(mark in one.message.partition(" ")[0] for mark in "./")
    text = one.message if is_path else one.message[:1].upper() + one.message[1:]
    text += f", since {timestamp(one.since)} ({age(one.since, now)})." if one.since is not None else "."
    who = f" Who can unblock it: {one.who}." if one.who else ""
    return text + who + (f"\n  next: {one.command}" if one.command else "")


def _as_json(answer: "Answer") -> str:
    import json  # noqa: PLC0415

    from reconciler.core import codec  # noqa: PLC0415

    data: dict[str, Any] = codec.encode(answer)
    return json.dumps(data, indent=2, ensure_ascii=False)
