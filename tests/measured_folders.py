"""Small folders of tables and of runs, written by tests: the layout of a layer-wise profile, with numbers that tests can check."""

import gzip
import json
from pathlib import Path
from typing import Any

CHUNKS, CACHED, DECODES, LENGTHS = (16, 64, 256), (0, 64, 1024), (1, 4, 16), (16, 256, 4096)
LAYERS = 3
CONFIG = {
    "num_hidden_layers": LAYERS, "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 128, "vocab_size": 1000, "head_dim": 16,
}  # fmt: skip


def attention(chunk: float, cached: float, decodes: float, length: float) -> float:
    """Return made-up microseconds of attention, linear in every pair of sizes between the nodes."""
    return 5.0 + 0.01 * chunk + 1e-4 * chunk * cached + 2e-3 * decodes * length


def table(columns: str, rows: list[tuple[Any, ...]]) -> str:
    """Return CSV text."""
    return "\n".join([columns, *(",".join(map(str, row)) for row in rows)]) + "\n"


def dense(parts: tuple[str, ...]) -> str:
    """Return dense.csv: each part takes 10 + tokens / 10 microseconds."""
    return table("layer,tokens,time_us", [(part, n, 10 + n / 10) for part in parts for n in (1, 8, 64, 512)])


def profile(root: Path, tp: int = 1, **files: str | None) -> Path:
    """Write a folder of tables and return it; `files` replace a table's text, or leave it out with None."""
    folder = root / "gpu" / "some-model" / "bf16"
    inside = folder / f"tp{tp}"
    inside.mkdir(parents=True)
    both = [(c, k, n, kv, attention(c, k, n, kv)) for c in CHUNKS for k in CACHED for n in DECODES for kv in LENGTHS]
    rows = [(0, 0, n, kv, attention(0, 0, n, kv)) for n in DECODES for kv in LENGTHS]
    rows += [(c, k, 0, 0, attention(c, k, 0, 0)) for c in CHUNKS for k in CACHED]
    texts: dict[str, str | None] = {
        "dense": dense(("embedding", "layernorm", "qkv_proj", "o_proj", "gate_up_proj", "act_fn", "down_proj")),
        "per_sequence": table("layer,sequences,time_us", [("lm_head", n, 20 + n) for n in (1, 16, 64)]),
        "attention": table("prefill_chunk,kv_prefill,n_decode,kv_decode,time_us", rows + both),
        "skew": table(
            "n,pc,t_mean_us,t_max_us,t_skew_us",
            [(n, pc, 100, 200, 100 + share) for n, pc, share in ((4, 0, 10), (16, 0, 20), (4, 64, 30), (16, 64, 40))],
        ),
        **files,
    }
    for name, text in texts.items():
        if text is not None:
            (inside / f"{name}.csv").write_text(text)
    (folder / "meta.yaml").write_text("vllm_version: 0.19.0\nhardware: gpu\nmodel: some/some-model\nvariant: bf16\n")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def run(root: Path, rows: list[dict[str, Any]], **changes: Any) -> Path:
    """Write the folder of a run and return it; `changes` go into the engine's options."""
    folder = root / "run"
    folder.mkdir(parents=True)
    options = {"max_num_seqs": 8, "max_num_batched_tokens": 256, "tensor_parallel_size": 1, **changes}
    meta = {
        "model": "some/some-model",
        "vllm_version": "0.19.0",
        "engine_kwargs": options,
        "dataset_path": "w/words.jsonl",
    }
    (folder / "meta.json").write_text(json.dumps(meta))
    instance = {"hardware": "gpu", "npu_mem": {"mem_size": 1, "mem_util": 0.5}}
    cluster = {"link_bw": 10, "link_latency": 1000, "nodes": [{"instances": [instance]}]}
    (folder / "config.json").write_text(json.dumps(cluster))
    (folder / "requests.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def request(number: int, prompt: int, output: int, queued: float, first: float, last: float) -> dict[str, Any]:
    """Return a line of requests.jsonl."""
    return {
        "request_id": f"bench-{number}", "input_toks": prompt, "output_toks": output, "queued_ts": queued,
        "first_token_ts": first, "last_token_ts": last,
    }  # fmt: skip


def words(folder: Path, tokens: list[list[int]]) -> Path:
    """Write the tokens of requests beside a run, gzipped, and return the file."""
    path = folder.parent / "workload" / "words.jsonl.gz"
    path.parent.mkdir()
    path.write_bytes(gzip.compress("".join(json.dumps({"input_tok_ids": ids}) + "\n" for ids in tokens).encode()))
    return path
