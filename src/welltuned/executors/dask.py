"""Workers of a Dask cluster: on this machine, or wherever a given client's cluster is.

What an attempt asks, and its outcome, go up as events by way of the scheduler; an answer comes down as a function that
the worker's event loop runs. Both use the connections that Dask has anyway, so nothing but the scheduler has to be
reachable. Queues and variables of Dask would have to be cleaned up after a crash; events age out of a bounded log. As
the result of a Dask task, an outcome would be lost with its worker before it is fetched.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

from welltuned.errors import InvalidType, InvalidValue, WelltunedError, require
from welltuned.executors import remote
from welltuned.executors.processes import THREAD_VARIABLES, available_cores, import_path
from welltuned.executors.protocol import Finished, Job
from welltuned.executors.remote import Answer, Desk, Message
from welltuned.live import Task
from welltuned.trial import Report

START_SECONDS = 120.0
#: how often a waiting coordinator looks whether its cluster is there, and a waiting attempt whether it is wanted
LOOK_SECONDS = 1.0
#: how many answers may be on their way; one to a machine that is gone takes until Dask's time-out
SENDERS = 8


def require_dask() -> Any:
    """Import and return ``distributed``, or raise :class:`welltuned.MissingDependency`."""
    try:
        import distributed
    except ImportError:
        raise require("distributed", "dask", "executor='dask'") from None
    return distributed


class DaskExecutor:
    """Evaluate tasks on a Dask cluster.

    Parameters
    ----------
    workers
        How many tasks run at the same time; without a client also the number of processes, one thread each.
    client
        A ``dask.distributed.Client``; the cluster must have the same version of this package. It stays open. Without
        it, a cluster starts on this machine with the first task, and ends in :meth:`close`.
    resources
        What each task needs of a worker, such as ``{"gpu": 1}``; unless given, what the job says. Dask's names are in
        capitals, ``GPU`` here.

    Raises
    ------
    MissingDependency
        Without the package ``distributed``.
    InvalidType, InvalidValue
        When the objective cannot be pickled, or the client is none, or an asynchronous one.
    WelltunedError
        When a worker cannot load the objective, or the cluster does not start or is gone.
    """

    def __init__(
        self, job: Job, workers: int, client: Any = None, *, resources: Mapping[str, float] | None = None
    ) -> None:
        distributed = require_dask()
        if client is not None and not isinstance(client, distributed.Client):
            raise InvalidType(f"client={client!r} is not a dask.distributed.Client")
        if client is not None and client.asynchronous:
            raise InvalidValue(f"client={client!r} is asynchronous; use one without asynchronous=True")
        self._resources = remote.resources_of(job, resources)
        self._parcel = remote.pack(job)
        self._desk = Desk(job.on_report)
        self._workers = workers
        self._client: Any = client
        self._local: _LocalCluster | None = None
        self._topic = f"welltuned-{self._parcel.name}"
        self._numbers = count()
        self._futures: dict[str, Any] = {}
        self._outcomes: dict[str, bytes] = {}
        self._inbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._senders: ThreadPoolExecutor | None = None

    def submit(self, task: Task) -> None:
        """See :meth:`Executor.submit`."""
        client = self._connect()
        key = f"welltuned-trial-{self._parcel.name}-{next(self._numbers)}"
        self._desk.enter(key, task)
        future = self._futures[key] = client.submit(
            _attempt,
            self._parcel.name,
            remote.pack_task(task),
            key,
            self._topic,
            key=key,
            pure=False,
            retries=0,
            resources={k.upper(): v for k, v in remote.needs(task, self._resources).items()} or None,
        )
        inbox = self._inbox
        future.add_done_callback(lambda _: inbox.put(("ended", key)))

    def _connect(self) -> Any:
        """Return the client, with the way for questions and answers open."""
        if self._senders is None:
            if self._client is None:
                self._local = _LocalCluster(self._workers, {k.upper(): v for k, v in self._resources.items()})
                self._client = self._local.client
            client = self._client
            inbox = self._inbox  # Dask keeps the handler for as long as the client lives
            client.subscribe_topic(self._topic, lambda event: inbox.put(("event", event[1])))
            self._senders = ThreadPoolExecutor(SENDERS, thread_name_prefix="welltuned-answers")
        return self._client

    def wait(self, timeout: float | None = None) -> list[Finished]:
        """See :meth:`Executor.wait`."""
        finished: list[Finished] = []
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._futures:
            left = LOOK_SECONDS if deadline is None else deadline - time.monotonic()
            try:
                kind, content = self._inbox.get(timeout=0.0 if finished else min(max(left, 0.0), LOOK_SECONDS))
            except queue.Empty:
                if finished:
                    break
                self._look_after_cluster()
            else:
                finished += self._collect(content) if kind == "ended" else self._read(content)
            if deadline is not None and time.monotonic() >= deadline:
                break
        return finished

    def _read(self, event: Mapping[str, Any]) -> list[Finished]:
        """Keep an outcome until Dask tells that the task ended, or answer a question, or send the objective."""
        if "outcome" in event:
            if event["key"] in self._futures:
                self._outcomes.setdefault(event["key"], event["outcome"])
        elif "number" in event:
            report = None if event["step"] is None else Report(event["step"], dict(event["metrics"]))
            self._send(event, self._desk.answer(Message(event["key"], event["attempt"], event["number"], report)))
        else:
            # not a dependency of the tasks: Dask would put them all where it is
            self._send(event, self._parcel.content)
        return []

    def _send(self, event: Mapping[str, Any], answer: Answer | bytes) -> None:
        assert self._senders is not None
        workers = [event["address"]]
        self._senders.submit(self._client.run, _deliver, event["line"], answer, workers=workers, on_error="ignore")

    def _collect(self, key: str) -> list[Finished]:
        future = self._futures.pop(key, None)
        if future is None:
            return []
        if key in self._outcomes:
            return [self._desk.finish(key, self._outcomes.pop(key))]
        self._look_after_cluster()
        error = future.exception() if future.status == "error" else None
        if error is not None and not _died(error):
            raise WelltunedError(f"a Dask worker cannot run trials: {type(error).__name__}: {error}") from error
        return [self._desk.lose(key, f"the Dask worker died ({type(error).__name__ if error else future.status})")]

    def _look_after_cluster(self) -> None:
        if self._local is not None:
            self._local.check()
        if self._client.status != "running":
            raise WelltunedError("the connection to the Dask scheduler is gone")

    def close(self) -> None:
        """See :meth:`Executor.close`. Of a given client's cluster, trials that run now end with their next report."""
        futures, self._futures = list(self._futures.values()), {}
        self._desk.clear()
        self._outcomes.clear()
        if self._senders is not None:
            self._senders.shutdown(wait=False, cancel_futures=True)
        if self._local is not None:
            self._local.close()
            self._client = self._local = self._senders = None
        elif self._senders is not None and self._client.status == "running":
            self._client.unsubscribe_topic(self._topic)
            self._client.cancel(futures)


def _died(error: BaseException) -> bool:
    """Tell whether a task ended because of its worker, or of the scheduler, not of its code."""
    distributed = require_dask()
    return isinstance(error, (distributed.scheduler.KilledWorker, distributed.CancelledError, OSError))


# in the workers

_lines: dict[str, queue.SimpleQueue[Any]] = {}


def _deliver(line: str, answer: Answer | bytes) -> None:
    """Hand an answer to the attempt that waits for it; called in the worker's event loop."""
    waiting = _lines.get(line)
    if waiting is not None:
        waiting.put(answer)


def _attempt(name: str, task: bytes, key: str, topic: str) -> None:
    """Evaluate a task in a thread of a Dask worker."""
    worker = require_dask().get_worker()

    def ask(message: Message) -> Answer:
        report = message.report
        step, metrics = (None, {}) if report is None else (report.step, dict(report.metrics))
        event = {"attempt": message.attempt, "number": message.number, "step": step, "metrics": metrics}
        return _call(worker, topic, key, event) or "leave"

    def fetch() -> bytes:
        return _call(worker, topic, key, {}) or b""

    outcome = remote.attempt(name, fetch, task, key, ask)
    worker.log_event(topic, {"key": key, "outcome": outcome})


def _call(worker: Any, topic: str, key: str, event: Mapping[str, Any]) -> Any:
    """Send an event and wait for the answer; None when nobody waits for the task any more."""
    line = uuid.uuid4().hex
    waiting = _lines[line] = queue.SimpleQueue()
    try:
        if _wanted(worker, key):
            worker.log_event(topic, {**event, "key": key, "line": line, "address": worker.address})
        while _wanted(worker, key):
            with contextlib.suppress(queue.Empty):
                return waiting.get(timeout=LOOK_SECONDS)
        return None
    finally:
        del _lines[line]


def _wanted(worker: Any, key: str) -> bool:
    """Tell whether somebody waits for a task: the scheduler takes back those of a client that is gone."""
    task = worker.state.tasks.get(key)
    return task is not None and task.state in ("executing", "long-running")


# a cluster on this machine


class _LocalCluster:
    """A scheduler and workers in processes of their own, and a client.

    Dask's own ``LocalCluster`` would import the user's script in each worker, which then needs a main guard, and its
    scheduler would wait while this process is busy fitting a model. So it lives in a fresh interpreter.
    """

    def __init__(self, workers: int, resources: Mapping[str, float]) -> None:
        distributed = require_dask()
        self._folder = Path(tempfile.mkdtemp(prefix="welltuned-dask-"))
        share = str(max(1, available_cores() // workers))
        hello = {
            "folder": str(self._folder),
            "workers": workers,
            "resources": dict(resources),
            "path": import_path(),
            "argv": sys.argv,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from welltuned.executors.dask import serve; serve()"],
            stdin=subprocess.PIPE,
            env={**os.environ, **{v: os.environ.get(v, share) for v in THREAD_VARIABLES}},
            start_new_session=True,
        )
        self.client: Any = None
        try:
            assert self._process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(json.dumps(hello).encode() + b"\n")
                self._process.stdin.flush()
            self.client = distributed.Client(self._address(), set_as_default=False)
        except BaseException:
            self.close()
            raise

    def _address(self) -> str:
        file, deadline = self._folder / "address", time.monotonic() + START_SECONDS
        while not file.exists():
            self.check()
            if time.monotonic() > deadline:
                raise WelltunedError(f"the local Dask cluster did not start within {START_SECONDS:g} seconds")
            time.sleep(0.02)
        return file.read_text(encoding="utf-8")

    def check(self) -> None:
        """Raise WelltunedError when the cluster is gone."""
        if self._process.poll() is not None:
            raise WelltunedError(f"the local Dask cluster ended (exit code {self._process.returncode})")

    def close(self) -> None:
        """End the scheduler and all workers, whatever they are doing."""
        if self.client is not None:
            self.client.close(timeout=2)
        if self._process.poll() is None:
            _kill_group(self._process)
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def serve() -> None:
    """Run a cluster for the process that started this one, until that closes standard input or dies."""
    hello = json.loads(sys.stdin.buffer.readline())
    sys.path[:], sys.argv[:] = hello["path"], hello["argv"]
    import dask
    import distributed

    # tasks that waited for a worker that died are not to blame; those that had begun are told to leave the next one
    # an objective may have worker processes itself
    dask.config.set({"distributed.scheduler.allowed-failures": 100, "distributed.worker.daemon": False})
    folder = Path(hello["folder"])
    cluster = distributed.LocalCluster(
        n_workers=hello["workers"],
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",  # without one it would try 8787, which another cluster may have
        memory_limit=0,
        local_directory=str(folder),
        silence_logs=50,
        resources=hello["resources"] or None,
    )
    (folder / "new").write_text(cluster.scheduler_address, encoding="utf-8")
    (folder / "new").rename(folder / "address")
    sys.stdin.buffer.read()
    shutil.rmtree(folder, ignore_errors=True)
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
