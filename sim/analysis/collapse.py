"""Whether goodput comes back once a trigger is over: collapse, recovery, and metastable states.

A state is metastable when a trigger brought goodput down, the trigger is gone and no more work arrives than before,
and goodput stays down all the same, because the system keeps itself down (retries of what timed out, say). A queue
that only drains is not that: while the backlog shrinks, the state is `recovering`. So a verdict of metastable needs
all of this:

    the drop     goodput was clearly below its baseline, and has not been back for `hold` windows in a row
    the load     after the trigger no more tasks arrive than before it (within `tolerance`, and what chance explains)
    the time     it stayed down at least `patience` times as long as the trigger lasted, and four times `hold` windows
    no drain     in the second half of that time what there is of a backlog beyond the usual did not fall

A backlog that falls, more than chance explains, at half its earlier pace or faster is a drain, however slow. One that
falls by a tenth and might by chance, or that levels off, leaves it open. So does a run without a backlog: a long
drain looks the same there.

The baseline is goodput over tasks offered in the windows before the first trigger; a window's surplus is its goodput
less the baseline share of what was offered in it. A window is below if its surplus is, by `tolerance` of the baseline
and by more than chance explains: Student's prediction interval from the windows before. Where those do not refute
Poisson counts, whose spread is known, the normal's is enough. Both are for all windows together (Bonferroni), so that
without an effect about 1 - `confidence` of the runs give a false alarm, as far as windows are alike and independent;
where the windows before are few and the true spread is a little wider than Poisson's, a few times that.
`Collapse.band` says how small a drop can be seen: a third of the baseline with three hundred tasks a window, a sixth
with a thousand.

Leaves out: why it stays down (`root_cause`); triggers nobody knows of; goodput that recovers only in part, by less
than `tolerance`.
Checked: tests/test_collapse.py, on series of known state and by the share of false alarms.
Source: Bronson et al., Metastable Failures in Distributed Systems, HotOS 2021 (the definition); Huang et al.,
Metastable Failures in the Wild, OSDI 2022 (triggers, and why a long drain must be told apart).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from .result import Mask
from .statistics import Array, Estimate, as_sample, check_share, student_t

FEWEST = 5  # windows before the first trigger
OVERDISPERSED = 0.25  # the p-value at which Poisson counts are refuted
COARSEST = 0.8  # of the baseline: where a drop as deep as this may be chance, nothing is said
LEAST_FALL = 0.1  # of the backlog, in the second half of the time after the trigger
LEVELS_OFF = 0.5  # of the pace in the first half: what falls slower than this in the second is not steady

State = Literal["unharmed", "recovered", "recovering", "metastable", "cannot tell"]


@dataclass(frozen=True, slots=True)
class Watch:
    """How goodput is judged: what counts as down, back, and long; explained above."""

    tolerance: float = 0.1
    hold: int = 3
    patience: float = 3.0
    confidence: float = 0.99

    def __post_init__(self) -> None:
        check_share("tolerance", self.tolerance)
        check_share("confidence", self.confidence)
        if self.hold < 1 or not self.patience > 0:
            raise ValueError(f"hold must be >= 1 and patience > 0, got {self.hold} and {self.patience}")


@dataclass(frozen=True, slots=True)
class Collapse:
    """What one trigger, from `start` to `end` (s), did to goodput.

    `baseline` is goodput over tasks offered before the first trigger; `depth` the greatest shortfall over `hold`
    windows in a row, from the start on, as a share of what the baseline would give (0 to 1). `band` is the smallest
    drop that counts in one window, as a share of the baseline. `time_to_detect` (s) is from the start to the end of
    the first window that is clearly below, infinite if none is; `time_to_recover` (s) from the end of the trigger to
    the first of `hold` windows within the band, after which no `hold` in a row are below: 0 if it never left,
    infinite if not before the next trigger or the end. Each is as fine as the windows. nan: unknown.
    """

    start: float
    end: float
    baseline: Estimate
    band: float
    depth: float
    time_to_detect: float
    time_to_recover: float
    state: State
    why: str

    @property
    def metastable(self) -> bool | None:
        """Whether goodput stays down though the trigger is over and nothing drains; None: it cannot be told."""
        return None if self.state == "cannot tell" else self.state == "metastable"


@dataclass(frozen=True, slots=True)
class _Series:
    """Windows; of each: tasks offered and surplus a second, whether it is below, and the backlog above its usual level.

    `usual` is the rate at which tasks arrived before the first trigger, and `share` goodput over that; `before` those
    windows.
    """

    starts: Array
    ends: Array
    offered: Array
    surplus: Array
    below: Mask
    backlog: Array | None
    before: Mask
    usual: float
    share: float


def collapses(
    times: npt.ArrayLike,
    offered: npt.ArrayLike,
    good: npt.ArrayLike,
    triggers: Sequence[tuple[float, float]],
    *,
    queue: npt.ArrayLike | None = None,
    start: float | None = None,
    stride: int = 1,
    watch: Watch | None = None,
) -> tuple[Collapse, ...]:
    """Return what each trigger did, in order of time.

    `times` are ends of windows (s, rising, shape (windows,)), the first of which begins at `start` (default: all have
    the same length). Warm-up is left out of them. `offered` are tasks that arrive and `good` those that end well, per
    second, in each; if they are counts of every `stride`-th task, times `stride`, say so: they are noisier. `queue` is
    the backlog at the end of each window: the tasks in the system, say, those included that wait to try again.
    `triggers` are (start, end), in s. Raises ValueError for arrays that do not pair up or are negative.
    """
    wanted = watch or Watch()
    ends, arriving, done, waiting = _checked(times, offered, good, queue)
    starts = np.concatenate([[2 * ends[0] - ends[1] if start is None else start], ends[:-1]])
    if starts[0] >= ends[0]:
        raise ValueError(f"the first window must begin before it ends: {starts[0]} < {ends[0]} must hold")
    ordered = sorted((float(a), float(b)) for a, b in triggers)
    for a, b in ordered:
        if not (math.isfinite(a) and a < b):
            raise ValueError(f"a trigger must start before it ends, got {(a, b)}")
    if not ordered:
        return ()
    before = ends <= ordered[0][0]
    baseline, problem = _baseline(arriving[before], done[before], wanted)
    if problem:
        return tuple(_unknown(a, b, baseline, problem) for a, b in ordered)
    surplus = done - baseline.value * arriving
    usual = float(arriving[before].mean())
    spread = math.sqrt(stride * baseline.value * (1 + baseline.value) * usual / float((ends - starts).min()))
    noise = _noise(surplus[before], spread, int(np.count_nonzero(~before)), wanted.confidence)
    band = max(wanted.tolerance, noise / (baseline.value * usual))
    if band > COARSEST:
        moved = "more than all of it" if band > 1 else f"{100 * band:.0f} % of it"
        problem = f"chance alone may move goodput by {moved} from window to window; take windows of more tasks"
        return tuple(_unknown(a, b, baseline, problem, band) for a, b in ordered)
    # Where more arrives than usual, counts spread more, too.
    busier = np.sqrt(np.maximum(arriving / usual, 1.0))
    below = surplus < -np.maximum(wanted.tolerance * baseline.value * arriving, noise * busier)
    backlog = None if waiting is None else waiting - waiting[before].mean()
    series = _Series(starts, ends, arriving, surplus, below, backlog, before, usual, baseline.value)
    nexts = [*(a for a, _ in ordered[1:]), math.inf]
    return tuple(_judge(series, one, until, baseline, band, wanted) for one, until in zip(ordered, nexts, strict=True))


def _checked(
    times: npt.ArrayLike, offered: npt.ArrayLike, good: npt.ArrayLike, queue: npt.ArrayLike | None
) -> tuple[Array, Array, Array, Array | None]:
    ends = as_sample(times, 2, "times")
    if bool(np.any(np.diff(ends) <= 0)):
        raise ValueError("times must rise: they are the ends of windows")
    arriving, done = as_sample(offered, name="offered"), as_sample(good, name="good")
    waiting = None if queue is None else as_sample(queue, name="queue")
    for name, one in (("offered", arriving), ("good", done), ("queue", waiting)):
        if one is not None and (one.shape != ends.shape or bool(np.any(one < 0))):
            raise ValueError(f"{name} must hold a number >= 0 for each of {ends.size} windows, got {one.size}")
    return ends, arriving, done, waiting


def _baseline(offered: Array, good: Array, watch: Watch) -> tuple[Estimate, str]:
    """Return goodput over tasks offered, with a linearised interval, and what is wrong with it, if anything."""
    n, total = offered.size, float(offered.sum())
    nothing = Estimate(math.nan, -math.inf, math.inf, watch.confidence, n, "windows before the first trigger")
    if n < FEWEST:
        return nothing, f"{n} windows before the first trigger are no baseline: at least {FEWEST} are needed"
    if not total:
        return nothing, "no task arrived before the first trigger"
    share = float(good.sum()) / total
    error = float((good - share * offered).std(ddof=1)) * math.sqrt(n) / total
    half = student_t(watch.confidence, n - 1) * error
    found = Estimate(share, share - half, share + half, watch.confidence, n, nothing.method)
    return found, "" if share > 0 else "no task ended well before the first trigger"


def _noise(surplus: Array, poisson: float, looks: int, confidence: float) -> float:
    """Return how far below zero chance brings the surplus of one of `looks` further windows (tasks a second).

    `poisson` is the standard deviation of the surplus if arrivals and completions are independent Poisson counts.
    """
    from scipy.special import chdtri

    n, spread = surplus.size, float(surplus.std(ddof=1))
    # Two bounds, of which the closer is taken, so each has half of what may go wrong.
    tail = (1 - confidence) / max(looks, 1) / 2
    seen, counted = student_t(1 - 2 * tail, n - 1) * spread, student_t(1 - 2 * tail, math.inf) * max(spread, poisson)
    refuted = (n - 1) * spread**2 > chdtri(n - 1, OVERDISPERSED) * poisson**2
    return (seen if refuted else min(seen, counted)) * math.sqrt(1 + 1 / n)


def _unknown(start: float, end: float, baseline: Estimate, why: str, band: float = math.nan) -> Collapse:
    return Collapse(start, end, baseline, band, math.nan, math.nan, math.nan, "cannot tell", f"Cannot tell: {why}.")


def _judge(
    series: _Series, trigger: tuple[float, float], until: float, baseline: Estimate, band: float, watch: Watch
) -> Collapse:
    """Return what a trigger did before `until`, when the next one begins."""
    start, end = trigger
    # When the workload ends, nothing can be good: that is no collapse, and no recovery either.
    arriving = np.flatnonzero(series.offered >= series.usual / 2)
    seen = (series.ends > start) & (series.ends <= min(until, series.ends[arriving[-1]]))
    after = np.flatnonzero(seen & (series.starts >= end))
    first = np.flatnonzero(seen & series.below)
    detect = float(series.ends[first[0]]) - start if first.size else math.inf
    state: State
    recover = 0.0
    if after.size < max(watch.hold, 2):
        recover, state, why = (
            math.nan,
            "cannot tell",
            f"Cannot tell: {_few(after.size)} the trigger; a longer run tells.",
        )
    elif not first.size:
        state, why = "unharmed", f"No window's goodput was below its baseline by {100 * band:.0f} % or more."
    else:
        recover = _recovery(series, end, after, watch.hold)
        state, why = "recovered", f"Goodput was back {recover:.4g} s after the trigger ended."
        if math.isinf(recover):
            state, why = _stuck(series, trigger, after, watch)
    depth = _depth(series, np.flatnonzero(seen), watch.hold)
    return Collapse(start, end, baseline, band, depth, detect, recover, state, why)


def _few(windows: int) -> str:
    return {0: "no window follows", 1: "only one window follows"}.get(windows, f"only {windows} windows follow")


def _depth(series: _Series, seen: npt.NDArray[np.intp], hold: int) -> float:
    """Return the greatest shortfall over `hold` windows in a row, as a share of the baseline's goodput."""
    if seen.size < hold:
        return math.nan
    length = (series.ends - series.starts)[seen]
    missing = np.convolve(-series.surplus[seen] * length, np.ones(hold), "valid")
    expected = np.convolve(series.share * series.offered[seen] * length, np.ones(hold), "valid")
    some = expected > 0
    return float(np.clip((missing[some] / expected[some]).max(initial=0.0), 0.0, 1.0))


def _recovery(series: _Series, end: float, after: npt.NDArray[np.intp], hold: int) -> float:
    """Return the seconds from `end` to the first of `hold` windows within the band, after the last `hold` below it."""
    below = series.below[after]
    down, up = _runs(below, hold), _runs(~below, hold)
    back = up[up > down[-1]] if down.size else up
    return float(series.starts[after[back[0]]]) - end if back.size else math.inf


def _runs(flags: Mask, hold: int) -> npt.NDArray[np.intp]:
    """Return where `hold` true flags in a row begin."""
    if flags.size < hold:
        return np.zeros(0, dtype=np.intp)
    return np.flatnonzero(np.convolve(flags.astype(float), np.ones(hold), "valid") == hold)


def _stuck(
    series: _Series, trigger: tuple[float, float], after: npt.NDArray[np.intp], watch: Watch
) -> tuple[State, str]:
    """Return what a drop is that does not end: recovering, metastable, or not to be told."""
    start, end = trigger
    length = float(series.ends[after[-1]]) - end
    tail = after[-watch.hold :]
    allowed = watch.tolerance * series.share * float(series.offered[tail].mean())
    if float(series.surplus[tail].mean()) >= -allowed:
        return "cannot tell", "Cannot tell: goodput goes up and down, and the run ends."
    if _more_arrives(series, after, watch):
        rate = float(series.offered[after].mean())
        return "cannot tell", f"Cannot tell: {rate:.3g} tasks/s arrive after the trigger, {series.usual:.3g} before it."
    state, why = _drain(series, after, watch.confidence)
    if state == "recovering":
        return state, why
    needed = watch.patience * (end - start)
    if length < needed or after.size < 4 * watch.hold:
        return "cannot tell", (
            f"Cannot tell: {length:.4g} s in {after.size} windows are short after {end - start:.4g} s of trigger; "
            f"{needed:.4g} s and {4 * watch.hold} windows are needed."
        )
    return state, f"{why} Goodput stayed down for {length:.4g} s after a trigger of {end - start:.4g} s had ended."


def _more_arrives(series: _Series, after: npt.NDArray[np.intp], watch: Watch) -> bool:
    """Return whether clearly more tasks arrive than before the triggers: then the load is to blame."""
    now, then = series.offered[after], series.offered[series.before]
    error = math.sqrt(now.var(ddof=1) / now.size + then.var(ddof=1) / then.size)
    reach = student_t(watch.confidence, min(now.size, then.size) - 1)
    more = float(now.mean()) - series.usual
    return more > max(watch.tolerance * series.usual, reach * error)


def _drain(series: _Series, after: npt.NDArray[np.intp], confidence: float) -> tuple[State, str]:
    """Return what the backlog says of a drop that does not end; the steps of a random walk judge its pace."""
    if series.backlog is None:
        return "cannot tell", "Cannot tell: without a backlog a long drain looks like a metastable state."
    half = after.size // 2
    early, late = after[: half + 1], after[half:]
    if late.size < FEWEST:
        return "cannot tell", f"Cannot tell: {late.size} windows are too few to see a drain."
    steps, seconds = np.diff(series.backlog[late]), np.diff(series.ends[late])
    left, fallen = float(series.backlog[late[-1]]), -float(steps.sum())
    pace = fallen / float(seconds.sum())
    noise = float((steps + pace * seconds).std(ddof=1)) * math.sqrt(steps.size)
    sure = fallen > student_t(confidence, steps.size - 1) * noise and fallen > 1e-9 * abs(left)
    elapsed = float(series.ends[early[-1]] - series.ends[early[0]])
    earlier = float(series.backlog[early[0]] - series.backlog[early[-1]]) / elapsed
    # What is no more than the usual ups and downs is no backlog that could drain.
    usual = series.backlog[series.before]
    reach = student_t(confidence, usual.size - 1) * float(usual.std(ddof=1))
    clear = float(series.backlog[late].mean()) > reach and left > 0
    if clear and sure and pace >= LEVELS_OFF * earlier:
        gone = f"at this pace it is gone {left / pace:.3g} s after the last window"
        return "recovering", f"Goodput is not back, but the backlog falls by {pace:.3g} a second: {gone}."
    # Both ends may lie off by chance; a line through all windows tells better whether there is a fall to speak of.
    line = np.polyfit(series.ends[late] - series.ends[late[0]], series.backlog[late], 1)
    falls = -float(line[0]) * float(seconds.sum()) >= LEAST_FALL * float(line[1])
    if clear and (sure or falls):
        why = "levels off above where it was" if sure else "may be falling, or may not"
        return "cannot tell", f"Cannot tell: the backlog {why}."
    if not clear:
        return (
            "metastable",
            "Nothing drains: there is no backlog beyond the usual, and no more tasks arrive than before.",
        )
    grows = "grows" if -fallen > student_t(confidence, steps.size - 1) * noise else "does not fall"
    return "metastable", f"Nothing drains: the backlog {grows}, and no more tasks arrive than before."
