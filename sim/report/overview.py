"""What a scenario holds, in a few lines, before it is run.

Leaves out: bounds on what it can do, which its model works out.
Checked: tests/test_cli.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .tables import About

KINDS = {
    "agents": "agent", "models": "model", "tools": "tool", "memories": "memory", "retrievers": "retriever",
    "evaluators": "evaluator", "modalities": "modality", "encoders": "encoder", "classes": "task class", "workflows": "sub-workflow",
}  # fmt: skip
_IRREGULAR = {"memory": "memories", "modality": "modalities", "task class": "task classes"}


def overview(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield lines about a resolved scenario (plain data)."""
    question = data.get("question")
    yield f"  {data['name']}: {question}" if question else f"  {data['name']}"
    yield f"  {', '.join(_count(len(data[key]), word) for key, word in KINDS.items() if data.get(key))}"
    network, steps = data.get("network", {}), data["workflow"]["steps"]
    parts = [_count(len(steps), "step")]
    parts += [_count(len(network[key]), word) for key, word in _NETWORK.items() if network.get(key)]
    parts += [_count(len(data["slo"]), "objective")] if data.get("slo") else []
    yield f"  {', '.join(parts)}; runtime {data['runtime']['preset']}; seed {data['seed']}"
    workload = data["workload"]
    ends = (
        f"{workload['tasks']} tasks" if workload.get("tasks") else f"{workload.get('horizon', 'the end of the trace')}"
    )
    yield f"  arrivals: {', '.join(name for name in workload['arrivals'])}; a run ends after {ends}"


_NETWORK = {"nodes": "node", "links": "link"}


def about(data: Mapping[str, Any], presets: Mapping[str, Mapping[str, Any]]) -> About:
    """Return what a report says of a resolved scenario beside its numbers; `presets` are the policies of each runtime."""
    runtime = data["runtime"]
    preset = presets.get(runtime["preset"], {})
    policies = {name: runtime.get(name, preset.get(name)) for name in (*preset, *runtime) if name != "preset"}
    own = [f"{name}: {_word(value)}" for name, value in policies.items() if _word(value) != _word(preset.get(name))]
    return About(data.get("question", ""), " with ".join(filter(None, [runtime["preset"], ", ".join(own)])))


def _word(value: object) -> str:
    return "none" if value is None else str(value)


def _count(number: int, word: str) -> str:
    return f"{number} {word if number == 1 else _IRREGULAR.get(word, word + 's')}"
