"""A program as an objective: parameters in by its arguments, a metric out by what it prints."""

from __future__ import annotations

import functools
import json
import math
import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from welltuned.cli.process import KEPT, Process
from welltuned.errors import InvalidValue, WelltunedError
from welltuned.live import LiveTrial
from welltuned.trial import Report

# ${HOME} is the shell's, {{name}} stands for {name}
PLACEHOLDER = re.compile(r"(?<![${])\{([A-Za-z_][A-Za-z0-9_.-]*)\}(?!\})")
# what torchrun says of the process that failed first
ROOT_CAUSE = re.compile(r"Root Cause \(.*?^\s*rank\s*: (\d+).*?^\s*exitcode\s*: (-?\d+)", re.DOTALL | re.MULTILINE)
LAUNCHER = re.compile(r"[EIW]\d{4} [\d:.]+ \d+ torch/")
OF_A_RANK = re.compile(r"\[rank\d+\]:\s*")
SPECIAL = ("params", "checkpoint")
ESCAPED = re.compile(r"\{(\{[A-Za-z_][A-Za-z0-9_.-]*\})\}")


class ProgramFailed(WelltunedError):
    """A program ended with an error, or printed no metric."""


@dataclass(frozen=True)
class Program:
    """Run ``command`` with its placeholders filled, and read ``metrics`` from what it prints.

    Parameters
    ----------
    command, metrics
        The words of the command, and the names of what it prints.
    names
        Those of the parameters.
    step
        As what the program prints which step metrics belong to; unless given, steps are counted.

    Raises
    ------
    InvalidValue
        When a placeholder is no parameter, a parameter has no placeholder, or a step is a metric.
    """

    command: tuple[str, ...]
    metrics: tuple[str, ...]
    names: tuple[str, ...]
    step: str | None = None

    def __post_init__(self) -> None:
        if self.step in self.metrics:
            raise InvalidValue(f"--step {self.step!r} is a metric; name what says which step the metric belongs to")
        used = {name for word in self.command for name in PLACEHOLDER.findall(word)}
        if unknown := sorted(used - {*self.names, *SPECIAL}):
            raise InvalidValue(
                f"the command has the placeholder {{{unknown[0]}}}, but the space has {sorted(self.names)!r}"
            )
        if "params" not in used and (unused := sorted(set(self.names) - used)):
            raise InvalidValue(
                f"the parameters {unused!r} do not appear in the command; write {{{unused[0]}}}, or {{params}} for all "
                "of them as JSON"
            )

    def __call__(self, trial: LiveTrial) -> dict[str, float]:
        """Run the program once and return its metrics.

        Each time it has printed all of them is a report, at step 1, 2, 3, … or as it says; a trial that is to stop is
        ended. A program that is told where its checkpoint is goes on behind the last report: what it has printed when
        it is ended belongs to what it will go on from, so the last of that is a report too.
        """
        last: deque[str] = deque(maxlen=KEPT)
        resumes = self._resumes
        before = trial.reports if resumes else ()
        if resumes and not before and trial.inherited is not None:
            before = (Report(trial.inherited, {}),)
        printed = Printed(self.metrics, self.step, before)
        try:
            process = Process(fill(self.command, trial, str(trial.checkpoint) if resumes else ""))
        except OSError as error:
            raise ProgramFailed(f"cannot run {self.command[0]!r}: {error.strerror or error}") from error
        with process:
            for line in process.lines():
                last.append(line)
                if not printed.completes(line):
                    continue
                if _is_kept(printed.count) or not all(map(math.isfinite, printed.metrics.values())):
                    trial.report(printed.metrics, printed.step)
                if trial.should_stop():
                    process.end()
                    if not resumes:
                        break
            if not trial.should_stop():
                code, errors = process.wait()
        if trial.should_stop():
            if resumes and printed.metrics:
                trial.report(printed.metrics, printed.step)
            trial.prune()
        output = "\n".join(last)
        if code != 0:
            raise ProgramFailed(f"exit code {code}: {_last_lines(_cause(errors) or output)}")
        if missing := [metric for metric in self.metrics if metric not in printed.last]:
            raise _not_printed(missing[0], output)
        if self.step is not None and printed.named is None and not trial.reports:
            raise _not_printed(self.step, output)
        return printed.last

    @property
    def _resumes(self) -> bool:
        """Whether the command says where the checkpoint is."""
        return "checkpoint" not in self.names and any("checkpoint" in PLACEHOLDER.findall(w) for w in self.command)


class Printed:
    """What a program has printed so far, as its lines come in.

    Examples
    --------
    >>> printed = Printed(("loss",), "epoch")
    >>> printed.completes("epoch=3 loss=0.25"), printed.step, printed.metrics
    (True, 3, {'loss': 0.25})
    """

    def __init__(self, names: tuple[str, ...], says: str | None = None, before: Sequence[Report] = ()) -> None:
        self._names = names
        self._says = says
        self._fresh: dict[str, float] = {}  # since the last time that all of them were there
        #: all metrics, the last time that they were there, and their step; those that a run before this one reported
        self.metrics: dict[str, float] = dict(before[-1].metrics) if before else {}
        self.step = before[-1].step if before else 0
        #: the step that was said last, which metrics now belong to
        self.named: int | None = None
        #: each metric as it was printed last, on whatever line
        self.last = dict(self.metrics)
        #: how many reports there could have been
        self.count = self.step if says is None else len(before)

    def completes(self, line: str) -> bool:
        """Take note of a line; tell whether all metrics of a step are there now."""
        if self._says is not None:
            self._take_step(self._says, line)
        new = {name: value for name in self._names if (value := find_metric(line, name)) is not None}
        self._fresh |= new
        self.last |= new
        if len(self._fresh) < len(self._names) or (self._says is not None and self.named is None):
            return False
        self.count += 1
        self.step = self.count if self.named is None else self.named
        self.metrics, self._fresh = self._fresh, {}
        return True

    def _take_step(self, name: str, line: str) -> None:
        """Read which step a line says that this and the following ones belong to."""
        said = find_metric(line, name)
        if said is None:
            return
        if not said.is_integer():
            raise ProgramFailed(f"--step {name}: the program printed {name}={said:g}, which is not a whole number")
        if self.named != said:
            self.named, self._fresh = int(said), {}


def _is_kept(count: int) -> bool:
    """Tell whether what comes as this one is a report: beyond 100 every tenth, beyond 1,000 every hundredth."""
    return count % 10 ** max(len(str(count)) - 2, 0) == 0


def fill(command: Sequence[str], params: Mapping[str, Any], checkpoint: str = "") -> list[str]:
    """Put the parameters into a command; leave out what belongs to inactive ones.

    ``{params}`` are all of them as JSON, and ``{checkpoint}`` is a folder, unless parameters are called so.

    Examples
    --------
    >>> fill(["train", "--lr", "{lr}", "--l2", "{l2}"], {"lr": 0.1})
    ['train', '--lr', '0.1']
    >>> fill(["echo", "${HOME} {{lr}} {lr}"], {"lr": 0.1})
    ['echo', '${HOME} {lr} 0.1']
    """
    words: list[str] = []
    everything = json.dumps(
        {k: v if isinstance(v, (int, float, str, bool, type(None))) else str(v) for k, v in params.items()}
    )
    known = {"params": everything, "checkpoint": checkpoint, **params}
    for word in command:
        if any(n not in known for n in PLACEHOLDER.findall(word)):
            if words and words[-1].startswith("-") and not word.startswith("-"):
                words.pop()
            continue
        filled = PLACEHOLDER.sub(lambda m: str(known[m[1]]), word)
        words.append(ESCAPED.sub(r"\1", filled))
    return words


def find_metric(line: str, metric: str) -> float | None:
    """Return the metric that a line of output holds; None where it holds none.

    Examples
    --------
    >>> find_metric("epoch 3: loss=0.25", "loss"), find_metric("epoch 3", "loss")
    (0.25, None)
    """
    value = _from_json(line, metric)
    if value is None and (found := _plain(metric).findall(line)):
        value = float(found[-1])
    return value


@functools.cache
def _plain(metric: str) -> re.Pattern[str]:
    return re.compile(
        rf"(?:^|[\s,;]){re.escape(metric)}\s*[=:]\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?inf|nan)\b",
        re.IGNORECASE,
    )


def _not_printed(metric: str, output: str) -> ProgramFailed:
    return ProgramFailed(
        f"the program printed neither a JSON line with {metric!r} nor a line {metric}=value; its last line was "
        f"{_last_lines(output, 1)!r}"
    )


def _from_json(line: str, metric: str) -> float | None:
    if not line.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(line).get(metric)
    except (ValueError, AttributeError, RecursionError):  # of numbers of 5000 digits, too
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else math.nan
    except OverflowError:
        return math.nan


def _cause(text: str) -> str:
    """Return what a program said of its failure; where torchrun has said the last word, what the rank did that failed
    first.

    Examples
    --------
    >>> said = "[rank1]: ValueError: bad\\n[rank0]: RuntimeError: closed\\n"
    >>> _cause(said + "Root Cause (first):\\n  rank  : 1 (local_rank: 1)\\n  exitcode : 1 (pid: 7)\\n=====")
    '[rank1]: ValueError: bad'
    """
    found = ROOT_CAUSE.search(text)
    if found is None:
        return text
    rank, code = found.groups()
    own = [line for line in text.splitlines() if line.startswith(f"[rank{rank}]:")]
    if not own and int(code) > 0:  # before it knew its rank, and torchrun took notice
        own = text.partition(" failed (exitcode:")[0].splitlines()[:-1]
    return "\n".join(line for line in own if not LAUNCHER.match(line)) or f"[rank{rank}]: exit code {code}"


def _last_lines(text: str, n: int = 3) -> str:
    lines = [line.strip() for line in text.splitlines()]
    # Python underlines with carets what a traceback is about
    return " | ".join([line for line in lines if OF_A_RANK.sub("", line).strip("^~ ")][-n:]) or "(no output)"
