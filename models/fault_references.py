"""What faults, handling and recovery say of the rest of a scenario: what they name must exist, and be what they need.

Each function yields mistakes, and works on a scenario of which only parts are valid (see `references`).
Leaves out: what is wrong within one fault, one handling, or the recovery: they say so themselves; whether any message takes a
link that is struck.
Checked: tests/test_faults.py, tests/data/bad.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ..sim.engine import units
from ..sim.engine.errors import did_you_mean, listed
from ..sim.engine.partial import is_whole
from ..sim.engine.spec import SpecProblem
from .fault_plan import SECTIONS, on_node
from .faults import EFFECTS, STRIKES, Fault
from .handling import Handling, Hedge
from .llm import Llm
from .workflow import END, NONE, AgentStep, Markov

if TYPE_CHECKING:
    from .scenario import Scenario

__all__ = ["doubts", "problems"]

Problems = Iterator[SpecProblem]
Place = tuple[str | int, ...]

_NAMED = (*SECTIONS, "agents")
_HOW = "write `tools.NAME` (or retrievers, memories, models, encoders, agents), `orchestrator`, `network.A->B` or `nodes.NAME`"


def problems(scenario: "Scenario") -> Problems:
    """Yield what faults and handling name and nothing has, and what cannot strike, hang or stand in there."""
    for name, fault in scenario.faults.items():
        given = [effect for effect in EFFECTS if getattr(fault, effect, None) is not None]
        on = fault.on or ()
        for place, path in enumerate(on):
            here: Place = ("faults", name, "on") if len(on) == 1 else ("faults", name, "on", place)
            missing = list(_missing(scenario, here, path))
            yield from missing
            if not missing and len(given) == 1 and is_whole(fault):
                yield from _cannot(scenario, here, path, fault)
    yield from _in_handling(scenario)
    yield from _circles(scenario)
    workload = scenario.workload
    tried, tasks = getattr(workload, "problems", None), getattr(workload, "tasks", None)
    if tried is not None and tasks is not None and tried > tasks:
        rule = (
            f"`problems <= tasks` must hold, since tasks are trials of problems in turn; got {tried} for {tasks} tasks"
        )
        yield SpecProblem(("workload", "problems"), rule)


def _missing(scenario: "Scenario", here: Place, path: str) -> Problems:
    """Yield why there is nothing at the path that a fault is `on`."""
    kind, _, name = path.partition(".")
    if kind == "network":
        yield from _no_link(scenario, here, name)
    elif kind == "nodes" and name:
        yield from _unknown(here, name, "network.nodes", scenario.network.nodes)
    elif kind in _NAMED and name:
        yield from _unknown(here, name, kind, getattr(scenario, kind))
    elif path != "orchestrator":
        known = [f"{section}.{one}" for section in _NAMED for one in getattr(scenario, section)]
        remedy = did_you_mean(path, [*known, "orchestrator"]) or f"; {_HOW}"
        yield SpecProblem(here, f"must be the path of what can be struck; got `{path}`{remedy}")


def _unknown(here: Place, name: str, kind: str, known: Collection[str]) -> Problems:
    if name not in known:
        remedy = did_you_mean(name, known) or (f"; it has {listed(known)}" if known else f"; add it under `{kind}`")
        yield SpecProblem(here, f"`{kind}` has no `{name}`{remedy}")


def _no_link(scenario: "Scenario", here: Place, ends: str) -> Problems:
    """Yield why there is no link between two nodes, in the directions that are named."""
    both = "<->" in ends
    a, arrow, b = ends.partition("<->" if both else "->")
    if not (a and arrow and b):
        rule = "must name a link by its ends: `network.A->B` one way, `network.A<->B` both ways"
        yield SpecProblem(here, f"{rule}; got `network{'.' if ends else ''}{ends}`")
        return
    nodes = scenario.network.nodes
    unknown = [problem for name in (a, b) for problem in _unknown(here, name, "network.nodes", nodes)]
    yield from unknown
    ways = _ways(scenario)
    if unknown or ways is None:
        return
    for way in [(a, b), (b, a)] if both else [(a, b)]:
        if way not in ways:
            back = (
                f"; one leads from `{way[1]}` to `{way[0]}`: `network.{way[1]}->{way[0]}`" if way[::-1] in ways else ""
            )
            there = back or (f"; there are {listed(f'{x}->{y}' for x, y in sorted(ways))}" if ways else "")
            yield SpecProblem(here, f"no link leads from `{way[0]}` to `{way[1]}`{there}")


def _ways(scenario: "Scenario") -> set[tuple[str, str]] | None:
    """Return the directions that links have; None where one of them cannot be read."""
    found: set[tuple[str, str]] = set()
    for link in scenario.network.links:
        ends = [name for _, name in link.named_ends()]
        if len(ends) != 2:
            return None
        found.add((ends[0], ends[1]))
        if link.between is not None:
            found.add((ends[1], ends[0]))
    return found


def _cannot(scenario: "Scenario", here: Place, path: str, fault: Fault) -> Problems:
    """Yield why a fault cannot be on a component that there is."""
    kind, _, name = path.partition(".")
    effect = fault.effect
    if kind not in STRIKES[effect]:
        able = [one for one, kinds in STRIKES.items() if kind in kinds]
        rule = f"`{effect}` strikes {listed(STRIKES[effect])}, but not `{path}`"
        yield SpecProblem(here, f"{rule}, which can be struck by {listed(able)}")
        return
    model = scenario.models.get(name) if kind == "models" else None
    if effect == "evict" and isinstance(model, Llm) and is_whole(model) and model.shape is None:
        yield SpecProblem(
            here, f"`evict` needs a model with a `shape`; `{path}` keeps no KV cache that could be emptied"
        )
    elif effect == "evict" and model is not None and not isinstance(model, Llm):
        yield SpecProblem(here, f"`evict` needs a model that we serve, with a `shape`; `{path}` is hosted")
    each: Place = ("faults", *here[1:2], "each")
    if fault.each == "replica" and not isinstance(model, Llm):
        what = "is hosted, and has no replicas" if model is not None else "has no replicas"
        yield SpecProblem(each, f"`replica` is for models that we serve; `{path}` {what}")
    elif fault.each == "replica" and effect not in ("down", "evict"):
        yield SpecProblem(each, f"`replica` is for `down` and `evict`; got `{effect}`")
    if fault.each == "task" and (kind not in ("agents", "orchestrator") or effect != "down"):
        rule = (
            f"`task` is for `down` on agents or the orchestrator, which work for one task; got `{effect}` on `{path}`"
        )
        yield SpecProblem(each, rule)
    if fault.may_hang and not fault.never:
        yield from _for_ever(scenario, here, path)


def _for_ever(scenario: "Scenario", here: Place, path: str) -> Problems:
    """Yield that a task would wait for ever, where nothing ends a wait for an answer that never comes."""
    if scenario.recovery.deadline is not None or scenario.workload.horizon is not None:
        return
    kind, _, name = path.partition(".")
    why = "a task that is struck would wait for ever"
    if kind == "network":  # messages get through when it is over
        return
    if kind not in (*SECTIONS, "nodes"):
        yield SpecProblem(here, f"{why}; add `recovery: {{deadline: 10 min}}` or `workload.horizon`")
        return
    handlings = scenario.handlings
    struck = on_node(scenario, name) if kind == "nodes" else [path]
    open_ = [one for one in struck if one in handlings and not _ends(handlings[one])]
    if open_:
        where = f"{listed(open_)} (or `recovery.deadline`, or `workload.horizon`)"
        yield SpecProblem(here, f"{why}; add `handling: {{timeout: 10 s}}` to {where}")


def _ends(handling: Handling) -> bool:
    """Whether a call is given up at some time."""
    return handling.timeout is not None or handling.within is not None


# Handling


def _in_handling(scenario: "Scenario") -> Problems:
    """Yield the components that handling names and that cannot stand in."""
    for path, handling in scenario.handlings.items():
        kind, _, name = path.partition(".")
        here: Place = (kind, name, "handling")
        yield from _stand_in((*here, "fallback"), path, handling.fallback, getattr(scenario, kind))
        hedge = handling.hedge
        if not isinstance(hedge, Hedge):
            continue
        yield from _stand_in((*here, "hedge", "to"), path, hedge.to, getattr(scenario, kind))
        for one in (name, hedge.to):
            if hedge.tied and kind == "models" and _has_shape(scenario, one):
                rule = "is not for models with a `shape`, whose batch has no one moment at which a call begins to be served"
                yield SpecProblem((*here, "hedge", "tied"), f"{rule} (`models.{one}`); leave it out")
                break


def _has_shape(scenario: "Scenario", name: str | None) -> bool:
    return getattr(scenario.models.get(name or ""), "shape", None) is not None


def _stand_in(here: Place, path: str, to: str | None, known: Collection[str]) -> Problems:
    """Yield why a component cannot stand in for another one."""
    kind, _, name = path.partition(".")
    if to is None:
        return
    if to == name:
        hint = "leave it out to ask the same again" if here[-1] == "to" else "use `retry` to ask the same again"
        yield SpecProblem(here, f"must be another of `{kind}`; `{to}` would stand in for itself: {hint}")
    elif to not in known:
        others = [one for one in known if one != name]
        remedy = did_you_mean(to, others) or (f"; there are {listed(others)} besides" if others else "; add it there")
        yield SpecProblem(here, f"must be another of `{kind}`, which has no `{to}`{remedy}")


def _circles(scenario: "Scenario") -> Problems:
    """Yield each circle of fallbacks once, at the first component of it."""
    after: dict[str, str] = {}
    for path, handling in scenario.handlings.items():
        kind, _, name = path.partition(".")
        to = handling.fallback
        if to is not None and to != name and to in getattr(scenario, kind):
            after[path] = f"{kind}.{to}"
    told: set[str] = set()
    for path in after:
        way = [path]
        while way[-1] in after and after[way[-1]] not in way:
            way.append(after[way[-1]])
        if after.get(way[-1]) == path and path not in told:
            told.update(way)
            kind, _, name = path.partition(".")
            chain = " -> ".join(f"`{one}`" for one in [*way, path])
            rule = f"stands in for itself in the end: {chain}; leave one of these out"
            yield SpecProblem((kind, name, "handling", "fallback"), rule)


# Doubts


def doubts(scenario: "Scenario") -> list[str]:
    """Return what is legal but doubtful: faults that strike nobody, crashes that nothing makes good, and the like."""
    called = _called(scenario)
    found: list[str] = []
    duration = scenario.workload.duration
    for name, fault in scenario.faults.items():
        if fault.at is not None and duration is not None and min(fault.at) > duration:
            over = units.format(duration, units.DURATION)
            found.append(f"faults.{name}: never comes, since the last task arrives after about {over}")
        for path in fault.on:
            idle = _idle(scenario, path, called)
            found += [f"faults.{name}: {idle}, so that it never strikes there"] if idle else []
        crashes = fault.effect == "corrupt" or (
            fault.effect == "down" and any(path.split(".")[0] in ("agents", "orchestrator") for path in fault.on)
        )
        if crashes and not fault.never and not scenario.recovery.restarts:
            found.append(f"faults.{name}: fails each task that it strikes, since `recovery.restarts` is 0")
    recovery = scenario.recovery
    at_checkpoint = recovery.restarts > 0 and recovery.restart_from == "checkpoint"
    if at_checkpoint and scenario.orchestrator.checkpoint is None:
        found.append("recovery.restarts: from the beginning, since there is no `orchestrator.checkpoint`")
    services = (*scenario.tools.values(), *scenario.retrievers.values())
    if recovery.compensate and all(service.undo is None for service in services):
        found.append("recovery.compensate: no tool has `undo`, so that nothing is taken back")
    return found


def _idle(scenario: "Scenario", path: str, called: set[str]) -> str:
    """Say why nobody is there whom a fault could strike; empty where there is somebody."""
    kind, _, name = path.partition(".")
    if kind in _NAMED and path not in called:
        return f"no step calls `{path}`"
    if kind == "nodes" and not called.intersection(on_node(scenario, name)):
        return f"no step calls anything on `{path}`"
    return ""


def _called(scenario: "Scenario") -> set[str]:
    """Return the paths of the components that some step comes to call."""
    found: set[str] = set()
    ahead = [f"{kind}.{name}" for kind, name in _by_steps(scenario)]
    while ahead:
        path = ahead.pop()
        if path not in found:
            found.add(path)
            ahead += _calls_of(scenario, path)
    return found


def _by_steps(scenario: "Scenario") -> Iterator[tuple[str, str]]:
    """Yield the kind and the name of each component that a step names."""
    for step in scenario.steps.values():
        for _, kind, name in step.uses():
            yield kind, name
        if isinstance(step, AgentStep):
            for name in _tools(step.tools):
                if name not in (NONE, END):
                    yield "tools", name
        model = getattr(step, "perceive", None) and getattr(step, "model", None) is None
        if model and len(scenario.models) == 1:
            yield "models", next(iter(scenario.models))


def _tools(tools: Any) -> Iterable[str]:
    if isinstance(tools, Markov):
        return {name for row in tools.markov.values() for name in row}
    return tools or ()


def _calls_of(scenario: "Scenario", path: str) -> list[str]:
    """Return the paths of the components that one of them calls in turn."""
    kind, _, name = path.partition(".")
    spec: Any = getattr(scenario, kind, {}).get(name)
    found = [
        f"{section}.{named}"
        for field, section in (("model", "models"), ("memory", "memories"), ("retriever", "retrievers"))
        if (named := getattr(spec, field, None)) is not None
    ]
    if getattr(spec, "summarize", None) is not None:
        found.append(f"models.{spec.summarize.model}")
    if kind == "modalities" and spec is not None:
        found += [f"{section}.{named}" for _, section, named in spec.uses()]
    handling = getattr(spec, "handling", None)
    if handling is not None:
        named = (handling.fallback, None if handling.hedge is None else handling.hedge.to)
        found += [f"{kind}.{one}" for one in named if one is not None]
    return found
