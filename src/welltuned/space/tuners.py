"""Declarations of other tuners, told by their attributes: none of these packages is imported."""

from __future__ import annotations

from typing import Any


def is_skopt(spec: Any) -> bool:
    """Tell whether this is a dimension of scikit-optimize."""
    return type(spec).__name__ in ("Real", "Integer", "Categorical") and hasattr(spec, "transform")


def is_optuna(spec: Any) -> bool:
    """Tell whether this is a distribution of Optuna."""
    return type(spec).__module__.startswith("optuna.distributions") and hasattr(spec, "single")


def is_ray(spec: Any) -> bool:
    """Tell whether this is a domain of Ray Tune."""
    return type(spec).__module__.startswith("ray.tune.") and hasattr(spec, "get_sampler")


def is_hyperopt(spec: Any) -> bool:
    """Tell whether this is an expression of Hyperopt."""
    return type(spec).__module__.startswith("hyperopt.") and hasattr(spec, "pos_args")


def is_foreign(spec: Any) -> bool:
    """Tell whether this is a declaration of any of them."""
    return is_skopt(spec) or is_optuna(spec) or is_ray(spec) or is_hyperopt(spec)
