"""What a model makes of the trials: what matters, what goes together, what each value is expected to bring."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from welltuned import stats
from welltuned.errors import InvalidValue
from welltuned.history import History
from welltuned.plots.ground import (
    ACCENT,
    BEST,
    INK,
    LAYOUT,
    SHADES,
    asked_for,
    axis_of,
    best_of,
    completed,
    done_of,
    escaped,
    graph_objects,
    hover,
    names_of,
    on_axis,
    sample,
)
from welltuned.trial import Trial

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

MOST_PANELS = 6
MOST_PAIRS = 10
SEEN = 0.005  # share from which a pair is drawn
Z90 = 1.645  # standard deviations to either side that hold 90 %
BAND = "rgba(37,99,235,0.15)"  # of the accent


def importance(source: Any, objective: str | None = None, *, among: float = 1.0) -> Figure:
    """Draw :func:`welltuned.stats.importance`: the share of the objective's variance that involves each parameter."""
    found = stats.importance(source, objective, among=among)
    title = "share of the variance that involves it"
    return _bars(found, title if among == 1.0 else f"share of the variance among the best {100 * among:.3g} %")


def interactions(source: Any, objective: str | None = None) -> Figure:
    """Draw the share of the objective's variance that belongs to two parameters together, of the ten largest pairs."""
    found = list(stats.interactions(source, objective).items())[:MOST_PAIRS]
    shown = {f"{a} × {b}": share for i, ((a, b), share) in enumerate(found) if share >= SEEN or i == 0}
    return _bars(shown, "share of the variance that belongs to the two together")


def _bars(found: dict[str, float], title: str) -> Figure:
    go = graph_objects()
    names = list(found)[::-1]
    figure = go.Figure(
        go.Bar(
            x=[found[n] for n in names],
            y=[escaped(n) for n in names],
            orientation="h",
            marker={"color": ACCENT},
            text=[f"{found[n]:.0%}" for n in names],
            textposition="outside",
            hoverinfo="none",
            cliponaxis=False,
        )
    )
    figure.update_xaxes(tickformat=".0%", range=[0, max([*found.values(), 0.1]) * 1.15], title_text=title)
    return figure.update_layout(**LAYOUT, height=max(160, 34 * len(names) + 90)).update_yaxes(automargin=True)


def effects(source: Any, objective: str | None = None, *, names: Sequence[str] | None = None) -> Figure:
    """Draw what the model expects over the values of each of the six most important parameters, or of ``names``.

    One panel each: the average over the trials with that value in them, and a band that holds the truth with 90 %, by
    the model. The star is where the best trial is.
    """
    go, (seen, name) = graph_objects(), asked_for(source, objective, "effects")
    from plotly.subplots import make_subplots

    chosen = stats.importance(seen, name) if names is None else names_of(seen.space, names)
    drawn = (e for e in (stats.effects(seen, parameter, name) for parameter in chosen) if np.isfinite(e.mean).any())
    known = list(islice(drawn, MOST_PANELS if names is None else None))
    if not known:
        return go.Figure().update_layout(**LAYOUT, height=160, yaxis_title=escaped(name))
    columns = min(3, len(known))
    rows = -(-len(known) // columns)
    figure = make_subplots(
        rows=rows, cols=columns, shared_yaxes="all", horizontal_spacing=0.06, vertical_spacing=min(0.22, 0.5 / rows)
    )
    best = best_of(done_of(seen, name), name, seen.directions[name])
    for i, effect in enumerate(known):
        at = {"row": i // columns + 1, "col": i % columns + 1}
        axis = axis_of(seen.space, effect.names[0])
        x = np.array(on_axis(seen.space, effect.names[0], effect.values[0]))
        for trace in (_points if axis.get("type") == "category" else _line)(x, effect):
            figure.add_trace(trace, **at)
        for trace in _star(seen, effect, best, axis):
            figure.add_trace(trace, **at)
        figure.update_xaxes(title_text=escaped(effect.names[0]), **axis, **at)
    figure.update_yaxes(title_text=escaped(name), col=1)
    return figure.update_layout(**LAYOUT, height=250 * rows + 40)


def _line(x: np.ndarray, effect: stats.Effect) -> list[Any]:
    go, known = graph_objects(), np.isfinite(effect.mean)
    x, mean, reach = x[known], effect.mean[known], Z90 * effect.sd[known]
    few = {"mode": "lines+markers", "marker": {"color": ACCENT, "size": 6}} if len(x) <= 12 else {"mode": "lines"}
    return [
        go.Scatter(
            x=np.concatenate([x, x[::-1]]),
            y=np.concatenate([mean + reach, (mean - reach)[::-1]]),
            mode="lines",
            fill="toself",
            fillcolor=BAND,
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
        ),
        go.Scatter(
            x=x,
            y=mean,
            line={"color": ACCENT, "width": 2.5},
            customdata=reach,
            hovertemplate="%{x}: %{y:.4g} ± %{customdata:.2g}<extra></extra>",
            showlegend=False,
            **few,
        ),
    ]


def _points(x: np.ndarray, effect: stats.Effect) -> list[Any]:
    go, known = graph_objects(), np.isfinite(effect.mean)
    reach = Z90 * effect.sd[known]
    return [
        go.Scatter(
            x=x[known],
            y=effect.mean[known],
            mode="markers",
            marker={"color": ACCENT, "size": 9},
            error_y={"array": reach, "thickness": 2, "width": 6, "color": ACCENT},
            customdata=reach,
            hovertemplate="%{x}: %{y:.4g} ± %{customdata:.2g}<extra></extra>",
            showlegend=False,
        )
    ]


def _star(seen: History, effect: stats.Effect, best: list[Trial], axis: dict[str, Any]) -> list[Any]:
    """Draw the best trial's value where the curve has it."""
    go, parameter = graph_objects(), effect.names[0]
    here = [t for t in best if parameter in (t.params or {})]
    if not here:
        return []
    (value,) = on_axis(seen.space, parameter, [(here[0].params or {})[parameter]])
    if value is None:
        return []
    if axis.get("type") == "category":
        shown = on_axis(seen.space, parameter, effect.values[0])
        y = effect.mean[shown.index(value)] if value in shown else np.nan
    else:
        scale = np.log if axis.get("type") == "log" else np.asarray
        y = np.interp(scale(value), scale(np.array(effect.values[0], dtype=float)), effect.mean)
    return [
        go.Scatter(
            x=[value],
            y=[y],
            mode="markers",
            marker={"color": BEST, "size": 12, "symbol": "star"},
            hoverinfo="text",
            text=[hover(here[0], *seen.directions)],
            showlegend=False,
        )
    ]


def surface(source: Any, names: Sequence[str] | None = None, objective: str | None = None) -> Figure:
    """Draw what the model expects over two parameters, those that interact most unless named.

    Darker is better. Points are the trials, the star is the best.

    Raises
    ------
    InvalidValue
        For fewer than two parameters, or too few results.
    """
    go, (seen, name) = graph_objects(), asked_for(source, objective, "surface")
    if names is None:
        names = _strongest(seen, name)
    effect = stats.effects(seen, names, name)
    if len(effect.names) != 2:
        raise InvalidValue(f"surface: names={names!r} is not two parameters; effects draws them one by one")
    axes = [axis_of(seen.space, n) for n in effect.names]
    x, y = (on_axis(seen.space, n, vs) for n, vs in zip(effect.names, effect.values, strict=True))
    look = {
        "x": x,
        "y": y,
        "z": effect.mean.T,
        "customdata": Z90 * effect.sd.T,
        "colorscale": SHADES,
        "reversescale": seen.directions[name] == "minimize",
        "colorbar": {"title": {"text": escaped(name), "side": "right"}, "thickness": 14, "outlinewidth": 0},
        "hovertemplate": "{} %{{x}}<br>{} %{{y}}<br>%{{z:.4g}} ± %{{customdata:.2g}}<extra></extra>".format(
            *map(escaped, effect.names)
        ),
    }
    choices = any(axis.get("type") == "category" for axis in axes)
    figure = go.Figure(
        go.Heatmap(**look) if choices else go.Contour(**look, line={"width": 0.5, "color": "white"}, ncontours=16)
    )
    done = done_of(seen, name)
    for trials, marker in (
        (completed(sample(seen, name), name), {"color": "white", "size": 6, "line": {"color": INK, "width": 1}}),
        (best_of(done, name, seen.directions[name]), {"color": BEST, "size": 14, "symbol": "star"}),
    ):
        here = [t for t in trials if all(n in (t.params or {}) for n in effect.names)]
        a, b = (on_axis(seen.space, n, ((t.params or {})[n] for t in here)) for n in effect.names)
        figure.add_trace(
            go.Scatter(
                x=a,
                y=b,
                mode="markers",
                marker=marker,
                hoverinfo="text",
                text=[hover(t, name) for t in here],
                cliponaxis=False,
                showlegend=False,
            )
        )
    # invisible ticks, which keep the labels of both axes apart in the corner
    apart = {"ticks": "outside", "ticklen": 7, "tickcolor": "rgba(0,0,0,0)"}
    figure.update_xaxes(title_text=escaped(effect.names[0]), range=_ends(x, axes[0]), **axes[0], **apart)
    figure.update_yaxes(
        title_text=escaped(effect.names[1]), range=_ends(y, axes[1]), automargin=True, **axes[1], **apart
    )
    return figure.update_layout(**LAYOUT, height=460)


def _ends(values: list[Any], axis: dict[str, Any]) -> list[float] | None:
    """Return where an axis of numbers begins and ends: where the values do."""
    if axis.get("type") == "category" or len(values) < 2:
        return None
    ends = [float(values[0]), float(values[-1])]
    return [float(np.log10(end)) for end in ends] if axis.get("type") == "log" else ends


def _strongest(seen: History, name: str) -> tuple[str, str]:
    """Return the two parameters that interact most, or else the two that matter most."""
    if len(names := names_of(seen.space)) < 2:
        raise InvalidValue(f"surface: takes two parameters, but there is {names!r}; use effects")
    pair = next(iter(stats.interactions(seen, name)), tuple(stats.importance(seen, name))[:2])
    return pair if len(pair) == 2 else (names[0], names[1])
