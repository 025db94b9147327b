"""`reconciler get`: objects in kubectl's tables, or whole as YAML or JSON."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.commands import options

if TYPE_CHECKING:
    from reconciler.commands.nouns import Noun
    from reconciler.settings import Settings

_OUTPUTS = ("", "wide", "json", "yaml", "name")


def register(application: typer.Typer) -> None:
    """Add the command."""
    application.command("get")(get)


def get(
    noun: Annotated[str, typer.Argument(help="What to show: csur, crp, careq, crs, clusters, problems …")],
    names: Annotated[list[str] | None, typer.Argument(help="Only these.")] = None,
    namespace: options.Namespace = "",
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of every namespace.")] = False,
    selector: Annotated[str, typer.Option("--selector", "-l", help="By labels: a=b,c!=d,e in (x,y),!f")] = "",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show again what changes, until Ctrl-C.")] = False,
    output: Annotated[str, typer.Option("--output", "-o", help="wide, json, yaml or name.")] = "",
    show_labels: Annotated[bool, typer.Option("--show-labels", help="Labels in the last column.")] = False,
    no_headers: Annotated[bool, typer.Option("--no-headers", help="Rows only.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Also what was removed from the branch.")] = False,
    repo: options.Repo = ".",
    branch: options.Branch = "main",
    status_branch: options.StatusBranch = "fleet-status",
    offline: options.Offline = False,
    settings_file: options.SettingsFile = None,
    members: options.MemberFolders = None,
) -> int:
    """Show objects of the fleet, as kubectl would show them; clusters are asked what they run, given settings."""
    from reconciler.commands import showing  # noqa: PLC0415
    from reconciler.commands.nouns import DEFAULT_NAMESPACE, PROBLEMS, noun_of, selector_of  # noqa: PLC0415
    from reconciler.commands.reading import open_reading  # noqa: PLC0415
    from reconciler.errors import UsageError  # noqa: PLC0415

    if output not in _OUTPUTS:
        raise UsageError(f"-o {output}: there are wide, json, yaml and name")
    if names and (selector or all_namespaces):
        raise UsageError("a name is looked for in one place: give no -l and no -A with it")
    look = showing.Look(output=output, labels=show_labels, headless=no_headers)
    if noun.lower() in PROBLEMS:
        return showing.show_problems(open_reading(repo, branch, status_branch, offline=offline), look)
    asked, settings = asked_noun(noun_of(noun), settings_file, members, repo)
    query = showing.Query(
        noun=asked,
        names=tuple(names or ()),
        namespace=None if all_namespaces else namespace or DEFAULT_NAMESPACE,
        selector=selector_of(selector),
        everything=everything,
        settings=settings,
    )
    fleet = open_reading(repo, branch, status_branch, offline=offline)
    if watch:
        return showing.watch(fleet, query, look, repo, offline=offline)
    return showing.show(fleet, query, look)


def asked_noun(noun: "Noun", file: Path | None, members: Path | None, repo: str) -> "tuple[Noun, Settings | None]":
    """Return clusters with the columns of those that are asked, and how to reach them; other nouns as they are."""
    from dataclasses import replace  # noqa: PLC0415

    from reconciler.commands.nouns import ASKED_CLUSTER  # noqa: PLC0415

    if noun.kind != "MemberCluster" or (file is None and members is None):
        return noun, None
    from reconciler.commands.members import settings_of  # noqa: PLC0415 - only who asks members pays for it

    return replace(noun, columns=ASKED_CLUSTER), settings_of(file, members, repo)
