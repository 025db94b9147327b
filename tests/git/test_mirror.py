"""The mirror follows two branches, survives being killed and forgets no head; a person's clone is read the same way."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.errors import TemporaryError, UsageError
from reconciler.git import history
from reconciler.git import mirror as mirror_module
from reconciler.git.mirror import Mirror, open_local, open_source
from reconciler.git.run import GitError
from tests import servers

BRANCHES = ("main", "fleet-status")


def push(clone: Path, *refspecs: str) -> None:
    servers.git(clone, "push", "--quiet", "--force", "origin", *(refspecs or ("main",)))


def refs(git_dir: Path) -> list[str]:
    return servers.git(git_dir, "for-each-ref", "--format=%(refname)").splitlines()


# -- following the remote ------------------------------------------------------------------------------------


def test_heads_holds_the_branches_that_exist(mirror, clone):
    main = servers.git(clone, "rev-parse", "main")
    assert mirror.heads() == {"main": main}
    push(clone, "main:fleet-status")
    assert mirror.heads() == {"main": main, "fleet-status": main}


def test_a_branch_whose_name_ends_like_ours_is_not_ours(mirror, clone):
    other = servers.commit(clone, {"other": ""})
    push(clone, "main:refs/heads/x/main", "main:refs/heads/y/refs/heads/fleet-status", "main:refs/tags/fleet-status")
    assert mirror.heads() == {"main": servers.git(clone, "rev-parse", f"{other}~")}


def test_a_fetch_brings_what_moved_with_all_its_history_and_no_tags(mirror, clone):
    for number in range(3):
        newest = servers.commit(clone, {"file": str(number)})
    servers.git(clone, "tag", "v1")
    push(clone, "main", "v1")
    assert mirror.fetch() == {"main": newest}
    assert mirror.tip("main") == newest
    assert len(list(history.log(mirror.git, newest))) == 4
    assert refs(mirror.git.directory) == ["refs/reconciler/incoming/main", "refs/remotes/origin/main"]


def test_a_fetch_of_nothing_new_starts_no_fetch(mirror, monkeypatch, tmp_path):
    monkeypatch.setenv("RECONCILER_EFFECTS_LOG", str(tmp_path / "effects"))
    mirror.fetch()
    assert not (tmp_path / "effects").exists()


def test_a_fetch_is_one_numbered_effect(mirror, clone, monkeypatch, tmp_path):
    monkeypatch.setenv("RECONCILER_EFFECTS_LOG", str(tmp_path / "effects"))
    servers.commit(clone, {"file": "1"})
    push(clone, "main", "main:fleet-status")
    mirror.fetch()
    (line,) = (tmp_path / "effects").read_text().splitlines()
    assert line.split(" ", 1)[1] == "fetch main fleet-status"


def test_a_head_that_left_its_branch_stays_readable(mirror, clone):
    """After a force-push the old history can still be compared with the new, whatever is repacked."""
    old = servers.commit(clone, {"file": "old"})
    push(clone)
    mirror.fetch()
    servers.git(clone, "reset", "--quiet", "--hard", "HEAD~")
    new = servers.commit(clone, {"file": "new"})
    push(clone)
    assert mirror.fetch() == {"main": new}
    assert f"refs/reconciler/seen/{old}" in refs(mirror.git.directory)
    servers.git(mirror.git.directory, "gc", "--quiet", "--prune=now")
    mirror.repack()
    assert [commit.sha for commit, _ in history.log(mirror.git, old)][-1] == old
    assert not history.is_ancestor(mirror.git, old, new)


def test_a_branch_that_is_gone_has_no_tip_and_comes_back(mirror, clone):
    sha = servers.commit(clone, {"status": "1"})
    push(clone, "main:fleet-status")
    mirror.fetch()
    push(clone, ":fleet-status")
    mirror.fetch()
    assert mirror.tip("fleet-status") is None
    push(clone, "main:fleet-status")
    mirror.fetch()
    assert mirror.tip("fleet-status") == sha


def test_an_empty_remote_has_no_heads(remote, tmp_path):
    with Mirror.open(tmp_path / "state", str(remote), BRANCHES) as mirror:
        assert (mirror.fetch(), mirror.tip("main")) == ({}, None)


def test_a_remote_that_is_away_keeps_the_tips(mirror, remote, clone):
    tip = mirror.tip("main")
    remote.rename(remote.with_name("moved.git"))
    with pytest.raises(GitError, match="does not appear to be a git repository"):
        mirror.fetch()
    assert mirror.tip("main") == tip


def test_a_remote_with_a_cut_off_history_is_refused_not_taken_for_empty(mirror, clone, remote, tmp_path):
    """git itself skips such branches without a word."""
    tip = mirror.tip("main")
    servers.commit(clone, {"file": "1"})
    push(clone)
    servers.git(tmp_path, "clone", "--quiet", "--bare", "--depth=1", f"file://{remote}", "shallow.git")
    shutil.rmtree(remote)
    (tmp_path / "shallow.git").rename(remote)
    with pytest.raises(GitError, match=r"the history of main cut off \(shallow\)"):
        mirror.fetch()
    assert mirror.tip("main") == tip


def test_a_damaged_object_stops_the_fetch_and_keeps_the_tips(mirror, clone, remote):
    tip = mirror.tip("main")
    newest = servers.commit(clone, {"file": "content"})
    push(clone)
    blob = servers.git(clone, "rev-parse", "main:file")
    path = remote / "objects" / blob[:2] / blob[2:]
    path.chmod(0o644)
    path.write_bytes(b"garbage")
    with pytest.raises(GitError, match=blob):
        mirror.fetch()
    assert (mirror.tip("main"), history.exists(mirror.git, newest)) == (tip, False)


def test_a_tree_that_leaves_the_repository_is_refused(mirror, clone, remote):
    """A plain push accepts such a tree; it must not come any further."""
    blob = servers.git(clone, "hash-object", "-w", "--stdin", stdin=b"[core]\n")
    entry = f"100644 blob {blob}\t.git\n".encode()
    tree = servers.git(clone, "mktree", stdin=entry)
    bad = servers.git(clone, "commit-tree", "-p", "HEAD", "-m", "bad", tree)
    push(clone, f"{bad}:main")
    with pytest.raises(GitError, match="hasDotgit"):
        mirror.fetch()


# -- the directory -------------------------------------------------------------------------------------------


def test_the_mirror_is_private_and_bare(mirror):
    assert mirror.directory.stat().st_mode & 0o777 == 0o700
    assert mirror.git.directory.stat().st_mode & 0o777 == 0o700
    assert mirror.git.run("rev-parse", "--is-bare-repository") == b"true\n"


def test_one_process_at_a_time_has_the_directory(mirror, remote):
    with pytest.raises(TemporaryError, match="another process uses the mirror"):
        Mirror.open(mirror.directory, str(remote), BRANCHES)
    mirror.close()
    Mirror.open(mirror.directory, str(remote), BRANCHES).close()


def test_the_directory_is_free_again_when_its_process_was_killed(remote, tmp_path):
    program = (
        "import os, signal, sys, pathlib\n"
        "from reconciler.git.mirror import Mirror\n"
        f"mirror = Mirror.open(pathlib.Path(sys.argv[1]), sys.argv[2], {BRANCHES!r})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "state"), str(remote)]
    assert subprocess.run(command, check=False, env={**os.environ, "PYTHONPATH": "."}).returncode == -9
    Mirror.open(tmp_path / "state", str(remote), BRANCHES).close()


def reopened(mirror: Mirror) -> Mirror:
    mirror.close()
    return Mirror.open(mirror.directory, mirror.push_url, BRANCHES)


def test_lock_files_of_a_killed_git_are_removed(mirror, clone):
    """A leftover lock makes every later fetch fail."""
    directory = mirror.git.directory
    servers.commit(clone, {"file": "1"})
    push(clone)
    for name in ("refs/remotes/origin/main.lock", "refs/reconciler/incoming/main.lock", "packed-refs.lock"):
        (directory / name).touch()
    (directory / "objects" / "pack" / "tmp_pack_x").touch()
    with pytest.raises(GitError, match="lock"):
        mirror.fetch()
    with reopened(mirror) as again:
        assert again.fetch()["main"] == servers.git(clone, "rev-parse", "main")
    assert [*directory.rglob("*.lock"), *directory.rglob("tmp_*")] == []


def test_a_mirror_that_was_wiped_is_made_again(mirror):
    tip = mirror.tip("main")
    shutil.rmtree(mirror.directory)
    with reopened(mirror) as again:
        assert again.tip("main") is None
        assert again.fetch() == {"main": tip}


def damage_head(directory: Path) -> None:
    (directory / "HEAD").write_bytes(b"")


def damage_pack(directory: Path) -> None:
    (pack,) = directory.rglob("*.pack")
    pack.chmod(0o644)
    pack.write_bytes(pack.read_bytes()[:-30])


def damage_ref(directory: Path) -> None:
    (directory / "packed-refs").unlink()
    ref = directory / "refs/remotes/origin/main"
    ref.parent.mkdir(parents=True, exist_ok=True)
    ref.write_text("1" * 40)


def damage_everything(directory: Path) -> None:
    shutil.rmtree(directory / "objects")


@pytest.mark.parametrize("damage", [damage_head, damage_pack, damage_ref, damage_everything])
def test_a_mirror_that_is_damaged_is_made_again(mirror, damage):
    tip = mirror.tip("main")
    servers.git(mirror.git.directory, "gc", "--quiet")
    damage(mirror.git.directory)
    with reopened(mirror) as again:
        assert again.tip("main") is None
        assert again.fetch() == {"main": tip}
        assert len(list(history.log(again.git, tip))) == 1


def test_a_directory_of_another_remote_is_not_taken_for_ours(mirror, tmp_path):
    other = servers.bare_repository(tmp_path / "other.git")
    mirror.close()
    with Mirror.open(mirror.directory, str(other), BRANCHES) as again:
        assert again.tip("main") is None


def owed(mirror: Mirror, clone: Path) -> str:
    """Take note of a push, and of a commit to remember; return it."""
    sha = servers.git(clone, "rev-parse", "main")
    push(clone, "main:fleet-status")
    mirror.confirm("fleet-status", sha)
    mirror.remember("status", sha)
    return sha


def test_what_a_push_left_to_be_noted_is_written_down_in_one_step(mirror, clone):
    before = refs(mirror.git.directory)
    sha = owed(mirror, clone)
    assert (mirror.tip("fleet-status"), refs(mirror.git.directory)) == (sha, before)
    mirror.settle()
    noted = {"refs/reconciler/remembered/status", "refs/remotes/origin/fleet-status"}
    assert set(refs(mirror.git.directory)) == {*before, *noted}
    with reopened(mirror) as again:
        assert (again.tip("fleet-status"), again.recall("status")) == (sha, sha)


def test_what_is_to_be_noted_is_known_before_it_is_written_down(mirror, clone):
    sha = owed(mirror, clone)
    assert mirror.recall("status") == sha
    assert mirror.fetch()["fleet-status"] == sha


def test_a_mirror_killed_before_it_noted_a_push_hears_of_it_from_the_remote(mirror, clone):
    sha = owed(mirror, clone)
    with reopened(mirror) as again:
        assert (again.tip("fleet-status"), again.recall("status")) == (None, None)
        assert again.fetch()["fleet-status"] == again.tip("fleet-status") == sha


def test_a_directory_that_cannot_be_made_is_said(remote, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TemporaryError, match=r"the mirror directory .* cannot be used"):
        Mirror.open(tmp_path / "file" / "state", str(remote), BRANCHES)


def test_opening_again_keeps_what_was_fetched(mirror):
    tip = mirror.tip("main")
    with reopened(mirror) as again:
        assert again.tip("main") == tip


def test_repacking_keeps_everything_and_leaves_few_packs(mirror, clone):
    for number in range(8):
        servers.commit(clone, {"file": str(number)})
        push(clone)
        mirror.fetch()
    before = list(history.log(mirror.git, mirror.tip("main")))
    mirror.repack()
    assert list(history.log(mirror.git, mirror.tip("main"))) == before
    assert len(list(mirror.git.directory.rglob("*.pack"))) == 1
    assert (mirror.git.directory / "objects/info/commit-graph").exists()


# -- a person's own ------------------------------------------------------------------------------------------


def test_a_clone_is_read_through_its_origin_and_left_alone(clone, remote, tmp_path):
    servers.git(clone, "push", "--quiet", "origin", "main:fleet-status")
    other = servers.clone_of(remote, tmp_path / "other")
    newest = servers.commit(other, {"file": "1"})
    push(other)
    (clone / "README.md").write_text("being edited")
    before = (servers.git(clone, "status", "--porcelain"), servers.git(clone, "rev-parse", "HEAD"))
    local = open_local(clone, BRANCHES)
    assert (local.tip("main"), local.tip("fleet-status")) == (newest, servers.git(clone, "rev-parse", "HEAD"))
    assert (servers.git(clone, "status", "--porcelain"), servers.git(clone, "rev-parse", "HEAD")) == before
    assert (local.push_url, local.git.directory) == ("origin", clone / ".git")


def test_offline_reads_what_the_clone_last_saw(clone, remote):
    servers.git(clone, "fetch", "--quiet", "origin")
    remote.rename(remote.with_name("away.git"))
    assert open_local(clone, BRANCHES, offline=True).tip("main") == servers.git(clone, "rev-parse", "main")
    with pytest.raises(GitError, match="does not appear to be a git repository"):
        open_local(clone, BRANCHES)


def test_a_branch_that_left_the_remote_is_not_read_from_a_stale_ref(clone):
    servers.git(clone, "push", "--quiet", "origin", "main:fleet-status")
    assert open_local(clone, BRANCHES).tip("fleet-status")
    servers.git(clone, "push", "--quiet", "origin", ":fleet-status")
    servers.git(clone, "update-ref", "refs/remotes/origin/fleet-status", "main")
    assert open_local(clone, BRANCHES).tip("fleet-status") is None


def test_a_clone_without_a_remote_is_read_from_its_own_branches(clone):
    servers.git(clone, "remote", "remove", "origin")
    local = open_local(clone, BRANCHES)
    assert (local.tip("main"), local.heads()) == (
        servers.git(clone, "rev-parse", "main"),
        {"main": servers.git(clone, "rev-parse", "main")},
    )


def test_a_bare_repository_is_read_as_it_is(remote, clone):
    local = open_local(remote, BRANCHES)
    assert (local.tip("main"), local.push_url) == (servers.git(clone, "rev-parse", "main"), str(remote))


def test_a_linked_work_tree_and_a_relative_origin_work(clone, tmp_path):
    servers.git(clone, "remote", "set-url", "origin", os.path.relpath(tmp_path / "srv" / "fleet.git", clone))
    servers.git(clone, "worktree", "add", "--quiet", "-b", "side", str(tmp_path / "linked"))
    (clone / "deep").mkdir()
    assert open_local(clone / "deep", BRANCHES).tip("main") == servers.git(clone, "rev-parse", "main")
    assert open_local(tmp_path / "linked", BRANCHES, offline=True).tip("main")


def test_a_shallow_clone_is_refused_with_the_way_out(clone, remote, tmp_path):
    servers.commit(clone, {"file": "1"})
    push(clone)
    servers.git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{remote}", "shallow")
    with pytest.raises(UsageError, match="git fetch --unshallow"):
        open_local(tmp_path / "shallow", BRANCHES)


def test_a_url_is_mirrored_in_the_cache_folder_for_several_commands_at_once(clone, remote, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    main = servers.git(clone, "rev-parse", "main")
    one = open_source(f"file://{remote}", BRANCHES)
    two = open_source(f"file://{remote}", BRANCHES)
    assert isinstance(one, Mirror)
    assert (one.tip("main"), two.tip("main")) == (main, main)
    newest = servers.commit(clone, {"file": "1"})
    push(clone)
    assert one.fetch() == two.fetch() == {"main": newest}
    assert [path.name for path in (tmp_path / "cache" / "reconciler").iterdir()] == [one.directory.name]
    assert open_source(f"file://{remote}", BRANCHES, offline=True).tip("main") == newest


def test_a_folder_is_opened_as_it_is(clone, remote):
    assert open_source(str(clone), BRANCHES).push_url == "origin"
    with pytest.raises(UsageError, match="is not a directory"):
        open_source(str(remote.with_name("missing.git")), BRANCHES)


def test_a_mirror_that_was_deleted_or_damaged_under_its_owner_heals(mirror):
    heads = mirror.heads()
    assert (mirror.is_there, mirror.heal(), mirror.tip("main")) == (True, False, heads["main"])
    shutil.rmtree(mirror.directory)
    assert (mirror.is_there, mirror.heal(), mirror.tip("main")) == (False, True, None)
    assert mirror.fetch() == heads
    shutil.rmtree(mirror.git.directory / "objects")
    assert (mirror.heal(), mirror.fetch()) == (True, heads)


def test_a_mirror_whose_folder_another_process_took_does_not_heal(mirror, remote):
    shutil.rmtree(mirror.directory)
    with (
        Mirror.open(mirror.directory, str(remote), BRANCHES),
        pytest.raises(TemporaryError, match="another process uses the mirror"),
    ):
        mirror.heal()


# -- several readers of one clone ------------------------------------------------------------------------------------


def test_a_ref_that_another_reader_has_moved_meanwhile_is_fetched(clone, monkeypatch):
    """Both fetch the same commit; git refuses the second one, as the ref is not what it was when it began."""
    tip, real = _moves_on(clone), mirror_module._fetch

    def late(*arguments):
        real(*arguments)
        raise GitError("fetch", 1, f"error: cannot lock ref 'refs/remotes/origin/main': is at {tip} but expected x")

    monkeypatch.setattr(mirror_module, "_fetch", late)
    assert open_local(clone, BRANCHES).tip("main") == tip


def test_a_ref_that_another_reader_holds_is_waited_for(clone, monkeypatch):
    tip, real = _moves_on(clone), mirror_module._fetch
    lock = clone / ".git/refs/remotes/origin/main.lock"
    lock.touch()
    failed = []

    def counted(*arguments):
        try:
            real(*arguments)
        except GitError:
            failed.append(1)
            lock.unlink()
            raise

    monkeypatch.setattr(mirror_module, "_fetch", counted)
    assert open_local(clone, BRANCHES).tip("main") == tip
    assert failed == [1]


def test_a_ref_that_stays_locked_is_told(clone):
    _moves_on(clone)
    (clone / ".git/refs/remotes/origin/main.lock").touch()
    with pytest.raises(GitError, match="cannot lock ref"):
        open_local(clone, BRANCHES)


def _moves_on(clone):
    """Push a commit that the clone's own tracking ref does not know yet; return it."""
    old, tip = servers.git(clone, "rev-parse", "main"), servers.commit(clone, {"file": "x"})
    push(clone)
    servers.git(clone, "update-ref", "refs/remotes/origin/main", old)
    return tip
