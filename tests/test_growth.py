"""Verdicts, laws and exponents on curves of known growth, with noise that replications share across x as in a sweep."""

from __future__ import annotations

import json
import math

import numpy as np
import numpy.typing as npt
import pytest

from coordsim.sim.analysis.growth import Curve, Growth, growth, sentence
from coordsim.sim.analysis.growth_laws import LAWS, best_powers, lack_of_fit, scales

Array = npt.NDArray[np.float64]
STEPS = np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128.0])
AGENTS = np.arange(1, 17.0)
LOADS = np.arange(1, 20.0)
HARMONIC = np.cumsum(1 / np.arange(1, 129.0))
BARRIER = HARMONIC[STEPS.astype(int) - 1]
CURVES = {
    "barrier": (STEPS, 0.5 + BARRIER, "sub-linear", "barrier"),
    "wait for the last": (STEPS, BARRIER - 1, "sub-linear", "barrier"),
    "root": (STEPS, 2 + STEPS**0.5, "sub-linear", "power"),
    "line": (STEPS, 5 + 0.3 * STEPS, "linear", "linear"),
    "x log x": (STEPS, 1 + STEPS * np.log(STEPS), "super-linear", "x log x"),
    "quadratic": (STEPS, 3 + 0.5 * STEPS + 0.1 * STEPS**2, "super-linear", "quadratic"),
    "pairs": (AGENTS, AGENTS * (AGENTS - 1) / 2, "super-linear", "quadratic"),
    "power with a big offset": (STEPS, 500 + STEPS**1.6, "super-linear", "power"),
    "constant": (STEPS, np.full(STEPS.size, 3.0), "constant", "constant"),
    "saturation": (LOADS, 1 / (1 - LOADS / 20), "super-linear", None),
}
STUDIES = 100
# A 95 % interval that holds the truth in 100 studies does so in 0.95 ± 3 * sqrt(0.95 * 0.05 / 100) of them.
COVERED = (0.884, 1.0)


def exact(x: Array, times: Array, replications: int = 3) -> Curve:
    """Return a curve without chance."""
    return Curve(x, np.tile(times, (replications, 1)), "exact")


def noisy(x: Array, times: Array, seed: int, replications: int = 20, common: float = 0.1, own: float = 0.02) -> Curve:
    """Return replications that are `common` off as a whole and `own` at each point, as shares of T."""
    rng = np.random.default_rng(seed)
    whole = common * rng.normal(size=(replications, 1))
    return Curve(x, times * (1 + whole + own * rng.normal(size=(replications, x.size))), "noisy")


def held(curves: list[Curve], truth: float) -> float:
    """Return the share of the curves whose interval of the exponent holds the truth."""
    found = [growth(curve).exponent for curve in curves]
    return sum(one is not None and not one.excludes(truth) for one in found) / len(found)


@pytest.mark.parametrize("name", CURVES)
def test_an_exact_curve_gets_its_verdict_and_its_law(name: str) -> None:
    """Without chance the verdict is the true one, and the law is found again; saturation follows none of them."""
    x, times, verdict, law = CURVES[name]
    found = growth(exact(x, times))
    assert found.verdict == verdict
    assert (found.chosen.law if found.chosen else None) == law


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_noisy_curve_gets_its_verdict(name: str, seed: int) -> None:
    """Twenty replications, 10 % apart as a whole and 2 % at each point, lead to the true verdict."""
    x, times, verdict, law = CURVES[name]
    found = growth(noisy(x, times, seed))
    assert found.verdict == verdict
    # A curve near p = 2 is as well a quadratic as a power of x, but no law of another verdict may be chosen.
    others = {"quadratic", "power"} if law in {"quadratic", "power"} else {law}
    assert (found.chosen.law if found.chosen else None) in others


@pytest.mark.parametrize(("truth", "offset"), [(0.5, 2.0), (1.6, 500.0), (2.0, 0.0)])
def test_an_exact_power_law_gives_its_exponent(truth: float, offset: float) -> None:
    """The exponent is found to five digits, whatever the offset, and the interval closes on it."""
    exponent = growth(exact(STEPS, offset + 0.7 * STEPS**truth)).exponent
    assert exponent is not None
    assert exponent.value == pytest.approx(truth, abs=1e-4)
    assert exponent.high - exponent.low < 1e-3
    assert "jackknife" in exponent.method


@pytest.mark.slow
@pytest.mark.parametrize(("truth", "replications"), [(1.6, 3), (1.0, 5), (0.5, 20)])
def test_intervals_of_the_exponent_cover(truth: float, replications: int) -> None:
    """In 100 studies the 95 % interval holds the true exponent as often as it says, within three standard errors."""
    times = (50 if truth > 1 else 3) + STEPS**truth
    curves = [noisy(STEPS, times, 100 + seed, replications, 0.2, 0.03) for seed in range(STUDIES)]
    assert COVERED[0] <= held(curves, truth) <= COVERED[1]


@pytest.mark.slow
def test_an_interval_at_half_the_confidence_covers_half() -> None:
    """The 50 % interval holds the truth in 0.5 ± 0.15 of 100 studies: the others are not merely wide."""
    curves = [noisy(STEPS, 50 + STEPS**1.6, 300 + seed, 20, 0.2, 0.03) for seed in range(STUDIES)]
    found = [growth(curve, confidence=0.5).exponent for curve in curves]
    share = sum(one is not None and not one.excludes(1.6) for one in found) / STUDIES
    assert 0.35 <= share <= 0.65


@pytest.mark.slow
def test_the_log_log_slope_covers() -> None:
    """Of a power law without offset, the plain slope's interval holds the exponent as often as it says."""
    slopes = [growth(noisy(AGENTS, 3 * AGENTS**1.3, 500 + seed)).loglog for seed in range(STUDIES)]
    assert COVERED[0] <= sum(not one.excludes(1.3) for one in slopes) / STUDIES <= COVERED[1]


@pytest.mark.parametrize("replications", [4, 20])
def test_the_test_of_fit_rejects_a_true_law_as_rarely_as_it_says(replications: int) -> None:
    """A line whose points err together is called a misfit at 5 % in 5 % of 400 studies, within three standard errors."""
    rng = np.random.default_rng(7)
    design = np.column_stack([np.ones(AGENTS.size), AGENTS])
    weight = np.ones(AGENTS.size)
    rejected = 0
    for _ in range(400):
        # A random walk over x: neighbours share most of what they err by.
        errors = np.cumsum(rng.normal(size=(replications, AGENTS.size)), axis=1)
        values = 10 + 2 * AGENTS + errors
        fitted = design @ np.linalg.lstsq(design, values.mean(axis=0), rcond=None)[0]
        p = lack_of_fit(values, fitted, design, weight)
        assert p is not None
        rejected += p < 0.05
    # Three standard errors of a share of 400, and 1.5 points that Box's approximation may be off by.
    assert 0.05 - 0.033 - 0.015 <= rejected / 400 <= 0.05 + 0.033 + 0.015


def test_the_test_of_fit_finds_a_bend() -> None:
    """The same test rejects a line through a curve that bends by three standard errors of the mean."""
    rng = np.random.default_rng(8)
    design = np.column_stack([np.ones(AGENTS.size), AGENTS])
    bent = 10 + 2 * AGENTS + 0.05 * (AGENTS - 8) ** 2
    values = bent + rng.normal(size=(20, AGENTS.size)) / 2
    fitted = design @ np.linalg.lstsq(design, values.mean(axis=0), rcond=None)[0]
    p = lack_of_fit(values, fitted, design, np.ones(AGENTS.size))
    assert p is not None
    assert p < 0.001


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize(("longer", "slower"), [(1000.0, 1e6), (0.07, 1e-9)])
def test_units_do_not_matter(name: str, longer: float, slower: float) -> None:
    """Another unit of x or of T leaves verdict and exponent as they are."""
    x, times, verdict, _ = CURVES[name]
    curve = noisy(x, times, 1)
    found, base = growth(Curve(longer * curve.x, slower * curve.values)), growth(curve)
    assert found.verdict == verdict
    assert (found.exponent is None) == (base.exponent is None)
    if found.exponent is not None and base.exponent is not None:
        ends = [base.exponent.value, base.exponent.low, base.exponent.high]
        assert [found.exponent.value, found.exponent.low, found.exponent.high] == pytest.approx(ends, abs=1e-3)


def test_more_replications_narrow_the_interval() -> None:
    """Four times the replications halve the interval, within a third, as the median of ten studies."""

    def width(replications: int) -> float:
        found = [growth(noisy(STEPS, 50 + STEPS**1.6, seed, replications)).exponent for seed in range(10)]
        return float(np.median([one.half_width for one in found if one is not None]))

    assert 0.33 < width(64) / width(16) < 0.67


def test_common_random_numbers_are_used() -> None:
    """What a replication is off as a whole does not blur the exponent: 30 % apart or 1 %, the interval is as wide."""
    wide, narrow = (growth(noisy(STEPS, 5 + STEPS**1.6, 1, common=common)).exponent for common in (0.3, 0.01))
    assert wide is not None
    assert narrow is not None
    assert wide.half_width < 2 * narrow.half_width
    assert wide.half_width < 0.05


def test_a_saturating_curve_has_no_single_exponent() -> None:
    """1 / (1 - x / 20) is nearly flat and then explodes: refused, in words; local exponents tell what remains."""
    found = growth(noisy(LOADS, 1 / (1 - LOADS / 20), 4))
    assert (found.verdict, found.exponent, found.chosen) == ("super-linear", None, None)
    assert "no single exponent" in found.reasons[0]
    assert sentence(found).startswith("super-linear, no single exponent: marginal cost rises, local exponent from 0.")
    # d log T / d log x = x / (20 - x): between 1 and 2, and between 18 and 19, to first order.
    assert found.local[0].exponent.value == pytest.approx(math.log(19 / 18) / math.log(2), abs=0.05)
    assert found.local[-1].exponent.value == pytest.approx(math.log(2) / math.log(19 / 18), abs=0.6)
    assert all(one.exponent.resolved for one in found.local)


def test_simulated_barriers_are_barriers() -> None:
    """The largest of n exponential times, over the same draws for each n, is sub-linear with p near 0."""
    rng = np.random.default_rng(9)
    draws = rng.exponential(1.0, (20, 400, 128))
    values = np.stack([draws[:, :, : int(n)].max(axis=2).mean(axis=1) for n in STEPS], axis=1)
    found = growth(Curve(STEPS, values))
    assert found.verdict == "sub-linear"
    assert found.chosen is not None
    assert found.chosen.law == "barrier"
    # E max = H_n / mu, and H_n - ln n shrinks, which makes p a little more than 0.
    assert found.chosen.parameters["b"] == pytest.approx(1.0, abs=0.05)
    assert found.chosen.parameters["a"] == pytest.approx(0.0, abs=0.05)
    assert found.exponent is not None
    assert found.exponent.high < 0.3


def test_large_noise_is_undecided() -> None:
    """Few replications that are far apart leave p open on both sides of 1, and the sentence says between what."""
    studies = [growth(noisy(AGENTS, 3 + AGENTS, seed, 5, 0.3, 0.3)) for seed in range(20)]
    # An interval that misses in 1 of 20, or 1 of 10 at worst, gives a wrong verdict no more often than that.
    assert [one.verdict for one in studies].count("cannot tell") >= 16
    found = next(one for one in studies if one.verdict == "cannot tell" and one.exponent is not None)
    assert found.exponent is not None
    assert found.exponent.low < 1 < found.exponent.high
    assert sentence(found).startswith("cannot tell: ")
    assert sentence(found).endswith("(16 points)")


def test_noise_that_hides_growth_is_not_called_constant() -> None:
    """A level curve is constant only where more than 5 % growth is excluded: not seen is not shown to be none."""
    loud = growth(noisy(STEPS, np.full(STEPS.size, 3.0), 2, 6, 0.3, 0.3))
    assert loud.verdict == "cannot tell"
    assert loud.exponent is None
    assert "not resolved" in sentence(loud)
    quiet = growth(noisy(STEPS, np.full(STEPS.size, 3.0), 2))
    assert sentence(quiet).startswith("constant: ")


@pytest.mark.parametrize("points", [2, 3, 4, 5])
def test_five_points_choose_no_law(points: int) -> None:
    """Even exact, five points choose no law and reach no verdict; the exponent is given where it can be."""
    found = growth(exact(STEPS[:points], STEPS[:points] ** 1.6))
    assert (found.verdict, found.chosen) == ("cannot tell", None)
    assert all(math.isnan(fit.held_out) for fit in found.fits)
    assert f"{points} points" in found.reasons[0]
    assert (found.exponent is None) == (points < 4)
    six = growth(exact(STEPS[:6], STEPS[:6] ** 1.6))
    assert six.verdict == "super-linear"


def test_five_noisy_points_say_between_what() -> None:
    """The sentence names the interval and how few points there are."""
    found = growth(noisy(STEPS[:5], 1 + STEPS[:5], 3, own=0.05))
    assert found.exponent is not None
    assert sentence(found).startswith("cannot tell: between ")
    assert sentence(found).endswith("(5 points)")


@pytest.mark.parametrize("replications", [1, 2])
def test_few_replications_say_so(replications: int) -> None:
    """With fewer than three replications the exponent's interval comes from the points, and a reason says so."""
    found = growth(noisy(STEPS, 50 + STEPS**1.6, 6, replications))
    assert found.exponent is not None
    assert "jackknife" in found.exponent.method
    assert found.exponent.low < 1.6 < found.exponent.high
    assert any("chance is not known" in reason for reason in found.reasons)
    assert all(fit.lack_of_fit is None for fit in found.fits)


@pytest.mark.parametrize(("replications", "verdict"), [(1, "cannot tell"), (2, "super-linear")])
def test_one_replication_may_be_chance(replications: int, verdict: str) -> None:
    """Marginal costs are compared where two equal replications show that there is no chance, not with one alone."""
    found = growth(exact(LOADS, 1 / (1 - LOADS / 20), replications))
    assert (found.verdict, found.exponent) == (verdict, None)


def test_an_exact_curve_says_that_its_interval_is_no_chance() -> None:
    """The interval of a quadratic's exponent tells how far one exponent is from it, and a reason says so."""
    x = STEPS[5:]
    found = growth(exact(x, 1200 * x + 200 * x * (x + 1)))
    assert found.verdict == "super-linear"
    assert found.exponent is not None
    # Local exponents of the growth run from about 1.6 to 2.0.
    assert 1.7 < found.exponent.low < found.exponent.high < 2.0
    assert any("not chance" in reason for reason in found.reasons)
    assert found.change.half_width == 0


def test_a_falling_curve_is_said_to_fall() -> None:
    """T that shrinks has no exponent of growth and no verdict of growth."""
    for curve in (exact(STEPS, 10 - STEPS**0.3), noisy(STEPS, 10 - STEPS**0.3, 1)):
        found = growth(curve)
        assert (found.verdict, found.exponent) == ("falling", None)
        assert found.change.high < 0
        assert sentence(found).startswith("falling: -4")


def test_a_fall_of_little_is_a_constant() -> None:
    """A quarter of a percent over the whole range is resolved here, and is nothing that anybody calls falling."""
    found = growth(exact(STEPS, 10 - 0.005 * np.log(STEPS)))
    assert found.change.high < 0
    assert found.verdict == "constant"


@pytest.mark.parametrize("times", [np.abs(AGENTS - 5) + 1, 20 - np.abs(AGENTS - 12)])
def test_a_curve_that_turns_is_not_given_a_verdict_of_growth(times: Array) -> None:
    """A valley or a hump that ends above its start grows over the range, but falls in a part of it."""
    found = growth(exact(AGENTS, times))
    assert (found.verdict, found.exponent) == ("cannot tell", None)
    assert "falls in a part" in " ".join(found.reasons)


def test_a_curve_that_levels_off_is_sub_linear() -> None:
    """10 (1 - exp(-x / 3)) reaches a ceiling: marginal cost falls, with or without a single exponent."""
    for curve in (exact(AGENTS, 10 * (1 - np.exp(-AGENTS / 3))), noisy(AGENTS, 10 * (1 - np.exp(-AGENTS / 3)), 1)):
        assert growth(curve).verdict == "sub-linear"


def test_a_kink_is_super_linear_without_one_exponent() -> None:
    """Free up to 10 and a line from there on: marginal cost rises and falls nowhere."""
    found = growth(noisy(STEPS, np.maximum(10.0, STEPS), 1))
    assert (found.verdict, found.exponent) == ("super-linear", None)


def test_a_point_at_zero_is_left_out_of_logarithms_only() -> None:
    """Pairs of one agent cost nothing: the fits use that point, log T cannot, and a reason says so."""
    x, times, _, _ = CURVES["pairs"]
    found = growth(noisy(x, times, 1))
    assert found.local[0].low == 2
    assert math.isfinite(found.loglog.value)
    assert any("T <= 0" in reason for reason in found.reasons)
    assert all(fit.fitted.size == x.size for fit in found.fits)


def test_growth_is_told_however_a_curve_starts() -> None:
    """From 0 to 120 with one replication: growth over the range is several times the mean, and resolved."""
    x, times, _, _ = CURVES["pairs"]
    found = growth(noisy(x, times, 3, 1))
    assert found.verdict == "super-linear"
    assert 1.5 < found.change.low < found.change.high < 4


def test_the_log_log_slope_has_no_offset() -> None:
    """Published exponents of totals are plain slopes: numpy's straight line through the logarithms."""
    found = growth(noisy(STEPS, 5 + STEPS**1.6, 1))
    slope = np.polyfit(np.log(STEPS), np.log(found.curve.mean), 1)[0]
    assert found.loglog.value == pytest.approx(slope, abs=1e-9)
    assert found.exponent is not None
    assert found.loglog.value < found.exponent.value


def test_a_law_is_told_apart_or_not_chosen() -> None:
    """With much noise at each point, laws of different verdicts predict alike, and none of them is chosen."""
    studies = [growth(noisy(AGENTS, 30 + AGENTS, seed, 4, 0.1, 0.3)) for seed in range(12)]
    undecided = [found for found in studies if found.chosen is None]
    assert len(undecided) >= 6
    assert all(any("apart" in reason for reason in found.reasons) for found in undecided)


def test_held_out_error_is_worse_than_the_fit() -> None:
    """All laws but one are asked of what they did not see: a line through a quadratic errs far more beyond the data."""
    found = growth(exact(STEPS, 3 + STEPS**2))
    errors = {fit.law: fit.held_out for fit in found.fits}
    assert set(errors) == set(LAWS)
    assert errors["quadratic"] < 1e-9
    assert errors["power"] < 1e-4
    assert errors["linear"] > 0.3
    assert errors["constant"] > errors["linear"]


def test_the_search_finds_any_exponent() -> None:
    """Exponents from below 0 to 6, and 0 itself (a logarithm), are found through noise-free curves."""
    truths = np.array([-1.5, -0.3, 0.0, 0.2, 1.0, 2.7, 6.0])
    logs = np.log(AGENTS)
    curves = np.array([2 + (np.expm1(p * logs) / p if p else logs) for p in truths])
    found = best_powers(AGENTS, curves, np.ones_like(curves))
    assert found == pytest.approx(truths, abs=1e-4)


def test_an_exponent_beyond_the_search_has_an_open_end() -> None:
    """x^12 is steeper than what is searched: the upper end is unknown rather than 8."""
    found = growth(noisy(AGENTS, 1 + AGENTS**12, 1))
    assert found.verdict == "super-linear"
    assert found.exponent is None or found.exponent.high == math.inf


def test_scales_are_of_t_or_of_its_growth() -> None:
    """An offset does not hide a misfit, a zero does not blow it up."""
    assert scales(np.array([100.0, 101.0, 110.0])) == pytest.approx([10, 10, 10])
    assert scales(np.array([0.0, 1.0, 1000.0])) == pytest.approx([1, 1, 1000])
    assert scales(np.array([5.0, 5.0])) == pytest.approx([5, 5])


def test_the_same_seed_gives_the_same_answer() -> None:
    """Nothing but the seed decides what is drawn."""
    curve = noisy(STEPS, 5 + STEPS**1.6, 1)
    first, second, other = (growth(curve, seed=seed).to_data() for seed in (1, 1, 2))
    assert first == second
    assert first["exponent"] != other["exponent"]


def test_data_is_json() -> None:
    """Open ends are null; the sentence and the reasons are in it."""
    for found in (growth(noisy(STEPS[:4], STEPS[:4], 1, 1)), growth(noisy(STEPS, 5 + STEPS**1.6, 1))):
        data = json.loads(json.dumps(found.to_data(), allow_nan=False))
        assert data["sentence"] == sentence(found)
        assert data["reasons"] == list(found.reasons)
        assert len(data["fits"]) == len(found.fits)


def test_sentences_name_exponent_and_interval() -> None:
    """The words come first, then the exponent with its interval."""

    def said(found: Growth) -> str:
        assert found.exponent is not None
        one = found.exponent
        return f"{found.verdict}: {one.value:.2f} [{one.low:.2f}, {one.high:.2f}]"

    for name in ("line", "root", "power with a big offset"):
        x, times, verdict, _ = CURVES[name]
        found = growth(noisy(x, times, 1))
        assert sentence(found) == said(found)
        assert sentence(found).startswith(verdict)


@pytest.mark.parametrize(
    ("x", "values", "message"),
    [
        ([1, 2, 3], [[1, 2]], "shape"),
        ([1], [[1]], "two points"),
        ([1, 2], np.zeros((0, 2)), "a replication"),
        ([0, 1], [[1, 2]], "> 0 and rise"),
        ([1, 1], [[1, 2]], "> 0 and rise"),
        ([2, 1], [[1, 2]], "> 0 and rise"),
        ([1, 2], [[1, math.nan]], "finite"),
    ],
)
def test_bad_curves_are_refused(x: Array, values: Array, message: str) -> None:
    """Shapes that do not go together, an x that does not rise, and values that are not numbers are named."""
    with pytest.raises(ValueError, match=message):
        Curve(x, values)


def test_bad_settings_are_refused() -> None:
    """A confidence is a share, and few resamples have no tails."""
    curve = exact(STEPS, STEPS)
    with pytest.raises(ValueError, match="confidence"):
        growth(curve, confidence=95)
    with pytest.raises(ValueError, match="resamples"):
        growth(curve, resamples=10)
