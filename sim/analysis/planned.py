"""What a capacity plan found: the cheapest configuration at each load, the frontier, headroom, and what limits next.

A *configuration* says a value for each decision variable, as places in its list of values. Of a monotone variable more is never
worse, so its values rise in capacity; any other variable is a list of choices.

Leaves out: how it is found (`plan`), and words and rounding, which are the report's.
Checked: tests/test_plan.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .slo import Objective, Verdict
from .statistics import Estimate
from .summary import Judged, Quantiles

Point = tuple[int, ...]  # a configuration: a place in the values of each variable


@dataclass(frozen=True, slots=True)
class Variable:
    """A decision: the path it sets, its values as text, and what each costs (in $ an hour, the same order)."""

    path: str
    values: tuple[str, ...]
    costs: tuple[float, ...]
    monotone: bool = True


@dataclass(frozen=True, slots=True)
class Load:
    """A load to plan for: what it is called (`month 3`, `14:00`), the scenario's times `factor`, and for how many `hours` (None: not said)."""

    label: str
    factor: float
    hours: float | None


@dataclass(frozen=True, slots=True)
class ResourceLoad:
    """A resource by the traffic equations: `utilization` offered, the factor of the planned load at which it is 1, and the mean wait (s) by Erlang's C where that applies (None elsewhere)."""

    name: str
    room: str
    utilization: float | None
    saturates_at: float
    wait: float | None


@dataclass(frozen=True, slots=True)
class QueueingBound:
    """What queueing theory says of a configuration before any simulation.

    `response` is the least mean T_total (s), `throughput` the greatest (1/s). `excludes` says why the configuration cannot be planned:
    it is `unstable`, which no plan may be, or cannot meet the objectives; empty where it may.
    """

    resources: tuple[ResourceLoad, ...]
    response: float
    throughput: float
    excludes: str
    unstable: bool = False


@dataclass(frozen=True, slots=True)
class Trial:
    """A configuration at a load: the bound, and what was simulated (nothing where the bound excludes it).

    `cost` is $ an hour: the variables' and what calls cost at this load (`usage`; its own estimate is `metered`, None where calls cost
    nothing, and it counts as that of another configuration where the two do not differ beyond the noise). `judged` hold the intervals at the confidence that
    the verdict was taken with; `replications` and `tasks` were simulated. `busiest` names the resource with the greatest
    measured utilization. `times` are quantiles of T_total in each replication of the last look (None where a replication had no task done).
    """

    point: Point
    load: Load
    bound: QueueingBound
    verdict: Verdict
    judged: tuple[Judged, ...]
    cost: float
    usage: float
    replications: int
    tasks: int
    busiest: str
    utilization: float
    metered: Estimate | None = None
    times: Quantiles | None = None


@dataclass(frozen=True, slots=True)
class Miss:
    """An objective that the nearest configuration misses: its value, and by which share of the threshold."""

    metric: str
    threshold: float
    estimate: Estimate
    by: float


@dataclass(frozen=True, slots=True)
class Limit:
    """Where more load ends: the factor of the planned load at which a resource saturates or an objective breaks.

    `low` and `high` bracket it: the greatest factor seen to hold, and the least seen to break (infinite where none was). `source` is
    `bound` (traffic equations) or `simulation`. `ended`: the bracket is wider than it was to be, for want of budget.
    """

    kind: Literal["resource", "objective"]
    name: str
    factor: float
    low: float
    high: float
    source: Literal["bound", "simulation"]
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Fix:
    """A step of the way up: at `factor` times the load `resource` limits; after `change` (such as `tools.search.concurrency 4 -> 5`, None where no variable helps), `then` limits, at `factor_then`."""

    resource: str
    factor: float
    change: str | None
    cost: float
    then: str
    factor_then: float


@dataclass(frozen=True, slots=True)
class FrontierPoint:
    """The cheapest configuration for objectives on time made `strictness` times as long; None where none was found.

    `ended`: the budget ended the search, so `trial` is the cheapest seen to meet them, and something cheaper may. `open`: something
    cheaper (anything, without a trial) stayed inconclusive.
    """

    strictness: float
    objectives: tuple[Objective, ...]
    trial: Trial | None
    ended: bool = False
    open: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """The answer at one load.

    `pass`: `trial` is the cheapest that meets every objective with the stated confidence. `fail`: nothing does; `trial` is the
    nearest, `misses` by how much, `why` in words. `inconclusive`: nothing was shown to, but something may. `undecided` are cheaper
    configurations that were simulated and may meet them too; `unseen` more between these were not.
    """

    load: Load
    verdict: Verdict
    trial: Trial | None
    misses: tuple[Miss, ...]
    why: str
    undecided: tuple[Trial, ...]
    unseen: int = 0


@dataclass(frozen=True, slots=True)
class PlanResult:
    """A capacity plan.

    `trials` are all configurations that were looked at for the choices, in order, as they were decided; `frontier_trials` those
    looked at, or gone on with, for the frontier, of which `tasks` are what that took besides. `tasks` were simulated for the choices,
    and `beyond` these for the frontier and headroom, which take no more than the choices did; `grid_tasks` would be for the choices, by simulating every configuration at every load with
    `grid_replications` each. `excluded` configurations fell to bounds alone, `pruned` to monotony or cost, both counted once for each
    load of another factor; the others were simulated, or cannot be (`doubts`). `broken` are pairs in which more capacity did worse, which the search takes for impossible.
    """

    scenario: str
    seed: int
    confidence: float
    variables: tuple[Variable, ...]
    objectives: tuple[Objective, ...]
    choices: tuple[Choice, ...]
    trials: tuple[Trial, ...]
    frontier: tuple[FrontierPoint, ...]
    headroom: tuple[Limit, ...]
    fixes: tuple[Fix, ...]
    configurations: int
    excluded: int
    pruned: int
    tasks: int
    grid_tasks: int
    grid_replications: int
    broken: tuple[tuple[Trial, Trial], ...]
    doubts: tuple[str, ...]
    beyond: int = 0
    frontier_trials: tuple[Trial, ...] = ()

    @property
    def is_free(self) -> bool:
        """Whether nothing that is decided has a price: then the fewest steps of capacity are what is cheapest."""
        return all(cost == 0 for one in self.variables for cost in one.costs)

    @property
    def verdict(self) -> Verdict:
        """Fail where any load has no configuration, else inconclusive where any is, else pass."""
        found = [one.verdict for one in self.choices]
        return "fail" if "fail" in found else "inconclusive" if "inconclusive" in found else "pass"
