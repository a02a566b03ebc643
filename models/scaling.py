"""Sweeps: what `steps`, `agents`, `modalities` and `streams` are in a scenario, which values they take, and the plan to run.

    scaling:
      steps: workflow.steps.act.repeat         # only where it is not plain which number is meant
      agents: workflow.steps.debate.size
      modalities: workflow.steps.look.perceive

Left out, steps are the `repeat` of the only agent step that has one, agents the `size` of the only team, modalities the list
of the only step that perceives. Any other factor is the path of a number. Modalities are swept twice: over all subsets of each
size, and as identical copies of one (`streams`), because the subsets of a size differ in more than their number.

Leaves out: how mechanisms are switched off (`mechanisms`); running and judging (`sim.analysis.scaling`); two factors at once.
Checked: tests/test_scaling.py, tests/test_scaling_command.py.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from ..sim.analysis.scaling import INPUT, STANDARD, Plan, PlannedCell, PlannedSweep, PlannedSwitch
from ..sim.engine.errors import CoordsimError, ScenarioError, did_you_mean, listed
from ..sim.engine.ledger import CATEGORIES
from ..sim.engine.spec import Spec
from ..sim.report.numbers import unit_of
from .context import FACTS
from .mechanisms import Mechanism, isolated, mechanisms
from .perceive_step import PerceiveStep
from .step import Step
from .team_step import TeamStep
from .variants import Change, Variants, reason, scenario_of
from .workflow import AgentStep, Workflow

if TYPE_CHECKING:
    from .scenario import Scenario

__all__ = ["ScalingError", "ScalingSpec", "changes_of", "make_plan", "unit_of_metric", "values_of"]

ALL = 8  # a range of at most so many whole numbers is taken whole
STREAMS = "1..16"  # what a sweep over modalities adds
MOST_MODALITIES = 10  # 1,023 subsets
SIZED = ("chain", "supervisor", "blackboard", "debate", "swarm")  # teams whose `size` counts their agents
NAMES = ("steps", "agents", "modalities", "streams")
_STEPS_APART = 10  # `max_steps` is at least so many times the turns: the rest of the task takes steps, too
_RANGE = re.compile(r"\s*([0-9]+)\s*\.\.\s*([0-9]+)\s*")


class ScalingSpec(Spec):
    """What `coordsim scaling` varies, each as the path of a number, or of a step's list of modalities.

    Needed only where a scenario has several steps of a kind, or none.
    """

    steps: str | None = None
    agents: str | None = None
    modalities: str | None = None


class ScalingError(CoordsimError):
    """A sweep that cannot be: which, the rule, what was got, the remedy."""


@dataclass(frozen=True)
class _Factor:
    """A factor: what it is called, the path it sets, its values, and for each the cells that its point averages over."""

    name: str
    path: str
    xs: tuple[float, ...]
    cells: tuple[tuple[tuple[tuple[str, ...], tuple[Change, ...]], ...], ...]  # of each x: (subset, changes)
    beside: bool = False
    notes: tuple[str, ...] = ()


def values_of(text: str) -> tuple[float, ...]:
    """Return the values of `1..8`, `1..128` (two or three an octave), or `1,2,4`, rising. Raises ValueError.

    >>> values_of("1..5"), values_of("1..16"), values_of("0.5,2")
    ((1, 2, 3, 4, 5), (1, 2, 3, 4, 6, 8, 12, 16), (0.5, 2))
    """
    found = _RANGE.fullmatch(text)
    if found is not None:
        low, high = int(found[1]), int(found[2])
        if not 1 <= low < high <= 10**9:
            raise ValueError(f"must rise from 1 or more, as in `1..16`; got `{text}`")
        return tuple(_ladder(low, high))
    try:
        values = sorted({float(one) for one in text.split(",")})
    except ValueError:
        raise ValueError(f"must be a range such as `1..16`, or numbers between commas; got `{text}`") from None
    if not all(0 < value < float("inf") for value in values):
        raise ValueError(f"must be > 0 and finite, as growth is judged over log x; got `{text}`")
    if len(values) < 2:
        raise ValueError(f"must be two values at least, or nothing grows; got `{text}`")
    return tuple(int(one) if one == int(one) else one for one in values)


def _ladder(low: int, high: int) -> list[int]:
    """Return whole numbers from `low` to `high`: all of a few, else 2^k and 3 * 2^k, or closer where those are few."""
    if high - low < ALL:
        return list(range(low, high + 1))
    rungs = {step << power for step in (2, 3) for power in range(high.bit_length())} | {1, low, high}
    kept = sorted(one for one in rungs if low <= one <= high)
    if len(kept) >= ALL:
        return kept
    return [int(one) for one in np.unique(np.round(np.geomspace(low, high, ALL)))]


# ---------------------------------------------------------------------------------------------------------------------
# What a factor is in a scenario


def _factors(scenario: "Scenario", text: str, stream: str | None) -> Iterator[_Factor]:
    """Yield what `NAME=VALUES` asks to sweep. Raises ScalingError."""
    name, equals, given = (part.strip() for part in text.partition("="))
    if not (equals and name and given):
        raise ScalingError(f"--over must be a factor and its values, as in `steps=1..128`; got `{text}`")
    try:
        xs = values_of(given)
    except ValueError as error:
        raise ScalingError(f"--over {name} {error}") from None
    if name == "modalities":
        yield _subsets(scenario, xs)
        yield _streams(scenario, values_of(STREAMS), stream)
    elif name == "streams":
        yield _streams(scenario, xs, stream)
    elif name in ("steps", "agents"):
        yield _number(scenario, name, _path(scenario, name), xs)
    else:
        if "." not in name:
            raise ScalingError(
                f"--over {name}: no such factor{did_you_mean(name, NAMES)}; factors are {', '.join(NAMES)}, and paths of "
                "numbers such as `models.llm.replicas`"
            )
        yield _number(scenario, name, name, xs)


def _number(scenario: "Scenario", name: str, path: str, xs: Sequence[float]) -> _Factor:
    """Return the factor that sets one number."""
    raised: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()
    step = _step_at(scenario, path, "repeat")
    if isinstance(step, AgentStep):
        most = int(max(xs))
        if step.at_most is not None and step.at_most < most:
            raised += ((f"{path.removesuffix('repeat')}at_most", str(most)),)
        if scenario.max_steps < _STEPS_APART * most:
            raised += (("max_steps", str(_STEPS_APART * most)),)
        if not isinstance(step.tools, dict | None) and any("end" in row for row in step.tools.markov.values()):
            notes = (f"the tools of `{path.removesuffix('.repeat')}` may end its loop before `repeat` does",)
    cells = tuple((((), ((path, _text(x)), *raised)),) for x in xs)
    return _Factor(name, path, tuple(xs), cells, notes=notes)


def _subsets(scenario: "Scenario", xs: Sequence[float]) -> _Factor:
    """Return the sweep over all subsets of each size."""
    path, step = _perceives(scenario, "modalities")
    names = tuple(dict.fromkeys(step.perceive))
    if any(x != int(x) or x > len(names) for x in xs):
        raise ScalingError(
            f"--over modalities: `{path}` has {len(names)} ({', '.join(names)}), and subsets of it have 1 to {len(names)}; "
            f"got {_text(max(xs))}; identical copies of one are `--over streams={STREAMS}`"
        )
    if len(names) > MOST_MODALITIES:
        raise ScalingError(f"--over modalities: `{path}` has {len(names)}, too many to take all subsets of")
    cells = tuple(
        tuple((subset, ((path, json.dumps(list(subset))),)) for subset in combinations(names, int(x))) for x in xs
    )
    return _Factor("modalities", path, tuple(xs), cells, beside=True)


def _streams(scenario: "Scenario", xs: Sequence[float], stream: str | None) -> _Factor:
    """Return the sweep over identical copies: of each modality in turn, or of the one that is named."""
    path, step = _perceives(scenario, "streams")
    names = tuple(dict.fromkeys(step.perceive))
    if stream is not None and stream not in names:
        raise ScalingError(
            f"--stream {stream}: `{path}` has no such modality{did_you_mean(stream, names)}; it has {listed(names)}"
        )
    if any(x != int(x) for x in xs):
        raise ScalingError("--over streams must be whole numbers, as they count copies")
    copies = f"{path.removesuffix('perceive')}copies"
    cells = tuple(
        tuple(((name,), ((path, json.dumps([name])), (copies, _text(x)))) for name in ((stream,) if stream else names))
        for x in xs
    )
    return _Factor("streams", copies, tuple(xs), cells)


def _perceives(scenario: "Scenario", factor: str) -> tuple[str, PerceiveStep]:
    """Return the path of the list of modalities, and the step that has it."""
    path = _path(scenario, "modalities", factor)
    step = _step_at(scenario, path, "perceive")
    if not isinstance(step, PerceiveStep):
        raise ScalingError(f"scaling.modalities must be the list of a step that perceives, such as "
                           f"`workflow.steps.look.perceive`; got `{path}`")  # fmt: skip
    return path, step


_MEANT = {
    "steps": ("agent steps with a `repeat`", "workflow.steps.act.repeat"),
    "agents": ("`team` steps with a `size`", "workflow.steps.crew.size"),
    "modalities": ("`perceive` steps", "workflow.steps.look.perceive"),
}


def _path(scenario: "Scenario", name: str, factor: str = "") -> str:
    """Return the path that a factor sets: what the section says, or the only one there is. Raises ScalingError."""
    told = None if scenario.scaling is None else getattr(scenario.scaling, name)
    if told is not None:
        return str(told)
    found = list(_candidates(scenario, name))
    if len(found) == 1:
        return found[0]
    kind, example = _MEANT[name]
    what = f"there are {len(found)} {kind}: {listed(found)}" if found else f"there are no {kind}"
    if not found and name == "modalities":
        raise ScalingError(f"--over {factor or name}: {what}, so that no step takes in modalities to count")
    remedy = f"say which, as in `--set 'scaling={{{name}: {found[0] if found else example}}}'`"
    if not found:
        remedy += f", or sweep the path itself: `--over {example}=1..16`"
    raise ScalingError(f"--over {factor or name}: {what}; {remedy}")


def _candidates(scenario: "Scenario", name: str) -> Iterator[str]:
    """Yield the paths that a factor may mean."""
    steps = [(f"{path}.steps.{key}", step) for path, flow in _flows(scenario) for key, step in flow.steps.items()]
    if name == "steps":
        agents = [(path, step) for path, step in steps if isinstance(step, AgentStep)]
        repeated = [path for path, step in agents if "repeat" in step.model_fields_set]
        yield from (f"{path}.repeat" for path in repeated or ([agents[0][0]] if len(agents) == 1 else []))
    elif name == "agents":
        yield from (f"{path}.size" for path, step in steps if isinstance(step, TeamStep) and step.team in SIZED)
    else:
        yield from (f"{path}.perceive" for path, step in steps if isinstance(step, PerceiveStep))


def _flows(scenario: "Scenario") -> list[tuple[str, Workflow]]:
    """Return the workflows that a task may come to, the main one first."""
    found = {"workflow": scenario.workflow}
    pending: list[Workflow] = [scenario.workflow]
    named = [group.workflow for group in scenario.all_classes.values() if group.workflow is not None]
    while pending or named:
        if named:
            name = named.pop(0)
            if name in scenario.workflows and f"workflows.{name}" not in found:
                found[f"workflows.{name}"] = scenario.workflows[name]
                pending.append(scenario.workflows[name])
            continue
        for step in pending.pop(0).steps.values():
            named += [target for _, target in step.branches() if target in scenario.workflows]
            named += [target for _, kind, target in step.uses() if kind == "workflows"]
    return list(found.items())


def _step_at(scenario: "Scenario", path: str, last: str) -> Step | None:
    """Return the step whose field `last` is at the path; None where it is anything else."""
    own = f".{last}"
    return scenario.steps.get(path.removesuffix(own)) if path.endswith(own) else None


def _text(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))


# ---------------------------------------------------------------------------------------------------------------------
# The plan


def unit_of_metric(name: str) -> str:
    """Return the unit of a metric. Raises ScalingError for one that nothing measures."""
    if name == INPUT:
        return "tokens"
    if name in (*STANDARD, *CATEGORIES):
        return "s"
    if name in FACTS:
        return unit_of(name) if name != "state_bytes" else "B"
    choices = (*STANDARD, INPUT, *CATEGORIES, *FACTS)
    raise ScalingError(f"--metric must be one of {', '.join(choices)}; got `{name}`{did_you_mean(name, choices)}")


def make_plan(
    scenario: "Scenario",
    over: Sequence[str],
    *,
    stream: str | None = None,
    only: str | None = None,
    ablate: bool = True,
) -> Plan[str]:
    """Return what to run to see how each factor of `over` (`NAME=VALUES`) scales, and what makes it grow.

    With `only`, all mechanisms but this one are switched off everywhere. Raises ScalingError or ScenarioError for a factor that the scenario does not have, and a value that it refuses.
    """
    if not over:
        raise ScalingError(
            f"--over is missing: which factor to sweep, such as `--over steps=1..128`; of {', '.join(NAMES)}"
        )
    if only is not None:
        try:
            scenario = isolated(scenario, only)
        except ValueError as error:
            raise ScalingError(f"--only {error}") from None
    variants = Variants(scenario)
    found: dict[str, _Factor] = {}
    for text in over:
        for factor in _factors(scenario, text, stream):
            if factor.name in found and not (factor.name == "streams" and "modalities" in found):
                raise ScalingError(f"--over {factor.name} is given twice; give all its values at once")
            found[factor.name] = factor
    if stream is not None and "streams" not in found:
        raise ScalingError("--stream goes with `--over modalities` or `--over streams`")
    known = mechanisms(scenario) if ablate else ()
    sweeps = [_sweep(variants, factor, () if factor.beside else known) for factor in found.values()]
    # Such as that nobody takes in a modality which this cell leaves out.
    silent = frozenset(variants.doubts.difference(scenario.doubts()))
    return Plan(scenario.name, variants.found, tuple(sweeps), ablated=ablate, silent=silent)


def changes_of(
    scenario: "Scenario", name: str, xs: Sequence[float]
) -> tuple[str, tuple[tuple[tuple[str, ...], tuple[Change, ...]], ...]]:
    """Return the path of `steps`, `agents` or `modalities`, and for each value the modalities it leaves and its changes.

    So many modalities are the first ones of the list. Raises ScalingError where the scenario has no such number.
    """
    factor = _subsets(scenario, xs) if name == "modalities" else _number(scenario, name, _path(scenario, name), xs)
    return factor.path, tuple(cells[0] for cells in factor.cells)


def _sweep(variants: Variants, factor: _Factor, known: Sequence[Mechanism]) -> PlannedSweep:
    try:
        cells = _cells(variants, factor, ())
    except ScenarioError as error:
        raise ScalingError(f"--over {factor.name}: {reason(error)}") from None
    switches = [_switch(variants, factor, one, cells) for one in known]
    able = [one for one in known if one.changes or one.derived]
    if len(able) > 1:
        together = Mechanism(
            "all of them",
            tuple(change for one in able for change in one.changes),
            derived=any(one.derived for one in able),
        )
        switches.append(_switch(variants, factor, together, cells))
    notes = (*factor.notes, *_unstable(factor, cells))
    return PlannedSweep(factor.name, factor.path, factor.xs, cells, tuple(switches), factor.beside, notes)


def _unstable(factor: _Factor, cells: Sequence[Sequence[PlannedCell]]) -> Iterator[str]:
    """Yield at which values a queue cannot be stable, and which queue that is at the first of them."""
    from .bounds import bounds

    found = {
        x: [one for cell in point for one in bounds(scenario_of(cell.key)).unstable]
        for x, point in zip(factor.xs, cells, strict=True)
    }
    bad = [x for x, told in found.items() if told]
    if bad:
        at = ", ".join(map(_text, bad))
        yield f"at {factor.name} = {at} times say how long the run was; at {_text(bad[0])}: {found[bad[0]][0]}"


def _cells(variants: Variants, factor: _Factor, more: Sequence[Change]) -> tuple[tuple[PlannedCell, ...], ...]:
    return tuple(
        tuple(PlannedCell(subset, variants.key([*changes, *more])) for subset, changes in point)
        for point in factor.cells
    )


def _switch(
    variants: Variants, factor: _Factor, one: Mechanism, cells: tuple[tuple[PlannedCell, ...], ...]
) -> PlannedSwitch:
    """Return a mechanism switched off; one that cannot be has no cells, and a reason."""
    told = tuple(f"{path}={text}" for path, text in one.changes)
    if one.missing:
        return PlannedSwitch(one.name, told, None, one.derived, one.missing)
    clash = [path for path, _ in one.changes if path == factor.path]
    if clash:
        return PlannedSwitch(one.name, told, None, one.derived, f"`{clash[0]}` is what is swept")
    try:
        built = _cells(variants, factor, one.changes) if one.changes else cells
    except ScenarioError as error:
        return PlannedSwitch(one.name, told, None, one.derived, f"cannot be switched off: {reason(error)}")
    return PlannedSwitch(one.name, told, built, one.derived, "")
