"""The random numbers of a run: pure functions of their place, independent of each other, in bounded memory."""

from __future__ import annotations

import hashlib
import math
import random
import struct
from typing import Any

import numpy as np
import pytest

from coordsim.sim.engine.draws import BLOCK, HEAD, MAX_ORDINAL, ROOT_LANE, RUN, Choice, Draws, Stream, lane

BRANCH = lane(ROOT_LANE, 3, 0, 1)
PLACES = [
    (task, ordinal, where)
    for task in (0, 1, BLOCK - 1, BLOCK, 5 * BLOCK + 7)
    for ordinal in (0, 1, HEAD - 1, HEAD, HEAD + RUN - 1, HEAD + RUN, 500)
    for where in (ROOT_LANE, BRANCH)
]
# A correlation of n independent pairs is about normal with deviation 1/sqrt(n): five deviations leave a chance of 6e-7.
DEVIATIONS = 5.0


def exponential(rng: np.random.Generator, n: int) -> np.ndarray:
    """Sample with mean 2."""
    return rng.exponential(2.0, n)


def normal(rng: np.random.Generator, n: int) -> np.ndarray:
    """Sample with mean 0 and deviation 1."""
    return rng.standard_normal(n)


def grid(stream: Stream[float], tasks: int, ordinals: int, where: int = ROOT_LANE) -> np.ndarray:
    """Draws as an array of shape (ordinals, tasks)."""
    return np.array([[stream.draw(task, ordinal, where) for task in range(tasks)] for ordinal in range(ordinals)])


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return Pearson's correlation over all pairs."""
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def all_at(stream: Stream[Any], places: list[tuple[int, int, int]] = PLACES) -> dict[tuple[int, int, int], float]:
    """Draw at each place, in the order given."""
    return {place: stream.draw(*place) for place in places}


def test_the_order_of_asking_changes_nothing() -> None:
    """Every place gives the same number whether asked first, last or again."""
    expected = all_at(Draws(1).stream("a", exponential))
    for shuffle in range(5):
        places = PLACES * 2
        random.Random(shuffle).shuffle(places)
        assert all_at(Draws(1).stream("a", exponential), places) == expected


def test_dropped_blocks_come_back_the_same() -> None:
    """A block asked for after all its tasks ended holds the numbers it held before."""
    draws = Draws(1)
    stream = draws.stream("a", exponential)
    expected = all_at(stream)
    for task in range(6 * BLOCK):
        draws.finish(task)
    assert draws.held == 0
    assert all_at(stream) == expected


def test_another_stream_changes_nothing() -> None:
    """Streams added and drawn from between the draws of one leave its numbers as they were."""
    expected = all_at(Draws(1).stream("a", exponential))
    draws = Draws(1)
    before, stream, after = draws.uniform("before"), draws.stream("a", exponential), draws.choice("after", [1, 2])
    for place, value in expected.items():
        before.draw(*place)
        assert stream.draw(*place) == value
        after.draw(*place)


def test_the_same_name_gives_the_same_numbers() -> None:
    """A name, not the turn in which a stream was made, decides its numbers."""
    draws = Draws(1)
    draws.uniform("c")
    assert all_at(draws.stream("a", exponential)) == all_at(draws.stream("a", exponential))


def test_seed_replication_and_name_change_every_number() -> None:
    """No place keeps its number under another seed (0 and negative ones included), replication or name."""
    makers = [Draws(0), Draws(1), Draws(-1), Draws(2**80), Draws(0, 1), Draws(1, 1), Draws(10), Draws(1, 0)]
    values = [all_at(draws.uniform("a")) for draws in makers] + [all_at(Draws(1).uniform("b"))]
    assert values[1] == values[7]
    del values[7]
    for place in PLACES:
        assert len({each[place] for each in values}) == len(values)


def test_all_places_hold_different_numbers() -> None:
    """No two places of a stream share a number, so that no key of the cache and no counter is used twice."""
    stream = Draws(3).uniform("a")
    lanes = [ROOT_LANE, BRANCH, lane(ROOT_LANE, 3, 0, 2), lane(ROOT_LANE, 3, 1, 1), lane(BRANCH, 3, 0, 1)]
    places = [(task, o, where) for task in range(0, 3 * BLOCK, 5) for o in range(HEAD + 2 * RUN) for where in lanes]
    assert len({stream.draw(*place) for place in places}) == len(places)


def test_the_numbers_follow_their_distribution() -> None:
    """The mean of exponential draws, in task blocks and in runs, is the declared one within its standard error."""
    stream = Draws(4).stream("a", exponential)
    values = grid(stream, tasks=1000, ordinals=HEAD + RUN)
    for part in (values[:HEAD], values[HEAD:]):
        assert abs(part.mean() - 2.0) < DEVIATIONS * 2.0 / math.sqrt(part.size)


def test_ordinals_tasks_and_lanes_are_independent() -> None:
    """Neighbouring ordinals, tasks, blocks and lanes do not correlate."""
    stream = Draws(5).stream("a", normal)
    values, other = grid(stream, 8 * BLOCK, 24), grid(stream, 8 * BLOCK, 24, BRANCH)
    pairs = {
        "ordinals": (values[:-1], values[1:]),
        "tasks": (values[:, :-1], values[:, 1:]),
        "blocks": (values[:, :-BLOCK], values[:, BLOCK:]),
        "lanes": (values, other),
    }
    for name, (a, b) in pairs.items():
        assert abs(correlation(a, b)) < DEVIATIONS / math.sqrt(a.size), name


def test_streams_seeds_and_replications_are_independent() -> None:
    """Numbers at the same place of another stream, seed or replication do not correlate."""
    base = grid(Draws(5).stream("a", normal), 8 * BLOCK, 8)
    for other in (Draws(5).stream("b", normal), Draws(6).stream("a", normal), Draws(5, 1).stream("a", normal)):
        assert abs(correlation(base, grid(other, 8 * BLOCK, 8))) < DEVIATIONS / math.sqrt(base.size)


def test_a_constant_is_never_drawn() -> None:
    """A number in place of a sampler is every draw, is named as the constant, and takes no memory."""
    draws = Draws(1)
    stream = draws.stream("a", 0.35)
    assert stream.constant == 0.35
    assert set(all_at(stream).values()) == {0.35}
    assert draws.stream("b", exponential).constant is None
    assert draws.held == 0


def test_draws_are_python_numbers() -> None:
    """Numpy scalars, slow in the event loop, never come out."""
    draws = Draws(1)
    assert type(draws.stream("a", exponential).draw(1, 2)) is float
    assert type(draws.choice("b", [1, 1]).draw(1, 20)) is int


def test_memory_is_bounded_by_the_tasks_under_way() -> None:
    """Ten times as many tasks hold no more numbers than the blocks of those under way."""
    draws = Draws(1)
    streams = [draws.stream(name, exponential) for name in "abc"]
    under_way = 100
    for task in range(20 * BLOCK):
        for stream in streams:
            stream.draw(task, task % 10)
            stream.draw(task, HEAD)
        if task >= under_way:
            draws.finish(task - under_way)
        assert draws.held <= 2 * BLOCK * len(streams) * (10 + RUN)


def test_a_stragglers_late_draw_leaves_nothing_behind() -> None:
    """A draw for a task whose whole block is over gives its number and keeps none."""
    draws = Draws(1)
    stream = draws.uniform("a")
    value = stream.draw(3, 1)
    for task in range(BLOCK):
        draws.finish(task)
    assert stream.draw(3, 1) == value
    assert draws.held == 0


def test_a_block_stays_while_one_of_its_tasks_does() -> None:
    """Numbers are kept until the last task of their block ended, in whatever order the tasks end."""
    draws = Draws(1)
    draws.uniform("a").draw(0, 0)
    for task in range(BLOCK - 1, 0, -1):
        draws.finish(task)
    assert draws.held == BLOCK
    draws.finish(0)
    assert draws.held == 0


@pytest.mark.parametrize(("task", "ordinal"), [(-1, 0), (0, -1), (0, MAX_ORDINAL)])
def test_places_outside_the_range_are_refused(task: int, ordinal: int) -> None:
    """A negative task or ordinal, or a loop of more than a million draws, raises with the values."""
    with pytest.raises(ValueError, match=f"task={task}, ordinal={ordinal}"):
        Draws(1).uniform("a").draw(task, ordinal)


def test_the_last_ordinal_can_be_drawn() -> None:
    """The greatest ordinal has a place of its own, apart from the next lane's first."""
    stream = Draws(1).uniform("a")
    assert len({stream.draw(t, MAX_ORDINAL - 1, where) for t in (0, BLOCK - 1) for where in (0, 1 << 24)}) == 4


def test_choice_follows_its_weights() -> None:
    """Each index comes as often as its weight says, within five standard errors; weights need not sum to 1."""
    weights = np.array([1.0, 0.0, 3.0, 6.0, 0.0])
    n = 100_000
    counts = np.bincount(Choice(weights.tolist())(np.random.default_rng(1), n), minlength=5)
    shares = weights / weights.sum()
    assert (np.abs(counts - n * shares) <= DEVIATIONS * np.sqrt(n * shares * (1 - shares))).all()


def test_choice_never_takes_what_cannot_be() -> None:
    """The uniform numbers at both ends of [0, 1) fall on indices of positive weight, also where the sum is rounded."""

    class Ends:
        def random(self, n: int) -> np.ndarray:
            return np.resize([0.0, math.nextafter(1.0, 0.0)], n)

    for positive in ([0.1] * 10, [1 / 3] * 3, [1e-300, 1e300], [5e-324, 5e-324], [1e308] * 4):
        first, last = Choice([0.0, *positive, 0.0])(Ends(), 2).tolist()  # type: ignore[arg-type]
        assert 1 <= first <= last == len(positive)


def test_choice_of_one_is_a_constant() -> None:
    """Where only one index can occur, nothing is drawn."""
    assert Draws(1).choice("a", [0, 2, 0]).constant == 1


@pytest.mark.parametrize("weights", [[], [0.0], [-1.0, 2.0], [math.nan], [math.inf, 1.0], [[1.0]]])
def test_choice_refuses_weights_that_are_none(weights: list[Any]) -> None:
    """Empty, all-zero, negative, infinite or nested weights raise with what was got."""
    with pytest.raises(ValueError, match="weights must be finite"):
        Choice(weights)


def test_lanes_are_apart() -> None:
    """Each branch of each visit of each fork, also of nested ones, has a lane of its own; none is the root's."""
    first = [lane(ROOT_LANE, f, v, b) for f in range(20) for v in range(20) for b in range(20)]
    second = [lane(parent, 0, 0, b) for parent in first[:500] for b in range(4)]
    assert len({ROOT_LANE, *first, *second}) == 1 + len(first) + len(second)


def test_draws_are_philox_at_the_documented_counter() -> None:
    """Key and counter as the module states them, put into a new Philox generator, give the numbers of both shapes of block."""
    digest = hashlib.blake2b(b"7\x002\x00a", digest_size=16, person=b"coordsim draws").digest()
    key = int.from_bytes(digest, "little")
    stream = Draws(7, 2).uniform("a")
    task, run = 5 * BLOCK + 9, 2
    block = np.random.Generator(np.random.Philox(key=key, counter=[0, 5, 3, BRANCH])).random(BLOCK)
    tail = np.random.Generator(np.random.Philox(key=key, counter=[0, task, (1 << 32) + run, BRANCH])).random(RUN)
    assert stream.draw(task, 3, BRANCH) == block[9]
    assert [stream.draw(task, run * RUN - (RUN - HEAD) + i, BRANCH) for i in range(RUN)] == tail.tolist()


def test_a_lane_is_a_hash_of_its_place() -> None:
    """A lane is the documented hash, so it is the same in every process, with its low 24 bits free and 40 above them."""
    digest = hashlib.blake2b(struct.pack("<4Q", 0, 3, 0, 1), digest_size=5, person=b"coordsim lane").digest()
    assert int.from_bytes(digest, "little") << 24 == BRANCH
    assert 0 < BRANCH < 1 << 64
