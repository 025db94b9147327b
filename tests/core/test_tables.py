"""Tables that must list the same names: a half-made addition fails with the missing name."""

import json
from pathlib import Path

import pytest

from reconciler.core import actions, events, fold, model
from reconciler.core.gates import GATES
from reconciler.core.model import KINDS
from reconciler.core.status import When

SCHEMAS = Path(__file__).parent.parent.parent / "schemas"


@pytest.mark.parametrize("kind", ["ClusterStagedUpdateStrategy", "StagedUpdateStrategy"])
def test_gates_and_the_tasks_of_the_schemas_are_the_same(kind: str):
    text = json.loads((SCHEMAS / KINDS[kind].schema).read_text())
    task_types = set()
    for one in text["$defs"].values():
        for name, held in one.get("properties", {}).items():
            if name == "type" and "enum" in held:
                task_types |= set(held["enum"])
    assert task_types == set(GATES)


def test_every_kind_is_read_by_a_value_and_every_value_is_of_a_kind():
    assert {row.read.__self__ for row in KINDS.values()} == set(model.Value.__args__)


def test_every_kind_has_its_schema():
    assert {path.name for path in SCHEMAS.glob("*.schema.json")} == {row.schema for row in KINDS.values()}


def test_every_event_has_its_case_in_the_fold():
    cases = {*fold._CASES, *fold._PLACEMENT_CASES, events.RunSeen}
    assert cases == set(events.EVENTS.values())
    assert set(fold._CASES) & set(fold._PLACEMENT_CASES) == set()


def test_every_action_is_one_of_three():
    assert {one.__name__ for one in actions.Action.__args__} == {"Deliver", "Observe", "Withdraw"}


def test_sides_are_words_of_the_objects_labels():
    assert [f"{one}Stage" for one in When] == ["beforeStage", "afterStage"]
