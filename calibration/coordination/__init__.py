"""Probes of coordination: codecs, crossings of boundaries, processes, storage, timers. They need no GPU.

Leaves out: what needs a device (`hand_off`), a second machine, or a system that is not POSIX.
Checked: tests/test_coordination_probes.py.
"""

from ..probe import Found

__all__ = ["probes"]


def probes() -> Found:
    """Return what can be measured here of coordination, and what cannot with the reason.

    Takes a second or two: torch is imported, and objects are encoded to know their sizes.
    """
    from . import codec, crossings, processes, storage, timers

    parts = (codec.probes(), crossings.probes(), processes.probes(), storage.probes(), timers.probes())
    return sum(parts, Found(()))
