"""The laws that the timing of a model needs from a profile: picked by their options, and derived where it has none.

A kernel that streams rows (norm, activation, residual, rotary, embedding, sampling, append to the cache) and has no law gets
the time to move its bytes: at the pace of the profile's law of copies within the device or, without one, at 90 % of the
nominal memory bandwidth, and then with the time of the profile's shortest product for a kernel itself. Each such derivation is told in `missing`.

Leaves out: products and attention, which are never derived from bytes alone.
Checked: tests/test_transformer.py.
Source of the 90 %: copies on one H100 and one H200 (driver 580) reach 3.0 of nominal 3.35 TB/s and 4.3 of 4.8 TB/s.
"""

from collections.abc import Mapping

from ..sim.engine import units
from ..sim.engine.errors import Problem, ProfileError
from ..sim.profile.law import Law, Timing
from ..sim.profile.ops import OPS, law_name, split_name
from ..sim.profile.profile import Profile

__all__ = ["KernelLaws"]

COPY_EFFICIENCY = 0.9
_COPIED = (2.0**20, 2.0**28)  # bytes of the two copies that give overhead and pace, unless the law's range is narrower


class KernelLaws:
    """Laws of one profile, ready to be asked. `missing` has a sentence for each that was derived or does without."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.missing: list[str] = []
        self.timings: dict[str, Timing] = {}
        self._pace: tuple[float, float, str] | None = None

    def need(self, op: str, *candidates: Mapping[str, str]) -> Timing:
        """Return the first law there is with one of the candidates' options. Raises ProfileError, naming what there is."""
        found = self.first(op, *candidates)
        return found if found is not None else self.profile.timing(op, **candidates[0])

    def first(self, op: str, *candidates: Mapping[str, str]) -> Timing | None:
        """Return the first law there is with one of the candidates' options; None where there is none."""
        for options in candidates:
            name = law_name(op, options)
            if name in self.timings:
                return self.timings[name]
            if self.profile.has(op, **options):
                self.timings[name] = self.profile.timing(op, **options)
                return self.timings[name]
        return None

    def streamed(self, op: str, *candidates: Mapping[str, str]) -> Timing:
        """Return the first law there is, or one derived from the bytes that the operation moves. Raises ProfileError."""
        found = self.first(op, *candidates)
        if found is not None:
            return found
        overhead, per_byte, how = self._per_byte(op)
        name = law_name(op, candidates[0])
        self.missing.append(f"{name} is not in the profile: derived as the time to move its bytes, {how}")
        terms = {"bytes_moved": units.exact(per_byte, units.DURATION)}
        form = {"sum": {"overhead": units.exact(overhead, units.DURATION), "terms": terms}}
        law = Law.model_validate({"form": form, "source": "derived"})
        self.timings[name] = Timing(name, law, OPS[op], dict(candidates[0]))
        return self.timings[name]

    def only(self, op: str) -> Timing | None:
        """Return the profile's law of an operation if it has exactly one."""
        names = list(self.profile.of(op))
        return self.first(op, split_name(names[0])[1]) if len(names) == 1 else None

    def _per_byte(self, op: str) -> tuple[float, float, str]:
        """Return overhead, seconds for each byte read or written, and where they are from."""
        if self._pace is None:
            self._pace = self._copies() or self._nominal(op)
        return self._pace

    def _copies(self) -> tuple[float, float, str] | None:
        if not self.profile.has("copy.device"):
            return None
        copy = self.profile.timing("copy.device")
        least, most = copy.law.over.get("bytes", _COPIED)
        small, large = max(least, _COPIED[0]), min(most, _COPIED[1])
        if small >= large:
            small, large = least, most
        first, last = copy.seconds({"bytes": small}), copy.seconds({"bytes": large})
        per_byte = (last - first) / (large - small) if large > small else last / large
        # A copied byte is read and written: two bytes moved.
        return max(0.0, first - small * per_byte), per_byte / 2.0, "from copy.device"

    def _nominal(self, op: str) -> tuple[float, float, str]:
        device = self.profile.device
        if device is None or device.memory_bandwidth is None:
            rule = f"has no law of `{op}`, and none can be derived: it needs a law `copy.device` or `device.memory_bandwidth`"
            raise ProfileError([Problem("", rule)], f"profile {self.profile.name}")
        pace = units.format(device.memory_bandwidth, units.BANDWIDTH)
        fixed = self._shortest_product()
        overhead = f"{units.format(fixed, units.DURATION)}, as the shortest product," if fixed else "no time"
        how = f"at {COPY_EFFICIENCY:.0%} of the nominal {pace}, with {overhead} for a kernel itself"
        return fixed, 1.0 / (COPY_EFFICIENCY * device.memory_bandwidth), how

    def _shortest_product(self) -> float:
        """Return the seconds of the smallest product that a law was fitted to: what any kernel takes; 0 where none tells."""
        for name, law in self.profile.of("gemm").items():
            if {"m", "n", "k"} <= set(law.over):
                return self.profile.timing("gemm", **split_name(name)[1]).seconds({s: law.over[s][0] for s in "mnk"})
        return 0.0
