"""Taking in modalities: the process of a `perceive` step, from the fork of its branches to the tokens that join the context.

Each copy of each modality has a branch of its own, whose lane follows from the modality's name, so that any subset of them meets
the same draws. It hands over what it brings at its end; the step takes those in the order in which they come, and its critical
path goes on from the one that it had to wait for.

What comes as a stream is brought together by `perceive_stream`.

Leaves out: lookups, memory and tools of the agent that reads in a late fusion; what branches of a fork have brought is
out of reach of `keep` once they have joined.
Checked: tests/test_perceive.py.
"""

from collections.abc import Callable, Generator
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from ..sim.engine.branch import Branch
from ..sim.engine.draws import Stream, lane
from ..sim.engine.relay import Piece, Relay, Stages
from .alignment import policy
from .context import DEGRADED, LATE_PIECES
from .control import Control
from .failure import TaskFailed
from .intake import Intake
from .media_stream import Feed
from .parallel import fork_number, lag
from .perceive_step import Fusion, Keep, PerceiveStep
from .perceive_stream import Streams
from .steps import Flow, Process, Walk

if TYPE_CHECKING:
    from .system import System

Script = Generator[None, Any, None]

# What a wait for other modalities is called, by kind of alignment.
WAITS = {"window": "align", "watermark": "watermark", "jitter_buffer": "jitter buffer"}


class Input(NamedTuple):
    """One copy of a modality at a step: its name there, its way in, what its lane is made of, and its stream if it is one."""

    label: str
    intake: Intake
    fork: int
    copy: int
    feed: Feed | None


class PerceiveProcess(Process):
    """Modalities side by side, and what brings them together."""

    spec: PerceiveStep
    control: Control
    inputs: list[Input]

    def __init__(self, system: "System", flow: Flow, name: str, spec: PerceiveStep) -> None:
        super().__init__(system, flow, name, spec)
        home = system.home(None, None)
        self.control = Control.of(system, self.path, home)
        self.reader = None if spec.reader is None else Reader(system, self.path, spec.reader)
        self.server: Any = system.servers[spec.model or next(iter(system.servers))]
        if self.reader is not None:
            self.server = self.reader.call.server
        self.inputs = [
            Input(
                modality if spec.copies == 1 else f"{modality}#{copy}",
                Intake.of(system, modality, self.server),
                fork_number(f"{self.path}/{modality}"),
                copy,
                None if system.scenario.modalities[modality].stream is None else Feed.of(system, modality, self.server),
            )
            for modality in spec.perceive
            for copy in range(spec.copies)
        ]
        self.patience = spec.patience
        self.degrades = policy(spec.align, spec.late) == "degrade"
        self.pairs = (
            None if spec.align.pairwise is None else Pairs(system, self.path, "align", spec.align.pairwise.each)
        )
        tree = spec.fusion.hierarchical if isinstance(spec.fusion, Fusion) else None
        self.levels = None if tree is None else Pairs(system, self.path, "fuse", tree.each)
        self.keeper = Keeper(system, self, home, spec.keep) if isinstance(spec.keep, Keep) else None
        account = system.ledger.account
        self.wait_account = account("synchronization", name, WAITS.get(spec.align.chosen[0], "wait"))
        self.align_account = account("synchronization", name, "align")
        self.fuse_account = account("inference", name, "fuse")
        self.branch_accounts = {one.label: account("structure", one.label, "take in") for one in self.inputs}
        self.degrading = spec.partial == "degrade"
        self.streams = Streams(self) if any(one.feed is not None for one in self.inputs) else None

    def connect(self) -> None:
        """Last touch, once every home is known."""
        super().connect()
        if self.reader is not None:
            self.reader.control.connect()

    def run(self, branch: Branch) -> Walk:
        """Take them in, and let the context have what they bring."""
        visit = self.enter(branch)
        if self.passes(branch, visit):
            return self.onward(branch, visit)
        self.count(branch)
        outer, began = branch.open_span(), branch.time
        if self.control.matters:
            yield from self.control.arrive(branch)
        before = branch.state.tokens
        if self.streams is None:
            yield from self._together(branch, visit)
        else:
            before = yield from self.streams.together(branch, visit)
        if self.keeper is not None:
            yield from self.keeper.keep(branch, before, visit)
        branch.close_span(outer, self.step_account, began)
        return self.onward(branch, visit)

    def _together(self, branch: Branch, visit: int) -> Script:
        """Fork a branch for each, and join those that come."""
        stages = Stages(branch, cancels=self.patience is not None)
        relay = Relay(len(self.inputs), self.wait_account)
        # All forked before any runs: none may begin with what another has done.
        children = [self.child(branch, one, visit) for one in self.inputs]
        for place, (child, one) in enumerate(zip(children, self.inputs, strict=True)):
            stages.add(child, self.child_script(child, place, stages, relay, self.whole(child, one)))
        there: list[int] = []  # places of those that have come, in that order
        waited: list[int] = []  # places of those that the step had to wait for
        failure = yield from self._gather(branch, visit, stages, relay, there, waited)
        yield from stages.close()
        if failure is not None:
            raise TaskFailed(failure)
        self.join(branch, children, sorted(there), there, children[waited[-1]] if waited else None)
        self.fuse(branch, visit, sorted(there))

    def child(self, branch: Branch, one: Input, visit: int) -> Branch:
        """Return the branch in which a modality is taken in."""
        child = branch.fork(lane(branch.lane, one.fork, visit, one.copy), branch.state.fork())
        child.state.diverge((branch.index, child.lane))
        return child

    def join(
        self, branch: Branch, children: list[Branch], there: list[int], over: list[int], last: Branch | None = None
    ) -> None:
        """Let the context have what the branches at the places `there` added.

        `over`: those that waited for one another, by end; `last`: whose path goes on, where that need not be the last of them.
        """
        if over:
            lag(branch, [children[place] for place in over], last)
        for child in children:
            child.state.detach()
        # In the order of the step, not of their ends: what the context becomes must not depend on who was faster.
        branch.state.join([children[place].state for place in there], self.system.prompts)

    def _gather(
        self, branch: Branch, visit: int, stages: Stages, relay: Relay, there: list[int], waited: list[int]
    ) -> Generator[None, Any, str | None]:
        """Take what the branches bring until all have, one has failed, or patience is over; return why the task fails."""
        until, first = inf, None
        for come in range(len(self.inputs)):
            aligned = self.pairs is not None and len(there) > 1
            ready = branch.time
            piece = yield from self._next(branch, stages, relay, until, None if aligned else first)
            if piece is None:
                missing = len(self.inputs) - come
                branch.facts[LATE_PIECES] += missing
                branch.facts[DEGRADED] += missing * self.degrades
                return None
            place, brought, failure = piece.payload
            if failure is not None:
                return str(failure)
            if not brought:
                branch.facts[DEGRADED] += 1
                continue
            if piece.time > ready:
                waited.append(place)
            if self.patience is not None and not there:
                until, first = piece.time + self.patience, piece
            for other in there if self.pairs is not None else ():
                labels = self.inputs[other].label, self.inputs[place].label
                branch.add(self.align_account, self.pairs.seconds(branch, visit, *labels))  # type: ignore[union-attr]
            there.append(place)
        return None

    def _next(
        self, branch: Branch, stages: Stages, relay: Relay, until: float, first: Piece | None
    ) -> Generator[None, Any, Piece | None]:
        """Take the next piece; None if none has come `until` then. What ended the wait is on the critical path.

        That is what was waited for, or the patience counted from the `first` (None: from what was done meanwhile).
        """
        ready = branch.time
        if relay.take(branch, until):
            yield
        piece = relay.piece
        if piece is not None:
            if piece.time > ready:
                stages.follow(piece)
        elif until > ready:
            if first is not None:
                stages.follow(first)
            branch.book(self.wait_account, ready if first is None else first.time, until)
        return piece

    def child_script(
        self, child: Branch, place: int, stages: Stages, relay: Relay, tokens: Generator[None, Any, float | None]
    ) -> Script:
        """One modality's branch: it hands over whether it brings any `tokens`, or why it failed, and ends."""
        brought, failure = False, None
        one = self.inputs[place]
        outer, began = child.open_span(), child.time
        try:
            brought = yield from self._take(child, tokens)
        except TaskFailed as failed:
            failure = str(failed)
            child.let_go()
        child.close_span(outer, self.branch_accounts[one.label], began)
        stages.arrive(child)
        relay.put(child, (place, brought, failure))
        yield  # over: nobody continues it

    def attempts(self, intake: Intake) -> int:
        """Return how often an encoding is tried."""
        return intake.spec.attempts if self.spec.partial == "retry" else 1

    def whole(self, child: Branch, one: Input) -> Generator[None, Any, float | None]:
        """Take in what comes with the request; return its tokens, None where it could not be encoded."""
        return one.intake.take(child, self.attempts(one.intake), self.degrading)

    def _take(self, child: Branch, taking: Generator[None, Any, float | None]) -> Generator[None, Any, bool]:
        """Take one in, and add its tokens to the branch's context, or the answer of who reads them; return whether it came."""
        tokens = yield from taking
        if tokens is None:
            return False
        child.state.tokens += tokens
        if self.reader is not None:
            yield from self.reader.read(child, tokens)
        return True

    def fuse(self, branch: Branch, visit: int, there: list[int]) -> None:
        """Fuse in pairs, level by level: a level is over with its slowest pair, and the others are work beside the path."""
        if self.levels is None:
            return
        labels = [self.inputs[place].label for place in there]
        while len(labels) > 1:
            pairs = list(zip(labels[::2], labels[1::2], strict=False))
            seconds = [self.levels.seconds(branch, visit, *pair) for pair in pairs]
            branch.add(self.fuse_account, max(seconds))
            branch.task.overlap_in(self.fuse_account, sum(seconds) - max(seconds))
            labels = [f"{a}+{b}" for a, b in pairs] + labels[len(labels) // 2 * 2 :]


class Pairs:
    """What a pair costs, drawn for each pair by its names: others beside it leave its draws alone."""

    def __init__(self, system: "System", path: str, what: str, each: Any) -> None:
        self.make: Callable[[str], Stream[float]] = lambda pair: system.stream(f"{path}/{what}/{pair}", each)
        self.streams: dict[tuple[str, str], Stream[float]] = {}

    def seconds(self, branch: Branch, visit: int, a: str, b: str) -> float:
        """Return the seconds of a pair at a visit, whichever of it came first."""
        pair = (a, b) if a < b else (b, a)
        if pair not in self.streams:
            self.streams[pair] = self.make("|".join(pair))
        return self.streams[pair].draw(branch.index, visit, branch.lane)


class Reader:
    """The agent that reads each modality in its own branch, of which only the answer is kept."""

    def __init__(self, system: "System", path: str, name: str) -> None:
        agent = system.scenario.agents[name]
        self.path = f"agents.{name}"
        server = system.servers[agent.model]
        home = system.home(agent.node, server)
        self.call = system.call(self.path, home, server, agent.prompt, agent.output, agent.priority)
        self.control = Control.of(system, self.path, home)
        self.account = system.ledger.account("structure", name, "invoke_agent")
        self.prompts = system.prompts

    def read(self, child: Branch, tokens: float) -> Script:
        """Let the agent read `tokens`, the newest of the branch's context; its answer then takes their place."""
        outer, began = child.open_span(), child.time
        if self.control.matters:
            yield from self.control.arrive(child)
        yield from self.call.perform(child)
        child.close_span(outer, self.account, began)
        child.state.cut(child.state.base, tokens, self.prompts, ("read", child.index, child.lane))


class Keeper:
    """What of earlier visits stays in the context."""

    def __init__(self, system: "System", process: PerceiveProcess, home: int, keep: Keep) -> None:
        self.slot = process.slot
        self.prompts = system.prompts
        self.last = keep.last
        self.to = keep.summary or 0.0
        self.call = None
        if keep.summary is not None:
            server, caller = process.server, f"{process.path}/summarize"
            line = system.line(caller, home, server.path, server.node)
            output = system.draws.stream(f"{caller}/output", keep.summary)
            self.call = system.new_call(caller, server, line, 0.0, output, system.homes[home])
            system.prompts.append(0.0)
            self.call.books_under(system, "summarize")

    def keep(self, branch: Branch, before: float, visit: int) -> Script:
        """Note what this visit brought behind the first `before` tokens, and let older ones go."""
        state = branch.state
        old = [one for one in state.brought if one.slot == self.slot]
        state.bring(self.slot, before)
        if self.call is not None:
            if sum(one.tokens for one in old) <= self.to:
                return
            at = state.tokens
            yield from self.call.perform(branch)
            state.bring(self.slot, at)
        elif len(old) < (self.last or 0):
            return
        else:
            old = old[: len(old) + 1 - (self.last or 0)]
        for number, one in enumerate(old):
            key = ("left", branch.index, branch.lane, self.slot, visit, number)
            state.drop(one, self.prompts, key)
