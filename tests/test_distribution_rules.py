"""What may be written for a distribution, and how each mistake is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordsim.sim.engine.distributions import CountDist, DurationDist, TokensDist
from coordsim.sim.engine.errors import ScenarioError
from coordsim.sim.engine.source import Document
from coordsim.sim.engine.spec import Spec, validate


class Holder(Spec):
    """A spec with one field of each kind of distribution."""

    latency: DurationDist = DurationDist.model_validate("0 s")
    output: TokensDist = TokensDist.model_validate("0 tokens")
    turns: CountDist = CountDist(constant=1)


def deep(levels: int) -> str:
    """Return the YAML of a constant shifted so many times."""
    return "{shifted: {by: 0 s, of: " * levels + "1 s" + "}}" * levels


BAD = [
    ("latency: 5", "must carry a unit"),
    ("latency: fast", "must be a duration"),
    ("latency: []", "must be a mapping with one of"),
    ("latency: {}", "must have exactly one of"),
    ("latency: {exponential: {mean: 1 s}, constant: 1 s}", "exactly one of"),
    ("latency: {lognorml: {median: 1 s, p95: 2 s}}", "did you mean `lognormal`?"),
    ("latency: {exponential: {mean: 0 s}}", "latency.exponential.mean: must be > 0; got 0 s"),
    ("latency: {exponential: {mean: -1 s}}", "latency.exponential.mean: must be a duration >= 0"),
    ("latency: {exponential: {mean: .nan s}}", "mean"),
    ("latency: {exponential: {}}", "latency.exponential.mean: required"),
    ("latency: {uniform: {low: 2 s, high: 2 s}}", "uniform.high: `low < high` must hold; got 2 s and 2 s"),
    ("latency: {lognormal: {median: 2 s, p95: 1 s}}", "lognormal.p95: `median < p95` must hold; got 2 s and 1 s"),
    ("latency: {lognormal: {median: 2 s}}", "needs `median` and `p95`, or `mean` and `cv`; got `median`"),
    ("latency: {lognormal: {median: 1 s, p95: 2 s, cv: 1}}", "got `median`, `p95`, `cv`"),
    ("latency: {lognormal: {mean: 1 s, cv: 0}}", "lognormal.cv: must be a number > 0"),
    ("latency: {lognormal: {mean: 1 s, cv: 1e300}}", "lognormal.cv: must be"),
    ("latency: {gamma: {mean: 1 s, shape: 2}}", "needs `mean` and `cv`, or `shape` and `scale`"),
    ("latency: {gamma: {mean: 1 s, cv: 1000}}", "gamma.cv: must give a cv <= 100"),
    ("latency: {gamma: {scale: 1 s, shape: 1e-6}}", "gamma.shape: must give a cv <= 100"),
    ("latency: {weibull: {shape: 0.01, scale: 1 s}}", "weibull.shape: must be a number >= 0.05"),
    ("latency: {weibull: {shape: 1, scale: 1 s, mean: 1 s}}", "got `shape`, `scale`, `mean`"),
    ("latency: {pareto: {minimum: 0 s, shape: 2}}", "pareto.minimum: must be > 0"),
    ("latency: {pareto: {minimum: 1 s, shape: 0.01}}", "pareto.shape: must be a number >= 0.1"),
    ("latency: {hyperexponential: {mean: 1 s, cv: 1}}", "cv: must be > 1; got 1; use `exponential`"),
    ("latency: {hyperexponential: {mean: 1 s, cv: 0.5}}", "cv: must be > 1; got 0.5; use `gamma`"),
    ("latency: {hyperexponential: {phases: []}}", "phases: must have at least 1 item"),
    ("latency: {hyperexponential: {phases: [{weight: 1, mean: 0 s}]}}", "phases.0.mean: must be > 0"),
    ("latency: {mixture: []}", "latency.mixture: must have at least 1 item"),
    ("latency: {mixture: [{weight: 0, of: 1 s}]}", "mixture.0.weight: must be a number > 0"),
    ("latency: {mixture: [{weight: 1, of: {exponential: {mean: 0 s}}}]}", "mixture.0.of.exponential.mean: must be > 0"),
    ("latency: {mixture: [{weight: 1, of: {expnential: {mean: 1 s}}}]}", "did you mean `exponential`?"),
    ("latency: {shifted: {by: -1 s, of: 1 s}}", "shifted.by: must be a duration >= 0"),
    (f"latency: {deep(10)}", "at most 10 distributions may lie in each other; got 11"),
    ("latency: {truncated: {of: 1 s}}", "needs `low`, `high` or both; got neither"),
    ("latency: {truncated: {of: 1 s, low: 3 s, high: 2 s}}", "truncated.high: `low < high` must hold; got 3 s and 2 s"),
    ("latency: {truncated: {of: {exponential: {mean: 1 s}}, low: 1 h}}", "must leave at least a millionth"),
    ("latency: {truncated: {of: 1 s, low: 2 s}}", "must leave at least a millionth"),
    ("latency: {geometric: {mean: 3}}", "geometric"),
    ("latency: {empirical: {}}", "needs `file`, or `values`, or `quantiles`; got nothing"),
    ("latency: {empirical: {values: []}}", "empirical.values: must have at least 1 item"),
    ("latency: {empirical: {values: [1 s, fast]}}", "empirical.values.1: must be a duration"),
    ("latency: {empirical: {values: [1 s], weights: [1, 2]}}", "weights: must be one for each of the 1 values; got 2"),
    ("latency: {empirical: {values: [1 s], unit: ms}}", "empirical.unit: goes with `file`; got `values`"),
    ("latency: {empirical: {values: [1 s], quantiles: {0 %: 1 s}}}", "got `values`, `quantiles`"),
    ("latency: {empirical: {quantiles: {50 %: 1 s}}}", "must have `0 %` and `100 %`"),
    (
        "latency: {empirical: {quantiles: {0 %: 2 s, 50 %: 1 s, 100 %: 3 s}}}",
        "must not fall as the share rises; got 2 s at 0 %",
    ),
    ("latency: {empirical: {quantiles: {0 %: 1 s, p50: 1 s, 100 %: 3 s}}}", "quantiles.p50: must be a share"),
    (
        "latency: {empirical: {quantiles: {0 %: 1 s, 50 %: 1 s, '0.5': 2 s, 100 %: 3 s}}}",
        "must be there once; got 50 % again",
    ),
    ("latency: {empirical: {file: no.csv, unit: ms}}", "empirical.file: cannot read no.csv: no such file"),
    ("latency: {empirical: {file: no.csv}}", "empirical.file: needs `unit` beside it, such as `unit: ms`"),
    ("latency: {empirical: {file: no.csv, unit: parsec}}", "empirical.unit: must be a duration"),
    ("output: {exponential: {mean: 3 s}}", "output.exponential.mean: must be a number of tokens"),
    ("turns: 1.5", "must be a whole number >= 0; got 1.5"),
    ("turns: {exponential: {mean: 3}}", "exponential"),
    ("turns: {geometric: {mean: 0.5}}", "geometric.mean: must be a number >= 1"),
    ("turns: {uniform: {low: 3, high: 2}}", "uniform.high: `low < high` must hold; got 3 and 2"),
    ("turns: {empirical: {values: [1, 1.5]}}", "empirical.values.1: must be a whole number"),
    ("turns: {empirical: {file: no.csv, unit: ms}}", "empirical.unit: must be left out"),
]


@pytest.mark.parametrize(("text", "words"), BAD)
def test_mistakes_are_told_in_our_words(text: str, words: str) -> None:
    """Each rule that is broken is one mistake, told with its place, the rule and what was got."""
    with pytest.raises(ScenarioError) as caught:
        validate(Holder, Document.from_text(text, "bad.yaml"))
    assert len(caught.value.problems) == 1
    assert words in str(caught.value)
    assert caught.value.problems[0].line == 1


def test_ten_distributions_may_lie_in_each_other() -> None:
    """The deepest nesting that is allowed is read, and sampled."""
    holder = validate(Holder, Document.from_text(f"latency: {deep(9)}", "deep.yaml"))
    assert (holder.latency.depth, holder.latency.mean) == (10, 1.0)


def test_a_file_of_values_is_read_with_its_unit(tmp_path: Path) -> None:
    """A column in milliseconds gives seconds, each row as likely as the other."""
    file = tmp_path / "latency.csv"
    file.write_text("name,ms\na,250\nb,750\nc,250\nd,750\n")
    draw = DurationDist.model_validate({"empirical": {"file": str(file), "column": "ms", "unit": "ms"}})
    assert (draw.mean, draw.lower_bound, draw.upper_bound) == (0.5, 0.25, 0.75)
    file.write_text("name,ms\na,250\nb,-1\n")
    with pytest.raises(ValueError, match=r"latency.csv:3: must be >= 0; got -1"):
        DurationDist.model_validate({"empirical": {"file": str(file), "column": "ms", "unit": "ms"}})
    file.write_text("ms\n1e300\n")
    with pytest.raises(ValueError, match="holds a value that is too large"):
        DurationDist.model_validate({"empirical": {"file": str(file), "unit": "ms"}})


def test_the_schema_takes_what_is_read_and_no_other_key() -> None:
    """The JSON Schema has one definition for each quantity, and lists the kinds of each."""
    definitions = Holder.model_json_schema()["$defs"].values()
    kinds = [set(part.get("properties", ())) for top in definitions for part in (top, *top.get("anyOf", ()))]
    assert set(CountDist.choices()) in kinds
    assert kinds.count(set(DurationDist.choices())) == 2
