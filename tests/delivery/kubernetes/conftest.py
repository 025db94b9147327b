"""A site: a namespace of a real member that belongs to one test, and the deliveries to it."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest

from reconciler.core.actions import ApplyOptions, Content, Fence, Report
from reconciler.core.model import PLACEMENT_GROUP, Body, Key
from reconciler.delivery import open_delivery
from reconciler.delivery.base import Delivery
from reconciler.delivery.kubernetes.member import KubernetesDelivery
from tests.controlplane.members import Member
from tests.delivery.benches import REPOSITORY

_numbers = count(1)


def fence(seq: int, epoch: int = 1) -> Fence:
    return Fence(repository=REPOSITORY, epoch=epoch, seq=seq)


def delivery(member: Member | None = None, kubeconfig: Path | None = None, **settings: Any) -> Delivery:
    """Return the delivery to a member as its administrator, or by another kubeconfig."""
    path = kubeconfig or (member.kubeconfig if member else None)
    return open_delivery("member-1", {"type": "kubernetes", "kubeconfig": str(path), **settings})


@dataclass
class Site:
    """One test's namespace on a member, and a placement to deliver to it."""

    member: Member
    namespace: str
    placement: Key
    delivery: Delivery
    seq: int = 0
    contents: dict[int, Content] = field(default_factory=dict)

    def content(self, *objects: Body, **options: Any) -> Content:
        digest = str(abs(hash(json.dumps(objects, sort_keys=True))))
        return Content(hash=digest, objects=objects, options=ApplyOptions(**options))

    def delivers(self, *objects: Body, **options: Any) -> Report:
        """Deliver under a new intent."""
        self.seq += 1
        self.contents[self.seq] = self.content(*objects, **options)
        return self.again()

    def again(self) -> Report:
        """Deliver the same once more, under the same intent."""
        return self.delivery.deliver(self.placement, self.contents[self.seq], fence(self.seq))

    def observes(self) -> Report:
        return self.delivery.observe(self.placement, self.contents[self.seq], fence(self.seq))

    def withdraws(self) -> Report:
        self.seq += 1
        return self.delivery.withdraw(self.placement, fence(self.seq))

    def through(self, **settings: Any) -> "Site":
        """Return the same site, reached in another way."""
        return replace(self, delivery=delivery(self.member, **settings))

    def kubectl(self, *arguments: str, body: Body | None = None) -> str:
        data = json.dumps(body) if body else None
        return self.member.kubectl("-n", self.namespace, *arguments, input=data)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", kind, name, "-o", "json", "--show-managed-fields"))
        return found

    def names(self, kind: str) -> set[str]:
        listed = self.kubectl("get", kind, "-o", "name").split()
        return {one.partition("/")[2] for one in listed} - {"kube-root-ca.crt"}

    def inventory(self) -> dict[str, Any]:
        name = f"clusterresourceplacement.{self.placement.name}"
        found: dict[str, Any] = json.loads(
            self.member.kubectl("-n", "reconciler-system", "get", "configmap", name, "-o", "json")
        )
        return found

    # -- manifests

    def config_map(self, name: str = "settings", **data: str) -> Body:
        return self.thing("v1", "ConfigMap", name, data=data or {"key": "value1"})

    def secret(self, name: str, **data: Any) -> Body:
        return self.thing("v1", "Secret", name, **data)

    def thing(self, version: str, kind: str, name: str, **rest: Any) -> Body:
        metadata = {"name": name, "namespace": self.namespace}
        return {"apiVersion": version, "kind": kind, "metadata": metadata, **rest}

    def deployment(self, replicas: int = 2, image: str = "nginx:1.27", **pod: Any) -> Body:
        labels = {"app": "nginx"}
        container = {"name": "nginx", "image": image, "ports": [{"containerPort": 80}]}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [container], **pod}}
        spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
        return self.thing("apps/v1", "Deployment", "nginx", spec=spec)


def new_site(member: Member, *, create: bool = True, **settings: Any) -> Site:
    namespace = f"site-{next(_numbers)}"
    if create:
        member.kubectl("create", "namespace", namespace)
    placement = Key(group=PLACEMENT_GROUP, kind="ClusterResourcePlacement", name=f"placement-of-{namespace}")
    return Site(member=member, namespace=namespace, placement=placement, delivery=delivery(member, **settings))


@pytest.fixture
def site(members) -> Iterator[Site]:
    """A namespace of a complete member."""
    site = new_site(members[0])
    yield site
    members[0].kubectl("delete", "namespace", site.namespace, "--wait=false", "--ignore-not-found")


@pytest.fixture
def asked(site: Site, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Method and path of every request of the site's delivery from here on."""
    requests: list[tuple[str, str]] = []
    connection = cast("KubernetesDelivery", site.delivery)._store.api.connection
    plain = connection.request
    monkeypatch.setattr(connection, "request", lambda *some, **more: requests.append(some[:2]) or plain(*some, **more))
    return requests


@pytest.fixture
def write_kubeconfig(tmp_path: Path) -> Callable[..., Path]:
    """Writes a kubeconfig of one cluster and one user."""

    def write(cluster: dict[str, Any], user: dict[str, Any]) -> Path:
        file = tmp_path / "kubeconfig"
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "one", "cluster": cluster}],
            "users": [{"name": "one", "user": user}],
            "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
            "current-context": "one",
        }
        file.write_text(json.dumps(document))
        return file

    return write
