"""What was derived and folded, kept on disk between processes, keyed by the code that made it.

It saves time and decides nothing: a file that is missing, damaged or of other code is as good as none, and beginning
anew gives the same. It lies in our own private folder, beside the mirror it was read from.
"""

import hashlib
import os
import pickle
import tempfile
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

_ROOMS = (".", "core", "documents", "schemas", "../schemas", "git", "status_branch", "daemon")

_Kind = TypeVar("_Kind")


@cache
def _code() -> str:
    """Return a digest of everything that derives and folds: other code may do it otherwise."""
    digest = hashlib.sha256()
    for room in _ROOMS:
        for file in sorted(Path(str(files("reconciler"))).joinpath(room).glob("*.*")):
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def load(file: Path, kind: type[_Kind]) -> _Kind | None:
    """Return what was saved, of this kind; None where that cannot be used."""
    try:
        code, value = pickle.loads(file.read_bytes())  # noqa: S301 - only we write there
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it is made again
        return None
    return value if code == _code() and isinstance(value, kind) else None


def save(file: Path, value: Any) -> None:
    """Write the checkpoint in one step, whoever else does at the same time; a full disk costs only time."""
    part = ""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        number, part = tempfile.mkstemp(prefix=file.name, suffix=".part", dir=file.parent)
        with os.fdopen(number, "wb") as out:
            pickle.dump((_code(), value), out, protocol=pickle.HIGHEST_PROTOCOL)
        Path(part).replace(file)
    except OSError:
        Path(part).unlink(missing_ok=True)
