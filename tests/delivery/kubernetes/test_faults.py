"""A member that is far away, slow, sick, or another one: said as what it is, in time, with nothing written in doubt."""

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from reconciler import clock
from reconciler.core.actions import Reason
from reconciler.core.model import PLACEMENT_GROUP, Key
from reconciler.delivery import open_delivery
from reconciler.errors import TemporaryError, UsageError
from tests.controlplane.faults import ApiFaultProxy, BlackHole, Drip, FaultProxy, Pass, Refuse, ResetMidBody
from tests.controlplane.members import Member
from tests.controlplane.processes import wait_until
from tests.delivery.benches import REPOSITORY
from tests.delivery.kubernetes.conftest import Site, delivery, fence, new_site
from tests.delivery.kubernetes.test_delivering import well


@pytest.fixture
def network(site: Site) -> Iterator[FaultProxy]:
    """The site is reached through a network that can fail."""
    with FaultProxy(("127.0.0.1", site.member.port)) as proxy:
        site.delivery = delivery(kubeconfig=site.member.kubeconfig_through(proxy.port), timeoutSeconds=1)
        yield proxy


@pytest.fixture
def api(site: Site) -> Iterator[ApiFaultProxy]:
    """The site is reached through an API server that can fail."""
    with ApiFaultProxy(site.member) as proxy:
        site.delivery = delivery(kubeconfig=site.member.kubeconfig_through(proxy.port))
        yield proxy


def writes(method: str, path: str) -> bool:
    return method in ("PATCH", "PUT", "DELETE") or (method == "POST" and "selfsubject" not in path)


# -- the network


def test_a_member_that_refuses_connections_is_unreachable_and_then_well_again(site, network):
    network.switch(Refuse())
    report = site.delivers(site.config_map("a"))
    assert (report.complete, report.reason) == (None, Reason.UNREACHABLE)
    assert "Connection refused" in report.message
    assert "in time" not in report.message
    assert site.delivery.describe()["reachable"] is False
    with pytest.raises(TemporaryError):
        site.delivery.highest_epoch(REPOSITORY)
    network.switch(Pass())
    well(site.again())


@pytest.mark.parametrize("mode", [BlackHole(), Drip(period=0.1)], ids=["black hole", "drip"])
def test_a_member_that_does_not_answer_in_time_costs_the_deadline_and_no_more(site, network, mode):
    """A drip of a byte now and then satisfies every read, and would take minutes."""
    well(site.delivers(site.config_map("a")))
    network.switch(mode)
    began = clock.monotonic()
    report = site.observes()
    assert report.reason is Reason.UNREACHABLE
    assert clock.monotonic() - began < 2.5


@pytest.mark.parametrize("after", [0, 100, 1500], ids=["before it", "in its head", "in its body"])
def test_a_connection_that_breaks_in_an_answer_is_unreachable(site, network, after):
    well(site.delivers(site.config_map("a")))
    network.switch(ResetMidBody(after=after))
    report = site.observes()
    assert report.reason is Reason.UNREACHABLE
    assert "the connection broke off" in report.message


def test_a_slow_member_does_not_hold_a_delivery_for_ever(site, network):
    site.delivery = replace(site).through(stepSeconds=0.01).delivery
    report = site.delivers(*(site.config_map(f"c{number}") for number in range(50)))
    assert report.reason is Reason.UNREACHABLE
    assert "the next try goes on" in report.message


# -- the API server


def test_a_write_whose_answer_is_lost_is_done_once_more_and_is_the_same(site, api):
    api.lose_answer(times=1, when=lambda method, path: method == "PATCH")
    assert site.delivers(site.config_map("a")).reason is Reason.UNREACHABLE
    version = site.get("configmap", "a")["metadata"]["resourceVersion"]
    well(site.again())
    assert site.get("configmap", "a")["metadata"]["resourceVersion"] == version


def test_an_inventory_whose_writing_was_not_heard_is_found_as_written(site, api):
    api.lose_answer(
        times=1, when=lambda method, path: method == "POST" and path.endswith("configmaps?fieldManager=reconciler")
    )
    assert site.delivers(site.config_map("a")).reason is Reason.UNREACHABLE
    well(site.again())


def test_a_pause_that_the_member_asks_for_is_kept_by_everybody(site, api):
    well(site.delivers(site.config_map("a")))
    api.answer(429, {"Retry-After": "7"}, times=1)
    report = site.observes()
    assert (report.reason, report.pause_seconds) == (Reason.UNREACHABLE, 7.0)
    asked = len(api.exchanges)
    again = site.observes()
    assert again.reason is Reason.UNREACHABLE
    assert 6 < again.pause_seconds <= 7
    assert len(api.exchanges) == asked


def test_a_storm_of_errors_is_not_fed(site, api):
    """A few objects may fail by themselves; when all do it is the member, and the rest is left for later."""
    objects = [site.config_map(f"c{number}") for number in range(60)]
    well(site.delivers(*objects))
    api.answer(500, when=lambda method, path: method == "PATCH")
    report = site.delivers(*({**one, "data": {"key": "2"}} for one in objects))
    assert (report.complete, report.reason) == (None, Reason.UNREACHABLE)
    assert len([one for one in api.exchanges if one.status == 500]) < 25
    api.pass_through()
    well(site.again())


@pytest.mark.parametrize(
    ("when", "turned_away"),
    [
        pytest.param(lambda _, path: "namespaces/kube-system" in path, True, id="who it is"),
        pytest.param(lambda method, _: method == "PUT", False, id="an inventory"),
        pytest.param(lambda _, path: "labelSelector=" in path, False, id="a list"),
    ],
)
def test_only_what_is_asked_for_whichever_placement_turns_all_of_them_away(site, api, when, turned_away):
    """Else what is wrong with one placement, as a right that it lacks, would be said of every other."""
    objects = [site.config_map(f"c{number}") for number in range(4)]
    well(site.delivers(*objects))
    api.answer(500, when=when)
    report = site.delivers(*({**one, "data": {"key": "2"}} for one in objects))
    assert (report.reason, report.turned_away) == (Reason.UNREACHABLE, turned_away)


def test_one_object_that_fails_at_the_member_does_not_stop_the_others(site, api):
    api.answer(500, when=lambda method, path: method == "PATCH" and "/bad" in path)
    report = site.delivers(site.config_map("bad"), site.config_map("good"))
    assert (report.reason, report.object) == (Reason.INCOMPLETE, f"ConfigMap {site.namespace}/bad")
    assert site.names("configmap") == {"good"}


def test_an_answer_without_end_is_not_read_to_it(site, api):
    api.answer(200, body=b'{"x":"' + b"y" * (17 * 1024 * 1024) + b'"}', when=lambda _, path: "kube-system" in path)
    report = site.delivers(site.config_map("a"))
    assert report.reason is Reason.REFUSED
    assert "larger than" in report.message


@pytest.mark.parametrize("body", [b"<html>", b"[" * 100_000, b"[]", b'{"metadata":[]}'], ids=range(4))
def test_an_answer_that_is_no_object_is_no_crash(site, api, body):
    api.answer(200, body=body, when=lambda _, path: "configmaps" in path)
    assert site.delivers(site.config_map("a")).reason in (Reason.UNREACHABLE, Reason.REFUSED)


def test_a_redirect_is_not_followed(site, api):
    api.answer(302, {"Location": "https://elsewhere.example/"}, when=lambda _, path: "configmaps" in path)
    assert site.delivers(site.config_map("a")).reason is Reason.REFUSED
    assert all(one.status in (200, 201, 302) for one in api.exchanges)


# -- who we are


def test_a_member_with_another_authority_is_not_believed(members, site, write_kubeconfig):
    cluster = {"server": site.member.server, "certificate-authority": str(members[1].ca_file)}
    user = {"client-certificate": str(site.member.admin_cert), "client-key": str(site.member.admin_key)}
    site.delivery = delivery(kubeconfig=write_kubeconfig(cluster, user))
    report = site.delivers(site.config_map("a"))
    assert report.reason is Reason.UNREACHABLE
    assert "certificate" in report.message


def cluster_of(site: Site) -> dict[str, str]:
    return {"server": site.member.server, "certificate-authority": str(site.member.ca_file)}


def token_of(site: Site, role: str) -> str:
    site.kubectl("create", "serviceaccount", "us")
    account = f"--serviceaccount={site.namespace}:us"
    site.member.kubectl("create", "clusterrolebinding", site.namespace, f"--clusterrole={role}", account)
    return site.kubectl("create", "token", "us").strip()


def test_credentials_that_the_member_does_not_know_are_said_to_be_renewed(site, write_kubeconfig):
    site.delivery = delivery(kubeconfig=write_kubeconfig(cluster_of(site), {"token": "nobodys"}))
    report = site.delivers(site.config_map("a"))
    assert (report.complete, report.reason) == (None, Reason.UNAUTHORIZED)
    assert "renew" in report.message
    assert "nobodys" not in repr(report)


def test_no_credentials_at_all_are_a_mistake_in_the_configuration(site, write_kubeconfig):
    site.delivery = delivery(kubeconfig=write_kubeconfig(cluster_of(site), {}))
    report = site.delivers(site.config_map("a"))
    assert report.reason is Reason.NOT_CONFIGURED
    assert "takes us for system:anonymous" in report.message
    assert replace(site.delivery.greet(), date=None) == replace(report, date=None)
    assert site.names("configmap") == set()
    user = {"client-certificate": str(site.member.admin_cert), "client-key": str(site.member.admin_key)}
    write_kubeconfig(cluster_of(site), user)
    well(site.again())


def test_a_token_that_was_renewed_in_its_file_is_read_again(site, write_kubeconfig, tmp_path):
    file = tmp_path / "token"
    good = token_of(site, "cluster-admin")
    file.write_text(good)
    site.delivery = delivery(kubeconfig=write_kubeconfig(cluster_of(site), {"tokenFile": str(file)}))
    well(site.delivers(site.config_map("a")))
    site.delivery._store.api.connection._open()[0].headers["Authorization"] = "Bearer expired"
    well(site.delivers(site.config_map("a", key="2")))
    file.write_text("expired")
    site.delivery._store.api.connection._open()[0].headers["Authorization"] = "Bearer expired"
    assert site.observes().reason is Reason.UNAUTHORIZED
    file.write_text(good + "\n")
    well(site.observes())


def test_a_token_that_expires_is_asked_to_be_renewed_and_the_new_one_goes_on(site, write_kubeconfig, tmp_path):
    """The API server itself refuses it, for its age alone: the same claims with later times are let in."""
    file, good, now = tmp_path / "token", token_of(site, "cluster-admin"), int(clock.wall().timestamp())
    expired = site.member.signed_anew(good, iat=now - 7200, nbf=now - 7200, exp=now - 3600)
    file.write_text(site.member.signed_anew(good, iat=now - 7200, nbf=now - 7200, exp=now + 3600))
    site.delivery = delivery(kubeconfig=write_kubeconfig(cluster_of(site), {"tokenFile": str(file)}))
    well(site.delivers(site.config_map("a")))
    log = site.member.folder / "kube-apiserver.log"
    before, in_use = log.stat().st_size, site.delivery._store.api.connection._open()[0].headers
    in_use["Authorization"] = f"Bearer {expired}"
    file.write_text(expired)
    report = site.delivers(site.config_map("a", key="2"))
    assert (report.complete, report.reason) == (None, Reason.UNAUTHORIZED)
    assert "(401), read again a moment ago; renew them" in report.message
    assert expired not in repr(report)
    assert b"service account token has expired" in log.read_bytes()[before:]
    assert site.get("configmap", "a")["data"] == {"key": "value1"}
    file.write_text(good)
    well(site.again())
    assert site.get("configmap", "a")["data"] == {"key": "2"}


def test_an_object_that_we_may_not_write_is_said_as_our_rights(site, write_kubeconfig):
    rules = [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]},
    ]
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": site.namespace},
        "rules": rules,
    }
    site.kubectl("create", "-f", "-", body=role)
    well(site.delivers(site.config_map("a")))  # as administrator, who makes the namespace of the inventories
    token = token_of(site, site.namespace)
    site.delivery = delivery(kubeconfig=write_kubeconfig(cluster_of(site), {"token": token}))
    report = site.delivers(site.config_map("a"), site.secret("b", stringData={"x": "tr0ub4dor"}))
    assert (report.reason, report.object) == (Reason.UNAUTHORIZED, f"Secret {site.namespace}/b")
    assert 'cannot get resource "secrets"' in report.message
    assert token not in repr(report)
    assert site.names("configmap") == {"a"}


def test_what_we_may_not_read_is_neither_missing_nor_the_end_of_what_is_told(site, write_kubeconfig):
    site.delivers(site.config_map("a"), site.secret("b", stringData={"x": "y"}))
    site.kubectl("delete", "configmap/a", "secret/b")
    readable = ("--verb=get,list", "--resource=configmaps,namespaces")
    site.member.kubectl("create", "clusterrole", site.namespace, *readable)
    user = {"token": token_of(site, site.namespace)}
    told = delivery(kubeconfig=write_kubeconfig(cluster_of(site), user)).describe()
    assert told["reachable"] is True
    assert told["missing"][str(site.placement)] == (f"ConfigMap {site.namespace}/a",)


def test_who_acts_as_somebody_else_has_the_rights_of_that_one_alone(site, write_kubeconfig):
    """Also where the credentials are an administrator's; and it is that one whom the member names."""
    well(site.delivers(site.config_map("a")))  # as administrator, who makes the namespace of the inventories
    admin = {"client-certificate": str(site.member.admin_cert), "client-key": str(site.member.admin_key)}
    name = f"deployer-of-{site.namespace}"
    site.delivery = delivery(kubeconfig=write_kubeconfig(cluster_of(site), {**admin, "as": name, "as-groups": [name]}))
    report = site.delivers(site.config_map("a", key="2"))
    assert (report.complete, report.reason) == (None, Reason.UNAUTHORIZED)
    assert f'403 Forbidden: namespaces "kube-system" is forbidden: User "{name}" cannot get' in report.message
    assert site.get("configmap", "a")["data"] == {"key": "value1"}
    may = {"configmaps": "*", "namespaces": "get"}
    rules = [{"apiGroups": [""], "resources": [kind], "verbs": [verb]} for kind, verb in may.items()]
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}}
    site.kubectl("create", "-f", "-", body={**role, "rules": rules})
    site.member.kubectl("create", "clusterrolebinding", name, f"--clusterrole={name}", f"--group={name}")
    well(site.again())
    assert site.get("configmap", "a")["data"] == {"key": "2"}
    report = site.delivers(site.secret("b", stringData={"x": "y"}))
    assert (report.reason, f'User "{name}" cannot' in report.message) == (Reason.UNAUTHORIZED, True)
    mighty = {**admin, "as": name, "as-groups": [name, "system:masters"]}
    assert delivery(kubeconfig=write_kubeconfig(cluster_of(site), mighty)).describe()["user"] == name


# -- which cluster answers


def held(site: Site) -> dict[str, str]:
    """Return the versions of what a delivery could have written there, inventories too."""
    folders = [f"/api/v1/namespaces/{name}/configmaps" for name in (site.namespace, "reconciler-system")]
    found = [one["metadata"] for folder in folders for one in site.member.request("GET", folder)["items"]]
    return {one["uid"]: one["resourceVersion"] for one in found if one["name"] != "kube-root-ca.crt"}


class Swap:
    """A site whose address can lead to another cluster, that shows a certificate of the same authority."""

    def __init__(self, site: Site, other: Member, network: FaultProxy) -> None:
        other.kubectl("create", "namespace", site.namespace)
        passing = {name: getattr(other, name) for name in ("port", "ca_file", "admin_cert", "admin_key")}
        serving = site.member.serving_certificate
        self.api = ApiFaultProxy(cast("Member", SimpleNamespace(**passing, serving_certificate=serving)))
        self.there = replace(site, member=other)
        self._network, self._port = network, site.member.port

    def is_made(self) -> None:
        self._leads_to(self.api.port)

    def is_undone(self) -> None:
        self._leads_to(self._port)

    def _leads_to(self, port: int) -> None:
        self._network.switch(Refuse())
        self._network._upstream = ("127.0.0.1", port)
        self._network.switch(Pass())


@pytest.fixture
def swap(members, site: Site, network: FaultProxy) -> Iterator[Swap]:
    """Nothing is swapped yet."""
    site.delivery = delivery(kubeconfig=site.member.kubeconfig_through(network.port))
    one = Swap(site, members[1], network)
    with one.api:
        yield one
    members[1].kubectl("delete", "namespace", site.namespace, "--wait=false")


def test_another_cluster_behind_the_same_address_gets_no_write(members, site, tmp_path):
    """The pin is kept in the state folder, so that a restart does not lose it."""
    with FaultProxy(("127.0.0.1", site.member.port)) as first:
        config = site.member.kubeconfig_through(first.port)
        settings = {"kubeconfig": config, "stateDir": str(tmp_path)}
        site.delivery = delivery(**settings)
        well(site.delivers(site.config_map("a")))
    other = new_site(members[1])
    here = replace(other, delivery=delivery(members[1], stateDir=str(tmp_path)))
    before = held(here)
    report = here.delivers(here.config_map("a"))
    assert (report.complete, report.reason) == (None, Reason.IDENTITY_CHANGED)
    assert site.member.uid() in report.message
    assert members[1].uid() in report.message
    assert str(tmp_path / "identities" / "member-1") in report.message
    assert held(here) == before
    (tmp_path / "identities" / "member-1").unlink()
    well(replace(here, delivery=delivery(members[1], stateDir=str(tmp_path))).again())


def test_a_cluster_that_the_operator_named_by_its_uid_is_no_other(site):
    assert site.through(clusterUid="another").delivers(site.config_map("a")).reason is Reason.IDENTITY_CHANGED
    well(site.through(clusterUid=site.member.uid()).delivers(site.config_map("a")))


def test_a_cluster_that_is_swapped_while_we_run_is_seen_and_gets_no_write(site, swap):
    well(site.delivers(site.config_map("a")))
    before = held(swap.there)
    swap.is_made()
    reports = (
        site.again(),
        site.delivers(site.config_map("b")),
        site.observes(),
        site.withdraws(),
        site.delivery.greet(),
    )
    for report in reports:
        assert (report.complete, report.reason) == (None, Reason.IDENTITY_CHANGED)
    assert swap.api.exchanges
    assert [one for one in swap.api.exchanges if writes(one.method, one.path)] == []
    assert held(swap.there) == before
    assert site.names("configmap") == {"a"}


def test_which_kinds_are_served_is_asked_again_after_a_swap(site, swap, asked):
    """What another cluster said, or this one before, may be no longer so."""
    well(site.delivers(site.config_map("a")))
    swap.is_made()
    assert site.again().reason is Reason.IDENTITY_CHANGED
    swap.is_undone()
    well(site.again())
    assert [path for _, path in asked if path == "/api/v1"] == ["/api/v1"] * 2


def test_an_inventory_that_was_copied_from_another_cluster_is_not_believed(site):
    """A backup that was restored elsewhere would otherwise have this member's objects deleted."""
    site.delivers(site.config_map("a"))
    name = site.inventory()["metadata"]["name"]
    patch = '{"data":{"clusterUid":"another"}}'
    site.member.kubectl("-n", "reconciler-system", "patch", "configmap", name, "--type=merge", "-p", patch)
    assert site.withdraws().reason is Reason.IDENTITY_CHANGED
    assert site.names("configmap") == {"a"}
    site.member.kubectl("-n", "reconciler-system", "delete", "configmap", name)


# -- what the operator says


SERVER = {"server": "https://127.0.0.1:1"}


@pytest.mark.parametrize(
    ("cluster", "user", "setting"),
    [
        (SERVER, {"exec": {"command": "touch", "args": ["RAN"], "apiVersion": "v1"}}, "allowExec"),
        (SERVER, {"auth-provider": {"name": "gcp", "config": {"cmd-path": "touch RAN"}}}, "insecureAllowAuthProvider"),
        ({**SERVER, "proxy-url": "http://127.0.0.1:1"}, {}, "insecureAllowProxy"),
        ({**SERVER, "insecure-skip-tls-verify": True}, {}, "insecureSkipTlsVerify"),
        ({"server": "http://127.0.0.1:1"}, {}, "insecureAllowHttp"),
    ],
    ids=["exec", "auth-provider", "proxy", "no verification", "http"],
)
def test_a_kubeconfig_that_does_more_than_name_credentials_is_refused_unread(
    tmp_path, monkeypatch, write_kubeconfig, *, cluster, user, setting
):
    monkeypatch.chdir(tmp_path)
    opened = delivery(kubeconfig=write_kubeconfig(cluster, user))
    told = opened.describe()
    assert told["reachable"] is False
    assert f"set {setting}: true" in told["message"]
    assert not (tmp_path / "RAN").exists()


def test_exec_runs_where_the_operator_allows_it(site, write_kubeconfig, tmp_path):
    status = {"token": token_of(site, "cluster-admin")}
    credential = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
    (tmp_path / "answer").write_text(json.dumps(credential))
    user = {
        "exec": {"apiVersion": credential["apiVersion"], "command": "cat", "args": [str(tmp_path / "answer")]},
    }
    site.delivery = delivery(kubeconfig=write_kubeconfig(cluster_of(site), user), allowExec=True)
    well(site.delivers(site.config_map("a")))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "needs kubeconfig"),
        ({"kubeconfig": "x", "root": "y"}, "takes no setting root"),
        ({"kubeconfig": "x", "allowExec": "yes"}, "allowExec has the wrong type"),
        ({"kubeconfig": "x", "parallel": True}, "parallel has the wrong type"),
        ({"kubeconfig": "x", "timeoutSeconds": 0}, "timeoutSeconds is 0"),
    ],
)
def test_settings_that_cannot_be_used_are_named(settings, said):
    with pytest.raises(UsageError, match=f"delivery for cluster member-1: .*{said}"):
        open_delivery("member-1", {"type": "kubernetes", **settings})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read"),
        ("[]", "is not a kubeconfig"),
        ("{}", "no current-context"),
        ("current-context: x", "not exactly one entry 'x' in contexts"),
        ("a: &b c\nd: *b", "alias"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_is_a_missing_configuration(site, tmp_path, text, said):
    file = tmp_path / "config"
    if text is not None:
        file.write_text(text)
    report = replace(site, delivery=delivery(kubeconfig=file)).delivers(site.config_map("a"))
    assert report.reason is Reason.NOT_CONFIGURED
    assert said in report.message


def test_certificates_inside_the_kubeconfig_leave_no_file_behind(site, write_kubeconfig, tmp_path, monkeypatch):
    private = tmp_path / "private"
    private.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(private))

    def data(file: Path) -> str:
        return base64.b64encode(file.read_bytes()).decode()

    cluster = {"server": site.member.server, "certificate-authority-data": data(site.member.ca_file)}
    user = {
        "client-certificate-data": data(site.member.admin_cert),
        "client-key-data": data(site.member.admin_key),
    }
    for _ in range(2):  # the client remembers the files that it made, which are gone
        site.delivery = delivery(kubeconfig=write_kubeconfig(cluster, user))
        well(site.delivers(site.config_map("a")))
    assert list(private.iterdir()) == []


def test_a_member_that_comes_back_after_a_stop_is_delivered_to(member_factory):
    member = member_factory(1, complete=False)[0]
    site = new_site(member)
    well(site.delivers(site.config_map("a")))
    member.stop()
    assert site.observes().reason is Reason.UNREACHABLE
    member.start()
    wait_until("the member", lambda: site.observes().healthy, ())


# -- what cannot be told


@pytest.mark.parametrize(("rule", "method"), [("Never", "GET"), ("IfNoDiff", "PATCH")])
def test_an_object_that_could_not_be_judged_once_is_not_taken_for_ours(site, rule, method):
    """An abandoned one bears fields of ours: were it listed meanwhile, it would be overwritten, and deleted later."""
    other = Key(group=PLACEMENT_GROUP, kind="ClusterResourcePlacement", name=f"other-{site.namespace}")
    site.delivery.deliver(other, site.content(site.config_map("a", key="theirs")), fence(1))
    assert site.delivery.withdraw(other, fence(2), keep=True).reason is Reason.WITHDRAWN
    with ApiFaultProxy(site.member) as proxy:
        site = replace(site, delivery=delivery(kubeconfig=site.member.kubeconfig_through(proxy.port)))
        proxy.answer(500, times=1, when=lambda asked, path: asked == method and "/configmaps/a" in path)
        first = site.delivers(site.config_map("a", key="ours"), site.config_map("b"), take_over=rule)
        assert (first.reason, first.object) == (Reason.INCOMPLETE, f"ConfigMap {site.namespace}/a")
        assert site.again().reason is Reason.CONFLICT
        assert site.get("configmap", "a")["data"] == {"key": "theirs"}
        assert site.withdraws().reason is Reason.WITHDRAWN
    assert site.names("configmap") == {"a"}
