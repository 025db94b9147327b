"""What is wrong with one object on a member, and how an API server's refusal is told: by its fields, never whole.

The text of an API server may quote what was sent to it. So of a Secret only the reason and the names of fields are
told, and of no answer anything that is not a field of its `Status`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ClassVar

from reconciler.core.actions import ObjectResult, Reason
from reconciler.core.model import Key
from reconciler.delivery.base import Halt, is_secret
from reconciler.errors import ReconcilerError
from reconciler.redact import line

_NO_PERMISSION = re.compile(r'\bUser "[^"]*" cannot [a-z]+ resource\b')
_NOT_OF_ITS_KIND = ("failed to create typed patch object", "failed to convert new object")
_SCHEMA_FIELD = re.compile(r": (\.[^\s:]+): ")
_MANAGER = re.compile(r'conflict with "([^"]*)"')
_MOST_CAUSES = 5


class Unwell(ReconcilerError):
    """One object cannot be brought to the member now; the others go on."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def result(self, key: Key) -> ObjectResult:
        """Return it as the result of an object."""
        return result_of(key, self.reason, self)


class IdentityChanged(Halt):
    """Another cluster answers under this name."""

    reason = Reason.IDENTITY_CHANGED


class Unauthorized(Halt):
    """The member does not know us, or does not allow us what every delivery needs."""

    reason = Reason.UNAUTHORIZED


class Anonymous(Halt):
    """The member knows us as nobody: the operator gave us no credentials, or none of a kind that it reads."""

    reason = Reason.NOT_CONFIGURED


class ServerTrouble(ReconcilerError):
    """The member answered one request with an error of its own; more than a few of them are no object's fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One entry of a Status's causes."""

    reason: str
    message: str
    field: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What an API server says when it does not do what it was asked; the parts that are safe to look at."""

    code: int
    reason: str = ""
    message: str = ""
    kind: str = ""
    name: str = ""
    causes: tuple[Cause, ...] = ()
    NOTHING: ClassVar[str] = "the answer says no more"

    @classmethod
    def parse(cls, code: int, data: bytes) -> "Status":
        """Read an error's body; anything but a Status is not quoted."""
        body = _mapping(data)
        if body.get("kind") != "Status":
            return cls(code=code, message=cls.NOTHING)
        details = _as_mapping(body.get("details"))
        causes = details.get("causes")
        return cls(
            code=code,
            reason=str(body.get("reason") or ""),
            message=str(body.get("message") or cls.NOTHING),
            kind=str(details.get("kind") or ""),
            name=str(details.get("name") or ""),
            causes=tuple(_cause(one) for one in causes) if isinstance(causes, list) else (),
        )

    @property
    def is_permission(self) -> bool:
        """Whether it is our rights that do not suffice, and not the object."""
        return self.code == HTTPStatus.FORBIDDEN and _NO_PERMISSION.search(self.message) is not None

    @property
    def is_schema(self) -> bool:
        """Whether the object has a field or a type that its kind has not; the API server calls that an error 500."""
        return self.code == HTTPStatus.INTERNAL_SERVER_ERROR and self.message.startswith(_NOT_OF_ITS_KIND)

    @property
    def managers(self) -> tuple[str, ...]:
        """The field managers that a server-side apply is in conflict with."""
        found = (_MANAGER.search(one.message) for one in self.causes if one.reason == "FieldManagerConflict")
        return tuple(dict.fromkeys(one.group(1) for one in found if one))

    def has_cause(self, reason: str) -> bool:
        """Whether one of the causes has this reason."""
        return any(one.reason == reason for one in self.causes)

    def words(self, *, secret: bool) -> str:
        """Return what may be told: the message, or for a Secret the reason and the names of fields alone."""
        reason = self.reason or ("Invalid" if self.is_schema else str(self.code))
        if not secret:
            return f"{reason}: {self.message}"
        fields = [one.field for one in self.causes if one.field] or _SCHEMA_FIELD.findall(self.message)
        at = f" at {', '.join(fields[:_MOST_CAUSES])}" if fields else ""
        return f"{reason}{at} (what was said of a Secret is not repeated)"


def unwell(key: Key, status: Status) -> ReconcilerError:
    """Return what an answer to a write of this object means."""
    said = status.words(secret=is_secret(key))
    namespace_of = f"namespace {key.namespace}"
    if status.is_permission:
        return Unwell(Reason.UNAUTHORIZED, f"{key}: {status.message}")
    if status.has_cause("NamespaceTerminating"):
        return Unwell(Reason.INCOMPLETE, f"{key}: {namespace_of} is being deleted; it is tried again when that is over")
    if status.code == HTTPStatus.NOT_FOUND:
        return _not_found(key, status, namespace_of)
    if status.code == HTTPStatus.CONFLICT:
        return _conflict(key, status, said)
    if status.is_schema:
        return Unwell(Reason.REFUSED, f"{key}: {said}")
    if status.code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ServerTrouble(f"{key}: the member answered {status.code} {said}")
    return Unwell(Reason.REFUSED, f"{key}: {said}")


def _not_found(key: Key, status: Status, namespace_of: str) -> Unwell:
    if key.namespace and status.kind == "namespaces":
        hint = "place the namespace first with a ClusterResourcePlacement of selectionScope NamespaceOnly"
        return Unwell(Reason.REFUSED, f"{key}: {namespace_of} is not on this member; {hint}")
    return Unwell(Reason.INCOMPLETE, f"{key}: the member does not serve its kind, or not yet")


def _conflict(key: Key, status: Status, said: str) -> Unwell:
    fields = [one for one in status.causes if one.reason == "FieldManagerConflict"]
    if not fields:
        return Unwell(Reason.INCOMPLETE, f"{key}: {said}")
    names = ", ".join(f"{one.field} ({', '.join(_MANAGER.findall(one.message))})" for one in fields[:_MOST_CAUSES])
    more = f" and {len(fields) - _MOST_CAUSES} more" if len(fields) > _MOST_CAUSES else ""
    hint = "take the field out of the manifest, or set serverSideApplyConfig.force"
    return Unwell(Reason.CONFLICT, f"fields are managed by somebody else: {names}{more}; {hint}")


def result_of(key: Key, reason: Reason, error: Exception) -> ObjectResult:
    """Return what is told of an object: whoever shows a result names the object, so the text does not begin with it."""
    text = str(error).removeprefix(f"{key}: ").removeprefix(f"{key} ")
    return ObjectResult(object=line(str(key)), reason=reason, message=line(text))


def _mapping(data: bytes) -> Mapping[str, Any]:
    try:
        return _as_mapping(json.loads(data))
    except (ValueError, RecursionError):
        return {}


def _as_mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _cause(value: Any) -> Cause:
    body = _as_mapping(value)
    return Cause(
        reason=str(body.get("reason") or ""), message=str(body.get("message") or ""), field=str(body.get("field") or "")
    )
