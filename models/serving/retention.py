"""What happens to a task's KV while its tool runs: the policies that a runtime chooses from.

`discard` frees it at once, `cache` leaves it to the prefix cache, `keep` holds it for a while, `swap` copies it to the host, and
`predict` does whichever of the last three is expected to waste the least memory: blocks held idle for as long as this caller's next
calls have been in coming, and in line, so far; or blocks held while they are computed, or copied, once more. It knows the past only, and before there is
any it leaves KV to the cache. What is held yields where else nobody could run, the longest held first.

Leaves out: copies that come back before the next call does.
Checked: tests/test_retention.py.
Source of the waste of each choice: Abhyankar et al., InferCept, ICML 2024.
"""

from dataclasses import dataclass
from typing import Literal

from .kv_cache import Path
from .places import content
from .replica import Replica
from .request import Request

__all__ = ["Kv", "Retention"]

Kv = Literal["discard", "cache", "keep", "swap", "predict"]
Session = tuple[int, int, int]  # task, caller, lane


@dataclass(slots=True)
class _Held:
    replica: Replica
    path: Path
    since: float
    pinned: bool
    awaited: bool = False  # the call that it is held for has come


@dataclass(slots=True)
class _Gaps:
    count: int = 0
    seconds: float = 0.0  # in which KV lies idle: from the end of a call until the next one is taken in


class Retention:
    """The policy of one server. A call that ends is followed by another of the same session, or by the end of its task.

    `sticky`: it is also asked which replica served a session.
    """

    def __init__(self, policy: Kv, hold: float, kv_bytes: float, sticky: bool = False) -> None:
        self.tracks = sticky or policy != "cache"  # whether it needs to know of calls at all
        self.policy = policy
        self.hold = hold
        self.kv_bytes = kv_bytes
        self._held: dict[int, dict[Session, _Held]] = {}  # by task
        self._gaps: dict[int, _Gaps] = {}  # by caller: from the end of a call to the next

    def came(self, session: Session, now: float) -> Replica | None:
        """A call of a session comes: return the replica that served the one before."""
        held = self._held.get(session[0], {}).get(session)
        if held is None:
            return None
        held.awaited = True
        return held.replica

    def home(self, task: int) -> Replica | None:
        """Return the replica that served a task last."""
        held = self._held.get(task)
        return max(held.values(), key=lambda one: one.since).replica if held else None

    def ended(self, session: Session, request: Request, replica: Replica, now: float) -> None:
        """A call has ended at `now`, and its KV is in the cache: do with it what the policy says."""
        if not request.path:
            return
        block, kv = replica.limits.block, replica.kv
        path = content(request.path, (request.length - 1) // block)
        # The caller's own prompt, which all its tasks share, stays.
        own = path[0][1] if path[0][0] == ("prompt", session[1]) else 0
        of_task = self._held.setdefault(session[0], {})
        before = of_task.get(session)
        policy = self.policy
        if before is not None:
            gaps = self._gaps.setdefault(session[1], _Gaps())
            gaps.count += 1
            gaps.seconds += request.phases[0][1] - before.since
        if policy == "predict":
            policy = self._choose(session[1], sum(size for _, size in path) - own, replica)
        if policy == "keep":
            kv.pin(path, now + self.hold, now)
        renewed = policy == "keep" and before is not None and before.replica is replica and before.path == path
        if before is not None and before.pinned and not renewed:
            before.replica.kv.unpin(before.path, now)
        if policy == "discard":
            kv.drop(path, own, now)
        elif policy == "swap":
            kv.demote(path, own, now)
        of_task[session] = _Held(replica, path, now, policy == "keep")

    def over(self, task: int, now: float) -> list[Replica]:
        """A task is over: let go of what was held for it; return the replicas that did."""
        freed = []
        for held in self._held.pop(task, {}).values():
            if held.pinned:
                held.replica.kv.unpin(held.path, now)
                freed.append(held.replica)
        return freed

    def concede(self, replica: Replica, now: float) -> bool:
        """Let go of what has been held longest on a replica, if anything is; what nobody has asked for yet goes first."""
        held = [
            one for of_task in self._held.values() for one in of_task.values() if one.pinned and one.replica is replica
        ]
        if not held:
            return False
        longest = min(held, key=lambda one: (one.awaited, one.since))
        longest.pinned = False
        replica.kv.unpin(longest.path, now)
        return True

    def _choose(self, caller: int, blocks: int, replica: Replica) -> Kv:
        """Return the choice that is expected to waste the fewest block-seconds."""
        gaps = self._gaps.get(caller)
        if gaps is None or not gaps.count:
            return "cache"
        block = replica.limits.block
        others = replica.kv.used
        again = replica.step.iteration([(max(1, blocks * block), 0)], 0, 0.0, 0.0)
        waste: dict[Kv, float] = {
            "keep": gaps.seconds / gaps.count * blocks,
            "cache": again * (blocks + others),  # the others of the batch wait while it is computed again
        }
        if replica.kv.tiers:
            link = replica.links[0]
            copied = link.latency + blocks * block * self.kv_bytes / link.bandwidth
            waste["swap"] = 2.0 * copied * blocks
        return min(waste, key=lambda choice: waste[choice])
