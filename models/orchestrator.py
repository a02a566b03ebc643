"""The orchestrator: the framework's own work around each step.

Checked: tests/test_runtime.py, tests/test_host.py, tests/test_single_threaded.py.
Source of the default dispatch: 0.5 ms a super-step of LangGraph in steady state without a checkpointer, on a busy 2-core
machine, measured for this project. Of a decision on the device: a launch by the host, as the profile's law `launch` has it,
which a launch from the device is assumed not to exceed (NVIDIA, "Enabling Dynamic Control Flow in CUDA Graphs with Device
Graph Launch", 2022); 5 us where no profile tells, assumed. Of guessed calls 55 % are right: at best, says Ye et al.,
"Speculative Actions", arXiv 2510.04371, 2025; that a call starts when half of the answer is there is assumed.
"""

from typing import TYPE_CHECKING, Self

from pydantic import model_validator

from ..sim.engine.distributions import DurationDist
from ..sim.engine.draws import Sampler
from ..sim.engine.spec import Name, PositiveCount, PositiveDuration, Share, Spec, SpecProblem, TimePerToken
from .checkpoint import Checkpoint
from .network import drawn

if TYPE_CHECKING:
    from ..sim.profile.profile import Profile

DISPATCH = "0.5 ms"
DEVICE_DISPATCH = "5 us"


class Speculation(Spec):
    """How well the next tool call is guessed: the share that is right, and by how much of a call's time it starts early."""

    accuracy: Share = 0.55
    lead: Share = 0.5


class Orchestrator(Spec):
    """Where control lives when the runtime places it outside, and what each step costs there.

    `dispatch` is the work of scheduling a step, on one of `concurrency` event loops (not given: no limit);
    `assemble` the work per token of building a prompt that is sent in full; `poll_interval` the tick of polling.
    `device_dispatch` is a decision taken on a device (left out: a launch by the profile). `speculation` says how well a runtime
    that speculates does. `checkpoint` writes the state at steps, in every runtime. With `single_threaded` messages are encoded, decoded,
    sent and received at its end on its event loops too, as in an asyncio program.
    """

    node: Name | None = None
    dispatch: DurationDist = DurationDist.model_validate(DISPATCH)
    concurrency: PositiveCount | None = None
    single_threaded: bool = False
    assemble: TimePerToken = 0.0
    poll_interval: PositiveDuration | None = None
    device_dispatch: DurationDist | None = None
    speculation: Speculation = Speculation()
    checkpoint: Checkpoint | None = None

    @model_validator(mode="after")
    def _loops(self) -> Self:
        if self.single_threaded and self.concurrency is None:
            raise SpecProblem("single_threaded", "needs `concurrency`: the number of its event loops, such as 1")
        return self

    def on_device(self, profile: "Profile | None") -> tuple[Sampler | float, float]:
        """Return what to draw the time of a decision on the device from, and its mean (s)."""
        if self.device_dispatch is None and profile is not None and profile.has("launch"):
            return drawn(profile.timing("launch"), {})
        given = self.device_dispatch or DurationDist.model_validate(DEVICE_DISPATCH)
        return given.sampler, given.mean
