"""The page in the browser: what it is told, that it tells the same as the report, and that nobody notices it."""

import contextlib
import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner
from plotly.offline import get_plotlyjs

import welltuned as wt
from test_server import TOKEN, Serving
from welltuned import Categorical, Study, plots
from welltuned.cli.app import app as commands
from welltuned.errors import StorageError
from welltuned.report import Subject, render, sections
from welltuned.server import make_app, page, running, viewing, window
from welltuned.server.window import ReadOnly, Window
from welltuned.storage import MemoryStorage, SQLiteStorage
from welltuned.study import reasons
from welltuned.trial import Origin, State, Trial

ROOT = Path(__file__).parent.parent
STATIC = ROOT / "src" / "welltuned" / "server" / "static"
EVIL = '"><script>alert("x")<|script>&\''
CHROME = shutil.which(os.environ.get("WELLTUNED_TEST_BROWSER", "")) or ""  # "chromium", say


@pytest.fixture(scope="module")
def serving():
    server = Serving()
    yield server
    server.close()


@pytest.fixture
def storage(tmp_path):
    with_file = SQLiteStorage(tmp_path / "study.db")
    yield with_file
    with_file.close()


@pytest.fixture
def url(serving, storage):
    serving.use(storage)
    return serving.url


@pytest.fixture
def at_once(monkeypatch):
    """Draw whenever something has changed."""
    monkeypatch.setattr(window, "SOONEST", 0.0)
    monkeypatch.setattr(window, "SHARE", 1)


def get(url, path, token=TOKEN, body=None, **headers):
    """Return status, headers and bytes of an answer."""
    known = {} if token is None else {"Authorization": f"Bearer {token}"}
    kind = {} if body is None else {"Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {**known, **kind, **headers})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def asked(url, path, body=None):
    status, _, content = get(url, path, body=body)
    assert status == 200, content
    return json.loads(content)


def of(name, rest=""):
    return f"/v1/studies/{urllib.parse.quote(name, safe='')}{rest}"


def tuned(space, objective, n=8, **options):
    study = Study(space, **{"seed": 0, "sampler": "random", **options})
    study.optimize(objective, n_trials=n)
    return study


def failing(p):
    raise ArithmeticError(EVIL)


# the gate


def test_the_page_holds_no_data_and_takes_no_token(url, storage):
    tuned({"x": (0.0, 1.0)}, lambda p: p["x"], storage=storage, name="a secret name")
    for path in page.PATHS:
        status, headers, content = get(url, path, None)
        assert status == 200 and content and b"a secret name" not in content
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["X-Content-Type-Options"] == "nosniff"
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]
    assert get(url, "/static/../app.py", None)[0] == 401
    assert get(url, "/static/secret.js", None)[0] == 401


def test_everything_else_takes_the_token(url, storage):
    tuned({"x": (0.0, 1.0)}, lambda p: p["x"], storage=storage, name="n")
    for operation in viewing.OPERATIONS:
        path = operation.path.replace("{name}", "n")
        body = {"studies": ["n"]} if operation.body else None
        for token in (None, "wrong"):
            status, _, content = get(url, path, token, body)
            assert status == 401 and b"sections" not in content and b"counts" not in content
        assert get(url, path, body=body)[0] == 200


def test_the_script_of_the_figures_is_the_one_of_the_package(url):
    status, headers, content = get(url, "/static/plotly.js", None)
    assert content.decode() == get_plotlyjs()
    assert "max-age" in headers["Cache-Control"] and status == 200
    packed = get(url, "/static/plotly.js", None, **{"Accept-Encoding": "gzip"})
    assert packed[1]["Content-Encoding"] == "gzip" and gzip.decompress(packed[2]) == content
    again = get(url, "/static/plotly.js", None, **{"If-None-Match": headers["ETag"]})
    assert (again[0], again[2]) == (304, b"")


def test_without_plotly_the_page_says_so_and_the_rest_is_told(url, storage, monkeypatch):
    def missing():
        raise ImportError("plotly")

    tuned({"x": (0.0, 1.0)}, lambda p: p["x"], storage=storage, name="n")
    monkeypatch.setattr(page, "_plotly", missing)
    monkeypatch.setattr(window, "_can_draw", lambda: False)
    page._file.cache_clear()
    status, _, content = get(url, "/static/plotly.js", None)
    assert status == 404 and b"welltuned[plots]" in content
    answer = asked(url, of("n", "/report"))
    assert answer["figures"] is False
    assert [s["key"] for s in answer["sections"]] == ["best", "setting", "honest"]


def test_a_sampler_that_this_version_cannot_make_is_named(url, storage, monkeypatch):
    def unknown(described):
        raise wt.InvalidValue(f"{described} has a setting that nobody knows")

    tuned({"x": (0.0, 1.0)}, lambda p: p["x"], storage=storage, name="n")
    monkeypatch.setattr(window, "make_sampler", unknown)
    assert "Sampler random; seed 0" in asked(url, of("n", "/report"))["summary"]


def test_the_files_are_in_the_package_and_ask_nobody_else():
    tomllib = pytest.importorskip("tomllib")
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    # every file of these folders that git does not ignore; a list of kinds would leave some out
    assert build["targets"]["wheel"] == {"packages": ["src/welltuned", "src/hydra_plugins"]}
    assert "src" in build["targets"]["sdist"]["include"] and "exclude" not in build["targets"]["sdist"]
    files = {path.name: path.read_text(encoding="utf-8") for path in STATIC.iterdir()}
    assert {f"/static/{name}" for name in files} - {"/static/index.html"} < page.PATHS
    for name, text in files.items():
        for target in re.findall(r"""(?:src|href)="([^"#]+)"|from "([^"]+)\"""", text):
            assert (STATIC / Path(target[0] or target[1]).name).is_file() or target[0] == "static/report.css"
        assert not re.search(r"https?://", text.replace("http://www.w3.org/2000/svg", "")), name
    assert not re.search(r"\son\w+=|\sstyle=|<script>", files["index.html"])
    # HTML is read in one place: what the report has written
    assert sum(text.count("innerHTML") for text in files.values()) == files["sections.js"].count("innerHTML") == 2


def test_the_page_knows_which_reasons_mean_that_all_is_done():
    done = re.compile(re.search(r"ENDS = /(.*)/;", (STATIC / "study.js").read_text(encoding="utf-8"))[1])
    known = {
        name: done.match(text) is not None for name, text in vars(reasons).items() if name.isupper() and name[0] != "_"
    }
    assert {name for name, ends in known.items() if ends} == {"BUDGET", "ENDED", "EXHAUSTED"}
    assert {"INTERRUPTED", "BROKEN", "TIMEOUT"} < {*known}


# what is told


def reporting(trial):
    for step in range(4):
        trial.report(trial["x"] + 1 / (step + 1), step=step)
        if step == 1 and trial.number % 3 == 2:
            trial.prune()
    if trial.number % 5 == 4:
        raise ArithmeticError(EVIL)
    return trial["x"]


def plain(storage):
    return tuned({"x": (0.0, 1.0), EVIL: [EVIL, "b"]}, reporting, 15, storage=storage, name=EVIL)


def objects(storage):
    space = {"f": Categorical([len, max, (1, 2)]), "x": (0.0, 1.0)}
    return tuned(space, lambda p: p["x"] + (p["f"] is max), storage=storage, name="o")


def own(storage):
    return tuned(None, lambda t: t.suggest_float("a", 0, 1) + t.suggest_int("b", 1, 5), storage=storage, name="o")


def several(storage):
    both = {"loss": "minimize", "speed": "maximize"}
    return tuned(
        {"x": (0.0, 1.0)}, lambda p: {"loss": p["x"], "speed": p["x"]}, direction=both, storage=storage, name="o"
    )


def empty(storage):
    return Study({"x": (0.0, 1.0)}, storage=storage, name="o", seed=0)


def nothing(storage):
    return Study(storage=storage, name="o", seed=0)


def failed(storage):
    return tuned({"x": (0.0, 1.0)}, failing, 4, storage=storage, name="o")


def paused(storage):
    study = Study({"x": (0.0, 1.0)}, storage=storage, name="o", seed=0, sampler="random", n_trials=9)
    study.enqueue({"x": 0.5})
    study.tell(study.ask(), 1.0)
    trial = study.ask()
    trial.report(0.5, 1)
    study.tell(trial, state="pruned")
    study.ask().report(0.3, 1)
    return study


def population(storage):
    def train(trial):
        kept = trial.checkpoint / "step"
        for step in range(int(kept.read_text()) + 1 if kept.exists() else 1, 5):
            kept.write_text(str(step))
            trial.report(trial["x"] * step, step)
        return trial["x"]

    return tuned({"x": (0.0, 1.0)}, train, 8, storage=storage, name="o", scheduler=wt.Pbt(population=4, every=1))


KINDS = [plain, objects, own, several, empty, nothing, failed, paused, population]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_the_page_is_told_what_the_report_says(url, storage, make):
    study = make(storage)
    before, rows = storage.read(1, None).revision, storage.studies()
    answer = asked(url, of(study.name, "/report"))
    expected = list(sections(Subject.of(study), table=False))
    for told, section in zip(answer["sections"], expected, strict=True):
        assert (told["key"], told["title"], told["half"]) == (section.key, section.title, section.half)
        assert (told["note"], told["html"]) == (section.note, section.html)
        assert told["figure"] == (section.figure and json.loads(section.figure.to_json(engine="json")))
    written = render([study])
    assert all(section.note in written and section.html in written for section in expected)
    assert "<script" not in json.dumps([(s["note"], s["html"]) for s in answer["sections"]])
    summary = asked(url, of(study.name))
    assert sum(summary["counts"].values()) == len(study.trials) == asked(url, of(study.name, "/trials"))["total"]
    brief = asked(url, "/v1/overview")["studies"]
    assert [(b["name"], b["counts"], b["error"]) for b in brief] == [(study.name, summary["counts"], None)]
    # whoever looks on changes nothing, not even a revision
    assert (storage.read(1, None).revision, storage.studies()) == (before, rows)


def test_what_runs_is_told_with_its_last_report(url, storage):
    study = paused(storage)
    summary = asked(url, of("o"))
    (trial,) = summary["running"]
    assert (trial["number"], trial["report"]) == (2, {"step": 1, "metrics": {"value": 0.3}})
    assert trial["params"] == dict(study.trials[2].params) and trial["started"] <= summary["time"]
    assert (summary["n_trials"], summary["spent"]) == (None, 3)
    study.optimize(lambda p: p["x"], n_trials=5)
    assert asked(url, of("o"))["n_trials"] == 5


def test_trials_by_the_page(url, storage):
    tuned({"x": (0.0, 1.0)}, reporting, 12, storage=storage, name="n")
    found = asked(url, of("n", "/trials?offset=7&limit=5&reports=1"))
    assert [trial["number"] for trial in found["trials"]] == [7, 8, 9, 10, 11] and found["total"] == 12
    assert [[r["step"] for r in trial["reports"]] for trial in found["trials"]] == [[3], [1], [3], [3], [1]]
    assert [len(t["reports"]) for t in asked(url, of("n", "/trials?offset=7&reports=0"))["trials"]] == [0] * 5
    assert asked(url, of("n"))["best"]["reports"] and not asked(url, of("n", "?reports=0"))["best"]["reports"]


@pytest.mark.usefixtures("at_once")
def test_nothing_is_sent_that_is_known(url, storage):
    study = tuned({"x": (0.0, 1.0)}, lambda p: p["x"], storage=storage, name="n")
    first = asked(url, of("n", "/report"))
    since = of("n", f"/report?since={first['revision']}")
    assert set(asked(url, since)) == {"revision", "next"}
    study.n_trials = 9
    study.tell(study.ask(), -1.0)
    later = asked(url, since)
    assert later["revision"] > first["revision"] and "-1" in later["sections"][0]["html"]
    together = asked(url, "/v1/compare", {"studies": ["n"]})
    assert set(asked(url, "/v1/compare", {"studies": ["n"], "since": together["revision"]})) == {"revision", "next"}


def test_a_study_that_is_not_there_is_not_made(url, storage):
    for path, body in ((of("no"), None), (of("no", "/report"), None), ("/v1/compare", {"studies": ["no"]})):
        assert get(url, path, body=body)[0] == 404
    assert storage.studies() == []
    study = tuned({"x": (0.0, 1.0)}, lambda p: p["x"], storage=storage, name="n")
    asked(url, of("n", "/report"))
    storage.delete(study.coordinator.ledger.row.id)
    assert get(url, of("n", "/report"))[0] == 404
    assert asked(url, "/v1/overview")["studies"] == [] == storage.studies()
    tuned({"x": (0.0, 1.0)}, failing, 2, storage=storage, name="n")
    assert "No completed trial" in asked(url, of("n", "/report"))["sections"][0]["title"]


def test_studies_beside_one_another(url, storage):
    for name in ("a", "b"):
        tuned({"x": (0.0, 1.0)}, lambda p: p["x"], storage=storage, name=name)
    several(storage)
    parts = asked(url, "/v1/compare", {"studies": ["a", "b", "a"]})["sections"]
    assert [part["key"] for part in parts] == ["together", "race"]
    assert [line["name"] for line in parts[1]["figure"]["data"]] == ["a", "b"]
    assert [part["key"] for part in asked(url, "/v1/compare", {"studies": ["a", "o"]})["sections"]] == ["together"]


def test_large_answers_are_packed(url, storage):
    tuned({"x": (0.0, 1.0)}, lambda p: p["x"], storage=storage, name="n")
    _, headers, content = get(url, of("n", "/report"), **{"Accept-Encoding": "gzip"})
    assert headers["Content-Encoding"] == "gzip" and headers["Cache-Control"] == "no-store"
    assert json.loads(gzip.decompress(content))["name"] == "n"


# at what cost


def test_a_report_is_drawn_once_and_for_a_tenth_of_the_time(monkeypatch):
    storage = MemoryStorage()
    study = tuned({"x": (0.0, 1.0)}, lambda p: p["x"], storage=storage, name="n")
    looking, drawn, go_on = Window(storage), [], threading.Event()

    def slow(subject, **options):
        drawn.append(len(subject.history))
        go_on.wait(60)
        return iter(())

    monkeypatch.setattr(window.report, "sections", slow)
    answers = []
    readers = [threading.Thread(target=lambda: answers.append(looking.report("n"))) for _ in range(4)]
    for reader in readers:
        reader.start()
    while not drawn:
        time.sleep(0.01)
    began, study.n_trials = time.monotonic(), 9
    study.tell(study.ask(), 1.0)  # nobody who works waits for a report
    assert looking.summary("n")["counts"]["complete"] == 9
    time.sleep(0.2)
    go_on.set()
    for reader in readers:
        reader.join()
    took = time.monotonic() - began
    found = json.loads(answers[0])
    assert drawn == [8] and len({json.loads(a)["revision"] for a in answers}) == 1
    assert found["next"] >= 8 * min(took, 0.2)
    assert json.loads(looking.report("n", found["revision"])).keys() == {"revision", "next"}
    assert drawn == [8]


def test_what_cannot_be_drawn_is_not_tried_again_at_once(monkeypatch):
    storage, tries = MemoryStorage(), []
    tuned({"x": (0.0, 1.0)}, lambda p: p["x"], storage=storage, name="n")

    def broken(subject, **options):
        tries.append(subject)
        raise ZeroDivisionError

    monkeypatch.setattr(window.report, "sections", broken)
    looking, depths = Window(storage), []
    for _ in range(3):
        with pytest.raises(wt.InvalidValue, match="log says why") as refused:
            looking.report("n")
        depths.append(len(refused.traceback))
    assert len(tries) == 1
    assert len(set(depths)) == 1, "what is raised again carries nothing of the times before"


def test_nobody_waits_for_a_list_while_somebody_else_reads_a_study(monkeypatch):
    storage, go_on, reads = MemoryStorage(), threading.Event(), threading.Event()
    monkeypatch.setattr(window, "LISTING", 0.0)
    monkeypatch.setattr(window, "SHARE", 1)
    looking = Window(storage)
    assert looking.overview()["studies"] == []
    tuned({"x": (0.0, 1.0)}, lambda p: p["x"], storage=storage, name="n")
    look = window.View.look

    def slow(view, row):
        reads.set()
        assert go_on.wait(30)
        return look(view, row)

    monkeypatch.setattr(window.View, "look", slow)
    reader = threading.Thread(target=looking.overview)
    reader.start()
    assert reads.wait(30)
    assert looking.overview()["studies"] == []
    go_on.set()
    reader.join()
    assert [brief["name"] for brief in looking.overview()["studies"]] == ["n"]


def test_whoever_looks_on_can_change_nothing(storage):
    study = tuned({"x": (0.0, 1.0)}, lambda p: p["x"], 2, storage=storage, name="n")
    row = study.coordinator.ledger.row
    looking = ReadOnly(storage)
    assert looking.row(row.id) == storage.studies()[0]
    for act in ("open", "update", "claim", "finish", "release", "delete", "together"):
        with pytest.raises(StorageError, match=f"cannot {act}"):
            getattr(looking, act)(row.id)


def test_trials_in_memory_are_bounded(monkeypatch):
    storage = MemoryStorage()
    for name in "abc":
        tuned({"x": (0.0, 1.0)}, lambda p: p["x"], storage=storage, name=name)
    monkeypatch.setattr(window, "KEPT", 10)
    looking = Window(storage)
    counts = [brief["counts"]["complete"] for brief in looking.overview()["studies"]]
    assert counts == [8, 8, 8]
    assert sum(view.held > 0 for view in looking._views.values()) <= 2
    assert looking.summary("a")["counts"]["complete"] == 8


WRITE = """
import sys, welltuned as wt
study = wt.Study({"x": (0.0, 1.0)}, storage=sys.argv[1], name="n", seed=0, sampler="random")
def objective(trial):
    trial.report(trial["x"], 1)
    return trial["x"]
study.optimize(objective, n_trials=200)
"""


@pytest.mark.usefixtures("at_once")
def test_d25_writers_do_not_notice_who_watches_the_report(url, storage, tmp_path):
    Study({"x": (0.0, 1.0)}, storage=storage, name="n", seed=0, sampler="random")
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITE, str(tmp_path / "study.db")], stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    seen = 0
    while any(writer.poll() is None for writer in writers):
        for path in (of("n"), of("n", "/report"), of("n", "/trials?limit=50&reports=1"), "/v1/overview"):
            asked(url, path)
        seen += 1
    said = [writer.communicate()[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 4
    assert all(text == "" or "nothing is left to do" in text for text in said), said
    trials = storage.read(1).trials
    assert [trial.number for trial in trials] == list(range(200))
    assert all(trial.state is State.COMPLETE and trial.attempts == 1 for trial in trials)
    assert asked(url, of("n"))["counts"]["complete"] == 200 and seen > 1


# very many trials


@pytest.fixture(scope="module")
def large():
    storage = MemoryStorage()
    study = Study({"x": (0.0, 1.0), "c": ["a", "b"]}, storage=storage, name="large", seed=0, direction="maximize")
    values = [(i * 7919) % 6000 for i in range(6000)]
    storage.add(
        1,
        [
            Trial(
                0,
                State.FAILED if i % 50 == 0 else State.COMPLETE,
                params={"x": i / 6000, "c": "a"},
                metrics={} if i % 50 == 0 else {"value": float(value)},
                reason=wt.Reason.ERROR if i % 50 == 0 else None,
                origin=Origin.ADDED,
            )
            for i, value in enumerate(values)
        ],
    )
    return study


def test_of_many_trials_the_best_the_latest_and_some_others_are_shown(large):
    seen = large.history
    few = plots.sample(seen, "value")
    numbers = {trial.number for trial in few}
    assert len(few) == plots.MOST and "2,000 of 6,000" in plots.shown(seen)
    best = sorted((t for t in seen.trials if t.metrics), key=lambda t: -t.metrics["value"])[:300]
    assert {t.number for t in best} | set(range(5700, 6000)) <= numbers
    gaps = [b - a for a, b in zip(sorted(numbers), sorted(numbers)[1:], strict=False)]
    assert max(gaps) < 20
    assert plots.sample(seen, "value", 6000) == seen.trials and plots.shown(seen, 6000) == ""


def test_figures_of_many_trials_hold_few_points_and_the_whole_line(large):
    for draw in plots.FIGURES.values():
        for trace in draw(large).data:
            points = getattr(trace, "x", None)
            assert points is None or len(points) <= plots.MOST
    line = next(trace for trace in plots.history(large).data if trace.name == "best so far")
    done = [t for t in large.trials if t.metrics]
    assert line.y[-1] == max(t.metrics["value"] for t in done) and line.x[-1] == done[-1].number
    assert list(line.y) == sorted(line.y) and len(set(line.y)) >= len(line.y) - 1
    race = plots.comparison({"large": large}).data[0]
    assert race.x[-1] == 6000 and race.y[-1] == line.y[-1] and len(race.x) < 100


def test_a_report_of_many_parameters_stays_small():
    space = {f"p{i:02}": (0.0, 1.0) for i in range(60)}
    study = Study(space, seed=0)
    study.add([(dict.fromkeys(space, i / 600), float(i)) for i in range(600)])
    figure = plots.slices(study)
    assert len(figure.data) == 120 and max(len(trace.x) for trace in figure.data) == 400
    assert len(figure.to_json()) < 4e6  # those of all trials, with all parameters over each point: 58 MB
    assert "<br>… 40 more" in plots.hover(study.best, "value")
    notes = {part.key: part.note for part in sections(Subject.of(study), table=False)}
    assert "Shown are 400 of 600 trials" in notes["slices-0"] and "Shown" not in notes["history-0"]


def test_the_report_of_many_trials_says_what_it_leaves_out(large):
    text = render([large])
    table = text.split('<table class="sort">')[1]
    assert table.count("<tr") == plots.MOST + 1
    assert "Shown are 2,000 of 6,000 trials" in text and "welltuned export" in text
    assert f"<td>{large.best.number}</td>" in table


# the command and the browser


def ended(ports):
    """Return what takes the place of serving: it notes the port, and ends."""

    def run(app, listening):
        ports.append(listening.getsockname()[1])
        listening.close()

    return run


def test_the_command_opens_the_page(tmp_path, monkeypatch):
    opened, ran = [], []
    done = threading.Event()
    monkeypatch.setattr("webbrowser.open", lambda address: (opened.append(address), done.set()))
    monkeypatch.setattr(running, "run", ended(ran))
    path = str(tmp_path / "new.db")
    result = CliRunner().invoke(
        commands, ["dashboard", path, "--port", "0", "--token", "a/b+c"], catch_exceptions=False
    )
    assert result.exit_code == 0 and done.wait(60)
    assert opened == [f"http://127.0.0.1:{ran[0]}/#token=a%2Fb%2Bc"] and opened[0] in result.output
    quiet = CliRunner().invoke(commands, ["dashboard", path, "--port", "0", "--no-browser"], catch_exceptions=False)
    assert quiet.exit_code == 0 and len(opened) == 1 and "/#token=" in quiet.output


def test_what_is_refused_leaves_no_socket_open(tmp_path, monkeypatch):
    heard = []
    monkeypatch.setattr(running, "listen", lambda *where: heard.append(where))
    with pytest.raises(wt.InvalidValue, match="use 'asha'"):
        commands(["serve", str(tmp_path / "new.db"), "--port", "0", "--scheduler", "pbt"], standalone_mode=False)
    assert heard == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_server_that_has_ended_leaves_signals_as_they_were(tmp_path, monkeypatch):
    handlers = [signal.getsignal(signal.SIGTERM)]
    monkeypatch.setattr(
        running.uvicorn.Server, "run", lambda server, sockets: handlers.append(signal.getsignal(signal.SIGTERM))
    )
    with contextlib.closing(SQLiteStorage(tmp_path / "new.db")) as storage:
        running.run(make_app(storage, "token"), running.listen("127.0.0.1", 0))
    try:
        assert handlers[1] is signal.default_int_handler
        assert signal.getsignal(signal.SIGTERM) is handlers[0]
    finally:
        signal.signal(signal.SIGTERM, handlers[0])


def test_the_command_takes_another_port_where_the_usual_one_is_taken(tmp_path, monkeypatch):
    ran = []
    taken = running.listen("127.0.0.1", 0)
    usual = taken.getsockname()[1]
    monkeypatch.setattr("welltuned.cli.serving.PORT", usual)
    monkeypatch.setattr(running, "run", ended(ran))
    result = CliRunner().invoke(commands, ["dashboard", str(tmp_path / "new.db"), "--no-browser"])
    taken.close()
    assert result.exit_code == 0 and usual not in ran
    assert f":{ran[0]}/#token=" in result.output


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_the_command_shows_a_storage_without_studies_and_ends_with_ctrl_c(tmp_path):
    path = str(tmp_path / "new.db")
    command = [sys.executable, "-c", "from welltuned.cli import main; main()", "dashboard", path]
    server = subprocess.Popen([*command, "--no-browser", "--port", "0"], stdout=subprocess.PIPE, text=True)
    try:
        address, token = re.search(
            r"(http://\S+)/#token=(\S+)", server.stdout.readline() + server.stdout.readline() + server.stdout.readline()
        ).groups()
        assert json.loads(get(address, "/v1/overview", token)[2])["studies"] == []
        Study({"x": (0.0, 1.0)}, storage=path, name="fresh", seed=0)
        time.sleep(2.1)
        assert [s["name"] for s in json.loads(get(address, "/v1/overview", token)[2])["studies"]] == ["fresh"]
    finally:
        server.send_signal(signal.SIGINT)
        code = server.wait(60)
        server.stdout.close()
    assert code == 0


def loaded(url, fragment, tmp_path):
    """Return the page as a browser has it after some seconds, and what stands on its console."""
    browser = [CHROME, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    profile = [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=8000", "--window-size=1280,1800"]
    done = subprocess.run(
        [*browser, *profile, f"{url}/#{fragment}"], capture_output=True, text=True, timeout=120, check=True
    )
    told = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, [line for line in told if "WebGL" not in line and "GPU" not in line]


@pytest.mark.skipif(not CHROME, reason="there is no browser")
def test_a_browser_draws_the_page(url, storage, tmp_path):
    study = plain(storage)
    token = urllib.parse.urlencode({"token": TOKEN, "study": study.name})
    text, console = loaded(url, token, tmp_path)
    assert console == []
    assert text.count('class="plot js-plotly-plot"') >= 5 and "<svg" in text
    table = text.partition('<table class="trials">')[2].partition("</table>")[0]
    assert re.findall(r"<tr[^>]*><td>(\d+)</td>", table) == [str(n) for n in reversed(range(15))]
    assert f"{study.best.value:.6g}" in text and ">live<" in text
    assert "<script>alert" not in text and TOKEN not in text
    assert "connection lost" not in text


@pytest.mark.skipif(not CHROME, reason="there is no browser")
def test_a_browser_without_the_token_is_asked_for_it(url, tmp_path):
    text, _ = loaded(url, "token=wrong", tmp_path)
    assert "does not know this token" in text and 'id="layout" class="layout" hidden' in text


class Tab:
    """A page in a browser: what is told to it, and what it answers, one JSON after the other through two pipes."""

    def __init__(self, address, profile):
        to, self._writes = os.pipe()
        self._reads, back = os.pipe()
        options = f"--headless --no-sandbox --disable-gpu --remote-debugging-pipe --user-data-dir={profile}"
        shell = f'exec "$0" {options} about:blank 3<&{to} 4>&{back}'
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._browser = subprocess.Popen(["bash", "-c", shell, CHROME], pass_fds=(to, back), **quiet)
        os.close(to)
        os.close(back)
        self._left, self._sent, self._session = b"", 0, {}
        target = self.tell("Target.createTarget", url=address)["targetId"]
        self._session = {"sessionId": self.tell("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}

    def tell(self, method, **params):
        self._sent += 1
        os.write(
            self._writes,
            json.dumps({"id": self._sent, "method": method, "params": params} | self._session).encode() + b"\0",
        )
        while True:
            while b"\0" not in self._left:
                self._left += os.read(self._reads, 1 << 16)
            line, _, self._left = self._left.partition(b"\0")
            answer = json.loads(line)
            if answer.get("id") == self._sent:
                return answer.get("result", {})

    def run(self, script):
        """Return what a script says; None amid the turn to another page."""
        found = self.tell("Runtime.evaluate", expression=script, returnByValue=True)
        return found.get("result", {}).get("value")

    def until(self, script, patience=40):
        end = time.monotonic() + patience
        while not self.run(f"!!({script})"):
            assert time.monotonic() < end, f"never: {script}"
            time.sleep(0.1)

    def close(self):
        self._browser.kill()
        self._browser.wait()
        os.close(self._writes)
        os.close(self._reads)


@pytest.fixture
def tab(url, tmp_path):
    opened = Tab(f"{url}/#{urllib.parse.urlencode({'token': TOKEN, 'study': EVIL})}", tmp_path / "profile")
    yield opened
    opened.close()


needs_browser = pytest.mark.skipif(not CHROME or sys.platform == "win32", reason="there is no browser")
DRAWN = "document.querySelectorAll('[data-key=parallel-0] .js-plotly-plot .main-svg').length > 0"


@needs_browser
def test_a_browser_lets_go_of_figures_that_are_left(storage, tab):
    plain(storage)
    tuned({"x": (0.0, 1.0)}, lambda p: p["x"], storage=storage, name="other")
    tab.until(DRAWN)
    tab.run("globalThis.before = [...document.querySelectorAll('.js-plotly-plot')]; 0")
    assert tab.run("before.length") >= 5 and tab.run("before.every((plot) => plot._fullLayout)")
    tab.run("location.hash = '#study=other'")
    tab.until("document.querySelector('h1')?.textContent === 'other'")
    assert not tab.run("before.some((plot) => plot._fullLayout)"), "Plotly knows none of them"
    tab.until(DRAWN)


@needs_browser
def test_a_browser_is_told_what_is_not_evaluated_again(storage, tab):
    study = plain(storage)

    def enqueue(text):
        tab.run("[...document.querySelectorAll('button')].find((b) => b.textContent.startsWith('Enqueue a')).click()")
        tab.until("document.querySelector('dialog textarea')")
        tab.run(f"document.querySelector('dialog textarea').value = {json.dumps(text)}")
        tab.run("document.querySelector('dialog button.main').click()")

    tab.until(DRAWN)
    enqueue(json.dumps(study.best.params))
    tab.until(f"document.querySelector('.notice').textContent === 'Not evaluated again: trial {study.best.number}.'")
    new = [study.best.params | {"x": 0.0625}, study.best.params]
    enqueue(json.dumps(new))
    tab.until("document.querySelector('.notice').textContent.startsWith('Enqueued: 1 trial to be evaluated')")
    assert tab.run("document.querySelector('.notice').textContent").endswith(f"again: trial {study.best.number}.")


@needs_browser
def test_a_browser_turns_to_another_study_at_once(storage, tab):
    """Also where the choice falls into a look at the one before: no timer has to run out."""
    plain(storage)
    tuned({"x": (0.0, 1.0)}, lambda p: p["x"], storage=storage, name="other")
    tab.until(DRAWN)
    tab.run(
        """
        const ask = fetch;
        globalThis.fetch = (path, ...rest) =>
          /other|overview/.test(path) ? ask(path, ...rest) : new Promise((go) => (globalThis.go = go));
        0
        """
    )
    tab.until("globalThis.go")
    tab.run("const later = setTimeout; globalThis.setTimeout = (act, wait) => (wait < 1000 ? later(act, wait) : 0); 0")
    tab.run("location.hash = '#study=other'")
    tab.until("document.querySelector('h1')?.textContent === 'other'")
    tab.run("go(Response.error())")
    tab.until("document.querySelector('.counts').textContent.includes('8 complete')")


@needs_browser
def test_a_browser_that_asks_for_the_token_takes_it_from_the_address(storage, tab):
    plain(storage)
    tab.until(DRAWN)
    tab.run("sessionStorage.clear(); location.hash = ''; location.reload()")
    tab.until("document.getElementById('gate')?.hidden === false")
    tab.run(f"location.hash = '#token={TOKEN}'")
    tab.until(f"document.getElementById('gate').hidden && {DRAWN}")
    assert TOKEN not in tab.run("location.href")
