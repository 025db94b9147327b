"""A lost history as the status branch recorded it: who the clusters are taken for."""

from reconciler.core import events as e
from reconciler.core.identity import Identity
from reconciler.core.recorded import Recorded, recorded_history
from tests.core import logs
from tests.core.logs import COMMIT, NOW, Log


def initialized() -> Log:
    """Return a log in which the clusters of the article were pinned."""
    log = Log().step(logs.seen())
    return log.happens(e.RunInitialized, pin=logs.pin()).happens(e.RunStarted)


def clusters(log: Log, known: tuple[Identity, ...] | None) -> dict[str, str]:
    """Return the uid of every cluster of the recorded history."""
    record = Recorded(states=(log.state,), clusters=known, lost=COMMIT, time=NOW, started_after=0)
    return {name: one.uid for name, one in recorded_history(record).clusters().items()}


def test_the_members_are_who_they_were_at_the_lost_head():
    south = Identity(name="south", uid="uid-south", commit=COMMIT, created=NOW)
    member1 = Identity(name="member1", uid="uid-of-another", commit=COMMIT, created=NOW)
    assert clusters(initialized(), (member1, south)) == {"member1": "uid-of-another", "south": "uid-south"}


def test_a_branch_that_does_not_say_it_knows_the_clusters_by_the_newest_pin_unless_one_was_seen_leaving():
    log = initialized()
    assert clusters(log, None) == {f"member{one}": f"uid-member{one}" for one in (1, 2, 3)}
    log.happens(e.ClusterDeparted, stage=1, cluster="member3")
    assert clusters(log, None) == {"member1": "uid-member1", "member2": "uid-member2"}
