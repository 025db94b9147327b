"""What git is started with, how long it may take, and what never reaches it."""

import os
import threading
from pathlib import Path

import pytest

from reconciler import clock
from reconciler.errors import ReconcilerError, UsageError
from reconciler.git.mirror import Mirror
from reconciler.git.run import HARDENED, PERSON, Git, GitError, check_branch, check_sha, discover, parse_url
from tests import servers

BAD_URLS = [
    "",
    "-uupload-pack=touch pwned",
    "--upload-pack=touch pwned",
    "ext::sh -c touch% pwned",
    "fd::17",
    "EXT::sh -c id",
    "transport::address",
    "gopher://host/path",
    "ftp://host/path",
    "HTTPS://host/path",
    "rsync://host/path",
    "git+ssh://host/path",
    "ssh://-oProxyCommand=touch pwned/x",
    "ssh://-oProxyCommand=id@host/x",
    "ssh://user@-oProxyCommand=id/x",
    "-oProxyCommand=id:path",
    "user@-oProxyCommand=id:path",
    "host:-oProxyCommand=id",
    "https://user:secret@host/fleet.git",
    "ssh://user:secret@host/fleet.git",
    "https://",
    "https:///fleet.git",
    "https://ho st/fleet.git",
    "https://host/fleet.git\nhost=evil",
    "https://host/fleet.git%0ahost=evil",
    "https://host%0d/fleet.git",
    "https://host\x00/fleet.git",
    "https://host/a b",
    "https://host\\@evil/fleet.git",
    "https://höst/fleet.git",
    "http://host:port/fleet.git",
    "file://host/fleet.git",
    "file://../fleet.git",
    "path\twith tab",
    "path\x1b[2J",
]

GOOD_URLS = [
    ("https://forge.example/platform/fleet.git", "https", ""),
    ("https://deploy@forge.example:8443/platform/fleet.git", "https", "deploy"),
    ("http://127.0.0.1:8080/fleet.git", "http", ""),
    ("http://[::1]:8080/fleet.git", "http", ""),
    ("ssh://git@forge.example:2222/~ada/fleet.git", "ssh", "git"),
    ("git@forge.example:platform/fleet.git", "ssh", "git"),
    ("forge.example:fleet.git", "ssh", ""),
    ("git://forge.example/fleet.git", "git", ""),
    ("file:///srv/fleet.git", "file", ""),
    ("/srv/flotte à nous/fleet.git", "file", ""),
    ("/srv/a:b/fleet.git", "file", ""),
]

BAD_BRANCHES = [
    "",
    "-f",
    "--force",
    "a..b",
    "a b",
    "a~1",
    "a^",
    "a:b",
    "+a:b",
    "a?",
    "a*",
    "a[b",
    "a\\b",
    "a@{1}",
    "@",
    "HEAD",
    "/a",
    "a/",
    "a//b",
    ".a",
    "a/.b",
    "a.",
    "a.lock",
    "a.lock/b",
    "a\nb",
    "a\x00b",
    "a\u202eb",
    "a" * 201,
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_hostile_url_is_refused_before_git_is_started(url, tmp_path):
    with pytest.raises(UsageError, match="is not accepted: ") as refusal:
        Mirror.open(tmp_path / "state", url, ("main", "fleet-status"))
    assert "secret" not in str(refusal.value)
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("spelt", ["fleet.git", "./fleet.git", "../{here}/fleet.git", "sub/../fleet.git", "link"])
def test_a_path_is_the_same_however_it_is_spelt(spelt, tmp_path, monkeypatch):
    """The mirror of another URL is made anew, and with it goes what was remembered of the status branch."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "fleet.git").mkdir()
    (tmp_path / "link").symlink_to("fleet.git")
    monkeypatch.chdir(tmp_path)
    assert parse_url(spelt.format(here=tmp_path.name)).text == str((tmp_path / "fleet.git").resolve())


@pytest.mark.parametrize(("text", "protocol", "user"), GOOD_URLS)
def test_a_url_of_an_allowed_transport_is_taken_as_it_is(text, protocol, user):
    url = parse_url(text)
    assert (url.text, url.protocol, url.user) == (text, protocol, user)


def test_a_relative_path_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse_url("srv/fleet.git").text == str(tmp_path / "srv" / "fleet.git")
    assert parse_url("./a:b").text == str(tmp_path / "a:b")


@pytest.mark.parametrize("name", BAD_BRANCHES)
def test_a_hostile_branch_name_is_refused(name):
    with pytest.raises(UsageError, match="is not a branch name"):
        check_branch(name)


@pytest.mark.parametrize("name", BAD_BRANCHES)
def test_what_we_refuse_is_no_stricter_than_git_but_for_head_length_and_invisible_letters(name, tmp_path):
    """git's own check agrees, so that no branch people can really have is shut out."""
    if name in ("@", "HEAD", "a\u202eb", "a" * 201) or "\x00" in name:
        return
    with pytest.raises(AssertionError):
        servers.git(tmp_path, "check-ref-format", "--branch", name)


@pytest.mark.parametrize("name", ["main", "fleet-status", "release/2026.11", "überholt", "a@b", "v1.0"])
def test_a_branch_name_that_git_accepts_is_accepted(name, tmp_path):
    servers.git(tmp_path, "check-ref-format", f"refs/heads/{name}")
    assert check_branch(name) == name


@pytest.mark.parametrize("name", ["", "main", "HEAD", "a" * 39, "A" * 40, "--all" + "0" * 35, "0" * 40 + "\n"])
def test_only_a_full_object_name_is_an_object_name(name):
    with pytest.raises(ValueError, match="is not a full object name"):
        check_sha(name)


# -- the environment -----------------------------------------------------------------------------------------


def environment_of(git: Git) -> dict[str, str]:
    """Return the environment that git gives to a program it starts."""
    answer = git.run("-c", "alias.environment=!env -0", "environment").decode()
    return dict(line.split("=", 1) for line in answer.split("\0") if line)


@pytest.fixture
def hostile_environment(monkeypatch, tmp_path):
    """A shell in which git was told to do something else."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_TRACE", str(tmp_path / "trace"))
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Grace")
    monkeypatch.setenv("GIT_SSH_COMMAND", "touch pwned")
    monkeypatch.setenv("GIT_ASKPASS", "touch pwned")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.name")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "Mallory")


def test_the_daemons_git_inherits_no_git_variable(remote, hostile_environment):
    environment = environment_of(Git(directory=remote, profile=HARDENED, url=parse_url("ssh://git@host/fleet.git")))
    ours = {name: value for name, value in environment.items() if name.startswith("GIT_")}
    # what git itself tells its children, and how GitPython was set up, aside
    for name in ("GIT_DIR", "GIT_PREFIX", "GIT_EXEC_PATH", "GIT_CONFIG_PARAMETERS", "GIT_PYTHON_REFRESH", "GIT_PAGER"):
        ours.pop(name, None)
    assert ours == {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        "GIT_ALLOW_PROTOCOL": "ssh",
        "GIT_SSH_COMMAND": "ssh -F /dev/null -oBatchMode=yes -oStrictHostKeyChecking=yes -oConnectTimeout=10"
        " -oServerAliveInterval=15",
        "GIT_SSH_VARIANT": "ssh",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
    }
    assert environment["GIT_DIR"] == str(remote)


def test_a_persons_git_keeps_their_identity_and_configuration_only(remote, hostile_environment):
    environment = environment_of(Git(directory=remote, profile=PERSON))
    assert environment["GIT_AUTHOR_NAME"] == "Grace"
    assert environment["GIT_SSH_COMMAND"] == "touch pwned"
    assert environment["GIT_CONFIG_VALUE_0"] == "Mallory"
    assert environment["GIT_DIR"] == str(remote)
    for name in ("GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE", "GIT_TRACE"):
        assert name not in environment


def test_ssh_gets_its_key_and_hosts_from_files_named_by_variables(remote, monkeypatch):
    monkeypatch.setenv("RECONCILER_SSH_KEY_FILE", "/keys/with blank/100%")
    monkeypatch.setenv("RECONCILER_SSH_KNOWN_HOSTS_FILE", "/keys/hosts'$(id)")
    command = environment_of(Git(directory=remote, profile=HARDENED))["GIT_SSH_COMMAND"]
    assert "'-oIdentityFile=\"/keys/with blank/100%%\"' -oIdentitiesOnly=yes" in command
    assert "'-oUserKnownHostsFile=\"/keys/hosts'\"'\"'$(id)\"' -oGlobalKnownHostsFile=/dev/null" in command


def test_no_hook_or_configured_program_of_the_mirror_runs(mirror, tmp_path):
    """A hook that somebody managed to plant is not found."""
    planted = f"touch {tmp_path / 'pwned'}"
    servers.hook(mirror.git.directory, "reference-transaction", planted)
    mirror.git.run("update-ref", "refs/heads/x", mirror.tip("main"))
    assert not (tmp_path / "pwned").exists()


def test_only_the_transport_of_the_url_is_allowed(mirror, remote):
    git = Git(directory=mirror.git.directory, profile=HARDENED, url=parse_url("https://forge.example/fleet.git"))
    with pytest.raises(GitError, match="transport 'file' not allowed"):
        git.run("ls-remote", str(remote))
    with pytest.raises(GitError, match="transport 'ext' not allowed"):
        mirror.git.run("ls-remote", "ext::sh -c id")


def test_a_repository_named_by_its_path_is_trusted_whoever_owns_it(mirror, remote):
    """git refuses to serve another user's repository; with no configuration of their own nobody could allow it."""
    with pytest.raises(AssertionError, match="dubious ownership"):
        servers.git(remote.parent, "ls-remote", str(remote), environment={"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"})
    answer = mirror.git.run("ls-remote", str(remote), environment={"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"})
    assert answer.decode().startswith(mirror.tip("main"))


# -- errors and deadlines ------------------------------------------------------------------------------------


def test_an_error_says_the_command_and_gits_last_words(mirror):
    with pytest.raises(GitError) as failure:
        mirror.git.run("cat-file", "-p", "0" * 40)
    assert str(failure.value) == f"git cat-file …: fatal: Not a valid object name {'0' * 40}"
    assert failure.value.status == 128


def test_an_error_shows_no_credentials_and_no_terminal_escapes(mirror):
    with pytest.raises(GitError) as failure:
        mirror.git.run("-c", "alias.say=!echo 'https://ada:secret@host/x \x1b[31m' >&2; exit 3", "say")
    assert failure.value.stderr.strip() == "https://host/x \\u001b[31m"
    assert failure.value.status == 3


def test_a_git_that_is_not_installed_is_said(mirror, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="the program git is not installed"):
        mirror.git.run("version")


@pytest.mark.parametrize("profile", [HARDENED, PERSON])
def test_a_deadline_ends_a_command_against_a_server_that_never_answers(profile, remote, tmp_path):
    """The transport helper, a child of git's, holds the connection: it must be gone too."""
    with servers.http_server(remote.parent) as server:
        server.stalls = True
        git = Git(directory=remote, profile=profile, url=parse_url(f"{server.url}/fleet.git"))
        with pytest.raises(GitError, match=r"git ls-remote …: no end after 500ms, so it was stopped"):
            git.run("ls-remote", f"{server.url}/fleet.git", timeout=0.5)
        assert processes_mentioning(server.url) == []


def test_a_deadline_kills_what_git_started_even_if_it_ignores_signals(remote, tmp_path):
    marker = f"sleep 9{os.getpid()}"
    git = Git(directory=remote, profile=HARDENED)
    with pytest.raises(GitError, match="no end after"):
        git.run("-c", f"alias.wait=!trap '' TERM HUP INT; {marker}; true", "wait", timeout=0.3)
    assert processes_mentioning(marker) == []


def processes_mentioning(text: str) -> list[str]:
    """Return the command lines of living processes with a text in them; what was just killed gets a moment to go."""
    for _ in range(100):
        found = [line for line in command_lines() if text in line]
        if not found:
            return []
        clock.sleep(0.02)
    return found


def command_lines() -> list[str]:
    """Return the command line of every other process."""
    lines = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if process.name != str(os.getpid()):
            lines.append(line)
    return lines


def test_many_commands_leave_no_descriptor_or_child_behind(mirror):
    mirror.git.run("version")
    before, ours = len(list(Path("/proc/self/fd").iterdir())), _children()
    threads = [threading.Thread(target=mirror.git.run, args=("version",)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert _children() <= ours


def _children() -> set[str]:
    """Return the processes, zombies too, that this one has started; other tests' servers may be among them."""
    return {pid for file in Path("/proc/self/task").glob("*/children") for pid in file.read_text().split()}


# -- finding a repository ------------------------------------------------------------------------------------


def test_the_repository_around_a_folder_is_found(clone, remote):
    (clone / "deep" / "er").mkdir(parents=True)
    git, bare = discover(clone / "deep" / "er")
    assert (git.directory, git.where, bare) == (clone / ".git", clone, False)
    assert discover(remote) == (Git(directory=remote, profile=PERSON), True)


def test_a_folder_without_a_repository_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="not a git repository"):
        discover(tmp_path)
    with pytest.raises(UsageError, match="is not a directory"):
        discover(tmp_path / "missing")


def test_every_error_of_git_is_ours():
    assert issubclass(GitError, ReconcilerError)
