"""Worker processes on this machine.

Each worker is a fresh interpreter that connects back over a local socket. So scripts need no ``if __name__ ==
"__main__"``, functions of notebooks travel by value, a worker can be killed without harm to the others, and its
libraries see their share of the cores before they are imported. Messages are pickled: both ends are this user's own
processes and hold the same secret key.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener, Pipe, wait
from pathlib import Path

import cloudpickle

from welltuned.errors import InvalidType, WelltunedError
from welltuned.evaluation import evaluate, failure
from welltuned.executors.limits import VISIBLE, device_slots, resident
from welltuned.executors.protocol import Finished, Job
from welltuned.executors.remote import portable
from welltuned.live import LiveTrial, Task
from welltuned.trial import Reason, Report

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
START_SECONDS = 60.0
STARTS = 3
WATCH = 0.05  # seconds between two looks at the memory of workers


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    slot: str | None
    task: Task | None
    connection: Connection | None = None  # None while it starts
    began: float = 0.0
    failure: str | None = None  # why it did not start


class ProcessExecutor:
    """Evaluate tasks in ``workers`` processes, each with its share of the cores for inner threads.

    A worker whose trial exceeds its time or memory is killed, with its children, and another one takes its place. With
    ``resources={"gpu": …}`` every worker sees its own device, or share of one, as the only one there is.

    Raises
    ------
    InvalidType
        When the objective cannot be pickled, by name or by value.
    WelltunedError
        When a worker cannot load the objective, or does not start.
    """

    def __init__(self, job: Job, workers: int) -> None:
        self._job = job
        self._size = workers
        self._slots = device_slots(job.limits)
        try:
            self._payload = cloudpickle.dumps((job.objective, tuple(job.objectives), job.limits.memory))
        except Exception as error:
            raise InvalidType(
                f"objective={job.objective!r} cannot be sent to worker processes: {error}; leave out what "
                "holds open files, locks or connections, or create it inside the function"
            ) from error
        self._key = secrets.token_bytes(32)
        self._workers: list[_Worker] = []
        self._failures = 0
        self._door, self._bell = Pipe(duplex=False)  # rings when a worker has connected, or has not

    def submit(self, task: Task) -> None:
        """See :meth:`Executor.submit`."""
        worker = next((w for w in self._workers if w.task is None and w.connection is not None), None)
        if worker is None:
            self._start(task)
            return
        worker.task, worker.began = task, time.monotonic()
        assert worker.connection is not None
        with contextlib.suppress(OSError):  # a dead worker is noticed by wait()
            worker.connection.send_bytes(cloudpickle.dumps(("task", task)))

    def _start(self, task: Task) -> None:
        """Start a worker for a task. It connects in its own time, so that many start side by side."""
        # a door of its own for each worker: one that dies on the way leaves nobody at another one's
        listener = Listener(None, authkey=self._key)
        share = str(max(1, available_cores() // self._size))
        env = {**os.environ, **{v: os.environ.get(v, share) for v in THREAD_VARIABLES}}
        slot = self._slots.pop(0) if self._slots else None
        if slot is not None:
            env[VISIBLE] = slot
        code = "from welltuned.executors.processes import serve; serve()"
        # a group of its own, so that its children can be killed with it
        process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, env=env, start_new_session=True)
        hello = {
            "address": listener.address,
            "key": self._key.hex(),
            "path": sys.path,
            "cwd": str(Path.cwd()),
            "parent": os.getpid(),
            "argv": sys.argv,
        }
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
            pipe.write(json.dumps(hello).encode())
        worker = _Worker(process, slot, task)
        self._workers.append(worker)
        threading.Thread(target=self._welcome, args=(worker, listener, task), daemon=True).start()

    def _welcome(self, worker: _Worker, listener: Listener, task: Task) -> None:
        """Let a worker in and give it its first task; wake up whoever waits."""
        connection = _accept(listener, worker.process)
        if connection is None:
            worker.failure = f"exit code {worker.process.wait()}"
        else:
            worker.began = time.monotonic()
            with contextlib.suppress(OSError):
                connection.send_bytes(self._payload)
                connection.send_bytes(cloudpickle.dumps(("task", task)))
            worker.connection = connection
        with contextlib.suppress(OSError):
            self._bell.send_bytes(b"")

    def wait(self, timeout: float | None = None) -> list[Finished]:
        """See :meth:`Executor.wait`."""
        finished: list[Finished] = []
        deadline = None if timeout is None else time.monotonic() + timeout
        while not finished and any(w.task is not None for w in self._workers):
            busy = {w.connection: w for w in self._workers if w.task is not None and w.connection is not None}
            ready = wait([self._door, *busy], self._pause(busy.values(), deadline))
            for connection in ready:
                if connection is self._door:
                    self._door.recv_bytes()
                    self._start_again()
                else:
                    finished += self._receive(busy[connection])  # type: ignore[index]
            finished += self._enforce([w for w in busy.values() if w.task is not None])
            if deadline is not None and time.monotonic() >= deadline:
                break
        return finished

    def _start_again(self) -> None:
        """Replace workers that died on the way up: one is no reason to give up, three in a row are."""
        for worker in [w for w in self._workers if w.failure is not None]:
            self._workers.remove(worker)
            self._free(worker.slot)
            self._failures += 1
            # who kills workers kills some on the way up; who cannot start ends by itself
            if self._failures >= (STARTS if worker.process.returncode >= 0 else 5 * STARTS):
                raise WelltunedError(f"{self._failures} worker processes in a row did not start: {worker.failure}")
            assert worker.task is not None
            self._start(worker.task)

    def _pause(self, busy: Iterable[_Worker], deadline: float | None) -> float | None:
        """Return how long nothing has to be looked at."""
        limits, now = self._job.limits, time.monotonic()
        until = [deadline] if deadline is not None else []
        if limits.timeout is not None:
            until += [w.began + limits.timeout for w in busy]
        if limits.memory is not None:
            until.append(now + WATCH)
        return max(min(until) - now, 0.0) if until else None

    def _enforce(self, busy: Iterable[_Worker]) -> list[Finished]:
        """Kill the workers whose trials exceed a limit."""
        limits, now = self._job.limits, time.monotonic()
        finished = []
        for worker in busy:
            assert worker.task is not None
            outcome = None
            if limits.timeout is not None and now - worker.began >= limits.timeout:
                outcome = failure(Reason.TIMEOUT, f"trial_timeout: killed after {limits.timeout:g} seconds")
            elif limits.memory is not None and (used := resident(worker.process.pid)) > limits.memory:
                outcome = failure(
                    Reason.OUT_OF_MEMORY, f"memory_limit: killed at {used:,} bytes, {limits.memory:,} are allowed"
                )
            if outcome is not None:
                task, seconds = worker.task, now - worker.began
                self._kill(worker)
                self._bury(worker)
                finished.append(Finished(task, replace(outcome, seconds=seconds)))
        return finished

    def _kill(self, worker: _Worker) -> None:
        """End a worker and all it has started."""
        with contextlib.suppress(OSError):
            os.killpg(worker.process.pid, signal.SIGKILL)
        worker.process.kill()

    def _free(self, slot: str | None) -> None:
        if slot is not None and self._slots is not None:
            self._slots.append(slot)

    def _receive(self, worker: _Worker) -> list[Finished]:
        task = worker.task
        assert task is not None
        assert worker.connection is not None
        self._failures = 0
        try:
            kind, content = pickle.loads(worker.connection.recv_bytes())
        except (EOFError, OSError):
            cause = self._bury(worker)
            return [Finished(task, None, cause)]
        if kind == "report":
            with contextlib.suppress(OSError):
                worker.connection.send(self._job.on_report(task, content))
            return []
        if kind == "broken":
            raise WelltunedError(f"a worker process cannot load the objective: {content}")
        worker.task = None
        return [Finished(task, pickle.loads(content))]

    def _bury(self, worker: _Worker) -> str:
        self._workers.remove(worker)
        assert worker.connection is not None
        worker.connection.close()
        try:
            code = worker.process.wait(5)
        except subprocess.TimeoutExpired:
            code = -signal.SIGKILL
        self._kill(worker)  # what it started, if not itself, may hold the device
        worker.process.wait()
        self._free(worker.slot)
        return f"the worker process died ({f'signal {-code}' if code < 0 else f'exit code {code}'})"

    def close(self) -> None:
        """See :meth:`Executor.close`."""
        for worker in self._workers:
            self._kill(worker)
            if worker.connection is not None:
                worker.connection.close()
        for worker in self._workers:
            worker.process.wait()
        self._workers.clear()


def _accept(listener: Listener, process: subprocess.Popen[bytes]) -> Connection | None:
    """Wait for a worker to connect, for as long as it lives and the time to start is not over; None if it does not."""
    accepted: list[Connection] = []

    def accept() -> None:
        with contextlib.suppress(OSError, EOFError, AuthenticationError):  # it died while it said hello
            accepted.append(listener.accept())

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        thread.join(0.02)
        if accepted:
            listener.close()
            return accepted[0]
        if process.poll() is not None:
            break
    process.kill()
    return None


def serve() -> None:
    """Run a worker process: connect to the parent that standard input names, evaluate what it sends."""
    content = sys.stdin.buffer.read()
    if not content.endswith(b"}"):
        return  # the parent died while it said hello
    hello = json.loads(content)
    # an interrupt at the terminal reaches the whole group; the parent decides what becomes of its workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.path[:], sys.argv[:] = hello["path"], hello["argv"]
    with contextlib.suppress(OSError):
        os.chdir(hello["cwd"])
    threading.Thread(target=_die_with, args=(hello["parent"],), daemon=True).start()
    address = tuple(hello["address"]) if isinstance(hello["address"], list) else hello["address"]
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        _work(Client(address, authkey=bytes.fromhex(hello["key"])))


def _work(connection: Connection) -> None:
    payload = connection.recv_bytes()
    try:
        objective, objectives, memory = pickle.loads(payload)
    except Exception as error:  # noqa: BLE001 - importing the user's module may raise anything
        connection.recv_bytes()
        connection.send_bytes(cloudpickle.dumps(("broken", f"{type(error).__name__}: {error}")))
        return

    def on_report(_: Task, report: Report) -> bool:
        connection.send_bytes(cloudpickle.dumps(("report", report)))
        return bool(connection.recv())

    while True:
        _, task = pickle.loads(connection.recv_bytes())
        with _capped(memory):
            outcome = evaluate(objective, LiveTrial(task, on_report), objectives)
        for stream in (sys.stdout, sys.stderr):  # this process will be killed, and what it printed lost with it
            with contextlib.suppress(Exception):
                stream.flush()
        connection.send_bytes(cloudpickle.dumps(("done", portable(outcome))))


@contextlib.contextmanager
def _capped(memory: int | None) -> Iterator[None]:
    """Let allocations beyond ``memory`` bytes fail, so that most trials end by an exception, not by a kill."""
    if memory is None:
        yield
        return
    import resource

    used = next(
        int(line.split()[1]) * 1024
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        if line.startswith("VmData:")
    )
    before = resource.getrlimit(resource.RLIMIT_DATA)
    limit = used + memory if before[1] == resource.RLIM_INFINITY else min(used + memory, before[1])
    resource.setrlimit(resource.RLIMIT_DATA, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _die_with(parent: int) -> None:
    """End this process when its parent is gone, even in the middle of an objective."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
