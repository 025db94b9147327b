"""The one filter before anything leaves: Secret values and terminal escapes.

Every text that is printed, logged, committed to the status branch or put into an error goes through here.
"""

import re
from typing import Any

REDACTED = "(redacted)"

# C0 and C1 controls but tab and newline, bidirectional overrides, line and paragraph separators,
# and lone surrogates, which stand for the bytes of a path that is not UTF-8
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_USERINFO = re.compile(r"(\b[a-zA-Z][a-zA-Z0-9+.-]*://)(?:[^/\s@]*@)+")


def text(value: str) -> str:
    r"""Return the text with control and bidirectional characters shown as `\u00XX`, and no credentials in URLs.

    What it returns stays as it is when it goes through here again. It is for what people wrote, not for JSON or YAML of
    it, where what looks like a URL may end in another value: see `body`.
    """
    if value.isprintable() and "://" not in value:  # as nearly all are
        return value
    value = _USERINFO.sub(r"\1", value)
    return _UNSAFE.sub(lambda match: f"\\u{ord(match.group()):04x}", value)


def line(value: str, limit: int = 500) -> str:
    """Return the text as one safe line of at most `limit` characters."""
    safe = text(" ".join(value.split("\n")).strip())
    return safe if len(safe) <= limit else safe[: limit - 1] + "…"


def markdown(value: str) -> str:
    """Return the text as one safe line that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~])", r"\\\1", line(value))


def body(manifest: Any) -> Any:
    """Return a manifest (or a list of them, at any depth) with safe texts and the values of every Secret replaced."""
    if isinstance(manifest, str):
        return text(manifest)
    if isinstance(manifest, dict):
        if manifest.get("kind") == "Secret":
            manifest = {key: _hidden(key, value) for key, value in manifest.items()}
        # most values are texts
        return {key: text(value) if type(value) is str else body(value) for key, value in manifest.items()}
    return [body(one) for one in manifest] if isinstance(manifest, list | tuple) else manifest


def _hidden(key: str, value: Any) -> Any:
    if key in ("data", "stringData") and isinstance(value, dict):
        return dict.fromkeys(value, REDACTED)
    if key == "metadata" and isinstance(value, dict) and value.get("annotations"):
        kept = {
            name: REDACTED if name.endswith("last-applied-configuration") else text
            for name, text in value["annotations"].items()
        }
        return {**value, "annotations": kept}
    return value
