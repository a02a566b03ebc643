"""The mechanisms by which coordination may grow, and the changes to a scenario that switch each off.

    context growth       `context.grows: false`: what was there before is not sent, computed or written again
    barrier              no change: the straggler's excess is taken off the same runs
    pairwise alignment   `align: barrier` at the steps that align in pairs
    shared bandwidth     `shared: false` of the links that have a bandwidth
    GPU contention       64 times the replicas of models and encoders, a task's calls kept on one; no provider's limits
    retries              nothing fails, and one attempt each

Every change can be made by hand with `--set`. Those of GPU contention leave the work of a call as it is, but for what tasks
share in a cache: on 64 times the replicas each computes it once.

Leaves out: queues of tools, of the orchestrator and of CPU cores; a team's messages, which no switch takes out of a topology.
Checked: tests/test_scaling.py.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .api import Api
from .llm import Llm
from .perceive_step import PerceiveStep

if TYPE_CHECKING:
    from .scenario import Scenario

__all__ = ["Change", "Mechanism", "mechanisms"]

Change = tuple[str, str]  # a path, and the YAML to put there
PLENTY = 64  # times the servers: so many that nothing waits, unless the load is beyond 64 times what they bear


@dataclass(frozen=True)
class Mechanism:
    """A mechanism: the changes that switch it off, or why there is nothing to switch off (`missing`).

    `derived`: switched off by taking the straggler's excess off the same runs.
    """

    name: str
    changes: tuple[Change, ...] = ()
    missing: str = ""
    derived: bool = False


def mechanisms(scenario: "Scenario") -> tuple[Mechanism, ...]:
    """Return all mechanisms, those included that the scenario does not have."""
    grows = scenario.context.grows and bool(scenario.agents)
    links = [
        (f"network.links[{place}].shared", "false")
        for place, link in enumerate(scenario.network.links)
        if link.bandwidth is not None and link.shared
    ]
    return (
        Mechanism(
            "context growth", (("context.grows", "false"),) if grows else (), "" if grows else "no context grows"
        ),
        Mechanism("barrier", derived=True),
        _of("pairwise alignment", list(_pairwise(scenario)), "no step aligns in pairs"),
        _of("shared bandwidth", links, "no link has a bandwidth to share"),
        _of("GPU contention", list(_servers(scenario)), "nothing is served by a model or an encoder"),
        _of("retries", list(_retries(scenario)), "nothing fails"),
    )


def _of(name: str, changes: list[Change], missing: str) -> Mechanism:
    return Mechanism(name, tuple(changes), "" if changes else missing)


def _pairwise(scenario: "Scenario") -> Iterator[Change]:
    flows = [
        ("workflow", scenario.workflow),
        *((f"workflows.{name}", flow) for name, flow in scenario.workflows.items()),
    ]
    for path, flow in flows:
        for name, step in flow.steps.items():
            if isinstance(step, PerceiveStep) and step.align.pairwise is not None:
                patience = step.align.to_data()["pairwise"].get("patience")
                yield f"{path}.steps.{name}.align", json.dumps({"barrier": {"patience": patience} if patience else {}})


def _servers(scenario: "Scenario") -> Iterator[Change]:
    for name, model in scenario.models.items():
        path = f"models.{name}"
        if isinstance(model, Api):
            yield from _unlimited(path, model)
            continue
        if model.queue_limit is not None:
            yield f"{path}.queue_limit", "null"
        if model.shape is not None and model.router != "session":
            yield f"{path}.router", "session"
        yield from _multiplied(path, model)
    for name, encoder in scenario.encoders.items():
        if encoder.model is None:
            if encoder.queue_limit is not None:
                yield f"encoders.{name}.queue_limit", "null"
            yield f"encoders.{name}.replicas", str(encoder.replicas * PLENTY)


def _multiplied(path: str, model: Llm) -> Iterator[Change]:
    split = model.disaggregated
    if split is not None:
        yield f"{path}.disaggregated.prefill", str(split.prefill * PLENTY)
        yield f"{path}.disaggregated.decode", str(split.decode * PLENTY)
        return
    if model.autoscale is not None:
        yield f"{path}.autoscale", "null"
    yield f"{path}.replicas", str(model.most_replicas * PLENTY)


def _unlimited(path: str, model: Api) -> Iterator[Change]:
    limits = model.limits
    for field, limit in (("requests", limits.requests), ("tokens", limits.tokens), ("concurrency", limits.concurrency)):
        if limit is not None:
            yield f"{path}.limits.{field}", "null"


def _retries(scenario: "Scenario") -> Iterator[Change]:
    for kind in ("tools", "retrievers"):
        for name, service in getattr(scenario, kind).items():
            if service.errors is not None:
                yield f"{kind}.{name}.errors", "0"
                if service.attempts > 1:
                    yield f"{kind}.{name}.attempts", "1"
    for name, modality in scenario.modalities.items():
        if modality.errors:
            yield f"modalities.{name}.errors", "0"
            if modality.attempts > 1:
                yield f"modalities.{name}.attempts", "1"
