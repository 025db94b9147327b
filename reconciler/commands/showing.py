"""What `get` prints: tables, names, or whole objects; once, or again whenever something changes."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from reconciler import redact
from reconciler.clock import wall
from reconciler.commands import OK
from reconciler.commands.nouns import ASKED_CLUSTER, LABELS, NAMESPACE, REMOVED, Column, Item, Noun, Told, matching
from reconciler.commands.objects import items, problems, with_content
from reconciler.commands.opening import Fleet
from reconciler.commands.present import Table, say, warn
from reconciler.commands.reading import follow, is_named, name_and_uid, not_found
from reconciler.core import codec
from reconciler.core.model import LabelSelector, Problem
from reconciler.documents import yaml
from reconciler.settings import Settings

if TYPE_CHECKING:
    from reconciler.commands.members import Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What to look for; `namespace` None: in all of them."""

    noun: Noun
    names: tuple[str, ...]
    namespace: str | None
    selector: LabelSelector
    everything: bool
    settings: Settings | None = None
    """How to reach the members, where it is clusters and they are to be asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How to show it."""

    output: str
    labels: bool
    headless: bool
    events: bool = False
    """Whether a watch says of each object what happened to it."""

    @property
    def is_table(self) -> bool:
        """Whether it is shown in columns."""
        return self.output in ("", "wide")


# -- finding --------------------------------------------------------------------------------------------------


def _find(fleet: Fleet, query: Query) -> list[Item]:
    found = list(_named(fleet, query)) if query.names else _there(fleet, query, everything=query.everything)
    return _asked(fleet, query.settings, found) if query.settings is not None else found


def _there(fleet: Fleet, query: Query, *, everything: bool) -> list[Item]:
    found = matching(items(fleet, query.noun, everything=everything), query.selector)
    anywhere = not query.noun.namespaced or query.namespace is None
    return [one for one in found if anywhere or one.namespace == query.namespace]


def _named(fleet: Fleet, query: Query) -> Iterator[Item]:
    """Yield what the names mean, in their order; one with a uid is found where it was removed, too."""
    words = [(word, query.everything or bool(name_and_uid(word)[1])) for word in query.names]
    there = {everything: _there(fleet, query, everything=everything) for everything in {one for _, one in words}}
    for word, everything in words:
        yield from (one for one in there[everything] if is_named(one, word))


def _asked(fleet: Fleet, settings: Settings, found: list[Item]) -> list[Item]:
    """Return the clusters with what they say of themselves."""
    from reconciler.commands.members import ask_all, asking  # noqa: PLC0415 - only who asks members pays for it

    answers = ask_all([one.name for one in found], asking(fleet, settings))
    return [replace(one, told=_told(answers[one.name])) for one in found]


def _told(answer: "Answer") -> Told:
    there = (one for one in answer.running if one.objects)  # an emptied inventory only keeps the fence
    runs = ",".join(one.shown + ("" if one.ours else " (another repository's)") for one in there)
    return Told(
        reachable=answer.reachable,
        version=answer.fact("version"),
        running=runs,
        message="" if answer.reachable else answer.fact("message"),
    )


def _missing(fleet: Fleet, query: Query, found: Sequence[Item]) -> int:
    """Say which names are not there; return the exit code."""
    missing = [word for word in query.names if not any(is_named(one, word) for one in found)]
    where = (query.namespace or "") if query.noun.namespaced else ""
    return max((not_found(fleet, query.noun, word, where) for word in missing), default=OK)


def _nothing(query: Query) -> None:
    where = f" in {query.namespace} namespace." if query.noun.namespaced and query.namespace else ""
    warn(f"No resources found{where}")


# -- showing ----------------------------------------------------------------------------------------------------


Found = Sequence[tuple[Query, list[Item]]]


def show(fleet: Fleet, queries: Sequence[Query], look: Look) -> int:
    """Print what is found once, kind by kind; return the exit code."""
    found: Found = [(query, _find(fleet, query)) for query in queries]
    if look.is_table:
        _say_tables(found, look)
    elif look.output == "name":
        for query, items_ in found:
            _say_names(query, items_)
    else:
        _say_bodies(fleet, found, look)
    code = max(_missing(fleet, query, items_) for query, items_ in found)
    empty = not any(items_ for _, items_ in found)
    if empty and not queries[0].names and (look.is_table or look.output == "name"):
        _nothing(queries[0])
    if look.is_table:
        _warn_of_unreachable(one for _, items_ in found for one in items_)
        _warn_of_problems(fleet)
    return code


def _say_tables(found: Found, look: Look) -> None:
    """Print a table per kind that has rows; where there are several, names tell their kind, as kubectl does it."""
    filled = [(query, items_) for query, items_ in found if items_]
    for number, (query, items_) in enumerate(filled):
        rows = list(_rows(query, look, items_))
        if len(found) > 1:
            say(*([""] if number else []))
            at = _titles(query, look).index("NAME")
            rows = [[*row[:at], f"{query.noun.prefix}/{row[at]}", *row[at + 1 :]] for row in rows]
        say(*_table(query, look).lines(rows))


def _say_bodies(fleet: Fleet, found: Found, look: Look) -> None:
    """Print one object that was asked for by name as it is, anything else as a list."""
    bodies = [with_content(fleet, one).body for _, items_ in found for one in items_]
    names = [name for query, _ in found for name in query.names]
    if bodies or not names:
        _say_body(bodies[0] if len(names) == len(bodies) == 1 else _list_of(bodies), look)


def watch(fleet: Fleet, query: Query, look: Look, repo: str, *, offline: bool) -> int:
    """Print everything once, then each object again when it changed or was removed, as `kubectl get -w` does."""
    found = _find(fleet, query)
    if code := _missing(fleet, query, found):
        return code
    if not found:
        _nothing(query)
    if look.is_table:
        _warn_of_problems(fleet)
    header = [*(["EVENT"] if look.events else []), *_titles(query, look)]
    table, shown = Table(header, headless=look.headless), dict[str, Item]()
    for now in follow(fleet, repo, offline=offline):
        found = _find(now, query)
        _say_changes(now, query, look, table, list(_changes(shown, found)))
        shown = {one.identity: one for one in found}
    return OK


ADDED, MODIFIED, DELETED = "ADDED", "MODIFIED", "DELETED"


def _changes(shown: Mapping[str, Item], found: Iterable[Item]) -> Iterator[tuple[str, Item]]:
    """Yield what happened since the last look, with each object as it is, or was last."""
    there = {one.identity: one for one in found}
    for identity, one in shown.items():
        if identity not in there:
            yield DELETED, one
    for identity, one in there.items():
        if shown.get(identity) != one:
            yield (MODIFIED if identity in shown else ADDED), one


def _say_changes(fleet: Fleet, query: Query, look: Look, table: Table, changes: list[tuple[str, Item]]) -> None:
    objects = [one for _, one in changes]
    if look.is_table:
        rows = zip(changes, _rows(query, look, objects), strict=True)
        say(*table.lines([event, *row] if look.events else row for (event, _), row in rows))
        return
    if look.output == "name":
        _say_names(query, objects)
        return
    for event, one in changes:
        body = one.body if event == DELETED else with_content(fleet, one).body
        if look.output == "yaml":
            say("---")
        _say_body({"type": event, "object": body} if look.events else body, look)


def _columns(query: Query, look: Look) -> Iterator[Column]:
    if query.noun.namespaced and query.namespace is None:
        yield NAMESPACE
    noun = query.noun if query.settings is None else replace(query.noun, columns=ASKED_CLUSTER)
    yield from noun.shown(wide=look.output == "wide")
    if query.everything:
        yield REMOVED
    if look.labels:
        yield LABELS


def _table(query: Query, look: Look) -> Table:
    return Table(_titles(query, look), headless=look.headless)


def _titles(query: Query, look: Look) -> list[str]:
    return [one.title for one in _columns(query, look)]


def _rows(query: Query, look: Look, found: Iterable[Item]) -> Iterator[list[str]]:
    now, columns = wall(), list(_columns(query, look))
    for one in found:
        yield [column.read(one, now) for column in columns]


def _say_names(query: Query, found: Iterable[Item]) -> None:
    say(*(f"{query.noun.prefix}/{one.name}" for one in found))


def _list_of(bodies: list[dict[str, Any]]) -> dict[str, Any]:
    return {"apiVersion": "v1", "items": bodies, "kind": "List", "metadata": {"resourceVersion": ""}}


def _say_body(body: Any, look: Look) -> None:
    """Print an object whole, Secrets without their values."""
    safe = redact.body(body)
    if look.output == "yaml":
        say(yaml.dump(safe).removesuffix("\n"))
    else:
        say(json.dumps(safe, indent=4, sort_keys=True, ensure_ascii=False))


def _warn_of_unreachable(found: Iterable[Item]) -> None:
    for one in found:
        if one.told is not None and not one.told.reachable:
            warn(f"{one.name}: {one.told.message}")


# -- problems -----------------------------------------------------------------------------------------------------


def _warn_of_problems(fleet: Fleet) -> None:
    if count := len(problems(fleet)):
        noun = "problem" if count == 1 else "problems"
        warn(f"warning: {count} {noun} in the repository: reconciler get problems")


def show_problems(fleet: Fleet, look: Look) -> int:
    """Print what is wrong with which file; return the exit code."""
    found = problems(fleet)
    if not look.is_table:
        _say_body({"problems": [codec.encode(one) for one in found]}, look)
        return OK
    say(*Table(("FILE", "RULE", "MESSAGE"), headless=look.headless).lines(_problem_row(one) for one in found))
    if not found:
        warn("No problems found")
    return OK


def _problem_row(problem: Problem) -> tuple[str, str, str]:
    where = f"{problem.path}:{problem.line}" if problem.line else problem.path
    return where, problem.rule, problem.message + (f"; {problem.hint}" if problem.hint else "")
