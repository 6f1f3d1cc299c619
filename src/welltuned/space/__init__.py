"""Hyperparameters, the spaces they form, and the one codec to the unit cube."""

from welltuned.space.parameters import NO_DEFAULT, Categorical, Float, Int, Ordinal, Parameter
from welltuned.space.space import Params, Space, public

__all__ = ["NO_DEFAULT", "Categorical", "Float", "Int", "Ordinal", "Parameter", "Params", "Space", "public"]
