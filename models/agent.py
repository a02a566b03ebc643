"""Agents: who thinks with which model, on what prompt, with what at hand.

Leaves out: a context of its own, which the members of a `team` have.
Checked: tests/test_steps.py.
"""

from typing import Literal

from ..sim.engine.distributions import TokensDist
from ..sim.engine.spec import Count, Name, PositiveCount, Spec, Tokens

NO_TOKENS = TokensDist.model_validate("0 tokens")


class Agent(Spec):
    """An agent calls `model` with its own `prompt` before the task's context, and adds `output` tokens to it.

    Before each step it reads `memory` and asks `retriever`, where it has them, and writes to `memory` after.
    `concurrency` limits how many tasks have a step of this agent under way. `output: trace` replays the trace's tokens. A
    server that schedules by priority serves calls of a higher `priority` first.
    """

    model: Name
    node: Name | None = None
    prompt: Tokens = 0.0
    output: TokensDist | Literal["trace"] = NO_TOKENS
    memory: Name | None = None
    retriever: Name | None = None
    concurrency: PositiveCount | None = None
    priority: Count = 0
