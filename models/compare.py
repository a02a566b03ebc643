"""Comparisons: the section `compare` of a scenario, and the variants that it asks for.

    compare:
      baseline: external-orchestrator          # the scenario's own runtime where it is not written
      runtime: agent-native                    # or `changes: {models.llm.replicas: 4}` against the scenario as it is
      over: {workflow.steps.act.repeat: [1, 2, 4, 8, 16]}
      ablate: true
      tolerance: 2 %

A variant is the scenario with some values replaced; a runtime is the value of `runtime`, policies and all. Variants that
say the same are one, and run once.

Leaves out: how they are run and compared (`sim.analysis.compare`); reading a comparison back from its JSON.
Checked: tests/test_compare.py, tests/test_compare_command.py.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, model_validator

from ..sim.analysis.compare import TOLERANCE, Plan, PlannedPoint, PlannedSwitch, run_plan
from ..sim.analysis.comparison import ComparisonResult
from ..sim.analysis.jobs import Workers
from ..sim.analysis.replicate import Progress, Settings
from ..sim.engine import paths
from ..sim.engine.errors import Problem, ScenarioError
from ..sim.engine.nodes import Position
from ..sim.engine.source import Document
from ..sim.engine.spec import Share, Spec, SpecProblem
from ..sim.report.overview import about
from .runtime import PRESETS, Runtime
from .variants import ASIDE

if TYPE_CHECKING:
    from .scenario import Scenario

__all__ = ["CompareOptions", "CompareSpec", "asked", "compare", "make_plan", "run_comparison", "told_of_options"]

MOST_FACTORS = 2
# Options become overrides of the section; a mistake is told of the option.
_OPTIONS = {
    "--set compare.baseline=": "--runtime ",
    "--set compare.runtime=": "--runtime ",
    "--set compare.changes=": "--with ",
    "--set compare.over=": "--over ",
    "--set compare.tolerance=": "--tolerance ",
}
AS_IT_IS = "as it is"  # what the scenario with no change is called


class CompareSpec(Spec):
    """What `coordsim compare` compares: two runtimes, or the scenario with `changes` (path to value) and without.

    `over` holds at most two factors, each a path and its values: the comparison is made at every point of their grid.
    `ablate` also switches each policy alone. A saving within the `tolerance`, a share of T_total, counts as none.
    """

    baseline: Runtime | None = None
    runtime: Runtime | None = None
    changes: dict[str, Any] = {}
    over: dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]] = {}
    ablate: bool = True
    tolerance: Share = TOLERANCE

    @model_validator(mode="after")
    def _one_question(self) -> Self:
        if self.changes and (self.runtime or self.baseline):
            name = "runtime" if self.runtime else "baseline"
            raise SpecProblem(("changes",), f"compares the scenario with itself, so `{name}` cannot be given too", True)
        if len(self.over) > MOST_FACTORS:
            raise SpecProblem(("over",), f"must have at most {MOST_FACTORS} factors; got {len(self.over)}", at_key=True)
        return self


@dataclass(frozen=True)
class CompareOptions:
    """What the command line asks for, as it is written; each option replaces its part of the section."""

    runtimes: Sequence[str] = ()
    changes: Sequence[str] = ()
    over: Sequence[str] = ()
    ablate: bool | None = None
    tolerance: str | None = None


def asked(document: Document, options: CompareOptions) -> Document:
    """Return the document with the options in its section `compare`. Raises ScenarioError with every mistake in them."""
    problems = list(_misused(options))
    changes = dict(_pairs("--with", options.changes, problems))
    over = {path: _values(path, text, problems) for path, text in _pairs("--over", options.over, problems)}
    if problems:
        raise ScenarioError(problems, "coordsim compare")
    section = document.data.get("compare")
    kept = section if isinstance(section, dict) else {}
    given: list[tuple[str, str]] = []
    if options.runtimes:
        given += zip(("baseline", "runtime"), options.runtimes, strict=True)
        given += [("changes", "null")] if "changes" in kept else []
    if changes:
        given += [(name, "null") for name in ("baseline", "runtime") if name in kept]
        parsed = {
            path: Document.from_text(f"value: {text}", f"--with {path}").data["value"] for path, text in changes.items()
        }
        given.append(("changes", json.dumps(parsed)))
    given += [("over", json.dumps(over))] if over else []
    given += [] if options.ablate is None else [("ablate", json.dumps(options.ablate))]
    given += [] if options.tolerance is None else [("tolerance", options.tolerance)]
    if given and section is None:
        document = document.with_override("compare", "{}")
    for name, text in given:
        document = document.with_override(("compare", name), text)
    return document


def told_of_options(error: ScenarioError) -> ScenarioError:
    """Return the error with mistakes in the section, where options wrote it, told of the options."""
    return ScenarioError([_told(one) for one in error.problems], error.subject)


def _told(problem: Problem) -> Problem:
    for written, option in _OPTIONS.items():
        if problem.file.startswith(written):
            return replace(problem, file=option + problem.file.removeprefix(written))
    return problem


def compare(
    scenario: "Scenario",
    baseline: str | Mapping[str, Any] | Runtime | None = None,
    variant: str | Mapping[str, Any] | Runtime | None = None,
    *,
    changes: Mapping[str, Any] | None = None,
    over: Mapping[str, Sequence[Any]] | None = None,
    ablate: bool | None = None,
    replications: int | None = None,
    workers: int | Workers = 1,
) -> ComparisonResult:
    """Compare two runtimes, or the scenario with `changes` (path to value) and without, over the same tasks.

    What is not given is as the scenario's section `compare` says; the baseline is else the scenario's own runtime.
    No number depends on `workers`. Raises ScenarioError with every mistake in the scenario and its variants.
    """
    section = {} if scenario.compare is None else scenario.compare.model_dump(mode="json", exclude_unset=True)
    if baseline is not None or variant is not None:
        section = {name: value for name, value in section.items() if name not in ("baseline", "runtime", "changes")}
        section |= {"runtime": _plain(variant)} | ({} if baseline is None else {"baseline": _plain(baseline)})
    if changes is not None:
        section = {name: value for name, value in section.items() if name not in ("baseline", "runtime")}
        section["changes"] = dict(changes)
    section |= {} if over is None else {"over": {path: list(values) for path, values in over.items()}}
    section |= {} if ablate is None else {"ablate": ablate}
    return run_comparison(scenario.replace("compare", section), replications=replications, workers=workers)


def run_comparison(
    scenario: "Scenario",
    *,
    replications: int | None = None,
    workers: int | Workers = 1,
    progress: Callable[[Progress], None] | None = None,
) -> ComparisonResult:
    """Run the comparison that the scenario's section asks for.

    Raises ScenarioError with every mistake, and ComparisonInterrupted with what was complete on a keyboard interrupt.
    """
    from .simulate import simulate

    settings = Settings(
        replications=replications or scenario.replications,
        warmup=scenario.workload.warmup,
        confidence=scenario.confidence,
    )
    spec = scenario.compare or CompareSpec()
    return run_plan(
        simulate,
        make_plan(scenario),
        seed=scenario.seed,
        settings=settings,
        tolerance=spec.tolerance,
        workers=workers,
        progress=progress,
    )


# ---------------------------------------------------------------------------------------------------------------------
# The variants


@dataclass(frozen=True)
class _Value:
    """A value to put in place, as YAML, and where it was written."""

    path: str
    text: str
    at: Position

    @property
    def shown(self) -> str:
        """The value as a table shows it: a text without its quotes."""
        value = json.loads(self.text)
        return value if isinstance(value, str) else self.text


@dataclass
class _Variants:
    """Variants as they are built: each by a key of what it says, and every mistake found on the way."""

    scenario: "Scenario"
    found: dict[str, "Scenario"] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def build(self, values: Iterable[_Value]) -> str:
        """Return the key of the scenario with values in place, '' after a mistake, which is kept."""
        try:
            return self.key(values)
        except ScenarioError as error:
            self.problems += [one for one in error.problems if one not in self.problems]
            return ""

    def key(self, values: Iterable[_Value]) -> str:
        """Return the key of the scenario with values in place. Raises ScenarioError, each mistake where it was written."""
        document, origins = _document(self.scenario), {}
        found: list[Problem] = []
        for one in values:
            origins[f"--set {one.path}={one.text}"] = one.at
            try:
                document = type(self.scenario).overridden(document, one.path, one.text)
            except ScenarioError as error:
                found += [_placed(problem, one.at) for problem in error.problems]
        try:
            built = type(self.scenario).of(document)
        except ScenarioError as error:
            found += [_placed(one, origins[one.file]) if one.file in origins else one for one in error.problems]
        if found:
            raise ScenarioError(found, document.name)
        data = built.to_data()
        for section in ASIDE:
            data.pop(section, None)
        data["runtime"].pop("preset", None)  # a name: the policies are all there
        key = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
        self.found.setdefault(key, built)
        return key


def make_plan(scenario: "Scenario") -> "Plan[Scenario]":
    """Return what the scenario's section asks to run. Raises ScenarioError with every mistake in the variants."""
    spec = scenario.compare or CompareSpec()
    names, before, after = _sides(scenario, spec)
    variants = _Variants(scenario)
    main = (variants.build(before), variants.build(after))
    grid = list(product(*(_factor(scenario, path, values) for path, values in spec.over.items())))
    switches = _switches(variants, before, after) if spec.ablate and not variants.problems else None
    points = [
        PlannedPoint(
            tuple(one.shown for one in values), variants.build([*before, *values]), variants.build([*after, *values])
        )
        for values in (grid if spec.over else [])
    ]
    if variants.problems:
        raise ScenarioError(variants.problems, _document(scenario).name)
    return Plan(
        scenario=scenario.name,
        names=names,
        variants=variants.found,
        main=main,
        switches=None if switches is None else tuple(switches),
        factors=tuple(spec.over),
        points=tuple(points),
    )


def _sides(scenario: "Scenario", spec: CompareSpec) -> tuple[tuple[str, str], list[_Value], list[_Value]]:
    """Return what baseline and variant are called, and what each replaces in the scenario."""
    document = _document(scenario)
    if spec.changes:
        values = [
            _Value(path, _text(value), document.where(("compare", "changes", path)))
            for path, value in spec.changes.items()
        ]
        return (AS_IT_IS, ", ".join(f"{one.path}={one.shown}" for one in values)), [], values
    if spec.runtime is None:
        remedy = (
            "give `--runtime A --runtime B`, or `--with PATH=VALUE`, or `runtime` in the scenario's section `compare`"
        )
        raise ScenarioError([document.problem(("compare",), f"there is nothing to compare: {remedy}")], document.name)
    baseline = spec.baseline or scenario.runtime
    if baseline == spec.runtime:
        message = f"is the same as the baseline, {_called(baseline)}; name two that differ, of {', '.join(PRESETS)}"
        raise ScenarioError([document.problem(("compare", "runtime"), message)], document.name)
    sides = [
        [_Value("runtime", _text(one.to_data()), document.where(("compare", name)))]
        for name, one in (("baseline", baseline), ("runtime", spec.runtime))
    ]
    return (_called(baseline), _called(spec.runtime)), sides[0], sides[1]


def _switches(variants: _Variants, before: list[_Value], after: list[_Value]) -> Iterator[PlannedSwitch]:
    """Yield every policy (or change) in which the two differ, with the variants that switch it alone."""
    if before:
        a, b = json.loads(before[0].text), json.loads(after[0].text)
        for policy in Runtime.model_fields:
            if policy != "preset" and a.get(policy) != b.get(policy):
                alone = replace(before[0], text=_text({**a, policy: b.get(policy)}))
                last = replace(after[0], text=_text({**b, policy: a.get(policy)}))
                yield _switch(variants, (policy, str(a.get(policy)), str(b.get(policy))), [alone], [last])
        return
    for one in after:
        rest = [other for other in after if other is not one]
        yield _switch(variants, (one.path, _written(variants.scenario, one.path), one.shown), [one], rest)


def _switch(
    variants: _Variants, told: tuple[str, str, str], alone: Sequence[_Value], last: Sequence[_Value]
) -> PlannedSwitch:
    """Return a switch; a combination that cannot be has no key, and a reason."""
    keys: list[str | None] = []
    reasons: list[str] = []
    for what, values in (("alone", alone), ("last", last)):
        try:
            keys.append(variants.key(values))
        except ScenarioError as error:
            keys.append(None)
            reasons += [f"{what}: {': '.join(filter(None, (one.path, one.message)))}" for one in error.problems]
    return PlannedSwitch(*told, keys[0], keys[1], tuple(reasons))


def _factor(scenario: "Scenario", path: str, values: Iterable[Any]) -> list[_Value]:
    document = _document(scenario)
    return [
        _Value(path, json.dumps(value), document.where(("compare", "over", path, number)))
        for number, value in enumerate(values)
    ]


def _written(scenario: "Scenario", path: str) -> str:
    """Return the value at a path as the scenario has it."""
    try:
        value = paths.get(scenario.to_data(), path)
    except ScenarioError:
        return "not written"
    return value if isinstance(value, str) else json.dumps(value)


def _document(scenario: "Scenario") -> Document:
    return scenario._document or Document.from_data(scenario.to_data(), scenario.name)


def _placed(problem: Problem, at: Position) -> Problem:
    return replace(problem, file=at.file, line=at.line, column=at.column, source=at.source)


def _called(runtime: Runtime) -> str:
    return about({"runtime": runtime.to_data()}, PRESETS).runtime


def _text(value: Any) -> str:
    """Return a value as YAML on one line."""
    return json.dumps(value)


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
