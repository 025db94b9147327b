"""Acknowledged rewrites: which commit of a new history somebody declared to follow a head that is gone."""

from reconciler.git import history as log
from reconciler.git.run import Git

TRAILER = "Acknowledge-Rewrite"
"""A commit's trailer `Acknowledge-Rewrite: OLD NEW`: NEW takes the place of OLD."""


def acknowledgement(git: Git, old: str, head: str) -> str | None:
    """Return the commit of the history of `head` that was acknowledged to follow the lost head `old`, if any."""
    form = f"--format=%(trailers:key={TRAILER},valueonly,separator=%x0a)"
    without = (f"^{old}",) if log.exists(git, old) else ()
    text = git.run("log", "--first-parent", form, head, *without, "--").decode(errors="replace")
    for entry in text.splitlines():
        lost, _, new = entry.strip().partition(" ")
        if lost == old and len(new) == len(old) and log.contains_on_first_parent(git, head, new):
            return new
    return None
