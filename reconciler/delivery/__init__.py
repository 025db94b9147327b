"""How members are reached: the `Delivery` protocol, its backends and the workers; never what is delivered, or when."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from reconciler.delivery.base import IDENTITIES as IDENTITIES
from reconciler.delivery.base import Delivery
from reconciler.errors import UsageError

BACKENDS = {
    "directory": "reconciler.delivery.directory",
    "kubernetes": "reconciler.delivery.kubernetes",
}
"""Name in the settings → module, imported when first used; it has `open_member(cluster, settings) -> Delivery`."""


def open_delivery(cluster: str, settings: Mapping[str, Any]) -> Delivery:
    """Return the delivery for a member, from its part of the operator's settings (`type` and what the type takes).

    Raises UsageError, naming the setting, for a type that is unknown or settings it does not take.
    """
    name = settings.get("type")
    module = BACKENDS.get(name) if isinstance(name, str) else None
    if module is None:
        known = ", ".join(sorted(BACKENDS))
        raise UsageError(f"delivery for cluster {cluster}: type {name!r} is unknown; known types are {known}")
    delivery: Delivery = import_module(module).open_member(cluster, settings)
    return delivery
