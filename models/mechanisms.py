"""The mechanisms by which coordination may grow, and the changes to a scenario that switch each off.

    context growth       `context.grows: false`: what was there before is not sent, computed or written again
    barrier              no change: the straggler's excess is taken off the same runs
    pairwise alignment   `align: barrier` at the steps that align in pairs
    shared bandwidth     `shared: false` of the links that have a bandwidth
    GPU contention       64 times the replicas of models, a task's calls kept on one; `shared: false` of encoders; no provider's limits
    CPU and tool queues  64 times the cores; no limits of tools, retrievers and the orchestrator
    retries              nothing fails, and one attempt each

Every change can be made by hand with `--set`. Those of GPU contention leave the work of a call as it is, but for what tasks
share in a cache: on 64 times the replicas each computes it once.

`isolated` is the other way round: a scenario in which all but one are switched off.

Leaves out: waiting for a cache or a memory; a team's messages, which no switch takes out of a topology.
Checked: tests/test_scaling.py, tests/test_modality_scaling.py.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..sim.engine.errors import did_you_mean, listed
from ..sim.engine.source import Document
from .api import Api
from .llm import Llm
from .perceive_step import PerceiveStep
from .variants import Change

if TYPE_CHECKING:
    from .scenario import Scenario

__all__ = ["Mechanism", "isolated", "mechanisms"]

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
        _of("CPU and tool queues", list(_queues(scenario)), "no tool and no CPU is limited"),
        _of("retries", list(_retries(scenario)), "nothing fails"),
    )


def isolated(scenario: "Scenario", name: str) -> "Scenario":
    """Return the scenario with all mechanisms but one switched off; the barrier, which no change takes away, stays.

    Raises ValueError for a name that none has.
    """
    known = mechanisms(scenario)
    names = [one.name for one in known]
    if name not in names:
        raise ValueError(f"must be one of {listed(names)}; got `{name}`{did_you_mean(name, names)}")
    document = scenario._document or Document.from_data(scenario.to_data(), scenario.name)
    for path, text in (change for one in known if one.name != name for change in one.changes):
        document = type(scenario).overridden(document, path, text)
    return type(scenario).of(document)


def _of(name: str, changes: list[Change], missing: str) -> Mechanism:
    return Mechanism(name, tuple(changes), "" if changes else missing)


def _pairwise(scenario: "Scenario") -> Iterator[Change]:
    for path, step in scenario.steps.items():
        if isinstance(step, PerceiveStep) and step.align.pairwise is not None:
            patience = step.align.to_data()["pairwise"].get("patience")
            yield f"{path}.align", json.dumps({"barrier": {"patience": patience} if patience else {}})


def _servers(scenario: "Scenario") -> Iterator[Change]:
    for name, model in scenario.models.items():
        path = f"models.{name}"
        if isinstance(model, Api):
            yield from _unlimited(path, model)
            continue
        if model.queue_limit is not None:
            yield f"{path}.queue_limit", "null"
        if model.beside != 1:
            yield f"{path}.beside", "1"
        if model.shape is not None and model.router != "session":
            yield f"{path}.router", "session"
        yield from _multiplied(path, model)
    for name, encoder in scenario.encoders.items():
        if encoder.shared:
            yield f"encoders.{name}.shared", "false"


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


def _queues(scenario: "Scenario") -> Iterator[Change]:
    for name, node in scenario.network.nodes.items():
        if node.cores is not None:
            yield f"network.nodes.{name}.cores", str(node.cores * PLENTY)
        if node.co_run is not None:
            yield f"network.nodes.{name}.co_run", "null"
    if scenario.orchestrator.single_threaded:
        yield "orchestrator.single_threaded", "false"
    if scenario.orchestrator.concurrency is not None:
        yield "orchestrator.concurrency", "null"
    for kind in ("tools", "retrievers"):
        for name, service in getattr(scenario, kind).items():
            for field in ("queue_limit", "concurrency", "rate"):
                if getattr(service, field) is not None:
                    yield f"{kind}.{name}.{field}", "null"


def _retries(scenario: "Scenario") -> Iterator[Change]:
    for kind in ("tools", "retrievers"):
        for name, service in getattr(scenario, kind).items():
            if service.errors is not None:
                yield f"{kind}.{name}.errors", "0"
                if service.handling.retry.attempts > 1:
                    yield f"{kind}.{name}.handling.retry", "1"
    for name, modality in scenario.modalities.items():
        if modality.errors:
            yield f"modalities.{name}.errors", "0"
            if modality.attempts > 1:
                yield f"modalities.{name}.attempts", "1"
