"""What the engine of a real run was, as far as it matters: limits, memory, scheduling, links; each value with its origin.

A value is taken from what was asked for, else from the run's files, else from an engine's defaults, else it is assumed. With
nothing asked for, nothing is tuned: an engine that schedules ahead hides its host, and an iteration takes its kernels' time.

Leaves out: what the values do; replica and step time know.
Checked: tests/test_replay.py.
Source: defaults of vLLM; a host of 0.1 ms an iteration and 20 us a sequence is the order of a 2026 stack that schedules in
between (not measured for this).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..models.serving.replica import Limits
from ..models.shapes import Shape, element_bytes
from ..sim.engine import units
from ..sim.engine.errors import ProfileError
from ..sim.engine.source import Document
from ..sim.engine.spec import Bandwidth, Duration, PositiveCount, PositiveSize, Share, Size, Spec, validate
from .imports.tables import refused
from .imports.vllm_run import Tables
from .real_run import Run

__all__ = ["Engine", "Setting", "Settings", "engine_of"]

_AHEAD_SINCE = (0, 14)  # the version of vLLM that schedules ahead by default
_HOST_STEP, _HOST_TOKEN = 0.1e-3, 20e-6
_TOKENS, _SEQUENCES, _UTILIZATION = 8192, 256, 0.9
_ACTIVATIONS = 1.5 * 2**30
_SKEW = 0.04  # of Llama-3.1-8B and Qwen3-32B, 64 to 128 sequences that all decode: 1.6, 3.6, 7.6 and 7.7 %
_DTYPES = {"auto": "", "bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float32": "fp32"}


class Settings(Spec):
    """What a user may set in place of what the run tells; all may be left out.

    `memory` of a device times `utilization`, less weights and `activations`, is for KV, unless `kv_blocks` says how much.
    `link_bandwidth` is that of one direction and `link_latency` that of one hop, for collectives of ranks in a ring.
    """

    sequences: PositiveCount | None = None
    tokens: PositiveCount | None = None
    block: PositiveCount | None = None
    chunked: bool | None = None
    prefix: bool | None = None
    ahead: bool | None = None
    kv_blocks: PositiveCount | None = None
    memory: PositiveSize | None = None
    utilization: Share | None = None
    activations: Size | None = None
    link_bandwidth: Bandwidth | None = None
    link_latency: Duration | None = None
    host_step: Duration | None = None
    host_token: Duration | None = None
    skew: Share | None = None

    @classmethod
    def from_texts(cls, texts: Mapping[str, str]) -> "Settings":
        """Return the settings that `name=value` texts mean. Raises ProfileError."""
        words = {"true": True, "false": False, "yes": True, "no": False}
        data: dict[str, Any] = {}
        for name, text in texts.items():
            data[name] = int(text) if text.strip().isdigit() else words.get(text.strip().lower(), text)
        return validate(cls, Document.from_data(data, "--set", ProfileError), ProfileError)


@dataclass(frozen=True, slots=True)
class Setting:
    """A parameter of a replay: its name, its value as a text, and where it comes from."""

    name: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine: `blocks` of KV on each of `replicas`, whether it finds prefixes, and whether it schedules `ahead`."""

    limits: Limits
    blocks: int
    prefix: bool
    ahead: bool
    replicas: int = 1
    skew: float | None = None
    collectives: Mapping[str, Any] = field(default_factory=dict)
    origins: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def with_value(self, name: str, value: float, origin: str) -> "Engine":
        """Return the engine with another `host_step`, `host_token` (s) or `skew` (0 to 1)."""
        text = f"{100 * value:.3g} %" if name == "skew" else units.format(value, units.DURATION)
        origins = {**self.origins, name: (text, origin)}
        if name == "skew":
            return replace(self, skew=value, origins=origins)
        if name == "host_step":
            return replace(self, limits=replace(self.limits, host_step=value), origins=origins)
        return replace(self, limits=replace(self.limits, host_token=value), origins=origins)

    def settings(self) -> list[Setting]:
        """Return all parameters with their origin."""
        return [Setting(name, value, origin) for name, (value, origin) in self.origins.items()]


class _Origins:
    """Picks values and remembers where each comes from."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[str, str]] = {}

    def pick(self, name: str, asked: Any, *others: tuple[Any, str], text: Any = str) -> Any:
        """Return the first value that is not None: what was asked for, then each of the others, given with its origin."""
        for value, origin in ((asked, "as asked for"), *others):
            if value is not None:
                self.found[name] = (text(value), origin)
                return value
        raise ValueError(f"nothing says what {name} is")


def engine_of(run: Run, tables: Tables, asked: Settings) -> Engine:
    """Return the engine of a run. Raises ProfileError if nothing tells how much KV it holds."""
    pick = _Origins()
    options, resolved = run.options, _mapping(run.meta.get("resolved_config"))
    scheduler, cache = _mapping(resolved.get("scheduler_config")), _mapping(run.meta.get("kv_cache"))
    default = "assumed, as the run does not tell"

    def option(name: str, asked_for: Any, key: str, otherwise: Any, others: Mapping[str, Any] = scheduler) -> Any:
        told = (options.get(key), "meta.json"), (others.get(key), "meta.json"), (otherwise, default)
        return pick.pick(name, asked_for, *told)

    sequences = option("sequences", asked.sequences, "max_num_seqs", _SEQUENCES)
    tokens = option("tokens", asked.tokens, "max_num_batched_tokens", _TOKENS)
    block = option("block", asked.block, "block_size", 16, cache)
    chunked = option("chunked", asked.chunked, "enable_chunked_prefill", True)
    prefix = option("prefix", asked.prefix, "enable_prefix_caching", True, cache)
    version = str(run.meta.get("vllm_version", ""))
    is_ahead = _number(version) >= _AHEAD_SINCE if version else None
    told = (options.get("async_scheduling"), "meta.json"), (scheduler.get("async_scheduling"), "meta.json")
    ahead = bool(pick.pick("ahead", asked.ahead, *told, (is_ahead, f"default of vLLM {version}"), (False, default)))
    hidden = (0.0, "the host is hidden by scheduling ahead; kernels' time alone")
    exposed = "assumed, for an engine that schedules between iterations"
    host = [
        pick.pick(name, given, hidden if ahead else (otherwise, exposed), text=lambda value: units.format(value, units.DURATION))
        for name, given, otherwise in (
            ("host_step", asked.host_step, _HOST_STEP), ("host_token", asked.host_token, _HOST_TOKEN)
        )
    ]  # fmt: skip
    skew = asked.skew
    if skew is None and tables.iteration.get("skew"):
        pick.found["skew"] = ("table", "profile")
    else:
        told_of_others = (_SKEW, "assumed, as there is no skew table: what those of an RTX PRO 6000 have")
        skew = pick.pick("skew", skew, told_of_others, text=lambda value: f"{100 * value:.3g} %")
    blocks = _blocks(run, tables, asked, block, pick)
    replicas = run.data_parallel
    if replicas > 1:
        pick.found["replicas"] = (
            str(replicas),
            "meta.json (data_parallel_size); requests go to them in turn (assumed)",
        )
    notes: list[str] = []
    if options.get("enforce_eager"):
        notes.append(
            "the run submitted every kernel by itself (enforce_eager): tables of the device have none of that time"
        )
    collectives = _collectives(run, tables, asked, pick, notes)
    limits = Limits(
        sequences=sequences, tokens=tokens, block=block, chunked=bool(chunked), host_step=host[0], host_token=host[1]
    )
    return Engine(limits, blocks, bool(prefix), ahead, replicas, skew, collectives, pick.found, tuple(notes))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in version.split(".")[:2])


def _blocks(run: Run, tables: Tables, asked: Settings, block: int, pick: _Origins) -> int:
    """Return the KV blocks of a replica: told by the run, or what its memory leaves."""
    told = _mapping(run.meta.get("kv_cache")).get("num_gpu_blocks")
    by_memory = asked.memory or asked.utilization or asked.activations
    if asked.kv_blocks or (told and not by_memory):
        return int(pick.pick("kv_blocks", asked.kv_blocks, (told, "meta.json (kv_cache)")))
    npu = _mapping(run.instance.get("npu_mem"))
    device = _mapping(run.meta.get("hardware")).get("device_total_memory_bytes")
    size = npu.get("mem_size")
    if not (asked.memory or size or device):
        rule = "nothing tells the memory for KV: give --set kv_blocks=N, or --set memory='80 GiB' (config.json: npu_mem.mem_size)"
        raise refused(run.folder / "meta.json", rule)
    memory = pick.pick(
        "memory", asked.memory, (None if size is None else size * 2.0**30, "config.json (mem_size, in GiB)"),
        (device, "meta.json (hardware)"), text=_gib,
    )  # fmt: skip
    used = run.options.get("gpu_memory_utilization")
    share = pick.pick(
        "utilization", asked.utilization, (npu.get("mem_util"), "config.json (mem_util)"), (used, "meta.json"),
        (_UTILIZATION, "default of vLLM"), text=lambda value: f"{100 * value:.4g} %",
    )  # fmt: skip
    # The share in config.json is that of weights and KV: its authors have taken the rest off.
    rest = (
        (0.0, "within the share of config.json")
        if "mem_util" in npu
        else (_ACTIVATIONS, "assumed, as the run does not tell")
    )
    activations = pick.pick("activations", asked.activations, rest, text=_gib)
    weights = _weight_bytes(run, tables)
    pick.found["weights"] = (_gib(weights), "the shape's parameters, on one device")
    blocks = int((memory * share - weights - activations) / (block * _kv_bytes(run, tables)))
    if blocks < 1:
        rule = f"{_gib(memory)} x {share:.3g} do not hold weights of {_gib(weights)} and any KV: correct memory, or set kv_blocks"
        raise refused(run.folder / "config.json", rule)
    pick.found["kv_blocks"] = (f"{blocks:,}", f"memory left, over {block} tokens each")
    return blocks


def _gib(size: float) -> str:
    return f"{size / 2**30:.4g} GiB"


def _weight_bytes(run: Run, tables: Tables) -> float:
    """Return the bytes of weights on a device: shared out by tensor parallelism, experts by expert parallelism too."""
    shape, ways = tables.shape, run.tensor_parallel
    all_bytes = shape.weight_bytes(_dtype(str(tables.iteration["dtype"])))
    if not (shape.experts and run.expert_parallel):
        return all_bytes / ways
    experts = shape.layers * shape.experts * shape.mlp_parameters / shape.parameters * all_bytes
    return (all_bytes - experts) / ways + experts / (ways * run.data_parallel)


def _kv_bytes(run: Run, tables: Tables) -> float:
    """Return the bytes of KV of one token on a device."""
    shape, ways = tables.shape, run.tensor_parallel
    kind = str(run.options.get("kv_cache_dtype") or "auto")
    dtype = "fp8" if kind.startswith("fp8") else _dtype(str(run.options.get("dtype") or "bfloat16"))
    heads = max(1, shape.kv_heads // ways)
    return _elements(shape, heads) * element_bytes(dtype)


def _elements(shape: Shape, kv_heads: int) -> float:
    return 2.0 * shape.layers * kv_heads * shape.head_size


def _dtype(name: str) -> str:
    known = _DTYPES.get(name, name) or "bf16"
    try:
        element_bytes(known)
    except ValueError:
        return "bf16"  # another type of two bytes
    return known


def _collectives(run: Run, tables: Tables, asked: Settings, pick: _Origins, notes: list[str]) -> dict[str, Any]:
    """Return the communication between ranks, as collectives on a ring: two hops less than twice the ranks, each of a share."""
    shape, ways = tables.shape, run.tensor_parallel
    exchange = shape.experts and run.expert_parallel and run.data_parallel > 1
    if ways == 1 and not exchange:
        return {}
    gigabytes, nanoseconds = run.cluster.get("link_bw"), run.cluster.get("link_latency")
    if (gigabytes is None and asked.link_bandwidth is None) or (nanoseconds is None and asked.link_latency is None):
        rule = (
            f"must tell the links between {ways * run.data_parallel} devices, `link_bw` (GB/s) and `link_latency` (ns): "
            "the profile's tables are of one rank alone; or give --set link_bandwidth='16 GB/s' --set link_latency='20 us'"
        )
        raise refused(run.folder / "config.json", rule)
    bandwidth = pick.pick(
        "link_bandwidth", asked.link_bandwidth, (gigabytes and gigabytes * 1e9, "config.json (link_bw)"),
        text=lambda value: units.format(value, units.BANDWIDTH),
    )  # fmt: skip
    latency = pick.pick(
        "link_latency", asked.link_latency, (None if nanoseconds is None else nanoseconds * 1e-9, "config.json (link_latency)"),
        text=lambda value: units.format(value, units.DURATION),
    )  # fmt: skip
    notes.append("communication between ranks is a law, not measured: a ring over the links of config.json (assumed)")
    found = {}
    if ways > 1:
        found["all_reduce"] = _ring(2 * shape.layers, ways, 1, shape, bandwidth, latency)
    if exchange:  # tokens to the experts of all ranks, and back: as many bytes as an all-reduce of what all have
        found["experts"] = _ring(shape.layers, run.data_parallel, run.data_parallel, shape, bandwidth, latency)
    return found


def _ring(count: int, ranks: int, parts: int, shape: Shape, bandwidth: float, latency: float) -> dict[str, Any]:
    hops = 2 * (ranks - 1)
    return {
        "count": count,
        "bytes_per_token": units.exact(parts * shape.hidden * 2.0, units.SIZE),
        "overhead": units.exact(hops * latency, units.DURATION),
        "bandwidth": units.exact(bandwidth * ranks / hops, units.BANDWIDTH),
        "note": f"ring of {ranks}",
    }
