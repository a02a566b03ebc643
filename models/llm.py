"""A language model that we serve: an inference server for a model of some shape, or a station with a law in tokens.

With `shape`, calls share iterations of a batching server (`serving`), whose times are sums of the profile's laws of kernels
(`transformer`), or those measured in an engine (`iteration`). Without, a call takes (overhead + prefill of the tokens not in the
cache + decode of the output) / speed on one of replicas x concurrency slots, first come first served.

Of a station on the CPU, or whose calls slow each other down, output is heard of at the end of its call.
Leaves out: a station whose times follow the load, but for `beside` and its node's CPU.
Checked: tests/test_llm.py; tests/test_cpu_models.py; tests/test_served.py; tests/test_theory.py (Erlang, Pollaczek and Khinchine, Jackson, mean value
analysis).
"""

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, PlainSerializer, model_validator

from ..sim.engine import units
from ..sim.engine.distributions import DurationDist, NumberDist
from ..sim.engine.errors import ProfileError
from ..sim.engine.spec import (
    Count,
    Factor,
    Name,
    PositiveCount,
    Share,
    Spec,
    SpecProblem,
    TimePerToken,
    TimePerTokenSquared,
)
from ..sim.profile.profile import Profile
from .handling import Handling
from .pace import never_negative
from .serializer import Law
from .service import ZERO_TIME
from .serving.capacity import kv_blocks
from .serving.kernel_steps import KernelSteps
from .serving.measured_steps import MeasuredSteps
from .serving.spec import Autoscale, Batching, Cache, Disaggregated, Memory, Routing
from .serving.step_time import StepTime
from .shapes import PRESETS, Shape, element_bytes, preset
from .transformer import IterationTime


def _named(value: object) -> object:
    """Take the name of a preset for its shape."""
    return preset(value) if isinstance(value, str) else value


def _name_of(shape: Shape) -> str | dict[str, Any]:
    """Return the name of a preset, or what a shape of one's own says."""
    return next((name for name, known in PRESETS.items() if known == shape), None) or shape.to_data()


AnyShape = Annotated[Shape, BeforeValidator(_named, json_schema_input_type=str | Shape), PlainSerializer(_name_of)]

_EXAMPLE = 1000  # tokens, of what `basis` tells
_INSTEAD = {
    "concurrency": "`batching.sequences` bounds the calls at once", "prefix_cache": "`cache` tells it",
    "residual": "the laws of its kernels have theirs", "beside": "its batches tell it", "cpu": "it runs on the profile's device",
}  # fmt: skip
_MEASURED = ("link", "launch", "engine")  # what a measured iteration has of its own
_OF_TOKENS = ("prefill", "attention", "decode", "concurrency", "residual", "beside", "cpu", "follows", "prefix_cache")
_OF_SHAPE = (
    "dtype", "kv_dtype", "tensor_parallel", "link", "launch", "engine", "iteration", "batching", "memory", "cache", "router",
    "disaggregated", "autoscale",
)  # fmt: skip


class Llm(Spec):
    """A served model.

    `prefill` is per token that is not cached, `attention` per square of their number in the call, `decode` per output token, `tokenize`
    per token of text received. `residual` is a factor of each call's time. With `cpu` calls are work on the cores of its node, where
    those are counted; of its time the share `follows` is as fast as the cores are at the time, the rest (such as of memory) always the same.
    A call takes `beside` times as long for each other call that its slots hold when it starts (two others: squared).
    `hand_off` is what each way takes, besides the network, from the server's front to who computes, such as an engine's process or thread.
    `prefix_cache` is the share of a prompt sent before that is still found in the server's cache when the runtime
    discards KV between calls; under its other policies of `kv`, which such a server does not tell apart, all is. `restore` is the law, in bytes of session state, of a server that is sent only the delta.

    In place of those, `shape` names a known transformer or describes one, and the scenario's `profile` the machine: `dtype` is
    the type of the weights, `kv_dtype` of the cache (left out: as activations), `tensor_parallel` the devices of a replica,
    joined by `link`; `launch` replays a recorded graph of kernels or launches each, `engine` names the profile's law of host
    time per iteration, and `iteration` a measured iteration of the profile, instead of sums over kernels. Replicas batch
    (`batching`), within their `memory`, and share prefixes (`cache`) behind a `router`; `disaggregated` ones split prefill
    from decode, and `autoscale` starts more.
    """

    kind: Literal["llm"]
    node: Name | None = None
    replicas: PositiveCount = 1
    concurrency: PositiveCount = 1
    queue_limit: Count | None = None
    overhead: DurationDist = ZERO_TIME
    hand_off: DurationDist = ZERO_TIME
    prefill: TimePerToken = 0.0
    decode: TimePerToken = 0.0
    shape: AnyShape | None = None
    dtype: str = "bf16"
    kv_dtype: str | None = None
    tensor_parallel: PositiveCount = 1
    link: Literal["nvlink", "pcie", "node"] = "nvlink"
    launch: Literal["graph", "eager"] = "graph"
    engine: str | None = None
    iteration: Name | None = None
    batching: Batching = Batching()
    memory: Memory = Memory()
    cache: Cache = Cache()
    router: Routing = "round-robin"
    disaggregated: Disaggregated | None = None
    autoscale: Autoscale | None = None
    attention: TimePerTokenSquared = 0.0
    residual: NumberDist = NumberDist.model_validate(1)
    beside: Factor = 1.0
    cpu: bool = False
    follows: Share = 1.0
    tokenize: TimePerToken = 0.0
    speed: Factor = 1.0
    prefix_cache: Share = 0.0
    restore: Law = Law()
    handling: Handling = Handling()

    @model_validator(mode="after")
    def _factors(self) -> Self:
        never_negative(self, "residual", "of the time of a call")
        if self.beside < 1:
            raise SpecProblem("beside", f"must be >= 1, how many times longer a call takes; got {self.beside:g}")
        return self

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        for name in _OF_TOKENS if self.shape is not None else _OF_SHAPE:
            if self.says(name):
                instead = _INSTEAD.get(name, "`shape` tells it")
                rule = f"must be left out: {instead}" if self.shape is not None else "goes with `shape` only"
                raise SpecProblem((name,), rule)
        for name in _MEASURED if self.iteration is not None else ():
            if self.says(name):
                raise SpecProblem((name,), "must be left out: `iteration` was measured with its own")
        if self.disaggregated is not None and (self.replicas != 1 or self.autoscale is not None):
            name = "replicas" if self.replicas != 1 else "autoscale"
            raise SpecProblem((name,), "must be left out: `disaggregated` tells how many replicas prefill and decode")
        if self.autoscale is not None and self.autoscale.most < self.replicas:
            raise SpecProblem(
                ("autoscale", "most"), f"`replicas <= most` must hold; got {self.replicas} and {self.autoscale.most}"
            )
        return self

    def steps(self, profile: Profile) -> StepTime:
        """Return the times of iterations on the machine of a profile. Raises ProfileError or ValueError where it has none."""
        if self.iteration is not None:
            return MeasuredSteps(profile.iteration(self.iteration), self.batching.skew)
        return KernelSteps(self.iteration_time(profile), self.batching.skew or 0.0)

    def iteration_time(self, profile: Profile) -> IterationTime:
        """Return iterations as sums of the profile's laws. Raises ProfileError or ValueError where it has none."""
        assert self.shape is not None
        return IterationTime(
            profile, self.shape, dtype=self.dtype, kv_dtype=self.kv_dtype, tensor_parallel=self.tensor_parallel,
            link=self.link, launch=self.launch, engine=self.engine,
        )  # fmt: skip

    @property
    def cache_type(self) -> str:
        """The type of keys and values: `kv_dtype`, or that of activations."""
        return self.kv_dtype or (self.dtype if element_bytes(self.dtype) >= 2.0 else "bf16")

    @property
    def most_replicas(self) -> int:
        """The replicas that there can be at once."""
        if self.disaggregated is not None:
            return self.disaggregated.prefill + self.disaggregated.decode
        return self.replicas if self.autoscale is None else self.autoscale.most

    def blocks(self, profile: Profile) -> float:
        """Return the KV blocks of a replica."""
        assert self.shape is not None
        return kv_blocks(
            self.shape, profile.device.memory if profile.device else None, self.batching, self.memory,
            dtype=self.dtype, kv_dtype=self.cache_type, ranks=self.tensor_parallel,
        )  # fmt: skip

    def basis(self, profile: Profile) -> Iterator[str]:
        """Yield what a model with a shape rests on: its times on the machine, the worst of its laws, what was derived."""
        if self.shape is None:
            return
        steps, most = self.steps(profile), self.batching.sequences
        prompt, one, full = (
            units.format(seconds, units.DURATION)
            for seconds in (
                steps.iteration([(_EXAMPLE, 0)], 0, 0.0, 0.0),
                steps.run(1, _EXAMPLE, _EXAMPLE, 1),
                steps.run(most, most * _EXAMPLE, _EXAMPLE, 1),
            )
        )
        yield (
            f"alone, {_EXAMPLE:,} tokens of prompt take {prompt} and a token behind them {one}; {most} at once, {full}; the "
            "host's time comes on top"
        )
        tokens = self.blocks(profile) * self.batching.block
        if math.isfinite(tokens):
            yield f"the memory beside weights and activations holds keys and values of {tokens:,.0f} tokens"
        else:
            yield "the profile tells no memory: keys and values have as much as they like"
        if isinstance(steps, KernelSteps):
            yield from steps.iteration_time.basis()
        elif self.iteration is not None:
            of = profile.iteration(self.iteration)
            engine = f" in {of.engine}" if of.engine else ""
            yield f"rests on the iteration {self.iteration} of {profile.name}, measured with {of.model}{engine}"

    def misfits(self, profile: Profile | None) -> Iterator[SpecProblem]:
        """Yield why this model cannot run on the machine of a profile: no law, no such layout, not enough memory."""
        if self.shape is None:
            return
        if profile is None:
            yield SpecProblem(("shape",), "needs `profile`, such as `profile: h100-sxm`, for the times of its kernels")
            return
        if not self.shape.is_causal:
            yield SpecProblem(("shape",), "must be of a model that generates; this one encodes")
            return
        try:
            self.steps(profile)
        except (ProfileError, ValueError) as error:
            told = error.problems[0].message if isinstance(error, ProfileError) else str(error)
            at = "shape" if self.iteration is None else "iteration"
            yield SpecProblem((at,), f"has no times on the profile: {told}")
            return
        yield from self._mismatches(profile)
        yield from self._no_room(profile)

    def _mismatches(self, profile: Profile) -> Iterator[SpecProblem]:
        """Yield how a measured iteration is not of this model."""
        if self.iteration is None:
            return
        assert self.shape is not None
        of = profile.iteration(self.iteration)
        pairs = {
            "layers": (self.shape.layers, of.layers),
            "tensor_parallel": (self.tensor_parallel, of.tensor_parallel),
            "dtype": (self.dtype, of.dtype),
        }
        for name, (own, measured) in pairs.items():
            if own != measured:
                what = "the shape's layers" if name == "layers" else f"`{name}`"
                yield SpecProblem(("iteration",), f"was measured with {measured} for {what}; got {own}")

    def _no_room(self, profile: Profile) -> Iterator[SpecProblem]:
        """Yield why no keys and values fit beside the weights."""
        assert self.shape is not None
        weights = self.shape.weight_bytes(self.dtype)
        each = units.format(self.shape.kv_bytes_per_token(self.cache_type) * self.batching.block, units.SIZE)
        own = self.memory.kv
        if own is not None and self.blocks(profile) < 1:
            yield SpecProblem(
                ("memory", "kv"), f"must hold a block of {self.batching.block} tokens, which takes {each}"
            )
        if profile.device is None or profile.device.memory is None:
            return
        memory = profile.device.memory * self.tensor_parallel
        told = f"its weights alone take {units.format(weights, units.SIZE)}"
        there = f"{units.format(memory, units.SIZE)} of {self.tensor_parallel} x {profile.name}"
        remedy = "give more devices by `tensor_parallel`, or a narrower `dtype`"
        if weights + (own or 0.0) > memory:
            beside = "" if own is None else f", and `memory.kv` {units.format(own, units.SIZE)},"
            yield SpecProblem(
                ("shape",), f"leaves no memory for keys and values: {told}{beside} of the {there}; {remedy}"
            )
        elif own is None and self.blocks(profile) < 1:
            rule = f"leaves no memory for keys and values: {told}, and activations of `batching.tokens` the rest, of"
            yield SpecProblem(
                ("memory", "utilization"), f"{rule} {100 * self.memory.utilization:g} % of the {there}; {remedy}"
            )
