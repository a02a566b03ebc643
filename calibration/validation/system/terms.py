"""What the system does, in numbers: its processes and the prediction read them here.

Waits and failures of tools come from shuffled decks: of each kind a run meets as many as its law says, and only their order is by chance.

Leaves out: how long anything takes.
Checked: tests/test_validation_system.py.
"""

import random
from collections.abc import Iterator, Sequence
from typing import Any

__all__ = [
    "AT_ONCE", "BACKOFF", "DECK", "HANG", "IMAGE", "MODEL", "OUTPUT", "PATCHES", "PROMPT", "TIMEOUT", "TOKEN", "TOOLS", "TRIES", "WAIT", "deck", "failures",
    "media", "waits",
]  # fmt: skip

TOKEN = 4  # bytes of a token of text
PROMPT, OUTPUT = 120, 20  # tokens with which a task begins, and that the model answers
IMAGE, PATCHES = 12_000, 196  # bytes and patches of an image
TIMEOUT, TRIES, BACKOFF = (
    0.25,
    3,
    0.02,
)  # of a call of a tool (s), attempts, wait before the second (s), doubled each time
MODEL, TOOLS = "model", ("query", "search", "wait")
WAIT = TOOLS[-1]  # waits for somebody else's service, and computes nothing
HANG = 10.0  # s, longer than any caller waits
AT_ONCE = 6  # calls of the tool that waits, in a calibration: both ends have work all the time
DECK = 40  # calls in which waits and failures are met as their law says


def media(number: int) -> str:
    """Return the name of a modality worker."""
    return f"media{number}"


def waits() -> list[float]:
    """Return the deck of waits (s): the quantiles of a Pareto law from 4 ms, with a tail of 1.6, cut at 120 ms."""
    return [min(0.12, 0.004 * (1 - (place + 0.5) / DECK) ** (-1 / 1.6)) for place in range(DECK)]


def failures(share: float) -> list[str]:
    """Return the deck of failures: hangs and errors by turns, as many as the share says."""
    failing = round(share * DECK)
    return ["hang" if place % 2 else "error" for place in range(failing)] + [""] * (DECK - failing)


def deck(cards: Sequence[Any], seed: int) -> Iterator[Any]:
    """Yield the cards in shuffled order, again and again."""
    order = random.Random(seed)
    while True:
        shuffled = list(cards)
        order.shuffle(shuffled)
        yield from shuffled
