"""What callbacks have in common: a training's metrics by name, of which a trial reports some."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

from welltuned.errors import InvalidType, InvalidValue
from welltuned.live import LiveTrial


@dataclass(frozen=True)
class Relay:
    """Reports those metrics of a training to its trial that were asked for.

    Parameters
    ----------
    trial
        What the objective received.
    metric
        The name of a metric, as the training gives it, or a dict of names by objective.

    Raises
    ------
    InvalidType
        When ``metric`` is neither of the two.
    """

    trial: LiveTrial
    metric: str | Mapping[str, str]

    def __post_init__(self) -> None:
        names: list[Any] = self.names
        if not names or not all(isinstance(name, str) for name in names):
            raise InvalidType(
                f"metric={self.metric!r} is neither a name such as 'validation_0-auc' or 'val_loss' nor a dict of them"
            )

    @property
    def names(self) -> list[str]:
        """The training's names of what is wanted."""
        return list(self.metric.values()) if isinstance(self.metric, Mapping) else [self.metric]

    def check_directions(self, larger_is_better: Mapping[str, bool]) -> None:
        """Refuse a metric that the study would have the other way round: it would stop its best trials.

        Parameters
        ----------
        larger_is_better
            By name, of the metrics of which the training knows it.

        Raises
        ------
        InvalidValue
            With what to write instead.
        """
        directions = self.trial.task.directions
        metric = self.metric
        wanted = metric if isinstance(metric, Mapping) else {o: metric for o in directions if len(directions) == 1}
        for objective, name in wanted.items():
            direction = directions.get(objective)
            better = "maximize" if larger_is_better.get(name) else "minimize"
            if direction is not None and name in larger_is_better and direction != better:
                raise InvalidValue(
                    f"metric={name!r} is one to {better}, and the study has direction={direction!r}; name the metric "
                    f"that the objective returns, give the study direction={better!r} and return this one, or report "
                    f"this one beside it: metric={{'other': {name!r}}}"
                )

    def found_in(self, values: Container[str]) -> bool:
        """Tell whether everything that is wanted is there."""
        return all(name in values for name in self.names)

    def __call__(self, values: Mapping[str, Any], step: int, advice: str = "") -> bool:
        """Report what is wanted of a step's values; tell whether the trial is to stop.

        Raises
        ------
        InvalidValue
            When something is not there; the message names what is, and ends with ``advice``.
        """
        if missing := [name for name in self.names if name not in values]:
            there = f"it has {sorted(values)!r}" if values else "it has none"
            raise InvalidValue(f"metric={missing[0]!r} is none of the training's; {there}{advice and '; '}{advice}")
        wanted = self.metric
        self.trial.report(
            values[wanted] if isinstance(wanted, str) else {k: values[v] for k, v in wanted.items()}, step
        )
        return self.trial.should_stop()
