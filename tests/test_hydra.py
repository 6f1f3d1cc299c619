"""The sweeper of Hydra: overrides as a space and back, and programs that are searched, killed and searched on."""

import dataclasses
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml

import welltuned as wt
from welltuned import Categorical, Float, Int, InvalidType, InvalidValue, Ordinal

pytest.importorskip("hydra")
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException, ConfigCompositionException, MissingConfigException
from omegaconf import OmegaConf

from hydra_plugins.welltuned_sweeper import WelltunedSweeperConf
from welltuned.hydra import Jobs, as_override, read_search

SOURCE = Path(__file__).parent.parent / "src"


# overrides as a space


@pytest.mark.parametrize(
    "text, expected",
    [
        ("interval(0, 1)", Float(0, 1)),
        ("interval(1, 10)", Float(1, 10)),
        ("tag(log, interval(1e-5, 1e-1))", Float(1e-5, 1e-1, log=True)),
        ("int(interval(1, 10))", Int(1, 10)),
        ("tag(log, int(interval(1, 1024)))", Int(1, 1024, log=True)),
        ("int(tag(log, interval(1, 1024)))", Int(1, 1024, log=True)),
        ("range(1, 10)", Int(1, 9)),
        ("range(4)", Int(0, 3)),
        ("range(1, 10, 3)", Int(1, 7, step=3)),
        ("range(10, 1, -3)", Int(4, 10, step=3)),
        ("shuffle(range(1, 10))", Int(1, 9)),
        ("sort(range(9, 0, -1))", Int(1, 9)),
        ("tag(log, range(1, 65))", Int(1, 64, log=True)),
        ("range(0, 1, 0.25)", Float(0, 0.75, step=0.25)),
        ("range(0, 1, 0.1)", Float(0, 0.9, step=0.1)),
        ("float(range(1, 4))", Float(1, 3, step=1)),
        ("range(5, 6)", Categorical([5])),
        ("32,64,128", Ordinal([32, 64, 128])),
        ("choice(128, 32, 64)", Ordinal([32, 64, 128])),
        ("shuffle(a,b,c,d,e,f,g,h)", Categorical([*"abcdefgh"])),
        ("sort(b, a)", Categorical(["a", "b"])),
        ("choice(1, 10, log)", Categorical([1, 10, "log"])),
        ("tag(ordered, choice(small, medium, large))", Ordinal(["small", "medium", "large"])),
        ("true,null,1,'1'", Categorical([True, None, 1, "1"])),
        ("choice('a, b', [1, x], {k: [v]})", Categorical(["a, b", [1, "x"], {"k": ["v"]}])),
        ("choice(relu)", Categorical(["relu"])),
    ],
)  # fmt: skip
def test_overrides_become_parameters(text, expected):
    assert read_search(None, [f"model.x={text}"]).space == wt.Space({"model.x": expected})


@pytest.mark.parametrize(
    "value",
    [
        *[
            "adam",
            "a b",
            "a,b",
            "it's",
            'say "x"',
            "\\",
            "\\'",
            "tail\\\\",
            "[x]",
            "{x: 1}",
            "${lr}",
            "k=v",
            "a:b",
            "(",
            "",
        ],
        *[
            "true",
            "Null",
            "NaN",
            "inf",
            "1e5",
            "007",
            " x ",
            "x\ty",
            "ünï",
            "net/resnet",
            "-x",
            "2024-01-01",
            None,
            True,
        ],
        *[False, 0, -3, 10**18, 0.1, 1e-05, 1e300, 5e-324, -0.0, float("inf"), [1, "1", None, [True, "a,b"]], [], {}],
        {"a": 1.5, "b": ["x y"]},
    ],
    ids=repr,
)
def test_values_come_back_as_they_were(value):
    [override] = OverridesParser.create().parse_overrides([f"+key={as_override(value)}"])
    assert not override.is_sweep_override()
    assert repr(override.value()) == repr(value)


def test_every_draw_comes_back_as_it_was():
    search = read_search(None, ["a=tag(log, interval(1e-9, 1e3))", "b=range(0, 1, 0.1)", "+c.d=int(interval(1, 99))"])
    parser = OverridesParser.create()
    study = wt.Study(search.space, sampler="random", seed=0)
    study.optimize(lambda trial: 0.0, n_trials=50)
    for trial in study.trials:
        parsed = parser.parse_overrides(search.overrides(trial.params))
        assert [o.get_key_element() for o in parsed] == ["a", "b", "+c.d"]
        assert {o.key_or_group: o.value() for o in parsed} == trial.params


def test_keys_and_what_is_fixed():
    search = read_search(
        {"lr": "interval(0, 1)", "depth": 3, "tags": "[a,b]", "seed": None, "units": [32, 64]},
        [
            "+new=1,2",
            "++force=a,b",
            "db@backup=mysql,pg",
            "model/act=relu,tanh",
            "~gone",
            "lr=0.1",
            "note='x y'",
            "s=a\\,b",
        ],
    )
    assert list(search.space) == ["units", "new", "force", "db:backup", "model/act"]
    params = {"units": 32, "new": 2, "force": "a", "db:backup": "pg", "model/act": "relu"}
    fixed = ["depth=3", "tags=[a,b]", "seed=null", "~gone", "lr=0.1", "note='x y'", "s='a,b'"]
    assert search.overrides(params) == [*fixed, "units=32", "+new=2", "++force=a", "db@backup=pg", "model/act=relu"]


def test_null_is_a_default_where_it_is_a_choice():
    params = OmegaConf.create({"penalty": {"choices": ["l2", None], "default": None}})
    assert read_search(OmegaConf.to_container(params), []).space.defaults == {"penalty": None}


CONDITIONAL = {
    "opt": "sgd,adam",
    "momentum": {"low": 0.0, "high": 0.99, "when": {"opt": "sgd"}},
    "nesterov": {"choices": [True, False], "when": {"momentum": "> 0"}},
    "beta": {"low": 0.8, "high": 0.99, "when": [{"opt": "adam"}, {"momentum": ">= 0.5"}]},
}


def test_conditions_follow_what_the_command_line_fixes():
    assert list(read_search(CONDITIONAL, []).space) == ["opt", "momentum", "nesterov", "beta"]
    sgd = read_search(CONDITIONAL, ["opt=sgd"]).space
    assert [(n, p.when) for n, p in sgd.items()] == [
        ("momentum", None),
        ("nesterov", {"momentum": "> 0"}),
        ("beta", [{"momentum": ">= 0.5"}]),
    ]
    adam = read_search(CONDITIONAL, ["opt=adam"]).space
    assert [(n, p.when) for n, p in adam.items()] == [("beta", None)]
    assert read_search(CONDITIONAL, ["momentum=interval(0.5, 0.9)"]).space["momentum"] == Float(
        0.5, 0.9, when={"opt": "sgd"}
    )
    with pytest.raises(InvalidValue, match=r"'rmsprop' is none of the values of .* on which 'momentum' depends; fix"):
        read_search(CONDITIONAL, ["opt=rmsprop"])


@pytest.mark.parametrize(
    "params, arguments, error, words",
    [
        (None, ["lr=0.1"], InvalidValue, r"\['lr=0.1'\] has nothing to search; write lr='interval"),
        (None, [], InvalidValue, "nothing to search"),
        (["lr"], [], InvalidType, "params=.* is not a mapping"),
        ({"lr": {"low": 1}}, [], InvalidValue, "'lr'.*lacks 'high'"),
        (None, ["x=tag(cold, interval(0, 1))"], InvalidValue, r"x=tag\(cold.*'cold' is unknown; known are"),
        (None, ["x=tag(log, choice(1, 2))"], InvalidValue, "'log' is for intervals"),
        (None, ["x=tag(ordered, interval(1, 2))"], InvalidValue, "'ordered' is for choices"),
        (None, ["x=tag(log, range(0.1, 1, 0.1))"], InvalidValue, "no logarithmic scale; write choice"),
        (None, ["x=tag(log, interval(0, 1))"], InvalidValue, "x=.*a log scale needs low > 0"),
        (None, ["x=interval(1, 0)"], InvalidValue, "x=.*is above"),
        (None, ["x=range(3, 1)"], InvalidValue, "holds no value"),
        (None, ["x=range(1, 3, 0)"], InvalidValue, "holds no value"),
        (None, ["x=a,a"], InvalidValue, "x=a,a: .*'a' stands twice"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_says_what_to_write(params, arguments, error, words):
    with pytest.raises(error, match=words):
        read_search(params, arguments)


# programs

PROGRAM = """
import os, signal
import hydra
from hydra.core.hydra_config import HydraConfig

@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg):
    if "ENDS" in os.environ and HydraConfig.get().job.num == 2:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.raise_signal(int(os.environ["ENDS"]))
    if cfg.optimizer.name == "bad" or cfg.fails:
        raise ValueError("it cannot be trained")
    loss = (cfg.lr - 0.3) ** 2 + abs(cfg.model.units - 64) / 64
    return {"loss": loss, "speed": cfg.model.units} if cfg.several else loss

if __name__ == "__main__":
    main()
"""
CONFIG = """
defaults: [optimizer: sgd, _self_]
lr: 0.1
fails: false
several: false
model: {units: 32}
"""


class Program:
    """A program of Hydra's in a folder of its own, and what it leaves there."""

    def __init__(self, folder):
        self.folder, self.studies = folder, []
        (folder / "conf" / "optimizer").mkdir(parents=True)
        (folder / "train.py").write_text(PROGRAM, encoding="utf-8")
        (folder / "conf" / "config.yaml").write_text(CONFIG, encoding="utf-8")
        for name in ("sgd", "adam", "bad"):
            (folder / "conf" / "optimizer" / f"{name}.yaml").write_text(f"name: {name}\n", encoding="utf-8")

    def command(self, *overrides, **settings):
        given = [f"hydra.sweeper.{k}={v}" for k, v in settings.items()]
        return ["train.py", "-m", "hydra/sweeper=welltuned", "hydra.sweep.dir=sweep", *given, *overrides]

    def start(self, *overrides, ends=None, **settings):
        """Run it as a process, which a signal may end in its third job; return what it says.

        Hydra sets up the log of a whole process and closes the handlers that it finds there, so it is not this one.
        """
        env = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", "HYDRA_FULL_ERROR": "1"}
        command = [sys.executable, *self.command(*overrides, **settings)]
        env |= {} if ends is None else {"ENDS": str(int(ends))}
        done = subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True, check=False)
        if ends is None and done.returncode:
            raise Refused(done.stdout + done.stderr)
        assert ends is None or done.returncode, done.stdout + done.stderr
        return done.stdout

    def study(self, name="train"):
        self.studies.append(wt.Study(storage=str(self.folder / "welltuned.db"), name=name))
        return self.studies[-1]

    def results(self):
        return yaml.safe_load((self.folder / "sweep" / "optimization_results.yaml").read_text(encoding="utf-8"))

    def jobs(self):
        return sorted(int(p.name) for p in (self.folder / "sweep").iterdir() if p.name.isdigit())

    def config_of(self, trial):
        return yaml.safe_load(Path(trial.attributes["folder"], ".hydra", "config.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def program(tmp_path):
    program = Program(tmp_path)
    yield program
    for study in program.studies:
        study.coordinator.ledger.close()


class Refused(Exception):
    """A program ended with an error; what it said of it."""


def test_a_sweep_of_twenty_trials_and_the_same_command_again(program):
    command = ["lr=interval(0, 1)", "model.units=choice(32, 64, 128)", "optimizer=sgd,adam"]
    said = program.start(*command, seed=1)
    study, results = program.study(), program.results()
    assert [t.state.value for t in study.trials] == ["complete"] * 20, said
    assert program.jobs() == [*range(20)]
    assert results["best_params"] == study.best.params
    assert results["best_value"] == study.best.value
    assert results["best_value"] < 0.05
    assert results["recommendation"]["params"]["model.units"] == 64
    # each job ran with what its trial says
    assert results["folder"] == str(program.folder / "sweep" / str(study.best.number))
    config, params = program.config_of(study.best), study.best.params
    found = config["lr"], config["model"]["units"], config["optimizer"]["name"]
    assert found == (params["lr"], params["model.units"], params["optimizer"])
    assert "report: welltuned report train --storage welltuned.db" in said
    assert "nothing is left to do" in program.start(*command, seed=1)
    assert len(program.study().trials) == 20
    assert program.jobs() == [*range(20)]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_a_sweep_that_was_ended_half_way_goes_on_in_new_folders(program, how):
    program.start("lr=interval(0, 1)", n_trials=5, ends=how)
    before = program.study().trials
    left = "running" if how == signal.SIGKILL else "waiting"
    assert [t.state.value for t in before] == ["complete", "complete", left]
    assert program.jobs() == [0, 1, 2]
    program.start("lr=interval(0, 1)", n_trials=5)
    after = program.study().trials
    assert [t.state.value for t in after] == ["complete"] * 5
    assert [t.params for t in after[:3]] == [t.params for t in before]
    # what had finished did not run again, and nothing was overwritten
    assert [t.revision for t in after[:2]] == [t.revision for t in before[:2]]
    assert [Path(t.attributes["folder"]).name for t in after] == ["0", "1", "3", "4", "5"]


def test_jobs_that_fail_are_failed_trials(program):
    command = ["lr=interval(0, 1)", "optimizer=sgd,bad"]
    said = program.start(*command, n_trials=6, sampler="random", seed=0)
    failed = [t for t in program.study().trials if t.state.value == "failed"]
    assert 2 <= len(failed) < 6
    assert {t.params["optimizer"] for t in failed} == {"bad"}
    assert failed[0].error == "ValueError: it cannot be trained (train.py:12)"
    assert program.results()["best_params"]["optimizer"] == "sgd"
    assert "failed (error): ValueError: it cannot be trained" in said
    words = r"CompactHydraException: WelltunedError: trials .* have failed, and max_failures=1; the last: ValueError"
    with pytest.raises(Refused, match=words):
        program.start(*command, n_trials=6, sampler="random", seed=0, name="strict", max_failures=1)
    assert sum(t.state.value == "failed" for t in program.study("strict").trials) == 2


def test_a_program_that_never_works_is_given_up(program):
    with pytest.raises(Refused, match=r"CompactHydraException: NoCompletedTrial: .*it cannot be trained"):
        program.start("lr=interval(0, 1)", "fails=true")
    study = program.study("train-fails=true")
    assert len(study.trials) == 10
    assert "it cannot be trained" in study.stop_reason


@pytest.mark.parametrize(
    "overrides, settings, error, words",
    [
        (["optimizer=sgd,adm"], {}, MissingConfigException, "Could not find 'optimizer/adm'"),
        (["model.unit=32"], {}, ConfigCompositionException, "Could not override 'model.unit'"),
        ([], {"n_jobs": 0}, CompactHydraException, "InvalidValue: n_jobs=0 must be at least 1"),
        ([], {"sampler": "best"}, CompactHydraException, "InvalidValue: sampler='best' is unknown; known are"),
        ([], {"direction": "up"}, CompactHydraException, "InvalidValue: direction='up'.* is not one of"),
        ([], {"max_failures": -1}, CompactHydraException, "InvalidValue: max_failures=-1 must be at least 0"),
        ([], {"patience": 0}, CompactHydraException, "InvalidValue: Patience: trials=0 must be at least 1"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_stored(program, overrides, settings, error, words):
    with pytest.raises(Refused, match=rf"(?s){error.__name__}: .*{words}"):
        program.start("lr=interval(0, 1)", *overrides, **settings)
    assert not (program.folder / "welltuned.db").exists()


def test_settings_reach_the_study(program):
    said = program.start(
        "lr=interval(0, 1)", n_jobs=4, n_trials=8, sampler="{name: bayes, initial: 3}", target=100, noisy="true"
    )
    study = program.study()
    assert study.sampler.initial == 3
    assert study.history.wishes.noisy
    assert study.stop_reason == "target: 100 reached"
    assert len(study.trials) == 1
    assert "basic launcher runs one job at a time" in said


def test_params_in_the_config_and_several_objectives(program):
    text = """
    hydra:
      sweeper:
        n_trials: 8
        direction: {loss: minimize, speed: maximize}
        params:
          lr: {low: 1e-3, high: 1, log: true}
          model.units: range(32, 129, 32)
          optimizer: glob(*, exclude=bad)
          +momentum: {low: 0.0, high: 0.9, when: {optimizer: sgd}}
    """
    (program.folder / "conf" / "config.yaml").write_text(CONFIG + textwrap.dedent(text), encoding="utf-8")
    program.start("several=true")
    study, results = program.study("train-several=true"), program.results()
    assert dict(study.directions) == {"loss": "minimize", "speed": "maximize"}
    assert study.space["lr"] == Float(1e-3, 1, log=True)
    assert {t.params["optimizer"] for t in study.trials} == {"adam", "sgd"}
    assert all(("momentum" in t.params) == (t.params["optimizer"] == "sgd") for t in study.trials)
    assert [s["trial"] for s in results["solutions"]] == [t.number for t in study.best_trials]
    assert results["solutions"][0]["values"] == dict(study.best_trials[0].metrics)
    with_momentum = next(t for t in study.trials if "momentum" in t.params)
    assert program.config_of(with_momentum)["momentum"] == with_momentum.params["momentum"]


def test_other_overrides_are_another_study_unless_it_has_a_name(program):
    program.start("lr=interval(0, 1)", n_trials=1)
    program.start("lr=interval(0, 1)", "model.units=64", n_trials=1)
    assert len(program.study("train-model.units=64").trials) == len(program.study().trials) == 1
    program.start("lr=interval(0, 1)", n_trials=1, name="mine")
    said = program.start("lr=interval(0, 1)", "model.units=64", n_trials=2, name="mine")
    assert "trial 0 ran with [], and now all have ['model.units=64']" in said


@pytest.mark.parametrize("subdir", ["job_${hydra.job.num}", "runs/job_${hydra.job.num}"])
def test_several_jobs_at_a_time(tmp_path, subdir):
    """Results go to their trials, exceptions among them, and numbers go on behind the folders that are there."""
    search = read_search(None, ["x=interval(0, 1)"])
    study = wt.Study(search.space, sampler="random", seed=0)
    launched = []

    class Launcher:
        def launch(self, jobs, initial_job_idx):
            launched.append((initial_job_idx, len(jobs)))
            ends = [float(job[0].partition("=")[2]) for job in jobs]
            return [returned(x, x > 0.5) for x in ends]

    def returned(value, fails):
        job = JobReturn(status=JobStatus.FAILED if fails else JobStatus.COMPLETED)
        job.return_value = ValueError("beyond") if fails else OmegaConf.create([value, 0.1])[0]
        return job

    for there in ("6", "last"):
        (tmp_path / subdir.replace("${hydra.job.num}", there)).mkdir(parents=True)
    jobs = Jobs(Launcher(), search, tmp_path, subdir)
    study.optimize(jobs.several, 10, batch=4)
    assert launched == [(7, 4), (11, 4), (15, 2)]
    for trial in study.trials:
        assert trial.state.value == ("failed" if trial.params["x"] > 0.5 else "complete")
        assert trial.metrics == ({} if trial.params["x"] > 0.5 else {"value": trial.params["x"]})
        assert trial.attributes["overrides"] == [f"x={trial.params['x']!r}"]


def test_joblib_runs_several_jobs(program):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    command = ["hydra/launcher=joblib", "lr=interval(0, 1)", "optimizer=sgd,bad"]
    said = program.start(*command, n_trials=4, n_jobs=2, sampler="random", seed=0)
    study = program.study()
    assert said.count("launching 2 jobs") == 2, said
    assert program.jobs() == [*range(4)]
    assert {(t.params["optimizer"], t.state.value) for t in study.trials} == {("sgd", "complete"), ("bad", "failed")}
    assert [Path(t.attributes["folder"]).name for t in study.trials] == [*"0123"]


def test_every_setting_is_documented():
    page = (SOURCE.parent / "docs" / "hydra.md").read_text(encoding="utf-8")
    settings = [f.name for f in dataclasses.fields(WelltunedSweeperConf) if not f.name.startswith("_")]
    assert [name for name in settings if f"`{name}`" not in page] == []
    assert [
        name for name in settings if not re.search(rf"^ *{name}(,|$)", WelltunedSweeperConf.__doc__, re.MULTILINE)
    ] == []


def test_hydra_finds_the_sweeper_and_loads_nothing_else():
    code = """
    import sys
    from hydra.core.plugins import Plugins
    from hydra.plugins.sweeper import Sweeper
    print(*(kind.__name__ for kind in Plugins.instance().discover(Sweeper)))
    print(*{name.partition('.')[0] for name in sys.modules})
    """
    env = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=env, capture_output=True, text=True, check=True
    )
    sweepers, modules = (line.split() for line in done.stdout.splitlines())
    assert "WelltunedSweeper" in sweepers
    assert not {"numpy", "welltuned"} & {*modules}
