"""What a stage waits for, and which approvals pass it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from reconciler.core.approvals import Candidate, Evidence, Judgement, judge, names_of
from reconciler.core.conditions import request_name
from reconciler.core.gates import GATES, GateView
from reconciler.core.model import Approval, Commit, Key
from reconciler.core.selection import canonical
from reconciler.core.status import Gate, PinnedTask, StageFacts, When
from tests.core import logs
from tests.core.logs import NOW, Log

STAGE = StageFacts(name="staging", limit=1, clusters=(), updated_at=NOW)
WAIT = Gate(task=PinnedTask(type="TimedWait", wait="1m0s"), when=When.AFTER, opened_at=NOW + timedelta(seconds=30))


def verdict(kind: str, gate: Gate, seconds: float, judgement: Judgement | None = None, stage: StageFacts = STAGE):
    now = NOW + timedelta(seconds=seconds)
    return GATES[kind](GateView(gate=gate, stage=stage, now=now, judgement=lambda: judgement or Judgement()))


@pytest.mark.parametrize(("seconds", "passed"), [(0, False), (59.999999, False), (60, True), (3600, True)])
def test_a_wait_counts_from_the_update_of_the_stage(seconds: float, passed):
    found = verdict("TimedWait", WAIT, seconds)
    assert (found.passed, found.recheck_at) == (passed, NOW + timedelta(minutes=1))


def test_a_wait_that_nothing_began_waits_for_something_else_than_time():
    found = verdict("TimedWait", replace(WAIT, opened_at=None), 60, stage=replace(STAGE, updated_at=None))
    assert (found.passed, found.recheck_at) == (False, None)


def test_an_approval_passes_by_judgement_and_by_no_time():
    gate = Gate(task=PinnedTask(type="Approval"), when=When.AFTER)
    assert verdict("Approval", gate, 10**9).passed is False
    accepted = verdict("Approval", gate, 0, Judgement(accepted=logs.APPROVAL))
    assert (accepted.passed, accepted.approval) == (True, logs.APPROVAL)
    assert verdict("Approval", gate, 0, Judgement(refused="too early")).refused == "too early"


# -- approvals ----------------------------------------------------------------------------------------------------

COMMIT = Commit(sha="a" * 40, position=9, time=NOW, author="Olga <o@x>", committer="Forge <f@x>", message="Approve")


def candidate(name: str = "example-run-canary", status: str = "True", first_seen: int = 9, **more) -> Candidate:
    condition = {"type": "Approved", "status": status, **more.pop("condition", {})}
    values = {"run": None, "stage": None, "request_uid": None, "snapshot_hash": None, **more}
    kind = values.pop("kind", "ClusterApprovalRequest")
    key = Key(group=logs.RUN.group, kind=kind, namespace=values.pop("namespace", ""), name=name)
    approval = Approval(key=key, condition=condition, **values)
    return Candidate(approval=approval, first_seen=first_seen, introduced=COMMIT, signer="")


def judged(*candidates: Candidate, runs=("example-run",), **more) -> Judgement:
    run = Log().all_of(logs.ASKING).run
    evidence = Evidence(candidates=candidates, **{"seen": {}, "runs": runs, **more})
    return judge(run, run.stages[1], run.stages[1].gates[0], evidence)


def test_an_accepted_approval_keeps_who_claims_to_have_given_it():
    accepted = judged(candidate()).accepted
    assert accepted is not None
    assert (accepted.commit, accepted.author, accepted.committer) == ("a" * 40, "Olga <o@x>", "Forge <f@x>")
    assert accepted.condition == {"type": "Approved", "status": "True"}


@pytest.mark.parametrize(
    ("one", "rule"),
    [
        pytest.param(candidate(status="False"), "NotApproved", id="not approved"),
        pytest.param(candidate(status="Unknown"), "NotApproved", id="unknown"),
        pytest.param(candidate(condition={"observedGeneration": 7}), "WrongGeneration", id="generation"),
        pytest.param(candidate(condition={"observedGeneration": 0}), "WrongGeneration", id="generation 0"),
        pytest.param(candidate(run="other"), "WrongTarget", id="run"),
        pytest.param(candidate(stage="staging"), "WrongTarget", id="stage"),
        pytest.param(candidate(request_uid="x"), "WrongRequest", id="request"),
        pytest.param(candidate(snapshot_hash="0" * 64), "WrongContent", id="content"),
        pytest.param(candidate(first_seen=7), "ApprovedBeforeRequested", id="in the commit at which the gate opened"),
        pytest.param(candidate(first_seen=0), "ApprovedBeforeRequested", id="long before"),
    ],
)
def test_an_approval_that_does_not_fit_is_refused_by_a_rule(one: Candidate, rule: str):
    found = judged(one)
    assert found.accepted is None
    assert found.refused.startswith(f"{rule}: ")


@pytest.mark.parametrize(
    "one",
    [
        candidate("example-run-staging"),
        candidate("example-run-before-canary"),
        candidate("example-run-1"),
        candidate(kind="ApprovalRequest", namespace="app"),
    ],
)
def test_an_approval_of_another_name_is_none_at_all(one: Candidate):
    assert judged(one) == Judgement()


def test_a_good_approval_counts_beside_a_bad_one():
    assert judged(candidate(status="False"), candidate("example-run-after-canary")).accepted is not None


@pytest.mark.parametrize(
    ("name", "runs", "ambiguous"),
    [
        ("example-run-canary", ("example-run",), False),
        ("example-run-canary", ("example-run", "example-run-after"), False),
        ("example-run-after-canary", ("example-run",), False),
        ("example-run-after-canary", ("example-run", "example-run-after"), True),
    ],
)
def test_a_name_that_is_another_runs_too_counts_only_with_its_spec(name, runs, ambiguous):
    assert judged(candidate(name), runs=runs).refused.startswith("AmbiguousName: ") == ambiguous
    assert judged(candidate(name, run="example-run", stage="canary"), runs=runs).accepted is not None


@pytest.mark.parametrize(("name", "first_seen", "new"), [
    pytest.param("example-run-after-canary", 7, False, id="its alias, before the gate opened"),
    pytest.param("example-run-after-canary", 8, True, id="its alias, after"),
    pytest.param("example-run-before-canary", 7, True, id="another gate of the stage"),
    pytest.param("example-run-staging", 7, True, id="another stage"),
])  # fmt: skip
def test_a_condition_that_was_there_under_any_name_of_the_gate_is_not_new(name, first_seen, new):
    one = candidate()
    seen = {(replace(one.approval.key, name=name), canonical(one.approval.condition)): first_seen}
    assert (judged(one, seen=seen).accepted is not None) == new


def test_nothing_up_to_an_acknowledged_rewrite_counts_as_new():
    assert judged(candidate(), not_before=9).refused.startswith("ApprovedBeforeRequested: ")
    assert judged(candidate(), not_before=8).accepted is not None


def test_requests_are_named_as_the_article_names_them():
    assert request_name("r", "s", When.AFTER) == "r-s"
    assert request_name("r", "s", When.BEFORE) == "r-before-s"
    assert names_of("r", "s", When.AFTER) == ("r-s", "r-after-s")
