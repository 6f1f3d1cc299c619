"""Speed-up of worker processes on a CPU-bound objective in pure Python, against one worker in the same run."""

from __future__ import annotations

import contextlib
import time

import welltuned as wt
from welltuned.executors import available_cores

TRIALS, WORK = 24, 12_000_000


def objective(trial: wt.Trial) -> float:
    total = 0
    for i in range(WORK):
        total += i & 7
    return total + trial["x"]


def seconds(workers: int) -> float:
    study = wt.Study({"x": (0.0, 1.0)}, sampler="random", seed=0)
    study.optimize(objective, n_trials=workers, workers=workers, executor="processes")  # the workers start here
    began = time.perf_counter()
    study = wt.Study({"x": (0.0, 1.0)}, sampler="random", seed=0)
    study.optimize(objective, n_trials=TRIALS, workers=workers, executor="processes")
    return time.perf_counter() - began


def optuna_seconds(jobs: int) -> float:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler())

    def suggesting(trial: optuna.Trial) -> float:
        return objective({"x": trial.suggest_float("x", 0.0, 1.0)})  # type: ignore[arg-type]

    began = time.perf_counter()
    study.optimize(suggesting, n_trials=TRIALS, n_jobs=jobs)
    return time.perf_counter() - began


def main() -> None:
    cores = available_cores()
    one, many = seconds(1), seconds(cores)
    with contextlib.suppress(ImportError):
        alone, jobs = optuna_seconds(1), optuna_seconds(cores)
        print(f"Optuna: n_jobs=1 {alone:.1f} s, n_jobs={cores} {jobs:.1f} s, {alone / jobs:.2f} times as fast")
    print(f"{TRIALS} trials: 1 worker {one:.1f} s, {cores} workers {many:.1f} s, {one / many:.2f} times as fast")


if __name__ == "__main__":
    main()
