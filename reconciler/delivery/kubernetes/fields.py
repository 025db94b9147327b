"""Who owns which field of an object, and whether what is there is what was sent: values compared, nothing asked.

`managedFields` is a tree of `f:<name>` (a field), `k:{…}` (a list's item, by its keys) and `v:…` (an item of a set);
`{}` ends a branch and owns everything below, `.` is the node itself.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.core.model import Body

MANAGER = "reconciler"
"""The one field manager under which everything is written."""

_HANDS = ("kubectl", "before-first-apply")
"""Managers that are people's hands, not controllers: `kubectl`, `kubectl-edit`, `kubectl-client-side-apply` …"""

Tree = Mapping[str, Any]


def is_by_hand(manager: str) -> bool:
    """Tell whether a field manager is a person with kubectl: a change by hand is drift, not a second owner."""
    return manager.startswith(_HANDS)


def owned_by_us(live: Body) -> Tree | None:
    """Return the tree of what our manager applied to the object, None when it never did."""
    return next(
        (tree for manager, operation, tree in _entries(live) if (manager, operation) == (MANAGER, "Apply")), None
    )


def is_as_sent(body: Body, live: Body) -> bool:
    """Tell whether applying the body would change nothing: every value is there, and we own nothing beyond it.

    False is the safe answer where a server writes a value in its own way: applying again then changes nothing either.
    """
    ours = owned_by_us(live)
    return ours is not None and _contains(live, body) and not _owns_more(ours, body)


def taken_by_others(body: Body, live: Body) -> tuple[str, ...]:
    """Return the fields of the body that others own on the live object and we do not, each as `path (manager)`."""
    ours = owned_by_us(live) or {}
    found = (
        (path, manager)
        for manager, operation, tree in _entries(live)
        if (manager, operation) != (MANAGER, "Apply")
        for path in _taken(body, ours, tree, "")
    )
    return tuple(f"{path} ({manager})" for path, manager in found)


def differences(wanted: Any, found: Any, path: str = "") -> Iterator[str]:
    """Give the paths at which two objects, as an API server returned them, are not equal."""
    if isinstance(wanted, dict) and isinstance(found or {}, dict):
        found = found or {}
        for name in sorted({*wanted, *found}):
            if not _is_the_servers(path, name):
                yield from differences(wanted.get(name), found.get(name), f"{path}.{name}")
    elif wanted != found:
        yield path


def _is_the_servers(path: str, name: str) -> bool:
    if path == ".metadata":
        return name not in ("labels", "annotations", "name", "namespace")
    return (path in (".metadata.labels", ".metadata.annotations") and "kubernetes.io/" in name) or (path, name) == (
        "",
        "status",
    )


def _entries(live: Body) -> Iterator[tuple[str, str, Tree]]:
    for entry in live["metadata"].get("managedFields") or ():
        tree = entry.get("fieldsV1")
        if isinstance(tree, dict):
            yield str(entry.get("manager") or "unknown"), str(entry.get("operation") or ""), tree


# -- is everything there? --------------------------------------------------------------------------------------------


def _contains(live: Any, body: Any) -> bool:
    if isinstance(body, dict):
        return isinstance(live, dict) and all(
            value is None or (name in live and _contains(live[name], value)) for name, value in body.items()
        )
    if isinstance(body, list | tuple):
        pairs = zip(live, body, strict=True) if isinstance(live, list) and len(live) == len(body) else None
        return pairs is not None and all(_contains(one, other) for one, other in pairs)
    return bool(live == body) and isinstance(live, bool) is isinstance(body, bool)


def _owns_more(ours: Tree, body: Any) -> bool:
    return any(_is_missing(step, below, body) for step, below in ours.items() if step != ".")


def _is_missing(step: str, below: Tree, body: Any) -> bool:
    sort, _, text = step.partition(":")
    if sort == "f":
        if not isinstance(body, dict) or body.get(text) is None:
            return True
        return _owns_more(below, body[text])
    if not isinstance(body, list | tuple):
        return True
    if sort == "v":
        return json.loads(text) not in body
    item = _item(json.loads(text), body)
    return item is None or _owns_more(below, item)


def _item(keys: Mapping[str, Any], items: Any) -> Mapping[str, Any] | None:
    """Return the item with these keys; a key that it does not name has its default there."""
    fitting = (
        item
        for item in items
        if isinstance(item, dict) and all(item.get(name, value) == value for name, value in keys.items())
    )
    return next(fitting, None)


# -- whose is it? ----------------------------------------------------------------------------------------------------


def _taken(value: Any, ours: Tree | None, theirs: Tree, path: str) -> Iterator[str]:
    """Give the paths of the value that `theirs` owns and `ours` does not; `ours` None: nothing from here on."""
    if ours == {} and path:
        return
    if theirs == {} or not isinstance(value, dict | list | tuple):
        if ours is None:
            yield path
        return
    for step, below in theirs.items():
        sort, _, text = step.partition(":")
        if sort == "f" and isinstance(value, dict) and value.get(text) is not None:
            yield from _taken(value[text], None if ours is None else ours.get(step), below, f"{path}.{text}")
        elif sort == "k" and isinstance(value, list | tuple):
            item = _item(json.loads(text), value)
            if item is not None:
                yield from _taken(item, None if ours is None else ours.get(step), below, f"{path}[{text}]")
