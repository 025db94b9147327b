"""Errors by fate: what happens next decides the class (a person's file is no error, but a `Problem`)."""


class ReconcilerError(Exception):
    """Base of everything this package raises on purpose; its text is fit to be shown to a person."""


class TemporaryError(ReconcilerError):
    """The world is unwell: the same step is tried again later, with back-off."""


class PermanentError(ReconcilerError):
    """This content cannot go to this member as it is: tried again only slowly, or when something changes."""


class UsageError(ReconcilerError):
    """The command or its settings are wrong; exit code 2."""


class RefusedError(ReconcilerError):
    """A rule forbids what was asked; the text names the rule; exit code 4."""
