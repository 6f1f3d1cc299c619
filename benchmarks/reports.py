"""How long a report takes to its answer, with two workers, for every executor that evaluates elsewhere."""

from __future__ import annotations

import statistics
import time

import welltuned as wt

STEPS = 200


def objective(trial: wt.Trial) -> float:
    times = []
    for step in range(STEPS):
        began = time.perf_counter()
        trial.report(0.0, step)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    for executor in ("processes", "dask", "ray"):
        study = wt.Study({"x": (0.0, 1.0)}, sampler="random", seed=0)
        try:
            study.optimize(objective, n_trials=4, workers=2, executor=executor)
        except wt.errors.MissingDependency as error:
            print(f"{executor} is left out: {error}")
            continue
        print(f"{executor}: {1e3 * statistics.median(t.value for t in study.trials):.2f} ms a report")


if __name__ == "__main__":
    main()
