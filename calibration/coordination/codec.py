"""Encoding and decoding, by codec: what it costs to put an agent's state into bytes and to get it back.

Every codec goes from plain Python objects to bytes and back to plain objects. `protobuf` and `arrow` therefore pay for
filling and reading their messages and columns too, as a program does whose state is plain. `json`, `orjson`, `msgpack`,
`pickle`, `protobuf` and `arrow` take the messages of an agent; `base64` an image as chat interfaces carry it, in a JSON
string; `torch` tensors. The size is the exact length of what is encoded.

Leaves out: compression; validation of what was decoded (pydantic and the like); sending it. A call frees its result.
Checked: tests/test_coordination_probes.py.
"""

import base64
import io
import json
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

from ..probe import Call, Case, Found, Missing, Probe
from .payload import copies, image, state

__all__ = ["CODECS", "Codec", "probes"]

SIZES = (1_000, 4_000, 16_000, 64_000, 256_000, 1_000_000, 4_000_000)  # bytes to be near; a case holds the exact length


@dataclass(frozen=True, slots=True)
class Codec:
    """A codec: `make(size, copy)` is an object that encodes to about `size` bytes."""

    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    make: Callable[[int, int], Any] = state


def probes() -> Found:
    """Return the probes of `encode` and `decode` for every codec that is installed."""
    found: list[Probe] = []
    missing: list[Missing] = []
    for name, (load, package) in CODECS.items():
        try:
            codec = load()
        except ImportError as error:
            why = f"{package} is not installed ({error}); try `pip install {package}`"
            missing += [Missing(f"{op}[codec={name}]", why) for op in ("encode", "decode")]
        else:
            found += _both_ways(name, codec)
    return Found(tuple(found), tuple(missing))


def _both_ways(name: str, codec: Codec) -> list[Probe]:
    """Return the probe of encoding and that of decoding, over the same objects."""
    options = {"codec": name}
    nominal = {float(len(codec.encode(codec.make(size, 0)))): size for size in SIZES}
    return [
        Probe(
            op,
            options,
            tuple(Case(op, options, {"bytes": length}) for length in nominal),
            partial(prepare, codec, nominal),
        )
        for op, prepare in (("encode", _encoding), ("decode", _decoding))
    ]


@contextmanager
def _encoding(codec: Codec, nominal: dict[float, int], case: Case) -> Iterator[Call]:
    size = nominal[case.sizes["bytes"]]
    objects = [codec.make(size, copy) for copy in range(copies(size))]

    def call(turn: int) -> None:
        codec.encode(objects[turn % len(objects)])

    yield call


@contextmanager
def _decoding(codec: Codec, nominal: dict[float, int], case: Case) -> Iterator[Call]:
    size = nominal[case.sizes["bytes"]]
    encoded = [codec.encode(codec.make(size, copy)) for copy in range(copies(size))]

    def call(turn: int) -> None:
        codec.decode(encoded[turn % len(encoded)])

    yield call


def _json() -> Codec:
    return Codec(lambda value: json.dumps(value, separators=(",", ":")).encode(), json.loads)


def _pickle() -> Codec:
    return Codec(lambda value: pickle.dumps(value, protocol=5), pickle.loads)


def _orjson() -> Codec:
    orjson = import_module("orjson")
    return Codec(orjson.dumps, orjson.loads)


def _msgpack() -> Codec:
    msgpack = import_module("msgpack")
    return Codec(msgpack.packb, msgpack.unpackb)


def _base64() -> Codec:
    def encode(value: bytes) -> bytes:
        url = "data:image/jpeg;base64," + base64.b64encode(value).decode("ascii")
        return json.dumps({"type": "image_url", "image_url": {"url": url}}).encode()

    def decode(encoded: bytes) -> bytes:
        url = json.loads(encoded)["image_url"]["url"]
        return base64.b64decode(url[url.index(",") + 1 :])

    return Codec(encode, decode, image)


def _torch() -> Codec:
    torch = import_module("torch")

    def make(size: int, copy: int) -> dict[str, Any]:
        draws = torch.Generator().manual_seed(copy)
        rows = max(1, size // 4096)  # of 1,020 elements and an identifier: 4,088 bytes a row
        width = min(1020, size // 4)
        hidden = torch.randn((rows, width), generator=draws)
        return {"hidden": hidden, "ids": torch.randint(0, 32_000, (rows,), generator=draws)}

    def encode(value: Any) -> bytes:
        buffer = io.BytesIO()
        torch.save(value, buffer)
        return buffer.getvalue()

    return Codec(encode, lambda encoded: torch.load(io.BytesIO(encoded), weights_only=True), make)


def _arrow() -> Codec:
    arrow = import_module("pyarrow")
    ipc = import_module("pyarrow.ipc")
    text, whole = arrow.string(), arrow.int64()
    calls = arrow.list_(arrow.struct([("id", text), ("name", text), ("arguments", text)]))
    results = arrow.list_(arrow.struct([("title", text), ("url", text), ("rank", whole), ("score", arrow.float64())]))
    names = ("role", "content", "tool_call_id", "tool_calls", "results")
    schema = arrow.schema(list(zip(names, (text, text, text, calls, results), strict=True)))

    def encode(value: Any) -> bytes:
        table = arrow.Table.from_pylist(value, schema)
        sink = arrow.BufferOutputStream()
        with ipc.new_stream(sink, schema) as writer:
            writer.write_table(table)
        return bytes(sink.getvalue())

    return Codec(encode, lambda encoded: ipc.open_stream(encoded).read_all().to_pylist())


_FIELDS = {  # message -> (field, its type in `FieldDescriptorProto`, the message it repeats)
    "Call": (("id", "STRING", ""), ("name", "STRING", ""), ("arguments", "STRING", "")),
    "Result": (("title", "STRING", ""), ("url", "STRING", ""), ("rank", "INT64", ""), ("score", "DOUBLE", "")),
    "Message": (
        ("role", "STRING", ""),
        ("content", "STRING", ""),
        ("tool_call_id", "STRING", ""),
        ("tool_calls", "MESSAGE", "Call"),
        ("results", "MESSAGE", "Result"),
    ),
    "State": (("messages", "MESSAGE", "Message"),),
}


def _protobuf() -> Codec:
    state_class = _state_class()
    fields = {name: tuple(field for field, _, _ in rows) for name, rows in _FIELDS.items()}

    def plain(part: Any, names: tuple[str, ...]) -> dict[str, Any]:
        return {name: getattr(part, name) for name in names}

    def read(message: Any) -> dict[str, Any]:
        calls = [plain(call, fields["Call"]) for call in message.tool_calls]
        results = [plain(result, fields["Result"]) for result in message.results]
        return {**plain(message, fields["Message"][:3]), "tool_calls": calls, "results": results}

    def encode(value: Any) -> bytes:
        return bytes(state_class(messages=value).SerializeToString())

    return Codec(encode, lambda encoded: [read(message) for message in state_class.FromString(encoded).messages])


def _state_class() -> Any:
    """Return the class of a state, from a schema that is written here: no compiler is run."""
    descriptors = import_module("google.protobuf.descriptor_pb2")
    pool = import_module("google.protobuf.descriptor_pool").DescriptorPool()
    factory = import_module("google.protobuf.message_factory")
    file = descriptors.FileDescriptorProto(name="state.proto", package="coordsim", syntax="proto3")
    for message, rows in _FIELDS.items():
        described = file.message_type.add(name=message)
        for number, (field, kind, repeated) in enumerate(rows, start=1):
            added = described.field.add(name=field, number=number)
            added.type = getattr(descriptors.FieldDescriptorProto, f"TYPE_{kind}")
            added.label = descriptors.FieldDescriptorProto.LABEL_REPEATED if repeated else added.LABEL_OPTIONAL
            if repeated:
                added.type_name = f".coordsim.{repeated}"
    pool.Add(file)
    return factory.GetMessageClass(pool.FindMessageTypeByName("coordsim.State"))


CODECS: dict[str, tuple[Callable[[], Codec], str]] = {
    "json": (_json, "python"),
    "orjson": (_orjson, "orjson"),
    "msgpack": (_msgpack, "msgpack"),
    "pickle": (_pickle, "python"),
    "protobuf": (_protobuf, "protobuf"),
    "arrow": (_arrow, "pyarrow"),
    "torch": (_torch, "torch"),
    "base64": (_base64, "python"),
}
"""Codec -> (what loads it, raising ImportError; the package it comes with)."""
