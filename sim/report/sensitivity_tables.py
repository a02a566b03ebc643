"""What a sensitivity says: which component is worth most, then swings, marginal values, and the measures of several factors.

JSON holds the fields of `SensitivityResult` by name, and the sentence; docs/sensitivity.md explains it. CSV is tidy: a number a row.
Numbers in both are not rounded; what is not known is null, or empty.

Leaves out: how it looks on a terminal (`layout`); the charts (`sections.sensitivity`).
Checked: tests/test_sensitivity_command.py.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

from ..analysis.sensitivity import FactorResult, Response, SensitivityResult
from ..analysis.sensitivity_global import MorrisMeasures, SobolMeasures
from ..analysis.statistics import Estimate
from ..engine.units import significant
from .compare_words import replications
from .files import plain_data
from .layout import Report, Table, bar
from .numbers import NOTHING, listed, show, wide

KEY, VERSION = "coordsim_sensitivity", 1
COLUMNS = ("factor", "kind", "metric", "measure", "at", "value", "low", "high", "unit")
NAMES = {"response_time_mean": "mean T_total"}
_MOST = 24  # rows of a table
_WIDE = 14  # of the bars of a tornado, both sides together
_LEVER = {
    "time": "faster",
    "rate": "more of",
    "capacity": "more of",
    "size": "less of",
    "share": "less of",
    "load": "less",
}
KNOWN = 0.8  # of the sum of first orders: where its interval goes below, a fifth of the variance may be interactions
LITTLE = 0.001  # %, below which no digits are told
_UP = ("rate", "capacity")  # levers of which more is what one buys


def report(found: SensitivityResult) -> Report:
    """Return the report."""
    heading = (
        f"{found.scenario}: what {listed([name_of(one) for one in found.metrics])} {'owes' if len(found.metrics) == 1 else 'owe'} to each factor",
        f"seed {found.seed}; {replications(found.replications)} of each of {found.cells} cells; {_how(found)}",
    )
    tables: list[Table] = []
    if found.method == "tornado":
        tables += [tornado_table(found, metric) for metric in found.metrics]
        tables += [*marginal_tables(found, whole=True), *marginal_tables(found, whole=False)]
    for metric in found.metrics:
        if metric in found.morris:
            tables.append(morris_table(found, metric, found.morris[metric]))
        if metric in found.sobol:
            tables.append(sobol_table(found, metric, found.sobol[metric]))
    return Report(heading, statement(found), tuple(tables), tuple(notes(found)))


def name_of(metric: str) -> str:
    """Return what a metric is called: `p95` of the response time by that alone."""
    return NAMES.get(metric, metric.removeprefix("response_time_"))


def statement(found: SensitivityResult) -> str:
    """Return the answer in words: the component whose speed is worth most, or the factor that matters most."""
    if found.method == "tornado":
        return _most_valuable(found)
    metric = found.metrics[-1]
    if metric in found.morris:
        first, told = found.morris[metric].factors[0], found.units[metric]
        count = sum(one.verdict != "negligible" for one in found.morris[metric].factors)
        return (
            f"{name_of(metric)} depends most on {first.name}: over its range it changes by {show(first.mu_star, told).text} on "
            f"average ({first.verdict}); {count} of {len(found.morris[metric].factors)} factors are not negligible."
        )
    if metric in found.sobol:
        largest = found.sobol[metric].factors[0]
        if math.isnan(largest.total.value):
            return f"{name_of(metric)} does not vary at all."
        if largest.first.value > largest.total.value:  # impossible but by chance: a part is no more than the whole
            return (
                f"{largest.name} explains most of the variance of {name_of(metric)}; how much, {found.sobol[metric].points} points do "
                f"not tell: {_percent(largest.first)} alone and {_percent(largest.total)} with its interactions, of which the first can be "
                "no more than the second. More `--points` would."
            )
        return (
            f"{largest.name} explains {_percent(largest.first)} of the variance of {name_of(metric)} alone, and "
            f"{_percent(largest.total)} with its interactions. {interactions(found.sobol[metric])}"
        )
    return "Nothing could be measured: cells failed."


def _most_valuable(found: SensitivityResult) -> str:
    metric = found.metrics[-1]
    if math.isnan(found.base[metric].value):
        return (
            f"{name_of(metric)} was not observed in the scenario as it is: try more `--tasks`, or a `workload.warmup` of 0 s "
            "with `--set`."
        )
    known = [
        one for one in found.factors
        if one.factor.kind == "time" and one.responses and one.responses[metric].elasticity is not None
        and not is_member(found, one)
    ]  # fmt: skip
    if not known:
        ranked = found.ranked(metric)
        if not ranked:
            return "Nothing that was varied could be measured."
        best = ranked[0]
        told = f"{best.factor.name}: {_ends(best.responses[metric], found.units[metric])}"
        if not best.responses[metric].swing:
            return f"{name_of(metric)} is the same at both ends of every range."
        if not any(is_sure(one.responses[metric]) for one in ranked):
            return f"No change of {name_of(metric)} is beyond its interval: more replications would tell. The largest is with {told}."
        return f"{name_of(metric)} changes most with {told}."
    best = max(known, key=lambda one: _elasticity(one, metric).value)
    told = f"1 % faster {best.factor.name} {_saves(_elasticity(best, metric), name_of(metric))}"
    others = [f"{percent_shown(_elasticity(best, one))} of {name_of(one)}" for one in found.metrics[:-1]]
    more = f" (and {listed(others)})" if others else ""
    slope = _elasticity(best, metric)
    unsure = " That is less than its interval: more replications would tell." if slope.low <= 0 else ""
    bends = " It is not linear there." if best.responses[metric].bend == "bends" else ""
    rivals = ", more than any other part whose time was varied" if len(known) > 1 else ""
    return f"{told}{more}{rivals}.{unsure}{bends}"


def is_sure(response: Response) -> bool:
    """Whether the interval of a change, at either end, leaves out 0."""
    return any(one is not None and one.resolved and one.excludes(0) for one in (response.low, response.high))


def sure_ends(one: FactorResult, metric: str) -> list[tuple[Estimate, str]]:
    """Return the changes whose intervals leave out 0, each with what the factor is at that end."""
    response = one.responses[metric]
    ends = ((response.low, one.factor.low), (response.high, one.factor.high))
    return [
        (change, side.text)
        for change, side in ends
        if change is not None and side is not None and change.resolved and change.excludes(0)
    ]


def surest(found: SensitivityResult, metric: str) -> FactorResult | None:
    """Return the factor with the largest change whose interval leaves out 0; None where there is none."""
    known = [one for one in found.ranked(metric) if not one.failure and sure_ends(one, metric)]
    return max(known, key=lambda one: max(abs(change.value) for change, _ in sure_ends(one, metric)), default=None)


def is_member(found: SensitivityResult, one: FactorResult) -> bool:
    """Whether a factor is a lever of another one."""
    return any(one.factor.name in other.factor.members for other in found.factors)


def _elasticity(one: FactorResult, metric: str) -> Estimate:
    told = one.responses[metric].elasticity
    assert told is not None
    return told


def _saves(elasticity: Estimate, metric: str) -> str:
    return f"{'saves' if elasticity.value >= 0 else 'costs'} {percent_shown(elasticity)} of {metric}"


def percent_shown(elasticity: Estimate) -> str:
    """Return what 1 % does, in %, such as `0.31 % ± 0.05`."""
    if math.isnan(elasticity.value):
        return NOTHING
    value = abs(elasticity.value)
    if not elasticity.resolved:
        return f"{significant(value, 2)} % (no interval)"
    half = elasticity.half_width
    if 0 < value + half < LITTLE:
        return f"< {LITTLE:g} %"
    if half < 5e-4 * max(value, 1e-3):
        return f"{significant(value, 3)} %"
    places = max(0, min(4, 1 - math.floor(math.log10(half))))
    return f"{value:.{places}f} % ± {half:.{places}f}"


# ---------------------------------------------------------------------------------------------------------------------
# Tables


def tornado_table(found: SensitivityResult, metric: str) -> Table:
    """Return the changes of a metric at both ends of each factor, the largest swing first."""
    ranked = found.ranked(metric)
    moving = [one for one in ranked if not one.failure]
    widest = max((one.responses[metric].swing for one in moving), default=0.0)
    unit = found.units[metric]
    rows = []
    for one in moving[:_MOST]:
        response = one.responses[metric]
        rows.append(
            (one.factor.name, range_of(one), change_text(response.low, unit),
             change_text(response.high, unit), _bars(response, widest))
        )  # fmt: skip
    base = show(found.base[metric], unit).text
    left = len(moving) - len(rows)
    note = "bars: to the left what the metric loses, to the right what it gains; `-` at the low end of the factor, `+` at the high"
    if left > 0:
        note += f"; {left} with smaller swings are not shown"
    return Table(
        f"One at a time: {name_of(metric)} (now {base})", ("factor", "now -> low .. high", "at low", "at high", ""),
        "<<>><", tuple(rows), note,
    )  # fmt: skip


def change_text(change: Estimate | None, unit: str) -> str:
    """Return a change with its sign and its interval."""
    if change is None:
        return NOTHING
    shown = show(change, unit, wide(change))
    sign = "+" if change.value > 0 and any(digit in shown.value for digit in "123456789") else ""
    return f"{sign}{shown.text}"


def range_of(one: FactorResult) -> str:
    """Return what a factor is and its ends, with a unit that all have told once."""
    ends = [NOTHING if side is None else side.text for side in (one.factor.low, one.factor.high)]
    texts = [one.factor.now, *ends]
    parts = [text.partition(" ")[::2] for text in texts]
    if len({unit for _, unit in parts}) == 1 and parts[0][1]:
        now, low, high = (number for number, _ in parts)
        return f"{now} -> {low} .. {high} {parts[0][1]}"
    return f"{texts[0]} -> {ends[0]} .. {ends[1].removeprefix('x ') if ends[0].startswith('x ') else ends[1]}"


def _bars(response: Response, widest: float) -> str:
    """Return one bar for both ends, about a middle line: which end is which is said by the sign at its tip."""
    half = _WIDE // 2
    left, right = "", ""
    for end, mark in ((response.low, "-"), (response.high, "+")):
        if end is None or math.isnan(end.value) or not end.value or not widest:
            continue
        length = max(1, round(abs(end.value) / widest * (half - 1)))
        drawn = "█" * length
        if end.value < 0:
            left = max(left, mark + drawn, key=len)
        else:
            right = max(right, drawn + mark, key=len)
    return f"{left:>{half}}|{right}"


def marginal_tables(found: SensitivityResult, whole: bool) -> Iterator[Table]:
    """Yield the table of what 1 % is worth: of whole parts, or of single levers."""
    metric = found.metrics[-1]
    chosen = [
        one for one in found.factors
        if one.responses and not one.failure and one.responses[metric].elasticity is not None
        and (one.factor.kind == "time" and not is_member(found, one)) == whole
    ]  # fmt: skip
    if not chosen:
        return
    chosen.sort(key=lambda one: -abs(_elasticity(one, metric).value))
    rows = []
    for one in chosen[:_MOST]:
        cells = []
        for name in found.metrics:
            told = one.responses[name].elasticity
            cells.append(NOTHING if told is None else _signed(one, told))
            cells.append("not linear there" if one.responses[name].bend == "bends" else "")
        rows.append((f"1 % {_LEVER[one.factor.kind]} {one.factor.name}", *cells))
    columns = ("", *(part for name in found.metrics for part in (f"saves of {name_of(name)}", "")))
    title = "Marginal value of each part" if whole else "Marginal value of each lever"
    left = len(chosen) - len(rows)
    note = f"{left} more are worth less" if left > 0 else ""
    yield _without_blank(Table(title, columns, "<" + "><" * len(found.metrics), tuple(rows), note))


def _without_blank(table: Table) -> Table:
    from .layout import without_empty

    return without_empty(table, 1)


def _signed(one: FactorResult, elasticity: Estimate) -> str:
    saved = -elasticity.value if one.factor.kind in _UP else elasticity.value
    text = percent_shown(elasticity)
    return f"-{text}" if saved < 0 and text[0] != "<" and text.strip("0. %") else text


def morris_table(found: SensitivityResult, metric: str, measures: MorrisMeasures) -> Table:
    """Return the measures of Morris of a metric."""
    unit = found.units[metric]
    widest = measures.factors[0].mu_star.value
    rows = tuple(
        (one.name, show(one.mu_star, unit).text, show(one.sigma, unit).text, _sign(one.mu), one.verdict,
         bar(one.mu_star.value / widest, 12) if widest else "")
        for one in measures.factors
    )  # fmt: skip
    noise = show(Estimate(measures.noise, measures.noise, measures.noise, found.confidence, 1, ""), unit).value
    note = f"{measures.trajectories} trajectories; replications leave a standard error of {noise} in one effect"
    return Table(
        f"Morris screening: {name_of(metric)}, effect of the whole range", ("factor", "mu*", "sigma", "sign", "verdict", ""),
        "<>>><<", rows, note,
    )  # fmt: skip


def _sign(mu: float) -> str:
    return "+" if mu > 0 else "-" if mu < 0 else ""


def sobol_table(found: SensitivityResult, metric: str, measures: SobolMeasures) -> Table:
    """Return the indices of Sobol' of a metric."""
    rows = tuple(
        (one.name, *_index(one.first), *_index(one.total), bar(max(0.0, min(1.0, one.total.value)), 20))
        for one in measures.factors
    )
    noise = (
        "not known with one replication"
        if math.isnan(measures.noise)
        else f"{significant(100 * measures.noise, 2)} % of the variance"
    )
    note = f"{measures.points} points; standard deviation between points {_deviation(measures, found.units[metric])}; noise of replications: {noise}. {interactions(measures)}"
    return Table(
        f"Sobol' indices: {name_of(metric)}", ("factor", "first order", "", "total", "", ""), "<><><<", rows, note
    )


def _deviation(measures: SobolMeasures, unit: str) -> str:
    value = math.sqrt(measures.variance)
    return show(Estimate(value, -math.inf, math.inf, 0.95, 1, ""), unit).value


def interactions(measures: SobolMeasures) -> str:
    """Return what the sum of first orders says of interactions."""
    total = measures.first_sum
    if math.isnan(total.value):
        return ""
    told = f"First orders sum to {total.value:.2f} [{total.low:.2f}, {total.high:.2f}]"
    if total.low > 1:
        return f"{told}, which is more than all: too few points; more `--points` would tell."
    if total.high < 1:
        return f"{told}: the rest, {100 * (1 - total.value):.0f} %, is interactions."
    if total.low < KNOWN:
        return f"{told}: too wide to tell of interactions; more `--points` would."
    return f"{told}: no interaction is seen."


def _index(one: Estimate) -> tuple[str, str]:
    if math.isnan(one.value):
        return NOTHING, ""
    return f"{one.value:.3f}", f"[{one.low:.2f}, {one.high:.2f}]"


def _percent(one: Estimate) -> str:
    return show(one if one.value >= 0 else replace(one, value=0.0), "share").text


def _ends(response: Response, unit: str) -> str:
    low, high = (change_text(one, unit) for one in (response.low, response.high))
    return f"{low} at its low end, {high} at its high end"


def _how(found: SensitivityResult) -> str:
    if found.method == "tornado":
        return f"one factor at a time, ± {100 * found.by:g} % unless it has a range of its own"
    return f"all factors at once, ± {100 * found.by:g} % unless they have ranges of their own"


def notes(found: SensitivityResult) -> Iterator[str]:
    """Yield what the intervals mean, which factors changed nothing or failed, and what was left out."""
    sure = f"{100 * found.confidence:g} %"
    if found.method == "tornado":
        yield f"± and [ ] are {sure} intervals of paired differences, each by itself: all cells meet the same draws."
        if any(one.factor.is_whole and not one.factor.is_small for one in found.factors):
            yield "Whole numbers move by whole steps; where a step is more than 10 %, no marginal value is told."
    else:
        yield f"± and [ ] are {sure} bootstrap intervals."
    still = [one.factor.name for one in found.factors if one.failure.startswith("changes nothing")]
    if still:
        yield f"No task was any different with other {', '.join(still)}."
    for one in found.factors:
        if one.failure.startswith("failed"):
            yield f"{one.factor.name}: {one.failure}"
    yield from found.notes


# ---------------------------------------------------------------------------------------------------------------------
# Files


def warnings(found: SensitivityResult) -> Iterator[str]:
    """Yield what is doubtful about the scenario itself."""
    yield from found.doubts


def to_json(found: SensitivityResult) -> str:
    """Return all of it as JSON."""
    data = {KEY: VERSION, "statement": statement(found), **plain_data(asdict(found))}
    for one in data["factors"]:
        for side in ("low", "high"):
            if one["factor"][side] is not None:
                del one["factor"][side]["key"]
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(found: SensitivityResult) -> str:
    """Return a long table: factor, kind, metric, measure, at, value, low, high, unit."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in _rows(found):
        writer.writerow(row)
    return out.getvalue()


def _rows(found: SensitivityResult) -> Iterator[tuple[Any, ...]]:
    for metric in found.metrics:
        unit = found.units[metric]
        yield "", "", metric, "base", "", *_numbers(found.base[metric]), unit
        for one in found.factors:
            if metric not in one.responses:
                continue
            response, factor = one.responses[metric], one.factor
            for measure, side, change in (
                ("change at low", factor.low, response.low), ("change at high", factor.high, response.high)
            ):  # fmt: skip
                if side is not None and change is not None:
                    yield factor.name, factor.kind, metric, measure, side.text, *_numbers(change), unit
            if response.elasticity is not None:
                yield factor.name, factor.kind, metric, "elasticity", "", *_numbers(response.elasticity), ""
        for screened in found.morris[metric].factors if metric in found.morris else ():
            yield screened.name, "", metric, "mu_star", "", *_numbers(screened.mu_star), unit
            yield screened.name, "", metric, "sigma", "", *_numbers(screened.sigma), unit
        for index in found.sobol[metric].factors if metric in found.sobol else ():
            yield index.name, "", metric, "first_order", "", *_numbers(index.first), ""
            yield index.name, "", metric, "total_order", "", *_numbers(index.total), ""


def _numbers(one: Estimate) -> tuple[str, str, str]:
    return tuple(repr(value) if math.isfinite(value) else "" for value in (one.value, one.low, one.high))  # type: ignore[return-value]
