"""Runtimes: how state and control move between components, as named policies.

No preset holds a duration. A policy decides what is sent, how often a boundary is crossed and who waits for what; the
times come from the scenario's links, serializers, models and orchestrator. So what one runtime saves against another is
a difference of bytes, crossings, tokens and waits that both ledgers count.

Leaves out: what a value of `kv` means to a server; the server says.
Checked: tests/test_runtime.py, tests/test_host.py, tests/test_boundaries.py.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from ..sim.engine.errors import did_you_mean, listed, show
from ..sim.engine.schema import or_scalar
from ..sim.engine.spec import Name, Spec, SpecProblem
from .serving.retention import Kv

NO_CODEC = "none"
State = Literal["full", "delta", "resident"]
Connection = Literal["new", "persistent", "in-process", "shared-memory", "free"]
Where = Literal["host", "device"]
Placement = Literal["external", "own", "co-located"]
Tools = Literal["synchronous", "overlapped", "speculated"]
Notification = Literal["polling", "event"]
Dispatch = Literal["every-step", "every-task", "none"]


class Runtime(Spec):
    """The policies of a runtime; `preset` gives those that are not written."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    preset: str
    """The runtime whose policies hold where none is written here."""
    state: State
    """What a model call carries: the `full` prompt each time; the `delta` since this agent's last call, to a server
    that restores the session; or the delta to a server where the state is `resident` and nothing is restored."""
    kv: Kv
    """What the model server does with a task's KV cache between calls: `discard` it, leave it to the prefix `cache`, which
    drops what was used least lately, `keep` it pinned, `swap` it to the host, or do what it can `predict` to be best."""
    connection: Connection
    """`new` for each call (handshakes first), `persistent`, `shared-memory`: components of one node hand messages over in
    memory that both see, and nothing is encoded; or `in-process`: no crossing between components of one node. Between nodes
    the last two are as `persistent`. With `free` no message takes any time, whatever the links are: for bounds."""
    control: Where
    """Where it is decided what comes next: on the `host`, or on the `device` of a model server, for agents and evaluators
    that call it. There nothing is dispatched by the orchestrator, polled, encoded or sent between a step and the next call
    of the same server; what cannot live there (tools, memories, people, other servers) is reached over a hand-off."""
    codec: Annotated[Name | None, BeforeValidator(lambda name: None if name == NO_CODEC else name)]
    """The serializer of every message that leaves a process; `none` when nothing is encoded."""
    placement: Placement
    """Where agents run: at the `external` orchestrator, on their `own` node, or `co-located` with their model."""
    tools: Tools
    """Tool calls of one step one after the other, `overlapped`, or `speculated`: overlapped, and the first one of a step is
    guessed and started while the model still decodes."""
    notification: Notification
    """How the end of a call is noticed: at the next tick of `polling`, or at once by `event`."""
    dispatch: Dispatch
    """How often the orchestrator's own work is done."""

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, data: Any) -> Any:
        path = () if isinstance(data, str) else ("preset",)
        if isinstance(data, str):
            data = {"preset": data}
        if not isinstance(data, dict):
            rule = f"must be one of {listed(PRESETS)}, or a mapping of policies"
            raise ValueError(f"{rule}; got {show(data)}")
        preset = data.get("preset", DEFAULT)
        if not isinstance(preset, str) or preset not in PRESETS:
            hint = did_you_mean(preset, PRESETS) if isinstance(preset, str) else ""
            raise SpecProblem(path, f"must be one of {listed(PRESETS)}; got {show(preset)}{hint}")
        return {"preset": preset, **PRESETS[preset], **data}

    @model_serializer(mode="wrap")
    def _with_codec(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write `codec: none`, since a codec that is left out is that of the preset."""
        return {**handler(self), "codec": self.codec or NO_CODEC}

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler, /) -> JsonSchemaValue:
        """Say that a name may stand for the mapping, and that no policy must be written."""
        written = handler(schema)
        target = handler.resolve_ref_schema(written)
        target.pop("required", None)
        target["properties"]["preset"] = {"enum": list(PRESETS), "default": DEFAULT}
        or_scalar(target, {"enum": list(PRESETS)})
        return written


DEFAULT = "external-orchestrator"

PRESETS: dict[str, dict[str, str | None]] = {
    # Nothing but work and queues. For theory and bounds; `connection: in-process` brings the links back.
    "ideal": {
        "state": "resident", "kv": "keep", "connection": "free", "codec": None, "control": "host", "placement": "co-located",
        "tools": "synchronous", "notification": "event", "dispatch": "none",
    },
    "stateless-api": {
        "state": "full", "kv": "discard", "connection": "new", "codec": "json", "control": "host", "placement": "external",
        "tools": "synchronous", "notification": "event", "dispatch": "every-step",
    },
    "external-orchestrator": {
        "state": "full", "kv": "discard", "connection": "persistent", "codec": "json", "control": "host", "placement": "external",
        "tools": "synchronous", "notification": "polling", "dispatch": "every-step",
    },
    "session-state": {
        "state": "delta", "kv": "keep", "connection": "persistent", "codec": "json", "control": "host", "placement": "external",
        "tools": "synchronous", "notification": "event", "dispatch": "every-step",
    },
    "agent-native": {
        "state": "resident", "kv": "keep", "connection": "in-process", "codec": "binary", "control": "host",
        "placement": "co-located", "tools": "overlapped", "notification": "event", "dispatch": "every-task",
    },
    "gpu-resident": {
        "state": "resident", "kv": "keep", "connection": "in-process", "codec": "binary", "control": "device",
        "placement": "co-located", "tools": "overlapped", "notification": "event", "dispatch": "every-task",
    },
}  # fmt: skip
