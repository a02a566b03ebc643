"""A server of the system: a process that answers `POST /` over HTTP, with one event loop, until its standard input closes.

It says in one line on which port of the loopback it listens. What it does with a request is an asynchronous function from the decoded
request to a `Done`; `POST /settings` replaces what it may be told at the beginning of a run.

Leaves out: authentication: it listens on the loopback alone.
Checked: tests/test_validation_system.py.
"""

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from aiohttp import web

from .lines import say
from .wire import CODECS, STAMPS, Codec, Stamps

__all__ = ["Done", "serve"]

_LARGEST = 64 << 20  # bytes of a request


class Done(NamedTuple):
    """An answer, when the work for it began and ended (s), its CPU time (s), the core that it began on, and the HTTP status."""

    answer: Any
    started: float
    ended: float
    work: float
    core: float
    status: int = 200


Handler = Callable[[Any], Awaitable[Done]]


class Server:
    """Requests in, answers out."""

    def __init__(self, handle: Handler, settings: Callable[[dict[str, Any]], None]) -> None:
        self.handle = handle
        self.settings = settings
        self.codecs: dict[str, Codec] = {name: make() for name, make in CODECS.items()}

    async def answer(self, request: web.Request) -> web.Response:
        """Answer a request, with its stamps."""
        taken = time.perf_counter()
        body = await request.read()
        read = time.perf_counter()
        codec = self.codecs[request.headers["Content-Type"].removeprefix("application/")]
        asked = codec.decode(body)
        decoded = time.perf_counter()
        done = await self.handle(asked)
        back = time.perf_counter()
        data = codec.encode(done.answer)
        encoded = time.perf_counter()
        stamps = Stamps(taken, read, decoded, done.started, done.ended, back, encoded, done.work, done.core)
        return web.Response(body=data, status=done.status, headers={STAMPS: stamps.header()})

    async def set(self, request: web.Request) -> web.Response:
        """Take over settings."""
        self.settings(await request.json())
        return web.Response()


def serve(handle: Handler, settings: Callable[[dict[str, Any]], None] = lambda _given: None) -> None:
    """Answer requests until the standard input closes."""
    server = Server(handle, settings)

    async def run() -> None:
        app = web.Application(client_max_size=_LARGEST)
        app.router.add_post("/", server.answer)
        app.router.add_post("/settings", server.set)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        threading.Thread(target=_end_with_input, daemon=True).start()
        say(port)
        await asyncio.Event().wait()

    asyncio.run(run())


def _end_with_input() -> None:
    while os.read(0, 1):
        pass
    os._exit(0)
