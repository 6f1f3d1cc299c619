"""The loop: a study and what it is made of."""

from welltuned.study.rules import MaxCost, Patience, Rule, Target
from welltuned.study.study import Added, Study, maximize, minimize

__all__ = ["Added", "MaxCost", "Patience", "Rule", "Study", "Target", "maximize", "minimize"]
