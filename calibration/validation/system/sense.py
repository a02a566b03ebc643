"""The sensor of a core: a short piece of arithmetic twelve times a second, timed by the thread's CPU time.

Each line on its standard input is answered by the readings since the last: pairs of when (s, monotonic clock) and seconds of CPU time.

Leaves out: who else had the core: CPU time stands still then.
Checked: tests/test_validation_system.py.
"""

import os
import select
import sys
import time

from ...speed import spin
from .lines import say

__all__ = ["PERIOD", "main"]

PERIOD = 1 / 12
_SPINS = 3  # of which the fastest counts: the first finds cold caches, and more so on an idle core than on a busy one


def main(core: int) -> None:
    """Read until the standard input closes."""
    os.sched_setaffinity(0, {core})
    say("ready")
    readings: list[tuple[float, float]] = []
    following = time.perf_counter()
    while True:
        following += PERIOD
        while (left := following - time.perf_counter()) > 0:
            if select.select([sys.stdin], [], [], left)[0]:
                if not sys.stdin.readline():
                    return
                say(readings)
                readings = []
        readings.append((following, min(_spin() for _ in range(_SPINS))))


def _spin() -> float:
    """Return the CPU time (s) of one spin."""
    begun = time.thread_time_ns()
    spin()
    return (time.thread_time_ns() - begun) * 1e-9


if __name__ == "__main__":
    main(int(sys.argv[1]))
