"""Capacity plans: the section `plan` of a scenario, in the units that a capacity planner writes.

    plan:
      decide:
        models.llm.replicas: {from: 1, to: 16, price: $2.50 / h}        # whole steps; the price of one an hour
        tools.search.concurrency: {values: [5, 10, 20, 50], price: $0.01 / h}
        network.links[0].bandwidth: {values: [1 Gbit/s, 10 Gbit/s], prices: [$0.10 / h, $0.50 / h]}
        runtime: [stateless-api, agent-native]                          # a choice
      slo: {p95: 30 s}                                                  # left out: the scenario's
      load: {growth: {rate: 10 %, per: month, for: 12}}
      confidence: 95 %

Leaves out: what values and prices may be (`plan_values`); bounds (`plan_bounds`); the search (`sim.analysis.plan`).
Checked: tests/test_plan_models.py, tests/test_capacity_plans.py.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from ..sim.analysis.cells import Journal
from ..sim.analysis.jobs import Workers
from ..sim.analysis.planned import Load, PlanResult
from ..sim.analysis.replicate import LEAST, Progress
from ..sim.engine import units
from ..sim.engine.spec import Factor, MoneyRate, OneOf, PositiveCount, Quantity, Share, Spec, SpecProblem
from .slo import Slo

if TYPE_CHECKING:
    from .scenario import Scenario

__all__ = ["Decision", "Growth", "LoadSpec", "PlanSpec", "loads_of", "plan"]

MOST_REPLICATIONS = 40
HOURS = {"day": 24.0, "week": 168.0, "month": 8760 / 12, "quarter": 8760 / 4, "year": 8760.0}
HOURS_OF_A_DAY = 24

# A share that may be below 0 or above 1; written back with `%`, as it must be above 1.
_GROWTH = replace(units.SHARE, name="rate of growth", example="10 %", low=-1.0, high=100.0)
GrowthRate = Annotated[float, Quantity(_GROWTH, low=-0.99, high=100.0)]


class Decision(Spec):
    """The values that a decision variable may take, and what they cost.

    Whole numbers `from` .. `to`, `by` so many, or a list of `values`. `price` is that of one unit an hour, in the unit in which the
    values are written (10 Gbit/s at `$0.05 / h` cost $0.50 an hour); `prices` are those of each value. Of a variable that is
    `monotone` more is never worse, and the search rests on that. Left out, that holds for numbers that only add servers or speed: `replicas`,
    `concurrency`, `cores`, `bandwidth`, `speed`, and the rates of limits. Texts are choices; so are batch limits and sizes of
    memory or tensor parallelism, since more work at once, or a wider split, also slows each call, and how many tasks an agent takes at once, which holds back
    load from what is behind it. With `monotone: true` the values go from the least capacity to the most.
    """

    start: PositiveCount | None = Field(None, alias="from")
    end: PositiveCount | None = Field(None, alias="to")
    by: PositiveCount = 1
    values: tuple[Any, ...] | None = None
    price: MoneyRate | None = None
    prices: tuple[MoneyRate, ...] | None = None
    monotone: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _list(cls, data: Any) -> Any:
        """Take a list for its values."""
        return {"values": data} if isinstance(data, list | tuple) else data

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.values is None) == (self.start is None and self.end is None):
            raise ValueError("needs `from` and `to`, or `values`")
        if self.values is None:
            self._check_range()
        elif not self.values:
            raise SpecProblem(("values",), "must have at least 1 value; got an empty list")
        elif self.by != 1:
            raise SpecProblem(("by",), "goes with `from` and `to`; got `values`", at_key=True)
        if self.price is not None and self.prices is not None:
            raise SpecProblem(("prices",), "must be left out: `price` tells what one unit costs", at_key=True)
        if self.prices is not None and len(self.prices) != len(self.all_values):
            count = len(self.all_values)
            raise SpecProblem(("prices",), f"must be one for each of the {count} values; got {len(self.prices)}")
        return self

    def _check_range(self) -> None:
        for name, value in (("from", self.start), ("to", self.end)):
            if value is None:
                raise SpecProblem((name,), "required field is missing; a range has `from` and `to`, or write `values`")
        assert self.start is not None
        assert self.end is not None
        if self.start > self.end:
            raise SpecProblem(("to",), f"`from <= to` must hold; got {self.start} and {self.end}")

    @property
    def all_values(self) -> tuple[Any, ...]:
        """The values, as YAML has them."""
        if self.values is not None:
            return self.values
        assert self.start is not None
        assert self.end is not None
        return tuple(range(self.start, self.end + 1, self.by))


class Growth(Spec):
    """The load grows by `rate` per period (compounded), `for` so many periods; each is planned for the load at its end.

    A rate above 1 is written with `%`, so that 10 is not taken for 1000 %.
    """

    rate: GrowthRate
    per: Literal["day", "week", "month", "quarter", "year"] = "month"
    periods: Annotated[PositiveCount, Field(le=120)] = Field(alias="for")

    @field_validator("rate", mode="before")
    @classmethod
    def _share(cls, data: Any) -> Any:
        """Refuse a number above 1 without `%`: who writes 10 means 10 %."""
        if isinstance(data, str | int | float) and not isinstance(data, bool):
            try:
                bare = float(data)
            except ValueError:
                return data
            if bare > 1:
                raise ValueError(
                    f"must be a share, such as `10 %`; got {data}: write `{bare:g} %`, or `{100 * bare:g} %`"
                )
        return data


class LoadSpec(OneOf):
    """The loads to plan for, as factors of the scenario's own.

    `growth` over periods, `daily` the 24 factors of the hours of a day, or `factors`. Of closed workloads it is the users that are more.
    """

    growth: Growth | None = None
    daily: tuple[Factor, ...] | None = None
    factors: tuple[Factor, ...] | None = None

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.daily is not None and len(self.daily) != HOURS_OF_A_DAY:
            raise SpecProblem(("daily",), f"must be {HOURS_OF_A_DAY} factors, one an hour; got {len(self.daily)}")
        if self.factors is not None and not self.factors:
            raise SpecProblem(("factors",), "must have at least 1 factor; got an empty list")
        return self


class PlanSpec(Spec):
    """What `coordsim plan` decides: the cheapest values of the variables in `decide` (path to values) that meet the objectives.

    `slo` and `confidence` are the scenario's where they are left out, and the load its own. A configuration takes
    at most `max_replications` to be judged; what is not decided by then is inconclusive.
    """

    decide: Annotated[dict[str, Decision], Field(min_length=1)]
    slo: Slo | None = None
    load: LoadSpec | None = None
    confidence: Annotated[Share, Field(gt=0, lt=1)] | None = None
    max_replications: Annotated[PositiveCount, Field(ge=LEAST)] = MOST_REPLICATIONS

    @property
    def loads(self) -> tuple[Load, ...]:
        """The loads to plan for; the scenario's own where none is said."""
        return tuple(loads_of(self.load))


def loads_of(spec: LoadSpec | None) -> Iterator[Load]:
    """Yield the loads, in order of time; plain factors, and the scenario's own load, last for no time that is known."""
    if spec is None:
        yield Load("as it is", 1.0, None)
    elif spec.growth is not None:
        growth = spec.growth
        for number in range(1, growth.periods + 1):
            yield Load(f"{growth.per} {number}", (1 + growth.rate) ** number, HOURS[growth.per])
    elif spec.daily is not None:
        for hour, factor in enumerate(spec.daily):
            yield Load(f"{hour:02}:00", factor, 1.0)
    else:
        for factor in spec.factors or ():
            yield Load(f"{factor:g}x", factor, None)


def plan(
    scenario: "Scenario",
    *,
    decide: Mapping[str, Any] | None = None,
    slo: Mapping[str, Any] | None = None,
    load: Mapping[str, Any] | None = None,
    confidence: float | None = None,
    max_replications: int | None = None,
    workers: int | Workers = 1,
) -> PlanResult:
    """Find the cheapest configuration that meets the objectives, at each load.

    What is not given is as the scenario's section `plan` says. `decide` maps a path to its values: a list, a `range`, a
    mapping as the section has it, or a text as the command has it (`1..16@$2.5/h`); values without a price have that of the section,
    where it has one for them. `load` is such as
    `{"growth": {"rate": "10 %", "per": "month", "for": 12}}`. No number depends on `workers`.
    Raises ScenarioError with every mistake.
    """
    from .plan_values import priced_as_before, told_in_full

    section: dict[str, Any] = {} if scenario.plan is None else scenario.plan.to_data()
    if decide is not None:
        before = section.get("decide", {})
        given = {path: told_in_full(values) for path, values in decide.items()}
        section["decide"] = {path: priced_as_before(one, before.get(path)) for path, one in given.items()}
    section |= {} if slo is None else {"slo": dict(slo)}
    section |= {} if load is None else {"load": dict(load)}
    section |= {} if confidence is None else {"confidence": confidence}
    section |= {} if max_replications is None else {"max_replications": max_replications}
    return run_capacity_plan(scenario.replace("plan", section), workers=workers)


def run_capacity_plan(
    scenario: "Scenario",
    *,
    workers: int | Workers = 1,
    journal: Journal | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> PlanResult:
    """Run the plan that the scenario's section asks for. Raises ScenarioError with every mistake before anything is simulated."""
    from ..sim.analysis.plan import find_plan
    from .plan_problem import plan_problem
    from .variants import simulate_text

    return find_plan(simulate_text, plan_problem(scenario), workers=workers, journal=journal, progress=progress)
