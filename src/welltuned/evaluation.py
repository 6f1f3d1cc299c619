"""Running an objective once and turning whatever it returns or raises into an ``Outcome``."""

from __future__ import annotations

import functools
import json
import logging
import math
import numbers
import sysconfig
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from welltuned.errors import Infeasible, InvalidType, InvalidValue, Pruned, WelltunedError
from welltuned.live import LiveTrial
from welltuned.trial import Outcome, Reason, State

log = logging.getLogger("welltuned")
PACKAGE = str(Path(__file__).parent)
PYTHON = (sysconfig.get_path("stdlib"), "<frozen ")
LIBRARIES = {"site-packages", "dist-packages"}
Objective = Callable[[Any], Any]
LONGEST = 32 << 10  # characters of an error that are kept: some are all that a program has printed
PLAIN = (bool, int, float, str, type(None))
DEEPEST = 64  # levels of an attribute, which every storage and every reader can take


@dataclass(frozen=True)
class Result:
    """What an objective may return when a number does not say it all.

    Parameters
    ----------
    value
        The objective: a number, or a dict of metrics that holds every objective by name. What is no number in it, and
        no objective, is a note.
    sem
        Its standard error, a number, or a dict by metric.
    gradient
        Its derivatives by parameter, in natural units: a dict, or a sequence in the space's order.
    attributes
        Notes by name, as :meth:`LiveTrial.note` takes them; none unless given.
    """

    value: float | Mapping[str, Any]
    sem: float | Mapping[str, float] | None = None
    gradient: Mapping[str, float] | Sequence[float] | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


def evaluate(objective: Objective, trial: LiveTrial, objectives: Sequence[str]) -> Outcome:
    """Call the objective on a live trial and describe how it ended. Only ``KeyboardInterrupt`` and the like get out."""
    started = time.perf_counter()
    what = f"trial {trial.number}"
    outcome = _attempt(lambda: interpret(objective(argument_of(trial)), objectives, list(trial)), what)
    return _completed(outcome, trial, time.perf_counter() - started)


def evaluate_batch(objective: Objective, trials: Sequence[LiveTrial], objectives: Sequence[str]) -> list[Outcome]:
    """Call an objective once with a list of live trials; it returns a list of what it would return for each.

    An exception among the results is how that trial ended, as if it had raised it; what the call raises is how all of
    them ended. Each trial's time is its share of the call's.
    """
    started, results = time.perf_counter(), []

    def call() -> Outcome:
        found = objective([argument_of(trial) for trial in trials])
        if hasattr(found, "columns") and hasattr(found, "to_dict"):  # a data frame: a row for each trial
            found = found.to_dict("records")
        if isinstance(found, (str, bytes, Mapping)) or not hasattr(found, "__len__") or len(found) != len(trials):
            raise InvalidType(
                f"the objective returned {_short(found)} for a batch of {len(trials)} trials; return a list of "
                f"{len(trials)} results"
            )
        results.extend(found)
        return Outcome(State.COMPLETE)

    together = _attempt(call, f"a batch of {len(trials)} trials")
    seconds = (time.perf_counter() - started) / max(len(trials), 1)
    if together.state is not State.COMPLETE:
        return [_completed(together, trial, seconds) for trial in trials]
    return [
        _completed(_attempt(functools.partial(_read, r, objectives, t), f"trial {t.number}"), t, seconds)
        for r, t in zip(results, trials, strict=True)
    ]


def _read(result: Any, objectives: Sequence[str], trial: LiveTrial) -> Outcome:
    if isinstance(result, Exception):
        raise result
    return interpret(result, objectives, list(trial))


def argument_of(trial: LiveTrial) -> Any:
    """Return what an objective is called with: the trial, or an array where the space came from bounds alone."""
    return np.array([float(v) for v in trial.values()]) if trial.task.positional else trial


def _attempt(call: Callable[[], Outcome], what: str) -> Outcome:
    try:
        return call()
    except Pruned:
        return Outcome(State.PRUNED)
    except Infeasible as error:
        return failure(Reason.INFEASIBLE, error)
    except MemoryError as error:
        return failure(Reason.OUT_OF_MEMORY, error)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if _is_optunas_pruned(error):
            return Outcome(State.PRUNED)
        log.debug("%s", what, exc_info=True)
        return failure(Reason.ERROR, error)


def _is_optunas_pruned(error: BaseException) -> bool:
    """Tell whether an objective that was written for Optuna says that it ends pruned."""
    return any(k.__name__ == "TrialPruned" and k.__module__.partition(".")[0] == "optuna" for k in type(error).__mro__)


def _completed(outcome: Outcome, trial: LiveTrial, seconds: float) -> Outcome:
    """Add what the live trial knows, and end it."""
    if trial.task.open_space:
        outcome = replace(outcome, params=trial.params, domains=dict(trial.domains))
    if outcome.state is State.COMPLETE and trial.stopped:
        outcome = replace(outcome, state=State.PRUNED)
    outcome = unless_diverged(outcome, trial)
    trial.end()
    return replace(outcome, seconds=seconds, attributes={**jsonable(trial.attributes), **outcome.attributes})


def unless_diverged(outcome: Outcome, trial: LiveTrial) -> Outcome:
    """Return a pruned trial's outcome as a failure where it was stopped because what it reported was not finite."""
    if outcome.state is not State.PRUNED or trial.diverged is None:
        return outcome
    why = failure(Reason.NAN, f"what was reported at step {trial.diverged} is not finite")
    return replace(why, params=outcome.params, domains=outcome.domains)


def _short(value: Any) -> str:
    text = _text(value)
    return text if len(text) <= 80 else text[:77] + "…"


class StandIn(WelltunedError):
    """What stands for an exception that cannot travel between processes, such as one that takes several arguments."""

    def __init__(self, kind: type[BaseException], text: str) -> None:
        super().__init__(kind, text)
        self.kind = kind

    def __str__(self) -> str:
        return str(self.args[1])


def failure(reason: Reason, error: BaseException | str) -> Outcome:
    """Describe a failed attempt; an exception is written on one line."""
    if not isinstance(error, BaseException):
        return Outcome(State.FAILED, reason=reason, error=shortened(error))
    return Outcome(State.FAILED, reason=reason, error=_describe(error), exception=error)


def _describe(error: BaseException) -> str:
    """Write an exception on one line, with the last place in the user's code, not in ours or in a library's."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an exception's own __str__ may do anything
        text = "(its message cannot be read)"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(PACKAGE)]
    frames = [f for f in frames if not _is_library(f.filename)] or frames
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return shortened(f"{type(error).__name__}: {text}{place}")


def _is_library(filename: str) -> bool:
    """Tell whether a file is one of Python's own, or of an installed package."""
    return filename.startswith(PYTHON) or not LIBRARIES.isdisjoint(Path(filename).parts)


def shortened(text: str) -> str:
    """Return a text without its middle where it is very long: what it is about stands at either end."""
    left_out = len(text) - LONGEST
    if left_out <= 0:
        return text
    return f"{text[: LONGEST // 2]} [… {left_out} characters left out …] {text[-LONGEST // 2 :]}"


def interpret(result: Any, objectives: Sequence[str], names: Sequence[str]) -> Outcome:
    """Read what an objective returned: number, ``(mean, sem)``, ``(value, gradient)``, dict of metrics, ``Result``.

    A dict whose ``"status"`` is ``"fail"`` or ``"failed"`` is a failure, whatever else it holds.
    """
    result = _as_result(result, objectives)
    if isinstance(result.value, Mapping) and _is_failure(result.value.get("status")):
        return failure(Reason.ERROR, f"the objective returned {_short(result.value)}")
    metrics, notes = _metrics(result.value, objectives)
    if bad := {k: v for k, v in metrics.items() if k in objectives and not math.isfinite(v)}:
        return failure(Reason.NAN, f"the objective returned {', '.join(f'{k}={v!r}' for k, v in bad.items())}")
    sems = {} if result.sem is None else _sems(result.sem, objectives[0], metrics)
    return Outcome(
        State.COMPLETE,
        metrics={k: v for k, v in metrics.items() if math.isfinite(v)},
        sems=sems,
        gradient=_gradient(result.gradient, names),
        attributes=jsonable({**notes, **result.attributes}),
    )


def _is_failure(status: Any) -> bool:
    """Tell whether a status, as objectives of Hyperopt return one, says that there is no result."""
    return isinstance(status, str) and status in ("fail", "failed")


def _as_result(result: Any, objectives: Sequence[str]) -> Result:
    if isinstance(result, Result):
        return result
    if isinstance(result, tuple) and len(result) == 2 and len(objectives) == 1:
        value, second = result
        if isinstance(second, (Mapping, list, tuple)) or (isinstance(second, np.ndarray) and second.ndim == 1):
            return Result(value, gradient=second)  # type: ignore[arg-type]
        return Result(value, sem=second)
    if (isinstance(result, (tuple, list)) or (isinstance(result, np.ndarray) and result.ndim == 1)) and len(
        result
    ) == len(objectives) > 1:
        return Result(dict(zip(objectives, result, strict=True)))
    return Result(result)


def _number(name: str, value: Any) -> float:
    if type(value) is float:
        return value
    item = value.item() if isinstance(value, np.ndarray) and value.size == 1 else value
    if value is np.ma.masked or isinstance(item, (complex, np.complexfloating)):
        raise InvalidType(f"the objective returned {name}={_short(value)}, which is not a real number")
    # float() takes scalars of every framework; a string that looks like a number is not one
    if isinstance(item, numbers.Real) or (hasattr(item, "__float__") and not isinstance(item, (str, bytes))):
        try:
            return float(item)
        except (TypeError, ValueError, OverflowError):
            pass
    raise InvalidType(f"the objective returned {name}={_short(value)}, which is not a number{_instead_of(value)}")


def _instead_of(value: Any) -> str:
    """Return what to write in the place of something that is not a number, where that can be told."""
    if value is None:
        return "; end it with 'return' and the value"
    if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim == 1):
        return "; return the mean of several, or (mean, standard_error)"
    return ""


def without_result(value: Any, state: State, error: Any) -> Outcome:
    """Return how a trial ended that was told to have no result."""
    if value is not None:
        raise InvalidValue(f"tell: value={value!r} with state={state.value!r}; report it before, or leave it out")
    why = failure(Reason.ERROR, error).error if isinstance(error, BaseException) else error
    if why is not None and not isinstance(why, str):
        raise InvalidType(f"tell: error={error!r} is neither a text nor an exception")
    return Outcome(state, reason=Reason.ERROR if state is State.FAILED else None, error=why)


def _metrics(value: Any, objectives: Sequence[str]) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the metrics, the objectives first, and the notes: what else there is in a dict."""
    if not isinstance(value, Mapping):
        if len(objectives) != 1:
            raise InvalidType(f"the objective returned {_short(value)}; expected the objectives {list(objectives)!r}")
        return {objectives[0]: _number(objectives[0], value)}, {}
    if missing := [name for name in objectives if name not in value]:
        first = next((n for n, v in value.items() if hasattr(v, "__float__")), next(iter(value), None))
        how = "; return what the study has as objectives, too"
        if list(objectives) == ["value"] and value:
            how = f"; name the objective, direction={{{first!r}: 'minimize'}} or 'maximize'"
        raise InvalidValue(f"the objective returned the metrics {list(value)!r}, which lack {missing!r}{how}")
    metrics, notes = {name: _number(name, value[name]) for name in objectives}, {}
    for name in (name for name in value if name not in objectives):
        try:
            metrics[str(name)] = _number(str(name), value[name])
        except InvalidType:
            notes[str(name)] = value[name]
    return metrics, notes


def _sems(sem: Any, objective: str, metrics: Mapping[str, float]) -> dict[str, float]:
    sems = sem if isinstance(sem, Mapping) else {objective: sem}
    if unknown := [name for name in sems if name not in metrics]:
        raise InvalidValue(f"the objective returned a standard error of {unknown[0]!r}; metrics are {list(metrics)!r}")
    found = {str(k): _number("standard error", v) for k, v in sems.items() if v is not None}
    if bad := [v for v in found.values() if v < 0]:
        raise InvalidValue(f"the objective returned the standard error {bad[0]!r}, which is below 0")
    return {k: v for k, v in found.items() if math.isfinite(v)}


def _gradient(gradient: Any, names: Sequence[str]) -> dict[str, float] | None:
    if gradient is None:
        return None
    if not isinstance(gradient, (Mapping, list, tuple, np.ndarray)) or _is_nested(gradient):
        raise InvalidType(
            f"the objective returned the gradient {_short(gradient)}; expected a dict, or a sequence of numbers"
        )
    if not isinstance(gradient, Mapping):
        if len(gradient) != len(names):
            raise InvalidValue(
                f"the objective returned a gradient of {len(gradient)} entries for the {len(names)} "
                f"parameters {list(names)!r}"
            )
        gradient = dict(zip(names, gradient, strict=True))
    if unknown := [name for name in gradient if name not in names]:
        raise InvalidValue(f"the objective returned derivatives by {unknown!r}, which are not active parameters")
    found = {str(k): _number(f"d/d{k}", v) for k, v in gradient.items() if v is not None}
    return found if found and all(math.isfinite(v) for v in found.values()) else None


def _is_nested(gradient: Any) -> bool:
    if isinstance(gradient, Mapping):
        return False
    return gradient.ndim != 1 if isinstance(gradient, np.ndarray) else any(np.ndim(v) > 0 for v in gradient)


def jsonable(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what JSON can hold, turn numbers and arrays of any library into Python's, and describe the rest."""
    if not isinstance(attributes, Mapping):
        raise InvalidType(f"attributes={_short(attributes)} is not a dict")
    return {str(k): _jsonable(str(k), v) for k, v in attributes.items()}


def _jsonable(name: str, value: Any) -> Any:
    if _is_deeper(value, DEEPEST):  # no reader would take it
        return _described(name, value)
    try:
        return _plain(name, value)
    except RecursionError:  # it holds itself, or goes on for ever
        return _described(name, value)


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(name, v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        if all(type(v) in PLAIN for v in value) and _is_json(value):
            return list(value)
        return [_plain(name, v) for v in value]
    found = _as_python(value)
    if found is not value:
        return _plain(name, found)
    return value if _is_json(value) else _described(name, value)


def _as_python(value: Any) -> Any:
    """Return the number or the nested list that a scalar, an array or a tensor stands for; others as they are."""
    for method in ("tolist", "item"):
        # a class has the methods too, but nothing to call them on
        if hasattr(value, method) and not isinstance(value, type):
            try:
                return getattr(value, method)()
            except RecursionError:
                raise
            except Exception:  # noqa: BLE001 - a tensor without data, or what another class means by the name
                continue
    return value


def _described(name: str, value: Any) -> str:
    """Return the text that stands for a value which JSON cannot hold, and say so."""
    _say_described(name, type(value).__name__)
    return _text(value)


def _text(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - of what is nested too deeply, a number of 5000 digits, or by the user's code
        return f"something of type {type(value).__name__}"


@functools.cache
def _say_described(name: str, kind: str) -> None:
    """Warn that a value is kept as text; once for each name and type, not in every trial."""
    log.warning("the attribute %r holds a value of type %s, which JSON cannot hold; its text is kept", name, kind)


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _is_deeper(value: Any, levels: int) -> bool:
    """Tell whether lists and dicts hold others to more than so many levels; one that holds itself does."""
    if not isinstance(value, (Mapping, list, tuple)):
        return False
    inside = value.values() if isinstance(value, Mapping) else value
    return levels <= 0 or any(_is_deeper(v, levels - 1) for v in inside)
