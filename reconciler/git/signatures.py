"""Who really signed a commit, by the operator's list of allowed signers; a name in a commit alone is only a claim."""

from pathlib import Path

from reconciler.git.run import Git, check_sha


def signer(git: Git, commit: str, allowed: Path) -> str:
    """Return the principal whose key signed the commit; empty for no signature, a bad one, or nobody on the list.

    Shape:   `allowed` is an OpenSSH allowed-signers file (ssh-keygen(1), ALLOWED SIGNERS).
    Raises:  GitError.
    """
    trusted = ("-c", f"gpg.ssh.allowedSignersFile={allowed.absolute()}")
    said = git.run(*trusted, "log", "-1", "--format=%G?%x00%GS", check_sha(commit), "--").decode(errors="replace")
    state, _, principal = said.strip().partition("\0")
    return principal if state == "G" else ""
