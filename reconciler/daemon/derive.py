"""From commits to a view: reads what changed, parses it once, and brings the history up to a head."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import cast

from reconciler.core import codec
from reconciler.core.approvals import Candidate
from reconciler.core.history import History, approval_mark
from reconciler.core.model import FOLDERS, Approval, Body, Commit, ParsedFile, Problem
from reconciler.core.recorded import Recorded, recorded_history, recorded_paths
from reconciler.core.reverts import reverted_ids, reverts_title, titles
from reconciler.core.selection import resource_hash, sanitise
from reconciler.core.view import Declared, FileChange, Removal, Source
from reconciler.daemon.checkpoint import load, save
from reconciler.documents import yaml
from reconciler.documents.parse import SUFFIXES, is_manifest, parse
from reconciler.errors import PermanentError
from reconciler.git import history as log
from reconciler.git.history import Change
from reconciler.git.run import Git
from reconciler.git.signatures import signer
from reconciler.status_branch import reader
from reconciler.status_branch.store import Joint

FILE_LIMIT = yaml.MAX_BYTES
"""Bytes of a manifest that are read; a larger one is reported."""

_SAVE_EVERY = 100
"""Commits after which a checkpoint is worth writing."""

_CHUNK = 500
"""Commits whose blobs are read together."""


class Derivation:
    """What follows from the watched branch, kept up to date commit by commit."""

    def __init__(self, git: Git, checkpoint: Path | None = None, allowed_signers: Path | None = None) -> None:
        """Begin at the checkpoint, if there is one to use, else before the first commit; `bring_to` does the work.

        `allowed_signers` says whose signatures of approvals are believed; without it none is verified.
        """
        self._git, self._checkpoint, self._allowed_signers = git, checkpoint, allowed_signers
        held: tuple[History, dict[str, Joint]] | None = load(checkpoint, tuple) if checkpoint is not None else None
        usable = held is not None and held[0].head is not None and log.exists(git, held[0].head.sha)
        self.view, self._joints = held if held is not None and usable else (History(), {})
        self._saved = self.view.head.position if self.view.head else -1
        self._introduced: dict[tuple[str, str], tuple[Commit, str]] = {}
        self._lost: Derivation | None = None

    def bring_to(self, head: str, joints: Mapping[str, Joint]) -> None:
        """Derive everything up to `head`; `joints` says where a commit follows another than its first parent.

        Where a pull made it follow a commit that is not here, that is left out: what came before cannot be derived
        here. A rewritten history begins at what was recorded of the lost one, whether that is here or not.
        Raises:  GitError; the view then stands at the last commit it has taken in.
        """
        joints = {new: one for new, one in joints.items() if one.recorded or log.exists(self._git, one.follows)}
        done = self.view.head.sha if self.view.head else None
        if done == head and joints == self._joints:
            return
        known = [one for new, one in joints.items() if self._joints.get(new) != one]
        grown = done is not None and self._joints.keys() <= joints.keys()  # else the branch was made anew since
        self._joints = dict(joints)
        follows = known == [Joint(follows=done or "")]
        continues = grown and (follows or (not known and self._continues(head, done or "")))
        # a view from nothing is built aside: workers go on reading the one that is there
        view, done = (self.view, done) if continues else (self._beginning(head), None)
        try:
            for chunk in _chunks(self._chain(head, done)):
                self._take(view, chunk)
        except Exception:
            self.view = History()  # half a commit is worse than none
            raise
        self.view = view
        position = self.view.head.position if self.view.head else -1
        if self._checkpoint is not None and abs(position - self._saved) >= _SAVE_EVERY:
            save(self._checkpoint, (self.view, self._joints))
            self._saved = position

    def _continues(self, head: str, done: str) -> bool:
        if not log.contains_on_first_parent(self._git, head, done):
            return False
        rewrite = self._rewrite(head)
        return rewrite is None or rewrite in self.view.joints

    def _beginning(self, head: str) -> History:
        """Return the view before the first commit of the chain: empty, or what was recorded of a lost history."""
        rewrite = self._rewrite(head)
        if rewrite is None:
            return History()
        joint = self._joints[rewrite]
        status = reader.with_archived(self._git, reader.read(self._git, joint.recorded))
        record = Recorded(
            states=tuple(status.placements.values()),
            clusters=status.members,
            lost=joint.follows,
            time=codec.decode_time(status.time),
            started_after=status.fleet.started_after,
        )
        return recorded_history(record)

    def _rewrite(self, tip: str) -> str | None:
        """Return the first commit of the newest acknowledged rewrite on the chain to `tip`, if any."""
        if not any(one.recorded for one in self._joints.values()):
            return None
        new = self._newest_joint(tip, None)
        return new if new is None or self._joints[new].recorded else self._rewrite(self._joints[new].follows)

    def _chain(self, tip: str, done: str | None) -> Iterator[tuple[Commit, tuple[Change, ...]]]:
        """Yield the commits after `done` up to `tip`, oldest first, along first parents and recorded follows."""
        new = self._newest_joint(tip, done)
        if new is None:
            yield from log.log(self._git, tip, done)
            return
        joint = self._joints[new]
        if joint.recorded:
            yield self._one(new), log.listing(self._git, new)
        else:
            if joint.follows != done:
                yield from self._chain(joint.follows, done)
            yield self._one(new), log.diff(self._git, joint.follows, new)
        if new != tip:
            yield from log.log(self._git, tip, new)

    def _newest_joint(self, tip: str, done: str | None) -> str | None:
        after = [new for new in self._joints if done is None or not log.is_ancestor(self._git, new, done)]
        on_chain = [new for new in after if log.contains_on_first_parent(self._git, tip, new)]
        for new in on_chain:
            if all(other == new or log.is_ancestor(self._git, other, new) for other in on_chain):
                return new
        return None

    def _one(self, sha: str) -> Commit:
        parents = self._git.run("rev-list", "--parents", "-n", "1", sha, "--").decode("ascii").split()[1:]
        return next(commit for commit, _ in log.log(self._git, sha, parents[0] if parents else None))

    def _take(self, view: History, chunk: list[tuple[Commit, tuple[Change, ...]]]) -> None:
        wanted = [
            change.blob
            for _, changes in chunk
            for change in changes
            if change.blob and change.is_content and is_manifest(change.path)
        ]
        blobs = log.read_blobs(self._git, wanted, limit=FILE_LIMIT)
        for commit, changes in chunk:
            position = view.head.position + 1 if view.head else 0
            parsed = [parsed_change(change, blobs) for change in changes if _is_ours(change)]
            if commit.sha in self._joints and self._joints[commit.sha].recorded:
                parsed += [FileChange(path=path, blob="", parsed=None) for path in recorded_paths(view)]
            view.advance(replace(commit, position=position), parsed)
            if commit.sha in self._joints:
                view.joints[commit.sha] = position
            self._judge_removals(view)

    # -- reverts ----------------------------------------------------------------------------------------------------

    def _judge_removals(self, view: History) -> None:
        """Find out which of the runs that were just removed were reverted."""
        while view.unjudged:
            removal = view.removals[view.unjudged[-1]]
            self._judge_removal(view, [one.message for one in self._brought(removal.commit)])

    def judge_proposed(self, messages: Sequence[str]) -> None:
        """Judge the removals of a change that is no commit of the watched branch yet, by the messages it comes with."""
        while self.view.unjudged:
            self._judge_removal(self.view, messages)

    def _judge_removal(self, view: History, messages: Sequence[str]) -> None:
        uid = view.unjudged.pop()
        removal = view.removals[uid]
        if not removal.replaced and self._is_revert(removal, messages):
            view.reverted.add(uid)

    def _is_revert(self, removal: Removal, messages: Sequence[str]) -> bool:
        """Tell whether the removing commit, or one that it merged, says that it reverts what brought the run."""
        named = [sha for message in messages for sha in reverted_ids(message)]
        if not named and not any("Revert " in message for message in messages):
            return False
        bringing = self._brought(removal.declared.created)
        ids = {one.sha for one in bringing}
        if named:
            return any(one.startswith(sha) for sha in named for one in ids)
        brought = [title for one in bringing for title in (*titles(one.message), one.subject)]
        return any(reverts_title(message, brought) for message in messages)

    def _brought(self, commit: Commit) -> tuple[Commit, ...]:
        """Return a commit of the first-parent history and what it merged.

        Of one from before an acknowledged rewrite only the id is on record: what it merged is not looked up even where
        it still could be, for in another clone it could not. So reverting that one commit rolls back, reverting one
        that it merged, or by its title, withdraws.
        """
        joint = self._joints.get(commit.sha)
        base = joint.follows if joint is not None else next(iter(commit.parents), None)
        merged = len(commit.parents) > 1 and base is not None and log.exists(self._git, base)
        return log.brought(self._git, commit, base) if merged else (commit,)

    # -- reading back ---------------------------------------------------------------------------------------------

    def content(self, placement_uid: str, index: int) -> tuple[Body, ...]:
        """Return the objects of a snapshot, read back from its commit.

        Raises:  PermanentError when the history does not hold it any more; GitError.
        """
        sources = self._sources(placement_uid, index)
        if sources is None:
            raise PermanentError(f"SnapshotContentGone: the history does not hold snapshot {index} any more")
        return read_back(self._git, sources)

    def _sources(self, placement_uid: str, index: int) -> tuple[Source, ...] | None:
        """Return where a snapshot is read from: this history, or the lost one where its commits are still here."""
        found = self.view.sources.get((placement_uid, index))
        rewrite = self._rewrite(self.view.head.sha) if found is None and self.view.head is not None else None
        if rewrite is None or not log.exists(self._git, self._joints[rewrite].follows):
            return found
        if self._lost is None:
            self._lost = Derivation(self._git)
        self._lost.bring_to(self._joints[rewrite].follows, self._joints)
        return self._lost._sources(placement_uid, index)  # noqa: SLF001 - one of ours

    def candidates(self) -> tuple[Candidate, ...]:
        """Return every approval at the head with the commit that introduced it, on whichever side of a merge."""
        return tuple(self._candidate(one) for one in self.view.approvals() if _has_condition(one))

    def _candidate(self, declared: Declared) -> Candidate:
        approval = cast("Approval", declared.value)
        name = (declared.changed.sha, declared.document.path)
        if name not in self._introduced:
            commit = self._introducing(declared.changed, declared.document.path)
            allowed = self._allowed_signers
            self._introduced[name] = commit, signer(self._git, commit.sha, allowed) if allowed is not None else ""
        introduced, signed_by = self._introduced[name]
        seen = self.view.approvals_seen[approval_mark(approval)]
        return Candidate(approval=approval, first_seen=seen, introduced=introduced, signer=signed_by)

    def _introducing(self, commit: Commit, path: str) -> Commit:
        if len(commit.parents) < 2:  # noqa: PLR2004 - no merge: the commit itself
            return commit
        held = [one.blob for one in log.listing(self._git, commit.sha, path) if one.path == path and one.blob]
        return log.introduced(self._git, commit.parents[0], commit, path, held[0]) if held else commit


def _has_condition(declared: Declared) -> bool:
    return cast("Approval", declared.value).condition is not None


def _chunks(
    commits: Iterable[tuple[Commit, tuple[Change, ...]]],
) -> Iterator[list[tuple[Commit, tuple[Change, ...]]]]:
    chunk: list[tuple[Commit, tuple[Change, ...]]] = []
    for one in commits:
        chunk.append(one)
        if len(chunk) >= _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def read_back(git: Git, sources: tuple[Source, ...]) -> tuple[Body, ...]:
    """Return sanitised objects from the blobs that hold them, in order."""
    blobs = log.read_blobs(git, [source.blob for source in sources])
    parsed = {source.blob: parse(source.path, blobs[source.blob]) for source in sources}
    return tuple(sanitise(_document(parsed[source.blob], source)) for source in sources)


def others(git: Git, head: str) -> Iterator[tuple[str, bytes]]:
    """Yield the manifests of a commit that are in none of the fleet's folders, hidden ones left out."""
    found = {
        one.path: one.blob
        for one in log.listing(git, head)
        if one.blob and one.is_content and _may_be_outside(one.path)
    }
    blobs = log.read_blobs(git, found.values(), limit=FILE_LIMIT)
    yield from ((path, blobs[blob]) for path, blob in sorted(found.items()) if blob in blobs)


def _may_be_outside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    hidden = any(part.startswith(".") for part in parts)
    return not hidden and not is_manifest(path) and PurePosixPath(path).suffix.lower() in SUFFIXES


def _document(parsed: ParsedFile, source: Source) -> Body:
    return next(one.body for one in parsed.documents if one.index == source.index)


def verified(objects: tuple[Body, ...], wanted: str) -> tuple[Body, ...]:
    """Return the objects if they have the hash.

    Raises:  PermanentError otherwise: what would be delivered is not what was pinned.
    """
    found = resource_hash(objects)
    if found != wanted:
        raise PermanentError(f"SnapshotContentGone: the content read back has the hash {found}, pinned is {wanted}")
    return objects


# -- one changed path -----------------------------------------------------------------------------------------------


def _is_ours(change: Change) -> bool:
    """Tell whether a change can matter: a manifest, or something else that stands where manifests belong."""
    if change.is_content or change.blob is None:
        return is_manifest(change.path)
    return change.path.split("/", 1)[0] in FOLDERS


def parsed_change(change: Change, blobs: Mapping[str, bytes]) -> FileChange:
    """Parse a changed file; what is no plain readable file becomes a problem."""
    if change.blob is None:
        return FileChange(path=change.path, blob="", parsed=None)
    return FileChange(path=change.path, blob=change.blob, parsed=_parsed(change, blobs))


def _parsed(change: Change, blobs: Mapping[str, bytes]) -> ParsedFile:
    if not change.is_content:
        return _broken(change, "NotAFile", "symbolic links and submodules are not followed: commit the file itself")
    if change.path.encode(errors="surrogateescape").decode(errors="replace") != change.path:
        return _broken(change, "BadPath", "the path is not UTF-8")
    data = blobs.get(change.blob or "")
    if data is None:
        return _broken(change, "FileTooLarge", f"the file is larger than {FILE_LIMIT} bytes")
    if log.is_lfs_pointer(data):
        return _broken(change, "LfsPointer", "Git LFS is not followed: commit the file itself")
    return parse(change.path, data)


def _broken(change: Change, rule: str, message: str) -> ParsedFile:
    path = change.path.encode(errors="surrogateescape").decode(errors="replace")
    return ParsedFile(problems=(Problem(path=path, rule=rule, message=message),), named=None)
