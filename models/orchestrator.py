"""The orchestrator: the framework's own work around each step.

Leaves out: host CPU shared with tokenizers and local tools.
Checked: tests/test_runtime.py.
Source of the default dispatch: 0.5 ms a super-step of LangGraph in steady state without a checkpointer, on a busy 2-core
machine, measured for this project.
"""

from ..sim.engine.distributions import DurationDist
from ..sim.engine.spec import Name, PositiveCount, PositiveDuration, Spec, TimePerToken

DISPATCH = "0.5 ms"


class Orchestrator(Spec):
    """Where control lives when the runtime places it outside, and what each step costs there.

    `dispatch` is the work of scheduling a step, on one of `concurrency` event loops (not given: no limit);
    `assemble` the work per token of building a prompt that is sent in full; `poll_interval` the tick of polling.
    """

    node: Name | None = None
    dispatch: DurationDist = DurationDist.model_validate(DISPATCH)
    concurrency: PositiveCount | None = None
    assemble: TimePerToken = 0.0
    poll_interval: PositiveDuration | None = None
