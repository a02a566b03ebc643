"""The step that takes in modalities: which of them, how they are brought together in time, and what becomes of late or lost ones.

Leaves out: how it runs (`perceive`); how one modality comes in (`intake`); kinds of alignment (`alignment`).
Checked: tests/test_perceive.py, tests/data/bad.
"""

from collections.abc import Iterator, Mapping
from math import inf
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..sim.engine import units
from ..sim.engine.distributions import DurationDist
from ..sim.engine.errors import listed
from ..sim.engine.spec import Name, OneOf, PositiveCount, Quantity, Spec, SpecProblem
from .alignment import ONE_GROUP, Alignment, Barrier, Late, check
from .modality import Modality
from .step import Path, Step

__all__ = ["Fusion", "Hierarchical", "Keep", "LateFusion", "PerceiveStep"]

MOST_COPIES = 1000  # of a modality: keeps a mistyped number from filling the memory
PositiveTokens = Annotated[float, Quantity(units.TOKENS, open_low=True)]


class LateFusion(Spec):
    """Each modality is read by a call of the agent's model in a branch of its own; only the answers join."""

    agent: Name


class Hierarchical(Spec):
    """Representations are fused in pairs, the results in pairs again: a fusion takes `each`, a level as long as its slowest."""

    each: DurationDist


class Fusion(OneOf):
    """How modalities become one input, where they do not all become tokens of one context at once."""

    late: LateFusion | None = None
    hierarchical: Hierarchical | None = None


class Keep(OneOf):
    """What of a step's visits stays in the context: those of the `last` so many, or the newest and a `summary` of those before."""

    last: PositiveCount | None = None
    summary: PositiveTokens | None = None


class PerceiveStep(Step):
    """Take in modalities side by side, each encoded on its way, and bring them together in the context of `model`.

    `model` may be left out where there is one only. There are `copies` of each modality. `align` says how they are brought
    together in time (left out: a barrier), and `late` what becomes of those that others have lost their patience with. Where an
    encoding fails, so does the task (`partial: fail`), or it goes on without and counts as degraded, or that branch alone is tried
    again. `fusion` says how they become one input: all as tokens of one context (`early`), each read by an agent (`late`), or fused
    in pairs, level by level (`hierarchical`). What earlier visits brought stays in the context (`keep: all`), but for its `last`
    visits, or as a `summary`.
    """

    perceive: Annotated[tuple[Name, ...], Field(min_length=1)]
    copies: Annotated[PositiveCount, Field(le=MOST_COPIES)] = 1
    model: Name | None = None
    align: Alignment = Alignment(barrier=Barrier())
    late: Late | None = None
    partial: Literal["fail", "degrade", "retry"] = "fail"
    fusion: Literal["early"] | Fusion = "early"
    keep: Literal["all"] | Keep = "all"

    @model_validator(mode="after")
    def _consistent(self) -> "PerceiveStep":
        for position, name in enumerate(self.perceive):
            if name in self.perceive[:position]:
                raise SpecProblem(("perceive", position), f"names `{name}` twice; ask for more of it by `copies`")
        check(self.align, self.late)
        kind = self.align.chosen[0]
        if self.reader is not None and kind not in ONE_GROUP:
            rule = f"aligns pieces, and by `fusion: late` only answers join; choose {listed(ONE_GROUP)}"
            raise SpecProblem(("align", kind), rule)
        if self.reader is not None and self.model is not None:
            raise SpecProblem("model", "must be left out: by `fusion: late` each is read by the model of the agent")
        return self

    @property
    def reader(self) -> str | None:
        """The agent that reads each modality by itself; None where none does."""
        return self.fusion.late.agent if isinstance(self.fusion, Fusion) and self.fusion.late is not None else None

    def doubts(self, modalities: Mapping[str, Modality]) -> Iterator[str]:
        """Yield which clocks are further off than the alignment can bear, in the mean."""
        window, mark = self.align.window, self.align.watermark
        bears = window.tolerance if window is not None else mark.length if mark is not None else inf
        told = "the tolerance" if window is not None else "a window"
        for name in self.perceive:
            stream = modalities[name].stream
            if stream is None or stream.length is None:
                continue
            clock = stream.clock
            off = clock.skew.mean + clock.drift * stream.length.mean
            if off > bears:
                yield (
                    f"modalities.{name}.stream.clock is off by {units.format(off, units.DURATION)} at the end of its stream, "
                    f"more than {told} of {units.format(bears, units.DURATION)}: pieces of one moment do not meet, and windows "
                    "close by the clock that is ahead"
                )

    @property
    def patience(self) -> float | None:
        """How long (s) the others wait for a late one after the first; None for as long as it takes."""
        return self.align.patience

    def uses(self) -> Iterator[tuple[Path, str, str]]:
        """Yield what it names."""
        for position, name in enumerate(self.perceive):
            yield ("perceive", position), "modalities", name
        if self.model is not None:
            yield ("model",), "models", self.model
        if self.reader is not None:
            yield ("fusion", "late", "agent"), "agents", self.reader
