"""Follow hypergradients, of thousands of hyperparameters at once, with a guard against tuning to validation data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from welltuned.errors import InvalidType, InvalidValue
from welltuned.hypergrad import autodiff, trees
from welltuned.hypergrad.bilevel import Bilevel
from welltuned.hypergrad.method import Hypergradient
from welltuned.hypergrad.optimizers import Adam, Optimizer
from welltuned.hypergrad.training import Training, rows
from welltuned.hypergrad.trees import Tree
from welltuned.settings import real, whole

GUARD = 0.25


@dataclass(frozen=True, eq=False)
class Step:
    """One hypergradient on the way.

    Parameters
    ----------
    number
        Counts from 1.
    value
        The validation loss on the rows that derivatives were taken of.
    held_out
        The validation loss on the rows that were not, where some were held out.
    slope
        The largest derivative by a hyperparameter, in absolute value.
    """

    number: int
    value: float
    held_out: float | None
    slope: float


@dataclass(frozen=True, eq=False)
class Descent:
    """Where a descent came to.

    Parameters
    ----------
    hyperparameters, weights
        Of the step whose loss was least: on the rows that were held out, where some were, otherwise with what
        ``shrink`` adds.
    value, held_out
        The losses of that step. Where ``outer`` is a mean, what ``value`` is below ``held_out`` and was not at the
        first step is fitted to the validation data.
    steps
        All steps.
    reason
        Why it ended.
    """

    hyperparameters: Tree
    weights: Tree
    value: float
    held_out: float | None
    steps: tuple[Step, ...]
    reason: str


class _Over(Exception):
    """The descent is over."""


def minimize(
    problem: Bilevel,
    start: Tree,
    *,
    n_steps: int = 50,
    fixed: Mapping[str, Any] | None = None,
    optimizer: str | Optimizer | None = None,
    bounds: tuple[float, float] | Mapping[str, tuple[float, float]] | None = None,
    guard: float = GUARD,
    shrink: float = 0.0,
    patience: int | None = None,
    warm: bool | None = None,
    on_step: Callable[[Step], Any] | None = None,
    seed: int = 0,
) -> Descent:
    """Minimise a problem's validation loss over hyperparameters by following its hypergradients.

    Parameters
    ----------
    problem
        The problem. Hyperparameters should be written on a scale on which a step of a tenth is small: logarithms of
        penalties and rates.
    start
        The hyperparameters to begin with, a tree of arrays or of numbers.
    n_steps
        How many hypergradients to take, each of which is one training.
    fixed
        Hyperparameters that are not moved; see :meth:`Bilevel.hypergradient`.
    optimizer
        How to follow them: ``"lbfgs"`` (SciPy's L-BFGS-B), or a rule such as ``Adam(0.1)``. None means ``"lbfgs"``
        where weights are a minimum and so the validation loss is smooth, ``Adam(0.1)`` where training has steps.
    bounds
        ``(low, high)`` for all numbers, or for each entry of ``start``; None for no bound on that side. A start
        outside is moved to the nearest point inside.
    guard
        The share of the validation rows, drawn at random, that derivatives never see and that choose the step to
        return. With as many hyperparameters as there are validation rows the loss on the others means nothing. 0
        holds none out.
    shrink
        ρ: add ½ ρ Σ (h - mean of its array)² / (number of validation rows) to what is minimised. Where the validation
        loss is a mean of negative log-likelihoods, this is the belief that the numbers of one array lie within about
        1/√ρ of each other; with many penalties and few rows it is worth more than the guard.
    patience
        End after so many steps without a better one. None means never.
    warm
        Whether training begins where the last one ended; None means where weights are a minimum, which does not
        depend on the beginning.
    on_step
        Called with each :class:`Step`; within a trial, ``lambda step: trial.report(step.held_out, step.number)``.
    seed
        Of the rows that are held out.

    Raises
    ------
    InvalidType, InvalidValue
        For what cannot be used, and where the loss is not a finite number at the start.

    Notes
    -----
    Pedregosa, *Hyperparameter optimization with approximate gradient*, 2016. A step that leads to a loss or a
    derivative that is not finite is undone, and those after it are half as long.

    Examples
    --------
    A penalty for each of a thousand features::

        found = minimize(problem, {"log_l2": torch.zeros(1000)}, n_steps=20, bounds=(-12, 6))
        found.hyperparameters["log_l2"]
    """
    whole("n_steps", n_steps)
    if patience is not None:
        whole("patience", patience)
    follow = _follow(problem, optimizer)
    seen, held_out = _guarded(problem, guard, seed)
    real("shrink", shrink, least=0)
    if warm is None:
        warm = problem.optimizer is None
    walk = _Walk(replace(problem, valid=seen), held_out, dict(fixed or {}), shrink, warm, patience, on_step)
    start = walk.problem.arrays(start, fixed)
    low, high = _limits(start, bounds)
    start = _within(start, low, high)
    try:
        reason = follow(walk, start, low, high, n_steps)
    except _Over as over:
        reason = str(over)
    return walk.result(reason)


class _Walk:
    """The hypergradients that have been taken, and the best of them."""

    def __init__(
        self,
        problem: Bilevel,
        held_out: Any,
        fixed: Mapping[str, Any],
        shrink: float,
        warm: bool,
        patience: int | None,
        on_step: Callable[[Step], Any] | None,
    ) -> None:
        self.problem, self.held_out, self.warm, self.patience, self.on_step = problem, held_out, warm, patience, on_step
        self.fixed = fixed
        self.shrink = shrink / rows(problem.valid, "valid") if shrink else 0.0
        self.steps: list[Step] = []
        self.best: tuple[float, int, Tree, Tree] = (math.inf, 0, None, None)
        self.weights: Tree = None
        self.library: Any = None

    def __call__(self, h: Tree) -> Hypergradient:
        """Return the hypergradient of what is to be minimised, and remember the step."""
        self.library = self.library or autodiff.of(h, "hyperparameters")
        found = self.problem.hypergradient(h, fixed=self.fixed, start=self.weights if self.warm else None)
        slope = float(np.abs(autodiff.flat(self.library, found.gradient)).max())
        judged = None if self.held_out is None else self._judge(found.weights, h)
        step = Step(len(self.steps) + 1, found.value, judged, slope)
        self.steps.append(step)
        wanted = self._shrunk(found, h) if self.shrink else found
        score = wanted.value if judged is None else judged
        if math.isfinite(score) and score < self.best[0]:
            self.best = (score, step.number, h, found.weights)
        if self.is_finite and self.warm:
            self.weights = found.weights
        if self.on_step is not None:
            self.on_step(step)
        if self.patience is not None and step.number - self.best[1] >= self.patience:
            raise _Over(f"{self.patience} steps without a better one")
        return wanted

    def _shrunk(self, found: Hypergradient, h: Tree) -> Hypergradient:
        away = trees.apply(lambda x: x - x.mean(), h)
        value = found.value + 0.5 * self.shrink * trees.dot(away, away)
        return replace(found, value=value, gradient=trees.plus(found.gradient, away, self.shrink))

    def _judge(self, w: Tree, h: Tree) -> float:
        with self.library.alone(), self.library.seeded(w, self.problem.seed):
            return Training(self.problem, self.library, self.fixed).judged(w, h, self.held_out)

    @property
    def is_finite(self) -> bool:
        """Whether the last step has a loss and derivatives that are finite."""
        last = self.steps[-1]
        return math.isfinite(last.value) and math.isfinite(last.slope)

    def result(self, reason: str) -> Descent:
        """Return the best step."""
        _, number, h, weights = self.best
        if h is None:
            raise InvalidValue(
                f"the validation loss was {self.steps[0].value!r} at the start; start where training does not diverge"
            )
        step = self.steps[number - 1]
        return Descent(h, weights, step.value, step.held_out, tuple(self.steps), reason)


Follow = Callable[[_Walk, Tree, Tree, Tree, int], str]


def _follow(problem: Bilevel, optimizer: str | Optimizer | None) -> Follow:
    if optimizer is None:
        optimizer = "lbfgs" if problem.optimizer is None else Adam(0.1)
    if optimizer == "lbfgs":
        return _by_lbfgs
    if isinstance(optimizer, str) or not hasattr(optimizer, "update"):
        raise InvalidType(f"optimizer={optimizer!r} is neither 'lbfgs' nor a rule such as Adam(0.1)")
    return lambda *args: _by_rule(optimizer, *args)


def _by_rule(rule: Optimizer, walk: _Walk, h: Tree, low: Tree, high: Tree, n_steps: int) -> str:
    memory, scale, back = rule.init(h), 1.0, None
    for t in range(n_steps):
        found = walk(h)
        if walk.is_finite:
            moved, after = rule.update(found.gradient, memory, h, t)
            back = h, moved, after
        elif back is None:
            break
        else:
            scale /= 2.0
        h, moved, memory = back
        h = _within(trees.plus(h, trees.plus(moved, h, -1.0), scale), low, high)
    return f"{n_steps} steps"


def _by_lbfgs(walk: _Walk, start: Tree, low: Tree, high: Tree, n_steps: int) -> str:
    from scipy.optimize import minimize as scipy_minimize

    library = autodiff.of(start, "hyperparameters")
    worst = -math.inf

    def fun(x: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal worst
        if len(walk.steps) == n_steps:
            raise _Over(f"{n_steps} steps")
        found = walk(autodiff.folded(library, x, start))
        if not walk.is_finite:
            # the line search comes back from what is worse than all else
            return worst + abs(worst) + 1.0, np.zeros_like(x)
        worst = max(worst, found.value)
        return found.value, autodiff.flat(library, found.gradient)

    ends = np.stack(
        [autodiff.flat(library, trees.apply(lambda x, e: 0 * x + e, start, e)) for e in (low, high)], axis=1
    )
    x = np.clip(autodiff.flat(library, start), ends[:, 0], ends[:, 1])
    result = scipy_minimize(fun, x, jac=True, method="L-BFGS-B", bounds=ends, options={"ftol": 1e-9, "gtol": 1e-9})
    return f"L-BFGS-B ended: {result.message}"


def _within(h: Tree, low: Tree, high: Tree) -> Tree:
    return trees.apply(lambda x, a, b: x.clip(a, b), h, low, high)


def _limits(start: Tree, bounds: Any) -> tuple[Tree, Tree]:
    """Return the trees of the lower and upper bounds."""
    if bounds is None:
        bounds = (-math.inf, math.inf)
    if isinstance(bounds, Mapping):
        if not isinstance(start, Mapping) or set(bounds) != set(start):
            raise InvalidValue(f"bounds={dict(bounds)!r} must name the same entries as the hyperparameters")
        pairs = {key: _limits(branch, bounds[key]) for key, branch in start.items()}
        return {k: v[0] for k, v in pairs.items()}, {k: v[1] for k, v in pairs.items()}
    if not isinstance(bounds, (tuple, list)) or len(bounds) != 2:
        raise InvalidType(f"bounds={bounds!r} is neither a pair (low, high) nor a dict of them")
    low, high = (float(inf if end is None else end) for inf, end in zip((-math.inf, math.inf), bounds, strict=True))
    if not low < high:
        raise InvalidValue(f"bounds={bounds!r}: the lower one must be below the upper one")
    return trees.apply(lambda _: low, start), trees.apply(lambda _: high, start)


def _guarded(problem: Bilevel, guard: float, seed: int) -> tuple[Any, Any]:
    """Return the validation rows that derivatives are taken of, and those that are held out."""
    real("guard", guard, least=0)
    if not guard < 1:
        raise InvalidValue(f"guard={guard!r} must be a share: at least 0 and below 1")
    if guard == 0 or problem.valid is None:
        return problem.valid, None
    n = rows(problem.valid, "valid")
    held = round(guard * n)
    if not 0 < held < n:
        raise InvalidValue(f"guard={guard!r} of {n} rows of valid holds out {held} and leaves {n - held}; give guard=0")
    order = np.random.default_rng(seed).permutation(n)
    return _rows(problem.valid, order[held:]), _rows(problem.valid, order[:held])


def _rows(data: Any, chosen: np.ndarray) -> Any:
    return trees.apply(lambda x: x[chosen], data)
