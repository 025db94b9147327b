"""`replay` folds a run's log into the stored status, byte for byte, and notices when one of the two was changed."""

import json
from pathlib import Path

import pytest

from tests import servers
from tests.commands.conftest import NAMESPACE


def folder(repository: Path, name: str, scope: str = "_cluster") -> str:
    """Return the folder that a run has or had on the status branch."""
    names = servers.git(repository, "log", "--format=", "--name-only", "fleet-status").splitlines()
    return next(one.rpartition("/")[0] for one in names if one.startswith(f"runs/{scope}/{name}/"))


def stored(repository: Path, path: str) -> str:
    """Return a file of the status branch as it is, or was last."""
    last = servers.git(repository, "log", "-1", "--diff-filter=AM", "--format=%H", "fleet-status", "--", path)
    return servers.git(repository, "cat-file", "blob", f"{last}:{path}") + "\n"


@pytest.mark.parametrize(
    ("moment", "name", "scope"),
    [
        ("soaking", "example-run", ""),
        ("done", "example-run", ""),
        ("done", "web-app-rollout-v1-21", NAMESPACE),
        ("again", "example-run-2", ""),
        ("removed", "example-run-2", ""),
    ],
)
def test_the_log_folds_to_the_stored_status_byte_for_byte(command, moments, moment, name, scope):
    said = command(moment, "replay", name, *(["-n", scope] if scope else []))
    assert (said.code, said.err) == (0, "")
    where = folder(moments[moment], name, scope or "_cluster")
    assert said.out == stored(moments[moment], f"{where}/run.yaml")


def test_an_earlier_moment_is_what_was_stored_then(command, moments):
    events = stored(moments["soaking"], f"{folder(moments['soaking'], 'example-run')}/events.jsonl").splitlines()
    moment = json.loads(events[-1])["now"]
    said = command("done", "replay", "example-run", "--as-of", moment)
    assert (said.code, said.err) == (0, "")
    assert said.out == command("soaking", "replay", "example-run").out


def test_events_are_told_one_per_line(command):
    lines = command("done", "replay", "example-run", "--events").out.splitlines()
    assert [line.split()[2] for line in (lines[0], lines[-1])] == ["RunSeen", "RunCompleted"]
    assert len({line.split()[1] for line in lines}) == len(lines)


def test_a_run_can_be_named_with_its_uid(command, moments):
    uid = folder(moments["done"], "example-run").rpartition("/")[2]
    assert command("done", "replay", f"example-run@{uid}").code == 0
    assert command("done", "replay", "example-run@00000000").code == 1


def changed(moments: dict[str, Path], tmp_path: Path, name: str, old: str, new: str) -> Path:
    """Return a copy of the repository in which somebody changed a file of the run on the status branch."""
    remote = servers.bare_repository(tmp_path / "fleet.git")
    servers.git(remote, "fetch", "--quiet", str(moments["done"]), "+refs/heads/*:refs/heads/*")
    path = f"{folder(remote, 'example-run')}/{name}"
    text = stored(remote, path)
    assert old in text
    text = text.replace(old, new, 1)
    head = "from refs/heads/fleet-status^0\n"
    stream = (
        "commit refs/heads/fleet-status\ncommitter Eve <eve@example.org> 1700000000 +0000\ndata 1\nx\n"
        f"{head}M 100644 inline {path}\ndata {len(text.encode())}\n{text}\n"
    )
    servers.git(remote, "fast-import", "--quiet", "--force", stdin=stream.encode())
    return remote


def test_a_changed_event_shows(command, moments, tmp_path):
    remote = changed(moments, tmp_path, "events.jsonl", '"placementName":"example-placement"', '"placementName":"x"')
    said = command(remote, "replay", "example-run")
    assert said.code == 1
    assert "  placementName: x\n" in said.out
    first, *diff = said.err.splitlines()
    assert first.endswith("/run.yaml on the status branch is not what its events say")
    assert "-  placementName: example-placement" in diff
    assert "+  placementName: x" in diff


def test_a_changed_status_shows(command, moments, tmp_path):
    remote = changed(moments, tmp_path, "run.yaml", 'status: "True"', 'status: "False"')
    said = command(remote, "replay", "example-run")
    assert said.code == 1
    assert '-    status: "False"' in said.err
    assert command(remote, "replay", "example-run", "--no-check").code == 0


def test_a_log_that_cannot_have_happened_is_refused(command, moments, tmp_path):
    remote = changed(moments, tmp_path, "events.jsonl", '"event":"RunStarted"', '"event":"RunCompleted"')
    said = command(remote, "replay", "example-run")
    assert (said.code, said.out) == (1, "")
    assert "events.jsonl does not fold: event " in said.err


def test_a_moment_before_the_beginning_has_nothing(command):
    said = command("done", "replay", "example-run", "--as-of", "2001-01-01T00:00:00Z")
    assert (said.code, said.out) == (1, "")


@pytest.mark.parametrize("moment", ["yesterday", "2025-07-22", "2025-07-22T21:28:08"])
def test_a_moment_is_rfc_3339(command, moment):
    assert command("done", "replay", "example-run", "--as-of", moment).code == 2


def test_without_a_status_branch_there_is_nothing_to_replay(command):
    said = command("uninitialized", "replay", "example-run")
    assert said.code == 2
    assert said.err.endswith("so there is nothing to replay: reconciler init\n")
