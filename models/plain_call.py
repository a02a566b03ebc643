"""The commonest step, compiled: one model call without tokens, over at most one latency each way, and nothing else.

Scenarios of pure queueing consist of such steps, and long studies of them should be fast, so `Flow.walk` runs them from
a flat record, without a generator, a method call per part, or attribute look-ups.

Leaves out: everything that `ModelCall` and `AgentProcess` do beyond that; what it does is the same to the last bit.
Checked: tests/test_same_path.py, against the general path.
"""

from collections.abc import Callable
from typing import NamedTuple

from ..sim.engine.branch import Wait
from .model_call import ModelCall
from .network import Channel

Draw = Callable[[int, int, int], float]


class PlainCall(NamedTuple):
    """A call as `Flow.walk` unpacks it; an account of -1 stands for a way that costs nothing."""

    callee: int
    request: Draw
    request_fixed: float
    request_account: int
    service: Draw
    use: Callable[[Wait, float, float], bool]
    queue_account: int
    infer_account: int
    response: Draw
    response_fixed: float
    response_account: int
    call_account: int


def compiled(call: ModelCall) -> PlainCall | None:
    """Return the record of a call, or None where the general path is needed."""
    if not call.bare or not (_is_plain(call.request) and _is_plain(call.response)):
        return None
    return PlainCall(
        call.callee, *_way(call.request), _at_speed(call.overhead.draw, call.speed), call.pool.use,
        call.queue_account, call.infer_account, *_way(call.response), call.call_account,
    )  # fmt: skip


def _is_plain(channel: Channel | None) -> bool:
    """Whether a message without payload only takes a latency on this channel."""
    return channel is None or (
        channel.codec is None and not (channel.contended or channel.round_trips or channel.header)
        and len(channel.latencies) <= 1
    )  # fmt: skip


def _way(channel: Channel | None) -> tuple[Draw, float, int]:
    if channel is None:
        return _nothing, 0.0, -1
    draw = channel.latencies[0].draw if channel.latencies else _nothing
    return draw, channel.fixed, channel.transit_account


def _at_speed(draw: Draw, speed: float) -> Draw:
    return draw if speed == 1.0 else lambda task, ordinal, lane: draw(task, ordinal, lane) / speed


def _nothing(_task: int, _ordinal: int, _lane: int) -> float:
    return 0.0
