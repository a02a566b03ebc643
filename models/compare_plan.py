"""What a comparison runs: the variants of both sides, each checked with its mistakes where they were written, and how they differ.

A variant is known by all that it says, with defaults written out: those that say the same are one, and run once. A runtime is the
value of `runtime`, policies and all.

Leaves out: running (`sim.analysis.compare`).
Checked: tests/test_compare.py, tests/test_compare_files.py.
"""

import copy
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from ..sim.analysis.compare import Plan, PlannedPoint, PlannedSwitch
from ..sim.analysis.comparison import Change
from ..sim.analysis.slo import PASS_AT
from ..sim.engine import paths
from ..sim.engine.errors import Problem, ScenarioError, shorten
from ..sim.engine.nodes import Position
from ..sim.engine.paths import Key, dotted
from ..sim.engine.source import Document
from ..sim.report.overview import about
from .compare import CompareSpec
from .runtime import PRESETS, Runtime
from .variants import ASIDE, Variants, document_of

if TYPE_CHECKING:
    from .scenario import Scenario

__all__ = ["make_plan"]

AS_IT_IS = "as it is"  # what the scenario with no change is called
MOST_SWITCHES = 8  # of two scenarios: so many parts are switched one by one, each in two variants
SHOWN = 60  # characters of a value; of a longer mapping its values are counted
_APART = (
    *ASIDE,
    "coordsim",
    "name",
    "question",
    "notes",
    "seed",
    "replications",
    "confidence",
)  # the first scenario's hold
_LENGTH = ("tasks", "horizon", "warmup")  # of the workload: the n-th task is the same, however many there are
_ABSENT = object()

Steps = tuple[Key, ...]


@dataclass(frozen=True)
class _Value:
    """A value to put in place, as YAML, and where it was written."""

    path: str
    text: str
    at: Position

    @property
    def shown(self) -> str:
        """The value as a table shows it: a text without its quotes."""
        return _flow(json.loads(self.text))


@dataclass(frozen=True)
class _Side:
    """A side of the comparison: what it is called, and what it replaces in which document."""

    name: str
    document: Document
    values: tuple[_Value, ...] = ()


@dataclass(frozen=True)
class _Built:
    """A variant: its key, what it says with defaults written out, and as it was written."""

    key: str
    data: dict[str, Any]
    document: Document


@dataclass
class _Builder:
    """Variants as they are built, and every mistake found on the way."""

    variants: Variants
    problems: list[Problem] = field(default_factory=list)

    def build(self, side: _Side, more: Iterable[_Value] = ()) -> _Built | None:
        """Return a side with more values in place; None after a mistake, which is kept, told where it was written."""
        cls, document = type(self.variants.scenario), side.document
        origins: dict[str, Position] = {}
        found: list[Problem] = []
        for one in (*side.values, *more):
            origins[f"--set {one.path}={one.text}"] = one.at
            try:
                document = cls.overridden(document, one.path, one.text)
            except ScenarioError as error:
                found += [_placed(problem, one.at) for problem in error.problems]
        try:
            built = cls.of(document)
        except ScenarioError as error:
            found += [_placed(one, origins[one.file]) if one.file in origins else one for one in error.problems]
        if found:
            self.problems += [one for one in found if one not in self.problems]
            return None
        data = built.to_data()
        return _Built(self.key(data), data, document)

    def key(self, data: dict[str, Any]) -> str:
        """Return the key of a variant that says no more than it must."""
        said = {name: value for name, value in data.items() if name not in ASIDE}
        # A preset is a name: the policies are all there.
        said["runtime"] = {name: said["runtime"][name] for name in sorted(said["runtime"]) if name != "preset"}
        return self.variants.take(json.dumps(said))

    def key_of(self, data: dict[str, Any]) -> str:
        """Return the key of plain data. Raises ScenarioError."""
        cls = type(self.variants.scenario)
        return self.key(cls.of(Document.from_data(data, "variant")).to_data())


def make_plan(scenario: "Scenario", other: "Scenario | None" = None) -> Plan[str]:
    """Return what the scenario's section asks to run, or the comparison with the other scenario.

    Raises ScenarioError with every mistake in the variants.
    """
    spec = scenario.compare or CompareSpec()
    sides = _sides(scenario, spec, other)
    builder = _Builder(Variants(scenario), list(_asked_too_much(scenario, spec)))
    main = [builder.build(side) for side in sides]
    grid = list(product(*(_factor(scenario, path, values) for path, values in spec.over.items())))
    spots = [(values, [builder.build(side, values) for side in sides]) for values in (grid if spec.over else [])]
    a, b = main
    if builder.problems or a is None or b is None:
        raise ScenarioError(builder.problems, sides[a is not None and b is None].document.name)
    groups, notes = _groups(sides, a, b), []
    switches: tuple[PlannedSwitch, ...] | None = None
    if spec.ablate and other is not None and len(groups) > MOST_SWITCHES:
        notes = [f"{len(groups)} parts differ: too many to switch each of them alone (at most {MOST_SWITCHES})."]
    elif spec.ablate:
        switches = tuple(_switch(builder, name, steps, a.data, b.data) for name, steps in groups)
    same_tasks = _tasks(a.data) == _tasks(b.data)
    if not same_tasks:
        notes.append("The two differ in their tasks: they are compared by replication, and not task by task.")
    return Plan(
        scenario=scenario.name,
        names=(sides[0].name, sides[1].name),
        variants=builder.variants.found,
        main=(a.key, b.key),
        switches=switches,
        factors=tuple(spec.over),
        points=tuple(
            PlannedPoint(tuple(one.shown for one in values), first.key, second.key)
            for values, (first, second) in spots
            if first is not None and second is not None
        ),
        metric=spec.metric,
        tolerance=spec.tolerance,
        seed_b=None if spec.paired else scenario.seed + 1 if spec.seed_b is None else spec.seed_b,
        same_tasks=same_tasks,
        changes=tuple(_changes(a, b)),
        notes=tuple(notes),
    )  # fmt: skip


def _asked_too_much(scenario: "Scenario", spec: CompareSpec) -> Iterator[Problem]:
    """Yield what the section asks and this scenario cannot tell."""
    document = document_of(scenario)
    if spec.metric in PASS_AT and scenario.workload.problems is None:
        yield document.problem(
            ("compare", "metric"), "needs `workload.problems`, which make tasks trials of one problem"
        )
    if spec.seed_b is not None and spec.seed_b == scenario.seed:
        message = f"must differ from the seed, {scenario.seed}, where the two are not paired"
        yield document.problem(("compare", "seed_b"), message)


def _sides(scenario: "Scenario", spec: CompareSpec, other: "Scenario | None") -> tuple[_Side, _Side]:
    """Return both sides: two scenarios, or one with values in place."""
    document = document_of(scenario)
    if other is not None:
        names = _names(scenario, other)
        return _Side(names[0], document), _Side(names[1], document_of(other))
    if spec.changes:
        values = tuple(
            _Value(path, json.dumps(value), document.where(("compare", "changes", path)))
            for path, value in spec.changes.items()
        )
        name = ", ".join(f"{one.path}={one.shown}" for one in values)
        return _Side(AS_IT_IS, document), _Side(name, document, values)
    if spec.runtime is None:
        remedy = (
            "give a second scenario, or `--runtime A --runtime B`, or `--with PATH=VALUE`, or `runtime` in the scenario's "
            "section `compare`"
        )
        raise ScenarioError([document.problem(("compare",), f"there is nothing to compare: {remedy}")], document.name)
    baseline = spec.baseline or scenario.runtime
    if baseline == spec.runtime:
        message = f"is the same as the baseline, {_called(baseline)}; name two that differ, of {', '.join(PRESETS)}"
        raise ScenarioError([document.problem(("compare", "runtime"), message)], document.name)
    first, second = (
        _Side(_called(one), document, (_Value("runtime", json.dumps(one.to_data()), document.where(("compare", at))),))
        for at, one in (("baseline", baseline), ("runtime", spec.runtime))
    )
    return first, second


def _names(a: "Scenario", b: "Scenario") -> tuple[str, str]:
    """Return what two scenarios are called: by their names, those of their files where they have one name, else by what differs."""
    if a.name != b.name:
        return a.name, b.name
    first, second = (PurePath(document_of(one).name).stem for one in (a, b))
    if first != second:
        return first, second
    built = [_Built("", one.to_data(), document_of(one)) for one in (a, b)]
    changes = list(_changes(built[0], built[1]))
    if not changes:
        return a.name, f"{b.name} again"
    if all(one.path.startswith("runtime.") for one in changes):
        return _called(a.runtime), _called(b.runtime)
    told = ", ".join(f"{one.path}={one.variant}" for one in changes)
    is_short = len(told) <= SHOWN and all(one.baseline and one.variant for one in changes)
    return a.name, f"{b.name} with {told}" if is_short else "the other"


def _factor(scenario: "Scenario", path: str, values: Iterable[Any]) -> list[_Value]:
    document = document_of(scenario)
    return [
        _Value(path, json.dumps(value), document.where(("compare", "over", path, number)))
        for number, value in enumerate(values)
    ]


def _placed(problem: Problem, at: Position) -> Problem:
    return replace(problem, file=at.file, line=at.line, column=at.column, source=at.source)


def _called(runtime: Runtime) -> str:
    return about({"runtime": runtime.to_data()}, PRESETS).runtime


def _tasks(data: dict[str, Any]) -> tuple[Any, Any]:
    """Return what decides which tasks come."""
    return {name: value for name, value in data["workload"].items() if name not in _LENGTH}, data["classes"]


# ---------------------------------------------------------------------------------------------------------------------
# In what they differ


def _groups(sides: tuple[_Side, _Side], a: _Built, b: _Built) -> list[tuple[str, Steps]]:
    """Return what can be switched alone, by name: each policy, each change, or each part of two scenarios that differs."""
    if sides[0].values:
        both = a.data["runtime"], b.data["runtime"]
        return [
            (name, ("runtime", name))
            for name in Runtime.model_fields
            if name != "preset" and both[0].get(name) != both[1].get(name)
        ]
    if sides[1].values:
        return [(one.path, _resolved(one.path, a.data, b.data)) for one in sides[1].values]
    found: dict[Steps, list[Steps]] = {}
    for leaf in _differing(a.data, b.data):
        found.setdefault(leaf[:2], []).append(leaf)
    return [(dotted(steps), steps) for steps in (one[0] if len(one) == 1 else part for part, one in found.items())]


def _resolved(path: str, *places: dict[str, Any]) -> Steps:
    """Return the steps of a path in the first data that has it."""
    for data in places:
        try:
            return paths.resolve(data, path)
        except ScenarioError:
            continue
    return paths.parse_path(path)


def _differing(a: Any, b: Any, steps: Steps = ()) -> Iterator[Steps]:
    """Yield the paths of the leaves in which two resolved scenarios differ; a list is a leaf."""
    if isinstance(a, dict) and isinstance(b, dict):
        for name in dict.fromkeys([*a, *b]):
            if (steps or name not in _APART) and (*steps, name) != ("runtime", "preset"):
                yield from _differing(a.get(name, _ABSENT), b.get(name, _ABSENT), (*steps, name))
    elif a is _ABSENT or b is _ABSENT or a != b:
        yield steps


def _changes(a: _Built, b: _Built) -> Iterator[Change]:
    """Yield each value in which the two differ, as it was written where it was."""
    for steps in _differing(a.data, b.data):
        yield Change(dotted(steps), _shown(_written(a, steps)), _shown(_written(b, steps)))


def _written(one: _Built, steps: Steps) -> Any:
    """Return the value at a path as its file has it, or as it was read where the file says it in another way."""
    value, written = _at(one.data, steps), _at(one.document.data, steps)
    same = not isinstance(value, dict | list) and isinstance(written, str | int | float)
    return written if same and value is not _ABSENT else value


def _at(data: Any, steps: Steps) -> Any:
    for step in steps:
        found = step in data if isinstance(data, dict) else isinstance(data, list) and step in range(len(data))
        if not found:
            return _ABSENT
        data = data[step]
    return data


def _shown(value: Any) -> str:
    """Return a value in a few words."""
    if value is _ABSENT:
        return ""
    return shorten(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), SHOWN)


def _flow(value: Any) -> str:
    """Return a value as YAML on one line, such as `{lognormal: {median: 1 s, p95: 3 s}}`; what is at its default null is left out."""
    if isinstance(value, dict):
        if list(value) == ["constant"]:  # which a file says by its value alone
            return _flow(value["constant"])
        return f"{{{', '.join(f'{name}: {_flow(one)}' for name, one in value.items() if one is not None)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    return value if isinstance(value, str) else json.dumps(value)


def _switch(builder: _Builder, name: str, steps: Steps, a: dict[str, Any], b: dict[str, Any]) -> PlannedSwitch:
    """Return a switch; a combination that cannot be has no key, and a reason."""
    keys: list[str | None] = []
    reasons: list[str] = []
    for what, data, source in (("alone", a, b), ("last", b, a)):
        try:
            keys.append(builder.key_of(_with(data, steps, _at(source, steps))))
        except ScenarioError as error:
            keys.append(None)
            reasons += [f"{what}: {': '.join(filter(None, (one.path, one.message)))}" for one in error.problems]
    both = _at(a, steps), _at(b, steps)
    before, after = (_shown(value) or "not written" for value in both)
    if all(isinstance(value, dict) for value in both):
        flows = [_flow(value) for value in both]
        count = len(list(_differing(*both, steps)))
        short = all(len(text) <= SHOWN for text in flows)
        before, after = flows if short else [f"{count} value{'' if count == 1 else 's'}"] * 2
    return PlannedSwitch(name, before, after, keys[0], keys[1], tuple(reasons))


def _with(data: dict[str, Any], steps: Sequence[Key], value: Any) -> dict[str, Any]:
    """Return a copy of data with a value at a path, or without it where it is absent."""
    changed = copy.deepcopy(data)
    place: Any = changed
    for step in steps[:-1]:
        if isinstance(place, dict) and step not in place:
            place[step] = {}
        place = place[step]
    if value is not _ABSENT:
        place[steps[-1]] = copy.deepcopy(value)
    elif isinstance(place, dict):
        place.pop(steps[-1], None)
    return changed
