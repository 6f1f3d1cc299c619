"""Every error that welltuned raises on purpose.

All of them derive from :class:`WelltunedError`; those about a value that was passed in also derive from the built-in
class one would expect (``ValueError``, ``TypeError``, ``ImportError``), so existing ``except`` clauses keep working.
"""

from __future__ import annotations


class WelltunedError(Exception):
    """Base of every error raised by welltuned."""


class InvalidValue(WelltunedError, ValueError):
    """A value that cannot be used; the message names it and says what to write instead."""


class InvalidType(WelltunedError, TypeError):
    """A value of a type that cannot be used; the message names it and says what was expected."""


class InactiveParameter(WelltunedError, KeyError):
    """A trial was asked for a parameter that it does not have: none has the name, or its condition does not hold."""

    def __str__(self) -> str:
        return Exception.__str__(self)  # a KeyError would quote it


class MissingDependency(WelltunedError, ImportError):
    """A feature needs an optional package; the message holds the command that installs it."""


class StorageError(WelltunedError, RuntimeError):
    """A storage cannot be opened, read or written. What was stored before stays as it is."""


class DamagedStorage(StorageError):
    """What a storage holds is not what was written to it: the file was cut off, or bits in it have changed. The message
    holds the command that saves the rest.
    """


class UnknownStudy(StorageError):
    """A study is not in its storage: somebody has deleted it, or the number is none of a study's."""


class StudyStopped(WelltunedError, RuntimeError):
    """``ask`` was called on a study that is over: its budget is used up, a rule stopped it, or its space is
    exhausted.
    """


class NoCompletedTrial(WelltunedError, ValueError):
    """The best trial was asked for, but no trial has completed yet."""


class TrackerError(WelltunedError, RuntimeError):
    """An experiment tracker cannot be reached, or refuses what it is given. What a study has stored stays as it is."""


class LeaseLost(WelltunedError, RuntimeError):
    """A result came for a trial that this process no longer owns."""


class Pruned(WelltunedError):
    """Raise it in an objective to end the trial as pruned."""


class Infeasible(WelltunedError):
    """Raise it in an objective for a configuration that cannot be evaluated; the sampler learns to avoid such ones."""


def require(module: str, extra: str, purpose: str) -> MissingDependency:
    """Build the error for an optional ``module`` that is needed for ``purpose`` and comes with ``extra``."""
    return MissingDependency(f"{purpose} needs the package {module!r}: pip install 'welltuned[{extra}]'")
