"""How results are laid out: kubectl's ages and spacing, descriptions, trees."""

from datetime import UTC, datetime, timedelta

import pytest

from reconciler.commands import present
from reconciler.commands.present import Branch, Table, age, human_duration

MINUTE, HOUR, DAY, YEAR = 60, 3600, 86400, 365 * 86400


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-3, "<invalid>"),
        (-2, "<invalid>"),
        (-1.5, "0s"),
        (0, "0s"),
        (0.9, "0s"),
        (1, "1s"),
        (70, "70s"),
        (119, "119s"),
        (2 * MINUTE, "2m"),
        (2 * MINUTE + 6, "2m6s"),
        (9 * MINUTE + 59, "9m59s"),
        (10 * MINUTE, "10m"),
        (10 * MINUTE + 59, "10m"),
        (179 * MINUTE + 59, "179m"),
        (3 * HOUR, "3h"),
        (3 * HOUR + 25 * MINUTE, "3h25m"),
        (7 * HOUR + 59 * MINUTE, "7h59m"),
        (8 * HOUR + 59 * MINUTE, "8h"),
        (47 * HOUR, "47h"),
        (2 * DAY, "2d"),
        (49 * HOUR, "2d1h"),
        (8 * DAY - HOUR, "7d23h"),
        (8 * DAY + 2 * HOUR, "8d"),
        (367 * DAY, "367d"),
        (2 * YEAR, "2y"),
        (2 * YEAR + 25 * HOUR, "2y1d"),
        (8 * YEAR - DAY, "7y364d"),
        (8 * YEAR + 30 * DAY, "8y"),
    ],
)
def test_an_age_is_shown_as_kubectl_shows_it(seconds, shown):
    assert human_duration(timedelta(seconds=seconds)) == shown


def test_an_age_without_a_beginning_is_unknown():
    assert age(None, datetime(2025, 7, 22, tzinfo=UTC)) == "<unknown>"


def test_columns_have_three_spaces_between_them_and_six_characters_at_least():
    table = Table(("A", "NAME", "AGE"))
    assert table.lines([("1", "x", "5s"), ("12345", "", "")]) == [
        "A       NAME   AGE",
        "1       x      5s",
        "12345          ",
    ]


def test_rows_that_come_later_line_up_with_the_first_ones():
    table = Table(("NAME", "AGE"))
    assert table.lines([("a-long-name", "1s")]) == ["NAME          AGE", "a-long-name   1s"]
    assert table.lines([("b", "2s")]) == ["b             2s"]
    assert table.lines([]) == []


def test_a_table_without_headers_is_as_wide_as_its_cells():
    assert Table(("RESOURCE", "AGE"), headless=True).lines([("x", "1s")]) == ["x     1s"]


def test_a_table_of_nothing_has_no_header():
    assert Table(("NAME",)).lines([]) == []


def test_control_characters_of_a_file_do_not_reach_the_terminal(capsys):
    present.say(*Table(("NAME", "AGE")).lines([("a\x1b[31mb\nc", "1s")]))
    assert capsys.readouterr().out == "NAME             AGE\na\\u001b[31mb c   1s\n"


def test_fields_of_a_specification_are_titled_and_other_keys_are_left_alone():
    body = {"placementName": "web", "none": {}, "list": ["a", "b"], "deep": [{"x/y": True}, {"z": 1}], "void": None}
    assert present.nested(body) == [
        "Placement Name:  web",
        "None:            <none>",
        "List:            a",
        "                 b",
        "Void:            <none>",
        "Deep:",
        "  x/y:  true",
        "  Z:  1",
    ]


def test_keys_that_somebody_chose_are_left_alone():
    """`describe` showed the key of a ConfigMap as `Key`."""
    body = {
        "data": {"key": "value", "logLevel": "debug"},
        "metadata": {"labels": {"app": "web"}, "name": "settings"},
        "spec": {"selector": {"app": "web"}, "template": {"selector": {"matchLabels": {"tier": "a"}}}},
    }
    assert [line.strip() for line in present.nested(body)] == [
        "Data:",
        "key:       value",
        "logLevel:  debug",
        "Metadata:",
        "Name:  settings",
        "Labels:",
        "app:  web",
        "Spec:",
        "Selector:",
        "app:  web",
        "Template:",
        "Selector:",
        "Match Labels:",
        "tier:  a",
    ]


def test_marks_and_states_of_a_tree_stand_in_columns(capsys):
    leaf = Branch(name="one", mark=present.DONE, state="Succeeded", details=("3s",))
    gate = Branch(name="after Approval", mark=present.WAITS, state="waits", notes=("next: approve",))
    stage = Branch(name="stage", mark=present.DOING, state="Doing", details=("0/1",), children=(leaf, gate))
    root = Branch(name="run", mark=present.DOING, state="Progressing", details=("snapshot 1",), children=(stage,))
    present.console().print(present.tree(root))
    assert capsys.readouterr().out == (
        "run  ► Progressing  snapshot 1\n"
        "└── stage               ► Doing      0/1\n"
        "    ├── one             ✔ Succeeded  3s\n"
        "    └── after Approval  ◎ waits\n"
        "          next: approve\n"
    )
