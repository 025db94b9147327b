"""Every reading command explains itself."""

import os

import pytest

from reconciler.commands import run

WORDS = {
    "get": "--show-labels",
    "describe": "--all",
    "tree": "--timeout",
    "wait": "--for",
    "replay": "--as-of",
    "plan": "--ref",
    "why": "--output",
}


@pytest.mark.parametrize("command", WORDS)
def test_help_names_the_flags_and_the_shared_ones(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")
    assert run([command, "--help"]) == 0
    text = capsys.readouterr().out
    for flag in (WORDS[command], "--repo", "--namespace", "--status-branch", "--offline"):
        assert flag in text


@pytest.mark.parametrize(("words", "group"), [((), "reconciler"), (("run",), "reconciler run")])
def test_a_bare_word_prints_its_page(words, group, capsys):
    """It used to say `reconciler: ; --help tells more`."""
    assert run(words) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"Usage: {group} [OPTIONS] COMMAND")
    assert said.err == ""


@pytest.mark.parametrize(
    ("words", "where"),
    [
        ("get csur", "/env"),
        ("-C /before get csur", "/before"),
        ("--repo /before replay a", "/before"),
        ("-C /before run start a", "/before"),
        ("-C /before get csur -C /after", "/after"),
    ],
)
def test_the_repository_may_be_named_before_the_command(words, where, capsys, monkeypatch):
    """As with git; what is given after the command wins, and nothing of it stays in the environment."""
    monkeypatch.setenv("RECONCILER_REPO", "/env")
    assert run(words.split()) == 2
    assert capsys.readouterr().err == f"reconciler: {where} is not a directory, so it is no git repository\n"
    assert os.environ["RECONCILER_REPO"] == "/env"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("validate -o xml", "-o xml: there are text and json"),
        ("serve --log-format xml", "--log-format xml: there are text and json"),
        ("get csur -o xml", "-o xml: there are wide, json, yaml and name"),
        ("wait a --for foo", "--for foo: clusterstagedupdateruns have the conditions Initialized, Progressing"),
        ("demo --keep /dev/null", "/dev/null cannot be used: Not a directory"),
        ("nope", "No such command 'nope'; --help tells more"),
        ("get csur -C /nope", "/nope is not a directory, so it is no git repository"),
        ("get csur -C https://127.0.0.1:1/x.git", "git ls-remote …: fatal: unable to access "),
        ("approve a b -C https://127.0.0.1:1/x.git", "git ls-remote …: fatal: unable to access "),
    ],
)  # fmt: skip
def test_what_cannot_be_carried_out_is_told_in_one_line(words, error, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("RECONCILER_REPO", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert run(words.split()) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"reconciler: {error}")
    assert said.err.count("\n") == 1
