"""The state of handling, as small machines: waits between attempts, budgets, circuit breakers, bulkheads, learned delays.

They hold no clock and draw nothing: the time `now` (s, never earlier than the last) and uniform draws are arguments. Every call
is O(1).

Leaves out: which calls share a machine, and what is done with its answer (`guard`); what is written (`handling`).
Checked: tests/test_handling_policies.py, against naive references and exact arithmetic.
"""

import math
from bisect import insort
from fractions import Fraction

from .handling import Backoff, Breaker, Budget

__all__ = ["LEAST", "BreakerState", "Bulk", "LearnedDelay", "Tokens", "Waits"]

LEAST = 20  # latencies to know before any quantile: the 95 % quantile of fewer is their maximum
GAIN = 0.02  # of the steps by which a delay is learned: about 1 / GAIN / (1 - quantile) calls are remembered
FIRST_GAIN = 5.0  # the first steps are as large as this over the calls so far
_FINEST = 10**9  # a fraction of denominator 10**6 is >= 1e-15 from all others up to this one; floats are 1e-16 off

_SURE = {"none": 1.0, "equal": 0.5, "full": 0.0}  # the part of a wait that chance leaves alone


def _exact(share: float) -> Fraction:
    """Return what was written: `57 %` is 57/100, though no float is. So counts that reach a share exactly are seen to."""
    return Fraction(share).limit_denominator(_FINEST)


class Waits:
    """The waits (s) before other attempts. `random` says whether `delay` heeds its draw; else any number will do.

    Source: as `Backoff`: the wait is capped first, then shortened by chance.
    """

    __slots__ = ("_factor", "_first", "_most", "_sure", "random")

    def __init__(self, spec: Backoff) -> None:
        self._first = spec.first
        self._factor = spec.factor
        self._most = spec.most
        self._sure = _SURE.get(spec.jitter)  # None: decorrelated
        self.random = spec.jitter != "none" and spec.first > 0

    def delay(self, attempt: int, last: float, draw: float) -> float:
        """Return the wait before the `attempt`-th attempt beyond the first (1: the second one).

        `last` is the wait (s) before the attempt before, 0 where there was none; `draw` is uniform in [0, 1). Decorrelated waits go
        by `last` alone, the others by `attempt` alone.
        """
        sure = self._sure
        if sure is None:
            low = self._first
            return min(self._most, low + draw * (3 * max(last, low) - low))
        return self._longest(attempt) * (sure + (1 - sure) * draw)

    def mean(self, attempt: int) -> float:
        """Return the mean of `delay` (s), before anything is drawn.

        Decorrelated waits have none in closed form once they meet the cap. Without it the means follow m[1] = 2 first, m[n + 1] =
        first/2 + 3/2 m[n], so m[n] = first (2 (3/2)^n - 1). That, or the cap where it is less, is exact as long as 3^n first <= most,
        and else an upper bound, since the cap is concave.
        """
        if self._sure is not None:
            return self._longest(attempt) * (1 + self._sure) / 2
        return min(self._most, self._first * (2 * _power(1.5, attempt) - 1))

    def _longest(self, attempt: int) -> float:
        """Return the wait that chance has not shortened."""
        if attempt < 1:
            raise ValueError(f"`attempt >= 1` must hold, but got ({attempt=})")
        return min(self._most, self._first * _power(self._factor, attempt - 1)) if self._first > 0 else 0.0


def _power(base: float, exponent: int) -> float:
    """Return a power of a number > 0, and infinity where a float cannot hold it."""
    try:
        return base**exponent
    except OverflowError:
        return math.inf


class Tokens:
    """A budget of retries: over any stretch of time, at most `burst` and `ratio` of the calls made in it."""

    __slots__ = ("_earned", "_full", "_left", "_price")

    def __init__(self, spec: Budget) -> None:
        # Whole numbers: ten times 0.1 is less than 1 in floats, and the tenth call's retry would be refused.
        self._earned, self._price = _exact(spec.ratio).as_integer_ratio()
        self._full = self._left = spec.burst * self._price

    @property
    def left(self) -> float:
        """How many retries are saved, from 0 to `burst`."""
        return self._left / self._price

    def earn(self) -> None:
        """Count a first attempt."""
        self._left = min(self._full, self._left + self._earned)

    def spend(self) -> bool:
        """Take one retry, and return whether there was one."""
        if self._left < self._price:
            return False
        self._left -= self._price
        return True


class BreakerState:
    """A circuit breaker: `closed` lets calls through, `open` none, `half-open` one probe at a time.

    A call that `admits` lets through gets a ticket, and says with it exactly once how it ended: `success`, `failure`, or `abandon`
    for one that was cancelled and says nothing about the component. A ticket is good as long as the breaker stays as it was: what
    calls from before it opened come to is neither taken for a probe's result nor counted after it has closed again.

    It opens when, after an outcome, at least the share `failing` of the last `calls` are failures, never on fewer outcomes than that
    since it closed. `open` seconds later it is half-open. There `probes` successes in a row close it, with an empty window; one failure
    opens it anew. An abandoned probe makes room for another. One that never ends keeps all others out: give probes a timeout.

    `opened` counts how often it opened, reopenings included. `until` (s) is when it lets, or last let, calls through again.
    Source: the minimum of outcomes is that of Resilience4j where its minimumNumberOfCalls is the size of its window;
    tickets are the generations of sony/gobreaker.
    """

    __slots__ = (
        "_broken", "_calls", "_failures", "_next", "_passed", "_pause", "_probes", "_probing", "_ring", "_seen", "_ticket", "_too_many",
        "opened", "until",
    )  # fmt: skip

    def __init__(self, spec: Breaker) -> None:
        self._calls = spec.calls
        self._too_many = max(1, math.ceil(_exact(spec.failing) * spec.calls))
        self._pause = spec.open
        self._probes = spec.probes
        # The window, 1 for a failure: its first `_seen` places hold outcomes; `_next` is written next, over the oldest if full.
        self._ring = bytearray(spec.calls)
        self._seen = self._failures = self._next = 0
        self._broken = False  # open or half-open: which of them, `until` says
        self._passed = 0
        self._probing = False
        self._ticket = 1  # of all calls since it closed, or of the last probe
        self.opened = 0
        self.until = -math.inf

    def state(self, now: float) -> str:
        """Return `closed`, `open` or `half-open`."""
        if not self._broken:
            return "closed"
        return "open" if now < self.until else "half-open"

    def admits(self, now: float) -> int:
        """Return the ticket (>= 1) of a call that may be made now, or 0: it may not."""
        if self._broken:
            if self._probing or now < self.until:
                return 0
            self._probing = True
            self._ticket += 1
        return self._ticket

    def success(self, ticket: int, now: float) -> None:
        """Count an answer. The one that fills the window may open it, too."""
        if not self._counts(ticket):
            return
        if not self._broken:
            self._record(0, now)
            return
        self._probing = False
        self._passed += 1
        if self._passed == self._probes:
            self._broken = False
            self._seen = self._failures = self._next = 0
            self._ticket += 1

    def failure(self, ticket: int, now: float) -> None:
        """Count a failure."""
        if not self._counts(ticket):
            return
        if self._broken:
            self._trip(now)
        else:
            self._record(1, now)

    def abandon(self, ticket: int) -> None:
        """Take back a call that was cancelled: neither a success nor a failure."""
        if self._counts(ticket):
            self._probing = False

    def _counts(self, ticket: int) -> bool:
        """Return whether a call is one of now, and not left over from before the breaker last changed."""
        if not 1 <= ticket <= self._ticket:
            raise ValueError(f"`1 <= ticket <= {self._ticket}` must hold, but got ({ticket=}): was the call admitted?")
        return ticket == self._ticket and self._probing == self._broken

    def _record(self, failed: int, now: float) -> None:
        """Put an outcome into the window, in place of the oldest if it is full."""
        ring, place = self._ring, self._next
        if self._seen == self._calls:
            self._failures -= ring[place]
        else:
            self._seen += 1
        ring[place] = failed
        self._failures += failed
        self._next = (place + 1) % self._calls
        if self._seen == self._calls and self._failures >= self._too_many:
            self._trip(now)

    def _trip(self, now: float) -> None:
        self._broken = True
        self._probing = False
        self._passed = 0
        self.opened += 1
        self.until = now + self._pause


class Bulk:
    """A bulkhead: at most so many calls are `inside` at once."""

    __slots__ = ("_most", "inside")

    def __init__(self, most: int) -> None:
        if most < 1:
            raise ValueError(f"`most >= 1` must hold, but got ({most=})")
        self._most = most
        self.inside = 0

    def enter(self) -> bool:
        """Take a place, and return whether there was one."""
        if self.inside == self._most:
            return False
        self.inside += 1
        return True

    def leave(self) -> None:
        """Give a place back. Raises RuntimeError when nobody is inside."""
        if not self.inside:
            raise RuntimeError("left a bulkhead that nobody is inside: `leave` once for each `enter` that was true")
        self.inside -= 1


class LearnedDelay:
    """A quantile of the latencies of calls (s), learned as they come, after which to hedge.

    `value` is None until `LEAST` calls are known, and then the quantile of those. From then on each call that takes longer moves
    it up, and each other one down, such that the shares balance. By how much longer is not looked at: hedged calls are cut
    short, and whoever took a quantile of their times would hedge ever more.
    Source: Robbins and Monro, Ann. Math. Stat. 22 (1951).
    """

    __slots__ = ("_first", "_known", "_quantile", "value")

    def __init__(self, quantile: float) -> None:
        if not 0 < quantile < 1:
            raise ValueError(f"`0 < quantile < 1` must hold, but got ({quantile=})")
        self._quantile = quantile
        self._first: list[float] = []  # in order of size
        self._known = 0
        self.value: float | None = None

    def add(self, seconds: float, delay: float | None) -> None:
        """A call took so many seconds, and would have been hedged after `delay` (None: not at all)."""
        if not seconds >= 0:  # not-a-number, too: it would leave the list unsorted
            raise ValueError(f"`seconds >= 0` must hold, but got ({seconds=})")
        self._known += 1
        if self.value is None:
            insort(self._first, seconds)
            known = len(self._first)
            value = self._first[max(0, math.ceil(self._quantile * known - 1e-9) - 1)]
            self.value = value if known >= LEAST and value > 0 else None
        elif delay is not None:
            gain = max(GAIN, FIRST_GAIN / self._known)
            self.value *= math.exp(gain * ((seconds > delay) - (1 - self._quantile)))
