"""What the parts of a scenario say of one another: every name must exist, and every route that messages take.

Each function yields mistakes, and works on a scenario of which only parts are valid, so that all mistakes come at once.
Leaves out: the shape of a workflow, which `workflow` checks.
Checked: tests/test_scenario.py, tests/data/bad.
"""

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from ..sim.engine.errors import ProfileError, did_you_mean, listed
from ..sim.engine.partial import is_whole
from ..sim.engine.spec import SpecProblem
from ..sim.profile.profile import read
from .alignment import ONE_GROUP
from .api import Api
from .fault_references import problems as fault_problems
from .llm import Llm
from .modality import ENCODED
from .perceive_step import PerceiveStep
from .pipeline_step import PipelineStep
from .slo import unmeasured
from .step import DONE, Path
from .workflow import END, NONE, START, AgentStep, Markov, Workflow, WorkflowStep

if TYPE_CHECKING:
    from .scenario import Scenario

__all__ = ["problems"]

Problems = Iterator[SpecProblem]

_PLACED = (
    "agents",
    "models",
    "tools",
    "memories",
    "retrievers",
    "evaluators",
    "modalities",
    "encoders",
)  # what may name the node it runs on


def problems(scenario: "Scenario") -> Problems:
    """Yield every name that nothing has, every policy that lacks its number, and every route that does not exist."""
    unread = list(_profiles(scenario))
    yield from unread
    if unread:  # the rest is looked at without
        scenario = scenario.model_copy(update={"profile": ()})
    else:
        yield from _on_machine(scenario)
    yield from _in_components(scenario)
    for path, flow in _workflows(scenario):
        yield from _in_workflow(scenario, path, flow)
    yield from _circle(scenario)
    yield from _in_network(scenario)
    yield from _routes(scenario)
    yield from fault_problems(scenario)
    yield from unmeasured(scenario.slo, scenario.workload.problems)


def _missing(path: Path, name: str | None, kind: str, known: Collection[str], at_key: bool = False) -> Problems:
    """Yield the mistake of a name that is not among the `known` ones of its kind."""
    if name is None or name in known:
        return
    remedy = did_you_mean(name, known) or (f"; it has {listed(known)}" if known else f"; add it under `{kind}`")
    yield SpecProblem(path, f"`{kind}` has no `{name}`{remedy}", at_key)


def _in_components(scenario: "Scenario") -> Problems:
    """Yield the mistakes of components that name one another, of task classes and of the runtime."""
    models, serializers = scenario.models, scenario.all_serializers
    for name, agent in scenario.agents.items():
        yield from _missing(("agents", name, "model"), agent.model, "models", models)
        yield from _missing(("agents", name, "memory"), agent.memory, "memories", scenario.memories)
        yield from _missing(("agents", name, "retriever"), agent.retriever, "retrievers", scenario.retrievers)
    for name, evaluator in scenario.evaluators.items():
        yield from _missing(("evaluators", name, "model"), evaluator.model, "models", models)
    for name, memory in scenario.memories.items():
        if memory.summarize is not None:
            yield from _missing(("memories", name, "summarize", "model"), memory.summarize.model, "models", models)
    yield from _in_modalities(scenario)
    for name, group in scenario.classes.items():
        yield from _missing(("classes", name, "workflow"), group.workflow, "workflows", scenario.workflows)
    yield from _missing(("runtime", "codec"), scenario.runtime.codec, "serializers", serializers)
    if scenario.runtime.notification == "polling" and scenario.orchestrator.poll_interval is None:
        rule = (
            f"polls for the end of calls (preset `{scenario.runtime.preset}`), which needs `orchestrator.poll_interval`"
        )
        yield SpecProblem(("runtime",), f"{rule}, such as `20 ms`; or choose `notification: event`", at_key=True)


def _in_modalities(scenario: "Scenario") -> Problems:
    """Yield the mistakes of modalities and encoders that name one another, or a model that cannot be what they need."""
    models, serializers = scenario.models, scenario.all_serializers
    read = _read_by_models(scenario)
    for name, modality in scenario.modalities.items():
        if name in read and modality.kind in ENCODED and modality.encoder is None:
            rule = f"is needed: a model cannot read {modality.kind} as it comes; name one of `encoders`"
            yield SpecProblem(("modalities", name, "encoder"), rule)
        encoder = scenario.encoders.get(modality.encoder or "")
        known = encoder is not None and is_whole(encoder) and is_whole(modality)
        if encoder is not None and known and not encoder.reads(modality.kind):
            what = "sound" if encoder.shape is not None and encoder.shape.audio is not None else "images"
            rule = f"must be one that can encode {modality.kind}; the shape of `{modality.encoder}` takes {what}"
            yield SpecProblem(("modalities", name, "encoder"), rule)
        for field, kind, used in modality.uses():
            yield from _missing(("modalities", name, field), used, kind, getattr(scenario, kind))
        yield from _missing(("modalities", name, "serializer"), modality.serializer, "serializers", serializers)
    for name, encoder in scenario.encoders.items():
        yield from _missing(("encoders", name, "model"), encoder.model, "models", models)
        if isinstance(models.get(encoder.model or ""), Api):
            rule = (
                f"must be a model that we serve; `{encoder.model}` is hosted, and nothing else can run on its devices"
            )
            yield SpecProblem(("encoders", name, "model"), rule)


def _read_by_models(scenario: "Scenario") -> set[str]:
    """Return the modalities that some step brings to a model, rather than to a tool or a retriever."""
    found: set[str] = set()
    for _, flow in _workflows(scenario):
        for step in flow.steps.values():
            if isinstance(step, PerceiveStep):
                found.update(step.perceive)
            elif isinstance(step, PipelineStep) and step.read is not None:
                found.add(step.read)
    return found


def _profiles(scenario: "Scenario") -> Problems:
    """Yield the profiles that cannot be read."""
    for place, name in enumerate(scenario.profile):
        try:
            read(name)
        except ProfileError as error:
            path: Path = ("profile",) if len(scenario.profile) == 1 else ("profile", place)
            yield SpecProblem(path, _told(error))


def _on_machine(scenario: "Scenario") -> Problems:
    """Yield the models and encoders that cannot run on what the profile describes, and a store that it has no law of."""
    for name, model in scenario.models.items():
        if isinstance(model, Llm) and is_whole(model):
            for problem in model.misfits(scenario.machine):
                yield SpecProblem(("models", name, *problem.path), problem.message)
    for name, encoder in scenario.encoders.items():
        if is_whole(encoder):
            for problem in encoder.misfits(scenario.machine):
                yield SpecProblem(("encoders", name, *problem.path), problem.message)
    checkpoint = scenario.orchestrator.checkpoint
    if checkpoint is not None and is_whole(checkpoint):
        for problem in checkpoint.misfits(scenario.machine):
            yield SpecProblem(("orchestrator", "checkpoint", *problem.path), problem.message)


def _told(error: ProfileError) -> str:
    """Return in one line what is wrong with a profile: its first mistake, and how many more there are."""
    first, *more = error.problems
    place = f"{error.subject}:{first.line}:{first.column}: " if first.line else f"{error.subject}: "
    rest = f" (and {len(more)} more; see `coordsim profile show {error.subject}`)" if more else ""
    return f"{place}{first.path}{': ' if first.path else ''}{first.message}{rest}"


def _workflows(scenario: "Scenario") -> list[tuple[Path, Workflow]]:
    named: list[tuple[Path, Workflow]] = [(("workflows", name), flow) for name, flow in scenario.workflows.items()]
    return [(("workflow",), scenario.workflow), *named]


def _in_workflow(scenario: "Scenario", path: Path, flow: Workflow) -> Problems:
    """Yield the names in the steps of a workflow that nothing has."""
    yield from _no_step((*path, "start"), flow.start, flow.steps)
    for name, step in flow.steps.items():
        here = (*path, "steps", name)
        for field, target in step.references():
            yield from _no_step((*here, *field), target, [*flow.steps, DONE], at_key=len(field) > 1)
        for field, kind, used in step.uses():
            yield from _missing((*here, *field), used, kind, getattr(scenario, kind))
        if isinstance(step, PerceiveStep):
            yield from _perception(scenario, here, step)
        if isinstance(step, PipelineStep):
            for problem in step.misfits(scenario):
                yield SpecProblem((*here, *problem.path), problem.message)
        if isinstance(step, AgentStep):
            yield from _in_choice(scenario, (*here, "tools"), step)
        for field, branch in step.branches():
            yield from _no_step((*here, *field), branch, [*flow.steps, *scenario.workflows], "step or workflow")


def _perception(scenario: "Scenario", path: Path, step: PerceiveStep) -> Problems:
    """Yield why modalities cannot be brought together: no model to join, or nothing that an alignment in time is for."""
    models = scenario.models
    if not is_whole(step):
        return
    if step.model is None and step.reader is None and len(models) != 1:
        rule = "needs `model`, whose context they join: "
        yield SpecProblem(
            path, rule + (f"there are {listed(models)}" if models else "add one under `models`"), at_key=True
        )
    found = [scenario.modalities[name] for name in step.perceive if name in scenario.modalities]
    kind = step.align.chosen[0]
    if kind not in ONE_GROUP and not any(one.stream is not None for one in found):
        rule = f"aligns streams, and none of these is one; without, choose {listed(ONE_GROUP)}"
        yield SpecProblem((*path, "align", kind), rule, at_key=True)


def _no_step(
    path: Path, name: str | None, known: Collection[str], what: str = "step", at_key: bool = False
) -> Problems:
    """Yield the mistake of a step that does not exist."""
    if name is not None and known and name not in known:
        remedy = did_you_mean(name, known) or f"; there are {listed(known)}"
        yield SpecProblem(path, f"no {what} is named `{name}`{remedy}", at_key)


def _in_choice(scenario: "Scenario", path: Path, step: AgentStep) -> Problems:
    """Yield the mistakes in how an agent chooses tools."""
    tools = scenario.tools
    if not isinstance(step.tools, Markov):
        for name in step.tools or ():
            if name != NONE:
                yield from _missing((*path, name), name, "tools", tools, at_key=True)
        return
    rows = step.tools.markov
    here = (*path, "markov")
    for row, weights in rows.items():
        if row != START:
            yield from _missing((*here, row), row, "tools", tools, at_key=True)
        for name in weights:
            if name not in (NONE, END):
                yield from _missing((*here, row, name), name, "tools", tools, at_key=True)
                if name in tools and name not in rows:
                    message = f"leads to `{name}`, which has no row; add one"
                    yield SpecProblem((*here, row, name), message, at_key=True)


def _circle(scenario: "Scenario") -> Problems:
    """Yield the first workflow that contains itself, step by step."""
    inside: dict[str, list[str]] = {}
    for name, flow in scenario.workflows.items():
        parts = [step.workflow for step in flow.steps.values() if isinstance(step, WorkflowStep)]
        for step in flow.steps.values():
            parts += [branch for _, branch in step.branches() if branch not in flow.steps]
        inside[name] = [part for part in parts if part in scenario.workflows]
    for name in inside:
        chain = _way(inside, name, name)
        if chain:
            told = " -> ".join(f"`{part}`" for part in chain)
            yield SpecProblem(("workflows", name), f"contains itself: {told}", at_key=True)
            return


def _way(after: dict[str, list[str]], start: str, end: str) -> list[str]:
    """Return the names on a shortest way of one step at least, both ends among them; none when there is no way."""
    ways = [[start]]
    seen: set[str] = set()
    for way in ways:
        for name in after.get(way[-1], ()):
            if name == end:
                return [*way, name]
            if name not in seen:
                seen.add(name)
                ways.append([*way, name])
    return []


def _in_network(scenario: "Scenario") -> Problems:
    """Yield the nodes that are named and do not exist."""
    nodes = scenario.network.nodes
    for kind in _PLACED:
        for name, part in getattr(scenario, kind).items():
            yield from _missing((kind, name, "node"), part.node, "network.nodes", nodes)
    yield from _missing(("orchestrator", "node"), scenario.orchestrator.node, "network.nodes", nodes)
    for position, link in enumerate(scenario.network.links):
        for field, name in link.named_ends():
            yield from _missing(("network", "links", position, *field), name, "network.nodes", nodes)


def _routes(scenario: "Scenario") -> Problems:
    """Yield the nodes of components to which no route leads, or from which none leads back."""
    nodes, home = scenario.network.nodes, scenario.orchestrator.node
    used: dict[str, str] = {}
    for kind in _PLACED:
        for name, part in getattr(scenario, kind).items():
            if part.node in nodes:
                used.setdefault(part.node, f"{kind}.{name}")
    if used and home is None:
        node, component = next(iter(used.items()))
        rule = f"must name a `node`, since `{component}` runs on `{node}`"
        why = "whatever names no node runs where the orchestrator does"
        yield SpecProblem(("orchestrator",), f"{rule}: {why}", at_key=True)
    if home not in nodes:
        return
    after = _neighbours(scenario)
    for node, component in used.items():
        ways = ((home, node), (node, home)) if node != home else ()
        missing = next(((start, end) for start, end in ways if not _way(after, start, end)), None)
        if missing:
            where = f"`{component}` runs on `{node}`, the orchestrator on `{home}`"
            message = f"no route leads from `{missing[0]}` to `{missing[1]}` ({where}); add a link"
            yield SpecProblem(("network", "links"), message)


def _neighbours(scenario: "Scenario") -> dict[str, list[str]]:
    """Return the nodes to which a link leads from each node."""
    after: dict[str, list[str]] = {node: [] for node in scenario.network.nodes}
    for link in scenario.network.links:
        ends = [name for _, name in link.named_ends() if name in after]
        if len(ends) == 2:
            after[ends[0]].append(ends[1])
            if link.between is not None:
                after[ends[1]].append(ends[0])
    return after
