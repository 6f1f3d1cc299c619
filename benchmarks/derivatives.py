"""What derivatives of the objective are worth: regret on the 24 functions of BBOB in five dimensions.

    python benchmarks/derivatives.py --seeds 0-2     # ten minutes; needs the package coco-experiment

Derivatives are central differences that the search does not see. 0 is the best value that any of the searches found,
1 the median of random points.
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse  # noqa: E402

import numpy as np  # noqa: E402

import welltuned as wt  # noqa: E402
from peers import welltuned_space  # noqa: E402
from problems import Problem, bbob_problem, draw, require  # noqa: E402
from regret import markdown, seeds  # noqa: E402

MARKS = (8, 16, 24, 32)
STEP = 1e-5
SEARCHES = (("bayes", False), ("bayes", True), ("gradient", True), ("auto", True))


def best_so_far(problem: Problem, sampler: str, differentiated: bool, seed: int) -> np.ndarray:
    """Return the best value after each trial."""

    def objective(trial: wt.Trial) -> float | tuple[float, dict[str, float]]:
        at = dict(trial)
        value = problem(at)
        if not differentiated:
            return value
        slopes = {k: problem({**at, k: x + STEP}) - problem({**at, k: x - STEP}) for k, x in at.items()}
        return value, {k: slope / (2 * STEP) for k, slope in slopes.items()}

    study = wt.Study(welltuned_space(problem), sampler=sampler, seed=seed)
    study.optimize(objective, MARKS[-1], progress=False)
    return np.minimum.accumulate([trial.value for trial in study.trials])


def main() -> None:
    """Run all searches and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=seeds, default=seeds("0-1"))
    given = parser.parse_args()
    require("coco-experiment", "cocoex", "this benchmark")
    regrets = []
    for function in range(1, 25):
        problem = bbob_problem(function, 5)
        rng = np.random.default_rng(0)
        values = [problem(draw(problem.space, rng)) for _ in range(1000)]
        best = np.array([[best_so_far(problem, *search, seed) for seed in given.seeds] for search in SEARCHES])
        regrets.append(((best - best.min()) / (np.median(values) - best.min())).mean(axis=1))
    mean = np.mean(regrets, axis=0)
    rows = [
        [f"`{sampler}` {'with' if differentiated else 'without'} derivatives", *(f"{row[m - 1]:.3f}" for m in MARKS)]
        for (sampler, differentiated), row in zip(SEARCHES, mean, strict=True)
    ]
    print(markdown(["search", *map(str, MARKS)], rows))


if __name__ == "__main__":
    main()
