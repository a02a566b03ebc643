"""A stream of a modality on its way: captured piece by piece, sent, encoded, and handed to the step that brings streams together.

When a piece is there, `MediaStream` says; its stamp is when its period began. Its source is one branch, the encoder another, so
that piece k + 1 is captured and sent while piece k is encoded; each piece on its way is a branch of its own where that takes
time, so that pieces overtake one another by their jitter, and contend where links are shared. The encoder takes pieces in order
of arrival, one at a time. The end of a stream is told without loss: when its last piece was captured and all that arrive have
come.

Leaves out: less in a last piece that is cut short; several calls of an encoder for one stream at a time; a bound on the pieces
that wait for it; a sender that slows down.
Checked: tests/test_perceive_streams.py, against recursions in closed form.
"""

from collections.abc import Callable, Generator
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from ..sim.engine.branch import Branch
from ..sim.engine.draws import MAX_ORDINAL, lane
from ..sim.engine.relay import Relay, Stages
from .aligner import Source
from .alignment import stamp
from .context import Context
from .failure import TaskFailed
from .intake import Intake
from .line import cross

if TYPE_CHECKING:
    from .network import Channel
    from .system import System

__all__ = ["Ended", "Feed", "Taking", "source_lane"]

Script = Generator[None, Any, None]
_SOURCE, _FLIGHT = 1, 2  # numbers of forks in `lane`: of the source from the encoder's, and of a piece on its way


class Ended(NamedTuple):
    """The end of a stream: how many pieces were sent, and how many of them arrive."""

    sent: int
    arriving: int


def source_lane(encoder: int) -> int:
    """Return the lane of a source beside that of its encoder."""
    return lane(encoder, _SOURCE, 0, 0)


class Feed:
    """How the stream of a modality comes to one model server."""

    def __init__(self, system: "System", name: str, server: Any) -> None:
        self.intake = Intake.of(system, name, server)
        self.path = f"modalities.{name}"
        spec = self.intake.spec.stream
        assert spec is not None
        self.spec = spec
        self.period = 1.0 / spec.rate
        self.size = spec.units * self.intake.spec.bytes
        self.length = system.stream(f"{self.path}/stream/length", spec.length)  # type: ignore[arg-type]  # MediaStream asks for it
        self.jitter = system.stream(f"{self.path}/stream/jitter", spec.jitter)
        self.skew = system.stream(f"{self.path}/stream/skew", spec.clock.skew)
        self.losing = system.draws.uniform(f"{self.path}/stream/loss") if spec.loss else None
        account = system.ledger.account
        waiting = "human" if spec.source == "person" else "synchronization"
        self.capture_account = account(waiting, name, "capture")
        self.jitter_account = account("communication", name, "jitter")

    @classmethod
    def of(cls, system: "System", name: str, server: Any) -> "Feed":
        """Return the stream of a modality to a server, made once."""
        made: Feed = system.once(f"modalities.{name}->{server.path}/stream", lambda: cls(system, name, server))
        return made

    def source(self, count: int) -> Source:
        """Return what an aligner knows of a stream of so many pieces: how many only where no person decides it."""
        return Source(self.period, None if self.spec.source == "person" else count)

    def tokens(self, pieces: float) -> float:
        """Return the tokens of so many pieces."""
        return float(round(pieces * self.spec.units * self.intake.spec.tokens))

    def embed(self, state: Context, pieces: float) -> None:
        """Let a prompt hold so many pieces themselves, where the modality is `inline`; their tokens come next."""
        self.intake.embed(state, pieces * self.spec.units, self.tokens(pieces))

    def count(self, task: int, own: int) -> int:
        """Return how many pieces the stream of a lane has. Raises TaskFailed where they are more than can be told apart."""
        count = self.spec.pieces(self.length.draw(task, 0, own))
        most = MAX_ORDINAL // self.intake.spec.attempts
        if count > most:
            raise TaskFailed(f"{self.path}: more than {most} pieces in a stream")
        return count


class Taking:
    """One stream while a task takes it in: from its source to `out`, the relay of the step.

    What comes there is (`place`, stamp) of each piece, then (`place`, Ended). An encoding is tried so many `attempts`; where the
    last one fails so does the task, unless it `keeps` going without that piece. The clock of each `copy` is drawn once a
    task. `count` pieces are sent.
    """

    def __init__(
        self, feed: Feed, stages: Stages, out: Relay, place: int, attempts: int, keeps: bool, copy: int, count: int
    ) -> None:
        self.feed = feed
        self.stages = stages
        self.out = out
        self.place = place
        self.attempts = attempts
        self.keeps = keeps
        self.began = stages.parent.time
        self.sent = count
        self.length = inf  # s, as long as it has not begun
        self.lost = 0  # of those captured so far
        self.failed = 0  # could not be encoded
        self.hands_on = True  # each piece; else the encoder keeps them
        self.pieces = Relay(1, feed.capture_account)
        self.skew = feed.skew.draw(stages.parent.index, copy, 0)

    def captured_by(self, time: float) -> int:
        """Return how many pieces there were at `time` (s)."""
        return self.feed.spec.captured_by(time - self.began, self.length)

    def capture(self, source: Branch) -> Script:
        """Wait for each piece, and send it."""
        feed, pieces, index, own = self.feed, self.pieces, source.index, source.lane
        channel, began = feed.intake.payload, source.time
        length = self.length = feed.length.draw(index, 0, own)
        for number in range(self.sent):
            at = began + feed.spec.captured(number, length)
            if at > source.time:
                source.book(feed.capture_account, source.time, at)
                source.settle()  # what is cancelled must not have sent more
                yield
            lost = feed.losing is not None and feed.losing.draw(index, number, own) < feed.spec.loss
            self.lost += lost
            late = feed.jitter.draw(index, number, own)
            if channel is not None or late:
                payload = None if lost else number
                self._fly(source, number, self._sending(number, late, payload))
            elif not lost:
                pieces.put(source, number)
        pieces.put(source, Ended(self.sent, self.sent - self.lost))
        self.stages.arrive(source)
        yield  # over: nobody continues it

    def _sending(self, number: int, late: float, payload: int | None) -> Callable[[Branch], Script]:
        return lambda flight: self._send(flight, number, late, payload)

    def _send(self, flight: Branch, number: int, late: float, payload: int | None) -> Script:
        """A piece on its way to the encoder; None: it never comes."""
        yield from cross(self.feed.intake.payload, flight, self.feed.size, number)
        flight.add(self.feed.jitter_account, late)
        if payload is not None:
            self.pieces.put(flight, payload)
        self.stages.arrive(flight)
        yield  # over: nobody continues it

    def arrivals(self, encoder: Branch) -> Generator[None, Any, Ended]:
        """Encode each piece that comes, and hand it to the step; return how many there were, and how many it is handed."""
        arrived = handed = 0
        ended: Ended | None = None
        while ended is None or arrived < ended.arriving:
            piece = yield from self.pieces.receive(encoder)
            assert piece is not None
            number = piece.payload
            if isinstance(number, Ended):
                ended = number
                continue
            arrived += 1
            if not (yield from self._encode(encoder, number)):
                self.failed += 1
            else:
                handed += 1
                if self.hands_on:
                    self._hand_on(encoder, number)
        return Ended(ended.sent, handed)

    def _encode(self, encoder: Branch, number: int) -> Generator[None, Any, bool]:
        """Encode a piece; return whether that came to anything."""
        intake, units = self.feed.intake, self.feed.spec.units
        first = number * intake.spec.attempts

        def attempt(again: int) -> Script:
            return intake.encode(encoder, units, first + again)

        return (yield from intake.tried(encoder, self.attempts, self.keeps, attempt))

    def _hand_on(self, encoder: Branch, number: int) -> None:
        """Hand a piece to the step, whose own clock goes on while the encoder does."""
        clock = self.feed.spec.clock
        payload = self.place, stamp(number * self.feed.period, self.skew, clock.drift)
        channel = self.feed.intake.representation
        if channel is None:
            self.out.put(encoder, payload)
        else:
            self._fly(encoder, number, lambda flight: self._represent(flight, number, channel, payload))

    def _represent(self, flight: Branch, number: int, channel: "Channel", payload: Any) -> Script:
        """What the encoder made of a piece, on its way to the model."""
        intake, units = self.feed.intake, self.feed.spec.units
        yield from cross(channel, flight, units * intake.spec.representation, number)
        self.out.put(flight, payload)
        self.stages.arrive(flight)
        yield  # over: nobody continues it

    def _fly(self, sender: Branch, number: int, script: Callable[[Branch], Script]) -> None:
        """Let a piece go its own way from here, while its sender goes on."""
        flight = sender.depart(lane(sender.lane, _FLIGHT, 0, number), sender.state)
        self.stages.add(flight, script(flight))
