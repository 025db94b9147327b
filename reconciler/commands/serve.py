"""`reconciler serve`: the daemon."""

from typing import Annotated

import typer

from reconciler.commands import options


def register(application: typer.Typer) -> None:
    """Add the command."""
    application.command("serve")(serve)


def serve(
    repo: options.OptionalRepo = None,
    settings_file: options.SettingsFile = None,
    branch: options.OptionalBranch = None,
    status_branch: options.OptionalStatusBranch = None,
    members: options.Members = None,
    state_dir: options.StateDir = None,
    poll: options.Poll = None,
    deadline: options.Deadline = None,
    init: Annotated[bool, typer.Option("--init", help="Create the status branch first where there is none.")] = False,
    log_format: Annotated[str, typer.Option("--log-format", help="text or json")] = "text",
) -> None:
    """Watch the repository and roll out; SIGTERM ends it cleanly, SIGHUP asks for a pass now."""
    from reconciler.clock import Clock  # noqa: PLC0415
    from reconciler.commands.opening import configure_log, open_mirror, open_settings  # noqa: PLC0415
    from reconciler.daemon.reconcile import Reconciler  # noqa: PLC0415
    from reconciler.daemon.service import Service  # noqa: PLC0415

    settings = open_settings(
        settings_file,
        repo=repo,
        branch=branch,
        status_branch=status_branch,
        members=members,
        state_dir=state_dir,
        poll=poll,
        deadline=deadline,
    )
    configure_log(json=log_format == "json")
    clock = Clock()
    with open_mirror(settings) as mirror:
        if init:
            _make_status(mirror, settings.branch, settings.status_branch, clock)
        service = Service(lambda poke: Reconciler(settings, mirror, clock, poke), clock, settings.poll_period_seconds)
        service.run()


def _make_status(mirror, branch: str, status_branch: str, clock) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    from reconciler.daemon import anchor  # noqa: PLC0415
    from reconciler.errors import UsageError  # noqa: PLC0415

    heads = mirror.fetch()
    if heads.get(status_branch) is not None:
        return
    if mirror.recall("status") is not None:
        raise UsageError(f"branch {status_branch} was seen before and is gone: restore it; --init makes no second one")
    if heads.get(branch) is None:
        raise UsageError(f"the repository has no branch {branch}: `reconciler init` lays one out")
    anchor.make(mirror, branch, status_branch, heads[branch], clock.now())
