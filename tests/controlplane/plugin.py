"""The members, for pytest: `members` (three complete ones for the whole session) and `member_factory` (one's own).

Loaded by `pytest_plugins = ["tests.controlplane.plugin"]`. Tests share the session's members, each in namespaces of its
own; a test that stops, floods or breaks a member takes one from the factory. Under xdist every worker has a set.

Where there is neither Go nor a build from before, these tests are deselected and the summary says so in a line; in CI
(environment variable CI) they run whatever it takes, and what cannot be built is a failure.
"""

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from tests.controlplane import binaries
from tests.controlplane.members import Members

MemberFactory = Callable[..., Members]

_FIXTURES = ("members", "member_factory")
_LEFT_OUT = pytest.StashKey[int]()
_RUNNING = pytest.StashKey[dict[str, list[Members]]]()
_LINES = 15


def pytest_configure(config: pytest.Config) -> None:
    """Begin with no members and nothing left out."""
    running: dict[str, list[Members]] = {name: [] for name in _FIXTURES}
    config.stash[_RUNNING] = running
    config.stash[_LEFT_OUT] = 0


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests that need members where there can be none."""
    left_out = [item for item in items if _fixtures_of(item)]
    if not left_out or _obtainable():
        return
    items[:] = [item for item in items if not _fixtures_of(item)]
    config.hook.pytest_deselected(items=left_out)
    config.stash[_LEFT_OUT] = len(left_out)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say in one line that tests were left out, how many and what would bring them back."""
    count: int | str = config.stash[_LEFT_OUT]
    if getattr(config.option, "numprocesses", None) and not _obtainable():
        count = "the"  # the workers collected them and keep the number to themselves
    if count:
        terminalreporter.write_line(
            f"LEFT OUT: {count} tests on real control planes: no go on the PATH and nothing built before; "
            "`python -m tests.controlplane build` builds what they need (about five minutes, once)",
            yellow=True,
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the logs of the members beside what failed; they are gone with the session."""
    report = yield
    if report.failed:
        for fixture in _fixtures_of(item):
            for members in item.config.stash[_RUNNING][fixture]:
                report.sections.extend(_log_sections(members))
    return report


@pytest.fixture(scope="session")
def members(request: pytest.FixtureRequest) -> Iterator[Members]:
    """Three complete members, shared by the session: member-1, member-2, member-3."""
    with _running(request, Members(3, say=_say(request.config))) as started:
        yield started


@pytest.fixture
def member_factory(request: pytest.FixtureRequest) -> Iterator[MemberFactory]:
    """A function with the arguments of `Members` that starts them; they stop with the test."""
    with ExitStack() as stack:

        def start(count: int = 1, **options: Any) -> Members:
            return stack.enter_context(_running(request, Members(count, say=_say(request.config), **options)))

        yield start


@contextmanager
def _running(request: pytest.FixtureRequest, members: Members) -> Iterator[Members]:
    running = request.config.stash[_RUNNING][str(request.fixturename)]
    with members:
        running.append(members)
        yield members
        running.remove(members)


def _fixtures_of(item: pytest.Item) -> list[str]:
    return [name for name in _FIXTURES if name in getattr(item, "fixturenames", ())]


def _obtainable() -> bool:
    return bool(os.environ.get("CI") or binaries.go_on_path() or binaries.ready())


def _say(config: pytest.Config) -> binaries.Say:
    """Speak past the capture of output: a first build takes minutes."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return reporter.write_line if reporter else binaries.say_on_stderr


def _log_sections(members: Members) -> Iterator[tuple[str, str]]:
    for process in members.processes:
        if "kube-apiserver" in process.name or not process.alive:
            yield f"log of {process.name}", process.tail(_LINES)
