"""Studies: scenarios × points of a design × seeds, each a cell, and one tidy table of what came out.

All cells of one seed meet the same draws (common random numbers), replication by replication, so that differences between them are
known better than either.

Leaves out: designs (`design`), what the table says (`study_effects`), and writing it down (`report.study_answers`).
Checked: tests/test_study.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..engine.errors import CoordsimError
from ..engine.ledger import CATEGORIES
from .cells import Cell, Journal, Outcome, run_cells
from .design import Value, amount_of
from .jobs import Simulate, Workers, opened
from .replicate import Progress, Settings
from .slo import full_name, parse_metric
from .statistics import Estimate
from .summary import Quantiles, Summary
from .summary import unit_of as unit_of_metric

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = [
    "Column",
    "Level",
    "PlannedCell",
    "Study",
    "StudyCell",
    "StudyFactor",
    "StudyInterrupted",
    "StudyResult",
    "run_study",
]

S = TypeVar("S")
Typed = bool | int | float | str | None

OK, FAILED = "ok", "failed"
UTILIZATION = "utilization."
_HEADLINE = {
    "response_time_mean": "mean T_total of a task",
    "response_time_p50": "median of T_total",
    "response_time_p95": "95th percentile of T_total",
    "response_time_p99": "99th percentile of T_total",
    "coordination_mean": "mean T_coordination of a task",
    "coordination_share": "T_coordination as a share of T_total",
    "throughput": "tasks done, per second",
    "goodput": "tasks done within the SLO, per second",
    "success": "share of tasks that were done",
}
_FACTS = {"cost_mean": "mean cost of a task", "bytes_mean": "mean bytes sent for a task"}
_HELD = ("cell", "scenario", "seed")


class StudyInterrupted(CoordsimError):
    """The user stopped the study; `done` of `total` cells are complete."""

    def __init__(self, done: int, total: int) -> None:
        self.done, self.total = done, total
        super().__init__(f"interrupted; {done} of {total} cells are complete")


@dataclass(frozen=True, slots=True)
class Level:
    """The value of a factor in a cell: as `text`, and as what it is: a number in base units, a truth value, or the text.

    Both say nothing ('' and None) where a row of a list leaves the factor as the scenario has it.
    """

    text: str
    value: Typed


@dataclass(frozen=True, slots=True)
class StudyFactor:
    """A factor: its path, and the base unit of its values ('' for plain numbers, texts and truth values)."""

    path: str
    unit: str
    is_number: bool

    @classmethod
    def of(cls, path: str, values: Sequence[Value]) -> tuple[StudyFactor, list[Level]]:
        """Return the factor with these values, and the level of each; None is a value that is not given."""
        given = [one for one in values if one is not None]
        amounts = [amount_of(one) for one in given]
        kinds = {None if one is None else one[1] for one in amounts}
        if given and len(kinds) == 1 and None not in kinds:
            unit = next(one[1].base for one in amounts if one is not None)
            whole = all(isinstance(one, int) for one in given)
            levels = [Level(told(one), _amount(one, whole)) for one in values]
            return cls(path, "1/s" if unit == "/ s" else unit, True), levels
        truths = bool(given) and all(isinstance(one, bool) for one in given)
        return cls(path, "", False), [
            Level(told(one), None if one is None else one if truths else told(one)) for one in values
        ]


def _amount(value: Value, whole: bool) -> Typed:
    found = None if value is None else amount_of(value)
    return None if found is None else int(found[0]) if whole else found[0]


def told(value: Value) -> str:
    """Return a value as YAML writes it on one line.

    >>> told({"poisson": "0.5 / s"}), told([1, 2]), told("ideal"), told(True), told(None)
    ('{poisson: 0.5 / s}', '[1, 2]', 'ideal', 'true', '')
    """
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {told(one)}' for key, one in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(told, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return "" if value is None else str(value)


@dataclass(frozen=True, slots=True)
class PlannedCell:
    """A cell to run: `number` counts from 1, `point` says which cells differ only in scenario or seed."""

    number: int
    scenario: str
    point: int
    levels: tuple[Level, ...]
    seed: int
    key: str
    settings: Settings


@dataclass(frozen=True, slots=True)
class Study(Generic[S]):
    """What to run: `variants` by key. `identity` is plain data which says all that decides the numbers, and `doubts` what is doubtful.

    `metric` is what the report is about.
    """

    design: str
    factors: tuple[StudyFactor, ...]
    cells: tuple[PlannedCell, ...]
    variants: Mapping[str, S]
    metric: str
    identity: Mapping[str, Any]
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Column:
    """A metric of the table: its name, unit ('s', '1/s', 'share', 'B', 'tokens', 'USD' or '' for a number) and meaning."""

    name: str
    unit: str
    meaning: str


@dataclass(frozen=True, slots=True)
class StudyCell:
    """A cell and what it measured: `estimates` and the number of each replication (`samples`) by metric; empty if it failed.

    `times` are quantiles of T_total in each replication (None where one had no task done).
    """

    number: int
    scenario: str
    point: int
    seed: int
    levels: tuple[Level, ...]
    replications: int = 0
    tasks: int = 0
    estimates: Mapping[str, Estimate] = field(default_factory=dict)
    samples: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    verdict: str | None = None
    failure: str = ""
    warnings: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    times: Quantiles | None = None

    @property
    def status(self) -> str:
        """Whether there are numbers: 'ok' or 'failed'."""
        return FAILED if self.failure else OK


@dataclass(frozen=True, slots=True)
class StudyResult:
    """All cells in order, the `columns` that any of them measured, and the main metric."""

    design: str
    factors: tuple[StudyFactor, ...]
    columns: tuple[Column, ...]
    cells: tuple[StudyCell, ...]
    metric: str
    confidence: float
    identity: Mapping[str, Any]
    doubts: tuple[str, ...] = ()

    @property
    def scenarios(self) -> tuple[str, ...]:
        """The scenarios, in order."""
        return tuple(dict.fromkeys(one.scenario for one in self.cells))

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, in order."""
        return tuple(dict.fromkeys(one.seed for one in self.cells))

    @property
    def failed(self) -> tuple[StudyCell, ...]:
        """The cells that failed."""
        return tuple(one for one in self.cells if one.failure)

    @property
    def judged(self) -> bool:
        """Whether any cell has an SLO."""
        return any(one.verdict for one in self.cells)

    def column(self, name: str) -> Column:
        """Return a column by its metric's name. Raises KeyError."""
        return {one.name: one for one in self.columns}[name]

    def wide(self) -> Iterator[tuple[str, str, str, list[Any]]]:
        """Yield the wide table, a row a cell: each column's name, unit, meaning, and values (None or nan: none)."""
        cells = self.cells
        yield "cell", "", "number of the cell", [one.number for one in cells]
        yield "scenario", "", "name of the scenario", [one.scenario for one in cells]
        yield "seed", "", "seed of the draws", [one.seed for one in cells]
        for place, factor in enumerate(self.factors):
            yield factor.path, factor.unit, "factor", [one.levels[place].value for one in cells]
        yield "replications", "", "independent runs", [one.replications for one in cells]
        yield "tasks", "", "tasks that arrived in all replications", [one.tasks for one in cells]
        for column in self.columns:
            found = [one.estimates.get(column.name) for one in cells]
            sure = f"{100 * self.confidence:g} % interval"
            yield column.name, column.unit, column.meaning, [math.nan if one is None else one.value for one in found]
            for end in ("low", "high"):
                ends = [math.nan if one is None or math.isnan(one.value) else getattr(one, end) for one in found]
                values = [one if math.isfinite(one) else math.nan for one in ends]  # CSV leaves such an end empty
                yield f"{column.name}_{end}", column.unit, f"{end} end of the {sure}", values
        if self.judged:
            yield "verdict", "", "of the SLO: pass, fail or inconclusive", [one.verdict for one in cells]
        yield "status", "", "ok or failed", [one.status for one in cells]
        yield "failure", "", "why a cell failed", [one.failure or None for one in cells]

    def to_frame(self) -> pd.DataFrame:
        """Return the wide table, a row a cell: cell, scenario, seed, factors, replications, tasks, and of each metric its value, `_low` and `_high`.

        Factors that are amounts are in base units. `frame.attrs['units']` holds the unit of each column that has one.
        """
        import pandas as pd

        columns = list(self.wide())
        frame = pd.DataFrame({name: values for name, _, _, values in columns})
        frame.attrs["units"] = {name: unit for name, unit, _, _ in columns if unit}
        return frame

    def to_table(self) -> pa.Table:
        """Return the wide table for Parquet: each field's metadata holds its `unit` and `meaning`; null where there is no number."""
        import pyarrow as pa

        fields, arrays = [], []
        for name, unit, meaning, values in self.wide():
            known = [None if isinstance(one, float) and math.isnan(one) else one for one in values]
            arrays.append(pa.array(known, type=_arrow_type(known)))
            fields.append(pa.field(name, arrays[-1].type, metadata={"unit": unit, "meaning": meaning}))
        return pa.table(arrays, schema=pa.schema(fields))

    def samples(self) -> pd.DataFrame:
        """Return a long frame: a row per cell, replication and metric: cell, scenario, seed, replication, metric, unit, value."""
        import pandas as pd

        frame = pd.DataFrame(list(self.sample_rows()), columns=[*_HELD, "replication", "metric", "unit", "value"])
        return frame.astype({"value": float})

    def sample_rows(self) -> Iterator[tuple[int, str, int, int, str, str, float]]:
        """Yield the rows of `samples`, by cell, metric and replication."""
        for cell in self.cells:
            for column in self.columns:
                for number, value in enumerate(cell.samples.get(column.name, ())):
                    yield cell.number, cell.scenario, cell.seed, number, column.name, column.unit, value


def _arrow_type(values: Sequence[Any]) -> Any:
    """Return the type of a column, also of one that holds nothing: then a number."""
    import pyarrow as pa

    kinds = {type(one) for one in values if one is not None}
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {int}:
        return pa.int64()
    return pa.string() if str in kinds else pa.float64()


def run_study(
    simulate: Simulate[S],
    study: Study[S],
    *,
    workers: int | Workers = 1,
    journal: Journal | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> StudyResult:
    """Run all cells and return the table; no number in it depends on `workers`, or on what the `journal` had already.

    Raises StudyInterrupted on a keyboard interrupt, and WorkerError when workers keep dying; the journal keeps what is complete.
    """
    found: dict[int, StudyCell] = {}
    groups: dict[Settings, list[PlannedCell]] = {}
    for one in study.cells:
        groups.setdefault(one.settings, []).append(one)
    tell = None if progress is None else _Whole(progress, {one: len(cells) for one, cells in groups.items()})
    try:
        with opened(workers) as crew:
            for settings, cells in groups.items():
                jobs = [Cell(one.key, study.variants[one.key], one.seed, f"cell {one.number}") for one in cells]
                outcomes = run_cells(simulate, jobs, settings, workers=crew, journal=journal, progress=tell)
                with closing(outcomes):
                    for place, outcome in outcomes:
                        found[cells[place].number] = _measured(cells[place], outcome)
                if tell is not None:
                    tell.end(settings)
    except KeyboardInterrupt:
        raise StudyInterrupted(len(found), len(study.cells)) from None
    ordered = tuple(found[one.number] for one in study.cells)
    return StudyResult(
        design=study.design,
        factors=study.factors,
        columns=tuple(_columns(ordered)),
        cells=ordered,
        metric=study.metric,
        confidence=study.cells[0].settings.confidence,
        identity=study.identity,
        doubts=(*study.doubts, *dict.fromkeys(doubt for one in ordered for doubt in one.doubts)),
    )


class _Whole:
    """Tells of a whole study, given the progress of one group of its cells after the other; `groups` are their sizes."""

    def __init__(self, tell: Callable[[Progress], None], groups: Mapping[Settings, int]) -> None:
        self.tell, self.left, self.total = tell, dict(groups), sum(groups.values())
        self.done = self.cells = 0
        self.now = next(iter(groups))
        self.latest = Progress(0, 0)

    def __call__(self, one: Progress) -> None:
        """Tell of the group at hand, those before it and those to come."""
        self.latest = one
        later = (
            sum(count * each.first_round for each, count in self.left.items())
            - self.left[self.now] * self.now.first_round
        )
        cells = None if one.cells is None else (self.cells + one.cells[0], self.total)
        self.tell(replace(one, done=self.done + one.done, planned=self.done + one.planned + later, cells=cells))

    def end(self, settings: Settings) -> None:
        """Go on to the next group."""
        self.done += self.latest.done
        self.cells += self.left.pop(settings)
        self.now = next(iter(self.left), settings)


def _measured(cell: PlannedCell, outcome: Outcome) -> StudyCell:
    held = cell.number, cell.scenario, cell.point, cell.seed, cell.levels
    summary = outcome.summary
    if summary is None:
        return StudyCell(*held, failure=outcome.failure or "no reason was given")
    estimates = dict(_estimates(summary, cell.settings))
    samples = {name: tuple(summary.samples[name]) for name in estimates if name in summary.samples}
    return StudyCell(
        *held,
        replications=summary.replications,
        tasks=summary.tasks.arrived,
        estimates=estimates, samples=samples, verdict=summary.verdict,
        warnings=summary.warnings, doubts=summary.doubts, times=summary.times,
    )  # fmt: skip


def _estimates(summary: Summary, settings: Settings) -> Iterator[tuple[str, Estimate]]:
    """Yield the metrics of a cell by name: the headline, categories, facts, resources, and what was asked for."""
    for name in _HEADLINE:
        if name in summary.metrics:
            yield name, summary.metrics[name]
    for name, part in summary.categories.items():
        yield f"{name}_mean", part.seconds
    for name in _FACTS:
        if name.removesuffix("_mean") in summary.facts:
            yield name, summary.facts[name.removesuffix("_mean")]
    for one in summary.resources:
        if "utilization" in one.metrics:
            yield f"{UTILIZATION}{one.name}", one.metrics["utilization"]
    for judged in summary.objectives:
        yield full_name(judged.metric), judged.estimate
    for name in map(full_name, settings.metrics):
        yield name, summary.metrics[name]


def _columns(cells: Sequence[StudyCell]) -> Iterator[Column]:
    """Yield the columns that any cell has, the standard ones first, in the same order whichever cell has them."""
    standard = (*_HEADLINE, *(f"{name}_mean" for name in CATEGORIES), *_FACTS)
    present = dict.fromkeys(name for one in cells for name in one.estimates)
    used = sorted(name for name in present if name.startswith(UTILIZATION))
    rest = [name for name in present if name not in standard and not name.startswith(UTILIZATION)]
    for name in (*(one for one in standard if one in present), *used, *rest):
        yield Column(name, unit_of_column(name), _meaning(name))


def unit_of_column(name: str) -> str:
    """Return the unit of a metric by its full name: 's', '1/s', 'share', 'B', 'tokens', 'USD', or '' for a number.

    >>> unit_of_column("tool_mean"), unit_of_column("cost_p95"), unit_of_column("utilization.models.llm")
    ('s', 'USD', 'share')
    """
    if name.startswith(UTILIZATION):
        return "share"
    try:
        quantity = parse_metric(name).quantity
    except ValueError:
        return unit_of_metric(name)
    if quantity in CATEGORIES or quantity in ("ttft", "ttfa", "wasted") or quantity.startswith("straggler_"):
        return "s"
    if quantity.endswith("_tokens"):
        return "tokens"
    return {"bytes": "B", "state_bytes": "B", "cost": "USD"}.get(quantity) or unit_of_metric(name)


def _meaning(name: str) -> str:
    if name.startswith(UTILIZATION):
        return f"share of the capacity of {name.removeprefix(UTILIZATION)} in use"
    told_of = _HEADLINE.get(name) or _FACTS.get(name)
    if told_of is not None:
        return told_of
    category = name.removesuffix("_mean")
    if category in CATEGORIES:
        return f"mean time of a task in {category}"
    quantity, _, statistic = name.rpartition("_")
    return f"{statistic} of {quantity} of a task" if quantity else name
