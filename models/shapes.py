"""Shapes of transformers: the sizes that decide how long one computes and how much memory it takes.

The presets are facts of public models, each with its source: the `config.json` of the model's repository.
Leaves out: biases (less than 0.1 % of the parameters of any preset) and normalization of queries and keys; shared experts;
attention over a window, which is counted as attention over everything; vocabularies that a server pads.
Checked: tests/test_shapes.py, against published counts of parameters within 0.5 %.
Source of the counts: Pope et al., MLSys 2023 (parameters, KV cache); Shazeer, 2020 (gated MLP).
"""

import math
from typing import Any, Literal, Self

from pydantic import model_validator

from ..sim.engine.errors import did_you_mean, listed, show
from ..sim.engine.spec import Count, PositiveCount, PositiveDuration, Spec, SpecProblem
from ..sim.profile.ops import BYTES_PER_ELEMENT

__all__ = ["PRESETS", "AudioInput", "ImageInput", "Shape", "element_bytes", "preset"]


def element_bytes(dtype: str) -> float:
    """Return the bytes of an element, scales of its block included. Raises ValueError, which names the types there are."""
    if dtype not in BYTES_PER_ELEMENT:
        remedy = did_you_mean(dtype, BYTES_PER_ELEMENT) or f"; those known are {listed(BYTES_PER_ELEMENT)}"
        raise ValueError(f"no type of elements is called {show(dtype)}{remedy}")
    return BYTES_PER_ELEMENT[dtype]


class ImageInput(Spec):
    """Images as tokens: one for each `patch` x `patch` pixels, and `class_tokens` more; `side` is what it was trained on."""

    patch: PositiveCount
    side: PositiveCount
    class_tokens: Count = 0

    def tokens(self, side: int | None = None) -> int:
        """Return the tokens of a square image; pixels beyond whole patches are cut off."""
        return ((side or self.side) // self.patch) ** 2 + self.class_tokens


class AudioInput(Spec):
    """Sound as tokens: every `window` becomes `window_tokens`, however much of the last is silence; `mel` bands come in."""

    window: PositiveDuration
    window_tokens: PositiveCount
    mel: PositiveCount

    def windows(self, seconds: float) -> int:
        """Return how many windows a sound fills, each a sequence of its own."""
        return max(1, math.ceil(seconds / self.window))


class Shape(Spec):
    """A transformer.

    `mlp` is the width inside the MLP, of one expert where there are `experts`, of which `top_k` see a token; a `gated` MLP
    has three matrices, another two. `tied`: the output shares the embedding's table, or there is no output to a vocabulary.
    `other` counts parameters that the rest does not give, such as a table of positions or a pooling head.
    """

    layers: PositiveCount
    hidden: PositiveCount
    heads: PositiveCount
    kv_heads: PositiveCount
    head_size: PositiveCount
    mlp: PositiveCount
    gated: bool = True
    experts: Count = 0
    top_k: Count = 0
    vocabulary: Count = 0
    tied: bool = False
    norm: Literal["rms", "layer"] = "rms"
    activation: Literal["silu", "gelu"] = "silu"
    rotary: bool = True
    attention: Literal["causal", "bidirectional"] = "causal"
    image: ImageInput | None = None
    audio: AudioInput | None = None
    other: Count = 0
    source: str = ""
    note: str = ""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.heads % self.kv_heads:
            raise SpecProblem(("kv_heads",), f"must divide the {self.heads} heads; got {self.kv_heads}")
        if bool(self.experts) != bool(self.top_k) or self.top_k > self.experts:
            rule = f"must be from 1 to the number of experts, {self.experts}, or be left out together with `experts`"
            raise SpecProblem(("top_k",), f"{rule}; got {self.top_k}")
        return self

    @property
    def is_causal(self) -> bool:
        """Whether it generates: a token attends to those before it only."""
        return self.attention == "causal"

    @property
    def attention_parameters(self) -> int:
        """Parameters of the four products around the attention of one layer."""
        return 2 * self.hidden * self.head_size * (self.heads + self.kv_heads)

    @property
    def mlp_parameters(self) -> int:
        """Parameters of one MLP, or of one expert."""
        return (3 if self.gated else 2) * self.hidden * self.mlp

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the table of tokens."""
        return self.vocabulary * self.hidden

    @property
    def input_parameters(self) -> int:
        """Parameters of what makes tokens of an image or a sound: one convolution, or two of width 3 over time."""
        patches = 3 * self.image.patch**2 * self.hidden if self.image else 0
        return patches + (3 * self.hidden * (self.audio.mel + self.hidden) if self.audio else 0)

    @property
    def parameters(self) -> int:
        """All parameters."""
        return self._parameters(max(self.experts, 1)) + self.embedding_parameters * (1 if self.tied else 2)

    @property
    def active_parameters(self) -> int:
        """Parameters that one token is multiplied by: of experts those that it is sent to, and no table to look up in."""
        output = self.embedding_parameters if self.is_causal else 0
        return self._parameters(max(self.top_k, 1)) + output

    def _parameters(self, experts: int) -> int:
        """Return the parameters with that many experts a layer, without the tables of tokens."""
        router = self.hidden * self.experts
        norms = self.hidden * (1 if self.norm == "rms" else 2)
        layer = self.attention_parameters + experts * self.mlp_parameters + router + 2 * norms
        return self.layers * layer + norms + self.input_parameters + self.other

    def touched_experts(self, tokens: float) -> float:
        """Return the expected experts of a layer that at least one of `tokens` is sent to, when they spread evenly."""
        return self.experts * (1.0 - (1.0 - self.top_k / self.experts) ** tokens) if self.experts else 0.0

    def layer_weight_bytes(self, dtype: str, tokens: float) -> float:
        """Return the bytes of weights that the layers read for `tokens` together: each once, of experts those touched."""
        mlps = self.touched_experts(tokens) if self.experts else 1.0
        layer = self.attention_parameters + mlps * self.mlp_parameters + self.hidden * self.experts
        return self.layers * layer * element_bytes(dtype)

    def weight_bytes(self, dtype: str = "bf16") -> float:
        """Return the memory that all weights take in one type. Servers keep parts of a narrow model in 16 bits."""
        return self.parameters * element_bytes(dtype)

    def kv_bytes_per_token(self, dtype: str = "bf16") -> float:
        """Return the memory that the keys and values of one token take in all layers."""
        return 2.0 * self.layers * self.kv_heads * self.head_size * element_bytes(dtype)

    def flops_per_token(self, context: float = 0.0) -> float:
        """Return the operations for one token that attends to `context` tokens: two for each parameter it meets."""
        return 2.0 * self.active_parameters + 4.0 * self.layers * self.heads * self.head_size * context


_LLAMA = {"vocabulary": 128256, "kv_heads": 8}
_QWEN2 = {"head_size": 128, "note": "biases of queries, keys and values are left out"}
_QWEN3 = {"head_size": 128, "vocabulary": 151936, "note": "norms of queries and keys are left out"}
_ENCODER = {"gated": False, "tied": True, "norm": "layer", "activation": "gelu", "rotary": False,
            "attention": "bidirectional"}  # fmt: skip
_BERT = {**_ENCODER, "vocabulary": 30522}

# name -> the repository that holds the config.json, and the facts that it states
_FACTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama-3.2-1b": ("meta-llama/Llama-3.2-1B", {**_LLAMA, "layers": 16, "hidden": 2048, "heads": 32, "head_size": 64,
                     "mlp": 8192, "tied": True}),
    "llama-3.1-8b": ("meta-llama/Llama-3.1-8B", {**_LLAMA, "layers": 32, "hidden": 4096, "heads": 32, "head_size": 128,
                     "mlp": 14336}),
    "llama-3.1-70b": ("meta-llama/Llama-3.1-70B", {**_LLAMA, "layers": 80, "hidden": 8192, "heads": 64,
                      "head_size": 128, "mlp": 28672}),
    "qwen2.5-7b": ("Qwen/Qwen2.5-7B", {**_QWEN2, "layers": 28, "hidden": 3584, "heads": 28, "kv_heads": 4, "mlp": 18944,
                   "vocabulary": 152064}),
    "qwen2.5-72b": ("Qwen/Qwen2.5-72B", {**_QWEN2, "layers": 80, "hidden": 8192, "heads": 64, "kv_heads": 8,
                    "mlp": 29568, "vocabulary": 152064}),
    "qwen3-8b": ("Qwen/Qwen3-8B", {**_QWEN3, "layers": 36, "hidden": 4096, "heads": 32, "kv_heads": 8, "mlp": 12288}),
    "qwen3-32b": ("Qwen/Qwen3-32B", {**_QWEN3, "layers": 64, "hidden": 5120, "heads": 64, "kv_heads": 8, "mlp": 25600}),
    "qwen3-30b-a3b": ("Qwen/Qwen3-30B-A3B", {**_QWEN3, "layers": 48, "hidden": 2048, "heads": 32, "kv_heads": 4,
                      "mlp": 768, "experts": 128, "top_k": 8}),
    "mixtral-8x7b": ("mistralai/Mixtral-8x7B-v0.1", {"layers": 32, "hidden": 4096, "heads": 32, "kv_heads": 8,
                     "head_size": 128, "mlp": 14336, "experts": 8, "top_k": 2, "vocabulary": 32000}),
    "gpt-oss-120b": ("openai/gpt-oss-120b", {"layers": 36, "hidden": 2880, "heads": 64, "kv_heads": 8, "head_size": 64,
                     "mlp": 2880, "experts": 128, "top_k": 4, "vocabulary": 201088,
                     "note": "every other layer attends to the last 128 tokens only; counted as attending to all"}),
    "bert-base": ("google-bert/bert-base-uncased", {**_BERT, "layers": 12, "hidden": 768, "heads": 12, "kv_heads": 12,
                  "head_size": 64, "mlp": 3072, "other": (512 + 2 + 768) * 768}),  # positions, segments, pooler
    "all-minilm-l6-v2": ("sentence-transformers/all-MiniLM-L6-v2", {**_BERT, "layers": 6, "hidden": 384, "heads": 12,
                         "kv_heads": 12, "head_size": 32, "mlp": 1536, "other": (512 + 2 + 384) * 384}),
    "vit-l-14": ("openai/clip-vit-large-patch14", {**_ENCODER, "layers": 24, "hidden": 1024, "heads": 16,
                 "kv_heads": 16, "head_size": 64, "mlp": 4096,
                 "image": {"patch": 14, "side": 224, "class_tokens": 1},
                 "other": (257 + 768) * 1024}),  # positions, projection
    "siglip-so400m-14": ("google/siglip-so400m-patch14-384", {**_ENCODER, "layers": 27, "hidden": 1152, "heads": 16,
                         "kv_heads": 16, "head_size": 72, "mlp": 4304, "image": {"patch": 14, "side": 384},
                         "other": 729 * 1152 + 4 * 1152**2 + 2 * 1152 * 4304}),  # positions, attention pooling and MLP
    "whisper-large-v3-encoder": ("openai/whisper-large-v3", {**_ENCODER, "layers": 32, "hidden": 1280, "heads": 20,
                                 "kv_heads": 20, "head_size": 64, "mlp": 5120, "other": 1500 * 1280,  # positions
                                 "audio": {"window": "30 s", "window_tokens": 1500, "mel": 128}}),
}  # fmt: skip

PRESETS: dict[str, Shape] = {
    name: Shape.model_validate({**facts, "source": f"config.json of {repository}"})
    for name, (repository, facts) in _FACTS.items()
}


def preset(name: str) -> Shape:
    """Return the shape of a known model. Raises ValueError, which names what was meant or what there is.

    >>> preset("llama-3.1-8b").kv_bytes_per_token("bf16")
    131072.0
    """
    if name not in PRESETS:
        remedy = did_you_mean(name, PRESETS) or f"; those known are {listed(PRESETS, most=20)}"
        raise ValueError(f"no shape is called {show(name)}{remedy}")
    return PRESETS[name]
