"""Why the server says no, and how it says it: a status, and the name of the error that a client raises."""

from __future__ import annotations

from welltuned import errors
from welltuned.errors import WelltunedError
from welltuned.server.schema import Malformed


class NotFound(WelltunedError):
    """There is no such study or trial. ``kind`` is what the client raises."""

    def __init__(self, message: str, kind: type[WelltunedError] = errors.InvalidValue) -> None:
        super().__init__(message)
        self.kind = kind


class Doubt(errors.StorageError):
    """What a client asks for may have been done before the server was started."""


def status_of(error: WelltunedError) -> int:
    """Return the status that says what kind of error it is."""
    match error:
        case NotFound() | errors.UnknownStudy():
            return 404
        case Malformed():
            return 400
        case errors.InvalidValue() | errors.InvalidType():
            return 422
        case Doubt() | errors.LeaseLost() | errors.StudyStopped() | errors.NoCompletedTrial():
            return 409
        case errors.StorageError() | errors.MissingDependency():
            return 503
        case _:
            return 422


def name_of(error: WelltunedError) -> str:
    """Return the name of the class that the client raises: one of ours that it knows."""
    if isinstance(error, NotFound):
        return error.kind.__name__
    return next(kind.__name__ for kind in type(error).__mro__ if hasattr(errors, kind.__name__))
