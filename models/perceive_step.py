"""The step that takes in modalities: which of them, how they are brought together in time, and what becomes of late or lost ones.

Leaves out: how it runs (`perceive`); how pieces are aligned (`alignment`).
Checked: tests/test_perceive.py, tests/data/bad.
"""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from ..sim.engine.spec import Name, PositiveCount
from .step import Path, Step


class PerceiveStep(Step):
    """Take in modalities side by side, each encoded on its way, and bring them together."""

    perceive: Annotated[tuple[Name, ...], Field(min_length=1)]
    copies: PositiveCount = 1
    model: Name | None = None

    def uses(self) -> Iterator[tuple[Path, str, str]]:
        """Yield what it names."""
        for position, name in enumerate(self.perceive):
            yield ("perceive", position), "modalities", name
        if self.model is not None:
            yield ("model",), "models", self.model
