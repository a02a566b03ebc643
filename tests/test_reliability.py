"""Statistics of reliability: unbiased, covering, exact in closed form, and right on measured outcomes of agents."""

import gzip
import json
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from coordsim.sim.analysis import reliability
from coordsim.sim.analysis.reliability import BetaSuccess

OUTCOMES = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "outcomes"
Array = npt.NDArray[np.float64]
TRIES = 300
# 95 % intervals hold the truth in 300 tries at least this often, three standard errors below 0.95.
LEAST_COVERED = 0.95 - 3 * math.sqrt(0.95 * 0.05 / TRIES)


def airline() -> tuple[Array, Array]:
    """Return successes and trials per task of tau-bench airline, or skip."""
    path = OUTCOMES / "tau_bench_airline_gpt4o.json.gz"
    if not path.exists():
        pytest.skip("the measured outcomes are not on this machine")
    rewards = defaultdict(list)
    with gzip.open(path) as file:
        for row in json.load(file):
            rewards[row["task_id"]].append(row["reward"])
    return np.array([sum(r) for r in rewards.values()]), np.array([float(len(r)) for r in rewards.values()])


# -- pass^k


def test_pass_k_counts_the_ways_to_choose_k_successes() -> None:
    """Problems of 4 of 4, 3 of 4 and 1 of 2 give (1 + 3/6 + 0) / 3 for k = 2; for k = 3 the last is left out."""
    assert reliability.pass_at([4, 3, 1], [4, 4, 2], 2).value == pytest.approx(0.5)
    third = reliability.pass_at([4, 3, 1], [4, 4, 2], 3)
    assert third.value == pytest.approx((1 + 1 / 4) / 2)
    assert third.n == 2
    assert math.isnan(reliability.pass_at([4, 3], [4, 4], 5).value)


@pytest.mark.parametrize(("a", "b", "problems", "k"), [(0.64, 0.88, 50, 1), (0.64, 0.88, 50, 4), (30.0, 1.0, 50, 4)])
def test_pass_k_is_unbiased_and_its_intervals_cover(a: float, b: float, problems: int, k: int) -> None:
    """Over seeded experiments of four trials the mean is the law's pass^k, and 95 % intervals hold it."""
    rng, truth = np.random.default_rng(1), BetaSuccess.of(a, b).pass_at(k)
    chances = rng.beta(a, b, (TRIES, problems))
    found = [reliability.pass_at(rng.binomial(4, p), np.full(problems, 4), k) for p in chances]
    values = np.array([one.value for one in found])
    assert abs(values.mean() - truth) < 3.5 * values.std(ddof=1) / math.sqrt(TRIES)
    assert np.mean([not one.excludes(truth) for one in found]) > LEAST_COVERED


def test_equal_problems_do_not_make_pass_k_certain() -> None:
    """Twenty problems that always succeed leave room below 1, as many as there are groups of k trials, and stay shares."""
    sure, four = reliability.pass_at([4] * 20, [4] * 20, 1), reliability.pass_at([4] * 20, [4] * 20, 4)
    assert (sure.value, sure.high, four.high) == (1.0, 1.0, 1.0)
    assert four.low < sure.low < 1 - 1e-3
    none = reliability.pass_at([0] * 20, [4] * 20, 2)
    assert (none.value, none.low) == (0.0, 0.0)
    assert 0.01 < none.high < 0.2
    assert reliability.pass_at([3], [4], 1).high == 1.0


@pytest.mark.parametrize(
    ("hits", "trials", "k", "message"),
    [
        ([5], [4], 1, "successes <= trials must hold, got 5 of 4 at 0"),
        ([1.5], [4], 1, "whole"),
        ([1, 2], [4], 1, "pair up"),
        ([1], [4], 0, "k must be"),
    ],
)
def test_counts_that_cannot_be_are_refused(hits: list[float], trials: list[float], k: int, message: str) -> None:
    """More successes than trials, parts of successes, and a k of 0 raise."""
    with pytest.raises(ValueError, match=message):
        reliability.pass_at(hits, trials, k)


# -- the Beta law of success


@pytest.mark.parametrize(("a", "b"), [(0.5, 0.5), (3.0, 1.0), (40.0, 60.0)])
def test_a_beta_law_is_found_again_from_its_first_two_moments(a: float, b: float) -> None:
    """The fit to pass^1 and pass^2 gives a and b back, and pass^k is the k-th moment of the Beta law."""
    from scipy.stats import beta

    law = BetaSuccess.fit(a / (a + b), a * (a + 1) / (a + b) / (a + b + 1))
    assert (law.a, law.b, law.concentration) == pytest.approx((a, b, a + b))
    for k in (1, 2, 3, 5):
        assert law.pass_at(k) == pytest.approx(float(beta.moment(k, a, b)))


def test_the_ends_of_the_beta_law_are_independence_and_all_or_nothing() -> None:
    """pass^2 = pass^1 squared gives pass^k = p^k; pass^2 = pass^1 gives p for every k; 0 and 1 stay what they are."""
    assert BetaSuccess.fit(0.6, 0.36).pass_at(5) == pytest.approx(0.6**5)
    assert BetaSuccess.fit(0.6, 0.36).concentration == math.inf
    assert BetaSuccess.fit(0.6, 0.6).pass_at(5) == pytest.approx(0.6)
    assert BetaSuccess.fit(0.6, 0.6).a == 0
    assert [BetaSuccess.fit(p, p).pass_at(3) for p in (0.0, 1.0)] == [0.0, 1.0]


@pytest.mark.parametrize(("pass1", "pass2"), [(0.42, 0.17), (0.42, 0.43), (1.2, 0.5), (math.nan, 0.1), (0.4, math.nan)])
def test_moments_that_no_law_has_are_refused(pass1: float, pass2: float) -> None:
    """A pass^2 below the square of pass^1, or above it, raises and says so."""
    with pytest.raises(ValueError, match=r"pass\^[12] must be"):
        BetaSuccess.fit(pass1, pass2)


def test_the_beta_law_predicts_four_trials_from_two() -> None:
    """From pass^1 and pass^2 of tau-bench airline it puts pass^4 / pass^1 within .45 ± .08; independence says .074."""
    law = BetaSuccess.fit(0.42, 0.273)
    assert law.pass_at(4) / 0.42 == pytest.approx(0.45, abs=0.08)
    assert BetaSuccess(0.42, 0.0).pass_at(4) / 0.42 == pytest.approx(0.074, abs=0.001)


def test_tau_bench_airline_gives_the_published_pass_k() -> None:
    """The unbiased estimator gives .42 .273 .22 .20, and the Beta law lies in the interval of pass^4, independence not."""
    hits, trials = airline()
    found = [reliability.pass_at(hits, trials, k) for k in (1, 2, 3, 4)]
    assert [one.value for one in found] == pytest.approx([0.42, 0.2733, 0.22, 0.20], abs=5e-5)
    law = BetaSuccess.fit(found[0].value, found[1].value)
    assert found[3].value / found[0].value == pytest.approx(0.45, abs=0.08)
    assert law.pass_at(4) / law.mean == pytest.approx(0.45, abs=0.08)
    assert not found[3].excludes(law.pass_at(4))
    assert found[3].excludes(0.42**4)


def test_more_correlated_or_surer_trials_raise_pass_4() -> None:
    """With pass^1 or the correlation 50 % up pass^4 rises, 50 % down it falls; its share of pass^1 too."""
    base = BetaSuccess.fit(0.42, 0.273)
    for factor, sense in ((1.5, 1), (0.5, -1)):
        surer = BetaSuccess(base.mean * factor, base.correlation)
        closer = BetaSuccess(base.mean, base.correlation * factor)
        for other in (surer, closer):
            assert sense * (other.pass_at(4) - base.pass_at(4)) > 0.02
            assert sense * (other.pass_at(4) / other.mean - base.pass_at(4) / base.mean) > 0.02


def test_the_beta_law_predicts_the_submissions_to_tau2_bench() -> None:
    """Over 74 results of 65 submissions the median error is below 1 point for pass^3, 2 for pass^4; else above 10.

    Measured: 0.5 and 1.3 points by the Beta law (at most 4.4), 13 and 16 by independence. Fits see pass^1 and pass^2 only.
    """
    path = OUTCOMES / "tau2_submissions.json"
    if not path.exists():
        pytest.skip("the submissions are not on this machine")
    submissions = json.loads(path.read_text())
    rows = [domain for one in submissions for domain in one["results"].values() if domain]
    shares = np.array(
        [[np.nan if (v := row.get(f"pass_{k}")) is None else v / 100 for k in range(1, 5)] for row in rows]
    )
    shares = shares[~np.isnan(shares).any(axis=1)]
    assert (len(submissions), len(shares)) == (65, 74)
    laws = [BetaSuccess.fit(p1, p2) for p1, p2 in shares[:, :2]]
    for k, bound in ((3, 0.01), (4, 0.02)):
        errors = np.abs([law.pass_at(k) for law in laws] - shares[:, k - 1])
        independent = np.abs(shares[:, 0] ** k - shares[:, k - 1])
        assert np.median(errors) < bound
        assert errors.max() < 0.05
        assert np.median(independent) > 0.10
        assert np.mean(errors < independent) > 0.95


# -- shares and ratios over replications


def test_availability_covers_that_of_crashes_and_repairs() -> None:
    """Alternating exponential times up and down: 95 % intervals over 20 runs hold MTBF / (MTBF + MTTR)."""
    rng, mtbf, mttr, length = np.random.default_rng(2), 50.0, 5.0, 4000.0

    def down() -> float:
        up, repair = rng.exponential(mtbf, 200), rng.exponential(mttr, 200)
        begins = np.cumsum(up) + np.concatenate([[0], np.cumsum(repair)[:-1]])
        return float(np.clip(np.minimum(begins + repair, length) - begins, 0, None).sum())

    found = [reliability.availability([down() for _ in range(20)], length) for _ in range(TRIES)]
    # Runs begin with the component up: that raises the truth by MTTR / (1/MTBF + 1/MTTR) / MTTR / length.
    truth = mtbf / (mtbf + mttr) + mttr / (mtbf + mttr) / (1 / mtbf + 1 / mttr) / length
    assert np.mean([not one.excludes(truth) for one in found]) > LEAST_COVERED


def test_availability_counts_all_replicas() -> None:
    """Ten seconds down of one of two replicas in 100 s is 95 %; never down has no lower end; too long down raises."""
    assert reliability.availability([10.0, 10.0], 100.0, replicas=2).value == pytest.approx(0.95)
    never = reliability.availability([0.0, 0.0, 0.0], 100.0)
    assert (never.value, never.low, never.high) == (1.0, -math.inf, 1.0)
    assert reliability.availability(10.0, 100.0).low == -math.inf
    with pytest.raises(ValueError, match="must hold"):
        reliability.availability([300.0], 100.0, replicas=2)


def test_amplification_is_attempts_over_calls() -> None:
    """Geometric attempts at a failure rate q average to 1 / (1 - q); no calls give no estimate."""
    rng, calls = np.random.default_rng(3), 5000
    attempts = [rng.geometric(0.75, calls).sum() for _ in range(20)]
    found = reliability.amplification(attempts, [calls] * 20, confidence=0.999)
    assert not found.excludes(1 / 0.75)
    assert math.isnan(reliability.amplification([0, 0], [0, 0]).value)


def test_rates_are_counts_over_the_length_of_each_window() -> None:
    """Three events in 2 s and one in 4 s are 1.5 and 0.25 a second, and a stride multiplies them."""
    assert reliability.rate_series([0.1, 0.2, 1.9, 5.0, 9.0], [0, 2, 6], stride=10).tolist() == [15.0, 2.5]


# -- success against steps


def walks(rng: np.random.Generator, p: float, tasks: int = 200) -> tuple[Array, Array, Array]:
    """Return steps planned, steps taken and success of tasks whose steps succeed with chance `p` each."""
    planned, fails = rng.integers(1, 60, tasks), rng.geometric(1 - p, tasks)
    return planned.astype(float), np.minimum(planned, fails).astype(float), (fails > planned).astype(float)


@pytest.mark.parametrize("p", [0.95, 0.99])
def test_a_constant_hazard_is_found_by_planned_and_by_taken_steps(p: float) -> None:
    """Both likelihoods cover p in 95 % of experiments, and a true p^n is called a misfit in no more than a few."""
    rng = np.random.default_rng(4)
    covered, misfits = np.zeros(2), np.zeros(2)
    for _ in range(TRIES):
        planned, taken, won = walks(rng, p)
        found = reliability.constant_hazard(planned, won), reliability.constant_hazard(taken, won, stopped=True)
        covered += [not one.per_step.excludes(p) for one in found]
        misfits += [one.misfit for one in found]
    assert (covered / TRIES > LEAST_COVERED).all()
    # 1 % and three standard errors.
    assert (misfits / TRIES < 0.01 + 3 * math.sqrt(0.01 * 0.99 / TRIES)).all()


def test_half_of_the_tasks_survive_the_half_life() -> None:
    """With 0.99 a step the half-life is ln 2 / -ln 0.99 = 69 steps, and p^n there is one half."""
    rng = np.random.default_rng(5)
    found = reliability.constant_hazard(*walks(rng, 0.99, 20_000)[::2], confidence=0.999)
    assert not found.half_life.excludes(math.log(2) / -math.log(0.99))
    assert found.success(found.half_life.value) == pytest.approx(0.5)


def test_a_hazard_that_changes_is_a_misfit() -> None:
    """Tasks that fail only in their first five steps, and half and half of sure and frail tasks, are not p^n."""
    rng = np.random.default_rng(6)
    planned = rng.integers(1, 60, 1000)
    early = np.where(rng.random(1000) < 0.4, rng.integers(1, 6, 1000), 10**6)
    frail = rng.geometric(np.where(rng.random(1000) < 0.5, 0.1, 0.001))
    for fails in (early, frail):
        taken, won = np.minimum(planned, fails), fails > planned
        assert reliability.constant_hazard(planned, won).misfit
        assert reliability.constant_hazard(taken, won, stopped=True).misfit


def test_nothing_but_success_or_failure_bounds_the_hazard_on_one_side() -> None:
    """All succeeded: p is 1 and the half-life infinite, with a lower end; all failed: p is 0, with an upper end below 1."""
    good = reliability.constant_hazard([10] * 20, [1] * 20)
    assert (good.per_step.value, good.per_step.high, good.half_life.value) == (1.0, 1.0, math.inf)
    assert 0.98 < good.per_step.low < 1
    assert math.isfinite(good.half_life.low)
    bad = reliability.constant_hazard([10] * 20, [0] * 20)
    assert (bad.per_step.value, bad.per_step.low) == (0.0, 0.0)
    assert 0 < bad.per_step.high < 1
    assert math.isnan(good.p_value)


def test_bins_hold_the_closed_form() -> None:
    """Success by planned steps lies about p^n; over replications that differ intervals are wider."""
    rng = np.random.default_rng(7)
    planned, _, won = walks(rng, 0.97, 6000)
    bins = reliability.survival(planned, won, [1, 2, 10, 20, 40, 59], confidence=0.999)
    assert [(one.low, one.high) for one in bins] == [(1, 1), (2, 9), (10, 19), (20, 39), (40, 59)]
    for one in bins:
        mine = planned[(planned >= one.low) & (planned <= one.high)]
        assert not one.success.excludes(float((0.97**mine).mean()))
        assert one.success.n == mine.size
    group = rng.integers(0, 10, 6000)
    apart = won * (group % 2)
    alone = reliability.survival(planned, apart, [1, 59])[0].success
    together = reliability.survival(planned, apart, [1, 59], groups=group)[0].success
    assert together.value == alone.value
    assert together.half_width > 3 * alone.half_width


def test_kaplan_and_meier_is_right_where_taken_steps_mislead() -> None:
    """Its intervals hold p^30; tasks binned by the steps they took look surer than they are."""
    rng, p, covered = np.random.default_rng(8), 0.97, 0
    for _ in range(TRIES):
        _, taken, won = walks(rng, p)
        at = [one for one in reliability.kaplan_meier(taken, won) if one.steps <= 30][-1]
        covered += not at.success.excludes(p**at.steps)
    assert covered / TRIES > LEAST_COVERED
    _, taken, won = walks(rng, p, 5000)
    # The shortest tasks of the bin, and so the surest, get through with p^29.
    assert reliability.survival(taken, won, [29, 31])[0].success.low > p**29


def test_kaplan_and_meier_by_hand() -> None:
    """Failures at 1 and 3 of five tasks, of which one ended well at 2: 4/5, then 4/5 * 2/3."""
    found = reliability.kaplan_meier([1, 2, 3, 4, 3], [0, 1, 0, 1, 1])
    assert [(one.steps, one.at_risk) for one in found] == [(1, 5), (2, 4), (3, 3), (4, 1)]
    assert [one.success.value for one in found] == pytest.approx([4 / 5, 4 / 5, 8 / 15, 8 / 15])
    assert all(0 <= one.success.low <= one.success.value <= one.success.high <= 1 for one in found)


def test_steps_that_cannot_be_are_refused() -> None:
    """Zero steps, parts of steps, arrays that do not pair up and edges that fall raise."""
    for steps, won in (([0.0], [1.0]), ([1.5], [1.0]), ([1.0, 2.0], [1.0]), ([1.0], [0.5])):
        with pytest.raises(ValueError, match="steps"):
            reliability.constant_hazard(steps, won)
    with pytest.raises(ValueError, match="edges must rise"):
        reliability.survival([1.0], [1.0], [3, 2])
