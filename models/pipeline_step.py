"""The step whose stages overlap: each works on a piece while the one before it makes the next.

Leaves out: how it runs (`pipeline`, `stages`); tools that an agent chooses in the middle of a turn: give them stages of their own.
Checked: tests/test_pipeline.py, tests/data/bad.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from ..sim.engine.distributions import DurationDist, TokensDist
from ..sim.engine.errors import listed
from ..sim.engine.spec import Name, PositiveCount, Share, Spec, SpecProblem
from .service import ZERO_TIME
from .step import Path, Step

if TYPE_CHECKING:
    from .scenario import Scenario

__all__ = ["BargeIn", "PipelineStep", "Stage"]

NO_TOKENS = TokensDist.model_validate("0 tokens")
KINDS = ("listen", "tool", "retriever", "agent", "play")
_SECTIONS = {"listen": "modalities", "tool": "tools", "retriever": "retrievers", "agent": "agents"}
# Which kinds of stages a field says something about.
_FITS = {
    "from": ("tool", "retriever", "agent"),
    "chunk": ("agent",),
    "per_unit": ("tool", "retriever", "play"),
    "makes": ("tool", "retriever"),
}


class Stage(Spec):
    """A stage of a pipeline: exactly one of `listen`, `tool`, `retriever`, `agent` and `play`.

    `listen` takes in a modality's stream while it is made; a tool or a retriever is called for each piece, one after the other, or
    once for the `whole` of what the stage before makes; an agent calls its model once, on the whole, and hands its answer on in
    pieces of `chunk` tokens as it comes. To `play` a piece takes real time and no resource.

    A call, or playing a piece, lasts `per_unit` longer for each of its units, drawn once a turn: units of the modality, else tokens
    that were made. Of each unit a service `makes` so many tokens, besides the result of its calls; one that makes none hands on as
    many units as it was given.
    """

    listen: Name | None = None
    tool: Name | None = None
    retriever: Name | None = None
    agent: Name | None = None
    play: DurationDist | None = None
    takes: Literal["pieces", "whole"] | None = Field(None, alias="from")
    chunk: TokensDist | None = None
    per_unit: DurationDist = ZERO_TIME
    makes: TokensDist = NO_TOKENS

    @model_validator(mode="after")
    def _one_kind(self) -> "Stage":
        found = [name for name in KINDS if getattr(self, name) is not None]
        if len(found) != 1:
            raise SpecProblem((), f"must have exactly one of {listed(KINDS)}; got {listed(found) or 'none'}")
        given = {
            "from": self.takes is not None,
            "chunk": self.chunk is not None,
            "per_unit": self.per_unit != ZERO_TIME,
            "makes": self.makes != NO_TOKENS,
        }
        for field, kinds in _FITS.items():
            if given[field] and self.kind not in kinds:
                raise SpecProblem(field, f"goes with {listed(kinds)} only, not with `{self.kind}`")
        if self.agent is not None and self.takes == "pieces":
            raise SpecProblem("from", "must be `whole`: a call of a model begins when its prompt is complete")
        if self.chunk is not None and self.chunk.lower_bound <= 0:
            raise SpecProblem("chunk", "must be a distribution of values > 0, or pieces hold nothing")
        return self

    @property
    def kind(self) -> str:
        """What it is."""
        return next(name for name in KINDS if getattr(self, name) is not None)

    @property
    def whole(self) -> bool:
        """Whether it waits for all that the stage before it makes."""
        return self.takes == "whole" or self.agent is not None


class BargeIn(Spec):
    """The person interrupts the answer with a `chance`, some time `after` it is first heard, `at_most` so many times a visit.

    An answer that is over by then is not interrupted.
    """

    chance: Share
    after: DurationDist
    at_most: PositiveCount = 3


class PipelineStep(Step):
    """Stages in order, which overlap by pieces; with `streaming: false` each works once, on the whole of what the one before made.

    The turn of who is listened to counts as over when there has been silence for `endpoint` after the last piece. At a `barge_in`
    everything under way is cancelled, and the step begins again by listening, without what was said before. `ttfa` is the time from the last piece to the first
    of the answer; of all turns of a task the longest.
    """

    pipeline: tuple[Stage, ...]
    streaming: bool = True
    endpoint: DurationDist = ZERO_TIME
    barge_in: BargeIn | None = None

    @model_validator(mode="after")
    def _in_order(self) -> "PipelineStep":
        kinds = [stage.kind for stage in self.pipeline]
        last = len(kinds) - 1
        for position, stage in enumerate(self.pipeline):
            here = ("pipeline", position)
            if position and stage.listen is not None:
                raise SpecProblem((*here, "listen"), "must come first: what is said is where a turn begins")
            if position < last and stage.play is not None:
                raise SpecProblem((*here, "play"), "must come last: nothing works on what was played")
            if not position and stage.takes is not None:
                raise SpecProblem((*here, "from"), "must be left out: no stage comes before the first")
        if set(kinds) <= {"listen", "play"}:
            raise SpecProblem("pipeline", "needs a stage that works: a `tool`, a `retriever` or an `agent`")
        for position in range(last):
            self._chunked(position)
        if self.endpoint != ZERO_TIME and kinds[0] != "listen":
            raise SpecProblem("endpoint", "needs `listen` as the first stage: there is no silence to wait for")
        if self.barge_in is not None and (kinds[0], kinds[last]) != ("listen", "play"):
            rule = (
                "needs `listen` as the first stage and `play` as the last: who interrupts hears the answer, and speaks"
            )
            raise SpecProblem("barge_in", rule)
        return self

    def _chunked(self, position: int) -> None:
        """Refuse an agent that does not say in which pieces it hands on its answer, or for whom there are no pieces."""
        stage, after = self.pipeline[position : position + 2]
        if stage.agent is None:
            return
        if stage.chunk is None and not after.whole:
            rule = "needs `chunk`, such as `chunk: 15 tokens`: the next stage takes pieces"
            remedy = "" if after.play is not None else "; or let it say `from: whole`"
            raise SpecProblem(("pipeline", position), rule + remedy)
        if stage.chunk is not None and after.whole:
            raise SpecProblem(("pipeline", position, "chunk"), "must be left out: the next stage takes the whole")

    @property
    def listened(self) -> str | None:
        """The modality that it listens to; None without."""
        return self.pipeline[0].listen

    @property
    def read(self) -> str | None:
        """The modality that its agent's model reads as it was listened to; None where a tool or a retriever takes it in, or none is."""
        stages: Any = self.pipeline or ()  # as in `misfits`
        return stages[0].listen if len(stages) > 1 and stages[1].agent is not None else None

    def uses(self) -> Iterator[tuple[Path, str, str]]:
        """Yield what its stages name."""
        for position, stage in enumerate(self.pipeline):
            for field, section in _SECTIONS.items():
                name = getattr(stage, field)
                if name is not None:
                    yield ("pipeline", position, field), section, name

    def misfits(self, scenario: "Scenario") -> Iterator[SpecProblem]:
        """Yield why it cannot listen to what it names."""
        stages: Any = self.pipeline or ()  # of a scenario of which only parts are valid, they may be missing
        name = stages[0].listen if stages else None
        modality = scenario.modalities.get(name or "")
        if modality is not None and modality.stream is None:
            rule = f"must be a modality with a `stream`; all of `{name}` comes with the request"
            yield SpecProblem(("pipeline", 0, "listen"), rule)
