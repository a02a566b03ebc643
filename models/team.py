"""Agents that work together: the process of a `team` step.

There are three kinds of control. A *walk* (single, chain, swarm) has one member at work at a time, which hands over along
an edge. *Delegation* (supervisor, hierarchy) is a lead that acts, those it leads in parallel, and the lead again. *Rounds*
(debate, blackboard) are all members in parallel, then their messages, then the next round. A free graph is `team_graph`.

With private contexts a message goes from the sender's home to the receiver's, and the sender ends when its last message has
come: a join waits for that. With a shared one, what a member adds in parallel goes to where the others have their context.

Leaves out: messages of one sender that travel at once (each waits for the one before); members that hear something while
they are at work.
Checked: tests/test_team.py.
"""

from collections.abc import Callable, Generator, Sequence
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from ..sim.engine.branch import Branch, Join
from ..sim.engine.draws import lane
from .context import AGENT_MESSAGES, Context
from .failure import TaskFailed
from .line import cross
from .network import Channel
from .parallel import straggled, until_join
from .step import DONE
from .steps import (
    EvaluatorProcess,
    Flow,
    ForkProcess,
    Process,
    Walk,
    WorkflowProcess,
)
from .team_context import Meeting, Member, Message, Seat, Voice, conclude, hold
from .team_graph import run_graph
from .team_step import TeamStep
from .topology import BOARD, endless
from .workflow import EvaluatorStep

if TYPE_CHECKING:
    from .system import System

Script = Generator[None, Any, None]
Act = Generator[None, Any, Message | None]
Said = tuple[Seat, Message]
Answers = Generator[None, Any, list[Said]]


class TeamProcess(Process):
    """Members of a team, and the messages between them."""

    spec: TeamStep

    def __init__(self, system: "System", flow: Flow, name: str, spec: TeamStep) -> None:
        super().__init__(system, flow, name, spec)
        graph = spec.graph
        self.shared = spec.shared
        self.goes_round = bool(endless(graph))
        self.heard_by: dict[str, int] = dict(graph.in_degree())  # to how many others each listens
        roles: dict[str, str] = {node: graph.nodes[node]["role"] for node in graph}
        self.seats = {node: Seat(self.path, node, role) for node, role in roles.items() if role != BOARD}
        for source, target in graph.edges:
            if BOARD not in (source, target):
                self.seats[source].to.append(self.seats[target])
        self.entry = [self.seats[node] for node in graph.graph["entry"]]
        self.rounds = system.stream(f"{self.path}/rounds", spec.rounds)
        self.voice = Voice(system, self.path, spec)
        self.handing = system.draws.uniform(f"{self.path}/hand_off")
        self.taking = system.draws.uniform(f"{self.path}/to")
        self.stopping = system.draws.uniform(f"{self.path}/stop")
        self.stops = (spec.stop and spec.stop.chance) or 0.0
        judge = spec.stop and spec.stop.evaluator
        self.judge = self._judge(judge) if judge else None
        self.sent_slot, self.turn_slot = system.ledger.callee(), system.ledger.callee()
        self.channels: dict[tuple[int, int], Channel | None] = {}
        walks = {"single": self._walk, "chain": self._walk, "swarm": self._swarm}
        led = {"supervisor": self._delegate, "hierarchy": self._delegate}
        rounds = {"debate": self._debate, "blackboard": self._debate}
        kinds: dict[str, Callable[[Meeting, Branch], Answers]] = {**walks, **led, **rounds}
        self.kind = kinds.get(spec.team, partial(run_graph, self))

    def _judge(self, name: str) -> EvaluatorProcess:
        """Return what asks the evaluator after a round, as often as it takes: accepted leads to it, rejected nowhere."""
        data = {"evaluator": name, "rejected": DONE, "at_most": 10**9}
        judge = EvaluatorProcess(self.system, self.flow, f"{self.name}.stop", EvaluatorStep.model_validate(data))
        judge.accepted, judge.rejected = judge, None
        return judge

    def link(self) -> None:
        """Resolve what members run, and what comes next."""
        super().link()
        for seat in self.seats.values():
            seat.start = self.flow.begin_at(self.spec.members[seat.role])

    def connect(self) -> None:
        """Make the ways between the homes of members, once all are known."""
        super().connect()
        if self.judge is not None:
            self.judge.connect()
        for seat in self.seats.values():
            seat.home = home_of(seat.start)
            seat.briefed = not (self.spec.team in ("supervisor", "hierarchy") and seat not in self.entry)
        homes = self.system.homes
        for a, source in enumerate(homes):
            for b, target in enumerate(homes):
                if source != target:
                    name = f"{source}=>{target}/{self.path}"
                    self.channels[a, b] = self.system.channel(name, source, target, self.name, client="both")

    def run(self, branch: Branch) -> Walk:
        """Let the team work, and go on with its answer."""
        visit = self.enter(branch)
        if self.passes(branch, visit):
            return self.onward(branch, visit)
        outer, began = branch.open_span(), branch.time
        meeting = Meeting(branch, visit, self.spec.turns, self.shared)
        answers = yield from self.kind(meeting, branch)
        if not self.shared:
            for seat, answer in answers:
                yield from self.move(branch, self.sit(meeting, branch, seat).home, meeting.team.home, answer.tokens)
            members = list(meeting.desks[meeting.lane].values())
            conclude(meeting.team, [*members, *meeting.left_off(members)], [answer for _, answer in answers])
        branch.close_span(outer, self.step_account, began)
        return self.onward(branch, visit)

    # Members

    def turn(self, meeting: Meeting) -> bool:
        """Take one of the turns that are left; False where there is none."""
        if meeting.left is not None:
            if meeting.left == 0:
                if self.spec.at_turns == "fail":
                    raise TaskFailed(f"{self.path}: more than {self.spec.turns} turns")
                return False
            meeting.left -= 1
        return True

    def sit(self, meeting: Meeting, branch: Branch, seat: Seat, fresh: bool = False) -> Member:
        """Return the context of a member, for this branch to work on: what it knows already, or a `fresh` one."""
        desk = meeting.desks[branch.lane]
        member = desk.get(seat.name)
        if member is None:
            kept = meeting.desks[meeting.lane].get(seat.name)
            if fresh and kept is not None:
                meeting.replaced.append(kept)
            key = (branch.index, branch.lane, self.path, seat.name, meeting.visit)
            if kept is None or fresh:
                brief = meeting.brief if seat.briefed else None
                member = Member(meeting.team, brief, seat.home, key, self.system.prompts)
            else:
                member = kept.copy(key)
            desk[seat.name] = member
        return member

    def act(self, meeting: Meeting, branch: Branch, seat: Seat, taken: bool = False) -> Act:
        """Let a member act, in this branch; return what it has to say, or None where no turn is left (or has been taken)."""
        if not (taken or self.turn(meeting)):
            return None
        if self.shared:
            before = branch.state.tokens
            yield from self.flow.walk(branch, seat.start)
            return self.voice.say(branch, before)
        outside = branch.state
        member = self.sit(meeting, branch, seat)
        if member.due:  # it has not got yet what the team began with
            due, member.due = member.due, 0.0
            yield from self.move(branch, meeting.team.home, seat.home, due)
        before = member.tokens
        yield from self._inside(branch, member, self.flow.walk(branch, seat.start))
        outside.last_error = member.last_error
        if branch.lane == meeting.lane:
            member.leave(self.system.prompts)
        branch.state = member
        message = self.voice.say(branch, before)
        branch.state = outside
        return message

    def _inside(self, branch: Branch, member: Member, script: Generator[None, Any, Any]) -> Generator[None, Any, Any]:
        """Run a script with the context of a member."""
        outside: Context = branch.state
        member.excess, member.excess_coordination = outside.excess, outside.excess_coordination
        branch.state = member
        try:
            outcome = yield from script
        finally:
            branch.state = outside
        outside.excess, outside.excess_coordination = member.excess, member.excess_coordination
        return outcome

    # Messages

    def move(self, branch: Branch, source: int, target: int, tokens: float) -> Script:
        """Bring so many tokens from home to home."""
        channel = self.channels.get((source, target))
        if channel is not None:
            ordinal = branch.calls[self.sent_slot]
            branch.calls[self.sent_slot] = ordinal + 1
            yield from cross(channel, branch, tokens * self.system.bytes_per_token, ordinal)

    def where(self, meeting: Meeting, branch: Branch, seat: Seat) -> int:
        """Return the home of a member: where it last was."""
        member = meeting.desks[branch.lane].get(seat.name) or meeting.desks[meeting.lane].get(seat.name)
        return seat.home if member is None else member.home

    def send(self, meeting: Meeting, branch: Branch, seat: Seat, to: Sequence[Seat], message: Message) -> Script:
        """Bring a message from a member to others, one after the other. They take it in by `hear`."""
        branch.facts[AGENT_MESSAGES] += len(to)
        if not self.shared:
            home = self.where(meeting, branch, seat)
            for other in to:
                yield from self.move(branch, home, self.where(meeting, branch, other), message.tokens)

    def hear(self, meeting: Meeting, branch: Branch, to: Sequence[Seat], message: Message) -> None:
        """Let members take in what has come to them."""
        if not self.shared:
            for seat in to:
                self.sit(meeting, branch, seat).receive(message)

    def post(self, branch: Branch, home: int, message: Message | None) -> Script:
        """Bring what a parallel member has added to the shared context to where that is."""
        if self.shared and message is not None:
            yield from self.move(branch, branch.state.home, home, message.tokens)

    def gather(
        self,
        meeting: Meeting,
        branch: Branch,
        seats: Sequence[Seat],
        number: int,
        act: Callable[[Branch, Seat], Act],
        needed: int | None = None,
    ) -> Answers:
        """Let members act in parallel, the `number`-th time, and wait for as many as are needed; return what they said.

        Each takes a turn, those first that are written first. What one does that is late or cancelled is in nobody's context.
        """
        seats = [seat for seat in seats if self.turn(meeting)]
        if not seats:
            return []
        needed = self.spec.needed(len(seats)) if needed is None else needed
        join = Join(branch, needed, self.spec.cancels)
        words: dict[int, Said] = {}
        children = []
        for seat in seats:  # all forked before any runs
            children.append(branch.fork(lane(branch.lane, seat.fork, meeting.visit, number), branch.state.fork()))
            meeting.desks[children[-1].lane] = {}
        for child, seat in zip(children, seats, strict=True):
            if self.shared:
                child.state.diverge((branch.index, child.lane))
            join.add(child, until_join(child, self._part(child, seat, act, words), join))
        yield
        straggled(branch, join)
        in_time = set(join.arrived)
        arrived = [child for child in children if child in in_time]
        if self.shared:
            for child in children:
                child.state.detach()
            branch.state.join([child.state for child in arrived], self.system.prompts)
            hold(branch.state, [child.state for child in arrived])
        else:
            for child in arrived:
                meeting.take_over(branch.lane, child.lane, self.system.prompts)
        return [words[child.lane] for child in arrived if child.lane in words]

    def _part(self, branch: Branch, seat: Seat, act: Callable[[Branch, Seat], Act], words: dict[int, Said]) -> Script:
        home = branch.state.home
        message = yield from act(branch, seat)
        yield from self.post(branch, home, message)
        if message is not None:
            words[branch.lane] = seat, message

    # Walks

    def _walk(self, meeting: Meeting, branch: Branch) -> Answers:
        """One member after the other, each with what the one before has said."""
        answers: list[Said] = []
        for seat in self.seats.values():
            message = yield from self._next(meeting, branch, seat, answers)
            if message is None:
                break
            answers = [(seat, message)]
        return answers

    def _next(self, meeting: Meeting, branch: Branch, seat: Seat, answers: list[Said]) -> Act:
        """Hand over to a member, from the one that spoke last."""
        if not self.turn(meeting):
            return None
        for last, message in answers:
            yield from self.send(meeting, branch, last, [seat], message)
            self.hear(meeting, branch, [seat], message)
        return (yield from self.act(meeting, branch, seat, taken=True))

    def _swarm(self, meeting: Meeting, branch: Branch) -> Answers:
        """A member acts, and hands off to another or ends it."""
        seat: Seat | None = self.entry[0]
        answers: list[Said] = []
        while seat is not None:
            message = yield from self._next(meeting, branch, seat, answers)
            if message is None:
                break
            answers = [(seat, message)]
            seat = self._taker(branch, seat)
        return answers

    def _taker(self, branch: Branch, seat: Seat) -> Seat | None:
        """Draw who takes over."""
        ordinal = branch.calls[self.turn_slot]
        branch.calls[self.turn_slot] = ordinal + 1
        handed = self.handing.draw(branch.index, ordinal, branch.lane) < self.spec.hand_off
        given = self.spec.to
        weights = [given.get(other.role, 0.0) if given else 1.0 for other in seat.to]
        if not handed or not sum(weights):
            return None
        draw = self.taking.draw(branch.index, ordinal, branch.lane) * sum(weights)
        return next(other for other, total in zip(seat.to, accumulate(weights), strict=True) if draw < total)

    # Delegation

    def _count(self, branch: Branch, visit: int) -> int:
        return max(0, round(self.rounds.draw(branch.index, visit, branch.lane)))

    def _stop(self, meeting: Meeting, branch: Branch, answers: list[Said]) -> Generator[None, Any, bool]:
        """Return whether the team stops after this round."""
        if self.stops:
            ordinal = branch.calls[self.turn_slot]
            branch.calls[self.turn_slot] = ordinal + 1
            return self.stopping.draw(branch.index, ordinal, branch.lane) < self.stops
        judge = self.judge
        if judge is None:
            return False
        if self.shared:
            return (yield from judge.run(branch)) is not None
        desk = meeting.desks[meeting.lane]
        if "" not in desk:
            key = (branch.index, branch.lane, self.path, meeting.visit)
            desk[""] = Member(meeting.team, meeting.brief, judge.control.home, key, self.system.prompts)
        for _, message in answers:
            desk[""].receive(message)
        return (yield from self._inside(branch, desk[""], judge.run(branch))) is not None

    def _delegate(self, meeting: Meeting, branch: Branch) -> Answers:
        """The lead's orders, the members' reports, and what the lead makes of them, once or several times."""
        lead = self.entry[0]
        message = yield from self.act(meeting, branch, lead)
        answers: list[Said] = [] if message is None else [(lead, message)]
        for number in range(self._count(branch, meeting.visit)):
            if message is None:
                break
            message = yield from self._led(meeting, branch, lead, message, number)
            answers = answers if message is None else [(lead, message)]
            if message is not None and (yield from self._stop(meeting, branch, answers)):
                break
        return answers

    def _led(self, meeting: Meeting, branch: Branch, lead: Seat, order: Message, number: int) -> Act:
        """Those whom a lead leads work on its order, in parallel; then the lead works on what they report."""
        below = [seat for seat in lead.to if seat is not self._above(lead)]

        home = self.where(meeting, branch, lead)

        def work(child: Branch, seat: Seat) -> Act:
            child.facts[AGENT_MESSAGES] += 1
            if not self.shared:
                self.sit(meeting, child, seat, self.spec.fresh)
                yield from self.move(child, home, self.where(meeting, child, seat), order.tokens)
                self.hear(meeting, child, [seat], order)
            report = yield from self.act(meeting, child, seat, taken=True)
            if report is not None and seat.role == lead.role:
                merged = yield from self._led(meeting, child, seat, report, number)
                report = report if merged is None else merged
            if report is not None:
                child.facts[AGENT_MESSAGES] += 1
                if not self.shared:
                    yield from self.move(child, self.where(meeting, child, seat), home, report.tokens)
            return report

        reports = yield from self.gather(meeting, branch, below, number, work)
        for _, report in reports:
            self.hear(meeting, branch, [lead], report)
        return (yield from self.act(meeting, branch, lead))

    def _above(self, seat: Seat) -> Seat | None:
        """Return who leads a member: the first whom it may send to, as the tree is made from the top."""
        return None if seat in self.entry else next(other for other in seat.to if len(other.name) < len(seat.name))

    # Rounds

    def _debate(self, meeting: Meeting, branch: Branch) -> Answers:
        """All act, and hear one another; who judges has the last word, who controls a board one after each round."""
        last = self.seats.get("judge")
        chair = self.seats.get("controller")
        rounds = self._count(branch, meeting.visit)
        answers: list[Said] = []
        for number in range(rounds):
            final = number == rounds - 1
            found = yield from self.gather(meeting, branch, self.entry, number, self._speaker(meeting, final, last))
            answers = found or answers
            for seat, message in found:
                self.hear(meeting, branch, self._listeners(seat, final, last), message)
            if chair is not None and found:
                ruling = yield from self.act(meeting, branch, chair)
                answers = answers if ruling is None else [(chair, ruling)]
            if not found or final or (yield from self._stop(meeting, branch, answers)):
                break
        if last is not None and answers:
            verdict = yield from self.act(meeting, branch, last)
            answers = answers if verdict is None else [(last, verdict)]
        return answers

    def _listeners(self, seat: Seat, final: bool, last: Seat | None) -> list[Seat]:
        """Return who hears a member: after the last round, in which nobody answers any more, only who judges."""
        return [other for other in seat.to if other is last or not final]

    def _speaker(self, meeting: Meeting, final: bool, last: Seat | None) -> Callable[[Branch, Seat], Act]:
        """Return what a member does in a round: act, and send."""

        def speak(child: Branch, seat: Seat) -> Act:
            message = yield from self.act(meeting, child, seat, taken=True)
            if message is not None:
                if self.spec.team == "blackboard":
                    child.facts[AGENT_MESSAGES] += 1  # a post
                yield from self.send(meeting, child, seat, self._listeners(seat, final, last), message)
            return message

        return speak


def home_of(process: Process | None) -> int:
    """Return the place of the home in which a step begins; that of the orchestrator where it needs none."""
    if process is None:
        return 0
    if process.control is not None:
        return process.control.home
    if isinstance(process, WorkflowProcess):
        return home_of(process.flow.flows[process.spec.workflow].start)
    if isinstance(process, ForkProcess):
        return home_of(process.flow.begin_at(process.spec.fork[0]))
    if isinstance(process, TeamProcess):
        first = process.entry[0]
        return home_of(process.flow.begin_at(process.spec.members[first.role]))
    return 0
