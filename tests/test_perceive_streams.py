"""Streams of modalities: when their pieces are there, what aligning them costs, and what is late or lost."""

from typing import Any

import numpy as np
import pytest

from .scene import Data, accounts, chain, fact, leaves, named, overlapped, parts, run, scene, statuses, total
from .test_perceive import column, tasks


def stream(encoder: str = "enc", **more: Any) -> Data:
    """Return a modality of one frame each 100 ms, ten in all."""
    own = {"stream": {"rate": "10 / s", "length": "1 s"}} | more
    return {"kind": "video", "encoder": encoder, **own}


def world(modalities: Data, encoder: Data, **step: Any) -> Data:
    return {
        "modalities": modalities,
        "encoders": {"enc": {"concurrency": 1000, **encoder}},
        **chain(("see", {"perceive": list(modalities), **step})),
    }


def test_try() -> None:
    r = run(world({"a": stream()}, {"latency": "20 ms"}))
    print(total(r), accounts(r), overlapped(r), fact(r, "pieces"))
    r = run(world({"a": stream(), "b": stream()}, {"latency": "20 ms"}, align={"window": {"length": "200 ms"}}))
    print(total(r), accounts(r), overlapped(r), fact(r, "pieces"))
    r = run(world({"a": stream()}, {"latency": "200 ms"}))
    print(total(r), accounts(r), overlapped(r), fact(r, "pieces"))
    j = stream(stream={"rate": "10 / s", "length": "1 s", "jitter": {"exponential": {"mean": "50 ms"}}, "loss": "10 %", "source": "person"})
    for al in ({"window": {"length": "200 ms"}}, {"watermark": {"length": "200 ms"}}, {"jitter_buffer": {"depth": "80 ms"}}, {"pairwise": {"each": "10 ms"}}):
        r = run(world({"a": j, "b": j}, {"latency": "20 ms"}, align=al))
        print(total(r), accounts(r), overlapped(r), fact(r, "pieces"), fact(r, "late_pieces"), fact(r, "lost_pieces"))
