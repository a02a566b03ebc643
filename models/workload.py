"""The workload: when tasks arrive, how many, and how large their requests are.

Arrivals come from outside at a rate that may vary (open), or from users who wait for their last task to end and then think
(closed), or from a file of recorded arrivals. Rates are exact: nothing is rounded to windows.

Leaves out: task classes, which the scenario has; arrivals in batches (several tasks at one time), except from a file.
The processes themselves are in `arrivals`.
Checked: tests/test_workload.py.
Source: Fischer and Meier-Hellstern, "The Markov-modulated Poisson process (MMPP) cookbook", Performance Evaluation 1993.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from ..sim.engine import units
from ..sim.engine.distributions import DurationDist, TokensDist
from ..sim.engine.errors import ScenarioError
from ..sim.engine.spec import (
    Duration,
    Factor,
    OneOf,
    PositiveCount,
    PositiveDuration,
    Quantity,
    Rate,
    Share,
    Spec,
    SpecProblem,
    SpecProblems,
)
from .trace_file import TraceColumns, TraceTable, read_trace_file

__all__ = ["Arrivals", "Bursty", "Closed", "Mmpp", "MmppState", "Ramp", "Rates", "Renewal", "Trace", "Workload"]

RateOrZero = Annotated[float, Quantity(units.RATE)]
Ratio = Annotated[float, Quantity(units.NUMBER, low=1.0, high=1e6, open_low=True)]

_MOST_CHANGES = 1e4  # changes of state for each arrival: beyond it the path costs more than the simulation
_FEW_CYCLES = 20.0
_YEAR = 365.25 * 86_400


class Pattern(Spec):
    """What all kinds of arrivals have in common."""

    @property
    def rate(self) -> float | None:
        """The mean arrival rate in the long run, 1/s; None where there is none."""
        raise NotImplementedError

    @property
    def peak_rate(self) -> float | None:
        """The highest arrival rate, 1/s; None where there is none."""
        return self.rate

    @property
    def ends(self) -> bool:
        """Whether arrivals end by themselves."""
        return False

    def doubts(self) -> Iterator[tuple[str, str]]:
        """Yield what speaks against trusting results, as (field, sentence)."""
        yield from ()


class MmppState(Spec):
    """A state of the environment: Poisson arrivals at `rate`, for an exponential time of mean `stay`."""

    rate: RateOrZero
    stay: PositiveDuration


class Mmpp(Pattern):
    """Poisson arrivals whose rate follows a Markov chain: the states in the order given, then the first again.

    The chain starts in equilibrium.
    """

    states: tuple[MmppState, ...] = Field(min_length=2)

    @property
    def cycle(self) -> float:
        """The mean time from entering a state to entering it again, s."""
        return sum(state.stay for state in self.states)

    @property
    def rate(self) -> float:
        """The mean arrival rate, 1/s."""
        return sum(state.rate * state.stay for state in self.states) / self.cycle

    @property
    def peak_rate(self) -> float:
        """The highest rate of a state, 1/s."""
        return max(state.rate for state in self.states)

    @property
    def index_of_dispersion(self) -> float:
        """Variance over mean of the number of arrivals in a long time; 1 for Poisson arrivals."""
        count = len(self.states)
        stays = np.array([state.stay for state in self.states])
        # In units of the cycle and of the mean rate, so that the matrix is solved well whatever the units of the scenario.
        leaving = self.cycle / stays
        generator = np.diag(-leaving) + np.roll(np.diag(leaving), 1, axis=1)
        shares = stays / self.cycle
        rates = np.array([state.rate for state in self.states]) / self.rate
        deviation = np.linalg.solve(np.tile(shares, (count, 1)) - generator, rates - 1.0)
        return 1.0 + 2.0 * float((shares * rates) @ deviation) * self.rate * self.cycle

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if not self.peak_rate:
            raise SpecProblem(("states",), "one rate at least must be > 0; got only 0")
        changes = len(self.states) / self.cycle / self.rate
        if changes > _MOST_CHANGES:
            remedy = f"that is `poisson: {units.format(self.rate, units.RATE)}`"
            raise SpecProblem(("states",), f"the state changes {changes:.2g} times for each arrival: {remedy}")
        return self


class Bursty(Pattern):
    """Bursts: Poisson arrivals of mean `rate`, at `peak_to_mean` times that rate during bursts of mean length `burst`.

    Between bursts the rate is `quiet` of the mean (a share; 0, unless stated). Lengths are exponential: a two-state MMPP.
    """

    mean_rate: Rate = Field(alias="rate")
    peak_to_mean: Ratio
    burst: PositiveDuration
    quiet: Share = 0.0

    @cached_property
    def mmpp(self) -> Mmpp:
        """The same as a modulated Poisson process, the burst first."""
        # The share of time in bursts: busy * peak_to_mean + (1 - busy) * quiet = 1.
        busy = (1 - self.quiet) / (self.peak_to_mean - self.quiet)
        return Mmpp.model_construct(
            states=(
                MmppState.model_construct(rate=self.mean_rate * self.peak_to_mean, stay=self.burst),
                MmppState.model_construct(rate=self.mean_rate * self.quiet, stay=self.burst * (1 - busy) / busy),
            )
        )

    @property
    def rate(self) -> float:
        """The mean arrival rate, 1/s."""
        return self.mean_rate

    @property
    def peak_rate(self) -> float:
        """The rate during a burst, 1/s."""
        return self.mmpp.peak_rate

    @property
    def index_of_dispersion(self) -> float:
        """Variance over mean of the number of arrivals in a long time; 1 for Poisson arrivals."""
        return self.mmpp.index_of_dispersion

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.quiet >= 1:
            raise SpecProblem(("quiet",), f"must be < 100 %, or there are no bursts; got {self.quiet:.0%}")
        changes = 2 / self.mmpp.cycle / self.mean_rate
        if changes > _MOST_CHANGES:
            remedy = f"that is `poisson: {units.format(self.mean_rate, units.RATE)}`"
            raise SpecProblem(("burst",), f"bursts begin and end {changes:.2g} times for each arrival: {remedy}")
        return self


class Rates(Pattern):
    """Poisson arrivals at rates that change `every` so often, such as the 24 hourly rates of a day.

    After the last rate the first follows again; without `repeat`, the last one stays.
    """

    every: PositiveDuration
    rates: tuple[RateOrZero, ...] = Field(min_length=1)
    repeat: bool = True

    @property
    def period(self) -> float:
        """How long the rates last, s."""
        return self.every * len(self.rates)

    @property
    def rate(self) -> float:
        """The mean over the period; without `repeat`, the last rate. 1/s."""
        return sum(self.rates) / len(self.rates) if self.repeat else self.rates[-1]

    @property
    def peak_rate(self) -> float:
        """The highest rate, 1/s."""
        return max(self.rates)

    @property
    def ends(self) -> bool:
        """Whether the last rate, which stays, is 0."""
        return not self.repeat and not self.rates[-1]

    def expected(self, time: float) -> float:
        """Return the mean number of arrivals until `time`."""
        periods, rest = divmod(time, self.period) if self.repeat else (0.0, time)
        whole = sum(rate * min(max(rest - i * self.every, 0.0), self.every) for i, rate in enumerate(self.rates))
        held = 0.0 if self.repeat else max(time - self.period, 0.0) * self.rates[-1]
        return periods * self.every * sum(self.rates) + whole + held

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if not any(self.rates):
            raise SpecProblem(("rates",), "one rate at least must be > 0; got only 0")
        return self


class Ramp(Pattern):
    """Poisson arrivals whose rate changes evenly `from` one rate `to` another `over` a time, and then stays."""

    start: RateOrZero = Field(alias="from")
    end: RateOrZero = Field(alias="to")
    over: PositiveDuration

    @property
    def rate(self) -> float:
        """The rate that stays, 1/s."""
        return self.end

    @property
    def peak_rate(self) -> float:
        """The highest rate, 1/s."""
        return max(self.start, self.end)

    @property
    def ends(self) -> bool:
        """Whether the rate falls to 0."""
        return not self.end

    def expected(self, time: float) -> float:
        """Return the mean number of arrivals until `time`."""
        inside = min(time, self.over)
        risen = inside * (self.start + (self.end - self.start) * inside / self.over / 2)
        return risen + max(time - self.over, 0.0) * self.end

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if not self.peak_rate:
            raise SpecProblem(("to",), "one of `from` and `to` must be > 0; got 0 for both")
        return self


class Renewal(Pattern):
    """Independent times between arrivals, of any distribution; the first arrival comes after one of them."""

    interarrival: DurationDist

    @property
    def rate(self) -> float:
        """One over the mean time between arrivals, 1/s; 0 when that mean is infinite."""
        return 1 / self.interarrival.mean

    def doubts(self) -> Iterator[tuple[str, str]]:
        """Yield the doubts about the distribution."""
        for doubt in self.interarrival.doubts():
            yield "interarrival", doubt

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.interarrival.mean <= 0:
            raise SpecProblem(("interarrival",), "must have a mean > 0, or all tasks arrive at once; got 0 s")
        return self


class Closed(Pattern):
    """A fixed number of users: each starts a task, waits for its end, thinks, and starts the next.

    At first all users think (`start: think`); or they start `together`, or `staggered` evenly over a mean think time.
    """

    users: PositiveCount
    think: DurationDist = DurationDist.model_validate("0 s")
    start: Literal["think", "together", "staggered"] = "think"

    @property
    def rate(self) -> None:
        """None: the rate follows from how fast tasks end."""
        return

    def doubts(self) -> Iterator[tuple[str, str]]:
        """Yield the doubts about the distribution."""
        for doubt in self.think.doubts():
            yield "think", doubt

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.start == "staggered" and not np.isfinite(self.think.mean):
            raise SpecProblem(("start",), "`staggered` needs a think time with a finite mean")
        return self


class Trace(Pattern):
    """Recorded arrivals: the rows of a CSV or JSON lines file, each also gzipped.

    `timestamp`, `request` and `output` name columns; common names are recognised. `unit` is that of times that are numbers: `s`
    unless stated, `ms` for Mooncake's columns; dates need none. With `tokens: false` only the times are used. `time_scale: 2`
    plays twice as fast, `limit` takes the first rows, `repeat` plays them again and again at the same mean rate.
    """

    file: str
    timestamp: str | None = None
    request: str | None = None
    output: str | None = None
    tokens: bool = True
    unit: Literal["s", "ms", "us", "ns"] | None = None
    time_scale: Factor = 1.0
    limit: PositiveCount | None = None
    sort: bool = False
    repeat: bool = False

    @cached_property
    def table(self) -> TraceTable:
        """The rows, with times as recorded; ScenarioError when the file is not as it should be."""
        columns = TraceColumns(self.timestamp, self.request, self.output, self.tokens)
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

    `drain` is the longest time after the last arrival until unfinished tasks are censored; without it all end. `warmup` is the
    time whose tasks are left out of statistics: `auto` finds it (MSER-5), `0 s` keeps all. `request` is the size of a request,
    the first context of its task; a file's column replaces it.
    """

    arrivals: Arrivals
    tasks: PositiveCount | None = None
    horizon: PositiveDuration | None = None
    drain: PositiveDuration | None = None
    warmup: Literal["auto"] | Duration = "auto"
    request: TokensDist = TokensDist.model_validate("0 tokens")

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
        if "request" in self.model_fields_set and trace.table.request is not None:
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
