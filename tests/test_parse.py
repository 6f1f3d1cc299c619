"""Spaces from everything that people already have."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from typing import Annotated, Literal

import numpy as np
import pytest
from scipy import stats

from names import plain
from strategies import VALUES
from welltuned import Categorical, Float, Grid, Int, InvalidType, InvalidValue, Ordinal, Space, Study, minimize
from welltuned.samplers import make_sampler
from welltuned.samplers.novel import grid_rows
from welltuned.streams import trial_rng


def identity(x):
    return x


class Kernel(enum.Enum):
    RBF = "rbf"
    POLY = "poly"


ONE = [
    (Float(0, 1), Float(0.0, 1.0)),
    ((0.0, 1.0), Float(0.0, 1.0)),
    ((0, 1.0), Float(0.0, 1.0)),
    ((1, 9), Int(1, 9)),
    ((np.int64(1), np.int64(9)), Int(1, 9)),
    ((np.float32(0.5), np.float32(2)), Float(0.5, 2.0)),
    ((1e-5, 1e-1, "log-uniform"), Float(1e-5, 1e-1, log=True)),
    ((1e-5, 1e-1, "log"), Float(1e-5, 1e-1, log=True)),
    ((1e-5, 1e-1, "loguniform"), Float(1e-5, 1e-1, log=True)),
    ((0.0, 1.0, "uniform"), Float(0.0, 1.0)),
    ((1, 1024, "log"), Int(1, 1024, log=True)),
    (("a", "b"), Categorical(["a", "b"])),
    (("a", "b", "c"), Categorical(["a", "b", "c"])),
    ((True, False), Categorical([True, False])),
    ((1, 2, 3), Ordinal([1, 2, 3])),
    ([32, 64, 128], Ordinal([32, 64, 128])),
    ([128, 64, 32], Ordinal([128, 64, 32])),
    ([64, 32, 128], Ordinal([32, 64, 128])),
    ([1e-3, 0.1, 1], Ordinal([1e-3, 0.1, 1])),
    ([1, 1.5], Ordinal([1, 1.5])),
    ([1], Categorical([1])),
    (["a", 1, None], Categorical(["a", 1, None])),
    ([True, False], Categorical([True, False])),
    ([1, True], Categorical([1, True])),
    ([0.5, math.inf], Categorical([0.5, math.inf])),
    (np.array([3, 1, 2]), Ordinal([1, 2, 3])),
    (np.array([0.1, 1.0, 10.0]), Ordinal([0.1, 1.0, 10.0])),
    (np.array(["a", "b"]), Categorical(["a", "b"])),
    (range(2, 8, 2), Ordinal([2, 4, 6])),
    ({"b", "a"}, Categorical(["a", "b"])),
    (stats.uniform(loc=0.001, scale=0.009), Float(0.001, 0.001 + 0.009)),
    (stats.uniform(2, 3), Float(2.0, 5.0)),
    (stats.loguniform(1e-4, 1e2), Float(1e-4, 1e2, log=True)),
    (stats.reciprocal(1e-4, 1e2), Float(1e-4, 1e2, log=True)),
    (stats.randint(1, 10), Int(1, 9)),
    (stats.randint(3, 4), Categorical([3])),
    (stats.norm(1, 2), Float(stats.norm(1, 2))),
    (stats.binom(10, 0.3), Int(stats.binom(10, 0.3))),
    (stats.poisson(mu=4), Int(stats.poisson(mu=4))),
    (0.5, Categorical([0.5])),
    ("fixed", Categorical(["fixed"])),
    (None, Categorical([None])),
    (True, Categorical([True])),
    ({"low": 1e-5, "high": 0.1, "log": True}, Float(1e-5, 0.1, log=True)),
    ({"low": 1, "high": 9}, Int(1, 9)),
    ({"low": 1, "high": 9, "step": 2, "default": 3}, Int(1, 9, step=2, default=3)),
    ({"type": "float", "low": 1, "high": 9}, Float(1, 9)),
    ({"choices": ["a", "b"], "default": "b"}, Categorical(["a", "b"], default="b")),
    ({"type": "ordinal", "choices": ["s", "m", "l"], "prior": [1, 2, 1]}, Ordinal(["s", "m", "l"], prior=[1, 2, 1])),
    ({"low": 0.0, "high": 1.0, "prior": {"name": "norm", "args": [0.5, 0.1]}}, Float(0, 1, prior=stats.norm(0.5, 0.1))),
]


@pytest.mark.parametrize(("spec", "expected"), ONE, ids=lambda v: repr(v)[:60])
def test_one_parameter(spec, expected):
    found = Space.parse({"p": spec})["p"]
    assert type(found) is type(expected)
    assert repr(found) == repr(expected)
    assert [type(c) for c in getattr(found, "choices", ())] == [type(c) for c in getattr(expected, "choices", ())]
    assert repr(Space({"p": spec})) == repr(Space({"p": expected}))


@pytest.mark.parametrize("frozen", [stats.norm(5, 30), stats.binom(10, 0.3), stats.uniform(31.5, 97)])
def test_whole_numbers_of_a_distribution_have_a_default(frozen):
    """Those of a distribution without bounds too, which are counted from no lowest one."""
    assert Space({"n": Int(frozen, default=7 if frozen.support()[0] < 7 else 40)}).defaults["n"] in (7, 40)


def test_the_bounds_of_a_uniform_distribution_are_those_of_scipy():
    space = Space.parse({"x": stats.uniform(loc=0.001, scale=0.009)})
    values = [space.decode(np.array([[u]]))[0]["x"] for u in (0.0, 0.5, 1.0)]
    assert values == pytest.approx([0.001, 0.0055, 0.01])


@pytest.mark.parametrize("dimension", ["Real", "Integer", "Categorical"])
def test_dimensions_of_scikit_optimize(dimension):
    body = {"low": 1, "high": 8, "prior": "log-uniform", "transform": None}
    body = {"categories": ("a", "b"), "transform": None} if dimension == "Categorical" else body
    expected = {"Real": Float(1, 8, log=True), "Integer": Int(1, 8, log=True), "Categorical": Categorical(["a", "b"])}
    assert repr(Space.parse({"p": type(dimension, (), body)()})["p"]) == repr(expected[dimension])


def test_a_space_is_itself():
    space = Space({"x": (0.0, 1.0)})
    assert Space.parse(space) is space


@pytest.mark.parametrize("value", VALUES, ids=plain)
def test_any_choice_reaches_the_objective_as_itself(value):
    seen = []
    minimize(lambda trial: seen.append(trial["c"]) or 1.0, {"c": [value, "other"]}, n_trials=2, sampler="grid", seed=0)
    assert any(v is value or (isinstance(value, (list, dict)) and v == value) for v in seen)


def test_one_true_and_the_string_stay_apart(tmp_path):
    values = [1, True, "1", None, (1, 2), Kernel.RBF, Kernel, identity]
    for _ in range(2):
        study = Study({"c": values}, storage=tmp_path / "s.db", sampler="grid", seed=0)
        study.optimize(lambda trial: 1.0, n_trials=20)
        found = [t.params["c"] for t in study.trials]
        assert sorted(map(id, found)) == sorted(map(id, values))


# bounds


@pytest.mark.parametrize(
    "bounds", [[(-2, 2), (0.5, 1)], [[-2, 2], [0.5, 1]], np.array([[-2, 2], [0.5, 1]]), ((-2, 2), (0.5, 1))], ids=plain
)
def test_bounds_are_real_intervals_and_the_objective_gets_an_array(bounds):
    space = Space.parse(bounds)
    assert repr(space) == repr(Space({"x0": Float(-2, 2), "x1": Float(0.5, 1)}))
    assert space.positional
    seen = []
    minimize(lambda x: seen.append(x) or float(x @ x), bounds, n_trials=3, sampler="random", seed=0)
    assert all(isinstance(x, np.ndarray) and x.shape == (2,) and -2 <= x[0] <= 2 and 0.5 <= x[1] <= 1 for x in seen)


def test_bounds_may_have_scales_and_parameters():
    space = Space.parse([(1e-3, 1.0, "log"), Int(1, 4), stats.uniform(0, 2)])
    assert repr(list(space.values())) == "[Float(0.001, 1.0, log=True), Int(1, 4), Float(0.0, 2.0)]"


# scikit-learn's grids


GRIDS = [
    {"svc__kernel": ["linear"], "svc__C": [1, 10, 100]},
    {"svc__kernel": ["rbf"], "svc__C": [1, 1000], "svc__gamma": stats.loguniform(1e-4, 1e-1)},
]


def test_a_grid():
    space = Space.parse({"svc__C": [1, 10], "svc__kernel": ["linear", "rbf"], "pca": [None, "passthrough"]})
    assert list(space) == ["svc__C", "svc__kernel", "pca"]
    assert len(grid_rows(space)) == 8
    assert repr(Space.parse([{"a": [1, 2]}])) == repr(Space.parse({"a": [1, 2]}))


def test_a_list_of_grids_keeps_them_apart():
    space = Space.parse(GRIDS)
    found = space.decode(np.random.default_rng(0).random((200, len(space))))
    linear = [p for p in found if p["svc__kernel"] == "linear"]
    rbf = [p for p in found if p["svc__kernel"] == "rbf"]
    assert {tuple(sorted(p)) for p in linear} == {("svc__C", "svc__kernel")}
    assert {p["svc__C"] for p in linear} == {1, 10, 100}
    assert {tuple(sorted(p)) for p in rbf} == {("svc__C", "svc__gamma", "svc__kernel")}
    assert {p["svc__C"] for p in rbf} == {1, 1000}
    assert all(1e-4 <= p["svc__gamma"] <= 1e-1 for p in rbf)
    assert len(linear) + len(rbf) == 200


@pytest.mark.parametrize(
    ("params", "ok"),
    [
        ({"svc__kernel": "linear", "svc__C": 100}, True),
        ({"svc__kernel": "rbf", "svc__C": 1000, "svc__gamma": 0.01}, True),
        ({"svc__kernel": "linear", "svc__C": 1000}, False),
        ({"svc__kernel": "rbf", "svc__C": 1000}, False),
        ({"svc__kernel": "linear", "svc__C": 1, "svc__gamma": 0.01}, False),
        ({"svc__kernel": "rbf", "svc__C": 100, "svc__gamma": 0.01}, False),
    ],
    ids=plain,
)
def test_membership_in_a_list_of_grids(params, ok):
    assert Space.parse(GRIDS).contains(params) == ok


def test_a_list_of_grids_survives_json_and_the_round_trip():
    space = Space.parse(GRIDS)
    unit = np.random.default_rng(1).random((50, len(space)))
    found = space.decode(unit)
    assert [space.decode(space.encode([p]), activated=True)[0].keys() for p in found] == [p.keys() for p in found]
    assert all(space.contains(p) for p in found)
    assert Space.from_json(json.loads(json.dumps(space.to_json()))).hidden == ("@grid",)


def test_a_grid_search_visits_every_point_of_all_grids_once():
    grids = [
        {"C": [1, 10], "kernel": ["linear"]},
        {"C": [1, 10, 100], "kernel": ["rbf"], "gamma": [0.1, 1.0]},
        {"shrink": [True]},
    ]
    study = minimize(lambda trial: 1.0, grids, n_trials=99, sampler="grid", seed=0)
    found = [tuple(sorted(t.params.items())) for t in study.trials]
    assert len(found) == len(set(found)) == 2 + 6 + 1


def test_grids_that_overlap_count_each_configuration_once():
    space = Space.parse([{"C": [1, 2]}, {"C": [2, 3]}])
    assert Grid().size(space) == 3


# dataclasses


@dataclasses.dataclass
class Settings:
    lr: Annotated[float, Float(1e-5, 1e-1, log=True)]
    units: Annotated[int, Int(16, 64, step=16)] = 32
    activation: Literal["relu", "tanh"] = "relu"
    kernel: Kernel = Kernel.POLY
    bias: bool = True
    momentum: float = Float(0.0, 0.9)
    width: Annotated[float, (0.5, 2.0)] = 1.0
    batch: Literal[32, 64] = 64
    epochs: int = 10
    names: list = dataclasses.field(default_factory=list)


@pytest.mark.parametrize("spec", [Settings, Settings(lr=0.01)], ids=["class", "instance"])
def test_a_dataclass(spec):
    lr = "Float(1e-05, 0.1, log=True)" if spec is Settings else "Float(1e-05, 0.1, log=True, default=0.01)"
    assert {name: repr(p) for name, p in Space.parse(spec).items()} == {
        "lr": lr,
        "units": "Int(16, 64, step=16, default=32)",
        "activation": "Categorical(['relu', 'tanh'], default='relu')",
        "kernel": f"Categorical({[Kernel.RBF, Kernel.POLY]!r}, default={Kernel.POLY!r})",
        "bias": "Categorical([False, True], default=True)",
        "momentum": "Float(0.0, 0.9)",
        "width": "Float(0.5, 2.0, default=1.0)",
        "batch": "Ordinal([32, 64], default=64)",
    }


def test_a_default_of_false_is_kept():
    @dataclasses.dataclass
    class Options:
        bias: bool = False

    assert Space.parse(Options)["bias"].default is False
    assert Space.parse(Options).defaults == {"bias": False}


def test_none_is_a_default_in_every_form():
    @dataclasses.dataclass
    class Options:
        penalty: Literal["l2", None] = None
        rate: Annotated[float | None, Float(0, 1)] = None

    text = "penalty: {choices: [l2, null], default: null}\nrate: {low: 0.0, high: 1.0, default: null}"
    expected = Space({"penalty": Categorical(["l2", None], default=None), "rate": Float(0, 1)})
    described = {"choices": ["l2", None], "default": None}, {"low": 0.0, "high": 1.0, "default": None}
    body = dict(zip(("penalty", "rate"), described, strict=True))
    for spec in (Options, Options(), text, json.dumps(body), body, [body], dict(expected)):
        assert Space.parse(spec) == expected
    assert expected.defaults == {"penalty": None, "rate": 0.5}


# JSON and YAML

TEXT = """
lr: {type: float, low: 1e-5, high: 1e-1, log: true}
units: {low: 16, high: 64, step: 16}
activation: [relu, tanh]
batch: [32, 64]
momentum: {low: 0.0, high: 0.9, when: {activation: relu}}
none: [null, yes, "1", 1]
tiny: [1e-5, 1E+3, .5e1, -2e0]
"""
BODY = {
    "lr": Float(1e-5, 1e-1, log=True),
    "units": Int(16, 64, step=16),
    "activation": Categorical(["relu", "tanh"]),
    "batch": Ordinal([32, 64]),
    "momentum": Float(0.0, 0.9, when={"activation": "relu"}),
    "none": Categorical([None, True, "1", 1]),
    "tiny": Ordinal([-2.0, 1e-5, 5.0, 1000.0]),
}


def test_yaml_text():
    assert repr(Space.parse(TEXT)) == repr(Space(BODY))


@pytest.mark.parametrize("number", ["1e-5", "1E-5", "1.0e-5", "+1e-5", ".1e-4", "1.e-5", "0.00001"])
def test_yaml_reads_numbers_as_people_write_them(number):
    assert Space.parse(f"x: {{low: {number}, high: 1}}")["x"].low == 1e-5


@pytest.mark.parametrize("name", ["1e-5x", "e5", "v1e5"])
def test_yaml_does_not_take_names_for_numbers(name):
    assert Space.parse(f"x: [{name}, b]")["x"].choices == (name, "b")


def json_body():
    return {
        "lr": {"low": 1e-5, "high": 0.1, "log": True},
        "units": {"low": 16, "high": 64, "step": 16},
        "c": ["a", None],
    }


@pytest.mark.parametrize(
    ("name", "dump"),
    [
        ("space.json", json.dumps),
        ("space.yaml", json.dumps),
        (
            "space.yml",
            lambda b: "lr: {low: 1e-5, high: 0.1, log: true}\nunits: {low: 16, high: 64, step: 16}\nc: [a, null]\n",
        ),
    ],
)
@pytest.mark.parametrize("kind", [str, lambda p: p], ids=["str", "Path"])
def test_files(tmp_path, name, dump, kind):
    path = tmp_path / name
    path.write_text(dump(json_body()))
    assert repr(Space.parse(kind(path))) == repr(Space(json_body()))


@pytest.mark.parametrize(
    "text", [json.dumps(json_body()), json.dumps(json_body(), indent=1), "  " + json.dumps(json_body())]
)
def test_json_text(text):
    assert repr(Space.parse(text)) == repr(Space(json_body()))


def test_json_text_of_a_list_of_grids():
    assert Space.parse('[{"a": [1, 2]}, {"b": ["x"]}]').hidden == ("@grid",)


def test_the_outer_form_has_forbidden_combinations():
    text = "parameters: {a: [1, 2], b: {low: 0.0, high: 1.0}}\nforbidden:\n- {a: 2, b: '> 0.5'}\n"
    space = Space.parse(text)
    assert not space.contains({"a": 2, "b": 0.6})
    assert space.contains({"a": 2, "b": 0.4})
    assert space.contains({"a": 1, "b": 0.6})


def test_a_path_with_a_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "s.json").write_text('{"x": [1, 2]}')
    assert list(Space.parse("~/s.json")) == ["x"]


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("x: [1", InvalidValue, "YAML"),
        ("just words", InvalidValue, "'just words'"),
        ("", InvalidValue, "''"),
        ("3", InvalidValue, "'3'"),
        ("x: !!python/object/apply:os.system ['true']", InvalidValue, "python/object"),
        ("x: [1, 2]\nx: [3, 4]", InvalidValue, "'x'"),
        ("x: {low: 0, high: 1, low: 2}", InvalidValue, "'low'"),
        ('{"x": [1], "x": [2]}', InvalidValue, "'x'"),
        ('{"x": NaN}', None, None),
        ('{"x": {"low": NaN, "high": 1}}', InvalidValue, "nan"),
        ("1: [1, 2]", InvalidType, "1"),
    ],
    ids=lambda v: repr(v)[:30],
)
def test_text_that_is_no_space(text, error, words):
    if error is None:
        assert math.isnan(Space.parse(text)["x"].choices[0])
        return
    with pytest.raises(error) as caught:
        Space.parse(text)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["none.yaml", "none.json", "folder.yml"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name):
    (tmp_path / "folder.yml").mkdir()
    with pytest.raises(InvalidValue) as caught:
        Space.parse(str(tmp_path / name))
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(
            b"x: [\xff\xfe]",
            id="bytes",
        ),
        pytest.param(b"x: [1,", id="cut"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, body):
    path = tmp_path / "s.yaml"
    path.write_bytes(body)
    with pytest.raises(InvalidValue) as caught:
        Space.parse(path)
    assert str(path) in str(caught.value)


# one search, however the space is written


@dataclasses.dataclass
class Net:
    lr: Annotated[float, Float(1e-5, 1e-1, log=True)]
    units: Annotated[int, (16, 256)]
    activation: Literal["relu", "tanh", "gelu"]
    batch: Literal[32, 64, 128]


FORMS = {
    "parameters": {
        "lr": Float(1e-5, 1e-1, log=True),
        "units": Int(16, 256),
        "activation": Categorical(["relu", "tanh", "gelu"]),
        "batch": Ordinal([32, 64, 128]),
    },
    "dict": {
        "lr": (1e-5, 1e-1, "log-uniform"),
        "units": (16, 256),
        "activation": ["relu", "tanh", "gelu"],
        "batch": [32, 64, 128],
    },
    "scipy": {
        "lr": stats.loguniform(1e-5, 1e-1),
        "units": stats.randint(16, 257),
        "activation": ("relu", "tanh", "gelu"),
        "batch": np.array([32, 64, 128]),
    },
    "dataclass": Net,
    "yaml": (
        "lr: {low: 1e-5, high: 1e-1, log: true}\nunits: {low: 16, high: 256}\n"
        "activation: [relu, tanh, gelu]\nbatch: [32, 64, 128]\n"
    ),
    "json": '{"lr": {"low": 1e-5, "high": 0.1, "log": true}, "units": {"low": 16, "high": 256},'
    ' "activation": ["relu", "tanh", "gelu"],'
    ' "batch": [32, 64, 128]}',
}


def search(form, sampler):
    study = Study(FORMS[form], sampler=sampler, seed=3)
    study.optimize(lambda p: math.log10(p["lr"]) ** 2 + p["units"] / p["batch"] + len(p["activation"]), n_trials=8)
    return [dict(t.params) for t in study.trials]


@pytest.mark.parametrize("sampler", ["random", "bayes"])
def test_every_form_gives_the_same_suggestions(sampler):
    expected = search("parameters", sampler)
    assert len(expected) == 8
    for form in FORMS:
        assert search(form, sampler) == expected, form


@pytest.mark.parametrize("sampler", ["random", "qmc"])
def test_the_seed_decides(sampler):
    space = Space.parse(FORMS["dict"])
    from welltuned import History

    one, same, other = (
        make_sampler(sampler).suggest(space, History(space), 3, trial_rng(seed, 0)) for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_a_condition_takes_the_name_of_a_choice():
    """A function or an estimator need not be kept in a variable for it; a choice goes before another one's name."""
    space = Space({"loss": Categorical({"squared": abs, "absolute": max}), "d": Float(0, 1, when={"loss": "squared"})})
    assert space.validate({"loss": abs, "d": 0.5}) == {"loss": abs, "d": 0.5}
    with pytest.raises(InvalidValue, match=r"'cubic' is not among .* nor one of their names \['squared'\]"):
        Space({"loss": Categorical({"squared": abs}), "d": Float(0, 1, when={"loss": "cubic"})})


def test_conditions_by_name_or_set_are_stored_as_what_they_mean():
    """A name was lost on the way to the file; a set had another order in each process."""

    def space(when):
        choices = Categorical({"squared": abs, "absolute": max, "other": min})
        return Space({"loss": choices, "d": Float(0, 1, when={"loss": when})})

    assert space("squared") != space("absolute") and space("squared") == space(abs)
    assert space("absolute").to_json()["parameters"]["d"]["when"] == [{"loss": ["absolute"]}]
    assert space({"other", "squared"}).to_json()["parameters"]["d"]["when"] == [{"loss": ["squared", "other"]}]


def test_numbers_of_any_kind_are_read():
    assert Space({"seed": [1, 10**30]})["seed"].choices == (1, 10**30)
    assert isinstance(Space({"n": {"low": np.int64(0), "high": np.int64(9)}})["n"], Int)
