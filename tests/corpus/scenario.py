"""One recorded scenario: a folder with `inputs.yaml` (what was done), `steps.md` (when a state was recorded) and
`result.yaml` (what there was to see then).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

FILES = ("inputs.yaml", "steps.md", "result.yaml")
_RECORD = re.compile(r"^(\d+)\. \(t\+[\d.]+s\) RECORD state '(.*)'$", re.MULTILINE)


class NotAScenario(ValueError):
    """The folder is not of the form of a recording; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A recording. `steps` are in order, each with its `op`; `record` stands where a state was written down."""

    name: str
    steps: tuple[Mapping[str, Any], ...]
    result: Mapping[str, Any]

    def states(self) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
        """Yield the recorded states: label and objects; `final` is the last one, where it was reached later."""
        states = self.result.get("states", ())
        for number, state in enumerate(states):
            objects = [one for found in state["objects"].values() for one in found]
            if number == len(states) - 1 and "final" in self.result:
                final = self.result["final"]["object"]
                objects = [final if _is_same(one, final) else one for one in objects]
            yield state["label"], objects


def _is_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return bool(one["kind"] == other["kind"] and one["metadata"]["name"] == other["metadata"]["name"])


def scenarios(folder: Path) -> list[Path]:
    """Return the folder itself when it is a scenario, else the scenarios in it.

    Raises:  NotAScenario when it is neither.
    """
    if (folder / FILES[0]).is_file():
        return [folder]
    found = sorted(one.parent for one in folder.glob(f"*/{FILES[0]}"))
    if not found:
        raise NotAScenario(f"{folder}: neither it nor a folder in it holds {FILES[0]}")
    return found


def read(folder: Path) -> Scenario:
    """Read a scenario.

    Raises:  NotAScenario for a missing or unreadable file, or one of another form.
    """
    try:
        texts = [(folder / name).read_text(encoding="utf-8") for name in FILES]
        inputs, result = (yaml.load(text, yaml.CSafeLoader) for text in (texts[0], texts[2]))
        steps = [*inputs["steps"], *_records(texts[1])]
        steps.sort(key=lambda one: int(one["step"]))
        labels = [one["label"] for one in result.get("states", ())]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise NotAScenario(f"{folder}: {type(error).__name__}: {error}") from error
    if labels != [one["label"] for one in steps if one["op"] == "record"]:
        raise NotAScenario(f"{folder}: steps.md and result.yaml name different states")
    return Scenario(name=folder.name, steps=tuple(steps), result=cast("Mapping[str, Any]", result))


def _records(text: str) -> Iterator[dict[str, Any]]:
    for number, label in _RECORD.findall(text):
        yield {"step": int(number), "op": "record", "label": label}
