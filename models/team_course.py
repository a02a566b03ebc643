"""The course of a team in the mean: who acts how often, on and beside the critical path, knowing how much, and who tells whom.

Rounds, early stops, turn limits and hand-offs count as often as they come. How much a member of a swarm has kept of its own is
an estimate, as is the order in which a limit of turns meets the members of a hierarchy.

Leaves out: any time (`demand_team`); work that a quorum cancels counts as done.
Checked: tests/test_bounds_media.py.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..sim.engine.distributions import CountDist
from .team import TeamProcess
from .team_context import Seat
from .team_parts import Act, Desk, Part
from .topology import endless

__all__ = ["TEAM", "Course", "survival"]

TEAM = -1  # in place of a home: wherever control is when the team begins
_NEGLIGIBLE = 1e-9
_MOST_TURNS = 10_000


class Course:
    """One visit of a team, whose members act as `acts` says by role (left out: they add nothing)."""

    def __init__(self, team: TeamProcess, acts: Mapping[str, Act] | None = None) -> None:
        self.team, self.spec, self.shared = team, team.spec, team.shared
        roles = list(dict.fromkeys(seat.role for seat in team.seats.values()))
        self.acts = acts or {role: Act() for role in roles}
        self.parts = {role: Part(role) for role in roles}
        # From home to home, with `brief` and tokens beyond it: how many messages, and how many of them on the path.
        self.messages: dict[tuple[int, int, float, float], list[float]] = defaultdict(lambda: [0.0, 0.0])
        self.asked = self.showed = (
            0.0  # questions to the evaluator, and tokens beyond the brief that it then has, summed
        )
        self.answer = 0.0  # tokens that join the context of the task
        self.grown = 0.0  # tokens of a shared context, beyond what it began with
        self.at: dict[int, float] = {TEAM: 1.0}  # where control is
        self.left = team.spec.turns
        judge = team.judge
        self.stops = team.stops if judge is None else judge.accept
        self.judge_has = 0.0
        self.output = 0.0 if judge is None or judge.call is None else self._judge_output(judge.spec.evaluator)
        self.knew: dict[int, float] = {}  # of a shared context: what callers and servers know
        self._seen: dict[int, float] = {}
        self.certain: dict[int, float] = {}  # how likely callers have called, if that is not certain
        self.latest: dict[int, float] = {}  # what has been added since a caller can have called last
        self.likely: dict[int, float] = {}  # how likely they were, if not certain
        self.held: dict[int, float] = {}  # by home that was in the team: tokens beyond the brief
        kinds = {"single": self._chain, "chain": self._chain, "swarm": self._swarm, "graph": self._graph}
        kinds |= {"supervisor": self._delegate, "hierarchy": self._delegate}
        kinds.get(self.spec.team, self._debate)()

    def _judge_output(self, name: str) -> float:
        output: Any = self.team.system.scenario.evaluators[name].output
        return 0.0 if output == "trace" else float(output.mean)

    # Acts

    def act(self, desk: Desk, weight: float = 1.0, size: float = 1.0, path: float = 1.0) -> None:
        """So many members of a desk act, each where `weight` says how likely; on the critical path is one of them, times `path`."""
        role, seat = desk.seat.role, desk.seat
        part, times = self.parts[role], weight * size
        growth, servers = self.acts[role].growth, self.acts[role].servers
        part.first += weight if not part.count else 0.0
        part.count += times
        part.path += weight * path
        if self.shared:
            part.brief += times
            part.extra += times * self.grown
            for caller, known in self.knew.items():
                again = times * self.certain.get(caller, 1.0)
                part.callers[caller][0] += again
                part.callers[caller][1] += again * min(known, max(0.0, self.grown - self.latest.get(caller, 0.0)))
            for server, seen in self._seen.items():
                part.seen[server] += times * seen
                part.shown[server] += times
            for home, share in self.at.items():
                part.before[home] += times * share
            if seat.home in self.held:
                has = times * self.likely.get(seat.home, 1.0)
                part.has += has
                part.held += has * self.held[seat.home]
            self.knew |= dict.fromkeys(self.acts[role].callers, self.grown + growth)
            self.held[seat.home] = self.grown
            return
        part.brief += times * seat.briefed
        part.extra += times * desk.own
        part.again += times * desk.acted
        part.known += times * desk.known
        part.before[desk.home] += times
        for server in servers:
            part.seen[server] += times * min(desk.own, desk.seen.get(server, 0.0))
            part.shown[server] += times * seat.briefed * (desk.acted or (size - 1) / size)
            desk.seen[server] = desk.own + growth
        if seat.briefed and desk.acted < 1:
            self.move(TEAM, desk.home, 1.0, 0.0, (times * (1 - desk.acted), weight * path * (1 - desk.acted)))
        desk.own += growth
        desk.known, desk.acted, desk.home = desk.own, 1.0, self._end(desk)

    def alone(self, desk: Desk, weight: float = 1.0, path: float = 1.0) -> None:
        """One member acts, in the branch of the team."""
        self.act(desk, weight, 1.0, path)
        if self.shared:
            self.grown += self.acts[desk.seat.role].growth
            self._show(desk)
            self.at = {self._end(desk): 1.0}
            self.held |= dict.fromkeys((desk.seat.home, self._end(desk)), self.grown)

    def together(self, desk: Desk, weight: float, size: float, needed: float, path: float = 1.0) -> None:
        """So many members act in parallel; of what they add, a shared context takes what those `needed` have brought."""
        self.act(desk, weight, size, path)
        if self.shared:
            growth = self.acts[desk.seat.role].growth
            self.grown += needed * growth
            self._show(desk)
            for home, share in self.at.items():
                self.move(self._end(desk), home, 0.0, growth, (weight * size * share, weight * path * share))

    def _end(self, desk: Desk) -> int:
        """Return where an activation ends."""
        home = self.acts[desk.seat.role].ends
        return desk.seat.home if home is None else home

    def _show(self, desk: Desk) -> None:
        for server in self.acts[desk.seat.role].servers:
            self._seen[server] = self.grown

    def move(self, source: int, target: int, brief: float, tokens: float, times: tuple[float, float]) -> None:
        """Bring the brief or `tokens` from home to home: how often, and how often on the critical path."""
        if source != target and times[0]:
            sums = self.messages[source, target, brief, tokens]
            sums[0] += times[0]
            sums[1] += times[1]

    def tell(self, source: Desk, target: Desk, times: tuple[float, float]) -> None:
        """Send what a member has to say: how often, and how often on the critical path. The other takes it in by `hear`."""
        if not self.shared:
            self.move(source.home, target.home, 0.0, self.acts[source.seat.role].says, times)

    def hear(self, target: Desk, source: Desk, messages: float) -> None:
        """Let a member take in so many messages."""
        if self.shared or not messages:
            return
        tokens = messages * self.acts[source.seat.role].says
        # Of several listeners at one server, the first shows it what another has written.
        others = (target.size - 1) / target.size
        own, writers = self.acts[target.seat.role].servers, self.acts[source.seat.role].servers
        target.hear(tokens, {server: tokens * (1.0 if server in writers else others) for server in own})

    def conclude(self, answers: Mapping[Desk, float]) -> None:
        """The team is over with so many answers of each."""
        if self.shared:
            self.answer = self.grown
            return
        for desk, count in answers.items():
            tokens = self.acts[desk.seat.role].says
            self.answer += count * tokens
            self.move(desk.home, TEAM, 0.0, tokens, (count, count))

    def take(self, size: float) -> float:
        """Return how many of so many may take a turn, and count those."""
        if self.left is None:
            return size
        taken = min(size, self.left)
        self.left -= int(taken)
        return taken

    def ask(self, weight: float, showed: float) -> None:
        """Ask the evaluator, if there is one, whether it is enough."""
        if self.team.judge is None:
            return
        self.judge_has = self.grown if self.shared else self.judge_has + showed
        self.asked += weight
        self.showed += weight * self.judge_has
        self.judge_has += self.output
        self.grown += self.output * self.shared

    # Walks

    def _chain(self) -> None:
        last: Desk | None = None
        for desk in [Desk(seat) for seat in self.team.seats.values()]:
            if not self.take(1):
                break
            if last is not None:
                self.tell(last, desk, (1.0, 1.0))
                self.hear(desk, last, 1.0)
            self.alone(desk)
            last = desk
        self.conclude({} if last is None else {last: 1.0})

    def _swarm(self) -> None:
        """Members take over as in a Markov chain, in which those of a role are alike; by how likely each is at work, so are all sums."""
        seats: dict[str, list[Seat]] = {}
        for seat in self.team.seats.values():
            seats.setdefault(seat.role, []).append(seat)
        desks = [Desk(found[0], len(found)) for found in seats.values()]
        given = self.spec.to
        weights = np.array([given.get(desk.seat.role, 0.0) if given else 1.0 for desk in desks])
        # By the role that leaves: the weight of each other role, and of the others of its own.
        ways = weights * np.array([desk.size for desk in desks]) - np.diag(weights)
        total = ways.sum(axis=1)
        ends = total < _NEGLIGIBLE
        ways = self.spec.hand_off * ways / np.where(ends, 1.0, total)[:, None]
        ways[ends] = 0.0
        likely, handed = np.zeros((2, len(desks)))
        likely[0] = 1.0
        acted, answers = np.zeros(len(desks)), np.zeros(len(desks))
        turns = min(self.left or _MOST_TURNS, _MOST_TURNS)
        for turn in range(turns):
            if likely.sum() < _NEGLIGIBLE:
                break
            self._turn(desks, likely, acted, handed)
            last = turn + 1 == turns
            answers += likely if last else likely * (1 - ways.sum(axis=1))
            leaves = likely[:, None] * ways
            for source, target in zip(*np.nonzero(leaves), strict=True) if not last else ():
                self.tell(desks[source], desks[target], (float(leaves[source, target]),) * 2)
            acted += likely / likely.sum() / [desk.size for desk in desks]
            handed, likely = likely, leaves.sum(axis=0)
        found = {desk: float(share) for desk, share in zip(desks, answers, strict=True) if share}
        if self.shared:
            self.at = defaultdict(float)
            for desk, count in found.items():
                self.at[self._end(desk)] += count
            self.grown = sum(part.count * self.acts[role].growth for role, part in self.parts.items())
        self.conclude(found)

    def _turn(self, desks: list[Desk], likely: np.ndarray, acted: np.ndarray, handed: np.ndarray) -> None:
        """One turn of a swarm: whoever may be at work, which each of a role has `acted` before; `handed` tells who has come before."""
        alive, grown = float(likely.sum()), self.grown
        says = [self.acts[desk.seat.role].says for desk in desks]
        message = float(handed @ says / handed.sum()) if handed.sum() else 0.0
        latest, self.likely = dict(self.knew), {}
        chances: dict[int, float] = {}
        for desk, before in zip(desks, acted, strict=True):
            chance = min(1.0, float(before) * desk.size)
            self.likely[desk.seat.home] = min(1.0, self.likely.get(desk.seat.home, 0.0) + chance)
            for caller in self.acts[desk.seat.role].callers:
                chances[caller] = min(1.0, chances.get(caller, 0.0) + chance)
        self.certain = chances
        # Nobody hands over to itself: who is alone in its role, and alone its caller, has not seen the turn that is just over.
        self.latest = {
            caller: float(handed @ [self.acts[one.seat.role].growth for one in desks] / handed.sum())
            for desk in desks
            for caller in self.acts[desk.seat.role].callers
            if handed.sum() and desk.size == 1 and sum(caller in act.callers for act in self.acts.values()) == 1
        }
        for desk, weight, before in zip(desks, likely.tolist(), acted.tolist(), strict=True):
            growth = self.acts[desk.seat.role].growth
            if not self.shared:
                desk.acted, desk.known = min(1.0, before), before * (growth + message)
                desk.own = desk.known + message * bool(handed.sum())
                desk.seen = dict.fromkeys(self.acts[desk.seat.role].servers, desk.own)
                desk.home = desk.seat.home
            if weight:
                self.act(desk, weight)
                self.knew = dict(latest)
            grown += weight * growth / alive
        if not self.shared:
            return
        self.grown, self.at = grown, defaultdict(float)
        for desk, weight in zip(desks, likely.tolist(), strict=True):
            if weight:
                self._show(desk)
                self.at[self._end(desk)] += weight / alive
                self.knew |= dict.fromkeys(self.acts[desk.seat.role].callers, grown)

    # Delegation

    def _delegate(self) -> None:
        seats = list(self.team.seats.values())
        levels = self.spec.depth if self.spec.team == "hierarchy" else 1
        fanout = self.spec.fanout if self.spec.team == "hierarchy" else self.spec.size
        by_level: list[Desk] = [Desk(seats[0])]
        for level in range(1, levels + 1):
            seat = next(s for s in seats if s.role == ("worker" if level == levels else "lead") and s is not seats[0])
            by_level.append(Desk(seat, fanout**level))
        lead = by_level[0]
        if not self.take(1):
            return
        self.alone(lead)
        alive = 1.0
        for more in survival(self.spec.rounds):
            weight = alive * more
            if not self._led(by_level, 0, fanout, weight):
                break
            self.ask(weight, self.acts[lead.seat.role].says)
            alive *= 1 - self.stops
            if alive < _NEGLIGIBLE:
                break
        self.conclude({lead: 1.0})

    def _led(self, levels: list[Desk], level: int, fanout: int, weight: float) -> bool:
        """Each lead of a level orders those below, and works on what they report; False where no turn is left for it."""
        leads, below = levels[level], levels[level + 1]
        size = self.take(below.size)
        if self.spec.fresh:
            below.own = below.known = below.acted = 0.0
            below.home = below.seat.home
            below.seen = {}
        needed = self.spec.needed(fanout) if size == below.size else size / leads.size
        if size:
            self.tell(leads, below, (weight * size, weight))
            self.hear(below, leads, 1.0)
            self.together(below, weight, size, 0.0)
            merged = level + 2 < len(levels) and self._led(levels, level + 1, fanout, weight)
            if self.shared:
                acts = 2 if merged else 1
                self.grown += needed * leads.size * acts * self.acts[below.seat.role].growth
            self.tell(below, leads, (weight * size, weight))
            self.hear(leads, below, needed)
        again = self.take(leads.size)
        if not again:
            return False
        if level:
            self.act(leads, weight, again)
        else:
            self.alone(leads, weight)
        return True

    # Rounds

    def _debate(self) -> None:
        seats = list(self.team.seats.values())
        speakers = Desk(seats[0], self.spec.size)
        judge = next((Desk(seat) for seat in seats if seat.role == "judge"), None)
        chair = next((Desk(seat) for seat in seats if seat.role == "controller"), None)
        rounds, alive, begun, answers = survival(self.spec.rounds), 1.0, 0.0, {}
        for number, more in enumerate(rounds):
            weight = alive * more
            size = self.take(speakers.size)
            if not size:
                break
            begun = begun or weight
            going_on = alive * (rounds[number + 1] if number + 1 < len(rounds) else 0.0)
            needed = self.spec.needed(int(size))
            self.together(speakers, weight, size, needed)
            others = size * (speakers.size - 1) if self.spec.team == "debate" else 0.0
            self.tell(speakers, speakers, (going_on * others, going_on * others / size))
            if judge is not None:
                self.tell(speakers, judge, (weight * size, weight))
                self.hear(judge, speakers, needed * weight)
            answers = {speakers: float(needed)}
            if chair is not None and self.take(1):
                self.alone(chair, weight)
                answers = {chair: 1.0}
            self.ask(going_on, needed * self.acts[speakers.seat.role].says)
            if self.spec.team == "debate":
                self.hear(speakers, speakers, needed * (1 - 1 / speakers.size))
            alive *= 1 - self.stops
            if alive < _NEGLIGIBLE:
                break
        if judge is not None and answers and self.take(1):
            self.alone(judge, begun)
            answers = {judge: begun}
        self.conclude(answers)

    # Graphs

    def _graph(self) -> None:
        desks = {name: Desk(seat) for name, seat in self.team.seats.items()}
        if endless(self.spec.graph):
            self._in_rounds(desks)
        else:
            self._as_they_come(desks)

    def _as_they_come(self, desks: dict[str, Desk]) -> None:
        """Each acts once; the critical path is walked back from the last of those to whom nobody listens."""
        import networkx as nx

        over: dict[str, float] = {}
        cause: dict[str, str] = {}
        graph, sends = self.spec.graph, {name: [to.name for to in desk.seat.to] for name, desk in desks.items()}
        order = [name for name in nx.topological_sort(graph) if self.take(1)]
        for name in order:
            came = sorted((over[one], one) for one in graph.predecessors(name) if one in over)
            needed = 0 if desks[name].seat in self.team.entry else self.team.spec.needed(len(came))
            for _, one in came[:needed]:
                self.hear(desks[name], desks[one], 1.0)
            began, who = came[needed - 1] if needed else (0.0, "")
            over[name], cause[name] = began + self.acts[desks[name].seat.role].seconds, who
        sinks = [name for name in order if not sends[name]]
        path, name = set[str](), max(sinks, key=lambda one: over[one], default="")
        while name:
            path.add(name)
            place = cause[name]
            if place:  # who listens behind others waits for their messages, too
                for to in sends[place][: sends[place].index(name) + 1]:
                    self.tell(desks[place], desks[to], (0.0, 0.0))
                    self._on_path(desks[place], desks[to])
            name = place
        for name in order:
            self.act(desks[name], path=float(name in path))
            for to in sends[name]:
                self.tell(desks[name], desks[to], (1.0, 0.0))
        self.conclude({desks[name]: 1.0 for name in sinks})

    def _on_path(self, source: Desk, target: Desk) -> None:
        if source.home != target.home:
            key = (source.home, target.home, 0.0, self.acts[source.seat.role].says)
            self.messages[key][1] += 1.0

    def _in_rounds(self, desks: dict[str, Desk]) -> None:
        """Those act who have heard from enough others since they last did; of each round, the slowest is on the path."""
        heard_by, spec = self.team.heard_by, self.spec
        got = dict.fromkeys(heard_by, 0)
        ready, answers = list(self.team.entry), {}
        while ready:
            acting = ready[: int(self.take(len(ready)))]
            if not acting:
                break
            slowest = max(acting, key=lambda seat: self.acts[seat.role].seconds)
            for seat in acting:
                path = float(seat is slowest)
                self.act(desks[seat.name], path=path)
                for to in seat.to:
                    self.tell(desks[seat.name], desks[to.name], (1.0, path))
            answers = {desks[seat.name]: 1.0 for seat in acting}
            for seat in acting:
                for to in seat.to:
                    self.hear(desks[to.name], desks[seat.name], 1.0)
                    got[to.name] += 1
            ready = [seat for name, seat in self.team.seats.items() if 0 < spec.needed(heard_by[name]) <= got[name]]
            got |= dict.fromkeys((seat.name for seat in ready), 0)
        self.conclude(answers)


def survival(count: CountDist) -> list[float]:
    """Return P(N > k) for k from 0, as far as that is not negligible."""
    found: list[float] = []
    while len(found) < _MOST_TURNS:
        more = float(1 - count.distribution.cdf(np.array([len(found)]))[0])
        if more < _NEGLIGIBLE:
            break
        found.append(more)
    return found
