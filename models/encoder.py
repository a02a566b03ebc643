"""Encoders: what turns images, sound or video into representations that a language model reads.

An encoder runs on a pool of its own (`replicas` x `concurrency` slots, on its `node`), or on the device of a model server
(`model`), whose time and memory it then takes. Its time is a distribution, or the sum of the profile's laws of kernels for a
`shape` such as `siglip-so400m-14`: images (and frames) are sequences of their own, computed together, and so are the windows of
a sound.

Leaves out: batches of several tasks in one call of an encoder; images of another size than the shape was trained on; several
devices for one encoder; the weights' room in the memory of a model's device; a way of its own from another encoder that was asked.
Checked: tests/test_encoder.py, tests/test_replica_faults.py, tests/data/bad.
"""

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from pydantic import model_validator

from ..sim.engine import units
from ..sim.engine.branch import ENTRY
from ..sim.engine.distributions import DurationDist
from ..sim.engine.errors import ProfileError
from ..sim.engine.spec import Count, Name, PositiveCount, Spec, SpecProblem
from ..sim.profile.profile import Profile
from .failure import CallFailed, TaskFailed
from .handling import ATTEMPTS_APART, Handling
from .llm import AnyShape
from .model_server import guarded
from .service import ZERO_TIME
from .transformer import IterationTime

if TYPE_CHECKING:
    from ..sim.engine.branch import Branch
    from .host import Host
    from .system import System

__all__ = ["Encoder", "EncoderServer"]

_EXAMPLE = 8.0  # units at once, of what `basis` tells
_ON_DEVICE = 1 << 20  # sets the draws of a job on a model's device apart from those of the model's calls
_ON_MODEL = ("node", "replicas", "concurrency", "queue_limit")  # what a model's device has of its own


class Encoder(Spec):
    """An encoder: `latency` a call and `per_unit` more for each unit, or `shape` with the profile's laws in their place.

    Both are drawn once a call, so that the units of a call are equally slow. `model` names the model server on whose device it
    runs; else it has slots of its own, and at most `queue_limit` calls wait. `dtype` is the type of a shape's weights.

    `shared: false` is an idealization, to see what sharing costs: each call has a device of its own, and leaves the model's alone.
    """

    node: Name | None = None
    model: Name | None = None
    replicas: PositiveCount = 1
    concurrency: PositiveCount = 1
    queue_limit: Count | None = None
    latency: DurationDist | None = None
    per_unit: DurationDist = ZERO_TIME
    shape: AnyShape | None = None
    dtype: str = "bf16"
    shared: bool = True
    handling: Handling = Handling()

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.shape is not None and self.latency is not None:
            raise SpecProblem(
                (), "tells its time twice; keep one of `latency` (and `per_unit`), or `shape` with a profile"
            )
        if self.shape is None and self.latency is None and not self.says("per_unit"):
            raise SpecProblem((), "says nothing of its time; give `latency` or `per_unit`, or `shape` with a profile")
        if self.shape is not None and self.says("per_unit"):
            raise SpecProblem("per_unit", "must be left out: `shape` tells it")
        if self.shape is None and self.says("dtype"):
            raise SpecProblem("dtype", "goes with `shape` only")
        for name in _ON_MODEL if self.model is not None else ():
            if self.says(name):
                raise SpecProblem(name, "must be left out: it runs on the device of `model`")
        return self

    def iteration_time(self, profile: Profile) -> IterationTime:
        """Return its times as sums of the profile's laws. Raises ProfileError or ValueError where it has none."""
        assert self.shape is not None
        return IterationTime(profile, self.shape, dtype=self.dtype)

    def sequences(self, amount: float) -> tuple[int, int]:
        """Return how many sequences so many images, or seconds of sound, are, and the tokens of each."""
        assert self.shape is not None
        if self.shape.audio is not None:
            return self.shape.audio.windows(amount), self.shape.audio.window_tokens
        assert self.shape.image is not None
        return max(1, round(amount)), self.shape.image.tokens()

    def reads(self, kind: str) -> bool:
        """Whether it can encode inputs of a kind: a distribution can, a shape takes images or sound."""
        shape = self.shape
        if shape is None or (shape.image is None and shape.audio is None):
            return True  # a shape that takes neither is a misfit by itself
        return (shape.audio if kind == "audio" else shape.image if kind in ("vision", "video") else None) is not None

    def basis(self, profile: Profile) -> Iterator[str]:
        """Yield what an encoder with a shape rests on: its times on the machine, the worst of its laws, what was derived."""
        if self.shape is None:
            return
        time = self.iteration_time(profile)
        one, more = (units.format(time.encode(*self.sequences(amount)), units.DURATION) for amount in (1.0, _EXAMPLE))
        what = "a second of sound takes" if self.shape.audio is not None else "an image takes"
        yield f"alone, {what} {one}, and {_EXAMPLE:g} at once {more}"
        yield from time.basis()

    def misfits(self, profile: Profile | None) -> Iterator[SpecProblem]:
        """Yield why this encoder cannot run on the machine of a profile."""
        shape = self.shape
        if shape is None:
            return
        if profile is None:
            yield SpecProblem("shape", "needs `profile`, such as `profile: h100-sxm`, for the times of its kernels")
        elif shape.is_causal:
            yield SpecProblem("shape", "must be of a model that encodes; this one generates")
        elif shape.image is None and shape.audio is None:
            yield SpecProblem(
                "shape", "must be of a model that encodes images or sound; this one has neither `image` nor `audio`"
            )
        else:
            try:
                self.iteration_time(profile).encode(*self.sequences(1.0))
            except (ProfileError, ValueError) as error:
                told = error.problems[0].message if isinstance(error, ProfileError) else str(error)
                yield SpecProblem("shape", f"has no times on the profile: {told}")


class EncoderServer:
    """An encoder as the tasks of one system use it: its time, and its slots or the model's device on which it runs."""

    def __init__(self, system: "System", name: str, spec: Encoder) -> None:
        self.name = name
        self.path = f"encoders.{name}"
        self.spec = spec
        self.model: Any = None if spec.model is None else system.servers[spec.model]
        self.node = system.node_of(spec.node) if self.model is None else self.model.node
        self.host: Host | None = system.hosts.get(self.node)
        account = system.ledger.account
        self.queue_account = account("queueing", self.path)
        self.encode_account = account("inference", name, "encode")
        self.pool: Any = None
        if self.model is None:
            self.pool = system.pool(self.path, spec.replicas * spec.concurrency, spec.queue_limit)
            system.book_waits(self.pool, self.queue_account, self.encode_account)
        work = (self.encode_account,) if self.model is None else (self.model.encode_account,)
        self.condition, self.guard = guarded(system, self.path, spec.handling, work)
        self.other: EncoderServer | None = None
        if self.guard is not None:
            self.callee = system.ledger.callee()
            self.other = None if spec.handling.fallback is None else system.encoder(spec.handling.fallback)
        if self.condition is not None:
            self.condition.pool = self.pool
        self.latency = system.stream(f"{self.path}/latency", spec.latency or ZERO_TIME)
        self.per_unit = system.stream(f"{self.path}/per_unit", spec.per_unit)
        self.time: IterationTime | None = None
        if spec.shape is not None:
            assert system.machine is not None
            self.time = spec.iteration_time(system.machine)

    def seconds(self, branch: "Branch", ordinal: int, amount: float) -> float:
        """Return the seconds to encode `amount` units, without any wait."""
        if self.time is not None:
            return self.time.encode(*self.spec.sequences(amount))
        each = self.per_unit.draw(branch.index, ordinal, branch.lane)
        return self.latency.draw(branch.index, ordinal, branch.lane) + each * amount

    def encode(
        self, branch: "Branch", seconds: float, before: float, account: int, footprint: float, amount: float
    ) -> Generator[None, Any, None]:
        """Encode `amount` units for `seconds`, after `before` seconds of preparation on the same device, booked in `account`.

        What is made takes `footprint` bytes. Each attempt at it takes as long. Raises TaskFailed where there is no room for it, or
        the handling gives up: also where that goes on without an answer, for it depends on who asked whether that can be done.
        """
        if self.guard is None:
            try:
                yield from self._encode(branch, seconds, before, account, footprint)
            except CallFailed as failed:
                raise TaskFailed(failed.reason) from None
            return
        number = branch.calls[self.callee]
        branch.calls[self.callee] = number + 1

        def attempt(branch: "Branch", again: int) -> Generator[None, Any, None]:
            return self._attempt(branch, (seconds, before), account, footprint, number + again * ATTEMPTS_APART)

        def fallback(branch: "Branch", _again: int) -> Generator[None, Any, None]:
            assert self.other is not None
            return self.other.encode(
                branch, self.other.seconds(branch, number, amount), before, account, footprint, amount
            )

        failure = yield from self.guard.call(branch, attempt, None if self.other is None else fallback)
        if failure is not None:
            raise TaskFailed(failure.reason)

    def _attempt(
        self, branch: "Branch", seconds: tuple[float, float], account: int, footprint: float, number: int
    ) -> Generator[None, Any, None]:
        """One attempt, where things go wrong with the encoder, or the model on whose device it runs. Raises CallFailed."""
        own = self.condition
        device = None if self.model is None or not self.spec.shared else self.model.condition
        slow = 1.0
        if own is not None:
            slow *= yield from own.admit(branch, number)
        if device is not None:
            slow *= yield from device.admit(branch, number + _ON_DEVICE)
        with ExitStack() as there:
            for condition in (own, device):
                if condition is not None:
                    there.enter_context(condition.holding(branch))
            yield from self._encode(branch, seconds[0] * slow, seconds[1] * slow, account, footprint)
        if own is None:
            return
        if self.pool is not None and self.spec.shared:
            own.waited(branch, branch.wait.started - branch.wait.arrived)
        if not own.answers(branch, number):
            raise CallFailed("error", f"{self.path}: error")

    def _encode(
        self, branch: "Branch", seconds: float, before: float, account: int, footprint: float
    ) -> Generator[None, Any, None]:
        """Be served. Raises CallFailed where the queue is full, and TaskFailed where there is no room for what is made."""
        wait, total = branch.wait, before + seconds
        if not self.spec.shared:
            branch.add(account, before)
            branch.add(self.encode_account, seconds, footprint)
            return
        if self.model is not None:
            try:
                yield from self.model.encode(branch, total, footprint)
            except TaskFailed as failed:
                if self.model.spec.shape is not None:  # it would never have room
                    raise
                raise CallFailed("overload", str(failed)) from None
            if before:
                self._prepared(branch, before, account)
            return
        # How one that is cut off is booked
        wait.split = (account, before / total if before else 0.0, self.encode_account)
        if self.pool.use(wait, branch.time, total):
            yield
        wait.split = None
        branch.book(self.queue_account, wait.arrived, wait.started)
        if wait.rejected:
            wait.rejected = False
            raise CallFailed("overload", f"{self.path}: queue full")
        middle = min(wait.started + before, wait.ended)
        branch.book(account, wait.started, middle)
        branch.book(self.encode_account, middle, wait.ended, footprint)

    def _prepared(self, branch: "Branch", before: float, account: int) -> None:
        """Of the job on the device that is just over, the first `before` seconds were preparation."""
        start, parts, spans = branch.wait.started, branch.parts, branch.spans
        middle = start + before
        parts[self.model.encode_account] -= middle - start
        parts[account] += middle - start
        if spans is not None:
            rest = spans[-ENTRY:]
            lane, outer, *_ = rest
            rest[3] = middle
            spans[-ENTRY:] = [lane, outer, account, start, middle, 0.0, 0, *rest]

    def flags(self) -> list[str]:
        """Return where laws were asked for what they were not fitted on."""
        return [] if self.time is None else self.time.flags()
