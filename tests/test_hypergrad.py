"""Hypergradients against closed forms, finite differences and each other, in PyTorch and in JAX."""

import contextlib
import weakref
from dataclasses import dataclass
from typing import NamedTuple

import cloudpickle
import numpy as np
import pytest

import welltuned as wt
from welltuned import hypergrad
from welltuned.hypergrad import SGD, Adam, Bilevel, Forward, Implicit, Neumann, Reverse, RMSprop, linear, trees

torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_disable_most_optimizations", True)  # of what is compiled for each test, and runs once

LIBRARIES = {"torch": lambda x: torch.as_tensor(np.asarray(x, dtype=float)), "jax": jax.numpy.asarray}
CHANCE = np.random.default_rng(0)
X, X_VALID = CHANCE.normal(size=(40, 6)), CHANCE.normal(size=(30, 6))
Y, Y_VALID = (A @ np.arange(6) + CHANCE.normal(size=len(A)) for A in (X, X_VALID))


@pytest.fixture(params=LIBRARIES)
def array(request):
    return LIBRARIES[request.param]


def squares(w, data):
    return ((data[0] @ w["a"] - data[1]) ** 2).mean()


def ridge(array, **settings):
    return Bilevel(
        **{
            "inner": lambda w, h, data: squares(w, data) + h["l2"] * (w["a"] ** 2).sum(),
            "outer": lambda w, h, data: squares(w, data),
            "weights": {"a": array(np.zeros(6))},
            "train": (array(X), array(Y)),
            "valid": (array(X_VALID), array(Y_VALID)),
            "tolerance": 1e-9,
            **settings,
        },
    )


def ridge_exactly(l2):
    H = 2 * X.T @ X / len(X) + 2 * l2 * np.eye(6)
    w = np.linalg.solve(H, 2 * X.T @ Y / len(X))
    rest = X_VALID @ w - Y_VALID
    return (rest**2).mean(), -(2 * X_VALID.T @ rest / len(rest)) @ np.linalg.solve(H, 2 * w)


def numbers(tree):
    return np.concatenate([np.asarray(leaf, dtype=float).ravel() for leaf in trees.leaves(tree)])


# -- the methods --


@pytest.mark.parametrize(
    ("method", "error"),
    [
        (Implicit(tolerance=1e-12), 1e-8),
        (Neumann(iterations=200), 1e-8),
        ("reverse", 1e-8),
        ("forward", 1e-8),
        (Reverse(last=60), 1e-6),
        (Neumann(iterations=20), 0.05),
    ],
)
def test_ridge_has_a_closed_form(array, method, error):
    value, slope = ridge_exactly(0.3)
    problem = ridge(array, optimizer=SGD(lr=0.1, momentum=0.5), steps=300)
    found = problem.hypergradient({"l2": array(0.3)}, method=method)
    assert found.value == pytest.approx(value, rel=1e-9)
    assert float(found.gradient["l2"]) == pytest.approx(slope, rel=error)


def test_without_an_optimizer_the_weights_are_the_minimum(array):
    value, slope = ridge_exactly(0.3)
    found = ridge(array).hypergradient({"l2": array(0.3)})
    assert found.value == pytest.approx(value, rel=1e-8)
    assert float(found.gradient["l2"]) == pytest.approx(slope, rel=1e-6)
    assert found.stationarity < 1e-9
    assert found.residual < 1e-6


def test_an_unfinished_training_says_so(array):
    problem = ridge(array, optimizer=SGD(lr=0.1), steps=3, method="implicit")
    assert problem.hypergradient({"l2": array(0.3)}).stationarity > 0.1


def network(array, rule, **settings):
    """Return a network with dropped-in hyperparameters of every kind, and where they start."""
    W, b = CHANCE.normal(size=(6, 5)) * 0.3, np.zeros(5)
    h = {"rate": array(-3.0), "inside": array([0.8, 0.01]), "l2": array(np.linspace(-4, -2, 6)), "scale": array(0.9)}

    def loss(w, data):
        return ((tanh(data[0] @ w["W"] + w["b"]) @ w["out"] - data[1] / 5) ** 2).mean()

    def inner(w, h, data):
        return loss(w, data) + (exp(h["l2"])[:, None] * w["W"] ** 2).sum()

    tanh, exp = (torch.tanh, torch.exp) if array is LIBRARIES["torch"] else (jax.numpy.tanh, jax.numpy.exp)
    return h, Bilevel(
        inner=inner,
        outer=lambda w, h, data: loss(w, data) + 0.01 * h["scale"] ** 2,
        **{
            "weights": lambda h: {"W": array(W) * h["scale"], "b": array(b), "out": array(np.ones(5) / 3)},
            "train": (array(X), array(Y)),
            "valid": (array(X_VALID), array(Y_VALID)),
            "optimizer": lambda h, t: rule(exp(h["rate"]), h["inside"]),
            "steps": 7,
            "batch_size": 16,
            **settings,
        },
    )


RULES = {
    "sgd": lambda lr, x: SGD(lr=lr, momentum=x[0], weight_decay=x[1]),
    "nesterov": lambda lr, x: SGD(lr=lr, momentum=x[0], weight_decay=x[1], nesterov=True),
    "adam": lambda lr, x: Adam(lr=lr, beta1=x[0], weight_decay=x[1]),
    "rmsprop": lambda lr, x: RMSprop(lr=lr, alpha=x[0], weight_decay=x[1]),
}


# in JAX, most of the time goes into compiling: a step of Nesterov's does all that one of plain descent does
@pytest.mark.parametrize(
    ("array", "rule"),
    [(library, rule) for library in LIBRARIES for rule in RULES if (library, rule) != ("jax", "sgd")],
    indirect=["array"],
)
def test_from_behind_and_from_the_front_are_the_differences(array, rule):
    h, problem = network(array, RULES[rule])
    reverse = problem.hypergradient(h, method="reverse")
    forward = problem.hypergradient(h, method="forward")
    assert numbers(reverse.gradient) == pytest.approx(numbers(forward.gradient), rel=1e-9, abs=1e-12)
    assert reverse.value == pytest.approx(forward.value, rel=1e-12)
    assert list(reverse.gradient) == list(h)
    way = {k: np.random.default_rng(1).normal(size=np.shape(v)) for k, v in h.items()}
    ends = [
        problem.hypergradient({k: array(np.asarray(v) + e * way[k]) for k, v in h.items()}, method="reverse").value
        for e in (-1e-5, 1e-5)
    ]
    along = sum(float((np.asarray(reverse.gradient[k]) * way[k]).sum()) for k in h)
    assert along == pytest.approx((ends[1] - ends[0]) / 2e-5, rel=1e-6)


@pytest.mark.parametrize("steps", [1, 9, 10])
def test_truncation_beyond_the_start_is_none(array, steps):
    h, problem = network(
        array, RULES["sgd"], steps=steps, weights={"W": array(X[:6, :5]), "b": array(X[0, :5]), "out": array(X[1, :5])}
    )
    whole, cut, short = (problem.hypergradient(h, method=Reverse(last=k)) for k in (None, steps + 3, max(steps - 1, 1)))
    assert numbers(cut.gradient) == pytest.approx(numbers(whole.gradient), rel=1e-12)
    assert (steps == 1) == bool(np.allclose(numbers(short.gradient), numbers(whole.gradient)))


def test_logistic_regression_has_the_slope_of_its_differences(array):
    log1p = torch.nn.functional.softplus if array is LIBRARIES["torch"] else jax.nn.softplus
    signs, signs_valid = np.sign(Y), np.sign(Y_VALID)
    problem = Bilevel(
        inner=lambda w, h, d: log1p(-d[1] * (d[0] @ w)).mean() + (10 ** h["l2"] * w**2).sum(),
        outer=lambda w, h, d: log1p(-d[1] * (d[0] @ w)).mean(),
        weights=array(np.zeros(6)),
        train=(array(X), array(signs)),
        valid=(array(X_VALID), array(signs_valid)),
        tolerance=1e-10,
    )
    at = np.linspace(-3, -1, 6)
    slope = numbers(problem.hypergradient({"l2": array(at)}).gradient)
    for j in range(6):
        ends = [problem.hypergradient({"l2": array(at + e * np.eye(6)[j])}).value for e in (-1e-3, 1e-3)]
        assert slope[j] == pytest.approx((ends[1] - ends[0]) / 2e-3, rel=1e-4)


def test_the_rate_of_one_step_has_the_slope_that_baydin_found(array):
    problem = ridge(array, optimizer=lambda h, t: SGD(lr=h["lr"]), steps=1, valid=(array(X), array(Y)))
    h = {"lr": array(0.1), "l2": array(0.0)}
    found = problem.hypergradient(h)
    before = 2 * X.T @ (X @ np.zeros(6) - Y) / len(X)
    after = 2 * X.T @ (X @ (-0.1 * before) - Y) / len(X)
    assert float(found.gradient["lr"]) == pytest.approx(-after @ before, rel=1e-10)


def test_a_schedule_is_an_array_of_rates(array):
    problem = ridge(array, optimizer=lambda h, t: SGD(lr=h["lr"][t]), steps=5)
    found = problem.hypergradient({"lr": array(np.full(5, 0.02)), "l2": array(0.0)})
    one = ridge(array, optimizer=lambda h, t: SGD(lr=h["lr"]), steps=5)
    together = one.hypergradient({"lr": array(0.02), "l2": array(0.0)})
    assert np.all(numbers({"lr": found.gradient["lr"]}) < 0)
    assert float(found.gradient["lr"].sum()) == pytest.approx(float(together.gradient["lr"]), rel=1e-10)


def test_both_libraries_say_the_same():
    pair = []
    for array in LIBRARIES.values():
        CHANCE_STATE = CHANCE.bit_generator.state
        h, problem = network(array, RULES["adam"])
        CHANCE.bit_generator.state = CHANCE_STATE
        pair.append(numbers(problem.hypergradient(h).gradient))
    assert pair[0] == pytest.approx(pair[1], rel=1e-9)


def test_the_order_of_names_means_nothing(array):
    settings = {"optimizer": lambda h, t: SGD(lr=h["lr"]), "steps": 5}
    h = {"lr": array(0.02), "l2": array(0.1)}
    turned = dict(reversed(h.items()))
    for method in ("reverse", "forward", "implicit"):
        problem = ridge(array, **settings)
        with pytest.warns(UserWarning, match="lr") if method == "implicit" else contextlib.nullcontext():
            a, b = (problem.hypergradient(x, method=method).gradient for x in (h, turned))
        assert a == {k: pytest.approx(b[k]) for k in h}
        assert (list(a), list(b)) == (list(h), list(turned))


def test_what_an_implicit_method_cannot_see_is_said(array):
    problem = ridge(array, optimizer=lambda h, t: SGD(lr=h["lr"]), method="implicit")
    with pytest.warns(UserWarning, match=r"depends on \['lr'\].*method='reverse'"):
        problem.hypergradient({"lr": array(0.1), "l2": array(0.3)})


def test_dropout_is_the_same_each_time_a_step_is_taken():
    def inner(w, h, data):
        kept = torch.nn.functional.dropout(data[0], 0.5)
        return ((kept @ w["a"] - data[1]) ** 2).mean() + h["l2"] * (w["a"] ** 2).sum()

    array = LIBRARIES["torch"]
    problem = Bilevel(
        inner=inner,
        outer=lambda w, h, d: squares(w, d),
        weights={"a": array(np.zeros(6))},
        train=(array(X), array(Y)),
        valid=(array(X_VALID), array(Y_VALID)),
        optimizer=SGD(lr=0.05),
        steps=20,
    )
    before = torch.random.get_rng_state()
    reverse, again = (problem.hypergradient({"l2": array(0.1)}) for _ in range(2))
    forward = problem.hypergradient({"l2": array(0.1)}, method="forward")
    assert torch.equal(before, torch.random.get_rng_state())
    assert reverse.value == again.value == pytest.approx(forward.value, rel=1e-12)
    assert float(reverse.gradient["l2"]) == pytest.approx(float(forward.gradient["l2"]), rel=1e-9)
    ends = [problem.hypergradient({"l2": array(x)}).value for x in (0.1 - 1e-5, 0.1 + 1e-5)]
    assert float(reverse.gradient["l2"]) == pytest.approx((ends[1] - ends[0]) / 2e-5, rel=1e-6)


def test_going_back_keeps_the_root_of_the_states():
    alive, most = [0], [0]

    array = LIBRARIES["torch"]
    problem = ridge(array, optimizer=SGD(lr=0.01), steps=100)
    training = problem._training(hypergrad.autodiff.Torch(), {})
    step = training.forward

    def watched(*args):
        state = step(*args)
        alive[0] += 1
        most[0] = max(most[0], alive[0])
        weakref.finalize(state[0]["a"], lambda: alive.__setitem__(0, alive[0] - 1))
        return state

    training.__dict__["forward"] = watched
    problem.hypergradient({"l2": array(0.1)})
    assert 5 < most[0] <= 12


# -- the linear systems --


def matrix(eigenvalues, seed=0):
    Q = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(eigenvalues),) * 2))[0]
    return Q @ np.diag(eigenvalues) @ Q.T


def test_conjugate_gradients_end_after_as_many_steps_as_there_are_eigenvalues():
    A, b = matrix([1.0, 1.0, 4.0, 4.0, 9.0]), np.arange(5.0)
    x, residual = linear.conjugate_gradient(lambda v: A @ v, b, 3, 0.0)
    assert x == pytest.approx(np.linalg.solve(A, b))
    assert residual < 1e-10


def test_negative_curvature_and_nan_end_conjugate_gradients():
    A, b = matrix([-1.0, 2.0, 3.0]), np.ones(3)
    x, residual = linear.conjugate_gradient(lambda v: A @ v, b, 50, 1e-10)
    assert np.all(np.isfinite(x))
    assert residual > 0
    x, _ = linear.conjugate_gradient(lambda v: v * np.nan, b, 50, 1e-10)
    assert np.all(x == 0)
    assert linear.conjugate_gradient(lambda v: A @ v, np.zeros(3), 50, 1e-10)[1] == 0.0


def test_the_series_comes_to_the_solution():
    A, b = matrix([1.0, 2.0, 5.0]), np.arange(3.0)
    step = 1.0 / linear.largest_eigenvalue(lambda v: A @ v, np.ones(3), 50)
    assert step == pytest.approx(0.2, rel=1e-6)
    errors = [
        np.linalg.norm(linear.neumann(lambda v: A @ v, b, k, step)[0] - np.linalg.solve(A, b)) for k in (5, 20, 80)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-6


# -- update rules --


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (SGD(lr=0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
        (SGD(lr=0.1, momentum=0.9, weight_decay=0.01), lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=0.01)),
        (SGD(lr=0.1, momentum=0.9, nesterov=True), lambda p: torch.optim.SGD(p, 0.1, 0.9, nesterov=True)),
        (Adam(lr=0.1), lambda p: torch.optim.Adam(p, lr=0.1)),
        (
            Adam(lr=0.1, beta1=0.8, beta2=0.95, weight_decay=0.2),
            lambda p: torch.optim.AdamW(p, 0.1, (0.8, 0.95), weight_decay=0.2),
        ),
        (RMSprop(lr=0.1, alpha=0.9, weight_decay=0.1), lambda p: torch.optim.RMSprop(p, 0.1, 0.9, weight_decay=0.1)),
    ],
)
def test_rules_do_what_torch_optim_does(ours, theirs):
    def loss(a, b):
        return ((a - 3) ** 2).sum() + (a * b).sum() ** 2

    mine = {"a": torch.ones(3, dtype=float), "b": torch.arange(3, dtype=float)}
    parameters = [torch.nn.Parameter(x.clone()) for x in mine.values()]
    rule, memory = theirs(parameters), ours.init(mine)
    for t in range(10):
        rule.zero_grad()
        loss(*parameters).backward()
        rule.step()
        slope = torch.func.grad(lambda w: loss(w["a"], w["b"]))(mine)
        mine, memory = ours.update(slope, memory, mine, t)
    for a, b in zip(mine.values(), parameters, strict=True):
        assert a.numpy() == pytest.approx(b.detach().numpy(), rel=1e-9)


@pytest.mark.parametrize("rule", RULES)
def test_rules_pass_the_check_of_gradients(rule):
    def step(w, g, lr, x):
        made = RULES[rule](lr, x)
        memory = made.init({"w": w})
        for t in range(3):
            out, memory = made.update({"w": g * (t + 1) + 0.1 * w}, memory, {"w": w}, t)
            w = out["w"]
        return w

    chance = np.random.default_rng(0)
    given = [chance.normal(size=4), chance.normal(size=4), 0.1, np.array([0.8, 0.1])]
    assert torch.autograd.gradcheck(step, [LIBRARIES["torch"](x).requires_grad_() for x in given])


def test_weights_without_gradient_have_derivatives_that_are_finite(array):
    h = {"l2": array(0.1)}
    problem = ridge(
        array,
        weights={"a": array(np.zeros(6)), "unused": array(np.zeros(3))},
        optimizer=Adam(lr=0.1),
        steps=4,
    )
    assert np.isfinite(float(problem.hypergradient(h).gradient["l2"]))


def test_each_weight_may_have_a_rate_of_its_own(array):
    problem = ridge(
        array,
        weights={"a": array(np.zeros(6)), "b": array(np.zeros(2))},
        optimizer=lambda h, t: SGD(lr=h["lr"]),
        steps=4,
    )
    found = problem.hypergradient({"lr": {"a": array(0.02), "b": array(0.1)}, "l2": array(0.0)})
    assert float(found.gradient["lr"]["a"]) < 0
    assert float(found.gradient["lr"]["b"]) == 0


class Pair(NamedTuple):
    """Weights with names."""

    a: object
    b: object


@pytest.mark.parametrize("rates", [Pair, lambda x, y: [x, y]])
def test_weights_with_names_may_have_rates_of_their_own(array, rates):
    def loss(w, h, d):
        return ((d[0] @ w.a + w.b - d[1]) ** 2).mean()

    problem = Bilevel(
        loss,
        loss,
        Pair(array(np.zeros(6)), array(0.0)),
        train=(array(X), array(Y)),
        valid=(array(X_VALID), array(Y_VALID)),
        optimizer=lambda h, t: SGD(lr=h["lr"]),
        steps=3,
    )
    one = problem.hypergradient({"lr": array(0.02)})
    each = problem.hypergradient({"lr": rates(array(0.02), array(0.02))})
    assert isinstance(each.weights, Pair)
    assert each.value == pytest.approx(one.value, rel=1e-12)
    assert numbers(each.gradient).sum() == pytest.approx(float(one.gradient["lr"]), rel=1e-9)


@dataclass(frozen=True)
class Adagrad:
    """A rule whose memory begins with a hyperparameter."""

    begins: object

    def init(self, weights):
        return trees.apply(lambda w: 0.0 * w + self.begins, weights)

    def update(self, gradient, memory, weights, t):
        memory = trees.apply(lambda m, g: m + g * g, memory, gradient)
        return trees.apply(lambda w, g, m: w - 0.1 * g / m**0.5, weights, gradient, memory), memory


@pytest.mark.parametrize("method", ["reverse", "forward"])
def test_what_a_rule_remembers_at_first_may_be_a_hyperparameter(array, method):
    problem = ridge(array, optimizer=lambda h, t: Adagrad(h["begins"]), steps=5)
    slope = float(problem.hypergradient({"begins": array(0.5), "l2": array(0.1)}, method=method).gradient["begins"])
    ends = [problem.hypergradient({"begins": array(x), "l2": array(0.1)}).value for x in (0.5 - 1e-5, 0.5 + 1e-5)]
    assert slope == pytest.approx((ends[1] - ends[0]) / 2e-5, rel=1e-6)


# -- in a study --


def test_a_problem_is_an_objective_with_a_gradient(array):
    problem = ridge(array)
    study = wt.minimize(problem, {"l2": wt.Float(1e-6, 1e2, log=True)}, n_trials=12, sampler="gradient", seed=0)
    grid = [ridge_exactly(10.0**x) for x in np.linspace(-6, 2, 400)]
    assert study.best.value <= min(value for value, _ in grid) + 1e-4
    for trial in study.trials:
        assert trial.gradient["l2"] == pytest.approx(ridge_exactly(trial.params["l2"])[1], rel=1e-5, abs=1e-7)


def test_whole_numbers_and_choices_reach_the_functions(array):
    seen = set()

    def inner(w, h, data):
        seen.add((h["power"], h["kind"]))
        return squares(w, data) + h["l2"] * (w["a"] ** h["power"]).sum()

    problem = Bilevel(
        inner=inner,
        outer=lambda w, h, data: squares(w, data),
        weights={"a": array(np.zeros(6))},
        train=(array(X), array(Y)),
        valid=(array(X_VALID), array(Y_VALID)),
        optimizer=lambda h, t: SGD(lr=h["lr"], momentum=0.5 if h["kind"] == "heavy" else 0.0),
        steps=lambda h: 2 * h["epochs"],
        batch_size=lambda h: h["batch"],
    )
    space = {
        "lr": wt.Float(1e-3, 1e-1, log=True),
        "l2": wt.Float(1e-6, 1.0, log=True),
        "power": [2],
        "kind": ["heavy", "plain"],
        "epochs": wt.Int(2, 5),
        "batch": [8, 16],
    }
    study = wt.Study(space, seed=0, sampler="random")
    study.optimize(problem, n_trials=6)
    assert all(t.state is wt.State.COMPLETE for t in study.trials)
    assert all(set(t.gradient) == {"lr", "l2"} for t in study.trials)
    assert seen == {(2, "heavy"), (2, "plain")}


def test_a_problem_travels_to_workers():
    array = LIBRARIES["torch"]
    problem = ridge(array)
    problem({"l2": 0.3})
    copy = cloudpickle.loads(cloudpickle.dumps(problem))
    assert copy({"l2": 0.3}) == problem({"l2": 0.3})


def test_nothing_real_is_trained_all_the_same(array):
    value, gradient = ridge(array)({"l2": 1})
    assert value == pytest.approx(ridge_exactly(1.0)[0], rel=1e-6)
    assert gradient == {}


def test_a_branch_without_real_parameters_is_a_result_like_others():
    array = LIBRARIES["torch"]
    problem = Bilevel(
        inner=lambda w, h, d: squares(w, d) + h.get("l2", 0.0) * (w["a"] ** 2).sum(),
        outer=lambda w, h, d: squares(w, d) + (100.0 if h["kind"] == "ridge" else 0.0),
        weights={"a": array(np.zeros(6))},
        train=(array(X), array(Y)),
        valid=(array(X_VALID), array(Y_VALID)),
    )
    space = {"kind": ["plain", "ridge"], "l2": wt.Float(1e-4, 1.0, log=True, when={"kind": "ridge"})}
    study = wt.Study(space, seed=0)
    study.optimize(problem, n_trials=8)
    assert all(t.state is wt.State.COMPLETE for t in study.trials)
    assert study.best.params == {"kind": "plain"}


def test_numbers_and_what_is_fixed_work_without_a_study(array):
    problem = ridge(
        array,
        weights=lambda h: {"a": array(np.ones(6)) * h["scale"]},
        optimizer=lambda h, t: SGD(lr=0.05, momentum=0.5 * (t > 0)),
        steps=lambda h: h["epochs"],
    )
    found = problem.hypergradient({"l2": 0.1, "scale": np.float64(0.5)}, fixed={"epochs": 4})
    value, gradient = problem({"epochs": 4, "l2": 0.1, "scale": 0.5})
    assert value == found.value
    assert gradient == pytest.approx({k: float(v) for k, v in found.gradient.items()})
    start = {"l2": array(0.1), "scale": array(0.5)}
    descent = hypergrad.minimize(problem, start, n_steps=5, fixed={"epochs": 4}, bounds=(None, 0.4), guard=0)
    assert descent.steps[0].value == problem({"epochs": 4, "l2": 0.1, "scale": 0.4})[0]
    assert float(descent.hyperparameters["scale"]) <= 0.4


def test_functions_are_compiled_once_for_each_choice():
    traced = []

    def inner(w, h, data):
        traced.append(h["power"])
        return squares(w, data) + h["l2"] * (abs(w["a"]) ** h["power"]).sum()

    problem = Bilevel(
        inner,
        lambda w, h, d: squares(w, d),
        {"a": jax.numpy.zeros(6)},
        train=(jax.numpy.asarray(X), jax.numpy.asarray(Y)),
        valid=(jax.numpy.asarray(X_VALID), jax.numpy.asarray(Y_VALID)),
        optimizer=SGD(lr=0.05),
        steps=3,
    )
    problem({"l2": 0.1, "power": 2})
    once = len(traced)
    problem({"l2": 0.2, "power": 2})
    assert len(traced) == once
    problem({"l2": 0.2, "power": 3})
    assert len(traced) == 2 * once


def test_a_descent_from_what_jax_fills_is_compiled_once():
    traced, after = [], []

    def inner(w, h, data):
        traced.append(1)
        return squares(w, data) + sum(jax.numpy.exp(h["log_l2"][i]) * w["a"][i] ** 2 for i in range(2))

    rows, held_out = ((jax.numpy.asarray(x), jax.numpy.asarray(y)) for x, y in ((X, Y), (X_VALID, Y_VALID)))
    weights = {"a": jax.numpy.zeros(6)}
    problem = Bilevel(inner, lambda w, h, d: squares(w, d), weights, rows, held_out, optimizer=SGD(lr=0.05), steps=3)
    start = {"log_l2": jax.numpy.full(2, -3.0)}
    assert start["log_l2"].weak_type  # which its derivatives are not
    hypergrad.minimize(problem, start, n_steps=3, on_step=lambda step: after.append(len(traced)))
    assert after[0] > 0
    assert set(after) == {after[0]}


def test_a_descent_starts_from_numbers_too(array):
    problem = ridge(array)
    found = hypergrad.minimize(problem, {"l2": 0.25}, n_steps=3, bounds=(0.0, 1.0))
    assert found.value == hypergrad.minimize(problem, {"l2": array(0.25)}, n_steps=3, bounds=(0.0, 1.0)).value


class Changed:
    """Always shown in the same way, and equal to itself only."""

    def __init__(self, value):
        self.value = value

    def __repr__(self):
        return "Changed"


def fixed_values():
    mask, other = np.zeros(3000), np.zeros(3000)
    other[1500] = 1.0
    yield (lambda m: m[1500]), mask, other
    yield (lambda m: m["a"][0][1500]), {"a": [mask]}, {"a": [other]}
    yield (lambda m: m.value), Changed(0.0), Changed(1.0)
    yield (lambda m: m()), (lambda: 0.0), (lambda: 1.0)
    yield (lambda m: float(m[1500])), torch.as_tensor(mask), torch.as_tensor(other)


@pytest.mark.parametrize("which", range(5))
def test_what_is_fixed_is_told_apart(array, which):
    """Where it is shown in the same way, and after it was changed in place."""
    read, first, second = list(fixed_values())[which]
    problem = ridge(array, outer=lambda w, h, d: squares(w, d) + read(h["m"]))
    h = {"l2": array(0.1)}
    a, b, again = (problem.hypergradient(h, fixed={"m": m}).value for m in (first, second, first))
    assert b == pytest.approx(a + 1.0)
    assert again == a
    if isinstance(first, np.ndarray):
        first[1500] = 2.0
        assert problem.hypergradient(h, fixed={"m": first}).value == pytest.approx(a + 2.0)
        assert problem.hypergradient(h, fixed={"m": np.zeros(3000)}).value == a


def test_what_is_fixed_needs_names(array):
    problem = ridge(array, inner=lambda w, h, d: squares(w, d) + h * (w["a"] ** 2).sum())
    problem.hypergradient(array(0.1))
    with pytest.raises(wt.InvalidType, match="in a dict"):
        problem.hypergradient(array(0.1), fixed={"k": 1})


def test_weights_that_are_drawn_leave_the_generator_alone():
    array = LIBRARIES["torch"]
    problem = ridge(
        array, weights=lambda h: {"a": torch.randn(6, dtype=float) * h["scale"]}, optimizer=SGD(0.01), steps=3
    )
    before = torch.random.get_rng_state()
    value, _ = problem({"l2": 0.1, "scale": 0.5})
    assert torch.equal(before, torch.random.get_rng_state())
    torch.randn(3)
    assert problem({"l2": 0.1, "scale": 0.5})[0] == value
    assert problem.hypergradient({"l2": array(0.1), "scale": array(0.5)}).value == value


def test_what_an_exception_leaves_is_what_was_before():
    def inner(w, h, data):
        torch.randn(3)
        raise RuntimeError("broken")

    problem = ridge(LIBRARIES["torch"], inner=inner, optimizer=SGD(0.01), steps=3)
    before = torch.random.get_rng_state()
    with pytest.raises(RuntimeError, match="broken"):
        problem({"l2": 0.1})
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.is_grad_enabled()


def test_parameters_of_a_module_leave_no_record():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()

    def loss(w, h, data):
        return ((torch.func.functional_call(net, w, (data[0],))[:, 0] - data[1]) ** 2).mean()

    array = LIBRARIES["torch"]
    problem = Bilevel(
        inner=lambda w, h, d: loss(w, h, d) + h["l2"] * sum((x**2).sum() for x in w.values()),
        outer=loss,
        weights=dict(net.named_parameters()),
        train=(array(X), array(Y)),
        valid=(array(X_VALID), array(Y_VALID)),
        optimizer=SGD(lr=0.02),
        steps=6,
    )
    h = {"l2": array(0.1).requires_grad_()}
    found = [problem.hypergradient(h, method=method) for method in ("reverse", "forward")]
    for one in found:
        assert not any(x.requires_grad for x in [*one.weights.values(), one.gradient["l2"]])
    assert float(found[0].gradient["l2"]) == pytest.approx(float(found[1].gradient["l2"]), rel=1e-9)
    assert torch.is_grad_enabled()


def saddle(array, **settings):
    return Bilevel(
        inner=lambda w, h, d: ((w**2 - 1) ** 2).sum() + h["a"] * w.sum(),
        outer=lambda w, h, d: ((w - 2) ** 2).sum(),
        **{"weights": array(np.full(2, 0.01)), "optimizer": SGD(1e-3), "steps": 3, **settings},
    )


@pytest.mark.parametrize("method", ["implicit", Neumann(iterations=60)])
def test_what_an_implicit_method_could_not_solve_is_no_derivative(array, method):
    problem = saddle(array, method=method)
    with pytest.warns(UserWarning, match="was not solved"):
        value, gradient = problem({"a": 0.05})
    assert np.isfinite(value)
    assert gradient == {}


def test_what_an_implicit_method_cannot_see_is_no_derivative(array):
    problem = ridge(array, optimizer=lambda h, t: SGD(lr=h["lr"]), steps=300, method="implicit")
    with pytest.warns(UserWarning, match="lr"):
        assert list(problem({"lr": 0.1, "l2": 0.3})[1]) == ["l2"]


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_the_unit_of_the_losses_does_not_matter(array, unit):
    problem = Bilevel(
        inner=lambda w, h, d: unit * (squares(w, d) + h["l2"] * (w["a"] ** 2).sum()),
        outer=lambda w, h, d: squares(w, d),
        weights={"a": array(np.zeros(6))},
        train=(array(X), array(Y)),
        valid=(array(X_VALID), array(Y_VALID)),
    )
    value, slope = ridge_exactly(0.3)
    found = problem({"l2": 0.3})
    assert found == (pytest.approx(value, rel=1e-5), {"l2": pytest.approx(slope, rel=1e-4)})


def test_a_training_loss_that_is_not_finite_is_a_failed_trial(array):
    problem = Bilevel(lambda w, h, d: (w * h["x"] / 0.0).sum(), lambda w, h, d: (w**2).sum(), array(np.ones(3)))
    study = wt.Study({"x": (0.5, 1.0)}, seed=0)
    study.optimize(problem, n_trials=2)
    assert [t.reason for t in study.trials] == [wt.Reason.NAN] * 2


def test_a_setting_with_too_many_numbers_is_an_error(array):
    problem = Bilevel(
        lambda w, h, d: w**2, lambda w, h, d: w**2, array(0.5), optimizer=lambda h, t: SGD(lr=h["lr"]), steps=5
    )
    with pytest.raises(wt.InvalidValue, match=r"h\['lr'\]\[t\]"):
        problem.hypergradient({"lr": array(np.full(5, 0.1))})


# -- descent --


def weights_of_rows(array, n_bad=20):
    """Return a regression whose first rows are wrong, with a weight for each of them: hyper-cleaning."""
    chance = np.random.default_rng(3)
    A, B = chance.normal(size=(60, 4)), chance.normal(size=(80, 4))
    y = A @ np.ones(4) + 0.1 * chance.normal(size=60)
    y[:n_bad] += chance.choice([-5, 5], size=n_bad)
    sigmoid = torch.sigmoid if array is LIBRARIES["torch"] else jax.nn.sigmoid
    return Bilevel(
        inner=lambda w, h, d: (sigmoid(h["row"]) * (d[0] @ w - d[1]) ** 2).mean() + 1e-3 * (w**2).sum(),
        outer=lambda w, h, d: ((d[0] @ w - d[1]) ** 2).mean(),
        weights=array(np.zeros(4)),
        train=(array(A), array(y)),
        valid=(array(B), array(B @ np.ones(4) + 0.1 * chance.normal(size=80))),
    )


@pytest.mark.parametrize("optimizer", ["lbfgs", Adam(0.5)])
def test_rows_that_are_wrong_are_found(array, optimizer):
    start = {"row": array(np.zeros(60))}
    found = hypergrad.minimize(weights_of_rows(array), start, n_steps=30, optimizer=optimizer, bounds=(-8, 8))
    row = np.asarray(found.hyperparameters["row"])
    if optimizer != "lbfgs":  # which ends as soon as the wrong ones have next to no weight together
        assert np.mean(row[:20] < row[20:].mean()) >= 0.9
    assert found.held_out < found.steps[0].held_out / 3
    assert len(found.steps) <= 30
    assert np.all(np.abs(row) <= 8)
    assert np.asarray(found.weights) == pytest.approx(np.ones(4), abs=0.1)


def test_the_rows_held_out_choose_the_step(array):
    steps = []
    found = hypergrad.minimize(
        weights_of_rows(array), {"row": array(np.zeros(60))}, n_steps=10, optimizer=Adam(1.0), on_step=steps.append
    )
    assert found.steps == tuple(steps)
    assert [s.number for s in steps] == list(range(1, 11))
    assert found.held_out == min(s.held_out for s in steps)
    assert found.reason == "10 steps"
    seen = hypergrad.minimize(weights_of_rows(array), {"row": array(np.zeros(60))}, n_steps=10, guard=0)
    assert seen.held_out is None
    assert seen.value == min(s.value for s in seen.steps)


def test_numbers_of_one_array_are_drawn_together(array):
    start = {"row": array(np.zeros(60))}
    spread = [
        np.asarray(
            hypergrad.minimize(weights_of_rows(array), start, n_steps=30, guard=0, shrink=rho).hyperparameters["row"]
        ).std()
        for rho in (0.0, 1.0, 1e4)
    ]
    assert spread[0] > spread[1] > spread[2]
    assert spread[2] < 1e-3
    free = hypergrad.minimize(weights_of_rows(array), start, n_steps=1, guard=0, shrink=1.0)
    assert free.value == hypergrad.minimize(weights_of_rows(array), start, n_steps=1, guard=0).value


def test_patience_ends_a_descent(array):
    problem = ridge(array)
    found = hypergrad.minimize(
        problem, {"l2": array(0.3)}, n_steps=200, optimizer=Adam(0.01), patience=5, bounds=(1e-4, 1)
    )
    assert found.reason == "5 steps without a better one"
    assert len(found.steps) < 200


def test_a_step_into_nan_is_undone(array):
    problem = ridge(array, optimizer=lambda h, t: SGD(lr=h["lr"]), steps=50)
    h = {"lr": array(0.1), "l2": array(0.1)}
    found = hypergrad.minimize(problem, h, n_steps=40, optimizer=SGD(lr=1e4), guard=0)
    assert not np.isfinite(found.steps[1].value)
    assert found.value <= found.steps[0].value
    assert any(np.isfinite(s.value) for s in found.steps[2:])


def test_lbfgs_comes_back_from_nan(array):
    problem = ridge(array, optimizer=lambda h, t: SGD(lr=h["lr"]), steps=50)
    found = hypergrad.minimize(problem, {"lr": array(0.02), "l2": array(0.1)}, n_steps=25, optimizer="lbfgs", guard=0)
    assert found.value < found.steps[0].value


def test_a_start_that_diverges_is_an_error(array):
    problem = ridge(array, optimizer=lambda h, t: SGD(lr=h["lr"]), steps=500)
    with pytest.raises(wt.InvalidValue, match="at the start"):
        hypergrad.minimize(problem, {"lr": array(1e6), "l2": array(0.1)}, n_steps=3)


# -- what is refused --


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"inner": 3}, TypeError, "inner=3"),
        ({"optimizer": "adam"}, TypeError, "optimizer='adam'"),
        ({"optimizer": SGD}, TypeError, "as in SGD"),
        ({"optimizer": SGD(0.1), "steps": 0}, ValueError, "steps=0"),
        ({"optimizer": SGD(0.1), "steps": 2.5}, TypeError, "steps=2.5"),
        ({"optimizer": SGD(0.1), "batch_size": -1}, ValueError, "batch_size=-1"),
        ({"steps": 5}, ValueError, "needs an optimizer="),
        ({"tolerance": "x"}, TypeError, "tolerance='x'"),
        ({"tolerance": 0}, ValueError, "tolerance=0"),
        ({"method": "newton"}, ValueError, "'newton' is none of"),
        ({"method": Reverse}, TypeError, "Reverse"),
        ({"method": "reverse"}, ValueError, "give an optimizer="),
        ({"weights": {"a": np.zeros(3)}}, TypeError, "weights: a is array"),
        ({"weights": {"a": torch.zeros(3, dtype=torch.int64)}}, TypeError, "int64"),
        ({"weights": {"a": torch.zeros(3), "b": jax.numpy.zeros(3)}}, TypeError, "mixes"),
        ({"weights": {}}, ValueError, "no arrays"),
        ({"optimizer": SGD(0.1), "train": len, "batch_size": 4}, ValueError, "train is a function"),
        ({"seed": None}, TypeError, "seed=None"),
        ({"seed": -1}, ValueError, "seed=-1"),
    ],
)
def test_a_problem_that_cannot_be_is_refused(change, error, says):
    given = {"inner": len, "outer": len, "weights": {"a": torch.zeros(3)}, **change}
    with pytest.raises(error, match=says) as raised:
        Bilevel(**given)
    assert isinstance(raised.value, wt.WelltunedError)


@pytest.mark.parametrize("h", [{"l2": 0.1}, {"l2": torch.tensor(0.1)}])
@pytest.mark.parametrize(("weights", "says"), [({}, "no arrays"), ({"a": np.zeros(6)}, "weights: a is array")])
def test_weights_that_a_function_returns_are_looked_at(h, weights, says):
    with pytest.raises(wt.WelltunedError, match=says):
        ridge(LIBRARIES["torch"], weights=lambda h: weights).hypergradient(h)


def test_losses_are_one_number(array):
    problem = Bilevel(lambda w, h, d: w**2, lambda w, h, d: (w**2).sum(), array(np.ones(3)))
    with pytest.raises(wt.InvalidValue, match=r"inner returned an array of the shape \(3,\)"):
        problem.hypergradient({"x": array(1.0)})
    problem = Bilevel(lambda w, h, d: (h["x"] * w**2).sum(), lambda w, h, d: 3.0, array(np.ones(3)))
    with pytest.raises(wt.InvalidValue, match=r"outer returned 3.0"):
        problem.hypergradient({"x": array(1.0)})
    with pytest.raises(wt.InvalidValue, match=r"outer returned 3.0"):
        problem({"x": 1})


def test_a_descent_that_cannot_be_is_refused(array):
    problem, h = ridge(array), {"l2": array(0.3)}
    for settings, says in [
        ({"n_steps": 0}, "n_steps=0"),
        ({"patience": 0}, "patience=0"),
        ({"shrink": -1}, "shrink=-1"),
        ({"shrink": "much"}, "shrink='much'"),
        ({"guard": 1.0}, "guard=1.0"),
        ({"guard": "half"}, "guard='half'"),
        ({"guard": 0.001}, "holds out 0"),
        ({"optimizer": "newton"}, "optimizer='newton'"),
        ({"bounds": (1, 0)}, "lower one must be below"),
        ({"bounds": 3}, "bounds=3"),
        ({"bounds": {"other": (0, 1)}}, "same entries"),
    ]:
        with pytest.raises(wt.WelltunedError, match=says):
            hypergrad.minimize(problem, h, **settings)
    uneven = ridge(array, valid=(array(X_VALID), array(Y_VALID[:-1])))
    with pytest.raises(wt.InvalidValue, match="different lengths"):
        hypergrad.minimize(uneven, h)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Implicit(iterations=0),
        lambda: Implicit(damping=-1),
        lambda: Neumann(step=0),
        lambda: Neumann(damping=-1),
        lambda: Reverse(last=0),
        lambda: Implicit(damping="much"),
        lambda: Implicit(tolerance=None),
        lambda: Neumann(step=True),
        lambda: Reverse(last=2.5),
    ],
)
def test_settings_of_methods_are_checked(make):
    with pytest.raises(wt.WelltunedError, match="="):
        make()


def test_methods_show_their_settings():
    assert [repr(made()) for made in hypergrad.METHODS.values()] == [
        "Implicit(iterations=500, tolerance=1e-06, damping=0.0)",
        "Neumann(iterations=20, step=None, damping=0.0)",
        "Reverse(last=None)",
        "Forward()",
    ]
    assert isinstance(Forward(), hypergrad.Method)
