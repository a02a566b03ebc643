"""A large report: a study of 200 cells and a million tasks is one file that can be mailed, and a browser shows it.

The study is made up from a formula; what it took to simulate would say nothing about its page.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from coordsim.sim.analysis.statistics import mean_interval
from coordsim.sim.analysis.study import Column, Level, StudyCell, StudyFactor, StudyResult
from coordsim.sim.analysis.summarize import SHARES
from coordsim.sim.analysis.summary import Quantiles
from coordsim.sim.report.page.provenance import Provenance
from coordsim.sim.report.sections.every import to_html
from coordsim.sim.report.stored import Stored, dump, parse

from .browser import Open, embedded

MOST = 5_000_000  # bytes
REPLICATIONS = 5
TASKS = 5000  # of a cell, in all its replications
METRICS = {
    "response_time_mean": "s", "response_time_p50": "s", "response_time_p95": "s", "response_time_p99": "s",
    "coordination_mean": "s", "coordination_share": "share", "throughput": "1/s", "success": "share", "inference_mean": "s",
    "communication_mean": "s", "queueing_mean": "s", "tool_mean": "s", "utilization.models.llm": "share",
}  # fmt: skip
SOURCE = Provenance(
    scenario="large",
    question="How many replicas at which load?",
    sha256="0123456789abcdef" * 4,
    seed=1,
    command="coordsim sweep large.yaml -o out",
    versions={"coordsim": "0.1.0"},
    rate=5.0,
    objectives=(("p95", 2.0, "<="),),
)


def cell(number: int, replicas: int, rate: float) -> StudyCell:
    """Return a cell as it would be measured: waits grow with the load of a replica, each replication differs, no number is round."""
    rng = np.random.default_rng((8, number))
    load = rate / replicas
    rows = tuple(
        tuple(np.quantile(0.2 + rng.exponential(1 / (3 - min(load, 2.9)), TASKS // REPLICATIONS), SHARES).tolist())
        for _ in range(REPLICATIONS)
    )
    samples = {name: tuple((1 + load * rng.random(REPLICATIONS)).tolist()) for name in METRICS}
    samples |= {
        f"response_time_p{100 * share:g}": tuple(row[SHARES.index(share)] for row in rows)
        for share in (0.5, 0.95, 0.99)
    }
    samples |= {
        name: tuple((0.9 + 0.1 * rng.random(REPLICATIONS)).tolist()) for name in ("success", "coordination_share")
    }
    levels = (Level(str(replicas), replicas), Level(f"{rate:g} / s", rate))
    return StudyCell(
        number=number + 1,
        scenario="large",
        point=number,
        seed=1,
        levels=levels,
        replications=REPLICATIONS,
        tasks=TASKS,
        estimates={name: mean_interval(values) for name, values in samples.items()},
        samples=samples,
        verdict="pass" if load < 1 else "fail",
        times=Quantiles(SHARES, rows),
    )


def study() -> StudyResult:
    """Return the study: 20 numbers of replicas by 10 loads."""
    grid = [(replicas, 1.0 + 0.7 * step) for replicas in range(1, 21) for step in range(10)]
    return StudyResult(
        design="grid",
        factors=(
            StudyFactor("models.llm.replicas", "", True),
            StudyFactor("workload.arrivals.poisson", "1/s", True),
        ),
        columns=tuple(Column(name, unit, f"what {name} says") for name, unit in METRICS.items()),
        cells=tuple(cell(number, *one) for number, one in enumerate(grid)),
        metric="response_time_p95",
        confidence=0.95,
        identity={"design": "grid"},
    )


def test_a_large_report_is_small_and_opens(open_page: Open, tmp_path: Path) -> None:
    """Of 200 cells and a million tasks: below 5 MB, silent, every chart drawn, and the same page from the answer as it is kept."""
    found = study()
    assert len(found.cells) == 200
    assert sum(one.tasks for one in found.cells) == 1_000_000
    text = to_html([Stored("study", found, SOURCE)])
    assert to_html([parse(dump("study", found, SOURCE))]) == text
    path = tmp_path / "report.html"
    path.write_text(text, encoding="utf-8")
    assert path.stat().st_size < MOST
    window = open_page(path)
    charts = embedded(path)["charts"]
    assert charts
    for name in charts:
        assert window.drawn(name)["marks"]
    assert window.troubles == []
    assert window.requests == []
