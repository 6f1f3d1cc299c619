"""What a worker process on this machine runs: the other end of :class:`welltuned.executors.ProcessExecutor`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cloudpickle

from welltuned.evaluation import evaluate
from welltuned.executors import tree
from welltuned.executors.remote import loads_with_main, portable
from welltuned.live import LiveTrial, Task
from welltuned.trial import Report

#: tells a worker to end, in place of a task; a connection that ends without it tells that the parent has died
END = b""
#: how many times its memory limit, and bytes beyond, a trial may reserve
ROOM = 4, 4 * 2**30


def serve() -> None:
    """Run a worker process: evaluate what the parent sends that standard input tells of."""
    content = sys.stdin.buffer.read()
    if not content.endswith(b"}"):
        return  # the parent died while it said hello
    hello = json.loads(content)
    # the parent decides what becomes of its workers; programs they start would inherit SIG_IGN, but no function
    signal.signal(signal.SIGINT, lambda *_: None)
    sys.path[:], sys.argv[:] = hello["path"], hello["argv"]
    with contextlib.suppress(OSError):
        os.chdir(hello["cwd"])
    threading.Thread(target=_die_with, args=(hello["parent"],), daemon=True).start()
    os.set_inheritable(hello["connection"], False)
    with contextlib.suppress(EOFError, OSError):
        _work(Connection(hello["connection"]), hello["memory"])
        return
    tree.kill(os.getpid())  # the parent is gone


def _work(connection: Connection, memory: int | None) -> None:
    def tell(kind: str, content: Any = None) -> None:
        connection.send_bytes(cloudpickle.dumps((kind, content)))

    def broken(error: Exception) -> None:
        tell("broken", f"{type(error).__name__}: {error}")

    payload = connection.recv_bytes()
    try:
        objective, objectives = loads_with_main(payload)
    except Exception as error:  # noqa: BLE001 - importing the user's module may raise anything
        connection.recv_bytes()
        broken(error)
        return

    talking, current = threading.Lock(), None  # threads of the objective may report, some when their trial has ended

    def on_report(task: Task, report: Report) -> bool:
        with talking:
            if task is not current:
                return True
            tell("report", ((task.number, task.token), report))
            return bool(connection.recv())

    while True:
        content = connection.recv_bytes()
        if content == END:
            return
        try:
            task = loads_with_main(content)
        except Exception as error:  # noqa: BLE001 - as above, of what a parameter is made of
            broken(error)
            return
        tell("begun")
        current = task
        with _capped(memory):
            outcome = evaluate(objective, LiveTrial(task, on_report), objectives)
        for stream in (sys.stdout, sys.stderr):  # this process may be killed, and what it printed lost with it
            with contextlib.suppress(Exception):
                stream.flush()
        content = portable(outcome)
        with talking:
            current = None
            tell("done", content)


@contextlib.contextmanager
def _capped(memory: int | None) -> Iterator[None]:
    """Let one huge allocation fail before it takes the machine down.

    This limit counts what is reserved, such as the stacks of threads, not what is used; so it leaves ample room, and
    what is used is watched from outside.
    """
    if memory is None:
        yield
        return
    import resource

    used = next(
        int(line.split()[1]) * 1024
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        if line.startswith("VmData:")
    )
    before, limit = resource.getrlimit(resource.RLIMIT_DATA), used + ROOM[0] * memory + ROOM[1]
    if before[1] != resource.RLIM_INFINITY:
        limit = min(limit, before[1])
    resource.setrlimit(resource.RLIMIT_DATA, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _die_with(parent: int) -> None:
    """End this process and what it has started when its parent is gone, even in the middle of an objective."""
    while os.getppid() == parent:
        time.sleep(0.5)
    tree.kill(os.getpid())
