"""What was derived and folded, kept on disk between processes, keyed by the code that made it.

It saves time and decides nothing: a file that is missing, damaged or of other code is as good as none, and beginning
anew gives the same. It is data (`graph`) behind its own digest, and the digest is compared before anything is read.
"""

import hashlib
import os
import tempfile
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import structlog

from reconciler.daemon import graph

logger = structlog.get_logger()

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
    """Return what was saved, of this kind; None where that cannot be used. Damage is said, and not met again."""
    try:
        digest, _, held = file.read_bytes().partition(b"\n")
        if hashlib.sha256(held).hexdigest().encode() != digest:
            _damaged(file, "it does not match its digest")
            return None
        code, _, text = held.partition(b"\n")
        value = graph.load(text) if code.decode() == _code() else None
    except FileNotFoundError:
        return None
    except OSError as error:
        _damaged(file, str(error.strerror))
        return None
    return value if isinstance(value, kind) else None


def _damaged(file: Path, why: str) -> None:
    if structlog.is_configured():  # a reading command keeps no log: it only takes longer
        logger.warning("a cache is damaged, and is made anew", file=str(file), problem=why)
    try:
        file.unlink(missing_ok=True)
    except OSError:
        return  # it is said again at the next start


def save(file: Path, value: Any) -> None:
    """Write the checkpoint in one step, whoever else does at the same time; a full disk costs only time."""
    part = ""
    try:
        held = _code().encode() + b"\n" + graph.dump(value).encode("ascii")
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        number, part = tempfile.mkstemp(prefix=file.name, suffix=".part", dir=file.parent)
        with os.fdopen(number, "wb") as out:
            out.write(hashlib.sha256(held).hexdigest().encode() + b"\n" + held)
        Path(part).replace(file)
    except TypeError as error:  # a mistake of ours, which costs only time too
        if structlog.is_configured():
            logger.warning("a cache cannot be written", file=str(file), problem=str(error))
    except OSError:
        Path(part).unlink(missing_ok=True)
