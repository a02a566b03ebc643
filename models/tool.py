"""Tools: search, code execution, databases, other services that an agent calls.

Leaves out: see `service`.
Checked: tests/test_tools.py.
"""

from typing import Self

from pydantic import model_validator

from ..sim.engine.spec import Duration, SpecProblem
from .network import BoundaryName
from .service import ServiceSpec


class Tool(ServiceSpec):
    """A tool an agent may choose, or a step may call.

    `boundary` is what its caller crosses to it, such as `mcp-stdio`, whatever the runtime's connection is, and besides the
    links where it is on another node. `connect` is what it takes to be connected (left out: what the boundary takes): before
    each call where the runtime makes new connections, else once for each caller in a task. With `device` it can live on the
    device of the model server on its node.
    """

    boundary: BoundaryName | None = None
    connect: Duration | None = None
    device: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.connect is not None and self.boundary is None:
            raise SpecProblem("connect", "needs `boundary`: without one, connections are made as the network says")
        if self.device and self.cpu:
            raise SpecProblem("device", "contradicts `cpu`: it runs on the device, or on the host's cores")
        return self
