"""Errors by fate: what happens next decides the class (a person's file is no error, but a `Problem`)."""


class ReconcilerError(Exception):
    """Base of everything this package raises on purpose; its text is fit to be shown to a person.

    `turned_away`: a member gave this answer before anything of a placement was asked, so it is about all of them.
    """

    turned_away = False


class TemporaryError(ReconcilerError):
    """The world is unwell: the same step is tried again later, with back-off, and not before the pause it asked for."""

    def __init__(self, message: str = "", *, pause_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.pause_seconds = pause_seconds


class RaceLostError(TemporaryError):
    """Somebody else pushed to the branch at the same moment: what was to be done is begun again from what is there."""


class PermanentError(ReconcilerError):
    """This content cannot go to this member as it is: tried again only slowly, or when something changes."""


class UsageError(ReconcilerError):
    """The command or its settings are wrong; exit code 2."""


class RefusedError(ReconcilerError):
    """A rule forbids what was asked; the text names the rule; exit code 4."""
