"""The models of the system: one block of a transformer, and an encoder of images, in torch on the CPU or a GPU.

Leaves out: what they compute: weights are random.
Checked: tests/test_validation_system.py.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from .wire import core

__all__ = ["Worked", "block", "encoder"]

WIDTH, HEADS, LONGEST = 128, 4, 4096
_PATCHES, _PATCH_WIDTH = 196, 192


class Worked(NamedTuple):
    """When work began and ended, the CPU time of its thread (s), and the core that it began on."""

    started: float
    ended: float
    cpu: float
    core: float


def block(device: str) -> Callable[[int], Worked]:
    """Return what runs a transformer block over so many tokens."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, dropout=0.0, batch_first=True, device=device)
    layer.eval()
    tokens = torch.randn(1, LONGEST, WIDTH, device=device)
    return lambda count: _timed(lambda: layer(tokens[:, : max(1, min(count, LONGEST))]), device)


def encoder(device: str) -> Callable[[int], Worked]:
    """Return what encodes an image of so many patches."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    layer = torch.nn.Sequential(
        torch.nn.Linear(_PATCH_WIDTH, 4 * _PATCH_WIDTH),
        torch.nn.GELU(),
        torch.nn.Linear(4 * _PATCH_WIDTH, _PATCH_WIDTH),
    ).to(device)
    patches = torch.randn(4 * _PATCHES, _PATCH_WIDTH, device=device)
    return lambda count: _timed(lambda: layer(patches[:count]), device)


def _timed(work: Callable[[], Any], device: str) -> Worked:
    import torch

    on, cpu, started = core(), time.thread_time(), time.perf_counter()
    with torch.inference_mode():
        work()
    if device != "cpu":
        torch.cuda.synchronize()
    return Worked(started, time.perf_counter(), time.thread_time() - cpu, on)
