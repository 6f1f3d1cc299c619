"""Spaces as JSON: what a storage keeps, so that a study can be read without the program that made it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from welltuned.errors import InvalidValue
from welltuned.space.distributions import Distribution
from welltuned.space.labels import find, find_named
from welltuned.space.parameters import KINDS, NO_DEFAULT, Choice, Int, Numeric, Parameter
from welltuned.space.space import Space


def space_to_json(space: Space) -> dict[str, Any]:
    """Describe a space in JSON. Choices appear by label, constraints by name."""
    body: dict[str, Any] = {"parameters": {name: parameter_to_json(space, p) for name, p in space.items()}}
    if space.forbidden:
        body["forbidden"] = [_labelled(space, f) for f in space.forbidden]
    if space.constraints:
        body["constraints"] = [getattr(c, "__qualname__", type(c).__qualname__) for c in space.constraints]
    if space.positional:
        body["positional"] = True
    return body


def parameter_to_json(space: Mapping[str, Parameter], parameter: Parameter) -> dict[str, Any]:
    """Describe one parameter in JSON."""
    body: dict[str, Any] = {"type": type(parameter).__name__.lower()}
    if isinstance(parameter, Numeric):
        if parameter.distribution is not None:
            body["distribution"] = parameter.distribution.to_json()
        else:
            body |= {"low": parameter.low, "high": parameter.high}
        body |= {"log": True} if parameter.log else {}
        body |= (
            {}
            if parameter.step is None or (isinstance(parameter, Int) and parameter.step == 1)
            else {"step": parameter.step}
        )
        body |= {} if parameter.default is NO_DEFAULT else {"default": parameter.default}
        body |= {} if parameter.prior is None else {"prior": parameter.prior.to_json()}
    else:
        body["choices"] = list(parameter.labels)
        if parameter.default is not NO_DEFAULT:
            body["default"] = parameter.labels[find(parameter.choices, parameter.default) or 0]
        body |= {} if parameter.prior is None else {"prior": list(parameter.prior)}
    if parameter.when is not None:
        clauses = [parameter.when] if isinstance(parameter.when, Mapping) else parameter.when
        body["when"] = [_labelled(space, clause) for clause in clauses]
    return body


def _labelled(space: Mapping[str, Parameter], clause: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the choices in a condition by a list of their labels."""
    return {parent: _label_wanted(space[parent], wanted) for parent, wanted in clause.items()}


def _label_wanted(parameter: Parameter, wanted: Any) -> Any:
    if isinstance(parameter, Choice):
        if (index := find_named(parameter.choices, parameter.labels, wanted)) is not None:
            return [parameter.labels[index]]
        found = [find_named(parameter.choices, parameter.labels, w) for w in wanted]
        # sorted: the order of a set is another one in each process
        return [parameter.labels[i] for i in sorted(i for i in found if i is not None)]
    if isinstance(wanted, (set, frozenset)):
        return sorted(_plain(w) for w in wanted)
    return [_plain(w) for w in wanted] if isinstance(wanted, (list, tuple)) else _plain(wanted)


def _plain(value: Any) -> Any:
    """Return a numpy scalar as the Python number that JSON can hold."""
    return value.item() if isinstance(value, np.generic) else value


def space_from_json(body: Mapping[str, Any]) -> Space:
    """Rebuild a space. Constraints cannot be: they are code, and code is not stored."""
    try:
        parameters = {name: parameter_from_json(p) for name, p in body["parameters"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidValue(f"{dict(body)!r} does not describe a space: {error!r}") from None
    return Space(
        parameters,
        grids=any("@" in name for name in parameters),
        forbidden=body.get("forbidden", ()),
        positional=bool(body.get("positional", False)),
    )


def parameter_from_json(body: Mapping[str, Any]) -> Parameter:
    """Rebuild one parameter."""
    args = dict(body)
    kind = KINDS[args.pop("type")]
    if "distribution" in args:
        args["low"] = Distribution.from_json(args.pop("distribution")).frozen
    if isinstance(args.get("prior"), Mapping):
        args["prior"] = Distribution.from_json(args["prior"])
    return kind(args.pop("choices") if "choices" in args else args.pop("low"), *_second(args), **args)


def _second(args: dict[str, Any]) -> list[Any]:
    return [args.pop("high")] if "high" in args else []
