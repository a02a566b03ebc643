"""Whether latencies can be true: no kernel moves its bytes or does its arithmetic far faster than the device can.

A unit mistaken by a thousand shows here. A kernel whose operands are in cache can pass the memory's bandwidth by a few
times, and one that computes in a narrower type than it stores passes its arithmetic by two; both are doubts, not mistakes.

Leaves out: operations without work to count, and calls so short that overheads hide it.
Checked: tests/test_imports.py.
Source: Williams et al., CACM 2009 (roofline).
"""

from dataclasses import replace
from typing import Any

import numpy as np

from ...sim.engine.errors import Problem, ProfileError
from ...sim.profile.ops import BYTES_PER_ELEMENT, OPS
from ...sim.profile.profile import Device
from ..samples import Points

__all__ = ["checked"]

_LONG = 10e-6  # seconds at the roofline from which overheads are no excuse
_FAST = 3.0  # times above the roofline that caches and narrow types explain
_SLOW = 100.0  # times below it that no kernel is in all of its cases
_ARITHMETIC = {"fp8_block": "fp8", "nvfp4": "fp4", "mxfp4": "fp4", "fp16": "bf16"}  # types of one rate


# Where nobody tells the device: faster than any of 2026, and a million times faster than a slow one.
_ANY = Device.model_validate(
    {"name": "any device", "memory_bandwidth": "20 TB/s", "arithmetic": dict.fromkeys(BYTES_PER_ELEMENT, "20 PFLOP/s")}
)
_ANY_LONG, _ANY_SLOW = 1e-7, 1e6


def checked(points: list[Points], device: dict[str, Any] | None, subject: str) -> list[Points]:
    """Return the points, each law with its doubts. Raises ProfileError where the unit must be another."""
    facts = _ANY if device is None else Device.model_validate(device)
    least, slow = (_LONG, _SLOW) if device is not None else (_ANY_LONG, _ANY_SLOW)
    problems: list[Problem] = []
    result = []
    for one in points:
        bound = _roofline(one, facts)
        ratio = one.seconds / np.maximum(bound, 1e-30)
        long, doubts = bound >= least, one.doubts
        if long.any():
            message = _mistake(one.seconds[long], bound[long], facts.name, slow)
            if message:
                problems.append(Problem(one.law, message, subject))
            fast = int((ratio[long] < 1.0).sum())
            if fast:
                text = f"{fast} of {len(one)} points are faster than nominal memory and arithmetic allow: in cache, or narrower"
                doubts = (*doubts, text)
        result.append(replace(one, doubts=doubts))
    if problems:
        raise ProfileError(problems, subject)
    return result


def _mistake(seconds: np.ndarray, bound: np.ndarray, device: str, slow: float) -> str:
    ratio = seconds / bound
    if np.median(ratio) < 1.0 / _FAST:
        return (
            f"must not be faster than {device} can move the bytes or do the arithmetic; the median of {len(ratio)} points "
            f"is {1.0 / float(np.median(ratio)):.3g} times faster: are these seconds or ms?"
        )
    if ratio.min() > slow:
        return (
            f"must come near what {device} can do; even the fastest of {len(ratio)} points is {ratio.min():.3g} times "
            "slower: are these microseconds?"
        )
    return ""


def _roofline(points: Points, facts: Device) -> np.ndarray:
    """Return the least seconds of each point as far as the facts tell; 0 where they do not."""
    work = OPS[points.op].work
    nothing = np.zeros(len(points))
    if work is None:
        return nothing
    flops, moved = work(points.sizes, points.options)
    bandwidth = facts.memory_bandwidth
    if "via" in points.options:  # half: a switch that sums on the way lets a rank send its buffer once
        links = {"node": facts.network, "pcie": facts.host_link, "nvlink": facts.link}
        link = links.get(points.options["via"])
        bandwidth = 2.0 * link if link else None
        if points.op == "all_gather":  # each rank receives the buffers of all others
            moved = moved * (float(points.options["ranks"]) - 1.0)
    elif not np.any(flops) and points.op.startswith("copy.h"):
        bandwidth = facts.host_link
    dtype = points.options.get("dtype", "")
    peak = facts.arithmetic.get(_ARITHMETIC.get(dtype, dtype))
    traffic = moved / bandwidth if bandwidth else nothing
    busy = flops / peak if peak else nothing
    return np.maximum(busy + nothing, traffic + nothing)
