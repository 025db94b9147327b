"""`reconciler serve`: the daemon."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.commands import options

if TYPE_CHECKING:
    from reconciler.git.mirror import Mirror
    from reconciler.settings import Settings


def register(application: typer.Typer) -> None:
    """Add the command."""
    application.command("serve")(serve)


@options.serving
def serve(
    where: options.Serving,
    poll: options.Poll = None,
    init: Annotated[bool, typer.Option("--init", help="Create the status branch first where there is none.")] = False,
    log_format: Annotated[str, typer.Option("--log-format", help="text or json")] = "text",
) -> None:
    """Watch the repository and roll out; SIGTERM ends it cleanly, SIGHUP asks for a pass now."""
    from reconciler.clock import Clock  # noqa: PLC0415
    from reconciler.commands.opening import (  # noqa: PLC0415
        configure_log,
        open_mirror,
        open_settings,
        warn_of_no_delivery,
    )
    from reconciler.daemon.reconcile import Reconciler  # noqa: PLC0415
    from reconciler.daemon.service import Service  # noqa: PLC0415

    as_json = options.one_of("--log-format", log_format, ("text", "json")) == "json"
    settings = open_settings(where, poll=poll)
    configure_log(json=as_json)
    warn_of_no_delivery(settings)
    clock = Clock()
    with open_mirror(settings) as mirror:
        if init:
            _make_status(settings, mirror, clock.now())
        service = Service(lambda poke: Reconciler(settings, mirror, clock, poke), clock, settings.poll_period_seconds)
        service.run()


def _make_status(settings: "Settings", mirror: "Mirror", now: "datetime") -> None:
    """Make the status branch, but only where nothing of an earlier one is left anywhere."""
    import structlog  # noqa: PLC0415

    from reconciler.daemon import anchor  # noqa: PLC0415
    from reconciler.errors import RefusedError  # noqa: PLC0415

    heads = mirror.fetch()
    head, name = heads.get(settings.branch), settings.status_branch
    if heads.get(name) is not None:
        return
    if mirror.recall("status") is not None:
        raise RefusedError(f"branch {name} was seen before and is gone: restore it; --init makes no second one")
    if head is None:
        head = _lay_out(settings, mirror)
    if used := anchor.used_members(settings, mirror, head):
        raise RefusedError(
            f"branch {name} is not there, but a rollout was: {'; '.join(used)}. Restore the branch; --init makes no "
            "second one"
        )
    fleet = anchor.make(mirror, settings.branch, name, head, now)
    structlog.get_logger().info("created branch", branch=name, repository=fleet.repository, watching=head[:7])


def _lay_out(settings: "Settings", mirror: "Mirror") -> str:
    """Commit the folders to an empty repository, in the name of whoever starts the daemon; return the commit."""
    import structlog  # noqa: PLC0415

    from reconciler.commands.writing import lay_out  # noqa: PLC0415
    from reconciler.errors import UsageError  # noqa: PLC0415

    try:
        head = lay_out(mirror, settings.branch)
    except UsageError as error:
        raise UsageError(
            f"the repository has no branch {settings.branch} yet, and its first commit needs an author: {error}; or "
            f"run, as somebody whom git knows: reconciler init --repo {settings.repo}"
        ) from error
    structlog.get_logger().info("created branch with the folders of a fleet", branch=settings.branch, commit=head[:7])
    return head
