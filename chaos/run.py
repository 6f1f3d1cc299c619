"""One round: workers, faults, and the wait for the end."""

from __future__ import annotations

import collections
import contextlib
import os
import random
import resource
import shutil
import signal
import tempfile
import time
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from chaos.count import Count, count
from chaos.disk import Disk
from chaos.ending import end_with_parent
from chaos.places import Fault, Place, children_of, jump, kill
from chaos.worker import BUG, DONE, Job, work

LEASE = 1.5
CREW = ("worker", "worker", "loop", "coordinator")
PATIENCE = 240.0  # seconds after the last fault in which a study has to end
LEAST = 64 << 10  # bytes that a process may always write into a file


@dataclass(frozen=True)
class Injected:
    """A fault, and when it was over."""

    name: str
    began: float
    ended: float


@dataclass
class Round:
    """What happened in a round, and what was found afterwards."""

    storage: str
    injected: list[Injected] = field(default_factory=list)
    restarts: int = 0
    seconds: float = 0.0
    count: Count = field(default_factory=Count)

    @property
    def faults(self) -> collections.Counter[str]:
        """How many of each kind."""
        return collections.Counter(fault.name for fault in self.injected)


@dataclass
class Plan:
    """How a round goes."""

    budget: int = 400
    seconds: float = 60.0  # after which no fault strikes any more
    pause: float = 0.15  # seconds between faults, on average
    only: Collection[str] = ()  # kinds of faults; all, unless given


@dataclass
class Process:
    """A worker, started again whenever it ends before the study is done."""

    job: Job
    pid: int = 0
    is_done: bool = False
    resumes: float | None = None  # when it is continued after it was stopped
    unlimited: float | None = None  # when it may write again


class Siege:
    """The workers of a round and what is done to them."""

    def __init__(self, place: Place, folder: Path, study: str, plan: Plan, chance: random.Random) -> None:
        self.place, self.folder, self.plan, self.chance = place, folder, plan, chance
        self.round = Round("")
        job = Job("", place.url, study, plan.budget, LEASE, folder, 0)
        self.crew = [Process(replace(job, kind=kind, number=i)) for i, kind in enumerate(CREW)]
        own: dict[str, tuple[Fault, int]] = {
            "worker killed": (lambda: self._kill("worker", "loop"), 3),
            "coordinator killed": (lambda: self._kill("coordinator"), 1),
            "evaluating process killed": (self._kill_child, 2),
            "stopped and continued": (self._stop, 3),
            "clock jumped": (self._jump, 3),
        }
        if place.is_file:
            own["files limited"] = (self._limit, 3)
        faults = {**own, **{name: (fault, 1) for name, fault in place.faults().items()}}
        self.faults = {name: fault for name, fault in faults.items() if not plan.only or name in plan.only}

    def run(self) -> None:
        """Hurt until the study is done or the time is over, then let it heal and finish."""
        for process in self.crew:
            self._start(process)
        began = time.monotonic()
        end, last = began + self.plan.seconds, began + self.plan.seconds + PATIENCE
        while not all(p.is_done for p in self.crew):
            now, quiet = time.monotonic(), any(p.is_done for p in self.crew)
            if now > last:
                self.round.count.violate("stuck", f"not done {PATIENCE:g} seconds after the last fault")
                break
            quiet |= now >= end
            if not quiet:
                self._strike()
            self._heal(quiet)
            self.place.tick(quiet)
            self._reap()
            time.sleep(0.05 if quiet else self.chance.random() * 2 * self.plan.pause)
        self._heal(True)
        for process in self.crew:
            if not process.is_done:
                _end_group(process.pid)
                os.waitpid(process.pid, 0)
        self.round.seconds = time.monotonic() - began

    def _strike(self) -> None:
        name = self.chance.choices(list(self.faults), [weight for _, weight in self.faults.values()])[0]
        began = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            seconds = self.faults[name][0]()
            if seconds >= 0:
                self.round.injected.append(Injected(name, began, time.monotonic() + seconds))

    def _start(self, process: Process) -> None:
        """Fork a worker: it is there at once, since everything is imported."""
        process.resumes = process.unlimited = None
        process.pid = os.fork()
        if process.pid:
            return
        code = BUG
        try:
            os.setsid()
            end_with_parent()
            errors = os.open(process.job.errors, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
            os.dup2(errors, 2)
            code = work(process.job)
        finally:
            os._exit(code)

    def _reap(self) -> None:
        for process in self.crew:
            if process.is_done:
                continue
            pid, status = os.waitpid(process.pid, os.WNOHANG)
            if not pid:
                continue
            code = os.waitstatus_to_exitcode(status)
            if code == DONE:
                process.is_done = True
                continue
            if code == BUG:
                self.round.count.violate("crashed", f"a {process.job.kind} ended with an unexpected error")
            elif code < 0 and code != -signal.SIGKILL:
                self.round.count.violate("crashed", f"a {process.job.kind} ended with signal {-code}")
            self.round.restarts += 1
            self._start(process)

    # faults: each returns for how many seconds it lasts, or -1 where there was nothing to hurt

    def _one(self, *kinds: str) -> Process | None:
        alive = [p for p in self.crew if not p.is_done and (not kinds or p.job.kind in kinds)]
        return self.chance.choice(alive) if alive else None

    def _kill(self, *kinds: str) -> float:
        process = self._one(*kinds)
        if process is None:
            return -1
        os.kill(process.pid, signal.SIGKILL)
        return 0

    def _kill_child(self) -> float:
        children = [pid for p in self.crew if not p.is_done for pid in children_of(p.pid)]
        if not children:
            return -1
        kill(self.chance.choice(children))
        return 0

    def _stop(self) -> float:
        process = self._one()
        if process is None or process.resumes is not None:
            return -1
        os.kill(process.pid, signal.SIGSTOP)
        seconds = self.chance.uniform(0.1, 4.0) * LEASE
        process.resumes = time.monotonic() + seconds
        return seconds

    def _jump(self) -> float:
        process = self._one()
        if process is None:
            return -1
        process.job.clock.write_text(str(jump(self.chance)), encoding="ascii")
        return 0

    def _limit(self) -> float:
        """Let one process write nothing beyond about where its files end now, as if the disk were full."""
        process, file = self._one(), self.place.file
        if process is None or process.unlimited is not None or file is None:
            return -1
        sizes = [p.stat().st_size for p in file.parent.glob("study.db*") if not p.name.endswith("-shm")]
        limit = max(*sizes, LEAST, LEAST) + self.chance.randrange(8192)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        seconds = self.chance.uniform(0.2, 1.0)
        process.unlimited = time.monotonic() + seconds
        return seconds

    def _heal(self, everything: bool) -> None:
        now = time.monotonic()
        for process in self.crew:
            if process.is_done:
                continue
            with contextlib.suppress(ProcessLookupError):
                if process.resumes is not None and (everything or now >= process.resumes):
                    process.resumes = None
                    os.kill(process.pid, signal.SIGCONT)
                if process.unlimited is not None and (everything or now >= process.unlimited):
                    process.unlimited = None
                    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        if everything:
            for clock in self.folder.glob("clock-*"):
                clock.unlink()


def run_round(place: Place, storage: str, number: int, plan: Plan, seed: int, mount: bool) -> Round:
    """Let a crew finish a study while faults strike; then count."""
    folder = Path(tempfile.mkdtemp(prefix="welltuned-chaos-"))
    disk = Disk(folder / "disk", mount)
    try:
        place.open(disk)
        siege = Siege(place, folder, f"round-{number}", plan, random.Random(f"{storage} {seed} {number}"))
        siege.round.storage = storage
        siege.run()
        place.tick(heal=True)
        count(place, folder, f"round-{number}", plan.budget, siege.round.injected, siege.round.count)
        return siege.round
    finally:
        place.shut()
        disk.close()
        if os.environ.get("WELLTUNED_CHAOS_KEEP"):
            print(f"kept {folder}", flush=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _end_group(pid: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)
