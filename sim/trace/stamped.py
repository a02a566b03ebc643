"""Spans that say themselves what they are in the ledger: what `export.otlp` wrote, read back without a guess.

Every span of such a task has attributes `coordsim.*`, and its root has the seconds by account. The critical path comes back as the edges
between the lanes of the spans that are critical, so that `engine.critical` walks the same path.

A call is stamped as a whole on its own span, which may be one that the ledger has in several pieces.

Leaves out: the edges off the critical path; which account has the time of a lost span, where a task has several that may.
Checked: tests/test_trace_roundtrip.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from ..engine.critical import TRUNK, Edge
from ..engine.ledger import EVERY, STATUSES, STRUCTURE, Account
from .measured import Booked, Call, Entry
from .observation import CALLS, Observation

__all__ = ["booked", "epoch_of", "has_no_clock", "is_stamped", "origin"]

_CALL: Final = fields(Call)
RECOVERY: Final = "recovery"
_SPAN = ("id", "parent", "lane", "category", "component", "name", "start_s", "end_s", "size", "critical", "lost")
_FACT = "facts."
_LANES, _IDS = 2**64, 2**62


class _Unlike(ValueError):
    """What a stamp says cannot be from an export."""


@dataclass(frozen=True, slots=True)
class _Stamped:
    """A span as its stamp has it."""

    id: int
    parent: int
    lane: int
    account: Account
    start: float
    end: float
    size: float
    critical: bool
    lost: bool
    error: bool

    @property
    def groups(self) -> bool:
        """Whether it only groups others."""
        return self.account.category == STRUCTURE


def is_stamped(observation: Observation) -> bool:
    """Whether a span says of itself what it is in the ledger."""
    return observation.stamp is not None and is_stamp(observation.stamp)


def is_stamp(stamp: Mapping[str, Any]) -> bool:
    """Whether the attributes of a span below `coordsim.` say what it is in the ledger."""
    return "task" in stamp or "call" in stamp or all(name in stamp for name in _SPAN)


def has_no_clock(observation: Observation) -> bool:
    """Whether a span says that its task has no clock in common with others."""
    return observation.stamp is not None and observation.stamp.get("clock") is False


def epoch_of(observations: Sequence[Observation]) -> int:
    """Return when the clock of an exported task began (ns since 1970), 0 where that is not told."""
    said = next(_roots(observations), {}).get("epoch", 0)
    return said if isinstance(said, int) else 0


def origin(observations: Sequence[Observation]) -> tuple[str, str, str]:
    """Return the trace, session and problem that a task had before it was exported, '' where it had none."""
    root = next(_roots(observations), {})
    trace, session, problem = (str(root.get(name, "")) for name in ("trace", "session", "problem"))
    return trace, session, problem


def booked(observations: Sequence[Observation]) -> Booked | None:
    """Return a task as it was exported; None where spans are missing, or their stamps do not fit together."""
    roots = list(_roots(observations))
    if len(roots) != 1 or not all(map(is_stamped, observations)):
        return None
    root = roots[0]
    try:
        stamps = [one.stamp for one in observations if one.stamp is not None and one.stamp is not root]
        spans = [_stamped(one) for one in stamps if "id" in one or "call" not in one]
        _check(root, spans)
        return _booked(root, spans, _calls(root, observations))
    except (_Unlike, KeyError, TypeError, ValueError, OverflowError, RecursionError):
        return None


def _roots(observations: Sequence[Observation]) -> Iterator[Mapping[str, Any]]:
    """Yield the stamps that tell of a task: one, where spans are those of an export."""
    return (one.stamp for one in observations if one.stamp is not None and "task" in one.stamp)


def _booked(root: Mapping[str, Any], spans: list[_Stamped], calls: Iterable[Call]) -> Booked:
    arrival, end = _seconds(root["arrival_s"]), _seconds(root["end_s"])
    parts = _parts(root)
    _law(parts, arrival, end)
    # What was lost comes last: in a lost span that holds others, all that is entered after it counts as lost with it.
    order = sorted(spans, key=lambda one: (one.lost, one.start, one.id))
    entries: list[Entry] = [(one.lane, one.parent, one.account, one.start, one.end, one.size, one.id) for one in order]
    lost = [(one.lane, place, place + 1, _taker(one, parts)) for place, one in enumerate(order) if one.lost]
    return Booked(
        arrival=arrival,
        end=end,
        task_class=str(root["class"]),
        parts=parts,
        entries=entries,
        edges=_edges(spans, arrival),
        lost=lost,
        errors=[one.id for one in spans if one.error],
        status=_status(root),
        failure=str(root.get("failure", "")),
        overlapped=_seconds(root["overlapped_s"]),
        facts={name.removeprefix(_FACT): _seconds(value) for name, value in root.items() if name.startswith(_FACT)},
        calls=tuple(calls),
    )


# ---------------------------------------------------------------------------------------------------------------------
# What stamps say


def _stamped(stamp: Mapping[str, Any]) -> _Stamped:
    category, start, end = str(stamp["category"]), _seconds(stamp["start_s"]), _seconds(stamp["end_s"])
    if (category != STRUCTURE and category not in EVERY) or end < start:
        raise _Unlike
    return _Stamped(
        id=_whole(stamp["id"], _IDS),
        parent=_whole(stamp["parent"], _IDS),
        lane=_whole(stamp["lane"], _LANES),
        account=Account(category, str(stamp["component"]), str(stamp["name"])),
        start=start,
        end=end,
        size=_seconds(stamp["size"]),
        critical=_flag(stamp["critical"]),
        lost=_flag(stamp["lost"]),
        error=_flag(stamp.get("error", False)),
    )


def _check(root: Mapping[str, Any], spans: Sequence[_Stamped]) -> None:
    """All spans must be here, each once, and lie in each other without a circle."""
    parents = {one.id: one.parent for one in spans}
    if len(parents) != len(spans) or len(spans) != _whole(root["spans"], _IDS) or 0 in parents:
        raise _Unlike
    safe = {0}
    for one in parents:
        way: list[int] = []
        at = one
        while at not in safe:
            way.append(at)
            safe.add(at)  # so that a circle ends the walk, at a span of its own way
            at = parents[at]
        if way and at in way:
            raise _Unlike


def _parts(root: Mapping[str, Any]) -> dict[Account, float]:
    parts: dict[Account, float] = {}
    for category, component, name, seconds in json.loads(root["parts"]):
        if category not in EVERY:
            raise _Unlike
        parts[Account(str(category), str(component), str(name))] = _seconds(seconds)
    return parts


def _law(parts: Mapping[Account, float], arrival: float, end: float) -> None:
    """Seconds by account must sum to the length of the task, as the ledger demands."""
    if not abs(sum(parts.values()) - (end - arrival)) <= 1e-9 * abs(end - arrival) + 8 * math.ulp(abs(end)):
        raise _Unlike


def _status(root: Mapping[str, Any]) -> int:
    return STATUSES.index(root["status"])


def _taker(span: _Stamped, parts: Mapping[Account, float]) -> Account:
    """Return an account that has the time of a lost span: one of the task's."""
    known = [one for one in parts if one.category == RECOVERY]
    same = [one for one in known if one.component == span.account.component]
    return next(iter(same or known), Account(RECOVERY, span.account.component, RECOVERY))


def _seconds(value: Any) -> float:
    found = float(value)
    if not math.isfinite(found):
        raise _Unlike
    return found


def _whole(value: Any, below: int) -> int:
    found = int(value)
    if isinstance(value, float | bool) or not 0 <= found < below:
        raise _Unlike
    return found


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Unlike
    return value


# ---------------------------------------------------------------------------------------------------------------------
# What follows from them


def _edges(spans: Sequence[_Stamped], arrival: float) -> list[Edge]:
    """Return edges along which the walk back goes through the critical spans, and through no others.

    Where nothing is critical for a while, it goes through a lane that nobody has. A group without length, in which nothing is critical, is
    so because its lane was: the walk comes by there.
    """
    path = [(one.start, one.end, one.lane) for one in spans if one.critical and not one.groups]
    holds = {one.parent for one in spans if one.critical}
    path += [
        (one.start, one.end, one.lane)
        for one in spans
        if one.critical and one.groups and one.start == one.end and one.id not in holds
    ]
    used = {one.lane for one in spans}
    spare = next(lane for lane in range(1, _LANES) if lane not in used)
    edges: list[Edge] = []
    lane, at = TRUNK, arrival
    for start, end, own in sorted(path):
        if start > at:
            edges.append((lane, spare, at))
            lane, at = spare, start
        if own != lane:
            edges.append((lane, own, start))
        if end > start:
            lane, at = own, end
        elif own != lane:
            edges.append((own, lane, start))
    behind = max((one.end for one in spans if one.lane == TRUNK and not one.groups), default=at)
    if behind > at:
        return [*edges, (lane, spare, at), (spare, TRUNK, behind)]
    return edges if lane == TRUNK else [*edges, (lane, TRUNK, at)]


def _calls(root: Mapping[str, Any], observations: Sequence[Observation]) -> Iterator[Call]:
    """Yield the calls in their order."""
    found: list[tuple[int, Call]] = []
    for one in observations:
        if one.stamp is not None and "call" in one.stamp:
            said = json.loads(one.stamp["call"])
            found.append((_whole(said.pop("at"), _IDS), _call(said)))
    found.sort(key=lambda one: one[0])
    if [place for place, _ in found] != list(range(_whole(root["calls"], _IDS))):
        raise _Unlike
    for _, call in found:
        yield call


def _call(said: Mapping[str, Any]) -> Call:
    """Return a call of which each field is of its type."""
    known: dict[str, Any] = {}
    for one in _CALL:
        if one.name in said:
            known[one.name] = _TYPES[one.type](said[one.name])
    call = Call(**known)
    if len(known) != len(said) or call.kind not in CALLS or call.end < call.start:
        raise _Unlike
    return call


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Unlike
    return value


_TYPES: Final[Mapping[Any, Callable[[Any], Any]]] = {
    "Kind": _text, "str": _text, "float": _seconds, "int": lambda value: _whole(value, _IDS), "bool": _flag,
}  # fmt: skip
