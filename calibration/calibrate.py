"""`coordsim calibrate`: measure what can be measured here, fit a law to each, and make a profile of them.

Leaves out: the command line (`commands`).
Checked: tests/test_profile_commands.py.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from ..sim.engine import units
from ..sim.engine.errors import Problem, ProfileError, did_you_mean
from ..sim.profile.profile import Profile
from .build import Told, profile_of
from .environment import machine_of
from .probe import Found, Missing, matches
from .session import Progress, Session, points
from .session import calibrate as measure

__all__ = ["choose_device", "find", "measured"]

_NO_TORCH = "needs torch; try `pip install 'coordsim[calibrate]'`"


def choose_device(asked: str, threads: int | None = None) -> Literal["cuda", "cpu"]:
    """Return `cuda` or `cpu` for `auto`, `cuda` or `cpu`; `threads` is how many of the CPU torch uses. Raises ProfileError."""
    if find_spec("torch") is None:
        if asked == "cuda":
            raise ProfileError([Problem("", f"a GPU {_NO_TORCH}")], "--device cuda")
        return "cpu"
    import torch

    if asked == "cuda" and not torch.cuda.is_available():
        raise ProfileError(
            [Problem("", "torch sees no CUDA device here; try `--device cpu`, or look at `nvidia-smi`")],
            "--device cuda",
        )
    if threads is not None:
        torch.set_num_threads(threads)
    return "cuda" if asked != "cpu" and torch.cuda.is_available() else "cpu"


def find(device: str, only: Sequence[str] = ()) -> Found:
    """Return what can be measured on a device (`cuda`, `cpu`); `only` are patterns such as `gemm*` or `cross[*]`.

    Without torch there are no kernels, and they are among what is missing.
    """
    from . import coordination, kernels

    found = coordination.probes()
    found += kernels.probes(device) if find_spec("torch") else Found((), (Missing("every kernel", _NO_TORCH),))
    if not only:
        return found
    probes = tuple(probe for probe in found.probes if matches(probe.law, only))
    gone = tuple(one for one in found.missing if matches(one.law, only))
    laws = [probe.law for probe in found.probes] + [one.law for one in found.missing]
    unknown = [one for one in only if not any(matches(law, [one]) for law in laws)]
    if unknown:
        known = sorted({probe.op for probe in found.probes})
        others = f"; there are {', '.join(known)}"
        raise ProfileError(
            [Problem("", f"no probe is called `{one}`{did_you_mean(one, known) or others}") for one in unknown],
            "--only",
        )
    if not probes and gone:
        raise ProfileError(
            [Problem(one.law, f"cannot be measured here: {one.why}") for one in gone], "the choice of laws"
        )
    return Found(probes, gone)


def measured(
    found: Found,
    device: Literal["cuda", "cpu"],
    name: str,
    *,
    budget_seconds: float,
    seed: int = 0,
    record: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    told: Told | None = None,
) -> tuple[Profile, Session]:
    """Measure what was found and return the profile, and the session that it rests on."""
    session = measure(found, device=device, budget_seconds=budget_seconds, seed=seed, record=record, progress=progress)
    sets = [("probes", one) for one in points(session.samples)]
    head = {
        "name": name,
        "what": f"measured by coordsim calibrate on {machine_of(session.environment)}",
        "device": _facts(device),
        "environment": session.environment,
        "sources": {"probes": {**_source(session.environment), "note": " ".join(session.doubts)}},
    }
    return profile_of(head, sets, seed=seed, progress=told), session


def _facts(device: str) -> dict[str, Any] | None:
    """Return what a GPU says of itself, for limits on memory and waves of tiles; nothing of a CPU."""
    if device != "cuda":
        return None
    import torch

    found = torch.cuda.get_device_properties(0)
    facts = {"name": found.name, "memory": units.exact(float(found.total_memory), units.SIZE)}
    return {**facts, "multiprocessors": found.multi_processor_count, "source": "as the driver tells it"}


def _source(environment: Mapping[str, str]) -> dict[str, Any]:
    from .. import __version__

    return {
        "title": "coordsim's probes",
        "quality": "measured",
        "machine": machine_of(environment),
        "date": datetime.now(UTC).date().isoformat(),
        "version": f"coordsim {__version__}",
    }
