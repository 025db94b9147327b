"""The options that several commands share, each declared once."""

from pathlib import Path
from typing import Annotated

import typer

Repo = Annotated[
    str,
    typer.Option(
        "--repo", "-C", envvar="RECONCILER_REPO", help="A clone, a bare repository, or any URL that git understands."
    ),
]
Branch = Annotated[str, typer.Option("--branch", help="The watched branch.")]
StatusBranch = Annotated[str, typer.Option("--status-branch", help="The branch that the daemon writes.")]
Offline = Annotated[bool, typer.Option("--offline", help="Read what is here; do not fetch first.")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="The namespace of what is namespaced.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the file instead of committing it.")]
ToBranch = Annotated[str | None, typer.Option("--to-branch", help="Push to a new branch, to open a pull request from.")]
SettingsFile = Annotated[
    Path | None, typer.Option("--settings", envvar="RECONCILER_SETTINGS", help="The operator's settings file.")
]
OptionalRepo = Annotated[
    str | None,
    typer.Option("--repo", "-C", envvar="RECONCILER_REPO", help="A bare repository or any URL that git understands."),
]
OptionalBranch = Annotated[str | None, typer.Option("--branch", help="The watched branch (default main).")]
OptionalStatusBranch = Annotated[
    str | None, typer.Option("--status-branch", help="The status branch (default fleet-status).")
]
Members = Annotated[
    Path | None, typer.Option("--members", help="Every member is a folder under this directory, made when missing.")
]
MemberFolders = Annotated[
    Path | None, typer.Option("--members", help="Every member is a folder under this directory; ask what it runs.")
]
StateDir = Annotated[Path | None, typer.Option("--state-dir", help="Mirror and caches; may be deleted at any time.")]
Poll = Annotated[float | None, typer.Option("--poll-period-seconds", help="How often the remote is asked (30).")]
Deadline = Annotated[
    float | None, typer.Option("--stage-deadline-seconds", help="When a cluster in flight is called stuck (300).")
]
