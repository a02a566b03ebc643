"""What a fit says of measured tasks: plain numbers, each with its sample size and its interval.

Times are seconds, sizes tokens or bytes. `key` of a model or a tool is what classes and choices call it by. An interval is None where
none was asked for, or where too few tasks were seen to say one.

Leaves out: how it is found (`estimate`), and the scenario that is written of it.
Checked: tests/test_trace_fit.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = [
    "AgentFit",
    "ArrivalFit",
    "Choice",
    "ClassFit",
    "ContextFit",
    "ErrorFit",
    "Fitted",
    "LawFit",
    "Mixture",
    "ModelFit",
    "Number",
    "Part",
    "RetryFit",
    "Table",
    "ToolFit",
    "Unidentified",
    "Values",
]

OTHER = "other"  # the tool that rare ones are joined to


@dataclass(frozen=True, slots=True)
class Number:
    """An estimate with its 95 % interval, from `n` observations (`how` says of what, and how it was found)."""

    value: float
    low: float | None
    high: float | None
    n: int
    unit: str
    how: str


@dataclass(frozen=True, slots=True)
class Table:
    """Quantiles `values` at rising `levels` from 0 to 1; linear between. The mean of that line is `mean.value`, as measured."""

    levels: tuple[float, ...]
    values: tuple[float, ...]
    mean: Number

    @property
    def constant(self) -> bool:
        """Whether it is one value only."""
        return self.values[0] == self.values[-1]


@dataclass(frozen=True, slots=True)
class Values:
    """Whole numbers that were seen, rising, and how often each."""

    values: tuple[int, ...]
    counts: tuple[int, ...]
    mean: Number


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a mixture: lognormal by `median` and `sigma` of its log, Pareto from `median` (its minimum) with shape `sigma`, or constant."""

    kind: Literal["lognormal", "pareto", "constant"]
    weight: float
    median: float
    sigma: float


@dataclass(frozen=True, slots=True)
class Mixture:
    """Latency (s): parts whose weights sum to 1, cut off at `most` (None: not cut). Its mean is `mean.value`, as measured.

    `quantiles` are of what it was fitted to; `lognormal` is the one lognormal of the same logs, for comparison.
    """

    parts: tuple[Part, ...]
    most: float | None
    mean: Number
    quantiles: Table
    lognormal: Part


@dataclass(frozen=True, slots=True)
class LawFit:
    """seconds = overhead + new tokens * new + cached tokens * cached + output tokens * output, times a residual with the measured mean."""

    overhead: Number
    new: Number
    cached: Number
    output: Number
    residual: Table
    error: float | None
    """Median absolute relative error on runs that the fit did not see."""


@dataclass(frozen=True, slots=True)
class ErrorFit:
    """How often a call goes wrong: `rate` of all, `after_error` right after a wrong one of the same task, `after_none` after a good one.

    Both are as a chain needs them that has the rate and the odds ratio found inside of tasks (`odds`): a scenario's `errors` are
    `rate: after_none, after_error: after_error`. `pooled` is the odds ratio without that care.
    `concentration` of a Beta of rates over tasks: None where tasks do not differ beyond chance.
    """

    rate: Number
    after_error: Number | None
    after_none: Number | None
    odds: Number | None
    pooled: float | None
    concentration: Number | None
    types: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class RetryFit:
    """Attempts that failed and were made again at once: their share of all attempts, how long each took, and the wait until the next."""

    rate: Number
    seconds: Table
    backoff: Table
    most: int


@dataclass(frozen=True, slots=True)
class ModelFit:
    """A model as the tasks of one class meet it. Without a `law` its calls take `seconds` (in which there is the residual too).

    `per_task` is the variance of the log of a factor of mean 1 that a task's calls have in common. `cache_hit` is the share of what was sent
    before that was found in the provider's cache: 1 with `n` 0 where the trace does not count it, None where it counts no tokens. `stubs` is the
    share of calls whose output tokens could not be true, and were told from characters, `characters` of them a token.
    """

    key: str
    component: str
    task_class: str
    calls: int
    tasks: int
    law: LawFit | None
    why_no_law: str
    seconds: Table
    per_task: Number
    cache_hit: Number | None
    errors: Number
    retries: RetryFit | None
    first_token: Table | None
    stubs: float
    characters: Number | None


@dataclass(frozen=True, slots=True)
class ToolFit:
    """A tool (a retriever, a person) as the tasks of one class meet it, of several (`task_class` has their names), or of all (it is ''). `members` were joined to it.

    `latency` is without the factor `per_task` (variance of its log; mean 1). `request` and `response` are bytes, `result` the tokens that a
    call adds to the context.
    """

    key: str
    component: str
    task_class: str
    kind: Literal["tool", "retriever", "embedding", "human"]
    members: tuple[str, ...]
    calls: int
    tasks: int
    latency: Mixture
    per_task: Number
    errors: ErrorFit
    request: Table | None
    response: Table | None
    result: Table | None
    retries: RetryFit | None


@dataclass(frozen=True, slots=True)
class Choice:
    """The next tool by the last one: weights that sum to 1, of `n` calls seen. Tools by key; the first call's row is `start`."""

    start: tuple[tuple[str, float], ...]
    rows: tuple[tuple[str, tuple[tuple[str, float], ...], int], ...]
    how: str


@dataclass(frozen=True, slots=True)
class ContextFit:
    """Tokens: of the first prompt, of output per call, and by how many the prompt grows from one turn to the next, outputs and tool results.

    `resets` is the share of calls whose prompt was shorter than the last one's, `early` what the first turns add beyond what later ones do.
    """

    start: Table | None
    output: Table | None
    growth: Number | None
    resets: Number | None
    early: Number | None


@dataclass(frozen=True, slots=True)
class AgentFit:
    """An agent in the tasks of a class: turns per visit, and per turn its call of `model` (a key) and `calls` of tools at once.

    `last_calls` is the share of visits whose last turn calls a tool too, and `last` how many these turns call; `calls` are of the turns
    before, or of all where each last turn calls one. `gap` is the time (s) of a turn
    beyond its model call and the longest of its tools: no span explains it, or its calls ran one after the other.
    """

    name: str
    model: str | None
    tasks: int
    turns: Values
    calls: Values | None
    last: Values
    last_calls: Number
    choice: Choice | None
    context: ContextFit
    gap: Table


@dataclass(frozen=True, slots=True)
class ClassFit:
    """Tasks alike. `flow` says which agent comes next: rows by agent's place, `start` first, of (place or None for the end, share).

    Where tasks come back to the agent that begins they go in `rounds`, each of which begins with it, and `flow` is that of a round.
    `seconds` are T_total as measured. `hidden` are model calls per task inside of a tool's call: they are part of the tool's latency.
    `overlap` is the share of the time of turns during which another of the same task's ran too.
    """

    name: str
    tasks: int
    weight: Number
    agents: tuple[AgentFit, ...]
    flow: tuple[tuple[tuple[int | None, float], ...], ...]
    rounds: Values | None
    failures: Number
    failure_types: tuple[tuple[str, int], ...]
    errors: ErrorFit
    hidden: Number
    overlap: Number
    seconds: Table


@dataclass(frozen=True, slots=True)
class ArrivalFit:
    """How tasks come: `open` with a `rate` (1/s) and the `cv` of the time between; `closed` with so many `users` who `think` (s); or unknown."""

    kind: Literal["open", "closed", "unknown"]
    rate: Number | None
    cv: Number | None
    users: Number | None
    think: Table | None
    why: str


@dataclass(frozen=True, slots=True)
class Unidentified:
    """What the trace cannot tell, why, and what is taken in its place."""

    what: str
    why: str
    default: str


@dataclass(frozen=True, slots=True)
class Fitted:
    """All of it. `models` and `tools` are found by their keys."""

    tasks: int
    calls: int
    problems: int
    classes: tuple[ClassFit, ...]
    models: tuple[ModelFit, ...]
    tools: tuple[ToolFit, ...]
    arrivals: ArrivalFit
    unidentified: tuple[Unidentified, ...]
    notes: tuple[str, ...] = field(default=())

    def model(self, key: str) -> ModelFit:
        """Return the model of a key. Raises KeyError."""
        return {one.key: one for one in self.models}[key]

    def tool(self, key: str) -> ToolFit:
        """Return the tool of a key. Raises KeyError."""
        return {one.key: one for one in self.tools}[key]
