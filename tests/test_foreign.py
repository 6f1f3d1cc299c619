"""Spaces of other tuners, which need not be installed: stand-ins have the attributes of their objects."""

import math
import sys

import pytest
from scipy.optimize import Bounds
from scipy.stats import lognorm, norm

from welltuned import Categorical, Float, Int, InvalidType, InvalidValue, Ordinal, Space
from welltuned.sklearn.spaces import read_space


def stand_in(module, kind, /, **attributes):
    return type(kind, (), {"__module__": module, **attributes})()


# Hyperopt: expressions are trees of Apply and Literal; ``arg`` has the arguments of a node by name


@pytest.fixture(autouse=True)
def _hyperopt_is_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "hyperopt", sys)


def literal(value):
    return node(obj=value, name="literal")


def node(*pos_args, **more):
    attributes = {"pos_args": list(pos_args), "named_args": [], "inputs": lambda self: self.pos_args, "arg": {}}
    return stand_in("hyperopt.pyll.base", "Apply", **{**attributes, **more})


def param(label, name, **arguments):
    values = {k: v if hasattr(v, "pos_args") else literal(v) for k, v in arguments.items()}
    drawn = node(*values.values(), name=name, arg={**values, "rng": None})
    found = node(literal(label), drawn, name="hyperopt_param", arg={"label": literal(label), "obj": drawn})
    return node(found, name="float")


def choice(label, *options, p=None):
    if p is None:
        chosen = param(label, "randint", low=len(options)).pos_args[0]
    else:
        chosen = param(label, "categorical", p=node(*map(literal, p), name="pos_args")).pos_args[0]
    return node(chosen, *options, name="switch")


def as_dict(**entries):
    return node(*entries.values(), name="dict")


DRAWN = [
    ("uniform", {"low": -1, "high": 2}, Float(-1, 2)),
    ("quniform", {"low": 1, "high": 22, "q": 5}, Int(0, 20, step=5)),
    ("quniform", {"low": 0, "high": 1, "q": 0.25}, Float(0, 1, step=0.25)),
    ("quniform", {"low": 1, "high": 9, "q": 1.0}, Int(1, 9)),
    ("loguniform", {"low": math.log(1e-5), "high": math.log(0.1)}, Float(1e-5, 0.1, log=True)),
    ("qloguniform", {"low": 0, "high": math.log(150), "q": 4}, Int(4, 152, step=4, log=True)),
    ("normal", {"mu": 1, "sigma": 2}, Float(norm(1, 2))),
    ("qnormal", {"mu": 1, "sigma": 2, "q": 1}, Int(norm(1, 2))),
    ("lognormal", {"mu": 1, "sigma": 2}, Float(lognorm(2, scale=math.e))),
    ("randint", {"low": 5}, Int(0, 4)),
    ("randint", {"low": 2, "high": 9}, Int(2, 8)),
    ("randint", {"low": 1}, Categorical([0])),
]


@pytest.mark.parametrize(("name", "arguments", "expected"), DRAWN)
def test_a_parameter_of_hyperopt(name, arguments, expected):
    space = Space.parse({"outer": [param("p", name, **arguments)], "constant": 3})
    assert repr(space) == repr(Space({"p": expected}))


def test_choices_of_hyperopt_are_conditions():
    shared = param("shared", "uniform", low=0, high=1)
    kernel = choice(
        "kernel", as_dict(k=literal("linear")), as_dict(k=literal("rbf"), g=param("g", "uniform", low=1, high=2))
    )
    space = Space.parse(choice("model", as_dict(s=shared, k=kernel), as_dict(s=shared), literal(None)))
    assert repr(space) == repr(
        Space(
            {
                "model": Categorical([0, 1, 2]),
                "shared": Float(0, 1, when=[{"model": 0}, {"model": 1}]),
                "kernel": Categorical([0, 1], when=[{"model": 0}]),
                "g": Float(1, 2, when=[{"model": 0, "kernel": 1}]),
            }
        )
    )


def test_numbers_among_which_hyperopt_chooses_have_an_order():
    options = {
        "sizes": choice("sizes", literal(64), literal(32)),
        "mixed": choice("mixed", literal(2), literal(3), literal(1)),
        "names": choice("names", literal("a"), literal("b"), p=[0.25, 0.75]),
    }
    space = Space.parse(options)
    assert repr(space) == repr(
        Space({"sizes": Ordinal([0, 1]), "mixed": Categorical([0, 1, 2]), "names": Categorical([0, 1], prior=[1, 3])})
    )


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ([param("x", "uniform", low=0, high=1), param("x", "uniform", low=0, high=2)], "'x' stands twice"),
        ({"x": param("x", "uniform", low=0, high=1), "y": Float(0, 1)}, "beside expressions of Hyperopt"),
        (param("x", "uniform", low=0, high=param("y", "uniform", low=0, high=1)), "'high' is an expression"),
        (param("x", "qnormal", mu=0, sigma=1, q=0.5), r"parameter 'x': .* write wt.Float\(low, high, step=0.5\)"),
        (param("x", "qloguniform", low=0, high=3, q=0.5), "parameter 'x': .* use Ordinal"),
        (param("x", "weird", low=0, high=1), "'weird' is unknown"),
        (param("x", "loguniform", low=1, high=1000), "1000 of a log scale is an exponent"),
        (node(literal(1), name="float"), "no parameters"),
    ],
)
def test_what_hyperopt_can_say_and_a_space_cannot(spec, says):
    with pytest.raises((InvalidValue, InvalidType), match=says):
        Space.parse(spec)


def test_one_expression_of_hyperopt_is_no_parameter():
    with pytest.raises(InvalidType, match=r"parameter 'x': it is an expression of Hyperopt; give the whole space"):
        Space({"x": param("x", "uniform", low=0, high=1)})


# Ray Tune


def domain(kind, scale="_Uniform", q=None, **attributes):
    sampler = stand_in("ray.tune.search.sample", scale, **attributes.pop("law", {}))
    if q is not None:
        sampler = stand_in("ray.tune.search.sample", "Quantized", q=q, sampler=sampler)
    return stand_in("ray.tune.search.sample", kind, get_sampler=lambda self: sampler, **attributes)


RAY = [
    (domain("Float", lower=0, upper=1), Float(0, 1)),
    (domain("Float", "_LogUniform", lower=1e-4, upper=0.1), Float(1e-4, 0.1, log=True)),
    (domain("Float", lower=0, upper=1, q=0.25), Float(0, 1, step=0.25)),
    (domain("Float", "_Normal", law={"mean": 10, "sd": 2}, lower=-math.inf, upper=math.inf), Float(norm(10, 2))),
    (domain("Integer", lower=1, upper=9), Int(1, 8)),
    (domain("Integer", "_LogUniform", lower=1, upper=9), Int(1, 8, log=True)),
    (domain("Integer", lower=2, upper=10, q=2), Int(2, 10, step=2)),
    (domain("Integer", lower=2, upper=10, q=1), Int(2, 10)),
    (domain("Categorical", categories=["a", "b"]), Categorical(["a", "b"])),
    (domain("Categorical", categories=[64, 32]), Ordinal([64, 32])),
    ({"grid_search": [1, 2]}, Ordinal([1, 2])),
]


@pytest.mark.parametrize(("spec", "expected"), RAY, ids=lambda v: repr(v)[:40])
def test_domains_of_ray_tune(spec, expected):
    assert repr(Space.parse({"p": spec})) == repr(Space({"p": expected}))


def test_searches_of_estimators_take_domains():
    assert repr(read_space("space", {"p": RAY[0][0]})) == repr(Space({"p": Float(0, 1)}))
    with pytest.raises(InvalidType, match="parameter 'p': it is an expression of Hyperopt"):
        read_space("space", {"p": param("p", "uniform", low=0, high=1)})


def test_a_function_of_ray_tune_is_refused():
    with pytest.raises(InvalidType, match=r"parameter 'p': tune.sample_from .* compute the value in the objective"):
        Space.parse({"p": domain("Function", func=len)})


# scikit-optimize, SciPy

NAMED = [
    stand_in("skopt.space", "Real", low=1e-6, high=0.1, prior="log-uniform", transform=None, name="lr"),
    stand_in("skopt.space", "Integer", low=1, high=8, prior="uniform", transform=None, name="depth"),
    stand_in("skopt.space", "Categorical", categories=("a", "b"), prior=[1, 3], transform=None, name="kind"),
]


def test_dimensions_of_scikit_optimize_have_names_and_weights():
    expected = Space(
        {"lr": Float(1e-6, 0.1, log=True), "depth": Int(1, 8), "kind": Categorical(["a", "b"], prior=[1, 3])}
    )
    assert repr(Space.parse(NAMED)) == repr(Space.parse(stand_in("skopt", "Space", dimensions=NAMED))) == repr(expected)
    with pytest.raises(InvalidValue, match="two dimensions have the name 'lr'"):
        Space.parse([NAMED[0], NAMED[0]])


def test_dimensions_without_names_are_positions():
    space = Space.parse([stand_in("skopt.space", "Integer", low=1, high=8, prior="uniform", transform=None, name=None)])
    assert space.positional
    assert repr(space) == repr(Space({"x0": Int(1, 8)}))


def test_bounds_of_scipy():
    space = Space.parse(Bounds(-5, [5, 6]))
    assert space.positional
    assert repr(space) == repr(Space.parse([(-5, 5), (-5, 6)]))
    with pytest.raises(InvalidValue, match=r"bound 0: \(0, None\) is open"):
        Space.parse([(0, None)])


# Optuna


def test_distributions_of_optuna():
    def one(kind, **attributes):
        return stand_in("optuna.distributions", f"{kind}Distribution", single=None, **attributes)

    given = {
        "C": one("Float", low=1e-10, high=1e10, log=True, step=None),
        "drop": one("Float", low=0.0, high=0.5, log=False, step=0.1),
        "degree": one("Int", low=1, high=9, log=False, step=2),
        "kernel": one("Categorical", choices=("rbf", "linear")),
        "only": one("Int", low=3, high=3, log=False, step=1),
    }
    expected = {
        "C": Float(1e-10, 1e10, log=True),
        "drop": Float(0, 0.5, step=0.1),
        "degree": Int(1, 9, step=2),
        "kernel": Categorical(["rbf", "linear"]),
        "only": Categorical([3]),
    }
    assert repr(Space.parse(given)) == repr(Space(expected)) == repr(read_space("space", given))


# sweeps of Weights & Biases

SWEEP = [
    ({"value": 3}, Categorical([3])),
    ({"values": [16, 32]}, Ordinal([16, 32])),
    ({"values": [16, 32], "probabilities": [0.25, 0.75]}, Categorical([16, 32], prior=[1, 3])),
    ({"min": 1, "max": 9}, Int(1, 9)),
    ({"min": 1.0, "max": 9}, Float(1, 9)),
    ({"distribution": "uniform", "min": 1, "max": 9}, Float(1, 9)),
    ({"distribution": "int_uniform", "min": 1, "max": 9}, Int(1, 9)),
    ({"distribution": "log_uniform_values", "min": 1e-5, "max": 0.1}, Float(1e-5, 0.1, log=True)),
    ({"distribution": "inv_log_uniform_values", "min": 1e-5, "max": 0.1}, Float(1e-5, 0.1, log=True)),
    ({"distribution": "inv_log_uniform", "min": 0, "max": -math.log(1e-5)}, Float(1e-5, 1, log=True)),
    ({"distribution": "log_uniform", "min": math.log(1e-5), "max": 0}, Float(1e-5, 1, log=True)),
    ({"distribution": "q_uniform", "min": 0, "max": 1, "q": 0.25}, Float(0, 1, step=0.25)),
    ({"distribution": "q_log_uniform_values", "min": 32, "max": 256, "q": 8}, Int(32, 256, step=8, log=True)),
    ({"distribution": "normal", "mu": 1, "sigma": 2}, Float(norm(1, 2))),
    ({"distribution": "q_normal", "mu": 1, "sigma": 2}, Int(norm(1, 2))),
    ({"distribution": "log_normal", "mu": 1, "sigma": 2}, Float(lognorm(2, scale=math.e))),
]


@pytest.mark.parametrize(("spec", "expected"), SWEEP)
def test_parameters_of_a_sweep(spec, expected):
    assert repr(Space.parse({"p": spec})) == repr(Space({"p": expected}))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"distribution": "beta", "min": 0, "max": 1}, r"distribution='beta' is unknown here; write {low: 0, high: 1}"),
        ({"distribution": "uniform", "min": 1}, "lacks 'max'"),
        ({"distribution": "q_uniform", "min": 0, "max": 1, "q": 0}, "q=0 must be"),
        ({"min": "a", "max": 1}, "min='a' is not a number"),
        ({"values": "ab"}, "'ab' is not a list"),
        ({"min": 0, "max": 1, "when": {"q": 1}}, "lacks 'low'; beside 'when', .* write 'low' and 'high'"),
        ({"parameters": {"x": {"min": 1, "max": 2}}}, "a space has no levels: write its parameters beside it"),
        ({"lr": Float(0, 1), "depth": [1, 2]}, "a space has no levels: write its parameters beside it"),
    ],
)
def test_what_a_sweep_can_say_and_a_space_cannot(spec, says):
    with pytest.raises((InvalidValue, InvalidType), match=f"parameter 'p': .*{says}"):
        Space.parse({"p": spec})


def test_a_whole_sweep_says_what_of_it_is_a_space():
    sweep = "method: bayes\nmetric: {name: loss, goal: minimize}\nparameters: {lr: {min: 0.0, max: 1.0}}"
    with pytest.raises(InvalidValue, match=r"\['method', 'metric'\] .* of a sweep, keep 'parameters' alone"):
        Space.parse(sweep)
    assert repr(Space.parse("parameters: {lr: {min: 0.0, max: 1.0}}")) == repr(Space({"lr": Float(0, 1)}))


# what is natural elsewhere and would be searched by nothing here


DECLARED = [Float(0, 1), RAY[0][0], NAMED[0], param("lr", "uniform", low=0, high=1)]


@pytest.mark.parametrize("inner", DECLARED, ids=["ours", "Ray Tune", "scikit-optimize", "Hyperopt"])
@pytest.mark.parametrize("holds", [lambda inner: {"lr": inner, "kind": "svm"}, lambda inner: inner], ids=["dict", "it"])
def test_a_choice_that_declares_a_parameter_is_refused(inner, holds):
    """The objective got the declaration itself, in place of a number."""
    choices = [holds(inner), {"kind": "forest"}]
    says = r"Categorical: the choice .* declares the parameter .* nothing would search; write it beside this one"
    with pytest.raises(InvalidType, match=says):
        Categorical(choices)
    for spec in (choices, domain("Categorical", categories=choices), {"grid_search": choices}):
        if not hasattr(inner, "pos_args"):  # of which a whole space is read in another way
            with pytest.raises(InvalidType, match=f"parameter 'p': {says}"):
                Space.parse({"p": spec})
