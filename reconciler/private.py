"""What only we may read and write: the process's files, and the folders whose content we believe."""

import os
import resource
import stat
from pathlib import Path

from reconciler.errors import UsageError

_OTHERS = stat.S_IWGRP | stat.S_IWOTH

operators_umask = os.umask(0o077)  # there is no way to ask for it alone
os.umask(operators_umask)


def begin() -> None:
    """Have everything that this process writes be ours alone, and no image of its memory be left on disk."""
    os.umask(0o077)
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def shared_mode(mode: int) -> int:
    """Return the mode of a file or folder that others may read as far as the operator's own umask lets them."""
    return mode & ~operators_umask


def make_shared(folder: Path) -> None:
    """Make a folder that others may read, and those above it, where they are missing; raises OSError."""
    if not folder.exists():
        make_shared(folder.parent)
        folder.mkdir(exist_ok=True)
        folder.chmod(shared_mode(0o777))


def check_folder(folder: Path) -> None:
    """Make sure that nobody else can write a folder whose content is believed; one that is missing is made by us.

    Raises:  UsageError, with the way out.
    """
    try:
        found = folder.stat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"the state folder {folder} cannot be read: {error.strerror}") from error
    way = "or name another that does not exist yet with --state-dir (stateDir): it is made"
    if found.st_uid != os.geteuid():
        raise UsageError(
            f"the state folder {folder} belongs to user {found.st_uid}, and this is user {os.geteuid()}: what its "
            f"owner writes there would be believed. Give it to user {os.geteuid()}, {way}"
        )
    if found.st_mode & _OTHERS:
        raise UsageError(
            f"the state folder {folder} can be written by others (mode {stat.S_IMODE(found.st_mode):04o}), and what "
            f"they write there would be believed. Look at what is in it, then `chmod go-w {folder}`, {way}"
        )
