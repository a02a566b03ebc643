"""Jobs: in order and once each, on this machine or a cluster, and clear words where there is no cluster to be had."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from coordsim.sim.analysis import jobs as module
from coordsim.sim.analysis.jobs import ClusterError, Job, Raised, Workers, in_worker, opened, run_jobs
from coordsim.sim.analysis.replicate import Settings, replicate
from coordsim.sim.analysis.result import Result
from coordsim.sim.report.failures import INVALID, explain

from . import mm1
from .mm1 import Queue, simulate

QUEUE = Queue(tasks=30)
CLUSTERS = [Workers(2), Workers(2, "dask"), Workers(1, "dask")]


@pytest.fixture
def by_value() -> Iterator[None]:
    """Send functions of this module and of the model to workers by value: no worker can import the tests."""
    import cloudpickle  # type: ignore[import-untyped]

    modules = [mm1, sys.modules[__name__]]
    for one in modules:
        cloudpickle.register_pickle_by_value(one)
    yield
    for one in modules:
        cloudpickle.unregister_pickle_by_value(one)


def jobs(count: int) -> list[Job[Queue]]:
    """Return replications of a queue."""
    return [(QUEUE, 1, number, "none") for number in range(count)]


def backwards(scenario: Queue, seed: int, replication: int, spans: str) -> Result:
    """Take the longer, the earlier the replication; the third and the fourth fail."""
    time.sleep(0.05 * (6 - replication))
    if replication in (2, 3):
        raise ValueError(f"number {replication} in {os.getpid()}")
    return simulate(scenario, seed, replication, spans)


@pytest.mark.slow
@pytest.mark.usefixtures("by_value")
@pytest.mark.parametrize("workers", CLUSTERS, ids=str)
def test_results_come_in_order_up_to_the_first_that_failed(workers: Workers) -> None:
    """Whatever ends first, on any backend; the error says where it was raised."""
    alone = [result.rows.tobytes() for result in run_jobs(simulate, jobs(6), 1)]
    with closing(run_jobs(simulate, jobs(6), workers)) as results:
        assert [result.rows.tobytes() for result in results] == alone
    with closing(run_jobs(backwards, jobs(6), workers)) as results:
        assert [next(results).rows.tobytes() for _ in range(2)] == alone[:2]
        with pytest.raises(ValueError, match=r"number 2 in \d+") as caught:
            next(results)
    assert "in backwards" in caught.value.__notes__[0]
    assert str(os.getpid()) not in str(caught.value)


@pytest.mark.slow
@pytest.mark.usefixtures("by_value")
def test_a_crew_works_for_several_rounds() -> None:
    """The one who opened it ends it: a run by rounds of precision on Dask starts one cluster, and finds what one process does."""
    settings = Settings(replications="auto", precision=0.3, max_replications=20)
    alone = replicate(simulate, QUEUE, seed=1, settings=settings)
    assert len(alone.results) > 5
    with opened(Workers(2, "dask")) as crew:
        together = [replicate(simulate, QUEUE, seed=1, settings=settings, workers=crew) for _ in range(2)]
    assert [repr(one.summary) for one in together] == [repr(alone.summary)] * 2


def test_unwanted_jobs_do_not_run() -> None:
    """What is no longer wanted when its turn comes is left out."""
    wanted = {0, 2, 3}
    with opened(1) as crew, closing(crew.run(simulate, jobs(5), lambda place: place in wanted)) as results:
        places = []
        for place, _ in results:
            places.append(place)
            wanted.discard(place + 1)
    assert places == [0, 2]


@pytest.mark.parametrize(("backend", "package"), [("dask", "distributed"), ("ray", "ray")])
def test_a_backend_that_is_not_installed_names_its_extra(
    backend: Any, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And ends the command as a mistake in its call does."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ClusterError, match=rf"the {backend} backend needs {package}; try `pip install 'coordsim\[{backend}\]'`"
    ) as caught:
        list(run_jobs(simulate, jobs(2), Workers(2, backend)))
    assert explain(caught.value)[1] == INVALID


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["closed", "no address"])
def test_a_scheduler_that_does_not_answer_is_named(kind: str) -> None:
    """Within seconds, with its address and what to do."""
    pytest.importorskip("distributed", reason="Dask is an extra: pip install 'coordsim[dask]'")
    address = "tcp://nowhere"
    if kind == "closed":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(
        ClusterError, match=f"the Dask scheduler at {address} does not answer .*; start one with `dask scheduler`"
    ):
        list(run_jobs(simulate, jobs(2), Workers(None, "dask", address)))


def test_a_worker_with_another_coordsim_is_refused() -> None:
    """Its numbers might be others."""
    with pytest.raises(ClusterError, match=r"a worker has coordsim .*, but this is 99\.1; install the same there"):
        in_worker(simulate, jobs(1)[0], 0, "99.1")


class Stubborn(Exception):
    """An error that cannot be pickled, for what it holds."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.held = lambda: text


def test_an_error_that_cannot_be_sent_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker sends one that says the same."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # it is no worker, and heeds Ctrl-C

    def fail(*_job: object) -> Result:
        raise Stubborn("no way")

    place, done = in_worker(fail, jobs(1)[0], 3, module.version())
    assert place == 3
    assert isinstance(done, Raised)
    assert str(done) == str(Raised(Stubborn("no way"))) == "Stubborn: no way"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Workers(0), "`workers` must be at least 1, but got 0"),
        (
            lambda: Workers(1, "ray", "tcp://host:1"),
            "`scheduler` is the address of a Dask scheduler, but the backend is 'ray'",
        ),
    ],
)
def test_impossible_workers_are_refused(make: Callable[[], Workers], message: str) -> None:
    """The mistake is named."""
    with pytest.raises(ValueError, match=message):
        make()
