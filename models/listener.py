"""Who hears of the output of a model's call as it comes.

Checked: tests/test_streaming_calls.py, tests/test_let_go.py.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

__all__ = ["Emit", "Listener", "Marks"]

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
