"""The statistics of a validation: intervals cover, errors and floors are those that were made, and verdicts are what their rules say."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from coordsim.sim.analysis.statistics import Estimate
from coordsim.sim.analysis.validation import FULL, GOALS, METRICS, NAIVE, Dropped, Numbers, Verdict, standing
from coordsim.sim.analysis.validation_judge import Case, Tasks, judge

VARIANTS = {FULL: "nothing", NAIVE: "everything"}
Z90, Z95 = 1.645, 1.960  # of the normal


def tasks(
    rng: np.random.Generator, count: int, *, factor: float = 1.0, spread: float = 0.2, share: float = 0.4
) -> Tasks:
    """Return lognormal tasks of median `factor`, whose share of coordination is `share`."""
    seconds = factor * np.exp(rng.normal(0.0, spread, count))
    return Tasks(seconds, (1 - share) * seconds)


def system(
    seed: int,
    biases: dict[str, float],
    *,
    rounds: int = 5,
    count: int = 60,
    drift: float = 0.0,
    spread: float = 0.2,
    configurations: int = 8,
) -> list[Case]:
    """Return cases whose variants are off by `biases`; rounds differ by `drift` in ways that no prediction knows."""
    rng = np.random.default_rng(seed)
    cases = []
    for number in range(configurations):
        factors = np.exp(rng.normal(0.0, drift, rounds))
        measured = [tasks(rng, count, factor=factor, spread=spread) for factor in factors]
        predicted = {
            name: [tasks(rng, 400, factor=1 + bias, spread=spread) for _ in factors] for name, bias in biases.items()
        }
        cases.append(Case(f"c{number}", f"configuration {number}", measured, predicted))
    return cases


def told(cases: list[Case], *, rounds: int = 5, resamples: int = 500, seed: int = 0) -> Verdict:
    """Return the verdict on cases."""
    variants = {name: f"without {name}" for name in cases[0].predicted}
    return judge(cases, range(1, rounds + 1), variants=variants, resamples=resamples, seed=seed)


def test_the_interval_covers_the_true_error() -> None:
    """Of 90 % intervals over rounds that drift, about nine in ten hold the true error: not fewer than chance allows, nor nearly all."""
    runs, true, hits = 40, 0.15, 0
    for seed in range(runs):
        cases = system(seed, {FULL: true, NAIVE: 0.5}, drift=0.05, count=20, configurations=3)
        error = told(cases, seed=seed, resamples=300).headline("p50").error
        hits += error.low <= true <= error.high
    # Five rounds: percentiles of a bootstrap hold somewhat less than they say, here 0.87 to 0.93; 3.3 standard errors around.
    assert 0.9 - 0.03 - 3.3 * 0.3 / math.sqrt(runs) <= hits / runs <= 1.0


def test_more_rounds_give_narrower_intervals() -> None:
    """Four times the rounds halve the width, within the luck of one draw each."""
    few, many = (
        np.mean([told(system(seed, {FULL: 0.15, NAIVE: 0.5}, rounds=rounds, drift=0.05, count=10, configurations=3), rounds=rounds, resamples=300).headline("p50").error.half_width for seed in range(3)])
        for rounds in (5, 20)
    )  # fmt: skip
    assert 0.3 < many / few < 0.75


def test_a_perfect_model_passes() -> None:
    """A model of the system's own law meets all goals, and reaches the floor."""
    found = told(system(1, {FULL: 0.0, NAIVE: 0.5}))
    assert found.status == "pass"
    assert [one.standing for one in found.headlines] == ["met"] * 3
    assert [one.standing for one in found.worst] == ["met"] * 3
    assert {one.to: one.standing for one in found.ratios}["naive"] == "met"
    assert all("wholly within" in reason for reason in found.reasons)


def test_a_model_that_is_far_off_fails() -> None:
    """30 % off is above the goals of p50 and p95, and wholly so; the share is right, and said to be."""
    found = told(system(2, {FULL: 0.3, NAIVE: 0.5}))
    assert found.status == "fail"
    assert found.headline("p50").standing == found.headline("p95").standing == "missed"
    assert found.headline("share").standing == "met"
    assert found.headline("p50").error.value == pytest.approx(0.3, abs=0.03)
    assert found.reasons[0].startswith("P50 is off by")
    assert "wholly above the goal of 10 %" in found.reasons[0]


@pytest.mark.parametrize(("drift", "status"), [(0.0, "pass"), (0.15, "inconclusive")])
def test_a_model_near_the_goal_is_judged_by_its_interval(drift: float, status: str) -> None:
    """8 % off passes where the machine is still, and is left open where rounds differ."""
    found = told(system(3, {FULL: 0.07, NAIVE: 0.5}, drift=drift, spread=0.1))
    error = found.headline("p50").error
    assert found.status == status
    assert (error.low <= GOALS.headline.p50 < error.high) == (status == "inconclusive")


def test_a_share_that_is_off_fails_alone() -> None:
    """Shares are differences: 0.4 predicted as 0.5 is 10 points off."""
    rng = np.random.default_rng(4)
    cases = [
        Case("c", "", [tasks(rng, 80) for _ in range(5)], {name: [tasks(rng, 400, share=0.5) for _ in range(5)] for name in VARIANTS})
        for _ in range(3)
    ]  # fmt: skip
    found = told(cases)
    assert found.headline("share").error.value == pytest.approx(0.1)
    assert found.headline("share").standing == "missed"
    assert found.status == "fail"


def test_a_machine_that_is_too_noisy_tells_nothing() -> None:
    """Above a floor of 8 % neither a perfect model passes, nor one that is far off fails."""
    for bias in (0.0, 3.0):
        found = told(system(5, {FULL: bias, NAIVE: 0.5}, count=6, spread=0.6))
        assert found.headline("p50").floor > GOALS.noise
        assert found.status == "inconclusive"
        assert found.reasons[0].startswith("The machine is too noisy")


def test_the_floor_is_that_of_known_noise() -> None:
    """Medians of halves of N lognormal tasks differ by sqrt(2) * sqrt(pi / 2) * spread / sqrt(N / 2), of which the size has a mean of sqrt(2 / pi)."""
    count, spread, rounds, many = 100, 0.2, 5, 40
    cases = system(6, {FULL: 0.0, NAIVE: 0.5}, count=count, spread=spread, configurations=many)
    found = told(cases, resamples=10)
    deviation = math.sqrt(2) * math.sqrt(math.pi / 2) * spread / math.sqrt(count * rounds / 2)
    expected = math.sqrt(2 / math.pi) * deviation
    # Each configuration's mean over splits varies by 0.15 of it between sets of tasks; of so many the mean is within 3.3 standard errors.
    mean = np.mean([row.floor.p50 for row in found.rows])
    assert mean == pytest.approx(expected, rel=3.3 * 0.15 / math.sqrt(many))
    # The median of such sizes is below their mean: 0.674 of a deviation to 0.798.
    assert found.headline("p50").floor == pytest.approx(0.674 * deviation, rel=0.12)


def test_tasks_are_pooled_over_rounds() -> None:
    """Numbers of a row are numpy's quantiles of all tasks, and the share is of all seconds: long tasks count more."""
    cases = system(7, {FULL: 0.1, NAIVE: 0.5}, count=33, drift=0.3)
    (row, *_), case = told(cases).rows, cases[0]
    seconds = np.concatenate([one.seconds for one in case.measured])
    predicted = np.concatenate([one.seconds for one in case.predicted[FULL]])
    assert row.tasks == seconds.size
    assert (row.measured.p50, row.measured.p95) == pytest.approx(tuple(np.quantile(seconds, (0.5, 0.95))))
    assert row.errors.p95.value == pytest.approx(np.quantile(predicted, 0.95) / np.quantile(seconds, 0.95) - 1)
    uneven = [Tasks(np.array([1.0, 9.0]), np.array([1.0, 0.0])) for _ in range(5)]
    (row,) = told([Case("c", "", uneven, {FULL: uneven, NAIVE: uneven})]).rows
    assert row.measured.share == pytest.approx(0.9)


def test_resamples_pool_rounds_as_often_as_they_are_drawn() -> None:
    """With two rounds there are three pools: each twice, or both; all that is told lies between their errors."""
    near, far = (Tasks(np.full(9, value), np.full(9, value / 2)) for value in (1.0, 2.0))
    one = Tasks(np.ones(9), np.full(9, 0.5))
    (row,) = told([Case("c", "", [near, far], {FULL: [one, one], NAIVE: [one, one]})], rounds=2).rows
    assert (row.errors.p50.low, row.errors.p50.high) == pytest.approx((-0.5, 0.0))


def test_errors_are_signed_in_rows_and_absolute_in_headlines() -> None:
    """A prediction that is too low has a negative error in its row, and a positive one in the median."""
    found = told(system(8, {FULL: -0.2, NAIVE: 0.5}))
    assert all(row.errors.p50.value < 0 for row in found.rows)
    assert found.headline("p50").error.value == pytest.approx(0.2, abs=0.03)


def test_the_worst_configuration_is_named() -> None:
    """One configuration that is twice as slow as predicted stands out, and is told beside a median that it hardly moves."""
    cases = system(9, {FULL: 0.0, NAIVE: 0.5})
    slow = [Tasks(2 * one.seconds, 2 * one.inference) for one in cases[3].measured]
    found = told([*cases[:3], replace(cases[3], measured=slow), *cases[4:]])
    assert found.status == "pass"
    worst = found.worst[0]
    assert (worst.metric, worst.configuration, worst.standing) == ("p50", "c3", "missed")
    assert worst.error.value == pytest.approx(0.5, abs=0.03)


def test_an_ablation_is_paired() -> None:
    """What a law is worth is told by the same resamples: rounds that drift move both, and not their difference."""
    found = told(system(10, {FULL: 0.12, NAIVE: 0.5, "cores": 0.2}, drift=0.06))
    naive, cores = found.ablation
    assert (naive.variant, cores.variant, cores.what) == (NAIVE, "cores", "without cores")
    assert cores.errors.p50.value - found.headline("p50").error.value == pytest.approx(cores.changes.p50.value)
    assert cores.changes.p50.low > 0
    assert cores.changes.p50.half_width < cores.errors.p50.half_width / 2


def test_ratios_are_to_floor_and_naive() -> None:
    """The ratio to the naive prediction is that of both errors; that to the floor is large where the model is off."""
    found = told(system(11, {FULL: 0.2, NAIVE: 0.5}))
    ratios = {one.to: one for one in found.ratios}
    p50 = found.headline("p50")
    assert ratios["naive"].ratio.value == pytest.approx(p50.error.value / p50.naive)
    assert ratios["floor"].ratio.value == pytest.approx(p50.error.value / p50.floor)
    assert (ratios["naive"].standing, ratios["floor"].standing) == ("met", "missed")
    assert math.isnan(ratios["naive"].stretch)


@pytest.mark.parametrize(
    ("low", "high", "found"), [(0.0, 0.1, "met"), (0.11, 0.2, "missed"), (0.05, 0.11, "unclear"), (-math.inf, math.inf, "unclear")]
)  # fmt: skip
def test_a_goal_is_met_by_a_whole_interval(low: float, high: float, found: str) -> None:
    """Within is met, above is missed, and astride is unclear, as is no interval."""
    assert standing(Estimate((low + high) / 2, low, high, 0.9, 5, ""), 0.1) == found


def test_too_few_rounds_are_no_verdict() -> None:
    """Four rounds, one of which nothing can be told of others, or none, leave it open; dropped ones are counted."""
    for rounds in (4, 1):
        found = judge(
            system(12, {FULL: 0.0, NAIVE: 0.5}, rounds=rounds),
            range(1, rounds + 1),
            [Dropped(9, "steal")],
            variants=VARIANTS,
        )
        assert found.status == "inconclusive"
        assert found.reasons[0] == f"Too few rounds: {rounds} kept, and 1 dropped; a verdict takes 5."
        assert found.headline("p50").error.resolved == (rounds > 1)
    found = judge(
        system(12, {FULL: 0.0, NAIVE: 0.5}, rounds=1)[:0] or [Case("c", "", (), {FULL: (), NAIVE: ()})],
        (),
        variants=VARIANTS,
    )
    assert (found.status, found.headlines, found.rows) == ("inconclusive", (), ())


def test_the_same_data_and_seed_give_the_same_verdict() -> None:
    """Nothing else is drawn from; another seed moves intervals and floor, and no error."""
    cases = system(13, {FULL: 0.1, NAIVE: 0.5}, drift=0.05)
    first, other = told(cases), told(cases, seed=1)
    assert told(cases) == first
    assert [one.error.value for one in first.headlines] == [one.error.value for one in other.headlines]
    assert first.headline("p50").floor != other.headline("p50").floor


def test_other_tasks_scale_nothing() -> None:
    """Seconds or minutes: relative errors, shares and the floor stay."""
    cases = system(14, {FULL: 0.1, NAIVE: 0.5})
    scaled = [
        Case(one.name, one.what, [_scaled(each) for each in one.measured], {name: [_scaled(each) for each in rounds] for name, rounds in one.predicted.items()})
        for one in cases
    ]  # fmt: skip
    for before, after in zip(told(cases).headlines, told(scaled).headlines, strict=True):
        assert after.error.value == pytest.approx(before.error.value)
        assert after.floor == pytest.approx(before.floor)


def _scaled(one: Tasks) -> Tasks:
    return Tasks(60 * one.seconds, 60 * one.inference)


@pytest.mark.parametrize("broken", ["rounds", "empty", "variant", "cases"])
def test_data_that_cannot_be_judged_is_refused(broken: str) -> None:
    """A missing round, a round of one task, a missing variant, and no case are named."""
    (case, *_) = system(15, {FULL: 0.0, NAIVE: 0.5})
    cases, variants = [case], VARIANTS
    if broken == "rounds":
        cases = [replace(case, measured=case.measured[:4])]
    elif broken == "empty":
        one = case.measured[0]
        cases = [replace(case, measured=[Tasks(one.seconds[:1], one.inference[:1]), *case.measured[1:]])]
    elif broken == "variant":
        variants = {FULL: ""}
    else:
        cases = []
    with pytest.raises(ValueError, match=r"must"):
        judge(cases, range(5), variants=variants)


def test_the_goals_are_those_declared() -> None:
    """What a prediction is asked, once and for all."""
    assert METRICS == ("p50", "p95", "share")
    assert GOALS.headline == Numbers(0.10, 0.15, 0.04)
    assert GOALS.worst == Numbers(0.25, 0.40, 0.09)
    assert (GOALS.to_floor, GOALS.to_naive, GOALS.noise, GOALS.rounds) == (1.5, 0.5, 0.08, 5)
