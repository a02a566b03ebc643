"""Kernel tables of aiconfigurator: one GPU's products, attention, experts and collectives, per engine and version.

`folder` is the data of one GPU, such as `h100_sxm`, with `h100_sxm.yaml` (nominal facts) beside it or two folders up, or the
text `aiconfigurator:h100_sxm`, which means the installed package. Latencies are in ms, by replay of CUDA graphs: no launch
and no CPU time is in them. Weights of products are not in cache; the KV cache of a decode below about 30 MB is.

Leaves out: sliding windows, latent attention, convolutions, expert parallelism, what several engines give beside the one chosen.
Checked: tests/test_imports.py.
Source: aiconfigurator-core 0.12.0 (Apache-2.0), https://github.com/ai-dynamo/aiconfigurator
"""

import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...sim.engine import units
from ...sim.engine.errors import Problem, ProfileError, did_you_mean, listed
from . import physics
from .aiconfigurator_tables import READERS, Place
from .imported import Imported, Tally
from .tables import refused, table

__all__ = ["PREFIX", "fits", "folder_of", "read"]

PREFIX = "aiconfigurator:"
PACKAGE = "aiconfigurator_core"
INSTALL = "pip install aiconfigurator-core==0.12.0"
_ENGINES = ("vllm", "sglang", "trtllm")  # in the order in which one stands in for another
_ARITHMETIC = {"bfloat16": "bf16", "fp8": "fp8", "int8": "int8", "fp4": "fp4"}


# CUDA cores over 128 (A100: over 64), of NVIDIA's data sheets and architecture papers of each.
_MULTIPROCESSORS = {"a100_sxm": 108, "h100_sxm": 132, "h200_sxm": 132, "b200_sxm": 148, "l40s": 142}


def fits(path: Path) -> bool:
    """Whether a folder holds such tables."""
    return path.is_dir() and any(path.glob("*/*/*/*_perf.parquet"))


def folder_of(text: str) -> Path:
    """Return the folder that `text` means: a path, or `aiconfigurator:<gpu>` of the package. Raises ProfileError."""
    if not text.startswith(PREFIX):
        return Path(text)
    found = find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ProfileError(
            [Problem("", f"the package of these tables is not installed; `{INSTALL}` installs it")], text
        )
    data = Path(next(iter(found.submodule_search_locations))) / "systems" / "data"
    gpu = text.removeprefix(PREFIX)
    known = sorted(path.name for path in data.iterdir() if path.is_dir()) if data.is_dir() else []
    if gpu not in known:
        remedy = did_you_mean(gpu, known) or f"; it has {listed(known) or 'none'}"
        raise ProfileError([Problem("", f"the package has no GPU `{gpu}`{remedy}")], text)
    return data / gpu


def read(
    where: str | Path,
    *,
    engine: str = "vllm",
    engines: Mapping[str, str] | None = None,
    version: str | None = None,
    nccl: str | None = None,
    date: str = "",
) -> Imported:
    """Return the points of one GPU.

    `engine` picks whose kernels, `engines` another for one table (`{"gemm": "sglang"}`); where an engine lacks a table, the
    next one that has it stands in, and a note says so. `version` is of `engine`; left out it is the one that
    `query_versions.yaml` calls current, else the newest before it. `nccl` is the version of NCCL, by default the newest.
    Raises ProfileError.
    """
    folder = folder_of(str(where))
    if not fits(folder):
        raise refused(folder, "must be the folder of one GPU, with tables such as gemm/vllm/0.24.0/gemm_perf.parquet")
    _known_engine(folder, engine, engines or {})
    facts = _facts(folder)
    device = _device(folder, facts)
    current = _current(folder)
    tally = Tally()
    used: list[str] = []
    machine = ""
    via = _via(folder, facts)
    for name, reader in READERS.items():
        choice = "nccl" if name == "nccl" else (engines or {}).get(name, engine)
        wanted = nccl if name == "nccl" else version if choice == engine else None
        path = _table(folder, name, reader.family, choice, wanted, current, tally)
        if path is None:
            continue
        frame = table(path, reader.columns)
        machine = machine or (str(frame["device"].iloc[0]) if "device" in frame else "")
        used.append(f"{name} {path.parent.parent.name} {path.parent.name}")
        reader.read(Place(path, via), frame, tally)
    if not used:
        raise refused(folder, f"has none of the tables that are read: {listed(READERS)}")
    if device is None:
        tally.note(f"there is no {folder.name}.yaml with nominal facts: units are not checked against them")
    points = physics.checked(tally.points, device, str(folder))
    tally.points = points
    tally.note("latencies are by replay of CUDA graphs: launches and CPU time come on top")
    return tally.result(_source(folder, machine, used, date), device)


def _known_engine(folder: Path, engine: str, engines: Mapping[str, str]) -> None:
    known = sorted({path.parent.parent.name for path in folder.glob("*/*/*/*_perf.parquet")} - {"nccl"})
    problems = [
        Problem(
            "engine", f"there are no tables of `{one}`{did_you_mean(one, known) or f'; there are of {listed(known)}'}"
        )
        for one in dict.fromkeys([engine, *engines.values()])
        if one not in known
    ]
    problems += [
        Problem(
            "engines", f"there is no table `{name}`{did_you_mean(name, READERS) or f'; there are {listed(READERS)}'}"
        )
        for name in engines
        if name not in READERS
    ]
    if problems:
        raise ProfileError(problems, str(folder))


def _order(version: str) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    """Return what versions sort by: 1.3.0rc20 is below 1.3.0, and that below 1.3.0.post2."""
    main, rest = re.match(r"([\d.]*\d)?(.*)", version).groups()  # type: ignore[union-attr]
    rank = -1 if rest.startswith(("rc", "a", "b")) else 0 if not rest else 1
    return tuple(int(part) for part in (main or "0").split(".")), rank, tuple(int(n) for n in re.findall(r"\d+", rest))


def _versions(folder: Path, family: str, engine: str, name: str) -> dict[str, Path]:
    """Return the tables of this name, oldest version first."""
    found = {path.parent.name: path for path in folder.glob(f"{family}/{engine}/*/{name}_perf.parquet")}
    return {version: found[version] for version in sorted(found, key=_order)}


def _table(
    folder: Path, name: str, family: str, engine: str, version: str | None, current: Mapping[str, str], tally: Tally
) -> Path | None:
    """Return the table to read, or None where no engine has one, with a note of what stands in for what."""
    found = _versions(folder, family, engine, name)
    if found and version is not None:
        if version not in found:
            remedy = did_you_mean(version, found) or f"; there are {listed(found)}"
            raise ProfileError([Problem("version", f"{engine} {version} has no table `{name}`{remedy}")], str(folder))
        return found[version]
    if not found and engine != "nccl":
        others = [one for one in _ENGINES if one != engine and _versions(folder, family, one, name)]
        if others:
            tally.note(f"{name}: {engine} has no table; that of {others[0]} stands in")
            return _table(folder, name, family, others[0], None, current, tally)
    if not found:
        tally.note(f"{name}: there is no table")
        return None
    limit = current.get(engine)
    below = [one for one in found if limit is None or _order(one) <= _order(limit)]
    chosen = (below or list(found))[-1]
    if limit is not None and chosen != limit:
        tally.note(f"{name}: {engine} {limit} has no table; that of {chosen} is taken")
    return found[chosen]


def _yaml(path: Path) -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        data = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise refused(path, f"must be a YAML file: {str(error).splitlines()[0]}") from None
    if not isinstance(data, dict):
        raise refused(path, "must be a mapping")
    return data


def _beside(folder: Path, name: str) -> Path | None:
    """Return a file beside the folder or beside the folder that holds it; the package and a copy of it differ in this."""
    near = (folder.resolve().parent / name, folder.resolve().parent.parent / name)
    return next((path for path in near if path.is_file()), None)


def _current(folder: Path) -> dict[str, str]:
    """Return the current version of each engine, as far as a file says."""
    path = _beside(folder, "query_versions.yaml")
    if path is None:
        return {}
    data = _yaml(path)
    slots = {**(data.get("defaults") or {}), **((data.get("overrides") or {}).get(folder.name) or {})}
    return {
        engine: str(slot["current"]) for engine, slot in slots.items() if isinstance(slot, dict) and slot.get("current")
    }


def _facts(folder: Path) -> dict[str, Any] | None:
    path = _beside(folder, f"{folder.name}.yaml")
    return _yaml(path) if path else None


def _via(folder: Path, facts: Mapping[str, Any] | None) -> str:
    """Return what joins the devices of a node: PCIe where the link between them is no faster than that to the host."""
    node = (facts or {}).get("node") or {}
    if "intra_node_bw" in node and "pcie_bw" in node:
        return "nvlink" if node["intra_node_bw"] > node["pcie_bw"] else "pcie"
    return "nvlink" if re.search(r"sxm|gb\d", folder.name) else "pcie"


def _device(folder: Path, facts: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the nominal facts, as a profile's device; None where there is no file of them."""
    if facts is None:
        return None
    gpu, node = facts.get("gpu") or {}, facts.get("node") or {}
    given = (
        ("memory", gpu.get("mem_capacity"), units.SIZE),
        ("memory_bandwidth", gpu.get("mem_bw"), units.BANDWIDTH),
        ("link", node.get("intra_node_bw"), units.BANDWIDTH),
        ("host_link", node.get("pcie_bw"), units.BANDWIDTH),
        ("network", node.get("inter_node_bw"), units.BANDWIDTH),
    )
    device: dict[str, Any] = {"name": folder.name}
    device |= {name: units.exact(float(value), kind) for name, value, kind in given if value}
    device["arithmetic"] = {
        ours: units.exact(float(gpu[f"{theirs}_tc_flops"]), units.FLOP_RATE)
        for theirs, ours in _ARITHMETIC.items()
        if gpu.get(f"{theirs}_tc_flops")
    }
    if node.get("num_gpus_per_node"):
        device["per_node"] = int(node["num_gpus_per_node"])
    source = f"nominal, from {folder.name}.yaml of aiconfigurator-core"
    if folder.name in _MULTIPROCESSORS:
        device["multiprocessors"] = _MULTIPROCESSORS[folder.name]
        source += "; multiprocessors from NVIDIA's data sheets"
    return {**device, "source": source}


def _source(folder: Path, machine: str, used: list[str], date: str) -> dict[str, Any]:
    try:
        release = installed_version("aiconfigurator-core") if PACKAGE in folder.parts else ""
    except PackageNotFoundError:
        release = ""
    return {
        "title": f"aiconfigurator-core {release}".strip() + f", {folder.name}",
        "quality": "imported",
        "machine": machine or folder.name,
        "date": date or "2026",  # of release 0.12.0
        "version": "; ".join(used),
        "licence": "Apache-2.0",
        "link": "https://github.com/ai-dynamo/aiconfigurator",
        "note": "by replay of CUDA graphs, without launches and CPU time",
    }
