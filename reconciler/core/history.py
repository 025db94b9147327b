"""The fold of the watched branch's history: which objects count at a commit, who they are, and what follows.

`History.advance` takes one commit with its parsed changes and brings everything up to it: last good versions of
broken files, identities, snapshots, policies, initializations, first appearances of approvals. What it holds
depends on the sequence of commits alone, never on when anybody looked.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from reconciler.core.identity import object_uid
from reconciler.core.initialization import attempt
from reconciler.core.model import (
    APPROVALS,
    RESOURCES,
    Approval,
    Body,
    Commit,
    Document,
    Key,
    Named,
    ParsedFile,
    Placement,
    Problem,
    Run,
    kind_of,
)
from reconciler.core.scopes import DEFINITION, defined_scope
from reconciler.core.selection import Resources, Selection, SelectionError, canonical, interests, marks, select
from reconciler.core.status import PolicySnapshot, Snapshot, State
from reconciler.core.transitions import problem_at, transition_problems
from reconciler.core.view import Declared, FileChange, Removal, Source, View


@dataclass(slots=True)
class _File:
    blob: str
    documents: tuple[Document, ...] = ()


@dataclass(slots=True)
class _Doubt:
    """Objects that left their files, and stay until the files broken by the same commit can be read.

    `brought` are the runs that the commit brought, also those of its files that could be read only later.
    """

    commit: Commit
    keys: set[Key]
    broken: set[str]
    brought: dict[str, Declared] = field(default_factory=dict)


class History(View):
    """A view that can be brought to the next commit; change it by `advance` alone."""

    def __init__(self) -> None:
        """Begin before the first commit."""
        super().__init__()
        self._files: dict[str, _File] = {}
        self._owners: dict[Key, str] = {}
        self._resources = Resources()
        self._interested: dict[tuple[str, ...], set[Key]] = {}
        self._doubts: list[_Doubt] = []
        self._refused_before: dict[str, FileChange] = {}
        self._ill_since: dict[str, int] = {}
        """Of each broken file with approvals, at which position it became so."""
        self._dirty: set[Key] = set()
        self._scopes: dict[tuple[str, str], bool] = {}

    # -- the fold -------------------------------------------------------------------------------------------

    def begin_from(self, known: Iterable[Declared]) -> None:
        """Hold objects whose commits are not here, each in a file of its own, before the first commit that is."""
        for one in known:
            self._put(one.document, one.created, one.blob)
            table = self._table(one.key)
            table[one.key] = replace(one, value=table[one.key].value)
            self._files[one.document.path] = _File(blob=one.blob, documents=(one.document,))

    def advance(self, commit: Commit, changes: Iterable[FileChange]) -> None:
        """Bring everything up to this commit, the next on the first-parent history."""
        changed = {change.path: change for change in changes}
        before = set(self._dirty)
        if changed:
            self._apply_files(commit, changed)
        for key in sorted(self._dirty):
            self._derive(key, commit)
        if changed or before:
            self._initialize(commit)
        self.head = commit

    # -- files and objects --------------------------------------------------------------------------------------

    def _apply_files(self, commit: Commit, changed: Mapping[str, FileChange]) -> None:
        # what was refused before is judged again: what stood in its way may be gone
        judged = {**self._refused_before, **changed}
        good = {path: change for path, change in judged.items() if change.parsed and not change.parsed.problems}
        broken = {
            path: change.parsed.problems for path, change in changed.items() if change.parsed and change.parsed.problems
        }
        removed = [path for path, change in changed.items() if change.parsed is None and path in self._files]
        self._note_approvals(commit, good.values(), removed)
        for path in broken:
            if _folder(path) == APPROVALS:
                self._ill_since.setdefault(path, commit.position)
        self._refused_before = {}
        while refused := self._refused(good, removed):
            broken |= refused
            self._refused_before |= {path: judged[path] for path in refused}
            good = {path: change for path, change in good.items() if path not in refused}
        gone = self._gone(commit, good, {path: broken[path] for path in broken if path in changed}, removed)
        for path in broken:
            self._files.setdefault(path, _File(blob=""))
        for path in (*good, *removed):
            self.broken.pop(path, None)
            self.named.pop(path, None)
        self.broken |= broken
        unread = [path for path in broken if _folder(path) == RESOURCES]
        self.named |= {path: _named(cast("ParsedFile", judged[path].parsed)) for path in unread}
        for path, change in good.items():
            parsed = cast("ParsedFile", change.parsed)
            self._files[path] = _File(blob=change.blob, documents=parsed.documents)
            for document in parsed.documents:
                self._put(document, commit, change.blob)
        brought = self._brought_by(commit) if gone else ()
        for key in gone:
            self._remove(key, commit, brought)
        for path in removed:
            del self._files[path]
        self._settle_doubts(commit, set(good) | set(removed))

    def _refused(self, good: Mapping[str, FileChange], removed: Iterable[str]) -> dict[str, tuple[Problem, ...]]:
        """Return the files that can be read but must not count: a name taken, or an edit that is not allowed."""
        claims: dict[Key, list[Document]] = {}
        for change in good.values():
            for document in cast("ParsedFile", change.parsed).documents:
                claims.setdefault(document.key, []).append(document)
        leaving = set(removed) | set(good)
        scopes = self._scopes | _defined(document for documents in claims.values() for document in documents)
        problems: dict[str, list[Problem]] = {}
        for key, documents in claims.items():
            owner = self._owners.get(key)
            for document in documents:
                for problem in (*self._objections(document, documents, owner, leaving), *_misplaced(document, scopes)):
                    problems.setdefault(document.path, []).append(problem)
        return {path: tuple(found) for path, found in problems.items()}

    def _objections(
        self, document: Document, claimants: list[Document], owner: str | None, leaving: set[str]
    ) -> Iterator[Problem]:
        others = {one.path for one in claimants} - {document.path}
        if owner not in leaving and owner != document.path and self._is_held(document.key):
            others.add(cast("str", owner))
        if others and document.path != owner:
            names = ", ".join(sorted(others))
            yield problem_at(document, "", "DuplicateObject", f"{document.key} is declared in {names} too")
        held = self._table(document.key).get(document.key) if kind_of(document.key) else None
        if held is not None:
            yield from transition_problems(held.document, document)

    def _gone(
        self,
        commit: Commit,
        good: Mapping[str, FileChange],
        broken: Mapping[str, tuple[Problem, ...]],
        removed: list[str],
    ) -> set[Key]:
        """Return the objects that leave with this commit; doubted removals are put aside."""
        declared = {
            document.key for change in good.values() for document in cast("ParsedFile", change.parsed).documents
        }
        gone: set[Key] = set()
        for path in (one for one in (*good, *removed) if one in self._files):
            keys = {document.key for document in self._files[path].documents} - declared
            suspects = {one for one in broken if _folder(one) == _folder(path)}
            if keys and suspects:
                self._doubts.append(_Doubt(commit=commit, keys=keys, broken=suspects))
                self.doubtful |= dict.fromkeys(keys, broken[min(suspects)][0])
            else:
                gone |= keys
        return gone

    def _settle_doubts(self, commit: Commit, readable: set[str]) -> None:
        """Carry out the doubted removals whose suspects can be read now; they are dated from their own commit."""
        for doubt in self._doubts:
            doubt.brought |= {
                one.uid: one
                for one in self._brought_by(commit)
                if doubt.commit == commit or one.document.path in doubt.broken
            }
            doubt.broken -= readable
            if not doubt.broken:
                for key in sorted(doubt.keys):
                    self.doubtful.pop(key, None)
                    if not self._is_held(key):
                        self._remove(key, doubt.commit, doubt.brought.values())
        self._doubts = [doubt for doubt in self._doubts if doubt.broken]

    def _brought_by(self, commit: Commit) -> tuple[Declared, ...]:
        return tuple(one for one in self.runs() if one.created == commit)

    def _is_held(self, key: Key) -> bool:
        """Tell whether the file of an object, as it last counted, still holds it: else its removal is in doubt."""
        file = self._files.get(self._owners.get(key, ""))
        return file is not None and any(document.key == key for document in file.documents)

    def _table(self, key: Key) -> dict[Key, Declared]:
        return self.objects[key.kind] if kind_of(key) else self.resources

    def _put(self, document: Document, commit: Commit, blob: str) -> None:
        key, table = document.key, self._table(document.key)
        old = table.get(key)
        self._owners[key] = document.path
        self.doubtful.pop(key, None)
        if old is not None and old.document == document:
            return
        kind = kind_of(key)
        value = kind.read(document) if kind else None
        if old is None:
            new = Declared(
                document=document,
                uid=object_uid(commit.sha, key),
                created=commit,
                generation=1,
                changed=commit,
                value=value,
                blob=blob,
            )
        else:
            same = old.document.body == document.body
            respec = old.document.body.get("spec") != document.body.get("spec")
            new = replace(
                old,
                document=document,
                value=value,
                generation=old.generation + respec,
                changed=old.changed if same else commit,
                blob=blob,
            )
        table[key] = new
        if kind is None:
            self._resources.add(document)
            self._scopes |= _defined([document])
        self._note(old, new)

    def _remove(self, key: Key, commit: Commit, brought: Iterable[Declared]) -> None:
        old = self._table(key).pop(key, None)
        self._owners.pop(key, None)
        self._resources.remove(key)
        if old is not None:
            self._note(old, None)
            if kind_of(key):
                self.removals[old.uid] = Removal(declared=old, commit=commit, replaced=_replaces(old, brought))
            if isinstance(old.value, Run):
                self.unjudged.append(old.uid)

    def _note(self, old: Declared | None, new: Declared | None) -> None:
        """Mark what a changed object may change."""
        one = cast("Declared", new or old)
        if isinstance(one.value, Placement):
            self._dirty.add(one.key)
            for mark in interests(one.value):
                self._interested.setdefault(mark, set()).add(one.key)
        elif one.value is None:
            for mark in marks(one.key):
                self._dirty |= self._interested.get(mark, set())

    def _note_approvals(self, commit: Commit, files: Iterable[FileChange], removed: Iterable[str]) -> None:
        """Remember when each approval was first in the repository, also in a file that does not count yet.

        Of a file that was broken nobody knows what it held: what is in it, or comes as it goes, may be as old as that.
        """
        gone = [self._ill_since.pop(path) for path in removed if path in self._ill_since]
        for change in files:
            ill_since = self._ill_since.pop(change.path, commit.position)
            for document in cast("ParsedFile", change.parsed).documents:
                kind = kind_of(document.key)
                if kind is not None and kind.folder == APPROVALS:
                    mark = approval_mark(Approval.from_document(document))
                    self.approvals_seen.setdefault(mark, min((ill_since, *gone)))

    # -- snapshots -----------------------------------------------------------------------------------------------

    def _derive(self, key: Key, commit: Commit) -> None:
        """Select anew for one placement; while a selected file is broken the question stays open."""
        declared = self._table(key).get(key)
        if declared is None:
            self._dirty.discard(key)
            return
        placement = cast("Placement", declared.value)
        self._derive_policy(declared, commit)
        try:
            selection = select(placement, self._resources)
        except SelectionError as error:
            self._dirty.discard(key)
            problem = problem_at(declared.document, "/spec/resourceSelectors", "InvalidResourceSelectors", str(error))
            self.selection_problems[declared.uid] = problem
            return
        self.selection_problems.pop(declared.uid, None)
        self.selections[declared.uid] = selection
        if any(one.path in self.broken or one.key in self.doubtful for one in selection.documents):
            return
        self._dirty.discard(key)
        self._number(declared, selection, commit)

    def _number(self, declared: Declared, selection: Selection, commit: Commit) -> None:
        snapshots = self.snapshots.setdefault(declared.uid, [])
        if not selection.objects:
            return
        equal = [one.index for one in snapshots if one.hash == selection.hash]
        sources = tuple(
            Source(path=one.path, blob=self.resources[one.key].blob, index=one.index) for one in selection.documents
        )
        for index in equal:  # the commits of a recorded snapshot may be lost: here is its content again
            self.sources.setdefault((declared.uid, index), sources)
        if snapshots and snapshots[-1].hash == selection.hash:
            return
        index = len(snapshots)
        snapshots.append(
            Snapshot(
                index=index,
                hash=selection.hash,
                commit=commit.sha,
                position=commit.position,
                created=commit.time,
                author=commit.author,
                subject=commit.subject,
                objects=tuple(_identifier(one) for one in selection.documents),
                equals=equal[-1] if equal else None,
            )
        )
        self.sources[declared.uid, index] = sources

    def _derive_policy(self, declared: Declared, commit: Commit) -> None:
        policies = self.policies.setdefault(declared.uid, [])
        policy = cast("Placement", declared.value).policy or {}
        digest = policy_hash(policy)
        if not policies or policies[-1].hash != digest:
            made = PolicySnapshot(
                index=len(policies), hash=digest, commit=commit.sha, created=commit.time, policy=policy
            )
            policies.append(made)

    # -- initialization ---------------------------------------------------------------------------------------------

    def _initialize(self, commit: Commit) -> None:
        """Try every run that is not initialized yet; the first success that has clusters is kept for good."""
        for declared in self.runs():
            last = self.initializations.get(declared.uid)
            if last is None or not (last.final or (last.pin is not None and last.pin.cluster_names)):
                last = self.initializations[declared.uid] = attempt(self, declared, commit)
            if last.pin is not None and cast("Run", declared.value).state is State.RUN:
                self.runnable.setdefault(declared.uid, commit.position)


def _named(parsed: ParsedFile) -> Named | None:
    """Return what a broken file mentions: by its text, or of one that is only refused by what it declares."""
    if parsed.named is None:
        return None
    keys = [document.key for document in parsed.documents]
    fields = ((one.kind, one.name, one.namespace) for one in keys)
    return parsed.named.union(*(zip(("kind", "name", "namespace"), one, strict=True) for one in fields))


def _replaces(gone: Declared, brought: Iterable[Declared]) -> bool:
    """Tell whether one of these runs is of the same placement as the object, a run, that is gone."""
    if not isinstance(gone.value, Run):
        return False
    names = {(one.key.kind, one.key.namespace, cast("Run", one.value).placement) for one in brought}
    return (gone.key.kind, gone.key.namespace, gone.value.placement) in names


def _defined(documents: Iterable[Document]) -> dict[tuple[str, str], bool]:
    """Return the scopes of the kinds that definitions among these define; a definition that leaves is not forgotten."""
    found = [defined_scope(one.body) for one in documents if (one.key.group, one.key.kind) == DEFINITION]
    return dict(one for one in found if one is not None)


def _misplaced(document: Document, scopes: Mapping[tuple[str, str], bool]) -> Iterator[Problem]:
    """Yield what is wrong with the namespace of an object whose kind the repository itself defines."""
    key = document.key
    namespaced = scopes.get((key.group, key.kind))
    if namespaced and not key.namespace:
        message = f"{key.kind} lives in a namespace; `metadata.namespace` is required"
        yield problem_at(document, "/metadata", "MissingNamespace", message)
    elif namespaced is False and key.namespace:
        message = f"{key.kind} does not live in a namespace"
        yield problem_at(document, "/metadata/namespace", "UnexpectedNamespace", message, "leave `namespace` out")


def _folder(path: str) -> str:
    return path.split("/", 1)[0]


def _identifier(document: Document) -> str:
    key = document.key
    name = f"{key.namespace}/{key.name}" if key.namespace else key.name
    return f"{document.body['apiVersion']} {key.kind} {name}"


def approval_mark(approval: Approval) -> tuple[Key, str]:
    """Return what makes an approval new or old: the gate's name, and the `Approved` condition as parsed."""
    return approval.key, canonical(approval.condition)


_POLICY_ORDER = ("placementType", "clusterNames", "affinity", "topologySpreadConstraints", "tolerations")


def policy_hash(policy: Body) -> str:
    """Return upstream's `policyHash`: base64 of the hex sha256 of the policy without `numberOfClusters`."""
    ordered: dict[str, Any] = {name: policy[name] for name in _POLICY_ORDER if policy.get(name)}
    digest = hashlib.sha256(json.dumps(ordered, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()
    return base64.b64encode(digest.encode()).decode()
