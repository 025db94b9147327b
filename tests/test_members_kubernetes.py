"""One member of three is unwell in every way that a network, an API server or an operator brings about."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from reconciler.clock import monotonic
from tests import manifests, servers
from tests.controlplane.faults import ApiFaultProxy, BlackHole, Drip, FaultProxy, Mode, Pass, Refuse, ResetMidBody
from tests.delivery.kubernetes.test_faults import writes
from tests.serving import Served, condition
from tests.test_article import status_log

pytestmark = pytest.mark.xdist_group("controlplane")

OBJECTS = 8
ILL, WELL = "ill", ("well-1", "well-2")
APP, ALONE = "members-app", "alone-app"
TIMEOUT_SECONDS = 3
"""How long the unwell member is waited for: whoever waited with it would be late by more than the slack."""
NO_LONGER, NO_LONGER_SLACK = 1.2, 1.5
"""How much longer than alone the others may take, and the seconds that a busy machine gets beside that."""
NOTICE_SECONDS, NOTICE_SLACK = 2.0, 1.0
"""When a member that is well again is asked at the latest, and the seconds that a busy machine gets beside that."""
RECOVERY_SECONDS = 10.0
"""The same for the end of the run: the notice, a pass or two; the rest is for a busy machine."""


class Door:
    """The way to one member: a network, an API server in front of it, a token and a kubeconfig; each can be broken."""

    def __init__(self, folder: Path, member: Any, other: Any, stack: ExitStack) -> None:
        self.member, self.other = member, other
        self.token_file, self.kubeconfig = folder / "token", folder / "kubeconfig"
        self.api = stack.enter_context(ApiFaultProxy(member, as_admin=False))
        renewed = SimpleNamespace(
            ca_file=member.ca_file, port=member.port, serving_certificate=other.serving_certificate
        )
        self.renewed = stack.enter_context(ApiFaultProxy(renewed, as_admin=False))
        self.network = stack.enter_context(FaultProxy(("127.0.0.1", self.api.port)))
        member.kubectl("create", "serviceaccount", "door", "-n", "default")
        role = ("--clusterrole=cluster-admin", "--serviceaccount=default:door")
        member.kubectl("create", "clusterrolebinding", "door", *role)
        self.token = member.kubectl("create", "token", "door", "-n", "default")
        self.token_file.write_text(self.token)
        self.trusts(member)

    def token_expires(self) -> None:
        """The token in use is refused, and the one in its file is good no more either."""
        self.token_file.write_text("expired")
        self.api.answer(401, times=1)

    def token_returns(self) -> None:
        """The file holds a good token again."""
        self.token_file.write_text(self.token)

    def trusts(self, member: Any) -> None:
        """The kubeconfig names the authority of a member."""
        cluster = {
            "server": f"https://127.0.0.1:{self.network.port}",
            "certificate-authority": str(member.ca_file),
        }
        document = {
            "clusters": [{"name": "ill", "cluster": cluster}],
            "users": [{"name": "ill", "user": {"tokenFile": str(self.token_file)}}],
            "contexts": [{"name": "ill", "context": {"cluster": "ill", "user": "ill"}}],
            "current-context": "ill",
        }
        self.kubeconfig.write_text(json.dumps(document))

    def leads_to(self, proxy: ApiFaultProxy) -> None:
        """Another server answers at the address."""
        self.network.switch(Refuse())
        self.network._upstream = ("127.0.0.1", proxy.port)
        self.network.switch(Pass())


@dataclass(frozen=True)
class Fault:
    """What breaks, what mends it, and the reason and the words that a person must find between the two.

    `through` objects get to the member all the same.
    """

    reason: str
    words: str
    strikes: Callable[[Door], None]
    heals: Callable[[Door], None]
    through: int = 0


def network(words: str, mode: Mode) -> Fault:
    """Return a fault of the network."""
    return Fault("Unreachable", words, lambda door: door.network.switch(mode), lambda door: door.network.switch(Pass()))


def api(words: str, status: int, headers: dict[str, str], when: Callable[[str, str], bool] = lambda *_: True) -> Fault:
    """Return a fault of the API server."""
    return Fault(
        "Unreachable",
        words,
        lambda door: door.api.answer(status, headers, when=when),
        lambda door: door.api.pass_through(),
    )


def of_two(method: str, path: str) -> bool:
    """Tell whether a request writes one of two objects, as where their webhook is away."""
    return method == "PATCH" and any(f"/configmaps/c{number}?" in path for number in (0, 1))


FAULTS = {
    "connection refused": network("refused", Refuse()),
    "black hole": network("no answer in time", BlackHole()),
    "reset in the answer": network("the connection broke off", ResetMidBody(after=4000)),
    "drip": network("no answer in time", Drip(period=0.2)),
    "too many requests": api("too busy (429)", 429, {"Retry-After": "1"}),
    "a storm of errors": api("answered 500", 500, {}, writes),
    "errors for two objects": replace(api("answered 500", 500, {}, of_two), reason="Incomplete", through=OBJECTS - 2),
    "invalid token": Fault("Unauthorized", "does not accept the credentials", Door.token_expires, Door.token_returns),
    "another authority": Fault(
        "Unreachable",
        "its certificate is not trusted",
        lambda door: door.leads_to(door.renewed),
        lambda door: door.trusts(door.other),
    ),
}


@pytest.fixture(scope="module")
def door(members, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """The first member behind two proxies, reached with a token; nothing is broken yet."""
    with ExitStack() as stack:
        yield Door(tmp_path_factory.mktemp("door"), members[0], members[1], stack)


def selector(namespace: str) -> dict[str, str]:
    return {"group": "", "version": "v1", "kind": "Namespace", "name": namespace}


@pytest.fixture(scope="module")
def fleet(members, door: Door, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Three members in one stage, a daemon that serves them for all the faults, one after the other."""
    ways = {ILL: door.kubeconfig, **dict(zip(WELL, (members[1].kubeconfig, members[2].kubeconfig), strict=True))}
    common = {"type": "kubernetes", "timeoutSeconds": TIMEOUT_SECONDS}
    clusters = {name: {**common, "kubeconfig": str(way)} for name, way in ways.items()}
    of_two = {"placementType": "PickFixed", "clusterNames": list(WELL)}
    files: dict[str, str | None] = {f"clusters/{name}.yaml": manifests.cluster(name, ring="all") for name in ways}
    files |= {
        "resources/namespace.yaml": manifests.namespace(APP),
        "resources/alone.yaml": manifests.namespace(ALONE),
        "placements/members.yaml": manifests.placement("members", resourceSelectors=[selector(APP)]),
        "placements/alone.yaml": manifests.placement("alone", resourceSelectors=[selector(ALONE)], policy=of_two),
        "strategies/together.yaml": manifests.strategy(manifests.stage("all", maxConcurrency=3), name="together"),
    }
    fleet = Served(tmp_path_factory.mktemp("fleet"), clusters, files, stageDeadlineSeconds=2)
    with fleet.serving():
        yield fleet


def starts(fleet: Served, run: str, placement: str, namespace: str) -> None:
    """Change the config maps, and roll that out over all members of the placement at once."""
    change = {
        f"resources/{placement}-{number}.yaml": manifests.config_map(run, f"c{number}", namespace)
        for number in range(OBJECTS)
    }
    fleet.push(run, {**change, f"runs/{run}.yaml": manifests.run(run, placement=placement, strategy="together")})


def seconds(fleet: Served, run: str) -> float:
    """Return how long the two took, by what the daemon logged: from their start until both are available."""

    def moments(words: str) -> list[datetime]:
        lines = [one for one in fleet.log().splitlines() if f" run='{run}' " in one and " cluster='well-" in one]
        return [datetime.fromisoformat(line.split("'")[1]) for line in lines if words in line]

    fleet.until(lambda: len(moments("reason='Available'")) == len(WELL), "the log, which comes after the push")
    return (max(moments("reason='Available'")) - min(moments("event='ClusterStarted'"))).total_seconds()


@pytest.fixture(scope="module")
def alone(fleet: Served) -> float:
    """How many seconds the two well members take with nobody unwell beside them: the median of three runs."""
    runs = [f"alone-{number}" for number in range(3)]
    for run in runs:
        starts(fleet, run, "alone", ALONE)
        fleet.until(lambda: f"{run}: succeeded" in status_log(fleet, run), run)  # noqa: B023
    return median(seconds(fleet, run) for run in runs)


@pytest.mark.parametrize("name", FAULTS)
def test_an_unwell_member_delays_only_itself_is_named_and_is_picked_up_again(members, fleet, door, alone, name):
    """The two others finish; the run says which cluster, what and since when, and goes on once the fault is gone."""
    fault, run = FAULTS[name], name.replace(" ", "-")
    fault.strikes(door)
    starts(fleet, run, "members", APP)
    fleet.until(
        lambda: states(recorded(fleet, run)) == {ILL: "Started", **dict.fromkeys(WELL, "Succeeded")}, "the two others"
    )
    fleet.command("wait", run, "--for", "condition=Progressing=False", "--timeout", "20s")
    fleet.until(lambda: fault.words in fleet.command("describe", "csur", run), "what is wrong")
    says_what_is_wrong(fleet, run, fault)
    assert seconds(fleet, run) <= NO_LONGER * alone + NO_LONGER_SLACK
    assert written(members[1], run) == written(members[2], run) == OBJECTS
    assert written(members[0], run) == fault.through
    began = monotonic()
    fault.heals(door)
    healed = monotonic()
    fleet.until(lambda: f"{run}: succeeded" in status_log(fleet, run), "the recovery")
    assert monotonic() - healed < RECOVERY_SECONDS
    assert let_through(door, began) - healed <= NOTICE_SECONDS + NOTICE_SLACK
    assert written(members[0], run) == OBJECTS
    fleet.command("replay", run)


def let_through(door: Door, since: float) -> float:
    """Return when the first request since then came that the member took."""
    exchanges = (*door.api.exchanges, *door.renewed.exchanges)
    return min(one.at for one in exchanges if one.at >= since and one.status in (200, 201))


def recorded(fleet: Served, run: str) -> dict[str, Any]:
    """Return the run as the status branch has it; empty before it is there."""
    names = servers.git(fleet.remote, "ls-tree", "-r", "--name-only", "fleet-status", "runs/").splitlines()
    path = next((name for name in names if f"/{run}/" in name and name.endswith("run.yaml")), None)
    found: dict[str, Any] = yaml.safe_load(servers.git(fleet.remote, "show", f"fleet-status:{path}")) if path else {}
    return found


def states(body: dict[str, Any]) -> dict[str, str]:
    """Return the newest condition of every cluster of a run."""
    stages = body.get("status", {}).get("stagesStatus", [])
    clusters = [one for stage in stages for one in stage["clusters"]]
    return {one["clusterName"]: one.get("conditions", [{"type": ""}])[-1]["type"] for one in clusters}


def says_what_is_wrong(fleet: Served, run: str, fault: Fault) -> None:
    """The object names the cluster and since when; `describe` adds the reason and the words."""
    body = fleet.get("csur", run)
    stuck = condition(body, "Progressing")
    assert (stuck["status"], stuck["reason"]) == ("False", "UpdateRunStuck")
    assert "stuck waiting for ill cluster(s) in stage all" in stuck["message"]
    assert stuck["lastTransitionTime"] > body["status"]["stagesStatus"][0]["startTime"]
    told = fleet.command("describe", "csur", run)
    row = next(line for line in told.splitlines() if line.split()[:1] == [ILL])
    assert fault.words in row
    assert re.search(r"Stuck .*\d{4}-\d\d-\d\dT", row)
    assert f"Cluster ill: {fault.reason}" in told


def written(member: Any, run: str) -> int:
    """Return how many of the config maps are as the run wants them."""
    listed = json.loads(member.kubectl("get", "configmaps", "-n", APP, "-o", "json"))["items"]
    return sum(one["data"].get("key") == run for one in listed)


def test_a_deployment_that_no_node_takes_leaves_the_run_stuck_until_one_does(members, fleet):
    """The two others finish; the run says which object waits and for what, and ends once a node is there."""
    pod = {"labels": {"app": "picky"}}
    picky = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "picky", "namespace": APP},
        "spec": {
            "selector": {"matchLabels": pod["labels"]},
            "template": {
                "metadata": pod,
                "spec": {"nodeSelector": {"disk": "fast"}, "containers": [{"name": "app", "image": "nginx:1.27"}]},
            },
        },
    }
    for member in (members[1], members[2]):
        member.kubectl("label", "nodes", "--all", "disk=fast")
    run = manifests.run("picky", placement="members", strategy="together")
    fleet.push("Add picky", {"resources/picky.yaml": manifests.text(picky), "runs/picky.yaml": run})
    fleet.command("wait", "picky", "--for", "condition=Progressing=False", "--timeout", "60s")
    fleet.until(
        lambda: states(recorded(fleet, "picky")) == {ILL: "Started", **dict.fromkeys(WELL, "Succeeded")},
        "the two others",
    )
    stuck = condition(fleet.get("csur", "picky"), "Progressing")
    assert (stuck["reason"], "ill: NotAvailable: Deployment members-app/picky" in stuck["message"]) == (
        "UpdateRunStuck",
        True,
    )
    members[0].kubectl("label", "nodes", "--all", "disk=fast")
    fleet.until(lambda: "picky: succeeded" in status_log(fleet, "picky"), "the rollout")
    for member in members:
        member.kubectl("label", "nodes", "--all", "disk-")


def test_a_cluster_tells_what_it_runs_and_what_was_changed_on_it_by_hand(members, fleet, door):
    """Missing objects and changed fields, of a Secret no value; and a member that does not answer says so."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": APP}}
    files = {
        "resources/told.yaml": manifests.config_map("told", "told", APP),
        "resources/gone.yaml": manifests.config_map("gone", "gone", APP),
        "resources/secret.yaml": manifests.text({**secret, "stringData": {"password": "correct horse"}}),
        "runs/told.yaml": manifests.run("told", placement="members", strategy="together"),
    }
    fleet.push("Add what is told", files)
    fleet.command("wait", "told", "--timeout", "60s")
    known = ("--settings", str(fleet.settings))
    server = json.loads(members[1].kubectl("version", "-o", "json"))["serverVersion"]["gitVersion"]
    rows = {
        row[0]: row[1:]
        for row in map(str.split, fleet.command("get", "clusters", *known, "-o", "wide").split("\n")[1:-1])
    }
    assert {name: row[:2] for name, row in rows.items()} == {name: ["True", server] for name in (ILL, *WELL)}
    assert re.search(r"\bmembers=\d+", rows["well-1"][-1])  # beside what other repositories may have left there
    assert "Not As Delivered:" not in fleet.command("describe", "cluster", "well-1", *known)
    members[1].kubectl("delete", "configmap", "gone", "-n", APP)
    change = ("--type=merge", "-n", APP, "-p")
    members[1].kubectl("patch", "configmap", "told", *change, '{"data":{"key":"by hand"}}')
    members[1].kubectl("patch", "secret", "s", *change, '{"data":{"password":"dHIwdWI0ZG9y"}}')
    told = fleet.command("describe", "cluster", "well-1", *known)
    assert re.search(rf"Cluster UID: +{members[1].uid()}\n", told)
    assert re.search(r"members +\d+ +[0-9a-f]{7} +told +Yes +\d+ +No\n", told)
    drift = told[told.index("Not As Delivered:") :].splitlines()[3:]
    changed = sorted(" ".join(line.partition(f"{APP}/")[2].split()) for line in drift if line)
    assert changed == [
        "gone is missing",
        "s was changed on the member",
        "told was changed on the member at .data.key (kubectl-patch)",
    ]
    assert "dHIwdWI0ZG9y" not in told
    door.network.switch(Refuse())
    refused = fleet.command("describe", "cluster", ILL, *known)
    door.network.switch(Pass())
    assert re.search(r"Reachable: +No\n +Message: .*Connection refused", refused)
