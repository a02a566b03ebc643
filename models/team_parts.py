"""What the course of a team is made of: activations of a role in the mean, their sums, and members that are alike.

Leaves out: who acts when (`team_course`).
Checked: tests/test_bounds_media.py.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from .team_context import Seat

__all__ = ["Act", "Desk", "Part"]


@dataclass(frozen=True)
class Act:
    """An activation of a role in the mean: the tokens that it adds to a context, and `says`; its servers and callers.

    It `ends` at a home (None: where it begins). How many `seconds` it takes matters where members differ on the way through a graph.
    """

    growth: float = 0.0
    says: float = 0.0
    servers: frozenset[int] = frozenset()
    callers: frozenset[int] = frozenset()
    ends: int | None = None
    seconds: float = 1.0


@dataclass
class Part:
    """The activations of a role at one visit of the step, summed, each by how likely it is.

    Their number `count`, on the critical path `path`; by members that have what the team began with, `brief`; tokens beyond that,
    `extra`, and of them those at the member's last call, `known`; by members that have acted before, `again`; the first of the
    role, `first`. Of a shared context, both are told by caller, `callers` (`again`, `known`). By server, `seen` tokens beyond the brief, and `shown`, activations whose brief it has seen. `before` tells at
    which home control was. Of a shared context, the home of the role was in the team before in `has` activations, with
    `held` tokens beyond the brief, summed.
    """

    role: str
    count: float = 0.0
    path: float = 0.0
    brief: float = 0.0
    extra: float = 0.0
    known: float = 0.0
    again: float = 0.0
    first: float = 0.0
    has: float = 0.0
    held: float = 0.0
    callers: dict[int, list[float]] = field(default_factory=lambda: defaultdict(lambda: [0.0, 0.0]))
    seen: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    shown: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    before: dict[int, float] = field(default_factory=lambda: defaultdict(float))


class Desk:
    """Members that are alike: their context beyond the brief, and what servers have seen of it."""

    def __init__(self, seat: Seat, size: float = 1) -> None:
        self.seat = seat
        self.home = seat.home  # where its context is
        self.size = size
        self.own = self.known = self.acted = 0.0
        self.seen: dict[int, float] = {}

    def hear(self, tokens: float, seen: Mapping[int, float]) -> None:
        """Take in messages of so many tokens in all, of which servers have seen some."""
        self.own += tokens
        for server, share in seen.items():
            self.seen[server] = self.seen.get(server, 0.0) + share
