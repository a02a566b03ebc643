"""What the probes of kernels share: the device, a pool of values that inputs are cut from, and how a probe is made.

Inputs are views of one pool of random values, filled once per type: getting a case ready costs microseconds, and the
inputs of successive turns lie apart, so that together they are larger than twice the last-level cache.

Leaves out: several sockets; several devices, but for collectives.
Checked: tests/test_kernel_probes.py.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, prod
from pathlib import Path
from typing import Any, Literal

import torch

from ...sim.engine.errors import Problem, ProfileError
from ...sim.profile.ops import OPS
from ..probe import Call, Case, Missing, Probe

__all__ = ["DTYPES", "Make", "Place", "Pool", "cases", "missing", "place_of", "pool", "probe"]

DTYPES: dict[str, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp8": torch.float8_e4m3fn,
}
MIB = 2**20
SEED_VALUES = 2**20  # random values, repeated over the pool: their addresses differ, which is what a cache goes by
MOST_SETS = 4096  # of inputs: more would cost more to make ready than they tell
SMALLEST_POOL, LARGEST_POOL = 128 * MIB, 512 * MIB  # on the CPU
LARGEST_DEVICE_POOL = 4096 * MIB

Numbers = Mapping[str, Any]
Make = Callable[[Numbers], Call]
"""Make a case ready: sizes (whole ones as int) to the call."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where kernels run. `cache_bytes` is the last-level cache; `capability` is CUDA's, (0, 0) on the CPU."""

    device: str
    cache_bytes: int
    pool_bytes: int
    capability: tuple[int, int] = (0, 0)
    count: int = 1

    @property
    def cuda(self) -> bool:
        """Whether it is a CUDA device."""
        return self.device == "cuda"

    def pick(self, cpu: Any, cuda: Any) -> Any:
        """Return what is for this kind of device."""
        return cuda if self.cuda else cpu


def place_of(device: str) -> Place:
    """Return what is known of `device`, `cpu` or `cuda`. Raises ProfileError where it is not there."""
    if device == "cpu":
        cache = _cpu_cache()
        return Place("cpu", cache, min(max(4 * cache, SMALLEST_POOL), LARGEST_POOL))
    if device != "cuda":
        raise ProfileError([Problem("device", f"must be `cpu` or `cuda`; got `{device}`")], "the calibration")
    if not torch.cuda.is_available():
        remedy = "torch finds no CUDA device; choose `cpu`, or install a torch built for CUDA"
        raise ProfileError([Problem("device", remedy)], "the calibration")
    properties = torch.cuda.get_device_properties(0)
    free, _total = torch.cuda.mem_get_info(0)
    cache = int(getattr(properties, "L2_cache_size", 64 * MIB))
    capability = (properties.major, properties.minor)
    return Place("cuda", cache, min(LARGEST_DEVICE_POOL, free // 8), capability, torch.cuda.device_count())


def _cpu_cache() -> int:
    """Return the bytes of the largest cache that the kernel of the operating system lists; 32 MiB where it lists none."""
    sizes = [path.read_text().strip() for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    return max((int(size[:-1]) * 1024 for size in sizes if size.endswith("K")), default=32 * MIB)


@dataclass(frozen=True, slots=True)
class Pool:
    """Random values of one type on one device, normal with mean 0 and standard deviation 1/16, shape (elements,)."""

    values: torch.Tensor
    cache_bytes: int

    def sets(self, *shapes: Sequence[int], warm: bool = False) -> list[tuple[torch.Tensor, ...]]:
        """Return sets of inputs of these shapes, as many as exceed twice the cache together; one if `warm`.

        Raises ValueError where one set does not fit into the pool.
        """
        sizes = [ceil(prod(shape) / 64) * 64 for shape in shapes]  # aligned to whole cache lines
        most = self.values.numel() // sum(sizes)
        if most < 1:
            raise ValueError(f"the inputs must fit into {self.values.numel()} elements; got {sum(sizes)}")
        wanted = ceil(2 * self.cache_bytes / (sum(sizes) * self.values.element_size())) + 1
        count = 1 if warm else min(wanted, most, MOST_SETS)
        ends = list(itertools.accumulate(count * size for size in sizes))
        regions = [self.values[start:end] for start, end in itertools.pairwise([0, *ends])]
        views = [
            region.view(count, -1)[:, : prod(shape)].view(count, *shape).unbind(0)
            for region, shape in zip(regions, shapes, strict=True)
        ]
        return list(zip(*views, strict=True))


@lru_cache(maxsize=8)
def pool(place: Place, dtype: str) -> Pool:
    """Return the pool of values of a type, filled at its first use."""
    kind = DTYPES[dtype]
    count = place.pool_bytes // kind.itemsize // SEED_VALUES * SEED_VALUES
    seed = torch.randn(SEED_VALUES, generator=torch.Generator().manual_seed(0)) / 16
    values = torch.empty(count, dtype=kind, device=place.device)
    values.view(-1, SEED_VALUES).copy_(seed.to(place.device).to(kind).expand(count // SEED_VALUES, -1))
    return Pool(values, place.cache_bytes)


def cases(place: Place, op: str, options: Mapping[str, str], sizes: Iterable[Mapping[str, float]]) -> tuple[Case, ...]:
    """Return the cases of these sizes, without those whose operands would not fit into the pool."""
    work = OPS[op].work
    wanted = [Case(op, options, dict(size)) for size in sizes]
    return tuple(case for case in wanted if work is None or work(case.sizes, options)[1] <= 0.9 * place.pool_bytes)


def grid(**axes: Sequence[float]) -> list[dict[str, float]]:
    """Return each combination of the values of the axes."""
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def probe(
    place: Place,
    op: str,
    options: Mapping[str, str],
    sizes: Iterable[Mapping[str, float]],
    make: Make,
    clock: Literal["device", "host"] = "device",
) -> Probe:
    """Return a probe whose cases `make` makes ready; its calls run without gradients."""

    @contextmanager
    def prepare(case: Case) -> Iterator[Call]:
        with torch.inference_mode():
            yield make({name: int(value) if value == int(value) else value for name, value in case.sizes.items()})

    return Probe(op, options, cases(place, op, options, sizes), prepare, clock)


def missing(op: str, options: Mapping[str, str], why: str) -> Missing:
    """Return the law that cannot be measured here."""
    return Missing(Case(op, options).law, why)


def types(place: Place) -> tuple[str, ...]:
    """Return the types that most kernels are measured in."""
    return ("fp32", "bf16", "fp16") if place.cuda else ("fp32", "bf16")
