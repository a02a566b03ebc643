"""Evaluators: accept a task's work, or send it back.

With a model, judging is a model call (inference); without one it takes `latency`, which is tool time.
Leaves out: judgements that depend on quality; acceptance is a probability, per visit.
Checked: tests/test_steps.py.
"""

from typing import Literal

from pydantic import model_validator

from ..sim.engine.distributions import DurationDist, TokensDist
from ..sim.engine.spec import Count, Name, Share, Spec, Tokens
from .agent import NO_TOKENS


class Evaluator(Spec):
    """Judges by `model` or in `latency`, and accepts with probability `accept`; `priority` as of an agent.

    Work that is wrong (`bad_output`, `corrupt`) it `finds` with that probability, and rejects; what it rejects anyway is made again, too.
    """

    model: Name | None = None
    node: Name | None = None
    prompt: Tokens = 0.0
    output: TokensDist | Literal["trace"] = NO_TOKENS
    latency: DurationDist | None = None
    accept: Share
    finds: Share = 0.0
    priority: Count = 0

    @model_validator(mode="after")
    def _one_way_to_judge(self) -> "Evaluator":
        if (self.model is None) == (self.latency is None):
            got = "neither" if self.model is None else "both"
            raise ValueError(f"must have `model` (a model judges) or `latency` (a rule judges); got {got}")
        return self
