"""Why nothing may be touched: what holds the whole fleet or one placement, and the command that helps.

All of it from the two branches: what the daemon wrote to `problems.yaml`, and what their histories say by themselves.
"""

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from reconciler.commands import present
from reconciler.commands.opening import Fleet, seen_file
from reconciler.core import codec
from reconciler.core.model import Key, Problem, placement_of
from reconciler.daemon import guards
from reconciler.daemon.rewrites import acknowledgement
from reconciler.documents import yaml
from reconciler.errors import RefusedError
from reconciler.git import history
from reconciler.git.run import Git
from reconciler.status_branch import layout, reader, store

_SHOWN = 5
"""So many holds are told one by one; `get problems` lists all."""

_PLACEMENTS = ("ClusterResourcePlacement", "ResourcePlacement", reader.ANY.kind)
"""What the path of a problem begins with that is no file's."""

_ACKNOWLEDGE = "reconciler acknowledge-rewrite"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """What holds: a rule and its words; `subject` names a placement, or is empty where everything is held."""

    rule: str
    message: str
    subject: str = ""
    command: str = ""

    def __str__(self) -> str:
        """Return who is held and by what, in one line."""
        return f"{self.subject or 'the whole fleet'} is held: {self.rule}: {self.message}"


class FleetHeldError(RefusedError):
    """Nothing is done because the whole of a fleet is held."""

    def __init__(self, so: str, fleet: Fleet, hold: Hold) -> None:
        """Say `so`, what follows from the hold, and what helps."""
        super().__init__(f"{so}: {hold}" + (f"; first: {hold.command}" if hold.command else ""))
        self.fleet, self.hold = fleet, hold


def holds(fleet: Fleet) -> tuple[Hold, ...]:
    """Return everything that is held, the whole fleet first."""
    found: dict[tuple[str, str], Hold] = {}
    for one in (*_of_fleet(fleet), *_of_placements(fleet)):
        found.setdefault((one.subject, one.rule), one)
    return tuple(found.values())


def hold_of(fleet: Fleet, placement: Key | None) -> Hold | None:
    """Return what holds a placement, be it the hold of the whole fleet; None: nothing does."""
    return next((one for one in holds(fleet) if one.subject in ("", str(placement))), None)


def hold_of_run(fleet: Fleet, run: Key, placement: str) -> Hold | None:
    """Return what holds the placement that a run rolls out; None: nothing does."""
    return hold_of(fleet, placement_of(run, placement))


def held_since(fleet: Fleet, hold: Hold) -> datetime | None:
    """Return when the status branch began to tell of a hold, which it has told ever since; None: it does not.

    Raises:  GitError.
    """
    if fleet.status is None:
        return None
    subjects = (hold.subject,) if hold.subject else (fleet.branch, fleet.status_branch, str(reader.ANY))
    since = None
    for moment, told in _problems_back(fleet.source.git, fleet.status.commit):
        if not any(one.rule == hold.rule and one.path in subjects for one in told):
            break
        since = moment
    return since


def _problems_back(git: Git, tip: str) -> Iterator[tuple[datetime, tuple[Problem, ...]]]:
    """Yield what `problems.yaml` held from when on, newest first; ever more versions are read at once, as asked for."""
    versions, count = list(history.versions(git, tip, layout.PROBLEMS)), 1
    while versions:
        some, versions = versions[:count], versions[count:]
        blobs = history.read_blobs(git, {blob for _, blob in some if blob is not None})
        for commit, blob in some:
            yield commit.time, _problems_in(blobs[blob]) if blob is not None else ()
        count *= 2


def warn_of_holds(fleet: Fleet, known: Iterable[Hold] = ()) -> tuple[Hold, ...]:
    """Say on stderr what is held, with what helps, but not what is `known` already; return all of it."""
    found = holds(fleet)
    fresh = [one for one in found if one not in set(known)]
    for hold in fresh[:_SHOWN]:
        present.warn(f"warning: {hold}")
        if hold.command:
            present.warn(f"  next: {hold.command}")
    if len(fresh) > _SHOWN:
        present.warn(f"warning: {len(fresh) - _SHOWN} more are held: reconciler get problems")
    return found


def refuse_held(fleet: Fleet, so: str) -> None:
    """Raise FleetHeldError while the whole fleet is held; `so` says what follows from that."""
    hold = next((one for one in holds(fleet) if not one.subject), None)
    if hold is not None:
        raise FleetHeldError(so, fleet, hold)


# -- the whole fleet ----------------------------------------------------------------------------------------------


def _of_fleet(fleet: Fleet) -> Iterator[Hold]:
    branch, git = fleet.status_branch, fleet.source.git
    if fleet.lost:
        where = "is gone" if fleet.status is None else "does not descend from it any more"
        yield Hold(
            rule="StatusLost",
            message=f"branch {branch} was at {fleet.lost[:7]} and {where}: nothing is touched until it is restored, or "
            "begun anew with `reconciler init --re-anchor`. Should it be right as it is, forget that it was seen: rm "
            f"{seen_file(fleet.source, branch)}",
            command=shlex.join(
                ("git", "-C", str(git.directory), "push", fleet.source.push_url, f"+{fleet.lost}:refs/heads/{branch}")
            ),
        )
    if fleet.status is None:
        return
    why = fleet.status.tampered.get(reader.ANY)
    if why is not None:
        yield _tampered(fleet, "", why)
    yield from _rewritten(fleet, fleet.status)


def _rewritten(fleet: Fleet, status: store.Status) -> Iterator[Hold]:
    """Compare the recorded head with the branch, as a pass would."""
    git, old, head = fleet.source.git, status.observed, fleet.derivation.view.head
    if head is None or history.is_ancestor(git, old, head.sha):
        return
    why = guards.parted(git, old, head.sha)
    rule, _, message = str(why).partition(": ")
    rewritten = isinstance(why, guards.RewrittenError)
    accepted = acknowledgement(git, old, head.sha) if rewritten else None
    if accepted is not None:
        message = f"{accepted[:7]} is acknowledged to follow {old[:7]}, and the daemon has not taken it up yet"
        yield Hold(rule=rule, message=f"{message}: is `reconciler serve` running?")
    else:
        yield Hold(rule=rule, message=message, command=_ACKNOWLEDGE if rewritten else "")


# -- placements ---------------------------------------------------------------------------------------------------


def _of_placements(fleet: Fleet) -> Iterator[Hold]:
    if fleet.status is None:
        return
    for key, why in sorted(fleet.status.tampered.items()):
        if key != reader.ANY:
            yield _tampered(fleet, str(key), why)
    for problem in recorded_problems(fleet):
        if problem.path.partition(" ")[0] in _PLACEMENTS:
            yield Hold(rule=problem.rule, message=problem.message, subject=problem.path)


def _tampered(fleet: Fleet, subject: str, why: str) -> Hold:
    rule, _, message = why.partition(": ")
    return Hold(rule=rule, message=message, subject=subject, command=f"git log -p {shlex.quote(fleet.status_branch)}")


def is_hold(fleet: Fleet, problem: Problem) -> bool:
    """Tell whether a recorded problem is no file's, but says that a branch or a placement is held."""
    return problem.path.partition(" ")[0] in (*_PLACEMENTS, fleet.branch, fleet.status_branch)


def recorded_problems(fleet: Fleet) -> tuple[Problem, ...]:
    """Return what `problems.yaml` on the status branch holds; nothing where somebody made it unreadable."""
    return _problems_in(fleet.status.files.get(layout.PROBLEMS, b"")) if fleet.status is not None else ()


def _problems_in(data: bytes) -> tuple[Problem, ...]:
    read = yaml.read(layout.PROBLEMS, data)
    body = read.documents[0].value if read.documents and not read.problems else {}
    try:
        return tuple(codec.decode(Problem, one) for one in body["problems"])
    except (KeyError, TypeError, ValueError):
        return ()
