"""The orchestrator of the system: one event loop that takes tasks through their steps, and writes down where their time goes.

It is told what to do by a line of JSON on its standard input, and answers by one on its standard output; it ends when the input closes. A
task's step is a call of the model with the whole state, calls of all modality workers at once, which meet at a barrier, and a call of
a tool, with a timeout, retries and backoff. State grows by what the model and the tool answer.

A call's spans are those that both of its ends have stamped. Times are of the machine's monotonic clock (s).

Leaves out: what a task is about.
Checked: tests/test_validation_system.py.
"""

import asyncio
import base64
import copy
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from .lines import say
from .terms import BACKOFF, IMAGE, MODEL, OUTPUT, PATCHES, PROMPT, TIMEOUT, TOOLS, TRIES, media
from .wire import CODECS, STAMPS, Codec, Stamps, text

__all__ = ["main"]

_RESULT = 12  # tokens that a tool answers where nothing else is said
_PLAN = {f"option {number}": (TOOLS[number % 3], 1 / (1 + number)) for number in range(12)}

Entry = list[Any]  # lane, category, component, name, start, end


class Orchestrator:
    """Calls the servers, whose addresses are given by name."""

    def __init__(self, session: aiohttp.ClientSession, urls: dict[str, str]) -> None:
        self.session = session
        self.urls = urls
        self.codecs: dict[str, Codec] = {name: make() for name, make in CODECS.items()}
        self.codec = "json"
        self.images = {name: bytes((place * 31 + 7) % 256 for place in range(IMAGE)) for name in urls}

    async def settle(self, given: dict[str, Any]) -> None:
        """Tell all servers how they shall be in the next run."""
        self.codec = given["codec"]
        for url in self.urls.values():
            async with self.session.post(f"{url}settings", json=given) as answered:
                await answered.read()

    async def call(self, name: str, asked: Callable[[], dict[str, Any]]) -> "Call":
        """Call a server with what `asked` makes, and return what was seen of it."""
        codec = self.codecs[self.codec]
        begun = time.perf_counter()
        body = codec.encode(asked())
        sent = time.perf_counter()
        headers = {"Content-Type": f"application/{self.codec}"}
        async with self.session.post(self.urls[name], data=body, headers=headers) as answered:
            data = await answered.read()
            there = time.perf_counter()
            answer = codec.decode(data)
        ended = time.perf_counter()
        stamps = Stamps.of(answered.headers[STAMPS])
        return Call(name, begun, sent, there, ended, stamps, len(body), len(data), answer, answered.status == 200)

    def infer(self, messages: list[dict[str, str]]) -> Callable[[], dict[str, Any]]:
        """Return what a call of the model says."""
        return lambda: {"messages": messages, "output": OUTPUT}

    def show(self, name: str) -> Callable[[], dict[str, Any]]:
        """Return what a call of a modality worker says: an image, as text where the codec has no bytes."""

        def asked() -> dict[str, Any]:
            image = self.images[name]
            sent = base64.b64encode(image).decode() if self.codec == "json" else image
            return {"image": sent, "patches": PATCHES}

        return asked

    def plan(self) -> str:
        """Do the orchestrator's own work of a step: weigh a copy of the options."""
        options = copy.deepcopy(_PLAN)
        return max(options, key=lambda name: options[name][1])


@dataclass(frozen=True, slots=True)
class Call:
    """One call as both ends have stamped it: times (s), bytes of request and response, and the answer, which is `good` unless it is an error."""

    name: str
    begun: float
    sent: float
    there: float
    ended: float
    stamps: Stamps
    request: int
    response: int
    answer: Any
    good: bool

    def entries(self, lane: int, work: list[tuple[str, str, float]]) -> list[Entry]:
        """Return its spans; `work` is category, name and share of the server's work, in order."""
        at = self.stamps
        found: list[Entry] = [
            [lane, "serialization", self.name, "encode", self.begun, self.sent],
            [lane, "communication", self.name, "transit", self.sent, at.read],
            [lane, "serialization", self.name, "decode", at.read, at.decoded],
            [lane, "queueing", self.name, "wait", at.decoded, at.started],
        ]
        start, whole = at.started, at.ended - at.started
        for category, name, share in work:
            end = start + share * whole
            found.append([lane, category, self.name, name, start, end])
            start = end
        found[-1][5] = at.ended
        return [
            *found,
            [lane, "communication", self.name, "hand back", at.ended, at.back],
            [lane, "serialization", self.name, "encode", at.back, at.encoded],
            [lane, "communication", self.name, "transit", at.encoded, self.there],
            [lane, "serialization", self.name, "decode", self.there, self.ended],
        ]

    def record(self, **more: Any) -> dict[str, Any]:
        """Return it as a row of a calibration."""
        return {
            "name": self.name, "begun": self.begun, "sent": self.sent, "there": self.there, "ended": self.ended,
            "stamps": list(self.stamps), "request": self.request, "response": self.response, **more,
        }  # fmt: skip


class TaskRun:
    """A task on its way: its state and its spans."""

    def __init__(self, system: Orchestrator, index: int, arrival: float, asked: dict[str, Any]) -> None:
        self.system, self.index, self.arrival, self.asked = system, index, arrival, asked
        self.messages = [{"role": "user", "content": text(PROMPT, index)}]
        self.tokens, self.seen = PROMPT, 0
        self.entries: list[Entry] = []
        self.joins: list[
            tuple[float, int, int, int, float]
        ] = []  # fork (s), first and last lane, that which released it, when (s)
        self.lanes = 0
        self.counts = {"calls": 0, "errors": 0, "timeouts": 0, "retries": 0, "given_up": 0}

    async def run(self) -> None:
        """Take all steps."""
        begun = time.perf_counter()
        if begun > self.arrival:
            self.entries.append([0, "queueing", "orchestrator", "wait", self.arrival, begun])
        for step in range(self.asked["steps"]):
            self.dispatch(0)
            await self.think()
            if self.asked["modalities"]:
                await self.perceive()
            self.dispatch(0)
            await self.use(TOOLS[step % len(TOOLS)])

    def dispatch(self, lane: int) -> None:
        """Do the orchestrator's own work."""
        begun = time.perf_counter()
        self.system.plan()
        self.entries.append([lane, "orchestration", "orchestrator", "dispatch", begun, time.perf_counter()])

    async def think(self) -> None:
        """Call the model with the whole state."""
        call = await self.system.call(MODEL, self.system.infer(self.messages))
        carried = self.seen / self.tokens
        work = [("context", "prefill again", carried)] if carried else []
        self.entries += call.entries(0, [*work, ("inference", "chat", 1 - carried)])
        self.counts["calls"] += 1
        self.messages.append(call.answer)
        self.tokens += OUTPUT
        self.seen = self.tokens

    async def perceive(self) -> None:
        """Call all modality workers at once, and wait for the last."""
        first = self.lanes + 1
        self.lanes += self.asked["modalities"]
        lanes = range(first, self.lanes + 1)
        forked = time.perf_counter()
        ends = await asyncio.gather(*(self.look(lane, media(lane - first)) for lane in lanes))
        over = max(ends)
        self.joins.append((forked, first, self.lanes, first + ends.index(over), over))

    async def look(self, lane: int, name: str) -> float:
        """Call one modality worker; return when that was over."""
        self.dispatch(lane)
        call = await self.system.call(name, self.system.show(name))
        self.entries += call.entries(lane, [("inference", "encode", 1.0)])
        self.counts["calls"] += 1
        return call.ended

    async def use(self, name: str) -> None:
        """Call a tool, again where it fails."""
        asked = {"result": self.asked["growth"]}
        for attempt in range(TRIES):
            begun = time.perf_counter()
            if attempt:
                await asyncio.sleep(BACKOFF * 2 ** (attempt - 1))
                self.entries.append([0, "recovery", name, "backoff", begun, time.perf_counter()])
                self.counts["retries"] += 1
                begun = time.perf_counter()
            self.counts["calls"] += 1
            try:
                async with asyncio.timeout(TIMEOUT):
                    call = await self.system.call(name, lambda: asked)
            except TimeoutError:
                self.counts["timeouts"] += 1
                self.entries.append([0, "recovery", name, "timeout", begun, time.perf_counter()])
                continue
            if call.good:
                self.entries += call.entries(0, [("tool", "tool.execute", 1.0)])
                self.messages.append({"role": "tool", "content": call.answer["found"]})
                self.tokens += self.asked["growth"]
                return
            self.counts["errors"] += 1
            self.entries.append([0, "recovery", name, "error", begun, time.perf_counter()])
        self.counts["given_up"] += 1


async def run_tasks(system: Orchestrator, asked: dict[str, Any]) -> dict[str, Any]:
    """Run tasks for so many seconds, and until they have ended; return their spans."""
    tasks: list[TaskRun] = []
    ends: dict[int, float] = {}
    begun = time.perf_counter()
    until = begun + asked["seconds"]

    async def one(arrival: float) -> None:
        task = TaskRun(system, len(tasks), arrival, asked)
        tasks.append(task)
        await task.run()
        ends[task.index] = time.perf_counter()

    async def user() -> None:
        while (now := time.perf_counter()) < until:
            await one(now)

    if asked["users"] is not None:
        await asyncio.gather(*(user() for _ in range(asked["users"])))
    else:
        await _arrivals(one, begun, until, asked)
    return {
        "begun": begun, "ended": time.perf_counter(),
        "tasks": [[task.arrival, ends[task.index], task.entries, task.joins, task.counts] for task in tasks],
    }  # fmt: skip


async def _arrivals(one: Callable[[float], Awaitable[None]], begun: float, until: float, asked: dict[str, Any]) -> None:
    """Let tasks arrive as a Poisson process."""
    gaps, at = random.Random(asked["seed"]), begun
    running: list[asyncio.Future[None]] = []
    while (at := at + gaps.expovariate(asked["rate"])) < until:
        await asyncio.sleep(max(0.0, at - time.perf_counter()))
        running.append(asyncio.ensure_future(one(at)))
    await asyncio.gather(*running)


async def calibrate(system: Orchestrator, asked: dict[str, Any]) -> dict[str, Any]:
    """Make the calls of a plan, with a rest before each; return a row for each call.

    An item is `[model, tokens]`, `[tool]`, `[media, workers]`, `[ping, tokens]`, `[plan]`: made once; with a number before it, so many
    at once.
    """
    rests = random.Random(asked["seed"])
    rows: list[dict[str, Any]] = []
    for item in asked["plan"]:
        if asked["pace"]:
            await asyncio.sleep(asked["pace"] * rests.uniform(0.5, 1.5))
        rows += await _item(system, *item)
    return {"rows": rows}


async def _item(system: Orchestrator, what: str, size: int = 0, at_once: int = 1) -> list[dict[str, Any]]:
    begun, cpu = time.perf_counter(), time.thread_time()
    if what == "plan":
        system.plan()
        return [{"name": "plan", "begun": begun, "ended": time.perf_counter()}]
    if what == "fan":
        calls = [system.call(media(place), system.show(media(place))) for place in range(size)]
    elif what == MODEL:
        calls = [system.call(MODEL, system.infer([{"role": "user", "content": text(size)}])) for _ in range(at_once)]
    elif what.startswith("media"):
        calls = [system.call(what, system.show(what)) for _ in range(at_once)]
    else:
        told = {"result": _RESULT, "safe": True, "pause": 0.0, "sent": text(size)}
        calls = [system.call(what, lambda: told) for _ in range(at_once)]
    made = await asyncio.gather(*calls)
    over, spent = time.perf_counter(), (time.thread_time() - cpu) / len(made)
    return [call.record(what=what, size=size, at_once=at_once, first=begun, over=over, spent=spent) for call in made]


DOES = {"run": run_tasks, "calibrate": calibrate}


async def _work(urls: dict[str, str]) -> None:
    reader = asyncio.StreamReader(limit=1 << 24)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=600)
    async with aiohttp.ClientSession(connector=connector) as session:
        system = Orchestrator(session, urls)
        say("ready")
        while line := await reader.readline():
            asked = json.loads(line)
            await system.settle(asked["settings"])
            answer = await DOES[asked["do"]](system, asked)
            say(answer)


def main(urls: str) -> None:
    """Do what is asked until the standard input closes."""
    asyncio.run(_work(json.loads(urls)))


if __name__ == "__main__":
    main(sys.argv[1])
