"""Measured traces made by hand: tasks of an agent with turns, gaps, tools side by side, retries and errors, booked as a trace is."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from coordsim.models.trace_digest import digest_of, source_of
from coordsim.sim.engine.branch import Branch, Wait
from coordsim.sim.engine.ledger import DONE, FAILED, STRUCTURE, UNEXPLAINED, UNFINISHED, Ledger, Task
from coordsim.sim.engine.simulation import Simulation
from coordsim.sim.report.trace_answers import ANSWERS
from coordsim.sim.trace.measured import Call, Measured, Sums, TaskTrace
from coordsim.sim.trace.tally import FileTally, Tally

__all__ = ["AGENT", "COMMAND", "MODEL", "measured", "write"]

AGENT, MODEL = "coder", "sonnet"
FACTS = ("steps", "llm_calls", "tool_calls", "tool_errors", "retries", "new_tokens", "cached_tokens", "output_tokens", "llm_errors")  # fmt: skip
ACCOUNTS = {
    "chat": ("inference", MODEL, "chat"),
    "bash": ("tool", "bash", "tool.execute"),
    "read": ("tool", "read", "tool.execute"),
    "failed": ("recovery", MODEL, "failed attempt"),
    "inside": (UNEXPLAINED, AGENT, "inside"),
    "between": (UNEXPLAINED, "", "between spans"),
    "step": (STRUCTURE, AGENT, "step"),
}
COMMAND = "coordsim trace explain runs.json"


@dataclass
class _Made:
    """A task as it is made: a clock, and what was done until now."""

    at: float
    parts: dict[str, float] = field(default_factory=dict)
    entries: list[tuple[int, int, str, float, float, float, int]] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    group: int = 0

    def spend(self, name: str, seconds: float, size: float = 0.0) -> tuple[float, float]:
        """Let time pass on the critical path, in an account."""
        start, self.at = self.at, self.at + seconds
        self.parts[name] = self.parts.get(name, 0.0) + self.at - start
        self.entries.append((0, self.group, name, start, self.at, size, 0))
        return start, self.at


def _task(rng: np.random.Generator, arrival: float, gaps: bool, errors: bool) -> _Made:
    """Return one task: turns of a model call and one tool, or two side by side."""
    made = _Made(arrival)
    prompt = 2000.0
    if gaps:
        made.spend("between", 0.05)
    for turn in range(1 + int(rng.poisson(3))):
        made.group = turn + 1
        first, place = made.at, len(made.entries)
        if gaps:
            made.spend("inside", float(rng.exponential(0.2)))
        if errors and rng.random() < 0.05:
            start, end = made.spend("failed", 1.0)
            made.calls.append(
                Call("llm", MODEL, AGENT, start, end, turn, len(made.calls), error="RateLimitError", retried=True, critical=1.0)
            )  # fmt: skip
        new, output = float(rng.integers(200, 900)), float(rng.integers(20, 300))
        seconds = 0.5 + 0.02 * output
        start, end = made.spend("chat", seconds, output)
        made.calls.append(
            Call("llm", MODEL, AGENT, start, end, turn, len(made.calls), new, prompt, output, start + 0.4, critical=seconds)
        )  # fmt: skip
        prompt += new + output
        if gaps:
            made.spend("inside", 0.1)
        _tools(made, rng, turn, errors)
        made.entries.insert(place, (0, 0, "step", first, made.at, 0.0, made.group))
    made.group = 0
    return made


def _tools(made: _Made, rng: np.random.Generator, turn: int, errors: bool) -> None:
    """Call a tool, in one turn of three with another beside it that is over sooner."""
    batch, seconds = len(made.calls), float(rng.lognormal(0.0, 1.0))
    error = "TimeoutError" if errors and rng.random() < 0.1 else ""
    start, end = made.spend("bash", seconds, 100.0)
    made.calls.append(Call("tool", "bash", AGENT, start, end, turn, batch, error=error, critical=seconds))
    if rng.random() < 1 / 3:
        half = 0.5 * seconds
        made.entries.append((7, made.group, "read", start, start + half, 50.0, 0))
        made.calls.append(Call("tool", "read", AGENT, start, start + half, turn, batch))


def measured(
    tasks: int = 40, *, seed: int = 1, gaps: bool = True, errors: bool = True, arrivals: bool = True, failed: int = 0,
    unfinished: int = 0, name: str = "runs",
) -> Measured:  # fmt: skip
    """Return a trace of so many tasks; of these the last ones `failed`, and behind them some `unfinished`."""
    rng = np.random.default_rng(seed)
    made, ends, at = [], [], 0.0
    for _ in range(tasks + failed + unfinished):
        one = _task(rng, at, gaps, errors)
        made.append((at, one))
        ends.append(one.at)
        at = at + float(rng.exponential(2.0)) if arrivals else one.at
    ledger = Ledger(Simulation(), FACTS, spans="all")
    wanted = [key for key in ACCOUNTS if gaps or key not in ("inside", "between")]
    numbers = {key: ledger.account(*ACCOUNTS[key]) for key in wanted}
    status = [DONE] * tasks + [FAILED] * failed + [UNFINISHED] * unfinished
    moments = sorted([(start, 1, i) for i, (start, _) in enumerate(made)] + [(end, 0, i) for i, end in enumerate(ends)])
    live: dict[int, Task] = {}
    for time, opens, i in moments:
        if opens:
            live[i] = ledger.open(i, i % 2, time)
        else:
            _close(ledger, live.pop(i), made[i][1], numbers, status[i])
    ledger.sim.run(until=max(ends, default=1.0))
    ledger.finish(None)
    return Measured(
        name, ledger, ("fix", "feature"), tuple(_trace(i, start, one, status[i]) for i, (start, one) in enumerate(made)),
        1, arrivals, _sums(made), _tally(made, arrivals),
    )  # fmt: skip


def _close(ledger: Ledger, task: Task, made: _Made, numbers: dict[str, int], status: int) -> None:
    task.trunk = branch = Branch(task, 0, made.at, None)
    for name, seconds in made.parts.items():
        branch.parts[numbers[name]] += seconds
    assert task.spans is not None
    for lane, parent, name, start, end, size, own in made.entries:
        task.spans += (lane, parent, numbers[name], start, end, size, own)
        if lane and end > start:
            task.overlap_in(numbers[name], end - start)
    calls = made.calls
    models = [one for one in calls if one.kind == "llm"]
    tools = [one for one in calls if one.kind == "tool"]
    found = [
        len({one.turn for one in calls}), len(models), len(tools), sum(bool(one.error) for one in tools), sum(one.retried for one in calls),
        *(math.fsum(getattr(one, what) for one in models if not math.isnan(getattr(one, what))) for what in ("new", "cached", "output")),
        sum(bool(one.error) for one in models),
    ]  # fmt: skip
    task.facts[:] = [float(one) for one in found]
    branch.script, branch.wait = None, Wait(lambda _event: None)
    ledger.close(branch, status, "ToolError" if status == FAILED else None)


def _trace(index: int, arrival: float, made: _Made, status: int) -> TaskTrace:
    return TaskTrace(
        index, f"t{index}", "", ("fix", "feature")[index % 2], arrival, made.at,
        "ToolError" if status == FAILED else "", status != UNFINISHED, tuple(made.calls),
    )  # fmt: skip


def _sums(made: list[tuple[float, _Made]]) -> Sums:
    found = Sums(wall=math.fsum(one.at - start for start, one in made))
    for _, one in made:
        for call in one.calls:
            found.work[call.kind] = found.work.get(call.kind, 0.0) + call.seconds
            found.calls[call.kind] = found.calls.get(call.kind, 0) + 1
            beside = call.component == "read"
            found.union[call.kind] = found.union.get(call.kind, 0.0) + (0.0 if beside else call.seconds)
    return found


def _tally(made: list[tuple[float, _Made]], arrivals: bool) -> Tally:
    spans = sum(len(one.calls) + 1 for _, one in made)
    found = Tally(
        [FileTally("runs.json", "otlp", 123_456, spans)],
        {},
        spans + 3,
        len(made),
        "2026-01-01T00:00:00Z" if arrivals else "",
        1_767_225_600_000_000_000 if arrivals else 0,
    )
    found.note("repaired", "the parent is not in the files: put under the root", spans=4)
    found.note("dropped", "the same span twice", spans=3, example="line 17")
    found.note("guessed", "a call of another service is taken for a tool", spans=2, seconds=0.5)
    return found


def write(folder: Path, tasks: int = 142) -> None:
    """Write the answer of a trace to a folder, as its command does."""
    found = measured(tasks, failed=2, unfinished=1)
    ANSWERS.write(digest_of(found), source_of(found, COMMAND), {}, folder, overwrite=True)
