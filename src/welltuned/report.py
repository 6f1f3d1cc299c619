"""What there is to say of a study, section by section, and one HTML file of it that opens without a network.

A dashboard shows the same sections, alive: what a report contains is known here alone.
"""

from __future__ import annotations

import html
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from welltuned import plots
from welltuned.errors import InvalidType, InvalidValue, StorageError, require
from welltuned.history import History
from welltuned.samplers import Auto, Sampler
from welltuned.stats import (
    MODEL_FROM,
    SPOKEN_OF,
    completed,
    expected_gain,
    importance,
    interactions,
    recommend,
    regret_bound,
)
from welltuned.study.breeding import lineage
from welltuned.study.notes import in_words
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
    "interactions": (
        "How they interact",
        "Share of the variance that belongs to two parameters together: how far what one of them does depends on the other. "
        "With few trials, or few of some choice, it is rough.",
    ),
    "surface": (
        "The two that interact most",
        "What the model expects of the two that interact most, on average over the trials; darker is better. Points are the trials, "
        "the star is the best.",
    ),
    "effects": (
        "What the model sees",
        "What it expects of each value of the most important parameters, on average over the trials with that value in them; "
        "it is 90 % sure of the band. The star is where the best trial is.",
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
BEST, WORTH = 0.25, 0.05  # share of a space that is looked at by itself, and share from which a parameter is named there
STYLE = """
:root{color-scheme:light;--ink:#1f2933;--soft:#52606d;--line:#e4e7eb;--accent:#2563eb;--paper:#fff;--back:#f5f7fa}
*{box-sizing:border-box}html{scrollbar-gutter:stable}body{margin:0;background:var(--back);color:var(--ink);font:15px/1.55
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
CONFIG = {"displayModeBar": False, "responsive": True}
LISTED = 2000  # rows of a table of trials
FAILURES = 200
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


@dataclass(frozen=True)
class Subject:
    """What a report is about: a study at one moment.

    Attributes
    ----------
    name, seed, stop_reason
        Those of the study.
    history
        Its trials.
    sampler
        What proposes its configurations, or the name of a sampler that is a user's own.
    has_space
        Whether it has a space: not before the first trial of an objective that suggests its own parameters.
    notes
        What was noted of the study itself.
    """

    name: str
    seed: int
    stop_reason: str | None
    history: History
    sampler: Sampler | str
    has_space: bool = True
    notes: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, study: Study) -> Subject:
        """Return a study as it is now."""
        seen = study.history
        return cls(study.name, study.seed, study.stop_reason, seen, study.sampler, study.has_space, study.notes)


@dataclass(frozen=True)
class Section:
    """One part of a report: a heading, a note under it, and a table or a figure.

    Attributes
    ----------
    key
        What tells it from all other sections of the same report: letters, digits and hyphens.
    title
        Plain text.
    note, html
        HTML; what came from a study is escaped in it.
    figure
        A plotly figure, in place of ``html``.
    half
        Whether it stands beside the next one that is a half.
    """

    key: str
    title: str
    note: str = ""
    html: str = ""
    figure: Any = None
    half: bool = False


def render(studies: list[Study]) -> str:
    """Return the report as the text of one HTML page."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise require("plotly", "plots", "the report") from error
    subjects = [Subject.of(study) for study in studies]
    title = " · ".join(subject.name for subject in subjects)
    body = "".join(_page(subject, f"figure-{i}-") for i, subject in enumerate(subjects))
    together = f"<h1>Side by side</h1>{_drawn(comparison(subjects), '')}" if len(studies) > 1 else ""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,'
        f'initial-scale=1"><title>{_text(title)}</title><style>{STYLE}</style><script>{get_plotlyjs()}</script></head>'
        f"<body><main>{together}{body}<footer>Made by welltuned. Everything is inside this file.</footer></main>"
        f"<script>{SCRIPT}</script></body></html>"
    )


def _page(subject: Subject, prefix: str) -> str:
    return f"<h1>{_text(subject.name)}</h1><p>{_text(summary(subject))}</p>{_drawn(sections(subject), prefix)}"


def _drawn(parts: Iterable[Section], prefix: str) -> str:
    """Draw sections one under the other, halves side by side."""
    found, halves = "", ""
    for part in parts:
        drawn = _section(part, prefix)
        if not part.half:
            found += drawn
        elif halves:
            found, halves = f'{found}<div class="grid">{halves}{drawn}</div>', ""
        else:
            halves = drawn
    return found + halves


def _section(part: Section, prefix: str) -> str:
    title = f"<h2>{_text(part.title)}</h2>" if part.title else ""
    note = f"<p>{part.note}</p>" if part.note else ""
    figure = "" if part.figure is None else f'<div class="wide">{_draw(part.figure, prefix + part.key)}</div>'
    return f"<section>{title}{note}{part.html}{figure}</section>"


def _draw(figure: Any, name: str) -> str:
    drawn: str = figure.to_html(full_html=False, include_plotlyjs=False, div_id=name, config=CONFIG)
    return drawn


def _text(value: Any) -> str:
    return html.escape(str(value))


def sections(subject: Subject, *, figures: bool = True, table: bool = True) -> Iterator[Section]:
    """Say all that there is to say of a study.

    Parameters
    ----------
    figures, table
        Without plotly there are no figures; whoever can look up trials needs no table of them.
    """
    seen = subject.history
    yield from _best(seen)
    yield from _schedule(seen)
    yield from _honest(seen)
    if figures and any(t.state is State.COMPLETE for t in seen.trials):
        yield from _figures(seen)
    yield from _failures(seen)
    if table:
        yield _table(seen)


def _figures(seen: History) -> Iterator[Section]:
    shown = plots.shown(seen)
    if len(seen.directions) > 1:
        yield _titled("front", "front", plots.front(seen), shown=shown)
    for j, objective in enumerate(seen.directions):
        suffix = f" · {objective}" if len(seen.directions) > 1 else ""
        yield _titled("history", f"history-{j}", plots.history(seen, objective), suffix, shown)
        yield from _model(seen, objective, j, suffix)
        few = plots.shown(seen, plots.most_in_panels(seen.space))
        yield _titled("slices", f"slices-{j}", plots.slices(seen, objective), suffix, few)
        yield _titled("parallel", f"parallel-{j}", plots.parallel(seen, objective), suffix, shown)
        if any(objective in r.metrics for t in seen.trials for r in t.reports):
            yield _titled("curves", f"curves-{j}", plots.curves(seen, objective), suffix)


def _model(seen: History, objective: str, j: int, suffix: str) -> Iterator[Section]:
    """Draw what a model makes of the trials, where there are enough."""
    mattered = plots.importance(seen, objective)
    if not (n_known := len(mattered.data[0].y)):
        yield Section(f"importance-{j}", TITLES["importance"][0] + suffix, "Too few different results to tell.")
        return
    yield _titled("importance", f"importance-{j}", mattered, suffix, _among_best(seen, objective))
    yield from _interplay(seen, objective, n_known, j, suffix)
    if (expected := plots.effects(seen, objective)).data:
        yield _titled("effects", f"effects-{j}", expected, suffix)


def _among_best(seen: History, objective: str) -> str:
    """Say what the best quarter of the space differs by, as plain text: what decided whether a setting is bad is over."""
    found = importance(seen, objective, among=BEST)
    named = ", ".join(f"{name} {100 * share:.0f} %" for name, share in found.items() if share >= WORTH)
    return f"Among the best quarter of the space, by itself: {named or 'nothing to speak of'}."


def _interplay(seen: History, objective: str, n_known: int, j: int, suffix: str) -> Iterator[Section]:
    """Draw which parameters interact, and the two that do so most; in a sentence where none do to speak of."""
    found = interactions(seen, objective)
    if (pair := next(iter(found), None)) is None or found[pair] < SPOKEN_OF:
        if n_known > 1:
            none = f"By the same model, no two parameters have as much as {100 * SPOKEN_OF:.0f} % of the variance together."
            yield Section(f"interactions-{j}", TITLES["interactions"][0] + suffix, none)
        return
    yield _titled("interactions", f"interactions-{j}", plots.interactions(seen, objective), suffix)
    two = plots.surface(seen, pair, objective)
    yield Section(f"surface-{j}", f"{pair[0]} and {pair[1]}{suffix}", TITLES["surface"][1], figure=two)


def _titled(kind: str, key: str, figure: Any, suffix: str = "", shown: str = "") -> Section:
    title, note = TITLES[kind]
    return Section(key, title + suffix, " ".join(part for part in (note, _text(shown)) if part), figure=figure)


def comparison(subjects: Iterable[Subject], *, figures: bool = True) -> Iterator[Section]:
    """Say what there is to say of several studies beside one another."""
    listed = list(subjects)
    yield Section("together", "", html=_together(listed))
    same = len({tuple(s.history.directions.items()) for s in listed}) == 1
    if figures and same and all(s.history.observed.any() for s in listed):
        figure = plots.comparison({s.name: s.history for s in listed})
        yield Section("race", "Best so far", "Of each study, over its trials.", figure=figure)


def summary(subject: Subject) -> str:
    """Say in a few sentences how far a study has come, as plain text."""
    seen = subject.history
    states = [f"{n} {state.value}" for state in State if (n := sum(t.state is state for t in seen.trials))]
    seconds = sum(t.seconds or 0.0 for t in seen.trials)
    stop = f" Stopped: {subject.stop_reason}." if subject.stop_reason else ""
    goals = ", ".join(f"{name} is {direction}d" for name, direction in seen.directions.items())
    return (
        f"{len(seen)} trials ({', '.join(states) or 'none yet'}), {duration(seconds)} of evaluation; {goals}. Sampler "
        f"{_sampler(subject)}; seed {subject.seed}.{stop}{_notes(subject)}"
    )


def _notes(subject: Subject) -> str:
    return f" Notes: {in_words(subject.notes)}." if subject.notes else ""


def _sampler(subject: Subject) -> str:
    sampler = subject.sampler
    if not isinstance(sampler, Auto) or not subject.has_space:
        return sampler if isinstance(sampler, str) else type(sampler).__name__
    choice = sampler.choose(subject.history.space, subject.history)
    return f"Auto, which would go on with {choice.name} ({choice.why})"


def _best(seen: History) -> Iterator[Section]:
    if not any(t.state is State.COMPLETE for t in seen.trials):
        yield Section("best", "No completed trial yet")
    elif len(seen.directions) > 1:
        yield _front(seen)
    elif seen.best is None:
        yield Section("best", "No trial satisfies the constraints on outcomes yet")
    else:
        yield from _winner(seen, seen.best)


def _front(seen: History) -> Section:
    best = seen.front[:LISTED]
    rows = "".join(
        f"<tr><td>{t.number}</td>{''.join(f'<td>{v:.6g}</td>' for v in t.values or ())}<td>{_params(t)}</td></tr>"
        for t in best
    )
    few = "" if len(best) == len(seen.front) else f" The first {len(best)} of {len(seen.front)} are listed."
    return Section(
        "best",
        "Pareto front",
        f"No other trial is better in all objectives.{few}",
        _scroll(_columns("trial", *seen.directions, "parameters"), rows),
    )


def _winner(seen: History, best: Trial) -> Iterator[Section]:
    objective = next(iter(seen.directions))
    sem = best.sems.get(objective)
    error = f"± {sem:.2g} standard error, " if sem else ""
    number = sum(t.state is State.COMPLETE for t in seen.trials)
    rows = "".join(
        f"<tr><td>{_text(k)}</td><td><code>{_text(_show(v))}</code></td></tr>" for k, v in (best.params or {}).items()
    )
    said = (
        f'<div class="big">{best.value:.6g}</div><p>{_text(error)}trial {best.number}{best.descent}. The best of {number} '
        "observed values flatters: on fresh data expect somewhat worse if the objective is noisy.</p>"
    )
    yield Section("best", f"Best {objective}", html=said, half=True)
    yield Section("setting", "Best setting", html=f"<table><tbody>{rows}</tbody></table>", half=True)


def _schedule(seen: History) -> Iterator[Section]:
    """Say what the best was trained with, where it went on from others."""
    if len(seen.directions) > 1 or seen.best is None or seen.best.parent is None:
        return
    rows = "".join(
        f"<tr><td>{t.inherited or 0}</td><td>{t.number}</td><td>{_params(t)}</td></tr>" for t in lineage(seen, seen.best.number)
    )
    yield Section(
        "schedule",
        "Schedule",
        "What the best was trained with: the settings of all that it goes on from, each from a step on. "
        "The best setting is that of the last part alone, and so is what is said of settings below.",
        f"<table>{_columns('from step', 'trial', 'setting')}<tbody>{rows}</tbody></table>",
    )


def _honest(seen: History) -> Iterator[Section]:
    """Say how good the best really is, and whether to go on."""
    if len(seen.directions) > 1 or seen.best is None or completed(seen).observed.sum() < MODEL_FROM:
        return
    found = recommend(seen)
    own = None if found.sem is None else f"{found.average:.6g} ± {found.sem:.2g}"
    rows = [
        ("best observed value", f"{found.observed:.6g}"),
        ("expected of that trial, without the luck of having been selected", f"{found.corrected:.6g}"),
        (f"expected of the recommended setting (trial {found.number})", f"{found.mean:.6g} ± {found.sd:.2g}"),
        *([("its own average, with its standard error", own)] if own else []),
        ("noise of one evaluation, standard deviation", f"{found.noise_sd:.2g}"),
        ("gain that the next trial is expected to bring", f"{expected_gain(seen):.2g}"),
        ("distance from the optimum, at most, with 90 % confidence", f"{regret_bound(seen):.2g}"),
    ]
    cells = "".join(f"<tr><td>{_text(name)}</td><td>{_text(value)}</td></tr>" for name, value in rows)
    again = f" It was evaluated {found.replicates} times." if found.replicates > 1 else ""
    yield Section(
        "honest",
        "How good it really is",
        f"By a Gaussian process fitted to all trials, in the units of the objective. The recommended setting: "
        f"{_params(seen.trials_by_number[found.number])}.{again} What all trials share, such as the rows of one validation set, "
        "is in none of these but a standard error that comes from folds.",
        f"<table><tbody>{cells}</tbody></table>",
    )


def _show(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else plots.show(value)


def _params(trial: Trial) -> str:
    return "<code>" + _text(", ".join(f"{k}={_show(v)}" for k, v in (trial.params or {}).items())) + "</code>"


def _columns(*names: str) -> str:
    return f"<thead><tr>{''.join(f'<th>{_text(name)}</th>' for name in names)}</tr></thead>"


def _scroll(head: str, rows: str, kind: str = "") -> str:
    return f'<div class="scroll"><table{kind}>{head}<tbody>{rows}</tbody></table></div>'


def _failures(seen: History) -> Iterator[Section]:
    failed = [t for t in seen.trials if t.state is State.FAILED]
    if not failed:
        return
    rows = "".join(
        f'<tr><td>{t.number}</td><td class="failed">{t.reason.value if t.reason else "?"}</td><td><code>{_text(t.error or "")}'
        f"</code></td><td>{_params(t)}</td></tr>"
        for t in failed[-FAILURES:]
    )
    few = f" The latest {FAILURES} are listed." if len(failed) > FAILURES else ""
    yield Section(
        "failures",
        "Failures",
        f"{len(failed)} of {len(seen)} trials failed.{few}",
        _scroll(_columns("trial", "reason", "message", "parameters"), rows),
    )


def _table(seen: History) -> Section:
    names = list(dict.fromkeys(n for t in seen.trials for n in t.params or {}))
    best = {t.number for t in seen.front} if len(seen.directions) > 1 else {seen.best.number} if seen.best else set()
    bred = any(t.parent is not None for t in seen.trials)
    columns = ("trial", "state", *seen.directions, *names, "seconds", *(["goes on from"] if bred else []))
    listed = plots.sample(seen, next(iter(seen.directions)), LISTED)
    rows = "".join(_row(t, names, seen, t.number in best, bred) for t in listed)
    few = "" if len(listed) == len(seen) else f" {plots.shown(seen, LISTED)} <code>welltuned export</code> writes all."
    return Section("trials", "Trials", f"Click a heading to sort.{few}", _scroll(_columns(*columns), rows, ' class="sort"'))


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


def _together(subjects: Iterable[Subject]) -> str:
    rows = ""
    for subject in subjects:
        seen = subject.history
        several = len(seen.directions) > 1
        best = None if several else seen.best
        value = f"front of {len(seen.front)}" if several else "–" if best is None else f"{best.value:.6g}"
        setting = "" if best is None else _params(best)
        rows += (
            f"<tr><td class=name>{_text(subject.name)}</td><td class=number>{value}</td><td>{len(seen)}</td><td>{setting}</td></tr>"
        )
    return f"<table>{_columns('study', 'best', 'trials', 'best setting')}<tbody>{rows}</tbody></table>"
