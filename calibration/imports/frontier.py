"""Tables of Frontier: kernels timed twice, launched one by one (CUDA events) and alone; the difference is the launch.

A folder with pairs such as `linear_op.csv.gz` and `linear_op_kernel_only.csv.gz`, in ms. Of an operation and a shape, the one
time minus the other is the overhead of launching it; the law is a constant with the distribution of these differences.

Leaves out: the kernels' own times; attention and experts, where an operation is several kernels; kernels so long that the
difference of two long times is noise.
Checked: tests/test_imports.py.
Source: https://github.com/NetX-lab/Frontier at a4b22df (MIT).
"""

from pathlib import Path

import numpy as np

from ...sim.engine.errors import listed
from .imported import Imported, Tally
from .tables import medians, numbers, refused, require, table

__all__ = ["fits", "read"]

_MS = 1e-3
_ONE_KERNEL = "linear_op"  # the table whose operations are one kernel each


def _pairs(folder: Path) -> list[tuple[Path, Path]]:
    alone = sorted(folder.glob("*_kernel_only.csv*"))
    pairs = [(path.with_name(path.name.replace("_kernel_only", "")), path) for path in alone]
    return [pair for pair in pairs if pair[0].exists()]


def fits(path: Path) -> bool:
    """Whether a folder holds a pair of such tables."""
    return path.is_dir() and bool(_pairs(path))


def read(path: str | Path, *, longest: float = 100e-6) -> Imported:
    """Return the law `launch`, from kernels of `longest` seconds at most. Raises ProfileError."""
    folder = Path(path)
    tally = Tally()
    pairs = _pairs(folder)
    for eager, _ in pairs:
        if not eager.name.startswith(_ONE_KERNEL):
            tally.note(f"{eager.name.partition('.')[0]}: an operation there is several kernels, so it is left out")
    chosen = [pair for pair in pairs if pair[0].name.startswith(_ONE_KERNEL)]
    if not chosen:
        raise refused(
            folder, f"must hold `{_ONE_KERNEL}.csv.gz` and `{_ONE_KERNEL}_kernel_only.csv.gz`, a pair of times"
        )
    found = np.concatenate([_differences(eager, alone, longest, tally) for eager, alone in chosen])
    if not len(found):
        raise refused(folder, f"has no kernel of {longest * 1e6:g} us at most that was timed both ways")
    tally.add("launch", {}, {}, found, repeats=True)
    low, high = np.percentile(found, [5, 95]) * 1e6
    tally.note(
        f"launch: {len(found)} differences of one call launched and alone, 90 % of them from {low:.3g} to {high:.3g} us"
    )
    source = {
        "title": f"Frontier, {'/'.join(folder.parts[-2:])}",
        "quality": "imported",
        "machine": folder.parent.name.upper(),
        "date": "not told",
        "version": "a4b22df",
        "licence": "MIT",
        "link": "https://github.com/NetX-lab/Frontier",
        "note": "host and driver are not told",
    }
    return tally.result(source, None)


def _differences(eager: Path, alone: Path, longest: float, tally: Tally) -> np.ndarray:
    """Return the differences in seconds, one for each operation and shape."""
    keys = ["num_tokens", "num_tensor_parallel_workers"]
    left, right = table(eager, keys), table(alone, keys)
    ops = medians(left)
    if not ops:
        raise refused(eager, f"must have columns such as `time_stats.emb.median`; it has {listed(left.columns)}", 1)
    require(alone, list(right.columns), ops)
    for path, frame in ((eager, left), (alone, right)):
        for name in ops:
            blank = frame[name].isna() | (frame[name].astype(str) == "")
            numbers(path, frame[~blank], name)
    both = left[[*keys, *ops]].merge(right[[*keys, *ops]], on=keys, suffixes=("", "_alone"))
    tally.skip("a shape that was timed one way only", len(ops) * (len(left) - len(both)))
    found = []
    for name in ops:
        launched = both[name].astype(float).to_numpy() * _MS
        kernel = both[f"{name}_alone"].astype(float).to_numpy() * _MS
        run = (launched > 0) & (kernel > 0)
        short = run & (kernel <= longest)
        positive = short & (launched > kernel)
        tally.skip("the operation does not run in this case", int((~run).sum()))
        tally.skip(f"a kernel longer than {longest * 1e6:g} us", int((run & ~short).sum()))
        tally.skip("launched was not longer than alone: noise above the overhead", int((short & ~positive).sum()))
        found.append((launched - kernel)[positive])
    return np.concatenate(found)
