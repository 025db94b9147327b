"""The parts that need no member: names and paths, waves, who owns which field, what an API server's words mean."""

import base64
import hashlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import cast

import pytest

from reconciler.core.actions import Fence, Reason, Report
from reconciler.core.model import PLACEMENT_GROUP, Key
from reconciler.delivery import open_delivery, workers
from reconciler.delivery.kubernetes import fields, inventories, names, store
from reconciler.delivery.kubernetes.api import Api
from reconciler.delivery.kubernetes.connection import Connection, connect_seconds
from reconciler.delivery.kubernetes.manifests import sent
from reconciler.delivery.kubernetes.names import Resource
from reconciler.delivery.kubernetes.pool import Answer
from reconciler.delivery.kubernetes.settings import MemberSettings
from reconciler.delivery.kubernetes.unwell import ServerTrouble, Status, Unwell, unwell
from reconciler.delivery.kubernetes.waves import in_waves
from reconciler.delivery.workers import _Job
from reconciler.errors import TemporaryError
from tests import servers

A = Key(group="", kind="ConfigMap", namespace="shop", name="a")
SECRET = Key(group="", kind="Secret", namespace="shop", name="a")


def body_of(kind: str, version: str = "v1", name: str = "a") -> dict:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "shop"}}


# -- names


@pytest.mark.parametrize(
    "key",
    [
        Key(group="", kind="ConfigMap", namespace="shop", name="a.b-c"),
        Key(group="rbac.authorization.k8s.io", kind="ClusterRole", name="system:node.Reader_1"),
        Key(group="networking.k8s.io", kind="IPAddress", name="2001:db8::1"),
        Key(group="", kind="ConfigMap", namespace="shop", name="x" * 253),
    ],
    ids=str,
)
def test_names_that_kubernetes_allows_are_sound(key):
    assert names.is_sound(key)


@pytest.mark.parametrize(
    "key",
    [
        Key(group="", kind="ConfigMap", namespace="shop", name="../../kube-system/secrets/boot"),
        Key(group="", kind="ConfigMap", namespace="shop", name="A"),
        Key(group="", kind="ConfigMap", namespace="shop", name="a\n"),
        Key(group="", kind="ConfigMap", namespace="shop.x", name="a"),
        Key(group="", kind="ConfigMap", namespace="..", name="a"),
        Key(group="rbac.authorization.k8s.io", kind="ClusterRole", name=".."),
        Key(group="rbac.authorization.k8s.io", kind="ClusterRole", name="a%2fb"),
        Key(group="../v1", kind="ConfigMap", namespace="shop", name="a"),
        Key(group="", kind="ConfigMap/status", namespace="shop", name="a"),
    ],
    ids=lambda key: repr(key.name),
)
def test_names_that_could_lead_elsewhere_are_not(key):
    assert not names.is_sound(key)
    with pytest.raises(Unwell) as raised:
        names.check(key)
    assert raised.value.reason is Reason.REFUSED


@pytest.mark.parametrize("segment", ["", ".", "..", "a/b"])
def test_a_path_is_made_of_its_segments_or_not_at_all(segment):
    assert names.joined("apis", "apps", "a b?") == "/apis/apps/a%20b%3F"
    with pytest.raises(Unwell):
        names.joined("api", segment)


# -- the inventory


def test_the_id_of_an_applyset_is_computed_as_kubectl_computes_it():
    placement = Key(group=PLACEMENT_GROUP, kind="ResourcePlacement", namespace="shop", name="web")
    digest = hashlib.sha256(b"resourceplacement.shop.web.reconciler-system.ConfigMap.").digest()
    assert inventories.id_of(placement) == f"applyset-{base64.urlsafe_b64encode(digest).decode().rstrip('=')}-v1"


def test_long_names_of_placements_are_cut_and_stay_apart():
    long = [Key(group=PLACEMENT_GROUP, kind="ClusterResourcePlacement", name="x" * 250 + end) for end in "ab"]
    cut = [inventories.name_of(placement) for placement in long]
    assert cut[0] != cut[1]
    assert all(len(name) <= 253 for name in cut)


# -- waves


def test_objects_are_written_in_kubefleets_waves_and_unknown_kinds_last():
    kinds = [
        ("example.com/v1", "Widget"),
        ("apps/v1", "Deployment"),
        ("rbac.authorization.k8s.io/v1", "RoleBinding"),
        ("v1", "Secret"),
        ("rbac.authorization.k8s.io/v1", "Role"),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        ("v1", "Namespace"),
        ("apiregistration.k8s.io/v1", "APIService"),
        ("v1", "Service"),
        ("example.com/v1", "Deployment"),
    ]
    waves = in_waves(body_of(kind, version) for version, kind in kinds)
    assert [[body["kind"] for body in wave] for wave in waves] == [
        ["Namespace"],
        ["Secret", "CustomResourceDefinition"],
        ["Role"],
        ["RoleBinding"],
        ["Deployment", "Service"],
        ["APIService"],
        ["Widget", "Deployment"],
    ]


# -- what is sent


def test_what_the_server_decides_is_not_sent_and_the_label_is():
    metadata = {"name": "a", "uid": "1", "resourceVersion": "2", "managedFields": [], "ownerReferences": [{"uid": "x"}]}
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "status": {"x": 1}, "data": {"y": "z"}}
    label = {"applyset.kubernetes.io/part-of": "id"}
    assert sent(body, "id") == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a", "labels": label},
        "data": {"y": "z"},
    }


# -- who owns a field

OURS = {
    "f:data": {"f:kept": {}, "f:taken": {}},
    "f:spec": {"f:ports": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}}}, "f:set": {'v:"x"': {}}},
}


def live(*entries: tuple[str, str, dict], **rest) -> dict:
    managed = [{"manager": manager, "operation": operation, "fieldsV1": tree} for manager, operation, tree in entries]
    return {"metadata": {"managedFields": managed}, **rest}


FULL = {"data": {"kept": "1", "taken": "2"}, "spec": {"ports": [{"port": 80}], "set": ["x"]}}


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (FULL, True),
        ({**FULL, "data": {"kept": "1"}}, False),
        ({**FULL, "data": {"kept": "1", "taken": "3"}}, False),
        ({**FULL, "spec": {"ports": [{"port": 81}], "set": ["x"]}}, False),
        ({**FULL, "spec": {"ports": [{"port": 80}], "set": []}}, False),
        ({**FULL, "spec": {"ports": [{"port": 80}]}}, False),
        ({**FULL, "extra": None}, True),
    ],
    ids=["the same", "a key leaves", "a value changes", "an item changes", "a set shrinks", "a list leaves", "a null"],
)
def test_an_object_is_as_sent_when_every_value_is_there_and_nothing_more_is_ours(body, answer):
    found = live(("reconciler", "Apply", OURS), data=FULL["data"], spec={**FULL["spec"], "default": 1})
    assert fields.is_as_sent(body, found) is answer


def test_an_object_that_we_never_applied_is_not_as_sent():
    assert not fields.is_as_sent(FULL, live(("reconciler", "Update", OURS), **FULL))


def test_true_is_not_one():
    assert not fields.is_as_sent(
        {"spec": {"on": 1}}, live(("reconciler", "Apply", {"f:spec": {"f:on": {}}}), spec={"on": True})
    )


def test_a_field_is_taken_when_another_owns_it_and_we_do_not():
    left = {"f:data": {"f:kept": {}}}
    taken = {"f:data": {"f:taken": {}, "f:theirs": {}}}
    found = live(("reconciler", "Apply", left), ("helm", "Apply", taken), ("kcm", "Update", {"f:status": {}}))
    assert fields.taken_by_others({"data": FULL["data"]}, found) == (".data.taken (helm)",)


def test_a_field_that_both_own_is_not_taken():
    both = {"f:data": {"f:kept": {}}}
    assert (
        fields.taken_by_others({"data": FULL["data"]}, live(("reconciler", "Apply", both), ("helm", "Apply", both)))
        == ()
    )


def test_an_item_of_a_list_is_found_by_its_keys_though_the_manifest_leaves_out_a_default():
    tree = {"f:spec": {"f:ports": {'k:{"port":80,"protocol":"TCP"}': {"f:port": {}}}}}
    found = live(("reconciler", "Apply", {}), ("helm", "Apply", tree))
    (path,) = fields.taken_by_others({"spec": FULL["spec"]}, found)
    assert path.startswith(".spec.ports[")


@pytest.mark.parametrize(("manager", "answer"), [("kubectl-edit", True), ("before-first-apply", True), ("helm", False)])
def test_hands_are_told_from_controllers(manager, answer):
    assert fields.is_by_hand(manager) is answer


# -- what an API server says


def status(code: int, reason: str = "", message: str = "", causes=(), **details: str) -> Status:
    body = {"kind": "Status", "reason": reason, "message": message, "details": {**details, "causes": list(causes)}}
    return Status.parse(code, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (status(422, "Invalid", "no"), Reason.REFUSED),
        (status(400, "BadRequest", "no"), Reason.REFUSED),
        (status(403, "Forbidden", 'x is forbidden: User "us" cannot patch resource "secrets"'), Reason.UNAUTHORIZED),
        (status(403, "Forbidden", "exceeded quota: few"), Reason.REFUSED),
        (status(403, "Forbidden", "", [{"reason": "NamespaceTerminating"}]), Reason.INCOMPLETE),
        (status(404, "NotFound", "", kind="namespaces", name="shop"), Reason.REFUSED),
        (status(404, "NotFound", ""), Reason.INCOMPLETE),
        (status(409, "AlreadyExists", ""), Reason.INCOMPLETE),
        (status(409, "Conflict", "", [{"reason": "FieldManagerConflict", "field": ".a"}]), Reason.CONFLICT),
        (status(500, "", "failed to create typed patch object (x): .y: no"), Reason.REFUSED),
    ],
    ids=lambda value: f"{value.code} {value.reason}" if isinstance(value, Status) else str(value),
)
def test_an_answer_means(said, reason):
    found = unwell(A, said)
    assert isinstance(found, Unwell)
    assert found.reason is reason


def test_an_error_of_the_members_own_is_no_objects_fault():
    assert isinstance(unwell(A, status(500, "InternalError", "etcd")), ServerTrouble)


def test_of_a_secret_only_the_reason_and_the_fields_are_told():
    cause = {"reason": "FieldValueInvalid", "message": 'Invalid value: "hunter2"', "field": "data[x]"}
    told = str(unwell(SECRET, status(422, "Invalid", 'Secret "a" is invalid: data[x]: "hunter2"', [cause])))
    assert "hunter2" not in told
    assert "Invalid at data[x]" in told


@pytest.mark.parametrize(
    "data", [b"", b"<html>hunter2", b"[]", b'{"kind":"Status","details":[],"message":{}}', b"[" * 99999]
)
def test_an_answer_that_is_no_status_is_not_quoted(data):
    assert "hunter2" not in Status.parse(500, data).words(secret=False)


def test_a_worker_waits_as_long_as_the_member_asked():
    job = _Job(action=None, due=0.0)
    report = Report(complete=None, reason=Reason.UNREACHABLE, pause_seconds=30)
    job.settle(report, hash_wanted="x", now=100.0, look=1.0, jitter=workers.full_jitter)
    assert job.due == 130.0


def test_what_a_members_clock_says_comes_with_every_report(tmp_path):
    """Also with one that it does not know us; a member that never answered says nothing."""
    told = datetime(2015, 10, 21, 7, 28, tzinfo=UTC)
    with servers.http_server(tmp_path, user="nobody") as server:
        server.date = "Wed, 21 Oct 2015 07:28:00 GMT"
        user, cluster = {"name": "a", "user": {"token": "t"}}, {"name": "a", "cluster": {"server": server.url}}
        context = {"name": "a", "context": {"cluster": "a", "user": "a"}}
        body = {"clusters": [cluster], "users": [user], "contexts": [context], "current-context": "a"}
        config = tmp_path / "config"
        config.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **body}))
        asked = {"type": "kubernetes", "kubeconfig": str(config), "insecureAllowHttp": True}
        fence = Fence(repository="r", epoch=1, seq=1)
        placement = Key(group=PLACEMENT_GROUP, kind="ClusterResourcePlacement", name="web")
        report = open_delivery("a", asked).withdraw(placement, fence)
        assert report.reason is Reason.UNAUTHORIZED
        assert report.date is not None
        assert told <= report.date < told + timedelta(minutes=1)
    assert open_delivery("a", asked).withdraw(placement, fence).date is None


def test_a_member_that_lets_nobody_in_is_knocked_at_and_now_and_then_waited_for():
    """Else its return is seen late; and with knocks alone one that answers slowly would never be let in again."""
    assert [connect_seconds(number) for number in range(6)] == [5, 1, 1, 1, 5, 1]


# -- two things at once


def test_what_is_done_beside_something_is_done_once_whether_or_not_a_helper_is_free(monkeypatch):
    done = []
    with ThreadPoolExecutor(1) as helpers:
        monkeypatch.setattr(store, "_helpers", helpers)
        assert store.beside(lambda: 1, lambda: done.append("free") or 2) == (1, 2)
        door = Event()
        busy = helpers.submit(door.wait)
        assert store.beside(lambda: 1, lambda: done.append("busy") or 2) == (1, 2)
        door.set()
        assert busy.result()
    assert done == ["free", "busy"]


def test_where_one_request_at_a_time_is_allowed_there_is_one_at_a_time(tmp_path):
    settings = MemberSettings(cluster="a", kubeconfig=tmp_path, parallel=1)
    bound = store.KubernetesStore(Api(Connection(settings)), settings)
    assert bound.beside(threading.get_ident, threading.get_ident) == (threading.get_ident(),) * 2


@pytest.mark.parametrize("fails", ["here", "there", "both"])
def test_an_error_on_either_side_is_raised_and_that_of_this_side_first(fails):
    def side(name: str) -> None:
        if fails in (name, "both"):
            raise TemporaryError(name)

    with pytest.raises(TemporaryError, match="there" if fails == "there" else "here"):
        store.beside(lambda: side("here"), lambda: side("there"))


# -- kinds


@dataclass
class Served:
    """A connection to a member that says this to everything."""

    answer: Answer

    def request(self, *_: object, **__: object) -> Answer:
        return self.answer


def kind_of(answer: Answer) -> Resource | None:
    return Api(cast(Connection, Served(answer))).find("apps", "v1", "Deployment")


def test_members_that_serve_the_same_share_what_is_known_of_it():
    row = {"name": "deployments", "kind": "Deployment", "namespaced": True}
    sub_resource = {"name": "deployments/scale", "kind": "Scale", "namespaced": True}
    answer = Answer(status=200, body=json.dumps({"resources": [row, sub_resource]}).encode())
    found = kind_of(answer)
    assert found == Resource(group="apps", version="v1", kind="Deployment", plural="deployments", namespaced=True)
    assert kind_of(replace(answer)) is found


def test_a_member_that_does_not_serve_a_version_serves_no_kind_of_it():
    assert kind_of(Answer(status=404, body=b"")) is None


@pytest.mark.parametrize(("status", "body"), [(500, b"{}"), (200, b"<html>"), (200, b"[]")])
def test_kinds_that_cannot_be_read_are_not_taken_for_none(status: int, body: bytes):
    with pytest.raises(TemporaryError):
        kind_of(Answer(status=status, body=body))
