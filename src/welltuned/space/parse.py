"""Spaces from what people already have: dicts, tuples, lists, distributions, grids, bounds, dataclasses, YAML, JSON."""

from __future__ import annotations

import dataclasses
import enum
import itertools
import json
import math
import numbers
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from welltuned.errors import InvalidType, InvalidValue
from welltuned.space.distributions import is_frozen
from welltuned.space.foreign import (
    WANDB,
    from_distribution,
    from_hyperopt,
    from_ray,
    from_skopt,
    from_wandb,
    holds_hyperopt,
    is_wandb,
    named_by_skopt,
)
from welltuned.space.labels import find
from welltuned.space.parameters import KINDS, NO_DEFAULT, Categorical, Float, Int, Ordinal, Parameter
from welltuned.space.space import Space
from welltuned.space.tuners import is_hyperopt, is_optuna, is_ray, is_skopt

SCALES = {"uniform": False, "linear": False, "log-uniform": True, "loguniform": True, "log": True}
GRID = "@grid"


def parse(spec: Any) -> Space:
    """Build a space from any understood form; see :meth:`welltuned.Space.parse`."""
    if isinstance(spec, Space):
        return spec
    if isinstance(spec, (str, Path)):
        return parse(load(spec))
    if dataclasses.is_dataclass(spec):
        return Space(_dataclass_fields(spec))
    if holds_hyperopt(spec):
        return Space(from_hyperopt(spec))
    if isinstance(spec, Mapping):
        return _from_mapping(spec)
    if hasattr(spec, "lb") and hasattr(spec, "ub"):  # scipy.optimize.Bounds
        return _from_bounds([tuple(map(float, pair)) for pair in np.broadcast(spec.lb, spec.ub)])
    if isinstance(getattr(spec, "dimensions", None), list):  # scikit-optimize's Space
        return parse(spec.dimensions)
    if isinstance(spec, Sequence) and spec and all(isinstance(s, Mapping) for s in spec):
        return _from_grids(spec)
    if isinstance(spec, (Sequence, np.ndarray)) and len(spec):
        return _from_bounds(spec)
    raise InvalidType(f"cannot read a space from {spec!r}; give a dict such as {{'lr': (1e-5, 1e-1, 'log-uniform')}}")


def as_parameter(name: str, spec: Any) -> Parameter:
    """Read one parameter from any understood form."""
    if isinstance(spec, (Float, Int, Categorical, Ordinal)):
        return spec
    try:
        return _as_parameter(spec)
    except (InvalidValue, InvalidType) as error:
        raise type(error)(f"parameter {name!r}: {error}") from None


def _as_parameter(spec: Any) -> Parameter:
    if is_frozen(spec):
        return _from_distribution(spec)
    if isinstance(spec, Mapping):
        return _from_description(spec)
    if isinstance(spec, tuple):
        return _from_tuple(spec)
    if isinstance(spec, (list, range, set, frozenset)) or (isinstance(spec, np.ndarray) and spec.ndim):
        return _from_list(sorted(spec, key=repr) if isinstance(spec, (set, frozenset)) else list(spec))
    if is_skopt(spec):
        return from_skopt(spec)
    if is_optuna(spec):
        return from_distribution(spec) or Categorical([spec.low])
    if is_ray(spec):
        return _unless_list(from_ray(spec))
    if is_hyperopt(spec):
        raise InvalidType("it is an expression of Hyperopt; give the whole space to Space.parse, or to Study")
    if spec is None or isinstance(spec, (str, bool, numbers.Real)):
        return Categorical([spec])
    if callable(getattr(spec, "rvs", None)):
        raise InvalidType(
            f"{spec!r} can be drawn from but has no quantile function (ppf), which maps it to the unit "
            "interval; use a frozen scipy.stats distribution"
        )
    raise InvalidType(
        f"{spec!r} is neither a parameter, a list, a (low, high) tuple nor a frozen scipy.stats distribution"
    )


def _from_distribution(frozen: Any) -> Parameter:
    """Read a frozen distribution; the plain ones become bounds and scale, others keep their quantile function."""
    name, (low, high) = frozen.dist.name, (float(b) for b in frozen.support())
    if name == "uniform":
        return Float(low, high)
    if name in ("loguniform", "reciprocal"):
        return Float(low, high, log=True)
    if name == "randint":
        return Int(int(low), int(high)) if low < high else Categorical([int(low)])
    return Int(frozen) if hasattr(frozen, "pmf") or hasattr(frozen.dist, "pmf") else Float(frozen)


def _from_tuple(spec: tuple[Any, ...]) -> Parameter:
    """Read ``(low, high)`` and ``(low, high, scale)``; any other tuple is a list of choices, as in scikit-optimize."""
    pair = spec[:2]
    if len(pair) == 2 and all(_is_number(v) for v in pair):
        if len(spec) == 2:
            return _bounds(*pair, log=False)
        if len(spec) == 3 and isinstance(spec[2], str):
            if spec[2] not in SCALES:
                raise InvalidValue(f"{spec!r} has the unknown scale {spec[2]!r}; known are {sorted(SCALES)!r}")
            return _bounds(*pair, log=SCALES[spec[2]])
    return _from_list(list(spec))


def _bounds(low: Any, high: Any, *, log: bool) -> Parameter:
    whole = all(isinstance(v, numbers.Integral) for v in (low, high))
    return Int(int(low), int(high), log=log) if whole else Float(float(low), float(high), log=log)


def _from_list(values: list[Any]) -> Parameter:
    """Read a list of choices; distinct numbers are an ordinal, in ascending or descending order as given."""
    values = [v.item() if isinstance(v, np.generic) else v for v in values]
    if len(values) == 3 and isinstance(values[2], str) and values[2] in SCALES and all(map(_is_number, values[:2])):
        return _bounds(*values[:2], log=SCALES[values[2]])  # YAML and JSON have no tuples
    if len(values) > 1 and all(_is_number(v) and _is_finite(v) for v in values) and len(set(values)) == len(values):
        ordered = sorted(values)
        return Ordinal(values if values in (ordered, ordered[::-1]) else ordered)
    return Categorical(values)


def _unless_list(found: Parameter | list[Any]) -> Parameter:
    """Read the values that another tuner chooses among as any other list; a parameter stays as it is."""
    return _from_list(found) if isinstance(found, list) else found


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _from_description(spec: Mapping[str, Any]) -> Parameter:
    """Read ``{"type": "float", "low": 1e-5, "high": 0.1, "log": true}``, the form for YAML and JSON."""
    if set(spec) == {"grid_search"}:  # Ray Tune's
        return _from_list(list(spec["grid_search"]))
    if is_wandb(spec):
        return _unless_list(from_wandb(spec))
    body = dict(spec)
    kind = body.pop("type", None)
    if kind is None:
        whole = all(isinstance(body.get(k), numbers.Integral) for k in ("low", "high"))
        kind = "categorical" if "choices" in body else "int" if whole else "float"
    if not isinstance(kind, str) or kind not in KINDS:
        raise InvalidValue(f"type={kind!r} is unknown; known are {sorted(KINDS)!r}")
    if isinstance(body.get("prior"), Mapping):
        from welltuned.space.distributions import Distribution

        if "name" not in body["prior"]:
            raise InvalidValue(f"'prior': {dict(body['prior'])!r} lacks 'name', that of a distribution of scipy.stats")
        body["prior"] = Distribution.from_json({"args": [], "kwds": {}, **body["prior"]})
    if kind in ("categorical", "ordinal"):
        if "choices" not in body:
            raise InvalidValue(f"{dict(spec)!r} lacks 'choices'")
        return KINDS[kind](body.pop("choices"), **_known(kind, body, spec))
    for key in ("low", "high"):
        if key not in body:
            raise InvalidValue(f"{dict(spec)!r} lacks {key!r}{_instead(body)}")
    return KINDS[kind](body.pop("low"), body.pop("high"), **_known(kind, body, spec))


def _instead(body: Mapping[str, Any]) -> str:
    """Say what may have been meant by a description that lacks a bound."""
    if {"low", "high"} & set(body):
        return ""
    if WANDB & set(body):
        return "; beside 'when', 'default' and the like, write 'low' and 'high', or 'choices'"
    return (
        "; if it holds parameters of its own: a space has no levels: write its parameters beside it, as 'model.lr', "
        "with when={…} where they exist for one choice only"
    )


def _known(kind: str, body: dict[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    allowed = {"default", "when", "prior"} | ({"log", "step"} if kind in ("float", "int") else set())
    if unknown := sorted(set(map(str, body)) - allowed):
        raise InvalidValue(f"{dict(spec)!r} has unknown entries {unknown!r}; a {kind} takes {sorted(allowed)!r}")
    return body


def _from_mapping(spec: Mapping[str, Any]) -> Space:
    """Read a dict of parameters, or the outer form with ``parameters``, ``forbidden`` and ``constraints``."""
    if isinstance(spec.get("parameters"), Mapping) and set(spec) <= {"parameters", "forbidden", "constraints"}:
        return Space(spec["parameters"], forbidden=spec.get("forbidden", ()), constraints=spec.get("constraints", ()))
    if isinstance(spec.get("parameters"), Mapping) and not {"type", "low", "high", "choices"} & set(spec["parameters"]):
        odd = sorted(set(spec) - {"parameters", "forbidden", "constraints"}, key=repr)
        sweep = "; of a sweep, keep 'parameters' alone" if {"method", "metric"} & set(odd) else ""
        raise InvalidValue(
            f"Space: {odd!r} beside 'parameters' is unknown; only 'forbidden' and 'constraints' may stand there{sweep}"
        )
    return Space(spec)


def _from_bounds(spec: Any) -> Space:
    """Read a list of dimensions. Pairs of numbers are real intervals, as in scipy.optimize."""
    if (named := named_by_skopt(spec)) is not None:
        return Space(named)
    parameters: dict[str, Parameter] = {}
    for i, bound in enumerate(spec):
        pair = tuple(bound) if isinstance(bound, (list, np.ndarray)) and len(bound) == 2 else bound
        if isinstance(pair, tuple) and len(pair) == 2 and all(_is_number(v) for v in pair):
            pair = (float(pair[0]), float(pair[1]))
        elif isinstance(pair, tuple) and len(pair) == 2 and any(v is None for v in pair):
            raise InvalidValue(f"bound {i}: {bound!r} is open; a search needs both ends")
        elif not (isinstance(pair, (tuple, Float, Int, Categorical, Ordinal)) or is_frozen(pair) or is_skopt(pair)):
            raise InvalidType(f"bound {i}: {bound!r} is not a (low, high) pair; give a dict to name the parameters")
        parameters[f"x{i}"] = as_parameter(f"x{i}", pair)
        odd = [c for c in getattr(parameters[f"x{i}"], "choices", ()) if not _is_number(c)]
        if odd:
            raise InvalidType(f"bound {i}: {odd[0]!r} is not a number; give a dict to name the parameters")
    return Space(parameters, positional=True)


def _from_grids(grids: Sequence[Mapping[str, Any]]) -> Space:
    """Read a list of grids: a hidden choice of the grid, and columns that are active in theirs."""
    for name in itertools.chain.from_iterable(grids):
        if isinstance(name, str) and "@" in name:
            raise InvalidValue(f"Space: the name {name!r} holds '@', which is reserved")
    parsed = [{name: as_parameter(name, spec) for name, spec in grid.items()} for grid in grids]
    if len(parsed) == 1:
        return Space(parsed[0])
    columns: dict[str, Any] = {GRID: Categorical(range(len(parsed)))}
    for name in dict.fromkeys(itertools.chain.from_iterable(parsed)):
        owners = [i for i, grid in enumerate(parsed) if name in grid]
        groups: list[list[int]] = []
        for i in owners:
            same = next((g for g in groups if repr(parsed[g[0]][name]) == repr(parsed[i][name])), None)
            groups.append([i]) if same is None else same.append(i)
        for group in groups:
            parameter = parsed[group[0]][name]
            if parameter.when is not None and len(groups) > 1:
                raise InvalidValue(
                    f"parameter {name!r}: when={parameter.when!r} inside a list of grids whose ranges differ"
                )
            column = name if len(groups) == 1 else f"{name}@{group[0]}"
            columns[column] = dataclasses.replace(parameter, when=_within(parameter.when, group))
    return Space(columns, grids=True)


def _within(when: Any, group: list[int]) -> Any:
    clauses = [{}] if when is None else [when] if isinstance(when, Mapping) else when
    return [{GRID: list(group), **clause} for clause in clauses]


def _dataclass_fields(spec: Any) -> dict[str, Any]:
    """Read the fields whose annotation or default says what to search; plain fields keep their defaults."""
    owner = spec if isinstance(spec, type) else type(spec)
    hints = typing.get_type_hints(owner, include_extras=True)
    found: dict[str, Any] = {}
    for f in dataclasses.fields(spec):
        given = getattr(spec, f.name, f.default) if not isinstance(spec, type) else f.default
        if isinstance(given, (Float, Int, Categorical, Ordinal)):
            found[f.name] = given
            continue
        searched = _annotation(f.name, hints[f.name])
        if searched is not None:
            found[f.name] = _with_default(f.name, searched, given)
        elif given is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise InvalidValue(
                f"field {f.name!r} of {owner.__name__}: {hints[f.name]!r} does not say what to search; write "
                "Annotated[float, wt.Float(low, high)] or give it a default"
            )
    return found


def _annotation(name: str, hint: Any) -> Parameter | None:
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return as_parameter(name, next(iter(hint.__metadata__)))
    if origin is typing.Literal:
        return as_parameter(name, list(typing.get_args(hint)))
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return Categorical(list(hint))
    return Categorical([False, True]) if hint is bool else None


def _with_default(name: str, parameter: Parameter, default: Any) -> Parameter:
    if default is dataclasses.MISSING or parameter.default is not NO_DEFAULT:
        return parameter
    if isinstance(parameter, (Categorical, Ordinal)) and find(parameter.choices, default) is None:
        raise InvalidValue(f"field {name!r}: the default {default!r} is not among {list(parameter.choices)!r}")
    return dataclasses.replace(parameter, default=default)


def load(source: str | Path) -> Any:
    """Read JSON or YAML, from a file when ``source`` is a path (or looks like one) and else from the text itself."""
    text = str(source)
    is_path = isinstance(source, Path) or ("\n" not in text and re.search(r"\.(ya?ml|json)$", text.strip()) is not None)
    if is_path:
        try:
            text = Path(source).expanduser().read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise InvalidValue(
                f"cannot read the space from {str(source)!r}: {getattr(error, 'strerror', None) or error}"
            ) from error
    body = _load_text(text, str(source) if is_path else "the text")
    if not isinstance(body, (dict, list)):
        raise InvalidValue(
            f"{text[:80]!r}{f' in {str(source)!r}' if is_path else ''} is no space; write a mapping from name to "
            "parameter, or the path of a file"
        )
    return body


def _load_text(text: str, where: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """YAML 1.2 numbers (so that 1e-5 is one) and no key twice."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [self.construct_object(k, deep=True) for k, _ in node.value]
            if twice := [k for i, k in enumerate(keys) if k in keys[:i]]:
                raise InvalidValue(f"{where}: the name {twice[0]!r} stands twice, line {node.start_mark.line + 1}")
            return super().construct_mapping(node, deep)

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)$"),
        list("-+0123456789."),
    )
    try:
        return (
            json.loads(text, object_pairs_hook=_unique) if text.lstrip()[:1] in ("{", "[") else yaml.load(text, Loader)
        )
    except json.JSONDecodeError:
        try:
            return yaml.load(text, Loader)
        except yaml.YAMLError as error:
            raise InvalidValue(f"{where} is neither JSON nor YAML: {_one_line(error)}") from None
    except yaml.YAMLError as error:
        raise InvalidValue(f"{where} is not YAML: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for key, value in pairs:
        if key in seen:
            raise InvalidValue(f"the name {key!r} stands twice")
        seen[key] = value
    return seen
