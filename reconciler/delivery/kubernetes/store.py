"""The `Store` of a Kubernetes member: inventories by compare-and-swap, objects by server-side apply, deletes by uid.

Which object may be touched is decided here, just before each request, from what the member itself says of it.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar, cast

import structlog

from reconciler import effects
from reconciler.clock import monotonic, sleep
from reconciler.core.actions import ApplyOptions, ObjectResult, Reason
from reconciler.core.model import Body, Key
from reconciler.delivery.base import FENCE_TRUST_SECONDS, Held, Inventory, Strange, claims, is_secret, key_of, not_ours
from reconciler.delivery.health import health
from reconciler.delivery.kubernetes import fields, inventories, manifests, names
from reconciler.delivery.kubernetes.api import Api, encoded, failure
from reconciler.delivery.kubernetes.inventories import PART_OF
from reconciler.delivery.kubernetes.names import Resource, path_of
from reconciler.delivery.kubernetes.pool import Answer
from reconciler.delivery.kubernetes.settings import MemberSettings
from reconciler.delivery.kubernetes.unwell import (
    ServerTrouble,
    Status,
    Unauthorized,
    Unwell,
    result_of,
    unwell,
)
from reconciler.delivery.kubernetes.waves import in_waves, keys_in_waves
from reconciler.errors import PermanentError, TemporaryError
from reconciler.redact import line

_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_CONFIG_MAP = Resource(group="", version="v1", kind="ConfigMap", plural="configmaps", namespaced=True)
_NAMESPACE = Resource(group="", version="v1", kind="Namespace", plural="namespaces", namespaced=False)
_CRD = "CustomResourceDefinition"
_MANY = 3
"""From so many objects of a kind in a namespace on they are listed by label, fewer are read one by one."""

_EACH = 5
"""A helper is called for so many objects: each costs a connection, which costs more CPU than three requests."""

_MOST_TROUBLES = 5
"""More errors of the server's own than this in one delivery, and the rest of it is left for the next try."""

_FEW = 10
"""The ceiling of pruning as a share counts only where there are more objects than this."""

_POLL_SECONDS = 0.1

_log = structlog.get_logger(__name__)
T = TypeVar("T")
U = TypeVar("U")
_Wanted = tuple[Key, str]
"""An object, and the version of its manifest; empty for whichever the member prefers."""


class Call:
    """What is one delivery's, observation's or withdrawal's own: for whom, how, and until when."""

    def __init__(
        self, placement: Key, *, until: float, options: ApplyOptions | None = None, objects: int | None = None
    ) -> None:
        """`until` is monotonic, `objects` how many the content has; None for a withdrawal, which has no ceiling.

        `listed` are the objects that the inventory had at first, `seen` live ones as this call has left them, `claims`
        what other placements list, once somebody asked.
        """
        self.placement, self.until, self.objects = placement, until, objects
        self.options = options or ApplyOptions()
        self.part_of = inventories.id_of(placement)
        self.listed: frozenset[Key] = frozenset()
        self.seen: dict[Key, Body] = {}
        self.claims: Mapping[Key, Key] | None = None
        self._lock = threading.Lock()
        self._troubles = 0

    def check(self) -> None:
        """Raise TemporaryError when the time is over."""
        if monotonic() >= self.until:
            raise TemporaryError("the member is slow: the time for one delivery is over, the next try goes on with it")

    def note(self, trouble: ServerTrouble) -> None:
        """Count an error of the member's own; raises TemporaryError when there are too many to be an object's fault."""
        with self._lock:
            self._troubles += 1
            if self._troubles > _MOST_TROUBLES:
                raise TemporaryError(f"{_MOST_TROUBLES} objects failed at the member, the last: {trouble}") from trouble


class KubernetesStore:
    """One member. `cluster_uid` is set by whoever made sure which cluster answers, before anything else is asked."""

    def __init__(self, api: Api, settings: MemberSettings) -> None:
        self.api = api
        self.cluster_uid = ""
        self._settings = settings

    @property
    def trust_seconds(self) -> float:
        """The usual: a fence is read again when it is older."""
        return FENCE_TRUST_SECONDS

    def describe(self) -> dict[str, Any]:
        """Return address, identity and version."""
        version = self.api.get("/version") or {}
        server = self.api.connection.server
        return {"type": "kubernetes", "server": server, "uid": self.cluster_uid, "version": version.get("gitVersion")}

    # -- inventories

    def inventories(self) -> Mapping[Key, Inventory]:
        """Return every inventory by its placement; other ApplySets' parents are none."""
        return {placement: inventory for placement, (inventory, _) in self.list_inventories().items()}

    def list_inventories(self, found: Iterable[Body] | None = None) -> dict[Key, tuple[Inventory, str]]:
        """Return every inventory with its version, as `read_inventory` gives it; `found` is what `parents` gave."""
        found = self.parents() if found is None else found
        parsed = [(body, *inventories.parse(body, self.cluster_uid)) for body in found if inventories.is_ours(body)]
        return {
            placement: (inventory, _version_of(body))
            for body, placement, inventory in parsed
            if body["metadata"]["name"] == inventories.name_of(placement)  # a copy under another name is none
        }

    def parents(self) -> list[Body]:
        """Return the parents of all ApplySets that are where ours are."""
        return list(self.api.items(_CONFIG_MAP, inventories.NAMESPACE, inventories.ID))

    def read_inventory(self, placement: Key) -> Held:
        """Return the inventory; its version is the uid and the resourceVersion of its ConfigMap."""
        body = self.api.get(path_of(_CONFIG_MAP, inventories.NAMESPACE, inventories.name_of(placement)))
        return Held(inventory=None, version="") if body is None else self._held(placement, body)

    def swap_inventory(self, placement: Key, held: Held, inventory: Inventory) -> Held | None:
        """Create the ConfigMap, or replace it if it is still the one that was read."""
        uid, _, version = held.version.partition("/")
        read = {"uid": uid, "resourceVersion": version} if held.version else {}
        body = inventories.render(placement, inventory, self.cluster_uid, read)
        what = f"inventory of {placement}"
        write = self._replace_inventory if held.version else self._create_inventory
        answer = write(what, body)
        if answer.status == HTTPStatus.CONFLICT or (held.version and answer.status == HTTPStatus.NOT_FOUND):
            return None
        return self._held(placement, self.api.body_of(answer, f"write the {what}"))

    def _replace_inventory(self, what: str, body: Body) -> Answer:
        path = path_of(_CONFIG_MAP, inventories.NAMESPACE, body["metadata"]["name"])
        return self._write(what, "PUT", path, body)

    def _create_inventory(self, what: str, body: Body) -> Answer:
        path = path_of(_CONFIG_MAP, inventories.NAMESPACE)
        answer = self._write(what, "POST", path, body)
        if answer.status != HTTPStatus.NOT_FOUND:
            return answer
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": inventories.NAMESPACE}}
        made = self._write(f"namespace {inventories.NAMESPACE}", "POST", path_of(_NAMESPACE, ""), namespace)
        if not made.is_well and made.status != HTTPStatus.CONFLICT:
            raise failure(made, f"create the namespace {inventories.NAMESPACE}, where inventories are")
        return self._write(what, "POST", path, body)

    def _write(self, what: str, method: str, path: str, body: Body) -> Answer:
        data, query = encoded(body), {"fieldManager": fields.MANAGER}
        return effects.perform(
            "member", f"write {what}", lambda: self.api.connection.request(method, path, query=query, body=data)
        )

    def _held(self, placement: Key, body: Body) -> Held:
        owner, inventory = inventories.parse(body, self.cluster_uid)
        if owner != placement:
            name = body["metadata"]["name"]
            raise PermanentError(f"the inventory ConfigMap {name} is that of {owner}, not of {placement}")
        return Held(inventory=inventory, version=_version_of(body))

    # -- writing objects

    def apply_objects(
        self, call: Call, objects: tuple[Body, ...], check_fence: Callable[[], None]
    ) -> tuple[ObjectResult, ...]:
        """Apply wave after wave, the objects of a wave in parallel; one that fails does not stop the others."""
        check = _one_at_a_time(check_fence)
        results: list[ObjectResult] = []
        waves = list(in_waves(objects))
        known = self._known(call, [body for body in objects if key_of(body) in call.listed])
        for number, wave in enumerate(waves):
            # what is new is looked for just before: a namespace of the wave before brings objects of its own
            known |= self._absent(call, [body for body in wave if key_of(body) not in known])
            unwell_now = self._each(call, wave, partial(self._apply, call, known, check))
            self._await_kinds(call, _well(wave, unwell_now), [body for later in waves[number + 1 :] for body in later])
            results += unwell_now
        return tuple(results)

    def _known(self, call: Call, objects: Sequence[Body]) -> dict[Key, Body | None]:
        """Return what the member has of the objects that were listed: many of a kind by a list, the first of the rest.

        Whatever is wrong with reading the first is told when its turn comes.
        """
        wanted = [_wanted(body) for body in objects]
        few = [key for keys in self._by_kind(call, wanted).values() if len(keys) < _MANY for key in keys]
        first = next((one for one in wanted if one[0] in few[:1]), None)
        if first is None or len(few) == len(objects):
            return dict(self._labelled(call, wanted))
        read, listed = self.beside(lambda: self._read_ahead(call, *first), lambda: self._labelled(call, wanted))
        return {**listed, **read}

    def _read_ahead(self, call: Call, key: Key, version: str) -> dict[Key, Body | None]:
        try:
            return {key: self._read(key, path_of(self._locate(call, key, version), key.namespace, key.name))}
        except (Unwell, ServerTrouble):
            return {}

    def _apply(self, call: Call, known: Mapping[Key, Body | None], check: Callable[[], None], body: Body) -> None:
        key = key_of(body)
        resource = self._locate(call, key, names.version_of(body))
        path = path_of(resource, key.namespace, key.name)
        live = known[key] if key in known else self._read(key, path)
        if live is None:
            return self._patch_new(call, key, path, body, check)
        _refuse_dying(key, live)
        label = self._label_for(call, key, live)
        if label is not None:
            sent = manifests.sent(body, label)
            if not fields.is_as_sent(sent, live):
                return self._patch_ours(call, key, path, sent, check)
            call.seen[key] = live
            return None
        sent = manifests.sent(body, call.part_of)
        self._may_take_over(call, key, path, sent, live)
        pinned = {**sent, "metadata": {**sent["metadata"], "resourceVersion": live["metadata"]["resourceVersion"]}}
        return self._patch(call, key, path, pinned, check, force=True)

    def _patch_new(self, call: Call, key: Key, path: str, body: Body, check: Callable[[], None]) -> None:
        sent = manifests.sent(body, call.part_of)
        self._patch(call, key, path, sent, check, force=call.options.server_side_force)

    def _patch_ours(self, call: Call, key: Key, path: str, sent: Body, check: Callable[[], None]) -> None:
        """Apply without force; what somebody changed by hand is then put back, a controller's field is a conflict."""
        force = call.options.server_side_force
        answer = self._send(key, path, sent, check, force=force)
        managers = () if answer.is_well else Status.parse(answer.status, answer.body).managers
        if managers and all(fields.is_by_hand(manager) for manager in managers):
            answer = self._send(key, path, sent, check, force=True)
        self._note(call, key, answer)

    def _patch(self, call: Call, key: Key, path: str, sent: Body, check: Callable[[], None], *, force: bool) -> None:
        self._note(call, key, self._send(key, path, sent, check, force=force))

    def _note(self, call: Call, key: Key, answer: Answer) -> None:
        """Judge what came of a write, and keep the object as the member has it now."""
        self._judge(key, answer)
        call.seen[key] = self.api.body_of(answer, f"write {key}")

    def _send(self, key: Key, path: str, sent: Body, check: Callable[[], None], *, force: bool) -> Answer:
        check()
        return effects.perform("member", f"write {key}", lambda: self._ask_to_apply(path, sent, force=force))

    def _ask_to_apply(self, path: str, sent: Body, *, force: bool, dry_run: bool = False) -> Answer:
        query = {"fieldManager": fields.MANAGER, "fieldValidation": "Strict", "force": "true" if force else "false"}
        query |= {"dryRun": "All"} if dry_run else {}
        return self.api.connection.request("PATCH", path, query=query, body=encoded(sent), content_type=_APPLY)

    def _judge(self, key: Key, answer: Answer) -> None:
        if answer.is_well:
            return
        if answer.status == HTTPStatus.NOT_FOUND:
            self.api.forget(key.group)
        raise unwell(key, Status.parse(answer.status, answer.body))

    def _await_kinds(self, call: Call, wave: tuple[Body, ...], later: Iterable[Body]) -> None:
        """Wait until the member serves the kinds that this wave defines and later waves use, within a bound."""
        groups = {manifests.defined_kind(body) for body in wave if body["kind"] == _CRD}
        wanted = {(key_of(body).group, names.version_of(body), body["kind"]) for body in later}
        missing = {one for one in wanted if (one[0], one[2]) in groups}
        until = min(monotonic() + self._settings.crd_seconds, call.until)
        while missing:
            for group, _, _ in missing:
                self.api.forget(group)
            missing = {one for one in missing if not self._is_usable(*one)}
            if not missing or monotonic() >= until:
                return
            sleep(_POLL_SECONDS)

    def _is_usable(self, group: str, version: str, kind: str) -> bool:
        """Tell whether a kind is discovered and answers: a member names it a moment before it serves it."""
        resource = self.api.find(group, version, kind)
        if resource is None:
            return False
        answer = self.api.connection.request("GET", path_of(resource, ""), query={"limit": "1"})
        return answer.status != HTTPStatus.NOT_FOUND

    def _read(self, key: Key, path: str, *, metadata_only: bool = False) -> Body | None:
        """Return the live object, None when there is none; what is wrong with reading it is this object's alone."""
        answer = self.api.ask(path, metadata_only=metadata_only)
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        self._judge(key, answer)
        return self.api.body_of(answer, f"read {key}")

    # -- whose an object is

    def _locate(self, call: Call, key: Key, version: str) -> Resource:
        """Return the kind of an object that the placement may touch; raises Unwell before any request about it."""
        names.check(key)
        namespace = call.placement.namespace
        if namespace and key.namespace != namespace:
            raise Unwell(Reason.REFUSED, f"{key} is not in the namespace {namespace} of {call.placement}")
        resource = self.api.find(key.group, version, key.kind) if version else self.api.find_any(key.group, key.kind)
        if resource is None:
            raise Unwell(Reason.INCOMPLETE, f"{key}: the member does not serve its kind, or not yet")
        if resource.namespaced != bool(key.namespace):
            scope = "lives in a namespace" if resource.namespaced else "has no namespace"
            raise Unwell(Reason.REFUSED, f"{key}: on this member the kind {key.kind} {scope}")
        return resource

    def _label_for(self, call: Call, key: Key, live: Body) -> str | None:
        """Return the label that an object keeps or gets as ours: a co-owner's or our own; None: it is nobody's of ours.

        All placements write as one field manager, so a label that is left out would be taken off.
        """
        label = _label_of(live)
        if label == call.part_of:
            return label
        once_ours = fields.owned_by_us(live) is not None
        if label is None:  # taken off by hand, if the object is in our inventory, else by whoever let go of it
            return call.part_of if once_ours and key in call.listed else None
        listed = self.inventories()
        owner = {inventories.id_of(placement): placement for placement in listed}.get(label)
        if owner is None and not once_ours:
            raise Unwell(Reason.CONFLICT, f"it belongs to the ApplySet {label}, which is none of this program's")
        if owner is None or key not in listed[owner].objects:
            return call.part_of  # what a former owner of this program left behind
        if not call.options.allow_co_ownership:
            raise Unwell(Reason.CONFLICT, f"it belongs to {owner} on this member; {call.placement} does not touch it")
        return label

    def _may_take_over(self, call: Call, key: Key, path: str, sent: Body, live: Body) -> None:
        """Raise Unwell (Conflict) when the placement's `whenToTakeOver` forbids to touch an object that is not its."""
        rule = call.options.take_over
        if rule != "Always" and (why := not_ours(rule, self._changes(rule, key, path, sent, live))):
            raise Unwell(Reason.CONFLICT, why)

    def _changes(self, rule: str, key: Key, path: str, sent: Body, live: Body) -> tuple[str, ...]:
        """Return at which paths the live object would change if it were taken over, where the rule asks for it."""
        if rule != "IfNoDiff":
            return ()
        answer = self._ask_to_apply(path, sent, force=True, dry_run=True)
        self._judge(key, answer)
        return tuple(fields.differences(self.api.body_of(answer, f"try {key}"), live))

    def strangers(self, call: Call, objects: tuple[Body, ...]) -> Mapping[Key, Strange]:
        """Return which are there and nobody's of ours, and where they would change; or why that cannot be told.

        What is refused must not get into the inventory: an object that is listed, and once was ours, counts as ours.
        """
        found: dict[Key, tuple[str, ...]] = {}
        known = self._absent(call, objects)
        unwell_ones = self._each(call, objects, lambda body: self._look_for_stranger(call, body, known, found))
        keys = {line(str(key)): key for key in map(key_of, objects)}
        return {**found, **{keys[result.object]: result for result in unwell_ones}}

    def _look_for_stranger(
        self, call: Call, body: Body, known: Mapping[Key, Body | None], found: dict[Key, tuple[str, ...]]
    ) -> None:
        key = key_of(body)
        try:
            path = path_of(self._locate(call, key, names.version_of(body)), key.namespace, key.name)
        except Unwell:  # where its kind is not served it cannot be there yet; anything else is told when its turn comes
            return
        live = known[key] if key in known else self._read(key, path)
        if live is None or self._label_for(call, key, live) is not None:
            return
        found[key] = self._changes(call.options.take_over, key, path, manifests.sent(body, call.part_of), live)

    # -- deleting objects

    def delete_objects(
        self, call: Call, keys: tuple[Key, ...], check_fence: Callable[[], None]
    ) -> tuple[ObjectResult, ...]:
        """Delete what bears our label, in the reverse order of the waves, and wait a little until it is gone."""
        if ceiling := self._over_the_ceiling(call, len(keys)):
            return (ObjectResult(object=str(call.placement), reason=Reason.REFUSED, message=ceiling),)
        known = self._known_labels() if keys else set()
        if keys:
            call.seen.clear()  # what is deleted may take others with it: look again
        check, dying = _one_at_a_time(check_fence), dict[Key, str]()
        results: list[ObjectResult] = []
        for wave in reversed(keys_in_waves(key for key in keys if names.is_sound(key))):
            results += self._each(call, wave, lambda key: self._delete(call, key, known, check, dying))
        return (*results, *self._await_deletes(call, dying))

    def _known_labels(self) -> set[str]:
        return {inventories.id_of(placement) for placement in self.inventories()}

    def _over_the_ceiling(self, call: Call, count: int) -> str:
        if call.objects is None:
            return ""
        listed, where = count + call.objects, f"delivery.clusters.{self._settings.cluster}"
        if count > self._settings.prune_limit:
            return f"{count} objects left the content, more than pruneLimit allows; raise {where}.pruneLimit to delete"
        if listed > _FEW and count > self._settings.prune_share * listed:
            return f"{count} of {listed} objects left, more than pruneShare allows; raise {where}.pruneShare to delete"
        return ""

    def _delete(self, call: Call, key: Key, known: set[str], check: Callable[[], None], dying: dict[Key, str]) -> None:
        resource = self._still_served(call, key)
        if resource is None:
            return
        path = path_of(resource, key.namespace, key.name)
        live = self._read(key, path, metadata_only=True)
        if live is None:
            return
        if _label_of(live) not in known:
            _log.warning("an object is left: its label was taken off", object=str(key), placement=str(call.placement))
            return
        if not live["metadata"].get("deletionTimestamp"):
            check()
            if self._ask_to_delete(key, path, live["metadata"]["uid"]):
                return
        dying[key] = path

    def _still_served(self, call: Call, key: Key) -> Resource | None:
        try:
            return self._locate(call, key, "")
        except Unwell as error:
            if error.reason is Reason.INCOMPLETE:
                return None  # its kind is gone from the member, and so is every object of it
            raise

    def _ask_to_delete(self, key: Key, path: str, uid: str) -> bool:
        """Delete the object that has this uid; return whether it is gone, and not only marked to be deleted."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": uid},
            "propagationPolicy": "Background",
        }
        request = self.api.connection.request
        answer = effects.perform("member", f"delete {key}", lambda: request("DELETE", path, body=encoded(options)))
        if answer.status == HTTPStatus.NOT_FOUND:
            return True
        if not answer.is_well:
            raise unwell(key, Status.parse(answer.status, answer.body))
        return self.api.body_of(answer, f"delete {key}").get("kind") == "Status"

    def _await_deletes(self, call: Call, dying: Mapping[Key, str]) -> tuple[ObjectResult, ...]:
        """Wait until the objects are gone; those that are still there then are reported, with what holds them."""
        until = min(monotonic() + self._settings.settle_seconds, call.until)
        left, pause = dict(dying), _POLL_SECONDS / 10
        while True:
            found = {key: self.api.get(path, metadata_only=True) for key, path in left.items()}
            left = {key: left[key] for key, live in found.items() if live and live["metadata"].get("deletionTimestamp")}
            if not left or monotonic() >= until:
                return tuple(Unwell(Reason.INCOMPLETE, _dying(key, found[key] or {})).result(key) for key in left)
            sleep(pause)
            pause = min(2 * pause, 3 * _POLL_SECONDS)

    # -- letting go of objects

    def release_objects(
        self, call: Call, keys: tuple[Key, ...], check_fence: Callable[[], None]
    ) -> tuple[ObjectResult, ...]:
        """Take our label off what bears it, and nothing else.

        The fields stay those of our field manager: the next placement, which has the same, so takes out what its own
        manifest does not name.
        """
        known, check = self._known_labels() if keys else set(), _one_at_a_time(check_fence)
        sound = [key for key in keys if names.is_sound(key)]
        return self._each(call, sound, lambda key: self._release(call, key, known, check))

    def _release(self, call: Call, key: Key, known: set[str], check: Callable[[], None]) -> None:
        resource = self._still_served(call, key)
        if resource is None:
            return
        path = path_of(resource, key.namespace, key.name)
        live = self._read(key, path, metadata_only=True)
        if live is None or _label_of(live) not in known:
            return
        check()
        answer = effects.perform("member", f"let go of {key}", lambda: self._ask_to_unlabel(path, live))
        if answer.status != HTTPStatus.NOT_FOUND:
            self._judge(key, answer)

    def _ask_to_unlabel(self, path: str, live: Body) -> Answer:
        """Take the label off the object if it is still as it was read."""
        as_read = {name: live["metadata"][name] for name in ("uid", "resourceVersion")}
        patch = encoded({"metadata": {**as_read, "labels": {PART_OF: None}}})
        query = {"fieldManager": fields.MANAGER}
        return self.api.connection.request("PATCH", path, query=query, body=patch, content_type=_MERGE)

    # -- looking

    def look_at(self, call: Call, objects: tuple[Body, ...]) -> tuple[ObjectResult, ...]:
        """Tell which are missing, changed by others or without our label, and which are not healthy yet.

        What was healthy when this very call wrote it is not read again.
        """
        known = {key: live for key, live in call.seen.items() if health(live).available}
        known |= self._labelled(call, [_wanted(body) for body in objects if key_of(body) not in known])
        return self._each(call, objects, lambda body: self._look_at(call, body, known))

    def _look_at(self, call: Call, body: Body, known: Mapping[Key, Body | None]) -> None:
        key = key_of(body)
        resource = self._locate(call, key, names.version_of(body))
        path = path_of(resource, key.namespace, key.name)
        live = known[key] if key in known else self._read(key, path)
        if live is None:
            raise Unwell(Reason.INCOMPLETE, f"{key} is missing")
        _refuse_dying(key, live)
        self._look_for_changes(call, key, path, body, live)
        found = health(live)
        if not found.available:
            raise Unwell(Reason.NOT_AVAILABLE, f"{key}: {found.message}")

    def _look_for_changes(self, call: Call, key: Key, path: str, body: Body, live: Body) -> None:
        label = _label_of(live)
        if label is None or (label != call.part_of and not self._is_of_an_inventory(label)):
            raise Unwell(Reason.INCOMPLETE, f"{key} has lost the label {PART_OF}")
        sent = manifests.sent(body, label)
        if taken := fields.taken_by_others(sent, live):
            where = "" if is_secret(key) else f" at {', '.join(taken[:5])}"
            raise Unwell(Reason.INCOMPLETE, f"{key} was changed on the member{where}")
        # a co-owner writes as the same manager, so whose the fields are tells nothing; what this call wrote is as sent
        is_known = live is call.seen.get(key) or fields.is_as_sent(sent, live)
        may_differ = not is_known and self._is_shared(call, key)
        if may_differ and self._changes("IfNoDiff", key, path, sent, live):
            raise Unwell(Reason.INCOMPLETE, f"{key} was written otherwise by another placement that owns it too")

    def _is_shared(self, call: Call, key: Key) -> bool:
        """Tell whether another placement lists the object, too; the inventories are read once a call."""
        if call.claims is None:
            call.claims = claims(call.placement, self.inventories())
        return key in call.claims

    def _is_of_an_inventory(self, label: str) -> bool:
        return label in self._known_labels()

    def missing(self, placement: Key, inventory: Inventory) -> tuple[str, ...]:
        """Return which objects of an inventory are not on the member; of what we may not read nothing is said."""
        call = Call(placement, until=monotonic() + self._settings.step_seconds)
        there = self._labelled(call, [(key, "") for key in inventory.objects])
        unseen = [key for key in inventory.objects if key not in there]
        results = self._each(call, unseen, lambda key: self._look_for(call, key))
        return tuple(result.object for result in results if result.reason is not Reason.UNAUTHORIZED)

    def _look_for(self, call: Call, key: Key) -> None:
        resource = self._locate(call, key, "")
        if self._read(key, path_of(resource, key.namespace, key.name), metadata_only=True) is None:
            raise Unwell(Reason.INCOMPLETE, f"{key} is missing")

    # -- many at once

    def beside(self, here: Callable[[], T], there: Callable[[], U]) -> tuple[T, U]:
        """Do both, at the same time where the member may be asked several things at once."""
        return (here(), there()) if self._settings.parallel == 1 else beside(here, there)

    def _labelled(self, call: Call, wanted: Iterable[_Wanted]) -> dict[Key, Body]:
        """Return the live objects of the placement that are worth a list: where it has many of a kind."""
        found: dict[Key, Body] = {}
        for (resource, namespace), keys in self._by_kind(call, wanted).items():
            if len(keys) >= _MANY:
                call.check()
                found |= self._list(resource, namespace, f"{PART_OF}={call.part_of}")
        return found

    def _absent(self, call: Call, objects: Sequence[Body]) -> dict[Key, Body | None]:
        """Say None of the objects that nobody has on the member, and what those are that bear our label unlisted."""
        found: dict[Key, Body | None] = {}
        for (resource, namespace), keys in self._by_kind(call, map(_wanted, objects)).items():
            if len(keys) < _MANY:
                continue
            call.check()
            if (taken := self.api.names(resource, namespace)) is not None:
                found |= {key: None for key in keys if key.name not in taken}
        return found | self._labelled(call, [_wanted(body) for body in objects if key_of(body) not in found])

    def _by_kind(self, call: Call, wanted: Iterable[_Wanted]) -> Mapping[tuple[Resource, str], list[Key]]:
        groups: dict[tuple[Resource, str], list[Key]] = {}
        for key, version in wanted:
            try:
                resource = self._locate(call, key, version)
            except Unwell:
                continue  # it is told when its turn comes
            groups.setdefault((resource, key.namespace), []).append(key)
        return groups

    def _list(self, resource: Resource, namespace: str, selector: str) -> dict[Key, Body]:
        try:
            return {key_of(item): item for item in self.api.items(resource, namespace, selector)}
        except (Unauthorized, PermanentError):
            return {}  # each is read by itself then, and told by itself

    def _each(self, call: Call, items: Sequence[T], work: Callable[[T], None]) -> tuple[ObjectResult, ...]:
        """Do the work for each item, several at once; return what is not well. Any other error ends all of it."""

        def one(item: T) -> ObjectResult | None:
            call.check()
            key = item if isinstance(item, Key) else key_of(item)  # type: ignore[arg-type]
            try:
                work(item)
            except Unwell as error:
                return error.result(key)
            except ServerTrouble as trouble:
                call.note(trouble)
                return result_of(key, Reason.INCOMPLETE, trouble)
            return None

        if self._settings.parallel == 1 or len(items) <= 1:
            results = [one(item) for item in items]
        else:
            results = _in_parallel(self._settings.parallel, items, one)
        return tuple(result for result in results if result is not None)


_helpers = ThreadPoolExecutor(32, thread_name_prefix="helper")
"""Threads that help with any member's delivery; its own thread works too, so none ever waits for them alone."""


def beside(here: Callable[[], T], there: Callable[[], U]) -> tuple[T, U]:
    """Do both, the second on a helper's connection if one is free; the first error is raised."""
    helping = _helpers.submit(there)
    try:
        first = here()
    except BaseException:
        helping.cancel()
        raise
    return first, (there() if helping.cancel() else helping.result())


def _in_parallel(
    threads: int, items: Sequence[T], work: Callable[[T], ObjectResult | None]
) -> list[ObjectResult | None]:
    """Return the results in the order of the items; the first error lets what has begun end, and is raised."""
    results: list[ObjectResult | None] = [None] * len(items)
    failures: list[tuple[int, BaseException]] = []
    left, lock = iter(enumerate(items)), threading.Lock()

    def go_on() -> None:
        while not failures:
            with lock:
                number, item = next(left, (-1, None))
            if number < 0:
                return
            try:
                results[number] = work(cast("T", item))
            except BaseException as error:  # noqa: BLE001 - raised by whom this is done for
                failures.append((number, error))

    helping = [_helpers.submit(go_on) for _ in range(min(threads, -(-len(items) // _EACH)) - 1)]
    go_on()
    wait([one for one in helping if not one.cancel()])
    if failures:
        raise min(failures, key=lambda failure: failure[0])[1]
    return results


def _one_at_a_time(check: Callable[[], None]) -> Callable[[], None]:
    lock = threading.Lock()

    def checked() -> None:
        with lock:
            check()

    return checked


def _wanted(body: Body) -> _Wanted:
    return key_of(body), names.version_of(body)


def _well(wave: tuple[Body, ...], results: Iterable[ObjectResult]) -> tuple[Body, ...]:
    unwell_ones = {result.object for result in results}
    return tuple(body for body in wave if str(key_of(body)) not in unwell_ones)


def _version_of(parent: Body) -> str:
    return f"{parent['metadata']['uid']}/{parent['metadata']['resourceVersion']}"


def _label_of(live: Body) -> str | None:
    labels: Mapping[str, str] = live["metadata"].get("labels") or {}
    return labels.get(PART_OF)


def _refuse_dying(key: Key, live: Body) -> None:
    if live["metadata"].get("deletionTimestamp"):
        raise Unwell(Reason.INCOMPLETE, _dying(key, live))


def _dying(key: Key, live: Body) -> str:
    finalizers = live.get("metadata", {}).get("finalizers") or ()
    held = f"; its finalizers hold it: {', '.join(str(one) for one in finalizers[:5])}" if finalizers else ""
    return f"{key} is being deleted{held}"
