"""Race searches over problems and print normalised regret, CPU time and paired wins as Markdown.

Example::

    python benchmarks/regret.py --suite bbob --opts auto,random,optuna-default,optuna-gp --seeds 0-4 --out runs.jsonl
    python benchmarks/regret.py --table runs.jsonl
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
import warnings  # noqa: E402
from collections.abc import Callable, Iterable, Sequence  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402

import welltuned as wt  # noqa: E402
from peers import ENTRIES, start  # noqa: E402
from problems import Config, Missing, Problem, draw  # noqa: E402
from suites import SUITES, suite  # noqa: E402

MARKS = (16, 32, 64)
WARM_UP = 14  # enough for every model-based search here to have fitted its model
Run = dict[str, Any]
Key = tuple[str, int]


def say(message: str) -> None:
    """Write to where it does not mix with a table."""
    print(message, file=sys.stderr, flush=True)


# --- files ---


def read_runs(path: Path) -> list[Run]:
    return [json.loads(line) for line in path.read_text().splitlines() if line] if path.exists() else []


def reference_path(out: Path) -> Path:
    return out.with_suffix(".reference.json")


def read_references(out: Path) -> dict[str, dict[str, float]]:
    path = reference_path(out)
    return json.loads(path.read_text()) if path.exists() else {}


def ensure_reference(problem: Problem, out: Path) -> None:
    """Write the best and the median value of a seeded random sample, unless the file has them already."""
    references = read_references(out)
    if problem.name in references:
        return
    say(f"{problem.name}: {problem.points} random points for the scale")
    rng = np.random.default_rng(0)
    values = [problem(draw(problem.space, rng)) for _ in range(problem.points)]
    scale = {"best": min(values), "median": float(np.median(values)), "points": problem.points}
    reference_path(out).write_text(json.dumps(references | {problem.name: scale}, indent=1) + "\n")


# --- race ---


def run(name: str, problem: Problem, seed: int, budget: int, value: Callable[[Config], float] | None = None) -> Run:
    """Run one search to the end of its budget; time is counted inside ask and tell only."""
    value = problem if value is None else value
    search = start(name, problem, seed, budget)
    best, trace, cpu = float("inf"), [], 0.0
    while len(trace) < budget:
        began = time.process_time()
        try:
            config = search.ask()
        except wt.StudyStopped:  # a grid can end before its budget
            break
        cpu += time.process_time() - began
        y = value(config)
        began = time.process_time()
        search.tell(y)
        cpu += time.process_time() - began
        best = min(best, y)
        trace.append(best)
    ms = 1e3 * cpu / max(len(trace), 1)
    trace += [best] * (budget - len(trace))
    return {"opt": name, "problem": problem.name, "seed": seed, "budget": budget, "ms": round(ms, 4), "trace": trace}


def warm_up(name: str, problem: Problem) -> None:
    """Load what the search loads when it is first used, so that no run pays for imports."""
    values = iter(np.random.default_rng(0).uniform(size=WARM_UP))
    run(name, problem, 0, WARM_UP, lambda config: float(next(values)))


def usable(names: Iterable[str]) -> list[str]:
    """Return the searches that can run here, and say of the others why not."""
    kept = []
    for name in names:
        if name not in ENTRIES:
            raise SystemExit(f"{name!r} is unknown; known are {', '.join(ENTRIES)}")
        if missing := ENTRIES[name].missing():
            say(f"{name} is left out; it needs: pip install {' '.join(missing)}")
        else:
            kept.append(name)
    return kept


def chosen(given: argparse.Namespace) -> dict[str, Callable[[], Problem]]:
    """Return the problems of all suites asked for, or only those that ``--problems`` names."""
    found: dict[str, Callable[[], Problem]] = {}
    for name in given.suite.split(","):
        if name not in SUITES:
            raise SystemExit(f"suite {name!r} is unknown; known are {', '.join(SUITES)}")
        try:
            found |= suite(name, given.yahpo)
        except Missing as reason:
            say(f"{reason}")
    if given.problems is None:
        return found
    if unknown := set(given.problems.split(",")) - set(found):
        raise SystemExit(f"no problem is called {', '.join(sorted(unknown))}; there are {', '.join(found)}")
    return {name: found[name] for name in given.problems.split(",")}


def race(given: argparse.Namespace) -> None:
    names, done, warm = usable(given.opts.split(",")), set(), set()
    for r in read_runs(given.out):
        done.add((r["opt"], r["problem"], r["seed"], r["budget"]))
    if not names:
        raise SystemExit("none of the searches asked for can run here")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    for title, make in chosen(given).items():
        wanted = [(s, n) for s in given.seeds for n in names if (n, title, s, given.budget) not in done]
        if not wanted and title in read_references(given.out):
            continue
        problem = make()
        ensure_reference(problem, given.out)
        for seed, name in wanted:
            try:
                if name not in warm:
                    warm_up(name, problem)
                result = run(name, problem, seed, given.budget)
            except (wt.WelltunedError, ValueError, TypeError, ArithmeticError, RuntimeError) as error:
                say(f"{name} failed on {title}, seed {seed}: {type(error).__name__}: {error}")
                continue
            warm.add(name)
            with given.out.open("a") as file:
                file.write(json.dumps(result) + "\n")
            say(f"{title} seed {seed} {name}: {result['trace'][-1]:.6g}, {result['ms']:.1f} ms a trial")


# --- table ---


def by_search(runs: Iterable[Run]) -> dict[str, dict[Key, Run]]:
    """Sort runs by search, then by problem and seed; of several budgets the longest counts."""
    found: dict[str, dict[Key, Run]] = {}
    for r in sorted(runs, key=lambda r: r["budget"]):
        found.setdefault(r["opt"], {})[r["problem"], r["seed"]] = r
    return found


def regrets(runs: Iterable[Run], scales: dict[str, tuple[float, float]], mark: int) -> dict[str, list[float]]:
    """Return the normalised regrets at a mark, by problem."""
    found: dict[str, list[float]] = {}
    for r in runs:
        if mark <= len(r["trace"]):
            best, median = scales[r["problem"]]
            found.setdefault(r["problem"], []).append((r["trace"][mark - 1] - best) / ((median - best) or 1.0))
    return found


def scales_of(runs: Sequence[Run], references: dict[str, dict[str, float]]) -> dict[str, tuple[float, float]]:
    """Return, by problem, the best value seen by anybody and the median of the random sample."""
    scales = {}
    for problem in {r["problem"] for r in runs}:
        if problem not in references:
            raise SystemExit(f"the reference file has no {problem}; start the race again, which adds it")
        seen = min(r["trace"][-1] for r in runs if r["problem"] == problem)
        scales[problem] = (min(seen, references[problem]["best"]), references[problem]["median"])
    return scales


def share_of_wins(first: dict[Key, Run], other: dict[Key, Run], mark: int) -> float | None:
    """Return how often the first ends better on the same problem and seed; a tie is half a win."""
    pairs = [
        (first[key]["trace"][mark - 1], other[key]["trace"][mark - 1])
        for key in first.keys() & other.keys()
        if mark <= min(len(first[key]["trace"]), len(other[key]["trace"]))
    ]
    return float(np.mean([(a < b) + (a == b) / 2 for a, b in pairs])) if pairs else None


def cell(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def regret_rows(found: dict[str, dict[Key, Run]], scales: dict[str, tuple[float, float]]) -> list[list[str]]:
    rows = []
    for name, runs in found.items():
        means = []
        for mark in MARKS:
            # every problem weighs the same, however many seeds it has
            per_problem = [np.mean(v) for v in regrets(runs.values(), scales, mark).values()]
            means.append(cell(float(np.mean(per_problem)) if per_problem else None, ".4f"))
        ms = float(np.mean([r["ms"] for r in runs.values()]))
        rows.append([name, *means, f"{ms:.1f}", str(len(runs))])
    return rows


def win_rows(found: dict[str, dict[Key, Run]]) -> list[list[str]]:
    first, *others = found
    shares = {other: [share_of_wins(found[first], found[other], mark) for mark in MARKS] for other in others}
    return [[other, *(cell(s, ".0%") for s in row)] for other, row in shares.items()]


def show(title: str, runs: Sequence[Run], scales: dict[str, tuple[float, float]], order: Sequence[str]) -> None:
    found = by_search(runs)
    found = {name: found[name] for name in dict.fromkeys([*order, *found]) if name in found}
    marks = [f"at {mark}" for mark in MARKS]
    problems = len({r["problem"] for r in runs})
    print(f"### {title}, {problems} problem{'s' if problems > 1 else ''}\n")
    print("Mean normalised regret (0: best value known, 1: median of random points), CPU time in ask and tell.\n")
    print(markdown(["search", *marks, "ms per trial", "runs"], regret_rows(found, scales)))
    if len({frozenset(runs) for runs in found.values()}) > 1:
        print("\nNot every search ran on every problem and seed, so that the means above are not of the same runs.")
    if len(found) > 1:
        print(f"\nShare of (problem, seed) pairs in which `{next(iter(found))}` ends better; a tie counts half.\n")
        print(markdown(["against", *marks], win_rows(found)))
    print()


def table(path: Path, order: Sequence[str]) -> None:
    runs = read_runs(path)
    # the best of all runs, so that a choice of searches does not move the scale
    scales = scales_of(runs, read_references(path))
    if order:
        runs = [r for r in runs if r["opt"] in order]
    if not runs:
        raise SystemExit(f"{path} has no such runs")
    for title in dict.fromkeys(r["problem"].split(":")[0] for r in runs):
        show(title, [r for r in runs if r["problem"].split(":")[0] == title], scales, order)


# --- command ---


def seeds(text: str) -> list[int]:
    """Read ``0-4`` or ``0,3,7``."""
    parts = [part.split("-") for part in text.split(",")]
    return [seed for part in parts for seed in range(int(part[0]), int(part[-1]) + 1)]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--suite", default="branches", help=f"one or more of {', '.join(SUITES)}")
    parser.add_argument("--problems", help="only these problems of the suites, by name")
    parser.add_argument("--opts", help=f"searches, out of {', '.join(ENTRIES)}; in a table the first is compared")
    parser.add_argument("--seeds", type=seeds, default=seeds("0-4"), help="0-4 or 0,3,7")
    parser.add_argument("--budget", type=int, default=64, help="trials per run")
    parser.add_argument("--yahpo", type=Path, help="folder of YAHPO's scenarios, for the suites surrogates and forks")
    parser.add_argument("--out", type=Path, default=Path("runs.jsonl"), help="file the runs are added to")
    parser.add_argument("--table", type=Path, metavar="RUNS", help="print the tables of this file and race nothing")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    warnings.filterwarnings("ignore")  # peers warn of their experimental parts at every call
    if given.table is not None:
        table(given.table, given.opts.split(",") if given.opts else [])
    else:
        given.opts = given.opts or "auto,random,optuna-default"
        race(given)


if __name__ == "__main__":
    main()
