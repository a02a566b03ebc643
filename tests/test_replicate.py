"""Replications: as many as asked for or needed, the same whoever runs them, and stopped cleanly."""

import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from coordsim.sim.analysis.jobs import WorkerError
from coordsim.sim.analysis.replicate import Interrupted, Progress, Run, Settings, replicate
from coordsim.sim.analysis.result import Result
from coordsim.sim.analysis.slo import objective

from . import mm1
from .mm1 import Queue, simulate

QUEUE = Queue(tasks=200)


@dataclass
class Recorder:
    """A `simulate` that remembers what it was asked for, and interrupts at replication `stop`."""

    stop: int = -1
    asked: list[tuple[int, int, str]] = field(default_factory=list)

    def __call__(self, scenario: Queue, seed: int, replication: int, spans: str) -> Result:
        """Run one replication."""
        if replication == self.stop:
            raise KeyboardInterrupt
        self.asked.append((seed, replication, spans))
        return simulate(scenario, seed, replication, spans)


@pytest.fixture
def by_value() -> Iterator[None]:
    """Send functions of this module and of the model to workers by value: no worker can import the tests."""
    import cloudpickle  # type: ignore[import-untyped]

    modules = [mm1, sys.modules[__name__]]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    yield
    for module in modules:
        cloudpickle.unregister_pickle_by_value(module)


def same(one: Run, other: Run) -> bool:
    """Return whether two runs have the same numbers, to the last bit."""
    rows = all(a.rows.tobytes() == b.rows.tobytes() for a, b in zip(one.results, other.results, strict=True))
    parts = [[(r.replication, r.spans, r.snapshots, r.failures, r.events) for r in run.results] for run in (one, other)]
    return rows and parts[0] == parts[1] and repr(one.summary) == repr(other.summary)


def test_replications_are_numbered_from_zero_with_one_seed() -> None:
    """Each number runs once, in order, with the seed given, and only the first keeps spans."""
    recorder = Recorder()
    run = replicate(recorder, QUEUE, seed=0, settings=Settings(replications=3, spans="sampled"))
    assert recorder.asked == [(0, 0, "sampled"), (0, 1, "none"), (0, 2, "none")]
    assert [result.replication for result in run.results] == [0, 1, 2]
    assert run.summary.replications == 3
    assert run.summary.precision is None


@pytest.mark.slow
@pytest.mark.usefixtures("by_value")
def test_the_number_of_workers_changes_nothing() -> None:
    """One process and two give the same bits, spans and summary."""
    settings = Settings(replications=5, spans="all")
    alone = replicate(simulate, QUEUE, seed=5, settings=settings)
    together = replicate(simulate, QUEUE, seed=5, settings=settings, workers=2)
    assert same(alone, together)


def test_more_replications_leave_the_first_ones_as_they_were() -> None:
    """Replication 2 is the same among three and among five."""
    three, five = (replicate(simulate, QUEUE, seed=5, settings=Settings(replications=n)) for n in (3, 5))
    assert [r.rows.tobytes() for r in three.results] == [r.rows.tobytes() for r in five.results[:3]]


def test_a_precision_is_reached_by_rounds() -> None:
    """The mean, p95 and the share of coordination are known within 10 %; five replications would not do."""
    run = replicate(simulate, QUEUE, seed=1, settings=Settings(replications="auto", precision=0.1))
    assert run.summary.precision is not None
    assert run.summary.precision.reached
    assert 5 < len(run.results) < 200
    for name in ("response_time_mean", "response_time_p95", "coordination_share"):
        assert run.summary.metrics[name].relative_error <= 0.1


def test_what_objectives_speak_of_steers_too() -> None:
    """A rarer quantile needs more replications than the mean."""
    needs = [
        len(
            replicate(
                simulate, QUEUE, seed=1, settings=Settings(replications="auto", precision=0.1, objectives=wanted)
            ).results
        )
        for wanted in ((), (objective("p99.5", 1.0),))
    ]
    assert needs[0] < needs[1]


def test_a_precision_out_of_reach_is_said() -> None:
    """At most `max_replications` run, and the warning says what was reached and what to try."""
    settings = Settings(replications="auto", precision=0.001, max_replications=6)
    run = replicate(simulate, QUEUE, seed=1, settings=settings)
    assert len(run.results) == 6
    assert run.summary.precision is not None
    assert not run.summary.precision.reached
    assert run.summary.warnings[-1].startswith("a precision of 0.1 % was not reached in 6 replications")
    assert "`coordsim run SCENARIO --precision" in run.summary.warnings[-1]


def test_a_number_and_a_precision_together_are_the_least_and_the_target() -> None:
    """Eight replications that are precise enough stay eight, and fewer than five are made five."""
    eight, two = (Settings(replications=n, precision=9.0) for n in (8, 2))
    assert len(replicate(simulate, QUEUE, seed=1, settings=eight).results) == 8
    assert len(replicate(simulate, QUEUE, seed=1, settings=two).results) == 5


def test_a_run_in_which_nothing_is_done_does_not_go_on_for_ever() -> None:
    """There is nothing to be precise about, so five replications are enough to say so."""
    run = replicate(simulate, Queue(tasks=20, fails=1.0), seed=1, settings=Settings(replications="auto"))
    assert len(run.results) == 5
    assert math.isnan(run.summary.metrics["response_time_mean"].value)


def test_progress_is_told_after_every_replication_and_round() -> None:
    """The count rises to the plan, and a round ends with the interval so far."""
    told: list[Progress] = []
    replicate(simulate, QUEUE, seed=1, settings=Settings(replications=3), progress=told.append)
    assert [(one.done, one.planned, one.estimate is not None) for one in told] == [
        (1, 3, False), (2, 3, False), (3, 3, False), (3, 3, True),
    ]  # fmt: skip


def test_an_interrupt_keeps_what_was_complete() -> None:
    """Replications 0 and 1 are in the error, and a second run goes on from them."""
    settings = Settings(replications=4)
    with pytest.raises(Interrupted, match="2 replications are complete") as caught:
        replicate(Recorder(stop=2), QUEUE, seed=1, settings=settings)
    assert [result.replication for result in caught.value.results] == [0, 1]
    rest = Recorder()
    whole = replicate(rest, QUEUE, seed=1, settings=settings, finished=caught.value.results)
    assert [number for _, number, _ in rest.asked] == [2, 3]
    assert same(whole, replicate(simulate, QUEUE, seed=1, settings=settings))


class Finalizer:
    """What Python drops an exception in, and goes on."""

    def __del__(self) -> None:
        """Press Ctrl-C."""
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_python_drops_ends_the_run_all_the_same() -> None:
    """One that comes while an object is finalized is heeded at the next result."""

    def look(progress: Progress) -> None:
        if progress.done == 2:
            Finalizer()

    with pytest.raises(Interrupted) as caught:
        replicate(simulate, QUEUE, seed=1, settings=Settings(replications=6), progress=look)
    assert [result.replication for result in caught.value.results] == [0, 1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def interrupt(scenario: Queue, seed: int, replication: int, spans: str) -> Result:
    """Run one replication; the third waits for the first two, presses Ctrl-C and does not end by itself."""
    if replication == 2:
        time.sleep(1.5)
        os.kill(os.getppid(), signal.SIGINT)
        time.sleep(300)
    return simulate(scenario, seed, replication, spans)


@pytest.mark.slow
@pytest.mark.usefixtures("by_value")
@pytest.mark.parametrize("during", ["a replication", "progress"])
def test_an_interrupt_ends_the_workers(during: str) -> None:
    """After an interrupt in the middle of a parallel run no worker is alive, and what was complete is kept."""
    processes: list[Any] = []

    def look(progress: Progress) -> None:
        processes[:] = workers_of_the_pool()
        if during == "progress" and progress.done == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted) as caught:
        replicate(
            interrupt if during == "a replication" else simulate,
            QUEUE,
            seed=1,
            settings=Settings(replications=6),
            workers=2,
            progress=look,
        )
    assert [result.replication for result in caught.value.results] == list(range(len(caught.value.results)))
    assert len(processes) == 2
    assert not any(process.is_alive() for process in processes)


def workers_of_the_pool() -> list[Any]:
    """Return the worker processes, as the pool that runs them knows them."""
    from joblib.externals.loky import get_reusable_executor

    return list(get_reusable_executor(reuse=True)._processes.values())


def die(scenario: Queue, seed: int, replication: int, spans: str) -> Result:
    """Run one replication, except that the third takes its process with it."""
    if replication == 2:
        os._exit(1)
    return simulate(scenario, seed, replication, spans)


@pytest.mark.slow
@pytest.mark.usefixtures("by_value")
def test_a_dead_worker_is_an_error_with_a_remedy() -> None:
    """Not a traceback from deep inside the pool of processes."""
    with pytest.raises(WorkerError, match="try fewer workers"):
        replicate(die, QUEUE, seed=1, settings=Settings(replications=4), workers=2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"replications": 0}, "`replications` must be at least 1 or 'auto', but got 0"),
        ({"precision": 0.0}, "`precision` must be a share above 0"),
        ({"precision": math.nan}, "`precision` must be a share above 0"),
        ({"max_replications": 4}, "`max_replications` must be at least 5"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, float], message: str) -> None:
    """The constraint is quoted with the value."""
    with pytest.raises(ValueError, match=message):
        Settings(**settings)  # type: ignore[arg-type]


def test_no_workers_are_refused() -> None:
    """Somebody has to do the work."""
    with pytest.raises(ValueError, match="`workers` must be at least 1, but got 0"):
        replicate(simulate, QUEUE, seed=1, workers=0)
