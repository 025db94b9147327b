"""Each event: what it does, and that the fold refuses it where it cannot happen."""

from dataclasses import replace
from datetime import timedelta

import pytest

from reconciler.core import events as e
from reconciler.core.actions import Reason
from reconciler.core.fold import IllegalTransition, apply, apply_to_placement, fold
from reconciler.core.status import Archived, Delivered, PinnedCluster, PlacementState, Snapshot, When
from tests.core import logs
from tests.core.logs import HASH, NEWER, NOW, UID, Log, gate, opened, reported, seen, started


def after(*steps):
    return Log().all_of(steps)


EFFECTS = [
    pytest.param(
        logs.SEEN, lambda run: (run.uid, run.position, run.state, run.pin), (UID, 6, "Run", None), id="RunSeen"
    ),
    pytest.param(
        (*logs.SEEN, (e.RunEdited, {"commit": "d" * 40, "generation": 2, "spec": {**logs.SPEC, "state": "Stop"}})),
        lambda run: (run.commit, run.generation, run.state),
        ("d" * 40, 2, "Stop"),
        id="RunEdited",
    ),
    pytest.param(
        (*logs.SEEN, (e.RunNotStarted, {"message": "too old"})),
        lambda run: (run.end, run.end_message),
        ("NotStarted", "too old"),
        id="RunNotStarted",
    ),
    pytest.param(
        (
            *logs.SEEN,
            (e.InitializationFailed, {"commit": logs.COMMIT, "message": "no placement"}),
            (e.InitializationFailed, {"commit": logs.COMMIT, "message": "no strategy", "final": True}),
        ),
        lambda run: (run.failure, run.failure_final, run.failed_at),
        ("no strategy", True, NOW + timedelta(seconds=5)),
        id="InitializationFailed",
    ),
    pytest.param(
        (
            *logs.SEEN,
            (e.InitializationFailed, {"commit": logs.COMMIT, "message": "no placement"}),
            (e.RunInitialized, {"pin": logs.pin()}),
        ),
        lambda run: (run.failure, run.failed_at, [[one.name for one in stage.clusters] for stage in run.stages]),
        ("", None, [["member2"], ["member3", "member1"]]),
        id="RunInitialized",
    ),
    pytest.param(logs.STARTED, lambda run: run.started_at, NOW + timedelta(seconds=10), id="RunStarted"),
    pytest.param(
        logs.SKIPPED,
        lambda run: (run.stages[0].skipped, run.stages[0].ended_at, run.current),
        (True, NOW + timedelta(seconds=15), 1),
        id="StageSkipped",
    ),
    pytest.param(
        logs.BEFORE_GATE,
        lambda run: (run.stages[1].gates[0].opened_position, run.stages[1].gates[0].request),
        (7, "example-run-1"),
        id="GateOpened",
    ),
    pytest.param(
        logs.OPENED,
        lambda run: (run.stages[1].gates[0].approval, run.stages[1].gates[0].passed_at),
        (logs.APPROVAL, NOW + timedelta(seconds=25)),
        id="GatePassed",
    ),
    pytest.param(
        (*logs.BEFORE_GATE, (e.ApprovalRefused, {"stage": 1, "when": When.BEFORE, "message": "too early"})),
        lambda run: run.stages[1].gates[0].refused,
        "too early",
        id="ApprovalRefused",
    ),
    pytest.param(
        (*logs.STARTED, started(0, "member2", before=logs.BEFORE)),
        lambda run: (run.stages[0].clusters[0].seq, run.stages[0].clusters[0].before, run.stages[0].started_at),
        (4, logs.BEFORE, NOW + timedelta(seconds=15)),
        id="ClusterStarted",
    ),
    pytest.param(
        (*logs.STARTED, (e.ClusterDeparted, {"stage": 0, "cluster": "member2"})),
        lambda run: (run.stages[0].clusters[0].is_done, run.stages[0].updated_at),
        (True, NOW + timedelta(seconds=15)),
        id="ClusterDeparted",
    ),
    pytest.param(
        logs.UPDATED,
        lambda run: (run.stages[0].clusters[0].succeeded_at, run.stages[0].is_updated),
        (NOW + timedelta(seconds=20), True),
        id="ClusterReported, healthy with the pinned hash",
    ),
    pytest.param(
        (*logs.FIRST, reported(0, "member2", 4, complete="f" * 64)),
        lambda run: (run.stages[0].clusters[0].succeeded_at, run.stages[0].clusters[0].in_flight),
        (None, True),
        id="ClusterReported, healthy with another hash",
    ),
    pytest.param(
        (*logs.FIRST, reported(0, "member2", 4, Reason.NOT_AVAILABLE, object="Pod x", message="0 of 1")),
        lambda run: (run.stages[0].clusters[0].object, run.stages[0].clusters[0].message, run.stages[0].is_updated),
        ("Pod x", "0 of 1", False),
        id="ClusterReported, not healthy",
    ),
    pytest.param(
        (*logs.FIRST, (e.ClusterOverdue, {"stage": 0, "cluster": "member2"})),
        lambda run: run.stages[0].clusters[0].is_stuck,
        True,
        id="ClusterOverdue",
    ),
    pytest.param(
        (*logs.SUPERSEDED, (e.ClusterTaken, {"stage": 0, "cluster": "member2", "by": NEWER})),
        lambda run: (run.stages[0].clusters[0].taken_by, run.is_active),
        (NEWER, False),
        id="ClusterTaken",
    ),
    pytest.param(
        logs.STAGED,
        lambda run: (run.stages[0].ended_at, run.current),
        (NOW + timedelta(seconds=90), 1),
        id="StageCompleted",
    ),
    pytest.param(logs.DONE, lambda run: (run.end, run.is_active), ("Succeeded", False), id="RunCompleted"),
    pytest.param(
        logs.SUPERSEDED,
        lambda run: (run.end, run.end_message, run.is_active),
        ("Superseded", "superseded by the newer run example-run-2", True),
        id="RunSuperseded",
    ),
    pytest.param(
        (*logs.SEEN, (e.RunWithdrawn, {"commit": logs.COMMIT})),
        lambda run: (run.end, run.end_message),
        ("Withdrawn", "the run was removed by commit ccccccc"),
        id="RunWithdrawn",
    ),
]


@pytest.mark.parametrize(("steps", "read", "expected"), EFFECTS)
def test_an_event_has_its_effect(steps, read, expected):
    assert read(after(*steps).run) == expected


START = (e.RunStarted, {})
PIN = (e.RunInitialized, {"pin": logs.pin()})
NOT_STARTED = (e.RunNotStarted, {"message": "x"})
FAILED = (e.InitializationFailed, {"commit": logs.COMMIT, "message": "x"})
COMPLETE = (e.StageCompleted, {"stage": 0})
END = (e.RunCompleted, {})
DEPART = (e.ClusterDeparted, {"stage": 0, "cluster": "member2"})
OVERDUE = (e.ClusterOverdue, {"stage": 0, "cluster": "member2"})
TAKEN = (e.ClusterTaken, {"stage": 0, "cluster": "member2", "by": NEWER})
WITHDRAWN = (e.RunWithdrawn, {"commit": logs.COMMIT})
SUPERSEDED = (e.RunSuperseded, {"by": NEWER, "by_name": "n"})
PASS = gate(e.GatePassed, 1, "Approval", approval=logs.APPROVAL)
STOP = (e.RunEdited, {"commit": "d" * 40, "generation": 2, "spec": {**logs.SPEC, "state": "Stop"}})
REFUSED = (e.ApprovalRefused, {"stage": 1, "when": When.AFTER, "message": "x"})

REFUSALS = [
    pytest.param(logs.SEEN, seen(), "the run was seen before", id="RunSeen twice"),
    pytest.param((), seen(format=99), "the log has format 99", id="RunSeen of a newer format"),
    pytest.param((), START, "the log begins with RunStarted", id="a log without its beginning"),
    pytest.param(
        logs.SEEN,
        (e.RunEdited, {"commit": "d", "generation": 1, "spec": {}}),
        "the generation did not grow",
        id="RunEdited without a new generation",
    ),
    pytest.param(logs.INITIALIZED, NOT_STARTED, "it is initialized", id="RunNotStarted once initialized"),
    pytest.param(logs.INITIALIZED, FAILED, "it is initialized or over", id="InitializationFailed once initialized"),
    pytest.param(logs.INITIALIZED, PIN, "it is initialized or over", id="RunInitialized twice"),
    pytest.param((*logs.SEEN, WITHDRAWN), PIN, "it is initialized or over", id="RunInitialized once over"),
    pytest.param(logs.SEEN, START, "it is not initialized, or over", id="RunStarted before it is initialized"),
    pytest.param(logs.STARTED, START, "it was started before", id="RunStarted twice"),
    pytest.param((*logs.INITIALIZED, WITHDRAWN), START, "it is not initialized, or over", id="RunStarted once over"),
    pytest.param((*logs.INITIALIZED, STOP), START, "its state is Stop", id="RunStarted under Stop"),
    pytest.param((*logs.EMPTY_FIRST, STOP), (e.StageSkipped, {"stage": 0}), "it is stopped", id="StageSkipped stopped"),
    pytest.param((*logs.STARTED, STOP), started(0, "member2"), "it is stopped", id="ClusterStarted under Stop"),
    pytest.param((*logs.UPDATED, STOP), opened(0, "TimedWait"), "it is stopped", id="GateOpened under Stop"),
    pytest.param((*logs.ASKING, STOP), PASS, "it is stopped", id="GatePassed under Stop"),
    pytest.param((*logs.PASSED, STOP), COMPLETE, "it is stopped", id="StageCompleted under Stop"),
    pytest.param(logs.FIRST, opened(0, "TimedWait"), "a cluster of the stage is not done", id="GateOpened in flight"),
    pytest.param(logs.CANARIES, REFUSED, "no approval is asked for there", id="ApprovalRefused before it is asked"),
    pytest.param(
        (*logs.ASKING, PASS), REFUSED, "no approval is asked for there", id="ApprovalRefused once it is passed"
    ),
    pytest.param(
        logs.STARTED, (e.StageSkipped, {"stage": 0}), "the stage has clusters", id="StageSkipped that has clusters"
    ),
    pytest.param(
        logs.EMPTY_FIRST, (e.StageSkipped, {"stage": 1}), "stage 1 is not the current one", id="StageSkipped too early"
    ),
    pytest.param(
        logs.INITIALIZED, (e.StageSkipped, {"stage": 0}), "the run was not started", id="StageSkipped before the start"
    ),
    pytest.param(logs.WAITING, opened(0, "TimedWait"), "the gate was open before", id="GateOpened twice"),
    pytest.param(logs.UPDATED, opened(0, "Approval"), "has no such gate", id="GateOpened that is not there"),
    pytest.param(logs.UPDATED, opened(1, "Approval"), "stage 1 is not the current one", id="GateOpened too early"),
    pytest.param(
        logs.UPDATED, gate(e.GatePassed, 0, "TimedWait"), "the gate was never opened", id="GatePassed before it opened"
    ),
    pytest.param(logs.PASSED, gate(e.GatePassed, 0, "TimedWait"), "the gate was passed before", id="GatePassed twice"),
    pytest.param(
        logs.ASKING,
        gate(e.GatePassed, 1, "Approval"),
        "an approval gate passes by an approval only",
        id="GatePassed without an approval",
    ),
    pytest.param(
        logs.STARTED,
        (e.ApprovalRefused, {"stage": 9, "when": When.AFTER, "message": "x"}),
        "there is no stage 9",
        id="ApprovalRefused of no stage",
    ),
    pytest.param(
        logs.INITIALIZED, started(0, "member2"), "the run was not started", id="ClusterStarted before the run"
    ),
    pytest.param(logs.FIRST, started(0, "member2"), "1 clusters are in flight already", id="ClusterStarted twice"),
    pytest.param(
        logs.UPDATED, started(0, "member2"), "cluster member2 was started before", id="ClusterStarted once done"
    ),
    pytest.param(logs.STARTED, started(1, "member3"), "stage 1 is not the current one", id="ClusterStarted too early"),
    pytest.param(
        logs.BEFORE_GATE, started(1, "a"), "a gate before the stage is not passed", id="ClusterStarted before its gate"
    ),
    pytest.param(
        (*logs.OPENED, started(1, "a")), started(1, "b"), "1 clusters are in flight already", id="no free slot"
    ),
    pytest.param(logs.STARTED, started(0, "x"), "cluster x is not in stage 0", id="ClusterStarted of a stranger"),
    pytest.param(
        (*logs.FIRST, SUPERSEDED),
        started(0, "member2"),
        "it ended as Superseded",
        id="ClusterStarted of a superseded run",
    ),
    pytest.param(logs.UPDATED, DEPART, "cluster member2 is done", id="ClusterDeparted once done"),
    pytest.param(
        logs.FIRST,
        reported(0, "member2", 3),
        "cluster member2 has no open intent 3",
        id="ClusterReported, older intent",
    ),
    pytest.param(
        logs.UPDATED, reported(0, "member2", 4), "cluster member2 has no open intent 4", id="ClusterReported once done"
    ),
    pytest.param(logs.STARTED, OVERDUE, "cluster member2 is not in flight", id="ClusterOverdue, not in flight"),
    pytest.param(logs.FIRST, TAKEN, "the run is not over", id="ClusterTaken of a run that goes on"),
    pytest.param(
        (*logs.STARTED, SUPERSEDED), TAKEN, "cluster member2 is not in flight", id="ClusterTaken, not in flight"
    ),
    pytest.param(logs.FIRST, COMPLETE, "a cluster of the stage is not done", id="StageCompleted too early"),
    pytest.param(logs.WAITING, COMPLETE, "a gate of the stage is not passed", id="StageCompleted before its gate"),
    pytest.param(logs.STAGED, END, "a stage is not over", id="RunCompleted too early"),
    pytest.param(logs.DONE, SUPERSEDED, "it ended before as Succeeded", id="RunSuperseded once it has succeeded"),
    pytest.param(logs.DONE, WITHDRAWN, "it ended before as Succeeded", id="RunWithdrawn once it has succeeded"),
    pytest.param(logs.SEEN, logs.PLACED, "is no event of a run", id="an event of a placement"),
]


@pytest.mark.parametrize(("steps", "step", "why"), REFUSALS)
def test_an_event_is_refused_where_it_cannot_happen(steps, step, why):
    log = after(*steps)
    kind, facts = step
    event = kind(seq=log.state.seq + 1, now=log.now, **{**facts, "run": UID})
    with pytest.raises(IllegalTransition, match=why):
        apply(log.state.runs.get(UID), event)


@pytest.mark.parametrize(("seconds", "over"), [(59, False), (60, True)])
def test_a_wait_passes_only_when_it_is_over(seconds: int, over):
    """It counts from the update of the stage, at the moment of the event itself."""
    log = after(*logs.UPDATED).step(opened(0, "TimedWait"))
    updated = log.run.stages[0].updated_at
    event = e.GatePassed(
        seq=1, now=updated + timedelta(seconds=seconds), run=UID, stage=0, when=When.AFTER, type="TimedWait"
    )
    if over:
        assert apply(log.run, event).stages[0].gates[0].passed_at == event.now
        return
    with pytest.raises(IllegalTransition, match="the wait is not over"):
        apply(log.run, event)


def test_an_event_of_another_run_is_refused():
    run = after(*logs.SEEN).run
    with pytest.raises(IllegalTransition, match=f"RunStarted of run {NEWER} in the log of run {UID}"):
        apply(run, e.RunStarted(seq=9, now=NOW, run=NEWER))


def test_every_event_has_an_effect_and_a_refusal_here():
    """A new event fails here until both are written."""
    of_placements = {"PlacementSeen", "PlacementEdited", "PlacementRemoved", "SnapshotMade", "PolicyMade"}
    of_placements |= {"PlacementScheduled", "WithdrawalStarted", "WithdrawalReported", "RunArchived"}
    of_runs = set(e.EVENTS) - of_placements
    assert {str(one.id).split(",")[0] for one in EFFECTS} == of_runs
    assert of_runs - {one.values[1][0].__name__ for one in REFUSALS} == set()


# -- the placement ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seq", [0, 1, 3])
def test_numbers_grow_by_one(seq: int):
    state = after(*logs.SEEN).state
    with pytest.raises(IllegalTransition, match=rf"event {seq} of .* after event 1"):
        apply_to_placement(state, e.InitializationFailed(seq=seq, now=NOW, run=UID, commit="c", message="x"))


def test_a_fold_does_not_depend_on_the_order_of_the_logs():
    log = after(logs.PLACED, (e.SnapshotMade, {"run": "", "snapshot": logs.SNAPSHOT}), *logs.STARTED)
    assert fold(logs.PLACEMENT, reversed(log.events)) == log.state


def test_a_placement_that_is_seen_again_counts_anew_and_keeps_numbers_and_records():
    log = after(logs.PLACED, (e.SnapshotMade, {"run": "", "snapshot": logs.SNAPSHOT}))
    log.happens(e.PolicyMade, run="", policy=logs.POLICY)
    log.happens(e.PlacementScheduled, run="", commit=logs.COMMIT, clusters=("a",))
    log.happens(e.PlacementRemoved, run="", commit=logs.COMMIT)
    assert log.state.removed_at is not None
    kind, facts = logs.PLACED
    log.happens(kind, **{**facts, "uid": "another"})
    state = log.state
    assert (state.seq, state.uid, state.snapshots, state.policies) == (6, "another", (), ())
    assert (dict(state.scheduled), state.removed_at) == ({}, None)


def test_a_placement_that_is_edited_keeps_its_snapshots():
    log = after(logs.PLACED, (e.SnapshotMade, {"run": "", "snapshot": logs.SNAPSHOT}))
    log.happens(e.PlacementEdited, run="", generation=2, commit="d" * 40, spec={"x": 1})
    assert (log.state.generation, log.state.spec, len(log.state.snapshots)) == (2, {"x": 1}, 1)


def test_of_an_archived_run_only_what_later_runs_hang_on_is_kept():
    log = after(*logs.STARTED)
    log.happens(e.RunWithdrawn, commit=logs.COMMIT)
    run = log.run
    log.happens(e.RunArchived, run="", uid=UID, name=run.key.name)
    kept = Archived(uid=UID, key=run.key, age=run.age, was_started=True, apply_strategy={"type": "ClientSideApply"})
    assert (dict(log.state.runs), dict(log.state.archived)) == ({}, {UID: kept})
    assert log.state.apply_strategy(UID) == {"type": "ClientSideApply"}


@pytest.mark.parametrize("steps", [logs.STARTED, logs.FIRST, ()])
def test_a_run_that_is_not_over_is_not_archived(steps):
    with pytest.raises(IllegalTransition, match="run example-run is not there, or not over"):
        after(*steps).happens(e.RunArchived, run="", uid=UID, name="example-run")


@pytest.mark.parametrize("index", [1, -1])
def test_snapshots_are_numbered_without_a_gap(index: int):
    log = after(logs.PLACED)
    snapshot: Snapshot = replace(logs.SNAPSHOT, index=index)
    with pytest.raises(IllegalTransition, match=f"snapshot {index} of .* after 0"):
        log.happens(e.SnapshotMade, run="", snapshot=snapshot)


@pytest.mark.parametrize("index", [1, -1, 77])
def test_policies_are_numbered_without_a_gap(index: int):
    log = after(logs.PLACED)
    with pytest.raises(IllegalTransition, match=f"policy {index} of .* after 0"):
        log.happens(e.PolicyMade, run="", policy=replace(logs.POLICY, index=index))


def test_a_cluster_stays_scheduled_since_the_first_time():
    log = after(logs.PLACED)
    log.happens(e.PlacementScheduled, run="", commit=logs.COMMIT, clusters=("a",)).later(60)
    log.happens(e.PlacementScheduled, run="", commit=logs.COMMIT, clusters=("a", "b"))
    first = NOW + timedelta(seconds=5)
    assert dict(log.state.scheduled) == {"a": first, "b": first + timedelta(seconds=60)}


def test_a_record_tells_what_a_cluster_was_told_last_and_how_far_it_is():
    log = after(*logs.FIRST)
    record = log.state.records["member2"]
    assert (record.run_name, record.index, record.hash, record.seq, record.complete_at) == (
        "example-run", 1, HASH, 4, None,
    )  # fmt: skip
    assert record.delivered is None
    log.step(reported(0, "member2", 4, Reason.NOT_AVAILABLE))
    assert log.state.records["member2"].available_at is None
    assert log.state.records["member2"].delivered == Delivered(
        run=UID, index=1, hash=HASH, commit=logs.COMMIT, seq=4, placement_uid="uid-placement"
    )
    log.later(5).step(reported(0, "member2", 4))
    done = log.state.records["member2"]
    assert done.available_at == log.now
    assert done.complete_at == log.now - timedelta(seconds=5)


def test_what_was_before_stays_the_way_back_until_the_new_is_complete():
    log = after(*logs.STARTED, started(0, "member2", before=logs.BEFORE))
    assert log.state.records["member2"].delivered == logs.BEFORE
    log.step(reported(0, "member2", 4, Reason.INCOMPLETE, complete=""))
    assert log.state.records["member2"].delivered == logs.BEFORE


def withdrawal(log: logs.Log, reason: Reason, intent: int) -> logs.Log:
    return log.happens(e.WithdrawalReported, run="", cluster="member2", intent=intent, reason=reason)


def test_what_a_removed_placement_put_on_a_cluster_is_removed_and_the_record_says_so():
    log = after(*logs.UPDATED)
    log.happens(e.PlacementRemoved, run="", commit=logs.COMMIT)
    log.happens(e.WithdrawalStarted, run="", cluster="member2")
    intent, record = log.state.seq, log.state.records["member2"]
    assert (record.hash, record.run, record.seq, record.is_empty) == ("", "", intent, False)
    withdrawal(log, Reason.UNREACHABLE, intent)
    assert log.state.records["member2"].reason is Reason.UNREACHABLE
    withdrawal(log, Reason.WITHDRAWN, intent)
    assert log.state.records["member2"].is_empty


def test_nothing_is_removed_while_the_placement_is_there_or_twice_or_without_an_intent():
    log = after(*logs.UPDATED)
    with pytest.raises(IllegalTransition, match="nothing is to be removed from member2"):
        log.happens(e.WithdrawalStarted, run="", cluster="member2")
    log.happens(e.PlacementRemoved, run="", commit=logs.COMMIT)
    with pytest.raises(IllegalTransition, match="nothing is being removed from member2"):
        withdrawal(log, Reason.WITHDRAWN, 4)
    log.happens(e.WithdrawalStarted, run="", cluster="member2")
    with pytest.raises(IllegalTransition, match="nothing is to be removed from member2"):
        log.happens(e.WithdrawalStarted, run="", cluster="member2")
    with pytest.raises(IllegalTransition, match="nothing is to be removed from elsewhere"):
        log.happens(e.WithdrawalStarted, run="", cluster="elsewhere")


def test_a_delete_stage_is_over_when_nothing_is_left_anywhere():
    log = after(*logs.UPDATED, (e.RunWithdrawn, {"commit": logs.COMMIT}))
    left = PinnedCluster(name="member2", uid=log.state.records["member2"].uid, hash="")
    log.happens(e.RunSeen, run=NEWER, **(seen()[1] | {"key": replace(logs.RUN, name="newer"), "position": 9}))
    log.happens(e.RunInitialized, run=NEWER, pin=replace(logs.pin(), stages=(), deletions=(left,)))
    log.happens(e.RunStarted, run=NEWER, deletions=(left,))
    log.happens(e.ClusterStarted, run=NEWER, stage=0, cluster="member2")
    intent = log.state.seq
    with pytest.raises(IllegalTransition, match="a stage is not over"):
        log.happens(e.RunCompleted, run=NEWER)
    facts = {"run": NEWER, "stage": 0, "cluster": "member2", "intent": intent}
    log.happens(e.ClusterReported, **facts, reason=Reason.NOT_AVAILABLE)
    assert not log.state.records["member2"].is_empty
    log.happens(e.ClusterReported, **facts, reason=Reason.WITHDRAWN)
    assert log.state.records["member2"].is_empty
    assert log.state.records["member2"].delivered is None
    log.happens(e.RunCompleted, run=NEWER)
    assert log.state.runs[NEWER].end == "Succeeded"


def test_an_empty_log_is_an_empty_state():
    assert fold(logs.PLACEMENT, ()) == PlacementState(key=logs.PLACEMENT)
