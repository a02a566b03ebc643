"""The state machines of handling: waits, budgets, circuit breakers, bulkheads, learned delays."""

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordsim.models.handling import Backoff, Breaker, Budget
from coordsim.models.policies import LEAST, BreakerState, Bulk, LearnedDelay, Tokens, Waits

# ---------------------------------------------------------------------------------------------------------------------
# Handling: waits between attempts.
# ---------------------------------------------------------------------------------------------------------------------
JITTERS = ["none", "full", "equal", "decorrelated"]
Z = 4.5  # standard errors: about 7 in a million by chance, and the draws are the same each time
UNIFORM = st.floats(0, 1, exclude_max=True)


def waits(jitter: str = "none", first: float = 1.0, factor: float = 2.0, most: float = 10.0) -> Waits:
    """Return waits (s)."""
    data = {"first": f"{first!r} s", "factor": factor, "most": f"{most!r} s", "jitter": jitter}
    return Waits(Backoff.model_validate(data))


@pytest.mark.parametrize(
    ("jitter", "draw", "expected"),
    [
        ("none", 0.25, [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]),
        ("full", 0.0, [0.0] * 6),
        ("full", 0.25, [0.25, 0.5, 1.0, 2.0, 2.5, 2.5]),
        ("equal", 0.0, [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]),
        ("equal", 0.5, [0.75, 1.5, 3.0, 6.0, 7.5, 7.5]),
        ("decorrelated", 0.0, [1.0] * 6),
        ("decorrelated", 0.5, [2.0, 3.5, 5.75, 9.125, 10.0, 10.0]),
    ],
)
def test_waits_grow_to_the_most_and_are_shortened_by_chance(jitter: str, draw: float, expected: list[float]) -> None:
    """With the same draw each time, the waits are those reckoned by hand: the cap first, then chance."""
    law, found, last = waits(jitter), [], 0.0
    for attempt in range(1, 7):
        last = law.delay(attempt, last, draw)
        found.append(last)
    assert found == expected


@given(
    first=st.floats(0, 1e6),
    factor=st.floats(1e-3, 1e300),
    most=st.floats(1e-6, 1e9),
    attempt=st.integers(1, 100),
    draw=UNIFORM,
    part=UNIFORM,
)
def test_waits_keep_their_bounds(
    first: float, factor: float, most: float, attempt: int, draw: float, part: float
) -> None:
    """For any backoff and up to 100 attempts a wait is within its jitter's bounds, reckoned in exact fractions."""
    longest = float(min(Fraction(most), Fraction(first) * Fraction(factor) ** (attempt - 1)))
    last = part * most
    spread = 3 * max(last, first)
    for jitter, low, high in (
        ("none", longest, longest),
        ("full", 0.0, longest),
        ("equal", longest / 2, longest),
        ("decorrelated", min(first, most), min(most, spread)),
    ):
        found = waits(jitter, first=first, factor=factor, most=most).delay(attempt, last, draw)
        # a power of 99 roundings, and subnormal waits, of which a float keeps few digits
        assert low * (1 - 1e-12) - 1e-300 <= found <= high * (1 + 1e-12) + 1e-300
        assert found <= most


@pytest.mark.parametrize("jitter", JITTERS)
def test_the_hundredth_wait_does_not_overflow(jitter: str) -> None:
    """Factors of which the hundredth power is no float give the longest wait, and none where the first is none."""
    for factor in (1e4, 1e300):
        law = waits(jitter, factor=factor)
        assert 0 < law.delay(100, 10.0, 0.999) <= 10.0
        assert 0 < law.mean(100) <= 10.0
        never = waits(jitter, factor=factor, first=0.0)
        assert never.delay(100, 0.0, 0.999) == never.mean(100) == 0.0
        assert not never.random
    assert waits(jitter, factor=1e-300).delay(100, 0.0, 0.0) == (1.0 if jitter == "decorrelated" else 0.0)


@pytest.mark.parametrize("jitter", JITTERS)
def test_the_mean_of_a_wait_is_the_mean_of_its_draws(jitter: str) -> None:
    """Chains of five waits, drawn 20,000 times: each mean is within its interval while the cap is out of reach."""
    law = waits(jitter, most=1000.0)
    draws = np.random.default_rng(7).random((20_000, 5)).tolist()
    chains = np.zeros((20_000, 5))
    for number, row in enumerate(draws):
        last = 0.0
        for step, draw in enumerate(row):
            last = chains[number, step] = law.delay(step + 1, last, draw)
    for step in range(5):
        found, spread = chains[:, step].mean(), chains[:, step].std(ddof=1) / math.sqrt(len(chains))
        assert abs(found - law.mean(step + 1)) <= Z * spread + 1e-12
    assert law.random == (chains.std(axis=0).max() > 0)


def test_decorrelated_means_follow_their_recursion_and_bound_capped_ones() -> None:
    """m[1] = 2 first and m[n + 1] = (first + 3 m[n])/2; under a cap within reach the drawn means are less."""
    law, mean = waits("decorrelated", most=1e9), 2.0
    for attempt in range(1, 30):
        assert law.mean(attempt) == pytest.approx(mean, rel=1e-12)
        mean = (1 + 3 * mean) / 2
    capped = waits("decorrelated")
    generator = np.random.default_rng(11)
    last = [0.0] * 4000
    for attempt in range(1, 9):
        last = [
            capped.delay(attempt, one, draw) for one, draw in zip(last, generator.random(4000).tolist(), strict=True)
        ]
        slack = Z * float(np.std(last)) / math.sqrt(4000)
        assert float(np.mean(last)) <= capped.mean(attempt) + slack
    assert float(np.mean(last)) < 0.8 * capped.mean(8)  # strictly: the cap is often met


def test_there_is_no_wait_before_the_first_attempt() -> None:
    """An attempt that waits for nothing is refused, not reckoned with a negative power."""
    with pytest.raises(ValueError, match=r"attempt=0"):
        waits().delay(0, 0.0, 0.5)


# ---------------------------------------------------------------------------------------------------------------------
# Handling: budgets of retries.
# ---------------------------------------------------------------------------------------------------------------------
def test_a_budget_starts_full_and_then_has_its_ratio_of_calls() -> None:
    """Three retries are saved; after them a call earns a tenth: the tenth call's retry goes through, the ninth's not."""
    budget = Tokens(Budget(ratio=0.1, burst=3))
    assert [budget.spend() for _ in range(4)] == [True, True, True, False]
    for _ in range(100):
        for _ in range(9):
            budget.earn()
        assert not budget.spend()
        budget.earn()
        assert budget.left == 1.0
        assert budget.spend()
        assert not budget.spend()


@pytest.mark.parametrize("percent", range(101))
def test_a_percentage_of_calls_is_that_many_in_a_hundred(percent: int) -> None:
    """Whatever the share, written as text, a hundred calls earn exactly that many retries, with nothing over."""
    budget = Tokens(Budget.model_validate({"ratio": f"{percent} %", "burst": 200}))
    while budget.spend():
        pass
    for _ in range(100):
        budget.earn()
    assert budget.left == percent
    assert sum(budget.spend() for _ in range(200)) == percent


@given(
    ratio=st.fractions(0, 1, max_denominator=1000),
    burst=st.integers(1, 5),
    earns=st.lists(st.booleans(), max_size=200),
)
def test_no_stretch_of_calls_has_more_retries_than_burst_and_ratio(
    ratio: Fraction, burst: int, earns: list[bool]
) -> None:
    """Between any two moments at most burst + ratio * calls retries go through, and a retry is refused only without a whole one."""
    budget, left = Tokens(Budget(ratio=float(ratio), burst=burst)), Fraction(burst)
    spare = least = Fraction(
        0
    )  # ratio * calls - retries so far; and the most by which retries ran ahead of calls since any moment
    for earn in earns:
        if earn:
            budget.earn()
            left, change = min(Fraction(burst), left + ratio), ratio
        else:
            allowed = left >= 1
            assert budget.spend() == allowed
            left, change = left - allowed, Fraction(-allowed)
        spare = min(Fraction(0), spare + change)
        least = min(least, spare)
        assert budget.left == float(left)
    assert -least <= burst


# ---------------------------------------------------------------------------------------------------------------------
# Handling: circuit breakers.
# ---------------------------------------------------------------------------------------------------------------------
def breaker(**fields: Any) -> BreakerState:
    """Return a breaker that opens for 10 s at 2 failures of 4 calls, but for what is said."""
    return BreakerState(Breaker.model_validate({"failing": 0.5, "calls": 4, "open": "10 s", "probes": 1, **fields}))


def tell(machine: BreakerState, outcomes: str, now: float = 0.0) -> None:
    """Make a call for each letter, one after the other: `s` succeeds, `f` fails, `a` is abandoned."""
    for letter in outcomes:
        ticket = machine.admits(now)
        assert ticket
        if letter == "a":
            machine.abandon(ticket)
        else:
            (machine.success if letter == "s" else machine.failure)(ticket, now)


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ("fff", "closed"),  # the window is not full
        ("fffaaaaa", "closed"),
        ("ffss", "open"),  # a success fills it, of which half failed
        ("fsss" * 50, "closed"),
        ("fsssf", "closed"),  # the first failure has left the window
        ("fssf", "open"),
        ("sssssff", "open"),
    ],
)
def test_a_breaker_opens_on_the_share_of_a_full_window(outcomes: str, state: str) -> None:
    """It heeds the last four outcomes, not fewer, and none of what was abandoned."""
    machine = breaker()
    assert machine.until == -math.inf
    tell(machine, outcomes, now=3.0)
    assert machine.state(3.0) == state
    assert machine.opened == (state == "open")
    assert machine.until == (13.0 if state == "open" else -math.inf)


@pytest.mark.parametrize("percent", range(1, 101))
def test_a_breaker_opens_at_exactly_its_share(percent: int) -> None:
    """Of 100 calls, one failure fewer than the percentage leaves it closed, and that many open it."""
    for failures, state in ((percent - 1, "closed"), (percent, "open")):
        machine = BreakerState(Breaker.model_validate({"failing": f"{percent} %", "calls": 100}))
        tell(machine, "s" * (100 - failures) + "f" * failures)
        assert machine.state(0.0) == state


def test_an_open_breaker_lets_one_probe_through_when_its_time_is_over() -> None:
    """Nothing goes through before, one call at that moment, and no other until that has ended."""
    machine = breaker()
    tell(machine, "ffff", now=5.0)
    assert machine.admits(14.999) == 0
    assert (machine.state(14.999), machine.state(15.0)) == ("open", "half-open")
    probe = machine.admits(15.0)
    assert probe
    assert machine.admits(1e9) == 0
    assert machine.state(1e9) == "half-open"
    machine.success(probe, 20.0)
    assert machine.state(20.0) == "closed"
    assert machine.opened == 1


def test_all_probes_have_to_succeed_in_a_row() -> None:
    """Three probes close it; a failure among them opens it for the whole time again, and they count from the beginning."""
    machine = breaker(probes=3)
    tell(machine, "ffff")
    tell(machine, "ss", now=10.0)
    assert machine.state(10.0) == "half-open"
    tell(machine, "f", now=12.0)
    assert (machine.state(12.0), machine.until, machine.opened) == ("open", 22.0, 2)
    tell(machine, "ss", now=22.0)
    assert machine.state(22.0) == "half-open"
    tell(machine, "s", now=22.0)
    assert machine.state(22.0) == "closed"


def test_an_abandoned_probe_makes_room_for_another() -> None:
    """It neither closes nor opens the breaker, and does not undo the probes before it."""
    machine = breaker(probes=2)
    tell(machine, "ffff")
    tell(machine, "saa", now=10.0)
    assert (machine.state(10.0), machine.opened) == ("half-open", 1)
    tell(machine, "s", now=10.0)
    assert machine.state(10.0) == "closed"


@pytest.mark.parametrize("late", ["success", "failure", "abandon"])
def test_calls_from_before_it_opened_are_no_probes(late: str) -> None:
    """How they end moves nothing: not while it is open, not beside a probe, not between probes, not once it has closed again."""
    machine = breaker(probes=2)
    old = [machine.admits(0.0) for _ in range(9)]
    for ticket in old[:4]:
        machine.failure(ticket, 0.0)

    def end(now: float) -> None:
        ticket = old.pop()
        if late == "abandon":
            machine.abandon(ticket)
        else:
            getattr(machine, late)(ticket, now)

    end(1.0)
    assert (machine.state(1.0), machine.until, machine.opened) == ("open", 10.0, 1)
    probe = machine.admits(10.0)
    end(10.0)
    assert machine.admits(10.0) == 0  # the probe is still under way
    machine.success(probe, 11.0)
    end(11.0)
    assert (machine.state(11.0), machine.opened) == ("half-open", 1)
    tell(machine, "s", now=12.0)
    tell(machine, "fss", now=12.0)
    end(12.0)
    end(12.0)
    assert machine.state(12.0) == "closed"
    tell(machine, "s", now=12.0)
    assert machine.state(12.0) == "closed"


def test_a_probe_that_is_told_of_twice_counts_once() -> None:
    """A second word about it neither takes another's place nor counts when the breaker has closed."""
    machine = breaker(probes=2)
    tell(machine, "ffff")
    first = machine.admits(10.0)
    machine.success(first, 10.0)
    machine.success(first, 10.0)
    assert machine.state(10.0) == "half-open"
    second = machine.admits(10.0)
    machine.failure(first, 10.0)
    assert machine.opened == 1
    machine.success(second, 10.0)
    for _ in range(9):
        machine.failure(second, 10.0)
    assert machine.state(10.0) == "closed"


def test_it_closes_with_an_empty_window() -> None:
    """What failed before it opened does not count again: it takes a full window of new outcomes to open it."""
    machine = breaker()
    tell(machine, "ssff")
    tell(machine, "s", now=10.0)
    tell(machine, "fff", now=11.0)
    assert machine.state(11.0) == "closed"
    tell(machine, "s", now=12.0)
    assert (machine.state(12.0), machine.opened) == ("open", 2)


@pytest.mark.parametrize("ticket", [0, -1, 2])
def test_a_call_that_was_not_admitted_cannot_end(ticket: int) -> None:
    """The ticket of a refusal, or one made up, is a mistake of the caller's."""
    machine = breaker()
    for end in (machine.success, machine.failure):
        with pytest.raises(ValueError, match="was the call admitted"):
            end(ticket, 0.0)
    with pytest.raises(ValueError, match="was the call admitted"):
        machine.abandon(ticket)


@dataclass
class Naive:
    """A breaker that keeps all it was told: one list of outcomes for each time it was closed, one object for each call."""

    spec: Breaker
    state: str = "closed"
    since: float = 0.0
    opened: int = 0
    outcomes: list[bool] = field(default_factory=list)
    current: list[object] = field(default_factory=list)  # calls that count

    def admits(self, now: float) -> object | None:
        """Return the call, or None."""
        if self.state == "open" and now >= self.since + self.spec.open:
            self.state, self.outcomes = "half-open", []
        if self.state == "open" or (self.state == "half-open" and self.current):
            return None
        call = object()
        self.current.append(call)
        return call

    def end(self, call: object, outcome: bool | None, now: float) -> None:
        """Tell how a call ended; None: abandoned."""
        if call not in self.current:
            return
        self.current.remove(call)
        if outcome is None:
            return
        self.outcomes.append(outcome)
        last = self.outcomes[-self.spec.calls :]
        share = Fraction(last.count(False), len(last))
        closed = self.state == "closed"
        if (not closed and not outcome) or (closed and len(last) == self.spec.calls and share >= self.spec.failing):
            self.state, self.since, self.opened = "open", now, self.opened + 1
            self.current = []
        elif not closed and len(self.outcomes) == self.spec.probes:
            self.state, self.outcomes, self.current = "closed", [], []

    def seen(self, now: float) -> str:
        """Return its state as it is at a time."""
        return "half-open" if self.state == "open" and now >= self.since + self.spec.open else self.state


@given(
    failing=st.sampled_from([0.125, 0.25, 0.5, 0.75, 1.0]),
    calls=st.integers(1, 5),
    probes=st.integers(1, 3),
    moves=st.lists(
        st.one_of(
            st.none(), st.integers(1, 4), st.tuples(st.integers(0, 30), st.sampled_from([True, False, False, None]))
        ),
        max_size=150,
    ),
)
def test_any_course_of_calls_is_as_a_naive_breaker_has_it(
    failing: float, calls: int, probes: int, moves: list[int | tuple[int, bool | None] | None]
) -> None:
    """Calls begin (None), end in any order and time goes by (a number): admissions, state, openings and times are the same."""
    spec = Breaker.model_validate({"failing": failing, "calls": calls, "open": "3 s", "probes": probes})
    machine, naive, now = BreakerState(spec), Naive(spec), 0.0
    under_way: list[tuple[int, object]] = []
    for move in moves:
        if isinstance(move, int):
            now += move
        elif move is None:
            ticket, call = machine.admits(now), naive.admits(now)
            assert (ticket > 0) == (call is not None)
            if call is not None:
                under_way.append((ticket, call))
        elif under_way:
            ticket, call = under_way.pop(move[0] % len(under_way))
            if move[1] is None:
                machine.abandon(ticket)
            else:
                (machine.success if move[1] else machine.failure)(ticket, now)
            naive.end(call, move[1], now)
        assert (machine.state(now), machine.opened) == (naive.seen(now), naive.opened)
        if machine.state(now) == "open":
            assert machine.until == naive.since + 3.0


# ---------------------------------------------------------------------------------------------------------------------
# Handling: bulkheads.
# ---------------------------------------------------------------------------------------------------------------------
@given(most=st.integers(1, 5), moves=st.lists(st.booleans(), max_size=100))
def test_a_bulkhead_has_so_many_places_and_no_more(most: int, moves: list[bool]) -> None:
    """Any order of coming and going keeps those inside between none and the most; leaving an empty one is a mistake."""
    bulk, inside = Bulk(most), 0
    for enters in moves:
        if enters:
            assert bulk.enter() == (inside < most)
            inside = min(most, inside + 1)
        elif inside:
            bulk.leave()
            inside -= 1
        else:
            with pytest.raises(RuntimeError, match="nobody is inside"):
                bulk.leave()
        assert bulk.inside == inside


def test_a_bulkhead_has_a_place() -> None:
    """One that would let nobody in, ever, cannot be made."""
    with pytest.raises(ValueError, match="most=0"):
        Bulk(0)


# ---------------------------------------------------------------------------------------------------------------------
# Handling: learned delays.
# ---------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("percent", [1, 5, 7, 50, 57, 90, 95, 99])
def test_a_delay_begins_as_the_quantile_of_the_first_latencies(percent: int) -> None:
    """It is not known before `LEAST` calls, and then the least latency that the quantile of them does not exceed."""
    known = LearnedDelay(percent / 100)
    seconds = np.random.default_rng(percent).exponential(size=LEAST).tolist()
    for number, one in enumerate(seconds):
        assert known.value is None, number
        known.add(one, None)
    assert known.value == sorted(seconds)[math.ceil(Fraction(percent, 100) * LEAST) - 1]


def hedged(quantile: float, scale: float = 1.0, warm: LearnedDelay | None = None) -> tuple[float, LearnedDelay]:
    """Return the share of 30,000 calls that were hedged, after as many to settle: those are over when the hedge is, if that is first."""
    known, count, size = warm or LearnedDelay(quantile), 0, 30_000
    firsts, seconds = np.random.default_rng(3).exponential(scale, size=(2, 2 * size)).tolist()
    for number, (first, second) in enumerate(zip(firsts, seconds, strict=True)):
        delay = known.value
        after = math.inf if delay is None else delay
        count += number >= size and first > after
        known.add(min(first, after + second), delay)
    return count / size, known


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.95])
def test_hedges_stay_as_many_as_the_quantile_leaves(quantile: float) -> None:
    """Though the times of hedged calls are cut short; and again once all calls take ten times as long."""
    share, known = hedged(quantile)
    bound = Z * math.sqrt(quantile * (1 - quantile) / 30_000) + 0.2 * (1 - quantile)
    assert abs(share - (1 - quantile)) <= bound
    again, _ = hedged(quantile, 10.0, known)
    assert abs(again - (1 - quantile)) <= bound


@pytest.mark.parametrize("seconds", [-1e-9, math.nan])
def test_a_latency_is_a_time(seconds: float) -> None:
    """What is not >= 0 is refused, and nothing is learned from it."""
    known = LearnedDelay(0.5)
    with pytest.raises(ValueError, match="`seconds >= 0` must hold"):
        known.add(seconds, None)
    for _ in range(LEAST - 1):
        known.add(1.0, None)
    assert known.value is None


@pytest.mark.parametrize("quantile", [0.0, 1.0, math.nan])
def test_a_quantile_is_inside_its_bounds(quantile: float) -> None:
    """Of none and of all nothing can be learned."""
    with pytest.raises(ValueError, match="`0 < quantile < 1` must hold"):
        LearnedDelay(quantile)


def test_shares_next_to_nothing_and_to_all_stay_in_their_bounds() -> None:
    """The least quantile is the fastest latency and the greatest the slowest; the least share of failures is one failure."""
    for quantile, expected in ((1e-12, 1.0), (1 - 1e-12, float(LEAST))):
        known = LearnedDelay(quantile)
        for number in range(LEAST):
            known.add(number + 1.0, None)
        assert known.value == expected
    machine = breaker(failing=1e-12)
    tell(machine, "s" * 20)
    assert machine.state(0.0) == "closed"
    tell(machine, "f")
    assert machine.state(0.0) == "open"
