"""Pieces that branches of a task hand to each other as they go: the stages of a pipeline, the producers of a fusion.

A `Relay` has one consumer and one or several producers. What a producer hands over is a `Piece`, delivered by an event
at its time, so the pieces of all producers come in order of time, those of one instant in the order of the puts.

The critical path is carried forwards. A consumer that waited for a piece takes over the path of who made it
(`Branch.follow`); one that was busy for longer, or just as long, keeps its own. So start[s][k] = max(end[s-1][k],
end[s][k-1]) holds for stage s and piece k in the parts as well as in the times. All who hand pieces to each other are
branches of one fork (`Join`), so that their paths begin at one time; the consumer may also be the parent itself
(`Stages`).

Leaves out: several consumers of one relay, and waiting for several relays at once (give one relay several producers); a
bound on the pieces that lie in a relay; telling a consumer that a producer was cancelled (who cancels it calls `forget`).
Checked: tests/test_relay.py, against the recursion in numpy.
Source: max-plus recursion of a line of stations: Baccelli, Cohen, Olsder and Quadrat, Synchronization and Linearity
(1992), chapter 1.
"""

from collections import deque
from collections.abc import Generator, Iterator
from heapq import heappush
from math import inf
from typing import Any

from .branch import Branch, Join, Wait
from .errors import ConservationError
from .simulation import LAST, Call

TIMERS = LAST - 1  # behind all else of an instant: what comes just in time is in time
NEVER = -1  # as many branches as never arrive


class Piece:
    """What a producer handed over at `time` (s). It is at once the event of its delivery.

    `lane` is the producer's; `parts` are the seconds per account of its path from its fork until `time`.
    """

    __slots__ = ("callbacks", "failure", "lane", "last", "parts", "payload", "producer", "time")
    _ok = True
    _value = None

    def __init__(self, producer: Branch, payload: Any, time: float, parts: list[float], last: bool = False) -> None:
        self.time = time
        self.lane = producer.lane
        self.parts = parts
        self.payload = payload
        self.last = last  # holds nothing: the producer has ended
        self.failure: str | None = None
        self.producer: Branch | None = producer  # until it is delivered
        self.callbacks: Any = None


class Relay:
    """Where `producers` branches hand pieces to one consumer.

    After `take`, `piece` is what was taken; or it is None, and `timed_out` tells whether the deadline was reached, else
    all producers have ended: then `closing` is the last of their ends, which a consumer that waited for it follows like
    a piece, and `failure` the reason if one of them ended by one.

    `account` is where a wait for a piece is booked of which no producer has the time: that of a deadline (`receive`),
    and one under way at the end of the run while no branch of the task is at work.
    """

    __slots__ = (
        "account", "closing", "failure", "piece", "producers", "timed_out", "_consumer", "_latest", "_ready", "_timer",
    )  # fmt: skip

    def __init__(self, producers: int = 1, account: int = -1) -> None:
        self.producers = producers  # those that have not ended
        self.account = account
        self.piece: Piece | None = None
        self.closing: Piece | None = None
        self.failure: str | None = None
        self.timed_out = False
        self._ready: deque[Piece] = deque()  # delivered, not taken
        self._latest: dict[int, Piece] = {}  # of each producer, by its lane
        self._consumer: Branch | None = None  # that waits
        self._timer: Call | None = None

    def __len__(self) -> int:
        """Return how many pieces lie ready."""
        return len(self._ready)

    def put(self, producer: Branch, payload: Any, at: float | None = None, parts: list[float] | None = None) -> Piece:
        """Hand over `payload` at the producer's local time; the producer goes on.

        Or at time `at` (s, not before the clock), with the `parts` of the producer's path until then, which the producer
        books as well.
        """
        if at is None or parts is None:
            at, parts = producer.time, producer.parts[:]
        piece = Piece(producer, payload, at, parts)
        self._latest[piece.lane] = piece
        self._send(piece)
        return piece

    def end(self, producer: Branch, failure: str | None = None) -> None:
        """`producer` puts no more: it ends here at its local time, or with its last piece if that comes later."""
        time, parts = producer.time, producer.parts[:]
        latest = self._latest.pop(producer.lane, None)
        if latest is not None and latest.time > time:
            time, parts = latest.time, latest.parts
        piece = Piece(producer, None, time, parts, last=True)
        piece.failure = failure
        self._send(piece)

    def forget(self, producer: Branch) -> None:
        """The consumer has cancelled `producer`, which had not ended: wait for it no more."""
        assert producer.cancelled
        self._latest.pop(producer.lane, None)
        self.producers -= 1

    def _send(self, piece: Piece) -> None:
        assert piece.producer is not None
        sim = piece.producer.sim
        if piece.time < sim._now:
            raise ValueError(f"a piece cannot be handed over at {piece.time}: it is {sim._now}")
        piece.callbacks = (self._deliver,)
        sim.schedule_at(piece.time, piece)

    def take(self, consumer: Branch, until: float = inf) -> bool:
        """Take the next piece. Return whether the script must yield first.

        A piece that comes at `until` (s) is in time, one later is not. The consumer's time moves on to that of the
        piece, the last end or `until`, if it was before; nothing is booked for that wait.
        """
        self.piece = None
        self.timed_out = False
        if self._ready:
            if self._ready[0].time <= until:
                self.piece = self._ready.popleft()
                consumer.time = max(consumer.time, self.piece.time)
            else:
                self._time_out(consumer, until)
            return False
        if not self.producers:
            if self.closing is not None:
                consumer.time = max(consumer.time, self.closing.time)
            return False
        sim = consumer.sim
        if until < sim._now:
            self._time_out(consumer, until)
            return False
        if self._consumer is not None:
            raise RuntimeError("a relay has one consumer, but another waits for its pieces already")
        self._consumer = consumer
        consumer.wait.holder = self
        if until < inf:
            self._timer = Call(lambda _event: self._late(until))
            heappush(sim._queue, (until, TIMERS, next(sim._eid), self._timer))  # type: ignore[misc]
        return True

    def receive(
        self, consumer: Branch, until: float = inf, base: list[float] | None = None
    ) -> Generator[None, Any, Piece | None]:
        """Take the next piece, and follow what the consumer had to wait for; a deadline's wait is booked in `account`.

        `base` is that of `Branch.follow`. Return the piece; None as `take` does.
        """
        if until < inf and self.account < 0:
            raise ValueError("a relay with deadlines must have an account for waiting, but it has none")
        ready = consumer.time
        if self.take(consumer, until):
            yield
        if self.timed_out:
            consumer.book(self.account, ready, consumer.time)
            return None
        released = self.piece or self.closing
        if released is not None and released.time > ready:
            consumer.follow(released, base)
        return self.piece

    def _time_out(self, consumer: Branch, until: float) -> None:
        self.timed_out = True
        consumer.time = max(consumer.time, until)

    def _late(self, until: float) -> None:
        """The deadline of the consumer that waits."""
        consumer = self._consumer
        assert consumer is not None
        self._time_out(consumer, until)
        self._wake(consumer, until)

    def _deliver(self, piece: Piece) -> None:
        """A piece, or the end of a producer, has come."""
        producer, piece.producer = piece.producer, None
        assert producer is not None
        if producer.cancelled:
            return  # it ran ahead of the clock, and never came to that
        consumer = self._consumer
        if piece.last:
            self.producers -= 1
            self.failure = self.failure or piece.failure
            self.closing = piece
            if self.producers:
                return
        elif consumer is None:
            self._ready.append(piece)
        else:
            self.piece = piece
        if consumer is not None:
            self._wake(consumer, piece.time)

    def _wake(self, consumer: Branch, time: float) -> None:
        self._stop_waiting()
        consumer.time = max(consumer.time, time)
        consumer.wait.holder = None
        consumer.wait.resume(None)

    def _stop_waiting(self) -> None:
        self._consumer = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def open_parts(self, _wait: Wait, _now: float) -> list[tuple[int, float, float]]:
        """Waiting for a piece is no work of the consumer: nothing is to be booked when it is cancelled."""
        return []

    def idle(self, consumer: Branch, horizon: float) -> list[tuple[int, float, float]]:
        """Return (account, start, end) of the consumer's wait for what lies behind the end of the run."""
        if consumer.time >= horizon:
            return []  # it ran ahead of the clock
        if self.account < 0:
            raise ConservationError(
                f"task {consumer.index} waits at the end of the run for a piece that nobody is at work on, "
                "and its relay has no account for that"
            )
        return [(self.account, consumer.time, horizon)]

    def cancel(self, wait: Wait) -> None:
        """The consumer was cancelled."""
        wait.holder = None
        self._stop_waiting()


class Stages(Join):
    """Branches that hand pieces to their parent, which waits in a relay rather than for their ends.

    Made like a `Join`: fork, `add` each branch, and let each script `arrive` when it is over. The parent takes pieces
    (`receive`), and goes on when it likes with `close`, which every way out must go through. `base` are the parent's
    parts as they were at the fork (seconds per account).
    """

    __slots__ = ("base",)

    def __init__(self, parent: Branch, cancels: bool = True) -> None:
        super().__init__(parent, NEVER, cancels)
        self.base = parent.parts[:]

    def receive(self, relay: Relay, until: float = inf) -> Generator[None, Any, Piece | None]:
        """Let the parent take the next piece, and follow what it had to wait for; as `Relay.receive`."""
        return relay.receive(self.parent, until, self.base)

    def follow(self, piece: Piece) -> None:
        """`piece` released the parent: take over the path of who made it."""
        self.parent.follow(piece, self.base)

    def close(self) -> Generator[None, Any, None]:
        """The parent goes on without pieces, at its local time: those still under way are cancelled, or run on.

        What was done beside the path until then is kept as overlapped work.
        """
        parent = self.parent
        if parent.time > parent.sim._now and not all(branch.over for branch in self.branches):
            parent.settle()  # until then they are at work
            yield
        self.released = parent
        parent.join = self.outer
        if self.surplus is not None:
            parent.task.overlap(self.surplus)
        self._leave(None)


def under_way(branch: Branch) -> Iterator[Branch]:
    """Yield `branch` and all branches below it that are not over."""
    yield branch
    join = branch.join
    while join is not None:
        for child in join.branches:
            if not child.over:
                yield from under_way(child)
        join = join.outer


def busy_path(branch: Branch) -> list[Branch]:
    """Return the branches from `branch` down to the first that is at work, along the joins in which they wait.

    Where all that are not over wait for pieces, whose time nobody has as yet, the last one waits.
    """
    return _busy_path(branch, False) or _busy_path(branch, True)


def _busy_path(branch: Branch, idle: bool) -> list[Branch]:
    """As `busy_path`; empty where none is at work, unless one that is `idle` does as well."""
    waits = isinstance(branch.wait.holder, Relay)
    join = branch.join
    if join is None or (isinstance(join, Stages) and not waits):
        return [branch] if idle or not waits else []
    for child in join.branches:
        path = [] if child.over else _busy_path(child, idle)
        if path:
            return [branch, *path]
    return [branch] if idle else []
