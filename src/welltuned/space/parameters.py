"""The four kinds of hyperparameter. They hold data and refuse bad data; every transform lives in ``codec.py``."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np

from welltuned.errors import InvalidType, InvalidValue
from welltuned.settings import real
from welltuned.space.distributions import Distribution, is_frozen
from welltuned.space.labels import Label, find, make_labels
from welltuned.space.tuners import is_foreign

When: TypeAlias = "Mapping[str, Any] | Sequence[Mapping[str, Any]] | None"


class NoDefault(enum.Enum):
    """The type of ``NO_DEFAULT``; a member of an enumeration stays itself when it is copied or pickled."""

    NO_DEFAULT = enum.auto()

    def __repr__(self) -> str:
        return self.name

    __str__ = __repr__


#: the ``default`` of a parameter that has none; None may be a choice, and so the default
NO_DEFAULT: Final = NoDefault.NO_DEFAULT


def _number(kind: str, what: str, value: Any) -> float:
    return float(real(f"{kind}: {what}", value))


def _integer(kind: str, what: str, value: Any) -> int:
    number = _number(kind, what, value)
    if number != int(number):
        raise InvalidValue(f"{kind}: {what}={value!r} is not a whole number; use Float for fractions")
    if abs(number) > 2**53:
        raise InvalidValue(f"{kind}: {what}={value!r} is beyond 2**53, where whole numbers lose digits")
    return int(number)


def _check_when(kind: str, when: Any) -> None:
    clauses = [when] if isinstance(when, Mapping) else when
    if clauses is None:
        return
    if not isinstance(clauses, (list, tuple)) or not clauses or not all(isinstance(c, Mapping) and c for c in clauses):
        raise InvalidType(f"{kind}: when={when!r} is not a dict like {{'parent': value}}, nor a list of such dicts")


def _check_bounds(kind: str, low: float, high: float, log: bool) -> None:
    if not isinstance(log, bool):
        raise InvalidType(f"{kind}: log={log!r} is not True or False")
    if low > high:
        raise InvalidValue(f"{kind}: low={low!r} is above high={high!r}; write {kind}({high!r}, {low!r})")
    if low == high:
        raise InvalidValue(f"{kind}: low and high are both {low!r}; write Categorical([{low!r}]) for a constant")
    if not math.isfinite(high - low):
        raise InvalidValue(f"{kind}: the range {low!r} … {high!r} is too wide for a floating-point number")
    if log and low <= 0:
        raise InvalidValue(f"{kind}: low={low!r} with log=True; a log scale needs low > 0")


@dataclass(frozen=True)
class Float:
    """Declare a real number between ``low`` and ``high``, both included.

    Parameters
    ----------
    low, high
        Bounds in natural units. Or give a frozen ``scipy.stats`` distribution as ``low``: its quantile function is then
        the scale, and its support the bounds (which may be infinite).
    log
        Search on a logarithmic scale; needs ``low > 0``.
    step
        Only ``low, low + step, …`` are allowed. Excludes ``log``.
    default
        The value you would use without tuning. Model-based samplers try the defaults first. ``None`` says that there is
        none, as leaving it out does; the attribute is then ``welltuned.space.NO_DEFAULT``.
    when
        The condition under which the parameter exists: ``{"optimizer": "sgd"}``, several allowed values
        ``{"optimizer": ["sgd", "adam"]}``, a comparison ``{"n_layers": ">= 2"}``; all entries must hold. A list of such
        dicts means that any of them suffices.
    prior
        What you believe about good values: a frozen ``scipy.stats`` distribution in natural units. Random draws and
        initial designs follow it.

    Raises
    ------
    InvalidValue, InvalidType
        With the offending value in the message.

    Examples
    --------
    >>> Float(1e-5, 1e-1, log=True)
    Float(1e-05, 0.1, log=True)
    """

    low: Any
    high: Any = None
    _: KW_ONLY
    log: bool = False
    step: float | None = None
    default: float | NoDefault | None = NO_DEFAULT
    when: When = None
    prior: Any = None
    distribution: Distribution | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        _take_distribution(self, "Float")
        _check_when("Float", self.when)
        _take_prior(self, "Float")
        put = object.__setattr__
        if self.distribution is None:
            put(self, "low", _number("Float", "low", self.low))
            put(self, "high", _number("Float", "high", self.high))
            _check_bounds("Float", self.low, self.high, self.log)
        if self.step is not None:
            put(self, "step", _number("Float", "step", self.step))
            _check_step(self)
        _check_mass(self, "Float")
        _check_default(self, "Float")

    def __repr__(self) -> str:
        return _describe(self)


@dataclass(frozen=True)
class Int:
    """Declare a whole number between ``low`` and ``high``, both included.

    Parameters are those of :class:`Float`; ``step`` is a whole number and may be combined with ``log``. A frozen
    ``scipy.stats`` distribution is taken as ``low`` too, a continuous one is rounded to whole numbers:
    ``Int(uniform(loc=32, scale=96))``.

    Examples
    --------
    >>> Int(32, 256, log=True)
    Int(32, 256, log=True)
    """

    low: Any
    high: Any = None
    _: KW_ONLY
    log: bool = False
    step: int = 1
    default: int | NoDefault | None = NO_DEFAULT
    when: When = None
    prior: Any = None
    distribution: Distribution | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        _take_distribution(self, "Int")
        _check_when("Int", self.when)
        _take_prior(self, "Int")
        put = object.__setattr__
        if self.distribution is None:
            put(self, "low", _integer("Int", "low", self.low))
            put(self, "high", _integer("Int", "high", self.high))
            _check_bounds("Int", self.low, self.high, self.log)
        put(self, "step", _integer("Int", "step", self.step))
        _check_step(self)
        _check_mass(self, "Int")
        _check_default(self, "Int")

    def __repr__(self) -> str:
        return _describe(self)


@dataclass(frozen=True)
class Categorical:
    """Declare a choice among values without an order. Any Python value can be a choice and comes back as itself.

    Parameters
    ----------
    choices
        The values; or a dict from label to value, for values that have no readable name of their own.
    default
        One of the choices, as in :class:`Float`. ``None`` is the default where it is a choice.
    when
        As in :class:`Float`.
    prior
        Weights, one for each choice, that random draws and initial designs follow.

    Examples
    --------
    >>> Categorical(["relu", "tanh", None], default=None)
    Categorical(['relu', 'tanh', None], default=None)
    """

    choices: Any
    _: KW_ONLY
    default: Any = NO_DEFAULT
    when: When = None
    prior: Any = None
    labels: tuple[Label, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        _check_choices(self, "Categorical")

    def __repr__(self) -> str:
        return _describe(self)


@dataclass(frozen=True)
class Ordinal:
    """Declare a choice among values that have an order, as the batch sizes ``[32, 64, 128, 256]`` have.

    Neighbours are taken to be similar, and all steps to be alike. Parameters are those of :class:`Categorical`.

    Examples
    --------
    >>> Ordinal(["small", "medium", "large"])
    Ordinal(['small', 'medium', 'large'])
    """

    choices: Any
    _: KW_ONLY
    default: Any = NO_DEFAULT
    when: When = None
    prior: Any = None
    labels: tuple[Label, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        _check_choices(self, "Ordinal")

    def __repr__(self) -> str:
        return _describe(self)


Parameter: TypeAlias = Float | Int | Categorical | Ordinal
Numeric = (Float, Int)
Choice = (Categorical, Ordinal)
KINDS: dict[str, type[Any]] = {"float": Float, "int": Int, "categorical": Categorical, "ordinal": Ordinal}


def _take_distribution(parameter: Float | Int, kind: str) -> None:
    """Move a scipy distribution given as ``low`` to its own field and take the bounds from its support."""
    put = object.__setattr__
    if is_frozen(parameter.low):
        if parameter.high is not None:
            raise InvalidValue(f"{kind}: high={parameter.high!r} beside a distribution; its support gives the bounds")
        put(parameter, "distribution", Distribution(parameter.low))
    distribution = parameter.distribution
    if distribution is None:
        return
    if parameter.log or parameter.step not in (None, 1):
        raise InvalidValue(
            f"{kind}: log and step cannot be combined with a distribution, whose quantiles are the scale"
        )
    if kind == "Float" and distribution.discrete:
        raise InvalidValue(f"Float: {distribution!r} is discrete; write Int({distribution!r})")
    low, high = distribution.support()
    if math.isnan(low) or math.isnan(high) or not low < high:
        raise InvalidValue(f"{kind}: {distribution!r} has the support {low!r} … {high!r}; check its arguments")
    if not np.isfinite(distribution.ppf(np.array([0.0, 1.0]))).all():
        raise InvalidValue(f"{kind}: {distribution!r} has quantiles beyond the largest number; check its arguments")
    if kind == "Int":
        low, high = (round(b) if math.isfinite(b) else b for b in (low, high))
    put(parameter, "low", low)
    put(parameter, "high", high)


def _take_prior(parameter: Float | Int, kind: str) -> None:
    prior = parameter.prior
    if prior is None or isinstance(prior, Distribution):
        return
    if not is_frozen(prior):
        raise InvalidType(f"{kind}: prior={prior!r} is not a frozen scipy.stats distribution such as norm(0.9, 0.05)")
    object.__setattr__(parameter, "prior", Distribution(prior))


def _check_mass(parameter: Float | Int, kind: str) -> None:
    prior = parameter.prior
    if prior is not None and not prior.cdf(parameter.high) - prior.cdf(parameter.low) > 1e-9:
        raise InvalidValue(
            f"{kind}: prior={prior!r} has no probability between {parameter.low!r} and {parameter.high!r}"
        )


def _check_step(parameter: Float | Int) -> None:
    kind = type(parameter).__name__
    if parameter.step is None:
        return
    if parameter.step <= 0:
        raise InvalidValue(f"{kind}: step={parameter.step!r} must be above 0")
    if kind == "Float" and parameter.log:
        raise InvalidValue(f"Float: step={parameter.step!r} with log=True; use Ordinal with the values you want")
    if parameter.step > parameter.high - parameter.low:
        raise InvalidValue(
            f"{kind}: step={parameter.step!r} is wider than the range {parameter.low!r} … {parameter.high!r}"
        )
    if kind == "Float" and (parameter.high - parameter.low) / parameter.step > 2**53:
        raise InvalidValue(
            f"Float: step={parameter.step!r} makes more than 2**53 values of {parameter.low!r} … {parameter.high!r}, "
            "where numbers lose digits; leave it out"
        )


def _check_default(parameter: Float | Int, kind: str) -> None:
    if parameter.default is None:
        object.__setattr__(parameter, "default", NO_DEFAULT)
    if parameter.default is NO_DEFAULT:
        return
    check = _integer if kind == "Int" else _number
    default = check(kind, "default", parameter.default)
    if not parameter.low <= default <= parameter.high:
        raise InvalidValue(f"{kind}: default={default!r} is outside {parameter.low!r} … {parameter.high!r}")
    if parameter.step is not None and parameter.distribution is None:
        steps = (default - parameter.low) / parameter.step
        if abs(steps - round(steps)) > 1e-6:
            raise InvalidValue(
                f"{kind}: default={default!r} is not one of {parameter.low!r}, {parameter.low + parameter.step!r}, …"
            )
        default = parameter.low + round(steps) * parameter.step
    object.__setattr__(parameter, "default", default)


def _check_choices(parameter: Categorical | Ordinal, kind: str) -> None:
    choices, given = parameter.choices, None
    if isinstance(choices, Mapping):
        given, choices = tuple(choices), tuple(choices.values())
        if odd := [label for label in given if label is not None and not isinstance(label, (str, int, float, bool))]:
            raise InvalidType(f"{kind}: the label {odd[0]!r} is neither a string nor a number")
    elif isinstance(choices, (str, bytes)) or not hasattr(choices, "__iter__"):
        raise InvalidType(f"{kind}: choices={choices!r} is not a list; write [{choices!r}] for a constant")
    choices = tuple(choices)
    if not choices:
        raise InvalidValue(f"{kind}: choices={parameter.choices!r} is empty; give at least one value")
    for choice in choices:
        _check_searched(kind, choice)
    put = object.__setattr__
    put(parameter, "choices", choices)
    put(parameter, "labels", parameter.labels or given or make_labels(kind, choices))
    _check_when(kind, parameter.when)
    if parameter.default is not NO_DEFAULT and find(choices, parameter.default) is None:
        if parameter.default is not None:
            raise InvalidValue(f"{kind}: default={parameter.default!r} is not among the choices {list(choices)!r}")
        put(parameter, "default", NO_DEFAULT)
    if parameter.prior is not None:
        put(parameter, "prior", _weights(kind, parameter.prior, len(choices)))


def _check_searched(kind: str, choice: Any) -> None:
    """Refuse a choice that declares a parameter, or a dict of some: the objective would get the declaration itself."""
    several = isinstance(choice, Mapping)
    for value in choice.values() if several else [choice]:
        if isinstance(value, (*Numeric, *Choice)) or is_foreign(value):
            raise InvalidType(
                f"{kind}: the choice {choice!r} declares the parameter {value!r}, which nothing would search; write it "
                f"beside this one, with when={', or give a list of such dicts as the space' if several else ''}"
            )


def _weights(kind: str, prior: Any, n: int) -> tuple[float, ...]:
    if isinstance(prior, (str, bytes)) or not hasattr(prior, "__iter__"):
        given = Distribution(prior) if is_frozen(prior) else prior
        raise InvalidType(f"{kind}: prior={given!r} is not a list of {n} weights")
    weights = tuple(_number(kind, "prior", w) for w in prior)
    if len(weights) != n or min(weights) < 0 or sum(weights) <= 0:
        raise InvalidValue(f"{kind}: prior={list(weights)!r} must be {n} weights, none below 0, not all 0")
    # weights that are normalised already stay as they are, to the last digit
    return weights if abs(sum(weights) - 1.0) < 1e-12 else tuple(w / sum(weights) for w in weights)


def _describe(parameter: Parameter) -> str:
    """Write a parameter as the shortest call that makes it."""
    if isinstance(parameter, Choice):
        args = [repr(list(parameter.choices))]
    elif parameter.distribution is not None:
        args = [repr(parameter.distribution)]
    else:
        args = [repr(parameter.low), repr(parameter.high)]
        args += ["log=True"] if parameter.log else []
        args += (
            [f"step={parameter.step!r}"]
            if parameter.step not in (None, 1) or (parameter.step == 1 and isinstance(parameter, Float))
            else []
        )
    args += [f"default={parameter.default!r}"] if parameter.default is not NO_DEFAULT else []
    args += [f"{name}={value!r}" for name in ("when", "prior") if (value := getattr(parameter, name)) is not None]
    return f"{type(parameter).__name__}({', '.join(args)})"
