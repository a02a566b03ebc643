"""Stages that overlap: the process of a `pipeline` step, from the fork of its stages to what the task goes on with.

Every stage has a branch of its own, and the step itself takes what the last one makes, and plays it. Its critical path is carried
by the pieces: it goes on from whatever it had to wait for. The seconds of stages beside the path are overlapped work.

A barge-in comes when the person decides so, counted from the first piece that is played: the path goes from there in human time.
What the stages did for the interrupted turn is lost work: of what lies on the path, all but listening is `recovery`.

Leaves out: how long it takes to notice a barge-in; that what was said until then stays in the context; a turn's pieces that were
counted ahead of the clock when it is interrupted.
Checked: tests/test_pipeline.py, tests/test_bands_voice.py.
"""

from collections.abc import Generator
from math import inf
from typing import TYPE_CHECKING, Any

from ..sim.engine.branch import ENTRY, Branch
from ..sim.engine.draws import lane
from ..sim.engine.relay import Piece
from .context import BARGE_INS, TTFA
from .control import Control
from .failure import TaskFailed
from .parallel import fork_number
from .pipeline_step import PipelineStep
from .stages import AgentStage, Failed, Inlet, Listening, ServiceStage, Turn, Worker
from .steps import Flow, Process, Walk

if TYPE_CHECKING:
    from .system import System

Script = Generator[None, Any, None]


class PipelineProcess(Process):
    """Stages that hand pieces to one another."""

    spec: PipelineStep

    def __init__(self, system: "System", flow: Flow, name: str, spec: PipelineStep) -> None:
        super().__init__(system, flow, name, spec)
        self.fork = fork_number(self.path)
        account = system.ledger.account
        self.wait_account = account("synchronization", name, "wait")
        self.play_account = account("human", name, "playback")
        self.recovery_account = account("recovery", self.path, "interrupted")
        self.workers = self._workers(flow)
        self.stage_accounts = [account("structure", f"{name}.{number}", "stage") for number in range(len(self.workers))]
        self.kept: set[int] = set()  # accounts of time on the path of an interrupted turn that is not lost
        first = next(worker for worker in self.workers if not isinstance(worker, Listening))
        if isinstance(first, ServiceStage):  # an agent's own control brings the task to it
            self.control = Control.of(system, self.path, first.home)
        last = spec.pipeline[-1]
        self.plays = last.play is not None
        self.play = None if last.play is None else system.stream(f"{self.path}/play", last.play)
        self.play_per_unit = system.stream(f"{self.path}/play/per_unit", last.per_unit)
        self.barge_in = barge_in = spec.barge_in
        if barge_in is not None:
            self.interrupting = system.draws.uniform(f"{self.path}/barge_in")
            self.after = system.stream(f"{self.path}/barge_in/after", barge_in.after)

    def _workers(self, flow: Flow) -> list[Worker]:
        """Put the stages together, but for playing: from the first that works on, as listening goes by who listens."""
        system, spec = self.system, self.spec
        found: list[Worker] = []
        home: int | None = None  # of the last agent: where its answer is, the calls after it are made from
        for position, stage in enumerate(spec.pipeline):
            here = f"{self.path}/{position}"
            if stage.agent is not None:
                listened = None if position != 1 else spec.listened
                tokens = 0.0 if listened is None else system.scenario.modalities[listened].tokens
                agent = AgentStage(system, flow, f"{self.name}/{position}", stage, tokens)
                home = agent.home
                found.append(agent)
            elif stage.listen is None and stage.play is None:
                found.append(ServiceStage(system, here, stage, home))
        if spec.listened is not None:
            first = found[0]
            target = first.agent.call.server if isinstance(first, AgentStage) else getattr(first, "service", None)
            found.insert(0, Listening(system, self.path, spec.listened, target, spec.endpoint))
        return found

    def connect(self) -> None:
        """Last touch, once every home is known."""
        super().connect()
        for worker in self.workers:
            worker.connect()
        # Time that went by anyhow, and work that was lost before.
        self.kept = {
            number for number, one in enumerate(self.system.ledger.accounts) if one.category in ("recovery", "human")
        }
        first = self.workers[0]
        if isinstance(first, Listening):
            self.kept |= {first.capture_account, first.endpoint_account}

    def run(self, branch: Branch) -> Walk:
        """Take turns until one is not interrupted."""
        visit = self.enter(branch)
        if self.passes(branch, visit):
            return self.onward(branch, visit)
        self.count(branch)
        outer, began = branch.open_span(), branch.time
        if self.control is not None and self.control.matters:
            yield from self.control.arrive(branch)
        interrupted, number = True, 0
        while interrupted:
            interrupted = yield from self._turn(branch, visit, number)
            number += 1
        branch.close_span(outer, self.step_account, began)
        return self.onward(branch, visit)

    def _turn(self, branch: Branch, visit: int, number: int) -> Generator[None, Any, bool]:
        """Take one turn; return whether it was interrupted."""
        turn = Turn(self.system, branch, self.spec.streaming, self.wait_account)
        before, first_span = branch.parts[:], 0 if branch.spans is None else len(branch.spans) // ENTRY
        own = lane(branch.lane, self.fork, visit, number * (len(self.workers) + 1))
        children = self._start(branch, visit, number, turn)
        pieces: list[Piece] = []
        until = inf
        while True:
            piece = yield from turn.out.take(branch, until)
            if piece is None or isinstance(piece.payload, Failed):
                break
            if not pieces:
                until = piece.time + self._patience(branch, visit, number)
            pieces.append(piece)
        branch.time = turn.began  # the path is told now that it is known how it goes on
        if piece is not None:
            turn.stages.follow(piece)
            yield from turn.stages.close()
            raise TaskFailed(piece.payload.reason)
        if pieces:
            heard, longest = pieces[0].time - turn.heard, branch.facts[TTFA]
            branch.facts[TTFA] = max(longest, heard) if longest else heard  # an answer may begin while one still speaks
        lengths = self._lengths(branch, own, pieces)
        interrupted = turn.out.relay.timed_out or until < _end(pieces, lengths)
        if interrupted:
            turn.stages.follow(pieces[0])
            branch.book(self.play_account, pieces[0].time, until)
        else:
            self._answered(branch, turn, pieces, lengths)
        yield from turn.stages.close()
        if interrupted:
            branch.facts[BARGE_INS] += 1
            self._lose(branch, before, first_span, children + turn.flights)
        else:
            self._keep(branch, turn)
        return interrupted

    def _start(self, branch: Branch, visit: int, number: int, turn: Turn) -> list[Branch]:
        """Fork a branch for each stage; return those whose work is lost if the turn is interrupted."""
        workers = self.workers
        inlets = [Inlet(self.wait_account, worker.ordered) for worker in workers[:-1]]
        turn.out.ordered = workers[-1].ordered
        sinks = [*inlets, turn.out]
        # All forked before any runs: none may begin with what another has done.
        first = number * (len(workers) + 1) + 1
        children = [
            branch.fork(lane(branch.lane, self.fork, visit, first + place), turn.context)
            for place in range(len(workers))
        ]
        for place, (worker, child) in enumerate(zip(workers, children, strict=True)):
            source = sinks[place - 1] if place else None
            turn.stages.add(child, self._stage(child, place, turn, worker, source, sinks[place]))
        return children[isinstance(workers[0], Listening) :]

    def _stage(
        self, child: Branch, place: int, turn: Turn, worker: Worker, source: Inlet | None, sink: Inlet
    ) -> Script:
        """One stage's branch, to its end."""
        outer, began = child.open_span(), child.time
        try:
            yield from worker.work(child, turn, source, sink)
        except TaskFailed as failed:
            child.let_go()
            turn.fail(child, str(failed))
        child.close_span(outer, self.stage_accounts[place], began)
        turn.stages.arrive(child)
        sink.relay.end(child)
        yield  # over: nobody continues it

    def _patience(self, branch: Branch, visit: int, number: int) -> float:
        """Return after how many seconds of the answer the person interrupts; infinity for never."""
        spec = self.barge_in
        if spec is None or number >= spec.at_most:
            return inf
        ordinal = visit * spec.at_most + number
        if self.interrupting.draw(branch.index, ordinal, branch.lane) >= spec.chance:
            return inf
        return self.after.draw(branch.index, ordinal, branch.lane)

    def _lengths(self, branch: Branch, own: int, pieces: list[Piece]) -> list[float]:
        """Return how long each piece is played."""
        if self.play is None:
            return [0.0] * len(pieces)
        each = self.play_per_unit.draw(branch.index, 0, own)
        return [
            self.play.draw(branch.index, place, own) + each * piece.payload.units for place, piece in enumerate(pieces)
        ]

    def _answered(self, branch: Branch, turn: Turn, pieces: list[Piece], lengths: list[float]) -> None:
        """The answer is over: book how it was played, and follow what had to be waited for."""
        at = branch.time
        for piece, seconds in zip(pieces, lengths, strict=True):
            if piece.time > at:
                turn.stages.follow(piece)
                at = piece.time
            branch.book(self.play_account, at, at + seconds, piece.payload.units)
            at = branch.time
        closing = turn.out.relay.closing
        if closing is not None and closing.time > at:
            turn.stages.follow(closing)

    def _keep(self, branch: Branch, turn: Turn) -> None:
        """The task goes on from what the stages have added to its context."""
        turn.regroup()
        turn.context.detach()
        state = branch.state
        state.join([turn.context], self.system.prompts)
        state.home, state.held = turn.context.home, turn.context.held
        state.last_tool = turn.context.last_tool

    def _lose(self, branch: Branch, before: list[float], first_span: int, children: list[Branch]) -> None:
        """What was done for an answer that nobody wanted to hear to its end is lost work."""
        parts, lost = branch.parts, 0.0
        for account, seconds in enumerate(before):
            if parts[account] != seconds and account not in self.kept:
                lost += parts[account] - seconds
                parts[account] = seconds
        parts[self.recovery_account] += lost
        if branch.spans is not None:
            last = len(branch.spans) // ENTRY
            branch.task.lost += [(child.lane, first_span, last, self.recovery_account) for child in children]


def _end(pieces: list[Piece], lengths: list[float]) -> float:
    """Return when (s) the last of the pieces has been played, each at its time or when the one before is over."""
    at = 0.0
    for piece, seconds in zip(pieces, lengths, strict=True):
        at = max(at, piece.time) + seconds
    return at
