"""NSGA-II, a genetic algorithm: for several objectives, or any, when trials are cheap and many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from welltuned.history import History
from welltuned.pareto import crowding, fronts, penalised
from welltuned.samplers.initial import initial_design
from welltuned.samplers.novel import novel
from welltuned.settings import check_whole
from welltuned.space import Categorical, Params, Space

SPREAD_CROSSOVER, SPREAD_MUTATION = 20.0, 20.0  # η_c and η_m of the paper


@dataclass(frozen=True)
class NSGA2:
    """Breed new trials from the best ones so far: those on the first fronts, the less crowded ones first.

    Deb, Pratap, Agarwal and Meyarivan, *A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II* (2002), as a
    steady state: the parents of every child are the best of all trials that are known by then, so that it needs no
    generations, no state, and no waiting for slow workers. Trials that failed or violate constraints come last.

    Parameters
    ----------
    population
        Trials that parents are drawn from.

    Examples
    --------
    >>> NSGA2(population=30)
    NSGA2(population=30)
    """

    population: int = 50
    model_based: ClassVar[bool] = True
    several_objectives: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_whole(self, population=4)

    def suggest(self, space: Space, history: History, n: int, rng: np.random.Generator) -> list[Params]:
        """See :meth:`Sampler.suggest`."""
        started = int((history.observed | history.failed | history.pending).sum())
        design = n if history.observed.sum() < 4 else max(0, min(n, self.population - started))
        seen: set[str] = set()
        chosen = novel(space, history, initial_design(space, history, design, rng), design, rng, seen)
        if len(chosen) < design or design == n:
            return chosen
        parents = best_of(history, self.population)
        unit = space.activate(offspring(space, parents, 4 * (n - design), rng))
        children = space.decode(unit[space.feasible(unit)], activated=True)
        return chosen + novel(space, history, children, n - design, rng, seen)


def best_of(history: History, size: int) -> np.ndarray:
    """Return up to ``size`` observed rows in the order of their fronts, the less crowded first within each."""
    rows = np.flatnonzero(history.observed)
    allowed, others = rows[history.feasible[rows]], rows[~history.feasible[rows]]
    order: list[int] = []
    for front in fronts(history.losses[allowed], size):
        order += allowed[front[np.argsort(-crowding(history.losses[allowed[front]]), kind="stable")]].tolist()
    violated = penalised(np.zeros(len(others)), history.violations[others])  # sizes that all constraints share
    order += others[np.argsort(violated, kind="stable")].tolist()
    return history.unit[order[:size]]


def offspring(space: Space, parents: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``n`` children of ``parents``, which are in the order of their merit: crossover, then mutation."""
    p = len(space)
    pairs = rng.integers(len(parents), size=(2, 2, n)).min(0)  # two tournaments of two each
    a, b = (np.where(np.isnan(x), rng.random((n, p)), x) for x in (parents[pairs[0]], parents[pairs[1]]))
    child = np.where(rng.random((n, p)) < 0.5, a, b)
    numeric = np.array([not isinstance(q, Categorical) for q in space.values()])
    # simulated binary crossover, eq. 5 of Deb and Agrawal (1995), in half of the numbers
    u = rng.random((n, p))
    beta = np.where(u < 0.5, 2.0 * u, 1.0 / (2.0 * (1.0 - u))) ** (1.0 / (SPREAD_CROSSOVER + 1.0))
    blended = 0.5 * ((1.0 + beta) * a + (1.0 - beta) * b)
    child = np.where(numeric & (rng.random((n, p)) < 0.5), blended, child)
    mutated = rng.random((n, p)) < 1.0 / p
    u = rng.random((n, p))
    delta = np.where(u < 0.5, 2.0 * u, 2.0 * (1.0 - u)) ** (1.0 / (SPREAD_MUTATION + 1.0)) - 1.0
    steps = np.where(u < 0.5, delta, -delta)
    child = np.where(mutated, np.where(numeric, child + steps, rng.random((n, p))), child)
    return np.clip(child, 0.0, 1.0)
