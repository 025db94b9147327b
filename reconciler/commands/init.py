"""`reconciler init`: make the status branch, and the folders where the repository is empty."""

from typing import Annotated

import typer

from reconciler.commands import options


def register(application: typer.Typer) -> None:
    """Add the command."""
    application.command("init")(init)


def init(
    repo: options.OptionalRepo = None,
    settings_file: options.SettingsFile = None,
    branch: options.OptionalBranch = None,
    status_branch: options.OptionalStatusBranch = None,
    start_existing: Annotated[
        bool, typer.Option("--start-existing", help="Start the runs that are already there.")
    ] = False,
) -> None:
    """Create the status branch; runs that are already in the repository are never started."""
    from reconciler.clock import wall  # noqa: PLC0415
    from reconciler.commands.opening import open_settings  # noqa: PLC0415
    from reconciler.daemon import anchor  # noqa: PLC0415
    from reconciler.errors import UsageError  # noqa: PLC0415
    from reconciler.git import publish  # noqa: PLC0415
    from reconciler.git.mirror import open_source  # noqa: PLC0415

    settings = open_settings(
        settings_file,
        repo=repo or ("." if settings_file is None else None),
        branch=branch,
        status_branch=status_branch,
        members=None,
        state_dir=None,
    )
    source = open_source(settings.repo, (settings.branch, settings.status_branch))
    head = source.heads().get(settings.branch)
    if head is None:
        message = "Lay out the fleet repository\n\nOne folder per kind of thing, so that its owners can be named.\n"
        head = publish.write_person_commit(source.git, base=None, changes=anchor.scaffold(), message=message)
        if not publish.push(source, settings.branch, head, None):
            raise UsageError(f"branch {settings.branch} appeared while it was being made: run init again")
        typer.echo(f"created branch {settings.branch} with the folders of a fleet repository ({head[:7]})")
    fleet = anchor.make(source, settings.branch, settings.status_branch, head, wall(), start_existing=start_existing)
    typer.echo(f"created branch {settings.status_branch} for repository {fleet.repository}, watching {head[:7]}")
    typer.echo("next: reconciler serve --repo REPO --members DIR (or --settings FILE)")
