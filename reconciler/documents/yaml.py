"""Text ↔ JSON values: the only place that imports PyYAML.

`read` takes whatever bytes somebody committed and answers with values or with problems; it never raises,
never recurses, and costs no more than its limits allow. `dump` writes values as kubectl prints them.

A reviewer must read in a file what the program reads in it. So scalars are typed as JSON types them (`on`,
`010`, `1:30` and dates are strings), and whatever has a second reading is refused: duplicate keys, aliases,
merge keys, tags, keys that are no strings, control characters and line breaks that no editor shows.
A byte order mark at the very beginning is skipped, as kubectl does; CRLF is a line break.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType, SimpleNamespace
from typing import Any

import yaml

from reconciler.core.model import Problem

MAX_BYTES = 2 * 1024 * 1024  # an object of a cluster has up to 1 MiB, and is longer as text
MAX_DEPTH = 64
MAX_DOCUMENTS = 200
MAX_EVENTS = 200_000
MAX_NUMBER_LENGTH = 400
WIDTH = 80

# What YAML calls printable, without NEL, LS and PS: YAML breaks lines there and editors do not, so that a comment
# would end, and content begin, where nobody sees it. The same holds for a carriage return on its own.
_UNREADABLE = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]|\r(?!\n)"
)
_NUMERIC = frozenset("-0123456789")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_CONSTANTS: Mapping[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_JSON_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]]|[^\s{}\[\],:"]+')
_STRING_TAG = "tag:yaml.org,2002:str"
_HINTS = {
    "found character that cannot start any token": "indent with spaces, not tabs; quote values that begin with @ or `",
    "found a tab character that violates indentation": "indent with spaces, not tabs",
    "mapping values are not allowed in this context": "put a value that contains `: ` in quotes",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """One document: its value, its first line (from 1) and, when asked for, the line of every JSON pointer in it."""

    value: Any
    line: int
    lines: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What a file holds. With `problems` there are no documents; an empty document has the value None."""

    documents: tuple[Raw, ...] = ()
    problems: tuple[Problem, ...] = ()


def read(path: str, data: bytes, *, lines: bool = False) -> Read:
    """Read a file of YAML documents, or of JSON when the name ends in `.json`.

    Shape:   `lines` fills `Raw.lines`; it costs time and memory, so it is asked for only where it is used.
    Raises:  nothing, whatever the bytes; the first thing that is wrong is the one `Problem`.
    """
    try:
        return Read(documents=tuple(_documents(_events(path, _decode(data)), lines=lines)))
    except _RefusedError as refused:
        return Read(problems=(refused.problem(path),))


def dump(value: Any) -> str:
    """Write a JSON value as YAML, always in the same way; `read` gives the equal value back."""
    try:
        return "\n".join((*_lines(value), ""))
    except _OddError:
        return _by_library(value)


class _RefusedError(Exception):
    """Reading ends here. Its message never quotes a value, which may be a Secret's; names of keys it may quote."""

    def __init__(self, rule: str, line: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self._rule, self._line, self._message, self._hint = rule, line, message, hint

    def problem(self, path: str) -> Problem:
        return Problem(path=path, line=self._line, rule=self._rule, message=self._message, hint=self._hint)


# -- bytes to text -------------------------------------------------------------------------------------------


def _decode(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        message = f"the file has {len(data)} bytes; {MAX_BYTES} are allowed"
        raise _RefusedError("TooLarge", 0, message, "split it; an object this large would not fit into a cluster")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _RefusedError("NotUtf8", 1, "the file is UTF-16", "save it as UTF-8")
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _RefusedError("NotUtf8", line, "the file is not UTF-8 text", "save it as UTF-8") from error
    if unreadable := _UNREADABLE.search(text):
        line = text.count("\n", 0, unreadable.start()) + 1
        message = f"the character U+{ord(unreadable.group()):04X} is not allowed"
        raise _RefusedError("ControlCharacter", line, message, "write it as an escape in double quotes, if it is meant")
    return text


# -- text to events --------------------------------------------------------------------------------------------


def _events(path: str, text: str) -> Iterator[Any]:
    """Return the parser's events; JSON text in a `.json` file is read as JSON, anything else as YAML."""
    if path.lower().endswith(".json"):
        fragment = text.lstrip().startswith('"')  # members without the braces around them, as in a patch file
        whole = f"{{{text}}}" if fragment else text
        if _is_json(whole):
            return _json_events(whole)
    return iter(yaml.CSafeLoader(text).get_event, None)


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _json_events(text: str) -> Iterator[Any]:
    """Give the events that YAML would give for this text, which is known to be JSON; YAML knows no surrogate pairs."""
    line, end = 0, 0
    yield yaml.DocumentStartEvent(start_mark=_mark(0))
    for token in _JSON_TOKEN.finditer(text):
        line += text.count("\n", end, token.start())
        end = token.start()
        yield _json_event(token.group(), _mark(line))
    yield yaml.DocumentEndEvent()


def _mark(line: int) -> Any:
    return SimpleNamespace(line=line)  # all that is asked of a mark; the parser's own class wants much more


def _json_event(token: str, mark: Any) -> Any:
    if token in _BRACKETS:
        return _BRACKETS[token](mark)
    if not token.startswith('"'):
        return yaml.ScalarEvent(None, None, (True, False), token, start_mark=mark)
    value = json.loads(token)
    if not _is_unicode(value):
        raise _RefusedError("InvalidJson", mark.line + 1, "a string holds half of a surrogate pair")
    return yaml.ScalarEvent(None, None, (False, True), value, start_mark=mark, style='"')


_BRACKETS: Mapping[str, Callable[[Any], Any]] = {
    "{": lambda mark: yaml.MappingStartEvent(None, None, implicit=True, start_mark=mark),
    "}": lambda mark: yaml.MappingEndEvent(start_mark=mark),
    "[": lambda mark: yaml.SequenceStartEvent(None, None, implicit=True, start_mark=mark),
    "]": lambda mark: yaml.SequenceEndEvent(start_mark=mark),
}


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


# -- events to values --------------------------------------------------------------------------------------------


def _documents(events: Iterator[Any], *, lines: bool) -> list[Raw]:
    builder = _Builder(lines=lines)
    handlers = {
        yaml.ScalarEvent: builder.scalar,
        yaml.MappingStartEvent: builder.mapping,
        yaml.SequenceStartEvent: builder.sequence,
        yaml.MappingEndEvent: builder.end,
        yaml.SequenceEndEvent: builder.end,
        yaml.AliasEvent: builder.alias,
        yaml.DocumentStartEvent: builder.start_document,
        yaml.DocumentEndEvent: builder.end_document,
    }
    try:
        for count, event in enumerate(events):
            if count >= MAX_EVENTS:
                raise _RefusedError("TooMany", 0, f"the file has more than {MAX_EVENTS} values", "split it")
            if handler := handlers.get(type(event)):
                handler(event)
    except yaml.MarkedYAMLError as error:
        raise _invalid_yaml(error) from error
    except (yaml.YAMLError, ValueError) as error:
        raise _RefusedError("InvalidYaml", 0, "the file is not YAML") from error
    return builder.documents


def _invalid_yaml(error: yaml.MarkedYAMLError) -> _RefusedError:
    """Word the parser's error; its own texts are constants and hold nothing of the file."""
    mark = error.problem_mark or error.context_mark
    problem = error.problem or "cannot be read"
    message = f"not valid YAML: {problem}" + (f" {error.context}" if error.context else "")
    return _RefusedError("InvalidYaml", mark.line + 1 if mark else 0, message, _HINTS.get(problem, ""))


class _Builder:
    """Puts values together, one event at a time; `_key` is the key that waits for its value."""

    def __init__(self, *, lines: bool) -> None:
        self.documents: list[Raw] = []
        self._with_lines = lines
        self._started = 0
        self._reset()

    def _reset(self) -> None:
        self._root: Any = None
        self._line = 0
        self._lines: dict[str, int] = {}
        self._outer: list[tuple[dict[str, Any] | None, list[Any] | None, str]] = []
        self._mapping: dict[str, Any] | None = None
        self._list: list[Any] | None = None
        self._key: str | None = None
        self._pointer = ""

    def start_document(self, event: Any) -> None:
        self._started += 1
        if self._started > MAX_DOCUMENTS:
            message = f"the file has more than {MAX_DOCUMENTS} documents"
            raise _RefusedError("TooMany", _line(event), message, "split it")
        self._reset()

    def end_document(self, _event: Any) -> None:
        self.documents.append(Raw(value=self._root, line=self._line, lines=self._lines))

    def scalar(self, event: Any) -> None:
        value = event.value
        if event.tag is not None:
            _check_tag(event, _STRING_TAG)
        elif not event.style and (value in _CONSTANTS or value[0] in _NUMERIC):
            value = _typed(event)
        if self._mapping is None:
            self._put(value, event)
        elif self._key is None:
            self._key = self._checked_key(value, event)
        else:
            self._mapping[self._key] = value
            self._key = None

    def mapping(self, event: Any) -> None:
        self._begin({}, None, event, "tag:yaml.org,2002:map")

    def sequence(self, event: Any) -> None:
        self._begin(None, [], event, "tag:yaml.org,2002:seq")

    def end(self, _event: Any) -> None:
        self._mapping, self._list, self._pointer = self._outer.pop()

    def alias(self, event: Any) -> None:
        message = "aliases (`*name`) are not allowed"
        raise _RefusedError("Alias", _line(event), message, "write the value out where it is used")

    def _begin(self, mapping: dict[str, Any] | None, items: list[Any] | None, event: Any, tag: str) -> None:
        if len(self._outer) >= MAX_DEPTH:
            raise _RefusedError("TooDeep", _line(event), f"nested deeper than {MAX_DEPTH} levels")
        if event.tag is not None:
            _check_tag(event, tag)
        pointer = self._put(items if mapping is None else mapping, event)
        self._outer.append((self._mapping, self._list, self._pointer))
        self._mapping, self._list, self._pointer = mapping, items, pointer

    def _put(self, value: Any, event: Any) -> str:
        """Put a value where it belongs and return its pointer (empty unless lines are asked for)."""
        if self._mapping is not None:
            return self._put_under_key(self._mapping, value, event)
        if self._list is None:
            self._root, self._line, pointer = value, _line(event), ""
        else:
            pointer = f"{self._pointer}/{len(self._list)}" if self._with_lines else ""
            self._list.append(value)
        if self._with_lines:
            self._lines[pointer] = _line(event)
        return pointer

    def _put_under_key(self, mapping: dict[str, Any], value: Any, event: Any) -> str:
        key, self._key = self._key, None
        if key is None:
            raise _RefusedError("KeyNotString", _line(event), "a key must be a string, not a mapping or list")
        mapping[key] = value
        return f"{self._pointer}/{escape(key)}" if self._with_lines else ""  # its line is that of the key

    def _checked_key(self, key: Any, event: Any) -> str:
        if type(key) is not str:
            raise _RefusedError("KeyNotString", _line(event), "a key must be a string", "put it in quotes")
        if self._mapping is not None and key in self._mapping:
            raise _RefusedError("DuplicateKey", _line(event), f"the key `{key[:100]}` is there twice")
        if key == "<<" and not event.style:
            raise _RefusedError("MergeKey", _line(event), "merge keys (`<<`) are not allowed", "write the fields out")
        if self._with_lines:
            self._lines[f"{self._pointer}/{escape(key)}"] = _line(event)
        return key


def escape(key: str) -> str:
    """Return a key as it stands in a JSON pointer."""
    return key.replace("~", "~0").replace("/", "~1")


def _line(event: Any) -> int:
    line: int = event.start_mark.line
    return line + 1


# -- scalars ---------------------------------------------------------------------------------------------------


def _typed(event: Any) -> Any:
    """Type a plain scalar as JSON would: constants and JSON numbers, all else is a string."""
    text = event.value
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    return _number(event) if _NUMBER.fullmatch(text) else text


def _number(event: Any) -> int | float:
    """Read a JSON number as Go keeps it: 64 bits of integer, else a float; `1.0` and `1e3` are whole numbers."""
    text = event.value
    if len(text) > MAX_NUMBER_LENGTH:
        raise _RefusedError("InvalidNumber", _line(event), "a number is too long", "put it in quotes if it is text")
    number = float(text)
    if not math.isfinite(number):
        raise _RefusedError("InvalidNumber", _line(event), "a number is too large", "put it in quotes if it is text")
    whole = int(text) if text.lstrip("-").isdigit() else number
    if not -(2**63) <= whole < 2**63:
        return number
    return int(whole) if whole == int(whole) else number


def _check_tag(event: Any, allowed: str) -> None:
    """Refuse a tag, unless it says what is so anyway; `!!str` makes a string as quotes do."""
    if event.tag != allowed:
        hint = "leave it out; quotes make a string"
        raise _RefusedError("Tag", _line(event), "tags (`!name`) are not allowed", hint)


# -- values to text ----------------------------------------------------------------------------------------------

_OLD_BOOLEANS = frozenset("yYnN")


class _Dumper(yaml.CSafeDumper):
    """Block style, sorted keys, lists at the column of their key, no aliases."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the signature is PyYAML's
        return True


def _write_string(dumper: Any, value: str) -> Any:
    """Quote what YAML 1.1 or our own reader would take for something else; several lines become a literal block."""
    text = str(value)
    misread = dumper.resolve(yaml.ScalarNode, text, (True, False)) != _STRING_TAG or text in _OLD_BOOLEANS
    if misread or text in _CONSTANTS or _NUMBER.fullmatch(text) or _UNREADABLE.search(text):
        style = '"'
    else:
        style = "|" if "\n" in text else ""
    return dumper.represent_scalar(_STRING_TAG, text, style=style or None)


def _write_float(dumper: Any, value: float) -> Any:
    if not math.isfinite(value):
        raise ValueError("a number that is not finite has no place in a manifest")
    return dumper.represent_float(value)


_Dumper.add_multi_representer(str, _write_string)  # enums
_Dumper.add_representer(str, _write_string)
_Dumper.add_representer(float, _write_float)
_Dumper.add_multi_representer(dict, _Dumper.represent_dict)
_Dumper.add_multi_representer(MappingProxyType, _Dumper.represent_dict)


def _by_library(value: Any, width: int = WIDTH) -> str:
    text: str = yaml.dump(value, Dumper=_Dumper, allow_unicode=True, default_flow_style=False, width=width)
    return text


# -- the same text, sooner: a status file is long, and most of what it says was said in the one before -----------------

_SHORT = 200
"""Only texts up to this length are remembered."""

_REMEMBERED = 65536
_UNLIMITED = 2**30
_MAPPINGS = (dict, MappingProxyType)


class _OddError(Exception):
    """The value has something that only the library writes rightly."""


class Written:
    """A mapping in a larger value that is the same from one text to the next: it is written once for each column."""

    __slots__ = ("_texts", "value")

    def __init__(self, value: Mapping[str, Any]) -> None:
        """`value` is not empty, and nobody changes it any more."""
        self.value = value
        self._texts: dict[int, str] = {}

    def at(self, column: int) -> str:
        """Return its lines, whose keys begin at this column."""
        if column not in self._texts:
            lines: list[str] = []
            _mapping(lines, self.value, column, " " * column)
            self._texts[column] = "\n".join(lines)
        return self._texts[column]


_Dumper.add_representer(Written, lambda dumper, one: dumper.represent_data(one.value))


def _lines(value: Any) -> list[str]:
    """Return the lines that the library would write, which also says how every single text looks."""
    lines: list[str] = []
    if isinstance(value, _MAPPINGS) and value:
        _mapping(lines, value, 0, "")
    elif type(value) in (list, tuple) and value:
        _items(lines, value, 0, "")
    else:
        raise _OddError
    return lines


def _mapping(lines: list[str], value: Mapping[Any, Any], indent: int, start: str) -> None:
    """Add the lines of a mapping at a column; `start` is what stands before it on its first line."""
    if {*map(type, value)} != {str}:
        raise _OddError
    for key in sorted(value):
        one, name = value[key], start + _name(key)
        if isinstance(one, _MAPPINGS) and one:
            lines.append(name)
            _mapping(lines, one, indent + 2, " " * (indent + 2))
        elif type(one) in (list, tuple) and one:
            lines.append(name)
            _items(lines, one, indent, " " * indent)
        elif type(one) is Written:
            lines += (name, one.at(indent + 2))
        else:
            text = _text(one)
            fits = text and (len(name) + len(text) < WIDTH or " " not in text)
            lines.append(f"{name} {text}" if fits else start + _several_lines(key, str(one), indent))
        start = " " * indent


def _items(lines: list[str], value: Iterable[Any], indent: int, start: str) -> None:
    """Add the lines of a list whose dashes are at a column."""
    for one in value:
        if isinstance(one, _MAPPINGS) and one:
            _mapping(lines, one, indent + 2, f"{start}- ")
        elif type(one) in (list, tuple) and one:
            _items(lines, one, indent + 2, f"{start}- ")
        elif type(one) is Written:
            lines.append(f"{start}- {one.at(indent + 2)[indent + 2 :]}")
        else:
            text = _text(one)
            fits = text and (len(start) + 2 + len(text) <= WIDTH or " " not in text)
            lines.append(f"{start}- {text}" if fits else start + _several_lines(None, str(one), indent))
        start = " " * indent


def _text(value: Any) -> str:
    """Return a scalar as it looks on one line, empty for a text that is long or has several lines anyway."""
    if isinstance(value, str):
        text = value if type(value) is str else str(value)
        return _on_one_line(text) if len(text) <= _SHORT else ""
    if type(value) is int:
        return str(value)
    if type(value) is bool:
        return "true" if value else "false"
    if value is None:
        return "null"
    written = _by_library([value])[2:-1]
    if "\n" in written:
        raise _OddError
    return written


@lru_cache(maxsize=_REMEMBERED)
def _on_one_line(text: str) -> str:
    written = _by_library([text], _UNLIMITED)
    return written[2:-1] if written.count("\n") == 1 else ""


@lru_cache(maxsize=_REMEMBERED)
def _name(key: str) -> str:
    written = _by_library({key: 0})
    if written.startswith("? "):
        raise _OddError
    return written.removesuffix(" 0\n")


def _several_lines(key: str | None, text: str, indent: int) -> str:
    """Return the lines of an entry (`key` None: of a list), without what stands before it on the first."""
    write = _entry if len(text) <= 5 * _SHORT else _entry.__wrapped__
    return write(key, text, indent)


@lru_cache(maxsize=_REMEMBERED)
def _entry(key: str | None, text: str, indent: int) -> str:
    if text.endswith("\n\n") or text == "\n":
        raise _OddError  # what follows decides how its end is written
    value: Any = {"a": [text]} if key is None else {key: text}
    above = indent // 2
    for _ in range(above):
        value = {"a": value}
    written = _by_library(value).split("\n", above + (key is None))[-1]
    return written[indent:-1]
