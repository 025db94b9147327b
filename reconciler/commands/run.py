"""`reconciler run create`, `run start`, `run stop`: commit a new run, or another state of one."""

from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.commands import options

if TYPE_CHECKING:
    from reconciler.core.view import View


def register(application: typer.Typer) -> None:
    """Add the group of commands."""
    group = typer.Typer(help="Commit what starts or changes a run.", no_args_is_help=True)
    group.command("create")(create)
    group.command("start")(start)
    group.command("stop")(stop)
    application.add_typer(group, name="run")


@options.writing
def create(
    name: Annotated[str, typer.Argument(help="The new run's name.")],
    placement: Annotated[str, typer.Option("--placement", help="What to roll out.")],
    strategy: Annotated[str, typer.Option("--strategy", help="In which stages.")],
    where: options.Writing,
    snapshot: Annotated[
        str, typer.Option("--snapshot", help="The resource snapshot index; the latest if omitted.")
    ] = "",
    namespace: options.Namespace = "",
    state: Annotated[str, typer.Option("--state", help="Run, or Initialize to see the plan first.")] = "Run",
    pin: Annotated[bool, typer.Option("--pin", help="Pin the content as it is now by its hash.")] = False,
) -> None:
    """Commit a run; the daemon starts it as soon as it is on the watched branch."""
    from reconciler.commands.writing import check_file, commit, open_to_write  # noqa: PLC0415
    from reconciler.documents import yaml  # noqa: PLC0415
    from reconciler.errors import RefusedError  # noqa: PLC0415

    fleet = open_to_write(where)
    view = fleet.derivation.view
    digest = check_run(view, name, placement, strategy, snapshot, namespace)
    body = run_body(name, placement, strategy, snapshot, namespace, state, digest if pin else "")
    path = f"runs/{namespace}/{name}.yaml" if namespace else f"runs/{name}.yaml"
    if any(one.document.path == path for one in view.runs()) or path in view.broken:
        raise RefusedError(f"{path} is there already, with something else in it: choose another name, or move it")
    data = yaml.dump(body).encode()
    check_file(path, data)
    what = f"snapshot {snapshot}" if snapshot else "the latest snapshot"
    message = f"Roll out {placement} with run {name}\n\n{what} along strategy {strategy}\n"
    commit(fleet, {path: data}, message, dry_run=where.dry_run, to_branch=where.to_branch)


@options.writing
@options.persistent
def start(
    name: Annotated[str, typer.Argument(help="The run's name, or csur/NAME, sur/NAME.")],
    where: options.Writing,
    namespace: options.Namespace = "",
    message: Annotated[str, typer.Option("--message", "-m", help="Why, for the record.")] = "",
) -> None:
    """Commit spec.state Run: an initialized run begins, a stopped one goes on where it was."""
    from reconciler.commands.steering import set_state  # noqa: PLC0415

    set_state(where, name, namespace, "Run", message=message)


@options.writing
@options.persistent
def stop(
    name: Annotated[str, typer.Argument(help="The run's name, or csur/NAME, sur/NAME.")],
    where: options.Writing,
    namespace: options.Namespace = "",
    message: Annotated[str, typer.Option("--message", "-m", help="Why, for the record.")] = "",
) -> None:
    """Commit spec.state Stop: clusters in flight finish, nothing new starts until `run start`."""
    from reconciler.commands.steering import set_state  # noqa: PLC0415

    set_state(where, name, namespace, "Stop", message=message)


def check_run(view: "View", name: str, placement: str, strategy: str, snapshot: str, namespace: str) -> str:
    """Refuse what could not work; return the content hash that the run would roll out."""
    from reconciler.errors import RefusedError  # noqa: PLC0415

    prefix = "" if namespace else "Cluster"
    where = f" in namespace {namespace}" if namespace else ""
    placement_kind = "ResourcePlacement" if namespace else "ClusterResourcePlacement"
    if view.find(f"{prefix}StagedUpdateRun", namespace, name) is not None:
        raise RefusedError(f"there is a run {name}{where} already: choose another name")
    found = view.find(placement_kind, namespace, placement)
    if found is None:
        raise RefusedError(f"there is no {placement_kind} {placement}{where}{_elsewhere(view, placement)}")
    if view.find(f"{prefix}StagedUpdateStrategy", namespace, strategy) is None:
        raise RefusedError(f"there is no {prefix}StagedUpdateStrategy {strategy}{where}")
    snapshots = view.snapshots.get(found.uid, [])
    chosen = [one for one in snapshots if snapshot in ("", str(one.index))]
    if not chosen:
        there = ", ".join(str(one.index) for one in snapshots) or "none"
        which = f"no snapshot {snapshot}" if snapshot else "no snapshot yet"
        raise RefusedError(f"{placement_kind} {placement}{where} has {which}; there are: {there}")
    return chosen[-1].hash


def _elsewhere(view: "View", placement: str) -> str:
    """Return where placements of that name are, and how to name one."""
    found = sorted(one.key.namespace for one in view.placements() if one.key.name == placement)
    places = [f"in namespace {one}: -n {one}" if one else "in no namespace: leave -n out" for one in found]
    return f"; there is one {', or '.join(places)}" if places else ""


def run_body(
    name: str, placement: str, strategy: str, snapshot: str, namespace: str, state: str, digest: str
) -> dict[str, object]:
    """Return a run as an object; what is empty is left out, and so is the state Run."""
    from reconciler.core.conditions import API_VERSION  # noqa: PLC0415
    from reconciler.core.model import PREFIX  # noqa: PLC0415

    return {
        "apiVersion": API_VERSION,
        "kind": "StagedUpdateRun" if namespace else "ClusterStagedUpdateRun",
        "metadata": {
            "name": name,
            **({"namespace": namespace} if namespace else {}),
            **({"annotations": {PREFIX + "resource-hash": digest}} if digest else {}),
        },
        "spec": {
            "placementName": placement,
            **({"resourceSnapshotIndex": snapshot} if snapshot else {}),
            "stagedRolloutStrategyName": strategy,
            **({"state": state} if state != "Run" else {}),
        },
    }
