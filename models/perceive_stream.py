"""Bringing streams together: how a `perceive` step takes in modalities of which some come piece by piece.

Every stream has a branch for its source and one for its encoder (`media_stream`), every modality that comes with the request one
(`intake`). All hand over to one relay, from which the step tells its aligner what comes. The step is over with the event that
released the last group: its critical path is that of the piece that did it, or that had set the timer; what follows that piece is
synchronization. What is then still under way is cancelled.

By `barrier` and `pairwise` all modalities are sources, those with the request of one piece. The other kinds align the streams only,
and what comes with the request is waited for beside them. In a late fusion a stream is read when it is over, and is one piece, too.

Leaves out: work between the groups of one visit, such as calls of a model for each window; a fusion of each window (`hierarchical`
fuses once, at the end).
Checked: tests/test_perceive_streams.py, tests/test_bands_media.py.
"""

from collections import deque
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from ..sim.engine.branch import Branch
from ..sim.engine.relay import Piece, Relay, Stages
from .aligner import Group, Source
from .aligners import aligner
from .alignment import ONE_GROUP
from .context import DEGRADED, LATE_PIECES, LOST_PIECES, PIECES
from .failure import TaskFailed
from .media_stream import Ended, Taking, source_lane
from .perceive_step import Keep, PerceiveStep

if TYPE_CHECKING:
    from .perceive import PerceiveProcess

__all__ = ["Streams"]

Script = Generator[None, Any, None]


class Gathering:
    """What has come at one visit, and what of it was brought together. `groups` holds the pieces of each source in each group."""

    def __init__(self, inputs: int, sources: dict[int, Source], step: PerceiveStep, last: int | None) -> None:
        self.aligned = list(sources)  # their places
        self.aligner = aligner(step.align, step.late, list(sources.values()))
        self.source = {place: number for number, place in enumerate(sources)}
        self.pieces: list[list[Piece]] = [[] for _ in range(inputs)]  # that came, by place
        self.ends: dict[int, Ended] = {}
        self.over: list[int] = []  # places that have brought all they had, in that order
        self.waiting = inputs - len(sources)
        self.groups: deque[list[int]] = deque(maxlen=last)
        self.missing = (
            0  # that came with the request and could not be encoded, and streams of which nothing came to be read
        )
        self.released: Group | None = None

    def gather(self, branch: Branch, stages: Stages, relay: Relay) -> Generator[None, Any, str | None]:
        """Take what comes until nothing is waited for, and take over the path of what released the step; return why it fails."""
        while True:
            if relay.take(branch, self.aligner.deadline):
                yield
            piece, failure, now = relay.piece, None, branch.time
            if piece is None:
                self._keep(self.aligner.expire(now))
            else:
                failure = self._came(piece)
            if failure is None and (self.waiting or not self.aligner.done):
                continue
            if piece is None:
                piece = self._cause()
            stages.follow(piece)
            if now > piece.time:
                branch.book(relay.account, piece.time, now)
            return failure

    def _cause(self) -> Piece:
        """Return the piece that had set the timer of the last group."""
        group = self.released
        assert group is not None
        pieces = self.pieces[self.aligned[group.cause]]
        return next(piece for piece in reversed(pieces) if piece.time <= group.since)

    def _came(self, piece: Piece) -> str | None:
        """Tell the aligner of a piece; return why the task fails."""
        place, what, *why = piece.payload
        self.pieces[place].append(piece)
        source = self.source.get(place)
        if isinstance(what, bool):
            self._whole(place, source, what, piece.time)
            return None if why[0] is None else str(why[0])
        assert source is not None
        if isinstance(what, Ended):
            self.ends[place] = what
        else:
            self._keep(self.aligner.offer(source, what, piece.time))
        ended = self.ends.get(place)
        if ended is not None and len(self.pieces[place]) > ended.arriving:  # with the end itself
            self.over.append(place)
            self._keep(self.aligner.end(source, piece.time, ended.sent))
        return None

    def _whole(self, place: int, source: int | None, brought: bool, now: float) -> None:
        """A modality has come as a whole, or not."""
        self.missing += not brought
        if brought:
            self.over.append(place)
        if source is None:
            self.waiting -= 1
        elif brought:
            self._keep(self.aligner.offer(source, 0.0, now))
        else:
            self._keep(self.aligner.end(source, now, 0))

    def _keep(self, groups: Sequence[Group]) -> None:
        for group in groups:
            self.released = group
            self.groups.append([len(stamps) + more for stamps, more in zip(group.stamps, group.repeated, strict=True)])

    def members(self) -> list[int]:
        """Return the places of which something is in a group, or that came whole beside the groups; in the order of the step."""
        found = {self.aligned[source] for group in self.groups for source, count in enumerate(group) if count}
        return sorted(found | {place for place in self.over if place not in self.source})


class Streams:
    """How a step takes in its modalities where some are streams."""

    def __init__(self, process: "PerceiveProcess") -> None:
        self.process = process
        spec = process.spec
        self.in_time = spec.align.chosen[0] not in ONE_GROUP
        feeds = [one.feed for one in process.inputs]
        self.aligned = [place for place, feed in enumerate(feeds) if feed is not None or not self.in_time]
        self.last = spec.keep.last if self.in_time and isinstance(spec.keep, Keep) else None

    def together(self, branch: Branch, visit: int) -> Generator[None, Any, float]:
        """Take all in; return where in the context what the visit brought begins (of a stream of which the last is kept: that)."""
        process, before = self.process, branch.state.tokens
        children = [process.child(branch, one, visit) for one in process.inputs]
        counts = self._counts(branch, children)  # may fail, before anything waits
        stages = Stages(branch, cancels=True)
        relay = Relay(len(process.inputs), process.wait_account)
        gathering = Gathering(len(children), self._sources(counts), process.spec, self.last)
        takings = self._start(branch, stages, relay, children, counts)
        failure = yield from gathering.gather(branch, stages, relay)
        self._count(branch, gathering, takings)
        yield from stages.close()
        if failure is not None:
            raise TaskFailed(failure)
        members = gathering.members()
        self._align(branch, visit, members)
        over = [] if self.in_time else [place for place in gathering.over if place in members]
        process.join(branch, children, members, over)
        start = self._bring(branch, gathering, before)
        process.fuse(branch, visit, members)
        return start

    def _counts(self, branch: Branch, children: Sequence[Branch]) -> list[int]:
        """Return how many pieces each input has."""
        feeds = [one.feed for one in self.process.inputs]
        return [
            1 if feed is None else feed.count(branch.index, source_lane(child.lane))
            for feed, child in zip(feeds, children, strict=True)
        ]

    def _sources(self, counts: Sequence[int]) -> dict[int, Source]:
        """Return what the aligner knows of its sources, by place."""
        feeds = {place: self.process.inputs[place].feed for place in self.aligned}
        whole = self.process.reader is not None
        return {
            place: Source(0.0, 1) if feed is None or whole else feed.source(counts[place])
            for place, feed in feeds.items()
        }

    def _start(
        self, branch: Branch, stages: Stages, relay: Relay, children: Sequence[Branch], counts: Sequence[int]
    ) -> list[Taking]:
        """Let all begin: for a stream, its source as well as its encoder. All are forked before any runs."""
        process, takings, scripts = self.process, [], []
        for place, (one, child) in enumerate(zip(process.inputs, children, strict=True)):
            if one.feed is None:
                scripts.append((child, process.child_script(child, place, stages, relay, process.whole(child, one))))
                continue
            attempts = process.attempts(one.intake)
            taking = Taking(one.feed, stages, relay, place, attempts, process.degrading, one.copy, counts[place])
            takings.append(taking)
            source = branch.fork(source_lane(child.lane), branch.state)
            scripts.append((source, taking.capture(source)))
            if process.reader is None:
                scripts.append((child, self._stream(child, taking, stages, relay)))
            else:
                tokens = self._read(child, taking)
                scripts.append((child, process.child_script(child, place, stages, relay, tokens)))
        for child, script in scripts:
            stages.add(child, script)
        return takings

    def _stream(self, child: Branch, taking: Taking, stages: Stages, relay: Relay) -> Script:
        """Encode a stream, and tell its end."""
        outer, began = child.open_span(), child.time
        payload: tuple[Any, ...]
        try:
            ended = yield from taking.arrivals(child)
            payload = taking.place, ended
        except TaskFailed as failed:
            payload = taking.place, False, str(failed)
            child.let_go()
        child.close_span(outer, self.process.branch_accounts[self.process.inputs[taking.place].label], began)
        relay.put(child, payload)
        stages.arrive(child)
        yield  # over: nobody continues it

    def _read(self, child: Branch, taking: Taking) -> Generator[None, Any, float | None]:
        """Encode all of a stream; return its tokens, None where nothing came."""
        taking.hands_on = False
        ended = yield from taking.arrivals(child)
        if not ended.arriving:
            return None
        taking.feed.embed(child.state, ended.arriving)
        return taking.feed.tokens(ended.arriving)

    def _count(self, branch: Branch, gathering: Gathering, takings: Sequence[Taking]) -> None:
        """Count pieces: those captured, those that never came, those that were in no group though they came or would have."""
        facts, found = branch.facts, gathering.aligner
        captured = sum(taking.captured_by(branch.time) for taking in takings)
        lost, failed = sum(taking.lost for taking in takings), sum(taking.failed for taking in takings)
        known = captured - lost - failed
        if self.process.reader is not None:
            known = len(takings)  # what came of each is one answer
        known += len(self.aligned) - len(takings) if not self.in_time else 0
        facts[PIECES] += captured
        facts[LATE_PIECES] += known - gathering.missing - found.used - found.left_out
        facts[LOST_PIECES] += lost
        facts[DEGRADED] += found.degraded + gathering.missing + failed

    def _align(self, branch: Branch, visit: int, members: Sequence[int]) -> None:
        """Align each pair of those that came."""
        process = self.process
        if process.pairs is None:
            return
        labels = [process.inputs[place].label for place in members]
        for number, label in enumerate(labels):
            for other in labels[:number]:
                branch.add(process.align_account, process.pairs.seconds(branch, visit, other, label))

    def _bring(self, branch: Branch, gathering: Gathering, before: float) -> float:
        """Let the context have the tokens of the groups, in their order; return where the last one kept begins."""
        if self.process.reader is not None:
            return before  # their answers have joined
        state, start, added = branch.state, before, 0.0
        taken = [0] * len(self.aligned)
        feeds = [self.process.inputs[place].feed for place in self.aligned]
        for number, group in enumerate(gathering.groups):
            if number and self.last is not None:
                state.bring(self.process.slot, start)
                start = state.tokens
            taken = [had + more for had, more in zip(taken, group, strict=True)]
            for feed, count in zip(feeds, group, strict=True):
                if feed is not None:
                    feed.embed(state, count)
            tokens = sum(feed.tokens(count) for feed, count in zip(feeds, taken, strict=True) if feed is not None)
            state.tokens += tokens - added
            added = tokens
        return start
