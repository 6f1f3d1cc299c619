r"""What stopping and pausing trials saves: regret against the cost in whole trainings, with and without a scheduler.

    python benchmarks/pruning.py --yahpo FOLDER --seeds 0-2
    python benchmarks/pruning.py --yahpo FOLDER --seeds 0-2 --samplers optuna,auto --schedulers none,median,hyperband \
        --budget 100
    python benchmarks/pruning.py --yahpo FOLDER --doubt

Networks of LCBench with 51 reports each, from surrogates of their curves. 0 is the best value that any run found, 1 the
median of random settings.
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse  # noqa: E402
from collections import defaultdict  # noqa: E402
from collections.abc import Callable, Iterable  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402

import welltuned as wt  # noqa: E402
from peers import Optuna, welltuned_space  # noqa: E402
from problems import Missing, Problem, draw, surrogates  # noqa: E402
from regret import seeds  # noqa: E402
from welltuned.curves import parts  # noqa: E402
from welltuned.trial import Report  # noqa: E402

EPOCHS = range(2, 53)  # after the first one, networks of this data are untrained
MARKS = (4, 8, 16, 32)  # whole trainings
SCHEDULERS = ("none", "median", "halving", "asha", "hyperband")

Curve = list[tuple[int, float]]


def best_by_cost(problem: Problem, sampler: str, scheduler: str, seed: int, n_trials: int) -> Curve:
    """Return the epochs spent and the best result so far, for each trial that came to its end, and at last for all."""
    spent, found = 0, [(0, np.inf)]

    def train(trial: wt.Trial) -> float:
        nonlocal spent
        for epoch in EPOCHS[len(trial.reports) :]:  # a trial that was paused goes on where it was
            loss = problem({**trial, "epoch": epoch})
            spent += 1
            trial.report(loss, step=epoch - 1)
            if trial.should_stop():
                trial.prune()
        found.append((spent, min(loss, found[-1][1])))
        return loss

    study = wt.Study(
        welltuned_space(problem), sampler=sampler, scheduler=None if scheduler == "none" else scheduler, seed=seed
    )
    study.optimize(train, n_trials, progress=False)
    return [*found, (spent, found[-1][1])]


def optunas(problem: Problem, pruner: str, seed: int, n_trials: int) -> Curve:
    """Return the same for Optuna's estimators of Parzen with one of its pruners."""
    import optuna

    search, spent, found = Optuna(problem, seed, n_trials, "TPESampler"), 0, [(0, np.inf)]
    length = len(EPOCHS)
    search.study.pruner = {
        "none": optuna.pruners.NopPruner(),
        "median": optuna.pruners.MedianPruner(),
        "hyperband": optuna.pruners.HyperbandPruner(min_resource=1, max_resource=length, reduction_factor=3),
    }[pruner]
    for _ in range(n_trials):
        config = search.ask()
        for epoch in EPOCHS:
            loss = problem({**config, "epoch": epoch})
            spent += 1
            search.trial.report(loss, epoch - 1)
            if search.trial.should_prune():
                search.study.tell(search.trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            search.tell(loss)
            found.append((spent, min(loss, found[-1][1])))
    return [*found, (spent, found[-1][1])]


def at(curve: Curve, trainings: int) -> float:
    """Return the best result that was there for the cost of so many whole trainings."""
    return [best for spent, best in curve if spent <= trainings * len(EPOCHS)][-1]


def doubt(makers: Iterable[Callable[[], Problem]]) -> None:
    """Print how far random trainings end from where they were expected to when they were stopped, in what was said."""
    print("| complete of 24 | error / stated sd | within one | within two |")
    print("|---:|---:|---:|---:|")
    problems, rng = [make() for make in makers], np.random.default_rng(0)
    found: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for problem in problems * 6:
        configs = [draw(problem.space, rng) for _ in range(24)]
        losses = np.array([[problem({**config, "epoch": epoch}) for epoch in EPOCHS] for config in configs])
        for whole in (1, 2, 4, 10):
            seen = np.where(np.arange(24) < whole, len(EPOCHS), rng.choice([5, 10, 20], 24))
            trials = [
                wt.Trial(
                    i,
                    wt.State.COMPLETE if i < whole else wt.State.PRUNED,
                    reports=tuple(Report(step, {"value": loss}) for step, loss in enumerate(losses[i, :k].tolist(), 1)),
                )
                for i, k in enumerate(seen.tolist())
            ]
            results = np.where(np.arange(24) < whole, losses[:, -1], np.nan)[:, None]
            ended = parts(trials, {"value": "minimize"}, results)
            assert ended is not None
            at = ended.trials[ended.resting]
            strayed = losses[at, -1] - ended.ends[ended.resting, 0]
            found[whole] += zip(strayed.tolist(), ended.sds[ended.resting, 0].tolist(), strict=True)
    for whole, pairs in found.items():
        error, sd = np.abs(np.array(pairs)).T
        ratio = np.sqrt((error**2).mean() / (sd**2).mean())
        print(f"| {whole} | {ratio:.2f} | {(error < sd).mean():.0%} | {(error < 2 * sd).mean():.0%} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--yahpo", type=Path, help="folder of YAHPO's scenarios")
    parser.add_argument("--samplers", default="random,auto")
    parser.add_argument("--schedulers", default=",".join(SCHEDULERS))
    parser.add_argument("--seeds", type=seeds, default=seeds("0-2"), help="0-4 or 0,3,7")
    parser.add_argument("--budget", type=int, default=64, help="trials per run")
    parser.add_argument("--doubt", action="store_true", help="how well it is known where stopped trainings would end")
    given = parser.parse_args()
    try:
        makers = {name: make for name, make in surrogates(given.yahpo).items() if "lcbench" in name}
    except Missing as error:
        raise SystemExit(str(error)) from None
    if given.doubt:
        doubt(makers.values())
        return
    rows: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    for make in makers.values():
        problem, rng = make(), np.random.default_rng(0)
        middle = float(np.median([problem(draw(problem.space, rng)) for _ in range(problem.points)]))
        kinds = [
            (sampler, scheduler) for sampler in given.samplers.split(",") for scheduler in given.schedulers.split(",")
        ]
        runs = {
            ((sampler, scheduler), seed): optunas(problem, scheduler, seed, given.budget)
            if sampler == "optuna"
            else best_by_cost(problem, sampler, scheduler, seed, given.budget)
            for sampler, scheduler in kinds
            for seed in given.seeds
        }
        best = min(curve[-1][1] for curve in runs.values())
        for (kind, _), curve in runs.items():
            values = [min(at(curve, mark), middle) for mark in MARKS] + [curve[-1][1]]
            rows[kind].append([(v - best) / (middle - best) for v in values] + [curve[-1][0] / len(EPOCHS)])
    print(f"| search | scheduler | {' | '.join(map(str, MARKS))} | end | whole trainings |")
    print("|---|---|" + "---:|" * (len(MARKS) + 2))
    for (sampler, scheduler), found in rows.items():
        mean = np.mean(found, axis=0)
        print(f"| {sampler} | {scheduler} | {' | '.join(f'{v:.3f}' for v in mean[:-1])} | {mean[-1]:.0f} |")


if __name__ == "__main__":
    main()
