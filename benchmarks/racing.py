"""What racing saves in scikit-learn searches, and what it loses: the same searches with and without it.

    python benchmarks/racing.py --seeds 0-19

Data that come with scikit-learn. A seed splits them: two fifths are held out and tell the true score of the chosen
candidate, the search sees the others. Losses are relative to the score that the search has without racing.
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse  # noqa: E402
import warnings  # noqa: E402
from collections import defaultdict  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
from sklearn import datasets  # noqa: E402
from sklearn.kernel_ridge import KernelRidge  # noqa: E402
from sklearn.linear_model import ElasticNet, LogisticRegression  # noqa: E402
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.svm import SVC  # noqa: E402
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor  # noqa: E402

import welltuned as wt  # noqa: E402
from regret import seeds  # noqa: E402
from welltuned.sklearn import BayesSearchCV, GradientSearchCV, RandomizedSearchCV  # noqa: E402

TREE = {"max_depth": wt.Int(1, 20), "min_samples_leaf": wt.Int(1, 50, log=True), "max_features": (0.1, 1.0)}
TASKS: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "digits, tree": ("digits", DecisionTreeClassifier(random_state=0), TREE),
    "cancer, SVC": (
        "breast_cancer",
        SVC(),
        {"C": wt.Float(1e-2, 1e3, log=True), "gamma": wt.Float(1e-5, 1.0, log=True)},
    ),
    "cancer, logistic": (
        "breast_cancer",
        LogisticRegression(max_iter=200),
        {"C": wt.Float(1e-4, 1e3, log=True), "class_weight": [None, "balanced"]},
    ),
    "wine, SVC": ("wine", SVC(), {"C": wt.Float(1e-2, 1e3, log=True), "gamma": wt.Float(1e-5, 1.0, log=True)}),
    "diabetes, elastic net": (
        "diabetes",
        ElasticNet(max_iter=500),
        {"alpha": wt.Float(1e-4, 10.0, log=True), "l1_ratio": (0.01, 1.0)},
    ),
    "diabetes, kernel ridge": (
        "diabetes",
        KernelRidge(kernel="rbf"),
        {"alpha": wt.Float(1e-4, 1e2, log=True), "gamma": wt.Float(1e-5, 10.0, log=True)},
    ),
    "diabetes, tree": ("diabetes", DecisionTreeRegressor(random_state=0), TREE),
}
SEARCHES = {"random": RandomizedSearchCV, "bayes": BayesSearchCV, "gradient": GradientSearchCV}
ROWS = 400  # of the larger data


def compare(search: Any, task: str, folds: int, seed: int, n_iter: int, race: wt.Race) -> tuple[float, ...]:
    """Return the mean score and the true score of the chosen candidate without and with racing, and the fits saved."""
    name, model, space = TASKS[task]
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    classes = name != "diabetes"
    if len(y) > ROWS:
        kept = np.random.default_rng(0).permutation(len(y))[:ROWS]
        X, y = X[kept], y[kept]
    X, X_true, y, y_true = train_test_split(X, y, test_size=0.4, random_state=seed, stratify=y if classes else None)
    cv = (StratifiedKFold if classes else KFold)(folds, shuffle=True, random_state=seed)
    estimator = make_pipeline(StandardScaler(), model)
    space = {f"{type(model).__name__.lower()}__{k}": v for k, v in space.items()}
    plain, raced = (
        search(estimator, space, n_iter=n_iter, cv=cv, random_state=seed, racing=racing).fit(X, y)
        for racing in (False, race)
    )
    saved = 1.0 - raced.cv_results_["n_folds"].mean() / folds
    return plain.best_score_, raced.best_score_, plain.score(X_true, y_true), raced.score(X_true, y_true), saved


def loss(plain: np.ndarray, raced: np.ndarray) -> tuple[float, float]:
    """Return the relative loss of the mean score over seeds, and its standard error, in percent."""
    scale = 100.0 / abs(plain.mean())
    return float((plain - raced).mean() * scale), float((plain - raced).std(ddof=1) / np.sqrt(len(plain)) * scale)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=seeds, default=seeds("0-19"), help="0-4 or 0,3,7")
    parser.add_argument("--searches", default="random,bayes")
    parser.add_argument("--tasks", help="names, split by ;")
    parser.add_argument("--folds", default="5,10")
    parser.add_argument("--candidates", type=int, default=30)
    parser.add_argument("--alpha", type=float, default=wt.Race.alpha)
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # too few iterations, or folds with a single class
    rows: dict[tuple[str, str], list[tuple[float, ...]]] = defaultdict(list)
    print("| search | folds | task | fits saved | loss of the mean score | loss of the true score |")
    print("|---|---:|---|---:|---:|---:|")
    for name in given.searches.split(","):
        for folds in given.folds.split(","):
            for task in given.tasks.split(";") if given.tasks else TASKS:
                race = wt.Race(alpha=given.alpha)
                found = np.array(
                    [compare(SEARCHES[name], task, int(folds), s, given.candidates, race) for s in given.seeds]
                )
                (mean, mean_error), (true, true_error) = loss(*found.T[:2]), loss(*found.T[2:4])
                rows[name, folds].append((found[:, 4].mean(), mean, true))
                print(
                    f"| {name} | {folds} | {task} | {found[:, 4].mean():.0%} | {mean:.3f} ± {mean_error:.3f} % | "
                    f"{true:.2f} ± {true_error:.2f} % |",
                    flush=True,
                )
    print("\n| search | folds | fits saved | loss of the mean score | loss of the true score |")
    print("|---|---:|---:|---:|---:|")
    for (name, folds), all_tasks in rows.items():
        saved, mean, true = np.mean(all_tasks, axis=0)
        print(f"| {name} | {folds} | {saved:.0%} | {mean:.3f} % | {true:.2f} % |")


if __name__ == "__main__":
    main()
