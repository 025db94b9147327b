"""Strategy + clusters → stages in order, in upstream's words where it refuses."""

from datetime import timedelta

import pytest

from reconciler.core.model import Key, LabelSelector, MemberCluster, Stage, Strategy, Task
from reconciler.core.stages import (
    InitializationError,
    Member,
    concurrency,
    resolve_stages,
    snapshot_index,
    strategy_copy,
)

STRATEGY = Key(group="placement.kubernetes-fleet.io", kind="ClusterStagedUpdateStrategy", name="s")
USER = (
    "cannot continue the updateRun: failed to validate the updateRun: failed to process the request due to a client "
    "error: "
)
EVERY = LabelSelector()


def members(**labels: str) -> dict[str, Member]:
    """Return clusters by name, each with the label `order` (empty: without it)."""
    return {
        name: Member(
            cluster=MemberCluster(
                key=Key(group="cluster.kubernetes-fleet.io", kind="MemberCluster", name=name),
                labels={"name": name, **({"order": order} if order else {})},
            ),
            uid=f"uid-{name}",
        )
        for name, order in labels.items()
    }


def stage(
    name: str = "all", selector: LabelSelector | None = EVERY, key: str | None = None, limit: int | str = 1, after=()
) -> Stage:
    return Stage(name=name, selector=selector, sorting_key=key, max_concurrency=limit, before=(), after=tuple(after))


def resolve(*stages: Stage, namespace: str = "", **labels: str):
    key = Key(group=STRATEGY.group, kind=STRATEGY.kind, namespace=namespace, name=STRATEGY.name)
    return resolve_stages(Strategy(key=key, stages=stages), members(**labels), "hash")


def order(**labels: str) -> list[str]:
    (only,) = resolve(stage(key="order"), **labels)
    return [one.name for one in only.clusters]


def named(*names: str) -> LabelSelector:
    return LabelSelector.from_document({"matchExpressions": [{"key": "name", "operator": "In", "values": list(names)}]})


def test_without_a_sorting_key_clusters_go_by_the_bytes_of_their_names():
    (only,) = resolve(stage(), **dict.fromkeys(["c2", "c10", "b", "c1", "c-1", "0"], ""))
    assert [one.name for one in only.clusters] == ["0", "b", "c-1", "c1", "c10", "c2"]


def test_with_a_sorting_key_they_go_by_number_then_by_name():
    """As recorded: 10, 9, 0, 9, 007, 2147483648."""
    assert order(a="10", b="9", c="0", d="9", e="007", f="2147483648") == ["c", "e", "b", "d", "a", "f"]


def test_numbers_may_have_a_sign_and_all_the_digits_of_64_bits():
    assert order(a="9223372036854775807", b="-5", c="+3", d="-9223372036854775808") == ["d", "b", "c", "a"]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("", "invalid syntax"),
        ("x", "invalid syntax"),
        ("1.5", "invalid syntax"),
        ("0x1", "invalid syntax"),
        ("1_0", "invalid syntax"),
        ("٣", "invalid syntax"),
        ("9223372036854775808", "value out of range"),
        ("-9223372036854775809", "value out of range"),
    ],
)
def test_a_label_that_is_no_number_is_refused(value: str, why: str):
    with pytest.raises(InitializationError) as raised:
        order(a="1", b=value)
    assert str(raised.value) == (
        f'{USER}the sorting label `order:{value}` on cluster `b` is not valid: strconv.Atoi: parsing "{value}": {why}'
    )
    assert not raised.value.final


def test_a_selector_that_is_missing_selects_nothing_and_an_empty_one_everything():
    empty, every = resolve(stage("none", selector=None), stage("all"), a="")
    assert [len(one.clusters) for one in (empty, every)] == [0, 1]


def test_a_cluster_in_two_stages_is_refused_by_name():
    with pytest.raises(InitializationError) as raised:
        resolve(stage("one", named("b")), stage("two", named("a", "b")), a="", b="")
    assert str(raised.value) == f"{USER}cluster `b` appears in more than one stages"


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (1, "total 1, showing up to 10: c00"),
        (10, "total 10, showing up to 10: c00, c01, c02, c03, c04, c05, c06, c07, c08, c09"),
        (12, "total 12, showing up to 10: c00, c01, c02, c03, c04, c05, c06, c07, c08, c09"),
    ],
)
def test_clusters_in_no_stage_are_told_ten_at_most(count: int, told: str):
    with pytest.raises(InitializationError) as raised:
        resolve(stage("one", named("a")), a="", **{f"c{number:02}": "" for number in range(count)})
    assert str(raised.value) == f"{USER}some clusters are not placed in any stage, {told}"


WAIT = Task(type="TimedWait", wait=timedelta(minutes=1))
APPROVAL = Task(type="Approval")


@pytest.mark.parametrize(
    ("tasks", "why"),
    [
        ([WAIT, WAIT], "afterStageTasks cannot have two tasks of the same type: TimedWait"),
        ([APPROVAL, APPROVAL], "afterStageTasks cannot have two tasks of the same type: Approval"),
        ([APPROVAL, Task(type="TimedWait")], "task 1 of type TimedWait has wait duration set to nil"),
        ([Task(type="TimedWait", wait=timedelta())], "task 0 of type TimedWait has wait duration <= 0"),
    ],
)
@pytest.mark.parametrize("namespace", ["", "app"])
def test_tasks_that_cannot_be_are_refused(tasks, why: str, namespace: str):
    with pytest.raises(InitializationError) as raised:
        resolve(stage(after=tasks), namespace=namespace, a="")
    assert str(raised.value) == (
        f"{USER}the after stage tasks are invalid, updateStrategy: `{namespace}/s`, stage: all, err: {why}"
    )


def test_tasks_are_judged_before_clusters_and_the_first_stage_before_the_second():
    bad = stage("two", after=[WAIT, WAIT])
    with pytest.raises(InitializationError, match="the sorting label"):
        resolve(stage("one", key="order"), bad, a="")
    with pytest.raises(InitializationError, match="the after stage tasks are invalid"):
        resolve(stage("one", named("b"), after=[WAIT, WAIT], key="order"), a="", b="")


def test_what_is_resolved_is_pinned_with_uid_hash_limit_and_tasks():
    (only,) = resolve(stage(limit="50%", after=[WAIT, APPROVAL]), a="", b="", c="", d="", e="")
    assert (only.limit, only.clusters[0].uid, {one.hash for one in only.clusters}) == (2, "uid-a", {"hash"})
    assert [(one.type, one.wait) for one in only.after] == [("TimedWait", "1m0s"), ("Approval", "")]


@pytest.mark.parametrize(
    ("limit", "clusters", "expected"),
    [
        (3, 5, 3),
        (7, 5, 7),
        ("50%", 5, 2),
        ("33%", 4, 1),
        ("33%", 10, 3),
        ("1%", 3, 1),
        ("70%", 3, 2),
        ("25%", 7, 1),
        ("10%", 1, 1),
        ("100%", 5, 5),
        ("50%", 0, 1),
    ],
)
def test_a_percentage_is_rounded_down_but_never_to_nothing(limit, clusters: int, expected: int):
    assert concurrency(limit, clusters) == expected


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("17", 17),
        ("0" * 5000 + "1", 1),
        (str(2**63 - 1), 2**63 - 1),
        ("00", 0),
        ("-0", 0),
        ("+0", 0),
        ("01", 1),
    ],
)
def test_an_index_is_read_as_upstream_reads_it(text: str, number: int):
    assert snapshot_index(text) == number


@pytest.mark.parametrize("text", ["abc", "-1", " 0", "0.0", "0x0", "99999999999999999999", "9" * 5000, "1\n", "+", ""])
def test_an_index_that_is_no_number_is_refused_for_good(text: str):
    with pytest.raises(InitializationError) as raised:
        snapshot_index(text)
    assert str(raised.value) == f"{USER}invalid resource snapshot index `{text}` provided, expected an integer >= 0"
    assert raised.value.final


def test_a_strategy_is_copied_with_durations_as_go_prints_them():
    copied = strategy_copy(
        {
            "stages": [
                {"name": "a", "afterStageTasks": [{"type": "TimedWait", "waitTime": "1.5h"}, {"type": "Approval"}]},
                {"name": "b", "beforeStageTasks": [{"type": "Approval"}]},
            ]
        }
    )
    assert copied == {
        "stages": [
            {"name": "a", "afterStageTasks": [{"type": "TimedWait", "waitTime": "1h30m0s"}, {"type": "Approval"}]},
            {"name": "b", "beforeStageTasks": [{"type": "Approval"}]},
        ]
    }
