"""Which removals are reverts: git's own sentence in the removing commit's message."""

import re

_SENTENCE = re.compile(r"This reverts commit ([0-9a-f]{7,40})")


def reverts(message: str) -> tuple[str, ...]:
    """Return the ids that a commit message says it reverts, full or abbreviated, in order."""
    return tuple(_SENTENCE.findall(message))
