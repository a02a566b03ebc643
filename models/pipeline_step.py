"""The step whose stages overlap: each works on a piece while the one before it makes the next.

Leaves out: how it runs (`pipeline`).
Checked: tests/test_pipeline.py, tests/data/bad.
"""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from ..sim.engine.spec import Name, Spec
from .step import Path, Step


class Stage(Spec):
    """A stage of a pipeline."""

    tool: Name | None = None


class PipelineStep(Step):
    """Stages in order, which overlap by pieces."""

    pipeline: Annotated[tuple[Stage, ...], Field(min_length=1)]

    def uses(self) -> Iterator[tuple[Path, str, str]]:
        """Yield what its stages name."""
        for position, stage in enumerate(self.pipeline):
            if stage.tool is not None:
                yield ("pipeline", position, "tool"), "tools", stage.tool
