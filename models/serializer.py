"""Serializers: what it costs to encode and decode a message, by codec and bytes.

Leaves out: codecs that change with the content; media codecs.
Checked: tests/test_network.py.
Source of the defaults: medians on 0.5 MB of chat history, CPython on a busy 2-core x86-64 machine
(`json.dumps` 1.92 ms, `json.loads` 0.63 ms, msgpack 0.124 ms and 0.199 ms), measured for this project.
"""

from ..sim.engine.spec import Bandwidth, Duration, Factor, Spec


class Law(Spec):
    """Seconds as a function of bytes: `overhead` plus size over `bandwidth` (not given: no part by size)."""

    overhead: Duration = 0.0
    bandwidth: Bandwidth | None = None

    def seconds(self, size: float) -> float:
        """Return the time for `size` bytes."""
        return self.overhead + (size / self.bandwidth if self.bandwidth else 0.0)

    @property
    def is_free(self) -> bool:
        """Whether it never takes any time."""
        return not self.overhead and self.bandwidth is None


class Serializer(Spec):
    """A codec: laws of `encode` and `decode` in bytes of payload; `expansion` is bytes on the wire per byte of payload."""

    encode: Law = Law()
    decode: Law = Law()
    expansion: Factor = 1.0


def defaults() -> dict[str, Serializer]:
    """Return the serializers that every scenario has; a scenario's own of the same name replaces one."""
    return {name: Serializer.model_validate(laws) for name, laws in _MEASURED.items()}


_MEASURED = {
    "json": {
        "encode": {"overhead": "20 us", "bandwidth": "260 MB/s"},
        "decode": {"overhead": "9 us", "bandwidth": "800 MB/s"},
    },
    "binary": {
        "encode": {"overhead": "1.3 us", "bandwidth": "4 GB/s"},
        "decode": {"overhead": "1.6 us", "bandwidth": "2.5 GB/s"},
    },
}
