"""What is encoded, sent and stored by the probes: the state of an agent, an image, tensors, plain messages.

A state is a list of chat messages in rounds of about 1 kB: an assistant's text with a tool call, then the tool's text with
two results. A larger state has more rounds, not longer ones, so the mix of objects and characters is one for all sizes.
Copies of one size differ in every text and encode to the same length, because texts are slices of fixed lengths.

Leaves out: text beyond ASCII, which some codecs escape; states whose messages are much longer or shorter.
Checked: tests/test_coordination_probes.py.
"""

import random
from functools import cache
from typing import Any

import numpy as np

__all__ = ["copies", "image", "message", "state"]

_WORDS = (
    "agent plan asks tools for facts before it answers each step needs context from memory while results arrive late"
)
_POOL = 1 << 16
_ROUND = 1000  # bytes of a round in JSON, about
_TARGET_COPIES = 8_000_000  # bytes that the copies of one size make together, where their number is not at a bound


def copies(size: int) -> int:
    """Return how many copies of `size` bytes a probe rotates: enough to leave small ones out of the nearest cache."""
    return max(2, min(16, _TARGET_COPIES // size))


def state(size: int, copy: int) -> list[dict[str, Any]]:
    """Return the messages of an agent whose JSON is near `size` bytes; `copy` picks the texts, not their lengths."""
    draws = random.Random(copy)
    rounds = max(1, round(size / _ROUND))
    return [part for number in range(rounds) for part in _round(number, draws)]


def image(size: int, copy: int) -> bytes:
    """Return the bytes of a compressed image, whose base64 text is near `size` bytes."""
    return np.random.default_rng(copy).bytes(size * 3 // 4)


def message(size: int, copy: int) -> bytes:
    """Return a message of exactly `size` bytes, at least 8, that opens with its size as a big-endian 64-bit integer."""
    return size.to_bytes(8, "big") + np.random.default_rng(copy).bytes(size - 8)


@cache
def _pool() -> str:
    """Return text of `_POOL` characters, of which texts are slices."""
    return " ".join(random.Random(0).choices(_WORDS.split(), k=_POOL // 3))[:_POOL]


def _text(length: int, draws: random.Random) -> str:
    start = int(draws.random() * (_POOL - length))
    return _pool()[start : start + length]


def _round(number: int, draws: random.Random) -> list[dict[str, Any]]:
    """Return two messages: the assistant's with a call of a tool, and the tool's with what it found."""
    call = f"call_{number:08d}"
    thought = {
        "role": "assistant",
        "content": _text(240, draws),
        "tool_call_id": "",
        "tool_calls": [{"id": call, "name": "search", "arguments": f'{{"query": "{_text(40, draws)}", "limit": 2}}'}],
        "results": [],
    }
    results = [
        {
            "title": _text(40, draws),
            "url": f"https://example.org/{call}/{rank}",
            "rank": rank,
            "score": 0.5 ** (1 + rank),
        }
        for rank in range(2)
    ]
    found = {
        "role": "tool",
        "content": f"{_text(115, draws)}\n{_text(114, draws)}",
        "tool_call_id": call,
        "tool_calls": [],
        "results": results,
    }
    return [thought, found]
