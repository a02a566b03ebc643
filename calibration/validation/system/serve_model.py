"""The inference server: first come, first served, by one or two worker threads; `python -m ... DEVICE`.

A request is the state of a task; its work is a block of a transformer over the tokens of the state.

Leaves out: batching; a cache of prefixes: every call computes its whole prompt.
Checked: tests/test_validation_system.py.
"""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .models import block
from .server import Done, serve
from .terms import TOKEN
from .wire import text

__all__ = ["main"]

MOST_WORKERS = 2


def main(device: str) -> None:
    """Serve until the standard input closes."""
    run = block(device)
    pools = {count: ThreadPoolExecutor(count) for count in range(1, MOST_WORKERS + 1)}
    workers = 1

    def settings(given: dict[str, Any]) -> None:
        nonlocal workers
        workers = given.get("workers", workers)

    async def handle(asked: dict[str, Any]) -> Done:
        tokens = sum(len(message["content"]) for message in asked["messages"]) // TOKEN
        worked = await asyncio.get_running_loop().run_in_executor(pools[workers], run, tokens)
        answer = {"role": "assistant", "content": text(asked["output"], tokens)}
        return Done(answer, worked.started, worked.ended, worked.cpu, worked.core)

    for pool in pools.values():
        for _ in range(3):
            pool.submit(run, 256).result()
    serve(handle, settings)


if __name__ == "__main__":
    main(sys.argv[1])
