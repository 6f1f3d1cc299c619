"""Trials that several processes train together: four ranks of Gloo's."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import welltuned as wt
from welltuned import distributed
from welltuned.cli.program import Program, ProgramFailed
from welltuned.executors import EXECUTORS, Job, RanksExecutor, check_executor
from welltuned.executors.ranks import united
from welltuned.executors.session import End, alike
from welltuned.live import LiveTrial, Task
from welltuned.testing import ExecutorContract
from welltuned.trial import Outcome, Reason, State

PROGRAM = Path(__file__).parent / "ranked.py"
RANKS = range(4)
DEADLINE = 250


def start(scenario, folder):
    if importlib.util.find_spec("torch") is None:  # which takes seconds to load, and is not needed here
        pytest.skip("needs torch")
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", PROGRAM, scenario, folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")},
        start_new_session=True,
    )


def told(folder, what):
    """Return by rank what it said under a name."""
    lines = [[json.loads(x) for x in (folder / f"rank{r}.jsonl").read_text().splitlines()] for r in RANKS]
    return [[fact for fact in one if fact["what"] == what] for one in lines]


def without_time(facts):
    return [[{k: v for k, v in fact.items() if k != "at"} for fact in one] for one in facts]


def study(folder, name):
    return wt.Study(storage=folder / "study.db", name=name)


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """The folder in which a program for four ranks has gone through all but the interrupt."""
    folder = tmp_path_factory.mktemp("ranks")
    process = start("everything", folder)
    try:
        output, _ = process.communicate(timeout=DEADLINE)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, output  # whatever was raised in trials, and after they were pruned
    assert [[fact["together"] for fact in one] for one in told(folder, "end")] == [[4]] * 4, output
    return folder


def test_d19_all_ranks_train_each_trial_together(ended):
    """The same trials, parameters, seed and checkpoint folder on all ranks; the study has as many as it was to have."""
    first, *others = without_time(told(ended, "trial"))
    assert [fact["number"] for fact in first] == list(range(5))
    assert others == [first] * 3
    trials = study(ended, "loop").trials
    assert [t.number for t in trials] == list(range(5))
    assert [fact["params"]["rate"] for fact in first] == [t.params["rate"] for t in trials]
    assert trials[0].value == trials[0].params["rate"] and trials[0].attributes == {"rank": 0}
    assert [r.metrics["value"] for r in trials[0].reports] == [trials[0].params["rate"]] * 3  # rank 0's


def test_d19_pruning_ends_all_ranks(ended):
    """The same answer to the same question, in less than ten seconds, and the program ends with 0."""
    left = [[fact for fact in one if fact["number"] == 1] for one in told(ended, "left")]
    assert [[fact["step"] for fact in one] for one in left] == [[2]] * 4
    times = [one[0]["at"] for one in left]
    assert max(times) - min(times) < 10
    assert study(ended, "loop").trials[1].state is State.PRUNED


def test_d19_an_error_on_one_rank_ends_the_trial_on_all(ended):
    """The others wait for it in a collective of their own; the record says which rank it was, and the study goes on."""
    trials = study(ended, "loop").trials
    assert (trials[2].state, trials[2].reason) == (State.FAILED, Reason.ERROR)
    assert trials[2].error.startswith("rank 2: ValueError: only here (ranked.py:")
    assert trials[3].error.startswith("ValueError: everywhere (ranked.py:")
    assert trials[4].state is State.COMPLETE
    steps = [{fact["number"]: fact["step"] for fact in one} for one in told(ended, "left")]
    assert steps == [{0: 3, 1: 2, 2: 2, 3: 2, 4: 3}] * 4


def test_d19_parameters_that_the_objective_suggests(ended):
    """They are the same on all ranks, which may report on rank 0 alone and stop without an exception."""
    first, *others = without_time(told(ended, "open"))
    assert len(first) == 3 and others == [first] * 3
    assert [[fact["step"] for fact in one] for one in told(ended, "open left")] == [[3, 2, 3]] * 4
    trials = study(ended, "open").trials
    assert [t.state for t in trials] == [State.COMPLETE, State.PRUNED, State.COMPLETE]
    assert [dict(t.params) for t in trials] == [fact["params"] for fact in first]


def test_d19_a_killed_rank_costs_an_attempt_and_the_study_goes_on(ended):
    """Started again, it goes on with the trial that was lost, and has the trials of a run that nobody killed."""
    trials = study(ended, "killed").trials
    assert (ended / "killed").exists()
    assert [t.attempts for t in trials] == [1, 1, 2, 1]
    assert [t.state for t in trials] == [State.COMPLETE] * 4
    whole = wt.Study({"rate": wt.Float(1e-3, 1e-1, log=True), "kind": ["a", None, (1, 2)]}, seed=0)
    whole.optimize(lambda trial: trial["rate"], 4)
    assert [t.params["rate"] for t in trials] == [t.params["rate"] for t in whole.trials]
    assert [one[0]["has_study"] for one in told(ended, "killed")] == [True, False, False, False]


def test_d19_ranks_that_cannot_be_called_back_end_the_program(ended):
    """Rank 0 among them, the trial is tried again; otherwise it has failed, and the study goes on after it."""
    trials = study(ended, "stuck").trials
    assert [t.state for t in trials] == [State.COMPLETE, State.COMPLETE, State.FAILED, State.COMPLETE]
    assert [t.attempts for t in trials[:3]] == [1, 2, 1]
    assert trials[2].error.startswith("rank 2: ValueError: gone (ranked.py:")


def test_d19_an_error_of_the_study_reaches_all_ranks(ended):
    """What rank 0 is told about its arguments ends the call on the others, too."""
    errors = [one[0]["error"] for one in told(ended, "refused")]
    assert errors[0].startswith("InvalidValue: ")
    assert errors[1:] == [f"WelltunedError: rank 0 has ended the study: {errors[0]}"] * 3


def test_d19_rank_0_may_have_a_study_of_its_own(ended):
    """With all that a study can do, while the others follow."""
    trials = study(ended, "by hand").trials
    assert [t.state for t in trials] == [State.COMPLETE] * 2
    assert trials[0].params == {"rate": 0.01, "kind": "a"}


def test_d19_an_interrupt_leaves_no_trial_running(tmp_path):
    """Ctrl-C ends all ranks, and the trial is given back without an attempt."""
    process = start("interrupted", tmp_path)
    try:
        deadline = time.monotonic() + DEADLINE
        while not all((tmp_path / f"rank{r}.jsonl").exists() for r in RANKS) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=DEADLINE)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    trials = study(tmp_path, "interrupted").trials
    assert [(t.state, t.attempts) for t in trials] == [(State.WAITING, 0)], output


class TestAlone(ExecutorContract):
    """Where there is no process group, it evaluates in this process."""

    @pytest.fixture
    def make_executor(self):
        return lambda job: EXECUTORS["ranks"](job, 1)

    def test_close_ends_everything(self, start):
        """There is nothing to end: a task that nobody waited for has not begun."""
        executor = start(lambda trial: pytest.fail("evaluated after close()"))
        executor.submit(Task(0, 1, {}))
        executor.close()
        executor.close()
        assert executor.wait() == []


def test_d19_without_ranks_it_is_the_plain_loop():
    """A program for ranks runs as it is in one process."""
    found = distributed.minimize(lambda trial: trial["x"] ** 2, {"x": (-1.0, 1.0)}, 5, seed=0)
    plain = wt.minimize(lambda trial: trial["x"] ** 2, {"x": (-1.0, 1.0)}, 5, seed=0)
    assert [t.params for t in found.trials] == [t.params for t in plain.trials]
    with pytest.raises(wt.InvalidValue, match="this is rank 0"):
        distributed.follow(lambda trial: 0.0)


def test_processes_that_have_not_joined_are_told_so(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    if "torch" in sys.modules:
        monkeypatch.setattr("torch.distributed.is_initialized", lambda: False)
    for call in (distributed.minimize, lambda *_: distributed.follow(print)):
        with pytest.raises(wt.InvalidValue, match="WORLD_SIZE=4 that have not joined"):
            call(lambda trial: 0.0, {"x": (0.0, 1.0)}, 2)


@pytest.mark.parametrize("options", [{"workers": 2}, {"trial_timeout": 3}, {"resources": {"gpu": 1}}])
def test_what_ranks_cannot_do(options):
    with pytest.raises(wt.InvalidValue, match=next(iter(options))):
        wt.Study({"x": (0.0, 1.0)}).optimize(lambda trial: 0.0, 2, executor="ranks", **options)


def test_ranks_with_trials_of_their_own_are_told_of_a_better_way(monkeypatch, caplog):
    wt.Study({"x": (0.0, 1.0)}).optimize(lambda trial: 0.0, 2)
    assert "ranks" not in caplog.text
    monkeypatch.setattr("welltuned.executors.is_grouped", lambda: True)
    wt.Study({"x": (0.0, 1.0)}).optimize(lambda trial: 0.0, 2)
    assert "one of several ranks" in caplog.text and "welltuned.distributed" in caplog.text


def test_ranks_load_nothing():
    """Whoever is in a process group has loaded PyTorch, and nobody else needs it."""
    program = (
        "import sys; from welltuned import distributed; distributed.minimize(len, {'x': (0.0, 1.0)}, 2); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def ends(*outcomes):
    """Return ends of ranks, each given by what it says and the place at which it raised something."""
    return [End(rank, raised, outcome) for rank, (outcome, raised) in enumerate(outcomes)]


DONE = Outcome(State.COMPLETE, {"value": 1.0}, attributes={"a": 1})
PRUNED = Outcome(State.PRUNED)
DIVERGED = Outcome(State.FAILED, reason=Reason.NAN, error="not finite")


def broken(error, reason=Reason.ERROR):
    return Outcome(State.FAILED, reason=reason, error=error)


@pytest.mark.parametrize(
    ("found", "state", "reason", "error", "same"),
    [
        ([(DONE, None), (DONE, None)], State.COMPLETE, None, None, True),
        ([(DIVERGED, None), (DONE, None)], State.FAILED, Reason.NAN, "not finite", True),
        ([(PRUNED, 2), (PRUNED, 1)], State.PRUNED, None, None, True),
        ([(DIVERGED, 2), (PRUNED, 1)], State.FAILED, Reason.NAN, "not finite", False),
        ([(DONE, None), (PRUNED, 1)], State.PRUNED, None, None, False),
        ([(broken("closed"), 2), (PRUNED, 1)], State.PRUNED, None, None, False),
        ([(broken("closed"), 2), (broken("bad"), 1)], State.FAILED, Reason.ERROR, "rank 1: bad", False),
        ([(broken("bad"), 1), (broken("closed"), 2)], State.FAILED, Reason.ERROR, "rank 0: bad", False),
        ([(DONE, None), (broken("bad"), 1)], State.FAILED, Reason.ERROR, "rank 1: bad", False),
        ([(broken("bad"), 2), (broken("bad"), 1)], State.FAILED, Reason.ERROR, "bad", True),
        ([(PRUNED, 2), (broken("no", Reason.INFEASIBLE), 1)], State.FAILED, Reason.INFEASIBLE, "rank 1: no", False),
    ],
)
def test_what_was_raised_first_decides(found, state, reason, error, same):
    outcome = united(ends(*found))
    assert (outcome.state, outcome.reason, outcome.error) == (state, reason, error)
    assert outcome.metrics == (DONE.metrics if found[0][0] is DONE and state is not State.FAILED else {})
    assert outcome.attributes == found[0][0].attributes
    assert alike(ends(*found)) is same


def test_ranks_may_agree_otherwise_than_one_alone():
    trial = LiveTrial(Task(0, 1, {}), lambda *_: False, lambda stop: not stop)
    assert trial.should_stop() and trial.should_prune() and not trial.stopped
    trial.end()
    assert trial.should_stop() and trial.stopped


def test_check_executor_knows_ranks():
    assert check_executor("ranks", 1, wt.executors.NO_LIMITS) == "ranks"
    assert isinstance(RanksExecutor(Job(len, ("value",), lambda *_: False)).wait(), list)


SAID = """\
W1129 17:00:33.129000 11392 torch/distributed/run.py:874] Setting OMP_NUM_THREADS
{said}W1129 17:00:41.335000 11392 torch/distributed/elastic/api.py:1028] Sending process 7 closing signal
E1129 17:00:41.402000 11392 torch/distributed/elastic/api.py:1002] failed (exitcode: {code}) local_rank: 1
Traceback (most recent call last):
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
Failures:
[1]:
  rank      : 0 (local_rank: 0)
  exitcode  : -15 (pid: 7)  (SIGTERM)
Root Cause (first observed failure):
[0]:
  time      : 2026-11-29_17:00:41
  rank      : 1 (local_rank: 1)
  exitcode  : {code} (pid: 8)
  traceback : To enable traceback see: https://pytorch.org/docs/stable/elastic/errors.html
============================================================
"""


@pytest.mark.parametrize(
    ("said", "code", "reason"),
    [
        ("[rank1]: ValueError: bad\n[rank1]:   ^^^\n[rank0]: RuntimeError: closed\n", 1, "[rank1]: ValueError: bad"),
        ("ValueError: before it knew its rank\n", 1, "ValueError: before it knew its rank"),
        ("[rank0]: RuntimeError: closed\n", -9, "[rank1]: exit code -9"),
    ],
)
def test_d19_a_program_of_many_processes_failed_for_what_the_first_of_them_said(said, code, reason, tmp_path):
    """What torchrun says after it, and ranks that fail since one has, are not the reason."""
    (tmp_path / "said").write_text(SAID.format(said=said, code=code))
    program = Program(("sh", "-c", f"cat {tmp_path}/said >&2; exit 1"), ("loss",), ())
    with pytest.raises(ProgramFailed) as failed:
        program(LiveTrial(Task(0, 1, {})))
    assert str(failed.value) == f"exit code 1: {reason}"
