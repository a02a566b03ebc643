"""Probes of collectives: NCCL between the CUDA devices there are, gloo between two processes on the CPU.

Before each call the ranks meet at a barrier; then the operation is timed alone. A send is half of there and back. The
group starts when the first case is made ready, serves all cases, and ends with this process.

Leaves out: several machines; whether devices that reach each other's memory do so over NVLink or PCIe: they are
taken to have NVLink.
Checked: tests/test_kernel_probes.py.
"""

import atexit
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import IO, Any

import torch
import torch.distributed as dist

from ..probe import Call, Found
from . import rank as ranks_module
from .common import Numbers, Place, missing, probe

__all__ = ["Group", "close", "found"]

OPERATIONS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_recv")
CPU_BYTES = (1024, 8192, 40_000, 262_144, 1_000_000, 4_194_304, 12_000_000)
CUDA_BYTES = tuple(int(2**power * (1.5 if power % 4 == 2 else 1)) for power in range(10, 29, 2))
LOOPBACK = {"linux": "lo", "darwin": "lo0"}
PATIENCE = 5.0  # seconds for a rank to end by itself


def found(place: Place) -> Found:
    """Return the probes of collectives, by ranks; on one CUDA device there are none."""
    if not dist.is_available():
        return Found((), tuple(missing(op, {}, "this torch is built without `torch.distributed`") for op in OPERATIONS))
    if place.cuda and place.count < 2:
        return Found((), tuple(missing(op, {}, f"there is one device; {op} needs two") for op in OPERATIONS))
    world = place.count if place.cuda else 2
    via = _via(place)
    counts = sorted({2**power for power in range(1, world.bit_length()) if 2**power <= world} | {world})
    sizes = [{"bytes": size // (4 * world) * 4 * world} for size in place.pick(CPU_BYTES, CUDA_BYTES)]
    return Found(
        tuple(
            probe(place, op, {"ranks": str(count), "via": via}, sizes, partial(_ready, op, count, world, place), "host")
            for op in OPERATIONS
            for count in (counts if op != "send_recv" else [2])
        )
    )


def _via(place: Place) -> str:
    if not place.cuda:
        return "host"
    return "nvlink" if torch.cuda.can_device_access_peer(0, 1) else "pcie"


class Group:
    """The ranks of one machine: the process that makes the group is rank 0; the others end when it does."""

    def __init__(self, world: int, backend: str) -> None:
        self.device = "cuda:0" if backend == "nccl" else "cpu"
        self.peers: list[subprocess.Popen[str]] = []
        self.logs: list[IO[str]] = []
        store = ranks_module.open_store(0, world, True)
        with _on_loopback():
            try:
                # `-P`: the folder of the file is not searched for modules.
                command = [sys.executable, "-P", ranks_module.__file__, str(store.port)]
                for rank in range(1, world):
                    arguments = [*command, str(rank), str(world), backend]
                    self.logs.append(tempfile.TemporaryFile("w+"))  # noqa: SIM115  # `close` closes it
                    self.peers.append(_start(arguments, self.logs[-1]))
                self.groups = ranks_module.join(store, 0, world, backend)
            except BaseException:
                self.close()
                raise

    def tell(self, line: str) -> None:
        """Send a line to each other rank. Raises RuntimeError where one has ended."""
        for rank, peer in enumerate(self.peers, 1):
            try:
                peer.stdin.write(line + "\n")  # type: ignore[union-attr]  # it has a pipe
                peer.stdin.flush()  # type: ignore[union-attr]
            except OSError:
                log = self.logs[rank - 1]
                log.seek(0)
                said = log.read().strip().rpartition("\n")[2]
                raise RuntimeError(f"rank {rank} has ended, with status {peer.wait(PATIENCE)} {said}".strip()) from None

    def close(self) -> None:
        """End the other ranks: by closing their input, then, to those that stay, by force."""
        for peer in self.peers:
            with suppress(OSError):  # it may have gone already
                peer.stdin.close()  # type: ignore[union-attr]
        if dist.is_initialized():
            dist.destroy_process_group()
        for peer in self.peers:
            try:
                peer.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                peer.kill()
                peer.wait()
        for log in self.logs:
            log.close()
        self.peers, self.logs = [], []


def _start(arguments: list[str], log: IO[str]) -> subprocess.Popen[str]:
    """Start a rank, in a session of its own: an interrupt at the terminal reaches this process, which then ends it.

    What it says goes to a file: a pipe that nobody reads would block a rank that warns much.
    """
    return subprocess.Popen(
        arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=log,
        text=True,
        start_new_session=True,
    )


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Have gloo use the loopback interface, unless the user has said which."""
    name, loopback = "GLOO_SOCKET_IFNAME", LOOPBACK.get(sys.platform)
    if name in os.environ or loopback is None:
        yield
        return
    os.environ[name] = loopback
    try:
        yield
    finally:
        del os.environ[name]


_open: dict[tuple[int, str], Group] = {}


def _group(world: int, backend: str) -> Group:
    """Return the group, started at its first use, and again where a rank of it has ended."""
    group = _open.get((world, backend))
    if group is None or any(peer.poll() is not None for peer in group.peers):
        close()
        _open[world, backend] = Group(world, backend)
    return _open[world, backend]


@atexit.register
def close() -> None:
    """End the group, if one is open; the next case starts another."""
    while _open:
        _open.popitem()[1].close()


def _ready(op: str, ranks: int, world: int, place: Place, s: Numbers) -> Call:
    group = _group(world, place.pick("gloo", "nccl"))
    group.tell(f"{op} {s['bytes']} {ranks}")
    some = group.groups[ranks]
    run = ranks_module.operation(op, s["bytes"], 0, ranks, some, group.device)
    timed, share = (_by_events if place.cuda else _by_clock), ranks_module.SHARE.get(op, 1.0)

    def call(_turn: int) -> float:
        group.tell("go")
        dist.barrier(group=some)
        return timed(run) * share

    return call


def _by_clock(run: Callable[[], Any]) -> float:
    start = time.perf_counter_ns()
    run()
    return (time.perf_counter_ns() - start) * 1e-9


def _by_events(run: Callable[[], Any]) -> float:
    event: Any = torch.cuda.Event
    start, end = event(enable_timing=True), event(enable_timing=True)
    start.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) * 1e-3
