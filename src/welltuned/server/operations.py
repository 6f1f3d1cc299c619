"""What an operation of the server is: one row of the table behind routes, checks and description."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from welltuned.server.hub import Hub
from welltuned.server.schema import Schema

Arguments = Mapping[str, Any]
Handler = Callable[[Hub, Arguments], Awaitable[Any]]
STATUSES = {
    400: "The body is not JSON.",
    401: "The token is missing or wrong.",
    404: "There is no such study or trial.",
    409: "It cannot be done now: the claim is lost, or the study is over.",
    413: "The body is too large.",
    415: "The body is not declared as application/json.",
    422: "A value is missing, unknown, of another type or out of bounds.",
    500: "The server failed; its log says why.",
    503: "The storage behind the server cannot be read or written now.",
}


@dataclass(frozen=True)
class Ready:
    """An answer that is JSON already, packed by gzip where it begins with :data:`PACKED`."""

    content: bytes


PACKED = b"\x1f\x8b"  # which no JSON begins with


@dataclass(frozen=True)
class Operation:
    """One thing that a client may ask for.

    ``body`` describes the JSON object that is sent, ``query`` the parameters after the path; what stands in the path
    is described by :data:`PATH`. The handler receives all of them by name.
    """

    method: str
    path: str
    summary: str
    handler: Handler
    answer: Schema
    body: Schema | None = None
    query: Mapping[str, Schema] = field(default_factory=dict)
    changes: bool = False
    public: bool = False
    what: str = ""

    @property
    def parameters(self) -> list[str]:
        """Names in the path."""
        return [part[1:-1] for part in self.path.split("/") if part.startswith("{")]

    @property
    def body_required(self) -> bool:
        """Whether something must be sent."""
        return bool(self.body and self.body.get("required"))

    @property
    def errors(self) -> list[int]:
        """Statuses with which it may be refused."""
        if self.public:
            return [422, 500]
        found = [401, 422, 500, 503]
        found += [400, 413, 415] if self.body is not None else []
        found += [404] if self.parameters or (self.body and {"study", "studies"} & {*self.body["properties"]}) else []
        found += [409] if self.changes else []
        return sorted(found)
