"""The shape of a model from its `config.json`, as model repositories have it.

Leaves out: models whose layers differ, attention over a compressed KV cache: they are refused.
Checked: tests/test_measured_steps.py.
"""

import json
from pathlib import Path
from typing import Any

from ...models.shapes import Shape
from ...sim.engine.errors import listed
from .tables import refused, text_of

__all__ = ["shape"]

_UNLIKE = ("kv_lora_rank", "layer_types", "linear_num_key_heads", "attn_layer_period")


def shape(path: Path) -> Shape:
    """Return the shape that a `config.json` tells. Raises ProfileError with what it lacks."""
    try:
        data: dict[str, Any] = json.loads(text_of(path))
    except ValueError as error:
        raise refused(path, f"must be JSON: {error}") from None
    needed = ["num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size", "vocab_size"]
    missing = [name for name in needed if not isinstance(data.get(name), int)]
    if missing:
        raise refused(path, f"must be a model's config.json with {listed(missing)}; it has {listed(data, most=12)}")
    unlike = [name for name in _UNLIKE if len(set(_values(data.get(name)))) > 1 or isinstance(data.get(name), int)]
    if unlike:
        raise refused(path, f"is of a model whose layers or KV cache are of another kind ({listed(unlike)})")
    heads = data["num_attention_heads"]
    experts = next(
        (data[name] for name in ("num_experts", "num_local_experts", "n_routed_experts") if data.get(name)), 0
    )
    facts = {
        "layers": data["num_hidden_layers"],
        "hidden": data["hidden_size"],
        "heads": heads,
        "kv_heads": data.get("num_key_value_heads") or heads,
        "head_size": data.get("head_dim") or data["hidden_size"] // heads,
        "mlp": (data.get("moe_intermediate_size") if experts else None) or data["intermediate_size"],
        "experts": experts,
        "top_k": data.get("num_experts_per_tok", 0) if experts else 0,
        "vocabulary": data["vocab_size"],
        "tied": bool(data.get("tie_word_embeddings", False)),
        "source": str(path),
    }
    return Shape.model_validate(facts)


def _values(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []
