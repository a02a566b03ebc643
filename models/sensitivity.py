"""Sensitivities: the section `sensitivity` of a scenario, and the variants that it asks for.

    sensitivity:
      factors: {search: ±20 %, models.llm.decode: 8 ms / token..16 ms / token, load: ""}
      metric: [mean, p95]
      by: 5 %
      method: tornado

A factor is a lever by its name or any path of an amount; its range is `LOW..HIGH` (of the mean, for a distribution), `±SHARE`, or
left empty for ± `by`. Left out, factors are all levers; where they vary together (Morris, Sobol'), those of which no two change
the same: whole components, and what belongs to none.

Leaves out: what a lever is (`levers`); running and measuring (`sim.analysis.sensitivity`); factors that depend on each other.
Checked: tests/test_sensitivity.py, tests/test_sensitivity_command.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field

from ..sim.analysis.replicate import Progress, Settings
from ..sim.analysis.sensitivity import Method, PlannedFactor, SensitivityPlan, SensitivityResult, Side, run_plan
from ..sim.engine import units
from ..sim.engine.errors import CoordsimError, Problem, ScenarioError
from ..sim.engine.spec import Count, PositiveCount, Share, Spec
from .variants import Variants, document_of, reason, scenario_of, simulate_text

if TYPE_CHECKING:
    from ..sim.analysis.cells import Journal
    from ..sim.analysis.jobs import Workers
    from .levers import Lever
    from .scenario import Scenario

__all__ = ["Asked", "SensitivityError", "SensitivitySpec", "make_plan", "run_sensitivity", "sensitivity"]

NEAR, FAR = 0.05, 0.2  # ± of a factor's range, for one at a time and for several at once, unless told
SMALL = 0.1  # the largest step of a whole number that still tells an elasticity
TRAJECTORIES, LEVELS, POINTS = 10, 4, 64
METRICS = ("mean", "p95")
_SHARE = re.compile(r"(?:±|\+-|\+/-)\s*(.+)")


def _texts(value: object) -> object:
    return [value] if isinstance(value, str) else value


class SensitivitySpec(Spec):
    """What `coordsim sensitivity` does with the scenario.

    `factors` gives each factor, a lever by its name or a path, its range: `200 ms..1 s`, `±20 %`, or `""` for ± `by`; left out, all
    levers vary. `metric` is one or several. By `tornado` factors vary one at a time; by `morris`, in so many `trajectories`, and by
    `sobol`, at so many `points` (a power of two), all together.
    """

    factors: dict[str, str] = {}
    metric: Annotated[tuple[str, ...], BeforeValidator(_texts, json_schema_input_type=str | list[str])] = METRICS
    by: Annotated[Share, Field(gt=0, lt=1)] | None = None
    method: Literal["tornado", "morris", "sobol"] = "tornado"
    trajectories: Annotated[PositiveCount, Field(ge=2)] = TRAJECTORIES
    points: Count = POINTS


class SensitivityError(CoordsimError):
    """A sensitivity that cannot be, whatever is written in its section: what is missing, the remedy."""


@dataclass(frozen=True)
class Asked:
    """What is asked for; what is None is as the section has it. `size` is trajectories of Morris, or points of Sobol'.

    `said` is what precedes the name of an argument where the user gave it, and not the section: `--`, or nothing in Python.
    """

    factors: Mapping[str, str] | None = None
    metrics: Sequence[str] | None = None
    by: float | None = None
    method: Method | None = None
    size: int | None = None
    said: str = "--"


@dataclass
class _Builder:
    """Makes a plan of what is asked."""

    scenario: Scenario
    asked: Asked
    section: SensitivitySpec
    variants: Variants
    notes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def method(self) -> Method:
        return self.asked.method or self.section.method

    @property
    def by(self) -> float:
        return self.asked.by or self.section.by or (NEAR if self.method == "tornado" else FAR)

    def wrong(self, path: tuple[str | int, ...], message: str, option: str | None = None) -> None:
        """Keep a mistake: of the section, at the line of its `path` there; of an `option`, such as `factor search=5`, by that."""
        if option is None:
            self.problems.append(document_of(self.scenario).problem(("sensitivity", *path), message))
        else:
            self.problems.append(Problem("", message, f"{self.asked.said}{option}"))

    def wrong_factor(self, name: str, message: str) -> None:
        """Keep a mistake of a factor."""
        given = self.asked.factors
        text = "" if given is None else given.get(name, "")
        self.wrong(("factors", name), message, None if given is None else f"factor {name}{text and f'={text}'}")

    def check(self) -> None:
        """Raise ScenarioError with every mistake that was kept."""
        if self.problems:
            name = document_of(self.scenario).name
            is_told = any(one.file == name for one in self.problems)
            raise ScenarioError(self.problems, name if is_told else f"{self.asked.said and 'coordsim '}sensitivity")

    def metrics(self) -> tuple[tuple[str, ...], dict[str, str]]:
        """Return what is measured, and in which units."""
        names = self.asked.metrics or self.section.metric
        shown: dict[str, str] = {}
        for number, name in enumerate(names):
            try:
                shown[name] = unit_of_metric(self.scenario, name)
            except SensitivityError as error:
                path: tuple[str | int, ...] = ("metric",) if len(names) == 1 else ("metric", number)
                self.wrong(path, str(error), f"metric {name}" if self.asked.metrics else None)
        return tuple(dict.fromkeys(names)), shown

    def chosen(self) -> list[tuple[Lever, float, float]]:
        """Return the levers that vary, each with the ends of its range as factors."""
        from .levers import LeverError, lever_at, levers

        known = levers(self.scenario)
        given = self.section.factors if self.asked.factors is None else self.asked.factors
        if not given:
            self.notes += known.notes
            found = known.found if self.method == "tornado" else known.apart
            return [(one, *self._ends(one, 1 - self.by, 1 + self.by)) for one in found]
        chosen = []
        for name, text in given.items():
            try:
                lever = known.by_name(name) or lever_at(self.scenario, name)
                low, high = _range(lever, text, self.by)
            except LeverError as error:
                self.wrong_factor(name, str(error))
                continue
            except ScenarioError as error:
                self.wrong_factor(name, reason(error))
                continue
            chosen.append((replace(lever, name=name), *self._ends(lever, low, high)))
        return chosen

    def _ends(self, lever: Lever, low: float, high: float) -> tuple[float, float]:
        return lever.reach(low), lever.reach(high)

    def factors(self) -> list[tuple[Lever, PlannedFactor, float, float]]:
        """Return the planned factors; a lever that no change reaches is noted and left out."""
        own = bool(self.asked.factors or (self.asked.factors is None and self.section.factors))
        found = []
        for lever, low, high in self.chosen():
            try:
                sides = [
                    None if at == 1 else Side(at, lever.text(at), self.variants.key(lever.at(at))) for at in (low, high)
                ]
            except ScenarioError as error:
                if own:
                    self.wrong_factor(lever.name, reason(error))
                    continue
                self.notes.append(f"`{lever.name}` is left out: {reason(error, 1)}")
                continue
            if sides == [None, None]:
                self.notes.append(f"`{lever.name}` is left out: it cannot be {lever.text(1 - self.by)} or more")
                continue
            step = max(abs(at - 1) for at in (low, high))
            is_small = not lever.is_whole or step <= max(SMALL, self.by)
            planned = PlannedFactor(
                lever.name, lever.kind, lever.paths, lever.now, sides[0], sides[1], lever.members, lever.is_whole, is_small
            )  # fmt: skip
            found.append((lever, planned, low, high))
        if not found and not self.problems:
            raise SensitivityError("there is nothing to vary: the scenario has no lever that can move")
        return found


def make_plan(scenario: Scenario, asked: Asked | None = None) -> SensitivityPlan[str]:
    """Return what to run.

    Raises ScenarioError with every mistake in the section or the options, each where it was written, and SensitivityError where
    nothing can vary or a package is missing.
    """
    section = scenario.sensitivity or SensitivitySpec()
    build = _Builder(scenario, asked or Asked(), section, Variants(scenario))
    metrics, shown = build.metrics()
    if build.method == "morris":
        _need_salib()
    base = build.variants.key()
    chosen = build.factors()
    if build.method != "tornado":
        _check_joint(build, chosen)
    build.check()
    plan = SensitivityPlan(
        scenario.name, build.method, base, tuple(one for _, one, _, _ in chosen), metrics, shown, build.by,
        build.variants.found, notes=(*build.notes, *_unstable(chosen, base)),
    )  # fmt: skip
    return plan if build.method == "tornado" else _joint(build, plan, chosen)


def _joint(
    build: _Builder, plan: SensitivityPlan[str], chosen: Sequence[tuple[Lever, PlannedFactor, float, float]]
) -> SensitivityPlan[str]:
    """Return the plan with the points of its design."""
    from ..sim.analysis.sensitivity_global import morris_design, sobol_design

    seed, count = build.scenario.seed, len(chosen)
    if build.method == "morris":
        design = morris_design(count, build.asked.size or build.section.trajectories, LEVELS, seed)
    else:
        design = sobol_design(count, build.asked.size or build.section.points, seed)
    keys = []
    for point in design:
        changes = []
        for place, (lever, _, low, high) in enumerate(chosen):
            at = low + float(point[place]) * (high - low)
            if lever.is_whole:
                at = round(lever.amount * at) / lever.amount
                point[place] = (at - low) / (high - low)  # effects are over the step that was made
            changes += lever.at(at)
        keys.append(build.variants.key(changes))
    return replace(plan, design=design, keys=tuple(keys))


def _check_joint(build: _Builder, chosen: Sequence[tuple[Lever, PlannedFactor, float, float]]) -> None:
    """Keep the mistakes of factors that cannot vary together, and of points that no Sobol' sequence has."""
    told: set[str] = set()
    for (one, *_), (other, *_) in combinations(chosen, 2):
        if _overlap(one.paths, other.paths) and other.name not in told:
            told.add(other.name)
            build.wrong_factor(other.name, f"changes what `{one.name}` changes; vary one of them, or one at a time")
    points = build.asked.size or build.section.points
    if build.method == "sobol" and (points < 2 or points & (points - 1)):
        option = f"{'points' if build.asked.said else 'size'} {points}" if build.asked.size else None
        build.wrong(
            ("points",), f"must be a power of two, 2 or more, as Sobol' sequences have it; got {points}", option
        )


def _overlap(some: Iterable[str], others: Sequence[str]) -> bool:
    return any(a == b or a.startswith(f"{b}.") or b.startswith(f"{a}.") for a in some for b in others)


def _range(lever: Lever, text: str, by: float) -> tuple[float, float]:
    """Return the ends of a factor's range as multiples of what it is now. Raises LeverError."""
    from .levers import LeverError

    told = text.strip()
    if not told:
        return 1 - by, 1 + by
    try:
        around = _SHARE.fullmatch(told)
        if around is not None:
            share = units.parse(around[1], units.SHARE)
            if not 0 < share < 1:
                raise LeverError(f"must be a share above 0 and below 100 %; got `{text}`")
            return 1 - share, 1 + share
        low, dots, high = told.partition("..")
        if not dots:
            raise LeverError(f"must be a range such as `200 ms..1 s`, or `±20 %`; got `{text}`")
        ends = [units.parse(_number(one), lever.dimension or units.NUMBER) for one in (low, high)]
    except LeverError:
        raise
    except ValueError as error:
        raise LeverError(str(error)) from None
    if not 0 < ends[0] < ends[1]:
        raise LeverError(f"must rise from above 0, as in `200 ms..1 s`; got `{text}`")
    if lever.is_whole and any(end != round(end) for end in ends):
        raise LeverError(f"must be whole numbers, as in `1..4`; got `{text}`")
    scale = 1.0 if lever.dimension is None and not lever.is_whole else lever.amount
    return ends[0] / scale, ends[1] / scale


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text.strip()


def unit_of_metric(scenario: Scenario, metric: str) -> str:
    """Return the unit of a metric, as reports have it. Raises SensitivityError for what is none."""
    from .slo import no_such_metric, quantity_of, unmeasured

    quantity = quantity_of(metric)
    if quantity is None:
        raise SensitivityError(f"{no_such_metric(metric)}; got `{metric}`")
    for problem in unmeasured({metric: 0.0}, scenario.workload.problems):
        raise SensitivityError(problem.message)
    return _UNITS.get(quantity.dimension.name, "")


_UNITS = {
    units.DURATION.name: "s", units.SHARE.name: "share", units.RATE.name: "1/s", units.SIZE.name: "B",
    units.MONEY.name: "USD", units.TOKENS.name: "tokens",
}  # fmt: skip


def _need_salib() -> None:
    from importlib.util import find_spec

    if find_spec("SALib") is None:
        raise SensitivityError(
            "the method `morris` needs the package SALib: try `pip install 'coordsim[sensitivity]'`, or `--method tornado`"
        )


def _unstable(chosen: Sequence[tuple[Lever, PlannedFactor, float, float]], base: str) -> Iterable[str]:
    """Yield which queue cannot be stable: in the scenario as it is, else at which ends of ranges."""
    from .bounds import bounds

    already = bounds(scenario_of(base)).unstable
    if already:
        yield f"times say how long the run was: {already[0]}"
        return
    for _, planned, _, _ in chosen:
        for side in (planned.low, planned.high):
            if side is not None and planned.kind in ("time", "load", "capacity", "rate", "size"):
                bad = bounds(scenario_of(side.key)).unstable
                if bad:
                    yield f"at {planned.name} = {side.text} times say how long the run was: {bad[0]}"


def run_sensitivity(
    scenario: Scenario,
    plan: SensitivityPlan[str],
    *,
    replications: int | None = None,
    workers: int | Workers = 1,
    journal: Journal | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> SensitivityResult:
    """Run a plan with the scenario's seed, replications (unless told), warm-up and confidence."""
    settings = Settings(
        replications=replications or scenario.replications,
        warmup=scenario.workload.warmup,
        confidence=scenario.confidence,
    )
    return run_plan(
        simulate_text, plan, seed=scenario.seed, settings=settings, workers=workers, journal=journal, progress=progress
    )


def sensitivity(
    scenario: Scenario,
    factors: Mapping[str, str] | Sequence[str] | None = None,
    *,
    metric: str | Sequence[str] | None = None,
    by: float | str | None = None,
    method: Method | None = None,
    size: int | None = None,
    replications: int | None = None,
    workers: int | Workers = 1,
) -> SensitivityResult:
    """Return how much a metric owes to each factor: `{"search": "±20 %"}`, or names alone; all levers where none are given.

    `by` is a share, such as 0.05 or '5 %'; `size` counts trajectories (morris) or points (sobol). What is left out is as the
    scenario's section `sensitivity` has it. Raises SensitivityError or ScenarioError.
    """
    given = factors if factors is None or isinstance(factors, Mapping) else dict.fromkeys(factors, "")
    metrics = [metric] if isinstance(metric, str) else metric
    asked = Asked(given, metrics, None if by is None else share_of(by), _method(method), size, "")
    return run_sensitivity(scenario, make_plan(scenario, asked), replications=replications, workers=workers)


def share_of(value: float | str, what: str = "by") -> float:
    """Return a share between 0 and 1, both excluded. Raises SensitivityError."""
    try:
        share = units.parse(value, units.SHARE)
    except ValueError as error:
        raise SensitivityError(f"{what} {error}") from None
    if not 0 < share < 1:
        raise SensitivityError(f"{what} must be above 0 and below 100 %; got {value}")
    return share


def _method(name: Any) -> Method | None:
    if name is not None and name not in get_args(Method):
        raise SensitivityError(f"method must be tornado, morris or sobol; got `{name}`")
    return name  # type: ignore[no-any-return]
