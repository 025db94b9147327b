"""The schemas are valid, complete in themselves, usable by editors, and name the kinds that the program knows."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from reconciler.core.model import FOLDERS, KINDS, RESOURCES
from reconciler.core.scopes import CLUSTER_SCOPED, NAMESPACED
from reconciler.documents import schema

FOLDER = Path(__file__).parent.parent / "schemas"
SCHEMAS = {kind: json.loads((FOLDER / row.schema).read_text()) for kind, row in KINDS.items()}
WORDED = {"not", "contains", "uniqueItems"}  # keywords whose own message would tell nobody anything


def nodes(value):
    """Give every mapping of a schema, outermost first."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from nodes(inner)


def test_kinds_and_schemas_list_the_same_names():
    assert {file.name for file in FOLDER.glob("*.json")} == {row.schema for row in KINDS.values()}


def test_every_folder_but_resources_has_its_kinds():
    assert {row.folder for row in KINDS.values()} == set(FOLDERS) - {RESOURCES}


def test_no_kind_is_both_namespaced_and_not():
    assert frozenset() == CLUSTER_SCOPED & NAMESPACED


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_is_valid_and_introduces_itself(kind):
    Draft202012Validator.check_schema(SCHEMAS[kind])
    assert SCHEMAS[kind]["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert SCHEMAS[kind]["$id"] == KINDS[kind].schema
    assert SCHEMAS[kind]["title"] == kind
    assert SCHEMAS[kind]["properties"]["kind"] == {"const": kind}
    assert SCHEMAS[kind]["properties"]["apiVersion"]["enum"] == [f"{KINDS[kind].group}/{v}" for v in ("v1beta1", "v1")]
    assert ("namespace" in SCHEMAS[kind]["properties"]["metadata"]["required"]) is KINDS[kind].namespaced
    assert SCHEMAS[kind]["examples"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_refers_to_itself_alone_and_uses_all_it_defines(kind):
    references = {node["$ref"] for node in nodes(SCHEMAS[kind]) if "$ref" in node}
    assert references == {f"#/$defs/{name}" for name in SCHEMAS[kind]["$defs"]}


def test_what_schemas_define_under_one_name_is_one_thing():
    """Each file is complete in itself, for editors; so the shared parts are copies, and must stay equal."""
    first = {name: body for one in SCHEMAS.values() for name, body in one["$defs"].items()}
    assert [kind for kind, one in SCHEMAS.items() for name in one["$defs"] if one["$defs"][name] != first[name]] == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_described_and_no_unknown_one_is_allowed(kind):
    spec = SCHEMAS[kind]["properties"]["spec"]
    fields = [
        (name, field)
        for node in (spec, *SCHEMAS[kind]["$defs"].values())
        for inner in nodes(node)
        if inner.get("additionalProperties") is False
        for name, field in inner["properties"].items()
        if "not" not in field and field != {}
    ]
    assert [name for name, field in fields if "description" not in field and "$ref" not in field] == []
    assert [
        node for node in nodes(spec) if node.get("type") == "object" and node.get("additionalProperties", True) is True
    ] == []


@pytest.mark.parametrize("kind", KINDS)
def test_what_fails_without_words_of_its_own_has_a_message(kind):
    def is_worded(node, keyword):
        own = node.get("x-message")
        return own is not None if not isinstance(own, dict) else keyword in own

    def applies(node):
        return [word for word in WORDED & node.keys() if isinstance(node[word], dict | bool)]

    conditions = [node["if"] for node in nodes(SCHEMAS[kind]) if "if" in node]
    silent = [
        (keyword, node)
        for node in nodes(SCHEMAS[kind])
        for keyword in applies(node)
        if node not in conditions and not is_worded(node, keyword)
    ]
    assert silent == []


def test_the_schemas_of_a_checkout_are_found():
    assert {kind: schema.load(kind) for kind in KINDS} == SCHEMAS
