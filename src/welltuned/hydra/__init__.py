"""The sweeper ``welltuned`` of Hydra: overrides become a space, trials become jobs of whatever launcher there is.

Hydra finds it as ``hydra_plugins.welltuned_sweeper``, where its settings are; a program imports nothing of it.
"""

from __future__ import annotations

from welltuned.hydra.jobs import Jobs
from welltuned.hydra.overrides import Search, as_override, read_search, read_sweep
from welltuned.hydra.sweep import sweep

__all__ = ["Jobs", "Search", "as_override", "read_search", "read_sweep", "sweep"]
