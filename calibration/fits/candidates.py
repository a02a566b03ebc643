"""What may be chosen for an operation: sets of features, rooflines, and the axes of a grid.

Leaves out: the choice (`select`).
Checked: tests/test_fits.py.
Source of the features of attention and collectives: docs of the operations in `sim/profile/ops.py`; the kernel of a
decode step works on a sequence and a KV head at a time, so `batch*kv_heads` counts its pieces of work.
"""

import math
from collections.abc import Mapping

import numpy as np

from .closed import Candidate, ConstantFit, RooflineFit, SumFit
from .grid import Axis, TablePlan
from .rows import Rows

__all__ = ["closed_candidates", "table_plans"]

Features = tuple[str, ...]
_ATTENTION: tuple[Features, ...] = (("flops",), ("flops", "bytes_moved"), ("flops", "bytes_moved", "batch*heads"))
_SUMS: Mapping[str, tuple[Features, ...]] = {
    "gemm": (("flops",), ("flops", "bytes_moved"), ("flops", "n*k"), ("flops", "m*k", "n*k", "m*n")),
    "attention.prefill": _ATTENTION,
    "attention.encoder": _ATTENTION,
    "attention.cross": _ATTENTION,
    "attention.decode": (
        ("bytes_moved",), ("bytes_moved", "batch*kv_heads"), ("flops", "bytes_moved", "batch*kv_heads"),
    ),
    "moe": (("bytes_moved",), ("flops", "bytes_moved"), ("flops", "bytes_moved", "tokens*top_k")),
    "vision.patch_embedding": (("images*side^2",), ("images", "images*side^2")),
    "vision.block": (("images*side^2",), ("images", "images*side^2"), ("images*side^2", "images*side^4")),
    "video.sample": (("frames*side^2",), ("frames", "frames*side^2")),
    "video.patch_embedding": (("frames*side^2",), ("frames", "frames*side^2")),
}  # fmt: skip
_ROOFLINE_TERMS: Mapping[str, tuple[Features, ...]] = {
    "gemm": (("k",),),
    "attention.prefill": (("query",), ("query", "context"), ("query", "batch*heads")),
    "attention.encoder": (("query",), ("query", "batch*heads")),
    "attention.decode": (("batch*kv_heads",), ("context", "batch*kv_heads")),
    "moe": (("tokens*top_k",),),
}
_QUERY: tuple[Features, ...] = (
    ("query", "batch", "heads"), ("query", "batch*heads", "head_size"), ("query", "batch", "kv_heads"),
    ("query", "heads*kv_heads^-1", "head_size"), ("context", "query"),
)  # fmt: skip
_TABLES: Mapping[str, tuple[Features, ...]] = {
    "gemm": (("m", "n", "k"), ("m*n", "k")),
    "attention.prefill": _QUERY,
    "attention.encoder": _QUERY[:2],
    "attention.decode": (
        ("context", "batch", "kv_heads"), ("context", "batch*kv_heads", "head_size"),
        ("heads*kv_heads^-1", "batch*kv_heads", "context"),
    ),
    "moe": (
        ("tokens", "experts", "top_k"), ("tokens*top_k*experts^-1", "inter", "experts"), ("tokens", "hidden"),
    ),
}  # fmt: skip
# A product's tiles go over a device in whole waves, so its time has steps in m*n. Knots this close can follow them.
_WAVES: Mapping[str, tuple[float, ...]] = {
    "m*n": tuple(float(f"{2.0**power:.6g}") for power in (*range(6, 16), *np.arange(16, 25.01, 0.2))),
    "k": (32.0, 128.0, 512.0, 2048.0, 8192.0, 65536.0),
}
# Waves make steps where arithmetic is the limit; few rows wait for memory, and have nodes of their own.
_FEW_OR_MANY = (32.0, 128.0)
# Where the number of multiprocessors is known, whole waves are: a knot on either side of each of the first few.
_TILES = ("tiles", "wide_tiles")
_OF_A_WAVE = (
    1 / 128, 1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 7 / 8, 1, 1.02, 1.25, 1.5, 1.75, 2, 2.03,
    2.5, 3, 3.03, 3.5, 4, 4.05, 5, 6, 7, 8, 10, 12, 16, 24, 32, 64, 128, 512, 2048,
)  # fmt: skip
_PADDED: Mapping[str, Features] = {
    "gemm": ("k", "tiles"),
    "attention.prefill": ("query", "tiles"),
    "attention.encoder": ("query", "tiles"),
    "attention.decode": ("context", "tiles"),
    "moe": ("hidden", "touched"),
}
# Heads that share keys and heads of their own are different kernels: no smoothness leads from the one to the other.
_STIFFNESS = {"heads*kv_heads^-1": 0.03}
_LINE = 15  # points from which on a table over a single size may be offered
_POINTS_PER_NODE = 2  # at least: smoothing leaves a table fewer degrees of freedom than it has nodes
_LEAST_NODES = 16  # of a table beside another
_GRID = 60  # points from which on tables over several sizes may be offered
_MANY = 2000
_MOST_NODES = 3000  # of all tables together: what a file should hold, and what a fit solves in a second
_CLOSE = 1e-6


def closed_candidates(rows: Rows) -> list[Candidate]:
    """Return the closed forms that the points can tell apart, simple ones first."""
    varying = [name for name, values in rows.sizes.items() if np.ptp(values) > 0]
    found: list[Candidate] = [ConstantFit()]
    sets = dict.fromkeys((*_SUMS.get(rows.op.name, ()), *_general(rows, varying)))
    found += [SumFit(features) for features in sets if _varied(rows, features)]
    if _has_corner(rows):
        found += [RooflineFit(smooth=False), RooflineFit()]
        terms = _ROOFLINE_TERMS.get(rows.op.name, ())
        found += [RooflineFit(features) for features in terms if _varied(rows, features)]
        padded = _PADDED.get(rows.op.name)
        if padded and _varied(rows, padded):
            found.append(RooflineFit(padded, work="padded_flops"))
    return sorted(found, key=lambda one: one.parameters)


def _general(rows: Rows, varying: list[str]) -> list[Features]:
    """Return features for any operation: a size, with its square or its root; the product of several; the bytes.

    What only streams bytes has features of its bytes alone: no other could tell one width from another, and a square that
    fits a little better inside of the range is far off beyond it.
    """
    if not varying:
        return []
    if rows.op.work is not None and not _has_corner(rows):
        return [("bytes_moved",), ("bytes_moved", "bytes_moved^0.5")]
    if len(varying) == 1:
        name = varying[0]
        squared = [] if name == "bytes" else [(name, f"{name}^2")]
        return [(name,), (name, f"{name}^0.5"), *squared]
    together = "*".join(varying)
    sets: list[Features] = [(together,), *((name,) for name in varying)]
    if len(varying) <= 3:
        sets += [tuple(varying), (together, *varying)]
    if rows.op.work is not None:
        sets += [("bytes_moved",), *(("bytes_moved", name) for name in varying if rows.op.name not in _SUMS)]
    return sets


def _varied(rows: Rows, features: Features) -> bool:
    """Whether each feature is finite and no constant, which the overhead already is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = [rows.column(text) for text in features]
    return all(np.isfinite(column).all() and np.ptp(column) > _CLOSE * np.max(column) for column in columns)


def _has_corner(rows: Rows) -> bool:
    """Whether arithmetic and traffic differ in their proportion; otherwise a roofline is a sum with one term."""
    if rows.op.work is None:
        return False
    flops, moved = rows.column("flops"), rows.column("bytes_moved")
    if not (flops > 0).all() or not (moved > 0).all():
        return False
    intensity = flops / moved
    return bool(intensity.max() > 1.01 * intensity.min())


def table_plans(rows: Rows, multiprocessors: int | None = None) -> list[tuple[TablePlan, ...]]:
    """Return the tables that a grid may have: one for each size, and, together, those of the operation.

    A table for each size needs few nodes and takes their effects for independent; the others hold what sizes do together.
    There is at most one node for two points; where one size alone varies, one for each point. Few points have no tables.
    """
    varying = [name for name, values in rows.sizes.items() if np.ptp(values) > 0]
    if len(varying) == 1 and len(rows) >= _LINE:
        return [(_table(rows, (varying[0],), min(len(rows), _MOST_NODES)),)]
    if len(rows) < _GRID:
        return []
    wanted = _TABLES.get(rows.op.name, (tuple(rows.sizes)[:3],))
    axes = [tuple(text for text in table if _varied(rows, (text,))) for table in wanted]
    joint = [table for table in dict.fromkeys(axes) if table and not any(set(table) < set(other) for other in axes)]
    budget = min(len(rows) // _POINTS_PER_NODE, _MOST_NODES)
    while len(joint) > 1 and budget // len(joint) < _LEAST_NODES:
        joint.pop()  # few points are better spent on one table
    alternatives = [tables for tables in (tuple((name,) for name in varying), tuple(joint)) if tables]
    if len(rows) >= _MANY and len(alternatives) > 1:
        alternatives = alternatives[1:]  # so many points can tell joint effects
    if rows.op.name == "gemm" and len(rows) >= _MANY and ("m*n", "k") in joint:
        return [(_table(rows, joint[0], budget // 2), *_waves(rows, multiprocessors))]
    return [
        tuple(_table(rows, features, budget // len(tables)) for features in tables)
        for tables in dict.fromkeys(alternatives)
    ]


def _waves(rows: Rows, multiprocessors: int | None) -> list[TablePlan]:
    """Return the tables over waves of tiles, as far as the points reach; over m*n where nobody knows how many make a wave."""
    if multiprocessors is None:
        return [_close_table(rows, {**_WAVES, "m": _FEW_OR_MANY})]
    knots = tuple(float(f"{multiprocessors * part:.6g}") for part in _OF_A_WAVE)
    return [_close_table(rows, {tiles: knots, "k": _WAVES["k"], "m": _FEW_OR_MANY}) for tiles in _TILES]


def _close_table(rows: Rows, wanted: Mapping[str, tuple[float, ...]]) -> TablePlan:
    axes = []
    for text, knots in wanted.items():
        values = rows.column(text)
        inside = tuple(knot for knot in knots if values.min() / 2 <= knot <= values.max() * 2)
        axes.append(Axis(text, inside or (float(values.max()),)))
    return TablePlan(tuple(axes))


def _table(rows: Rows, features: Features, budget: int) -> TablePlan:
    """Return a table with knots where the points are, fewer on the longest axis until it fits the budget."""
    full = [_knots(rows.column(text)) for text in features]
    counts = [len(knots) for knots in full]
    while math.prod(counts) > budget and max(counts) > 2:
        counts[counts.index(max(counts))] -= 1
    axes = (
        Axis(text, _spread(knots, count), _STIFFNESS.get(text, 1.0))
        for text, knots, count in zip(features, full, counts, strict=True)
    )
    return TablePlan(tuple(axes))


def _knots(values: np.ndarray) -> list[float]:
    """Return the values themselves where they are few, else the powers of two among them and both ends."""
    values = values[values > 0]
    found = np.unique(values)
    low, high = math.log2(found[0]), math.log2(found[-1])
    if len(found) <= max(3, high - low + 1):
        return [float(value) for value in found]
    inside = [2.0**power for power in range(math.floor(low) + 1, math.ceil(high))]
    ends = float(f"{found[0]:.6g}"), float(f"{found[-1]:.6g}")
    return [ends[0], *(knot for knot in inside if ends[0] * 1.2 < knot < ends[1] / 1.2), ends[1]]


def _spread(knots: list[float], count: int) -> tuple[float, ...]:
    """Return `count` of the knots, even in their order, with both ends."""
    return tuple(knots[place] for place in np.round(np.linspace(0, len(knots) - 1, count)).astype(int))
