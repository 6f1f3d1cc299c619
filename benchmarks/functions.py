"""Problems that need nothing but numpy: choices alone, whole numbers, mixtures, many optima, many dimensions.

Where nothing else is said the numbers of a function are drawn from a stream of its own, so it is the same everywhere.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from problems import Choice, Config, Number, Parameter, Problem, Space

Function = Callable[[np.ndarray], float]


# --- choices alone: each has a worth, and some pairs of them do ---


def choices(name: str, seed: int, parameters: int, options: int, pairs: int) -> Problem:
    """Return sums of normal costs of single choices, and of some pairs, seven tenths as large."""
    rng = np.random.default_rng([1, seed])
    single = rng.normal(size=(parameters, options))
    all_pairs = [(i, j) for i in range(parameters) for j in range(i)]
    joint = {all_pairs[k]: 0.7 * rng.normal(size=(options, options)) for k in rng.permutation(len(all_pairs))[:pairs]}
    values = tuple(f"v{k}" for k in range(options))
    space: Space = {f"choice{i}": Choice(values) for i in range(parameters)}

    def value(config: Config) -> float:
        at = [values.index(config[n]) for n in space]
        return sum(single[i, k] for i, k in enumerate(at)) + sum(cost[at[i], at[j]] for (i, j), cost in joint.items())

    return Problem(name, space, value)


# --- numbers and choices: a bowl that the choices move ---

WHOLE = ((8, False), (64, True), (300, False), (20, True), (5, False))  # largest value, logarithmic


def bowls(name: str, seed: int, reals: int, wholes: int, choices: int = 0, options: int = 1) -> Problem:
    """Return a bowl over correlated numbers; each choice has a cost, and moves where the bowl has its minimum."""
    rng = np.random.default_rng([2, seed])
    kinds = (Number(0.0, 1.0), Number(1e-4, 1.0, log=True))
    space: dict[str, Parameter] = {f"x{i}": kinds[i % 2] for i in range(reals)}
    space |= {f"n{i}": Number(1, high, log=log, whole=True) for i, (high, log) in enumerate(WHOLE[:wholes])}
    numbers, p = dict(space), len(space)
    space |= {f"choice{i}": Choice(tuple(range(options))) for i in range(choices)}
    square = rng.normal(size=(p, p))
    square = square @ square.T / p + np.eye(p)
    centre, cost = rng.uniform(0.1, 0.9, p), 0.25 * rng.normal(size=(choices, options))
    moved = 0.15 * rng.normal(size=(choices, options, p))

    def value(config: Config) -> float:
        at = [config[f"choice{i}"] for i in range(choices)]
        target = np.clip(centre + sum(moved[i, k] for i, k in enumerate(at)), 0.0, 1.0)
        away = np.array([n.unit(config[name]) for name, n in numbers.items()]) - target
        return float(away @ square @ away) + sum(cost[i, k] for i, k in enumerate(at))

    return Problem(name, space, value)


# --- functions of real numbers that everybody knows, https://www.sfu.ca/~ssurjano/optimization.html ---


def rastrigin(x: np.ndarray) -> float:
    return float(10.0 * len(x) + (x * x - 10.0 * np.cos(2.0 * np.pi * x)).sum())


def ackley(x: np.ndarray) -> float:
    bumps = np.exp(np.cos(2.0 * np.pi * x).mean())
    return float(-20.0 * np.exp(-0.2 * np.sqrt((x * x).mean())) - bumps + 20.0 + np.e)


def levy(x: np.ndarray) -> float:
    w = 1.0 + x / 4.0  # its minimum is at 0 here
    between = ((w[:-1] - 1.0) ** 2 * (1.0 + 10.0 * np.sin(np.pi * w[:-1] + 1.0) ** 2)).sum()
    last = (w[-1] - 1.0) ** 2 * (1.0 + np.sin(2.0 * np.pi * w[-1]) ** 2)
    return float(np.sin(np.pi * w[0]) ** 2 + between + last)


def rosenbrock(x: np.ndarray) -> float:
    return float(np.log1p((100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2).sum()))


def michalewicz(x: np.ndarray) -> float:
    return float(-(np.sin(x) * np.sin(np.arange(1, len(x) + 1) * x * x / np.pi) ** 20).sum())


def schwefel(x: np.ndarray) -> float:
    return float(418.9829 * len(x) - (x * np.sin(np.sqrt(np.abs(x)))).sum())


HARTMANN_SCALES = np.array(
    [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
)
HARTMANN_CENTRES = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


def hartmann(x: np.ndarray) -> float:
    peaks = np.exp(-(HARTMANN_SCALES * (x - HARTMANN_CENTRES) ** 2).sum(axis=1))
    return float(-(np.array([1.0, 1.2, 3.0, 3.2]) * peaks).sum())


def few_matter(x: np.ndarray) -> float:
    return float((x[:5] ** 2 * np.array([1.0, 3.0, 1.0, 10.0, 2.0])).sum() + 0.01 * np.abs(x).sum())


# by name: function, dimensions, bounds, and whether its minimum is moved, by up to a fifth of the range
REALS: dict[str, tuple[Function, int, tuple[float, float], bool]] = {
    "rastrigin-3": (rastrigin, 3, (-5.0, 5.0), True),
    "levy-4": (levy, 4, (-10.0, 10.0), True),
    "schwefel-4": (schwefel, 4, (-500.0, 500.0), False),
    "rosenbrock-5": (rosenbrock, 5, (-2.0, 2.0), True),
    "michalewicz-5": (michalewicz, 5, (0.0, np.pi), False),
    "ackley-6": (ackley, 6, (-30.0, 30.0), True),
    "hartmann-6": (hartmann, 6, (0.0, 1.0), False),
    "ackley-20": (ackley, 20, (-10.0, 10.0), True),
    "levy-20": (levy, 20, (-10.0, 10.0), True),
    "few-matter-30": (few_matter, 30, (-1.0, 1.0), True),
}


def reals(name: str) -> Problem:
    function, p, (low, high), moves = REALS[name]
    shift = np.random.default_rng([3, p]).uniform(-0.2, 0.2, p) * (high - low) if moves else np.zeros(p)
    space: Space = {f"x{i}": Number(low, high) for i in range(p)}
    return Problem(f"functions:{name}", space, lambda config: function(np.array([config[n] for n in space]) - shift))


def functions() -> dict[str, Callable[[], Problem]]:
    """Return all of them, as functions that make them."""
    made = {
        "choices-6x5": functools.partial(choices, seed=1, parameters=6, options=5, pairs=6),
        "choices-8x4": functools.partial(choices, seed=2, parameters=8, options=4, pairs=12),
        "choices-12x2": functools.partial(choices, seed=3, parameters=12, options=2, pairs=14),
        "choices-15x3": functools.partial(choices, seed=4, parameters=15, options=3, pairs=15),
        "whole-3": functools.partial(bowls, seed=1, reals=0, wholes=3),
        "whole-5": functools.partial(bowls, seed=2, reals=0, wholes=5),
        "mixed-3+0+2x4": functools.partial(bowls, seed=3, reals=3, wholes=0, choices=2, options=4),
        "mixed-4+2+3x3": functools.partial(bowls, seed=4, reals=4, wholes=2, choices=3, options=3),
        "mixed-2+0+4x5": functools.partial(bowls, seed=5, reals=2, wholes=0, choices=4, options=5),
        "mixed-6+1+1x6": functools.partial(bowls, seed=6, reals=6, wholes=1, choices=1, options=6),
    }
    named = {f"functions:{name}": functools.partial(make, f"functions:{name}") for name, make in made.items()}
    return named | {f"functions:{name}": functools.partial(reals, name) for name in REALS}
