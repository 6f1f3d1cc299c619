"""Frozen ``scipy.stats`` distributions as a scale or a prior, without loading scipy until one is used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from welltuned.errors import InvalidValue


def is_frozen(value: Any) -> bool:
    """Tell whether ``value`` is a frozen scipy.stats distribution: something with quantiles and draws of its own."""
    return all(callable(getattr(value, name, None)) for name in ("ppf", "cdf", "rvs")) and hasattr(value, "args")


@dataclass(frozen=True, eq=False)
class Distribution:
    """A frozen distribution that can be compared and written as JSON by its name and arguments."""

    frozen: Any

    @property
    def name(self) -> str:
        """The name under which scipy.stats knows it."""
        return str(getattr(self.frozen.dist, "name", type(self.frozen.dist).__name__))

    @property
    def discrete(self) -> bool:
        """Whether its values are whole numbers."""
        return hasattr(self.frozen.dist, "pmf") or hasattr(self.frozen, "pmf")

    def support(self) -> tuple[float, float]:
        """Return the smallest and the largest value, which may be infinite."""
        low, high = self.frozen.support()
        return float(low), float(high)

    def ppf(self, u: np.ndarray) -> np.ndarray:
        """Map the unit interval to values; the ends stay finite."""
        tiny = 1e-9 if not all(np.isfinite(self.support())) else 0.0
        with np.errstate(over="ignore"):  # which a parameter's bounds refuse
            return np.asarray(self.frozen.ppf(np.clip(u, tiny, 1 - tiny)), dtype=float)

    def cdf(self, x: np.ndarray) -> np.ndarray:
        """Map values to the unit interval. A discrete value goes to the middle of its step: what is probable of a whole
        number is spread evenly over half a unit on either side of it.
        """
        x = np.asarray(x, dtype=float)
        with np.errstate(all="ignore"):  # a scale of 0 gives NaN, which the parameter refuses
            if not self.discrete:
                return np.asarray(self.frozen.cdf(x), dtype=float)
            whole = np.floor(x - 0.5)
            below, upto = self.frozen.cdf(whole), self.frozen.cdf(whole + 1.0)
            return np.asarray(below + np.where(np.isfinite(x), x - 0.5 - whole, 0.0) * (upto - below), dtype=float)

    def to_json(self) -> dict[str, Any]:
        """Return its name and arguments."""
        return {
            "name": self.name,
            "args": [float(a) for a in self.frozen.args],
            "kwds": {k: float(v) for k, v in self.frozen.kwds.items()},
        }

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> Distribution:
        """Rebuild a distribution of scipy.stats; any other name is refused."""
        from scipy import stats

        family = getattr(stats, str(body["name"]), None)
        if not isinstance(family, (stats.rv_continuous, stats.rv_discrete)):
            raise InvalidValue(f"{body['name']!r} is not a distribution of scipy.stats")
        try:
            return cls(family(*body["args"], **body["kwds"]))
        except TypeError as error:
            raise InvalidValue(f"{body!r} does not fit scipy.stats.{body['name']}: {error}") from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Distribution) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(str(self.to_json()))

    def __repr__(self) -> str:
        args = [f"{a:g}" for a in self.frozen.args] + [f"{k}={v:g}" for k, v in self.frozen.kwds.items()]
        return f"{self.name}({', '.join(args)})"
