"""What parallel workers cost in regret: asynchronous workers with durations that vary, against one after the other.

    python benchmarks/parallel.py --suite bbob,branches --seeds 0-3
    python benchmarks/parallel.py --suite surrogates,bbob,branches --yahpo FOLDER

Time is simulated: a trial takes a lognormal number of minutes, and whoever is free asks for the next one.
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse  # noqa: E402
import heapq  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402

import welltuned as wt  # noqa: E402
from peers import welltuned_space  # noqa: E402
from problems import Missing, Problem, draw  # noqa: E402
from regret import seeds  # noqa: E402
from suites import SUITES, suite  # noqa: E402

SPREAD = 0.5  # standard deviation of the logarithm of a duration
FLOOR = 0.003  # regrets below are as good as none; it keeps the logarithm from deciding by them


def best_of(problem: Problem, sampler: str, seed: int, workers: int, budget: int) -> float:
    """Return the best value that a study of ``budget`` trials finds."""
    rng = np.random.default_rng(seed)
    study = wt.Study(welltuned_space(problem), sampler=sampler, seed=seed, n_trials=budget)
    busy: list[tuple[float, int, wt.Trial]] = []
    now, started = 0.0, 0
    for _ in range(budget):
        while len(busy) < workers and started < budget:
            trial = study.ask()
            heapq.heappush(busy, (now + rng.lognormal(0.0, SPREAD), trial.number, trial))
            started += 1
        now, _, trial = heapq.heappop(busy)
        study.tell(trial, problem(dict(trial)))
    return study.best_value


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--suite", default="bbob,branches", help=f"one or more of {', '.join(SUITES)}")
    parser.add_argument("--yahpo", type=Path, help="folder of YAHPO's scenarios, for the suite surrogates")
    parser.add_argument("--sampler", default="bayes")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--seeds", type=seeds, default=seeds("0-3"), help="0-4 or 0,3,7")
    parser.add_argument("--budget", type=int, default=64, help="trials per run")
    given = parser.parse_args()
    found: dict[int, list[float]] = {1: [], given.workers: []}
    print(f"| problem | one after the other | {given.workers} workers |\n|---|---:|---:|")
    for name in given.suite.split(","):
        try:
            problems = suite(name, given.yahpo)
        except Missing as reason:
            print(f"{name} is left out: {reason}")
            continue
        for title, make in problems.items():
            problem = make()
            rng = np.random.default_rng(0)
            points = [problem(draw(problem.space, rng)) for _ in range(problem.points)]
            runs = {
                workers: [best_of(problem, given.sampler, seed, workers, given.budget) for seed in given.seeds]
                for workers in found
            }
            best, median = min(*points, *runs[1], *runs[given.workers]), float(np.median(points))
            regrets = {w: [(value - best) / ((median - best) or 1.0) for value in values] for w, values in runs.items()}
            print(f"| {title} | " + " | ".join(f"{np.mean(regrets[w]):.4f}" for w in found) + " |", flush=True)
            for workers, some in regrets.items():
                found[workers] += some
    one, many = (np.array(values) for values in found.values())
    error = (many - one).std(ddof=1) / np.sqrt(len(one))
    logs = np.log(many + FLOOR) - np.log(one + FLOOR)
    print(
        f"\n{len(one)} pairs: mean regret {one.mean():.4f} and {many.mean():.4f}, {many.mean() / one.mean():.2f} times "
        f"(difference {(many - one).mean():.4f} ± {error:.4f}); geometric mean of regret + {FLOOR}: "
        f"{np.exp(logs.mean()):.2f} times"
    )


if __name__ == "__main__":
    main()
