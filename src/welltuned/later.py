"""What of SciPy a search may need, loaded when it is first used: that takes longer than all else of opening a study.

Who looks at a study, or draws at random, needs none of it.
"""

from __future__ import annotations

import importlib
from typing import Any


class Later:
    """A module that is loaded when something of it is first asked for.

    Examples
    --------
    >>> float(Later("scipy.special").ndtr(0.0))
    0.5
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what copying, pickling and the like look for
            raise AttributeError(name)
        value = getattr(importlib.import_module(self._name), name)
        setattr(self, name, value)
        return value


lapack = Later("scipy.linalg.lapack")
special = Later("scipy.special")
