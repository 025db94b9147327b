"""Frozen dataclasses ↔ JSON-shaped mappings, by their own annotations; for events and the records kept as files.

Fields that hold their default are left out, so that adding a field with a default does not change old texts.
"""

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")

_PLAIN = (str, int, bool)


def encode_time(moment: datetime) -> str:
    """Return RFC 3339 in UTC with microseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def decode_time(text: str) -> datetime:
    """Read what `encode_time` wrote, with or without a fraction."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} names no time zone")
    return moment


def encode(value: Any) -> Any:
    """Return the value as JSON-shaped data; dataclasses become mappings without their defaults."""
    if is_dataclass(value) and not isinstance(value, type):
        pairs = ((one.name, getattr(value, one.name)) for one in fields(value) if not _is_default(one, value))
        return {name: encode(held) for name, held in pairs}
    if isinstance(value, datetime):
        return encode_time(value)
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): encode(one) for key, one in value.items()}
    return [encode(one) for one in value] if isinstance(value, list | tuple) else value


def decode(kind: type[T], data: Any) -> T:
    """Return an instance of the dataclass `kind`.

    Raises:  ValueError naming the class for data that does not fit it.
    """
    try:
        result: T = _decode(kind, data)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"not a {kind.__name__}: {error!r}") from error
    return result


def _is_default(one: Field[Any], value: Any) -> bool:
    held = getattr(value, one.name)
    if one.default is not MISSING:
        return bool(held == one.default)
    return one.default_factory is not MISSING and bool(held == one.default_factory())


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _decode(hint: Any, data: Any) -> Any:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        inner = [one for one in typing.get_args(hint) if one is not type(None)]
        return None if data is None else _decode(inner[0], data)
    if origin is tuple:
        return tuple(_decode(typing.get_args(hint)[0], one) for one in data)
    if origin is not None and issubclass(origin, Mapping):
        held = typing.get_args(hint)[1]
        return dict(data) if held is Any else {key: _decode(held, one) for key, one in data.items()}
    if is_dataclass(hint):
        hints = _hints(typing.cast("type", hint))
        return hint(**{name: _decode(hints[name], one) for name, one in data.items()})  # type: ignore[operator]
    if hint is datetime:
        return decode_time(data)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return hint(data)
    if hint in _PLAIN and type(data) is not hint:
        raise ValueError(f"{data!r} is no {hint.__name__}")
    return data
