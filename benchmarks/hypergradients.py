"""What hypergradients give and cost, on scikit-learn's data: in PyTorch, in double precision, on one thread.

    python benchmarks/hypergradients.py                # all tables, four minutes
    python benchmarks/hypergradients.py exactness      # one of them

exactness   error of each method on ridge regression, where the derivative has a closed form, and its cost in trainings
penalties   a penalty for each feature against one for all: loss on the validation rows, and on rows that nobody saw
cleaning    which labels are wrong: a weight for each row, half of the labels replaced
network     learning rate, momentum and penalty of a network: the best loss after 5 to 30 trainings
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402, N812
from sklearn import datasets  # noqa: E402

import welltuned as wt  # noqa: E402
from welltuned.hypergrad import SGD, Adam, Bilevel, Forward, Implicit, Neumann, Reverse, minimize  # noqa: E402

SEEDS = range(5)
Data = tuple[torch.Tensor, torch.Tensor]


def exactness() -> None:
    """Print each method's error on ridge regression, and its cost on a softmax regression of 85,000 weights."""
    methods = (Implicit(), Neumann(20), Neumann(100), Reverse(), Reverse(last=20), Forward())
    lengths = (20, 100, 500)
    print("| method | " + " | ".join(f"{steps} steps" for steps in lengths) + " | time of a training |")
    print("|---|" + "---|" * (len(lengths) + 1))
    times = [_cost(method) for method in methods]
    for method, cost in zip(methods, times, strict=True):
        errors = " | ".join(f"{_error(method, steps):.0e}" for steps in lengths)
        print(f"| `{method}` | {errors} | {cost:.1f} |")


def _error(method: Any, steps: int) -> float:
    chance = np.random.default_rng(0)
    X, X_valid = torch.tensor(chance.normal(size=(200, 30))), torch.tensor(chance.normal(size=(100, 30)))
    y, y_valid = (A @ torch.arange(30.0) / 30 + torch.tensor(chance.normal(size=len(A))) for A in (X, X_valid))
    l2 = torch.tensor(0.1)
    H = 2 * X.T @ X / 200 + 2 * l2 * torch.eye(30)
    w = torch.linalg.solve(H, 2 * X.T @ y / 200)
    by_w = 2 * X_valid.T @ (X_valid @ w - y_valid) / 100
    truth = float(-by_w @ torch.linalg.solve(H, 2 * w))
    problem = Bilevel(
        inner=lambda w, h, d: ((d[0] @ w - d[1]) ** 2).mean() + h["l2"] * (w**2).sum(),
        outer=lambda w, h, d: ((d[0] @ w - d[1]) ** 2).mean(),
        weights=torch.zeros(30),
        train=(X, y),
        valid=(X_valid, y_valid),
        optimizer=SGD(lr=0.1),
        steps=steps,
    )
    return abs(float(problem.hypergradient({"l2": l2}, method=method).gradient["l2"]) / truth - 1)


def _cost(method: Any) -> float:
    """Return the CPU time of a hypergradient by the time in which PyTorch trains: 100 steps with 256 rows each."""
    chance = torch.Generator().manual_seed(0)
    W = {"w": torch.zeros(8_500, 10), "b": torch.zeros(10)}
    X, y = torch.randn(256, 8_500, generator=chance), torch.randint(0, 10, (256,), generator=chance)

    def loss(w: Any, _: Any, d: Data) -> torch.Tensor:
        return F.cross_entropy(d[0] @ w["w"] + w["b"], d[1])

    def inner(w: Any, h: Any, d: Data) -> torch.Tensor:
        return loss(w, h, d) + h["l2"] * (w["w"] ** 2).sum()

    problem = Bilevel(inner, loss, W, train=(X, y), valid=(X, y), optimizer=SGD(lr=0.01), steps=100)
    h = {"l2": torch.tensor(0.05)}

    def train() -> None:
        w = {k: v.clone().requires_grad_() for k, v in W.items()}
        rule = torch.optim.SGD(w.values(), lr=0.01)
        for _ in range(problem.steps):
            rule.zero_grad()
            inner(w, h, problem.train).backward()
            rule.step()

    return _seconds(lambda: problem.hypergradient(h, method=method)) / _seconds(train)


def _seconds(work: Callable[[], Any]) -> float:
    times = []
    for _ in range(3):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def penalties() -> None:
    """Print the losses of logistic regressions with one penalty, and with one for each feature."""
    rows: list[tuple[str, Callable[[Bilevel, Bilevel, torch.Tensor], Any]]] = [
        ("one penalty for all", lambda _, one, __: minimize(one, {"l2": torch.tensor(-5.0)}, n_steps=20, guard=0)),
        ("one for each feature, `guard=0`", lambda each, _, h: minimize(each, {"l2": h}, n_steps=20, guard=0)),
        ("the same, `guard=0.25`", lambda each, _, h: minimize(each, {"l2": h}, n_steps=20)),
        (
            "the same, `guard=0, shrink=1`",
            lambda each, _, h: minimize(each, {"l2": h}, n_steps=20, guard=0, shrink=1.0),
        ),
        ("the same, `shrink=1`", lambda each, _, h: minimize(each, {"l2": h}, n_steps=20, shrink=1.0)),
    ]
    print("| | data | validation loss | loss on unseen rows | correct there | CPU seconds |\n|---|---|---|---|---|---|")
    for name in ("digits", "breast_cancer", "made"):
        for label, tune in rows:
            found = np.array([_penalised(name, seed, tune) for seed in SEEDS])
            loss, unseen, correct, seconds = found.mean(axis=0)
            sem = found[:, 1].std(ddof=1) / np.sqrt(len(found))
            print(f"| {label} | {name} | {loss:.3f} | {unseen:.3f} ± {sem:.3f} | {correct:.3f} | {seconds:.1f} |")


def _penalised(name: str, seed: int, tune: Callable[..., Any]) -> tuple[float, float, float, float]:
    X, y, n = _split(name, seed)
    train, valid, unseen = ((X[a:b], y[a:b]) for a, b in ((0, n), (n, 2 * n), (2 * n, len(X))))
    weights = {"W": torch.zeros(X.shape[1], int(y.max()) + 1), "b": torch.zeros(int(y.max()) + 1)}

    def loss(w: Any, _: Any, d: Data) -> torch.Tensor:
        return F.cross_entropy(d[0] @ w["W"] + w["b"], d[1])

    def each(w: Any, h: Any, d: Data) -> torch.Tensor:
        return loss(w, h, d) + 0.5 * (h["l2"].exp() * (w["W"] ** 2).sum(1)).sum()

    def one(w: Any, h: Any, d: Data) -> torch.Tensor:
        return loss(w, h, d) + 0.5 * h["l2"].exp() * (w["W"] ** 2).sum()

    pair = [Bilevel(inner, loss, weights, train=train, valid=valid) for inner in (each, one)]
    start = time.process_time()
    found = tune(*pair, torch.full((X.shape[1],), -5.0))
    seconds = time.process_time() - start
    w = found.weights
    correct = (unseen[0] @ w["W"] + w["b"]).argmax(1) == unseen[1]
    return float(loss(w, None, valid)), float(loss(w, None, unseen)), float(correct.double().mean()), seconds


def _split(name: str, seed: int) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Return standardised rows in random order, labels, and how many to train and to validate with."""
    if name == "made":
        X, y = datasets.make_classification(
            1500, 60, n_informative=8, n_redundant=5, n_classes=3, class_sep=0.7, random_state=seed
        )
    else:
        X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(X))
    X = (X - X.mean(axis=0)) / (X.std(axis=0) + 1e-9)
    return torch.tensor(X[order]), torch.tensor(y[order]), {"digits": 400, "breast_cancer": 150, "made": 300}[name]


def cleaning() -> None:
    """Print how well wrong labels are found, and what training without them is worth."""
    found = np.array([_cleaned(seed) for seed in SEEDS]).mean(axis=0)
    print("| | correct on unseen rows |\n|---|---|")
    labels = ("all rows, as they are", "validation rows alone", "weighted rows", "true labels (nobody knows them)")
    for label, value in zip(labels, found, strict=False):
        print(f"| {label} | {value:.3f} |")
    print(f"\nF1 of the rows with less than half of the weight: {found[4]:.3f}; {found[5]:.1f} CPU seconds")


def _cleaned(seed: int) -> list[float]:
    X, y, n = _split("digits", seed)
    chance = np.random.default_rng(seed)
    wrong = torch.tensor(chance.random(n) < 0.5)
    mixed = torch.where(wrong, torch.tensor(chance.integers(0, 10, n)), y[:n])
    wrong = mixed != y[:n]

    def loss(w: Any, d: Data) -> torch.Tensor:
        return F.cross_entropy(d[0] @ w["W"] + w["b"], d[1])

    def inner(w: Any, h: Any, d: Data) -> torch.Tensor:
        each = F.cross_entropy(d[0] @ w["W"] + w["b"], d[1], reduction="none")
        return (torch.sigmoid(h["row"]) * each).mean() + 1e-2 * (w["W"] ** 2).sum()

    weights = {"W": torch.zeros(64, 10), "b": torch.zeros(10)}
    valid, unseen = (X[n : 2 * n], y[n : 2 * n]), (X[2 * n :], y[2 * n :])

    def trained(train: Data, h: torch.Tensor | None = None) -> float:
        problem = Bilevel(inner, lambda w, _, d: loss(w, d), weights, train=train, valid=valid)
        start = torch.full((len(train[0]),), 20.0) if h is None else h
        w = problem.hypergradient({"row": start}).weights
        return float(((unseen[0] @ w["W"] + w["b"]).argmax(1) == unseen[1]).double().mean())

    problem = Bilevel(inner, lambda w, _, d: loss(w, d), weights, train=(X[:n], mixed), valid=valid, tolerance=1e-4)
    start = time.process_time()
    row = minimize(problem, {"row": torch.zeros(n)}, n_steps=40, optimizer=Adam(0.5)).hyperparameters["row"]
    seconds = time.process_time() - start
    both = (torch.cat([X[:n], valid[0]]), torch.cat([mixed, valid[1]]))
    hit = float(((row < 0) & wrong).sum())
    f1 = 2 * hit / float((row < 0).sum() + wrong.sum())
    return [trained(both), trained(valid), trained((X[:n], mixed), row), trained((X[:n], y[:n])), f1, seconds]


def network() -> None:
    """Print the best loss of a network's settings after some trainings, with derivatives and without."""
    searches = (("gradient", True), ("auto", True), ("auto", False), ("random", False))
    space = {"lr": wt.Float(1e-4, 1, log=True), "momentum": wt.Float(0, 0.99), "l2": wt.Float(1e-6, 0.1, log=True)}
    marks = (5, 10, 15, 20, 30)
    print("| search | " + " | ".join(f"{m} trainings" for m in marks) + " |\n|---|" + "---|" * len(marks))
    for sampler, differentiated in searches:
        curves = []
        for seed in SEEDS:
            problem = _network(seed)
            study = wt.Study(space, sampler=sampler, seed=seed)
            study.optimize(problem if differentiated else lambda trial: problem(trial)[0], marks[-1], progress=False)  # noqa: B023
            curves.append(np.fmin.accumulate([np.nan if t.value is None else t.value for t in study.trials]))
        best = np.nanmedian(curves, axis=0)
        label = f"`{sampler}`, {'with' if differentiated else 'without'} derivatives"
        print(f"| {label} | " + " | ".join(f"{best[m - 1]:.3f}" for m in marks) + " |")


def _network(seed: int) -> Bilevel:
    X, y = datasets.load_digits(return_X_y=True)
    X, y = torch.tensor(X / 16), torch.tensor(y)
    order = torch.tensor(np.random.default_rng(seed).permutation(len(X)))
    train, valid = ((X[rows], y[rows]) for rows in (order[:600], order[600:1200]))
    chance = torch.Generator().manual_seed(seed)
    weights = {
        "W1": torch.randn(64, 32, generator=chance) / 8,
        "b1": torch.zeros(32),
        "W2": torch.randn(32, 10, generator=chance) / 6,
        "b2": torch.zeros(10),
    }

    def loss(w: Any, _: Any, d: Data) -> torch.Tensor:
        return F.cross_entropy(torch.tanh(d[0] @ w["W1"] + w["b1"]) @ w["W2"] + w["b2"], d[1])

    return Bilevel(
        inner=lambda w, h, d: loss(w, h, d) + h["l2"] * sum((w[k] ** 2).sum() for k in ("W1", "W2")),
        outer=loss,
        weights=weights,
        train=train,
        valid=valid,
        optimizer=lambda h, _: SGD(lr=h["lr"], momentum=h["momentum"]),
        steps=100,
        batch_size=64,
    )


def main() -> None:
    """Print the tables whose names are given, or all."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    tables = {table.__name__: table for table in (exactness, penalties, cleaning, network)}
    for name in sys.argv[1:] or tables:
        print(f"\n## {name}\n")
        tables[name]()


if __name__ == "__main__":
    main()
