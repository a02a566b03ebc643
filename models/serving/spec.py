"""What a scenario may say of an inference server: its batches, its memory, its cache, and its replicas.

Leaves out: the model and the machine, which `llm` says.
Checked: tests/test_served.py, tests/data/bad.
Source of the defaults: vLLM (block 16, 256 sequences, 8192 tokens an iteration, 90 % of the memory), version 0.19.
"""

from typing import Literal, Self

from pydantic import model_validator

from ...sim.engine.spec import (
    Bandwidth,
    Duration,
    Factor,
    PositiveCount,
    PositiveDuration,
    Share,
    Size,
    Spec,
    SpecProblem,
)
from .waiting import Policy

__all__ = ["Autoscale", "Batching", "Cache", "Disaggregated", "Memory", "Routing"]

Routing = Literal["round-robin", "least-loaded", "session", "prefix"]
HOST_BANDWIDTH = 25e9  # bytes/s: what PCIe 4 x16 reaches of its nominal 31.5 GB/s, where the profile tells no link


class Batching(Spec):
    """What an iteration holds: at most `sequences`, and `tokens` of decodes and prompts.

    `chunked` prompts share iterations with decodes; others have iterations of their own. `policy` orders who waits:
    first come first served, shortest prefill first, priority, or the task for which least has been done. When blocks of
    `block` tokens run out, the last to come goes, and computes again (`recompute`) or has its KV copied to the host (`swap`). The
    host adds `host_step` to an iteration and `host_token` for each sequence in it; a scheduler that works one iteration
    `ahead` looks at who comes an iteration later. Attention over lengths that differ takes the share `skew` of what the
    longest would add, were all as long (left out: as a measured iteration says, else none).
    """

    sequences: PositiveCount = 256
    tokens: PositiveCount = 8192
    chunked: bool = True
    block: PositiveCount = 16
    policy: Policy = "fcfs"
    preemption: Literal["recompute", "swap"] = "recompute"
    host_step: Duration = 0.0
    host_token: Duration = 0.0
    ahead: bool = False
    skew: Share | None = None

    @model_validator(mode="after")
    def _room(self) -> Self:
        if self.tokens < self.sequences and self.chunked:
            raise SpecProblem(("tokens",), f"`sequences <= tokens` must hold; got {self.sequences} and {self.tokens}")
        return self


class Memory(Spec):
    """Where KV blocks come from: the share `utilization` of the devices' memory, less weights and `activations`.

    Left out, `activations` are worked out from the shape and the tokens of an iteration. `kv` states the memory for KV instead.
    """

    utilization: Share = 0.9
    activations: Size | None = None
    kv: Size | None = None


class Cache(Spec):
    """What a server does with KV that no request needs at the moment.

    With `prefix`, equal beginnings are shared, and kept until room is needed, least recently used first, or for `ttl`. Evicted
    blocks go to memory of the `host`, then to a `remote` store, and come back at their bandwidths. `hold` is how long a task's
    KV is kept by a runtime that keeps it.
    """

    prefix: bool = True
    ttl: PositiveDuration | None = None
    host: Size = 0.0
    host_bandwidth: Bandwidth | None = None
    remote: Size = 0.0
    remote_bandwidth: Bandwidth = 5e9
    remote_latency: Duration = 1e-3
    hold: PositiveDuration = 300.0

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.remote and not self.host:
            raise SpecProblem(("remote",), "needs `host`: what leaves the device goes to the host's memory first")
        return self


class Disaggregated(Spec):
    """`prefill` replicas compute prompts and hand their KV to `decode` replicas, over links of `bandwidth` and `latency`."""

    prefill: PositiveCount = 1
    decode: PositiveCount = 1
    bandwidth: Bandwidth = 50e9
    latency: Duration = 1e-3


class Autoscale(Spec):
    """Replicas come and go between `replicas` and `most`.

    One more is started when more than `waiting` requests a replica wait, and serves after `cold_start`; one goes when it has
    had nothing to do for `idle`.
    """

    most: PositiveCount
    cold_start: Duration
    waiting: Factor = 4.0
    idle: PositiveDuration = 60.0
