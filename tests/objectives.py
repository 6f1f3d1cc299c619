"""Objectives of worker processes, which import where they are defined: here nothing is loaded that they do not use."""

import enum
import random
import time


def on_finite(p):
    return abs(p["a"] - 2) + (p["b"] != "r") + p["c"]


def sleepy(trial):
    time.sleep(random.random() * 0.03)
    if trial["x"] > 0.9:
        raise ValueError("too far")
    for step in range(3):
        trial.report(trial["x"] + step, step)
        if trial.should_stop():
            trial.prune()
        time.sleep(random.random() * 0.005)
    return trial["x"] ** 2 + trial["y"]


def value(p):
    return (p["x"] - 0.3) ** 2 + p["n"]


def by_run(trial):
    kind = trial.suggest_categorical("kind", ["a", "b"])
    if kind == "a":
        return trial.suggest_float("lr", 1e-5, 1e-1, log=True)
    return trial.suggest_int("n", 1, 9) + trial.suggest_float("f", 0.0, 1.0, step=0.25)


class Colour(enum.Enum):
    RED = 1
    GREEN = "green"


class Layer:
    pass


def activation(x):
    return x
