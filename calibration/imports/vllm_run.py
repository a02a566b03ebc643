"""A model's iteration as a layer-wise profiler of vLLM saw it: a folder of tables, read as one measured iteration.

`FOLDER` is `<hardware>/<model>/<variant>` with `meta.yaml` and `tpN/*.csv`, or anything above it that holds one for the model
asked for. Times are microseconds of device kernels, of one call on one rank: dense parts by the tokens of an iteration,
parts per sequence by sequences, attention by (chunk, cached, decodes, length), a layer's experts by tokens and experts touched.
Every part is called once a layer but the norm (twice), and what stands before and after all layers (once).

Leaves out: attention of several kernels (sparse, linear), speculative decoding, drafters: they are refused, not guessed.
Checked: tests/test_measured_steps.py.
Source: the layout is that of github.com/casys-kaist/LLMServingSim (profiler; MIT).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...models.shapes import PRESETS, Shape
from ...sim.engine.errors import listed
from ...sim.profile.iteration import MeasuredIteration
from . import hf_config
from .imported import Imported
from .tables import numbers, refused, require, table, text_of, times

__all__ = ["Tables", "fits", "mapping", "read", "read_all", "tables_below"]

_US = 1e-6
_ONCE = frozenset({"embedding", "final_layernorm", "lm_head", "sampler"})
_TWICE = frozenset({"layernorm"})  # before attention and before the MLP
_KNOWN = _ONCE | _TWICE | {"qkv_proj", "qk_norm", "rotary_emb", "o_proj", "gate_up_proj", "act_fn", "down_proj"}
_NEEDED = ("qkv_proj", "o_proj")
_MLP = ("gate_up_proj", "down_proj")
_STRANGE = {
    "linear_attention.csv": "linear attention",
    "mtp.csv": "a drafter for speculative decoding",
}


@dataclass(frozen=True, slots=True)
class Tables:
    """What a folder holds for one degree of tensor parallelism; `notes` say what was decided, and what is not there."""

    iteration: dict[str, Any]  # of a MeasuredIteration, without `source`
    source: dict[str, Any]
    shape: Shape
    name: str
    notes: list[str] = field(default_factory=list)

    def measured(self, **further: Any) -> MeasuredIteration:
        """Return the iteration, checked, with further fields."""
        return MeasuredIteration.model_validate({**self.iteration, "source": self.name, **further})


def fits(path: Path) -> bool:
    """Whether `path` is a folder of one model's tables."""
    return path.is_dir() and (path / "meta.yaml").is_file() and any(path.glob("tp*/dense.csv*"))


def tables_below(root: Path, model: str = "", hardware: str = "", variant: str = "") -> Path:
    """Return the folder of tables that `root` is, or that holds `model` below it. Raises ProfileError.

    Of several, `hardware` and `variant` decide; models are compared by what stands after the last slash.
    """
    if fits(root):
        return root
    if not root.is_dir():
        raise refused(root, "there is no such folder; it is <hardware>/<model>/<variant> with meta.yaml and tpN/*.csv")
    found = sorted({one.parent.parent for one in root.glob("**/tp*/dense.csv*") if fits(one.parent.parent)})
    kept = found
    for wanted in (hardware, model, variant):
        name = wanted.rsplit("/", 1)[-1].lower()
        if name:
            kept = [one for one in kept if name in (part.lower() for part in one.parts)]
    if len(kept) == 1:
        return kept[0]
    told = listed({str(one.relative_to(root)): one for one in found}, most=12) or "none"
    what = f"one folder of {model or 'a model'}{' on ' + hardware if hardware else ''}"
    raise refused(
        root, f"must hold {what} (meta.yaml and tpN/dense.csv), or be one; it has {told}: name the folder itself"
    )


def read(folder: str | Path, *, tensor_parallel: int = 1, ranks: int = 1, engines: int = 1, shape: str = "") -> Tables:
    """Return what a folder holds for a degree of tensor parallelism, and for experts spread over `ranks` of `engines`.

    `shape` is a model that coordsim knows, or the `config.json` of another; left out, the folder's model tells. Raises
    ProfileError with file, line and remedy.
    """
    where = Path(folder)
    meta = mapping(where / "meta.yaml")
    inside = where / f"tp{tensor_parallel}"
    if not inside.is_dir():
        there = listed({one.name: one for one in sorted(where.glob("tp*"))})
        raise refused(
            where, f"has no tables of tensor parallelism {tensor_parallel}, in tp{tensor_parallel}; it has {there}"
        )
    for name, what in _STRANGE.items():
        if (inside / name).exists():
            raise refused(inside / name, f"holds {what}, which is not read: this model's iteration would lack a part")
    notes: list[str] = []
    model = str(meta.get("model", where.parent.name))
    facts, told = _shape(where, model, shape)
    notes.append(told)
    attention, kernels = _attention(inside)
    iteration: dict[str, Any] = {
        "model": model,
        "engine": f"vllm {meta.get('vllm_version', '')}".strip(),
        "tensor_parallel": tensor_parallel,
        "dtype": str(meta.get("variant", where.name)).split("-")[0],
        "layers": facts.layers,
        "dense": _parts(inside, "dense", "tokens", facts, notes),
        "per_sequence": _parts(inside, "per_sequence", "sequences", facts, notes),
        "attention": {"count": facts.layers, **attention},
    }
    experts = _experts(inside, facts, ranks, iteration["dense"], notes)
    if experts is not None:
        iteration["experts"] = {**experts, "engines": engines}
    skew = _skew(inside, kernels, notes)
    if skew is not None:
        iteration["skew"] = skew
    hardware = str(meta.get("hardware", "")) or where.parent.parent.name
    return Tables(iteration, _source(meta, hardware, model), facts, _name(hardware, model, tensor_parallel), notes)


def read_all(path: str | Path, *, shape: str = "") -> Imported:
    """Return what a folder holds as iterations of a profile: one for each degree of tensor parallelism. Raises ProfileError."""
    where = Path(path)
    degrees = sorted(int(one.name[2:]) for one in where.glob("tp*") if one.name[2:].isdigit())
    found = [read(where, tensor_parallel=degree, shape=shape) for degree in degrees]
    notes = [f"tp{degree}: {note}" for degree, one in zip(degrees, found, strict=True) for note in one.notes]
    if any(degree > 1 for degree in degrees):
        notes.append("tables are of one rank alone: communication between ranks is in none of them")
    return Imported([], found[0].source, notes=notes, iterations={one.name: one.iteration for one in found})


def mapping(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML or JSON file. Raises ProfileError."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError

    try:
        data = YAML(typ="safe", pure=True).load(text_of(path))
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise refused(path, f"must be YAML or JSON: {error.problem}", line) from None
    if not isinstance(data, dict):
        raise refused(path, "must hold a mapping of names to values")
    return data


def _source(meta: Mapping[str, Any], hardware: str, model: str) -> dict[str, Any]:
    engine = meta.get("engine_effective", {})
    eager = isinstance(engine, Mapping) and engine.get("enforce_eager")
    return {
        "title": f"layer-wise profile of {model} on {hardware}",
        "quality": "imported",
        "machine": f"{meta.get('gpu', hardware)}, CUDA {meta.get('cuda_version', 'not told')}",
        "date": str(meta.get("profiled_at", "not told"))[:10],
        "version": f"vLLM {meta.get('vllm_version', 'not told')}, profiler {meta.get('profiler_version', 'not told')}",
        "note": "device time of kernels, taken eager" if eager else "device time of kernels",
    }


def _name(hardware: str, model: str, tensor_parallel: int) -> str:
    text = f"{hardware}-{model.rsplit('/', 1)[-1]}-tp{tensor_parallel}".lower()
    return re.sub(r"[^a-z0-9_.-]+", "-", text)


def _shape(where: Path, model: str, given: str) -> tuple[Shape, str]:
    """Return the shape of the model and how it was found. Raises ProfileError."""
    if given in PRESETS:
        return PRESETS[given], f"shape: {given}, as asked for"
    if given:
        return hf_config.shape(Path(given)), f"shape: {given}"
    for name in ("config.json", "model_config.json"):
        if (where / name).is_file():
            return hf_config.shape(where / name), f"shape: {where / name}"
    last = model.rsplit("/", 1)[-1].lower()
    fitting = [name for name in PRESETS if last == name or last.startswith(f"{name}-")]
    if fitting:
        best = max(fitting, key=len)
        return PRESETS[best], f"shape: {best}, by the model's name {model}"
    remedy = "give --shape with a name of these, or with the model's own config.json (also read from this folder)"
    raise refused(where / "meta.yaml", f"the shape of {model} is not known ({listed(PRESETS, most=20)}): {remedy}")


def _file(inside: Path, name: str) -> Path | None:
    return next((path for path in (inside / f"{name}.csv", inside / f"{name}.csv.gz") if path.is_file()), None)


def _needed(inside: Path, name: str) -> Path:
    path = _file(inside, name)
    if path is None:
        there = listed({one.name: one for one in sorted(inside.glob("*.csv*"))}) or "no tables"
        raise refused(
            inside / f"{name}.csv", f"is missing, and no iteration can be timed without it; the folder has {there}"
        )
    return path


def _frame(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Return the rows of a table with seconds in `seconds`. Raises ProfileError; the unit stands in the column's name."""
    frame = table(path, columns)
    other = [str(name) for name in frame.columns if str(name).startswith("time_") and name != "time_us"]
    if "time_us" not in frame.columns and other:
        raise refused(
            path, f"must have times in microseconds, in a column `time_us`; got {listed(other)}: convert it", 1
        )
    require(path, list(frame.columns), [*columns, "time_us"])
    # Parsed as decimals, so that 2.67733 us are the seconds 2.67733e-06 and print as such.
    seconds = [float(f"{value:.9g}e-6") for value in times(path, frame, "time_us", 1.0)]
    return frame.assign(seconds=seconds)


def _parts(inside: Path, name: str, size: str, facts: Shape, notes: list[str]) -> dict[str, Any]:
    """Return the curves of a table of parts."""
    path = _needed(inside, name)
    frame = _frame(path, ["layer", size])
    numbers(path, frame, size, least=1)
    curves: dict[str, Any] = {}
    for part, rows in frame.groupby("layer", sort=False):
        means = rows.groupby(size)["seconds"].mean()
        if len(means) < 2:
            raise refused(path, f"must have two sizes or more of `{part}`; got {len(means)}", int(rows.index[0]), size)
        calls = 1 if part in _ONCE else facts.layers * (2 if part in _TWICE else 1)
        if part not in _KNOWN and name == "dense":
            notes.append(f"`{part}` of {name}.csv is not known: counted once in each of {facts.layers} layers")
        curves[str(part)] = _curve(means, calls)
    missing = [part for part in _NEEDED if part not in curves] if name == "dense" else []
    if missing:
        raise refused(path, f"must have rows of {listed(missing)}; it has {listed(curves)}")
    return curves


def _curve(means: "pd.Series[float]", calls: int) -> dict[str, Any]:
    return {
        "sizes": [float(size) for size in means.index],
        "seconds": [float(value) for value in means],
        "count": calls,
    }


def _attention(inside: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the tables of attention, and the kernels that the file names (none in older ones). Raises ProfileError."""
    path = _needed(inside, "attention")
    frame = _frame(path, ["prefill_chunk", "n_decode", "kv_decode"])
    kernels = sorted(map(str, frame["layer"].unique())) if "layer" in frame else []
    if len(kernels) > 1:
        raise refused(
            path, f"has {len(kernels)} kernels of attention ({listed(kernels)}); only plain attention is read", 1
        )
    if "decode_q_len" in frame:
        frame = frame[frame["decode_q_len"] == 1]
    if "kv_prefill" in frame:
        cached = frame["kv_prefill"]
    elif "prefill_key" in frame:  # how far a query looks back on average, half of its own chunk included
        cached = (frame["prefill_key"] - frame["prefill_chunk"] / 2).clip(lower=0.0)
    else:
        require(path, list(frame.columns), ["kv_prefill"])
    frame = frame.assign(
        chunk=frame["prefill_chunk"], cached=cached, decodes=frame["n_decode"], length=frame["kv_decode"]
    )
    alone, prefills = frame["chunk"] == 0, frame["decodes"] == 0
    tables = {"decode": _table(path, frame[alone & ~prefills], ("decodes", "length"), "only decode")}
    tables["prefill"] = _table(path, frame[~alone & prefills], ("chunk", "cached"), "only prefill")
    both = frame[~alone & ~prefills]
    if len(both):
        tables["mixed"] = _table(path, both, ("chunk", "cached", "decodes", "length"), "do both")
    return tables, kernels


def _table(path: Path, frame: pd.DataFrame, axes: Sequence[str], what: str) -> dict[str, Any]:
    """Return rows as a table over axes, with 0 where there is none."""
    sizes = {name: sorted(float(size) for size in frame[name].unique()) for name in axes}
    short = [name for name, found in sizes.items() if len(found) < 2]
    if short:
        raise refused(path, f"must have two sizes or more of {listed(short)} among the rows that {what}")
    cells = frame.groupby(list(axes))["seconds"].mean()
    values = np.zeros(tuple(len(found) for found in sizes.values()))
    codes = [np.searchsorted(sizes[name], cells.index.get_level_values(name)) for name in axes]
    values[tuple(codes)] = cells.to_numpy()
    return {"axes": sizes, "seconds": values.ravel().tolist()}


def _experts(
    inside: Path, facts: Shape, ranks: int, dense: Mapping[str, Any], notes: list[str]
) -> dict[str, Any] | None:
    """Return the table of experts on one of `ranks`; None for a model without."""
    path = _file(inside, "moe")
    if path is None:
        if facts.experts and not any(part in dense for part in _MLP):
            raise refused(
                inside / "moe.csv", f"is missing: the {facts.experts} experts of this model are in no other table"
            )
        return None
    if not facts.experts:
        raise refused(path, "holds experts, and the shape has none: give --shape with the model's own config.json")
    frame = _frame(path, ["tokens", "activated_experts"])
    if "ep" in frame:
        known = sorted(int(rank) for rank in frame["ep"].unique())
        if ranks not in known:
            raise refused(
                path,
                f"has no rows of experts over {ranks} ranks (`ep`); it has {listed(map(str, known))}: measure them",
            )
        frame = frame[frame["ep"] == ranks]
    elif ranks > 1:
        notes.append(
            f"moe.csv tells no `ep`: experts of {ranks} ranks are taken from those of one, touched experts and all"
        )
    frame = frame.assign(touched=frame["activated_experts"])
    notes.append("experts: tokens spread evenly over them, and over the ranks (assumed)")
    cells = _table(path, frame, ("tokens", "touched"), "time experts")
    return {
        "count": facts.layers, "table": cells, "experts": facts.experts, "top_k": facts.top_k, "ranks": ranks,
    }  # fmt: skip


def _skew(inside: Path, kernels: Sequence[str], notes: list[str]) -> dict[str, Any] | None:
    """Return the share by which the longest sequence sets the pace; None, with a note, where nothing tells it."""
    path = _file(inside, "skew")
    if path is not None:
        return _raw_skew(path, kernels, notes)
    path = _file(inside, "skew_fit")
    if path is not None:
        return _fitted_skew(path, kernels, notes)
    notes.append(f"{inside.name} has no skew.csv: what sequences of uneven lengths cost is not in these tables")
    return None


def _raw_skew(path: Path, kernels: Sequence[str], notes: list[str]) -> dict[str, Any]:
    """Return shares by least squares of relative errors, for each number of sequences, decoding alone and beside a prefill."""
    columns = ["n", "pc", "t_mean_us", "t_max_us", "t_skew_us"]
    frame = table(path, columns)
    if "layer" in frame and kernels:
        frame = frame[frame["layer"].isin(kernels)]
    mean, most, uneven = (times(path, frame, name, _US) for name in columns[2:])
    frame = frame.assign(weight=1.0 / uneven**2, apart=most - mean, more=uneven - mean)
    frame = frame[frame["apart"] > 0]
    alone = {int(float(str(n))): _least_squares(rows) for n, rows in frame[frame["pc"] == 0].groupby("n")}
    mixed = {int(float(str(n))): _least_squares(rows) for n, rows in frame[frame["pc"] > 0].groupby("n")}
    notes.append(f"skew: from {len(frame):,} uneven batches of {path.name}, a share for each number of sequences")
    return _shares(alone, mixed, path)


def _least_squares(rows: pd.DataFrame) -> float:
    return float((rows["weight"] * rows["more"] * rows["apart"]).sum() / (rows["weight"] * rows["apart"] ** 2).sum())


def _fitted_skew(path: Path, kernels: Sequence[str], notes: list[str]) -> dict[str, Any]:
    """Return shares averaged over the cells of a fit, by their samples."""
    frame = table(path, ["n_label", "alpha", "n_samples"])
    if "layer" in frame and kernels:
        frame = frame[frame["layer"].isin(kernels)]
    counts = frame["n_label"].astype(str).str.extract(r"^n(?:<=|=)(\d+)$")[0]
    frame = frame.assign(n=pd.to_numeric(counts)).dropna(subset=["n"])
    prefill = frame["pc"].astype(str) if "pc" in frame else frame.get("pc_label", pd.Series("", index=frame.index))
    is_alone = prefill.isin(["0", "pc0", "pc=0"])
    found = [
        {
            int(float(str(n))): float(np.average(rows["alpha"], weights=rows["n_samples"]))
            for n, rows in half.groupby("n")
        }
        for half in (frame[is_alone], frame[~is_alone])
    ]
    notes.append(f"skew: averaged over the {len(frame)} cells of {path.name}, as there is no skew.csv")
    return _shares(found[0], found[1], path)


def _shares(alone: Mapping[int, float], mixed: Mapping[int, float], path: Path) -> dict[str, Any]:
    """Return both curves on the sizes of either; where one lacks all sizes, the other's hold."""
    if not alone and not mixed:
        raise refused(
            path, "must have rows whose longest sequence takes longer than the mean one; remove the file otherwise"
        )
    sizes = sorted({*alone, *mixed})

    def over(shares: Mapping[int, float], other: Mapping[int, float]) -> list[float]:
        known = shares or other
        places = sorted(known)
        values = np.interp(np.log(sizes), np.log(places), [known[size] for size in places])
        return [float(value) for value in np.clip(values, 0.0, 1.0).round(6)]

    return {"decodes": [float(size) for size in sizes], "alone": over(alone, mixed), "mixed": over(mixed, alone)}
