"""The list of behaviours that every delivery has, run against a real API server.

Two things are taken from it so that it can stand in for a folder: objects may lie in namespaces that do not exist (the
admission plugin that forbids it is off), and a deleted namespace goes at once and leaves its objects (the thread below
is all that it has of a namespace controller).
"""

import threading
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Self, cast

import pytest

from reconciler.core.actions import Reason
from reconciler.core.model import Body, Key
from reconciler.delivery.base import Store, key_of
from reconciler.delivery.kubernetes import inventories, settings
from reconciler.delivery.kubernetes.api import Api
from reconciler.delivery.kubernetes.connection import Connection
from reconciler.delivery.kubernetes.member import KubernetesDelivery
from reconciler.delivery.kubernetes.store import KubernetesStore
from tests.controlplane.members import Member, Members
from tests.delivery.benches import OLD, OTHER, WEB, Bench, config_map, content, fence, held_by
from tests.delivery.test_behaviours import *  # noqa: F403

# An API server takes no field that a kind has not, and names the field that was changed: told in test_delivering.
del test_a_namespace_goes_without_the_finalizers_that_are_the_members_own  # noqa: F821
del test_an_object_that_was_changed_by_hand_is_found_and_delivered_again  # noqa: F821

_BUILT_IN = ("kube-", "default", "reconciler-system")
_SERVED = {"Namespace": "/api/v1/namespaces", "ConfigMap": "/api/v1/configmaps"}
_SERVED |= {"ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles"}
_OF_THE_SERVER = ("creationTimestamp", "managedFields", "resourceVersion", "uid")


class Hands:
    """What a person does to the member, and what is left of a namespace controller."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._ended = threading.Event()
        self._terminator = threading.Thread(target=self._terminate)

    def __enter__(self) -> Self:
        self._built_in_roles = {role["metadata"]["name"] for role in self._list("ClusterRole")}
        self._terminator.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._terminator.join()

    def objects(self) -> dict[Key, Body]:
        found = [_plain(kind, body) for kind in _SERVED for body in self._list(kind) if self._is_of_a_test(kind, body)]
        return {key_of(body): body for body in found}

    def put(self, body: Body) -> None:
        with suppress(urllib.error.HTTPError):
            self.remove(key_of(body))
        self._member.request("POST", _folder(key_of(body)), body)

    def remove(self, key: Key) -> None:
        self._member.request("DELETE", f"{_folder(key)}/{key.name}")

    def wipe(self) -> None:
        inventories = "/api/v1/namespaces/reconciler-system/configmaps"
        self._member.request("DELETE", inventories)
        for key in self.objects():
            self.remove(key)
        while any(key.kind == "Namespace" for key in self.objects()):
            self._ended.wait(0.01)

    def _list(self, kind: str) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self._member.request("GET", _SERVED[kind])["items"]
        return listed

    def _is_of_a_test(self, kind: str, body: Body) -> bool:
        metadata = body["metadata"]
        place = metadata["name"] if kind == "Namespace" else metadata.get("namespace", "")
        return not place.startswith(_BUILT_IN) and metadata["name"] not in self._built_in_roles

    def _terminate(self) -> None:
        while not self._ended.wait(0.01):
            for namespace in self._list("Namespace"):
                if namespace["metadata"].get("deletionTimestamp"):
                    path = f"/api/v1/namespaces/{namespace['metadata']['name']}/finalize"
                    with suppress(urllib.error.HTTPError):
                        self._member.request("PUT", path, {**namespace, "spec": {"finalizers": []}})


def _plain(kind: str, body: dict[str, Any]) -> Body:
    """Return an object as it was sent: without what the server adds, and without our label."""
    labels = body["metadata"].get("labels") or {}
    ours = {name: value for name, value in labels.items() if name != "applyset.kubernetes.io/part-of"}
    metadata = {name: value for name, value in body["metadata"].items() if name not in (*_OF_THE_SERVER, "labels")}
    version = "rbac.authorization.k8s.io/v1" if kind == "ClusterRole" else "v1"
    rest = {
        name: value for name, value in body.items() if name not in ("metadata", "spec", "status") and value is not None
    }
    return {"apiVersion": version, "kind": kind, **rest, "metadata": {**metadata, **({"labels": ours} if ours else {})}}


def _folder(key: Key) -> str:
    root = _SERVED[key.kind]
    return f"/api/v1/namespaces/{key.namespace}/{root.rpartition('/')[2]}" if key.namespace else root


@pytest.fixture(scope="module")
def hands() -> Iterator[tuple[Member, Hands]]:
    with Members(1, complete=False, apiserver_flags=["--disable-admission-plugins=NamespaceLifecycle"]) as members:
        member = members[0]
        with Hands(member) as hands:
            yield member, hands


@pytest.fixture
def new_bench(request: pytest.FixtureRequest, member_factory: object) -> Callable[[], Bench]:
    """Empties the one member; `member_factory` is asked for so that the test counts as one on a control plane."""
    member, hands = request.getfixturevalue("hands")

    def make() -> Bench:
        hands.wipe()
        given = settings.read("member-1", {"kubeconfig": str(member.kubeconfig), "parallel": 1, "pruneShare": 1})
        store = KubernetesStore(Api(Connection(given)), given)
        delivery = KubernetesDelivery(given, store)
        return Bench(delivery, cast("Store", store), hands.objects, hands.put, hands.remove)

    return make


# -- what a folder has not: a mark on each object


def marks(bench: Bench) -> dict[str, str | None]:
    """Return the label of every object that is there, by kind and name."""
    api = cast("KubernetesStore", bench.store).api
    found = {str(key): api.get(f"{_folder(key)}/{key.name}") for key in bench.objects()}
    return {
        name: (body["metadata"].get("labels") or {}).get(inventories.PART_OF) for name, body in found.items() if body
    }


def test_letting_go_takes_our_label_off_and_nothing_else(bench: Bench) -> None:
    labelled = config_map("labelled")
    labelled["metadata"]["labels"] = {"app": "web"}
    wanted = content("old", *OLD.objects, labelled)
    bench.delivery.deliver(WEB, wanted, fence(1))
    assert set(marks(bench).values()) == {inventories.id_of(WEB)}
    bench.delivery.withdraw(WEB, fence(2), keep=True)
    assert set(marks(bench).values()) == {None}
    assert bench.objects() == held_by(wanted)


def test_the_next_placement_takes_out_what_its_own_manifest_does_not_name(bench: Bench) -> None:
    """The fields are still those of the field manager that all placements share."""
    bench.delivery.deliver(WEB, content("old", {**config_map("a"), "data": {"value": "1", "old": "1"}}), fence(1))
    bench.delivery.withdraw(WEB, fence(2), keep=True)
    wanted = content("new", config_map("a"))
    assert bench.delivery.deliver(OTHER, wanted, fence(1)).reason is Reason.AVAILABLE
    assert bench.objects() == held_by(wanted)
    assert marks(bench) == {"ConfigMap shop/a": inventories.id_of(OTHER)}


def test_letting_go_leaves_the_label_of_somebody_else(bench: Bench) -> None:
    bench.delivery.deliver(WEB, content("old", config_map("a")), fence(1))
    theirs = config_map("a")
    theirs["metadata"]["labels"] = {inventories.PART_OF: "applyset-somebody-v1"}
    bench.put(theirs)
    assert bench.delivery.withdraw(WEB, fence(2), keep=True).reason is Reason.WITHDRAWN
    assert marks(bench) == {"ConfigMap shop/a": "applyset-somebody-v1"}


def test_an_object_that_changed_since_it_was_read_is_looked_at_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody may just have made it theirs."""
    bench.delivery.deliver(WEB, content("old", config_map("a")), fence(1))
    theirs = config_map("a")
    theirs["metadata"]["labels"] = {inventories.PART_OF: inventories.id_of(WEB)}
    plain = KubernetesStore._ask_to_unlabel

    def late(store: KubernetesStore, path: str, live: Body) -> Any:
        monkeypatch.undo()
        bench.put(theirs)
        return plain(store, path, live)

    monkeypatch.setattr(KubernetesStore, "_ask_to_unlabel", late)
    report = bench.delivery.withdraw(WEB, fence(2), keep=True)
    assert (report.reason, report.object) == (Reason.INCOMPLETE, "ConfigMap shop/a")
    assert marks(bench) == {"ConfigMap shop/a": inventories.id_of(WEB)}
    assert bench.delivery.withdraw(WEB, fence(2), keep=True).reason is Reason.WITHDRAWN
    assert marks(bench) == {"ConfigMap shop/a": None}


def test_an_object_that_was_made_anew_since_it_was_read_is_not_deleted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be anybody's."""
    bench.delivery.deliver(WEB, content("old", config_map("a")), fence(1))
    theirs = content("theirs", {**config_map("a"), "data": {"value": "theirs"}})
    plain = KubernetesStore._ask_to_delete

    def late(store: KubernetesStore, key: Key, path: str, uid: str) -> bool:
        monkeypatch.undo()
        bench.put(theirs.objects[0])
        return plain(store, key, path, uid)

    monkeypatch.setattr(KubernetesStore, "_ask_to_delete", late)
    report = bench.delivery.withdraw(WEB, fence(2))
    assert (report.reason, report.object) == (Reason.INCOMPLETE, "ConfigMap shop/a")
    assert bench.objects() == held_by(theirs)
    assert bench.delivery.withdraw(WEB, fence(2)).reason is Reason.WITHDRAWN
    assert bench.objects() == held_by(theirs)
