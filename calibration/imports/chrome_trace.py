"""Traces of the PyTorch profiler (Chrome trace JSON, also gzipped): products with their shapes, and every kernel seen.

Where operators were recorded with their shapes (`record_shapes=True`), a product's sizes and type are known; its time is that
of the kernels it launched, or the operator's own where the trace has no kernels (a CPU). Other kernels become points through
a map of names (`kernel_map`); the rest are listed as seen. `dur` is in microseconds.

Leaves out: batched products of more than one, the state of caches (taken as cold), traces of other programs.
Checked: tests/test_import_traces.py, also against a trace that torch writes there.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ...sim.engine.errors import Problem, ProfileError
from . import kernel_map, physics
from .imported import Imported, Kernel, Tally
from .kernel_map import KernelMap
from .tables import refused, text_of

__all__ = ["fits", "read"]

Event = Mapping[str, Any]
_US = 1e-6
_KERNELS = ("kernel", "gpu_memcpy", "gpu_memset")
_PRODUCTS = {
    "aten::mm": (0, 1),
    "aten::addmm": (1, 2),
    "aten::bmm": (0, 1),
    "aten::linear": (0, 1),
}  # places of the operands
_TYPES = {
    "float": "fp32", "double": "fp64", "c10::BFloat16": "bf16", "c10::Half": "fp16", "signed char": "int8",
    "c10::Float8_e4m3fn": "fp8", "c10::Float8_e5m2": "fp8",
}  # fmt: skip


def fits(path: Path) -> bool:
    """Whether a file is named as such traces are."""
    return path.name.endswith((".json", ".json.gz", ".trace"))


def read(path: str | Path, *, kernels: str | Path | None = None) -> Imported:
    """Return the points of a trace, with the kernels it holds; `kernels` is a file that maps names of them.

    Raises ProfileError.
    """
    where = Path(path)
    names = kernel_map.read(kernels)
    data, events = _events(where)
    tally = Tally()
    timed = [event for event in events if event.get("cat") in _KERNELS]
    operators = [event for event in events if event.get("cat") == "cpu_op"]
    if not timed and not operators:
        raise refused(
            where, "must hold operators or kernels (`cat` of cpu_op or kernel), as the PyTorch profiler writes them"
        )
    _check(where, [*timed, *operators])
    tally.skip("events that are neither operators nor kernels", len(events) - len(timed) - len(operators))
    of_product = _products(operators, timed, _launchers(events), tally)
    seen = _mapped(timed, of_product, names, tally)
    if not timed:
        tally.note("the trace has no kernels: operators are timed as the CPU ran them, their dispatch included")
        seen = _seen(operators, dict.fromkeys(_PRODUCTS, "gemm"), "")
        tally.skip("operators that are seen, but in no law", len(operators) - len(_leaves(operators)))
    if any(one.options.get("dtype") == "fp32" for one in tally.points) and timed:
        tally.note("products in fp32 may have run in tf32; a trace does not tell")
    if not tally.points:
        tally.note("no kernel has sizes that are known: record with record_shapes=True, or map names with `kernels`")
    device = _device(data, bool(timed))
    tally.points = physics.checked(tally.points, None, str(path))
    return tally.result(_source(where, device), device, seen)


def _events(path: Path) -> tuple[Mapping[str, Any], list[Event]]:
    """Return the head of a trace, and the complete events in it."""
    text = text_of(path)
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        rule = f"must be a whole JSON file ({error.msg}): it is cut off or damaged; export it again"
        raise ProfileError([Problem("", rule, str(path), error.lineno, error.colno)], str(path)) from None
    except RecursionError:
        raise refused(path, "must be a Chrome trace; its brackets are nested too deep for one") from None
    events = data.get("traceEvents") if isinstance(data, dict) else data
    if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
        raise refused(path, "must be a Chrome trace: a list of events, or a mapping with `traceEvents`")
    return data if isinstance(data, dict) else {}, [event for event in events if event.get("ph") == "X"]


def _check(path: Path, events: Iterable[Event]) -> None:
    """Raise ProfileError where an event lacks a name or a duration >= 0."""
    wrong = [event for event in events if not _is_whole(event)]
    if wrong:
        first = wrong[0]
        rule = f"must have `name`, `ts` and a `dur` >= 0 in microseconds; got {first.get('dur')!r}"
        count = f"{len(wrong)} events are wrong: export the trace again"
        raise ProfileError(
            [Problem(str(first.get("name", "an event")), rule, str(path)), Problem("", count, str(path))], str(path)
        )


def _is_whole(event: Event) -> bool:
    has_args = isinstance(event.get("args") or {}, dict)
    return has_args and "name" in event and _is_time(event.get("dur")) and _is_time(event.get("ts"), signed=True)


def _is_time(value: object, *, signed: bool = False) -> bool:
    return type(value) in (int, float) and bool(np.isfinite(value)) and (signed or value >= 0)  # type: ignore[call-overload, operator]


def _leaves(operators: list[Event]) -> list[Event]:
    """Return the products that hold no other product: `linear` calls `addmm`, and is counted once."""
    result: list[Event] = []
    threads: dict[tuple[Any, Any], list[Event]] = defaultdict(list)
    for event in operators:
        if event.get("name") in _PRODUCTS:
            threads[event.get("pid"), event.get("tid")].append(event)
    for events in threads.values():
        events.sort(key=lambda event: (event["ts"], -event["dur"]))
        for event, after in zip(events, [*events[1:], None], strict=True):
            if after is None or after["ts"] + after["dur"] > event["ts"] + event["dur"]:
                result.append(event)
    return result


def _launchers(events: list[Event]) -> dict[Any, Any]:
    """Return the operator, by its id, that made each launch, by its correlation; kernels of some versions tell no operator."""
    calls = [event.get("args") or {} for event in events if event.get("cat") in ("cuda_runtime", "cuda_driver")]
    return {args["correlation"]: args.get("External id") for args in calls if "correlation" in args}


def _products(operators: list[Event], timed: list[Event], launchers: Mapping[Any, Any], tally: Tally) -> set[int]:
    """Add the points of matrix products, and return the kernels (by identity) that are theirs."""
    launched: dict[Any, list[Event]] = defaultdict(list)
    for event in timed:
        args = event.get("args") or {}
        operator = args.get("External id", launchers.get(args.get("correlation")))
        if operator is not None:
            launched[operator].append(event)
    cases: dict[str, list[tuple[float, float, float, float]]] = defaultdict(list)
    mine: set[int] = set()
    for event in _leaves(operators):
        shape = _shape(event, tally)
        if shape is None:
            continue
        own = launched.get((event.get("args") or {}).get("External id"), [])  # an operator without an id has none
        if timed and not own:
            tally.skip("a product that launched no kernel in the trace", 1)
            continue
        seconds = sum(kernel["dur"] for kernel in own) * _US if timed else event["dur"] * _US
        if seconds <= 0:
            tally.skip("a product shorter than the clock tells", 1)
            continue
        mine |= {id(kernel) for kernel in own}
        dtype, sizes = shape
        cases[dtype].append((*sizes, seconds))
    for dtype, rows in cases.items():
        m, n, k, seconds_of = np.array(rows, dtype=float).T
        tally.add("gemm", {"dtype": dtype}, {"m": m, "n": n, "k": k}, seconds_of, repeats=True)
    return mine


def _shape(event: Event, tally: Tally) -> tuple[str, tuple[float, float, float]] | None:
    """Return the type and (m, n, k) of a product, or None, counted with the reason."""
    args, name = event.get("args") or {}, event["name"]
    dims, types = args.get("Input Dims"), args.get("Input type")
    if not dims or not types:
        tally.skip("a product without shapes: record with record_shapes=True", 1)
        return None
    places = _PRODUCTS[name]
    try:
        left, right = ([float(size) for size in dims[place]] for place in places)
        dtype = _TYPES.get(types[places[0]])
        if name == "aten::bmm":
            if left[0] != 1:
                tally.skip("a batch of products, which is not one", 1)
                return None
            left, right = left[1:], right[1:]
        rows, inner = float(np.prod(left[:-1])), left[-1]
        columns = right[0] if name == "aten::linear" else right[1]
        fitting = inner == (right[1] if name == "aten::linear" else right[0])
    except (IndexError, TypeError, ValueError):
        fitting, dtype = False, None
        rows = columns = inner = 0.0
    if dtype is None or not fitting or min(rows, columns, inner) <= 0:
        tally.skip("a product whose shapes or type are not understood", 1)
        return None
    return dtype, (rows, columns, inner)


def _mapped(timed: list[Event], mine: set[int], names: KernelMap, tally: Tally) -> list[Kernel]:
    """Add the points of kernels that the map knows, and return all kernels with what became of them."""
    calls: dict[str, list[float]] = defaultdict(list)
    rules: dict[str, kernel_map.KernelRule] = {}
    laws: dict[str, str] = {}
    for event in timed:
        rule = names.rule(str(event["name"]))
        if id(event) in mine or rule is None:
            continue
        key = f"{rule.law} {sorted(rule.sizes.items())}"
        rules[key], laws[str(event["name"])] = rule, rule.law
        if event["dur"] > 0:
            calls[key].append(event["dur"] * _US)
        else:
            tally.skip("a kernel shorter than the clock tells", 1)
    for law in dict.fromkeys(rule.law for rule in rules.values()):
        one = [(rule, calls[key]) for key, rule in rules.items() if rule.law == law]
        sizes = {
            name: np.concatenate([np.full(len(times), rule.sizes[name]) for rule, times in one])
            for name in one[0][0].sizes
        }
        tally.add(one[0][0].op, one[0][0].options, sizes, np.concatenate([times for _, times in one]), repeats=True)
    ours = [event for event in timed if id(event) in mine]
    others = [event for event in timed if id(event) not in mine]
    unknown = [event for event in others if str(event["name"]) not in laws]
    tally.skip("kernels that are seen, but in no law", len(unknown))
    seen = _seen(ours, {}, "gemm") + _seen(others, laws, "")
    return sorted(seen, key=lambda kernel: -kernel.total)


def _seen(events: list[Event], laws: Mapping[str, str], law: str) -> list[Kernel]:
    """Return the events by name, longest in all first."""
    times: dict[str, list[float]] = defaultdict(list)
    for event in events:
        times[str(event["name"])].append(event["dur"] * _US)
    found = [
        Kernel(name, len(all_), float(sum(all_)), float(np.median(all_)), laws.get(name, law))
        for name, all_ in times.items()
    ]
    return sorted(found, key=lambda kernel: -kernel.total)


def _device(data: Mapping[str, Any], has_kernels: bool) -> dict[str, Any] | None:
    """Return the device that the trace tells."""
    if not has_kernels:
        return {"name": "cpu"}
    devices = [one for one in data.get("deviceProperties") or [] if isinstance(one, dict) and one.get("name")]
    if not devices:
        return None
    memory = devices[0].get("totalGlobalMem")
    return {"name": str(devices[0]["name"]), **({"memory": f"{memory} B"} if memory else {}), "source": "the trace"}


def _source(path: Path, device: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "title": f"trace {path.name}",
        "quality": "imported",
        "machine": device["name"] if device else "not told",
        "date": datetime.fromtimestamp(path.stat().st_mtime, UTC).date().isoformat(),
        "note": "of the PyTorch profiler; the date is that of the file, caches are taken as cold",
    }
