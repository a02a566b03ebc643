"""What a law says: in words and numbers, with how well it is known, and at sizes that show its range.

Leaves out: tables of laws (`profile_tables`) and charts (`profile_plot`).
Checked: tests/test_profile_views.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..engine import units
from ..engine.errors import Problem, ProfileError, did_you_mean, listed
from ..profile.forms import Form, Grid, Roofline, Sum
from ..profile.law import Timing
from ..profile.ops import OPS, split_name
from ..profile.profile import Profile
from .numbers import plain

__all__ = [
    "Data", "across", "by_span", "formula", "good", "ordered", "percent", "range_text", "range_texts", "ranges", "record",
    "sample", "section", "shape", "size_text", "spread", "summary", "timing",
]  # fmt: skip

SAMPLE = 200  # sizes at which two laws are compared
SECTIONS = {  # from this operation of OPS on
    "gemm": "Kernels of a transformer",
    "launch": "The device and its host",
    "all_reduce": "Collectives",
    "vision.patch_embedding": "Modalities",
    "encode": "Coordination",
}
_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19)
_AT_MOST = {"kv_heads": "heads", "top_k": "experts"}  # a call with more has no meaning

Data = dict[str, Any]


def timing(profile: Profile, name: str) -> Timing:
    """Return the law of this name, ready to be asked. Raises ProfileError, which names what is near."""
    if name not in profile.laws:
        same = [one for one in profile.laws if one.partition("[")[0] == name.partition("[")[0]]
        remedy = did_you_mean(name, profile.laws) or f"; it has {listed(same or ordered(profile)) or 'none'}"
        raise ProfileError([Problem("", f"has no law `{name}`{remedy}")], f"profile {profile.name}")
    op, options = split_name(name)
    return profile.timing(op, **options)


def ordered(profile: Profile) -> list[str]:
    """Return the names of the laws in the order of the operations."""
    place = {name: number for number, name in enumerate(OPS)}
    return sorted(profile.laws, key=lambda name: (place[name.partition("[")[0]], name))


def section(name: str) -> str:
    """Return the heading that a law stands under."""
    title = ""
    for op in OPS:
        title = SECTIONS.get(op, title)
        if op == name.partition("[")[0]:
            break
    return title


def record(profile: Profile, name: str) -> Data:
    """Return what is known of a law, as plain data."""
    law = profile.laws[name]
    residual = None
    if law.residual is not None:
        p5, p50, p95 = (float(value) for value in law.residual.distribution.quantile([0.05, 0.5, 0.95]))
        residual = {"of": law.residual.of, "p5": p5, "p50": p50, "p95": p95}
    return {
        "law": name,
        "section": section(name),
        "quality": profile.source_of(law).quality,
        "source": law.source,
        "form": shape(law.form),
        "formula": formula(law.form),
        "over": {size: list(bounds) for size, bounds in law.over.items()},
        "points": law.points,
        "repeats": law.repeats,
        "held_out": [one.model_dump() for one in law.held_out],
        "interval": list(law.interval) if law.interval else None,
        "residual": residual,
        "doubts": list(law.doubts),
    }


def summary(profile: Profile, name: str) -> tuple[str, ...]:
    """Return sentences that say of a law what its charts show."""
    one, law = record(profile, name), profile.laws[name]
    source = profile.source_of(law)
    residual = one["residual"]
    points = f"{one['points']:,} point{'' if one['points'] == 1 else 's'}"
    texts = [
        f"Seconds of one call are {one['formula']}.",
        f"It holds for {range_texts(one)} and was fitted to {points}."
        if one["over"]
        else f"It was fitted to {points}.",
        good(one),
    ]
    if residual:
        of = {"repeats": "one call to the next", "shapes": "one size to another"}[residual["of"]]
        texts.append(f"From {of}, nine in ten lie between {residual['p5']:.3g} and {residual['p95']:.3g} of the law.")
    texts.append(f"Source: {source.title} ({source.quality}, {source.date}; {source.machine}).")
    return (*texts, *(f"Doubt: {doubt}." for doubt in one["doubts"]))


def good(one: Data) -> str:
    """Return the sentence that says how far a law can be trusted; `one` is its record."""
    if not one["held_out"]:
        return "Nothing was held out of the fit, so how far off the law is, is not known."
    parts = [f"by {each['split']} {percent(each['median'])} and {percent(each['p95'])}" for each in one["held_out"]]
    return f"Median and p95 of the relative error on what the fit did not see: {'; '.join(parts)}."


def formula(form: Form) -> str:
    """Return a law in words and numbers, such as `3.05 µs + max(FLOP / 770 TFLOP/s, bytes moved / 2.7 TB/s)`."""
    _kind, value = form.chosen
    if isinstance(value, float):
        return plain(value, "s")
    if isinstance(value, Grid):
        tables = " and ".join(f"{' × '.join(table.axes)} ({len(table.nodes):,} nodes)" for table in value.tables)
        return f"({_closed(value.base.chosen[1])}) × exp(tables over {tables})"
    return _closed(value)


def _closed(value: Sum | Roofline) -> str:
    parts = [plain(value.overhead, "s")] if value.overhead else []
    if isinstance(value, Roofline):
        compute, memory = units.format(value.compute, units.FLOP_RATE), units.format(value.memory, units.BANDWIDTH)
        word = "max" if value.sharpness is None else f"smooth max, p = {value.sharpness:.3g},"
        work = "FLOP" if value.work == "flops" else value.work.replace("_flops", " FLOP")
        parts.append(f"{word}({work} / {compute}, bytes moved / {memory})".replace(",(", ", of ("))
    parts += [_term(text, seconds) for text, seconds in value.terms.items()]
    return " + ".join(parts) or "0 s"


def _term(text: str, seconds: float) -> str:
    """Return a term of a sum: bytes and operations as a rate, anything else as seconds for one."""
    if seconds > 0 and text in ("bytes", "bytes_moved"):
        return f"{text.replace('_', ' ')} / {units.format(1.0 / seconds, units.BANDWIDTH)}"
    if seconds > 0 and text == "flops":
        return f"FLOP / {units.format(1.0 / seconds, units.FLOP_RATE)}"
    return f"{plain(seconds, 's')} × {text.replace('*', ' × ').replace('_', ' ')}"


def shape(form: Form) -> str:
    """Return what kind of law it is, such as `roofline` or `grid of 2 tables (3×2, 4×4), 22 nodes, over a roofline`."""
    kind, value = form.chosen
    if isinstance(value, Sum):
        return f"sum of {len(value.terms)} term{'' if len(value.terms) == 1 else 's'}"
    if not isinstance(value, Grid):
        return kind
    grids = ", ".join("×".join(str(len(knots)) for knots in table.axes.values()) for table in value.tables)
    tables = f"{len(value.tables)} table{'' if len(value.tables) == 1 else 's'}"
    nodes = sum(len(table.nodes) for table in value.tables)
    return f"grid of {tables} ({grids}), {nodes:,} nodes, over a {value.base.chosen[0]}"


def ranges(asked: Timing) -> dict[str, tuple[float, float]]:
    """Return the least and largest value of each size: of the law's range, else of what was measured, else 1."""
    found = {}
    measured = asked.law.measured.sizes if asked.law.measured else {}
    for name in asked.op.sizes:
        values = asked.law.over.get(name) or measured.get(name) or (1.0,)
        found[name] = (min(values), max(values))
    return found


def by_span(asked: Timing) -> list[str]:
    """Return the sizes that have more than one value, those that span the largest ratio first."""
    spans = {name: high / max(low, min(high, 1.0)) for name, (low, high) in ranges(asked).items() if high > low}
    return sorted(spans, key=lambda name: -spans[name])


def spread(low: float, high: float, shares: Sequence[float] | np.ndarray, unit: str) -> np.ndarray:
    """Return values at shares of the way from `low` to `high`, even in the logarithm; what is counted is whole."""
    at = np.asarray(shares, dtype=float)
    values = low * (high / low) ** at if low > 0 else np.expm1(at * np.log1p(high))
    if unit != "seconds":
        values = np.where(values >= 1, np.round(values), values)
    return np.clip(values, low, high)


def across(asked: Timing) -> dict[str, np.ndarray]:
    """Return sizes, arrays of shape (calls,): from the least of all to the largest, each alone, and beyond the range."""
    bounds = ranges(asked)
    names = list(bounds)
    shares = [dict.fromkeys(names, share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    if len(names) > 1:
        shares += [dict.fromkeys(names, 0.5) | {name: end} for name in names for end in (0.0, 1.0)]
    columns = {name: spread(*bounds[name], [one[name] for one in shares], asked.op.sizes[name]) for name in names}
    main = next((name for name in by_span(asked) if name in asked.law.over), None)
    if main is not None:
        middle = {name: float(spread(*bounds[name], [0.5], asked.op.sizes[name])[0]) for name in names}
        low, high = bounds[main]
        least = 1e-9 if asked.op.sizes[main] == "seconds" else 1.0  # what is counted has no quarters
        beyond = [middle | {main: value} for value in (low / 4, high * 4) if value >= least]
        columns = {name: np.append(columns[name], [one[name] for one in beyond]) for name in names}
    rows = dict.fromkeys(zip(*_sensible(columns).values(), strict=True))
    return {name: np.array([row[place] for row in rows]) for place, name in enumerate(names)}


def sample(bounds: Mapping[str, tuple[float, float]], asked: Timing) -> dict[str, np.ndarray]:
    """Return up to SAMPLE sizes that fill the ranges evenly in their logarithms: a Halton sequence, the same every time."""
    columns = {
        name: spread(low, high, _van_der_corput(SAMPLE, prime), asked.op.sizes[name])
        for (name, (low, high)), prime in zip(bounds.items(), _PRIMES, strict=False)
    }
    if not columns:
        return {}
    rows = dict.fromkeys(zip(*_sensible(columns).values(), strict=True))
    return {name: np.array([row[place] for row in rows]) for place, name in enumerate(columns)}


def _van_der_corput(count: int, base: int) -> np.ndarray:
    """Return `count` numbers from 0 on that fill [0, 1) evenly: the digits of 0, 1, 2 ... mirrored at the point."""
    left, values, weight = np.arange(count), np.zeros(count), 1.0
    while left.any():
        weight /= base
        values += weight * (left % base)
        left = left // base
    return values


def _sensible(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return sizes with no more KV heads than heads, and no more experts chosen than there are."""
    return {
        name: np.minimum(values, columns[_AT_MOST[name]]) if _AT_MOST.get(name) in columns else values
        for name, values in columns.items()
    }


def range_texts(one: Data) -> str:
    """Return the ranges of a law's sizes, from its record: 'm 1–8,192, n 64–4,096'."""
    sizes = OPS[one["law"].partition("[")[0]].sizes
    return ", ".join(f"{name} {range_text(bounds, sizes[name])}" for name, bounds in one["over"].items()) or "any"


def range_text(bounds: Sequence[float], unit: str) -> str:
    """Return a range for reading: '1–8,192'."""
    return "–".join(dict.fromkeys(size_text(value, unit) for value in bounds))


def size_text(value: float, unit: str) -> str:
    """Return a size for reading.

    >>> size_text(4096, "tokens"), size_text(65536, "bytes"), size_text(0.25, "seconds")
    ('4,096', '65.5 kB', '250 ms')
    """
    if unit == "bytes":
        return units.format(value, units.SIZE)
    if unit == "seconds":
        return plain(value, "s")
    return f"{value:,.0f}" if value == round(value) and value < 1e9 else f"{value:.3g}"


def percent(share: float) -> str:
    """Return a share for reading: '3.5 %'."""
    return plain(share, "share", 3)
