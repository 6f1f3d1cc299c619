"""Tune on a SLURM cluster by way of Dask: ``python slurm_dask.py --partition gpu --jobs 8``.

Run it on a login node, or in a job of its own; it submits the workers' jobs. ``--local`` needs no SLURM and runs the
same search in two processes of this machine. Started again, it goes on with the study that it finds in ``--storage``.
"""

from __future__ import annotations

import argparse
from typing import Any

import welltuned as wt

SPACE = {"lr": wt.Float(1e-4, 1.0, log=True), "momentum": (0.0, 0.99)}
EPOCHS = 20


def train(trial: Any) -> float:
    """Minimise a badly scaled parabola by gradient descent with momentum: your training goes here."""
    x, y, vx, vy = 1.0, 1.0, 0.0, 0.0
    loss = x**2 + 25 * y**2
    for epoch in range(EPOCHS):
        vx, vy = trial["momentum"] * vx - trial["lr"] * 2 * x, trial["momentum"] * vy - trial["lr"] * 50 * y
        x, y = x + vx, y + vy
        loss = min(x**2 + 25 * y**2, 1e9)
        trial.report(loss, epoch)
        if trial.should_stop():
            trial.prune()
    return loss


def make_cluster(options: argparse.Namespace) -> Any:
    """Return a Dask cluster of SLURM jobs, one worker each, or of two processes here."""
    if options.local:
        from distributed import LocalCluster

        return LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    from dask_jobqueue import SLURMCluster

    cluster = SLURMCluster(
        queue=options.partition,
        cores=1,
        processes=1,
        job_cpu=8,
        memory="32GB",
        walltime="04:00:00",
        job_extra_directives=["--gres=gpu:1"],
        # a worker that is about to reach its time limit leaves in good order, and its job is replaced
        worker_extra_args=["--lifetime", "230m", "--lifetime-stagger", "5m"],
    )
    cluster.adapt(minimum_jobs=1, maximum_jobs=options.jobs)
    return cluster


def main() -> None:
    """Read the options, and tune."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--local", action="store_true", help="two processes here instead of SLURM jobs")
    parser.add_argument("--partition", default=None)
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--storage", default="slurm_dask.db")
    options = parser.parse_args()

    from distributed import Client

    with make_cluster(options) as cluster, Client(cluster) as client:
        study = wt.Study(SPACE, direction="minimize", scheduler="median", storage=options.storage, name="dask", seed=0)
        workers = 2 if options.local else options.jobs
        study.optimize(train, n_trials=options.trials, workers=workers, executor=client)
    print(f"{len(study.trials)} trials, best {study.best.value:.3g} with {study.best.params}")


if __name__ == "__main__":  # Dask starts its workers by importing this file
    main()
