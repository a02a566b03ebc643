"""The kernels of a transformer's iteration on one rank: which, how often, and how large.

A layer: norm, query-key-value product, rotary, append to the cache, attention, output product, residual, norm, MLP, residual;
with several ranks an all-reduce after the output product and after the MLP. Around the layers: embedding, or the products that
make tokens of an image or a sound, the last norm, the output table and sampling.

Leaves out: how long kernels take; laws say that. What shapes leave out.
Checked: tests/test_transformer.py.
Source: Shoeybi et al., 2019 (which product is split how); Gale et al., MLSys 2023 (experts as one grouped product).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from ..sim.profile.law import Timing
from .kernel_laws import KernelLaws
from .shapes import Shape, element_bytes

__all__ = ["Attention", "Call", "Kernels", "Layout"]

Sizes = dict[str, float]


class Layout:
    """A shape spread over ranks, in the types of its weights, activations and cache: sizes on one rank.

    KV heads are copied where there are fewer than ranks. Raises ValueError where heads or MLP do not divide.
    """

    def __init__(self, shape: Shape, dtype: str, kv_dtype: str | None, ranks: int, link: str) -> None:
        for name, count in (("heads", shape.heads), ("elements of the MLP", shape.mlp)):
            if ranks < 1 or count % ranks:
                raise ValueError(f"tensor_parallel must divide the {count} {name}; got {ranks}")
        self.shape = shape
        self.dtype = dtype
        self.ranks = ranks
        self.link = link
        self.activations = dtype if element_bytes(dtype) >= 2.0 else "bf16"
        self.kv_dtype = kv_dtype or self.activations
        self.heads = shape.heads // ranks
        self.kv_heads = math.ceil(shape.kv_heads / ranks)
        self.mlp = shape.mlp // ranks
        self.vocabulary = math.ceil(shape.vocabulary / ranks)
        self.kv_bytes = 2.0 * self.kv_heads * shape.head_size * element_bytes(self.kv_dtype)
        self.hidden_bytes = shape.hidden * element_bytes(self.activations)


@dataclass(frozen=True, slots=True)
class Call:
    """A kernel that runs `times` in an iteration, with sizes that follow from the tokens (or sequences) in it."""

    part: str
    timing: Timing
    times: int
    sizes: Callable[[float], Sizes]

    def seconds(self, size: float) -> float:
        """Return the seconds of all its calls in an iteration over so many tokens or sequences."""
        return self.times * self.timing.seconds(self.sizes(size))


@dataclass(frozen=True, slots=True)
class Attention:
    """The attention of all layers, a function of sequences, new tokens and cached tokens."""

    timing: Timing
    times: int
    sizes: Callable[[float, float, float], Sizes]

    def seconds(self, batch: float, query: float, context: float) -> float:
        """Return the seconds in all layers."""
        return self.times * self.timing.seconds(self.sizes(batch, query, context))


class Kernels:
    """The calls of an iteration: `dense` over its tokens, `head` over its sequences, and attention."""

    def __init__(self, laws: KernelLaws, layout: Layout) -> None:
        self._laws = laws
        self._layout = layout
        self._shape = layout.shape
        self._product = laws.need("gemm", {"dtype": layout.dtype})
        self.dense: list[Call] = [*self._around_attention(), *self._mlp(), *self._streams(), *self._ends()]
        self.head: list[Call] = self._outputs() if self._shape.is_causal else []
        # A profile that lacks a law of attention is refused now, and not in a run.
        _ = (self.prefill, self.decode) if self._shape.is_causal else self.encoder

    def count(self, attentions: int) -> float:
        """Return the kernels in an iteration with so many kernels of attention a layer."""
        return sum(call.times for call in (*self.dense, *self.head)) + attentions * self._shape.layers

    def _gemm(self, part: str, n: float, k: float, *, times: int = 0, rows: float = 1.0) -> Call:
        """Return the product of all tokens, times `rows`, by a (k, n) matrix; in every layer unless `times` says else."""
        return Call(part, self._product, times or self._shape.layers, lambda t: {"m": t * rows, "n": n, "k": k})

    def _around_attention(self) -> list[Call]:
        own, shape = self._layout, self._shape
        head, layers = shape.head_size, shape.layers
        calls = [
            self._gemm("qkv", (own.heads + 2 * own.kv_heads) * head, shape.hidden),
            self._gemm("output", shape.hidden, own.heads * head),
        ]
        if shape.rotary:
            width = float((own.heads + own.kv_heads) * head)
            rotary = self._laws.streamed("rotary", {"dtype": own.activations})
            calls.append(Call("rotary", rotary, layers, lambda t: {"tokens": t, "width": width}))
        if shape.is_causal:
            append = self._laws.streamed("kv.append", {})
            calls.append(Call("kv.append", append, layers, lambda t: {"bytes": t * own.kv_bytes}))
        if own.ranks > 1:
            reduce = self._laws.need("all_reduce", {"ranks": str(own.ranks), "via": own.link})
            calls.append(Call("all_reduce", reduce, 2 * layers, lambda t: {"bytes": t * own.hidden_bytes}))
        return calls

    def _mlp(self) -> list[Call]:
        own, shape = self._layout, self._shape
        if not shape.experts:
            wide = 2 * own.mlp if shape.gated else own.mlp
            up = self._gemm("gate_up" if shape.gated else "up", wide, shape.hidden)
            return [up, self._activation(1), self._gemm("down", shape.hidden, own.mlp)]
        moe = self._laws.first("moe", {"dtype": own.dtype}, {"dtype": own.dtype, "load": "balanced"})
        if moe is None:
            return self._grouped()
        fixed = {"hidden": shape.hidden, "inter": own.mlp, "top_k": shape.top_k, "experts": shape.experts}
        return [Call("moe", moe, shape.layers, lambda t: {"tokens": t, **fixed})]

    def _grouped(self) -> list[Call]:
        """Return experts as products: of those touched, with their columns side by side, over the tokens that each gets.

        That has the arithmetic and the weights of a grouped product, and its overhead once.
        """
        own, shape = self._layout, self._shape
        self._laws.missing.append(
            "moe is not in the profile: derived from gemm, with the columns of touched experts side by side"
        )

        def grouped(n: int, k: int) -> Callable[[float], Sizes]:
            def sizes(tokens: float) -> Sizes:
                touched = shape.touched_experts(tokens)
                return {"m": tokens * shape.top_k / touched, "n": touched * n, "k": k}

            return sizes

        wide = 2 * own.mlp if shape.gated else own.mlp
        return [
            self._gemm("router", shape.experts, shape.hidden),
            Call("moe", self._product, shape.layers, grouped(wide, shape.hidden)),
            self._activation(shape.top_k),
            Call("moe", self._product, shape.layers, grouped(shape.hidden, own.mlp)),
        ]

    def _activation(self, rows: int) -> Call:
        own, shape = self._layout, self._shape
        kinds = {"dtype": own.activations, "kind": shape.activation}, {"dtype": own.activations}
        timing = self._laws.streamed("activation", *kinds)
        # The law is of a gated activation, two elements in and one out; another moves one in and one out, two thirds.
        share = rows * (1.0 if shape.gated else 2.0 / 3.0)
        return Call("activation", timing, shape.layers, lambda t: {"tokens": t * share, "inter": own.mlp})

    def _streams(self) -> list[Call]:
        own, shape = self._layout, self._shape
        kinds = {"dtype": own.activations, "kind": shape.norm}, {"dtype": own.activations}
        norm = self._laws.streamed("norm", *kinds)
        residual = self._laws.streamed("residual", {"dtype": own.activations})
        sizes: Callable[[float], Sizes] = lambda t: {"tokens": t, "hidden": shape.hidden}  # noqa: E731
        return [
            Call("norm", norm, 2 * shape.layers + 1, sizes),
            Call("residual", residual, 2 * shape.layers, sizes),
        ]

    def _ends(self) -> list[Call]:
        """Return what makes the first hidden states."""
        own, shape = self._layout, self._shape
        if shape.image is not None:
            return [self._gemm("embedding", shape.hidden, 3 * shape.image.patch**2, times=1)]
        if shape.audio is not None:  # two convolutions over three frames; the second takes every other one
            first = self._gemm("embedding", shape.hidden, 3 * shape.audio.mel, times=1, rows=2.0)
            return [first, self._gemm("embedding", shape.hidden, 3 * shape.hidden, times=1)]
        look_up = self._laws.streamed("embedding", {"dtype": own.activations})
        return [Call("embedding", look_up, 1, lambda t: {"tokens": t, "hidden": shape.hidden})]

    def _outputs(self) -> list[Call]:
        own, shape = self._layout, self._shape
        if not shape.vocabulary:
            return []
        product = self._laws.first("gemm", {"dtype": own.activations})
        if product is None:
            product = self._product
            self._laws.missing.append(
                f"gemm[dtype={own.activations}] is not in the profile: {own.dtype} for the output table"
            )
        types = (own.activations, "fp32")
        kinds = [{"dtype": dtype, "kind": kind} for dtype in types for kind in ("greedy", "top-k", "top-p")]
        sampling = self._laws.streamed("sampling", *kinds, {"dtype": own.activations})
        n, vocabulary = own.vocabulary, shape.vocabulary
        return [
            Call("lm_head", product, 1, lambda s: {"m": s, "n": n, "k": shape.hidden}),
            Call("sampling", sampling, 1, lambda s: {"batch": s, "vocabulary": vocabulary}),
        ]

    # Attention

    @cached_property
    def prefill(self) -> Attention:
        """Attention of new tokens over cached ones and themselves. Raises ValueError for an encoder."""
        self._must_be("causal")
        return Attention(self._attention("attention.prefill"), self._shape.layers, self._causal_sizes)

    @cached_property
    def decode(self) -> Attention:
        """Attention of one new token a sequence. Raises ValueError for an encoder."""
        self._must_be("causal")

        def sizes(batch: float, _query: float, context: float) -> Sizes:
            return {"batch": batch, "context": context, **self._heads}

        return Attention(self._attention("attention.decode"), self._shape.layers, sizes)

    @cached_property
    def encoder(self) -> Attention:
        """Attention of all tokens over all. Raises ValueError for a shape that generates."""
        self._must_be("bidirectional")
        own, head, layers = self._layout, self._shape.head_size, self._shape.layers
        timing = self._laws.first("attention.encoder", {"dtype": own.activations})
        if timing is not None:
            plain: Callable[[float, float, float], Sizes] = lambda batch, query, _context: {  # noqa: E731
                "batch": batch, "query": query, "heads": own.heads, "head_size": head}  # fmt: skip
            return Attention(timing, layers, plain)
        self._laws.missing.append(
            "attention.encoder is not in the profile: derived from attention.prefill over half as many cached tokens"
        )
        # n tokens after n/2 cached ones attend to n^2/2 + n^2/2 pairs: as many as n tokens that all attend to all.
        prefill = self._attention("attention.prefill")
        return Attention(prefill, layers, lambda batch, query, _context: self._causal_sizes(batch, query, query / 2.0))

    @property
    def _heads(self) -> Sizes:
        own = self._layout
        return {"heads": own.heads, "kv_heads": own.kv_heads, "head_size": self._shape.head_size}

    def _causal_sizes(self, batch: float, query: float, context: float) -> Sizes:
        return {"batch": batch, "query": query, "context": context, **self._heads}

    def _attention(self, op: str) -> Timing:
        own = self._layout
        both = {"dtype": own.activations, "kv_dtype": own.kv_dtype}
        same = ({"dtype": own.activations},) if own.kv_dtype == own.activations else ()
        return self._laws.need(op, *same, both)

    def _must_be(self, attention: str) -> None:
        if self._shape.attention != attention:
            verb = "an encoder: ask `encode`" if attention == "causal" else "no encoder: ask `prefill` or `decode`"
            raise ValueError(f"a shape with {self._shape.attention} attention is {verb}")
