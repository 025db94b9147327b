"""Uids, fixed for ever: another value here would give every object in every repository another identity."""

from reconciler.core.identity import child_uid, object_uid
from reconciler.core.model import Key

RUN = Key(group="placement.kubernetes-fleet.io", kind="ClusterStagedUpdateRun", name="example-run")


def test_the_uid_of_an_object_never_changes():
    assert object_uid("a" * 40, RUN) == "9ce397b1-e85d-58ed-ae9a-c91fd501023a"


def test_the_uid_of_what_the_daemon_makes_never_changes():
    assert child_uid("parent", "ClusterApprovalRequest", "example-run-canary") == "05ec6af0-de99-54a4-a4be-d3f69f84a440"


def test_everything_that_names_an_object_is_in_its_uid():
    others = {
        object_uid("b" * 40, RUN),
        object_uid("a" * 40, Key(group=RUN.group, kind="StagedUpdateRun", namespace="app", name=RUN.name)),
        object_uid("a" * 40, Key(group=RUN.group, kind=RUN.kind, name="other")),
        object_uid("a" * 40, Key(group="", kind=RUN.kind, name=RUN.name)),
        object_uid("a" * 40, RUN),
    }
    assert len(others) == 5
