"""What selecting and hashing rely on has its shape, or the file is broken: an API server would refuse it too."""

from typing import Any

import pytest
import yaml

from reconciler.documents.parse import parse

KINDS = {
    "ConfigMap": "v1",
    "Secret": "v1",
    "Service": "v1",
    "Namespace": "v1",
    "Job": "batch/v1",
    "Thing": "example.org/v1",
}


def problems(kind: str, **more: Any) -> list[tuple[str, str, str]]:
    """Return pointer, rule and message of every problem of a manifest."""
    metadata = {"name": "a", **({} if kind == "Namespace" else {"namespace": "b"}), **more.pop("metadata", {})}
    body = {"apiVersion": KINDS[kind], "kind": kind, "metadata": metadata, **more}
    found = parse("resources/a.yaml", yaml.safe_dump(body).encode()).problems
    return [(one.pointer, one.rule, one.message) for one in found]


WRONG = [
    ("Secret", {"stringData": {"port": 5432}}, "/stringData/port", "text: put it in quotes"),
    ("Secret", {"stringData": {"flag": True}}, "/stringData/flag", "text: put it in quotes"),
    ("Secret", {"stringData": {"key": None}}, "/stringData/key", "text: put it in quotes"),
    ("Secret", {"stringData": ["a"]}, "/stringData", "a mapping"),
    ("Secret", {"stringData": "a"}, "/stringData", "a mapping"),
    ("Secret", {"data": "a"}, "/data", "a mapping"),
    ("Secret", {"data": {"key": ["a"]}}, "/data/key", "text: put it in quotes"),
    ("ConfigMap", {"data": {"key": 1}}, "/data/key", "text: put it in quotes"),
    ("ConfigMap", {"data": [1]}, "/data", "a mapping"),
    ("ConfigMap", {"binaryData": {"key": {}}}, "/binaryData/key", "text: put it in quotes"),
    ("Namespace", {"spec": "a"}, "/spec", "a mapping"),
    ("Namespace", {"spec": []}, "/spec", "a mapping"),
    ("Service", {"spec": "a"}, "/spec", "a mapping"),
    ("Service", {"spec": {"ports": "a"}}, "/spec/ports", "a list of mappings"),
    ("Service", {"spec": {"ports": None}}, "/spec/ports", "a list of mappings"),
    ("Service", {"spec": {"ports": [80]}}, "/spec/ports", "a list of mappings"),
    ("Service", {"spec": {"ports": {"port": 80}}}, "/spec/ports", "a list of mappings"),
    ("Job", {"spec": 1}, "/spec", "a mapping"),
    ("Job", {"spec": {"selector": "a"}}, "/spec/selector", "a mapping"),
    ("Job", {"spec": {"selector": {"matchLabels": "a"}}}, "/spec/selector/matchLabels", "a mapping"),
    ("Job", {"spec": {"template": []}}, "/spec/template", "a mapping"),
    ("Job", {"spec": {"template": {"metadata": "a"}}}, "/spec/template/metadata", "a mapping"),
    ("Job", {"spec": {"template": {"metadata": {"labels": ["a"]}}}}, "/spec/template/metadata/labels", "a mapping"),
    ("Thing", {"metadata": {"ownerReferences": "a"}}, "/metadata/ownerReferences", "a list"),
]


@pytest.mark.parametrize(("kind", "more", "pointer", "what"), WRONG)
def test_what_has_another_shape_than_its_kind_is_refused_and_says_where(kind, more, pointer, what):
    name = pointer.rpartition("/")[2]
    assert problems(kind, **more) == [(pointer, "WrongShape", f"`{name}` of a {kind} is {what}")]


RIGHT = [
    ("Secret", {}),
    ("Secret", {"data": None, "stringData": None}),
    ("Secret", {"data": {"a": "YQ=="}, "stringData": {"b": "5432", "c": ""}}),
    ("ConfigMap", {"data": {}, "binaryData": {"a": "YQ=="}}),
    ("Namespace", {"spec": None}),
    ("Namespace", {"spec": {"finalizers": ["kubernetes"]}}),
    ("Service", {"spec": {}}),
    ("Service", {"spec": {"ports": []}}),
    ("Service", {"spec": {"ports": [{"port": 80}]}}),
    ("Job", {"spec": {"selector": None, "template": None}}),
    ("Job", {"spec": {"selector": {"matchLabels": {}}, "template": {"metadata": {"labels": {"a": "b"}}}}}),
    ("Thing", {"spec": "a", "data": {"a": 1}, "stringData": ["a"]}),
]


@pytest.mark.parametrize(("kind", "more"), RIGHT)
def test_what_has_its_shape_or_is_of_a_kind_we_do_not_read_is_accepted(kind, more):
    assert problems(kind, **more) == []


def test_a_value_of_a_secret_is_not_told():
    assert "5432" not in str(problems("Secret", stringData={"port": 5432}))
