"""A language model that we serve: replicas behind one queue, with a law in tokens, or a shape whose times a profile gives.

A call takes (overhead + prefill of the tokens not in the cache + decode of the output) / speed on one of
replicas x concurrency slots, first come first served. With `shape`, prefill and decode are sums of the profile's laws of
kernels (`transformer`), for a prompt by itself and for decoding beside `batch` - 1 others.

Leaves out: batching that follows the load, paged memory, eviction (an iteration-level server is another kind).
Checked: tests/test_llm.py; tests/test_call_time.py; tests/test_theory.py (Erlang, Pollaczek and Khinchine, Jackson, mean
value analysis).
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, PlainSerializer, model_validator

from ..sim.engine import units
from ..sim.engine.distributions import DurationDist
from ..sim.engine.errors import ProfileError, listed
from ..sim.engine.spec import Count, Factor, Name, PositiveCount, Share, Spec, SpecProblem, TimePerToken
from ..sim.profile.profile import Profile
from .call_time import CallTime
from .serializer import Law
from .service import ZERO_TIME
from .shapes import PRESETS, Shape, preset
from .transformer import IterationTime


def _named(value: object) -> object:
    """Take the name of a preset for its shape."""
    return preset(value) if isinstance(value, str) else value


def _name_of(shape: Shape) -> str | dict[str, Any]:
    """Return the name of a preset, or what a shape of one's own says."""
    return next((name for name, known in PRESETS.items() if known == shape), None) or shape.to_data()


AnyShape = Annotated[Shape, BeforeValidator(_named, json_schema_input_type=str | Shape), PlainSerializer(_name_of)]

_EXAMPLE = 1000  # tokens, of what `basis` tells
_OF_TOKENS = ("prefill", "decode")
_OF_SHAPE = ("dtype", "kv_dtype", "tensor_parallel", "link", "launch", "engine", "batch")


class Llm(Spec):
    """A served model.

    `prefill` is per token that is not cached, `decode` per output token, `tokenize` per token of text received.
    `prefix_cache` is the share of a prompt sent before that is still found in the server's cache when the runtime
    discards KV between calls. `restore` is the law, in bytes of session state, of a server that is sent only the delta.

    In place of `prefill` and `decode`, `shape` names a known transformer or describes one, and the scenario's `profile` the
    machine: `dtype` is the type of the weights, `kv_dtype` of the cache (left out: as activations), `tensor_parallel` the
    devices of a replica, joined by `link`; `launch` replays a recorded graph of kernels or launches each, `engine` names the
    profile's law of host time per iteration, and `batch` is how many calls share the device all the time (left out:
    `concurrency`; fewer suits a server that is seldom full, and overstates what it can do when it is).
    """

    kind: Literal["llm"]
    node: Name | None = None
    replicas: PositiveCount = 1
    concurrency: PositiveCount = 1
    queue_limit: Count | None = None
    overhead: DurationDist = ZERO_TIME
    prefill: TimePerToken = 0.0
    decode: TimePerToken = 0.0
    shape: AnyShape | None = None
    dtype: str = "bf16"
    kv_dtype: str | None = None
    tensor_parallel: PositiveCount = 1
    link: Literal["nvlink", "pcie", "node"] = "nvlink"
    launch: Literal["graph", "eager"] = "graph"
    engine: str | None = None
    batch: PositiveCount | None = None
    tokenize: TimePerToken = 0.0
    speed: Factor = 1.0
    prefix_cache: Share = 0.0
    restore: Law = Law()

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        # What is written at its default, as a resolved scenario does, is no contradiction.
        own = {name for name in self.model_fields_set if getattr(self, name) != type(self).model_fields[name].default}
        for name in _OF_TOKENS if self.shape is not None else _OF_SHAPE:
            if name in own:
                rule = "must be left out: `shape` tells it" if self.shape is not None else "goes with `shape` only"
                raise SpecProblem((name,), rule)
        return self

    def call_time(self, profile: Profile) -> CallTime:
        """Return the times of calls on the machine of a profile. Raises ProfileError or ValueError where it has none."""
        assert self.shape is not None
        iteration = IterationTime(
            profile, self.shape, dtype=self.dtype, kv_dtype=self.kv_dtype, tensor_parallel=self.tensor_parallel,
            link=self.link, launch=self.launch, engine=self.engine,
        )  # fmt: skip
        return CallTime(iteration, self.batch or self.concurrency, profile.timing("gemm", dtype=self.dtype).noise)

    def basis(self, profile: Profile) -> Iterator[str]:
        """Yield what a model with a shape rests on: its times on the machine, the worst of its laws, what was derived."""
        if self.shape is None:
            return
        time = self.call_time(profile)
        step = units.format(time.iteration.decode(time.batch, _EXAMPLE), units.DURATION)
        prompt = units.format(time.prefill(_EXAMPLE, 0), units.DURATION)
        yield f"{_EXAMPLE:,} tokens of prompt take {prompt}, a token behind them {step} ({time.batch} decode together)"
        memory = profile.device.memory if profile.device else None
        if memory is not None:
            left = memory * self.tensor_parallel - self.shape.weight_bytes(self.dtype)
            tokens = left / self.shape.kv_bytes_per_token(self.kv_dtype or "bf16")
            yield f"the memory beside its weights holds keys and values of {tokens:,.0f} tokens at most"
        laws = {name: profile.laws[name] for name in time.iteration.laws}
        known = {name: error for name, law in laws.items() if (error := law.error) is not None}
        if known:
            worst = max(known, key=lambda name: known[name].p95)
            yield (
                f"rests on {len(laws)} laws of {profile.name}; the least sure is {worst}, off by "
                f"{100 * known[worst].median:.2g} % (median) and {100 * known[worst].p95:.2g} % (p95) on {known[worst].split} "
                "that its fit did not see"
            )
        doubted = [name for name, law in laws.items() if law.doubts]
        if doubted:
            yield f"its profile has doubts about {listed(doubted)}; `coordsim profile show` tells them"
        why: dict[str, list[str]] = {}
        for sentence in time.iteration.missing:
            what, _, reason = sentence.partition(" is not in the profile: ")
            why.setdefault(reason or what, []).extend([what] if reason else [])
        for reason, names in why.items():
            yield f"{', '.join(names)}: not in the profile; {reason}" if names else reason
        yield from time.iteration.flags()

    def doubts(self) -> Iterator[str]:
        """Yield what is legal but doubtful: fewer calls at once than slots."""
        if self.shape is not None and self.batch is not None and self.batch < self.concurrency:
            yield (
                f"has {self.concurrency} slots, and times for {self.batch} calls at once; when more are under way it does more "
                "than its device can: leave `batch` out to be safe"
            )

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
            self.call_time(profile)
        except (ProfileError, ValueError) as error:
            told = error.problems[0].message if isinstance(error, ProfileError) else str(error)
            yield SpecProblem(("shape",), f"has no times on the profile: {told}")
            return
        weights = self.shape.weight_bytes(self.dtype)
        memory = profile.device.memory if profile.device else None
        if memory is not None and weights > memory * self.tensor_parallel:
            has = (
                f"{units.format(memory * self.tensor_parallel, units.SIZE)} of {self.tensor_parallel} x {profile.name}"
            )
            rule = f"its weights take {units.format(weights, units.SIZE)}, more than the {has}"
            yield SpecProblem(("shape",), f"{rule}; give more devices by `tensor_parallel`, or a narrower `dtype`")
