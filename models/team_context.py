"""What a member of a team knows by itself, and the messages between members.

A token is new the first time its model server processes it for the task, whichever member shows it: a message that the
server wrote itself, or has read for another member, is carried. What has been sent to a member is looked up (`hear`) when
it calls a model, in the order of the clock.

Leaves out: which tokens of a message a server has seen, only how many; a prefix cache does not find a message in the
middle of another member's prompt (nor does a real one).
Checked: tests/test_team.py.
"""

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

from ..sim.engine.branch import Branch
from .context import Context
from .parallel import fork_number

if TYPE_CHECKING:
    from .system import System
    from .team_step import TeamStep


class Message:
    """`tokens` that one member has sent, to one or several; `seen[server]` of them are known to a server."""

    __slots__ = ("seen", "tokens")

    def __init__(self, tokens: float, seen: list[float]) -> None:
        self.tokens = tokens
        self.seen = seen

    def show(self, server: int) -> float:
        """Return how many of its tokens `server` has seen; from now on that is all of them."""
        seen = self.seen[server]
        self.seen[server] = self.tokens
        return seen


class Brief(Message):
    """What the team began with: the context of the task at that time, or what parallel branches share of it."""

    __slots__ = ("source",)

    def __init__(self, source: Context) -> None:
        super().__init__(source.tokens, source.seen[:])
        self.source = source

    def show(self, server: int) -> float:
        """Return how many of its tokens `server` has seen, for a branch beside it too; from now on that is all of them."""
        seen, base = self.seen[server], self.tokens
        above: Context | None = self.source
        while above is not None:
            above.hear(server)
            seen = max(seen, min(above.seen[server], base))
            above.seen[server] = max(above.seen[server], base)
            base, above = min(base, above.base), above.parent
        self.seen[server] = self.tokens
        return seen


class Member(Context):
    """The context of a member, which persists while its team works: what it was given, heard and did itself.

    `brief` is what it begins with, None for nothing. `home` is where it is, `key` the name of its contents to a server.
    Of its prompts, `prompts` per caller, and of the brief, servers keep in their caches what they have from others.
    """

    def __init__(self, team: Context, brief: Brief | None, home: int, key: Hashable, prompts: Sequence[float]) -> None:
        super().__init__(len(team.seen), len(team.cached), len(team.memory), len(team.held))
        self.parent = team
        self.team = team
        self.inbox: list[Message] = []
        self.heard = [0] * len(team.seen)  # how many of them each server has been shown
        self.prompted = team.prompted[:]
        self.memory = team.memory[:]
        self.began = team.memory[:]
        self.replayed = team.replayed
        self.home = home
        shared = self.given = self.due = 0.0 if brief is None else brief.tokens
        own = prompts[: len(self.cached)]
        self.cached = [min(left, prompt + shared) for left, prompt in zip(team.cached, own, strict=True)]
        if team.segments:
            self.segments = ((key, 0.0),) if brief is None else (*team.segments, (key, shared))
        if brief is not None:
            self.receive(brief)
        self.held[home] = self.tokens

    def receive(self, message: Message) -> None:
        """Take in what was sent."""
        self.tokens += message.tokens
        self.inbox.append(message)
        self.held[self.home] += message.tokens  # it was sent to where the member is

    def hear(self, server: int) -> None:
        """`server` is about to process what was received since it last did."""
        for message in self.inbox[self.heard[server] :]:
            self.seen[server] += message.show(server)
        self.heard[server] = len(self.inbox)

    def replace(self, tokens: float, server: int, prompts: list[float]) -> None:
        """A summary takes the place of all that was received, too; whose prompts are new is still told by the team."""
        super().replace(tokens, server, prompts)
        self.parent = self.team
        self.given = 0.0
        self.inbox = []
        self.heard = [0] * len(self.seen)

    def leave(self, prompts: Sequence[float]) -> None:
        """An activation is over: others find in the caches what they have in common with this member."""
        cached = self.team.cached
        for caller, prompt in enumerate(prompts[: len(cached)]):
            cached[caller] = max(cached[caller], min(self.cached[caller], prompt + self.given))

    def copy(self, key: Hashable) -> "Member":
        """Return what the member knows, for an activation that may be called off; what it adds is named `key`."""
        twin = Member.__new__(Member)
        twin.__dict__.update(self.__dict__)
        for name in ("seen", "cached", "known", "prompted", "memory", "began", "held", "inbox", "heard"):
            setattr(twin, name, getattr(self, name)[:])
        twin.excess = twin.excess_coordination = 0.0
        twin.diverge(key)
        return twin


def said(state: Context, before: float, tokens: float | None) -> Message:
    """Return what a member has to say whose context had `before` tokens: all that it added, or so many `tokens`."""
    added = state.tokens - before
    if added < 0:  # summarized since
        added = min(state.tokens, state.output)
    start = state.tokens - added
    seen = [min(max(0.0, shown - start), added) for shown in state.seen]
    if tokens is None:
        return Message(added, seen)
    return Message(tokens, [min(shown, tokens) for shown in seen])


class Voice:
    """How much members say: so many tokens, the answer of their last call, or all that their activation has added."""

    def __init__(self, system: "System", path: str, spec: "TeamStep") -> None:
        self.slot = system.ledger.callee()
        self.answers = spec.message == "answer"
        given = None if spec.message is None or isinstance(spec.message, str) else spec.message
        self.size = None if given is None else system.stream(f"{path}/message", given)

    def say(self, branch: Branch, before: float) -> Message:
        """Return what one has to say whose context had `before` tokens when it began to act."""
        state: Context = branch.state
        tokens = min(state.output, state.tokens) if self.answers else None
        if self.size is not None:
            ordinal = branch.calls[self.slot]
            branch.calls[self.slot] = ordinal + 1
            tokens = float(round(self.size.draw(branch.index, ordinal, branch.lane)))
        return said(state, before, tokens)


def hold(state: Context, children: Sequence[Context]) -> None:
    """After a join, homes keep what its branches brought them of the shared context, up to the fork."""
    for child in children:
        for home, tokens in enumerate(child.held):
            state.held[home] = max(state.held[home], min(tokens, child.base))


def conclude(team: Context, members: Sequence[Member], answers: Sequence[Message]) -> None:
    """The team is over: the task goes on with the answers, and with what the members have left in memories."""
    for member in members:
        for place, (had, has) in enumerate(zip(member.began, member.memory, strict=True)):
            team.memory[place] = max(0.0, team.memory[place] + has - had)
    for answer in answers:
        team.tokens += answer.tokens
        for server in range(len(team.seen)):
            team.seen[server] += answer.seen[server]


class Seat:
    """The place of a member in a team: what it runs, where, who hears it, and the number of its lanes."""

    __slots__ = ("briefed", "fork", "home", "name", "role", "start", "to")

    def __init__(self, path: str, name: str, role: str) -> None:
        self.name = name
        self.role = role
        self.fork = fork_number(f"{path}/{name}")
        self.start: Any = None  # the first process, None for nothing
        self.home = 0
        self.to: list[Seat] = []
        self.briefed = True  # begins with what the task has, not with a lead's message alone


class Meeting:
    """One visit to the step: what its members know, and how many turns are left."""

    __slots__ = ("brief", "desks", "lane", "left", "replaced", "team", "visit")

    def __init__(self, branch: Branch, visit: int, turns: int | None, shared: bool) -> None:
        self.team: Context = branch.state
        self.visit = visit
        self.lane = branch.lane
        self.left = turns
        self.brief = None if shared else Brief(branch.state)
        # Contexts of members by the lane that works on them, in it by name: a join takes over those it has waited for.
        self.desks: dict[int, dict[str, Member]] = {branch.lane: {}}
        self.replaced: list[Member] = []  # those in whose place fresh ones were to be

    def left_off(self, members: Sequence[Member]) -> list[Member]:
        """Return who has worked in the team and is no longer one of its `members`."""
        return [one for one in dict.fromkeys(self.replaced) if one not in members]

    def take_over(self, lane: int, child: int, prompts: Sequence[float]) -> None:
        """A parallel branch has ended, in time: its members are now those of the branch that waited for it."""
        members = self.desks.pop(child)
        for member in members.values():
            member.leave(prompts)
        self.desks[lane] |= members
