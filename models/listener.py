"""Who hears of the output of a model's call as it comes.

Checked: tests/test_streaming_calls.py, tests/test_let_go.py.
"""

import math
from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..sim.engine.simulation import Call

if TYPE_CHECKING:
    from ..sim.engine.branch import Branch
    from .model_call import ModelCall

__all__ = ["Emit", "Listener", "Marks", "marks", "parts_at", "tell_on_time"]

Marks = float | Callable[[float], Sequence[float]]
Emit = Callable[[float, float, list[float]], None]


class Listener(NamedTuple):
    """Who hears of a call's output as it comes: at which marks, and how."""

    marks: Marks
    emit: Emit

    def counts(self, output: float) -> list[int]:
        """Return the counts of tokens at which a call of so many is to be told, its end left out; a token comes whole."""
        step = self.marks
        marks: Sequence[float]
        if callable(step):
            marks = step(output)
        elif step > 0:
            marks = [number * step for number in range(1, math.ceil(output / step))]
        else:
            raise ValueError(f"marks must lie more than 0 tokens apart, but got {step}")
        return sorted({count for mark in marks if 0 < (count := math.ceil(mark - 1e-9)) < output})

    def once(self) -> "Listener":
        """Return a listener who hears each count of tokens once, however many attempts come to it."""
        told = -1.0

        def emit(tokens: float, time: float, parts: list[float]) -> None:
            nonlocal told
            if tokens > told:
                told = tokens
                self.emit(tokens, time, parts)

        return Listener(self.marks, emit)


def tell_on_time(call: "ModelCall", branch: "Branch", listener: Listener, end: float) -> Generator[None, Any, None]:
    """Tell a listener of each mark of a service that ends at `end`, when the clock is there."""
    ahead = deque(marks(call, branch, listener, end))

    def tell(_event: object = None) -> None:
        if not branch.over:
            tokens, time = ahead.popleft()
            listener.emit(tokens, time, parts_at(call, branch, time, end))

    calls = [Call(tell) for _ in ahead]
    for one, (_, time) in zip(calls, ahead, strict=True):
        branch.sim.schedule_at(time, one)
    try:
        yield
    finally:
        for one in calls:
            one.cancel()
    while ahead:  # at the very end
        tell()


def marks(call: "ModelCall", branch: "Branch", listener: Listener, end: float) -> list[tuple[int, float]]:
    """Return the marks of a call that ends at `end`, and when they are reached: output comes last, evenly."""
    state, wait = branch.state, branch.wait
    if wait.rejected or not call.tokens:
        return []
    each = call.server.output / call.speed
    if call.pace is not None:
        each = call.pace.of(each, branch)
    return [
        (tokens, max(wait.started, end - (state.output - tokens) * each)) for tokens in listener.counts(state.output)
    ]


def parts_at(call: "ModelCall", branch: "Branch", time: float, end: float) -> list[float]:
    """Return the parts of a branch up to a time in its service, which ends at `end`."""
    parts, wait = branch.parts[:], branch.wait
    middle = wait.started + (end - wait.started) * branch.state.share
    parts[call.queue_account] += wait.started - wait.arrived
    parts[call.server.carry_account] += min(time, middle) - wait.started
    parts[call.infer_account] += max(0.0, time - middle)
    return parts
