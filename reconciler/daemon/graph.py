"""Our own values ↔ one JSON text, for what is kept between processes: data alone, which nothing runs when it is read.

`core.codec` writes a value by the type that its reader expects. This writes a graph: what two values share is written
once, and is shared again when it is read, so that a history of many commits stays small. A value is a row of a table
and names earlier rows by their numbers; the last row is the whole. Only the classes of our own model can be named.
"""

import base64
import gc
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from enum import Enum
from functools import cache
from types import ModuleType
from typing import Any

from reconciler.core import history, identity, model, selection, status, view
from reconciler.status_branch import store

_ROOMS: tuple[ModuleType, ...] = (model, identity, selection, status, view, history, store)
"""Whose classes can be written and read."""

_JSON, _BYTES, _TIME, _SPAN, _DICT = "json", "bytes", "time", "span", "dict"
_LITERALS = frozenset({str, int, float, bool})
_SEQUENCES: Mapping[type, str] = {list: "list", tuple: "tuple", set: "set", frozenset: "frozenset"}
_MADE: Mapping[str, type] = {name: kind for kind, name in _SEQUENCES.items()}


@cache
def _classes() -> Mapping[str, type]:
    """Return the classes by their names."""
    found = (one for room in _ROOMS for one in vars(room).values() if isinstance(one, type))
    return {f"{one.__module__}.{one.__qualname__}": one for one in found if one.__module__.startswith("reconciler.")}


@cache
def _name(kind: Any) -> str:
    name = f"{kind.__module__}.{kind.__qualname__}"
    if _classes().get(name) is not kind:
        raise TypeError(f"a value of {name} cannot be kept")
    return name


@cache
def _is_table(kind: Any) -> bool:
    return is_dataclass(kind)


@cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(one.name for one in fields(kind))


# -- writing -------------------------------------------------------------------------------------------------------


def dump(value: Any) -> str:
    """Return the text of a value; raises TypeError for one that holds what is not of our model."""
    return _Writer().text(value)


class _Writer:
    def __init__(self) -> None:
        self._rows: list[Any] = []
        self._known: dict[tuple[Any, ...], int] = {}
        self._seen: dict[int, int] = {}
        self._kept: list[Any] = []  # what is gone could give its id to another

    def text(self, value: Any) -> str:
        self._refer(value)
        return json.dumps(self._rows, separators=(",", ":"))

    def _refer(self, value: Any) -> int:
        """Return the number of the row of a value; equal values that never change have one row."""
        kind: Any = type(value)
        if value is None or kind in _LITERALS:
            return self._shared((kind, value), value)
        at = self._seen.get(id(value))
        if at is None:
            row = self._row(kind, value)
            at = self._shared(tuple(row), row) if _is_frozen(kind) else self._add(row)
            self._seen[id(value)] = at
            self._kept.append(value)
        return at

    def _shared(self, name: tuple[Any, ...], row: Any) -> int:
        at = self._known.get(name)
        if at is None:
            at = self._known[name] = self._add(row)
        return at

    def _add(self, row: Any) -> int:
        self._rows.append(row)
        return len(self._rows) - 1

    def _row(self, kind: Any, value: Any) -> list[Any]:
        if (kind is dict or kind is list) and _is_json(value):
            return [_JSON, value]
        if kind is dict:
            return [_DICT, *(self._refer(one) for pair in value.items() for one in pair)]
        if kind in _SEQUENCES:
            return [_SEQUENCES[kind], *map(self._refer, value)]
        if kind is bytes:
            return [_BYTES, base64.b64encode(value).decode("ascii")]
        if kind is datetime:
            return [_TIME, value.isoformat()]
        if kind is timedelta:
            return [_SPAN, value.days, value.seconds, value.microseconds]
        if issubclass(kind, Enum):
            return [_name(kind), self._refer(value.value)]
        if _is_table(kind):
            return [_name(kind), *(self._refer(getattr(value, one)) for one in _names(kind))]
        return [_name(kind), *(self._refer(one) for pair in vars(value).items() for one in pair)]


@cache
def _is_frozen(kind: Any) -> bool:
    parameters = getattr(kind, "__dataclass_params__", None)
    if parameters is not None:
        return bool(parameters.frozen)
    return kind in (tuple, frozenset, bytes, datetime, timedelta) or issubclass(kind, Enum)


def _is_json(value: Any) -> bool:
    kind = type(value)
    if kind is dict:
        return all(type(key) is str and _is_json(one) for key, one in value.items())
    if kind is list:
        return all(map(_is_json, value))
    return value is None or kind in (str, int, float, bool)


# -- reading -------------------------------------------------------------------------------------------------------


def load(text: str | bytes) -> Any:
    """Return the value of a text that `dump` wrote; whoever reads one makes sure first that it is unharmed.

    Raises:  ValueError, TypeError, KeyError or IndexError for any other text.
    """
    made: list[Any] = []
    with _without_collector():
        for row in json.loads(text):
            made.append(_value(row, made) if type(row) is list else row)
    return made[-1]


@contextmanager
def _without_collector() -> Iterator[None]:
    """Keep the collector of cycles from walking, again and again, through what only grows."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _value(row: list[Any], made: list[Any]) -> Any:
    kind = row[0]
    if kind == _JSON:
        return row[1]
    if kind == _BYTES:
        return base64.b64decode(row[1])
    if kind == _TIME:
        return datetime.fromisoformat(row[1])
    if kind == _SPAN:
        return timedelta(row[1], row[2], row[3])
    held = [made[one] for one in row[1:]]
    if kind in _MADE:
        return _MADE[kind](held)
    if kind == _DICT:
        return dict(zip(held[::2], held[1::2], strict=True))
    return _instance(_classes()[kind], held)


def _instance(kind: Any, held: list[Any]) -> Any:
    if issubclass(kind, Enum):
        return kind(*held)
    if _is_table(kind):
        return kind(**dict(zip(_names(kind), held, strict=True)))
    made = kind.__new__(kind)
    vars(made).update(zip(held[::2], held[1::2], strict=True))
    return made
