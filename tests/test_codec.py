"""The road to the unit cube and back, for parameters and whole spaces."""

from __future__ import annotations

import copy
import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from names import plain
from strategies import (
    CONTINUOUS,
    DISCRETE,
    UNIT,
    VALUES,
    choices,
    floats,
    holds,
    ints,
    parameters,
    same_value,
    spaces,
    spaces_and_points,
    steady,
    stepped_floats,
    value_at,
)
from welltuned import Categorical, Float, Int, InvalidValue, Ordinal, Space
from welltuned.samplers.novel import draw as draw_rows
from welltuned.samplers.novel import grid_rows
from welltuned.space import NO_DEFAULT, codec
from welltuned.space.parameters import Choice


def cells_of(parameter):
    """List all values of a finite parameter, in plain Python."""
    if isinstance(parameter, Choice):
        return list(parameter.choices)
    n = math.floor((parameter.high - parameter.low) / parameter.step + 1e-9) + 1
    return [parameter.low + k * parameter.step for k in range(n)]


def is_step(parameter):
    return not isinstance(parameter, Choice) and (isinstance(parameter, Int) or parameter.step is not None)


# one parameter


@steady(120)
@given(parameters(), UNIT)
def test_decode_gives_a_value_of_the_parameter(parameter, u):
    value = value_at(parameter, u)
    if isinstance(parameter, Choice):
        assert any(value is c for c in parameter.choices)
    else:
        assert type(value) is (int if isinstance(parameter, Int) else float)
        assert math.isfinite(value)
        assert parameter.low <= value <= parameter.high


@steady(120)
@given(parameters(), UNIT)
def test_encode_undoes_decode(parameter, u):
    value = value_at(parameter, u)
    back = codec.from_unit(parameter, codec.to_unit(parameter, [value]))[0]
    if isinstance(parameter, Float) and parameter.step is None:
        assert back == pytest.approx(value, rel=1e-6, abs=1e-9)
    else:
        assert same_value(back, value)


@steady(100)
@given(floats(), UNIT)
def test_decode_undoes_encode_for_real_numbers(parameter, u):
    back = codec.to_unit(parameter, codec.from_unit(parameter, np.array([u])))[0]
    assert back == pytest.approx(u, abs=1e-9)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(("low", "high"), [(1e-2, 0.5), (1e-5, 0.1), (0.3, 0.9), (1e-9, 1e12), (0.1, 0.1 + 0.2)])
def test_the_ends_of_a_range_are_as_they_were_written(low, high, log):
    parameter = Float(low, high, log=log)
    assert codec.from_unit(parameter, np.array([0.0, 1.0])) == [low, high]
    space = Space({"x": parameter, "n": Int(1, 9, log=log)})
    assert space.decode(np.array([[0.0, 0.0], [1.0, 1.0]])) == [{"x": low, "n": 1}, {"x": high, "n": 9}]


@pytest.mark.parametrize("frozen", CONTINUOUS, ids=lambda d: d.dist.name)
def test_quantiles_are_the_scale_of_a_distribution(frozen):
    u = np.linspace(0.01, 0.99, 21)
    np.testing.assert_allclose(codec.from_unit(Float(frozen), u), frozen.ppf(u))
    np.testing.assert_allclose(codec.to_unit(Float(frozen), frozen.ppf(u)), u, atol=1e-12)


@pytest.mark.parametrize("frozen", DISCRETE, ids=lambda d: d.dist.name)
def test_a_discrete_distribution_gives_every_value_its_probability(frozen):
    u = (np.arange(20_000) + 0.5) / 20_000
    values, counts = np.unique(codec.from_unit(Int(frozen), u), return_counts=True)
    np.testing.assert_allclose(counts / len(u), frozen.pmf(values), atol=1e-3)


@steady(120)
@given(parameters(), UNIT)
def test_snap_is_idempotent_and_keeps_the_value(parameter, u):
    once = codec.snap(parameter, np.array([u]))
    np.testing.assert_array_equal(codec.snap(parameter, once), once)
    assert same_value(codec.from_unit(parameter, once)[0], codec.from_unit(parameter, np.array([u]))[0])


@steady(100)
@given(
    st.one_of(
        floats(), stepped_floats(), ints(), st.sampled_from([Float(d) for d in CONTINUOUS] + [Int(d) for d in DISCRETE])
    ),
    st.lists(UNIT, min_size=2, max_size=8),
)
def test_numbers_grow_with_the_unit_coordinate(parameter, us):
    values = codec.numbers(parameter, np.sort(us))
    assert (np.diff(values) >= 0).all()


@steady(60)
@given(st.one_of(stepped_floats(), ints(), choices()))
def test_every_value_of_a_finite_parameter_owns_a_cell(parameter):
    values = cells_of(parameter)
    u = codec.to_unit(parameter, values)
    assert codec.cells(parameter) == len(values)
    assert (u > 0).all()
    assert (u < 1).all()
    assert (np.diff(u) > 0).all()
    for found, value in zip(codec.from_unit(parameter, u), values, strict=True):
        assert found is value if isinstance(parameter, Choice) else found == pytest.approx(value)


@steady(60)
@given(st.integers(1, 12))
def test_choices_have_cells_of_equal_width(n):
    u = (np.arange(1000 * n) + 0.5) / (1000 * n)
    counts = np.bincount(codec.from_unit(Categorical(range(n)), u), minlength=n)
    assert (counts == 1000).all()


@steady(60)
@given(st.one_of(floats(), stepped_floats(), ints()))
def test_levels_of_a_number_include_both_ends(parameter):
    values = codec.from_unit(parameter, codec.levels(parameter, 5))
    n = codec.cells(parameter)
    last = parameter.high if n is None else parameter.low + (n - 1) * parameter.step
    assert len(values) <= 5
    assert values[0] == pytest.approx(parameter.low)
    assert values[-1] == pytest.approx(last)


@steady(60)
@given(parameters(), st.lists(UNIT, min_size=1, max_size=5))
def test_priors_stay_within_the_parameter(parameter, us):
    u = codec.apply_prior(parameter, np.array(us))
    assert ((u >= 0) & (u <= 1)).all()
    assert Space({"p": parameter}).contains({"p": value_at(parameter, u[0])})


def test_draws_follow_the_prior_of_a_number():
    parameter = Float(0.0, 10.0, prior=stats.norm(3, 1))
    values = codec.from_unit(parameter, codec.apply_prior(parameter, (np.arange(5000) + 0.5) / 5000))
    assert stats.kstest(values, stats.truncnorm(-3, 7, loc=3).cdf).statistic < 0.01


@pytest.mark.parametrize(
    ("parameter", "expected"),
    [
        (Int(0, 4, prior=stats.randint(0, 5)), [0.2] * 5),
        (Int(0, 4, prior=stats.uniform(-10, 20)), [0.2] * 5),
        (Int(0, 10, step=3, prior=stats.uniform(-10, 30)), [0.25] * 4),
        (Float(0.0, 1.0, step=0.25, prior=stats.uniform(-10, 20)), [0.2] * 5),
        (Int(0, 5, prior=stats.poisson(1)), stats.poisson(1).pmf(range(6)) / stats.poisson(1).cdf(5)),
        (Int(1, 2, prior=stats.binom(2, 0.5)), [2 / 3, 1 / 3]),
    ],
)
def test_a_prior_counts_as_much_at_the_first_and_the_last_step_as_between_them(parameter, expected):
    values = codec.from_unit(parameter, codec.apply_prior(parameter, (np.arange(4000) + 0.5) / 4000))
    _, counts = np.unique(values, return_counts=True)
    assert counts / 4000 == pytest.approx(expected, abs=2e-3)


def test_draws_follow_the_weights_of_choices():
    parameter = Categorical(list("abc"), prior=[1, 0, 3])
    values = codec.from_unit(parameter, codec.apply_prior(parameter, (np.arange(4000) + 0.5) / 4000))
    assert [values.count(c) for c in "abc"] == [1000, 0, 3000]


# spaces


@steady(60)
@given(spaces_and_points())
def test_activate_is_idempotent(case):
    space, rows = case
    once = space.activate(rows)
    np.testing.assert_array_equal(space.activate(once), once)


@steady(60)
@given(spaces_and_points())
def test_a_row_need_not_be_snapped_before_it_is_decoded(case):
    space, rows = case
    set_all = np.where(np.isnan(rows), 0.5, rows)
    switched = space.switch_off(set_all.copy())
    np.testing.assert_array_equal(np.isnan(switched), np.isnan(space.activate(rows)))
    assert space.decode(switched, activated=True) == space.decode(rows)


@steady(60)
@given(spaces_and_points())
def test_a_parameter_is_present_exactly_when_its_condition_holds(case):
    space, rows = case
    for params in space.decode(rows):
        for name, parameter in space.items():
            assert (name in params) == (parameter.when is None or holds(parameter.when, params))


@steady(60)
@given(spaces_and_points())
def test_decoded_points_are_valid_unless_forbidden(case):
    space, rows = case
    allowed = space.feasible(space.activate(rows))
    for ok, params in zip(allowed, space.decode(rows), strict=True):
        assert ok == (not any(holds(f, params) for f in space.forbidden))
        assert space.contains(params) == ok


@steady(60)
@given(spaces_and_points(forbidden=False))
def test_encode_undoes_decode_for_spaces(case):
    space, rows = case
    once = space.decode(rows)
    again = space.decode(space.encode(once), activated=True)
    for a, b in zip(once, again, strict=True):
        assert a.keys() == b.keys()
        for name, value in a.items():
            if isinstance(value, float) and not isinstance(space[name], Choice):
                assert b[name] == pytest.approx(value, rel=1e-6, abs=1e-9)
            else:
                assert same_value(b[name], value)


@steady(60)
@given(spaces_and_points(forbidden=False))
def test_validate_returns_what_the_space_proposes(case):
    space, rows = case
    for params in space.decode(rows):
        assert repr(space.validate(params)) == repr(params)
        assert list(space.validate(dict(reversed(params.items())))) == list(params)


@pytest.mark.parametrize("values", [(1, 1.0, True), (0.0, -0.0), ("1", 1)])
def test_the_key_asked_for_last_is_not_that_of_another_value_which_python_calls_equal(values):
    space = Space({"x": [1, 2], "y": (-1.0, 1.0)})
    assert len({space.key({"x": 1, "y": value}) for value in values}) == len(values)


def test_a_key_follows_what_changes_in_place():
    space, params = Space({"x": (0.0, 1.0)}), {"x": 0.25}
    first = space.key(params)
    assert space.key(params) == first
    params["x"] = 0.5
    assert space.key(params) == space.key({"x": 0.5}) != first
    held = {"x": [1]}  # no value of the space, but it has a key
    first = space.key(held)
    held["x"].append(2)
    assert space.key(held) != first


@steady(60)
@given(spaces_and_points(forbidden=False))
def test_keys_are_equal_exactly_when_configurations_are(case):
    space, rows = case
    found = space.decode(rows)
    for a in found:
        for b in found:
            assert (space.key(a) == space.key(b)) == (repr(a) == repr(b))


@steady(60)
@given(spaces_and_points(forbidden=False))
def test_labels_survive_json(case):
    space, rows = case
    for params in space.decode(rows):
        stored = json.loads(json.dumps(space.to_labels(params), allow_nan=False))
        back = space.from_labels(stored)
        assert back.keys() == params.keys()
        assert all(same_value(back[name], value) for name, value in params.items())


@steady(100, shrink=False)
@given(spaces_and_points())
def test_a_space_survives_json(case):
    space, rows = case
    body = json.loads(json.dumps(space.to_json()))
    back = Space.from_json(body)
    assert back.to_json() == body
    assert list(back) == list(space)
    for a, b in zip(space.decode(rows), back.decode(rows), strict=True):
        assert space.to_labels(a) == b
    np.testing.assert_array_equal(back.feasible(back.activate(rows)), space.feasible(space.activate(rows)))


@steady(40)
@given(spaces())
def test_equal_spaces_have_equal_hashes(space):
    twin = Space(dict(space), forbidden=space.forbidden)
    assert twin == space
    assert hash(twin) == hash(space)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(Float(1, 10), Float(1, 10, log=True)),
        pytest.param(Int(1, 10), Int(1, 10, log=True)),
        pytest.param(Float(0, 4), Float(0, 4, step=1)),
        (Float(0, 4), Float(0, 5)),
        (Int(0, 4), Float(0, 4)),
        (Float(0, 4), Float(0, 4, default=1)),
        (Categorical([None, 2]), Categorical([None, 2], default=None)),
        (Categorical([1, 2]), Ordinal([1, 2])),
        (Categorical([1, 2]), Categorical([2, 1])),
        (Categorical([1, 2]), Categorical([1, 2], prior=[1, 2])),
        (Float(stats.norm(0, 1)), Float(stats.norm(0, 2))),
        (Int(0, 4), Int(0, 4, step=2)),
    ],
    ids=plain,
)
def test_different_spaces_differ(one, other):
    a, b = Space({"x": one}), Space({"x": other})
    assert a != b
    assert Space.from_json(a.to_json()) == a
    assert Space.from_json(b.to_json()) == b


@pytest.mark.parametrize(
    "parameter",
    [
        pytest.param(Float(1e-4, 1.0, log=True)),
        pytest.param(Int(1, 1000, log=True)),
        pytest.param(Float(0, 9, step=1)),
        Int(2, 64, step=2),
    ],
    ids=plain,
)
def test_json_keeps_the_scale(parameter):
    back = Space.from_json(json.loads(json.dumps(Space({"x": parameter}).to_json())))["x"]
    u = np.linspace(0, 1, 9)
    assert codec.from_unit(back, u) == codec.from_unit(parameter, u)


def test_weights_survive_json():
    space = Space({"c": Categorical(range(6), prior=[1] * 6)})
    assert Space.from_json(space.to_json()) == space


@pytest.mark.parametrize("wanted", [np.int64(3), [np.int64(3), 4], (np.int64(3),)], ids=plain)
def test_a_condition_by_a_numpy_number_survives_json(wanted):
    space = Space({"a": Int(0, 9), "b": Int(0, 9, when={"a": wanted})})
    assert Space.from_json(json.loads(json.dumps(space.to_json()))).contains({"a": 3, "b": 1})


def test_a_child_of_an_inactive_parent_is_inactive():
    space = Space(
        {
            "d": Float(0, 1, when={"c": ">= 0"}),
            "c": Int(0, 9, when={"b": True}),
            "b": Categorical([True, False], when={"a": "on"}),
            "a": Categorical(["on", "off"]),
        }
    )
    shapes = {tuple(sorted(p)) for p in space.decode(np.random.default_rng(0).random((64, 4)))}
    assert shapes == {("a",), ("a", "b"), ("a", "b", "c", "d")}
    assert space.contains({"a": "off"})
    assert not space.contains({"a": "off", "d": 0.5})
    assert not space.contains({"a": "on", "b": False, "c": 3, "d": 0.5})


@pytest.mark.parametrize("depth", [1, 5, 40])
def test_conditions_may_be_deep(depth):
    chain = {f"p{i}": Categorical([0, 1], when={f"p{i - 1}": 1} if i else None) for i in range(depth)}
    space = Space(dict(reversed(chain.items())))
    assert [len(space.decode(np.full((1, depth), u))[0]) for u in (0.0, 1.0)] == [1, depth]


@pytest.mark.parametrize(
    ("parent", "value"),
    [
        pytest.param(Float(0, 1, step=0.1), 0.3),
        (Float(1e-3, 1e3, log=True), 1.0),
        pytest.param(Float(1e-3, 1e3, log=True), 7.0),
        (Float(0.1, 1.7), 0.3),
    ],
    ids=plain,
)
def test_a_condition_on_an_exact_real_value_holds_for_that_value(parent, value):
    space = Space({"x": parent, "y": Int(0, 3, when={"x": value})})
    assert space.contains({"x": value, "y": 1})


@pytest.mark.parametrize("value", [1.0, pytest.param(3.0), 7.0, 0.3])
def test_a_comparison_is_exact_at_its_threshold(value):
    space = Space({"x": Float(1e-3, 1e3, log=True), "y": Int(0, 3, when={"x": f">= {value}"})})
    assert space.contains({"x": value, "y": 1})
    assert not space.contains({"x": value * (1 - 1e-9)} | {"y": 1})


@pytest.mark.parametrize("value", [0.2, 0.5, pytest.param(0.3), pytest.param(0.7), pytest.param(0.6)])
def test_a_step_written_by_hand_is_the_step_that_is_proposed(value):
    space = Space({"x": Float(0, 1, step=0.1)})
    proposed = space.decode(space.encode([{"x": value}]), activated=True)[0]
    assert space.key(space.validate({"x": value})) == space.key(proposed)


@steady(60)
@given(spaces_and_points(forbidden=False), st.integers(0, 5), UNIT)
def test_constraints_are_respected(case, which, u):
    space, rows = case
    name = list(space)[which % len(space)]
    threshold = repr(value_at(space[name], u))
    constrained = Space(dict(space), constraints=[lambda p: repr(p.get(name)) != threshold])
    for params in space.decode(rows):
        assert constrained.allows(params) == (repr(params.get(name)) != threshold)
        assert constrained.contains(params) == constrained.allows(params)


@steady(40)
@given(spaces(), st.integers(0, 1000))
def test_draws_are_allowed_configurations(space, seed):
    try:
        rows = draw_rows(space, 8, np.random.default_rng(seed), batches=5)
    except InvalidValue:
        assume(False)
    for params in space.decode(rows, activated=True):
        assert space.contains(params)
        assert not any(holds(f, params) for f in space.forbidden)


def test_grid_rows_hold_each_allowed_configuration_once():
    space = Space(
        {"a": Int(0, 3), "b": Categorical(["x", "y"], when={"a": ">= 2"}), "c": Float(0, 1, step=0.5)},
        forbidden=[{"a": 0, "c": "> 0.7"}],
        constraints=[lambda p: p["c"] != 0.5],
    )
    found = [tuple(p.values()) for p in space.decode(grid_rows(space), activated=True)]
    expected = {(0, 0.0), (1, 0.0), (1, 1.0)} | {(a, b, c) for a in (2, 3) for b in "xy" for c in (0.0, 1.0)}
    assert len(found) == len(set(found))
    assert set(found) == expected


@pytest.mark.parametrize("kind", [Categorical, Ordinal])
def test_any_value_can_be_a_choice_and_comes_back_as_itself(kind):
    parameter = kind(VALUES)
    back = codec.from_unit(parameter, codec.to_unit(parameter, VALUES))
    assert all(a is b for a, b in zip(back, VALUES, strict=True))
    labels = [(type(label), label) for label in parameter.labels]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize(
    "values",
    [
        ["(1,)", (1,)],
        [(1,), "(1,)"],
        pytest.param(["(1,)", "(1,)#2", (1,)]),
        ["(1,)#1", "(1,)", (1,)],
        [1, True, "1", "True", 1.5],
        ["nan", math.nan],
        ["int", int],
        [lambda: 1, lambda: 2],
        ["None", None],
    ],
    ids=plain,
)
def test_labels_are_distinct(values):
    labels = Categorical(values).labels
    assert len({(type(label), label) for label in labels}) == len(values)


def test_labels_of_functions_hold_no_address():
    class Plain:
        pass

    assert not any("0x" in str(label) for label in Categorical([Plain(), Plain(), print]).labels)


@pytest.mark.parametrize("unit", [np.full((1, 2), np.nan), np.array([[-0.2, 1.3]])])
def test_points_outside_the_cube_are_brought_back(unit):
    space = Space({"x": Float(0, 1), "c": ["a", "b", "c"]})
    assert space.contains(space.decode(unit)[0])


def test_defaults_make_an_allowed_configuration():
    space = Space(
        {"x": Float(0.0, 1.0, default=0.1), "c": Categorical(["a", "b"], default="b"), "y": Int(0, 10, when={"c": "a"})}
    )
    assert space.defaults == {"x": 0.1, "c": "b"}
    assert Space({"x": Float(0.0, 1.0)}).defaults is None
    assert Space({"x": Float(0.0, 1.0, default=0.1)}, forbidden=[{"x": "< 0.5"}]).defaults is None


def test_each_branch_starts_with_its_own_defaults():
    """One without any, such as ``plain``, has nothing to say, nor has another kernel of the same machine."""
    space = Space(
        {
            "model": ["forest", "svm", "plain"],
            "trees": Int(5, 100, default=50, when={"model": "forest"}),
            "C": Float(1e-3, 1e3, log=True, default=1.0, when={"model": "svm"}),
            "kernel": Categorical(["linear", "rbf", "poly"], default="rbf", when={"model": "svm"}),
            "gamma": Float(1e-5, 10.0, log=True, default=0.1, when={"kernel": ["rbf", "poly"]}),
            "degree": Int(2, 5, default=3, when={"kernel": "poly"}),
            "shift": Float(0.0, 1.0, when={"model": "plain"}),
        }
    )
    forest, svm = space.starts
    assert forest == space.defaults == {"model": "forest", "trees": 50}
    assert svm == {"model": "svm", "C": 1.0, "kernel": "rbf", "gamma": 0.1}
    assert Space(dict(space), forbidden=[{"kernel": "rbf"}]).starts == (forest,)
    by_way = Space({n: p for n, p in space.items() if n not in ("C", "shift")})  # of its own parent
    assert by_way.starts == (forest, {"model": "svm", "kernel": "rbf", "gamma": 0.1})
    grids = Space.parse([{"x": Float(0, 1, default=0.3)}, {"x": Float(0, 1, default=0.7), "y": ["a"]}, {"z": [1, 2]}])
    assert grids.starts == ({"x": 0.3}, {"x": 0.7, "y": "a"})
    # what only adds to the defaults is no other branch: ten switches would be ten trials
    switch = {"dropout": [False, True], "rate": Float(0.1, 0.9, default=0.5, when={"dropout": True})}
    assert Space(switch).starts == ({"dropout": False},)
    assert Space({"model": ["a", "b"], "x": Float(0, 1, when={"model": "b"})}).starts == ()


def test_many_branches_are_looked_at_together(monkeypatch):
    """One by one, a few hundred of them take a minute."""
    models, rows = [f"m{i}" for i in range(40)], []
    space = Space({"model": models, **{f"x_{m}": Float(0, 1, default=0.5, when={"model": m}) for m in models}})
    activate = Space.activate
    monkeypatch.setattr(Space, "activate", lambda space, unit: (rows.append(len(unit)), activate(space, unit))[1])
    assert [s["model"] for s in space.starts] == models
    assert rows == [1, 41]  # the defaults, and all others with them


@pytest.mark.parametrize("kind", [Categorical, Ordinal])
@pytest.mark.parametrize(
    "values", [["l1", None, "l2"], {"some": "l1", "none": None}, {None: "l1", "l1": None}], ids=repr
)
def test_none_may_be_the_default_of_choices(kind, values):
    """``default=None`` said that there is none, so that a search began with another choice."""
    one, none = Space({"x": kind(values, default=None)}), Space({"x": kind(values)})
    assert one.defaults == {"x": None} and one["x"].default is None
    assert none.defaults is None and none["x"].default is NO_DEFAULT
    assert one != none and repr(one["x"]) == f"{repr(none['x'])[:-1]}, default=None)"
    for copied in (copy.deepcopy, lambda space: pickle.loads(pickle.dumps(space))):
        assert (copied(one)["x"], copied(none)["x"]) == (one["x"], none["x"])
        assert copied(none)["x"].default is NO_DEFAULT
    for space in (one, none):
        body = json.loads(json.dumps(space.to_json()))
        assert Space.from_json(body) == space
        assert Space.from_json(body).defaults == (space.defaults and space.to_labels(space.defaults))


def test_none_where_it_is_no_choice_is_no_default():
    for kind, *arguments in ((Float, 0, 1), (Int, 0, 9), (Categorical, ["a", "b"]), (Ordinal, ["a", "b"])):
        parameter = kind(*arguments, default=None)
        assert parameter == kind(*arguments) and parameter.default is NO_DEFAULT
        assert "default" not in repr(parameter)
        # as versions that know no other default than a value have it
        assert "default" not in Space({"x": parameter}).to_json()["parameters"]["x"]


def test_what_is_new_in_a_space_is_filled_with_defaults_alone():
    """A choice that has None among others was taken to have been None all along."""
    old = {"x": 0.5}
    assert Space({"x": Float(0, 1), "c": Categorical(["a", None])}).filled(old) == old
    assert Space({"x": Float(0, 1), "c": Categorical(["a", None], default=None)}).filled(old) == {"x": 0.5, "c": None}


def test_without_a_default_an_unordered_choice_is_the_first_one():
    """It has no middle; a search would begin with ``booster="dart"``, which nobody means by the defaults."""
    space = Space(
        {
            "lr": Float(0.0, 1.0, default=0.1),
            "booster": Categorical(["gbtree", "dart", "gblinear"]),
            "batch": Ordinal([16, 32, 64]),
            "n": Int(1, 9),
            "l2": Float(0.0, 1.0, when={"booster": "gbtree"}),
        }
    )
    assert space.defaults == {"lr": 0.1, "booster": "gbtree", "batch": 32, "n": 5, "l2": 0.5}
    weighted = Space({"x": Float(0.0, 1.0, default=0.1), "c": Categorical(["a", "b"], prior=[0.1, 0.9])})
    assert weighted.defaults == {"x": 0.1, "c": "a"}
