"""What of a scenario may be cut off, or held for as long as it takes: then its pools must be able to do that.

Checked: tests/test_simulate.py, tests/test_shared_cpu.py.
"""

from .llm import Llm
from .perceive_step import PerceiveStep
from .pipeline_step import PipelineStep
from .scenario import Scenario
from .team_step import TeamStep
from .workflow import ForkStep, WorkflowStep

__all__ = ["cancels", "holds"]


def holds(scenario: Scenario) -> bool:
    """Whether places of pools are held by work whose end is not known when it begins."""
    return (
        scenario.orchestrator.single_threaded
        or any(node.scheduling == "share" or node.speed is not None for node in scenario.network.nodes.values())
        or any(isinstance(model, Llm) and (model.cpu or model.beside != 1) for model in scenario.models.values())
    )


def cancels(scenario: Scenario) -> bool:
    """Whether anything is ever taken out of a queue: then pools must be able to give it up."""
    return (
        any(
            (isinstance(step, ForkStep) and step.join != "all" and step.rest == "cancel")
            or (isinstance(step, WorkflowStep) and step.handling.cuts)
            or (isinstance(step, TeamStep) and step.cancels)
            or isinstance(step, PipelineStep)
            or (isinstance(step, PerceiveStep) and (step.patience is not None or _streams(scenario, step)))
            for step in scenario.steps.values()
        )
        or any(one.cuts for one in scenario.handlings.values())
        or any(one.max_wait is not None for one in (*scenario.tools.values(), *scenario.retrievers.values()))
        or scenario.recovery.cuts
    )


def _streams(scenario: Scenario, step: PerceiveStep) -> bool:
    """Whether a step takes in a stream."""
    return any(scenario.modalities[name].stream is not None for name in step.perceive)
