"""How well laws fitted to imported measurements predict what their fit did not see, and whether that is good enough.

A law is fitted to what is left when a fifth of its shapes, and a fifth of the points of the others, are taken away, and
asked for those. Of products also the four of a layer of a known model are taken away and their times added up: what a run
asks for is such a sum, in which errors average.

Leaves out: whether the measurements are right.
Checked: tests/test_profile_commands.py.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..models.shapes import PRESETS, Shape
from ..sim.profile.ops import OPS
from ..sim.report.layout import Report, Table
from ..sim.report.profile_tables import View
from .fits import UNLIMITED, Limits, fit, held_out_errors
from .samples import Points

__all__ = ["GOALS", "Goal", "Outcome", "accuracy", "layer_sums", "view"]


@dataclass(frozen=True, slots=True)
class Goal:
    """The largest median and p95 of relative errors that are good enough; None where any is."""

    median: float
    p95: float | None = None


GOALS: Mapping[str, Goal] = {
    "layer of gemm[dtype=bf16]": Goal(0.04),
    "gemm[dtype=bf16]": Goal(0.05, 0.20),
    "gemm[dtype=fp8]": Goal(0.06),
    "attention.prefill": Goal(0.06, 0.25),
    "attention.decode": Goal(0.06, 0.25),
    "communication": Goal(0.05),
}
"""What is good enough, by the name of a law or its operation. Ours: below them a sum over a layer is off by a few percent."""

_COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_recv")
_RANKS = (1, 2, 4, 8)  # of tensor parallelism
_SHAPES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "gemm": (("n", "k"),),
    "attention.prefill": (("heads", "kv_heads", "head_size"), ("batch", "query")),
    "attention.decode": (("heads", "kv_heads", "head_size"), ("batch", "context")),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The errors of one law on one split: |predicted / measured - 1| of `points` that the fit did not see."""

    law: str
    split: str
    points: int
    median: float
    p95: float

    @property
    def goal(self) -> Goal | None:
        """What is good enough, where that was said."""
        return GOALS.get(self.law) or GOALS.get(self.law.partition("[")[0])

    @property
    def met(self) -> bool | None:
        """Whether the errors are good enough; None where nobody said what is."""
        goal = self.goal
        return None if goal is None else self.median <= goal.median and (goal.p95 is None or self.p95 <= goal.p95)


def accuracy(
    sets: Sequence[Points],
    seed: int = 0,
    told: Callable[[str], None] | None = None,
    limits: Limits = UNLIMITED,
) -> list[Outcome]:
    """Return the errors of each law on each split, of the products of layers, and of all collectives together."""
    found: list[Outcome] = []
    together: list[np.ndarray] = []
    for points in sets:
        if told is not None:
            told(points.law)
        for split, errors in _held_out(points, seed, limits):
            found.append(_outcome(points.law, split, errors))
            together += [errors] if points.op in _COLLECTIVES else []
        found += layer_sums(points, seed, limits) if points.op == "gemm" else []
    if together:
        found.append(_outcome("communication", "all of the collectives", np.concatenate(together)))
    return found


def _outcome(law: str, split: str, errors: np.ndarray) -> Outcome:
    median, p95 = np.quantile(errors, (0.5, 0.95))
    return Outcome(law, split, len(errors), float(median), float(p95))


def _held_out(points: Points, seed: int, limits: Limits) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the errors on held-out points, and on each kind of shape of the operation."""
    known: set[str] = set()
    for shape in _SHAPES.get(points.op, (None,)):
        for name, errors in held_out_errors(points, seed=seed, shapes=shape, limits=limits).items():
            split = f"unseen ({', '.join(shape)})" if name == "shapes" and shape else name
            if split not in known:
                known.add(split)
                yield split, errors


def layer_sums(points: Points, seed: int = 0, limits: Limits = UNLIMITED) -> list[Outcome]:
    """Return the errors of sums over the four products of a layer, whose shapes the fit did not see; [] where no layer is in."""
    layers = [
        layer
        for shape in PRESETS.values()
        for ranks in _RANKS
        if shape.is_causal and not shape.experts and (layer := _layer(points, shape, ranks)) is not None
    ]
    if not layers:
        return []
    held = np.logical_or.reduce([mask for layer in layers for mask in layer])
    rest = replace(
        points, sizes={name: values[~held] for name, values in points.sizes.items()}, seconds=points.seconds[~held]
    )
    law = fit(rest, source="table", seed=seed, keep_points=False, limits=limits)
    predict = law.compile(OPS["gemm"], points.options)
    errors: list[float] = []
    for layer in layers:
        measured, predicted = _sum(points, layer, points.seconds), _sum(points, layer, predict(points.sizes))
        errors += [abs(predicted[m] / measured[m] - 1.0) for m in measured]
    return [_outcome(f"layer of {points.law}", f"{len(layers)} unseen layers", np.array(errors))]


def _layer(points: Points, shape: Shape, ranks: int) -> list[np.ndarray] | None:
    """Return masks of the four products of a layer on one of `ranks` devices; None where the table lacks one."""
    pairs = (
        ((shape.heads + 2 * shape.kv_heads) * shape.head_size // ranks, shape.hidden),
        (shape.hidden, shape.heads * shape.head_size // ranks),
        (2 * shape.mlp // ranks, shape.hidden),
        (shape.hidden, shape.mlp // ranks),
    )
    masks = [(points.sizes["n"] == n) & (points.sizes["k"] == k) for n, k in pairs]
    return masks if all(mask.any() for mask in masks) else None


def _sum(points: Points, layer: Sequence[np.ndarray], seconds: np.ndarray) -> dict[float, float]:
    """Return, for each number of rows that all products of a layer have, the sum of their seconds."""
    by_rows = [dict(zip(points.sizes["m"][mask], seconds[mask], strict=True)) for mask in layer]
    return {m: sum(product[m] for product in by_rows) for m in by_rows[0] if all(m in product for product in by_rows)}


def view(outcomes: Sequence[Outcome], title: str) -> View:
    """Return the errors as a report, and the same as data."""
    judged = [one for one in outcomes if one.met is not None]
    missed = [one for one in judged if not one.met]
    rows = tuple(
        (
            one.law,
            one.split,
            f"{one.points:,}",
            _percent(one.median),
            _percent(one.p95),
            _goal(one.goal),
            _WORD[one.met],
        )
        for one in outcomes
    )
    columns = ("law", "held out", "points", "median", "p95", "goal", "")
    answer = f"{len(judged) - len(missed)} of {len(judged)} goals are met."
    if missed:
        answer += f" Missed: {', '.join(f'{one.law} on {one.split}' for one in missed)}."
    report = Report((title, _READING), answer, (Table("Errors on what the fit did not see", columns, "<<>>>><", rows),))
    data = tuple(
        {
            "law": one.law, "split": one.split, "points": one.points, "median": one.median, "p95": one.p95,
            "goal_median": one.goal and one.goal.median, "goal_p95": one.goal and one.goal.p95, "met": one.met,
        }
        for one in outcomes
    )  # fmt: skip
    return View(report, {"outcomes": list(data)}, data)


_READING = "Errors are |predicted / measured - 1|; goals are for the median, and for p95 where two are given."
_WORD = {True: "met", False: "MISSED", None: ""}


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _goal(goal: Goal | None) -> str:
    if goal is None:
        return ""
    return " / ".join(f"{100 * part:g} %" for part in (goal.median, goal.p95) if part is not None)
