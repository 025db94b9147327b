"""Which removals are reverts: git's own sentence in the message, or the title that forges put in its place."""

import re
from collections.abc import Iterable

_SENTENCE = re.compile(r"\b(?:This reverts|Reverts|Reverted) commit [`']?([0-9a-f]{7,64})\b")
_SUBJECT = re.compile(r"^[Rr]evert ([0-9a-f]{40}|[0-9a-f]{64})$")
"""Gitea's default subject."""
_QUOTED = re.compile(r"""^Revert (["'])(.+)\1""")
_MERGED = re.compile(r"^Merged PR \d+: ")
"""What Azure DevOps puts in front of the title of a pull request."""
_NUMBER = re.compile(r" \((?:[#!]|pull request #)\d+\)$")
"""The number of a pull request, as forges append it to a title."""


def reverted_ids(message: str) -> tuple[str, ...]:
    """Return the ids that a commit message says it reverts, full or abbreviated, in order."""
    return (*_SUBJECT.findall(message.partition("\n")[0]), *_SENTENCE.findall(message))


def titles(message: str) -> tuple[str, ...]:
    """Return what a message may be known by: its subject, and the line below it, where merges have the request's."""
    lines = [line for line in message.split("\n") if line.strip()]
    return tuple(_MERGED.sub("", line) for line in lines[:2])


def reverts_title(message: str, brought: Iterable[str]) -> bool:
    """Tell whether one of the message's titles says that it reverts something with one of these titles."""
    mine = titles(message)
    return any(_takes_back(one, title) for one in mine for title in brought if title)


def _takes_back(title: str, reverted: str) -> bool:
    quoted = _QUOTED.match(title)
    return quoted is not None and not {quoted[2], _NUMBER.sub("", quoted[2])}.isdisjoint(
        {reverted, _NUMBER.sub("", reverted)}
    )
