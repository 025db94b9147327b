"""History as the reconciler sees it: first parents, oldest first, whatever bytes people commit."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reconciler import redact
from reconciler.core.model import Commit
from reconciler.errors import TemporaryError
from reconciler.git import history
from reconciler.git.history import Change
from reconciler.git.run import PERSON, Git, GitError
from tests import servers


@pytest.fixture
def work(tmp_path):
    """A work tree with no commit yet."""
    work = tmp_path / "work"
    work.mkdir()
    servers.git(work, "init", "--quiet", "--initial-branch=main")
    return work


@pytest.fixture
def git(work):
    """A person's git on it."""
    return Git(directory=work / ".git", profile=PERSON)


def head(work: Path) -> str:
    return servers.git(work, "rev-parse", "HEAD")


def blob(content: str | bytes, work: Path) -> str:
    data = content.encode() if isinstance(content, str) else content
    return servers.git(work, "hash-object", "-w", "--stdin", stdin=data)


def branch(work: Path, name: str, at: str = "HEAD") -> None:
    servers.git(work, "checkout", "--quiet", "-b", name, at)


def switch(work: Path, name: str) -> None:
    servers.git(work, "checkout", "--quiet", name)


def merge(work: Path, *names: str, options: tuple[str, ...] = ("--no-ff",)) -> str:
    servers.git(work, "merge", "--quiet", *options, "-m", f"Merge {' '.join(names)}", *names)
    return head(work)


def told(git: Git, tip: str, base: str | None = None) -> list[tuple[str, list[str]]]:
    """Return subject and changed paths of each commit; a removed path has a minus in front."""
    return [
        (commit.subject, [change.path if change.blob else f"-{change.path}" for change in changes])
        for commit, changes in history.log(git, tip, base)
    ]


# -- log -----------------------------------------------------------------------------------------------------


def test_a_commit_carries_all_that_history_says_of_it(work, git):
    root = servers.commit(work, {"runs/a.yaml": "1"}, "Begin\n\nwith a body\n")
    environment = {"GIT_AUTHOR_DATE": "1700000000 +0200", "GIT_COMMITTER_DATE": "1700000100 -0500"}
    servers.git(work, "commit", "--quiet", "--allow-empty", "-m", "Nothing", environment=environment)
    (_, changes), (second, nothing) = history.log(git, head(work), start=7)
    assert changes == (Change(path="runs/a.yaml", mode="100644", blob=blob("1", work)),)
    assert (nothing, second) == (
        (),
        Commit(
            sha=head(work),
            position=8,
            time=datetime(2023, 11, 14, 22, 15, tzinfo=UTC),
            author="Ada <ada@example.org>",
            committer="Carl <carl@example.org>",
            message="Nothing",
            parents=(root,),
        ),
    )
    assert next(history.log(git, root))[0].message == "Begin\n\nwith a body"


def test_changes_are_additions_edits_removals_and_modes(work, git):
    servers.commit(work, {"a": "1", "b": "same"}, "one")
    servers.commit(work, {"a": "2", "b": None, "c": "same"}, "two")
    (work / "a").chmod(0o755)
    servers.commit(work, {}, "three")
    *_, (_, two), (_, three) = history.log(git, head(work))
    assert two == (
        Change(path="a", mode="100644", blob=blob("2", work)),
        Change(path="b", mode="100644", blob=None),
        Change(path="c", mode="100644", blob=blob("same", work)),
    )
    assert three == (Change(path="a", mode="100755", blob=blob("2", work)),)


def test_a_base_is_left_out_and_what_follows_is_told(work, git):
    base = servers.commit(work, {"a": "1"}, "one")
    servers.commit(work, {"a": "2"}, "two")
    servers.commit(work, {"a": "3"}, "three")
    assert told(git, head(work), base) == [("two", ["a"]), ("three", ["a"])]
    assert told(git, base, base) == []
    assert told(git, base, head(work)) == []


def test_merges_are_one_commit_each_listed_against_their_first_parent(work, git):
    servers.commit(work, {"base": "1"}, "root")
    for name in ("one", "two", "three", "four"):
        branch(work, name, "main")
        servers.commit(work, {f"{name}/a": "1"}, f"{name} a")
        servers.commit(work, {f"{name}/b": "1"}, f"{name} b")
    switch(work, "main")
    servers.commit(work, {"meanwhile": "1"}, "meanwhile")
    merge(work, "one")
    servers.git(work, "merge", "--quiet", "--squash", "two")
    servers.commit(work, {}, "squashed two")
    merge(work, "three", "four")
    assert told(git, head(work)) == [
        ("root", ["base"]),
        ("meanwhile", ["meanwhile"]),
        ("Merge one", ["one/a", "one/b"]),
        ("squashed two", ["two/a", "two/b"]),
        ("Merge three four", ["four/a", "four/b", "three/a", "three/b"]),
    ]
    *_, (octopus, _) = history.log(git, head(work))
    assert len(octopus.parents) == 3


def test_a_merge_that_brings_nothing_is_still_a_commit(work, git):
    servers.commit(work, {"a": "1"}, "root")
    branch(work, "side")
    servers.commit(work, {"b": "1"}, "side")
    switch(work, "main")
    servers.commit(work, {"c": "1"}, "main")
    merge(work, "side", options=("--no-ff", "--strategy=ours"))
    servers.commit(work, {"d": "1"}, "after")
    assert told(git, head(work)) == [("root", ["a"]), ("main", ["c"]), ("Merge side", []), ("after", ["d"])]


def test_a_person_who_set_up_git_in_other_ways_sees_the_same(work, git):
    servers.commit(work, {"a": "1", "été": "1"}, "root")
    servers.git(work, "mv", "a", "b")
    servers.commit(work, {}, "rename")
    expected = told(git, head(work))
    for setting in (
        "log.showRoot=false",
        "log.showSignature=true",
        "log.follow=true",
        "log.decorate=full",
        "log.diffMerges=combined",
        "diff.renames=copies",
        "diff.noprefix=true",
        "diff.external=false",
        "color.ui=always",
        "color.diff=always",
        "core.quotePath=true",
        "core.abbrev=7",
        "format.pretty=oneline",
        "format.notes=true",
        "notes.displayRef=*",
        "i18n.logOutputEncoding=latin1",
    ):
        servers.git(work, "config", *setting.split("=", 1))
    assert told(git, head(work)) == expected == [("root", ["a", "été"]), ("rename", ["-a", "b"])]


def test_hostile_paths_and_messages_come_through_unbroken(work, git):
    """Newlines, tabs, quotes, colons and bytes that are no UTF-8, made to look like what git prints itself."""
    lines = f":100644 100644 {'1' * 40} {'2' * 40} M\nruns/forged.yaml\n"
    paths = [b"new\nline", b"tab\there", b'"quoted"', b":100644 100644 x", b"caf\xe9.yaml", b" blank ", b"-dash", b"*"]
    for path in paths:
        (Path(os.fsdecode(os.fsencode(work) + b"/" + path))).write_bytes(b"x")
    servers.commit(work, {}, f"\x1b[31m{lines}\n{'3' * 40}\n\ncommit {'4' * 40}\n{lines}")
    servers.commit(work, {"after": "1"}, ":100644 000000 after")
    (first, changes), (second, after) = history.log(git, head(work))
    assert sorted(os.fsencode(change.path) for change in changes) == sorted(paths)
    assert {change.blob for change in changes} == {blob("x", work)}
    assert first.message.count("runs/forged.yaml") == 2
    assert (second.subject, [change.path for change in after]) == (":100644 000000 after", ["after"])


def test_a_path_that_is_not_utf8_keeps_its_folder_and_can_be_shown(work, git):
    path = Path(os.fsdecode(os.fsencode(work) + b"/runs"))
    path.mkdir()
    Path(os.fsdecode(os.fsencode(path) + b"/caf\xe9.yaml")).write_bytes(b"x")
    servers.commit(work, {}, "one")
    ((_, (change,)),) = history.log(git, head(work))
    assert change.path.split("/")[0] == "runs"
    assert redact.text(change.path).encode() == b"runs/caf\\udce9.yaml"


def write_raw_commit(work: Path, content: bytes) -> str:
    return servers.git(work, "hash-object", "-t", "commit", "-w", "--literally", "--stdin", stdin=content)


def test_a_message_that_is_not_utf8_or_too_long_is_readable_and_cut(work, git):
    servers.commit(work, {"a": "1"})
    tree = servers.git(work, "rev-parse", "HEAD^{tree}")
    header = f"tree {tree}\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\n".encode()
    ((broken, _),) = history.log(git, write_raw_commit(work, header + b"caf\xe9\n"))
    ((long, _),) = history.log(git, write_raw_commit(work, header + b"x" * 1_000_000))
    ((empty, _),) = history.log(git, write_raw_commit(work, header))
    assert (broken.message, len(long.message), empty.message) == ("caf\ufffd", history.MESSAGE_LIMIT, "")


def test_an_encoding_named_by_the_commit_is_read(work, git):
    servers.git(work, "config", "i18n.commitEncoding", "latin1")
    servers.commit(work, {"a": "1"})
    servers.git(work, "commit", "--quiet", "--amend", "--file=-", stdin=b"caf\xe9")
    ((commit, _),) = history.log(git, head(work))
    assert commit.message == "café"


@pytest.mark.parametrize(
    ("date", "year"), [(b"99999999999999 +0000", 9999), (b"nonsense", 1970), (b"0 +0000", 1970), (b"", 1970)]
)
def test_a_date_beyond_the_calendar_stops_nothing(work, git, date, year):
    servers.commit(work, {"a": "1"})
    tree = servers.git(work, "rev-parse", "HEAD^{tree}").encode()
    odd = b"tree " + tree + b"\nauthor <> " + date + b"\ncommitter " + b"x" * 30_000 + b" <m> " + date + b"\n\nodd\n"
    ((commit, _),) = history.log(git, write_raw_commit(work, odd))
    assert (commit.time.year, commit.subject) == (year, "odd")
    assert len(commit.committer) <= history.IDENTITY_LIMIT


def test_three_thousand_commits_are_read_in_order(work, git):
    stream = "".join(
        f"commit refs/heads/main\ncommitter A <a@b> {number} +0000\ndata {len(str(number))}\n{number}\n"
        f"M 100644 inline dir{number % 7}/file\ndata {len(str(number))}\n{number}\n"
        for number in range(3000)
    )
    servers.git(work, "fast-import", "--quiet", stdin=stream.encode())
    tip = servers.git(work, "rev-parse", "main")
    commits = list(history.log(git, tip))
    assert [(commit.position, commit.subject) for commit, _ in commits] == [(n, str(n)) for n in range(3000)]
    assert {len(changes) for _, changes in commits} == {1}
    assert commits[-1][0].sha == tip


def test_links_and_submodules_come_through_with_their_mode(work, git):
    (work / "link").symlink_to("/etc/passwd")
    servers.git(work, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},module")
    servers.git(work, "add", "link")
    servers.git(work, "commit", "--quiet", "-m", "odd")
    servers.git(work, "config", "diff.ignoreSubmodules", "all")
    ((_, changes),) = history.log(git, head(work))
    expected = (
        Change(path="link", mode="120000", blob=blob("/etc/passwd", work)),
        Change(path="module", mode="160000", blob="1" * 40),
    )
    assert changes == expected == history.listing(git, head(work))
    assert [change.is_content for change in changes] == [False, False]


def test_a_missing_commit_is_an_error(work, git):
    servers.commit(work, {"a": "1"})
    with pytest.raises(GitError, match="bad object"):
        list(history.log(git, "1" * 40))


def test_a_replaced_commit_changes_nothing(work, git):
    """`git replace` would show another history than the one that was pushed."""
    one = servers.commit(work, {"a": "1"}, "one")
    two = servers.commit(work, {"a": "2"}, "two")
    servers.git(work, "replace", one, servers.git(work, "commit-tree", "-m", "forged", f"{two}^{{tree}}"))
    assert told(git, two) == [("one", ["a"]), ("two", ["a"])]


# -- trees and blobs -----------------------------------------------------------------------------------------


def test_diff_says_what_differs_between_two_commits(work, git):
    one = servers.commit(work, {"a": "1", "b/c": "1"})
    two = servers.commit(work, {"a": "2", "b/c": None, "b/d": "1"})
    assert history.diff(git, one, two) == (
        Change(path="a", mode="100644", blob=blob("2", work)),
        Change(path="b/c", mode="100644", blob=None),
        Change(path="b/d", mode="100644", blob=blob("1", work)),
    )
    assert history.diff(git, one, one) == ()


def test_listing_can_be_limited_to_a_folder_named_literally(work, git):
    sha = servers.commit(work, {"a/1": "1", "a/2": "2", "ab": "3", "*": "4"})
    assert [change.path for change in history.listing(git, sha)] == ["*", "a/1", "a/2", "ab"]
    assert [change.path for change in history.listing(git, sha, "a")] == ["a/1", "a/2"]
    assert [change.path for change in history.listing(git, sha, "*")] == ["*"]
    assert history.listing(git, sha, "missing") == ()


def test_blobs_are_read_byte_for_byte(work, git):
    contents = [b"", b"\n", b"no newline", b"\x00\xff\r\n", b"x" * 100_000, b"fake blob 3\nabc\n"]
    blobs = {blob(content, work): content for content in contents}
    assert history.read_blobs(git, [*blobs, *blobs]) == blobs
    assert history.read_blobs(git, []) == {}


def test_a_blob_over_the_limit_is_left_out(work, git):
    small, large = blob(b"x" * 10, work), blob(b"x" * 11, work)
    assert history.read_blobs(git, [large, small], limit=10) == {small: b"x" * 10}
    assert history.read_blobs(git, [large], limit=10) == {}


def test_a_missing_blob_or_one_that_is_none_is_an_error(work, git):
    commit = servers.commit(work, {"a": "1"})
    for sha in ("1" * 40, commit):
        with pytest.raises(GitError, match=f"the object {sha} is missing, or is not a file's content"):
            history.read_blobs(git, [sha])


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", True),
        (b"version https://git-lfs.github.com/spec/v1\n" + b"x" * 2000, False),
        (b"# version https://git-lfs.github.com/spec/v1\n", False),
        (b"", False),
    ],
)
def test_an_lfs_pointer_is_told_from_content(data, answer):
    assert history.is_lfs_pointer(data) is answer


# -- ancestry ------------------------------------------------------------------------------------------------


def test_ancestors_are_told_and_a_missing_commit_is_nobodys(work, git):
    one = servers.commit(work, {"a": "1"})
    two = servers.commit(work, {"a": "2"})
    assert history.is_ancestor(git, one, two)
    assert history.is_ancestor(git, two, two)
    assert not history.is_ancestor(git, two, one)
    assert not history.is_ancestor(git, "1" * 40, two)
    with pytest.raises(GitError):
        history.is_ancestor(git, one, "1" * 40)


def test_an_ordinary_pull_puts_the_recorded_head_on_a_side_branch(work, git):
    """Somebody commits locally, pulls, and pushes the merge: what was the head is now a second parent."""
    root = servers.commit(work, {"a": "1"}, "root")
    branch(work, "remote")
    older = servers.commit(work, {"b": "1"}, "older head")
    recorded = servers.commit(work, {"b": "2"}, "recorded head")
    switch(work, "main")
    local = servers.commit(work, {"c": "1"}, "local work")
    merged = merge(work, "remote")
    after = servers.commit(work, {"d": "1"}, "after")
    for tip in (merged, after):
        assert history.is_ancestor(git, recorded, tip)
        assert not history.contains_on_first_parent(git, tip, recorded)
        assert history.first_containing(git, tip, recorded) == merged
        assert history.first_containing(git, tip, older) == merged
    assert history.first_containing(git, after, local) == local
    assert history.first_containing(git, after, root) == root
    assert told(git, after, merged) == [("after", ["d"])]
    assert [change.path for change in history.diff(git, recorded, merged)] == ["c"]


def test_the_chain_of_first_parents_is_known(work, git):
    root = servers.commit(work, {"a": "1"})
    branch(work, "side")
    side = servers.commit(work, {"b": "1"})
    switch(work, "main")
    merged = merge(work, "side")
    tip = servers.commit(work, {"c": "1"})
    assert [history.contains_on_first_parent(git, tip, sha) for sha in (root, side, merged, tip)] == [
        True,
        False,
        True,
        True,
    ]
    assert not history.contains_on_first_parent(git, root, tip)
    assert not history.contains_on_first_parent(git, side, tip)


def test_a_head_that_is_not_contained_has_no_first_commit(work, git):
    root = servers.commit(work, {"a": "1"})
    branch(work, "side")
    side = servers.commit(work, {"b": "1"})
    switch(work, "main")
    with pytest.raises(TemporaryError, match=f"commit {root} does not contain commit {side}"):
        history.first_containing(git, root, side)


# -- who introduced it ---------------------------------------------------------------------------------------


def commit_value(git: Git, tip: str) -> Commit:
    *_, (commit, _) = history.log(git, tip)
    return commit


def test_what_a_merge_brought_was_introduced_on_its_side_branch(work, git):
    base = servers.commit(work, {"a": "1"}, "root")
    branch(work, "side")
    servers.commit(work, {"approvals/x.yaml": "draft"}, "draft")
    approved = servers.commit(work, {"approvals/x.yaml": "yes"}, "approve")
    servers.commit(work, {"other": "1"}, "other")
    switch(work, "main")
    base = servers.commit(work, {"b": "1"}, "meanwhile")
    merged = commit_value(git, merge(work, "side"))
    found = history.introduced(git, base, merged, "approvals/x.yaml", blob("yes", work))
    assert (found.sha, found.subject, found.position) == (approved, "approve", merged.position)


def test_what_a_plain_commit_or_root_brought_it_introduced_itself(work, git):
    root = commit_value(git, servers.commit(work, {"x": "1"}, "root"))
    second = commit_value(git, servers.commit(work, {"x": "2"}, "second"))
    assert history.introduced(git, None, root, "x", blob("1", work)) == root
    assert history.introduced(git, root.sha, second, "x", blob("2", work)) == second


def test_a_path_that_looks_like_a_pattern_is_taken_literally(work, git):
    base = servers.commit(work, {"a": "1"}, "root")
    branch(work, "side")
    right = servers.commit(work, {"[x]*": "yes"}, "right")
    servers.commit(work, {"xyz": "yes"}, "wrong")
    switch(work, "main")
    merged = commit_value(git, merge(work, "side"))
    assert history.introduced(git, base, merged, "[x]*", blob("yes", work)).sha == right


def test_the_newest_introduction_counts_and_an_inner_merge_passes_it_on(work, git):
    base = servers.commit(work, {"a": "1"}, "root")
    branch(work, "inner")
    servers.commit(work, {"x": "yes"}, "first")
    servers.commit(work, {"x": "no"}, "withdrawn")
    newest = servers.commit(work, {"x": "yes"}, "again")
    branch(work, "outer", "main")
    servers.commit(work, {"o": "1"}, "outer work")
    merge(work, "inner")
    switch(work, "main")
    servers.commit(work, {"m": "1"}, "main work")
    base = head(work)
    merged = commit_value(git, merge(work, "outer"))
    assert history.introduced(git, base, merged, "x", blob("yes", work)).sha == newest


def test_what_only_the_merge_itself_wrote_is_the_merges(work, git):
    servers.commit(work, {"a": "1", "x": "0"}, "root")
    branch(work, "side")
    servers.commit(work, {"x": "side"}, "side")
    switch(work, "main")
    base = servers.commit(work, {"b": "1"}, "main")
    servers.git(work, "merge", "--quiet", "--no-ff", "--no-commit", "side")
    merged = commit_value(git, servers.commit(work, {"x": "evil"}, "Merge with a change"))
    assert len(merged.parents) == 2
    assert history.introduced(git, base, merged, "x", blob("evil", work)) == merged
    assert history.introduced(git, base, merged, "x", "1" * 40) == merged
