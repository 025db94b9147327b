"""The log of a run, folded, is its status."""

import itertools
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler import redact
from reconciler.core.events import ClusterReported, InitializationFailed
from reconciler.core.fold import IllegalTransition, fold
from reconciler.documents import yaml
from reconciler.status_branch import layout, reader, store
from tests import manifests, servers
from tests.manifests import run, stage, strategy
from tests.world import BEGIN, World


@pytest.fixture
def done(rings: World) -> World:
    """A run with a wait and an approval that has succeeded."""
    rings.commits("strategies/rings.yaml", strategy(stage("canary", wait="1m", approval=True), stage("prod")))
    rings.commits("runs/web-1.yaml", run("web-1"))
    rings.passes(minutes=1)
    rings.approves("web-1", "canary")
    rings.passes()
    return rings


def test_every_stored_status_at_every_commit_is_the_fold_of_its_log(done: World):
    commits = servers.git(done.remote, "rev-list", "fleet-status").splitlines()
    assert len(commits) > 4
    for commit in commits:
        status = reader.read(done.daemons[0].mirror.git, commit)
        assert status.tampered == {}
        for key, state in status.placements.items():
            assert status.files[f"{layout.placement_folder(key)}/clusters.yaml"] == store.render_clusters(
                state, status.digests[key]
            )


def test_what_people_wrote_is_the_same_in_the_log_as_in_the_status(rings: World):
    """What looked like credentials in a URL went on into the next value, and nobody could read the log any more."""
    notes = {"ticket": "https://jira", "requester": "olga@example.org", "sentence": "see https://u:p@a@host/x " * 9}
    rings.commits("runs/web-1.yaml", run("web-1", annotations=notes))
    rings.passes()
    rings.restarts(wiped=True)
    rings.passes()
    assert rings.status().tampered == {}
    kept = rings.object("web-1")["metadata"]["annotations"]
    assert (kept["ticket"], kept["requester"]) == ("https://jira", "olga@example.org")
    assert kept["sentence"] == "see https://host/x " * 9


TEXTS = st.text(st.characters(codec="utf-8") | st.sampled_from("@:/ \n\x1b\u202e"), max_size=40) | st.sampled_from(
    ["https://a", "b@c", "https://u:p@host/", 'x://"', "a://b@c@d"]
)


@given(st.dictionaries(TEXTS, TEXTS, max_size=5), TEXTS)
def test_a_line_of_the_log_gives_back_what_was_written_whatever_people_wrote(annotations: dict[str, str], message: str):
    event = InitializationFailed(seq=1, now=BEGIN, run="r", commit=message, message=json.dumps(annotations))
    [read] = reader.log_events(store.log_line(event))
    assert (read.commit, read.message) == (redact.text(message), redact.text(json.dumps(annotations)))
    assert store.log_line(read) == store.log_line(event)
    written = store._yaml({"annotations": annotations, "message": message})
    [document] = yaml.read("x.yaml", written).documents
    assert document.value == {"annotations": redact.body(annotations), "message": redact.text(message)}


def test_a_log_only_grows(done: World):
    path = f"{layout.run_folder(done.run('web-1'))}/{layout.EVENTS}"
    commits = servers.git(done.remote, "rev-list", "--reverse", "fleet-status", "--", path).splitlines()
    texts = [servers.git(done.remote, "cat-file", "blob", f"{commit}:{path}") for commit in commits]
    assert all(newer.startswith(older) for older, newer in itertools.pairwise(texts))
    assert texts[-1].splitlines()[0].startswith('{"seq":5,"now":"2025-07-22T21:00:00.000000Z","event":"RunSeen"')


def test_changing_one_event_changes_the_fold_or_breaks_it(done: World):
    state = done.placement()
    events = sorted(done.all_events(state), key=lambda event: event.seq)
    assert fold(state.key, events) == state
    for number, event in enumerate(events):
        if not event.run:
            continue
        without = events[:number] + events[number + 1 :]
        try:
            assert fold(state.key, without) != state
        except (IllegalTransition, KeyError):
            continue


def test_another_answer_of_a_member_is_another_status(done: World):
    state = done.placement()
    events = done.all_events(state)
    changed = [replace(one, object="Pod x") if isinstance(one, ClusterReported) else one for one in events]
    before, after = (fold(state.key, one).runs[done.run("web-1").uid] for one in (events, changed))
    assert after.stages[0].clusters[0].object == "Pod x"
    assert before != after


def test_an_earlier_moment_is_the_fold_of_what_had_happened(done: World):
    """The events up to the commit of a moment fold to the status of that moment."""
    path = f"{layout.run_folder(done.run('web-1'))}/{layout.EVENTS}"
    first = servers.git(done.remote, "rev-list", "--reverse", "fleet-status", "--", path).splitlines()[0]
    lines = servers.git(done.remote, "cat-file", "blob", f"{first}:{path}").splitlines()
    last = json.loads(lines[-1])["seq"]
    state = done.placement()
    folded = fold(state.key, [one for one in done.all_events(state) if one.seq <= last])
    assert (
        store.render_run(folded.runs[done.run("web-1").uid])
        == (
            servers.git(done.remote, "cat-file", "blob", f"{first}:{path.replace(layout.EVENTS, 'run.yaml')}") + "\n"
        ).encode()
    )


def test_no_number_is_drawn_twice_over_the_whole_life_of_a_placement(done: World):
    done.removes("placements/web.yaml")
    done.passes()
    done.commits("placements/web.yaml", manifests.placement())
    done.commits("runs/web-2.yaml", run("web-2"))
    done.passes(minutes=1)
    state = done.placement()
    assert sorted(one.seq for one in done.all_events(state)) == list(range(1, state.seq + 1))
    assert state.snapshots[0].index == 0
    assert done.started("web-2") == ["canary"]
