"""What git makes of a merge, and of files on disk, without leaving anything in the repository."""

import os
import shutil

import pytest

from reconciler.errors import UsageError
from reconciler.git import history, merge
from reconciler.git.run import GitError, discover
from tests import servers


@pytest.fixture
def clone(tmp_path):
    """A clone with one commit."""
    clone = servers.clone_of(servers.bare_repository(tmp_path / "fleet.git"), tmp_path / 'a "quoted": clone')
    servers.commit(clone, {"a.txt": "1\n2\n3\n", "b.txt": "x\n", "dir/c.txt": "c\n"})
    return clone


def diverge(clone, theirs, ours):
    """Commit on a branch and on main; return both tips."""
    servers.git(clone, "checkout", "--quiet", "-b", "feature")
    tip = servers.commit(clone, theirs)
    servers.git(clone, "checkout", "--quiet", "main")
    return servers.commit(clone, ours), tip


def held(clone):
    return sorted((clone / ".git").rglob("*"))


def test_a_merge_is_git_s_own_and_leaves_nothing(clone):
    ours, theirs = diverge(clone, {"a.txt": "one\n2\n3\n"}, {"a.txt": None, "moved.txt": "1\n2\n3\n4\n"})
    before = held(clone)
    with merge.aside(discover(clone)[0]) as git:
        found = merge.merge(git, ours, theirs)
        [change] = history.diff(git, ours, found.tree)
        assert history.read_blobs(git, [change.blob]) == {change.blob: b"one\n2\n3\n4\n"}
    assert (change.path, found.conflicts) == ("moved.txt", ())
    assert held(clone) == before


def test_what_is_left_to_a_person_is_named(clone):
    ours, theirs = diverge(clone, {"a.txt": "one\n2\n3\n", "b.txt": None}, {"a.txt": "uno\n2\n3\n", "b.txt": "y\n"})
    with merge.aside(discover(clone)[0]) as git:
        assert merge.merge(git, ours, theirs).conflicts == ("a.txt", "b.txt")


def test_histories_that_have_nothing_in_common_are_not_merged(clone):
    other = servers.git(clone, "commit-tree", "-m", "x", servers.git(clone, "mktree"))
    with merge.aside(discover(clone)[0]) as git, pytest.raises(GitError, match="unrelated histories"):
        merge.merge(git, servers.git(clone, "rev-parse", "main"), other)


def test_a_git_that_cannot_merge_so_is_named(clone, tmp_path, monkeypatch):
    ours, theirs = diverge(clone, {"a.txt": "one\n2\n3\n"}, {"b.txt": "y\n"})
    real, shim = shutil.which("git"), tmp_path / "bin" / "git"
    shim.parent.mkdir()
    old = 'case "$*" in *merge-tree*) exit 129;; *version) echo git version 2.34.1; exit;; esac'
    shim.write_text(f'#!/bin/sh\n{old}\nexec {real} "$@"\n')
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim.parent}:{os.environ['PATH']}")
    told = r"git version 2\.34\.1 cannot tell what a merge gives: 2\.38 or newer can"
    with merge.aside(discover(clone)[0]) as git, pytest.raises(UsageError, match=told):
        merge.merge(git, ours, theirs)


def test_files_on_disk_become_a_commit_of_nobody(clone):
    head = servers.git(clone, "rev-parse", "HEAD")
    (clone / "a.txt").write_bytes(b"1\r\n2\r\n3\r\n")
    (clone / "b.txt").unlink()
    (clone / "link").symlink_to("a.txt")
    shutil.rmtree(clone / "dir")
    (clone / "dir").write_text("a file now\n")
    before = held(clone)
    with merge.aside(discover(clone)[0]) as git:
        made = merge.commit_of(git, head, clone, ["a.txt", "b.txt", "dir", "dir/c.txt", "link"])
        changes = {one.path: one.mode for one in history.diff(git, head, made) if one.blob}
        gone = [one.path for one in history.diff(git, head, made) if not one.blob]
    assert (changes, gone) == ({"dir": "100644", "link": "120000"}, ["b.txt", "dir/c.txt"]), "line ends are no change"
    assert held(clone) == before


@pytest.mark.parametrize("linked", [False, True])
def test_files_that_are_as_they_were_make_no_commit(clone, tmp_path, linked):
    head, where = servers.git(clone, "rev-parse", "HEAD"), clone
    if linked:
        where = tmp_path / "linked"
        servers.git(clone, "worktree", "add", "--quiet", "--detach", str(where))
    with merge.aside(discover(where)[0]) as git:
        assert merge.commit_of(git, head, where, ["a.txt", "b.txt"]) == head
