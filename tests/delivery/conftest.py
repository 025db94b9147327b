"""Fixtures of the deliveries: a member of either make, and the door of effects."""

from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler import effects
from tests.delivery.benches import BENCHES, Bench, Door


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Door:
    door = Door()
    monkeypatch.setattr(effects, "perform", door.perform)
    return door


@pytest.fixture(params=sorted(BENCHES))
def new_bench(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Bench]:
    """Makes an empty member, as often as asked."""
    folders = (tmp_path / f"member{number}" for number in range(1000))
    return lambda: BENCHES[request.param](next(folders))


@pytest.fixture
def bench(new_bench: Callable[[], Bench]) -> Bench:
    return new_bench()
