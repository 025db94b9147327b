"""Files that declare something and do not count: broken, or where nobody reads them."""

import shlex

from reconciler.commands.opening import Fleet
from reconciler.commands.reasons import Because
from reconciler.core.model import KINDS, Problem
from reconciler.daemon.derive import FILE_LIMIT
from reconciler.documents import yaml
from reconciler.documents.parse import SUFFIXES, is_manifest
from reconciler.git import history as log

_LOOKED_AT = 500
"""So many files outside our folders are looked into."""


def why_not_there(fleet: Fleet, kind: str, namespace: str, name: str) -> tuple[Because, ...]:
    """Find files that declare an object, or seem to, and say why they do not count."""
    view, git = fleet.derivation.view, fleet.source.git
    if view.head is None:
        return ()
    there = {one.path: one.blob for one in log.listing(git, view.head.sha) if one.is_content and one.blob}
    broken = [path for path in view.broken if path in there]
    outside = [path for path in there if path.endswith(SUFFIXES) and not is_manifest(path)][:_LOOKED_AT]
    blobs = log.read_blobs(git, [there[path] for path in (*broken, *outside)], limit=FILE_LIMIT)
    wanted, found = (kind, namespace, name), []
    for path in (*broken, *outside):
        said = _says(path, blobs.get(there[path], b""), wanted)
        if said and path in view.broken:
            found.append(_in_broken(view.broken[path][0], said))
        elif said == _DECLARES:
            found.append(_outside(path, kind))
    return tuple(found)


_DECLARES, _MENTIONS = "declares", "mentions"


def _says(path: str, data: bytes, wanted: tuple[str, str, str]) -> str:
    """Return whether a file declares an object, or (one that cannot be read) at least mentions its name."""
    read = yaml.read(path, data)
    for body in (one.value for one in read.documents if isinstance(one.value, dict)):
        metadata = body.get("metadata")
        if (
            isinstance(metadata, dict)
            and (body.get("kind"), metadata.get("namespace") or "", metadata.get("name")) == wanted
        ):
            return _DECLARES
    return _MENTIONS if read.problems and wanted[2].encode() in data else ""


def _in_broken(problem: Problem, said: str) -> Because:
    who = f"whoever may merge to {problem.path}"
    return Because(
        message=f"{problem.path} {said} it and does not count: {problem}", who=who, command="reconciler validate"
    )


def _outside(path: str, kind: str) -> Because:
    folder = KINDS[kind].folder
    return Because(
        message=f"{path} declares it, and files there are not read: a {kind} belongs below {folder}/",
        who=f"whoever may merge to {folder}/",
        command=shlex.join(("git", "mv", path, f"{folder}/")),
    )
