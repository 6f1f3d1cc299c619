r"""Trainings whose best learning rate falls: a population against other searches, for the same number of epochs.

    python benchmarks/schedules.py --trainings 8,16,32 --seeds 0-9

A network of one hidden layer learns digits, a tenth of whose labels are wrong, by plain stochastic gradient descent with
small batches: a high rate learns fast and stays noisy. What is searched for is that rate, the momentum and the weight
decay; what is looked for is the lowest cross-entropy on held-out digits after the last of 30 epochs. Each seed splits the
digits in its own way. Two rows know what the others do not: the best of as many trainings whose rate falls to a fiftieth.
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse  # noqa: E402
import tempfile  # noqa: E402
from collections import defaultdict  # noqa: E402
from collections.abc import Callable  # noqa: E402

import numpy as np  # noqa: E402

import welltuned as wt  # noqa: E402
from regret import seeds  # noqa: E402

EPOCHS, UNITS, BATCH = 30, 32, 8
SPACE = {
    "rate": wt.Float(1e-4, 1.0, log=True),
    "momentum": wt.Float(0.0, 0.99),
    "decay": wt.Float(1e-6, 1e-1, log=True),
}
SEARCHES = ("random", "auto", "random asha", "auto asha", "random pbt", "auto pbt")

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


def epoch(weights: Weights, moves: Weights, params: wt.Trial, X: np.ndarray, y: np.ndarray) -> None:
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
                m -= params["rate"] * (g + params["decay"] * w)
                w += m


def objective(data: dict[str, tuple[np.ndarray, np.ndarray]], seed: int, most: int, spent: list[tuple[float, float]]):
    """Return an objective that notes validation and test loss of each epoch in ``spent``, up to ``most`` of them."""

    def train(trial: wt.Trial) -> float:
        file = trial.checkpoint / "state.npz"
        rng = np.random.default_rng(seed)
        if file.exists():
            state = np.load(file)
            done, weights, moves = int(state["done"]), *([state[f"{k}{i}"] for i in range(4)] for k in "wm")
        else:
            weights = [rng.normal(size=(64, UNITS)) / 8.0, np.zeros(UNITS), rng.normal(size=(UNITS, 10)) / 6.0]
            done, weights, moves = 0, [*weights, np.zeros(10)], []
            moves = [np.zeros_like(w) for w in weights]
        X, y = data["train"]
        for step in range(done + 1, EPOCHS + 1):
            if len(spent) >= most:
                study_of[0].stop("all epochs are spent")
                trial.prune()
            order = np.random.default_rng([seed, step]).permutation(len(y))
            epoch(weights, moves, trial, X[order], y[order])
            spent.append((loss(weights, data["valid"]), loss(weights, data["test"])))
            trial.report(spent[-1][0], step=step)
            arrays = {f"{k}{i}": a for k, many in (("w", weights), ("m", moves)) for i, a in enumerate(many)}
            np.savez(file, done=step, **arrays)
            if trial.should_stop():
                break
        return loss(weights, data["valid"])

    study_of: list[wt.Study] = []
    return train, study_of


def run(search: str, seed: int, trainings: int) -> tuple[float, float, int]:
    """Return the lowest validation loss, the test loss of that network, and how many epochs it took."""
    sampler, _, scheduler = search.partition(" ")
    kinds: dict[str, Callable[[], object]] = {
        "": lambda: None,
        "asha": lambda: wt.Asha(last=EPOCHS),
        "pbt": lambda: wt.Pbt(population=trainings, every=3, last=EPOCHS),
    }
    spent: list[tuple[float, float]] = []
    train, study_of = objective(digits(seed), seed, trainings * EPOCHS, spent)
    with tempfile.TemporaryDirectory() as folder:
        study = wt.Study(SPACE, sampler=sampler, scheduler=kinds[scheduler](), seed=seed, checkpoints=folder)
        study_of.append(study)
        study.optimize(train, trainings if not scheduler else 100 * trainings, progress=False)
    return *min(spent), len(spent)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--trainings", default="8,16,32", help="whole trainings that a search may spend")
    parser.add_argument("--searches", default=",".join(SEARCHES))
    parser.add_argument("--seeds", type=seeds, default=seeds("0-9"), help="0-4 or 0,3,7")
    given = parser.parse_args()
    sizes, rows = [int(n) for n in given.trainings.split(",")], defaultdict(list)
    for search in given.searches.split(","):
        for n in sizes:
            found = np.array([run(search, seed, n) for seed in given.seeds])
            mean, error = found.mean(axis=0), found.std(axis=0, ddof=1) / len(found) ** 0.5
            rows[search].append(f"{mean[0]:.3f} ± {error[0]:.3f} | {mean[1]:.3f}")
            print(f"{search}, {n} trainings: {rows[search][-1]}, {mean[2] / EPOCHS:.1f} spent", flush=True)
    print(f"| search | {' | '.join(f'{n} | test' for n in sizes)} |")
    print("|---|" + "---:|" * (2 * len(sizes)))
    for search, cells in rows.items():
        print(f"| {search} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
