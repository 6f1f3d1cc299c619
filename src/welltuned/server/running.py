"""Running the application: a socket, uvicorn, and a clean end."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
from typing import Any

from welltuned.errors import InvalidValue, StorageError, require

try:
    import uvicorn
except ImportError as error:
    raise require("uvicorn", "server", "welltuned serve") from error

KEEP_ALIVE = 75  # seconds that an idle connection stays open
GRACE = 3  # seconds that requests under way have when the server ends


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; with port 0, on one that is free.

    Raises
    ------
    InvalidValue
        When there is no such address on this machine.
    StorageError
        When the port is taken.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # asyncio sends small answers at once only where the socket names its protocol
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            if os.name == "posix":  # a server that is started anew takes over the port of the last one
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(128)
        except BaseException:
            listening.close()
            raise
        return listening
    except socket.gaierror as error:
        raise InvalidValue(f"--host {host!r} is not known here: {error.strerror}") from None
    except OSError as error:
        why = error.strerror if error.strerror else str(error)
        raise StorageError(f"cannot listen on {host}:{port}: {why}; give another --host or --port") from None


def address_of(listening: socket.socket, host: str) -> str:
    """Return the address by which a socket is reached; by this machine's name where it listens on all addresses."""
    host = socket.gethostname() if _is_unspecified(host) else host
    port = listening.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _is_unspecified(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return not host


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach the host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def run(app: Any, listening: socket.socket) -> None:
    """Serve until a signal ends the process, or Ctrl-C."""
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=GRACE,
        )
    )
    # those who wait for news are answered, so that they do not hold up the end
    app.state.hub.closing = lambda: server.should_exit
    before = signal.getsignal(signal.SIGTERM)
    if os.name == "posix":
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:  # uvicorn has ended already, and repeats the signal
        pass
    finally:
        listening.close()
        if os.name == "posix":
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
