"""History of an object → uid. Any clone recomputes the same answer from the same commits."""

import uuid
from dataclasses import dataclass
from datetime import datetime

from reconciler.core.model import Key

_NAMESPACE = uuid.UUID("5b0f8f5c-6a0e-5d0b-9a55-2f2f0c6f7a11")
"""Fixed for ever: changing it would give every object in every repository another uid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who an object of some name is: its uid, and the commit in which it appeared (full id), with its time."""

    name: str
    uid: str
    commit: str
    created: datetime


def object_uid(commit: str, key: Key) -> str:
    """Return the uid of an object that appeared in a commit (full id)."""
    return str(uuid.uuid5(_NAMESPACE, f"{commit}\n{key.group}\n{key.kind}\n{key.namespace}\n{key.name}"))


def child_uid(parent: str, kind: str, name: str) -> str:
    """Return the uid of what the daemon makes for a parent: a request, a snapshot."""
    return str(uuid.uuid5(_NAMESPACE, f"{parent}\n{kind}\n{name}"))
