"""The head of a fitted scenario: what it is from, how to run it, what may be asked of it, and what the trace does not tell.

Leaves out: the numbers (`scenario`).
Checked: tests/test_trace_scenario.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from .fitted import Fitted
from .yaml_lines import comment_lines

__all__ = ["NOT_IDENTIFIED", "head"]

NOT_IDENTIFIED = "NOT IDENTIFIED by the trace, and what is taken in its place:"
MOST_FILES = 5
MOST_SETS = 4
SIZE = "--tasks 200 --replications 5"  # of a comparison that is over in some seconds
SMALLER = "--tasks 50 --replications 5"  # of one of several parts: each is switched alone too, and last


def head(
    fitted: Fitted,
    models: Mapping[str, str],
    *,
    files: Sequence[str],
    run: str,
    left_out: Iterable[tuple[str, str, str]],
) -> Iterator[str]:
    """Yield the comment that a scenario begins with; `models` are their names by key."""
    more = f" and {len(files) - MOST_FILES} more files" if len(files) > MOST_FILES else ""
    yield from comment_lines(
        f"Fitted to {', '.join(files[:MOST_FILES])}{more}: {fitted.tasks:,} tasks, {fitted.calls:,} calls of models and tools."
    )
    yield from comment_lines(
        "Behind a number: its 95 % interval over tasks, taken as independent of each other, and of how many calls, turns or tasks it is."
    )
    yield "#"
    yield f"#   coordsim run {run}"
    for said, sets in _questions(fitted, models):
        yield f"#   # {said}"
        yield f"#   coordsim compare {run} {SIZE if len(sets) == 1 else SMALLER}" + (
            " \\" if len(sets) > 1 else f" {sets[0]}"
        )
        if len(sets) > 1:
            yield from (f"#     {one}" + " \\" * (place < len(sets) - 1) for place, one in enumerate(sets))
    for note in fitted.notes:
        yield from comment_lines(note)
    unknown = [(one.what, one.why, one.default) for one in fitted.unidentified]
    unknown += list(left_out)
    if unknown:
        yield "#"
        yield f"# {NOT_IDENTIFIED}"
        for what, why, default in unknown:
            yield from comment_lines(f"- {what}: {why}; taken: {default}", hang="  ")


def _questions(fitted: Fitted, models: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    """Yield what may be asked of it: words, and the options of a comparison."""
    faster = [f"--with models.{name}.speed=2" for name in models.values()]
    if 0 < len(faster) <= MOST_SETS:
        yield "models twice as fast", faster
    slow = max(fitted.tools, key=lambda one: one.calls * one.latency.mean.value, default=None)
    if slow is not None:
        yield f"{slow.key} four times as fast", [f"--with tools.{slow.key}.speed=4"]
    if any(one.law is not None for one in fitted.models):
        yield "no context that is sent again", ["--with context.grows=false"]
    yield "tools one after the other", ["--with runtime.tools=synchronous"]
