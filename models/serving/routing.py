"""Which replica a request goes to.

A router sees how many requests are at each replica, which one served the session before, and what its cache holds; not how
long an output will be.

Leaves out: queues in the router itself.
Checked: tests/test_cluster.py.
Source of `prefix`: the cache-aware routing of SGLang: the longest match, unless its replica is far busier than the least busy.
"""

from collections.abc import Sequence

from .encoding import Job
from .replica import Replica
from .request import Request
from .spec import Routing

__all__ = ["Router"]

IMBALANCE = 8  # requests more than the least busy replica has, from which on a match is given up


class Router:
    """Chooses among replicas."""

    def __init__(self, routing: Routing) -> None:
        self.routing = routing
        self._turn = 0

    def choose(self, replicas: Sequence[Replica], request: Request | Job, home: Replica | None, now: float) -> Replica:
        """Return the replica for a request, or for a job, which no cache holds anything of; `home` served its session before, and may be gone."""
        if len(replicas) == 1:
            return replicas[0]
        if self.routing == "round-robin":
            self._turn += 1
            return replicas[(self._turn - 1) % len(replicas)]
        if self.routing == "session" and home is not None and home in replicas:
            return home
        least = min(replicas, key=lambda replica: replica.outstanding)
        if self.routing != "prefix":
            return least
        matches = [replica.match(request.path, now) for replica in replicas]
        best = replicas[max(range(len(replicas)), key=lambda number: (matches[number], -replicas[number].outstanding))]
        far = best.outstanding - least.outstanding > IMBALANCE
        return least if far or not max(matches) else best
