"""How far to trust what a study says of itself: predictions, expected gains, outlooks, bounds and recommendations.

Each problem is searched by ``auto``. At each mark the study is asked, and what happens afterwards, or what is known of
the problem, answers.

Example::

    python benchmarks/calibration.py --suite bbob,tasks --seeds 0-4 --out asked.jsonl
    python benchmarks/calibration.py --table asked.jsonl
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse  # noqa: E402
import json  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
from scipy.special import ndtri  # noqa: E402

import welltuned as wt  # noqa: E402
from peers import welltuned_space  # noqa: E402
from problems import Problem, draw  # noqa: E402
from regret import chosen, ensure_reference, read_references, read_runs, say  # noqa: E402
from welltuned.stats import diagnostics, expected_gain, outlook, regret_bound  # noqa: E402

MARKS = (16, 32, 64)
AHEAD = 16
PLACES = 200
NOISE = 0.1  # standard deviation of what is added to each value, as a share of the scale of the problem
SHARE = 0.8
REACH = float(ndtri(0.5 + SHARE / 2))


def asked(problem: Problem, seed: int, optimum: float, scale: float, noisy: bool) -> list[dict[str, Any]]:
    """Search a problem and return what the study said at each mark beside what was true, in units of ``scale``."""
    rng = np.random.default_rng(1000 + seed)
    places = [draw(problem.space, rng) for _ in range(PLACES)]
    truths = np.array([problem(place) for place in places])
    study = wt.Study(welltuned_space(problem), seed=seed, noisy=noisy or None)
    values: list[float] = []  # of the configurations, without noise
    said: list[dict[str, Any]] = []
    for n in range(1, MARKS[-1] + AHEAD + 1):
        trial = study.ask()
        values.append(problem(dict(trial.params)))
        study.tell(trial, values[-1] + noisy * NOISE * scale * rng.standard_normal())
        if n in MARKS:
            said.append({"problem": problem.name, "seed": seed, "n": n, "noisy": noisy})
            said[-1] |= _say(study, problem, places, truths, scale)
    best = np.minimum.accumulate(values)
    optimum = min(optimum, float(best[-1]))
    for row in said:
        n = row["n"]
        row["regret"] = float(best[n - 1] - optimum) / scale
        row["next"] = float(best[n - 1] - best[n]) / scale
        row["ahead"] = float(best[n - 1] - best[n - 1 + AHEAD]) / scale
    return said


def _say(study: wt.Study, problem: Problem, places: list[Any], truths: np.ndarray, scale: float) -> dict[str, Any]:
    history, found = study.history, {}
    began = time.process_time()
    more = outlook(history, worth=1e-9 * scale, horizon=AHEAD)
    found["cpu"] = time.process_time() - began
    found["gain"] = expected_gain(history) / scale
    found["outlook"], found["low"], found["high"] = (float(v[-1]) / scale for v in (more.gains, more.low, more.high))
    found["bound"] = regret_bound(history) / scale
    seen = study.predict(places)
    found["z"] = [round(float(z), 3) for z in (truths - seen.mean) / seen.sd]
    recommended = study.recommend()
    found["z_best"] = (problem(dict(recommended.params)) - recommended.mean) / recommended.sd
    found["loo"] = diagnostics(history).coverage
    return found


def table(rows: list[dict[str, Any]]) -> None:
    """Print a line of Markdown for each suite, with and without noise, and mark."""
    print(
        "| problems | n | gain of the next: said, true | of 16: said, true | 80 % interval | regret ≤ bound "
        "| bound, regret | places | recommended | left out |"
    )
    print("|---|---:|---|---|---:|---:|---|---:|---:|---:|")
    groups = sorted({(r["problem"].split(":")[0], r["noisy"], r["n"]) for r in rows})
    for suite, noisy, n in groups:
        some = [r for r in rows if (r["problem"].split(":")[0], r["noisy"], r["n"]) == (suite, noisy, n)]
        mean = {k: float(np.mean([r[k] for r in some])) for k in ("gain", "next", "outlook", "ahead", "loo")}
        within = np.mean([r["low"] - 1e-12 <= r["ahead"] <= r["high"] + 1e-12 for r in some])
        holds = np.mean([r["regret"] <= r["bound"] for r in some])
        bound, regret = (np.median([r[k] for r in some]) for k in ("bound", "regret"))
        z = np.abs(np.concatenate([r["z"] for r in some]))
        z_best = np.abs([r["z_best"] for r in some])
        print(
            f"| {suite}{', noisy' * noisy} ({len(some)}) | {n} | {mean['gain']:.4f}, {mean['next']:.4f} "
            f"| {mean['outlook']:.3f}, {mean['ahead']:.3f} | {within:.0%} | {holds:.0%} | {bound:.3f}, {regret:.3f} "
            f"| {np.mean(z <= REACH):.0%} | {np.mean(z_best <= REACH):.0%} | {mean['loo']:.0%} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", default="bbob")
    parser.add_argument("--problems")
    parser.add_argument("--yahpo", type=Path)
    parser.add_argument("--seeds", default="0-2", help="first and last, such as 0-4")
    parser.add_argument("--noise", default="without,with")
    parser.add_argument("--out", type=Path, default=Path("calibration.jsonl"))
    parser.add_argument("--table", type=Path, help="only print what is in this file")
    given = parser.parse_args()
    if given.table:
        table(read_runs(given.table))
        return
    first, last = (int(s) for s in given.seeds.split("-"))
    done = {(r["problem"], r["seed"], r["noisy"]) for r in read_runs(given.out)}
    for make in chosen(given).values():
        problem = make()
        ensure_reference(problem, given.out)
        reference = read_references(given.out)[problem.name]
        scale = reference["median"] - reference["best"]
        for noisy in (noise == "with" for noise in given.noise.split(",")):
            for seed in range(first, last + 1):
                if (problem.name, seed, noisy) in done:
                    continue
                say(f"{problem.name} seed {seed}{' with noise' * noisy}")
                rows = asked(problem, seed, reference["best"], scale, noisy)
                with given.out.open("a") as file:
                    file.writelines(json.dumps(row) + "\n" for row in rows)
    table(read_runs(given.out))


if __name__ == "__main__":
    main()
