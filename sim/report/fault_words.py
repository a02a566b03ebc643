"""What a study of faults found, in sentences with figures: costs, what stays broken and what sustains it, what breaks first.

Leaves out: tables (`fault_tables`).
Checked: tests/test_faults_command.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..analysis.fault_study import ALL_FAULTS, FAULT, HANDLING, Cost, StepsRow, StudyResult
from ..analysis.fault_timeline import Missed, Trigger
from ..analysis.statistics import Estimate
from .numbers import plain, show, unit_of

MOST = 3  # faults, and policies, that are told in words
RISEN = 1.1  # times as many calls per task: what sustains a collapse

_VERBS = {
    "success": ("raises success by", "lowers success by"),
    "response_time_p95": ("makes p95 longer by", "makes p95 shorter by"),
}


def sentences(found: StudyResult) -> Iterator[str]:
    """Yield the answer."""
    faults = [one for one in measured(found) if one.kind == FAULT and one.reach is not None]
    yield from (missed_words(one) for one in found.missed)
    if not faults and not found.missed:
        yield "The scenario has no fault that can strike."
    each = [one for one in faults if one.name != ALL_FAULTS]
    for one in each[:MOST]:
        yield _cost(one)
    if len(each) > MOST:
        yield f"{len(each) - MOST} more faults are in the table."
    yield from (trigger_words(one) for one in found.timeline.triggers)
    policies = [one for one in measured(found) if one.kind == HANDLING]
    yield from (_policy(one) for one in policies[:MOST])
    if found.breaks is not None:
        yield found.breaks.sentence
    yield from (steps_words(one) for one in found.steps)


def measured(found: StudyResult) -> tuple[Cost, ...]:
    """Return what was left out in turn, but for faults that never came; all faults together are none if none came."""
    away = {one.name for one in found.missed}
    came = [one for one in found.costs if one.metrics and one.name not in away]
    some = not away or any(one.kind == FAULT and one.name != ALL_FAULTS for one in came)
    return tuple(one for one in came if some or one.name != ALL_FAULTS)


def missed_words(one: Missed) -> str:
    """Return that a fault never came, and how many tasks would reach it."""
    return (
        f"{one.name} never came, so nothing is known of what it costs: it starts at {plain(one.at, 's')}, and the run ends at "
        f"{plain(one.end, 's')}; let it run longer, such as with `--tasks {tasks_to_reach(one)}`."
    )


def tasks_to_reach(one: Missed) -> int:
    """Return how many tasks make a run that lasts twice as long as until a fault comes, in two digits, at the pace of the run.

    >>> tasks_to_reach(Missed("f", 60.0, 33.0, 200))
    730
    """
    wanted = 2 * one.tasks * one.at / one.end
    size = int(10.0 ** max(math.floor(math.log10(wanted)) - 1, 0))
    return math.ceil(wanted / size) * size


def _cost(one: Cost) -> str:
    reach = one.reach
    assert reach is not None
    parts = []
    if _offset(one):
        parts.append(_net(one))
    elif reach.failed.value > 0:
        parts.append(f"fails {_share(reach.failed)} of the tasks")
    if reach.delayed.value > 0:
        later = show(reach.delay, "s").text
        told = f"delays {_share(reach.delayed)}{' more' if parts else ' of the tasks'} by {later} in the mean"
        if reach.delayed_unstruck.value > 0:
            told += ", most of them" if reach.delayed_unstruck.value > reach.delayed.value / 2 else ", some of them"
            told += f" ({show(reach.delayed_unstruck, 'share').value} of all) never struck by it"
        parts.append(told)
    if reach.unfinished.value > 0:
        parts.append(
            f"leaves {_share(reach.unfinished)}{'' if parts else ' of the tasks'} without an end when the run is over"
        )
    if not parts:
        return f"{one.name} costs no task anything ({reach.tasks} looked at)."
    return f"{one.name} {', and '.join(parts)}."


def _offset(one: Cost) -> bool:
    """Return whether the tasks that a fault fails say little of success: its change is under half of them, or may be none."""
    assert one.reach is not None
    added, failed = one.metrics["success"].added, one.reach.failed.value
    if not failed > 0 or not math.isfinite(added.value):
        return False
    unsure = math.isfinite(added.half_width) and not added.excludes(0.0)
    return unsure or -added.value < failed / 2


def _net(one: Cost) -> str:
    """Return the net change of success, then who fails and who is saved."""
    reach = one.reach
    assert reach is not None
    saved = plain(reach.rescued / reach.tasks, "share", 2) if reach.rescued else "none"
    net = show(one.metrics["success"].added, "share").text
    return f"changes success by {net} (while it fails {_share(reach.failed)} of the tasks and saves {saved})"


def _share(one: Estimate) -> str:
    return show(one, "share").text


def _policy(one: Cost) -> str:
    told = []
    for name, (more, less) in _VERBS.items():
        added = one.metrics[name].added
        if added.excludes(0.0) and math.isfinite(added.half_width):
            size = Estimate(abs(added.value), *_ends(added), added.confidence, added.n, added.method)
            told.append(f"{more if added.value > 0 else less} {show(size, unit_of(name)).text}")
    return f"{one.name} {' and '.join(told)}." if told else f"What {one.name} does to success and p95 is not resolved."


def _ends(one: Estimate) -> tuple[float, float]:
    return (one.low, one.high) if one.value > 0 else (-one.high, -one.low)


def trigger_words(one: Trigger) -> str:
    """Return what a trigger did to goodput, and what sustains it."""
    verdict = one.collapse
    when = f"{one.name}, from {plain(verdict.start, 's', 4)} to {plain(verdict.end, 's', 4)}"
    if verdict.state in ("unharmed", "cannot tell"):
        return f"{when}: {verdict.state}. {verdict.why}" if verdict.state == "unharmed" else f"{when}: {verdict.why}"
    down = f"brought goodput down by up to {plain(verdict.depth, 'share')}"
    if verdict.state == "recovered":
        after = plain(verdict.time_to_recover, "s")
        return f"{when}, {down}; it was back {after} after that was over."
    now = f"{plain(one.good, '1/s')} where {plain(one.offered, '1/s')} arrive"
    stays = "stays collapsed" if verdict.state == "metastable" else "is not back yet"
    return f"{when}, {down}, and it {stays} although that is over: {now}. {verdict.why}{_sustained(one)}"


def _sustained(one: Trigger) -> str:
    """Return what keeps goodput down: more calls per task, and whose backlog is there."""
    parts = [
        f"{p.component} gets {plain(p.after, '')} calls per task that arrives, against {plain(p.before, '')} before"
        for p in one.pressures[:1]
        if p.factor > RISEN
    ]
    parts += [f"the backlog at {component} is there because of {cause}" for component, cause in one.backlogs[:2]]
    return f" What sustains it: {'; '.join(parts)}." if parts else ""


def steps_words(one: StepsRow) -> str:
    """Return how success falls with the steps, and whether a constant chance per step says so."""
    first, last = one.bins[0], one.bins[-1]
    begins = f"{one.name[0].upper()}{one.name[1:]}, "
    told = f"{begins}{_share(first.success)} of tasks succeed with {first.steps:g} step{'' if first.steps == 1 else 's'}, and {_share(last.success)} with {last.steps:g}"
    life = one.fit.half_life
    if one.fit.misfit:
        return f"{told}; no constant chance of failure per step fits."
    if math.isinf(life.value):
        return f"{told}: none fails."
    return f"{told}: half of them fail within {show(life, '').text} steps, at a constant chance per step."
