"""The steps of a fitted scenario, and what all of its parts are called: one workflow a class, one or two steps an agent.

Leaves out: times and tokens (`scenario`).
Checked: tests/test_trace_scenario.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...sim.engine import units
from .fitted import AgentFit, Choice, ClassFit, Fitted
from .naming import name_of, short_names, unique
from .written import binned, seen, weights
from .yaml_lines import Entry, Flow

__all__ = ["Names", "called", "names_of", "workflows"]

_LEAST_CHOICES = 3  # a row of fewer is for the most part what all calls are
_RARE, _MOST_LEFT = 0.04, 0.08  # of a row of choices: what may be left out of it, each and in all
_SELDOM = 0.05  # a last turn that calls a tool more seldom calls none
_MOST_MOVED = 0.01  # of the time of a turn, by what is left out


@dataclass(frozen=True, slots=True)
class Names:
    """What the parts of a fit are called in its scenario; agents by the numbers of class and place."""

    classes: dict[str, str]
    models: dict[str, str]
    agents: dict[tuple[int, int], str]


def names_of(fitted: Fitted) -> Names:
    """Return legal names, all different; the only model is `llm`. Keys of models and tools are legal as they are."""
    several = len(fitted.models) > 1
    models = {one.key: one.key if several else "llm" for one in fitted.models}
    classes = short_names(one.name for one in fitted.classes)
    agents: dict[tuple[int, int], str] = {}
    for number, one in enumerate(fitted.classes):
        for place, agent in enumerate(one.agents):
            own = name_of(agent.name, "agent")
            alone = [name_of(other.name, "agent") for each in fitted.classes for other in each.agents].count(own) == 1
            wished = own if alone else f"{own}-{classes[one.name]}"
            taken = {step.lower() for name in agents.values() for step in _steps_of(name)}
            tried = (wished if k == 1 else f"{wished}-{k}" for k in range(1, 10_000))
            agents[number, place] = next(
                name for name in tried if taken.isdisjoint(step.lower() for step in _steps_of(name))
            )
    return Names(classes, models, agents)


def _steps_of(agent: str) -> tuple[str, str]:
    """Return what the steps of an agent are called: its turns, and the last of them."""
    return agent, f"{agent}-last"


def called(choice: Choice, visits: int) -> dict[str, float]:
    """Return about how often each tool was chosen."""
    found: dict[str, float] = {}
    rows = [(choice.start, visits), *((row, n) for _, row, n in choice.rows)]
    for row, n in rows:
        for key, weight in row:
            found[key] = found.get(key, 0.0) + weight * n
    return found


def workflows(fitted: Fitted, names: Names) -> Iterator[Entry]:
    """Yield the workflow of each class, by its name, and those of their rounds; that of the first class comes first."""
    used = {one.lower() for one in names.classes.values()}
    inner = []
    for number, one in enumerate(fitted.classes):
        below = tuple(_workflow(number, one, names, fitted))
        if one.rounds is not None:
            key = unique(f"{names.classes[one.name]}-round", used)
            inner.append(Entry(key, below=below))
            often = f"rounds: mean {seen(one.rounds.mean, units.NUMBER, 'tasks')}"
            rounds = (Entry("workflow", key), Entry("repeat", binned(one.rounds), often))
            below = (Entry("start", "rounds"), Entry("steps", below=(Entry("rounds", below=rounds),)))
        yield Entry(names.classes[one.name], below=below)
    yield from inner


def _workflow(number: int, one: ClassFit, names: Names, fitted: Fitted) -> Iterator[Entry]:
    """Yield what a workflow consists of: where the tasks of a class start, and the steps of its agents."""
    if not one.agents:
        yield Entry("start", "nothing")
        yield Entry("steps", below=(Entry("nothing", {"agent": f"nobody-{number}", "repeat": "0"}),))
        return
    steps: list[Entry] = []
    firsts = []
    for place, agent in enumerate(one.agents):
        own = list(_visit(agent, names.agents[number, place], fitted))
        firsts.append(own[0].key)
        steps += own
    follows = [_next([(None if to is None else firsts[to], share) for to, share in row]) for row in one.flow]
    ends = [place for place, entry in enumerate(steps) if not any(inner.key == "next" for inner in entry.below)]
    for place, to in zip(ends, follows[1:], strict=True):
        entry = steps[place]
        steps[place] = Entry(entry.key, comment=entry.comment, below=(*entry.below, Entry("next", to)))
    start = follows[0]
    if not isinstance(start, str) or start == "done":
        steps.insert(0, Entry("begin", {"agent": names.agents[number, 0], "repeat": "0", "next": start}, "who begins"))
        start = "begin"
    yield Entry("start", start)
    yield Entry("steps", below=tuple(steps))


def _next(row: Sequence[tuple[str | None, float]]) -> Flow:
    some = [("done" if name is None else name, share) for name, share in row if share > 0]
    if not some:
        return "done"
    return some[0][0] if len(some) == 1 else weights(some)


def _visit(agent: AgentFit, name: str, fitted: Fitted) -> Iterator[Entry]:
    """Yield the steps of a visit: its turns but the last, then the last one, which has no tool call or is apart from the others in that."""
    turns = agent.turns
    said = f"turns: mean {seen(turns.mean, units.NUMBER, 'visits')}"
    tools = [] if agent.choice is None else list(_chosen(agent, fitted))
    last = agent.last_calls.value if tools and agent.last_calls.value >= _SELDOM else 0.0
    if max(turns.values) <= 0:
        yield Entry(name, below=(Entry("agent", name), Entry("repeat", "0")))
        return
    if not tools or last >= 1:
        yield Entry(name, below=(Entry("agent", name), Entry("repeat", binned(turns), said), *tools))
        return
    if max(turns.values) > 1:
        to = Entry("next", f"{name}-last")
        yield Entry(
            name, below=(Entry("agent", name), Entry("repeat", binned(turns, 1), f"{said}; but the last"), *tools, to)
        )
    if last <= 0:
        yield Entry(f"{name}-last", below=(Entry("agent", name),))
        return
    often = f"a tool in the last turn: {seen(agent.last_calls, units.SHARE, 'visits')}"
    assert agent.choice is not None
    often_all = _common(tuple(called(agent.choice, agent.tasks).items()), _costs(agent, fitted), 0)
    choice = Entry("tools", weights(often_all), "as often as in all turns")
    yield Entry(f"{name}-last", below=(Entry("agent", name), Entry("calls", binned(agent.last), often), choice))


def _costs(agent: AgentFit, fitted: Fitted) -> dict[str, float]:
    """Return how long a turn takes (s) with each tool."""
    model = 0.0 if agent.model is None else fitted.model(agent.model).seconds.mean.value
    return {one.key: model + one.latency.mean.value for one in fitted.tools}


def _common(pairs: Sequence[tuple[str, float]], costs: Mapping[str, float], n: int) -> list[tuple[str, float]]:
    """Return a row of `n` choices, shares of 1, without what never followed, and what is so rare that the time of turns changes little by it."""
    total = sum(weight for _, weight in pairs)
    shares = sorted(((key, weight / total) for key, weight in pairs if weight > 0), key=lambda one: (-one[1], one[0]))
    some = [one for one in shares if one[1] >= 0.999 / (n + 1)] if n >= _LEAST_CHOICES else []
    whole = sum(share for _, share in some)
    shares = [(key, share / whole) for key, share in some] if some else shares
    mean = sum(share * costs[key] for key, share in shares)
    kept, left, moved = list(shares), 0.0, 0.0
    for key, share in reversed(shares):
        by = share * (costs[key] - mean)
        if share < _RARE and left + share <= _MOST_LEFT and abs(moved + by) <= _MOST_MOVED * mean:
            left, moved = left + share, moved + by
            kept.remove((key, share))
    return [(key, share / (1.0 - left)) for key, share in kept]


def _chosen(agent: AgentFit, fitted: Fitted) -> Iterator[Entry]:
    """Yield how many tools a turn calls, and which."""
    assert agent.choice is not None
    calls = agent.calls
    count = "1" if calls is None else binned(calls)
    yield Entry("calls", count, "" if calls is None else f"at once: mean {seen(calls.mean, units.NUMBER, 'turns')}")

    costs = _costs(agent, fitted)

    def row(pairs: Sequence[tuple[str, float]], n: int) -> Flow:
        return weights(_common(pairs, costs, n))

    if not agent.choice.rows:
        yield Entry("tools", row(agent.choice.start, agent.tasks), agent.choice.how)
        return
    rows = [Entry("start", row(agent.choice.start, agent.tasks), f"n = {agent.tasks:,}")]
    rows += [
        Entry(key, row(pairs, n), f"n = {n:,}") for key, pairs, n in agent.choice.rows if any(w > 0 for _, w in pairs)
    ]
    there = {one.key for one in rows}
    chosen = dict.fromkeys(key for key, weight in called(agent.choice, agent.tasks).items() if weight > 0)
    rows += [Entry(key, row(agent.choice.start, agent.tasks), "as at first") for key in chosen if key not in there]
    yield Entry("tools", below=(Entry("markov", below=tuple(rows)),))
