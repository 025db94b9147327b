"""Making the status branch: only `init` does, or `serve --init` where nothing of this repository exists yet.

`init --re-anchor` makes it anew where it was lost.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from reconciler.core.status import FORMAT
from reconciler.daemon.derive import Derivation
from reconciler.daemon.guards import LAST_STATUS
from reconciler.daemon.reconcile import with_state
from reconciler.delivery import open_delivery
from reconciler.errors import PermanentError, RefusedError, TemporaryError
from reconciler.git import history as log
from reconciler.git import publish
from reconciler.git.mirror import Source, remembered
from reconciler.git.run import Git
from reconciler.settings import Settings
from reconciler.status_branch import reader, store

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


def used_members(settings: Settings, source: Source, head: str, *, silent_too: bool = True) -> list[str]:
    """Return the members that hold an inventory of some rollout; with `silent_too` also those that cannot say."""
    derivation = Derivation(source.git)
    derivation.bring_to(head, {})
    found = []
    for name in sorted(derivation.view.clusters()):
        member = settings.delivery_of(name)
        if member is None:
            continue
        told = open_delivery(name, with_state(member, settings.state_dir)).describe()
        if not told["reachable"]:
            if silent_too:
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
    fleet = store.Fleet(
        format=FORMAT,
        repository=str(uuid.uuid4()),
        epoch=1,
        branch=branch,
        started_at=head,
        started_after=-1 if start_existing else _position(source, head),
    )
    message = f"Begin the status branch\n\nObserved-Commit: {head}\nFormat: {FORMAT}\n"
    new = publish.write_commit(source.git, base=None, changes=store.initial_files(fleet), message=message, when=now)
    if not publish.push(source, status_branch, new, None):
        raise TemporaryError(f"somebody else made branch {status_branch} at the same moment: run init again to see")
    return fleet


def _position(source: Source, head: str) -> int:
    """Return the position of a head on its history."""
    derivation = Derivation(source.git)
    derivation.bring_to(head, {})
    return derivation.view.head.position if derivation.view.head else -1


# -- again ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchored:
    """What re-anchoring came to; `unseen` says which members could not tell what they hold."""

    fleet: store.Fleet
    unseen: tuple[str, ...] = ()


def re_anchor(
    settings: Settings,
    source: Source,
    head: str,
    now: datetime,
    *,
    repository: str = "",
    start_existing: bool = False,
) -> Anchored:
    """Create the status branch anew where it was lost: for the same repository, one epoch later.

    The repository's id is the given one, else that of the branch as it was last seen, on the remote or in the daemon's
    mirror. What members hold is delivered anew, under the new epoch, by the runs to come.
    Raises:  RefusedError where the branch is sound, where nobody knows the id, or the epoch cannot be told.
    """
    tip = source.heads().get(settings.status_branch)
    seen = remembered(settings.state_dir / "mirror", settings.repo, LAST_STATUS)
    last = _fleet_at(*seen) if seen else None
    if tip is not None:
        _refuse_sound(source.git, settings.status_branch, tip, seen[1] if seen else "", last)
    former = [one for one in (last, _fleet_at(source.git, tip)) if one is not None]
    repository = repository or next((one.repository for one in former), "")
    if not repository:
        raise RefusedError(
            "no earlier status is known here, so neither is the id of this repository: restore the branch, or name the "
            "id with --repository-id (each member's inventory holds it)"
        )
    former = [one for one in former if one.repository == repository]
    epochs, unseen = _epochs(settings, source, head, repository)
    if unseen and not former:
        raise RefusedError(f"the epoch of the lost status cannot be told: {'; '.join(unseen)}")
    fleet = store.Fleet(
        format=FORMAT,
        repository=repository,
        epoch=1 + max([0, *epochs, *(one.epoch for one in former)]),
        branch=settings.branch,
        started_at=head,
        started_after=-1 if start_existing else _position(source, head),
    )
    _replace(source, settings.status_branch, tip, fleet, now)
    return Anchored(fleet=fleet, unseen=tuple(unseen))


def _refuse_sound(git: Git, branch: str, tip: str, seen: str, last: store.Fleet | None) -> None:
    """Raise RefusedError for a branch that is one of ours, whole, and not behind what was last seen of it."""
    try:
        status = reader.read(git, tip)
    except reader.NewerFormatError as error:
        raise RefusedError(str(error)) from error
    except reader.StatusUnreadableError:
        return
    goes_on = not seen or log.is_ancestor(git, seen, tip) or (last is not None and status.fleet.succeeds(last))
    if goes_on and not status.tampered:
        raise RefusedError(f"branch {branch} is there and sound: nothing to do")


def _fleet_at(git: Git, commit: str | None) -> store.Fleet | None:
    try:
        return reader.read_fleet(git, commit) if commit is not None else None
    except reader.StatusUnreadableError:
        return None


def _epochs(settings: Settings, source: Source, head: str, repository: str) -> tuple[list[int], list[str]]:
    """Ask every member for the highest epoch of the repository; return the answers, and why there is none."""
    derivation = Derivation(source.git)
    derivation.bring_to(head, {})
    epochs, unseen = [], []
    for name in sorted(derivation.view.clusters()):
        member = settings.delivery_of(name)
        if member is None:
            unseen.append(f"cluster {name} is not in the settings")
            continue
        try:
            epochs.append(open_delivery(name, with_state(member, settings.state_dir)).highest_epoch(repository))
        except (TemporaryError, PermanentError) as error:
            unseen.append(f"cluster {name} does not answer: {error}")
    return epochs, unseen


def _replace(source: Source, branch: str, tip: str | None, fleet: store.Fleet, now: datetime) -> None:
    """Push the first files of a new branch in place of everything that is there; what was there stays in history."""
    gone = dict.fromkeys(one.path for one in (log.listing(source.git, tip) if tip is not None else ()))
    message = (
        f"Begin the status branch anew, in epoch {fleet.epoch}\n\nObserved-Commit: {fleet.started_at}\n"
        f"Format: {FORMAT}\n"
    )
    changes = {**gone, **store.initial_files(fleet)}
    new = publish.write_commit(source.git, base=tip, changes=changes, message=message, when=now)
    if not publish.push(source, branch, new, tip):
        raise TemporaryError(f"branch {branch} moved at the same moment: run init --re-anchor again to see")
