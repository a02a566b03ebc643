"""What a run says, in numbers with intervals, counts and doubts: frozen, and written to and read from JSON.

The JSON has the fields of `Summary` by name. Numbers are not rounded. An estimate is
`{value, low, high, confidence, n, method}`; what JSON cannot say is null: a `value` that was not observed, an end of an
interval that is not known (`low` then stands for minus and `high` for plus infinity). A capacity without limit is null.

    coordsim_summary   1, the version of this format
    scenario, seed, replications, confidence; 0 replications: the tasks were measured, and intervals are over tasks
    tasks              {arrived, done, failed, unfinished, observed}: over all replications
    metrics            {name: estimate}; `unit_of` tells the unit
    categories         {category: {seconds, share}} of mean T_total; the seconds sum to its mean, the shares to 1
    components         [{category, component, name, seconds, share}], a row per account of the ledger
    classes            {task class: {name: estimate}}
    resources          [{kind, name, capacity, metrics}]
    facts              {name: estimate}: counts per task that ended
    failures           {reason: tasks}
    reliability        {causes, calls, availability, roots, failed, wrong, late}: what went wrong, see `Reliability`; all
                       empty where nothing could
    samples            {name: [number of each replication]}, of every metric, objective, category and fact (`_mean`), and
                       `utilization.NAME` of each resource that has one: what a pairing needs
    warmup             {mode, seconds, tasks, trusted}
    little             {observed, expected}: the self-check by Little's law
    stability          [settled, grows or unknown], one a replication
    objectives         [{metric, threshold, sense, estimate, verdict}], and `verdict` on all of them (null: none)
    precision          {target, reached, worst, relative_error}, or null when none was asked for
    times              {shares: [...], rows: [[...]]}: quantiles of T_total of tasks done (s), a row a replication
    largest, warnings, doubts: sentences; `doubts` are what the models say about their own numbers

Leaves out: rounding and units, which are the report's.
Checked: tests/test_summary.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, TypeVar, cast

from ..engine.errors import CoordsimError
from ..engine.incidents import Calls
from .root_cause import CallRow, CauseRow
from .slo import Sense, Verdict
from .statistics import Estimate, LittlesLaw

VERSION = 1
KEY = "coordsim_summary"

T = TypeVar("T")


class SummaryError(CoordsimError):
    """A summary that cannot be read: not one, damaged, or of another version."""


@dataclass(frozen=True, slots=True)
class Tasks:
    """How many tasks there were in all replications; `observed` were neither cut off as warm-up nor unfinished."""

    arrived: int
    done: int
    failed: int
    unfinished: int
    observed: int


@dataclass(frozen=True, slots=True)
class Part:
    """A part of T_total: mean seconds a task, and the share of all seconds."""

    seconds: Estimate
    share: Estimate


@dataclass(frozen=True, slots=True)
class Component:
    """The part of T_total in one account of the ledger."""

    category: str
    component: str
    name: str
    seconds: Estimate
    share: Estimate


@dataclass(frozen=True, slots=True)
class Resource:
    """What a resource did; `metrics` are those its kind has (see `measure.resource`)."""

    kind: str
    name: str
    capacity: float | None
    metrics: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True)
class Warmup:
    """What was cut off: tasks that arrived in the first `seconds` (a mean over replications), `tasks` of each.

    `mode` is auto (MSER-5), fixed or none. Not `trusted`: no steady part was found, and nothing was cut.
    """

    mode: Literal["auto", "fixed", "none"]
    seconds: float
    tasks: float
    trusted: bool


@dataclass(frozen=True, slots=True)
class Judged:
    """An objective, the estimate it is about, and the verdict."""

    metric: str
    threshold: float
    sense: Sense
    estimate: Estimate
    verdict: Verdict

    @property
    def margin(self) -> float:
        """How far within its threshold the value is, as a share of the threshold: below 0 beyond it; nan where nothing tells."""
        if not self.threshold:
            return math.nan
        gap = self.threshold - self.estimate.value
        return (gap if self.sense == "<=" else -gap) / abs(self.threshold)


@dataclass(frozen=True, slots=True)
class Reached:
    """How near the replications came to the precision asked for: the relative error of the `worst` metric."""

    target: float
    reached: bool
    worst: str
    relative_error: float


@dataclass(frozen=True, slots=True)
class Root:
    """Tasks that failed or were late for one cause, by one path from where it struck to what it came to."""

    cause: str
    path: str
    failed: int
    late: int


@dataclass(frozen=True, slots=True)
class Reliability:
    """What went wrong in whole runs, warm-up included, summed over replications; empty where nothing could.

    `availability` is of the components that were ever down. Of tasks, `failed` did not end well (wrong ones included),
    `wrong` were done with a wrong result that nobody found, and `late` were done beyond a limit of the SLO. `roots`
    name the cause of each of these tasks: their numbers sum to `failed` and `late`.
    """

    causes: tuple[CauseRow, ...] = ()
    calls: tuple[CallRow, ...] = ()
    availability: Mapping[str, Estimate] = field(default_factory=dict)
    roots: tuple[Root, ...] = ()
    failed: int = 0
    wrong: int = 0
    late: int = 0

    @property
    def empty(self) -> bool:
        """Whether nothing could go wrong: no cause, and no call that was looked after."""
        return not (self.causes or self.calls)


@dataclass(frozen=True, slots=True)
class Quantiles:
    """T_total of tasks done at some `shares` of them (s), a row a replication: how it is distributed, small enough to keep."""

    shares: tuple[float, ...]
    rows: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """All replications of one scenario, summed up. The fields are explained above."""

    scenario: str
    seed: int
    replications: int
    confidence: float
    tasks: Tasks
    metrics: Mapping[str, Estimate]
    categories: Mapping[str, Part]
    components: tuple[Component, ...]
    classes: Mapping[str, Mapping[str, Estimate]]
    resources: tuple[Resource, ...]
    facts: Mapping[str, Estimate]
    failures: Mapping[str, int]
    samples: Mapping[str, tuple[float, ...]]
    warmup: Warmup
    little: LittlesLaw
    stability: tuple[str, ...]
    objectives: tuple[Judged, ...]
    verdict: Verdict | None
    precision: Reached | None
    largest: str
    warnings: tuple[str, ...]
    doubts: tuple[str, ...]
    reliability: Reliability = Reliability()
    times: Quantiles | None = None

    @property
    def measured(self) -> bool:
        """Whether the tasks were measured and not simulated."""
        return self.replications == 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {KEY: VERSION, **_write(self)}

    @classmethod
    def from_dict(cls, data: object) -> Summary:
        """Read what `to_dict` wrote. Raises SummaryError when it is damaged or of another version."""
        checked = _checked(data)
        try:
            return _read(checked)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"`{error.args[0]}` is missing" if isinstance(error, KeyError) else str(error)
            raise SummaryError(f"the summary is damaged: {what}; run the scenario again") from error


def unit_of(metric: str) -> str:
    """Return the unit of a metric: 's', '1/s', 'share', or '' for a plain number.

    >>> unit_of("response_time_p95"), unit_of("throughput"), unit_of("coordination_share"), unit_of("queue_length")
    ('s', '1/s', 'share', '')
    """
    if metric in ("throughput", "goodput", "arrival_rate", "iterations"):
        return "1/s"
    if metric in _SHARES or metric.endswith("_share") or metric.startswith("pass_at_"):
        return "share"
    return "s" if metric == "waiting_time" or metric.startswith(_SECONDS) else ""


_SHARES = ("success", "attainment", "utilization", "offered", "rejected", "availability", "recovery_share_ended")
_SECONDS = ("ttft_", "ttfa_", "tpot_", "response_time_", "coordination_", "straggler_excess_", "overlapped_")


def _checked(data: object) -> dict[str, Any]:
    if not isinstance(data, dict) or not isinstance(data.get(KEY), int) or data[KEY] < 1:
        raise SummaryError(f"not a summary: it must be a mapping with `{KEY}: {VERSION}`")
    if data[KEY] > VERSION:
        raise SummaryError(
            f"the summary has version {data[KEY]}, and this coordsim reads up to {VERSION}; install a newer coordsim"
        )
    return cast(dict[str, Any], data)


def _write(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: _write(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _write(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_write(one) for one in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value


def _read(data: dict[str, Any]) -> Summary:
    given = {one.name: data[one.name] for one in fields(Summary) if one.name not in _LATER}
    precision = given["precision"]
    return Summary(
        **given
        | {
            "tasks": _plain(Tasks, given["tasks"]),
            "metrics": _each(given["metrics"], _estimate),
            "categories": _each(given["categories"], _part),
            "components": tuple(_component(one) for one in given["components"]),
            "classes": _each(given["classes"], _estimates),
            "resources": tuple(_resource(one) for one in given["resources"]),
            "facts": _estimates(given["facts"]),
            "failures": dict(given["failures"]),
            "samples": _each(given["samples"], lambda values: tuple(_number(one) for one in values)),
            "warmup": _plain(Warmup, given["warmup"]),
            "little": LittlesLaw(_number(given["little"]["observed"]), _number(given["little"]["expected"])),
            "stability": tuple(given["stability"]),
            "objectives": tuple(_judged(one) for one in given["objectives"]),
            "precision": None if precision is None else _reached(precision),
            "warnings": tuple(given["warnings"]),
            "doubts": tuple(given["doubts"]),
            "reliability": _reliability(data.get("reliability") or {}),
            "times": _quantiles(data.get("times")),
        }
    )


def _each(data: Mapping[str, Any], read: Callable[[Any], T]) -> dict[str, T]:
    return {name: read(one) for name, one in data.items()}


def _plain(cls: type[T], data: Mapping[str, Any]) -> T:
    return cls(**{one.name: data[one.name] for one in fields(cast(Any, cls))})


def _number(value: float | None, missing: float = math.nan) -> float:
    return missing if value is None else float(value)


def _estimate(data: Mapping[str, Any]) -> Estimate:
    return Estimate(
        _number(data["value"]),
        _number(data["low"], -math.inf),
        _number(data["high"], math.inf),
        data["confidence"],
        data["n"],
        data["method"],
    )


def _estimates(data: Mapping[str, Any]) -> dict[str, Estimate]:
    return _each(data, _estimate)


def _part(data: Mapping[str, Any]) -> Part:
    return Part(_estimate(data["seconds"]), _estimate(data["share"]))


def _component(data: Mapping[str, Any]) -> Component:
    part = _part(data)
    return Component(data["category"], data["component"], data["name"], part.seconds, part.share)


def _resource(data: Mapping[str, Any]) -> Resource:
    return Resource(data["kind"], data["name"], data["capacity"], _estimates(data["metrics"]))


def _judged(data: Mapping[str, Any]) -> Judged:
    return Judged(data["metric"], data["threshold"], data["sense"], _estimate(data["estimate"]), data["verdict"])


def _quantiles(data: Mapping[str, Any] | None) -> Quantiles | None:
    if data is None:
        return None
    return Quantiles(tuple(data["shares"]), tuple(tuple(map(_number, row)) for row in data["rows"]))


def _reached(data: Mapping[str, Any]) -> Reached:
    return Reached(data["target"], data["reached"], data["worst"], _number(data["relative_error"], math.inf))


def _reliability(data: Mapping[str, Any]) -> Reliability:
    return Reliability(
        tuple(
            CauseRow(**one | {"outcomes": dict(one["outcomes"]), "blast_radius": _estimate(one["blast_radius"])})
            for one in data.get("causes", ())
        ),
        tuple(
            CallRow(
                one["component"], _plain(Calls, one["totals"]), **{name: _estimate(one[name]) for name in _OF_CALLS}
            )
            for one in data.get("calls", ())
        ),
        _estimates(data.get("availability", {})),
        tuple(_plain(Root, one) for one in data.get("roots", ())),
        *(data.get(name, 0) for name in ("failed", "wrong", "late")),
    )


_LATER = ("reliability", "times")  # summaries were once without
_OF_CALLS = ("amplification", "per_task", "failed", "rejected", "wasted")
