"""A member in memory that misbehaves on request: the deliberately awkward second implementation of `Delivery`.

Its verbs set how it behaves from then on, until `heals`; it keeps its objects and a log of every write.
"""

from collections.abc import Callable, Mapping
from threading import RLock
from typing import Any

from reconciler import effects
from reconciler.core.actions import Content, Fence, ObjectResult, Reason, Report
from reconciler.core.model import Body, Key
from reconciler.delivery.base import FENCE_TRUST_SECONDS, FencedDelivery, Halt, Held, Inventory, differences, key_of
from reconciler.errors import TemporaryError


class IdentityChanged(Halt):
    """Another cluster answers under this name."""

    reason = Reason.IDENTITY_CHANGED


def turned_away(message: str) -> TemporaryError:
    """Return the error of a member that did not answer, whatever was to be asked."""
    error = TemporaryError(message)
    error.turned_away = True
    return error


class Memory:
    """The awkward member's `Store`: objects and inventories in dictionaries, swapped by a version number."""

    trust_seconds = FENCE_TRUST_SECONDS

    def __init__(self) -> None:
        self.objects: dict[Key, Body] = {}
        self.held: dict[Key, Held] = {}
        self.log: list[str] = []
        self.refusal = ""
        self.holds = False
        self.breaks_after: int | None = None
        self.looks_until_available: float = 0
        self._version = 0
        self._lock = RLock()

    def describe(self) -> dict[str, Any]:
        return {"type": "awkward"}

    def inventories(self) -> Mapping[Key, Inventory]:
        with self._lock:
            return {placement: held.inventory for placement, held in self.held.items() if held.inventory}

    def read_inventory(self, placement: Key) -> Held:
        return self.held.get(placement, Held(inventory=None, version=""))

    def swap_inventory(self, placement: Key, held: Held, inventory: Inventory) -> Held | None:
        with self._lock:
            if self.read_inventory(placement).version != held.version:
                return None
            self._version += 1
            new = Held(inventory=inventory, version=str(self._version))
            self._write(f"inventory of {placement}", lambda: self.held.__setitem__(placement, new))
            return new

    def apply_objects(self, objects: tuple[Body, ...], check_fence: Callable[[], None]) -> tuple[ObjectResult, ...]:
        if self.refusal:
            return tuple(
                ObjectResult(object=str(key_of(body)), reason=Reason.REFUSED, message=self.refusal) for body in objects
            )
        for count, body in enumerate(objects):
            if count == self.breaks_after:
                raise TemporaryError(f"connection lost after {count} objects")
            check_fence()
            key = key_of(body)
            if self.objects.get(key) != body:
                self._write(str(key), lambda key=key, body=body: self.objects.__setitem__(key, body))
        return ()

    def delete_objects(self, keys: tuple[Key, ...], check_fence: Callable[[], None]) -> tuple[ObjectResult, ...]:
        if self.holds:
            return tuple(
                ObjectResult(object=str(key), reason=Reason.INCOMPLETE, message="a finalizer holds it") for key in keys
            )
        for key in keys:
            check_fence()
            if key in self.objects:
                self._write(f"delete {key}", lambda key=key: self.objects.pop(key))
        return ()

    def release_objects(self, keys: tuple[Key, ...], check_fence: Callable[[], None]) -> tuple[ObjectResult, ...]:
        return ()  # an object bears no mark

    def strangers(self, objects: tuple[Body, ...]) -> Mapping[Key, tuple[str, ...]]:
        keys = ((key_of(body), body) for body in objects)
        return {key: tuple(differences(body, self.objects[key])) for key, body in keys if key in self.objects}

    def look_at(self, objects: tuple[Body, ...]) -> tuple[ObjectResult, ...]:
        found = [_compare(body, self.objects.get(key_of(body))) for body in objects]
        if any(found):
            return tuple(result for result in found if result)
        if self.looks_until_available <= 0:
            return ()
        self.looks_until_available -= 1
        return tuple(
            ObjectResult(object=str(key_of(body)), reason=Reason.NOT_AVAILABLE, message="0 of 1 replicas are ready")
            for body in objects
        )

    def _write(self, what: str, write: Callable[[], object]) -> None:
        effects.perform("member", what, write)
        self.log.append(what)


def _compare(body: Body, found: Body | None) -> ObjectResult | None:
    if found == body:
        return None
    said = "is missing" if found is None else "was changed on the member"
    return ObjectResult(object=str(key_of(body)), reason=Reason.INCOMPLETE, message=said)


class Awkward:
    """One member cluster. `calls` lists what was asked of it, `log` what was written, `objects` what it holds."""

    def __init__(self, identity: str = "identity-1") -> None:
        self.memory = Memory()
        self.calls: list[str] = []
        self._delivery = FencedDelivery(self.memory)
        self._identity = self._pinned = identity
        self._silent = False
        self._loses_replies = False

    @property
    def objects(self) -> dict[Key, Body]:
        return self.memory.objects

    @property
    def log(self) -> list[str]:
        return self.memory.log

    # -- what can be wrong with it

    def heals(self) -> None:
        """Everything is well again; what is on it stays as it is."""
        self._silent = self._loses_replies = False
        self._identity = self._pinned
        self.memory.refusal = ""
        self.memory.holds = False
        self.memory.breaks_after = None
        self.memory.looks_until_available = 0

    def falls_silent(self) -> None:
        """Nothing gets through to it."""
        self._silent = True

    def is_slow(self, looks: int) -> None:
        """The next so many looks (a completed delivery is one) find it not available."""
        self.memory.looks_until_available = looks

    def becomes_unavailable(self) -> None:
        """What is delivered does not become healthy."""
        self.memory.looks_until_available = float("inf")

    def refuses(self, words: str) -> None:
        """It takes no object, and says why."""
        self.memory.refusal = words

    def holds(self) -> None:
        """What is deleted on it stays, as under a finalizer that nobody takes away."""
        self.memory.holds = True

    def breaks_after(self, objects: int) -> None:
        """Every delivery loses the connection after so many objects."""
        self.memory.breaks_after = objects

    def loses_replies(self) -> None:
        """It does what it is asked, and the answer does not arrive."""
        self._loses_replies = True

    def forgets(self) -> None:
        """Its inventories are gone; its objects are not."""
        self.memory.held.clear()

    def is_swapped(self, identity: str = "identity-2") -> None:
        """Another cluster answers under its name."""
        self._identity = identity

    # -- as a `Delivery`

    def deliver(self, placement: Key, content: Content, fence: Fence) -> Report:
        return self._asked(f"deliver {content.hash}", lambda: self._delivery.deliver(placement, content, fence))

    def observe(self, placement: Key, content: Content, fence: Fence) -> Report:
        return self._asked(f"observe {content.hash}", lambda: self._delivery.observe(placement, content, fence))

    def withdraw(self, placement: Key, fence: Fence, *, keep: bool = False) -> Report:
        what = "let go" if keep else "withdraw"
        return self._asked(what, lambda: self._delivery.withdraw(placement, fence, keep=keep))

    def describe(self) -> dict[str, Any]:
        if self._silent:
            return {"reachable": False, "message": "no answer", "inventories": {}}
        return {**self._delivery.describe(), "identity": self._identity}

    def highest_epoch(self, repository: str) -> int:
        self._answer()
        return self._delivery.highest_epoch(repository)

    def _asked(self, what: str, call: Callable[[], Report]) -> Report:
        self.calls.append(what)
        self._answer()
        if self._identity != self._pinned:
            message = f"{self._identity} answers instead of {self._pinned}"
            return Report(complete=None, reason=IdentityChanged.reason, message=message, turned_away=True)
        report = call()
        if self._loses_replies:
            raise TemporaryError("the reply was lost")
        return report

    def _answer(self) -> None:
        if self._silent:
            raise turned_away("no answer")
