"""The charts of a comparison: from A's mean T_total to B's, the policies one by one, task by task, and over a grid.

What costs is drawn as what saves is: on the same axis, in the order of the categories, with a pattern of its own.
Leaves out: the sentences of the sections (`compare`).
Checked: tests/test_compare_sections.py.
"""

from __future__ import annotations

import html
import math

from ...analysis.comparison import Ablation, ComparisonResult, Part, Point, Region
from ...analysis.statistics import Estimate, mean_interval
from ...engine.units import significant
from ..compare_tables import ablation_table, categories_table, region_table
from ..compare_words import name_of, replications, said_of_region, unit_of_saving
from ..layout import Table
from ..numbers import NOTHING, counted, listed, plain, show
from ..page.parts import Chart, Switch, View
from ..page.theme import COLOURS, GREY, Data, axis, band, bar, layout, whiskers
from .pieces import axis_unit, cells, error_bars, known, look, names_axis, number, table, tidy, told, upright

__all__ = [
    "b_of", "by_category", "by_policy", "by_task", "gain", "is_of_runtimes", "longer", "over_grid", "said_of_grid", "steps",
    "within_replications",
]  # fmt: skip

SAVES, COSTS = (COLOURS[0], ""), (COLOURS[1], "/")  # colour and pattern
_LAST = (COLOURS[2], "x")
_MARKS = {
    "saves": (COLOURS[0], "circle", "saves"),
    "costs": (COLOURS[1], "x", "costs"),
    "none": (GREY, "square-open", "none"),
    "not resolved": (COLOURS[4], "diamond-open", "?"),
}  # a verdict's colour, marker, and word in a cell
_SCALE = [[0.0, COLOURS[1]], [0.5, "#f7f7f7"], [1.0, COLOURS[0]]]
_LITTLE = 1e-3
_SHORT = 240  # characters of a sentence on a grid
_LONG = 32  # characters, beyond which B is called B


def b_of(found: ComparisonResult) -> str:
    """Return what the variant is called in a title."""
    return found.variant if len(found.variant) <= _LONG else "B"


def gain(found: ComparisonResult) -> str:
    """Return the word for what is better."""
    return "gain" if found.more_is_better else "saving"


# ---------------------------------------------------------------------------------------------------------------------
# By category


def steps(found: ComparisonResult) -> list[tuple[Part, float]]:
    """Return the categories that any time is spent in, each with the time (s) from which its bar starts.

    The first starts at the baseline's mean T_total, and the last ends at the variant's.
    """
    reached, made = found.total.baseline.value, []
    for part in _present(found):
        if known(part.saving):
            made.append((part, reached))
            reached -= part.saving.value
    return made


def _present(found: ComparisonResult) -> list[Part]:
    return [one for one in found.categories if one.baseline.value > 0 or one.variant.value > 0]


def by_category(found: ComparisonResult) -> Chart:
    """Return mean T_total by category of A, of B, and the way from one to the other."""
    views = {
        "A": _side(found, "baseline", found.baseline),
        "B": _side(found, "variant", found.variant),
        "difference": _waterfall(found),
    }
    title = f"Which part of T_total would {b_of(found)} save, and which would it make longer?"
    return Chart("comparison", title, views, Switch.SIDE, height=140 + 36 * (len(_present(found)) + 2))


def _side(found: ComparisonResult, side: str, called: str) -> View:
    parts = [one for one in _present(found) if known(getattr(one, side))]
    estimates: list[Estimate] = [getattr(one, side) for one in parts]
    looks = [bar(one.category) for one in parts]
    trace = {
        "type": "bar", **upright([one.value for one in estimates], [one.category for one in parts]),
        "error_x": error_bars(whiskers(estimates)),
        "marker": {"color": [one["color"] for one in looks],
                   "pattern": {"shape": [one["pattern"]["shape"] for one in looks], "size": 6, "solidity": 0.25}},
        "customdata": [told(one, "s") for one in estimates], "hovertemplate": "%{y}: %{customdata}<extra></extra>",
        "showlegend": False,
    }  # fmt: skip
    ends = [end for one in _present(found) for end in (one.baseline, one.variant) if known(end)]
    most = max((one.high if one.resolved else one.value for one in ends), default=1.0)
    x = axis("mean per task (seconds)", range=[0, 1.05 * most or 1.0])
    total: Estimate = getattr(found.total, side)
    summary = f"Under {called} a task takes {cells(total, 's')} on average. "
    ranked = sorted(zip(parts, estimates, strict=True), key=lambda pair: -pair[1].value)[:3]
    most_of = listed([f"{one.category} ({cells(value, 's')})" for one, value in ranked])
    summary += f"Most of it is {most_of}." if most_of else ""
    rows = [
        (one.category, cells(value, "s"), _share(value, total)) for one, value in zip(parts, estimates, strict=True)
    ]
    rows.append(("T_total", cells(total, "s"), ""))
    made = table(f"Mean T_total by category under {called}", ("category", "mean per task", "share of T_total"), rows)
    return View([trace], layout(x, names_axis([one.category for one in parts])), summary, made)


def _share(part: Estimate, whole: Estimate) -> str:
    return f"{significant(100 * part.value / whole.value, 3)} %" if known(whole) and whole.value else NOTHING


def _waterfall(found: ComparisonResult) -> View:
    bars = steps(found)
    names = ["A", *(part.category for part, _ in bars), "B"]
    data = [_bars(bars, True), _bars(bars, False)]
    data += [
        _end(name, called, one)
        for name, called, one in (
            ("A", found.baseline, found.total.baseline),
            ("B", found.variant, found.total.variant),
        )
        if known(one)
    ]
    x = axis("T_total, mean per task (seconds)")
    made = tidy(categories_table(found))
    return View(data, layout(x, names_axis(names), bargap=0.35), _said_of_parts(found), made)


def _bars(bars: list[tuple[Part, float]], saves: bool) -> Data:
    """Return the bars of the categories that save, or of those that cost; each has the interval of its difference."""
    kept = [(part, start) for part, start in bars if (part.saving.value >= 0) == saves]
    colour, pattern = SAVES if saves else COSTS
    # The difference is minus the saving, so its upper end is the saving's lower one.
    reach = whiskers([part.saving for part, _ in kept])
    return {
        "type": "bar", "name": "saves" if saves else "costs",
        **upright([-part.saving.value for part, _ in kept], [part.category for part, _ in kept]),
        "base": [start for _, start in kept],
        "error_x": error_bars(reach | {"array": reach["arrayminus"], "arrayminus": reach["array"]}),
        "marker": look(colour, pattern),
        "customdata": [told(part.saving, "s") for part, _ in kept],
        "hovertemplate": "%{y}: saved %{customdata}<extra></extra>",
    }  # fmt: skip


def _end(name: str, called: str, one: Estimate) -> Data:
    """Return a mean that the bars lead from or to; its own interval, over tasks that differ, would dwarf those of paired differences."""
    return {
        "type": "scatter", "mode": "markers", "x": [one.value], "y": [name],
        "name": f"{name}: {html.escape(called)}" if len(called) <= _LONG else name,
        "marker": {"color": GREY, "size": 11, "symbol": "diamond" if name == "A" else "square"},
        "customdata": [told(one, "s")], "hovertemplate": "%{y}: %{customdata}<extra></extra>",
    }  # fmt: skip


def _said_of_parts(found: ComparisonResult) -> str:
    """Return what each category does to T_total, those that cost as those that save."""
    parts = [one for one in _present(found) if known(one.saving) and one.saving.value]
    saving = sorted((one for one in parts if one.saving.value > 0), key=lambda one: -one.saving.value)
    costing = sorted((one for one in parts if one.saving.value < 0), key=lambda one: one.saving.value)
    said = []
    if known(found.total.baseline) and known(found.total.variant):
        said.append(f"From {cells(found.total.baseline, 's')} under A to {cells(found.total.variant, 's')} under B.")
    said.append(f"B saves in {listed([_amount(one) for one in saving])}." if saving else "B saves in no category.")
    said.append(
        f"B costs more in {listed([_amount(one) for one in costing])}." if costing else "It costs more in none."
    )
    return " ".join(said)


def _amount(part: Part) -> str:
    one = part.saving
    shown = show(Estimate(abs(one.value), *_ends(one), one.confidence, one.n, one.method), "s").text
    return f"{part.category} ({shown}{'' if one.excludes(0) else ', may be chance'})"


def _ends(one: Estimate) -> tuple[float, float]:
    return (one.low, one.high) if one.value >= 0 else (-one.high, -one.low)


def longer(found: ComparisonResult) -> list[Part]:
    """Return the categories that surely take longer under B, by a thousandth of A's T_total or more, the worst first."""
    least = _LITTLE * found.total.baseline.value
    sure = [
        one for one in _present(found) if one.saving.resolved and one.saving.high < 0 and -one.saving.value >= least
    ]
    return sorted(sure, key=lambda one: one.saving.value)


# ---------------------------------------------------------------------------------------------------------------------
# By policy


def by_policy(found: ComparisonResult, ablation: Ablation) -> Chart | None:
    """Return what each policy saves alone, and what is lost without it; None where none could be built."""
    unit = unit_of_saving(found)
    built = [one for one in ablation.switches if one.alone is not None or one.last is not None]
    if not built:
        return None
    data = []
    for label, name, (colour, pattern) in (
        ("alone: switched from A to B", "alone", SAVES), ("last: switched back in B", "last", _LAST)
    ):  # fmt: skip
        pairs = [(one.policy, getattr(one, name)) for one in built if getattr(one, name) is not None]
        data.append(_policy_bars(label, [(policy, saving.amount) for policy, saving in pairs], unit, colour, pattern))
    whole = "all together"
    # Not beside the others, which have no bar there: in the middle of its row.
    data.append(_policy_bars(whole, [(whole, found.saving.amount)], unit, GREY, "\\") | {"width": 0.5, "offset": -0.25})
    built.sort(key=lambda one: -max(abs(side.amount.value) for side in (one.alone, one.last) if side is not None))
    names = [*(html.escape(one.policy) for one in built), whole]
    best = max((one for one in built if one.alone), key=lambda one: one.alone.amount.value if one.alone else 0.0, default=None)  # fmt: skip
    said = [f"{best.policy} saves most alone: {cells(best.alone.amount, unit)}."] if best and best.alone else []
    worse = [one.policy for one in built if any(side and side.verdict == "costs" for side in (one.alone, one.last))]
    said += [f"{listed(worse)} {'costs' if len(worse) == 1 else 'cost'} more, alone or last."] if worse else []
    said.append(f"All together {'gain' if found.more_is_better else 'save'} {cells(found.saving.amount, unit)}; "
                f"the sum of those alone is {cells(ablation.sum_alone, unit)}.")  # fmt: skip
    x = axis(f"{gain(found)} in {name_of(found.metric)} ({axis_unit(unit)})", zeroline=True, zerolinecolor=GREY)
    view = View(
        data, layout(x, names_axis(names), barmode="group"), " ".join(said), tidy(ablation_table(ablation, found))
    )
    what = "policy" if is_of_runtimes(found) else "change"
    return Chart("policies", f"Which {what} makes the {gain(found)}?", {"": view}, height=150 + 42 * len(names))


def is_of_runtimes(found: ComparisonResult) -> bool:
    """Whether A and B differ in policies of the runtime alone."""
    return bool(found.changes) and all(
        one.path == "runtime" or one.path.startswith("runtime.") for one in found.changes
    )


def _policy_bars(label: str, pairs: list[tuple[str, Estimate]], unit: str, colour: str, pattern: str) -> Data:
    shown = [(name, one) for name, one in pairs if known(one)]
    return {
        "type": "bar", "name": label, **upright([one.value for _, one in shown], [html.escape(name) for name, _ in shown]),
        "error_x": error_bars(whiskers([one for _, one in shown])),
        "marker": look(colour, pattern),
        "customdata": [told(one, unit) for _, one in shown], "hovertemplate": "%{y}: %{customdata}<extra></extra>",
    }  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# Task by task


def by_task(found: ComparisonResult) -> Chart | None:
    """Return the quantiles of what a task saves; None where tasks do not pair, or none was done under both."""
    if found.tasks is None:
        return None
    shown = [(name, one) for name, one in found.tasks.quantiles.items() if known(one)]
    if not shown:
        return None
    colours = [SAVES[0] if one.value >= 0 else COSTS[0] for _, one in shown]
    trace = {
        "type": "scatter", "mode": "markers", "x": [one.value for _, one in shown], "y": [name for name, _ in shown],
        "error_x": error_bars(whiskers([one for _, one in shown])), "showlegend": False,
        "marker": {"color": colours, "size": 11,
                   "symbol": ["circle" if one.value >= 0 else "x" for _, one in shown]},
        "customdata": [told(one, "s") for _, one in shown], "hovertemplate": "%{y}: %{customdata}<extra></extra>",
    }  # fmt: skip
    slower = cells(found.tasks.slower, "share")
    said = f"Of {found.tasks.both:,} tasks done under both, {slower} got slower. "
    said += "; ".join(f"{name} of what a task saves is {cells(one, 's')}" for name, one in shown) + "."
    x = axis(
        "saved by a task (seconds); below 0 it got slower",
        zeroline=True,
        zerolinecolor=GREY,
        zerolinewidth=2,
        rangemode="tozero",
    )
    y = names_axis([name for name, _ in shown])
    rows = [(f"{name} of what a task saves", cells(one, "s")) for name, one in shown]
    made = table("Task by task", ("quantity", "value"), [*rows, ("tasks that got slower", slower)])
    return Chart(
        "task-by-task", "Does every task get faster?", {"": View([trace], layout(x, y), said, made)}, height=250
    )


# ---------------------------------------------------------------------------------------------------------------------
# Over a grid


def over_grid(found: ComparisonResult, region: Region) -> Chart | None:
    """Return the saving at each point of the grid, with its verdict; None where no point was complete."""
    if not region.points:
        return None
    is_share = all(known(one.saving.share) for one in region.points)
    view = _heat(found, region, is_share) if len(region.factors) == 2 else _along(found, region, is_share)
    rows = len({one.values[0] for one in region.points}) if len(region.factors) == 2 else 4
    where = " and ".join(region.factors)
    return Chart(
        "region", f"Where is there a {gain(found)}, over {where}?", {"": view}, height=max(360, 150 + 52 * rows)
    )


def said_of_grid(found: ComparisonResult, region: Region) -> str:
    """Return where there is no saving; where that is a long list, at how many points of the grid there is which verdict."""
    told_of = said_of_region(found)
    if len(told_of) < _SHORT:
        return told_of
    verdicts = [one.saving.verdict for one in region.points]
    named = {
        "saves": f"a {gain(found)}",
        "costs": "a loss",
        "none": f"no {gain(found)}",
        "not resolved": "not resolved",
    }
    counts = [f"{named[word]} at {verdicts.count(word)}" for word in _MARKS if word in verdicts]
    return f"Of {counted(len(verdicts), 'point')} of the grid: {', '.join(counts)}; the table of the grid has each."


def _amounts(region: Region, is_share: bool) -> list[Estimate]:
    return [one.saving.share if is_share else one.saving.amount for one in region.points]


def _heat(found: ComparisonResult, region: Region, is_share: bool) -> View:
    """Two factors: the first down, the second across; each cell says its verdict."""
    down, across = ([*dict.fromkeys(one.values[place] for one in region.points)] for place in (0, 1))
    by = dict(zip((one.values for one in region.points), _amounts(region, is_share), strict=True))
    points = {one.values: one for one in region.points}
    unit = "share" if is_share else unit_of_saving(found)
    largest = max((abs(one.value) for one in by.values() if known(one)), default=0.0) or 1.0
    scale = 100.0 if is_share else 1.0
    grid = [[by.get((row, column)) for column in across] for row in down]
    trace = {
        "type": "heatmap", "x": [html.escape(one) for one in across], "y": [html.escape(one) for one in down],
        "z": [[None if one is None else number(scale * one.value) for one in row] for row in grid],
        "text": [[_cell(points.get((row, column)), unit) for column in across] for row in down],
        "customdata": [[told(one, unit) for one in row] for row in grid],
        "texttemplate": "%{text}", "zmin": -scale * largest, "zmax": scale * largest, "colorscale": _SCALE,
        "xgap": 2, "ygap": 2, "hoverongaps": False, "showscale": False,
        "hovertemplate": f"{html.escape(region.factors[0])} = %{{y}}, {html.escape(region.factors[1])} = %{{x}}: "
        "%{customdata}<extra></extra>",
    }  # fmt: skip
    x = axis(region.factors[1], type="category", showgrid=False)
    y = axis(region.factors[0], type="category", showgrid=False, autorange="reversed")
    return View([trace], layout(x, y), said_of_grid(found, region), _grid_table(found, region))


def _cell(point: Point | None, unit: str) -> str:
    """Return what is written into a cell: the verdict, and how much."""
    if point is None:
        return "not run"
    saving = point.saving
    amount = saving.share if unit == "share" else saving.amount
    size = abs(amount.value) if saving.verdict in ("saves", "costs") else amount.value
    shown = f"{'-' if size < 0 else ''}{plain(abs(size), unit, 2)}" if known(amount) else ""
    return "<br>".join(html.escape(one) for one in (_MARKS[saving.verdict][2], shown) if one)


def _along(found: ComparisonResult, region: Region, is_share: bool) -> View:
    """One factor: the saving along it, a marker for each verdict."""
    unit, scale = ("share", 100.0) if is_share else (unit_of_saving(found), 1.0)
    places = [html.escape(", ".join(one.values)) for one in region.points]
    amounts = _amounts(region, is_share)
    data: list[Data] = [
        {"type": "scatter", "mode": "lines", "x": places, "y": [number(scale * one.value) for one in amounts],
         "line": {"color": GREY, "width": 1}, "showlegend": False, "hoverinfo": "skip"}
    ]  # fmt: skip
    for verdict, (colour, symbol, _) in _MARKS.items():
        kept = [
            place for place, one in enumerate(region.points) if one.saving.verdict == verdict and known(amounts[place])
        ]
        if kept:
            chosen = [amounts[place] for place in kept]
            data.append(
                {"type": "scatter", "mode": "markers", "name": verdict, "x": [places[place] for place in kept],
                 "y": [scale * one.value for one in chosen], "error_y": error_bars(whiskers(chosen, scale)),
                 "marker": {"color": colour, "symbol": symbol, "size": 11}, "customdata": [told(one, unit) for one in chosen],
                 "hovertemplate": "%{x}: %{customdata}<extra></extra>"}
            )  # fmt: skip
    x = axis(", ".join(region.factors), type="category", categoryorder="array", categoryarray=places)
    y = axis(
        f"{gain(found)} ({'%' if is_share else axis_unit(unit)})",
        zeroline=True, zerolinecolor=GREY, zerolinewidth=2, rangemode="tozero",
    )  # fmt: skip
    return View(data, layout(x, y), said_of_grid(found, region), _grid_table(found, region))


def _grid_table(found: ComparisonResult, region: Region) -> Table:
    unit = unit_of_saving(found)
    words = [row[-1] for row in region_table(region, unit).rows]
    rows = []
    for one, word in zip(region.points, words, strict=True):
        saving = one.saving
        sides = (cells(saving.baseline, unit), cells(saving.variant, unit))
        rows.append((*one.values, *sides, cells(saving.amount, unit), cells(saving.share, "share"), word))
    columns = (*region.factors, "A", "B", gain(found), "share of A", "verdict")
    note = (
        ""
        if len(region.points) == region.planned
        else f"{counted(region.planned - len(region.points), 'point')} not run"
    )
    return table(f"The {gain(found)} over the grid", columns, rows, "<" * len(region.factors) + ">>>><", note)


# ---------------------------------------------------------------------------------------------------------------------
# How sure


def within_replications(found: ComparisonResult) -> Chart | None:
    """Return the saving and its interval after each replication; None where they are not what the interval is made from."""
    samples, amount = found.saving.samples, found.saving.amount
    if len(samples) < 2 or not all(math.isfinite(one) for one in samples):
        return None
    reached = [mean_interval(samples[: count + 1], found.confidence) for count in range(len(samples))]
    last = reached[-1]
    size = max(abs(last.value), last.half_width) or 1.0
    if abs(last.low - amount.low) > 1e-6 * size or abs(last.high - amount.high) > 1e-6 * size:
        return None  # not paired, or a share of few: its interval is another
    unit, counts = unit_of_saving(found), list(range(1, len(samples) + 1))
    data = [
        band(counts[1:], reached[1:], COLOURS[0]),
        {"type": "scatter", "mode": "lines+markers", "name": "mean so far, with its interval", "x": counts,
         "y": [one.value for one in reached], "line": {"color": COLOURS[0]}, "marker": {"symbol": "circle", "size": 7},
         "customdata": [told(one, unit) for one in reached], "hovertemplate": "%{x}: %{customdata}<extra></extra>"},
        {"type": "scatter", "mode": "markers", "name": "of one replication", "x": counts, "y": [float(one) for one in samples],
         "marker": {"color": COLOURS[1], "symbol": "x", "size": 8}, "hovertemplate": "%{x}: %{y:.4g}<extra></extra>"},
    ]  # fmt: skip
    ends = [end for one in reached if one.resolved for end in (one.low, one.high)] if len(reached) < 4 else [
        end for one in reached[2:] for end in (one.low, one.high)
    ]  # fmt: skip
    shown = [*samples, *ends, 0.0]
    room = 0.05 * (max(shown) - min(shown)) or 1.0
    x = axis("replications", dtick=max(1, len(counts) // 10))
    y = axis(f"{gain(found)} ({axis_unit(unit)})", zeroline=True, zerolinecolor=GREY, zerolinewidth=2,
             range=[min(shown) - room, max(shown) + room])  # fmt: skip
    rows = [
        (
            str(count),
            plain(sample, unit, 4) if sample >= 0 else f"-{plain(-sample, unit, 4)}",
            cells(one, unit) if count > 1 else NOTHING,
        )
        for count, sample, one in zip(counts, samples, reached, strict=True)
    ]
    made = table(f"The {gain(found)} by replication", ("replications", "of this one", "mean so far"), rows, ">>>")
    said = f"After {replications(len(samples))} the {gain(found)} is {cells(amount, unit)}; after the first {len(samples) // 2 or 1} it was "
    said += f"{cells(reached[(len(samples) // 2 or 1) - 1], unit)}."
    return Chart(
        "interval",
        "Does the answer settle with more replications?",
        {"": View(data, layout(x, y), said, made)},
        height=360,
    )
