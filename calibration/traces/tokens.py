"""Tokens of calls: what was new, what had been sent before, what came out, and what turns add to the context.

Output counts that cannot be true (a few tokens for many characters: the count of the first piece of a stream) are told from characters, at
as many of them a token as calls of the same model have whose count is true. Where a trace does not count cached tokens, what was in the
task's last call (its prompt and its output) counts as sent again. What a prompt grows by beyond the output
is laid to the tools of the turn, by their bytes.

Leaves out: prompts that were shortened (counted as `resets`); prompts in common to several tasks.
Checked: tests/test_trace_fit.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ...sim.trace.measured import Call
from .turns import Turn

__all__ = ["CHARACTERS", "Growth", "Tokens", "growth_of", "tokens_of"]

CHARACTERS = 3.6  # a token, where no call of a trace tells: English text and code, as in the runs of github.com/eunomia-bpf/agentcgroup
_MANY = 20.0  # characters a token: no text has so many
_TRUE = 20.0  # output tokens from which on a count tells characters a token
_LEAST_TRUE = 50  # calls
_COUNTED = 0.5  # of calls


@dataclass(frozen=True)
class Tokens:
    """Calls of one model, each array of shape (calls,); nan where a count is missing.

    `before` is what the model had processed by then: prompt and output of the call before (0 for none).
    """

    new: np.ndarray
    cached: np.ndarray
    output: np.ndarray
    prompt: np.ndarray
    before: np.ndarray
    first: np.ndarray  # bool
    stub: np.ndarray  # bool: the output was told from characters
    counted: bool  # whether cached tokens are
    characters: float
    told: int  # calls that tell characters a token


def _is_stub(call: Call) -> bool:
    known = math.isfinite(call.output) and math.isfinite(call.output_bytes)
    return call.stub or (known and call.output_bytes > _MANY * max(1.0, call.output))


def tokens_of(sequences: list[list[Turn]]) -> Tokens:
    """Return the tokens of turns, each sequence those of one task and agent, in order; turns without a model's call are left out."""
    calls = [[turn.model for turn in one if turn.model is not None] for one in sequences]
    flat = [call for one in calls for call in one]
    new, cached, output, size = (
        np.array([getattr(call, name) for call in flat], dtype=float)
        for name in ("new", "cached", "output", "output_bytes")
    )
    stub = np.array([_is_stub(call) for call in flat], dtype=bool)
    characters, told = _characters(output, size, stub)
    told_by_size = stub & np.isfinite(size)
    output = np.where(told_by_size, np.fmax(output, size / characters), np.where(stub, np.nan, output))
    prompt = new + np.where(np.isfinite(cached), cached, 0.0)
    first = np.zeros(len(flat), dtype=bool)
    first[np.cumsum([0, *(len(one) for one in calls)])[:-1][[len(one) > 0 for one in calls]]] = True
    held = prompt + np.where(np.isfinite(output), output, 0.0)
    before = np.where(first, 0.0, np.concatenate([[0.0], held[:-1]])) if flat else prompt
    counted = len(flat) > 0 and float(np.isfinite(cached).mean()) >= _COUNTED
    if not counted:
        cached = np.fmin(before, prompt)
        new = prompt - cached
    return Tokens(new, cached, output, prompt, before, first, stub, counted, characters, told)


def _characters(output: np.ndarray, size: np.ndarray, stub: np.ndarray) -> tuple[float, int]:
    """Return characters a token, of calls whose count is true, and how many these are."""
    true = ~stub & np.isfinite(size) & (output >= _TRUE) & (size > 0)
    if true.sum() < _LEAST_TRUE:
        return CHARACTERS, 0
    return float(np.median(size[true] / output[true])), int(true.sum())


@dataclass(frozen=True)
class Growth:
    """What the prompts of one task grew by, turn by turn, over the turns that tell it: tokens of the next prompt less those of this one.

    `results` is by tool call what it brought: the growth less the output, laid to the calls of the turn by their bytes.
    """

    grown: np.ndarray  # (turns,)
    output: np.ndarray  # (turns,)
    turn: np.ndarray  # (turns,), from 0
    results: list[tuple[Call, float, int]]  # with the turn

    def late(self, first: int) -> tuple[float, float, float]:
        """Return what prompts grew by from turn `first` on, outputs, and what tools brought."""
        some = self.turn >= first
        return (
            float(self.grown[some].sum()),
            float(self.output[some].sum()),
            sum(value for _, value, at in self.results if at >= first),
        )


def growth_of(turns: list[Turn], tokens: Tokens, begin: int) -> Growth:
    """Return the growth over one task's turns. Turns before a prompt that is shorter say nothing.

    `begin` is the place of the first of these turns' calls in `tokens`.
    """
    rows: list[tuple[float, float, int]] = []
    results: list[tuple[Call, float, int]] = []
    own = [turn for turn in turns if turn.model is not None]
    for place, turn in enumerate(own[:-1]):
        grown = float(tokens.prompt[begin + place + 1] - tokens.prompt[begin + place])
        if not math.isfinite(grown) or grown < 0:
            continue
        output = float(tokens.output[begin + place])
        output = output if math.isfinite(output) else 0.0
        rows.append((grown, output, place))
        sizes = np.array([one.output_bytes for one in turn.tools])
        known = np.isfinite(sizes).all() and sizes.sum() > 0
        parts = sizes / sizes.sum() if known else np.full(len(sizes), 1.0 / max(1, len(sizes)))
        results += [
            (call, max(0.0, grown - output) * float(part), place) for call, part in zip(turn.tools, parts, strict=True)
        ]
    found = np.array(rows, dtype=float).reshape(-1, 3)
    return Growth(found[:, 0], found[:, 1], found[:, 2].astype(int), results)
