"""A network that can be cut: pass bytes on to a port of this machine, and fail on command.

Runs as a process of its own: ``python -m chaos.proxy PORT`` prints the port at which it listens and reads commands from
standard input: ``cut``, ``tear``, ``stall SECONDS``, ``swallow SECONDS``.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import time

CHUNK = 65536


class Network:
    """The connections, and what is wrong with them now."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._tearing: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._stalled = self._swallowing = 0.0

    def obey(self, command: str, seconds: float) -> None:
        """Do what a line of standard input says."""
        if command == "cut":
            for pair in list(self._pairs):
                _abort(pair)
        elif command == "tear":
            self._tearing |= self._pairs
        elif command == "stall":
            self._stalled = time.monotonic() + seconds
        elif command == "swallow":
            self._swallowing = time.monotonic() + seconds

    async def accept(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        """Connect a client with the server, for as long as both are there."""
        try:
            far, on = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            back.transport.abort()
            return
        pair = (on, back)
        self._pairs.add(pair)
        await asyncio.gather(self._pass_on(near, on, pair), self._pass_on(far, back, pair))
        self._pairs.discard(pair)
        self._tearing.discard(pair)

    async def _pass_on(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, pair: tuple[asyncio.StreamWriter, ...]
    ) -> None:
        """Pass bytes on in one direction, as far as the network does."""
        with contextlib.suppress(OSError):
            while data := await source.read(CHUNK):
                if self._swallowing > time.monotonic():
                    # half open: the bytes are gone, and neither side is told before a while
                    await asyncio.sleep(self._swallowing - time.monotonic())
                    break
                if (left := self._stalled - time.monotonic()) > 0:
                    await asyncio.sleep(left)
                if pair in self._tearing:
                    sink.write(data[: len(data) // 2])
                    await sink.drain()
                    break
                sink.write(data)
                await sink.drain()
        _abort(pair)


def _abort(pair: tuple[asyncio.StreamWriter, ...]) -> None:
    for writer in pair:
        writer.transport.abort()


async def run(port: int) -> None:
    """Serve until standard input ends."""
    network, loop = Network(port), asyncio.get_running_loop()
    server = await asyncio.start_server(network.accept, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := (await commands.readline()).decode():
        command, seconds = line.split()
        network.obey(command, float(seconds))


class Proxy:
    """The process, from the side of the one who gives commands."""

    def __init__(self, port: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "chaos.proxy", str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def tell(self, command: str, seconds: float = 0.0) -> None:
        """Give a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command} {seconds}\n")
        self._process.stdin.flush()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


def free_port() -> int:
    """Return a port at which nobody listens now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


if __name__ == "__main__":
    asyncio.run(run(int(sys.argv[1])))
