"""Probes of the host's part: launching a kernel, replaying a recorded graph, waiting for a device that is idle.

Leaves out: launches from several threads.
Checked: tests/test_kernel_probes.py.
"""

import time
from functools import partial

import torch

from ..probe import Call, Found
from .common import Numbers, Place, missing, probe

__all__ = ["found"]


def found(place: Place) -> Found:
    """Return the probes of launches. On the CPU a launch is the call of an operation on one element."""
    launch = Found((probe(place, "launch", {}, [{}], partial(_launch, place), "host"),))
    if not place.cuda:
        idle = "synchronize needs a CUDA device: on the CPU the work is done when the call returns"
        return launch + Found(
            (), (missing("graph.replay", {}, "CUDA graphs need a CUDA device"), missing("synchronize", {}, idle))
        )
    counts = [{"kernels": count} for count in (1, 4, 16, 50, 200, 1000)]
    replay = probe(place, "graph.replay", {}, counts, partial(_replay, place))
    return launch + Found((replay, probe(place, "synchronize", {}, [{}], _synchronize, "host")))


def _launch(place: Place, _sizes: Numbers) -> Call:
    one = torch.zeros(1, device=place.device)

    def call(_turn: int) -> None:
        one.add_(1.0)

    def alone(_turn: int) -> float:
        """Time the launch by itself: launched in a row, kernels would fill the queue, and the device be measured."""
        start = time.perf_counter_ns()
        one.add_(1.0)
        taken = time.perf_counter_ns() - start
        torch.cuda.synchronize()
        return taken * 1e-9

    return alone if place.cuda else call


def _replay(place: Place, s: Numbers) -> Call:
    one = torch.zeros(1, device=place.device)
    graph = torch.cuda.CUDAGraph()
    one.add_(1.0)  # a graph may hold no first call of a kernel
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        for _ in range(s["kernels"]):
            one.add_(1.0)

    def call(_turn: int) -> None:
        graph.replay()

    return call


def _synchronize(_sizes: Numbers) -> Call:
    torch.cuda.synchronize()

    def call(_turn: int) -> None:
        torch.cuda.synchronize()

    return call
