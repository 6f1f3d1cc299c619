"""The names of scikit-learn that are private to it and that a search cannot do without, all in one place.

They are the ones its own searches are made of, have been stable since 1.4, and are tested with the oldest and the
newest supported release.
"""

from sklearn.metrics._scorer import _check_multimetric_scoring as check_multimetric_scoring
from sklearn.metrics._scorer import _MultimetricScorer as MultimetricScorer
from sklearn.utils.metaestimators import _safe_split as safe_split
from sklearn.utils.validation import _check_method_params as check_method_params

__all__ = ["MultimetricScorer", "check_method_params", "check_multimetric_scoring", "safe_split"]
