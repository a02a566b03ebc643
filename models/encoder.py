"""Encoders: what turns images, sound or video into representations that a language model reads.

An encoder runs on a pool of its own (`replicas` x `concurrency` slots, on its `node`), or on the device of a model server
(`model`), whose time and memory it then takes. Its time is a distribution, or the sum of the profile's laws of kernels for a
`shape` such as `siglip-so400m-14`.

Leaves out: batches of several tasks in one call of an encoder.
Checked: tests/test_encoder.py, tests/data/bad.
"""

from typing import Self

from pydantic import model_validator

from ..sim.engine.distributions import DurationDist
from ..sim.engine.spec import Count, Name, PositiveCount, Spec, SpecProblem
from .llm import AnyShape
from .service import ZERO_TIME

__all__ = ["Encoder"]


class Encoder(Spec):
    """An encoder: `latency` a call and `per_unit` more for each unit, or `shape` with the profile's laws in their place.

    `model` names the model server on whose device it runs; else it has slots of its own, and at most `queue_limit` calls wait.
    """

    node: Name | None = None
    model: Name | None = None
    replicas: PositiveCount = 1
    concurrency: PositiveCount = 1
    queue_limit: Count | None = None
    latency: DurationDist | None = None
    per_unit: DurationDist = ZERO_TIME
    shape: AnyShape | None = None
    dtype: str = "bf16"

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.latency is None) == (self.shape is None):
            rule = "says nothing of its time; give" if self.latency is None else "tells its time twice; keep one of"
            raise SpecProblem((), f"{rule} `latency` (and `per_unit`), or `shape` with a profile")
        return self
