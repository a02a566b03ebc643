"""Device seconds of decode iterations of one batch size, by the mean length of its sequences, and sums over many of them.

Between knots the seconds are linear in the length, beyond both ends they go on as the last piece does, and they are never
negative. Every iteration adds a token to every sequence, so the lengths of a run are an arithmetic sequence and its seconds
are one closed sum a piece. The host submits an iteration while the device works on the one before: an iteration takes no
less than that.

Leaves out: what the host does between iterations.
Checked: tests/test_kernel_steps.py, against sums over single iterations.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise

__all__ = ["DecodeRow", "RowSteps"]

Stretch = tuple[int, float, float]  # iterations, seconds of the first, and what each next one takes longer


class DecodeRow:
    """The seconds of one batch size: `values` at rising `knots` (tokens), `submit` of the host for an iteration.

    `skew` from 0 to 1 says how far the longest sequence rather than the mean one sets the pace: an iteration takes
    (1 - skew) x at(mean) + skew x at(longest). `least` and `most` are the lengths that `run` has been asked for.
    Raises ValueError for fewer than two knots, knots that do not rise, or values that are negative.
    """

    __slots__ = ("_ends", "_lines", "least", "most", "skew", "submit")

    def __init__(self, knots: Sequence[float], values: Sequence[float], submit: float, skew: float = 0.0) -> None:
        if len(knots) < 2 or len(knots) != len(values):
            raise ValueError(f"a row needs two knots or more, and a value for each; got {len(knots)} and {len(values)}")
        if any(after <= before for before, after in pairwise(knots)) or min(values) < 0.0:
            raise ValueError("the knots of a row must rise, and its values be >= 0")
        if not 0.0 <= skew <= 1.0:
            raise ValueError(f"skew must be from 0 to 1; got {skew:g}")
        self.submit = submit
        self.skew = skew
        self.least = math.inf
        self.most = -math.inf
        # Each piece is where its line starts, the seconds there, and the seconds a token adds.
        self._lines = [
            (start, low, (high - low) / (end - start))
            for (start, end), (low, high) in zip(pairwise(knots), pairwise(values), strict=True)
        ]
        self._ends = [*map(float, knots[1:-1]), math.inf]
        self._stay_positive()

    def _stay_positive(self) -> None:
        """Put a piece of zero wherever the first or the last line would go on below it."""
        start, seconds, slope = self._lines[0]
        if slope > 0.0:
            zero = start - seconds / slope
            self._lines.insert(0, (zero, 0.0, 0.0))
            self._ends.insert(0, zero)
        start, seconds, slope = self._lines[-1]
        if slope < 0.0:
            zero = start - seconds / slope
            self._lines.append((zero, 0.0, 0.0))
            self._ends.insert(-1, zero)

    def at(self, length: float) -> float:
        """Return the device seconds of an iteration in which every sequence has `length` tokens."""
        start, seconds, slope = self._lines[bisect_right(self._ends, length)]
        return seconds + slope * (length - start)

    def total(self, first: float, count: int) -> float:
        """Return the device seconds at `first`, `first` + 1, ... together, `count` of them."""
        return sum(points * (at + slope * 0.5 * (points - 1)) for points, at, slope in self._even(first, count))

    def run(self, mean: float, longest: float, count: int, slow: float = 1.0) -> float:
        """Return the seconds of `count` iterations from lengths of this mean and maximum; `slow` stretches `submit`."""
        if mean < self.least:  # noqa: PLR1730 - `min` takes as long as a third of the run
            self.least = mean
        end = (longest if self.skew else mean) + count - 1
        if end > self.most:  # noqa: PLR1730
            self.most = end
        submit = self.submit * slow
        if not self.skew or longest == mean:  # mostly one piece: the sum below, at a third of its cost
            piece = bisect_right(self._ends, mean)
            if mean + count <= self._ends[piece]:
                start, low, slope = self._lines[piece]
                at = low + slope * (mean - start)
                if at >= submit and slope >= 0.0:
                    return count * (at + slope * 0.5 * (count - 1))
        seconds = 0.0
        for points, at, slope in self._stretches(mean, longest, count):
            grown = slope * 0.5 * (points - 1)
            if at >= submit and slope >= 0.0:
                seconds += points * (at + grown)
            else:
                for some, first, growth in _submitted(points, at, slope, submit):
                    seconds += some * (first + growth * 0.5 * (some - 1))
        return seconds

    def count_until(
        self,
        mean: float,
        longest: float,
        seconds: float,
        limit: int,
        *,
        factor: float = 1.0,
        extra: float = 0.0,
        slow: float = 1.0,
    ) -> int:
        """Return the least n from 1 to `limit` with factor x run(n) + extra x n >= seconds; `limit` where there is none.

        It adds up as `run` does, so both agree to the last bit. `factor` and `extra` must be >= 0.
        """
        submit = self.submit * slow
        if not self.skew or longest == mean:
            piece = bisect_right(self._ends, mean)
            if mean + limit <= self._ends[piece]:
                start, low, slope = self._lines[piece]
                at = low + slope * (mean - start)
                if at >= submit and slope >= 0.0:
                    if factor * (limit * (at + slope * 0.5 * (limit - 1))) + extra * limit < seconds:
                        return limit
                    return _reach(seconds, 0.0, 0, (limit, at, slope), factor, extra)
        before, done = 0.0, 0
        for points, at, slope in self._stretches(mean, longest, limit):
            grown = slope * 0.5 * (points - 1)
            if at >= submit and slope >= 0.0:
                after = before + points * (at + grown)
                if factor * after + extra * (done + points) >= seconds:
                    return done + _reach(seconds, before, done, (points, at, slope), factor, extra)
                before = after
                done += points
                continue
            for some, first, growth in _submitted(points, at, slope, submit):
                after = before + some * (first + growth * 0.5 * (some - 1))
                if factor * after + extra * (done + some) >= seconds:
                    return done + _reach(seconds, before, done, (some, first, growth), factor, extra)
                before = after
                done += some
        return limit

    def _stretches(self, mean: float, longest: float, count: int) -> Iterator[Stretch]:
        """Return the stretches of a run within which the device's seconds are linear, up to where a length changes piece."""
        return self._uneven(mean, longest, count) if self.skew and longest != mean else self._even(mean, count)

    def _even(self, first: float, count: int) -> Iterator[Stretch]:
        lines, ends = self._lines, self._ends
        piece = bisect_right(ends, first)
        done = 0
        while True:
            length = first + done
            while length >= ends[piece]:
                piece += 1
            start, seconds, slope = lines[piece]
            left = count - done
            end = ends[piece]
            # A length may round to the piece's end: a stretch has a point at least.
            points = left if length + left <= end else min(left, max(1, math.ceil(end - length)))
            yield points, seconds + slope * (length - start), slope
            done += points
            if done >= count:
                return

    def _uneven(self, mean: float, longest: float, count: int) -> Iterator[Stretch]:
        lines, ends, skew = self._lines, self._ends, self.skew
        rest = 1.0 - skew
        low, high = bisect_right(ends, mean), bisect_right(ends, longest)
        done = 0
        while True:
            one, other = mean + done, longest + done
            while one >= ends[low]:
                low += 1
            while other >= ends[high]:
                high += 1
            start, seconds, slope = lines[low]
            begin, most, steep = lines[high]
            left = count - done
            room = min(ends[low] - one, ends[high] - other)
            points = left if left <= room else min(left, max(1, math.ceil(room)))
            at = rest * (seconds + slope * (one - start)) + skew * (most + steep * (other - begin))
            yield points, at, rest * slope + skew * steep
            done += points
            if done >= count:
                return


class RowSteps:
    """Runs of decodes over rows, one for each batch size; who extends it makes the rows (`_row`), and keeps them in `_rows`."""

    __slots__ = ("_rows",)

    def __init__(self) -> None:
        self._rows: dict[int, DecodeRow] = {}

    def run(self, decodes: int, total: float, longest: float, count: int, slow: float = 1.0) -> float:
        """Return the seconds of `count` successive iterations without prefill, in which every length grows by 1."""
        row = self._rows.get(decodes) or self._row(decodes)
        return row.run(total / decodes, longest, count, slow)

    def count_until(self, decodes: int, total: float, longest: float, seconds: float, limit: int, **pace: float) -> int:
        """Return the least n from 1 to `limit` with factor x run(n) + extra x n >= seconds; `limit` where there is none."""
        row = self._rows.get(decodes) or self._row(decodes)
        return row.count_until(total / decodes, longest, seconds, limit, **pace)

    def _row(self, decodes: int) -> DecodeRow:
        raise NotImplementedError


def _submitted(points: int, at: float, slope: float, submit: float) -> list[Stretch]:
    """Return a stretch with no iteration below `submit`: in two where device and host change in being the slower one.

    Where it splits does not depend on `points`, so that a shorter run adds up the same numbers.
    """
    if at < submit:
        gap = (submit - at) / slope if slope > 0.0 else math.inf  # iterations until the device is as slow
        if gap > points - 1:
            return [(points, submit, 0.0)]
        hidden = math.ceil(gap)
        return [(hidden, submit, 0.0), (points - hidden, at + slope * hidden, slope)]
    gap = (submit - at) / slope if slope < 0.0 else math.inf  # iterations until it is as quick
    if gap >= points - 1:
        return [(points, at, slope)]
    seen = int(gap) + 1
    return [(seen, at, slope), (points - seen, submit, 0.0)]


def _reach(seconds: float, before: float, done: int, stretch: Stretch, factor: float, extra: float) -> int:
    """Return the least n of a stretch that reaches `seconds`, after `done` iterations that took `before`; its last one does."""
    points, at, slope = stretch
    half = slope * 0.5
    # n (factor x at + extra) + n (n - 1) x factor x half = what is left; the form of the root that half = 0 leaves alone
    linear = factor * (at - half) + extra
    left = seconds - factor * before - extra * done
    both = linear + math.sqrt(max(0.0, linear * linear + 4.0 * factor * half * left))
    n = min(max(math.ceil(2.0 * left / both), 1), points) if both > 0.0 else 1
    # The root is rounded: what `run` adds up, bit by bit, decides.
    while n > 1 and factor * (before + (n - 1) * (at + half * (n - 2))) + extra * (done + n - 1) >= seconds:
        n -= 1
    while n < points and factor * (before + n * (at + half * (n - 1))) + extra * (done + n) < seconds:
        n += 1
    return n
