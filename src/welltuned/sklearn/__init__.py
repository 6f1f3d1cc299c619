"""Searches that are scikit-learn estimators: change the import and keep the program.

``GridSearchCV`` and ``RandomizedSearchCV`` take scikit-learn's arguments, ``BayesSearchCV`` scikit-optimize's;
``GradientSearchCV`` and ``TunedSearchCV`` offer the rest. All of them can keep their fits in a file (``storage=``),
stop at a time (``time_budget=``), and show one live line.
"""

try:
    import sklearn as _sklearn  # noqa: F401
except ImportError as _error:
    from welltuned.errors import require

    raise require("scikit-learn", "sklearn", "welltuned.sklearn") from _error

from welltuned.sklearn.searches import BayesSearchCV, GradientSearchCV, GridSearchCV, RandomizedSearchCV, TunedSearchCV

__all__ = ["BayesSearchCV", "GradientSearchCV", "GridSearchCV", "RandomizedSearchCV", "TunedSearchCV"]
