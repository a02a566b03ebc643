"""What comes piece by piece asks for: streams that a step takes in, and the stages of a pipeline.

Times are those of pieces in the mean: a stage is over when the last piece has passed it, or when it has worked off all since the
first, whichever is later. Resources are asked for every piece.

Leaves out: jitter and stragglers beyond their means; windows, watermarks and buffers of an alignment, and what they drop; what a
barge-in spares the stages that it cancels.
Checked: tests/test_bounds_media.py.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .demand_tokens import Held
from .pipeline import PipelineProcess
from .stages import AgentStage, Listening, ServiceStage
from .traffic import Turns

if TYPE_CHECKING:
    from ..sim.engine.distributions import TokensDist
    from .agent_step import AgentProcess
    from .demand import Cost, Demand
    from .demand_tokens import TokenMeans
    from .media_stream import Feed
    from .modality import MediaStream

__all__ = ["Flow", "Pipelines", "flows", "stream_pieces"]

_PIECES = 256  # of a distribution of lengths
_ONCE = Turns(1.0, 0.0, 1.0, 0.0, {})


def pieces(stream: "MediaStream") -> float:
    """Return the mean number of pieces of a stream."""
    length: Any = stream.length
    lengths: list[float] = [float(length.mean)]
    if not length.is_constant:
        lengths = [float(length.distribution.quantile((number + 0.5) / _PIECES)) for number in range(_PIECES)]
    return sum(map(stream.pieces, lengths)) / len(lengths)


def stream_pieces(feed: "Feed") -> tuple[float, float]:
    """Return how many pieces a stream sends in the mean, and how many of them arrive."""
    sent = pieces(feed.spec)
    return sent, sent * (1 - feed.spec.loss)


def chunks_of(output: float, chunk: "TokensDist", fixed: bool) -> float:
    """Return the mean number of chunks of an output, which is always the same where it is `fixed`; the last is cut short.

    Else it is what renewals need to cover it (W. L. Smith, Proc. Royal Society of Edinburgh A 64, 1954).
    """
    spread = 0.0 if chunk.is_constant else chunk.distribution.cv
    if fixed and not spread:
        return float(max(1, math.ceil(output / chunk.mean)))
    if not math.isfinite(spread):
        spread = 0.0  # there is no such mean
    return max(1.0, output / chunk.mean + 0.5 * (1 + spread**2))


@dataclass(frozen=True)
class Flow:
    """What a stage takes and makes in a turn: pieces and units, and the tokens that it adds to the context."""

    taken: float
    units: float
    made: float
    units_made: float
    growth: float


def flows(counts: "TokenMeans", process: PipelineProcess) -> list[Flow]:
    """Return what goes through each stage of a pipeline, but for playing."""
    found: list[Flow] = []
    number, units = 0.0, counts.request
    streaming = process.spec.streaming
    for place, worker in enumerate(process.workers):
        if isinstance(worker, Listening):
            stream = worker.stream
            assert stream.length is not None
            sent = pieces(stream) * (1 - stream.loss) if streaming else 1.0
            made = Flow(0.0, 0.0, sent, stream.length.mean * stream.rate * stream.units * (1 - stream.loss), 0.0)
        elif isinstance(worker, ServiceStage):
            whole = not place or worker.takes_whole or not streaming
            calls = 1.0 if whole else number
            spec = process.spec.pipeline[place]
            growth = calls * counts.result(worker.service) + units * spec.makes.mean
            made = Flow(calls, units, calls, growth or units, growth)
        else:
            assert isinstance(worker, AgentStage)
            agent: AgentProcess = worker.agent
            drawn = counts.scenario.agents[agent.spec.agent].output
            output = counts.output(drawn)
            chunk = process.spec.pipeline[place].chunk
            chunks = (
                1.0
                if chunk is None or not streaming
                else chunks_of(output, chunk, fixed=drawn != "trace" and drawn.is_constant)
            )
            heard = units * worker.tokens if place else 0.0
            made = Flow(1.0, units, chunks, output, heard + counts.before(agent) + output)
        found.append(made)
        number, units = made.made, made.units_made
    return found


def longer(*costs: "Cost") -> "Cost":
    """Return the one that takes longest."""
    return max(costs, key=lambda cost: cost.total)


def behind(first: "Cost", *others: tuple["Cost", float]) -> "Cost":
    """Return the time of one and then others, each so many times, without what they ask of resources."""
    made = type(first)()
    for cost, times in ((first, 1.0), *others):
        for name, seconds in cost.time.items():
            made.time[name] += times * seconds
    return made


class Pipelines:
    """Costs of what comes piece by piece."""

    def __init__(self, demand: "Demand") -> None:
        self.demand = demand

    def stream(self, feed: "Feed", attempt: "Cost", tried: float) -> "Cost":
        """Return the cost of a stream: each piece sent, and of those that arrive each encoded by `attempt`, with all its tries."""
        demand, spec, intake = self.demand, feed.spec, feed.intake
        sent, arriving = stream_pieces(feed)
        whole = demand.empty()
        if not sent:
            return whole
        payload = demand.message(intake.payload, feed.size)
        moved = demand.message(intake.representation, spec.units * intake.spec.representation)
        for part, times in ((payload, sent), (attempt, arriving), (moved, arriving * tried)):
            demand.add_beside(whole, part, times, 0.0)
        assert spec.length is not None
        first, begun, over = behind(payload), demand.empty(), demand.empty()
        first.time["communication"] += spec.jitter.mean
        waits, length = "human" if spec.source == "person" else "synchronization", spec.length.mean
        begun.time[waits], over.time[waits] = min(length, feed.period), length
        path = longer(behind(over, (first, 1.0), (attempt, 1.0)), behind(begun, (first, 1.0), (attempt, arriving)))
        for name, seconds in behind(path, (moved, 1.0)).time.items():
            whole.time[name] += seconds
        demand.notes[
            "streams count as over with their last piece: windows, buffers and what these drop are left out"
        ] = None
        return whole

    def visit(self, number: int, process: PipelineProcess) -> "Cost":
        """Return the cost of a visit of a pipeline."""
        demand, spec = self.demand, process.spec
        demand.notes[
            f"{process.path}: stages overlap by pieces as long as in the mean; jitter makes them take longer"
        ] = None
        cost, asked = demand.empty(), demand.empty()
        if process.control is not None:
            demand.control(cost, number, process.control)
        first = last = end = demand.empty()
        tokens, home = float(demand.tokens[number]), None
        listening = demand.empty()
        for place, (worker, flow) in enumerate(zip(process.workers, flows(demand.counts, process), strict=True)):
            if isinstance(worker, Listening):
                first, last, end, listening = self._listen(asked, process, worker, flow)
            elif isinstance(worker, ServiceStage):
                more = spec.pipeline[place].per_unit.mean
                first, last = self._serve(asked, worker, flow, more, first, last if flow.taken > 1 else end)
                end = longer(last, end)  # it is told that no more comes
            else:
                assert isinstance(worker, AgentStage)
                chunk = spec.pipeline[place].chunk if spec.streaming else None
                first, last = self._think(asked, number, worker, flow, (tokens, home), end, chunk)
                end, home = last, worker.home
            tokens += flow.growth
        played = self._played(process, flow)
        whole = longer(end, behind(last, (played, 1 / max(1.0, flow.made))), behind(first, (played, 1.0)))
        turns = self._interrupted(process, cost, first, listening, whole.total - first.total)
        demand.add_beside(cost, asked, 1 + turns, 0.0)
        for name, seconds in whole.time.items():
            cost.time[name] += seconds
        return cost

    def _listen(
        self, asked: "Cost", process: PipelineProcess, worker: Listening, flow: Flow
    ) -> tuple["Cost", "Cost", "Cost", "Cost"]:
        """Return when the first and the last piece are there, when the turn is over, and what goes by until then anyhow."""
        demand, stream = self.demand, worker.stream
        assert stream.length is not None
        intake = worker.intake
        errors, attempts = intake.spec.errors, intake.spec.attempts
        one = demand.media.attempt(intake, flow.units_made / flow.made if flow.made else 0.0)
        comes = 1 - errors**attempts
        piece = demand.empty()
        piece.add(one, comes)
        piece.add(one, sum(errors**tried for tried in range(1, attempts + 1)), category="recovery")
        piece.add(
            demand.message(intake.representation, flow.units_made / max(flow.made, 1e-9) * intake.spec.representation),
            comes,
        )
        demand.add_beside(asked, piece, flow.made, 0.0)
        piece = behind(piece)
        piece.time["communication"] += stream.jitter.mean
        heard, silence, begun = demand.empty(), demand.empty(), demand.empty()
        name = "human" if stream.source == "person" else "synchronization"
        heard.time[name] += stream.length.mean
        begun.time[name] += min(stream.length.mean, 1 / stream.rate) if process.spec.streaming else stream.length.mean
        silence.time["synchronization"] += process.spec.endpoint.mean
        told = demand.message(intake.payload, 0.0) if worker.ends_by_silence else demand.empty()
        demand.add_beside(asked, told, 1.0, 0.0)
        last, over = behind(heard, (piece, 1.0)), behind(heard, (silence, 1.0))
        return behind(begun, (piece, 1.0)), last, longer(last, behind(over, (told, 1.0))), over

    def _serve(
        self, asked: "Cost", worker: ServiceStage, flow: Flow, per_unit: float, first: "Cost", last: "Cost"
    ) -> tuple["Cost", "Cost"]:
        """Return when a service has made its first piece, and its last."""
        demand = self.demand
        units = flow.units / flow.taken if flow.taken else 0.0
        call = demand.service(worker.service, worker.line, per_unit * units)
        demand.add_beside(asked, call, flow.taken, 0.0)
        if flow.taken <= 1:
            over = behind(last, (call, 1.0))
            return over, over
        return behind(first, (call, 1.0)), longer(behind(last, (call, 1.0)), behind(first, (call, flow.taken)))

    def _think(
        self,
        asked: "Cost",
        number: int,
        worker: AgentStage,
        flow: Flow,
        has: tuple[float, int | None],
        start: "Cost",
        chunk: Any,
    ) -> tuple["Cost", "Cost"]:
        """Return when an agent has handed on its first piece, and its last; it `has` tokens of context, and control at a home."""
        demand, agent = self.demand, worker.agent
        tokens, home = has
        before = demand.empty()
        again = home is not None or demand.traffic.nodes[number].process.control is not None
        demand.dispatch(before, number, agent.control, 0.0 if again and agent.control.every_task else 1.0)
        if home is None:
            demand.come(before, number, agent.control, brought=tokens - float(demand.tokens[number]))
        elif home != worker.home:
            before.add(demand.message(agent.control.channels[home], tokens * agent.control.per_token))
        if agent.lookup is not None:
            before.add(demand.service(agent.lookup.service, agent.lookup.line))
        if agent.memory is not None:
            demand.remember(before, agent.memory, number, _ONCE, flow.growth)
        begins = tokens + flow.growth - flow.units_made
        held = Held(begins, seen=tokens)
        if home is None:
            known = demand.held.of(number, agent.call)
            held = Held(begins, known.known, known.prompted, known.seen, known.cached)
        call = worker.streamed if chunk is not None else agent.call
        whole, each = demand.call(call, held, flow.units_made), flow.units_made / flow.made
        demand.add_beside(asked, before, 1.0, 0.0)
        demand.add_beside(asked, whole, 1.0, 0.0)
        if agent.slots is not None:
            asked.serve(f"agents.{agent.spec.agent}", before.total + whole.total, 1.0)
        over = behind(start, (before, 1.0), (whole, 1.0))
        if chunk is None:
            return over, over
        sent = demand.message(worker.channel, each * call.per_token)
        demand.add_beside(asked, sent, flow.made, 0.0)
        begun = demand.call(call, held, min(each, flow.units_made))
        return behind(start, (before, 1.0), (begun, 1.0), (sent, 1.0)), behind(over, (sent, 1.0))

    def _played(self, process: PipelineProcess, flow: Flow) -> "Cost":
        """Return how long the answer is played."""
        last, played = process.spec.pipeline[-1], self.demand.empty()
        if last.play is not None:
            played.time["human"] += flow.made * last.play.mean + flow.units_made * last.per_unit.mean
        return played

    def _interrupted(
        self, process: PipelineProcess, cost: "Cost", first: "Cost", listening: "Cost", length: float
    ) -> float:
        """Add the turns that are interrupted; return how many those are in the mean."""
        barge_in = process.barge_in
        if barge_in is None:
            return 0.0
        chance = barge_in.chance * float(barge_in.after.distribution.cdf(length))
        turns = sum(chance**number for number in range(1, barge_in.at_most + 1))
        if turns:
            self.demand.notes[f"{process.path}: work that a barge-in cancels counts as done"] = None
        for name, seconds in first.time.items():
            kept = min(seconds, listening.time[name])
            cost.time[name] += turns * kept
            cost.time["recovery"] += turns * (seconds - kept)
        cost.time["human"] += turns * min(barge_in.after.mean, length)
        return turns
