"""From traces to a scenario, in two steps: `fit` finds the numbers, `text` writes them.

Leaves out: how each is found (`estimate`) and written (`scenario`), and how good it is (`holdout`).
Checked: tests/test_trace_command.py, tests/test_trace_python.py.
"""

from __future__ import annotations

from ...sim.trace.measured import Measured
from ...sim.trace.tally import TraceError
from .estimate import estimate
from .fitted import Fitted
from .scenario import scenario_text

__all__ = ["fit", "text"]


def fit(measured: Measured, seed: int = 0) -> Fitted:
    """Return what the tasks of traces tell; `seed` draws tasks anew for the intervals of models' laws. Raises TraceError without a call."""
    if not any(one.calls for one in measured.tasks):
        raise TraceError(f"{measured.name}: no task of it calls a model or a tool, so there is nothing to fit")
    return estimate(measured.tasks, arrivals=measured.arrivals, seed=seed)


def text(found: Fitted, measured: Measured, *, name: str = "", seed: int = 0, run: str = "scenario.yaml") -> str:
    """Return the scenario of a fit as commented YAML; `run` is what the commands in its comments call it."""
    files = [one.name for one in measured.tally.files]
    return scenario_text(found, name=name or measured.name, files=files, seed=seed, run=run)
