"""One HTML file that tells all about a study and opens without a network."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from welltuned import plots
from welltuned.errors import InvalidType, InvalidValue, StorageError, require
from welltuned.history import History
from welltuned.samplers import Auto
from welltuned.stats import MODEL_FROM, completed, expected_gain, importance, recommend, regret_bound
from welltuned.study.breeding import lineage
from welltuned.study.progress import duration
from welltuned.trial import State, Trial

if TYPE_CHECKING:
    from welltuned.study import Study

TITLES = {
    "history": (
        "History",
        "Every trial in its order; the line is the best so far. A pruned trial is where its last report was. "
        "A double click shows those outside, too.",
    ),
    "importance": (
        "What mattered",
        "Share of the objective's variance that involves each parameter, interactions included, by a "
        "Gaussian process fitted to the trials. With few trials it is rough.",
    ),
    "slices": (
        "Each parameter",
        "One panel a parameter; later trials are darker, the star is the best. A double click shows those outside, too.",
    ),
    "parallel": (
        "All parameters together",
        "One line a trial, darker is better; drag along an axis to select. A dash marks a "
        "parameter that was not active.",
    ),
    "front": ("Trade-offs", "Every trial by its objectives; of those on the line, none is better than another in all."),
    "curves": ("Reports", "What trials reported on their way, the latest 200; red ones were pruned, the best one is thick."),
}
STYLE = """
:root{color-scheme:light;--ink:#1f2933;--soft:#52606d;--line:#e4e7eb;--accent:#2563eb;--paper:#fff;--back:#f5f7fa}
*{box-sizing:border-box}body{margin:0;background:var(--back);color:var(--ink);font:15px/1.55
system-ui,-apple-system,"Segoe UI", "Noto Sans SC",sans-serif}main{max-width:1120px;margin:0 auto;padding:32px 20px
64px}h1{font-size:26px;margin:0 0 4px} h2{font-size:18px;margin:0 0 2px}p{margin:0 0
12px;color:var(--soft)}section{background:var(--paper);border:1px solid var(--line); border-radius:10px;padding:20px
22px;margin:16px 0;overflow:hidden}.grid{display:grid;grid-template-columns:minmax(220px,1fr) 2fr; gap:16px}.grid
section{margin:0}.big{font-size:40px;font-weight:650;letter-spacing:-.02em;color:var(--accent);line-height:1.15; overflow-wrap:anywhere}table{border-collapse:collapse;width:100%;font-size:13.5px;font-variant-numeric:tabular-nums}th,td{
text-align:left;padding:6px 12px 6px 0;border-bottom:1px solid
var(--line);vertical-align:top}th{color:var(--soft);font-weight:600;
white-space:nowrap}.sort th{cursor:pointer}.number{white-space:nowrap}.name{min-width:10em;overflow-wrap:anywhere}.wide{overflow-x:auto}.wide>div{min-width:680px}.scroll{overflow-x:auto;max-height:520px;overflow-y:auto}.scroll thead
th{position:sticky;top:0; background:var(--paper)}tr.best td{background:#fef3c7}code{font:13px
ui-monospace,monospace}.failed{color:#b91c1c}
footer{color:var(--soft);font-size:13px;margin-top:24px}@media(max-width:720px){.grid{grid-template-columns:1fr}}
"""
SCRIPT = """
for (const table of document.querySelectorAll("table.sort")) {
  const key = (row, i) => row.cells[i].dataset.v ?? row.cells[i].textContent;
  [...table.tHead.rows[0].cells].forEach((th, i) => th.addEventListener("click", () => {
    const sign = th.dataset.up === "1" ? -1 : 1;
    th.dataset.up = sign === 1 ? "1" : "0";
    const compare = (x, y) => isNaN(x - y) ? x.localeCompare(y) : x - y;
    const order = (x, y) => x === "" || y === "" ? (x === "") - (y === "") : sign * compare(x, y);
    const rows = [...table.tBodies[0].rows].sort((a, b) => order(key(a, i), key(b, i)));
    table.tBodies[0].append(...rows);
  }));
}
"""


def write_report(studies: Study | Iterable[Study], path: str | os.PathLike[str]) -> Path:
    """Write a self-contained HTML report of a study, or of several side by side; return its path.

    Raises
    ------
    MissingDependency
        Without plotly.
    StorageError
        When the file cannot be written.

    Examples
    --------
    >>> write_report(study, "report.html")  # doctest: +SKIP
    """
    listed = list(studies) if isinstance(studies, Iterable) and not isinstance(studies, str) else [studies]
    if not all(hasattr(s, "history") and hasattr(s, "sampler") for s in listed):
        raise InvalidType(f"write_report: {studies!r} is neither a Study nor a list of them")
    if not listed:
        raise InvalidValue("write_report: [] holds no study")
    target = Path(path)
    text = render(listed)
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write the report to {str(path)!r}: {error.strerror or error}") from error
    return target


def render(studies: list[Study]) -> str:
    """Return the report as the text of one HTML page."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise require("plotly", "plots", "the report") from error
    title = " · ".join(study.name for study in studies)
    body = "".join(_study(study, i) for i, study in enumerate(studies))
    comparison = _comparison(studies) if len(studies) > 1 else ""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,'
        f'initial-scale=1"><title>{_text(title)}</title><style>{STYLE}</style><script>{get_plotlyjs()}</script></head>'
        f"<body><main>{comparison}{body}<footer>Made by welltuned. Everything is inside this file.</footer></main>"
        f"<script>{SCRIPT}</script></body></html>"
    )


def _text(value: Any) -> str:
    return html.escape(str(value))


def _study(study: Study, index: int) -> str:
    seen = study.history
    parts = [f"<h1>{_text(study.name)}</h1><p>{_text(_summary(study, seen))}</p>", _best(seen), _schedule(seen), _honest(seen)]
    if any(t.state is State.COMPLETE for t in seen.trials):
        if len(seen.directions) > 1:
            parts.append(_section("front", _draw(plots.front(seen), f"figure-{index}-front")))
        for j, objective in enumerate(seen.directions):
            suffix = f" · {objective}" if len(seen.directions) > 1 else ""
            parts += [_figure(kind, seen, objective, f"figure-{index}-{kind}-{j}", suffix) for kind in plots.FIGURES]
            if any(objective in r.metrics for t in seen.trials for r in t.reports):
                parts.append(_section("curves", _draw(plots.curves(seen, objective), f"figure-{index}-curves-{j}"), suffix))
    parts += [_failures(seen), _table(seen)]
    return "".join(parts)


def _summary(study: Study, seen: History) -> str:
    states = [f"{n} {state.value}" for state in State if (n := sum(t.state is state for t in seen.trials))]
    seconds = sum(t.seconds or 0.0 for t in seen.trials)
    stop = f" Stopped: {study.stop_reason}." if study.stop_reason else ""
    goals = ", ".join(f"{name} is {direction}d" for name, direction in seen.directions.items())
    return (
        f"{len(seen)} trials ({', '.join(states) or 'none yet'}), {duration(seconds)} of evaluation; {goals}. Sampler "
        f"{_sampler(study, seen)}; seed {study.seed}.{stop}"
    )


def _sampler(study: Study, seen: History) -> str:
    if not isinstance(study.sampler, Auto) or not study.has_space:
        return type(study.sampler).__name__
    choice = study.sampler.choose(study.space, seen)
    return f"Auto, which would go on with {choice.name} ({choice.why})"


def _best(seen: History) -> str:
    if not any(t.state is State.COMPLETE for t in seen.trials):
        return "<section><h2>No completed trial yet</h2></section>"
    if len(seen.directions) > 1:
        rows = "".join(
            f"<tr><td>{t.number}</td>{''.join(f'<td>{v:.6g}</td>' for v in t.values or ())}<td>{_params(t)}</td></tr>"
            for t in seen.front
        )
        heads = "".join(f"<th>{_text(n)}</th>" for n in ("trial", *seen.directions, "parameters"))
        return (
            f'<section><h2>Pareto front</h2><p>No other trial is better in all objectives.</p><div class="scroll"><table>'
            f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div></section>"
        )
    best = seen.best
    if best is None:
        return "<section><h2>No trial satisfies the constraints on outcomes yet</h2></section>"
    objective = next(iter(seen.directions))
    sem = best.sems.get(objective)
    error = f"± {sem:.2g} standard error, " if sem else ""
    number = len([t for t in seen.trials if t.state is State.COMPLETE])
    rows = "".join(
        f"<tr><td>{_text(k)}</td><td><code>{_text(_show(v))}</code></td></tr>" for k, v in (best.params or {}).items()
    )
    return (
        f'<div class="grid"><section><h2>Best {_text(objective)}</h2><div class="big">{best.value:.6g}</div><p>{_text(error)}trial '
        f"{best.number}{best.descent}. The best of {number} observed values flatters: on fresh data expect somewhat worse if the objective is "
        f"noisy.</p></section><section><h2>Best setting</h2><table><tbody>{rows}</tbody></table></section></div>"
    )


def _schedule(seen: History) -> str:
    """Say what the best was trained with, where it went on from others."""
    if len(seen.directions) > 1 or seen.best is None or seen.best.parent is None:
        return ""
    rows = "".join(
        f"<tr><td>{t.inherited or 0}</td><td>{t.number}</td><td>{_params(t)}</td></tr>" for t in lineage(seen, seen.best.number)
    )
    return (
        f"<section><h2>Schedule</h2><p>What the best was trained with: the settings of all that it goes on from, each from a step on. "
        f"The best setting is that of the last part alone, and so is what is said of settings below.</p><table><thead><tr><th>from step</th>"
        f"<th>trial</th><th>setting</th></tr></thead><tbody>{rows}</tbody></table></section>"
    )


def _honest(seen: History) -> str:
    """Say how good the best really is, and whether to go on."""
    if len(seen.directions) > 1 or seen.best is None or completed(seen).observed.sum() < MODEL_FROM:
        return ""
    found = recommend(seen)
    rows = [
        ("best observed value", f"{found.observed:.6g}"),
        ("expected of that trial, without the luck of having been selected", f"{found.corrected:.6g}"),
        (f"expected of the recommended setting (trial {found.number})", f"{found.mean:.6g} ± {found.sd:.2g}"),
        ("noise of one evaluation, standard deviation", f"{found.noise_sd:.2g}"),
        ("gain that the next trial is expected to bring", f"{expected_gain(seen):.2g}"),
        ("distance from the optimum, at most, with 90 % confidence", f"{regret_bound(seen):.2g}"),
    ]
    cells = "".join(f"<tr><td>{_text(name)}</td><td>{_text(value)}</td></tr>" for name, value in rows)
    again = f" It was evaluated {found.replicates} times." if found.replicates > 1 else ""
    return (
        f"<section><h2>How good it really is</h2><p>By a Gaussian process fitted to all trials, in the units of the objective. The "
        f"recommended setting: {_params(seen.trials_by_number[found.number])}.{again}</p><table><tbody>{cells}</tbody></table></section>"
    )


def _show(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else plots.show(value)


def _params(trial: Trial) -> str:
    return "<code>" + _text(", ".join(f"{k}={_show(v)}" for k, v in (trial.params or {}).items())) + "</code>"


def _figure(kind: str, seen: History, objective: str, name: str, suffix: str) -> str:
    title, _ = TITLES[kind]
    if kind == "importance" and not importance(seen, objective):
        return f"<section><h2>{title}{_text(suffix)}</h2><p>Too few different results to tell.</p></section>"
    return _section(kind, _draw(plots.FIGURES[kind](seen, objective), name), suffix)


def _section(kind: str, figure: str, suffix: str = "") -> str:
    title, note = TITLES[kind]
    return f'<section><h2>{title}{_text(suffix)}</h2><p>{note}</p><div class="wide">{figure}</div></section>'


def _draw(figure: Any, name: str) -> str:
    drawn: str = figure.to_html(
        full_html=False, include_plotlyjs=False, div_id=name, config={"displayModeBar": False, "responsive": True}
    )
    return drawn


def _failures(seen: History) -> str:
    failed = [t for t in seen.trials if t.state is State.FAILED]
    if not failed:
        return ""
    rows = "".join(
        f'<tr><td>{t.number}</td><td class="failed">{t.reason.value if t.reason else "?"}</td><td><code>{_text(t.error or "")}'
        f"</code></td><td>{_params(t)}</td></tr>"
        for t in failed
    )
    return (
        f'<section><h2>Failures</h2><p>{len(failed)} of {len(seen)} trials failed.</p><div class="scroll"><table><thead><tr><th>trial'
        f"</th><th>reason</th><th>message</th><th>parameters</th></tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def _table(seen: History) -> str:
    names = list(dict.fromkeys(n for t in seen.trials for n in t.params or {}))
    best = {t.number for t in seen.front} if len(seen.directions) > 1 else {seen.best.number} if seen.best else set()
    bred = any(t.parent is not None for t in seen.trials)
    columns = ("trial", "state", *seen.directions, *names, "seconds", *(["goes on from"] if bred else []))
    heads = "".join(f"<th>{_text(h)}</th>" for h in columns)
    rows = "".join(_row(t, names, seen, t.number in best, bred) for t in seen.trials)
    return (
        f'<section><h2>Trials</h2><p>Click a heading to sort.</p><div class="scroll"><table class="sort"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _row(trial: Trial, names: list[str], seen: History, best: bool, bred: bool) -> str:
    cells = [_cell(trial.number), _cell(trial.state.value)]
    cells += [_cell(trial.metrics.get(name, "")) for name in seen.directions]
    cells += [_cell((trial.params or {}).get(name, "")) for name in names]
    cells.append(_cell("" if trial.seconds is None else round(trial.seconds, 3)))
    cells += [_cell(trial.source)] if bred else []
    return f"<tr{' class=best' if best else ''}>{''.join(cells)}</tr>"


def _cell(value: Any) -> str:
    exact = f" data-v={json.dumps(value)}" if isinstance(value, float) else ""
    return f"<td{exact}>{_text(_show(value))}</td>"


def _comparison(studies: list[Study]) -> str:
    rows = ""
    for study in studies:
        seen = study.history
        best = seen.best if len(study.directions) == 1 else None
        value = f"front of {len(seen.front)}" if len(study.directions) > 1 else "–" if best is None else f"{best.value:.6g}"
        setting = "" if best is None else _params(best)
        rows += (
            f"<tr><td class=name>{_text(study.name)}</td><td class=number>{value}</td><td>{len(study.trials)}</td><td>{setting}</td></tr>"
        )
    return (
        f"<h1>Side by side</h1><section><table><thead><tr><th>study</th><th>best</th><th>trials</th><th>best setting</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></section>{_race(studies)}"
    )


def _race(studies: list[Study]) -> str:
    """Draw the studies in one figure where they have the same objective."""
    if len({tuple(s.directions.items()) for s in studies}) > 1 or not all(s.history.observed.any() for s in studies):
        return ""
    figure = plots.comparison({s.name: s for s in studies})
    return f"<section><h2>Best so far</h2><p>Of each study, over its trials.</p>{_draw(figure, 'race')}</section>"
