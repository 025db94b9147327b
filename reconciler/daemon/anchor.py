"""Making the status branch: only `init` does, or `serve --init` where nothing of this repository exists yet."""

import uuid
from collections.abc import Mapping
from datetime import datetime

from reconciler.core.status import FORMAT
from reconciler.daemon.derive import Derivation
from reconciler.daemon.reconcile import with_state
from reconciler.delivery import open_delivery
from reconciler.errors import RefusedError, TemporaryError
from reconciler.git import publish
from reconciler.git.mirror import Mirror, Source
from reconciler.settings import Settings
from reconciler.status_branch import store

FOLDER_NOTES: Mapping[str, str] = {
    "clusters": "MemberCluster: which clusters belong to the fleet, and their labels. No credentials.",
    "placements": "ClusterResourcePlacement and ResourcePlacement: what goes to which clusters.",
    "overrides": "ClusterResourceOverride and ResourceOverride: differences between clusters.",
    "strategies": "ClusterStagedUpdateStrategy and StagedUpdateStrategy: stages, waits and approvals.",
    "runs": "ClusterStagedUpdateRun and StagedUpdateRun: merging one starts a rollout.",
    "approvals": "ClusterApprovalRequest and ApprovalRequest: committing one passes a gate.",
    "resources": "Any other Kubernetes manifest: what the placements select.",
}

_EDITOR = """{
  "files.associations": {"*.yaml": "yaml"},
  "editor.formatOnSave": false
}
"""


def scaffold() -> dict[str, bytes]:
    """Return the files of an empty fleet repository: a README per folder, CODEOWNERS, editor settings."""
    files = {f"{folder}/README.md": f"# {folder}\n\n{note}\n".encode() for folder, note in FOLDER_NOTES.items()}
    owners = "".join(f"# /{folder}/ @your-org/{folder}-owners\n" for folder in FOLDER_NOTES)
    files["CODEOWNERS"] = f"# Who owns a folder decides who may approve: name your teams.\n{owners}".encode()
    files[".vscode/settings.json"] = _EDITOR.encode()
    return files


def used_members(settings: Settings, mirror: Mirror, head: str) -> list[str]:
    """Return the members that hold an inventory of some rollout, or cannot say that they hold none."""
    derivation = Derivation(mirror.git)
    derivation.bring_to(head, {})
    found = []
    for name in sorted(derivation.view.clusters()):
        member = settings.delivery_of(name)
        if member is None:
            continue
        told = open_delivery(name, with_state(member, settings.state_dir)).describe()
        if not told["reachable"]:
            found.append(f"cluster {name} does not answer: {told.get('message', '')}")
        elif told["inventories"]:
            found.append(f"cluster {name} holds an inventory")
    return found


def make(
    source: Source, branch: str, status_branch: str, head: str, now: datetime, *, start_existing: bool = False
) -> store.Fleet:
    """Create the status branch for a watched head.

    Raises:  RefusedError when the branch exists, TemporaryError when somebody else was first or Git is unwell.
    """
    if source.heads().get(status_branch) is not None:
        raise RefusedError(f"branch {status_branch} exists already: nothing to do")
    derivation = Derivation(source.git)
    derivation.bring_to(head, {})
    position = derivation.view.head.position if derivation.view.head else -1
    fleet = store.Fleet(
        format=FORMAT,
        repository=str(uuid.uuid4()),
        epoch=1,
        branch=branch,
        started_at=head,
        started_after=-1 if start_existing else position,
    )
    message = f"Begin the status branch\n\nObserved-Commit: {head}\nFormat: {FORMAT}\n"
    new = publish.write_commit(source.git, base=None, changes=store.initial_files(fleet), message=message, when=now)
    if not publish.push(source, status_branch, new, None):
        raise TemporaryError(f"somebody else made branch {status_branch} at the same moment: run init again to see")
    return fleet
