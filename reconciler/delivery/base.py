"""What every way of reaching a member shares: the `Delivery` protocol, the inventory, and the order of writing.

A backend brings a `Store`, the few things that it alone can do; `FencedDelivery` does the rest, so that no backend
can get the order wrong. Here live no files, no network and no threads.

The order, for each placement on a member: read the inventory; refuse a fence lower than the one it holds; write the
inventory, opened, by compare-and-swap; write the objects; prune what left; close the inventory by compare-and-swap.
So whatever is on the member because of us is listed before it is there, and a newer intent shuts out an older one.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, runtime_checkable

from reconciler.clock import monotonic
from reconciler.core.actions import Content, Fence, ObjectResult, Reason, Report
from reconciler.core.model import Body, Key
from reconciler.errors import PermanentError, ReconcilerError, TemporaryError
from reconciler.redact import line

FENCE_TRUST_SECONDS = 15.0
"""How long a fence that was read on a member is believed before it is read again."""

IDENTITIES = "identities"
"""The folder below the state folder in which the uids of member clusters are remembered."""

_SWAP_TRIES = 5
_MOST_PATHS = 5

_WORST_FIRST = {
    reason: place
    for place, reason in enumerate(
        (
            Reason.IDENTITY_CHANGED,
            Reason.UNAUTHORIZED,
            Reason.REFUSED,
            Reason.CONFLICT,
            Reason.UNREACHABLE,
            Reason.INCOMPLETE,
            Reason.NOT_AVAILABLE,
        )
    )
}


class Delivery(Protocol):
    """One member cluster, as the workers see it. Whatever is wrong with it is a `Report`, told per object."""

    def deliver(self, placement: Key, content: Content, fence: Fence) -> Report:
        """Bring the content to the member and prune what left; doing it again changes nothing."""

    def observe(self, placement: Key, content: Content, fence: Fence) -> Report:
        """Look, without writing, whether the content is there completely under this fence, and healthy."""

    def withdraw(self, placement: Key, fence: Fence, *, keep: bool = False) -> Report:
        """Remove exactly what the inventory of the placement lists; with `keep` let go of it and leave it there."""

    def describe(self) -> dict[str, Any]:
        """Return `reachable`, what the backend tells of the member, and `inventories`: fence, hash, objects (count)."""

    def highest_epoch(self, repository: str) -> int:
        """Return the highest epoch that an inventory of this repository holds, 0 when there is none.

        Raises TemporaryError when the member does not answer: not knowing is not 0.
        """


@runtime_checkable
class Greets(Protocol):
    """A `Delivery` to a member that can be another one than it was, or not know us, and be asked so beforehand."""

    def greet(self) -> Report:
        """Ask who answers and as whom it knows us, and nothing else; `Available` when that is as it should be."""


# -- the inventory -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What one placement has on a member: who wrote last, what is there completely (None: in doubt), which objects."""

    fence: Fence
    complete: str | None = None
    objects: tuple[Key, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An inventory as it was read. `version` is the backend's own mark for compare-and-swap; None: there was none."""

    inventory: Inventory | None
    version: str


class Halt(ReconcilerError):
    """The whole call ends here, for a reason that is no single object's; a backend may add its own."""

    reason: ClassVar[Reason]


class FenceLost(Halt):
    """A newer intent has the member."""

    reason = Reason.FENCE_LOST


class NotOurs(Halt):
    """The inventory belongs to another repository."""

    reason = Reason.CONFLICT


def key_of(body: Body) -> Key:
    """Return what names the object."""
    metadata = body["metadata"]
    return Key(
        group=str(body["apiVersion"]).rpartition("/")[0],
        kind=body["kind"],
        namespace=metadata.get("namespace") or "",
        name=metadata["name"],
    )


def is_secret(key: Key) -> bool:
    """Tell whether the object's values may never be told."""
    return key.kind == "Secret" and key.group == ""


def delivered(objects: Iterable[Body]) -> tuple[Body, ...]:
    """Return what is really written: namespaces without `spec.finalizers`, which are the member's own business."""
    return tuple(_without_finalizers(body) for body in objects)


def _without_finalizers(body: Body) -> Body:
    spec = body.get("spec")
    if body["kind"] != "Namespace" or body["apiVersion"] != "v1" or not spec or "finalizers" not in spec:
        return body
    kept = {name: value for name, value in spec.items() if name != "finalizers"}
    rest = {name: value for name, value in body.items() if name != "spec"}
    return {name: kept if name == "spec" else value for name, value in body.items()} if kept else rest


def judge(placement: Key, inventory: Inventory | None, fence: Fence) -> None:
    """Refuse what may not write here: raises NotOurs for another repository, FenceLost for a lower fence."""
    if inventory is None:
        return
    held = inventory.fence
    if held.repository != fence.repository:
        raise NotOurs(
            f"{placement} on this member belongs to repository {held.repository}, this is {fence.repository}; "
            "rename the placement, or let only one repository deliver to this member"
        )
    if held > fence:
        raise FenceLost(
            f"{placement} on this member was taken over by the newer {_intent(held)}; this is {_intent(fence)}"
        )


def judge_content(placement: Key, inventory: Inventory | None, fence: Fence, content: Content) -> None:
    """Refuse another content under the very fence that the inventory holds: raises FenceLost.

    A number is drawn once, for one content. That it was drawn again says that the status branch was set back.
    """
    if inventory is not None and inventory.fence == fence and inventory.complete not in (None, content.hash):
        raise FenceLost(
            f"{placement} on this member has other content under the same {_intent(fence)}: hash {inventory.complete}"
        )


def _intent(fence: Fence) -> str:
    return f"intent {fence.seq} of epoch {fence.epoch}"


def opened(inventory: Inventory | None, fence: Fence, keys: Iterable[Key]) -> Inventory:
    """Return the inventory to write first: everything that was or may come to be there, nothing complete."""
    before = inventory.objects if inventory else ()
    return Inventory(fence=fence, complete=None, objects=tuple(dict.fromkeys((*keys, *before))))


def closed(fence: Fence, content: Content) -> Inventory:
    """Return the inventory to write last: exactly this content, complete."""
    return Inventory(fence=fence, complete=content.hash, objects=tuple(key_of(body) for body in content.objects))


def emptied(fence: Fence) -> Inventory:
    """Return what stays after a withdrawal: no objects, but the fence, so that no older intent can come back."""
    return Inventory(fence=fence, complete=None, objects=())


def to_prune(inventory: Inventory, content: Content) -> tuple[Key, ...]:
    """Return the listed objects that the content has no more, last written first; nothing for an empty content."""
    new = {key_of(body) for body in content.objects}
    return tuple(key for key in reversed(inventory.objects) if key not in new) if new else ()


def claims(placement: Key, inventories: Mapping[Key, Inventory]) -> dict[Key, Key]:
    """Return which objects other placements of the member list: object → placement."""
    return {key: owner for owner, inventory in inventories.items() if owner != placement for key in inventory.objects}


def differences(wanted: Any, found: Any, path: str = "") -> Iterator[str]:
    """Give the paths, never the values, at which two objects are not equal; `.` for all of it.

    Labels and annotations of Kubernetes itself do not count, which an API server sets as it likes.
    """
    found = {} if path and found is None and isinstance(wanted, Mapping) else found
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        for name in sorted({*wanted, *found}):
            if path not in (".metadata.labels", ".metadata.annotations") or "kubernetes.io/" not in name:
                yield from differences(wanted.get(name), found.get(name), f"{path}.{name}")
    elif wanted != found:
        yield path or "."


# -- what a backend brings -----------------------------------------------------------------------------------------


Strange = tuple[str, ...] | ObjectResult
"""At which paths an object that is nobody's differs, or why that cannot be told."""


class Store(Protocol):
    """What only the backend can do, step by step.

    Each may raise TemporaryError (the member did not answer), PermanentError (it will not take this) or a `Halt`;
    results name only the objects that are not well.
    """

    @property
    def trust_seconds(self) -> float:
        """How old a fence may be before it is read again: `FENCE_TRUST_SECONDS`, as a rule.

        0 says more: nobody can move the fence between its check and the write that follows, as under a lock.
        """

    def describe(self) -> dict[str, Any]:
        """Return what tells this member from others: version, identity, place."""

    def inventories(self) -> Mapping[Key, Inventory]:
        """Return every inventory on the member by its placement, those of other repositories too."""

    def read_inventory(self, placement: Key) -> Held:
        """Return the inventory as it is now."""

    def swap_inventory(self, placement: Key, held: Held, inventory: Inventory) -> Held | None:
        """Write the inventory if it is still as `held`, and return it as it is now; None: somebody else was faster."""

    def apply_objects(self, objects: tuple[Body, ...], check_fence: Callable[[], None]) -> tuple[ObjectResult, ...]:
        """Write the objects, calling `check_fence` before each; one that fails does not stop the others."""

    def delete_objects(self, keys: tuple[Key, ...], check_fence: Callable[[], None]) -> tuple[ObjectResult, ...]:
        """Delete the objects, calling `check_fence` before each; one that is gone already is well."""

    def release_objects(self, keys: tuple[Key, ...], check_fence: Callable[[], None]) -> tuple[ObjectResult, ...]:
        """Take our mark off the objects, calling `check_fence` before each; what is in them stays as it is."""

    def strangers(self, objects: tuple[Body, ...]) -> Mapping[Key, Strange]:
        """Return which of these objects, that no inventory lists, are there already, and at which paths they differ.

        One of which that cannot be told is among them, with the reason: nobody may take it for ours meanwhile.
        """

    def look_at(self, objects: tuple[Body, ...]) -> tuple[ObjectResult, ...]:
        """Tell which are missing or changed (INCOMPLETE) or not healthy yet (NOT_AVAILABLE)."""


class FenceCheck:
    """Reads the fence on the member again when what is known of it is too old; raises FenceLost when it moved."""

    def __init__(self, store: Store, placement: Key, fence: Fence) -> None:
        self._store, self._placement, self._fence = store, placement, fence
        self._read_at = monotonic()
        self._passed = 0

    def __call__(self) -> None:
        """Let the next object pass, or raise."""
        now = monotonic()
        if now - self._read_at >= self._store.trust_seconds:
            self._read_again()
            self._read_at = now  # the moment before the question: the answer may be as old as that
        self._passed += 1

    @property
    def may_have_strayed(self) -> bool:
        """Whether something may have been written or deleted after the fence had moved."""
        return self._passed > 0 and self._store.trust_seconds > 0

    def stood(self) -> None:
        """Say that the fence was there when all was done: nothing strayed."""
        self._passed = 0

    def _read_again(self) -> None:
        inventory = self._store.read_inventory(self._placement).inventory
        try:
            judge(self._placement, inventory, self._fence)
        except FenceLost as error:
            raise self.lost(str(error)) from error
        if inventory is None or inventory.fence != self._fence:
            raise self.lost(f"the inventory of {self._placement} is not the one that was opened")

    def lost(self, why: str) -> FenceLost:
        """Return the error that says what was done before the fence was seen lost."""
        done = f"up to {self._passed} objects were written or deleted before"
        return FenceLost(f"{why}; {done}, under {_intent(self._fence)}")


# -- the order of writing ------------------------------------------------------------------------------------------

Unlisted = dict[Key, tuple[Key, ...]]
"""Placement → objects that may have been written after the fence had moved, until an inventory is seen to list them."""


class FencedDelivery:
    """The `Delivery` of any backend that brings a `Store`."""

    def __init__(self, store: Store, unlisted: Unlisted | None = None) -> None:
        """`unlisted` is for who makes one for each call: what one call leaves in doubt, a later one has to know."""
        self._store = store
        self._unlisted: Unlisted = {} if unlisted is None else unlisted

    def deliver(self, placement: Key, content: Content, fence: Fence) -> Report:
        """Bring the content to the member and prune what left; a repeated delivery writes nothing."""
        content = replace(content, objects=delivered(content.objects))
        return answered(lambda: self._deliver(placement, content, fence))

    def observe(self, placement: Key, content: Content, fence: Fence) -> Report:
        """Look whether the content is there, object by object, under this fence, and healthy."""
        content = replace(content, objects=delivered(content.objects))
        return answered(lambda: self._observe(placement, content, fence))

    def withdraw(self, placement: Key, fence: Fence, *, keep: bool = False) -> Report:
        """Remove what the inventory lists, or let go of it; the emptied inventory stays and keeps the fence."""
        return answered(lambda: self._withdraw(placement, fence, keep=keep))

    def describe(self) -> dict[str, Any]:
        """Return whether the member answers, what it says it is, and its inventories."""
        try:
            inventories = sorted(self._store.inventories().items(), key=lambda item: item[0])
            summaries = {str(placement): _summary(inventory) for placement, inventory in inventories}
            return {"reachable": True, **self._store.describe(), "inventories": summaries}
        except TemporaryError as error:
            return {"reachable": False, "message": line(str(error)), "inventories": {}}
        except PermanentError as error:
            return {"reachable": True, "message": line(str(error)), "inventories": {}}

    def highest_epoch(self, repository: str) -> int:
        """Return the highest epoch of this repository on the member, 0 for none; raises what the backend raises."""
        fences = (one.fence for one in self._store.inventories().values())
        return max((fence.epoch for fence in fences if fence.repository == repository), default=0)

    def _deliver(self, placement: Key, content: Content, fence: Fence) -> Report:
        if not content.objects:
            raise PermanentError(f"{placement} has no objects to deliver; an empty content is never delivered")
        found = self._store.read_inventory(placement)
        self._judge(placement, found.inventory, fence)
        judge_content(placement, found.inventory, fence, content)
        if (settled := self._settled(placement, found, content, fence)) is not None:
            return settled
        others = claims(placement, self._store.inventories())
        conflicts = {} if content.options.allow_co_ownership else _conflicts(placement, content, others)
        conflicts |= self._not_taken_over(found.inventory, content, others)
        ours = tuple(body for body in content.objects if key_of(body) not in conflicts)
        check = FenceCheck(self._store, placement, fence)
        keys = tuple(key_of(body) for body in ours)
        held = self._open(placement, fence, keys, found)
        with self._confessing(placement, keys, check):
            unwell = (*conflicts.values(), *self._store.apply_objects(ours, check))
            if not unwell:  # what left is kept until all that comes is there
                unwell = self._prune(to_prune(_inventory_of(held), content), others, check)
            if unwell:
                return report_of(None, unwell)
            self._close(placement, held, closed(fence, content), check)
        return report_of(content.hash, self._store.look_at(content.objects))

    def _not_taken_over(
        self, before: Inventory | None, content: Content, others: Mapping[Key, Key]
    ) -> dict[Key, ObjectResult]:
        """Return the objects that are there, in no inventory, and that `whenToTakeOver` forbids to take over.

        It is asked before the inventory is opened, which lists what is about to be written.
        """
        rule = content.options.take_over
        if rule == "Always":
            return {}
        listed = {*(before.objects if before else ()), *others}
        found = self._store.strangers(tuple(body for body in content.objects if key_of(body) not in listed))
        refusals = {key: _refusal(key, rule, what) for key, what in found.items()}
        return {key: refusal for key, refusal in refusals.items() if refusal is not None}

    def _settled(self, placement: Key, found: Held, content: Content, fence: Fence) -> Report | None:
        """Return the report when everything is there under this very fence already, so that nothing is written."""
        if found.inventory != closed(fence, content) or self._in_doubt(placement, found.inventory):
            return None
        report = report_of(content.hash, self._store.look_at(content.objects))
        return report if report.complete else None

    def _observe(self, placement: Key, content: Content, fence: Fence) -> Report:
        inventory = self._store.read_inventory(placement).inventory
        self._judge(placement, inventory, fence)
        if inventory is None:
            return _incomplete(f"nothing of {placement} was delivered to this member")
        if inventory.fence != fence:
            # an intent between the two could still overwrite it: it counts only once this fence stands
            return _incomplete(f"{placement} was last written under the older {_intent(inventory.fence)}")
        if inventory != closed(fence, content):
            return _incomplete(f"the delivery of {placement} was begun and not completed")
        if self._in_doubt(placement, inventory):
            return _incomplete(f"an older intent of {placement} was cut off and may have written since")
        return report_of(content.hash, self._store.look_at(content.objects))

    def _withdraw(self, placement: Key, fence: Fence, *, keep: bool) -> Report:
        found = self._store.read_inventory(placement)
        self._judge(placement, found.inventory, fence)
        if found.inventory == emptied(fence) and not self._in_doubt(placement, found.inventory):
            return Report(complete=None, reason=Reason.WITHDRAWN)
        check = FenceCheck(self._store, placement, fence)
        held = self._open(placement, fence, (), found)
        others = claims(placement, self._store.inventories())
        with self._confessing(placement, (), check):
            listed = tuple(key for key in reversed(_inventory_of(held).objects) if key not in others)
            unwell = (self._store.release_objects if keep else self._store.delete_objects)(listed, check)
            if unwell:
                return report_of(None, unwell)
            self._close(placement, held, emptied(fence), check)
        return Report(complete=None, reason=Reason.WITHDRAWN)

    def _prune(self, keys: tuple[Key, ...], others: Mapping[Key, Key], check: FenceCheck) -> tuple[ObjectResult, ...]:
        """Delete what is left of these once the other placements' objects are spared."""
        return self._store.delete_objects(tuple(key for key in keys if key not in others), check)

    def _open(self, placement: Key, fence: Fence, keys: tuple[Key, ...], found: Held) -> Held:
        """Write the inventory, opened; `found` is how it was a moment ago, which the first swap makes sure of."""
        for number in range(_SWAP_TRIES):
            is_first = number == 0 and found.inventory != self._opened(placement, found.inventory, fence, keys)
            held = found if is_first else self._store.read_inventory(placement)
            judge(placement, held.inventory, fence)
            wanted = self._opened(placement, held.inventory, fence, keys)
            swapped = held if held.inventory == wanted else self._store.swap_inventory(placement, held, wanted)
            if swapped is not None:
                self._unlisted.pop(placement, None)
                return swapped
        raise TemporaryError(f"the inventory of {placement} changed {_SWAP_TRIES} times while it was to be written")

    def _opened(self, placement: Key, before: Inventory | None, fence: Fence, keys: tuple[Key, ...]) -> Inventory:
        wanted = opened(before, fence, keys)
        return replace(wanted, objects=tuple(dict.fromkeys((*wanted.objects, *self._unlisted.get(placement, ())))))

    def _close(self, placement: Key, held: Held, inventory: Inventory, check: FenceCheck) -> None:
        if self._store.swap_inventory(placement, held, inventory) is not None:
            return check.stood()
        found = self._store.read_inventory(placement).inventory
        if found == inventory:
            return check.stood()  # somebody who carries out the same intent has closed it
        who = _intent(found.fence) if found is not None and found.fence > inventory.fence else "somebody else"
        raise check.lost(f"the inventory of {placement} was changed by {who} before it could be closed")

    def _judge(self, placement: Key, inventory: Inventory | None, fence: Fence) -> None:
        """Judge as `judge` does; an intent that was taken over first lists what tries of it may have written."""
        try:
            judge(placement, inventory, fence)
        except FenceLost as error:
            if not self._in_doubt(placement, inventory):
                raise
            count = len(self._unlisted[placement])
            said = self._confessed(placement, self._unlisted[placement])
            raise FenceLost(
                f"{error}; up to {count} objects were written before, by a try that was cut off{said}"
            ) from error

    def _in_doubt(self, placement: Key, inventory: Inventory | None) -> bool:
        """Tell whether something may have been written that the inventory does not list."""
        listed = inventory.objects if inventory else ()
        return any(key not in listed for key in self._unlisted.get(placement, ()))

    @contextmanager
    def _confessing(self, placement: Key, keys: tuple[Key, ...], check: FenceCheck) -> Iterator[None]:
        """When the fence is lost on the way, list in the newer inventory what may have been written after that.

        Else a stray object would be in no inventory, and nobody would ever prune it. The newer inventory is marked as
        not complete, so that the newer intent is delivered again. What ends in any other way than closed may turn out
        to have been too late, and is remembered for the next call.
        """
        try:
            yield
        except FenceLost as error:
            said = self._confessed(placement, keys) if check.may_have_strayed else ""
            raise FenceLost(f"{error}{said}") from error
        except Exception:
            self._remember(placement, keys, check)
            raise
        self._remember(placement, keys, check)

    def _remember(self, placement: Key, keys: tuple[Key, ...], check: FenceCheck) -> None:
        if keys and check.may_have_strayed:
            self._unlisted[placement] = keys

    def _confessed(self, placement: Key, keys: tuple[Key, ...]) -> str:
        """List the objects in the newer inventory; where the member does not answer, say so and leave it for later."""
        self._unlisted[placement] = keys
        try:
            self._confess(placement, keys)
        except TemporaryError as error:
            return f"; they could not be listed there yet: {error}"
        del self._unlisted[placement]
        return ""

    def _confess(self, placement: Key, keys: tuple[Key, ...]) -> None:
        for _ in range(_SWAP_TRIES):
            held = self._store.read_inventory(placement)
            if held.inventory is None:
                return
            doubted = replace(
                held.inventory, complete=None, objects=tuple(dict.fromkeys((*held.inventory.objects, *keys)))
            )
            if held.inventory == doubted or self._store.swap_inventory(placement, held, doubted) is not None:
                return
        raise TemporaryError(f"the inventory of {placement} changed {_SWAP_TRIES} times while it was to be doubted")


def _inventory_of(held: Held) -> Inventory:
    assert held.inventory is not None
    return held.inventory


# -- wording -------------------------------------------------------------------------------------------------------


def report_of(content_hash: str | None, unwell: Iterable[ObjectResult]) -> Report:
    """Return the report for objects that are not well, worst first; with none of them the content is available.

    The hash counts as complete only while nothing worse than "not available yet" is among them.
    """
    results = tuple(sorted(unwell, key=lambda one: _WORST_FIRST[one.reason]))
    if not results:
        return Report(complete=content_hash, reason=Reason.AVAILABLE)
    worst = results[0]
    complete = content_hash if worst.reason is Reason.NOT_AVAILABLE else None
    return Report(complete=complete, reason=worst.reason, object=worst.object, message=worst.message, results=results)


def answered(call: Callable[[], Report]) -> Report:
    """Return the call's report, or the report that its error amounts to."""
    try:
        return call()
    except Halt as error:
        return failed(error.reason, error)
    except TemporaryError as error:
        return replace(failed(Reason.UNREACHABLE, error), pause_seconds=error.pause_seconds)
    except PermanentError as error:
        return failed(Reason.REFUSED, error)


def failed(reason: Reason, error: ReconcilerError) -> Report:
    """Return the report of a call that ended with this error, so that nothing is known of the content."""
    return Report(complete=None, reason=reason, message=line(str(error)), turned_away=error.turned_away)


def not_configured(cluster: str) -> Report:
    """Return the report of a cluster of which the operator has not said how to reach it."""
    message = line(f"delivery.clusters.{cluster} is not in the settings")
    return Report(complete=None, reason=Reason.NOT_CONFIGURED, message=message, turned_away=True)


def _incomplete(message: str) -> Report:
    return Report(complete=None, reason=Reason.INCOMPLETE, message=message)


def _conflicts(placement: Key, content: Content, others: Mapping[Key, Key]) -> dict[Key, ObjectResult]:
    keys = (key_of(body) for body in content.objects)
    return {
        key: _conflict(key, f"it belongs to {others[key]} on this member; {placement} does not touch it")
        for key in keys
        if key in others
    }


def _refusal(key: Key, rule: str, what: Strange) -> ObjectResult | None:
    if isinstance(what, ObjectResult):
        return what
    message = not_ours(rule, what)
    return _conflict(key, message) if message else None


def not_ours(rule: str, paths: tuple[str, ...]) -> str:
    """Return why an object that is there already is left; empty where the rule lets it be taken over."""
    if rule != "IfNoDiff":
        return f"it is there already and not ours; whenToTakeOver is {rule}"
    return f"it is there already and differs at {', '.join(paths[:_MOST_PATHS])}; it is left" if paths else ""


def _conflict(key: Key, message: str) -> ObjectResult:
    return ObjectResult(object=line(str(key)), reason=Reason.CONFLICT, message=line(message))


def _summary(inventory: Inventory) -> dict[str, Any]:
    fence = inventory.fence
    return {
        "repository": fence.repository,
        "epoch": fence.epoch,
        "seq": fence.seq,
        "hash": inventory.complete,
        "objects": len(inventory.objects),
    }
