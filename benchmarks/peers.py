"""One shape for all searches in the race: ``ask()`` returns a configuration, ``tell(value)`` says how good it was."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

import welltuned as wt
from problems import Choice, Config, Number, Parameter, Problem, active, draw


class Search(Protocol):
    """A search under way."""

    def ask(self) -> Config: ...

    def tell(self, value: float) -> None: ...


def _parameter(parameter: Parameter) -> wt.Categorical | wt.Float | wt.Int:
    when = None if parameter.when is None else {parameter.when[0]: sorted(parameter.when[1])}
    if isinstance(parameter, Choice):
        return wt.Categorical(list(parameter.values), when=when)
    kind = wt.Int if parameter.whole else wt.Float
    return kind(parameter.low, parameter.high, log=parameter.log, when=when)


def welltuned_space(problem: Problem) -> wt.Space:
    return wt.Space({name: _parameter(p) for name, p in problem.space.items()})


class Welltuned:
    """A sampler of this package."""

    def __init__(self, problem: Problem, seed: int, budget: int, sampler: str) -> None:
        space = welltuned_space(problem)
        self.study = wt.Study(space, direction="minimize", sampler=sampler, seed=seed, n_trials=budget)

    def ask(self) -> Config:
        self.trial = self.study.ask()
        return dict(self.trial)

    def tell(self, value: float) -> None:
        self.study.tell(self.trial, value)


class NumpyRandom:
    """Random search in plain numpy, which no package can have got wrong."""

    def __init__(self, problem: Problem, seed: int, budget: int) -> None:
        self.space, self.rng = problem.space, np.random.default_rng(seed)

    def ask(self) -> Config:
        return draw(self.space, self.rng)

    def tell(self, value: float) -> None:
        pass


class Optuna:
    """A sampler of Optuna, or of a package with the same interface; None is the package's default."""

    def __init__(self, problem: Problem, seed: int, budget: int, sampler: str | None, module: str = "optuna") -> None:
        optuna = importlib.import_module(module)
        if module == "optuna":
            optuna.logging.set_verbosity(optuna.logging.ERROR)
        if sampler == "GPSampler":
            importlib.import_module("torch").set_num_threads(1)
        # the default has no seed of its own: its runs differ from one another, and from those of the next race
        made = None if sampler is None else getattr(optuna.samplers, sampler)(seed=seed)
        self.space, self.study, self.by_number = problem.space, optuna.create_study(sampler=made), module != "optuna"

    def ask(self) -> Config:
        self.trial = self.study.ask()
        config: Config = {}
        for name, p in self.space.items():
            if p.when is None or config.get(p.when[0]) in p.when[1]:
                config[name] = self._suggest(name, p)
        return config

    def _suggest(self, name: str, parameter: Parameter) -> Any:
        if isinstance(parameter, Choice):
            return self.trial.suggest_categorical(name, list(parameter.values))
        suggest = self.trial.suggest_int if parameter.whole else self.trial.suggest_float
        return suggest(name, parameter.low, parameter.high, log=parameter.log)

    def tell(self, value: float) -> None:
        self.study.tell(self.trial.number if self.by_number else self.trial, value)


class Skopt:
    """The Gaussian process of scikit-optimize. It knows no conditions: it searches all parameters at once."""

    def __init__(self, problem: Problem, seed: int, budget: int) -> None:
        import skopt

        self.space = problem.space
        self.optimizer = skopt.Optimizer([self._dimension(p) for p in self.space.values()], "GP", random_state=seed)

    @staticmethod
    def _dimension(parameter: Parameter) -> Any:
        from skopt.space import Categorical, Integer, Real

        if isinstance(parameter, Choice):
            return Categorical(list(parameter.values))
        kind = Integer if parameter.whole else Real
        return kind(parameter.low, parameter.high, prior="log-uniform" if parameter.log else "uniform")

    @staticmethod
    def _plain(parameter: Parameter, value: Any) -> Any:
        if isinstance(parameter, Number):
            return int(value) if parameter.whole else float(value)
        return next(choice for choice in parameter.values if choice == value)

    def ask(self) -> Config:
        self.point = self.optimizer.ask()
        named = zip(self.space.items(), self.point, strict=True)
        return active(self.space, {name: self._plain(p, value) for (name, p), value in named})

    def tell(self, value: float) -> None:
        self.optimizer.tell(self.point, value)


class Ax:
    """Ax with the search that it chooses by itself. It knows no conditions: it searches all parameters at once."""

    def __init__(self, problem: Problem, seed: int, budget: int) -> None:
        import torch
        from ax.api.client import Client

        torch.set_num_threads(1)
        logging.disable(logging.INFO)  # it says each trial, by loggers with levels of their own
        self.space, self.client = problem.space, Client(random_seed=seed)
        self.client.configure_experiment(parameters=[self._parameter(name, p) for name, p in self.space.items()])
        self.client.configure_optimization(objective="-loss")

    @staticmethod
    def _parameter(name: str, parameter: Parameter) -> Any:
        from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

        if isinstance(parameter, Choice):
            labels = [str(i) for i in range(len(parameter.values))]
            return ChoiceParameterConfig(name=name, values=labels, parameter_type="str", is_ordered=False)
        return RangeParameterConfig(
            name=name,
            bounds=(parameter.low, parameter.high),
            parameter_type="int" if parameter.whole else "float",
            scaling="log" if parameter.log else "linear",
        )

    def ask(self) -> Config:
        ((self.trial, found),) = self.client.get_next_trials(max_trials=1).items()
        full = {n: p.values[int(found[n])] if isinstance(p, Choice) else found[n] for n, p in self.space.items()}
        return active(self.space, full)

    def tell(self, value: float) -> None:
        self.client.complete_trial(trial_index=self.trial, raw_data={"loss": value})


@dataclass(frozen=True)
class Entry:
    """How a search is started, and what must be installed for it: the module, and what pip calls it."""

    start: Callable[..., Search]
    settings: dict[str, Any]
    needs: dict[str, str]

    def missing(self) -> list[str]:
        """Return the packages that are not installed."""
        return [package for module, package in self.needs.items() if importlib.util.find_spec(module) is None]


_EXTRA = {"cmaes": {"cmaes": "cmaes"}}
_OPTUNA = {"optuna": "optuna"}
ENTRIES: dict[str, Entry] = {
    **{name: Entry(Welltuned, {"sampler": name}, _EXTRA.get(name, {})) for name in wt.SAMPLERS},
    "numpy-random": Entry(NumpyRandom, {}, {}),
    "optuna-default": Entry(Optuna, {"sampler": None}, _OPTUNA),
    "optuna-tpe": Entry(Optuna, {"sampler": "TPESampler"}, _OPTUNA),
    "optuna-gp": Entry(Optuna, {"sampler": "GPSampler"}, {**_OPTUNA, "torch": "torch"}),
    "optuna-cmaes": Entry(Optuna, {"sampler": "CmaEsSampler"}, {**_OPTUNA, "cmaes": "cmaes"}),
    "ax": Entry(Ax, {}, {"ax": "ax-platform"}),
    "skopt": Entry(Skopt, {}, {"skopt": "scikit-optimize"}),
    "rustuna": Entry(Optuna, {"sampler": "TPESampler", "module": "rustuna"}, {"rustuna": "rustuna"}),
}


def start(name: str, problem: Problem, seed: int, budget: int) -> Search:
    """Start the search of that name."""
    entry = ENTRIES[name]
    return entry.start(problem, seed, budget, **entry.settings)
