"""The families of search. ``SAMPLERS`` maps the name of ``sampler=`` to its class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from welltuned.errors import InvalidType, InvalidValue
from welltuned.samplers.auto import Auto
from welltuned.samplers.bayes import Bayes
from welltuned.samplers.cmaes import CMAES
from welltuned.samplers.gradient import Gradient
from welltuned.samplers.grid import Grid
from welltuned.samplers.nsga2 import NSGA2
from welltuned.samplers.protocol import Sampler
from welltuned.samplers.qmc import QMC
from welltuned.samplers.random import Random
from welltuned.samplers.tpe import TPE

SAMPLERS: dict[str, type[Any]] = {
    "auto": Auto,
    "bayes": Bayes,
    "cmaes": CMAES,
    "gradient": Gradient,
    "grid": Grid,
    "nsga2": NSGA2,
    "qmc": QMC,
    "random": Random,
    "tpe": TPE,
}


def make_sampler(spec: Any) -> Sampler:
    """Return the sampler that ``sampler=`` names: a name, or a sampler, or a dict of a name and settings.

    Raises
    ------
    InvalidValue, InvalidType
        For an unknown name, or something that is no sampler.

    Examples
    --------
    >>> make_sampler("bayes")
    Bayes(initial=None, fantasies=16, members=4)
    """
    if isinstance(spec, str):
        if spec not in SAMPLERS:
            raise InvalidValue(f"sampler={spec!r} is unknown; known are {sorted(SAMPLERS)!r}")
        return SAMPLERS[spec]()
    if isinstance(spec, Mapping):
        settings = {k: v for k, v in spec.items() if k != "name"}
        kind = type(make_sampler(spec.get("name")))
        try:
            return kind(**settings)
        except TypeError as error:
            if isinstance(error, InvalidType):
                raise
            raise InvalidValue(f"sampler={dict(spec)!r}: {error}") from None
    if isinstance(spec, Sampler) and not isinstance(spec, type):
        return spec
    raise InvalidType(f"sampler={spec!r} is neither a name out of {sorted(SAMPLERS)!r} nor a sampler")


def describe_sampler(sampler: Sampler) -> dict[str, Any]:
    """Return the name and the settings of a sampler, as JSON can hold them."""
    name = next((n for n, kind in SAMPLERS.items() if type(sampler) is kind), type(sampler).__name__)
    settings = {
        k: v for k, v in getattr(sampler, "__dict__", {}).items() if isinstance(v, (str, int, float, bool, type(None)))
    }
    return {"name": name, **settings}


__all__ = [
    "CMAES",
    "NSGA2",
    "SAMPLERS",
    "TPE",
    "Auto",
    "Bayes",
    "Gradient",
    "Grid",
    "QMC",
    "Random",
    "Sampler",
    "describe_sampler",
    "make_sampler",
]
