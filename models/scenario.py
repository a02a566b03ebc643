"""The scenario: the frozen description of a system and its load.

Leaves out: how it runs (`simulate`); what a component may say (its own file).
Checked: tests/test_scenario.py, tests/data/bad.
"""

import hashlib
import os
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PrivateAttr, model_validator

from ..sim.engine.distributions import AnyDraw, TokensDist
from ..sim.engine.errors import did_you_mean
from ..sim.engine.source import Document, load as load_document
from ..sim.engine.spec import (
    BytesPerToken,
    Count,
    Factor,
    Name,
    PositiveCount,
    Share,
    Spec,
    SpecProblem,
    SpecProblems,
    validate,
)
from . import slo
from .agent import Agent
from .api import Api
from .evaluator import Evaluator
from .llm import Llm
from .memory import Memory
from .network import Network
from .orchestrator import Orchestrator
from .retriever import Retriever
from .runtime import DEFAULT, Runtime
from .serializer import Serializer, defaults
from .tool import Tool
from .workflow import (
    END,
    NONE,
    START,
    AgentStep,
    EvaluatorStep,
    Markov,
    RetrieverStep,
    ToolStep,
    Workflow,
    WorkflowStep,
    ForkStep,
)
from .workload import Workload

SCHEMA_VERSION = 1

Model = Annotated[Llm | Api, Field(discriminator="kind")]


class TaskClass(Spec):
    """A kind of task: how often it comes (`weight`), what it asks (`request` tokens), which workflow it runs."""

    weight: Factor = 1.0
    request: TokensDist | None = None
    workflow: Name | None = None


class ContextSpec(Spec):
    """How tokens become bytes when state is sent."""

    bytes_per_token: BytesPerToken = 5.0


class Scenario(Spec):
    """A scenario as a file says it, with defaults filled in."""

    coordsim: Literal[1]
    name: Name
    question: str = ""
    notes: str = ""
    seed: Count
    runtime: Runtime = Runtime.model_validate(DEFAULT)
    workload: Workload
    classes: dict[Name, TaskClass] = {}
    context: ContextSpec = ContextSpec()
    agents: dict[Name, Agent] = {}
    models: dict[Name, Model] = {}
    tools: dict[Name, Tool] = {}
    memories: dict[Name, Memory] = {}
    retrievers: dict[Name, Retriever] = {}
    evaluators: dict[Name, Evaluator] = {}
    serializers: dict[Name, Serializer] = {}
    network: Network = Network()
    orchestrator: Orchestrator = Orchestrator()
    workflow: Workflow
    workflows: dict[Name, Workflow] = {}
    max_steps: PositiveCount = 1000
    slo: dict[str, Any] = {}
    replications: PositiveCount = 10
    confidence: Annotated[Share, Field(gt=0, lt=1)] = 0.95

    _document: Document | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _references(self) -> Self:
        problems = [*_dangling(self), *slo.problems(self.slo)]
        if problems:
            raise SpecProblems(problems)
        return self

    @classmethod
    def of(cls, document: Document) -> Self:
        """Check a document. Raises ScenarioError with every mistake."""
        scenario = validate(cls, _migrated(document))
        scenario._document = document
        return scenario

    @classmethod
    def from_text(cls, text: str, name: str = "text") -> Self:
        """Read a scenario from YAML text."""
        return cls.of(Document.from_text(text, name))

    def replace(self, path: str, value: Any) -> Self:
        """Return a copy with the value at a dotted path replaced, checked anew: `replace("models.llm.replicas", 4)`."""
        import json

        document = self._document or Document.from_data(self.to_data(), self.name)
        text = value if isinstance(value, str) else json.dumps(value)
        return type(self).of(document.with_override(path, text))

    def to_data(self) -> dict[str, Any]:
        """Return plain data that loads to an equal scenario, with every default written out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def to_yaml(self) -> str:
        """Return the resolved scenario as YAML."""
        from io import StringIO

        from ruamel.yaml import YAML

        yaml = YAML(typ="safe", pure=True)
        yaml.default_flow_style = False
        yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
        yaml.width = 120
        out = StringIO()
        yaml.dump(self.to_data(), out)
        return out.getvalue()

    @property
    def hash(self) -> str:
        """Return the SHA-256 of the resolved scenario."""
        return hashlib.sha256(self.to_yaml().encode()).hexdigest()

    @property
    def all_serializers(self) -> dict[str, Serializer]:
        """The serializers that messages may name, the defaults among them."""
        return {**defaults(), **self.serializers}

    @property
    def all_classes(self) -> dict[str, TaskClass]:
        """The task classes; one named `task` where the scenario has none."""
        return self.classes or {"task": TaskClass()}

    def doubts(self) -> list[str]:
        """Return what is legal but doubtful: distributions without moments, and the like."""
        found = [f"workload: {doubt}" for doubt in self.workload.doubts()]
        for path, draw in _distributions(self, ()):
            found += [f"{'.'.join(path)}: {doubt}" for doubt in draw.doubts()]
        return found


def load(path: str | os.PathLike[str], overrides: dict[str, str] | None = None) -> Scenario:
    """Read and check a scenario file, with `--set` overrides (path to YAML text). Raises ScenarioError."""
    document = load_document(path)
    for place, text in (overrides or {}).items():
        document = document.with_override(place, text)
    return Scenario.of(document)


def _migrated(document: Document) -> Document:
    """Refuse a scenario of another schema version, with the remedy."""
    from ..sim.engine.errors import ScenarioError

    version = document.data.get("coordsim")
    if isinstance(version, int) and not isinstance(version, bool) and version != SCHEMA_VERSION:
        remedy = (
            "it was written for a newer coordsim: upgrade with `pip install --upgrade coordsim`"
            if version > SCHEMA_VERSION
            else f"no such version was ever released; write `coordsim: {SCHEMA_VERSION}`"
        )
        problem = document.problem(
            ("coordsim",), f"this coordsim reads scenario version {SCHEMA_VERSION}, got {version}; {remedy}"
        )
        raise ScenarioError([problem], document.name)
    return document


def _distributions(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every distribution inside a spec, with its path."""
    if isinstance(value, AnyDraw):
        yield path, value
    elif isinstance(value, Spec):
        for name in type(value).model_fields:
            yield from _distributions(getattr(value, name), (*path, name))
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _distributions(item, (*path, str(name)))
    elif isinstance(value, tuple | list):
        for position, item in enumerate(value):
            yield from _distributions(item, (*path, str(position)))


Path = tuple[str, ...]


def _dangling(scenario: Scenario) -> Iterator[SpecProblem]:
    """Yield every reference to something that does not exist, and every policy that lacks its number."""

    def check(path: Path, name: str | None, kind: str, known: Any) -> Iterator[SpecProblem]:
        if name is not None and name not in known:
            hint = did_you_mean(name, list(known)) or (f"; add it under `{kind}`" if not known else "")
            yield SpecProblem(path, f"`{kind}` has no `{name}`{hint}")

    nodes = scenario.network.nodes
    for kind in ("agents", "models", "tools", "memories", "retrievers", "evaluators"):
        for name, part in getattr(scenario, kind).items():
            yield from check((kind, name, "node"), part.node, "network.nodes", nodes)
    yield from check(("orchestrator", "node"), scenario.orchestrator.node, "network.nodes", nodes)
    for position, link in enumerate(scenario.network.links):
        for end in link.ends:
            yield from check(("network", "links", str(position)), end, "network.nodes", nodes)
    for name, agent in scenario.agents.items():
        yield from check(("agents", name, "model"), agent.model, "models", scenario.models)
        yield from check(("agents", name, "memory"), agent.memory, "memories", scenario.memories)
        yield from check(("agents", name, "retriever"), agent.retriever, "retrievers", scenario.retrievers)
    for name, evaluator in scenario.evaluators.items():
        yield from check(("evaluators", name, "model"), evaluator.model, "models", scenario.models)
    for name, memory in scenario.memories.items():
        if memory.summarize is not None:
            yield from check(
                ("memories", name, "summarize", "model"), memory.summarize.model, "models", scenario.models
            )
    yield from check(("runtime", "codec"), scenario.runtime.codec, "serializers", scenario.all_serializers)
    for name, group in scenario.classes.items():
        yield from check(("classes", name, "workflow"), group.workflow, "workflows", scenario.workflows)
    if scenario.runtime.notification == "polling" and scenario.orchestrator.poll_interval is None:
        yield SpecProblem(
            ("runtime",),
            "polls for the end of calls (`notification: polling`), so `orchestrator.poll_interval` is needed",
        )
    yield from _dangling_in_workflows(scenario, check)
    yield from _unrouted(scenario)


def _unrouted(scenario: Scenario) -> Iterator[SpecProblem]:
    """Yield the nodes of components that no route reaches."""
    import networkx as nx

    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(scenario.network.nodes)
    for link in scenario.network.links:
        a, b = link.ends
        graph.add_edge(a, b)
        if link.between is not None:
            graph.add_edge(b, a)
    used = {
        part.node: f"{kind}.{name}"
        for kind in ("agents", "models", "tools", "memories", "retrievers", "evaluators")
        for name, part in getattr(scenario, kind).items()
        if part.node in graph
    }
    home = scenario.orchestrator.node
    for node, component in used.items():
        start = home if home in graph else next(iter(graph))
        if node != start and not (nx.has_path(graph, start, node) and nx.has_path(graph, node, start)):
            yield SpecProblem(
                ("network", "links"), f"no route between `{start}` and `{node}` (of {component}) and back; add a link"
            )


def _dangling_in_workflows(scenario: Scenario, check: Any) -> Iterator[SpecProblem]:
    flows: list[tuple[Path, Workflow]] = [(("workflow",), scenario.workflow)]
    flows += [(("workflows", name), flow) for name, flow in scenario.workflows.items()]
    for path, flow in flows:
        for problem in flow.problems(set(scenario.workflows)):
            yield SpecProblem((*path, *problem.path), problem.message)
        for name, step in flow.steps.items():
            here = (*path, "steps", name)
            if isinstance(step, AgentStep):
                yield from check((*here, "agent"), step.agent, "agents", scenario.agents)
                yield from _dangling_tools(scenario, here, step, check)
            elif isinstance(step, EvaluatorStep):
                yield from check((*here, "evaluator"), step.evaluator, "evaluators", scenario.evaluators)
            elif isinstance(step, ToolStep):
                yield from check((*here, "tool"), step.tool, "tools", scenario.tools)
            elif isinstance(step, RetrieverStep):
                yield from check((*here, "retriever"), step.retriever, "retrievers", scenario.retrievers)
            elif isinstance(step, WorkflowStep):
                yield from check((*here, "workflow"), step.workflow, "workflows", scenario.workflows)
    yield from _circular(scenario)


def _dangling_tools(scenario: Scenario, here: Path, step: AgentStep, check: Any) -> Iterator[SpecProblem]:
    tools = scenario.tools
    if isinstance(step.tools, Markov):
        rows = step.tools.markov
        for row, weights in rows.items():
            if row != START:
                yield from check((*here, "tools", "markov", row), row, "tools", tools)
            for name in weights:
                if name not in (NONE, END):
                    yield from check((*here, "tools", "markov", row, name), name, "tools", tools)
                    if name in tools and name not in rows:
                        yield SpecProblem(
                            (*here, "tools", "markov", row, name), f"leads to `{name}`, which has no row; add one"
                        )
        if START not in rows:
            yield SpecProblem(
                (*here, "tools", "markov"), f"has no row `{START}`, the choice before any tool was called"
            )
        if not any(END in weights for weights in rows.values()) and "repeat" not in step.model_fields_set:
            yield SpecProblem(
                (*here, "tools", "markov"),
                f"never chooses `{END}`, and the step has no `repeat`: say when the loop is over",
            )
    elif step.tools is not None:
        for name in step.tools:
            if name != NONE:
                yield from check((*here, "tools", name), name, "tools", tools)


def _circular(scenario: Scenario) -> Iterator[SpecProblem]:
    """Yield the workflows that contain themselves."""
    import networkx as nx

    graph: nx.DiGraph[str] = nx.DiGraph()
    for name, flow in scenario.workflows.items():
        for step in flow.steps.values():
            inside = [step.workflow] if isinstance(step, WorkflowStep) else []
            if isinstance(step, ForkStep):
                inside = [branch for branch in step.fork if branch not in flow.steps]
            graph.add_edges_from((name, other) for other in inside if other in scenario.workflows)
    for cycle in nx.simple_cycles(graph):
        yield SpecProblem(("workflows", cycle[0]), f"contains itself: {' -> '.join([*cycle, cycle[0]])}")
        return
