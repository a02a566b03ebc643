"""Verdicts made by hand: one that passes, and what makes others of it; and the folder that `coordsim validate` writes."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from coordsim.sim.analysis.statistics import Estimate
from coordsim.sim.analysis.validation import (
    GOALS,
    METRICS,
    Ablation,
    Dropped,
    Estimates,
    Headline,
    Numbers,
    Ratio,
    Row,
    Verdict,
    Worst,
)
from coordsim.sim.report.page.provenance import Input, Provenance
from coordsim.sim.report.stored import Stored
from coordsim.sim.report.validation_answers import ANSWERS

__all__ = [
    "COMMAND", "about", "bare", "estimate", "failed", "few", "noisy", "passed", "source", "stored", "unclear", "unknown",
    "write",
]  # fmt: skip

COMMAND = "coordsim validate --budget 10m --seed 3 -o runs/validation"

Ends = tuple[float, float, float]  # value, low, high


def estimate(value: float, low: float = -math.inf, high: float = math.inf) -> Estimate:
    """Return an estimate over five rounds."""
    return Estimate(value, low, high, 0.9, 5, "cluster bootstrap over rounds")


def about(value: float, half: float) -> Estimate:
    """Return an estimate with an interval to both sides."""
    return estimate(value, value - half, value + half)


def headlines(p50: Ends, p95: Ends, share: Ends, floor: float = 0.048) -> tuple[Headline, ...]:
    """Return the headlines with errors of these values and ends."""
    floors, naive = (floor, 0.052, 0.012), (0.212, 0.291, 0.037)
    return tuple(
        Headline(
            metric,
            estimate(*ends),
            getattr(GOALS.headline, metric),
            getattr(GOALS.stretch, metric),
            floors[at],
            naive[at],
        )
        for at, (metric, ends) in enumerate(zip(METRICS, (p50, p95, share), strict=True))
    )


def row(number: int) -> Row:
    """Return a configuration; the first takes 0.2 s, and each other a half more than the one before."""
    p50, sign = 0.2 * 1.5**number, -1 if number % 2 else 1
    off = Numbers(sign * (0.02 + 0.012 * number), -sign * (0.03 + 0.014 * number), sign * 0.005 * number)
    predicted = Numbers(p50 * (1 + off.p50), 2.2 * p50 * (1 + off.p95), 0.4 + off.share)
    errors = Estimates(about(off.p50, 0.012), about(off.p95, 0.03), about(off.share, 0.004))
    load = f"{1 + number} users, json" if number % 2 else f"1.{number} tasks / s, msgpack, <2 workers>"
    what = f"{3 + number} steps, {number % 4} modalities, {load}"
    return Row(
        f"held-out-{number + 1}", what, 200 - 10 * number, Numbers(p50, 2.2 * p50, 0.4), predicted, errors,
        Numbers(0.04, 0.06, 0.01), Numbers(-0.2 - 0.01 * number, -0.28, 0.04),
    )  # fmt: skip


def law(name: str, what: str, p50: Estimate, p95: Estimate, share: Estimate) -> Ablation:
    """Return what leaving out a law does, by its changes."""
    errors = (
        replace(one, value=base + one.value, low=base + one.low, high=base + one.high)
        for base, one in zip((0.061, 0.08, 0.02), (p50, p95, share), strict=True)
    )
    return Ablation(name, what, Estimates(*errors), Estimates(p50, p95, share))


def passed() -> Verdict:
    """Return a verdict that all three goals are met."""
    laws = (
        law("naive", "means of tight loops, cores without end", about(0.151, 0.02), about(0.21, 0.03), about(0.017, 0.004)),
        law("co-run", "the slowdown of processes that run side by side", about(0.07, 0.012), about(0.09, 0.02), about(0.006, 0.002)),
        law("fan-out", "what a branch more costs to wake", about(0.021, 0.009), about(-0.004, 0.01), about(0.001, 0.002)),
        law("residuals", "the spread of laws about their medians", about(-0.012, 0.005), about(0.004, 0.03), about(0.0, 0.001)),
        law("quadratic", "the square of tokens in the kernel law", about(0.001, 0.004), about(0.002, 0.006), about(0.0, 0.0)),
        law("retries", "timeouts and retries", about(0.0, 0.0), about(0.0, 0.0), about(0.0, 0.0)),
    )  # fmt: skip
    ratios = (
        Ratio("floor", estimate(1.27, 1.08, 1.53), GOALS.to_floor, GOALS.floor_stretch),
        Ratio("naive", estimate(0.29, 0.24, 0.35), GOALS.to_naive, math.nan),
    )
    worst = (
        Worst("p50", "held-out-8", about(0.104, 0.012), GOALS.worst.p50),
        Worst("p95", "held-out-8", about(0.128, 0.03), GOALS.worst.p95),
        Worst("share", "held-out-8", about(0.035, 0.004), GOALS.worst.share),
    )
    reasons = (
        "P50 is off by 6.1 %, wholly within the goal (90 % interval).",
        "P95 is off by 8 %, wholly within the goal (90 % interval).",
    )
    lines = headlines((0.061, 0.052, 0.074), (0.08, 0.061, 0.115), (0.0204, 0.0161, 0.0251))
    return Verdict(
        "pass", reasons, lines, ratios, worst, tuple(row(number) for number in range(8)), laws, (1, 2, 3, 5, 6),
        (Dropped(4, "steal of 7 % in held-out-3 (at most 5 %)"),), GOALS, 0.9, 2000, 0,
        (("machine", "2 cores, Linux"), ("measured", "2026-11-20 09:00 UTC"), ("seed", "3"), ("budget", "10 min"),
         ("criteria", "steal at most 5 %, other processes at most 15 %")),
        ("the speed of the machine fell by 20 % in round 6",),
    )  # fmt: skip


def failed() -> Verdict:
    """Return one of which p95 misses its goal."""
    lines = headlines((0.061, 0.052, 0.074), (0.22, 0.18, 0.27), (0.039, 0.03, 0.05))
    return replace(passed(), status="fail", reasons=("P95 is off by 22 %, wholly above.",), headlines=lines)


def noisy() -> Verdict:
    """Return one of a machine that is too noisy for a verdict."""
    said = "The machine is too noisy: the system against itself differs in p50 by 12 %, and at most 8 % is allowed."
    lines = headlines((0.13, 0.09, 0.19), (0.2, 0.1, 0.3), (0.02, 0.01, 0.03), floor=0.12)
    return replace(passed(), status="inconclusive", reasons=(said,), headlines=lines, dropped=())


def few(kept: int = 3) -> Verdict:
    """Return one of too few rounds; one round alone gives no interval."""
    lost = tuple(Dropped(number, "steal of 9 % in held-out-1 (at most 5 %)") for number in (4, 5))
    said = f"Too few rounds: {kept} kept, and 2 dropped; a verdict takes 5."
    found = replace(passed(), status="inconclusive", reasons=(said,), kept=tuple(range(1, kept + 1)), dropped=lost)
    if kept > 1:
        return found
    lines = tuple(replace(one, error=estimate(one.error.value)) for one in found.headlines)
    rows = tuple(
        replace(one, errors=Estimates(*(estimate(getattr(one.errors, metric).value) for metric in METRICS)))
        for one in found.rows
    )
    return replace(found, rows=rows, headlines=lines)


def unclear() -> Verdict:
    """Return one whose intervals reach over their goals."""
    said = "P50 is off by 9 %, which the goal of 10 % does not settle (90 % interval)."
    lines = headlines((0.09, 0.07, 0.12), (0.12, 0.08, 0.18), (0.02, 0.01, 0.03))
    return replace(passed(), status="inconclusive", reasons=(said,), headlines=lines, dropped=())


def bare() -> Verdict:
    """Return one of which no round counts."""
    said = "Too few rounds: 0 kept, and 2 dropped; a verdict takes 5."
    return replace(few(), reasons=(said,), headlines=(), ratios=(), worst=(), rows=(), ablation=(), kept=())


def unknown() -> Verdict:
    """Return one of a single configuration of which p95 is not known, without a law left out, and with a ratio to a perfect prediction."""
    found, nothing = unclear(), estimate(math.nan)
    one = found.rows[0]
    only = replace(
        one,
        measured=replace(one.measured, p95=math.nan),
        predicted=replace(one.predicted, p95=math.nan),
        errors=replace(one.errors, p95=nothing),
        floor=replace(one.floor, p95=math.nan),
        naive=replace(one.naive, p95=math.nan),
    )
    p50, p95, share = found.headlines
    lines = (p50, replace(p95, error=nothing, floor=math.nan, naive=math.nan), share)
    ratios = (replace(found.ratios[0], ratio=estimate(math.inf)), found.ratios[1])
    worst = (found.worst[0], replace(found.worst[1], error=nothing), found.worst[2])
    return replace(found, headlines=lines, ratios=ratios, worst=worst, rows=(only,), ablation=(), about=(), doubts=())


def source(command: str = COMMAND) -> Provenance:
    """Return where it comes from."""
    inputs = (Input("laws of this machine", "measured", "2026-11-20"),)
    question = "How well does coordsim predict a real agent system on this machine?"
    return Provenance("validation", question, "ab" * 32, 3, command, {"coordsim": "0.1.0"}, inputs=inputs)


def stored() -> Stored:
    """Return it as a page takes it."""
    return Stored("validation", passed(), source())


def write(folder: Path) -> None:
    """Write the answer to a folder, as its command does."""
    ANSWERS.write(passed(), source(), {}, folder, overwrite=True)
