"""The bench: a member of either make, with hands to look at it and to meddle with it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reconciler.core.actions import Content, Fence
from reconciler.core.model import PLACEMENT_GROUP, Body, Key
from reconciler.delivery.base import Delivery, FencedDelivery, Inventory, Store, key_of
from reconciler.delivery.directory import DirectoryStore
from reconciler.documents import yaml
from tests.awkward import Awkward

REPOSITORY = "9d1c1f0e-0000-4000-8000-000000000001"
WEB = Key(group=PLACEMENT_GROUP, kind="ClusterResourcePlacement", name="web")
OTHER = Key(group=PLACEMENT_GROUP, kind="ClusterResourcePlacement", name="other")
TEAM = Key(group=PLACEMENT_GROUP, kind="ResourcePlacement", namespace="shop", name="web")


def fence(seq: int, epoch: int = 1, repository: str = REPOSITORY) -> Fence:
    return Fence(repository=repository, epoch=epoch, seq=seq)


def config_map(name: str, value: str = "1", namespace: str = "shop") -> Body:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"value": value}}


def role(name: str) -> Body:
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}}


NAMESPACE: Body = {
    "apiVersion": "v1",
    "kind": "Namespace",
    "metadata": {"name": "shop", "labels": {"kubernetes.io/metadata.name": "shop"}},
    "spec": {"finalizers": ["kubernetes"]},
}
BARE_NAMESPACE = {name: value for name, value in NAMESPACE.items() if name != "spec"}


def content(name: str, *objects: Body) -> Content:
    return Content(hash=name, objects=objects)


OLD = content("old", NAMESPACE, config_map("kept"), config_map("leaves"), role("system:leaves"))
NEW = content("new", NAMESPACE, config_map("kept", "2"), config_map("comes"), role("comes"))


def held_by(*contents: Content) -> dict[Key, Body]:
    """Return what a member holds that got these contents."""
    return {key_of(body): BARE_NAMESPACE if body is NAMESPACE else body for one in contents for body in one.objects}


class CrashError(Exception):
    """The process dies here."""


@dataclass
class Door:
    """Stands in for the door of effects: counts them, and can let the process die at one."""

    log: list[str] = field(default_factory=list)
    crash_at: int = 0
    crash_position: str = "before"

    def perform(self, kind: str, what: str, effect: Callable[[], Any]) -> Any:
        assert kind == "member"
        self.log.append(what)
        self._maybe_crash("before")
        result = effect()
        self._maybe_crash("after")
        return result

    def _maybe_crash(self, position: str) -> None:
        if len(self.log) == self.crash_at and position == self.crash_position:
            raise CrashError

    def forget(self) -> None:
        self.log.clear()
        self.crash_at = 0


@dataclass
class Bench:
    """A member; `put` and `remove` are what a person does to it behind our back."""

    delivery: Delivery
    store: Store
    objects: Callable[[], dict[Key, Body]]
    put: Callable[[Body], None]
    remove: Callable[[Key], None]

    def inventory(self, placement: Key = WEB) -> Inventory | None:
        return self.store.read_inventory(placement).inventory

    def swap(self, inventory: Inventory, placement: Key = WEB) -> None:
        assert self.store.swap_inventory(placement, self.store.read_inventory(placement), inventory) is not None


def awkward_bench(folder: Path) -> Bench:
    member = Awkward()

    def put(body: Body) -> None:
        member.objects[key_of(body)] = body

    def remove(key: Key) -> None:
        del member.objects[key]

    return Bench(member, member.memory, lambda: dict(member.objects), put, remove)


def path_of(folder: Path, key: Key) -> Path:
    kind = f"{key.kind}.{key.group}" if key.group else key.kind
    return folder / (key.namespace or "_cluster") / kind / f"{key.name}.yaml"


def directory_bench(folder: Path) -> Bench:
    store = DirectoryStore(folder, create=True)

    def objects() -> dict[Key, Body]:
        files = folder.glob("*/*/*.yaml")
        found = [one.value for file in files for one in yaml.read(file.name, file.read_bytes()).documents]
        return {key_of(body): body for body in found}

    def put(body: Body) -> None:
        file = path_of(folder, key_of(body))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.dump(body))

    return Bench(FencedDelivery(store), store, objects, put, lambda key: path_of(folder, key).unlink())


BENCHES = {"directory": directory_bench, "awkward": awkward_bench}
