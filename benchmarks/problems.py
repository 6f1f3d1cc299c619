"""Problems for the race: test functions, conditional bowls, real scikit-learn models and YAHPO surrogates.

Every problem is minimised, has a name of its own, and gives the same value to the same configuration.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

Config = dict[str, Any]
When = tuple[str, frozenset[Any]]


class Missing(Exception):
    """Says which package or folder a suite lacks."""


@dataclass(frozen=True)
class Number:
    """A number between two bounds; ``when`` names the parent and the values of it that make this parameter active."""

    low: float
    high: float
    log: bool = False
    whole: bool = False
    when: When | None = None

    def value(self, u: float) -> float | int:
        if self.whole and self.log:
            # every whole number is as likely as its share of the log scale
            raw = np.exp(np.log(self.low - 0.5) + u * np.log((self.high + 0.5) / (self.low - 0.5)))
        elif self.whole:
            raw = self.low - 0.5 + u * (self.high - self.low + 1)
        elif self.log:
            raw = self.low * (self.high / self.low) ** u
        else:
            raw = self.low + u * (self.high - self.low)
        raw = min(max(float(raw), self.low), self.high)
        return round(raw) if self.whole else raw

    def unit(self, value: float) -> float:
        if self.log:
            return float(np.log(value / self.low) / np.log(self.high / self.low))
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Choice:
    """A choice among values without an order."""

    values: tuple[Any, ...]
    when: When | None = None


Parameter = Number | Choice
Space = Mapping[str, Parameter]


@dataclass(frozen=True)
class Problem:
    """A space and what is minimised over it; ``points`` is the size of the random sample that sets its scale."""

    name: str
    space: Space
    function: Callable[[Config], float]
    points: int = 2000

    def __call__(self, config: Config) -> float:
        return float(self.function(config))


def active(space: Space, config: Mapping[str, Any]) -> Config:
    """Return the parameters of ``config`` whose conditions hold. Parents come before their children in a space."""
    kept: Config = {}
    for name, parameter in space.items():
        if parameter.when is None or kept.get(parameter.when[0]) in parameter.when[1]:
            kept[name] = config[name]
    return kept


def draw(space: Space, rng: np.random.Generator) -> Config:
    """Draw a configuration uniformly on each parameter's own scale."""
    full = {
        name: p.values[rng.integers(len(p.values))] if isinstance(p, Choice) else p.value(rng.uniform())
        for name, p in space.items()
    }
    return active(space, full)


def own(config: Config, parent: str) -> Config:
    """Return what belongs to the choice of ``parent``, under names without it."""
    prefix = f"{config[parent]}_"
    return {name.removeprefix(prefix): v for name, v in config.items() if name != parent}


def forked(parent: str, spaces: Mapping[str, Space]) -> Space:
    """Return the choice of one of some spaces, whose parameters get names that begin with the choice; see :func:`own`.

    Those without a condition depend on the choice, the others on what they did.
    """
    found: dict[str, Parameter] = {parent: Choice(tuple(spaces))}
    for kind, space in spaces.items():
        for name, parameter in space.items():
            when = parameter.when
            given = (parent, frozenset({kind})) if when is None else (f"{kind}_{when[0]}", when[1])
            found[f"{kind}_{name}"] = replace(parameter, when=given)
    return found


def require(package: str, module: str, what: str) -> None:
    """Refuse with the command that helps when ``module`` is not installed."""
    if importlib.util.find_spec(module) is None:
        raise Missing(f"{what} needs the package {package}: pip install {package}")


# --- bbob: the noiseless functions of the COCO platform, https://coco-platform.org ---

BBOB = ((1, 5), (3, 5), (8, 5), (10, 5), (15, 5), (17, 5), (21, 5), (3, 3), (21, 3))


def bbob_problem(function: int, dimension: int) -> Problem:
    """Return the first instance of a function."""
    import cocoex

    where = f"dimensions: {dimension} function_indices: {function} instance_indices: 1"
    suite = cocoex.Suite("bbob", "", where)
    problem = suite[0]
    names = [f"x{i}" for i in range(dimension)]

    def value(config: Config, suite: Any = suite) -> float:  # the suite owns the problem's memory
        return problem([config[name] for name in names])

    return Problem(f"bbob:f{function}-d{dimension}", dict.fromkeys(names, Number(-5.0, 5.0)), value)


def bbob() -> dict[str, Callable[[], Problem]]:
    require("coco-experiment", "cocoex", "suite bbob")
    return {f"bbob:f{f}-d{d}": functools.partial(bbob_problem, f, d) for f, d in BBOB}


def bbob_all(dimension: int) -> dict[str, Callable[[], Problem]]:
    """Return all 24 functions in one dimension."""
    require("coco-experiment", "cocoex", "suite bbob")
    return {f"bbob:f{f}-d{dimension}": functools.partial(bbob_problem, f, dimension) for f in range(1, 25)}


# --- branches: a choice of three bowls, each with parameters of its own ---

# (offset, steepness, kinds of its parameters) of each branch: r real, l logarithmic, i whole number, c choice
BRANCHES: dict[str, dict[str, tuple[float, float, str]]] = {
    "plain": {"a": (0.0, 1.0, "rl"), "b": (0.3, 1.0, "ric"), "c": (0.6, 1.0, "rlic")},
    # the best branch is the steepest one, so that its average says the opposite of its minimum
    "steep": {"a": (0.2, 0.3, "rr"), "b": (0.0, 4.0, "rli"), "c": (0.4, 0.6, "rlci")},
    # all three minima lie close together, and the largest branch has the best
    "close": {"a": (0.05, 1.0, "li"), "b": (0.08, 2.0, "rc"), "c": (0.0, 1.5, "rrlc")},
}
KINDS: dict[str, Callable[[When], Parameter]] = {
    "r": lambda when: Number(-2.0, 3.0, when=when),
    "l": lambda when: Number(1e-5, 1.0, log=True, when=when),
    "i": lambda when: Number(1, 40, whole=True, when=when),
    "c": lambda when: Choice(("p", "q", "r", "s"), when=when),
}


def _bowl(parameter: Parameter, rng: np.random.Generator) -> Callable[[Any], float]:
    """Return a cost between 0 and about 1 whose minimum, 0, is away from the middle and the edges."""
    if isinstance(parameter, Choice):
        costs = dict(zip(parameter.values, rng.permutation([0.0, 0.1, 0.25, 0.5]), strict=True))
        return lambda value: float(costs[value])
    low, high = ((0.1, 0.4), (0.6, 0.9))[rng.integers(2)]
    target = parameter.unit(parameter.value(rng.uniform(low, high)))
    return lambda value: 2 * (parameter.unit(value) - target) ** 2


def _branches_problem(name: str) -> Problem:
    rng = np.random.default_rng(list(name.encode()))
    table = BRANCHES[name]
    space: dict[str, Parameter] = {"kind": Choice(tuple(table))}
    bowls: dict[str, dict[str, Callable[[Any], float]]] = {}
    for kind, (_, _, parameters) in table.items():
        own = {f"{kind}{i}": KINDS[p](("kind", frozenset({kind}))) for i, p in enumerate(parameters)}
        space |= own
        bowls[kind] = {n: _bowl(p, rng) for n, p in own.items()}

    def value(config: Config) -> float:
        offset, steepness, _ = table[config["kind"]]
        return offset + steepness * sum(cost(config[n]) for n, cost in bowls[config["kind"]].items())

    return Problem(f"branches:{name}", space, value)


def branches() -> dict[str, Callable[[], Problem]]:
    return {f"branches:{name}": functools.partial(_branches_problem, name) for name in BRANCHES}


# --- sklearn: cross-validated losses of real models on the data sets that come with scikit-learn ---

SVM_KERNELS = ("linear", "rbf", "poly", "sigmoid")


SVM_SPACE: Space = {
    "C": Number(1e-3, 1e3, log=True),
    "kernel": Choice(SVM_KERNELS),
    "gamma": Number(1e-6, 1e1, log=True, when=("kernel", frozenset(SVM_KERNELS[1:]))),
}
BOOSTING_SPACE: Space = {
    "learning_rate": Number(1e-3, 1.0, log=True),
    "n_estimators": Number(5, 80, log=True, whole=True),
    "max_depth": Number(1, 6, whole=True),
    "subsample": Number(0.3, 1.0),
    "min_samples_leaf": Number(1, 30, log=True, whole=True),
}


def _forest_space(*criteria: str) -> Space:
    return {
        "n_estimators": Number(5, 60, log=True, whole=True),
        "max_features": Number(0.05, 1.0),
        "max_depth": Number(1, 20, whole=True),
        "min_samples_leaf": Number(1, 50, log=True, whole=True),
        "criterion": Choice(criteria),
    }


MLP_SPACE: Space = {
    "hidden_layer_sizes": Number(4, 128, log=True, whole=True),
    "learning_rate_init": Number(1e-4, 1e-1, log=True),
    "alpha": Number(1e-6, 1.0, log=True),
    "batch_size": Choice((16, 32, 64, 128)),
    "activation": Choice(("relu", "tanh", "logistic")),
    "max_iter": Number(3, 25, whole=True),
}


CHOICE_SPACE = forked(
    "model", {"svm": SVM_SPACE, "forest": _forest_space("gini", "entropy"), "boosting": BOOSTING_SPACE}
)


def _model(kind: str, settings: Config) -> Any:
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
    from sklearn.neural_network import MLPClassifier
    from sklearn.svm import SVC

    if kind == "svm":
        return SVC(**settings, max_iter=20_000)  # a linear kernel with a large C would not end in reasonable time
    models = {
        "boosting": GradientBoostingClassifier,
        "forest": RandomForestClassifier,
        "regression": RandomForestRegressor,
        "mlp": MLPClassifier,
    }
    return models[kind](**settings, random_state=0)


def calibrated(model: Any) -> Any:
    """Return a model with probabilities: a support vector machine has none of its own."""
    from sklearn.calibration import CalibratedClassifierCV

    return CalibratedClassifierCV(model, cv=3, ensemble=False)


def _choice_model(config: Config) -> Any:
    kind = config["model"]
    model = _model(kind, own(config, "model"))
    return calibrated(model) if kind == "svm" else model  # the three are compared by log loss


def _loss(model: Any, X: np.ndarray, y: np.ndarray, scoring: str) -> float:
    from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folds = KFold if scoring == "neg_root_mean_squared_error" else StratifiedKFold
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # too few iterations are part of the problem
        scores = cross_val_score(
            make_pipeline(StandardScaler(), model), X, y, cv=folds(3, shuffle=True, random_state=0), scoring=scoring
        )
    mean = float(scores.mean())
    return 1 - mean if scoring == "accuracy" else -mean


# name -> (data set, scoring, space, model of a configuration)
TASKS: dict[str, tuple[str, str, Space, Callable[[Config], Any]]] = {
    "svm-digits": ("digits", "accuracy", SVM_SPACE, functools.partial(_model, "svm")),
    "boosting-wine": ("wine", "neg_log_loss", BOOSTING_SPACE, functools.partial(_model, "boosting")),
    "forest-diabetes": (
        "diabetes",
        "neg_root_mean_squared_error",
        _forest_space("squared_error", "poisson"),
        functools.partial(_model, "regression"),
    ),
    "mlp-digits": ("digits", "neg_log_loss", MLP_SPACE, functools.partial(_model, "mlp")),
    "choice-cancer": ("breast_cancer", "neg_log_loss", CHOICE_SPACE, _choice_model),
    "choice-wine": ("wine", "neg_log_loss", CHOICE_SPACE, _choice_model),
    "choice-iris": ("iris", "neg_log_loss", CHOICE_SPACE, _choice_model),
}
ROWS = 500


def _sklearn_problem(name: str) -> Problem:
    from sklearn import datasets

    data, scoring, space, model = TASKS[name]
    X, y = getattr(datasets, f"load_{data}")(return_X_y=True)
    kept = np.random.default_rng(0).permutation(len(y))[:ROWS]
    X, y = X[kept], y[kept]
    return Problem(f"sklearn:{name}", space, lambda config: _loss(model(config), X, y, scoring), points=200)


def sklearn() -> dict[str, Callable[[], Problem]]:
    require("scikit-learn", "sklearn", "suite sklearn")
    return {f"sklearn:{name}": functools.partial(_sklearn_problem, name) for name in TASKS}


# --- surrogates: neural networks fitted to many trainings, https://github.com/slds-lmu/yahpo_data ---


@dataclass(frozen=True)
class Scenario:
    """What the files of a scenario do not say: the order of the model's inputs, and which output is the accuracy."""

    numbers: tuple[str, ...]
    choices: tuple[str, ...]
    instance: str
    fixed: Mapping[str, float]
    output: int
    full: float
    instances: tuple[str, ...]


SCENARIOS = {
    "lcbench": Scenario(
        numbers=(
            *("epoch", "batch_size", "learning_rate", "momentum"),
            *("weight_decay", "num_layers", "max_units", "max_dropout"),
        ),
        choices=("OpenML_task_id",),
        instance="OpenML_task_id",
        fixed={"epoch": 52},
        output=1,
        full=100.0,
        instances=("167168", "126026", "168330", "189873"),
    ),
    "rbv2_rpart": Scenario(
        numbers=("cp", "maxdepth", "minbucket", "minsplit", "trainsize", "repl"),
        choices=("task_id", "num.impute.selected.cpo"),
        instance="task_id",
        fixed={"trainsize": 1.0, "repl": 10},
        output=0,
        full=1.0,
        instances=("14", "40499", "1220", "458"),
    ),
}


def _yahpo_space(described: Mapping[str, Any], skipped: set[str]) -> dict[str, Parameter]:
    whens: dict[str, When] = {
        c["child"]: (c["parent"], frozenset(c["values"] if "values" in c else [c["value"]]))
        for c in described["conditions"]
    }
    space: dict[str, Parameter] = {}
    # parents first: a parameter without a condition can be drawn before all others
    for h in sorted(described["hyperparameters"], key=lambda h: h["name"] in whens):
        name, when = h["name"], whens.get(h["name"])
        if name in skipped:
            continue
        if h["type"] in ("uniform_float", "uniform_int"):
            space[name] = Number(h["lower"], h["upper"], bool(h["log"]), h["type"] == "uniform_int", when)
        else:
            space[name] = Choice(tuple(h["choices"]), when)
    return space


@functools.cache
def _session(model: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(model), sess_options=options, providers=["CPUExecutionProvider"])


def _yahpo_problem(folder: Path, name: str, instance: str) -> Problem:
    scenario = SCENARIOS[name]
    described = json.loads((folder / name / "config_space.json").read_text())
    codes = json.loads((folder / name / "encoding.json").read_text())
    session = _session(folder / name / "model.onnx")

    def value(config: Config) -> float:
        known = {**scenario.fixed, **config, scenario.instance: instance}  # an epoch may be asked for
        numbers = np.array([[known.get(n, 0) for n in scenario.numbers]], np.float32)
        choices = np.array([[codes[n].get(str(known.get(n, "#na#")), 0) for n in scenario.choices]], np.int32)
        (out,) = session.run(["output"], {"x_cat": choices, "x_cont": numbers})
        return 1 - float(out[0, scenario.output]) / scenario.full

    space = _yahpo_space(described, {scenario.instance, *scenario.fixed})
    return Problem(f"surrogates:{name}-{instance}", space, value)


def _scenarios(folder: Path | None, suite: str) -> tuple[Path, list[str]]:
    """Return the folder and which scenarios it has."""
    require("onnxruntime", "onnxruntime", f"suite {suite}")
    if folder is None:
        raise Missing(f"suite {suite} needs --yahpo FOLDER, a copy of YAHPO's data")
    found = [name for name in SCENARIOS if (folder / name / "model.onnx").is_file()]
    if not found:
        raise Missing(f"{folder} has none of the scenarios {', '.join(SCENARIOS)}")
    return folder, found


def surrogates(folder: Path | None) -> dict[str, Callable[[], Problem]]:
    folder, found = _scenarios(folder, "surrogates")
    return {
        f"surrogates:{name}-{i}": functools.partial(_yahpo_problem, folder, name, i)
        for name in found
        for i in SCENARIOS[name].instances
    }


# --- forks: a choice among surrogates, each with its own parameters ---

FORKS = 8
FORK_SAMPLE = 1000


def _fork_problem(folder: Path, number: int) -> Problem:
    """Draw two to six surrogates, and for each a steepness and how far its best value is above 0."""
    rng = np.random.default_rng(number)
    known = [(name, instance) for name in SCENARIOS for instance in SCENARIOS[name].instances]
    kinds = "abcdef"[: rng.integers(2, 7)]
    offsets = rng.exponential(0.15, len(kinds))
    offsets -= offsets.min()
    lines: dict[str, tuple[Problem, float, float]] = {}
    for kind, offset in zip(kinds, offsets, strict=True):
        problem = _yahpo_problem(folder, *known[rng.integers(len(known))])
        sample = [problem(draw(problem.space, rng)) for _ in range(FORK_SAMPLE)]
        best, median = min(sample), np.median(sample)
        slope = np.exp(rng.uniform(np.log(0.4), np.log(2.5))) / (median - best)
        lines[kind] = (problem, float(offset - slope * best), float(slope))

    def value(config: Config) -> float:
        problem, intercept, slope = lines[config["kind"]]
        return intercept + slope * problem(own(config, "kind"))

    return Problem(f"forks:{number}", forked("kind", {kind: line[0].space for kind, line in lines.items()}), value)


def forks(folder: Path | None) -> dict[str, Callable[[], Problem]]:
    folder, found = _scenarios(folder, "forks")
    if len(found) < len(SCENARIOS):
        raise Missing(f"suite forks needs all of the scenarios {', '.join(SCENARIOS)}; {folder} has {', '.join(found)}")
    return {f"forks:{number}": functools.partial(_fork_problem, folder, number) for number in range(FORKS)}
