"""The loop: a study and what it is made of."""

from welltuned.study.rules import ExpectedGain, MaxCost, Patience, Rule, Target
from welltuned.study.shortcuts import maximize, minimize, stored_study
from welltuned.study.study import Added, Study

__all__ = [
    "Added",
    "ExpectedGain",
    "MaxCost",
    "Patience",
    "Rule",
    "Study",
    "Target",
    "maximize",
    "minimize",
    "stored_study",
]
