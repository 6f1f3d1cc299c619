"""Speed-up of worker processes on a CPU-bound objective in pure Python, against one worker in the same run.

    python benchmarks/speedup.py [--trials 40] [--turns 3]

Two cores that a machine lends are not always two whole ones. So each turn also measures what the machine has to give:
the same work in plain processes that know nothing of each other. Starting the workers is part of the time.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import time

import welltuned as wt
from welltuned.executors import available_cores

WORK = 12_000_000


def objective(trial: wt.Trial) -> float:
    total = 0
    for i in range(WORK):
        total += i & 7
    return total + trial["x"]


def seconds(workers: int, trials: int) -> float:
    """Return how long a study takes, from the call to its return."""
    study = wt.Study({"x": (0.0, 1.0)}, sampler="random", seed=0)
    began = time.perf_counter()
    study.optimize(objective, n_trials=trials, workers=workers, executor="processes")
    return time.perf_counter() - began


def plain_seconds(processes: int, trials: int) -> float:
    """Return how long the same work takes in processes that do nothing else."""
    code = (
        f"import sys; sys.path.insert(0, {sys.path[0]!r}); from speedup import objective; "
        f"[objective({{'x': 0.0}}) for _ in range({trials // processes})]"
    )
    began = time.perf_counter()
    crowd = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(processes)]
    for process in crowd:
        process.wait()
    return time.perf_counter() - began


def optuna_seconds(jobs: int, trials: int) -> float:
    """Return how long Optuna takes with ``n_jobs``."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler())

    def suggesting(trial: optuna.Trial) -> float:
        return objective({"x": trial.suggest_float("x", 0.0, 1.0)})  # type: ignore[arg-type]

    began = time.perf_counter()
    study.optimize(suggesting, n_trials=trials, n_jobs=jobs)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    cores = available_cores()
    kinds = {"plain processes": plain_seconds, "welltuned, workers": seconds}
    with contextlib.suppress(ImportError):
        import optuna  # noqa: F401

        kinds["Optuna, n_jobs"] = optuna_seconds
    ratios: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(args.turns):
        for kind, measure in kinds.items():
            one, many = measure(1, args.trials), measure(cores, args.trials)
            ratios[kind].append(one / many)
            print(f"{kind}: 1 takes {one:.1f} s, {cores} take {many:.1f} s: {one / many:.2f} times as fast", flush=True)
    for kind, found in ratios.items():
        print(f"{kind}: {statistics.median(found):.2f} times as fast (median of {args.turns})")
    share = statistics.median(
        a / b for a, b in zip(ratios["welltuned, workers"], ratios["plain processes"], strict=True)
    )
    print(f"welltuned has {100 * share:.0f} % of the speed-up that the machine has to give")


if __name__ == "__main__":
    main()
