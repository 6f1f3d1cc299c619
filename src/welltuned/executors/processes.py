"""Worker processes on this machine.

Each worker is a fresh interpreter that inherits one end of a socket pair; :mod:`welltuned.executors.worker` is what it
runs. So scripts need no ``if __name__ == "__main__"``, functions of notebooks travel by value, a worker can be killed
without harm to the others, and its libraries see their share of the cores before they are imported. Messages are
pickled: nobody but these two processes has an end.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path

from welltuned.errors import WelltunedError
from welltuned.evaluation import failure
from welltuned.executors import remote, tree
from welltuned.executors.limits import VISIBLE, device_slots
from welltuned.executors.protocol import Finished, Job
from welltuned.executors.worker import END
from welltuned.live import Task
from welltuned.trial import Reason

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "LOKY_MAX_CPU_COUNT",  # what joblib, and so scikit-learn, takes n_jobs=-1 for
)
START_SECONDS = 600.0  # of a worker, until it has loaded the objective and what that imports
STARTS = 3
LOOK = 1.0  # seconds between two looks whether workers live
GRACE = 3.0  # seconds that idle workers have to end by themselves
LINGER = 1.0  # seconds that what they have started has after them, such as a process that cleans up
WATCH = 0.05  # seconds between two looks at the memory of workers


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def import_path() -> list[str]:
    """Return where this process imports from, for others: absolute, and without what is no string, as Python does.

    What is no folder stays as it is: hooks are known by such names.
    """
    # what may not be looked at is nothing to Python; a path's own exists() raises an error there
    there = [p for p in sys.path if isinstance(p, str)]
    return [str(Path(p).absolute()) if os.path.exists(p or os.curdir) else p for p in there]  # noqa: PTH110


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection
    slot: str | None
    task: Task | None
    since: float  # its task has been sent, or once it has begun, its trial runs
    feeder: threading.Thread
    begun: bool = False  # has told that it evaluates its task: until then its death costs no attempt
    look: float = 0.0  # when its memory is to be measured again

    def resident(self, limit: int) -> int:
        """Return the bytes that it and its children use, or 0 if they were measured a short while ago."""
        before = time.monotonic()
        if before < self.look:
            return 0
        used, now = tree.resident(self.process.pid, limit), time.monotonic()
        self.look = now + 10 * (now - before)  # where it takes long, it must not take all of the time
        return used

    def dismiss(self) -> None:
        """Tell it, while it is idle, to end by itself."""
        with contextlib.suppress(OSError):  # it has died
            self.connection.send_bytes(END)

    def await_end(self, deadline: float) -> None:
        """Wait until it has ended by itself, and for a moment until its group has."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(max(deadline - time.monotonic(), 0.0))
        deadline = min(deadline, time.monotonic() + LINGER)
        while time.monotonic() < deadline and tree.has_group(self.process.pid):
            time.sleep(0.01)

    def kill(self) -> None:
        """End it and all it has started."""
        if self.process.poll() is None:
            tree.kill(self.process.pid)
        else:  # its number may be that of another process by now
            tree.kill_group(self.process.pid)

    def part(self) -> None:
        """Close the connection to a process that is gone, once nobody writes to it any more."""
        self.feeder.join(LOOK)
        if not self.feeder.is_alive():
            self.connection.close()


class ProcessExecutor:
    """Evaluate tasks in ``workers`` processes, each with its share of the cores for inner threads.

    A worker whose trial exceeds its time or memory is killed, with its children, and another one takes its place. With
    ``resources={"gpu": …}`` every worker sees its own device, or share of one, as the only one there is.

    Raises
    ------
    InvalidType
        When the objective cannot be pickled, by name or by value.
    WelltunedError
        When a worker cannot load the objective, or does not within ten minutes, or several die on the way up.
    """

    def __init__(self, job: Job, workers: int) -> None:
        self._job = job
        self._size = workers
        self._slots = device_slots(job.limits)
        self._payload = remote.pack(job).content
        self._workers: list[_Worker] = []
        self._failures = 0

    def submit(self, task: Task) -> None:
        """See :meth:`Executor.submit`."""
        packed = remote.pack_task(task)
        for worker in [w for w in self._workers if w.task is None]:
            if worker.process.poll() is None:
                worker.task, worker.begun, worker.since = task, False, time.monotonic()
                with contextlib.suppress(OSError):  # that it has died, or is about to, is noticed by wait()
                    worker.connection.send_bytes(packed)
                return
            self._bury(worker)
        self._start(task, packed)

    def _start(self, task: Task, packed: bytes) -> None:
        """Start a worker for a task. It reads in its own time, so that many start side by side."""
        share = str(max(1, available_cores() // self._size))
        env = {**os.environ, **{v: os.environ.get(v, share) for v in THREAD_VARIABLES}}
        slot = self._slots.pop(0) if self._slots else None
        if slot is not None:
            env[VISIBLE] = slot
        ours, theirs = Pipe()
        hello = {
            "connection": theirs.fileno(),
            "memory": self._job.limits.memory,
            "path": import_path(),
            "cwd": str(Path.cwd()),
            "parent": os.getpid(),
            "argv": sys.argv,
        }
        process = None
        try:
            with theirs:
                process = subprocess.Popen(
                    # under a name that no script of a user has
                    [sys.executable, "-c", "from welltuned.executors.worker import serve as __serve__; __serve__()"],
                    stdin=subprocess.PIPE,
                    env=env,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,  # a group of its own, so that its children can be killed with it
                )
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
                pipe.write(json.dumps(hello).encode())
            arguments = (ours, (self._payload, packed))
            feeder = threading.Thread(target=_send, args=arguments, name="welltuned-worker", daemon=True)
            feeder.start()
            self._workers.append(_Worker(process, ours, slot, task, time.monotonic(), feeder))
        except BaseException:  # nobody else knows of it, and it would evaluate a trial that is given back
            if process is not None:
                tree.kill(process.pid)
                process.wait()
                with contextlib.suppress(OSError):
                    process.stdin.close()  # type: ignore[union-attr]
            raise

    def wait(self, timeout: float | None = None) -> list[Finished]:
        """See :meth:`Executor.wait`."""
        finished: list[Finished] = []
        deadline = None if timeout is None else time.monotonic() + timeout
        while not finished and (busy := [w for w in self._workers if w.task is not None]):
            by_connection = {w.connection: w for w in busy}
            for connection in wait(list(by_connection), self._pause(busy, deadline)):
                finished += self._receive(by_connection[connection])  # type: ignore[index]
            for worker in busy:
                if worker in self._workers and worker.task is not None:
                    finished += self._look_after(worker)
            if deadline is not None and time.monotonic() >= deadline:
                break
        return finished

    def _pause(self, busy: Sequence[_Worker], deadline: float | None) -> float:
        """Return how long nothing has to be looked at."""
        limits, now = self._job.limits, time.monotonic()
        until = [now + (LOOK if limits.memory is None else WATCH)]
        if deadline is not None:
            until.append(deadline)
        if limits.timeout is not None:
            until += [w.since + limits.timeout for w in busy if w.begun]
        return max(min(until) - now, 0.0)

    def _look_after(self, worker: _Worker) -> list[Finished]:
        """Notice what no message tells: that a worker is dead, or that its trial exceeds a limit."""
        # a process that it forked may hold its end of the connection, which then does not end
        if worker.process.poll() is not None and not worker.connection.poll():
            return self._lose(worker)
        if not worker.begun and time.monotonic() - worker.since >= START_SECONDS:
            raise WelltunedError(f"a worker process did not load the objective within {START_SECONDS:g} seconds")
        return self._enforce(worker)

    def _enforce(self, worker: _Worker) -> list[Finished]:
        """Kill a worker whose trial exceeds a limit."""
        limits, seconds, task = self._job.limits, time.monotonic() - worker.since, worker.task
        assert task is not None
        if limits.timeout is not None and worker.begun and seconds >= limits.timeout:
            outcome = failure(Reason.TIMEOUT, f"trial_timeout: killed after {limits.timeout:g} seconds")
        elif limits.memory is not None and (used := worker.resident(limits.memory)) > limits.memory:
            outcome = failure(
                Reason.OUT_OF_MEMORY, f"memory_limit: killed at {used:,} bytes, {limits.memory:,} are allowed"
            )
        else:
            return []
        worker.kill()
        self._bury(worker)
        return [Finished(task, replace(outcome, seconds=seconds))]

    def _free(self, slot: str | None) -> None:
        if slot is not None and self._slots is not None:
            self._slots.append(slot)

    def _receive(self, worker: _Worker) -> list[Finished]:
        task = worker.task
        assert task is not None
        if worker.process.poll() is not None:
            worker.kill()  # what it forked may hold its end of the connection, in which half a message may be
        try:
            kind, content = pickle.loads(worker.connection.recv_bytes())
        except (EOFError, OSError):
            return self._lose(worker)
        if kind == "begun":
            worker.begun, worker.since, self._failures = True, time.monotonic(), 0
            return []
        if kind == "report":
            claim, report = content
            # a process that the objective of an earlier trial forked may still report
            stop = claim != (task.number, task.token) or self._job.on_report(task, report)
            with contextlib.suppress(OSError):
                worker.connection.send(stop)
            return []
        if kind == "broken":
            raise WelltunedError(f"a worker process cannot load the objective: {content}")
        worker.task = None
        return [Finished(task, remote.received(task, content))]

    def _lose(self, worker: _Worker) -> list[Finished]:
        """Give up a worker that died; if it had not begun its task, another one takes it, and no attempt is lost."""
        task, cause = worker.task, self._bury(worker)
        assert task is not None
        if worker.begun:
            return [Finished(task, None, f"the worker process died ({cause})")]
        self._failures += 1
        # who kills workers kills some on the way up; who cannot start ends by itself
        if self._failures >= (STARTS if worker.process.returncode >= 0 else 5 * STARTS):
            raise WelltunedError(f"{self._failures} worker processes in a row did not start: {cause}")
        self._start(task, remote.pack_task(task))
        return []

    def _bury(self, worker: _Worker) -> str:
        """Forget a worker that has died or been killed, end what it has started, and return how it ended."""
        self._workers.remove(worker)
        try:
            code = worker.process.wait(5)
        except subprocess.TimeoutExpired:
            code = -signal.SIGKILL
        worker.kill()  # what it started, if not itself, may hold the device
        worker.process.wait()
        worker.part()
        self._free(worker.slot)
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def close(self) -> None:
        """See :meth:`Executor.close`. Idle workers end as programs do, with what is to be done at their exit."""
        workers, self._workers = self._workers, []
        left, deadline = list(workers), time.monotonic() + GRACE
        try:
            for worker in workers:
                worker.dismiss() if worker.task is None else worker.kill()
            for worker in [w for w in workers if w.task is None]:
                worker.await_end(deadline)
                worker.kill()
                left.remove(worker)  # its number may be that of another process from now on
        finally:
            for worker in left:
                worker.kill()
            for worker in workers:
                worker.process.wait()
                worker.part()


def _send(connection: Connection, messages: Sequence[bytes]) -> None:
    """Send messages to a worker that may not read yet; when it is killed, that ends too."""
    with contextlib.suppress(OSError):
        for message in messages:
            connection.send_bytes(message)
