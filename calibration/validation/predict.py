"""The prediction: a scenario that is made of a calibration's laws alone, and what coordsim's simulation says of it.

The scenario is that of any user: one node with finite cores that all processes share, an orchestrator with one event loop, a model
server, tools, faults. A variant leaves one law out, or is naive: means of calls in a tight loop, and as many cores as anyone wants.

The machine's speed while the system ran is told to the simulation, as an input; nothing else of the run is.

Leaves out: what the laws leave out.
Checked: tests/test_validation_predict.py.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ...models.scenario import Scenario, as_yaml
from ...models.simulate import simulate
from ...sim.analysis.result import Result
from .laws import stretch
from .session import Configuration, Outcome
from .system.terms import (
    BACKOFF,
    DECK,
    MODEL,
    OUTPUT,
    PROMPT,
    TIMEOUT,
    TOKEN,
    TOOLS,
    TRIES,
    WAIT,
    failures,
    media,
    waits,
)  # fmt: skip

__all__ = ["VARIANTS", "frozen", "load", "outcome", "predict", "scenario"]

Laws = Mapping[str, Any]
Data = dict[str, Any]

NODE = "host"
ASKED, ANSWERED = 120.0, 60.0  # bytes of a tool's request, and of its answer beside the text
EMBEDDING = 1359.0  # bytes


def us(seconds: float) -> str:
    """Return a duration as YAML writes it."""
    return f"{seconds * 1e6:.6g} us"


def law(found: Sequence[float]) -> Data:
    """Return overhead and seconds per byte as a law of YAML."""
    overhead, each = found
    return {"overhead": us(overhead)} | ({"bandwidth": f"{1 / each:.6g} B/s"} if each > 0 else {})


def table(seconds: Sequence[float]) -> Data:
    """Return measured times as a distribution of YAML."""
    return {"empirical": {"values": [us(value) for value in seconds]}}


def scenario(configuration: Configuration, laws: Laws) -> Data:
    """Return the scenario of a configuration as data, without the machine's speed."""
    steps = _steps(configuration)
    return {
        "coordsim": 1,
        "name": configuration.name,
        "question": "What does the system under test take, as its calibration tells?",
        "seed": 1,
        "runtime": {
            "preset": "external-orchestrator", "state": "full", "kv": "discard", "connection": "persistent",
            "codec": configuration.codec, "tools": "synchronous", "notification": "event", "dispatch": "every-step",
        },
        "workload": {"arrivals": _arrivals(configuration), "tasks": 400, "warmup": "0 s", "request": f"{PROMPT} tokens"},
        "context": {"bytes_per_token": f"{TOKEN} B / token"},
        "orchestrator": {"node": NODE, "dispatch": us(laws["plan"]), "concurrency": 1, "single_threaded": True},
        "network": {
            "nodes": {NODE: _node(laws)},
            "loopback": table(wakes(laws)),
            "stack": _stack(laws),
        },
        "serializers": {configuration.codec: {"encode": law(laws["encode"]), "decode": law(laws["decode"])}},
        "models": {MODEL: _model(configuration, laws)},
        "agents": {"assistant": {"model": MODEL, "output": f"{OUTPUT} tokens"}},
        "tools": _tools(configuration, laws),
        "workflow": {"start": next(iter(steps)), "steps": steps},
        "faults": _faults(configuration),
    }  # fmt: skip


def _node(laws: Laws) -> Data:
    """Return the node: its cores by turns; where no turns were seen, shared in equal parts."""
    node = {"cores": laws["cores"], "scheduling": "share"}
    if not laws["slice"]:
        return node
    return node | {"slice": us(laws["slice"]), "co_run": [round(one, 4) for one in laws["co_run"]]}


def _follows(laws: Laws, kind: str) -> float:
    """Return which share of a kind of work follows the speed of a node, which is that of the work of tools."""
    shares = laws["follows"]
    return round(min(1.0, shares[kind] / shares["tool"]), 4) if shares["tool"] else 1.0


def _stack(laws: Laws) -> Data:
    """Share what an end computes for a call evenly between sending and receiving; what bytes add, the receiver of the request does."""
    client, server = laws["client"] / 2, laws["server"] / 2
    return {
        "client": {"send": law([client, 0.0]), "receive": law([client, 0.0])},
        "server": {"send": law([server, 0.0]), "receive": law([server, laws["per_byte"]])},
    }


def wakes(laws: Laws) -> list[float]:
    """Return what a message waits (s) until somebody has woken up: half of a call's ways, less what both ends compute."""
    return [max(0.0, way - laws["client"] - laws["server"]) / 2 for way in laws["ways"]]


def fan_out(laws: Laws, size: int, tasks: int = 60) -> float:
    """Return the median seconds of so many modality workers called at once, after a rest."""
    forked = Configuration(
        name="fan-out", steps=1, modalities=size, users=1, failures=0.0, growth=0, workers=1, codec="json"
    )
    data = scenario(forked, laws)
    looks = {name: step for name, step in data["workflow"]["steps"].items() if name.startswith("look")}
    data["workflow"] = {"start": "see0", "steps": {"see0": {"fork": list(looks)}, **looks}}
    data["workload"] |= {"arrivals": {"closed": {"users": 1, "think": "8 ms"}}, "tasks": tasks}
    data["orchestrator"]["dispatch"] = "0 s"
    for name in ("agents", "models"):
        del data[name]
    for name in TOOLS:
        del data["tools"][name]
    return float(np.median(simulate(Scenario.from_text(as_yaml(data))).response_times))


def server_of(laws: Laws, fans: Mapping[str, float]) -> float:
    """Return what a server computes for a call (s) so that simulated fan-outs take as long as measured ones (s, by size), nearest by squares.

    Alone it only moves time between computing and waking up; of several at once, computing takes turns at the cores, and waking up does not.
    """
    from scipy.optimize import minimize_scalar

    def off(server: float) -> float:
        found = {size: fan_out({**laws, "server": server}, int(size)) for size in fans}
        return sum((found[size] / seconds - 1) ** 2 for size, seconds in fans.items())

    most = max(0.0, float(np.median(laws["ways"])) - laws["client"])
    best = minimize_scalar(off, bounds=(0.0, most), method="bounded", options={"maxiter": 10, "xatol": most / 50})
    return float(best.x)


def _arrivals(configuration: Configuration) -> Data:
    if configuration.users is not None:
        return {"closed": {"users": configuration.users, "think": "0 s"}}
    return {"poisson": f"{configuration.rate:.6g} / s"}


def _model(configuration: Configuration, laws: Laws) -> Data:
    overhead, each, squared = laws["model"]
    return {
        "kind": "llm", "node": NODE, "concurrency": configuration.workers, "cpu": True, "beside": laws["beside"], "follows": _follows(laws, "model"),
        "overhead": us(overhead), "hand_off": us(laws["hand_off"] / 2), "prefill": f"{each * 1e6:.6g} us / token",
        "attention": f"{squared * 1e9:.6g} ns / token^2", "residual": {"empirical": {"values": laws["model_residual"]}},
    }  # fmt: skip


def _tools(configuration: Configuration, laws: Laws) -> Data:
    common = {
        "node": NODE, "request": f"{ASKED:g} B", "response": f"{ANSWERED + configuration.growth * TOKEN:g} B",
        "result": f"{configuration.growth} tokens",
        "handling": {
            "timeout": us(TIMEOUT), "on_timeout": "run on", "exhausted": "continue",
            "retry": {"attempts": TRIES, "backoff": {"first": us(BACKOFF), "factor": 2}},
        },
    }  # fmt: skip
    found: Data = {
        name: {
            **common,
            "latency": table(laws[name]),
            "cpu": True,
            "follows": laws["follows"]["tool"],
            "concurrency": 1,
        }
        for name in TOOLS
        if name != WAIT
    }
    late = float(np.median(laws[WAIT]))
    found[WAIT] = {**common, "latency": table([pause + late for pause in waits()])}
    for number in range(configuration.modalities):
        found[media(number)] = {
            "node": NODE, "latency": table(laws["media"]), "cpu": True, "follows": _follows(laws, "media"), "concurrency": 1, "infers": True,
            "request": f"{laws['image']:g} B", "response": f"{EMBEDDING:g} B", "result": "0 tokens",
        }  # fmt: skip
    return found


def _steps(configuration: Configuration) -> Data:
    """Return the steps of a task, one after the other."""
    steps: Data = {}
    for turn in range(configuration.steps):
        tool = TOOLS[turn % len(TOOLS)]
        looks = [f"look{turn}-{number}" for number in range(configuration.modalities)]
        after = f"think{turn + 1}" if turn + 1 < configuration.steps else "done"
        steps[f"think{turn}"] = {"agent": "assistant", "next": f"see{turn}" if looks else f"use{turn}"}
        if looks:
            steps[f"see{turn}"] = {"fork": looks, "next": f"use{turn}"}
        for number, look in enumerate(looks):
            steps[look] = {"tool": media(number), "next": "done"}
        steps[f"use{turn}"] = {"tool": tool, "next": after}
    return steps


def _faults(configuration: Configuration) -> Data:
    kinds = failures(configuration.failures)
    on = [f"tools.{name}" for name in dict.fromkeys(TOOLS[turn % len(TOOLS)] for turn in range(configuration.steps))]
    rates = {kind: kinds.count(kind) / DECK for kind in ("error", "hang")}
    return {f"{kind}s": {"on": on, kind: rate} for kind, rate in rates.items() if rate}


# -- variants


def _without_cores(data: Data, _laws: Laws) -> None:
    del data["network"]["nodes"][NODE]["cores"], data["network"]["nodes"][NODE]["scheduling"]
    for name in ("co_run", "slice", "speed"):
        data["network"]["nodes"][NODE].pop(name, None)
    del data["models"][MODEL]["cpu"], data["models"][MODEL]["follows"]
    for tool in data["tools"].values():
        tool.pop("cpu", None)
        tool.pop("follows", None)


def _without_co_run(data: Data, laws: Laws) -> None:
    if laws["slice"]:
        data["network"]["nodes"][NODE]["co_run"] = [1.0] * laws["cores"]


def _without_slice(data: Data, _laws: Laws) -> None:
    for name in ("slice", "co_run"):
        data["network"]["nodes"][NODE].pop(name, None)


def _without_speed(data: Data, _laws: Laws) -> None:
    data["network"]["nodes"][NODE].pop("speed", None)


def _without_loop(data: Data, _laws: Laws) -> None:
    del data["orchestrator"]["concurrency"], data["orchestrator"]["single_threaded"]


def _without_stack(data: Data, _laws: Laws) -> None:
    del data["network"]["stack"]


def _without_wake(data: Data, _laws: Laws) -> None:
    data["network"]["loopback"] = "0 s"


def _without_residuals(data: Data, laws: Laws) -> None:
    del data["models"][MODEL]["residual"]
    data["network"]["loopback"] = us(float(np.median(wakes(laws))))
    for name, tool in data["tools"].items():
        if name != WAIT:
            tool["latency"] = us(float(np.median(laws["media" if tool.get("infers") else name])))


def _without_serialization(data: Data, _laws: Laws) -> None:
    for codec in data["serializers"].values():
        codec["encode"] = codec["decode"] = {"overhead": "0 s"}


def _without_attention(data: Data, laws: Laws) -> None:
    """The line through the law's ends at the smallest and the middle prompt: what a fit to short prompts would say."""
    model, (overhead, each, squared) = data["models"][MODEL], laws["model"]
    del model["attention"]
    model["prefill"] = f"{(each + squared * PROMPT) * 1e6:.6g} us / token"
    model["overhead"] = us(overhead)


def _without_beside(data: Data, _laws: Laws) -> None:
    del data["models"][MODEL]["beside"]


def _without_faults(data: Data, _laws: Laws) -> None:
    data["faults"] = {}


def _naive(data: Data, laws: Laws) -> None:
    """Means of calls in a tight loop, and nothing else of what the calibration found."""
    _without_cores(data, laws)
    _without_loop(data, laws)
    _without_stack(data, laws)
    _without_wake(data, laws)
    _without_serialization(data, laws)
    means, model = laws["naive"], data["models"][MODEL]
    for name in ("residual", "beside", "attention", "hand_off"):
        del model[name]
    (low, first), (high, last) = ((int(key.split()[1]), value) for key, value in means.items() if key.startswith(MODEL))
    each = (last - first) / (high - low)
    model |= {"overhead": us(max(0.0, first - each * low)), "prefill": f"{each * 1e6:.6g} us / token"}
    for name, tool in data["tools"].items():
        tool["latency"] = us(means["media0" if tool.get("infers") else name])
    data["tools"][WAIT]["latency"] = us(float(np.mean(waits())) + means[WAIT])
    data["orchestrator"]["dispatch"] = us(means["plan"])


LEFT_OUT: dict[str, tuple[str, Callable[[Data, Laws], None]]] = {
    "naive": ("means of tight loops, as many cores as wanted", _naive),
    "cores": ("the cores are finite", _without_cores),
    "co-run": ("work is slower beside other work", _without_co_run),
    "slices": ("cores are given by turns (all share them at once instead)", _without_slice),
    "speed": ("the machine's speed during the run", _without_speed),
    "event-loop": ("the orchestrator has one thread", _without_loop),
    "stack": ("CPU work of sending and receiving", _without_stack),
    "wake-up": ("waiting to be woken up", _without_wake),
    "residuals": ("calls of one kind differ (medians instead)", _without_residuals),
    "serialization": ("encoding and decoding", _without_serialization),
    "attention": ("time grows with the square of the tokens", _without_attention),
    "same-process": ("threads of one process get in each other's way", _without_beside),
    "faults": ("hangs and errors, with timeouts and retries", _without_faults),
}
VARIANTS: dict[str, str] = {"full": "nothing", **{name: what for name, (what, _) in LEFT_OUT.items()}}
"""Variant of the prediction -> what it leaves out, in words."""


def frozen(configuration: Configuration, laws: Laws) -> str:
    """Return the hash of the scenario made of these laws."""
    return Scenario.from_text(as_yaml(scenario(configuration, laws))).hash


def predict(
    configuration: Configuration,
    laws: Laws,
    speed: Sequence[float],
    every: float,
    *,
    variant: str = "full",
    tasks: int = 400,
    seed: int = 0,
) -> Outcome:
    """Simulate a configuration, on a machine of this speed (a value `every` so many seconds), and return its tasks."""
    data = scenario(configuration, laws)
    if speed:
        followed = [round(1 / stretch(laws["follows"]["tool"], value), 4) for value in speed]
        data["network"]["nodes"][NODE]["speed"] = {"every": us(every), "factors": followed}
    if variant != "full":
        LEFT_OUT[variant][1](data, laws)
    data["workload"]["tasks"] = tasks
    return outcome(simulate(Scenario.from_text(as_yaml(data)), seed=seed))


def outcome(result: Result) -> Outcome:
    """Return T_total and inference of each task of a result, measured or simulated."""
    return Outcome(
        seconds=tuple(map(float, result.response_times)), inference=tuple(map(float, result.category("inference")))
    )


@lru_cache
def load(configuration: Configuration) -> float:
    """Return roughly how many seconds of CPU a task takes, on a slow core: to choose rates of arrival by, with room left on a faster one."""
    call = 1.5e-3
    tokens = [PROMPT + turn * (configuration.growth + OUTPUT) for turn in range(configuration.steps)]
    model = sum(1e-3 + 12e-6 * count + 12e-9 * count * count for count in tokens)
    return model + configuration.steps * (3e-3 + 2 * call + configuration.modalities * (2.3e-3 + call))
