"""Queues written as plainly as can be, for the engine's to be held against. Times in seconds.

Slow on purpose: every state is recomputed from all customers so far, and nothing of the package is imported here.

Leaves out: statistics.
Checked: against each other, and against the engine, in test_same_path.py and test_engines.py.
Source: Lindley, Proc. Cambridge Phil. Soc. 48 (1952); Kiefer and Wolfowitz, Trans. AMS 78 (1955).
"""

import heapq
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import simpy

Floats = Sequence[float]


# Waiting times, first come first served, from arrivals and service times.


def lindley(arrivals: Floats, services: Floats) -> list[float]:
    """One server: a customer waits for what was left of the work, less the time since."""
    waits = [0.0]
    for number in range(1, len(arrivals)):
        waits.append(max(0.0, waits[-1] + services[number - 1] - (arrivals[number] - arrivals[number - 1])))
    return waits


def kiefer_wolfowitz(arrivals: Floats, services: Floats, servers: int) -> list[float]:
    """Several servers: the work before each, in order; the next customer joins the least."""
    work, before, waits = [0.0] * servers, 0.0, []
    for arrival, service in zip(arrivals, services, strict=True):
        work = sorted(max(0.0, each - (arrival - before)) for each in work)
        waits.append(work[0])
        work[0] += service
        before = arrival
    return waits


def event_loop(arrivals: Floats, services: Floats, servers: int) -> list[float]:
    """Several servers: a heap of arrivals and ends."""
    events = [(arrival, number, True) for number, arrival in enumerate(arrivals)]
    heapq.heapify(events)
    line: deque[int] = deque()
    waits, busy = [0.0] * len(arrivals), 0
    while events:
        now, number, arrives = heapq.heappop(events)
        if arrives:
            line.append(number)
        else:
            busy -= 1
        if line and busy < servers:
            following = line.popleft()
            busy += 1
            waits[following] = now - arrivals[following]
            heapq.heappush(events, (now + services[following], following, False))
    return waits


def by_simpy(arrivals: Floats, services: Floats, servers: int) -> list[float]:
    """Several servers: SimPy, as its documentation would write it."""
    env = simpy.Environment()
    resource = simpy.Resource(env, servers)
    waits = [0.0] * len(arrivals)

    def customer(number: int) -> Generator[simpy.Event, Any, None]:
        yield env.timeout(arrivals[number])
        with resource.request() as turn:
            yield turn
            waits[number] = env.now - arrivals[number]
            yield env.timeout(services[number])

    for number in range(len(arrivals)):
        env.process(customer(number))
    env.run()
    return waits


# A token bucket, a shared link, and a pool in which customers are cancelled.


def bucket(arrivals: Floats, sizes: Floats, rate: float, burst: float, step: float) -> list[float]:
    """Return when requests may go through a bucket that is refilled every `step` seconds: exact if all times are steps."""
    tokens, now, starts = burst, 0.0, []
    for arrival, size in zip(arrivals, sizes, strict=True):
        while now < arrival or tokens < min(size, burst):
            now += step
            tokens = min(burst, tokens + rate * step)
        tokens -= size
        starts.append(now)
    return starts


@dataclass(eq=False)
class Customer:
    """One customer: what it wants, and what became of it. `left` is when it ended or was cancelled."""

    arrival: float
    work: float  # seconds of service, or bytes
    priority: int = 0
    cancel: float = float("inf")
    started: float | None = None
    left: float | None = None
    ended: bool = False
    refused: bool = False
    remaining: float = field(init=False)

    def __post_init__(self) -> None:
        self.remaining = self.work

    def present(self, now: float) -> float:
        """Return the seconds present up to `now`."""
        return 0.0 if self.refused else overlap(self.arrival, self.left, now)

    def served(self, now: float) -> float:
        """Return the seconds in service up to `now`."""
        return overlap(self.started, self.left, now)


def overlap(start: float | None, end: float | None, now: float) -> float:
    """Return how much of the stretch lies before `now`."""
    return 0.0 if start is None else max(0.0, min(now, float("inf") if end is None else end) - start)


def pool(customers: Sequence[Customer], servers: int, room: float) -> None:
    """Serve them by priority, then in order of arrival; at most `room` wait; `cancel` takes one out, wherever it is.

    No two things may happen at one time.
    """
    times = [(each.arrival, each) for each in customers] + [(each.cancel, each) for each in customers]
    moments = sorted((moment for moment in times if moment[0] < float("inf")), key=lambda moment: moment[0])
    here: list[Customer] = []
    while moments or any(each.started is not None for each in here):
        serving = [each for each in here if each.started is not None]
        first = min(serving, key=lambda each: (each.started or 0.0) + each.work, default=None)
        if first is not None and (not moments or (first.started or 0.0) + first.work < moments[0][0]):
            now = (first.started or 0.0) + first.work
            first.left, first.ended = now, True
            here.remove(first)
        else:
            now, one = moments.pop(0)
            if now == one.cancel:
                if one in here:
                    one.left = now
                    here.remove(one)
            elif one.cancel > now:
                one.refused = len(serving) == servers and len(here) - len(serving) >= room
                here += [] if one.refused else [one]
        waiting = sorted(
            (each for each in here if each.started is None), key=lambda each: (each.priority, each.arrival)
        )
        for each in waiting[: servers - sum(each.started is not None for each in here)]:
            each.started = now


def link(customers: Sequence[Customer], bandwidth: float) -> None:
    """Send the bytes of all that are present, each at an equal share, from one event to the next."""
    now, coming = 0.0, sorted(customers, key=lambda each: each.arrival)
    here: list[Customer] = []
    while coming or here:
        share = bandwidth / max(1, len(here))
        following = [now + each.remaining / share for each in here] + [each.cancel for each in here]
        then = min([*following, *(each.arrival for each in coming[:1])])
        for each in here:
            each.remaining -= (then - now) * share
        now = then
        for each in [*here]:
            each.ended = each.remaining <= 1e-9 * each.work
            if each.ended or each.cancel <= now:
                each.left = now
                here.remove(each)
        while coming and coming[0].arrival <= now:
            here.append(coming.pop(0))
            here[-1].started = here[-1].arrival
