"""As whom we act on a member: what a kubeconfig's user says of it (`as`, `as-uid`, `as-groups`, `as-user-extra`).

The API server decides whether our credentials may act as somebody else, and then looks at the rights of that one alone.
The headers are those of client-go's `transport/round_trippers.go`, one per group and per extra value.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

_OTHERS = ("as-uid", "as-groups", "as-user-extra")
_NOTHING: tuple[Any, ...] = (None, "", [], {})
_OF_A_NAME = "!#$&'*+-.^_`|~"
"""What may stand in the name of a header beside letters and digits; `%` may, but marks what is encoded."""


def headers(user: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return name and value of each header, none where the user acts as itself.

    Raises:  ValueError, naming the field, for what cannot be sent as it is meant: it is never left out silently.
    """
    others = {name: user[name] for name in _OTHERS if user.get(name) not in _NOTHING}
    if "as" not in user:
        if others:
            raise ValueError(f"{next(iter(others))} is given without as, so nobody is named to act as")
        return ()
    found = [("Impersonate-User", _value("as", user["as"]))]
    if "as-uid" in others:
        found.append(("Impersonate-Uid", _value("as-uid", others["as-uid"])))
    found += [("Impersonate-Group", value) for value in _values("as-groups", others.get("as-groups", []))]
    return (*found, *_extra(others.get("as-user-extra", {})))


def _extra(given: Any) -> list[tuple[str, str]]:
    if not isinstance(given, dict):
        raise ValueError("as-user-extra must be a mapping of names to lists of texts")  # noqa: TRY004 - a mistake in a file
    return [
        (f"Impersonate-Extra-{quote(_text('as-user-extra', name), safe=_OF_A_NAME)}", value)
        for name, values in given.items()
        for value in _values("as-user-extra", values)
    ]


def _values(field: str, given: Any) -> list[str]:
    if not isinstance(given, list):
        raise ValueError(f"{field} must hold a list of texts")  # noqa: TRY004 - as above
    return [_value(field, one) for one in given]


def _value(field: str, given: Any) -> str:
    """Return the value of a header; it goes out in UTF-8, and http.client encodes as Latin-1."""
    return _text(field, given).encode().decode("latin-1")


def _text(field: str, given: Any) -> str:
    if not isinstance(given, str) or not given or given != given.strip() or not given.isprintable():
        raise ValueError(f"{field} must be a text, not empty, without control characters or blanks around it")
    return given
