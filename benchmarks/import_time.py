"""Time of ``import welltuned`` beside that of ``import numpy``, each in fresh interpreters, alternating."""

from __future__ import annotations

import statistics
import subprocess
import sys

RUNS = 15
STATEMENTS = {
    "import numpy": "import numpy",
    "import welltuned": "import welltuned",
    "wt.Study, wt.Space": "import welltuned as wt; wt.Study; wt.Space",
}


def seconds(statement: str) -> float:
    code = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(RUNS):
        for name, statement in STATEMENTS.items():
            times[name].append(seconds(statement))
    base = statistics.median(times["import numpy"])
    print(f"{'median of ' + str(RUNS):24s} {'ms':>8s} {'ratio to numpy':>16s}")
    for name, values in times.items():
        print(f"{name:24s} {statistics.median(values) * 1e3:8.1f} {statistics.median(values) / base:16.2f}")


if __name__ == "__main__":
    main()
