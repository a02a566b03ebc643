"""Numbers for people: value and interval in one unit, with digits only as far as the interval lets them mean something.

Leaves out: parsing (`engine.units`), and estimating.
Checked: tests/test_report.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..analysis.slo import RESPONSE_TIME, parse_metric
from ..analysis.statistics import Estimate
from ..analysis.summary import unit_of as unit_of_metric
from ..engine import units
from ..engine.ledger import EVERY
from ..engine.units import Dimension

NOTHING = "–"
_DIMENSIONS = {
    "s": units.DURATION,
    "1/s": units.RATE,
    "share": units.SHARE,
    "B": units.SIZE,
    "tokens": units.TOKENS,
    "USD": units.MONEY,
    "": units.NUMBER,
}
_LEAST_DIGITS = 2  # with one alone, `70 ± 20` may be 74.6 with an interval from 52 ...
_DROWNED = 5  # ... unless the interval is so many times the value
_MOST_DIGITS = 4
_MOST_DIGITS_OF_SHARE = 6  # 99.99 % and 99.9 % are far apart
_LONG = 5  # minutes, hours and days are used from so many on: `75 s ± 4` says more than `1.2 min ± 0.1`
_ROUNDING = 1e-9  # relative: an interval narrower than this is what adding in another order leaves
_TINY = 1e-3  # of a unit: what is less has a unit of its own
_MOST_CLEARER = 3  # decimals more, to tell an end from a threshold
_SKEW = 0.05  # of the interval: beyond it ± would say something else than the two ends


@dataclass(frozen=True, slots=True)
class Shown:
    """An estimate as text: `value` with its unit, and `error`, such as `± 0.04` or `[99.2, 100]`, in the same unit."""

    value: str
    error: str

    @property
    def text(self) -> str:
        """Both in one piece."""
        return f"{self.value} {self.error}".strip()


def unit_of(name: str) -> str:
    """Return the unit of a metric or a fact: 's', '1/s', 'share', 'B', 'tokens', 'USD', or '' for a plain number.

    >>> unit_of("carried_tokens"), unit_of("bytes"), unit_of("cost"), unit_of("response_time_p95"), unit_of("steps")
    ('tokens', 'B', 'USD', 's', '')
    """
    if name.endswith("_tokens"):
        return "tokens"
    if name in ("ttft", "ttfa", "wasted") or name.startswith("straggler_"):
        return "s"
    return {"bytes": "B", "state_bytes": "B", "cost": "USD"}.get(name) or unit_of_metric(name)


def show(estimate: Estimate | None, unit: str, like: float = 0.0, against: float = math.nan) -> Shown:
    """Return an estimate in the unit that fits its value; or that which fits `like`, unless it is tiny in it.

    Where it is judged `against` a threshold there are as many digits as show on which side of it the interval ends.

    >>> show(Estimate(0.0123, 0.0119, 0.0127, 0.95, 10, "t"), "s").text
    '12.3 ms ± 0.4'
    """
    if estimate is None or math.isnan(estimate.value):
        return Shown(NOTHING, "")
    dimension = _DIMENSIONS[unit]
    if estimate.resolved and 0 < estimate.half_width <= _ROUNDING * abs(estimate.value):
        estimate = replace(estimate, low=estimate.value, high=estimate.value)
    reach = abs(estimate.value) or (estimate.half_width if estimate.resolved else 0.0)
    suffix, size = _rung(abs(like) or reach, dimension)
    if 0 < reach < _TINY * size:
        suffix, size = _rung(reach, dimension)
    places = _places(estimate, size, _MOST_DIGITS_OF_SHARE if unit == "share" else _MOST_DIGITS)
    places += _clearer(estimate, size, places, against)
    value = f"{dimension.dollar}{fixed(estimate.value / size, places)}{suffix}"
    if not estimate.resolved:
        return Shown(value, _bound(estimate, size, places))
    if _is_skewed(estimate):
        return Shown(value, f"[{fixed(estimate.low / size, places)}, {fixed(estimate.high / size, places)}]")
    if not estimate.half_width:
        return Shown(value, "± 0" if estimate.value else "")
    error = fixed(estimate.half_width / size, places)
    if not float(error.replace(",", "")):  # smaller than the digits shown
        error = f"<{fixed(10.0**-places, places)}"
    return Shown(value, f"± {error}")


def wide(estimate: Estimate) -> float:
    """Return what a change has its unit by (`like` of `show`): its interval, where that is wider than the change.

    >>> change = Estimate(-0.8, -81.7, 80.1, 0.95, 3, "t")
    >>> show(change, "s").text, show(change, "s", wide(change)).text
    ('-800 ms ± 80,900', '-0.8 s ± 80.9')
    """
    return estimate.half_width if estimate.resolved and estimate.half_width > abs(estimate.value) else 0.0


def plain(value: float, unit: str, digits: int = 3) -> str:
    """Return a number that has no interval.

    >>> plain(0.25, "s"), plain(0.5, "share"), plain(75, "s")
    ('250 ms', '50 %', '75 s')
    """
    if math.isnan(value):
        return NOTHING
    dimension = _DIMENSIONS[unit]
    suffix, size = _rung(abs(value), dimension)
    return f"{dimension.dollar}{units.significant(value / size, digits)}{suffix}"


def unit_of_objective(metric: str) -> str:
    """Return the unit of an objective's threshold and estimate.

    >>> unit_of_objective("p95"), unit_of_objective("tool_mean"), unit_of_objective("success")
    ('s', 's', 'share')
    """
    quantity = parse_metric(metric).quantity
    return "s" if quantity in (RESPONSE_TIME, "coordination", *EVERY) else unit_of(quantity)


def exact(value: float) -> str:
    """Return a number for CSV: not rounded, and empty where it is not known.

    >>> exact(0.1), exact(math.inf)
    ('0.1', '')
    """
    return repr(float(value)) if math.isfinite(value) else ""


def counted(number: int, noun: str) -> str:
    """Return a number of things.

    >>> counted(1, "cell"), counted(2, "cell")
    ('1 cell', '2 cells')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def listed(texts: Sequence[str]) -> str:
    """Return texts as a list in a sentence.

    >>> listed(["a", "b", "c"]), listed(["a"]), listed([])
    ('a, b and c', 'a', '')
    """
    return " and ".join(filter(None, (", ".join(texts[:-1]), texts[-1] if texts else "")))


def fixed(value: float, places: int) -> str:
    """Return a number with `places` decimals; a negative number of places rounds to tens, hundreds ...

    >>> fixed(3.14159, 2), fixed(123456.0, -3)
    ('3.14', '123,000')
    """
    rounded = round(value, places) + 0.0
    return f"{rounded:,.{max(places, 0)}f}"


def _rung(magnitude: float, dimension: Dimension) -> tuple[str, float]:
    """Return suffix and size of the largest unit that the magnitude reaches."""
    if not dimension.floor:  # `0 %`, too
        return dimension.ladder[0][0], float(dimension.ladder[0][1])
    # No k for counts: `4.1k ± 0.3` would leave open of what the error is.
    if not magnitude or (dimension.prefixed and magnitude >= 1):
        return next((suffix, float(size)) for suffix, size in dimension.ladder if size == 1)
    chosen = dimension.ladder[0]
    for rung in dimension.ladder:
        least = _LONG if dimension is units.DURATION and rung[1] >= 60 else dimension.floor
        # As rounded for reading: 999.96 ms is 1.000 s.
        if float(f"{magnitude / float(rung[1]):.{_MOST_DIGITS - 1}e}") >= least:
            chosen = rung
    return chosen[0], float(chosen[1])


def _places(estimate: Estimate, size: float, most: int) -> int:
    """Return after how many decimals the interval stops."""
    value = abs(estimate.value) / size
    if not value:
        half = estimate.half_width / size if estimate.resolved else 0.0
        return max(0, -math.floor(math.log10(half / 2))) if half else 0
    # In another unit an interval may allow one more: 650 s ± 230 has one digit, 10.8 min ± 3.8 has two.
    scaled = replace(estimate, value=value, low=estimate.low / size, high=estimate.high / size)
    digits = max(estimate.digits, scaled.digits)
    if estimate.half_width < _DROWNED * abs(estimate.value):
        digits = max(digits, _LEAST_DIGITS)
    if estimate.half_width == 0:  # known exactly: as many as it takes to write it
        digits = len(f"{value:.{most}g}".partition("e")[0].replace(".", "").lstrip("0")) if value < 1e4 else most
    return min(digits, most) - 1 - math.floor(math.log10(value))


def _is_skewed(estimate: Estimate) -> bool:
    below, above = estimate.value - estimate.low, estimate.high - estimate.value
    return abs(above - below) > _SKEW * (above + below)


def _clearer(estimate: Estimate, size: float, places: int, against: float) -> int:
    """Return how many more decimals it takes until both ends as written lie where they are: below the threshold, or above it."""
    if math.isnan(against) or not estimate.resolved:
        return 0
    ends = (estimate.low, estimate.high)
    middle, half = estimate.value, estimate.half_width
    for more in range(_MOST_CLEARER + 1):
        low, high = (round(one / size, places + more) for one in ends)
        if not _is_skewed(estimate):  # as it is read: the value less and more its half
            at, reach = round(middle / size, places + more), round(half / size, places + more)
            low, high = at - reach, at + reach
        shown = zip(ends, (low, high), strict=True)
        if all((true - against) * (end - against / size) > 0 or true == against for true, end in shown):
            return more
    return 0


def _bound(estimate: Estimate, size: float, places: int) -> str:
    """Return what is known of an interval that has no end on one side or both."""
    if estimate.high < math.inf:
        return f"(at most {fixed(estimate.high / size, places)})"
    return f"(at least {fixed(estimate.low / size, places)})" if estimate.low > -math.inf else "(no interval)"
