"""CPU milliseconds per suggestion as the history grows to 1,000 trials, and TPE on 40 parameters beside Optuna's."""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse  # noqa: E402
import importlib.util  # noqa: E402
import time  # noqa: E402
from collections.abc import Sequence  # noqa: E402

import numpy as np  # noqa: E402

import welltuned as wt  # noqa: E402
from peers import start, welltuned_space  # noqa: E402
from problems import Choice, Config, Number, Parameter, Problem, Space, draw  # noqa: E402

MARKS = (16, 32, 64, 100, 200, 500, 1000)
ROUNDS = 8
SAMPLERS = ("auto", "bayes", "tpe", "cmaes", "random")


def bowl(name: str, space: Space) -> Problem:
    """Return a problem whose values are cheap to compute and differ between all configurations."""

    def cost(parameter: Parameter, value: float | str) -> float:
        if isinstance(parameter, Choice):
            return 0.1 * parameter.values.index(value)
        return (parameter.unit(float(value)) - 0.4) ** 2

    def value(config: Config) -> float:
        return sum(cost(space[n], v) for n, v in config.items()) + 0.1 * (len(space) - len(config))

    return Problem(name, space, value)


def mixed(size: int) -> dict[str, Parameter]:
    """Return a space of parameters of all kinds in turn."""
    kinds: list[Parameter] = [
        Number(0.0, 1.0),
        Number(1e-5, 1e-1, log=True),
        Number(1, 64, log=True, whole=True),
        Choice(("u", "v", "w")),
        Number(-3.0, 3.0),
    ]
    return {f"p{i}": kinds[i % len(kinds)] for i in range(size)}


PROBLEMS = (
    bowl("7 mixed parameters", mixed(6) | {"extra": Number(1e-4, 1.0, log=True, when=("p3", frozenset({"u"})))}),
    bowl("10 floats", {f"x{i}": Number(-5.0, 5.0) for i in range(10)}),
)


def filled(problem: Problem, sampler: str, n: int) -> wt.Study:
    """Return a study that knows ``n`` random trials."""
    rng = np.random.default_rng(0)
    study = wt.Study(welltuned_space(problem), direction="minimize", sampler=sampler, seed=0)
    configs = [draw(problem.space, rng) for _ in range(n)]
    study.add([(config, problem(config)) for config in configs])
    return study


def milliseconds(problem: Problem, sampler: str, n: int) -> float:
    """Return the CPU time of one suggestion, ask and tell, on the way from ``n - 8`` to ``n`` trials."""
    study, spent = filled(problem, sampler, n - ROUNDS - 1), []
    for _ in range(ROUNDS + 1):
        began = time.process_time()
        trial = study.ask()
        between = time.process_time()
        value = problem(dict(trial))
        told = time.process_time()
        study.tell(trial, value)
        spent.append(time.process_time() - told + between - began)
    # the first round reads the whole history, which a search that found it itself never has to do
    return 1e3 * float(np.mean(spent[1:]))


def curves(samplers: Sequence[str], marks: Sequence[int]) -> None:
    for problem in PROBLEMS:
        print(f"CPU milliseconds per suggestion, {problem.name}\n")
        print("| sampler | " + " | ".join(f"n={n}" for n in marks) + " |")
        print("|---|" + "---:|" * len(marks))
        for sampler in samplers:
            try:
                milliseconds(problem, sampler, ROUNDS * 4)  # imports and first calls
                cells = [f"{milliseconds(problem, sampler, n):.2f}" for n in marks]
            except wt.WelltunedError as error:
                cells = [str(error).split("\n")[0], *[""] * (len(marks) - 1)]
            print(f"| {sampler} | " + " | ".join(cells) + " |", flush=True)
        print()


def total(name: str, problem: Problem, n: int) -> float:
    """Return the CPU seconds that a search spends inside ask and tell over ``n`` trials."""
    search, spent = start(name, problem, 0, n), 0.0
    for _ in range(n):
        began = time.process_time()
        config = search.ask()
        spent += time.process_time() - began
        value = problem(config)
        began = time.process_time()
        search.tell(value)
        spent += time.process_time() - began
    return spent


def totals(n: int) -> None:
    problem = bowl("40 mixed parameters", mixed(40))
    total("tpe", problem, 16)  # imports and first calls
    ours = total("tpe", problem, n)
    print(f"{problem.name}, {n} trials: tpe {ours:.1f} s of CPU", end="", flush=True)
    if importlib.util.find_spec("optuna") is None:
        print("; pip install optuna to see its default beside it")
        return
    total("optuna-default", problem, 16)
    theirs = total("optuna-default", problem, n)
    print(f", Optuna's default {theirs:.1f} s, {theirs / ours:.1f} times as much")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samplers", default=",".join(SAMPLERS), help="samplers of the curves")
    parser.add_argument("--marks", default=",".join(map(str, MARKS)), help="numbers of trials of the curves")
    parser.add_argument("--trials", type=int, default=1000, help="trials with 40 parameters; 0 leaves them out")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    samplers, marks = given.samplers.split(","), [int(mark) for mark in given.marks.split(",")]
    if unknown := set(samplers) - set(wt.SAMPLERS):
        raise SystemExit(f"{', '.join(sorted(unknown))}: no such sampler; known are {', '.join(wt.SAMPLERS)}")
    if min(marks) <= ROUNDS:
        raise SystemExit(f"--marks must be above {ROUNDS}")
    curves(samplers, marks)
    if given.trials:
        totals(given.trials)


if __name__ == "__main__":
    main()
