"""Worlds named after situations; each ends with what must hold in every world."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import manifests
from tests.world import World

pytest_plugins = ["tests.controlplane.plugin"]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """An empty repository, no member, no daemon."""
    for name in [name for name in os.environ if name.startswith(("GIT_", "RECONCILER_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    world = World(folder=tmp_path)
    yield world
    world.ends()
    world.is_sound()


@pytest.fixture
def rings(world: World) -> World:
    """A canary and two production members, one placement, a plain strategy of two stages, nothing rolled out yet."""
    world.joins("canary", ring="canary")
    world.joins("east", ring="prod")
    world.joins("west", ring="prod")
    world.commits(
        {
            "resources/app/namespace.yaml": manifests.namespace(),
            "resources/app/settings.yaml": manifests.config_map("value1"),
            "placements/web.yaml": manifests.placement(),
            "strategies/rings.yaml": manifests.strategy(manifests.stage("canary"), manifests.stage("prod")),
        },
        message="Begin",
    )
    world.begins()
    return world


@pytest.fixture
def article(world: World) -> World:
    """The article's fleet before its first run: three members, two snapshots, the strategy."""
    world.joins("member1", environment="canary", order="2")
    world.joins("member2", environment="staging")
    world.joins("member3", environment="canary", order="1")
    world.begins()
    world.commits(
        {
            "resources/namespace.yaml": manifests.namespace("test-namespace"),
            "resources/test-cm.yaml": manifests.config_map("value1", "test-cm", "test-namespace"),
            "placements/example-placement.yaml": manifests.article("clusterresourceplacement-example-placement"),
        },
        message="Place test-cm",
    )
    changed = manifests.config_map("value2", "test-cm", "test-namespace")
    world.commits("resources/test-cm.yaml", changed, "Change the value")
    strategy = manifests.article("clusterstagedupdatestrategy-example-strategy")
    world.commits("strategies/example-strategy.yaml", strategy, "Add the strategy")
    return world
