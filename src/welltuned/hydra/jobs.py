"""Trials as jobs of one of Hydra's launchers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from welltuned.hydra.overrides import Search
from welltuned.live import LiveTrial

OVERRIDES, FOLDER = "overrides", "folder"  # what is noted of a trial: its job's overrides, and where it ran


class Jobs:
    """Launch trials, one or several at a time; what jobs return is read as the values of any objective.

    Parameters
    ----------
    launcher
        Hydra's.
    search
        What writes the overrides of a trial.
    folder
        That of the sweep, which has a folder for each job.
    subdir
        What these are called, before Hydra puts numbers in.
    """

    def __init__(self, launcher: Any, search: Search, folder: Path, subdir: str = "${hydra.job.num}") -> None:
        self._launcher, self._search, self._folder = launcher, search, folder
        pieces = re.split(r"(\$\{[^}]*\})", subdir)
        self._numbered = re.compile(
            "".join(
                re.escape(p) if not p.startswith("${") else r"(\d+)" if re.search(r"job\.(num|id)\}", p) else ".*"
                for p in pieces
            )
        )
        self._levels = subdir.count("/") + 1
        self._next = 0

    def one(self, trial: LiveTrial) -> Any:
        """Launch one trial, and return what its job returns or raise what it raises."""
        [result] = self.several([trial])
        if isinstance(result, Exception):
            raise result
        return result

    def several(self, trials: Sequence[LiveTrial]) -> list[Any]:
        """Launch trials together; return what each of their jobs returns, or the exception that it raised."""
        number = max(trials[0].number, self._next, self._unused())
        self._next = number + len(trials)
        jobs = [self._search.overrides(trial) for trial in trials]
        for trial, job in zip(trials, jobs, strict=True):
            trial.note(**{OVERRIDES: job})
        returns = self._launcher.launch(jobs, initial_job_idx=number)
        return [_result(trial, returned) for trial, returned in zip(trials, returns, strict=True)]

    def _unused(self) -> int:
        """Return a number beyond those of the folders that are there: a killed trial keeps what it has written."""
        there = (path.relative_to(self._folder).as_posix() for path in self._folder.glob("/".join("*" * self._levels)))
        found = [m for name in there if (m := self._numbered.fullmatch(name)) and m.groups()]
        return max((int(m[1]) for m in found), default=-1) + 1


def _result(trial: LiveTrial, returned: Any) -> Any:
    folder = OmegaConf.select(returned.hydra_cfg, "hydra.runtime.output_dir") if returned.hydra_cfg else None
    if folder is not None:
        trial.note(**{FOLDER: str(folder)})
    try:
        value = returned.return_value
    except Exception as error:  # noqa: BLE001 - whatever the program raises is how its trial ended
        return error
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
