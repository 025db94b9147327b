"""The one door through which every outside effect goes, numbered, so that a test can stop the process there.

An effect is anything that outlives the process: a push, a fetch, a file or object written on a member.
`RECONCILER_KILL_AT=N:before` (or `N:after`) kills the process, without clean-up, at the N-th effect;
`RECONCILER_EFFECTS_LOG=FILE` appends one line per effect, for learning the numbers of an undisturbed run.
"""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_count = 0


def perform(kind: str, what: str, effect: Callable[[], T]) -> T:
    """Carry out one outside effect and return its result; `kind` and `what` name it in the effects log."""
    number = _next()
    _note(f"{number} {kind} {what}\n")
    _maybe_die(number, "before")
    result = effect()
    _maybe_die(number, "after")
    return result


def _next() -> int:
    global _count  # noqa: PLW0603 - the number is one per process, whichever thread acts
    with _lock:
        _count += 1
        return _count


def _note(line: str) -> None:
    log = os.environ.get("RECONCILER_EFFECTS_LOG")
    if log:
        with _lock, Path(log).open("a", encoding="utf-8") as file:
            file.write(line)


def _maybe_die(number: int, position: str) -> None:
    if os.environ.get("RECONCILER_KILL_AT") == f"{number}:{position}":
        os.kill(os.getpid(), signal.SIGKILL)
