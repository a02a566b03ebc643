"""From what was measured or imported to a profile: a law for each set of points, its source, and the machine.

Leaves out: measuring (`session`), reading (`imports`), fitting (`fits`).
Checked: tests/test_profile_commands.py.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..sim.profile.ops import OPS
from ..sim.profile.profile import FORMAT, Device, Profile
from .fits import UNLIMITED, Limits, fit
from .samples import Points

__all__ = ["device_limits", "profile_of"]

Told = Callable[[int, int, str], None]  # laws done, laws in all, the law that is next


def profile_of(
    head: Mapping[str, Any],
    sets: Sequence[tuple[str, Points]],
    *,
    keep_points: bool = True,
    seed: int = 0,
    progress: Told | None = None,
) -> Profile:
    """Fit a law to each of `sets`, pairs of the name of a source and points, and put them into a profile.

    `head` is the rest of the file: `name`, `what`, `device`, `environment` and `sources`. `keep_points` writes the points
    into the profile: right for one's own measurements, not for tables of others.
    Raises ProfileError for points that no law can be fitted to.
    """
    limits = device_limits(head.get("device") or {})
    laws: dict[str, Any] = {}
    for number, (source, points) in enumerate(sets):
        if progress is not None:
            progress(number, len(sets), points.law)
        law = fit(points, source=source, seed=seed, keep_points=keep_points, limits=limits)
        laws[points.law] = law.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    given = {key: value for key, value in head.items() if value}
    return Profile.model_validate({"coordsim_profile": FORMAT, **given, "laws": _in_order(laws)})


def device_limits(device: Mapping[str, Any]) -> Limits:
    """Return what a fit may know of a device from its data sheet."""
    facts = Device.model_validate(device) if device else None
    return UNLIMITED if facts is None else Limits(facts.multiprocessors, facts.memory_bandwidth)


def _in_order(laws: Mapping[str, Any]) -> dict[str, Any]:
    """Return the laws in the order of the list of operations, then by name."""
    order = {op: place for place, op in enumerate(OPS)}
    return dict(sorted(laws.items(), key=lambda item: (order[item[0].partition("[")[0]], item[0])))
