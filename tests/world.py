"""A simulated world for stories: a real Git repository, members that misbehave on request, a clock moved by hand.

People act by verbs (`joins`, `commits`, `approves`, `breaks` …), `passes` lets time and the daemons run until nothing
more happens, and readers tell what came of it, always from the status branch and the members, never from the daemon's
memory. Nothing here starts a thread or sleeps; at the end `is_sound` holds what must hold in every world.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import yaml

from reconciler.clock import Clock
from reconciler.core import codec, conditions
from reconciler.core.actions import Action, Content, Deliver, Fence, Observe, Outcome, Reason, Report, Withdraw
from reconciler.core.model import Key
from reconciler.core.status import Gate, PlacementState, RunStatus, When
from reconciler.daemon import anchor
from reconciler.daemon.guards import HeldError
from reconciler.daemon.reconcile import Reconciler
from reconciler.delivery.base import Delivery, answered
from reconciler.delivery.workers import Workers, ask
from reconciler.errors import TemporaryError
from reconciler.git.mirror import Mirror
from reconciler.git.run import PERSON, Git
from reconciler.settings import Settings
from reconciler.status_branch import layout, reader, store
from tests import manifests, servers
from tests.awkward import Awkward

BRANCHES = ("main", "fleet-status")
BEGIN = datetime(2025, 7, 22, 21, 0, 0, tzinfo=UTC)
_PASSES = 200
"""More than any story needs: whoever makes more has lost its way."""

Changes = Mapping[str, str | None]
"""Path → text; None removes the path."""


class HandClock(Clock):
    """Time that moves only when somebody moves it."""

    def __init__(self, moment: datetime) -> None:
        self._moment = moment

    def now(self) -> datetime:
        """Return the present moment."""
        return self._moment

    def never_before(self, moment: datetime) -> None:
        """Raise the floor, as the newest status commit's time asks."""
        self._moment = max(self._moment, moment)


@dataclass(slots=True)
class _Job:
    action: Action
    due: datetime
    told: Report | None = None
    looking: bool = False
    ended: bool = False


class Hands:
    """What `Workers` do, without threads: `works` calls every cluster that is due, once."""

    def __init__(
        self,
        deliveries: Callable[[str], Delivery | None],
        content: Callable[[Deliver | Observe], Content],
        fence: Callable[[int], Fence],
        clock: Clock,
        may_write: Callable[[], None],
    ) -> None:
        self._deliveries, self._content, self._fence, self._clock = deliveries, content, fence, clock
        self._may_write = may_write
        self._jobs: dict[tuple[Key, str], _Job] = {}
        self._outcomes: list[Outcome] = []
        self.calling = False
        """Whether some member takes its time."""

    def want(self, actions: Iterable[Action]) -> None:
        """Set the complete list of what is wanted now."""
        newest: dict[tuple[Key, str], Action] = {}
        for action in sorted(actions, key=lambda one: one.target.seq):
            newest[action.target.placement, action.target.cluster] = action
        jobs = {}
        for name, action in newest.items():
            job = self._jobs.get(name)
            if job is None or job.action.target != action.target:
                job = _Job(action=action, due=self._clock.now())
            if isinstance(action, Deliver) and not isinstance(job.action, Deliver):
                job.looking = False
            job.action = action
            jobs[name] = job
        self._jobs = jobs

    def take(self) -> tuple[Outcome, ...]:
        """Return the outcomes since the last call."""
        taken, self._outcomes = tuple(self._outcomes), []
        return taken

    def hears(self, outcome: Outcome) -> None:
        """Hand in what a call that was cut off long ago has come to."""
        self._outcomes.append(outcome)

    def poke_all(self) -> None:
        """Make every cluster due."""
        for job in self._jobs.values():
            job.due = self._clock.now()

    def tell_again(self) -> None:
        """Report everything anew: what was taken did not get recorded."""
        for job in self._jobs.values():
            job.told, job.ended, job.due = None, False, self._clock.now()

    def idle(self) -> bool:
        """Tell whether nothing waits to be taken."""
        return not self._outcomes

    def is_calling(self) -> bool:
        """Nothing is in hand between two passes, unless a story says so."""
        return self.calling

    def close(self, timeout: float) -> bool:
        """Nothing is ever in hand."""
        return timeout >= 0

    def works(self) -> bool:
        """Call every cluster that is due; return whether there is something to take."""
        for job in self._jobs.values():
            if not job.ended and job.due <= self._clock.now():
                self._work(job)
        return bool(self._outcomes)

    def _work(self, job: _Job) -> None:
        action = job.action
        if isinstance(action, Deliver) and job.looking:
            action = Observe(target=action.target, snapshot_index=action.snapshot_index, hash=action.hash)
        report = answered(lambda: self._ask(action))
        job.looking = report.complete is not None and report.complete == getattr(action, "hash", None)
        job.ended = report.reason is Reason.WITHDRAWN or (job.looking and report.healthy)
        job.due = self._clock.now() + timedelta(seconds=1)
        if report != job.told:
            job.told = report
            self._outcomes.append(Outcome(target=action.target, report=report, observed_at=self._clock.now()))

    def _ask(self, action: Action) -> Report:
        if not isinstance(action, Observe):
            self._may_write()
        content = None if isinstance(action, Withdraw) else self._content(action)
        return ask(action, self._deliveries(action.target.cluster), content, self._fence(action.target.seq))


class Daemon:
    """One daemon with a state folder of its own."""

    def __init__(self, world: "World", folder: Path) -> None:
        self._world, self._folder = world, folder
        self.trouble = ""
        """Why the last pass was not made; empty: it was."""
        self.starts()

    def starts(self) -> None:
        """Begin as a new process, with whatever the state folder holds."""
        settings = Settings(repo=str(self._world.remote), state_dir=self._folder)
        self.mirror = Mirror.open(self._folder, str(self._world.remote), BRANCHES)
        self.reconciler = Reconciler(settings, self.mirror, self._world.clock, lambda: None, self._world.delivery)
        reconciler = self.reconciler
        self.hands = Hands(
            self._world.delivery,
            reconciler._content,
            reconciler._fence,
            self._world.clock,
            reconciler._check_fresh,
        )
        self.reconciler.workers = cast("Workers", self.hands)
        self.recheck_at: datetime | None = None

    def ends(self) -> None:
        """Stop without a word, as a killed process does."""
        self.mirror.close()

    def settles(self) -> None:
        """Make passes until nothing more can happen without time, people or clusters."""
        self.hands.poke_all()
        for _ in range(_PASSES):
            if not self.step():
                return
        raise AssertionError("the daemon does not come to rest")

    def step(self) -> bool:
        """Make one pass, then let the members be called; tell whether anything came of it."""
        try:
            done = self.reconciler.run_pass()
        except (HeldError, TemporaryError) as error:
            self.trouble, self.recheck_at = str(error), None
            return False
        self.trouble, self.recheck_at = "", done.recheck_at
        worked = self.hands.works()
        return bool(done.recorded) or done.lost_race or worked


@dataclass(slots=True)
class World:
    """The repository, the members, the clock and the daemons."""

    folder: Path
    remote: Path = field(init=False)
    clock: HandClock = field(init=False)
    members: dict[str, Awkward | None] = field(default_factory=dict)
    daemons: list[Daemon] = field(default_factory=list)
    damaged: bool = False
    """Somebody edited the status branch: it need not be sound any more."""
    _bases: dict[str, str] = field(default_factory=dict)
    _read: tuple[str, store.Status] | None = None

    def __post_init__(self) -> None:
        self.remote = servers.bare_repository(self.folder / "fleet.git")
        self.clock = HandClock(BEGIN)

    def delivery(self, cluster: str) -> Awkward | None:
        """Return how to reach a member; None: the operator has not said."""
        return self.members.get(cluster)

    # -- what people do -----------------------------------------------------------------------------------------

    def commits(
        self, where: str | Changes, text: str | None = None, message: str = "", *, on: str = "main", author: str = "Ada"
    ) -> str:
        """Commit one file, or several at once, on a branch (default: the watched one); return the commit."""
        changes = {where: text} if isinstance(where, str) else dict(where)
        message = message or "Change " + ", ".join(sorted(changes))
        parents = [head] if (head := self.head(on)) else []
        return self._write(on, parents, changes, message, author)

    def removes(self, *paths: str, message: str = "") -> str:
        """Commit the removal of files."""
        return self.commits(dict.fromkeys(paths), message=message or "Remove " + ", ".join(paths))

    def reverts(self, *commits: str, message: str = "") -> str:
        """Do what `git revert` (of a merge: with `-m 1`) does to these commits, as one commit with git's sentences."""
        changes: dict[str, str | None] = {}
        for commit in commits:
            base = self._first_parent(commit)
            changes |= self._changes(commit, base)
        texts = []
        for commit in commits:
            of_merge = len(servers.git(self.remote, "rev-list", "--parents", "-n", "1", commit).split()) > 2
            to = f", reversing\nchanges made to {self._first_parent(commit)}" if of_merge else ""
            texts.append(f"This reverts commit {commit}{to}.")
        subject = servers.git(self.remote, "log", "-1", "--format=%s", commits[0])
        return self.commits(changes, message=message or f'Revert "{subject}"\n\n' + "\n".join(texts))

    def _first_parent(self, commit: str) -> str:
        return servers.git(self.remote, "rev-parse", f"{commit}^1")

    def branches(self, name: str) -> None:
        """Begin a branch at the watched one's head."""
        self._bases[name] = self.head()
        servers.git(self.remote, "update-ref", f"refs/heads/{name}", self.head())

    def merges(self, name: str, *, squash: bool = False) -> str:
        """Merge a branch into the watched one: with a merge commit, or squashed into one."""
        base = self._bases[name]
        changes = self._changes(base, self.head(name))
        parents = [self.head()] if squash else [self.head(), self.head(name)]
        message = f"Squash {name}" if squash else f"Merge branch '{name}'"
        return self._write("main", parents, changes, message, "Ada")

    def pulls(self, name: str) -> str:
        """Do what `git pull` in a clone with own commits does: the watched branch becomes the second parent."""
        changes = self._changes(self._bases[name], self.head())
        return self._write("main", [self.head(name), self.head()], changes, "Merge branch 'main' of the fleet", "Ada")

    def rewrites(self, to: str) -> None:
        """Force the watched branch to another commit."""
        servers.git(self.remote, "update-ref", "refs/heads/main", to)

    def joins(self, name: str, *, taints: list[dict[str, str]] | None = None, **labels: str) -> Awkward:
        """Commit a member cluster, and let it be reachable."""
        member = self.members.setdefault(name, Awkward())
        self.commits(f"clusters/{name}.yaml", manifests.cluster(name, taints=taints, **labels), f"Join {name}")
        return cast("Awkward", member)

    def relabels(self, name: str, **labels: str) -> None:
        """Commit other labels for a member."""
        self.commits(f"clusters/{name}.yaml", manifests.cluster(name, **labels), f"Relabel {name}")

    def leaves(self, name: str) -> None:
        """Remove a member cluster from the repository."""
        self.removes(f"clusters/{name}.yaml", message=f"Leave {name}")

    def approves(self, run: str, stage: str, *, message: str = "", author: str = "Olga", **how: Any) -> str:
        """Commit an approval as the article writes it; `how` goes to `manifests.approval`."""
        how.setdefault("at", conditions.timestamp(self.clock.now()))
        name = how.get("name") or f"{run}-{stage}"
        text = manifests.approval(name, **{key: one for key, one in how.items() if key != "name"})
        return self.commits(f"approvals/{name}.json", text, message or f"Approve {name}", author=author)

    def breaks(self, *clusters: str) -> None:
        """What is delivered to these does not become healthy."""
        for name in clusters:
            self.member(name).becomes_unavailable()

    def heals(self, *clusters: str) -> None:
        """These are well again."""
        for name in clusters:
            self.member(name).heals()

    def member(self, name: str) -> Awkward:
        """Return a member, to misbehave."""
        return cast("Awkward", self.members[name])

    # -- what the operator and time do --------------------------------------------------------------------------

    def begins(self, *, start_existing: bool = False) -> None:
        """Make the status branch, and start a daemon."""
        with Mirror.open(self.folder / "init", str(self.remote), BRANCHES) as mirror:
            mirror.fetch()
            anchor.make(mirror, *BRANCHES, self.head(), self.clock.now(), start_existing=start_existing)
        if not self.daemons:
            self.starts_another()

    def starts_another(self) -> Daemon:
        """Start a daemon with a state folder of its own."""
        daemon = Daemon(self, self.folder / f"daemon{len(self.daemons)}")
        self.daemons.append(daemon)
        return daemon

    def restarts(self, *, wiped: bool = False) -> None:
        """Kill the first daemon and start it again, with its state folder or without."""
        daemon = self.daemons[0]
        daemon.ends()
        if wiped:
            daemon._folder = daemon._folder.with_name(daemon._folder.name + "-again")
        daemon.starts()

    def passes(self, *, minutes: float = 0, seconds: float = 0) -> None:
        """Let the daemons do what there is to do; then let time pass, stopping where time alone changes something."""
        until = self.clock.now() + timedelta(minutes=minutes, seconds=seconds)
        while True:
            for daemon in self.daemons:
                daemon.settles()
            now = self.clock.now()
            stops = [one.recheck_at for one in self.daemons if one.recheck_at is not None]
            if now >= until:
                return
            self.clock.never_before(min([until, *(one for one in stops if one > now)]))

    def waits_until(self, holds: Callable[[], bool], *, seconds: float) -> bool:
        """Let the first daemon make one pass at a time until something holds; False: it did not in so much time."""
        until = self.clock.now() + timedelta(seconds=seconds)
        daemon = self.daemons[0]
        daemon.hands.poke_all()
        while not holds():
            if daemon.step():
                continue
            if self.clock.now() >= until:
                return False
            self.clock.never_before(daemon.recheck_at or self.clock.now() + timedelta(minutes=1))
            daemon.hands.poke_all()
        return True

    @property
    def trouble(self) -> str:
        """Why the first daemon does nothing."""
        return self.daemons[0].trouble

    # -- what there is to see ------------------------------------------------------------------------------------

    def head(self, branch: str = "main") -> str:
        """Return where a branch of the repository is; empty when there is none."""
        return servers.git(self.remote, "for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}")

    def status(self) -> store.Status:
        """Return the status branch as it is now."""
        tip = self.head("fleet-status")
        if self._read is None or self._read[0] != tip:
            self._read = tip, reader.read(self._git(), tip, self._read[1] if self._read else None)
        return self._read[1]

    def whole_status(self) -> store.Status:
        """Return the status branch with the runs that left its tree."""
        return reader.with_archived(self._git(), self.status())

    def _git(self) -> Git:
        return Git(directory=self.remote, profile=PERSON)

    def placement(self, name: str = "web") -> PlacementState:
        """Return the state of a placement."""
        return next(one for key, one in self.status().placements.items() if key.name == name)

    def runs(self) -> list[RunStatus]:
        """Return every run of every placement, oldest first."""
        found = [run for state in self.whole_status().placements.values() for run in state.runs.values()]
        return sorted(found, key=lambda run: (run.position, run.key))

    def run(self, name: str) -> RunStatus:
        """Return the newest run of a name."""
        return [run for run in self.runs() if run.key.name == name][-1]

    def running(self) -> set[str]:
        """Return the clusters in flight."""
        return {cluster.name for run in self.runs() for _, cluster in run.in_flight()}

    def stages(self, run: str) -> dict[str, str]:
        """Return what the `Progressing` condition of each stage gives as its reason, without `StageUpdating`."""
        return {
            stage["stageName"]: stage["conditions"][0]["reason"].removeprefix("StageUpdating")
            if stage["conditions"]
            else ""
            for stage in self.object(run)["status"].get("stagesStatus", ())
        }

    def conditions(self, run: str) -> dict[str, str]:
        """Return the run's conditions: type → `Status Reason`."""
        return {one["type"]: f"{one['status']} {one['reason']}" for one in self.object(run)["status"]["conditions"]}

    def message(self, run: str, kind: str) -> str:
        """Return the message of one of the run's conditions."""
        found = self.object(run)["status"]["conditions"]
        return str(next(one["message"] for one in found if one["type"] == kind))

    def object(self, run: str) -> dict[str, Any]:
        """Return the run as `run.yaml` holds it, or held it last."""
        found = self.run(run)
        path = f"{layout.run_folder(found)}/{layout.RUN}"
        if path in self.status().files:
            return self.file(path)
        return cast("dict[str, Any]", yaml.safe_load(store.render_run(found)))

    def file(self, path: str) -> dict[str, Any]:
        """Return a YAML file of the status branch."""
        return cast("dict[str, Any]", yaml.safe_load(self.status().files[path]))

    def gate(self, run: str, stage: str, when: When = When.AFTER, kind: str = "Approval") -> Gate:
        """Return a gate of a run."""
        held = next(one for one in self.run(run).stages if one.name == stage)
        return next(one for one in held.gates if one.when is when and one.task.type == kind)

    def events(self, run: str) -> list[str]:
        """Return the names of a run's events, in order."""
        log = self.whole_status().logs[f"{layout.run_folder(self.run(run))}/{layout.EVENTS}"]
        return [json.loads(line)["event"] for line in log.splitlines()]

    def started(self, run: str) -> list[str]:
        """Return the clusters that a run started, in the order of their intents."""
        found = [one for stage in self.run(run).stages for one in stage.clusters if one.seq]
        return [one.name for one in sorted(found, key=lambda one: one.seq)]

    def problems(self) -> list[str]:
        """Return `file: rule` of every problem on the status branch."""
        found = self.file(layout.PROBLEMS)["problems"]
        return [f"{one['path']}: {one['rule']}" for one in found]

    def value(self, cluster: str, name: str = "settings") -> str | None:
        """Return the value that a config map has on a member; None when it has none."""
        for key, body in self.member(cluster).objects.items():
            if (key.kind, key.name) == ("ConfigMap", name):
                return str(body["data"]["key"])
        return None

    def values(self, name: str = "settings") -> dict[str, str | None]:
        """Return the value of the config map on every member."""
        return {cluster: self.value(cluster, name) for cluster in sorted(self.members)}

    def writes(self, cluster: str) -> list[str]:
        """Return everything that was written on a member."""
        return list(self.member(cluster).log)

    def log(self) -> str:
        """Return `git log` of the status branch, oldest first, each commit of the watched branch by its subject."""
        text = servers.git(self.remote, "log", "--reverse", "--format=%B", "fleet-status")
        subjects = dict(
            line.split(" ", 1) for line in servers.git(self.remote, "log", "--all", "--format=%H %s").splitlines()
        )
        text = re.sub(r"\b[0-9a-f]{40}\b", lambda match: f"<{subjects.get(match[0], match[0])}>", text)
        short = {sha[:7]: subject for sha, subject in subjects.items()}
        return re.sub(r"\b[0-9a-f]{7}\b", lambda match: f"<{short[match[0]]}>" if match[0] in short else "<hash>", text)

    # -- what holds in every world ---------------------------------------------------------------------------------

    def is_sound(self) -> None:
        """Assert that the logs fold to every stored status byte for byte, and that no number was drawn twice."""
        if self.damaged or not self.head("fleet-status"):
            return
        followed = self.status()
        status = reader.read(self._git(), followed.commit)
        assert status.tampered == {}
        assert followed == status, "read step by step and at once"
        for key, state in self.whole_status().placements.items():
            folder = layout.placement_folder(key)
            assert status.files[f"{folder}/clusters.yaml"] == store.render_clusters(state, status.digests[key])
            for run in (one for one in state.runs.values() if one.uid not in state.archived):
                assert status.files[f"{layout.run_folder(run)}/{layout.RUN}"] == store.render_run(run)
            numbers = [event.seq for event in self.all_events(state)]
            assert sorted(numbers) == list(range(1, state.seq + 1))

    def all_events(self, state: PlacementState) -> list[Any]:
        """Return the events of a placement and of its runs, from their logs."""
        folders = [layout.placement_folder(state.key), *(layout.run_folder(run) for run in state.runs.values())]
        logs = [self.whole_status().logs.get(f"{folder}/{layout.EVENTS}", b"") for folder in folders]
        return [event for log in logs for event in reader.log_events(log)]

    def ends(self) -> None:
        """Let go of everything."""
        for daemon in self.daemons:
            daemon.ends()

    # -- Git -------------------------------------------------------------------------------------------------------

    def _changes(self, base: str, tip: str) -> Changes:
        """Return what changed between two commits."""
        raw = servers.git(self.remote, "diff", "--name-status", "--no-renames", base, tip).splitlines()
        pairs = [line.split("\t", 1) for line in raw]
        return {path: None if how == "D" else self.text(tip, path) for how, path in pairs}

    def text(self, commit: str, path: str) -> str:
        """Return a file of a commit."""
        return servers.git(self.remote, "cat-file", "blob", f"{commit}:{path}") + "\n"

    def paths(self) -> list[str]:
        """Return every path of the watched branch."""
        return servers.git(self.remote, "ls-tree", "-r", "--name-only", "main").splitlines()

    def _write(self, branch: str, parents: list[str], changes: Changes, message: str, author: str) -> str:
        when = f"{int(self.clock.now().timestamp())} +0000"
        lines = [
            f"commit refs/heads/{branch}\nmark :1",
            f"author {author} <{author.lower()}@example.org> {when}",
            f"committer {author} <{author.lower()}@example.org> {when}",
            f"data {len(message.encode())}\n{message}",
            *(f"{word} {parent}" for word, parent in zip(("from", "merge"), parents, strict=False)),
        ]
        for path, text in changes.items():
            if text is None:
                lines.append(f"D {path}")
            else:
                lines.append(f"M 100644 inline {path}\ndata {len(text.encode())}\n{text}")
        stream = "\n".join([*lines, "", "get-mark :1", "done", ""]).encode()
        options = ("--quiet", "--force", "--done", "--date-format=raw")
        return servers.git(self.remote, "fast-import", *options, stdin=stream)


def encoded(state: PlacementState) -> Any:
    """Return a whole state as JSON-shaped data, to be compared."""
    return codec.encode(state)
