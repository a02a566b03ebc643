"""Traces whose requests consist of blocks with names: what a served model's prefix cache finds of them."""

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordsim.models.arrivals import open_arrivals
from coordsim.sim.analysis.result import Result
from coordsim.sim.engine.draws import Draws
from coordsim.sim.engine.errors import ScenarioError

from .scene import Data, chain, run, scene

MOONCAKE = Path(__file__).parents[1].parent / "shared" / "data" / "workloads" / "mooncake_conversation.jsonl.gz"
ROWS = 400
BLOCK = 16  # tokens of a block of the server

shared = pytest.mark.skipif(not MOONCAKE.exists(), reason="the recorded workloads of shared/data are not here")


def served(file: Path, trace: Data, model: Data) -> list[Data]:
    """Return the patches of a served model that answers the requests of a trace one at a time, in their order."""
    return [
        {"profile": "h100-sxm", "runtime": {"preset": "ideal", "kv": "cache"}},
        {"workload": {"arrivals": {"trace": {"file": str(file), **trace}}, "tasks": None, "warmup": "0 s"}},
        {"agents": {"a": {"output": "trace"}}},
        {"models": {"llm": {"shape": "llama-3.2-1b", "batching": {"sequences": 1}, **model}}},
    ]


@cache
def rows() -> list[Data]:
    """Return the first rows of the trace."""
    with gzip.open(MOONCAKE, "rt") as lines:
        return [json.loads(line) for line, _ in zip(lines, range(ROWS), strict=False)]


def cached(result: Result) -> list[float]:
    """Return the tokens that each task found in the cache, in the order of tasks."""
    order = np.argsort(result.rows[:, 0])
    found: list[float] = result.fact("cached_tokens")[order].tolist()
    return found


def leading(blocks: list[int], known: set[int]) -> int:
    """Return how many leading blocks are known."""
    return next((place for place, block in enumerate(blocks) if block not in known), len(blocks))


@shared
def test_a_served_model_finds_the_leading_blocks_that_are_known() -> None:
    """With memory for all, each request finds its known leading blocks, in whole blocks of the server; one token is computed.

    Without their names it finds nothing; with less memory, or a time to live, less. The loss of tokens is checked too.
    """
    file = {"limit": ROWS, "blocks": "hash_ids"}
    known: set[int] = set()
    expected = []
    for row in rows():
        tokens = min(512 * leading(row["hash_ids"], known), row["input_length"] - 1)
        expected.append(tokens // BLOCK * BLOCK)
        known.update(row["hash_ids"])
    result = run(*served(MOONCAKE, file, {"tensor_parallel": 8}))
    assert cached(result) == expected
    assert result.fact("new_tokens").sum() == sum(row["input_length"] for row in rows())
    assert sum(cached(run(*served(MOONCAKE, {"limit": ROWS}, {})))) == 0
    previous = sum(expected)
    for less in ({"cache": {"ttl": "10 min"}}, {"memory": {"kv": "10 GB"}}):
        found = sum(cached(run(*served(MOONCAKE, file, less))))
        assert 0 < found < previous


def written(folder: Path, *lines: str) -> Path:
    """Return a file of requests: time, tokens, output, ids."""
    file = folder / "rows.csv"
    file.write_text("\n".join(["t,input_tokens,output_tokens,ids", *lines]))
    return file


def test_what_a_task_adds_to_its_request_is_its_own(tmp_path: Path) -> None:
    """A second request of the same two blocks, which goes on otherwise, shares just these, in whole blocks of the server.

    The first task's second call found its own first call: its request and what it answered then.
    """
    file = written(tmp_path, "0,600,400,1 2", "100,1000,400,1 2")
    patches = [*served(file, {"blocks": "ids"}, {}), chain(("one", {"agent": "a"}), ("two", {"agent": "a"}))]
    first, second = cached(run(*patches))
    assert first == 999 // BLOCK * BLOCK
    assert second == 600 // BLOCK * BLOCK + 1399 // BLOCK * BLOCK


def test_the_size_of_blocks_is_the_trace_s(tmp_path: Path) -> None:
    """Blocks of 100 tokens are no whole blocks of the server: what they share is rounded down."""
    file = written(tmp_path, "0,250,10,1 2 3", "100,250,10,1 2 4", "200,250,10,9 2 3")
    patches = served(file, {"blocks": "ids", "block_size": "100 tokens"}, {})
    assert cached(run(*patches)) == [0, 200 // BLOCK * BLOCK, 0]


def test_a_repeated_row_has_other_content(tmp_path: Path) -> None:
    """Played again, a trace shares within each round what it shared within the first."""
    file = written(tmp_path, "0,600,10,1 2", "100,600,10,1 3")
    trace = {"blocks": "ids", "repeat": True}
    repeated = [*served(file, trace, {}), {"workload": {"tasks": 4}}]
    assert cached(run(*repeated)) == [0, 512, 0, 512]
    batches = open_arrivals(scene(*repeated).workload, Draws(1, 0))
    assert [next(batches).blocks for _ in range(2)] == [[(1, 2), (1, 3)], [((1, 1), (1, 2)), ((1, 1), (1, 3))]]


def test_blocks_that_nothing_keeps_are_doubted(tmp_path: Path) -> None:
    """A model without a shape has no cache of blocks, and the run says so."""
    file = written(tmp_path, "0,600,10,1 2")
    trace = {"workload": {"arrivals": {"trace": {"file": str(file), "blocks": "ids"}}, "tasks": None}}
    doubt = "workload.arrivals.trace.blocks: no model has a `shape`, so that none keeps what requests share"
    assert doubt in run(trace).doubts
    assert doubt not in run(*served(file, {"blocks": "ids"}, {})).doubts


@pytest.mark.parametrize(
    ("trace", "lines", "message"),
    [
        ({"blocks": "idz"}, ["0,600,1,1 2"], "has no column `idz`; did you mean `ids`?"),
        ({"blocks": "ids"}, ["0,600,1,1 2", "1,600,1,1 2.5"], "rows.csv:3: `ids` must hold whole numbers; got 2.5"),
        ({"blocks": "ids"}, ["0,600,1,1"], "rows.csv:2: `ids` has 1 block, and 600 tokens are 2 of 512"),
        ({"blocks": "ids", "tokens": False}, ["0,600,1,1 2"], "no column with their tokens is read"),
        ({"blocks": "ids", "block_size": "0.5 tokens"}, ["0,600,1,1 2"], "must be a number of tokens >= 1"),
    ],
)
def test_blocks_that_cannot_be_are_refused(tmp_path: Path, trace: Data, lines: list[str], message: str) -> None:
    """A column that is not there, ids that are none, too few blocks, blocks of nothing: each told with its line."""
    file = written(tmp_path, *lines)
    patch: Any = {"workload": {"arrivals": {"trace": {"file": str(file), **trace}}, "tasks": None}}
    with pytest.raises(ScenarioError) as refused:
        scene(patch)
    assert message in str(refused.value)
