"""Which file of the status branch holds what."""

from reconciler.core.model import Key
from reconciler.core.status import RunStatus
from reconciler.core.view import Declared

FLEET = "fleet.yaml"
README = "README.md"
PROBLEMS = "problems.yaml"
MEMBERS = "members.jsonl"
RUNS = "runs"
PLACEMENTS = "placements"
EVENTS = "events.jsonl"
RUN = "run.yaml"


def scope(namespace: str) -> str:
    """Return the folder of a namespace, or of what is cluster-scoped."""
    return namespace or "_cluster"


def run_folder(run: RunStatus | Declared) -> str:
    """Return the folder of a run; a deleted and re-added run has another."""
    return f"{RUNS}/{scope(run.key.namespace)}/{run.key.name}/{run.uid[:8]}"


def placement_folder(key: Key) -> str:
    """Return the folder of a placement."""
    return f"{PLACEMENTS}/{scope(key.namespace)}/{key.name}"


def is_log(path: str) -> bool:
    """Tell whether a file holds events."""
    return path.endswith("/" + EVENTS)


def placement_key(path: str) -> Key:
    """Return the placement to which a file below `placements/` belongs."""
    _, folder, name, _ = path.split("/", 3)
    namespaced = folder != "_cluster"
    return Key(
        group="placement.kubernetes-fleet.io",
        kind="ResourcePlacement" if namespaced else "ClusterResourcePlacement",
        namespace=folder if namespaced else "",
        name=name,
    )


def approval_file(namespace: str, name: str) -> str:
    """Return the file of an approval request."""
    return f"approvals/{scope(namespace)}/{name}.yaml"


def snapshot_file(namespace: str, name: str) -> str:
    """Return the file of a resource or policy snapshot."""
    return f"snapshots/{scope(namespace)}/{name}.yaml"
