"""One Euclidean embedding for every space: mixed, conditional, ordinal.

A real, whole-number or ordinal parameter becomes one feature in [0, 1]; a categorical one with K choices becomes K
features, its one-hot code divided by √2, so that squared distances count differing choices. An inactive number sits
at 0.5 and an inactive category at the zero vector, so that two configurations that lack a parameter do not differ in
it, while the parent's own code keeps the branches apart. Features of one parameter share a length scale.

Where parts of trainings are observed beside whole ones, how much of a training each was is one more feature.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from welltuned.space import Categorical, Space, codec


@dataclass(frozen=True)
class Embedding:
    """The map from unit coordinates, shape (n, p), to features, shape (n, D), of ``g`` groups.

    Attributes
    ----------
    numeric
        For each numeric feature, its column in the cube.
    categorical
        For each categorical parameter, its column in the cube and its number of choices. Its features follow those
        of the numeric ones.
    group
        For each feature the group, from 0 to g-1, whose length scale it uses; shape (D,).
    partial
        Whether the last feature is how much of a training was observed.
    """

    numeric: np.ndarray
    categorical: tuple[tuple[int, int], ...]
    group: np.ndarray
    partial: bool = False

    @property
    def n_groups(self) -> int:
        """Number of length scales, g."""
        return len(self.numeric) + len(self.categorical) + self.partial

    def __call__(self, unit: np.ndarray, shares: np.ndarray | float = 1.0) -> np.ndarray:
        """Embed rows of the cube, NaN where inactive; of whole trainings, unless their ``shares`` are given."""
        out = np.zeros((len(unit), len(self.group)))
        at = len(self.numeric)
        numbers = unit[:, self.numeric]
        out[:, :at] = np.where(np.isnan(numbers), 0.5, numbers)
        for column, n in self.categorical:
            rows = np.flatnonzero(~np.isnan(unit[:, column]))
            index = np.floor(unit[rows, column] * n).clip(0, n - 1).astype(int)
            out[rows, at + index] = np.sqrt(0.5)
            at += n
        if self.partial:
            out[:, -1] = shares
        return out

    def pull(self, d_phi: np.ndarray, unit: np.ndarray) -> np.ndarray:
        """Turn derivatives by features, shape (q, D), into those by coordinates, shape (q, p); 0 for the others."""
        out = np.zeros_like(unit)
        out[:, self.numeric] = np.where(np.isnan(unit[:, self.numeric]), 0.0, d_phi[:, : len(self.numeric)])
        return out

    def with_parts(self) -> Embedding:
        """Return the embedding with a feature for how much of a training was observed."""
        return replace(self, group=np.append(self.group, self.n_groups), partial=True)


def embedding(space: Space) -> Embedding:
    """Build the embedding of a space. A parameter with one value only has no feature."""
    numeric, categorical = [], []
    for name, parameter in space.items():
        n = codec.cells(parameter)
        if n == 1:
            continue
        if isinstance(parameter, Categorical):
            categorical.append((space.column[name], len(parameter.choices)))
        else:
            numeric.append(space.column[name])
    group = list(range(len(numeric)))
    for k, (_, n) in enumerate(categorical):
        group += [len(numeric) + k] * n
    return Embedding(np.array(numeric, dtype=int), tuple(categorical), np.array(group, dtype=int))
