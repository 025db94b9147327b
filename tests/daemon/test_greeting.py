"""Who the members are is asked at the start, beside everything else."""

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Event, Lock
from typing import Any

from structlog.testing import capture_logs

from reconciler.core.actions import Reason, Report
from reconciler.daemon.greeting import MAX_THREADS, greet_all, warn_of_strangers
from reconciler.settings import Settings
from tests import servers
from tests.serving import ended, until
from tests.test_article import COMMAND


class Greeted:
    """A member that answers as it is told, and counts how often it is asked."""

    def __init__(self, answer: Callable[[], Report]) -> None:
        self._answer, self.asked = answer, 0

    def greet(self) -> Report:
        self.asked += 1
        return self._answer()


class Mute:
    """A member that cannot be asked, as a folder."""


def said(reason: Reason, message: str = "") -> Callable[[], Report]:
    return lambda: Report(complete=None, reason=reason, message=message)


def broken() -> Report:
    raise KeyError("a mistake of ours")


def settings_of(members: dict[str, Any]) -> Settings:
    return Settings(repo="x", delivery_clusters={name: {"type": "kubernetes"} for name in members})


def greet(members: dict[str, Any], is_over: Callable[[], bool] = lambda: False) -> list[dict[str, Any]]:
    """Greet the members and return what was logged, by the names of the members."""
    with capture_logs() as logs:
        for thread in greet_all(settings_of(members), (), members.__getitem__, is_over):
            thread.join()
    return sorted((dict(one) for one in logs), key=lambda one: one["cluster"])


def test_a_line_is_said_of_every_member_that_is_not_as_it_should_be_and_names_its_setting():
    members = {
        "a": Greeted(said(Reason.AVAILABLE)),
        "b": Greeted(said(Reason.NOT_CONFIGURED, "it takes us for system:anonymous")),
        "c": Greeted(said(Reason.IDENTITY_CHANGED, "it was another")),
        "d": Greeted(broken),
        "e": Mute(),
        "f": Greeted(said(Reason.UNREACHABLE, "refused")),
    }
    logs = greet(members)
    assert [(one["cluster"], one.get("reason"), one.get("setting"), one.get("message")) for one in logs] == [
        ("b", "NotConfigured", "delivery.clusters.b", "it takes us for system:anonymous"),
        ("c", "IdentityChanged", "delivery.clusters.c", "it was another"),
        ("d", None, None, None),
        ("f", "Unreachable", "delivery.clusters.f", "refused"),
    ]
    assert {one.asked for one in members.values() if isinstance(one, Greeted)} == {1}


def test_members_that_only_the_repository_names_are_asked_where_the_default_leads_to_them():
    ill = Greeted(said(Reason.UNREACHABLE, "refused"))
    settings = replace(settings_of({"a": ill}), delivery_default={"type": "kubernetes"})
    with capture_logs() as logs:
        for thread in greet_all(settings, ["a", "b"], {"a": ill, "b": ill}.get, lambda: False):
            thread.join()
    assert sorted((one["cluster"], one["setting"]) for one in logs) == [
        ("a", "delivery.clusters.a"),
        ("b", "delivery.default"),
    ]
    assert ill.asked == 2


def test_a_misspelt_name_in_the_settings_is_told_from_both_sides():
    well = Greeted(said(Reason.AVAILABLE))
    settings = settings_of({"us-1": well, "us-9": well})
    with capture_logs() as logs:
        warn_of_strangers(settings, ["us-1", "us-2"])
        for thread in greet_all(settings, ["us-1", "us-2"], {"us-1": well, "us-9": well}.get, lambda: False):
            thread.join()
    assert [(one["setting"], one.get("reason"), one.get("message")) for one in logs] == [
        ("delivery.clusters.us-9", None, None),
        ("delivery.clusters.us-2", "NotConfigured", "delivery.clusters.us-2 is not in the settings"),
    ]


def test_a_few_members_are_asked_at_once_and_one_that_hangs_holds_up_no_other():
    hangs, together, now, most, lock = Event(), Barrier(MAX_THREADS - 1), set(), [], Lock()

    def answers(name: str) -> Report:
        with lock:
            now.add(name)
            most.append(len(now))
        together.wait(timeout=60)  # passed only by as many at once as there are threads beside the one that hangs
        with lock:
            now.remove(name)
        return Report(complete=None, reason=Reason.AVAILABLE)

    members: dict[str, Any] = {"a": Greeted(lambda: said(Reason.AVAILABLE)() if hangs.wait() else broken())}
    names = [f"b{number:02}" for number in range(3 * (MAX_THREADS - 1))]
    members |= {name: Greeted(lambda name=name: answers(name)) for name in names}
    threads = greet_all(settings_of(members), (), members.__getitem__, lambda: False)
    assert [thread.daemon for thread in threads] == [True] * MAX_THREADS
    until(lambda: sum(thread.is_alive() for thread in threads) == 1)
    assert [one.asked for one in members.values()] == [1] * len(members)
    assert max(most) == MAX_THREADS - 1
    hangs.set()
    for thread in threads:
        thread.join()


def test_nobody_is_asked_any_more_once_the_service_ends():
    member, over = Greeted(said(Reason.UNREACHABLE)), iter([False, True, True])
    assert greet({"a": member, "b": member}, lambda: next(over, True)) == []
    assert member.asked == 1


def way(file: Path, user: dict[str, Any], server: str = "http://127.0.0.1:1", **settings: Any) -> dict[str, Any]:
    """Write a kubeconfig and return the settings of the member that it leads to."""
    document = {
        "clusters": [{"name": "a", "cluster": {"server": server}}],
        "users": [{"name": "a", "user": user}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "current-context": "a",
    }
    file.write_text(json.dumps(document))
    return {"type": "kubernetes", "kubeconfig": str(file), "insecureAllowHttp": True, **settings}


@contextmanager
def serving(folder: Path, clusters: dict[str, Any]) -> Iterator[Path]:
    """Serve an empty fleet until the end of the block, and give the log, in JSON."""
    remote, clone = servers.bare_repository(folder / "fleet.git"), folder / "clone"
    servers.commit(servers.clone_of(remote, clone), {"README.md": "a fleet"})
    servers.git(clone, "push", "--quiet", "origin", "HEAD:main")
    (folder / "settings.yaml").write_text(json.dumps({"delivery": {"clusters": clusters}}))
    places = ("--settings", str(folder / "settings.yaml"), "--state-dir", str(folder / "state"))
    arguments = [COMMAND, "serve", "--repo", str(remote), *places, "--init", "--log-format", "json"]
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(arguments, stderr=log)
    try:
        yield folder / "log"
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(timeout=30) == 0, (folder / "log").read_text()
    finally:
        ended(daemon)


def told(log: Path) -> dict[str, tuple[str, str]]:
    """Return reason and message by setting, of whole lines."""
    lines = [json.loads(one) for one in log.read_text().splitlines(keepends=True) if one.endswith("\n")]
    return {one["setting"]: (one["reason"], one["message"]) for one in lines if "reason" in one}


def test_serve_says_what_is_wrong_with_members_that_nothing_is_rolled_out_to(tmp_path: Path):
    program = {"apiVersion": "client.authentication.k8s.io/v1", "command": "sleep", "args": ["1000"]}
    with servers.http_server(tmp_path / "nothing", user="nobody") as refusing:
        clusters = {
            "closed": way(tmp_path / "closed", {"token": "t"}),
            "hanging": way(tmp_path / "hanging", {"exec": program}, allowExec=True, timeoutSeconds=1),
            "missing": {"type": "kubernetes", "kubeconfig": str(tmp_path / "nowhere")},
            "refusing": way(tmp_path / "refusing", {"token": "t"}, refusing.url),
            "strict": way(tmp_path / "strict", {"exec": program}),
        }
        with serving(tmp_path, clusters) as log:
            until(lambda: len(told(log)) >= len(clusters))
            found = told(log)
    expected = {
        "closed": ("Unreachable", "refused"),
        "hanging": ("Unreachable", "program sleep (exec) did not end within 1 s"),
        "missing": ("NotConfigured", "cannot be read"),
        "refusing": ("Unauthorized", "does not accept the credentials"),
        "strict": ("NotConfigured", "set allowExec: true"),
    }
    assert set(found) == {f"delivery.clusters.{name}" for name in expected}
    for name, (reason, words) in expected.items():
        assert found[f"delivery.clusters.{name}"][0] == reason
        assert words in found[f"delivery.clusters.{name}"][1]
