"""Serializers: what it costs to encode and decode a message, by codec and bytes.

A scenario's own come first, then the codecs that its profile has laws of, then the defaults below.

Leaves out: codecs that change with the content; media codecs.
Checked: tests/test_network.py, tests/test_on_machine.py.
Source of the defaults: medians on 0.5 MB of chat history, CPython on a busy 2-core x86-64 machine
(`json.dumps` 1.92 ms, `json.loads` 0.63 ms, msgpack 0.124 ms and 0.199 ms), measured for this project. Of `base64`, a text in a
JSON message: 1.5 MB in 3.8 + 5.7 ms there and 7.8 + 1.2 ms back, measured likewise.
"""

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from ..sim.engine.random_variable import Distribution
from ..sim.engine.spec import Bandwidth, Duration, Factor, Spec
from ..sim.profile.law import Timing
from ..sim.profile.ops import split_name

if TYPE_CHECKING:
    from ..sim.profile.profile import Profile


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

    @property
    def noise(self) -> Distribution | None:
        """How the time differs from call to call: it does not."""
        return None


@dataclass(frozen=True, slots=True)
class ProfileLaw:
    """A law of a profile as a serializer's: seconds by bytes, times a factor drawn from `noise` where repeats were measured.

    `expansion` is encoded bytes, which the law is over, per byte of payload.
    """

    timing: Timing
    noise: Distribution | None
    expansion: float = 1.0

    def seconds(self, size: float) -> float:
        """Return the time for `size` bytes; for nothing, none."""
        return self.timing.seconds({"bytes": size * self.expansion}) if size else 0.0

    @property
    def is_free(self) -> bool:
        """Whether it never takes any time: what was measured does."""
        return False


@dataclass(frozen=True, slots=True)
class ProfileSerializer:
    """A codec of a profile. Its laws are over encoded bytes: those of the payload, but for base64."""

    encode: ProfileLaw
    decode: ProfileLaw
    expansion: float = 1.0


class Serializer(Spec):
    """A codec: laws of `encode` and `decode` in bytes of payload; `expansion` is bytes on the wire per byte of payload."""

    encode: Law = Law()
    decode: Law = Law()
    expansion: Factor = 1.0


Codec = Serializer | ProfileSerializer


def defaults(profile: "Profile | None") -> dict[str, Codec]:
    """Return the serializers of a scenario that has none of its own: every codec that a profile has, `json`, `base64` and `binary`.

    `binary` is msgpack where the profile has a law of it.
    """
    known: dict[str, Codec] = {**_measured()}
    if profile is None:
        return known
    for name in profile.of("encode"):
        codec = split_name(name)[1].get("codec", "")
        if profile.has("decode", codec=codec):
            more = _EXPANSION.get(codec, 1.0)
            encode, decode = (profile.timing(op, codec=codec) for op in _WAYS)
            laws = ProfileLaw(encode, encode.noise, more), ProfileLaw(decode, decode.noise, more)
            known[codec] = ProfileSerializer(laws[0], laws[1], more)
    if "msgpack" in known:
        known["binary"] = known["msgpack"]
    return known


@cache  # they are asked for at each check of a scenario
def _measured() -> dict[str, Serializer]:
    return {name: Serializer.model_validate(laws) for name, laws in _MEASURED.items()}


_WAYS = ("encode", "decode")
_EXPANSION = {"base64": 4 / 3}  # four characters for three bytes (RFC 4648)
_MEASURED = {
    "json": {
        "encode": {"overhead": "20 us", "bandwidth": "260 MB/s"},
        "decode": {"overhead": "9 us", "bandwidth": "800 MB/s"},
    },
    "base64": {
        "encode": {"overhead": "20 us", "bandwidth": "160 MB/s"},
        "decode": {"overhead": "9 us", "bandwidth": "170 MB/s"},
        "expansion": 4 / 3,
    },
    "binary": {
        "encode": {"overhead": "1.3 us", "bandwidth": "4 GB/s"},
        "decode": {"overhead": "1.6 us", "bandwidth": "2.5 GB/s"},
    },
}
