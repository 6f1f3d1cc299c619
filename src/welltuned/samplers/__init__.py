"""The families of search. ``SAMPLERS`` maps the name of ``sampler=`` to its class."""

from __future__ import annotations

from typing import Any

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
from welltuned.settings import describe, make

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
    sampler: Sampler = make("sampler", SAMPLERS, Sampler, spec)
    return sampler


def describe_sampler(sampler: Sampler) -> dict[str, Any]:
    """Return the name and the settings of a sampler, as JSON can hold them."""
    return describe(SAMPLERS, sampler)


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
