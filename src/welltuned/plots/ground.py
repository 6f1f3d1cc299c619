"""The ground of all figures: their looks, axes and texts, and which trials they show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np

from welltuned.errors import InvalidType, InvalidValue, require
from welltuned.history import History
from welltuned.space import Float, Int, Space, public
from welltuned.stats.fitted import columns_of
from welltuned.stats.knowledge import asked
from welltuned.trial import State, Trial

INK, FAINT, ACCENT, BEST, BAD = "#1f2933", "#9aa5b1", "#2563eb", "#d97706", "#dc2626"
SHADES = [[0, "#e2e8f0"], [0.6, "#93c5fd"], [1, "#1d4ed8"]]  # from the worst value to the best one
LAYOUT = {
    "template": "plotly_white",
    "font": {"family": "system-ui, sans-serif", "size": 13, "color": INK},
    "margin": {"l": 64, "r": 24, "t": 36, "b": 48},
    "hoverlabel": {"align": "left"},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
}
MOST = 2000  # trials in one figure
PANELLED = 24_000  # points in all panels of a figure: a browser draws each as an element of its own
LINES = 20  # parameters over a point
LABEL = 12  # characters of a choice's name on an axis; all of it appears over the points
LEGEND = {"orientation": "h", "yanchor": "bottom", "y": 1.01, "x": 0}


def graph_objects() -> Any:
    """Return plotly's module of figures."""
    try:
        import plotly.graph_objects as go
    except ImportError as error:
        raise require("plotly", "plots", "plots and reports") from error
    return go


def asked_for(source: Any, objective: str | None, figure: str) -> tuple[History, str]:
    """Return the history of a study, or a history as it is, and the objective that is drawn: the first unless named."""
    history = asked(source, objective, figure)
    return history, next(iter(history.directions)) if objective is None else objective


def done_of(history: History, name: str) -> list[Trial]:
    """Return the completed trials that have a value of an objective."""
    return completed(history.trials, name)


def completed(trials: Sequence[Trial], name: str) -> list[Trial]:
    """Return those of some trials that are complete and have a value of an objective."""
    return [t for t in trials if t.state is State.COMPLETE and name in t.metrics and t.params is not None]


def sample(history: History, objective: str, most: int = MOST) -> Sequence[Trial]:
    """Return the trials that are shown where a study has too many: a few hundred of the best and of the latest, and of
    the others every so many.

    Parameters
    ----------
    objective
        By which the best are told.
    most
        Up to so many trials, all are shown.
    """
    trials, few = history.trials, most * 3 // 20
    if len(trials) <= most:
        return trials
    best = sorted(done_of(history, objective), key=lambda t: t.metrics[objective])
    kept = {t.number for t in (best[-few:] if history.directions[objective] == "maximize" else best[:few])}
    kept |= {t.number for t in trials[-few:]}
    kept |= {t.number for t in history.front} if len(history.directions) > 1 and len(history.front) <= few else set()
    others = [t for t in trials if t.number not in kept]
    kept |= {others[i].number for i in evenly(len(others), most - len(kept))}
    return [t for t in trials if t.number in kept]


def shown(history: History, most: int = MOST) -> str:
    """Say which trials :func:`sample` shows; nothing where it shows all of them."""
    if len(history) <= most:
        return ""
    return f"Shown are {most:,} of {len(history):,} trials: the best, the latest, and of the others one in so many."


def evenly(n: int, most: int) -> list[int]:
    """Return up to ``most`` places among ``n``, the first and the last one included."""
    return list(range(n)) if n <= most else np.unique(np.linspace(0, n - 1, most).round().astype(int)).tolist()


def most_in_panels(space: Space) -> int:
    """Return how many trials each panel of a figure shows that has one for each parameter."""
    return min(MOST, max(PANELLED // len(names_of(space)), 100))


def hover(trial: Trial, *names: str, parameter: str | None = None) -> str:
    """Write a trial as the text that appears over its point.

    Parameters
    ----------
    names
        Metrics, where it has them.
    parameter
        The only one of the parameters to be written; the first twenty unless given.
    """
    params = {k: v for k, v in (trial.params or {}).items() if parameter in (None, k)}
    lines = [f"{n}: {trial.metrics[n]:.6g}" for n in names if n in trial.metrics]
    lines += [f"{k}: {show(v)}" for k, v in islice(params.items(), LINES)]
    lines += [f"… {len(params) - LINES} more"] if len(params) > LINES else []
    return "<br>".join([f"<b>trial {trial.number}</b>", *map(escaped, lines)])


def escaped(text: str) -> str:
    """Write what a study calls something so that Plotly shows it as it is: it takes ``<`` for the begin of a tag.

    Examples
    --------
    >>> escaped("make.<locals>.<lambda>")
    'make.&lt;locals&gt;.&lt;lambda&gt;'
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def show(value: Any) -> str:
    """Write a parameter's value in few characters."""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = getattr(value, "__qualname__", None) or str(value)
    return text if len(text) <= 40 else text[:39] + "…"


def shortened(names: list[str]) -> list[str]:
    """Cut choices' names to what does not run into the next panel; what begins alike is told by its end."""
    cut = [name if len(name) <= LABEL else name[: LABEL - 1] + "…" for name in names]
    half = LABEL // 2
    return [
        f"{name[: half - 1]}…{name[-half:]}" if cut.count(short) > 1 and len(name) > LABEL else short
        for name, short in zip(names, cut, strict=True)
    ]


def best_of(done: list[Trial], name: str, direction: str) -> list[Trial]:
    """Return the best trial by an objective, as a list: none where there are none."""
    key = (lambda t: -t.metrics[name]) if direction == "maximize" else (lambda t: t.metrics[name])
    return [min(done, key=key)] if done else []


def names_of(space: Space, only: Sequence[str] | None = None) -> list[str]:
    """Return the parameters as objectives see them, or ``only`` those that are asked for, in that order.

    Raises
    ------
    InvalidType, InvalidValue
        For what is no list, and when one is asked for that is not there, or none is.
    """
    known = list(columns_of(space))
    if only is not None and not isinstance(only, Iterable):
        raise InvalidType(f"names={only!r} is no list of parameters; there are {known!r}")
    names = known if only is None else [only] if isinstance(only, str) else list(only)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise InvalidValue(f"names={only!r}: {unknown[0] if unknown else []!r} is no parameter; there are {known!r}")
    return names


def axis_of(space: Space, name: str) -> dict[str, Any]:
    """Return how plotly should draw a parameter's axis: logarithmic, whole numbers only, or choices in their order."""
    columns = [p for n, p in space.items() if public(n) == name]
    if not all(isinstance(p, (Float, Int)) for p in columns):
        order = list(dict.fromkeys(show(c) for p in columns for c in getattr(p, "choices", ())))
        known, texts = [escaped(choice) for choice in order], [escaped(short) for short in shortened(order)]
        labels = {"tickvals": known, "ticktext": texts}
        return {"type": "category", "categoryorder": "array", "categoryarray": known, **labels}
    if any(p.log for p in columns if isinstance(p, (Float, Int))):
        return {
            "type": "log",
            **_log_ticks(
                min(p.low for p in columns if isinstance(p, (Float, Int))),
                max(p.high for p in columns if isinstance(p, (Float, Int))),
            ),
        }
    whole = all(isinstance(p, Int) for p in columns)
    span = max((p.high - p.low for p in columns if isinstance(p, (Float, Int))), default=0.0)
    return {"tickformat": "d", "dtick": 1 if span <= 6 else None} if whole else {"nticks": 5}


def on_axis(space: Space, name: str, values: Iterable[Any]) -> list[Any]:
    """Return where values are on their parameter's axis: numbers, or choices' names.

    None for what has no place there, as it is of an earlier version of the space: a choice among numbers, or what is
    not above 0 on a logarithmic scale.
    """
    columns = [p for n, p in space.items() if public(n) == name]
    numeric = [p for p in columns if isinstance(p, (Float, Int))]
    if len(numeric) < len(columns):
        return [escaped(show(value)) for value in values]
    log = any(p.log for p in numeric)
    return [value if _is_number(value) and (value > 0 or not log) else None for value in values]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def _log_ticks(low: float, high: float) -> dict[str, Any]:
    """Label round numbers, at most five: powers of ten; on less than two decades those of two, or 1, 2, 5, 10, ….

    Powers of two are for ranges between two of them. Where a narrow range holds no two such numbers, the ends and the
    middle.
    """
    tens = _powers(10.0, low, high)
    if len(tens) < 3:
        between = all(v >= 1 and np.log2(v) % 1 == 0 for v in (low, high))
        decade = np.outer(10.0 ** np.arange(np.floor(np.log10(low)), np.log10(high) + 1), [1, 2, 5]).ravel()
        tens = _powers(2.0, low, high) if between else decade[(decade >= low * 0.999) & (decade <= high * 1.001)]
    if len(tens) < 2:
        # as many digits as tell them apart
        few = ([written(v, digits) for v in np.geomspace(low, high, 3)] for digits in (2, 3, 4, 6, 9))
        tens = np.array(next((texts for texts in few if len(set(texts)) == 3), [low]), dtype=float)
    values = tens[:: -(-len(tens) // 5)].tolist()
    return {"tickvals": values, "ticktext": [written(v, 9 if len(tens) <= 3 else 3) for v in values]}


def _powers(base: float, low: float, high: float) -> np.ndarray:
    """Return the whole powers of ``base`` from ``low`` to ``high``."""
    first, last = np.log([low, high]) / np.log(base)
    return np.asarray(base ** np.arange(np.ceil(first - 1e-9), np.floor(last + 1e-9) + 1))


def written(value: float, digits: int = 3) -> str:
    """Write a number as people do, rounded to some digits.

    Examples
    --------
    >>> written(128), written(90.51), written(0.0001), written(3e-7), written(1860.7), written(1e6)
    ('128', '90.5', '0.0001', '3e-7', '1860', '1e6')
    """
    rounded = f"{value:.{digits - 1}e}"
    if value == 0 or 1e-4 <= abs(float(rounded)) < 1e5:
        return f"{float(rounded):.10g}"
    mantissa, exponent = rounded.split("e")
    return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{int(exponent)}"
