"""Setting one field in the text that somebody wrote, everything else left as it stands.

An edit is a guess about the text, proven by reading the result back: it counts only if the file then says exactly
what it said before, but for that field. What cannot be proven is left to a person.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.documents import yaml
from reconciler.documents.yaml import Raw, escape

_BOM = "\ufeff"


def set_field(path: str, data: bytes, index: int, field: tuple[str, str], value: str) -> bytes | None:
    """Return the file with a field set to a plain string, changing or adding as little as possible.

    Shape:   `index` is the document's number among those that are not empty; `field` is a mapping at its top, and the
             key in it.
    Raises:  nothing; None when the file cannot be read, or no small edit gives exactly what is wanted.
    """
    parent, key = field
    before = _values(path, data)
    if before is None or not 0 <= index < len(before):
        return None
    raw = before[index]
    mapping = raw.value.get(parent) if isinstance(raw.value, Mapping) else None
    if not isinstance(mapping, Mapping):
        return None
    wanted = [one.value for one in before]
    wanted[index] = {**raw.value, parent: {**mapping, key: value}}
    text = data.decode()
    bom, lines = _BOM if text.startswith(_BOM) else "", text.removeprefix(_BOM).splitlines(keepends=True)
    for edited in _guesses(lines, raw, parent, key, value):
        result = (bom + "".join(edited)).encode()
        after = _values(path, result)
        if after is not None and [one.value for one in after] == wanted:
            return result
    return None


def _values(path: str, data: bytes) -> list[Raw] | None:
    read = yaml.read(path, data, lines=True)
    return None if read.problems else [one for one in read.documents if one.value is not None]


def _guesses(lines: list[str], raw: Raw, parent: str, key: str, value: str) -> Iterator[list[str]]:
    """Yield the text with the field set in every way that may be right, the smallest edit first."""
    mapping: Mapping[str, Any] = raw.value[parent]
    held = {name: raw.lines[f"/{escape(parent)}/{escape(name)}"] - 1 for name in mapping}
    if key in held:
        yield from _replaced(lines, held[key], key, value)
        return
    if held:
        yield from _added(lines, held, key, value)


def _replaced(lines: list[str], at: int, key: str, value: str) -> Iterator[list[str]]:
    """Replace the value behind the key, keeping the quotes that are there."""
    pattern = re.compile(rf"""((["']?){re.escape(key)}\2\s*:[ \t]*)(?:(["'])[^"']*\3|[^\s,}}#"']*)""")
    for match in pattern.finditer(lines[at]):
        quote = match[3] or ('"' if match[2] == '"' else "")
        spaced = match[1] if match[1][-1] in " \t" or match[2] == '"' else match[1] + " "
        line = lines[at]
        new = f"{line[: match.start()]}{spaced}{quote}{value}{quote}{line[match.end() :]}"
        yield [*lines[:at], new, *lines[at + 1 :]]


def _added(lines: list[str], held: Mapping[str, int], key: str, value: str) -> Iterator[list[str]]:
    """Add the field: as a line after the last one of the mapping, before its first, or within a line."""
    last, first = max(held.values()), min(held.values())
    end = "\r\n" if lines[last].endswith("\r\n") else "\n"
    whole = lines[last] if lines[last].endswith("\n") else lines[last] + end
    yield [*lines[:last], whole, f"{_indent(lines[last])}{key}: {value}{end}", *lines[last + 1 :]]
    member = f"{json.dumps(key)}: {json.dumps(value)}"
    yield [*lines[:first], f"{_indent(lines[first])}{member},{end}", *lines[first:]]
    for name, at in held.items():
        for match in re.finditer(rf"""(["']?){re.escape(name)}\1\s*:""", lines[at]):
            pair = member if match[1] == '"' else f"{key}: {value}"
            new = f"{lines[at][: match.start()]}{pair}, {lines[at][match.start() :]}"
            yield [*lines[:at], new, *lines[at + 1 :]]


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip(" \t"))]
