"""What was tried, trial by trial; and the ground of all figures: their looks, axes and texts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from welltuned.errors import InvalidType, InvalidValue, require
from welltuned.history import History
from welltuned.space import Float, Int, Space, public
from welltuned.trial import State, Trial

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

INK, FAINT, ACCENT, BEST, BAD = "#1f2933", "#9aa5b1", "#2563eb", "#d97706", "#dc2626"
LAYOUT = {
    "template": "plotly_white",
    "font": {"family": "system-ui, sans-serif", "size": 13, "color": INK},
    "margin": {"l": 64, "r": 24, "t": 36, "b": 48},
    "hoverlabel": {"align": "left"},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
}
MOST = 2000  # trials in one figure
MOST_CURVES = 200
MOST_STEPS = 500  # points of one curve
FEW = 5  # fewer values than these are all shown
LABEL = 12  # characters of a choice's name on an axis; all of it appears over the points
LEGEND = {"orientation": "h", "yanchor": "bottom", "y": 1.01, "x": 0}


def _go() -> Any:
    try:
        import plotly.graph_objects as go
    except ImportError as error:
        raise require("plotly", "plots", "plots and reports") from error
    return go


def _history(source: Any) -> History:
    history = source if isinstance(source, History) else getattr(source, "history", None)
    if not isinstance(history, History):
        raise InvalidType(f"{source!r} is neither a Study nor a History")
    return history


def _objective(history: History, objective: str | None) -> str:
    name = objective or next(iter(history.directions))
    if name not in history.directions:
        raise InvalidValue(f"objective={name!r} is unknown; the study has {list(history.directions)!r}")
    return name


def _done(history: History, name: str) -> list[Trial]:
    return _completed(history.trials, name)


def _completed(trials: Sequence[Trial], name: str) -> list[Trial]:
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
    best = sorted(_done(history, objective), key=lambda t: t.metrics[objective])
    kept = {t.number for t in (best[-few:] if history.directions[objective] == "maximize" else best[:few])}
    kept |= {t.number for t in trials[-few:]}
    kept |= {t.number for t in history.front} if len(history.directions) > 1 and len(history.front) <= few else set()
    others = [t for t in trials if t.number not in kept]
    kept |= {others[i].number for i in _evenly(len(others), most - len(kept))}
    return [t for t in trials if t.number in kept]


def shown(history: History, most: int = MOST) -> str:
    """Say which trials :func:`sample` shows; nothing where it shows all of them."""
    if len(history) <= most:
        return ""
    return f"Shown are {most:,} of {len(history):,} trials: the best, the latest, and of the others one in so many."


def _corners(x: Sequence[Any], y: Sequence[Any] | np.ndarray, most: int = MOST) -> list[int]:
    """Return the places of a line of steps that draw all of it: where it has a new height, and its ends."""
    n = len(x)
    return list(range(n)) if n <= most else [i for i in range(n) if i in (0, n - 1) or y[i] != y[i - 1]]


def hover(trial: Trial, *names: str) -> str:
    """Write a trial, with the metrics of some ``names``, as the text that appears over its point."""
    lines = [f"<b>trial {trial.number}</b>", *(f"{n}: {trial.metrics[n]:.6g}" for n in names if n in trial.metrics)]
    return "<br>".join(lines + [f"{k}: {show(v)}" for k, v in (trial.params or {}).items()])


def show(value: Any) -> str:
    """Write a parameter's value in few characters."""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = getattr(value, "__qualname__", None) or str(value)
    return text if len(text) <= 40 else text[:39] + "…"


def _focus(values: np.ndarray, direction: str, others: np.ndarray | None = None) -> dict[str, Any]:
    """Return the range of an axis of completed trials' ``values``, so that a few very bad ones flatten no figure.

    It reaches from the best value to three times as far beyond the median as that is from the best, and holds nine of
    ten values. ``others``, of trials that did not complete, have no say. Where all are inside, nothing is returned.
    """
    if len(values) == 0:
        return {}
    sign = -1.0 if direction == "maximize" else 1.0
    losses = sign * values
    with np.errstate(over="ignore", invalid="ignore"):
        best, median, most = losses.min(), np.median(losses), np.quantile(losses, 0.9)
        limit = max(median + 3 * (median - best), most) if len(losses) >= FEW else losses.max()
        top = losses[losses <= limit].max(initial=best)
        pad = 0.06 * (top - best) or 0.06 * abs(best) or 1.0
        low, high = best - pad, top + pad
        if not np.isfinite(high - low):
            return {}
    shown = np.concatenate([losses, sign * (np.empty(0) if others is None else others)])
    above, below = int((shown > high).sum()), int((shown < low).sum())
    if not above + below:
        return {}
    ends = sorted([sign * low, sign * high])
    beyond = [f"{n} {where}" for n, where in ((above, "worse"), (below, "better")) if n]
    return {"range": ends, "note": f"outside: {', '.join(beyond)}", "worst": sign * top}


def history(source: Any, objective: str | None = None) -> Figure:
    """Draw each trial's value in the order of the trials, and the best so far."""
    go, seen = _go(), _history(source)
    name = _objective(seen, objective)
    done, drawn = _done(seen, name), sample(seen, name)
    points, y = _completed(drawn, name), np.array([t.metrics[name] for t in done])
    best = _best_so_far(seen, name, done)
    errors = [t.sems.get(name, 0.0) for t in points]
    corners = _corners(done, best)
    figure = go.Figure(
        [
            go.Scatter(
                x=[t.number for t in points],
                y=np.array([t.metrics[name] for t in points]),
                mode="markers",
                name="trial",
                marker={"color": FAINT, "size": 7},
                text=[hover(t, name) for t in points],
                hoverinfo="text",
                error_y={"array": errors, "thickness": 1, "width": 0, "color": FAINT} if any(errors) else None,
            ),
            go.Scatter(
                x=[done[i].number for i in corners],
                y=best[corners],
                mode="lines",
                name="best so far",
                line={"color": ACCENT, "width": 2.5, "shape": "hv"},
                hoverinfo="y",
            ),
        ]
    )
    short = (State.PRUNED, State.PAUSED)
    ended = [t for t in seen.trials if t.state in short and t.reports and name in t.reports[-1].metrics]
    reported = np.array([t.reports[-1].metrics[name] for t in ended])
    visible = {t.number for t in drawn}
    if pruned := [t for t in ended if t.number in visible]:
        figure.add_trace(_pruned(pruned, name))
    failed = [t for t in drawn if t.state is State.FAILED]
    focus = _focus(y, seen.directions[name], reported)
    if failed and done:
        floor = focus.get("worst", y.min() if seen.directions[name] == "maximize" else y.max())
        figure.add_trace(
            go.Scatter(
                x=[t.number for t in failed],
                y=[floor] * len(failed),
                mode="markers",
                name="failed",
                marker={"color": BAD, "symbol": "x", "size": 8},
                hoverinfo="text",
                text=[f"<b>trial {t.number}</b> failed<br>{t.error or t.reason}" for t in failed],
            )
        )
    figure.update_yaxes(range=focus.get("range"), title_text=_titled(name, focus))
    return figure.update_layout(**LAYOUT, xaxis_title="trial", legend=LEGEND)


def _pruned(trials: list[Trial], name: str) -> Any:
    return _go().Scatter(
        x=[t.number for t in trials],
        y=[t.reports[-1].metrics[name] for t in trials],
        mode="markers",
        name="pruned" if all(t.state is State.PRUNED for t in trials) else "stopped early",
        marker={"color": FAINT, "symbol": "circle-open", "size": 7},
        hoverinfo="text",
        text=[f"{hover(t, name)}<br>{t.state.value} after step {t.reports[-1].step}" for t in trials],
    )


def _titled(name: str, focus: dict[str, Any]) -> str:
    return f"{name}<br><sup>({focus['note']})</sup>" if focus else name


def comparison(sources: dict[str, Any], objective: str | None = None) -> Figure:
    """Draw the best so far of several studies over their trials, those without a value included, one line each."""
    go = _go()
    figure = go.Figure()
    for label, source in sources.items():
        seen = _history(source)
        name = _objective(seen, objective)
        # a trial that was pruned or failed has been paid for, and brought nothing better
        done = _done(seen, name)
        best = dict(zip([t.number for t in done], _best_so_far(seen, name, done).tolist(), strict=True))
        ended = [t.number for t in seen.trials if t.state.resting and done and t.number >= done[0].number]
        for before, number in pairwise(ended):
            best.setdefault(number, best[before])
        line = [best[number] for number in ended]
        corners = _corners(ended, line)
        figure.add_trace(
            go.Scatter(
                x=[ended[i] + 1 for i in corners],
                y=[line[i] for i in corners],
                mode="lines",
                name=label,
                line={"shape": "hv", "width": 2.5},
            )
        )
        figure.update_layout(yaxis_title=name)
    return figure.update_layout(**LAYOUT, xaxis_title="trials", legend=LEGEND, height=380)


def front(source: Any, objectives: tuple[str, str] | None = None) -> Figure:
    """Draw each trial by two objectives, the first two unless given, and those that no other one dominates."""
    go, seen = _go(), _history(source)
    if len(seen.directions) < 2:
        raise InvalidValue(f"front: takes two objectives, but there is {list(seen.directions)!r}; use history")
    first, second = (_objective(seen, name) for name in objectives or list(seen.directions)[:2])
    best = sorted(seen.front, key=lambda t: t.metrics[first])
    leading = {t.number for t in best}
    drawn = _completed(sample(seen, first), first)
    others = [t for t in drawn if second in t.metrics and t.number not in leading]
    figure = go.Figure()
    for label, trials, look in (
        ("trial", others, {"mode": "markers", "marker": {"color": FAINT, "size": 7}}),
        (
            "front",
            best,
            {
                "mode": "lines+markers" if len(seen.directions) == 2 else "markers",
                "marker": {"color": ACCENT, "size": 9},
                "line": {"color": ACCENT, "width": 1.5, "dash": "dot"},
            },
        ),
    ):
        figure.add_trace(
            go.Scatter(
                x=[t.metrics[first] for t in trials],
                y=[t.metrics[second] for t in trials],
                name=label,
                hoverinfo="text",
                text=[hover(t, first, second) for t in trials],
                **look,
            )
        )
    x, y = (f"{name} ({seen.directions[name]})" for name in (first, second))
    return figure.update_layout(**LAYOUT, xaxis_title=x, yaxis_title=y, legend=LEGEND)


def curves(source: Any, metric: str | None = None) -> Figure:
    """Draw what each trial reported of a metric, the first objective unless given, over the steps.

    Of many trials, the latest 200 and the best.
    """
    go, seen = _go(), _history(source)
    name = metric or next(iter(seen.directions))
    best = seen.best if len(seen.directions) == 1 else None
    figure = go.Figure()
    reporting = [t for t in seen.trials if any(name in r.metrics for r in t.reports)]
    for trial in [t for t in reporting[:-MOST_CURVES] if t is best] + reporting[-MOST_CURVES:]:
        known = [r for r in trial.reports if name in r.metrics]
        known = [known[i] for i in _evenly(len(known), MOST_STEPS)]
        is_best, short = best is not None and trial.number == best.number, trial.state in (State.PRUNED, State.PAUSED)
        figure.add_trace(
            go.Scatter(
                x=[r.step for r in known],
                y=[r.metrics[name] for r in known],
                mode="lines" if len(known) > 1 else "markers",
                line={"color": BEST if is_best else BAD if short else FAINT, "width": 3 if is_best else 1},
                opacity=1.0 if is_best else 0.6,
                name=f"trial {trial.number}",
                hovertemplate="step %{x}: %{y:.6g}",
                showlegend=False,
            )
        )
    values = np.array([y for trace in figure.data for y in trace.y])
    focus = _focus(values, seen.directions[name]) if name in seen.directions else {}
    figure.update_yaxes(range=focus.get("range"), title_text=_titled(name, focus))
    return figure.update_layout(**LAYOUT, xaxis_title="step")


def _evenly(n: int, most: int) -> list[int]:
    """Return up to ``most`` places among ``n``, the first and the last one included."""
    return list(range(n)) if n <= most else np.unique(np.linspace(0, n - 1, most).round().astype(int)).tolist()


def _best_so_far(seen: History, name: str, done: list[Trial]) -> np.ndarray:
    y = np.array([t.metrics[name] for t in done])
    return np.maximum.accumulate(y) if seen.directions[name] == "maximize" else np.minimum.accumulate(y)


def slices(source: Any, objective: str | None = None) -> Figure:
    """Draw the value against each parameter, one panel each; the best trial is marked."""
    go, seen = _go(), _history(source)
    from plotly.subplots import make_subplots

    name = _objective(seen, objective)
    done, names = _done(seen, name), _names(seen.space)
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = make_subplots(
        rows=rows, cols=columns, shared_yaxes=True, horizontal_spacing=0.04, vertical_spacing=min(0.22, 0.5 / rows)
    )
    best, last = _best(done, name, seen.directions[name]), max([t.number for t in done], default=0) or 1
    points = _completed(sample(seen, name), name)
    for i, parameter in enumerate(names):
        at = {"row": i // columns + 1, "col": i % columns + 1}
        for trials, marker in (
            (points, {"colorscale": "Blues", "cmin": -0.6 * last, "cmax": last, "size": 7}),
            (best, {"color": BEST, "size": 12, "symbol": "star"}),
        ):
            here = [t for t in trials if parameter in (t.params or {})]
            marker = {**marker, "color": [t.number for t in here]} if marker.get("colorscale") else marker
            figure.add_trace(
                go.Scatter(
                    x=[_axis_value(seen.space, parameter, (t.params or {})[parameter]) for t in here],
                    y=[t.metrics[name] for t in here],
                    mode="markers",
                    marker=marker,
                    hoverinfo="text",
                    text=[hover(t, name) for t in here],
                    showlegend=False,
                ),
                **at,
            )
        figure.update_xaxes(title_text=parameter, **_axis(seen.space, parameter), **at)
    focus = _focus(np.array([t.metrics[name] for t in done]), seen.directions[name])
    figure.update_yaxes(range=focus.get("range"))
    figure.update_yaxes(title_text=_titled(name, focus), col=1)
    return figure.update_layout(**LAYOUT, height=250 * rows + 40)


def _best(done: list[Trial], name: str, direction: str) -> list[Trial]:
    key = (lambda t: -t.metrics[name]) if direction == "maximize" else (lambda t: t.metrics[name])
    return [min(done, key=key)] if done else []


def _names(space: Space) -> list[str]:
    return list(dict.fromkeys(public(n) for n in space if public(n)))


def _axis(space: Space, name: str) -> dict[str, Any]:
    """Return how plotly should draw a parameter's axis: logarithmic, whole numbers only, or choices in their order."""
    columns = [p for n, p in space.items() if public(n) == name]
    if not all(isinstance(p, (Float, Int)) for p in columns):
        order = list(dict.fromkeys(show(c) for p in columns for c in getattr(p, "choices", ())))
        labels = {"tickvals": order, "ticktext": _short(order)}
        return {"type": "category", "categoryorder": "array", "categoryarray": order, **labels}
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


def _axis_value(space: Space, name: str, value: Any) -> Any:
    numeric = all(isinstance(p, (Float, Int)) for n, p in space.items() if public(n) == name)
    return value if numeric else show(value)


def parallel(source: Any, objective: str | None = None) -> Figure:
    """Draw each trial as a line over all parameters, coloured by its value. Inactive parameters sit at the bottom."""
    go, seen = _go(), _history(source)
    name = _objective(seen, objective)
    done = _completed(sample(seen, name), name)
    values = [t.metrics[name] for t in done]
    dimensions = [_dimension(seen.space, parameter, done) for parameter in _names(seen.space)]
    dimensions.append({"label": name, "values": values})
    good_is_low = seen.directions[name] == "minimize"
    ends = _focus(np.array(values), seen.directions[name]).get("range")  # or one very bad trial takes all shades
    line = {
        **({} if ends is None else {"cmin": ends[0], "cmax": ends[1]}),
        "color": values,
        "colorscale": [[0, "#e2e8f0"], [0.6, "#93c5fd"], [1, "#1d4ed8"]],
        "reversescale": good_is_low,
        "showscale": False,
    }
    return go.Figure(
        go.Parcoords(
            line=line,
            dimensions=dimensions,
            labelfont={"size": 12},
            tickfont={"size": 11},
            labelangle=-20,
            labelside="top",
        )
    ).update_layout(**{**LAYOUT, "margin": {"l": 60, "r": 60, "t": 90, "b": 24}})


def _dimension(space: Space, name: str, done: list[Trial]) -> dict[str, Any]:
    values = [(t.params or {}).get(name) for t in done]
    missing = any(name not in (t.params or {}) for t in done)
    columns = [p for n, p in space.items() if public(n) == name]
    if all(isinstance(p, (Float, Int)) for p in columns):
        log = any(p.log for p in columns if isinstance(p, (Float, Int)))
        numbers = np.array([np.nan if v is None else (np.log10(v) if log else v) for v in values], dtype=float)
        low = np.nanmin(numbers) if np.isfinite(numbers).any() else 0.0
        high = np.nanmax(numbers) if np.isfinite(numbers).any() else 1.0
        below = low - 0.12 * max(high - low, 1e-12)
        body: dict[str, Any] = {"label": name, "values": np.where(np.isnan(numbers), below, numbers)}
        if log or missing:
            ticks = np.linspace(low, high, 4)
            body |= {
                "tickvals": [*([below] if missing else []), *ticks],
                "ticktext": [*(["–"] if missing else []), *(written(10**v if log else v) for v in ticks)],
            }
        return body
    shown = [show(v) if name in (t.params or {}) else "–" for v, t in zip(values, done, strict=True)]
    order = list(
        dict.fromkeys([*(["–"] if missing else []), *(show(c) for p in columns for c in getattr(p, "choices", ()))])
    )
    order += [s for s in dict.fromkeys(shown) if s not in order]  # of an earlier version of the space
    return {
        "label": name,
        "values": [order.index(s) for s in shown],
        "tickvals": list(range(len(order))),
        "ticktext": _short(order),
    }


def _short(names: list[str]) -> list[str]:
    """Cut choices' names to what does not run into the next panel; what begins alike is told by its end."""
    cut = [name if len(name) <= LABEL else name[: LABEL - 1] + "…" for name in names]
    half = LABEL // 2
    return [
        f"{name[: half - 1]}…{name[-half:]}" if cut.count(short) > 1 and len(name) > LABEL else short
        for name, short in zip(names, cut, strict=True)
    ]
