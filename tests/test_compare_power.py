"""Comparisons of what is known: a true difference of 2 % is found with the replications asked for, and none where there is none."""

import pytest

from coordsim.sim.analysis.compare import Plan, run_plan
from coordsim.sim.analysis.comparison import ComparisonResult
from coordsim.sim.analysis.contrast import POWER
from coordsim.sim.analysis.replicate import Settings

from . import mm1

TASKS = 8
STARTS = 20


def shop(tool: float, tasks: int = TASKS, fails: float = 0.0) -> mm1.Queue:
    """Return a shop in which nobody waits: T_total is a service of 1 s, exponential, and a tool."""
    return mm1.Queue(servers=100, arrival_rate=1.0, tool=tool, tasks=tasks, fails=fails)


def against(
    b: mm1.Queue, seed: int, replications: int, *, tolerance: float = 0.02, paired: bool = True
) -> ComparisonResult:
    """Compare a shop whose tool takes 9 s with `b`."""
    first = shop(9.0, b.tasks)
    seed_b = None if paired else seed + 1
    plan = Plan("shop", ("a", "b"), {"a": first, "b": b}, ("a", "b"), tolerance=tolerance, seed_b=seed_b)
    return run_plan(mm1.simulate, plan, seed=seed, settings=Settings(replications=replications, warmup=None))


def found_in_two(b: mm1.Queue, start: int, paired: bool) -> str:
    """Return the verdict after five replications, or after as many as they ask for."""
    saving = against(b, start, 5, paired=paired).saving
    if saving.needed is None:
        return saving.verdict
    assert saving.verdict == "not resolved"
    assert saving.more == saving.needed - 5
    return against(b, start, saving.needed, paired=paired).saving.verdict


@pytest.mark.parametrize("paired", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_true_difference_of_two_percent_is_found_with_the_replications_asked_for(paired: bool) -> None:
    """B's tool takes 8.8 s, so it saves exactly 2 %; pairs differ by chance since half of B's tasks fail at random.

    Of 20 starts, with a power of 90 %, fewer than 15 are found in 1 of 90 such tests (binomial). The first five replications leave
    16 of them open, and 19 where nothing is paired.
    """
    faster = shop(8.8, 16, 0.5 if paired else 0.0)
    verdicts = [found_in_two(faster, 100 * start, paired) for start in range(STARTS)]
    assert POWER == 0.9
    assert verdicts.count("saves") >= 15
    assert "costs" not in verdicts


@pytest.mark.slow
def test_a_system_against_itself_with_other_seeds_is_not_resolved() -> None:
    """Of 100 tries at 95 % at least 90 are not resolved; fewer would be chance in 1 of 90 such tests.

    It is no want of power: of 40 tries with a true difference of 10 % at least 32 are.
    """
    same, faster = shop(9.0), shop(8.0)
    tries = range(0, 200, 2)
    verdicts = [against(same, seed, 5, tolerance=0.0, paired=False).saving.verdict for seed in tries]
    real = [against(faster, seed, 5, tolerance=0.0, paired=False).saving.verdict for seed in tries[:40]]
    assert verdicts.count("not resolved") >= 90
    assert real.count("saves") >= 32
