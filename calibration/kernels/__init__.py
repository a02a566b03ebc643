"""Probes of kernels, in torch: the same code on a GPU and on the CPU.

Leaves out: tf32, int8 and 4-bit types; what a serving engine adds per iteration (`engine.step`), which needs the engine.
Checked: tests/test_kernel_probes.py.
"""

from ...sim.engine.errors import Problem, ProfileError
from ..probe import Found

__all__ = ["probes"]


def probes(device: str) -> Found:
    """Return the probes of kernels that can be measured on `device`, `cpu` or `cuda`, and what cannot, with the reason.

    Raises ProfileError where the device is not there, or torch is not.
    """
    try:
        import torch  # noqa: F401  whether it is there
    except ImportError:
        remedy = "probes of kernels need torch; install the extra `coordsim[calibrate]`"
        raise ProfileError([Problem("device", remedy)], "the calibration") from None
    from . import attention, collectives, host, launches, memory, modality, products, rows
    from .common import place_of

    place = place_of(device)
    found = Found(())
    for part in (products, attention, rows, memory, launches, collectives, modality, host):
        found += part.found(place)
    return found
