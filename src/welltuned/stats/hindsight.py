"""What a model's earlier expectations of a study were worth: it believes in gains that do not come.

A process that is fitted to a dozen results thinks that what it has not seen may as well be better as worse than what it
has, and a search goes where that is most so. `benchmarks/calibration.py` measures what is left of that.
"""

from __future__ import annotations

import numpy as np

from welltuned.surrogate.acquisition import expected_improvement
from welltuned.surrogate.gp import Posterior

LATEST = 200  # results that are looked back upon
LOOKS = (0.125, 0.25, 0.375, 0.5)  # how far back, as shares of them
MOST = 2.0  # times what was expected


def kept_promises(posterior: Posterior, allowed: np.ndarray) -> float:
    """Return which share of what a process expected of later observations came; at most 1.

    They are the later half of its first n, of which those count that are ``allowed``, shape (n,). Each is expected
    given those before it, and one more counts as if what was expected of it had come.
    """
    y = posterior.data.y[: len(allowed)]
    mean, sd = posterior.step_by_step()
    best = np.minimum.accumulate(np.where(allowed, y, np.inf))
    after = np.flatnonzero(allowed)[1:]  # nothing was expected of the first one
    later = after[len(after) // 2 :]
    if not len(later):
        return 1.0
    expected = expected_improvement(mean[:, later], sd[:, later], best[later - 1]).mean(0)
    came = np.maximum(best[later - 1] - y[later], 0.0)
    one = float(expected.mean())
    return min(1.0, (float(came.sum()) + one) / (float(expected.sum()) + one)) if one > 0.0 else 1.0


def looks_back(n: int) -> list[int]:
    """Return after how many of ``n`` results to look ahead once more."""
    return sorted({n - round(share * min(n, LATEST)) for share in LOOKS} - {n})


def multiple(expected: float, came: float) -> float:
    """Return which multiple of what was expected came."""
    return min(max(came, 0.0) / expected, MOST) if expected > 0.0 else 1.0 if came <= 0.0 else MOST
