"""Patterns of arrivals: what a scenario may say about rates, times between arrivals, and users.

Each knows its mean and peak rate, exactly. The processes are in `arrivals`, replay of a file is in `workload`.
Leaves out: arrivals in batches (several tasks at one time); modulated renewal processes.
Checked: tests/test_arrivals.py, tests/test_workload.py.
Source: Fischer and Meier-Hellstern, "The Markov-modulated Poisson process (MMPP) cookbook", Performance Evaluation 1993.
"""

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from ..sim.engine import units
from ..sim.engine.distributions import DurationDist
from ..sim.engine.spec import PositiveCount, PositiveDuration, Quantity, Rate, Share, Spec, SpecProblem

__all__ = ["Bursty", "Closed", "Mmpp", "MmppState", "Pattern", "Ramp", "Rates", "Renewal"]

RateOrZero = Annotated[float, Quantity(units.RATE)]
Ratio = Annotated[float, Quantity(units.NUMBER, low=1.0, high=1e6, open_low=True)]

_MOST_CHANGES = 1e4  # changes of state for each arrival: beyond it the path costs more than the simulation


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
        if self.start == "staggered" and not math.isfinite(self.think.mean):
            raise SpecProblem(("start",), "`staggered` needs a think time with a finite mean")
        return self
