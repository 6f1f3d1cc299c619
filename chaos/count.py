"""The count afterwards: what was acknowledged against what is stored."""

from __future__ import annotations

import collections
import contextlib
import re
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import welltuned as wt
from chaos.worker import belongs, read_lines
from welltuned.storage import open_storage

if TYPE_CHECKING:
    from chaos.places import Place
    from chaos.run import Injected

#: what may go wrong, in the order of the table
VIOLATIONS = ("lost", "duplicated", "wrong", "budget", "unfinished", "crashed", "unexplained", "damaged", "stuck")
SLACK = 15.0  # seconds after a fault in which its errors may come to light on a busy machine
FULL = ("disk full", "files limited")
FULL_TEXT = re.compile(r"is full|disk I/O error|No space left|File too large|unable to open database file")
LOCAL = ("worker killed", "coordinator killed", "evaluating process killed", "stopped and continued", "clock jumped")


@dataclass
class Count:
    """What was found, and what of it should not be."""

    trials: int = 0
    acknowledged: int = 0
    refused: int = 0  # errors of the storage that a fault explains
    failed: int = 0  # trials whose processes died too often
    violations: collections.Counter[str] = field(default_factory=collections.Counter)
    texts: list[str] = field(default_factory=list)

    def violate(self, kind: str, text: str) -> None:
        """Note something that must not happen."""
        self.violations[kind] += 1
        self.texts.append(f"{kind}: {text}")


def count(place: Place, folder: Path, study: str, budget: int, injected: Sequence[Injected], found: Count) -> None:
    """Open the study again and look at everything."""
    count_errors(folder, found)
    count_refusals(folder, injected, found)
    storage = _open_patiently(place.direct)
    with contextlib.closing(storage):
        reopened = wt.Study(storage=storage, sampler="random", name=study, n_trials=budget)
        trials = reopened.trials
        count_trials(trials, budget, found)
        count_values(trials, read_lines(folder, "evaluated"), found)
        count_acknowledged(trials, read_lines(folder, "acknowledged"), found)
        if not found.violations["stuck"]:
            reopened.optimize(lambda t: t["x"], budget, progress=False)
            if added := len(reopened.trials) - len(trials):
                found.violate("budget", f"running again added {added} trials")
    if place.file is not None:
        with contextlib.closing(sqlite3.connect(place.file)) as db:
            if (verdict := db.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
                found.violate("damaged", verdict)


def count_trials(trials: Sequence[wt.Trial], budget: int, found: Count) -> None:
    """Is the budget exact, and is everything finished?"""
    found.trials = len(trials)
    numbers = [t.number for t in trials]
    if numbers != list(range(budget)):
        missing, extra = sorted(set(range(budget)) - set(numbers)), sorted(set(numbers) - set(range(budget)))
        found.violate("budget", f"{len(numbers)} trials, not {budget}; missing {missing[:9]}, too many {extra[:9]}")
    for trial in trials:
        if not trial.state.finished:
            found.violate("unfinished", f"trial {trial.number} is {trial.state.value}, of {trial.owner}")
    keys = collections.Counter(t.key for t in trials if t.key is not None)
    for key, times in keys.items():
        if times > 1:
            found.violate("duplicated", f"{times} trials have the configuration {key}")


def count_values(trials: Sequence[wt.Trial], evaluated: Iterable[Sequence[Any]], found: Count) -> None:
    """Was every stored result computed, for this trial and from these parameters?"""
    computed = {(number, value): params for number, value, params in evaluated}
    for trial in trials:
        if trial.state is wt.State.FAILED and trial.reason is wt.Reason.LOST:
            found.failed += 1  # its processes were killed three times in a row
        elif trial.state is wt.State.FAILED:
            found.violate("wrong", f"trial {trial.number} failed: {trial.error}")
        elif trial.state is wt.State.COMPLETE:
            assert trial.value is not None
            params = dict(trial.params or {})
            if computed.get((trial.number, trial.value)) != params or not belongs(trial.value, trial.number, params):
                found.violate("wrong", f"trial {trial.number}: nobody computed {trial.value!r} from {params}")


def count_acknowledged(trials: Sequence[wt.Trial], lines: Iterable[Sequence[Any]], found: Count) -> None:
    """Is every acknowledged result there, as it was acknowledged, and acknowledged once?"""
    stored, seen = {t.number: t for t in trials}, collections.Counter[int]()
    for number, value, params in lines:
        found.acknowledged += 1
        seen[number] += 1
        trial = stored.get(number)
        if trial is None or not trial.state.finished:
            found.violate("lost", f"trial {number} was acknowledged with {value!r}; found is {trial}")
        elif trial.value != value or dict(trial.params or {}) != params:
            found.violate("wrong", f"trial {number} was acknowledged with {value!r} of {params}; found is {trial}")
    for number, times in seen.items():
        if times > 1:
            found.violate("duplicated", f"trial {number} was acknowledged {times} times")


def count_refusals(folder: Path, injected: Sequence[Injected], found: Count) -> None:
    """Does a fault explain each error of the storage that reached a worker's program?

    A full disk is reported at once. A server that is away is waited for, but by nobody who has yet to open the study.
    """
    for at, opened, text in read_lines(folder, "refused"):
        around = [f.name for f in injected if f.began <= at and f.ended + SLACK >= (opened or at)]
        full = bool(FULL_TEXT.search(text)) and any(name in FULL for name in around)
        away = opened is not None and any(name not in (*FULL, *LOCAL) for name in around)
        if full or away:
            found.refused += 1
        else:
            found.violate("unexplained", f"{text} (while {'opening' if opened else 'working'}; faults: {around[-5:]})")


def count_errors(folder: Path, found: Count) -> None:
    """Did anything end in a traceback, in whatever process or thread?"""
    for path in sorted(folder.glob("errors-*")):
        text = path.read_text(encoding="utf-8", errors="replace")
        for traceback in re.findall(r"Traceback \(most recent call last\):\n(?:.*\n)*?\S.*", text):
            end = "\n".join(traceback.splitlines()[-8:])
            found.violate("crashed", f"{path.name}:\n{end}")


def _open_patiently(url: str, seconds: float = 90.0) -> Any:
    """Open a storage whose server may just be coming back."""
    end = time.monotonic() + seconds
    while True:
        try:
            return open_storage(url)
        except wt.StorageError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)
