"""Many processes on one SQLite file, each with trials of its own: no error, nothing lost, no number twice."""

from __future__ import annotations

import collections
import contextlib
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

import welltuned as wt
from chaos.worker import read_lines, write_line
from welltuned.storage import SQLiteStorage


def run_crowd(processes: int, trials: int) -> int:
    """Let so many processes ask and tell so many trials each; print the figures; 1 where anything is wrong."""
    with tempfile.TemporaryDirectory(prefix="welltuned-crowd-") as name:
        folder, began = Path(name), time.monotonic()
        wt.Study({"x": (0.0, 1.0)}, storage=folder / "study.db", sampler="random", seed=0)
        members = [_fork(folder, i, trials) for i in range(processes)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in members]
        seconds = time.monotonic() - began
        with contextlib.closing(SQLiteStorage(folder / "study.db")) as storage:
            stored = wt.Study(storage=storage).trials
        told = [tuple(line) for line in read_lines(folder, "told")]
    errors = sum(code != 0 for code in codes)
    numbers = collections.Counter(number for number, _ in told)
    values = {t.number: t.value for t in stored if t.state is wt.State.COMPLETE}
    lost = sum(values.get(number) != value for number, value in told)
    twice = sum(n - 1 for n in numbers.values()) + len(stored) - len({t.key for t in stored})
    print(
        f"{processes} processes x {trials} trials on one file: {len(stored)} trials in {seconds:.1f} s "
        f"({len(stored) / seconds:.0f} a second), {errors} errors, {lost} lost, {twice} duplicated"
    )
    return int(errors > 0 or lost > 0 or twice > 0 or len(stored) != processes * trials)


def _fork(folder: Path, number: int, trials: int) -> int:
    if pid := os.fork():
        return pid
    code = 1
    try:
        study = wt.Study({"x": (0.0, 1.0)}, storage=folder / "study.db", sampler="random", seed=0)
        for _ in range(trials):
            trial = study.ask()
            value = trial.number + trial["x"]
            study.tell(trial, value)
            write_line(folder / f"told-{number}", trial.number, value)
        code = 0
    except BaseException:  # noqa: BLE001 - whatever it is, it is an error
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)
