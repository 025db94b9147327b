"""The derived history kept on disk between processes, keyed by the code that derived it.

It saves time and decides nothing: a file that is missing, damaged or of other code is as good as none, and deriving
from the first commit gives the same. It lies in our own private folder, beside the mirror it was derived from.
"""

import hashlib
import os
import pickle
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

from reconciler.core.history import History
from reconciler.status_branch.store import Joint

_ROOMS = ("core", "documents", "schemas", "../schemas", "git", "status_branch", "daemon")


@cache
def _code() -> str:
    """Return a digest of everything that derives: other code may derive otherwise."""
    digest = hashlib.sha256()
    for room in _ROOMS:
        for file in sorted(Path(str(files("reconciler"))).joinpath(room).glob("*.*")):
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def load(file: Path) -> tuple[History, dict[str, Joint]] | None:
    """Return the history of a checkpoint and the joints it was derived with; None when there is none to use."""
    try:
        code, history, joints = pickle.loads(file.read_bytes())  # noqa: S301 - only we write there
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it is derived again
        return None
    return (history, joints) if code == _code() and isinstance(history, History) else None


def save(file: Path, history: History, joints: Mapping[str, Joint]) -> None:
    """Write the checkpoint in one step; a full disk costs only time."""
    part = file.with_suffix(".part")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            pickle.dump((_code(), history, dict(joints)), out, protocol=pickle.HIGHEST_PROTOCOL)
        part.replace(file)
    except OSError:
        part.unlink(missing_ok=True)
