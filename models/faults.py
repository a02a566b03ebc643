"""Faults: what goes wrong, where, and when; as YAML writes it.

A fault says `on` which components it strikes, what it does there (exactly one effect), and when. With `at` or `mtbf` it is a
state that begins and ends, the same for all components that it names: an outage of a group. Else it is always there, and its
effect is drawn for each call.

Leaves out: what components do about it (`handling`, `recovery`); how a state comes and goes (`fault_clock`), how an effect is
drawn (`chance`), what becomes of a call that is struck (`condition`).
Checked: tests/test_faults.py, tests/data/bad.
"""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from ..sim.engine.distributions import CountDist, DurationDist
from ..sim.engine.errors import listed
from ..sim.engine.shorthand import Shorthand
from ..sim.engine.spec import Count, Duration, Factor, PositiveDuration, Share, Spec, SpecProblem

EFFECTS = (
    "error", "hang", "slow", "down", "overload", "bad_output", "corrupt", "evict", "lost", "duplicated",
)  # fmt: skip
_SERVICES = ("tools", "retrievers", "memories")
_CALLED = (*_SERVICES, "models", "encoders")
STRIKES: dict[str, tuple[str, ...]] = {
    "error": _CALLED,
    "hang": _CALLED,
    "slow": (*_CALLED, "network"),
    "down": (*_CALLED, "agents", "orchestrator", "network", "nodes"),
    "overload": _CALLED,
    "bad_output": ("tools", "retrievers", "agents"),
    "corrupt": ("agents", "orchestrator"),
    "evict": ("models",),
    "lost": ("network",),
    "duplicated": ("network",),
}
"""What each effect can strike."""


def _exponential(value: object) -> object:
    """Take a bare duration for the mean of an exponential distribution."""
    return {"exponential": {"mean": value}} if isinstance(value, str) else value


TimeTo = Annotated[DurationDist, BeforeValidator(_exponential)]


class Chance(Shorthand):
    """How often something goes wrong, per call: `rate`.

    With `after_error` the calls of a task are a Markov chain: that is the rate right after the last one went wrong, `rate` after one
    that did not, and the mean is `rate / (1 + rate - after_error)`. With `concentration` each problem has a rate of its own, from a Beta distribution of mean `rate` and parameters that
    sum to `concentration`: the smaller it is, the more the calls of a task share their luck.
    """

    rate: Share
    after_error: Share | None = None
    concentration: Factor | None = None

    @model_validator(mode="after")
    def _one_correlation(self) -> Self:
        if self.after_error is not None and self.concentration is not None:
            raise SpecProblem(
                "concentration", "goes without `after_error`: calls are correlated by the one or the other"
            )
        return self

    @property
    def never(self) -> bool:
        """Whether it never happens: one that has not gone wrong once never comes to `after_error`."""
        return self.rate == 0


class Overload(Spec):
    """With more than `above` calls there (waiting or served), a call that comes is refused with probability `rate` (429, 503)."""

    above: Count
    rate: Share = 1.0


class BadOutput(Chance):
    """An output that is wrong though nothing says so, with the chance of any call.

    An evaluator that looks at it afterwards finds it with its own probability `finds`; where none does, the task is done and wrong.
    """


class Corrupt(Chance):
    """State of a task that is damaged at a step. It is noticed `after` so many steps more, or not at all (0)."""

    after: CountDist = CountDist.model_validate(1)


Components = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value, json_schema_input_type=str | list[str]),
    PlainSerializer(lambda value: value[0] if len(value) == 1 else list(value)),
]
Times = Annotated[
    tuple[Duration, ...],
    BeforeValidator(
        lambda value: value if isinstance(value, list | tuple) else [value], json_schema_input_type=str | list[str]
    ),
]


class Fault(Spec):
    """Something that goes wrong `on` components, given by their paths: `tools.search`, `network.edge->pod`, `nodes.pod`.

    When: from `at` on, and again `every` so often, `for` so long; or by chance, `mtbf` after it was last over and for `mttr` (a
    bare duration is the mean of an exponential distribution). Left out: always. `each` has the components share one clock,
    or gives each `task`, or each `replica` of a model, a clock of its own.

    What: `error` answers a call with one, `hang` never answers; `slow` multiplies times; `down` refuses calls (and loses those
    under way), lets them `hang`, has them `wait` until it is over, or `drain`s: refuses new ones and finishes the others.
    `overload` refuses by load. `bad_output` is wrong and looks right, `corrupt` damages a task's state. `evict` empties a model's
    KV cache. Messages on a link are `lost`, and sent again, or `duplicated`.
    """

    on: Components
    at: Times | None = None
    for_: DurationDist | None = Field(None, alias="for")
    every: PositiveDuration | None = None
    mtbf: TimeTo | None = None
    mttr: TimeTo | None = None
    each: Literal["component", "task", "replica"] = "component"
    error: Chance | None = None
    hang: Chance | None = None
    slow: Factor | None = None
    down: Literal["refuse", "hang", "wait", "drain"] | None = None
    overload: Overload | None = None
    bad_output: BadOutput | None = None
    corrupt: Corrupt | None = None
    evict: Literal[True] | None = None
    lost: Chance | None = None
    duplicated: Chance | None = None

    @property
    def effect(self) -> str:
        """The name of what it does."""
        return next(name for name in EFFECTS if getattr(self, name) is not None)

    @property
    def comes_and_goes(self) -> bool:
        """Whether it is a state that begins and ends, rather than always there."""
        return self.at is not None or self.mtbf is not None

    @property
    def never(self) -> bool:
        """Whether it can do nothing at all: then a run is as if it were not written."""
        chance = getattr(self, self.effect)
        if isinstance(chance, Chance | Overload):
            return chance.rate == 0
        if self.for_ is not None and self.for_.is_constant and self.for_.mean == 0 and self.effect != "evict":
            return True
        return self.slow == 1

    @property
    def may_hang(self) -> bool:
        """Whether a call that it strikes may never be answered."""
        return self.hang is not None or self.down == "hang"

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        for name in ("on", "at"):
            if getattr(self, name) == ():
                raise SpecProblem(name, "must have at least 1 item; got an empty list")
        return self

    @model_validator(mode="after")
    def _one_effect(self) -> Self:
        given = [name for name in EFFECTS if getattr(self, name) is not None]
        if len(given) != 1:
            raise SpecProblem((), f"must have exactly one effect of {listed(EFFECTS)}; got {listed(given) or 'none'}")
        return self

    @model_validator(mode="after")
    def _one_clock(self) -> Self:
        found = next(self._of_time(), None)
        if found is not None:
            raise found
        return self

    def _of_time(self) -> Iterator[SpecProblem]:
        """Yield what does not fit together in when it is there."""
        if self.at is not None and self.mtbf is not None:
            yield SpecProblem("mtbf", "goes without `at`: a fault is scheduled, or comes by chance")
        for name, other in (("for", "at"), ("every", "at"), ("mttr", "mtbf")):
            if getattr(self, "for_" if name == "for" else name) is not None and getattr(self, other) is None:
                yield SpecProblem(name, f"needs `{other}`")
        if self.mtbf is not None and self.mtbf.mean + (0.0 if self.mttr is None else self.mttr.mean) == 0:
            yield SpecProblem("mtbf", "must be > 0, or it comes again and again while no time passes")
        if self.effect == "evict":
            yield from self._of_an_instant()
            return
        if self.at is not None and self.for_ is None:
            yield SpecProblem("at", "needs `for`, how long it lasts")
        if self.mtbf is not None and self.mttr is None:
            yield SpecProblem("mtbf", "needs `mttr`, how long it lasts")
        if self.at is not None and self.every is not None and self.for_ is not None and self.for_.mean >= self.every:
            yield SpecProblem("every", "must be longer than `for`, or it is never over")
        if self.each != "component" and self.mtbf is None:
            yield SpecProblem("each", "needs `mtbf`: only what comes by chance comes to each by itself")

    def _of_an_instant(self) -> Iterator[SpecProblem]:
        """Yield what does not fit an effect that does not last."""
        if not self.comes_and_goes:
            yield SpecProblem("evict", "needs `at` or `mtbf`: it happens at an instant")
        for name in ("for", "mttr"):
            if getattr(self, "for_" if name == "for" else name) is not None:
                yield SpecProblem(name, "must be left out: `evict` happens at an instant")
