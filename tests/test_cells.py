"""Cells: the same outcomes whoever runs them, none lost when a worker dies or the user stops, and one that fails ends no other."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from coordsim.models.variants import Variants, simulate_text
from coordsim.sim.analysis.cells import Cell, Outcome, run_cells
from coordsim.sim.analysis.jobs import WorkerError, Workers
from coordsim.sim.analysis.journal import FileJournal
from coordsim.sim.analysis.replicate import Progress, Settings, replicate
from coordsim.sim.analysis.result import Result
from coordsim.sim.analysis.slo import objective

from .clusters import dask_cluster, kill
from .scene import scene

SETTINGS = Settings(replications=4, objectives=(objective("p95", 6.0),))
FAULTY = '{"coordsim": 1}'


def texts(count: int, tasks: int = 150) -> list[str]:
    """Return scenarios as text: a queue under more and more load."""
    queue = scene(
        {"workload": {"arrivals": {"poisson": "0.1 / s"}, "tasks": tasks}},
        {"models": {"llm": {"replicas": 1, "overhead": {"exponential": {"mean": "1 s"}}}}},
    )
    variants = Variants(queue)
    loads = [0.1 + 0.8 * number / count for number in range(count)]
    return [variants.key([("workload.arrivals", f"{{poisson: {load:.4f} / s}}")]) for load in loads]


def cells(count: int, tasks: int = 150) -> list[Cell[str]]:
    """Return cells of these scenarios."""
    return [Cell(text, text, 5, f"load {number}") for number, text in enumerate(texts(count, tasks))]


def outcomes(told: Iterator[tuple[int, Outcome]]) -> str:
    """Return all outcomes in order of place, to the last digit."""
    return repr(sorted(told, key=lambda one: one[0]))


@pytest.fixture(scope="module")
def alone() -> str:
    """What one process finds for six cells."""
    return outcomes(run_cells(simulate_text, cells(6), SETTINGS))


@pytest.fixture
def by_value() -> Iterator[None]:
    """Send functions of this module to workers by value: no worker can import the tests."""
    import cloudpickle  # type: ignore[import-untyped]

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@dataclass
class Counting:
    """A `simulate` that counts its calls by scenario, and what it had to do."""

    calls: dict[str, int] = field(default_factory=dict)

    def __call__(self, text: str, seed: int, replication: int, spans: str) -> Result:
        """Run one replication."""
        self.calls[text] = self.calls.get(text, 0) + 1
        return simulate_text(text, seed, replication, spans)


class Memory:
    """A journal in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, Outcome] = {}

    def find(self, cell: Cell[Any], settings: Settings) -> Outcome | None:
        """Return what was kept."""
        return self.kept.get(cell.key)

    def keep(self, cell: Cell[Any], settings: Settings, outcome: Outcome) -> None:
        """Keep an outcome."""
        self.kept[cell.key] = outcome


def test_a_cell_is_what_replicate_makes_of_it() -> None:
    """The same summary as of a run by itself, with a fixed number of replications and with as many as it takes."""
    for settings in (SETTINGS, Settings(replications="auto", precision=0.2, max_replications=12)):
        for place, outcome in run_cells(simulate_text, cells(3), settings):
            run = replicate(simulate_text, texts(3)[place], seed=5, settings=settings)
            assert repr(outcome.summary) == repr(run.summary)
            assert outcome.tasks == sum(result.arrived for result in run.results)


@pytest.mark.slow
def test_two_processes_find_what_one_does(alone: str) -> None:
    """To the last digit, whatever ends first."""
    assert outcomes(run_cells(simulate_text, cells(6), SETTINGS, workers=2)) == alone


@pytest.mark.slow
def test_a_dask_cluster_that_is_started_finds_what_one_process_does(alone: str) -> None:
    """A scheduler and two workers, which end with the study."""
    assert outcomes(run_cells(simulate_text, cells(6), SETTINGS, workers=Workers(2, "dask"))) == alone


@pytest.mark.slow
def test_a_dask_scheduler_that_runs_elsewhere_finds_what_one_process_does(alone: str, tmp_path: Path) -> None:
    """Over TCP; and when one of its two workers is killed, the other does its work, and no outcome is lost."""
    with dask_cluster(tmp_path) as cluster:
        workers = Workers(None, "dask", cluster.address)
        assert outcomes(run_cells(simulate_text, cells(6), SETTINGS, workers=workers)) == alone
        told: list[tuple[int, Outcome]] = []
        with closing(run_cells(simulate_text, cells(6), SETTINGS, workers=workers)) as study:
            for one in study:
                if not told:
                    kill(cluster.workers[0])
                told.append(one)
        assert outcomes(iter(told)) == alone


@pytest.mark.slow
def test_ray_finds_what_one_process_does(alone: str) -> None:
    """Through joblib, on a Ray that starts and ends with the study."""
    pytest.importorskip("ray", reason="Ray is an extra: pip install 'coordsim[ray]'")
    assert outcomes(run_cells(simulate_text, cells(6), SETTINGS, workers=Workers(2, "ray"))) == alone


@pytest.mark.slow
def test_rounds_do_not_depend_on_workers() -> None:
    """Cells that take different numbers of replications take the same of two processes as of one."""
    settings = Settings(replications="auto", precision=0.2, max_replications=30)
    found = [outcomes(run_cells(simulate_text, cells(4), settings, workers=count)) for count in (1, 2)]
    assert found[0] == found[1]
    needed = {
        outcome.summary.replications for _, outcome in run_cells(simulate_text, cells(4), settings) if outcome.summary
    }
    assert len(needed) > 1


def test_cells_that_are_one_run_once() -> None:
    """Each place is told of, and the tasks count once."""
    count = Counting()
    one = cells(1)[0]
    told = dict(run_cells(count, [one, Cell(one.key, one.scenario, 6), one], SETTINGS))
    assert count.calls == {one.scenario: 8}
    assert told[0].summary is told[2].summary
    assert [told[place].tasks for place in range(3)] == [600, 600, 0]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_cell_that_fails_is_told_of_and_the_others_go_on(workers: int) -> None:
    """A scenario that cannot be read fails its cell; the others are as they are without it."""
    given = [*cells(2), Cell(FAULTY, FAULTY, 5), cells(3)[2]]
    told = dict(run_cells(simulate_text, given, SETTINGS, workers=workers))
    assert told[2].summary is None
    assert told[2].failure.startswith("ScenarioError: ")
    without = dict(run_cells(simulate_text, [one for one in given if one.scenario != FAULTY], SETTINGS))
    assert repr([told[0], told[1], told[3]]) == repr([without[0], without[1], without[2]])


def late_failures(text: str, seed: int, replication: int, spans: str) -> Result:
    """Fail in the second replication, late, and in the third, at once."""
    if replication == 1:
        time.sleep(0.3)
    if replication > 0:
        raise ValueError(f"number {replication}")
    return simulate_text(text, seed, replication, spans)


@pytest.mark.slow
@pytest.mark.usefixtures("by_value")
def test_the_first_replication_that_fails_is_told_of() -> None:
    """Not the one that ended first, which would depend on the workers."""
    found = [outcomes(run_cells(late_failures, cells(1), SETTINGS, workers=count)) for count in (1, 2)]
    assert found[0] == found[1] == repr([(0, Outcome(None, "ValueError: number 1", 150))])


def test_what_the_journal_has_does_not_run() -> None:
    """It is told of first; a cell that failed is what the journal makes of it."""
    journal, count, given = Memory(), Counting(), cells(3)
    first = outcomes(run_cells(simulate_text, given[1:2], SETTINGS, journal=journal))
    told = list(run_cells(count, given, SETTINGS, journal=journal))
    assert [place for place, _ in told] == [1, 0, 2]
    assert set(count.calls) == {given[0].scenario, given[2].scenario}
    assert repr(told[0][1].summary) in first
    assert told[0][1].tasks == 0
    assert set(journal.kept) == {one.key for one in given}


def test_progress_tells_of_cells_and_of_the_one_that_ended_last() -> None:
    """The count rises to all, and the interval is that of the cell."""
    told: list[Progress] = []
    found = dict(run_cells(simulate_text, cells(2), Settings(replications=3), progress=told.append))
    assert [(one.done, one.planned) for one in told] == [(number, 6) for number in range(7)]
    assert [one.cells for one in told] == [(0, 2)] * 3 + [(1, 2)] * 3 + [(2, 2)]
    assert [one.label for one in told] == [""] * 3 + ["load 0"] * 3 + ["load 1"]
    assert found[1].summary is not None
    assert told[-1].estimate == found[1].summary.metrics["response_time_p95"]


def processes_of_the_pool() -> list[int]:
    """Return the worker processes, as the pool that runs them knows them."""
    from joblib.externals.loky import get_reusable_executor

    return list(get_reusable_executor(reuse=True)._processes)


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_no_cell(alone: str) -> None:
    """What it did is done again, cells that were complete are not, and the outcomes are the same."""
    told: list[tuple[int, Outcome]] = []
    killed = 0
    with closing(run_cells(simulate_text, cells(6), SETTINGS, workers=2)) as study:
        for one in study:
            if not told:
                kill(processes_of_the_pool()[0])
                killed += 1
            told.append(one)
    assert killed == 1
    assert outcomes(iter(told)) == alone


def kills(text: str, seed: int, replication: int, spans: str) -> Result:
    """Run one replication, except of the faulty scenario, which ends its process."""
    if text == FAULTY:
        os.kill(os.getpid(), signal.SIGKILL)
    return simulate_text(text, seed, replication, spans)


@pytest.mark.slow
@pytest.mark.usefixtures("by_value")
def test_a_cell_that_kills_its_workers_fails_alone(alone: str) -> None:
    """The others are as they are without it."""
    given = [*cells(6)[:3], Cell(FAULTY, FAULTY, 5), *cells(6)[3:]]
    told = dict(run_cells(kills, given, SETTINGS, workers=2))
    assert told[3].failure.startswith("WorkerError: its worker died, and died again when it ran alone")
    others = [told[place] for place in (0, 1, 2, 4, 5, 6)]
    assert outcomes(iter(enumerate(others))) == alone


@pytest.mark.slow
@pytest.mark.usefixtures("by_value")
def test_workers_that_die_whatever_they_do_end_the_study() -> None:
    """With what to do: what is complete is kept."""
    given = [Cell(f"{number}", FAULTY, 5) for number in range(4)]
    with pytest.raises(
        WorkerError, match=r"workers die again and again: .*; finished cells are kept: go on with `--resume`"
    ):
        list(run_cells(kills, given, SETTINGS, workers=2, journal=Memory()))


STUDY = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
from coordsim.models.variants import simulate_text
from coordsim.sim.analysis.cells import Cell, run_cells
from coordsim.sim.analysis.jobs import Workers
from coordsim.sim.analysis.journal import FileJournal
from coordsim.sim.analysis.replicate import Settings
from coordsim.sim.analysis.slo import objective

if __name__ == "__main__":
    path, backend = sys.argv[1:]
    cells = [Cell(text, text, 5) for text in open(path + ".texts").read().splitlines()]
    settings = Settings(replications=4, objectives=(objective("p95", 6.0),))
    with FileJournal(path) as journal:
        try:
            for told in run_cells(simulate_text, cells, settings, workers=Workers(2, backend), journal=journal):
                print("told", flush=True)
        except KeyboardInterrupt:
            sys.exit(130)
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["local", "dask"])
def test_a_study_that_is_interrupted_goes_on_from_its_journal(backend: str, tmp_path: Path) -> None:
    """Ctrl-C reaches every process of the terminal: all of them end, and going on gives what a whole study does."""
    given = cells(16, tasks=800)
    script, path = tmp_path / "study.py", tmp_path / "journal.jsonl"
    script.write_text(STUDY)
    Path(f"{path}.texts").write_text("\n".join(one.scenario for one in given))
    with subprocess.Popen(
        [sys.executable, str(script), str(path), backend],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as study:  # fmt: skip
        assert study.stdout is not None
        assert study.stdout.readline() == "told\n"
        os.killpg(study.pid, signal.SIGINT)
        _, errors = study.communicate(timeout=60)
    assert (study.returncode, errors) == (130, "")
    assert ended(study.pid)
    count = Counting()
    with FileJournal(path) as journal:
        complete = len(journal)
        found = sorted(run_cells(count, given, SETTINGS, journal=journal), key=lambda one: one[0])
    assert 0 < complete < 16
    assert len(count.calls) == 16 - complete
    whole = sorted(run_cells(simulate_text, given, SETTINGS), key=lambda one: one[0])
    assert summaries(found) == summaries(whole)


def summaries(told: Sequence[tuple[int, Outcome]]) -> list[str]:
    """Return the summaries, to the last digit."""
    return [repr(outcome.summary) for _, outcome in told]


def ended(group: int, wait: Callable[[float], None] = time.sleep) -> bool:
    """Return whether no process of a group is left, after some time to end."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        wait(0.1)
    return False
