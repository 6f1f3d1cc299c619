"""The covariance matrix adaptation evolution strategy, for thousands of cheap trials in spaces of numbers."""

from __future__ import annotations

import copy
import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from welltuned.errors import require
from welltuned.history import History
from welltuned.pareto import penalised
from welltuned.samplers.initial import initial_design, overlooked
from welltuned.samplers.novel import novel
from welltuned.settings import check_real, check_whole
from welltuned.space import Params, Space, codec
from welltuned.streams import origin


@dataclass(frozen=True)
class CMAES:
    """Adapt a normal distribution to where good trials lie; the library ``cmaes`` does the adapting.

    The strategy is replayed from the history, a generation being as many results as the population, in the order in
    which they came. Whole numbers and choices keep a margin of probability for their neighbours. Where the strategy has
    converged it starts again with twice the population (IPOP).

    Hansen, *The CMA Evolution Strategy: A Tutorial* (2016); Hamano, Saito, Nomura and Shirakawa, *CMA-ES with Margin*
    (GECCO 2022); Auger and Hansen, *A Restart CMA Evolution Strategy with Increasing Population Size* (CEC 2005).

    Parameters
    ----------
    sigma
        First standard deviation, as a share of each parameter's range.
    population
        Trials of a generation: ``4 + 3 log p`` for p parameters unless given.

    Examples
    --------
    >>> CMAES(sigma=0.2)
    CMAES(sigma=0.2, population=None)
    """

    sigma: float = 0.25
    population: int | None = None
    model_based: ClassVar[bool] = True
    several_objectives: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_real(self, "sigma", above=0, most=1)
        check_whole(self, population=4)

    def suggest(self, space: Space, history: History, n: int, rng: np.random.Generator) -> list[Params]:
        """See :meth:`Sampler.suggest`."""
        if not history.observed.any() and not history.pending.any():
            design = initial_design(space, history, 1, rng)
            return novel(space, history, [*design, *self._draws(space, history, n, rng)], n, rng)
        draws = self._draws(space, history, n, rng)
        return novel(space, history, [*overlooked(space, history, rng), *draws], n, rng)

    def _draws(self, space: Space, history: History, n: int, rng: np.random.Generator) -> list[Params]:
        strategy = self._strategy(space, history, origin(rng)[0])
        strategy.reseed_rng(int(rng.integers(2**31)))
        rows = np.array([strategy.ask()[0] for _ in range(max(4 * n, 8))])[:, : len(space)]
        unit = space.activate(rows)
        return space.decode(unit[space.feasible(unit)], activated=True)

    def _strategy(self, space: Space, history: History, seed: int) -> Any:
        """Return the strategy after all whole generations of the history."""
        rows = np.flatnonzero(history.observed | history.failed)
        rows = rows[np.argsort(history.revisions[rows], kind="stable")]
        losses = history.losses[rows, 0]
        worst = np.nanmax(losses, initial=-np.inf)
        losses = np.where(np.isnan(losses), worst if np.isfinite(worst) else 0.0, losses)
        losses = penalised(losses, history.violations[rows])
        points = history.unit[rows]
        digest = hashlib.blake2b(repr((self, seed, space.to_json())).encode()).digest()
        strategy, told = self._begin(space, seed, self.population), 0
        strategy, told = _remembered(digest, points, losses) or (strategy, 0)
        while len(losses) - told >= strategy.population_size:
            size = strategy.population_size
            generation = _filled(points[told : told + size], strategy.mean, space)
            strategy = copy.deepcopy(strategy)
            strategy.tell(list(zip(generation, losses[told : told + size].tolist(), strict=True)))
            told += size
            if not _is_sound(strategy) or strategy.should_stop():
                strategy = self._begin(space, seed + told, 2 * size, elsewhere=True)
            _remember(digest, points, losses, strategy, told)
        return copy.deepcopy(strategy)

    def _begin(self, space: Space, seed: int, population: int | None, *, elsewhere: bool = False) -> Any:
        try:
            from cmaes import CMAwM
        except ImportError as error:
            raise require("cmaes", "cmaes", "sampler='cmaes'") from error
        steps = np.array([0.0 if (n := codec.cells(p)) is None else 1.0 / n for p in space.values()])
        edges = np.column_stack([0.5 * steps, 1.0 - 0.5 * steps])
        # one value has no extent, and the library wants two dimensions: neither moves anything
        flat = steps == 1.0
        edges[flat], steps[flat] = [0.0, 1.0], 0.0
        if len(steps) == 1:
            edges, steps = np.vstack([edges, [0.0, 1.0]]), np.append(steps, 0.0)
        centre = np.full(len(steps), 0.5)
        if elsewhere:  # a restart does not begin where the last one did
            centre[: len(space)] = np.random.default_rng(seed).random(len(space))
        return CMAwM(
            mean=np.clip(centre, edges[:, 0] + 1e-9, edges[:, 1] - 1e-9),
            sigma=float(self.sigma),
            bounds=edges,
            steps=steps,
            seed=seed % (2**31),
            population_size=population,
        )


def _filled(points: np.ndarray, mean: np.ndarray, space: Space) -> np.ndarray:
    """Return rows of at least two columns. What is inactive is set to the strategy's mean, where it moves nothing.

    Of a discrete parameter it is the middle of a cell: half-way between two of them, a margin would vanish.
    """
    middle = mean.copy()
    for j, parameter in enumerate(space.values()):
        middle[j] = codec.snap(parameter, np.clip(mean[j : j + 1], 0.0, 1.0))[0]
    whole = np.tile(middle, (len(points), 1))
    whole[:, : len(space)] = np.where(np.isnan(points), whole[:, : len(space)], points)
    return whole


def _is_sound(strategy: Any) -> bool:
    """Tell whether numbers have not run away."""
    values = [np.ravel(v) for v in (strategy.mean, strategy._cma._C, strategy._cma._sigma)]
    return bool(np.isfinite(np.concatenate(values)).all())


_MEMORY: OrderedDict[bytes, tuple[bytes, Any, int]] = OrderedDict()


def _print(points: np.ndarray, losses: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(points).tobytes() + losses.tobytes()).digest()


def _remembered(digest: bytes, points: np.ndarray, losses: np.ndarray) -> tuple[Any, int] | None:
    """Return the last state of a strategy, if the results it was told are the ones that come first here."""
    if digest not in _MEMORY:
        return None
    seen, strategy, told = _MEMORY[digest]
    return (strategy, told) if _print(points[:told], losses[:told]) == seen else None


def _remember(digest: bytes, points: np.ndarray, losses: np.ndarray, strategy: Any, told: int) -> None:
    _MEMORY[digest] = (_print(points[:told], losses[:told]), strategy, told)
    while len(_MEMORY) > 8:
        _MEMORY.popitem(last=False)
