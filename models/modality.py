"""Modalities: what a task brings besides its request, where it comes from, and what it is on the wire, in memory and in tokens.

The size of an input is counted in units of its kind: images (or tiles of one) of vision, seconds of audio, frames of video,
records of structured data, and messages of text. It comes with the request, or as a stream of pieces over time.

Leaves out: content, and so quality; codecs of media whose rate follows the content; loss that comes in bursts. Of media that are
part of a prompt: their bytes in what homes, checkpoints and members of a team are sent, in which they count as tokens, and in
the turns of a pipeline; what it takes to encode them again.
Checked: tests/test_modality.py, tests/data/bad.
"""

import math
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..sim.engine.distributions import DurationDist, NumberDist
from ..sim.engine.spec import Factor, Name, PositiveCount, Rate, Share, Size, Spec, SpecProblem, Tokens
from .handling import MOST_ATTEMPTS
from .service import ZERO_TIME

__all__ = ["ENCODED", "Clock", "MediaStream", "Modality", "Preprocess"]

Kind = Literal["text", "vision", "audio", "video", "structured"]
ROUNDING = 1e-9  # s, and of a piece: by which times may differ and be the same
ENCODED: tuple[Kind, ...] = ("vision", "audio", "video")  # what a language model cannot read as it comes


class Clock(Spec):
    """How the time stamps of a source differ from true time: by `skew`, drawn once a task, and `drift` of the time passed."""

    skew: DurationDist = ZERO_TIME
    drift: Share = 0.0


class MediaStream(Spec):
    """Pieces that come while they are made, `rate` a second for `length`, each of `units`.

    A piece holds what its period brought, and is there when that is over: the last one when the stream is, be it cut short.
    On its way each piece is late by `jitter` (beyond the network's own time), and `loss` of them never come. What the pieces
    wait for is their `source`: a person who speaks or types, or a sensor.
    """

    rate: Rate
    units: Factor = 1.0
    length: DurationDist | None = None
    jitter: DurationDist = ZERO_TIME
    loss: Share = 0.0
    clock: Clock = Clock()
    source: Literal["person", "sensor"] = "sensor"

    @model_validator(mode="after")
    def _ends(self) -> "MediaStream":
        if self.length is None:
            raise SpecProblem("length", "never ends; say for how long it lasts, such as `length: 10 s`")
        if not math.isfinite(self.length.upper_bound) and not math.isfinite(self.length.mean):
            raise SpecProblem("length", "never ends: its mean is infinite; give a distribution with a finite mean")
        if self.loss >= 1:
            raise SpecProblem("loss", "must be < 100 %, or nothing ever comes")
        return self

    def pieces(self, length: float) -> int:
        """Return how many pieces a stream of `length` s is; one of no length is none."""
        return max(0, math.ceil(length * self.rate - ROUNDING))

    def captured(self, number: int, length: float) -> float:
        """Return when (s, from its begin) piece `number`, counted from 0, of a stream of `length` s is there."""
        return min((number + 1) / self.rate, length)

    def captured_by(self, seconds: float, length: float) -> int:
        """Return how many pieces of a stream of `length` s are there so many seconds after its begin."""
        if seconds >= length - ROUNDING:
            return self.pieces(length)
        return max(0, math.floor(seconds * self.rate + ROUNDING))


class Preprocess(Spec):
    """What is done before the encoder: decoding, scaling, resampling: `latency` a call and `per_unit` more for each unit.

    `on: cpu` takes a core of the encoder's node (where cores are counted), `on: gpu` the encoder's slot or device. Both are drawn
    once a call.
    """

    latency: DurationDist = ZERO_TIME
    per_unit: DurationDist = ZERO_TIME
    on: Literal["cpu", "gpu"] = "cpu"


class Modality(Spec):
    """An input of a task.

    `amount` is in units of its kind; `bytes` on the wire, `tokens` in a model's context and bytes of its `representation` between
    encoder and model are of each unit. `node` is where it comes from; `serializer` encodes it for the wire (left out: as the
    runtime does everything). Of its encodings a share `errors` fails; what then happens, the step says: where it tries again, up to
    `attempts` times in all. What a model cannot read as it comes needs an `encoder` where a model reads it; what a tool is given,
    such as speech to recognize, needs none.

    `inline`: it is itself part of the prompt, such as base64 in a message: at its bytes, as its `serializer` expands them, in place
    of what its tokens weigh. A runtime that sends the full prompt with each call sends it with every later model call once more;
    the first of the model that it was brought to is the one it came with. Else it is stored, and referred to by an id or a URL.
    """

    kind: Kind
    node: Name | None = None
    amount: NumberDist = NumberDist.model_validate(1)
    bytes: Size = 0.0
    tokens: Tokens = 0.0
    representation: Size = 0.0
    serializer: Name | None = None
    preprocess: Preprocess | None = None
    encoder: Name | None = None
    stream: MediaStream | None = None
    inline: bool = False
    errors: Share = 0.0
    attempts: Annotated[PositiveCount, Field(le=MOST_ATTEMPTS)] = 3

    @model_validator(mode="after")
    def _consistent(self) -> "Modality":
        if self.stream is not None and self.says("amount"):
            raise SpecProblem("amount", "must be left out: `stream` tells how much comes")
        if self.amount.lower_bound < 0:
            raise SpecProblem(
                "amount", f"must be a distribution of values >= 0; this one goes down to {self.amount.lower_bound:g}"
            )
        if self.inline and not self.tokens:
            raise SpecProblem("inline", "needs `tokens`: what is part of a prompt counts there")
        if self.preprocess is not None and self.preprocess.on == "gpu" and self.encoder is None:
            raise SpecProblem(("preprocess", "on"), "must be `cpu`: without an `encoder` there is no device to take")
        return self

    def uses(self) -> Iterator[tuple[str, str, str]]:
        """Yield the components that it names: the field, the section of the scenario, the name."""
        if self.encoder is not None:
            yield "encoder", "encoders", self.encoder
