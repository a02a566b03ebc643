"""The study of what a prefix cache finds: one pass against a cache that keeps its blocks, and against counts by hand."""

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordsim.models.serving.cache_study import Found, Visit, reuse
from coordsim.models.serving.kv_cache import KvCache

from .command import Call

MOONCAKE = Path(__file__).parents[1].parent / "shared" / "data" / "workloads" / "mooncake_conversation.jsonl.gz"

shared = pytest.mark.skipif(not MOONCAKE.exists(), reason="the recorded workloads of shared/data are not here")


def found_by_a_cache(visits: Sequence[Visit], capacity: float, ttl: float) -> int:
    """Return the blocks that a `KvCache` finds, each request looked up, inserted and over at once."""
    kv = KvCache(capacity, ttl=None if ttl == math.inf else ttl)
    for now, _, blocks in visits:
        path = tuple((block, 1) for block in blocks[: int(min(len(blocks), capacity))])
        lease = kv.open(path, now, len(path))
        assert kv.grow(lease, len(path) - lease.shared, now)
        kv.commit(lease, path, now)
        kv.close(lease, now)
    return kv.found[0]


# Few names, so that requests share beginnings, and the same names behind other beginnings.
requests = st.lists(st.tuples(st.integers(0, 3), st.lists(st.integers(0, 2), max_size=6)), max_size=30)


@given(requests)
def test_one_pass_finds_what_a_cache_of_each_size_and_time_to_live_finds(gaps: list[tuple[int, list[int]]]) -> None:
    """Whatever the sizes and lives, even when a request is larger than the cache, and when many come at one time."""
    visits: list[Visit] = []
    for gap, blocks in gaps:
        visits.append((float(gap) + (visits[-1][0] if visits else 0.0), 4.0 * len(blocks), blocks))
    study = reuse(visits, 4)
    for capacity in (1, 2, 3, 5, 8, 13, math.inf):
        for ttl in (1.0, 2.0, 5.0, math.inf):
            assert study.found(capacity, ttl).blocks == found_by_a_cache(visits, capacity, ttl)
    assert study.asked == sum(len(blocks) for _, _, blocks in visits)
    assert study.distinct == len({tuple(row[: end + 1]) for _, _, row in visits for end in range(len(row))})


def test_shares_are_weighted_by_tokens_blocks_and_requests() -> None:
    """By hand: the second request finds both its blocks, one of 100 tokens; the third one of two; the fourth has none."""
    visits = [(0.0, 612.0, "ab"), (1.0, 612.0, "ab"), (5.0, 1024.0, "ac"), (6.0, 0.0, "")]
    study = reuse(visits, 512)
    assert study.found() == Found(3, 612.0 + 512.0, 2, (0.0 + 1.0 + 0.5) / 3)
    assert study.found(capacity=1) == Found(2, 1024.0, 2, (512 / 612 + 0.5) / 3)
    assert study.found(ttl=4.0) == Found(2, 612.0, 1, 1 / 3)
    assert study.found(ttl=1.0) == Found(0, 0.0, 0, 0.0)


def test_requests_that_go_back_in_time_are_refused() -> None:
    """Nothing can be said of a time to live there."""
    with pytest.raises(ValueError, match=r"times must not fall, but request 2 comes 3 s before the one in front of it"):
        reuse([(4.0, 4.0, "a"), (1.0, 4.0, "a")], 4)


@shared
def test_the_command_finds_what_the_conversations_are_known_to_repeat(call: Call) -> None:
    """105,710 of 288,500 blocks without limits, and less with each; all formats tell the same.

    Source: the README of the data, which gives the figure for this trace of Mooncake.
    """
    arguments = ("profile", "cache", MOONCAKE, "--capacity", "1k, 20k,40 GB,inf", "--ttl", "1min,inf", "--shape")
    table = call(*arguments, "llama-3.1-8b")
    assert table.code == 0
    assert "An infinite cache finds 105,710 of 288,500 blocks (36.6 %)" in table.out
    data = json.loads(call(*arguments, "llama-3.1-8b", "--format", "json").out)
    found = {(row["capacity"], row["ttl"]): row["found"] for row in data["rows"]}
    assert found[None, None] == data["infinite"]["found"] == 105_710
    assert (found[1_000, None], found[20_000, None]) == (12_847, 83_035)  # tests/test_prefix_traces.py counts these
    assert [size for size, ttl in found if ttl is None] == [1_000, 20_000, 596, None]  # of 67.1 MB
    assert all(found[size, 60] < found[size, None] for size in (20_000, None))
    rows = list(csv.DictReader(call(*arguments, "llama-3.1-8b", "--format", "csv").out.splitlines()))
    assert [int(row["found"]) for row in rows] == [row["found"] for row in data["rows"]]
    nearly = call("profile", "cache", MOONCAKE, "--capacity", str(data["nearly"]["capacity"]), "--format", "json").out
    assert 0.95 <= json.loads(nearly)["rows"][-1]["found"] / 105_710 < 0.951


def test_the_command_refuses_what_it_cannot_read(call: Call, tmp_path: Path) -> None:
    """Sizes without a model, sizes and times that are none, a missing column, ids that are none: each is named."""
    file = tmp_path / "rows.csv"
    file.write_text("t,input_tokens,ids\n0,600,1 2\n1,600,1 x\n2,600,1\n")
    for arguments, message in (
        (("--capacity", "40 GB"), "say by --shape of which model"),
        (("--capacity", "1 kB", "--shape", "llama-3.1-8b"), "must hold a block at least; got `1 kB`"),
        (("--capacity", "many"), "many"),
        (("--ttl", "0 s"), "must be a duration > 0"),
        (("--shape", "llama"), "no shape is called"),
        (("--unit", "min"), "must be one of s, ms, us, ns"),
        ((), "has no column `hash_ids`; it has `t`, `input_tokens`, `ids`"),
        (("--blocks", "ids"), "3 `ids` must hold whole numbers; got 'x'"),
        (("--blocks", "ids"), "4 `ids` has 1 block, and 600 tokens are 2 of 512"),
    ):
        refused = call("profile", "cache", file, *arguments)
        assert refused.code != 0
        assert message in " ".join(refused.err.replace("│", " ").split())
    file.write_text("t,input_tokens,ids\n0,600,1 2\n1,600,1 2\n")
    assert "Times are taken to be in seconds" in call("profile", "cache", file, "--blocks", "ids").out
    file.write_text("t,input_tokens,ids\n0,0,\n")
    assert "finds 0 of 0 blocks" in call("profile", "cache", file, "--blocks", "ids").out
