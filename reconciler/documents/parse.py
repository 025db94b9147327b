"""Whole files: bytes → documents that are correct in themselves, or problems.

Here a manifest is judged by itself: its folder, what every Kubernetes object must have, the schema of its kind.
What needs a second document (references, history) is judged elsewhere. Past this module nobody asks again whether
a name could escape from a URL or a path, or whether a declaration can be constructed.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Any

from reconciler import redact
from reconciler.core.model import (
    FOLDERS,
    KINDS,
    RESOURCES,
    Document,
    Key,
    Kind,
    Named,
    ParsedFile,
    Problem,
    parse_duration,
)
from reconciler.core.scopes import CLUSTER_SCOPED, NAMESPACED
from reconciler.documents import schema, yaml
from reconciler.documents.shapes import shape_problems

SUFFIXES = (".yaml", ".yml", ".json")
MAX_PROBLEMS = 20
LONGEST_WAIT = timedelta(hours=10_000_000)  # what is longer than a thousand years would end after time does

_ALIKE = 0.9
"""From this likeness (0 to 1) on a kind in our group is taken for a misspelt one of ours, and not for another one."""
_NAME_LENGTH = 253
_LABEL_LENGTH = 63
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(rf"{_LABEL.pattern}(\.{_LABEL.pattern})*")
_VERSION = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_KIND = re.compile(r"[A-Za-z]([-A-Za-z0-9]*[A-Za-z0-9])?")
_QUALIFIED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_NAMED = re.compile(r"""(?<![-\w./])["']?(kind|name|namespace)["']?[ \t]*:[ \t]*["']?([A-Za-z0-9][-\w.]*)""")
_RBAC_FORBIDDEN = re.compile(r"[/%?#\\\s]")
_RBAC_KINDS = ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")


def is_manifest(path: str) -> bool:
    """Tell whether a file of the repository holds manifests: in one of our folders, named .yaml, .yml or .json."""
    folder, slash, _ = path.partition("/")
    return bool(slash) and folder in FOLDERS and PurePosixPath(path).suffix.lower() in SUFFIXES


def parse(path: str, data: bytes) -> ParsedFile:
    """Read one file; `path` is relative to the repository, and `is_manifest` holds for it.

    Shape:   with problems (at most `MAX_PROBLEMS`) there are no documents. Empty documents are skipped.
    Raises:  nothing, whatever the bytes.
    """
    needs_lines = not path.startswith(f"{RESOURCES}/")
    parsed = _parse(path, data, lines=needs_lines)
    if parsed.problems and not needs_lines:
        again = _parse(path, data, lines=True)  # only now are they worth their cost
        return replace(again, named=_named(data))
    return parsed


def _named(data: bytes) -> Named:
    """Return what a text that may be no YAML at all mentions as a kind, name or namespace."""
    return frozenset(_NAMED.findall(data.decode(errors="replace")))


def kind_of(document: Document) -> Kind | None:
    """Return the row of `KINDS` that the document belongs to; None: any other Kubernetes manifest."""
    row = KINDS.get(document.kind)
    return row if row is not None and row.group == document.group else None


def _parse(path: str, data: bytes, *, lines: bool) -> ParsedFile:
    read = yaml.read(path, data, lines=lines)
    problems = list(read.problems)
    documents: dict[Key, Document] = {}
    for index, raw in enumerate(raw for raw in read.documents if raw.value is not None):
        document = Document(path=path, line=raw.line, index=index, body=raw.value, lines=raw.lines)
        if unreadable := _unreadable(document):
            problems += unreadable
            continue
        problems += _judge(document)
        problems += _duplicate(document, documents)
        documents.setdefault(document.key, document)
    if problems:
        return ParsedFile(problems=tuple(problems[:MAX_PROBLEMS]))
    return ParsedFile(documents=tuple(documents.values()))


def _judge(document: Document) -> list[Problem]:
    found = [*_place(document), *_name(document), *_scope(document), *_labels(document), *_annotations(document)]
    if kind_of(document) is None:
        return [*found, *shape_problems(document)]
    seen = {problem.pointer for problem in found}
    shape = [problem for problem in schema.check(document) if problem.pointer not in seen]
    return [*found, *shape] if found or shape else list(_stages(document))


def _problem(document: Document, pointer: str, rule: str, message: str, hint: str = "") -> Problem:
    line = document.line_of(pointer)
    return Problem(path=document.path, line=line, pointer=pointer, rule=rule, message=message, hint=hint)


# -- what every manifest must have -------------------------------------------------------------------------------


def _unreadable(document: Document) -> list[Problem]:
    """Return why the document cannot even be named: then nothing else is asked of it."""
    body: Any = document.body
    if not isinstance(body, dict):
        return [_problem(document, "", "NotAMapping", "a manifest is a mapping with apiVersion, kind and metadata")]
    if _is_list(body):
        return [_problem(document, "/kind", "ListKind", "lists are not read", "write one document per object")]
    found = [*_api_version(document, body.get("apiVersion")), *_kind(document, body.get("kind"))]
    metadata = body.get("metadata")
    if isinstance(metadata, dict):
        return found + _identity(document, metadata)
    return [*found, _problem(document, "/metadata", "InvalidMetadata", "`metadata` with a `name` is required")]


def _is_list(body: Mapping[str, Any]) -> bool:
    kind = str(body.get("kind"))
    return kind == "List" or (kind.endswith("List") and isinstance(body.get("items"), list))


def _api_version(document: Document, value: Any) -> Iterator[Problem]:
    if value is None:
        yield _problem(document, "/apiVersion", "InvalidApiVersion", "`apiVersion` is required")
        return
    group, slash, version = value.rpartition("/") if isinstance(value, str) else ("", "/", "")
    if not _VERSION.fullmatch(version) or len(version) > _LABEL_LENGTH or (slash and not _is_subdomain(group)):
        message = "`apiVersion` must be `version` or `group/version`, such as v1 or apps/v1"
        yield _problem(document, "/apiVersion", "InvalidApiVersion", message)


def _kind(document: Document, value: Any) -> Iterator[Problem]:
    if value is None:
        yield _problem(document, "/kind", "InvalidKind", "`kind` is required")
    elif not isinstance(value, str) or len(value) > _LABEL_LENGTH or not _KIND.fullmatch(value):
        yield _problem(document, "/kind", "InvalidKind", "`kind` must be letters and digits, such as ConfigMap")


def _identity(document: Document, metadata: Mapping[str, Any]) -> list[Problem]:
    found = []
    name, namespace = metadata.get("name"), metadata.get("namespace")
    if name is None and metadata.get("generateName") is not None:
        message = "`generateName` would make another object every time"
        found.append(_problem(document, "/metadata/generateName", "GenerateName", message, "give it a `name`"))
    elif not isinstance(name, str):
        text = "`metadata.name` is required" if name is None else "`metadata.name` must be a string"
        hint = "" if name is None else "put it in quotes"
        found.append(_problem(document, "/metadata/name", "InvalidName", text, hint))
    if namespace is not None and not isinstance(namespace, str):
        message = "`metadata.namespace` must be a string"
        found.append(_problem(document, "/metadata/namespace", "InvalidNamespace", message, "put it in quotes"))
    return found


# -- the folder ----------------------------------------------------------------------------------------------------


def _place(document: Document) -> Iterator[Problem]:
    """A kind outside its folder is an error: who owns a folder decides who may approve what is in it."""
    folder = document.path.partition("/")[0]
    row = kind_of(document)
    right = row.folder if row else RESOURCES
    if row is None and (meant := _misspelt(document)):
        message = f"there is no kind {document.kind} in group {document.group}"
        yield _problem(document, "/kind", "UnknownKind", message, f"did you mean `{meant}`?")
        return
    if folder == right:
        return
    if row is None and document.kind in KINDS:
        group = KINDS[document.kind].group
        message = f"a {document.kind} here has the apiVersion {group}/v1beta1 or {group}/v1"
        yield _problem(document, "/apiVersion", "InvalidApiVersion", message)
        return
    message = f"{document.kind} belongs in {right}/, not in {folder}/"
    kinds = " and ".join(row.kind for row in KINDS.values() if row.folder == folder)
    hint = f"{folder}/ holds {kinds} only" if kinds else ""
    yield _problem(document, "/kind", "WrongFolder", message, hint)


def _misspelt(document: Document) -> str:
    """Return the kind of ours that is meant by one of our group that we do not have; empty for none."""
    ours = [kind for kind, row in KINDS.items() if row.group == document.group and kind != document.kind]
    return next(iter(difflib.get_close_matches(document.kind, ours, n=1, cutoff=_ALIKE)), "")


# -- names and namespaces ------------------------------------------------------------------------------------------


def _is_subdomain(text: str) -> bool:
    return 0 < len(text) <= _NAME_LENGTH and _SUBDOMAIN.fullmatch(text) is not None


def _name(document: Document) -> Iterator[Problem]:
    """A name becomes a part of URLs and paths, so it is checked before anything is done with it."""
    name = document.key.name
    if document.group == "rbac.authorization.k8s.io" and document.kind in _RBAC_KINDS:
        if (
            name in ("", ".", "..")
            or len(name) > _NAME_LENGTH
            or _RBAC_FORBIDDEN.search(name)
            or not name.isprintable()
        ):
            message = f"`{redact.line(name, 80)}` cannot be a name: white space and / % ? # \\ are not allowed in it"
            yield _problem(document, "/metadata/name", "InvalidName", message)
    elif not _is_subdomain(name):
        message = (
            f"`{redact.line(name, 80)}` cannot be a name: up to 253 lower case letters, digits, `-` and `.`,"
            " beginning and ending with a letter or digit"
        )
        yield _problem(document, "/metadata/name", "InvalidName", message)


def _scope(document: Document) -> Iterator[Problem]:
    namespace, namespaced = document.key.namespace, _is_namespaced(document)
    if namespaced and not namespace:
        message = f"{document.kind} lives in a namespace; `metadata.namespace` is required"
        yield _problem(document, "/metadata", "MissingNamespace", message)
    elif namespace and namespaced is False:
        message = f"{document.kind} does not live in a namespace"
        yield _problem(document, "/metadata/namespace", "UnexpectedNamespace", message, "leave `namespace` out")
    elif namespace and (len(namespace) > _LABEL_LENGTH or not _LABEL.fullmatch(namespace)):
        message = (
            f"`{redact.line(namespace, 80)}` cannot be a namespace: up to 63 lower case letters, digits and `-`,"
            " beginning and ending with a letter or digit"
        )
        yield _problem(document, "/metadata/namespace", "InvalidNamespace", message)


def _is_namespaced(document: Document) -> bool | None:
    """Return whether the kind lives in a namespace; None: nobody here knows."""
    row = kind_of(document)
    if row is not None:
        return row.namespaced
    kind = (document.group, document.kind)
    return True if kind in NAMESPACED else False if kind in CLUSTER_SCOPED else None


# -- labels and annotations ----------------------------------------------------------------------------------------


def _labels(document: Document) -> Iterator[Problem]:
    for pointer, key, value in _entries(document, "labels"):
        if not isinstance(value, str):
            yield _problem(document, pointer, "InvalidLabel", "labels are a mapping of strings", "use quotes")
        elif not _is_label_key(key):
            yield _problem(document, pointer, "InvalidLabel", f"`{redact.line(key, 80)}` cannot be a label's key")
        elif len(value) > _LABEL_LENGTH or (value and not _QUALIFIED.fullmatch(value)):
            message = (
                "a label's value is at most 63 letters, digits, `-`, `_` and `.`,"
                " beginning and ending with a letter or digit"
            )
            yield _problem(document, pointer, "InvalidLabel", message)


def _annotations(document: Document) -> Iterator[Problem]:
    for pointer, key, value in _entries(document, "annotations"):
        if not isinstance(value, str):
            yield _problem(document, pointer, "InvalidAnnotation", "annotations are a mapping of strings", "use quotes")
        elif not _is_label_key(key.lower()):
            message = f"`{redact.line(key, 80)}` cannot be an annotation's key"
            yield _problem(document, pointer, "InvalidAnnotation", message)


def _entries(document: Document, field: str) -> Iterator[tuple[str, str, Any]]:
    """Give pointer, key and value of each entry; a field that is no mapping counts as an entry without a value."""
    entries = document.metadata.get(field)
    if entries is None:
        return
    if not isinstance(entries, dict):
        yield f"/metadata/{field}", "", None
        return
    for key, value in entries.items():
        yield f"/metadata/{field}/{yaml.escape(key)}", key, value


def _is_label_key(key: str) -> bool:
    prefix, slash, name = key.rpartition("/")
    return len(name) <= _LABEL_LENGTH and bool(_QUALIFIED.fullmatch(name)) and (not slash or _is_subdomain(prefix))


# -- what a schema cannot say --------------------------------------------------------------------------------------


def _duplicate(document: Document, before: Mapping[Key, Document]) -> Iterator[Problem]:
    if other := before.get(document.key):
        message = f"{redact.line(str(document.key), 200)} is already declared in line {other.line}"
        yield _problem(document, "/metadata/name", "DuplicateObject", message)


def _stages(document: Document) -> Iterator[Problem]:
    """Check the stages of a strategy whose shape is right; two stages of one name would share their approvals."""
    spec = document.body.get("spec") or {}
    names: set[str] = set()
    for position, stage in enumerate(spec.get("stages") or ()):
        pointer = f"/spec/stages/{position}"
        if stage["name"] in names:
            message = f"the stage name `{stage['name']}` is there twice"
            yield _problem(document, f"{pointer}/name", "DuplicateStage", message, "approvals are named after stages")
        names.add(stage["name"])
        for index, task in enumerate(stage.get("afterStageTasks") or ()):
            if "waitTime" in task and not _is_bearable(task["waitTime"]):
                message = f"the wait is longer than {LONGEST_WAIT // timedelta(hours=1)} hours"
                yield _problem(document, f"{pointer}/afterStageTasks/{index}/waitTime", "WaitTooLong", message)


def _is_bearable(wait: str) -> bool:
    try:
        return parse_duration(wait) <= LONGEST_WAIT
    except OverflowError:
        return False
