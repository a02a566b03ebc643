"""The guard around the calls of a component: what is done when they fail, hang or take too long.

`Guard.call` makes attempts until one is answered, or its policies say that none is to follow. What a failed attempt took, and the
wait before the next, is `recovery`; what struck it is settled once it is known what came of the call. An attempt that is cut off
is taken out of whatever it waits for; or it runs on, and what it still takes there is wasted.

Leaves out: what an attempt is (`service`, `model_call`); failures of a whole task (`recovery`); an attempt that runs on does what it
was waiting for, and nothing that would have come after it.
Checked: tests/test_guard.py, tests/test_let_go.py, tests/test_incidents.py.
"""

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from ..sim.engine.branch import Branch, Wait
from ..sim.engine.incidents import DEGRADED, RECOVERED
from ..sim.engine.simulation import Call
from .condition import Condition
from .context import ESCALATIONS, FALLBACKS, RETRIES, TIMEOUTS, WASTED
from .failure import CallFailed, TaskFailed
from .handling import ATTEMPTS_APART, Handling
from .hedge import Hedging, patient
from .policies import BreakerState, Bulk, Tokens, Waits
from .run_state import Cut

if TYPE_CHECKING:
    from .system import System

__all__ = ["Attempt", "Guard"]

Script = Generator[None, Any, None]
Attempt = Callable[[Branch, int], Script]
"""Makes the attempt of a number (0 is the first one); raises CallFailed."""


class Late(Exception):
    """A time limit is reached: whoever set it goes on from there."""


class Guard:
    """The handling of one component's calls, shared by all who call it.

    `work` are the accounts of its service, to tell what an attempt wasted.
    """

    def __init__(
        self, system: "System", path: str, spec: Handling, work: tuple[int, ...], condition: Condition | None
    ) -> None:
        self.system, self.sim = system, system.sim
        self.path = path
        self.spec = spec
        self.work = work
        self.condition = condition
        self.incidents = system.incidents
        self.counts = system.incidents.of(path)
        account = system.ledger.account
        self.recovery = account("recovery", path)
        system.plan.service |= dict.fromkeys(work, self.counts)
        self.backoff = account("recovery", path, "backoff")
        self.human = account("human", path, "escalation")
        self.waits = Waits(spec.retry.backoff)
        self.draw = system.draws.uniform(f"{path}/backoff")
        self.slot = system.ledger.callee()
        self.budget = None if spec.retry.budget is None else Tokens(spec.retry.budget)
        self.breaker = None if spec.breaker is None else BreakerState(spec.breaker)
        self.bulk = None if spec.bulkhead is None else Bulk(spec.bulkhead)
        self.gated = self.breaker is not None or self.bulk is not None
        self.hedging = None if spec.hedge is None else Hedging(system, path, spec.hedge, work)
        self.opened_by: int | None = None  # the cause of the last failure that the breaker counted
        self.person = None if spec.escalate is None else system.stream(f"{path}/escalate", spec.escalate)

    def call(
        self,
        branch: Branch,
        attempt: Attempt,
        fallback: Attempt | None = None,
        second: Attempt | None = None,
        alone: bool = False,
    ) -> Generator[None, Any, CallFailed | None]:
        """Make a call; `second` is what hedges make (None: another attempt; `alone`: there are none), and `fallback` asks another component.

        Return None, or the failure with which the task goes on all the same. Raises TaskFailed where it cannot.
        """
        self.counts.calls += 1
        outer = branch.struck, branch.because
        branch.struck, began = [], branch.time
        limit = None if self.spec.within is None else began + self.spec.within
        try:
            beside = None if alone else second or attempt
            failure = yield from self._tries(branch, attempt, beside, limit, fallback is not None)
            struck, outcome = branch.struck, RECOVERED
            if failure is not None:
                outcome = DEGRADED
                failure = yield from self._otherwise(branch, failure, fallback)
            self.incidents.settle([one for one in struck if one.mild], DEGRADED, branch.time)
            self.incidents.settle(struck, outcome, branch.time)
        except TaskFailed:
            if branch.task.tail is None:
                self.system.plan.harm(branch.task).fatal += branch.struck or []
            else:  # the task has ended before
                self.system.plan.leave(branch)
            raise
        except BaseException:
            self.system.plan.leave(branch)
            raise
        finally:
            branch.struck, branch.because = outer
        return failure

    def _tries(
        self, branch: Branch, attempt: Attempt, second: Attempt | None, limit: float | None, asks: bool
    ) -> Generator[None, Any, CallFailed | None]:
        """Make attempts until one is answered, or none may follow; return how the last one failed. `asks`: another component is asked then."""
        retry, state = self.spec.retry, branch.state
        call = branch.calls[self.slot]
        branch.calls[self.slot] = call + 1
        number, wait = 0, 0.0
        if self.budget is not None:
            self.budget.earn()
        while True:
            before, first, at = branch.parts[:], branch.mark(), branch.time
            failure, goes = yield from self._try(branch, attempt, second, number, limit)
            if failure is None:
                state.last_error = False
                return None
            state.last_error = True
            again = goes and number + 1 < retry.attempts and failure.kind in retry.on
            again = again and (limit is None or branch.time < limit) and (self.budget is None or self.budget.spend())
            asks = asks or self.person is not None or self.spec.exhausted == "fail"
            if again or failure.answer is None or asks:
                if failure.answer is not None:
                    self._wasted(branch, self._worked(branch, before))
                branch.lose(before, first, self.recovery)
            else:
                self.counts.useful += self._worked(branch, before)
            if again:
                number += 1
                branch.facts[RETRIES] += 1
                draw = self._draw(branch, call, number) if self.waits.random else 0.0
                wait = self.waits.delay(number, wait, draw)
                branch.add(self.backoff, wait if limit is None else min(wait, limit - branch.time))
            cause = self._cause(branch, failure)
            branch.because = cause
            name = self.incidents.causes[cause].name
            self.system.plan.lost(branch, cause, branch.time - at, f"{name} -> {failure.reason}")
            if not again:
                return failure

    def _draw(self, branch: Branch, call: int, number: int) -> float:
        """Return the draw of the wait before attempt `number` (1: the second)."""
        apart = number * ATTEMPTS_APART if number > 1 else 0
        return self.draw.draw(branch.index, call + apart, branch.lane)

    def _cause(self, branch: Branch, failure: CallFailed) -> int:
        """Return what a failed attempt is to be put down to: what struck it, or who is to blame for the load, or that itself."""
        struck = branch.struck
        if failure.cause is not None:
            return failure.cause
        if struck and len(struck) > failure.known:
            struck[-1].mild = False
            failure.cause = struck[-1].root
            return failure.cause
        load = self.incidents.cause(failure.reason, "load")
        strike = self.incidents.strike(load, branch.index, branch.lane, branch.time, self.path)
        branch.struck = [*(struck or ()), strike]
        strike.root = self._blamed(branch, failure, load)
        failure.cause = strike.root
        return failure.cause

    def _blamed(self, branch: Branch, failure: CallFailed, load: int) -> int:
        """Return the cause without which a call would not have failed by the load: `load` itself, as far as one can tell."""
        condition = self.condition
        if failure.kind == "rejected" and self.opened_by is not None:
            return self.opened_by
        if condition is not None and condition.blamed is not None:
            return condition.blamed
        return load if branch.because is None else branch.because

    def _try(
        self, branch: Branch, attempt: Attempt, second: Attempt | None, number: int, limit: float | None
    ) -> Generator[None, Any, tuple[CallFailed | None, bool]]:
        """Make one attempt, if it may be made. Return how it failed (None: it was answered), and whether another one may follow."""
        at, spec, known = branch.time, self.spec, len(branch.struck or ())
        if self.gated:
            yield from self._settle(branch)
        if limit is not None and at >= limit:
            return self._late(branch, at, known), False
        ticket, rejected = self._admits(at)
        if rejected is not None:
            rejected.known = known
            return rejected, False
        self.counts.attempts += 1
        until = None if spec.timeout is None else at + spec.timeout
        until = limit if until is None else until if limit is None else min(until, limit)
        failure: CallFailed | None = None
        before = branch.parts[:]
        try:
            failure = yield from self._outcome(branch, self._body(branch, attempt, second, number), until)
            if self.gated:
                yield from self._settle(branch)
        except BaseException:
            if self.breaker is not None:
                self.breaker.abandon(ticket)
            raise
        finally:
            if self.bulk is not None:
                self.bulk.leave()
        if failure is not None:
            failure.since, failure.known = at, known
            self.counts.failed += 1
        else:
            self.counts.useful += self._worked(branch, before)
        self._heed(branch, failure, ticket)
        return failure, True

    def _outcome(self, branch: Branch, body: Script, until: float | None) -> Generator[None, Any, CallFailed | None]:
        """Make an attempt that must be over at time `until`; return how it failed."""
        before, first, at = branch.parts[:], branch.mark(), branch.time
        try:
            return (yield from self._in_time(branch, body, until))
        except CallFailed as failed:
            if failed.over is not None and branch.time > failed.over:
                branch.cut_off(before, first, self.recovery, at, failed.over)
            return failed

    def _settle(self, branch: Branch) -> Script:
        """Let the clock come to the branch: who is let in, and what has become of others, is told in its order."""
        if branch.time > self.sim._now:
            branch.settle()
            yield

    def _admits(self, at: float) -> tuple[int, CallFailed | None]:
        """Return the breaker's ticket for an attempt, or why none may be made."""
        if self.bulk is not None and not self.bulk.enter():
            return 0, self._reject("bulkhead full", at)
        if self.breaker is None:
            return 0, None
        ticket = self.breaker.admits(at)
        if ticket:
            return ticket, None
        if self.bulk is not None:
            self.bulk.leave()
        return 0, self._reject("circuit open", at)

    def _heed(self, branch: Branch, failure: CallFailed | None, ticket: int) -> None:
        """Tell the breaker."""
        if self.breaker is None:
            return
        if failure is None:
            self.breaker.success(ticket, branch.time)
        else:
            self.opened_by = self._cause(branch, failure)
            self.breaker.failure(ticket, branch.time)

    def _reject(self, why: str, at: float) -> CallFailed:
        self.counts.rejected += 1
        failure = CallFailed("rejected", f"{self.path}: {why}")
        failure.since = at
        return failure

    def _body(self, branch: Branch, attempt: Attempt, second: Attempt | None, number: int) -> Script:
        """One attempt, and maybe another one beside it."""
        parts, span = branch.parts[:], branch.span
        try:
            if self.hedging is None or second is None:
                yield from patient(branch, attempt, number)
            else:
                yield from self.hedging.race(branch, attempt, second, number)
        except BaseException as gone:
            branch.span = span
            taken = isinstance(gone, CallFailed) and gone.answer is not None  # an error may be taken as the answer
            if isinstance(gone, Cut):  # what becomes of all that the task has done is not known yet
                self.counts.useful += self._worked(branch, parts)
            elif not taken:
                self._wasted(branch, self._worked(branch, parts))
            raise

    def _worked(self, branch: Branch, before: list[float]) -> float:
        """Return the seconds of the component's service since the branch had the parts `before`."""
        return sum(branch.parts[account] - before[account] for account in self.work)

    def _wasted(self, branch: Branch, seconds: float) -> None:
        """Service was given to an attempt whose answer nobody takes."""
        if seconds > 0:
            self.counts.wasted += seconds
            branch.facts[WASTED] += seconds

    def _in_time(self, branch: Branch, body: Script, until: float | None) -> Generator[None, Any, CallFailed | None]:
        """Make an attempt that must be over at time `until` (None: whenever it is)."""
        if until is None:
            yield from body
            return None
        before, first, at, cut = branch.parts[:], branch.mark(), branch.time, Late()

        def ring(_event: Any) -> None:
            if self.spec.on_timeout == "run on":
                task, now = branch.task, self.sim._now
                task.running += 1
                if not branch.let_run(lambda wait: self._ran_on(branch, wait, now)):
                    task.running -= 1
            branch.interrupt(cut)

        alarm, counted = Call(ring), True
        self.sim.schedule_at(until, alarm)
        try:
            yield from body
            if branch.time <= until:
                return None
            counted = False
        except Late as late:
            if late is not cut:
                raise
        except CallFailed as failed:
            if branch.time <= until:
                raise
            counted = failed.answer is None
        finally:
            alarm.cancel()
        self._cut_short(branch, before, until, counted)
        branch.cut_off(before, first, self.recovery, at, until)
        return self._late(branch, until)

    def _cut_short(self, branch: Branch, before: list[float], until: float, counted: bool) -> None:
        """An attempt has timed out: if it ran ahead of the clock, its service until then is wasted, or all of it if it runs on."""
        if not counted:
            beyond = 0.0 if self.spec.on_timeout == "run on" else branch.time - until
            self._wasted(branch, self._worked(branch, before) - beyond)

    def _late(self, branch: Branch, now: float, known: int = 0) -> CallFailed:
        self.counts.timed_out += 1
        branch.facts[TIMEOUTS] += 1
        failure = CallFailed("timeout", f"{self.path}: timeout")
        failure.since, failure.known = now, known
        return failure

    def _ran_on(self, branch: Branch, wait: Wait, since: float) -> None:
        """What an attempt waited for when it timed out is over."""
        seconds = 0.0 if wait.rejected else max(0.0, wait.ended - max(wait.started, since))
        if seconds:
            branch.task.overlap_in(self.work[0], seconds)
        self._wasted(branch, seconds)
        branch.task.ran()

    def _otherwise(
        self, branch: Branch, failure: CallFailed, fallback: Attempt | None
    ) -> Generator[None, Any, CallFailed | None]:
        """No attempt was answered: ask another component, or a person, or go on without. Raises TaskFailed."""
        spec = self.spec
        if fallback is not None:
            self.counts.fallbacks += 1
            branch.facts[FALLBACKS] += 1
            yield from fallback(branch, 0)
            branch.state.last_error = False
            return None
        if self.person is not None:
            self.counts.escalations += 1
            branch.facts[ESCALATIONS] += 1
            branch.add(self.human, self.person.draw(branch.index, branch.calls[self.slot] - 1, branch.lane))
            branch.state.last_error = False
            return None
        if spec.exhausted == "continue" or (spec.exhausted is None and failure.answer is not None):
            return failure
        raise TaskFailed(failure.reason)
