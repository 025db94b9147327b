"""Durations, selectors and names."""

from datetime import timedelta

import pytest

from reconciler.core.model import Key, LabelSelector, Problem, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("1m", "1m0s"),
        ("30s", "30s"),
        ("90m", "1h30m0s"),
        ("1.5h", "1h30m0s"),
        ("1h0m0s", "1h0m0s"),
        ("1m1h", "1h1m0s"),
        ("0.5s", "500ms"),
        ("1.25s", "1.25s"),
        ("61.5s", "1m1.5s"),
        ("0s", "0s"),
    ],
)
def test_a_duration_is_printed_as_go_does(text: str, printed: str):
    assert format_duration(parse_duration(text)) == printed


def test_a_duration_is_the_sum_of_its_parts():
    assert parse_duration("1h1m1.5s") == timedelta(hours=1, minutes=1, seconds=1.5)


CLUSTERS = {"a": {"tier": "gold"}, "b": {"tier": "gold", "zone": "1"}, "c": {"zone": "2"}, "d": {}}


@pytest.mark.parametrize(
    ("selector", "matched"),
    [
        (None, None),
        ({}, "abcd"),
        ({"matchLabels": {"tier": "gold"}}, "ab"),
        ({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["1", "2"]}]}, "bc"),
        ({"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["1"]}]}, "acd"),
        ({"matchExpressions": [{"key": "zone", "operator": "Exists"}]}, "bc"),
        ({"matchExpressions": [{"key": "zone", "operator": "DoesNotExist"}]}, "ad"),
        (
            {"matchLabels": {"tier": "gold"}, "matchExpressions": [{"key": "zone", "operator": "DoesNotExist"}]},
            "a",
        ),
    ],
)
def test_a_selector_matches_as_kubernetes_says(selector, matched: str | None):
    read = LabelSelector.from_document(selector)
    found = None if read is None else "".join(name for name, labels in CLUSTERS.items() if read.matches(labels))
    assert found == matched


def test_names_and_problems_read_like_sentences():
    assert str(Key(group="", kind="Pod", namespace="a", name="b")) == "Pod a/b"
    assert str(Key(group="", kind="Node", name="b")) == "Node b"
    problem = Problem(path="runs/a.yaml", line=3, pointer="/spec", rule="Immutable", message="no", hint="put it back")
    assert str(problem) == "runs/a.yaml:3: Immutable: no (at /spec); put it back"
    assert str(Problem(path="a", rule="R", message="m")) == "a: R: m"
