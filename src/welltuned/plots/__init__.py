"""Figures of a study, as plotly figures: the same in a notebook, in a report and in a dashboard.

Each takes a :class:`welltuned.Study` or a :class:`welltuned.History`.
"""

from __future__ import annotations

from welltuned.plots.ground import MOST, hover, most_in_panels, sample, show, shown, written
from welltuned.plots.model import effects, importance, interactions, surface
from welltuned.plots.trials import comparison, curves, front, history, parallel, slices

#: the figures of one objective
FIGURES = {
    "history": history,
    "importance": importance,
    "interactions": interactions,
    "effects": effects,
    "slices": slices,
    "parallel": parallel,
}

__all__ = [
    "FIGURES",
    "MOST",
    "comparison",
    "curves",
    "effects",
    "front",
    "history",
    "hover",
    "importance",
    "interactions",
    "most_in_panels",
    "parallel",
    "sample",
    "show",
    "shown",
    "slices",
    "surface",
    "written",
]
