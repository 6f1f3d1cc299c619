r"""Trainings whose best learning rate falls: a population against other searches, for the same number of epochs.

    python benchmarks/schedules.py --trainings 8,24 --seeds 0-7

A network of one hidden layer learns digits, a tenth of whose labels are wrong, by plain stochastic gradient descent
with small batches: a high rate learns fast and stays noisy. What is searched for is that rate, the momentum and the
weight decay; what is looked for is the lowest cross-entropy on held-out digits after the last of 30 epochs. Each seed
splits the digits in its own way. Two rows know what the others do not: their rate falls to a fiftieth on the way.
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse  # noqa: E402
import itertools  # noqa: E402
import tempfile  # noqa: E402
from collections import defaultdict  # noqa: E402
from concurrent.futures import ProcessPoolExecutor  # noqa: E402
from itertools import repeat  # noqa: E402

import numpy as np  # noqa: E402

import welltuned as wt  # noqa: E402
from regret import seeds  # noqa: E402

EPOCHS, UNITS, BATCH = 30, 32, 8
SPACE = {
    "rate": wt.Float(1e-4, 1.0, log=True),
    "momentum": wt.Float(0.0, 0.99),
    "decay": wt.Float(1e-6, 1e-1, log=True),
}
SEARCHES = ("random", "random asha", "random pbt", "auto", "auto asha", "auto pbt", "random falling", "auto falling")
FALL = 0.02  # what the rate falls to in the rows that know that it should

Weights = list[np.ndarray]


def digits(seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return images and labels for training, validation and test."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    X, y = images[order] / 16.0, labels[order].copy()
    wrong = rng.random(len(y)) < 0.1
    wrong[600:] = False
    y[wrong] = rng.integers(10, size=wrong.sum())
    return {"train": (X[:600], y[:600]), "valid": (X[600:1200], y[600:1200]), "test": (X[1200:], y[1200:])}


def forward(weights: Weights, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the hidden layer and the logarithms of the probabilities."""
    W, b, V, c = weights
    hidden = np.maximum(X @ W + b, 0.0)
    scores = hidden @ V + c
    scores = scores - scores.max(axis=1, keepdims=True)
    return hidden, scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


def loss(weights: Weights, data: tuple[np.ndarray, np.ndarray]) -> float:
    """Return the mean cross-entropy, up to where it tells nothing any more."""
    X, y = data
    with np.errstate(all="ignore"):
        found = -forward(weights, X)[1][np.arange(len(y)), y].mean()
    return float(min(found, 10.0)) if np.isfinite(found) else 10.0


def epoch(weights: Weights, moves: Weights, rate: float, params: wt.Trial, X: np.ndarray, y: np.ndarray) -> None:
    """Train once over all images, in the order given."""
    with np.errstate(all="ignore"):
        for i in range(0, len(y), BATCH):
            x, label = X[i : i + BATCH], y[i : i + BATCH]
            hidden, log_p = forward(weights, x)
            out = np.exp(log_p)
            out[np.arange(len(label)), label] -= 1.0
            out /= len(label)
            back = (out @ weights[2].T) * (hidden > 0)
            slopes = [x.T @ back, back.sum(axis=0), hidden.T @ out, out.sum(axis=0)]
            for w, m, g in zip(weights, moves, slopes, strict=True):
                m *= params["momentum"]
                m -= rate * (g + params["decay"] * w)
                w += m


class Training:
    """An objective that makes so many epochs in all, whichever trials they belong to, and then stops its study."""

    def __init__(self, seed: int, most: int, falls: bool) -> None:
        self.data, self.seed, self.left, self.falls = digits(seed), seed, most, falls
        self.study: wt.Study | None = None

    def begun(self, trial: wt.Trial) -> tuple[int, Weights, Weights]:
        """Return how many epochs a network has been trained, its weights and their moves."""
        file = trial.checkpoint / "state.npz"
        if file.exists():
            state = np.load(file)
            return int(state["done"]), [state[f"w{i}"] for i in range(4)], [state[f"m{i}"] for i in range(4)]
        rng = np.random.default_rng(self.seed)
        shapes = ((64, UNITS), UNITS, (UNITS, 10), 10)
        weights = [
            rng.normal(size=shape) / shape[0] ** 0.5 if shape in shapes[::2] else np.zeros(shape) for shape in shapes
        ]
        return 0, weights, [np.zeros_like(w) for w in weights]

    def __call__(self, trial: wt.Trial) -> float:
        """Train a network from where it is, and return its loss on the validation data."""
        done, weights, moves = self.begun(trial)
        X, y = self.data["train"]
        for step in range(done + 1, EPOCHS + 1):
            if not self.left:
                self.study.stop("all epochs are spent")
                trial.prune()
            self.left -= 1
            order = np.random.default_rng([self.seed, step]).permutation(len(y))
            rate = trial["rate"] * (FALL ** ((step - 1) / (EPOCHS - 1)) if self.falls else 1.0)
            epoch(weights, moves, rate, trial, X[order], y[order])
            trial.report(loss(weights, self.data["valid"]), step=step)
            arrays = {f"{k}{i}": a for k, many in (("w", weights), ("m", moves)) for i, a in enumerate(many)}
            np.savez(trial.checkpoint / "state.npz", done=step, **arrays)
            if trial.should_stop():
                break
        trial.note(test=loss(weights, self.data["test"]))
        return loss(weights, self.data["valid"])


def run(search: str, seed: int, trainings: int) -> tuple[float, float, float]:
    """Return the losses of the best network, on validation and test data, and how many trainings' epochs were made."""
    sampler, _, how = search.partition(" ")
    objective = Training(seed, trainings * EPOCHS, how == "falling")
    scheduler = {"asha": wt.Asha(last=EPOCHS), "pbt": wt.Pbt(population=trainings, every=3, last=EPOCHS)}.get(how)
    with tempfile.TemporaryDirectory() as folder:
        study = wt.Study(SPACE, sampler=sampler, scheduler=scheduler, seed=seed, checkpoints=folder)
        objective.study = study
        study.optimize(objective, 100 * trainings if scheduler else trainings, progress=False)
        best = study.best
    return best.value, best.attributes["test"], trainings - objective.left / EPOCHS


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--trainings", default="8,24", help="whole trainings that a search may spend")
    parser.add_argument("--searches", default=",".join(SEARCHES))
    parser.add_argument("--seeds", type=seeds, default=seeds("0-7"), help="0-4 or 0,3,7")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    sizes, rows = [int(n) for n in given.trainings.split(",")], defaultdict(list)
    with ProcessPoolExecutor(given.processes) as pool:
        for search, n in itertools.product(given.searches.split(","), sizes):
            found = np.array(list(pool.map(run, repeat(search), given.seeds, repeat(n))))
            mean, error = found.mean(axis=0), found.std(axis=0, ddof=1) / len(found) ** 0.5
            rows[search].append(f"{mean[0]:.3f} ± {error[0]:.3f} | {mean[1]:.3f}")
            print(f"{search}, {n} trainings: {rows[search][-1]}, {mean[2]:.1f} spent", flush=True)
    print(f"| search | {' | '.join(f'{n} | test' for n in sizes)} |")
    print("|---|" + "---:|" * (2 * len(sizes)))
    for search, cells in rows.items():
        print(f"| {search} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
