"""The application: the gate in front, one endpoint for every operation, errors as JSON."""

from __future__ import annotations

import hmac
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from welltuned import __version__
from welltuned.errors import InvalidType, InvalidValue, WelltunedError, require
from welltuned.server import describing, page, storing, studying, viewing
from welltuned.server.hub import Hub
from welltuned.server.operations import PACKED, Arguments, Operation, Ready
from welltuned.server.refusals import name_of, status_of
from welltuned.server.replays import Answer
from welltuned.server.schema import check, parse, record
from welltuned.server.shapes import COUNT, TEXT
from welltuned.storage import Storage
from welltuned.storage.wire import KEY_HEADER, LIMIT, PROTOCOL, PROTOCOL_HEADER, RETRY_HEADER, SERVER_HEADER

try:
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute, Route
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
except ImportError as error:
    raise require("starlette", "server", "welltuned serve") from error

log = logging.getLogger("welltuned")
JSON = "application/json"


async def _health(hub: Hub, a: Arguments) -> Any:
    return {"welltuned": __version__, "version": PROTOCOL, "server": hub.server, "authorized": a["authorized"]}


async def _describe(hub: Hub, a: Arguments) -> Any:  # noqa: ARG001 - one signature for all operations
    return describing.document(OPERATIONS)


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "GET",
        "/v1/health",
        "Tell that the server is there, which protocol it speaks, and whether it knows the token.",
        _health,
        record(
            "welltuned version server authorized",
            welltuned=TEXT,
            version=COUNT,
            server=TEXT,
            authorized={"type": "boolean"},
        ),
        public=True,
    ),
    Operation("GET", "/openapi.json", "Describe all operations.", _describe, {"type": "object"}, public=True),
    *viewing.OPERATIONS,
    *studying.OPERATIONS,
    *storing.OPERATIONS,
)


def make_app(
    storage: Storage, token: str, *, scheduler: Any = None, routes: Sequence[BaseRoute] = (), public: Sequence[str] = ()
) -> Starlette:
    """Return the application that serves a storage.

    Parameters
    ----------
    storage
        What is served. It stays open when the application ends.
    token
        What clients have to know.
    scheduler
        What judges the reports of workers in other languages, and is stored with studies that have none yet: a name
        out of ``welltuned.schedulers.SCHEDULERS``, or a scheduler.
    routes, public
        Further routes of Starlette behind the same gate; and the paths that it lets pass
        without the token.

    Raises
    ------
    InvalidValue
        For a token that no header can hold.
    """
    check_token(token)
    hub = Hub(storage, scheduler)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:  # noqa: ARG001 - Starlette's signature
        yield
        hub.close()

    app = Starlette(
        routes=[
            *(Route(o.path, _endpoint(hub, o, token), methods=[o.method], name=o.path) for o in OPERATIONS),
            *page.ROUTES,
            *routes,
        ],
        exception_handlers={HTTPException: _refused},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.hub = hub
    open_paths = {o.path for o in OPERATIONS if o.public} | page.PATHS | set(public)
    app.add_middleware(Gate, token=token, public=frozenset(open_paths), server=hub.server)
    return app


def check_token(token: Any) -> str:
    """Return a token that a header can hold.

    Raises
    ------
    InvalidType, InvalidValue
        For any other; the message does not show it.
    """
    if not isinstance(token, str):
        raise InvalidType("the token is not a string")
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise InvalidValue("the token must be printable ASCII without spaces, and not empty")
    return token


class Gate:
    """Let nobody pass who does not know the token, and mark every answer as one of welltuned's."""

    def __init__(self, app: ASGIApp, token: str, public: frozenset[str], server: str) -> None:
        self._app = app
        self._token = token
        self._public = public
        self._marks = [
            (PROTOCOL_HEADER.lower().encode(), str(PROTOCOL).encode()),
            (SERVER_HEADER.lower().encode(), server.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"cache-control", b"no-store"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # a websocket is closed by the server

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = message.get("headers", ())
                names = {name.lower() for name, _ in given}
                message["headers"] = [*given, *(mark for mark in self._marks if mark[0] not in names)]
            await send(message)

        if scope["path"] in self._public or _is_authorized(dict(scope["headers"]).get(b"authorization"), self._token):
            await self._app(scope, receive, marked)
        else:
            why = "the token is missing or wrong; send 'Authorization: Bearer …' with the one that was printed at start"
            response = _response(401, _error("Unauthorized", why))
            response.headers["WWW-Authenticate"] = "Bearer"
            await response(scope, receive, marked)


def _is_authorized(header: bytes | None, token: str) -> bool:
    kind, _, given = (header or b"").partition(b" ")
    return hmac.compare_digest(given.strip(), token.encode()) and kind.lower() == b"bearer"


class _TooLarge(Exception):
    """A body has more bytes than the server takes."""


def _endpoint(hub: Hub, operation: Operation, token: str) -> Callable[[Request], Awaitable[Response]]:
    """Return what answers the requests for one operation."""

    async def respond(request: Request) -> Response:
        try:
            content = await _content(request, operation)
        except ClientDisconnect:
            return _response(400, _error("InvalidValue", "the connection ended before the body did"))  # nobody reads it
        except _TooLarge:
            return _response(413, _error("TooLarge", f"the body has more than {LIMIT >> 20} MiB; send less at a time"))
        if content and operation.body is not None and not _is_json(request):
            expected = f"expected 'Content-Type: {JSON}', without 'Content-Encoding'"
            return _response(415, _error("UnsupportedMediaType", expected))

        async def act() -> Answer:
            return await _answer(hub, operation, request, content, token)

        key = request.headers.get(KEY_HEADER)
        if key is None or not operation.changes:
            return _response(*await act())
        if not re.fullmatch(describing.KEY, key):
            return _response(422, _error("InvalidValue", f"{KEY_HEADER} must be 1 to 200 letters, digits and hyphens"))
        try:
            return _response(*await hub.replays.once(key, request.url.path.encode() + b"\n" + content, act))
        except InvalidValue as error:
            return _response(422, _error("InvalidValue", str(error)))

    return respond


async def _content(request: Request, operation: Operation) -> bytes:
    """Return the body, unless it is too large, which is noticed before all of it has arrived."""
    if operation.body is None:
        return b""
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > LIMIT:
        raise _TooLarge
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > LIMIT:
            raise _TooLarge
        parts.append(part)
    return b"".join(parts)


def _is_json(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == JSON and request.headers.get("content-encoding", "identity").lower() == "identity"


async def _answer(hub: Hub, operation: Operation, request: Request, content: bytes, token: str) -> Answer:
    """Check the arguments, do it, and describe what came out or went wrong."""
    try:
        arguments = _arguments(operation, request, content)
        retried = request.headers.get(RETRY_HEADER)
        arguments["doubtful"] = retried is not None and retried != hub.server
        arguments["authorized"] = _is_authorized(request.headers.get("authorization", "").encode("latin-1"), token)
        arguments["packed"] = "gzip" in request.headers.get("accept-encoding", "")
        arguments["client"] = request.client.host if request.client else "unknown"
        found = await operation.handler(hub, arguments)
        answer = 200, found.content if isinstance(found, Ready) else _encode(found)
        if operation.changes:
            hub.tell()
        return answer
    except WelltunedError as error:
        return status_of(error), _error(name_of(error), str(error))
    except Exception:
        log.exception("the server failed at %s %s", operation.method, operation.path)
        return 500, _error("StorageError", "the server failed; its log says why")


def _arguments(operation: Operation, request: Request, content: bytes) -> dict[str, Any]:
    """Return what stands in the path, the query and the body, as the operation wants it."""
    found = {}
    for name in operation.parameters:
        found[name] = check(_literal(request.path_params[name], studying.PATH[name]), studying.PATH[name], name)
    for name, text in request.query_params.multi_items():
        if name not in operation.query:
            raise InvalidValue(f"the query has the unknown field {name[:80]!r}; expected are {list(operation.query)!r}")
        found[name] = check(_literal(text, operation.query[name]), operation.query[name], name)
    if operation.body is not None:
        body = parse(content) if content or operation.body_required else {}
        found |= check(body, operation.body, "the body")
    return found


def _literal(text: str, schema: Any) -> Any:
    """Read a whole number where one is expected."""
    if schema["type"] != "integer" or not re.fullmatch(r"-?[0-9]{1,19}", text, re.ASCII):
        return text
    return int(text)


def _encode(body: Any) -> bytes:
    try:
        return json.dumps(body, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:  # written by an older version, or past us
        return json.dumps(_finite(body), allow_nan=False, separators=(",", ":")).encode()


def _finite(value: Any) -> Any:
    """Leave out what is not finite, which JSON cannot hold."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items() if not _is_endless(v)}
    return [_finite(v) for v in value if not _is_endless(v)] if isinstance(value, (list, tuple)) else value


def _is_endless(value: Any) -> bool:
    return isinstance(value, float) and value - value != 0


def _error(kind: str, message: str) -> bytes:
    return json.dumps({"error": {"type": kind, "message": message}}).encode()


def _response(status: int, content: bytes) -> Response:
    packed = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"} if content.startswith(PACKED) else None
    return Response(content, status, packed, media_type=JSON)


async def _refused(request: Request, error: Exception) -> Response:  # noqa: ARG001 - Starlette's signature
    """Answer where there is no such path, or where it takes another method."""
    assert isinstance(error, HTTPException)
    kind = {404: "NotFound", 405: "MethodNotAllowed"}.get(error.status_code, "Refused")
    message = {404: "there is no such path; see /openapi.json", 405: "this path takes another method"}
    response = _response(error.status_code, _error(kind, message.get(error.status_code, str(error.detail))))
    response.headers.update(error.headers or {})
    return response
