"""Search spaces of other tuners as parameters of ours."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from welltuned.errors import InvalidType, InvalidValue
from welltuned.settings import real
from welltuned.space.distributions import is_frozen
from welltuned.space.labels import all_numbers, same
from welltuned.space.parameters import Categorical, Float, Int, Ordinal, Parameter
from welltuned.space.tuners import is_hyperopt, is_skopt


def _quantised(low: float, high: float, q: float, *, log: bool = False) -> Parameter:
    """Return the multiples of ``q`` to which numbers between two bounds are rounded; 0 is left out on a log scale."""
    q = real("q", q, above=0)
    first, last = round(low / q), round(high / q)
    if log:
        first = max(first, 1)
    if first >= last:
        return Categorical([first * q])
    if float(q).is_integer():
        return Int(first * int(q), last * int(q), step=int(q), log=log)
    return Float(first * q, last * q, step=q, log=log)


# scikit-optimize


def named_by_skopt(spec: Any) -> dict[str, Any] | None:
    """Return dimensions of scikit-optimize by their names; None where this is no list of such, or one has no name."""
    if not isinstance(spec, (list, tuple)) or not all(is_skopt(d) and getattr(d, "name", None) for d in spec):
        return None
    names = [d.name for d in spec]
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise InvalidValue(f"two dimensions have the name {twice[0]!r}")
    return dict(zip(names, spec, strict=True))


def from_skopt(dimension: Any) -> Parameter:
    """Read a dimension of scikit-optimize."""
    if hasattr(dimension, "categories"):
        weights = getattr(dimension, "prior", None)
        return Categorical(list(dimension.categories), prior=None if weights is None else list(weights))
    kind = Int if type(dimension).__name__ == "Integer" else Float
    return kind(dimension.low, dimension.high, log=dimension.prior == "log-uniform")


# Optuna


def from_distribution(distribution: Any) -> Parameter | None:
    """Read a distribution of Optuna; None for a range of one value, where nothing is searched."""
    kind, choices = type(distribution).__name__, getattr(distribution, "choices", None)
    if choices is not None:
        return Categorical([choice for i, choice in enumerate(choices) if same(choices[:i], choice) is None])
    try:
        low, high = distribution.low, distribution.high
    except AttributeError:
        raise InvalidType(f"{distribution!r} is no distribution of Optuna's") from None
    if low == high:
        return None
    # before Optuna 3, the classes said what their attributes do now
    logarithmic = bool(getattr(distribution, "log", "Log" in kind))
    step = getattr(distribution, "step", getattr(distribution, "q", None))
    if kind.startswith("Int"):
        return Int(low, high, log=logarithmic, step=1 if step is None else step)
    return Float(low, high, log=logarithmic, step=step)


# Ray Tune


def from_ray(domain: Any) -> Parameter | list[Any]:
    """Read a domain of Ray Tune; the values of a choice come as a list."""
    if hasattr(domain, "func"):
        raise InvalidType(
            "tune.sample_from draws from a function, of which a search can learn nothing; compute the value in the "
            "objective, or declare what is drawn"
        )
    if hasattr(domain, "categories"):
        return list(domain.categories)
    sampler = domain.get_sampler()
    q, sampler = getattr(sampler, "q", None), getattr(sampler, "sampler", sampler)
    if hasattr(sampler, "sd"):
        return _normal(sampler.mean, sampler.sd, q)
    whole, log = type(domain).__name__ == "Integer", "Log" in type(sampler).__name__
    low, high = domain.lower, domain.upper
    if q not in (None, 1):
        return _quantised(low, high, q, log=log)
    if whole and q is None:
        high -= 1  # which Ray leaves out, but where it rounds
    return (Int if whole else Float)(low, high, log=log)


# sweeps of Weights & Biases

WANDB = {"value", "values", "min", "max", "mu", "sigma", "q", "distribution", "probabilities"}


def is_wandb(body: Mapping[str, Any]) -> bool:
    """Tell whether a description of one parameter is in the words of a sweep."""
    return bool(body) and set(body) <= WANDB


def from_wandb(body: Mapping[str, Any]) -> Parameter | list[Any]:
    """Read one parameter of a sweep; values without probabilities come as a list."""
    if "value" in body:
        return Categorical([body["value"]])
    if "values" in body:
        values, weights = body["values"], body.get("probabilities")
        return values if weights is None and isinstance(values, list) else Categorical(values, prior=weights)
    given, q = str(body.get("distribution", "uniform")), body.get("q", 1)
    name = given.removeprefix("q_").removeprefix("inv_").removesuffix("_values")
    if name in ("normal", "log_normal"):
        mu, sigma = real("mu", body.get("mu", 0.0)), real("sigma", body.get("sigma", 1.0), above=0)
        return _normal(mu, sigma, q if given.startswith("q_") else None, log=name == "log_normal")
    if lacking := [key for key in ("min", "max") if key not in body]:
        raise InvalidValue(f"{dict(body)!r} lacks {lacking[0]!r}")
    low, high = real("min", body["min"]), real("max", body["max"])
    if name not in ("uniform", "int_uniform", "log_uniform"):
        raise InvalidValue(f"distribution={given!r} is unknown here; write {{low: {low}, high: {high}}}")
    log = name == "log_uniform"
    if log and not given.endswith("_values"):  # the bounds are exponents, of 1/x where that is what is drawn
        low, high = (-high, -low) if given.startswith("inv_") else (low, high)
        low, high = _exp(low), _exp(high)
    if given.startswith("q_"):
        return _quantised(low, high, q, log=log)
    whole = all(isinstance(body[key], int) for key in ("min", "max")) and "distribution" not in body
    return Int(low, high) if whole or name == "int_uniform" else Float(low, high, log=log)


def _exp(exponent: float) -> float:
    """Return e to a power that was a logarithm before: 1e-4 rather than 0.00010000000000000009."""
    try:
        return float(f"{math.exp(exponent):.14g}")
    except OverflowError:
        raise InvalidValue(
            f"the bound {exponent!r} of a log scale is an exponent of e here, which is too large"
        ) from None


def _normal(mean: float, sd: float, q: float | None = None, *, log: bool = False) -> Parameter:
    """Return a normal or a log-normal distribution; rounded ones where they are rounded to whole numbers."""
    from scipy.stats import lognorm, norm

    frozen = lognorm(sd, scale=math.exp(mean)) if log else norm(mean, sd)
    if q not in (None, 1):
        raise InvalidValue(
            f"a normal distribution in steps of {q!r} has no bounds; write wt.Float(low, high, step={q!r})"
        )
    return Float(frozen) if q is None else Int(frozen)


# Hyperopt


def holds_hyperopt(spec: Any) -> bool:
    """Tell whether this is an expression of Hyperopt, or a dict or list with one in it."""
    return "hyperopt" in sys.modules and any(is_hyperopt(leaf) for leaf in _leaves(spec))


def from_hyperopt(spec: Any) -> dict[str, Parameter]:
    """Read a space of Hyperopt: parameters by their labels, a choice as the number of its option.

    These are what ``fmin`` returns, and ``space_eval`` makes of them what an objective of Hyperopt receives.
    """
    found: dict[str, Parameter] = {}
    clauses: dict[str, list[dict[str, int]]] = {}
    for leaf in _leaves(spec):
        if isinstance(leaf, (Float, Int, Categorical, Ordinal)) or is_frozen(leaf):
            raise InvalidType(f"{leaf!r} stands beside expressions of Hyperopt; write all parameters in one of the two")
        if is_hyperopt(leaf):
            for label, parameter, clause in _declared(leaf, {}):
                found.setdefault(label, parameter)
                if repr(found[label]) != repr(parameter):
                    raise InvalidValue(f"{label!r} stands twice, as {found[label]!r} and as {parameter!r}")
                clauses.setdefault(label, []).append(clause)
    if not found:
        raise InvalidValue("the expression of Hyperopt has no parameters; give at least one")
    return {label: _with_conditions(parameter, clauses[label]) for label, parameter in found.items()}


def _leaves(spec: Any) -> Iterator[Any]:
    if isinstance(spec, Mapping):
        spec = list(spec.values())
    if isinstance(spec, (list, tuple)):
        for item in spec:
            yield from _leaves(item)
    else:
        yield spec


def _declared(node: Any, clause: dict[str, int]) -> Iterator[tuple[str, Parameter, dict[str, int]]]:
    """Go through an expression: each parameter, and the options that lead there."""
    if node.name == "switch":
        chosen, *options = node.pos_args
        label = chosen.arg["label"].obj
        yield label, _choice(chosen.arg["obj"], options), clause
        for i, option in enumerate(options):
            yield from _declared(option, {**clause, label: i})
    elif node.name == "hyperopt_param":
        label = node.arg["label"].obj
        try:
            parameter = _drawn(node.arg["obj"])
        except (InvalidValue, InvalidType) as error:
            raise type(error)(f"parameter {label!r}: {error}") from None
        yield label, parameter, clause
    else:
        for child in node.inputs():
            yield from _declared(child, clause)


def _choice(drawn: Any, options: list[Any]) -> Parameter:
    """Return the numbers of the options, with an order where the options are numbers that have one."""
    weights = [p.obj for p in drawn.arg["p"].pos_args] if drawn.name == "categorical" else None
    values: list[Any] = [getattr(option, "obj", None) for option in options]
    ordered = len(values) > 1 and all_numbers(values) and values in (sorted(values), sorted(values, reverse=True))
    return (Ordinal if ordered else Categorical)(range(len(options)), prior=weights)


def _drawn(node: Any) -> Parameter:
    """Read what one number is drawn from."""
    arguments = {name: value.obj for name, value in node.arg.items() if hasattr(value, "obj")}
    if odd := [name for name, value in node.arg.items() if is_hyperopt(value) and name not in arguments]:
        raise InvalidValue(f"{odd[0]!r} is an expression; give it a number")
    name, q = node.name.removeprefix("q"), arguments.get("q")
    log = name.startswith("log")
    if name == "randint":
        first, end = (0, arguments["low"]) if "high" not in arguments else (arguments["low"], arguments["high"])
        return Int(first, end - 1) if end - 1 > first else Categorical([first])
    if name in ("normal", "lognormal"):
        return _normal(arguments["mu"], arguments["sigma"], q, log=log)
    if name not in ("uniform", "loguniform"):
        raise InvalidValue(f"{node.name!r} is unknown here; write wt.Float or wt.Int")
    low, high = (_exp(arguments[key]) if log else arguments[key] for key in ("low", "high"))
    return Float(low, high, log=log) if q is None else _quantised(low, high, q, log=log)


def _with_conditions(parameter: Parameter, clauses: list[dict[str, int]]) -> Parameter:
    return parameter if {} in clauses else replace(parameter, when=clauses)
