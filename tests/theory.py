"""Closed forms of queueing theory that the simulator must agree with. Times in seconds, rates in 1/s.

Written from the sources and not from the simulator: nothing of the package is imported here.

Leaves out: transient behaviour; distributions of waiting times beyond M/M/1.
Checked: against published values and against each other, at the end of test_theory.py.
Source: Kleinrock, Queueing Systems I (1975); beside a function where it is another.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


def erlang_b(servers: int, load: float) -> float:
    """Return the probability that all of `servers` are busy when nobody waits; `load` in erlangs, arrival rate x service time."""
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = load * blocked / (number + load * blocked)
    return blocked


def erlang_c(servers: int, load: float) -> float:
    """Return the probability of waiting in M/M/c; `load` must be below `servers`."""
    blocked = erlang_b(servers, load)
    return blocked / (1 - load / servers * (1 - blocked))


def mmc_wait(rate: float, service: float, servers: int = 1) -> float:
    """Return the mean time in line in M/M/c."""
    return erlang_c(servers, rate * service) * service / (servers - rate * service)


def mg1_wait(rate: float, mean: float, second_moment: float) -> float:
    """Return the mean time in line in M/G/1 (Pollaczek and Khinchine)."""
    return rate * second_moment / (2 * (1 - rate * mean))


def truncated_pareto_moment(low: float, high: float, shape: float, order: int) -> float:
    """Return E[X^order] of a Pareto distribution from `low` on, given that it is at most `high`; `order` is not `shape`."""
    mass = 1 - (low / high) ** shape
    powers = high ** (order - shape) - low ** (order - shape)
    return float(shape * low**shape * powers / (order - shape) / mass)


@dataclass(frozen=True)
class Chain:
    """A birth-death chain in equilibrium: the number present, and the servers among them that work."""

    shares: np.ndarray  # probability of 0, 1, 2 ... present
    births: np.ndarray  # rate up from each
    servers: int

    @classmethod
    def of(cls, births: Sequence[float], deaths: Callable[[int], float], servers: int) -> "Chain":
        """Solve it: `births[n]` leads from n to n + 1, `deaths(n)` from n to n - 1."""
        weights = [1.0]
        for number, birth in enumerate(births, 1):
            weights.append(weights[-1] * birth / deaths(number))
        return cls(np.array(weights) / sum(weights), np.array([*births, 0.0]), servers)

    @property
    def throughput(self) -> float:
        """Arrivals that are let in, 1/s."""
        return float(self.shares @ self.births)

    @property
    def present(self) -> float:
        """The mean number present."""
        return float(self.shares @ np.arange(len(self.shares)))

    @property
    def utilization(self) -> float:
        """The mean share of servers that are busy."""
        return float(self.shares @ np.minimum(np.arange(len(self.shares)), self.servers)) / self.servers

    @property
    def response(self) -> float:
        """The mean time present of those let in, by Little's law."""
        return self.present / self.throughput


def mmck(rate: float, service: float, servers: int, room: int) -> Chain:
    """Return the chain of M/M/c/K: at most `room` present, in service and in line."""
    return Chain.of([rate] * room, lambda n: min(n, servers) / service, servers)


def repairman(machines: int, up: float, repair: float, repairers: int) -> Chain:
    """Return the chain of the number of machines that are down."""
    return Chain.of([(machines - n) / up for n in range(machines)], lambda n: min(n, repairers) / repair, repairers)


def visits(start: Sequence[float], routing: Sequence[Sequence[float]]) -> np.ndarray:
    """Return the mean visits of a task to each station; `routing[i][j]` is the probability of j after i."""
    matrix = np.eye(len(start)) - np.array(routing, dtype=float).T
    solved: np.ndarray = np.linalg.solve(matrix, np.array(start, dtype=float))
    return solved


@dataclass(frozen=True)
class ClosedNetwork:
    """Mean value analysis: throughput, and of each station the time there per task, and the mean number there."""

    throughput: float
    residence: np.ndarray
    present: np.ndarray


def mva(users: int, think: float, demands: Sequence[float], delays: Sequence[bool]) -> ClosedNetwork:
    """Solve a closed product-form network of single servers and of stations without a queue (`delays`).

    Source: Reiser and Lavenberg, J. ACM 27 (1980).
    """
    demand, delay = np.array(demands), np.array(delays)
    present = np.zeros(len(demand))
    for number in range(1, users + 1):
        residence = np.where(delay, demand, demand * (1 + present))
        throughput = number / (think + residence.sum())
        present = throughput * residence
    return ClosedNetwork(float(throughput), residence, present)


def harmonic(n: int) -> float:
    """Return H_n: the mean of the greatest of n independent exponentials of mean 1."""
    return sum(1 / k for k in range(1, n + 1))


def fork_join_two(rate: float, service: float) -> float:
    """Return the mean response of two M/M/1 queues fed by the same arrivals, and a join.

    Source: Flatto and Hahn, SIAM J. Applied Math. 44 (1984); Nelson and Tantawi, IEEE Trans. Computers 37 (1988).
    """
    load = rate * service
    return (12 - load) / 8 * service / (1 - load)
