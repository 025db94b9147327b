"""`reconciler get`: objects in kubectl's tables, or whole as YAML or JSON."""

from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.commands import options

if TYPE_CHECKING:
    from reconciler.commands.nouns import Noun
    from reconciler.commands.showing import Look

_OUTPUTS = ("", "wide", "json", "yaml", "name")


def register(application: typer.Typer) -> None:
    """Add the command."""
    application.command("get")(get)


@options.asking
def get(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="NOUN[,NOUN] [NAME ...]",
            help="csur, crp, careq, clusters … or NOUN/NAME …; NAME@UID for one of several.",
        ),
    ],
    where: options.Asking,
    namespace: options.Namespace = "",
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of every namespace.")] = False,
    selector: Annotated[str, typer.Option("--selector", "-l", help="By labels: a=b,c!=d,e in (x,y),!f")] = "",
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show again what changes or goes, until Ctrl-C.")
    ] = False,
    watch_events: Annotated[
        bool, typer.Option("--output-watch-events", help="With -w: say ADDED, MODIFIED or DELETED of each object.")
    ] = False,
    output: Annotated[str, typer.Option("--output", "-o", help="wide, json, yaml or name.")] = "",
    show_labels: Annotated[bool, typer.Option("--show-labels", help="Labels in the last column.")] = False,
    no_headers: Annotated[bool, typer.Option("--no-headers", help="Rows only.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Also what was removed from the branch.")] = False,
) -> int:
    """Show objects of the fleet, as kubectl would show them; clusters are asked what they run, given settings."""
    from reconciler.commands import showing  # noqa: PLC0415
    from reconciler.commands.nouns import DEFAULT_NAMESPACE, PROBLEMS, selector_of  # noqa: PLC0415
    from reconciler.commands.reading import asking, open_reading  # noqa: PLC0415

    look = showing.Look(
        output=options.one_of("-o", output, _OUTPUTS), labels=show_labels, headless=no_headers, events=watch_events
    )
    if what[0].lower() in PROBLEMS:
        _check_problems(what, output, anything_else=watch or bool(selector))
        return showing.show_problems(open_reading(asking(where, ())[1]), look)
    questions, selected = _questions(what), selector_of(selector)
    _check(questions, look, elsewhere=bool(selector) or all_namespaces, watch=watch)
    settings, place = asking(where, [noun for noun, _ in questions])
    queries = [
        showing.Query(
            noun=noun,
            names=names,
            namespace=None if all_namespaces else namespace or DEFAULT_NAMESPACE,
            selector=selected,
            everything=everything,
            settings=settings if noun.kind == "MemberCluster" else None,
        )
        for noun, names in questions
    ]
    fleet = open_reading(place)
    if watch:
        return showing.watch(fleet, queries[0], look, place.repo, offline=place.offline)
    return showing.show(fleet, queries, look)


def _check_problems(what: list[str], output: str, *, anything_else: bool) -> None:
    """Raise UsageError for what does not go with problems."""
    from reconciler.errors import UsageError  # noqa: PLC0415

    if what[1:] or anything_else:
        raise UsageError("problems are shown all, and once: give no name, no -l and no -w")
    options.one_of("-o", output, tuple(one for one in _OUTPUTS if one != "name"))


def _check(questions: "list[tuple[Noun, tuple[str, ...]]]", look: "Look", *, elsewhere: bool, watch: bool) -> None:
    """Raise UsageError for options that do not go together."""
    from reconciler.errors import UsageError  # noqa: PLC0415

    if any(names for _, names in questions) and elsewhere:
        raise UsageError("a name is looked for in one place: give no -l and no -A with it")
    if look.events and not watch:
        raise UsageError("--output-watch-events goes with --watch")
    if watch and len(questions) > 1:
        raise UsageError("one kind of thing at a time can be watched")


def _questions(words: list[str]) -> "list[tuple[Noun, tuple[str, ...]]]":
    """Read what kubectl takes: `NOUN[,NOUN] [NAME ...]`, or `NOUN/NAME ...`; each noun with the names asked of it.

    Raises:  UsageError for a noun that there is none of, and for the two forms mixed.
    """
    from reconciler.commands.nouns import noun_of  # noqa: PLC0415
    from reconciler.errors import UsageError  # noqa: PLC0415

    if not any("/" in word for word in words):
        nouns = dict.fromkeys(noun_of(word) for word in words[0].split(","))
        return [(noun, tuple(words[1:])) for noun in nouns]
    found: dict[Noun, tuple[str, ...]] = {}
    for word in words:
        noun, slash, name = word.partition("/")
        if not slash or not name:
            raise UsageError(f"{word}: write NOUN NAME NAME, or NOUN/NAME NOUN/NAME, not both")
        found[noun_of(noun)] = (*found.get(noun_of(noun), ()), name)
    return list(found.items())
