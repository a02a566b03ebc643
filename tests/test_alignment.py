"""Aligners of streams: against what follows from the definitions when all is known, and against closed forms."""

import math
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from pydantic import ValidationError

from coordsim.models.aligner import Aligner, Group, Source
from coordsim.models.aligners import aligner
from coordsim.models.alignment import Alignment, Late, check, policy, stamp
from coordsim.sim.engine.spec import SpecProblem

from .offline_alignment import Event, Expected, Stream, merged, play, playouts, watermarks, windows

LATE: list[Late] = ["wait", "drop", "repeat", "degrade"]
EARLY: list[Late] = ["drop", "repeat", "degrade"]  # of the kinds that close groups by themselves


def made(data: dict[str, Any], late: Late | None, streams: list[Stream], told: bool = False) -> Aligner:
    """Return an aligner of such streams; with `told`, it knows beforehand how many pieces come."""
    known = [Source(one.period, one.count if told else None) for one in streams]
    return aligner(Alignment.model_validate(data), late, known)


def run(
    data: dict[str, Any], late: Late | None, streams: list[Stream], events: list[Event], told: bool = False
) -> tuple[Aligner, list[Group]]:
    """Return an aligner that all of it was told, and its groups; check what must hold of every run."""
    machine = made(data, late, streams, told)
    groups = play(machine, events, [one.count for one in streams])
    assert machine.done
    used = sum(len(stamps) for group in groups for stamps in group.stamps)
    assert machine.used == used
    assert used + machine.left_out + machine.late + machine.lost == sum(one.count for one in streams)
    assert [group.released for group in groups] == sorted(group.released for group in groups)
    assert all(group.since <= group.released for group in groups)
    assert machine.missing == sum(sum(group.missing) for group in groups)
    assert machine.repeated == sum(sum(group.repeated) for group in groups)
    assert machine.degraded == sum(group.degraded for group in groups)
    return machine, groups


def equal(groups: list[Group], expected: list[Expected]) -> bool:
    """Whether the groups are those expected."""
    return len(groups) == len(expected) and all(one.same(group) for one, group in zip(expected, groups, strict=True))


def some(seed: int) -> list[Stream]:
    """Return streams of all sorts: rates, lengths, clocks, jitter and loss."""
    random = Random(1000 + seed)
    streams = []
    for _ in range(random.choice((1, 2, 3, 4))):
        period = random.choice((0.1, 0.25, 0.4, 1.0, 1.7))
        streams.append(
            Stream(
                period,
                max(1, int(random.uniform(4, 9) / period)),
                skew=random.choice((0.0, 0.0, random.uniform(-0.1, 0.1))),
                drift=random.choice((0.0, 0.0, random.uniform(-0.004, 0.004))),
                jitter=random.choice((0.02, 0.3, 1.0)),
                loss=random.choice((0.0, 0.1, 0.4)),
            )
        )
    return streams


# --- against the definitions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", LATE)
@pytest.mark.parametrize("told", [False, True])
def test_windows_are_those_of_the_definition(late: Late, told: bool) -> None:
    """Release times, members, what is missing or stands in, and late pieces, with loss, jitter, skew and drift."""
    for seed in range(60):
        streams, random = some(seed), Random(seed)
        events = merged(streams, seed)
        length = random.choice((0.3, 1.0, 2.0))
        tolerance = random.choice((0.0, 0.04, 0.15, length))
        patience = math.inf if late == "wait" else random.choice((0.1, 0.7, 5.0))
        data = {"length": f"{length} s", "tolerance": f"{tolerance} s"}
        if late != "wait":
            data["patience"] = f"{patience} s"
        machine, groups = run({"window": data}, late, streams, events, told)
        expected, outside = windows(events, streams, length, tolerance, patience, late, told)
        assert equal(groups, expected), (seed, groups, expected)
        if not told:  # else it may be done before the last of them comes
            assert machine.late == outside


@pytest.mark.parametrize("late", EARLY)
def test_watermarks_are_those_of_the_definition(late: Late) -> None:
    """The same of watermarks: each window closes with the event that moves the watermark past its end."""
    for seed in range(60):
        streams, random = some(seed), Random(seed)
        events = merged(streams, seed)
        length, lateness = random.choice((0.3, 1.0, 2.0)), random.choice((0.0, 0.2, 1.5))
        data = {"watermark": {"length": f"{length} s", "lateness": f"{lateness} s"}}
        machine, groups = run(data, late, streams, events)
        expected, outside = watermarks(events, streams, length, lateness, late)
        assert equal(groups, expected), (seed, groups, expected)
        assert machine.late == outside


@pytest.mark.parametrize("late", EARLY)
def test_playouts_are_those_of_the_definition(late: Late) -> None:
    """The same of jitter buffers: each piece that came in time, at its time."""
    for seed in range(60):
        streams = some(seed)
        events = merged(streams, seed)
        depth = Random(seed).choice((0.0, 0.1, 0.5, 3.0))
        machine, groups = run({"jitter_buffer": {"depth": f"{depth} s"}}, late, streams, events)
        expected, outside = playouts(events, streams, depth, late)
        assert equal(groups, expected), (seed, groups, expected)
        assert machine.late == outside


@pytest.mark.parametrize("late", ["wait", "drop", "degrade"])
@pytest.mark.parametrize("kind", ["barrier", "pairwise"])
def test_barriers_are_those_of_the_definition(kind: str, late: Late) -> None:
    """The one group is there when all sources are over, or the patience after the first of them."""
    for seed in range(60):
        streams, random = some(seed), Random(seed)
        events = merged(streams, seed)
        patience = random.choice((0.1, 1.0, 4.0))
        data = {} if late == "wait" else {"patience": f"{patience} s"}
        if kind == "pairwise":
            data["each"] = "1 ms"
        machine = made({kind: data}, late, streams)
        (group,) = play(machine, events, [one.count for one in streams])
        ends = [
            next(one.time for one in events if one.source == of and one.stamp is None) for of in range(len(streams))
        ]
        at = max(ends) if late == "wait" else min(max(ends), min(ends) + patience)
        assert group.released == pytest.approx(at)
        assert group.degraded == (late == "degrade" and any(group.missing))
        for source, stream in enumerate(streams):
            came = [one.stamp for one in events if one.source == source and one.time <= at and one.stamp is not None]
            short = stream.count - len(came) if ends[source] <= at else 1
            assert group.missing[source] == short
            left_out = late == "degrade" and short
            assert list(group.stamps[source]) == ([] if left_out else sorted(came))
        members = len(group.members)
        assert group.pairs == sum(1 for one in range(members) for other in range(one))


# --- what costs nothing, and what follows from the clocks -----------------------------------------------------------


@pytest.mark.parametrize("sources", [1, 2, 5])
@pytest.mark.parametrize("told", [False, True])
def test_a_windowed_join_without_jitter_costs_nothing(sources: int, told: bool) -> None:
    """With equal rates and right clocks, each window is released by its last piece, at that very instant."""
    streams = [Stream(0.04, 250) for _ in range(sources)]
    machine, groups = run({"window": {"length": "1 s"}}, "wait", streams, merged(streams, 1), told)
    assert [group.index for group in groups] == list(range(10))
    assert [group.released for group in groups] == [(25 * window + 24) * 0.04 for window in range(10)]
    assert all(group.since == group.released and len(group.members) == sources for group in groups)
    assert machine.late == machine.lost == machine.missing == 0


def test_a_watermark_costs_the_wait_for_the_next_piece_and_its_lateness() -> None:
    """It only closes a window on a stamp that is the lateness past its end."""
    streams = [Stream(0.1, 101), Stream(0.1, 101)]
    data = {"watermark": {"length": "1 s", "lateness": "300 ms"}}
    _, groups = run(data, None, streams, merged(streams, 1))
    assert [group.released for group in groups[:9]] == pytest.approx([window + 1.3 for window in range(9)])
    assert groups[-1].released == pytest.approx(10.0)  # the end of both


@pytest.mark.parametrize(
    ("skew", "fits"), [(0.0, True), (0.049, True), (-0.049, True), (0.051, False), (-0.051, False)]
)
@pytest.mark.parametrize("late", LATE)
def test_a_skew_beyond_the_tolerance_never_matches(skew: float, fits: bool, late: Late) -> None:
    """A clock that is off by less always fits, by more never: all of its pieces are unfit, and count as late."""
    streams = [Stream(0.5, 40), Stream(0.5, 40, skew=skew)]
    data = {"length": "1 s", "tolerance": "50 ms"} | ({} if late == "wait" else {"patience": "2 s"})
    machine, groups = run({"window": data}, late, streams, merged(streams, 1))
    assert len(groups) == 20
    assert {group.members for group in groups} == {(0, 1) if fits else (0,)}
    assert machine.unfit == machine.late == machine.missing == (0 if fits else 40)
    assert machine.degraded == (20 if late == "degrade" and not fits else 0)
    if fits:
        assert [group.released for group in groups] == [window + 0.5 for window in range(20)]


@pytest.mark.parametrize("drift", [1e-3, -1e-3, 4e-3])
def test_a_drift_ends_the_match_when_it_has_added_up_to_the_tolerance(drift: float) -> None:
    """The first window without the source that drifts is that of time tolerance / drift."""
    streams = [Stream(0.5, 400), Stream(0.5, 400, drift=drift)]
    tolerance = 0.0501
    data = {"window": {"length": "500 ms", "tolerance": f"{tolerance} s"}}
    _, groups = run(data, "wait", streams, merged(streams, 1))
    first = next(group for group in groups if group.members == (0,))
    assert all(group.members == (0, 1) for group in groups[: first.index])
    assert first.index * 0.5 == pytest.approx(tolerance / abs(drift), abs=0.5)
    assert stamp(first.index * 0.5, 0.0, drift) - first.index * 0.5 == pytest.approx(first.index * 0.5 * drift)


def test_the_late_share_of_a_jitter_buffer_is_the_tail_of_the_jitter() -> None:
    """With exponential jitter a piece is late with probability 1 - F(depth + delay of the first piece), in the 99.9 % band.

    Source: the definition of the playout time (Ramjee et al., INFOCOM 1994): a piece is late when its delay is more than
    that of the first piece and the depth together.
    """
    mean, count = 0.03, 20_000
    for seed, depth in enumerate((0.0, 0.02, 0.05, 0.1)):
        streams = [Stream(0.02, count, jitter=mean)]
        events = merged(streams, seed)
        machine, _ = run({"jitter_buffer": {"depth": f"{depth} s"}}, None, streams, events)
        assert events[0].stamp is not None
        late = math.exp(-(depth + events[0].time - events[0].stamp) / mean)
        error = 3.29 * math.sqrt(late * (1 - late) / count)
        assert machine.late / count == pytest.approx(late, abs=error)


def test_more_depth_or_lateness_never_makes_more_late_nor_anything_earlier() -> None:
    """On the same streams: late pieces fall, and what was released comes no earlier."""
    for seed in range(20):
        streams = some(seed)
        events = merged(streams, seed)
        late: list[int] = []
        released: list[dict[Any, float]] = []
        for kind, field in (("jitter_buffer", "depth"), ("watermark", "lateness")):
            late, released = [], []
            for seconds in (0.0, 0.1, 0.4, 1.0, 4.0):
                data = {field: f"{seconds} s"} | ({"length": "1 s"} if kind == "watermark" else {})
                machine, groups = run({kind: data}, None, streams, events)
                late.append(machine.late)
                by_depth = kind == "jitter_buffer"
                released.append({(one.stamps if by_depth else one.index): one.released for one in groups})
            assert late == sorted(late, reverse=True)
            for less, more in pairwise(released):
                assert set(less) <= set(more)
                assert all(more[group] >= at for group, at in less.items())


def test_more_patience_never_makes_more_late_nor_any_window_earlier() -> None:
    """On the same streams, a join of windows that waits longer loses less and is no faster."""
    for seed in range(20):
        streams = some(seed)
        events = merged(streams, seed)
        runs = []
        for patience in (0.0, 0.2, 1.0, 5.0, 1000.0):
            data = {"length": "1 s", "tolerance": "150 ms", "patience": f"{patience} s"}
            machine, groups = run({"window": data}, "drop", streams, events)
            runs.append((machine.late, [group.released for group in groups]))
        for less, more in pairwise(runs):
            assert less[0] >= more[0]
            assert all(one <= other for one, other in zip(less[1], more[1], strict=True))
        waits = made({"window": {"length": "1 s", "tolerance": "150 ms"}}, "wait", streams)
        assert [group.released for group in play(waits, events, [one.count for one in streams])] == runs[-1][1]


# --- corners --------------------------------------------------------------------------------------------------------


def two(kind: dict[str, Any], late: Late) -> Aligner:
    """Return an aligner of two sources with a piece each second."""
    return aligner(Alignment.model_validate(kind), late, [Source(1.0), Source(1.0)])


def test_a_group_tells_whose_piece_released_it_and_who_set_the_timer() -> None:
    """By a piece: that piece, at once. By a timer: the piece that set it, and the time it took."""
    machine = two({"window": {"length": "1 s", "patience": "200 ms"}}, "drop")
    assert machine.offer(0, 0.0, 0.1) == []
    assert machine.deadline == pytest.approx(0.3)
    (group,) = machine.offer(1, 0.0, 0.25)
    assert (group.cause, group.since, group.released) == (1, 0.25, 0.25)
    assert machine.deadline == math.inf
    assert machine.offer(1, 1.0, 1.1) == []
    assert machine.expire(1.2) == []
    (group,) = machine.expire(1.3)
    assert (group.cause, group.since, group.members, group.missing) == (1, 1.1, (1,), (1, 0))
    assert group.released == pytest.approx(1.3)
    assert machine.offer(0, 1.0, 1.4) == []
    assert machine.late == 1


def test_a_piece_at_the_very_deadline_is_in_time() -> None:
    """Timers come after the pieces of the same time; one that was passed over fires at its own time."""
    machine = two({"window": {"length": "1 s", "patience": "250 ms"}}, "drop")
    machine.offer(0, 0.0, 0.25)
    (group,) = machine.offer(1, 0.0, 0.5)
    assert group.members == (0, 1)
    machine.offer(0, 1.0, 1.0)
    (group,) = machine.offer(1, 1.0, 3.0)
    assert (group.released, group.members) == (1.25, (0,))


def test_a_second_piece_for_the_same_place_fits_nothing() -> None:
    """The first is used, and the other is unfit: where a tolerance over half a period lets two stamps claim one place."""
    machine = aligner(
        Alignment.model_validate({"window": {"length": "2 s", "tolerance": "1 s"}}), "wait", [Source(1.0)]
    )
    assert machine.offer(0, 0.0, 0.0) == machine.offer(0, 0.4, 0.4) == []
    (group,) = machine.offer(0, 1.0, 1.0)
    assert (group.stamps, group.missing) == (((0.0, 1.0),), (0,))
    assert (machine.unfit, machine.late, machine.used) == (1, 1, 2)


def test_drop_uses_what_came_of_a_source_and_degrade_leaves_all_of_it_out() -> None:
    """One of two pieces of a window is lost: `drop` keeps the other, `degrade` does not, and marks the group."""
    found = {}
    for late in LATE:
        data = {"window": {"length": "2 s"} | ({} if late == "wait" else {"patience": "5 s"})}
        machine = two(data, late)
        for source, number in ((0, 0), (1, 0), (0, 1)):
            machine.offer(source, float(number), float(number))
        groups = [*machine.end(0, 1.0, count=2), *machine.end(1, 1.5, count=2)]
        (found[late],) = groups
        assert machine.lost == 1
    assert found["wait"].stamps == found["drop"].stamps == found["repeat"].stamps == ((0.0, 1.0), (0.0,))
    assert (found["drop"].missing, found["drop"].repeated) == ((0, 1), (0, 0))
    assert (found["repeat"].missing, found["repeat"].repeated) == ((0, 0), (0, 1))
    assert (found["degrade"].stamps, found["degrade"].degraded) == (((0.0, 1.0), ()), True)
    assert found["degrade"].members == (0,)


def test_windows_shorter_than_a_period_are_passed_over_when_empty() -> None:
    """A window in which nobody has a piece is no group, and costs nothing."""
    streams = [Stream(1.0, 5)]
    _, groups = run({"window": {"length": "300 ms"}}, "wait", streams, merged(streams, 1))
    assert [group.index for group in groups] == [0, 3, 6, 10, 13]
    assert [group.released for group in groups] == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_a_source_that_sends_nothing_holds_a_watermark_until_it_ends() -> None:
    """The watermark is the least of all sources."""
    machine = two({"watermark": {"length": "1 s"}}, "drop")
    assert [machine.offer(0, float(number), float(number)) for number in range(5)] == [[]] * 5
    groups = machine.end(1, 7.0, count=0)
    assert [(group.index, group.released, group.cause) for group in groups] == [(n, 7.0, 1) for n in range(4)]
    assert [group.index for group in machine.end(0, 8.0)] == [4]
    assert machine.done


def test_a_barrier_of_known_counts_needs_no_end() -> None:
    """It is there with the last of the pieces, and what comes of a source it no longer waits for is late."""
    machine = aligner(Alignment.model_validate({"barrier": {}}), "wait", [Source(count=1), Source(count=2)])
    assert machine.offer(0, 0.0, 1.0) == machine.offer(1, 0.0, 2.0) == []
    (group,) = machine.offer(1, 1.0, 3.0)
    assert (group.released, group.cause, machine.done) == (3.0, 1, True)
    machine = aligner(Alignment.model_validate({"barrier": {"patience": "1 s"}}), "drop", [Source(count=1)] * 3)
    machine.offer(2, 0.0, 1.0)
    (group,) = machine.expire(2.0)
    assert (group.members, group.missing, machine.late) == ((2,), (1, 1, 0), 2)
    assert machine.offer(0, 0.0, 5.0) == []
    assert machine.late == 2


def test_events_that_cannot_be_are_refused() -> None:
    """Time runs forwards, a source that ended brings nothing, and windows need periods."""
    machine = two({"watermark": {"length": "1 s"}}, "drop")
    machine.end(0, 2.0)
    with pytest.raises(ValueError, match="has ended"):
        machine.offer(0, 1.0, 2.5)
    with pytest.raises(ValueError, match="order of time"):
        machine.offer(1, 1.0, 1.5)
    with pytest.raises(ValueError, match="period"):
        aligner(Alignment.model_validate({"window": {"length": "1 s"}}), "wait", [Source()])
    with pytest.raises(ValueError, match="a source"):
        aligner(Alignment.model_validate({"barrier": {}}), "wait", [])


# --- what a scenario may say ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"window": {"length": "1 s", "tolerance": "2 s"}}, "must be <= `length`, which is 1 s; got 2 s"),
        ({"window": {"length": "0 s"}}, "must be a duration"),
        ({"watermark": {"length": "0 s"}}, "must be a duration"),
        ({"watermark": {"length": "1 s", "lateness": "-1 s"}}, "must be a duration >= 0"),
        ({"jitter_buffer": {"depth": "-1 ms"}}, "must be a duration >= 0"),
        ({"barrier": {}, "window": {"length": "1 s"}}, "exactly one"),
    ],
)
def test_mistakes_are_refused(data: dict[str, Any], says: str) -> None:
    """Each by its rule."""
    with pytest.raises((SpecProblem, ValidationError)) as caught:
        Alignment.model_validate(data)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("data", "late", "path"),
    [
        ({"watermark": {"length": "1 s"}}, "wait", ("late",)),
        ({"jitter_buffer": {"depth": "1 s"}}, "wait", ("late",)),
        ({"barrier": {"patience": "1 s"}}, "repeat", ("late",)),
        ({"pairwise": {"each": "1 s"}}, "repeat", ("late",)),
        ({"barrier": {"patience": "1 s"}}, None, ("align", "barrier", "patience")),
        ({"window": {"length": "1 s"}}, "drop", ("align", "window")),
    ],
)
def test_policies_that_do_not_go_with_a_kind_are_refused(
    data: dict[str, Any], late: Late, path: tuple[str, ...]
) -> None:
    """At the place in the step that is wrong."""
    with pytest.raises(SpecProblem) as caught:
        check(Alignment.model_validate(data), late)
    assert caught.value.path == path


def test_policies_default_to_what_the_kind_does() -> None:
    """Kinds that close groups by themselves drop, the others wait; and both pass the check."""
    for data, late in (
        ({"barrier": {}}, "wait"),
        ({"pairwise": {"each": "1 s"}}, "wait"),
        ({"window": {"length": "1 s"}}, "wait"),
        ({"watermark": {"length": "1 s"}}, "drop"),
        ({"jitter_buffer": {"depth": "1 s"}}, "drop"),
    ):
        spec = Alignment.model_validate(data)
        check(spec, None)
        assert policy(spec, None) == late
        assert Alignment.model_validate(spec.to_data()) == spec
