"""The members are real control planes: what a cluster does they do, and nothing of them outlives its test."""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.controlplane.members import Member, Members
from tests.controlplane.processes import ControlPlaneError, wait_until

ROOT = Path(__file__).parents[2]


def deployment(namespace: str, *, replicas: int) -> str:
    labels = {"app": "nginx"}
    container = {"name": "nginx", "image": "nginx:1.27"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    document: dict[str, Any] = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "nginx", "namespace": namespace},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }
    return json.dumps(document)


def config_map(name: str) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": "value"}})


def rolls_out(member: Member, namespace: str) -> str:
    member.kubectl("create", "namespace", namespace)
    member.kubectl("apply", "-f", "-", input=deployment(namespace, replicas=2))
    member.kubectl("-n", namespace, "rollout", "status", "deployment/nginx", "--timeout=60s")
    return member.kubectl("-n", namespace, "get", "deployment", "nginx", "-o", "jsonpath={.status.availableReplicas}")


def group_is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def test_three_members_come_up_each_with_its_own_address_and_a_ready_node(members):
    assert [member.name for member in members] == ["member-1", "member-2", "member-3"]
    assert len({member.server for member in members}) == 3
    for member in members:
        assert member.kubectl("get", "--raw", "/readyz") == "ok"
        assert member.kubectl("get", "nodes", "-o", "name") == f"node/{member.name}-node\n"


def test_members_are_different_clusters(members):
    assert len({member.uid() for member in members}) == 3
    assert members[0].uid() == members["member-1"].uid()


def test_a_member_does_not_trust_another_ones_administrator(members):
    one, other = members[0], members[1]
    stranger = [f"--client-certificate={other.admin_cert}", f"--client-key={other.admin_key}"]
    with pytest.raises(ControlPlaneError, match=r"must be logged in|Unauthorized"):
        one.kubectl(f"--server={one.server}", *stranger, "get", "namespaces")


def test_what_is_written_to_one_member_is_not_on_another(members):
    members[0].kubectl("create", "configmap", "only-here")
    with pytest.raises(ControlPlaneError, match='configmaps "only-here" not found'):
        members[1].kubectl("get", "configmap", "only-here")
    members[0].kubectl("delete", "configmap", "only-here")


def test_a_deployment_becomes_available_and_its_namespace_goes_away(members):
    assert rolls_out(members[0], "rolls-out") == "2"
    members[0].kubectl("delete", "namespace", "rolls-out", "--timeout=60s")
    with pytest.raises(ControlPlaneError, match='namespaces "rolls-out" not found'):
        members[0].kubectl("get", "namespace", "rolls-out")


def test_a_resource_quota_refuses_what_is_too_much(members):
    member = members[0]
    member.kubectl("create", "namespace", "narrow")
    member.kubectl("-n", "narrow", "create", "quota", "no-pods", "--hard=count/secrets=0")
    counted = ["-n", "narrow", "get", "quota", "no-pods", "-o", "jsonpath={.status.hard}"]
    wait_until("the quota to be counted", lambda: member.kubectl(*counted) != "")
    with pytest.raises(ControlPlaneError, match="exceeded quota: no-pods"):
        member.kubectl("-n", "narrow", "create", "secret", "generic", "one-too-many")
    member.kubectl("delete", "namespace", "narrow", "--wait=false")


def test_owned_objects_are_collected(members):
    member = members[0]
    rolls_out(member, "collected")
    member.kubectl("-n", "collected", "delete", "deployment", "nginx", "--cascade=background")
    left = ["-n", "collected", "get", "pods,replicasets", "-o", "name"]
    wait_until("pods and replica sets to be collected", lambda: member.kubectl(*left) == "")
    member.kubectl("delete", "namespace", "collected", "--wait=false")


def test_a_killed_api_server_comes_back_with_its_data_and_its_controllers(member_factory):
    (member,) = member_factory(names=["phoenix"])
    uid = member.uid()
    member.kubectl("create", "configmap", "kept")
    member.stop()
    assert not member.alive
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", member.port))
    member.start()
    assert member.kubectl("get", "configmap", "kept", "-o", "name") == "configmap/kept\n"
    assert member.uid() == uid
    assert rolls_out(member, "after") == "2"


def test_nobody_gets_the_port_of_an_api_server_that_is_down(member_factory):
    (member,) = member_factory(complete=False)
    member.stop()
    with closing(socket.socket()) as thief, pytest.raises(OSError, match="in use"):
        thief.bind(("127.0.0.1", member.port))


def test_an_incomplete_member_stores_and_refuses_like_any_other(member_factory):
    (member,) = member_factory(complete=False)
    assert [process.name for process in member.processes] == ["kube-apiserver of member-1"]
    member.kubectl("apply", "--server-side", "-f", "-", input=config_map("stored"))
    with pytest.raises(ControlPlaneError, match='namespaces "nowhere" not found'):
        member.kubectl("-n", "nowhere", "apply", "-f", "-", input=config_map("refused"))


def test_the_audit_log_tells_who_asked_for_what(member_factory):
    (member,) = member_factory(complete=False, audit="Request")
    member.kubectl("create", "configmap", "noticed")
    asked = [event for event in member.audited() if event["verb"] == "create" and event["user"]["username"] == "admin"]
    assert [event["responseStatus"]["code"] for event in asked] == [201]
    assert asked[0]["requestObject"]["metadata"]["name"] == "noticed"


def test_flags_are_handed_on_to_the_api_server(member_factory):
    """Without its admission plugin a namespace that does not exist takes objects."""
    (member,) = member_factory(complete=False, apiserver_flags=["--disable-admission-plugins=NamespaceLifecycle"])
    member.kubectl("-n", "nowhere", "create", "configmap", "homeless")
    assert member.kubectl("-n", "nowhere", "get", "configmap", "homeless", "-o", "name") == "configmap/homeless\n"


def test_a_member_without_a_node_leaves_pods_waiting(member_factory):
    (member,) = member_factory(node=False)
    assert member.kubectl("get", "nodes", "-o", "name") == ""
    member.kubectl("create", "deployment", "nginx", "--image=nginx:1.27")
    with pytest.raises(ControlPlaneError, match="timed out"):
        member.kubectl("rollout", "status", "deployment/nginx", "--timeout=1s")


def test_a_flag_that_is_wrong_ends_in_the_words_of_the_api_server(member_factory):
    with pytest.raises(ControlPlaneError, match="unknown flag: --no-such-flag"):
        member_factory(complete=False, apiserver_flags=["--no-such-flag"])


def test_leaving_stops_everything_and_removes_the_files():
    with Members(1, complete=False) as members:
        group = os.getpgid(members.processes[0].child.pid)
        folder = members[0].folder.parent
        assert not group_is_gone(group)
    assert group_is_gone(group)
    assert not folder.exists()


DIES_HARD = """
import os, signal
from tests.controlplane.members import Members

with Members(1, complete=False) as members:
    print(os.getpgid(members.processes[0].child.pid), members[0].folder.parent, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_outlives_a_test_process_that_was_killed():
    died = subprocess.run([sys.executable, "-c", DIES_HARD], cwd=ROOT, capture_output=True, text=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    group, folder = died.stdout.split()
    wait_until("the processes to be gone", lambda: group_is_gone(int(group)), seconds=10)
    wait_until("the files to be gone", lambda: not Path(folder).exists(), seconds=10)


def up(folder: Path) -> list[str]:
    return [sys.executable, "-m", "tests.controlplane", "up", "--count=1", "--quick", "--dir", str(folder)]


def refusal(folder: Path) -> str:
    done = subprocess.run(up(folder), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    return done.stderr


def test_up_serves_a_person_until_interrupted_and_then_again_in_the_same_folder(tmp_path):
    folder = tmp_path / "mine"
    for _ in range(2):
        with subprocess.Popen(up(folder), cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            name, server, kubeconfig = process.stdout.readline().split()
            assert process.stdout.readline() == "running until Ctrl-C\n"
            assert refusal(folder) == f"members run in {folder} already; name another folder with --dir\n"
            process.send_signal(signal.SIGINT)
        assert process.returncode == 0
        assert (name, kubeconfig) == ("member-1", str(folder / "member-1/kubeconfig"))
        assert json.loads(Path(kubeconfig).read_text())["clusters"][0]["cluster"]["server"] == server


def test_up_refuses_a_folder_that_holds_something_else(tmp_path):
    (tmp_path / "file").touch()
    assert refusal(tmp_path) == f"{tmp_path} holds something else; name a new or an empty folder with --dir\n"
