"""What a report says of reliability: what each cause did, what became of calls, and why tasks failed or were late.

Nothing at all where there are no faults, no handling and no errors.

Leaves out: cascades and what breaks first (`coordsim faults`).
Checked: tests/test_reliability_report.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from ..analysis.root_cause import CallRow, CauseRow
from ..analysis.statistics import Estimate
from ..analysis.summary import Reliability, Root, Summary
from ..engine.incidents import OUTCOMES
from .layout import Table, without_empty
from .numbers import plain, show

WRONG = "wrong result, never found"
MOST = 8  # rows of a table


def reliability_tables(summary: Summary) -> Iterator[Table]:
    """Yield the tables of faults, calls and root causes; none that has no rows is shown."""
    found = summary.reliability
    if not found.empty:
        yield _faults(found)
        yield _calls(found)
        yield _roots(found)


def reliability_answer(summary: Summary) -> str:
    """Return a sentence: how many tasks fail or are late and mostly why, what retries add, and what is wasted."""
    found, metrics = summary.reliability, summary.metrics
    if found.empty:
        return ""
    parts = [*_failing(summary), *_lateness(summary)]
    wasted, most = metrics["wasted_share"], found.calls[0] if found.calls else None
    if most is not None and most.amplification.value > 1:
        who = "retries and hedges" if most.totals.hedges else "retries"
        parts.append(f"{who} make {show(most.amplification, '').text} attempts of a call of {most.component}")
    if wasted.value > 0:
        parts.append(f"{show(wasted, 'share').text} of the service behind these calls is wasted")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _failing(summary: Summary) -> Iterator[str]:
    found, success = summary.reliability, summary.metrics["success"]
    if found.failed and success.value < 1:
        failing = replace(success, value=1 - success.value, low=1 - success.high, high=1 - success.low)
        verb = "fail or are wrong" if found.wrong else "fail"
        yield f"{show(failing, 'share').text} of the tasks {verb}{_most(found, 'failed')}"
        return
    strikes = sum(row.strikes for row in found.causes if row.injected)
    if strikes and not found.failed:
        yield f"no task fails, though faults strike {strikes:,} times"


def _lateness(summary: Summary) -> Iterator[str]:
    found = summary.reliability
    ended = summary.tasks.done + summary.tasks.failed
    if found.late and ended:
        yield f"{plain(found.late / ended, 'share')} of the tasks are late{_most(found, 'late')}"


def _most(found: Reliability, what: str) -> str:
    """Return ', most by search-outage (tools.search: down)', with the path that most of them took."""
    total, causes = sum(getattr(one, what) for one in found.roots), Counter[str]()
    for one in found.roots:
        causes[one.cause] += getattr(one, what)
    cause, count = causes.most_common(1)[0]
    path = max((one for one in found.roots if one.cause == cause), key=lambda one: int(getattr(one, what))).path
    word = "all" if count == total else "most" if 2 * count > total else "the largest part"
    return f", {word} by {cause} ({path})"


def _faults(found: Reliability) -> Table:
    """Return what each cause did: those that the scenario injects, then others that failed a call or cost a task anything."""
    told = [one for one in found.causes if one.injected or one.harmed or one.outcomes["failed"]]
    rows = sorted(told, key=lambda one: not one.injected)
    cells = tuple(_fault(row) for row in rows[:MOST])
    columns = ("cause", "struck", "came", *OUTCOMES, "what it cost")
    notes = [
        "A strike is one cause at one call, and has one outcome. A task counts once, under the cause that cost it most."
    ]
    left = rows[MOST:]
    if left:
        strikes, failed = sum(row.strikes for row in left), sum(row.failed for row in left)
        notes.append(f"And {len(left)} more, which struck {strikes:,} times and failed {failed:,} tasks.")
    return without_empty(Table("Faults", columns, "<" + ">" * (len(columns) - 2) + "<", cells, " ".join(notes)), 2)


def _fault(row: CauseRow) -> tuple[str, ...]:
    told = row.kind if row.injected and row.kind not in row.name else ""
    cost = [
        f"{count:,} {'task' if count == 1 else 'tasks'} {what}"
        for count, what in ((row.failed, "failed"), (row.delayed, "delayed"))
        if count
    ]
    lost = row.lost + row.waited
    cost += [f"{plain(lost, 's')} lost"] if lost > 0 else []
    return (
        f"{row.name} ({told})" if told else row.name,
        f"{row.strikes:,}",
        _count(row.occurrences),
        *(_count(row.outcomes[name]) for name in OUTCOMES),
        ", ".join(cost) or ("told under what is at its root" if row.outcomes["failed"] else "nothing"),
    )


def _count(number: int) -> str:
    return f"{number:,}" if number else ""


_CALLS = (
    "component", "calls", "attempts per call", "failed", "timed out", "rejected", "hedged", "fallbacks", "escalated",
    "wasted", "availability",
)  # fmt: skip


def _calls(found: Reliability) -> Table:
    """Return what became of calls; shares of failures are of attempts, of what is done about them of calls."""
    rows = tuple(_call(row, found.availability.get(row.component)) for row in found.calls if row.totals.calls)
    called = {row.component for row in found.calls if row.totals.calls}
    rows += tuple(
        (name, *[""] * (len(_CALLS) - 2), show(one, "share").text)
        for name, one in found.availability.items()
        if name not in called
    )
    note = "failed and timed out: of attempts; wasted: of the component's service; the others: of calls"
    return without_empty(Table("Calls", _CALLS, "<>" + "<" * (len(_CALLS) - 2), rows, note), 3)


def _call(row: CallRow, availability: Estimate | None) -> tuple[str, ...]:
    totals = row.totals
    return (
        row.component,
        f"{totals.calls:,}",
        show(row.amplification, "").text,
        show(row.failed, "share").text if totals.failed else "",
        _share(totals.timed_out, totals.attempts),
        _share(totals.rejected, totals.calls),
        _share(totals.hedges, totals.calls),
        _share(totals.fallbacks, totals.calls),
        _share(totals.escalations, totals.calls),
        show(row.wasted, "share").text if totals.wasted else "",
        "" if availability is None else show(availability, "share").text,
    )


def _share(part: int, whole: int) -> str:
    return plain(part / whole, "share") if part and whole else ""


def _roots(found: Reliability) -> Table:
    """Return why tasks failed or were late: shares are of all that did."""
    total = found.failed + found.late
    rows = sorted(found.roots, key=lambda one: (-one.failed - one.late, one.cause, one.path))
    cells = [_root(one, total) for one in rows[:MOST]]
    left = rows[MOST:]
    if left:
        others = Root(f"{len(left)} others", "", sum(one.failed for one in left), sum(one.late for one in left))
        cells.append(_root(others, total))
    what = " and ".join(word for word, count in (("failed", found.failed), ("late", found.late)) if count)
    columns = ("cause", "path", "failed", "late", "share")
    return without_empty(Table(f"Root causes of {what} tasks", columns, "<<>>>", tuple(cells)), 2)


def _root(one: Root, total: int) -> tuple[str, ...]:
    return one.cause, one.path, _count(one.failed), _count(one.late), plain((one.failed + one.late) / total, "share")
