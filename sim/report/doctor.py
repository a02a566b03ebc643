"""What this installation is: versions, cores, extras, and whether the scenarios and profiles that ship are found.

Leaves out: repairing anything.
Checked: tests/test_cli.py.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

from ..profile import profile
from . import shipped

REQUIRED = (
    "jinja2", "joblib", "networkx", "numpy", "pandas", "plotly", "pyarrow", "pydantic", "rich", "ruamel.yaml", "scipy",
    "simpy", "typer",
)  # fmt: skip
EXTRAS = {
    "calibrate": ("aiohttp", "msgpack", "orjson", "protobuf", "torch"), "import": ("aiconfigurator-core",), "dask": ("dask", "distributed"), "ray": ("ray",), "sensitivity": ("salib",), "notebook": ("anywidget", "ipywidgets", "jupyterlab"), "trace": ("opentelemetry-proto", "perfetto"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination: `good` is None where nothing needs to be so."""

    name: str
    found: str
    good: bool | None = None


def examine(version: str) -> Iterator[Finding]:
    """Yield what is found; `version` is coordsim's own."""
    yield Finding("coordsim", version, True)
    yield Finding(
        "python", f"{platform.python_version()} ({platform.python_implementation()}, {platform.system()})", True
    )
    yield Finding("cores", str(cores()), True)
    for name in REQUIRED:
        found = _version(name)
        yield Finding(name, found or "missing; try `pip install --upgrade coordsim`", found is not None)
    for extra, packages in EXTRAS.items():
        missing = [name for name in packages if _version(name) is None]
        has = ", ".join(f"{name} {_version(name)}" for name in packages)
        yield Finding(f"[{extra}]", f"not installed; try `pip install 'coordsim[{extra}]'`" if missing else has)
    count = len(shipped.names())
    yield Finding(
        "scenarios", f"{count} ship" if count else f"none found in {shipped.folder()}; install again", count > 0
    )
    known = profile.names()
    where = f"none found in {profile.folder()}; install again"
    yield Finding("profiles", f"{len(known)} ship" if known else where, len(known) > 0)


def cores() -> int:
    """Return how many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # no such call on macOS and Windows
        return os.cpu_count() or 1


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
