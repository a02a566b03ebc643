"""The command `coordsim profile cache`.

Leaves out: the count (`models.serving.cache_study`), imported only when it is called; traces whose content is not in blocks.
Checked: tests/test_cache_study.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ..sim.report.terminal import Format, put_view

if TYPE_CHECKING:
    from ..models.serving.cache_study import Reuse

__all__ = ["cache"]

_CAPACITY = "1k, 10k, 100k, inf"
_TTL = "1 min, 5 min, inf"
_COUNT = re.compile(r"([0-9]+(?:\.[0-9]+)?) *([kM]?) *(?:blocks)?")
_TIMES = {"": 1, "k": 1_000, "M": 1_000_000}

T = TypeVar("T")
Size = tuple[float, float | None]


def cache(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Requests, as CSV or JSON lines, also gzipped.")],
    *,
    capacity: Annotated[
        str, typer.Option(metavar="LIST", help="Sizes in blocks of the trace, or in bytes: `10k, 40 GB, inf`.")
    ] = _CAPACITY,
    ttl: Annotated[
        str, typer.Option(metavar="LIST", help="Times after which an unused block goes: `5 min, inf`.")
    ] = _TTL,
    block: Annotated[int, typer.Option(min=1, metavar="TOKENS", help="Tokens of a block of the trace.")] = 512,
    blocks: Annotated[
        str, typer.Option(metavar="COLUMN", help="The column with the ids of a request's blocks.")
    ] = "hash_ids",
    unit: Annotated[
        str | None, typer.Option(metavar="s|ms|us|ns", help="Of times. Default: ms in Mooncake's traces, else s.")
    ] = None,
    shape: Annotated[
        str | None, typer.Option(metavar="NAME", help="The model whose KV, in 16 bits, capacities in bytes hold.")
    ] = None,
    format: Annotated[Format, typer.Option("--format", help="How stdout is written.")] = Format.TABLE,
) -> None:
    """Say what share of a trace's blocks a prefix cache finds, by its capacity and time to live."""
    from ..models.serving.cache_study import reuse
    from ..models.trace_file import UNITS, TraceColumns, read_trace_file
    from ..sim.report.cache_tables import cache_view

    if unit is not None and unit not in UNITS:
        raise typer.BadParameter(f"must be one of {', '.join(UNITS)}; got `{unit}`", param_hint="--unit")
    each = _block_bytes(shape, block)
    sizes = _listed(capacity, lambda text: _size(text, each), "--capacity")
    limits = _listed(ttl, _limit, "--ttl")
    table = read_trace_file(file, TraceColumns(blocks=blocks, block=block), unit, sort=True)
    assert table.request is not None
    assert table.blocks is not None
    study = reuse(zip(table.times.tolist(), table.request.tolist(), table.blocks, strict=True), block)
    data = {
        "file": str(file),
        "requests": len(table.times),
        "tokens": float(table.request.sum()),
        "blocks": study.asked,
        "block": block,
        "distinct": study.distinct,
        "unit_assumed": table.unit_assumed,
        "block_bytes": each,
        "shape": shape,
        "infinite": _row(study, (math.inf, None), math.inf),
        "nearly": _nearly(study),
        "rows": [_row(study, size, limit) for size in sizes for limit in limits],
    }
    put_view(cache_view(data), format)


def _row(study: Reuse, size: Size, limit: float) -> dict[str, Any]:
    """Return what one cache finds as plain data; None for what has no limit."""
    found = study.found(size[0], limit)
    tokens = float(study.lengths.sum())
    return {
        "capacity": None if size[0] == math.inf else int(size[0]),
        "capacity_bytes": size[1],
        "ttl": None if limit == math.inf else limit,
        "found": found.blocks,
        "found_tokens": found.tokens,
        "block_rate": found.blocks / study.asked if study.asked else 0.0,
        "token_rate": found.tokens / tokens if tokens else 0.0,
        "request_rate": found.share,
        "requests_hit": found.requests,
    }


def _nearly(study: Reuse) -> dict[str, float] | None:
    """Return the capacity (blocks) and the time (s) that 95 % of what an infinite cache finds take; None if it finds nothing."""
    import numpy as np

    if not study.distance.size:
        return None
    place = math.ceil(0.95 * study.distance.size) - 1
    return {
        "capacity": int(np.partition(study.distance, place)[place]),
        "ttl": float(np.partition(study.gap, place)[place]),
    }


def _listed(texts: str, read: Callable[[str], T], option: str) -> list[T]:
    """Return what a list with commas says."""
    try:
        return [read(text.strip()) for text in texts.split(",")]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def _block_bytes(shape: str | None, block: int) -> float | None:
    """Return the bytes of the KV of one block, if it is said of which model."""
    from ..models.shapes import preset

    try:
        return None if shape is None else preset(shape).kv_bytes_per_token() * block
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--shape") from None


def _size(text: str, each: float | None) -> Size:
    """Return a capacity in blocks of `each` bytes, and in bytes if it is given so."""
    from ..sim.engine import units

    if text == "inf":
        return math.inf, None
    count = _COUNT.fullmatch(text)
    if count is not None:
        size, stated = float(count[1]) * _TIMES[count[2]], None
    elif each is None:
        units.parse(text, units.SIZE)
        raise ValueError(f"`{text}` is in bytes: say by --shape of which model, or give blocks, such as `10k`")
    else:
        stated = units.parse(text, units.SIZE)
        size = stated // each
    if size < 1:
        raise ValueError(f"must hold a block at least; got `{text}`")
    return size, stated


def _limit(text: str) -> float:
    """Return a time to live in seconds."""
    from ..sim.engine import units

    limit = math.inf if text == "inf" else units.parse(text, units.DURATION)
    if limit <= 0:
        raise ValueError(f"must be a duration > 0, or `inf`; got `{text}`")
    return limit
