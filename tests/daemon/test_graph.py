"""Our own values as one JSON text, and back."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from reconciler.core.model import Commit, Key
from reconciler.core.status import When
from reconciler.daemon import graph
from tests.manifests import run
from tests.world import World

KEY = Key(group="", kind="ConfigMap", namespace="app", name="a")
TIME = datetime(2025, 7, 22, 21, 0, tzinfo=UTC)
COMMIT = Commit(sha="0" * 40, position=1, time=TIME, author="Ada", committer="Ada", message="\udcff")


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        1,
        1.0,
        "text",
        b"\xff",
        (1, True, 1.0, "1", None),
        {KEY: [KEY, {"a": [1, None]}], (KEY, "b"): {1, 2}},
        frozenset({("kind", "a")}),
        When.AFTER,
        timedelta(days=1, microseconds=5),
        COMMIT,
    ],
)
def test_a_value_comes_back_as_it_was(value: Any):
    found = graph.load(graph.dump(value))
    assert (repr(found), type(found)) == (repr(value), type(value))


def test_a_whole_history_comes_back_as_it_was(rings: World):
    rings.commits("runs/a.yaml", run("a"))
    rings.passes()
    view = rings.daemons[0].reconciler.derivation.view
    assert vars(found := graph.load(graph.dump(view))).keys() == vars(view).keys()
    for name in vars(view).keys() - {"_resources", "_files", "_doubts"}:
        assert getattr(found, name) == getattr(view, name), name
    assert vars(found._resources) == vars(view._resources)
    assert {path: one.documents for path, one in found._files.items()} == {
        path: one.documents for path, one in view._files.items()
    }


def test_what_two_values_share_stays_shared():
    shared = {KEY: 1}
    one, other = graph.load(graph.dump([shared, (shared,)]))
    assert one is other[0]
    one[KEY] = 2
    assert other[0] == {KEY: 2}


def test_equal_values_that_never_change_are_written_once():
    rows = json.loads(graph.dump([Key(group="", kind="x", name="y"), Key(group="", kind="x", name="y")]))
    assert len([one for one in rows if isinstance(one, list) and "Key" in cast("str", one[0])]) == 1


def test_a_value_of_another_class_is_not_written():
    @dataclass(frozen=True)
    class Other:
        name: str

    with pytest.raises(TypeError, match="Other cannot be kept"):
        graph.dump(Other("a"))


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "pathlib.Path", "reconciler.core.fold.apply"])
def test_a_text_cannot_name_anything_that_is_not_of_our_model(name: str):
    with pytest.raises(KeyError):
        graph.load(json.dumps(["touch /tmp/x", [name, 0]]))
