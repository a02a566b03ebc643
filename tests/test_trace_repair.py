"""Repairs of one task's spans: each is made as told, and counted; the order of the spans does not matter."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordsim.sim.trace.observation import SECOND, Observation
from coordsim.sim.trace.repair import ABSURD, ROOT, Tree, repair
from coordsim.sim.trace.tally import Tally


def span(at: str, parent: str, start: float | None, end: float | None, **more: Any) -> Observation:
    """Return a span with times in seconds."""
    first, last = (None if time is None else round(time * SECOND) for time in (start, end))
    return Observation("t", at, parent, "other", "n", "", first, last, **more)


def repaired(*spans: Observation) -> tuple[Tree, Tally]:
    """Return the tree, and what was counted; the spans are counted as a format would."""
    tally = Tally(spans=len(spans))
    return repair(list(spans), tally), tally


def parents(tree: Tree) -> dict[str, str]:
    """Return the parent's id by id."""
    return {one.id: "" if at == ROOT else tree.spans[at].id for one, at in zip(tree.spans, tree.parent, strict=True)}


def times(tree: Tree) -> dict[str, tuple[float, float]]:
    """Return start and end (s) by id."""
    return {one.id: (tree.start[at] / SECOND, tree.end[at] / SECOND) for at, one in enumerate(tree.spans)}


def count(tally: Tally, word: str) -> int:
    """Return how many spans the notes with this word count."""
    return sum(note.spans for what, note in tally.notes.items() if word in what)


def test_children_of_nothing_become_children_of_the_root() -> None:
    """A missing parent is replaced by the root, if the span lies in it."""
    tree, tally = repaired(span("r", "", 0, 10), span("a", "gone", 1, 2), span("b", "gone", 11, 12))
    assert parents(tree) == {"r": "", "a": "r", "b": ""}
    assert count(tally, "missing") == 2


def test_circles_and_own_parents_are_cut() -> None:
    """A circle is cut at the span that begins first; a span that is its own parent lies in the root that was there then."""
    tree, tally = repaired(span("a", "c", 0, 9), span("b", "a", 1, 8), span("c", "b", 2, 7), span("s", "s", 3, 4))
    assert parents(tree) == {"a": "", "b": "a", "c": "b", "s": "a"}
    assert count(tally, "circle") == 3
    assert count(tally, "its own parent") == 1
    assert count(tally, "missing") == 0


def test_the_same_span_twice_is_dropped_and_another_of_its_id_kept() -> None:
    """Copies are dropped; spans that differ are not."""
    tree, tally = repaired(span("a", "", 0, 9), span("a", "", 0, 9), span("a", "", 1, 3))
    assert len(tree.spans) == tally.kept == 2
    assert count(tally, "twice") == 1
    assert count(tally, "same id") == 1


def test_a_copy_from_before_the_end_is_dropped() -> None:
    """Some exporters write a span when it begins and again when it ends: it is one span."""
    tree, tally = repaired(span("a", "", 0, None), span("a", "", 0, 9))
    assert times(tree) == {"a": (0, 9)}
    assert tally.dropped == 1


def test_an_open_span_ends_with_the_last_that_lies_in_it() -> None:
    """Or where it starts, if there is none."""
    tree, tally = repaired(
        span("r", "", 0, None), span("a", "r", 1, None), span("b", "a", 2, 5), span("c", "r", 3, None)
    )
    assert times(tree) == {"r": (0, 5), "a": (1, 5), "b": (2, 5), "c": (3, 3)}
    assert count(tally, "no end") == 3
    assert len(tree.unended) == 3


def test_times_that_cannot_be() -> None:
    """Ends before starts take no time; what is ten years off has no time; without any, a span is dropped."""
    spans = [span(str(n), "", 1e9 + n, 1e9 + n + 1) for n in range(4)]
    far = 1e9 + 2 * ABSURD / SECOND
    tree, tally = repaired(
        *spans,
        span("e", "", 1e9 + 5, 1e9 + 4),
        span("x", "", far, far),
        span("n", "", None, None),
        span("o", "", None, 1e9),
    )
    assert times(tree)["e"] == (1e9 + 5, 1e9 + 5)
    assert times(tree)["o"] == (1e9, 1e9)
    assert tally.dropped == 2
    assert "x" not in times(tree)
    assert tally.notes["the end is before the start: no time passes"].most == pytest.approx(1)


def test_clock_skew_moves_a_child_of_another_process_into_its_parent() -> None:
    """It goes to the middle of what is left, with its own children; one of the same process stays."""
    tree, tally = repaired(
        span("r", "", 10, 20, process="p"),
        span("a", "r", 2, 6, process="q"),
        span("b", "a", 3, 4, process="q"),
        span("c", "r", 18, 22, process="p"),
        span("d", "r", 0, 30, process="q"),
    )
    assert times(tree) == {"r": (10, 20), "a": (13, 17), "b": (14, 15), "c": (18, 22), "d": (10, 40)}
    assert count(tally, "clock skew") == 2
    assert count(tally, "not wholly") == 2


def test_whole_seconds_are_noted() -> None:
    """Times that are all whole seconds are told of; three spans may be so by chance."""
    assert count(repaired(*(span(str(n), "", n, n + 1) for n in range(5)))[1], "whole seconds") == 5
    assert not count(repaired(*(span(str(n), "", n, n + 1) for n in range(3)))[1], "whole seconds")


ROWS = st.lists(
    st.tuples(st.integers(0, 6), st.integers(-1, 8), st.integers(0, 20), st.one_of(st.none(), st.integers(-5, 20)), st.sampled_from(["", "p", "q"])),
    min_size=1,
    max_size=10,
)  # fmt: skip


def made(rows: list[tuple[Any, ...]]) -> list[Observation]:
    """Return spans of a few ids, so that many are the same or parents of each other."""
    return [
        span(
            str(at),
            "" if parent < 0 else str(parent),
            start,
            None if length is None else start + length,
            process=process,
        )
        for at, parent, start, length, process in rows
    ]


@given(ROWS, st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_the_order_does_not_matter_and_every_span_is_accounted_for(rows: list[tuple[Any, ...]], seed: int) -> None:
    """Shuffled, the same tree and the same counts come out; read are kept and dropped; no circles are left, no time runs back."""
    one, tally = repaired(*made(rows))
    other = made(rows)
    random.Random(seed).shuffle(other)
    again, counted = repaired(*other)
    assert (one.spans, one.start, one.end, one.parent) == (again.spans, again.start, again.end, again.parent)
    assert {what: (note.spans, note.most) for what, note in tally.notes.items()} == {
        what: (note.spans, note.most) for what, note in counted.notes.items()
    }
    assert tally.kept == len(one.spans) == len(list(one.downward()))
    assert all(start <= end for start, end in zip(one.start, one.end, strict=True))


def test_spans_that_lost_their_parent_lie_in_the_root_that_was_there() -> None:
    """Roots that only enclose take in what lies in their time, the innermost first; calls take nothing in, nor do roots of another trace."""
    spans = [
        span("agent", "", 0, 10),
        span("inner", "", 2, 8),
        span("chat", "", 3, 4),
        span("late", "", 9, 11),
        span("tool", "", 12, 20),
        span("in tool", "", 13, 14),
    ]
    for one in spans[2:]:
        one.kind = "tool"
    spans[0].kind = "agent"
    other = span("other", "", 1, 2)
    other.trace = "u"
    tree, tally = repaired(*spans, other)
    assert parents(tree) == {
        "agent": "",
        "inner": "agent",
        "chat": "inner",
        "late": "",
        "tool": "",
        "in tool": "",
        "other": "",
    }
    assert count(tally, "no parent") == 2
    assert tally.notes["no parent, but within the time of a root: taken as a child of it"].fate == "guessed"


def test_what_names_no_parent_that_can_be_hangs_below_the_root() -> None:
    """A circle is cut and hangs below the root, as does a span that is its own parent, and one whose parent is missing."""
    tree, tally = repaired(
        span("r", "", 0, 6), span("m", "gone", 1, 2), span("a", "b", 2, 3), span("b", "a", 2.2, 4), span("c", "c", 4, 5)
    )
    assert parents(tree) == {"r": "", "m": "r", "a": "r", "b": "a", "c": "r"}
    assert count(tally, "several") == 0
    assert count(tally, "no parent") == 0


def test_many_roots_are_put_in_order_quickly() -> None:
    """Twenty thousand roots of which none lies in another, though all overlap, and as many calls in them."""
    spans = [span(f"r{n}", "", n, n + 30_000) for n in range(20_000)] + [
        span(f"c{n}", "", n, n + 1) for n in range(20_000)
    ]
    tree, _ = repaired(*spans)
    found = parents(tree)
    assert not any(found[f"r{n}"] for n in range(20_000))
    assert all(found[f"c{n}"] == f"r{n}" for n in range(20_000))
