"""What taking in modalities asks for: each one's way to the model, the step that brings them together, and what it keeps.

Branches meet as they do in a run, each at its mean time: a barrier waits for the one that is longest in the mean.

Leaves out: stragglers, which make a barrier longer than that; full queues; memory that is too small.
Checked: tests/test_bounds_media.py, against the utilization and the empty system's times of the simulator.
"""

from dataclasses import replace
from math import ceil, inf, log2
from typing import TYPE_CHECKING, Any

import numpy as np

from .demand_stages import stream_pieces
from .demand_tokens import Held, Letting
from .encoder import EncoderServer
from .perceive import Keeper, PerceiveProcess, Reader
from .perceive_step import Fusion, Keep
from .traffic import Vector

if TYPE_CHECKING:
    from .demand import Cost, Demand
    from .demand_tokens import TokenMeans
    from .intake import Intake
    from .perceive import Input
    from .traffic import Traffic

__all__ = ["Perception", "brings", "embeds", "letting"]

ALONE = "modalities that come over one link at once count as if each had it to itself: together they take longer"
LONGEST = "of parallel branches the one that is longest in the mean counts: stragglers take longer"
_NEVER = 1e-12  # visits
_PIECES = 64  # of a distribution, for the mean of what is not proportional to it


def tries(process: PerceiveProcess, intake: "Intake") -> tuple[float, float]:
    """Return the probability that a modality comes in, and how many attempts are lost in the mean before the one that counts."""
    errors = intake.spec.errors
    if process.spec.partial != "retry":
        return 1 - errors, 0.0
    attempts = intake.spec.attempts
    return 1 - errors**attempts, sum(errors**number for number in range(1, attempts))


def tokens_of(process: PerceiveProcess, one: "Input") -> float:
    """Return the tokens that one modality brings; of a stream, those of the groups that the step keeps."""
    spec, feed = one.intake.spec, one.feed
    if feed is None:
        return spec.amount.mean * spec.tokens
    number = stream_pieces(feed)[1]
    align, keep = process.spec.align.chosen[1], process.spec.keep
    if process.streams is not None and process.streams.in_time and isinstance(keep, Keep) and keep.last is not None:
        number = min(number, keep.last * max(1.0, getattr(align, "length", 0.0) * feed.spec.rate))
    return number * feed.spec.units * spec.tokens


def brings(counts: "TokenMeans", process: PerceiveProcess) -> float:
    """Return the tokens that a visit adds to the context, before any are let go of."""
    total = 0.0
    for one in process.inputs:
        tokens = tokens_of(process, one)
        if process.reader is not None:
            tokens = counts.output(counts.scenario.agents[process.spec.reader or ""].output)
        comes = tries(process, one.intake)[0] if process.spec.partial == "degrade" else 1.0
        total += comes * tokens
    return total


def embeds(traffic: "Traffic", lettings: dict[int, Letting]) -> dict[int, tuple[Vector, Vector]]:
    """Return the bytes of media that come with the next call of a server, beyond their tokens, and how many stay, by server.

    A call that writes a summary is the one that they came with, if there is one at that visit.
    """
    found: dict[int, tuple[Vector, Vector]] = {}
    places = len(traffic.nodes)
    for number, node in enumerate(traffic.nodes):
        process = node.process
        if not isinstance(process, PerceiveProcess) or process.reader is not None:
            continue  # a reader's answers stay, and no media
        size = sum(_embeds(process, one) for one in process.inputs)
        if size:
            comes, stays = found.setdefault(process.server.index, (np.zeros(places), np.zeros(places)))
            let_go = lettings.get(number)
            comes[number] = node.acts * size * (1 - (0.0 if let_go is None else let_go.summaries))
            stays[number] = node.acts * size * (1.0 if let_go is None else let_go.whole)
    return found


def _embeds(process: PerceiveProcess, one: "Input") -> float:
    """Return the bytes that one modality adds to a prompt beyond its tokens."""
    intake, tokens = one.intake, tokens_of(process, one)
    if not intake.spec.inline:
        return 0.0
    comes = tries(process, intake)[0] if process.spec.partial == "degrade" else 1.0
    return comes * max(0.0, tokens / intake.spec.tokens * intake.embedded - tokens * intake.per_token)


def letting(traffic: "Traffic", number: int, process: PerceiveProcess, brought: float) -> Letting | None:
    """Return what a step that brings `brought` tokens a visit lets go of there, by how often a task has been at it before."""
    keep, node = process.spec.keep, traffic.nodes[number]
    if not isinstance(keep, Keep) or not brought or traffic.visits[number] <= _NEVER:
        return None
    if keep.last is not None:
        before = traffic.after_others(number, keep.last)
        drops = float(before[-1])
        held = brought * float(before[1:].sum())
        return Letting(
            node.acts * drops,
            node.acts * brought * drops,
            node.acts * held,
            node.acts * brought * (1 - drops),
            1 - drops,
        )
    to = keep.summary or 0.0
    first = int(to // brought) + 1  # visits before the first summary
    before = traffic.after_others(number, first + 1)
    sums, more = float(before[first]), float(before[first + 1])
    changes = to - (first - 1) * brought  # the first summary, and what then comes, in place of what was there
    growth = node.acts * (brought * (1 - sums) + changes * (sums - more))
    held = node.acts * (brought * float(before[1 : first + 1].sum()) + changes * more)
    whole = 1 - sums - (first - 1) * (sums - more)  # the first summary takes the place of all but the newest
    return Letting(node.acts * sums, node.acts * (brought + to * sums) - growth, held, growth, whole, sums)


class Perception:
    """Costs of the `perceive` steps of a scenario."""

    def __init__(self, demand: "Demand") -> None:
        self.demand = demand
        self.notes = demand.notes

    def visit(self, number: int, process: PerceiveProcess) -> "Cost":
        """Return the cost of a visit."""
        cost = self.demand.empty()
        self.demand.control(cost, number, process.control)
        if len(process.inputs) > 1:
            self.notes[LONGEST] = None
        branches = [self.take_in(process, one) for one in process.inputs]
        links = [
            name for branch in branches for name, busy in branch.seconds.items() if busy and name in self.demand.latency
        ]
        if len(links) > len(set(links)):
            self.notes[ALONE] = None
        if process.reader is not None:
            branches = self._read(number, process, process.reader, branches)
        for branch in branches:
            for resource, seconds in branch.seconds.items():
                cost.serve(resource, seconds, branch.uses[resource])
        there = self._meet(process, cost, branches)
        tree = process.spec.fusion.hierarchical if isinstance(process.spec.fusion, Fusion) else None
        if tree is not None and there > 1:
            cost.time["inference"] += ceil(log2(there)) * tree.each.mean
            if not tree.each.is_constant:
                self.notes["a level of a hierarchical fusion counts as long as a pair in the mean"] = None
        if process.keeper is not None:
            self._keep(cost, number, process.keeper)
        return cost

    # One modality

    def take_in(self, process: PerceiveProcess, one: "Input") -> "Cost":
        """Return the cost of one modality's branch, with the attempts that it takes."""
        intake, demand = one.intake, self.demand
        spec = intake.spec
        comes, lost = tries(process, intake)
        if one.feed is None:
            attempt = self.attempt(intake, spec.amount.mean)
        else:
            attempt = self.encoding(intake, one.feed.spec.units)
        whole = demand.empty()
        given_up = 1 - comes if process.spec.partial == "degrade" else 0.0
        whole.add(attempt, 1 - given_up)
        whole.add(attempt, lost + given_up, category="recovery")
        if one.feed is not None:
            return demand.pipelines.stream(one.feed, whole, comes)
        if intake.encoder is not None:
            sent = demand.message(intake.representation, spec.amount.mean * spec.representation)
            whole.add(sent, comes)
        return whole

    def attempt(self, intake: "Intake", amount: float) -> "Cost":
        """Return the cost of bringing `amount` units to where they are encoded, and of encoding them."""
        spec, demand = intake.spec, self.demand
        cost = demand.message(intake.payload, amount * spec.bytes)
        cost.add(self.encoding(intake, amount))
        return cost

    def encoding(self, intake: "Intake", amount: float) -> "Cost":
        """Return the cost of preparing and encoding `amount` units that are there."""
        spec, demand = intake.spec, self.demand
        cost = demand.empty()
        preparing, before = spec.preprocess, 0.0
        if preparing is not None:
            before = preparing.latency.mean + preparing.per_unit.mean * amount
        if before and not intake.on_device:
            demand.burst(cost, "serialization", intake.host, before)
            before = 0.0
        if intake.encoder is not None:
            self.encode(cost, intake.encoder, self._seconds(intake.encoder, spec.amount, amount), before)
        return cost

    def encode(self, cost: "Cost", encoder: EncoderServer, seconds: float, before: float) -> None:
        """Encode for so long on the encoder's slots, or on the device of its model, after some preparation there."""
        cost.time["serialization"] += before
        cost.time["inference"] += seconds
        if not encoder.spec.shared:
            return
        server = encoder if encoder.model is None else encoder.model
        if server.pool is not None:
            cost.serve(server.path, before + seconds, 1.0)
            for limit in getattr(server.pool, "limits", ()):
                cost.serve(limit.name, 0.0 if limit.sized else 1.0, 1.0)

    def _seconds(self, encoder: EncoderServer, dist: Any, amount: float) -> float:
        """Return the mean seconds to encode an amount: by laws of kernels, over its distribution."""
        spec, time = encoder.spec, encoder.time
        if time is None:
            latency = 0.0 if spec.latency is None else spec.latency.mean
            return latency + spec.per_unit.mean * amount
        if dist.is_constant or amount != dist.mean:
            return time.encode(*spec.sequences(amount))
        amounts = [float(dist.distribution.quantile((piece + 0.5) / _PIECES)) for piece in range(_PIECES)]
        return sum(time.encode(*spec.sequences(one)) for one in amounts) / _PIECES

    def _read(self, number: int, process: PerceiveProcess, reader: Reader, branches: list["Cost"]) -> list["Cost"]:
        """Let the agent read each: the first that comes shows its server the context, the others find it shown."""
        demand = self.demand
        output = demand.counts.output(demand.scenario.agents[process.spec.reader or ""].output)
        held = demand.held.of(number, reader.call)
        found: list[Cost] = []
        for place in sorted(range(len(branches)), key=lambda place: branches[place].total):
            intake, tokens = process.inputs[place].intake, tokens_of(process, process.inputs[place])
            call = demand.empty()
            demand.sub_control(call, number, process.control, reader.control, tokens)
            has = replace(held, seen=held.tokens, fresh=0.0) if found else held
            call.add(demand.call(reader.call, replace(has, tokens=held.tokens + tokens), output))
            comes = tries(process, intake)[0] if process.spec.partial == "degrade" else 1.0
            branch = branches[place]
            branch.add(call, comes)
            found.append(branch)
        return found

    # All of them

    def _meet(self, process: PerceiveProcess, cost: "Cost", branches: list["Cost"]) -> int:
        """Add the time until all have come and are aligned, or patience is over; return how many have come."""
        each = 0.0 if process.spec.align.pairwise is None else process.spec.align.pairwise.each.mean
        branches = sorted(branches, key=lambda branch: branch.total)
        patience = inf if process.patience is None else process.patience
        if patience < inf:
            self.notes[f"{process.path}: those for which patience is lost count as done, so that less is demanded"] = (
                None
            )
        until = branches[0].total + patience
        now, path, there = 0.0, dict(branches[0].time), 0
        for branch in branches:
            total = branch.total
            if total > max(until, now):
                path["synchronization"] += max(0.0, until - now)
                break
            if total > now:
                now, path = total, dict(branch.time)
            path["synchronization"] += there * each
            now += there * each
            there += 1
        for name, seconds in path.items():
            cost.time[name] += seconds
        return there

    def _keep(self, cost: "Cost", number: int, keeper: Keeper) -> None:
        """Summaries of what earlier visits have brought."""
        demand = self.demand
        self.notes["what a step lets go of by `keep`, and what caches still hold then, is an estimate"] = None
        found = demand.lettings.get(number)
        if keeper.call is None or found is None or not found.summaries:
            return
        acts = demand.traffic.nodes[number].acts
        tokens = float(demand.tokens[number]) + found.growth / acts + found.tokens / acts
        has = Held(tokens, seen=float(demand.tokens[number]), media=float(demand.held.media[number]))
        cost.add(demand.call(keeper.call, has, keeper.to, "context"), found.summaries)
