"""How long an iteration of a transformer takes: the sum of the laws of its kernels, and what its host adds.

An iteration works on all its tokens together, except for attention, which each sequence has of its own. While the device
computes, the host submits the next kernels: submission adds only what it exceeds the device's time by. What the host does
between iterations (`engine.step`) is added in full.

Leaves out: pipeline and expert parallelism; overlap of collectives with products; the gather of logits from ranks; fused
kernels where the profile has laws of their parts; sequences of unequal length beyond their mean; padding of recorded graphs
to batch sizes; preparation of images and sound before the first product.
Checked: tests/test_transformer.py, against times worked out by hand, and the law that weights are read once.
Source: Pope et al., MLSys 2023 (composition); Shoeybi et al., 2019 (tensor parallelism); Agrawal et al., OSDI 2024 (chunks).
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np

from ..sim.engine import units
from ..sim.engine.errors import listed
from ..sim.profile.law import Timing
from ..sim.profile.profile import Profile, Same
from .kernel_laws import KernelLaws
from .serving.decode_row import DecodeRow
from .shapes import Shape
from .transformer_kernels import Attention, Call, Kernels, Layout

__all__ = ["IterationTime"]

_OCTAVES = 21  # contexts from 1 to 2^21 are interpolated
_PER_OCTAVE = 8  # straight pieces between a context and twice that


_KNOTS = [2.0**octave * (1 + piece / _PER_OCTAVE) for octave in range(_OCTAVES) for piece in range(_PER_OCTAVE)]
_KNOTS.append(2.0**_OCTAVES)
_ROWS = 8  # batches whose attention is worked out together, for the same reason
_BLOCK = 256  # whole sizes whose seconds are worked out together: little more work than one


class _Known(NamedTuple):
    """What is worked out of a layout on a machine: seconds by size, and of attention at `_KNOTS` by the sequences that decode.

    The systems of a process share it. What was asked for, of which `flags` tells, each has for itself.
    """

    dense: dict[float, float]
    head: dict[float, float]
    attention: dict[int, list[float]]


@lru_cache(maxsize=64)
def _known(_machine: Same, *_layout: Hashable) -> _Known:
    return _Known({}, {}, {})


class _Table:
    """Seconds of some calls together by their size, kept in `known`, and the sizes asked for.

    Whole sizes are worked out a block at a time and exactly: products step from tile to tile, so none is interpolated.
    """

    __slots__ = ("_calls", "_seconds", "asked")

    def __init__(self, calls: Sequence[Call], known: dict[float, float]) -> None:
        self._calls = calls
        self._seconds = known
        self.asked: set[float] = set()

    def seconds(self, size: float) -> float:
        """Return the seconds of all calls over so many tokens or sequences."""
        self.asked.add(size)
        found = self._seconds.get(size)
        return self._fill(size) if found is None else found

    def note(self) -> None:
        """Have the laws remember the sizes asked for that they do not reach: the sizes of calls rise with their argument."""
        for call in self._calls if self.asked else ():
            call.timing.note(call.sizes(min(self.asked)))
            call.timing.note(call.sizes(max(self.asked)))

    def _fill(self, size: float) -> float:
        first = (size - 1) // _BLOCK * _BLOCK + 1
        sizes = np.arange(first, first + _BLOCK, dtype=float) if size >= 1 and size == int(size) else np.array([size])
        seconds = np.zeros(len(sizes))
        for call in self._calls:
            seconds = seconds + call.times * call.timing.predict(call.sizes(sizes))  # type: ignore[arg-type]
        self._seconds.update(zip(sizes.tolist(), seconds.tolist(), strict=True))
        return self._seconds[size]


class IterationTime:
    """Seconds of an iteration of a model of some shape on the machine of a profile.

    `dtype` is the type of the weights; narrower than 16 bits, activations and the output table are bf16. `kv_dtype` is that
    of the cache, by default the activations'. `link` joins the ranks of `tensor_parallel`. `launch: graph` replays recorded
    kernels, `eager` launches each. `engine` names the profile's law of host time; left out, the only one there is.
    `missing` tells what had to be derived or left at zero.
    Raises ProfileError where the profile lacks a law that cannot be derived, ValueError for an impossible layout.
    """

    def __init__(
        self,
        profile: Profile,
        shape: Shape,
        *,
        dtype: str = "bf16",
        kv_dtype: str | None = None,
        tensor_parallel: int = 1,
        link: str = "nvlink",
        launch: Literal["graph", "eager"] = "graph",
        engine: str | None = None,
    ) -> None:
        self.shape = shape
        self.profile = profile
        self._laws = KernelLaws(profile)
        self._layout = Layout(shape, dtype, kv_dtype, tensor_parallel, link)
        self._kernels = Kernels(self._laws, self._layout)
        self._bandwidth = profile.device.memory_bandwidth if profile.device else None
        self._launch = self._submission(launch)
        self._step = self._host_law(engine)
        known = _known(Same(profile), shape, dtype, kv_dtype, tensor_parallel, link)
        self._dense = _Table(self._kernels.dense, known.dense)
        self._head = _Table(self._kernels.head, known.head)
        self._once: dict[tuple[str, float], float] = {}  # what the host takes, by what it does and for how many
        self._rows: dict[tuple[int, float], DecodeRow] = {}
        self._attention = known.attention
        self._noters: list[Callable[[], None]] = []

    @property
    def missing(self) -> list[str]:
        """Sentences: what the profile lacks, and what stands in for it."""
        return list(self._laws.missing)

    @property
    def laws(self) -> list[str]:
        """The names of the profile's laws in use."""
        return [name for name in self._laws.timings if name in self.profile.laws]

    def prefill(self, new: float, cached: float = 0.0, batch: int = 1) -> float:
        """Return the seconds of an iteration that prefills `new` tokens after `cached` ones, for `batch` such sequences."""
        return self.mixed([(new, cached)] * batch)

    def decode(self, batch: int, context: float) -> float:
        """Return the seconds of an iteration that decodes a token for each of `batch` sequences, of mean length `context`."""
        self.note(batch, context)
        return self.step(batch, context)

    def note(self, batch: int, context: float) -> None:
        """Remember that `decode` was asked for: `flags` tells whether its laws reach so far."""
        row = self.row(batch)
        row.least, row.most = min(row.least, context), max(row.most, context)

    def step(self, batch: int, context: float) -> float:
        """Return what `decode` returns and note nothing: for sums that look further than they are asked."""
        row = self.row(batch)
        if _KNOTS[0] <= context <= _KNOTS[-1]:
            device = row.at(context)
        else:
            device = self.fixed(batch, batch) + self._decode_attention(batch, context)
        return max(row.submit, device) + self.host(batch)

    def mixed(self, chunks: Sequence[tuple[float, float]], decodes: int = 0, context: float = 0.0) -> float:
        """Return the seconds of an iteration of chunks of prefills, each (new, cached) tokens, and `decodes` decodes.

        `context` is the mean length of the decoding sequences. Every chunk and every decode samples one token.
        """
        tokens, sequences = self._sizes(chunks, decodes)
        attention = self._prefill_attention(chunks) if chunks else 0.0
        if decodes:
            attention += self._decode_attention(decodes, context)
        device = self.fixed(tokens, sequences) + attention
        return max(device, self.submit(bool(chunks) + bool(decodes))) + self.host(sequences)

    def encode(self, batch: int, tokens: float) -> float:
        """Return the seconds to encode `batch` sequences of `tokens` each. Raises ValueError for a shape that generates."""
        device = self._dense.seconds(batch * tokens) + self._encoder_attention(batch, tokens)
        return max(device, self.submit(1)) + self.host(batch)

    def parts(
        self, chunks: Sequence[tuple[float, float]] = (), decodes: int = 0, context: float = 0.0
    ) -> dict[str, float]:
        """Return the seconds of `mixed` by part, such as `qkv`, `attention.decode`, `launch` and `host`; they add up to it."""
        tokens, sequences = self._sizes(chunks, decodes)
        result = _by_part(self._kernels.dense, tokens) | _by_part(self._kernels.head, sequences)
        if chunks:
            result["attention.prefill"] = self._prefill_attention(chunks)
        if decodes:
            result["attention.decode"] = self._decode_attention(decodes, context)
        return self._with_host(result, bool(chunks) + bool(decodes), sequences)

    def encode_parts(self, batch: int, tokens: float) -> dict[str, float]:
        """Return the seconds of `encode` by part; they add up to it."""
        result = _by_part(self._kernels.dense, batch * tokens)
        result["attention.encoder"] = self._encoder_attention(batch, tokens)
        return self._with_host(result, 1, batch)

    def floor(self, tokens: float) -> float:
        """Return the seconds to read the layers' weights once at nominal bandwidth; 0 where the profile does not tell it."""
        if self._bandwidth is None:
            return 0.0
        weights = self.shape.layer_weight_bytes(self._layout.dtype, tokens)
        return weights / self._layout.ranks / self._bandwidth

    def flags(self) -> list[str]:
        """Return a sentence for each size outside of a law's range so far, and one where laws beat the memory bandwidth."""
        for note in (self._dense.note, self._head.note, *self._noters):
            note()
        for (batch, _), row in self._rows.items():
            if row.most >= row.least:
                self._decode_attention(batch, row.least)
                self._decode_attention(batch, row.most)
        found = [flag for timing in self._laws.timings.values() for flag in timing.flags()]
        below = [(tokens, self._dense.seconds(tokens), self.floor(tokens)) for tokens in sorted(self._dense.asked)]
        below = [one for one in below if one[1] < one[2]]
        if below:
            tokens, seconds, floor = min(below, key=lambda one: one[1] / one[2])
            found.append(
                f"the layers take {units.format(seconds, units.DURATION)} for {tokens:g} tokens, less than the "
                f"{units.format(floor, units.DURATION)} in which the memory can read their weights"
            )
        return found

    def basis(self) -> Iterator[str]:
        """Yield which laws the times are sums of, how sure they are, and what was derived."""
        profile = self.profile
        laws = {name: profile.laws[name] for name in self.laws}
        known = {name: error for name, law in laws.items() if (error := law.error) is not None}
        if known:
            worst = max(known, key=lambda name: known[name].p95)
            yield (
                f"rests on {len(laws)} laws of {profile.name}; the least sure is {worst}, off by "
                f"{100 * known[worst].median:.2g} % (median) and {100 * known[worst].p95:.2g} % (p95) on {known[worst].split} "
                "that its fit did not see"
            )
        doubted = [name for name, law in laws.items() if law.doubts]
        if doubted:
            yield f"its profile has doubts about {listed(doubted)}; `coordsim profile show` tells them"
        why: dict[str, list[str]] = {}
        for sentence in self.missing:
            what, _, reason = sentence.partition(" is not in the profile: ")
            why.setdefault(reason or what, []).extend([what] if reason else [])
        for reason, names in why.items():
            yield f"{', '.join(names)}: not in the profile; {reason}" if names else reason
        yield from self.flags()

    # For servers, which sum and interpolate themselves

    def row(self, batch: int, skew: float = 0.0) -> DecodeRow:
        """Return the device seconds of an iteration that decodes for `batch` sequences, by their length."""
        found = self._rows.get((batch, skew))
        if found is None:
            fixed = self.fixed(batch, batch)
            if batch not in self._attention:
                first = (batch - 1) // _ROWS * _ROWS + 1
                batches = range(first, first + _ROWS)
                seconds = _by_context(self._kernels.decode, "batch", batches, _KNOTS)
                self._attention.update(zip(batches, seconds, strict=True))
            values = [fixed + seconds for seconds in self._attention[batch]]
            found = self._rows[batch, skew] = DecodeRow(_KNOTS, values, self.submit(1), skew)
        return found

    def fixed(self, tokens: float, sequences: float) -> float:
        """Return the device seconds of all but attention, for so many tokens of which so many sequences sample one each."""
        return self._dense.seconds(tokens) + self._head.seconds(sequences)

    def submit(self, attentions: int) -> float:
        """Return the host seconds to submit the kernels of an iteration, with so many kernels of attention a layer."""
        return self._kept("submit", attentions, lambda: self._launch(self._kernels.count(attentions)))

    def prefill_attention(self, new: Sequence[float], cached: Sequence[float]) -> list[list[float]]:
        """Return, for each chunk of `new` tokens, the seconds of its attention over each of `cached`; ranges are not looked at."""
        return _by_context(self._kernels.prefill, "query", new, cached)

    def note_prefill(self, new: float, cached: float) -> None:
        """Remember that attention of a chunk was asked for: `flags` tells whether its law reaches so far."""
        attention = self._kernels.prefill
        attention.timing.note(attention.sizes(1, new, cached))

    def watch(self, note: Callable[[], None]) -> None:
        """Have `note` called before flags are told: who asks often remembers extremes, and notes them then."""
        self._noters.append(note)

    # Sums over kernels

    def _sizes(self, chunks: Sequence[tuple[float, float]], decodes: int) -> tuple[float, int]:
        """Return the tokens and the sequences of an iteration."""
        tokens, sequences = sum(new for new, _ in chunks) + decodes, len(chunks) + decodes
        if tokens <= 0:
            raise ValueError("an iteration needs a new token, of a chunk or a decode; got none")
        return tokens, sequences

    def host(self, sequences: float) -> float:
        """Return the seconds of the host between two iterations over so many sequences."""
        step = self._step
        if step is None:
            return 0.0
        return self._kept("host", sequences, lambda: step.seconds({"batch": sequences}))

    def _kept(self, what: str, size: float, work: Callable[[], float]) -> float:
        """Return what `work` gives, computed once for a size."""
        key = (what, size)
        if key not in self._once:
            self._once[key] = work()
        return self._once[key]

    def _prefill_attention(self, chunks: Sequence[tuple[float, float]]) -> float:
        attention = self._kernels.prefill
        if len(chunks) == 1:
            return attention.seconds(1, *chunks[0])
        return sum(attention.seconds(batch, *chunk) for chunk, batch in Counter(chunks).items())

    def _decode_attention(self, batch: int, context: float) -> float:
        return self._kernels.decode.seconds(batch, 1.0, max(context, 1.0))

    def _encoder_attention(self, batch: int, tokens: float) -> float:
        return self._kernels.encoder.seconds(batch, tokens, 0.0)

    def _with_host(self, parts: Mapping[str, float], attentions: int, sequences: float) -> dict[str, float]:
        launch = max(0.0, self.submit(attentions) - sum(parts.values()))
        return {**parts, "launch": launch, "host": self.host(sequences)}

    # Laws of the host

    def _submission(self, launch: Literal["graph", "eager"]) -> Callable[[float], float]:
        """Return the host seconds to submit so many kernels."""
        if launch not in ("graph", "eager"):
            raise ValueError(f"launch must be graph or eager; got {launch}")
        name = "launch" if launch == "eager" else "graph.replay"
        law = self._laws.first(name, {})
        if law is None:
            self._laws.missing.append(f"{name} is not in the profile: submitting kernels takes no time")
            return lambda _kernels: 0.0
        if launch == "eager":
            return lambda kernels: kernels * law.seconds({})
        return lambda kernels: law.seconds({"kernels": kernels})

    def _host_law(self, engine: str | None) -> Timing | None:
        """Return the law of host time by sequences."""
        if engine is not None:
            return self._laws.need("engine.step", {"engine": engine})
        only = self._laws.only("engine.step")
        if only is None:
            which = (
                "has several laws of engine.step and none was named" if self.profile.of("engine.step") else "is silent"
            )
            self._laws.missing.append(f"engine.step: the profile {which}: the host adds no time to an iteration")
        return only


def _by_context(
    attention: Attention, name: str, values: Sequence[float], contexts: Sequence[float]
) -> list[list[float]]:
    """Return the seconds of attention for each value of a size, over each of `contexts`."""
    sizes: dict[str, Any] = attention.sizes(1.0, 1.0, 0.0)
    sizes[name] = np.repeat(np.array(values, dtype=float), len(contexts))
    sizes["context"] = np.tile(np.array(contexts, dtype=float), len(values))
    seconds = attention.times * attention.timing.predict(sizes)
    found: list[list[float]] = seconds.reshape(len(values), len(contexts)).tolist()
    return found


def _by_part(calls: Sequence[Call], size: float) -> dict[str, float]:
    result: dict[str, float] = {}
    for call in calls:
        result[call.part] = result.get(call.part, 0.0) + call.seconds(size)
    return result
