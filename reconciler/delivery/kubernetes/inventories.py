"""The inventory of a placement as a ConfigMap on the member, in kubectl's ApplySet convention.

It is in the namespace `reconciler-system`, is the parent of an ApplySet whose members carry the label `part-of`, and
names `reconciler` as its tooling, so that `kubectl apply --prune --applyset` keeps its hands off. It also says on which
cluster it was written: restored on another one it is not believed.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from reconciler.core.actions import Fence
from reconciler.core.model import Body, Key
from reconciler.delivery.base import Inventory
from reconciler.delivery.kubernetes import names
from reconciler.delivery.kubernetes.unwell import IdentityChanged
from reconciler.errors import PermanentError

NAMESPACE = "reconciler-system"
ID = "applyset.kubernetes.io/id"
PART_OF = "applyset.kubernetes.io/part-of"
_TOOLING = "applyset.kubernetes.io/tooling"
_GROUP_KINDS = "applyset.kubernetes.io/contains-group-kinds"
_NAMESPACES = "applyset.kubernetes.io/additional-namespaces"
_OUR_TOOLING = "reconciler/v1"
_FORMAT = "1"
_LONGEST_NAME = 253


def name_of(placement: Key) -> str:
    """Return the ConfigMap's name: `clusterresourceplacement.web`, `resourceplacement.shop.web`, cut with a hash."""
    parts = (placement.kind.lower(), placement.namespace, placement.name)
    name = ".".join(part for part in parts if part)
    if len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:10]
    return f"{name[: _LONGEST_NAME - 11].rstrip('.-')}-{digest}"


def id_of(placement: Key) -> str:
    """Return the ApplySet's id, computed from its parent as kubectl computes it."""
    digest = hashlib.sha256(f"{name_of(placement)}.{NAMESPACE}.ConfigMap.".encode()).digest()
    return f"applyset-{base64.urlsafe_b64encode(digest).decode().rstrip('=')}-v1"


def is_ours(parent: Body) -> bool:
    """Tell whether an ApplySet's parent was made by this program."""
    tooling = (parent["metadata"].get("annotations") or {}).get(_TOOLING, "")
    return str(tooling).partition("/")[0] == "reconciler"


def render(placement: Key, inventory: Inventory, cluster_uid: str, read: Mapping[str, str]) -> Body:
    """Return the ConfigMap to write; `read` is the `uid` and `resourceVersion` that it must still have, if any."""
    listed = [key for key in inventory.objects if names.is_sound(key)]
    metadata = {
        "name": name_of(placement),
        "namespace": NAMESPACE,
        "labels": {ID: id_of(placement), "app.kubernetes.io/managed-by": "reconciler"},
        "annotations": {_TOOLING: _OUR_TOOLING, _GROUP_KINDS: _group_kinds(listed), _NAMESPACES: _namespaces(listed)},
        **read,
    }
    fence = inventory.fence
    data = {
        "format": _FORMAT,
        "placement": json.dumps(_row(placement)),
        "clusterUid": cluster_uid,
        "repository": fence.repository,
        "epoch": str(fence.epoch),
        "seq": str(fence.seq),
        "complete": inventory.complete or "",
        "objects": "".join(f"{json.dumps(_row(key))}\n" for key in inventory.objects),
    }
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def parse(body: Body, cluster_uid: str) -> tuple[Key, Inventory]:
    """Read an inventory; one that cannot be read is not guessed at, since deletes follow from it.

    Raises PermanentError for a damaged one, IdentityChanged for one that was written on another cluster.
    """
    where = f"ConfigMap {NAMESPACE}/{body['metadata'].get('name')}"
    data: Mapping[str, Any] = body.get("data") or {}
    if not is_ours(body) or data.get("format") != _FORMAT:
        raise PermanentError(f"{where} is no inventory that this version knows; move it out of the way")
    try:
        inventory = _inventory(data)
        placement = _key(json.loads(data["placement"]))
        written_on = data["clusterUid"]
    except (ValueError, KeyError, TypeError) as error:
        raise PermanentError(f"inventory {where} is damaged ({type(error).__name__}); restore or delete it") from error
    if written_on != cluster_uid:
        raise IdentityChanged(
            f"inventory {where} was written on cluster {written_on}, this is {cluster_uid}: a copy of another member; "
            "delete it if what it lists may be taken over"
        )
    return placement, inventory


def _inventory(data: Mapping[str, Any]) -> Inventory:
    return Inventory(
        fence=Fence(repository=data["repository"], epoch=int(data["epoch"]), seq=int(data["seq"])),
        complete=data["complete"] or None,
        objects=tuple(_key(json.loads(row)) for row in data["objects"].splitlines()),
    )


def _row(key: Key) -> list[str]:
    return [key.group, key.kind, key.namespace, key.name]


def _key(row: Any) -> Key:
    group, kind, namespace, name = (str(part) for part in row)
    return Key(group=group, kind=kind, namespace=namespace, name=name)


def _group_kinds(keys: Iterable[Key]) -> str:
    return ",".join(sorted({f"{key.kind}.{key.group}" if key.group else key.kind for key in keys}))


def _namespaces(keys: Iterable[Key]) -> str:
    return ",".join(sorted({key.namespace for key in keys} - {"", NAMESPACE}))
