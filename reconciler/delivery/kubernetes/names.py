"""What may become part of a URL: the grammar of names, and the one place that builds a path from them.

A name that is not one is refused before any request, so that no object can speak for another: `../../x` would fold to
another path, `x?force=true` add a parameter, `x/status` reach a sub-resource.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote, unquote

from reconciler.core.actions import Reason
from reconciler.core.model import Body, Key
from reconciler.delivery.kubernetes.unwell import Unwell
from reconciler.redact import line

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_KIND = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_FREE_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9:._-]+")  # roles are named `system:node`, IP addresses `2001:db8::1`
_FREELY_NAMED = frozenset({"rbac.authorization.k8s.io", "networking.k8s.io"})
_LONGEST_NAME, _LONGEST_LABEL = 253, 63


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One kind as a member serves it."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool


def version_of(body: Body) -> str:
    """Return the version of an object's `apiVersion`, without the group."""
    return str(body["apiVersion"]).rpartition("/")[2]


def is_kind(group: str, kind: str) -> bool:
    """Tell whether group and kind can be those of anything."""
    return bool(_KIND.fullmatch(kind)) and (not group or _fits(_SUBDOMAIN, group, _LONGEST_NAME))


def is_version(version: str) -> bool:
    """Tell whether it can be the version of an API."""
    return _fits(_LABEL, version, _LONGEST_LABEL)


def is_sound(key: Key) -> bool:
    """Tell whether an object can have this name at all; what cannot be is on no member."""
    return _unsound(key) == ""


def check(key: Key) -> None:
    """Raise Unwell (Refused) for a key that no object can have."""
    if reason := _unsound(key):
        raise Unwell(Reason.REFUSED, f"{line(str(key), 200)}: its {reason} is not one that Kubernetes allows")


@lru_cache(maxsize=16_384)
def _unsound(key: Key) -> str:
    if not is_kind(key.group, key.kind):
        return "group or kind"
    if key.namespace and not _fits(_LABEL, key.namespace, _LONGEST_LABEL):
        return "namespace"
    free = key.group in _FREELY_NAMED
    return "" if _fits(_FREE_NAME if free else _SUBDOMAIN, key.name, _LONGEST_NAME) else "name"


def _fits(grammar: re.Pattern[str], text: str, longest: int) -> bool:
    return len(text) <= longest and grammar.fullmatch(text) is not None


def path_of(resource: Resource, namespace: str, name: str = "") -> str:
    """Return the path of an object, or without a name of all objects of the kind (in all namespaces, without one)."""
    root = ("apis", resource.group) if resource.group else ("api",)
    scope = ("namespaces", namespace) if namespace else ()
    return joined(*root, resource.version, *scope, resource.plural, *((name,) if name else ()))


@lru_cache(maxsize=16_384)
def joined(*segments: str) -> str:
    """Return the path of exactly these segments, each percent-encoded; one that would not stay one is our mistake."""
    path = "/" + "/".join(quote(segment, safe=":") for segment in segments)
    back = tuple(unquote(segment) for segment in path.split("/")[1:])
    if back != segments or any(segment in ("", ".", "..") or "/" in segment for segment in back):
        raise Unwell(Reason.REFUSED, f"{line(path, 200)} is not a path of {len(segments)} parts")
    return path
