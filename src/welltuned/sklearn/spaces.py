"""Reading what people pass to a search as its space."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from welltuned.errors import InvalidType, InvalidValue
from welltuned.space import NO_DEFAULT, Categorical, Float, Int, Ordinal, Parameter, Space, codec, public
from welltuned.space.distributions import is_frozen
from welltuned.space.labels import find, same, stable_repr
from welltuned.space.parameters import Choice
from welltuned.space.parse import as_parameter
from welltuned.space.tuners import is_foreign


def as_grids(spec: Any) -> list[Mapping[str, Any]] | None:
    """Return a dict or a list of dicts as a list; None for any other form of a space."""
    if isinstance(spec, Space) or not isinstance(spec, (Mapping, list, tuple)):
        return None
    grids = [spec] if isinstance(spec, Mapping) else list(spec)
    return grids if all(isinstance(g, Mapping) for g in grids) else None


def read_space(what: str, spec: Any, *, pairs_are_values: bool = False) -> Space:
    """Return the space that argument ``what`` of a search describes; with ``pairs_are_values`` tuples are lists."""
    grids = as_grids(spec)
    if grids is None:
        if isinstance(spec, (list, tuple)) and any(isinstance(s, (list, tuple)) and as_grids(s[:1]) for s in spec):
            raise InvalidType(
                f"{what}={spec!r} has spaces with numbers of iterations; give a list of the spaces alone, and n_iter= "
                "or n_trials= for all of them"
            )
        space = Space.parse(spec)
        if space.positional:
            raise InvalidType(f"{what}={spec!r} has no parameter names; give a dict from name to values")
        return space
    if not grids or not all(grids):
        raise InvalidValue(f"{what}={spec!r} is empty; give at least one parameter")
    named = [{name: _read(name, values, pairs_are_values) for name, values in grid.items()} for grid in grids]
    return Space(named[0]) if len(named) == 1 else Space.parse(named)


def _read(name: Any, values: Any, pairs_are_values: bool) -> Parameter:
    """Read one entry; a list may hold a value twice, a tuple of plain values may be meant as a list."""
    if isinstance(values, str):
        raise InvalidType(f"parameter {name!r}: {values!r} is a string, not a list of values; write [{values!r}]")
    if isinstance(values, tuple) and pairs_are_values and as_list(values) is not None:
        values = list(values)
    if isinstance(values, (list, np.ndarray, range)):
        if isinstance(values, np.ndarray) and values.ndim > 1:
            raise InvalidValue(
                f"parameter {name!r}: {values!r} has {values.ndim} dimensions; give a flat list of values"
            )
        if not len(values):
            raise InvalidValue(f"parameter {name!r}: {values!r} is empty; give at least one value")
        values = _distinct(values)
    elif not (
        isinstance(values, (tuple, Mapping, Float, Int, Categorical, Ordinal))
        or is_frozen(values)
        or is_foreign(values)
        or callable(getattr(values, "rvs", None))
    ):
        raise InvalidType(f"parameter {name!r}: {values!r} is not a list of values; write [{values!r}]")
    return as_parameter(name, values)


def with_own_settings(space: Space, estimator: Any) -> Space:
    """Return a space in which an estimator's own settings are the defaults of the parameters that have none.

    Where another model is searched in the place of its own one, as a step of a pipeline, that model's are those of its
    parameters. A number out of bounds becomes the nearest one within them; what is of another kind says nothing, such
    as ``gamma="scale"`` where numbers are searched, a count where shares are, or -1 where nothing is below 0. Of a list
    of grids, the default is the one that has most of the settings, the first of equals.
    """
    own = estimator.get_params(deep=True)
    others = _settings_of_choices(space, own)
    values = {column: own[public(column)] for column in space if public(column) in own and column not in others}
    settings = values | others
    named = {n: _with_default(p, settings[n]) if n in settings else p for n, p in space.items()}
    for hidden in space.hidden:
        held = {n for n, value in values.items() if _holds(named[n], value)}
        grids = [{n for n in space if n != hidden and _stands_in(space[n], hidden, i)} for i in space[hidden].choices]  # type: ignore[union-attr]
        # a choice that is not there is another model, a number only another setting
        lacks = [(sum(isinstance(space[n], Choice) for n in grid - held), len(grid - held)) for grid in grids]
        nearest = lacks.index(min(lacks))
        if grids[nearest] & held:
            named[hidden] = replace(space[hidden], default=nearest)
    return Space(named, forbidden=space.forbidden, constraints=space.constraints, grids=bool(space.hidden))


def _settings_of_choices(space: Space, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return by column what models that may stand in the place of the estimator's own ones are, and their settings."""
    found: dict[str, Any] = {}
    for column in space:
        for step, models in _models(space, column):
            rest = public(column)[len(step) :].removeprefix("__")
            settings = [{"": model, **model.get_params(deep=True)} for model in models]
            known = [values[rest] for values in settings if rest in values]
            # what stays may be no model at all, such as "passthrough"
            stays = not rest and step in own and _holds(space[column], own[step])
            if known and not stays and not any(type(own.get(step)) is type(model) for model in models):
                found[column] = known[0]
    return found


def _models(space: Space, column: str) -> Iterator[tuple[str, list[Any]]]:
    """Yield the steps that a column is, or is a setting of, with the models that they have where it exists.

    A step within a model of another one comes after it, and so do its settings when they are set.
    """
    condition = space.conditions[column]
    for other, parameter in sorted(space.items(), key=lambda item: len(public(item[0]))):
        step = public(other)
        if not (step and isinstance(parameter, Choice) and f"{public(column)}__".startswith(f"{step}__")):
            continue
        tests = [] if condition is None else [t for c in condition.clauses for t in c if t.parent == other]
        if tests or space.conditions[other] in (None, condition):
            among = {i for t in tests for i in t.indices} or range(len(parameter.choices))
            models = [parameter.choices[i] for i in sorted(among)]
            yield step, [model for model in models if hasattr(model, "get_params") and not isinstance(model, type)]


def _stands_in(parameter: Parameter, hidden: str, grid: int) -> bool:
    clauses: Any = parameter.when or ()
    return any(grid in clause[hidden] for clause in clauses)


def _holds(parameter: Parameter, value: Any) -> bool:
    if isinstance(parameter, Choice):
        return _position(parameter.choices, value) is not None
    return parameter.default is not NO_DEFAULT and find([parameter.default], value) is not None


def _position(choices: Any, value: Any) -> int | None:
    """Return where a setting stands among choices; an estimator is one of its class and settings, or of its class."""
    index = find(choices, value)
    if index is not None or not hasattr(value, "get_params"):
        return index
    alike = [i for i, choice in enumerate(choices) if type(choice) is type(value)]
    text = stable_repr(value)
    return next((i for i in alike if stable_repr(choices[i]) == text), alike[0] if len(alike) == 1 else None)


def _with_default(parameter: Parameter, value: Any) -> Parameter:
    if parameter.default is not NO_DEFAULT:
        return parameter
    if isinstance(parameter, Choice):
        index = _position(parameter.choices, value)
        return parameter if index is None else replace(parameter, default=parameter.choices[index])
    kind = Integral if isinstance(parameter, Int) else Real
    if not isinstance(value, kind) or isinstance(value, bool) or value != value or abs(value) == math.inf:
        return parameter
    if value < 0 <= parameter.low:  # as LightGBM's max_depth=-1, which is no limit
        return parameter
    nearest = min(max(value, parameter.low), parameter.high)
    if nearest != value and isinstance(value, Integral) and isinstance(parameter, Float):
        return parameter
    if parameter.step is not None:
        nearest = codec.from_unit(parameter, codec.to_unit(parameter, [nearest]))[0]
    return replace(parameter, default=nearest)


def _distinct(values: Iterable[Any]) -> list[Any]:
    """Drop values that stand twice; 1, 1.0 and True are three values."""
    kept: list[Any] = []
    seen: set[Any] = set()
    for value in values:
        try:
            known = (type(value), value) in seen
            seen.add((type(value), value))
        except TypeError:  # not hashable
            known = same(kept, value) is not None
        if not known:
            kept.append(value)
    return kept


def as_list(values: Any) -> list[Any] | None:
    """Return the values of an entry that is a list of them; None for a range or a distribution."""
    if isinstance(values, (Categorical, Ordinal)):
        return None if values.when is not None else list(values.choices)
    if isinstance(values, tuple):
        scaled = (
            len(values) == 3 and isinstance(values[2], str) and all(isinstance(v, (int, float)) for v in values[:2])
        )
        return None if scaled else list(values)
    if isinstance(values, (list, range, np.ndarray)):
        return list(values)
    return None


class _Drawable:
    """A parameter as scikit-learn's ParameterSampler wants distributions: something with ``rvs``."""

    def __init__(self, parameter: Parameter) -> None:
        self.parameter = parameter

    def rvs(self, size: Any = None, random_state: Any = None) -> Any:  # noqa: ARG002 - one at a time is asked for
        """Draw one value that follows the parameter's scale and prior."""
        u = check_random_state(random_state).random_sample(1)
        return codec.from_unit(self.parameter, codec.apply_prior(self.parameter, u))[0]


def drawable(name: str, values: Any) -> Any:
    """Return an entry as scikit-learn's ParameterSampler takes it: a list, or something with ``rvs``."""
    if isinstance(values, (list, np.ndarray, range)) or is_frozen(values):
        return values
    parameter = as_parameter(name, values)
    plain = isinstance(parameter, (Categorical, Ordinal)) and parameter.prior is None
    return list(parameter.choices) if plain else _Drawable(parameter)  # type: ignore[union-attr]
