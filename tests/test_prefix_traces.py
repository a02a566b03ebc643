"""The prefix cache on recorded workloads: conversations with hashed blocks, and coding agents without.

The agents' requests (28k of 436 runs) carry no hashes, only how many blocks of 64 tokens were in the prefix cache and how
many were new. What is input, and what is prediction:

- Input to the prediction: of each request its agent, time, length, and the lengths of the run's system prompt and tool
  definitions. A request repeats the whole request before it of the same (trace, agent) and appends to it; if it is
  shorter, the context was compacted, and a main agent keeps only system prompt and tools, a sub-agent nothing. Predicted
  is the hit; recorded hits are only compared.
- The recorded cache shows no time to live: of requests 5 minutes to an hour and more than an hour after the one before,
  most still find all of it, and what they miss they would miss in any cache, for their context was edited. So the
  prediction runs without one; that is tested too.
- For shorter times to live, the recorded hit of each row says how much of the request before it repeats: an input. With
  no limit the cache then finds the recorded hits by construction; what it finds with a limit is a prediction, compared
  with a count over the gaps alone. No provider's records with such a limit are among the data.
- For a memory that all runs share, a clock must be chosen, as the records tell times within a run only. Request by request
  the cache is compared with a list of single blocks.
"""

import gzip
import json
import math
from collections import OrderedDict, deque
from functools import cache
from itertools import pairwise
from pathlib import Path as File
from typing import Any

import numpy as np
import pytest

from coordsim.models.serving.kv_cache import KvCache, Lease, Path

DATA = File(__file__).parents[1].parent / "shared" / "data"
CONVERSATION = DATA / "workloads" / "mooncake_conversation.jsonl.gz"
AGENTS = DATA / "agent_runs"

pytestmark = pytest.mark.skipif(not DATA.exists(), reason="the recorded workloads of shared/data are not here")


@cache
def conversation() -> list[list[int]]:
    """Return the ids of the blocks of each request, in order of arrival."""
    with gzip.open(CONVERSATION, "rt") as lines:
        return [json.loads(line)["hash_ids"] for line in lines]


def serve(kv: KvCache, path: Path, now: float) -> Lease:
    """Let a request find and fill its whole path; the lease stays open."""
    blocks = sum(length for _, length in path)
    lease = kv.open(path, now, blocks)
    assert kv.grow(lease, blocks - lease.shared, now)
    kv.commit(lease, path, now)
    return lease


def found(blocks: float) -> int:
    """Return how many blocks of the conversations a cache of that size finds."""
    kv = KvCache(blocks)
    for now, request in enumerate(conversation()):
        kv.close(serve(kv, tuple((block, 1) for block in request), now), now)
    kv.check([])
    assert kv.asked == 288_500
    return kv.found[0]


def found_one_by_one(size: int) -> int:
    """Return what a plain list of the least recently used blocks of that size finds, tails older than heads."""
    order: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for request in conversation():
        hits += sum(1 for block in request if block in order)
        for block in reversed(request):
            order[block] = None
            order.move_to_end(block)
        while len(order) > size:
            order.popitem(last=False)
    return hits


def test_an_infinite_cache_finds_the_known_blocks_of_the_conversations() -> None:
    """Inserted at lookup, partial last blocks counted, 105,710 of 288,500 blocks are found.

    Source: the README of the data, which gives the figure for this trace of Mooncake.
    """
    assert found(math.inf) == 105_710


@pytest.mark.parametrize("size", [1_000, 20_000])
def test_a_full_cache_finds_what_a_list_of_blocks_finds(size: int) -> None:
    """At a capacity that evicts all the time, hits equal those of a list of single blocks in order of use."""
    hits = found(size)
    assert hits == found_one_by_one(size)
    assert 0 < hits < 105_710


@cache
def agents() -> Any:
    """Return the agents' requests as a table, with the run's constant part (blocks) and the blocks of the request before."""
    import pandas as pd

    rows = pd.read_csv(
        AGENTS / "cc_weka_requests.csv.gz",
        usecols=["trace", "agent", "idx", "t", "new_blocks_x64", "prefix_hit_x64", "api_time"],
    )
    runs = pd.read_csv(AGENTS / "cc_weka_traces.csv").set_index("trace")
    rows["hit"] = rows.prefix_hit_x64
    rows["blocks"] = rows.new_blocks_x64 + rows.hit
    rows["constant"] = rows.trace.map((runs.tool_tokens + runs.system_tokens) // 64)
    rows.loc[rows.agent != "main", "constant"] = 0
    chains = rows.groupby(["trace", "agent"], sort=False)
    assert (chains.idx.diff().dropna() == 1).all()
    rows["before"] = chains.blocks.shift(1)
    rows["end"] = rows.t + rows.api_time.fillna(0.0)
    rows["chain"] = chains.ngroup()
    return rows


def paths(rows: Any, shared: Any) -> list[Path]:
    """Return each request's content: the first `shared` blocks of the request before it in its chain, then new ones."""
    result: list[Path] = []
    last: dict[int, Path] = {}
    for row, (chain, blocks, keep) in enumerate(zip(rows.chain, rows.blocks, shared, strict=True)):
        last[chain] = follow(last.get(chain, ()), int(keep) if chain in last else 0, row, int(blocks))
        result.append(last[chain])
    return result


def follow(path: Path, keep: int, row: int, blocks: int) -> Path:
    """Return the first `keep` blocks of a path, and new ones behind them: of its last segment, if nothing was cut off."""
    kept, left = [], keep
    for key, length in path:
        if left > 0:
            kept.append((key, min(length, left)))
        left -= length
    if left == 0 and kept:
        key, length = kept.pop()
        return (*kept, (key, length + blocks - keep))
    # An empty segment's name stands for the turn even if nothing was added yet, so that what comes later is new content.
    return (*kept, (row, blocks - keep))


def events(rows: Any) -> list[tuple[bool, int, float]]:
    """Return (whether it begins, row, time) of each request's begin and end, in order; at one time what ends goes first."""
    found = []
    for row, (begin, end) in enumerate(zip(rows.t.tolist(), rows.end.tolist(), strict=True)):
        found += [(begin, 1, row), (end, 0 if end > begin else 2, row)]
    return [(kind == 1, row, time) for time, kind, row in sorted(found)]


def replay(rows: Any, contents: list[Path], kv: KvCache) -> np.ndarray[Any, Any]:
    """Return the hit of each request: looked up and filled when it begins, held while the call lasts."""
    hits = np.zeros(len(rows), dtype=int)
    leases: dict[int, Lease] = {}
    for begins, row, now in events(rows):
        if begins:
            leases[row] = serve(kv, contents[row], now)
            hits[row] = leases[row].hit
        else:
            kv.close(leases.pop(row), now)
    kv.check([])
    return hits


@cache
def predicted() -> list[Path]:
    """Return contents from lengths alone: a request repeats the one before it, or after a compaction its constant part."""
    rows = agents()
    compacted = rows.blocks < rows.before
    return paths(rows, np.where(compacted, np.minimum(rows.constant, rows.blocks), rows.before))


@cache
def recorded() -> list[Path]:
    """Return contents that repeat as much of the request before as the recorded hit says."""
    return paths(agents(), agents().hit)


def test_hits_follow_from_the_lengths_of_requests() -> None:
    """Of the requests with one before, 93 % hit exactly what was predicted, and the share of blocks found is within 1 %.

    A prediction that is off misses a context edited while it grew: where one edit is of one block, as in two thirds of
    them, it costs nothing; 0.6 % of all blocks lie behind the edits. The tolerance of 1 % is that, rounded up.
    """
    rows = agents()
    hits = replay(rows, predicted(), KvCache(math.inf))
    later = rows.before.notna().to_numpy()
    exact = float(np.mean((hits == rows.hit.to_numpy())[later]))
    assert exact == pytest.approx(0.93, abs=0.01)
    assert hits.sum() / rows.blocks.sum() == pytest.approx(rows.hit.sum() / rows.blocks.sum(), rel=0.01)


def test_the_recorded_cache_shows_no_time_to_live() -> None:
    """Requests long after the one before still find it: past five minutes 78 % find all of it, past an hour over half.

    A limit of five minutes, or of an hour, would leave them nothing.
    """
    rows = agents()
    gap = rows.t - rows.end.groupby(rows.chain, sort=False).shift(1)
    for limit, least in ((300.0, 0.7), (3600.0, 0.5)):
        late = rows[gap >= limit]
        assert len(late) >= 90
        assert np.mean(late.hit == late.before) > least


TTLS = (math.inf, 3600.0, 300.0, 60.0, 10.0)


def test_hits_fall_with_a_shorter_time_to_live_as_the_gaps_say() -> None:
    """With each limit the cache finds the recorded hits of just those requests whose predecessor ended less long ago.

    With no limit these are all, so that every recorded hit is found again.
    """
    rows = agents()
    gap = (rows.t - rows.end.groupby(rows.chain, sort=False).shift(1)).to_numpy()
    shares = []
    for ttl in TTLS:
        hits = replay(rows, recorded(), KvCache(math.inf, ttl=None if ttl == math.inf else ttl))
        expected = np.where(gap < ttl, rows.hit.to_numpy(), 0)
        assert np.array_equal(hits, expected)
        shares.append(hits.sum() / rows.blocks.sum())
    assert shares[0] == rows.hit.sum() / rows.blocks.sum()
    assert all(longer > shorter for longer, shorter in pairwise(shares))


@cache
def staggered() -> Any:
    """Return the agents' requests on one clock: the runs, in the order of the file, start evenly over a day, 198 s apart.

    The records tell times within a run only. Runs last 2.4 h in the mean, so that by Little's law 43 of them are under way
    in the long run. The longest goes on for days; while runs start, there are a dozen at first and fifty in the end.
    """
    rows = agents().copy()
    first = ~rows.trace.duplicated()
    starts = rows.trace.map(dict(zip(rows.trace[first], np.linspace(0.0, 86_400.0, first.sum()), strict=True)))
    rows["t"] += starts
    rows["end"] += starts
    return rows


def found_block_by_block(rows: Any, size: int) -> np.ndarray[Any, Any]:
    """Return the hit of each request in a plain list of at most `size` single blocks in order of use, and of no tree.

    A block that no call holds goes when room is needed: that used longest ago, and of one request's the last.
    """
    hits = np.zeros(len(rows), dtype=int)
    blocks, keeps, chains = rows.blocks.tolist(), rows.hit.tolist(), rows.chain.tolist()
    here = np.zeros(int(rows.blocks.sum() - rows.hit.sum()), dtype=bool)
    holders, used = np.zeros(len(here), dtype=np.int16), np.zeros(len(here), dtype=np.int32)
    # Blocks let go at once, under a number: out of date for those let go again since.
    unheld: deque[tuple[int, Any]] = deque()
    content: dict[int, Any] = {}
    last: dict[int, Any] = {}
    nothing = np.zeros(0, dtype=np.intp)
    named, number, free = 0, 0, size
    for begins, row, _ in events(rows):
        if begins:
            new = blocks[row] - keeps[row]
            ids = np.append(last.get(chains[row], nothing)[: keeps[row]], np.arange(named, named + new))
            named += new
            content[row] = last[chains[row]] = ids
            known = here[ids]
            hits[row] = len(ids) if known.all() else int(np.argmin(known))
            missing = ids[~known]
            holders[ids] += 1
            here[missing] = True
            free -= len(missing)
            while free < 0:
                let_go, group = unheld.popleft()
                group = group[(used[group] == let_go) & (holders[group] == 0)]
                here[group[:-free]] = False
                if len(group) > -free:
                    unheld.appendleft((let_go, group[-free:]))
                free = min(0, free + len(group))
        else:
            ids, number = content.pop(row), number + 1
            holders[ids] -= 1
            loose = ids[holders[ids] == 0][::-1]
            used[loose] = number
            unheld.append((number, loose))
    return hits


def test_hits_fall_with_a_smaller_memory() -> None:
    """One memory for all runs finds less the smaller it is: in each request what a list of single blocks finds.

    While nothing is evicted, that is what was recorded. Calls hold up to 41,000 blocks at once, and less would not do. The
    clock is a choice of this test: how much a size finds is no claim about the recorded provider.
    """
    rows, everything = staggered(), agents().hit.to_numpy()
    needed = int(rows.new_blocks_x64.sum())
    found = []
    for size in (needed, needed // 16, needed // 35):
        kv = KvCache(size)
        hits = replay(rows, recorded(), kv)
        assert (kv.evicted == 0) == (size == needed)
        assert np.array_equal(hits, everything if size == needed else found_block_by_block(rows, size))
        assert (hits <= everything).all()
        found.append(int(hits.sum()))
    assert all(larger > smaller for larger, smaller in pairwise(found))
