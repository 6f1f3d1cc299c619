"""Hyperparameter tuning by grid, random, Bayesian and gradient search.

Start with :class:`Study`, or with :func:`minimize` and :func:`maximize`. Everything here is loaded when it is first
used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "welltuned.space": ("Categorical", "Float", "Int", "Ordinal", "Space"),
    "welltuned.study": (
        *("ExpectedGain", "MaxCost", "Patience", "Study", "Target"),
        *("delete_study", "from_optuna", "maximize", "minimize"),
    ),
    "welltuned.samplers": ("CMAES", "NSGA2", "SAMPLERS", "TPE", "Auto", "Bayes", "Gradient", "Grid", "QMC", "Random"),
    "welltuned.schedulers": ("SCHEDULERS", "Asha", "Halving", "Hyperband", "Median", "Pbt", "Race"),
    "welltuned.storage": ("STORAGES",),
    "welltuned.executors": ("EXECUTORS",),
    "welltuned.evaluation": ("Result",),
    "welltuned.history": ("History",),
    "welltuned.live": ("LiveTrial",),
    "welltuned.trial": ("Reason", "State", "Trial"),
    "welltuned.errors": (
        "InactiveParameter",
        "Infeasible",
        "InvalidType",
        "InvalidValue",
        "LeaseLost",
        "MissingDependency",
        "NoCompletedTrial",
        "Pruned",
        "DamagedStorage",
        "StorageError",
        "StudyStopped",
        "TrackerError",
        "UnknownStudy",
        "WelltunedError",
    ),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
# what is done with a study once it is there: wt.report.write_report(study, "study.html")
_MODULES = ("plots", "report", "stats")
# what other tuners have by that name, and what it is here
_ELSEWHERE = {
    "create_study": "write wt.Study(space, storage=…)",
    "load_study": "write wt.Study(storage=…, name=…)",
    "fmin": "write wt.minimize(objective, space, n_trials)",
    **dict.fromkeys(("Real", "Uniform", "uniform"), "write wt.Float(low, high)"),
    **dict.fromkeys(("LogUniform", "loguniform"), "write wt.Float(low, high, log=True)"),
    **dict.fromkeys(("Integer", "randint"), "write wt.Int(low, high)"),
    **dict.fromkeys(("Choice", "choice"), "write wt.Categorical([…])"),
    **dict.fromkeys(("visualization", "plot"), "see wt.plots"),
    **dict.fromkeys(
        ("BayesSearchCV", "GridSearchCV", "RandomizedSearchCV", "OptunaSearchCV"), "searches are in welltuned.sklearn"
    ),
    **dict.fromkeys(("TPESampler", "GPSampler", "RandomSampler"), "write sampler='tpe', or see wt.SAMPLERS"),
    **dict.fromkeys(("MedianPruner", "HyperbandPruner"), "write scheduler='median', or see wt.SCHEDULERS"),
}

if TYPE_CHECKING:
    from welltuned import plots as plots
    from welltuned import report as report
    from welltuned import stats as stats
    from welltuned.errors import (
        DamagedStorage,
        InactiveParameter,
        Infeasible,
        InvalidType,
        InvalidValue,
        LeaseLost,
        MissingDependency,
        NoCompletedTrial,
        Pruned,
        StorageError,
        StudyStopped,
        TrackerError,
        UnknownStudy,
        WelltunedError,
    )
    from welltuned.evaluation import Result
    from welltuned.executors import EXECUTORS
    from welltuned.history import History
    from welltuned.live import LiveTrial
    from welltuned.samplers import CMAES, NSGA2, QMC, SAMPLERS, TPE, Auto, Bayes, Gradient, Grid, Random
    from welltuned.schedulers import SCHEDULERS, Asha, Halving, Hyperband, Median, Pbt, Race
    from welltuned.space import Categorical, Float, Int, Ordinal, Space
    from welltuned.storage import STORAGES
    from welltuned.study import (
        ExpectedGain,
        MaxCost,
        Patience,
        Study,
        Target,
        delete_study,
        from_optuna,
        maximize,
        minimize,
    )
    from welltuned.trial import Reason, State, Trial

# in the order of the reference
__all__ = [
    "Study",
    "minimize",
    "maximize",
    "LiveTrial",
    "Result",
    "Space",
    "Float",
    "Int",
    "Categorical",
    "Ordinal",
    "Trial",
    "State",
    "Reason",
    "History",
    "Auto",
    "Bayes",
    "TPE",
    "CMAES",
    "NSGA2",
    "Gradient",
    "Grid",
    "Random",
    "QMC",
    "Median",
    "Halving",
    "Asha",
    "Hyperband",
    "Pbt",
    "Race",
    "Patience",
    "Target",
    "MaxCost",
    "ExpectedGain",
    "from_optuna",
    "delete_study",
    "SAMPLERS",
    "SCHEDULERS",
    "EXECUTORS",
    "STORAGES",
    "Infeasible",
    "Pruned",
    "WelltunedError",
    "InactiveParameter",
    "InvalidValue",
    "InvalidType",
    "NoCompletedTrial",
    "StudyStopped",
    "UnknownStudy",
    "LeaseLost",
    "StorageError",
    "DamagedStorage",
    "TrackerError",
    "MissingDependency",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"welltuned.{name}")
    if name not in _HOME:
        instead = f"; {_ELSEWHERE[name]}" if name in _ELSEWHERE else ""
        raise AttributeError(f"module 'welltuned' has no attribute {name!r}{instead}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES])
