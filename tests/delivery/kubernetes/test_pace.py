"""The ceiling of requests a second, with a clock that moves only by what is slept."""

import json
from pathlib import Path

import pytest

from reconciler.delivery.kubernetes import pace as room
from reconciler.delivery.kubernetes.connection import Connection
from reconciler.delivery.kubernetes.pace import Pace
from reconciler.delivery.kubernetes.settings import read
from reconciler.errors import TemporaryError, UsageError
from tests import servers


class Time:
    """A clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))
        self.now += seconds


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    """The time that paces go by."""
    time = Time()
    monkeypatch.setattr(room, "monotonic", lambda: time.now)
    monkeypatch.setattr(room, "sleep", time.sleep)
    return time


def test_a_burst_goes_at_once_and_then_so_many_a_second(time: Time):
    pace = Pace(qps=4, burst=3)
    for _ in range(5):
        pace.wait(10)
    assert time.slept == [0.25, 0.25]


def test_a_rest_fills_the_bucket_up_to_the_burst_and_no_further(time: Time):
    pace = Pace(qps=4, burst=2)
    for _ in range(2):
        pace.wait(10)
    time.now += 3600
    for _ in range(3):
        pace.wait(10)
    assert time.slept == [0.25]


def test_those_who_wait_together_go_one_after_the_other(time: Time, monkeypatch: pytest.MonkeyPatch):
    """Each takes the token after the one before, though none of them has come yet."""
    monkeypatch.setattr(room, "sleep", lambda seconds: time.slept.append(round(seconds, 6)))
    pace = Pace(qps=2, burst=1)
    for _ in range(4):
        pace.wait(10)
    assert time.slept == [0.5, 1.0, 1.5]


def test_a_turn_that_is_too_far_away_is_not_waited_for_and_costs_none(time: Time):
    pace = Pace(qps=0.1, burst=1)
    pace.wait(4)
    with pytest.raises(TemporaryError, match=r"0\.1 requests a second \(qps\)") as refused:
        pace.wait(4)
    assert (time.slept, refused.value.pause_seconds) == ([], 6.0)
    time.now += 6
    pace.wait(4)
    assert time.slept == [4.0]


def test_every_request_of_a_member_waits_its_turn(tmp_path: Path, time: Time):
    with servers.http_server(tmp_path, user="nobody", password="") as server:
        user, cluster = {"name": "a", "user": {"username": "nobody", "password": ""}}, {"server": server.url}
        context = {"name": "a", "context": {"cluster": "a", "user": "a"}}
        body = {"clusters": [{"name": "a", "cluster": cluster}], "users": [user], "contexts": [context]}
        config = tmp_path / "config"
        config.write_text(json.dumps({**body, "current-context": "a"}))
        asked = {"kubeconfig": str(config), "insecureAllowHttp": True, "qps": 10, "burst": 2}
        connection = Connection(read("a", asked))
        for _ in range(4):
            connection.request("GET", "/nothing.git/info/refs")
        assert len(server.requests) == 4
    assert time.slept == [0.1, 0.1]


@pytest.mark.parametrize("setting", ["qps", "burst"])
def test_there_is_no_member_without_a_turn(setting: str):
    with pytest.raises(UsageError, match=f"{setting} is 0, which is too low"):
        read("a", {"kubeconfig": "x", setting: 0})
