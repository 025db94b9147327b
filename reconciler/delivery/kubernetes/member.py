"""One Kubernetes member as a `Delivery`: first who answers and as whom, then the order of writing that all share."""

import hashlib
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

import structlog

from reconciler import effects
from reconciler.clock import monotonic
from reconciler.core.actions import Content, Fence, ObjectResult, Reason, Report
from reconciler.core.model import Body, Key
from reconciler.delivery.base import (
    IDENTITIES,
    FencedDelivery,
    Halt,
    Held,
    Inventory,
    Strange,
    Unlisted,
    answered,
    failed,
)
from reconciler.delivery.kubernetes.api import Api, encoded, failure
from reconciler.delivery.kubernetes.connection import Connection
from reconciler.delivery.kubernetes.settings import MemberSettings
from reconciler.delivery.kubernetes.store import Call, KubernetesStore
from reconciler.delivery.kubernetes.unwell import Anonymous, IdentityChanged
from reconciler.errors import PermanentError, ReconcilerError, TemporaryError, UsageError
from reconciler.redact import line

_REVIEW = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
_ANONYMOUS = "system:anonymous"
_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # as it was kept before its digest was kept beside it
T = TypeVar("T")

logger = structlog.get_logger()


class KubernetesDelivery:
    """The `Delivery` to one member; nothing is read or asked before its first use."""

    def __init__(self, settings: MemberSettings, store: KubernetesStore | None = None) -> None:
        self._settings = settings
        self._store = store or KubernetesStore(Api(Connection(settings)), settings)
        self._identity = _Identity(settings, self._store.api)
        self._unlisted: Unlisted = {}

    def deliver(self, placement: Key, content: Content, fence: Fence) -> Report:
        """Bring the content to the member and prune what left; a repeated delivery writes nothing."""

        def call() -> Report:
            parents = self._identify_beside(self._store.parents)
            return self._bound(placement, content, parents).deliver(placement, content, fence)

        return self._told(call)

    def observe(self, placement: Key, content: Content, fence: Fence) -> Report:
        """Look whether the content is there, object by object, under this fence, and healthy."""
        return self._asked(lambda: self._bound(placement, content).observe(placement, content, fence))

    def withdraw(self, placement: Key, fence: Fence, *, keep: bool = False) -> Report:
        """Delete what the inventory lists, or let go of it; the emptied inventory stays and keeps the fence."""
        return self._asked(lambda: self._bound(placement, None).withdraw(placement, fence, keep=keep))

    def describe(self) -> dict[str, Any]:
        """Return whether the member answers, as whom it knows us, its inventories, and what of them is missing.

        `reachable` is false with a `message` when it does not answer, or answers as another cluster.
        """
        try:
            user = self._identify()
            described = FencedDelivery(_Bound(self._store, None)).describe()
            return {**described, "user": user, "missing": self._missing()}
        except (Halt, TemporaryError, PermanentError, UsageError) as error:
            return {"type": "kubernetes", "reachable": False, "message": line(str(error)), "inventories": {}}

    def greet(self) -> Report:
        """Ask who answers and as whom it knows us, and nothing else; `Available` when that is as it should be."""

        def call() -> Report:
            self._identify()
            return Report(complete=None, reason=Reason.AVAILABLE)

        return self._told(call)

    def highest_epoch(self, repository: str) -> int:
        """Return the highest epoch of this repository on the member, 0 for none; no good answer is a TemporaryError."""
        try:
            self._identify()
            return FencedDelivery(_Bound(self._store, None)).highest_epoch(repository)
        except (Halt, UsageError) as error:
            raise TemporaryError(str(error)) from error

    def _bound(self, placement: Key, content: Content | None, parents: list[Body] | None = None) -> FencedDelivery:
        options = content.options if content else None
        count = len(content.objects) if content else None
        until = monotonic() + self._settings.step_seconds
        call = Call(placement, until=until, options=options, objects=count)
        return FencedDelivery(_Bound(self._store, call, parents), self._unlisted)

    def _asked(self, call: Callable[[], Report]) -> Report:
        def identified() -> Report:
            self._identify()
            return call()

        return self._told(identified)

    def _told(self, call: Callable[[], Report]) -> Report:
        try:
            return replace(answered(call), date=self._store.api.connection.date)
        except UsageError as error:
            return failed(Reason.NOT_CONFIGURED, error)

    def _identify(self) -> str:
        try:
            self._store.cluster_uid = self._identity.confirmed()
        except ReconcilerError as error:
            error.turned_away = True
            raise
        return self._identity.user

    def _identify_beside(self, read: Callable[[], T]) -> T:
        """Make sure who answers and read something meanwhile, of which nothing counts before that is sure."""
        if self._identity.user and self._store.api.connection.is_open_to_us:
            return self._store.beside(self._identify, read)[1]
        self._identify()
        return read()

    def _missing(self) -> dict[str, tuple[str, ...]]:
        found = sorted(self._store.inventories().items(), key=lambda item: item[0])
        missing = {str(placement): self._store.missing(placement, inventory) for placement, inventory in found}
        return {placement: objects for placement, objects in missing.items() if objects}


class _Bound:
    """The store as one call sees it.

    A delivery asks for its own inventory and then for all of them: it gets both from one list, `parents`, once.
    """

    def __init__(self, store: KubernetesStore, call: Call | None, parents: list[Body] | None = None) -> None:
        self._store, self._given, self._parents = store, call, parents
        self._others: Mapping[Key, Inventory] | None = None

    @property
    def trust_seconds(self) -> float:
        return self._store.trust_seconds

    @property
    def _call(self) -> Call:
        assert self._given is not None
        return self._given

    def describe(self) -> dict[str, Any]:
        return self._store.describe()

    def inventories(self) -> Mapping[Key, Inventory]:
        listed, self._others = self._others, None
        return self._store.inventories() if listed is None else listed

    def read_inventory(self, placement: Key) -> Held:
        if self._parents is None:
            return self._store.read_inventory(placement)
        found, self._parents = self._store.list_inventories(self._parents), None
        self._others = {key: inventory for key, (inventory, _) in found.items()}
        inventory, version = found.get(placement, (None, ""))
        self._call.listed = frozenset(inventory.objects if inventory is not None else ())
        return Held(inventory=inventory, version=version)

    def swap_inventory(self, placement: Key, held: Held, inventory: Inventory) -> Held | None:
        return self._store.swap_inventory(placement, held, inventory)

    def apply_objects(self, objects: tuple[Body, ...], check_fence: Callable[[], None]) -> tuple[ObjectResult, ...]:
        return self._store.apply_objects(self._call, objects, check_fence)

    def delete_objects(self, keys: tuple[Key, ...], check_fence: Callable[[], None]) -> tuple[ObjectResult, ...]:
        return self._store.delete_objects(self._call, keys, check_fence)

    def release_objects(self, keys: tuple[Key, ...], check_fence: Callable[[], None]) -> tuple[ObjectResult, ...]:
        return self._store.release_objects(self._call, keys, check_fence)

    def strangers(self, objects: tuple[Body, ...]) -> Mapping[Key, Strange]:
        return self._store.strangers(self._call, objects)

    def look_at(self, objects: tuple[Body, ...]) -> tuple[ObjectResult, ...]:
        return self._store.look_at(self._call, objects)


class _Identity:
    """Which cluster answers, and as whom it knows us.

    A cluster is known by the uid of its namespace kube-system. The operator may say it (`clusterUid`); else the first
    one that is met is remembered, in `stateDir` over a restart. Where the state is wiped it is learnt anew.
    """

    def __init__(self, settings: MemberSettings, api: Api) -> None:
        self._settings, self._api = settings, api
        self._lock = threading.Lock()
        self._pinned: str | None = None
        self.user = ""

    def confirmed(self) -> str:
        """Return the uid of the cluster that answers; raises IdentityChanged when it is not the one that did before."""
        with self._api.connection.asking_who():
            if not self.user:
                self.user = self._who_we_are()
            found = self._ask()  # no lock yet: whoever waited for one would wait its own deadline on top
            self._check(found)
        return found

    def _check(self, found: str) -> None:
        with self._lock:
            if self._pinned is None:
                self._pinned = self._settings.cluster_uid or self._recalled() or self._remember(found)
        if found != self._pinned:
            self._api.forget_all()
            raise IdentityChanged(
                f"cluster {self._settings.cluster} was {self._pinned}, {found} answers now; nothing is written to it. "
                f"If it was replaced on purpose, {self._remedy()} and restart"
            )

    def _ask(self) -> str:
        body = self._api.get("/api/v1/namespaces/kube-system", metadata_only=True)
        uid = (body or {}).get("metadata", {}).get("uid")
        if not isinstance(uid, str) or not uid:
            raise PermanentError("the member has no namespace kube-system, by which a cluster is known")
        return uid

    def _who_we_are(self) -> str:
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        answer = self._api.connection.request("POST", _REVIEW, body=encoded(review))
        if answer.is_well:
            body = self._api.body_of(answer, "ask who we are")
            name = str(body.get("status", {}).get("userInfo", {}).get("username") or "")
        elif answer.status == HTTPStatus.NOT_FOUND:
            name = "unknown"  # a member before Kubernetes 1.28 does not say
        elif _ANONYMOUS.encode() in answer.body:
            name = _ANONYMOUS
        else:
            raise failure(answer, "ask who we are")
        if name in ("", _ANONYMOUS):
            self._api.connection.forget()
            raise Anonymous(
                f"the member takes us for {_ANONYMOUS}: {self._settings.kubeconfig} holds no credentials that it "
                "reads; give its user a token, a client certificate or exec"
            )
        return name

    def _remedy(self) -> str:
        where = f"delivery.clusters.{self._settings.cluster}.clusterUid"
        if self._settings.cluster_uid:
            return f"change {where}"
        return f"delete {file}" if (file := self._file()) else f"set {where}"

    def _file(self) -> Path | None:
        folder = self._settings.state_dir
        return folder / IDENTITIES / self._settings.cluster if folder else None

    def _recalled(self) -> str | None:
        """Return the uid that was remembered; None for none, or for a damaged one."""
        file = self._file()
        try:
            held = file.read_bytes() if file else b""
        except FileNotFoundError:
            return None
        except OSError as error:
            raise TemporaryError(f"the identity of the member cannot be read from {file}: {error}") from error
        uid, _, digest = held.decode(errors="replace").strip().partition(" ")
        if file and (digest != _digest(uid) if digest else not _UID.fullmatch(uid)):
            logger.warning("the remembered identity of a member is damaged, and is learnt anew", file=str(file))
            return None
        return uid or None

    def _remember(self, uid: str) -> str:
        file = self._file()
        if file:
            effects.perform("member", f"remember {uid} in {file}", lambda: _write(file, uid))
        return uid


def _digest(uid: str) -> str:
    return hashlib.sha256(uid.encode()).hexdigest()


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = file.with_name(f"{file.name}.partial")
        partial.write_text(f"{text} {_digest(text)}\n", encoding="ascii")
        partial.replace(file)
    except OSError as error:
        raise TemporaryError(f"the identity of the member cannot be kept in {file}: {error.strerror}") from error
