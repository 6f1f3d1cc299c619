"""The narrow waist between a study and its search: history in, suggestions out."""

from __future__ import annotations

from typing import ClassVar, Protocol, runtime_checkable

import numpy as np

from welltuned.history import History
from welltuned.space import Params, Space


@runtime_checkable
class Sampler(Protocol):
    """Propose configurations from what was seen so far, and from nothing else.

    A sampler holds settings, never what it learned: the same arguments give the same suggestions, in any process. It
    may cache what it derived from a history, as long as dropping the cache changes nothing.

    Attributes
    ----------
    model_based
        Whether results steer the search.
    several_objectives
        Whether it can be used with more than one objective.

    A sampler may also say ``reads_history = False``: what it proposes depends on the history only in that it proposes
    no configuration twice. Where there are infinitely many, it is then not shown the history unless one collides.
    """

    model_based: ClassVar[bool]
    several_objectives: ClassVar[bool]

    def suggest(self, space: Space, history: History, n: int, rng: np.random.Generator) -> list[Params]:
        """Return up to ``n`` new, distinct, allowed configurations for the trials from number k on.

        ``rng`` is the generator of trial k; see :mod:`welltuned.streams` for what derives from it. Fewer than ``n`` are
        returned when the sampler has nothing left to propose: an empty list says that the search is exhausted.
        """
