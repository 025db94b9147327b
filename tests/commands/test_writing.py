"""Commands that write make one commit, once; what cannot be written is refused with the next step."""

import json
from collections.abc import Callable

import pytest

from reconciler.git import publish
from reconciler.git.mirror import Source
from tests import manifests, servers
from tests.commands.conftest import NAMESPACE, Command
from tests.world import World

PATH = "approvals/web-1-canary.yaml"


def test_an_approval_is_committed_counts_and_is_not_committed_twice(asking: World, ask: Command):
    """The second one used to overwrite the first before the daemon had looked."""
    first = ask(asking.remote, "approve", "web-1", "canary", "-m", "lgtm")
    head = asking.head()
    assert (first.code, first.out.splitlines()) == (
        0,
        [f"committed {head[:7]} to main: {PATH}", "next, in your clone: git pull --rebase"],
    )
    again = ask(asking.remote, "approve", "web-1", "canary")
    known = f"stage canary of run web-1 is approved already, by commit {head[:7]} of Pia <pia@example.org>"
    assert (again.code, again.err) == (0, "")
    assert again.out == f"{known}, which the daemon has not taken up yet: nothing to do\n"
    assert asking.head() == head
    asking.breaks("east")
    asking.passes()
    assert ask(asking.remote, "approve", "web-1", "canary").out == f"{known}: nothing to do\n"
    assert asking.head() == head


@pytest.fixture
def outrun(person: World, monkeypatch) -> Callable[[int], None]:
    """Lets somebody else be faster between the look and the push of a command, so many times."""
    push = publish.push

    def prepare(times: int) -> None:
        others = iter(range(times))

        def slow(source: Source, branch: str, new: str, expected: str | None) -> bool:
            if (number := next(others, None)) is not None:
                person.commits(f"docs/{number}.md", "x")
            return push(source, branch, new, expected)

        monkeypatch.setattr(publish, "push", slow)

    return prepare


RACE = "reconciler: somebody pushed to main at the same moment: run the command again\n"


@pytest.mark.parametrize("words", [("approve", "web-1", "canary"), ("run", "stop", "web-1")], ids=["approve", "stop"])
def test_who_loses_a_race_begins_again_from_what_is_there_by_then(asking: World, ask: Command, outrun, words):
    outrun(2)
    said = ask(asking.remote, *words)
    assert (said.code, said.err, said.out.count("committed")) == (0, "", 1)
    assert "docs/1.md" in asking.paths()
    outrun(10)
    asking.commits("approvals/web-1-canary.yaml", manifests.approval("web-1-canary", status="False"))
    asking.commits("runs/web-1.yaml", manifests.run("web-1"))
    said = ask(asking.remote, *words)
    assert (said.code, said.err, said.out) == (2, RACE, "")


@pytest.mark.parametrize("words", [("acknowledge-rewrite",), ("rollback", "web-2")], ids=["acknowledge", "rollback"])
def test_what_would_mean_something_else_by_then_is_left_to_the_person(person: World, ask: Command, outrun, words):
    """The head that is accepted is one that somebody looked at; and of two ways back at once one is enough."""
    for run, value in (("web-1", "value1"), ("web-2", "value2")):
        person.commits(
            {f"runs/{run}.yaml": manifests.run(run), "resources/app/settings.yaml": manifests.config_map(value)}
        )
        person.passes()
    if words[0] == "acknowledge-rewrite":
        person.rewrites(servers.git(person.remote, "rev-parse", "main~1"))
        person.commits("docs/x.md", "x")
    outrun(1)
    said = ask(person.remote, *words)
    assert (said.code, said.err.splitlines()[-1] + "\n", said.out) == (2, RACE, "")
    assert person.paths().count("docs/0.md") == 1


def test_the_other_gate_is_named_where_that_is_the_open_one(person: World, ask: Command):
    stages = manifests.stage("canary", approval=True, before=True), manifests.stage("prod")
    person.commits("strategies/rings.yaml", manifests.strategy(*stages))
    person.commits("runs/web-1.yaml", manifests.run("web-1"))
    person.passes()
    said = ask(person.remote, "approve", "web-1", "canary")
    early = "the gate after stage canary of run web-1 is not open yet: an approval would not count"
    open_one = "the one that is: reconciler approve web-1 canary --before"
    assert (said.code, said.err) == (4, f"reconciler: {early}; {open_one}\n")


def test_an_approval_that_was_refused_is_committed_anew_into_its_file_whatever_its_language(person, ask: Command):
    """Somebody approved in advance, as JSON; what the command writes there counts, and stays JSON."""
    stages = manifests.stage("canary", approval=True), manifests.stage("prod")
    person.commits("strategies/rings.yaml", manifests.strategy(*stages))
    person.approves("web-1", "canary")
    person.commits("runs/web-1.yaml", manifests.run("web-1"))
    person.passes()
    assert ask(person.remote, "approve", "web-1", "canary").out.startswith("committed ")
    assert json.loads(person.text("main", "approvals/web-1-canary.json"))["metadata"]["name"] == "web-1-canary"
    person.passes()
    assert person.run("web-1").end == "Succeeded"


@pytest.mark.parametrize("was", ["an approval", "nothing"])
def test_nothing_is_written_into_a_broken_file(asking: World, ask: Command, was):
    if was == "an approval":
        asking.commits(PATH, manifests.approval("web-1-canary", status="False"))
    head = asking.commits(PATH, "kind: [\n")
    said = ask(asking.remote, "approve", "web-1", "canary")
    assert (said.code, said.out, asking.head()) == (4, "", head)
    assert said.err.startswith(f"reconciler: {PATH} is broken, and an approval in it would not count; mend it: {PATH}:")


def test_nothing_is_written_into_a_file_with_other_approvals(asking: World, ask: Command):
    other, mine = manifests.approval("other"), manifests.approval("web-1-canary", status="False")
    asking.commits(PATH, f"{other}\n---\n{mine}\n")
    said = ask(asking.remote, "approve", "web-1", "canary")
    assert said.code == 4
    assert said.err == (
        f"reconciler: {PATH} holds other approvals as well: add this one, or change its condition, by hand\n"
    )


def test_a_run_or_a_placement_that_is_elsewhere_is_hinted_at(command):
    said = command("waiting", "approve", "web-app-rollout-v1-21", "canary")
    assert (said.code, said.out) == (1, "")
    assert (
        said.err.splitlines()[1] == f"hint: there is sur web-app-rollout-v1-21 in namespace {NAMESPACE}: -n {NAMESPACE}"
    )
    said = command("waiting", "run", "create", "x", "--placement", "web-app-placement", "--strategy", "s")
    assert (said.code, said.out) == (4, "")
    assert said.err == (
        "reconciler: there is no ClusterResourcePlacement web-app-placement; there is one in namespace "
        f"{NAMESPACE}: -n {NAMESPACE}\n"
    )
    assert command("merged", "approve", "example-run", "canary").err == (
        "reconciler: the daemon has not recorded run example-run yet, so no gate is open: see reconciler tree "
        "example-run\n"
    )


WRITING = {
    "approve": ("approve", "web-1", "canary"),
    "run create": ("run", "create", "web-2", "--placement", "web", "--strategy", "rings"),
    "acknowledge-rewrite": ("acknowledge-rewrite",),
}


@pytest.fixture(params=WRITING)
def words(request: pytest.FixtureRequest, asking: World) -> tuple[str, ...]:
    """A command that writes, where there is something for it to write."""
    if request.param == "acknowledge-rewrite":
        old = servers.git(asking.remote, "rev-parse", "main")
        asking.rewrites(servers.git(asking.remote, "rev-parse", "main~1"))
        asking.commits("runs/web-1.yaml", asking.text(old, "runs/web-1.yaml"), "Anew")
    return WRITING[request.param]


def test_a_pull_request_has_a_branch_of_its_own(asking: World, ask: Command, words):
    head = asking.head()
    said = ask(asking.remote, *words, "--to-branch", "topic")
    assert (said.code, asking.head()) == (0, head)
    assert said.out.splitlines()[1] == "next: open a pull request from topic to main"
    assert servers.git(asking.remote, "rev-parse", "topic~1") == head
    again = ask(asking.remote, *words, "--to-branch", "topic")
    assert (again.code, again.out) == (4, "")
    assert again.err.endswith(
        "reconciler: branch topic exists already: choose another name, or delete it first: "
        "git push origin --delete topic\n"
    )


@pytest.mark.parametrize("name", ["main", "fleet-status", "a b", "-x"])
def test_a_pull_request_needs_a_new_branch_with_a_name(asking: World, ask: Command, name):
    said = ask(asking.remote, *WRITING["approve"], f"--to-branch={name}")
    assert (said.code, said.out) == (2, "")
    assert name in said.err


def test_a_dry_run_prints_and_changes_nothing(asking: World, ask: Command, words):
    head = asking.head()
    said = ask(asking.remote, *words, "--dry-run")
    assert (said.code, asking.head()) == (0, head)
    assert ("Acknowledge-Rewrite: " if words == ("acknowledge-rewrite",) else "apiVersion: ") in said.out


def test_a_rewrite_is_acknowledged_once(asking: World, ask: Command):
    asking.rewrites(servers.git(asking.remote, "rev-parse", "main~1"))
    asking.commits("README.md", "x\n")
    assert ask(asking.remote, "acknowledge-rewrite").out.startswith("committed ")
    head = asking.head()
    said = ask(asking.remote, "acknowledge-rewrite")
    assert (said.code, asking.head()) == (0, head)
    assert "is acknowledged already to follow" in said.out
    assert "nothing to do" in said.out


def test_without_an_identity_nothing_is_written_and_the_way_to_one_is_said(asking, ask: Command, monkeypatch):
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.useConfigOnly")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "true")
    said = ask(asking.remote, *WRITING["approve"])
    assert said.code == 2
    assert said.err.startswith("reconciler: git does not know who you are: git config --global user.name")
    assert said.err.count("\n") == 1


def test_without_a_status_branch_there_is_nothing_to_approve(world: World, ask: Command):
    world.commits("README.md", "x\n")
    said = ask(world.remote, *WRITING["approve"])
    assert said.code == 4
    assert said.err == (
        "reconciler: branch fleet-status is not there: make it with `reconciler init`; until then no gate is open\n"
    )
