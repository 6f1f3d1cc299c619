"""The loop: a study and what it is made of."""

from welltuned.study.incoming import Added
from welltuned.study.optuna import from_optuna
from welltuned.study.rules import ExpectedGain, MaxCost, Patience, Rule, Target
from welltuned.study.shortcuts import delete_stored, delete_study, maximize, minimize, stored_row, stored_study
from welltuned.study.study import Study

__all__ = [
    "Added",
    "ExpectedGain",
    "MaxCost",
    "Patience",
    "Rule",
    "Study",
    "Target",
    "delete_stored",
    "delete_study",
    "from_optuna",
    "maximize",
    "minimize",
    "stored_row",
    "stored_study",
]
