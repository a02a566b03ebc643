"""Designs: points are a pure function of seed and factors, and cover the factors as each design says."""

import numpy as np
import pytest

from coordsim.sim.analysis.design import (
    SAMPLED,
    Design,
    DesignError,
    Range,
    design_points,
    doubts_of,
    range_of,
    size_of,
)

WIDE = range_of({"from": "100 ms", "to": "10 s", "scale": "log"})
COUNTS = range_of({"from": 1, "to": 4})


def seconds(value: object) -> float:
    """Return an amount of time in seconds."""
    number, unit = str(value).split()
    return float(number) * {"ms": 1e-3, "s": 1.0}[unit]


def test_a_grid_is_every_combination_the_last_factor_fastest() -> None:
    """As nested loops would go."""
    assert design_points("grid", [[1, 2], ["a", "b", "c"]], None, 0) == [
        (1, "a"), (1, "b"), (1, "c"), (2, "a"), (2, "b"), (2, "c"),
    ]  # fmt: skip


def test_a_zip_takes_values_side_by_side() -> None:
    """The first of each, then the second; as many of each there must be."""
    assert design_points("zip", [[1, 2], ["a", "b"]], None, 0) == [(1, "a"), (2, "b")]
    with pytest.raises(DesignError, match=r"as many values of every factor; got 2, 1"):
        design_points("zip", [[1, 2], ["a"]], None, 0)


@pytest.mark.parametrize("design", SAMPLED)
def test_a_sample_depends_on_the_seed_alone(design: Design) -> None:
    """The same seed gives the same points, another seed others, and every one lies in its range, with its unit."""
    first, again, other = (design_points(design, [WIDE, COUNTS, ["a", "b"]], 16, seed) for seed in (5, 5, 6))
    assert first == again != other
    assert all(0.1 <= seconds(x) <= 10 and n in (1, 2, 3, 4) and text in "ab" for x, n, text in first)


@pytest.mark.parametrize("design", ["random", "sobol"])
def test_a_longer_sample_begins_with_the_shorter(design: Design) -> None:
    """So that a study can grow."""
    short, long = (design_points(design, [WIDE, COUNTS], count, 3) for count in (12, 40))
    assert long[:12] == short


@pytest.mark.parametrize("design", ["latin-hypercube", "sobol"])
def test_each_sixteenth_of_a_range_has_one_of_sixteen_points(design: Design) -> None:
    """What makes a Latin hypercube, and what a Sobol' sample of a power of two has in each of its factors."""
    points = design_points(design, [WIDE, WIDE], 16, 9)
    for place in (0, 1):
        shares = [np.log(seconds(point[place]) / 0.1) / np.log(100) for point in points]
        assert sorted(int(16 * share) for share in shares) == list(range(16))


def test_values_and_counts_are_sampled_in_equal_shares() -> None:
    """Of 32 Sobol' points eight have each of four counts, and 16 each of two values."""
    points = design_points("sobol", [COUNTS, ["a", "b"]], 32, 1)
    assert [sum(n == count for n, _ in points) for count in (1, 2, 3, 4)] == [8, 8, 8, 8]
    assert sum(text == "a" for _, text in points) == 16


def test_a_sobol_sample_that_is_no_power_of_two_is_doubtful() -> None:
    """And says which numbers are near; other designs do not care."""
    assert doubts_of("sobol", 64) == doubts_of("random", 50) == []
    assert doubts_of("sobol", 50) == [
        "a Sobol' sample of 50 points is not balanced, as 50 is no power of two; try `--points 32` or `--points 64`"
    ]


@pytest.mark.parametrize(
    ("written", "ladder"),
    [
        ({"from": "100 ms", "to": "10 s", "scale": "log", "steps": 3}, ("100 ms", "1 s", "10 s")),
        ({"from": "10 %", "to": "50 %", "steps": 3}, ("10 %", "30 %", "50 %")),
        ({"from": 1, "to": 4}, (1, 2, 3, 4)),
        ({"from": 1, "to": 64, "scale": "log", "steps": 4}, (1, 4, 16, 64)),
        ({"from": 1.0, "to": 2.0, "steps": 3}, (1.0, 1.5, 2.0)),
        ({"from": "0.5 / s", "to": "2 / s", "scale": "log", "steps": 3}, ("0.5 / s", "1 / s", "2 / s")),
    ],
)
def test_a_range_has_steps_with_units(written: dict[str, object], ladder: tuple[object, ...]) -> None:
    """Evenly spaced along the scale, both ends as they were written."""
    found = range_of(written)
    assert found.ladder() == ladder
    assert range_of(found.to_data()) == found
    assert size_of("grid", [found, found], None) == len(ladder) ** 2


@pytest.mark.parametrize(
    ("written", "rule"),
    [
        ({"from": 1}, "lacks `to`"),
        ({"from": 1, "to": 2, "step": 1}, "has no field `step`"),
        ({"from": 2, "to": 1}, "`from` must be below `to`; got 2 and 1"),
        ({"from": "1 s", "to": "2 kB"}, "amounts of one kind"),
        ({"from": 0, "to": 1, "scale": "log"}, "must begin above 0; got 0"),
        ({"from": 1, "to": 2, "scale": "cubic"}, "`scale` must be `linear` or `log`"),
        ({"from": "1 s", "to": "2 s", "whole": True}, "`whole` goes with whole numbers"),
        ({"from": 1, "to": 9, "steps": 1}, "`steps` must be a whole number >= 2; got 1"),
    ],
)
def test_a_range_that_cannot_be_says_the_rule(written: dict[str, object], rule: str) -> None:
    """With what was got."""
    with pytest.raises(DesignError) as error:
        range_of(written)
    assert rule in str(error.value)


def test_every_drawn_amount_is_as_written() -> None:
    """Six digits: what a table shows is what was run."""
    found = Range(0.1, 1.0, WIDE.dimension)
    assert {
        len(str(found.at(share)).partition(" ")[0].replace(".", "").lstrip("0")) <= 6 for share in np.linspace(0, 1, 50)
    } == {True}
