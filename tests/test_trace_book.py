"""From spans to accounts: the law, the critical path against a walk moment by moment, lanes and edges, and what calls are to each other."""

import itertools
import math
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordsim.sim.engine.ledger import DONE, FAILED, STRUCTURE, UNFINISHED, Account
from coordsim.sim.trace.book import book
from coordsim.sim.trace.calls import add_sums, union
from coordsim.sim.trace.measured import Booked, Sums
from coordsim.sim.trace.observation import SECOND, Observation
from coordsim.sim.trace.path import pieces_of, walk, worked
from coordsim.sim.trace.repair import ROOT, Tree, repair
from coordsim.sim.trace.tally import Tally


def span(
    at: str, parent: str, kind: Any, start: float, end: float | None, component: str = "", **more: Any
) -> Observation:
    """Return a span with times in seconds."""
    last = None if end is None else round(end * SECOND)
    return Observation("t", at, parent, kind, more.pop("name", kind), component, round(start * SECOND), last, **more)


def booked(*spans: Observation, by_session: bool = False) -> Booked:
    """Return the task of these spans."""
    tally = Tally()
    return book(repair(list(spans), tally), tally, by_session=by_session)[0]


def seconds(one: Booked) -> dict[str, float]:
    """Return the parts by `category/component/name`."""
    return {f"{a.category}/{a.component}/{a.name}": v for a, v in one.parts.items()}


KINDS = ("llm", "embedding", "tool", "retriever", "agent", "workflow", "human", "client", "other")
SPANS = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.integers(0, 12),
        st.integers(-1, 12),
        st.integers(-3, 7),
        st.booleans(),
        st.sampled_from("ab"),
    ),
    min_size=1,
    max_size=9,
)


def messy(rows: list[tuple[Any, ...]]) -> list[Observation]:
    """Return spans with overlaps, missing parents, circles, open ends and ends before starts; 13 is of no span."""
    return [
        Observation(
            "t", str(n), "" if parent < 0 else str(parent), kind, kind, component, start, None if length == -3 else start + length,
            process=component, error="boom" if failed else "",
        )
        for n, (kind, start, parent, length, failed, component) in enumerate(rows)
    ]  # fmt: skip


@given(SPANS)
@settings(max_examples=60, deadline=None)
def test_the_parts_of_any_task_sum_to_its_length(rows: list[tuple[Any, ...]]) -> None:
    """The law holds whatever the spans are, and the path has no gaps and no overlaps."""
    tally = Tally()
    tree = repair(messy(rows), tally)
    one, roles = book(tree, tally)
    assert sum(one.parts.values()) == pytest.approx(one.end - one.arrival, abs=1e-15)
    path = walk(pieces_of(tree, roles.closed, worked(tree, roles.closed, roles.order)), min(tree.start), max(tree.end))
    assert [end for _, _, end in path[:-1]] == [start for _, start, _ in path[1:]]
    for at, start, end in path:
        assert at == ROOT or tree.start[at] <= start < end <= tree.end[at]


@given(SPANS)
@settings(max_examples=60, deadline=None)
def test_what_the_edges_make_critical_is_what_the_parts_say(rows: list[tuple[Any, ...]]) -> None:
    """The walk of `engine.critical` along the edges gives each account the seconds that it was booked."""
    from coordsim.sim.engine.critical import cover, critical_stretches

    one = booked(*messy(rows))
    stretches = critical_stretches(one.edges)
    takers = {first: account for _, first, _, account in one.lost}
    found: dict[Account, float] = defaultdict(float)
    for place, (lane, _, account, start, end, _, _) in enumerate(one.entries):
        if account.category != STRUCTURE:
            found[takers.get(place, account)] += sum(
                last - first for first, last in cover(stretches.get(lane, []), start, end)
            )
    assert {account for account, value in found.items() if value > 1e-15} == {
        account for account, value in one.parts.items() if value > 0
    }
    for account, value in one.parts.items():
        assert found[account] == pytest.approx(value, abs=1e-15)


@given(SPANS)
@settings(max_examples=60, deadline=None)
def test_no_two_calls_of_a_lane_overlap(rows: list[tuple[Any, ...]]) -> None:
    """In each lane, what is no structure comes one after the other."""
    lanes: dict[int, list[tuple[float, float]]] = {}
    for lane, _, account, start, end, _, _ in booked(*messy(rows)).entries:
        if account.category != STRUCTURE:
            lanes.setdefault(lane, []).append((start, end))
    for entries in lanes.values():
        entries.sort()
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(entries))


def last_call(tree: Tree, at: int) -> int:
    """Return when the last tool in a span was over."""
    if tree.spans[at].kind == "tool":
        return tree.end[at]
    return max((last_call(tree, one) for one in tree.children.get(at, ())), default=-1)


def rank(tree: Tree, at: int, held: list[int], moment: int) -> tuple[int, ...]:
    """Of those whose calls go on until the moment, the first to begin; of those that end with it, the one whose calls lasted longest."""
    work = last_call(tree, at)
    age = (tree.start[at], -tree.end[at], at)
    oldest = min(held, key=lambda one: (tree.start[one], -tree.end[one], one))
    if work >= moment:
        return 0, 0, *age
    return 1, -work if tree.end[at] == moment or at == oldest else 2, *age


def slow_walk(tree: Tree, at: int, low: int, high: int, owners: list[int]) -> None:
    """Mark whose each nanosecond is, by the rule, for trees whose children lie in their parents and whose tools hold nothing."""
    moment = high
    while moment > low:
        held = [one for one in tree.children.get(at, ()) if tree.start[one] < moment <= tree.end[one]]
        if not held:
            owners[moment - 1] = at
            moment -= 1
            continue
        first = min(held, key=lambda one: rank(tree, one, held, moment))
        until = max(tree.start[first], low)
        slow_walk(tree, first, until, moment, owners)
        moment = until


@st.composite
def nested(draw: st.DrawFn) -> Tree:
    """A tree whose children lie in their parents, all in one process; some that hold nothing are tools."""
    spans = [Observation("t", "0", "", "workflow", "w", "", 0, 20)]
    for number in range(1, draw(st.integers(2, 9))):
        parent = spans[draw(st.integers(0, number - 1))]
        assert parent.start is not None
        assert parent.end is not None
        start = draw(st.integers(parent.start, parent.end))
        spans.append(
            Observation("t", str(number), parent.id, "workflow", "w", "", start, draw(st.integers(start, parent.end)))
        )
    holders = {one.parent for one in spans}
    for one in spans:
        if one.id not in holders and draw(st.booleans()):
            one.kind = "tool"
    return repair(spans, Tally())


@given(nested())
@settings(max_examples=150, deadline=None)
def test_the_walk_is_the_rule_applied_moment_by_moment(tree: Tree) -> None:
    """The walk over sorted pieces gives each moment to whom the rule gives it."""
    owners = [ROOT] * 20
    slow_walk(tree, ROOT, 0, 20, owners)
    closed = {at for at, one in enumerate(tree.spans) if one.kind == "tool"}
    inside = pieces_of(tree, closed, worked(tree, closed, list(tree.downward())))
    found = [at for at, start, end in walk(inside, 0, 20) for _ in range(end - start)]
    names = [tuple(tree.spans[at].id for at in (one,)) if one != ROOT else () for one in found]
    times = [(tree.start[one], tree.end[one]) for one in found]
    assert times == [(tree.start[one], tree.end[one]) for one in owners], names


def test_tools_side_by_side_are_counted_once() -> None:
    """The critical seconds of overlapping tools are the union of their intervals; the rest is overlapped."""
    one = booked(
        span("r", "", "agent", 0, 10, "a"),
        span("x", "r", "tool", 1, 4, "x"),
        span("y", "r", "tool", 2, 6, "y"),
        span("z", "r", "tool", 8, 9, "z"),
    )
    assert sum(v for k, v in seconds(one).items() if k.startswith("tool/")) == pytest.approx(6)
    assert one.overlapped == pytest.approx(2)
    assert seconds(one)["unexplained/a/inside"] == pytest.approx(4)
    assert union([(1, 4), (2, 6), (8, 9), (8, 8)]) == 6


def test_an_async_child_is_followed_when_it_outlives_its_parent() -> None:
    """What is left of a child after its parent's end is critical, and the time of a sibling is not hidden by it."""
    one = booked(
        span("r", "", "agent", 0, 10, "a"),
        span("s", "r", "workflow", 0, 2, "s"),
        span("x", "s", "tool", 1, 5, "x"),
        span("y", "r", "llm", 5, 12, "m"),
    )
    assert seconds(one) == pytest.approx(
        {"unexplained/s/inside": 1, "tool/x/tool.execute": 4, "inference/m/chat": 7},
    )


def test_a_wrapper_and_a_tool_behind_a_protocol_are_counted_once() -> None:
    """Of an llm span that holds one, and a tool span that holds the same tool's, one call each is counted."""
    one = booked(
        span("r", "", "llm", 0, 10, "m", output_tokens=7.0),
        span("i", "r", "llm", 1, 6, "m", output_tokens=7.0),
        span("c", "r", "tool", 6, 9, "t"),
        span("d", "c", "tool", 7, 8, "t"),
    )
    assert [call.kind for call in one.calls] == ["llm", "tool"]
    assert one.facts["output_tokens"] == 7
    assert seconds(one) == pytest.approx(
        {"orchestration/m/wrapper": 2, "inference/m/chat": 5, "tool/t/tool.invoke": 2, "tool/t/tool.execute": 1}
    )


def test_what_a_call_leaves_out_is_taken_from_the_one_that_wraps_it() -> None:
    """Two instruments saw one call, and only the outer one its cached tokens; of two calls in a wrapper it tells nothing."""
    outer = span("o", "", "llm", 0, 10, "m", input_tokens=9.0, cached_tokens=4.0, output_tokens=7.0)
    inner = span("i", "o", "llm", 1, 9, "m", input_tokens=9.0)
    assert [(call.new, call.cached, call.output) for call in booked(outer, inner).calls] == [(5.0, 4.0, 7.0)]
    first, then = span("i", "o", "llm", 1, 4, "m"), span("j", "o", "llm", 5, 9, "m")
    assert [math.isnan(call.output) for call in booked(outer, first, then).calls] == [True, True]


def test_a_model_call_that_holds_its_tool_is_over_when_that_begins() -> None:
    """Where a framework puts the tool's span into the model's, nothing tells what the rest of it is."""
    one = booked(span("m", "", "llm", 0, 5, "m"), span("t", "m", "tool", 3, 4.5, "t"))
    assert [(call.kind, call.seconds) for call in one.calls] == [("llm", 3.0), ("tool", 1.5)]
    assert seconds(one) == pytest.approx(
        {"inference/m/chat": 3, "tool/t/tool.execute": 1.5, "unexplained/m/inside": 0.5}
    )
    assert one.calls[0].critical == pytest.approx(3)


def test_an_agent_as_a_tool_has_its_calls_in_its_name() -> None:
    """The calls of a sub-agent inside of a tool's span are its own, in turns of its own."""
    one = booked(
        span("r", "", "agent", 0, 9, "boss"),
        span("m", "r", "llm", 0, 2, "m"),
        span("t", "r", "tool", 2, 8, "ask"),
        span("a", "t", "agent", 3, 7, "helper"),
        span("n", "a", "llm", 3, 7, "n"),
    )
    assert [(call.kind, call.agent, call.turn) for call in one.calls] == [
        ("llm", "boss", 0),
        ("tool", "boss", 0),
        ("llm", "helper", 1),
    ]
    assert seconds(one)["tool/ask/tool.execute"] == pytest.approx(2)
    assert sum(entry[2] == Account(STRUCTURE, "helper", "step") for entry in one.entries) == 1


def test_a_failed_attempt_that_is_made_again_is_recovery() -> None:
    """Attempt and wait are recovery, and the attempt is lost; a failure that nobody repeats is not."""
    one = booked(
        span("r", "", "agent", 0, 10, "a"),
        span("x", "r", "tool", 0, 2, "t", error="timeout"),
        span("y", "r", "tool", 3, 5, "t"),
        span("z", "r", "tool", 5, 6, "u", error="boom"),
        span("m", "r", "llm", 6, 10, "m"),
    )
    assert one.facts["retries"] == 1
    assert one.facts["tool_errors"] == 2
    assert seconds(one) == pytest.approx(
        {
            "recovery/t/failed attempt": 2,
            "recovery/t/backoff": 1,
            "tool/t/tool.execute": 2,
            "tool/u/tool.execute": 1,
            "inference/m/chat": 4,
        }
    )
    assert [account.name for *_, account in one.lost] == ["failed attempt"]


def test_another_call_between_makes_it_no_retry() -> None:
    """An agent that fails with a tool, thinks, and calls it again has not retried: it has changed its mind."""
    one = booked(
        span("x", "", "tool", 0, 2, "t", error="boom"), span("m", "", "llm", 2, 3, "m"), span("y", "", "tool", 3, 5, "t"),
    )  # fmt: skip
    assert one.facts["retries"] == 0
    assert not one.lost


def test_details_of_a_call_have_no_accounts() -> None:
    """What lies in a call and is no call is structure; a client's span elsewhere is a tool's call, and one of unknown kind explains nothing."""
    one = booked(
        span("m", "", "llm", 0, 5, "m"),
        span("h", "m", "client", 1, 4, "api"),
        span("k", "", "client", 5, 6, "db"),
        span("o", "", "other", 6, 7, "", name="parse"),
    )
    assert seconds(one) == pytest.approx(
        {"inference/m/chat": 5, "tool/db/tool.execute": 1, "unexplained/parse/span of unknown kind": 1}
    )
    assert [(call.kind, call.component) for call in one.calls] == [("llm", "m"), ("tool", "db")]
    assert Account(STRUCTURE, "api", "client") in {entry[2] for entry in one.entries}


def test_time_between_roots_is_named_and_between_sessions_traces_is_the_users() -> None:
    """What no span explains is unexplained; by session, the time from one trace to the next is a person's."""
    spans = [span("a", "", "llm", 0, 1, "m"), span("b", "", "llm", 2, 3, "m")]
    later = span("c", "", "llm", 7, 8, "m")
    later.trace = "u"
    assert seconds(booked(*spans))["unexplained//between spans"] == pytest.approx(1)
    one = booked(*spans, later, by_session=True)
    assert seconds(one)["human/user/think"] == pytest.approx(4)
    assert [call.kind for call in one.calls] == ["llm", "llm", "human", "llm"]


def test_status_is_what_the_root_says() -> None:
    """A root with an error has failed, a last one without an end is unfinished; a tool's error among others is the task's only if alone."""
    assert booked(span("r", "", "agent", 0, 1, "a", error="boom")).status == FAILED
    assert booked(span("r", "", "agent", 0, None, "a"), span("x", "r", "tool", 0, 1, "t")).status == UNFINISHED
    flat = booked(span("m", "", "llm", 0, 1, "m"), span("t", "", "tool", 1, 2, "t", error="boom"))
    assert (flat.status, flat.failure) == (0, "")
    steps = span("m", "", "llm", 0, 1, "m"), span("t", "", "tool", 1, None, "t")
    assert booked(*steps).status == UNFINISHED
    assert booked(*steps, span("n", "", "llm", 2, 3, "m")).status == DONE


def test_tokens_that_were_cached_are_not_new() -> None:
    """New tokens are those that went in less the cached; where nothing is told, they are not known."""
    one = booked(
        span("m", "", "llm", 0, 1, "m", input_tokens=100.0, cached_tokens=60.0), span("n", "", "llm", 1, 2, "m"),
    )  # fmt: skip
    assert (one.calls[0].new, one.calls[0].cached) == (40, 60)
    assert math.isnan(one.calls[1].new)


def test_parallel_calls_of_a_turn_are_one_batch() -> None:
    """Tools that overlap have one batch, the next has another, and the next call of the model begins a turn."""
    one = booked(
        span("m", "", "llm", 0, 1, "m"),
        span("x", "", "tool", 1, 3, "x"),
        span("y", "", "tool", 2, 4, "y"),
        span("z", "", "tool", 4, 5, "z"),
        span("n", "", "llm", 5, 6, "m"),
    )
    turns = [call.turn for call in one.calls]
    batches = [call.batch for call in one.calls]
    assert turns == [0, 0, 0, 0, 1]
    assert batches[1] == batches[2]
    assert len(set(batches)) == 4


@pytest.mark.parametrize("shape", ["chain", "wide", "outliving"])
def test_deep_and_wide_traces(shape: str) -> None:
    """Five thousand spans in a chain, under one parent, or each longer than its parent, are booked without recursion."""
    n = 5_000
    spans = []
    for i in range(n):
        start, end = (i, 2 * n - i) if shape == "chain" else (i, i + 2) if i or shape == "outliving" else (0, n + 2)
        parent = "" if i == 0 else str(0 if shape == "wide" else i - 1)
        spans.append(Observation("t", str(i), parent, "other", "s", "", start, end))
    one = booked(*spans)
    assert sum(one.parts.values()) == pytest.approx(one.end - one.arrival, rel=1e-12)


def test_a_join_leads_to_the_branch_whose_calls_lasted_longest() -> None:
    """Two tools that end at once: the path goes through the one whose model was at work until shortly before."""
    one = booked(
        span("r", "", "agent", 0, 20, "boss"),
        span("d", "r", "tool", 2, 12, "delegate"),
        span("w", "d", "agent", 2.1, 9, "w1"),
        span("m", "w", "llm", 2.2, 8.9, "m"),
        span("e", "r", "tool", 2, 12, "delegate"),
        span("v", "e", "agent", 2.3, 12, "w2"),
        span("n", "v", "llm", 2.5, 11.5, "m"),
    )
    assert seconds(one) == pytest.approx(
        {
            "unexplained/boss/inside": 10,
            "tool/delegate/tool.execute": 0.3,
            "unexplained/w2/inside": 0.7,
            "inference/m/chat": 9,
        }
    )


def test_a_branch_whose_calls_cover_the_moment_goes_before_one_that_only_encloses() -> None:
    """An agent that waits from 5 to 10 explains less than the tool beside it."""
    one = booked(
        span("r", "", "agent", 0, 10, "r"),
        span("a", "r", "agent", 0, 10, "a"),
        span("m", "a", "llm", 0, 5, "m"),
        span("t", "r", "tool", 4, 10, "t"),
    )
    assert seconds(one) == pytest.approx({"inference/m/chat": 4, "tool/t/tool.execute": 6})


def test_both_sides_of_a_tool_are_on_the_path_of_its_call() -> None:
    """Of a client's 2 s and a server's 1.6 s in it there is one call, 2 s of it critical; what the server calls is not of it."""
    one = booked(
        span("r", "", "agent", 0, 4, "a"),
        span("c", "r", "tool", 1, 3, "weather"),
        span("s", "c", "tool", 1.2, 2.8, "weather"),
        span("d", "s", "retriever", 2, 2.5, "db"),
    )
    assert {call.component: call.critical for call in one.calls} == pytest.approx({"weather": 1.5, "db": 0.5})


def test_a_client_is_a_call_unless_it_encloses_or_lies_in_one() -> None:
    """It counts once, as do the retries of it; one that holds an agent encloses it, and one in a model's call is how that was asked."""
    tally = Tally()
    spans = [
        span("r", "", "agent", 0, 10, "a"),
        span("x", "r", "client", 0, 1, "api", error="503"),
        span("y", "r", "client", 2, 4, "api"),
        span("z", "y", "client", 2, 3, "proxy"),
        span("s", "z", "other", 2, 3, name="serve"),
        span("m", "r", "llm", 4, 6, "m"),
        span("h", "m", "client", 4, 6, "post"),
        span("c", "r", "client", 6, 10, "remote"),
        span("b", "c", "agent", 7, 9, "b"),
        span("n", "b", "llm", 7, 9, "m"),
    ]
    tree = repair(spans, tally)
    one, roles = book(tree, tally)
    sums = Sums()
    add_sums(sums, tree, roles)
    assert [(call.kind, call.component) for call in one.calls] == [
        ("tool", "api"),
        ("tool", "api"),
        ("llm", "m"),
        ("llm", "m"),
    ]
    assert sums.calls == {"tool": 2, "llm": 2}
    assert sums.union == {"tool": 3 * SECOND, "llm": 4 * SECOND}
    assert seconds(one) == pytest.approx(
        {
            "recovery/api/failed attempt": 1,
            "recovery/api/backoff": 1,
            "tool/api/tool.execute": 2,
            "inference/m/chat": 4,
            "unexplained/remote/inside": 2,
        }
    )
    assert [(note.fate, note.spans) for what, note in tally.notes.items() if "services" in what] == [("guessed", 2)]


def test_a_span_of_unknown_kind_is_an_agents_work_only_among_its_calls() -> None:
    """It has its name; in a task without calls, or outside of agents and workflows, it explains nothing."""
    calls = [span("m", "r", "llm", 0, 1, "m"), span("o", "r", "other", 1, 3, name="parse")]
    one = booked(span("r", "", "workflow", 0, 3, "w"), *calls)
    assert seconds(one) == pytest.approx({"inference/m/chat": 1, "orchestration/parse/span": 2})
    one = booked(span("r", "", "workflow", 0, 3, "w"), calls[1])
    assert seconds(one) == pytest.approx({"unexplained/w/inside": 1, "unexplained/parse/span of unknown kind": 2})
    one = booked(span("r", "", "other", 0, 3, name="serve"), *calls)
    assert seconds(one) == pytest.approx({"inference/m/chat": 1, "unexplained/parse/span of unknown kind": 2})
    assert {entry[0] for entry in one.entries if entry[2].name == "span of unknown kind"} == {0}


def test_a_retry_of_a_tool_in_a_models_span_is_recovery() -> None:
    """What is left of a model's span is unexplained, but for the wait until the next attempt."""
    one = booked(
        span("m", "", "llm", 0, 6, "m"),
        span("x", "m", "tool", 1, 2, "t", error="boom"),
        span("y", "m", "tool", 3, 5, "t"),
    )
    assert seconds(one) == pytest.approx(
        {
            "inference/m/chat": 1,
            "recovery/t/failed attempt": 1,
            "recovery/t/backoff": 1,
            "tool/t/tool.execute": 2,
            "unexplained/m/inside": 1,
        }
    )
    assert one.overlapped == pytest.approx(0)
