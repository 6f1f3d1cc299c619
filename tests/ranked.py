"""A program for four ranks: ``python ranked.py SCENARIO FOLDER`` forks them, so that PyTorch is loaded once.

Each rank appends lines of JSON to a file of its own. When one dies, all are started again, as by
``torchrun --max-restarts 3``.
"""

import json
import os
import signal
import socket
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import welltuned as wt
from welltuned import distributed
from welltuned.executors import watch
from welltuned.schedulers import Continue, Stop

SIZE = 4
SPACE = {"rate": wt.Float(1e-3, 1e-1, log=True), "kind": ["a", None, (1, 2)]}


class Judge:
    """Stops one trial at its second step."""

    def decide(self, history, number, report):
        return Stop("enough") if (number, report.step) == (1, 2) else Continue()


def say(folder, **facts):
    with (folder / f"rank{rank()}.jsonl").open("a") as file:
        file.write(json.dumps({**facts, "at": time.time()}, default=str) + "\n")


def rank():
    return int(os.environ["RANK"])


def together():
    """Wait for all ranks, in a collective of the objective's own."""
    total = torch.ones(1)
    dist.all_reduce(total)
    return int(total)


def option(folder, name):
    return {"storage": str(folder / "study.db"), "name": name, "seed": 0}


def everything(folder):
    killed(folder)
    stuck(folder)
    loop(folder)
    open_space(folder)
    refused(folder)
    by_hand(folder)
    say(folder, what="end", together=together())


def killed(folder):
    def train(trial):
        together()
        if trial.number == 2 and rank() == 3 and not (folder / "killed").exists():
            (folder / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        together()
        return trial["rate"]

    study = distributed.minimize(train, SPACE, 4, **option(folder, "killed"))
    say(folder, what="killed", has_study=study is not None)


def stuck(folder):
    """Ranks that cannot be called back, since the one that they wait for holds what Gloo's connections belong to."""
    patience, watch.STUCK = watch.STUCK, 0.5
    world = dist.group.WORLD

    def train(trial):
        once = folder / f"stuck{trial.number}"
        if trial.number in (1, 2) and rank() == 2 and not once.exists():
            once.touch()
            raise ValueError("gone")
        if trial.number == 1:
            together()
        if trial.number == 2 and rank() == 1:
            dist.recv(torch.ones(1), src=2, group=world)
        return trial["rate"]

    distributed.minimize(train, SPACE, 4, **option(folder, "stuck"))
    watch.STUCK = patience


def loop(folder):
    def train(trial):
        facts = {"number": trial.number, "params": {**trial}, "seed": trial.task.seed, "checkpoint": trial.checkpoint}
        say(folder, what="trial", **facts)
        try:
            for step in range(1, 4):
                if trial.number == 2 and rank() == 2 and step == 2:
                    raise ValueError("only here")
                if trial.number == 3 and step == 2:
                    raise ValueError("everywhere")
                together()
                trial.report(trial["rate"] + 100 * rank(), step)
                if trial.should_stop():
                    trial.prune()
            trial.note(rank=rank())
            return trial["rate"] + 100 * rank()
        finally:
            say(folder, what="left", number=trial.number, step=step)

    for _ in range(2):  # the second time, nothing is left to do
        distributed.minimize(train, SPACE, 5, **option(folder, "loop"), scheduler=Judge())


def open_space(folder):
    """Objectives that suggest their parameters, return nothing but on rank 0, and ask in their own way."""

    def train(trial):
        rate = trial.suggest_float("rate", 1e-3, 1e-1, log=True)
        kind = trial.suggest_categorical("kind", ["a", "b"])
        say(folder, what="open", number=trial.number, params=trial.params, again=[rate, kind])
        for step in range(1, 4):
            if rank() == 0:
                trial.report(rate, step)
            if trial.should_stop():
                break
        say(folder, what="open left", number=trial.number, step=step)
        return rate if rank() == 0 else None

    distributed.maximize(train, n_trials=3, **option(folder, "open"), scheduler=Judge())


def refused(folder):
    try:
        distributed.minimize(together, {"rate": (1.0, 0.0)}, 4)
    except wt.WelltunedError as error:
        say(folder, what="refused", error=f"{type(error).__name__}: {error}")


def by_hand(folder):
    def train(trial):
        together()
        return trial["rate"]

    if rank() == 0:
        study = wt.Study(SPACE, **option(folder, "by hand"))
        study.enqueue({"rate": 0.01, "kind": "a"})
        study.optimize(train, 2, executor="ranks")
    else:
        distributed.follow(train)


def interrupted(folder):
    def train(trial):
        say(folder, what="trial", number=trial.number)
        while True:
            together()

    distributed.minimize(train, SPACE, 4, **option(folder, "interrupted"))


def run(number, scenario, folder, port):
    os.environ.update(RANK=str(number), WORLD_SIZE=str(SIZE), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=timedelta(seconds=100))
    globals()[scenario](Path(folder))
    dist.destroy_process_group()


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


if __name__ == "__main__":
    if sys.platform == "linux":
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    signal.signal(signal.SIGINT, lambda *_: None)  # it is for the ranks
    wt.minimize(lambda trial: trial["rate"], SPACE, 4)  # loads what all of them need
    for attempt in range(4):
        try:
            mp.start_processes(run, (*sys.argv[1:], free_port()), SIZE, start_method="fork")
            break
        except (mp.ProcessExitedException, mp.ProcessRaisedException):
            if attempt == 3 or sys.argv[1] == "interrupted":
                raise
