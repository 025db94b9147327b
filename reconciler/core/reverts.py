"""Which removals are reverts: git's own sentence in the message, or the subject that forges put in its place."""

import re
from collections.abc import Iterable

_SENTENCE = re.compile(r"\bThis reverts commit ([0-9a-f]{7,64})\b")
_NUMBER = re.compile(r" \([#!]\d+\)$")
"""The number of a pull request, as forges append it to the subject of a squashed commit."""


def reverted_ids(message: str) -> tuple[str, ...]:
    """Return the ids that a commit message says it reverts, full or abbreviated, in order."""
    return tuple(_SENTENCE.findall(message))


def reverts_subject(message: str, subjects: Iterable[str]) -> bool:
    """Tell whether the message's subject says that it reverts a commit with one of these subjects."""
    subject = message.partition("\n")[0]
    return any(subject.startswith(f'Revert "{one}') for one in subjects if one) or any(
        subject.startswith(f'Revert "{_NUMBER.sub("", one)}"') for one in subjects if one
    )
