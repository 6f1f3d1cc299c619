"""Workers of a Ray cluster: the one that this process is connected to, or one on this machine.

What attempts ask goes through an actor that keeps messages until they are fetched, and questions until they are
answered. One call waits for it and for all tasks, in the thread of the caller. When the coordinator ends, Ray ends its
tasks.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

from welltuned.errors import InvalidValue, WelltunedError, require
from welltuned.executors import remote
from welltuned.executors.processes import THREAD_VARIABLES, available_cores, import_path
from welltuned.executors.protocol import Finished, Job
from welltuned.executors.remote import Answer, Desk, Message
from welltuned.live import Task

#: what Ray has a place of its own for
NAMED = {"cpu": "num_cpus", "gpu": "num_gpus", "memory": "memory"}
#: questions that may wait for an answer at the same time
QUESTIONS = 100_000
CLOSE_SECONDS = 2.0


def require_ray() -> Any:
    """Import and return ``ray``, or raise :class:`welltuned.MissingDependency`."""
    try:
        import ray
    except ImportError:
        raise require("ray", "ray", "executor='ray'") from None
    return ray


class RayExecutor:
    """Evaluate tasks on the Ray cluster of this process.

    Without ``ray.init()`` before, it connects to the cluster that ``RAY_ADDRESS`` names, or else starts one on this
    machine; :meth:`close` ends what was started here.

    Parameters
    ----------
    workers
        How many tasks run at the same time; also the number of CPUs of a cluster that is started here.
    resources
        What each task needs, such as ``{"gpu": 0.5}``; unless given, what the job says. ``cpu`` (1 unless given),
        ``gpu``, ``memory`` in bytes, or any resource of your cluster's.

    Raises
    ------
    MissingDependency
        Without the package ``ray``.
    InvalidType, InvalidValue
        When the objective cannot be pickled, or this machine has not what a task needs.
    WelltunedError
        When a worker cannot load the objective.
    """

    def __init__(self, job: Job, workers: int, *, resources: Mapping[str, float] | None = None) -> None:
        require_ray()
        self._resources = remote.resources_of(job, resources)
        self._parcel = remote.pack(job)
        self._desk = Desk(job.on_report)
        self._workers = workers
        self._numbers = count()
        self._started = False
        self._mailbox: Any = None
        self._function: Any = None
        self._objective: Any = None
        self._letters: Any = None
        self._keys: dict[Any, str] = {}

    def submit(self, task: Task) -> None:
        """See :meth:`Executor.submit`."""
        if self._mailbox is None:
            self._open()
        needs = remote.needs(task, self._resources)
        options = {NAMED[k]: v for k, v in needs.items() if k in NAMED}
        function = self._function.options(**options, resources={k: v for k, v in needs.items() if k not in NAMED})
        key = f"{self._parcel.name}-{next(self._numbers)}"
        self._desk.enter(key, task)
        ref = function.remote(self._parcel.name, [self._objective], remote.pack_task(task), key, self._mailbox)
        self._keys[ref] = key

    def _open(self) -> None:
        ray = require_ray()
        if not ray.is_initialized():
            self._started = True
            _start(ray, self._workers)
            self._check_resources(ray)
        # neither is anything without its state, and Ray may move it when a machine goes away: it is asked again then
        mailbox = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, max_concurrency=QUESTIONS)(_Mailbox)
        self._mailbox = mailbox.remote()
        self._letters = self._mailbox.take.remote()
        self._function = ray.remote(max_retries=0)(_attempt)
        self._objective = ray.put(self._parcel.content)

    def _check_resources(self, ray: Any) -> None:
        has = {k.lower(): v for k, v in ray.cluster_resources().items()}
        for name, amount in self._resources.items():
            if amount > has.get(name.lower(), 0.0):
                self.close()
                raise InvalidValue(f"resources: {name}={amount!r} is more than this machine has, {has.get(name, 0.0)}")

    def wait(self, timeout: float | None = None) -> list[Finished]:
        """See :meth:`Executor.wait`."""
        ray = require_ray()
        finished: list[Finished] = []
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._keys and not finished:
            left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            waited = [self._letters, *self._keys]
            ready, _ = ray.wait(waited, num_returns=1, timeout=left)
            if ready:
                # whatever else is there by now
                ready, _ = ray.wait(waited, num_returns=len(waited), timeout=0)
            for ref in ready:
                finished += self._reply(ray) if ref is self._letters else self._collect(ray, ref)
            if not ready or left == 0.0:
                break
        return finished

    def _reply(self, ray: Any) -> list[Finished]:
        try:
            messages: list[Message] = ray.get(self._letters)
        except ray.exceptions.RayError as error:
            raise WelltunedError(f"the Ray actor that carries reports died: {type(error).__name__}") from error
        self._letters = self._mailbox.take.remote()
        for message in messages:
            self._mailbox.answer.remote(message.attempt, message.number, self._desk.answer(message))
        return []

    def _collect(self, ray: Any, ref: Any) -> list[Finished]:
        key = self._keys.pop(ref)
        try:
            content = ray.get(ref)
        except (ray.exceptions.RayTaskError, ray.exceptions.RuntimeEnvSetupError) as error:
            raise WelltunedError(f"a Ray worker cannot run trials: {error}") from error
        except ray.exceptions.RayError as error:
            return [self._desk.lose(key, f"the Ray worker died ({type(error).__name__})")]
        return [self._desk.finish(key, content)]

    def close(self) -> None:
        """See :meth:`Executor.close`."""
        refs, self._keys = list(self._keys), {}
        self._desk.clear()
        if self._mailbox is None and not self._started:
            return
        ray = require_ray()
        if ray.is_initialized():
            for ref in refs:
                ray.cancel(ref, force=True)
            if self._mailbox is not None:
                # Ray would tell of a call that failed, on standard error
                last = self._mailbox.put.remote([])
                ray.wait([self._letters, last], num_returns=2, timeout=CLOSE_SECONDS)
                ray.kill(self._mailbox)
            if self._started:
                ray.shutdown()
        self._mailbox = self._letters = self._objective = self._function = None
        self._started = False


class _Mailbox:
    """An actor that keeps messages until they are fetched, and questions until they are answered."""

    def __init__(self) -> None:
        import asyncio  # a sixth of what a worker process would load, and only Ray needs it

        self._messages: list[Message] = []
        self._some = asyncio.Event()
        self._waiting: dict[tuple[str, int], asyncio.Future[Answer]] = {}

    async def ask(self, message: Message) -> Answer:
        """Return the answer to a message."""
        import asyncio

        mine = (message.attempt, message.number)
        waiting = self._waiting[mine] = asyncio.get_running_loop().create_future()
        await self.put([message])
        try:
            return await waiting
        finally:
            self._waiting.pop(mine, None)

    async def put(self, messages: list[Message]) -> None:
        """Keep messages until they are fetched; none of them lets a waiting :meth:`take` return."""
        self._messages += messages
        self._some.set()

    async def take(self) -> list[Message]:
        """Return the messages that came, waiting for some."""
        await self._some.wait()
        self._some.clear()
        messages, self._messages = self._messages, []
        return messages

    async def answer(self, attempt: str, number: int, answer: Answer) -> None:
        """Answer a message."""
        waiting = self._waiting.get((attempt, number))
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)


def _attempt(name: str, objective: list[Any], task: bytes, key: str, mailbox: Any) -> bytes:
    """Evaluate a task in a Ray worker; in a list, a reference comes as it is, not what it refers to."""
    ray = require_ray()

    def ask(message: Message) -> Answer:
        return aside.submit(ray.get, mailbox.ask.remote(message)).result()

    # a task that waits for Ray in its main thread lends its cores to another one meanwhile
    with ThreadPoolExecutor(1) as aside:
        return remote.attempt(name, lambda: ray.get(objective[0]), task, key, ask)


def _start(ray: Any, workers: int) -> None:
    """Connect to the cluster that the environment names, or start one on this machine."""
    if os.environ.get("RAY_ADDRESS"):
        ray.init(logging_level="ERROR")
        return
    with _environment(workers):
        ray.init(address="local", num_cpus=workers, include_dashboard=False, logging_level="ERROR")


@contextlib.contextmanager
def _environment(workers: int) -> Iterator[None]:
    """Let workers that start now import what can be imported here, and use their share of the cores.

    Ray itself gives them the script's folder, and one core.
    """
    share, before = str(max(1, available_cores() // workers)), dict(os.environ)
    ours = {v: share for v in THREAD_VARIABLES if v not in before} | {"PYTHONPATH": os.pathsep.join(import_path())}
    os.environ.update(ours)
    try:
        yield
    finally:
        for variable in ours:
            if variable in before:
                os.environ[variable] = before[variable]
            else:
                os.environ.pop(variable, None)
