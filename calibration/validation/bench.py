"""The system under test, running: calibrate it, let it run a configuration, watch the machine meanwhile.

Leaves out: what comes of it (`laws`, `predict`, `protocol`).
Checked: tests/test_validation_system.py.
"""

import json
import os
import random
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from statistics import fmean, median
from typing import Any

from ..coordination.servers import cores
from ..speed import stolen_ticks
from .laws import Rows, follows_of, kind, laws_of
from .measured import FACTS, result_of
from .predict import outcome, server_of
from .processes import Child, children
from .protocol import Run
from .session import Configuration
from .system.sense import PERIOD
from .system.terms import AT_ONCE, MODEL, OUTPUT, PROMPT, TOOLS, WAIT, media
from .system.wire import Stamps

__all__ = ["System", "open_system"]

MOST_MEDIA = 5
PACE = 0.008  # s of rest before a call of a calibration, on average
_NEAR = 0.35  # s around a time in which the sensor's readings count
_NEIGHBOURS = 3
_TURNS, _MIDDLE = 6, 500  # of what is measured beside neighbours, and the tokens of its calls
_FANS = 12  # turns of the first calibration
_TIGHT, _ENDS = 5, (300, 900)  # calls in a tight loop, and the tokens of those of the model
_LEAST = 6  # turns of a plan in a calibration


@contextmanager
def open_system(device: str, media_workers: int = MOST_MEDIA) -> Iterator["System"]:
    """Start all processes, calibrate the machine, and end them.

    Raises ImportError where a library is missing, and NotImplementedError where the system does not tell what its cores do.
    """
    if not (hasattr(os, "sched_getaffinity") and Path("/proc/stat").is_file()):
        raise NotImplementedError("what processes and cores do is read as Linux tells it")
    for library in ("aiohttp", "msgpack", "torch"):  # asked for here, before processes fail for want of them
        import_module(library)
    media_names = [media(number) for number in range(media_workers)]
    names = [MODEL, *TOOLS, *media_names]
    servers = [
        ("serve_model", device),
        *(("serve_tool", kind) for kind in TOOLS),
        *[("serve_media", device)] * media_workers,
    ]
    watched = sorted(os.sched_getaffinity(0))
    with ExitStack() as stack:
        serving = stack.enter_context(children(servers))
        urls = {name: f"http://127.0.0.1:{one.line}/" for name, one in zip(names, serving, strict=True)}
        (orchestrator,) = stack.enter_context(children([("orchestrate", json.dumps(urls))]))
        sensors = stack.enter_context(children([("sense", str(core)) for core in watched]))
        busy = stack.enter_context(children([("fill",)] * _NEIGHBOURS))
        system = System(orchestrator, sensors, busy, media_workers, [*serving, orchestrator, *sensors, *busy])
        system.begin()
        yield system


@dataclass
class _Sensed:
    """What the sensor of one core has read: when (s), and what a spin took (s)."""

    times: list[float] = field(default_factory=list)
    spins: list[float] = field(default_factory=list)

    def speed(self, at: float, reference: float) -> float:
        near = self.spins[bisect_left(self.times, at - _NEAR) : bisect_right(self.times, at + _NEAR)]
        return reference / median(near) if near else 1.0


class System:
    """The running system."""

    def __init__(
        self,
        orchestrator: Child,
        sensors: list[Child],
        busy: list[Child],
        media_workers: int,
        everyone: list[Child],
    ) -> None:
        self.orchestrator = orchestrator
        self.sensors = sensors
        self.busy = busy
        self.media_workers = media_workers
        self.pids = [os.getpid(), *(child.pid for child in everyone)]
        self.sensed = {core: _Sensed() for core in sorted(os.sched_getaffinity(0))}
        self.reference = 0.0
        self.once: dict[str, Any] = {}  # laws of the machine, which a session finds once
        # Of each kind of work, speeds and the CPU times (s) that the same work took at them.
        self.paced: dict[str, list[tuple[float, float]]] = {name: [] for name in ("model", "media", "tool")}

    def begin(self) -> None:
        """Warm up, and find what the session finds once: neighbours, threads of one process, fan-outs of every size."""
        fans = [["fan", size] for size in range(1, self.media_workers + 1)]
        plan = [*self._items([PROMPT, _MIDDLE, 900], 20), *fans]
        self._calls(plan * 3, 0.0, "json", 1)
        rows: Rows = []
        for turn in range(_FANS):
            rows += self._calls(plan, PACE, "json", 1, turn)
        self._sense()
        self.reference = median(spin for one in self.sensed.values() for spin in one.spins)
        follows = self._follows(rows)
        found: dict[str, Any] = {
            "slice": self._slice(),
            **self._beside_neighbours(),
            "beside": self._same_process(),
            "cores": cores(),
        }
        laws = {**laws_of(rows, self.speed, follows), **found, "follows": follows, "image": _image(rows)}
        self.once = {**found, "fans": laws["fan"], "server": server_of(laws, laws["fan"])}

    def _items(self, sizes: list[int], most: int) -> list[list[Any]]:
        """Return what a turn of a calibration calls, but for fan-outs: the model at some sizes, tools with short and long requests, ..."""
        items: list[list[Any]] = [[MODEL, size] for size in (*sizes, _MIDDLE)]
        items += [[name, size] for name in TOOLS for size in (20, most)]
        twice: list[list[Any]] = [["plan"], [WAIT, 20, AT_ONCE], ["media0"]]
        return [*items, *twice * 2]

    # -- watching the machine

    def _sense(self) -> None:
        """Take over what the sensors have read."""
        for child, sensed in zip(self.sensors, self.sensed.values(), strict=True):
            for at, seconds in child.ask():
                sensed.times.append(at)
                sensed.spins.append(seconds)

    def speed(self, at: float, core: int = -1) -> float:
        """Return the speed around a time (s, monotonic clock) of a core, or of all on average; 1 is that of the session's beginning."""
        if core in self.sensed:
            return self.sensed[core].speed(at, self.reference)
        return fmean(one.speed(at, self.reference) for one in self.sensed.values())

    def _own(self) -> float:
        """Return the CPU seconds of all our processes so far."""
        ticks = os.sysconf("SC_CLK_TCK")
        total = 0
        for pid in self.pids:
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(words[11]) + int(words[12])
        return total / ticks

    # -- calls

    def _calls(self, plan: list[list[Any]], pace: float, codec: str, workers: int, seed: int = 0) -> Rows:
        settings = {"codec": codec, "failures": 0.0, "seed": seed, "workers": workers}
        asked = {"do": "calibrate", "settings": settings, "plan": plan, "pace": pace, "seed": seed}
        rows: Rows = self.orchestrator.ask(asked)["rows"]
        return rows

    def _beside_neighbours(self) -> dict[str, list[float]]:
        """Return how much longer a call of the model works beside 0, 1, 2 ... busy processes: in CPU time, and on the wall."""
        computed: list[list[float]] = [[] for _ in range(_NEIGHBOURS + 1)]
        passed: list[list[float]] = [[] for _ in range(_NEIGHBOURS + 1)]
        for turn in range(_TURNS):
            for count in range(_NEIGHBOURS + 1):
                for child in self.busy[:count]:
                    child.ask(1)
                rows = self._calls([[MODEL, _MIDDLE]] * 8, PACE, "json", 1, turn)
                for child in self.busy[:count]:
                    child.ask(0)
                stamps = [Stamps(*row["stamps"]) for row in rows]
                computed[count] += [one.work for one in stamps]
                passed[count] += [one.ended - one.started for one in stamps]
        return {
            "co_run": [max(1.0, median(one) / median(computed[0])) for one in computed],
            "co_run_wall": [fmean(one) / fmean(passed[0]) for one in passed],
        }

    def _slice(self) -> float:
        """Return for how long (s) a busy process has a core until another that waits for it gets it."""
        (core, *_), found = sorted(os.sched_getaffinity(0)), []
        for child in self.busy[:2]:
            child.tell({"core": core})
        for child in self.busy[:2]:
            found += json.loads(child.read())
        return median(found) if found else 0.0

    def _same_process(self) -> float:
        """Return how much longer a call of the model computes beside another in the same process than beside a busy process."""
        apart, together = [], []
        for turn in range(_TURNS):
            self.busy[0].ask(1)
            rows = self._calls([[MODEL, _MIDDLE]] * 6, PACE, "json", 2, turn)
            self.busy[0].ask(0)
            apart += [Stamps(*row["stamps"]).work for row in rows]
            rows = self._calls([[MODEL, _MIDDLE, 2]] * 6, PACE, "json", 2, turn)
            together += [Stamps(*row["stamps"]).work for row in rows]
        return max(1.0, median(together) / median(apart))

    def _tight(self, codec: str) -> dict[str, float]:
        """Return the mean seconds of calls that follow each other without a rest: what a benchmark in a loop would tell."""
        plan: list[list[Any]] = (
            [[MODEL, size] for size in _ENDS] + [[name, 20] for name in TOOLS] + [["media0"], ["plan"]]
        )
        rows = [row for item in plan for row in self._calls([item] * _TIGHT, 0.0, codec, 1)]
        taken: dict[str, list[float]] = {}
        for row in rows:
            key = f"{row['name']} {row['size']}" if row["name"] == MODEL else row["name"]
            taken.setdefault(key, []).append(row["ended"] - row["begun"])
        return {key: fmean(one) for key, one in taken.items()}

    def _follows(self, rows: Rows) -> dict[str, float]:
        """Return which share of each kind of work follows the speed, by all calls so far whose work is always the same."""
        for row in rows:
            if row["name"] in ("query", "media0") or (row["name"], row.get("size")) == (MODEL, _MIDDLE):
                at = Stamps(*row["stamps"])
                self.paced[kind(row["name"])].append((self.speed(at.started, int(at.core)), at.work))
        return {name: follows_of(*zip(*paced, strict=True)) if paced else 1.0 for name, paced in self.paced.items()}

    # -- what the protocol asks for

    def calibrate(self, configuration: Configuration, seconds: float, seed: int) -> dict[str, Any]:
        """Return the laws found in about so many seconds of paced calls, in the configuration's codec, at its sizes."""
        most = PROMPT + configuration.steps * (configuration.growth + OUTPUT)
        items = self._items([round(PROMPT + share * (most - PROMPT)) for share in (0, 0.33, 0.67, 1)], most)
        items.append(["fan", max(1, configuration.modalities)])
        shuffled, rows = random.Random(seed), []
        ends, turns = time.perf_counter() + seconds, 0
        while turns < _LEAST or time.perf_counter() < ends:
            shuffled.shuffle(items)
            rows += self._calls(items, PACE, configuration.codec, 1, seed + turns)
            turns += 1
        naive = self._tight(configuration.codec)
        self._sense()
        follows = self._follows(rows)
        found = {"follows": follows, "naive": naive, "image": _image(rows)}
        return {**laws_of(rows, self.speed, follows), **self.once, **found}

    def run(self, configuration: Configuration, seconds: float, seed: int) -> Run:
        """Let the system run the configuration for about so many seconds."""
        wanted = configuration.model_dump(include={"steps", "modalities", "users", "rate", "growth"})
        settings = {"seed": seed, **configuration.model_dump(include={"codec", "failures", "workers"})}
        stolen, ticks = stolen_ticks()
        own, busy = self._own(), _busy()
        told = self.orchestrator.ask({"do": "run", "settings": settings, "seconds": seconds, "seed": seed, **wanted})
        own, busy = self._own() - own, _busy() - busy
        stolen_after, ticks_after = stolen_ticks()
        self._sense()
        result = result_of(configuration.name, told)
        length = told["ended"] - told["begun"]
        counts = {name: int(result.fact(name).sum()) for name in FACTS}
        return Run(
            measured=outcome(result),
            counts={"tasks": result.arrived, **counts},
            speed=tuple(round(self.speed(told["begun"] + place * PERIOD), 4) for place in range(int(length / PERIOD))),
            every=PERIOD,
            steal=(stolen_after - stolen) / max(1, ticks_after - ticks),
            foreign=max(0.0, busy - own) / (length * cores()),
            seconds=length,
        )


def _image(rows: Rows) -> int:
    """Return the bytes of a modality worker's request."""
    return max(int(row["request"]) for row in rows if row["name"] == media(0))


def _busy() -> float:
    """Return the seconds that all cores were busy since start, those that the hypervisor took away apart."""
    words = [int(word) for word in Path("/proc/stat").read_text().partition("\n")[0].split()[1:8]]
    user, nice, system, _idle, _wait, irq, soft = words
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")
