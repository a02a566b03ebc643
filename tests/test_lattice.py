"""The search of a lattice finds what brute force finds, with few evaluations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordsim.sim.analysis.lattice import Search, share

Grid = npt.NDArray[np.int64]
PASSES, UNSURE, FAILS = 2, 1, 0  # levels of an oracle that is monotone
VERDICTS = {PASSES: "pass", UNSURE: "inconclusive", FAILS: "fail"}


def solve(search: Search, truth: Grid) -> int:
    """Search with the oracle `truth`; return how many points were looked at, none of them twice."""
    seen: set[tuple[int, ...]] = set()
    while (point := search.next()) is not None:
        assert point not in seen
        seen.add(point)
        search.learn(point, VERDICTS[int(truth[point])])  # type: ignore[arg-type]
    return len(seen)


def rising(level: npt.NDArray[np.float64], monotone: Sequence[bool]) -> npt.NDArray[np.float64]:
    """Make levels rise along the monotone axes."""
    for axis, one in enumerate(monotone):
        if one:
            level = np.maximum.accumulate(level, axis=axis)
    return level


def tandem(sizes: tuple[int, ...], rng: np.random.Generator) -> tuple[Grid, npt.NDArray[np.float64]]:
    """Return which counts of servers keep the sum of M/M/1-like times below a limit, and what they cost."""
    counts = np.meshgrid(*[np.arange(1, size + 1) for size in sizes], indexing="ij")
    rates = [rng.uniform(0.5, 2) for _ in sizes]
    arrival = rng.uniform(0.1, 0.7) * min(rate * size for rate, size in zip(rates, sizes, strict=True))
    slack = [np.maximum(n * rate - arrival, 0.0) for n, rate in zip(counts, rates, strict=True)]
    with np.errstate(divide="ignore"):
        times: npt.NDArray[np.float64] = sum((1 / one for one in slack), np.zeros(sizes))
    limit = np.quantile(times[np.isfinite(times)], rng.uniform(0.05, 0.9))
    costs = np.zeros(sizes)
    for n in counts:
        costs += rng.uniform(0.2, 3) * n
    return np.where(times <= limit, PASSES, FAILS), costs


@given(st.data())
def test_the_search_finds_what_brute_force_finds(data: st.DataObject) -> None:
    """On any monotone oracle with any costs: the cheapest pass, all cheaper ones refused or told as undecided."""
    sizes = tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    monotone = [data.draw(st.booleans()) for _ in sizes]
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    band = data.draw(st.sampled_from([0.0, 0.2]))
    share_of_fails = data.draw(st.floats(0, 1))
    level = rising(rng.random(sizes) ** (1 + sum(monotone)), monotone)
    truth = np.where(level > share_of_fails + band, PASSES, np.where(level > share_of_fails, UNSURE, FAILS))
    cost = rng.integers(0, 6, sizes).astype(float) if data.draw(st.booleans()) else rng.random(sizes)
    search = Search(sizes, monotone, cost)
    solve(search, truth)
    passing = np.where(truth == PASSES, cost, math.inf)
    least = float(passing.min())
    if math.isinf(least):
        assert search.best is None
    else:
        assert search.best is not None
        assert cost[search.best] == least
    cheaper = (cost < least) & (truth == UNSURE)
    assert sorted(search.undecided) == sorted(zip(*(axis.tolist() for axis in np.nonzero(cheaper)), strict=True))
    assert search.proven == (not cheaper.any())


@pytest.mark.parametrize("size", [1, 2, 7, 64, 1000])
def test_one_variable_is_bisection(size: int) -> None:
    """Whatever the threshold, at most log2(n + 1) points are looked at, rounded up, and the greatest; where none passes, two at most."""
    for least in {0, size // 3, size // 2, size - 1, size}:
        truth = np.where(np.arange(size) >= least, PASSES, FAILS)
        search = Search((size,), (True,), np.arange(size))
        looked = solve(search, truth)
        assert looked <= (2 if least == size else math.ceil(math.log2(size + 1)) + 1)
        assert search.best == (None if least == size else (least,))


@pytest.mark.parametrize(
    ("sizes", "most"), [((10, 10), 0.2), ((30, 30), 0.05), ((8, 8, 8), 0.1), ((16, 16, 16), 0.03), ((10,) * 4, 0.03)]
)
def test_few_points_of_a_grid_are_looked_at(sizes: tuple[int, ...], most: float) -> None:
    """Of tandem-like grids with prices, no more than this share is looked at in any of ten tries."""
    rng = np.random.default_rng(1)
    for _ in range(10):
        truth, cost = tandem(sizes, rng)
        search = Search(sizes, [True] * len(sizes), cost)
        assert solve(search, truth) <= most * math.prod(sizes)
        assert search.best is not None
        assert search.cost(search.best) == cost[truth == PASSES].min()


def test_a_grid_in_which_nothing_passes_takes_one_look() -> None:
    """The greatest point of several monotone variables fails, and so does everything."""
    search = Search((20, 20, 20), (True,) * 3, np.ones((20, 20, 20)))
    assert solve(search, np.zeros((20, 20, 20), dtype=np.int64)) == 1
    assert search.proven
    assert search.best is None


def test_a_plateau_near_the_threshold_is_not_looked_at_point_by_point() -> None:
    """Of 1000 inconclusive points in a row few are looked at; all stay undecided, and none is chosen."""
    truth = np.where(np.arange(1100) < 100, FAILS, UNSURE)
    search = Search((1100,), (True,), np.arange(1100))
    assert solve(search, truth) <= 40
    assert search.best is None
    assert len(search.undecided) == 1000


def test_choices_are_slices_that_say_nothing_of_each_other() -> None:
    """A failing choice leaves the other open, and one that is too dear is not looked at."""
    cost = np.array([[1.0, 2.0, 3.0], [2.0, 3.0, 4.0], [10.0, 11.0, 12.0]])
    search = Search((3, 3), (False, True), cost)
    truth = np.array([[FAILS] * 3, [FAILS, PASSES, PASSES], [PASSES] * 3])
    solve(search, truth)
    assert search.best == (1, 1)
    assert all(search.status((2, at)) is None for at in range(3))


def test_what_is_invalid_says_nothing_of_others() -> None:
    """A point that cannot be is never chosen, and what is below and above it is still found."""
    search = Search((3,), (True,), np.arange(3))
    assert search.next() == (1,)
    search.learn((1,), "invalid")
    solve(search, np.array([FAILS, PASSES, PASSES]))
    assert search.best == (2,)
    assert search.proven


@pytest.mark.parametrize("verdict", ["invalid", "fail"])
def test_what_was_implied_to_pass_may_turn_out_not_to(verdict: Literal["invalid", "fail"]) -> None:
    """Told of a point itself, unseen, that it is invalid or excluded by its bound holds against a pass that others imply."""
    search = Search((3,), (True,), np.arange(3))
    search.learn((0,), "pass", seen=False)
    search.learn((0,), verdict, seen=False)
    assert (search.status((0,)), search.best, search.evaluations) == (verdict, (1,), 0)


def test_a_point_seen_to_stay_inconclusive_is_not_implied_to_pass() -> None:
    """Its own evaluation would not pass; that it fails may be implied, and it may pass when it is seen again."""
    search = Search((3,), (True,), np.arange(3))
    search.learn((1,), "inconclusive")
    for point in ((0,), (1,)):
        search.learn(point, "pass", seen=False)
    assert [search.status((at,)) for at in range(3)] == ["pass", "inconclusive", "pass"]
    search.learn((1,), "pass")
    assert search.status((1,)) == "pass"
    other = Search((3,), (True,), np.arange(3))
    other.learn((1,), "inconclusive")
    other.learn((2,), "fail", seen=False)
    assert other.status((1,)) == "fail"


def test_loads_share_what_they_know() -> None:
    """A pass holds at lower loads, a fail at higher ones, and neither elsewhere."""
    searches = [Search((5,), (True,), np.arange(5)) for _ in range(3)]
    share(searches, 1, (3,), "pass")
    share(searches, 1, (1,), "fail")
    assert [search.status((4,)) for search in searches] == ["pass", None, None]
    assert [search.status((0,)) for search in searches] == [None, None, "fail"]


def test_a_slice_that_turns_out_dearer_is_looked_at_last() -> None:
    """Costs of a whole slice rise, but for points whose cost is known."""
    search = Search((2, 2), (False, True), [[1.0, 2.0], [3.0, 4.0]])
    search.learn((0, 1), "pass", 12.0)
    search.at_least((0, 1), 10.0)
    assert (search.cost((0, 0)), search.cost((0, 1)), search.cost((1, 1))) == (11.0, 12.0, 4.0)
    solve(search, np.array([[FAILS, PASSES], [PASSES, PASSES]]))
    assert search.best == (1, 0)


def test_bounds_are_asked_for_few_points() -> None:
    """What bounds exclude is found along its edge, and is monotone as verdicts are."""
    sizes = (30, 30)
    counts = np.add.outer(np.arange(30), np.arange(30))
    search, asked = Search(sizes, (True, True), counts), 0
    while (point := search.unbounded()) is not None:
        asked += 1
        if counts[point] < 20:
            search.learn(point, "fail", seen=False)
        else:
            search.may_pass(point)
    assert search.count("fail") == int((counts < 20).sum())
    assert asked <= 0.12 * counts.size
    assert search.evaluations == 0


def test_a_search_that_cannot_be_is_refused() -> None:
    """A variable without values, and a cost that is none."""
    with pytest.raises(ValueError, match="needs a value"):
        Search((0,), (True,), 0.0)
    with pytest.raises(ValueError, match="got nan"):
        Search((2,), (True,), [1.0, math.nan])
