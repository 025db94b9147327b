"""The only place that starts git: which environment it gets, how long it may take, what its errors say.

Here live `Git` (a git directory and whose git it is), the grammar of URLs and branch names, and the way
credentials reach git: from files and environment variables, never on a command line. No work tree is ever
written, and GitPython starts our own argument lists; its object layer is not used.

The variables of the daemon, and of a person who gives them: `RECONCILER_GIT_USERNAME`, `RECONCILER_GIT_PASSWORD` or
`RECONCILER_GIT_PASSWORD_FILE`, `RECONCILER_GIT_CA_FILE` (http and https), `RECONCILER_SSH_KEY_FILE`,
`RECONCILER_SSH_KNOWN_HOSTS_FILE` (ssh).
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

from reconciler import private, redact
from reconciler.core.model import format_duration
from reconciler.errors import TemporaryError, UsageError

CONTENT_MODES = ("100644", "100755")
TRUST_FILE = "trust.gitconfig"
TRUST = "[safe]\n\tdirectory = *\n"
"""What `TRUST_FILE` says: a repository that the operator names by its path is trusted whoever owns it."""

_GRACE = 5.0  # seconds a killed git has for closing its pipes
_LAST_LINES = 8


class Profile(StrEnum):
    """Whose git it is."""

    HARDENED = "hardened"
    """The daemon's: no configuration, identity, prompt or program but what is set here."""
    PERSON = "person"
    """A person's: their configuration, identity, signing and credentials; no hooks."""


HARDENED, PERSON = Profile.HARDENED, Profile.PERSON


class GitError(TemporaryError):
    """A git command failed. `status` is its exit code (negative: the signal that ended it), `stderr` its words.

    `stdout` is what it answered all the same.
    """

    def __init__(self, verb: str, status: int, stderr: str, stdout: bytes = b"") -> None:
        self.status, self.stdout = status, stdout
        self.stderr = redact.text(stderr)
        super().__init__(f"git {verb} …: {_last_lines(self.stderr) or f'exit code {status} and no word'}")


def _last_lines(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines()]
    return "; ".join([line for line in lines if line and not line.startswith("hint:")][-_LAST_LINES:])


# -- names that people give ----------------------------------------------------------------------------------

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]|%[01][0-9a-fA-F]|%7[fF]")
_SCHEME = re.compile(r"([A-Za-z0-9][A-Za-z0-9+.-]*)(::?)(//)?")
_NETWORK = re.compile(
    r"""(?P<scheme>https?|ssh|git)://
        (?:(?P<user>[A-Za-z0-9_.%+][A-Za-z0-9_.%+-]*)@)?
        (?P<host>[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\])(?P<port>:[0-9]{1,5})?
        (?P<path>/\S*)?""",
    re.VERBOSE,
)
_SCP = re.compile(
    r"(?:(?P<user>[A-Za-z0-9_.][A-Za-z0-9_.-]*)@)?(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\]):(?P<path>[^-:].*)"
)
_BRANCH_FORBIDDEN = re.compile(r"[ ~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(/|$)|^[-/.]|[/.]$|^@$|^HEAD$")
_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Url:
    """A remote that may be handed to git: `text` is what git gets, `protocol` the one transport it may use for it."""

    text: str
    protocol: str
    user: str = ""

    @property
    def origin(self) -> str:
        """`scheme://host:port` of an http(s) URL, the only place that gets its credentials."""
        match = _NETWORK.fullmatch(self.text)
        return f"{match['scheme']}://{match['host']}{match['port'] or ''}" if match else ""


def parse_url(text: str) -> Url:
    """Check a remote: a path, `file://`, `http(s)://`, `ssh://`, `git://` or `user@host:path`.

    A path becomes absolute, and the same however it is spelt. Raises UsageError, naming what is wrong, for everything
    else: a password in the URL, control characters, options in disguise, `ext::` and what else runs programs.
    """
    if not text or text.startswith("-") or _CONTROL.search(text):
        raise _bad_url(text, "it is empty, begins with a dash or has control characters")
    scheme = _SCHEME.match(text)
    if scheme and scheme[2] == "::":
        raise _bad_url(text, f"the transport {scheme[1]}:: is not allowed")
    if scheme and scheme[3]:
        return _file_url(text) if scheme[1] == "file" else _network_url(text)
    if ":" in text.split("/", 1)[0]:
        return _scp_url(text)
    return Url(text=str(Path(text).resolve()), protocol="file")


def _file_url(text: str) -> Url:
    if not text.startswith("file:///"):
        raise _bad_url(text, "a file URL has three slashes and an absolute path")
    return Url(text=text, protocol="file")


def _network_url(text: str) -> Url:
    match = _NETWORK.fullmatch(text)
    if match:
        return Url(text=text, protocol=match["scheme"], user=match["user"] or "")
    if "@" in text and ":" in text.partition("//")[2].partition("@")[0]:
        raise _bad_url(text, "a password does not belong in it; use RECONCILER_GIT_PASSWORD_FILE")
    raise _bad_url(text, "accepted are http, https, ssh, git and file with a plain host name and path")


def _scp_url(text: str) -> Url:
    match = _SCP.fullmatch(text)
    if not match:
        raise _bad_url(text, "as user@host:path it needs a plain user, host and path")
    return Url(text=text, protocol="ssh", user=match["user"] or "")


def _bad_url(text: str, why: str) -> UsageError:
    return UsageError(f"the repository URL {redact.line(text, 200)!r} is not accepted: {why}")


def check_branch(name: str) -> str:
    """Return the branch name if git's grammar for refs allows it; raises UsageError."""
    if not name or len(name) > 200 or not name.isprintable() or _BRANCH_FORBIDDEN.search(name):  # noqa: PLR2004 - a file name's room
        raise UsageError(f"{redact.line(name, 100)!r} is not a branch name that git accepts")
    return name


def check_sha(name: str) -> str:
    """Return a full object name, 40 or 64 hex digits; anything else is our mistake, a ValueError."""
    if not _SHA.fullmatch(name):
        raise ValueError(f"{name!r} is not a full object name")
    return name


# -- running -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Git:
    """git bound to one git directory and a profile; `url` is the one remote that it may talk to.

    `where` is the directory git is started in (default: the git directory), which relative remotes of a
    person's clone are relative to. `objects` are the directory to which objects go that are made, and the one
    that holds the others (default: both are the repository's own).
    """

    directory: Path
    profile: Profile
    url: Url | None = None
    where: Path | None = None
    objects: tuple[Path, Path] | None = None

    def run(
        self,
        *args: str,
        stdin: bytes | None = None,
        timeout: float = 60.0,
        environment: Mapping[str, str] | None = None,
    ) -> bytes:
        """Run one git command and return its stdout; `timeout` is seconds for all of it.

        Raises GitError when git fails, or does not finish in time and is killed with everything it started.
        """
        return self._run(*args, stdin=stdin, timeout=timeout, environment=environment)[0]

    def _run(
        self,
        *args: str,
        stdin: bytes | None = None,
        timeout: float,
        environment: Mapping[str, str] | None = None,
    ) -> tuple[bytes, str]:
        options = ("--git-dir", str(self.directory.absolute()), *_OPTIONS[self.profile], *self._remote_options())
        variables = {**self._environment(), **self._objects(), **(environment or {})}
        return _run(
            (*options, *args),
            verb=_verb(args),
            environment=variables,
            stdin=stdin,
            timeout=timeout,
            where=self.where or self.directory,
            profile=self.profile,
        )

    def ask(self, *args: str, timeout: float = 60.0) -> tuple[bytes, datetime | None]:
        """Run a command that asks the remote; return its stdout, and what the remote's clock said (http alone tells).

        Raises GitError as `run`. The trace in which git shows the answer's headers is never kept or shown.
        """
        if self.url is None or self.url.protocol not in ("http", "https"):
            return self.run(*args, timeout=timeout), None
        stdout, stderr = self._run(*args, timeout=timeout, environment=_TRACED)
        return stdout, _date_of(stderr)

    def test(self, *args: str, timeout: float = 60.0) -> bool:
        """Run a command that answers by exit code 0 or 1; raises GitError for any other."""
        try:
            self.run(*args, timeout=timeout)
        except GitError as error:
            if error.status == 1:
                return False
            raise
        return True

    def _remote_options(self) -> tuple[str, ...]:
        if self.url is None or self.url.protocol not in ("http", "https"):
            return ()
        authority, helper = os.environ.get("RECONCILER_GIT_CA_FILE"), f"credential.{self.url.origin}.helper="
        return (
            *(("-c", f"http.sslCAInfo={authority}") if authority else ()),
            # what is given here comes before the helpers of a person's configuration
            *(("-c", helper, "-c", helper + _HELPER) if _has_password() else ()),
        )

    def _objects(self) -> dict[str, str]:
        if self.objects is None:
            return {}
        new, held = self.objects
        quoted = str(held).replace("\\", "\\\\").replace('"', '\\"')
        return {"GIT_OBJECT_DIRECTORY": str(new), "GIT_ALTERNATE_OBJECT_DIRECTORIES": f'"{quoted}"'}

    def _environment(self) -> dict[str, str]:
        protocol, user = (self.url.protocol, self.url.user) if self.url else ("none", "")
        name = {"RECONCILER_GIT_USERNAME": os.environ.get("RECONCILER_GIT_USERNAME") or user or "git"}
        if self.profile is PERSON:
            return name | ({"GIT_SSH_COMMAND": _own_ssh_command()} if _has_ssh() else {})
        trust = self.directory.absolute() / TRUST_FILE if protocol == "file" else Path(os.devnull)
        return {
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": str(trust),
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "",
            "GIT_ALLOW_PROTOCOL": protocol,
            "GIT_SSH_COMMAND": _ssh_command(),
            "GIT_SSH_VARIANT": "ssh",
            **name,
        }


_COMMON = (
    "--no-pager",
    "--no-replace-objects",  # a replaced commit would be another history
    "--literal-pathspecs",
    "-c", "core.hooksPath=/dev/null",
    "-c", "core.fsmonitor=false",
    "-c", "gc.auto=0",
    "-c", "maintenance.auto=false",
    "-c", "i18n.logOutputEncoding=UTF-8",
    "-c", "log.showSignature=false",
    "-c", "log.showRoot=true",
)  # fmt: skip

_OPTIONS: Mapping[Profile, tuple[str, ...]] = {
    PERSON: _COMMON,
    HARDENED: (
        *_COMMON,
        "-c", "credential.helper=",
        "-c", "http.followRedirects=false",  # a redirect would carry credentials elsewhere
        "-c", "http.lowSpeedLimit=1000",
        "-c", "http.lowSpeedTime=30",
        "-c", "transfer.fsckObjects=true",
        "-c", "transfer.bundleURI=false",
        "-c", "safe.bareRepository=explicit",
    ),
}  # fmt: skip

# git asks this for one origin only; the password goes from the variable or file into a pipe
_HELPER = (
    '!f() { test "$1" = get || exit 0; '
    'if test -n "$RECONCILER_GIT_PASSWORD_FILE"; then p=$(cat "$RECONCILER_GIT_PASSWORD_FILE") || exit 1; '
    "else p=$RECONCILER_GIT_PASSWORD; fi; "
    'printf "username=%s\\npassword=%s\\n" "$RECONCILER_GIT_USERNAME" "$p"; }; f'
)

_TRACED = {"GIT_TRACE_CURL": "1", "GIT_TRACE_CURL_NO_DATA": "1"}
_TRACE = re.compile(r"^\d\d:\d\d:\d\d\.\d+ \S+ .*\n?", re.MULTILINE)
_DATE = re.compile(r"^\d\d:\d\d:\d\d\.\d+ \S+ +<= Recv header: date: (.+)$", re.MULTILINE | re.IGNORECASE)


def _untraced(words: str) -> str:
    """Return what git said without the trace of its requests."""
    return _TRACE.sub("", words)


def _date_of(trace: str) -> datetime | None:
    """Return the moment that the last answer named; None for none, or one that cannot be read."""
    found = _DATE.findall(trace)
    try:
        return parsedate_to_datetime(found[-1].strip()).astimezone(UTC) if found else None
    except (ValueError, OverflowError):
        return None


_FOREIGN = ("GIT_PYTHON_",)  # GitPython's own, which git does not know

# of a person's environment: who they are, their configuration, how they prove it
_PERSONAL = (
    *_FOREIGN,
    "GIT_AUTHOR_",
    "GIT_COMMITTER_",
    "GIT_CONFIG_",
    "GIT_SSH",
    "GIT_ASKPASS",
    "GIT_TERMINAL_PROMPT",
    "GIT_HTTP_",
    "GIT_SSL_",
    "GIT_PROXY_",
)


def _has_password() -> bool:
    return bool(os.environ.get("RECONCILER_GIT_PASSWORD") or os.environ.get("RECONCILER_GIT_PASSWORD_FILE"))


def _ssh_command() -> str:
    """Return the ssh command for the shell that git hands it to; no configuration file, nothing is ever asked."""
    options = ["BatchMode=yes", "StrictHostKeyChecking=yes", "ConnectTimeout=10", "ServerAliveInterval=15"]
    return shlex.join(["ssh", "-F", os.devnull, *(f"-o{option}" for option in (*options, *_ssh_given()))])


def _own_ssh_command() -> str:
    """Return a person's ssh, with their configuration, and the key and hosts that the environment names."""
    return shlex.join(["ssh", *(f"-o{option}" for option in _ssh_given())])


def _has_ssh() -> bool:
    return bool(os.environ.get("RECONCILER_SSH_KEY_FILE") or os.environ.get("RECONCILER_SSH_KNOWN_HOSTS_FILE"))


def _ssh_given() -> list[str]:
    key, hosts = os.environ.get("RECONCILER_SSH_KEY_FILE"), os.environ.get("RECONCILER_SSH_KNOWN_HOSTS_FILE")
    options = []
    if hosts:
        known = f"UserKnownHostsFile={_ssh_path(hosts)}"
        options += [known, "GlobalKnownHostsFile=/dev/null", "StrictHostKeyChecking=yes"]
    if key:
        options += [f"IdentityFile={_ssh_path(key)}", "IdentitiesOnly=yes"]
    return options


def _ssh_path(path: str) -> str:
    """Quote a path for ssh's own option grammar, which splits at blanks and expands percent signs."""
    return '"' + str(Path(path).absolute()).replace("%", "%%") + '"'


def _verb(args: tuple[str, ...]) -> str:
    """Return the command's name, which options for git itself may precede."""
    return _verb(args[2:]) if args[0] == "-c" else args[0]


def _run(
    args: tuple[str, ...],
    *,
    verb: str,
    environment: Mapping[str, str],
    stdin: bytes | None,
    timeout: float,
    where: Path,
    profile: Profile,
) -> tuple[bytes, str]:
    command = (_program("git"), *args)
    # a person's repository, and a local one that is pushed to, stay as readable to others as they were
    umask = private.operators_umask if profile is PERSON or verb == "push" else -1
    process = _start((*_without_inherited(environment, profile), *command), environment, where, profile, umask)
    try:
        stdout, stderr = process.communicate(stdin or b"", timeout=timeout)
    except subprocess.TimeoutExpired as error:
        _kill(process, profile)
        words = f"no end after {format_duration(timedelta(seconds=timeout))}, so it was stopped"
        raise GitError(verb, -signal.SIGKILL, words) from error
    except BaseException:
        _kill(process, profile)
        raise
    if process.returncode:
        raise GitError(verb, process.returncode, _untraced(stderr.decode(errors="replace")), bytes(stdout))
    return bytes(stdout), stderr.decode(errors="replace")


def _start(command: tuple[str, ...], environment: Mapping[str, str], where: Path, profile: Profile, umask: int) -> Any:
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # whether git is installed is told by `_program`
    from git.cmd import Git as Runner  # noqa: PLC0415 - 0.2 s that printing a help page must not cost

    # the daemon's git leads a process group, to be killed as a whole; a person's keeps the terminal, for pass phrases
    return Runner(str(where)).execute(
        list(command),
        istream=subprocess.PIPE,
        as_process=True,
        env=dict(environment),
        start_new_session=profile is HARDENED,
        umask=umask,
    )


def _without_inherited(ours: Mapping[str, str], profile: Profile) -> tuple[str, ...]:
    """Return a prefix that drops inherited `GIT_*` variables: GitPython can add variables but not remove any."""
    kept = _PERSONAL if profile is PERSON else _FOREIGN
    inherited = sorted(name for name in os.environ if name.startswith("GIT_") and not name.startswith(kept))
    dropped = [part for name in inherited if name not in ours for part in ("-u", name)]
    return (_program("env"), *dropped) if dropped else ()


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise UsageError(f"the program {name} is not installed, or not on the PATH")
    return str(Path(path).absolute())


def _kill(process: Any, profile: Profile) -> None:
    """End git and everything it started, and reap it."""
    if profile is HARDENED:
        _kill_quietly(os.killpg, process.pid)
    else:
        for pid in _family(process.pid):
            _kill_quietly(os.kill, pid)
    try:
        process.communicate(timeout=_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        _close(process.stdin, process.stdout, process.stderr)
        process.proc.wait()


def _family(pid: int) -> list[int]:
    """Return a process and its descendants, where the system tells (Linux), else the process alone."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return [pid]
    return [pid, *(one for child in children for one in _family(int(child)))]


def _kill_quietly(kill: Callable[[int, int], None], target: int) -> None:
    try:
        kill(target, signal.SIGKILL)
    except ProcessLookupError:
        return  # it ended in this very moment


def _close(*pipes: IO[bytes] | None) -> None:
    for pipe in pipes:
        if pipe is not None:
            pipe.close()


# -- finding a person's repository -----------------------------------------------------------------------------


def discover(where: Path) -> tuple[Git, bool]:
    """Return a person's git for the repository around a directory, and whether it is bare; raises UsageError."""
    if not where.is_dir():
        raise UsageError(f"{where} is not a directory, so it is no git repository")
    args = (*_OPTIONS[PERSON], "rev-parse", "--is-bare-repository", "--absolute-git-dir", "--show-cdup")
    try:
        answer, _ = _run(args, verb="rev-parse", environment={}, stdin=None, timeout=10.0, where=where, profile=PERSON)
    except GitError as error:
        raise UsageError(f"{where} is not a git repository that can be read: {error}") from error
    bare, directory, *up = os.fsdecode(answer).split("\n")
    root = None if bare == "true" else (where / (up[0] if up else "")).resolve()
    return Git(directory=Path(directory), profile=PERSON, where=root), bare == "true"
