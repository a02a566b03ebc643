"""A team that is a free graph: each node is at work as soon as it has got what it waits for, beside the others.

Without a cycle, nodes are branches of one fork that hand messages to one another, and the team is over when all nodes
have ended to which nobody listens. With one, it goes in rounds: those act who have heard from enough others since they
last did, until nobody has or no turn is left.

Leaves out: a cycle in which one node is at work beside the next round of another.
Checked: tests/test_team.py.
"""

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from ..sim.engine.branch import Branch, Join
from ..sim.engine.draws import lane
from ..sim.engine.relay import Piece, Relay
from .failure import TaskFailed
from .parallel import straggled, until_join
from .team_context import Meeting, Message, Seat

if TYPE_CHECKING:
    from .team import Act, Answers, Said, TeamProcess

__all__ = ["run_graph"]

Word = tuple[Message, float, float]  # and what joins on the way of it have cost, as `Context.excess`


class Sinks(Join):
    """A join that waits for some branches only; the others end on their own, and are cancelled if they have not."""

    __slots__ = ("awaited",)

    def __init__(self, parent: Branch, needed: int, cancels: bool) -> None:
        super().__init__(parent, needed, cancels)
        self.awaited: set[int] = set()  # lanes

    def _meet(self, branch: Branch, failure: str | None) -> None:
        if self.released is None and branch.lane not in self.awaited:
            branch.end()
            return
        if failure is not None:
            self.failed = len(self.branches)  # not one can be spared
        super()._meet(branch, failure)


def run_graph(team: "TeamProcess", meeting: Meeting, branch: Branch) -> "Answers":
    """Let the nodes act, each when it can; return what is said by those to whom nobody listens."""
    return _in_rounds(team, meeting, branch) if team.goes_round else _as_they_come(team, meeting, branch)


def _as_they_come(team: "TeamProcess", meeting: Meeting, branch: Branch) -> "Answers":
    seats = list(team.seats.values())
    heard_by = team.heard_by
    relays = {seat.name: Relay(heard_by[seat.name]) for seat in seats}
    words: dict[int, Said] = {}
    join = Sinks(branch, sum(not seat.to for seat in seats), team.spec.cancels)
    children = []
    for seat in seats:
        child = branch.fork(lane(branch.lane, seat.fork, meeting.visit, 0), branch.state.fork())
        meeting.desks[child.lane] = {}
        children.append(child)
        if not seat.to:
            join.awaited.add(child.lane)
    for child, seat in zip(children, seats, strict=True):
        node = Node(team, meeting, seat, team.spec.needed(heard_by[seat.name]), relays, words)
        join.add(child, until_join(child, node.run(child), join))
    yield
    straggled(branch, join)
    for child in children:
        if child.over and not child.cancelled:
            meeting.take_over(branch.lane, child.lane, team.system.prompts)
    return [words[child.lane] for child in children if child.lane in join.awaited and child.lane in words]


class Node:
    """A node of a graph: it takes what it waits for, acts, and sends."""

    __slots__ = ("meeting", "needed", "relays", "seat", "team", "words")

    def __init__(
        self,
        team: "TeamProcess",
        meeting: Meeting,
        seat: Seat,
        needed: int,
        relays: dict[str, Relay],
        words: "dict[int, Said]",
    ) -> None:
        self.team = team
        self.meeting = meeting
        self.seat = seat
        self.needed = 0 if seat in team.entry else needed
        self.relays = relays
        self.words = words

    def run(self, branch: Branch) -> Generator[None, Any, None]:
        """Take the branch through it; those who listen are told when it fails, too."""
        team, seat = self.team, self.seat
        try:
            yield from self._take(branch)
            message = yield from team.act(self.meeting, branch, seat)
            if message is None:  # no turn is left: nothing is said any more
                message = Message(0.0, [0.0] * len(branch.state.seen))
            else:
                self.words[branch.lane] = seat, message
            for other in seat.to:
                if message.tokens or branch.lane in self.words:
                    yield from team.send(self.meeting, branch, seat, [other], message)
                state = branch.state
                self.relays[other.name].put(branch, (message, state.excess, state.excess_coordination))
        except TaskFailed as failed:
            self._end(branch, str(failed))
            raise
        self._end(branch, None)

    def _end(self, branch: Branch, failure: str | None) -> None:
        for other in self.seat.to:
            self.relays[other.name].end(branch, failure)

    def _take(self, branch: Branch) -> Generator[None, Any, None]:
        """Wait for as many messages as are needed, and follow the last."""
        relay, pieces = self.relays[self.seat.name], list[Piece]()
        while len(pieces) < self.needed:
            piece = yield from relay.receive(branch)
            if piece is None:
                raise TaskFailed(relay.failure or f"{self.team.path}: too few have said anything to `{self.seat.name}`")
            pieces.append(piece)
            for sender in self.meeting.desks[piece.lane].values():
                sender.leave(self.team.system.prompts)
            self.team.hear(self.meeting, branch, [self.seat], piece.payload[0])
        if not pieces:
            return
        useful, state = branch.ledger.useful, branch.state
        coordination = [sum(piece.parts) - sum(piece.parts[account] for account in useful) for piece in pieces]
        last, count = pieces[-1], len(pieces)
        state.excess = last.payload[1] + last.time - sum(piece.time for piece in pieces) / count
        state.excess_coordination = last.payload[2] + coordination[-1] - sum(coordination) / count


def _in_rounds(team: "TeamProcess", meeting: Meeting, branch: Branch) -> "Answers":
    heard_by = team.heard_by
    got = dict.fromkeys(heard_by, 0)
    ready, number = team.entry, 0
    answers: list[Said] = []

    def act(child: Branch, seat: Seat) -> "Act":
        message = yield from team.act(meeting, child, seat, taken=True)
        if message is not None:
            yield from team.send(meeting, child, seat, seat.to, message)
        return message

    while ready:
        found = yield from team.gather(meeting, branch, ready, number, act, len(ready))
        number += 1
        answers = found or answers
        for seat, message in found:
            team.hear(meeting, branch, seat.to, message)
            for other in seat.to:
                got[other.name] += 1
        ready = [seat for seat in team.seats.values() if 0 < team.spec.needed(heard_by[seat.name]) <= got[seat.name]]
        got |= dict.fromkeys((seat.name for seat in ready), 0)
    return answers
