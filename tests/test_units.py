"""Quantities with units: what is read, what is refused, and that what is written is read back."""

import math
import pickle
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordsim.sim.engine import units
from coordsim.sim.engine.units import Dimension

DIMENSIONS = [value for value in vars(units).values() if isinstance(value, Dimension)]

READ = [
    ("250 ms", units.DURATION, 0.25),
    ("250ms", units.DURATION, 0.25),
    ("  1.5 min ", units.DURATION, 90.0),
    ("1e3 s", units.DURATION, 1000.0),
    ("1_000 us", units.DURATION, 0.001),
    ("3 \u00b5s", units.DURATION, 3e-6),
    ("3 \u03bcs", units.DURATION, 3e-6),
    (".5 h", units.DURATION, 1800.0),
    ("2 d", units.DURATION, 172800.0),
    ("-1 s", units.DURATION, -1.0),
    ("40 kB", units.SIZE, 40e3),
    ("2 MiB", units.SIZE, 2.0 * 2**20),
    ("1.5k tokens", units.TOKENS, 1500.0),
    ("1 token", units.TOKENS, 1.0),
    ("2 M tokens", units.TOKENS, 2e6),
    ("0.5 / s", units.RATE, 0.5),
    ("120 / min", units.RATE, 2.0),
    ("2/h", units.RATE, 2 / 3600),
    ("12k / s", units.RATE, 12e3),
    ("3 / 2 s", units.RATE, 1.5),
    ("24 GB/s", units.BANDWIDTH, 24e9),
    ("10 Gbit/s", units.BANDWIDTH, 1.25e9),
    ("30k tokens / min", units.TOKEN_RATE, 500.0),
    ("12 ms / token", units.TIME_PER_TOKEN, 0.012),
    ("80 ms / 1k tokens", units.TIME_PER_TOKEN, 80e-6),
    ("2 ns / token^2", units.TIME_PER_TOKEN_SQUARED, 2e-9),
    ("2 ns / tokens\u00b2", units.TIME_PER_TOKEN_SQUARED, 2e-9),
    ("5 ns / B", units.TIME_PER_BYTE, 5e-9),
    ("3 us / kB", units.TIME_PER_BYTE, 3e-9),
    ("4 B / token", units.BYTES_PER_TOKEN, 4.0),
    (0.3, units.SHARE, 0.3),
    ("80 %", units.SHARE, 0.8),
    ("57%", units.SHARE, 0.57),
    ("$0.01", units.MONEY, 0.01),
    ("0.01 USD", units.MONEY, 0.01),
    ("$3 / 1M tokens", units.MONEY_PER_TOKEN, 3e-6),
    ("$2.5 / h", units.MONEY_RATE, 2.5 / 3600),
    (7, units.NUMBER, 7.0),
    ("12k", units.NUMBER, 12e3),
    (10**30, units.NUMBER, 1e30),
]

REFUSED = [
    (250, units.DURATION, "must carry a unit, such as `250 ms`; got 250"),
    ("250", units.DURATION, "must carry a unit, such as `250 ms`; got 250"),
    (0.5, units.RATE, "must carry a unit, such as `0.5 / s`; got 0.5"),
    ("5", units.RATE, "must carry a unit, such as `0.5 / s`; got 5"),
    ("3 msec", units.DURATION, "got 3 msec: no such unit `msec`; did you mean `ms`?"),
    ("3 seconds", units.DURATION, "did you mean `s`?"),
    ("3 MS", units.DURATION, "did you mean `ms`?"),
    ("3 fortnights", units.DURATION, "the units are `ns`, `us`, `ms`, `s`, `min`, `h`, `d`"),
    ("10 Gbps", units.BANDWIDTH, "did you mean `Gbit/s`?"),
    ("5 rps", units.RATE, "did you mean `/ s`?"),
    ("3 tok / s", units.TOKEN_RATE, "did you mean `tokens`?"),
    ("10 GB", units.BANDWIDTH, "the part after `/` is missing"),
    ("10 ms / s", units.DURATION, "nothing may stand after `/`"),
    ("5 / 0 s", units.RATE, "it divides by 0"),
    ("5 / year", units.RATE, "no such unit `year`"),
    ("10 MB", units.DURATION, "must be a duration, such as `250 ms`; got 10 MB: no such unit `MB`"),
    ("1,000 ms", units.DURATION, "write the number without commas"),
    ("nan s", units.DURATION, "it must be finite"),
    ("-inf s", units.DURATION, "it must be finite"),
    ("1e400 s", units.DURATION, "must be finite; got 1e400 s"),
    ("1e300 d", units.DURATION, "must be at most 109500 d; got 1e300 d"),
    ("1e12 s", units.DURATION, "must be at most 109500 d; got 1e12 s"),
    (math.nan, units.NUMBER, "must be finite; got nan"),
    (math.inf, units.SHARE, "must be finite; got inf"),
    (10**400, units.NUMBER, "must be finite; got a whole number of more than 60 digits"),
    (True, units.NUMBER, "must be a number, such as `1.5`; got true"),
    (None, units.DURATION, "must be a duration, such as `250 ms`; got nothing"),
    ({"a": 1}, units.DURATION, "got a mapping"),
    ([1], units.DURATION, "got a list"),
    ("", units.DURATION, "got ''"),
    ("soon", units.DURATION, "got 'soon'"),
    ("+-3 s", units.DURATION, "got +-3 s"),
    ("3 s 4", units.DURATION, "no such unit `s 4`"),
    ("120 %", units.SHARE, "must be a share from 0 to 1, such as `80 %`; got 120 %"),
    (-0.1, units.SHARE, "must be a share from 0 to 1"),
    ("$3", units.MONEY_PER_TOKEN, "the part after `/` is missing"),
    ("3 EUR", units.MONEY, "no such unit `EUR`"),
    ("$3 s", units.DURATION, "no such unit `$s`"),
    ("9" * 200 + " s", units.DURATION, "must be a duration"),
]


@pytest.mark.parametrize(("text", "dimension", "value"), READ)
def test_a_quantity_is_read_in_base_units(text: object, dimension: Dimension, value: float) -> None:
    """Every spelling gives the float nearest to the decimal value, exactly."""
    assert units.parse(text, dimension) == value


@pytest.mark.parametrize(("text", "dimension", "message"), REFUSED)
def test_a_bad_quantity_is_refused_with_rule_value_and_remedy(text: object, dimension: Dimension, message: str) -> None:
    """The error says what must hold, what was got and, where it can, what was meant."""
    with pytest.raises(ValueError, match=re.escape(message)):
        units.parse(text, dimension)


def test_one_value_in_two_units_is_one_float() -> None:
    """Values are rounded once, so that comparing scenarios written in different units is safe."""
    for tenth in range(1, 1000):
        assert units.parse(f"{tenth / 10} s", units.DURATION) == units.parse(f"{tenth * 100} ms", units.DURATION)


def test_a_tiny_exponent_costs_no_memory() -> None:
    """A number below every float is zero at once; it is not built digit by digit."""
    assert units.parse("1e-999999999 s", units.DURATION) == 0.0


def test_zero_has_no_sign() -> None:
    """Minus nothing is nothing, in text and in logs."""
    assert math.copysign(1, units.parse("-0 s", units.DURATION)) == 1


@pytest.mark.parametrize(
    ("value", "dimension", "text"),
    [
        (0.0123, units.DURATION, "12.3 ms"),
        (4.1, units.DURATION, "4.1 s"),
        (90, units.DURATION, "1.5 min"),
        (0, units.DURATION, "0 s"),
        (-0.0123, units.DURATION, "-12.3 ms"),
        (0.9996, units.DURATION, "1 s"),
        (59.99, units.DURATION, "1 min"),
        (1e-12, units.DURATION, "0.001 ns"),
        (math.nan, units.DURATION, "nan"),
        (40e3, units.SIZE, "40 kB"),
        (1234, units.TOKENS, "1.23k tokens"),
        (0.5, units.RATE, "0.5 / s"),
        (1 / 60, units.RATE, "1 / min"),
        (2 / 3600, units.RATE, "2 / h"),
        (1.25e9, units.BANDWIDTH, "1.25 GB/s"),
        (80e-6, units.TIME_PER_TOKEN, "80 \u00b5s / token"),
        (0.7996, units.SHARE, "80 %"),
        (0.01, units.MONEY, "$0.01"),
        (3e-6, units.MONEY_PER_TOKEN, "$3 / 1M tokens"),
        (2.5 / 3600, units.MONEY_RATE, "$2.5 / h"),
        (0.98, units.NUMBER, "0.98"),
    ],
)
def test_a_value_is_written_for_reading(value: float, dimension: Dimension, text: str) -> None:
    """Three significant digits, in the unit that fits."""
    assert units.format(value, dimension) == text


@pytest.mark.parametrize("dimension", DIMENSIONS, ids=lambda dimension: dimension.name)
@settings(max_examples=40)
@given(data=st.data())
def test_what_exact_writes_is_read_back_as_the_same_float(dimension: Dimension, data: st.DataObject) -> None:
    """A scenario that was written out and read again is the same scenario, to the last bit."""
    largest = min(dimension.high, 1e300)
    value = data.draw(st.floats(0, largest) | st.floats(1e-9, min(largest, 1e6)))
    assert units.parse(units.exact(value, dimension), dimension) == value


@pytest.mark.parametrize("dimension", DIMENSIONS, ids=lambda dimension: dimension.name)
@settings(max_examples=40)
@given(data=st.data())
def test_what_format_writes_is_read_back_within_its_digits(dimension: Dimension, data: st.DataObject) -> None:
    """Three digits leave at most half a unit of the third: 0.5 % of the smallest leading digit."""
    value = data.draw(st.floats(1e-6, min(dimension.high / 2, 1e9)))
    assert units.parse(units.format(value, dimension), dimension) == pytest.approx(value, rel=0.00501)


@pytest.mark.parametrize(("text", "dimension", "value"), READ)
def test_what_is_read_matches_the_pattern_for_editors(text: object, dimension: Dimension, value: float) -> None:
    """An editor that follows the JSON Schema accepts what the program accepts."""
    assert value is not None
    if isinstance(text, str):
        assert re.search(units.pattern(dimension), text)


@pytest.mark.parametrize("dimension", DIMENSIONS, ids=lambda dimension: dimension.name)
def test_a_dimension_reads_its_own_example_and_survives_pickling(dimension: Dimension) -> None:
    """The remedy that an error offers is one that works; worker processes get equal dimensions."""
    value = units.parse(dimension.example, dimension)
    assert re.search(units.pattern(dimension), dimension.example)
    copy = pickle.loads(pickle.dumps(dimension))
    assert copy == dimension
    assert units.parse(dimension.example, copy) == value


def test_a_value_that_is_not_finite_cannot_be_written_exactly() -> None:
    """There is no text that would be read back."""
    with pytest.raises(ValueError, match="must be finite"):
        units.exact(math.inf, units.DURATION)
