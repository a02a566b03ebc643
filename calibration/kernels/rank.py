"""One rank of a group of processes: the collective operations, and the program of the ranks that follow.

The first rank is the process that calibrates. Each other one runs this file, reads a line from its standard input for
each thing to do, and ends when that closes, which it does when the first rank ends, however it ends.

Leaves out: several machines.
Checked: tests/test_kernel_probes.py.
"""

import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

__all__ = ["SHARE", "TIMEOUT", "join", "open_store", "operation"]

TIMEOUT = timedelta(seconds=60)
SHARE = {"send_recv": 0.5}  # of what is timed: a buffer goes there and back


def join(store: Any, rank: int, world: int, backend: str) -> dict[int, Any]:
    """Join the group as `rank`; return the groups of the first 2, 4, ... and all ranks, by their count."""
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=TIMEOUT)
    counts = sorted({2**power for power in range(1, world.bit_length()) if 2**power < world})
    return {count: dist.new_group(list(range(count))) for count in counts} | {world: dist.group.WORLD}


def _named(*names: str) -> Any:
    """Return the function of torch.distributed that the first known name has: newer torch renames some."""
    return next(getattr(dist, name) for name in names if hasattr(dist, name))


def open_store(port: int, world: int, first: bool) -> Any:
    """Return the store through which ranks find each other, on this machine; at port 0 the first one chooses a port."""
    return _named("TCPStore")("127.0.0.1", port, world, first, timeout=TIMEOUT, wait_for_workers=False)


def operation(op: str, size: int, rank: int, ranks: int, group: Any, device: str) -> Callable[[], torch.Tensor]:
    """Return the operation over a buffer of `size` bytes of each rank, ready to be called; a call returns its result.

    The buffers hold the rank, at first. Summed again and again they grow to infinity, which takes no longer to add.
    """
    count = size // 4
    buffer = torch.full((count,), float(rank), device=device)
    if op == "all_reduce":
        return _into(buffer, lambda: dist.all_reduce(buffer, group=group))
    if op == "all_gather":
        whole, gather = torch.empty(count * ranks, device=device), _named("all_gather_single", "all_gather_into_tensor")
        return _into(whole, lambda: gather(whole, buffer, group=group))
    if op == "reduce_scatter":
        part, scatter = (
            torch.empty(count // ranks, device=device),
            _named("reduce_scatter_single", "reduce_scatter_tensor"),
        )
        return _into(part, lambda: scatter(part, buffer, group=group))
    if op == "all_to_all":
        received = torch.empty(count, device=device)
        return _into(received, lambda: dist.all_to_all_single(received, buffer, group=group))
    return _into(buffer, _there_and_back(buffer, rank, group))


def _into(result: torch.Tensor, run: Callable[[], object]) -> Callable[[], torch.Tensor]:
    def call() -> torch.Tensor:
        run()
        return result

    return call


def _there_and_back(buffer: torch.Tensor, rank: int, group: Any) -> Callable[[], None]:
    first, second = (dist.send, dist.recv) if rank == 0 else (dist.recv, dist.send)

    def run() -> None:
        first(buffer, 1 - rank, group=group)
        second(buffer, 1 - rank, group=group)

    return run


def follow(rank: int, device: str, groups: dict[int, Any], lines: Any) -> None:
    """Do what each line says: `all_reduce 1024 2` makes an operation ready, `go` does it once, after a barrier."""
    run: Callable[[], object] | None = None
    group: Any = None
    for line in lines:
        if line.strip() == "go":
            if run is not None:
                dist.barrier(group=group)
                run()
            continue
        op, size, ranks = line.split()
        group = groups[int(ranks)]
        run = operation(op, int(size), rank, int(ranks), group, device) if rank < int(ranks) else None


def main(port: int, rank: int, world: int, backend: str) -> None:
    """Be a rank until the standard input closes."""
    torch.set_num_threads(1)
    device = f"cuda:{rank}" if backend == "nccl" else "cpu"
    if backend == "nccl":
        torch.cuda.set_device(rank)
    groups = join(open_store(port, world, False), rank, world, backend)
    with torch.inference_mode():
        follow(rank, device, groups, sys.stdin)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
