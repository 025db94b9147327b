"""What the reading commands do alike: open, follow what changes, look for one object, and say that it is not there."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import cast

from reconciler import clock
from reconciler.commands import FAILED, present
from reconciler.commands.holds import Hold, hold_of_run, holds, warn_of_holds
from reconciler.commands.nouns import DEFAULT_NAMESPACE, NOUNS, Item, Noun, noun_of
from reconciler.commands.objects import items, lost_runs
from reconciler.commands.opening import Fleet, configure_log, lost_status, open_fleet
from reconciler.commands.options import Asking, Reading
from reconciler.core.model import Run, parse_duration
from reconciler.core.status import RunStatus
from reconciler.core.view import Declared
from reconciler.errors import TemporaryError, UsageError
from reconciler.git.mirror import open_source
from reconciler.settings import Settings
from reconciler.status_branch import reader

_POLL_SECONDS = 2.0


def open_reading(where: Reading, *, tell_holds: bool = True) -> Fleet:
    """Open a repository; say so where nothing keeps a status in it, or something is held; raises as `open_fleet`."""
    fleet = open_fleet(where.repo, where.branch, where.status_branch, offline=where.offline)
    if fleet.status is None and not fleet.lost:
        present.warn("no status branch yet: reconciler init")
    if tell_holds:
        warn_of_holds(fleet)
    return fleet


def asking(where: Asking, nouns: Iterable[Noun]) -> tuple[Settings | None, Reading]:
    """Return how to reach the members, where clusters are looked for and something says how, and where to read.

    Raises:  UsageError for settings that cannot be used.
    """
    flags = {"repo": where.repo, "branch": where.branch, "status_branch": where.status_branch}
    given = {name: value for name, value in flags.items() if value is not None}
    silent = where.settings_file is None and where.members is None
    if silent or not any(noun.kind == "MemberCluster" for noun in nouns):
        return None, Reading(**given, offline=where.offline)
    from reconciler.commands.members import settings_of  # noqa: PLC0415 - only who asks members pays for it

    configure_log()

    settings = settings_of(where.settings_file, where.members, given)
    place = Reading(
        repo=settings.repo, branch=settings.branch, status_branch=settings.status_branch, offline=where.offline
    )
    return settings, place


def follow(fleet: Fleet, repo: str, *, offline: bool, timeout: timedelta | None = None) -> Iterator[Fleet]:
    """Yield the fleet now and every two seconds, the same one while nothing moved; end at the timeout.

    What is held from then on is said when it is seen.
    """
    end = None if timeout is None else clock.monotonic() + timeout.total_seconds()
    said, held = "", holds(fleet)
    while True:
        yield fleet
        left = _POLL_SECONDS if end is None else min(_POLL_SECONDS, end - clock.monotonic())
        if left <= 0:
            return
        clock.sleep(left)
        try:
            now, said = _refreshed(fleet, repo, offline=offline), ""
        except TemporaryError as error:
            if str(error) != said:
                present.warn(f"reconciler: {error}; trying again")
            said = str(error)
            continue
        if now is not fleet:
            fleet, held = now, warn_of_holds(now, held)


def _refreshed(fleet: Fleet, repo: str, *, offline: bool) -> Fleet:
    source = open_source(repo, (fleet.branch, fleet.status_branch), offline=offline)
    head, tip = source.tip(fleet.branch), source.tip(fleet.status_branch)
    if head is None:
        raise TemporaryError(f"{repo} has no branch {fleet.branch} any more")
    status = fleet.status
    if tip is None:
        status = None
    elif status is None or status.commit != tip:
        status = reader.read(source.git, tip, status)
    known = fleet.derivation.view.head
    if status is fleet.status and known is not None and known.sha == head:
        return fleet
    fleet.derivation.bring_to(head, status.fleet.joints if status is not None else {})
    lost = lost_status(source, fleet.status_branch, status)
    return replace(fleet, source=source, status=status, lost=lost).complete()


def parse_timeout(text: str) -> timedelta:
    """Read how long to wait: `90s`, `5m`, `1h30m`, or a number of seconds.

    Raises:  UsageError for anything else.
    """
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return timedelta(seconds=float(text))
    if not re.fullmatch(r"(\d+(\.\d+)?[hms])+", text):
        raise UsageError(f"--timeout {text}: write a duration such as 90s, 5m or 1h30m")
    return parse_duration(text)


# -- one object -----------------------------------------------------------------------------------------------------


def split(word: str, name: str | None) -> tuple[Noun, str]:
    """Read `NOUN NAME` or `NOUN/NAME`; raises UsageError for anything else."""
    noun, slash, rest = word.partition("/")
    if bool(slash) == (name is not None) or not (rest or name):
        raise UsageError("name one object: NOUN NAME, or NOUN/NAME")
    return noun_of(noun), rest or str(name)


def place(noun: Noun, namespace: str) -> str:
    """Return the namespace in which to look for an object of a kind."""
    return (namespace or DEFAULT_NAMESPACE) if noun.namespaced else ""


def run_noun(namespace: str) -> Noun:
    """Return the kind of run that is meant by a bare name: with a namespace the namespaced one."""
    return noun_of("stagedupdaterun" if namespace else "clusterstagedupdaterun")


def run_named(word: str, namespace: str) -> tuple[Noun, str, str]:
    """Read `NAME` or `NOUN/NAME` of a run; return its kind, its namespace and its name.

    Raises:  UsageError for a noun that is no run's.
    """
    if "/" not in word:
        return run_noun(namespace), namespace, word
    noun, name = split(word, None)
    if not noun.kind.endswith("StagedUpdateRun"):
        raise UsageError(f"{word} is no run: write NAME, csur/NAME or sur/NAME")
    return noun, place(noun, namespace), name


def name_and_uid(word: str) -> tuple[str, str]:
    """Read `NAME`, or `NAME@UID` of one of several objects of that name; the uid may be cut short, or empty."""
    name, _, uid = word.partition("@")
    return name, uid


def is_named(item: Item, word: str) -> bool:
    """Tell whether `NAME` or `NAME@UID` means an object."""
    name, uid = name_and_uid(word)
    return item.name == name and str(item.metadata.get("uid") or "").startswith(uid)


def knowing(fleet: Fleet, noun: Noun, namespace: str, word: str) -> Fleet:
    """Return the fleet that knows a run: where its file is gone, with those that left the status tree."""
    return fleet if _declared(fleet, noun, namespace, word) is not None else fleet.whole()


def find_run(fleet: Fleet, noun: Noun, namespace: str, word: str) -> tuple[Declared | None, RunStatus | None]:
    """Return the run that `NAME` or `NAME@UID` means, as declared and as recorded.

    Shape:   of a name alone the declared one with its own record, else the newest that there was.
    """
    declared, fleet = _declared(fleet, noun, namespace, word), knowing(fleet, noun, namespace, word)
    known, (name, uid) = fleet.status.runs if fleet.status is not None else (), name_and_uid(word)
    runs = [run for run in known if (run.key.kind, run.key.namespace, run.key.name) == (noun.kind, namespace, name)]
    if declared is not None:
        return declared, next((run for run in runs if run.uid == declared.uid), None) or _lost(fleet, declared)
    return None, max((run for run in runs if run.uid.startswith(uid)), key=lambda run: run.position, default=None)


def _declared(fleet: Fleet, noun: Noun, namespace: str, word: str) -> Declared | None:
    name, uid = name_and_uid(word)
    found = fleet.derivation.view.find(noun.kind, namespace, name)
    return found if found is not None and found.uid.startswith(uid) else None


def _lost(fleet: Fleet, declared: Declared) -> RunStatus | None:
    """Return the record of what a run was before the history was rewritten, while that is not accepted."""
    run = lost_runs(fleet).get(declared.key)
    return run if run is not None and run.spec == declared.document.body["spec"] else None


def word_for(fleet: Fleet, run: RunStatus) -> str:
    """Return how a recorded run is named to a command: with its uid where the name alone means another."""
    name = run.key.name
    meant = find_run(fleet, run_noun(run.key.namespace), run.key.namespace, name)
    return name if run.uid in {one.uid for one in meant if one is not None} else f"{name}@{run.uid[:8]}"


def hold_on(fleet: Fleet, noun: Noun, namespace: str, name: str) -> Hold | None:
    """Return what holds a run, as declared or as recorded; None: nothing does, or there is no such run."""
    declared, run = find_run(fleet, noun, namespace, name)
    if declared is not None:
        return hold_of_run(fleet, declared.key, cast("Run", declared.value).placement)
    return hold_of_run(fleet, run.key, run.placement) if run is not None else None


def absent(noun: Noun, name: str) -> int:
    """Say as an API server does that there is no such object; return the exit code."""
    present.warn(f'Error from server (NotFound): {noun.resource} "{name}" not found')
    return FAILED


def not_found(fleet: Fleet, noun: Noun, name: str, namespace: str) -> int:
    """Say that there is no such object, and where there is one of that name; return the exit code."""
    code = absent(noun, name)
    for hint in elsewhere(fleet, noun, name_and_uid(name)[0], namespace):
        present.warn(f"hint: {hint}")
    if any(one.name == name and one.namespace == namespace for one in items(fleet, noun, everything=True)):
        present.warn(f"hint: {noun.short or noun.plural} {name} was removed from the branch: --all shows it")
    return code


def elsewhere(fleet: Fleet, noun: Noun, name: str, namespace: str) -> Iterator[str]:
    """Say where objects of a name are that was looked for in another namespace, and how to name them."""
    for kind in (noun, *twins(noun)):
        found = [one for one in items(fleet, kind, everything=True) if one.name == name]
        yield from _places(kind, name, (one.namespace for one in found if kind != noun or one.namespace != namespace))


def hint_at(noun: Noun, name: str, namespaces: Iterable[str]) -> None:
    """Say where an object of a name is that was looked for elsewhere."""
    for place in _places(noun, name, namespaces):
        present.warn(f"hint: {place}")


def _places(noun: Noun, name: str, namespaces: Iterable[str]) -> Iterator[str]:
    for namespace in dict.fromkeys(namespaces):
        where = f"in namespace {namespace}: -n {namespace}" if namespace else "in no namespace: leave -n out"
        yield f"there is {noun.short or noun.plural} {name} {where}"


def twins(noun: Noun) -> tuple[Noun, ...]:
    """Return the kind of the other scope: the namespaced one of `ClusterX`, and the other way round."""
    other = f"Cluster{noun.kind}" if noun.namespaced else noun.kind.removeprefix("Cluster")
    return tuple(one for one in NOUNS if one.kind == other and one != noun)
