"""``welltuned demo``: a neural network on handwritten digits, tuned by all four families of search at the same
budget.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import click
import numpy as np

from welltuned.cli.common import console, echo_json, number, trial_json
from welltuned.errors import require
from welltuned.evaluation import Result
from welltuned.executors import available_cores
from welltuned.samplers import Bayes, Gradient, Grid, Random, Sampler
from welltuned.space import Categorical, Float, Int, Space
from welltuned.study import Study
from welltuned.study.progress import duration

SEARCHES: dict[str, Sampler] = {
    "grid": Grid(resolution=3),
    "random": Random(),
    "bayes": Bayes(),
    "gradient": Gradient(step=0.05),
}


def demo_space() -> Space:
    """Return the classical knobs of a neural network; units exist for as many layers as there are."""
    return Space(
        {
            "learning_rate": Float(1e-4, 1e-1, log=True),
            "batch_size": [16, 32, 64, 128],
            "epochs": Int(5, 30),
            "l2": Float(1e-6, 1e-1, log=True),
            "activation": Categorical(["relu", "tanh", "logistic"]),
            "n_layers": Int(1, 3),
            "units_1": Int(8, 128, log=True),
            "units_2": Int(8, 128, log=True, when={"n_layers": ">= 2"}),
            "units_3": Int(8, 128, log=True, when={"n_layers": ">= 3"}),
        }
    )


@functools.lru_cache(maxsize=1)
def _data() -> tuple[Any, ...]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    X, y = load_digits(return_X_y=True)
    return tuple(train_test_split(X / 16.0, y, train_size=1000, random_state=0, stratify=y))


def train(trial: Any) -> Result:
    """Return the accuracy in 3-fold cross-validation, which steers the search, and on held-out digits, which
    does not.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import cross_val_score
    from sklearn.neural_network import MLPClassifier

    X_train, X_test, y_train, y_test = _data()
    layers = tuple(trial[f"units_{i}"] for i in range(1, trial["n_layers"] + 1))
    network = MLPClassifier(
        hidden_layer_sizes=layers,
        activation=trial["activation"],
        alpha=trial["l2"],
        batch_size=trial["batch_size"],
        learning_rate_init=trial["learning_rate"],
        max_iter=trial["epochs"],
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        folds = cross_val_score(network, X_train, y_train, cv=3)
        test = network.fit(X_train, y_train).score(X_test, y_test)
    return Result({"accuracy": folds.mean(), "test_accuracy": test}, sem=folds.std(ddof=1) / np.sqrt(len(folds)))


@click.command()
@click.option(
    "-n", "--n-trials", type=click.IntRange(min=2), default=32, show_default=True, help="Trials for each search."
)
@click.option("--folder", type=click.Path(file_okay=False, exists=True), default=".", help="Where the files go.")
@click.option("--workers", type=int, default=-1, help="Trials side by side; one per core unless given.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def demo(n_trials: int, folder: str, workers: int, seed: int, as_json: bool) -> None:
    """Tune a neural network on digits with grid, random, Bayesian and gradient search.

    Takes one to two minutes on two cores. Stores every trial in welltuned-demo.db and writes welltuned-demo.html.
    Stop it with Ctrl-C and start it again: it goes on where it was.
    """
    for module, what in (("sklearn", "scikit-learn"), ("plotly", "plotly")):
        try:
            __import__(module)
        except ImportError as error:
            raise require(what, "demo", "the demo") from error
    from welltuned.report import write_report

    storage, page = Path(folder) / "welltuned-demo.db", Path(folder) / "welltuned-demo.html"
    space = demo_space()
    if not as_json:
        size = Grid(resolution=3).size(space)
        click.echo(
            f"Tuning a neural network on 1,000 handwritten digits by 3-fold cross-validation: {len(space)} "
            f"hyperparameters, {len(SEARCHES)} searches, {n_trials} trials each, {available_cores()} cores.\n"
            f"A grid of three values per number would take {size:,} trials; the grid search sees {n_trials} of them."
        )
    studies = []
    for name, sampler in SEARCHES.items():
        study = Study(
            space, direction={"accuracy": "maximize"}, sampler=sampler, storage=storage, name=f"demo-{name}", seed=seed
        )
        study.optimize(train, n_trials=n_trials, workers=workers)
        studies.append(study)
    write_report(studies, page)
    if as_json:
        echo_json({s.name: {"best": trial_json(s.best), "trials": len(s.trials)} for s in studies})
        return
    _print_table(studies)
    winner = max(studies, key=lambda s: s.best_value)
    click.echo(
        "± is the standard error of the cross-validation: smaller differences mean little. The best of many validation "
        f"scores\nflatters; the test score, on {len(_data()[1])} other digits, was never shown to a search."
    )
    click.echo(f"\nEvery trial is in {storage}, the report in {page}.\nNext: welltuned show {storage}:{winner.name}")


def _print_table(studies: list[Study]) -> None:
    from rich.table import Table

    table = Table(
        "search", "validation", "test", "trials", "time", "best setting", box=None, pad_edge=False, header_style="bold"
    )
    top = max(s.best_value for s in studies)
    for study in studies:
        best = study.best
        setting = " ".join(f"{k}={number(v) if isinstance(v, float) else v}" for k, v in (best.params or {}).items())
        style = "bold" if study.best_value == top else None
        table.add_row(
            study.name.removeprefix("demo-"),
            f"{best.value:.4f} ± {best.sems['accuracy']:.4f}",
            f"{best.metrics['test_accuracy']:.4f}",
            str(len(study.trials)),
            duration(sum(t.seconds or 0.0 for t in study.trials)),
            setting,
            style=style,
        )
    click.echo()
    console().print(table)
    click.echo()
