"""Hypothesis strategies for parameters, spaces of any shape, and points of the unit cube."""

from __future__ import annotations

import dataclasses
import enum
import math
import operator

import numpy as np
from hypothesis import Phase, settings
from hypothesis import strategies as st
from scipy import stats

from welltuned import Categorical, Float, Int, Ordinal, Space
from welltuned.space import NO_DEFAULT, codec
from welltuned.space.parameters import Choice


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


def helper(x):
    return x


VALUES = [
    None,
    True,
    False,
    0,
    1,
    "1",
    "a",
    "b",
    "",
    2.5,
    math.inf,
    (1, 2),
    (1, (2, "x")),
    Colour.RED,
    Colour.BLUE,
    int,
    Colour,
    len,
    helper,
    frozenset({3}),
    [4, 5],
    {"k": 1},
]
CONTINUOUS = [
    stats.norm(0.5, 2),
    stats.beta(2, 5),
    stats.expon(scale=3),
    stats.truncnorm(-1, 2),
    stats.cauchy(1, 2),
    stats.uniform(loc=-3, scale=7),
    stats.lognorm(s=0.8, scale=10),
]
DISCRETE = [stats.binom(20, 0.3), stats.poisson(4), stats.randint(-3, 12), stats.geom(0.2), stats.nbinom(5, 0.4)]
COMPARE = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


def steady(max_examples: int, *, shrink: bool = True) -> settings:
    phases = [Phase.explicit, Phase.generate] + [Phase.shrink] * shrink
    return settings(derandomize=True, deadline=None, max_examples=max_examples, database=None, phases=phases)


# not below 1e-9, where scipy's own quantiles of a beta distribution fail
UNIT = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.integers(0, 10**9).map(lambda k: k / 10**9))
# points that UNIT does not draw: a threshold that is a real value itself is a matter of the last digit
BETWEEN = st.integers(0, 40).map(lambda k: (k + math.sqrt(0.5)) / 41)


@st.composite
def floats(draw) -> Float:
    if draw(st.booleans()):
        low = draw(st.sampled_from([1e-8, 1e-5, 1e-3, 0.1, 1.0, 3.7]))
        bounds, log = (low, low * draw(st.sampled_from([2.0, 10.0, 1e3, 1e8]))), True
    else:
        low = draw(st.floats(-1e3, 1e3))
        bounds, log = (low, low + draw(st.floats(1e-3, 1e3))), False
    middle, width = sum(bounds) / 2, bounds[1] - bounds[0]
    prior = draw(st.sampled_from([None, None, stats.norm(middle, width / 4), stats.uniform(bounds[0], width)]))
    return Float(*bounds, log=log, prior=prior)


@st.composite
def stepped_floats(draw) -> Float:
    low, step = draw(st.integers(-20, 20)) / 10, draw(st.sampled_from([0.05, 0.1, 0.25, 1 / 3, 1.0, 3.0]))
    n, rest = draw(st.integers(1, 30)), draw(st.sampled_from([0.0, 0.4]))
    return Float(low, low + step * (n + rest) + 1e-12, step=step)


@st.composite
def ints(draw) -> Int:
    log = draw(st.booleans())
    low = draw(st.integers(1, 50) if log else st.integers(-50, 50))
    width = draw(st.integers(1, 500))
    return Int(low, low + width, log=log, step=draw(st.integers(1, min(width, 9))))


def distributed() -> st.SearchStrategy:
    continuous = st.sampled_from(CONTINUOUS)
    return st.one_of(
        continuous.map(Float),
        st.sampled_from(DISCRETE).map(Int),
        st.sampled_from([stats.norm(5, 30), stats.uniform(loc=31.5, scale=97)]).map(Int),
    )


@st.composite
def choices(draw) -> Categorical | Ordinal:
    index = draw(st.lists(st.integers(0, len(VALUES) - 1), min_size=1, max_size=6, unique=True))
    # weights that sum to 1 exactly
    weights = draw(st.sampled_from([None, [0.5 ** min(i + 1, len(index) - 1) for i in range(len(index))]]))
    values = [VALUES[i] for i in index]
    default = draw(st.sampled_from([NO_DEFAULT, *values]))
    return draw(st.sampled_from([Categorical, Ordinal]))(values, default=default, prior=weights)


def parameters() -> st.SearchStrategy:
    return st.one_of(floats(), stepped_floats(), ints(), distributed(), choices())


def value_at(parameter, u: float):
    return codec.from_unit(parameter, codec.snap(parameter, np.array([u])))[0]


@st.composite
def wanted(draw, parameter):
    """Draw what ``when=`` may ask of a parent."""
    if isinstance(parameter, Choice):
        some = draw(st.lists(st.sampled_from(range(len(parameter.choices))), min_size=1, max_size=3, unique=True))
        values = [parameter.choices[i] for i in some]
        return values if len(values) > 1 or isinstance(values[0], (list, tuple, frozenset)) else values[0]
    real = isinstance(parameter, Float) and parameter.step is None
    value = value_at(parameter, draw(BETWEEN if real else UNIT))
    if isinstance(parameter, Int) and draw(st.booleans()):
        return draw(st.sampled_from([value, [value, value_at(parameter, draw(UNIT))]]))
    return f"{draw(st.sampled_from(['>=', '<=', '>', '<', '!=']))} {value!r}"


@st.composite
def clauses(draw, parents: dict) -> dict:
    names = draw(st.lists(st.sampled_from(sorted(parents)), min_size=1, max_size=2, unique=True))
    return {name: draw(wanted(parents[name])) for name in names}


@st.composite
def spaces(draw, *, forbidden: bool = True) -> Space:
    """Draw a space of up to six parameters, each of which may depend on any before it; the order is shuffled."""
    found: dict = {}
    for i in range(draw(st.integers(1, 6))):
        parameter = draw(parameters())
        if found and draw(st.booleans()):
            when = draw(st.one_of(clauses(found), st.lists(clauses(found), min_size=1, max_size=2)))
            parameter = (
                dataclasses.replace(
                    parameter, low=parameter.distribution.frozen, high=None, distribution=None, when=when
                )
                if getattr(parameter, "distribution", None)
                else dataclasses.replace(parameter, when=when)
            )
        found[f"p{i}"] = parameter
    banned = draw(st.lists(clauses(found), max_size=2)) if forbidden else []
    return Space({name: found[name] for name in draw(st.permutations(sorted(found)))}, forbidden=banned)


@st.composite
def spaces_and_points(draw, **options) -> tuple[Space, np.ndarray]:
    space = draw(spaces(**options))
    rows = draw(st.lists(st.lists(UNIT, min_size=len(space), max_size=len(space)), min_size=1, max_size=4))
    return space, np.array(rows)


def same_value(a, b) -> bool:
    return a is b or (type(a) is type(b) and a == b)


def asks(want, value) -> bool:
    """Answer one entry of ``when=`` for a value, in plain Python."""
    if isinstance(want, str) and want.split() and want.split()[0] in COMPARE and not isinstance(value, str):
        sign, number = want.split()
        return bool(COMPARE[sign](value, float(number)))
    if same_value(want, value):
        return True
    return any(same_value(w, value) for w in want) if isinstance(want, (list, tuple, set, frozenset)) else False


def holds(when, params: dict) -> bool:
    """Evaluate ``when=`` on a configuration, in plain Python: an independent reading of what it means."""
    clauses_ = [when] if isinstance(when, dict) else when
    return any(
        all(parent in params and asks(want, params[parent]) for parent, want in clause.items()) for clause in clauses_
    )
