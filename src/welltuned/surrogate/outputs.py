"""What is done to the observed values before a process is fitted to them."""

from __future__ import annotations

import numpy as np


def standardise(y: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Return ``(y - centre) / scale`` with the centre and the scale; constant values give zeros and a scale of 1.

    The median goes first, so that values around 1e12 keep their digits.
    """
    unit = max(float(np.abs(y).max(initial=0.0)), np.finfo(float).tiny)
    median = np.median(y / unit)
    shifted = y / unit - median
    centre, scale = shifted.mean(), shifted.std()
    if not scale > 1e-12:
        return np.zeros_like(y), float(median * unit), 1.0
    return (shifted - centre) / scale, float((median + centre) * unit), float(scale * unit)


def winsorise(y: np.ndarray) -> np.ndarray:
    """Clip the bad tail at Tukey's fence, the upper quartile plus 1.5 interquartile ranges; never the good one."""
    if len(y) < 5:
        return y
    q1, q3 = np.quantile(y, [0.25, 0.75])
    return np.minimum(y, q3 + 1.5 * (q3 - q1)) if q3 > q1 else y


def clip_bad(y: np.ndarray, spans: float = 5.0) -> np.ndarray:
    """Clip the bad tail at ``spans`` times the distance from the best value to the median, beyond the median.

    With a dozen values, one that is far off would leave no scale for the differences among the good ones.
    """
    if len(y) < 3:
        return y
    median = np.median(y)
    reach = spans * (median - y.min())
    return np.minimum(y, median + reach) if reach > 0 else y


def clip_diverged(y: np.ndarray, factor: float = 100.0) -> np.ndarray:
    """Clip what lies ``factor`` times as far from the best value as the next better one does, in the bad half.

    A search leaves most values near the best one, where any fence by quantiles takes all others for outliers, and with
    them most of what there is to learn of the whole space. A gap of two orders of magnitude is another matter.
    """
    unit = max(float(np.abs(y).max(initial=0.0)), np.finfo(float).tiny)  # differences of huge values overflow
    away = np.sort(y / unit - (y / unit).min())[len(y) // 2 :]
    gaps = np.flatnonzero((away[1:] > factor * away[:-1]) & (away[:-1] > 0.0))
    return np.minimum(y, np.sort(y)[len(y) // 2 + gaps[0]]) if len(gaps) else y
