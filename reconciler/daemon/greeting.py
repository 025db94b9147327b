"""At the start of the service every member is asked once who it is, and as whom it knows us.

So a mistake in the settings, or a member that was swapped, is in the log before a rollout gets there. Nothing waits for
the answers and nothing follows from them: what a run is told of a member comes from its workers, as ever.
"""

from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from threading import Thread

import structlog

from reconciler.core.actions import Reason
from reconciler.delivery.base import Delivery, Greets, not_configured
from reconciler.settings import Settings

_log = structlog.get_logger(__name__)

MAX_THREADS = 8
Deliveries = Callable[[str], Delivery | None]


def warn_of_strangers(settings: Settings, declared: Iterable[str]) -> None:
    """Log which clusters of the settings are none of the fleet's: their names may be misspelt."""
    for name in sorted(settings.delivery_clusters.keys() - set(declared)):
        _log.warning("the settings name a cluster that the fleet does not have", setting=f"delivery.clusters.{name}")


def greet_all(
    settings: Settings, declared: Iterable[str], deliveries: Deliveries, is_over: Callable[[], bool]
) -> tuple[Thread, ...]:
    """Begin to ask those that the settings name or the repository declares, in threads that end by themselves.

    `deliveries` gives what the workers use too, None for who is not configured. Nothing is begun or said any more once
    `is_over` holds. Return the threads.
    """
    names: SimpleQueue[tuple[str, str]] = SimpleQueue()
    for name in sorted({*settings.delivery_clusters, *declared}):
        by_default = name not in settings.delivery_clusters and settings.delivery_default is not None
        names.put((name, "delivery.default" if by_default else f"delivery.clusters.{name}"))
    count = min(MAX_THREADS, names.qsize())
    threads = tuple(
        Thread(target=_greet_some, args=(names, deliveries, is_over), name=f"greeting {number}", daemon=True)
        for number in range(count)
    )
    for thread in threads:
        thread.start()
    return threads


def _greet_some(names: "SimpleQueue[tuple[str, str]]", deliveries: Deliveries, is_over: Callable[[], bool]) -> None:
    while not is_over():
        try:
            name, setting = names.get_nowait()
        except Empty:
            return
        try:
            _greet(name, setting, deliveries(name), is_over)
        except Exception:  # noqa: BLE001 - a member's bug, whatever it is, stays that member's
            _log.exception("a member could not be asked who it is", cluster=name)


def _greet(name: str, setting: str, delivery: Delivery | None, is_over: Callable[[], bool]) -> None:
    if delivery is not None and not isinstance(delivery, Greets):
        return
    report = not_configured(name) if delivery is None else delivery.greet()
    if report.reason is not Reason.AVAILABLE and not is_over():
        facts = {"cluster": name, "reason": str(report.reason), "setting": setting}
        _log.warning("a member is not as it should be", **facts, message=report.message)
