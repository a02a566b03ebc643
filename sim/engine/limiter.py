"""A rate limit: a token bucket that tells when a request may go, first come first served.

The time of admission is known on arrival, since the bucket only depends on earlier arrivals, so waiting for it costs no
event of its own.

Checked: tests/test_engine.py against a bucket refilled in small steps.
Source: the generic cell rate algorithm, ITU-T I.371.
"""


class Limiter:
    """At most `rate` units a second over the long run, with bursts of up to `burst` units.

    Statistics: `admitted` requests, `delayed` requests, `waited` summed seconds.
    """

    __slots__ = ("admitted", "burst", "debt_free", "delayed", "name", "rate", "sized", "waited")

    def __init__(self, name: str, rate: float, burst: float, sized: bool = False) -> None:
        self.name = name
        self.rate = rate
        self.burst = burst
        self.sized = sized  # a request counts as many units as its size, else as one
        self.debt_free = float("-inf")  # when the bucket will be full again
        self.admitted = 0
        self.delayed = 0
        self.waited = 0.0

    def opens(self, now: float, size: float) -> float:
        """Return when a request of `size` units that arrives at `now` could go; nothing is admitted."""
        units = size if self.sized else 1.0
        full = max(self.debt_free, now)  # the bucket holds (burst - (full - now) * rate) units
        return max(now, full - (self.burst - min(units, self.burst)) / self.rate)

    def admit(self, now: float, size: float) -> float:
        """Return when a request of `size` units that arrives at `now` may go; calls must come in order of time.

        A request larger than the burst waits until the bucket is full, and leaves it in debt.
        """
        units = size if self.sized else 1.0
        start = self.opens(now, size)
        self.debt_free = max(self.debt_free, now) + units / self.rate
        self.admitted += 1
        if start > now:
            self.delayed += 1
            self.waited += start - now
        return start
