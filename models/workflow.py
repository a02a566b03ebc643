"""The workflow: a graph of steps, as YAML writes it, and its checks.

Every step names what comes `next`: a step, `done`, or a mapping of steps to weights. A branch of a fork and a
sub-workflow end with `done` too, and control goes back to where they began.

Leaves out: joins across forks; signals between branches, but those that steps make of their own (`perceive`, `pipeline`, `team`).
Checked: tests/test_workflow.py, tests/data/bad.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from ..sim.engine.distributions import CountDist, DurationDist
from ..sim.engine.errors import listed, nearest, show
from ..sim.engine.spec import Name, PositiveCount, Share, Spec, SpecProblem, SpecProblems
from .handling import Handling
from .perceive_step import PerceiveStep
from .pipeline_step import PipelineStep
from .step import DONE, Next, Path, Step, Weight
from .team_step import TeamStep

if TYPE_CHECKING:
    import networkx as nx

NONE = "none"
END = "end"
START = "start"


class Markov(Spec):
    """Tool choice by the last tool: a row of weights per tool and one for `start`; `end` ends the loop."""

    markov: dict[Name, dict[Name, Weight]]

    @model_validator(mode="after")
    def _begins(self) -> "Markov":
        if START not in self.markov:
            raise SpecProblem("markov", f"has no row `{START}`, the weights of the first call; add one")
        for row, weights in self.markov.items():
            if not weights:
                raise SpecProblem(("markov", row), f"has no weights; give one to a tool, to `{NONE}` or to `{END}`")
        return self

    def endless(self) -> str | None:
        """Return a row that the chain can come to and from which it never comes to `end`; None when there is none."""
        after = {row: list(weights) for row, weights in self.markov.items()}
        come_to = _reached(after, START)
        return next((row for row in after if row in come_to and END not in _reached(after, row)), None)


Choice = dict[Name, Weight]


class AgentStep(Step):
    """Turns of an agent's loop: each is one inference and the tool calls it asks for.

    `repeat` is the number of turns (at most `at_most`), times model speed ^ `elasticity` where demand grows as inference
    gets faster. `tools` are weights (`none`: no call) or a Markov chain on the last tool; `calls` how many at once. After
    each turn the agent may `replan`: leave the loop for another step.
    """

    agent: Name
    tools: Choice | Markov | None = None
    calls: CountDist = CountDist.model_validate(1)
    repeat: CountDist = CountDist.model_validate(1)
    at_most: PositiveCount | None = None
    elasticity: Annotated[float, Field(ge=-2, le=2)] = 0.0
    replan: dict[Name, Share] = {}

    @model_validator(mode="after")
    def _some_way_out(self) -> "AgentStep":
        total = sum(self.replan.values())
        if total > 1 + 1e-9:
            raise SpecProblem("replan", f"must have probabilities that sum to 1 at most; got {total:g}")
        if self.elasticity and "repeat" not in self.model_fields_set:
            raise SpecProblem("elasticity", "needs `repeat`, the number of turns that it scales")
        is_open = isinstance(self.tools, Markov) and self.at_most is None and "repeat" not in self.model_fields_set
        if is_open and isinstance(self.tools, Markov) and (row := self.tools.endless()) is not None:
            remedy = f"give `{END}` a weight there, or give the step `repeat` or `at_most`"
            raise SpecProblem(("tools", "markov", row), f"never comes to `{END}`; {remedy}", at_key=True)
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_open(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out a `repeat` that was not given: written out, it would end a Markov chain after one turn."""
        data: dict[str, Any] = handler(self)
        if "repeat" not in self.model_fields_set:
            data.pop("repeat", None)
        return data

    def references(self) -> Iterator[tuple[Path, str]]:
        """Yield what comes next, and where the agent may replan to."""
        yield from super().references()
        for name in self.replan:
            yield ("replan", name), name

    def uses(self) -> Iterator[tuple[Path, str, str]]:
        """Yield its agent; whoever checks looks at the tools by itself, which may be rows of a chain."""
        yield ("agent",), "agents", self.agent


class EvaluatorStep(Step):
    """An evaluator accepts, or sends the task back to `rejected`; after `at_most` visits a rejection fails the task."""

    next: SkipJsonSchema[Next] = Field(DONE, exclude=True)
    evaluator: Name
    accepted: Name = DONE
    rejected: Name
    at_most: PositiveCount = 10

    @model_validator(mode="before")
    @classmethod
    def _no_next(cls, data: Any) -> Any:
        if isinstance(data, dict) and "next" in data:
            raise SpecProblem(
                "next", "no such field; an evaluator's step goes on to `accepted` or `rejected`", at_key=True
            )
        return data

    def references(self) -> Iterator[tuple[Path, str]]:
        """Yield where the task goes on."""
        yield ("accepted",), self.accepted
        yield ("rejected",), self.rejected

    def uses(self) -> Iterator[tuple[Path, str, str]]:
        """Yield who judges."""
        yield ("evaluator",), "evaluators", self.evaluator


class ToolStep(Step):
    """A direct call of a tool."""

    tool: Name
    at_most: PositiveCount | None = None

    def uses(self) -> Iterator[tuple[Path, str, str]]:
        """Yield what is called."""
        yield ("tool",), "tools", self.tool


class RetrieverStep(Step):
    """A direct lookup."""

    retriever: Name

    def uses(self) -> Iterator[tuple[Path, str, str]]:
        """Yield what is asked."""
        yield ("retriever",), "retrievers", self.retriever


class HumanStep(Step):
    """Waiting for a person."""

    human: DurationDist


class WorkflowStep(Step):
    """Another workflow, run in place `repeat` times, one after the other: rounds of several steps.

    By its `handling` (`retry`, `within`) it is run as a whole again if it fails; what it has brought into the context stays there.
    """

    workflow: Name
    repeat: CountDist = CountDist.model_validate(1)
    handling: Handling = Handling()

    @model_validator(mode="after")
    def _only_as_a_whole(self) -> "WorkflowStep":
        for name in sorted(set(Handling.model_fields) - {"retry", "within"}):
            if not self.handling.says(name):
                continue
            raise SpecProblem(("handling", name), "is for calls of a component; a workflow has `retry` and `within`")
        return self

    def uses(self) -> Iterator[tuple[Path, str, str]]:
        """Yield what is run."""
        yield ("workflow",), "workflows", self.workflow


class ForkStep(Step):
    """Parallel branches, each a step (and what follows it until `done`) or a workflow; or `copies` of one of them.

    `join` is `all`, `any`, or how many branches must have ended. `rest` says what becomes of the others: they are
    cancelled, or run on and nobody waits for them.
    """

    fork: Annotated[tuple[Name, ...], Field(min_length=1)]
    copies: CountDist | None = None
    join: Literal["all", "any"] | PositiveCount = "all"
    rest: Literal["cancel", "run on"] = "cancel"

    @model_validator(mode="after")
    def _counts(self) -> "ForkStep":
        if self.copies is not None and len(self.fork) != 1:
            raise SpecProblem("copies", f"must have one branch to copy; `fork` has {len(self.fork)}")
        if self.copies is None and isinstance(self.join, int) and self.join > len(self.fork):
            raise SpecProblem("join", f"must be at most the number of branches, {len(self.fork)}; got {self.join}")
        return self

    def branches(self) -> Iterator[tuple[Path, str]]:
        """Yield where the branches begin."""
        for position, name in enumerate(self.fork):
            yield ("fork", position), name

    def needed(self, branches: int) -> int:
        """Return how many of `branches` must end before the task goes on."""
        if self.join == "all":
            return branches
        return 1 if self.join == "any" else min(int(self.join), branches)


KINDS: dict[str, type[Step]] = {
    "agent": AgentStep,
    "evaluator": EvaluatorStep,
    "tool": ToolStep,
    "retriever": RetrieverStep,
    "human": HumanStep,
    "workflow": WorkflowStep,
    "fork": ForkStep,
    "perceive": PerceiveStep,
    "pipeline": PipelineStep,
    "team": TeamStep,
}


def _kind(data: Any) -> str | None:
    if isinstance(data, Step):
        return next((key for key, kind in KINDS.items() if isinstance(data, kind)), None)
    found = [key for key in KINDS if isinstance(data, dict) and key in data]
    return found[0] if len(found) == 1 else None


def _one_kind(data: Any) -> Any:
    """Refuse a step that says none of the kinds, or several."""
    if isinstance(data, Step):
        return data
    if not isinstance(data, Mapping):
        raise ValueError(f"must be a mapping with one of {listed(KINDS)}; got {show(data)}")
    found = [kind for kind in KINDS if kind in data]
    if len(found) == 1:
        return data
    known = {field for kind in KINDS.values() for field in kind.model_fields}
    guesses = (nearest(key, KINDS) for key in data if key not in known)
    meant = next((guess for guess in guesses if guess), None) if not found else None
    hint = f"; did you mean `{meant}`?" if meant else ""
    raise ValueError(
        f"must have exactly one of {listed(KINDS)}; got {listed(found or data) or 'an empty mapping'}{hint}"
    )


AnyStep = Annotated[
    Annotated[AgentStep, Tag("agent")]
    | Annotated[EvaluatorStep, Tag("evaluator")]
    | Annotated[ToolStep, Tag("tool")]
    | Annotated[RetrieverStep, Tag("retriever")]
    | Annotated[HumanStep, Tag("human")]
    | Annotated[WorkflowStep, Tag("workflow")]
    | Annotated[ForkStep, Tag("fork")]
    | Annotated[PerceiveStep, Tag("perceive")]
    | Annotated[PipelineStep, Tag("pipeline")]
    | Annotated[TeamStep, Tag("team")],
    Discriminator(_kind),
    BeforeValidator(_one_kind),
]


class Workflow(Spec):
    """Steps by name, and the one to `start` with."""

    start: Name
    steps: Annotated[dict[Name, AnyStep], Field(min_length=1)]

    def graph(self) -> "nx.DiGraph[str]":
        """Return the graph of steps: nodes are the steps and `done`, edges go to what may come next or is forked."""
        import networkx as nx

        graph: nx.DiGraph[str] = nx.DiGraph()
        graph.add_node(DONE)
        for name, step in self.steps.items():
            graph.add_node(name)
            graph.add_edges_from((name, target) for target in step.targets())
            graph.add_edges_from((name, branch) for _, branch in step.branches() if branch in self.steps)
        return graph

    @model_validator(mode="after")
    def _every_step_has_its_place(self) -> "Workflow":
        """Refuse steps that are never reached and cycles without a way out. Names of no step are for `references` to tell."""
        if DONE in self.steps:
            raise SpecProblem(("steps", DONE), f"`{DONE}` is the end of a workflow and cannot be a step", at_key=True)
        known = {*self.steps, DONE}
        if self.start in self.steps and all(name in known for step in self.steps.values() for name in step.targets()):
            found = [*self._unreached(), *self._stuck()]
            if found:
                raise SpecProblems(found)
        return self

    def _unreached(self) -> Iterator[SpecProblem]:
        """Yield the steps to which nothing leads."""
        after = {
            name: [*step.targets(), *(branch for _, branch in step.branches())] for name, step in self.steps.items()
        }
        reached = _reached(after, self.start)
        for name in self.steps:
            if name not in reached:
                message = f"is never reached from `{self.start}`; remove it, or let a step lead to it"
                yield SpecProblem(("steps", name), message, at_key=True)

    def _stuck(self) -> Iterator[SpecProblem]:
        """Yield the steps that never come to `done`, and the branches that come to it only by forking again."""
        after = {name: step.targets() for name, step in self.steps.items()}
        stuck = [name for name in self.steps if DONE not in _reached(after, name)]
        if stuck:
            rest = (
                f"{listed(stuck)} lead only to one another" if len(stuck) > 1 else f"`{stuck[0]}` leads only to itself"
            )
            yield SpecProblem(("steps", stuck[0]), f"never comes to `{DONE}`: {rest}; let one lead out", at_key=True)
        for name, step in self.steps.items():
            for path, branch in step.branches():
                if branch in after and branch not in stuck and DONE not in _reached(after | {name: []}, branch):
                    message = f"the branch comes to `{DONE}` only by forking again at `{name}`; let it end before"
                    yield SpecProblem(("steps", name, *path), message)


def _reached(after: Mapping[str, list[str]], start: str) -> set[str]:
    """Return the names that can be reached from `start`, and itself."""
    reached, pending = {start}, [start]
    while pending:
        for name in after.get(pending.pop(), ()):
            if name not in reached:
                reached.add(name)
                pending.append(name)
    return reached
