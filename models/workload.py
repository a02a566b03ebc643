"""The workload: when tasks arrive, how many, and how large their requests are.

Arrivals come from outside at a rate that may vary (open), or from users who wait for their last task to end and then think
(closed), or from a file of recorded arrivals.
Leaves out: task classes, which the scenario has. The processes are in `arrivals`.
Checked: tests/test_workload.py.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import model_validator

from ..sim.engine import units
from ..sim.engine.distributions import TokensDist
from ..sim.engine.errors import ScenarioError
from ..sim.engine.spec import (
    Duration,
    Factor,
    OneOf,
    PositiveCount,
    PositiveDuration,
    Quantity,
    Rate,
    Spec,
    SpecProblem,
    SpecProblems,
)
from .patterns import Bursty, Closed, Mmpp, Pattern, Ramp, Rates, Renewal
from .trace_file import BLOCK, TraceColumns, TraceTable, read_trace_file

__all__ = ["Arrivals", "Trace", "Workload"]

_FEW_CYCLES = 20.0
_YEAR = 365.25 * 86_400


class Trace(Pattern):
    """Recorded arrivals: the rows of a CSV or JSON lines file, each also gzipped.

    `timestamp`, `request` and `output` name columns; common names are recognised. `unit` is that of times that are numbers: `s`
    unless stated, `ms` for Mooncake's columns; dates need none. With `tokens: false` only the times are used. `time_scale: 2`
    plays twice as fast, `limit` takes the first rows, `repeat` plays them again and again at the same mean rate.
    `blocks: hash_ids` names the column that tells which blocks of `block_size` a request consists of: requests that begin with the
    same blocks share them in the prefix cache of a model that has a `shape`. A repeated row has other content.
    """

    file: str
    timestamp: str | None = None
    request: str | None = None
    output: str | None = None
    tokens: bool = True
    blocks: str | None = None
    block_size: Annotated[float, Quantity(units.TOKENS, low=1.0)] = float(BLOCK)
    unit: Literal["s", "ms", "us", "ns"] | None = None
    time_scale: Factor = 1.0
    limit: PositiveCount | None = None
    sort: bool = False
    repeat: bool = False

    @cached_property
    def table(self) -> TraceTable:
        """The rows, with times as recorded; ScenarioError when the file is not as it should be."""
        columns = TraceColumns(self.timestamp, self.request, self.output, self.tokens, self.blocks, self.block_size)
        return read_trace_file(self.file, columns, self.unit, self.sort, self.limit)

    @property
    def span(self) -> float:
        """Seconds from the first arrival to the last, as played."""
        return self.table.span / self.time_scale

    @property
    def period(self) -> float:
        """Seconds after which `repeat` begins anew: the last row is followed by a mean time between rows."""
        return self.span * len(self.table.times) / (len(self.table.times) - 1)

    @property
    def rate(self) -> float | None:
        """The mean rate from the first arrival to the last, 1/s; None when all come at once."""
        return (len(self.table.times) - 1) / self.span if self.span else None

    @property
    def ends(self) -> bool:
        """Whether the file is played once."""
        return not self.repeat

    def doubts(self) -> Iterator[tuple[str, str]]:
        """Yield a doubt about the unit."""
        if self.table.unit_assumed and self.table.span > _YEAR:
            span = units.format(self.table.span, units.DURATION)
            yield (
                "unit",
                f"the file spans {span} if its times are in seconds; state `unit: s`, or `unit: ms` if it is that",
            )

    @model_validator(mode="after")
    def _readable(self) -> Self:
        named = next((name for name in ("request", "output") if getattr(self, name) is not None), None)
        if named and not self.tokens:
            raise SpecProblem((named,), "names a column of tokens, but `tokens: false` says to use none")
        try:
            table = self.table
        except ScenarioError as error:
            raise SpecProblems(
                SpecProblem((problem.path or "file",), f"{problem.position('')}: {problem.message}")
                for problem in error.problems
            ) from error
        if self.repeat and not table.span:
            raise SpecProblem(("repeat",), "needs a file whose rows come at two times at least")
        return self


class Arrivals(OneOf):
    """When tasks arrive."""

    poisson: Rate | None = None
    deterministic: Rate | None = None
    mmpp: Mmpp | None = None
    bursty: Bursty | None = None
    rates: Rates | None = None
    ramp: Ramp | None = None
    renewal: Renewal | None = None
    closed: Closed | None = None
    trace: Trace | None = None

    @property
    def rate(self) -> float | None:
        """The mean arrival rate in the long run, 1/s; None where there is none."""
        pattern = self.chosen[1]
        return pattern.rate if isinstance(pattern, Pattern) else float(pattern)

    @property
    def peak_rate(self) -> float | None:
        """The highest arrival rate, 1/s; None where there is none."""
        pattern = self.chosen[1]
        return pattern.peak_rate if isinstance(pattern, Pattern) else float(pattern)

    @property
    def ends(self) -> bool:
        """Whether arrivals end by themselves."""
        pattern = self.chosen[1]
        return isinstance(pattern, Pattern) and pattern.ends

    def doubts(self) -> list[str]:
        """Return what speaks against trusting results, one sentence each."""
        kind, pattern = self.chosen
        if not isinstance(pattern, Pattern):
            return []
        return [f"arrivals.{kind}.{field}: {doubt}" for field, doubt in pattern.doubts()]


class Workload(Spec):
    """What comes to the system: `tasks` tasks, or all that arrive until the `horizon`; a file ends by itself.

    `drain` is the longest time after the last arrival until unfinished tasks are censored; without it, and without a horizon, all end. `warmup` is the
    time whose tasks are left out of statistics: `auto` finds it (MSER-5), `0 s` keeps all. `request` is the size of a request,
    the first context of its task; a file's column replaces it. With `problems`, the tasks are trials of so many problems, in turn: what
    makes a problem hard (`concentration` of a fault) is the same in each trial, and pass^k tells how often k trials all succeed.
    """

    arrivals: Arrivals
    tasks: PositiveCount | None = None
    horizon: PositiveDuration | None = None
    drain: PositiveDuration | None = None
    warmup: Literal["auto"] | Duration = "auto"
    request: TokensDist = TokensDist.model_validate("0 tokens")
    problems: PositiveCount | None = None

    @property
    def rate(self) -> float | None:
        """The mean arrival rate in the long run, 1/s; None for a closed workload and for tasks that come all at once."""
        return self.arrivals.rate

    @property
    def peak_rate(self) -> float | None:
        """The highest arrival rate, 1/s; None as for `rate`."""
        return self.arrivals.peak_rate

    @property
    def users(self) -> int | None:
        """The number of users of a closed workload; None for an open one."""
        return self.arrivals.closed.users if self.arrivals.closed else None

    @property
    def duration(self) -> float | None:
        """How long arrivals go on, s, in the mean; None where that depends on how fast tasks end."""
        if self.horizon is not None:
            return self.horizon
        if self.tasks is None:
            return self.arrivals.trace.span if self.arrivals.trace else None
        return self.tasks / self.rate if self.rate else None

    def doubts(self) -> list[str]:
        """Return what speaks against trusting results, one sentence each."""
        request = [f"request: {doubt}" for doubt in self.request.doubts()]
        return [f"workload.{doubt}" for doubt in (*self.arrivals.doubts(), *self._time_doubts(), *request)]

    def _time_doubts(self) -> Iterator[str]:
        """Yield doubts about how long the run is for its arrivals."""
        yield from self._trace_doubts()
        modulated = self.arrivals.mmpp or (self.arrivals.bursty and self.arrivals.bursty.mmpp)
        if modulated and self.duration and self.duration < _FEW_CYCLES * modulated.cycle:
            cycles, kind = self.duration / modulated.cycle, self.arrivals.chosen[0]
            remedy = "runs differ widely in load; use a longer run or many replications"
            yield f"arrivals.{kind}: a run goes through its states only {cycles:.2g} times: {remedy}"
        varying = self.arrivals.rates or self.arrivals.ramp
        if varying and self.horizon:
            mean = varying.expected(self.horizon) / self.horizon
            if abs(mean - varying.rate) > 0.01 * max(mean, varying.rate):
                told = units.format(mean, units.RATE), units.format(varying.rate, units.RATE)
                yield f"horizon: the mean arrival rate until then is {told[0]}, and in the long run {told[1]}"

    def _trace_doubts(self) -> Iterator[str]:
        """Yield what a file does not give though it was asked for."""
        trace = self.arrivals.trace
        if trace is None:
            return
        rows = len(trace.table.times)
        remedy = "state `repeat: true` under `trace` for more"
        if self.tasks and self.tasks > rows and not trace.repeat:
            yield f"tasks: the trace has {rows} rows, so that many tasks arrive and not {self.tasks}; {remedy}"
        if self.horizon and self.horizon > trace.span and not trace.repeat:
            yield f"horizon: the last row of the trace arrives at {units.format(trace.span, units.DURATION)}; {remedy}"
        is_given = "request" in self.model_fields_set and not (self.request.is_constant and not self.request.mean)
        if is_given and trace.table.request is not None:
            yield "request: the trace's column is used instead; state `tokens: false` under `trace` to use this"

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if self.tasks is not None and self.horizon is not None:
            raise SpecProblem(("horizon",), "goes without `tasks`: a run ends by the one or by the other")
        trace, pattern = self.arrivals.trace, self.arrivals.chosen[0]
        if self.tasks is None and self.horizon is None and (trace is None or trace.repeat):
            endless = "; `repeat: true` plays the trace without end" if trace else ""
            raise SpecProblem((), f"needs `tasks: 5000` or `horizon: 1 h` to end a run{endless}")
        if self.tasks is not None and trace is None and self.arrivals.ends:
            raise SpecProblem(
                ("tasks",), f"arrivals of `{pattern}` end at rate 0 and may be fewer; state `horizon` instead"
            )
        if isinstance(self.warmup, float) and self.horizon is not None and self.warmup >= self.horizon:
            told = units.format(self.horizon, units.DURATION)
            raise SpecProblem(("warmup",), f"must be shorter than the horizon, {told}, or no task is left")
        return self
