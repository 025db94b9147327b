"""Commits are made exactly as asked, and a branch is moved only from where it was believed to be."""

import subprocess
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reconciler.errors import RefusedError
from reconciler.git import history, publish
from reconciler.git.mirror import Mirror, open_local
from reconciler.git.run import PERSON, Git, GitError
from tests import servers

BRANCHES = ("main", "fleet-status")
WHEN = datetime(2026, 11, 23, 12, 30, 45, tzinfo=UTC)


def write(mirror: Mirror, base: str | None, changes: dict[str, bytes | None], message: str = "Record\n") -> str:
    return publish.write_commit(mirror.git, base=base, changes=changes, message=message, when=WHEN)


def tree(git: Git, sha: str) -> dict[str, bytes]:
    entries = history.listing(git, sha)
    assert {entry.mode for entry in entries} <= {"100644"}
    blobs = history.read_blobs(git, [entry.blob for entry in entries if entry.blob])
    return {entry.path: blobs[entry.blob] for entry in entries if entry.blob}


# -- the daemon's commits ------------------------------------------------------------------------------------


def test_a_root_commit_holds_exactly_what_was_asked(mirror):
    changes = {"README.md": b"# Fleet\n", "runs/_cluster/a/run.yaml": b"\x00\xff\r\n", "empty": b""}
    sha = write(mirror, None, changes, "Begin\n\nRun: a\n")
    ((commit, _),) = history.log(mirror.git, sha)
    assert tree(mirror.git, sha) == changes
    assert (commit.parents, commit.time, commit.message) == ((), WHEN, "Begin\n\nRun: a")
    assert (commit.author, commit.committer) == (publish.DAEMON, publish.DAEMON)


def test_a_root_commit_stays_one_when_others_were_written_before(mirror):
    """The throw-away ref that fast-import wants is no parent."""
    write(mirror, mirror.tip("main"), {"a": b"1"})
    sha = write(mirror, None, {"b": b"2"})
    ((commit, _),) = history.log(mirror.git, sha)
    assert (commit.parents, tree(mirror.git, sha)) == ((), {"b": b"2"})


def test_a_commit_changes_only_the_paths_it_names(mirror):
    base = write(mirror, None, {"keep": b"k", "edit": b"1", "dir/remove": b"r", "file": b"f", "folder/x": b"x"})
    sha = write(mirror, base, {"edit": b"2", "dir/remove": None, "file": None, "file/now/folder": b"n", "folder": b"b"})
    assert tree(mirror.git, sha) == {"keep": b"k", "edit": b"2", "file/now/folder": b"n", "folder": b"b"}
    assert history.log(mirror.git, sha, base).__next__()[0].parents == (base,)


def test_a_commit_without_changes_keeps_the_tree(mirror):
    base = mirror.tip("main")
    sha = write(mirror, base, {})
    assert (tree(mirror.git, sha), sha == base) == (tree(mirror.git, base), False)


def test_the_same_arguments_make_the_same_commit(mirror):
    assert write(mirror, None, {"b": b"1", "a": b"2"}) == write(mirror, None, {"a": b"2", "b": b"1"})


def test_an_author_can_be_named(mirror):
    sha = publish.write_commit(
        mirror.git, base=None, changes={}, message="m", author="Grace Höpper <grace@example.org>", when=WHEN
    )
    ((commit, _),) = history.log(mirror.git, sha)
    assert (commit.author, commit.committer) == ("Grace Höpper <grace@example.org>", publish.DAEMON)


def test_odd_paths_and_contents_are_data(mirror):
    """Nothing in a path or content is taken for a command of the stream."""
    changes = {
        'quote"d': b"done\n",
        "back\\slash": b"",
        "new\nline": b"x",
        "été": b"\n\n",
        "blank s": b"commit refs/heads/x",
        "caf\udce9": b"z",
    }
    assert tree(mirror.git, write(mirror, None, changes, "done\nD README.md\n")) == changes


@pytest.mark.parametrize("path", ["", "/a", "a//b", "../a", "a/./b", ".git/config", "a/.GIT/hooks", "a\0b", "a/"])
def test_a_path_outside_the_tree_is_our_mistake(mirror, clone, path):
    with pytest.raises(ValueError, match="is not a path of a repository"):
        write(mirror, None, {path: b""})
    with pytest.raises(ValueError, match="is not a path of a repository"):
        publish.write_person_commit(
            Git(directory=clone / ".git", profile=PERSON), base=None, changes={path: b""}, message="m"
        )


@pytest.mark.parametrize("author", ["Grace", "Grace <a@b>\ncommitter x", "<a@b>", "a <b> <c>"])
def test_an_author_that_git_would_not_take_is_our_mistake(mirror, author):
    with pytest.raises(ValueError, match="does not read Name <mail>"):
        publish.write_commit(mirror.git, base=None, changes={}, message="m", author=author, when=WHEN)


def test_five_hundred_files_go_into_one_commit(mirror):
    changes = {f"runs/{number:03}/run.yaml": b"%d" % number for number in range(500)}
    assert tree(mirror.git, write(mirror, None, changes)) == changes


# -- a person's commits --------------------------------------------------------------------------------------


@pytest.fixture
def person(clone):
    """A person at work: an edited file, a staged one, an untracked one."""
    servers.git(clone, "config", "user.name", "Ada")
    servers.git(clone, "config", "user.email", "ada@example.org")
    (clone / "README.md").write_text("being edited")
    (clone / "staged").write_text("staged")
    (clone / "untracked").write_text("untracked")
    servers.git(clone, "add", "staged")
    return clone


def approve(clone: Path, git: Git) -> str:
    base = servers.git(clone, "rev-parse", "main")
    changes = {"approvals/web-1-canary.yaml": b"kind: ClusterApprovalRequest\n", "README.md": None}
    return publish.write_person_commit(git, base=base, changes=changes, message="Approve canary")


def test_a_persons_commit_leaves_index_and_work_tree_alone(person):
    index = (person / ".git" / "index").read_bytes()
    before = servers.git(person, "status", "--porcelain"), servers.git(person, "rev-parse", "main")
    git = open_local(person, BRANCHES).git
    sha = approve(person, git)
    assert (person / ".git" / "index").read_bytes() == index
    assert (servers.git(person, "status", "--porcelain"), servers.git(person, "rev-parse", "main")) == before
    assert tree(git, sha) == {"approvals/web-1-canary.yaml": b"kind: ClusterApprovalRequest\n"}
    ((commit, _),) = history.log(git, sha, before[1])
    assert (commit.author, commit.committer, commit.message) == (
        "Ada <ada@example.org>",
        "Ada <ada@example.org>",
        "Approve canary",
    )


def test_a_person_named_by_variables_is_the_author(person, monkeypatch):
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Grace")
    git = open_local(person, BRANCHES).git
    ((commit, _),) = history.log(git, approve(person, git), servers.git(person, "rev-parse", "main"))
    assert (commit.author, commit.committer) == ("Grace <ada@example.org>", "Ada <ada@example.org>")


def test_a_person_without_a_name_is_told_so_by_git(person):
    servers.git(person, "config", "--unset", "user.email")
    servers.git(person, "config", "user.useConfigOnly", "true")
    with pytest.raises(GitError, match="no email was given"):
        approve(person, open_local(person, BRANCHES).git)


def test_a_first_commit_of_a_person_is_a_root(remote):
    servers.git(remote, "config", "user.name", "Ada")
    servers.git(remote, "config", "user.email", "ada@example.org")
    git = open_local(remote, BRANCHES).git
    sha = publish.write_person_commit(git, base=None, changes={"runs/README.md": b"Runs\n"}, message="Begin")
    assert tree(git, sha) == {"runs/README.md": b"Runs\n"}
    assert [path.name for path in remote.iterdir() if "index" in path.name] == []


def test_a_person_who_signs_commits_signs_these(person, tmp_path):
    servers.make_key(tmp_path / "key")
    (tmp_path / "allowed").write_text(f"ada@example.org {(tmp_path / 'key.pub').read_text()}")
    for name, value in {
        "commit.gpgSign": "true",
        "gpg.format": "ssh",
        "user.signingKey": str(tmp_path / "key"),
        "gpg.ssh.allowedSignersFile": str(tmp_path / "allowed"),
    }.items():
        servers.git(person, "config", name, value)
    sha = approve(person, open_local(person, BRANCHES).git)
    assert servers.git(person, "log", "-1", "--format=%G? %GS", sha) == "G ada@example.org"


def test_a_signature_that_fails_makes_no_commit(person):
    for name, value in {"commit.gpgSign": "yes", "gpg.format": "ssh", "user.signingKey": "/missing"}.items():
        servers.git(person, "config", name, value)
    with pytest.raises(GitError, match=r"git commit-tree …: .*/missing"):
        approve(person, open_local(person, BRANCHES).git)


def test_no_hook_of_the_person_runs(person, tmp_path):
    for name in ("pre-commit", "commit-msg", "post-index-change", "reference-transaction", "pre-push"):
        servers.hook(person / ".git", name, f"touch {tmp_path / 'ran'}; exit 1")
    local = open_local(person, BRANCHES)
    assert publish.push(local, "main", approve(person, local.git), local.tip("main"))
    assert not (tmp_path / "ran").exists()


# -- push ----------------------------------------------------------------------------------------------------


def tip(remote: Path, branch: str) -> str:
    return servers.git(remote, "for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}")


def test_a_push_moves_the_branch_and_is_known_here(mirror, remote):
    first = write(mirror, None, {"a": b"1"})
    assert publish.push(mirror, "fleet-status", first, None) is True
    second = write(mirror, first, {"a": b"2"})
    assert publish.push(mirror, "fleet-status", second, first) is True
    assert tip(remote, "fleet-status") == second == mirror.tip("fleet-status")


def test_a_push_is_one_numbered_effect(mirror, monkeypatch, tmp_path):
    sha = write(mirror, None, {"a": b"1"})
    monkeypatch.setenv("RECONCILER_EFFECTS_LOG", str(tmp_path / "effects"))
    publish.push(mirror, "fleet-status", sha, None)
    (line,) = (tmp_path / "effects").read_text().splitlines()
    assert line.split(" ", 1)[1] == f"push fleet-status {sha}"


def test_pushing_again_what_is_there_is_true(mirror):
    sha = write(mirror, None, {"a": b"1"})
    assert publish.push(mirror, "fleet-status", sha, None)
    assert publish.push(mirror, "fleet-status", sha, None) is True
    assert publish.push(mirror, "fleet-status", sha, sha) is True


def test_a_branch_that_somebody_else_moved_made_or_removed_is_left_alone(mirror, clone, remote):
    first = write(mirror, None, {"a": b"1"})
    servers.git(clone, "push", "--quiet", "origin", "main:fleet-status")
    theirs = servers.git(clone, "rev-parse", "main")
    assert publish.push(mirror, "fleet-status", first, None) is False
    ours = write(mirror, theirs, {"a": b"2"})
    servers.commit(clone, {"b": "1"})
    servers.git(clone, "push", "--quiet", "origin", "main:fleet-status")
    assert publish.push(mirror, "fleet-status", ours, theirs) is False
    assert tip(remote, "fleet-status") == servers.git(clone, "rev-parse", "main")
    servers.git(clone, "push", "--quiet", "origin", ":fleet-status")
    assert publish.push(mirror, "fleet-status", ours, theirs) is False
    assert tip(remote, "fleet-status") == ""


def test_history_is_never_dropped_even_with_the_right_expectation(mirror, remote):
    first = write(mirror, None, {"a": b"1"})
    publish.push(mirror, "fleet-status", first, None)
    other = write(mirror, None, {"a": b"other"})
    with pytest.raises(RefusedError, match=f"would drop commit {first} from its history"):
        publish.push(mirror, "fleet-status", other, first)
    assert tip(remote, "fleet-status") == first


def test_of_two_pushers_exactly_one_wins(remote, clone, tmp_path):
    with (
        Mirror.open(tmp_path / "one", str(remote), BRANCHES) as one,
        Mirror.open(tmp_path / "two", str(remote), BRANCHES) as two,
    ):
        mirrors, expected = (one, two), None
        for race in range(20):
            for mirror in mirrors:
                mirror.fetch()
            commits = [write(mirror, expected, {"by": b"%d %d" % (race, n)}) for n, mirror in enumerate(mirrors)]
            answers = at_once(mirrors, commits, expected)
            assert sorted(answers) == [False, True]
            expected = tip(remote, "fleet-status")
            assert expected == commits[answers.index(True)]
        assert servers.git(remote, "rev-list", "--count", "fleet-status") == "20"


def at_once(mirrors: tuple[Mirror, Mirror], commits: list[str], expected: str | None) -> list[bool]:
    """Push both at the same moment; return what each was told."""
    answers: dict[int, bool] = {}
    start = threading.Barrier(2)

    def run(number: int) -> None:
        start.wait()
        answers[number] = publish.push(mirrors[number], "fleet-status", commits[number], expected)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [answers[0], answers[1]]


def test_a_hook_that_rejects_is_heard(mirror, remote):
    servers.hook(remote, "pre-receive", "echo 'no rollouts on a Friday' >&2; exit 1")
    sha = write(mirror, None, {"a": b"1"})
    with pytest.raises(GitError, match=r"git push …: .*no rollouts on a Friday.*pre-receive hook declined"):
        publish.push(mirror, "fleet-status", sha, None)
    assert (tip(remote, "fleet-status"), mirror.tip("fleet-status")) == ("", None)


def test_a_hook_that_moves_the_branch_itself_is_somebody_else(mirror, remote):
    sha = write(mirror, None, {"a": b"1"})
    servers.hook(remote, "update", "git update-ref refs/heads/fleet-status refs/heads/main; exit 1")
    assert publish.push(mirror, "fleet-status", sha, None) is False


def test_a_locked_branch_is_an_error_not_a_loss(mirror, remote):
    sha = write(mirror, None, {"a": b"1"})
    (remote / "refs" / "heads" / "fleet-status.lock").touch()
    with pytest.raises(GitError, match="git push …: "):
        publish.push(mirror, "fleet-status", sha, None)


def test_a_server_that_is_away_says_so(mirror, remote):
    sha = write(mirror, None, {"a": b"1"})
    remote.rename(remote.with_name("away.git"))
    with pytest.raises(GitError, match=r"git push …: .*does not appear to be a git repository"):
        publish.push(mirror, "fleet-status", sha, None)


def test_a_person_pushes_through_their_origin(person, remote):
    """Their own settings, such as following tags, send nothing along."""
    servers.git(person, "config", "push.followTags", "true")
    servers.git(person, "tag", "-a", "-m", "v1", "v1")
    local = open_local(person, BRANCHES)
    sha = approve(person, local.git)
    assert publish.push(local, "main", sha, local.tip("main")) is True
    assert (tip(remote, "main"), local.tip("main")) == (sha, sha)
    assert servers.git(person, "rev-parse", "origin/main") == sha
    assert servers.git(remote, "tag") == ""


def test_a_person_writes_to_a_bare_repository_past_its_own_hooks(remote, clone):
    servers.hook(remote, "pre-receive", "echo 'protected branch' >&2; exit 1")
    local = open_local(remote, BRANCHES)
    sha = publish.write_commit(local.git, base=local.tip("main"), changes={"a": b"1"}, message="m", when=WHEN)
    with pytest.raises(GitError, match="protected branch"):
        publish.push(local, "main", sha, local.tip("main"))


def test_a_branch_checked_out_in_a_clone_without_remote_is_not_moved_under_its_person(person):
    servers.git(person, "remote", "remove", "origin")
    local = open_local(person, BRANCHES)
    with pytest.raises(GitError, match="checked out"):
        publish.push(local, "main", approve(person, local.git), local.tip("main"))
    assert publish.push(local, "proposal", approve(person, local.git), None) is True


def test_what_was_pushed_is_whole(mirror, remote):
    sha = write(mirror, None, {f"{number}": b"%d" % number for number in range(300)})
    publish.push(mirror, "fleet-status", sha, None)
    done = subprocess.run(
        ["git", "-C", str(remote), "fsck", "--full", "--strict"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
