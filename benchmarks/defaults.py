"""What it brings a search to begin with a model's own settings: small real tasks, with and without them.

    python benchmarks/defaults.py --seeds 0-2
    python benchmarks/defaults.py --suite choices --seeds 0-2

In a choice among models, it begins with those of each of them.
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse  # noqa: E402
import warnings  # noqa: E402
from dataclasses import replace  # noqa: E402

import numpy as np  # noqa: E402

import welltuned as wt  # noqa: E402
from peers import welltuned_space  # noqa: E402
from problems import Config, Problem, draw  # noqa: E402
from regret import markdown, seeds  # noqa: E402
from tasks import KINDS, POINTS, REGRESSION, Kind, choice_models, choices, tasks  # noqa: E402
from welltuned.sklearn.spaces import with_own_settings  # noqa: E402

MARKS = (1, 4, 8, 16, 24, 32)
WORST = 3.0  # regrets count as that at most: a first trial may be as bad as it likes


def with_defaults(title: str, problem: Problem) -> wt.Space:
    """Return the task's space with the defaults of its model's class, or of the classes that it chooses among."""
    suite, name = title.split(":")
    *_, score = name.split("-")
    models = {f"{kind}_": model for kind, model in choice_models(score).items()}
    space = welltuned_space(problem)
    for prefix, model in (models if suite == "choices" else {"": KINDS[name.split("-")[0]]}).items():
        space = as_it_stands(model, score, space, prefix)
    return space


def as_it_stands(kind: Kind, score: str, space: wt.Space, prefix: str) -> wt.Space:
    """Return a space whose parameters with a ``prefix`` have the defaults of a kind of model."""
    model = kind.make(dict(draw(kind.space, np.random.default_rng(0))), score not in REGRESSION)
    last = model[-1] if hasattr(model, "steps") else model
    # without conditions, whose parents may have another name here
    own = {n: replace(space[f"{prefix}{n}"], when=None) for n in kind.space}
    found = with_own_settings(wt.Space(own), type(last)())
    given = {f"{prefix}{n}": replace(space[f"{prefix}{n}"], default=found[n].default) for n in own}
    return wt.Space({**space, **given})


def trace(space: wt.Space, problem: Problem, seed: int, budget: int) -> list[float]:
    """Return the best loss after each trial."""
    study = wt.Study(space, direction="minimize", seed=seed, n_trials=budget)
    losses = []
    for _ in range(budget):
        trial = study.ask()
        config: Config = dict(trial)
        losses.append(problem(config))
        study.tell(trial, losses[-1])
    return list(np.minimum.accumulate(losses))


def regrets(problem: Problem, first: wt.Space, chosen: list[int], budget: int) -> np.ndarray:
    """Return normalised regrets without and with the defaults of ``first``, shape (2, seeds, budget)."""
    rng = np.random.default_rng(0)
    sample = [problem(draw(problem.space, rng)) for _ in range(POINTS)]
    spaces = welltuned_space(problem), first
    found = np.array([[trace(space, problem, seed, budget) for seed in chosen] for space in spaces])
    best = min(found.min(), *sample)
    return np.minimum((found - best) / ((np.median(sample) - best) or 1.0), WORST)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--suite", choices=["tasks", "choices"], default="tasks")
    parser.add_argument("--seeds", type=seeds, default=seeds("0-2"), help="0-4 or 0,3,7")
    parser.add_argument("--budget", type=int, default=max(MARKS), help="trials per run")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    marks = [m for m in MARKS if m <= given.budget]
    by_task = []
    for title, make in (tasks() if given.suite == "tasks" else choices()).items():
        problem = make()
        first = with_defaults(title, problem)
        if first.defaults is None:
            continue  # the model's class says of none of its parameters what it would be
        by_task.append(regrets(problem, first, given.seeds, given.budget))
        print(f"{title}: {by_task[-1][:, :, -1].mean(1).round(3)}", flush=True)
    without, with_them = np.concatenate(by_task, axis=1)[:, :, [m - 1 for m in marks]]
    gaps = with_them - without
    error = gaps.std(0) / np.sqrt(len(gaps))
    wins = (gaps < 0).mean(0) + (gaps == 0).mean(0) / 2
    rows = [
        ["without", *(f"{v:.3f}" for v in without.mean(0))],
        ["own settings first", *(f"{v:.3f}" for v in with_them.mean(0))],
        ["difference", *(f"{d:+.3f} ± {e:.3f}" for d, e in zip(gaps.mean(0), error, strict=True))],
        ["better in", *(f"{w:.0%}" for w in wins)],
    ]
    print(f"\n{len(by_task)} tasks, {len(given.seeds)} seeds each\n")
    print(markdown(["", *(f"at {m}" for m in marks)], rows))


if __name__ == "__main__":
    main()
