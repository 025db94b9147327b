"""`get -w` shows what changes and what goes; `describe` ends with events as kubectl shows them."""

import json
from collections.abc import Callable

import pytest

from reconciler import clock
from reconciler.commands import chronicle
from reconciler.core.events import EVENTS
from tests import manifests


@pytest.fixture
def while_watching(monkeypatch):
    """Return what makes the world move on, a step for each time that a command sleeps; then somebody presses Ctrl-C."""

    def begin(*steps: Callable[[], object]) -> None:
        left = list(steps)

        def sleep(_: float) -> None:
            if not left:
                raise KeyboardInterrupt
            left.pop(0)()

        monkeypatch.setattr(clock, "sleep", sleep)

    return begin


def begins(world, run, **how):
    world.commits(f"runs/{run}.yaml", manifests.run(run, **how))
    world.passes()


def test_a_watch_shows_what_comes_changes_and_goes(rings, olga, while_watching):
    begins(rings, "r1", state="Initialize")
    while_watching(
        lambda: begins(rings, "r2", state="Stop"),
        lambda: None,
        lambda: rings.removes("runs/r1.yaml"),
        lambda: begins(rings, "r2"),
    )
    said = olga("get", "csur", "-w")
    assert said.code == 130
    lines = [line for line in said.out.splitlines() if not line.startswith("20")]  # the daemon's log is on stdout too
    header, *rows = lines
    assert header.startswith("NAME")
    names = [row.split()[0] for row in rows]
    assert names == ["r1", "r2", "r1", "r2"]
    assert rows[0] == rows[2], "what is removed is shown as it was last"
    assert rows[3] != rows[1]


def test_a_watch_names_what_happened_when_asked_to(rings, olga, while_watching):
    def steps():
        return lambda: rings.removes("clusters/east.yaml"), lambda: rings.joins("east", ring="prod")

    while_watching(*steps())
    rows = [
        line.split()[:2] for line in olga("get", "clusters", "east", "-w", "--output-watch-events").out.splitlines()
    ]
    assert rows == [["EVENT", "NAME"], ["ADDED", "east"], ["DELETED", "east"], ["ADDED", "east"]]
    while_watching(*steps())
    said = olga("get", "clusters", "east", "-w", "--output-watch-events", "-o", "json")
    documents = _documents(said.out)
    assert [one["type"] for one in documents] == ["ADDED", "DELETED", "ADDED"]
    uids = [one["object"]["metadata"]["uid"] for one in documents]
    assert (uids[0] == uids[1], uids[1] == uids[2]) == (True, False)
    while_watching(*steps())
    assert (
        olga("get", "clusters", "east", "-w", "-o", "name").out.splitlines()
        == ["membercluster.cluster.kubernetes-fleet.io/east"] * 3
    )
    assert olga("get", "clusters", "--output-watch-events").code == 2


def _documents(text):
    decoder, found = json.JSONDecoder(), []
    while text := text.lstrip():
        value, end = decoder.raw_decode(text)
        found.append(value)
        text = text[end:]
    return found


# -- events -------------------------------------------------------------------------------------------------------


def test_every_event_has_a_sentence():
    assert set(chronicle.MESSAGES) == set(EVENTS.values())


def told(olga, *asked):
    lines = olga("describe", *asked).out.splitlines()
    rows = [line.split(None, 3) for line in lines[lines.index("Events:") + 3 :]]
    return [(kind, reason, message) for kind, reason, _, message in rows]


def test_the_events_of_a_troubled_run_tell_its_story(rings, olga):
    stages = (manifests.stage("canary", approval=True), manifests.stage("none"), manifests.stage("prod"))
    rings.commits("strategies/rings.yaml", manifests.strategy(*stages))
    rings.approves("r1", "canary")
    rings.member("canary").refuses("no room")
    begins(rings, "r1", strategy="later")
    rings.commits("strategies/later.yaml", manifests.strategy(*stages, name="later"))
    rings.passes(minutes=6)
    rings.heals("canary")
    rings.passes()
    begins(rings, "r1", strategy="later", state="Stop")
    rings.leaves("east")
    begins(rings, "r1", strategy="later")
    rings.approves("r1", "canary", words="now")
    rings.passes()
    found = told(olga, "csur", "r1")
    assert [(kind, reason) for kind, reason, _ in found] == [
        ("Normal", "RunSeen"),
        ("Warning", "InitializationFailed"),
        ("Normal", "RunInitialized"),
        ("Normal", "RunStarted"),
        ("Normal", "ClusterStarted"),
        ("Warning", "ClusterReported"),
        ("Warning", "ClusterOverdue"),
        ("Normal", "ClusterReported"),
        ("Normal", "GateOpened"),
        ("Warning", "ApprovalRefused"),
        ("Normal", "RunEdited"),
        ("Normal", "RunEdited"),
        ("Normal", "GatePassed"),
        ("Normal", "StageCompleted"),
        ("Normal", "StageSkipped"),
        ("Normal", "ClusterDeparted"),
        ("Normal", "ClusterStarted"),
        ("Normal", "ClusterReported"),
        ("Normal", "StageCompleted"),
        ("Normal", "RunCompleted"),
    ]
    messages = [message for _, _, message in found]
    for text in (
        "Stage canary turns to cluster canary",
        "Cluster canary: Refused: Namespace app: no room",
        "Cluster canary is past the deadline of stage canary",
        "The gate after stage canary waits for Approval r1-canary",
        "Stage none has no clusters",
        "Cluster east left the fleet: it is skipped",
        "All stages are completed",
    ):
        assert text in messages


def test_the_events_of_a_placement_tell_its_snapshots(rings, olga):
    rings.passes()
    rings.commits("resources/app/settings.yaml", manifests.config_map("value2"), "Set value2")
    rings.commits("placements/web.yaml", manifests.placement(policy={"placementType": "PickAll", "tolerations": []}))
    rings.passes()
    found = told(olga, "crp", "web")
    assert ("Normal", "PlacementScheduled", "3 cluster(s) are chosen") in found
    made = [message for _, reason, message in found if reason == "SnapshotMade"]
    assert made[1].endswith(": Set value2")
    assert next(message for _, reason, message in found if reason == "PlacementEdited").endswith("to generation 2")
