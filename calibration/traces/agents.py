"""Agents of a class: turns, calls at once, choice of tools, context and gaps; and which agent comes next.

Leaves out: agents that work side by side: they come one after the other, and their overlap is told.
Checked: tests/test_trace_fit.py.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from .choice import chain_of
from .fitted import AgentFit, ContextFit, Number, Table, Values
from .tables import number, ratio, share, table, values
from .tokens import Growth, Tokens
from .turns import Course, Visit

__all__ = ["EARLY", "Told", "agent_fits", "flow_of"]

_MOST_AGENTS = 12
EARLY = 5  # turns: in these agents read what they work on, and contexts grow faster than later
_LEAST_LATE = 20  # turns later than that, and tasks with as many
_EARLY_MATTERS = 0.1  # of the first prompt


@dataclass
class Told:
    """What the calls of an agent's model tell of its context; `model` is its key."""

    model: str
    start: list[float] = field(default_factory=list)
    output: list[float] = field(default_factory=list)
    where: list[int] = field(default_factory=list)
    growth: list[tuple[int, Growth]] = field(default_factory=list)
    resets: list[tuple[int, int]] = field(default_factory=list)

    def take(self, tokens: Tokens, begin: int, count: int, at: int, growth: Growth) -> None:
        """Take the calls of one task, `count` of them from `begin` on; `at` is its number."""
        prompts = tokens.prompt[begin : begin + count]
        known = prompts[np.isfinite(prompts)]
        if count and np.isfinite(prompts[0]):
            self.start.append(float(prompts[0]))
        output = tokens.output[begin : begin + count]
        good = output[np.isfinite(output)]
        self.output += good.tolist()
        self.where += [at] * len(good)
        self.growth.append((at, growth))
        if len(known) > 1:
            self.resets.append((int((np.diff(known) < 0).sum()), len(known) - 1))

    @property
    def early(self) -> Number | None:
        """What the first turns add to the prompt beyond what as many of the later ones do, by task; None where that is little."""
        turns = [(one.grown[one.turn < EARLY], one.grown[one.turn >= EARLY]) for _, one in self.growth]
        late = sum(len(after) for _, after in turns)
        begun = [float(before.sum()) for before, _ in turns if len(before) == EARLY]
        if late < _LEAST_LATE or len(begun) < _LEAST_LATE:
            return None
        each = sum(float(after.sum()) for _, after in turns) / late
        more = float(np.mean(begun)) - EARLY * each
        if more < _EARLY_MATTERS * float(np.mean(self.start)):
            return None
        return number(more, len(begun), "tokens", f"what the first {EARLY} turns add beyond what later ones do")

    @property
    def grown(self) -> float:
        """By how many tokens prompts grew, in all."""
        return float(sum(one.grown.sum() for _, one in self.growth))

    def context(self, clusters: np.ndarray, tasks: int) -> ContextFit:
        """Return what is known of the context."""
        start, output = np.array(self.start), np.array(self.output)
        where = np.array(self.where, dtype=int)
        of = np.bincount(where, minlength=tasks) if len(where) else np.zeros(tasks)
        mean = (
            ratio(np.bincount(where, output, tasks), of, "tokens", "mean over calls", clusters) if len(where) else None
        )
        resets = np.array(self.resets, dtype=float).reshape(-1, 2)
        ones = np.ones(len(start))
        at = np.array([at for at, _ in self.growth], dtype=int)
        growth = None
        if self.grown > 0:
            grown = np.bincount(at, [one.grown.sum() for _, one in self.growth], tasks)
            turns = np.bincount(at, [len(one.grown) for _, one in self.growth], tasks)
            how = "mean over turns whose prompt is not shorter than the last"
            growth = ratio(grown, turns, "tokens", how, clusters)
        shorter = "calls with a prompt shorter than the last one's"
        return ContextFit(
            start=table(start, ratio(start, ones, "tokens", "mean over tasks")) if len(start) else None,
            output=table(output, mean) if mean is not None else None,
            growth=growth,
            resets=share(resets[:, 0], resets[:, 1], shorter) if len(resets) else None,
            early=self.early,
        )


def _agents_of(group: Sequence[Course]) -> dict[tuple[str, str], int]:
    """Return the agents of a class by their place: by first appearance; where there are too many, those that seldom appear join the last."""
    seen: dict[tuple[str, str], list[float]] = defaultdict(list)
    for one in group:
        order = list(dict.fromkeys(visit.agent for visit in one.visits))
        for place, who in enumerate(order):
            seen[who].append(float(place))
    often = sorted(seen, key=lambda who: (-len(seen[who]), who))
    kept = sorted(often[:_MOST_AGENTS], key=lambda who: (float(np.mean(seen[who])), who))
    places = {who: place for place, who in enumerate(kept)}
    for who in often[_MOST_AGENTS:]:
        same = [one for one in kept if one[1] == who[1]] or kept
        places[who] = places[same[-1]]
    return places


def flow_of(
    group: Sequence[Course], places: Mapping[tuple[str, str], int], clusters: np.ndarray
) -> tuple[tuple[tuple[tuple[int | None, float], ...], ...], Values | None]:
    """Return which agent comes after which (`start` first), and how often it is the last: shares of what was seen; and rounds, if any.

    Where tasks come back to the agent that mostly begins, that is a round, and rows are of rounds: a chain over whole tasks would end with
    one chance each time, so that some tasks would go round far longer than any did.
    """
    size = max(places.values()) + 1
    counts = np.zeros((size + 1, size + 1))
    ways = [_joined([places[visit.agent] for visit in one.visits]) for one in group]
    first = Counter(way[0] for way in ways).most_common(1)[0][0]
    rounds = [_rounds(way, first) for way in ways]
    for way in (one for each in rounds for one in each):
        for last, now in zip([-1, *way], [*way, size], strict=True):
            counts[last + 1, now] += 1
    rows = []
    for row in counts:
        whole = row.sum()
        rows.append(tuple((None if at == size else at, float(n / whole)) for at, n in enumerate(row) if n))
    often = [len(each) for each in rounds]
    own = clusters[[one.number for one in group]]
    return tuple(rows), values(often, "rounds of a task", own) if max(often) > 1 else None


def _rounds(way: list[int], first: int) -> list[list[int]]:
    """Return the way in rounds, each but the first begins with the agent `first`."""
    cuts = [0, *(at for at in range(1, len(way)) if way[at] == first), len(way)]
    return [way[a:b] for a, b in pairwise(cuts)]


def _joined(way: list[int]) -> list[int]:
    return [place for i, place in enumerate(way) if i == 0 or place != way[i - 1]]


def agent_fits(
    group: Sequence[Course], told: Mapping[tuple[str, str], Told], keys: Mapping[str, str], clusters: np.ndarray, tasks: int
) -> tuple[tuple[AgentFit, ...], dict[tuple[str, str], int]]:  # fmt: skip
    """Return the agents of a class by place, and the place of each. `keys` are of tools, by component."""
    places = _agents_of(group)
    visits: dict[int, list[tuple[int, Visit]]] = defaultdict(list)
    for one in group:
        last = None
        for visit in one.visits:
            place = places[visit.agent]
            if place == last:
                visits[place][-1][1].turns.extend(visit.turns)
                continue
            visits[place].append((one.number, Visit(visit.agent, list(visit.turns))))
            last = place
    first: dict[int, tuple[str, str]] = {}
    for who, place in places.items():
        first.setdefault(place, who)
    fits = [
        _agent(first[place], visits[place], told.get(first[place]), keys, clusters, tasks) for place in sorted(visits)
    ]
    return tuple(fits), places


def _agent(
    who: tuple[str, str], visits: list[tuple[int, Visit]], told: Told | None, keys: Mapping[str, str], clusters: np.ndarray, tasks: int
) -> AgentFit:  # fmt: skip
    where = np.array([at for at, _ in visits])
    own = clusters[where]
    turns = values([len(visit.turns) for _, visit in visits], "turns of a visit", own)
    last = np.array([len(visit.turns[-1].tools) for _, visit in visits])
    ends = None if last.all() else -1  # where each last turn calls a tool, it is as the others
    inner = [(at, len(turn.tools)) for at, visit in visits for turn in visit.turns[:ends]]
    calls = None
    if inner:
        of = "calls of a turn" if ends is None else "calls of a turn that is not the last"
        calls = values([n for _, n in inner], of, clusters[[at for at, _ in inner]])
    sequences: dict[int, list[str]] = defaultdict(list)
    for at, visit in visits:
        sequences[at] += [keys[call.component] for turn in visit.turns for call in turn.tools]
    calling, visited = np.bincount(where, last > 0, tasks), np.bincount(where, minlength=tasks)
    return AgentFit(
        name=who[0],
        model=told.model if told is not None else None,
        tasks=len(set(where.tolist())),
        turns=turns,
        calls=calls,
        last=values(last.tolist(), "calls of the last turn", own),
        last_calls=share(calling, visited, "visits whose last turn calls a tool", clusters),
        choice=chain_of(list(sequences.values())),
        context=told.context(clusters, tasks) if told is not None else ContextFit(None, None, None, None, None),
        gap=_gap(visits, clusters, tasks),
    )


def _gap(visits: list[tuple[int, Visit]], clusters: np.ndarray, tasks: int) -> Table:
    """Return the time of a turn that its calls do not explain; where turns overlap, less of it."""
    gaps = np.array([turn.gap for _, visit in visits for turn in visit.turns])
    where = np.array([at for at, visit in visits for _ in visit.turns])
    mean: Number = ratio(
        np.bincount(where, gaps, tasks), np.bincount(where, minlength=tasks), "s", "mean over turns", clusters
    )
    if mean.value < 0:
        mean = number(0.0, mean.n, "s", "turns overlap: none is left")
    return table(np.maximum(gaps, 0.0), mean)
