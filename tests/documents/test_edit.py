"""One field of somebody's file is set, and nothing else in it changes."""

import pytest

from reconciler.documents.edit import set_field

BLOCK = """\
# why we roll out
kind: Run   # a kind
spec:
    placementName: web  # the shop
    {state}
    stagedRolloutStrategyName: rings
"""

PLAIN = "a: 1\nspec:\n  placementName: web\n  strategy: rings"


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        pytest.param(
            "r.yaml", BLOCK.format(state="state: Run # go"), BLOCK.format(state="state: Stop # go"), id="comments"
        ),
        pytest.param(
            "r.yaml", BLOCK.format(state='state: "Run"'), BLOCK.format(state='state: "Stop"'), id="its quotes"
        ),
        pytest.param(
            "r.yaml", BLOCK.format(state="state:   'Run'"), BLOCK.format(state="state:   'Stop'"), id="spacing"
        ),
        pytest.param("r.yaml", BLOCK.format(state="state:"), BLOCK.format(state="state: Stop"), id="a null"),
        pytest.param("r.yaml", BLOCK.format(state="state: ~"), BLOCK.format(state="state: Stop"), id="a written null"),
        pytest.param("r.yaml", PLAIN + "\n", PLAIN + "\n  state: Stop\n", id="not there yet"),
        pytest.param("r.yaml", PLAIN, PLAIN + "\n  state: Stop\n", id="no newline at the end"),
        pytest.param(
            "r.yaml", (PLAIN + "\nz: 1\n"), PLAIN + "\n  state: Stop\nz: 1\n", id="not there yet, with more behind it"
        ),
        pytest.param(
            "r.yaml",
            PLAIN.replace("\n", "\r\n") + "\r\n",
            PLAIN.replace("\n", "\r\n") + "\r\n  state: Stop\r\n",
            id="line ends of another system",
        ),
        pytest.param("r.yaml", "\ufeff" + PLAIN + "\n", "\ufeff" + PLAIN + "\n  state: Stop\n", id="a byte order mark"),
        pytest.param("r.yaml", "spec: {state: Run, a: b}\n", "spec: {state: Stop, a: b}\n", id="flow"),
        pytest.param(
            "r.yaml", "spec: {a: b} # state: Run\n", "spec: {state: Stop, a: b} # state: Run\n", id="flow, new"
        ),
        pytest.param(
            "r.yaml",
            "state: Run\nspec:\n- 1\n---\n# empty\n---\nspec: {state: Run}\nstate: Run\n",
            "state: Run\nspec:\n- 1\n---\n# empty\n---\nspec: {state: Stop}\nstate: Run\n",
            id="the second document that is not empty",
        ),
        pytest.param(
            "r.json",
            '{\n  "spec": {\n    "a": "b",\n    "state": "Run"\n  }\n}\n',
            '{\n  "spec": {\n    "a": "b",\n    "state": "Stop"\n  }\n}\n',
            id="JSON",
        ),
        pytest.param(
            "r.json",
            '{\n  "spec": {\n    "a": "b"\n  }\n}\n',
            '{\n  "spec": {\n    "state": "Stop",\n    "a": "b"\n  }\n}\n',
            id="JSON, not there yet",
        ),
        pytest.param("r.json", '{"spec":{"state":"Run"}}', '{"spec":{"state":"Stop"}}', id="JSON in a line"),
        pytest.param("r.json", '{"spec":{"a":"b"}}', '{"spec":{"state": "Stop", "a":"b"}}', id="JSON in a line, new"),
        pytest.param("r.json", '"spec": {"state": "Run"}\n', '"spec": {"state": "Stop"}\n', id="a fragment of JSON"),
    ],
)
def test_one_field_changes_and_nothing_else(path, before, after):
    index = 1 if "---" in before else 0
    assert set_field(path, before.encode(), index, ("spec", "state"), "Stop") == after.encode()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("spec:\n  state:\n    Run\n", id="a value on a line of its own"),
        pytest.param("spec:\n  state: |\n    Run\n", id="a block scalar"),
        pytest.param("spec: {}\n", id="an empty mapping"),
        pytest.param("spec: 1\n", id="no mapping"),
        pytest.param("other: {}\n", id="not there"),
        pytest.param("- 1\n", id="a list"),
        pytest.param("", id="nothing"),
        pytest.param("a: [\n", id="a broken file"),
    ],
)
def test_what_cannot_be_proven_is_left_alone(text):
    assert set_field("r.yaml", text.encode(), 0, ("spec", "state"), "Stop") is None
