"""Replicas of a cluster that fail: the router passes them over, what they serve is lost, and their KV with it.

A replica that has crashed is another one when it comes back: nothing of it is left but what it has done so far. What was encoded for
a task there is gone, too; its next call does without.

Leaves out: a remote store of KV that outlives its replica; KV that is on its way from a replica that has crashed, which arrives.
Checked: tests/test_replica_faults.py.
"""

from typing import TYPE_CHECKING

from ...sim.engine.branch import Branch
from .kv_cache import KvCache, Totals
from .prefix_tree import unheld
from .replica import Replica

if TYPE_CHECKING:
    from .cluster import Cluster, Driver

__all__ = ["Outages", "clear"]


class Outages:
    """The replicas of a cluster, numbered from 0: first those that take calls, then those that decode only.

    A number stands for a place. `count` are those that there can be; with autoscaling there may be nobody at a place.
    """

    def __init__(self, cluster: "Cluster", count: int) -> None:
        self.cluster = cluster
        self.count = count
        self._down: dict[int, Driver | None] = {}

    def _at(self, number: int) -> "Driver | None":
        cluster = self.cluster
        cluster.settle()
        return next((one for one in (*cluster.drivers, *cluster.decoders) if one.number == number), None)

    @property
    def up(self) -> bool:
        """Whether there is one that takes calls, and one that decodes where those are others."""
        cluster = self.cluster
        return all(
            any(driver not in cluster.away for driver in drivers)
            for drivers in (cluster.drivers, cluster.decoders)
            if drivers
        )

    def serves(self, number: int, branch: Branch) -> bool:
        """Whether a replica has the call, or the encoder's job, of a branch."""
        driver, wait, cluster = self._at(number), branch.wait, self.cluster
        if driver is None or wait.holder is None or wait.holder not in (cluster, cluster.encodings):
            return False
        return wait.place.home is driver

    def leave(self, number: int) -> None:
        """A replica takes no more calls."""
        driver = self._down[number] = self._at(number)
        if driver is not None:
            self.cluster.away.append(driver)
            if self.cluster.encodings is not None:
                self.cluster.encodings.lose(driver)

    def come_back(self, number: int) -> None:
        """A replica takes calls again."""
        driver = self._down.pop(number)
        if driver in self.cluster.away:
            self.cluster.away.remove(driver)
        self.cluster.resume()

    def empty(self, number: int | None, crash: bool) -> None:
        """A replica (None: all) loses what it has cached. One that has crashed, and serves nobody any more, is replaced."""
        cluster = self.cluster
        found = (*cluster.drivers, *cluster.decoders) if number is None else (self._at(number),)
        for driver in found:
            if driver is None:
                continue
            if crash:
                self._replace(driver)
            else:
                driver.replica.match((), cluster.sim.now)  # what is under way is counted up to now
                clear(driver.replica.kv, cluster.sim.now)
                driver.replica.relieve(cluster.sim.now)
                driver.arm()

    def _replace(self, driver: "Driver") -> None:
        now, old = self.cluster.sim.now, driver.replica
        self.cluster.gone.append((old, _closed(old, now)))
        if self.cluster.encodings is not None:
            self.cluster.encodings.lose(driver)
        driver.renew(self.cluster.make(), now)


def _closed(replica: Replica, now: float) -> Totals:
    """Count what a replica was at when it stopped; return what its memory has held."""
    passed = now - replica.start
    used = uncached = 0.0
    if replica.leap or replica.start > now:
        tally, begun = replica.tally, replica.begun(now)
        if passed > 0:
            used, uncached = replica.taken(begun, now)
        present = replica.batch.count if passed > 0 else len(replica.running) - len(replica.loading)
        tally.busy += passed
        tally.sequence_seconds += passed * present
        tally.iterations += begun
    totals = replica.kv.totals(max(now, replica.kv.clock))
    return Totals(totals.used_seconds + used, totals.cached_seconds - uncached, totals.pinned_seconds)


def clear(kv: KvCache, now: float) -> None:
    """Free all cached blocks, in every tier, those that are pinned among them."""
    for path in list(kv._pins):
        kv.unpin(path, now)
    kv.totals(now)
    for node in unheld(kv._root):
        node.unlink()
        kv._leave(node)
        kv.dropped += node.length
        node.remove()
