"""Every reading command explains itself."""

import pytest

from reconciler.commands import run

WORDS = {
    "get": "--show-labels",
    "describe": "--all",
    "tree": "--timeout",
    "wait": "--for",
    "replay": "--as-of",
    "plan": "--ref",
}


@pytest.mark.parametrize("command", WORDS)
def test_help_names_the_flags_and_the_shared_ones(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")
    assert run([command, "--help"]) == 0
    text = capsys.readouterr().out
    for flag in (WORDS[command], "--repo", "--namespace", "--status-branch", "--offline"):
        assert flag in text
