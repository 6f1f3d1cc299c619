"""How good what a study recommends truly is, beside the trial with the best value, with noise and without.

Example::

    python benchmarks/recommending.py --suite bbob-5d --seeds 0-1 --noise 0,0.1,0.3 --out recommended.jsonl
    python benchmarks/recommending.py --table recommended.jsonl
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse  # noqa: E402
import json  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402

import welltuned as wt  # noqa: E402
from peers import welltuned_space  # noqa: E402
from problems import Problem  # noqa: E402
from regret import chosen, ensure_reference, read_references, read_runs, say  # noqa: E402

MARKS = (16, 32, 64)
SEARCHES = ("auto", "auto noisy", "random")
Row = dict[str, Any]


def recommended(problem: Problem, search: str, share: float, seed: int, reference: dict[str, float]) -> list[Row]:
    """Search with noise of a ``share`` of the scale; return regrets without noise, by mark.

    They are normalised, and capped at 2: 0 is the best value of a random sample, 1 its median.
    """
    rng = np.random.default_rng(1000 + seed)
    scale = reference["median"] - reference["best"]
    sampler, _, noisy = search.partition(" ")
    space = welltuned_space(problem)
    study = wt.Study(space, sampler=sampler, noisy=bool(noisy) or None, seed=seed, n_trials=MARKS[-1])

    def regret(params: Any) -> float:
        return min((problem(dict(params)) - reference["best"]) / scale, 2.0)

    rows: list[Row] = []
    for n in range(1, MARKS[-1] + 1):
        trial = study.ask()
        study.tell(trial, problem(dict(trial)) + share * scale * rng.standard_normal())
        if n in MARKS:
            row = {"problem": problem.name, "search": search, "share": share, "seed": seed, "n": n}
            best, advised = study.best, study.recommend()
            rows.append(row | {"best": regret(best.params), "recommended": regret(advised.params)})
    return rows


def table(rows: list[Row]) -> None:
    """Print a line of Markdown for each search and noise: both regrets and who is no worse, at each mark."""
    print("| noise | search | " + " | ".join(f"at {n}: best value, recommended, no worse" for n in MARKS) + " |")
    print("|---:|---|" + "---|" * len(MARKS))
    for share, search in sorted({(r["share"], r["search"]) for r in rows}):
        cells = []
        for n in MARKS:
            some = [r for r in rows if (r["share"], r["search"], r["n"]) == (share, search, n)]
            best, advised = (np.array([r[k] for r in some]) for k in ("best", "recommended"))
            cells.append(f"{best.mean():.3f}, {advised.mean():.3f}, {np.mean(advised <= best):.0%}")
        print(f"| {share:g} | {search} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", default="bbob-5d")
    parser.add_argument("--problems")
    parser.add_argument("--yahpo", type=Path)
    parser.add_argument("--seeds", default="0-0", help="first and last, such as 0-4")
    parser.add_argument("--noise", default="0,0.1,0.3", help="standard deviations, as shares of a problem's scale")
    parser.add_argument("--searches", default=",".join(SEARCHES))
    parser.add_argument("--out", type=Path, default=Path("recommended.jsonl"))
    parser.add_argument("--table", type=Path, help="only print what is in this file")
    given = parser.parse_args()
    if given.table:
        table(read_runs(given.table))
        return
    if unknown := set(given.searches.split(",")) - set(SEARCHES):
        raise SystemExit(f"{', '.join(sorted(unknown))}: no such search; known are {', '.join(SEARCHES)}")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    first, last = (int(s) for s in given.seeds.split("-"))
    done = {(r["problem"], r["search"], r["share"], r["seed"]) for r in read_runs(given.out)}
    for make in chosen(given).values():
        problem = make()
        ensure_reference(problem, given.out)
        reference = read_references(given.out)[problem.name]
        for share in (float(s) for s in given.noise.split(",")):
            for search in given.searches.split(","):
                for seed in range(first, last + 1):
                    if (problem.name, search, share, seed) in done:
                        continue
                    say(f"{problem.name} {search} noise {share:g} seed {seed}")
                    rows = recommended(problem, search, share, seed, reference)
                    with given.out.open("a") as file:
                        file.writelines(json.dumps(row) + "\n" for row in rows)
    table(read_runs(given.out))


if __name__ == "__main__":
    main()
