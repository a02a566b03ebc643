"""How streams of pieces are brought together in time: what a scenario says of it.

`barrier`: all sources have brought everything. `pairwise`: a barrier, and each pair of sources is then aligned in `each`.
`window`: windows of `length` on the clock of the join; a piece belongs where its stamp says, if it says so to `tolerance`.
`watermark`: windows of `length` over stamps, closed when every source has shown a stamp `lateness` past the end.
`jitter_buffer`: each piece is played out `depth` after the time at which one as fast as the first would have come.

What becomes of pieces that are late or lost: `wait` holds the group until they come or are known never to; `drop` goes on
with what is there; `repeat` lets the last piece of the source stand in; `degrade` leaves out, of this group, the whole
source that lacks a piece, with what it brought, and marks the group. Where a source brings one piece a group, `drop` and
`degrade` differ in the mark only.

Leaves out: sources that fall idle and would hold a watermark for ever (their end releases it); a playout that stalls for a
late piece; windows that slide or overlap; stamps corrected by an estimate of the skew.
Checked: tests/test_alignment.py, tests/data/bad.
Source: Akidau et al., VLDB 2015 (windows by event time, watermark, lateness); Ramjee et al., INFOCOM 1994 (playout delay
against late loss); RFC 3550 (stamps by the source's own clock).
"""

from typing import Literal

from pydantic import model_validator

from ..sim.engine import units
from ..sim.engine.distributions import DurationDist
from ..sim.engine.spec import Duration, OneOf, PositiveDuration, Spec, SpecProblem

__all__ = [
    "Alignment",
    "Barrier",
    "JitterBuffer",
    "Late",
    "Pairwise",
    "Watermark",
    "Window",
    "check",
    "policy",
    "stamp",
]

Late = Literal["wait", "drop", "repeat", "degrade"]
ONE_GROUP = ("barrier", "pairwise")
CLOSES_ITSELF = ("watermark", "jitter_buffer")  # what its own parameter tells how long to wait


class Barrier(Spec):
    """Go on when every source has brought all it has; `patience` after the first of them, if that comes first."""

    patience: Duration | None = None


class Pairwise(Spec):
    """A barrier; then each of the n(n-1)/2 pairs of sources that are there is aligned, in `each`."""

    each: DurationDist
    patience: Duration | None = None


class Window(Spec):
    """A join of windows: each needs of each source as many pieces as its rate brings in `length`.

    A piece whose stamp is further than `tolerance` from where the source's rate puts one fits nothing. `patience`: how long
    the others are waited for once the first source has brought its pieces of the window.
    """

    length: PositiveDuration
    tolerance: Duration = 0.0
    patience: Duration | None = None

    @model_validator(mode="after")
    def _within(self) -> "Window":
        if self.tolerance > self.length:
            most, got = units.exact(self.length, units.DURATION), units.exact(self.tolerance, units.DURATION)
            raise SpecProblem("tolerance", f"must be <= `length`, which is {most}; got {got}")
        return self


class Watermark(Spec):
    """Windows over stamps: closed when the least of the sources' largest stamps is `lateness` past the end."""

    length: PositiveDuration
    lateness: Duration = 0.0


class JitterBuffer(Spec):
    """Pieces are held, and played out in the rhythm of their stamps, `depth` later than the first piece could have been."""

    depth: Duration


class Alignment(OneOf):
    """How streams are brought together: exactly one kind."""

    barrier: Barrier | None = None
    pairwise: Pairwise | None = None
    window: Window | None = None
    watermark: Watermark | None = None
    jitter_buffer: JitterBuffer | None = None

    @property
    def patience(self) -> float | None:
        """How long (s) the others are waited for after the first source; None for as long as it takes."""
        found: float | None = getattr(self.chosen[1], "patience", None)
        return found


def policy(alignment: Alignment, late: Late | None) -> Late:
    """Return the policy: where none is given, `wait`, and `drop` where the kind closes groups by itself."""
    return late or ("drop" if alignment.chosen[0] in CLOSES_ITSELF else "wait")


def check(alignment: Alignment, late: Late | None) -> None:
    """Refuse what cannot go together: SpecProblem, with the path inside the step (`align`, `late`)."""
    kind = alignment.chosen[0]
    chosen = policy(alignment, late)
    if kind in CLOSES_ITSELF and chosen == "wait":
        length = "lateness" if kind == "watermark" else "depth"
        raise SpecProblem(
            "late",
            f"must not be `wait`: `{kind}` waits as long as its `{length}` says; give `drop`, `repeat` or `degrade`",
        )
    if kind in ONE_GROUP and chosen == "repeat":
        raise SpecProblem("late", f"must not be `repeat`: with `{kind}` no piece came before; give `drop` or `degrade`")
    if chosen == "wait" and alignment.patience is not None:
        raise SpecProblem(
            ("align", kind, "patience"),
            "says how long to wait, and `late` is `wait`, for ever; give `late: drop`, `repeat` or `degrade`",
        )
    if chosen == "drop" and kind not in CLOSES_ITSELF and alignment.patience is None:
        raise SpecProblem(
            ("align", kind), "needs `patience` with `late: drop`: how long the others are waited for, such as `200 ms`"
        )


def stamp(true_time: float, skew: float, drift: float) -> float:
    """Return the time (s) that a clock shows at `true_time`: off by `skew` (s), and by `drift` (s/s) of the time passed."""
    return true_time + skew + drift * true_time
