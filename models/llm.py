"""A language model that we serve: replicas behind one queue, with a law in tokens.

A call takes (overhead + prefill of the tokens not in the cache + decode of the output) / speed on one of
replicas x concurrency slots, first come first served.

Leaves out: batching, paged memory, eviction (an iteration-level server is another kind).
Checked: tests/test_llm.py; tests/test_theory.py (Erlang, Pollaczek and Khinchine, Jackson, mean value analysis).
"""

from typing import Literal

from ..sim.engine.distributions import DurationDist
from ..sim.engine.spec import Count, Factor, Name, PositiveCount, Share, Spec, TimePerToken
from .serializer import Law
from .service import ZERO_TIME


class Llm(Spec):
    """A served model.

    `prefill` is per token that is not cached, `decode` per output token, `tokenize` per token of text received.
    `prefix_cache` is the share of a prompt sent before that is still found in the server's cache when the runtime
    discards KV between calls. `restore` is the law, in bytes of session state, of a server that is sent only the delta.
    """

    kind: Literal["llm"]
    node: Name | None = None
    replicas: PositiveCount = 1
    concurrency: PositiveCount = 1
    queue_limit: Count | None = None
    overhead: DurationDist = ZERO_TIME
    prefill: TimePerToken = 0.0
    decode: TimePerToken = 0.0
    tokenize: TimePerToken = 0.0
    speed: Factor = 1.0
    prefix_cache: Share = 0.0
    restore: Law = Law()
