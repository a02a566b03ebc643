"""Probes of memory: the KV cache's append, gather and copy, copies within the device, and across to the host.

A block of the cache is 64 KiB: 16 tokens of 8 KV heads of 128 elements, keys and values, of two bytes. A token is 4 KiB.

Leaves out: copies between devices, which `send_recv` tells; discs.
Checked: tests/test_kernel_probes.py.
"""

from collections.abc import Sequence
from functools import partial

import torch

from ..probe import Call, Found, Missing
from .common import MOST_SETS, Make, Numbers, Place, missing, pool, probe

__all__ = ["found"]

ELEMENT = 2  # bytes of bf16
TOKEN_BYTES, BLOCK_BYTES = 4 * 2**10, 64 * 2**10
HOST_COPIES = ("copy.host-to-device", "copy.device-to-host")


def found(place: Place) -> Found:
    """Return the probes of memory; copies to and from the host are missing where host and device are one."""
    tokens = place.pick((1, 3, 16, 64, 200, 1000), (1, 8, 50, 256, 2048, 8192))
    blocks = place.pick((1, 3, 8, 30, 100, 200), (1, 8, 50, 300, 2048, 8192))
    spans = place.pick((4096, 50_000, 262_144, 1_000_000, 4_194_304, 12_000_000), _powers(12, 28))
    kinds: list[tuple[str, Sequence[int], Make]] = [
        ("kv.append", [TOKEN_BYTES * count for count in tokens], partial(_append, place)),
        ("kv.gather", [BLOCK_BYTES * count for count in blocks], partial(_gather, place)),
        ("kv.copy", [BLOCK_BYTES * count for count in blocks], partial(_clone, place)),
        ("copy.device", spans, partial(_within, place)),
    ]
    probes = tuple(probe(place, op, {}, [{"bytes": size} for size in sizes], make) for op, sizes, make in kinds)
    return Found(probes) + (_across(place) if place.cuda else Found((), _one_memory()))


def _powers(low: int, high: int) -> list[int]:
    """Return powers of two, and half as much again between them by turns."""
    return [int(2**power * (1.5 if power % 4 == 2 else 1)) for power in range(low, high + 1, 2)]


def _one_memory() -> tuple[Missing, ...]:
    why = "host and device are one on the CPU; copies between them need a CUDA device"
    copies = [missing(op, {"memory": kind}, why) for op in HOST_COPIES for kind in ("pinned", "pageable")]
    return (*copies, missing("hand_off", {}, why))


def _across(place: Place) -> Found:
    sizes = [{"bytes": size} for size in _powers(10, 28)]
    makes = {"copy.host-to-device": _to_device, "copy.device-to-host": _to_host}
    copies = [
        probe(place, op, {"memory": kind}, sizes, partial(make, place, kind == "pinned"))
        for op, make in makes.items()
        for kind in ("pinned", "pageable")
    ]
    return Found((*copies, probe(place, "hand_off", {}, sizes, partial(_hand_off, place), "host")))


def _cache(place: Place, row_bytes: int) -> torch.Tensor:
    """Return three quarters of the pool as a cache, shape (rows, elements); the rest is for what is new."""
    values = pool(place, "bf16").values
    width = row_bytes // ELEMENT
    rows = values.numel() * 3 // 4 // width
    return values[: rows * width].view(rows, width)


def _places(cache: torch.Tensor, wanted: int) -> tuple[torch.Tensor, ...]:
    """Return, for each turn, `wanted` different rows of the cache in random order."""
    generator = torch.Generator().manual_seed(0)
    turns = max(2, min(MOST_SETS, len(cache) // wanted))
    order = [torch.randperm(len(cache), generator=generator) for _ in range(-(-turns * wanted // len(cache)))]
    per_order = len(cache) // wanted
    rows = torch.cat([part[: per_order * wanted] for part in order]).view(-1, wanted)
    return rows[:turns].to(cache.device).unbind(0)


def _append(place: Place, s: Numbers) -> Call:
    cache = _cache(place, TOKEN_BYTES)
    places = _places(cache, s["bytes"] // TOKEN_BYTES)
    new = pool(place, "bf16").values[-s["bytes"] // ELEMENT :].view(-1, cache.shape[1])
    count = len(places)

    def call(turn: int) -> None:
        cache.index_copy_(0, places[turn % count], new)

    return call


def _gather(place: Place, s: Numbers) -> Call:
    cache = _cache(place, BLOCK_BYTES)
    places = _places(cache, s["bytes"] // BLOCK_BYTES)
    count = len(places)

    def call(turn: int) -> None:
        cache.index_select(0, places[turn % count])

    return call


def _clone(place: Place, s: Numbers) -> Call:
    inputs = pool(place, "bf16").sets((s["bytes"] // ELEMENT,))
    count = len(inputs)

    def call(turn: int) -> None:
        inputs[turn % count][0].clone()

    return call


def _within(place: Place, s: Numbers) -> Call:
    """Copy into memory that is already there."""
    shape = (s["bytes"] // ELEMENT,)
    inputs = pool(place, "bf16").sets(shape, shape)
    count = len(inputs)

    def call(turn: int) -> None:
        source, target = inputs[turn % count]
        target.copy_(source)

    return call


def _buffers(s: Numbers, pinned: bool) -> list[torch.Tensor]:
    return [torch.ones(s["bytes"], dtype=torch.uint8, pin_memory=pinned) for _ in range(2)]


def _to_device(place: Place, pinned: bool, s: Numbers) -> Call:
    hosts, target = _buffers(s, pinned), torch.empty(s["bytes"], dtype=torch.uint8, device=place.device)

    def call(turn: int) -> None:
        target.copy_(hosts[turn % 2], non_blocking=pinned)

    return call


def _to_host(place: Place, pinned: bool, s: Numbers) -> Call:
    hosts, source = _buffers(s, pinned), torch.ones(s["bytes"], dtype=torch.uint8, device=place.device)

    def call(turn: int) -> None:
        hosts[turn % 2].copy_(source, non_blocking=pinned)

    return call


def _hand_off(place: Place, s: Numbers) -> Call:
    hosts, target = _buffers(s, True), torch.empty(s["bytes"], dtype=torch.uint8, device=place.device)

    def call(turn: int) -> None:
        target.copy_(hosts[turn % 2], non_blocking=True)
        target[0].item()  # waits for the copy, and brings a word back

    return call
