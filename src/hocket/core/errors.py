"""Errors that a user can act on.

A :class:`HocketError` is about the user's data, recipe, files or machine. It says where, what and
what to do, and the command line prints it without a traceback. A programming error is never turned
into one.
"""

from __future__ import annotations

EXIT_FAILED = 1
EXIT_USAGE = 2


class HocketError(Exception):
    """Something outside the code is wrong; ``hint`` says what to do about it."""

    exit_code = EXIT_FAILED

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message if not hint else f"{message}\n  {hint}")
        self.message = message
        self.hint = hint


class UsageError(HocketError):
    """The command or the recipe asks for something that cannot be: exit status 2."""

    exit_code = EXIT_USAGE


class RecipeError(UsageError):
    """A recipe does not say what it must, or says what nobody knows."""


class CorpusError(HocketError):
    """A corpus, manifest or index cannot be used as it is."""


class AudioError(HocketError):
    """One audio file cannot be read. Callers list the utterance and go on with the others."""


class CheckpointError(HocketError):
    """A checkpoint is torn, altered, or of another model."""


class RunError(HocketError):
    """A run folder is in use, missing or in a state that does not allow what was asked."""


class WorkerLost(HocketError):
    """A worker process ended or fell silent; the message names it."""
