"""The trial as the objective sees it: a mapping of its parameters that can report and ask whether to stop."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np

from welltuned.errors import InactiveParameter, InvalidType, InvalidValue, Pruned
from welltuned.settings import whole
from welltuned.space import Categorical, Float, Int, Ordinal, Parameter, codec
from welltuned.space.labels import find
from welltuned.trial import CONSTRAINTS, Report, Trial

CHANGEABLE = (list, dict, set, bytearray, np.ndarray)
BEYOND_STEPS = 2**63  # what storages can hold


@dataclass(frozen=True)
class Task:
    """What an executor needs to evaluate one trial, anywhere.

    ``open_space`` says that the objective suggests its parameters itself; ``params`` are then proposals for those that
    earlier trials suggested. ``fixed`` says that they are what the user enqueued, and nothing else will do.

    ``study`` is the name of the study that the trial belongs to, and when it was made; ``directions`` are those of its
    objectives, by name. ``inherited`` is the step up to
    which the checkpoint of its parent has come, where a scheduler bred the trial.
    """

    number: int
    token: int
    params: Mapping[str, Any]
    seed: int = 0
    positional: bool = False
    open_space: bool = False
    fixed: bool = False
    checkpoint: str | None = None
    reports: tuple[Report, ...] = ()
    domains: Mapping[str, Parameter] = field(default_factory=dict)
    study: tuple[str, float] | None = None
    inherited: int | None = None
    directions: Mapping[str, str] = field(default_factory=dict)


class LiveTrial(Mapping[str, Any]):
    """One trial under evaluation: ``trial["lr"]``, ``**trial``, ``trial.report(value, step)``, ``trial.should_stop()``.

    Objectives receive it; ``Study.ask`` returns it. It is a mapping of the active parameters, so an objective that
    expects a plain dict works as it is.

    Where several processes train one model, ``agree`` gets what this one would answer to :meth:`should_stop`, and
    returns what all of them answer.
    """

    def __init__(
        self,
        task: Task,
        on_report: Callable[[Task, Report], bool] | None = None,
        agree: Callable[[bool], bool] | None = None,
    ) -> None:
        self.task = task
        self._on_report = on_report
        self._agree = agree
        self.asked = time.time()
        self._stop = False
        #: the step whose report of an objective was not finite, where a scheduler stopped the trial for it
        self.diverged: int | None = None
        # an objective may change a list that it is given, and must not change the space by it
        given = {} if task.open_space else task.params
        self._params = {name: _own(value) for name, value in given.items()}
        self.domains: dict[str, Parameter] = {}
        self.attributes: dict[str, Any] = {}
        self._steps = {r.step for r in task.reports}

    @classmethod
    def fixed(cls, params: Mapping[str, Any] | Trial, *, checkpoint: str | os.PathLike[str] | None = None) -> LiveTrial:
        """Return a trial with these parameters and no study behind it, to call an objective with once more.

        It is never told to stop, and what it reports goes nowhere. An objective that suggests its parameters itself
        gets these.

        Parameters
        ----------
        params
            A configuration, or a record such as ``study.best``, whose number it then has.
        checkpoint
            Its folder; it has none unless given.

        Raises
        ------
        InvalidType
            For anything else.

        Examples
        --------
        >>> LiveTrial.fixed({"lr": 0.1}).suggest_float("lr", 1e-3, 1.0, log=True)
        0.1
        """
        number, given = (params.number, params.params or {}) if isinstance(params, Trial) else (0, params)
        if not isinstance(given, Mapping):
            raise InvalidType(f"fixed: {params!r} is neither a configuration nor a trial's record; write study.best")
        folder = None if checkpoint is None else os.fspath(checkpoint)
        return cls(Task(number, 0, dict(given), checkpoint=folder))

    def __getitem__(self, name: str) -> Any:
        try:
            return self._params[name]
        except KeyError:
            raise InactiveParameter(
                f"{name!r} is not an active parameter here; active are {list(self._params)!r}; of one that has a "
                f"condition, trial.get({name!r}) is None where that does not hold"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._params)

    def __len__(self) -> int:
        return len(self._params)

    def __repr__(self) -> str:
        return f"LiveTrial({self.number}, {self._params!r})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Refuse where the way back to the study cannot be pickled; within a worker process it may be."""
        try:
            cloudpickle.dumps(self._on_report)
        except Exception:  # noqa: BLE001 - whatever the study's parts raise
            raise InvalidType(
                f"trial {self.number} cannot be pickled, since it reports to a study of this process; pass on "
                "trial.params, and report and tell here"
            ) from None
        return super().__reduce_ex__(protocol)

    def __copy__(self) -> LiveTrial:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    @property
    def number(self) -> int:
        """Position of the trial in its study, from 0."""
        return self.task.number

    @property
    def params(self) -> dict[str, Any]:
        """The active parameters, as a dict of its own."""
        return dict(self._params)

    @property
    def reports(self) -> tuple[Report, ...]:
        """What the trial has reported before it was interrupted or paused, by step; nothing when it begins."""
        return self.task.reports

    @property
    def inherited(self) -> int | None:
        """Up to which step the checkpoint has come that a child of another trial begins with; None for other trials."""
        return self.task.inherited

    @property
    def checkpoint(self) -> Path:
        """A folder of the trial's own: one that was interrupted or paused finds its files there again."""
        path = folder_of(self.number, self.task.checkpoint)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def report(self, value: float | Mapping[str, float], step: int) -> None:
        """Report an intermediate value, or several metrics as a dict, at ``step`` (an epoch, say).

        A step that was reported before is left as it was. Values that are not finite are not kept; of an objective they
        say that the training has diverged, and where there is a scheduler the trial is stopped and has failed.

        Raises
        ------
        InvalidType, InvalidValue
            When ``value`` is neither a number nor a dict of numbers, or ``step`` is no whole number of 64 bits.
        """
        step = whole("report: step", step, None)
        if not -BEYOND_STEPS <= step < BEYOND_STEPS:
            raise InvalidValue(f"report: step={step!r} has more than 64 bits; count epochs or batches")
        metrics = {"value": value} if not isinstance(value, Mapping) else value
        try:
            if any(isinstance(v, (str, bytes)) for v in metrics.values()):
                raise TypeError
            numbers = {str(k): float(v) for k, v in metrics.items()}
        except (TypeError, ValueError, OverflowError):
            raise InvalidType(f"report: {value!r} is neither a number nor a dict of numbers") from None
        finite = [bool(np.isfinite(v)) for v in numbers.values()]
        on_report = self._on_report
        if step not in self._steps and on_report is not None:
            if any(finite):
                self._steps.add(step)
            stop = on_report(self.task, Report(step, numbers))
            self._stop = self._stop or stop
            if stop and not all(finite):
                self.diverged = step

    def end(self) -> None:
        """Take no more reports: the objective has returned. A thread that it left behind is told to stop."""
        self._on_report, self._agree, self._stop = None, None, True

    def should_stop(self) -> bool:
        """Tell whether the scheduler wants this trial to end now. Return, or call :meth:`prune`."""
        return self._stop if self._agree is None else self._agree(self._stop)

    should_prune = should_stop

    @property
    def stopped(self) -> bool:
        """Whether what this process has reported made the scheduler want the trial to end; nobody else is asked."""
        return self._stop

    def prune(self) -> None:
        """End the trial as pruned."""
        raise Pruned(f"trial {self.number} was pruned")

    def note(self, **attributes: Any) -> None:
        """Attach values that JSON can hold to the trial's record."""
        self.attributes.update(attributes)

    def set_user_attr(self, key: str, value: Any) -> None:
        """Attach one value to the trial's record; the name that users of Optuna know for :meth:`note`."""
        self.attributes[key] = value

    def constrain(self, name: str, value: float) -> None:
        """State a constraint on what came out: ``value`` must not be above 0, such as ``latency - limit``.

        The search learns where it holds; a trial that violates one cannot be the best.

        Raises
        ------
        InvalidType, InvalidValue
            When ``value`` is not a finite number.
        """
        item = value.item() if isinstance(value, np.ndarray) and value.size == 1 else value
        if isinstance(item, (bool, np.bool_)):  # True would be 1, and so a violation
            raise InvalidType(
                f"constrain: {name}={value!r} is no number; write how far above its limit it is, such as size - limit"
            )
        try:
            if isinstance(item, (str, bytes)):
                raise TypeError
            number = float(item)
        except (TypeError, ValueError, OverflowError):
            raise InvalidType(f"constrain: {name}={value!r} is not a number") from None
        if not np.isfinite(number):
            raise InvalidValue(f"constrain: {name}={value!r} is not finite; fail the trial instead: raise Infeasible")
        self.attributes.setdefault(CONSTRAINTS, {})[str(name)] = number

    set_constraint = constrain

    # parameters that are declared where they are used

    def suggest(self, name: str, parameter: Parameter) -> Any:
        """Declare and get a parameter of any kind: ``trial.suggest("size", wt.Ordinal(["small", "large"]))``.

        Raises
        ------
        InvalidType, InvalidValue
            When ``parameter`` is none, or has a condition: here the program says whether it is asked for. Also where
            the space of the study has chosen what ``parameter`` cannot take.
        """
        if not isinstance(parameter, (Float, Int, Categorical, Ordinal)):
            kinds = "Float, Int, Categorical or Ordinal"
            raise InvalidType(f"suggest {name!r}: {parameter!r} is no parameter; write {kinds}")
        if parameter.when is not None:
            raise InvalidValue(f"suggest {name!r}: when={parameter.when!r} belongs in a Space; write an 'if' here")
        if name not in self._params and self.task.open_space:
            self.domains[name] = parameter
            self._params[name] = self._proposal(name, parameter)
        value = self._active(name)
        if self._chosen_by_a_space and _equals_its_copies(value) and not _admits(parameter, value):
            raise self._not_admitted(name, value, parameter)
        return _own(value)

    def suggest_float(
        self, name: str, low: float, high: float, *, log: bool = False, step: float | None = None
    ) -> float:
        """Declare and get a real parameter; see :class:`welltuned.Float`."""
        if low == high:
            return float(self._only(name, low, whole=False))
        return float(self.suggest(name, Float(low, high, log=log, step=step)))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False, step: int = 1) -> int:
        """Declare and get a whole-number parameter; see :class:`welltuned.Int`."""
        if low == high:
            return int(self._only(name, low, whole=True))
        return int(self.suggest(name, Int(low, high, log=log, step=step)))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Declare and get a choice; see :class:`welltuned.Categorical`."""
        return self.suggest(name, Categorical(list(choices)))

    def _only(self, name: str, value: Any, *, whole: bool) -> Any:
        """Record the one value that a range of no width has; there is nothing to search, so it declares nothing."""
        if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or (whole and value != int(value)):
            raise InvalidType(f"suggest {name!r}: {value!r} is not a {'whole ' * whole}number")
        if not self.task.open_space:
            if self._chosen_by_a_space and self._active(name) != value:
                raise self._not_admitted(name, self._active(name), value)
            return self._active(name)
        given = self.task.params.get(name, value)
        if self.task.fixed and given != value:
            raise InvalidValue(f"trial {self.number}: it was enqueued with {name}={given!r}, but takes {value!r} only")
        return self._params.setdefault(name, value)

    @property
    def _chosen_by_a_space(self) -> bool:
        """Whether a study with a space of its own has chosen the parameters; a user may fix whatever he likes."""
        return not self.task.open_space and self.task.token > 0

    def _not_admitted(self, name: str, value: Any, stated: Any) -> InvalidValue:
        return InvalidValue(
            f"trial {self.number}: the study's space has chosen {name}={value!r}, and the objective asks for "
            f"{stated!r}; let both say the same, or give the study no space"
        )

    def _active(self, name: str) -> Any:
        if name not in self._params:
            raise InvalidValue(
                f"trial {self.number}: {name!r} is not an active parameter here; active are {list(self._params)!r}"
            )
        return self._params[name]

    def _proposal(self, name: str, parameter: Parameter) -> Any:
        proposed = self.task.params.get(name)
        if name in self.task.params and _admits(parameter, proposed):
            return proposed
        if name in self.task.params and self.task.fixed:
            raise InvalidValue(
                f"trial {self.number}: it was enqueued with {name}={proposed!r}, which {parameter!r} cannot take"
            )
        # its own stream by name, so that the order of suggestions does not matter
        seed = np.random.SeedSequence(self.task.seed, spawn_key=(self.number, zlib.crc32(name.encode())))
        return codec.from_unit(parameter, codec.snap(parameter, np.random.default_rng(seed).random(1)))[0]


def folder_of(number: int, folder: str | Path | None) -> Path:
    """Return the checkpoint folder of a trial, or say how it has one."""
    if folder is None:
        raise InvalidValue(
            f"trial {number} has no checkpoint folder; give the study a storage file or checkpoints=folder, and "
            "LiveTrial.fixed checkpoint=folder"
        )
    return Path(folder)


def _admits(parameter: Parameter, value: Any) -> bool:
    if isinstance(parameter, (Categorical, Ordinal)):
        return find(parameter.choices, value) is not None
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        return False
    if not parameter.low <= value <= parameter.high:
        return False
    if isinstance(parameter, Float) and parameter.step is None:
        return True  # its way through the cube would cost digits, and a tail beyond the cube its place
    return bool(np.isclose(codec.from_unit(parameter, codec.to_unit(parameter, [value]))[0], value, rtol=1e-9))


def _equals_its_copies(value: Any) -> bool:
    """Tell whether a value is found among choices that were made anew, or that went to another process.

    An object or a function need not be: of such a choice nobody can say that it is none of the objective's.
    """
    return value is None or isinstance(value, (str, int, float, np.generic))


def _own(value: Any) -> Any:
    """Return a copy of what an objective might change, or the value itself where it cannot be copied."""
    if not isinstance(value, CHANGEABLE):
        return value
    try:
        return deepcopy(value)
    except Exception:  # noqa: BLE001 - of what it holds: a module, a lock, an open file
        return value
