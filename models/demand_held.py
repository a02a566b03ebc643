"""What is held where, in the mean: what callers, servers, homes, memories and checkpoints have of a task on arrival at each step.

What is let go of (`keep` of a `perceive` step), and what members of a team know, are estimates.

Leaves out: what each costs (`demand`).
Checked: tests/test_bounds.py, tests/test_bounds_media.py.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from .agent_step import AgentProcess
from .demand_team import Teams, call_of, control_of
from .demand_tokens import Held, Letting, TokenMeans
from .model_call import ModelCall
from .perceive import PerceiveProcess
from .system import System
from .team_course import TEAM
from .team_parts import Part
from .traffic import Into, Traffic, Vector

__all__ = ["Amounts", "Holdings"]


@dataclass
class Amounts:
    """Tokens at each step: on arrival (`uncut` by summaries, and with them), and how many a visit adds.

    `media` are bytes that a prompt holds beyond its tokens: how many come with the next call of a server, and how many stay.
    """

    uncut: Vector
    tokens: Vector
    growth: Vector
    media: dict[int, tuple[Vector, Vector]]


class Holdings:
    """Means at each step, on arrival there: what callers, servers, homes and memories hold of a task."""

    def __init__(
        self,
        system: System,
        counts: TokenMeans,
        traffic: Traffic,
        amounts: Amounts,
        teams: Teams,
        lettings: dict[int, Letting],
    ) -> None:
        self.system, self.counts, self.traffic = system, counts, traffic
        self.tokens, self.growth = amounts.tokens, amounts.growth
        self.teams, self.lettings = teams, lettings
        self.full = system.runtime.state == "full" and system.scenario.context.grows
        self.known: dict[int, Vector] = {}  # by caller: tokens at its last call
        self.cached: dict[int, Vector] = {}  # by caller: tokens of context that a cache may still hold
        self.prompted: dict[int, Vector] = {}  # by caller: probability that there was one
        self.seen: dict[int, Vector] = {}  # by server: tokens processed
        self.homes: dict[int, Vector] = {}  # by home: probability that control is there
        self.behind: dict[tuple[int, int], Vector] = {}  # tokens sent if control is there, to go there
        self.left: dict[int, Vector] = {}  # by home: tokens that it has
        self.tells: dict[int, tuple[Vector, Vector]] = {}  # by home: how likely a visit tells it, and what it then has
        self.memories: dict[int, Vector] = {}  # bytes
        size = len(traffic.nodes)
        self.lets, self.drops, self.start = np.zeros(
            (3, size)
        )  # of `keep`: how likely, how much, and what lies before it
        for number, letting in lettings.items():
            self.lets[number], self.drops[number] = letting.chance, letting.tokens
            self.start[number] = max(0.0, self.tokens[number] - letting.kept)
        nodes = traffic.nodes
        self.chance = np.array([node.acts * (1.0 if node.turns is None else node.turns.begun) for node in nodes])
        self.came: dict[int, Vector] = {}  # by server: bytes of media that its next call has come with
        self.media = self._media(amounts)
        self._calls()
        self._control()
        self._memories()

    def of(self, number: int, call: ModelCall) -> Held:
        """Return what a task brings to a step that calls a model."""
        caller, server = call.index, call.server.index
        means = self.tokens, self.known[caller], self.prompted[caller], self.seen[server], self.cached[caller]
        came = float(self.came[server][number]) if server in self.came else 0.0
        tokens, known, prompted, seen, cached = (float(mean[number]) for mean in means)
        return Held(tokens, known, prompted, seen, cached, media=float(self.media[number]), came=came)

    def _media(self, amounts: Amounts) -> Vector:
        """Return the bytes of media that prompts hold at each step, but for those that summaries have replaced."""
        calls = [call_of(node) for node in self.traffic.nodes]
        found = np.zeros(len(calls))
        for server, (comes, stays) in amounts.media.items():
            found += self.traffic.carried(0.0, stays)
            same = np.array([call is not None and call.server.index == server for call in calls])
            self.came[server] = self.traffic.remembered(1 - same * self.chance, comes)
        found *= np.divide(amounts.tokens, amounts.uncut, out=np.ones(len(calls)), where=amounts.uncut > 0)
        return found

    # Callers and servers

    def _calls(self) -> None:
        nodes = self.traffic.nodes
        calls = [call_of(node) for node in nodes]
        after = self.tokens + self.traffic.summed(self.growth)
        last = self.tokens + self.growth
        for number, node in enumerate(nodes):
            if isinstance(node.process, AgentProcess) and node.turns and node.turns.turns:
                last[number] -= self.counts.results(node.process, node.turns)
        # What a caller that reads each modality by itself has seen leaves the context; its answers stay.
        known = np.where([isinstance(node.process, PerceiveProcess) for node in nodes], self.tokens, last)
        ones = np.ones(len(nodes))
        for call in [call for call in calls if call is not None]:
            if call.index not in self.known:
                mine, told = self._with_teams(np.array([one is call for one in calls]), known, call)
                into = self.teams.into(partial(self._known, caller=call.index))
                self.known[call.index] = self.cached[call.index] = self._remembered(
                    mine, told, into, 0.0, self.lets, self.start
                )
                if self.teams.courses:
                    into = self.teams.into(partial(self._cached, caller=call.index))
                    self.cached[call.index] = self._remembered(mine, told, into, 0.0, self.lets, self.start)
                begins = self.teams.into(partial(self._firsts, caller=call.index))
                asked = self._in_teams(mine, call)
                self.prompted[call.index] = self._remembered(asked, ones, begins)
            server = call.server.index
            if server not in self.seen:
                same = np.array([one is not None and one.server is call.server for one in calls])
                self.seen[server] = self._server(server, same, last, after)

    def _server(self, server: int, same: Vector, last: Vector, after: Vector) -> Vector:
        """Return how much of the context a server has seen."""
        last = last.copy()
        for number, course in self.teams.courses.items():
            if any(server in act.servers for act in course.acts.values()):
                same[number] = True
                last[number] = after[number]
        into = self.teams.into(lambda _, part: (part.brief, part.seen.get(server, 0.0)))
        found = self._remembered(same, last, into, drops=self.drops)
        # How much of the brief members' servers have seen depends on what they had: once more, with that.
        shown: dict[int, float] = {number: float(self.tokens[number] - found[number]) for number in self.teams.courses}
        into = self.teams.into(
            lambda number, part: (
                part.brief,
                part.seen.get(server, 0.0) + part.shown.get(server, 0.0) * shown[number],
            )
        )
        return self._remembered(same, last, into, drops=self.drops) if shown else found

    def _known(self, number: int, part: Part, caller: int = -1) -> tuple[float, float]:
        """Return what a caller knows of the context of a member: that of its last call, or of a shared one, what it knew before."""
        brief = float(self.tokens[number])
        if self.teams.courses[number].shared:
            again, known = part.callers.get(caller, (0.0, 0.0))
            return part.count - again, again * brief + known
        return 0.0, part.known + part.again * (part.brief / part.count if part.count else 0.0) * brief

    def _cached(self, number: int, part: Part, caller: int) -> tuple[float, float]:
        """Return what of its context a cache may hold for a member: of the brief, what it holds for the task."""
        share, beside = self._known(number, part, caller)
        if self.teams.courses[number].shared or not part.count:
            return share, beside
        return part.brief * (1 - part.again / part.count), beside

    def _firsts(self, number: int, part: Part, caller: int) -> tuple[float, float]:
        """Return how many activations show a caller's prompt to its server, unless the task has before, and how many do not."""
        first = part.first
        if self.teams.courses[number].shared:
            first = part.count - part.callers.get(caller, (0.0, 0.0))[0]
        return first, part.count - first

    def _in_teams(self, where: Vector, call: ModelCall) -> Vector:
        """Return where a caller acts, also as a member of a team."""
        where = where.copy()
        for number in self.teams.courses:
            steps = [step for _, found in self.traffic.nodes[number].roles.values() for step in found]
            where[number] = any(call_of(self.traffic.nodes[step]) is call for step in steps)
        return where

    def _with_teams(self, where: Vector, last: Vector, call: ModelCall) -> tuple[Vector, Vector]:
        """Return where a caller learns the context, also as a member of a team that shares it, and how much of it."""
        last = last.copy()
        found = self._in_teams(where, call)
        for number, course in self.teams.courses.items():
            found[number] = found[number] and course.shared
            last[number] = self.tokens[number] + course.knew.get(call.index, 0.0)
        return found, last

    def _remembered(
        self,
        where: Vector,
        value: Vector,
        into: Into | None = None,
        first: float = 0.0,
        lets: Vector | float = 0.0,
        start: Vector | float = 0.0,
        drops: Vector | float = 0.0,
    ) -> Vector:
        """Return the mean of a quantity that visits `where` set to `value`.

        A visit that lets go sets it to `start`, with probability `lets`, or takes `drops` off it.
        """
        keeps = (1 - where * self.chance) * (1 - lets)
        sets = where * self.chance * value * (1 - lets) + lets * start - drops
        found: Vector = np.maximum(self.traffic.remembered(keeps, sets, first, into), 0.0)
        return found

    # Control and state

    def _control(self) -> None:
        """Work out where control is on arrival at each step, and how many tokens the next home does not have yet."""
        traffic, request, chance = self.traffic, self.counts.request, self.chance
        homes = range(len(self.system.homes))
        controls = [control_of(node) for node in traffic.nodes]
        at = np.array([-1 if control is None else control.home for control in controls])
        called = (at >= 0) * chance
        grown = [node.turns.turns if node.turns and node.turns.turns else 1.0 for node in traffic.nodes]
        written = self.tokens + self.growth * (1 - 1 / np.maximum(grown, 1.0))
        self.saved = self._remembered(at >= 0, written, self.teams.into(self._known))
        self.dispatches = 1 - self._remembered(at >= 0, np.ones(len(at)))
        # Of parallel branches, one is first.
        self.dispatches /= max(1.0, float((traffic.visits * called) @ self.dispatches))
        after = self.tokens + traffic.summed(self.growth)
        moves, lands = (at >= 0).astype(float), {home: (at == home).astype(float) for home in homes}
        for number, course in self.teams.courses.items():
            if course.shared and TEAM not in course.at:
                moves[number] = 1.0
                for home in homes:
                    lands[home][number] = course.at.get(home, 0.0)
        for home in homes:
            into = self.teams.into(partial(self._began, home))
            keeps, sets = 1 - moves * chance, chance * lands[home]
            self.homes[home] = traffic.remembered(keeps, sets, float(home == 0), into)
            into = self.teams.into(partial(self._had, home))
            where, value = lands[home].copy(), after.copy()
            for number, course in self.teams.courses.items():
                if course.shared and home in course.held and not lands[home][number]:
                    where[number] = course.likely.get(home, 1.0)
                    value[number] = self.tokens[number] + course.held[home]
            self.tells[home] = where * chance, value
            lets = self.lets * (1 - lands[home])  # a home that control leaves knows all that is kept
            self.left[home] = self._remembered(where, value, into, request * (home == 0), lets, self.start)
        for home in homes:
            leaves = (1 - moves * chance) * self.homes[home] + chance * lands[home]
            for target in homes:
                self.behind[home, target] = self._sent(home, target, leaves, after)

    def _began(self, home: int, _number: int, part: Part) -> tuple[float, float]:
        """Return how likely control is at a home when a member begins: by that of the step, and beside it."""
        return part.before.get(TEAM, 0.0), part.before.get(home, 0.0)

    def _had(self, home: int, number: int, part: Part) -> tuple[float, float]:
        """Return how many tokens a home has when a member begins: all, where it is, and else what it had of a shared context."""
        brief, course = float(self.tokens[number]), self.teams.courses[number]
        if course.shared:
            seat = next(seat for seat in course.team.seats.values() if seat.role == part.role)
            return (part.count - part.has, part.has * brief + part.held) if seat.home == home else (part.count, 0.0)
        there = part.before.get(home, 0.0) / part.count if part.count else 0.0
        return 0.0, there * (part.brief * brief + part.extra) + (1 - there) * self._known(number, part)[1]

    def _sent(self, home: int, target: int, leaves: Vector, after: Vector) -> Vector:
        """Return the tokens that go from home to home if control does, times the probability that it is there."""
        traffic, request = self.traffic, self.counts.request
        left, there = self.left[target], self.homes[home]
        told, value = self.tells[target]
        has = told * value + (1 - told) * left
        full = self.full * request if target == 0 else request
        mass = traffic.onward.T @ (traffic.visits * leaves * (after - (not self.full) * has))
        mass += traffic.forked.T @ (traffic.visits * there * (self.tokens - (not self.full) * left))
        mass += traffic.first * (home == 0) * full

        def of_team(number: int, part: Part) -> tuple[float, float]:
            if not part.count:
                return 0.0, 0.0
            brief = part.brief / part.count * float(self.tokens[number])
            likely = part.before.get(home, 0.0) + part.before.get(TEAM, 0.0) * float(there[number])
            share, beside = self._had(target, number, part)
            has = (share * float(left[number]) + beside) / part.count
            return 0.0, likely * max(0.0, brief + part.extra / part.count - (not self.full) * has)

        mass += self.teams.into(of_team)[1]
        return traffic.per_visit(np.maximum(mass, 0.0))

    # Memories

    def _memories(self) -> None:
        nodes = self.traffic.nodes
        for index, name in enumerate(self.system.memories):
            spec = self.system.scenario.memories[name]
            entry = spec.entry.mean if spec.write is not None else 0.0
            grows = [
                node.acts * node.turns.turns * entry
                if isinstance(node.process, AgentProcess)
                and node.turns
                and node.process.memory is not None
                and node.process.memory.index == index
                else 0.0
                for node in nodes
            ]
            self.memories[index] = self.traffic.carried(0.0, np.array(grows))
