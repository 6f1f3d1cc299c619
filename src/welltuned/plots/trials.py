"""What was tried, trial by trial."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from welltuned.errors import InvalidValue
from welltuned.history import History
from welltuned.plots.ground import (
    ACCENT,
    BAD,
    BEST,
    FAINT,
    LAYOUT,
    LEGEND,
    MOST,
    SHADES,
    asked_for,
    axis_of,
    best_of,
    completed,
    done_of,
    escaped,
    evenly,
    graph_objects,
    hover,
    most_in_panels,
    names_of,
    on_axis,
    sample,
    shortened,
    show,
    written,
)
from welltuned.space import Float, Int, Space, public
from welltuned.stats.knowledge import asked
from welltuned.trial import State, Trial

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

MOST_CURVES = 200
MOST_STEPS = 500  # points of one curve
FEW = 5  # fewer values than these are all shown
EACH = 6  # up to so many trials, each has a tick of its own


def _corners(x: Sequence[Any], y: Sequence[Any] | np.ndarray, most: int = MOST) -> list[int]:
    """Return the places of a line of steps that draw all of it: where it has a new height, and its ends."""
    n = len(x)
    return list(range(n)) if n <= most else [i for i in range(n) if i in (0, n - 1) or y[i] != y[i - 1]]


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
    go, (seen, name) = graph_objects(), asked_for(source, objective, "history")
    done, drawn = done_of(seen, name), sample(seen, name)
    points, y = completed(drawn, name), np.array([t.metrics[name] for t in done])
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
                text=[f"<b>trial {t.number}</b> failed<br>{escaped(str(t.error or t.reason))}" for t in failed],
            )
        )
    figure.update_yaxes(range=focus.get("range"), title_text=_titled(name, focus))
    figure.update_xaxes(title_text="trial", tickformat="d", dtick=1 if len(seen) <= EACH else None)
    return figure.update_layout(**LAYOUT, legend=LEGEND)


def _pruned(trials: list[Trial], name: str) -> Any:
    return graph_objects().Scatter(
        x=[t.number for t in trials],
        y=[t.reports[-1].metrics[name] for t in trials],
        mode="markers",
        name="pruned" if all(t.state is State.PRUNED for t in trials) else "stopped early",
        marker={"color": FAINT, "symbol": "circle-open", "size": 7},
        hoverinfo="text",
        text=[f"{hover(t, name)}<br>{t.state.value} after step {t.reports[-1].step}" for t in trials],
    )


def _titled(name: str, focus: dict[str, Any]) -> str:
    return escaped(name) + (f"<br><sup>({focus['note']})</sup>" if focus else "")


def comparison(sources: dict[str, Any], objective: str | None = None) -> Figure:
    """Draw the best so far of several studies over their trials, those without a value included, one line each."""
    go = graph_objects()
    figure = go.Figure()
    for label, source in sources.items():
        seen, name = asked_for(source, objective, "comparison")
        # a trial that was pruned or failed has been paid for, and brought nothing better
        done = done_of(seen, name)
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
                name=escaped(label),
                line={"shape": "hv", "width": 2.5},
            )
        )
        figure.update_layout(yaxis_title=escaped(name))
    return figure.update_layout(**LAYOUT, xaxis_title="trials", legend=LEGEND, height=380)


def front(source: Any, objectives: tuple[str, str] | None = None) -> Figure:
    """Draw each trial by two objectives, the first two unless given, and those that no other one dominates."""
    go, seen = graph_objects(), asked(source, None, "front")
    if len(seen.directions) < 2:
        raise InvalidValue(f"front: takes two objectives, but there is {list(seen.directions)!r}; use history")
    first, second = (asked_for(seen, name, "front")[1] for name in objectives or list(seen.directions)[:2])
    best = sorted(seen.front, key=lambda t: t.metrics[first])
    leading = {t.number for t in best}
    drawn = completed(sample(seen, first), first)
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
    x, y = (escaped(f"{name} ({seen.directions[name]})") for name in (first, second))
    return figure.update_layout(**LAYOUT, xaxis_title=x, yaxis_title=y, legend=LEGEND)


def curves(source: Any, metric: str | None = None) -> Figure:
    """Draw what each trial reported of a metric, the first objective unless given, over the steps.

    Of many trials, the latest 200 and the best.
    """
    go, seen = graph_objects(), asked(source, None, "curves")
    name = metric or next(iter(seen.directions))
    best = seen.best if len(seen.directions) == 1 else None
    figure = go.Figure()
    reporting = [t for t in seen.trials if any(name in r.metrics for r in t.reports)]
    for trial in [t for t in reporting[:-MOST_CURVES] if t is best] + reporting[-MOST_CURVES:]:
        known = [r for r in trial.reports if name in r.metrics]
        known = [known[i] for i in evenly(len(known), MOST_STEPS)]
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


def _best_so_far(seen: History, name: str, done: list[Trial]) -> np.ndarray:
    y = np.array([t.metrics[name] for t in done])
    return np.maximum.accumulate(y) if seen.directions[name] == "maximize" else np.minimum.accumulate(y)


def slices(source: Any, objective: str | None = None, *, names: Sequence[str] | None = None) -> Figure:
    """Draw the value against each parameter, one panel each; the best trial is marked.

    ``names`` says which parameters, all unless given. Of many trials, each of more than twelve panels shows fewer than
    other figures do.
    """
    go, (seen, name) = graph_objects(), asked_for(source, objective, "slices")
    from plotly.subplots import make_subplots

    done, names = done_of(seen, name), names_of(seen.space, names)
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = make_subplots(
        rows=rows, cols=columns, shared_yaxes=True, horizontal_spacing=0.04, vertical_spacing=min(0.22, 0.5 / rows)
    )
    best, last = best_of(done, name, seen.directions[name]), max([t.number for t in done], default=0) or 1
    points = completed(sample(seen, name, most_in_panels(seen.space)), name)
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
                    x=on_axis(seen.space, parameter, ((t.params or {})[parameter] for t in here)),
                    y=[t.metrics[name] for t in here],
                    mode="markers",
                    marker=marker,
                    hoverinfo="text",
                    # all parameters over each point of each panel would be nearly all of a report
                    text=[hover(t, name, parameter=parameter) for t in here],
                    showlegend=False,
                ),
                **at,
            )
        figure.update_xaxes(title_text=escaped(parameter), **axis_of(seen.space, parameter), **at)
    focus = _focus(np.array([t.metrics[name] for t in done]), seen.directions[name])
    figure.update_yaxes(range=focus.get("range"))
    figure.update_yaxes(title_text=_titled(name, focus), col=1)
    return figure.update_layout(**LAYOUT, height=250 * rows + 40)


def parallel(source: Any, objective: str | None = None, *, names: Sequence[str] | None = None) -> Figure:
    """Draw each trial as a line over all parameters, coloured by its value. Inactive parameters sit at the bottom.

    ``names`` says which parameters, all unless given.
    """
    go, (seen, name) = graph_objects(), asked_for(source, objective, "parallel")
    done = completed(sample(seen, name), name)
    values = [t.metrics[name] for t in done]
    dimensions = [_dimension(seen.space, parameter, done) for parameter in names_of(seen.space, names)]
    dimensions.append({"label": escaped(name), "values": values})
    good_is_low = seen.directions[name] == "minimize"
    ends = _focus(np.array(values), seen.directions[name]).get("range")  # or one very bad trial takes all shades
    line = {
        **({} if ends is None else {"cmin": ends[0], "cmax": ends[1]}),
        "color": values,
        "colorscale": SHADES,
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
        placed = on_axis(space, name, values)
        numbers = np.array([np.nan if v is None else (np.log10(v) if log else v) for v in placed], dtype=float)
        missing = any(v is None for v in placed)
        low = np.nanmin(numbers) if np.isfinite(numbers).any() else 0.0
        high = np.nanmax(numbers) if np.isfinite(numbers).any() else 1.0
        below = low - 0.12 * max(high - low, 1e-12)
        body: dict[str, Any] = {"label": escaped(name), "values": np.where(np.isnan(numbers), below, numbers)}
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
        "label": escaped(name),  # the texts of ticks are shown as they are
        "values": [order.index(s) for s in shown],
        "tickvals": list(range(len(order))),
        "ticktext": shortened(order),
    }
