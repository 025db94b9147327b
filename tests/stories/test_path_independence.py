"""When anybody looked changes nothing: the same commits in other groupings of polls, and with two daemons."""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.core import codec
from reconciler.core.status import RunStatus
from tests import manifests, servers
from tests.awkward import Awkward
from tests.manifests import run, stage, strategy
from tests.world import Changes, World

EXAMPLES = int(os.environ.get("PATH_EXAMPLES", "12"))
"""How many random histories are tried; the same ones each time, so that nobody is stopped by chance."""

ALL = "all"
"""The branch on which everything is written first; the watched branch follows it as the polls go."""

FIRST = {
    "clusters/canary.yaml": manifests.cluster("canary", ring="canary"),
    "clusters/east.yaml": manifests.cluster("east", ring="prod"),
    "clusters/west.yaml": manifests.cluster("west", ring="prod"),
    "resources/app/namespace.yaml": manifests.namespace(),
    "resources/app/settings.yaml": manifests.config_map("value0"),
    "placements/web.yaml": manifests.placement(),
    "strategies/rings.yaml": strategy(stage("canary"), stage("prod", maxConcurrency=2)),
}
RINGS = (
    strategy(stage("canary"), stage("prod")),
    strategy(stage("prod"), stage("canary")),
    strategy(stage("canary", approval=True), stage("prod", before=True)),
)

Step = tuple[Any, ...]

BROKEN = st.sampled_from(["strategies/rings.yaml", "resources/app/settings.yaml"])
STEPS = st.one_of(
    st.tuples(st.just("content"), st.integers(1, 3)),
    st.tuples(st.just("run"), st.integers(1, 4), st.sampled_from([None, "0", "1", "7"]), st.booleans()),
    st.tuples(st.just("unrun"), st.integers(1, 4)),
    st.tuples(st.just("strategy"), st.sampled_from([0, 1, 2, 2])),
    st.tuples(st.just("approve"), st.integers(1, 4), st.sampled_from(["canary", "before-prod"]), st.integers(1, 2)),
    st.tuples(st.just("leave"), st.sampled_from(["east", "west"])),
    st.tuples(st.just("join"), st.sampled_from(["east", "west"])),
    st.tuples(st.just("break"), BROKEN),
    st.tuples(st.just("place"), st.booleans()),
    st.tuples(st.just("revert"), st.integers(1, 3)),
    st.tuples(st.just("move"), st.integers(1, 4), st.integers(1, 4), st.booleans()),
    st.tuples(st.just("mend"), st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.just("more"), st.sampled_from(["good", "bad", "gone"])),
)

CHANGES: Mapping[str, Callable[..., Changes]] = {
    "content": lambda number: {"resources/app/settings.yaml": manifests.config_map(f"value{number}")},
    "run": lambda number, index, held: {
        f"runs/web-{number}.yaml": run(f"web-{number}", index=index, state="Initialize" if held else None)
    },
    "unrun": lambda number: {f"runs/web-{number}.yaml": None},
    "strategy": lambda number: {"strategies/rings.yaml": RINGS[number]},
    "approve": lambda number, gate, words: {
        f"approvals/web-{number}-{gate}.json": manifests.approval(f"web-{number}-{gate}", words=str(words))
    },
    "leave": lambda name: {f"clusters/{name}.yaml": None},
    "join": lambda name: {f"clusters/{name}.yaml": manifests.cluster(name, ring="prod")},
    "place": lambda there: {"placements/web.yaml": manifests.placement() if there else None},
    "break": lambda path: {path: "kind: [\n"},
    "move": lambda number, to, broken: {
        f"runs/web-{number}.yaml": None,
        f"runs/moved-{to}.yaml": "kind: [\n" if broken else run(f"web-{number}"),
    },
    "mend": lambda number, name: {f"runs/moved-{number}.yaml": run(f"web-{name}")},
    "more": lambda how: {"resources/app/more.yaml": MORE[how]},
}
MORE = {"good": manifests.config_map("x", "more"), "bad": "kind: ConfigMap\nnamespace: app\n\t-", "gone": None}


def writes(world: World, steps: list[Step]) -> list[str]:
    """Write a commit for every step on the side branch, and return them in order."""
    commits: list[str] = []
    for what, *how in steps:
        if what == "revert":
            changes, message = reverted(world, commits[-how[0]]) if how[0] <= len(commits) else ({}, "")
        else:
            changes, message = CHANGES[what](*how), ""
        there = set(servers.git(world.remote, "ls-tree", "-r", "--name-only", world.head(ALL)).splitlines())
        held = {path: text for path, text in changes.items() if text is not None or path in there}
        if held:
            commits.append(world.commits(held, message=message, on=ALL))
    return commits


def reverted(world: World, commit: str) -> tuple[Changes, str]:
    """Return what takes a commit back, and git's message for it."""
    changes = world._changes(commit, world._first_parent(commit))
    return changes, f'Revert "it"\n\nThis reverts commit {commit}.'


@contextmanager
def fleet(steps: list[Step], daemons: int = 1) -> Iterator[tuple[World, list[str]]]:
    """Yield a world whose watched branch stands at the beginning, and the commits that are to follow."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(folder=Path(folder))
        for name in ("canary", "east", "west"):
            world.members[name] = Awkward()
        world.commits(FIRST, message="Begin")
        world.begins()
        for _ in range(1, daemons):
            world.starts_another()
        servers.git(world.remote, "update-ref", f"refs/heads/{ALL}", world.head())
        commits = writes(world, steps)
        try:
            yield world, commits
            world.is_sound()
        finally:
            world.ends()


def delivers(world: World, commits: list[str], polls: list[int]) -> None:
    """Let the watched branch reach the commits poll by poll; `polls` are how many come at once."""
    world.passes()  # the beginning has been seen by everybody
    at = 0
    for count in [*polls, len(commits)]:
        at = min(at + count, len(commits))
        if at:
            world.rewrites(commits[at - 1])
        world.passes()


def facts(world: World) -> dict[str, Any]:
    """Return what no grouping may change: snapshots with their hashes, who is who, and how runs were pinned."""
    state = world.placement()
    pins = {uid: codec.encode(one.pin.stages) for uid, one in state.runs.items() if one.pin and not one.reverts}
    contents = {
        uid: (one.pin.commit, one.pin.snapshot_index, one.pin.hash)
        for uid, one in state.runs.items()
        if one.pin and not one.reverts
    }
    return {
        "placement": (state.uid, state.removed_at is not None),
        "snapshots": [codec.encode(one) for one in state.snapshots],
        "policies": [codec.encode(one) for one in state.policies],
        "runs": {uid: (str(one.key), one.position, one.created) for uid, one in state.runs.items()},
        "pins": pins,
        "contents": contents,
    }


def accepted(run: RunStatus) -> list[str]:
    """Return the commits whose approvals passed a gate."""
    return [gate.approval.commit for stage in run.stages for gate in stage.gates if gate.approval is not None]


def agree(one: dict[str, Any], other: dict[str, Any]) -> None:
    """What both have seen is equal; a run that came and went between two polls was seen by nobody.

    Nor was the last content of a placement that is gone.
    """
    assert one["placement"] == other["placement"]
    for name in ("snapshots", "policies"):
        seen = min(len(one[name]), len(other[name])) if one["placement"][1] else None
        assert one[name][:seen] == other[name][:seen]
    for name in ("runs", "pins", "contents"):
        both = one[name].keys() & other[name].keys()
        assert {uid: one[name][uid] for uid in both} == {uid: other[name][uid] for uid in both}


SAME = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
HISTORIES = st.lists(STEPS, min_size=2, max_size=7)
POLLS = st.lists(st.integers(1, 3), max_size=4)


@SAME
@given(steps=HISTORIES, polls=POLLS)
def test_identities_snapshots_and_pins_are_the_same_in_every_grouping_of_polls(
    steps: list[Step], polls: list[int]
) -> None:
    found = []
    for grouping in ([], polls, [1] * len(steps)):
        with fleet(steps) as (world, commits):
            delivers(world, commits, grouping)
            found.append(facts(world))
    agree(found[0], found[1])
    agree(found[0], found[2])


@SAME
@given(steps=HISTORIES, polls=POLLS)
def test_two_daemons_come_to_what_one_comes_to(steps, polls):
    found = []
    for daemons in (1, 2):
        with fleet(steps, daemons) as (world, commits):
            delivers(world, commits, polls)
            state = world.placement()
            ends = {uid: (str(one.end), one.end_message, accepted(one)) for uid, one in state.runs.items()}
            records = {name: (one.run, one.hash, one.is_empty) for name, one in state.records.items()}
            found.append((facts(world), ends, records, world.values()))
    assert found[0] == found[1]


# -- a rewrite -----------------------------------------------------------------------------------------------------


def rewritten(world: World) -> None:
    """Rewrite the whole history into one commit, lose the old one, and accept it."""
    world.passes()
    old, files = world.status().observed, {path: world.text(world.head(), path) for path in world.paths()}
    for branch in (ALL, "main"):
        servers.git(world.remote, "update-ref", "-d", f"refs/heads/{branch}")
    new = world.commits(files, message="All of it, anew")
    world.commits("README.md", "x\n", f"Accept\n\nAcknowledge-Rewrite: {old} {new}\n")
    servers.git(world.remote, "reflog", "expire", "--all", "--expire=now")
    servers.git(world.remote, "gc", "--prune=now", "--quiet")
    servers.git(world.remote, "update-ref", f"refs/heads/{ALL}", world.head())
    world.passes()
    assert world.trouble == ""


def identities(world: World, daemon: int) -> dict[str, str]:
    """Return uid → name of everything that a daemon takes for declared, and that has an identity."""
    view = world.daemons[daemon].reconciler.derivation.view
    found = (*view.clusters().values(), *view.placements(), *view.runs())
    return {one.uid: str(one.key) for one in found}


def derived(world: World, daemon: int) -> tuple[Any, ...]:
    """Return what a daemon has derived, as far as anything hangs on it."""
    view = world.daemons[daemon].reconciler.derivation.view
    removals = {uid: (one.commit.sha, one.replaced) for uid, one in view.removals.items()}
    return identities(world, daemon), view.snapshots, view.policies, removals, view.reverted, view.approvals_seen


@SAME
@given(before=HISTORIES, after=HISTORIES)
def test_an_accepted_rewrite_changes_nobodys_identity_and_is_derived_alike_without_the_lost_commits(before, after):
    """What a file that is refused held of it is not known any more, so it may stay in doubt for longer."""
    kept = []
    doubted: set[str] = set()
    for rewrite in (False, True):
        with fleet(before) as (world, commits):
            delivers(world, commits, [1] * len(commits))
            there = identities(world, 0)
            if rewrite:
                rewritten(world)
                world.starts_another()
            delivers(world, writes(world, after), [])
            kept.append({uid: name for uid, name in identities(world, 0).items() if uid in there})
            doubted = {str(key) for key in world.daemons[0].reconciler.derivation.view.doubtful}
            if rewrite:
                assert derived(world, 0) == derived(world, 1)
                assert [daemon.trouble for daemon in world.daemons] == ["", ""]
                assert [one for one in world.problems() if one.startswith("ClusterResourcePlacement")] == []
    assert kept[0].items() <= kept[1].items()
    assert {name for uid, name in kept[1].items() if uid not in kept[0]} <= doubted
