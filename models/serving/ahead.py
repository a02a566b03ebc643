"""A replica whose scheduler works an iteration ahead of the device, so that the host's time hides behind it.

What an iteration holds is decided when the one before it begins. Who comes while an iteration is under way is therefore not
in the next one but in the one after: a first token comes one iteration later, at load, than with a scheduler that waits.

Leaves out: the place of a sequence that ends, which such an engine also gives away one iteration later.
Checked: tests/test_replay.py.
Source: asynchronous scheduling of vLLM (the default since 0.14).
"""

import math
from typing import Any

from .encoding import Job
from .replica import Replica
from .request import Request

__all__ = ["AheadReplica"]


class AheadReplica(Replica):
    """A Replica that takes in nobody who came while the iteration before was under way."""

    __slots__ = ("_held",)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._held: list[Request | Job] = []

    def submit(self, request: Request, now: float) -> None:
        """A request comes; it is seen at the next boundary, unless the replica is idle."""
        if self.next_time == math.inf:
            super().submit(request, now)
            return
        self._cut(now)
        self._held.append(request)

    def encode(self, job: Job, now: float) -> None:
        """A job comes; it is seen when a request would be."""
        if self.next_time == math.inf:
            super().encode(job, now)
            return
        self._cut(now)
        self._held.append(job)

    def cancel(self, request: Request, now: float) -> None:
        """Nobody waits for the request any more; one that is not seen yet never will be."""
        if request in self._held:
            self._held.remove(request)
            request.cancelled = True
        else:
            super().cancel(request, now)

    def drop(self, job: Job, now: float) -> None:
        """Nobody waits for a job any more; one that is not seen yet never will be."""
        if job in self._held:
            self._held.remove(job)
            job.cancelled = True
        else:
            super().drop(job, now)

    def forget(self, task: int, now: float) -> None:
        """A task is over: nothing will be held of its jobs, also of those that are not seen yet."""
        super().forget(task, now)
        for one in self._held:
            if isinstance(one, Job) and one.task == task:
                one.keeps = False

    def begin(self, now: float) -> None:
        """Start the next iteration; then see who came during the last, for the one after."""
        super().begin(now)
        held, self._held = self._held, []
        for one in held:
            # Just after `now`: at `now` itself it would be in the iteration that begins, unless that is over at once.
            seen = min(math.nextafter(now, math.inf), self.next_time) if self.next_time < math.inf else now
            if isinstance(one, Job):
                super().encode(one, seen)
            else:
                super().submit(one, seen)
