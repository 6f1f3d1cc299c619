"""A child process whose output is read while it runs, and that can be ended together with all that it has started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import IO

from welltuned.executors import tree

GRACE = 5.0  # seconds between asking a program to end and killing it
KEPT = 1000  # lines, for the reason of a failure: a launcher of many processes says much after the one that failed


class Process:
    """Run a command; leaving the ``with`` block ends it if it still runs.

    It stays in the process group of its parent, so that whoever kills a worker's group, or presses Ctrl-C, ends the
    program as well.

    Raises
    ------
    OSError
        When the command cannot be run.
    """

    def __init__(self, command: Sequence[str]) -> None:
        # a Python program that fills a buffer first would be heard only at its end
        env = {"PYTHONUNBUFFERED": "1", **os.environ}
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", env=env
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._out: IO[str] = self._process.stdout
        self._errors: deque[str] = deque(maxlen=KEPT)
        # read at the same time: a full pipe of errors would stop the program
        self._reader = threading.Thread(target=self._read_errors, args=(self._process.stderr,), daemon=True)
        self._reader.start()

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        self._reader.join(GRACE)  # for ever, where something that it started keeps its standard error open
        self._out.close()

    def _read_errors(self, stream: IO[str]) -> None:
        with stream:
            self._errors.extend(stream)

    def lines(self) -> Iterator[str]:
        """Yield each line of standard output as soon as it is there; once it was ended, those that are there."""
        # of a pipe that does not block, and that something which the program left behind keeps open
        with contextlib.suppress(BlockingIOError, TypeError):
            for line in self._out:
                yield from line.splitlines()

    def end(self) -> None:
        """End the program, with all that it has started, if it still runs."""
        if self._process.poll() is None:
            end(self._process)
        with contextlib.suppress(OSError):  # of Windows before Python 3.12
            os.set_blocking(self._out.fileno(), False)

    def wait(self) -> tuple[int, str]:
        """Return the exit code, and the last lines of standard error."""
        code = self._process.wait()
        self._reader.join()
        return code, "".join(self._errors)


def end(process: subprocess.Popen[str]) -> None:
    """Ask a process and all that it has started to end, and kill after some seconds what has not."""
    others: dict[int, str | None] = {}

    def left() -> list[int]:
        """Look for what was started since, too: some programs start another one to clean up."""
        known = [pid for pid, born in others.items() if born is not None and tree.born(pid) == born]
        running = known if process.poll() is not None else [process.pid, *known]
        for pid in {child for one in running for child in tree.descendants(one)[1:]} - others.keys():
            others[pid] = tree.born(pid)
            known.append(pid)
        return known

    _send(left(), signal.SIGTERM)
    process.terminate()
    deadline = time.monotonic() + GRACE
    try:
        while (left() or process.poll() is None) and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        left()  # before its children lose their parent
        process.kill()
        _send(left(), getattr(signal, "SIGKILL", signal.SIGTERM))
        process.wait()


def _send(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, number)
