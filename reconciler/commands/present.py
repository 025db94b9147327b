"""Tables, trees and colours: how what was read is laid out. Nothing here knows what it shows.

Everything goes to stdout or stderr through `say` and `warn`, so that no control character of a file reaches a terminal.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from reconciler import redact

if TYPE_CHECKING:
    from rich.console import Console
    from rich.tree import Tree

_NARROWEST, _GAP = 6, 3
"""kubectl's table: no column below six characters, three between a column's longest cell and the next."""
_CELL = 10_000


def say(*lines: str) -> None:
    """Write lines to stdout, at once: somebody may be reading along."""
    sys.stdout.write("".join(redact.text(line) + "\n" for line in lines))
    sys.stdout.flush()


def warn(text: str) -> None:
    """Write a line to stderr: what is said beside the result."""
    sys.stderr.write(redact.text(text) + "\n")


# -- time ---------------------------------------------------------------------------------------------------


def human_duration(span: timedelta) -> str:
    """Return a span as kubectl shows ages: two or three figures, the finer the shorter it is."""
    if span <= timedelta(seconds=-2):
        return "<invalid>"  # the other clock is ahead of ours; less than that is as good as now
    seconds = max(0, int(span.total_seconds()))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 2 * 60:
        return f"{seconds}s"
    if minutes < 3 * 60:
        return _two(minutes, "m", seconds % 60, "s", both=minutes < 10)  # noqa: PLR2004 - kubectl's own steps
    if hours < 2 * 24:
        return _two(hours, "h", minutes % 60, "m", both=hours < 8)  # noqa: PLR2004
    if days < 2 * 365:
        return _two(days, "d", hours % 24, "h", both=days < 8)  # noqa: PLR2004
    return _two(days // 365, "y", days % 365, "d", both=days < 8 * 365)


def _two(large: int, unit: str, small: int, sub: str, *, both: bool) -> str:
    return f"{large}{unit}{small}{sub}" if both and small else f"{large}{unit}"


def age(since: datetime | None, now: datetime) -> str:
    """Return how long ago a moment was, as kubectl shows it."""
    return human_duration(now - since) if since is not None else "<unknown>"


# -- tables ---------------------------------------------------------------------------------------------------


class Table:
    """A table with kubectl's spacing. Columns never become narrower, so rows that come later line up."""

    def __init__(self, header: Sequence[str], *, headless: bool = False) -> None:
        """`headless` leaves the header out, and it counts for no width."""
        self._header = None if headless else tuple(header)
        self._widths = [_NARROWEST] * len(header)

    def lines(self, rows: Iterable[Sequence[str]]) -> list[str]:
        """Return the rows as lines; the first call puts the header in front."""
        cells = [tuple(redact.line(cell, _CELL) for cell in row) for row in rows]
        if self._header is not None and cells:
            cells.insert(0, self._header)
            self._header = None
        for row in cells:
            self._widths = [max(width, len(cell) + _GAP) for width, cell in zip(self._widths, row, strict=True)]
        return [self._line(row) for row in cells]

    def _line(self, row: Sequence[str]) -> str:
        padded = [cell.ljust(width) for cell, width in zip(row[:-1], self._widths, strict=False)]
        return "".join([*padded, row[-1]])


def small_table(header: Sequence[str], rows: Iterable[Sequence[str]], indent: str = "  ") -> list[str]:
    """Return a table inside a description: a rule below the header, two spaces between columns."""
    cells = [tuple(redact.line(cell) for cell in row) for row in rows]
    every = [tuple(header), tuple("-" * len(name) for name in header), *cells]
    widths = [max(len(row[number]) for row in every) for number in range(len(header))]
    return [
        indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in every
    ]


# -- descriptions -----------------------------------------------------------------------------------------------


def title(name: str) -> str:
    """Return a field's name as `kubectl describe` writes it, `Placement Name`; a key that is no field stays."""
    if not name.isalnum():
        return name
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return words[:1].upper() + words[1:]


def fields(pairs: Iterable[tuple[str, str]], indent: str = "") -> list[str]:
    """Return `Name:  value` lines with the values in one column; a value of several lines stays in it."""
    found = [(name, value.split("\n")) for name, value in pairs]
    width = max((len(name) for name, _ in found), default=0) + 3
    lines = []
    for name, values in found:
        labels = [name + ":", *[""] * (len(values) - 1)]
        lines += [
            (indent + label.ljust(width) + redact.line(value, _CELL)).rstrip()
            for label, value in zip(labels, values, strict=True)
        ]
    return lines


_USERS = ("annotations", "binaryData", "data", "labels", "matchLabels", "stringData")
"""Fields whose keys somebody chose; they are shown as they are."""


def nested(body: Mapping[str, Any], indent: str = "", *, users: bool = False) -> list[str]:
    """Return a mapping of any depth as `kubectl describe` writes one it knows nothing about.

    `users` says that its keys are no fields, but somebody's own.
    """
    lines = []
    plain = [(_label(key, users=users), _scalar(value)) for key, value in body.items() if not _is_deep(value)]
    lines += fields(plain, indent)
    for key, value in body.items():
        if _is_deep(value):
            lines.append(f"{indent}{redact.line(_label(key, users=users))}:")
            for one in value if isinstance(value, list | tuple) else (value,):
                below = (
                    nested(one, indent + "  ", users=_has_users_keys(key, one)) if isinstance(one, Mapping) else None
                )
                lines += below if below is not None else [f"{indent}  {_scalar(one)}"]
    return lines


def _has_users_keys(key: str, value: Mapping[str, Any]) -> bool:
    plain = key in ("nodeSelector", "selector") and not any(_is_deep(one) for one in value.values())
    return key in _USERS or plain


def _label(key: Any, *, users: bool) -> str:
    return str(key) if users else title(str(key))


def _is_deep(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(isinstance(one, Mapping | list | tuple) for one in value)
    return isinstance(value, Mapping) and bool(value)


def _scalar(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "\n".join(str(one) for one in value) or "<none>"
    if isinstance(value, Mapping) or value is None:
        return "<none>"
    return str(value).lower() if isinstance(value, bool) else str(value)


# -- trees ------------------------------------------------------------------------------------------------------

DONE, WAITS, DOING, FAILED, TO_COME = "✔", "◎", "►", "✗", "○"
_COLOURS = {DONE: "green", WAITS: "yellow", DOING: "cyan", FAILED: "red", TO_COME: "dim"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One line of a tree: a name, a mark with the state in words, details, and notes on lines of their own."""

    name: str
    mark: str
    state: str
    details: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    children: tuple["Branch", ...] = ()

    def walk(self, depth: int = 0) -> Iterator[tuple["Branch", int]]:
        """Yield this branch and all below it, each with its depth."""
        yield self, depth
        for child in self.children:
            yield from child.walk(depth + 1)


_STEP = 4
"""How far rich indents one level of a tree."""


def tree(root: Branch) -> "Tree":
    """Return the tree as something rich can print; marks and states stand in columns."""
    from rich.text import Text  # noqa: PLC0415 - only trees need it
    from rich.tree import Tree  # noqa: PLC0415

    below = [(one, depth) for one, depth in root.walk() if depth]
    names = max((len(one.name) + (depth - 1) * _STEP for one, depth in below), default=0)
    states = max((len(one.state) for one, _ in below if one.details), default=0)

    def label(one: Branch, depth: int) -> Text:
        text = Text()
        text.append(redact.line(one.name), style="bold" if depth <= 1 else "")
        text.append(" " * (max(0, names - len(one.name) - (depth - 1) * _STEP) if depth else 0) + "  ")
        text.append(f"{one.mark} {redact.line(one.state)}", style=_COLOURS[one.mark])
        if one.details:
            text.append(" " * (max(0, states - len(one.state)) if depth else 0))
        for detail in one.details:
            text.append("  " + redact.line(detail))
        for note in one.notes:
            text.append("\n  " + redact.line(note))
        return text

    def grow(branch: Branch, depth: int) -> Tree:
        node = Tree(label(branch, depth), guide_style="dim")
        node.children = [grow(child, depth + 1) for child in branch.children]
        return node

    return grow(root, 0)


def console() -> "Console":
    """Return stdout for rich: colours on a terminal unless NO_COLOR is set; elsewhere plain lines, however long."""
    from rich.console import Console  # noqa: PLC0415

    found = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    return found if found.is_terminal else Console(file=sys.stdout, highlight=False, width=_CELL, no_color=True)
