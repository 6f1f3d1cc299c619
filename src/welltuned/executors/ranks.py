"""One trial at a time on all ranks of a process group: rank 0 has the study, and the others follow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

from welltuned.errors import InvalidValue, WelltunedError
from welltuned.evaluation import Objective
from welltuned.executors.group import find_group
from welltuned.executors.inline import InlineExecutor
from welltuned.executors.protocol import Finished, Job
from welltuned.executors.session import End, Order, Session, alike
from welltuned.live import Task
from welltuned.trial import Outcome, Reason, State


class RanksExecutor:
    """Evaluate a task on all ranks of the process group when it is waited for; where there is none, in this process.

    Rank 0 makes it, and the others call :func:`follow` meanwhile.

    Raises
    ------
    InvalidValue
        On other ranks than 0, and in one of several processes that have not joined each other.
    WelltunedError
        When another rank is gone.
    """

    def __init__(self, job: Job, workers: int = 1) -> None:
        self._job, self._alone = job, InlineExecutor(job, workers)
        self._tasks: list[Task] = []
        self._renew, self._broken = False, ""
        group = find_group()
        if group is not None and group.rank != 0:
            raise InvalidValue(
                f"executor='ranks' on rank {group.rank}: rank 0 runs the study, and the others call "
                "welltuned.distributed.follow(objective)"
            )
        self._session = None if group is None else Session(group)

    def submit(self, task: Task) -> None:
        """See :meth:`Executor.submit`."""
        if self._broken:
            raise WelltunedError(
                f"the ranks cannot go on: {self._broken}; start the program again, and the study goes on"
            )
        self._tasks.append(task)

    def wait(self, timeout: float | None = None) -> list[Finished]:  # noqa: ARG002
        """See :meth:`Executor.wait`. The time-out cannot interrupt an objective in this process."""
        if not self._tasks:
            return []
        task = self._tasks.pop(0)
        if self._session is None:
            self._alone.submit(task)
            return self._alone.wait()
        self._broken = "the trial was interrupted"  # unless it comes to its end
        self._session.give(Order(task, tuple(self._job.objectives), self._renew))
        self._session.take_part(self._job.objective, self._job.on_report)
        ends, self._renew, self._broken = self._session.collect()
        return [Finished(task, united(ends))]

    def close(self) -> None:
        """See :meth:`Executor.close`. The others go on with their programs."""
        self._tasks.clear()
        session, self._session = self._session, None
        if session is not None:
            with session:
                session.dismiss(Order(None, renew=self._renew and not self._broken, error=self._broken or None))


def united(ends: Sequence[End]) -> Outcome:
    """Return how a trial ended that ended on several ranks, the first of which is rank 0.

    What was raised first decides: errors of others may follow from it. Otherwise, what rank 0 says.
    """
    own = ends[0].outcome
    first = min((end for end in ends if end.raised is not None), key=lambda end: end.raised or 0, default=None)
    assert own is not None
    if first is None or first.outcome is None:
        return own
    cause = first.outcome
    if cause.state is State.PRUNED:
        if own.state is State.PRUNED or own.reason is Reason.NAN:
            return own
        return replace(own, state=State.PRUNED, reason=None, error=None, exception=None)
    error = cause.error if alike(list(ends)) else f"rank {first.rank}: {cause.error}"
    failed = replace(own, state=State.FAILED, reason=cause.reason, error=error, exception=cause.exception)
    return replace(failed, metrics={}, sems={}, gradient=None)


def follow(objective: Objective) -> None:
    """Take part in the trials of a study that rank 0 runs; see :func:`welltuned.distributed.follow`."""
    group = find_group()
    if group is None or group.rank == 0:
        raise InvalidValue("follow: this is rank 0, which runs the study: study.optimize(objective, executor='ranks')")
    with Session(group) as session:
        while (order := session.hear()).task is not None:
            session.take_part(objective)
        if order.error is not None:
            raise WelltunedError(f"rank 0 has ended the study: {order.error}")


@contextlib.contextmanager
def leading() -> Iterator[None]:
    """Let the other ranks go if something is raised within the block before a study has called them."""
    group = find_group()
    before = 0 if group is None else Session.count(group)
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(RuntimeError):  # the store may be what is gone
            if group is not None and Session.count(group) == before:
                with Session(group) as session:
                    session.dismiss(Order(None, error=f"{type(error).__name__}: {error}"))
        raise
