"""Reading what others measured, whatever it is: the reader follows from the content.

Leaves out: fits of what was read.
Checked: tests/test_imports.py.
"""

import csv
from collections.abc import Callable, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

from ...sim.engine.errors import Problem, ProfileError, did_you_mean, listed
from . import aiconfigurator, chrome_trace, frontier, nsys, vidur, vllm_run
from .imported import Imported
from .tables import refused, text_of

__all__ = ["KINDS", "read", "read_all"]

KINDS = {
    "aiconfigurator": "the folder of one GPU in aiconfigurator's data, or `aiconfigurator:h100_sxm` of the installed package",
    "vidur": "a CSV of Vidur (all_reduce, send_recv, mlp, CPU overheads), or a folder of them",
    "frontier": "a folder of Frontier with `linear_op` and `linear_op_kernel_only`",
    "chrome_trace": "a trace of the PyTorch profiler, .json or .json.gz",
    "nsys": "a CSV of `nsys stats`, cuda_gpu_kern_sum or cuda_gpu_trace",
    "vllm": "a layer-wise profile of vLLM: <hardware>/<model>/<variant> with `meta.yaml` and `tpN/*.csv`",
}
_READERS: dict[str, Callable[..., Imported]] = {
    "aiconfigurator": aiconfigurator.read,
    "vidur": vidur.read,
    "frontier": frontier.read,
    "chrome_trace": chrome_trace.read,
    "nsys": nsys.read,
    "vllm": vllm_run.read_all,
}


def read(path: str | Path, **choices: Any) -> Imported:
    """Return what `path` holds, by the reader that fits it; `choices` are that reader's own. Raises ProfileError."""
    kind = _kind(path)
    known = _choices(kind)
    unknown = [name for name in choices if name not in known]
    if unknown:
        problems = [
            Problem(name, f"{kind} has no such choice{did_you_mean(name, known) or f'; it has {listed(known)}'}")
            for name in unknown
        ]
        raise ProfileError(problems, str(path))
    return _READERS[kind](path, **choices)


def read_all(paths: Sequence[str | Path], **choices: Any) -> list[Imported]:
    """Return what each path holds; a choice goes to the readers that know it, and one at least must. Raises ProfileError."""
    known = [_choices(_kind(path)) for path in paths]
    nobodys = {name: value for name, value in choices.items() if not any(name in names for names in known)}
    if nobodys:
        read(paths[0], **nobodys)  # raises
    return [
        read(path, **{name: value for name, value in choices.items() if name in names})
        for path, names in zip(paths, known, strict=True)
    ]


def _choices(kind: str) -> list[str]:
    """Return the choices that a reader takes beside the path."""
    return list(signature(_READERS[kind]).parameters)[1:]


def _kind(path: str | Path) -> str:
    """Return the reader that fits. Raises ProfileError, which lists what is read."""
    if str(path).startswith(aiconfigurator.PREFIX):
        return "aiconfigurator"
    where = Path(path)
    if not where.exists():
        raise refused(where, "there is no such file or folder")
    folders = {"aiconfigurator": aiconfigurator.fits, "frontier": frontier.fits, "vllm": vllm_run.fits}
    for kind, fits in folders.items():
        if fits(where):
            return kind
    if where.is_file() and chrome_trace.fits(where):
        return "chrome_trace"
    file = next(iter(sorted(where.glob("*.csv"))), None) if where.is_dir() else where
    if file is not None and file.name.endswith((".csv", ".csv.gz")):
        for line in text_of(file).splitlines()[:40]:  # a report may begin with what its program printed
            header = [name.strip() for name in next(csv.reader([line]), [])]
            if vidur.fits(header):
                return "vidur"
            if nsys.fits(header) and where.is_file():
                return "nsys"
    what = "\n".join(f"    {kind}: {told}" for kind, told in KINDS.items())
    raise refused(where, f"must be one of the kinds of measurements that are read:\n{what}")
