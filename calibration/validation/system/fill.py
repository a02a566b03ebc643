"""A neighbour that is busy.

`1` on the standard input makes it busy, `0` makes it wait; each is answered when it is so. `{"core": N}` makes it busy on core N for half a
second, and is answered by the stretches (s) in which it did not have the core.

Checked: tests/test_validation_system.py.
"""

import json
import os
import select
import sys
import time

from ...speed import spin
from .lines import say

__all__ = ["main"]

_LOOK = 0.5  # s
_GAP = 3e-4  # s without the core that are no interrupt


def main() -> None:
    """Do as told until the standard input closes."""
    say("ready")
    while line := sys.stdin.readline():
        asked = json.loads(line)
        if asked in (0, 1):
            say(asked)
            while asked == 1 and not select.select([sys.stdin], [], [], 0)[0]:
                spin()
        else:
            say(_gaps(asked["core"]))


def _gaps(core: int) -> list[float]:
    """Return the stretches without the core, while busy on it."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    begun = last = time.perf_counter()
    found = []
    while last - begun < _LOOK:
        now = time.perf_counter()
        if now - last > _GAP:
            found.append(now - last)
        last = now
    os.sched_setaffinity(0, allowed)
    return found


if __name__ == "__main__":
    main()
