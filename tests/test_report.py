"""The report opens anywhere and tells everything; figures hold what the trials hold; importance finds what matters."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import warnings
from html.parser import HTMLParser

import numpy as np
import pytest

import welltuned as wt
from welltuned import Categorical, Float, History, Int, Space, Study, plots
from welltuned.errors import InvalidType, InvalidValue, StorageError, WelltunedError
from welltuned.plots import FIGURES
from welltuned.report import SCRIPT, TITLES, render, write_report
from welltuned.stats import importance

plotly = pytest.importorskip("plotly")
SHARES = ("importance", "interactions")  # figures in which the objective is not named
EVIL = '"><script>alert("x")</script>&\'{{}}'
MIXED = {
    "lr": Float(1e-5, 1e-1, log=True),
    "n": Int(1, 9),
    "width": Int(8, 512, log=True),
    "kind": Categorical(["a", "b", None]),
    "size": [16, 32, 64],
    "l2": Float(0.0, 1.0, when={"kind": "a"}),
    "sub": Categorical(["u", "v"], when={"kind": "b"}),
}


def tuned(space, objective, n=12, **options):
    study = Study(space, **{"seed": 0, "sampler": "random", **options})
    study.optimize(objective, n_trials=n)
    return study


@pytest.fixture(scope="module")
def mixed():
    def objective(p):
        if p["n"] == 9:
            raise ArithmeticError("nine is too many")
        return np.log10(p["lr"]) ** 2 + (p["kind"] == "a") + p.get("l2", 0.0)

    return tuned(MIXED, objective, 40, name="mixed")


@pytest.fixture(scope="module")
def several():
    return tuned(
        {"x": (0.0, 1.0), "c": ["u", "v"]},
        lambda p: {"loss": p["x"] ** 2, "speed": -p["x"] + (p["c"] == "u")},
        15,
        direction={"loss": "minimize", "speed": "maximize"},
        name="several",
    )


def failing(p):
    raise ArithmeticError("no luck today")


class Page(HTMLParser):
    """Collects the tags, the visible text and whatever a browser would load."""

    VOID = frozenset({"meta", "br", "img", "link", "input", "hr"})

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.loads, self.text, self.ids, self.headings = [], [], [], [], [], []
        self.scripts = 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.scripts += tag == "script"
        self.loads += [v for k, v in attrs if k in ("src", "href", "srcset", "action", "data") and v]
        self.ids += [v for k, v in attrs if k == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data):
        if "script" in self.open or "style" in self.open:
            return
        self.text.append(data)
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(data)


def page(studies):
    text = render(studies if isinstance(studies, list) else [studies])
    found = Page(text)
    assert found.open == []
    return found


def words(found):
    return " ".join(found.text)


# the page


def test_the_sections_of_one_study(mixed):
    found = page(mixed)
    titles = [TITLES[kind][0] for kind in FIGURES]
    first = ["mixed", "Best value", "Best setting", "How good it really is"]
    assert found.headings == [*first, *titles, "Failures", "Trials"]
    assert found.tags.count("tr") > 40
    text = words(found)
    assert f"{mixed.best.value:.6g}" in text
    assert "nine is too many" in text
    failed = sum(t.state is wt.State.FAILED for t in mixed.trials)
    assert f"{failed} of 40 trials failed" in text
    assert f"40 trials ({40 - failed} complete, {failed} failed)" in text
    assert "seed 0" in text and "value is minimized" in text
    assert "Stopped: budget" in text


def test_a_standard_error_that_the_objective_gave_is_shown():
    exact, noisy = (tuned({"x": (0.0, 1.0)}, lambda t, e=e: (t["x"], e) if e else t["x"]) for e in (0.0, 0.25))
    own = "its own average, with its standard error"
    assert own not in words(page(exact))
    assert f"{own} {noisy.recommend().average:.6g} ± 0.25" in words(page(noisy))


def test_the_table_holds_every_trial(mixed):
    table = render([mixed]).split('<table class="sort">')[1]
    rows = re.findall(r"<tr(?: class=best)?><td>(\d+)</td><td>(\w+)</td>", table)
    assert [int(n) for n, _ in rows] == list(range(40))
    assert [state for _, state in rows] == [t.state.value for t in mixed.trials]
    assert re.findall(r"<tr class=best><td>(\d+)</td>", table) == [str(mixed.best.number)]
    heads = re.findall(r"<th>(.*?)</th>", table)
    assert heads[:3] == ["trial", "state", "value"]
    assert set(heads[3:-1]) == set(MIXED)


def test_write_report_writes_what_render_returns(mixed, tmp_path):
    path = tmp_path / "r.html"
    assert write_report(mixed, str(path)) == path
    assert path.read_text(encoding="utf-8") == render([mixed])
    assert write_report([mixed], path) == path
    assert write_report((s for s in [mixed]), path) == path


def test_several_studies(mixed, several):
    other = tuned({"x": (0.0, 1.0)}, lambda p: p["x"], name="other")
    found = page([mixed, other])
    assert found.headings[:2] == ["Side by side", "Best so far"]
    assert [h for h in found.headings if h in ("mixed", "other")] == ["mixed", "other"]
    assert len(found.ids) == len(set(found.ids)) == 11
    mismatch = page([mixed, several])
    assert "Best so far" not in mismatch.headings
    assert mismatch.headings[0] == "Side by side"


def test_the_same_study_twice_has_two_places(mixed):
    found = page([mixed, mixed])
    assert len(found.ids) == len(set(found.ids))


def test_several_objectives(several):
    found = page(several)
    assert "Pareto front" in found.headings
    assert "Trade-offs" in found.headings
    for title in (TITLES[kind][0] for kind in FIGURES):
        assert [h for h in found.headings if h.startswith(title)] == [f"{title} · loss", f"{title} · speed"]
    table = render([several]).split('<table class="sort">')[1]
    assert [int(n) for n in re.findall(r"<tr class=best><td>(\d+)</td>", table)] == [
        t.number for t in several.best_trials
    ]


def test_no_trials():
    found = page(Study({"x": (0.0, 1.0)}, name="fresh", seed=0))
    assert found.headings == ["fresh", "No completed trial yet", "Trials"]
    assert "0 trials (none yet)" in words(found)
    assert page(Study(name="open", seed=0)).headings[0] == "open"
    assert page([Study({"x": (0.0, 1.0)}, name="a"), Study({"x": (0.0, 1.0)}, name="b")]).headings[0] == "Side by side"


def test_only_failures():
    study = tuned({"x": (0.0, 1.0)}, failing, 5, name="sad")
    found = page(study)
    assert found.headings == ["sad", "No completed trial yet", "Failures", "Trials"]
    assert words(found).count("no luck today") == 5
    assert "5 of 5 trials failed" in words(found)


def test_one_trial():
    assert "Too few different results to tell" in words(page(tuned({"x": (0.0, 1.0)}, lambda p: p["x"], 1)))


def test_running_waiting_and_pruned_trials():
    study = Study({"x": (0.0, 1.0)}, seed=0, name="busy")
    study.enqueue([{"x": 0.5}, {"x": 0.25}, {"x": 0.75}])
    study.tell(study.ask(), 1.0)
    study.tell(study.ask(), state="pruned")
    study.ask()
    study.enqueue({"x": 0.1})
    text = words(page(study))
    assert "4 trials (1 waiting, 1 running, 1 complete, 1 pruned)" in text


def evil_study():
    def objective(p):
        if p[EVIL] == "fine":
            raise ValueError(EVIL)
        return {"value": p["x"]}

    return tuned({EVIL: Categorical([EVIL, "fine"]), "x": (0.0, 1.0)}, objective, 8, name=EVIL.replace("/", "|"))


def test_names_choices_and_errors_are_escaped():
    harmless = tuned({"k": ["a", "b"], "x": (0.0, 1.0)}, lambda p: p["x"], 8, name="plain")
    text = render([evil_study()])
    found = Page(text)
    assert found.open == []
    assert found.scripts == page(harmless).scripts
    assert "<script>alert" not in text
    assert EVIL in words(found)
    assert html.escape(EVIL) in text


def test_names_of_objectives_are_escaped():
    harmless = tuned(
        {"x": (0.0, 1.0)}, lambda p: {"a": p["x"], "b": p["x"]}, 6, direction={"a": "minimize", "b": "minimize"}
    )
    study = tuned(
        {"x": (0.0, 1.0)}, lambda p: {EVIL: p["x"], "b": p["x"]}, 6, direction={EVIL: "minimize", "b": "minimize"}
    )
    text = render([study])
    assert "<script>alert" not in text
    assert Page(text).scripts == page(harmless).scripts


def test_it_opens_without_a_network(mixed, several):
    from plotly.offline import get_plotlyjs

    text = render([mixed, several])
    assert text.count(get_plotlyjs()) == 1
    rest = text.replace(get_plotlyjs(), "")
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?\s*(?:https?:)?//", rest)
    assert not re.search(r"@import|url\(", rest)
    assert not re.search(r"https?://", rest)
    assert Page(text).loads == []


def test_numbers_of_any_size():
    values = iter([1e300, -1e300, 1e-300, 0.0, 5.0, 1e-12])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = words(page(tuned({"x": (0.0, 1.0)}, lambda p: next(values), 6)))
    assert "1e+300" in text
    assert "1e-12" in text


@pytest.mark.parametrize("target", ["nowhere/r.html", "."])
def test_a_page_that_cannot_be_written(mixed, target, tmp_path):
    with pytest.raises(StorageError, match=re.escape(str(tmp_path / target))):
        write_report(mixed, tmp_path / target)


@pytest.mark.parametrize(
    "bad", [None, 3, "study", [], [3], History(Space({"x": (0.0, 1.0)}))], ids=lambda b: type(b).__name__
)
def test_what_is_no_study(bad, tmp_path):
    with pytest.raises(WelltunedError, match=re.escape(repr(bad)) if not isinstance(bad, History) else "History"):
        write_report(bad, tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


# the figures


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_of_a_mixed_space(name, mixed):
    figure = FIGURES[name](mixed)
    assert figure.to_json() == FIGURES[name](mixed.history).to_json()
    assert len(figure.data) >= 1
    assert len(figure.to_json()) > 500


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_of_each_objective(name, several):
    for objective in several.objectives:
        assert objective in FIGURES[name](several, objective).to_json() or name in SHARES
    assert FIGURES[name](several).to_json() == FIGURES[name](several, "loss").to_json()


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("n", [0, 1, 2])
def test_figures_of_few_trials(name, n):
    study = Study(MIXED, seed=0, sampler="random")
    if n:
        study.optimize(lambda p: p["n"], n_trials=n)
    FIGURES[name](study).to_json()


@pytest.mark.parametrize("name", FIGURES)
def test_figures_of_failures_only(name):
    FIGURES[name](tuned({"x": (0.0, 1.0)}, failing, 3)).to_json()


@pytest.mark.parametrize("name", [n for n in FIGURES if n != "importance"])
def test_figures_of_a_constant_objective(name):
    FIGURES[name](tuned({"x": (0.0, 1.0), "c": ["a"]}, lambda p: 1.0, 6)).to_json()


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize(
    "space",
    [
        [{"x": (0.0, 1.0)}, {"y": ["u", "v"]}],
        [{"x": (0.0, 1.0)}, {"x": (5.0, 9.0)}],
        [(0.0, 1.0), (2.0, 3.0)],
        {f"x{i}": (0.0, 1.0) for i in range(13)},
        {"f": Categorical([len, max, (1, 2), "x" * 90, "x" * 90 + "y"])},
        {"one": Categorical(["only"]), "x": Int(3, 9, log=True)},
    ],
    ids=["grids", "ranges", "bounds", "many", "objects", "one choice"],
)
def test_figures_of_spaces_of_many_shapes(name, space):
    values = iter(np.random.default_rng(0).random(100).tolist())
    FIGURES[name](tuned(space, lambda p: next(values), 12)).to_json()


OF_CHANGED = list(FIGURES)


@pytest.mark.parametrize("name", OF_CHANGED)
def test_figures_of_grids_of_different_kinds(name):
    study = tuned([{"x": (0.0, 1.0)}, {"x": ["u", "v"]}], lambda p: float(p["x"] == "u"), 12)
    FIGURES[name](study).to_json()


@pytest.mark.parametrize("name", OF_CHANGED)
def test_figures_after_the_space_has_changed(name):
    study = tuned({"c": ["a", "b", "z"], "x": (0.0, 1.0)}, lambda p: p["x"], 8)
    study.space = {"c": ["a", "b"], "x": (0.0, 2.0), "new": (0.0, 1.0)}
    study.optimize(lambda p: p["x"], n_trials=14)
    FIGURES[name](study).to_json()


@pytest.mark.parametrize("name", OF_CHANGED)
def test_figures_after_choices_have_become_numbers(name):
    """What was tried before, the best trial too, has no place on an axis of numbers."""
    before = {"c": wt.Categorical(["a", "b"]), "s": wt.Categorical([True, False]), "x": (-1.0, -0.5), "k": (0.0, 1.0)}
    study = tuned(before, lambda p: p["x"], 8)
    logs = wt.Float(0.01, 1.0, log=True)
    study.space = {"c": logs, "s": (0.0, 2.0), "x": logs, "k": (0.0, 1.0)}
    study.optimize(lambda p: p["x"], n_trials=14)
    FIGURES[name](study).to_json()
    if name == "slices":
        assert [v for v in plots.slices(study, names=["c"]).data[0].x if isinstance(v, str)] == []


def trace(figure, name):
    return next(t for t in figure.data if t.name == name)


@pytest.mark.parametrize(("direction", "best"), [("minimize", np.minimum), ("maximize", np.maximum)])
def test_history_holds_the_values_and_the_best_so_far(direction, best):
    values = [3.0, 1.0, 4.0, 1.5, 5.0]
    left = iter(values)
    study = tuned({"x": (0.0, 1.0)}, lambda p: next(left), 5, direction=direction)
    figure = plots.history(study)
    assert list(trace(figure, "trial").y) == values
    assert list(trace(figure, "trial").x) == [0, 1, 2, 3, 4]
    assert list(trace(figure, "best so far").y) == best.accumulate(values).tolist()


def test_history_shows_failures_and_errors_of_measurement(mixed):
    failed = [t.number for t in mixed.trials if t.state is wt.State.FAILED]
    assert list(trace(plots.history(mixed), "failed").x) == failed
    noisy = tuned({"x": (0.0, 1.0)}, lambda p: (p["x"], 0.25), 4)
    assert list(trace(plots.history(noisy), "trial").error_y.array) == [0.25] * 4
    assert trace(plots.history(mixed), "trial").error_y.array is None


def test_slices_have_a_panel_for_each_parameter(mixed):
    figure = plots.slices(mixed)
    titles = [figure.layout[f"xaxis{i + 1 if i else ''}"].title.text for i in range(len(MIXED))]
    assert titles == list(MIXED)
    assert figure.layout.xaxis.type == "log"
    assert figure.layout.xaxis4.type == "category"
    assert list(figure.layout.xaxis4.categoryarray) == ["a", "b", "None"]
    done = [t for t in mixed.trials if t.state is wt.State.COMPLETE]
    with_l2 = [t for t in done if "l2" in t.params]
    points = next(t for t in figure.data if t.xaxis == "x6")
    assert list(points.x) == [t.params["l2"] for t in with_l2]
    assert list(points.y) == [t.value for t in with_l2]
    stars = [t for t in figure.data if t.marker.symbol == "star" and t.xaxis in (None, "x")]
    assert list(stars[0].x) == [mixed.best.params["lr"]]


def test_history_shows_what_was_pruned_and_curves_what_was_reported():
    def objective(trial):
        for step in range(5):
            trial.report(trial["x"] + 1 / (step + 1), step=step)
            if trial.number % 3 == 1 and step == 2:
                raise wt.Pruned
        return trial["x"]

    study = tuned({"x": (0.0, 1.0)}, objective, 12, name="reporting")
    pruned = [t for t in study.trials if t.state is wt.State.PRUNED]
    drawn = trace(plots.history(study), "pruned")
    assert list(drawn.x) == [t.number for t in pruned] and len(pruned) == 4
    assert list(drawn.y) == [t.reports[-1].metrics["value"] for t in pruned]
    lines = plots.curves(study).data
    assert [len(line.x) for line in lines] == [3 if t in pruned else 5 for t in study.trials]
    assert [line.line.width for line in lines].index(3) == study.best.number
    assert "Reports" in page(study).headings


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (8, 128, ["8", "16", "32", "64", "128"]),
        (16, 512, ["16", "64", "256"]),
        (10, 300, ["10", "20", "50", "100", "200"]),
        (100, 2000, ["100", "200", "500", "1000", "2000"]),
        (1, 1000, ["1", "10", "100", "1000"]),
        (1000, 10_000_000, ["1000", "10000", "1e5", "1e6", "1e7"]),
        (3, 4, ["3", "3.5", "4"]),
    ],
)
def test_log_axes_label_round_numbers(low, high, labels):
    study = tuned({"n": Int(low, high, log=True)}, lambda p: p["n"], 3)
    axis = plots.slices(study).layout.xaxis
    assert list(axis.ticktext) == labels
    assert list(axis.tickvals) == [float(label) for label in labels]


def test_log_axes_of_small_numbers():
    study = tuned({"lr": Float(1e-7, 1e-3, log=True), "x": Float(0.02, 0.6, log=True)}, lambda p: p["lr"], 3)
    layout = plots.slices(study).layout
    assert list(layout.xaxis.ticktext) == ["1e-7", "1e-6", "1e-5", "0.0001", "0.001"]
    assert list(layout.xaxis2.ticktext) == ["0.02", "0.05", "0.1", "0.2", "0.5"]


def test_long_choices_are_cut_and_told_apart():
    names = ["short", "adam_with_decay", "adam_with_decay_and_more", "a" * 50]
    figure = plots.slices(tuned({"c": Categorical(names)}, lambda p: len(p["c"]), 4))
    labels = figure.layout.xaxis.ticktext
    assert labels[0] == "short" and all(len(label) <= 12 for label in labels)
    assert len(set(labels)) == 4
    assert any("adam_with_decay_and_more" in text for text in figure.data[0].text)


@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["minimize", "maximize"])
def test_one_very_bad_trial_flattens_no_figure(sign):
    values = iter([sign * v for v in (1.0, 1e9, 3.0, 2.0, 2.5, 1.5, 2.0)])
    study = tuned(
        {"x": (0.0, 1.0), "y": (0.0, 1.0)}, lambda p: next(values), 7, direction="minimize" if sign > 0 else "maximize"
    )
    for figure in (plots.history(study), plots.slices(study)):
        ends = sorted(sign * v for v in figure.layout.yaxis.range)
        assert ends[0] < 1.0 and 3.0 < ends[1] < 10.0
        assert "outside: 1 worse" in figure.layout.yaxis.title.text
    assert plots.slices(study).layout.yaxis2.range == plots.slices(study).layout.yaxis.range
    assert max(abs(v) for v in trace(plots.history(study), "trial").y) == 1e9


def test_figures_of_ordinary_values_show_all_of_them(mixed):
    for figure in (plots.history(mixed), plots.slices(mixed)):
        assert figure.layout.yaxis.range is None
        assert figure.layout.yaxis.title.text == "value"


def test_what_pruned_trials_reported_does_not_set_the_range():
    def objective(trial):
        trial.report(1e6 if trial.number % 2 else trial["x"], 1)
        if trial.number == 3:
            raise ArithmeticError
        return trial.prune() if trial.number % 2 else trial["x"]

    figure = plots.history(tuned({"x": (0.0, 1.0)}, objective, 12))
    assert max(figure.layout.yaxis.range) < 1.2
    assert "outside: 5 worse" in figure.layout.yaxis.title.text
    assert trace(figure, "failed").y[0] < 1.2


@pytest.mark.parametrize("values", [[1e308, -1e308, 0.0, 1.0, 2.0, 1e308], [0.0] * 6, [0.0] * 5 + [1.0]])
def test_ranges_of_extreme_values(values):
    left = iter(values)
    study = tuned({"x": (0.0, 1.0)}, lambda p: next(left), 6)
    for name in ("history", "slices", "parallel"):
        FIGURES[name](study).to_json()


def test_front_draws_what_no_other_trial_beats(several):
    figure = plots.front(several)
    assert sorted(trace(figure, "front").x) == sorted(t.metrics["loss"] for t in several.best_trials)
    assert len(trace(figure, "front").x) + len(trace(figure, "trial").x) == 15
    assert plots.front(several, ("speed", "loss")).layout.xaxis.title.text == "speed (maximize)"
    with pytest.raises(InvalidValue, match="two objectives"):
        plots.front(tuned({"x": (0.0, 1.0)}, lambda p: p["x"], 3))


def test_the_script_of_the_table_returns_what_it_compares():
    """It held a line that ended in ``return``, which returns nothing in JavaScript, and nothing was sorted."""
    node = shutil.which("node")
    assert "return" not in SCRIPT and "sign * compare(x, y)" in SCRIPT
    if node is None:
        return
    page = """
const cell = (v) => ({dataset: {}, textContent: v});
const rows = ["3", "", "10", "2"].map((v) => ({cells: [cell(v)]}));
let sort, found;
const th = {dataset: {}, addEventListener: (_, f) => { sort = f; }};
const body = {rows, append: (...r) => { found = r.map((x) => x.cells[0].textContent); }};
globalThis.document = {querySelectorAll: () => [{tHead: {rows: [{cells: [th]}]}, tBodies: [body]}]};
"""
    done = subprocess.run(
        [node, "-e", page + SCRIPT + "sort(); const up = found; sort(); console.log(JSON.stringify([up, found]))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == [["2", "3", "10", ""], ["10", "3", "2", ""]]


def test_parameters_that_are_asked_for_are_drawn_alone(mixed):
    def titles(figure):
        return [figure.layout[f"xaxis{i or ''}"].title.text for i in (0, 2, 3) if f"xaxis{i or ''}" in figure.layout]

    assert titles(plots.slices(mixed, names=["l2", "lr"])) == ["l2", "lr"]
    assert titles(plots.effects(mixed, names=["lr"])) == ["lr"]
    assert [d.label for d in plots.parallel(mixed, names=["l2", "lr"]).data[0].dimensions] == ["l2", "lr", "value"]
    for figure in (plots.slices, plots.parallel, plots.effects):
        with pytest.raises(wt.InvalidValue, match=r"names=\['lr', 'x'\]: 'x' is no parameter; there are \['lr', "):
            figure(mixed, names=["lr", "x"])
        with pytest.raises(wt.InvalidType, match=r"names=5 is no list of parameters; there are \['lr', "):
            figure(mixed, names=5)
        with pytest.raises(wt.InvalidValue, match=r"objective=\['lr'\] is unknown; the study has \['value'\]"):
            figure(mixed, ["lr"])


def test_parallel_has_an_axis_for_each_parameter_and_the_value(mixed):
    dimensions = {d.label: d for d in plots.parallel(mixed).data[0].dimensions}
    assert list(dimensions) == [*MIXED, "value"]
    done = [t for t in mixed.trials if t.state is wt.State.COMPLETE]
    np.testing.assert_allclose(dimensions["lr"]["values"], np.log10([t.params["lr"] for t in done]))
    np.testing.assert_allclose(dimensions["value"]["values"], [t.value for t in done])
    inactive = np.array(["l2" not in t.params for t in done])
    heights = np.asarray(dimensions["l2"]["values"])
    assert heights[inactive].max() < heights[~inactive].min()
    assert dimensions["l2"].ticktext[0] == "–"
    labels = dimensions["kind"].ticktext
    assert [labels[i] for i in dimensions["kind"]["values"]] == [str(t.params["kind"]) for t in done]


def test_comparison_has_a_line_for_each_study(mixed):
    other = tuned({"x": (0.0, 1.0)}, lambda p: p["x"], 5)
    figure = plots.comparison({"one": mixed, "two": other.history})
    assert [t.name for t in figure.data] == ["one", "two"]
    assert len(figure.data[1].x) == 5
    assert np.all(np.diff(figure.data[1].y) <= 0)


def test_comparison_counts_every_trial_that_ended():
    """A study that prunes seemed to need fewer of them."""
    values = iter([None, 3.0, None, 1.0, 2.0, None])

    def objective(trial):
        value = next(values)
        trial.report(9.0, 1)
        return trial.prune() if value is None else value

    study = tuned({"x": (0.0, 1.0)}, objective, 6)
    study.n_trials = 7
    study.ask()
    line = plots.comparison({"one": study, "none": Study({"x": (0.0, 1.0)}, seed=0)}).data[0]
    assert list(line.x) == [2, 3, 4, 5, 6]
    assert list(line.y) == [3.0, 3.0, 1.0, 1.0, 1.0]


def test_importance_figure_is_sorted(mixed):
    bars = plots.importance(mixed).data[0]
    assert list(bars.x) == sorted(bars.x)
    assert bars.y[-1] == next(iter(importance(mixed.history)))


def test_hover_names_the_trial(mixed):
    text = plots.hover(mixed.best, "value")
    assert text.startswith(f"<b>trial {mixed.best.number}</b><br>value: ")
    assert all(f"{name}: " in text for name in mixed.best.params)


@pytest.mark.parametrize("name", FIGURES)
def test_figures_refuse(name, mixed):
    with pytest.raises(InvalidValue, match="'bogus'"):
        FIGURES[name](mixed, "bogus")
    with pytest.raises(InvalidType, match="3 is neither"):
        FIGURES[name](3)


def test_comparison_refuses(mixed):
    with pytest.raises(InvalidValue, match="'bogus'"):
        plots.comparison({"one": mixed}, "bogus")
    with pytest.raises(InvalidType, match="'two'"):
        plots.comparison({"one": "two"})


# what mattered


def test_importance_ranks_the_important_first():
    space = {"none": (0.0, 1.0), "much": (0.0, 1.0), "some": (0.0, 1.0)}
    study = tuned(space, lambda p: 10 * p["much"] + 3 * p["some"], 40)
    found = importance(study.history)
    assert list(found) == ["much", "some", "none"]
    assert found["much"] > 0.8
    assert found["some"] == pytest.approx(9 / 109, abs=0.05)
    assert found["none"] < 0.02


def test_importance_of_categories_and_log_scales():
    space = {"lr": Float(1e-5, 1e-1, log=True), "c": Categorical(["u", "v", "w"]), "n": Int(1, 9), "noise": (0.0, 1.0)}
    by_category = tuned(space, lambda p: {"u": 0.0, "v": 5.0, "w": 9.0}[p["c"]] + np.log10(p["lr"]) * 0.1, 40)
    assert next(iter(importance(by_category.history))) == "c"
    by_rate = tuned(space, lambda p: (np.log10(p["lr"]) + 3) ** 2, 40)
    assert next(iter(importance(by_rate.history))) == "lr"
    assert importance(by_rate.history)["noise"] < 0.1


def test_importance_counts_interactions_for_both():
    study = tuned({"a": (-1.0, 1.0), "b": (-1.0, 1.0), "c": (-1.0, 1.0)}, lambda p: p["a"] * p["b"], 60)
    found = importance(study.history)
    assert found["a"] > 0.8
    assert found["b"] > 0.8
    assert found["c"] < 0.1


def test_importance_of_conditional_parameters():
    space = {"kind": ["a", "b"], "x": Float(0.0, 1.0, when={"kind": "a"}), "idle": (0.0, 1.0)}
    found = importance(tuned(space, lambda p: 5 * p.get("x", 0.0), 50).history)
    assert set(found) == {"kind", "x", "idle"}
    assert found["x"] > found["idle"]
    assert found["kind"] > found["idle"]


def test_importance_of_each_objective():
    study = tuned(
        {"x": (0.0, 1.0), "y": (0.0, 1.0)},
        lambda p: {"f": p["x"], "g": p["y"]},
        20,
        direction={"f": "minimize", "g": "maximize"},
    )
    assert next(iter(importance(study.history))) == "x"
    assert next(iter(importance(study.history, "g"))) == "y"


def test_importance_of_a_list_of_grids_has_public_names():
    study = tuned([{"x": (0.0, 1.0)}, {"x": (5.0, 9.0), "y": [1, 2]}], lambda p: p["x"], 20)
    assert set(importance(study.history)) == {"x", "y"}


def test_importance_is_repeatable_and_within_bounds(mixed):
    found = importance(mixed.history)
    assert found == importance(mixed.history)
    assert set(found) == set(MIXED)
    assert all(0.0 <= share <= 1.0 for share in found.values())
    assert list(found.values()) == sorted(found.values(), reverse=True)


def ruined(p):
    """Nothing good has sgd; of what is good, the rate decides, and the width by a fifth of the range as much."""
    rate, width = (np.log10(p["lr"]) + 2.5) ** 2 / 10, abs(np.log2(p["width"]) - 4.0) / 20
    return rate + width + (3.0 * (1.0 - p["momentum"]) if p["optimizer"] == "sgd" else 0.0)


RUINED = {
    "optimizer": ["adam", "sgd"],
    "lr": wt.Float(1e-5, 1.0, log=True),
    "momentum": wt.Float(0.0, 0.99, when={"optimizer": "sgd"}),
    "width": wt.Int(1, 64),
    "nothing": (0.0, 1.0),
}


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_importance_among_the_best_is_that_of_what_is_left_to_tune(direction):
    """Of all settings the optimizer explains most.

    Among the best quarter, 400,000 draws of the function give the rate 0.59, the width 0.16, and all else nothing.
    """
    study = wt.Study(RUINED, direction=direction, sampler="qmc", seed=0)
    sign = 1.0 if direction == "minimize" else -1.0
    study.optimize(lambda p: sign * ruined(p), n_trials=64)
    assert next(iter(importance(study))) == "optimizer"
    best = importance(study, among=0.25)
    assert list(best)[:2] == ["lr", "width"]
    # what 64 trials do not know is nobody's
    assert best["lr"] == pytest.approx(0.5, abs=0.15) and best["width"] == pytest.approx(0.16, abs=0.1)
    assert max(best["optimizer"], best["momentum"], best["nothing"]) < 0.03


@pytest.mark.parametrize("among", [0.0, -0.1, 1.5, "all", None])
def test_importance_among_what_is_no_share(mixed, among):
    with pytest.raises((wt.InvalidValue, wt.InvalidType), match="importance: among"):
        importance(mixed, among=among)


def test_importance_of_what_cannot_be_told():
    assert importance(History(Space({"x": (0.0, 1.0)}))) == {}
    assert importance(tuned({"x": (0.0, 1.0)}, lambda p: p["x"], 3).history) == {}
    assert importance(tuned({"x": (0.0, 1.0)}, lambda p: 1.0, 9).history) == {}
    assert importance(tuned({"x": (0.0, 1.0)}, failing, 9).history) == {}


def test_importance_of_a_single_choice_is_none():
    found = importance(tuned({"only": Categorical(["a"]), "x": (0.0, 1.0)}, lambda p: p["x"], 12).history)
    assert found["only"] == 0.0
    assert found["x"] > 0.9


def test_importance_survives_outliers():
    study = tuned(
        {"x": (0.0, 1.0), "y": (0.0, 1.0)}, lambda p: 1e30 if p["x"] > 0.97 else p["x"] * 10 + p["y"] * 0.1, 60
    )
    assert next(iter(importance(study.history))) == "x"


def test_importance_refuses_an_unknown_objective(mixed):
    with pytest.raises(InvalidValue, match="'bogus'"):
        importance(mixed.history, "bogus")


def test_importance_refuses_what_is_no_history():
    with pytest.raises(InvalidType, match="3"):
        importance(3)


def test_noise_makes_nothing_important():
    rng = np.random.default_rng(0)
    space = Space({f"p{i}": (0.0, 1.0) for i in range(5)})
    for seed in range(3):
        study = wt.Study(space, sampler="random", seed=seed)
        study.optimize(lambda p: rng.random(), n_trials=40)
        assert max(importance(study.history).values()) < 0.25


def test_one_curve_that_diverged_does_not_flatten_the_others():
    def train(trial):
        for step in range(10):
            trial.report(trial["x"] + 1 / (1 + step) + 1e6 * (trial.number == 3), step)
        return trial["x"]

    study = wt.Study({"x": (0.0, 1.0)}, seed=0, sampler="random")
    study.optimize(train, n_trials=20)
    axis = plots.curves(study).layout.yaxis
    assert axis.range[1] < 10 and "10 worse" in axis.title.text
    assert plots.curves(study, "value").layout.yaxis.range == axis.range


def test_figures_show_names_and_choices_as_they_are():
    """Plotly takes ``<`` for the begin of a tag, and leaves out those that it does not know."""
    space = {"<s>": (0.0, 1.0), "f": ["<pad>", "<sep>"]}

    def objective(params):
        if params["<s>"] > 0.9:
            raise TypeError("not <class 'int'>")
        return {"loss<1": params["<s>"] + (params["f"] == "<pad>")}

    study = wt.Study(space, direction={"loss<1": "minimize"}, sampler="random", seed=1, name="<study>")
    study.optimize(objective, n_trials=40)
    # of parallel coordinates, the names above the axes may be tags to Plotly, and not the texts beside them
    axes = plots.parallel(study).data[0].dimensions
    assert [axis.label for axis in axes] == ["&lt;s&gt;", "f", "loss&lt;1"]
    assert list(axes[1].ticktext) == ["<pad>", "<sep>"]
    drawn = {kind: draw(study) for kind, draw in plots.FIGURES.items() if kind != "parallel"}
    drawn |= {"surface": plots.surface(study), "comparison": plots.comparison({"<study>": study})}
    for kind, figure in drawn.items():
        texts = set(texts_of(json.loads(figure.to_json())))
        assert any("&lt;" in text for text in texts), kind
        assert not {tag for text in texts for tag in re.findall("<[^<>]*>", text)} - {
            *("<b>", "</b>", "<br>", "<sup>", "</sup>", "<extra>", "</extra>")
        }, kind
    for text in ("&lt;s&gt;", "&lt;pad&gt;"):
        assert text in texts_of(json.loads(drawn["slices"].to_json())), text
    assert any("not &lt;class 'int'&gt;" in text for text in texts_of(json.loads(drawn["history"].to_json())))


def texts_of(body):
    """Return all texts of a figure, whatever they are for."""
    if isinstance(body, str):
        return [body]
    inner = body.values() if isinstance(body, dict) else body if isinstance(body, list) else ()
    return [text for part in inner for text in texts_of(part)]
