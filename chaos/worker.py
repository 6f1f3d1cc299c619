"""What works on the study under attack: a loop of ask and tell, a loop of ``optimize``, a coordinator with processes.

Three things are written down, each line with one system call. *Evaluated*: what the objective computed, before anybody
else knows. *Acknowledged*: a result that the library has said is stored. *Refused*: an error of the storage that
reached the user's program, and when.
"""

from __future__ import annotations

import functools
import json
import os
import random
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import welltuned as wt
from chaos import clock

DONE, REFUSED, BUG = 0, 3, 1
SPACE = {"x": (0.0, 1.0), "n": wt.Int(1, 1000), "act": wt.Categorical(["relu", "tanh", "gelu"])}
LONGEST = 0.02  # seconds of an evaluation


@dataclass(frozen=True)
class Job:
    """What a worker is to do, and where."""

    kind: str
    url: str
    study: str
    budget: int
    lease: float
    folder: Path  # of what is written down
    number: int

    @property
    def clock(self) -> Path:
        """The file that says how far this worker's clock is off."""
        return self.folder / f"clock-{self.number}"

    @property
    def errors(self) -> Path:
        """What the worker and its processes write to standard error."""
        return self.folder / f"errors-{self.number}"


def write_line(path: Path, *fields: Any) -> None:
    """Append a line to a file, whole or not at all."""
    file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    try:
        os.write(file, f"{json.dumps(fields)}\n".encode())
    finally:
        os.close(file)


def read_lines(folder: Path, kind: str) -> list[list[Any]]:
    """Return what all workers wrote down of a kind."""
    files = sorted(folder.glob(f"{kind}-*"))
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def value_of(number: int, params: Any, nonce: int) -> float:
    """Return a value that tells which trial, which configuration and which evaluation it belongs to."""
    return number + params["x"] / 4 + params["n"] / 8000 + len(params["act"]) / 16 + nonce * 1e-9


def belongs(value: float, number: int, params: Any) -> bool:
    """Tell whether a value can be that of this trial with this configuration."""
    return 0 <= value - value_of(number, params, 0) < 1.1e-6


def objective(folder: Path, trial: Any) -> float:
    """Take up to 20 ms, and write down what comes out."""
    chance = random.SystemRandom()
    time.sleep(chance.random() * LONGEST)
    value = value_of(trial.number, trial, chance.randrange(1000))
    write_line(folder / f"evaluated-{os.getpid()}", trial.number, value, dict(trial))
    return value


def work(job: Job) -> int:
    """Work until the study is done; return the exit code."""
    clock.follow(job.clock)
    opened, opening = time.monotonic(), True
    try:
        study = wt.Study(
            SPACE, storage=job.url, sampler="random", lease=job.lease, n_trials=job.budget, name=job.study, seed=0
        )
        opening = False
        return KINDS[job.kind](job, study)
    except wt.DamagedStorage:  # nothing that is done here damages a file
        traceback.print_exc()
        return BUG
    except wt.StorageError as error:
        refuse(job, error, opened if opening else None)
        return REFUSED
    except BaseException:  # noqa: BLE001 - whatever it is, it is what this program looks for
        traceback.print_exc()
        return BUG
    finally:
        sys.stderr.flush()


def refuse(job: Job, error: Exception, opened: float | None = None) -> None:
    """Write down that the storage did not do something, and since when it was being opened, if it was."""
    write_line(job.folder / f"refused-{job.number}", time.monotonic(), opened, str(error))


def acknowledge(job: Job, number: int, value: float | None, params: Any) -> None:
    """Write down that a result is stored, as far as the library says."""
    write_line(job.folder / f"acknowledged-{job.number}", number, value, params)


def ask_and_tell(job: Job, study: wt.Study) -> int:
    """Ask and tell; go on with the same study where the storage refused something for a while."""
    while True:
        try:
            trial = study.ask()
        except wt.StudyStopped:
            if is_done(job, study):
                return DONE
            time.sleep(0.05)
        except wt.DamagedStorage:
            raise
        except wt.StorageError as error:
            refuse(job, error)
            time.sleep(0.05)
        else:
            insist(job, study, trial, objective(job.folder, trial))


def insist(job: Job, study: wt.Study, trial: Any, value: float) -> None:
    """Tell a result, again where the storage refuses it, unless another process has taken the trial over."""
    while True:
        try:
            study.tell(trial, value)
        except wt.LeaseLost:
            return None
        except wt.DamagedStorage:
            raise
        except wt.StorageError as error:
            refuse(job, error)
            time.sleep(0.05)
        else:
            return acknowledge(job, trial.number, value, dict(trial))


def is_done(job: Job, study: wt.Study) -> bool:
    """Tell whether all trials are finished."""
    try:
        trials = study.trials
    except wt.DamagedStorage:
        raise
    except wt.StorageError as error:
        refuse(job, error)
        return False
    return len(trials) >= job.budget and all(t.state.finished for t in trials)


def optimize(job: Job, study: wt.Study, **options: Any) -> int:
    """Let the library do the loop, with whoever else works on the study, until all trials are done."""
    study.optimize(functools.partial(objective, job.folder), stay=True, progress=False, **options)
    return DONE if is_done(job, study) else REFUSED


def coordinate(job: Job, study: wt.Study) -> int:
    """Let the library do the loop with two processes, and write down what it says is stored."""

    def callback(_: wt.Study, trial: wt.Trial) -> None:
        acknowledge(job, trial.number, trial.value, dict(trial.params or {}))

    return optimize(job, study, workers=2, callbacks=[callback])


#: the worker's program by its name in the list of faults
KINDS: dict[str, Callable[[Job, wt.Study], int]] = {
    "worker": ask_and_tell,
    "loop": optimize,
    "coordinator": coordinate,
}
