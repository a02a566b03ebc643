"""A neighbour that is busy: `1` on the standard input makes it busy, `0` makes it wait; each is answered when it is so.

Checked: tests/test_validation_system.py.
"""

import select
import sys

from ...speed import spin


def main() -> None:
    """Do as told until the standard input closes."""
    print("ready", flush=True)
    while line := sys.stdin.readline():
        print(line.strip(), flush=True)
        while line.strip() == "1":
            spin()
            if select.select([sys.stdin], [], [], 0)[0]:
                break


if __name__ == "__main__":
    main()
