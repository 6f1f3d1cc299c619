"""What the trials say: which parameters matter, what to use and how good it is, whether to go on."""

from __future__ import annotations

from welltuned.stats.effects import Effect, effects
from welltuned.stats.importance import SPOKEN_OF, importance, interactions
from welltuned.stats.knowledge import FEWEST as MODEL_FROM
from welltuned.stats.knowledge import Diagnostics, Prediction, completed, diagnostics, predict
from welltuned.stats.recommend import Recommendation, recommend
from welltuned.stats.stopping import Outlook, expected_gain, outlook, regret_bound

__all__ = [
    "MODEL_FROM",
    "SPOKEN_OF",
    "Diagnostics",
    "Effect",
    "Outlook",
    "Prediction",
    "Recommendation",
    "completed",
    "diagnostics",
    "effects",
    "expected_gain",
    "importance",
    "interactions",
    "outlook",
    "predict",
    "recommend",
    "regret_bound",
]
