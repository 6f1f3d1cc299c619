"""CPU seconds per suggestion of each sampler, as the history grows; one BLAS thread, process time."""

from __future__ import annotations

import itertools
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import time  # noqa: E402

import numpy as np  # noqa: E402

import welltuned as wt  # noqa: E402

MARKS = (16, 64, 128)
SPACE = wt.Space(
    {
        **{f"x{i}": wt.Float(0.0, 1.0) for i in range(4)},
        "n": wt.Int(1, 64, log=True),
        "a": wt.Categorical(["u", "v", "w"]),
        "b": wt.Float(1e-4, 1.0, log=True, when={"a": "u"}),
    }
)


def objective(trial: wt.Trial) -> float:
    x = np.array([trial[f"x{i}"] for i in range(4)])
    return float(((x - 0.4) ** 2).sum() + (trial["a"] != "u") + abs(np.log2(trial["n"]) - 4) / 8 + trial.get("b", 0.5))


def costs(sampler: str) -> list[float]:
    study = wt.Study(SPACE, sampler=sampler, seed=0)
    spent = []
    for _ in range(MARKS[-1]):
        began = time.process_time()
        trial = study.ask()
        spent.append(time.process_time() - began)
        study.tell(trial, objective(trial))
    return spent


def main() -> None:
    costs("bayes")  # imports and first calls
    print(f"{'ms of CPU per ask':20s} " + " ".join(f"{'to ' + str(m):>8s}" for m in MARKS))
    for sampler in ("random", "qmc", "grid", "gradient", "bayes", "auto"):
        spent = costs(sampler)
        parts = [np.mean(spent[a:b]) for a, b in itertools.pairwise([0, *MARKS])]
        print(f"{sampler:20s} " + " ".join(f"{1e3 * part:8.2f}" for part in parts))


if __name__ == "__main__":
    main()
