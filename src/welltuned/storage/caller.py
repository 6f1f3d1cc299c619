"""Requests to a server of studies that survive its restarts, over connections that are kept open."""

from __future__ import annotations

import http.client
import json
import os
import re
import selectors
import ssl
import sys
import threading
import time
import uuid
from typing import Any
from urllib.parse import unquote, urlsplit

from welltuned import errors
from welltuned.errors import InvalidType, InvalidValue, StorageError, WelltunedError
from welltuned.storage.masking import masked
from welltuned.storage.wire import KEY_HEADER, LIMIT, PROTOCOL, PROTOCOL_HEADER, RETRY_HEADER, SERVER_HEADER, encode

TOKEN = "WELLTUNED_TOKEN"
TIMEOUT = 30.0  # seconds without a sign of life after which a connection is taken for dead
HASTE = 2.0  # seconds that a server may be away for whoever is on the way out after Ctrl-C
GATEWAY = (502, 503, 504)  # what a reverse proxy says while the server behind it is away
KEPT = 8  # idle connections


class Caller:
    """Send requests to the server at ``url``, again and again for up to ``patience`` seconds while it is away.

    Every change carries a key of its own, by which the server knows it again: done twice, it counts once. Where a
    ``KeyboardInterrupt`` is being handled, which gives claims back, a server that is away ends that soon, and the
    interrupt goes on. Safe for threads; a forked child opens its own connections.
    """

    def __init__(self, url: str, token: str | None, patience: float) -> None:
        self.url, given = _split(url)
        self.where = f"storage {self.url!r}"
        self.token = _check_token(token or given or os.environ.get(TOKEN), self.where)
        self.patience = patience
        parts = urlsplit(self.url)
        self._address, self._prefix = (parts.hostname or "", parts.port), parts.path.rstrip("/")
        self._context = ssl.create_default_context() if parts.scheme == "https" else None
        self._server = "?"  # which start of the server answered last
        self._renew_pool()

    def _renew_pool(self) -> None:
        self._pid, self._lock, self._idle = os.getpid(), threading.Lock(), list[http.client.HTTPConnection]()

    def get(self, path: str, patience: float | None = None) -> Any:
        """Return what the server answers."""
        return self._again("GET", path, None, {}, 0.0, patience)

    def post(self, path: str, body: Any, *, changes: bool, wait: float = 0.0) -> Any:
        """Return what the server answers, which may take ``wait`` seconds longer than usual."""
        payload = encode(body)
        if len(payload) > LIMIT:
            raise InvalidValue(
                f"{self.where}: the request has {len(payload) >> 20} MiB, and the server takes {LIMIT >> 20} at once; "
                "send less at a time"
            )
        headers = {"Content-Type": "application/json", **({KEY_HEADER: uuid.uuid4().hex} if changes else {})}
        return self._again("POST", path, payload, headers, wait, None)

    def _again(
        self,
        method: str,
        path: str,
        payload: bytes | None,
        headers: dict[str, str],
        wait: float,
        patience: float | None,
    ) -> Any:
        patience, leaving = self.patience if patience is None else patience, sys.exc_info()[1]
        if isinstance(leaving, KeyboardInterrupt):
            patience = min(patience, HASTE)
        deadline, pause, server = time.monotonic() + patience + wait, 0.05, self._server
        while True:
            attempt = _Attempt(method, self._prefix + path, payload, {**headers, **self._headers()})
            try:
                return self._once(attempt, min(TIMEOUT + wait, max(deadline - time.monotonic(), 0.1)))
            except (OSError, http.client.HTTPException) as error:
                self._refuse(error)
                if time.monotonic() + pause >= deadline:
                    if isinstance(leaving, KeyboardInterrupt):  # it goes on; what is held runs out by itself
                        raise leaving from error
                    raise self._away(error, patience) from error
                if attempt.sent:
                    headers = {**headers, RETRY_HEADER: server}
            time.sleep(pause)
            pause = min(2 * pause, 2.0)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}", "Accept": "application/json", "User-Agent": "welltuned"}

    def _once(self, attempt: _Attempt, timeout: float) -> Any:
        """Send a request once and read the answer; the connection goes back to the others if it is still of use."""
        connection = self._take(timeout)
        try:
            if connection.sock is None:
                connection.connect()
            connection.sock.settimeout(timeout)
            attempt.sent = True
            connection.request(attempt.method, attempt.path, attempt.payload, attempt.headers)
            response = connection.getresponse()
            data = response.read()
        except BaseException:
            connection.close()
            raise
        if response.will_close:
            connection.close()
        else:
            self._keep(connection)
        return self._read(response, data)

    def _take(self, timeout: float) -> http.client.HTTPConnection:
        if self._pid != os.getpid():
            for connection in self._idle:  # the parent's, whose own ends stay open
                connection.close()
            self._renew_pool()
        while True:
            with self._lock:
                kept = self._idle.pop() if self._idle else None
            if kept is None:
                break
            if not _is_stale(kept):
                return kept
            kept.close()
        host, port = self._address
        if self._context is not None:
            return http.client.HTTPSConnection(host, port, timeout=min(timeout, 10.0), context=self._context)
        return http.client.HTTPConnection(host, port, timeout=min(timeout, 10.0))

    def _keep(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if len(self._idle) < KEPT:
                self._idle.append(connection)
                return
        connection.close()

    def _read(self, response: http.client.HTTPResponse, data: bytes) -> Any:
        protocol = response.getheader(PROTOCOL_HEADER)
        if protocol is None:
            if response.status in GATEWAY:
                raise http.client.HTTPException(f"a proxy answers {response.status}")
            raise StorageError(
                f"{self.where}: what answers there ({response.status} {response.reason}) is no server of welltuned; "
                "give the address that 'welltuned serve' printed"
            )
        if protocol != str(PROTOCOL):
            raise StorageError(
                f"{self.where}: the server speaks version {protocol[:20]!r} of the protocol and this welltuned version "
                f"{PROTOCOL}; install the same version of welltuned on both sides"
            )
        self._server = response.getheader(SERVER_HEADER) or "?"
        try:
            body = json.loads(data)
            if response.status < 400:
                return body
            kind, message = str(body["error"]["type"]), str(body["error"]["message"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise StorageError(f"{self.where}: the answer of the server ({response.status}) cannot be read") from None
        raise self._error(response.status, kind, message)

    def unauthorized(self) -> StorageError:
        """Build the error for a token that the server does not know."""
        printed = "the one that 'welltuned serve' printed"
        return StorageError(f"{self.where}: the server does not know the token; set {TOKEN} to {printed}")

    def _error(self, status: int, kind: str, message: str) -> WelltunedError:
        if status == 401:
            return self.unauthorized()
        found = getattr(errors, kind, None)
        known = isinstance(found, type) and issubclass(found, WelltunedError)
        return found(message) if known else StorageError(f"{self.where}: {message}")  # type: ignore[misc]

    def _refuse(self, error: Exception) -> None:
        """Raise at once what trying again cannot help."""
        if isinstance(error, ssl.SSLCertVerificationError):
            raise StorageError(f"{self.where}: its certificate is not trusted: {error.verify_message}") from error
        if isinstance(error, ssl.SSLError) and "WRONG_VERSION" in str(error):
            raise StorageError(f"{self.where}: the server does not speak https; write http://") from error
        # a server that hangs up is one of these as well
        if isinstance(error, http.client.BadStatusLine) and not isinstance(error, http.client.RemoteDisconnected):
            raise StorageError(
                f"{self.where}: what answers there does not speak http; give the address that 'welltuned serve' printed"
            ) from error

    def _away(self, error: Exception, patience: float) -> StorageError:
        why = "no answer" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        return StorageError(
            f"{self.where}: not reached in {patience:g} seconds ({why}); is 'welltuned serve' running there? "
            "Everything stored so far is kept"
        )

    def close(self) -> None:
        """Close the connections. The next request opens one again."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def __del__(self) -> None:
        # a study that is dropped drops its storage, and nobody closes that
        for connection in getattr(self, "_idle", ()):
            connection.close()


class _Attempt:
    """One try of a request, and whether the server may have seen it."""

    def __init__(self, method: str, path: str, payload: bytes | None, headers: dict[str, str]) -> None:
        self.method, self.path, self.payload, self.headers = method, path, payload, headers
        self.sent = False


def _is_stale(connection: http.client.HTTPConnection) -> bool:
    """Tell whether the other side has hung up: there is something to read, although nothing was asked."""
    if connection.sock is None:
        return True
    with getattr(selectors, "PollSelector", selectors.SelectSelector)() as selector:
        selector.register(connection.sock, selectors.EVENT_READ)
        return bool(selector.select(0))


def _split(url: Any) -> tuple[str, str | None]:
    """Return an address without the token in it, and the token."""
    if not isinstance(url, str):
        raise InvalidType(f"storage={url!r} is not an address")
    hidden, advice = masked(url), "write http://host:8642"
    if "@" in url:  # whatever cannot be read may be a token
        advice += f", percent-encode the token, or use {TOKEN}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its text quotes what may be part of the token
        raise InvalidValue(f"storage={hidden!r} cannot be read; {advice}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"[\x00-\x20\x7f-\uffff]", url):
        raise InvalidValue(f"storage={hidden!r} is not the address of a server; {advice}")
    if parts.query or parts.fragment or "@" in parts.path:
        raise InvalidValue(f"storage={hidden!r} goes on after the path; {advice}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    token = unquote(parts.password or parts.username or "")
    return f"{parts.scheme}://{host}{'' if port is None else f':{port}'}{parts.path.rstrip('/')}", token or None


def _check_token(token: Any, where: str) -> str:
    if not token:
        raise StorageError(f"{where} needs a token: set {TOKEN} to the one that 'welltuned serve' printed")
    if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]+", token):
        raise InvalidValue(f"{where}: the token must be printable ASCII without spaces; check {TOKEN}")
    return token
