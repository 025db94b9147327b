"""The member's API as values: objects in and out, lists page by page, kinds discovered; no rule about whose it is."""

import json
import threading
from collections.abc import Iterator, Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Any, cast

from reconciler.clock import monotonic
from reconciler.core.model import Body
from reconciler.delivery.kubernetes import names
from reconciler.delivery.kubernetes.connection import Connection
from reconciler.delivery.kubernetes.names import Resource, joined, path_of
from reconciler.delivery.kubernetes.pool import Answer, AnswerTooLarge
from reconciler.delivery.kubernetes.unwell import Status, Unauthorized
from reconciler.errors import PermanentError, ReconcilerError, TemporaryError

_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_NAMES = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_PAGE = 250
_LIST_SECONDS = 60.0
_LIST_BYTES = 256 * 2**20
"""So long, and so large, may a list be with all its pages: more than a placement can hold."""
_DOCUMENT_BYTES = 2**20
"""Larger answers that tell the kinds of a group are not kept for other members."""


class Api:
    """One member's API, over its connection; may be used by several threads at once."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._lock = threading.Lock()
        self._served: dict[tuple[str, str], Mapping[str, Resource]] = {}
        self._versions: dict[str, tuple[str, ...]] = {}

    # -- reading

    def get(self, path: str, *, metadata_only: bool = False) -> Body | None:
        """Return an object, None when there is none; raises what `failure` makes of any other answer."""
        answer = self.ask(path, metadata_only=metadata_only)
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        return self.body_of(answer, f"GET {path}")

    def ask(self, path: str, *, metadata_only: bool = False) -> Answer:
        """Return the answer to a GET as it is; `metadata_only` spares what is in the object, a Secret's values too."""
        return self.connection.request("GET", path, accept=_METADATA if metadata_only else "application/json")

    def items(self, resource: Resource, namespace: str, selector: str) -> Iterator[Body]:
        """Give the objects of a kind that a label selector selects, as many a page as an answer can hold.

        A list that does not end is a TemporaryError.
        """
        path, limit, going_on, size = path_of(resource, namespace), _PAGE, "", 0
        until = monotonic() + _LIST_SECONDS
        while True:
            if size > _LIST_BYTES or monotonic() > until:
                raise TemporaryError(f"GET {path}: the list of the member does not end")
            query = {"labelSelector": selector, "limit": str(limit), **({"continue": going_on} if going_on else {})}
            try:
                answer = self.connection.request("GET", path, query=query)
            except AnswerTooLarge:
                if limit == 1:
                    raise
                limit = max(1, limit // 16)
                continue
            page, size = self.body_of(answer, f"GET {path}"), size + len(answer.body)
            for item in page.get("items") or ():
                if not _is_object(item):
                    raise TemporaryError(f"GET {path}: the member's answer is no list of objects")
                yield {"apiVersion": _api_version(resource), "kind": resource.kind, **item}
            going_on = str(page.get("metadata", {}).get("continue") or "")
            if not going_on:
                return

    def names(self, resource: Resource, namespace: str) -> frozenset[str] | None:
        """Return the names of all objects of a kind, None where they are too many for one page or not to be had."""
        path = path_of(resource, namespace)
        try:
            answer = self.connection.request("GET", path, query={"limit": str(_PAGE)}, accept=_NAMES)
            page = self.body_of(answer, f"GET {path}")
        except (Unauthorized, PermanentError):  # rights to read one by one do not have to cover a list
            return None
        if page.get("metadata", {}).get("continue"):
            return None
        return frozenset(str(item["metadata"]["name"]) for item in page.get("items") or () if _is_object(item))

    def body_of(self, answer: Answer, doing: str) -> Body:
        """Return the object in a good answer; raises what `failure` makes of a bad one."""
        if not answer.is_well:
            raise failure(answer, doing)
        return _object(answer.body, doing)

    # -- kinds

    def find(self, group: str, version: str, kind: str) -> Resource | None:
        """Return a kind as the member serves it, None when it does not; what it once did not is asked again."""
        if not (names.is_kind(group, kind) and names.is_version(version)):
            return None
        with self._lock:
            known = self._served.get((group, version), {}).get(kind)
        if known is not None:
            return known
        served = self._discover(group, version)
        with self._lock:
            self._served[group, version] = served
        return served.get(kind)

    def find_any(self, group: str, kind: str) -> Resource | None:
        """Return a kind in the best of the versions that the member serves it in, None when it serves none."""
        found = (self.find(group, version, kind) for version in self._versions_of(group))
        return next((resource for resource in found if resource is not None), None)

    def forget(self, group: str) -> None:
        """Discover the kinds of a group anew when they are next asked for."""
        with self._lock:
            self._versions.pop(group, None)
            for key in [key for key in self._served if key[0] == group]:
                del self._served[key]

    def forget_all(self) -> None:
        """Discover everything anew: this may be another cluster."""
        with self._lock:
            self._versions.clear()
            self._served.clear()

    def _versions_of(self, group: str) -> tuple[str, ...]:
        if not group:
            return ("v1",)
        with self._lock:
            known = self._versions.get(group)
        if known:
            return known
        body = self.get(joined("apis", group)) if names.is_kind(group, "X") else None
        found = tuple(str(one["version"]) for one in (body or {}).get("versions", ()))
        with self._lock:
            self._versions[group] = found
        return found

    def _discover(self, group: str, version: str) -> Mapping[str, Resource]:
        path = joined("apis", group, version) if group else joined("api", version)
        answer = self.ask(path)
        if answer.status == HTTPStatus.NOT_FOUND:
            return {}
        if not answer.is_well:
            raise failure(answer, f"GET {path}")
        read = _resources if len(answer.body) <= _DOCUMENT_BYTES else _resources.__wrapped__
        return read(group, version, answer.body)


@lru_cache(maxsize=256)
def _resources(group: str, version: str, data: bytes) -> Mapping[str, Resource]:
    """Return the kinds in a discovery document, read once for all the members that answer the same."""
    rows = _object(data, f"the kinds of {group}/{version}").get("resources") or ()
    return {
        row["kind"]: Resource(
            group=group, version=version, kind=row["kind"], plural=row["name"], namespaced=bool(row["namespaced"])
        )
        for row in rows
        if "/" not in row["name"] and not row.get("group")  # no sub-resources
    }


def failure(answer: Answer, doing: str) -> ReconcilerError:
    """Return what an answer means that is about no object: our rights, its trouble, or a request it never takes."""
    status = Status.parse(answer.status, answer.body)
    message = f"{doing}: the member answered {status.code} {status.words(secret=False)}"
    if status.is_permission:
        return Unauthorized(message)
    if status.code >= HTTPStatus.INTERNAL_SERVER_ERROR or status.has_cause("NamespaceTerminating"):
        return TemporaryError(message)
    return PermanentError(message)


def _object(data: bytes, doing: str) -> Body:
    try:
        body: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise TemporaryError(f"{doing}: the member's answer is not JSON") from error
    if not _is_object(body):
        raise TemporaryError(f"{doing}: the member's answer is no object")
    return cast("Body", body)


def _is_object(body: Any) -> bool:
    """Tell whether what came back has the shape that every object has, as far as it is relied on."""
    metadata = body.get("metadata", {}) if isinstance(body, dict) else None
    return isinstance(metadata, dict) and all(
        isinstance(metadata.get(name) or kind(), kind)
        for name, kind in (("labels", dict), ("annotations", dict), ("managedFields", list))
    )


def encoded(body: Any) -> bytes:
    """Return an object as the bytes that are sent."""
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def _api_version(resource: Resource) -> str:
    return f"{resource.group}/{resource.version}" if resource.group else resource.version
