"""Comparisons: the section `compare` of a scenario, its options, and `compare(a, b)`.

    compare:
      baseline: external-orchestrator          # the scenario's own runtime where it is not written
      runtime: agent-native                    # or `changes: {models.llm.replicas: 4}` against the scenario as it is
      over: {workflow.steps.act.repeat: [1, 2, 4, 8, 16]}
      ablate: true
      tolerance: 2 %
      metric: p95

Leaves out: the variants that it asks for (`compare_plan`); how they are run and compared (`sim.analysis.compare`); reading a
comparison back from its JSON.
Checked: tests/test_compare.py, tests/test_compare_command.py, tests/test_compare_files.py.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from ..sim.analysis.compare import run_plan
from ..sim.analysis.comparison import ComparisonResult
from ..sim.analysis.jobs import Workers
from ..sim.analysis.replicate import Progress, Settings
from ..sim.analysis.savings import TOLERANCE
from ..sim.analysis.slo import parse_metric
from ..sim.engine.errors import Problem, ScenarioError, did_you_mean
from ..sim.engine.ledger import CATEGORIES
from ..sim.engine.source import Document
from ..sim.engine.spec import Count, Share, Spec, SpecProblem
from .context import FACTS
from .runtime import Runtime

if TYPE_CHECKING:
    from .scenario import Scenario

__all__ = ["CompareOptions", "CompareSpec", "asked", "compare", "run_comparison"]

MOST_FACTORS = 2


class CompareSpec(Spec):
    """What `coordsim compare` compares: two runtimes, or the scenario with `changes` (path to value) and without.

    `over` holds at most two factors, each a path and its values: the comparison is made at every point of their grid.
    `ablate` also switches each policy alone. The verdict is on `metric`, named as in `slo`; a saving within the `tolerance`, a share
    of the baseline's, counts as none. With `paired: false` the variant runs with a seed of its own, `seed_b`.
    """

    baseline: Runtime | None = None
    runtime: Runtime | None = None
    changes: dict[str, Any] = {}
    over: dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]] = {}
    ablate: bool = True
    tolerance: Share = TOLERANCE
    metric: str = "mean"
    paired: bool = True
    seed_b: Count | None = None

    @field_validator("metric")
    @classmethod
    def _measured(cls, name: str) -> str:
        quantity = parse_metric(name)
        times = ("response_time", "coordination", *CATEGORIES)
        if quantity.statistic != "rate" and quantity.quantity not in (*times, *FACTS):
            raise ValueError(f"no such metric{did_you_mean(quantity.quantity, (*times, *FACTS))}; got `{name}`")
        return name

    @model_validator(mode="after")
    def _one_question(self) -> Self:
        if self.changes and (self.runtime or self.baseline):
            name = "runtime" if self.runtime else "baseline"
            raise SpecProblem(("changes",), f"compares the scenario with itself, so `{name}` cannot be given too", True)
        if len(self.over) > MOST_FACTORS:
            raise SpecProblem(("over",), f"must have at most {MOST_FACTORS} factors; got {len(self.over)}", at_key=True)
        if self.paired and self.seed_b is not None:
            raise SpecProblem(
                ("seed_b",), "goes with `paired: false`; those that are paired have one seed", at_key=True
            )
        return self


@dataclass(frozen=True)
class CompareOptions:
    """What the command line asks for, as it is written; each option replaces its part of the section.

    `files` tells that another scenario is given to compare with.
    """

    runtimes: Sequence[str] = ()
    changes: Sequence[str] = ()
    over: Sequence[str] = ()
    ablate: bool | None = None
    tolerance: str | None = None
    metric: str | None = None
    unpaired: bool = False
    seed_b: int | None = None
    files: bool = False


def asked(document: Document, options: CompareOptions) -> Document:
    """Return the document with the options in its section `compare`. Raises ScenarioError with every mistake in them."""
    problems = list(_misused(options))
    changes = dict(_pairs("--with", options.changes, problems))
    over = {path: _values(path, text, problems) for path, text in _pairs("--over", options.over, problems)}
    if problems:
        raise ScenarioError(problems, "coordsim compare")
    section = document.data.get("compare")
    kept = section if isinstance(section, dict) else {}
    given = list(_sections(options, changes, over, kept))
    if given and section is None:
        document = document.with_override("compare", "{}")
    for steps, text, option in given:
        document = document.with_override(("compare", *steps), text, option)
    return document


_Written = tuple[tuple[str, ...], str, str]  # where in the section, what as YAML, and the option that says so


def _sections(
    options: CompareOptions, changes: Mapping[str, str], over: Mapping[str, Any], kept: Mapping[str, Any]
) -> Iterator[_Written]:
    """Yield what options replace in the section, of which some is `kept` there; null deletes."""
    for name, text in zip(("baseline", "runtime"), options.runtimes, strict=False):
        yield (name,), text, f"--runtime {text}"
    if options.runtimes and "changes" in kept:
        yield ("changes",), "null", "--runtime"
    yield from _mapping("changes", {path: (text, f"--with {path}={text}") for path, text in changes.items()})
    if changes:
        yield from (((name,), "null", "--with") for name in ("baseline", "runtime") if name in kept)
    said = {
        path: ",".join(one if isinstance(one, str) else json.dumps(one) for one in values)
        for path, values in over.items()
    }
    if options.files and "over" in kept and not over:  # a grid of the first scenario alone
        yield ("over",), "null", "--over"
    yield from _mapping(
        "over", {path: (json.dumps(values), f"--over {path}={said[path]}") for path, values in over.items()}
    )
    if options.ablate is not None:
        yield ("ablate",), json.dumps(options.ablate), "--ablate"
    if options.tolerance is not None:
        yield ("tolerance",), options.tolerance, f"--tolerance {options.tolerance}"
    if options.metric is not None:
        yield ("metric",), options.metric, f"--metric {options.metric}"
    if options.unpaired or options.seed_b is not None:
        yield ("paired",), "false", "--unpaired"
    if options.seed_b is not None:
        yield ("seed_b",), str(options.seed_b), f"--seed-b {options.seed_b}"


def _mapping(name: str, values: Mapping[str, tuple[str, str]]) -> Iterator[_Written]:
    """Yield a mapping of the section anew, each value by the option that gives it."""
    nulls = {
        path: None for path, (text, _) in values.items() if text in ("null", "~")
    }  # alone, each would delete itself
    if values:
        yield (name,), json.dumps(nulls), f"--{name}"
    yield from (((name, path), text, option) for path, (text, option) in values.items() if path not in nulls)


def compare(
    a: "Scenario",
    b: "Scenario | str | Mapping[str, Any] | Runtime | None" = None,
    variant: str | Mapping[str, Any] | Runtime | None = None,
    *,
    replications: int | None = None,
    workers: int | Workers = 1,
    **section: Any,
) -> ComparisonResult:
    """Compare two scenarios; or one under two runtimes (`b` and `variant`), or with `changes` (path to value) and without.

    `section` are fields of the section `compare` by name: changes, over, ablate, tolerance, metric, paired, seed_b. What is not given
    is as the section of `a` says; so are the seed, the replications and the objectives, which count for both.
    No number depends on `workers`. Raises ScenarioError with every mistake in the scenario and its variants.
    """
    kept = {} if a.compare is None else a.compare.model_dump(mode="json", exclude_unset=True)
    other: Scenario | None = None
    if b is not None and not isinstance(b, str | Mapping | Runtime):
        other = b
        kept.pop("over", None)  # a grid of the first scenario alone
    elif b is not None or variant is not None:
        kept = {name: value for name, value in kept.items() if name not in ("baseline", "runtime", "changes")}
        kept |= {"runtime": _plain(variant)} | ({} if b is None else {"baseline": _plain(b)})
    if section.get("changes") is not None:
        kept = {name: value for name, value in kept.items() if name not in ("baseline", "runtime")}
    kept |= {name: _listed(value) for name, value in section.items() if value is not None}
    return run_comparison(a.replace("compare", kept), other, replications=replications, workers=workers)


def run_comparison(
    scenario: "Scenario",
    other: "Scenario | None" = None,
    *,
    replications: int | None = None,
    workers: int | Workers = 1,
    progress: Callable[[Progress], None] | None = None,
) -> ComparisonResult:
    """Run the comparison that the scenario's section asks for, or that with the other scenario.

    Raises ScenarioError with every mistake, and ComparisonInterrupted with what was complete on a keyboard interrupt.
    """
    from .compare_plan import make_plan
    from .variants import simulate_text

    settings = Settings(
        replications=replications or scenario.replications,
        warmup=scenario.workload.warmup,
        objectives=scenario.objectives,
        confidence=scenario.confidence,
    )
    plan = make_plan(scenario, other)
    return run_plan(simulate_text, plan, seed=scenario.seed, settings=settings, workers=workers, progress=progress)


def _listed(value: Any) -> Any:
    """Return what the section can hold: the values of a factor as a list."""
    if isinstance(value, Mapping):
        return {name: list(one) if isinstance(one, tuple | range) else one for name, one in value.items()}
    return value


def _plain(value: str | Mapping[str, Any] | Runtime | None) -> Any:
    if value is None:
        raise ValueError("a baseline alone is no comparison; give the variant too")
    return value if isinstance(value, str) else value.to_data() if isinstance(value, Runtime) else dict(value)


# ---------------------------------------------------------------------------------------------------------------------
# The command line


def _misused(options: CompareOptions) -> Iterator[Problem]:
    """Yield the mistakes of options that do not go together."""
    count = len(options.runtimes)
    if count and count != 2:
        got = f"got {'one' if count == 1 else count}"
        yield Problem("", f"must be given twice, the baseline first: `--runtime A --runtime B`; {got}", "--runtime")
    if options.files and (count or options.changes):
        option = "--runtime" if count else "--with"
        yield Problem("", "cannot be given with two scenarios; use `--set`, which goes for both", option)
    if count and options.changes:
        yield Problem("", "compares the scenario with itself; leave out `--runtime`", "--with")
    if len(options.over) > MOST_FACTORS:
        yield Problem("", f"must be given at most {MOST_FACTORS} times; got {len(options.over)}", "--over")


def _pairs(option: str, texts: Iterable[str], problems: list[Problem]) -> Iterator[tuple[str, str]]:
    """Yield path and value of each `PATH=VALUE`."""
    for text in texts:
        path, equals, value = text.partition("=")
        if equals and path.strip() and value.strip():
            yield path.strip(), value.strip()
        else:
            problems.append(
                Problem("", f"must be a path and a value, as in `models.llm.replicas=4`; got `{text}`", option)
            )


def _values(path: str, text: str, problems: list[Problem]) -> list[Any]:
    """Return the values of `--over PATH=v1,v2,...`, each as YAML."""
    option = f"--over {path}={text}"
    try:
        values: list[Any] = Document.from_text(f"values: [{text}]", option).data["values"]
    except ScenarioError:
        problems.append(Problem("", "must be values between commas, as in `models.llm.replicas=1,2,4`", option))
        return []
    return values
