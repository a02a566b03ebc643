"""The stages of a pipeline as processes: what each does with the pieces that it is handed, and how its own get to the next.

Every stage runs in a branch of its own. What is on its way to the next stage travels in a branch of its own, too, so that several
pieces can be on their way at once. What stages that overlap add to the context follows one another in their order; one that waits
for the whole of what came before begins with all of it.

Leaves out: a jitter buffer: pieces that are listened to are worked on in the order in which they come; polling for a streamed
answer: it is pushed.
Checked: tests/test_pipeline.py.
"""

import copy
from collections.abc import Callable, Generator
from itertools import accumulate, count, takewhile
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ..sim.engine.branch import Branch
from ..sim.engine.draws import lane
from ..sim.engine.relay import Piece, Relay, Stages
from .agent_step import AgentProcess
from .context import DEGRADED, LOST_PIECES, PIECES, Context
from .line import cross
from .media_stream import Feed
from .pipeline_step import Stage
from .service import ZERO_TIME, Service
from .steps import Flow, retriever
from .workflow import AgentStep

if TYPE_CHECKING:
    from .model_call import ModelCall
    from .network import Channel
    from .system import System

__all__ = ["AgentStage", "Inlet", "Listening", "Portion", "ServiceStage", "Turn", "Worker"]

Script = Generator[None, Any, None]


class Portion(NamedTuple):
    """What a piece holds: its number among those of its stage, and its size in units."""

    number: int
    units: float


class Failed(NamedTuple):
    """Handed over in place of a piece: the stage has failed."""

    reason: str


class Inlet:
    """Where a stage takes pieces: in the order in which they come, or (`ordered`) in that of their numbers."""

    def __init__(self, account: int, ordered: bool) -> None:
        self.relay = Relay(1, account)
        self.ordered = ordered
        self.early: dict[int, Piece] = {}  # those that have overtaken others
        self.due = 0

    def take(self, consumer: Branch, until: float = inf) -> Generator[None, Any, Piece | None]:
        """Take the next piece, or None, as `Relay.take` does. Whose path the consumer goes on from is for it to say."""
        while True:
            if self.due in self.early:
                self.due += 1
                return self.early.pop(self.due - 1)
            if self.relay.take(consumer, until):
                yield
            piece = self.relay.piece
            if piece is None or not self.ordered or isinstance(piece.payload, Failed):
                return piece
            self.early[piece.payload.number] = piece

    def receive(self, consumer: Branch) -> Generator[None, Any, Portion | None]:
        """Take the next piece, and follow what the consumer had to wait for; None once there are no more."""
        ready = consumer.time
        piece = yield from self.take(consumer)
        released = piece or self.relay.closing
        consumer.time = ready  # also where it has seen a piece that overtook another
        if released is not None and released.time > ready:
            consumer.follow(released)
        return None if piece is None else piece.payload

    def whole(self, consumer: Branch) -> Generator[None, Any, float]:
        """Wait until all has come; return how much that is."""
        ready, units = consumer.time, 0.0
        while True:
            piece = yield from self.take(consumer)
            if piece is None:
                break
            units += piece.payload.units
        consumer.time = ready
        closing = self.relay.closing
        assert closing is not None
        if closing.time > ready:
            consumer.follow(closing)
        return units


class Turn:
    """One run through the stages of a pipeline: their branches, and the context that they make."""

    def __init__(self, system: "System", branch: Branch, streaming: bool, account: int) -> None:
        self.system = system
        self.streaming = streaming
        self.began = branch.time
        self.heard = branch.time  # when the last piece of what is listened to was captured
        self.stages = Stages(branch)
        self.out = Inlet(account, ordered=True)
        self.context: Context = branch.state.fork()
        self.group: list[Branch] = []  # stages that overlap, in order
        self.flights: list[Branch] = []

    def enter(self, child: Branch, whole: bool) -> None:
        """A stage begins: after all that came before it, or beside the one before."""
        if whole:
            self.regroup()
        child.state = self.context.fork()
        child.state.diverge((child.index, child.lane))
        self.group.append(child)

    def regroup(self) -> None:
        """The stages so far are over: the context goes on from what they have added."""
        if not self.group:
            return
        for child in self.group:
            child.state.detach()
        head = self.group[0].state  # an agent is always the first of a group: it is where control is
        self.context.join([child.state for child in self.group], self.system.prompts)
        self.context.home, self.context.held = head.home, head.held[:]
        self.context.last_tool = head.last_tool
        self.group = []

    def hand(
        self,
        producer: Branch,
        inlet: Inlet,
        portion: Portion,
        at: float | None = None,
        parts: list[float] | None = None,
    ) -> None:
        """Hand a piece on, with nothing between producer and consumer."""
        producer.facts[PIECES] += 1
        inlet.relay.put(producer, portion, at, parts)

    def send(
        self,
        producer: Branch,
        inlet: Inlet,
        portion: Portion,
        at: float,
        parts: list[float],
        way: Callable[[Branch], Any],
    ) -> None:
        """Let a piece that was made at `at` (s), at the end of a path of `parts`, go its `way`, which may lose it."""
        number = lane(producer.lane, 0, 0, portion.number)
        flight = producer.depart(number, self.context, at, parts)
        inlet.relay.producers += 1
        self.flights.append(flight)
        self.stages.add(flight, self._fly(flight, inlet, portion, way(flight)))

    def _fly(
        self, flight: Branch, inlet: Inlet, portion: Portion, way: Generator[None, Any, bool]
    ) -> Generator[None, Any, None]:
        if (yield from way):
            self.hand(flight, inlet, portion)
        self.stages.arrive(flight)
        inlet.relay.end(flight)
        yield  # over: nobody continues it

    def fail(self, child: Branch, reason: str) -> None:
        """A stage has failed: its parent is to know."""
        self.out.relay.put(child, Failed(reason))


class Worker(Protocol):
    """A stage put together."""

    ordered: bool  # whether the pieces that it makes may overtake one another, but must not

    def work(self, child: Branch, turn: Turn, source: Inlet | None, sink: Inlet) -> Script:
        """Take what comes from `source` (None: it is the first), and put what it makes into `sink`."""
        ...

    def connect(self) -> None:
        """Last touch, once every home is known."""
        ...


class Listening:
    """A modality's stream as it is made, piece by piece on its way to the stage that works on it."""

    ordered = False

    def __init__(self, system: "System", path: str, name: str, target: Any, endpoint: Any) -> None:
        self.feed = feed = Feed.of(system, name, target)
        self.stream, self.intake = feed.spec, feed.intake
        self.capture_account = feed.capture_account
        self.silence = system.stream(f"{path}/endpoint", endpoint)
        self.ends_by_silence = endpoint != ZERO_TIME
        self.endpoint_account = system.ledger.account("synchronization", name, "endpointing")

    def connect(self) -> None:
        """Nothing to do."""

    def work(self, child: Branch, turn: Turn, _source: Inlet | None, sink: Inlet) -> Script:
        """Capture, send what is not lost, wait for the silence at the end, and send that there was one."""
        stream, feed, began, index = self.stream, self.feed, child.time, child.index
        length = feed.length.draw(index, 0, child.lane)
        last, units, number = 0.0, 0.0, 0
        for place in range(stream.pieces(length)):
            time = stream.captured(place, length)
            child.book(self.capture_account, child.time, began + time)
            share, last = (time - last) * stream.rate, time
            if feed.losing is not None and feed.losing.draw(index, place, child.lane) < stream.loss:
                child.facts[LOST_PIECES] += 1
                continue
            units += share * stream.units
            if turn.streaming:
                if child.time > child.sim.now:
                    child.settle()
                    yield
                self._send(child, turn, sink, Portion(number, units), place)
                units, number = 0.0, number + 1
        turn.heard = child.time
        if units:
            self._send(child, turn, sink, Portion(number, units), 0)
        if self.ends_by_silence:
            child.add(self.endpoint_account, self.silence.draw(index, 0, child.lane))
            if self.intake.payload is not None:
                turn.send(child, sink, Portion(number + 1, 0.0), child.time, child.parts[:], self._tell)

    def _send(self, child: Branch, turn: Turn, sink: Inlet, portion: Portion, place: int) -> None:
        late = self.feed.jitter.draw(child.index, place, child.lane)
        turn.send(child, sink, portion, child.time, child.parts[:], lambda flight: self._bring(flight, portion, late))

    def _tell(self, flight: Branch) -> Generator[None, Any, bool]:
        """Tell who works on the pieces that there has been silence; that holds nothing to work on."""
        yield from cross(self.intake.payload, flight, 0.0, 0)
        return False

    def _bring(self, flight: Branch, portion: Portion, late: float) -> Generator[None, Any, bool]:
        """Bring a piece to who works on it; return whether it came."""
        intake = self.intake
        flight.add(self.feed.jitter_account, late)
        came = yield from intake.tried(
            flight, intake.spec.attempts, True, lambda again: intake.attempt(flight, portion.units, again)
        )
        flight.facts[DEGRADED] += not came
        return came


class ServiceStage:
    """Calls of a tool or a retriever, from where the stage before hands its pieces over."""

    ordered = False

    def __init__(self, system: "System", path: str, spec: Stage, home: int | None) -> None:
        device = False
        if spec.tool is not None:
            self.service: Service = system.service("tools", spec.tool, system.scenario.tools[spec.tool])
            device = system.scenario.tools[spec.tool].device
        else:
            assert spec.retriever is not None
            self.service = retriever(system, spec.retriever)
        if home is None:
            home = system.home(None, system.beside(self.service.node) if device else None)
        self.home = home
        self.line = system.line(path, home, self.service.path, self.service.node)
        self.per_unit = system.stream(f"{path}/per_unit", spec.per_unit)
        self.makes = system.stream(f"{path}/makes", spec.makes)
        self.takes_whole = spec.whole

    def connect(self) -> None:
        """Nothing to do."""

    def work(self, child: Branch, turn: Turn, source: Inlet | None, sink: Inlet) -> Script:
        """Call it for each piece, or once."""
        if source is None or self.takes_whole or not turn.streaming:
            units = turn.context.tokens if source is None else (yield from source.whole(child))
            turn.enter(child, whole=True)
            turn.hand(child, sink, (yield from self._call(child, Portion(0, units), 0.0)))
            return
        before = 0.0
        for number in count():
            portion = yield from source.receive(child)
            if portion is None:
                return
            if not number:
                turn.enter(child, whole=False)
            turn.hand(child, sink, (yield from self._call(child, Portion(number, portion.units), before)))
            before += portion.units

    def _call(self, child: Branch, portion: Portion, before: float) -> Generator[None, Any, Portion]:
        """Make a call, after `before` units of the turn; return what it makes of the piece."""
        state, held = child.state, child.state.tokens
        index, lane_, units = child.index, child.lane, portion.units
        yield from self.service.call(child, self.line, more=self.per_unit.draw(index, 0, lane_) * units)
        # Rounded over the turn: pieces smaller than a token would make none.
        each = self.makes.draw(index, 0, lane_)
        state.tokens += round((before + units) * each) - round(before * each)
        return Portion(portion.number, (state.tokens - held) or units)


class AgentStage:
    """A turn of an agent, who hands on its answer as it comes."""

    ordered = True

    def __init__(self, system: "System", flow: Flow, name: str, spec: Stage, tokens: float) -> None:
        assert spec.agent is not None
        self.agent = AgentProcess(system, flow, name, AgentStep.model_validate({"agent": spec.agent}))
        self.home = self.agent.home
        self.chunk = None if spec.chunk is None else system.stream(f"{self.agent.path}/chunk", spec.chunk)
        self.tokens = tokens  # of a unit of what it listens to itself
        self.account = system.ledger.account("structure", spec.agent, "invoke_agent")
        self.streamed: ModelCall = self.agent.call
        self.channel: Channel | None = None  # which its answer takes

    def connect(self) -> None:
        """Make the call whose answer comes back in pieces rather than at its end."""
        self.agent.control.connect()
        call = self.agent.call
        self.channel = call.response
        self.streamed = copy.copy(call)
        self.streamed.response = None
        self.streamed.line = copy.copy(call.line)
        self.streamed.line.response = self.streamed.line.poll = None

    def work(self, child: Branch, turn: Turn, source: Inlet | None, sink: Inlet) -> Script:
        """Take a turn once all is there, and hand on the answer."""
        units = 0.0
        if source is not None:
            units = yield from source.whole(child)
        turn.enter(child, whole=True)
        child.state.tokens += round(units * self.tokens)
        outer, began = child.open_span(), child.time
        yield from self.agent.turn(child, lambda own: self._think(own, turn, sink))
        child.close_span(outer, self.account, began)

    def _think(self, child: Branch, turn: Turn, sink: Inlet) -> Script:
        """Make the call, and hand on each chunk when it is there, or the answer at its end."""
        if self.chunk is None or not turn.streaming:
            yield from self.agent.call.perform(child)
            turn.hand(child, sink, Portion(0, child.state.output))
            return
        told, numbers = 0.0, count()

        def emit(tokens: float, time: float, parts: list[float]) -> None:
            nonlocal told
            portion = Portion(next(numbers), tokens - told)
            told = tokens
            if self.channel is None:
                turn.hand(child, sink, portion, time, parts)
            else:
                turn.send(child, sink, portion, time, parts, lambda flight: self._bring(flight, portion))

        yield from self.streamed.stream(child, lambda output: self._marks(child, output), emit)

    def _marks(self, child: Branch, output: float) -> list[float]:
        """Return at which tokens of the output a chunk is over."""
        chunk = self.chunk
        assert chunk is not None
        sizes = (chunk.draw(child.index, number, child.lane) for number in count())
        return list(takewhile(lambda mark: mark < output, accumulate(sizes)))

    def _bring(self, flight: Branch, portion: Portion) -> Generator[None, Any, bool]:
        """Bring a chunk to where the agent is."""
        yield from cross(self.channel, flight, portion.units * self.streamed.per_token, 0)
        return True
