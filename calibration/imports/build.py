"""From what readers found to a profile.

Leaves out: reading (`detect`), fitting (`fits`).
Checked: tests/test_profile_commands.py.
"""

from collections.abc import Sequence

from ...sim.engine.errors import Problem, ProfileError, listed
from ...sim.profile.profile import Profile
from ..build import Told, profile_of
from ..probe import matches
from ..samples import Points
from .imported import Imported

__all__ = ["chosen", "imported"]


def chosen(points: Sequence[Points], only: Sequence[str]) -> list[Points]:
    """Return the points of the laws that match one of the patterns, all without any. Raises ProfileError if none does."""
    kept = [one for one in points if not only or matches(one.law, only)]
    if not kept:
        told = listed({one.law: one for one in points}, most=20)
        rule = f"no law is called so; there are {told}" if only else "there are no points to fit a law to"
        raise ProfileError([Problem("", rule)], f"--only {' '.join(only)}" if only else "the measurements")
    return kept


def imported(
    found: Sequence[Imported], name: str, what: str = "", only: Sequence[str] = (), told: Told | None = None
) -> Profile:
    """Fit what was read and return the profile; where two sources have a law, the earlier one's is fitted.

    The points stay where they came from: the profile holds what was computed from them. The device is that of the first
    source that tells one.
    """
    sets: dict[str, tuple[str, Points]] = {}
    for number, one in enumerate(found, 1):
        for points in one.points:
            sets.setdefault(points.law, (f"source-{number}", points))
    iterations = {
        name: {**data, "source": f"source-{number}"}
        for number, one in enumerate(found, 1)
        for name, data in one.iterations.items()
    }
    needs_laws = bool(sets) or bool(only) or not iterations
    kept = {points.law for points in chosen([points for _, points in sets.values()], only)} if needs_laws else set()
    head = {
        "name": name,
        "what": what or f"fitted to {'; '.join(one.source['title'] for one in found)}",
        "device": next((one.device for one in found if one.device), None),
        "sources": {f"source-{number}": one.source for number, one in enumerate(found, 1)},
        "iterations": iterations,
    }
    return profile_of(head, [item for law, item in sets.items() if law in kept], keep_points=False, progress=told)
