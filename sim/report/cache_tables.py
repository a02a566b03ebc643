"""How much a prefix cache finds of a trace, by capacity and time to live, as a report.

Leaves out: the count, which is `models.serving.cache_study`; this takes plain data.
Checked: tests/test_cache_study.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ..engine import units
from .layout import Report, Table
from .profile_laws import percent
from .profile_tables import View

__all__ = ["cache_view"]

Data = dict[str, Any]

_NONE = "none"
_READING = (
    "Requests come one by one; each looks up its leading blocks and is inserted at that moment. Least recently used blocks "
    "go first, a request's tail before its head. Per request: the mean over requests of the share of its tokens found."
)


def cache_view(data: Data) -> View:
    """Return what caches find as a report.

    `data` has `file`, `requests`, `tokens`, `blocks`, `block` (tokens of one), `distinct` (blocks that differ), `unit_assumed`,
    `shape` and `block_bytes` (of a block's KV) or None, `infinite`, `nearly` and `rows`. A row has `capacity` and `ttl` (blocks and s;
    None for no limit), `capacity_bytes` or None, `found` and `found_tokens`, the shares `block_rate`, `token_rate` and
    `request_rate`, and `requests_hit`. `infinite` is the row without limits; `nearly` what 95 % of it take: `capacity`, `ttl`.
    """
    requests, blocks = f"{data['requests']:,} requests", f"{data['blocks']:,} blocks of {data['block']:g}"
    counts = f"{requests}, {data['tokens']:,.0f} tokens in {blocks}, {data['distinct']:,} of them different"
    heading = (f"Prefix cache on {data['file']}", counts)
    rows = tuple(_cells(row) for row in data["rows"])
    columns = ("capacity, blocks", "TTL", "blocks found", "of blocks", "of tokens", "per request", "requests with any")
    table = Table("Found, by capacity and time to live", columns, ">>>>>>>", rows)
    report = Report(heading, _answer(data), (table,), (*_notes(data), _READING))
    return View(report, data, tuple(data["rows"]))


def _answer(data: Data) -> str:
    one, nearly = data["infinite"], data["nearly"]
    text = (
        f"An infinite cache finds {one['found']:,} of {data['blocks']:,} blocks ({percent(one['block_rate'])}): "
        f"{percent(one['token_rate'])} of the tokens, and {percent(one['request_rate'])} of a request in the mean."
    )
    if nearly is None:
        return text
    wait = units.format(nearly["ttl"], units.DURATION)
    return f"{text} 95 % of that take no more than {nearly['capacity']:,} blocks, and 95 % come back within {wait}."


def _cells(row: Data) -> tuple[str, ...]:
    return (
        _capacity(row),
        _NONE if row["ttl"] is None else units.format(row["ttl"], units.DURATION),
        f"{row['found']:,}",
        percent(row["block_rate"]),
        percent(row["token_rate"]),
        percent(row["request_rate"]),
        f"{row['requests_hit']:,}",
    )


def _capacity(row: Data) -> str:
    if row["capacity"] is None:
        return "infinite"
    blocks = f"{math.floor(row['capacity']):,}"
    return blocks if row["capacity_bytes"] is None else f"{units.format(row['capacity_bytes'], units.SIZE)} = {blocks}"


def _notes(data: Data) -> Iterator[str]:
    if data["shape"] is not None:
        size = units.format(data["block_bytes"], units.SIZE)
        yield f"A block is {size}: {data['block']:g} tokens of keys and values of {data['shape']} in 16 bits."
    if data["unit_assumed"]:
        yield "Times are taken to be in seconds; say --unit if they are not."
