"""Crossing a boundary: a message of `bytes` goes out, the number of bytes that the other side saw comes back.

Calls are paced: between two of them the caller rests, as a program does that has other work. Threads and peers then
sleep and must be woken, which a tight loop hides. With `load=busy` every core has a busy process while the message
crosses; `call` and `asyncio` have no such law, as nothing in them waits for a core (`co_run` says what they suffer).

Leaves out: encoding of the message; TLS; another machine, so that loopback stands for no network; frameworks around HTTP.
`call` and `asyncio` pass the message by reference, `thread` too.
Checked: tests/test_coordination_probes.py.
"""

import asyncio
import http.client
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from queue import Queue

from ..probe import Call, Case, Found, Probe
from .payload import copies, message
from .servers import Shared, Spinners, cores, peer

__all__ = ["BOUNDARIES", "PACE", "Exchange", "probes"]

PACE = 1.5e-3  # seconds of rest: long enough for threads and cores to go to sleep
SIZES = (64, 256, 1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20)  # bytes
LOADED = ("thread", "pipe", "unix", "tcp", "http")

Exchange = Callable[[bytes], tuple[int, float]]
"""Send a message; return how many bytes the other side saw, and the seconds from sending to answer."""


def probes() -> Found:
    """Return the probes of `cross`, idle and busy."""
    idle = [_probe(via, {"via": via}, nullcontext) for via in BOUNDARIES]
    spinners = Shared(partial(Spinners.open, cores()))
    busy = [_probe(via, {"via": via, "load": "busy"}, partial(_all_busy, spinners)) for via in LOADED]
    return Found((*idle, *busy))


Load = Callable[[], AbstractContextManager[Callable[[], AbstractContextManager[None]] | None]]


def _probe(via: str, options: dict[str, str], load: Load) -> Probe:
    boundary = Shared(BOUNDARIES[via])
    cases = tuple(Case("cross", options, {"bytes": float(size)}) for size in SIZES)
    return Probe("cross", options, cases, partial(_crossing, boundary, load), pace=PACE)


@contextmanager
def _all_busy(spinners: Shared[Spinners]) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Yield what makes every core busy for as long as it is entered."""
    with spinners.use() as started:
        yield partial(started.busy, cores())


@contextmanager
def _crossing(boundary: Shared[Exchange], load: Load, case: Case) -> Iterator[Call]:
    size = int(case.sizes["bytes"])
    messages = [message(size, copy) for copy in range(copies(size))]
    with boundary.use() as exchange, load() as busy:

        def call(turn: int) -> float:
            with busy() if busy else nullcontext():
                seen, seconds = exchange(messages[turn % len(messages)])
            if seen != size:
                raise RuntimeError(f"{case.name}: the other side saw {seen} bytes")
            return seconds

        yield call


def _timed(send: Callable[[bytes], int]) -> Exchange:
    """Return `send` with a clock around it."""

    def exchange(data: bytes) -> tuple[int, float]:
        start = time.perf_counter()
        seen = send(data)
        return seen, time.perf_counter() - start

    return exchange


@contextmanager
def by_call() -> Iterator[Exchange]:
    """Call a function."""

    def callee(data: bytes) -> int:
        return len(data)

    yield _timed(callee)


@contextmanager
def by_asyncio() -> Iterator[Exchange]:
    """Pass the message to another task of the event loop by a queue, and the answer back by another."""
    requests: asyncio.Queue[bytes] = asyncio.Queue()
    answers: asyncio.Queue[int] = asyncio.Queue()

    async def serve() -> None:
        while True:
            await answers.put(len(await requests.get()))

    async def start() -> asyncio.Task[None]:
        return asyncio.create_task(serve())

    async def exchange(data: bytes) -> tuple[int, float]:
        begin = time.perf_counter()  # inside the loop: starting and stopping it is no part of the crossing
        await requests.put(data)
        seen = await answers.get()
        return seen, time.perf_counter() - begin

    with asyncio.Runner() as runner:
        _server = runner.run(start())  # kept: the loop holds its tasks weakly
        yield lambda data: runner.run(exchange(data))


@contextmanager
def by_thread() -> Iterator[Exchange]:
    """Hand the message to a thread by a queue, and the answer back by another."""
    requests: Queue[bytes | None] = Queue()
    answers: Queue[int] = Queue()

    def serve() -> None:
        while (data := requests.get()) is not None:
            answers.put(len(data))

    def send(data: bytes) -> int:
        requests.put(data)
        return answers.get()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield _timed(send)
    finally:
        requests.put(None)
        thread.join()


@contextmanager
def by_pipe() -> Iterator[Exchange]:
    """Write to the standard input of a peer process, read its standard output."""
    with peer("pipe") as other:

        def send(data: bytes) -> int:
            other.write(data)
            return _answer(other.read)

        yield _timed(send)


def _answer(read: Callable[[int], bytes]) -> int:
    """Read the eight bytes of an answer."""
    data = b""
    while len(data) < 8:
        part = read(8 - len(data))
        if not part:
            raise RuntimeError("the peer process closed the connection")
        data += part
    return int.from_bytes(data, "big")


@contextmanager
def by_unix() -> Iterator[Exchange]:
    """Send on a Unix socket to a peer process."""
    with tempfile.TemporaryDirectory(prefix="coordsim-") as folder:
        path = str(Path(folder) / "socket")
        with peer("unix", path), socket.socket(socket.AF_UNIX) as line:
            line.connect(path)
            yield _on_socket(line)


@contextmanager
def by_tcp() -> Iterator[Exchange]:
    """Send on a TCP connection of the loopback to a peer process, without Nagle's delay."""
    with peer("tcp") as other, socket.create_connection(("127.0.0.1", int(other.where))) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield _on_socket(line)


def _on_socket(line: socket.socket) -> Exchange:
    def send(data: bytes) -> int:
        line.sendall(data)
        return _answer(line.recv)

    return _timed(send)


def _post(connection: http.client.HTTPConnection, data: bytes) -> int:
    connection.request("POST", "/", data, {"Content-Type": "application/octet-stream"})
    return int(connection.getresponse().read())


@contextmanager
def by_http() -> Iterator[Exchange]:
    """Post to a peer process on a connection that is kept alive."""
    with peer("http") as other:
        connection = http.client.HTTPConnection("127.0.0.1", int(other.where))
        connection.connect()
        try:
            yield _timed(partial(_post, connection))
        finally:
            connection.close()


@contextmanager
def by_http_new() -> Iterator[Exchange]:
    """Post to a peer process on a new connection each time, from connecting to closing."""
    with peer("http") as other:

        def send(data: bytes) -> int:
            connection = http.client.HTTPConnection("127.0.0.1", int(other.where))
            try:
                return _post(connection, data)
            finally:
                connection.close()

        yield _timed(send)


BOUNDARIES: dict[str, Callable[[], AbstractContextManager[Exchange]]] = {
    "call": by_call,
    "asyncio": by_asyncio,
    "thread": by_thread,
    "pipe": by_pipe,
    "unix": by_unix,
    "tcp": by_tcp,
    "http": by_http,
    "http-new": by_http_new,
}
