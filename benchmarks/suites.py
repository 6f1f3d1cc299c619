"""The suites of problems that are raced over, by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import functions
import problems
import tasks
from problems import Problem

_SUITES: dict[str, Callable[[Path | None], dict[str, Callable[[], Problem]]]] = {
    "bbob": lambda _: problems.bbob(),
    "bbob-5d": lambda _: problems.bbob_all(5),
    "bbob-10d": lambda _: problems.bbob_all(10),
    "branches": lambda _: problems.branches(),
    "choices": lambda _: tasks.choices(),
    "forks": problems.forks,
    "functions": lambda _: functions.functions(),
    "sklearn": lambda _: problems.sklearn(),
    "surrogates": problems.surrogates,
    "tasks": lambda _: tasks.tasks(),
}
SUITES = tuple(_SUITES)


def suite(name: str, yahpo: Path | None = None) -> dict[str, Callable[[], Problem]]:
    """Return the problems of a suite by name, each as a function that makes it.

    Raises
    ------
    Missing
        When the suite needs a package or a folder that is not there.
    """
    return _SUITES[name](yahpo)
