"""The sentences of a comparison: the verdict, by how much, by what, and how many more replications would tell.

Leaves out: tables (`compare_tables`); the sentence on a grid (`region`).
Checked: tests/test_compare_command.py, tests/test_compare_files.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..analysis.comparison import ComparisonResult, Part, Saving
from ..analysis.contrast import POWER, times
from ..analysis.slo import parse_metric
from ..analysis.statistics import Estimate
from .numbers import counted, listed, plain, show, unit_of
from .region import statement as region_statement
from .tables import FACTS

MEAN = "response_time_mean"
_NAMES = {
    MEAN: "T_total, mean",
    "response_time_p50": "T_total, p50",
    "response_time_p95": "T_total, p95",
    "response_time_p99": "T_total, p99",
    "coordination_mean": "T_coordination, mean",
    **FACTS,
}
_MAJORITY = 0.5


def name_of(metric: str) -> str:
    """Return what a metric is called."""
    if metric in _NAMES:
        return _NAMES[metric]
    quantity, _, statistic = metric.rpartition("_")
    if quantity == "response_time":
        return f"T_total, {statistic}"
    return f"{_NAMES.get(quantity, quantity)}, {statistic}" if quantity in FACTS else metric.replace("_", " ")


def unit_of_saving(found: ComparisonResult) -> str:
    """Return the unit of the declared metric."""
    wanted = parse_metric(found.metric)
    if wanted.statistic == "rate":
        return unit_of(found.metric)
    return unit_of(wanted.quantity) if wanted.quantity in FACTS else "s"


def said_of_region(found: ComparisonResult) -> str:
    """Return the sentence on the grid; '' where there is none."""
    if found.region is None:
        return ""
    return region_statement(found.region, "gain" if found.more_is_better else "saving", unit_of_saving(found))


def replications(count: int) -> str:
    """Return '1 replication', '5 replications'."""
    return counted(count, "replication")


def statement(found: ComparisonResult) -> str:
    """Return the verdict in words."""
    one = found.saving
    is_mean = found.metric == MEAN
    if one.verdict == "none":
        same = "take the same time" if is_mean else f"have the same {name_of(found.metric)}"
        word = "gain" if found.more_is_better else "saving"
        return f"No {word}: {found.baseline} and {found.variant} {same} {_within(one, found.tolerance)}."
    of = " a task" if is_mean else f" in {name_of(found.metric)}"
    if one.verdict == "not resolved":
        if math.isnan(one.amount.value):
            return f"Not resolved: {_unobserved(found)}."
        costs = one.amount.value < 0
        share = times(one.share, -1.0) if costs else one.share
        return (
            f"Not resolved: {found.variant} {_by(one, found, costs, True)}{of} ({_ends(share)}); {_more(one, found)}."
        )
    costs = one.verdict == "costs"
    share = times(one.share, -1.0) if costs else one.share
    parts = _most(found.categories, costs) if is_mean else ""
    told = f"; most of it is {parts}" if parts else ""
    share_of = f" ({_value(share, 'share')}, {_ends(share)})" if not math.isnan(share.value) else ""
    return f"{found.variant} {_by(one, found, costs)}{share_of}{of}{told}."


def _unobserved(found: ComparisonResult) -> str:
    """Return under which of both there is no value of the metric."""
    one = found.saving
    sides = ((found.baseline, one.baseline), (found.variant, one.variant))
    missing = [name for name, estimate in sides if math.isnan(estimate.value)]
    told = f"not observed under {missing[0]}" if len(missing) == 1 else "observed under neither"
    return f"{name_of(found.metric)} was {told if missing else 'in no replication observed under both'}"


def _by(one: Saving, found: ComparisonResult, is_worse: bool, error: bool = False) -> str:
    """Return 'saves 2.1 s of 10 s', with its interval if asked."""
    unit = unit_of_saving(found)
    shown = show(times(one.amount, -1.0) if is_worse else one.amount, unit)
    amount, base = shown.text if error else shown.value, _value(one.baseline, unit)
    if found.more_is_better:
        return f"loses {amount} of {base}" if is_worse else f"gains {amount} on {base}"
    return f"costs {amount} more than the {base}" if is_worse else f"saves {amount} of {base}"


def _more(one: Saving, found: ComparisonResult) -> str:
    """Return how many more replications would tell, and what."""
    if one.more is None or one.needed is None:
        return "its spread does not say how many replications would tell"
    run = f"run {counted(one.more, 'more replication')} (--replications {one.needed})"
    if one.as_seen is None:
        return f"{run}, whose spread says how many will tell"
    sure = f"with a power of {100 * POWER:g} %"
    if found.tolerance == 0 or math.isnan(one.share.value):
        return f"{run} to find a difference as large as this {sure}"
    less = one.as_seen - found.replications
    soon = f"; {less} more if it is as large as it looks" if less < one.more else ""
    return f"{run} to tell a difference of {plain(found.tolerance, 'share')} from none {sure}{soon}"


def _most(parts: Sequence[Part], costs: bool) -> str:
    """Return the fewest categories that make up more than half of the saving, the largest first."""
    sign = -1.0 if costs else 1.0
    whole = sum(one.saving.value for one in parts) * sign
    chosen: list[str] = []
    reached = 0.0
    for one in sorted(parts, key=lambda part: -sign * part.saving.value):
        if reached > _MAJORITY * whole or sign * one.saving.value <= 0:
            break
        reached += sign * one.saving.value
        chosen.append(f"{one.category} ({_value(times(one.saving, sign), 's')})")
    return listed(chosen)


def _within(one: Saving, tolerance: float) -> str:
    if one.amount.value == 0 == one.amount.half_width:
        return "to the last digit"
    return f"within ± {plain(tolerance, 'share')} ({_ends(one.share)})"


def _ends(share: Estimate) -> str:
    """Return '95 % interval 33 to 37 %'."""
    sure = f"{100 * share.confidence:g} %"
    if not share.resolved:
        return f"no {sure} interval"
    ends = 100 * share.low, 100 * share.high
    # As many decimals in both as the one with more needs for three digits.
    decimals = max(0 if abs(end) >= 1000 else len(f"{end:.3g}".partition(".")[2]) for end in ends)
    if 0 < (width := abs(ends[1] - ends[0])) < 1:  # or both would look alike
        decimals = max(decimals, 1 - math.floor(math.log10(width)))
    low, high = (f"{end:,.{decimals}f}" for end in ends)
    return f"{sure} interval {low} to {high} %"


def _value(estimate: Estimate, unit: str) -> str:
    return show(estimate, unit).value
