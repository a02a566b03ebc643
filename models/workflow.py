"""The workflow: a graph of steps, as YAML writes it, and its checks.

Every step names what comes `next`: a step, `done`, or a mapping of steps to weights. A branch of a fork and a
sub-workflow end with `done` too, and control goes back to where they began.

Leaves out: joins across forks, signals between branches.
Checked: tests/test_workflow.py, tests/data/bad.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from ..sim.engine.distributions import CountDist, DurationDist
from ..sim.engine.spec import Factor, Name, PositiveCount, Share, Spec, SpecProblem

if TYPE_CHECKING:
    import networkx as nx

DONE = "done"
NONE = "none"
END = "end"
START = "start"

Weight = Factor


class Markov(Spec):
    """Tool choice by the last tool: a row of weights per tool and one for `start`; `end` ends the loop."""

    markov: dict[Name, dict[Name, Weight]]


Choice = dict[Name, Weight]
Next = Name | Choice


class Step(Spec):
    """What every step may say. `skip` is the probability that it is passed over."""

    next: Next = DONE
    skip: Share = 0.0

    def targets(self) -> list[str]:
        """Return the names of the steps that may come next."""
        return [self.next] if isinstance(self.next, str) else list(self.next)


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
        if sum(self.replan.values()) > 1:
            raise SpecProblem("replan", f"the probabilities must sum to 1 at most, got {sum(self.replan.values()):g}")
        if self.elasticity and "repeat" not in self.model_fields_set:
            raise SpecProblem("elasticity", "needs `repeat`: it scales the number of turns")
        return self

    def targets(self) -> list[str]:
        """Return the names of the steps that may come next."""
        return [*super().targets(), *self.replan]


class EvaluatorStep(Step):
    """An evaluator accepts, or sends the task back to `rejected`; after `at_most` visits a rejection fails the task."""

    evaluator: Name
    accepted: Name = DONE
    rejected: Name
    at_most: PositiveCount = 10

    @model_validator(mode="before")
    @classmethod
    def _no_next(cls, data: Any) -> Any:
        if isinstance(data, dict) and "next" in data:
            raise SpecProblem("next", "an evaluator's step goes on to `accepted` or `rejected`, it has no `next`")
        return data

    def targets(self) -> list[str]:
        """Return the names of the steps that may come next."""
        return [self.accepted, self.rejected]


class ToolStep(Step):
    """A direct call of a tool."""

    tool: Name
    at_most: PositiveCount | None = None


class RetrieverStep(Step):
    """A direct lookup."""

    retriever: Name


class HumanStep(Step):
    """Waiting for a person."""

    human: DurationDist


class WorkflowStep(Step):
    """Another workflow, run in place."""

    workflow: Name


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
            raise SpecProblem("copies", f"needs one branch to copy, got {len(self.fork)}")
        if self.copies is None and isinstance(self.join, int) and self.join > len(self.fork):
            raise SpecProblem("join", f"must be <= the number of branches {len(self.fork)}, got {self.join}")
        return self

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
}


def _kind(data: Any) -> str | None:
    if isinstance(data, Step):
        return next((key for key, kind in KINDS.items() if isinstance(data, kind)), None)
    found = [key for key in KINDS if isinstance(data, dict) and key in data]
    return found[0] if len(found) == 1 else None


AnyStep = Annotated[
    Annotated[AgentStep, Tag("agent")]
    | Annotated[EvaluatorStep, Tag("evaluator")]
    | Annotated[ToolStep, Tag("tool")]
    | Annotated[RetrieverStep, Tag("retriever")]
    | Annotated[HumanStep, Tag("human")]
    | Annotated[WorkflowStep, Tag("workflow")]
    | Annotated[ForkStep, Tag("fork")],
    Discriminator(
        _kind,
        custom_error_type="step_kind",
        custom_error_message="must have exactly one of " + ", ".join(f"`{kind}`" for kind in KINDS),
    ),
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
            if isinstance(step, ForkStep):
                graph.add_edges_from((name, branch) for branch in step.fork if branch in self.steps)
        return graph

    def problems(self, workflows: set[str]) -> list[SpecProblem]:
        """Return what is wrong with the graph: unknown steps, steps never reached, cycles without a way out."""
        from ..sim.engine.errors import did_you_mean

        found: list[SpecProblem] = []

        def unknown(path: tuple[str, ...], name: str, allowed: list[str]) -> None:
            found.append(SpecProblem(path, f"no step is named `{name}`{did_you_mean(name, allowed)}"))

        if DONE in self.steps:
            found.append(SpecProblem(("steps", DONE), f"`{DONE}` is the end of a workflow and cannot be a step"))
        if self.start not in self.steps:
            unknown(("start",), self.start, list(self.steps))
        for name, step in self.steps.items():
            for field, target in _references(step):
                if target != DONE and target not in self.steps:
                    unknown(("steps", name, *field), target, [*self.steps, DONE])
            if isinstance(step, ForkStep):
                for position, branch in enumerate(step.fork):
                    if branch not in self.steps and branch not in workflows:
                        unknown(("steps", name, "fork", str(position)), branch, [*self.steps, *workflows])
        return found or self._reachability()

    def _reachability(self) -> list[SpecProblem]:
        import networkx as nx

        graph = self.graph()
        found = []
        reached = nx.descendants(graph, self.start) | {self.start}
        ends = nx.ancestors(graph, DONE)
        for name in self.steps:
            if name not in reached:
                found.append(
                    SpecProblem(
                        ("steps", name), f"is never reached from `{self.start}`; remove it, or let a step lead to it"
                    )
                )
            elif name not in ends:
                cycle = sorted(nx.descendants(graph, name) | {name})
                found.append(
                    SpecProblem(
                        ("steps", name), f"never comes to `{DONE}`: {', '.join(cycle)} form a cycle without a way out"
                    )
                )
        return found


def _references(step: Step) -> list[tuple[tuple[str, ...], str]]:
    """Return the steps that a step leads to, each with the path of the field that says so."""
    if isinstance(step, EvaluatorStep):
        return [(("accepted",), step.accepted), (("rejected",), step.rejected)]
    after: list[tuple[tuple[str, ...], str]] = (
        [(("next",), step.next)] if isinstance(step.next, str) else [(("next", name), name) for name in step.next]
    )
    if isinstance(step, AgentStep):
        after += [(("replan", name), name) for name in step.replan]
    return after
