"""The watchdog: who waits for whom, when the clock has stopped and tasks have not ended.

Leaves out: a run that never stops, which no event queue that runs empty tells of.
Checked: tests/test_watchdog.py.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from .branch import Branch
from .errors import CoordsimError
from .ledger import Task
from .relay import under_way

__all__ = ["StuckError", "stuck"]

MOST = 8  # tasks told of


class StuckError(CoordsimError):
    """Tasks wait for what will never come: an answer that is lost, or servers that they hold among themselves."""


def stuck(tasks: Iterable[Task]) -> StuckError:
    """Return the error that tells what each of the tasks waits for, and who has it; circles of them first."""
    waiting = {task.index: [*_waits(task.trunk)] for task in tasks}
    holders: dict[int, list[int]] = {}
    for task in tasks:
        for branch in under_way(task.trunk):
            for pool in branch.held or ():
                holders.setdefault(id(pool), []).append(task.index)
    after = {
        index: {other for _, holder in found for other in holders.get(id(holder), ())}
        for index, found in waiting.items()
    }
    circle = _circle(after)
    order = [*circle, *(index for index in waiting if index not in circle)]
    lines = [line for index in order[:MOST] for line in _lines(index, waiting[index], holders)]
    if len(order) > MOST:
        lines.append(f"and {len(order) - MOST} tasks more")
    head = f"{len(order)} task{'s' if len(order) != 1 else ''} wait for ever"
    if circle:
        head += f"; in a circle: {' -> '.join(f'task {index}' for index in (*circle, circle[0]))}"
    return StuckError("\n  ".join((f"{head}:", *lines)))


def _waits(branch: Branch) -> Iterator[tuple[Branch, Any]]:
    """Yield the branches that wait for something, and what."""
    found = list(under_way(branch))
    for one in found:
        if one.wait.holder is not None or (one.join is None and len(found) == 1):
            yield one, one.wait.holder


def _lines(index: int, found: list[tuple[Branch, Any]], holders: dict[int, list[int]]) -> Iterator[str]:
    for branch, holder in found:
        name = "nothing that is known" if holder is None else getattr(holder, "name", type(holder).__name__)
        has = holders.get(id(holder), [])
        by = f", held by task{'s' if len(has) != 1 else ''} {', '.join(map(str, has[:MOST]))}" if has else ""
        where = f" in a branch (lane {branch.lane})" if branch.lane else ""
        yield f"task {index}{where} waits for {name} since {branch.wait.arrived:.6g} s{by}"


def _circle(after: dict[int, set[int]]) -> list[int]:
    """Return the tasks of a circle in which each waits for the next; empty where there is none."""
    for start in after:
        path, seen = [start], {start}
        while True:
            following = next((one for one in sorted(after.get(path[-1], ())) if one == start or one not in seen), None)
            if following is None:
                break
            if following == start:
                return path
            path.append(following)
            seen.add(following)
    return []
