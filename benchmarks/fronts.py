"""Several objectives: how much of the volume that the front dominates is covered after 20 and 40 trials.

    python benchmarks/fronts.py --seeds 0-2      # all searches that are installed; those of Optuna take minutes

Four parameters each; volumes up to a fixed point, as shares of the best that any of the searches found.
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse  # noqa: E402
import time  # noqa: E402
import warnings  # noqa: E402
from collections.abc import Callable, Mapping  # noqa: E402
from importlib.util import find_spec  # noqa: E402

import numpy as np  # noqa: E402

import welltuned as wt  # noqa: E402
from regret import markdown, seeds  # noqa: E402
from welltuned.pareto import hypervolume  # noqa: E402

NAMES = ("a", "b", "c", "d")
MARKS = (20, 40)
Values = tuple[float, ...]
Objective = Callable[[np.ndarray], Values]


def zdt1(x: np.ndarray) -> Values:
    g = 1 + 3 * x[1:].sum()
    return x[0], g * (1 - np.sqrt(x[0] / g))


def zdt2(x: np.ndarray) -> Values:
    g = 1 + 3 * x[1:].sum()
    return x[0], g * (1 - (x[0] / g) ** 2)


def zdt3(x: np.ndarray) -> Values:
    g = 1 + 3 * x[1:].sum()
    return x[0], g * (1 - np.sqrt(x[0] / g) - x[0] / g * np.sin(10 * np.pi * x[0]))


def dtlz2(x: np.ndarray) -> Values:
    g = 1 + ((x[2:] - 0.5) ** 2).sum()
    u, v = x[:2] * np.pi / 2
    return g * np.cos(u) * np.cos(v), g * np.cos(u) * np.sin(v), g * np.sin(u)


def bowls(x: np.ndarray) -> Values:
    return ((x - 0.2) ** 2).sum(), ((x - np.array([0.8, 0.7, 0.2, 0.5])) ** 2).sum()


def size_and_error(x: np.ndarray) -> Values:
    """A size that grows exponentially, an error that falls with it and has a cliff."""
    cliff = np.exp(8 * (x[2] - 0.8)) if x[2] > 0.8 else 0.0
    error = np.exp(-1.2 * x[0] * (1 - (x[2] - 0.3) ** 2)) + (x[3] - 0.6) ** 2 + cliff
    return np.exp(4 * x[0]) * (1 + x[1]), error


# Zitzler, Deb and Thiele (2000), with four parameters; Deb, Thiele, Laumanns and Zitzler (2002); two of our own
PROBLEMS: Mapping[str, tuple[Objective, tuple[float, ...]]] = {
    "ZDT1": (zdt1, (1.1, 4.0)),
    "ZDT2": (zdt2, (1.1, 4.0)),
    "ZDT3": (zdt3, (1.1, 4.0)),
    "DTLZ2": (dtlz2, (1.2, 1.2, 1.2)),
    "bowls": (bowls, (1.0, 1.0)),
    "size and error": (size_and_error, (60.0, 1.5)),
}


def ours(sampler: str, objective: Objective, n_objectives: int, seed: int) -> np.ndarray:
    space: dict[str, tuple[float, float]] = dict.fromkeys(NAMES, (0.0, 1.0))
    study = wt.Study(space, direction=["minimize"] * n_objectives, sampler=sampler, seed=seed)
    study.optimize(lambda trial: objective(np.array(list(trial.values()))), MARKS[-1], progress=False)
    return np.array([trial.values for trial in study.trials])


def optunas(sampler: str, objective: Objective, n_objectives: int, seed: int) -> np.ndarray:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    made = getattr(optuna.samplers, sampler)(seed=seed)
    study = optuna.create_study(directions=["minimize"] * n_objectives, sampler=made)
    study.optimize(lambda t: objective(np.array([t.suggest_float(n, 0.0, 1.0) for n in NAMES])), MARKS[-1])
    return np.array([trial.values for trial in study.trials])


def main() -> None:
    """Run all searches and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=seeds, default=seeds("0-2"))
    given = parser.parse_args()
    warnings.filterwarnings("ignore")  # Optuna's of experimental parts
    searches = [(f"`{name}`", ours, name) for name in ("auto", "nsga2", "random")]
    if find_spec("optuna") is not None:
        searches += [(f"Optuna's {name}", optunas, name) for name in ("GPSampler", "TPESampler", "NSGAIISampler")]
    volumes = np.zeros((len(searches), len(PROBLEMS), len(given.seeds), len(MARKS)))
    seconds = np.zeros(len(searches))
    for s, (_, run, name) in enumerate(searches):
        for p, (objective, reference) in enumerate(PROBLEMS.values()):
            for r, seed in enumerate(given.seeds):
                start = time.process_time()
                values = run(name, objective, len(reference), seed)
                seconds[s] += time.process_time() - start
                volumes[s, p, r] = [hypervolume(values[:m], np.array(reference)) for m in MARKS]
    shares = (volumes / volumes.max(axis=(0, 2, 3))[None, :, None, None]).mean(axis=2)
    trials = len(PROBLEMS) * len(given.seeds) * MARKS[-1]
    rows = [
        [
            label,
            *(" / ".join(f"{share:.3f}" for share in pair) for pair in shares[s]),
            f"{1000 * seconds[s] / trials:.1f}",
        ]
        for s, (label, _, _) in enumerate(searches)
    ]
    print(markdown(["search", *PROBLEMS, "ms a trial"], rows))


if __name__ == "__main__":
    main()
