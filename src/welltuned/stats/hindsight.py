"""What a model's earlier expectations of a study were worth: it believes in gains that do not come.

A process that is fitted to a dozen results thinks that what it has not seen may as well be better as worse than what it
has, and a search goes where that is most so. Its expected improvements were ten times what came (`docs/benchmarks.md`).
"""

from __future__ import annotations

import numpy as np

from welltuned.surrogate.acquisition import expected_improvement
from welltuned.surrogate.gp import Posterior

LATEST = 200  # results that are looked back upon
LOOKS = (0.125, 0.25, 0.375, 0.5)  # how far back, as shares of them
MOST = 2.0  # times what was expected


def kept_promises(posterior: Posterior, n: int) -> float:
    """Return which share of what a process expected of the later half of its first ``n`` observations came; at most 1.

    Each observation is expected given those before it, and one more counts as if what was expected of it had come.
    """
    mean, sd = posterior.step_by_step()
    best = np.minimum.accumulate(posterior.data.y[:n])[:-1]
    later = slice(n // 2, n)
    expected = expected_improvement(mean[:, 1:n], sd[:, 1:n], best).mean(0)[later]
    came = np.maximum(best - posterior.data.y[1:n], 0.0)[later]
    one = float(expected.mean())
    return min(1.0, (float(came.sum()) + one) / (float(expected.sum()) + one)) if one > 0.0 else 1.0


def looks_back(n: int) -> list[int]:
    """Return after how many of ``n`` results to look ahead once more."""
    return sorted({n - round(share * min(n, LATEST)) for share in LOOKS} - {n})


def multiple(expected: float, came: float) -> float:
    """Return which multiple of what was expected came."""
    return min(max(came, 0.0) / expected, MOST) if expected > 0.0 else 1.0 if came <= 0.0 else MOST
