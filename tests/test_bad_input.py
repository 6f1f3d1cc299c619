"""Bad input is refused at the door, with an error of our own family that names the value."""

from __future__ import annotations

import math
import re
import sqlite3
import time

import numpy as np
import pytest
from scipy import stats

from names import plain
from welltuned import (
    CMAES,
    Bayes,
    Categorical,
    ExpectedGain,
    Float,
    Gradient,
    Grid,
    Halving,
    Int,
    InvalidType,
    InvalidValue,
    LeaseLost,
    MaxCost,
    Median,
    NoCompletedTrial,
    Ordinal,
    Patience,
    Race,
    Random,
    Space,
    State,
    StorageError,
    Study,
    StudyStopped,
    Target,
    WelltunedError,
    maximize,
    minimize,
)
from welltuned.storage import SQLiteStorage
from welltuned.storage.schema import VERSION

HUGE = 10**400
SPACE = {"x": Float(0.0, 1.0), "c": Categorical(["a", "b"])}


def row(words, call, error=InvalidValue):
    return pytest.param(words, call, error)


def refused(words, call, error):
    with pytest.raises(WelltunedError) as caught:
        call()
    assert isinstance(caught.value, error)
    assert isinstance(caught.value, (ValueError, TypeError, RuntimeError))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value).strip()
    return caught.value


def name_rows(rows):
    return [
        pytest.param(*r.values, marks=r.marks, id=f"{i}-{re.sub(r'[^A-Za-z0-9_.=]+', ' ', r.values[0]).strip()}")
        for i, r in enumerate(rows)
    ]


def table(*rows):
    return pytest.mark.parametrize(("words", "call", "error"), name_rows(rows))


@table(
    row("low=5.0", lambda: Float(5, 1)),
    row("1.0", lambda: Float(1, 1)),
    row("low=0.0", lambda: Float(0, 1, log=True)),
    row("low=-1.0", lambda: Float(-1, 1, log=True)),
    row("low=nan", lambda: Float(math.nan, 1)),
    row("high=inf", lambda: Float(0, math.inf)),
    row("low=-inf", lambda: Float(-math.inf, 0)),
    row("low='0'", lambda: Float("0", 1), InvalidType),
    row("high=None", lambda: Float(0), InvalidType),
    row("high=True", lambda: Float(0, True), InvalidType),
    row("low=[0, 1]", lambda: Float([0, 1]), InvalidType),
    row("low=1j", lambda: Float(1j, 2), InvalidType),
    row("high=1000", lambda: Float(0, HUGE)),
    row(
        "-1e+308",
        lambda: Float(-1e308, 1e308),
    ),
    row("log='yes'", lambda: Float(1, 2, log="yes"), InvalidType),
    row("step=0.0", lambda: Float(0, 1, step=0)),
    row("step=-0.1", lambda: Float(0, 1, step=-0.1)),
    row("step=2.0", lambda: Float(0, 1, step=2)),
    row("step=nan", lambda: Float(0, 1, step=math.nan)),
    row("step=1e-300", lambda: Float(0, 1e300, step=1e-300)),
    row("step=1e-17", lambda: Float(0, 1, step=1e-17)),
    row("lognorm(s=300)", lambda: Float(stats.lognorm(s=300))),
    row("cauchy(0, 1e+300)", lambda: Int(stats.cauchy(0, 1e300))),
    row("step='a'", lambda: Float(0, 1, step="a"), InvalidType),
    row("step=0.5", lambda: Float(1, 2, step=0.5, log=True)),
    row("default=2.0", lambda: Float(0, 1, default=2)),
    row("default=nan", lambda: Float(0, 1, default=math.nan)),
    row("default='a'", lambda: Float(0, 1, default="a"), InvalidType),
    row("default=0.25", lambda: Float(0, 1, step=0.1, default=0.25)),
    row("when={}", lambda: Float(0, 1, when={}), InvalidType),
    row("when='x'", lambda: Float(0, 1, when="x"), InvalidType),
    row("when=[]", lambda: Float(0, 1, when=[]), InvalidType),
    row("when=[1]", lambda: Float(0, 1, when=[1]), InvalidType),
    row("prior=0.5", lambda: Float(0, 1, prior=0.5), InvalidType),
    row("norm", lambda: Float(0, 1, prior=stats.norm), InvalidType),
    row(
        "norm(100",
        lambda: Float(0, 1, prior=stats.norm(100, 0.1)),
    ),
    row("high=3", lambda: Float(stats.norm(0, 1), 3)),
    row("binom(5", lambda: Float(stats.binom(5, 0.5))),
    row("log", lambda: Float(stats.norm(0, 1), log=True)),
    row("norm(0, -1)", lambda: Float(stats.norm(0, -1))),
)
def test_float(words, call, error):
    refused(words, call, error)


@table(
    row("low=5", lambda: Int(5, 1)),
    row("3", lambda: Int(3, 3)),
    row("low=0", lambda: Int(0, 9, log=True)),
    row("low=0.5", lambda: Int(0.5, 3)),
    row("high=inf", lambda: Int(0, math.inf)),
    row("high=nan", lambda: Int(0, math.nan)),
    row("high='3'", lambda: Int(0, "3"), InvalidType),
    row("low=False", lambda: Int(False, 3), InvalidType),
    row("high=None", lambda: Int(0), InvalidType),
    row("high=1000", lambda: Int(0, HUGE)),
    row("step=0", lambda: Int(0, 9, step=0)),
    row("step=1.5", lambda: Int(0, 9, step=1.5)),
    row("step=10", lambda: Int(0, 9, step=10)),
    row("step=None", lambda: Int(0, 9, step=None), InvalidType),
    row("default=10", lambda: Int(0, 9, default=10)),
    row("default=2.5", lambda: Int(0, 9, default=2.5)),
    row("default=3", lambda: Int(0, 9, step=2, default=3)),
    row("log=1", lambda: Int(1, 9, log=1), InvalidType),
    row("prior=[1, 2]", lambda: Int(0, 9, prior=[1, 2]), InvalidType),
    row("step", lambda: Int(stats.binom(5, 0.5), step=2)),
)
def test_int(words, call, error):
    refused(words, call, error)


@pytest.mark.parametrize("kind", [Categorical, Ordinal])
@table(
    row("empty", lambda kind: kind([])),
    row("empty", lambda kind: kind({})),
    row("choices='abc'", lambda kind: kind("abc"), InvalidType),
    row("choices=3", lambda kind: kind(3), InvalidType),
    row("choices=None", lambda kind: kind(None), InvalidType),
    row("'a'", lambda kind: kind(["a", "b", "a"])),
    row("nan", lambda kind: kind([math.nan, math.nan])),
    row("default='c'", lambda kind: kind(["a", "b"], default="c")),
    row("default=True", lambda kind: kind([1, 2], default=True)),
    row("prior=[1.0]", lambda kind: kind(["a", "b"], prior=[1])),
    row("-1.0", lambda kind: kind(["a", "b"], prior=[2, -1])),
    row("prior=[0.0, 0.0]", lambda kind: kind(["a", "b"], prior=[0, 0])),
    row("prior=nan", lambda kind: kind(["a", "b"], prior=[1, math.nan])),
    row("prior='x'", lambda kind: kind(["a", "b"], prior=["x", 1]), InvalidType),
    row("prior=0.5", lambda kind: kind(["a", "b"], prior=0.5), InvalidType),
    row(
        "norm",
        lambda kind: kind(["a", "b"], prior=stats.norm(0, 1)),
        InvalidType,
    ),
    row("when=3", lambda kind: kind(["a"], when=3), InvalidType),
    row("('k',)", lambda kind: kind({("k",): 1}), InvalidType),
)
def test_choices(kind, words, call, error):
    refused(words, lambda: call(kind), error)


def child(when, parent=None):
    return Space({"p": parent or Int(0, 9), "q": Float(0, 1, when=when)})


@table(
    row("{}", lambda: Space({})),
    row("list", lambda: Space([("x", (0, 1))]), InvalidType),
    row("NoneType", lambda: Space(None), InvalidType),
    row("3", lambda: Space({3: (0, 1)}), InvalidType),
    row("''", lambda: Space({"": (0, 1)})),
    row(
        "'x@1'",
        lambda: Space({"x@1": (0.0, 1.0)}),
    ),
    row("'x'", lambda: Space({"x": object()}), InvalidType),
    row("'x'", lambda: Space({"x": (5.0, 1.0)})),
    row("'x'", lambda: Space({"x": []})),
    row("'cubic'", lambda: Space({"x": (1.0, 2.0, "cubic")})),
    row("'nobody'", lambda: child({"nobody": 1})),
    row("'q'", lambda: child({"q": 1})),
    row("10", lambda: child({"p": 10})),
    row("'many'", lambda: child({"p": "many"})),
    row("'>= x'", lambda: child({"p": ">= x"})),
    row("'>= -'", lambda: child({"p": ">= -"})),
    row("'>= 1e'", lambda: child({"p": ">= 1e"})),
    row("True", lambda: child({"p": True})),
    row("nan", lambda: child({"p": math.nan})),
    row("[]", lambda: child({"p": []})),
    row("'c'", lambda: child({"p": "c"}, Categorical(["a", "b"]))),
    row("'c'", lambda: child({"p": ["a", "c"]}, Categorical(["a", "b"]))),
    row("[]", lambda: child({"p": []}, Categorical(["a", "b"]))),
    row("['a', 'b']", lambda: Space({"a": Int(0, 9, when={"b": 1}), "b": Int(0, 9, when={"a": 1})})),
    row("cycle", lambda: Space({n: Int(0, 9, when={m: 1}) for n, m in ("ab", "bc", "ca")})),
    row("'lr'", lambda: Space(SPACE, forbidden=[{"lr": 1}])),
    row("'d'", lambda: Space(SPACE, forbidden=[{"c": "d"}])),
    row("forbidden={'c': 'a'}", lambda: Space(SPACE, forbidden={"c": "a"}), InvalidType),
    row("forbidden=[{}]", lambda: Space(SPACE, forbidden=[{}]), InvalidType),
    row("forbidden='x'", lambda: Space(SPACE, forbidden="x"), InvalidType),
    row("forbidden=None", lambda: Space(SPACE, forbidden=None), InvalidType),
    row("'x > 1'", lambda: Space(SPACE, constraints=["x > 1"]), InvalidType),
    row("constraints=", lambda: Space(SPACE, constraints=lambda p: True), InvalidType),
)
def test_space(words, call, error):
    refused(words, call, error)


@table(
    row("None", lambda: Space.parse(None), InvalidType),
    row("3", lambda: Space.parse(3), InvalidType),
    row("[]", lambda: Space.parse([]), InvalidType),
    row("{}", lambda: Space.parse({})),
    row("'abc'", lambda: Space.parse("abc")),
    row("'none.yaml'", lambda: Space.parse("none.yaml")),
    row("'x'", lambda: Space.parse('{"x": [1, 2], "x": [3]}')),
    row("'x'", lambda: Space.parse("x: [1, 2]\ny: [1]\nx: [3]\n")),
    row("line 1", lambda: Space.parse("x: [1, 2]\ny: [1]\nx: [3]\n")),
    row("'x@1'", lambda: Space.parse({"x@1": [1, 2]})),
    row("'x@1'", lambda: Space.parse([{"x@1": [1, 2]}, {"y": [1]}])),
    row("'x@1'", lambda: Space.parse({"parameters": {"x@1": [1, 2]}})),
    row("'x'", lambda: Space.parse({"x": {"low": 1}})),
    row("'high'", lambda: Space.parse({"x": {"low": 1}})),
    row("'choices'", lambda: Space.parse({"x": {"type": "ordinal"}})),
    row("'real'", lambda: Space.parse({"x": {"type": "real", "low": 0, "high": 1}})),
    row(
        "['float']",
        lambda: Space.parse({"x": {"type": ["float"], "low": 0, "high": 1}}),
    ),
    row("'Log'", lambda: Space.parse({"x": {"low": 1, "high": 2, "Log": True}})),
    row("log='yes'", lambda: Space.parse({"x": {"low": 1, "high": 2, "log": "yes"}}), InvalidType),
    row("'nope'", lambda: Space.parse({"x": {"low": 1, "high": 2, "prior": {"name": "nope"}}})),
    row(
        "'prior'",
        lambda: Space.parse({"x": {"low": 1, "high": 2, "prior": {}}}),
    ),
    row(
        "'norm'",
        lambda: Space.parse({"x": {"low": 1, "high": 2, "prior": {"name": "norm", "args": [1, 2, 3, 4]}}}),
    ),
    row("prior=3", lambda: Space.parse({"x": {"low": 1, "high": 2, "prior": 3}}), InvalidType),
    row("'a'", lambda: Space.parse(["a", "b"]), InvalidType),
    row("'x0'", lambda: Space.parse([(1, 0)])),
    row("[1, 2, 3]", lambda: Space.parse([[1, 2, 3]]), InvalidType),
    row("C", lambda: Space.parse([{"C": [1, 2]}, {"C": Int(1, 9, when={"k": 1}), "k": [1, 2]}])),
    row("int", lambda: Space.parse(int), InvalidType),
    row("object", lambda: Space.parse({"x": type("D", (), {"rvs": lambda self: 1})()}), InvalidType),
    row("nan", lambda: Space.parse({"x": (0.0, math.nan)})),
    row("'space.txt'", lambda: Space.parse("space.txt")),
    row("a\\x00", lambda: Space.parse("a\0.yaml")),
)
def test_parse(words, call, error):
    refused(words, call, error) if "line" in words else refused_or_multiline(words, call, error)


def refused_or_multiline(words, call, error):
    with pytest.raises(WelltunedError) as caught:
        call()
    assert isinstance(caught.value, error)
    assert words in str(caught.value).replace("\\\\x00", "\\x00")


def space_of(**more):
    return Space(
        {"x": Float(0.0, 1.0), "n": Int(0, 8, step=2), "c": Categorical(["a", "b"]), "d": Int(1, 3, when={"c": "b"})},
        **more,
    )


@pytest.mark.parametrize("method", ["validate", "contains", "encode"])
@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({}, "'x'"),
        ({"x": 0.5, "n": 2}, "'c'"),
        ({"x": 1.5, "n": 2, "c": "a"}, "1.5"),
        ({"x": math.nan, "n": 2, "c": "a"}, "nan"),
        ({"x": "0.5", "n": 2, "c": "a"}, "'0.5'"),
        ({"x": True, "n": 2, "c": "a"}, "True"),
        ({"x": None, "n": 2, "c": "a"}, "None"),
        ({"x": 0.5, "n": 3, "c": "a"}, "3"),
        ({"x": 0.5, "n": 2.5, "c": "a"}, "2.5"),
        ({"x": 0.5, "n": 2, "c": "z"}, "'z'"),
        ({"x": 0.5, "n": 2, "c": "b"}, "'d'"),
        ({"x": 0.5, "n": 2, "c": "a", "d": 1}, "'d'"),
        ({"x": 0.5, "n": 2, "c": "a", "e": 1}, "'e'"),
        pytest.param(
            {"x": 0.5, "n": 2, "c": "a", "e": 1, 7: 1},
            "7",
        ),
        pytest.param(
            {"x": HUGE, "n": 2, "c": "a"},
            "1000",
        ),
    ],
    ids=lambda v: repr(v)[:50],
)
def test_configuration(method, params, words):
    space = space_of()
    if method == "contains":
        assert not space.contains(params)
        return
    refused(words, lambda: space.encode([params]) if method == "encode" else space.validate(params), InvalidValue)


@pytest.mark.parametrize("params", [None, 3, "x", [("x", 1)]], ids=plain)
def test_configuration_that_is_no_dict(params):
    refused(repr(params), lambda: space_of().validate(params), InvalidType)
    assert not space_of().contains(params)


@table(
    row("resolution=1", lambda: Grid(resolution=1)),
    row("resolution=2.5", lambda: Grid(resolution=2.5), InvalidType),
    row("resolution=True", lambda: Grid(resolution=True), InvalidType),
    row("shuffle='no'", lambda: Grid(shuffle="no"), InvalidType),
    row("initial=0", lambda: Bayes(initial=0)),
    row("initial='4'", lambda: Bayes(initial="4"), InvalidType),
    row("fantasies=3", lambda: Bayes(fantasies=3)),
    row("fantasies=0", lambda: Bayes(fantasies=0)),
    row("fantasies=None", lambda: Bayes(fantasies=None), InvalidType),
    row("step=0", lambda: Gradient(step=0)),
    row("step=0.5", lambda: Gradient(step=0.5)),
    row("step=nan", lambda: Gradient(step=math.nan)),
    row("step='x'", lambda: Gradient(step="x"), InvalidType),
    row("tolerance=-1", lambda: Gradient(tolerance=-1)),
    row("tolerance=True", lambda: Gradient(tolerance=True), InvalidType),
    row("trials=0", lambda: Patience(0)),
    row("trials=2.0", lambda: Patience(2.0), InvalidType),
    row("min_delta=-1", lambda: Patience(2, -1)),
    row("min_delta=nan", lambda: Patience(2, math.nan)),
    row("min_delta='x'", lambda: Patience(2, "x"), InvalidType),
    row("min_delta=inf must be finite and at least 0", lambda: Patience(2, math.inf)),
    row("value=nan must be finite", lambda: Target(math.nan)),
    row("value='1'", lambda: Target("1"), InvalidType),
    row("value=None", lambda: Target(None), InvalidType),
    row("total=0", lambda: MaxCost(0)),
    row("ExpectedGain: below=0 must be finite and above 0", lambda: ExpectedGain(0)),
    row("ExpectedGain: after=2.0 is not a whole number", lambda: ExpectedGain(1, after=2.0), InvalidType),
    row("total=inf", lambda: MaxCost(math.inf)),
    row("total='1h' is not a number", lambda: MaxCost("1h"), InvalidType),
    row("total=1000", lambda: MaxCost(HUGE)),
    row("Race: alpha=0.5 must be above 0 and below 0.5", lambda: Race(alpha=0.5)),
    row("CMAES: sigma=1.5 must be above 0 and at most 1", lambda: CMAES(sigma=1.5)),
    row("metric=3", lambda: MaxCost(1, 3), InvalidType),
    row("factor=1", lambda: Halving(factor=1)),
    row("factor=2.5", lambda: Halving(factor=2.5), InvalidType),
    row("first=0", lambda: Halving(first=0)),
    row("first=True", lambda: Halving(first=True), InvalidType),
    row("startup=-1", lambda: Median(startup=-1)),
    row("startup=1.5", lambda: Median(startup=1.5), InvalidType),
    row("warmup='2'", lambda: Median(warmup="2"), InvalidType),
    row("warmup=False", lambda: Median(warmup=False), InvalidType),
)
def test_settings(words, call, error):
    refused(words, call, error)


# studies: whatever is refused, what was stored stays


def square(trial):
    return trial["x"] ** 2


def snapshot(path):
    with sqlite3.connect(path) as db:
        found = {
            t: db.execute(f"SELECT * FROM {t} ORDER BY 1, 2").fetchall() for t in ("study", "space", "trial", "report")
        }
    db.close()
    # what a call that gets as far as the trials may count up
    return found | {"study": [r[:-1] for r in found["study"]]}


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "kept.db"
    study = Study(SPACE, storage=path, name="kept", seed=1, sampler="random")
    study.optimize(square, n_trials=4)
    study.add({"x": 0.5, "c": "a"}, 7.0)
    return path


def new(path, space=SPACE, **options):
    return Study(space, storage=path, name=options.pop("name", "new"), **options)


@table(
    row("sampler='bogus'", lambda p: new(p, sampler="bogus")),
    row("sampler=3", lambda p: new(p, sampler=3), InvalidType),
    row("it is a class: write Random()", lambda p: new(p, sampler=Random), InvalidType),
    row("nor a sampler: it lacks model_based, several_objectives, suggest", lambda p: new(p, sampler=p), InvalidType),
    row("nor a sampler: it lacks model_based", lambda p: new(p, sampler=dict), InvalidType),
    row("nor a scheduler: it lacks decide", lambda p: new(p, scheduler=p), InvalidType),
    row("sampler={'initial': 3}", lambda p: new(p, sampler={"initial": 3}), InvalidType),
    row("'inital'", lambda p: new(p, sampler={"name": "bayes", "inital": 3})),
    row("initial=0", lambda p: new(p, sampler={"name": "bayes", "initial": 0})),
    row("'gradient'", lambda p: new(p, sampler="gradient", direction=["minimize", "maximize"])),
    row("'up'", lambda p: new(p, direction="up")),
    row("'up'", lambda p: new(p, direction={"loss": "up"})),
    row("3", lambda p: new(p, direction=3), InvalidType),
    row("None", lambda p: new(p, direction=None), InvalidType),
    row("{}", lambda p: new(p, direction={})),
    row("[]", lambda p: new(p, direction=[])),
    row(
        "name 3",
        lambda p: new(p, direction={3: "minimize"}),
        WelltunedError,
    ),
    row("name=''", lambda p: new(p, name="")),
    row("name='a/b'", lambda p: new(p, name="a/b")),
    row("name=3", lambda p: new(p, name=3), InvalidType),
    row("name=None", lambda p: new(p, name=None), InvalidType),
    row("seed=-1", lambda p: new(p, seed=-1)),
    row("seed='1'", lambda p: new(p, seed="1"), InvalidType),
    row("seed=1.5", lambda p: new(p, seed=1.5), InvalidType),
    row("seed=True", lambda p: new(p, seed=True), InvalidType),
    row("n_trials=0", lambda p: new(p, n_trials=0)),
    row("n_trials='5'", lambda p: new(p, n_trials="5"), InvalidType),
    row("n_trials=2.5", lambda p: new(p, n_trials=2.5), InvalidType),
    row("scheduler='bogus'", lambda p: new(p, scheduler="bogus")),
    row("scheduler=3", lambda p: new(p, scheduler=3), InvalidType),
    row("Median", lambda p: new(p, scheduler=Median), InvalidType),
    row("lease=0", lambda p: new(p, lease=0)),
    row("lease=inf", lambda p: new(p, lease=math.inf)),
    row("lease='1'", lambda p: new(p, lease="1"), InvalidType),
    row("lease=True", lambda p: new(p, lease=True), InvalidType),
    row("lease=1000", lambda p: new(p, lease=HUGE)),
    row("'\\ud800'", lambda p: new(p, name="\ud800")),
    row(
        "checkpoints=3",
        lambda p: new(p, checkpoints=3),
        InvalidType,
    ),
    row("3", lambda p: new(p, space=3), InvalidType),
    row("'nobody'", lambda p: new(p, space={"x": Float(0, 1, when={"nobody": 1})})),
    row("'maximize'", lambda p: new(p, name="kept", direction="maximize")),
    row("seed=1", lambda p: new(p, name="kept", seed=2)),
    row("'b'", lambda p: new(p, name="kept", direction={"a": "minimize", "b": "minimize"})),
)
def test_study(stored, words, call, error):
    before = snapshot(stored)
    refused(words, lambda: call(stored), error)
    assert snapshot(stored) == before


@table(
    row("''", lambda p: ""),
    row("'mysql'", lambda p: "mysql://user@host/db"),
    row("3", lambda p: 3, InvalidType),
    row("b'x'", lambda p: b"x", InvalidType),
    row("SQLiteStorage", lambda p: SQLiteStorage, InvalidType),
    row("none", lambda p: p.parent / "none" / "s.db", StorageError),
    row("none", lambda p: f"sqlite:///{p.parent}/none/s.db", StorageError),
    row("/proc/x.db", lambda p: "/proc/x.db", StorageError),
    row("folder", lambda p: p.parent / "folder", StorageError),
    row("text.db", lambda p: p.parent / "text.db", StorageError),
    row("foreign.db", lambda p: p.parent / "foreign.db", StorageError),
    row("newer.db", lambda p: p.parent / "newer.db", StorageError),
    row(str(VERSION + 1), lambda p: p.parent / "newer.db", StorageError),
    row("cut.db", lambda p: p.parent / "cut.db", StorageError),
    row("a\\x00", lambda p: "a\0.db"),
    row("\\ud800", lambda p: "\ud800.db"),
    row("no such user", lambda p: "~nobody-of-this-name/x.db"),
    row("write storage='x.db'", lambda p: "sqlite:///x.db?timeout=10"),
    row("write storage='x.db'", lambda p: "sqlite:x.db"),
    row("write storage='x.db'", lambda p: "SQLite:/x.db"),
    row("write storage='x.db'", lambda p: "file:x.db?mode=ro"),
    row("write storage='postgresql://…'", lambda p: "postgresql:/x"),
    row("write storage='http://…'", lambda p: "http:host"),
    row("write storage='postgresql://user:password@host", lambda p: "host=localhost dbname=x password=secret"),
    row("names no file", lambda p: "sqlite:///"),
    row("xxx", lambda p: "x" * 300 + ".db", StorageError),
    row("'sqllite'", lambda p: "sqllite:///x.db"),
)
def test_storage(stored, words, call, error):
    folder = stored.parent
    make_files(folder, stored)
    before, files = snapshot(stored), contents(folder)
    refused_or_multiline(words, lambda: Study(SPACE, storage=call(stored)), error)
    assert snapshot(stored) == before
    assert contents(folder).keys() == files.keys()


def make_files(folder, stored):
    (folder / "folder").mkdir()
    (folder / "text.db").write_text("not a database at all, but a long enough text\n" * 100)
    foreign(folder / "foreign.db")
    with sqlite3.connect(stored) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    (folder / "newer.db").write_bytes(stored.read_bytes())
    with sqlite3.connect(folder / "newer.db") as db:
        db.execute("INSERT INTO welltuned_migration VALUES (?, 'later')", (VERSION + 1,))
    db.close()
    (folder / "cut.db").write_bytes(stored.read_bytes()[:5000])


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file() and not p.name.endswith(("-wal", "-shm"))}


def foreign(path):
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE invoices (id INTEGER, amount REAL)")
        db.execute("INSERT INTO invoices VALUES (1, 2.5)")
    db.close()


def test_a_database_of_something_else_is_not_touched(tmp_path):
    path = tmp_path / "invoices.db"
    foreign(path)
    before = path.read_bytes()
    with pytest.raises(StorageError, match=r"invoices.db.*something else"):
        Study(SPACE, storage=path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["invoices.db"]


def test_a_newer_schema_is_not_touched(stored):
    with sqlite3.connect(stored) as db:
        db.execute("INSERT INTO welltuned_migration VALUES (?, 'later')", (VERSION + 1,))
    db.close()
    before = snapshot(stored)
    refused(f"version {VERSION + 1}", lambda: Study(SPACE, storage=stored), StorageError)
    assert snapshot(stored) == before


def kept(path, **options):
    return Study(storage=path, name="kept", **options)


@table(
    row("objective=3", lambda s: s.optimize(3, n_trials=6), InvalidType),
    row("objective=None", lambda s: s.optimize(None, n_trials=6), InvalidType),
    row("n_trials=0", lambda s: s.optimize(square, n_trials=0)),
    row("n_trials='6'", lambda s: s.optimize(square, n_trials="6"), InvalidType),
    row("n_trials=True", lambda s: s.optimize(square, n_trials=True), InvalidType),
    row("n_trials=", lambda s: s.optimize(square)),
    row("timeout=0", lambda s: s.optimize(square, timeout=0)),
    row("timeout=nan", lambda s: s.optimize(square, timeout=math.nan)),
    row("timeout='1h' is not a number of seconds", lambda s: s.optimize(square, timeout="1h"), InvalidType),
    row("trial_timeout=0 must be", lambda s: s.optimize(square, n_trials=6, trial_timeout=0)),
    row("leave it out for no limit", lambda s: s.optimize(square, n_trials=6, trial_timeout=math.inf)),
    row("retries: error=-1 must be", lambda s: s.optimize(square, n_trials=6, retries={"error": -1})),
    row("retries: lost=1.5 is not", lambda s: s.optimize(square, n_trials=6, retries={"lost": 1.5}), InvalidType),
    row("workers=0", lambda s: s.optimize(square, n_trials=6, workers=0)),
    row("workers=-2", lambda s: s.optimize(square, n_trials=6, workers=-2)),
    row("workers='2'", lambda s: s.optimize(square, n_trials=6, workers="2"), InvalidType),
    row("workers=None", lambda s: s.optimize(square, n_trials=6, workers=None), InvalidType),
    row("stop=3", lambda s: s.optimize(square, stop=3), InvalidType),
    row("stop='target'", lambda s: s.optimize(square, stop="target"), InvalidType),
    row("Patience", lambda s: s.optimize(square, stop=Patience), InvalidType),
    row("stop=0.5", lambda s: s.optimize(square, stop=[Patience(3), 0.5]), InvalidType),
    row("callbacks=3", lambda s: s.optimize(square, n_trials=6, callbacks=3), InvalidType),
    row(
        "callbacks",
        lambda s: s.optimize(square, n_trials=6, callbacks=[3]),
        InvalidType,
    ),
    row(
        "callbacks",
        lambda s: s.optimize(square, n_trials=6, callbacks=print),
        InvalidType,
    ),
    row("catch=3", lambda s: s.optimize(square, n_trials=6, catch=3), InvalidType),
    row("catch=None", lambda s: s.optimize(square, n_trials=6, catch=None), InvalidType),
    row("ValueError()", lambda s: s.optimize(square, n_trials=6, catch=ValueError()), InvalidType),
    row(
        "executor='bogus'",
        lambda s: s.optimize(square, n_trials=6, executor="bogus"),
    ),
    row(
        "executor=3",
        lambda s: s.optimize(square, n_trials=6, executor=3),
        WelltunedError,
    ),
    row(
        "executor=['processes']",
        lambda s: s.optimize(square, n_trials=6, executor=["processes"]),
        WelltunedError,
    ),
    row(
        "executor='inline'",
        lambda s: s.optimize(square, n_trials=6, executor="inline", workers=2),
    ),
    row(
        "progress='yes'",
        lambda s: s.optimize(square, n_trials=6, progress="yes"),
        InvalidType,
    ),
    row("n=0", lambda s: s.ask(0)),
    row("n='2'", lambda s: s.ask("2"), InvalidType),
    row("n=True", lambda s: s.ask(True), InvalidType),
    row("99", lambda s: s.tell(99, 1.0)),
    row("'0'", lambda s: s.tell("0", 1.0), InvalidType),
    row("None", lambda s: s.tell(None, 1.0), InvalidType),
    row("trial 0", lambda s: s.tell(0, 1.0), LeaseLost),
    row("'done'", lambda s: s.tell(0, 1.0, state="done")),
    row("'running'", lambda s: s.tell(0, 1.0, state="running")),
    row("state=[]", lambda s: s.tell(0, 1.0, state=[])),
    row("2.0", lambda s: s.enqueue({"x": 2.0, "c": "a"})),
    row("'c'", lambda s: s.enqueue({"x": 0.5})),
    row("'y'", lambda s: s.enqueue({"x": 0.5, "c": "a", "y": 1})),
    row("'z'", lambda s: s.enqueue([{"x": 0.1, "c": "a"}, {"x": 0.5, "c": "z"}])),
    row("3", lambda s: s.enqueue([3]), InvalidType),
    row("'x'", lambda s: s.enqueue("x"), InvalidType),
    row("3", lambda s: s.enqueue(3), InvalidType),
    row("None", lambda s: s.enqueue(None), InvalidType),
    row("2.0", lambda s: s.add({"x": 2.0, "c": "a"}, 1.0)),
    row("None", lambda s: s.add({"x": 0.5, "c": "a"}), InvalidType),
    row("'high'", lambda s: s.add({"x": 0.5, "c": "a"}, "high"), InvalidType),
    row(
        "value=",
        lambda s: s.add({"x": 0.5, "c": "a"}, HUGE),
        WelltunedError,
    ),
    row("3", lambda s: s.add(3), InvalidType),
    row("'high'", lambda s: setattr(s, "space", {"x": {"low": 1}})),
    row("None", lambda s: setattr(s, "space", None), InvalidType),
)
def test_calls_on_a_study(stored, words, call, error):
    study = kept(stored)
    before = snapshot(stored)
    refused(words, lambda: call(study), error)
    assert snapshot(stored) == before
    assert len(study.trials) == 5


def test_rows_that_do_not_fit_are_returned_with_the_reason(stored):
    study = kept(stored)
    found = study.add([({"x": 0.25, "c": "b"}, 1.0), ({"x": 9.0, "c": "b"}, 1.0), ({"x": 0.75, "c": "b"}, None), 3])
    assert found.numbers == (5,)
    assert [
        words for words, (_, reason) in zip(["9.0", "None", "3"], found.refused, strict=True) if words in reason
    ] == ["9.0", "None", "3"]


@table(
    row("value=None", lambda s, t: s.tell(t), InvalidType),
    row("'good'", lambda s, t: s.tell(t, "good"), InvalidType),
    row("'loss'", lambda s, t: s.tell(t, {"loss": 1.0})),
    row("-1", lambda s, t: s.tell(t, (1.0, -1))),
    row("3 entries", lambda s, t: s.tell(t, (1.0, [1.0, 2.0, 3.0]))),
    row("'up'", lambda s, t: s.tell(t, 1.0, state="up")),
    row("error='no luck' with state='complete'; write state='failed'", lambda s, t: s.tell(t, error="no luck")),
    row("error='no luck' with state='complete'; write state='failed'", lambda s, t: s.tell(t, 1.0, error="no luck")),
    row("value=", lambda s, t: s.tell(t, HUGE), WelltunedError),
)
def test_a_refused_result_leaves_the_trial_running(stored, words, call, error):
    study = kept(stored, n_trials=9)
    trial = study.ask()
    refused(words, lambda: call(study, trial), error)
    assert study.trials[trial.number].state is State.RUNNING
    assert study.tell(trial, 1.5).value == 1.5


def test_a_trial_ends_once(stored):
    study = kept(stored, n_trials=9)
    trial = study.ask()
    study.tell(trial, 1.5)
    for call in (lambda: study.tell(trial, 0.0), lambda: study.tell(trial.number, state="failed")):
        refused(f"trial {trial.number}", call, LeaseLost)
    assert study.trials[trial.number].value == 1.5


def test_asking_beyond_the_budget(stored):
    study = kept(stored, n_trials=4)
    refused("4 trials", study.ask, StudyStopped)
    small = Study({"c": ["a", "b"]}, sampler="grid")
    small.ask(2)
    refused("every configuration", small.ask, StudyStopped)


def test_the_best_of_nothing():
    study = Study(SPACE, sampler="random", seed=0)
    refused("'study'", lambda: study.best, NoCompletedTrial)
    study.optimize(lambda trial: 1 / 0, n_trials=2)
    refused("ZeroDivisionError", lambda: study.best, NoCompletedTrial)
    refused("'study'", lambda: Study().space, InvalidValue)
    refused("['a', 'b']", lambda: Study(SPACE, direction={"a": "minimize", "b": "minimize"}).best, InvalidValue)


@pytest.mark.parametrize("which", [minimize, maximize])
@table(
    row("'n_trial'", lambda call: call(square, SPACE, n_trial=5), InvalidType),
    row("'direction'", lambda call: call(square, SPACE, 5, direction="minimize"), InvalidType),
    row("sampler='bogus'", lambda call: call(square, SPACE, 5, sampler="bogus")),
    row("n_trials=-5", lambda call: call(square, SPACE, -5)),
    row("objective=None", lambda call: call(None, SPACE, 5), InvalidType),
    row("n_trials=", lambda call: call(square, SPACE)),
    row("workers=0", lambda call: call(square, SPACE, 5, workers=0)),
    row("{}", lambda call: call(square, {}, 5)),
)
def test_one_call(which, words, call, error):
    refused(words, lambda: call(which), error)


# a full disk


def fill(storage, spare):
    """Let the file grow by ``spare`` pages and no more."""
    pages = storage._db().execute("PRAGMA page_count").fetchone()[0]
    storage._db().execute(f"PRAGMA max_page_count = {pages + spare}")


def bulky(trial):
    trial.note(log="x" * 3000)
    return trial["x"]


@pytest.mark.parametrize("spare", [0, 1, 3])
def test_a_full_disk_in_the_middle_of_a_run(tmp_path, spare):
    storage = SQLiteStorage(tmp_path / "full.db")
    study = Study(SPACE, storage=storage, sampler="random", seed=0, lease=0.2)
    study.optimize(bulky, n_trials=5)
    before = study.trials
    fill(storage, spare)
    error = refused("full.db", lambda: study.optimize(bulky, n_trials=500), StorageError)
    assert "full" in str(error)
    after = Study(storage=tmp_path / "full.db").trials
    assert after[:5] == before
    assert len(after) < 500
    storage._db().execute("PRAGMA max_page_count = 100000")
    time.sleep(0.3)  # what could not be given back waits for its lease to end
    again = Study(SPACE, storage=storage, sampler="random", seed=0)
    again.optimize(bulky, n_trials=len(after) + 2)
    assert again.trials[:5] == before
    assert {t.state for t in again.trials} == {State.COMPLETE}
    assert storage._db().execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def test_a_full_disk_between_ask_and_tell(tmp_path):
    storage = SQLiteStorage(tmp_path / "full.db")
    study = Study(SPACE, storage=storage, sampler="random", seed=0)
    study.optimize(square, n_trials=3)
    study = Study(storage=storage, sampler="random")
    trial = study.ask()
    before = study.trials
    fill(storage, 0)
    trial.note(log="x" * 50_000)
    refused(
        "full.db", lambda: study.tell(trial, {"value": 1.0, **{f"m{i}": float(i) for i in range(3000)}}), StorageError
    )
    assert study.trials == before
    storage._db().execute("PRAGMA max_page_count = 100000")
    assert study.tell(trial, 1.0).value == 1.0


def test_a_full_disk_when_results_are_added(tmp_path):
    storage = SQLiteStorage(tmp_path / "full.db")
    study = Study({"x": (0.0, 1.0)}, storage=storage, sampler="random", seed=0)
    study.optimize(square, n_trials=3)
    before = study.trials
    fill(storage, 1)
    rows = [({"x": x}, x) for x in np.linspace(0, 1, 500)]
    refused("full.db", lambda: study.add(rows), StorageError)
    assert study.trials == before
    assert len(Study(storage=tmp_path / "full.db").trials) == 3


def test_numbers_of_numpy_are_taken_and_become_pythons_own():
    """Records are equal to those of plain numbers, and can be stored as JSON."""
    assert Patience(np.int64(3), np.float32(0.5)) == Patience(3, 0.5)
    alphas = [Race(alpha=kind(0.25)).alpha for kind in (np.float32, np.float64)]
    for made in (Patience(np.int64(3)).trials, *alphas, MaxCost(np.int32(5)).total):
        assert type(made) in (int, float)
    study = Study(SPACE, sampler="random", seed=0, lease=np.float32(30), scheduler=Race(alpha=np.float32(0.25)))
    assert study.coordinator.ledger.row.attributes["scheduler"]["alpha"] == 0.25
    study.optimize(square, n_trials=np.int64(2), workers=np.int64(1), timeout=math.inf, trial_timeout=None)
    assert len(study.trials) == 2
    study.optimize(square, n_trials=3, timeout=10**400)  # beyond what a float holds, and the clock is one
    assert len(study.trials) == 3
