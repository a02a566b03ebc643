"""Quantities with units: text at the edge, floats in base units inside (seconds, bytes, tokens, dollars, 1/s).

`parse` reads `250 ms`, `24 GB/s`, `1.5k tokens` or `$3 / 1M tokens`; `format` writes for people, `exact` for `parse`.
Arithmetic is on fractions, rounded once, so that `0.3 s` and `300 ms` are the same float.
Leaves out: calendar dates, currencies other than the dollar, and arithmetic between quantities.
Checked: tests/test_units.py, where any value written by `exact` is read back as the same float.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache

from .errors import nearest, show

__all__ = [
    "BANDWIDTH",
    "BYTES_PER_TOKEN",
    "DURATION",
    "FLOP_RATE",
    "MONEY",
    "MONEY_PER_TOKEN",
    "MONEY_RATE",
    "NUMBER",
    "RATE",
    "SHARE",
    "SIZE",
    "TIME_PER_BYTE",
    "TIME_PER_TOKEN",
    "TIME_PER_TOKEN_SQUARED",
    "TOKENS",
    "TOKEN_RATE",
    "WEIGHT",
    "Dimension",
    "exact",
    "format",
    "parse",
    "pattern",
]

Sizes = Mapping[str, Fraction]  # unit -> its size in base units, exactly
Ladder = tuple[tuple[str, Fraction], ...]


def _sizes(text: str) -> dict[str, Fraction]:
    """Return the table written as 'ms 1e-3, s 1'."""
    pairs = (entry.split() for entry in text.split(","))
    return {name: Fraction(size) for name, size in pairs}


# The micro sign and the Greek letter look alike, and keyboards give either.
_MICRO = "\u00b5s"
_TIME = _sizes(f"ns 1e-9, us 1e-6, {_MICRO} 1e-6, \u03bcs 1e-6, ms 1e-3, s 1, min 60, h 3600, d 86400")
_BYTES = _sizes("B 1, kB 1e3, MB 1e6, GB 1e9, TB 1e12, KiB 1024, MiB 1048576, GiB 1073741824, TiB 1099511627776")
_BITS = _sizes("bit 1/8, kbit 125, Mbit 125e3, Gbit 125e6, Tbit 125e9")
_FLOPS = _sizes("FLOP 1, kFLOP 1e3, MFLOP 1e6, GFLOP 1e9, TFLOP 1e12, PFLOP 1e15")
_TOKEN = _sizes("token 1, tokens 1")
_TOKEN_SQUARED = _sizes("token^2 1, tokens^2 1, token\u00b2 1, tokens\u00b2 1")
_DOLLAR = _sizes("$ 1, USD 1")
_PURE = {"": Fraction(1)}
_PREFIXES = _sizes("k 1e3, M 1e6, G 1e9")

# What people write for a unit, and the unit.
_SYNONYMS = {
    "sec": "s", "secs": "s", "second": "s", "seconds": "s", "msec": "ms", "millis": "ms", "milliseconds": "ms",
    "millisecond": "ms", "usec": "us", "microseconds": "us", "microsecond": "us", "nsec": "ns", "nanoseconds": "ns",
    "m": "min", "mins": "min", "minute": "min", "minutes": "min", "hr": "h", "hrs": "h", "hour": "h", "hours": "h",
    "day": "d", "days": "d", "byte": "B", "bytes": "B", "b": "B", "k": "kB", "kb": "kB", "mb": "MB", "gb": "GB",
    "bits": "bit", "percent": "%", "pct": "%", "tok": "tokens", "toks": "tokens", "dollars": "USD", "dollar": "USD",
    "bps": "bit/s", "kbps": "kbit/s", "Mbps": "Mbit/s", "mbps": "Mbit/s", "Gbps": "Gbit/s", "gbps": "Gbit/s",
    "rps": "/ s", "qps": "/ s", "Hz": "/ s", "hz": "/ s", "tps": "tokens / s",
}  # fmt: skip

_NUMBER = r"[0-9]+(?:_[0-9]+)*(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?"
_QUANTITY = re.compile(rf"\s*([-+]?)\s*(\$?)\s*({_NUMBER})\s*([^\s/0-9$,][^/,]*?)?\s*(?:/\s*(.*?)\s*)?")
_BELOW = re.compile(rf"({_NUMBER})?\s*(.*)")
_LONGEST = 100  # characters; longer text is no quantity, and would cost time to read as a fraction
_SHORT = 8  # characters of a number that is fit to be written


@dataclass(frozen=True, slots=True)
class Dimension:
    """A kind of quantity: what it is called, which units it may carry, and which values make sense.

    `units` gives the size of each unit (of the numerator, for a ratio) in base units; `per` of those after the slash.
    `ladder` lists how values are written: (suffix, size in base units), rising, with the base unit among them.
    A dimension is known by its `name` alone.
    """

    name: str
    base: str
    units: Sizes = field(compare=False)
    example: str
    ladder: Ladder = field(compare=False)
    per: Sizes = field(default_factory=dict, compare=False)
    dollar: str = ""
    prefixed: bool = False  # the number may carry k, M or G
    floor: Fraction = Fraction(1)  # a rung of the ladder is used from this many of its units on
    low: float = -math.inf
    high: float = math.inf

    @property
    def bare(self) -> bool:
        """Whether a number without a unit is a value of this dimension."""
        return not self.per and "" in self.units


def _ladder(names: str, sizes: Sizes, prefix: str = " ", suffix: str = "") -> Ladder:
    """Return the rungs for the units in `names`."""
    return tuple((f"{prefix}{name}{suffix}", sizes[name]) for name in names.split())


def _counted(suffix: str) -> Ladder:
    """Return the rungs of a thing that is counted: plain, then with k, M and G before the suffix."""
    return ((suffix, Fraction(1)), *((prefix + suffix, size) for prefix, size in _PREFIXES.items()))


_SECONDS = _ladder(f"ns {_MICRO} ms s min h d", _TIME)
_RATES = (*((f" / {unit}", 1 / _TIME[unit]) for unit in ("d", "h", "min")), *_counted(" / s"))
_SECONDS_PER_BYTE = (
    (" ns / MB", Fraction("1e-15")),
    (" ns / kB", Fraction("1e-12")),
    *_ladder(f"ns {_MICRO} ms s", _TIME, suffix=" / B"),
)
# The highest values keep a mistyped exponent from becoming a run that never ends: 300 years, an exabyte.
DURATION = Dimension("duration", "s", _TIME, "250 ms", _SECONDS, high=109_500 * 86400.0)
SIZE = Dimension("size", "B", _BYTES, "40 kB", _ladder("B kB MB GB TB", _BYTES), high=1e18)
TOKENS = Dimension("number of tokens", "tokens", _TOKEN, "1.5k tokens", _counted(" tokens"), prefixed=True, high=1e15)
RATE = Dimension(
    "rate", "/ s", _PURE, "0.5 / s", _RATES, _TIME, prefixed=True, floor=Fraction(1, 10), high=1e15
)  # fmt: skip
BANDWIDTH = Dimension(
    "bandwidth", "B/s", _BYTES | _BITS, "10 Gbit/s", _ladder("B kB MB GB TB", _BYTES, suffix="/s"), _TIME, high=1e18
)
FLOP_RATE = Dimension(
    "rate of arithmetic", "FLOP/s", _FLOPS, "780 TFLOP/s", _ladder("FLOP GFLOP TFLOP PFLOP", _FLOPS, suffix="/s"), _TIME,
    high=1e24,
)  # fmt: skip
TOKEN_RATE = Dimension(
    "token rate", "tokens / s", _TOKEN, "30k tokens / min", _counted(" tokens / s"), _TIME, prefixed=True, high=1e15
)
TIME_PER_TOKEN = Dimension(
    "time per token",
    "s / token",
    _TIME,
    "12 ms / token",
    _ladder(f"ns {_MICRO} ms s", _TIME, suffix=" / token"),
    _TOKEN,
    high=1e10,
)
TIME_PER_TOKEN_SQUARED = Dimension(
    "time per squared token",
    "s / token^2",
    _TIME,
    "2 ns / token^2",
    _ladder(f"ns {_MICRO} ms s", _TIME, suffix=" / token^2"),
    _TOKEN_SQUARED,
    high=1e10,
)
TIME_PER_BYTE = Dimension("time per byte", "s / B", _TIME, "5 ns / B", _SECONDS_PER_BYTE, _BYTES, high=1e10)
BYTES_PER_TOKEN = Dimension(
    "size per token",
    "B / token",
    _BYTES,
    "4 B / token",
    _ladder("B kB MB GB", _BYTES, suffix=" / token"),
    _TOKEN,
    high=1e18,
)
SHARE = Dimension(
    "share from 0 to 1", "", _PURE | {"%": Fraction("0.01")}, "80 %", ((" %", Fraction("0.01")), ("", Fraction(1))),
    floor=Fraction(0), low=0.0, high=1.0,
)  # fmt: skip
WEIGHT = Dimension(
    "weight", "", _PURE | {"%": Fraction("0.01")}, "0.7", (("", Fraction(1)),), floor=Fraction(0), high=1e12
)  # fmt: skip
MONEY = Dimension("price", "USD", _DOLLAR, "$0.01", (("", Fraction(1)),), dollar="$", high=1e15)
MONEY_PER_TOKEN = Dimension(
    "price per token",
    "USD / token",
    _DOLLAR,
    "$3 / 1M tokens",
    ((" / 1M tokens", Fraction("1e-6")), (" / token", Fraction(1))),
    _TOKEN,
    dollar="$",
    floor=Fraction(0),
    high=1e15,
)
MONEY_RATE = Dimension(
    "price per time",
    "USD / s",
    _DOLLAR,
    "$2.5 / h",
    ((" / h", Fraction(1, 3600)), (" / s", Fraction(1))),
    _TIME,
    dollar="$",
    floor=Fraction(0),
    high=1e15,
)
NUMBER = Dimension("number", "", _PURE, "1.5", _counted(""), prefixed=True, high=1e300)


def parse(value: object, dimension: Dimension) -> float:
    """Return `value`, written in any unit of `dimension`, in base units.

    Raises ValueError with the rule, what was got, and the remedy when a unit is misspelt.
    """
    if isinstance(value, str):
        return _checked(_read(value, dimension), value, dimension)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refusal(value, dimension)
    if not dimension.bare:
        raise _no_unit(value, dimension)
    try:
        return _checked(float(value), value, dimension)
    except OverflowError:  # an int of more than 308 digits
        return _checked(math.inf, value, dimension)


@lru_cache(maxsize=4096)  # variants of a scenario say the same but for a few values
def _read(text: str, dimension: Dimension) -> float:
    """Return the value of a text, before its limits are looked at."""
    match = _QUANTITY.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        raise _refusal(text, dimension, _hint(text))
    sign, dollar, number, unit, below = match.groups()
    amount = _amount(number, text) * _numerator(dollar + (unit or ""), below is not None, text, dimension)
    amount /= _denominator(below, text, dimension)
    try:
        return float(-amount if sign == "-" else amount)
    except OverflowError:
        return math.inf


def _checked(result: float, value: object, dimension: Dimension) -> float:
    """Return `result` when it is finite and makes sense for the dimension."""
    if not math.isfinite(result):
        raise ValueError(f"must be finite; got {show(value)}")
    if dimension.low <= result <= dimension.high:
        return result + 0.0  # makes -0.0 into 0.0
    if math.isfinite(dimension.low):
        raise _refusal(value, dimension)
    if result > dimension.high:
        raise ValueError(f"must be at most {exact(dimension.high, dimension)}; got {show(value)}")
    return result


def _amount(number: str, text: str) -> Fraction:
    """Return the digits of a quantity as a fraction."""
    rounded = float(number)
    if math.isinf(rounded):
        raise ValueError(f"must be finite; got {show(text)}")
    # As a fraction, 1e-999999999 would fill the memory; the float says that it is 0.
    return Fraction(number) if rounded else Fraction(0)


def _numerator(unit: str, is_ratio: bool, text: str, dimension: Dimension) -> Fraction:
    """Return the size of what stands with the number, before any slash."""
    size = _size(unit, dimension.units, dimension.prefixed)
    if not is_ratio and dimension.per and (unit == "" or size is not None):
        if unit == "" or "" in dimension.units:
            raise _no_unit(text, dimension)
        raise _refusal(text, dimension, ": the part after `/` is missing")
    if size is not None:
        return size
    if unit == "" and not is_ratio:
        raise _no_unit(text, dimension)
    raise _refusal(text, dimension, _unknown_unit(unit, dimension.units, dimension))


def _denominator(below: str | None, text: str, dimension: Dimension) -> Fraction:
    """Return what stands after the slash, in base units; 1 where no slash belongs."""
    if below is None:
        return Fraction(1)
    if not dimension.per:
        raise _refusal(text, dimension, ": nothing may stand after `/`")
    match = _BELOW.fullmatch(below)
    number, unit = match.groups() if match else (None, below)
    amount = _amount(number, text) if number else Fraction(1)
    if amount == 0:
        raise _refusal(text, dimension, ": it divides by 0")
    size = _size(unit, dimension.per, number is not None and dimension.per == _TOKEN)
    if size is None:
        raise _refusal(text, dimension, _unknown_unit(unit, dimension.per, dimension))
    return amount * size


def _size(unit: str, sizes: Sizes, prefixed: bool) -> Fraction | None:
    """Return the size of `unit`, which may follow k, M or G where things are counted; None when unknown."""
    if unit in sizes:
        return sizes[unit]
    prefix, rest = unit[:1], unit[1:].strip()
    return _PREFIXES[prefix] * sizes[rest] if prefixed and prefix in _PREFIXES and rest in sizes else None


def _refusal(value: object, dimension: Dimension, reason: str = "") -> ValueError:
    """Return the error 'must be a duration, such as `250 ms`; got 3 parsecs: reason'."""
    return ValueError(f"must be a {dimension.name}, such as `{dimension.example}`; got {show(value)}{reason}")


def _no_unit(value: object, dimension: Dimension) -> ValueError:
    """Return the error for a number without its unit."""
    return ValueError(f"must carry a unit, such as `{dimension.example}`; got {show(value)}")


def _unknown_unit(unit: str, sizes: Sizes, dimension: Dimension) -> str:
    """Return what is wrong with `unit`, and the unit that was probably meant."""
    known = [name for name in sizes if name and name.isascii()]
    if not unit:
        return f": the unit after `/` is missing, such as `{known[-1]}`"
    meant = _SYNONYMS.get(unit) or _SYNONYMS.get(unit.lower(), "")
    if unit in dimension.per and sizes is dimension.units and "" in sizes:
        return f": the slash is missing; write `/ {unit}`"
    above, slash, _ = meant.partition("/")
    fits = meant in sizes or (slash and dimension.per == _TIME and above.strip() in sizes)
    choice = meant if fits else nearest(unit, known)
    if choice:
        return f": no such unit `{unit[:20]}`; did you mean `{choice}`?"
    units = f"; the units are {', '.join(f'`{name}`' for name in known)}" if known else ""
    return f": no such unit `{unit[:20]}`{units}"


def _hint(text: str) -> str:
    """Return a hint for text that is no quantity, or ''."""
    if re.search(r"[0-9],[0-9]", text[:_LONGEST]):
        return ": write the number without commas"
    if re.match(r"\s*[-+]?\.?(nan|inf)", text, re.IGNORECASE):
        return ": it must be finite"
    if re.match(r"\s*\$\s*-", text):
        return ": it must not be negative"
    return ""


def format(value: float, dimension: Dimension, digits: int = 3) -> str:
    """Return `value` (base units) for reading, with `digits` significant digits in a fitting unit."""
    if not math.isfinite(value):
        return str(float(value))
    magnitude = Fraction(abs(value))
    suffix, size = _rung(magnitude, dimension, digits)
    number = f"{float(magnitude / size):.{digits - 1}e}"
    return f"{'-' if value < 0 else ''}{dimension.dollar}{_plain(float(number))}{suffix}"


def exact(value: float, dimension: Dimension) -> str:
    """Return text that `parse` reads back as the very same float, in a fitting unit where that is short."""
    if not math.isfinite(value):
        raise ValueError(f"must be finite; got {value}")
    magnitude = Fraction(abs(value))
    # repr gives the shortest digits of the float itself, which is what a user wrote; in its own base unit it is exact.
    meant = Fraction(repr(abs(float(value))))
    fitting = _rung(magnitude, dimension, 17)
    base = next(rung for rung in dimension.ladder if rung[1] == 1)
    texts = []
    for suffix, size in dict.fromkeys((fitting, base, *reversed(dimension.ladder))):
        number = _plain(float(meant / size))
        if float(Fraction(number) * size) == abs(value):
            texts.append((number, suffix))
    number, suffix = texts[0] if len(texts[0][0]) <= _SHORT else min(texts, key=lambda text: len(text[0]))
    return f"{'-' if value < 0 else ''}{dimension.dollar}{number}{suffix}"


def _rung(magnitude: Fraction, dimension: Dimension, digits: int) -> tuple[str, Fraction]:
    """Return the largest rung that `magnitude`, rounded to `digits`, reaches; the base unit for zero."""
    if not magnitude:
        return next(rung for rung in dimension.ladder if rung[1] == 1)
    chosen = dimension.ladder[0]
    for rung in dimension.ladder if dimension.floor else ():
        if float(f"{float(magnitude / rung[1]):.{digits - 1}e}") >= dimension.floor:
            chosen = rung
    return chosen


def significant(number: float, digits: int) -> str:
    """Return a number rounded to so many digits, without zeros at its end, and never as a power of ten unless it is below 1e-12.

    >>> significant(2019.0, 3), significant(7.4e-05, 2), significant(1234.5, 5), significant(0.5, 3)
    ('2,020', '0.000074', '1,234.5', '0.5')
    """
    rounded = float(f"{number:.{digits}g}")
    if not rounded or not 1e-12 <= abs(rounded) < 1e15:
        return f"{number:,.{digits}g}"
    places = max(digits - 1 - int(f"{rounded:e}".partition("e")[2]), 0)
    text = f"{rounded:,.{places}f}"
    return text.rstrip("0").rstrip(".") if places else text


def _plain(number: float) -> str:
    """Return the shortest digits of a float: whole numbers without `.0`, an exponent only when far from 1."""
    text = repr(number)
    digits, exponent, power = text.partition("e")
    if exponent and 1e-6 <= abs(number) < 1:
        decimals = len(digits.replace(".", "")) - 1 - int(power)
        text = f"{number:.{decimals}f}"
    return text.removesuffix(".0")


def pattern(dimension: Dimension) -> str:
    """Return a regular expression, in the dialect of JSON Schema, that texts of this dimension match."""
    digits = f"({_NUMBER.replace('?:', '')})"
    units = "|".join(unit for unit in dimension.units if unit not in ("", "$"))
    optional = "?" if "" in dimension.units or dimension.dollar else ""
    dollar = r"[$]?\s*" if dimension.dollar else ""
    prefix = r"[kMG]?\s*" if dimension.prefixed else ""
    number = rf"[-+]?\s*{dollar}{digits}\s*{prefix}"
    above = f"{number}({units}){optional}" if units else number
    if not dimension.per:
        return rf"^\s*{above}\s*$"
    return rf"^\s*{above}\s*/\s*({digits}\s*[kMG]?\s*)?({'|'.join(map(re.escape, dimension.per))})\s*$"
