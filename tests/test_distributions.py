"""Every kind of distribution against what it declares, and on its way through YAML and between processes."""

from __future__ import annotations

import math
import pickle
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats

from coordsim.sim.engine.distributions import AnyDraw, CountDist, DurationDist, NumberDist, SizeDist, TokensDist
from coordsim.sim.engine.draws import Draws

N = 200_000
# With about 300 checks below, five standard errors leave a chance of 2e-4 that a right program fails; seeds are fixed.
DEVIATIONS = 5.0
LEVELS = [0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999]

EXPONENTIAL = {"exponential": {"mean": "2 s"}}
LOGNORMAL = {"lognormal": {"median": "350 ms", "p95": "1.4 s"}}
PARETO = {"pareto": {"minimum": "1 s", "shape": 1.5}}
GEOMETRIC = {"geometric": {"mean": 6}}
# What is written, its mean and its standard deviation by the textbook.
SIGMA = math.log(1.4 / 0.35) / stats.norm.ppf(0.95)
DURATIONS: dict[str, tuple[Any, float, float]] = {
    "constant": ("350 ms", 0.35, 0.0),
    "uniform": ({"uniform": {"low": "1 s", "high": "3 s"}}, 2.0, 2 / math.sqrt(12)),
    "exponential": (EXPONENTIAL, 2.0, 2.0),
    "lognormal by quantiles": (
        LOGNORMAL,
        0.35 * math.exp(SIGMA**2 / 2),
        0.35 * math.exp(SIGMA**2 / 2) * math.sqrt(math.exp(SIGMA**2) - 1),
    ),
    "lognormal by moments": ({"lognormal": {"mean": "2 s", "cv": 0.8}}, 2.0, 1.6),
    "gamma by moments": ({"gamma": {"mean": "2 s", "cv": 0.5}}, 2.0, 1.0),
    "gamma by shape": ({"gamma": {"shape": 0.5, "scale": "4 s"}}, 2.0, 4 * math.sqrt(0.5)),
    "weibull by scale": ({"weibull": {"shape": 2, "scale": "2 s"}}, math.sqrt(math.pi), math.sqrt(4 - math.pi)),
    "weibull by mean": ({"weibull": {"shape": 0.5, "mean": "2 s"}}, 2.0, 2 * math.sqrt(5)),
    "pareto": ({"pareto": {"minimum": "1 s", "shape": 5}}, 1.25, math.sqrt(5 / 48)),
    "hyperexponential by moments": ({"hyperexponential": {"mean": "2 s", "cv": 2}}, 2.0, 4.0),
    "hyperexponential by phases": (
        {"hyperexponential": {"phases": [{"weight": 3, "mean": "1 s"}, {"weight": 1, "mean": "5 s"}]}},
        2.0,
        math.sqrt(10),
    ),
    "empirical": ({"empirical": {"values": ["1 s", "2 s", "2 s", "5 s"]}}, 2.5, 1.5),
    "empirical with weights": ({"empirical": {"values": ["1 s", "6 s"], "weights": [4, 1]}}, 2.0, 2.0),
    "quantiles, even from 0": ({"empirical": {"quantiles": {"0 %": "0 s", "100 %": "6 s"}}}, 3.0, math.sqrt(3)),
    "quantiles, in the log": (
        {"empirical": {"quantiles": {"0 %": "1 s", "100 %": "4 s"}}},
        3 / math.log(4),
        math.sqrt(15 / math.log(16) - (3 / math.log(4)) ** 2),
    ),
    "mixture": (
        {"mixture": [{"weight": 3, "of": "1 s"}, {"weight": 1, "of": {"exponential": {"mean": "5 s"}}}]},
        2.0,
        math.sqrt(9.25),
    ),
    "shifted": ({"shifted": {"by": "1 s", "of": EXPONENTIAL}}, 3.0, 2.0),
    "truncated": ({"truncated": {"of": EXPONENTIAL, "low": "1 s"}}, 3.0, 2.0),
}
MIXED_COUNTS = {"mixture": [{"weight": 1, "of": 0}, {"weight": 1, "of": {"shifted": {"by": 2, "of": GEOMETRIC}}}]}
COUNTS: dict[str, tuple[Any, float, float]] = {
    "count": (3, 3.0, 0.0),
    "uniform count": ({"uniform": {"low": 1, "high": 6}}, 3.5, math.sqrt(35 / 12)),
    "geometric": (GEOMETRIC, 6.0, math.sqrt(30)),
    "geometric, short": ({"geometric": {"mean": 1.25}}, 1.25, math.sqrt(0.3125)),
    "counts with weights": ({"empirical": {"values": [1, 2], "weights": [0.8, 0.2]}}, 1.2, 0.4),
    "mixed counts": (MIXED_COUNTS, 4.0, math.sqrt((30 + 64) / 2 - 16)),
    "truncated count": (
        {"truncated": {"of": {"uniform": {"low": 0, "high": 9}}, "low": 2, "high": 4}},
        3,
        (2 / 3) ** 0.5,
    ),
}


def draw_of(written: Any) -> AnyDraw:
    """Read a duration, or a count where only that is allowed."""
    cls = CountDist if any(written is case[0] for case in COUNTS.values()) else DurationDist
    return cls.model_validate(written)


CASES = [pytest.param(draw_of(case[0]), *case[1:], id=name) for name, case in (DURATIONS | COUNTS).items()]
# The kinds whose forms are worth checking though they were not in the table above: tails, corners, and nesting.
MORE: dict[str, Any] = {
    "heavy pareto": PARETO,
    "truncated pareto": {"truncated": {"of": PARETO, "high": "100 s"}},
    "truncated lognormal": {"truncated": {"of": LOGNORMAL, "low": "200 ms", "high": "3 s"}},
    "truncated gamma": {"truncated": {"of": {"gamma": {"mean": "2 s", "cv": 2}}, "low": "1 s", "high": "9 s"}},
    "truncated weibull": {"truncated": {"of": {"weibull": {"shape": 0.5, "scale": "1 s"}}, "high": "4 s"}},
    "truncated hyperexponential": {"truncated": {"of": {"hyperexponential": {"mean": "2 s", "cv": 3}}, "low": "3 s"}},
    "truncated uniform": {"truncated": {"of": {"uniform": {"low": "1 s", "high": "3 s"}}, "high": "2 s"}},
    "truncated values": {"truncated": {"of": {"empirical": {"values": ["1 s", "2 s", "5 s"]}}, "low": "2 s"}},
    "truncated shifted": {"truncated": {"of": {"shifted": {"by": "1 s", "of": EXPONENTIAL}}, "high": "4 s"}},
    "truncated twice": {"truncated": {"of": {"truncated": {"of": EXPONENTIAL, "low": "1 s"}}, "high": "4 s"}},
    "truncated mixture": {
        "truncated": {"of": {"mixture": [{"weight": 1, "of": "1 s"}, {"weight": 3, "of": PARETO}]}, "high": "9 s"}
    },
    "truncated table": {
        "truncated": {
            "of": {"empirical": {"quantiles": {"0 %": "0 s", "50 %": "1 s", "95 %": "1 s", "100 %": "9 s"}}},
            "low": "500 ms",
            "high": "4 s",
        }
    },
    "gamma, nearly constant": {"gamma": {"mean": "2 s", "cv": 0.01}},
    "weibull, shape 1": {"weibull": {"shape": 1, "scale": "2 s"}},
    "table with a step": {"empirical": {"quantiles": {"0 %": "1 s", "40 %": "1 s", "60 %": "3 s", "100 %": "3 s"}}},
}
ALL = CASES + [pytest.param(draw_of(written), None, None, id=name) for name, written in MORE.items()]
ALL.append(
    pytest.param(CountDist.model_validate({"truncated": {"of": GEOMETRIC, "high": 20}}), None, None, id="bounded loop")
)
every_kind = pytest.mark.parametrize("draw", [pytest.param(p.values[0], id=p.id) for p in ALL])


@pytest.mark.parametrize(("draw", "mean", "deviation"), CASES)
def test_moments_are_the_textbooks(draw: AnyDraw, mean: float, deviation: float) -> None:
    """Declared mean, variance and cv are the closed forms for what was written."""
    assert draw.mean == pytest.approx(mean, rel=1e-12)
    assert math.sqrt(draw.variance) == pytest.approx(deviation, rel=1e-12)
    assert draw.cv == pytest.approx(deviation / mean, rel=1e-12)


@every_kind
def test_samples_have_the_declared_moments(draw: AnyDraw) -> None:
    """Mean and variance of many samples lie within five standard errors of the declared ones, where these exist."""
    values = draw.sample(np.random.default_rng(11), N)
    assert values.shape == (N,)
    assert values.dtype == np.float64
    if math.isfinite(draw.variance):
        assert abs(values.mean() - draw.mean) <= DEVIATIONS * math.sqrt(draw.variance / N) + 1e-12 * draw.mean
        fourth = float(np.mean((values - draw.mean) ** 4))
        error = math.sqrt(max(fourth - draw.variance**2, 0.0) / N)
        assert abs(np.mean((values - draw.mean) ** 2) - draw.variance) <= DEVIATIONS * error + 1e-12 * draw.variance


@every_kind
def test_samples_have_the_declared_quantiles(draw: AnyDraw) -> None:
    """The share of samples up to each quantile is within five binomial standard errors of the declared one."""
    values = draw.sample(np.random.default_rng(12), N)
    assert draw.lower_bound <= values.min()
    assert values.max() <= draw.upper_bound
    for level in LEVELS:
        x = draw.quantile(level)
        share, at_most = np.mean(values <= x), draw.cdf(x)
        assert abs(share - at_most) <= DEVIATIONS * math.sqrt(at_most * (1 - at_most) / N) + 1e-12


@every_kind
def test_a_quantile_is_the_first_to_reach_its_level(draw: AnyDraw) -> None:
    """The distribution function reaches p at the p-quantile, and not a hair before it."""
    for level in LEVELS:
        x = draw.quantile(level)
        assert draw.cdf(x * (1 + 1e-9)) >= level - 1e-9
        assert draw.cdf(x * (1 - 1e-9) - 1e-300) <= level + 1e-6
    assert draw.quantile(0) == draw.lower_bound
    assert draw.quantile(1) == draw.upper_bound
    assert draw.cdf(draw.lower_bound - 1) == 0
    assert draw.cdf(math.inf) == 1


@every_kind
def test_partial_moments_are_integrals_of_the_quantiles(draw: AnyDraw) -> None:
    """E[X^k; X <= x] equals the integral of quantile(u)^k up to cdf(x), for k = 0, 1, 2."""
    for level in (0.2, 0.5, 0.97):
        x = draw.quantile(level)
        u = (np.arange(50_000) + 0.5) / 50_000 * draw.cdf(x)  # midpoints; the integrand is monotone and bounded
        values = draw.distribution.quantile(u)
        for k in (0, 1, 2):
            expected = float(np.mean(values**k)) * draw.cdf(x)
            steps = float(values[-1] ** k - values[0] ** k) / len(
                u
            )  # what midpoints of a monotone function miss at most
            assert draw.distribution.partial(k, x) == pytest.approx(expected, rel=1e-9, abs=steps + 1e-12)


@pytest.mark.parametrize("low", [1.0, 1.7, 5.0])
@pytest.mark.parametrize("high", [6.0, 40.0, 1000.0])
@pytest.mark.parametrize("kind", ["pareto", "lognormal"])
def test_truncated_moments_are_integrals(kind: str, low: float, high: float) -> None:
    """Mean and variance of truncated heavy tails equal numeric integration over scipy's density."""
    written, reference = {
        "pareto": ({"pareto": {"minimum": "1 s", "shape": 1.2}}, stats.pareto(1.2)),
        "lognormal": (
            {"lognormal": {"median": "2 s", "p95": "30 s"}},
            stats.lognorm(math.log(15) / stats.norm.ppf(0.95), scale=2),
        ),
    }[kind]
    draw = DurationDist.model_validate({"truncated": {"of": written, "low": f"{low} s", "high": f"{high} s"}})

    def moment(k: int) -> float:
        value, _ = integrate.quad(
            lambda y: math.exp((k + 1) * y) * reference.pdf(math.exp(y)), math.log(low), math.log(high)
        )
        return float(value)

    assert draw.mean == pytest.approx(moment(1) / moment(0), rel=1e-7)
    assert draw.variance == pytest.approx(moment(2) / moment(0) - (moment(1) / moment(0)) ** 2, rel=1e-6)


def test_lognormal_is_not_given_by_the_mean_of_its_log() -> None:
    """A lognormal written with mean 2 s has mean 2 s, not median 2 s; written with median and p95 it has these."""
    for cv in (0.5, 3.0):
        draw = DurationDist.model_validate({"lognormal": {"mean": "2 s", "cv": cv}})
        assert draw.mean == pytest.approx(2.0)
        assert draw.quantile(0.5) == pytest.approx(2 / math.sqrt(1 + cv**2))
    draw = DurationDist.model_validate(LOGNORMAL)
    assert (draw.quantile(0.5), draw.quantile(0.95)) == pytest.approx((0.35, 1.4))


@pytest.mark.parametrize(
    ("written", "reference"),
    [
        (EXPONENTIAL, stats.expon(scale=2)),
        (LOGNORMAL, stats.lognorm(SIGMA, scale=0.35)),
        ({"gamma": {"mean": "2 s", "cv": 2}}, stats.gamma(0.25, scale=8)),
        ({"weibull": {"shape": 0.7, "scale": "3 s"}}, stats.weibull_min(0.7, scale=3)),
        (PARETO, stats.pareto(1.5)),
        ({"uniform": {"low": "1 s", "high": "4 s"}}, stats.uniform(1, 3)),
    ],
)
def test_families_are_scipys(written: Any, reference: Any) -> None:
    """Distribution function and quantiles of each family agree with scipy.stats to ten digits."""
    draw = DurationDist.model_validate(written)
    for level in LEVELS:
        assert draw.quantile(level) == pytest.approx(reference.ppf(level), rel=1e-10)
        assert draw.cdf(reference.ppf(level)) == pytest.approx(level, rel=1e-10)


@pytest.mark.parametrize(
    "written",
    [
        lambda s: {"uniform": {"low": f"{s} s", "high": f"{3 * s} s"}},
        lambda s: {"exponential": {"mean": f"{s} s"}},
        lambda s: {"lognormal": {"median": f"{s} s", "p95": f"{4 * s} s"}},
        lambda s: {"lognormal": {"mean": f"{s} s", "cv": 2}},
        lambda s: {"gamma": {"mean": f"{s} s", "cv": 1.5}},
        lambda s: {"weibull": {"mean": f"{s} s", "shape": 0.6}},
        lambda s: {"pareto": {"minimum": f"{s} s", "shape": 1.5}},
        lambda s: {"hyperexponential": {"mean": f"{s} s", "cv": 3}},
        lambda s: {"empirical": {"values": [f"{s} s", f"{2 * s} s", f"{5 * s} s"]}},
        lambda s: {"empirical": {"quantiles": {"0 %": f"{s} s", "50 %": f"{2 * s} s", "100 %": f"{9 * s} s"}}},
        lambda s: {"shifted": {"by": f"{s} s", "of": EXPONENTIAL}},
        lambda s: {"truncated": {"of": EXPONENTIAL, "low": f"{s} s"}},
        lambda s: {"mixture": [{"weight": 1, "of": "1 s"}, {"weight": 1, "of": {"exponential": {"mean": f"{s} s"}}}]},
    ],
)
def test_a_larger_scale_gives_larger_values_throughout(written: Any) -> None:
    """From the same random numbers, no value falls when the scale grows, so that scenarios compared are paired."""
    samples = [
        DurationDist.model_validate(written(s)).sample(np.random.default_rng(3), 2000) for s in (0.5, 1, 1.01, 4)
    ]
    for smaller, larger in pairwise(samples):
        assert (smaller <= larger).all()
        assert (smaller < larger).any()


def test_longer_loops_are_longer_for_every_task() -> None:
    """From the same random numbers, no geometric count falls when its mean grows, from 1 to 100 turns."""
    samples = [
        CountDist.model_validate({"geometric": {"mean": mean}}).sample(np.random.default_rng(3), 2000)
        for mean in (1, 1.2, 1.5, 2, 3.3, 6, 20, 100)
    ]
    for fewer, more in pairwise(samples):
        assert (fewer <= more).all()
        assert (fewer < more).any()


def test_a_part_of_a_mixture_leaves_the_others_alone() -> None:
    """Making the second part slower changes no value of the first."""
    fast = {"weight": 1, "of": {"gamma": {"mean": "1 s", "cv": 2}}}
    one, other = (
        DurationDist.model_validate({"mixture": [fast, {"weight": 1, "of": f"{slow} s"}]}).sample(
            np.random.default_rng(5), 2000
        )
        for slow in (100, 200)
    )
    assert ((one == other) ^ ((one == 100) & (other == 200))).all()
    assert 800 < (one == other).sum() < 1200


@pytest.mark.parametrize("draw", [p.values[0] for p in CASES if p.id in COUNTS])
def test_counts_are_whole(draw: AnyDraw) -> None:
    """Samples and quantiles of a count have no fraction, also through mixtures and truncation."""
    values = draw.sample(np.random.default_rng(8), 5000)
    assert (values == np.floor(values)).all()
    assert all(draw.quantile(level) == math.floor(draw.quantile(level)) for level in LEVELS)


def test_truncated_values_are_drawn_again_and_not_moved() -> None:
    """No heap of samples lies at the bounds of a truncated exponential."""
    draw = DurationDist.model_validate({"truncated": {"of": EXPONENTIAL, "low": "1 s", "high": "3 s"}})
    values = draw.sample(np.random.default_rng(1), 20_000)
    assert len(np.unique(values)) > 19_990
    assert (draw.lower_bound, draw.upper_bound) == (1.0, 3.0)


def test_a_bare_value_is_a_constant() -> None:
    """`350 ms` is a constant that streams do not draw; so is any kind with one possible value."""
    for written in ("350 ms", {"constant": "350 ms"}, {"empirical": {"values": ["350 ms", "0.35 s"]}}):
        draw = DurationDist.model_validate(written)
        assert draw.is_constant
        assert Draws(1).stream("a", draw.sampler).constant == 0.35
    assert CountDist.model_validate({"geometric": {"mean": 1}}).is_constant
    assert not DurationDist.model_validate(LOGNORMAL).is_constant


def test_streams_draw_from_a_distribution() -> None:
    """A stream made from a distribution has its mean within five standard errors."""
    stream = Draws(1).stream("a", DurationDist.model_validate(EXPONENTIAL).sampler)
    assert stream.constant is None
    values = [stream.draw(task, ordinal) for task in range(1000) for ordinal in range(20)]
    assert abs(np.mean(values) - 2.0) < DEVIATIONS * 2.0 / math.sqrt(len(values))


def test_units_are_those_of_the_field() -> None:
    """Tokens, bytes and plain numbers are read in their own units; negative numbers only where they make sense."""
    assert TokensDist.model_validate({"exponential": {"mean": "1.5k tokens"}}).mean == 1500
    assert SizeDist.model_validate({"uniform": {"low": "1 kB", "high": "3 kB"}}).mean == 2000
    assert NumberDist.model_validate({"uniform": {"low": -1, "high": 3}}).mean == 1
    assert NumberDist.model_validate({"shifted": {"by": -2, "of": {"exponential": {"mean": 1}}}}).lower_bound == -2


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"pareto": {"minimum": "1 s", "shape": 0.9}}, ["mean of pareto with shape 0.9 is infinite"]),
        (PARETO, ["variance of pareto with shape 1.5 is infinite"]),
        ({"shifted": {"by": "1 s", "of": PARETO}}, ["variance of the shifted distribution is infinite"]),
        ({"mixture": [{"weight": 1, "of": "1 s"}, {"weight": 1, "of": PARETO}]}, ["the mixture is infinite", "pareto"]),
        ({"truncated": {"of": PARETO, "low": "2 s"}}, ["variance of the truncated distribution is infinite"]),
        ({"lognormal": {"median": "1 ms", "p95": "1 h"}}, ["the cv of lognormal is"]),
        ({"lognormal": {"median": "1 ns", "p95": "1000 d"}}, ["the variance of lognormal is infinite"]),
        ({"empirical": {"values": ["1 s", "2 s"]}}, ["has 2 values"]),
        ({"empirical": {"quantiles": {"0 %": "1 ms", "100 %": "1 s"}}}, ["it would be 246% more"]),
        ({"truncated": {"of": PARETO, "high": "100 s"}}, []),
        (EXPONENTIAL, []),
        ("1 s", []),
    ],
)
def test_doubts_are_told(written: Any, words: list[str]) -> None:
    """Infinite moments, wild variation and thin data are told, one sentence each, and nothing else is."""
    doubts = DurationDist.model_validate(written).doubts()
    assert len(doubts) == len(words)
    assert all(word in doubt for word, doubt in zip(words, doubts, strict=True))


@every_kind
def test_what_is_written_back_reads_as_the_same(draw: AnyDraw) -> None:
    """The data of a distribution, units and all, validates to an equal one with equal samples."""
    again = type(draw).model_validate(draw.to_data())
    assert again == draw
    assert (again.sample(np.random.default_rng(1), 10) == draw.sample(np.random.default_rng(1), 10)).all()


@every_kind
def test_distributions_go_between_processes(draw: AnyDraw) -> None:
    """A pickled distribution comes back equal, with equal samples."""
    again = pickle.loads(pickle.dumps(draw))
    assert again == draw
    assert (again.sample(np.random.default_rng(1), 10) == draw.sample(np.random.default_rng(1), 10)).all()
