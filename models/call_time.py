"""How long one call of a served model takes, from the times of its iterations.

The device is taken to have `batch` calls alike under way all the time. A call prefills its prompt in one iteration of its
own, which gives the first token, and decodes beside the others, one iteration a token; and while it is under way each of the
others prefills once, which holds it up. So `batch` calls take as long together as their prefills one after the other and
their decodes side by side, and no device does more than it can. Where repeats of a product were measured, one draw of their spread
scales the whole call: what makes a kernel slow, such as the clock or a neighbour, lasts longer than a kernel.

Leaves out: batches that grow and shrink with the load: an iteration-level server is another kind.
Checked: tests/test_call_time.py, against a sum over every iteration.
"""

from ..sim.engine.random_variable import Distribution
from .transformer import IterationTime

__all__ = ["CallTime"]

_BLOCK = 64  # tokens between the knots of the running sum: within a block an iteration's time hardly changes


class CallTime:
    """Seconds of the parts of a call. The running sum over decode iterations grows to the longest context asked for."""

    __slots__ = ("_sums", "batch", "iteration", "noise")

    def __init__(self, iteration: IterationTime, batch: int, noise: Distribution | None = None) -> None:
        self.iteration = iteration
        self.batch = batch
        self.noise = noise
        self._sums = [0.0]

    def prefill(self, tokens: float, cached: float) -> float:
        """Return the seconds for `tokens` of a prompt behind `cached` ones; 0 for none."""
        return self.iteration.prefill(tokens, cached) if tokens else 0.0

    def decode(self, context: float, output: float) -> float:
        """Return the seconds of the iterations that make `output` tokens, the first of them behind `context` tokens."""
        if output <= 0:
            return 0.0
        self.iteration.note(self.batch, context)
        self.iteration.note(self.batch, context + output - 1)
        return self._sum(context + output) - self._sum(context)

    def _sum(self, context: float) -> float:
        """Return the seconds of decode iterations at every context from 0 up to `context`."""
        block, rest = divmod(context, _BLOCK)
        place = int(block)
        while len(self._sums) < place + 2:
            middle = (len(self._sums) - 0.5) * _BLOCK
            self._sums.append(self._sums[-1] + _BLOCK * self.iteration.step(self.batch, middle))
        below = self._sums[place]
        return below + (self._sums[place + 1] - below) * rest / _BLOCK
