"""How far the best observed value of a noisy search is from the truth, and how far the corrected one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import welltuned as wt

Truth = Callable[[Mapping[str, Any]], float]


def branin(p: Mapping[str, Any]) -> float:
    x, y = p["x"], p["y"]
    bowl = (y - 5.1 / (4 * np.pi**2) * x * x + 5 / np.pi * x - 6) ** 2
    return float(bowl + 10 * (1 - 1 / (8 * np.pi)) * np.cos(x) + 10)


def quadratic(p: Mapping[str, Any]) -> float:
    return float(sum((v - 0.4) ** 2 for v in p.values()))


def mixed(p: Mapping[str, Any]) -> float:
    return float((p["x"] - 0.6) ** 2 + abs(p["n"] - 7) / 20 + {"a": 0.0, "b": 0.1, "c": 0.4}[p["c"]])


#: name to space, truth, and the standard deviation of the noise of one evaluation
FUNCTIONS: dict[str, tuple[dict[str, Any], Truth, float]] = {
    "Branin": ({"x": (-5.0, 10.0), "y": (0.0, 15.0)}, branin, 15.0),
    "quadratic, 4 parameters": ({f"x{i}": (0.0, 1.0) for i in range(4)}, quadratic, 0.15),
    "mixed, 3 parameters": (
        {"x": (0.0, 1.0), "n": wt.Int(1, 20), "c": wt.Categorical(["a", "b", "c"])},
        mixed,
        0.15,
    ),
}


def errors(name: str, sampler: str, n: int, seeds: int) -> tuple[np.ndarray, float]:
    """Return errors of the observed and the corrected best, shape (seeds, 2), and how often the recommendation wins."""
    space, truth, sd = FUNCTIONS[name]
    found, wins = [], []
    for seed in range(seeds):
        rng = np.random.default_rng(1000 + seed)
        study = wt.Study(space, seed=seed, sampler=sampler)
        study.optimize(lambda p, rng=rng: truth(p) + sd * rng.standard_normal(), n_trials=n)
        recommended, actual = study.recommend(), truth(study.best.params or {})
        found.append((recommended.observed - actual, recommended.corrected - actual))
        wins.append(truth(recommended.params) <= actual)
    return np.array(found), float(np.mean(wins))


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    print("| function, noise sd | search | observed − truth | corrected − truth | recommendation no worse |")
    print("|---|---|---|---|---|")
    for name, (_, _, sd) in FUNCTIONS.items():
        for sampler in ("random", "bayes"):
            found, wins = errors(name, sampler, 60, seeds)
            mean, error = found.mean(0), found.std(0, ddof=1) / np.sqrt(seeds)
            cells = [f"{m:.3g} ± {e:.2g}" for m, e in zip(mean, error, strict=True)]
            print(f"| {name}, {sd:g} | {sampler} | {cells[0]} | {cells[1]} | {wins:.0%} |")


if __name__ == "__main__":
    main()
