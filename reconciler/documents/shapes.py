"""The shapes of Kubernetes manifests that selecting and hashing rely on; an API server would refuse the others too.

Only what a placement reads is asked for: this is no schema of Kubernetes.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.core.model import Document, Problem

_MAPS = {
    ("", "ConfigMap"): ("data", "binaryData"),
    ("", "Secret"): ("data", "stringData"),
}
_SPECS = {("", "Namespace"), ("", "Service"), ("batch", "Job")}


def shape_problems(document: Document) -> Iterator[Problem]:
    """Yield what of a manifest has another shape than its kind has everywhere."""
    key, body = (document.group, document.kind), document.body
    for name in _MAPS.get(key, ()):
        yield from _strings(document, name, body.get(name))
    yield from _lists(document)
    if key not in _SPECS:
        return
    spec = body.get("spec")
    if spec is None:
        return
    if not isinstance(spec, Mapping):
        yield _wrong(document, "/spec", "a mapping")
        return
    if key == ("", "Service"):
        yield from _service(document, spec)
    if key == ("batch", "Job"):
        yield from _job(document, spec)


def _strings(document: Document, name: str, value: Any) -> Iterator[Problem]:
    if value is not None and not isinstance(value, Mapping):
        yield _wrong(document, f"/{name}", "a mapping")
        return
    for key, one in (value or {}).items():
        if not isinstance(one, str):
            yield _wrong(document, f"/{name}/{key}", "text: put it in quotes")


def _lists(document: Document) -> Iterator[Problem]:
    owners = document.metadata.get("ownerReferences")
    if owners is not None and not isinstance(owners, list):
        yield _wrong(document, "/metadata/ownerReferences", "a list")


def _service(document: Document, spec: Mapping[str, Any]) -> Iterator[Problem]:
    ports = spec.get("ports", [])
    if not isinstance(ports, list) or not all(isinstance(port, Mapping) for port in ports):
        yield _wrong(document, "/spec/ports", "a list of mappings")


def _job(document: Document, spec: Mapping[str, Any]) -> Iterator[Problem]:
    selector, template = spec.get("selector"), spec.get("template")
    yield from _mappings(document, "/spec/selector", selector, ("matchLabels",))
    yield from _mappings(document, "/spec/template", template, ("metadata",))
    metadata = template.get("metadata") if isinstance(template, Mapping) else None
    if isinstance(metadata, Mapping):
        yield from _mappings(document, "/spec/template/metadata", metadata, ("labels",))


def _mappings(document: Document, pointer: str, value: Any, inner: tuple[str, ...]) -> Iterator[Problem]:
    if value is not None and not isinstance(value, Mapping):
        yield _wrong(document, pointer, "a mapping")
        return
    for name in inner:
        held = (value or {}).get(name)
        if held is not None and not isinstance(held, Mapping):
            yield _wrong(document, f"{pointer}/{name}", "a mapping")


def _wrong(document: Document, pointer: str, what: str) -> Problem:
    line = document.line_of(pointer)
    message = f"`{pointer.rpartition('/')[2]}` of a {document.kind} is {what}"
    return Problem(path=document.path, line=line, pointer=pointer, rule="WrongShape", message=message)
