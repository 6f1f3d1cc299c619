"""Every command: what it prints, what it stores, and how it refuses."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import welltuned as wt
from welltuned.cli import demo, main
from welltuned.cli.app import app
from welltuned.cli.program import Program, fill, find_metric
from welltuned.evaluation import evaluate
from welltuned.live import LiveTrial, Task
from welltuned.report import render
from welltuned.trial import Report

PYTHON = sys.executable
TRAIN = """
import os
import welltuned as wt
space = {"x": (0.0, 1.0), "kind": ["good", "bad"], "n": (1, 9)}
other = wt.Space({"x": wt.Float(0.5, 0.6)})
number = 3

def objective(trial):
    with open("fits.txt", "a") as file:
        file.write(f"{os.getpid()}\\n")
    return (trial["x"] - 0.3) ** 2 + (trial.get("kind") == "bad")

def failing(trial):
    raise ArithmeticError("no luck today")

def moody(trial):
    if trial["kind"] == "bad":
        raise ArithmeticError("no luck today")
    return trial["x"]

def with_nan(trial):
    return {"value": trial["x"], "aux": float("nan")}

def slow(trial):
    import time
    time.sleep(0.3)
    return objective(trial)
"""
SPACE = """
lr: {type: float, low: 1e-5, high: 1e-1, log: true}
kind: {choices: [a, b]}
l2: {type: float, low: 0.0, high: 1.0, when: {kind: a}}
"""
PROGRAM = """
import json, sys
print("epoch 1 accuracy=0.1")
args = dict(zip(sys.argv[1::2], sys.argv[2::2]))
assert ("--l2" in args) == (args["--kind"] == "a"), args
score = -abs(float(args["--lr"]) - 0.01)
if "--json" in args:
    print(json.dumps({"accuracy": score, "loss": 1}))
else:
    print(f"accuracy={score}")
print("bye")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WELLTUNED_STORAGE", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    Path("train.py").write_text(TRAIN)
    Path("space.yaml").write_text(SPACE)
    Path("program.py").write_text(PROGRAM)
    yield tmp_path
    for name in [n for n in sys.modules if n.startswith("_welltuned_")]:
        del sys.modules[name]
    sys.path[:] = [p for p in sys.path if p != str(tmp_path)]


def run(*args):
    """Run a command in this process; it must succeed."""
    done = CliRunner().invoke(app, [str(a) for a in args], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def run_json(*args):
    return json.loads(run(*args), parse_constant=pytest.fail)


def process(*args, check=True, **options):
    """Run the installed program."""
    program = Path(PYTHON).with_name("welltuned")
    done = subprocess.run(
        [str(program), *map(str, args)], capture_output=True, text=True, check=False, timeout=100, **options
    )
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.fixture
def refuse(monkeypatch, capsys):
    """Run a command as the program does; it must refuse in one line without a traceback, and return that."""

    def go(*args, codes=(1, 2)):
        monkeypatch.setattr(sys, "argv", ["welltuned", *map(str, args)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        seen = capsys.readouterr()
        assert end.value.code in codes, seen.out + seen.err
        assert "Traceback" not in seen.err + seen.out
        errors = [line for line in seen.err.splitlines() if line.startswith("Error: ")]
        assert len(errors) == 1, seen.err
        assert seen.err.rstrip().splitlines()[-1] == errors[0], "the error goes on for more than a line"
        return errors[0]

    return go


def fits():
    return len(Path("fits.txt").read_text().splitlines()) if Path("fits.txt").exists() else 0


@pytest.fixture
def studies(folder):
    """Two studies in ``welltuned.db``, one of them of two objectives, and one in ``single.db``."""
    first = wt.Study(
        {"x": (0.0, 1.0), "kind": ["a", "b"]}, storage="welltuned.db", name="first", seed=1, sampler="random"
    )
    first.optimize(moody, n_trials=12)
    second = wt.Study(
        {"x": (0.0, 1.0)}, direction={"f": "minimize", "g": "maximize"}, storage="welltuned.db", name="second", seed=2
    )
    second.optimize(lambda p: {"f": p["x"] ** 2, "g": p["x"]}, n_trials=6)
    single = wt.Study({"x": (0.0, 1.0)}, storage="single.db", name="only", seed=3)
    single.optimize(lambda p: p["x"], n_trials=5)
    return {"first": first, "second": second, "only": single}


def moody(p):
    if p["kind"] == "b":
        raise ArithmeticError("no luck today")
    return p["x"] ** 2


# run


def test_run_with_the_space_in_the_file():
    out = run("run", "train.py:objective", "-n", 8, "--seed", 1)
    assert re.search(r"^8 trials, 0 failed; stopped because: budget: all trials are done$", out, re.MULTILINE)
    assert re.search(r"^best value \S+ \(minimized\), trial \d:$", out, re.MULTILINE)
    assert re.search(r"^  kind = good$", out, re.MULTILINE)
    assert "welltuned show train-objective" in out
    assert len(wt.Study(storage="welltuned.db", name="train-objective").trials) == 8


@pytest.mark.once
def test_run_goes_on_where_it_was():
    run("run", "train.py:objective", "-n", 4, "--seed", 1)
    again = process("run", "train.py:objective", "-n", 6)
    assert "study 'train-objective' goes on after 4 finished trials" in again.stderr
    assert again.stdout.startswith("6 trials, 0 failed")
    assert fits() == 6
    run("run", "train.py:objective", "-n", 6)
    assert fits() == 6


@pytest.mark.parametrize("space", ["train.py:other", "small.yaml", "small.json"])
def test_run_with_another_space(space):
    Path("small.yaml").write_text("x: {low: 0.5, high: 0.6}\n")
    Path("small.json").write_text('{"x": {"low": 0.5, "high": 0.6}}')
    found = run_json("run", "train.py:objective", "--space", space, "-n", 4, "--seed", 0, "--json")
    assert 0.5 <= found["best"]["params"]["x"] <= 0.6


def test_run_json():
    found = run_json("run", "train.py:objective", "-n", 5, "--seed", 1, "--json", "--name", "mine", "--storage", "a.db")
    assert found["study"] == "mine"
    assert found["storage"] == "a.db"
    assert "budget" in found["stop_reason"]
    assert set(found["best"]["params"]) == {"x", "kind", "n"}
    assert found["best"]["state"] == "complete"
    best = wt.Study(storage="a.db", name="mine").best
    assert found["best"]["value"] == best.value
    assert found["best"]["number"] == best.number


def test_run_json_with_values_that_json_has_no_word_for():
    found = run_json("run", "train.py:with_nan", "-n", 3, "--seed", 1, "--json")
    assert found["best"]["value"] >= 0


@pytest.mark.once
def test_run_with_workers():
    run("run", "train.py:objective", "-n", 8, "--seed", 1, "--workers", 2)
    pids = set(Path("fits.txt").read_text().split())
    assert fits() == 8
    assert str(os.getpid()) not in pids


def test_the_seed_repeats_a_run():
    first = run_json("run", "train.py:objective", "-n", 6, "--seed", 5, "--json", "--storage", "a.db")
    second = run_json("run", "train.py:objective", "-n", 6, "--seed", 5, "--json", "--storage", "b.db")
    assert first["best"]["params"] == second["best"]["params"]


def test_run_maximises():
    found = run_json("run", "train.py:objective", "-n", 10, "--seed", 1, "--direction", "maximize", "--json")
    assert found["best"]["params"]["kind"] == "bad"
    assert found["best"]["value"] > 1


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (["--patience", "3"], "patience: no improvement in the last 3 trials"),
        (["--target", "5"], "target: 5 reached"),
        (["--max-cost", "1e-9"], "cost"),
        (["--timeout", "1e-9"], "timeout"),
    ],
)
def test_run_stops_by_a_rule(rule, reason):
    run("run", "train.py:objective", "-n", 1, "--seed", 1)
    out = run("run", "train.py:objective", "-n", 60, *rule, "--sampler", "random")
    assert f"stopped because: {reason}" in out
    assert fits() < 40


def test_run_with_every_sampler_and_scheduler():
    for sampler in wt.SAMPLERS:
        out = run("run", "train.py:objective", "-n", 3, "--sampler", sampler, "--name", sampler)
        assert out.startswith("3 trials, 0 failed")
    for scheduler in wt.SCHEDULERS:
        assert run("run", "train.py:objective", "-n", 3, "--scheduler", scheduler, "--name", scheduler).startswith(
            "3 trials"
        )


def test_run_survives_failures():
    out = run("run", "train.py:moody", "-n", 12, "--seed", 1, "--sampler", "random")
    assert re.match(r"12 trials, [1-9]\d* failed", out)
    assert "kind = good" in out


def test_run_that_only_fails_says_why(refuse):
    assert "no luck today" in refuse("run", "train.py:failing", "-n", 3, codes=(1, 2))


@pytest.mark.once
def test_verbose_says_each_result():
    said = process("-v", "run", "train.py:objective", "-n", 2, "--seed", 0).stderr
    assert re.search(r"^trial 1 complete: value \S+$", said, re.MULTILINE)


@pytest.mark.once
def test_verbose_says_which_sampler():
    done = process("-v", "run", "train.py:objective", "-n", 3, "--seed", 1)
    assert "uses bayes from trial 0 on" in done.stderr
    assert "uses bayes" not in process("run", "train.py:objective", "-n", 4).stderr


def test_two_files_of_one_name():
    Path("sub").mkdir()
    Path("sub/train.py").write_text("space = {'x': (5.0, 6.0)}\n")
    found = run_json("run", "train.py:objective", "--space", "sub/train.py:space", "-n", 3, "--json")
    assert 5 <= found["best"]["params"]["x"] <= 6


@pytest.mark.once
def test_run_of_a_module_that_imports_its_neighbour():
    Path("sub").mkdir()
    Path("sub/neighbour_of_it.py").write_text("low = 0.25\n")
    Path("sub/it.py").write_text(
        "from neighbour_of_it import low\nspace = {'x': (low, 1.0)}\ndef f(p):\n    return p['x'] - low\n"
    )
    assert process("run", "sub/it.py:f", "-n", 3, "--workers", 2).stdout.startswith("3 trials, 0 failed")


# tune


def tune(*options, extra=()):
    command = [PYTHON, "program.py", "--lr", "{lr}", "--kind", "{kind}", "--l2", "{l2}", *extra]
    return [
        "tune",
        "--space",
        "space.yaml",
        "--metric",
        "accuracy",
        "--direction",
        "maximize",
        *options,
        "--",
        *command,
    ]


@pytest.mark.once
@pytest.mark.parametrize("extra", [(), ("--json", "1")], ids=["line", "json"])
def test_tune_reads_the_last_metric(extra):
    found = run_json(*tune("-n", 8, "--seed", 0, "--json", "--sampler", "random", extra=extra))
    study = wt.Study(storage="welltuned.db", name="program", direction={"accuracy": "maximize"})
    assert found["study"] == "program"
    assert all(t.state is wt.State.COMPLETE for t in study.trials)
    assert {t.params["kind"] for t in study.trials} == {"a", "b"}
    for t in study.trials:
        assert t.metrics["accuracy"] == pytest.approx(-abs(t.params["lr"] - 0.01))
        assert ("l2" in t.params) == (t.params["kind"] == "a")
    assert found["best"]["accuracy"] == max(t.metrics["accuracy"] for t in study.trials)


def test_best_says_where_its_files_are():
    study = wt.Study({"x": (0.0, 1.0)}, storage="files.db", name="files", seed=0)
    study.optimize(lambda trial: trial["x"], n_trials=2)
    assert not study.checkpoint(study.best).exists()
    assert "files:" not in run("best", "files.db")
    study.checkpoint(study.best).mkdir(parents=True)
    assert f"\nfiles: {study.checkpoint(study.best)}\n" in run("best", "files.db")


def test_tune_prints_the_best():
    out = run(*tune("-n", 3, "--seed", 0))
    assert re.search(r"^best accuracy -?\d", out, re.MULTILINE)
    assert re.search(r"^  lr = \S+$", out, re.MULTILINE)


def test_tune_hands_over_everything_as_json():
    Path("dump.py").write_text("import json, sys\nprint(json.dumps({'value': json.loads(sys.argv[1])['lr']}))\n")
    found = run_json("tune", "--space", "space.yaml", "-n", 3, "--json", "--", PYTHON, "dump.py", "{params}")
    assert found["best"]["value"] == found["best"]["params"]["lr"]


def test_tune_records_a_program_that_fails_sometimes():
    Path("moody.py").write_text(
        "import sys\nprint('value=1')\nsys.exit(f'bad {sys.argv[1]}' if sys.argv[1] == 'b' else 0)\n"
    )
    Path("kinds.yaml").write_text("kind: [a, b]\n")
    out = run("tune", "--space", "kinds.yaml", "-n", 2, "--", PYTHON, "moody.py", "{kind}")
    assert out.startswith("2 trials, 1 failed")
    failed = next(t for t in wt.Study(storage="welltuned.db", name="moody").trials if t.state is wt.State.FAILED)
    assert "exit code 1: bad b" in failed.error


@pytest.mark.parametrize(
    ("option", "words"),
    [(["--metrc", "accuracy"], "--metric"), (["--trial-timout", "5"], "--trial-timeout"), (["-v"], "-v")],
)
def test_tune_takes_no_misspelt_option_for_the_program(refuse, option, words):
    """It was run as the program, and the budget spent on it."""
    assert words in refuse("tune", "--space", "space.yaml", *option, "-n", 2, "--", PYTHON, "program.py", "{params}")
    assert not Path("welltuned.db").exists()


@pytest.mark.once
def test_tune_kills_a_program_that_hangs():
    Path("hangs.sh").write_text("echo value=1\nif [ $1 = b ]; then sleep 600; fi\n")  # it starts at once
    Path("kinds.yaml").write_text("kind: [a, b]\n")
    command = ["sh", "hangs.sh", "{kind}"]
    out = run("tune", "--space", "kinds.yaml", "-n", 2, "--trial-timeout", 3, "--", *command)
    assert out.startswith("2 trials, 1 failed")
    failed = next(t for t in wt.Study(storage="welltuned.db", name="hangs").trials if t.state is wt.State.FAILED)
    assert failed.reason is wt.Reason.TIMEOUT


def test_tune_of_several_metrics():
    Path("two.py").write_text("import sys\nx = float(sys.argv[1])\nprint(f'loss={x}\\nspeed={2 * x}')\n")
    Path("x.yaml").write_text("x: {low: 0.0, high: 1.0}\n")
    goals = ["--direction", "loss=minimize", "--direction", "speed=maximize"]
    found = run_json("tune", "--space", "x.yaml", *goals, "-n", 4, "--json", "--", PYTHON, "two.py", "{x}")
    assert len(found["front"]) == 4 and all(t["speed"] == 2 * t["loss"] for t in found["front"])
    assert "Pareto front" in run("show", "two")


def evaluated(source, metrics=("value",), on_report=None):
    """Run a Python program on one trial; return the outcome, and the reports that it made."""
    Path("watched.py").write_text(source)
    reports = []

    def receive(task, report):
        reports.append((report.step, report.metrics))
        return on_report is not None and on_report(report)

    program = Program((PYTHON, "watched.py", "{x}"), metrics, ("x",))
    return evaluate(program, LiveTrial(Task(0, 1, {"x": 1}), receive), metrics), reports


def test_each_line_with_the_metric_is_a_report():
    outcome, reports = evaluated("for i in range(3): print(f'epoch {i}\\nvalue={i / 4}')\nprint('bye')")
    assert outcome.metrics == {"value": 0.5}
    assert reports == [(1, {"value": 0.0}), (2, {"value": 0.25}), (3, {"value": 0.5})]


def test_a_report_of_several_metrics_has_all_of_them():
    source = "for i in range(2): print(f'loss={i}\\nnothing\\nspeed={-i}')\nprint('loss=7')"
    outcome, reports = evaluated(source, ("loss", "speed"))
    assert outcome.metrics == {"loss": 7.0, "speed": -1.0}
    assert reports == [(1, {"loss": 0.0, "speed": 0.0}), (2, {"loss": 1.0, "speed": -1.0})]


def test_what_a_program_printed_when_it_was_paused_counts(tmp_path):
    """It is further than the rung where it was ended, and goes on from there: its last line is its result."""
    (tmp_path / "ahead.py").write_text(
        "import pathlib, sys, time\n"
        "file, x = pathlib.Path(sys.argv[1]) / 'steps', float(sys.argv[2])\n"
        "done = int(file.read_text()) if file.exists() else 0\n"
        "file.write_text('9')\n"
        "sys.stdout.write(''.join(f'value={x + 1 / s}\\n' for s in range(done + 1, 10)))\n"
        "sys.stdout.flush()\n"
        "time.sleep(0 if done else 20)\n"
    )
    command = (PYTHON, str(tmp_path / "ahead.py"), "{checkpoint}", "{x}")
    study = wt.Study({"x": (0.0, 1.0)}, sampler="random", seed=0, scheduler=wt.Asha(last=9), checkpoints=tmp_path)
    study.optimize(Program(command, ("value",), ("x",)), n_trials=3)
    assert all([r.step for r in t.reports] == list(range(1, 10)) for t in study.trials)
    done = [t for t in study.trials if t.value is not None]
    assert done and all(t.value == pytest.approx(t.params["x"] + 1 / 9) for t in done)


def test_a_program_goes_on_in_its_checkpoint(tmp_path):
    """One that is told of its folder is not begun anew, and its lines are counted on."""
    source = """
import os, sys
file = sys.argv[1] + "/epoch"
epoch = int(open(file).read()) if os.path.exists(file) else 0
for epoch in range(epoch + 1, 10):
    with open(file + ".new", "w") as new:
        new.write(str(epoch))
    os.replace(file + ".new", file)
    print(f"epoch {epoch} value={float(sys.argv[2]) + 1 / epoch}", flush=True)
"""
    (tmp_path / "resumed.py").write_text(source)
    command = (PYTHON, str(tmp_path / "resumed.py"), "{checkpoint}", "{x}")
    study = wt.Study({"x": (0.0, 1.0)}, sampler="random", seed=0, scheduler=wt.Asha(last=9), checkpoints=tmp_path)
    study.optimize(Program(command, ("value",), ("x",)), n_trials=6)
    for trial in study.trials:
        assert [r.step for r in trial.reports] == list(range(1, len(trial.reports) + 1))
        epochs = [round(1 / (r.metrics["value"] - trial.params["x"])) for r in trial.reports]
        assert epochs == sorted(set(epochs))  # one that was killed may have come further than was read
    assert {t.state for t in study.trials} == {wt.State.COMPLETE, wt.State.PAUSED}
    assert fill(["{checkpoint}", "{params}"], {"checkpoint": 0.5}, "/folder") == ["0.5", '{"checkpoint": 0.5}']


def test_a_program_of_many_errors_is_not_held_up():
    outcome, _ = evaluated("import sys\nprint('\\n'.join(['much'] * 50_000), file=sys.stderr)\nprint('value=1')")
    assert outcome.metrics == {"value": 1.0}
    outcome, _ = evaluated("import sys\nprint('much\\n' * 50_000, file=sys.stderr)\nsys.exit('the last word')")
    assert outcome.error.endswith("exit code 1: much | much | the last word")


def named(lines, metrics=("value",), reports=()):
    """Return the outcome and the new reports of a program that prints these lines, in a trial that had some already."""
    Path("lines.txt").write_text("".join(f"{line}\n" for line in lines))
    seen = []
    program = Program(("sh", "-c", "cat lines.txt", "{checkpoint}", "{x}"), metrics, ("x",), "epoch")
    task = Task(0, 1, {"x": 1}, checkpoint="kept", reports=tuple(reports))
    live = LiveTrial(task, lambda _, report: seen.append((report.step, report.metrics)))
    return evaluate(program, live, metrics), seen


def test_lines_say_which_step_they_are():
    """In each form in which metrics are recognised; what says none is no step of its own."""
    lines = ["value=9", "epoch=3 value=0.3", '{"epoch": 4, "value": 0.4}', "Epoch: 7, value: 0.7", "epoch=9"]
    outcome, reports = named([*lines, "value=0.9", "value=1"])
    assert reports == [(3, {"value": 0.3}), (4, {"value": 0.4}), (7, {"value": 0.7}), (9, {"value": 0.9})]
    assert outcome.metrics == {"value": 1.0}


def test_metrics_of_one_step_come_together():
    """One that is there every other step makes a report of these."""
    lines = ["epoch=1 loss=1", "epoch=2 loss=2", "epoch=2 speed=-2", "epoch=3 loss=3", "epoch=4", "speed=-4", "loss=4"]
    outcome, reports = named(lines, ("loss", "speed"))
    assert reports == [(2, {"loss": 2.0, "speed": -2.0}), (4, {"loss": 4.0, "speed": -4.0})]
    assert outcome.metrics == {"loss": 4.0, "speed": -4.0}


def test_a_step_that_was_reported_is_not_reported_again():
    """Neither by the same run nor by the one that goes on from the checkpoint before it."""
    known = [Report(step, {"value": 0.5}) for step in (1, 2, 3)]
    outcome, reports = named(["epoch=3 value=0.3", "epoch=4 value=0.4", "epoch=4 value=0.2"], reports=known)
    assert reports == [(4, {"value": 0.4})] and outcome.metrics == {"value": 0.2}
    outcome, reports = named(["done"], reports=known)
    assert reports == [] and outcome.metrics == {"value": 0.5}


def test_many_named_steps_are_thinned_by_their_number():
    """Not by their names, which may come every 250."""
    _, reports = named([f"epoch={250 * i} value={i}" for i in range(1, 1201)])
    assert [step for step, _ in reports] == [250 * i for i in (*range(1, 100), *range(100, 1000, 10), 1000, 1100, 1200)]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["epoch=0.5 value=1"], "the program printed epoch=0.5, which is not a whole number"),
        (["epoch=nan value=1"], "epoch=nan"),
        (["step=1 value=1"], "neither a JSON line with 'epoch' nor a line epoch=value; its last line was 'step=1"),
    ],
)
def test_steps_that_are_none(lines, words):
    outcome, reports = named(lines)
    assert outcome.state is wt.State.FAILED and words in outcome.error and not reports


def test_a_step_that_is_the_metric_is_refused(refuse):
    program = ["-n", 1, "--", PYTHON, "program.py", "{params}"]
    assert "--step 'loss' is a metric" in refuse(
        "tune", "--space", "space.yaml", "--metric", "loss", "--step", "loss", *program
    )


def test_tune_of_a_program_that_is_killed_before_its_checkpoint(tmp_path):
    """It prints a line again when it goes on, and its steps are those that it says all the same."""
    source = """
import os, sys
file = sys.argv[1] + "/epoch"
epoch = int(open(file).read()) if os.path.exists(file) else 0
for epoch in range(epoch + 1, 7):
    print(f"epoch={epoch} value={float(sys.argv[2]) + 1 / epoch}", flush=True)
    if epoch == 4 and not os.path.exists(file + "-killed"):
        open(file + "-killed", "w").close()
        sys.exit("killed")
    with open(file + ".new", "w") as new:
        new.write(str(epoch))
    os.replace(file + ".new", file)
"""
    (tmp_path / "killed.py").write_text(source)
    command = (PYTHON, str(tmp_path / "killed.py"), "{checkpoint}", "{x}")
    study = wt.Study({"x": (0.0, 1.0)}, sampler="random", seed=0, checkpoints=tmp_path)
    study.optimize(Program(command, ("value",), ("x",), "epoch"), n_trials=2, retries={"error": 1})
    for trial in study.trials:
        assert [r.step for r in trial.reports] == [1, 2, 3, 4, 5, 6] and trial.attempts == 2
        assert [round(1 / (r.metrics["value"] - trial.params["x"])) for r in trial.reports] == [1, 2, 3, 4, 5, 6]


ENDLESS = """
import os, signal, subprocess, sys, time
ignore = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", ignore], stdout=subprocess.PIPE)
child.stdout.readline()
open("pids.txt", "w").write(f"{os.getpid()} {child.pid}")
for i in range(10):
    print(f"value={i}")
time.sleep(600)
"""


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_a_stopped_program_is_ended_with_what_it_started(monkeypatch):
    """Its child does not listen to SIGTERM."""
    monkeypatch.setattr("welltuned.cli.process.GRACE", 0.3)
    outcome, reports = evaluated(ENDLESS, on_report=lambda report: report.step == 2)
    assert outcome.state is wt.State.PRUNED
    assert [step for step, _ in reports] == [1, 2]
    pids = Path("pids.txt").read_text().split()
    while any(is_running(pid) for pid in pids):
        time.sleep(0.05)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_a_program_does_not_outlive_an_error_of_ours(monkeypatch):
    monkeypatch.setattr("welltuned.cli.process.GRACE", 0.3)

    def interrupted(report):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluated(ENDLESS, on_report=interrupted)
    pids = Path("pids.txt").read_text().split()
    while any(is_running(pid) for pid in pids):
        time.sleep(0.05)


def test_tune_with_a_scheduler_prunes():
    Path("epochs.py").write_text("import sys\nfor epoch in range(4): print(f'value={sys.argv[1]}')\n")
    Path("x.yaml").write_text("x: {low: 0.0, high: 1.0}\n")
    options = ["--scheduler", "median", "--sampler", "random", "--seed", 0, "-n", 14]
    run("tune", "--space", "x.yaml", *options, "--", PYTHON, "epochs.py", "{x}")
    trials = wt.Study(storage="welltuned.db", name="epochs").trials
    assert {t.state for t in trials} == {wt.State.COMPLETE, wt.State.PRUNED}
    for t in trials:
        steps = [1] if t.state is wt.State.PRUNED else [1, 2, 3, 4]
        assert [r.step for r in t.reports] == steps
        assert all(r.metrics == {"value": pytest.approx(t.params["x"])} for r in t.reports)


@pytest.mark.parametrize("direction", [["up"], ["=minimize"], ["minimize", "maximize"], ["a=minimize", "a=maximize"]])
def test_directions_that_say_nothing(refuse, direction):
    options = [word for one in direction for word in ("--direction", one)]
    assert "--direction" in refuse("run", "train.py:objective", "-n", 2, *options)


@pytest.mark.once
def test_a_metric_of_which_more_is_better_is_not_minimised_in_silence():
    command = ["--metric", "accuracy", "-n", 1, "--", PYTHON, "program.py", "{params}"]
    said = process("tune", "--space", "space.yaml", *command, check=False)
    assert "accuracy is minimized" in said.stderr


@pytest.mark.once
def test_a_budget_that_is_used_up_is_said():
    run("run", "train.py:objective", "-n", 3)
    again = process("run", "train.py:objective", "-n", 3)
    assert "nothing is left to do, it has 3 trials; a larger n_trials goes on" in again.stderr


@pytest.mark.once
def test_tune_with_workers():
    out = run(*tune("-n", 4, "--workers", 2))
    assert out.startswith("4 trials, 0 failed")


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ([PYTHON, "-c", "import sys; print('oh'); sys.exit('broken {lr} {kind} {l2}')"], "exit code 1: broken"),
        (["./nothing-here", "{lr}", "{kind}", "{l2}"], "cannot run './nothing-here': No such file or directory"),
        ([PYTHON, "-c", "print('loss=3 {lr} {kind} {l2}')"], "'loss=3"),
        ([PYTHON, "-c", "0 # {lr} {kind} {l2}"], "(no output)"),
        ([PYTHON, "-c", "import os; os.kill(os.getpid(), 9) # {lr} {kind} {l2}"], "-9"),
    ],
    ids=["failing", "missing", "no metric", "silent", "killed"],
)
def test_tune_of_a_program_that_never_works(refuse, program, words):
    Path("plain.yaml").write_text("lr: [1, 2]\nkind: [1]\nl2: [1]\n")
    assert words in refuse("tune", "--space", "plain.yaml", "--name", "s", "-n", 2, "--", *program)


def test_without_a_standard_output_nothing_fails(monkeypatch):
    """As of a daemon, or of a shell that has closed it; and whatever COLUMNS says."""
    run("run", "train.py:objective", "-n", 2, "--seed", 0)
    for columns, stream in [*((text, io.StringIO()) for text in ("", "wide", "0")), ("200", None)]:
        monkeypatch.setenv("COLUMNS", columns)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stream)
            app(["show"], standalone_mode=False)
        assert stream is None or "train-objective" in stream.getvalue()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("accuracy=0.5", 0.5),
        ("accuracy: 0.5", 0.5),
        ("step 3, accuracy = -1.5e-3 (best)", -1.5e-3),
        ("accuracy=0.1 accuracy=0.3", 0.3),
        ("accuracy=.5", 0.5),
        ("accuracy=1.", 1.0),
        ("accuracy=7", 7.0),
        ('{"accuracy": 0.25}', 0.25),
        ('  {"accuracy": 1, "loss": [1]}\n', 1.0),
        ("accuracy=nan", None),
        ('{"accuracy": NaN}', None),
        ("accuracy=-inf", float("-inf")),
        ("val_accuracy=0.9 accuracy=0.5 val_accuracy=0.7", 0.5),
        ("accuracy=0.5%", 0.5),
        pytest.param('{"accuracy": 1%s}' % ("0" * 400), None, id="beyond floats"),
    ],
)
def test_find_metric(text, value):
    found = find_metric(text, "accuracy")
    assert np.isnan(found) if value is None else found == value


@pytest.mark.parametrize(
    "text",
    [
        *("", "accuracy", "accuracy=high", "val_accuracy=3", "[1]", "{broken", '{"accuracy": "0.5"}'),
        '{"accuracy": true}',
        pytest.param('{"id": 1%s}' % ("0" * 5000), id="a number of 5000 digits"),
        pytest.param('{"tree": ' * 100_000, id="nested without end"),
    ],
)
def test_no_metric(text):
    assert find_metric(text, "accuracy") is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("value=0.1\nvalue=0.2\nother=3", 0.2),
        ('value=0.1\n{"value": 0.25}\n{"loss": 3}\n{broken', 0.25),
        ('{"value": 0.25}\nvalue=0.5\nval_value=0.7', 0.5),
    ],
)
def test_the_last_line_with_the_metric_counts(text, value):
    assert evaluated(f"print({text!r})")[0].metrics == {"value": value}


@pytest.mark.parametrize(
    ("command", "params", "words"),
    [
        (["p", "--a", "{a}"], {"a": 1}, ["p", "--a", "1"]),
        (["p", "--a={a}"], {}, ["p"]),
        (["p", "--a", "{a}", "--b", "{b}"], {"b": 2}, ["p", "--b", "2"]),
        (["p", "{a}", "{b}"], {"b": "x y"}, ["p", "x y"]),
        (["p", "{a}-{b}"], {"a": 1, "b": 2}, ["p", "1-2"]),
        (["p", "{params}"], {"a": 1, "b": (1, 2)}, ["p", '{"a": 1, "b": "(1, 2)"}']),
        (["awk", "{ print $1 }", "{}", "{1}"], {}, ["awk", "{ print $1 }", "{}", "{1}"]),
    ],
)
def test_fill(command, params, words):
    assert fill(command, params) == words


# looking


def test_list(studies):
    out = run("list")
    assert re.search(r"^first\s+minimize\s+12\s+[1-9]\d*\s+\S+\s+budget", out, re.MULTILINE)
    assert re.search(r"^second\s+minimize f, maximize g\s+6\s+0\s+–", out, re.MULTILINE)
    found = run_json("list", "--json")
    assert [s["name"] for s in found] == ["first", "second"]
    assert found[0]["best"]["value"] == studies["first"].best_value
    assert found[0]["states"]["failed"] >= 1
    assert found[1]["best"] is None
    assert len(found[1]["front"]) == len(studies["second"].best_trials)


def test_show(studies):
    out = run("show", "first")
    best = studies["first"].best
    assert "first  minimize, 12 trials" in out
    assert f"best value {best.value:.6g} (minimized), trial {best.number}:" in out
    assert "Float(0.0, 1.0)" in out
    assert "error: ArithmeticError: no luck today" in out
    assert len(re.findall(r"^\d+\s+(complete|failed)", out, re.MULTILINE)) == 12
    assert len(re.findall(r"^\d+\s+(complete|failed)", run("show", "first", "--trials", 3), re.MULTILINE)) == 3
    assert not re.findall(r"^\d+\s+(complete|failed)", run("show", "first", "--trials", 0), re.MULTILINE)


def test_show_has_the_notes_of_the_study(studies):
    assert "notes" not in run("show", "first")
    studies["first"].note(data="[v3]")
    assert "notes: data = [v3]\n" in run("show", "first")
    assert run_json("show", "first", "--json")["notes"] == {"data": "[v3]"}


def test_show_json(studies):
    found = run_json("show", "first", "--json")
    assert len(found["trials"]) == 12
    assert set(found["space"]["parameters"]) == {"x", "kind"}
    assert next(iter(found["importance"])) == "x"
    assert found["seed"] == 1
    assert [t["number"] for t in found["trials"]] == list(range(12))


def test_show_names_the_parameters_that_interact():
    space = {"x": (-1.0, 1.0), "y": (-1.0, 1.0), "z": (0.0, 1.0)}
    study = wt.Study(space, storage="welltuned.db", name="product", sampler="qmc", seed=0)
    study.optimize(lambda p: p["x"] * p["y"] + p["z"], n_trials=40)
    [said] = re.findall(r"of that, two together: (.*)", run("show", "product"))
    assert re.fullmatch(r"x × y \d+%", said)
    first = run_json("show", "product", "--json")["interactions"][0]
    assert first["parameters"] == ["x", "y"] and first["share"] > 0.2


def test_show_of_several_objectives(studies):
    out = run("show", "second")
    assert "minimize f, maximize g" in out
    assert len(run_json("show", "second", "--json")["front"]) == len(studies["second"].best_trials)


def test_best(studies):
    best = studies["first"].best
    out = run("best", "first")
    assert out.splitlines()[0] == f"best value {best.value:.6g} (minimized), trial {best.number}:"
    assert run_json("best", "first", "--json")["params"] == {"x": best.params["x"], "kind": "a"}
    front = [t.number for t in studies["second"].best_trials]
    assert [t["number"] for t in run_json("best", "second", "--json")] == front
    assert [int(n) for n in re.findall(r"^(\d+)\s+complete", run("best", "second"), re.MULTILINE)] == front


def test_report(studies):
    assert run("report", "first").strip() == "wrote first.html"
    assert Path("first.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    run("report", "first", "second", "-o", "both.html")
    assert "Side by side" in Path("both.html").read_text(encoding="utf-8")
    run("report", "first", "second")
    assert "Side by side" in Path("first-second.html").read_text(encoding="utf-8")
    assert "Side by side" not in Path("first.html").read_text(encoding="utf-8")
    run("report", "--storage", "single.db")
    assert Path("only.html").exists()


def test_export_csv(studies):
    table = list(csv.DictReader(io.StringIO(run("export", "first"))))
    assert len(table) == 12
    assert {r["state"] for r in table} == {"complete", "failed"}
    trial = studies["first"].best
    assert float(table[trial.number]["value"]) == trial.value
    assert float(table[trial.number]["params_x"]) == trial.params["x"]
    run("export", "first", "-o", "all.csv")
    assert Path("all.csv").read_text() == run("export", "first")


def test_export_json(studies):
    found = run_json("export", "first", "--format", "json")
    assert [t["number"] for t in found] == list(range(12))
    assert run("export", "first", "--format", "json", "-o", "all.json").strip() == "wrote all.json"
    assert json.loads(Path("all.json").read_text()) == found
    run("export", "first", "-o", "again.JSON")  # CSV was in it
    assert json.loads(Path("again.JSON").read_text()) == found
    run("export", "first", "--format", "csv", "-o", "table.data")
    assert Path("table.data").read_text().startswith("number,")


@pytest.mark.parametrize(
    "command", [["export", "--format", "json"], ["show", "--json"], ["best", "--json"], ["list", "--json"]]
)
def test_json_is_json(command):
    study = wt.Study(
        {"x": (0.0, 1.0), "norm": wt.Categorical([float("inf")])}, storage="welltuned.db", name="s", seed=0
    )
    study.optimize(lambda p: {"value": p["x"], "aux": float("nan")}, n_trials=3)
    run_json(*command)


def test_addresses(studies, monkeypatch):
    best = studies["only"].best.number
    for address in (["single.db"], ["single.db:only"], ["only", "--storage", "single.db"], ["--storage", "single.db"]):
        assert run_json("best", *address, "--json")["number"] == best
    assert run_json("best", "welltuned.db:first", "--json")["number"] == studies["first"].best.number
    monkeypatch.setenv("WELLTUNED_STORAGE", "single.db")
    assert run_json("best", "--json")["number"] == best
    assert [s["name"] for s in run_json("list", "--json")] == ["only"]
    assert run_json("best", "first", "--storage", "welltuned.db", "--json")["number"] == studies["first"].best.number
    run("run", "train.py:objective", "-n", 2)
    assert {s["name"] for s in run_json("list", "--json")} == {"only", "train-objective"}


def test_a_name_with_a_colon():
    wt.Study({"x": (0.0, 1.0)}, storage="welltuned.db", name="a:b").optimize(lambda p: p["x"], n_trials=2)
    assert run_json("best", "a:b", "--json")["number"] in (0, 1)


@pytest.mark.parametrize("text", ["[bold]x[/bold]", "[/]", "x [/x]", "[red]"])
def test_brackets_are_no_markup(text):
    study = wt.Study(
        {"x": (0.0, 1.0), "c": wt.Categorical([text])}, storage="welltuned.db", name=text.replace("/", "~")
    )

    def objective(p):
        if p["x"] > 0.5:
            raise ValueError(text)
        return p["x"]

    study.optimize(objective, n_trials=6)
    assert run("show").count(text) >= 6
    assert study.name in run("list")
    assert f"c = {text}" in run("best")


def test_names_with_slashes_and_brackets_in_results_of_run():
    Path("odd.py").write_text("space = {'x': ['[/b]', '[/b]x']}\ndef f(p):\n    return len(p['x'])\n")
    assert "x = [/b]" in run("run", "odd.py:f", "-n", 2, "--name", "[b]")


def test_an_address_whose_name_has_a_colon():
    wt.Study({"x": (0.0, 1.0)}, storage="welltuned.db", name="a:b").optimize(lambda p: p["x"], n_trials=2)
    assert run_json("best", "welltuned.db:a:b", "--json")["number"] in (0, 1)


def test_an_empty_study():
    wt.Study({"x": (0.0, 1.0)}, storage="welltuned.db", name="empty")
    assert "0 trials" in run("show")
    assert run_json("show", "--json")["trials"] == []
    assert run_json("list", "--json")[0]["best"] is None
    assert run_json("export", "--format", "json") == []
    run("report")
    assert "No completed trial yet" in Path("empty.html").read_text(encoding="utf-8")


def test_a_study_without_a_space_yet():
    wt.Study(storage="welltuned.db", name="open")
    assert "open" in run("list")
    assert "0 trials" in run("show")
    assert run_json("show", "--json")["trials"] == []


def test_choices_that_are_objects():
    study = wt.Study({"f": wt.Categorical([len, max, (1, 2)])}, storage="welltuned.db", name="s", sampler="grid")
    study.optimize(lambda p: len(str(p["f"])), n_trials=3)
    assert run_json("show", "--json")["states"]["complete"] == 3
    assert "(1, 2)" in run("show")


# the program itself


def test_help_names_every_command():
    out = process("--help").stdout
    for name in ("demo", "run", "tune", "list", "show", "best", "report", "export"):
        assert re.search(rf"^  {name} ", out, re.MULTILINE)
        assert len(run(name, "-h").splitlines()) > 5
    assert process("--version").stdout.strip().endswith(wt.__version__)


def test_commands_as_processes(studies):
    """Those that evaluate and one that looks; the page about the command line runs the others."""
    assert "4 trials" in process("run", "train.py:objective", "-n", 4, "--seed", 1).stdout
    assert "3 trials, 0 failed" in process(*tune("-n", 3)).stdout
    assert "params" in json.loads(process("best", "train-objective", "--json").stdout)
    other = subprocess.run(
        [PYTHON, "-c", "from welltuned.cli import main; main()", "list"], capture_output=True, text=True, check=True
    )
    assert "first" in other.stdout


@pytest.mark.once
def test_errors_of_a_process():
    done = process("show", "nothing", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: storage 'welltuned.db' does not exist; name the file with --storage\n"
    assert process("run", "train.py", check=False).returncode == 2
    assert process("bogus", check=False).returncode == 2


def test_nothing_on_standard_output_but_the_result():
    done = process("run", "train.py:moody", "-n", 6, "--seed", 1, "--sampler", "random", "--json")
    assert json.loads(done.stdout)["best"]["params"]["kind"] == "good"
    assert "no luck today" in done.stderr


@pytest.mark.once
def test_control_c_keeps_everything():
    child = subprocess.Popen(
        [str(Path(PYTHON).with_name("welltuned")), "run", "train.py:slow", "-n", "50", "--seed", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while fits() < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "interrupted; everything finished so far is stored" in err
    assert "Traceback" not in err
    states = run_json("list", "--json")[0]["states"]
    assert states["complete"] >= 2
    assert states["running"] == 0
    before = fits()
    assert run("run", "train.py:slow", "-n", states["complete"] + 1).startswith(f"{states['complete'] + 1} trials")
    assert fits() == before + 1


def test_a_closed_pipe_is_quiet(studies):
    program = Path(PYTHON).with_name("welltuned")
    done = subprocess.run(
        f"{program} export first | head -n 1", shell=True, capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("number,state")
    assert "Traceback" not in done.stderr


# demo


def test_demo_and_its_second_run(monkeypatch):
    """On some of the digits, in this process."""
    X_train, X_test, y_train, y_test = demo._data()
    monkeypatch.setattr(demo, "_data", lambda: (X_train[:200], X_test[:100], y_train[:200], y_test[:100]))
    first = run("demo", "--n-trials", 2, "--workers", 1)
    assert "Side by side" in Path("welltuned-demo.html").read_text(encoding="utf-8")
    shown = []  # the same page again is most of the time
    monkeypatch.setattr("welltuned.report.write_report", lambda studies, page: shown.append((len(studies), str(page))))
    second = run("demo", "-n", 2, "--workers", 1)
    assert shown == [(4, "welltuned-demo.html")]
    for name in ("grid", "random", "bayes", "gradient"):
        assert re.search(rf"^{name}\s+0\.\d{{4}} ± 0\.\d{{4}}\s+0\.\d{{4}}\s+2 ", first, re.MULTILINE)
    table = [line for line in first.splitlines() if "±" in line]
    assert len(table) == 5 and table == [line for line in second.splitlines() if "±" in line]
    found = run_json("demo", "-n", 2, "--json")
    assert {name: s["trials"] for name, s in found.items()} == dict.fromkeys(
        ["demo-grid", "demo-random", "demo-bayes", "demo-gradient"], 2
    )
    address = re.search(r"^Next: welltuned show (\S+)$", first, re.MULTILINE)[1]
    assert "learning_rate" in run("show", address)


@pytest.mark.once
def test_the_demo_with_all_digits_in_processes_of_its_own(monkeypatch):
    """As a user gets it, but for three of the four searches, each of which would start its own."""
    monkeypatch.setattr(demo, "SEARCHES", {"grid": demo.SEARCHES["grid"]})
    out = run("demo", "--n-trials", 2, "--workers", 2)
    assert re.search(r"^grid\s+0\.\d{4} ± 0\.\d{4}\s+0\.\d{4}\s+2 ", out, re.MULTILINE)
    assert "on 797 other digits" in out and Path("welltuned-demo.html").exists()


# refusals


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with every fault in it; each test has a copy."""
    there = tmp_path_factory.mktemp("prepared")
    good = str(there / "good.db")
    wt.Study({"x": (0.0, 1.0)}, storage=good, name="one", seed=1).optimize(lambda p: p["x"], n_trials=2)
    wt.Study({"x": (0.0, 1.0)}, storage=good, name="two")
    for name, text in {
        "text.db": "this is no database, whatever its name says\n" * 50,
        "broken.py": "def objective(:\n",
        "raising.py": "raise RuntimeError('module trouble')\n",
        "exiting.py": "import sys\nsys.exit(0)\n",
        "nospace.py": "def objective(p):\n    return 1\n",
        "badspace.py": "space = {'x': (2.0, 1.0)}\ndef objective(p):\n    return 1\n",
        "bad.yaml": "x: [1, 2\ny: {",
        "twice.yaml": "x: [1, 2]\nx: [3]\n",
        "low.yaml": "x: {low: 3, high: 1}\n",
        "word.yaml": "hello\n",
        "empty.yaml": "",
        "kind.yaml": "x: {type: bogus, low: 1, high: 2}\n",
        "x.yaml": "x: {low: 0.0, high: 1.0}\n",
    }.items():
        (there / name).write_text(text)
    return there


@pytest.fixture
def faults(prepared, folder):
    shutil.copytree(prepared, folder, dirs_exist_ok=True)


REFUSED = [
    ("'train.py'", ["run", "train.py", "-n", 2]),
    ("'gone.py'", ["run", "gone.py:objective", "-n", 2]),
    ("'bogus'", ["run", "train.py:bogus", "-n", 2]),
    ("train.py:", ["run", "train.py:", "-n", 2]),
    ("':objective'", ["run", ":objective", "-n", 2]),
    ("not a function", ["run", "train.py:number", "-n", 2]),
    ("SyntaxError", ["run", "broken.py:objective", "-n", 2]),
    ("module trouble", ["run", "raising.py:objective", "-n", 2]),
    ("exiting.py", ["run", "exiting.py:objective", "-n", 2]),
    ("space.yaml", ["run", "space.yaml:lr", "-n", 2]),
    ("low=2.0", ["run", "badspace.py:objective", "-n", 2]),
    ("'gone.yaml'", ["run", "train.py:objective", "--space", "gone.yaml", "-n", 2]),
    ("bad.yaml", ["run", "train.py:objective", "--space", "bad.yaml", "-n", 2]),
    ("'x' stands twice", ["run", "train.py:objective", "--space", "twice.yaml", "-n", 2]),
    ("low=3", ["run", "train.py:objective", "--space", "low.yaml", "-n", 2]),
    ("hello", ["run", "train.py:objective", "--space", "word.yaml", "-n", 2]),
    ("empty.yaml", ["run", "train.py:objective", "--space", "empty.yaml", "-n", 2]),
    ("'bogus'", ["run", "train.py:objective", "--space", "kind.yaml", "-n", 2]),
    ("train.py", ["run", "train.py:objective", "--space", "train.py", "-n", 2]),
    ("'bogus'", ["run", "train.py:objective", "--space", "train.py:bogus", "-n", 2]),
    ("bogus", ["run", "train.py:objective", "--sampler", "bogus", "-n", 2]),
    ("bogus", ["run", "train.py:objective", "--scheduler", "bogus", "-n", 2]),
    ("bogus", ["run", "train.py:objective", "--direction", "bogus", "-n", 2]),
    ("--n-trials=0", ["run", "train.py:objective", "-n", 0]),
    ("--n-trials=-3", ["run", "train.py:objective", "-n", -3]),
    ("--n-trials=0", ["worker", "good.db:one", "train.py:objective", "-n", 0]),
    ("'many'", ["run", "train.py:objective", "-n", "many"]),
    ("workers=0", ["run", "train.py:objective", "-n", 2, "--workers", 0]),
    ("workers=-7", ["run", "train.py:objective", "-n", 2, "--workers", -7]),
    ("seed=-1", ["run", "train.py:objective", "-n", 2, "--seed", -1]),
    ("timeout=-1.0", ["run", "train.py:objective", "--timeout", -1]),
    ("timeout=nan", ["run", "train.py:objective", "--timeout", "nan"]),
    ("trials=0", ["run", "train.py:objective", "--patience", 0]),
    ("nan", ["run", "train.py:objective", "--target", "nan"]),
    ("total=-2.0", ["run", "train.py:objective", "--max-cost", -2]),
    ("--n-trials", ["run", "train.py:objective"]),
    ("name=''", ["run", "train.py:objective", "-n", 2, "--name", ""]),
    ("name='a/b'", ["run", "train.py:objective", "-n", 2, "--name", "a/b"]),
    ("text.db", ["run", "train.py:objective", "-n", 2, "--storage", "text.db"]),
    ("/nowhere/x.db", ["run", "train.py:objective", "-n", 2, "--storage", "/nowhere/x.db"]),
    ("ftp://x", ["run", "train.py:objective", "-n", 2, "--storage", "ftp://x"]),
    ("''", ["run", "train.py:objective", "-n", 2, "--storage", ""]),
    (
        "seed=1",
        [
            "run",
            "nospace.py:objective",
            "--space",
            "x.yaml",
            "-n",
            2,
            "--storage",
            "good.db",
            "--name",
            "one",
            "--seed",
            9,
        ],
    ),
    (
        "maximize",
        ["run", "train.py:objective", "-n", 2, "--storage", "good.db", "--name", "one", "--direction", "maximize"],
    ),
    ("--space", ["tune", "-n", 2, "--", "echo", "{x}"]),
    ("COMMAND", ["tune", "--space", "x.yaml", "-n", 2]),
    ("'gone.yaml'", ["tune", "--space", "gone.yaml", "-n", 2, "--", "echo", "{x}"]),
    ("{y}", ["tune", "--space", "x.yaml", "-n", 2, "--", "echo", "{x}", "{y}"]),
    ("'x'", ["tune", "--space", "x.yaml", "-n", 2, "--", "echo", "hello"]),
    ("--n-trials=-1", ["tune", "--space", "x.yaml", "-n", -1, "--", "echo", "{x}"]),
    ("--n-trials", ["tune", "--space", "x.yaml", "--", "echo", "{x}"]),
    ("''", ["tune", "--space", "x.yaml", "-n", 2, "--metric", "", "--", "echo", "{x}"]),
    ("bogus", ["tune", "--space", "x.yaml", "--sampler", "bogus", "-n", 2, "--", "echo", "{x}"]),
    ("text.db", ["tune", "--space", "x.yaml", "--storage", "text.db", "-n", 2, "--", "echo", "{x}"]),
    ("'gone.db'", ["list", "--storage", "gone.db"]),
    ("text.db", ["list", "--storage", "text.db"]),
    ("welltuned.db", ["list"]),
    ("'.'", ["list", "--storage", "."]),
    *(
        (words, [command, *args])
        for command in ("show", "best", "report", "export")
        for words, args in (
            ("'bogus'", ["bogus", "--storage", "good.db"]),
            ("'bogus'", ["good.db:bogus"]),
            ("'gone.db'", ["gone.db:one"]),
            ("['one', 'two']", ["--storage", "good.db"]),
            ("text.db", ["one", "--storage", "text.db"]),
            ("text.db", ["text.db"]),
        )
    ),
    ("-1", ["show", "good.db:one", "--trials", -1]),
    ("'two': no completed trial yet", ["best", "good.db:two"]),
    ("'two': no completed trial yet", ["best", "good.db:two", "--json"]),
    ("'/nowhere/r.html'", ["report", "good.db:one", "-o", "/nowhere/r.html"]),
    ("'.'", ["report", "good.db:one", "-o", "."]),
    ("''", ["report", "good.db:one", "-o", ""]),
    ("'/nowhere/e.csv'", ["export", "good.db:one", "-o", "/nowhere/e.csv"]),
    ("'.'", ["export", "good.db:one", "-o", "."]),
    ("no trials", ["export", "good.db:two"]),
    ("'e.parquet'", ["export", "good.db:one", "-o", "e.parquet"]),
    ("'xml'", ["export", "good.db:one", "--format", "xml"]),
    ("gone", ["demo", "--folder", "gone"]),
    ("text.db", ["demo", "--folder", "text.db"]),
    ("1", ["demo", "-n", 1]),
    ("-5", ["demo", "-n", -5]),
    ("workers=0", ["demo", "-n", 2, "--workers", 0]),
    ("seed=-1", ["demo", "-n", 2, "--seed", -1]),
    ("--bogus", ["show", "--bogus"]),
    ("'bogus'", ["bogus"]),
]


@pytest.mark.parametrize(("words", "args"), REFUSED)
def test_refusals(faults, refuse, words, args):
    assert words in refuse(*args)
    assert fits() == 0


def test_a_refused_run_leaves_no_study(faults, refuse):
    refuse("run", "train.py:objective", "-n", 0)
    refuse("tune", "--space", "x.yaml", "-n", 2, "--", "echo", "hello")
    refuse("run", "train.py:objective", "-n", 2, "--workers", 0)
    assert not Path("welltuned.db").exists() or run_json("list", "--json") == []


def test_the_report_of_the_command_is_that_of_the_package(studies):
    run("report", "first", "-o", "r.html")
    one, other = Path("r.html").read_text(encoding="utf-8"), render([studies["first"]])
    strip = re.compile(r"sampler \w+")
    assert strip.sub("", one) == strip.sub("", other)


def test_run_without_a_space_lets_the_objective_suggest():
    Path("open.py").write_text("def objective(trial):\n    return trial.suggest_float('x', 0, 1)\n")
    assert "x = " in run("run", "open.py:objective", "-n", 3)


@pytest.mark.once
def test_what_an_objective_prints_is_not_in_the_json():
    Path("loud.py").write_text("space = {'x': (0.0, 1.0)}\ndef objective(t):\n    print('noise')\n    return t['x']\n")
    command = [
        sys.executable,
        "-c",
        "from welltuned.cli import main; main()",
        "run",
        "loud.py:objective",
        "-n",
        "3",
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["best"]["state"] == "complete"
    assert "noise" in done.stderr


def test_options_after_the_program_are_the_programs():
    Path("s.yaml").write_text("x: {low: 0.0, high: 1.0}")
    run("tune", "--space", "s.yaml", "-n", 2, "--name", "mine", "sh", "-c", "echo value={x} ${HOME}", "-n", 5)
    assert run_json("show", "mine", "--json")["states"]["complete"] == 2


def test_the_package_runs_as_a_module(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["welltuned", "--version"])
    with pytest.raises(SystemExit):
        runpy.run_module("welltuned", run_name="__main__")
    assert wt.__version__ in capsys.readouterr().out
