"""Whether a document of one of our kinds has the shape that its JSON Schema asks for, and in plain words why not.

The schemas are the files of `schemas/`, one per kind, complete in themselves, so that editors can use them as
they are. A fast validator decides; a slower one words what is wrong, and is imported only then. Where a schema
has an `x-message` (one text, or one per keyword) beside what failed, that is what people read.
Values are never quoted in a message; names of fields are.
"""

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconciler import redact
from reconciler.core.model import KINDS, Document, Problem
from reconciler.documents.yaml import escape

if TYPE_CHECKING:
    import jsonschema_rs

MAX_PROBLEMS = 20

_PACKAGE = Path(__file__).resolve().parent.parent
_TYPES = {
    "object": "a mapping",
    "array": "a list",
    "string": "a string",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}
_LIMITS = {
    "maxLength": "must have at most {} characters",
    "minLength": "must have at least {} character(s)",
    "maxItems": "must have at most {} item(s)",
    "minItems": "must have at least {} item(s)",
    "maximum": "must be at most {}",
    "minimum": "must be at least {}",
    "pattern": "must match {}",
    "uniqueItems": "must not hold the same item twice",
}


def check(document: Document) -> tuple[Problem, ...]:
    """Return what is wrong with a document of one of `KINDS`, in the order of its lines, at most `MAX_PROBLEMS`."""
    validator = _validator(document.kind)
    if validator.is_valid(document.body):
        return ()
    problems = set(_problems(document)) or set(_unworded(document, validator))
    return tuple(sorted(problems, key=lambda one: (one.line, one.pointer, one.message))[:MAX_PROBLEMS])


def load(kind: str) -> dict[str, Any]:
    """Return the schema of a kind: from the installed package, or from the checkout that the package stands in."""
    name = KINDS[kind].schema
    installed = _PACKAGE / "schemas" / name
    file = installed if installed.is_file() else _PACKAGE.parent / "schemas" / name
    schema: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return schema


@cache
def _validator(kind: str) -> "jsonschema_rs.Validator":
    import jsonschema_rs  # noqa: PLC0415 - nothing heavy is imported before it is used

    return jsonschema_rs.validator_for(load(kind))


@cache
def _wording_validator(kind: str) -> Any:
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - slow to import, and needed only for a bad document
    from referencing import Registry  # noqa: PLC0415 - as above

    registry: Registry[Any] = Registry()  # nothing is ever fetched: a schema refers to itself alone
    return Draft202012Validator(load(kind), registry=registry)


def _problems(document: Document) -> Iterator[Problem]:
    errors = list(_wording_validator(document.kind).iter_errors(document.body))
    wrong_type = {tuple(error.absolute_path) for error in errors if error.validator == "type"}
    for error in errors:
        if error.validator == "type" or tuple(error.absolute_path) not in wrong_type:
            yield from _worded(document, error)


def _unworded(document: Document, validator: "jsonschema_rs.Validator") -> Iterator[Problem]:
    """Report what only the deciding validator saw; the two read a few regular expressions differently."""
    for error in validator.iter_errors(document.body):
        yield _problem(document, error.instance_path, "Schema", "does not have the form that the schema asks for")


def _worded(document: Document, error: Any) -> Iterator[Problem]:
    path, keyword = list(error.absolute_path), str(error.validator)
    if keyword == "additionalProperties":
        known = error.schema["properties"]
        for field in sorted(error.instance.keys() - known.keys()):
            message = f"unknown field `{redact.line(field, 80)}`"
            yield _problem(document, [*path, field], f"Schema/{keyword}", message, _did_you_mean(field, known))
        return
    if "propertyNames" in error.absolute_schema_path:
        path.append(str(error.instance))
    message, hint = _wording(error, keyword)
    yield _problem(document, path, f"Schema/{keyword}", message, hint)


def _wording(error: Any, keyword: str) -> tuple[str, str]:
    """Return the message and the hint for one error; the schema's own words come first."""
    own = error.schema.get("x-message")
    message = own.get(keyword) if isinstance(own, Mapping) else own
    if keyword == "type":
        return _type_wording(error)
    if keyword == "required":
        missing = [name for name in error.validator_value if name not in error.instance]
        return message or f"{_listed(missing)} {'is' if len(missing) == 1 else 'are'} required", ""
    if keyword in ("enum", "const"):
        allowed = error.validator_value if keyword == "enum" else [error.validator_value]
        return message or f"must be {_listed(allowed, ' or ')}", _did_you_mean(error.instance, allowed)
    return message or _LIMITS.get(keyword, "does not have the form that the schema asks for").format(
        error.validator_value
    ), ""


def _type_wording(error: Any) -> tuple[str, str]:
    wanted = [error.validator_value] if isinstance(error.validator_value, str) else error.validator_value
    message = f"must be {' or '.join(_TYPES[one] for one in wanted if one in _TYPES)}, not {_type_of(error.instance)}"
    if error.instance is None:
        return message, "leave the field out, or fill it in"
    if "string" in wanted and isinstance(error.instance, bool | int | float):
        return message, "put it in quotes"
    if "integer" in wanted and isinstance(error.instance, str):
        return message, "write a number, without quotes"
    return message, ""


def _type_of(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, dict | list | str):
        return _TYPES[{dict: "object", list: "array", str: "string"}[type(value)]]
    return _TYPES["boolean"] if isinstance(value, bool) else "a number"


def _listed(names: Iterable[Any], last: str = " and ") -> str:
    return last.join(f"`{name}`" for name in names if name is not None)


def _did_you_mean(word: Any, known: Iterable[Any]) -> str:
    folded = {str(one).lower(): str(one) for one in known if one}
    found = difflib.get_close_matches(str(word).lower()[:100], folded, n=1)
    return f"did you mean `{folded[found[0]]}`?" if found else ""


def _problem(document: Document, path: Iterable[str | int], rule: str, message: str, hint: str = "") -> Problem:
    pointer = "".join(f"/{escape(str(part))}" for part in path)
    return Problem(
        path=document.path, line=document.line_of(pointer), pointer=pointer, rule=rule, message=message, hint=hint
    )
