"""Warping of the inputs: a monotone map of [0, 1] onto itself for each numeric feature, learned with the process.

The Kumaraswamy distribution function v = 1 - (1 - xᵃ)ᵇ, as in Snoek, Swersky, Zemel and Adams, *Input Warping for
Bayesian Optimization of Non-Stationary Functions* (ICML 2014), section 3.1. With a = b = 1 it changes nothing.
"""

from __future__ import annotations

import numpy as np

EDGE = 1e-9  # keeps logarithms finite at the ends


def _inside(x: np.ndarray) -> np.ndarray:
    return np.minimum(np.maximum(x, EDGE), 1.0 - EDGE)


def kumaraswamy(x: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the warped x; all shapes broadcast."""
    return -np.expm1(b * np.log1p(-_inside(x) ** a))


def slope(x: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return dv/dx = a b xᵃ⁻¹ (1 - xᵃ)ᵇ⁻¹."""
    x = _inside(x)
    power = x**a
    return a * b * power / x * (1.0 - power) ** (b - 1.0)


def with_derivatives(x: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return v, dv/d log a = a b (1 - xᵃ)ᵇ⁻¹ xᵃ log x, and dv/d log b = -b (1 - xᵃ)ᵇ log(1 - xᵃ)."""
    log_x = np.log(_inside(x))
    power = np.exp(a * log_x)
    log_rest = np.log1p(-power)
    rest = np.exp(b * log_rest)
    return 1.0 - rest, a * b * rest / (1.0 - power) * power * log_x, -b * rest * log_rest
