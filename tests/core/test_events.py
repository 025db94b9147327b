"""The text of the log: every event there and back, and whatever somebody may have edited into it."""

import dataclasses
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core import codec, events
from reconciler.core.actions import Reason
from reconciler.core.conditions import run_object
from reconciler.core.fold import fold
from reconciler.core.status import When
from tests.core import logs
from tests.core.test_fold import EFFECTS

TEXT = st.text(max_size=20)
MAPPING = st.dictionaries(TEXT, st.one_of(TEXT, st.integers(), st.booleans(), st.none(), st.lists(TEXT)), max_size=3)
MOMENTS = st.datetimes(min_value=datetime(1971, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone


def values_of(kind: type) -> st.SearchStrategy[Any]:
    """Return a strategy for a frozen class of ours, from its annotations."""
    hints = codec._hints(kind)
    return st.builds(kind, **{one.name: value_of(hints[one.name]) for one in dataclasses.fields(kind)})


def value_of(hint: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for an annotation."""
    if dataclasses.is_dataclass(hint):
        return values_of(hint)  # type: ignore[arg-type]
    plain = {str: TEXT, int: st.integers(), bool: st.booleans(), datetime: MOMENTS}
    if hint in plain:
        return plain[hint]
    if hint in (When, Reason):
        return st.sampled_from(list(hint))
    inner = getattr(hint, "__args__", ())
    if type(None) in inner:
        return st.none() | value_of(inner[0])
    if getattr(hint, "__origin__", None) is tuple:
        return st.lists(value_of(inner[0]), max_size=2).map(tuple)
    return MAPPING


@pytest.mark.parametrize("name", sorted(events.EVENTS))
def test_an_event_survives_its_text(name: str):
    kind = events.EVENTS[name]

    @settings(max_examples=20, deadline=None)
    @given(values_of(kind))
    def survives(event: events.Event) -> None:
        text = json.dumps(events.encode(event))
        assert events.decode(json.loads(text)) == event
        assert list(json.loads(text))[:3] == ["seq", "now", "event"]

    survives()


@pytest.mark.parametrize(("steps", "read", "expected"), EFFECTS)
def test_a_log_survives_its_text(steps, read, expected):
    log = logs.Log().all_of(steps)
    lines = [json.dumps(events.encode(event)) for event in log.events]
    assert fold(logs.PLACEMENT, [events.decode(json.loads(line)) for line in lines]) == log.state


def test_what_holds_its_default_is_left_out():
    """So that a new field with a default does not change what was written before."""
    event = events.ClusterReported(
        seq=7, now=logs.NOW, run="u", stage=0, cluster="a", intent=3, reason=Reason.AVAILABLE
    )
    assert events.encode(event) == {
        "seq": 7,
        "now": "2025-07-22T21:28:08.000000Z",
        "event": "ClusterReported",
        "run": "u",
        "stage": 0,
        "cluster": "a",
        "intent": 3,
        "reason": "Available",
    }


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ([], "no event: \\[\\]"),
        (None, "no event: None"),
        ({"event": "ClusterExploded"}, "unknown event 'ClusterExploded'"),
        ({}, "unknown event None"),
        ({"seq": 1, "now": "2025-07-22T21:28:08Z", "event": "StageCompleted"}, "not a StageCompleted"),
        ({"seq": 1, "now": "today", "event": "RunStarted"}, "not a RunStarted"),
        ({"seq": "1", "now": "2025-07-22T21:28:08Z", "event": "RunStarted"}, "'1' is no int"),
        ({"seq": True, "now": "2025-07-22T21:28:08Z", "event": "RunStarted"}, "True is no int"),
        ({"seq": 1, "now": "2025-07-22T21:28:08Z", "event": "RunStarted", "more": 1}, "not a RunStarted"),
    ],
)
def test_what_is_no_event_is_refused(data, why: str):
    with pytest.raises(ValueError, match=why):
        events.decode(data)


def _edits(value: Any) -> Iterator[Any]:
    """Give every version of a JSON value in which one place holds something else."""
    yield from (None, 5, "x", [], {}, -1)
    if isinstance(value, dict):
        for key, held in value.items():
            yield {name: one for name, one in value.items() if name != key}
            yield from ({**value, key: other} for other in _edits(held))
    if isinstance(value, list):
        for place, held in enumerate(value):
            yield from ([*value[:place], other, *value[place + 1 :]] for other in _edits(held))


@pytest.mark.parametrize("number", range(len(logs.DONE)))
def test_a_log_that_somebody_edited_is_refused_or_folds_but_nothing_else(number: int):
    """Anything else that is raised would stop the whole daemon, not one placement."""
    lines = [events.encode(event) for event in logs.Log().all_of(logs.DONE).events]
    for edited in _edits(lines[number]):
        try:
            read = [events.decode(one) for one in (*lines[:number], edited, *lines[number + 1 :])]
            state = fold(logs.PLACEMENT, read)
        except ValueError:
            continue
        for run in state.runs.values():
            run_object(run)
