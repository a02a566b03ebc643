"""Tasks made by known laws, for tests of fits: what an estimate has to come to is known exactly.

Leaves out: what traces have wrong with them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from coordsim.sim.analysis.result import Result
from coordsim.sim.trace.measured import Call, TaskTrace

__all__ = ["Laws", "call", "made", "of_result", "task"]

TOOLS = ("read", "test")


@dataclass(frozen=True)
class Laws:
    """The truth. Factors are variances of logs; `after` and `none` are probabilities of an error after an error and after none."""

    turns: float = 8.0  # mean; 2 at least
    overhead: float = 0.5
    new: float = 4e-4
    cached: float = 2e-5
    output: float = 0.01
    residual: float = 0.3  # sigma of its log
    model_factor: float = 0.05
    tool_factor: float = 0.3
    slow_share: float = 0.3
    slow: tuple[float, float] = (20.0, 0.8)  # median and sigma
    quick: tuple[float, float] = (1.0, 0.5)
    none: float = 0.1
    after: float = 0.3
    luck: float | None = None  # concentration of a Beta of tasks' rates, in place of the chain
    stay: float = 0.7  # probability that a tool is called again
    rate: float = 0.05  # of arrivals, 1/s
    failing: float = 0.15

    @property
    def error_rate(self) -> float:
        """How often calls go wrong, in the steady state of the chain."""
        return self.none / (1 + self.none - self.after) if self.luck is None else self.none

    @property
    def test_seconds(self) -> float:
        """Mean latency (s) of the tool with the heavy tail."""
        means = [m * math.exp(s * s / 2) for m, s in (self.quick, self.slow)]
        return (1 - self.slow_share) * means[0] + self.slow_share * means[1]


def call(kind: str, name: str, start: float, seconds: float, turn: int = 0, batch: int = 0, **more: object) -> Call:
    """Return a call."""
    return Call(kind, name, "agent", start, start + seconds, turn, batch, **more)  # type: ignore[arg-type]


def task(number: int, calls: list[Call], **more: object) -> TaskTrace:
    """Return a task of these calls, which begins and ends with them."""
    own = {"session": "", "task_class": "task", "failure": "", "finished": True} | more
    start, end = (calls[0].start, max(one.end for one in calls)) if calls else (0.0, 0.0)
    own = {"arrival": start, "end": end} | own
    return TaskTrace(number, f"t{number}", calls=tuple(calls), **own)  # type: ignore[arg-type]


def made(seed: int, tasks: int = 60, laws: Laws = Laws()) -> list[TaskTrace]:
    """Return tasks by the laws, in order of arrival."""
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1 / laws.rate, tasks))
    return [_one(rng, number, float(arrivals[number]), laws) for number in range(tasks)]


def _factor(rng: np.random.Generator, variance: float) -> float:
    return math.exp(rng.normal(-variance / 2, math.sqrt(variance)))


def _one(rng: np.random.Generator, number: int, arrival: float, laws: Laws) -> TaskTrace:
    at, calls = arrival, []
    factors = {name: _factor(rng, laws.tool_factor) for name in TOOLS}
    slow = _factor(rng, laws.model_factor)
    prompt, wrong, tool = 5000.0, rng.random() < laws.error_rate, TOOLS[int(rng.integers(2))]
    own = None if laws.luck is None else rng.beta(laws.none * laws.luck, (1 - laws.none) * laws.luck)
    before = 0.0
    turns = 2 + int(rng.poisson(laws.turns - 2))
    for turn in range(turns):
        new, output = prompt - before, float(np.rint(rng.lognormal(4.5, 0.8)) + 1)
        seconds = laws.overhead + laws.new * new + laws.cached * before + laws.output * output
        seconds *= slow * math.exp(rng.normal(0.0, laws.residual))
        calls.append(call("llm", "m", at, seconds, turn, 2 * turn, new=new, cached=before, output=output))
        at, before = at + seconds, prompt
        prompt += output
        if turn == turns - 1:
            break
        tool = tool if rng.random() < laws.stay else TOOLS[1 - TOOLS.index(tool)]
        median, sigma = (0.05, 0.5) if tool == "read" else laws.slow if rng.random() < laws.slow_share else laws.quick
        seconds = factors[tool] * float(rng.lognormal(math.log(median), sigma))
        wrong = bool(rng.random() < (own if own is not None else laws.after if wrong else laws.none))
        calls.append(
            call("tool", tool, at, seconds, turn, 2 * turn + 1, error="ToolError" if wrong else "", output_bytes=400.0)
        )
        at += seconds
        prompt += 100.0
    return task(number, calls, failure="Failed" if rng.random() < laws.failing else "")


def of_result(result: Result, hit: float) -> list[TaskTrace]:
    """Return the tasks of a run as a trace has them: calls of models and tools with times and tokens; `hit` is the share of cached tokens."""
    by_task: dict[int, list[Call]] = {}
    held: dict[tuple[int, int], dict[str, float]] = {}
    for span in result.spans:
        calls = by_task.setdefault(span.task, [])
        if span.name == "chat":
            held[span.task, span.id] = {"output": span.size, "again": 0.0, "at": len(calls)}
            calls.append(
                call("llm", span.component, span.start, span.end - span.start, 0, len(calls), output=span.size)
            )
        elif span.name == "tool.execute":
            calls.append(
                call("tool", span.component, span.start, span.end - span.start, 0, len(calls), output_bytes=span.size)
            )
        elif span.name == "carried tokens":
            held[span.task, span.parent]["again"] = span.size
        elif span.name == "inference":
            own = held[span.task, span.parent]
            new = span.size - own["output"] + (1 - hit) * own["again"]
            last = calls[int(own["at"])]
            calls[int(own["at"])] = call(
                "llm", last.component, last.start, last.seconds, 0, last.batch, output=last.output, new=new, cached=hit * own["again"]
            )  # fmt: skip
    rows = {int(row[0]): row for row in result.rows}
    return [
        task(number, calls, arrival=rows[number][2], end=rows[number][3]) for number, calls in sorted(by_task.items())
    ]
